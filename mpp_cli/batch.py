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
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from atbu.mp_pipeline.exception import PipelineError
from atbu.mp_pipeline.mp_pipeline import MultiprocessingPipeline

from .failures import error_words
from .in_order import InOrder
from .jobs import Job, NotYet, Refused, Skipped
from .observers import Observers
from .outcome import Outcome
from .planner import LOOK_AHEAD, Entry, Planner
from .progress.figures import Figures
from .progress.reporter import Reporter
from .remove_source import SourceRemover
from .settling import Ended, Settler
from .signals import StopFlag
from .stop_pipe import StopPipe
from .units import Unit, batch_unit, single_unit, unpack

#: How long items from named files may go on after the first stop signal.
STOP_GRACE_S: Final = 5.0
#: How long the end of aborted items is waited for before the process ends without them: a stage in a thread cannot
#: be ended, and workers end with this process anyway.
_ABORT_WAIT_S: Final = 2.0
#: So many inputs are found at a time; then what has ended is settled.
_FIND_AT_ONCE: Final = 64
#: Or for so long, where the file system is slow.
_FIND_S: Final = 0.01
#: How many may wait for one before them, where the order is kept; each holds a temporary file.
_MAX_HELD: Final = 4096
#: Up to this size a job is done by one worker, if it is not in a batch.
IN_ONE_WORKER_BYTES: Final = 1 << 20


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
        jobs: Iterator[Job | Refused | Skipped | NotYet],
        stop: StopFlag,
        reporter: Reporter,
        settings: BatchSettings,
        observers: Observers = (),
        remover: SourceRemover | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._jobs: Iterator[Job | Refused | Skipped | NotYet] | None = jobs
        self._stop = stop
        self._reporter = reporter
        self._settings = settings
        self._observers = observers
        self._planner = Planner(settings.workers, settings.small_bytes, in_order=settings.keep_order)
        self._settler = Settler(
            stop,
            reporter,
            observers,
            verbose=settings.verbose,
            is_single=settings.items_total == 1,
            remover=remover,
        )
        self._in_order: InOrder[Ended | Refused | Skipped] = InOrder()
        self._num_found = 0
        # Where nothing goes in batches, sources and targets that are no files are opened when they are found.
        self._look_ahead = LOOK_AHEAD if settings.small_bytes >= 0 else settings.window
        self._list_descriptor: int | None = None
        self._under_way: dict[Future[object], Unit] = {}
        self._ended: deque[Future[object]] = deque()
        self._stop_pipe = StopPipe()
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
            self._settler.go_on_removing()
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
        self._stop_pipe.close()
        end_s = time.monotonic() + STOP_GRACE_S
        self._settler.end_removing(lambda: self._stop.count > 1 or (self._stop.count > 0 and time.monotonic() > end_s))
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
            skipped=outcome.skipped.total(),
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
        return bool(self._under_way) or self._jobs is not None or len(self._planner) > 0

    def _feed(self) -> None:
        """Find a few more inputs and keep the window full."""
        self._find()
        settings, planner = self._settings, self._planner
        while len(self._under_way) < settings.window and not self._stop.count:
            is_hungry = len(self._under_way) < settings.workers
            entries = planner.take(is_last=self._jobs is None, is_hungry=is_hungry)
            if not entries or not self._submit(entries):
                return

    def _may_find(self) -> bool:
        if self._jobs is None or len(self._planner) >= self._look_ahead:
            return False
        return not self._settings.keep_order or self._num_found - self._in_order.next_number < _MAX_HELD

    def _find(self) -> None:
        if self._list_descriptor is not None:
            self._poll.unregister(self._list_descriptor)
            self._list_descriptor = None
        end_s = time.monotonic() + _FIND_S
        for _ in range(_FIND_AT_ONCE):
            if not self._may_find() or self._jobs is None:
                return
            found = next(self._jobs, None)
            if found is None:
                self._jobs = None
                return
            if isinstance(found, Job):
                self._planner.add(Entry(self._num_found, found, found.size))
            elif isinstance(found, NotYet):
                # Waited for with everything else; the loop comes by here again whatever wakes it.
                self._poll.register(found.descriptor, select.POLLIN)
                self._list_descriptor = found.descriptor
                return
            else:
                self._settle([(self._num_found, found)])
            self._num_found += 1
            if time.monotonic() > end_s:
                return

    def _submit(self, entries: list[Entry]) -> bool:
        planner = self._planner
        if planner.is_small(entries[0]):
            unit, failed = batch_unit(entries, self._stop_pipe.read_end)
            self._settle((one.entry.number, one) for one in failed)
        else:
            size = entries[0].size
            unit = single_unit(entries[0], is_small=size is not None and size <= IN_ONE_WORKER_BYTES)
        if not unit.entries:
            return True
        try:
            future = self._pipeline.submit(unit.item)
        except PipelineError as ex:
            for entry in unit.entries:
                self._settler.drop(entry)
            self.outcome.broken = error_words(ex)
            return False
        self._under_way[future] = unit
        future.add_done_callback(self._note_ended)
        return True

    def _note_ended(self, future: Future[object]) -> None:
        # Runs in a thread of the pipeline.
        self._ended.append(future)
        self._stop.wake()

    # -- what has ended

    def _wait(self) -> None:
        if not self._ended and (self._under_way or self._list_descriptor is not None):
            can_find_more = self._list_descriptor is None and self._may_find()
            self._poll.poll(0 if can_find_more and not self._stop.count else self._reporter.interval_s * 1000)
        self._stop.drain()

    def _settle_ended(self) -> None:
        """Settle one unit, and then the loop looks after the others: workers are not to wait for many commits."""
        if not self._ended:
            return
        future = self._ended.popleft()
        unit = self._under_way.pop(future)
        answer = unpack(unit, future)
        if answer.seconds:
            self._planner.learn(unit.entries[: len(unit.entries) - len(answer.left)], answer.seconds)
        if self._may_begin():
            self._planner.give_back(answer.left)
            for entry in answer.alone:
                self._planner.add_alone(entry)
        else:
            answer.ended += [Ended(entry, is_stopped=True) for entry in [*answer.left, *answer.alone]]
        self._settle((one.entry.number, one) for one in answer.ended)

    def _settle(self, ended: Iterable[tuple[int, Ended | Refused | Skipped]]) -> None:
        """Settle these, or keep them until all before them have ended."""
        if not self._settings.keep_order:
            self._settler.settle([one for _, one in ended])
            return
        for number, one in ended:
            self._settler.settle(list(self._in_order.add(number, one)))

    # -- the end

    def _may_begin(self) -> bool:
        return self._stop_deadline_s is None and self._abort_deadline_s is None and not self.outcome.was_cut_short

    def _begin_nothing_more(self) -> None:
        """What is under way may end; nothing else begins."""
        if self._jobs is not None or len(self._planner):
            self.outcome.was_cut_short = True
        self._jobs = None
        self._stop_pipe.close_write_end()
        for future in list(self._under_way):
            future.cancel()  # what has not begun does not begin
        self._drop_waiting()

    def _drop_waiting(self) -> None:
        for entry in self._planner.drop_all():
            self._settler.drop(entry)

    def _obey_stop(self) -> None:
        now_s = time.monotonic()
        if self._stop_deadline_s is None:
            self._stop_deadline_s = now_s + STOP_GRACE_S
            name = self._stop.first.name if self._stop.first is not None else "signal"
            self._reporter.say(f"mpp: {name}: stopping{'' if self._has_stream() else '; again to stop at once'}")
            self._begin_nothing_more()
        if self._stop.count > 1 or self._has_stream() or now_s >= self._stop_deadline_s:
            self._abort()

    def _has_stream(self) -> bool:
        return any(entry.job.is_stream for unit in self._under_way.values() for entry in unit.entries[:1])

    def _abort(self) -> None:
        self._jobs = None
        self._drop_waiting()
        if self._abort_deadline_s is None:
            self._settler.is_aborting = True
            self._abort_deadline_s = time.monotonic() + _ABORT_WAIT_S
            # It waits for the workers' end, and this thread must see a second signal meanwhile.
            self._terminator = threading.Thread(target=self._pipeline.terminate, name="mpp-terminate", daemon=True)
            self._terminator.start()
