"""A program that runs beside us, under a supervisor that ends it however we end."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import marshal
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from atbu.mp_pipeline.fork_guard import OwnedDescriptor
from atbu.mp_pipeline.template import is_readable, is_single_threaded

from .errors import ProgramFailed
from .process_table import processes
from .stderr_relay import TAIL_BYTES
from .supervisor import INPUT_ENDED, LEAVE_THE_REST, Orders, receive_packet, supervise

#: A report with the end of the program's stderr, and some.
_REPORT_BYTES: Final = TAIL_BYTES + 1024
#: Beyond what the supervisor itself takes to end the program by all means it has.
_END_WAIT_S: Final = 10.0
#: What python runs as the supervisor. Imported, not run, for then its compiled form is kept; without site-packages our
#: package cannot be found, wherever it is, and so is told where it stands.
_BOOT: Final = (
    "import sys; package = type(sys)('mpp_stages'); package.__path__ = [sys.argv.pop(1)]; "
    "sys.modules['mpp_stages'] = package; from mpp_stages.supervisor import main; main()"
)
#: How long what a program has left running may hold its stdout open without writing anything.
SILENCE_S: Final = 5.0
#: Of the program's last lines so many stand in the error; all of them have gone to stderr.
_SHOWN_LINES: Final = 3
_SHOWN_CHARS: Final = 400
#: Descriptors 0 to 2 are given new meanings in the program.
_FIRST_FREE_DESCRIPTOR: Final = 3


@dataclass(frozen=True, slots=True)
class Report:
    """What a supervisor has told.

    Attributes:
        kind: ``lost``: it has ended and told nothing more.
        number: The pid; of a refusal the errno; the stop's signal; the status as wait() gives it.
        what: What was refused: the program or its folder.
        tail: The end of the program's stderr.
    """

    kind: Literal["started", "refused", "stopped", "ended", "lost"]
    number: int = 0
    what: str = ""
    tail: bytes = b""

    def check(self, label: str, ok_status: Sequence[int]) -> bool:
        """Whether the program has ended as it should; False while it runs.

        Args:
            label: What messages call it, with where it stands.

        Raises:
            ProgramFailed: It has not.
        """
        if self.kind == "started" or (self.kind == "stopped" and self.number not in _TERMINAL_STOPS):
            return False
        if self.kind == "ended" and os.WIFEXITED(self.number) and os.WEXITSTATUS(self.number) in ok_status:
            return True
        raise ProgramFailed(label, self._problem(), self._exit_status(), self.tail)

    def _exit_status(self) -> int | None:
        return os.waitstatus_to_exitcode(self.number) if self.kind == "ended" else None

    def _problem(self) -> str:
        if self.kind == "refused":
            return f"could not be started: {os.strerror(self.number)}: {self.what!r}"
        if self.kind == "lost":
            return "was lost: its supervisor has ended"
        if self.kind == "stopped":
            return "was ended, for it wants to use the terminal, and is not in its foreground"
        status = os.waitstatus_to_exitcode(self.number)
        how = f"exited with status {status}" if status >= 0 else f"was killed by {_signal_name(-status)}"
        return f"{how}{_last_words(self.tail)}"


_TERMINAL_STOPS: Final = (signal.SIGTTIN, signal.SIGTTOU)


class SupervisedProgram:
    """Starts a program under a supervisor and takes part in its end.

    The process that makes it owns it and has to call :meth:`end`; when it dies before, the program is ended too.

    Args:
        argv: The program, looked for on PATH as usual, and its arguments; never given to a shell.
        stdout: Becomes its stdout; the caller's to close.
        stdin: Becomes its stdin; the caller's to close. None: it reads ours.
        held_input: The writing end of ``stdin``: a copy of it stays open until :meth:`end_input` or the program's end.
        report: Where the supervisor tells; None: to :meth:`receive`.
        cwd: The folder it runs in; None: this one.
        env: What its environment has more than ours.
        has_own_group: Whether it gets a process group of its own.

    Raises:
        OSError: No process or descriptor can be had. That the program cannot be started is told in a report.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        stdout: int,
        stdin: int | None = None,
        held_input: int | None = None,
        report: int | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        has_own_group: bool = True,
    ) -> None:
        self.pid: int | None = None
        self._has_own_group = has_own_group
        self._is_lost = False
        self._output = os.readlink(f"/proc/self/fd/{stdout}")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = OwnedDescriptor(ours.detach())
        with theirs, contextlib.ExitStack() as copies:

            def copy_of(fd: int | None) -> int:
                if fd is None:
                    return -1
                copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE_DESCRIPTOR)
                copies.callback(os.close, copy)
                return copy

            control = copy_of(theirs.fileno())
            report_fd = control if report is None else copy_of(report)
            orders = Orders(
                copy_of(stdin), copy_of(stdout), control, report_fd, copy_of(held_input), int(has_own_group)
            )
            additions = [f"{name}={value}" for name, value in (env or {}).items()]
            try:
                self._supervisor_pid, self._popen = _start(orders, argv, cwd or "", additions)
                self._pidfd = OwnedDescriptor(os.pidfd_open(self._supervisor_pid))
            except BaseException:
                self._control.close()  # should there be a supervisor, it ends by that
                raise

    def fileno(self) -> int:
        """Readable when there is a report, for :meth:`receive`."""
        return self._control.fileno()

    def receive(self) -> Report:
        """The next report; waits for it."""
        report = receive_report(self._control.fileno())
        if report.kind == "started":
            self.pid = report.number
        self._is_lost |= report.kind == "lost"
        return report

    def end_input(self) -> None:
        """Let the program see the end of its input, once our own writing end is closed."""
        with contextlib.suppress(OSError):  # the supervisor is lost; receive() tells of that
            os.write(self._control.fileno(), INPUT_ENDED)

    def end(self, *, leave_the_rest: bool = False) -> None:
        """End the program and what it has started, and wait for that. Never raises; doing it twice is fine.

        Args:
            leave_the_rest: Where the program itself has ended, let go on what it has left running.
        """
        if self._control.fileno() < 0:
            return
        if leave_the_rest:
            with contextlib.suppress(OSError):
                os.write(self._control.fileno(), LEAVE_THE_REST)
        self._control.close()
        if not is_readable(self._pidfd.fileno(), _END_WAIT_S):
            self._is_lost = True
            signal.pidfd_send_signal(self._pidfd.fileno(), signal.SIGKILL)
        if self._is_lost:
            self._end_unsupervised()
        self._pidfd.close()
        if self._popen is not None:
            self._popen.wait()
        else:
            with contextlib.suppress(ChildProcessError):  # the program we are part of has a wait() of its own
                os.waitpid(self._supervisor_pid, 0)

    def _end_unsupervised(self) -> None:
        """The supervisor was killed, perhaps before it could tell the program's pid: its output tells the program."""
        found = [] if self.pid is None else [self.pid]
        for pid, _, group, _ in processes():
            with contextlib.suppress(OSError):
                is_ours = self._has_own_group and group == os.getpgrp()
                if not is_ours and os.readlink(f"/proc/{pid}/fd/1") == self._output:
                    found.append(group if self._has_own_group else pid)
        for pid in found:
            with contextlib.suppress(OSError):
                (os.killpg if self._has_own_group else os.kill)(pid, signal.SIGKILL)


def receive_report(fd: int) -> Report:
    """The next report on a supervisor's socket; waits for it."""
    data = receive_packet(fd, _REPORT_BYTES)
    if not data:
        return Report("lost")
    kind, number, *rest = marshal.loads(data)
    if kind == "refused":
        return Report(kind, number, what=rest[0])
    return Report(kind, number, tail=rest[0] if rest else b"")


def _start(
    orders: Orders, argv: Sequence[str], cwd: str, env: Sequence[str]
) -> tuple[int, subprocess.Popen[bytes] | None]:
    if is_single_threaded():  # a fork costs a tenth of a new Python, but with more threads it is not safe
        pid = os.fork()
        if pid == 0:
            gc.disable()  # the worker's objects must not close descriptors that are no longer theirs
            supervise(orders, list(argv), cwd, env)
        return pid, None
    folder = os.path.dirname(os.path.abspath(__file__))
    told = [",".join(map(str, orders)), cwd, str(len(env)), *env, *argv]
    popen = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _BOOT, folder, *told], pass_fds={fd for fd in orders[:5] if fd >= 0}
    )
    return popen.pid, popen


def _signal_name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


def _last_words(tail: bytes) -> str:
    lines = [line.strip() for line in tail.decode("utf-8", "replace").splitlines() if line.strip()]
    words = " | ".join(lines[-_SHOWN_LINES:])
    if not words:
        return ""
    return f": {words}" if len(words) <= _SHOWN_CHARS else f": …{words[-_SHOWN_CHARS:]}"


__all__ = ["SILENCE_S", "Report", "SupervisedProgram", "receive_report"]
