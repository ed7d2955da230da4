"""The loop of a run: finds, submits, waits, settles what has ended, and obeys stop signals.

jobs ──▶ Planner ──submit──▶ pipeline ──future──▶ unpacked ──▶ (in order) ──▶ Settler ──▶ published, told, counted
 ▲                              │                    │
 └── a bounded look-ahead       └── wakes the loop   └── what has to go again goes back to the planner
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from atbu.mp_pipeline.exception import PipelineError
from atbu.mp_pipeline.named_tuple import NamedTuple
from atbu.mp_pipeline.pipeline import MultiprocessingPipeline

from .ending import STOP_GRACE_S, Ending
from .failures import error_words
from .finding import Finding
from .in_order import InOrder
from .jobs import Job, NotYet, Refused, Skipped
from .observers import Observers
from .outcome import Outcome
from .planner import LOOK_AHEAD, Entry, Planner
from .progress.figures import Figures
from .progress.reporter import Reporter
from .settling import Ended, Settler
from .signals import StopFlag
from .units import Unit, batch_unit, single_unit, unpack

if TYPE_CHECKING:
    from .remove_source import SourceRemover

#: How many may wait for one before them, where the order is kept; each holds a temporary file.
_MAX_HELD: Final = 4096
#: Up to this size a job is done by one worker, if it is not in a batch.
IN_ONE_WORKER_BYTES: Final = 1 << 20


class BatchSettings(NamedTuple):
    """How a run goes about its jobs.

    Attributes:
        window: How many submissions are under way at once.
        workers: How many of them are worked on at once.
        small_bytes: Up to this size files go in batches; -1: none does.
        keep_order: Whether outputs appear in the order of the inputs.
        fail_fast: Whether nothing new begins after a failure.
        skips_existing: Whether an output that has appeared meanwhile is no failure.
        items_total: How many jobs there are, where that is known.
        total_bytes: How many bytes they have together, where it is known.
        verbose: Whether tracebacks and finished files are told.
    """

    window: int
    workers: int
    small_bytes: int = -1
    keep_order: bool = False
    fail_fast: bool = False
    skips_existing: bool = False
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
            skips_existing=settings.skips_existing,
            remover=remover,
        )
        self._in_order: InOrder[Ended | Refused | Skipped] = InOrder()
        # Where nothing goes in batches, sources and targets that are no files are opened when they are found.
        self._look_ahead = LOOK_AHEAD if settings.small_bytes >= 0 else settings.window
        self._under_way: dict[Future[object], Unit] = {}
        self._ended: deque[Future[object]] = deque()
        self._poll = select.poll()
        self._poll.register(stop, select.POLLIN)
        self._finding = Finding(jobs, self._poll)
        self._ending = Ending(pipeline, stop)
        self._started_s = time.monotonic()
        self._next_update_s = self._started_s

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
        self._ending.close()
        for unit in self._under_way.values():
            for entry in unit.entries:
                self._settler.drop(entry)
        self._under_way.clear()
        self._drop_waiting()
        self._drop_held()
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
        if self._ending.is_over:
            return False
        return bool(self._under_way) or not self._finding.is_at_end or len(self._planner) > 0

    def _feed(self) -> None:
        """Find a few more inputs and keep the window full."""
        settings, planner = self._settings, self._planner
        for number, found in self._finding.some(self._may_find):
            if isinstance(found, Job):
                planner.add(Entry(number, found, found.size))
            else:
                self._settle([(number, found)])
        while len(self._under_way) < settings.window and not self._stop.count:
            is_hungry = len(self._under_way) < settings.workers
            entries = planner.take(is_last=self._finding.is_at_end, is_hungry=is_hungry)
            if not entries or not self._submit(entries):
                return

    def _may_find(self) -> bool:
        if len(self._planner) >= self._look_ahead:
            return False
        return not self._settings.keep_order or self._finding.num_found - self._in_order.next_number < _MAX_HELD

    def _submit(self, entries: list[Entry]) -> bool:
        planner = self._planner
        if planner.is_small(entries[0]):
            unit, failed = batch_unit(entries, self._ending.pipe.read_end)
            self._settle_these(failed)
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
        finding = self._finding
        if not self._ended and (self._under_way or finding.is_behind):
            can_find_more = not finding.is_at_end and not finding.is_behind and self._may_find()
            self._poll.poll(0 if can_find_more and not self._stop.count else self._reporter.interval_s * 1000)
        self._stop.drain()

    def _settle_ended(self) -> None:
        """Settle one unit, and then the loop looks after the others: workers are not to wait for many commits."""
        if not self._ended:
            return
        future = self._ended.popleft()
        unit = self._under_way.pop(future)
        answer = unpack(unit, future, is_single=self._settings.items_total == 1)
        if answer.seconds:
            self._planner.learn(unit.entries[: len(unit.entries) - len(answer.left)], answer.seconds)
        if self._ending.is_beginning:
            self._planner.give_back(answer.left)
            for entry in answer.alone:
                self._planner.add_alone(entry)
        else:
            not_begun = [*answer.left, *answer.alone]
            self.outcome.was_cut_short |= bool(not_begun)
            answer.ended += [Ended(entry, is_stopped=True) for entry in not_begun]
        self._settle_these(answer.ended)

    def _settle_these(self, ended: Sequence[Ended]) -> None:
        if self._settings.keep_order:
            self._settle((one.entry.number, one) for one in ended)
        else:
            self._settler.settle(ended)

    def _settle(self, ended: Iterable[tuple[int, Ended | Refused | Skipped]]) -> None:
        """Settle these, or keep them until all before them have ended."""
        if not self._settings.keep_order:
            self._settler.settle([one for _, one in ended])
            return
        for number, one in ended:
            self._settler.settle(list(self._in_order.add(number, one)))

    # -- the end

    def _begin_nothing_more(self) -> None:
        """What is under way may end; nothing else begins."""
        if not self._finding.is_at_end or len(self._planner):
            self.outcome.was_cut_short = True
        self._finding.stop()
        self._ending.begin_nothing_more()
        for future in list(self._under_way):
            future.cancel()  # what has not begun does not begin
        self._drop_waiting()

    def _drop_waiting(self) -> None:
        for entry in self._planner.drop_all():
            self._settler.drop(entry)

    def _drop_held(self) -> None:
        """What waits for others to be published before it, which are not coming."""
        for one in self._in_order.drain():
            if isinstance(one, Ended) and not one.errors:
                self._settler.drop(one.entry)
            else:
                self._settler.settle([one])

    def _obey_stop(self) -> None:
        if self._ending.hear_signal():
            name = self._stop.first.name if self._stop.first is not None else "signal"
            self._begin_nothing_more()  # before it is said, for saying it may take its time
            self._reporter.say(f"mpp: {name}: stopping{'' if self._has_stream() else '; again to stop at once'}")
        if self._ending.must_abort or self._has_stream():
            self._abort()

    def _has_stream(self) -> bool:
        return any(entry.job.is_stream for unit in self._under_way.values() for entry in unit.entries[:1])

    def _abort(self) -> None:
        self._finding.stop()
        self._drop_waiting()
        self._settler.is_aborting = True
        self._ending.abort()
