"""Memory for portions of data."""

from __future__ import annotations

import functools
import mmap
from typing import Final

#: glibc then gives back what is free beyond twice as much.
_KEPT_BYTES: Final = 2 << 20


def new_buffer(size: int) -> memoryview:
    """Zeros, of which a small input touches no more than it needs; it ends with its last view.

    A bytearray would be written all over at once: for 1 MiB that takes longer than all else for a small input, and a
    fork would have its pages to copy.
    """
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


@functools.cache  # once in a process: the second piece would come from what is kept, and be written all over
def keep_freed_memory() -> None:
    """Have the C library keep the memory of large objects for the next ones, instead of giving it back at once.

    Else the kernel clears the pages of each anew: a tenth of a line filter's time. glibc learns from the largest piece
    that was freed (mallopt(3), M_MMAP_THRESHOLD), here one of which no page is touched; other libraries do not mind.
    """
    bytes(_KEPT_BYTES)


__all__ = ["keep_freed_memory", "new_buffer"]
