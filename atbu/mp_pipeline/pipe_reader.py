"""The consuming half of PipeConnectionIO: takes frames from the descriptor, straight into the caller's buffers."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final, NoReturn

from .exception import InvalidPipeConnectionMessage, PipeConnectionAborted, PipelineError
from .frames import ABORT, DATA, DATA_FINAL, END, HEADER_BYTES, MESSAGE, FrameCursor, decode_reason
from .pipe_descriptor import read_into, read_some
from .pipe_message import PIPE_CONN_MSG_CMD_DATA, PIPE_CONN_MSG_CMD_DATA_FINAL, PipeConnectionMessage

# Up to here copying the bytes once more costs less than a system call of its own for the next header.
_SMALL_BYTES: Final = 4096
# Up to here a message is taken by a read of its own for the header and one for the data, which gives the bytes object
# at once; beyond, it seldom comes in one piece, and joining pieces costs more than reading in place.
_WHOLE_BYTES: Final = 256 << 10
# A message up to this size is read in place, which needs its whole memory before it has arrived; a longer one is
# joined from pieces, so that no header makes a reader ask for more than this ahead of the data.
_MAX_PIECE_BYTES: Final = 4 << 20


class PipeReader:
    """Reads the stream of frames of one connection.

    An error in the stream is raised again by every later call; what was not handed out before is dropped. An exception
    from outside (a signal handler's) loses nothing that had been taken from the pipe: the next call goes on there.

    Args:
        connection: Not owned. Its descriptor is asked for anew by each call, for anybody may close it.
        cursor: Where the stream stands.
        taken: Data that were taken from the pipe and not yet handed out.
    """

    def __init__(self, connection: Connection, cursor: FrameCursor, taken: list[bytes]) -> None:
        self._connection: Any = connection
        self._interrupt_fd: int | None = getattr(connection, "interrupt_fd", None)
        self._cursor = cursor
        self._taken = taken
        self._message_body: list[bytes] = []
        self._failure: Callable[[], PipelineError] | None = None
        self._body: _FrameBody | None = None
        self.num_bytes = 0

    @property
    def eof(self) -> bool:
        """True when the last byte of the last message has been handed out."""
        return self._cursor.is_ended and not self._taken

    @property
    def has_message_ahead(self) -> bool:
        """Whether the next message has been taken from the pipe, or its header, which its data follow at once."""
        cursor = self._cursor
        is_done = cursor.is_ended or self._failure is not None
        return is_done or bool(self._taken) or cursor.header_have == HEADER_BYTES

    @property
    def position(self) -> tuple[FrameCursor, list[bytes]]:
        """What another reader needs to go on from here."""
        return self._cursor, self._taken

    def read_into(self, buffer: memoryview | bytearray) -> int:
        """Fill ``buffer`` with what is there of the current message, one byte at least; 0 means the end."""
        cursor = self._cursor
        kind, size = cursor.kind, len(buffer)
        fd = self._connection._handle
        is_bare = fd is not None and self._interrupt_fd is None and not self._taken
        if is_bare and kind is None and size == cursor.known_bytes and cursor.open_like_before():
            # Most streams are copied in pieces of one size: _fill() for those in one piece, for each call can be told.
            kind = DATA
            try:
                got = os.readv(fd, (buffer, cursor.header))
            except (BlockingIOError, ConnectionResetError):
                got = 0  # _fill() waits for it, or says what it is
            if got >= size:
                cursor.header_have = got - size
                cursor.left = 0
                cursor.kind = None
                self.num_bytes += size
                return size
            if got:
                cursor.left = size - got
                self.num_bytes += got
                return got
        view = memoryview(buffer)
        if self._taken:
            return self._hand_out_into(view)
        if kind == DATA or (kind is None and cursor.open_like_before()) or self._enter_data(self._descriptor()):
            return self._fill(view)
        return 0

    def read_some(self, limit: int) -> bytes:
        """Up to ``limit`` bytes of the current message, one at least; empty means the end."""
        if self._taken:
            return self._hand_out(limit)
        fd = self._descriptor()
        return self._take(fd, limit) if self._enter_data(fd) else b""

    def read_message(self) -> bytes:
        """The rest of the current message, or the next; empty means the end. Messages without data are left out."""
        cursor = self._cursor
        if cursor.kind is None and self._taken:
            return self._hand_out_all()
        fd = self._connection._handle
        if (
            cursor.kind is None
            and _SMALL_BYTES < cursor.known_bytes <= _WHOLE_BYTES
            and fd is not None
            and self._interrupt_fd is None
            and not (cursor.is_ended or self._failure is not None)
        ):
            # Here too: a message of the last one's size, by one read that gives its bytes object at once.
            try:
                if not cursor.header_have:
                    cursor.header_have = os.readv(fd, (cursor.header,))
                if cursor.open_like_before():
                    chunk = os.read(fd, cursor.left)
                    got = len(chunk)
                    self.num_bytes += got
                    if got == cursor.left:
                        cursor.left = 0
                        cursor.kind = None
                        return chunk
                    cursor.left -= got
                    if got:
                        self._taken.append(chunk)
            except (BlockingIOError, ConnectionResetError):
                pass  # the long way waits for it, or says what it is
        if cursor.kind == DATA or cursor.open_like_before() or self._enter_data(self._descriptor()):
            return self._take_rest()
        return self._hand_out_all()

    def read_all(self) -> bytes:
        """All data to the end."""
        while self._enter_data(fd := self._descriptor()):
            self._taken.append(self._take(fd, self._cursor.left))
        return self._hand_out_all()

    def receive(self) -> PipeConnectionMessage:
        """The next message, or what is left of the current one; EOFError after the end."""
        fd = self._descriptor()
        cursor = self._cursor
        if self._taken and (cursor.kind is None or cursor.kind == MESSAGE):
            return PipeConnectionMessage(PIPE_CONN_MSG_CMD_DATA, self._hand_out_all())
        if cursor.kind is None and not self._open_frame(fd):
            raise EOFError("the writer has ended its data")
        if cursor.kind == MESSAGE:
            return self._receive_custom(fd)
        cmd = PIPE_CONN_MSG_CMD_DATA_FINAL if cursor.kind == DATA_FINAL else PIPE_CONN_MSG_CMD_DATA
        return PipeConnectionMessage(cmd, self._take_rest())

    def _receive_custom(self, fd: int) -> PipeConnectionMessage:
        cursor, body = self._cursor, self._message_body
        command_bytes = cursor.command_bytes
        while cursor.left:
            body.append(self._take_raw(fd, cursor.left))
        if cursor.kind is not None:
            cursor.body_taken(0)
        whole = b"".join(body)
        body.clear()
        self.num_bytes += len(whole) - command_bytes
        try:
            cmd = whole[:command_bytes].decode()
        except UnicodeDecodeError as ex:
            raise InvalidPipeConnectionMessage(f"a message's command is not UTF-8: {ex}") from ex
        return PipeConnectionMessage(cmd, whole[command_bytes:])

    # Frames

    def _open_frame(self, fd: int) -> bool:
        """Enter the next frame that a caller can be given; False at the end of data."""
        cursor = self._cursor
        if cursor.is_ended:
            return False
        if self._failure is not None:
            raise self._failure()
        try:
            while not cursor.open_frame():
                header = memoryview(cursor.header)[cursor.header_have :]
                got = read_into(fd, (header,), self._interrupt_fd)
                if not got:
                    self._fail(PipeConnectionAborted)
                cursor.header_arrived(got)
        except InvalidPipeConnectionMessage as ex:
            self._fail(functools.partial(InvalidPipeConnectionMessage, ex.message))
        if cursor.kind == ABORT:
            self._fail_aborted(fd)
        if cursor.kind == END:
            cursor.body_taken(0)
            return False
        return True

    def _enter_data(self, fd: int) -> bool:
        """Make sure there are data left to take in the current frame; False at the end of data."""
        cursor = self._cursor
        while not cursor.left or cursor.kind == MESSAGE:
            if cursor.kind is None and not self._open_frame(fd):
                return False
            if cursor.kind == MESSAGE:
                raise InvalidPipeConnectionMessage(
                    "a custom command stands where data were to be read; take it with recv_message()"
                )
            if not cursor.left:
                cursor.body_taken(0)
        return True

    def _fail(self, error: Callable[[], PipelineError]) -> NoReturn:
        """Raise ``error()``, now and in every later call."""
        self._failure = error
        self._taken.clear()
        self._message_body.clear()
        self._cursor.abandon_frame()
        raise error() from None

    def _fail_aborted(self, fd: int) -> NoReturn:
        body = self._message_body
        while self._cursor.left:
            body.append(self._take_raw(fd, self._cursor.left))
        self._fail(functools.partial(PipeConnectionAborted, decode_reason(b"".join(body))))

    # Bytes

    def _descriptor(self) -> int:
        fd: int | None = self._connection._handle
        if fd is None:
            raise ValueError("I/O operation on closed file.")
        return fd

    def _take_raw(self, fd: int, limit: int) -> bytes:
        chunk = read_some(fd, limit, self._interrupt_fd)
        if not chunk:
            self._fail(PipeConnectionAborted)
        self._cursor.body_taken(len(chunk))
        return chunk

    def _take(self, fd: int, limit: int) -> bytes:
        cursor = self._cursor
        left = cursor.left
        if left > _SMALL_BYTES or limit < left or cursor.kind != DATA:
            chunk = self._take_raw(fd, min(limit, left))
        else:
            chunk = read_some(fd, left + HEADER_BYTES, self._interrupt_fd)
            if not chunk:
                self._fail(PipeConnectionAborted)
            if len(chunk) > left:
                ahead = chunk[left:]
                cursor.header[: len(ahead)] = ahead
                cursor.header_arrived(len(ahead))
                chunk = chunk[:left]
            cursor.body_taken(len(chunk))
        self.num_bytes += len(chunk)
        return chunk

    def _fill(self, view: memoryview) -> int:
        """Take what is there of the current frame straight into ``view``, one byte at least."""
        cursor = self._cursor
        left, size = cursor.left, len(view)
        is_data = cursor.kind == DATA
        if size > left:
            view = view[:left]
        # The next header comes along in the same system call.
        buffers = (view, cursor.header) if size >= left and is_data else (view,)
        fd = self._connection._handle
        if fd is None or self._interrupt_fd is not None:
            got = read_into(self._descriptor(), buffers, self._interrupt_fd)
        else:
            try:
                got = os.readv(fd, buffers)
            except (BlockingIOError, ConnectionResetError):
                got = read_into(fd, buffers, None)
        if got > left:
            cursor.header_have = got - left
            got = left
        if not got:
            self._fail(PipeConnectionAborted)
        if is_data:  # what body_taken() does then
            left -= got
            cursor.left = left
            if not left:
                cursor.kind = None
        else:
            cursor.body_taken(got)
        self.num_bytes += got
        return got

    def _take_piece(self, fd: int) -> bytes:
        """Take all of the current frame, or as much of it as we hold ready before it has arrived."""
        left = self._cursor.left
        if left <= _SMALL_BYTES:
            return self._take(fd, left)
        body = self._body
        if body is None:
            body = self._body = _FrameBody(self._fill)
        size = min(left, _MAX_PIECE_BYTES)
        piece = body.read_in_place(size)
        if len(piece) < size and (error := body.take_error()) is not None:
            if self._failure is None:
                self._taken.append(piece)
            raise error
        return piece

    def _take_rest(self) -> bytes:
        """Take the rest of the current data frame; it may have none."""
        cursor, taken = self._cursor, self._taken
        while cursor.left:
            chunk = self._take_piece(self._descriptor())
            if not taken and not cursor.left:
                return chunk
            taken.append(chunk)
        if cursor.kind is not None:
            cursor.body_taken(0)
        return self._hand_out_all()

    def _hand_out_all(self) -> bytes:
        data = b"".join(self._taken)
        self._taken.clear()
        return data

    def _hand_out(self, limit: int) -> bytes:
        first = self._taken[0]
        if len(first) <= limit:
            return self._taken.pop(0)
        self._taken[0] = first[limit:]
        return first[:limit]

    def _hand_out_into(self, view: memoryview) -> int:
        data = self._hand_out(len(view))
        view[: len(data)] = data
        return len(data)


class _FrameBody(io.RawIOBase):
    """Lets io.BufferedReader make bytes objects and have them filled in place, which Python code can not.

    An exception looks like the end to it, so that what had been read is given out and not lost.
    """

    def __init__(self, fill: Callable[[memoryview], int]) -> None:
        super().__init__()
        self._fill = fill
        self._error: BaseException | None = None
        # With a buffer of one byte all goes past the buffer.
        self.read_in_place = io.BufferedReader(self, 1).read

    def take_error(self) -> BaseException | None:
        """What the last read was cut short by."""
        error, self._error = self._error, None
        return error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return self._fill(buffer)
        except BaseException as ex:  # noqa: BLE001 - raised again by whoever reads
            self._error = ex
            return 0
