"""The stage that writes the target: the consuming end of every pipeline of bytes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

from .byte_stage import CHUNK_BYTES, ByteStage
from .file_item import DescriptorTarget, FileItem, PathSource
from .sinks import DescriptorSink, TemporarySink


class WriteStage(ByteStage):
    """Write the output: a file by a temporary beside it, anything else directly.

    A file is given to the disk (fsync) before it gets its name where the input cannot be read again, as with
    stdin: a crash of the machine soon after must not cost data that are nowhere else. An input file is still
    there to be read, so its output is left to the system, which is much faster for many files.

    Args:
        suffix: Names the output: the input's name and this, whatever the stages before would have called it.
        sync: Force (true) or leave out (false) the fsync of files and of their folder.
    """

    name = "write"
    is_sink = True

    def __init__(self, suffix: str | None = None, sync: bool | None = None) -> None:
        super().__init__()
        if suffix is not None:
            if not isinstance(suffix, str) or not suffix:
                raise ValueError(f"suffix must be some text like '.zst', not {suffix!r}")
            if "/" in suffix or "\0" in suffix:
                raise ValueError(f"suffix must be part of a file's name, so {suffix!r} cannot be one")
        if sync not in (None, True, False):
            raise ValueError(f"sync must be true or false, not {sync!r}")
        self.suffix = suffix
        self.sync = sync

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while n := reader.readinto1(buffer):
            writer.write(buffer[:n])

    @contextlib.contextmanager
    def open_output(self, item: FileItem) -> Iterator[io.RawIOBase]:
        if isinstance(item.target, DescriptorTarget):
            sink: DescriptorSink | TemporarySink = DescriptorSink(item.target)
        else:
            is_synced = self.sync if self.sync is not None else not isinstance(item.source, PathSource)
            sink = TemporarySink(item, is_synced)
        try:
            yield sink
            sink.finish(item)
        finally:
            sink.release()


__all__ = ["WriteStage"]
