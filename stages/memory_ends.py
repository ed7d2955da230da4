"""The ends between which a stage works on a small file: all of its input in memory, all of its output too."""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: Non-blocking is for a FIFO that has taken the file's place: it must not hang; a file does not mind it.
_READ_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


class NotForMemory(BaseException):
    """The file has to go the normal way, for it does not fit here. Not for a stage to catch."""


class MemorySource(io.BytesIO):
    """The input of a stage, all of it.

    Attributes:
        size: How many bytes it has, where the stage would know that too if it read the file itself.
    """

    size: int | None = None


class MemorySink(io.RawIOBase):
    """Gathers the output of a stage, which may be much more than its input.

    Args:
        limit_bytes: What is more raises NotForMemory.
    """

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._room = limit_bytes

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        piece = bytes(data)
        self._room -= len(piece)
        if self._room < 0:
            raise NotForMemory
        self._pieces.append(piece)
        return len(piece)

    @property
    def is_over(self) -> bool:
        """Whether it was more than the limit; a stage may have caught what told it."""
        return self._room < 0

    def value(self) -> bytes:
        """All of it, also after :meth:`close`."""
        pieces = self._pieces
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_small_file(path: str, limit_bytes: int) -> tuple[bytes, os.stat_result, bool]:
    """All of a regular file, its status, and whether it has no extended attributes, for certain.

    Raises:
        NotForMemory: It is larger, is no regular file, or has changed while it was read.
        OSError: It cannot be read.
    """
    descriptor = os.open(path, _READ_FLAGS)
    try:
        before = os.fstat(descriptor)
        size = before.st_size
        if size > limit_bytes or not stat.S_ISREG(before.st_mode):
            raise NotForMemory
        data = os.read(descriptor, size + 1)
        after = os.fstat(descriptor)
        try:
            is_bare = not os.listxattr(descriptor)
        except OSError:
            is_bare = False
    finally:
        os.close(descriptor)
    if len(data) != size or after.st_size != size or after.st_mtime_ns != before.st_mtime_ns:
        raise NotForMemory  # some of the kernel's own files say 0 and hold more; any other has changed
    return data, after, is_bare


__all__ = ["MemorySink", "MemorySource", "NotForMemory", "read_small_file"]
