"""The end of each input: published or dropped, told, and counted. Main thread only.

ended ──▶ stop flag? ──▶ before_publish ──▶ publish ──▶ counted, told to observers, dropped
              │ stopped       │ failed         │ failed
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from mpp_stages.endpoints import PathTarget

from atbu.mp_pipeline.exception import PipelineBroken, PipelineError, PipelineWorkerDied
from atbu.mp_pipeline.named_tuple import NamedTuple

from .errors import shown
from .failures import error_words, failure_line, root_cause, traceback_text
from .inputs.found import EXISTS
from .jobs import Job, Refused, Skipped
from .observers import ItemResult, Observers, Status
from .outcome import Outcome
from .planner import Entry
from .progress.reporter import Reporter
from .signals import StopFlag
from .tell import has_log, note

if TYPE_CHECKING:
    from .remove_source import NotRemoved, SourceRemover

#: So many commits in one go with stop signals kept waiting, though looked at before each; a millisecond or so.
_COMMITS_AT_ONCE: Final = 128
#: Further output would fail too, and every one for the same reason.
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


class Ended(NamedTuple):
    """An entry that is done with.

    Attributes:
        errors: What went wrong, or nothing.
        is_stopped: The run's end has ended it.
        seconds: How long a worker was busy with it, as far as it is known.
        stage: In which stage it failed, where that is known.
    """

    entry: Entry
    errors: Sequence[BaseException] = ()
    is_stopped: bool = False
    seconds: float = 0.0
    stage: str | None = None


class Settler:
    """Settles what has ended.

    Args:
        verbose: Whether tracebacks and finished files are told.
        is_single: There is one input only: its failure is the run's, and there is nothing to say of others.
        skips_existing: Whether an output that has appeared meanwhile is no failure.
        remover: Removes the sources of what is done, where that is wanted.
    """

    def __init__(
        self,
        stop: StopFlag,
        reporter: Reporter,
        observers: Observers,
        *,
        verbose: bool,
        is_single: bool,
        skips_existing: bool = False,
        remover: SourceRemover | None = None,
    ) -> None:
        self.outcome = Outcome()
        #: The pipeline is being ended: what fails now, fails of that.
        self.is_aborting = False
        self._stop = stop
        self._reporter = reporter
        self._observers = observers
        self._verbose = verbose
        self._is_single = is_single
        self._skips_existing = skips_existing
        self._remover = remover
        #: Whether there is more to do for a file that is done than to count it.
        self._is_watched = bool(observers) or verbose or remover is not None

    def settle(self, ended: Sequence[Ended | Refused | Skipped]) -> None:
        """Settle these, in their order. Raises nothing that they cause."""
        complete: list[Ended] = []
        for one in ended:
            if isinstance(one, Ended) and not (one.errors or one.is_stopped or one.entry.writes_directly):
                complete.append(one)
                continue
            self._publish_all(complete)
            complete = []
            if isinstance(one, Refused):
                self._refuse(one)
            elif isinstance(one, Skipped):
                self._skip(one)
            else:
                self._settle_one(one)
        self._publish_all(complete)

    def _refuse(self, refused: Refused) -> None:
        """An input that could not even begin."""
        self._fail(refused.name, [refused.error])
        for observer in self._observers:
            source_path = None if refused.name == "stdin" else refused.name
            observer.item_ended(ItemResult(refused.name, source_path, None, "failed", errors=(refused.error,)))

    def _skip(self, skipped: Skipped) -> None:
        self.outcome.skipped[skipped.reason] += 1
        if self._remover is not None and skipped.done is not None:
            self._remover.done_before(skipped)
        if self._verbose:
            self._reporter.say(f"mpp: {shown(skipped.name)}: skipped: {skipped.reason}")
        for observer in self._observers:
            observer.item_ended(ItemResult(skipped.name, skipped.source_path, skipped.target_path, "skipped"))

    def go_on_removing(self) -> None:
        """Begin the removal of sources that is due, and tell what had to be left."""
        if self._remover is not None:
            self._tell_not_removed(self._remover.look())

    def end_removing(self, must_end: Callable[[], bool]) -> None:
        """Remove what sources are left, but no longer than ``must_end`` allows."""
        if self._remover is not None:
            self._tell_not_removed(self._remover.close(must_end))

    def _tell_not_removed(self, sources: Sequence[NotRemoved]) -> None:
        if not sources:
            return
        from .remove_source import not_removed_line  # its remover has it loaded

        for not_removed in sources:
            self.outcome.not_removed += 1
            self._reporter.say(not_removed_line(not_removed))

    def drop(self, entry: Entry) -> None:
        """Let go of an entry that the end of the run has ended."""
        self._end(Ended(entry, is_stopped=True), "stopped")

    def _settle_one(self, one: Ended) -> None:
        if one.is_stopped:
            self._end(one, "stopped")
        elif one.errors:
            self._settle_failed(one)
        else:
            self._publish_directly(one)

    def _publish_all(self, ended: Sequence[Ended]) -> None:
        """Give their names to files that are complete."""
        for first in range(0, len(ended), _COMMITS_AT_ONCE):
            self._publish_some(ended[first : first + _COMMITS_AT_ONCE])

    def _publish_some(self, ended: Sequence[Ended]) -> None:
        """So many that signals are not held for long; nothing is printed meanwhile, for that may block."""
        problems: list[BaseException | None] = []
        stop, observers = self._stop, self._observers
        look, add_problem = stop.look, problems.append
        with stop.held():
            for one in ended:
                look()
                if stop.count and not self._may_publish(one):
                    break
                job = one.entry.job
                try:
                    for observer in observers:
                        observer.before_publish(job)
                    job.item.publish()
                except (OSError, PipelineError) as ex:
                    add_problem(ex)
                else:
                    add_problem(None)
        for one, problem in zip(ended, problems, strict=False):
            if problem is not None:
                self._settle_failed(one._replace(errors=(problem,)))
            elif self._is_watched or one.entry.holds_descriptors:
                self._end(one, "done")
            else:
                self.outcome.done += 1
        for one in ended[len(problems) :]:
            self._end(one, "stopped")

    def _publish_directly(self, one: Ended) -> None:
        """Write the end that was held back."""
        with self._stop.held():
            is_allowed = self._may_publish(one)
        if not is_allowed:
            self._end(one, "stopped")
            return
        try:
            for observer in self._observers:
                observer.before_publish(one.entry.job)
            with self._stop.deadly():  # its reader may be slow, and the user must not wait for it
                one.entry.job.item.publish()
        except (OSError, PipelineError) as ex:
            self._settle_failed(one._replace(errors=(ex,)))
        else:
            self._end(one, "done")

    def _may_publish(self, one: Ended) -> bool:
        # The terminal sends Ctrl-C to the whole group: what feeds our stdin is then dying too, and the end of
        # its data is no end.
        return self._stop.count == 0 or (self._stop.count == 1 and not one.entry.job.is_stream)

    def _settle_failed(self, one: Ended) -> None:
        cause = root_cause(one.errors)
        job, outcome = one.entry.job, self.outcome
        if self._skips_existing and isinstance(cause, FileExistsError) and _is_of_target(cause, job):
            outcome.skipped[EXISTS] += 1  # another run was faster
            self._end(one._replace(errors=()), "skipped")
            return
        has_no_space = isinstance(cause, OSError) and cause.errno in _NO_SPACE
        if self.is_aborting or (has_no_space and outcome.broken is not None):
            self._end(one, "stopped")  # the reason has been told
            return
        # A signal for the whole group ends workers too, and the command that is the source.
        if self._stop.count and (isinstance(cause, PipelineWorkerDied) or job.is_stream):
            self._end(one, "stopped")
            return
        if job.writes_directly and isinstance(cause, OSError) and cause.errno == errno.EPIPE:
            outcome.lost_reader = True
            self._end(one, "stopped")
            return
        if isinstance(cause, PipelineBroken):
            outcome.failed += 1
            outcome.broken = error_words(cause)
        else:
            self._fail(job.item.name, one.errors)
        if has_no_space and not self._is_single:
            outcome.broken = "stopped, for there is no space left; what is done is complete, make room and run it again"
        self._end(one, "failed")

    def _fail(self, name: str, errors: Sequence[BaseException]) -> None:
        self.outcome.failed += 1
        self._reporter.say(failure_line(name, root_cause(errors)))
        if self._verbose:
            self._reporter.say(traceback_text(errors))
        elif has_log():
            note(traceback_text(errors))

    def _end(self, one: Ended, status: Status) -> None:
        entry = one.entry
        job = entry.job
        item = job.item
        if status == "done":
            self.outcome.done += 1
            if self._remover is not None:
                self._remover.published(job)
            if self._verbose:
                figures = f"{item.bytes_read} -> {item.bytes_written} bytes"
                found = "".join(f"; {finding}" for finding in item.findings)
                self._reporter.say(f"mpp: {shown(item.name)}: {figures}{found}")
        elif status == "stopped":
            self.outcome.stopped += 1
        for observer in self._observers:
            observer.item_ended(_result(one, status))
        if status != "done":
            item.discard()
        if one.entry.holds_descriptors:
            job.close()


def _is_of_target(error: OSError, job: Job) -> bool:
    """Whether it was raised for the output, and not by a stage for a file of its own."""
    target = job.item.target
    return isinstance(target, PathTarget) and error.filename == target.path


def _result(one: Ended, status: Status) -> ItemResult:
    item = one.entry.job.item
    return ItemResult(
        item.name,
        getattr(item.source, "path", None),
        getattr(item.target, "path", None),
        status,
        item.bytes_read,
        item.bytes_written,
        one.seconds,
        one.stage,
        one.errors,
        item.findings if status == "done" else (),
    )
