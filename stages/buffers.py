"""Memory for portions of data."""

from __future__ import annotations

import mmap


def new_buffer(size: int) -> memoryview:
    """Zeros, of which a small input touches no more than it needs; it ends with its last view.

    A bytearray would be written all over at once: for 1 MiB that takes longer than all else for a small input, and a
    fork would have its pages to copy.
    """
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


__all__ = ["new_buffer"]
