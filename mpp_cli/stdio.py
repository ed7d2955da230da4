"""Descriptors 0, 1 and 2: nothing but data reaches what was standard output.

Standard output is moved to a private descriptor, and descriptor 1 becomes a copy of descriptor 2. From then on a
``print`` in a user's stage, or a C library's write to descriptor 1, lands on standard error, in the workers too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable
from typing import TextIO


class Stdio:
    """The data ends of this process. Build it before any code runs that is not ours.

    Attributes:
        data_out: What was standard output; close-on-exec.
        out_was_closed: Whether there was no standard output at all.
        in_was_closed: Whether there was no standard input at all.
    """

    def __init__(self) -> None:
        closed = _fill_closed_descriptors()
        self.in_was_closed = 0 in closed
        self.out_was_closed = 1 in closed
        self.data_out = os.dup(1)
        self._data_in: int | None = None
        os.dup2(2, 1)
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        self._words: TextIO = open(  # noqa: SIM115 - lives as long as the process
            self.data_out, "w", encoding=encoding, errors="backslashreplace", closefd=False
        )
        _renew_streams()
        self._user_stdout = sys.stdout
        os.register_at_fork(after_in_child=self._close_in_child)

    def words_to_stdout(self) -> None:
        """Let ``print`` reach standard output, for help. Not for use beside a user's code."""
        # Words have a reader or they are no use: without one the process ends quietly, as any writer does.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        sys.stdout = self._words

    def words_to_stderr(self) -> None:
        """Let ``print`` reach standard error, as it must before a user's code is loaded."""
        sys.stdout = self._user_stdout
        try:
            if not self._words.closed:
                self._words.flush()
        except OSError:
            with contextlib.suppress(OSError):
                self._words.close()  # else the interpreter tries once more at its end
            raise
        finally:
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def show(self, lines: Iterable[str]) -> None:
        """Print what a command is for on standard output."""
        self.words_to_stdout()
        self._words.writelines(f"{line}\n" for line in lines)
        self.words_to_stderr()

    @property
    def data_in(self) -> int:
        """Where standard input is now."""
        return 0 if self._data_in is None else self._data_in

    def take_stdin(self) -> int:
        """Move standard input to a private descriptor and leave /dev/null in its place.

        Called when standard input is the source of data, before workers are started: a stage that reads descriptor
        0 gets nothing of it.
        """
        if self._data_in is None:
            self._data_in = os.dup(0)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.close(null)
        return self._data_in

    def _close_in_child(self) -> None:
        # Workers get the data ends passed when they need them. A copy in every process would keep a reader
        # downstream waiting for its end.
        # Once only: in a child's child the numbers belong to others.
        ends = (self.data_out, self._data_in)
        self.data_out, self._data_in = -1, None
        for fd in ends:
            if fd is not None and fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)


def _fill_closed_descriptors() -> set[int]:
    """Open /dev/null on each of 0, 1 and 2 that is closed, and say which were.

    Else the next file that anybody opens would become standard input or output.
    """
    closed = set()
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            closed.add(fd)
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            else:
                os.set_inheritable(fd, True)
    return closed


def _renew_streams() -> None:
    """Give Python's streams the descriptors as they are now, and have descriptor 1's words appear at once."""
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    # The old stream remembers what kind of file it stood on: whether it can seek, how it is buffered.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout = open(  # noqa: SIM115
        1, "w", buffering=1, encoding=encoding, errors="backslashreplace", closefd=False
    )
    sys.__stdout__ = sys.stdout  # type: ignore[misc]
