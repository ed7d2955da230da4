"""The pipe that ends a process with the one that has started it."""

from __future__ import annotations

import fcntl
import os
import select
import signal
from typing import Final

from .fork_guard import OwnedDescriptor

# The parent is gone, nobody reads it.
_EXIT_PARENT_GONE: Final = 1
# fcntl.h on Linux; Python's module does not have it.
_F_SETSIG: Final = 10


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
