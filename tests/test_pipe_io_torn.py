"""Work that is torn: by a signal, by a close in another thread, by a fork."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pipe_ends import (
    abort_by_word,
    end_by_a_wrapper,
    end_by_close,
    end_by_closing_twice,
    end_by_with,
    unread_bytes,
)

from atbu.mp_pipeline.exception import PipeConnectionAborted
from atbu.mp_pipeline.frames import DATA_FINAL, encode_header
from atbu.mp_pipeline.pipe_io import PipeConnectionIO

Pair = tuple[PipeConnectionIO, PipeConnectionIO]


@pytest.fixture
def pair() -> Iterator[Pair]:
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    yield reader, writer
    reader.close()
    writer.close()


# Interrupted work


class Interrupted(Exception):
    pass


@pytest.fixture
def interrupt_when() -> Iterator[Callable[[Callable[[], bool]], None]]:
    """Have this thread interrupted by a signal, whose handler raises Interrupted, once a condition is true."""

    def handle(_signum: int, _frame: object) -> None:
        raise Interrupted

    main, threads = threading.get_ident(), []
    former = signal.signal(signal.SIGUSR1, handle)

    def arm(condition: Callable[[], bool]) -> None:
        def watch() -> None:
            while not condition():
                threading.Event().wait(0.001)
            signal.pthread_kill(main, signal.SIGUSR1)

        threads.append(threading.Thread(target=watch))
        threads[-1].start()

    yield arm
    for thread in threads:
        thread.join()
    signal.signal(signal.SIGUSR1, former)


@pytest.mark.parametrize("end", [end_by_close, end_by_with, end_by_a_wrapper, end_by_closing_twice, abort_by_word])
def test_a_write_interrupted_half_way_can_only_be_followed_by_an_abort(
    pair: Pair,
    interrupt_when: Callable[[Callable[[], bool]], None],
    end: Callable[[PipeConnectionIO], object],
) -> None:
    """Nothing more goes into the frame that was torn, and no end mark makes it look whole."""
    reader, writer = pair
    size = fcntl.fcntl(writer.fileno(), fcntl.F_GETPIPE_SZ)
    interrupt_when(lambda: unread_bytes(reader) == size)
    with pytest.raises(Interrupted):
        writer.write(bytes(size - 1))
    for write in (lambda: writer.write(b"more"), writer.write_eof):
        with pytest.raises(PipeConnectionAborted, match="interrupted"):
            write()
    end(writer)
    with pytest.raises(PipeConnectionAborted):
        reader.read()


def test_a_read_interrupted_half_way_loses_nothing(
    pair: Pair, interrupt_when: Callable[[Callable[[], bool]], None]
) -> None:
    """The message is taken up where it was left: a time-out by SIGALRM may simply try again."""
    reader, writer = pair
    message = os.urandom(300_000)
    half = 100_000
    release = threading.Event()
    header_and_half = threading.Event()

    def produce() -> None:
        # In two portions, as a large write on a busy machine.
        fd = writer.fileno()
        for part in (encode_header(DATA_FINAL, len(message)), message[:half]):
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(fd, rest) :]
        header_and_half.set()
        release.wait()
        os.write(fd, message[half:])

    producer = threading.Thread(target=produce)
    producer.start()
    interrupt_when(lambda: header_and_half.is_set() and unread_bytes(reader) == 0)
    with pytest.raises(Interrupted):
        reader.read()
    release.set()
    assert reader.read() == message
    producer.join()


def test_an_end_closed_by_another_thread_crashes_nothing(pair: Pair) -> None:
    """A writer that waits for room is closed: the reader sees an abort or the whole frame, then no clean end."""
    reader, writer = pair
    size = 3 << 20
    outcome: list[object] = []

    def produce() -> None:
        try:
            outcome.append(writer.write(bytes(size)))
        except (OSError, ValueError) as ex:
            outcome.append(ex)

    producer = threading.Thread(target=produce)
    producer.start()
    while not unread_bytes(reader):
        threading.Event().wait(0.001)
    writer.close()
    with pytest.raises(PipeConnectionAborted):
        reader.readall()
    producer.join()
    assert len(outcome) == 1


def test_many_threads_may_close_at_once() -> None:
    """One of them closes the descriptor, once."""
    for _ in range(50):
        reader, writer = PipeConnectionIO.create_reader_writer_pair()
        writer.write(b"data")
        barrier = threading.Barrier(4)

        def close(end: PipeConnectionIO, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            end.close()

        threads = [threading.Thread(target=close, args=(writer,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert reader.readall() == b"data"
        reader.close()


# Forked copies


def close_both(reader: PipeConnectionIO, writer: PipeConnectionIO) -> None:
    writer.close()
    reader.close()


def leave_with_by_exception(reader: PipeConnectionIO, writer: PipeConnectionIO) -> None:
    with pytest.raises(ValueError, match="in the child"), reader, writer:
        raise ValueError("in the child")


def abort_in_the_child(reader: PipeConnectionIO, writer: PipeConnectionIO) -> None:
    writer.abort("in the child")


def finalize_in_the_child(reader: PipeConnectionIO, writer: PipeConnectionIO) -> None:
    writer.__del__()
    reader.__del__()


def do_nothing(reader: PipeConnectionIO, writer: PipeConnectionIO) -> None:
    pass


@pytest.mark.parametrize(
    "act", [close_both, leave_with_by_exception, abort_in_the_child, finalize_in_the_child, do_nothing]
)
def test_a_forked_copy_only_closes(pair: Pair, act: Callable[[PipeConnectionIO, PipeConnectionIO], None]) -> None:
    """Whatever the child does with its copies, the stream goes on as if it had not been there."""
    reader, writer = pair
    writer.write(b"before")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act(reader, writer)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert reader.read() == b"before"
    writer.write(b"after")
    writer.close()
    assert reader.readall() == b"after"


def test_a_forked_copys_own_word_is_its_own() -> None:
    """write and write_eof work in a forked child that is meant to be the writer."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    with reader:
        pid = os.fork()
        if pid == 0:
            try:
                writer.write(b"from the child")
                writer.write_eof(b", all of it")
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert reader.readall() == b"from the child, all of it"
        writer.close()


def test_the_package_has_no_thread_or_descriptor_of_its_own(tmp_path: Path) -> None:
    """Importing it and using a pair to the end leaves the process as it was."""
    script = (
        "import os, threading\n"
        "from atbu.mp_pipeline.pipe_io import PipeConnectionIO\n"
        "before = os.listdir('/proc/self/fd')\n"
        "r, w = PipeConnectionIO.create_reader_writer_pair()\n"
        "w.write(b'x'); w.close(); assert r.readall() == b'x'; r.close()\n"
        "assert os.listdir('/proc/self/fd') == before and threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, timeout=60)
