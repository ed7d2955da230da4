"""The compressed formats, each with its two stages and its own program, for tests that hold for all of them."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from mpp_stages.bunzip2 import Bunzip2Stage
from mpp_stages.byte_stage import ByteStage
from mpp_stages.bzip2 import Bzip2Stage
from mpp_stages.gunzip import GunzipStage
from mpp_stages.gzip_stage import GzipStage
from mpp_stages.lz4_stage import Lz4Stage
from mpp_stages.unlz4 import Unlz4Stage
from mpp_stages.unxz import UnxzStage
from mpp_stages.unzstd import UnzstdStage
from mpp_stages.xz import XzStage
from mpp_stages.zstd import ZstdStage

MIB = 1 << 20


@dataclass(frozen=True, eq=False)
class Codec:
    """One format. ``block_bytes`` is how much goes into one block with ``options``, the fastest ones."""

    program: str
    compressor: Callable[..., ByteStage]
    decompressor: Callable[..., ByteStage]
    suffix: str
    block_bytes: int
    options: dict[str, Any]

    def __str__(self) -> str:
        return self.program


GZIP = Codec("gzip", GzipStage, GunzipStage, ".gz", MIB // 2, {"level": 1})
XZ = Codec("xz", XzStage, UnxzStage, ".xz", MIB, {"level": 0})
BZIP2 = Codec("bzip2", Bzip2Stage, Bunzip2Stage, ".bz2", 99_981, {"level": 1})
LZ4 = Codec("lz4", Lz4Stage, Unlz4Stage, ".lz4", 4 * MIB, {"level": 1})
ZSTD = Codec("zstd", ZstdStage, UnzstdStage, ".zst", 8 * MIB, {"level": 1})

#: Those whose blocks are our own, and all.
BLOCK_CODECS = [GZIP, XZ, BZIP2, LZ4]
CODECS = [*BLOCK_CODECS, ZSTD]

each_codec = pytest.mark.parametrize("codec", CODECS, ids=str)
each_block_codec = pytest.mark.parametrize("codec", BLOCK_CODECS, ids=str)


def text(size: int, seed: int = 1) -> bytes:
    """Data that compress to about a third."""
    source = random.Random(seed)
    words = [source.randbytes(source.randint(2, 12)) for _ in range(300)]
    made = bytearray()
    while len(made) < size:
        made += b" ".join(source.choices(words, k=1000))
    return bytes(made[:size])


def noise(size: int) -> bytes:
    """Data that do not compress."""
    return random.Random(2).randbytes(size)


def run_program(path: str, *options: str, data: bytes) -> subprocess.CompletedProcess[bytes]:
    """A filter's result; whether it succeeded is for the caller to say."""
    return subprocess.run([path, *options], input=data, capture_output=True, check=False, timeout=60)


def packed_by(path: str, data: bytes, *options: str) -> bytes:
    """What the program makes of ``data``."""
    done = run_program(path, *options, "-c", data=data)
    assert done.returncode == 0, done.stderr
    return done.stdout


def unpacked_by(path: str, data: bytes) -> bytes:
    """What the program makes of compressed ``data``, without a word."""
    done = run_program(path, "-dc", data=data)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout
