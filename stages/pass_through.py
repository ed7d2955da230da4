"""Stages that pass their bytes on unchanged: what they do is to look at them."""

from __future__ import annotations

import io
import os
from typing import ClassVar

from .buffers import new_buffer
from .byte_stage import CHUNK_BYTES, ByteStage
from .file_item import FileItem, Finding
from .taps import Watch


class PassThroughStage(ByteStage):
    """A stage that only watches. Derive, and write :meth:`watch`.

    Where it can be, it runs inside the stage behind it, as a tap on what that one reads, and costs no process and
    no pipe (see :mod:`.fusing`); else it stands between two pipes like any stage. Nobody can tell from the results.
    """

    is_pass_through: ClassVar[bool] = True
    #: What it finds is a digest, a finding of the kind ``kind``.
    is_digest: ClassVar[bool] = False
    #: It compares them with a file's, and so cannot stand between stages that change them.
    needs_file_bytes: ClassVar[bool] = False
    #: Where it stands in its pipeline, counted from 0, and whether the bytes it sees there are the source's, the
    #: output's, or both; set by the planner.
    position: int | None = None
    sees_source: bool = False
    sees_output: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._own_key = os.urandom(8).hex()

    @property
    def own_key(self) -> str:
        """What tells it from all other stages of its pipeline."""
        # The position where it is known: the same object may stand in a pipeline twice.
        return self._own_key if self.position is None else f"{self.position:06}"

    def add_finding(self, item: FileItem, kind: str, value: str | int) -> None:
        """Put on ``item``, this stage's copy, what was found out about the bytes that passed."""
        sees = "output" if self.sees_output else "source" if self.sees_source else None
        item.add_finding(f"{self.own_key} {kind}", Finding(kind, value, sees))

    def watch(self, item: FileItem) -> Watch:
        """A watch for one item; what it finds out, it puts on ``item``, the stage's copy."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it does: write its watch()")

    def new_watch(self, item: FileItem) -> Watch:
        """What :meth:`watch` gives; it is this stage that has failed where that is none."""
        try:
            watch = self.watch(item)
            if not isinstance(watch, Watch):
                raise TypeError(f"stage {self.label!r}: its watch() must give a Watch, not {type(watch).__name__}")
        except BaseException as ex:
            ex.add_note(f"in stage {self.label!r}")
            raise
        return watch

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        watch = self.new_watch(item)
        buffer = new_buffer(CHUNK_BYTES)
        try:
            while n := reader.readinto1(buffer):
                watch.update(buffer[:n])
                writer.write(buffer[:n])
            watch.finish()
        finally:
            watch.close()


__all__ = ["PassThroughStage"]
