"""The one place that writes words: to standard error, and to the --log-file where there is one."""

from __future__ import annotations

import contextlib
import os
import sys
import time


class _LogFile:
    """Where words go besides standard error; one for the process, as standard error is."""

    descriptor = -1


def tell(text: str) -> None:
    """Print one line on standard error, at once. Nobody listening is no reason to end a run."""
    note(text)
    with contextlib.suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def note(text: str) -> None:
    """Write to the log file alone, if there is one. That its disk is full is no reason to end a run either."""
    if not has_log():
        return
    stamp = time.strftime("%Y-%m-%d %H:%M:%S ")
    lines = "".join(f"{stamp}{line}\n" for line in text.splitlines())
    with contextlib.suppress(OSError):
        os.write(_LogFile.descriptor, lines.encode(errors="backslashreplace"))


def has_log() -> bool:
    """Whether :func:`note` writes anywhere."""
    return _LogFile.descriptor >= 0


def open_log(path: str) -> int:
    """Append all words to this file from now on; gives its descriptor.

    Raises:
        OSError: It cannot be opened.
    """
    _LogFile.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
    return _LogFile.descriptor


def close_log() -> None:
    """No more words for the file; any number of times."""
    descriptor, _LogFile.descriptor = _LogFile.descriptor, -1
    if descriptor >= 0:
        os.close(descriptor)
