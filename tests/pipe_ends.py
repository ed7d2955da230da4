"""The ways to end a writer, clean and not, and what the tests of ends need to know of a pipe."""

from __future__ import annotations

import array
import fcntl
import io
import os
import select
import termios

import pytest

from atbu.mp_pipeline.pipe_io import PipeConnectionIO


def fill(writer: PipeConnectionIO) -> bytes:
    """Write as much as the pipe holds, not a byte less."""
    data = os.urandom(fcntl.fcntl(writer.fileno(), fcntl.F_GETPIPE_SZ) - 16)
    writer.write(data)
    assert not select.select([], [writer], [], 0)[1]
    return data


def unread_bytes(end: PipeConnectionIO) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(end.fileno(), termios.FIONREAD, count)
    return count[0]


# Clean ends


def end_by_close(writer: PipeConnectionIO) -> None:
    writer.close()


def end_by_with(writer: PipeConnectionIO) -> None:
    with writer:
        pass


def end_by_write_eof(writer: PipeConnectionIO) -> None:
    writer.write_eof()


def end_by_write_eof_and_an_exception(writer: PipeConnectionIO) -> None:
    writer.write_eof(b"")
    with pytest.raises(ValueError, match="after the end"), writer:
        raise ValueError("after the end")


def end_by_a_wrapper(writer: PipeConnectionIO) -> None:
    io.BufferedWriter(writer).close()


def end_by_closing_twice(writer: PipeConnectionIO) -> None:
    writer.close()
    writer.close()
    writer.abort()


CLEAN_ENDS = [
    end_by_close,
    end_by_with,
    end_by_write_eof,
    end_by_write_eof_and_an_exception,
    end_by_a_wrapper,
    end_by_closing_twice,
]


# Aborts


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def abort_by_exception(writer: PipeConnectionIO) -> str | None:
    with pytest.raises(ValueError, match="bad thing"), writer:
        raise ValueError("bad thing")
    return "ValueError: bad thing"


def abort_by_exception_without_text(writer: PipeConnectionIO) -> str | None:
    with pytest.raises(Silent), writer:
        raise Silent
    return "Silent"


def abort_by_interrupt(writer: PipeConnectionIO) -> str | None:
    with pytest.raises(KeyboardInterrupt), writer:
        raise KeyboardInterrupt
    return "KeyboardInterrupt: "


def abort_by_word(writer: PipeConnectionIO) -> str | None:
    writer.abort("changed my mind: größer")
    assert writer.closed
    return "changed my mind: größer"


def abort_by_word_without_reason(writer: PipeConnectionIO) -> str | None:
    writer.abort()
    writer.abort("too late")
    return None


def vanish_by_closing_the_connection(writer: PipeConnectionIO) -> str | None:
    writer._connection.close()
    assert writer.closed
    writer.close()
    return None


def vanish_by_closing_the_descriptor(writer: PipeConnectionIO) -> str | None:
    os.close(writer.fileno())
    writer.close()
    return None


ABORTS = [
    abort_by_exception,
    abort_by_exception_without_text,
    abort_by_interrupt,
    abort_by_word,
    abort_by_word_without_reason,
    vanish_by_closing_the_connection,
    vanish_by_closing_the_descriptor,
]
