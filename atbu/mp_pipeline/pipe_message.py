"""PipeConnectionMessage: what send_message and recv_message exchange over a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .exception import InvalidFunctionArgument
from .frames import MAX_COMMAND_BYTES

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PIPE_CONN_MSG_CMD_DATA: Final = "data"
PIPE_CONN_MSG_CMD_DATA_FINAL: Final = "data-final"


class PipeConnectionMessage:
    """A command with data: ``data`` and ``data-final`` are what write and write_eof send, all others are yours.

    Args:
        cmd: The command, at most 65,535 bytes in UTF-8.
        data: Any bytes-like object. Received messages hold bytes.
    """

    def __init__(self, cmd: str, data: ReadableBuffer | None = None) -> None:
        encode_command(cmd)
        self.cmd = cmd
        self.data: Any = b"" if data is None else data
        byte_view(self.data)

    def __repr__(self) -> str:
        return f"PipeConnectionMessage(cmd={self.cmd!r}, data=<{len(byte_view(self.data))} bytes>)"


def encode_command(cmd: object) -> bytes:
    """The bytes a command has on the wire; InvalidFunctionArgument for what can be none."""
    if not isinstance(cmd, str):
        raise InvalidFunctionArgument(f"a message's cmd must be a str, not {type(cmd).__name__}")
    try:
        encoded = cmd.encode()
    except UnicodeEncodeError as ex:
        raise InvalidFunctionArgument(f"a message's cmd can not be written in UTF-8: {ex}") from ex
    if len(encoded) > MAX_COMMAND_BYTES:
        raise InvalidFunctionArgument(
            f"a message's cmd may have {MAX_COMMAND_BYTES} bytes in UTF-8, not {len(encoded)}; put the rest in data"
        )
    return encoded


def byte_view(data: object) -> memoryview:
    """See a bytes-like object as a row of bytes: no copy, unless it does not lie in one piece.

    Raises InvalidFunctionArgument for what is not bytes-like.
    """
    try:
        view = memoryview(data)  # type: ignore[arg-type]
    except TypeError as ex:
        raise InvalidFunctionArgument(f"a bytes-like object is needed, not {type(data).__name__}") from ex
    if not view.c_contiguous:
        return memoryview(view.tobytes())
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")
