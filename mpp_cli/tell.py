"""The one place that writes words: to standard error, and to the --log-file where there is one."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

#: Of so many characters, however they are encoded or escaped, none is too much for a pipe of which poll() says that
#: it has room (PIPE_BUF bytes).
_PORTION_CHARS: Final = 400
#: How often who waits for the reader looks whether to go on waiting.
_LOOK_MS: Final = 100
_STDERR: Final = 2


class _LogFile:
    """Where words go besides standard error; one for the process, as standard error is."""

    descriptor = -1
    is_torn = False


class _Patience:
    """Whether the reader of standard error may be waited for; None: as long as it takes."""

    may_wait: Callable[[], bool] | None = None


def tell(text: str) -> None:
    """Print one line on standard error, at once. Nobody listening is no reason to end a run."""
    note(text)
    may_wait = _Patience.may_wait
    with contextlib.suppress(OSError):
        if may_wait is None:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
            return
        poll = select.poll()
        poll.register(_STDERR, select.POLLOUT)
        text += "\n"
        for start in range(0, len(text), _PORTION_CHARS):
            # A reader that takes nothing (a pager) holds the run up, but no stop signal.
            while not poll.poll(0) and not poll.poll(_LOOK_MS if may_wait() else 0):
                if not may_wait():
                    return
            sys.stderr.write(text[start : start + _PORTION_CHARS])
            sys.stderr.flush()


@contextlib.contextmanager
def patient(may_wait: Callable[[], bool]) -> Iterator[None]:
    """Meanwhile :func:`tell` leaves out words that nobody reads, once ``may_wait`` says no."""
    _Patience.may_wait = may_wait
    try:
        yield
    finally:
        _Patience.may_wait = None


def note(text: str) -> None:
    """Write to the log file alone, if there is one. A full disk is told once, and no reason to end a run either."""
    if not has_log():
        return
    stamp = time.strftime("%Y-%m-%d %H:%M:%S ")
    lines = "".join(f"{stamp}{line}\n" for line in text.splitlines())
    try:
        os.write(_LogFile.descriptor, lines.encode(errors="backslashreplace"))
    except OSError as ex:
        if not _LogFile.is_torn:
            _LogFile.is_torn = True
            tell(f"mpp: --log-file: {ex.strerror}; the run goes on, and lines of the log are missing")


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
