"""The template: a process forked while the parent has one thread, which forks the workers.

    parent ── ("start", id, arguments) + descriptors ──▶ template ── fork ──▶ worker
    parent ◀── ("started", id, pid) + pidfd ──────────── template
    parent ◀── ("exited", pid, exit code) ────────────── template (it is their parent, so only it can tell)

A fork of the parent itself would be unsafe as soon as the pipeline's own thread runs; the template never has
more than one. It has the program's modules and the initialiser's arguments as they were at construction. What only
workers need it imports itself, while the parent goes on, and they have it from there.
"""

from __future__ import annotations

import array
import contextlib
import gc
import os
import pickle
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from .channel import MAX_DESCRIPTORS
from .child_signals import leave_signals_to_the_parent
from .fork_guard import OwnedDescriptor, disown, own

# A request or report is a small tuple, but for the names of counters, which may be long; descriptors do not count.
# Less than the kernel lets a packet have (net.core.wmem_default), and than malloc asks the kernel for (128 KiB).
_MESSAGE_BYTES = 96 * 1024


def is_single_threaded() -> bool:
    """Whether the kernel knows of one thread only in this process, threads of C libraries included."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


class Template:
    """The parent's side of the template process. Forks it at once.

    Args:
        initializer: What each worker calls first; inherited, so it need not be picklable.
        initargs: Its arguments, inherited too.
        name: The pipeline's, for the names of the workers.
        prepare: Called in the template before it forks its first worker, for imports. It must start no thread, and
            nothing depends on it: what it raises is left for the workers to find.
    """

    def __init__(
        self,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        name: str,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        parents, templates = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for stream in (sys.stdout, sys.stderr):
            # else what is buffered now would be written once more by every worker
            if stream is not None:
                with contextlib.suppress(AttributeError, OSError, ValueError):  # it may be any object with a write()
                    stream.flush()
        parent_pid = os.getpid()
        own(parents)
        try:
            self.pid = os.fork()
        except BaseException:
            disown(parents)
            parents.close()
            templates.close()
            raise
        if self.pid == 0:
            _serve_and_exit(templates, parent_pid, initializer, initargs, name, prepare)
        templates.close()
        self._socket = parents
        try:
            self._pidfd = OwnedDescriptor(os.pidfd_open(self.pid))
        except BaseException:
            disown(parents)
            parents.close()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)  # it ends with its socket
            raise
        self.is_alive = True
        #: A pipeline has it, and ends it.
        self.is_taken = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def request_worker(self, worker_id: int, arguments: tuple[Any, ...], fds: list[int]) -> None:
        """Ask for a worker; the answer comes by :meth:`receive`. Raises OSError when the template is gone."""
        message = pickle.dumps(("start", worker_id, arguments))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        self._socket.sendmsg([message], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def receive(self, timeout_s: float = 0.0) -> tuple[tuple[Any, ...], list[int]] | None:
        """The next report and its descriptors, or None when there is none in time. EOFError: the template is gone."""
        if not is_readable(self._socket.fileno(), timeout_s):
            return None
        try:
            message, fds = _receive(self._socket)
        except OSError as ex:
            raise EOFError from ex
        if not message:
            raise EOFError
        return pickle.loads(message), fds

    def close(self, grace_s: float) -> None:
        """End the template, which has no workers any more, and reap it; any number of times."""
        self.is_alive = False
        disown(self._socket)
        self._socket.close()
        if self._pidfd.fileno() < 0:
            return
        if not is_readable(self._pidfd.fileno(), grace_s):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd.fileno(), signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # the program has a wait() of its own
            os.waitpid(self.pid, 0)
        self._pidfd.close()


def is_readable(fd: int, timeout_s: float) -> bool:
    """Whether there is something to read in time. Not by select(), which knows no descriptor beyond 1023."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    message, ancillary, _, _ = sock.recvmsg(
        _MESSAGE_BYTES, socket.CMSG_SPACE(MAX_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return message, fds.tolist()


def _serve_and_exit(
    sock: socket.socket,
    parent_pid: int,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    name: str,
    prepare: Callable[[], object] | None,
) -> None:
    """The template process: never returns, whatever happens."""
    status = 1
    try:
        own(sock)
        leave_signals_to_the_parent()
        from . import pipe_io, worker_main  # noqa: F401 - what all workers run, and a parent has no need of

        if prepare is not None:
            with contextlib.suppress(Exception):
                prepare()
        gc.freeze()  # the parent's objects stay in pages shared with the workers
        _TemplateLoop(sock, parent_pid, initializer, initargs, name).run()
        status = 0
    except BaseException:  # noqa: BLE001 - it must not return into the parent's code
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


class _TemplateLoop:
    """Forks workers on request and reports their ends, until the parent is gone."""

    def __init__(
        self,
        sock: socket.socket,
        parent_pid: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        name: str,
    ) -> None:
        self._socket = sock
        self._parent_pid = parent_pid
        self._initializer = initializer
        self._initargs = initargs
        self._name = name
        self._children: dict[int, tuple[int, OwnedDescriptor]] = {}
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def run(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd != self._socket.fileno():
                    self._report_end(fd)
                    continue
                try:
                    message, fds = _receive(self._socket)
                except ConnectionResetError:  # the parent went with reports unread
                    return
                if not message:
                    return
                self._start(pickle.loads(message), fds)

    def _start(self, request: tuple[Any, ...], fds: list[int]) -> None:
        _, worker_id, arguments = request
        try:
            pid = os.fork()
        except OSError as ex:
            self._report(("failed", worker_id, str(ex)), [])
            pid = -1
        if pid == 0:
            self._be_worker(worker_id, arguments, fds)
        for fd in fds:
            os.close(fd)
        if pid < 0:
            return
        pidfd = OwnedDescriptor(os.pidfd_open(pid))
        self._children[pidfd.fileno()] = (pid, pidfd)
        self._poll.register(pidfd.fileno(), select.POLLIN)
        self._report(("started", worker_id, pid), [pidfd.fileno()])

    def _report_end(self, fd: int) -> None:
        pid, pidfd = self._children.pop(fd)
        self._poll.unregister(fd)
        pidfd.close()
        _, status = os.waitpid(pid, 0)
        self._report(("exited", pid, os.waitstatus_to_exitcode(status)), [])

    def _report(self, report: tuple[Any, ...], fds: list[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the parent is gone: run() will see it
            self._socket.sendmsg([pickle.dumps(report)], rights)

    def _be_worker(self, worker_id: int, arguments: tuple[Any, ...], fds: list[int]) -> None:
        """In the forked worker: behave as a process of multiprocessing, then exit."""
        import atexit
        import multiprocessing.util

        from .worker_main import InheritedDescriptor, WorkerSpec, run_worker

        exitcode = 1
        try:
            gc.unfreeze()
            slot, counter_names, log_level = arguments
            own_fds = tuple(InheritedDescriptor(fd) for fd in fds)
            spec = WorkerSpec(own_fds, slot, counter_names, log_level, self._initializer, self._initargs)
            process = multiprocessing.Process(
                target=run_worker, args=(spec,), name=f"MpPipeline-{self._name}-worker-{worker_id}"
            )
            process._parent_pid = self._parent_pid  # type: ignore[attr-defined]
            process._identity = (*process._identity[:-1], worker_id)
            process._config["daemon"] = False  # type: ignore[attr-defined] # a stage may start processes
            runs_exit_functions = sys.version_info >= (3, 13)  # since then a forked Process runs atexit's
            if runs_exit_functions:
                atexit._clear()
                atexit.register(multiprocessing.util._exit_function)  # type: ignore[attr-defined]
            sentinel = os.dup(fds[2])
            exitcode = process._bootstrap(parent_sentinel=sentinel)  # type: ignore[attr-defined]
            if runs_exit_functions:
                atexit._run_exitfuncs()
        finally:
            os._exit(exitcode)
