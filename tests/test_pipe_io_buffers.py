"""What can be written and read into: every bytes-like object, and nothing else."""

from __future__ import annotations

import array
import mmap
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest

from atbu.mp_pipeline.exception import (
    InvalidFunctionArgument,
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


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"bytes", b"bytes"),
        (bytearray(b"bytearray"), b"bytearray"),
        (memoryview(b"memoryview"), b"memoryview"),
        (memoryview(b"a.b.c.")[::2], b"abc"),
        (memoryview(array.array("H", [1, 2, 3])), array.array("H", [1, 2, 3]).tobytes()),
        (array.array("d", [1.5, -2.5]), array.array("d", [1.5, -2.5]).tobytes()),
        (memoryview(bytes(range(12))).cast("B", (3, 4)), bytes(range(12))),
        (pickle.PickleBuffer(b"pickle buffer"), b"pickle buffer"),
    ],
    ids=["bytes", "bytearray", "memoryview", "strided", "view-of-array", "array", "two-dimensional", "PickleBuffer"],
)
@pytest.mark.parametrize("way", ["write", "write_eof", "send_message", "custom"])
def test_any_bytes_like_object_can_be_written(pair: Pair, data: Any, expected: bytes, way: str) -> None:
    """By its bytes, and counted in bytes."""
    reader, writer = pair
    if way in ("write", "write_eof"):
        assert getattr(writer, way)(data) == len(expected)
        assert reader.read() == expected
    else:
        cmd = "own" if way == "custom" else PIPE_CONN_MSG_CMD_DATA
        writer.send_message(PipeConnectionMessage(cmd, data))
        assert reader.recv_message().data == expected
    assert writer.num_bytes == reader.num_bytes == len(expected)


def test_a_memory_map_can_be_written_and_read_into(pair: Pair) -> None:
    """Data go from one mapping to the other."""
    reader, writer = pair
    with mmap.mmap(-1, 4096) as source, mmap.mmap(-1, 4096) as target:
        source[:5] = b"mmap!"
        writer.write(source)
        assert reader.readinto(target) == 4096
        assert target[:5] == b"mmap!"


def test_readinto_fills_any_writable_buffer(pair: Pair) -> None:
    """Items of more than one byte are filled by their bytes."""
    reader, writer = pair
    numbers = array.array("i", [7, 8, 9])
    writer.write(numbers)
    target = array.array("i", [0, 0, 0, 0])
    assert reader.readinto(target) == 12
    assert target.tolist() == [7, 8, 9, 0]


@pytest.mark.parametrize("junk", ["text", 5, None, [1, 2], object()])
def test_what_is_not_bytes_like_is_refused(pair: Pair, junk: Any) -> None:
    """By InvalidFunctionArgument, and nothing was sent."""
    reader, writer = pair
    calls: list[Callable[[], object]] = [lambda: writer.write(junk), lambda: writer.write_eof(junk)]
    calls += [lambda: reader.readinto(junk), lambda: writer.send_message(junk)]
    if junk is not None:  # a message's data default to b""
        calls.append(lambda: PipeConnectionMessage("x", junk))
    for call in calls:
        with pytest.raises(InvalidFunctionArgument):
            call()
    writer.write_eof(b"sound")
    assert reader.readall() == b"sound"


def test_a_buffer_that_can_not_be_written_is_no_target(pair: Pair) -> None:
    """And the data wait for a better one."""
    reader, writer = pair
    writer.write(b"abc")
    with pytest.raises(InvalidFunctionArgument, match="writable"):
        reader.readinto(b"abc")  # type: ignore[arg-type]
    assert reader.read() == b"abc"
