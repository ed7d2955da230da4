"""Where Zstandard frames begin and end. Pure: bytes in, no decompression.

The decompressor takes a stream that stops in the middle of a frame for one that may go on. This walks the headers
of frames and blocks (RFC 8878, 3.1) beside it, three bytes for each 128 KiB, and so knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_MAGIC: Final = 0xFD2FB528
_SKIPPABLE_MAGIC: Final = 0x184D2A50  # and the 15 after it
_SKIPPABLE_MASK: Final = 0xFFFFFFF0
_MAGIC_BYTES: Final = 4
#: Formats of zstd before 0.8, which no decoder here reads.
_LEGACY_MAGICS: Final = range(0xFD2FB522, 0xFD2FB528)

_DICTIONARY_ID_BYTES: Final = (0, 1, 2, 4)
_CONTENT_SIZE_BYTES: Final = (0, 2, 4, 8)
_BLOCK_HEADER_BYTES: Final = 3
_CHECKSUM_BYTES: Final = 4
_RLE_BLOCK: Final = 1
_RESERVED_BLOCK: Final = 3


class FrameWalker:
    """Follows a stream of frames through portions of any size.

    :meth:`feed` raises ValueError, saying what is wrong and where, at bytes that belong to no frame.
    """

    def __init__(self) -> None:
        self._position = 0
        self._frame_position = 0
        self._to_skip = 0
        self._head = b""
        self._head_bytes = _MAGIC_BYTES
        self._next: Callable[[], None] = self._take_magic
        self._has_checksum = False

    @property
    def is_empty(self) -> bool:
        """Nothing has been fed."""
        return self._position == 0

    @property
    def is_between_frames(self) -> bool:
        """All frames that have begun have ended."""
        return self._next == self._take_magic and not self._head and not self._to_skip

    def feed(self, data: bytes) -> None:
        """Walk on through ``data``."""
        place, end = 0, len(data)
        base = self._position
        while place < end:
            if self._to_skip:
                step = min(self._to_skip, end - place)
                self._to_skip -= step
                place += step
                continue
            if not self._head and self._next == self._take_magic:
                self._frame_position = base + place
            missing = self._head_bytes - len(self._head)
            self._head += data[place : place + missing]
            place += missing
            if len(self._head) == self._head_bytes:
                self._next()
            elif self._next == self._take_magic:
                self._check_begun_magic()
        self._position = base + end

    def _expect(self, step: Callable[[], None], head_bytes: int, to_skip: int = 0) -> None:
        self._head = b""
        self._next, self._head_bytes, self._to_skip = step, head_bytes, to_skip

    def _take_magic(self) -> None:
        magic = int.from_bytes(self._head, "little")
        if magic == _MAGIC:
            self._expect(self._take_descriptor, 1)
        elif magic & _SKIPPABLE_MASK == _SKIPPABLE_MAGIC:
            self._expect(self._take_skippable_size, 4)
        elif magic in _LEGACY_MAGICS:
            raise ValueError("it is in a format of zstd before 0.8, which is not supported")
        else:
            raise self._foreign()

    def _check_begun_magic(self) -> None:
        """Refuse what can become no magic number, for there may be no more of it."""
        first = self._head[0]
        magics = (_MAGIC, *_LEGACY_MAGICS, _SKIPPABLE_MAGIC | first & 0xF)
        if not any(magic.to_bytes(_MAGIC_BYTES, "little").startswith(self._head) for magic in magics):
            raise self._foreign()

    def _foreign(self) -> ValueError:
        if self._frame_position:
            return ValueError(f"what follows the compressed data at byte {self._frame_position} is not zstd data")
        return ValueError("it is not zstd data")

    def _take_skippable_size(self) -> None:
        self._expect(self._take_magic, _MAGIC_BYTES, to_skip=int.from_bytes(self._head, "little"))

    def _take_descriptor(self) -> None:
        descriptor = self._head[0]
        is_single_segment = descriptor >> 5 & 1
        if descriptor >> 3 & 1:
            raise ValueError(f"the frame at byte {self._frame_position} is corrupt: a reserved bit is set")
        self._has_checksum = bool(descriptor >> 2 & 1)
        content_size_bytes = _CONTENT_SIZE_BYTES[descriptor >> 6] or is_single_segment
        rest = (1 - is_single_segment) + _DICTIONARY_ID_BYTES[descriptor & 3] + content_size_bytes
        self._expect(self._take_block_header, _BLOCK_HEADER_BYTES, to_skip=rest)

    def _take_block_header(self) -> None:
        header = int.from_bytes(self._head, "little")
        kind, size = header >> 1 & 3, header >> 3
        if kind == _RESERVED_BLOCK:
            raise ValueError(f"the frame at byte {self._frame_position} is corrupt: it has a block of no known kind")
        stored = 1 if kind == _RLE_BLOCK else size
        if not header & 1:
            self._expect(self._take_block_header, _BLOCK_HEADER_BYTES, to_skip=stored)
        else:
            self._expect(
                self._take_magic, _MAGIC_BYTES, to_skip=stored + (_CHECKSUM_BYTES if self._has_checksum else 0)
            )


__all__ = ["FrameWalker"]
