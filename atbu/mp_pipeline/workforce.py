"""The engine's dealings with its workers: their start, what they say, and their end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

from . import channel as wire
from .channel import ChannelClosed
from .exception import PipelineBroken, PipelineWorkerDied
from .log_relay import handle_record
from .pacing import Pacing
from .runs import Entry, Member, SoloRun, describe_item
from .workers import Worker, WorkerPool, describe_end

if TYPE_CHECKING:
    from .engine import Engine

# Workers that die before they are ready, in a row, before the pipeline is given up.
_MAX_STILLBORN = 3
# After a worker could not be started for lack of descriptors, memory or processes, this long until the next try.
_START_RETRY_S = 0.2
# A run whose worker dies before it has started it is handed out again, this often: else an item that kills its
# worker while it is being received would kill them all.
_MAX_FREE_RESTARTS = 3
# Only who has a closed socket and does not end is waited for so long: a stage has closed what is not its own.
_END_WAIT_MS = 100
_HUNG_UP = (
    "It was ended by the pipeline: its socket to the pipeline had been closed. Does a stage close all descriptors?"
)


class Workforce:
    """All workers of a pipeline; engine's thread only."""

    def __init__(self, engine: Engine, pool: WorkerPool) -> None:
        self._engine = engine
        self._scheduler = engine.scheduler
        self._pool = pool
        self._items = engine.items
        self._answers = engine.answers
        self._pacing = Pacing()
        self._num_stillborn = 0
        self._last_init_failure: str | None = None
        #: When workers may be started again, after the system had refused one (monotonic seconds).
        self.retry_at: float | None = None
        if pool.template is not None:
            engine.watch(pool.template.fileno(), self._on_template)

    @property
    def is_empty(self) -> bool:
        """Whether all workers are gone."""
        return not self._pool.workers

    # -- start

    def grow(self, count: int) -> None:
        """Start ``count`` workers."""
        for started in range(count):
            try:
                worker = self._pool.start(self._engine.stages)
            except OSError as ex:  # no descriptors, memory or processes: it may pass
                self._scheduler.workers_failed(count - started)
                self._refused(str(ex))
                return
            except Exception as ex:  # noqa: BLE001 - e.g. an initialiser that cannot be pickled: it never will be
                self._scheduler.workers_failed(count - started)
                self._engine.give_up(PipelineBroken(f"a worker process could not be started: {ex}"))
                return
            self._engine.watch(worker.channel.fileno(), partial(self._on_channel, worker))
            self._watch_pidfd(worker)

    def _refused(self, reason: str) -> None:
        """The system has no room for a worker, which may pass."""
        is_first = self._scheduler.can_grow  # of those that were asked for together
        self._scheduler.can_grow = False
        self.retry_at = time.monotonic() + _START_RETRY_S
        # Those that are at work, or on their way, will be free for what waits, and may be all that there is room for.
        workers = self._pool.workers.values()
        if is_first and not any(worker.queue or (worker.pid and not worker.is_ready) for worker in workers):
            self._count_stillborn(f"a worker process could not be started: {reason}", None)

    def try_again(self) -> None:
        """Workers may be started again if it is time."""
        if self.retry_at is not None and time.monotonic() >= self.retry_at:
            self.retry_at = None
            self._scheduler.can_grow = True

    def _watch_pidfd(self, worker: Worker) -> None:
        if worker.pidfd is not None:
            self._engine.watch(worker.pidfd.fileno(), lambda events: self.on_gone(worker))

    def _on_template(self, events: int) -> None:
        template = self._pool.template
        assert template is not None
        fd = template.fileno()
        self._pool.read_template()
        if not template.is_alive:
            self._engine.unwatch(fd)
        self._handle_news()

    def _handle_news(self) -> None:
        for worker, is_alive in self._pool.take_news():
            if worker.id not in self._pool.workers:
                continue  # its end was seen before the news of its start
            if is_alive:
                self._watch_pidfd(worker)
            else:
                self._bury(worker)

    def _on_ready(self, worker: Worker, pid: int) -> None:
        if worker.pidfd is None:  # faster than the template's report
            try:
                worker.came_to_life(pid, os.pidfd_open(pid))
                self._watch_pidfd(worker)
            except ProcessLookupError:
                pass  # gone again: the report tells
            except OSError as ex:  # no descriptor to watch it by: it gets no work
                worker.refusal = str(ex)
                self._bury(worker)
                return
        worker.is_ready = True
        self._num_stillborn = 0
        self._scheduler.worker_ready(worker)

    def _count_stillborn(self, what: str, init_failure: str | None) -> None:
        """A worker did not come to life; three in a row end the hope that one will."""
        self._num_stillborn += 1
        if init_failure:
            self._last_init_failure = init_failure
        if self._num_stillborn >= _MAX_STILLBORN:
            text = f"{self._num_stillborn} workers in a row ended before they were ready; the last: {what}"
            self._engine.give_up(PipelineBroken(text, self._last_init_failure))

    # -- what they say

    def _on_channel(self, worker: Worker, events: int) -> None:
        channel = worker.channel
        if events & select.EPOLLOUT:
            with contextlib.suppress(ChannelClosed):  # reading tells what it had to say, and that it is gone
                channel.flush()
            if not channel.wants_to_send:
                self._engine.watch_writable(channel.fileno(), False)
        if events & ~select.EPOLLOUT and self._read(worker):
            self._on_stream_ended(worker)

    def _read(self, worker: Worker) -> bool:
        """Take all that has come; says whether the stream has ended."""
        frames, is_ended = worker.channel.receive()
        worker.head_since = time.monotonic()
        num_answers = total_us = num_solo = 0
        going_on: list[Entry] = []
        for fields, payload in frames:
            kind = fields[0]
            if kind == wire.RESULT:
                num_answers += 1
                total_us += fields[5]
                member = worker.queue[0]
                if type(member) is not SoloRun or fields[1] & wire.IS_FAILED or member.originals:
                    self._answers.take(worker, fields, payload)
                    continue
                num_solo += 1
                if self._answers.take_solo(worker, member, fields[1], payload):
                    going_on.append(member.entry)
            elif kind == wire.ERROR:
                self._answers.take_error(worker, fields, payload)
            elif kind == wire.CHAIN_ENDED:
                num_answers += 1
                total_us += fields[5]
                self._answers.take_chain(worker, payload)
            elif kind == wire.CHAIN_FAILED:
                self._answers.take_chain_failure(worker, payload)
            elif kind == wire.LOG:
                self._on_log(payload)
            elif kind == wire.DROPPED:
                worker.num_taken_back -= 1
                if not worker.num_taken_back:
                    self._scheduler.confirmed(worker)
            elif kind == wire.READY:
                self._on_ready(worker, fields[6])
            elif kind == wire.INIT_FAILED:
                worker.init_failure = payload.decode("utf-8", "replace")
        if num_answers:
            self._scheduler.depth = self._pacing.note(total_us / num_answers)
        if num_solo:
            may_stay = not (is_ended or worker.is_ending)  # else what it is given would come back
            if staying := self._scheduler.answered_together(worker, num_solo, going_on, may_stay):
                self._engine.dispatcher.go_on(worker, staying)
        return is_ended

    def _on_log(self, payload: bytes) -> None:
        try:
            handle_record(payload)
        except BaseException as ex:  # noqa: BLE001 - the program's handler or filter, or a record that won't unpickle
            self._engine.note_anomaly(ex, "a log record of a worker could not be handled")

    # -- runs taken back from behind one that turned out long

    def held_up_at(self) -> list[float]:
        """When runs will have waited long enough to be taken back, one for each worker where that may be."""
        return [worker.head_since + self._pacing.hold_up_s for worker in self._scheduler.held_up()]

    def take_back_held_up(self) -> None:
        """Give what waits behind a long run to workers that have nothing to do."""
        for worker in self._scheduler.held_up():
            now = time.monotonic()
            if now - worker.head_since < self._pacing.hold_up_s:
                continue
            count = worker.take_tickets_back()
            worker.head_since = now
            if not count:  # it has just gone on by itself, the answer is on its way
                continue
            worker.num_taken_back += count
            for _ in range(count):
                self._engine.deadlines.forget(worker.queue.pop())
            self._scheduler.depth = self._pacing.held_up()
            self._scheduler.taken_back(worker, count)

    # -- their end

    def _on_stream_ended(self, worker: Worker) -> None:
        """The socket says it is over; only the pidfd says that the process is."""
        self._engine.unwatch(worker.channel.fileno())
        if worker.pid is None:
            return  # never came to life: the template will tell
        if worker.pidfd is None:
            self._bury(worker)
        elif worker.is_ready and not worker.is_ending:
            # A process that ends closes its socket a moment before its pidfd tells.
            worker.has_hung_up = not worker.is_gone(within_ms=_END_WAIT_MS)
            worker.kill()

    def on_gone(self, worker: Worker) -> None:
        """The process has ended. What it said before counts."""
        if self._engine.is_watched(worker.channel.fileno()):
            self._read(worker)
        self._bury(worker)

    def _bury(self, worker: Worker) -> None:
        """Fail what it had begun, hand out again what it had not, forget it."""
        started_seq = worker.started_seq
        self._engine.unwatch(worker.channel.fileno())
        if worker.pidfd is not None:
            self._engine.unwatch(worker.pidfd.fileno())
        exitcode = self._pool.bury(worker)
        if not worker.is_ready:
            self._scheduler.workers_failed(1)
            if worker.refusal is not None:
                self._refused(worker.refusal)
            elif not worker.is_ending:
                self._count_stillborn(describe_end(worker.pid, exitcode), worker.init_failure)
            self._handle_news()
            return
        self._scheduler.worker_lost(worker)
        again: list[Entry] = []
        is_first = True
        while worker.queue:
            member: Member = worker.queue.popleft()
            self._engine.deadlines.forget(member)
            if is_first and self._is_lost(member, started_seq):
                self._items.fail_member(member, member.killed_for or self._death_of(member, worker, exitcode))
            else:
                again.append(member.entry)
            is_first = False
        self._scheduler.requeue(again)
        self._handle_news()

    def _is_lost(self, member: Member, started_seq: int) -> bool:
        """Whether the first in a dead worker's queue was begun, or may not be handed out once more."""
        if member.seq == started_seq or member.run.is_chain or member.killed_for is not None:
            return True
        member.entry.num_free_restarts += 1
        return member.entry.num_free_restarts > _MAX_FREE_RESTARTS

    def _death_of(self, member: Member, worker: Worker, exitcode: int | None) -> BaseException:
        if worker.started_seq == member.seq and member.first <= worker.started_stage < member.first + member.count:
            member.stage_num = worker.started_stage
        return PipelineWorkerDied(
            self._engine.label(member),
            member.stage_num,
            worker.pid,
            exitcode,
            describe_item(member.entry.item),
            retried=member.entry.attempt,
            note=_HUNG_UP if worker.has_hung_up and exitcode == -signal.SIGKILL else None,
        )

    def kill_all(self) -> None:
        """End all workers at once; each is gone when its pidfd says so."""
        for worker in list(self._pool.workers.values()):
            worker.kill()

    def end_all(self) -> None:
        """Have all workers end normally, then by SIGTERM, then by SIGKILL; returns when all are gone."""
        for worker in list(self._pool.workers.values()):
            if not worker.is_ending:
                self._pool.ask_to_end(worker)
        for signum in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + self._engine.grace_s
            while self._pool.workers and (left := deadline - time.monotonic()) > 0:
                self._engine.handle_events(left)
            self._engine.handle_events(0.0)  # we may not have run ourselves meanwhile: who has ended by now has ended
            for worker in list(self._pool.workers.values()):
                self._engine.note_anomaly(
                    TimeoutError(f"worker {worker.pid} did not end within {self._engine.grace_s} s"),
                    f"worker {worker.pid} was ended by {signum.name}",
                )
                worker.kill(signum)
        while self._pool.workers:
            self._engine.handle_events(-1)

    def close(self) -> None:
        """Close all that is left; the workers are gone but for a defect of ours."""
        for worker in list(self._pool.workers.values()):
            worker.kill()
            self._pool.bury(worker)
        self._pool.close(self._engine.grace_s)
