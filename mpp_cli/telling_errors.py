"""What a command raises, told in one line, and the exit status that it means."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable

from . import exit_codes
from .errors import UsageProblem, one_line
from .tell import tell


def told(command: Callable[[], int], tell_of: Callable[[Exception], int] | None = None) -> int:
    """Run ``command`` and return its exit status, or that of what it raises once that has been told.

    Args:
        tell_of: Tells of what is no UsageProblem, and gives the status.
    """
    try:
        return command()
    except UsageProblem as ex:
        return complain(_user_error(ex), ex.lines, ex.exit_status)
    except KeyboardInterrupt:  # by a user's module, for the signal itself ends us without it
        return 128 + signal.SIGINT
    except Exception as ex:  # noqa: BLE001 - one line for the user; -v shows the traceback
        return (tell_of or tell_of_failure)(ex)


def _user_error(problem: UsageProblem) -> BaseException | None:
    """What a user's code has raised, if that is why; where faults have been read in a text, no traceback says more."""
    from .faults import DefinitionProblem  # costs some milliseconds and is needed only where something is wrong
    from .resolve import ResolveProblem

    if isinstance(problem, DefinitionProblem):
        return None
    error: BaseException = problem
    while error.__cause__ is not None:
        error = error.__cause__
    return None if isinstance(error, (UsageProblem, ResolveProblem)) else error


def complain(error: BaseException | None, lines: Iterable[str], status: int) -> int:
    """Tell these lines, with ``-v`` the traceback too, if there is one; gives ``status`` back."""
    for line in lines:
        tell(line)
    if error is None:
        return status
    if "-v" in sys.argv or "--verbose" in sys.argv:
        import traceback

        tell("".join(traceback.format_exception(error)).rstrip())
    return status


def tell_of_failure(error: Exception) -> int:
    """Say what stopped a run that nobody foresaw."""
    from .failures import error_words

    words = f"mpp: {one_line(error_words(error))}"
    if isinstance(error, FileNotFoundError) and error.filename is None and _is_here_gone():
        words = "mpp: the current folder has been removed; change to another, or name all files from /"
    if not isinstance(error, OSError):
        words += " (this should not happen; -v shows where it comes from)"
    return complain(error, [words], exit_codes.FAILED)


def _is_here_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False
