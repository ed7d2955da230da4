"""Stop signals: the handler sets a flag and wakes the main thread; everything else is done there."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# More than enough wake-ups to be drained at once; what is left over only wakes the loop again.
_DRAIN_BYTES: Final = 65536


class StopFlag:
    """Counts stop signals and wakes whoever waits on :meth:`fileno`.

    A signal that was ignored when the program started (``nohup``, a background job) stays ignored.

    Attributes:
        count: How many stop signals have come.
        first: The first of them; the one the program ends by.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first: signal.Signals | None = None
        self._die_at_once = False
        self._former: dict[signal.Signals, Any] = {}
        self._listened: tuple[int, ...] = ()
        self._former_wakeup = -1
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def install(self) -> None:
        """Start to listen. Only in the main thread; workers must exist or be forked from elsewhere by now."""
        for signum in STOP_SIGNALS:
            former = signal.getsignal(signum)
            if former not in (signal.SIG_IGN, None):
                self._former[signum] = former
                signal.signal(signum, self._note)
        self._listened = tuple(map(int, self._former))
        self._former_wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=self._forget_in_child)

    def close(self) -> None:
        """Stop listening; the dispositions are as they were before :meth:`install`."""
        for signum, former in self._former.items():
            signal.signal(signum, former)
        if self._former:
            signal.set_wakeup_fd(self._former_wakeup)
        self._former.clear()
        self._listened = ()
        if self._read_end >= 0:
            os.close(self._read_end)
            os.close(self._write_end)
            self._read_end = self._write_end = -1

    def fileno(self) -> int:
        """Readable when a signal has come or :meth:`wake` was called."""
        return self._read_end

    def wake(self, _: object = None) -> None:
        """Wake the main thread; may be called from any thread, and as a future's callback."""
        try:
            os.write(self._write_end, b"w")
        except OSError:
            return  # full: it is awake already; closed: nobody waits any more

    def drain(self) -> None:
        """Take the wake-ups that have been seen."""
        try:
            os.read(self._read_end, _DRAIN_BYTES)
        except BlockingIOError:
            return

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep stop signals out of the main thread for a check and the commit after it.

        On entry the flag holds every signal that came before.
        """
        former = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            self.look()
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)

    def look(self) -> None:
        """Within :meth:`held`, take in what has come since: before each further commit."""
        # A signal for the process that no thread has taken yet counts as having come. (To ask for the pending ones
        # takes twice as long, and this is asked for each file.)
        while (come := signal.sigtimedwait(self._listened, 0)) is not None:
            self._count(signal.Signals(come.si_signo))

    @contextmanager
    def deadly(self) -> Iterator[None]:
        """Let a stop signal end the process on the spot: for a write that may block and leaves nothing behind."""
        self._die_at_once = True
        try:
            yield
        finally:
            self._die_at_once = False

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._count(signal.Signals(signum))
        if self._die_at_once:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    def _count(self, signum: signal.Signals) -> None:
        self.count += 1
        if self.first is None:
            self.first = signum

    def _forget_in_child(self) -> None:
        # A process that a stage in a thread forks must end when it is told to, and must not wake this one.
        if self._read_end >= 0:
            self.close()
