"""The raw ends to which the last stage of a chain writes: a temporary file, or an open descriptor."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from typing import TYPE_CHECKING, Final

from atbu.mp_pipeline.counters import counter
from atbu.mp_pipeline.exception import InvalidStateError

from .commit import umask, write_all
from .endpoints import DescriptorTarget, PathSource, PathTarget
from .extended_attributes import copy_extended_attributes
from .file_item import FileItem
from .holes import HOLE_BLOCK_BYTES, leading_run

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
#: How much of the end waits for the success of all stages: more than any format's trailer, and still little
#: enough to travel on the item.
_HOLD_BACK_BYTES: Final = 64 << 10
#: How much of the first portion goes out although it may be all there is: a reader of a failed run's output must
#: see something begun, for to some formats (xz) no bytes at all are a valid file.
_FIRST_BYTES: Final = 16
#: Filesystems without owners and modes (FAT) refuse to set them; the data are none the worse for it.
_REFUSALS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


class TemporarySink(io.RawIOBase):
    """Fills the item's temporary file. ``close()`` keeps the descriptor, for :meth:`finish` comes after it.

    Args:
        item: Says which temporary, and whose mode and times the file gets.
        is_synced: Whether the data must be on the disk before the file can get its name.
        mode: The file's mode; that of the source file, or of any new file, if None.
        keeps_times: Whether it gets the source file's times.

    Raises:
        OSError: ``filename`` is the target as the user named it.
    """

    def __init__(self, item: FileItem, is_synced: bool, mode: int | None = None, keeps_times: bool = True) -> None:
        super().__init__()
        if item.temporary is None or not isinstance(item.target, PathTarget):
            raise InvalidStateError(f"{item.name!r} has no temporary: before_attempt() chooses it")
        self._shown = item.target.path
        self._is_synced = is_synced
        self._mode = mode
        self._keeps_times = keeps_times
        self._counter = counter("bytes_out")
        self.bytes_written = 0
        self._ends_with_hole = False
        try:
            self._descriptor = os.open(item.temporary, _NEW_FILE, 0o600)
        except OSError as ex:
            raise self._named(ex) from None

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of ``data``: up to where a hole begins, or the hole."""
        try:
            if memoryview(data).nbytes < HOLE_BLOCK_BYTES:
                n = os.write(self._descriptor, data)
            else:
                view = memoryview(data).cast("B")
                is_hole, n = leading_run(view, self.bytes_written)
                if is_hole:
                    os.lseek(self._descriptor, n, os.SEEK_CUR)
                else:
                    n = os.write(self._descriptor, view[:n])
                self._ends_with_hole = is_hole
        except OSError as ex:
            raise self._named(ex) from None
        self.bytes_written += n
        self._counter.add(n)
        return n

    def finish(self, item: FileItem) -> None:
        """Give the complete file its mode and times, and say on the item that it is complete."""
        try:
            if self._ends_with_hole:
                os.ftruncate(self._descriptor, self.bytes_written)
            _complete(self._descriptor, item, self._is_synced, self._mode, self._keeps_times)
            # Some filesystems tell a failed write only here.
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
        except OSError as ex:
            shown = item.name if ex.filename is not None else self._shown  # only the source is known by a path
            raise OSError(ex.errno, ex.strerror, shown) from None
        item.bytes_written = self.bytes_written
        item.is_synced = self._is_synced
        item.is_written = True

    def release(self) -> None:
        """Close the descriptor; the file is the parent's to unlink."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _named(self, ex: OSError) -> OSError:
        return OSError(ex.errno, ex.strerror, self._shown)


def fill_temporary(item: FileItem, data: bytes, *, is_synced: bool, mode: int | None, keeps_times: bool) -> None:
    """What a TemporarySink does with ``data`` and nothing else, in one go and not counted.

    Raises:
        OSError: ``filename`` is the target as the user named it, or the source where that could not be asked.
    """
    try:
        descriptor = os.open(item.temporary, _NEW_FILE, 0o600)  # type: ignore[arg-type]
        try:
            if len(data) < HOLE_BLOCK_BYTES:
                n = os.write(descriptor, data)
                if n < len(data):
                    write_all(descriptor, memoryview(data)[n:])
            else:
                _write_with_holes(descriptor, memoryview(data))
            _complete(descriptor, item, is_synced, mode, keeps_times)
        finally:
            os.close(descriptor)  # some filesystems tell a failed write only here
    except OSError as ex:
        is_of_source = ex.filename is not None and ex.filename != item.temporary
        raise OSError(ex.errno, ex.strerror, item.name if is_of_source else item.target.path) from None  # type: ignore[union-attr]
    item.bytes_written = len(data)
    item.is_synced = is_synced
    item.is_written = True


def _write_with_holes(descriptor: int, data: memoryview) -> None:
    """Fill an empty file with ``data``, but for its long runs of zeros."""
    position, is_hole = 0, False
    while position < len(data):
        is_hole, n = leading_run(data[position:], position)
        if is_hole:
            os.lseek(descriptor, n, os.SEEK_CUR)
        else:
            write_all(descriptor, data[position : position + n])
        position += n
    if is_hole:
        os.ftruncate(descriptor, position)


class DescriptorSink(io.RawIOBase):
    """Writes an open descriptor, all but the end, which :meth:`finish` leaves on the item for publish().

    Raises:
        OSError: ``filename`` is the target's name.
    """

    def __init__(self, target: DescriptorTarget) -> None:
        super().__init__()
        self._descriptor = target.descriptor.fileno()
        self._shown = target.name
        self._counter = counter("bytes_out")
        self._held = bytearray()
        self.bytes_written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data).cast("B")
        n, held = len(view), self._held
        due = len(held) + n - _HOLD_BACK_BYTES
        if self.bytes_written == len(held):  # nothing has gone out yet
            due = max(due, min(_FIRST_BYTES, len(held) + n - 1))
        of_held = max(0, min(due, len(held)))
        of_new = max(0, due - of_held)
        if of_held:
            self._send(memoryview(bytes(held[:of_held])))
            del held[:of_held]
        if of_new:
            self._send(view[:of_new])
        held += view[of_new:]
        self.bytes_written += n
        self._counter.add(n)
        return n

    def finish(self, item: FileItem) -> None:
        """Leave the held-back end on the item."""
        item.held_back = bytes(self._held)
        item.bytes_written = self.bytes_written
        item.is_written = True

    def release(self) -> None:
        """Nothing to do: the descriptor is the pipeline's."""

    def _send(self, data: memoryview) -> None:
        try:
            write_all(self._descriptor, data)
        except OSError as ex:
            raise OSError(ex.errno, ex.strerror, self._shown) from None


def _complete(descriptor: int, item: FileItem, is_synced: bool, mode: int | None, keeps_times: bool) -> None:
    """All data are written: mode, times, and the disk if it must be."""
    _take_over_attributes(descriptor, item, keeps_times)
    if mode is not None:
        _set_mode(descriptor, mode)
    if is_synced:
        os.fsync(descriptor)


def _take_over_attributes(descriptor: int, item: FileItem, keeps_times: bool) -> None:
    """Owner, mode and times of a source file; for anything else the mode of any new file."""
    source = item.source_status
    if source is None:
        if not isinstance(item.source, PathSource):
            _set_mode(descriptor, 0o666 & ~umask())
            return
        source = os.stat(item.source.path)
    own = os.fstat(descriptor)
    mode = source.st_mode & 0o777  # set-id bits are for that file's content, not for this one's
    if own.st_uid != source.st_uid or own.st_gid != source.st_gid:
        mode = _take_over_owner(descriptor, source, mode)
    _set_mode(descriptor, mode)
    if not item.is_source_bare:
        copy_extended_attributes(item.source.path, source, descriptor)  # type: ignore[union-attr]  # it has a status
    if keeps_times:
        try:
            os.utime(descriptor, ns=(source.st_atime_ns, source.st_mtime_ns))
        except OSError as ex:
            if ex.errno not in _REFUSALS:
                raise


def _set_mode(descriptor: int, mode: int) -> None:
    try:
        os.fchmod(descriptor, mode)
    except OSError as ex:
        if ex.errno not in _REFUSALS:
            raise


def _take_over_owner(descriptor: int, source: os.stat_result, mode: int) -> int:
    """Give the file the source's owner, as far as we may; returns the mode that is safe for whom it got."""
    try:
        os.fchown(descriptor, -1, source.st_gid)
    except OSError:
        # Another group would get what the source's group may: leave it no more than everybody has.
        mode &= 0o707 | (mode & 0o007) << 3
    with contextlib.suppress(OSError):  # only root may give files away
        os.fchown(descriptor, source.st_uid, -1)
    return mode


__all__ = ["DescriptorSink", "TemporarySink"]
