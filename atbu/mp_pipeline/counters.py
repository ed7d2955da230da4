"""Counters that a stage adds to while it works and the parent reads without locks.

A pipeline names its counters at construction; every worker and thread has a slot of its own for them in shared
memory (:mod:`.shared_slots`), so an update is one addition there, and the parent's figure is the sum.
"""

from __future__ import annotations

import threading

from .shared_slots import FIRST_COUNTER


class Counter:
    """One counter of the worker or thread that runs the stage."""

    __slots__ = ("_index", "_words")

    def __init__(self, words: memoryview, index: int) -> None:
        self._words = words
        self._index = index

    def add(self, n: int) -> None:
        """Add ``n`` >= 0; the sum wraps at 2**64."""
        words, index = self._words, self._index
        words[index] = (words[index] + n) & 0xFFFFFFFFFFFFFFFF


class _Current(threading.local):
    """The slot and the counter names of the stage that this thread is running."""

    words: memoryview | None = None
    names: tuple[str, ...] = ()


_current = _Current()
# Where a counter counts that nobody reads: outside a stage, or under a name the pipeline does not have.
_NOWHERE = memoryview(bytearray(8)).cast("Q")


def counter(name: str) -> Counter:
    """The counter ``name`` of the running stage; take it in the thread that runs the stage.

    Outside a stage, and for a name the pipeline was not given, it counts nowhere.
    """
    words = _current.words
    if words is not None and name in _current.names:
        return Counter(words, FIRST_COUNTER + _current.names.index(name))
    return Counter(_NOWHERE, 0)


def set_current_slot(words: memoryview | None, names: tuple[str, ...]) -> None:
    """Said by the runner of stages, before the first stage of this thread and after the last."""
    _current.words = words
    _current.names = names
