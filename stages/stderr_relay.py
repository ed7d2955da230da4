"""A program's stderr on its way to ours. Runs in a supervisor, so that it imports next to nothing."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from typing import Final

#: How much of the end of the program's stderr stands in a report.
TAIL_BYTES: Final = 4096
#: How long a line of the program's stderr that is not at its end is kept back.
_LINE_WAIT_S: Final = 0.5
#: Reads that take all that a pipe holds, and then some.
_LAST_READS: Final = 4
#: A pipe that can be written at all takes as much at once.
_PIPE_BUF: Final = 4096


class StderrRelay:
    """The program's stderr on its way to ours, in whole lines, and the end of it."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        self.tail = bytearray()
        self._kept = bytearray()
        self._flush_due_s: float | None = None
        self._is_open = True

    def wanted(self) -> Iterator[tuple[int, int]]:
        """What to wait for: more of it, or while there is something to pass on, room for that."""
        is_due = self._due_bytes() > 0
        yield self._reader, select.POLLIN if self._is_open and not is_due else 0
        yield 2, select.POLLOUT if is_due else 0

    def timeout_ms(self) -> float | None:
        if self._flush_due_s is None or self._due_bytes():
            return None
        return max(0.0, self._flush_due_s - time.monotonic()) * 1000 + 1

    def move(self, ready: dict[int, int]) -> None:
        """Take what has come, pass on what is due."""
        if self._reader in ready:
            self._take()
        if 2 in ready:
            self._pass_on()

    def finish(self) -> None:
        """The program has ended: take all that has come of it, and pass on what can be without waiting."""
        # Not for ever: what it has left running may write on.
        for _ in range(_LAST_READS):
            if not (self._is_open and self._take()):
                break
            self._pass_on_what_can_be()
        if self._kept and not self._kept.endswith(b"\n"):
            self._kept += b"\n"
        self._pass_on_what_can_be()

    def _pass_on_what_can_be(self) -> None:
        while self._due_bytes() and select.select([], [2], [], _LINE_WAIT_S)[1]:
            self._pass_on()

    def _take(self) -> bool:
        try:
            data = os.read(self._reader, 16 * _PIPE_BUF)
        except BlockingIOError:
            return False
        if not data:
            self._is_open = False
            return False
        self.tail += data
        del self.tail[:-TAIL_BYTES]
        self._kept += data
        if self._flush_due_s is None:
            self._flush_due_s = time.monotonic() + _LINE_WAIT_S
        return True

    def _due_bytes(self) -> int:
        if self._flush_due_s is not None and time.monotonic() >= self._flush_due_s:
            return len(self._kept)
        return self._kept.rfind(b"\n") + 1 if len(self._kept) < _PIPE_BUF else len(self._kept)

    def _pass_on(self) -> None:
        try:
            written = os.write(2, self._kept[: min(self._due_bytes(), _PIPE_BUF)])
        except BlockingIOError:
            return
        except OSError:
            written = len(self._kept)  # nobody reads our words
        del self._kept[:written]
        self._flush_due_s = time.monotonic() + _LINE_WAIT_S if self._kept else None
