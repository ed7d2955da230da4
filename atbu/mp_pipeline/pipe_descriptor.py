"""The system calls under the ends of a pipe: waiting, writing whole frames, and ends that never block."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from .exception import PipeConnectionAborted
from .frames import END_FRAME

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

# The largest pipe an unprivileged process may ask for by default (/proc/sys/fs/pipe-max-size).
GROWN_PIPE_BYTES: Final = 1 << 20
# No reader takes more at once: a header's claim is believed only as far as data arrive.
MAX_READ_BYTES: Final = 1 << 20
# How long a program that ends waits for a reader that takes nothing before it drops the clean end.
EXIT_GRACE_S: Final = 5.0
# How often it looks whether the program ends; nothing else tells a thread.
EXIT_LOOK_S: Final = 0.2


def grow_pipe(fd: int) -> None:
    """Give the pipe a buffer of 1 MiB, where it has less and the system allows it."""
    # EPERM: the user's pipes are limited together. EBADF: a socket. Both work, only slower.
    with contextlib.suppress(OSError):
        if fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) < GROWN_PIPE_BYTES:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, GROWN_PIPE_BYTES)


def wait_ready(fd: int, events: int, interrupt_fd: int | None) -> None:
    """Wait until ``fd`` is ready for ``events`` or broken; PipeConnectionAborted once ``interrupt_fd`` is readable."""
    poll = select.poll()
    poll.register(fd, events)
    if interrupt_fd is not None:
        poll.register(interrupt_fd, select.POLLIN)
    for ready, _ in poll.poll():
        if ready == interrupt_fd:
            raise PipeConnectionAborted("another stage of the chain has failed")


def read_into(fd: int, buffers: Sequence[Any], interrupt_fd: int | None) -> int:
    """Read what is there, at least one byte, into ``buffers``; 0 once all writers are gone."""
    while True:
        if interrupt_fd is not None:
            wait_ready(fd, select.POLLIN, interrupt_fd)
        try:
            return os.readv(fd, buffers)
        except BlockingIOError:
            wait_ready(fd, select.POLLIN, interrupt_fd)
        except ConnectionResetError:
            return 0


def read_some(fd: int, limit: int, interrupt_fd: int | None) -> bytes:
    """Read what is there, one to ``limit`` bytes and never more than 1 MiB; empty once all writers are gone."""
    while True:
        if interrupt_fd is not None:
            wait_ready(fd, select.POLLIN, interrupt_fd)
        try:
            return os.read(fd, min(limit, MAX_READ_BYTES))
        except BlockingIOError:
            wait_ready(fd, select.POLLIN, interrupt_fd)
        except ConnectionResetError:
            return b""


def open_descriptor(connection: Connection) -> int:
    """The descriptor, without the mark that StageConnection.fileno() leaves; OSError where it is closed."""
    fd: int | None = connection._handle  # type: ignore[attr-defined]
    if fd is None:
        raise OSError("handle is closed")
    return fd


def write_rest(connection: Connection, buffers: Sequence[Any], skip: int, interrupt_fd: int | None) -> None:
    """Write all of ``buffers`` but their first ``skip`` bytes, copying nothing."""
    rest = [memoryview(buffer) for buffer in buffers]
    while True:
        while rest and skip >= len(rest[0]):
            skip -= len(rest.pop(0))
        if not rest:
            return
        rest[0] = rest[0][skip:]
        # Anew in each turn: another thread may have closed it, and the number may be another file's by now.
        fd = open_descriptor(connection)
        if interrupt_fd is not None:
            wait_ready(fd, select.POLLOUT, interrupt_fd)
        try:
            skip = os.writev(fd, rest)
        except BlockingIOError:
            call_on_full(connection)
            wait_ready(fd, select.POLLOUT, interrupt_fd)
            skip = 0
        except BrokenPipeError:
            raise reader_gone() from None


def reader_gone() -> BrokenPipeError:
    """The error for data that nobody will read."""
    return BrokenPipeError(errno.EPIPE, "the reader of the pipe has gone")


def call_on_full(connection: Connection) -> None:
    """Tell whoever wants to know that a write to ``connection`` is about to wait for its reader."""
    on_full = getattr(connection, "on_full", None)
    if on_full is not None:
        on_full()


def try_send(fd: int, frame: bytes) -> bool:
    """Write a short frame if that can be done at once. Never raises.

    Returns:
        False if the pipe is full; True if there is nothing left to do: it was written, or nobody reads.
    """
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    try:
        ready = poll.poll(0)
        if not ready:
            return False
        if not ready[0][1] & (select.POLLERR | select.POLLNVAL | select.POLLHUP):
            # Room for one page at least, so the kernel takes up to PIPE_BUF bytes without blocking.
            os.write(fd, frame)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def is_reader_gone(fd: int) -> bool:
    """Whether nobody can read any more what is written to ``fd``."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


def send_end_when_possible(fd: int, interrupt_fd: int | None) -> None:
    """Write the clean end, waiting for room until the reader drains the pipe or goes. Raises only for the interrupt."""
    while not try_send(fd, END_FRAME):
        wait_ready(fd, select.POLLOUT, interrupt_fd)


def send_in_background(fd: int, frame: bytes) -> None:
    """Write a short last frame to a full pipe as soon as there is room. Never raises; ``fd`` stays the caller's."""
    # Without a descriptor for it the end stays unsent, so that the reader sees an abort.
    with contextlib.suppress(OSError):
        send_and_close_in_background(os.dup(fd), frame)


def send_and_close_in_background(fd: int, frame: bytes) -> None:
    """Take over ``fd``, write a short last frame to its full pipe as soon as there is room, then close it.

    The thread ends when the reader drains the pipe or goes. A program does not end before it, for the end of a
    stream that its reader is still taking would be lost; but it does not wait for a reader that takes nothing.
    """
    thread = threading.Thread(target=_send_and_close, args=(fd, frame), name="pipe-end", daemon=False)
    try:
        thread.start()
    except RuntimeError:
        # No more threads, or the interpreter is ending: the reader sees the truth, that the end is missing.
        close_descriptor(fd)


def _send_and_close(fd: int, frame: bytes) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    is_exiting, unread = False, -1
    try:
        while not try_send(fd, frame):
            if poll.poll(EXIT_GRACE_S * 1000 if is_exiting else EXIT_LOOK_S * 1000):
                continue
            if is_exiting and unread == (unread := unread_bytes(fd)):
                return
            is_exiting = not threading.main_thread().is_alive()
    finally:
        close_descriptor(fd)


def unread_bytes(fd: int) -> int:
    """How many bytes the pipe holds that nobody has read."""
    import array
    import termios  # both are needed here only

    count = array.array("i", [0])
    try:
        fcntl.ioctl(fd, termios.FIONREAD, count)
    except OSError:
        return 0
    return count[0]


def close_descriptor(fd: int) -> None:
    """Close ``fd``, whatever it is. Never raises."""
    with contextlib.suppress(OSError):
        os.close(fd)
