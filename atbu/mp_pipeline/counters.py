"""Counters that a stage adds to while it works and the parent reads without locks.

A pipeline names its counters at construction; every worker and thread has a slot of its own for them in shared
memory (:mod:`.shared_slots`), so an update is one addition there, and the parent's figure is the sum.
"""

from __future__ import annotations

import threading

from .shared_slots import FIRST_COUNTER


class Counter:
    """One counter of the worker or thread that runs the stage."""

    __slots__ = ("_index", "_lock", "_words")

    def __init__(self, words: memoryview, index: int, lock: threading.Lock | None = None) -> None:
        self._words = words
        self._index = index
        self._lock = lock

    def add(self, n: int) -> None:
        """Add ``n`` >= 0; the sum wraps at 2**64."""
        words, index, lock = self._words, self._index, self._lock
        if lock is None:
            words[index] = (words[index] + n) & 0xFFFFFFFFFFFFFFFF
            return
        with lock:
            words[index] = (words[index] + n) & 0xFFFFFFFFFFFFFFFF


class _Current(threading.local):
    """The slot and the counter names of the stage that this thread is running."""

    words: memoryview | None = None
    names: tuple[str, ...] = ()
    # Where several threads have the same slot.
    lock: threading.Lock | None = None


_current = _Current()
# Where a counter counts that nobody reads: outside a stage, or under a name the pipeline does not have.
_NOWHERE = memoryview(bytearray(8)).cast("Q")


def counter(name: str) -> Counter:
    """The counter ``name`` of the running stage; take it in the thread that runs the stage.

    Outside a stage, and for a name the pipeline was not given, it counts nowhere.
    """
    words = _current.words
    if words is not None and name in _current.names:
        return Counter(words, FIRST_COUNTER + _current.names.index(name), _current.lock)
    return Counter(_NOWHERE, 0)


def set_current_slot(words: memoryview | None, names: tuple[str, ...], lock: threading.Lock | None = None) -> None:
    """Said by the runner of stages, before the first stage of this thread and after the last.

    Args:
        words: The slot; None: none.
        names: The pipeline's counters.
        lock: To be given where other threads add to the same slot.
    """
    _current.words = words
    _current.names = names
    _current.lock = lock
