"""Takes inputs from their finder, a few at a time, so that nothing else of a run waits for a slow file system."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from typing import Final

from .jobs import Job, NotYet, Refused, Skipped

#: So many inputs are found at a time; then what has ended is settled.
_AT_ONCE: Final = 64
#: Or for so long, where the file system is slow.
_TIME_S: Final = 0.01


class Finding:
    """The inputs of a run that have not been found yet.

    Args:
        jobs: Taken lazily.
        poll: Gets the descriptor of a list of names that is behind, for as long as it is.

    Attributes:
        num_found: How many there were so far.
        is_behind: Whether the list of names has nothing now.
        is_at_end: Whether there are no more.
    """

    def __init__(self, jobs: Iterator[Job | Refused | Skipped | NotYet], poll: select.poll) -> None:
        self.num_found = 0
        self.is_behind = False
        self.is_at_end = False
        self._jobs = jobs
        self._poll = poll
        self._descriptor = -1

    def stop(self) -> None:
        """Nobody wants more."""
        self.is_at_end = True
        self._forget_descriptor()

    def some(self, may_go_on: Callable[[], bool]) -> Iterator[tuple[int, Job | Refused | Skipped]]:
        """A few more, with their numbers from 0 on, if ``may_go_on`` says so."""
        self._forget_descriptor()
        if self.is_at_end or not may_go_on():
            return
        end_s = time.monotonic() + _TIME_S
        for _ in range(_AT_ONCE):
            found = next(self._jobs, None)
            if found is None:
                self.is_at_end = True
                return
            if isinstance(found, NotYet):
                # Waited for with everything else; the loop comes by here again whatever wakes it.
                self._descriptor = found.descriptor
                self._poll.register(self._descriptor, select.POLLIN)
                self.is_behind = True
                return
            number = self.num_found
            self.num_found += 1
            yield number, found
            if time.monotonic() > end_s:
                return

    def _forget_descriptor(self) -> None:
        if self.is_behind:
            self._poll.unregister(self._descriptor)
            self.is_behind = False
