"""The start of a worker process: what it is told, how it ends with the parent, and its initialiser."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any

from . import channel as wire
from .channel import ChannelClosed, WorkerChannel
from .child_signals import leave_signals_to_the_parent
from .counters import set_current_slot
from .fork_guard import OwnedDescriptor
from .lifeline import end_with_parent
from .shared_slots import open_slot
from .stage_run import describe_failure
from .worker_loop import WorkerLoop


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
