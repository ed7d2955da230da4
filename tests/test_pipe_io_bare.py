"""A stage's connection used bare: multiprocessing's own messages, as ever."""

from __future__ import annotations

import fcntl
import multiprocessing.connection
import multiprocessing.resource_sharer
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest

from atbu.mp_pipeline.exception import (
    InvalidPipeConnectionMessage,
    InvalidStateError,
    PipeConnectionAborted,
)
from atbu.mp_pipeline.frames import encode_header
from atbu.mp_pipeline.pipe_io import (
    PipeConnectionIO,
    StageConnection,
    finish_stage_connection,
)

Ends = tuple[StageConnection, StageConnection]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The consumer's connection and the producer's."""
    in_fd, out_fd = os.pipe()
    consumer = StageConnection(in_fd, readable=True, writable=False)
    producer = StageConnection(out_fd, readable=False, writable=True)
    yield consumer, producer
    finish_stage_connection(producer, False, None)
    finish_stage_connection(consumer, False, None)


@pytest.fixture
def interrupt() -> Iterator[tuple[int, Callable[[], Any]]]:
    """A descriptor to be watched, and what makes it readable."""
    in_fd, out_fd = os.pipe()
    yield in_fd, lambda: os.write(out_fd, b"!")
    os.close(in_fd)
    os.close(out_fd)


def start_and_catch(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as ex:  # noqa: BLE001 - looked at by the test's own thread
            outcome.append(ex)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def fill(writer: PipeConnectionIO) -> bytes:
    data = os.urandom(fcntl.fcntl(writer.fileno(), fcntl.F_GETPIPE_SZ) - 16)
    writer.write(data)
    return data


# Bare use


def test_it_is_a_connection_usable_bare(ends: Ends) -> None:
    """send_bytes, send, recv_bytes, recv, recv_bytes_into, poll and fileno work as ever."""
    consumer, producer = ends
    assert isinstance(consumer, Connection)
    assert (consumer.readable, consumer.writable) == (True, False)
    assert (producer.readable, producer.writable) == (False, True)
    assert not consumer.poll(0)
    producer.send_bytes(b"bytes")
    assert consumer.poll()
    assert consumer.recv_bytes() == b"bytes"
    producer.send_bytes(b"offset and size", 7, 3)
    assert consumer.recv_bytes() == b"and"
    producer.send({"an": ["object"]})
    assert consumer.recv() == {"an": ["object"]}
    producer.send_bytes(b"")
    assert consumer.recv_bytes() == b""
    producer.send_bytes(b"into")
    target = bytearray(6)
    assert consumer.recv_bytes_into(target, 2) == 4
    assert target == b"\0\0into"
    with pytest.raises(OSError, match="read-only"):
        consumer.send_bytes(b"x")
    with pytest.raises(OSError, match="write-only"):
        producer.recv_bytes()
    assert multiprocessing.connection.wait([consumer], 0) == []


def test_a_plain_connection_understands_it_and_is_understood(ends: Ends) -> None:
    """The wire format of bare messages is multiprocessing's own, for long ones too."""
    consumer, producer = ends
    with (
        Connection(os.dup(consumer.fileno()), writable=False) as plain_consumer,
        Connection(os.dup(producer.fileno()), readable=False) as plain_producer,
    ):
        data = os.urandom(1 << 20)
        for send, receive in ((producer, plain_consumer), (plain_producer, consumer)):
            for message in (b"short", data):
                thread = threading.Thread(target=send.send_bytes, args=(message,))
                thread.start()
                assert receive.recv_bytes() == message
                thread.join()


def test_a_message_longer_than_allowed_is_refused_as_ever(ends: Ends) -> None:
    """OSError, and the reading end is closed, as Connection does it."""
    consumer, producer = ends
    producer.send_bytes(b"much too long")
    with pytest.raises(OSError, match="bad message length"):
        consumer.recv_bytes(4)
    assert consumer.closed


def test_closing_an_end_used_bare_closes_its_descriptor_at_once(ends: Ends) -> None:
    """The end of the descriptor is the end of data, as ever; the verdict later adds nothing."""
    consumer, producer = ends
    producer.send_bytes(b"bare")
    producer.close()
    assert producer.closed
    assert consumer.recv_bytes() == b"bare"
    with pytest.raises(EOFError):
        consumer.recv_bytes()
    finish_stage_connection(producer, True, None)


def test_an_end_used_bare_and_left_open_is_closed_by_the_verdict(ends: Ends) -> None:
    """No frame follows bare messages when the stage succeeded."""
    consumer, producer = ends
    fd = consumer.fileno()
    producer.send({"bare": True})
    finish_stage_connection(producer, True, None)
    assert consumer.recv() == {"bare": True}
    assert os.read(fd, 100) == b""


def test_a_bare_reader_learns_of_a_failure(ends: Ends) -> None:
    """Where the producer left its end open and failed, the consumer does not see a mere end."""
    consumer, producer = ends
    producer.send_bytes(b"half")
    finish_stage_connection(producer, False, "the producer failed")
    assert consumer.recv_bytes() == b"half"
    for _ in range(2):
        with pytest.raises(PipeConnectionAborted, match="the producer failed"):
            consumer.recv_bytes()


def test_a_descriptor_given_away_gets_no_frame(ends: Ends) -> None:
    """A child process that writes to the pipe directly ends its bytes by ending."""
    consumer, producer = ends
    script = "import sys; sys.stdout.write('raw bytes')"
    subprocess.run([sys.executable, "-c", script], stdout=producer, check=True)
    finish_stage_connection(producer, True, None)
    with open(os.dup(consumer.fileno()), "rb") as raw:
        assert raw.read() == b"raw bytes"


def test_a_bare_reader_sees_the_clean_end_of_a_producer_that_wrote_nothing(ends: Ends) -> None:
    """EOFError, as from a closed connection."""
    consumer, producer = ends
    finish_stage_connection(producer, True, None)
    for _ in range(2):
        with pytest.raises(EOFError):
            consumer.recv_bytes()


def test_a_bare_reader_of_frames_is_told_so(ends: Ends) -> None:
    """One end bare and the other wrapped is a mistake with a name."""
    consumer, producer = ends
    PipeConnectionIO(producer, is_write=True).write(b"framed")
    with pytest.raises(InvalidPipeConnectionMessage, match="PipeConnectionIO"):
        consumer.recv_bytes()


def test_a_wrapped_reader_of_bare_messages_is_told_so(ends: Ends) -> None:
    """And the other way round."""
    consumer, producer = ends
    producer.send_bytes(b"bare")
    with (
        PipeConnectionIO(consumer, is_write=False) as reader,
        pytest.raises(InvalidPipeConnectionMessage, match="bare"),
    ):
        reader.read()


@pytest.mark.parametrize("sent", [b"\x00", b"\x00\x00\x00", b"\x00\x00\x00\x05abc", encode_header(4, 0)[:9]])
def test_a_bare_reader_takes_no_torn_message_for_an_end(ends: Ends, sent: bytes) -> None:
    """An OSError that is no EOFError."""
    consumer, producer = ends
    os.write(producer.fileno(), sent)
    producer.close()
    with pytest.raises(PipeConnectionAborted):
        consumer.recv_bytes()


def test_a_wrapped_connection_refuses_bare_messages(ends: Ends) -> None:
    """They would stand in the middle of the frames, or miss the header that was read ahead."""
    consumer, producer = ends
    writer = PipeConnectionIO(producer, is_write=True)
    reader = PipeConnectionIO(consumer, is_write=False)
    for call in (lambda: producer.send_bytes(b"x"), lambda: producer.send("x"), consumer.recv_bytes, consumer.recv):
        with pytest.raises(InvalidStateError, match="PipeConnectionIO"):
            call()
    writer.write(b"sound")
    assert reader.read() == b"sound"


def test_bare_messages_may_come_before_the_frames(ends: Ends) -> None:
    """A greeting by send, then a PipeConnectionIO on both ends."""
    consumer, producer = ends
    producer.send("greeting")
    with PipeConnectionIO(producer, is_write=True) as writer:
        writer.write(b"data")
    assert consumer.recv() == "greeting"
    finish_stage_connection(producer, True, None)
    with PipeConnectionIO(consumer, is_write=False) as reader:
        assert reader.readall() == b"data"
