"""What is on the wire: broken streams are errors, never wrong data; and how large the pipe is."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import pytest

from atbu.mp_pipeline import pipe_descriptor
from atbu.mp_pipeline.exception import (
    InvalidPipeConnectionMessage,
    PipeConnectionAborted,
)
from atbu.mp_pipeline.frames import DATA, DATA_FINAL, END_FRAME, encode_header
from atbu.mp_pipeline.pipe_io import (
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


# Streams that are broken


def test_a_reader_of_a_bare_writer_is_told_so_at_its_first_byte() -> None:
    """Connection's own messages are shorter than a header; nobody waits for the rest."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    with sending, PipeConnectionIO(receiving, is_write=False) as reader:
        sending.send_bytes(b"abc")
        for _ in range(2):
            with pytest.raises(InvalidPipeConnectionMessage, match="bare"):
                reader.read()


@pytest.mark.parametrize("bit", [3, 12, 40, 90, 120])
def test_a_damaged_header_is_an_error_for_good(raw: tuple[PipeConnectionIO, int], bit: int) -> None:
    """Data before it are good, and nothing after it is taken for data."""
    reader, fd = raw
    damaged = bytearray(encode_header(DATA, 5))
    damaged[bit // 8] ^= 1 << bit % 8
    os.write(fd, encode_header(DATA, 2) + b"ok" + damaged + b"wrong" + END_FRAME)
    assert reader.readinto(bytearray(100)) == 2
    for read in (reader.read, reader.recv_message, reader.readall, lambda: reader.readinto(bytearray(5))):
        with pytest.raises(InvalidPipeConnectionMessage):
            read()
    assert not reader.eof


def test_a_stream_that_trickles_is_read_all_the_same(raw: tuple[PipeConnectionIO, int]) -> None:
    """A header may come in sixteen pieces, some of them along with the data before it."""
    reader, fd = raw
    stream = encode_header(DATA, 3) + b"abc" + encode_header(DATA, 2) + b"de" + encode_header(DATA_FINAL, 1) + b"f"
    received = bytearray()
    consumer = in_background(lambda: received.extend(reader.readall()))
    for byte in stream:
        os.write(fd, bytes((byte,)))
    consumer.join()
    assert received == b"abcdef"


def test_a_header_never_makes_the_reader_ask_for_what_has_not_arrived(raw: tuple[PipeConnectionIO, int]) -> None:
    """It may say 2 to the 60 bytes: memory grows with what comes."""
    reader, fd = raw
    os.write(fd, encode_header(DATA, 1 << 60) + b"only this")
    tracemalloc.start()
    try:
        assert reader.read(1 << 50) == b"only this"
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_read_of_a_huge_claim_ends_with_the_writer() -> None:
    """read() and readall() of a message that never comes are an abort, not a MemoryError."""
    for read_name in ("read", "readall", "recv_message"):
        in_fd, out_fd = os.pipe()
        with PipeConnectionIO(Connection(in_fd, writable=False), is_write=False) as reader:
            os.write(out_fd, encode_header(DATA_FINAL, (1 << 64) - 1) + b"a little")
            os.close(out_fd)
            tracemalloc.start()
            try:
                with pytest.raises(PipeConnectionAborted):
                    getattr(reader, read_name)()
                assert tracemalloc.get_traced_memory()[1] < 8 << 20
            finally:
                tracemalloc.stop()


def test_a_stream_cut_at_any_byte_is_never_a_clean_end() -> None:
    """Header, command, data: wherever the writer vanished, the reader raises, and what it gave was right."""
    stream = (
        encode_header(DATA, 3)
        + b"abc"
        + encode_header(3, 2, 4)
        + b"cmd!"
        + b"zz"
        + encode_header(DATA_FINAL, 2)
        + b"de"
    )
    for length in range(len(stream)):
        in_fd, out_fd = os.pipe()
        os.write(out_fd, stream[:length])
        os.close(out_fd)
        with PipeConnectionIO(Connection(in_fd, writable=False), is_write=False) as reader:
            received: list[PipeConnectionMessage] = []
            with pytest.raises(PipeConnectionAborted):
                received.extend(iter(reader.recv_message, None))
            assert [message.data for message in received] == [b"abc", b"zz"][: len(received)]
            assert not reader.eof
            for read in (reader.read, reader.readall, reader.recv_message, lambda: reader.read(1)):
                with pytest.raises(PipeConnectionAborted):
                    read()


# The pipe's size


def pipe_size(end: PipeConnectionIO) -> int:
    return fcntl.fcntl(end.fileno(), fcntl.F_GETPIPE_SZ)


def test_a_pipe_grows_at_the_first_large_write_and_not_before(pair: Pair) -> None:
    """All pipes of a user share one limit, so only those that gain by it are grown."""
    reader, writer = pair
    small = pipe_size(writer)
    writer.write(bytes(100))
    assert pipe_size(writer) == small
    reader.read()
    consumer = in_background(reader.read)
    writer.write(bytes(64 << 10))
    consumer.join()
    assert pipe_size(writer) == 1 << 20


def test_a_pipe_that_is_larger_already_keeps_its_size(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Growing never shrinks."""
    reader, writer = pair
    # An unprivileged user can have no pipe larger than the true size.
    monkeypatch.setattr(pipe_descriptor, "GROWN_PIPE_BYTES", 128 << 10)
    larger = fcntl.fcntl(writer.fileno(), fcntl.F_SETPIPE_SZ, 256 << 10)
    writer.write(bytes(100_000))
    assert pipe_size(writer) == larger
    assert len(reader.read()) == 100_000


def test_bytes_of_the_length_field_are_the_documented_ones(raw: tuple[PipeConnectionIO, int]) -> None:
    """The format on the wire is fixed: another version's end must understand it."""
    receiving_fd, sending_fd = os.pipe()
    with PipeConnectionIO(Connection(sending_fd, readable=False), is_write=True) as writer:
        writer.write(b"xyz")
        header = os.read(receiving_fd, 16)
        assert os.read(receiving_fd, 100) == b"xyz"
    assert struct.unpack(">BBHQ", header[:12]) == (0xD7, 1, 0, 3)
    assert os.read(receiving_fd, 100) == END_FRAME
    os.close(receiving_fd)
