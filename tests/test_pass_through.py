"""Stages that only watch: their results, and that a tap is as good as a process and two pipes."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import blake3
import pytest
import xxhash
from byte_chains import failure, file_item, publish
from cli_tools import lines_of, mpp
from mpp_stages.byte_stage import ByteStage, line_filter
from mpp_stages.count import CountStage
from mpp_stages.digests import (
    B2Stage,
    Blake3Stage,
    DigestStage,
    Md5Stage,
    Sha1Stage,
    Sha224Stage,
    Sha256Stage,
    Sha384Stage,
    Sha512Stage,
    Xxh3Stage,
    Xxh64Stage,
)
from mpp_stages.fusing import fused, hosts_of, placed
from mpp_stages.pass_through import PassThroughStage
from mpp_stages.unzstd import UnzstdStage
from mpp_stages.write import WriteStage
from mpp_stages.zstd import ZstdStage
from pass_through_ways import all_ways, planned_or_not, run

from atbu.mp_pipeline.exception import InvalidStateError

DATA = random.Random(3).randbytes(300_000) + bytes(2_500_000)


class FailsAtTheEnd(ByteStage):
    def run(self, reader, writer, item):
        while data := reader.read1(1 << 20):
            writer.write(data)
        raise ValueError("at the end")


class ReadsLittle(ByteStage):
    def run(self, reader, writer, item):
        writer.write(reader.read(10))


class ClosesItsInput(ByteStage):
    def run(self, reader, writer, item):
        reader.read(10)
        reader.close()


class WatchesByItself(PassThroughStage):
    """Its run is its own, so it cannot be a tap."""

    def run(self, reader, writer, item):
        writer.write(reader.read())


@line_filter
def keep(line):
    return line


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "x").write_bytes(DATA)
    return tmp_path / "x"


# -- results


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (Md5Stage(), hashlib.md5(DATA)),
        (Sha1Stage(), hashlib.sha1(DATA)),
        (Sha224Stage(), hashlib.sha224(DATA)),
        (Sha256Stage(), hashlib.sha256(DATA)),
        (Sha384Stage(), hashlib.sha384(DATA)),
        (Sha512Stage(), hashlib.sha512(DATA)),
        (B2Stage(), hashlib.blake2b(DATA)),
        (B2Stage(length=256), hashlib.blake2b(DATA, digest_size=32)),
        (Blake3Stage(), blake3.blake3(DATA)),
        (Blake3Stage(threads=2), blake3.blake3(DATA)),
        (Xxh3Stage(), xxhash.xxh3_64(DATA)),
        (Xxh3Stage(bits=128), xxhash.xxh3_128(DATA)),
        (Xxh64Stage(), xxhash.xxh64(DATA)),
    ],
    ids=lambda value: value.kind if isinstance(value, DigestStage) else "",
)
def test_a_digest_is_that_of_its_algorithm(source, tmp_path, stage, expected):
    """As the library that it comes from has it for all bytes at once."""
    item = run([stage, WriteStage()], file_item(source, tmp_path / "y"), "serial")
    assert [found.value for found in item.findings] == [expected.hexdigest()]
    item.discard()


@all_ways
@planned_or_not
def test_several_digests_in_one_pipeline_are_all_kept(source, tmp_path, way, is_fused):
    """In their order, also twice the same stage object, each with the bytes that it saw."""
    twice = Sha256Stage()
    stages = [twice, Blake3Stage(), ZstdStage(), twice, UnzstdStage(), Xxh3Stage(), CountStage(), WriteStage()]
    item = run(stages, file_item(source, tmp_path / "y"), way, is_fused=is_fused)
    publish(item)
    plain = hashlib.sha256(DATA).hexdigest()
    found = [(each.kind, each.value, each.sees) for each in item.findings]
    assert found[0] == ("sha256", plain, "source")
    assert found[1] == ("blake3", blake3.blake3(DATA).hexdigest(), "source")
    assert found[2][0] == "sha256"
    assert found[2][1] != plain
    assert found[2][2] is None
    assert found[3:] == [
        ("xxh3", xxhash.xxh3_64(DATA).hexdigest(), "output"),
        ("bytes", len(DATA), "output"),
        ("lines", DATA.count(b"\n"), "output"),
    ]
    assert (tmp_path / "y").read_bytes() == DATA


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"one", b"one two\n", b" a  b\tc\x0b\x0cd\n\n e", b"x" * 3_000_000 + b" y\n"]
)
def test_counts_are_those_of_wc(tmp_path, text):
    """Words that lie across two portions are one."""
    (tmp_path / "x").write_bytes(text)
    item = run([CountStage(words=True), WriteStage()], file_item(tmp_path / "x", tmp_path / "y"), "serial")
    figures = {found.kind: found.value for found in item.findings}
    assert figures == {"bytes": len(text), "lines": text.count(b"\n"), "words": len(text.split())}
    item.discard()


# -- where they run


def test_what_only_watches_runs_inside_the_next_stage():
    """Several at once; the given stages stay as they are."""
    stages = [Sha256Stage(), CountStage(), ZstdStage(), Blake3Stage(), WriteStage()]
    made = fused(placed(stages))
    assert [type(stage).__name__ for stage in made] == ["ZstdStage", "WriteStage"]
    assert [[tap.name for tap in stage.taps] for stage in made] == [["sha256", "count"], ["blake3"]]
    assert all(not stage.taps for stage in stages)
    assert hosts_of(stages) == {0: 2, 1: 2, 3: 4}


def test_what_needs_a_process_of_its_own_keeps_it():
    """Because of a time limit, retries, a run of its own, or because the next stage runs elsewhere."""
    limited, retried, threaded, middle = Sha256Stage(), Sha256Stage(), Sha256Stage(), Sha256Stage()
    limited.timeout, retried.retries, threaded.run_in, middle.run_in = 1.0, 1, "thread", "thread"
    for stage in (limited, retried, threaded, WatchesByItself()):
        assert hosts_of([stage, WriteStage()]) == {}
    assert hosts_of([Sha256Stage(), middle, WriteStage()]) == {}
    assert hosts_of([Sha256Stage(), limited, WriteStage()]) == {0: 1}


def test_check_shows_where_they_run(tmp_path):
    """As a tap inside the stage of that number."""
    (tmp_path / "p.toml").write_text('[[stage]]\nuse = "sha256"\n[[stage]]\nuse = "zstd"\n[[stage]]\nuse = "count"\n')
    shown = mpp("check", "p.toml", cwd=tmp_path).stdout.decode().splitlines()
    assert shown[2].split()[:5] == ["1", "sha256", "inside", "2", "tap"]
    assert shown[4].split()[:5] == ["3", "count", "inside", "4", "tap"]


# -- failures


@all_ways
@planned_or_not
@pytest.mark.parametrize("stages", [[FailsAtTheEnd(), Sha256Stage()], [Sha256Stage(), FailsAtTheEnd()]])
def test_a_neighbour_that_fails_leaves_no_digest_and_no_output(source, tmp_path, way, is_fused, stages):
    """The failure is the neighbour's own."""
    item = run([*stages, WriteStage()], file_item(source, tmp_path / "y"), way, is_fused=is_fused)
    assert str(failure(item, ValueError)) == "at the end"
    if isinstance(stages[0], FailsAtTheEnd):
        assert item.findings == ()
    item.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@all_ways
@planned_or_not
def test_a_neighbour_that_reads_little_does_not_cut_the_digest(source, tmp_path, way, is_fused):
    """What it leaves is read for it."""
    item = run([Sha256Stage(), ReadsLittle(), WriteStage()], file_item(source, tmp_path / "y"), way, is_fused=is_fused)
    publish(item)
    assert [found.value for found in item.findings] == [hashlib.sha256(DATA).hexdigest()]
    assert (tmp_path / "y").read_bytes() == DATA[:10]


def test_a_neighbour_that_closes_its_input_fails(source, tmp_path):
    """A digest of some of the bytes would be a lie."""
    item = run([Sha256Stage(), ClosesItsInput(), WriteStage()], file_item(source, tmp_path / "y"), "serial")
    assert "'sha256' has not seen all of it" in str(failure(item, InvalidStateError))
    item.discard()


class WatchesNot(PassThroughStage):
    """Its watch() gives nothing."""

    def watch(self, item):
        return None


@planned_or_not
def test_a_watch_that_is_none_is_the_failure_of_its_stage(source, tmp_path, is_fused):
    """Not of the one that it runs in."""
    item = run([WatchesNot(), WriteStage()], file_item(source, tmp_path / "y"), "serial", is_fused=is_fused)
    error = failure(item, TypeError)
    assert str(error) == "stage 'WatchesNot': its watch() must give a Watch, not NoneType"
    assert error.__notes__[0] == "in stage 'WatchesNot'"
    item.discard()


def test_a_filter_can_have_taps(source, tmp_path):
    """It is pickled by name, and carries them all the same."""
    item = run([Sha256Stage(), keep, WriteStage()], file_item(source, tmp_path / "y"), "processes")
    publish(item)
    assert [found.value for found in item.findings] == [hashlib.sha256(DATA).hexdigest()]
    assert keep.taps == ()


# -- on the command line


def test_verbose_shows_what_was_found(tmp_path):
    """One line for each file, as soon as it is done."""
    (tmp_path / "a").write_bytes(b"x\ny\n")
    (tmp_path / "p.toml").write_text('[[stage]]\nuse = "count"\n[[stage]]\nuse = "zstd"\n')
    done = mpp("run", "-v", "p.toml", "a", cwd=tmp_path)
    assert any("bytes of the source: 4; lines of the source: 2" in line for line in lines_of(done)), done.stderr
