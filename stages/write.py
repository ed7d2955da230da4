"""The stage that writes the target: the consuming end of every pipeline of bytes."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator

from .buffers import new_buffer
from .byte_stage import CHUNK_BYTES, ByteStage
from .checks import check_flag
from .file_item import DescriptorTarget, FileItem, PathSource
from .name_pattern import check_pattern
from .sinks import DescriptorSink, TemporarySink, fill_temporary


class WriteStage(ByteStage):
    """Write the output: a file by a temporary beside it, anything else directly.

    A file is given to the disk (fsync) before it gets its name where the input cannot be read again, as with
    stdin: a crash of the machine soon after must not cost data that are nowhere else. An input file is still
    there to be read, so its output is left to the system, which is much faster for many files.

    Args:
        suffix: Names the output: the input's name and this, whatever the stages before would have called it.
        rename: Names it by a pattern instead: {name}, {stem} and {suffix} stand for those of the input, and
            "{stem}.tar.zst" for data.tar.gz is data.tar.tar.zst.
        mode: Its permissions, such as "640"; those of the input file, or of any new file, if not given.
        times: Whether it gets the input file's times.
        sync: Force (true) or leave out (false) the fsync of files and of their folder.
    """

    name = "write"
    is_sink = True

    def __init__(
        self,
        suffix: str | None = None,
        rename: str | None = None,
        mode: str | None = None,
        times: bool = True,
        sync: bool | None = None,
    ) -> None:
        super().__init__()
        if suffix is not None:
            if not isinstance(suffix, str) or not suffix:
                raise ValueError(f"suffix must be some text like '.zst', not {suffix!r}")
            if "/" in suffix or "\0" in suffix:
                raise ValueError(f"suffix must be part of a file's name, so {suffix!r} cannot be one")
        if sync not in (None, True, False):
            raise ValueError(f"sync must be true or false, not {sync!r}")
        if rename is not None:
            if suffix is not None:
                raise ValueError("give either suffix or rename, for each names the whole output")
            check_pattern("rename", rename)
            if "/" in rename:
                raise ValueError(f"rename must be a file's name without a folder, not {rename!r}")
        self.suffix = suffix
        self.rename = rename
        self.mode = mode
        self.times = check_flag("times", times)
        self._mode = None if mode is None else _read_mode(mode)
        self.sync = sync

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        buffer = new_buffer(CHUNK_BYTES)
        while n := reader.readinto1(buffer):
            writer.write(buffer[:n])

    def write_whole(self, data: bytes, item: FileItem) -> None:
        """A shortcut for small files: what writing ``data`` by :meth:`open_output` would do, but for the counting."""
        fill_temporary(item, data, is_synced=bool(self.sync), mode=self._mode, keeps_times=self.times)

    @contextlib.contextmanager
    def open_output(self, item: FileItem) -> Iterator[io.RawIOBase]:
        if isinstance(item.target, DescriptorTarget):
            sink: DescriptorSink | TemporarySink = DescriptorSink(item.target)
        else:
            is_synced = self.sync if self.sync is not None else not isinstance(item.source, PathSource)
            sink = TemporarySink(item, is_synced, self._mode, self.times)
        try:
            yield sink
            sink.finish(item)
        finally:
            sink.release()


def _read_mode(text: str) -> int:
    if not isinstance(text, str) or not re.fullmatch("0?[0-7]{3}", text):
        raise ValueError(f'mode must be three octal digits like "640", not {text!r}')
    return int(text, 8)


__all__ = ["WriteStage"]
