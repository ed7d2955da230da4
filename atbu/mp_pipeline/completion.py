"""What follows when a run has ended: record it on the submitted item, try again, or plan what comes next."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from .exception import PipelineStageTimeout, PipelineWorkerDied
from .runs import Entry, Member, Run, describe_item, plan_run
from .stage import stage_label
from .stage_run import failure_to_record, pickling_error, with_worker_traceback
from .work_item import PipelineWorkItem

if TYPE_CHECKING:
    from .engine import Engine


class Completion:
    """The user's code in the parent, called so that whatever it raises fails its item alone; engine's thread only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def plan(self, entry: Entry) -> Run | None:
        """The next run of an unfailed item; None when it is through, or has failed in the asking."""
        try:
            return plan_run(entry, self._engine.stages, self._engine.is_serial)
        except BaseException as ex:  # noqa: BLE001 - is_for_stage and properties are the user's
            entry.item.append_exception(failure_to_record(ex))
            return None

    def read_failure(self, member: Member, payload: bytes) -> BaseException:
        """The failure that a worker sent, with its traceback as the cause."""
        try:
            failure, text = pickle.loads(payload)
            if not isinstance(failure, BaseException):
                raise TypeError(f"{type(failure).__name__} is no exception")
        except BaseException as ex:  # noqa: BLE001 - it could be read in the worker, but not here
            return pickling_error("the error", self._label(member), describe_item(member.entry.item), ex)
        return with_worker_traceback(failure, text)

    def conclude(self, entry: Entry, run: Run) -> bool:
        """Take over what the run did. False: it is to be tried again, as if it had never been."""
        first = run.first_failure
        if first is not None and self._is_to_be_retried(entry, first):
            failure = _failure_of(first)
            entry.item.attempts = [*(entry.item.attempts or ()), failure]
            entry.attempt += 1
            return False
        item = entry.item
        for member in run.members:
            self._complete_stage(item, member)
        if first is not None:
            _put_first(item, _failure_of(first))
        return True

    def _complete_stage(self, item: PipelineWorkItem, member: Member) -> None:
        failure, answer = member.failure, member.answer
        member.answer = None
        try:
            if failure is not None or answer is None:
                item.stage_complete(member.stage_num, item, failure)
            else:
                item.stage_complete(member.stage_num, answer, None)
        except BaseException as ex:  # noqa: BLE001 - an override is the user's
            item.append_exception(failure_to_record(ex))
        # an override need not call super
        if failure is not None:
            item.append_exception(failure)
        elif answer is not None and answer.is_failed:
            member.failure = answer.exceptions[0] if answer.exceptions else None
            for recorded in answer.exceptions or ():
                item.append_exception(recorded)

    def _is_to_be_retried(self, entry: Entry, member: Member) -> bool:
        stage = self._engine.stages[member.stage_num]
        if entry.attempt >= stage.retries or self._engine.broken is not None or self._engine.was_terminated:
            return False
        failure = _failure_of(member)
        wanted = (PipelineWorkerDied, PipelineStageTimeout, *stage.retry_on)
        if not isinstance(failure, wanted):
            return False
        try:
            return bool(entry.item.may_retry())
        except BaseException as ex:  # noqa: BLE001 - the user's code
            entry.item.append_exception(failure_to_record(ex))
            return False

    def _label(self, member: Member) -> str:
        return stage_label(self._engine.stages[member.stage_num], member.stage_num)


def _failure_of(member: Member) -> BaseException:
    if member.failure is not None:
        return member.failure
    assert member.answer is not None
    assert member.answer.exceptions
    return member.answer.exceptions[0]


def _put_first(item: PipelineWorkItem, cause: BaseException) -> None:
    """Order the failures of a chain: what failed first is the cause of the rest, whatever its stage's number."""
    failures = item.exceptions or []
    for index, failure in enumerate(failures):
        if failure is cause:
            failures.insert(0, failures.pop(index))
            return
