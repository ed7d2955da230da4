"""The journal's file: opened, locked, read once, and then only appended to."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from typing import Final

from mpp_cli.errors import FileProblem, UsageProblem, shown

from .fingerprint import differences
from .index import DoneIndex
from .records import MAGIC, Header, Published, done_line, header_line, publish_line, read_line

#: Read at once; a line that is longer is no line of ours.
_READ_BYTES: Final = 1 << 18
_MAX_LINE_BYTES: Final = 1 << 20
#: Filesystems without locks; two runs at once cannot be told there.
_NO_LOCKS: Final = (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)
#: Some seconds of a run of small files; more would make the next run look at more outputs.
_MAX_DONE_WAITING: Final = 256


class Journal:
    """What earlier runs have done, and what this one does. Open it with :func:`open_journal`.

    Every record is handed to the kernel before the method returns, so it outlives this process however that ends.
    It is not brought to the disk before :meth:`close`.

    Attributes:
        damaged: How many lines of earlier runs could not be read.
    """

    def __init__(self, descriptor: int, path: str, index: DoneIndex) -> None:
        self._descriptor = descriptor
        self._path = path
        self._index = index
        self._number = 0
        self._done_waiting: list[int] = []
        self.damaged = 0
        # A copy in a worker that outlives us for a moment would keep the next run out.
        os.register_at_fork(after_in_child=self._close_descriptor)

    def __len__(self) -> int:
        """How many outputs of earlier runs are on record."""
        return len(self._index)

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def is_done(self, path: str, size: int, mtime_ns: int, target: str) -> bool:
        """Whether this source was done, and its output is still there with its size. Paths are absolute."""
        try:
            output = os.stat(target)
        except OSError:
            return False
        if not stat.S_ISREG(output.st_mode):
            return False
        return self._index.has(_plain(path), size, mtime_ns, _plain(target), output.st_size)

    def before_publish(self, output: Published) -> int:
        """Record an output that is complete and about to get its name; gives the number for :meth:`published`.

        Raises:
            OSError: It cannot be recorded; ``filename`` is the journal.
        """
        self._number += 1
        output = output._replace(path=_plain(output.path), target=_plain(output.target))
        # One write for this and what has been done since the last one.
        self._append(self._take_done() + publish_line(self._number, output))
        return self._number

    def published(self, number: int) -> None:
        """The output has its name. Written with the next record, for the next run finds it out by itself."""
        self._done_waiting.append(number)
        if len(self._done_waiting) >= _MAX_DONE_WAITING:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._done_waiting:
            self._append(self._take_done())

    def close(self) -> None:
        """Bring all records to the disk and let the next run in; any number of times.

        Raises:
            OSError: That failed; the journal is closed all the same.
        """
        if self._descriptor < 0:
            return
        try:
            self.flush()
            os.fsync(self._descriptor)
        except OSError as ex:
            raise OSError(ex.errno, ex.strerror, self._path) from None
        finally:
            self._close_descriptor()

    def _take_done(self) -> bytes:
        numbers, self._done_waiting = self._done_waiting, []
        return done_line(numbers) if numbers else b""

    def _append(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):  # a full disk: the second write says so
                written += os.write(self._descriptor, data[written:])
        except OSError as ex:
            if written:  # a torn line would spoil the next one
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
            raise OSError(ex.errno, ex.strerror, self._path) from None

    def _close_descriptor(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _plain(path: str) -> str:
    """The path as it is without ``.`` and empty parts, which ``..`` is not: behind a link that is another folder."""
    if "/./" in path or "//" in path:
        return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
    return path


def open_journal(path: str, header: Header, *, is_resumed: bool) -> Journal:
    """Open a journal, or begin one; from then on no other run can.

    Args:
        path: The file.
        header: This run's pipeline.
        is_resumed: Whether to go on where earlier runs have stopped.

    Raises:
        UsageProblem: It cannot be opened, is in use, is another pipeline's, or not a journal at all.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    except OSError as ex:
        raise FileProblem("--journal", path, ex) from ex
    try:
        return _opened(descriptor, path, header, is_resumed=is_resumed)
    except OSError as ex:
        os.close(descriptor)
        raise FileProblem("--journal", path, ex) from ex
    except BaseException:
        os.close(descriptor)
        raise


def _opened(descriptor: int, path: str, header: Header, *, is_resumed: bool) -> Journal:
    name = shown(path)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise UsageProblem(f"mpp: --journal: '{name}' is no regular file")
    _lock(descriptor, name)
    begin = os.pread(descriptor, len(MAGIC), 0)
    if not MAGIC.startswith(begin):
        raise UsageProblem(f"mpp: --journal: '{name}' is there and is no journal of mpp; it was left alone")
    if begin and not is_resumed:
        raise UsageProblem(
            f"mpp: --journal: '{name}' is the journal of an earlier run; go on with it by --resume, or remove it"
        )
    if len(begin) < len(MAGIC):
        os.ftruncate(descriptor, 0)  # a run was killed at its first bytes
    index = DoneIndex()
    damaged = _load(descriptor, name, header, index)
    size = os.fstat(descriptor).st_size
    is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    # The line that a killed run has begun stands alone from now on, so that it spoils no other.
    start = b"\n" if is_torn else b""
    journal = Journal(descriptor, path, index)
    journal.damaged = damaged
    journal._append(start + header_line(header, os.getpid(), time.time()))
    return journal


def _lock(descriptor: int, name: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageProblem(f"mpp: --journal: '{name}' is in use by another run; wait for its end") from None
    except OSError as ex:
        if ex.errno not in _NO_LOCKS:
            raise


def _load(descriptor: int, name: str, header: Header, index: DoneIndex) -> int:
    """Read what earlier runs have recorded into ``index``; says how many lines were damaged."""
    damaged = 0
    begun: dict[int, Published] = {}  # as many as a run had under way at once
    for line in _lines(descriptor):
        said = read_line(line)
        if said is None:
            damaged += 1
        elif isinstance(said, list):
            for number in said:
                output = begun.pop(number, None)
                if output is not None:
                    index.add(*output[:5])
        elif isinstance(said, Header):
            _add_if_there(begun, index)  # the run before this one was killed, and its numbers are over
            _compare(said, header, name)
        else:
            begun[said[0]] = said[1]
    _add_if_there(begun, index)
    return damaged


def _add_if_there(begun: dict[int, Published], index: DoneIndex) -> None:
    """Of the outputs that were about to get their names, note those that have."""
    for output in begun.values():
        try:
            found = os.stat(output.target)
        except OSError:
            continue
        # Not the device: its number may be another one after a reboot.
        if found.st_ino == output.ino:
            index.add(*output[:5])
    begun.clear()


def _compare(old: Header, new: Header, name: str) -> None:
    if old.hash != new.hash:
        raise UsageProblem(
            *(
                f"mpp: --journal: '{name}' is of another pipeline ('{shown(old.pipeline)}'): {difference}"
                for difference in differences(old.stages, new.stages)
            ),
            "mpp: to do all files again by this one, give it a journal of its own",
        )


def _lines(descriptor: int) -> Iterator[bytes]:
    """The lines of the file, whole ones and a torn last one; blank ones are left out."""
    position, rest = 0, b""
    while data := os.pread(descriptor, _READ_BYTES, position):
        position += len(data)
        *lines, rest = (rest + data).split(b"\n")
        yield from filter(None, lines)
        if len(rest) > _MAX_LINE_BYTES:  # what a crashed filesystem may leave; what comes before a newline is lost
            rest = b"?"
    if rest:
        yield rest
