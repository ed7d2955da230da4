"""Sources, targets, and the step by which an item's output becomes visible."""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import pickle
import re
import socket
import stat
from pathlib import Path

import pytest
from byte_chains import Pipe, file_item
from mpp_stages.commit import rename_without_replacing
from mpp_stages.file_item import (
    DescriptorSource,
    DescriptorTarget,
    FileItem,
    PathSource,
    PathTarget,
    open_source,
    open_target,
    source_of,
)

from atbu.mp_pipeline.descriptors import PassedDescriptor
from atbu.mp_pipeline.exception import InvalidStateError


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def written(item: FileItem, data: bytes = b"output") -> FileItem:
    """Do what the sink does: fill the temporary, and say that it is complete."""
    item.before_attempt(0)
    assert item.temporary is not None
    Path(item.temporary).write_bytes(data)
    item.is_written = True
    return item


# -- what a path is as a source


def test_a_regular_source_is_named_and_not_opened(tmp_path):
    """Opening is for the worker; a link to a file is a file."""
    (tmp_path / "x").write_bytes(b"x")
    (tmp_path / "link").symlink_to("x")
    before = open_descriptors()
    assert open_source(str(tmp_path / "x")) == PathSource(str(tmp_path / "x"))
    assert open_source(str(tmp_path / "link")) == PathSource(str(tmp_path / "link"))
    assert open_descriptors() == before


def test_a_relative_source_is_found_from_another_folder(tmp_path, monkeypatch):
    """A worker may stand elsewhere; messages keep the name as it was given."""
    monkeypatch.chdir(tmp_path)
    item = file_item(PathSource("d/x"), PathTarget("y"), name="d/x")
    assert item.source == PathSource(str(tmp_path / "d/x"))
    assert str(item) == "d/x"


@pytest.mark.parametrize("kind", ["missing", "folder", "socket", "dangling link"])
def test_what_cannot_be_read_is_refused_by_name(tmp_path, kind):
    """The error is an OSError with the path as its filename."""
    path = tmp_path / "x"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        if kind == "folder":
            path.mkdir()
        elif kind == "socket":
            server.bind(str(path))
        elif kind == "dangling link":
            path.symlink_to("nothing")
        with pytest.raises(OSError, match=re.escape(str(path))) as caught:
            open_source(str(path))
    assert caught.value.filename == str(path)


def test_a_fifo_source_is_opened_at_once(tmp_path):
    """A worker could not open it again, and its size is not known."""
    os.mkfifo(tmp_path / "fifo")
    holder = os.open(tmp_path / "fifo", os.O_RDWR)
    source = open_source(str(tmp_path / "fifo"))
    assert isinstance(source, DescriptorSource)
    os.write(holder, b"through")
    assert os.read(source.descriptor.fileno(), 100) == b"through"
    assert source.size is None
    source.descriptor.close()
    os.close(holder)


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd", "/proc/thread-self/fd"])
def test_a_descriptor_named_as_a_source_is_read_where_it_stands(tmp_path, folder):
    """As a shell's <&3 would: the position is shared, and the size is what is left."""
    (tmp_path / "x").write_bytes(b"0123456789")
    with open(tmp_path / "x", "rb", buffering=0) as file:
        file.seek(4)
        source = open_source(f"{folder}/{file.fileno()}")
        assert isinstance(source, DescriptorSource)
        assert source.size == 6
        assert os.read(source.descriptor.fileno(), 100) == b"456789"
        assert file.tell() == 10
        source.descriptor.close()


def test_a_descriptor_for_the_other_direction_is_refused():
    """A pipe's writing end is no source, its reading end no target."""
    with Pipe() as pipe:
        for path, open_it in (
            (f"/dev/fd/{pipe.writer.fileno()}", open_source),
            (f"/dev/fd/{pipe.reader.fileno()}", open_target),
        ):
            with pytest.raises(OSError, match=re.escape(path)) as caught:
                open_it(path)
            assert caught.value.errno == errno.EBADF


def test_the_size_of_a_pipe_is_not_known():
    """source_of() takes a descriptor over."""
    reader, writer = os.pipe()
    os.close(writer)
    source = source_of(reader)
    assert source.size is None
    assert source.descriptor.fileno() == reader
    source.descriptor.close()


# -- what a path is as a target


def test_a_file_to_be_made_is_named_and_not_opened(tmp_path):
    """Nothing is created or opened before the sink runs."""
    before = open_descriptors()
    assert open_target(str(tmp_path / "x")) == PathTarget(str(tmp_path / "x"))
    assert open_descriptors() == before
    assert list(tmp_path.iterdir()) == []


def test_an_existing_target_is_refused_without_force(tmp_path):
    """Also through a link."""
    (tmp_path / "x").write_bytes(b"old")
    (tmp_path / "link").symlink_to("x")
    for name in ("x", "link"):
        with pytest.raises(FileExistsError) as caught:
            open_target(str(tmp_path / name))
        assert caught.value.filename == str(tmp_path / name)
        assert open_target(str(tmp_path / name), force=True) == PathTarget(str(tmp_path / name), force=True)
    assert (tmp_path / "x").read_bytes() == b"old"


@pytest.mark.parametrize("suffix", ["", "/"])
def test_a_folder_is_no_target(tmp_path, suffix):
    """Not even with force."""
    with pytest.raises(IsADirectoryError):
        open_target(str(tmp_path) + suffix, force=True)


def test_a_name_that_is_too_long_is_refused_before_any_work(tmp_path):
    """The temporary's own name would be short enough."""
    with pytest.raises(OSError, match="too long") as caught:
        open_target(str(tmp_path / ("x" * 256)))
    assert caught.value.errno == errno.ENAMETOOLONG


def test_devices_and_fifos_are_opened_and_not_replaced(tmp_path):
    """With and without force."""
    os.mkfifo(tmp_path / "fifo")
    holder = os.open(tmp_path / "fifo", os.O_RDWR)
    for path in ("/dev/null", str(tmp_path / "fifo")):
        for force in (False, True):
            target = open_target(path, force)
            assert isinstance(target, DescriptorTarget)
            assert target.name == path
            target.descriptor.close()
    os.close(holder)


def test_a_descriptor_named_as_a_target_is_written_where_it_stands(tmp_path):
    """Although it leads to a regular file: others may be writing to it too, at the same position."""
    with open(tmp_path / "x", "wb", buffering=0) as file:
        file.write(b"before ")
        target = open_target(f"/dev/fd/{file.fileno()}")
        assert isinstance(target, DescriptorTarget)
        os.write(target.descriptor.fileno(), b"inside ")
        target.descriptor.close()
        file.write(b"after")
    assert (tmp_path / "x").read_bytes() == b"before inside after"


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "own link"])
def test_dev_stdout_means_stdout_also_where_that_was_moved(tmp_path, path):
    """The command line moves stdout away from descriptor 1 before any user code runs."""
    if path == "own link":
        path = str(tmp_path / "link")
        os.symlink("/dev/stdout", path)
    with Pipe() as pipe:
        target = open_target(path, stdout=pipe.writer.fileno())
        assert isinstance(target, DescriptorTarget)
        os.write(target.descriptor.fileno(), b"data")
        target.descriptor.close()
        assert pipe.read_all() == b"data"


# -- the temporary


def test_each_attempt_has_a_short_temporary_of_its_own_beside_the_target(tmp_path):
    """The name tells whose it is and has nothing of the target's, which may be as long as names can be."""
    target = tmp_path / ("n" * 255)
    item = file_item(tmp_path / "x", target)
    names = set()
    for attempt in range(3):
        item.before_attempt(attempt)
        assert item.temporary is not None
        folder, name = os.path.split(item.temporary)
        assert folder == str(tmp_path)
        assert re.fullmatch(rf"\.mpp-[0-9a-f]{{8}}-{os.getpid()}-\d+-[0-9a-f]{{10}}\.tmp", name)
        names.add(name)
    assert len(names) == 3


def test_the_temporary_of_a_failed_attempt_is_gone_with_the_next(tmp_path):
    """Whatever death the attempt died."""
    item = file_item(tmp_path / "x", tmp_path / "y")
    item.before_attempt(0)
    first = Path(item.temporary or "")
    first.write_bytes(b"half of the out")
    item.before_attempt(1)
    assert item.temporary != str(first)
    assert list(tmp_path.iterdir()) == []


def test_stages_after_the_sink_leave_the_output_alone(tmp_path):
    """They are attempts of their own, and may be tried again."""
    item = written(file_item(tmp_path / "x", tmp_path / "y"))
    item.before_attempt(0)
    item.before_attempt(1)
    item.publish()
    assert (tmp_path / "y").read_bytes() == b"output"


def test_links_are_followed_to_the_file_that_is_meant(tmp_path):
    """The temporary stands beside the real file, for a rename works within one filesystem only."""
    (tmp_path / "real").mkdir()
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "first").symlink_to("second")
    (tmp_path / "links" / "second").symlink_to("../real/x")
    for is_there in (False, True):
        item = written(file_item(tmp_path / "s", tmp_path / "links" / "first", force=is_there), b"%d" % is_there)
        assert os.path.dirname(item.temporary or "") == str(tmp_path / "real")
        item.publish()
        assert (tmp_path / "real" / "x").read_bytes() == b"%d" % is_there
    assert (tmp_path / "links" / "first").is_symlink()
    assert (tmp_path / "links" / "second").is_symlink()
    assert os.listdir(tmp_path / "real") == ["x"]


def test_a_circle_of_links_is_an_error_with_the_name(tmp_path):
    """ELOOP, as the kernel says."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    item = file_item(tmp_path / "x", tmp_path / "a")
    with pytest.raises(OSError, match="symbolic links") as caught:
        item.before_attempt(0)
    assert caught.value.filename == str(tmp_path / "a")


# -- publish and discard


@pytest.mark.parametrize("force", [False, True])
def test_publishing_gives_the_temporary_its_name(tmp_path, force):
    """Once; a second time does nothing, and discarding afterwards takes nothing away."""
    item = written(file_item(tmp_path / "x", tmp_path / "y", force=force))
    assert not (tmp_path / "y").exists()
    item.publish()
    assert (tmp_path / "y").read_bytes() == b"output"
    item.publish()
    item.discard()
    assert os.listdir(tmp_path) == ["y"]


def test_a_target_that_appeared_meanwhile_is_never_overwritten(tmp_path):
    """Without force; the item can then be discarded and leaves nothing."""
    item = written(file_item(tmp_path / "x", tmp_path / "y"))
    (tmp_path / "y").write_bytes(b"somebody else's")
    with pytest.raises(FileExistsError) as caught:
        item.publish()
    assert caught.value.filename == str(tmp_path / "y")
    assert (tmp_path / "y").read_bytes() == b"somebody else's"
    item.discard()
    assert os.listdir(tmp_path) == ["y"]


def test_a_dangling_link_that_appeared_meanwhile_is_not_followed_or_replaced(tmp_path):
    """A name that is taken is taken, whatever stands there."""
    item = written(file_item(tmp_path / "x", tmp_path / "y"))
    (tmp_path / "y").symlink_to("elsewhere")
    with pytest.raises(FileExistsError):
        item.publish()
    item.discard()
    assert os.listdir(tmp_path) == ["y"]


def test_force_replaces_a_file_whole(tmp_path):
    """Who has the old one open keeps it."""
    (tmp_path / "y").write_bytes(b"old")
    item = written(file_item(tmp_path / "x", tmp_path / "y", force=True))
    with open(tmp_path / "y", "rb") as old:
        item.publish()
        assert old.read() == b"old"
    assert (tmp_path / "y").read_bytes() == b"output"
    assert os.listdir(tmp_path) == ["y"]


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_force_never_replaces_what_is_no_regular_file(tmp_path, kind):
    """Something that appeared while the item ran."""
    item = written(file_item(tmp_path / "x", tmp_path / "y", force=True))
    if kind == "fifo":
        os.mkfifo(tmp_path / "y")
    elif kind == "folder":
        (tmp_path / "y").mkdir()
    else:
        (tmp_path / "y").symlink_to("z")
    before = os.lstat(tmp_path / "y")
    with pytest.raises(FileExistsError):
        item.publish()
    assert os.path.samestat(os.lstat(tmp_path / "y"), before)
    item.discard()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_filesystem_without_hard_links_still_never_overwrites(tmp_path, monkeypatch, number):
    """FAT and some FUSE filesystems: the kernel's rename that does not replace takes the link's place."""

    def no_link(old: str, new: str) -> None:
        raise OSError(number, os.strerror(number), old, None, new)

    monkeypatch.setattr(os, "link", no_link)
    item = written(file_item(tmp_path / "x", tmp_path / "y"))
    item.publish()
    assert os.listdir(tmp_path) == ["y"]
    item = written(file_item(tmp_path / "x", tmp_path / "y"), b"second")
    with pytest.raises(FileExistsError) as caught:
        item.publish()
    assert caught.value.filename == str(tmp_path / "y")
    assert (tmp_path / "y").read_bytes() == b"output"
    item.discard()


def test_a_filesystem_that_cannot_publish_safely_says_what_to_try():
    """sysfs is one: it renames nothing without replacing. The error names what would help."""
    with pytest.raises(OSError, match="/sys/kernel/x") as caught:
        rename_without_replacing("/sys/kernel/uevent_seqnum", "/sys/kernel/x")
    if caught.value.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        pytest.skip("only root comes as far as sysfs's own answer")
    assert caught.value.errno == errno.EOPNOTSUPP
    assert "--force" in str(caught.value)


def test_another_error_of_linking_is_not_taken_for_a_missing_ability(tmp_path):
    """The folder has gone: the error names the target."""
    (tmp_path / "d").mkdir()
    item = written(file_item(tmp_path / "x", tmp_path / "d" / "y"))
    assert item.temporary is not None
    os.unlink(item.temporary)
    os.rmdir(tmp_path / "d")
    with pytest.raises(FileNotFoundError) as caught:
        item.publish()
    assert caught.value.filename == str(tmp_path / "d" / "y")
    item.discard()


def test_what_is_not_complete_is_never_published(tmp_path):
    """Not run, failed, or discarded: no name appears."""
    never_run = file_item(tmp_path / "x", tmp_path / "y")
    failed = written(file_item(tmp_path / "x", tmp_path / "y"))
    failed.append_exception(ValueError("bad"))
    discarded = written(file_item(tmp_path / "x", tmp_path / "y"))
    discarded.discard()
    for item in (never_run, failed, discarded):
        with pytest.raises(InvalidStateError):
            item.publish()
        item.discard()
    assert list(tmp_path.iterdir()) == []


def test_discarding_never_raises(tmp_path):
    """Any number of times, with the temporary there, gone, or never made, and its folder gone."""
    item = file_item(tmp_path / "x", tmp_path / "d" / "y")
    item.discard()
    item.before_attempt(0)
    item.discard()
    (tmp_path / "d").mkdir()
    item = written(file_item(tmp_path / "x", tmp_path / "d" / "y"))
    item.discard()
    item.discard()
    assert os.listdir(tmp_path / "d") == []


def test_the_held_back_end_of_a_direct_target_is_written_by_publish_alone():
    """Once; a discarded item writes nothing."""
    with Pipe() as pipe:
        item = FileItem(PathSource("x"), DescriptorTarget(pipe.writer, "stdout"), name="x")
        item.before_attempt(0)
        assert item.temporary is None
        item.held_back, item.is_written = b"the end", True
        item.publish()
        item.publish()
        other = FileItem(PathSource("x"), DescriptorTarget(pipe.writer, "stdout"), name="x")
        other.held_back, other.is_written = b"not this", True
        other.discard()
        assert pipe.read_all() == b"the end"


def test_a_reader_that_has_gone_is_told_by_the_targets_name():
    """EPIPE at the very end is still a failure."""
    with Pipe() as pipe:
        pipe.reader.close()
        item = FileItem(PathSource("x"), DescriptorTarget(pipe.writer, "stdout"), name="x")
        item.held_back, item.is_written = b"the end", True
        with pytest.raises(BrokenPipeError) as caught:
            item.publish()
        assert caught.value.filename == "stdout"


def test_publish_waits_where_the_target_is_non_blocking():
    """Another program may have set that on a terminal or pipe that is shared with us."""
    import threading

    with Pipe() as pipe:
        os.set_blocking(pipe.writer.fileno(), False)
        filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += os.write(pipe.writer.fileno(), b"x" * 4096)
        item = FileItem(PathSource("x"), DescriptorTarget(pipe.writer, "stdout"), name="x")
        item.held_back, item.is_written = b"e" * 60_000, True
        publisher = threading.Thread(target=item.publish)
        publisher.start()
        got = 0
        while got < filled + 60_000:
            got += len(os.read(pipe.reader.fileno(), 4096))
        publisher.join()
        assert got == filled + 60_000


# -- the item's way through a pipeline


def test_only_what_can_be_done_again_is_retried(tmp_path):
    """A source that is read once, or a target that has been written to, forbids it."""
    with Pipe() as pipe:
        stdin, stdout = DescriptorSource(pipe.reader), DescriptorTarget(pipe.writer, "stdout")
        path = tmp_path / "x"
        assert file_item(path, path).may_retry()
        assert not file_item(stdin, path).may_retry()
        assert not file_item(path, stdout).may_retry()


def test_an_item_survives_pickling_with_its_temporary(tmp_path):
    """The sink in its worker fills the file that the parent has chosen."""
    item = file_item(tmp_path / "x", tmp_path / "y")
    item.before_attempt(0)
    for other in (pickle.loads(pickle.dumps(item)), copy.copy(item)):
        assert (other.source, other.target, other.name) == (item.source, item.target, item.name)
        assert other.temporary == item.temporary


def test_neighbours_in_a_chain_do_not_undo_each_others_results(tmp_path):
    """Only what a stage has set is carried back, and never where the bytes come from and go."""
    item = file_item(tmp_path / "x", tmp_path / "y")
    item.before_attempt(0)
    temporary, target = item.temporary, item.target
    first, last = copy.copy(item), copy.copy(item)
    first.bytes_read = 7
    last.bytes_written, last.is_written, last.target, last._temporary = 3, True, PathTarget("elsewhere"), "/etc/passwd"
    item.stage_complete(0, first, None)
    item.stage_complete(1, last, None)
    assert (item.bytes_read, item.bytes_written, item.is_written) == (7, 3, True)
    assert (item.target, item.temporary) == (target, temporary)


def test_a_target_in_the_working_folder_needs_no_folder_in_its_name(tmp_path, monkeypatch):
    """And stays there if the working folder changes meanwhile."""
    monkeypatch.chdir(tmp_path)
    item = file_item(PathSource("x"), PathTarget("y"), name="x")
    item.before_attempt(0)
    os.chdir("/")
    assert os.path.dirname(item.temporary or "") == str(tmp_path)
    Path(item.temporary or "").write_bytes(b"output")
    item.is_written = item.is_synced = True
    item.publish()
    assert os.listdir(tmp_path) == ["y"]
    assert stat.S_ISREG(os.lstat(tmp_path / "y").st_mode)


def test_a_passed_descriptor_stays_the_callers(tmp_path):
    """Neither publish nor discard closes it."""
    with Pipe() as pipe:
        item = file_item(DescriptorSource(pipe.reader), DescriptorTarget(pipe.writer, "stdout"))
        item.is_written = True
        item.publish()
        item.discard()
        assert not pipe.writer.closed
        assert not pipe.reader.closed
    assert isinstance(pipe.writer, PassedDescriptor)
