"""The stage tee: a second output that is there only with the first. And how the sink names and dresses its file."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from byte_chains import Pipe, failure, file_item, publish
from cli_tools import lines_of, mpp, unpacked
from mpp_stages.byte_stage import ByteStage
from mpp_stages.name_pattern import check_pattern, filled, fixed_end, keeps_apart
from mpp_stages.naming import target_path
from mpp_stages.tee import TeeStage
from mpp_stages.unzstd import UnzstdStage
from mpp_stages.write import WriteStage
from mpp_stages.zstd import ZstdStage
from pass_through_ways import all_ways, planned_or_not, run

DATA = bytes(range(256)) * 2000


class FailsAtTheEnd(ByteStage):
    def run(self, reader, writer, item):
        while data := reader.read1(1 << 20):
            writer.write(data)
        raise ValueError("at the end")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("x.bin").write_bytes(DATA)
    return tmp_path


@all_ways
@planned_or_not
def test_both_outputs_appear_together(folder, way, is_fused):
    """Not before the item is published; the second has what passed at its place."""
    stages = [ZstdStage(), TeeStage("{stem}.zst"), UnzstdStage(), WriteStage()]
    item = run(stages, file_item(Path("x.bin"), Path("y")), way, is_fused=is_fused)
    assert {name for name in os.listdir() if not name.startswith(".mpp-")} == {"x.bin"}
    publish(item)
    assert sorted(os.listdir()) == ["x.bin", "x.zst", "y"]
    assert unpacked(Path("x.zst").read_bytes()) == Path("y").read_bytes() == DATA


@all_ways
@planned_or_not
def test_a_failed_item_leaves_neither(folder, way, is_fused):
    """Whether the failure comes before or after the tee."""
    for stages in ([FailsAtTheEnd(), TeeStage("t")], [TeeStage("t"), FailsAtTheEnd()]):
        item = run([*stages, WriteStage()], file_item(Path("x.bin"), Path("y")), way, is_fused=is_fused)
        assert failure(item, ValueError)
        item.discard()
        assert os.listdir() == ["x.bin"]


def test_an_existing_file_is_refused_before_the_work(folder):
    """And replaced where that was asked for, by the stage or for the whole item."""
    Path("t").write_bytes(b"mine")
    item = run([TeeStage("t"), WriteStage()], file_item(Path("x.bin"), Path("y")), "serial")
    assert failure(item, FileExistsError).filename == f"{folder}/t"
    assert Path("t").read_bytes() == b"mine"
    for number, (stage, is_forced) in enumerate([(TeeStage("t", overwrite=True), False), (TeeStage("t"), True)]):
        item = run([stage, WriteStage()], file_item(Path("x.bin"), Path(f"y{number}"), force=is_forced), "serial")
        publish(item)
        assert Path("t").read_bytes() == DATA
        Path("t").write_bytes(b"mine")


def test_a_first_output_that_cannot_be_published_takes_the_second_back(folder):
    """A file with the output's name has appeared meanwhile."""
    item = run([TeeStage("t"), WriteStage()], file_item(Path("x.bin"), Path("y")), "serial")
    Path("y").write_bytes(b"somebody else's")
    with pytest.raises(FileExistsError):
        item.publish()
    item.discard()
    assert sorted(os.listdir()) == ["x.bin", "y"]


def test_the_output_s_own_file_is_refused(folder):
    """Two cannot have one name."""
    item = run([TeeStage("{name}.out"), WriteStage()], file_item(Path("x.bin"), Path("x.bin.out")), "serial")
    assert failure(item, FileExistsError)


@all_ways
def test_a_descriptor_is_written_but_for_its_end(folder, way):
    """The end follows when the item is published, and one more item is refused."""
    with Pipe() as pipe:
        stage = TeeStage(f"/proc/self/fd/{pipe.writer.fileno()}")
        Path("small").write_bytes(b"x" * 40_000)
        item = run([stage, WriteStage()], file_item(Path("small"), Path("y")), way)
        publish(item)
        for side in item.side_outputs.values():
            side.close()
        assert os.read(pipe.reader.fileno(), 100_000) == b"x" * 40_000


def test_a_fifo_that_nobody_reads_is_told(folder):
    """Instead of waiting for a reader in the process that everything waits for."""
    os.mkfifo("fifo")
    item = run([TeeStage("fifo"), WriteStage()], file_item(Path("x.bin"), Path("y")), "serial")
    assert failure(item, OSError).errno == errno.ENXIO


def test_the_second_outputs_of_a_run_are_named_by_their_inputs(tmp_path):
    """Beside the definition."""
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "plain").mkdir()
    (tmp_path / "p.toml").write_text('[[stage]]\nuse = "tee"\nfile = "plain/{stem}.txt"\n[[stage]]\nuse = "zstd"\n')
    done = mpp("run", "p.toml", "a.log", "b.log", cwd=tmp_path)
    assert done.returncode == 0, lines_of(done)
    assert {path.name: path.read_bytes() for path in (tmp_path / "plain").iterdir()} == {
        "a.txt": b"a.log",
        "b.txt": b"b.log",
    }


def test_the_input_is_never_replaced(folder):
    """By whatever name, and though the second output may replace what is there."""
    os.link("x.bin", "same")
    for name in ("x.bin", "same", "{name}"):
        stages = [ZstdStage(), TeeStage(name, overwrite=True), WriteStage()]
        error = failure(run(stages, file_item(Path("x.bin"), Path("y")), "serial"), FileExistsError)
        assert "would write over the input" in str(error)
    assert Path("x.bin").read_bytes() == DATA


def test_two_second_outputs_of_one_name_are_refused(folder):
    """Else the first one's data would be lost without a word."""
    stages = [TeeStage("t", overwrite=True), ZstdStage(), TeeStage("t", overwrite=True), WriteStage()]
    failure(run(stages, file_item(Path("x.bin"), Path("y")), "serial"), FileExistsError)
    assert not Path("t").exists()


@pytest.mark.parametrize(("source", "expected"), [(0o600, 0o600), (0o755, 0o644), (0o666, 0o644)])
def test_the_second_output_is_no_more_open_than_the_input(folder, source, expected):
    """Nor than any new file."""
    os.chmod("x.bin", source)
    before = os.umask(0o022)
    try:
        publish(run([TeeStage("t"), WriteStage()], file_item(Path("x.bin"), Path("y")), "serial"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat("t").st_mode) == expected


# -- the sink's own names and attributes


@pytest.mark.parametrize(
    ("pattern", "output"),
    [("{stem}.zst", "data.tar.zst"), ("{name}.new", "data.tar.gz.new"), ("a{{{suffix}}}", "a{.gz}"), ("fix", "fix")],
)
def test_rename_names_the_output(pattern, output):
    """In the input's folder, whatever the stages would have called it."""
    assert target_path("some/data.tar.gz", [ZstdStage(), WriteStage(rename=pattern)]) == f"some/{output}"


@pytest.mark.parametrize("pattern", ["", "{", "}", "{stem", "{nmae}", "{}", "a/b", "\0"])
def test_a_wrong_pattern_is_refused(pattern):
    """Naming the option."""
    with pytest.raises(ValueError, match="rename"):
        WriteStage(rename=pattern)


def test_empty_braces_are_no_field():
    """And no brace alone, for which the way out would be another."""
    with pytest.raises(ValueError, match=r"'\{\}' is no field; there are \{name\}"):
        check_pattern("p", "x{}y")


def test_what_a_pattern_promises():
    """How its names end, and whether two can be one."""
    assert check_pattern("p", "{stem}.tar.zst") == "{stem}.tar.zst"
    assert filled("{stem}|{suffix}|{name}", "/d/.hidden") == ".hidden||.hidden"
    assert fixed_end("{stem}.tar.zst") == ".tar.zst"
    assert (keeps_apart("{stem}.x"), keeps_apart("{name}.x"), keeps_apart("{stem}-{suffix}")) == (False, True, True)


@all_ways
def test_mode_and_times_are_as_asked_for(folder, way):
    """Else they are the input's."""
    os.utime("x.bin", (1000, 2000))
    os.chmod("x.bin", 0o604)
    publish(run([WriteStage()], file_item(Path("x.bin"), Path("same")), way))
    publish(run([WriteStage(mode="640", times=False)], file_item(Path("x.bin"), Path("other")), way))
    same, other = os.stat("same"), os.stat("other")
    assert (stat.S_IMODE(same.st_mode), same.st_mtime) == (0o604, 2000)
    assert stat.S_IMODE(other.st_mode) == 0o640
    assert other.st_mtime > 2000


@pytest.mark.parametrize("options", [{"mode": "999"}, {"mode": "4755"}, {"suffix": ".a", "rename": "b"}, {"times": 1}])
def test_wrong_options_of_the_sink_are_refused(options):
    """Set-id bits are no option either."""
    with pytest.raises(ValueError, match=r"mode|rename|times"):
        WriteStage(**options)


def test_two_inputs_do_not_replace_each_others_second_output(folder):
    """With --force too: the second one fails, and what is there from an earlier run is replaced."""
    for name, data in (("p/x", b"1"), ("q/x", b"2"), ("plain-x", b"old")):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(data)
    done = mpp("run", 'tee file="plain-{name}" | zstd', "--force", "p/x", "q/x", cwd=folder)
    assert done.returncode == 3
    assert any("Another input of this run has the same 'tee'" in line for line in lines_of(done))
    kept = Path("plain-x").read_bytes()
    assert kept in (b"1", b"2")
    (output,) = folder.glob("?/x.zst")
    assert unpacked(output.read_bytes()) == kept
