"""Where an item's bytes come from and where they go, and how a path is told to be one or the other."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from atbu.mp_pipeline.descriptors import PassedDescriptor

#: As many links as the kernel follows in one path.
_MAX_LINKS: Final = 40


# Nobody changes one. But "frozen" makes the making three times as slow, and there are two of these for each file.
@dataclass(slots=True, unsafe_hash=True)
class PathSource:
    """A regular file, opened by the first stage in its worker; it can be read again."""

    path: str


@dataclass(frozen=True, slots=True)
class DescriptorSource:
    """An open descriptor (stdin, a FIFO, a command's output), read where it stands; it can be read once.

    Args:
        descriptor: Owned by whoever made it; the worker reads from a copy.
        size: How many bytes it will give, exactly, or None; a hint does not belong here.
    """

    descriptor: PassedDescriptor
    size: int | None = None


@dataclass(frozen=True, slots=True)
class CommandSource:
    """What a command writes that somebody runs beside us; it can be read once.

    Args:
        descriptor: The reading end of its output; owned by whoever runs it, as the next one is.
        report: Where its supervisor tells how it has ended (:mod:`mpp_stages.supervised`).
        label: What messages call it.
        ok_status: The exit statuses that count as success.
    """

    descriptor: PassedDescriptor
    report: PassedDescriptor
    label: str
    ok_status: tuple[int, ...] = (0,)


@dataclass(slots=True, unsafe_hash=True)
class PathTarget:
    """A file to be made: filled as a temporary beside it, and published by its name when all succeeded.

    Args:
        path: As messages call it, which is as the user named it.
        force: Whether a file that is already there is replaced.
        final: The absolute path that it gets, where the user has not named it: a link that is there leads to what
            he did not mean, and is refused. None: ``path``, and links are followed.
    """

    path: str
    force: bool = False
    final: str | None = None


@dataclass(frozen=True, slots=True)
class DescriptorTarget:
    """An open descriptor that is written directly (stdout, a FIFO, a device); never renamed or unlinked."""

    descriptor: PassedDescriptor
    name: str


Source = PathSource | DescriptorSource | CommandSource
Target = PathTarget | DescriptorTarget


def open_source(path: str) -> Source:
    """Tell what ``path`` is as an input: a regular file is only named, anything else is opened here.

    /dev/stdin and /dev/fd/N mean this process's own descriptor, read where it stands. Opening a FIFO blocks
    until it has a writer.

    Raises:
        OSError: There is no such file, or it is a folder or a socket; ``filename`` is ``path``.
    """
    if stat.S_ISREG(os.lstat(path).st_mode):
        return PathSource(path)
    mode = os.stat(path).st_mode
    number = own_descriptor(path)
    if number is not None:
        return source_of(_copy_of(number, path, os.O_WRONLY))
    if stat.S_ISREG(mode):
        return PathSource(path)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return source_of(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY))


def open_target(path: str, force: bool = False, *, stdout: int = 1) -> Target:
    """Tell what ``path`` is as an output: a regular or absent file is only named, anything else is opened here.

    /dev/stdout and /dev/fd/N mean this process's own descriptor. Opening a FIFO blocks until it has a reader.

    Args:
        path: As the user named it.
        force: Whether a file that is already there may be replaced.
        stdout: The descriptor that /dev/stdout and /dev/fd/1 stand for, where stdout has been moved.

    Raises:
        FileExistsError: A regular file is there and ``force`` is not set.
        OSError: It is a folder, or cannot be opened; ``filename`` is ``path``.
    """
    from atbu.mp_pipeline.descriptors import PassedDescriptor

    if not os.path.basename(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return PathTarget(path, force)
    number = own_descriptor(path) if stat.S_ISLNK(mode) else None
    if number is not None:
        copy = _copy_of(stdout if number == 1 else number, path, os.O_RDONLY)
        return DescriptorTarget(PassedDescriptor(copy), path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return PathTarget(path, force)  # a link whose target is yet to be made
    if stat.S_ISREG(mode):
        if not force:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        return PathTarget(path, force)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
    return DescriptorTarget(PassedDescriptor(descriptor), path)


def source_of(descriptor: int) -> DescriptorSource:
    """The source that reads ``descriptor``, which it takes over, from where it stands to its end."""
    from atbu.mp_pipeline.descriptors import PassedDescriptor

    size = None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        size = max(0, status.st_size - os.lseek(descriptor, 0, os.SEEK_CUR))
    return DescriptorSource(PassedDescriptor(descriptor), size)


def follow_links(path: str) -> str:
    """The absolute path of the file that ``path`` leads to, which need not exist.

    Raises:
        OSError: Too many links.
    """
    found = path
    for _ in range(_MAX_LINKS):
        try:
            link = os.readlink(found)
        except OSError:  # no link, or nothing there: this is the file
            return os.path.abspath(found) if found is path else os.path.realpath(found)
        found = os.path.join(os.path.dirname(found), link)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def own_descriptor(path: str) -> int | None:
    """The number N where ``path`` leads to this process's /proc/self/fd/N, else None."""
    own_folder = f"/proc/{os.getpid()}/"
    for _ in range(_MAX_LINKS):
        folder, name = os.path.split(path)
        folder = os.path.realpath(folder)
        if name.isdecimal() and folder.startswith(own_folder) and folder.endswith("/fd"):
            return int(name)
        path = os.path.join(folder, name)
        try:
            path = os.path.join(folder, os.readlink(path))
        except OSError:
            return None
    return None


def _copy_of(number: int, path: str, wrong_mode: int) -> int:
    """A close-on-exec copy of a descriptor, which shares its position; refused if open for the other direction."""
    try:
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == wrong_mode:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError as ex:
        raise OSError(ex.errno, ex.strerror, path) from None


__all__ = [
    "CommandSource",
    "DescriptorSource",
    "DescriptorTarget",
    "PathSource",
    "PathTarget",
    "Source",
    "Target",
    "follow_links",
    "open_source",
    "open_target",
    "own_descriptor",
    "source_of",
]
