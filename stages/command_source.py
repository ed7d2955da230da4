"""Reads what a command writes, and ends only when the command has ended as it should."""

from __future__ import annotations

import io
import os
import select
import time
from typing import TYPE_CHECKING

from atbu.mp_pipeline.counters import counter

from .endpoints import CommandSource
from .errors import ProgramFailed
from .supervised import SILENCE_S, receive_report

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class CommandReader(io.RawIOBase):
    """The raw end from which a chain's first stage reads a command's output.

    The end of the output is no end before the command has exited with a status that counts as success; any other
    end of it is an error at once, whatever it has left in the pipe.

    Args:
        source: Its descriptors are only used.

    Raises:
        ProgramFailed: The command could not be started or did not end as it should.
    """

    def __init__(self, source: CommandSource) -> None:
        super().__init__()
        self._source = source
        self._counter = counter("bytes_in")
        self._descriptor = source.descriptor.fileno()
        self._has_output = True
        self._has_ended = False
        self._silent_since_s = 0.0
        #: Bytes read so far.
        self.bytes_read = 0

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if not memoryview(buffer).nbytes:
            return 0
        while self._has_output or not self._has_ended:
            ready = self._wait()
            if self._source.report.fileno() in ready:
                self._take_report()
            elif self._descriptor in ready:
                n = os.readv(self._descriptor, (buffer,))
                self._silent_since_s = time.monotonic()
                if n:
                    self.bytes_read += n
                    self._counter.add(n)
                    return n
                self._has_output = False
        return 0

    def _wait(self) -> dict[int, int]:
        poll = select.poll()
        if self._has_output:
            poll.register(self._descriptor, select.POLLIN)
        timeout_ms = None
        if self._has_ended:
            timeout_ms = max(0.0, self._silent_since_s + SILENCE_S - time.monotonic()) * 1000
        else:
            poll.register(self._source.report.fileno(), select.POLLIN)
        ready = dict(poll.poll(timeout_ms))
        if not ready:
            raise ProgramFailed(self._source.label, "has left a process behind that holds its output open", None, b"")
        return ready

    def _take_report(self) -> None:
        report = receive_report(self._source.report.fileno())
        if report.check(self._source.label, self._source.ok_status):
            self._has_ended = True
            self._silent_since_s = time.monotonic()


__all__ = ["CommandReader"]
