"""Long runs of zeros, which a file need not hold: where the output is to have a hole. Pure."""

from __future__ import annotations

from typing import Final

#: Holes consist of whole blocks of this size, aligned in the file. Smaller ones save little and cost a call each;
#: every longer run of zeros that is written in large portions has such blocks in it.
HOLE_BLOCK_BYTES: Final = 64 << 10
_ZEROS: Final = bytes(HOLE_BLOCK_BYTES)


def leading_run(data: memoryview, position: int) -> tuple[bool, int]:
    """How ``data``, which is due at ``position`` of a file, begins: (is it a hole, its length in bytes).

    What is no hole ends where one begins, or with ``data``. Of data without zeros a few bytes are looked at.
    """
    size = len(data)
    hole_start = -position % HOLE_BLOCK_BYTES
    while hole_start + HOLE_BLOCK_BYTES <= size:
        hole_end = hole_start
        while hole_end + HOLE_BLOCK_BYTES <= size and _is_zeros(data, hole_end):
            hole_end += HOLE_BLOCK_BYTES
        if hole_end > hole_start:
            return (True, hole_end) if hole_start == 0 else (False, hole_start)
        hole_start += HOLE_BLOCK_BYTES
    return False, size


def _is_zeros(data: memoryview, start: int) -> bool:
    if data[start] or data[start + HOLE_BLOCK_BYTES // 2] or data[start + HOLE_BLOCK_BYTES - 1]:
        return False
    return data[start : start + HOLE_BLOCK_BYTES].tobytes() == _ZEROS


__all__ = ["HOLE_BLOCK_BYTES", "leading_run"]
