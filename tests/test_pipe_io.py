"""PipeConnectionIO as a binary file: what is read is what was written, and every refusal is the promised one."""

from __future__ import annotations

import io
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atbu.mp_pipeline.exception import (
    InvalidFunctionArgument,
    PipeConnectionAlreadyEof,
    PipeConnectionWrongSide,
    PipelineError,
)
from atbu.mp_pipeline.pipe_io import (
    PIPE_CONN_MSG_CMD_DATA,
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


# Messages as they were written


def test_read_gives_each_message_as_it_was_written(pair: Pair) -> None:
    """read() and read(None) give one message; after the end there is nothing."""
    reader, writer = pair
    assert writer.write(b"first") == 5
    assert writer.write(b"second one") == 10
    assert writer.write_eof(b"last") == 4
    assert [reader.read(), reader.read(None), reader.read(), reader.read(), reader.read(None)] == [
        b"first",
        b"second one",
        b"last",
        b"",
        b"",
    ]


@pytest.mark.parametrize(
    "size", [1, 15, 16, 17, 4079, 4080, 4096, 4097, 65520, 65536, 1 << 20, (1 << 20) + 1, (4 << 20) + 5, 9 << 20]
)
@pytest.mark.parametrize("way", ["read", "read_n", "readinto", "readall", "recv_message"])
def test_messages_of_any_size_arrive_whole(pair: Pair, size: int, way: str) -> None:
    """Around every border inside: a page, the first size of a pipe, the grown one, the pieces of a long message."""
    reader, writer = pair
    messages = [os.urandom(size), b"x", os.urandom(size)]

    def produce() -> None:
        for message in messages:
            writer.write(message)
        writer.close()

    producer = in_background(produce)
    if way == "read":
        assert [reader.read() for _ in messages] == messages
    elif way == "recv_message":
        assert [reader.recv_message().data for _ in messages] == messages
    elif way == "readall":
        assert reader.readall() == b"".join(messages)
    else:
        buffer = bytearray(100_000)
        received = bytearray()
        while piece := reader.read(100_000) if way == "read_n" else bytes(buffer[: reader.readinto(buffer)]):
            received += piece
        assert received == b"".join(messages)
    assert reader.num_bytes == 2 * size + 1
    assert reader.read() == b""
    producer.join()


def test_read_n_gives_up_to_n_bytes_of_one_message(pair: Pair) -> None:
    """As a raw file: never more than asked, never over the border of a message, never empty before the end."""
    reader, writer = pair
    writer.write(b"abcdef")
    writer.write(b"gh")
    writer.close()
    assert [reader.read(4), reader.read(4), reader.read(4), reader.read(4)] == [b"abcd", b"ef", b"gh", b""]


def test_read_0_and_an_empty_buffer_take_nothing_and_do_not_wait(pair: Pair) -> None:
    """Nothing was asked for, so nothing is waited for."""
    reader, writer = pair
    assert reader.read(0) == b""
    assert reader.readinto(bytearray()) == 0
    writer.write(b"a")
    assert reader.read(0) == b""
    assert reader.read() == b"a"


@pytest.mark.parametrize("read_to_end", [lambda reader: reader.read(-1), lambda reader: reader.readall()])
def test_read_to_the_end_joins_the_messages(pair: Pair, read_to_end: Callable[[PipeConnectionIO], bytes]) -> None:
    """read(-1) and readall() give all there is, from wherever the reader stands."""
    reader, writer = pair
    for message in (b"one", b"two", b"three"):
        writer.write(message)
    writer.close()
    assert reader.read(1) == b"o"
    assert read_to_end(reader) == b"netwothree"
    assert read_to_end(reader) == b""


def test_read_after_a_part_gives_the_rest_of_the_message(pair: Pair) -> None:
    """The ways of reading can be mixed."""
    reader, writer = pair
    writer.write(b"abcdef")
    writer.write(b"next")
    buffer = bytearray(2)
    assert reader.readinto(buffer) == 2
    assert reader.read(1) == b"c"
    assert reader.read() == b"def"
    assert reader.read(2) == b"ne"
    message = reader.recv_message()
    assert (message.cmd, message.data) == (PIPE_CONN_MSG_CMD_DATA, b"xt")


@given(st.lists(st.binary(max_size=60), max_size=8), st.lists(st.integers(0, 4), min_size=1))
def test_any_mixture_of_reads_loses_and_invents_nothing(messages: list[bytes], ways: list[int]) -> None:
    """Bytes come in order, whatever the calls."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    with reader:
        with writer:
            for message in messages:
                writer.write(message)
        received = bytearray()
        turn = 0
        while not reader.eof:
            way = ways[turn % len(ways)]
            turn += 1
            if way == 0:
                received += reader.read(7)
            elif way == 1:
                buffer = bytearray(5)
                received += buffer[: reader.readinto(buffer)]
            elif way == 2:
                received += reader.read()
            elif way == 3:
                received += reader.read(200)
            else:
                try:
                    received += reader.recv_message().data
                except EOFError:
                    break
        assert bytes(received) == b"".join(messages)
        assert reader.read() == b""


# The end, seen from both sides


def test_writing_nothing_does_nothing(pair: Pair) -> None:
    """No message goes out for write(b"")."""
    reader, writer = pair
    assert writer.write(b"") == 0
    writer.write(b"x")
    assert writer.write(bytearray()) == 0
    writer.close()
    assert [reader.read(), reader.read()] == [b"x", b""]


@pytest.mark.parametrize("before", [b"", b"some data"])
def test_an_end_without_data_is_legal(pair: Pair, before: bytes) -> None:
    """write_eof(b"") ends the data."""
    reader, writer = pair
    writer.write(before)
    assert writer.write_eof(b"") == 0
    assert writer.eof
    assert reader.readall() == before
    assert reader.eof


def test_eof_is_true_on_the_writer_at_once_and_on_the_reader_with_the_last_byte(pair: Pair) -> None:
    """Not before, and without another read."""
    reader, writer = pair
    assert not writer.eof
    writer.write(b"ab")
    assert not writer.eof
    writer.write_eof(b"cde")
    assert writer.eof
    assert not reader.eof
    assert reader.read() == b"ab"
    assert not reader.eof
    assert reader.read(2) == b"cd"
    assert not reader.eof
    assert reader.read(1) == b"e"
    assert reader.eof


@pytest.mark.parametrize("way", ["read", "readinto", "recv_message", "readall"])
def test_eof_comes_with_the_last_message_in_every_way_of_reading(pair: Pair, way: str) -> None:
    """The data-final message says so itself."""
    reader, writer = pair
    writer.write_eof(b"all")
    if way == "readinto":
        assert reader.readinto(bytearray(10)) == 3
    else:
        getattr(reader, way)()
    assert reader.eof


def test_nothing_can_be_written_after_the_end(pair: Pair) -> None:
    """PipeConnectionAlreadyEof, for messages and for another end too."""
    reader, writer = pair
    writer.write_eof(b"end")
    for call in (
        lambda: writer.write(b"more"),
        lambda: writer.write(b""),
        lambda: writer.write_eof(b"again"),
        lambda: writer.write_eof(b""),
        lambda: writer.send_message(PipeConnectionMessage("custom")),
    ):
        with pytest.raises(PipeConnectionAlreadyEof):
            call()
    assert reader.readall() == b"end"


# Counting


def test_all_data_are_counted_and_the_count_can_be_reset(pair: Pair) -> None:
    """Custom commands' data too, the commands themselves not."""
    reader, writer = pair
    writer.write(b"12345")
    writer.send_message(PipeConnectionMessage("custom", b"123"))
    assert writer.num_bytes == writer.tell() == 8
    writer.reset_num_bytes()
    assert writer.num_bytes == writer.tell() == 0
    writer.write_eof(b"12")
    assert writer.num_bytes == 2
    assert reader.num_bytes == reader.tell() == 0
    reader.read(4)
    assert reader.num_bytes == 4
    reader.read()
    reader.recv_message()
    assert reader.num_bytes == 8
    reader.reset_num_bytes()
    buffer = bytearray(1)
    reader.readinto(buffer)
    assert reader.num_bytes == reader.tell() == 1


# The file's other sides


def test_an_end_is_a_raw_binary_file(pair: Pair) -> None:
    """With a descriptor, one direction and no positions."""
    reader, writer = pair
    for end, is_write in ((reader, False), (writer, True)):
        assert isinstance(end, io.RawIOBase)
        assert end.readable() is not is_write
        assert end.writable() is is_write
        assert end.seekable() is False
        assert end.mode == ("wb" if is_write else "rb")
        assert end.isatty() is False
        assert os.fstat(end.fileno()).st_ino == os.fstat(reader.fileno()).st_ino
        with pytest.raises(io.UnsupportedOperation):
            end.seek(0)
        with pytest.raises(io.UnsupportedOperation):
            end.truncate()
        end.flush()


def test_the_wrong_side_raises_what_callers_of_either_kind_catch(pair: Pair) -> None:
    """PipeConnectionWrongSide is a library error, an io.UnsupportedOperation and a NotImplementedError."""
    reader, writer = pair
    calls: list[Callable[[], object]] = [
        writer.read,
        lambda: writer.read(5),
        writer.readall,
        lambda: writer.readinto(bytearray(4)),
        writer.recv_message,
        lambda: reader.write(b"x"),
        lambda: reader.write(b""),
        lambda: reader.write_eof(b"x"),
        reader.write_eof,
        lambda: reader.send_message(PipeConnectionMessage("x")),
    ]
    for call in calls:
        for error_class in (PipeConnectionWrongSide, PipelineError, io.UnsupportedOperation, NotImplementedError):
            with pytest.raises(error_class):
                call()


def test_a_closed_end_refuses_work_and_can_be_closed_again(pair: Pair) -> None:
    """ValueError, as with any file; the connection under it is closed too."""
    reader, writer = pair
    assert not reader.closed
    assert not writer.closed
    for end in (writer, reader):
        end.close()
        assert end.closed
        end.close()
    for call in (
        lambda: writer.write(b"x"),
        lambda: writer.write_eof(),
        lambda: writer.send_message(PipeConnectionMessage("x")),
        writer.fileno,
        reader.read,
        lambda: reader.read(5),
        reader.readall,
        lambda: reader.readinto(bytearray(3)),
        reader.recv_message,
        reader.fileno,
        reader.__enter__,
    ):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_the_connection_is_owned_and_closed() -> None:
    """Closing the end closes the connection; a connection closed directly is a closed end."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    reader, writer = PipeConnectionIO(receiving, is_write=False), PipeConnectionIO(sending, is_write=True)
    writer.close()
    assert sending.closed
    receiving.close()
    assert reader.closed
    reader.close()


def test_what_is_no_open_connection_of_that_direction_is_refused() -> None:
    """At construction."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    with receiving, sending:
        for connection in (receiving.fileno(), None, "pipe"):
            with pytest.raises(InvalidFunctionArgument):
                PipeConnectionIO(connection, is_write=True)  # type: ignore[arg-type]
        with pytest.raises(PipeConnectionWrongSide):
            PipeConnectionIO(receiving, is_write=True)
        with pytest.raises(PipeConnectionWrongSide):
            PipeConnectionIO(sending, is_write=False)
        assert not receiving.closed
        assert not sending.closed
    with pytest.raises(InvalidFunctionArgument, match="closed"):
        PipeConnectionIO(sending, is_write=True)


def test_a_socket_pair_serves_as_well() -> None:
    """A duplex Pipe() is one; there is nothing to grow."""
    here, there = multiprocessing.Pipe(duplex=True)
    with PipeConnectionIO(there, is_write=False) as reader:
        data = os.urandom(3 << 20)

        def produce() -> None:
            with PipeConnectionIO(here, is_write=True) as writer:
                writer.write(data)

        producer = in_background(produce)
        assert reader.read() == data
        assert reader.read() == b""
        producer.join()
