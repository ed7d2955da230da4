"""The entry point of ``mpp``: descriptors first, then the command line."""

from __future__ import annotations

import gc
import signal
import sys


def main() -> None:
    """Run the command line of this process and exit with its status."""
    # Imports make much and drop nothing: collections in between cost 5 ms. A run turns them on again.
    gc.disable()
    # Until a run listens for it there is nothing to clean up, and a traceback would tell nobody anything.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .stdio import Stdio

    stdio = Stdio()
    from .exit_codes import leave
    from .run_line import run_plain_line

    status = run_plain_line(sys.argv[1:], stdio)
    if status is None:
        from .app import run_app  # all of Typer

        status = run_app(sys.argv[1:], stdio)
    leave(status)
