"""Puts a run to work: pickles the item once, makes the pipes, hands each member to its worker or thread."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from operator import is_
from typing import TYPE_CHECKING

from . import channel as wire
from .channel import ChannelClosed
from .descriptors import ItemPickler, Pickled
from .exception import PipelinePicklingError
from .fork_guard import OwnedDescriptor
from .plain_stages import PlainStage, look_at
from .runs import Entry, Member, Run, SoloRun, describe_item
from .stage import PipelineStage, stage_label
from .stage_run import close_stage_end, failure_to_record, open_stage_end, pickling_error
from .thread_runner import run_on_thread
from .work_item import PipelineWorkItem
from .workers import Worker

if TYPE_CHECKING:
    from .engine import Engine
    from .stage_connection import StageConnection


#: What stages a worker is asked for: the number of one, or the first and how many.
StagesKey = int | tuple[int, int]
_pack_header = wire.HEADER.pack
_no_hook = PipelineWorkItem.before_attempt
_QUEUED_AND_PACKED = wire.NEEDS_TICKET | wire.IS_PACKED


class _SeenStages:
    """Plain stages, what they were when they were pickled, and the pickle."""

    __slots__ = ("_looks", "_stages", "data", "turn")

    def __init__(self, stages: tuple[PipelineStage, ...], looks: list[PlainStage | None], data: bytes) -> None:
        self._stages = stages
        self._looks = looks
        self.data = data
        #: When they were looked at last.
        self.turn = -1

    def is_unchanged(self, stages: tuple[PipelineStage, ...]) -> bool:
        """Whether these are the very stages, and would be pickled as they were."""
        return all(map(is_, stages, self._stages)) and all(map(_is_as_seen, self._looks, stages))


def _is_as_seen(look: PlainStage | None, stage: PipelineStage) -> bool:
    return look is not None and look.is_unchanged(stage)


class Dispatcher:
    """Starts runs for the engine; engine's thread only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pickler = ItemPickler()
        self._pack = self._pickler.pack
        self._senders: dict[Worker, None] = {}
        #: Counts the engine's turns. Stages are looked at once in each: who changes one and then submits an item has
        #: that item taken up in a later turn.
        self._turn = 0
        #: Pickles that need not be made again while the stages stay as they are.
        self._seen_stages: dict[StagesKey, _SeenStages] = {}
        self._interrupts: dict[Run, OwnedDescriptor] = {}

    def class_pickle(self, cls: type) -> bytes | None:
        """How packed items name this class; None where they are never packed."""
        return self._pickler.class_pickle(cls)

    def send(self) -> list[Worker]:
        """Send what was started; returns the workers whose sockets did not take all of it."""
        self._turn += 1
        senders, self._senders = self._senders, {}
        slow = []
        for worker in senders:
            pieces, worker.outbox = worker.outbox, []
            if worker.num_tickets_due:
                worker.give_tickets(worker.num_tickets_due)
                worker.num_tickets_due = 0
            try:
                worker.channel.send(pieces)
            except ChannelClosed:
                continue  # its end is seen on its pidfd, and what it held is dealt with there
            if worker.channel.wants_to_send:
                slow.append(worker)
        return slow

    def start(self, entry: Entry, workers: Sequence[Worker], is_queued: bool) -> None:
        """Start the entry's run on these workers, which the scheduler has set aside for it."""
        run = entry.run
        assert run is not None
        if type(run) is SoloRun:
            self._start_solo(entry, run, workers[0], is_queued)
            return
        if run.is_chain and self._engine.give_back_if_one_died(entry, workers):
            return
        members = run.members
        if run.num_pending != len(members):
            _reset(run)
        free = iter(workers)
        for member in members if run.lead is None else (run.lead,):
            if member.is_process:
                member.worker = worker = next(free)
                member.is_started_late = is_queued
                worker.queue.append(member)
        try:
            entry.item.before_attempt(entry.attempt)
            if run.is_chain:
                self._start_chain(entry, run)
            elif run.lead is not None:
                self._send_alone(run.lead, wire.IS_LOCAL_CHAIN)
            elif members[0].is_process:
                self._send_alone(members[0])
            else:
                self._start_thread(members[0], None, None)
        except BaseException as ex:  # noqa: BLE001 - pickling runs user code; descriptors may run out
            self._fail_to_start(run, ex)
            return
        if run.is_chain or run.has_timeout:
            self._engine.deadlines.track(run, members)

    def go_on(self, worker: Worker, entries: Sequence[Entry]) -> None:
        """Start the next runs of one stage of these entries, on the worker that has done their last."""
        self._turn += 1  # the user's code has been asked since stages were looked at
        items = [entry.item for entry in entries]
        has_own_hook = any(type(item).before_attempt is not _no_hook for item in items)
        packed = [None] * len(items) if has_own_hook else self._pickler.pack_all(items)
        outbox, queue = worker.outbox, worker.queue
        stage_at_worker = -1
        is_queued = bool(queue)
        for entry, data in zip(entries, packed, strict=True):
            run = entry.run
            assert type(run) is SoloRun
            first = run.first
            if first != stage_at_worker or data is None or not run.num_pending or not is_queued:
                self._start_solo(entry, run, worker, is_queued)
                stage_at_worker = first if run.is_started else -1
                is_queued = True
                continue
            # What _start_solo() comes to behind another run of the same stage.
            queue.append(run)
            worker.last_seq = seq = run.seq = worker.last_seq + 1
            worker.num_tickets_due += 1
            outbox.append(_pack_header(wire.RUN, _QUEUED_AND_PACKED, first, 1, 0, 0, seq, len(data)))
            outbox.append(data)
            run.is_started = True

    def _start_solo(self, entry: Entry, run: SoloRun, worker: Worker, is_queued: bool) -> None:
        """The hot path: one item to one worker, no pipes."""
        if not run.num_pending:
            _reset(run)
        run.worker = worker
        run.is_started_late = is_queued
        worker.queue.append(run)
        item = entry.item
        flags = wire.IS_PACKED
        try:
            item.before_attempt(entry.attempt)
            data = self._pack(item)
            if data is None:
                flags = 0
                try:
                    data = self._pickler.dumps(item)
                except BaseException as ex:
                    raise self._pickling_error("the item", run, ex) from ex
                if self._pickler.has_taken_descriptors:
                    pickled = self._pickler.passed(data)
                    try:
                        self._send(run, pickled, self._pickle_stages(run))
                    finally:
                        pickled.close()
                    return
            seen = self._seen_stages.get(run.first)
            if seen is not None and seen.turn == self._turn and worker.known_stages.get(run.first) is seen.data:
                stages = b""
            else:
                stages = self._pickle_stages(run)
        except BaseException as ex:  # noqa: BLE001 - pickling runs user code; descriptors may run out
            self._fail_to_start(run, ex)
            return
        worker.last_seq = seq = run.seq = worker.last_seq + 1
        if is_queued:
            flags |= wire.NEEDS_TICKET
            worker.num_tickets_due += 1
        else:
            worker.head_since = time.monotonic()
        size = len(stages)
        outbox = worker.outbox
        outbox.append(_pack_header(wire.RUN, flags, run.first, 1, 0, size, seq, size + len(data)))
        if size:
            outbox.append(stages)
            worker.known_stages[run.first] = stages
        outbox.append(data)
        run.is_started = True
        self._senders[worker] = None

    def _send_alone(self, member: Member, flags: int = 0) -> None:
        """One item to one worker, no pipes."""
        stages = self._pickle_stages(member)
        self._send(member, self._pickle_item(member), stages, flags)

    def _pickle_item(self, member: Member) -> Pickled:
        try:
            packed = self._pack(member.entry.item)
            if packed is not None:
                return Pickled(packed, (), [], is_packed=True)
            return self._pickler.dumps_passing(member.entry.item)
        except BaseException as ex:
            raise self._pickling_error("the item", member, ex) from ex

    def _pickle_stages(self, member: Member) -> bytes:
        """The pickle of the member's stages, or nothing where its worker has the very same already."""
        worker = member.worker
        assert worker is not None
        key = _stages_key(member)
        seen = self._seen_stages.get(key)
        stages = tuple(self._engine.stages[member.first : member.first + member.count])
        if seen is not None and (seen.turn == self._turn or seen.is_unchanged(stages)):
            seen.turn = self._turn
            data = seen.data
        else:
            try:
                data = self._pickler.dumps(stages)
            except BaseException as ex:
                raise self._pickling_error("the stage", member, ex) from ex
            self._remember(key, stages, data)
        return b"" if worker.known_stages.get(key) == data else data

    def _remember(self, key: StagesKey, stages: tuple[PipelineStage, ...], data: bytes) -> None:
        looks = [look_at(stage) for stage in stages]
        self._seen_stages.pop(key, None)
        if all(look is not None for look in looks):
            self._seen_stages[key] = _SeenStages(stages, looks, data)

    def _pickling_error(self, what: str, member: Member, ex: BaseException) -> PipelinePicklingError:
        stage = stage_label(self._engine.stages[member.first], member.first)
        return pickling_error(what, stage, describe_item(member.entry.item), ex)

    def _send(self, member: Member, pickled: Pickled, stages: bytes, flags: int = 0, ends: Sequence[int] = ()) -> None:
        worker = member.worker
        item = pickled.data
        assert worker is not None
        worker.last_seq += 1
        seq = member.seq = worker.last_seq
        member.originals = pickled.originals
        num_fds = 0
        if pickled.is_packed:
            flags |= wire.IS_PACKED
        if ends or pickled.fds:
            fds = [*ends, *pickled.fds]
            num_fds = len(fds)
            try:
                worker.channel.send_descriptors(seq, fds)
            finally:
                pickled.close()
        if member.is_started_late:
            flags |= wire.NEEDS_TICKET
            worker.num_tickets_due += 1
        elif len(worker.queue) == 1:
            worker.head_since = time.monotonic()
        head = wire.HEADER.pack(
            wire.RUN, flags, member.first, member.count, num_fds, len(stages), seq, len(stages) + len(item)
        )
        outbox = worker.outbox
        outbox.append(head)
        if stages:
            outbox.append(stages)
            worker.known_stages[_stages_key(member)] = stages
        outbox.append(item)
        member.is_started = True
        self._senders[worker] = None

    def _start_chain(self, entry: Entry, run: Run) -> None:
        """All members at once, joined by pipes. Nothing is sent before all that can fail here has been done."""
        members = run.members
        pickles: list[tuple[Pickled, bytes]] = []
        fds: list[int] = []
        try:
            for member in members:
                if member.worker is not None:
                    pickles.append((self._pickle_item(member), self._pickle_stages(member)))
            for _ in members[1:]:
                fds.extend(os.pipe())
            interrupt = self._make_interrupt(run)
            prepared = iter(pickles)
            for number, member in enumerate(members):
                fd_in = fds[2 * number - 2] if number else None
                fd_out = fds[2 * number + 1] if number + 1 < len(members) else None
                if member.worker is not None:
                    pickled, stages = next(prepared)
                    flags = (wire.HAS_PIPE_IN if number else 0) | (wire.HAS_PIPE_OUT if fd_out is not None else 0)
                    ends = [fd for fd in (fd_in, fd_out) if fd is not None]
                    self._send(member, pickled, stages, flags, ends)
                else:
                    self._start_thread(member, *_open_own_ends(fd_in, fd_out, interrupt))
        finally:
            for pickled, _ in pickles:
                pickled.close()
            for fd in fds:
                os.close(fd)

    def _make_interrupt(self, run: Run) -> int | None:
        if run.num_workers == len(run.members):
            return None
        interrupt = OwnedDescriptor(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        self._interrupts[run] = interrupt
        return interrupt.fileno()

    def interrupt(self, run: Run) -> None:
        """End the waiting of a failed chain's thread stages on their pipes."""
        if run in self._interrupts:
            os.eventfd_write(self._interrupts[run].fileno(), 1)

    def release_interrupt(self, run: Run) -> None:
        interrupt = self._interrupts.pop(run, None)
        if interrupt is not None:
            interrupt.close()

    def _start_thread(self, member: Member, pipe_in: StageConnection | None, pipe_out: StageConnection | None) -> None:
        stage = self._engine.stages[member.first]
        item = member.entry.item
        is_isolated = self._engine.is_serial
        try:
            self._engine.start_on_thread(member, lambda: run_on_thread(stage, item, pipe_in, pipe_out, is_isolated))
            member.is_started = True
        except BaseException:
            for conn in (pipe_in, pipe_out):
                if conn is not None:
                    close_stage_end(conn, False, "the stage before could not be started")
            raise

    def _fail_to_start(self, run: Run, ex: BaseException) -> None:
        """None of the run's members that were not started will be; the others see their pipes end."""
        members = run.members if run.lead is None else [run.lead]
        self._engine.not_started([member for member in members if not member.is_started], failure_to_record(ex))


def _open_own_ends(
    fd_in: int | None, fd_out: int | None, interrupt: int | None
) -> tuple[StageConnection | None, StageConnection | None]:
    """A thread stage's ends: duplicates, so that those given are the caller's to close, whatever fails between."""
    own_in = None if fd_in is None else open_stage_end(os.dup(fd_in), False, interrupt)
    try:
        return own_in, None if fd_out is None else open_stage_end(os.dup(fd_out), True, interrupt)
    except BaseException:
        if own_in is not None:
            close_stage_end(own_in, False, None)
        raise


def _stages_key(member: Member) -> StagesKey:
    return member.first if member.count == 1 else (member.first, member.count)


def _reset(run: Run) -> None:
    """Make a run as it was before it was tried."""
    run.has_failed = False
    run.end_survivors_at = None
    run.num_pending = len(run.members)
    for member in run.members if run.lead is None else [run.lead, *run.members]:
        member.answer = member.failure = member.killed_for = member.deadline = None
        member.is_done = member.is_started = False
        member.failed_at_ns = 0
        member.stage_num = member.first + member.count - 1
