"""How long it takes from what goes wrong with an item to the end of its future."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from pipeline_harness import PATIENCE_S

# The promise is one second. That is not asserted: on a busy machine it would say more about the others than about us.
# What ends only by a grace (PATIENCE_S here) or by the next event that happens to come takes longer than this.
FAILS_WITHIN_S = 10.0
# Names a file that gets a line for each failure: the test, a tab, the seconds it really took.
TIMES_VARIABLE = "MPP_CRASH_TIMES"


def say_when(moments: str, act: Callable[[Any], Any], item: Any = None) -> Any:
    """Do what goes wrong, and note the moment before, in whatever process: the clock is the same in all."""
    with open(moments, "a") as file:
        file.write(f"{time.monotonic()!r}\n")
    return act(item)


class FailureClock:
    """Runs from the last moment it was told, be it by start() or by the item's own say_when(), or else from submit().

    Args:
        item: A CrashItem, not yet submitted.
    """

    def __init__(self, item: Any) -> None:
        self._item = item
        self._start_s = 0.0
        # A future's result can be had before its callbacks have run.
        self._end_s: queue.SimpleQueue[float] = queue.SimpleQueue()

    def submit(self, pipeline: Any) -> Future[Any]:
        self.start()
        future: Future[Any] = pipeline.submit(self._item)
        future.add_done_callback(lambda _: self._end_s.put(time.monotonic()))
        return future

    def start(self) -> None:
        """To be called just before the test itself does what goes wrong."""
        self._start_s = time.monotonic()

    def assert_in_time(self, allowed_s: float = 0.0) -> None:
        """The item ended soon enough; ``allowed_s`` is the time-out or the grace that the test has given."""
        moments = [self._start_s]
        with contextlib.suppress(FileNotFoundError):
            moments += map(float, Path(self._item.moments).read_text().splitlines())
        took_s = self._end_s.get(timeout=PATIENCE_S) - max(moments) - allowed_s
        if times := os.environ.get(TIMES_VARIABLE):
            test = os.environ["PYTEST_CURRENT_TEST"].removesuffix(" (call)")
            with open(times, "a") as file:
                file.write(f"{test}\t{took_s:.3f}\n")
        assert took_s < FAILS_WITHIN_S
