"""PipeConnectionIO between processes: ends that are handed over, and writers that die."""

from __future__ import annotations

import hashlib
import multiprocessing
import multiprocessing.resource_sharer
import os
import select
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext

import pytest

from atbu.mp_pipeline.exception import PipeConnectionAborted
from atbu.mp_pipeline.pipe_io import (
    PipeConnectionIO,
    PipeConnectionMessage,
    StageConnection,
    finish_stage_connection,
)

PIECE = bytes(range(256)) * 300
PIECES = 60


@pytest.fixture(params=["spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> BaseContext:
    return multiprocessing.get_context(request.param)


@pytest.fixture
def pool(context: BaseContext) -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        yield executor
    # What carries descriptors to the pool's child is a thread of multiprocessing's own.
    multiprocessing.resource_sharer.stop()


def produce(writer: PipeConnectionIO) -> int:
    with writer:
        for _ in range(PIECES):
            writer.write(PIECE)
        return writer.num_bytes


def produce_and_fail(writer: PipeConnectionIO) -> None:
    with writer:
        writer.write(b"half")
        raise ValueError("in the child")


def produce_and_say_so(writer: PipeConnectionIO) -> None:
    writer.write_eof(b"all there is")


def produce_and_forget(writer: PipeConnectionIO) -> None:
    writer.write(b"half")


def produce_and_die(writer: PipeConnectionIO) -> None:
    writer.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)


def produce_and_exit(writer: PipeConnectionIO) -> None:
    writer.write(b"half")
    os._exit(0)


def die_in_the_middle_of_a_write(writer: PipeConnectionIO) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    while True:
        writer.write(PIECE)


def consume(reader: PipeConnectionIO) -> tuple[str, bool]:
    with reader:
        digest = hashlib.sha256()
        while piece := reader.read(50_000):
            digest.update(piece)
        return digest.hexdigest(), reader.eof


def take_the_rest(reader: PipeConnectionIO) -> tuple[bytes, str, int]:
    with reader:
        rest = reader.read()
        message = reader.recv_message()
        return rest, message.cmd, reader.num_bytes


def test_a_writer_handed_to_a_pools_child_is_the_childs(pool: ProcessPoolExecutor) -> None:
    """It writes and ends there; closing the sender's copy at any time says nothing."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    with reader:
        future = pool.submit(produce, writer)
        assert reader.read() == PIECE
        writer.close()
        assert reader.readall() == PIECE * (PIECES - 1)
        assert reader.eof
        assert future.result() == len(PIECE) * PIECES


def test_a_reader_handed_to_a_pools_child_is_the_childs(pool: ProcessPoolExecutor) -> None:
    """The parent writes, the child reads to the clean end."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    future = pool.submit(consume, reader)
    produce(writer)
    assert future.result() == (hashlib.sha256(PIECE * PIECES).hexdigest(), True)
    reader.close()


def test_both_ends_can_be_handed_over(context: BaseContext) -> None:
    """Two children talk; the parent only closes."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        consumed, produced = pool.submit(consume, reader), pool.submit(produce, writer)
        assert produced.result() == len(PIECE) * PIECES
        writer.close()
        reader.close()
        assert consumed.result() == (hashlib.sha256(PIECE * PIECES).hexdigest(), True)
    multiprocessing.resource_sharer.stop()


def test_a_writer_that_was_handed_over_and_dropped_here_aborts_nothing(pool: ProcessPoolExecutor) -> None:
    """Nor does an exception that leaves its with."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    with reader:
        future = pool.submit(produce, writer)
        assert reader.read(10) == PIECE[:10]
        with pytest.raises(KeyError), writer:
            raise KeyError
        del writer
        assert len(reader.readall()) == len(PIECE) * PIECES - 10
        future.result()


def test_a_reader_handed_over_in_the_middle_goes_on_there(pool: ProcessPoolExecutor) -> None:
    """With what had been read ahead, what had been taken and what had been counted."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    with writer:
        writer.write(b"abcdef")
        writer.send_message(PipeConnectionMessage("custom", b"123"))
        assert reader.read(2) == b"ab"
        rest, cmd, num_bytes = pool.submit(take_the_rest, reader).result()
        reader.close()
    assert (rest, cmd, num_bytes) == (b"cdef", "custom", 9)


def test_a_writer_handed_over_after_its_end_stays_ended(pool: ProcessPoolExecutor) -> None:
    """And keeps its count."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    with reader, writer:
        writer.write_eof(b"12345")
        assert pool.submit(facts, writer).result() == (5, True)
        assert reader.readall() == b"12345"


def facts(end: PipeConnectionIO) -> tuple[int, bool]:
    return end.num_bytes, end.eof


def test_a_childs_exception_aborts(pool: ProcessPoolExecutor) -> None:
    """With its text as the reason."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    with reader:
        future = pool.submit(produce_and_fail, writer)
        assert reader.read() == b"half"
        writer.close()
        with pytest.raises(PipeConnectionAborted, match="ValueError: in the child"):
            reader.read()
        with pytest.raises(ValueError, match="in the child"):
            future.result()


def test_an_end_can_be_the_argument_of_a_process(context: BaseContext) -> None:
    """Process(args=…), by pickling."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    process = context.Process(target=produce, args=(writer,))  # type: ignore[attr-defined]
    process.start()
    writer.close()
    with reader:
        assert reader.readall() == PIECE * PIECES
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize(
    ("work", "exit_code"), [(produce_and_die, -signal.SIGKILL), (produce_and_exit, 0), (produce_and_forget, 0)]
)
def test_a_writer_that_vanishes_is_an_abort(context: BaseContext, work: object, exit_code: int) -> None:
    """The data that came are given, then the reader raises."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    process = context.Process(target=work, args=(writer,))  # type: ignore[attr-defined]
    process.start()
    writer.close()
    with reader:
        assert reader.read() == b"half"
        with pytest.raises(PipeConnectionAborted):
            reader.read()
    process.join()
    assert process.exitcode == exit_code


def test_a_writers_own_word_outlives_it(context: BaseContext) -> None:
    """write_eof was sent before the process ended."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    process = context.Process(target=produce_and_say_so, args=(writer,))  # type: ignore[attr-defined]
    process.start()
    writer.close()
    process.join()
    with reader:
        assert reader.readall() == b"all there is"


def test_a_writer_killed_in_the_middle_of_a_write_is_an_abort(context: BaseContext) -> None:
    """However the signal cut its frame."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    process = context.Process(target=die_in_the_middle_of_a_write, args=(writer,))  # type: ignore[attr-defined]
    process.start()
    writer.close()
    with reader:
        assert reader.read() == PIECE
        with pytest.raises(PipeConnectionAborted):
            reader.readall()
    process.join()
    assert process.exitcode == -signal.SIGALRM


def test_a_forked_process_given_an_end_can_write_its_own_word() -> None:
    """A fork copies the end: write and write_eof work there, and only closing is left to the maker."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    process = multiprocessing.get_context("fork").Process(target=produce_and_say_so, args=(writer,))
    process.start()
    with reader, writer:
        assert reader.readall() == b"all there is"
    process.join()


@pytest.mark.parametrize("ok", [True, False])
def test_a_stages_end_handed_to_a_child_leaves_the_verdict_with_the_stage(context: BaseContext, ok: bool) -> None:
    """The child's clean close is not yet the end of the stage's data."""
    in_fd, out_fd = os.pipe()
    producer = StageConnection(out_fd, readable=False, writable=True)
    writer = PipeConnectionIO(producer, is_write=True)
    process = context.Process(target=produce, args=(writer,))  # type: ignore[attr-defined]
    process.start()
    with PipeConnectionIO(Connection(in_fd, writable=False), is_write=False) as reader:
        assert b"".join(reader.read() for _ in range(PIECES)) == PIECE * PIECES
        process.join()
        assert not select.select([reader], [], [], 0)[0]
        finish_stage_connection(producer, ok, "failed later")
        if ok:
            assert reader.read() == b""
        else:
            with pytest.raises(PipeConnectionAborted, match="failed later"):
                reader.read()


def test_a_last_message_that_another_process_could_end_goes_in_two_frames(context: BaseContext) -> None:
    """Torn by a kill, its data would else be filled up by the other's end mark and pass for complete."""
    in_fd, out_fd = os.pipe()
    producer = StageConnection(out_fd, readable=False, writable=True)
    process = context.Process(  # type: ignore[attr-defined]
        target=produce_and_say_so, args=(PipeConnectionIO(producer, is_write=True),)
    )
    process.start()
    with PipeConnectionIO(Connection(in_fd, writable=False), is_write=False) as reader:
        messages = [reader.recv_message(), reader.recv_message()]
        assert [(m.cmd, m.data) for m in messages] == [("data", b"all there is"), ("data-final", b"")]
        assert reader.eof
    process.join()
    finish_stage_connection(producer, True, None)
