"""The sink: files by a temporary, everything else directly, and no outcome but success that looks like it."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from byte_chains import Pipe, both_runners, failure, file_item, publish, run_item, through
from mpp_stages.errors import StageDataError
from mpp_stages.file_item import DescriptorSource, DescriptorTarget, FileItem, PathSource, open_target
from mpp_stages.sinks import DescriptorSink, TemporarySink
from mpp_stages.unzstd import UnzstdStage
from mpp_stages.write import WriteStage
from mpp_stages.zstd import ZstdStage

from atbu.mp_pipeline.exception import InvalidStateError, PipelineWorkerDied

MIB = 1 << 20
HOLD_BACK = 64 << 10
NOISE = random.Random(5).randbytes(5 * MIB)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "x"
    path.write_bytes(NOISE)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


# -- files


@both_runners
def test_a_file_appears_only_when_it_is_published(source, out, serial):
    """Until then there is a temporary with another name."""
    item = run_item([ZstdStage(), WriteStage()], file_item(source, out / "y"), serial=serial)
    (temporary,) = out.iterdir()
    assert str(temporary) == item.temporary
    publish(item)
    assert os.listdir(out) == ["y"]
    assert through(UnzstdStage(), (out / "y").read_bytes()) == NOISE


@both_runners
def test_alone_it_copies(source, out, serial):
    """The source is read by the sink itself."""
    item = run_item([WriteStage()], file_item(source, out / "y"), serial=serial)
    publish(item)
    assert (out / "y").read_bytes() == NOISE
    assert (item.bytes_read, item.bytes_written) == (len(NOISE), len(NOISE))


@both_runners
@pytest.mark.parametrize("name", [b"a\nb", b"\xff\xfe", b"-rf *", b"n" * 255, "ä€".encode()])
def test_any_name_can_be_written(source, out, serial, name):
    """Any bytes, and as long as names can be."""
    target = out / os.fsdecode(name)
    publish(run_item([WriteStage()], file_item(source, target), serial=serial))
    assert os.listdir(os.fsencode(out)) == [name]
    assert target.read_bytes() == NOISE


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o751, 0o400])
def test_a_file_gets_the_sources_mode_and_times(source, out, mode):
    """To the nanosecond."""
    os.chmod(source, mode)
    os.utime(source, ns=(1_111_111_111_222_333_444, 1_222_222_222_333_444_555))
    publish(run_item([ZstdStage(), WriteStage()], file_item(source, out / "y"), serial=True))
    status = os.stat(out / "y")
    assert stat.S_IMODE(status.st_mode) == mode
    assert status.st_mtime_ns == 1_222_222_222_333_444_555


def test_what_a_program_may_do_is_not_what_its_compressed_form_may(source, out):
    """Set-user-id and its relatives are not taken over."""
    os.chmod(source, 0o6755)
    publish(run_item([ZstdStage(), WriteStage()], file_item(source, out / "y"), serial=True))
    assert stat.S_IMODE(os.stat(out / "y").st_mode) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_root_keeps_the_owner(source, out):
    """A backup of somebody's file is theirs."""
    os.chown(source, 1234, 5678)
    os.chmod(source, 0o640)
    publish(run_item([ZstdStage(), WriteStage()], file_item(source, out / "y"), serial=True))
    status = os.stat(out / "y")
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 5678, 0o640)


@pytest.mark.skipif(os.geteuid() != 0, reason="another group's file has to be made first")
def test_a_group_that_cannot_be_kept_takes_its_permissions_along(source, out):
    """Our own group must not read what it could not read before."""
    os.chown(source, 65534, 5678)
    os.chmod(source, 0o664)
    os.chown(out, 65534, 65534)
    for folder in (source.parent, out, *out.parents):
        if folder.stat().st_uid == 0 and folder.name.startswith(("pytest-", "test_")):
            os.chmod(folder, 0o755)
    item = file_item(source, out / "y")
    item.before_attempt(0)

    def as_nobody() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        WriteStage().perform_stage_work(item)

    _in_a_fork(as_nobody)
    assert stat.S_IMODE(os.stat(item.temporary or "").st_mode) == 0o644
    item.discard()


def _in_a_fork(act) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            act()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


@both_runners
def test_what_comes_from_stdin_has_the_mode_of_any_new_file(out, serial):
    """0666 without the umask's bits."""
    before = os.umask(0o027)
    try:
        with Pipe() as pipe:
            os.write(pipe.writer.fileno(), b"from stdin")
            pipe.writer.close()
            publish(run_item([WriteStage()], file_item(DescriptorSource(pipe.reader), out / "y"), serial=serial))
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(out / "y").st_mode) == 0o640


def test_nobody_else_can_read_an_unfinished_file(source, out):
    """Whatever the umask, and whatever the source's mode."""
    os.chmod(source, 0o666)
    item = file_item(source, out / "y")
    item.before_attempt(0)
    sink = TemporarySink(item, is_synced=False)
    sink.write(b"half")
    assert stat.S_IMODE(os.stat(item.temporary or "").st_mode) == 0o600
    sink.release()
    item.discard()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_name_that_is_taken_is_no_temporary(source, out, kind):
    """Neither overwritten nor followed."""
    item = file_item(source, out / "y")
    item.before_attempt(0)
    temporary = Path(item.temporary or "")
    if kind == "file":
        temporary.write_bytes(b"somebody else's")
    else:
        temporary.symlink_to(out / "elsewhere")
    with pytest.raises(FileExistsError):
        WriteStage().perform_stage_work(item)
    assert os.listdir(out) == [temporary.name]
    item.discard()


# -- failures


@both_runners
@pytest.mark.parametrize("kind", ["no folder", "a file for a folder", "may not"])
def test_a_target_that_cannot_be_made_fails_by_its_name(source, out, serial, kind):
    """By the target's, not by that of a temporary nobody has asked for."""
    target = {"no folder": out / "no" / "y", "a file for a folder": source / "y", "may not": Path("/sys/kernel/y")}[
        kind
    ]
    item = run_item([ZstdStage(), WriteStage()], file_item(source, target), serial=serial)
    assert str(target) in {ex.filename for ex in item.exceptions if isinstance(ex, OSError)}
    item.discard()
    assert os.listdir(out) == []


def _limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))


def test_a_disk_that_is_full_fails_by_the_targets_name(source, out):
    """A limit on the size of files stands in for it; nothing is left once discarded."""
    item = run_item(
        [ZstdStage(), WriteStage()], file_item(source, out / "y"), serial=False, process_initfunc=_limit_file_size
    )
    ex = next(ex for ex in item.exceptions if isinstance(ex, OSError) and ex.errno == errno.EFBIG)
    assert ex.filename == str(out / "y")
    item.discard()
    assert os.listdir(out) == []


@both_runners
@pytest.mark.parametrize("size", [100, 5 * MIB])
def test_a_device_that_is_full_fails_by_its_name(source, serial, size):
    """/dev/full says ENOSPC: to the sink, or to publish() for the end that was held back."""
    os.truncate(source, size)
    target = open_target("/dev/full")
    assert isinstance(target, DescriptorTarget)
    item = run_item([WriteStage()], file_item(source, target), serial=serial)
    if item.exceptions is None:
        with pytest.raises(OSError, match="No space left on device") as caught:
            item.publish()
        ex: OSError = caught.value
    else:
        ex = failure(item, OSError)
    assert (ex.errno, ex.filename) == (errno.ENOSPC, "/dev/full")
    target.descriptor.close()


class DiesWriting(WriteStage):
    """Is killed in the middle of the file."""

    def run(self, reader, writer, item):
        writer.write(reader.read(MIB))
        writer.flush()
        os.kill(os.getpid(), signal.SIGKILL)


class DiesOnce(WriteStage):
    """Is killed at the first attempt only."""

    retries = 1

    def run(self, reader, writer, item):
        mark = Path(item.source.path + ".tried")
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().run(reader, writer, item)


def test_a_killed_sink_leaves_a_temporary_that_can_be_discarded(source, out):
    """The parent has chosen its name and so knows it."""
    item = run_item([ZstdStage(), DiesWriting()], file_item(source, out / "y"), serial=False)
    assert failure(item, PipelineWorkerDied).exitcode == -signal.SIGKILL
    assert [str(path) for path in out.iterdir()] == [item.temporary]
    with pytest.raises(InvalidStateError):
        item.publish()
    item.discard()
    assert os.listdir(out) == []


def test_a_second_attempt_has_a_temporary_of_its_own(source, out):
    """And the first one's is gone."""
    item = run_item([ZstdStage(), DiesOnce()], file_item(source, out / "y"), serial=False)
    assert isinstance((item.attempts or [None])[0], PipelineWorkerDied)
    publish(item)
    assert os.listdir(out) == ["y"]
    assert through(UnzstdStage(), (out / "y").read_bytes()) == NOISE


@both_runners
def test_a_source_that_vanishes_is_named(source, out, serial):
    """Its mode and times are asked for at the end."""
    item = run_item([Unlinks(), WriteStage()], file_item(source, out / "y"), serial=serial)
    assert failure(item, FileNotFoundError).filename == str(source)
    item.discard()
    assert os.listdir(out) == []


class Unlinks(ZstdStage):
    """Removes the source after having read it."""

    def run(self, reader, writer, item):
        super().run(reader, writer, item)
        os.unlink(item.source.path)


# -- direct targets


def _drained(pipe: Pipe) -> tuple[threading.Thread, bytearray]:
    """Read a pipe in a thread until the writing end is closed."""
    got = bytearray()

    def drain() -> None:
        while chunk := os.read(pipe.reader.fileno(), MIB):
            got.extend(chunk)

    reader = threading.Thread(target=drain)
    reader.start()
    return reader, got


@both_runners
def test_the_end_of_a_direct_target_waits_for_publish(source, serial):
    """All but the last 64 KiB go out while the stages run."""
    with Pipe() as pipe:
        reader, got = _drained(pipe)
        item = run_item([WriteStage()], file_item(source, DescriptorTarget(pipe.writer, "stdout")), serial=serial)
        assert item.exceptions is None
        assert item.held_back == NOISE[-HOLD_BACK:]
        assert item.bytes_written == len(NOISE)
        publish(item)
        pipe.writer.close()
        reader.join()
        assert got == NOISE


@both_runners
def test_without_publish_a_direct_target_does_not_decode(source, serial):
    """Every stage succeeded, but somebody said stop."""
    with Pipe() as pipe:
        reader, got = _drained(pipe)
        target = DescriptorTarget(pipe.writer, "stdout")
        item = run_item([ZstdStage(), WriteStage()], file_item(source, target), serial=serial)
        assert item.exceptions is None
        item.discard()
        pipe.writer.close()
        reader.join()
        assert len(got) > 4 * MIB
        with pytest.raises(StageDataError, match="truncated"):
            through(UnzstdStage(), bytes(got))


@pytest.mark.parametrize(
    "sizes", [[1], [2], [13], [1, 1], [100, 1], [HOLD_BACK], [HOLD_BACK + 1], [70_000, 5, 200_000]]
)
def test_a_direct_target_begins_at_once_and_never_ends_early(sizes):
    """Something goes out with the first portion, and at least a byte stays, at most 64 KiB."""
    data = NOISE[: sum(sizes)]
    with Pipe() as pipe:
        reader, got = _drained(pipe)
        target = DescriptorTarget(pipe.writer, "stdout")
        item = FileItem(PathSource("x"), target, name="x")
        sink = DescriptorSink(target)
        place = 0
        for size in sizes:
            assert sink.write(data[place : place + size]) == size
            place += size
        sink.finish(item)
        sink.release()
        assert 1 <= len(item.held_back) <= HOLD_BACK
        assert len(item.held_back) < len(data) or len(data) == 1
        publish(item)
        pipe.writer.close()
        reader.join()
        assert got == data


@both_runners
def test_an_empty_output_is_one(tmp_path, out, serial):
    """Of a file and of a direct target."""
    empty = tmp_path / "empty"
    empty.touch()
    publish(run_item([WriteStage()], file_item(empty, out / "y"), serial=serial))
    assert (out / "y").read_bytes() == b""
    with Pipe() as pipe:
        publish(run_item([WriteStage()], file_item(empty, DescriptorTarget(pipe.writer, "stdout")), serial=serial))
        assert pipe.read_all() == b""


@both_runners
def test_a_fifo_is_written_and_stays_a_fifo(source, out, serial):
    """With force too."""
    fifo = out / "fifo"
    os.mkfifo(fifo)
    got = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    target = open_target(str(fifo), force=True)
    assert isinstance(target, DescriptorTarget)
    publish(run_item([ZstdStage(), WriteStage()], file_item(source, target), serial=serial))
    target.descriptor.close()
    reader.join()
    assert through(UnzstdStage(), got[0]) == NOISE
    assert stat.S_ISFIFO(os.lstat(fifo).st_mode)


@both_runners
def test_a_reader_that_goes_fails_the_item(source, serial):
    """EPIPE by the target's name, as `| head` causes it."""
    with Pipe() as pipe:
        pipe.reader.close()
        item = run_item(
            [ZstdStage(), WriteStage()], file_item(source, DescriptorTarget(pipe.writer, "stdout")), serial=serial
        )
        assert "stdout" in {ex.filename for ex in item.exceptions if isinstance(ex, BrokenPipeError)}
        item.discard()


# -- fsync

SYNC_PROGRAM = """
import os, sys
from atbu.mp_pipeline.pipeline import MultiprocessingPipeline
from mpp_stages.file_item import FileItem, PathSource, PathTarget, source_of
from mpp_stages.write import WriteStage
sync = {"None": None, "True": True, "False": False}[sys.argv[2]]
is_path = sys.argv[1] == "path"
source = PathSource("x") if is_path else source_of(os.open("x", os.O_RDONLY))
with MultiprocessingPipeline([WriteStage(sync=sync)], 1, serial=True) as pipeline:
    item = pipeline.submit(FileItem(source, PathTarget("y"), name="x")).result()
item.publish()
"""


@pytest.mark.parametrize(
    ("source_kind", "sync", "is_synced"),
    [("path", None, False), ("path", True, True), ("stdin", None, True), ("stdin", False, False)],
)
def test_data_that_are_nowhere_else_are_on_the_disk_before_their_name(
    tmp_path, require_tool, source_kind, sync, is_synced
):
    """fsync of the file, then its name, then fsync of the folder; by default for what cannot be read again."""
    strace = require_tool("strace")
    (tmp_path / "x").write_bytes(b"data")
    trace = tmp_path / "trace"
    watched = "trace=fsync,fdatasync,link,linkat"
    subprocess.run(
        [strace, "-f", "-o", trace, "-e", watched, sys.executable, "-c", SYNC_PROGRAM, source_kind, str(sync)],
        cwd=tmp_path,
        check=True,
    )
    calls = [line.split("(")[0].split()[-1] for line in trace.read_text().splitlines() if "(" in line]
    steps = [call.removesuffix("at") for call in calls if call in ("fsync", "link", "linkat")]
    assert steps == (["fsync", "link", "fsync"] if is_synced else ["link"])
    assert (tmp_path / "y").read_bytes() == b"data"


# -- options


@pytest.mark.parametrize("suffix", ["", "a/b", "a\0b", 3])
def test_a_suffix_is_part_of_a_name(suffix):
    """Else the error names the option."""
    with pytest.raises(ValueError, match=r"^suffix must be"):
        WriteStage(suffix=suffix)


def test_sync_is_yes_no_or_our_choice():
    """Nothing else."""
    with pytest.raises(ValueError, match=r"^sync must be true or false, not 'always'$"):
        WriteStage(sync="always")  # type: ignore[arg-type]


def test_a_sink_needs_a_temporary_that_the_parent_has_chosen(source, out):
    """A stage that is run by hand says so."""
    with pytest.raises(InvalidStateError, match="before_attempt"):
        WriteStage().perform_stage_work(file_item(source, out / "y"))
