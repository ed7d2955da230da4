"""A full pipe: ending never blocks, and the end arrives all the same, even after the program's own end."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import pytest
from pipe_ends import (
    ABORTS,
    CLEAN_ENDS,
    fill,
)

from atbu.mp_pipeline.exception import PipeConnectionAborted
from atbu.mp_pipeline.pipe_io import PipeConnectionIO

Pair = tuple[PipeConnectionIO, PipeConnectionIO]


@pytest.fixture
def pair() -> Iterator[Pair]:
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    yield reader, writer
    reader.close()
    writer.close()


@pytest.mark.parametrize("end", CLEAN_ENDS)
def test_a_clean_end_on_a_full_pipe_does_not_block_and_arrives(
    pair: Pair, end: Callable[[PipeConnectionIO], None]
) -> None:
    """It returns before anybody reads; the reader then finds all data and the end."""
    reader, writer = pair
    data = fill(writer)
    end(writer)
    assert reader.readall() == data
    assert reader.eof


@pytest.mark.parametrize("end", CLEAN_ENDS)
def test_a_clean_end_on_a_full_pipe_that_nobody_reads_leaves_nothing(
    pair: Pair, end: Callable[[PipeConnectionIO], None]
) -> None:
    """When the reader goes, so does whatever waited for it (the suite looks for threads and descriptors)."""
    reader, writer = pair
    fill(writer)
    end(writer)
    reader.close()


@pytest.mark.parametrize("abort", ABORTS[:5])
def test_an_abort_on_a_full_pipe_does_not_block_and_has_no_reason(
    pair: Pair, abort: Callable[[PipeConnectionIO], object]
) -> None:
    """The reason is written only if it fits; without it the missing end says enough."""
    reader, writer = pair
    data = fill(writer)
    abort(writer)
    assert reader.read() == data
    with pytest.raises(PipeConnectionAborted) as caught:
        reader.read()
    assert caught.value.reason is None


def test_a_long_reason_arrives_shortened(pair: Pair) -> None:
    """Up to what a pipe takes in one piece."""
    reader, writer = pair
    writer.abort("why? " * 10_000)
    with pytest.raises(PipeConnectionAborted) as caught:
        reader.read()
    assert caught.value.reason is not None
    assert caught.value.reason.startswith("why? why? ")


EXIT_WITH_A_FULL_PIPE = """
import os, sys, threading
from multiprocessing.connection import Connection
from atbu.mp_pipeline.pipe_io import PipeConnectionIO

pipe, marker = int(sys.argv[1]), int(sys.argv[2])

def tell_when_main_has_ended():
    threading.main_thread().join()
    os.write(marker, b"ended")

threading.Thread(target=tell_when_main_has_ended, daemon=True).start()
writer = PipeConnectionIO(Connection(pipe, readable=False), is_write=True)
writer.write(bytes(int(sys.argv[3])))
{how_it_ends}
"""


def run_until_its_end(how_it_ends: str) -> tuple[bytes | None, int]:
    """Have a program fill a pipe and end; read the pipe only then. Gives (all data or None if aborted, exit code)."""
    in_fd, out_fd = os.pipe()
    size = fcntl.fcntl(out_fd, fcntl.F_GETPIPE_SZ) - 16
    marker_in, marker_out = os.pipe()
    script = EXIT_WITH_A_FULL_PIPE.format(how_it_ends=how_it_ends)
    arguments = [sys.executable, "-c", script, str(out_fd), str(marker_out), str(size)]
    with (
        PipeConnectionIO(Connection(in_fd, writable=False), is_write=False) as reader,
        subprocess.Popen(arguments, pass_fds=(out_fd, marker_out)) as program,
    ):
        os.close(out_fd)
        os.close(marker_out)
        os.read(marker_in, 5)
        os.close(marker_in)
        try:
            received = reader.readall()
            assert received == bytes(size)
        except PipeConnectionAborted:
            received = None
        return received, program.wait()


def test_a_program_that_ends_after_close_still_delivers_the_end() -> None:
    """The main thread is over, the pipe was full all the time: the end comes when the reader reads."""
    received, exit_code = run_until_its_end("writer.close()")
    assert received is not None
    assert exit_code == 0


def test_a_program_that_ends_without_close_aborts() -> None:
    """Nobody said that the data were complete."""
    received, exit_code = run_until_its_end("")
    assert received is None
    assert exit_code == 0


def test_a_program_does_not_wait_for_ever_for_a_reader_that_takes_nothing() -> None:
    """Even one that holds the reading end itself ends."""
    script = (
        "import fcntl; from atbu.mp_pipeline import pipe_io, pipe_descriptor; pipe_descriptor.EXIT_GRACE_S = 0.05\n"
        "reader, writer = pipe_io.PipeConnectionIO.create_reader_writer_pair()\n"
        "writer.write(bytes(fcntl.fcntl(writer.fileno(), fcntl.F_GETPIPE_SZ) - 16)); writer.close()\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0
