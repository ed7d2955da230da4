"""What is submitted at once: one job, or a batch of small files; and what its answer says of each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Final

from atbu.mp_pipeline.exception import (
    PipelineBroken,
    PipelineStageTimeout,
    PipelineTerminated,
    PipelineWorkerDied,
)
from atbu.mp_pipeline.named_tuple import NamedTuple
from atbu.mp_pipeline.work_item import PipelineWorkItem

from .failures import root_cause
from .planner import Entry
from .settling import Ended

if TYPE_CHECKING:
    from mpp_stages.small_files import BatchResults, SmallFile

    from atbu.mp_pipeline.descriptors import PassedDescriptor

    from .jobs import Job

#: A batch that takes longer than this comes back with what is left of it. A stop is obeyed within it, and no worker
#: sits on files that others could do.
_BATCH_BUDGET_S: Final = 0.2


#: How many times the processor time a batch may take on the clock before that counts.
_MAX_WAITING: Final = 4


class Unit(NamedTuple):
    """Entries that are submitted together as ``item``."""

    item: PipelineWorkItem
    entries: Sequence[Entry]
    is_batch: bool = False


class Answer:
    """What came of a unit, for each of its entries.

    Attributes:
        ended: Those that are done with.
        left: Those that were not begun.
        alone: Those that have to be done again, each for itself.
        seconds: How much work those of a batch were that were begun.
    """

    def __init__(self, ended: Iterable[Ended] = (), *, left: Sequence[Entry] = (), alone: Iterable[Entry] = ()) -> None:
        self.ended = list(ended)
        self.left = left
        self.alone = list(alone)
        self.seconds = 0.0


def single_unit(entry: Entry, *, is_small: bool) -> Unit:
    """One job for itself. A small one stays in one worker: a second one would cost it more than it saves."""
    item = entry.job.item
    item.in_one_worker = is_small
    return Unit(item, (entry,))


def batch_unit(entries: Sequence[Entry], stop: PassedDescriptor) -> tuple[Unit, list[Ended]]:
    """A batch, whose entries all are files that become files; and those of them that cannot begin.

    Args:
        stop: See FileBatch.
    """
    from mpp_stages.small_files import FileBatch

    failed: list[Ended] = []
    ready: list[Entry] = []
    for entry in entries:
        try:
            entry.job.item.before_attempt(0)
        except OSError as ex:
            failed.append(Ended(entry, (ex,)))
        else:
            ready.append(entry)
    return Unit(FileBatch(_Files(ready), _BATCH_BUDGET_S, stop), ready, is_batch=True), failed


class _Files:
    """The small files of entries, told when they are sent: their names need not be there twice until they come back."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, file: object) -> bool:
        return any(file == each for each in self)

    def __iter__(self) -> Iterator[SmallFile]:
        for entry in self._entries:
            item = entry.job.item
            yield item.name, item.source.path, item.target.path, item.temporary  # type: ignore[union-attr, misc]


def unpack(unit: Unit, future: Future[object], *, is_single: bool) -> Answer:
    """What the ended future of a unit says of its entries. Raises nothing.

    Args:
        is_single: There is one input only.
    """
    try:
        future.result()
    except CancelledError:
        return Answer(left=unit.entries)
    except Exception as ex:  # noqa: BLE001 - whatever it is, it costs one item
        errors: Sequence[BaseException] = (ex,)
    else:
        errors = unit.item.exceptions or ()
    if not unit.is_batch:
        entry = unit.entries[0]
        if entry.was_lost:
            errors = [_once_more(error) for error in errors]
        elif not is_single and errors and _has_lost_its_worker(errors, entry.job):
            entry.was_lost = True
            entry.job = entry.job.once_more()
            return Answer(alone=[entry])
        begun_ns = entry.job.item.begun_ns
        seconds = (time.monotonic_ns() - begun_ns) / 1e9 if begun_ns else 0.0
        return Answer([Ended(entry, errors, seconds=seconds)])
    if not errors:
        return _unpack_batch(unit.entries, unit.item.results)  # type: ignore[attr-defined]
    if isinstance(errors[0], (PipelineBroken, PipelineTerminated)):
        return Answer([Ended(entry, errors) for entry in unit.entries])
    # Its worker was killed, or one of its files hangs: nobody knows which. Only temporaries were written.
    for entry in unit.entries:
        entry.was_lost = True
    return Answer(alone=unit.entries)


def _has_lost_its_worker(errors: Sequence[BaseException], job: Job) -> bool:
    """Whether its worker's death alone has failed it: then it has the second try that files of batches have."""
    cause = root_cause(errors)
    return isinstance(cause, PipelineWorkerDied) and not cause.retried and job.item.may_retry()


def _once_more(error: BaseException) -> BaseException:
    """The error of a file that had been in a batch before, for which its pipeline knows of one attempt less."""
    if isinstance(error, PipelineWorkerDied):
        return PipelineWorkerDied(
            error.stage, error.stage_num, error.pid, error.exitcode, error.item, error.retried + 1, error.note
        )
    if isinstance(error, PipelineStageTimeout):
        return PipelineStageTimeout(
            error.stage, error.stage_num, error.pid, error.timeout_s, error.item, error.retried + 1
        )
    return error


def _unpack_batch(entries: Sequence[Entry], results: BatchResults) -> Answer:
    figures = results.figures
    failures, alone, attributes = results.failures, results.alone, results.attributes
    begun = results.num_begun
    answer = Answer(left=entries[begun:])
    ended = answer.ended
    sizes = zip(figures[0::3], figures[1::3], figures[2::3], strict=True)
    is_special = {*failures, *alone, *attributes}.__contains__
    add_ended = ended.append
    for number, (entry, (bytes_read, bytes_written, ns)) in enumerate(zip(entries, sizes, strict=False)):
        if is_special(number):
            if number in alone:
                answer.alone.append(entry)
                continue
            failure = failures.get(number)
            if failure is not None:
                add_ended(Ended(entry, (failure.error(),), False, ns / 1e9, failure.stage))
                continue
            entry.job.item.__dict__.update(attributes[number])
        item = entry.job.item
        item.bytes_read, item.bytes_written, item.is_written = bytes_read, bytes_written, True
        add_ended(Ended(entry, (), False, ns / 1e9))
    # On a busy machine the time on the clock says little about the work; but a stage may wait for something, too.
    answer.seconds = max(results.cpu_s, sum(figures[2::3]) / 1e9 / _MAX_WAITING)
    return answer


__all__ = ["Answer", "Unit", "batch_unit", "single_unit", "unpack"]
