"""The small process that stands between us and a program that we run: it starts it, minds it, and ends it.

    worker ── socket: "the input has ended", or its own end ──▶ supervisor ── starts, ends ──▶ program, its children
    worker ◀─ socket: started, stopped, ended and how ───────── supervisor ◀── stderr ──────── program
    worker ── pipe ──▶ the program's stdin      the program's stdout ── pipe ──▶ worker

The kernel closes the worker's end of the socket however the worker dies, and the supervisor ends the program then.
Until that is done it also holds the writing end of the program's stdin, so that a program never takes the death of
a worker for the end of its input.

Forked from the worker, or run by a Python without site-packages: it imports the standard library alone, and of that
only what costs next to nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import marshal
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, NoReturn

from .process_table import descendants_in_session, processes
from .stderr_relay import StderrRelay

#: Sent to the supervisor: the program may see the end of its input.
INPUT_ENDED: Final = b"E"
#: Sent to the supervisor: what the program has left running may go on.
LEAVE_THE_REST: Final = b"L"
#: How long the program may take to end after SIGTERM, to remove its temporary files, before SIGKILL.
TERM_GRACE_S: Final = 2.0
#: How long the kernel may take to end what got SIGKILL. What sleeps in a dead network filesystem may take longer.
_KILL_WAIT_S: Final = 5.0
#: How often is looked whether processes that are not our children have ended; nothing tells.
_LOOK_S: Final = 0.01
#: A pipe that can be written at all takes as much at once.
_PIPE_BUF: Final = 4096
#: What the whole group gets is for the parent of us all to act on.
_NOT_FOR_US: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
#: What Python ignores and a program expects to be ended by.
_IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)
#: fcntl.h and linux/prctl.h; Python's modules do not have them.
_F_SETSIG: Final = 10
_PR_SET_CHILD_SUBREAPER: Final = 36


class Orders(NamedTuple):
    """What a supervisor is told by numbers; descriptors are its own from then on, -1 stands for none.

    Attributes:
        stdin: Becomes the program's stdin; none: it gets ours.
        stdout: Becomes the program's stdout.
        control: The socket on which it is told things; its end means that the program has to end.
        report: The socket on which it tells; may be the same.
        held_input: The writing end of the program's stdin.
        has_own_group: Whether the program gets a process group of its own, or stays in ours.
    """

    stdin: int
    stdout: int
    control: int
    report: int
    held_input: int
    has_own_group: int


def supervise(orders: Orders, argv: list[str], cwd: str, env: Sequence[str]) -> NoReturn:
    """Be the supervisor of one program until it is told to end, then end the process.

    Args:
        argv: The program and its arguments.
        cwd: Where it runs; empty: here.
        env: What its environment has more than ours, as ``NAME=value``.
    """
    status = 1
    try:
        _Supervisor(orders).run(argv, cwd, env)
        status = 0
    except BaseException:  # noqa: BLE001 - a forked copy must not return into the worker's code
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def receive_packet(fd: int, limit: int) -> bytes:
    """The next packet on one of our sockets; waits for it. Empty: there will be none."""
    while True:
        try:
            return os.read(fd, limit)
        except ConnectionResetError:
            continue  # said once where the other end had not read all it was sent; what it had sent comes after


def main() -> NoReturn:
    """The supervisor as a program of its own: orders, folder, number of variables, variables, argv."""
    orders, cwd, count, *rest = sys.argv[1:]
    supervise(Orders(*map(int, orders.split(","))), rest[int(count) :], cwd, rest[: int(count)])


class _Supervisor:
    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._pid = 0
        self._is_running = False
        self._is_stop_due = False
        self._leaves_the_rest = False
        _close_all_but(orders[:5])
        self._errors = StderrRelay()
        self._wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        self._take_signals()

    def run(self, argv: list[str], cwd: str, env: Sequence[str]) -> None:
        try:
            if self._start(argv, cwd, env):
                self._mind()
        finally:
            if self._pid and not (self._leaves_the_rest and not self._is_running):
                self._end_all()

    # Starting

    def _take_signals(self) -> None:
        for signum in _NOT_FOR_US:
            if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup is meant for the program too
                signal.signal(signum, _no_op)  # a handler, for it ends with execve()
        for signum in (signal.SIGCHLD, signal.SIGTSTP, signal.SIGCONT):  # they wake us
            signal.signal(signum, _no_op)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())

    def _start(self, argv: list[str], cwd: str, env: Sequence[str]) -> bool:
        orders = self._orders
        if not orders.has_own_group:
            _adopt_orphans()
        os.environ.update((name, value) for name, _, value in (entry.partition("=") for entry in env))
        actions = [(os.POSIX_SPAWN_DUP2, orders.stdout, 1), (os.POSIX_SPAWN_DUP2, self._errors.writer, 2)]
        if orders.stdin >= 0:
            actions.append((os.POSIX_SPAWN_DUP2, orders.stdin, 0))
        options: dict[str, Any] = {"setpgroup": 0} if orders.has_own_group else {}
        what = cwd
        try:
            if cwd:
                os.chdir(cwd)
            what = argv[0]
            self._pid = os.posix_spawnp(
                argv[0], argv, os.environ, file_actions=actions, setsigmask=(), setsigdef=_IGNORED_BY_PYTHON, **options
            )
        except OSError as ex:
            self._tell("refused", ex.errno, what)
            return False
        self._is_running = True
        for fd in (orders.stdin, orders.stdout, self._errors.writer):
            if fd >= 0:
                os.close(fd)
        self._tell("started", self._pid)
        if orders.control != orders.report:
            with contextlib.suppress(OSError):
                os.write(orders.control, marshal.dumps(("started", self._pid)))
        return True

    # Minding

    def _mind(self) -> None:
        """Until the other end of the control socket is gone."""
        control = self._orders.control
        poll = select.poll()
        poll.register(control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            for fd, events in self._errors.wanted():
                poll.register(fd, events) if events else _unregister(poll, fd)
            ready = dict(poll.poll(self._errors.timeout_ms()))
            if self._wake in ready:
                self._note_signals()
            if self._is_stop_due:
                self._stop_with_the_others()
            self._errors.move(ready)
            if self._is_running:
                self._look_after_program()
            if control in ready and not self._obey(control):
                return

    def _obey(self, control: int) -> bool:
        order = receive_packet(control, 1)
        if order == INPUT_ENDED:
            os.close(self._orders.held_input)
        self._leaves_the_rest |= order == LEAVE_THE_REST
        return bool(order)

    def _look_after_program(self) -> None:
        pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
        if not pid:
            return
        if os.WIFSTOPPED(status):
            if self._orders.has_own_group:  # else the shell's job control minds it, as it does us
                self._tell("stopped", os.WSTOPSIG(status))
            return
        self._is_running = False
        self._errors.finish()
        self._tell("ended", status, bytes(self._errors.tail))

    def _tell(self, *report: Any) -> None:
        with contextlib.suppress(OSError):  # whoever wanted to know has gone, and control tells of that
            os.write(self._orders.report, marshal.dumps(report))

    def _note_signals(self) -> None:
        """What has woken us, in the order in which it came. (Python calls handlers in the order of the numbers.)"""
        with contextlib.suppress(BlockingIOError):
            for signum in os.read(self._wake, _PIPE_BUF):
                if signum in (signal.SIGTSTP, signal.SIGCONT):
                    self._is_stop_due = signum == signal.SIGTSTP

    def _stop_with_the_others(self) -> None:
        """Pass the terminal's stop on to the program's group, stop as all of our own group do, then continue both.

        Where the kernel stops nobody (our group is orphaned), nobody stays stopped here either.
        """
        control = self._orders.control
        self._signal_own_group(signal.SIGTSTP)
        # Whoever started us may be killed while we are stopped: that has to wake us.
        flags = fcntl.fcntl(control, fcntl.F_GETFL)
        fcntl.fcntl(control, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(control, _F_SETSIG, signal.SIGCONT)
        fcntl.fcntl(control, fcntl.F_SETFL, flags | os.O_ASYNC)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # It is pending, and a SIGCONT that comes from now on takes it back: the kernel sees to that. One that has come
        # before has been noted. So none is missed, after which nobody would continue us.
        self._note_signals()
        if not self._is_stop_due or _has_ended(control):
            signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # drops what is pending
            signal.signal(signal.SIGTSTP, _no_op)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})  # here we stop, and here we go on
        signal.signal(signal.SIGTSTP, _no_op)
        self._is_stop_due = False
        fcntl.fcntl(control, fcntl.F_SETFL, flags)
        self._signal_own_group(signal.SIGCONT)

    def _signal_own_group(self, signum: int) -> None:
        if self._orders.has_own_group:
            with contextlib.suppress(OSError):
                os.killpg(self._pid, signum)

    # Ending

    def _end_all(self) -> None:
        """End the program and what it has started, politely first."""
        signal.signal(signal.SIGTSTP, _no_op)
        for signum, wait_s in ((signal.SIGTERM, TERM_GRACE_S), (signal.SIGKILL, _KILL_WAIT_S)):
            deadline_s = time.monotonic() + wait_s
            while pids := self._members():
                self._signal_all(pids, signum)
                self._signal_all(pids, signal.SIGCONT)
                if not self._wait_for_fewer(pids, deadline_s):
                    break
            else:
                return

    def _signal_all(self, pids: list[int], signum: int) -> None:
        """At once, or else who has started others first: a shell whose child has ended would do its next command."""
        if self._orders.has_own_group:
            self._signal_own_group(signum)
            return
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signum)

    def _wait_for_fewer(self, pids: list[int], deadline_s: float) -> bool:
        """Wait until all of ``pids`` have ended or others have come; False when the time is over."""
        while (now_s := time.monotonic()) < deadline_s:
            members = self._members()
            if not members or set(members) - set(pids):
                return True
            # Our children's ends wake us; of the others nobody tells.
            select.select([self._wake], [], [], min(_LOOK_S, deadline_s - now_s))
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, _PIPE_BUF)
        return False

    def _members(self) -> list[int]:
        """The processes that have to end with the program; reaps what has ended."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        if not self._orders.has_own_group:
            return descendants_in_session(os.getpid())
        try:
            os.killpg(self._pid, 0)
        except ProcessLookupError:
            return []  # the usual case, and the fast way to see it
        except PermissionError:
            pass  # there is one, though not ours to end
        return [pid for pid, _, group, _ in processes() if group == self._pid]


def _no_op(_signum: int, _frame: Any) -> None:
    """A signal that is somebody else's to act on."""


def _unregister(poll: select.poll, fd: int) -> None:
    with contextlib.suppress(KeyError):
        poll.unregister(fd)


def _has_ended(fd: int) -> bool:
    """Whether the other end of a socket is gone."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


def _close_all_but(kept: Sequence[int]) -> None:
    """Close what a fork has brought along, all but the standard descriptors, and pass none of it on."""
    start = 3
    for fd in sorted({fd for fd in kept if fd >= start}):
        os.set_inheritable(fd, False)  # came by a Python's start
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))


def _adopt_orphans() -> None:
    """Become the parent of the program's orphans, so that they can be found; best effort."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes  # some milliseconds, once a run

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
