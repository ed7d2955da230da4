"""How the tests run programs through stages, and look at the processes that belong to them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from byte_chains import file_item
from cli_tools import TIMEOUT_S, wait_until
from mpp_stages.byte_stage import ByteStage
from mpp_stages.errors import ProgramFailed
from mpp_stages.exec import ExecStage
from mpp_stages.file_item import FileItem
from mpp_stages.write import WriteStage

from atbu.mp_pipeline.pipeline import MultiprocessingPipeline

RUNNERS = ["processes", "one_worker", "serial"]


def shell(script: str, **options: Any) -> ExecStage:
    """The stage with a shell as its program."""
    return ExecStage(["sh", "-c", script], **options)


@contextlib.contextmanager
def under_way(stages: Sequence[ByteStage], source: Path, runner: str = "processes") -> Iterator[FileItem]:
    """An item on its way through the stages to ``out`` beside its source; it has ended when the block is left."""
    item = file_item(source, source.with_name("out"))
    item.in_one_worker = runner == "one_worker"
    with MultiprocessingPipeline([*stages, WriteStage()], 1, "exec", serial=runner == "serial") as pipeline:
        future = pipeline.submit(item)
        yield item
        future.result(TIMEOUT_S)


def made_of(stages: ExecStage | Sequence[ByteStage], data: bytes, folder: Path, runner: str = "processes") -> bytes:
    """What the stages make of ``data``; they must succeed."""
    source = folder / "in"
    source.write_bytes(data)
    with under_way([stages] if isinstance(stages, ExecStage) else stages, source, runner) as item:
        pass
    assert item.exceptions is None, item.exceptions
    item.publish()
    made = (folder / "out").read_bytes()
    (folder / "out").unlink()
    return made


def failure_of(stages: ExecStage | Sequence[ByteStage], data: bytes, folder: Path, runner: str = "processes") -> Any:
    """The ProgramFailed by which an item fails."""
    source = folder / "in"
    source.write_bytes(data)
    with under_way([stages] if isinstance(stages, ExecStage) else stages, source, runner) as item:
        pass
    item.discard()
    found = [ex for ex in item.exceptions or () if isinstance(ex, ProgramFailed)]
    assert found, item.exceptions
    return found[0]


def is_running(pid: int) -> bool:
    """Whether the process is there and has not ended."""
    return state_of(pid) not in ("", "Z", "X")


def state_of(pid: int) -> str:
    """The kernel's letter for what the process does; empty where there is none."""
    return _stat(pid)[0]


def parent_of(pid: int) -> int:
    """The process that started it, or has adopted it."""
    return int(_stat(pid)[1])


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["", "0"]


def pids_in(file: Path, count: int) -> list[int]:
    """The process ids that a program has written to a file, once they are all there."""

    def read() -> list[int] | None:
        text = file.read_text() if file.exists() else ""
        return [int(word) for word in text.split()] if text.endswith("\n") and len(text.split()) == count else None

    found: list[int] = wait_until(read, f"{count} process ids are in {os.path.basename(file)}")
    return found
