"""The parent's side of its workers: start them, know when they are gone and why, end them."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Iterable
from multiprocessing.process import BaseProcess
from typing import Any

from . import channel as wire
from .channel import ChannelClosed, ParentChannel
from .fork_guard import OwnedDescriptor
from .shared_slots import POSITION_SEQ, POSITION_STAGE, SharedSlots
from .start_methods import (
    Initializer,
    Template,
    choose_start_method,
    refuse_what_cannot_travel,
    stage_modules,
    start_by_context,
)

# How long the one who reaps a dead worker may take to tell its exit status. It needs milliseconds.
_STATUS_WAIT_S = 1.0


class Worker:
    """One worker process as the parent sees it; made by :class:`WorkerPool`."""

    def __init__(self, worker_id: int, channel: ParentChannel, slot: int, words: memoryview) -> None:
        self.id = worker_id
        self.channel = channel
        self.slot = slot
        self._words = words
        self.lifeline: OwnedDescriptor | None = None
        self.ticket: OwnedDescriptor | None = None
        self.pid: int | None = None
        self.pidfd: OwnedDescriptor | None = None
        self._death: select.poll | None = None
        self.process: BaseProcess | None = None
        self.is_ready = False
        #: It was told to end, or killed; its end is no surprise.
        self.is_ending = False
        #: A kill that was asked for before its pid was known.
        self._is_kill_due = False
        #: It had closed its socket, though it went on, and we have ended it.
        self.has_hung_up = False
        #: Why the system gave it no process, where the template said so.
        self.refusal: str | None = None
        #: The traceback of its initialiser, when that raised.
        self.init_failure: str | None = None
        #: What it was given and has not answered, oldest first (the engine's members).
        self.queue: deque[Any] = deque()
        #: The stage pickles it has, by the number of the stage, or the first and how many.
        self.known_stages: dict[int | tuple[int, int], bytes] = {}
        #: Frames to send when the engine has decided all it can.
        self.outbox: list[bytes] = []
        #: Tickets for the runs in the outbox.
        self.num_tickets_due = 0
        #: When the first of its queue came first, monotonic seconds.
        self.head_since = 0.0
        #: Runs taken back that it has still to pass over.
        self.num_taken_back = 0
        self.last_seq = 0

    @property
    def started_seq(self) -> int:
        """The sequence number of the run it started last."""
        return self._words[POSITION_SEQ]

    @property
    def started_stage(self) -> int:
        """The stage it was in when it was last seen to start one."""
        return self._words[POSITION_STAGE]

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send it a signal; it is gone only when its pidfd says so."""
        self.is_ending = True
        if self.pidfd is None:
            self._is_kill_due = True
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd.fileno(), signum)

    def is_gone(self, within_ms: int = 0) -> bool:
        """Whether the process has ended."""
        return self._death is not None and bool(self._death.poll(within_ms))

    def came_to_life(self, pid: int, pidfd: int) -> None:
        """Its process exists. Told by the template or by itself, whoever is faster; the second is ignored."""
        if self.pidfd is not None:
            os.close(pidfd)
            return
        self.pid = pid
        self.pidfd = OwnedDescriptor(pidfd)
        self._death = select.poll()
        self._death.register(pidfd, select.POLLIN)
        if self._is_kill_due:
            self.kill()

    def give_tickets(self, count: int) -> None:
        """Let it start ``count`` more of the runs that are queued behind another."""
        assert self.ticket is not None
        os.eventfd_write(self.ticket.fileno(), count)

    def take_tickets_back(self) -> int:
        """Take what it has not used: so many of its last runs will not be started."""
        assert self.ticket is not None
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                os.eventfd_read(self.ticket.fileno())
                count += 1
        return count

    def close(self) -> None:
        """Close all descriptors of it."""
        self.channel.close()
        for owned in (self.lifeline, self.ticket, self.pidfd):
            if owned is not None:
                owned.close()


class WorkerPool:
    """Starts workers and tells what became of them. Used by the engine's thread only, but for the constructor.

    Args:
        initializer: Called in each worker first, with ``initargs``.
        initargs: Its arguments.
        name: The pipeline's.
        counter_names: The pipeline's counters.
        template: One that was forked before, with the same name and no initialiser; ours from now on.

    Raises:
        InvalidFunctionArgument: the initialiser cannot reach a worker.
    """

    def __init__(
        self,
        initializer: Initializer,
        initargs: tuple[Any, ...],
        name: str,
        counter_names: tuple[str, ...],
        template: Template | None = None,
    ) -> None:
        self.method = "template" if template is not None else choose_start_method()
        refuse_what_cannot_travel(initializer, initargs, self.method)
        self._initializer = initializer
        self._initargs = initargs
        self._name = name
        self._counter_names = counter_names
        self.slots = SharedSlots()
        self.workers: dict[int, Worker] = {}
        self._next_id = 1
        self._exit_codes: dict[int, int] = {}
        self._news: list[tuple[Worker, bool]] = []
        if template is None and self.method == "template":
            try:
                template = Template(initializer, initargs, name)
            except BaseException:
                self.slots.close()
                raise
        if template is not None:
            template.is_taken = True
        self.template = template

    def start(self, stages: Iterable[object]) -> Worker:
        """Start a worker; it is usable once its READY has come.

        Raises:
            OSError: no process or descriptor can be had; other errors of the start method.
        """
        worker_id = self._next_id
        self._next_id += 1
        slot = self.slots.take()
        child_fds: list[int] = []
        worker: Worker | None = None
        try:
            worker = self._equip(worker_id, slot, child_fds)
            arguments = (slot, self._counter_names, logging.root.level)
            if self.template is not None and self.template.is_alive:
                self.template.request_worker(worker_id, arguments, child_fds)
            else:
                self._start_by_context(worker, arguments, child_fds, stages)
        except BaseException:
            if worker is not None:
                worker.close()
            self.slots.give_back(slot)
            raise
        finally:
            for fd in child_fds:
                os.close(fd)
        self.workers[worker_id] = worker
        return worker

    def _equip(self, worker_id: int, slot: int, child_fds: list[int]) -> Worker:
        """Make what joins the two. The worker's ends go into ``child_fds`` in the order of WorkerSpec.fds."""
        stream, their_stream = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        child_fds.append(their_stream.detach())
        worker = None
        try:
            descriptors, their_descriptors = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            child_fds.append(their_descriptors.detach())
            worker = Worker(worker_id, ParentChannel(stream, descriptors), slot, self.slots.slot(slot))
            lifeline_r, lifeline_w = os.pipe()
            child_fds.append(lifeline_r)
            worker.lifeline = OwnedDescriptor(lifeline_w)
            ticket = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            worker.ticket = OwnedDescriptor(ticket)
            child_fds.append(os.dup(ticket))
            child_fds.append(os.dup(self.slots.fileno()))
        except BaseException:
            if worker is not None:
                worker.close()
            stream.close()
            raise
        return worker

    def _start_by_context(
        self, worker: Worker, arguments: tuple[Any, ...], child_fds: list[int], stages: Iterable[object]
    ) -> None:
        method = "forkserver" if self.method == "template" else self.method
        process = start_by_context(
            method,
            f"MpPipeline-{self._name}-worker-{worker.id}",
            stage_modules(stages),
            arguments,
            child_fds,
            self._initializer,
            self._initargs,
        )
        worker.process = process
        assert process.pid is not None
        try:
            worker.came_to_life(process.pid, os.pidfd_open(process.pid))
        except ProcessLookupError:  # ended and reaped by the forkserver already: its socket will tell
            worker.pid = process.pid

    def read_template(self) -> None:
        """Take the template's reports; what they mean for workers is told by :meth:`take_news`.

        A template that is gone is closed; workers are then started by a forkserver, and those it had been asked
        for are reported as failed.
        """
        assert self.template is not None
        try:
            while (got := self.template.receive()) is not None:
                self._take_report(*got)
        except EOFError:
            self.template.close(0.0)
            unborn = [worker for worker in self.workers.values() if worker.pid is None and not worker.is_ready]
            self._news.extend((worker, False) for worker in unborn)

    def take_news(self) -> list[tuple[Worker, bool]]:
        """The workers that came to life (True) or could not be started (False) since this was asked last."""
        news, self._news = self._news, []
        return news

    def _take_report(self, report: tuple[Any, ...], fds: list[int]) -> None:
        kind, key, *rest = report
        if kind == "exited":
            self._exit_codes[key] = rest[0]
            return
        worker = self.workers.get(key)
        if kind == "started" and worker is not None and fds:
            worker.came_to_life(rest[0], fds[0])
            self._news.append((worker, True))
            return
        for fd in fds:
            os.close(fd)
        if kind == "started" and worker is not None and worker.pidfd is not None:
            return  # it was faster than this report, may be at work, and needs no second descriptor
        if worker is not None:
            worker.refusal = rest[0] if kind == "failed" else "its pidfd was lost on the way (too many open files?)"
            self._news.append((worker, False))

    def bury(self, worker: Worker) -> int | None:
        """Forget a worker whose process has ended; returns its exit code (negative: a signal), None if unknown."""
        exitcode = self._exit_code(worker)
        self.workers.pop(worker.id, None)
        worker.close()
        self.slots.give_back(worker.slot)
        return exitcode

    def _exit_code(self, worker: Worker) -> int | None:
        if worker.process is not None:
            worker.process.join(_STATUS_WAIT_S)
            exitcode = worker.process.exitcode
            if exitcode is not None:
                worker.process.close()
            # 255 is what multiprocessing makes of a forkserver that could not tell.
            return None if exitcode == 255 and self.method != "spawn" else exitcode
        if worker.pid is None or self.template is None:
            return None
        deadline = time.monotonic() + _STATUS_WAIT_S
        while worker.pid not in self._exit_codes and self.template.is_alive:
            try:
                got = self.template.receive(max(0.0, deadline - time.monotonic()))
            except EOFError:
                break  # the next read_template() sees the same and acts on it
            if got is None:
                break
            self._take_report(*got)
        return self._exit_codes.pop(worker.pid, None)

    def ask_to_end(self, worker: Worker) -> None:
        """Have it end normally once it has done what it was given."""
        worker.is_ending = True
        try:
            worker.channel.send([wire.frame(wire.EXIT)])
        except ChannelClosed:
            return  # it is ending already

    def close(self, grace_s: float) -> None:
        """End the template; all workers are gone."""
        if self.template is not None and self.template.is_alive:
            self.template.close(grace_s)
        self.slots.close_descriptor()


def describe_end(pid: int | None, exitcode: int | None) -> str:
    """How a worker ended, for messages."""
    who = "a worker" if pid is None else f"worker {pid}"
    if exitcode is None:
        return f"{who} ended, its exit status is unknown"
    if exitcode >= 0:
        return f"{who} exited with status {exitcode}"
    try:
        return f"{who} was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"{who} was killed by signal {-exitcode}"
