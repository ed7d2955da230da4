"""Files for pyrage, which turns every error of a file into one of its own, or into an end."""

from __future__ import annotations

import io


class WatchedReader:
    """Reads ``reader`` and remembers how that failed.

    An aborted pipe must stay one: the failure of the stage before is the cause, and not that the data is cut.
    """

    def __init__(self, reader: io.BufferedReader) -> None:
        self._reader = reader
        self._failure: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        """As of any binary file."""
        self.raise_failure()
        try:
            return self._reader.read(size)
        except BaseException as ex:
            self._failure = ex
            raise

    def raise_failure(self) -> None:
        """Raise what reading has raised, if it has."""
        if self._failure is not None:
            raise self._failure


class WatchedWriter:
    """Writes ``writer`` and remembers how that failed."""

    def __init__(self, writer: io.BufferedWriter) -> None:
        self._writer = writer
        self._failure: BaseException | None = None

    def write(self, data: bytes) -> int:
        """As of any binary file."""
        self.raise_failure()
        try:
            return self._writer.write(data)
        except BaseException as ex:
            self._failure = ex
            raise

    def flush(self) -> None:
        """Nothing: the caller flushes when all has succeeded."""

    def raise_failure(self) -> None:
        """Raise what writing has raised, if it has."""
        if self._failure is not None:
            raise self._failure


__all__ = ["WatchedReader", "WatchedWriter"]
