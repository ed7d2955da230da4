"""The loop of a run: feeds jobs, waits, commits what succeeded, and obeys stop signals.

jobs ──submit──► pipeline ──future──► done ──check the stop flag──► publish
  ▲                                    │                       └──► discard
  └── at most `window` at once         └── wakes the loop, as signals do, by the flag's pipe
"""

from __future__ import annotations

import errno
import select
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Final

from atbu.mp_pipeline.exception import PipelineBroken, PipelineError, PipelineWorkerDied
from atbu.mp_pipeline.mp_pipeline import MultiprocessingPipeline

from .errors import shown
from .failures import error_words, failure_line, root_cause, traceback_text
from .jobs import Job, NotYet, Refused, Skipped
from .progress.figures import Figures
from .progress.reporter import Reporter
from .signals import StopFlag

#: How long items from named files may go on after the first stop signal.
STOP_GRACE_S: Final = 5.0
#: How long the end of aborted items is waited for before the process ends without them: a stage in a thread cannot
#: be ended, and workers end with this process anyway.
_ABORT_WAIT_S: Final = 2.0


@dataclass
class Outcome:
    """What became of a run.

    Attributes:
        done: Inputs that succeeded.
        failed: Inputs that failed.
        skipped: Inputs that were passed over, by the reason.
        stopped: Inputs that a stop signal ended.
        lost_reader: Standard output's reader has gone: the run ends as a writer does, by SIGPIPE.
        broken: Why the run as a whole could not go on, or None.
    """

    done: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    stopped: int = 0
    lost_reader: bool = False
    broken: str | None = None


class Batch:
    """One run over all jobs, in the main thread.

    Args:
        pipeline: Ended by :meth:`close`.
        jobs: Taken lazily; each is closed when it has ended.
        window: How many jobs are under way at once.
        items_total: How many jobs there are, where that is known.
        total_bytes: How many bytes they have together, where it is known.
        verbose: Whether tracebacks and finished files are told.
    """

    def __init__(
        self,
        pipeline: MultiprocessingPipeline,
        jobs: Iterator[Job | Refused | Skipped | NotYet],
        stop: StopFlag,
        reporter: Reporter,
        *,
        window: int,
        items_total: int | None,
        total_bytes: int | None,
        verbose: bool,
    ) -> None:
        self._pipeline = pipeline
        self._jobs: Iterator[Job | Refused | Skipped | NotYet] | None = jobs
        self._stop = stop
        self._reporter = reporter
        self._window = window
        self._items_total = items_total
        self._total_bytes = total_bytes
        self._verbose = verbose
        self._under_way: dict[Future[object], Job] = {}
        self._ended: deque[Future[object]] = deque()
        self._poll = select.poll()
        self._poll.register(stop, select.POLLIN)
        self._list_descriptor: int | None = None
        self._started_s = time.monotonic()
        self._next_update_s = self._started_s
        self._stop_deadline_s: float | None = None
        self._abort_deadline_s: float | None = None
        self._terminator: threading.Thread | None = None
        self.outcome = Outcome()

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
        self.outcome.stopped += len(self._under_way)
        for job in self._under_way.values():
            self._drop(job)
        self._under_way.clear()
        self._reporter.close()

    def figures(self) -> Figures:
        """The run as it is now."""
        counts = self._pipeline.counters()
        return Figures(
            bytes_in=counts["bytes_in"],
            bytes_out=counts["bytes_out"],
            elapsed_s=time.monotonic() - self._started_s,
            total_bytes=self._total_bytes,
            items_done=self.outcome.done + self.outcome.failed + self.outcome.skipped.total(),
            items_total=self._items_total,
            failed=self.outcome.failed,
            skipped=self.outcome.skipped.total(),
        )

    def _show_progress(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_update_s:
            self._next_update_s = now_s + self._reporter.interval_s
            self._reporter.update(self.figures())

    def _go_on(self) -> bool:
        """Start what may start; say whether anything is left to wait for."""
        if self._stop.count:
            self._obey_stop()
        elif self._must_end():
            self._abort()
        else:
            self._feed()
        if self._abort_deadline_s is not None and (self._stop.count > 1 or time.monotonic() > self._abort_deadline_s):
            return False
        return bool(self._under_way) or self._jobs is not None

    def _must_end(self) -> bool:
        return self.outcome.lost_reader or self.outcome.broken is not None

    def _feed(self) -> None:
        if self._list_descriptor is not None:
            self._poll.unregister(self._list_descriptor)
            self._list_descriptor = None
        while self._jobs is not None and len(self._under_way) < self._window and not self._stop.count:
            job = next(self._jobs, None)
            if job is None:
                self._jobs = None
            elif isinstance(job, NotYet):
                # Waited for with everything else; the loop comes by here again whatever wakes it.
                self._poll.register(job.descriptor, select.POLLIN)
                self._list_descriptor = job.descriptor
                return
            elif isinstance(job, Refused):
                self._fail(job.name, [job.error])
            elif isinstance(job, Skipped):
                self._skip(job)
            elif not self._submit(job):
                return

    def _submit(self, job: Job) -> bool:
        try:
            future = self._pipeline.submit(job.item)
        except PipelineError as ex:
            self._drop(job)
            self.outcome.broken = error_words(ex)
            return False
        self._under_way[future] = job
        future.add_done_callback(self._note_ended)
        return True

    def _note_ended(self, future: Future[object]) -> None:
        # Runs in a thread of the pipeline.
        self._ended.append(future)
        self._stop.wake()

    def _wait(self) -> None:
        if (self._under_way or self._list_descriptor is not None) and not self._ended:
            self._poll.poll(self._reporter.interval_s * 1000)
        self._stop.drain()

    def _settle_ended(self) -> None:
        while self._ended:
            future = self._ended.popleft()
            self._settle(self._under_way.pop(future), future)

    def _settle(self, job: Job, future: Future[object]) -> None:
        item = job.item
        try:
            future.result()
        except CancelledError:
            self.outcome.stopped += 1
        except Exception as ex:  # noqa: BLE001 - whatever it is, it costs one item
            self._fail(item.name, [ex])
        else:
            if item.exceptions:
                self._settle_failed(job, item.exceptions)
            else:
                self._commit(job)
        finally:
            self._drop(job)

    def _settle_failed(self, job: Job, errors: list[BaseException]) -> None:
        cause = root_cause(errors)
        if self._abort_deadline_s is not None or (self._stop.count and isinstance(cause, PipelineWorkerDied)):
            self.outcome.stopped += 1  # a signal for the whole group ends workers too
        elif isinstance(cause, PipelineBroken):
            self.outcome.failed += 1
            self.outcome.broken = error_words(cause)
        elif job.writes_directly and isinstance(cause, OSError) and cause.errno == errno.EPIPE:
            self.outcome.lost_reader = True
        else:
            self._fail(job.item.name, errors)

    def _commit(self, job: Job) -> None:
        """Publish a finished item, unless a stop signal came before and forbids it."""
        try:
            with self._stop.held():
                if not self._may_publish(job):
                    self.outcome.stopped += 1
                    return
                if not job.writes_directly:
                    job.item.publish()
            if job.writes_directly:
                with self._stop.deadly():  # its reader may be slow, and the user must not wait for it
                    job.item.publish()
        except (OSError, PipelineError) as ex:
            self._settle_failed(job, [ex])
            return
        self.outcome.done += 1
        if self._verbose:
            self._reporter.say(f"mpp: {shown(job.item.name)}: {job.item.bytes_read} -> {job.item.bytes_written} bytes")

    def _may_publish(self, job: Job) -> bool:
        # The terminal sends Ctrl-C to the whole group: what feeds our stdin is then dying too, and the end of
        # its data is no end.
        return self._stop.count == 0 or (self._stop.count == 1 and not job.is_stream)

    def _obey_stop(self) -> None:
        now_s = time.monotonic()
        self._jobs = None
        if self._stop_deadline_s is None:
            self._stop_deadline_s = now_s + STOP_GRACE_S
            name = self._stop.first.name if self._stop.first is not None else "signal"
            self._reporter.say(f"mpp: {name}: stopping{'' if self._has_stream() else '; again to stop at once'}")
            for future in list(self._under_way):
                future.cancel()  # what has not begun does not begin
        if self._stop.count > 1 or self._has_stream() or now_s >= self._stop_deadline_s:
            self._abort()

    def _has_stream(self) -> bool:
        return any(job.is_stream for job in self._under_way.values())

    def _abort(self) -> None:
        self._jobs = None
        if self._abort_deadline_s is None:
            self._abort_deadline_s = time.monotonic() + _ABORT_WAIT_S
            # It waits for the workers' end, and this thread must see a second signal meanwhile.
            self._terminator = threading.Thread(target=self._pipeline.terminate, name="mpp-terminate", daemon=True)
            self._terminator.start()

    def _skip(self, skipped: Skipped) -> None:
        self.outcome.skipped[skipped.reason] += 1
        if self._verbose:
            self._reporter.say(f"mpp: {shown(skipped.name)}: skipped: {skipped.reason}")

    def _fail(self, name: str, errors: list[BaseException] | list[Exception]) -> None:
        self.outcome.failed += 1
        self._reporter.say(failure_line(name, root_cause(errors)))
        if self._verbose:
            self._reporter.say(traceback_text(errors))

    def _drop(self, job: Job) -> None:
        """Let go of what a job holds; a published item has nothing to discard any more."""
        job.item.discard()
        job.close()
