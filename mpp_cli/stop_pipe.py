"""Tells workers that they are to begin nothing more: by the end of a pipe, which costs them one poll()."""

from __future__ import annotations

import os

from atbu.mp_pipeline.descriptors import PassedDescriptor
from atbu.mp_pipeline.fork_guard import OwnedDescriptor


class StopPipe:
    """A pipe into which nothing is ever written.

    Attributes:
        read_end: Travels with items to the workers.
    """

    def __init__(self) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        self.read_end = PassedDescriptor(reader)
        # No forked process keeps a copy of it, else the end would not be seen.
        self._write_end = OwnedDescriptor(writer)

    def close_write_end(self) -> None:
        """Now they are to stop. Any number of times."""
        self._write_end.close()

    def close(self) -> None:
        """Nobody uses it any more."""
        self.close_write_end()
        self.read_end.close()
