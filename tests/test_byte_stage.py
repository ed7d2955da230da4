"""Stages over bytes: what they read and write, and that no failure is ever taken for an end."""

from __future__ import annotations

import errno
import fcntl
import gc
import io
import os
import pickle
import re
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import pytest
from byte_chains import (
    Pipe,
    Portions,
    both_runners,
    failure,
    file_item,
    publish,
    run_item,
    through,
)
from hypothesis import given
from hypothesis import strategies as st
from mpp_stages.byte_stage import (
    CHUNK_BYTES,
    ByteStage,
    chunk_filter,
    line_filter,
)
from mpp_stages.checks import Between
from mpp_stages.errors import StageDataError
from mpp_stages.file_item import DescriptorSource, DescriptorTarget, FileItem, source_of
from mpp_stages.options import REQUIRED, describe_options
from mpp_stages.source_reader import SourceReader
from mpp_stages.unzstd import UnzstdStage
from mpp_stages.write import WriteStage
from mpp_stages.zstd import ZstdStage

from atbu.mp_pipeline.descriptors import PassedDescriptor
from atbu.mp_pipeline.exception import InvalidStateError
from atbu.mp_pipeline.pipe_descriptor import grow_pipe
from atbu.mp_pipeline.stage import SubprocessPipelineStage

MIB = 1 << 20


class Rot13(ByteStage):
    """The stage of the documentation: full control."""

    TABLE = bytes.maketrans(
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", b"NOPQRSTUVWXYZABCDEFGHIJKLMnopqrstuvwxyzabcdefghijklm"
    )

    def run(self, reader, writer, item):
        while chunk := reader.read1(CHUNK_BYTES):
            writer.write(chunk.translate(self.TABLE))


class Fails(ByteStage):
    """Passes ``after_bytes`` on and raises."""

    def __init__(self, after_bytes: int = 0) -> None:
        super().__init__()
        self.after_bytes = after_bytes

    def run(self, reader, writer, item):
        writer.write(reader.read(self.after_bytes))
        raise ValueError("as it was asked to")


class FailsAndCloses(Fails):
    """What programs do: catch, and close in ``finally``."""

    def run(self, reader, writer, item):
        try:
            super().run(reader, writer, item)
        finally:
            writer.close()


class Head(ByteStage):
    """Reads no more than it needs."""

    def run(self, reader, writer, item):
        writer.write(reader.read(5))


class Meddles(ByteStage):
    """Passes the source on, and changes it in the middle."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def run(self, reader, writer, item):
        writer.write(reader.read1(1000))
        path = item.source.path
        if self.how == "grows":
            with open(path, "ab") as file:
                file.write(b"more")
        elif self.how == "shrinks":
            os.truncate(path, 3 * MIB)
        elif self.how == "rewritten":
            with open(path, "r+b") as file:
                file.write(b"other")
            os.utime(path, ns=(0, 0))
        writer.write(reader.read())


class Noted(SubprocessPipelineStage):
    """An item stage that comes after the bytes."""

    def is_for_stage(self, pwi):
        return True

    def perform_stage_work(self, pwi, **kwargs):
        pwi.note = (pwi.bytes_read, pwi.bytes_written)
        return pwi


@chunk_filter
def upper(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Upper case."""
    yield from (chunk.upper() for chunk in chunks)


@chunk_filter
def repeat(chunks: Iterator[bytes], times: int, *, between: str = "") -> Iterable[bytes]:
    """Every chunk several times.

    Args:
        times: How often.
        between: What stands
            between them.
    """
    return [between.encode().join([chunk] * times) for chunk in chunks]


@chunk_filter
def text_by_mistake(chunks):
    yield from (chunk.decode() for chunk in chunks)


@chunk_filter
def never_reads(chunks):
    return [b"nothing of it"]


@line_filter
def drop_debug(line: bytes) -> bytes | None:
    """Leave out what is for debugging."""
    return None if b"DEBUG" in line else line


@line_filter
def drop(line: bytes, word: str) -> bytes | None:
    return None if word.encode() in line else line


@line_filter
def number_by_mistake(line):
    return len(line)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.txt"
    path.write_bytes(b"Hello, line\nDEBUG line\nlast, without end" * 100_000)
    return path


# -- reading and writing


@both_runners
def test_bytes_go_from_the_source_through_every_stage_to_the_target(tmp_path, source, serial):
    """Three ways to write a stage, one after another; what was read and written is on the item."""
    item = run_item(
        [Rot13(), upper, drop(word="QROHT"), WriteStage()], file_item(source, tmp_path / "y"), serial=serial
    )
    publish(item)
    plain = source.read_bytes().translate(Rot13.TABLE).upper().splitlines(keepends=True)
    expected = b"".join(line for line in plain if b"QROHT" not in line)
    assert (tmp_path / "y").read_bytes() == expected
    assert (item.bytes_read, item.bytes_written) == (source.stat().st_size, len(expected))


@both_runners
def test_counters_tell_what_was_read_and_written(tmp_path, source, serial):
    """The first stage counts the source, the last the target."""
    from atbu.mp_pipeline.pipeline import MultiprocessingPipeline

    with MultiprocessingPipeline(
        [drop_debug, WriteStage()], 1, "count", serial=serial, counters=("bytes_in", "bytes_out")
    ) as pipeline:
        item = pipeline.submit(file_item(source, tmp_path / "y")).result()
        assert pipeline.counters() == {"bytes_in": item.bytes_read, "bytes_out": item.bytes_written}
    assert item.bytes_read == source.stat().st_size
    item.discard()


@both_runners
@pytest.mark.parametrize("run_in", ["process", "thread"])
def test_a_stage_runs_where_it_is_told_to(tmp_path, source, serial, run_in):
    """In a process of its own or in a thread of the caller's."""
    stage = Pid()
    stage.run_in = run_in
    item = run_item([stage, WriteStage()], file_item(source, tmp_path / "y"), serial=serial)
    assert item.exceptions is None
    assert (item.pid != os.getpid()) == (run_in == "process" and not serial)
    item.discard()


class Pid(ByteStage):
    """Notes where it ran."""

    def run(self, reader, writer, item):
        item.pid = os.getpid()


@both_runners
def test_item_stages_may_follow_and_see_the_finished_item(tmp_path, source, serial):
    """They take no bytes."""
    item = run_item([Rot13(), WriteStage(), Noted()], file_item(source, tmp_path / "y"), serial=serial)
    publish(item)
    assert item.note == (source.stat().st_size, source.stat().st_size)


@both_runners
def test_a_stage_that_stops_reading_does_not_fail_the_one_before(tmp_path, source, serial):
    """What it left is read for it."""
    item = run_item([Rot13(), Head(), WriteStage()], file_item(source, tmp_path / "y"), serial=serial)
    publish(item)
    assert (tmp_path / "y").read_bytes() == b"Uryyb"


@both_runners
def test_a_pipe_is_read_to_its_end(tmp_path, serial):
    """A source without a size, from another process's descriptor."""
    with Pipe() as pipe:
        os.write(pipe.writer.fileno(), b"through a pipe")
        pipe.writer.close()
        item = file_item(DescriptorSource(pipe.reader), tmp_path / "y")
        publish(run_item([upper, WriteStage()], item, serial=serial))
    assert (tmp_path / "y").read_bytes() == b"THROUGH A PIPE"


def test_a_non_blocking_source_is_waited_for(tmp_path):
    """Another program may have set that on a terminal or pipe that is shared with us."""
    import threading

    with Pipe() as pipe:
        os.set_blocking(pipe.reader.fileno(), False)
        source = SourceReader(DescriptorSource(pipe.reader), "stdin")
        got = []
        reader = threading.Thread(target=lambda: got.append(source.readall()))
        reader.start()
        for _ in range(3):
            os.write(pipe.writer.fileno(), b"some")
        pipe.writer.close()
        reader.join()
        assert got == [b"some" * 3]
        source.close()


def test_a_file_that_does_not_know_its_size_is_read(tmp_path):
    """The kernel's own files say that they are empty."""
    with SourceReader(file_item(Path("/proc/version"), tmp_path / "y").source, "version") as source:
        assert source.size is None
        assert source.readall() == Path("/proc/version").read_bytes()


# -- sources that cannot be read


@both_runners
@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "socket"])
def test_a_source_that_cannot_be_read_fails_by_name(tmp_path, serial, kind):
    """At once, and no output appears: also where something else has taken the file's place since it was named."""
    path = tmp_path / "in put"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.close()
    item = run_item([ZstdStage(), WriteStage()], file_item(path, tmp_path / "y", name="in put"), serial=serial)
    ex = next(ex for ex in item.exceptions if isinstance(ex, OSError) and ex.filename is not None)
    assert ex.filename == "in put"
    item.discard()
    assert os.listdir(tmp_path) == ([] if kind == "missing" else ["in put"])


@both_runners
@pytest.mark.parametrize("how", ["grows", "shrinks", "rewritten"])
def test_a_source_that_changes_while_it_is_read_is_no_input(tmp_path, serial, how):
    """What was read is no file there ever was; the sink must not come to its end."""
    path = tmp_path / "x"
    path.write_bytes(b"x" * 8 * MIB)
    item = run_item([Meddles(how), WriteStage()], file_item(path, tmp_path / "y"), serial=serial)
    changed = next(ex for ex in item.exceptions if isinstance(ex, OSError) and ex.errno == errno.ESTALE)
    assert changed.filename == str(path)
    assert "Changed while it was read" in str(changed)
    assert not item.is_written
    item.discard()
    assert os.listdir(tmp_path) == ["x"]


def test_an_endlessly_growing_source_is_told_before_its_end(tmp_path):
    """More bytes than there were is reason enough to stop."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * 1000)
    with SourceReader(file_item(path, tmp_path / "y").source, "log") as source:
        assert len(source.read(600)) == 600
        with open(path, "ab") as file:
            file.write(b"more")
        with pytest.raises(OSError, match="gave more"):
            source.read(600)


def test_a_redirected_file_that_is_cut_short_is_no_input(tmp_path):
    """stdin < file: its size was promised to the format."""
    path = tmp_path / "x"
    path.write_bytes(b"x" * 1000)
    source = source_of(os.open(path, os.O_RDONLY))
    os.truncate(path, 10)
    reader = SourceReader(source, "stdin")
    assert reader.read(1000) == b"x" * 10
    with pytest.raises(OSError, match="it had 1000 bytes and gave 10"):
        reader.read(1000)
    reader.close()
    source.descriptor.close()


# -- failures


@both_runners
@pytest.mark.parametrize("failing", [Fails(), Fails(3 * MIB), FailsAndCloses(10)])
@pytest.mark.parametrize("position", [0, 1])
def test_a_failure_upstream_never_reads_as_an_end(tmp_path, source, serial, failing, position):
    """The frame is not finished: what has been written by then does not decode, and no file appears."""
    stages = [Rot13(), ZstdStage(), WriteStage()]
    stages.insert(position, failing)
    with Pipe() as pipe:
        direct = file_item(source, DescriptorTarget(pipe.writer, "stdout"))
        run_item(stages, direct, serial=serial)
        assert str(failure(direct, ValueError)) == "as it was asked to"
        direct.discard()
        with pytest.raises(StageDataError):
            through(UnzstdStage(), pipe.read_all())
    by_temporary = run_item(stages, file_item(source, tmp_path / "y"), serial=serial)
    assert failure(by_temporary, ValueError)
    assert not by_temporary.is_written
    by_temporary.discard()
    assert os.listdir(tmp_path) == ["source.txt"]


def test_what_a_failed_stage_left_in_its_buffer_is_dropped_in_silence(tmp_path, source):
    """No destructor sends it, and none warns (a warning fails this test)."""
    item = run_item([Fails(10), WriteStage()], file_item(source, tmp_path / "y"), serial=True)
    assert failure(item, ValueError)
    assert item.temporary is not None
    assert os.path.getsize(item.temporary) == 0
    item.discard()
    del item
    gc.collect()


@both_runners
def test_bytes_that_nothing_takes_are_refused(tmp_path, source, serial):
    """The last stage must be a sink; the message says which."""
    stage = NotPiped()
    item = run_item([stage], file_item(source, tmp_path / "y"), serial=serial)
    assert "put the stage 'write' after it" in str(failure(item, InvalidStateError))


class NotPiped(Rot13):
    """A stage that was told that nothing follows."""

    name = "rot13"

    @property
    def is_pipe_with_next_stage(self):
        return False


def test_only_file_items_are_for_byte_stages(tmp_path):
    """Others pass them by."""
    from atbu.mp_pipeline.work_item import PipelineWorkItem

    assert not Rot13().is_for_stage(PipelineWorkItem())
    assert Rot13().is_for_stage(file_item(tmp_path, tmp_path))


def test_a_data_error_keeps_its_facts_on_the_way_home():
    """It is a ValueError, and survives pickling."""
    ex = pickle.loads(pickle.dumps(StageDataError("unzstd", "a\nb", "it is torn")))
    assert isinstance(ex, ValueError)
    assert (ex.stage, ex.item, ex.problem) == ("unzstd", "a\nb", "it is torn")
    assert str(ex) == "stage 'unzstd': 'a\\nb': it is torn"


# -- functions as stages


def test_a_decorated_function_is_a_stage_and_makes_stages():
    """It keeps its name and can still be called as a function, by .function."""
    assert isinstance(upper, ByteStage)
    assert upper.name == upper.__name__ == "upper"
    assert upper.__doc__ == "Upper case."
    assert list(upper.function(iter([b"a"]))) == [b"A"]
    twice = repeat(times=2)
    assert twice is not repeat
    assert through(twice(between="-"), b"ab") == b"ab-ab"
    assert through(twice(times=3), b"ab") == b"ababab"


def test_a_decorated_function_stands_by_name_in_a_pickle():
    """As functions do: the module-level object itself, or a stage with the same options made from it."""
    assert pickle.loads(pickle.dumps(upper)) is upper
    stage = repeat(times=3)
    stage.name, stage.timeout, stage.run_in = "thrice", 5.0, "thread"
    other = pickle.loads(pickle.dumps(stage))
    assert (other.name, other.timeout, other.run_in, other.options) == ("thrice", 5.0, "thread", {"times": 3})
    assert through(other, b"ab") == b"ababab"


@pytest.mark.parametrize("options", [{"time": 3}, {}, {"times": 1, "betwen": "x"}])
def test_a_wrong_option_of_a_function_is_a_value_error(options):
    """Unknown, missing, misspelt: the message names it."""
    with pytest.raises(ValueError, match=r"repeat: .*(time|times|betwen)"):
        repeat(**options)


class Yields(ByteStage):
    """Takes run() for a function of chunks."""

    def run(self, reader, writer, item):
        yield reader.read()


class Awaits(ByteStage):
    """Takes it for one that an event loop calls."""

    async def run(self, reader, writer, item):
        writer.write(reader.read())


@pytest.mark.parametrize(("stage", "kind"), [(Yields(), "generator"), (Awaits(), "coroutine")])
def test_a_run_that_only_gives_an_object_fails(tmp_path, source, stage, kind):
    """Nothing of it has been run, and an empty output would be published."""
    item = run_item([stage, WriteStage()], file_item(source, tmp_path / "y"), serial=True)
    assert f"its run() gives a {kind}" in str(failure(item, TypeError))
    item.discard()


@both_runners
@pytest.mark.parametrize("stage", [text_by_mistake, number_by_mistake], ids=["chunk", "line"])
def test_a_function_that_gives_no_bytes_is_told_so(tmp_path, source, serial, stage):
    """In words, not by what went wrong with it later."""
    item = run_item([stage, WriteStage()], file_item(source, tmp_path / "y"), serial=serial)
    assert re.search(
        f"stage '{stage.name}': the function must give bytes, not (str|int)", str(failure(item, TypeError))
    )
    item.discard()


@both_runners
def test_a_function_need_not_read_its_input(tmp_path, source, serial):
    """Nor does that fail the stage before it."""
    item = run_item([Rot13(), never_reads, WriteStage()], file_item(source, tmp_path / "y"), serial=serial)
    publish(item)
    assert (tmp_path / "y").read_bytes() == b"nothing of it"


@given(st.lists(st.sampled_from([b"DEBUG", b"keep", b"\n", b"\r", b"\x00", b"x" * 70]), max_size=60), st.data())
def test_a_line_is_one_line_however_it_arrives(pieces, data):
    """Lines end with a newline and nothing else, wherever the portions are cut."""
    text = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    portions = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True) if a < b]
    lines = [line + b"\n" for line in text.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    assert through(drop_debug, Portions(portions)) == b"".join(line for line in lines if b"DEBUG" not in line)


def test_a_line_without_end_does_not_fill_the_memory():
    """Zeros are no text: an error after 64 MiB instead of as much memory as there is input."""
    with pytest.raises(StageDataError, match="a line is longer than 64 MiB"):
        through(drop_debug, Portions(bytes(MIB) for _ in range(1000)))


def test_an_error_while_reading_goes_through_a_filter():
    """Neither kind takes it for the end."""
    for stage in (upper, drop_debug):
        with pytest.raises(OSError, match="torn"):
            through(stage, Portions([b"a\nb", OSError("torn")]))


# -- options


def test_options_are_what_the_signature_says():
    """Of a class and of a function, with types, defaults and the words of the Args section."""
    found = {option.name: option for option in describe_options(ZstdStage)}
    assert list(found) == ["level", "threads", "long", "checksum", "roundtrip"]
    assert (found["level"].annotation, found["level"].default) == (Annotated[int, Between(1, 22)], 3)
    assert found["checksum"].annotation is bool
    assert found["level"].doc.startswith("From 1, the fastest, to 22")
    assert all(option.doc for option in found.values())
    times, between = describe_options(repeat)
    assert (times.name, times.annotation, times.default, times.doc) == ("times", int, REQUIRED, "How often.")
    assert times.is_required
    assert not between.is_required
    assert (between.name, between.default, between.doc) == ("between", "", "What stands between them.")


def test_a_stage_without_options_has_none():
    """What the base classes take is no option."""
    assert describe_options(Rot13) == []
    assert describe_options(upper) == []


def test_a_stage_says_what_is_missing_when_run_is_not_written(tmp_path, source):
    """The class is named."""
    item = run_item([Empty(), WriteStage()], file_item(source, tmp_path / "y"), serial=True)
    assert "Empty does not say what it does" in str(failure(item, NotImplementedError))
    item.discard()


class Empty(ByteStage):
    """Forgot run()."""


def test_a_stage_may_wrap_its_ends_in_files(tmp_path, source):
    """io.TextIOWrapper closes what it wraps; that is no end and no error."""
    item = run_item([ByText(), WriteStage()], file_item(source, tmp_path / "y"), serial=True)
    publish(item)
    assert (tmp_path / "y").read_bytes() == source.read_bytes().upper()


class ByText(ByteStage):
    """Works on text files and closes them."""

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        with io.TextIOWrapper(reader) as lines, io.TextIOWrapper(writer) as out:
            for line in lines:
                out.write(line.upper())


def test_the_parents_descriptor_is_not_closed_by_the_reader():
    """It is the caller's."""
    with Pipe() as pipe:
        with SourceReader(DescriptorSource(pipe.reader), "stdin") as source:
            assert source.fileno() == pipe.reader.fileno()
        assert isinstance(pipe.reader, PassedDescriptor)
        assert not pipe.reader.closed
        os.fstat(pipe.reader.fileno())


@pytest.mark.parametrize(("num_bytes", "is_grown"), [(1 << 16, True), (100, False)])
def test_a_pipe_that_its_writer_fills_is_grown(num_bytes, is_grown):
    """So that a stream does not stop every 64 KiB; a short one leaves the pipe alone."""
    with Pipe() as pipe, Pipe() as another:
        grow_pipe(another.reader.fileno())  # a system may refuse that
        before, grown = (fcntl.fcntl(end.reader.fileno(), fcntl.F_GETPIPE_SZ) for end in (pipe, another))
        os.write(pipe.writer.fileno(), bytes(num_bytes))
        with SourceReader(DescriptorSource(pipe.reader), "stdin") as source:
            assert source.readinto(bytearray(1 << 20)) == num_bytes
        assert fcntl.fcntl(pipe.reader.fileno(), fcntl.F_GETPIPE_SZ) == (grown if is_grown else before)
