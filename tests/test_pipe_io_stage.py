"""StageConnection: a real Connection whose end of data is the stage's verdict."""

from __future__ import annotations

import fcntl
import gc
import gzip
import io
import multiprocessing.connection
import multiprocessing.resource_sharer
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest

from atbu.mp_pipeline.exception import (
    PipeConnectionAborted,
)
from atbu.mp_pipeline.frames import DATA, encode_header
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


# The verdict


def close_the_wrapper(conn: StageConnection, writer: PipeConnectionIO) -> None:
    writer.close()


def close_the_connection(conn: StageConnection, writer: PipeConnectionIO) -> None:
    conn.close()


def close_both(conn: StageConnection, writer: PipeConnectionIO) -> None:
    writer.close()
    conn.close()
    writer.close()


def leave_with(conn: StageConnection, writer: PipeConnectionIO) -> None:
    with writer:
        pass


def leave_with_by_an_exception(conn: StageConnection, writer: PipeConnectionIO) -> None:
    with pytest.raises(ValueError, match="caught"), writer:
        raise ValueError("caught")


def leave_the_connections_with(conn: StageConnection, writer: PipeConnectionIO) -> None:
    with conn:
        pass


def close_a_buffered_writer(conn: StageConnection, writer: PipeConnectionIO) -> None:
    io.BufferedWriter(writer).close()


def drop(conn: StageConnection, writer: PipeConnectionIO) -> None:
    writer.__del__()


ENDS = [
    close_the_wrapper,
    close_the_connection,
    close_both,
    leave_with,
    leave_with_by_an_exception,
    leave_the_connections_with,
    close_a_buffered_writer,
    drop,
]


@pytest.mark.parametrize("ok", [True, False])
@pytest.mark.parametrize("data", [b"", b"data"], ids=["no-data", "data"])
@pytest.mark.parametrize("end", ENDS)
def test_an_end_inside_a_stage_waits_for_the_verdict(
    ends: Ends, end: Callable[[StageConnection, PipeConnectionIO], None], data: bytes, ok: bool
) -> None:
    """Closed at once for the stage; the reader hears nothing until the stage has returned, and then the truth."""
    consumer, producer = ends
    writer = PipeConnectionIO(producer, is_write=True)
    writer.write(data)
    end(producer, writer)
    assert producer.closed
    assert writer.closed
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"late")
    reader = PipeConnectionIO(consumer, is_write=False)
    if data:
        assert reader.read() == data
    assert not consumer.poll(0)
    finish_stage_connection(producer, ok, None if ok else "ValueError: stage")
    assert consumer.poll(0)
    if ok:
        assert reader.read() == b""
        assert reader.eof
    else:
        with pytest.raises(PipeConnectionAborted, match="ValueError: stage"):
            reader.read()


# Python 3.13 may finalise the file under the GzipFile first, which then says that it could not write.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dropped_wrapper_waits_for_the_verdict_too(ends: Ends) -> None:
    """By garbage collection, with all that a GzipFile writes when it is dropped."""
    consumer, producer = ends

    def work() -> None:
        file = gzip.GzipFile(fileobj=PipeConnectionIO(producer, is_write=True), mode="wb")
        file.write(b"half of the file")

    work()
    gc.collect()
    assert producer.closed
    finish_stage_connection(producer, False, None)
    with PipeConnectionIO(consumer, is_write=False) as reader, pytest.raises(PipeConnectionAborted):
        gzip.GzipFile(fileobj=io.BufferedReader(reader)).read()


@pytest.mark.parametrize("ok", [True, False])
def test_an_end_left_open_gets_the_verdict(ends: Ends, ok: bool) -> None:
    """The stage need not close anything."""
    consumer, producer = ends
    writer = PipeConnectionIO(producer, is_write=True)
    writer.write(b"data")
    finish_stage_connection(producer, ok, "reason")
    assert writer.closed
    with PipeConnectionIO(consumer, is_write=False) as reader:
        assert reader.read() == b"data"
        if ok:
            assert reader.read() == b""
        else:
            with pytest.raises(PipeConnectionAborted, match="reason"):
                reader.read()


@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("ok", [True, False])
def test_an_end_never_touched_gets_the_verdict(ends: Ends, ok: bool, closes: bool) -> None:
    """A producer with nothing to say has said that there is nothing, if it succeeded."""
    consumer, producer = ends
    if closes:
        producer.close()
        assert producer.closed
    finish_stage_connection(producer, ok, "nothing done")
    with PipeConnectionIO(consumer, is_write=False) as reader:
        if ok:
            assert reader.read() == b""
        else:
            with pytest.raises(PipeConnectionAborted, match="nothing done"):
                reader.read()


@pytest.mark.parametrize("ok", [True, False])
def test_write_eof_is_the_stages_own_word_and_is_sent_at_once(ends: Ends, ok: bool) -> None:
    """Before the verdict, and whatever that is; nothing follows it."""
    consumer, producer = ends
    reader = PipeConnectionIO(consumer, is_write=False)
    with PipeConnectionIO(producer, is_write=True) as writer:
        writer.write_eof(b"all")
        assert reader.readall() == b"all"
        assert reader.eof
    finish_stage_connection(producer, ok, "late failure")
    assert os.read(consumer.fileno(), 100) == b""


def test_a_stages_own_abort_is_sent_at_once(ends: Ends) -> None:
    """A stage that knows its data are bad can say so; a success later does not undo it."""
    consumer, producer = ends
    writer = PipeConnectionIO(producer, is_write=True)
    writer.abort("bad data")
    assert producer.closed
    finish_stage_connection(producer, True, None)
    with PipeConnectionIO(consumer, is_write=False) as reader, pytest.raises(PipeConnectionAborted, match="bad data"):
        reader.read()


def test_a_frame_torn_inside_a_stage_gets_no_end_even_if_the_stage_succeeds(
    ends: Ends, interrupt: tuple[int, Callable[[], Any]]
) -> None:
    """The exception that tore it may have been swallowed."""
    consumer, producer = ends
    producer.interrupt_fd, raise_it = interrupt
    writer = PipeConnectionIO(producer, is_write=True)
    thread, outcome = start_and_catch(lambda: writer.write(bytes(5 << 20)))
    assert os.read(consumer.fileno(), 100)
    raise_it()
    thread.join()
    assert isinstance(outcome[0], PipeConnectionAborted)
    writer.close()
    finish_stage_connection(producer, True, None)
    with open(os.dup(consumer.fileno()), "rb") as raw:
        assert set(raw.read()) == {0}


def test_finishing_twice_is_fine(ends: Ends) -> None:
    """The first word counts, and no descriptor is closed twice."""
    consumer, producer = ends
    fd = producer._handle
    assert fd is not None
    finish_stage_connection(producer, True, None)
    assert not is_open(fd)
    other = os.dup(0)
    finish_stage_connection(producer, False, "again")
    assert is_open(other)
    os.close(other)
    assert PipeConnectionIO(consumer, is_write=False).read() == b""


def test_a_reader_closes_at_once(ends: Ends) -> None:
    """There is no verdict on reading; the producer notices."""
    consumer, producer = ends
    fd = consumer.fileno()
    reader = PipeConnectionIO(consumer, is_write=False)
    reader.close()
    assert consumer.closed
    assert not is_open(fd)
    with pytest.raises(BrokenPipeError):
        PipeConnectionIO(producer, is_write=True).write(b"x")
    finish_stage_connection(consumer, True, None)


@pytest.mark.parametrize("ok", [True, False])
def test_a_verdict_that_nobody_reads_is_no_error(ends: Ends, ok: bool) -> None:
    """The reader may have gone, with the pipe empty or full."""
    consumer, producer = ends
    fill(PipeConnectionIO(producer, is_write=True))
    consumer.close()
    finish_stage_connection(producer, ok, "reason")


def test_a_clean_verdict_waits_for_room(ends: Ends) -> None:
    """The worker waits until the reader drains the pipe."""
    consumer, producer = ends
    data = fill(PipeConnectionIO(producer, is_write=True))
    worker = threading.Thread(target=finish_stage_connection, args=(producer, True, None))
    worker.start()
    # One that does not wait is over by then.
    worker.join(0.2)
    assert worker.is_alive()
    reader = PipeConnectionIO(consumer, is_write=False)
    assert reader.readall() == data
    assert reader.eof
    worker.join()


def test_a_clean_verdict_stops_waiting_when_the_reader_goes(ends: Ends) -> None:
    """Then there is nobody to tell."""
    consumer, producer = ends
    fill(PipeConnectionIO(producer, is_write=True))
    worker = threading.Thread(target=finish_stage_connection, args=(producer, True, None))
    worker.start()
    consumer.close()
    worker.join()


def test_a_failing_verdict_does_not_wait(ends: Ends) -> None:
    """On a full pipe the reason is left out, and the missing end tells."""
    consumer, producer = ends
    data = fill(PipeConnectionIO(producer, is_write=True))
    finish_stage_connection(producer, False, "reason")
    reader = PipeConnectionIO(consumer, is_write=False)
    assert reader.read() == data
    with pytest.raises(PipeConnectionAborted) as caught:
        reader.read()
    assert caught.value.reason is None


def test_a_connection_dropped_without_a_verdict_is_an_abort() -> None:
    """A worker that lost it has not said that all went well."""
    in_fd, out_fd = os.pipe()
    producer = StageConnection(out_fd, readable=False, writable=True)
    PipeConnectionIO(producer, is_write=True).write(b"data")
    assert producer.closed
    del producer
    gc.collect()
    with PipeConnectionIO(Connection(in_fd, writable=False), is_write=False) as reader:
        assert reader.read() == b"data"
        with pytest.raises(PipeConnectionAborted):
            reader.read()


@pytest.mark.parametrize("act", ["close", "finish", "drop", "with"])
def test_a_forked_copy_of_a_stages_end_only_closes(ends: Ends, act: str) -> None:
    """The verdict belongs to the worker."""
    consumer, producer = ends
    writer = PipeConnectionIO(producer, is_write=True)
    writer.write(b"before")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            fd = producer._handle
            assert fd is not None
            if act == "close":
                writer.close()
            elif act == "finish":
                finish_stage_connection(producer, True, None)
            elif act == "drop":
                producer.__del__()
            else:
                with writer:
                    pass
            status = 0 if not is_open(fd) else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    writer.write(b"after")
    finish_stage_connection(producer, True, None)
    with PipeConnectionIO(consumer, is_write=False) as reader:
        assert reader.readall() == b"beforeafter"


def test_several_wrappers_share_one_end(ends: Ends) -> None:
    """write_eof on one of them is the end for all."""
    _, producer = ends
    first, second = PipeConnectionIO(producer, is_write=True), PipeConnectionIO(producer, is_write=True)
    first.write_eof()
    assert second.eof
    second.close()
    assert first.closed


def test_a_stages_connection_pickled_is_a_plain_connection(ends: Ends) -> None:
    """For a process that the stage starts: usable bare there, and no part of the verdict."""
    consumer, producer = ends
    try:
        copy = pickle.loads(pickle.dumps(producer))
        assert type(copy) is Connection
        copy.send_bytes(b"from the copy")
        copy.close()
        finish_stage_connection(producer, True, None)
        assert consumer.recv_bytes() == b"from the copy"
        with pytest.raises(EOFError):
            consumer.recv_bytes()
    finally:
        multiprocessing.resource_sharer.stop()


def test_data_after_a_verdict_are_refused_by_the_reader() -> None:
    """Nothing is read after an end."""
    in_fd, out_fd = os.pipe()
    with PipeConnectionIO(Connection(in_fd, writable=False), is_write=False) as reader:
        os.write(out_fd, encode_header(4, 0) + encode_header(DATA, 4) + b"late")
        os.close(out_fd)
        assert reader.read() == b""
        assert reader.readall() == b""
