"""StageConnection: the connection a stage gets, whose end of data waits for the stage's verdict."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from typing import Any, NoReturn

from . import frames
from .exception import InvalidPipeConnectionMessage, InvalidStateError, PipeConnectionAborted
from .pipe_descriptor import (
    call_on_full,
    close_descriptor,
    is_reader_gone,
    open_descriptor,
    read_some,
    reader_gone,
    send_end_when_possible,
    try_send,
    write_rest,
)

_LENGTH = struct.Struct("!i")
_LONG_LENGTH = struct.Struct("!Q")
_MAX_SHORT_LENGTH = 0x7FFFFFFF


class WriterState:
    """What is known of the data a writer has sent; shared by all that write to one connection."""

    __slots__ = ("is_ended", "is_mid_frame")

    def __init__(self) -> None:
        #: The end has been sent: nothing may follow.
        self.is_ended = False
        #: A frame has been begun and not finished: nothing can follow.
        self.is_mid_frame = False

    @property
    def can_end(self) -> bool:
        """Whether an end mark or an abort would be understood by the reader."""
        return not self.is_ended and not self.is_mid_frame

    def refuse_mid_frame(self, fd: int) -> NoReturn:
        """Raise what fits a write after one that failed half-way."""
        if is_reader_gone(fd):
            raise reader_gone()
        raise PipeConnectionAborted("an earlier write was interrupted half-way, so nothing can follow it")


class StageConnection(Connection):
    """One end of a pipe between two stages, as the stage sees it; a Connection in every way.

    Closing the writing end, by whatever way, makes it ``closed`` but keeps the descriptor until
    :func:`finish_stage_connection` has told the reader whether the stage succeeded. Only where the stage wrote
    by ``send_bytes`` or ``send``, or took the ``fileno()``, the descriptor's end is the end of data, as with any
    Connection: it is closed at once. Whoever creates the object keeps it until then: one that is dropped closes
    without an end, which is an abort.

    Args:
        handle: The descriptor; owned from now on.
        readable: True for the consumer's end.
        writable: True for the producer's end.
    """

    #: Once this descriptor is readable, reading and writing raise PipeConnectionAborted instead of blocking.
    interrupt_fd: int | None = None
    #: Called before a write waits for room, where the descriptor is non-blocking: the reader may not run yet.
    on_full: Callable[[], None] | None = None
    #: What closes the descriptor in a forked copy; kept here by the runner of the stage.
    fork_copy: Any = None
    #: When the stage at the other end began to see an end that no verdict had come with, CLOCK_MONOTONIC ns, and the
    #: exception on whose way out that was; None for an abort.
    cut_off: tuple[int, BaseException | None] | None = None

    _handle: int | None = None
    _kept_fd: int | None = None

    def __init__(self, handle: int, readable: bool = True, writable: bool = True) -> None:
        super().__init__(handle, readable, writable)
        self.writer_state = WriterState()
        self._owner_pid = os.getpid()
        self._is_wrapped = False
        self._is_bare = False
        self._is_raw = False
        self._is_aborted = False
        self._abort_reason: str | None = None

    def note_wrapped(self) -> None:
        """Note that a PipeConnectionIO has been put on this connection."""
        self._is_wrapped = True

    def close(self) -> None:
        """Close the connection; the descriptor of an unfinished writing end stays for the verdict."""
        # One step, so that of two threads that close only one has the descriptor.
        fd: int | None = self.__dict__.pop("_handle", None)
        if fd is None:
            return
        if self._can_tell() and not (self._is_bare and not self._is_wrapped):
            self._kept_fd = fd
            return
        error = sys.exc_info()[1]
        if error is not None:
            self.cut_off = self.cut_off or (time.monotonic_ns(), error)
        os.close(fd)

    def abort(self, reason: str | None) -> None:
        """Close the connection and have the other end fail; the stage itself says so."""
        self.cut_off = self.cut_off or (time.monotonic_ns(), None)
        self.finish(False, reason)

    def __del__(self) -> None:
        for fd in (self._handle, self._kept_fd):
            if fd is not None:
                close_descriptor(fd)

    def finish(self, ok: bool, reason: str | None) -> None:
        """See :func:`finish_stage_connection`."""
        fd: int | None = self.__dict__.pop("_handle", None)
        if fd is None:
            fd = self.__dict__.pop("_kept_fd", None)
        if fd is None:
            return
        try:
            if self._can_tell():
                self._tell_verdict(fd, ok, reason)
        finally:
            close_descriptor(fd)

    def _can_tell(self) -> bool:
        """Whether the reader can be told an end: we write, here and not in a forked copy, in frames."""
        is_only_raw = self._is_raw and not self._is_wrapped
        return self.writable and self._owner_pid == os.getpid() and self.writer_state.can_end and not is_only_raw

    def _tell_verdict(self, fd: int, ok: bool, reason: str | None) -> None:
        if not ok:
            try_send(fd, frames.encode_abort(reason))
        elif self._is_wrapped or not self._is_bare:
            with contextlib.suppress(PipeConnectionAborted, OSError):
                if not try_send(fd, frames.END_FRAME):
                    call_on_full(self)
                    send_end_when_possible(fd, self.interrupt_fd)

    # What Connection offers, kept usable

    def fileno(self) -> int:
        """The descriptor. Whoever asks may write what is no frame to it, so that a writer's end is bare from now on."""
        self._is_raw = True
        if self.on_full is not None and self._handle is not None:
            # Whoever has the number may wait on it, or give it to a program, which expects it to block.
            self.on_full()
            os.set_blocking(self._handle, True)
        return super().fileno()

    def _refuse_if_wrapped(self) -> None:
        if self._is_wrapped:
            raise InvalidStateError(
                "a PipeConnectionIO has been put on this connection; use it (its send_message and recv_message)"
            )

    def _send_bytes(self, buf: Any) -> None:
        self._refuse_if_wrapped()
        self._is_bare = True
        fd = open_descriptor(self)
        state = self.writer_state
        if state.is_mid_frame:
            state.refuse_mid_frame(fd)
        view = memoryview(buf).cast("B")
        size = len(view)
        header = _LENGTH.pack(size) if size <= _MAX_SHORT_LENGTH else _LENGTH.pack(-1) + _LONG_LENGTH.pack(size)
        if self.interrupt_fd is not None:
            os.set_blocking(fd, False)
        state.is_mid_frame = True
        write_rest(self, (header, view), 0, self.interrupt_fd)
        state.is_mid_frame = False

    def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO | None:
        self._refuse_if_wrapped()
        if self._is_aborted:
            raise PipeConnectionAborted(self._abort_reason)
        head = self._read_exactly(_LENGTH.size, or_end=True).getvalue()
        if head[0] == frames.MAGIC:
            self._refuse_frame(head)
        (size,) = _LENGTH.unpack(head)
        if size == -1:
            (size,) = _LONG_LENGTH.unpack(self._read_exactly(_LONG_LENGTH.size).getvalue())
        if size < 0:
            raise OSError(f"bad message length {size}")
        return None if maxsize is not None and size > maxsize else self._read_exactly(size)

    def _read_exactly(self, size: int, or_end: bool = False) -> io.BytesIO:
        message = io.BytesIO()
        while (missing := size - message.tell()) > 0:
            chunk = read_some(open_descriptor(self), missing, self.interrupt_fd)
            if not chunk:
                if or_end and not message.tell():
                    raise EOFError
                raise PipeConnectionAborted
            message.write(chunk)
        return message

    def _refuse_frame(self, head: bytes) -> NoReturn:
        head += self._read_exactly(frames.HEADER_BYTES - len(head)).getvalue()
        kind, _, data_bytes = frames.decode_header(head)
        if kind == frames.END:
            raise EOFError
        if kind == frames.ABORT:
            self._is_aborted = True
            self._abort_reason = frames.decode_reason(self._read_exactly(data_bytes).getvalue())
            raise PipeConnectionAborted(self._abort_reason)
        raise InvalidPipeConnectionMessage(
            "the writer used PipeConnectionIO where this end reads its connection bare (recv_bytes, recv); "
            "use the same on both ends"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # By this method, for multiprocessing's own table of picklers knows exact types only. The receiver gets a
        # plain Connection: what is done with it there has no part in this stage's verdict.
        return _rebuild, (DupFd(self.fileno()), self.readable, self.writable)


def _rebuild(duplicate: Any, readable: bool, writable: bool) -> Connection:
    return Connection(duplicate.detach(), readable, writable)


def finish_stage_connection(conn: StageConnection, ok: bool, reason: str | None = None) -> None:
    """Tell the reader of ``conn`` how the stage ended, and close the descriptor. For readers, only the latter.

    Called by the worker when ``perform_stage_work`` has returned. A clean end may wait for room in the pipe, until
    the reader has drained it or gone, or ``conn.interrupt_fd`` is readable; everything else is done at once.
    Never raises; doing it twice is fine.

    Args:
        conn: The stage's end.
        ok: Whether the stage returned an unfailed item.
        reason: Why not, for the reader's PipeConnectionAborted.
    """
    conn.finish(ok, reason)
