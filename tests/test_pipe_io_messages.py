"""Messages over a pipe: custom commands beside the data, in order, and refused where they can not be sent."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest

from atbu.mp_pipeline.exception import (
    InvalidFunctionArgument,
    InvalidPipeConnectionMessage,
)
from atbu.mp_pipeline.pipe_io import (
    PIPE_CONN_MSG_CMD_DATA,
    PIPE_CONN_MSG_CMD_DATA_FINAL,
    PipeConnectionIO,
    PipeConnectionMessage,
)

Pair = tuple[PipeConnectionIO, PipeConnectionIO]


@pytest.fixture
def pair() -> Iterator[Pair]:
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    yield reader, writer
    reader.close()
    writer.close()


@pytest.fixture
def raw() -> Iterator[tuple[PipeConnectionIO, int]]:
    """A reader, and the bare descriptor of its writer."""
    in_fd, out_fd = os.pipe()
    reader = PipeConnectionIO(Connection(in_fd, writable=False), is_write=False)
    yield reader, out_fd
    reader.close()
    os.close(out_fd)


def in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_custom_commands_go_before_between_and_after_data(pair: Pair) -> None:
    """In order, each with its data."""
    reader, writer = pair
    sent = [
        PipeConnectionMessage("header", b"h1"),
        PipeConnectionMessage(PIPE_CONN_MSG_CMD_DATA, b"abc"),
        PipeConnectionMessage("größe-€", b""),
        PipeConnectionMessage("", b"no name"),
        PipeConnectionMessage(PIPE_CONN_MSG_CMD_DATA, b""),
        PipeConnectionMessage("x" * 65535, b"long name"),
        PipeConnectionMessage(PIPE_CONN_MSG_CMD_DATA_FINAL, b"def"),
    ]
    for message in sent[:-1]:
        writer.send_message(message)
    assert not writer.eof
    writer.send_message(sent[-1])
    assert writer.eof
    received = [reader.recv_message() for _ in sent]
    assert [(m.cmd, m.data) for m in received] == [(m.cmd, m.data) for m in sent]
    assert all(type(message.data) is bytes for message in received)
    assert reader.eof
    with pytest.raises(EOFError):
        reader.recv_message()


def test_custom_commands_and_reads_alternate(pair: Pair) -> None:
    """What write sends can be received, what send_message sends as data can be read."""
    reader, writer = pair
    writer.send_message(PipeConnectionMessage("name", b"a.txt"))
    writer.write(b"content")
    writer.send_message(PipeConnectionMessage("crc", b"1234"))
    writer.send_message(PipeConnectionMessage(PIPE_CONN_MSG_CMD_DATA, b"more"))
    writer.write(b"and more")
    writer.write_eof(b"last")
    assert reader.recv_message().cmd == "name"
    assert reader.read() == b"content"
    assert reader.recv_message().data == b"1234"
    assert reader.read() == b"more"
    data, final = reader.recv_message(), reader.recv_message()
    assert (data.cmd, data.data) == ("data", b"and more")
    assert (final.cmd, final.data) == ("data-final", b"last")


@pytest.mark.parametrize(
    "read",
    [
        lambda reader: reader.read(),
        lambda reader: reader.read(5),
        lambda reader: reader.read(-1),
        lambda reader: reader.readall(),
        lambda reader: reader.readinto(bytearray(5)),
        lambda reader: reader.readinto(bytearray(5000)),
    ],
)
def test_a_read_that_meets_a_custom_command_raises_and_leaves_it(
    pair: Pair, read: Callable[[PipeConnectionIO], object]
) -> None:
    """InvalidPipeConnectionMessage, as often as it is tried; recv_message then takes the command."""
    reader, writer = pair
    writer.send_message(PipeConnectionMessage("custom", b"data of the command"))
    writer.write_eof(b"after")
    for _ in range(2):
        with pytest.raises(InvalidPipeConnectionMessage, match="recv_message"):
            read(reader)
    message = reader.recv_message()
    assert (message.cmd, message.data) == ("custom", b"data of the command")
    assert reader.read() == b"after"


def test_a_read_to_the_end_stopped_by_a_custom_command_loses_no_data(pair: Pair) -> None:
    """What had been taken before the command is handed out before it."""
    reader, writer = pair
    writer.write(b"one")
    writer.write(b"two")
    writer.send_message(PipeConnectionMessage("custom"))
    writer.close()
    with pytest.raises(InvalidPipeConnectionMessage):
        reader.readall()
    assert not reader.eof
    assert reader.read(2) == b"on"
    message = reader.recv_message()
    assert (message.cmd, message.data) == ("data", b"etwo")
    assert reader.recv_message().cmd == "custom"
    assert reader.readall() == b""


def test_recv_message_after_a_clean_end_raises_eof_error(pair: Pair) -> None:
    """Also where the end carried no data; again and again."""
    reader, writer = pair
    writer.send_message(PipeConnectionMessage("only"))
    writer.close()
    assert reader.recv_message().cmd == "only"
    for _ in range(2):
        with pytest.raises(EOFError):
            reader.recv_message()
    assert reader.eof


def test_a_messages_data_default_to_nothing() -> None:
    """b"", never None."""
    assert PipeConnectionMessage("cmd").data == b""
    assert PipeConnectionMessage("cmd", None).data == b""
    assert PipeConnectionMessage(cmd="cmd", data=bytearray(b"x")).data == b"x"


@pytest.mark.parametrize("cmd", [None, b"bytes", 5, "x" * 65536, "€" * 21846, "\ud800"])
def test_a_command_that_can_not_be_sent_is_refused(pair: Pair, cmd: Any) -> None:
    """At construction, and if it was set later, when sent."""
    _, writer = pair
    with pytest.raises(InvalidFunctionArgument):
        PipeConnectionMessage(cmd)
    message = PipeConnectionMessage("fine")
    message.cmd = cmd
    with pytest.raises(InvalidFunctionArgument):
        writer.send_message(message)
    assert writer.num_bytes == 0


def test_a_message_says_what_it_is() -> None:
    """Its repr has the command and the size, not a gigabyte of data."""
    assert repr(PipeConnectionMessage("cmd", bytes(1000))) == "PipeConnectionMessage(cmd='cmd', data=<1000 bytes>)"
