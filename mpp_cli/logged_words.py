"""Log records, of the workers too, as words of the run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from .tell import note, tell


class _WordsHandler(logging.Handler):
    """Tells warnings and errors; what ``--quiet`` leaves out stands in the --log-file all the same."""

    def __init__(self, told_from: int) -> None:
        super().__init__(logging.WARNING)
        self._told_from = told_from

    def emit(self, record: logging.LogRecord) -> None:
        try:
            words = f"mpp: {self.format(record)}"
        except Exception:  # noqa: BLE001 - a user's record may hold anything; logging says so on stderr
            self.handleError(record)
            return
        (tell if record.levelno >= self._told_from else note)(words)


@contextlib.contextmanager
def logged_words(quiet: bool) -> Iterator[None]:
    """Meanwhile log records are told as everything else is, unless the user's code has seen to its logging itself."""
    root = logging.getLogger()
    if root.handlers:
        yield
        return
    handler = _WordsHandler(logging.ERROR if quiet else logging.WARNING)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


__all__ = ["logged_words"]
