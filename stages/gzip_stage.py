"""Compression to the gzip format, what ``gzip`` writes and ``gzip -d`` reads."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Annotated, Any, Final

from atbu.mp_pipeline.named_tuple import NamedTuple

from .byte_stage import ByteStage
from .checks import Between, check_whole_number
from .parallel_blocks import MAX_THREADS, BlockFormat, BlockStage

#: So many bytes a block: the 5 bytes behind each and a compressor's start do not count, and an input of a few MiB is
#: already shared by several cores.
_BLOCK_BYTES: Final = 512 << 10
#: Deflate looks back no further (RFC 1951, 2).
_WINDOW_BYTES: Final = 32 << 10
_MAX_LEVEL: Final = 9
#: Up to this level ISA-L compresses, 2 to 3 times as fast as zlib-ng at the same size; it has no higher ones.
_MAX_ISAL_LEVEL: Final = 3
#: zlib-ng's level for each higher one: its output is as large as that of gzip at the level itself, within 5 %. Its own
#: level of the same number would make it 2 % smaller, in 1.3 to 1.8 times the time; the 3 that is left for 5 would
#: make it 8 % larger than gzip's.
_ZLIB_NG_LEVELS: Final = {4: 3, 5: 4, 6: 4, 7: 6, 8: 7, 9: 9}

_RAW_DEFLATE: Final = -15
_DEFLATED: Final = 8
_UNIX: Final = 3
#: The header's hint on the level (RFC 1952, 2.3.1: XFL).
_FASTEST, _SMALLEST = 4, 2


class GzipStage(BlockStage):
    """Compress with gzip's format, on all CPUs where the input is large enough.

    The output is one gzip member without name and time. The same input and options give the same bytes, however many
    threads there are.

    Args:
        level: From 0, the fastest, to 9, the smallest, as large as gzip's; 0 to 3 are by ISA-L, the others by zlib-ng.
        threads: How many threads compress one large input; as many as there are usable CPUs if not given.
        roundtrip: Decode what was written, and compare it with the input before it is published.
    """

    name = "gzip"
    adds_suffix = ".gz"

    def __init__(
        self,
        level: Annotated[int, Between(0, _MAX_LEVEL)] = 6,
        threads: Annotated[int, Between(1, MAX_THREADS)] | None = None,
        roundtrip: bool = False,
    ) -> None:
        super().__init__(threads, roundtrip)
        self.level = check_whole_number("level", level, 0, _MAX_LEVEL)

    def new_format(self) -> BlockFormat:
        return _Member(self.level)

    def new_decoder(self) -> ByteStage:
        from .gunzip import GunzipStage

        return GunzipStage()


class _Packed(NamedTuple):
    data: bytes
    crc: int
    num_bytes: int


class _Member:
    """One gzip member (RFC 1952): each block ends on a byte, by an empty stored block behind it."""

    block_bytes = _BLOCK_BYTES
    history_bytes = _WINDOW_BYTES

    def __init__(self, level: int) -> None:
        from isal import isal_zlib  # only the worker that compresses needs the libraries

        self._level = level
        self._library_level = _ZLIB_NG_LEVELS.get(level, level)
        self._crc32 = isal_zlib.crc32
        self._crc32_combine = isal_zlib.crc32_combine
        self._crc = 0
        self._num_bytes = 0
        self._new_compressor: Callable[..., Any]
        if level <= _MAX_ISAL_LEVEL:
            self._new_compressor = isal_zlib.compressobj
            self._sync_flush, self._finish = isal_zlib.Z_SYNC_FLUSH, isal_zlib.Z_FINISH
        else:
            from zlib_ng import zlib_ng

            self._new_compressor = zlib_ng.compressobj
            self._sync_flush, self._finish = zlib_ng.Z_SYNC_FLUSH, zlib_ng.Z_FINISH

    def head(self) -> bytes:
        hint = _FASTEST if self._level <= 1 else _SMALLEST if self._level == _MAX_LEVEL else 0
        return struct.pack("<HBBIBB", 0x8B1F, _DEFLATED, 0, 0, hint, _UNIX)

    def pack(self, block: memoryview, history: bytes, is_last: bool) -> _Packed:
        if history:
            compressor = self._new_compressor(self._library_level, _DEFLATED, _RAW_DEFLATE, zdict=history)
        else:
            compressor = self._new_compressor(self._library_level, _DEFLATED, _RAW_DEFLATE)
        packed = compressor.compress(block)
        end = compressor.flush(self._finish if is_last else self._sync_flush)
        return _Packed(packed + end, self._crc32(block), len(block))

    def join(self, packed: _Packed) -> bytes:
        self._crc = self._crc32_combine(self._crc, packed.crc, packed.num_bytes)
        self._num_bytes += packed.num_bytes
        return packed.data

    def tail(self) -> bytes:
        return struct.pack("<II", self._crc, self._num_bytes & 0xFFFFFFFF)


__all__ = ["GzipStage"]
