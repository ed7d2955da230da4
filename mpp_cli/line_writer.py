"""Writes whole lines to a descriptor at once, and never waits for ever for whoever reads them."""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Callable
from typing import Final

#: What poll() promises to have room for in a pipe. A write of more may block, whatever poll() says.
_PIPE_PORTION_BYTES: Final = select.PIPE_BUF
#: How often a writer that waits looks whether it may go on waiting.
_LOOK_MS: Final = 100


class LinesGivenUp(OSError):
    """The reader takes nothing, and the run was told to stop: the rest of the lines is not written."""


class LineWriter:
    """Lines to a file, pipe or terminal; nothing is held back in a buffer of ours.

    Args:
        descriptor: Owned; closed by :meth:`close`, and in forked children at once.
        may_wait: Asked while the reader takes nothing. False ends the waiting.
    """

    def __init__(self, descriptor: int, may_wait: Callable[[], bool]) -> None:
        self._descriptor = descriptor
        self._may_wait = may_wait
        self._never_blocks = stat.S_ISREG(os.fstat(descriptor).st_mode)
        # A copy in a worker would keep the reader from seeing the end, and a lock from being released.
        os.register_at_fork(after_in_child=self.close)

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def write(self, data: bytes) -> None:
        """Write ``data``, which is one line or more with their ends.

        Raises:
            BrokenPipeError: Its reader has gone.
            LinesGivenUp: Its reader takes nothing and the waiting was ended. A part may have been written.
            OSError: Anything else, such as a full disk.
        """
        if self._never_blocks:
            written = os.write(self._descriptor, data)
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            return
        rest = memoryview(data)
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while rest:
            while not poll.poll(_LOOK_MS):
                if not self._may_wait():
                    raise LinesGivenUp("nobody reads what the run tells")
            try:
                rest = rest[os.write(self._descriptor, rest[:_PIPE_PORTION_BYTES]) :]
            except BlockingIOError:
                time.sleep(_LOOK_MS / 1000)  # another process has filled what poll() saw empty

    def close(self) -> None:
        """Close the descriptor; any number of times."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
