"""What signals mean in the processes that a pipeline starts."""

from __future__ import annotations

import signal
from typing import Any


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
    # Python's default: a write to a reader that has gone is an error, not our end, whatever the program has for itself.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
