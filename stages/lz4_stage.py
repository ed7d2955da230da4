"""Compression to the LZ4 frame format, what ``lz4`` writes and ``lz4 -d`` reads."""

from __future__ import annotations

from typing import Annotated, Any, Final

from atbu.mp_pipeline.exception import PipelineError

from .byte_stage import ByteStage
from .checks import Between, check_whole_number
from .parallel_blocks import MAX_THREADS, BlockFormat, BlockStage

#: The format's largest block, and that of ``lz4`` itself.
_BLOCK_BYTES: Final = 4 << 20
_MAX_LEVEL: Final = 12
#: Magic number, two bytes of flags, their checksum: a header without sizes (LZ4 Frame Format 1.6.4).
_HEADER_BYTES: Final = 7
#: Of these the magic number and the flags stand before the largest block's size and the checksum.
_SIZES_AT: Final = 5
_END_MARK: Final = bytes(4)


class Lz4Stage(BlockStage):
    """Compress with lz4's frame format, on all CPUs where the input is larger than one block.

    The output is one frame of independent blocks of 4 MiB, with a checksum of the content. The same input and options
    give the same bytes, however many threads there are.

    Args:
        level: From 1, the fastest, to 12, the smallest; from 3 on much slower.
        threads: How many threads compress one large input; as many as there are usable CPUs if not given.
        roundtrip: Decode what was written, and compare it with the input before it is published.
    """

    name = "lz4"
    adds_suffix = ".lz4"

    def __init__(
        self,
        level: Annotated[int, Between(1, _MAX_LEVEL)] = 1,
        threads: Annotated[int, Between(1, MAX_THREADS)] | None = None,
        roundtrip: bool = False,
    ) -> None:
        super().__init__(threads, roundtrip)
        self.level = check_whole_number("level", level, 1, _MAX_LEVEL)

    def new_format(self) -> BlockFormat:
        return _Frame(self.level)

    def new_decoder(self) -> ByteStage:
        from .unlz4 import Unlz4Stage

        return Unlz4Stage()


class _Frame:
    """One LZ4 frame; each block is compressed as a frame of its own and taken out of it.

    The checksum is the content's, as ``lz4`` has it. Those of blocks do not cover the bit which says that a block is
    stored as it is: with that one flipped, the compressed bytes would pass for the content.
    """

    block_bytes = _BLOCK_BYTES
    history_bytes = 0

    def __init__(self, level: int) -> None:
        from lz4 import frame  # only the worker that compresses needs the libraries
        from xxhash import xxh32

        self._frame = frame
        self._content = xxh32()
        self._options: dict[str, Any] = {
            "compression_level": level,
            "block_size": frame.BLOCKSIZE_MAX4MB,
            "block_linked": False,
            "block_checksum": False,
            "content_checksum": False,
        }
        self._header = self._begin(self._options | {"content_checksum": True})
        self._header_of_one = self._begin(self._options)

    def _begin(self, options: dict[str, Any]) -> bytes:
        header: bytes = self._frame.compress_begin(self._frame.create_compression_context(), **options)
        return header

    def head(self) -> bytes:
        return self._header

    def pack(self, block: memoryview, history: bytes, is_last: bool) -> tuple[bytes, memoryview]:
        if not block:
            return b"", block
        packed: bytes = self._frame.compress(block, store_size=False, **self._options)
        # A short block's own frame allows blocks of a smaller size only; all else in its header has to be the same.
        if packed[:_SIZES_AT] != self._header_of_one[:_SIZES_AT] or not packed.endswith(_END_MARK):
            raise PipelineError("the LZ4 library has written another kind of frame than it was asked for")
        return packed[_HEADER_BYTES : -len(_END_MARK)], block

    def join(self, packed: tuple[bytes, memoryview]) -> bytes:
        compressed, block = packed
        self._content.update(block)
        return compressed

    def tail(self) -> bytes:
        return _END_MARK + self._content.intdigest().to_bytes(4, "little")


__all__ = ["Lz4Stage"]
