"""Compression to the .xz format, what ``xz`` writes and ``xz -d`` reads."""

from __future__ import annotations

from typing import Annotated, Final

from .byte_stage import ByteStage
from .checks import Between, check_flag, check_whole_number
from .parallel_blocks import MAX_THREADS, BlockFormat, BlockStage
from .xz_container import Block, Index, stream_header, take_apart

_MAX_LEVEL: Final = 9
#: The dictionary of each level, as liblzma sets it (lzma(7), lzma_lzma_preset).
_DICTIONARY_BYTES: Final = tuple(1 << exponent for exponent in (18, 20, 21, 22, 22, 23, 23, 24, 25, 26))
_MIN_DICTIONARY_BYTES: Final = 4096
#: xz -T makes its blocks so large: matches reach back over two thirds of a block on average, and less would show in
#: the size.
_DICTIONARIES_A_BLOCK: Final = 3
_MIN_BLOCK_BYTES: Final = 1 << 20
#: What a thread needs for each byte of dictionary: the encoder 10.5 to 11.5, and two blocks, before and after.
_MEMORY_PER_DICTIONARY_BYTE: Final = 12 + 2 * _DICTIONARIES_A_BLOCK
#: Of the machine's memory threads take no more than this part, as with xz -T0; a single one may.
_PART_OF_MEMORY: Final = 4


class XzStage(BlockStage):
    """Compress with xz's format, on all CPUs where the input is large enough.

    The output is one stream of blocks, of 24 MiB at level 6. The same input and options give the same bytes, however
    many threads there are.

    Args:
        level: From 0, the fastest, to 9, the smallest; a thread needs 150 MiB of memory at level 6, 1.2 GiB at 9.
        extreme: Try harder, as ``xz --extreme``: slower, and a little smaller.
        threads: How many threads compress one large input; if not given, as many as there are usable CPUs, but no
            more than a quarter of the memory is enough for.
        roundtrip: Decode what was written, and compare it with the input before it is published.
    """

    name = "xz"
    adds_suffix = ".xz"

    def __init__(
        self,
        level: Annotated[int, Between(0, _MAX_LEVEL)] = 6,
        extreme: bool = False,
        threads: Annotated[int, Between(1, MAX_THREADS)] | None = None,
        roundtrip: bool = False,
    ) -> None:
        super().__init__(threads, roundtrip)
        self.level = check_whole_number("level", level, 0, _MAX_LEVEL)
        self.extreme = check_flag("extreme", extreme)

    def new_format(self) -> BlockFormat:
        return _Stream(self.level, self.extreme)

    def new_decoder(self) -> ByteStage:
        from .unxz import UnxzStage

        return UnxzStage()

    def default_threads(self) -> int:
        import os

        memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return max(1, min(super().default_threads(), memory_bytes // _PART_OF_MEMORY // self._thread_bytes()))

    def memory_bytes(self) -> int:
        return self._count_threads() * self._thread_bytes()

    def _thread_bytes(self) -> int:
        return _DICTIONARY_BYTES[self.level] * _MEMORY_PER_DICTIONARY_BYTE


class _Stream:
    """One .xz stream; each block is compressed as a stream of its own and taken out of it."""

    history_bytes = 0

    def __init__(self, level: int, extreme: bool) -> None:
        import lzma  # only the worker that compresses needs the library

        self._lzma = lzma
        self._preset = level | (lzma.PRESET_EXTREME if extreme else 0)
        self._dictionary_bytes = _DICTIONARY_BYTES[level]
        self.block_bytes = max(_MIN_BLOCK_BYTES, self._dictionary_bytes * _DICTIONARIES_A_BLOCK)
        self._header = stream_header(lzma.CHECK_CRC64)
        self._index = Index()

    def head(self) -> bytes:
        return self._header

    def pack(self, block: memoryview, history: bytes, is_last: bool) -> Block | None:
        return take_apart(self._compress(block), self._header) if block else None

    def join(self, packed: Block | None) -> bytes:
        if packed is None:
            return b""
        self._index.add(packed)
        return packed.data

    def tail(self) -> bytes:
        return self._index.end(self._header)

    def _compress(self, data: memoryview) -> bytes:
        # No more dictionary than data: for a small file clearing its tables takes longer than compressing it.
        fitting = 1 << max(0, len(data) - 1).bit_length()
        dictionary_bytes = min(self._dictionary_bytes, max(_MIN_DICTIONARY_BYTES, fitting))
        lzma = self._lzma
        filters = [{"id": lzma.FILTER_LZMA2, "preset": self._preset, "dict_size": dictionary_bytes}]
        packed: bytes = lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=filters)
        return packed


__all__ = ["XzStage"]
