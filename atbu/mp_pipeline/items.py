"""The items of a pipeline from their arrival to their future's result, and the user's code that is asked on the way.

Whatever is_for_stage, a property, stage_complete or another hook raises fails its item alone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .exception import (
    PipelineError,
    PipelinePicklingError,
    PipelineResultIsNotPipelineWorkItem,
    PipelineStageError,
    PipelineStageTimeout,
    PipelineTerminated,
    PipelineWorkerDied,
)
from .item_failures import append_past_setattr, failures_of, put_first, record
from .runs import Entry, Member, Run, SoloRun, describe_item, plan_run
from .stage import stage_label
from .stage_run import add_note, failure_to_record
from .work_item import PipelineWorkItem

if TYPE_CHECKING:
    from .engine import Engine


class Items:
    """All items in the pipeline; engine's thread only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._scheduler = engine.scheduler
        self._entries: set[Entry] = set()
        #: What class_taken_by_parts() has found.
        self.taken_by_parts: dict[type, bytes | None] = {}

    # -- arrival

    def take(self, entry: Entry) -> None:
        """An item was submitted."""
        self._entries.add(entry)
        if self._engine.was_terminated or self._engine.broken is not None:
            self._refuse(entry)
        else:
            self._scheduler.submit(entry)

    def admit(self, entry: Entry) -> None:
        """The scheduler has room for the item: from now on it cannot be cancelled."""
        if entry.future.set_running_or_notify_cancel():
            self.advance(entry)
        else:
            self._scheduler.done(entry)
            self._forget(entry)

    def advance(self, entry: Entry, spare: SoloRun | None = None) -> bool:
        """Ask what an admitted item does next, or end it.

        Args:
            entry: The item's.
            spare: A run of its own that nobody needs any more.

        Returns:
            Whether ``spare`` is the next run, and the scheduler has still to be told.
        """
        item = entry.item
        engine = self._engine
        run = None
        try:
            if not item.exceptions:
                if engine.broken is not None:
                    record(item, engine.broken)
                else:
                    run = plan_run(entry, engine.stages, engine.is_serial, spare)
        except BaseException as ex:  # noqa: BLE001 - is_for_stage and the properties are the user's
            record(item, failure_to_record(ex))
        if run is None:
            self._scheduler.done(entry)
            self._end(entry)
            return False
        entry.attempt = 0
        if run is spare:
            return True
        entry.run = run
        self._scheduler.want(entry, run.num_workers, run.is_chain)
        return False

    # -- what a run has done

    def end_member(self, member: Member) -> None:
        """One member has answered, or never will."""
        run = member.run
        member.is_done = True
        run.num_pending -= 1
        if not run.has_failed and _has_failed(member):
            run.has_failed = True
            if run.num_pending:
                run.end_survivors_at = time.monotonic() + self._engine.grace_s
        if not run.num_pending:
            self._end_run(member.entry, run)

    def class_taken_by_parts(self, cls: type[PipelineWorkItem]) -> bytes | None:
        """The pickle of an item's class if what such an item takes over of a copy are its attributes, no more."""
        try:
            return self.taken_by_parts[cls]
        except KeyError:
            known = None
            if cls.stage_complete is PipelineWorkItem.stage_complete and cls.user_obj is None:
                known = self._engine.dispatcher.class_pickle(cls)
            self.taken_by_parts[cls] = known
            return known

    def end_solo(self, run: SoloRun, answer: Any, is_by_parts: bool) -> bool:
        """A run of one process stage has succeeded: what end_member() comes to, in one step.

        Args:
            run: The run.
            answer: What the stage returned, or no more than its attributes.
            is_by_parts: The latter.

        Returns:
            Whether the item wants another such run, and the scheduler has still to be told.
        """
        entry = run.entry
        if entry.is_ended:  # it was given up while this ran
            self._scheduler.done(entry)
            return False
        item = entry.item
        try:
            if is_by_parts:
                item._take_over(answer)
            else:
                item.stage_complete(run.stage_num, answer, None)
        except BaseException as ex:  # noqa: BLE001 - an override is the user's
            record(item, failure_to_record(ex))
        return self.advance(entry, run)

    def located(self, member: Member, failure: BaseException) -> BaseException:
        """Our own errors from where a stage runs know neither its name nor the item's; say both."""
        if type(failure) is PipelinePicklingError and not failure.stage:
            named: PipelineError = PipelinePicklingError(
                failure.what, self._engine.label(member), describe_item(member.entry.item), failure.detail
            )
        elif type(failure) is PipelineResultIsNotPipelineWorkItem and failure.cause is None:
            text = f"stage {self._engine.label(member)!r}: {failure.message} ({describe_item(member.entry.item)!r})"
            named = PipelineResultIsNotPipelineWorkItem(text)
        else:
            if not isinstance(failure, PipelineError) or type(failure) is PipelineStageError:
                add_note(failure, f"in stage {self._engine.label(member)!r}")
            return failure
        named.__cause__ = failure.__cause__
        return named

    def fail_member(self, member: Member, failure: BaseException) -> None:
        """One member will not answer; for a chain inside one worker that is all of it."""
        run = member.run
        for each in run.members if member is run.lead else (member,):
            if each.failure is None and each.answer is None:
                each.failure = failure
                each.failed_at_ns = member.failed_at_ns
            self.end_member(each)

    def _end_run(self, entry: Entry, run: Run) -> None:
        if run.is_chain or not run.num_workers:
            self._engine.deadlines.forget_run(run)
            self._engine.dispatcher.release_interrupt(run)
            self._scheduler.run_ended(entry)
        if entry.is_ended:  # it was given up while this ran
            self._scheduler.done(entry)
            return
        first = _first_failed(run) if run.has_failed else None
        if first is not None and self._is_to_be_retried(entry, first):
            append_past_setattr(entry.item, "attempts", _failure_of(first))
            entry.attempt += 1
            self._scheduler.want(entry, run.num_workers, run.is_chain)
            return
        item = entry.item
        for member in run.members:
            if run.has_failed:
                self._complete_stage(item, member)
                continue
            try:
                item.stage_complete(member.stage_num, member.answer, None)  # type: ignore[arg-type] # it has answered
            except BaseException as ex:  # noqa: BLE001 - an override is the user's
                record(item, failure_to_record(ex))
        if first is not None:
            put_first(item, _failure_of(first))
        if type(run) is Run:
            # Members know their run and the run its members: undone here, they need no garbage collection.
            run.members = []
            run.lead = None
        self.advance(entry)

    def _complete_stage(self, item: PipelineWorkItem, member: Member) -> None:
        failure, answer = member.failure, member.answer
        try:
            if answer is None or failure is not None:
                item.stage_complete(member.stage_num, item, failure)
            else:
                item.stage_complete(member.stage_num, answer, None)
        except BaseException as ex:  # noqa: BLE001 - an override is the user's
            record(item, failure_to_record(ex))
        # an override need not call super
        if failure is not None:
            record(item, failure)
        elif answer is not None:
            for recorded in failures_of(answer):
                record(item, recorded)

    def _is_to_be_retried(self, entry: Entry, member: Member) -> bool:
        engine = self._engine
        stage = engine.stages[member.stage_num]
        if engine.broken is not None or engine.was_terminated:
            return False
        try:
            if entry.attempt >= stage.retries:
                return False
            listed = stage.retry_on if isinstance(stage.retry_on, tuple) else (stage.retry_on,)
            if not isinstance(_failure_of(member), (PipelineWorkerDied, PipelineStageTimeout, *listed)):
                return False
            return bool(entry.item.may_retry())
        except BaseException as ex:  # noqa: BLE001 - the user's code and settings
            record(entry.item, failure_to_record(ex))
            return False

    # -- ends

    def _end(self, entry: Entry) -> None:
        """Complete the future: the item has ended, failed or not."""
        if entry.is_ended:
            return
        entry.item.__dict__["_cur_stage"] = len(self._engine.stages)  # past a __setattr__ of the user's
        self._forget(entry)
        try:
            entry.future.set_result(entry.item)
        except BaseException as ex:  # noqa: BLE001 - Future lets a callback's SystemExit through
            self._engine.note_anomaly(ex, "a callback of a future raised")

    def _forget(self, entry: Entry) -> None:
        """The entry has left; its future is done or about to be."""
        entry.is_ended = True
        self._entries.discard(entry)
        if entry.item._submission == entry.submission:
            entry.item.__dict__["_submission"] = None
        entry.run = None
        entry.future.entry = None  # a future is often kept; the entry need not be
        self._engine.on_ended(entry)

    def _refuse(self, entry: Entry) -> None:
        """End an item that no stage was asked for and none will be."""
        broken = self._engine.broken
        if broken is None:
            self._cancel(entry)
        elif entry.future.set_running_or_notify_cancel():
            record(entry.item, broken)
            self._end(entry)
        else:
            self._forget(entry)

    def _cancel(self, entry: Entry) -> None:
        self._forget(entry)
        try:
            entry.future.cancel()
            entry.future.set_running_or_notify_cancel()
        except BaseException as ex:  # noqa: BLE001 - as above
            self._engine.note_anomaly(ex, "a callback of a future raised")

    def drop(self, entry: Entry) -> None:
        """The caller has cancelled the future: forget the item, if it is not admitted."""
        if self._scheduler.cancel(entry):
            entry.future.set_running_or_notify_cancel()
            self._forget(entry)

    def cancel_new(self) -> None:
        """Cancel the items that no stage has been asked for."""
        for entry in self._scheduler.cancel_new():
            self._cancel(entry)

    def fail_waiting(self, error: PipelineError) -> None:
        """No worker can be had any more: what is not running fails."""
        for entry in self._scheduler.cancel_new():
            self._refuse(entry)
        for entry in self._scheduler.cancel_ready():
            record(entry.item, error)
            self._scheduler.done(entry)
            self._end(entry)

    def give_up_all(self) -> None:
        """Fail all admitted items at once; what still comes of them is dropped."""
        self.cancel_new()
        for entry in self._scheduler.cancel_ready():
            self._scheduler.done(entry)
        for entry in list(self._entries):
            stage = ""
            if entry.run is not None:
                number = entry.run.members[0].stage_num
                stage = stage_label(self._engine.stages[number], number)
            record(entry.item, PipelineTerminated(stage, describe_item(entry.item)))
            self._end(entry)

    def fail_all(self, error: PipelineError) -> None:
        """The thread ends: nobody may be left waiting."""
        for entry in list(self._entries):
            try:
                if entry.future.running() or entry.future.set_running_or_notify_cancel():
                    record(entry.item, error)
                    self._end(entry)
                else:
                    self._forget(entry)
            except BaseException as ex:  # noqa: BLE001 - an override of the user's; the others must get their word
                self._engine.note_anomaly(ex, "an item could not be failed")
                entry.future.set_exception(error)


def refuse_late(entry: Entry, error: PipelineError) -> None:
    """Fail an item that came when nobody was there to take it; by whatever thread."""
    item = entry.item
    entry.is_ended = True
    item.__dict__["_submission"] = None
    if entry.future.set_running_or_notify_cancel():
        record(item, error)
        entry.future.set_result(item)


def _has_failed(member: Member) -> bool:
    return member.failure is not None or member.answer is None or bool(failures_of(member.answer))


def _first_failed(run: Run) -> Member:
    """The member whose failure is the cause: a chain's other members fail because of it, and may be heard first."""
    return min(filter(_has_failed, run.members), key=lambda member: member.failed_at_ns)


def _failure_of(member: Member) -> BaseException:
    if member.failure is not None:
        return member.failure
    assert member.answer is not None
    return failures_of(member.answer)[0]
