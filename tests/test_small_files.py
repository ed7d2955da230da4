"""Batches of small files inside one worker: what happens to a file is what happens to it alone."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import pytest
from mpp_stages.byte_stage import ByteStage, chunk_filter, line_filter
from mpp_stages.digests import Sha256Stage
from mpp_stages.file_item import FileItem, PathSource, PathTarget
from mpp_stages.fusing import fused, placed
from mpp_stages.small_files import SMALL_FILE_BYTES, FileBatch, SmallFile, SmallFilesStage, can_batch
from mpp_stages.unzstd import UnzstdStage
from mpp_stages.write import WriteStage
from mpp_stages.zstd import ZstdStage

from atbu.mp_pipeline.descriptors import PassedDescriptor
from atbu.mp_pipeline.mp_pipeline import MultiprocessingPipeline

PLENTY_S = 60.0


def run_batch(folder: Path, contents: list[bytes], stages, budget_s: float = PLENTY_S, stop=None):
    """One batch of files with these contents, run here; returns its results and the files."""
    files = []
    for number, content in enumerate(contents):
        source = folder / f"in{number}"
        source.write_bytes(content)
        files.append(file_for(source))
    batch = FileBatch(files, budget_s, stop)
    return SmallFilesStage(stages).perform_stage_work(batch).results, files


def file_for(source: Path) -> SmallFile:
    return source.name, str(source), f"{source}.out", f"{source}.tmp"


def outputs_of(files: list[SmallFile]) -> list[bytes]:
    return [Path(temporary).read_bytes() for *_, temporary in files]


def alone(source: Path, stages) -> tuple[bytes, FileItem]:
    """What a run of that one file by itself gives, and its item."""
    target = source.with_suffix(".alone")
    item = FileItem(PathSource(str(source)), PathTarget(str(target)), name=source.name)
    with MultiprocessingPipeline(list(stages), serial=True) as pipeline:
        pipeline.submit(item).result()
    assert not item.exceptions, item.exceptions
    item.publish()
    return target.read_bytes(), item


@line_filter
def drop_debug(line):
    """No lines with DEBUG."""
    return None if b"DEBUG" in line else line


@chunk_filter
def doubled(chunks):
    """Every portion twice."""
    for chunk in chunks:
        yield chunk
        yield chunk


def contents_of_many_sizes() -> list[bytes]:
    rng = random.Random(7)
    sizes = [0, 1, 1000, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, 256 << 10, 1 << 20, (1 << 20) + 1]
    text = b"".join(b"%d INFO a line\n%d DEBUG another\n" % (n, n * n) for n in range(10_000)) * 3
    return [rng.randbytes(size) for size in sizes] + [text[:size] for size in sizes]


@pytest.mark.parametrize("level", [1, 3, 12])
def test_a_batch_gives_the_bytes_that_each_file_gives_alone(tmp_path, level):
    """Whatever the size, and whether the data can be compressed or not."""
    stages = [ZstdStage(level=level), WriteStage()]
    contents = contents_of_many_sizes()
    if level == 12:
        contents = [content for content in contents if len(content) < 200_000]
    results, files = run_batch(tmp_path, contents, stages)
    assert (results.failures, results.alone, results.num_begun) == ({}, set(), len(contents))
    for file, made, content in zip(files, outputs_of(files), contents, strict=True):
        expected, item = alone(Path(file[1]), stages)
        number = files.index(file)
        assert made == expected, f"{len(content)} bytes"
        assert list(results.figures[3 * number : 3 * number + 2]) == [item.bytes_read, item.bytes_written]


@pytest.mark.parametrize("filters", [[drop_debug], [doubled], [drop_debug, ZstdStage], [ZstdStage, UnzstdStage]])
def test_filters_and_stages_after_another_give_what_they_give_alone(tmp_path, filters):
    """The user's own too; nothing was written for batches."""
    stages = [*(stage() for stage in filters), WriteStage()]
    assert can_batch(stages)
    results, files = run_batch(tmp_path, contents_of_many_sizes()[-4:], stages)
    assert (results.failures, results.alone) == ({}, set())
    for file, made in zip(files, outputs_of(files), strict=True):
        assert made == alone(Path(file[1]), stages)[0]


def test_stages_that_watch_find_what_they_find_alone(tmp_path):
    """A digest that runs inside its neighbour is on the item in the end."""
    stages = fused(placed([Sha256Stage(), ZstdStage(), WriteStage()]))
    results, files = run_batch(tmp_path, [b"abc"], stages)
    _, item = alone(Path(files[0][1]), stages)
    (found,) = item.findings
    assert found in results.attributes[0].values()


def test_the_output_has_its_sources_mode_and_times(tmp_path):
    """As any output has."""
    source = tmp_path / "in"
    source.write_bytes(b"data")
    source.chmod(0o640)
    os.utime(source, ns=(1_000_000_000, 2_000_000_000))
    batch = FileBatch([file_for(source)], PLENTY_S)
    SmallFilesStage([ZstdStage(), WriteStage()]).perform_stage_work(batch)
    status = os.stat(f"{source}.tmp")
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 2_000_000_000)


def test_one_corrupt_file_costs_one_file_and_names_its_stage(tmp_path):
    """The error is the one that the file gives alone."""
    packed = ZstdStage().convert(b"data" * 100, None)
    contents = [packed, b"no zstd data", packed[:-5], packed]
    results, files = run_batch(tmp_path, contents, [UnzstdStage(), WriteStage()])
    assert set(results.failures) == {1, 2}
    assert results.failures[1].stage == "unzstd"
    assert "'in1': it is not zstd data" in str(results.failures[1].error())
    assert "'in2'" in str(results.failures[2].error())
    assert Path(files[0][3]).read_bytes() == Path(files[3][3]).read_bytes() == b"data" * 100


class Remembering(ByteStage):
    """Notes what it has seen on itself and on the item."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        writer.write(b"%d" % len(self.seen))
        self.seen[item.name] = 1
        item.noted = hasattr(item, "noted")
        reader.read()


def test_a_stage_is_fresh_for_every_file_and_its_item_is_its_own(tmp_path):
    """Nothing is seen of the file before, and nothing of what the stage before has set; the last one's counts."""
    results, files = run_batch(tmp_path, [b"a", b"b"], [Remembering(), Remembering(), WriteStage()])
    assert outputs_of(files) == [b"0", b"0"]
    assert [results.attributes[number]["noted"] for number in (0, 1)] == [False, False]


class Exploding(ByteStage):
    """Writes more than anybody wants to have in memory, and swallows what it is told."""

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        for _ in range(40):
            try:
                writer.write(bytes(1 << 20))
            except BaseException:  # noqa: BLE001 - such stages exist
                return


class Interrupting(ByteStage):
    """Raises what is no Exception."""

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        raise SystemExit(5)


def test_what_memory_cannot_hold_is_left_to_be_done_alone(tmp_path):
    """Output without bounds, a file that has grown, and whatever cannot be read in one go."""
    results, _ = run_batch(tmp_path, [b"a"], [Exploding(), WriteStage()])
    assert (results.alone, results.failures) == ({0}, {})
    large, absent, folder, fifo = (tmp_path / name for name in ("large", "absent", "folder", "fifo"))
    with open(large, "wb") as file:
        file.truncate(SMALL_FILE_BYTES + 1)
    folder.mkdir()
    os.mkfifo(fifo)
    files = [file_for(path) for path in (large, absent, folder, fifo, Path("/proc/self/status"))]
    stage = SmallFilesStage([ZstdStage(), WriteStage()])
    results = stage.perform_stage_work(FileBatch(files, PLENTY_S)).results
    assert (results.alone, results.failures) == ({0, 1, 2, 3, 4}, {})


def test_whatever_a_stage_raises_fails_one_file(tmp_path):
    """SystemExit too."""
    results, _ = run_batch(tmp_path, [b"a", b"b"], [Interrupting(), WriteStage()])
    assert (set(results.failures), results.num_begun) == ({0, 1}, 2)
    assert "SystemExit" in str(results.failures[0].error())


def test_a_batch_ends_when_its_time_is_up(tmp_path):
    """The files that were not begun are not in the results, and have left nothing."""
    results, files = run_batch(tmp_path, [b"a", b"b", b"c"], [ZstdStage(), WriteStage()], budget_s=0.0)
    assert results.num_begun == 1
    assert [os.path.exists(temporary) for *_, temporary in files] == [True, False, False]


class Closing(ByteStage):
    """Has the run stopped while it works, which takes no time: the next might take for ever."""

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        descriptor = int(reader.read())
        if descriptor >= 0:
            os.close(descriptor)


def test_a_batch_ends_with_the_file_in_which_it_is_told_to(tmp_path):
    """A pipe's end tells it."""
    reader, writer = os.pipe()
    end = PassedDescriptor(reader)
    try:
        results, _ = run_batch(tmp_path, [b"-1", b"%d" % writer, b"-1"], [Closing(), WriteStage()], stop=end)
    finally:
        end.close()
    assert (results.num_begun, results.failures) == (2, {})


class OnThread(ByteStage):
    run_in = "thread"


class Choosy(ByteStage):
    def is_for_stage(self, pwi) -> bool:
        return False


class OwnEnds(ByteStage):
    def open_input(self, item):
        raise NotImplementedError


class Impatient(ByteStage):
    timeout = 0.5


class Repeating(ByteStage):
    retry_on = OSError


@pytest.mark.parametrize("stage", [OnThread(), Choosy(), OwnEnds(), Impatient(), Repeating()], ids=lambda s: s.label)
def test_stages_that_are_more_than_their_run_are_not_batched(stage):
    """They go the normal way, which does all that they want."""
    assert not can_batch([stage, WriteStage()])
    assert can_batch([ZstdStage(), WriteStage()])
    assert not can_batch([ZstdStage(), type("OtherSink", (WriteStage,), {})()])
