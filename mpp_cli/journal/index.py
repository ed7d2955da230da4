"""Which outputs are done: 16 bytes of memory for each."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from typing import Final

_MASK: Final = (1 << 64) - 1
#: Sorting one makes a list of Python's integers of it, five times as large, so they are small parts of the whole.
_BUCKETS: Final = 256


class DoneIndex:
    """Finished files, each with its last result; it can be asked, but not listed.

    A file is known by its path and its output's; what it was is its size, its time of change and its output's size.
    Only hashes of that are kept, of 64 bits each and together with a secret (Python's are SipHash): no names can be
    made up for which a file would be taken for another one.
    """

    def __init__(self) -> None:
        self._secret = os.urandom(16)
        self._buckets = [(array("Q"), array("Q")) for _ in range(_BUCKETS)]
        self._is_unsorted = bytearray(_BUCKETS)

    def __len__(self) -> int:
        """How often :meth:`add` was called."""
        return sum(len(files) for files, _ in self._buckets)

    def add(self, path: str, size: int, mtime_ns: int, target: str, bytes_out: int) -> None:
        """Note a finished file; what was noted of it before counts no more."""
        file = hash((self._secret, path, target)) & _MASK
        number = file % _BUCKETS
        files, results = self._buckets[number]
        files.append(file)
        results.append(hash((size, mtime_ns, bytes_out)) & _MASK)
        self._is_unsorted[number] = True

    def has(self, path: str, size: int, mtime_ns: int, target: str, bytes_out: int) -> bool:
        """Whether this very result was the last that was noted of the file."""
        file = hash((self._secret, path, target)) & _MASK
        number = file % _BUCKETS
        if self._is_unsorted[number]:
            self._sort(number)
        files, results = self._buckets[number]
        at = bisect_right(files, file) - 1
        return at >= 0 and files[at] == file and results[at] == hash((size, mtime_ns, bytes_out)) & _MASK

    def _sort(self, number: int) -> None:
        # The sort is stable: of what was noted of one file the last stays behind all others.
        files, results = self._buckets[number]
        order = sorted(range(len(files)), key=files.__getitem__)
        self._buckets[number] = (
            array("Q", map(files.__getitem__, order)),
            array("Q", map(results.__getitem__, order)),
        )
        self._is_unsorted[number] = False
