"""How data end outside a stage: who says so, what a broken end looks like, and that ending never raises or blocks."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator

import pytest
from pipe_ends import (
    ABORTS,
    CLEAN_ENDS,
    fill,
)

from atbu.mp_pipeline.exception import PipeConnectionAborted
from atbu.mp_pipeline.pipe_io import PipeConnectionIO, PipeConnectionMessage

Pair = tuple[PipeConnectionIO, PipeConnectionIO]


@pytest.fixture
def pair() -> Iterator[Pair]:
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    yield reader, writer
    reader.close()
    writer.close()


@pytest.mark.parametrize("data", [b"", b"some data"], ids=["no-data", "data"])
@pytest.mark.parametrize("end", CLEAN_ENDS)
def test_a_clean_end_is_an_end(pair: Pair, end: Callable[[PipeConnectionIO], None], data: bytes) -> None:
    """The reader gets all data and then nothing, as often as it asks."""
    reader, writer = pair
    writer.write(data)
    end(writer)
    assert reader.readall() == data
    assert reader.eof
    assert reader.read() == b""


@pytest.mark.parametrize("data", [b"", b"some data"], ids=["no-data", "data"])
@pytest.mark.parametrize("abort", ABORTS)
def test_an_abort_is_never_an_end(pair: Pair, abort: Callable[[PipeConnectionIO], str | None], data: bytes) -> None:
    """The reader gets the data, then an OSError that is no EOFError, with the reason where there is one; for good."""
    reader, writer = pair
    writer.write(data)
    reason = abort(writer)
    if data:
        assert reader.read() == data
    for read in (reader.read, reader.readall, reader.recv_message, lambda: reader.read(1), reader.read):
        with pytest.raises(PipeConnectionAborted) as caught:
            read()
        assert caught.value.reason == reason
        assert isinstance(caught.value, OSError)
        assert not isinstance(caught.value, EOFError)
    assert not reader.eof


def test_a_dropped_writer_aborts() -> None:
    """Garbage collection is no word that the data are complete."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    with reader:
        writer.write(b"data")
        del writer
        gc.collect()
        assert reader.read() == b"data"
        with pytest.raises(PipeConnectionAborted, match="dropped"):
            reader.read()


def test_a_dropped_reader_closes() -> None:
    """No descriptor stays, and the writer notices."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    with writer:
        del reader
        gc.collect()
        with pytest.raises(BrokenPipeError):
            writer.write(b"x")


def test_read_to_the_end_of_an_aborted_stream_gives_nothing(pair: Pair) -> None:
    """readall() raises; it does not give the part that came."""
    reader, writer = pair
    writer.write(b"part one")
    writer.write(b"part two")
    writer.abort()
    with pytest.raises(PipeConnectionAborted):
        reader.readall()
    with pytest.raises(PipeConnectionAborted):
        reader.read(3)


def test_leaving_the_readers_with_by_an_exception_only_closes(pair: Pair) -> None:
    """A reader has nothing to say."""
    reader, writer = pair
    with pytest.raises(KeyError), reader:
        raise KeyError
    assert reader.closed
    with pytest.raises(BrokenPipeError):
        writer.write(b"x")


# A reader that has gone


def test_a_data_write_to_a_reader_that_has_gone_raises_each_time(pair: Pair) -> None:
    """BrokenPipeError for every kind of data."""
    reader, writer = pair
    reader.close()
    for write in (
        lambda: writer.write(b"x"),
        lambda: writer.write(bytes(1 << 20)),
        lambda: writer.write_eof(b"x"),
        lambda: writer.send_message(PipeConnectionMessage("data", b"")),
        lambda: writer.send_message(PipeConnectionMessage("custom")),
        lambda: writer.write(b"x"),
    ):
        with pytest.raises(BrokenPipeError):
            write()


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("end", [*CLEAN_ENDS, *ABORTS[:5]])
def test_ending_never_raises_when_the_reader_has_gone(
    pair: Pair, end: Callable[[PipeConnectionIO], object], is_full: bool
) -> None:
    """The broken pipe is ignored."""
    reader, writer = pair
    if is_full:
        fill(writer)
    reader.close()
    end(writer)
    writer.close()


def test_a_reader_that_goes_during_a_write_is_noticed(pair: Pair) -> None:
    """The writer that waits for room raises, and its close does not."""
    reader, writer = pair
    waiting = fill(writer)

    def go() -> None:
        assert reader.read(10) == waiting[:10]
        reader.close()

    thread = threading.Thread(target=go)
    thread.start()
    with pytest.raises(BrokenPipeError):
        writer.write(bytes(5 << 20))
    thread.join()
    writer.close()
