"""The loop inside a worker process: take a run, do it, answer, until told to end or the parent is gone."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import threading
import time
from typing import TYPE_CHECKING

from . import channel as wire
from .channel import ChannelClosed, WorkerChannel
from .counters import set_current_slot
from .descriptors import ItemPickler, PassedDescriptor, loads_received
from .fork_guard import OwnedDescriptor
from .local_chain import LocalChain
from .log_relay import ChannelLogHandler
from .plain_items import ItemUnpacker
from .plain_stages import PlainStage, look_at
from .shared_slots import POSITION_SEQ, POSITION_STAGE, POSITION_START_NS
from .stage import PipelineStage
from .stage_run import (
    Outcome,
    close_stage_end,
    describe_failure,
    open_stage_end,
    perform,
    pickling_error,
    portable_failure,
    portable_item_failures,
    run_stage,
)
from .work_item import PipelineWorkItem

if TYPE_CHECKING:
    from .stage_connection import StageConnection

_pack_header = wire.HEADER.pack
# RUN flags of what needs no more than a stage and an item.
_SOLO_FLAGS = wire.NEEDS_TICKET | wire.IS_PACKED


class WorkerLoop:
    """The state of the loop: the channel, what is known of the stages, and where we are."""

    def __init__(
        self, channel: WorkerChannel, ticket: OwnedDescriptor, words: memoryview, counter_names: tuple[str, ...]
    ) -> None:
        self._channel = channel
        self._ticket = ticket
        self._ticket_fd = ticket.fileno()
        self.words = words
        self._counter_names = counter_names
        self._pickler = ItemPickler()
        self._pack = self._pickler.pack
        self._unpack = ItemUnpacker().unpack
        # By (first stage, number of stages): the pickle that came last, and the stages kept, if they want to be.
        self._pickles: dict[tuple[int, int], bytes] = {}
        self._kept: dict[tuple[int, int], tuple[PipelineStage, ...]] = {}
        # Whether the pickle was looked into, and how to make its stages without it where that can be foreseen.
        self._is_known: dict[tuple[int, int], bool] = {}
        self._plain: dict[tuple[int, int], list[PlainStage]] = {}
        # The same for one stage alone, by its number.
        self._solo_plain: dict[int, PlainStage] = {}
        # Threads of a stage may log while the loop answers.
        self._send_lock = threading.Lock()

    def send(self, *pieces: bytes) -> None:
        with self._send_lock:
            self._channel.send(*pieces)

    def relay_log_records(self, level: int) -> logging.Handler:
        """From now on all records go to the parent, whose loggers of the same names handle them."""
        handler = ChannelLogHandler(lambda data: self.send(wire.frame(wire.LOG, 0, data)))
        logging.root.handlers[:] = [handler]
        for logger in logging.root.manager.loggerDict.values():
            if isinstance(logger, logging.Logger):  # else the place of one
                # What a forked worker inherits would be handled here, and in the parent once more.
                logger.handlers[:] = []
                logger.propagate = True
        logging.root.setLevel(level)
        return handler

    def serve(self) -> None:
        """Do runs until EXIT. Raises ChannelClosed when the parent has closed the channel."""
        receive = self._channel.receive_header
        while True:
            fields = receive()
            kind, flags, first, count, num_fds, stages_length, seq, length = fields
            if kind == wire.EXIT:
                return
            if count == 1 and not num_fds and not flags & ~_SOLO_FLAGS:
                self._serve_solo(flags, first, stages_length, seq, length)
            else:
                self._serve_run(fields)

    def _serve_solo(self, flags: int, first: int, stages_length: int, seq: int, length: int) -> None:
        """The hot path: one stage, one item, no pipes. In one piece, for calls cost as much as the work here."""
        if flags & wire.NEEDS_TICKET:
            try:
                os.eventfd_read(self._ticket_fd)
            except BlockingIOError:
                self._pass_over((first, 1), 0, stages_length, seq, length)
                return
        words = self.words
        start_ns = time.monotonic_ns()
        words[POSITION_STAGE] = first
        words[POSITION_START_NS] = start_ns
        words[POSITION_SEQ] = seq
        payload: memoryview | None = None
        try:
            payload = self._channel.receive_payload(length)
            if stages_length:
                self._learn_stages((first, 1), payload[:stages_length])
                payload = payload[stages_length:]
            plain = self._solo_plain.get(first)
            stage = self._solo_stage(first) if plain is None else plain.make()
            try:
                item = self._unpack(payload) if flags & wire.IS_PACKED else pickle.loads(payload)
            except BaseException as ex:
                raise pickling_error("the item", "", "", ex) from ex
            returned = perform(stage, item, item._submission)
            if returned.pipe_conn is not None:
                returned.pipe_conn = returned.pipe_in = returned.pipe_out = None
            answer_flags, answer = wire.IS_PACKED, self._pack(returned)
            if answer is None:
                answer_flags, answer = self._encode(returned)
            failed_at_ns = time.monotonic_ns() if returned.exceptions else 0
        except BaseException as ex:
            if type(ex) is ChannelClosed and payload is None:
                raise
            self._send_outcome(seq, first, start_ns, Outcome(None, ex, time.monotonic_ns()), payload is None)
            return
        if failed_at_ns:
            self._send_outcome(seq, first, start_ns, Outcome((answer_flags, answer), None, failed_at_ns), False)
            return
        spent = (time.monotonic_ns() - start_ns) // 1000
        head = _pack_header(
            wire.RESULT,
            answer_flags,
            first,
            0,
            0,
            spent if spent < wire.MAX_DURATION_US else wire.MAX_DURATION_US,
            seq,
            len(answer),
        )
        with self._send_lock:
            self._channel.send(head + answer)

    def _solo_stage(self, first: int) -> PipelineStage:
        """The stage, however it is had; from the second time on by the short way where there is one."""
        try:
            (stage,) = self._stages((first, 1))
        except BaseException as ex:
            raise pickling_error("the stage", "", "", ex) from ex
        plain = self._plain.get((first, 1))
        if plain is not None:
            self._solo_plain[first] = plain[0]
        return stage

    def _serve_run(self, fields: tuple[int, ...]) -> None:
        _, flags, first, count, num_fds, stages_length, seq, length = fields
        if flags & wire.NEEDS_TICKET and not self._take_ticket():
            self._pass_over((first, count), num_fds, stages_length, seq, length)
            return
        words = self.words
        start_ns = time.monotonic_ns()
        words[POSITION_STAGE] = first
        words[POSITION_START_NS] = start_ns
        words[POSITION_SEQ] = seq
        payload: memoryview | None = None
        try:
            payload = self._channel.receive_payload(length)
            if flags & wire.IS_LOCAL_CHAIN:
                is_packed = bool(flags & wire.IS_PACKED)
                self._serve_local_chain((first, count), num_fds, stages_length, seq, payload, start_ns, is_packed)
                return
            outcome = self._run(flags, first, count, num_fds, stages_length, seq, payload)
        except ChannelClosed:
            raise
        except BaseException as ex:  # noqa: BLE001 - a MemoryError, say: the item fails, the worker goes on
            outcome = Outcome(None, ex, time.monotonic_ns())
        self._send_outcome(seq, int(words[POSITION_STAGE]), start_ns, outcome, payload is None)

    def _pass_over(self, key: tuple[int, int], num_fds: int, stages_length: int, seq: int, length: int) -> None:
        """The parent has taken this run back."""
        unwanted = self._channel.receive_payload(length)
        self._learn_stages(key, unwanted[:stages_length])  # the parent knows we have had them
        if num_fds:
            with contextlib.suppress(OSError):  # lost on the way: nothing to close
                for fd in self._channel.receive_descriptors(seq, num_fds):
                    os.close(fd)
        self.send(wire.frame(wire.DROPPED, seq))

    def _send_outcome(self, seq: int, stage: int, start_ns: int, outcome: Outcome, is_payload_lost: bool) -> None:
        """Answer the parent."""
        spent = wire.duration_us(start_ns, time.monotonic_ns())
        if outcome.failure is None:
            flags, answer = outcome.answer
            if outcome.failed_at_ns:
                answer = wire.FAILED_AT.pack(outcome.failed_at_ns) + answer
                flags |= wire.IS_FAILED
            self.send(wire.HEADER.pack(wire.RESULT, flags, stage, 0, 0, spent, seq, len(answer)), answer)
        else:
            answer = wire.FAILED_AT.pack(outcome.failed_at_ns) + self._encode_failure(outcome.failure)
            lost = wire.STAGES_LOST if is_payload_lost else 0
            self.send(wire.HEADER.pack(wire.ERROR, lost, stage, 0, 0, spent, seq, len(answer)), answer)

    def _take_ticket(self) -> bool:
        """The right to start a run that was queued behind another; the parent takes tickets back as it does runs."""
        try:
            os.eventfd_read(self._ticket_fd)
        except BlockingIOError:
            return False
        return True

    def _run(
        self, flags: int, first: int, count: int, num_fds: int, stages_length: int, seq: int, payload: memoryview
    ) -> Outcome:
        """Unpickle what came and run its stages one after the other."""
        key = (first, count)
        self._learn_stages(key, payload[:stages_length])
        if not num_fds:
            return self._load_and_run(flags, key, payload[stages_length:], None, None, [])
        fds = self._channel.receive_descriptors(seq, num_fds)
        num_ends = bool(flags & wire.HAS_PIPE_IN) + bool(flags & wire.HAS_PIPE_OUT)
        ends = iter(fds[:num_ends])
        pipe_in = open_stage_end(next(ends), is_write=False) if flags & wire.HAS_PIPE_IN else None
        pipe_out = open_stage_end(next(ends), is_write=True) if flags & wire.HAS_PIPE_OUT else None
        try:
            return self._load_and_run(flags, key, payload[stages_length:], pipe_in, pipe_out, fds[num_ends:])
        finally:
            for conn in (pipe_in, pipe_out):
                if conn is not None:  # what run_stage() did not come to
                    close_stage_end(conn, False, "the stage before could not be started")

    def _load_and_run(
        self,
        flags: int,
        key: tuple[int, int],
        payload: memoryview,
        pipe_in: StageConnection | None,
        pipe_out: StageConnection | None,
        fds: list[int],
    ) -> Outcome:
        try:
            stages = self._stages(key)
        except BaseException as ex:
            raise pickling_error("the stage", "", "", ex) from ex
        passed: list[PassedDescriptor] = []
        try:
            try:
                if flags & wire.IS_PACKED:
                    item = self._unpack(payload)
                else:
                    item, passed = loads_received(payload, fds)
            except BaseException as ex:
                raise pickling_error("the item", "", "", ex) from ex
            if len(stages) == 1:
                return run_stage(stages[0], item, pipe_in, pipe_out, self._encode)
            return self._run_stages(stages, key[0], item)
        finally:
            for descriptor in passed:
                descriptor.close()

    def _serve_local_chain(
        self,
        key: tuple[int, int],
        num_fds: int,
        stages_length: int,
        seq: int,
        payload: memoryview,
        start_ns: int,
        is_packed: bool,
    ) -> None:
        """Run a chain inside this process; every stage answers for itself."""
        self._learn_stages(key, payload[:stages_length])
        fds = self._channel.receive_descriptors(seq, num_fds) if num_fds else []
        passed: list[PassedDescriptor] = []
        lock = threading.Lock()
        # Stages of a chain may end at the same time, and our pickler is for one thread at a time.
        encode_lock = threading.Lock()

        def encode(item: PipelineWorkItem) -> tuple[int, bytes]:
            with encode_lock:
                return self._encode(item)

        def load() -> PipelineWorkItem:
            if is_packed:
                return self._unpack(payload[stages_length:])
            item, copies = loads_received(payload[stages_length:], [os.dup(fd) for fd in fds])
            passed.extend(copies)
            return item  # type: ignore[no-any-return]

        def use_counters() -> None:
            set_current_slot(self.words, self._counter_names, lock)

        def note_stage(number: int) -> None:
            self.words[POSITION_STAGE] = key[0] + number

        def tell_failure(number: int, outcome: Outcome) -> None:
            data = pickle.dumps((number, *self._encode_end(outcome)))
            self.send(wire.frame(wire.CHAIN_FAILED, seq, data))

        use_counters()
        try:
            chain = LocalChain(self._stages(key), load, encode, use_counters, note_stage, tell_failure)
            outcomes = chain.run()
        finally:
            set_current_slot(self.words, self._counter_names)
            for descriptor in passed:
                descriptor.close()
            for fd in fds:
                os.close(fd)
        answer = pickle.dumps([self._encode_end(outcome) for outcome in outcomes])
        spent = wire.duration_us(start_ns, time.monotonic_ns())
        self.send(wire.HEADER.pack(wire.CHAIN_ENDED, 0, key[0], 0, 0, spent, seq, len(answer)), answer)

    def _encode_end(self, outcome: Outcome) -> tuple[int, bool, int, bytes]:
        """When a stage failed, whether by an exception, and the pickle of that or of its answer with its flags."""
        if outcome.failure is None:
            return outcome.failed_at_ns, False, *outcome.answer
        return outcome.failed_at_ns, True, 0, self._encode_failure(outcome.failure)

    def _learn_stages(self, key: tuple[int, int], data: memoryview) -> None:
        """Take a new pickle of stages, if there is one; the last one counts."""
        if len(data):
            self._pickles[key] = bytes(data)
            self._is_known[key] = False
            self._plain.pop(key, None)
            self._kept.pop(key, None)
            self._solo_plain.pop(key[0], None)

    def _stages(self, key: tuple[int, int]) -> tuple[PipelineStage, ...]:
        """The stages, as fresh as unpickling makes them, or the kept ones where they want that."""
        plain = self._plain.get(key)
        if plain is not None:
            return tuple([each.make() for each in plain])
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        stages: tuple[PipelineStage, ...] = pickle.loads(self._pickles[key])
        if all(stage.keep_in_worker for stage in stages):
            self._kept[key] = stages
        elif not self._is_known[key]:
            self._is_known[key] = True
            looks = [look_at(stage) for stage in stages]
            if all(look is not None for look in looks) and not any(stage.keep_in_worker for stage in stages):
                self._plain[key] = [look for look in looks if look is not None]
        return stages

    def _run_stages(self, stages: tuple[PipelineStage, ...], first: int, item: PipelineWorkItem) -> Outcome:
        """Several stages back to back: each works on what the one before returned."""
        for number, stage in enumerate(stages[:-1], first):
            self.words[POSITION_STAGE] = number
            outcome = run_stage(stage, item)
            if outcome.failure is not None:
                return outcome
            item = outcome.answer
            if item.is_failed:
                return Outcome(self._encode(item), None)
        self.words[POSITION_STAGE] = first + len(stages) - 1
        return run_stage(stages[-1], item, encode=self._encode)

    def _encode(self, item: PipelineWorkItem) -> tuple[int, bytes]:
        """The answer's flags, and its bytes."""
        packed = self._pickler.pack(item)
        if packed is not None:
            return wire.IS_PACKED, packed
        portable_item_failures(item)
        try:
            return 0, self._pickler.dumps(item)
        except BaseException as ex:
            raise pickling_error("the result", "", "", ex) from ex

    def _encode_failure(self, failure: BaseException) -> bytes:
        text = describe_failure(failure)
        return pickle.dumps((portable_failure(failure, text), text))
