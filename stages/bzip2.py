"""Compression to the .bz2 format, what ``bzip2`` writes and ``bzip2 -d`` reads."""

from __future__ import annotations

from typing import Annotated, Final

from .byte_stage import ByteStage
from .bzip2_bits import BitStream, take_apart
from .checks import Between, check_whole_number
from .parallel_blocks import MAX_THREADS, BlockFormat, BlockStage

_MAX_LEVEL: Final = 9
_BYTES_PER_LEVEL: Final = 100_000
#: libbz2 closes a block so many bytes before it is full.
_MARGIN_BYTES: Final = 19


class Bzip2Stage(BlockStage):
    """Compress with bzip2's format, on all CPUs where the input is larger than one block.

    The output is one stream. The same input and options give the same bytes, however many threads there are.

    Args:
        level: From 1 to 9, the size of a block in units of 100,000 bytes; larger blocks make the output smaller.
        threads: How many threads compress one large input; as many as there are usable CPUs if not given.
        roundtrip: Decode what was written, and compare it with the input before it is published.
    """

    name = "bzip2"
    adds_suffix = ".bz2"

    def __init__(
        self,
        level: Annotated[int, Between(1, _MAX_LEVEL)] = 9,
        threads: Annotated[int, Between(1, MAX_THREADS)] | None = None,
        roundtrip: bool = False,
    ) -> None:
        super().__init__(threads, roundtrip)
        self.level = check_whole_number("level", level, 1, _MAX_LEVEL)

    def new_format(self) -> BlockFormat:
        return _Stream(self.level)

    def new_decoder(self) -> ByteStage:
        from .bunzip2 import Bunzip2Stage

        return Bunzip2Stage()


_Blocks = list[tuple[int, int, int]]


class _Stream:
    """One .bz2 stream; each block is compressed as a stream of its own and taken out of it."""

    history_bytes = 0

    def __init__(self, level: int) -> None:
        import bz2  # only the worker that compresses needs the library

        self._new_compressor = bz2.BZ2Compressor
        self._level = level
        self._bits = BitStream()
        self.block_bytes = level * _BYTES_PER_LEVEL - _MARGIN_BYTES

    def head(self) -> bytes:
        return b"BZh%d" % self._level

    def pack(self, block: memoryview, history: bytes, is_last: bool) -> _Blocks:
        if not block:
            return []
        compressor = self._new_compressor(self._level)
        if compressor.compress(block):
            # libbz2 writes when a block is full, and this one is before its end: runs of four bytes, which it
            # stores in five, can make data longer by a quarter. Halves always fit.
            middle = len(block) // 2
            return self.pack(block[:middle], b"", False) + self.pack(block[middle:], b"", False)
        return [take_apart(compressor.flush())]

    def join(self, packed: _Blocks) -> bytes:
        return b"".join(self._bits.add(*block) for block in packed)

    def tail(self) -> bytes:
        return self._bits.end()


__all__ = ["Bzip2Stage"]
