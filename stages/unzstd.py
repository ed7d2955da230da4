"""Decompression of the Zstandard format, as ``zstd -d`` does it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Annotated, Any, ClassVar, Final, cast

from .byte_stage import CHUNK_BYTES, ByteStage
from .checks import Between, check_whole_number
from .errors import StageDataError
from .file_item import FileItem
from .zstd_frames import FrameWalker

if TYPE_CHECKING:
    from zstandard import ZstdDecompressor

#: Compressed bytes handed to the decompressor at once; larger portions gain nothing.
_READ_BYTES: Final = 256 << 10
_MIN_WINDOW_LOG: Final = 10
_MAX_WINDOW_LOG: Final = 31
_DEFAULT_WINDOW_LOG: Final = 27
#: What decompression takes beside the window: its tables, a portion in, a portion out.
_BUFFERS_BYTES: Final = 4 << 20


class UnzstdStage(ByteStage):
    """Decompress what zstd has written, also several frames one after another.

    Input that is empty, ends in the middle of a frame, or goes on after it with anything else is an error.

    Args:
        long: Refuse frames that need a window of more than 2**long bytes of memory, 10 to 31; 27 as in ``zstd``.
    """

    name = "unzstd"
    strips_suffixes: ClassVar[Mapping[str, str]] = {".zst": "", ".tzst": ".tar"}
    #: The window is worth keeping from one small file to the next.
    keep_in_worker: ClassVar[bool] = True

    def __init__(self, long: Annotated[int, Between(_MIN_WINDOW_LOG, _MAX_WINDOW_LOG)] = _DEFAULT_WINDOW_LOG) -> None:
        super().__init__()
        self.long = check_whole_number("long", long, _MIN_WINDOW_LOG, _MAX_WINDOW_LOG)
        self._kept_decompressor: ZstdDecompressor | None = None
        self._kept_buffer: memoryview | None = None

    def memory_bytes(self) -> int:
        # A frame may ask for the whole window that is allowed; the rest is buffers.
        return (1 << self.long) + _BUFFERS_BYTES

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept_decompressor": None, "_kept_buffer": None}

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        from zstandard import ZstdDecompressor, ZstdError  # only the worker that decompresses needs the library

        if self._kept_decompressor is None or self._kept_buffer is None:
            self._kept_decompressor = ZstdDecompressor(max_window_size=1 << self.long)
            self._kept_buffer = memoryview(bytearray(CHUNK_BYTES))
        buffer = self._kept_buffer
        source = _WalkedSource(reader, self, item)
        # Into a buffer of ours and not decompressobj(): a small input may hold gigabytes, and that gives all of
        # a portion's output at once.
        output = self._kept_decompressor.stream_reader(
            cast(IO[bytes], source), read_size=_READ_BYTES, read_across_frames=True, closefd=False
        )
        try:
            while n := output.readinto(buffer):
                writer.write(buffer[:n])
        except ZstdError as ex:
            raise StageDataError(self.label, item.name, self._explain(str(ex))) from ex
        source.check_end()

    def _explain(self, text: str) -> str:
        reason = text.removeprefix("zstd decompress error: ")
        if "too much memory" in reason:
            needs = f"it needs a larger window than 2**{self.long} bytes"
            return f"{needs}; allow it with long = {_MAX_WINDOW_LOG} of 'unzstd'"
        return f"the compressed data is corrupt ({reason})"


class _WalkedSource:
    """The compressed input on its way to the decompressor, with an eye on where frames end."""

    def __init__(self, reader: io.BufferedReader, stage: UnzstdStage, item: FileItem) -> None:
        self._reader = reader
        self._stage = stage
        self._item = item
        self._walker = FrameWalker()

    def read(self, size: int) -> bytes:
        data = self._reader.read1(size)
        try:
            self._walker.feed(data)
        except ValueError as ex:
            raise self._error(str(ex)) from None
        return data

    def check_end(self) -> None:
        """Raise unless the input has ended where a frame has."""
        if self._walker.is_empty:
            raise self._error("the input is empty, which no zstd data is")
        if not self._walker.is_between_frames:
            raise self._error("the compressed data ends in the middle of a frame (truncated?)")

    def _error(self, problem: str) -> StageDataError:
        return StageDataError(self._stage.label, self._item.name, problem)


__all__ = ["UnzstdStage"]
