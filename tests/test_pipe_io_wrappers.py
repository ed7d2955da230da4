"""PipeConnectionIO under what people put on binary files: io, tarfile, gzip, shutil, zstandard."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from atbu.mp_pipeline.exception import PipeConnectionAborted
from atbu.mp_pipeline.pipe_io import PipeConnectionIO

# Larger than any pipe, and no round number.
DATA = os.urandom(1 << 19) * 5 + b"the end"


def transfer(produce: Callable[[PipeConnectionIO], object], consume: Callable[[PipeConnectionIO], Any]) -> Any:
    """Run both ends at once; what the consumer returns. A failure of either one is raised."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    errors: list[BaseException] = []

    def run_producer() -> None:
        try:
            with writer:
                produce(writer)
        except BaseException as ex:  # noqa: BLE001 - raised again in the test's own thread
            errors.append(ex)

    thread = threading.Thread(target=run_producer)
    thread.start()
    try:
        with reader:
            return consume(reader)
    finally:
        thread.join()
        for error in errors:
            raise error


@pytest.mark.parametrize("buffer_size", [1, 100, 8192, 1 << 20, 8 << 20])
def test_buffered_reader_reads_to_the_end(buffer_size: int) -> None:
    """Under io.BufferedReader read() means all, whatever the messages were."""

    def produce(writer: PipeConnectionIO) -> None:
        for start in range(0, len(DATA), 100_001):
            writer.write(DATA[start : start + 100_001])

    assert transfer(produce, lambda reader: io.BufferedReader(reader, buffer_size).read()) == DATA


def test_buffered_reader_reads_exactly_what_is_asked_for() -> None:
    """read(n) gives n bytes over the borders of messages; peek, read1 and readinto work."""

    def produce(writer: PipeConnectionIO) -> None:
        for letter in b"abcdefghij":
            writer.write(bytes((letter,)))

    def consume(reader: PipeConnectionIO) -> None:
        buffered = io.BufferedReader(reader)
        assert buffered.read(3) == b"abc"
        assert buffered.peek(1)[:1] == b"d"
        assert buffered.tell() == 3
        target = bytearray(4)
        assert buffered.readinto(target) == 4
        assert target == b"defg"
        assert buffered.read1(1) == b"h"
        assert not buffered.seekable()
        assert buffered.read() == b"ij"

    transfer(produce, consume)


@given(st.lists(st.binary(max_size=300)), st.integers(1, 500), st.integers(1, 500))
def test_buffered_writer_and_reader_keep_every_byte(pieces: list[bytes], out_size: int, in_size: int) -> None:
    """However large the buffers are."""

    def produce(writer: PipeConnectionIO) -> None:
        with io.BufferedWriter(writer, out_size) as buffered:
            for piece in pieces:
                buffered.write(piece)

    assert transfer(produce, lambda reader: io.BufferedReader(reader, in_size).read()) == b"".join(pieces)


def test_closing_a_wrapper_closes_the_end_cleanly() -> None:
    """The wrapper's close flushes and is the end of data."""
    reader, writer = PipeConnectionIO.create_reader_writer_pair()
    buffered = io.BufferedWriter(writer)
    buffered.write(b"in the buffer")
    buffered.close()
    assert writer.closed
    with io.BufferedReader(reader) as wrapped:
        assert wrapped.read() == b"in the buffer"
        assert reader.eof
    assert reader.closed


def test_a_buffered_reader_sees_an_abort_not_an_end() -> None:
    """However little is left to read."""
    for read in (
        lambda buffered: buffered.read(),
        lambda buffered: buffered.read(100),
        lambda buffered: buffered.readline(),
        lambda buffered: buffered.readlines(),
        lambda buffered: shutil.copyfileobj(buffered, io.BytesIO()),
    ):
        reader, writer = PipeConnectionIO.create_reader_writer_pair()
        writer.write(b"no newline")
        writer.abort("half-way")
        with io.BufferedReader(reader) as buffered, pytest.raises(PipeConnectionAborted, match="half-way"):
            read(buffered)


def test_text_goes_through_text_io_wrapper() -> None:
    """Lines in, lines out, letters of several bytes torn apart by messages."""
    lines = [f"{number}: größer als € 𝄞\n" for number in range(3000)]

    def produce(writer: PipeConnectionIO) -> None:
        with io.TextIOWrapper(io.BufferedWriter(writer, 7), encoding="utf-8", newline="\n") as text:
            text.writelines(lines)

    def consume(reader: PipeConnectionIO) -> list[str]:
        with io.TextIOWrapper(io.BufferedReader(reader, 5), encoding="utf-8", newline="\n") as text:
            return [*text]

    assert transfer(produce, consume) == lines


def test_text_io_wrapper_reads_all() -> None:
    """read() of the text is everything."""

    def produce(writer: PipeConnectionIO) -> None:
        writer.write("grö".encode())
        writer.write("ßer".encode())

    assert transfer(produce, lambda reader: io.TextIOWrapper(io.BufferedReader(reader), "utf-8").read()) == "größer"


def test_lines_can_be_read_without_a_wrapper() -> None:
    """Slowly, as from any raw file."""
    assert transfer(lambda writer: writer.writelines([b"a\nb", b"c\n", b"d"]), lambda reader: [*reader]) == [
        b"a\n",
        b"bc\n",
        b"d",
    ]


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "buffered"])
def test_copyfileobj_copies_in_and_out(tmp_path: Path, wrapped: bool) -> None:
    """From a file into the pipe and from the pipe into a file."""
    source = tmp_path / "source"
    source.write_bytes(DATA)

    def produce(writer: PipeConnectionIO) -> None:
        with source.open("rb") as file:
            shutil.copyfileobj(file, writer)

    def consume(reader: PipeConnectionIO) -> bytes:
        target = io.BytesIO()
        shutil.copyfileobj(io.BufferedReader(reader) if wrapped else reader, target)
        return target.getvalue()

    assert transfer(produce, consume) == DATA


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_a_tar_stream_goes_through(tmp_path: Path, compression: str) -> None:
    """tarfile in stream mode writes to one end and reads from the other."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(os.urandom(100_000))
    (tmp_path / "empty").touch()

    def produce(writer: PipeConnectionIO) -> None:
        with tarfile.open(fileobj=writer, mode=f"w|{compression}") as archive:  # type: ignore[call-overload]
            archive.add(tmp_path, arcname=".")

    def consume(reader: PipeConnectionIO) -> dict[str, bytes]:
        with tarfile.open(fileobj=reader, mode=f"r|{compression}") as archive:  # type: ignore[call-overload]
            found = {}
            for member in archive:
                if member.isfile():
                    file = archive.extractfile(member)
                    assert file is not None
                    found[Path(member.name).name] = file.read()
        # tarfile stops before the padding, and the producer would find nobody to take it.
        reader.readall()
        return found

    assert transfer(produce, consume) == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_gzip_writes_to_and_reads_from_an_end() -> None:
    """GzipFile(fileobj=…) on both sides; its own close leaves the end open."""

    def produce(writer: PipeConnectionIO) -> None:
        with gzip.GzipFile(fileobj=writer, mode="wb") as file:
            file.write(DATA)
        assert not writer.closed
        writer.write_eof()

    assert transfer(produce, lambda reader: gzip.GzipFile(fileobj=reader).read()) == DATA


@pytest.mark.parametrize("sizes", [(1, 1), (1000, 131_072), (1 << 20, 77)])
def test_zstandard_compresses_into_and_decompresses_from_an_end(sizes: tuple[int, int]) -> None:
    """stream_writer, stream_reader and copy_stream."""
    write_size, read_size = sizes
    data = DATA[-50_000:] if write_size == 1 else DATA

    def produce(writer: PipeConnectionIO) -> None:
        with zstandard.ZstdCompressor().stream_writer(writer, closefd=False) as compressing:
            for start in range(0, len(data), write_size):
                compressing.write(data[start : start + write_size])

    def consume(reader: PipeConnectionIO) -> bytes:
        with zstandard.ZstdDecompressor().stream_reader(reader, closefd=False) as decompressing:
            return b"".join(iter(lambda: decompressing.read(read_size), b""))

    assert transfer(produce, consume) == data


def test_zstandard_copies_a_stream() -> None:
    """Compressing from one pipe to the next, as a stage in the middle of a chain does."""

    def middle(reader: PipeConnectionIO) -> bytes:
        return transfer(
            lambda writer: zstandard.ZstdCompressor().copy_stream(reader, writer),
            lambda last: zstandard.ZstdDecompressor().stream_reader(last).readall(),
        )

    assert transfer(lambda writer: writer.write(DATA), middle) == DATA


def test_zstandard_does_not_take_half_a_frame_for_the_whole() -> None:
    """An abort in the middle is raised through the decompressor."""
    compressed = zstandard.ZstdCompressor().compress(DATA)

    def produce(writer: PipeConnectionIO) -> None:
        writer.write(compressed[: len(compressed) // 2])
        writer.abort()

    with pytest.raises(PipeConnectionAborted):
        transfer(produce, lambda reader: zstandard.ZstdDecompressor().copy_stream(reader, io.BytesIO()))
