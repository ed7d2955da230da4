"""The thread that runs a pipeline: everything that happens comes in here, is decided by the scheduler, and goes out.

    submit(), thread stages ──▶ inbox ──┐                       ┌──▶ workers (frames, descriptors)
    workers' answers ──▶ channels ──────┤                       │
    workers' ends ──▶ pidfds ───────────┼──▶ Scheduler ─────────┼──▶ threads
    template's reports ─────────────────┤    (events in,        │
    deadlines ──────────────────────────┘     commands out)     └──▶ futures

The loop waits on all of these together, so no death and no answer is waited for alone. User code that belongs in
the parent (is_for_stage, stage_complete, futures' callbacks) runs on this thread, one call at a time.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from . import channel as wire
from .channel import ChannelClosed
from .completion import Completion
from .descriptors import loads_answer
from .dispatch import Dispatcher
from .exception import (
    ANOMALY_KIND_EXCEPTION,
    Anomaly,
    PipelineBroken,
    PipelineStageTimeout,
    PipelineTerminated,
    PipelineWorkerDied,
)
from .fork_guard import OwnedDescriptor, disown, own
from .log_relay import handle_record
from .pacing import Pacing
from .runs import Entry, Member, Run, describe_item
from .scheduler import Admit, Grow, Scheduler, Start
from .stage import PipelineStage, stage_label
from .stage_run import Outcome, pickling_error, with_worker_traceback
from .thread_runner import ThreadRunner
from .work_item import PipelineWorkItem
from .workers import Worker, WorkerPool

# Workers that die before they are ready, in a row, before the pipeline is given up.
_MAX_STILLBORN = 3
# After a worker could not be started for lack of descriptors, memory or processes, this long until the next try.
_START_RETRY_S = 0.2
# A run whose worker dies before it has started it is handed out again, this often: else an item that kills its
# worker while it is being received would kill them all.
_MAX_FREE_RESTARTS = 3
_POLL_IN = select.EPOLLIN
_POLL_OUT = select.EPOLLOUT


class Engine:
    """All of a running pipeline but its public face. Owned by its own thread once :meth:`start` was called.

    Args:
        stages: The pipeline's list; it may grow until the thread is started and after.
        scheduler: Decides what runs next.
        pool: The workers, or None where all stages run on threads (the serial runner).
        threads: Runs thread stages.
        grace_s: What a worker gets to end by itself before it is ended.
    """

    def __init__(
        self,
        name: str,
        stages: Sequence[PipelineStage],
        scheduler: Scheduler,
        pool: WorkerPool | None,
        threads: ThreadRunner,
        grace_s: float,
    ) -> None:
        self.name = name
        self.stages = stages
        self.scheduler = scheduler
        self.pool = pool
        self.threads = threads
        self.grace_s = grace_s
        self.is_serial = pool is None
        self.anomalies: list[Anomaly] = []
        self.broken: PipelineBroken | None = None
        self.thread: threading.Thread | None = None
        #: Called with each entry when its future is about to be completed (the facade's bookkeeping).
        self.on_ended: Callable[[Entry], None] = lambda entry: None
        self.was_terminated = False
        #: Called by the thread as its last act.
        self.post_mortem: Callable[[], object] = lambda: None
        self._is_closed = False
        self._terminate_at: float | None = None
        self._pacing = Pacing()
        self._completion = Completion(self)
        self._dispatcher = Dispatcher(self)
        self._inbox: deque[Callable[[], None]] = deque()
        self._is_asleep = False
        self._is_stopping = False
        self._wake = OwnedDescriptor(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        self._epoll = own(select.epoll())
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._running_threads: set[Member] = set()
        self._chains: set[Run] = set()
        self._timed: set[Member] = set()
        self._num_stillborn = 0
        self._retry_start_at: float | None = None
        self._last_init_failure: str | None = None
        self._entries: set[Entry] = set()

    # -- called from any thread

    def start(self) -> None:
        """Start the thread."""
        self.thread = threading.Thread(target=self._run, name=f"MpPipeline-{self.name}", daemon=True)
        self.thread.start()

    def post(self, call: Callable[[], None]) -> None:
        """Have the engine's thread do ``call`` soon."""
        self._inbox.append(call)
        if self._is_asleep:
            self._is_asleep = False
            with contextlib.suppress(OSError):  # closed: the loop has ended
                os.eventfd_write(self._wake.fileno(), 1)

    def submit(self, entry: Entry) -> None:
        self.post(lambda: self._take(entry))

    def stop(self, cancel_pending: bool) -> None:
        """Have the loop end: after all items, or with those cancelled that have not been started."""
        self.post(lambda: self._begin_stop(cancel_pending))

    def terminate(self) -> None:
        """Have the loop end now: nothing new starts, workers are killed, what runs fails."""
        self.post(self._begin_terminate)

    def end_at_exit(self) -> None:
        """The program ends: pending items are cancelled, running ones get ``grace_s``."""
        self.stop(cancel_pending=True)
        self.post(self._set_exit_deadline)

    def _set_exit_deadline(self) -> None:
        self._terminate_at = time.monotonic() + self.grace_s

    def close_unstarted(self) -> bool:
        """Close what the constructor opened, where the thread was never started; says whether it had been open."""
        if self._is_closed:
            return False
        self._close()
        return True

    # -- the loop

    def _run(self) -> None:
        try:
            self._watch(self._wake.fileno(), self._on_wake)
            if self.pool is not None and self.pool.template is not None:
                self._watch(self.pool.template.fileno(), self._on_template)
            while not self._is_over():
                self._turn()
            self._end_workers()
        except BaseException as ex:  # noqa: BLE001 - a defect of ours must not leave callers waiting for ever
            self.note_anomaly(ex, "the pipeline's thread failed")
            self.broken = self.broken or PipelineBroken(f"the pipeline's own thread failed: {ex!r}")
            self._kill_workers()
        finally:
            self._fail_all(self.broken or PipelineBroken("the pipeline has ended"))
            self._close()
            self.post_mortem()

    def _turn(self) -> None:
        """Wait, take in what came, decide, send."""
        self._is_asleep = True
        timeout = 0.0 if self._inbox else self._wait_s()
        ready = self._epoll.poll(timeout)
        self._is_asleep = False
        handlers = self._handlers
        for fd, events in ready:
            handler = handlers.get(fd)
            if handler is not None:  # an earlier one of this turn may have closed it
                handler(events)
        inbox = self._inbox
        # what is posted meanwhile waits for the next turn, so that a busy submitter starves nobody
        for _ in range(len(inbox)):
            inbox.popleft()()
        self._meet_deadlines()
        self._decide()
        self._send_outboxes()

    def _wait_s(self) -> float:
        """Seconds until something is due; -1: until something happens."""
        due = [member.deadline for member in self._timed if member.deadline is not None]
        due.extend(run.trigger for run in self._chains if run.trigger is not None)
        due.extend(at for at in (self._retry_start_at, self._terminate_at) if at is not None)
        due.extend(worker.head_since + self._pacing.hold_up_s for worker in self.scheduler.held_up())
        return max(0.0, min(due) - time.monotonic()) if due else -1

    def _watch(self, fd: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, _POLL_IN)

    def _unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def _on_wake(self, events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake.fileno())

    def _is_over(self) -> bool:
        if self.was_terminated:  # threads cannot be ended, so they are not waited for
            return not self._inbox and not (self.pool is not None and self.pool.workers)
        return self._is_stopping and not self._inbox and self.scheduler.is_empty

    def note_anomaly(self, ex: BaseException, message: str) -> None:
        self.anomalies.append(Anomaly(kind=ANOMALY_KIND_EXCEPTION, exception=ex, message=message))  # type: ignore[arg-type]

    # -- items

    def _take(self, entry: Entry) -> None:
        if self.was_terminated or self.broken is not None:
            self._entries.add(entry)
            self._refuse(entry)
            return
        self._entries.add(entry)
        self.scheduler.submit(entry)

    def _refuse(self, entry: Entry) -> None:
        """End an item that will not be started any more."""
        if self.was_terminated:
            entry.future.cancel()
            entry.future.set_running_or_notify_cancel()
            self._forget(entry)
        elif entry.future.set_running_or_notify_cancel():
            assert self.broken is not None
            entry.item.append_exception(self.broken)
            self.end_entry(entry)
        else:
            self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        """The entry has left; its future is someone else's, or cancelled."""
        entry.is_ended = True
        self._entries.discard(entry)
        entry.item._submission = None
        self.on_ended(entry)

    def end_entry(self, entry: Entry) -> None:
        """Complete the future: the item has ended, failed or not."""
        if entry.is_ended:
            return
        entry.item._cur_stage = len(self.stages)
        self._forget(entry)
        entry.future.set_result(entry.item)

    def advance(self, entry: Entry) -> None:
        """Plan what an admitted item does next, or end it."""
        run = None
        if self.broken is not None and not entry.item.is_failed:
            entry.item.append_exception(self.broken)
        if not entry.item.is_failed:
            run = self._completion.plan(entry)
        if run is None:
            self.scheduler.done(entry)
            self.end_entry(entry)
            return
        entry.run = run
        entry.attempt = 0
        self.scheduler.want(entry, run.num_workers, run.is_chain)

    # -- decisions

    def _decide(self) -> None:
        scheduler = self.scheduler
        self._take_back_held_up()
        while commands := scheduler.decide():
            for command in commands:
                if type(command) is Start:
                    self._dispatcher.start(command.item, command.workers, command.is_queued)
                elif type(command) is Admit:
                    self._admit(command.item)
                elif type(command) is Grow:
                    for _ in range(command.count):
                        self._start_worker()

    def _admit(self, entry: Entry) -> None:
        if not entry.future.set_running_or_notify_cancel():
            self.scheduler.done(entry)
            self._forget(entry)
            return
        entry.is_admitted = True
        self.advance(entry)

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def give_back_if_one_died(self, entry: Entry, workers: Sequence[Worker]) -> bool:
        """Before a chain starts: bury those of its workers that died idle, and have it wait for others.

        What dies later costs the item, for the chain's other stages cannot be started twice.
        """
        dead = [worker for worker in workers if worker.is_gone()]
        if not dead:
            return False
        for worker in workers:
            if worker not in dead:
                self.scheduler.released(entry, worker)
        for worker in dead:
            self._on_worker_gone(worker)
        self.scheduler.run_ended(entry)
        self.scheduler.requeue([entry])
        return True

    def not_started(self, members: Sequence[Member], failure: BaseException) -> None:
        """These members of a run could not be handed to their workers or threads: they have failed."""
        for member in members:
            worker = member.worker
            if worker is not None:
                worker.queue.remove(member)
                if member.run.is_chain:
                    self.scheduler.released(member.entry, worker)
                else:
                    self.scheduler.withdrawn(member.entry, worker)
            member.failure = failure
            self._end_member(member)

    def start_on_thread(self, member: Member, job: Callable[[], Outcome]) -> None:
        """Have a thread do a member; its outcome comes back by the inbox."""
        self._running_threads.add(member)

        def run() -> None:
            outcome = job()
            self.post(lambda: self._on_thread_done(member, outcome))

        self.threads.run(run)

    def _on_thread_done(self, member: Member, outcome: Outcome) -> None:
        self._running_threads.discard(member)
        member.answer, member.failure = outcome
        self._end_member(member)

    def track(self, run: Run, members: Sequence[Member]) -> None:
        """Watch over what was just started: chains that fail, members with a time limit."""
        if run.is_chain:
            self._chains.add(run)
        for member in members:
            if self.stages[member.first].timeout is not None and member.worker is not None:
                self._timed.add(member)
                if member.worker.queue[0] is member:
                    self._start_clock(member)

    def _start_clock(self, member: Member) -> None:
        limit = self.stages[member.first].timeout
        if limit is not None:
            member.deadline = time.monotonic() + limit

    # -- workers: their start

    def _start_worker(self) -> None:
        assert self.pool is not None
        try:
            worker = self.pool.start(self.stages)
        except OSError as ex:
            self.scheduler.worker_failed()
            self._count_stillborn(f"a worker process could not be started: {ex}", None)
            self.scheduler.can_grow = False
            self._retry_start_at = time.monotonic() + _START_RETRY_S
            return
        except Exception as ex:  # noqa: BLE001 - e.g. an initialiser that cannot be pickled: it never will be
            self.scheduler.worker_failed()
            self._break(PipelineBroken(f"a worker process could not be started: {ex}"))
            return
        self._watch(worker.channel.fileno(), lambda events: self._on_channel(worker, events))
        if worker.pidfd is not None:
            self._watch_pidfd(worker)

    def _watch_pidfd(self, worker: Worker) -> None:
        assert worker.pidfd is not None
        if worker.pidfd.fileno() not in self._handlers:
            self._watch(worker.pidfd.fileno(), lambda events: self._on_worker_gone(worker))

    def _on_template(self, events: int) -> None:
        assert self.pool is not None
        assert self.pool.template is not None
        fd = self.pool.template.fileno()
        for kind, worker in self.pool.read_template():
            if worker is None:
                continue
            if kind == "started":
                self._watch_pidfd(worker)
            else:
                self._bury(worker)
        if not self.pool.template.is_alive:
            self._unwatch(fd)

    def _count_stillborn(self, what: str, init_failure: str | None) -> None:
        """A worker did not come to life; three in a row end the hope that one will."""
        self._num_stillborn += 1
        if init_failure:
            self._last_init_failure = init_failure
        if self._num_stillborn >= _MAX_STILLBORN:
            self._break(
                PipelineBroken(
                    f"{self._num_stillborn} workers in a row ended before they were ready; the last: {what}",
                    self._last_init_failure,
                )
            )

    def _break(self, error: PipelineBroken) -> None:
        """No worker can be had: everything that is not running fails."""
        self.broken = self.broken or error
        for entry in self.scheduler.cancel_new():
            self._refuse(entry)
        for entry in self.scheduler.cancel_ready():
            entry.item.append_exception(self.broken)
            self.scheduler.done(entry)
            self.end_entry(entry)

    # -- workers: what they say

    def _on_channel(self, worker: Worker, events: int) -> None:
        if events & _POLL_OUT:
            try:
                worker.channel.flush()
            except ChannelClosed:
                pass  # reading tells what it had to say, and that it is gone
            if not worker.channel.is_closed and not worker.channel.wants_to_send:
                self._epoll.modify(worker.channel.fileno(), _POLL_IN)
        if events & ~_POLL_OUT and self._read_channel(worker):
            self._on_stream_ended(worker)

    def _read_channel(self, worker: Worker) -> bool:
        """Take all that has come; says whether the stream has ended."""
        frames, is_ended = worker.channel.receive()
        for fields, payload in frames:
            kind = fields[0]
            if kind == wire.RESULT:
                self._on_result(worker, fields, payload)
            elif kind == wire.ERROR:
                self._on_error(worker, fields, payload)
            elif kind == wire.LOG:
                self._on_log(payload)
            elif kind == wire.DROPPED:
                self._on_dropped(worker)
            elif kind == wire.READY:
                self._on_ready(worker, fields[6])
            elif kind == wire.INIT_FAILED:
                worker.init_failure = payload.decode("utf-8", "replace")
        return is_ended

    def _on_ready(self, worker: Worker, pid: int) -> None:
        if worker.pid is None:  # faster than the template's report
            with contextlib.suppress(ProcessLookupError):
                worker.came_to_life(pid, os.pidfd_open(pid))
                self._watch_pidfd(worker)
        worker.is_ready = True
        self._num_stillborn = 0
        self.scheduler.worker_ready(worker)

    def _on_log(self, payload: bytes) -> None:
        try:
            handle_record(payload)
        except Exception as ex:  # noqa: BLE001 - a handler or filter of the program, or a record that won't unpickle
            self.note_anomaly(ex, "a log record of a worker could not be handled")

    def _on_result(self, worker: Worker, fields: tuple[int, ...], payload: bytes) -> None:
        member: Member = worker.queue.popleft()
        try:
            member.answer = loads_answer(payload, member.originals)
        except BaseException as ex:  # noqa: BLE001 - whatever a user's __setstate__ raises fails this item alone
            member.failure = pickling_error(
                "the result", self._label(member), describe_item(member.entry.item), ex
            )
        self._answered(worker, member, fields)

    def _on_error(self, worker: Worker, fields: tuple[int, ...], payload: bytes) -> None:
        member: Member = worker.queue.popleft()
        member.stage_num = fields[2]
        member.failure = self._completion.read_failure(member, payload)
        self._answered(worker, member, fields)

    def _answered(self, worker: Worker, member: Member, fields: tuple[int, ...]) -> None:
        self._timed.discard(member)
        if worker.queue:
            follower = worker.queue[0]
            worker.head_since = time.monotonic()
            if follower in self._timed:
                self._start_clock(follower)
        if member.run.is_chain:
            self.scheduler.released(member.entry, worker)
        else:
            self._pacing.note(fields[5])
            self.scheduler.answered(member.entry, worker)
            self.scheduler.depth = self._pacing.depth
        self._end_member(member)

    def _label(self, member: Member) -> str:
        return stage_label(self.stages[member.stage_num], member.stage_num)

    # -- workers: work taken back from behind a run that turned out long

    def _take_back_held_up(self) -> None:
        now = time.monotonic()
        for worker in self.scheduler.held_up():
            if now - worker.head_since < self._pacing.hold_up_s:
                continue
            count = worker.take_tickets_back()
            if not count:  # it has just gone on by itself, the answer is on its way
                worker.head_since = now
                continue
            worker.num_taken_back += count
            for _ in range(count):
                member = worker.queue.pop()
                self._timed.discard(member)
            self._pacing.reset()
            self.scheduler.depth = 1
            self.scheduler.taken_back(worker, count)

    def _on_dropped(self, worker: Worker) -> None:
        worker.num_taken_back -= 1
        if not worker.num_taken_back:
            self.scheduler.confirmed(worker)

    # -- workers: their end

    def _on_stream_ended(self, worker: Worker) -> None:
        """The socket says it is over; only the pidfd says that the process is."""
        self._unwatch(worker.channel.fileno())
        if worker.pid is None:
            return  # never came to life: the template will tell
        if worker.pidfd is None:
            self._bury(worker)
            return
        if not worker.is_ending and worker.init_failure is None and worker.is_ready:
            worker.kill()

    def _on_worker_gone(self, worker: Worker) -> None:
        assert self.pool is not None
        if not worker.channel.is_closed and worker.channel.fileno() in self._handlers:
            self._read_channel(worker)  # what it said before it died counts
        self._bury(worker)

    def _bury(self, worker: Worker) -> None:
        """Its process has ended: fail what it had begun, hand out again what it had not, forget it."""
        assert self.pool is not None
        started = worker.started_seq
        for owned in (worker.channel, worker.pidfd):
            if owned is not None and not (owned is worker.channel and worker.channel.is_closed):
                self._unwatch(owned.fileno())
        exitcode = self.pool.bury(worker)
        if not worker.is_ready:
            self.scheduler.worker_failed()
            if not self._is_stopping or not self.scheduler.is_empty:
                self._count_stillborn(describe_end(worker.pid, exitcode), worker.init_failure)
            return
        self.scheduler.worker_lost(worker)
        members = list(worker.queue)
        worker.queue.clear()
        again: list[Entry] = []
        for member in members:
            self._timed.discard(member)
            entry = member.entry
            is_first = member is members[0]
            if is_first and (member.seq == started or member.run.is_chain or member.killed_for is not None):
                member.failure = self._death_of(member, worker, exitcode)
                self._end_member(member)
            elif entry.num_free_restarts < _MAX_FREE_RESTARTS or not is_first:
                entry.num_free_restarts += is_first
                again.append(entry)
            else:
                member.failure = self._death_of(member, worker, exitcode)
                self._end_member(member)
        self.scheduler.requeue(again)

    def _death_of(self, member: Member, worker: Worker, exitcode: int | None) -> BaseException:
        if member.killed_for is not None:
            return member.killed_for
        started_stage = worker.started_stage
        if worker.started_seq == member.seq and member.first <= started_stage < member.first + member.count:
            member.stage_num = started_stage
        return PipelineWorkerDied(
            self._label(member),
            member.stage_num,
            worker.pid,
            exitcode,
            describe_item(member.entry.item),
            retried=member.entry.attempt,
        )

    # -- the end of members and runs

    def _end_member(self, member: Member) -> None:
        run = member.run
        member.is_done = True
        run.num_pending -= 1
        is_failed = member.failure is not None or (member.answer is not None and member.answer.is_failed)
        if is_failed and run.first_failure is None:
            run.first_failure = member
            if run.num_pending:
                run.trigger = time.monotonic() + self.grace_s
        if run.num_pending:
            return
        if run.is_chain or not run.num_workers:
            self._chains.discard(run)
            self._dispatcher.release_interrupt(run)
            self.scheduler.run_ended(member.entry)
        entry = member.entry
        if entry.is_ended:  # it was given up while this ran
            self.scheduler.done(entry)
        elif self._completion.conclude(entry, run):
            self.advance(entry)
        else:
            assert entry.run is not None
            self.scheduler.want(entry, entry.run.num_workers, entry.run.is_chain)

    # -- deadlines

    def _meet_deadlines(self) -> None:
        if self._retry_start_at is not None and time.monotonic() >= self._retry_start_at:
            self._retry_start_at = None
            self.scheduler.can_grow = True
        if self._terminate_at is not None and time.monotonic() >= self._terminate_at:
            self._terminate_at = None
            self._begin_terminate()
        if self._timed:
            self._end_overdue()
        if self._chains:
            self._end_survivors()

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for member in list(self._timed):
            if member.deadline is None or member.deadline > now or member.worker is None:
                continue
            self._timed.discard(member)
            limit = self.stages[member.first].timeout
            member.killed_for = PipelineStageTimeout(
                self._label(member),
                member.stage_num,
                member.worker.pid,
                limit,
                describe_item(member.entry.item),
                retried=member.entry.attempt,
            )
            member.worker.kill()

    def _end_survivors(self) -> None:
        """End what is left of chains that failed ``grace_s`` ago."""
        now = time.monotonic()
        for run in [run for run in self._chains if run.trigger is not None and run.trigger <= now]:
            run.trigger = None
            self._dispatcher.interrupt(run)
            for member in run.members:
                if not member.is_done and member.worker is not None:
                    member.worker.kill()

    # -- sending

    def _send_outboxes(self) -> None:
        for worker in self._dispatcher.take_senders():
            pieces, worker.outbox = worker.outbox, []
            if worker.channel.is_closed:
                continue
            try:
                worker.channel.send(pieces)
            except ChannelClosed:
                continue  # its end is seen on its pidfd, and what it held is dealt with there
            if worker.channel.wants_to_send and worker.channel.fileno() in self._handlers:
                self._epoll.modify(worker.channel.fileno(), _POLL_IN | _POLL_OUT)

    # -- the end of all

    def _begin_stop(self, cancel_pending: bool) -> None:
        self._is_stopping = True
        if cancel_pending:
            for entry in self.scheduler.cancel_new():
                entry.future.cancel()
                entry.future.set_running_or_notify_cancel()
                self._forget(entry)

    def _begin_terminate(self) -> None:
        self.was_terminated = True
        self._begin_stop(cancel_pending=True)
        for entry in self.scheduler.cancel_ready():
            self._give_up(entry)
            self.scheduler.done(entry)
        for entry in list(self._entries):
            self._give_up(entry)
        for run in self._chains:
            self._dispatcher.interrupt(run)
        self._kill_workers()

    def _give_up(self, entry: Entry) -> None:
        stage = ""
        if entry.run is not None:
            number = entry.run.members[0].stage_num
            stage = stage_label(self.stages[number], number)
        entry.item.append_exception(PipelineTerminated(stage, describe_item(entry.item)))
        self.end_entry(entry)

    def _kill_workers(self) -> None:
        for worker in list(self.pool.workers.values()) if self.pool is not None else ():
            worker.kill()

    def _end_workers(self) -> None:
        """Have all workers end normally, then SIGTERM, then SIGKILL, each with its share of ``grace_s``."""
        if self.pool is None:
            return
        import signal

        for worker in list(self.pool.workers.values()):
            if not worker.is_ending:
                self.pool.ask_to_end(worker)
        for signum in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + self.grace_s
            while self.pool.workers and time.monotonic() < deadline:
                for fd, events in self._epoll.poll(max(0.0, deadline - time.monotonic())):
                    handler = self._handlers.get(fd)
                    if handler is not None:
                        handler(events)
            for worker in list(self.pool.workers.values()):
                self.note_anomaly(
                    TimeoutError(f"worker {worker.pid} did not end within {self.grace_s} s"),
                    f"a worker was ended by {signum.name}",
                )
                worker.kill(signum)
        while self.pool.workers:
            for fd, events in self._epoll.poll():
                handler = self._handlers.get(fd)
                if handler is not None:
                    handler(events)

    def _fail_all(self, error: PipelineBroken) -> None:
        for entry in list(self._entries):
            entry.item.append_exception(error)
            self.end_entry(entry)

    def _close(self) -> None:
        self._is_closed = True
        if self.pool is not None:
            for worker in list(self.pool.workers.values()):
                worker.kill()
                self.pool.bury(worker)
            self.pool.close(self.grace_s)
        self._handlers.clear()
        disown(self._epoll)
        self._epoll.close()
        self._wake.close()


def describe_end(pid: int | None, exitcode: int | None) -> str:
    """How a worker that was never ready ended."""
    import signal

    who = "a worker" if pid is None else f"worker {pid}"
    if exitcode is None:
        return f"{who} ended, its exit status is unknown"
    if exitcode < 0:
        try:
            return f"{who} was killed by {signal.Signals(-exitcode).name}"
        except ValueError:
            return f"{who} was killed by signal {-exitcode}"
    return f"{who} exited with status {exitcode}"
