"""One page of memory a worker or thread: where it is in its work, and what it counts.

The memory is shared by the parent and its workers; each slot has one writer, so no lock is needed. A value is
an aligned 64-bit word, stored whole.

    word 0  sequence number of the run that was started last
    word 1  its stage
    word 2  when it was started, CLOCK_MONOTONIC ns
    word 8… the counters, in the pipeline's order; they only ever grow
"""

from __future__ import annotations

import mmap
import os
import threading

from .fork_guard import OwnedDescriptor

SLOT_WORDS = 64
POSITION_SEQ = 0
POSITION_STAGE = 1
POSITION_START_NS = 2
FIRST_COUNTER = 8
MAX_COUNTERS = SLOT_WORDS - FIRST_COUNTER
_SLOT_BYTES = SLOT_WORDS * 8
# Slots are cheap (untouched pages take no memory); this many workers and threads at once is far beyond any use.
NUM_SLOTS = 4096


class SharedSlots:
    """All slots of a pipeline, as seen by the parent."""

    def __init__(self) -> None:
        self._memfd = OwnedDescriptor(os.memfd_create("mp_pipeline-slots", os.MFD_CLOEXEC))
        try:
            os.ftruncate(self._memfd.fileno(), NUM_SLOTS * _SLOT_BYTES)
            self._memory = mmap.mmap(self._memfd.fileno(), NUM_SLOTS * _SLOT_BYTES)
        except BaseException:
            self._memfd.close()
            raise
        self._words = memoryview(self._memory).cast("Q")
        self._views: dict[int, memoryview] = {}
        self._free: list[int] = []
        self._last_sums: list[int] | None = None
        self._close_lock = threading.RLock()  # a signal handler may shut the pipeline down, too

    def fileno(self) -> int:
        """The descriptor a worker maps."""
        return self._memfd.fileno()

    def take(self) -> int:
        """A slot for one writer. Raises RuntimeError when thousands are in use."""
        if self._free:
            number = self._free.pop()
            # The position is its last owner's, who is gone: read as the new one's it would tell of runs begun.
            self._views[number][POSITION_SEQ] = 0
            return number
        number = len(self._views)
        if number == NUM_SLOTS:
            raise RuntimeError(f"more than {NUM_SLOTS} workers and threads at once")
        self._views[number] = self._words[number * SLOT_WORDS : (number + 1) * SLOT_WORDS]
        return number

    def give_back(self, slot: int) -> None:
        """The writer is gone. Its counters stay in the sums."""
        self._free.append(slot)

    def slot(self, number: int) -> memoryview:
        """The words of a slot that was taken."""
        return self._views[number]

    def sum_counters(self, count: int) -> list[int]:
        """The first ``count`` counters, each summed over all slots."""
        if self._last_sums is not None:
            return self._last_sums[:count]
        sums = [0] * count
        try:
            for view in list(self._views.values()):
                for i in range(count):
                    sums[i] += view[FIRST_COUNTER + i]
        except ValueError:  # closed meanwhile, by another thread
            return self.sum_counters(count)
        return sums

    def close_descriptor(self) -> None:
        """No worker will be started any more. The memory stays usable."""
        self._memfd.close()

    def close(self) -> None:
        """All writers are gone: keep the sums, and give back the memory and its descriptor. Twice is fine."""
        sums = self.sum_counters(MAX_COUNTERS)
        with self._close_lock:
            if self._last_sums is not None:
                return
            self._last_sums = sums
        self._memfd.close()
        for view in self._views.values():
            view.release()
        self._words.release()
        self._memory.close()


def open_slot(memfd: int, number: int) -> memoryview:
    """One slot's words, in a worker."""
    words = memoryview(mmap.mmap(memfd, NUM_SLOTS * _SLOT_BYTES)).cast("Q")
    return words[number * SLOT_WORDS : (number + 1) * SLOT_WORDS]
