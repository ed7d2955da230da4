"""PipeConnectionIO: the ends of a pipe between two processes or stages, as binary files."""

from __future__ import annotations

import io
import multiprocessing
import os
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .exception import InvalidFunctionArgument, PipeConnectionWrongSide
from .frames import END_FRAME, FrameCursor, encode_abort
from .pipe_descriptor import close_descriptor, send_and_close_in_background, try_send
from .pipe_message import (
    PIPE_CONN_MSG_CMD_DATA,
    PIPE_CONN_MSG_CMD_DATA_FINAL,
    PipeConnectionMessage,
)
from .pipe_reader import PipeReader
from .pipe_writer import PipeWriter
from .stage_connection import StageConnection, WriterState, finish_stage_connection

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = [
    "PIPE_CONN_MSG_CMD_DATA",
    "PIPE_CONN_MSG_CMD_DATA_FINAL",
    "PipeConnectionIO",
    "PipeConnectionMessage",
    "StageConnection",
    "finish_stage_connection",
]


class PipeConnectionIO(io.RawIOBase):
    """One end of a pipe between two stages or processes, as a binary file.

    The writer's bytes arrive in the order and the portions in which they were written. The end of data is a
    message, not a closed descriptor: a writer that aborts or vanishes makes the reader raise PipeConnectionAborted,
    never a short read. Inside a stage closing the writing end sends nothing: the end is sent when the stage has
    succeeded (see StageConnection). Elsewhere close() and leaving ``with`` normally send the clean end; leaving it
    by an exception, and being dropped, abort. In a forked copy, and after having been pickled to another process,
    closing only closes: a child that got its end by fork, not by pickling, says write_eof() itself, and whoever made
    the end closes it after that.

    read() takes one message, while the wrappers of :mod:`io` read to the end: put an io.BufferedReader between this
    and io.TextIOWrapper, whose read() would else stop after one message.

    Args:
        c: The connection; owned, and closed by close().
        is_write: True for the producing end.
    """

    # For __del__, where __init__ has refused its arguments.
    _connection: Any = None

    def __init__(self, c: Connection, is_write: bool) -> None:
        super().__init__()
        if not isinstance(c, Connection):
            raise InvalidFunctionArgument(f"a multiprocessing Connection is needed, not {type(c).__name__}")
        if c.closed:
            raise InvalidFunctionArgument("the connection is closed")
        if not (c.writable if is_write else c.readable):
            raise PipeConnectionWrongSide(f"the connection can not be {'written' if is_write else 'read'}")
        self._owner_pid = os.getpid()
        self._may_end = True
        self._reader: PipeReader | None = None
        self._writer: PipeWriter | None = None
        if is_write:
            self._writer = PipeWriter(c, c.writer_state if isinstance(c, StageConnection) else WriterState())
        else:
            self._reader = PipeReader(c, FrameCursor(), [])
        if isinstance(c, StageConnection):
            c.note_wrapped()
        self._connection = c

    @staticmethod
    def create_reader_writer_pair() -> tuple[PipeConnectionIO, PipeConnectionIO]:
        """Make a pipe; give its reader and its writer. Either can be pickled to another process."""
        reader, writer = multiprocessing.Pipe(duplex=False)
        return PipeConnectionIO(reader, is_write=False), PipeConnectionIO(writer, is_write=True)

    # Reading

    def read(self, size: int | None = None) -> bytes:
        """Read; blocks until there is something, and gives ``b""`` only after the end.

        Without ``size``, one message as it was written. With a negative one, all to the end. Else up to ``size``
        bytes of the current message. Raises PipeConnectionAborted where the writer did not end its data, and
        InvalidPipeConnectionMessage at a custom command, which stays there for recv_message.
        """
        reader = self._reader or self._refuse_reading()
        if size is None:
            return reader.read_message()
        if size < 0:
            return reader.read_all()
        return reader.read_some(size) if size else b""

    def readall(self) -> bytes:
        """Read all data to the end."""
        return (self._reader or self._refuse_reading()).read_all()

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read up to as many bytes as ``buffer`` has, straight into it; 0 only after the end."""
        reader = self._reader or self._refuse_reading()
        if type(buffer) is bytearray:  # what copying loops give; each step here can be told
            return reader.read_into(buffer) if buffer else 0
        try:
            view = memoryview(buffer)
        except TypeError as ex:
            raise InvalidFunctionArgument(f"a bytes-like object is needed, not {type(buffer).__name__}") from ex
        if view.readonly:
            raise InvalidFunctionArgument(f"a writable buffer is needed, not {type(buffer).__name__}")
        if view.format != "B" or view.ndim != 1:
            view = view.cast("B")
        return reader.read_into(view) if len(view) else 0

    def recv_message(self) -> PipeConnectionMessage:
        """Take the next message, data or custom; EOFError after a clean end."""
        return (self._reader or self._refuse_reading()).receive()

    # Writing

    def write(self, data: ReadableBuffer) -> int:
        """Send all of ``data`` as one message and return its number of bytes; blocks while the pipe is full.

        Raises BrokenPipeError when the reader has gone.
        """
        return (self._writer or self._refuse_writing()).write(data)

    def write_eof(self, data: ReadableBuffer = b"") -> int:
        """Send ``data`` as the last message, and with it the clean end, at once: the writer's own word.

        Raises as write() does; an end without data never raises and never blocks.
        """
        writer = self._writer or self._refuse_writing()
        if self._is_sole_writer():
            return writer.write_final(data)
        # If this process is killed half-way in a last message, the end mark of the other process would fill its gap.
        size = writer.write(data)
        writer.write_final(b"")
        return size

    def send_message(self, message: PipeConnectionMessage) -> None:
        """Send a message, data or custom; blocks and raises as write() does."""
        writer = self._writer or self._refuse_writing()
        if isinstance(message, PipeConnectionMessage) and message.cmd == PIPE_CONN_MSG_CMD_DATA_FINAL:
            self.write_eof(message.data)
        else:
            writer.send(message)

    def abort(self, reason: str | None = None) -> None:
        """Close without an end: the reader raises PipeConnectionAborted. Never raises, never blocks.

        Args:
            reason: For the reader; sent only if the pipe has room for it.
        """
        if isinstance(self._connection, StageConnection):
            self._connection.abort(reason)
        else:
            self._end(encode_abort(reason))
        super().close()

    # The file

    @property
    def eof(self) -> bool:
        """Writer: whether the end has been sent. Reader: whether the last byte of the last message was handed out."""
        return self._reader.eof if self._reader else bool(self._writer and self._writer.state.is_ended)

    @property
    def has_message_ahead(self) -> bool:
        """Reader: whether there is something to read although the descriptor may have nothing more to give."""
        return self._reader is not None and self._reader.has_message_ahead

    @property
    def num_bytes(self) -> int:
        """How many bytes of data, custom commands' data included, have gone through since the last reset."""
        half = self._reader or self._writer
        return half.num_bytes if half else 0

    def reset_num_bytes(self) -> None:
        """Count from zero again."""
        half = self._reader or self._writer
        if half:
            half.num_bytes = 0

    def tell(self) -> int:
        """The same as num_bytes."""
        return self.num_bytes

    @property
    def mode(self) -> str:
        """``rb`` or ``wb``; gzip looks at it."""
        return "rb" if self._reader else "wb"

    def readable(self) -> bool:
        """Whether this is the reader's end."""
        return self._reader is not None

    def writable(self) -> bool:
        """Whether this is the writer's end."""
        return self._writer is not None

    def seekable(self) -> bool:
        """A pipe has no positions."""
        return False

    def fileno(self) -> int:
        """The descriptor. What is on it are frames, not the bare data."""
        fd: int | None = self._connection._handle
        if fd is None:
            raise ValueError("I/O operation on closed file.")
        return fd

    @property
    def closed(self) -> bool:
        """Whether this end, or the connection under it, has been closed."""
        return self._connection is None or self._connection.closed or super().closed

    def close(self) -> None:
        """Close this end and its connection; an unfinished writer says that its data are complete.

        Inside a stage that is left to the stage's verdict. Never raises and never blocks; twice is fine.
        """
        self._end(END_FRAME)
        super().close()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is None or isinstance(self._connection, StageConnection):
            self.close()
        else:
            self.abort(_describe(exc_type, exc))

    def __del__(self) -> None:
        connection = self._connection
        if connection is not None and not connection.closed:
            self._end(encode_abort("the writing end was dropped without having been closed"))

    def _end(self, frame: bytes) -> None:
        connection = self._connection
        if isinstance(connection, StageConnection):
            connection.close()
            return
        # One step, so that of two threads that close only one has the descriptor.
        fd: int | None = connection.__dict__.pop("_handle", None)
        if fd is None:
            return
        if self._writer and self._is_sole_writer() and self._writer.state.can_end:
            self._writer.state.is_ended = True
            if not try_send(fd, frame) and frame is END_FRAME:
                send_and_close_in_background(fd, frame)
                return
        close_descriptor(fd)

    def _is_sole_writer(self) -> bool:
        """Whether the end is ours to send, so that no other process will."""
        return self._may_end and self._owner_pid == os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        """Hand this end over to the process that unpickles it; here it only closes from now on."""
        duplicate = DupFd(self.fileno())
        # The verdict on a stage's data is the stage's, wherever they are written.
        may_end = self._may_end and not isinstance(self._connection, StageConnection)
        self._may_end = False
        position = self._reader.position if self._reader else None
        is_ended = self._writer is not None and self._writer.state.is_ended
        return _receive, (duplicate, may_end, self.num_bytes, position, is_ended)

    def _refuse_reading(self) -> PipeReader:
        raise PipeConnectionWrongSide("this is the writing end of the pipe; it can not be read")

    def _refuse_writing(self) -> PipeWriter:
        raise PipeConnectionWrongSide("this is the reading end of the pipe; it can not be written")


def _receive(
    duplicate: Any, may_end: bool, num_bytes: int, position: tuple[FrameCursor, list[bytes]] | None, is_ended: bool
) -> PipeConnectionIO:
    is_write = position is None
    connection = Connection(duplicate.detach(), readable=not is_write, writable=is_write)
    end = PipeConnectionIO(connection, is_write)
    end._may_end = may_end
    if end._writer:
        end._writer.state.is_ended = is_ended
        end._writer.num_bytes = num_bytes
    elif position is not None:
        end._reader = PipeReader(connection, *position)
        end._reader.num_bytes = num_bytes
    return end


def _describe(exc_type: type[BaseException], exc: BaseException | None) -> str:
    try:
        return f"{exc_type.__name__}: {exc}"
    except Exception:  # noqa: BLE001
        # An exception's own __str__ may fail with anything; its class is still worth telling.
        return exc_type.__name__
