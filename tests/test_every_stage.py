"""Every built-in stage makes the same of the same input, wherever it runs: in processes, in one worker, serially."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest
from byte_chains import file_item, publish, through
from codec_table import CODECS, text
from mpp_stages.builtin import STAGES
from mpp_stages.byte_stage import ByteStage
from mpp_stages.encrypt import EncryptStage
from mpp_stages.file_item import FileItem
from mpp_stages.write import WriteStage
from pass_through_ways import WAYS, run

#: More than a pipe and the small buffers hold, so that the stages of a chain do run at once.
DATA = b"first\n" + text(1_500_000).replace(b" ", b"\n")
KEY = pyrage.x25519.Identity.generate()


def drop(line):
    return None if b"0" in line else line


def upper(chunks):
    for chunk in chunks:
        yield chunk.upper()


def options_of(name: str, folder: Path) -> dict[str, Any]:
    """What a stage cannot do without."""
    (folder / "key").write_text(f"{KEY}\n")
    (folder / "SUMS").write_text(f"{hashlib.sha256(DATA).hexdigest()}  {folder / 'input'}\n")
    options: dict[str, dict[str, Any]] = {
        "chunks": {"function": upper},
        "lines": {"function": drop},
        "decrypt": {"identities_file": str(folder / "key")},
        "encrypt": {"recipients": [str(KEY.to_public())]},
        "exec": {"argv": ["tr", "a-z", "A-Z"]},
        "tee": {"file": str(folder / "second"), "overwrite": True},
        "verify": {"checksums": str(folder / "SUMS")},
        "xz": {"level": 0},
    }
    return options.get(name, {})


def input_of(name: str) -> bytes:
    """What a stage reads: for one that decodes, what its counterpart writes."""
    for codec in CODECS:
        if codec.decompressor().name == name or (name == "decompress" and codec.program == "gzip"):
            return through(codec.compressor(**codec.options), DATA)
    if name == "decrypt":
        return through(EncryptStage(recipients=[str(KEY.to_public())]), DATA)
    return DATA


def stage_called(name: str, folder: Path) -> ByteStage:
    module, _, attribute = STAGES[name].partition(":")
    made: Callable[..., ByteStage] = getattr(importlib.import_module(module), attribute)
    return made(**options_of(name, folder))


def known_of(item: FileItem) -> list[tuple[str, str | int, str | None]]:
    return [(found.kind, found.value, found.sees) for found in item.findings]


@pytest.mark.parametrize("name", sorted(STAGES))
def test_a_stage_makes_the_same_wherever_it_runs(tmp_path, name):
    """Its output, a second one, and what it finds out; of what is encrypted, what is in it."""
    source, target = tmp_path / "input", tmp_path / "output"
    source.write_bytes(input_of(name))
    seen = []
    for way in WAYS:
        stages = [stage_called(name, tmp_path)]
        if name != "write":
            stages.append(WriteStage())
        item = run(stages, file_item(source, target, force=True), way)
        publish(item)
        made = target.read_bytes()
        if name == "encrypt":
            made = through(stage_called("decrypt", tmp_path), made)
        second = tmp_path / "second"
        seen.append((made, second.read_bytes() if second.exists() else None, known_of(item)))
    assert seen[0][0]
    assert seen[1:] == seen[:1] * (len(WAYS) - 1)
