"""What workers answer: each result, failure or end of a chain, to its member."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from . import channel as wire
from .descriptors import loads_answer
from .plain_items import ItemUnpacker, unpack_parts
from .runs import Member, SoloRun, describe_item
from .stage_run import check_unpickled, pickling_error, with_worker_traceback
from .work_item import PipelineWorkItem
from .workers import Worker

if TYPE_CHECKING:
    from .engine import Engine


class Answers:
    """Reads the answers of all workers; engine's thread only. An answer is always to the first in a worker's queue."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._scheduler = engine.scheduler
        self._items = engine.items
        self._deadlines = engine.deadlines
        self._unpacker = ItemUnpacker()

    def take_solo(self, worker: Worker, member: SoloRun, flags: int, payload: bytes) -> bool:
        """The hot path: a run of one stage has succeeded. Says whether its item wants another."""
        worker.queue.popleft()
        if self._deadlines.timed and worker.queue:
            self._deadlines.start_clock(worker.queue[0])
        try:
            if flags:
                known, attributes = unpack_parts(payload)
                cls = type(member.entry.item)
                own = self._items.taken_by_parts.get(cls) or self._items.class_taken_by_parts(cls)
                takes_parts = known == own
                answer: Any = attributes if takes_parts else self._unpacker.make(known, attributes)
            else:
                takes_parts = False
                answer = pickle.loads(payload)
                check_unpickled(answer)
        except BaseException as ex:  # noqa: BLE001 - whatever a user's __setstate__ raises fails this item alone
            member.failure = self._unreadable("the result", member, ex)
            self._items.end_member(member)
            return False
        return self._items.end_solo(member, answer, takes_parts)

    def take(self, worker: Worker, fields: tuple[int, ...], payload: bytes) -> None:
        """A run has returned its item, failed or not."""
        member: Member = worker.queue.popleft()
        flags = fields[1]
        if flags & wire.IS_FAILED:
            member.stage_num = fields[2]
            payload = self._note_failed_at(member, payload)
        try:
            member.answer = self._load_answer(flags, payload, member)
        except BaseException as ex:  # noqa: BLE001 - as in take_solo
            member.failure = self._unreadable("the result", member, ex)
        self._answered(worker, member)

    def take_error(self, worker: Worker, fields: tuple[int, ...], payload: bytes) -> None:
        """A run has raised, or could not be begun."""
        member: Member = worker.queue.popleft()
        member.stage_num = fields[2]
        if fields[1] & wire.STAGES_LOST:
            worker.known_stages.clear()
        try:
            failure, text = pickle.loads(self._note_failed_at(member, payload))
            member.failure = self._items.located(member, with_worker_traceback(failure, text))
        except BaseException as ex:  # noqa: BLE001 - it could be read in the worker, but not here
            member.failure = self._unreadable("the error", member, ex)
        self._answered(worker, member)

    def take_chain(self, worker: Worker, payload: bytes) -> None:
        """A chain inside one worker: each stage's answer or failure."""
        lead: Member = worker.queue.popleft()
        members = lead.run.members
        self._deadlines.forget(lead)
        for member, end in zip(members, pickle.loads(payload), strict=True):
            self._take_end(lead, member, *end)
        self._scheduler.answered(lead.entry, worker)
        for member in members:
            self._items.end_member(member)

    def take_chain_failure(self, worker: Worker, payload: bytes) -> None:
        """A stage of a chain inside one worker has failed while another runs, which now gets ``grace_s``."""
        lead: Member = worker.queue[0]
        number, *end = pickle.loads(payload)
        self._take_end(lead, lead.run.members[number], *end)
        self._deadlines.end_survivors_of(lead)

    def _take_end(
        self, lead: Member, member: Member, failed_at_ns: int, is_failure: bool, flags: int, data: bytes
    ) -> None:
        member.failed_at_ns = failed_at_ns
        try:
            if is_failure:
                member.failure = self._items.located(member, with_worker_traceback(*pickle.loads(data)))
            else:
                member.answer = self._load_answer(flags, data, lead)
        except BaseException as ex:  # noqa: BLE001 - as in take_solo
            member.failure = self._unreadable("the error" if is_failure else "the result", member, ex)

    def _load_answer(self, flags: int, payload: bytes, member: Member) -> PipelineWorkItem:
        if flags & wire.IS_PACKED:
            return self._unpacker.unpack(payload)
        answer: PipelineWorkItem = loads_answer(payload, member.originals)
        check_unpickled(answer)
        return answer

    def _note_failed_at(self, member: Member, payload: bytes) -> bytes:
        (member.failed_at_ns,) = wire.FAILED_AT.unpack_from(payload)
        return payload[wire.FAILED_AT.size :]

    def _unreadable(self, what: str, member: Member, ex: BaseException) -> BaseException:
        return pickling_error(what, self._engine.label(member), describe_item(member.entry.item), ex)

    def _answered(self, worker: Worker, member: Member) -> None:
        timed = self._deadlines.timed
        if timed:
            timed.discard(member)
            if worker.queue:
                self._deadlines.start_clock(worker.queue[0])
        if member.run.is_chain:
            self._scheduler.released(member.entry, worker)
        else:
            self._scheduler.answered(member.entry, worker)
        self._items.end_member(member)
