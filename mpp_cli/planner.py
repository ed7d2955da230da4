"""Decides what is submitted next: large files alone and the longest first, small ones in batches. Pure.

    entries, as they are found ──add()──▶ large: longest first ──┐
                                          small: in their order ─┴─take()──▶ one entry, or several for a batch

A batch is as many files as a worker does in about :data:`BATCH_S`, by what was measured (:meth:`Planner.learn`). The
first ones are smaller, so that there is output at once, and the last ones too, so that all workers end together.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from typing import Final

from .jobs import Job

#: Long enough that the trip costs nothing beside it; short enough that a stop is obeyed between two batches.
BATCH_S: Final = 0.02
_FIRST_BATCH_S: Final = 0.002
_LAST_BATCH_S: Final = 0.002
#: Bounds what is lost with a worker, and what is held of temporaries.
_MAX_FILES: Final = 256
_MAX_BYTES: Final = 16 << 20
#: What a file costs beside its bytes, in bytes.
_BYTES_PER_FILE: Final = 16 << 10
#: Before anything was measured: about what zstd does at its usual level.
_FIRST_S_PER_BYTE: Final = 5e-9
#: How much the last batch counts.
_GAIN: Final = 0.3
#: How many files are looked at before they are begun, to find the long ones.
LOOK_AHEAD: Final = 256


class Entry:
    """One job from when it was found to its end.

    Args:
        number: Its place among the inputs.
        job: What is to be done.
        size: How many bytes its source has, where it is known.
    """

    __slots__ = ("holds_descriptors", "is_alone", "job", "number", "size", "was_lost", "writes_directly")

    def __init__(self, number: int, job: Job, size: int | None) -> None:
        self.number = number
        self.job = job
        self.size = size
        self.writes_directly = job.writes_directly
        self.holds_descriptors = job.is_stream or self.writes_directly
        #: It goes alone, for it has been in a batch: one that came to nothing, or that could not take it.
        self.is_alone = False
        #: Its worker was killed, or that of its batch was killed or ended: it is done once more.
        self.was_lost = False


class Planner:
    """Holds what was found and is not submitted yet.

    Args:
        num_workers: How many batches are worked on at once.
        small_bytes: Up to this size files go in batches; -1: none does.
        in_order: Whether everything is to be taken in its order.
    """

    def __init__(self, num_workers: int, small_bytes: int, *, in_order: bool) -> None:
        self._num_workers = num_workers
        self._small_bytes = small_bytes
        self._in_order = in_order
        self._alone: deque[Entry] = deque()
        self._large: list[tuple[int, int, Entry]] = []
        self._small: deque[Entry] = deque()
        self._small_weight = 0
        self._s_per_byte = _FIRST_S_PER_BYTE
        self._batch_s = _FIRST_BATCH_S

    def __len__(self) -> int:
        return len(self._alone) + len(self._large) + len(self._small)

    @property
    def has_batch(self) -> bool:
        """Whether there is enough for a batch of full size."""
        return self._small_weight * self._s_per_byte >= self._batch_s or len(self._small) >= _MAX_FILES

    def is_small(self, entry: Entry) -> bool:
        """Whether it may go in a batch."""
        return not entry.is_alone and entry.size is not None and entry.size <= self._small_bytes

    def add(self, entry: Entry) -> None:
        """Something was found."""
        size = entry.size
        if self._in_order or (size is not None and size <= self._small_bytes and not entry.is_alone):
            self._small.append(entry)
            self._small_weight += (size or 0) + _BYTES_PER_FILE
        else:
            # What nobody knows the size of may be endless.
            size = size if size is not None else 1 << 62
            heapq.heappush(self._large, (-size, entry.number, entry))

    def give_back(self, entries: Iterable[Entry]) -> None:
        """A batch came back with these not begun: they are the next."""
        for entry in reversed(list(entries)):
            self._small.appendleft(entry)
            self._small_weight += _weight(entry)

    def add_alone(self, entry: Entry) -> None:
        """This one has to be done alone, and at once."""
        entry.is_alone = True
        self._alone.append(entry)

    def drop_all(self) -> list[Entry]:
        """Nothing more is to be begun; returns what was waiting."""
        dropped = [*self._alone, *(entry for _, _, entry in self._large), *self._small]
        self._alone.clear()
        self._large.clear()
        self._small.clear()
        self._small_weight = 0
        return dropped

    def take(self, *, is_last: bool, is_hungry: bool) -> list[Entry]:
        """What to submit next: one entry to be done alone, several for a batch, or nothing.

        Args:
            is_last: Whether no more will be added.
            is_hungry: Whether a worker has nothing to do, so that it is no time to wait for a larger batch.
        """
        if self._alone:
            return [self._alone.popleft()]
        if self._large:
            return [heapq.heappop(self._large)[2]]
        if not self._small or not (is_last or is_hungry or self.has_batch or not self.is_small(self._small[0])):
            return []
        return self._take_small(is_last)

    def learn(self, entries: Iterable[Entry], seconds: float) -> None:
        """So long a worker took for these."""
        weight = sum(map(_weight, entries))
        if weight:
            self._s_per_byte += _GAIN * (seconds / weight - self._s_per_byte)
        self._batch_s = min(BATCH_S, 2 * self._batch_s)

    def _take_small(self, is_last: bool) -> list[Entry]:
        small = self._small
        room = self._batch_s / self._s_per_byte
        if is_last:
            # Each worker gets two more of what is left: whoever ends first takes the second.
            room = min(room, max(self._small_weight / (2 * self._num_workers), _LAST_BATCH_S / self._s_per_byte))
        taken: list[Entry] = []
        bytes_left = _MAX_BYTES
        for entry in small:
            if not self.is_small(entry):
                if not taken:
                    taken.append(entry)
                break
            size = entry.size or 0
            room -= size + _BYTES_PER_FILE
            bytes_left -= size
            if taken and (room < 0 or bytes_left < 0):
                break
            taken.append(entry)
            if len(taken) == _MAX_FILES:
                break
        for entry in taken:
            small.popleft()
            self._small_weight -= _weight(entry)
        return taken


def _weight(entry: Entry) -> int:
    return (entry.size or 0) + _BYTES_PER_FILE
