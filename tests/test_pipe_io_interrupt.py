"""Thread stages: once the chain has failed, no read and no write goes on waiting."""

from __future__ import annotations

import fcntl
import io
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from atbu.mp_pipeline.exception import (
    PipeConnectionAborted,
)
from atbu.mp_pipeline.pipe_io import (
    PipeConnectionIO,
    PipeConnectionMessage,
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


# The interrupt of thread stages


@pytest.mark.parametrize(
    "read",
    [
        lambda conn: PipeConnectionIO(conn, is_write=False).read(),
        lambda conn: PipeConnectionIO(conn, is_write=False).readall(),
        lambda conn: PipeConnectionIO(conn, is_write=False).read(10),
        lambda conn: PipeConnectionIO(conn, is_write=False).readinto(bytearray(10)),
        lambda conn: PipeConnectionIO(conn, is_write=False).recv_message(),
        lambda conn: io.BufferedReader(PipeConnectionIO(conn, is_write=False)).read(),
        lambda conn: conn.recv_bytes(),
        lambda conn: conn.recv(),
    ],
)
@pytest.mark.parametrize("is_before", [True, False])
def test_the_interrupt_ends_a_read_that_waits(
    ends: Ends,
    interrupt: tuple[int, Callable[[], Any]],
    read: Callable[[StageConnection], object],
    is_before: bool,
) -> None:
    """PipeConnectionAborted, whether it came before or while waiting."""
    consumer, _ = ends
    consumer.interrupt_fd, raise_it = interrupt
    if is_before:
        raise_it()
    thread, outcome = start_and_catch(lambda: read(consumer))
    if not is_before:
        raise_it()
    thread.join()
    assert isinstance(outcome[0], PipeConnectionAborted)


@pytest.mark.parametrize(
    "write",
    [
        lambda conn: PipeConnectionIO(conn, is_write=True).write(bytes(5 << 20)),
        lambda conn: PipeConnectionIO(conn, is_write=True).write_eof(bytes(5 << 20)),
        lambda conn: PipeConnectionIO(conn, is_write=True).send_message(PipeConnectionMessage("x", bytes(5 << 20))),
        lambda conn: conn.send_bytes(bytes(5 << 20)),
    ],
)
def test_the_interrupt_ends_a_write_that_waits(
    ends: Ends, interrupt: tuple[int, Callable[[], Any]], write: Callable[[StageConnection], object]
) -> None:
    """Also one that is larger than the pipe and has begun."""
    consumer, producer = ends
    producer.interrupt_fd, raise_it = interrupt
    thread, outcome = start_and_catch(lambda: write(producer))
    assert os.read(consumer.fileno(), 16)
    raise_it()
    thread.join()
    assert isinstance(outcome[0], PipeConnectionAborted)
    finish_stage_connection(producer, True, None)
    assert producer.closed


def test_the_interrupt_ends_a_verdict_that_waits(ends: Ends, interrupt: tuple[int, Callable[[], Any]]) -> None:
    """A thread that has nothing more to do is not kept."""
    _, producer = ends
    producer.interrupt_fd, raise_it = interrupt
    fill(PipeConnectionIO(producer, is_write=True))
    thread, _ = start_and_catch(lambda: finish_stage_connection(producer, True, None))
    raise_it()
    thread.join()


def test_data_go_through_unchanged_where_an_interrupt_is_watched(
    ends: Ends, interrupt: tuple[int, Callable[[], Any]]
) -> None:
    """Large writes in pieces, without ever blocking in one."""
    consumer, producer = ends
    consumer.interrupt_fd = producer.interrupt_fd = interrupt[0]
    messages = [os.urandom(size) for size in (1, 65_536, 3 << 20, 10, (1 << 20) + 1)]

    def produce() -> None:
        with PipeConnectionIO(producer, is_write=True) as writer:
            for message in messages:
                writer.write(message)
        finish_stage_connection(producer, True, None)

    thread, outcome = start_and_catch(produce)
    with PipeConnectionIO(consumer, is_write=False) as reader:
        assert [reader.read() for _ in messages] == messages
        assert reader.read() == b""
    thread.join()
    assert outcome == [None]


def test_bare_messages_go_through_where_an_interrupt_is_watched(
    ends: Ends, interrupt: tuple[int, Callable[[], Any]]
) -> None:
    """Larger ones than the pipe, too."""
    consumer, producer = ends
    consumer.interrupt_fd = producer.interrupt_fd = interrupt[0]
    data = os.urandom(3 << 20)
    thread, outcome = start_and_catch(lambda: producer.send_bytes(data))
    assert consumer.recv_bytes() == data
    thread.join()
    assert outcome == [None]


def test_a_torn_bare_message_is_followed_by_nothing(ends: Ends, interrupt: tuple[int, Callable[[], Any]]) -> None:
    """Neither by another message nor by a frame."""
    consumer, producer = ends
    producer.interrupt_fd, raise_it = interrupt
    thread, outcome = start_and_catch(lambda: producer.send_bytes(bytes(5 << 20)))
    assert os.read(consumer.fileno(), 4)
    raise_it()
    thread.join()
    assert isinstance(outcome[0], PipeConnectionAborted)
    with pytest.raises(PipeConnectionAborted, match="interrupted"):
        producer.send_bytes(b"more")
    producer.close()
    with open(os.dup(consumer.fileno()), "rb") as raw:
        assert set(raw.read()) == {0}
