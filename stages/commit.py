"""How finished output becomes visible: a name for a temporary file, the last bytes for a descriptor."""

from __future__ import annotations

import errno
import os
import select
import stat
from typing import Final

#: What link(2) says where the filesystem has no hard links (FAT, exFAT, some FUSE and network filesystems).
_NO_HARD_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1


def publish_file(temporary: str, final: str, force: bool) -> None:
    """Give the file ``temporary`` the name ``final`` in one step, in the same folder.

    Raises:
        FileExistsError: ``final`` is there, and ``force`` is not set or it is no regular file.
        OSError: Anything else; ``temporary`` is then still there.
    """
    if force:
        _refuse_irregular(final)
        os.replace(temporary, final)
        return
    try:
        os.link(temporary, final)
    except OSError as ex:
        if ex.errno not in _NO_HARD_LINKS:
            raise
        rename_without_replacing(temporary, final)
    else:
        os.unlink(temporary)


def rename_without_replacing(old: str, new: str) -> None:
    """Rename by renameat2(2) with RENAME_NOREPLACE.

    Raises:
        FileExistsError: ``new`` is there.
        OSError: EOPNOTSUPP where the filesystem cannot do it. There is no third way: to reserve the name
            with an empty file and rename over it would leave that file behind if killed in between.
    """
    import ctypes  # Some milliseconds that only a filesystem without hard links costs.

    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    number = errno.ENOSYS
    if function is not None:
        if function(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        number, text = errno.EOPNOTSUPP, "This filesystem cannot make a file without overwriting (try --force)"
    else:
        text = os.strerror(number)
    raise OSError(number, text, new)


def sync_folder(folder: str) -> None:
    """Bring the names in ``folder`` to the disk."""
    descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``; waits where the descriptor is non-blocking, as a shared terminal or pipe may be."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            wait_until_ready(descriptor, select.POLLOUT)


def umask() -> int:
    """This process's umask, read without setting it, for that would be seen by the other threads."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o077  # a kernel before 4.7 does not say: nobody else may read it


def wait_until_ready(descriptor: int, event: int) -> None:
    """Wait until a non-blocking descriptor can be read or written, or has an error to tell."""
    poll = select.poll()
    poll.register(descriptor, event)
    poll.poll()


def _refuse_irregular(final: str) -> None:
    """Never rename over a device or FIFO, even one that has appeared only now."""
    try:
        mode = os.lstat(final).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, "Something that is no regular file has appeared there", final)


__all__ = [
    "publish_file",
    "rename_without_replacing",
    "sync_folder",
    "umask",
    "wait_until_ready",
    "write_all",
]
