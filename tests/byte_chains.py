"""How the tests of byte stages run them: through a pipeline, or one stage alone over memory."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from mpp_stages.byte_stage import ByteStage
from mpp_stages.file_item import FileItem, PathSource, PathTarget, Source, Target

from atbu.mp_pipeline.descriptors import PassedDescriptor
from atbu.mp_pipeline.pipeline import MultiprocessingPipeline
from atbu.mp_pipeline.stage import PipelineStage

#: Every promise that can be is held in worker processes and in the serial runner.
both_runners = pytest.mark.parametrize("serial", [False, True], ids=["processes", "serial"])


def file_item(
    source: Path | Source, target: Path | Target, *, force: bool = False, name: str | None = None
) -> FileItem:
    """An item from paths, or from whatever stands for them."""
    shown = name or (str(source) if isinstance(source, Path) else "stdin")
    if isinstance(source, Path):
        source = PathSource(str(source))
    if isinstance(target, Path):
        target = PathTarget(str(target), force)
    return FileItem(source, target, name=shown)


def run_item(stages: Sequence[PipelineStage], item: FileItem, *, serial: bool, **options: Any) -> FileItem:
    """Send one item through a pipeline of its own; it comes back neither published nor discarded."""
    with MultiprocessingPipeline(list(stages), 1, "byte stages", serial=serial, **options) as pipeline:
        result: FileItem = pipeline.submit(item).result()
    return result


def publish(item: FileItem) -> None:
    """Publish an item that must have succeeded."""
    assert item.exceptions is None, item.exceptions
    item.publish()


def failure(item: FileItem, kind: type[BaseException]) -> Any:
    """The failure of that class among those of an item that has failed."""
    found = [ex for ex in item.exceptions or () if isinstance(ex, kind)]
    assert found, f"none of {item.exceptions!r} is a {kind.__name__}"
    return found[0]


def through(stage: ByteStage, data: bytes | io.RawIOBase | io.BufferedIOBase, *, name: str = "memory") -> bytes:
    """What a stage alone makes of ``data``, in this thread, without pipes."""
    raw: Any = io.BytesIO(data) if isinstance(data, bytes) else data
    made = Collector()
    reader: io.BufferedReader = io.BufferedReader(raw)
    writer: io.BufferedWriter = io.BufferedWriter(made)
    try:
        stage.run(reader, writer, FileItem(PathSource(name), PathTarget(name), name=name))
        writer.flush()
    finally:
        made.close()
    return b"".join(made.portions)


class Collector(io.RawIOBase):
    """Keeps what is written to it, in the portions in which it came."""

    def __init__(self) -> None:
        super().__init__()
        self.portions: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.portions.append(bytes(data))
        return len(data)


class Portions(io.RawIOBase):
    """Gives bytes in portions of its own choice; an exception among them is raised."""

    def __init__(self, portions: Iterable[bytes | Exception]) -> None:
        super().__init__()
        self._portions = iter(portions)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._rest:
            portion = next(self._portions, b"")
            if isinstance(portion, Exception):
                raise portion
            self._rest = portion
        n = min(len(buffer), len(self._rest))
        buffer[:n], self._rest = self._rest[:n], self._rest[n:]
        return n


class Pipe:
    """An os.pipe() whose ends are closed once, by whoever comes first; ``with`` closes what is left."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.reader, self.writer = PassedDescriptor(reader), PassedDescriptor(writer)

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()  # first, so that a thread that reads comes to an end
        self.reader.close()

    def read_all(self) -> bytes:
        """What is in the pipe, after closing the writing end."""
        self.writer.close()
        with open(self.reader.fileno(), "rb", closefd=False) as file:
            return file.read()
