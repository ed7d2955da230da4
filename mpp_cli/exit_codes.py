"""What the exit status of ``mpp`` says, and how the process ends."""

from __future__ import annotations

import atexit
import gc
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


_is_all_ours = False


def note_all_is_ours() -> None:
    """No module is or will be loaded here that a user has written."""
    global _is_all_ours
    _is_all_ours = True


def leave(status: int) -> NoReturn:
    """End this process as the end of a program does, but leave its memory to the kernel where nobody can tell.

    To take all modules apart takes 4 ms and frees what is gone anyway, but for a file that a user's module holds open:
    what was written to it last is only now put into it. Exit handlers run in any case.
    """
    threading = sys.modules.get("threading")
    has_threads = threading is not None and threading.active_count() > 1  # waited for by the way that knows how
    if _is_all_ours and not has_threads:
        atexit._run_exitfuncs()
        try:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        except (AttributeError, OSError, ValueError):  # None, a reader that has gone, closed by somebody
            sys.exit(status)
        os._exit(status)
    gc.freeze()  # the interpreter's last collections would walk all modules once more, for 20 ms and nothing
    sys.exit(status)
