"""The wire format of a pipe between two stages: pure, no descriptors.

A stream is a sequence of frames, each a header and a body:

    offset  bytes  field (big-endian)
         0      1  MAGIC
         1      1  kind
         2      2  length of the command (MESSAGE only, else 0)
         4      8  length of the data
        12      4  CRC-32 of the twelve bytes before
        16         the body: the command in UTF-8, then the data

A stream is complete when a DATA_FINAL has been read to its end, or an END. Whatever else the descriptor's end
comes after, the stream was cut off.
"""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

from .exception import InvalidPipeConnectionMessage

# The top bit tells our frames from multiprocessing's own messages, which start with a length (a non-negative
# 32-bit integer) or with -1, so with a byte below 0x80 or with 0xFF.
MAGIC: Final = 0xD7

DATA: Final = 1
DATA_FINAL: Final = 2
MESSAGE: Final = 3
END: Final = 4
ABORT: Final = 5
HEADER_BYTES: Final = 16
MAX_COMMAND_BYTES: Final = 0xFFFF
# What the kernel writes to a pipe in one piece or not at all (PIPE_BUF on Linux): an abort must never block.
MAX_ABORT_FRAME_BYTES: Final = 4096
_MAX_DATA_BYTES: Final = {
    DATA: (1 << 64) - 1,
    DATA_FINAL: (1 << 64) - 1,
    END: 0,
    ABORT: MAX_ABORT_FRAME_BYTES - HEADER_BYTES,
}

_FACTS: Final = struct.Struct(">BBHQ")
_HEADER: Final = struct.Struct(">BBHQI")
assert _HEADER.size == HEADER_BYTES


def encode_header(kind: int, data_bytes: int, command_bytes: int = 0) -> bytes:
    """Build the sixteen bytes that go before the body of a frame."""
    facts = _FACTS.pack(MAGIC, kind, command_bytes, data_bytes)
    return facts + crc32(facts).to_bytes(4, "big")


END_FRAME: Final = encode_header(END, 0)


def encode_abort(reason: str | None) -> bytes:
    """Build a whole ABORT frame; a reason too long for MAX_ABORT_FRAME_BYTES is cut."""
    body = (reason or "").encode("utf-8", "backslashreplace")[: MAX_ABORT_FRAME_BYTES - HEADER_BYTES]
    return encode_header(ABORT, len(body)) + body


def decode_reason(body: bytes) -> str | None:
    """The reason that stands in the body of an ABORT frame; None where the writer gave none."""
    # The cut may have gone through a character.
    return body.decode("utf-8", "ignore") or None


class FrameCursor:
    """Where a reader stands in a stream of frames. It is told what has arrived and never holds the data.

    Between two frames bring the missing bytes of the next header into :attr:`header`, report them with
    :meth:`header_arrived` and call :meth:`open_frame`. In a frame (:attr:`kind` is not None) take the
    :attr:`left` bytes of its body from the stream and report them with :meth:`body_taken`. Bytes of the next
    header may be brought along with the last of a body. Can be pickled.
    """

    __slots__ = ("_known_header", "command_bytes", "header", "header_have", "is_ended", "kind", "known_bytes", "left")

    def __init__(self) -> None:
        self.header = bytearray(HEADER_BYTES)
        self.header_have = 0
        self._known_header = b""
        #: How many bytes the last DATA frame had that had any: most streams consist of pieces of one size.
        self.known_bytes = 0
        #: The kind of the frame whose body is being taken; None between two frames.
        self.kind: int | None = None
        #: How many bytes at the start of the body are the command.
        self.command_bytes = 0
        #: How many bytes of the body are still to be taken.
        self.left = 0
        #: The data are complete; nothing follows.
        self.is_ended = False

    def header_arrived(self, count: int) -> None:
        """Note that ``count`` more bytes of the next header are in :attr:`header`."""
        self.header_have += count

    def open_frame(self) -> bool:
        """Enter the next frame and say True; say False while its header is incomplete.

        A body of no bytes still has to be left, by ``body_taken(0)``. Raises InvalidPipeConnectionMessage for what
        is no header of ours, at its first byte: the rest may never come.
        """
        header = self.header
        if self.header_have < HEADER_BYTES:
            if self.header_have and header[0] != MAGIC:
                raise InvalidPipeConnectionMessage(_foreign_text(header[0]))
            return False
        if self.open_like_before():
            return True
        self.kind, self.command_bytes, data_bytes = decode_header(header)
        self.header_have = 0
        self.left = self.command_bytes + data_bytes
        if self.kind == DATA and data_bytes:
            self._known_header, self.known_bytes = bytes(header), data_bytes
        return True

    def open_like_before(self) -> bool:
        """Enter the next frame if it has arrived and is DATA of the last one's size: open_frame's short way."""
        if self.header_have < HEADER_BYTES or self.header != self._known_header:
            return False
        self.kind = DATA
        self.command_bytes = 0
        self.left = self.known_bytes
        self.header_have = 0
        return True

    def body_taken(self, count: int) -> None:
        """Count ``count`` bytes of the body as taken; with its last byte the frame is left."""
        self.left -= count
        if not self.left:
            self.is_ended = self.kind == DATA_FINAL or self.kind == END
            self.kind = None

    def abandon_frame(self) -> None:
        """Leave the frame wherever it stands: nothing that follows can be trusted."""
        self.left = 0
        self.kind = None


def decode_header(header: bytes | bytearray) -> tuple[int, int, int]:
    """Take a header apart: (kind, length of the command, length of the data).

    Raises InvalidPipeConnectionMessage for everything that :func:`encode_header` does not build.
    """
    magic, kind, command_bytes, data_bytes, checksum = _HEADER.unpack(header)
    if magic != MAGIC:
        raise InvalidPipeConnectionMessage(_foreign_text(magic))
    if checksum != crc32(header[: _FACTS.size]) or not _is_possible(kind, command_bytes, data_bytes):
        raise InvalidPipeConnectionMessage(f"a frame's header is damaged: {bytes(header).hex(' ')}")
    return kind, command_bytes, data_bytes


def _is_possible(kind: int, command_bytes: int, data_bytes: int) -> bool:
    if kind == MESSAGE:
        return True
    limit = _MAX_DATA_BYTES.get(kind, -1)
    return not command_bytes and data_bytes <= limit


def _foreign_text(first_byte: int) -> str:
    if first_byte < 0x80 or first_byte == 0xFF:
        return (
            "the writer used its connection bare (send_bytes, send, or its descriptor) where this end "
            "reads with PipeConnectionIO; use the same on both ends"
        )
    return f"the pipe holds something else than frames: byte 0x{first_byte:02x} where a header should start"
