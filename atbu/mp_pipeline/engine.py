"""The thread that runs a pipeline: everything that happens comes in here, is decided by the scheduler, and goes out.

    submit(), thread stages ──▶ inbox ──┐                       ┌──▶ workers (frames, descriptors)
    workers' answers ──▶ channels ──────┤                       │
    workers' ends ──▶ pidfds ───────────┼──▶ Scheduler ─────────┼──▶ threads
    template's reports ─────────────────┤    (events in,        │
    deadlines ──────────────────────────┘     commands out)     └──▶ futures

The loop waits on all of these together, so no death and no answer is waited for alone. User code that belongs in
the parent (is_for_stage, stage_complete, futures' callbacks) runs on this thread, one call at a time.

Its parts: Items (from arrival to result), Workforce (the workers), Answers (of theirs), Dispatcher (puts a run to
work), Deadlines.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from .answers import Answers
from .deadlines import Deadlines
from .dispatch import Dispatcher
from .exception import ANOMALY_KIND_EXCEPTION, Anomaly, PipelineBroken
from .fork_guard import OwnedDescriptor, disown, own
from .items import Items, refuse_late
from .loop_thread import LoopThread
from .runs import Entry, Member
from .scheduler import Admit, Grow, Scheduler, Start
from .stage import PipelineStage, stage_label
from .stage_run import Outcome
from .thread_runner import ThreadRunner
from .workers import Worker, WorkerPool
from .workforce import Workforce

# poll() and epoll take milliseconds as an int. Who waits longer waits again.
LONGEST_WAIT_S = 1_000_000.0
_POLL_IN = select.EPOLLIN
_POLL_OUT = select.EPOLLOUT


class Engine:
    """All of a running pipeline but its public face. Belongs to its own thread once :meth:`start` was called.

    Args:
        name: The pipeline's.
        stages: The pipeline's list; it may grow.
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
        self.threads = threads
        self.grace_s = grace_s
        self.is_serial = pool is None
        self.anomalies: list[Anomaly] = []
        #: Why no worker can be had, once that is so.
        self.broken: PipelineBroken | None = None
        self.was_terminated = False
        #: Called with each entry that has left, before its future is completed.
        self.on_ended: Callable[[Entry], None] = lambda entry: None
        self._inbox: deque[Callable[[], None] | Entry] = deque()
        self._is_asleep = False
        #: The pipeline object is gone: nobody else will close what is left.
        self.is_abandoned = False
        #: The program has called shutdown(): at its exit its items are finished.
        self.is_shut_down = False
        self._is_stopping = False
        self._is_closed = False
        self.loop = LoopThread(f"MpPipeline-{name}")
        self._terminate_at: float | None = None
        self._wake = OwnedDescriptor(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        try:
            self._epoll = own(select.epoll())
        except BaseException:
            self._wake.close()
            raise
        self._handlers: dict[int, Callable[[int], None]] = {}
        self.watch(self._wake.fileno(), self._on_wake)
        self.items = Items(self)
        self.deadlines = Deadlines(self)
        self.dispatcher = Dispatcher(self)
        self.answers = Answers(self)
        self.workforce = None if pool is None else Workforce(self, pool)

    # -- called from any thread

    def start(self) -> None:
        """Start the thread. Raises RuntimeError when there can be none, and what a signal's handler raises."""
        self.loop.start(self._run)

    @property
    def thread(self) -> threading.Thread | None:
        """The engine's own thread, once it was started."""
        return self.loop.thread

    def start_workers(self, count: int) -> None:
        """Ask for workers from the caller's thread, before ours is there: it would have to wait for the other."""
        if self.workforce is not None:
            self.scheduler.expect_workers(count)
            self.workforce.grow(count)

    def post(self, call: Callable[[], None] | Entry) -> None:
        """Have the engine's thread do ``call`` soon, or take in an item."""
        self._inbox.append(call)
        if self._is_closed:
            self._refuse_left()
        elif self._is_asleep:
            try:
                # No Python call between the two, where a signal could come in: who posts in its handler, or after its
                # exception, would find a loop that sleeps and is taken for awake.
                self._is_asleep = False
                os.eventfd_write(self._wake.number, 1)
            except (OSError, ValueError):
                return  # closed: the loop has ended, or is not in this process, a forked copy of its own

    def stop(self, cancel_pending: bool) -> None:
        """Have the loop end: after all items, or with those cancelled that have not been started."""
        self.post(lambda: self._begin_stop(cancel_pending))

    def terminate(self) -> None:
        """Have the loop end now: nothing new starts, workers are killed, what runs fails."""
        self.post(self._begin_terminate)

    def end_at_exit(self) -> None:
        """The program ends: pending items are cancelled, running ones get ``grace_s``."""
        self.is_shut_down = True
        self.stop(cancel_pending=True)
        self.post(self._set_exit_deadline)

    def close_unstarted(self) -> bool:
        """Close what the constructor opened, where the thread was never started; says whether it had been open."""
        if self._is_closed:
            return False
        self._close()
        return True

    # -- the loop

    def _run(self) -> None:
        try:
            while not self._is_over():
                self._turn()
            if self.workforce is not None:
                self.workforce.end_all()
        except BaseException as ex:  # noqa: BLE001 - a defect of ours must not leave callers waiting for ever
            self.note_anomaly(ex, "the pipeline's thread failed")
            self.broken = self.broken or PipelineBroken(f"the pipeline's own thread failed: {ex!r}")
        finally:
            self.items.fail_all(self.broken or PipelineBroken("the pipeline has ended"))
            self._close()
            self._refuse_left()
            if not self.threads.close(self.grace_s if self.is_abandoned else 0.0) and self.is_abandoned:
                self.threads.slots.close()
            for part in (self.items, self.deadlines, self.dispatcher, self.answers, self.workforce):
                if part is not None:  # it knows us and we know it: undone, nothing waits for the garbage collector
                    vars(part).pop("_engine", None)

    def _refuse_left(self) -> None:
        """The loop has ended: fail what was submitted too late for it, or not taken in when it failed."""
        while self._inbox:
            with contextlib.suppress(IndexError):  # another thread was faster
                what = self._inbox.popleft()
                if type(what) is Entry:
                    refuse_late(what, self.broken or PipelineBroken("the pipeline has ended"))

    def _turn(self) -> None:
        """Wait, take in what came, decide, send."""
        self._is_asleep = True
        # looked at after the flag is up: who posts meanwhile wakes us
        self.handle_events(0.0 if self._inbox else self._wait_s())
        self._is_asleep = False
        inbox = self._inbox
        # what is posted meanwhile waits for the next turn, so that a busy submitter starves nobody
        for _ in range(len(inbox)):
            what = inbox.popleft()
            if type(what) is Entry:
                self.items.take(what)
            else:
                what()  # type: ignore[operator] # the checker does not narrow by type()
        self._meet_deadlines()
        self._decide()
        self._send()

    def handle_events(self, timeout_s: float) -> None:
        """Wait for events, -1 for ever, and handle them."""
        if self.deadlines.timed:
            ready = self.deadlines.poll(self._epoll, timeout_s)
        else:
            ready = self._epoll.poll(timeout_s if timeout_s < LONGEST_WAIT_S else LONGEST_WAIT_S)
        self._is_asleep = False
        handlers = self._handlers
        for fd, events in ready:
            handler = handlers.get(fd)
            if handler is not None:  # an earlier one may have closed it
                handler(events)

    def _is_over(self) -> bool:
        if self.was_terminated:  # threads cannot be ended, so they are not waited for
            return not self._inbox and (self.workforce is None or self.workforce.is_empty)
        return self._is_stopping and not self._inbox and self.scheduler.is_empty

    def _wait_s(self) -> float:
        """Seconds until something is due; -1: until something happens."""
        due = list(self.deadlines.due()) if self.deadlines.is_watching else []
        if self._terminate_at is not None:
            due.append(self._terminate_at)
        if self.workforce is not None:
            due.extend(self.workforce.held_up_at())
            if self.workforce.retry_at is not None:
                due.append(self.workforce.retry_at)
        return max(0.0, min(due) - time.monotonic()) if due else -1

    def _meet_deadlines(self) -> None:
        if self._terminate_at is not None and time.monotonic() >= self._terminate_at:
            self._terminate_at = None
            self._begin_terminate()
        if self.deadlines.is_watching:
            self.deadlines.meet()
        if self.workforce is not None:
            self.workforce.try_again()
            self.workforce.take_back_held_up()

    def _decide(self) -> None:
        if self.was_terminated:  # what comes back from dying workers has been given up
            return
        scheduler, dispatcher = self.scheduler, self.dispatcher
        while commands := scheduler.decide():
            if type(commands[-1]) is Admit:
                self._send()  # what follows asks the user's code, which takes the time it takes
            for command in commands:
                if type(command) is Start:
                    item, workers, is_queued = command
                    dispatcher.start(item, workers, is_queued)
                elif type(command) is Admit:
                    self.items.admit(command.item)
                elif type(command) is Grow:
                    assert self.workforce is not None
                    self.workforce.grow(command.num_workers)

    def _send(self) -> None:
        for worker in self.dispatcher.send():
            self.watch_writable(worker.channel.fileno(), True)

    # -- what the parts use

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        """Have ``handler`` called with the events when ``fd`` is readable or has ended; once is enough."""
        if fd not in self._handlers:
            self._handlers[fd] = handler
            self._epoll.register(fd, _POLL_IN)

    def watch_writable(self, fd: int, is_wanted: bool) -> None:
        """Call the handler of ``fd`` also when there is room to send."""
        if fd in self._handlers:
            self._epoll.modify(fd, _POLL_IN | _POLL_OUT if is_wanted else _POLL_IN)

    def unwatch(self, fd: int) -> None:
        """Before ``fd`` is closed. Twice is fine."""
        if self._handlers.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def is_watched(self, fd: int) -> bool:
        return fd in self._handlers

    def label(self, member: Member) -> str:
        """How messages call the stage that a member has come to."""
        return stage_label(self.stages[member.stage_num], member.stage_num)

    def note_anomaly(self, ex: BaseException, message: str) -> None:
        """Something went wrong beside the items."""
        self.anomalies.append(Anomaly(kind=ANOMALY_KIND_EXCEPTION, exception=ex, message=message))

    def give_up(self, error: PipelineBroken) -> None:
        """No worker can be had: everything that is not running fails, and so does what comes."""
        self.broken = self.broken or error
        self.items.fail_waiting(self.broken)

    def start_on_thread(self, member: Member, job: Callable[[], Outcome]) -> None:
        """Have a thread do a member; its outcome comes back by the inbox."""

        def run() -> None:
            outcome = job()
            self.post(lambda: self._on_thread_done(member, outcome))

        self.threads.run(run)

    def _on_thread_done(self, member: Member, outcome: Outcome) -> None:
        member.answer, failure, member.failed_at_ns = outcome
        member.failure = None if failure is None else self.items.located(member, failure)
        self.items.end_member(member)

    def give_back_if_one_died(self, entry: Entry, workers: Sequence[Worker]) -> bool:
        """Before a chain starts: bury those of its workers that died idle, and have it wait for others.

        What dies later costs the item, for the chain's other stages cannot be started twice.
        """
        dead = [worker for worker in workers if worker.is_gone()]
        if not dead:
            return False
        assert self.workforce is not None
        for worker in workers:
            if worker in dead:
                self.workforce.on_gone(worker)
            else:
                self.scheduler.released(entry, worker)
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
            self.items.fail_member(member, failure)

    # -- the end

    def _on_wake(self, events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake.fileno())

    def _begin_stop(self, cancel_pending: bool) -> None:
        self._is_stopping = True
        if cancel_pending:
            self.items.cancel_new()

    def _begin_terminate(self) -> None:
        self.was_terminated = True
        self.items.give_up_all()
        self.deadlines.end_chains()
        if self.workforce is not None:
            self.workforce.kill_all()

    def _set_exit_deadline(self) -> None:
        self._terminate_at = time.monotonic() + self.grace_s

    def _close(self) -> None:
        self._is_closed = True
        if self.workforce is not None:
            self.workforce.close()
        self._handlers.clear()
        disown(self._epoll)
        self._epoll.close()
        self._wake.close()
