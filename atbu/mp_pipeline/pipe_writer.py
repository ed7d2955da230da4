"""The producing half of PipeConnectionIO: writes whole frames, header and data in one system call."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from typing import Any, Final, NoReturn

from .exception import InvalidFunctionArgument, PipeConnectionAlreadyEof
from .frames import DATA, DATA_FINAL, HEADER_BYTES, MESSAGE, encode_header
from .pipe_descriptor import grow_pipe, reader_gone, send_in_background, try_send, write_rest
from .pipe_message import (
    PIPE_CONN_MSG_CMD_DATA,
    PipeConnectionMessage,
    byte_view,
    encode_command,
)
from .stage_connection import WriterState

# Smaller writes gain nothing from a larger pipe, and all pipes of a user share one limit.
_GROW_FROM_BYTES: Final = 64 << 10


class PipeWriter:
    """Writes a stream of frames to one connection.

    Args:
        connection: Not owned. Its descriptor is asked for anew by each call, for anybody may close it.
        state: What has been sent so far on this connection.
    """

    def __init__(self, connection: Connection, state: WriterState) -> None:
        self._connection: Any = connection
        self._interrupt_fd: int | None = getattr(connection, "interrupt_fd", None)
        self._is_prepared = False
        self._header = b""
        self._header_for = -1
        self.state = state
        self.num_bytes = 0

    def write(self, data: object) -> int:
        """Send ``data`` as one message; no data, no message."""
        view = data if type(data) is bytes else byte_view(data)
        size = len(view)
        fd = self._connection._handle
        state = self.state
        if size != self._header_for or fd is None or state.is_ended or state.is_mid_frame:
            return self._write_another(view, size)
        # Most streams consist of pieces of one size; for these _send() in one piece, for each call here can be told.
        state.is_mid_frame = True
        try:
            sent = os.writev(fd, (self._header, view))
        except BlockingIOError:
            sent = 0
        except BrokenPipeError:
            raise reader_gone() from None
        if sent != size + HEADER_BYTES:
            write_rest(self._connection, (self._header, view), sent, None)
        state.is_mid_frame = False
        self.num_bytes += size
        return size

    def _write_another(self, view: bytes | memoryview, size: int) -> int:
        """Write a piece of another size than the one before."""
        fd = self._ready_descriptor()
        if size:
            header = encode_header(DATA, size)
            self._send(fd, (header, view), size)
            self.num_bytes += size
            if self._interrupt_fd is None:
                self._header, self._header_for = header, size
        return size

    def write_final(self, data: object) -> int:
        """Send ``data`` as the last message. Without data it is an end mark, which never blocks and never raises."""
        view = byte_view(data)
        fd = self._ready_descriptor()
        size = len(view)
        header = encode_header(DATA_FINAL, size)
        if size:
            self._send(fd, (header, view), size)
            self.num_bytes += size
        elif not try_send(fd, header):
            send_in_background(fd, header)
        self.state.is_ended = True
        return size

    def send(self, message: PipeConnectionMessage) -> None:
        """Send any message but the last, also one without data."""
        if not isinstance(message, PipeConnectionMessage):
            raise InvalidFunctionArgument(f"a PipeConnectionMessage is needed, not {type(message).__name__}")
        command, view = encode_command(message.cmd), byte_view(message.data)
        fd = self._ready_descriptor()
        if message.cmd == PIPE_CONN_MSG_CMD_DATA:
            self._send(fd, (encode_header(DATA, len(view)), view), len(view))
        else:
            header = encode_header(MESSAGE, len(view), len(command))
            self._send(fd, (header, command, view), len(command) + len(view))
        self.num_bytes += len(view)

    def _ready_descriptor(self) -> int:
        fd: int | None = self._connection._handle
        state = self.state
        if fd is None or state.is_ended or state.is_mid_frame:
            self._refuse(fd)
        return fd

    def _refuse(self, fd: int | None) -> NoReturn:
        if fd is None:
            raise ValueError("I/O operation on closed file.")
        if self.state.is_ended:
            raise PipeConnectionAlreadyEof("the end of the data has been sent; nothing can follow it")
        self.state.refuse_mid_frame(fd)

    def _send(self, fd: int, buffers: tuple[Any, ...], body_bytes: int) -> None:
        if body_bytes >= _GROW_FROM_BYTES and not self._is_prepared:
            self._is_prepared = True
            grow_pipe(fd)
        state, interrupt_fd = self.state, self._interrupt_fd
        # Whatever is raised from here on, a signal handler's exception too, leaves it True: how much of the
        # frame the reader will get is not known then.
        state.is_mid_frame = True
        sent = 0
        if interrupt_fd is None:
            try:
                sent = os.writev(fd, buffers)
            except BlockingIOError:
                sent = 0
            except BrokenPipeError:
                raise reader_gone() from None
        else:
            # A blocking write of more than there is room for would not see the interrupt.
            os.set_blocking(fd, False)
        if sent != body_bytes + HEADER_BYTES:
            write_rest(self._connection, buffers, sent, interrupt_fd)
        state.is_mid_frame = False
