"""The raw end from which a chain's first stage reads its item's source."""

from __future__ import annotations

import errno
import io
import os
import select
import stat
from typing import TYPE_CHECKING, Final

from atbu.mp_pipeline.counters import counter
from atbu.mp_pipeline.pipe_descriptor import grow_pipe

from .commit import wait_until_ready
from .endpoints import DescriptorSource, PathSource
from .errors import source_changed

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: What a pipe holds that nobody has grown. A stream that fills it gets a larger one: with this the writer and we stop
#: and wake each other every 64 KiB, a third of the time of ``cat data | mpp run zstd`` on a busy machine.
_FULL_PIPE_BYTES: Final = 64 << 10


class SourceReader(io.RawIOBase):
    """Reads a source, counts it, and refuses to end where a file has changed meanwhile.

    The end of data is told only when the file is what it was at the start, so that a stage that finishes its
    format at the end never does so for a mixture of two files.

    Args:
        source: A path is opened and closed here; a descriptor is only used.
        name: What messages call the input, and the ``filename`` of every OSError.

    Raises:
        OSError: The file cannot be opened, or is no regular file.
    """

    def __init__(self, source: PathSource | DescriptorSource, name: str) -> None:
        super().__init__()
        self._shown = name
        self._counter = counter("bytes_in")
        self._is_owned = isinstance(source, PathSource)
        self._before: os.stat_result | None = None
        #: Bytes read so far.
        self.bytes_read = 0
        # A terminal's end is none for the next read; for whoever reads once more it must stay one.
        self._is_at_end = False
        self._is_grown = False
        #: How many there will be, where that is known.
        self.size: int | None = None
        if isinstance(source, PathSource):
            self._descriptor = self._open(source.path)
        else:
            self._descriptor = source.descriptor.fileno()
            self.size = source.size

    def _open(self, path: str) -> int:
        # Non-blocking is for a FIFO that has taken the file's place: it must not hang; a file does not mind it.
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as ex:
            raise OSError(ex.errno, ex.strerror, self._shown) from None
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self._shown)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "Not a regular file", self._shown)
            # Some of the kernel's own files (/proc) say 0 and hold more: 0 is no knowledge.
            self.size = status.st_size or None
            self._before = status
            if status.st_size:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if self._is_at_end:
            return 0
        while True:
            try:
                n = os.readv(self._descriptor, (buffer,))
                break
            except BlockingIOError:
                wait_until_ready(self._descriptor, select.POLLIN)
            except OSError as ex:
                raise OSError(ex.errno, ex.strerror, self._shown) from None
        self.bytes_read += n
        self._counter.add(n)
        if n >= _FULL_PIPE_BYTES and not self._is_grown:
            self._is_grown = True
            if not self._is_owned:
                grow_pipe(self._descriptor)
        if self.size is not None and self.bytes_read > self.size:
            raise source_changed(self._shown, f"it had {self.size} bytes and gave more")
        if n == 0 and memoryview(buffer).nbytes:
            self._check_unchanged()
            self._is_at_end = True
        return n

    def _check_unchanged(self) -> None:
        if self.size is not None and self.bytes_read != self.size:
            raise source_changed(self._shown, f"it had {self.size} bytes and gave {self.bytes_read}")
        if self._before is not None:
            after = os.fstat(self._descriptor)
            if after.st_size != self._before.st_size:
                raise source_changed(self._shown, f"it had {self._before.st_size} bytes, now {after.st_size}")
            if after.st_mtime_ns != self._before.st_mtime_ns:
                raise source_changed(self._shown, "its time of modification moved")

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        if not self.closed and self._is_owned:
            self._is_owned = False
            os.close(self._descriptor)
        super().close()


__all__ = ["SourceReader"]
