"""The start of a worker process: what it is told, how it ends with the parent, and its initialiser."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any

from . import channel as wire
from .channel import ChannelClosed, WorkerChannel
from .counters import set_current_slot
from .fork_guard import OwnedDescriptor
from .shared_slots import open_slot
from .stage_run import describe_failure
from .worker_loop import WorkerLoop

# The parent is gone, nobody reads it.
_EXIT_PARENT_GONE = 1
# fcntl.h on Linux; Python's module does not have it.
_F_SETSIG = 10


class InheritedDescriptor:
    """A descriptor in the arguments of a process that multiprocessing starts."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> Any:
        return _inherit, (reduction.DupFd(self.fd),)


def _inherit(duplicate: Any) -> InheritedDescriptor:
    return InheritedDescriptor(duplicate.detach())


class WorkerSpec:
    """All a worker is told at its start. The descriptors are the worker's own from then on.

    Args:
        fds: Stream socket, descriptor socket, read end of the lifeline, ticket eventfd, shared slots.
        slot: Its number in the shared slots.
        counter_names: The pipeline's counters.
        log_level: The level of the parent's root logger.
        initializer: Called with ``initargs`` before the first item.
        initargs: Its arguments.
    """

    def __init__(
        self,
        fds: tuple[InheritedDescriptor, ...],
        slot: int,
        counter_names: tuple[str, ...],
        log_level: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
    ) -> None:
        self.fds = fds
        self.slot = slot
        self.counter_names = counter_names
        self.log_level = log_level
        self.initializer = initializer
        self.initargs = initargs


def run_worker(spec: WorkerSpec) -> None:
    """The target of a worker process."""
    stream, descriptors, lifeline, ticket, slots = (inherited.fd for inherited in spec.fds)
    end_with_parent(lifeline)
    leave_signals_to_the_parent()
    channel = WorkerChannel(socket.socket(fileno=stream), socket.socket(fileno=descriptors))
    worker = WorkerLoop(channel, OwnedDescriptor(ticket), open_slot(slots, spec.slot), spec.counter_names)
    os.close(slots)
    set_current_slot(worker.words, spec.counter_names)
    handler = worker.relay_log_records(spec.log_level)
    if spec.initializer is not None:
        from . import mp_global  # costs milliseconds, and only an initialiser can ask for it

        mp_global._worker_log_handler = handler
        try:
            spec.initializer(*spec.initargs)
        except BaseException as ex:
            worker.send(wire.frame(wire.INIT_FAILED, os.getpid(), describe_failure(ex).encode("utf-8", "replace")))
            raise SystemExit(1) from ex
    try:
        worker.send(wire.frame(wire.READY, os.getpid()))
        worker.serve()
    except (ChannelClosed, ConnectionResetError):  # the latter where it had not read all we said
        return  # the parent has closed our channel: it wants no more of us


def end_with_parent(lifeline: int) -> None:
    """Have the kernel end this process when the parent is gone, whatever this process is doing then.

    The parent holds the only write end of the pipe. When it closes, the kernel sends us the signal we have asked
    for in place of SIGIO: SIGKILL, which no stage can ignore. No thread of ours, no lock and no Python code is
    involved. (prctl's PR_SET_PDEATHSIG fires for the thread that forked us, and not at all under a forkserver.)
    """
    OwnedDescriptor(lifeline)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(lifeline, 0)
    if poll.poll(0):  # it went before we had asked
        os._exit(_EXIT_PARENT_GONE)


def _no_op(signum: int, frame: Any) -> None:
    """Only the parent acts on it. A handler, not SIG_IGN, which programs that a stage starts would inherit."""


def leave_signals_to_the_parent() -> None:
    """What the terminal sends to the whole group is the parent's to act on; the rest is at its default."""
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _no_op)
    for signum in (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
