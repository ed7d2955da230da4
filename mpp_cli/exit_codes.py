"""What the exit status of ``mpp`` says, and how to end by a signal."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final, NoReturn

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
SOME_FAILED: Final = 3


def die_by(signum: int) -> NoReturn:
    """End this process by the signal itself, so that a shell sees WIFSIGNALED (130, 143, 141).

    Nothing that is registered for the interpreter's exit runs: clean up before.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            continue  # the reader of our words has gone: nobody is left to tell
    signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)  # only where the signal could not end us, as in a PID namespace's init
