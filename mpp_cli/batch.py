"""The loop of a run: finds, submits, waits, settles what has ended, and obeys stop signals.

    jobs ──▶ Planner ──submit──▶ pipeline ──future──▶ unpacked ──▶ (in order) ──▶ Settler ──▶ published, told, counted
     ▲                              │                    │
     └── a bounded look-ahead       └── wakes the loop   └── what has to go again goes back to the planner
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from atbu.mp_pipeline.exception import PipelineError
from atbu.mp_pipeline.mp_pipeline import MultiprocessingPipeline

from .failures import error_words
from .in_order import InOrder
from .jobs import Job, Refused
from .observers import Observers
from .outcome import Outcome
from .planner import LOOK_AHEAD, Entry, Planner
from .progress.figures import Figures
from .progress.reporter import Reporter
from .settling import Ended, Settler
from .signals import StopFlag
from .units import Unit, make_unit, source_size

#: How long items from named files may go on after the first stop signal.
STOP_GRACE_S: Final = 5.0
#: How long the end of aborted items is waited for before the process ends without them: a stage in a thread cannot
#: be ended, and workers end with this process anyway.
_ABORT_WAIT_S: Final = 2.0
#: So many inputs are found at a time; then what has ended is settled.
_FIND_AT_ONCE: Final = 64
#: How many may wait for one before them, where the order is kept; each holds a temporary file.
_MAX_HELD: Final = 4096


@dataclass(frozen=True)
class BatchSettings:
    """How a run goes about its jobs.

    Attributes:
        window: How many submissions are under way at once.
        workers: How many of them are worked on at once.
        small_bytes: Up to this size files go in batches; -1: none does.
        keep_order: Whether outputs appear in the order of the inputs.
        fail_fast: Whether nothing new begins after a failure.
        items_total: How many jobs there are, where that is known.
        total_bytes: How many bytes they have together, where it is known.
        verbose: Whether tracebacks and finished files are told.
    """

    window: int
    workers: int
    small_bytes: int = -1
    keep_order: bool = False
    fail_fast: bool = False
    items_total: int | None = None
    total_bytes: int | None = None
    verbose: bool = False


class Batch:
    """One run over all jobs, in the main thread.

    Args:
        pipeline: Ended by :meth:`close`.
        jobs: Taken lazily; each is closed when it has ended.
    """

    def __init__(
        self,
        pipeline: MultiprocessingPipeline,
        jobs: Iterator[Job | Refused],
        stop: StopFlag,
        reporter: Reporter,
        settings: BatchSettings,
        observers: Observers = (),
    ) -> None:
        self._pipeline = pipeline
        self._jobs: Iterator[Job | Refused] | None = jobs
        self._stop = stop
        self._reporter = reporter
        self._settings = settings
        self._observers = observers
        self._planner = Planner(settings.workers, settings.small_bytes, in_order=settings.keep_order)
        self._settler = Settler(
            stop, reporter, observers, verbose=settings.verbose, is_single=settings.items_total == 1
        )
        self._in_order: InOrder[Ended | Refused] = InOrder()
        self._num_found = 0
        self._under_way: dict[Future[object], Unit] = {}
        self._ended: deque[Future[object]] = deque()
        self._poll = select.poll()
        self._poll.register(stop, select.POLLIN)
        self._started_s = time.monotonic()
        self._next_update_s = self._started_s
        self._stop_deadline_s: float | None = None
        self._abort_deadline_s: float | None = None
        self._terminator: threading.Thread | None = None

    @property
    def outcome(self) -> Outcome:
        """The counts so far."""
        return self._settler.outcome

    def run(self) -> Outcome:
        """Do all jobs, or as many as signals and failures leave. Raises nothing that a job causes."""
        while self._go_on():
            self._wait()
            self._settle_ended()
            self._show_progress()
        return self.outcome

    def close(self) -> None:
        """End the pipeline, drop what is still under way, and take the bar away."""
        if self._under_way:
            self._abort()
        if self._terminator is None:
            self._pipeline.shutdown()
        else:
            self._terminator.join(_ABORT_WAIT_S)
        for unit in self._under_way.values():
            for entry in unit.entries:
                self._settler.drop(entry)
        self._under_way.clear()
        self._drop_waiting()
        self._reporter.close()

    def figures(self) -> Figures:
        """The run as it is now."""
        counts = self._pipeline.counters()
        outcome = self.outcome
        return Figures(
            bytes_in=counts["bytes_in"],
            bytes_out=counts["bytes_out"],
            elapsed_s=time.monotonic() - self._started_s,
            total_bytes=self._settings.total_bytes,
            items_done=outcome.ended,
            items_total=self._settings.items_total,
            failed=outcome.failed,
            skipped=outcome.skipped,
            stopped=outcome.stopped,
            active=self._active_names(),
        )

    def _active_names(self) -> tuple[str, ...]:
        alone = [unit.entries[0] for unit in self._under_way.values() if len(unit.entries) == 1]
        alone.sort(key=lambda entry: -(entry.size or 0))
        return tuple(entry.job.item.name for entry in alone[: self._settings.workers])

    def _show_progress(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_update_s:
            self._next_update_s = now_s + self._reporter.interval_s
            figures = self.figures()
            self._reporter.update(figures)
            for observer in self._observers:
                observer.progressed(figures)

    # -- what to do next

    def _go_on(self) -> bool:
        """Start what may start; say whether anything is left to wait for."""
        if self._stop.count:
            self._obey_stop()
        elif self.outcome.lost_reader or self.outcome.broken is not None:
            self._abort()
        elif self.outcome.failed and self._settings.fail_fast:
            self._begin_nothing_more()
        else:
            self._feed()
        if self._abort_deadline_s is not None and (self._stop.count > 1 or time.monotonic() > self._abort_deadline_s):
            return False
        return bool(self._under_way) or self._jobs is not None or bool(len(self._planner))

    def _feed(self) -> None:
        """Keep the window full; find further inputs while the workers work."""
        planner, window = self._planner, self._settings.window
        while len(self._under_way) < window and not self._stop.count:
            if self._jobs is not None and not planner.has_batch and not self._find():
                continue
            entries = planner.take(is_last=self._jobs is None)
            if not entries:
                if self._jobs is None or not self._may_find():
                    return
                continue
            if not self._submit(entries):
                return
        if self._jobs is not None and self._may_find():
            self._find()

    def _may_find(self) -> bool:
        return len(self._planner) < LOOK_AHEAD and (
            not self._settings.keep_order or self._num_found - self._in_order.next_number < _MAX_HELD
        )

    def _find(self) -> bool:
        ...
