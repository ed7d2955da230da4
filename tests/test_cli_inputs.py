"""``mpp run`` over folders, lists and patterns, and into another folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cli_tools import MPP, environment, lines_of, mpp, unpacked, without_power_over_files

from mpp_cli.errors import UsageProblem
from mpp_cli.run_options import RunOptions
from mpp_cli.selection import goes_to_stdout, search_of

ODD_NAMES = [b"line\nend", b"\xff\xfe", b"-dash", b" blank ", b"a" * 251]


def make_tree(root: Path, *files: str | bytes) -> None:
    """Files that hold their own names."""
    for file in files:
        path = root / os.fsdecode(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(file))


def tree_of(root: Path) -> set[str]:
    """All files, as paths below ``root``."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def test_a_folder_is_done_once_however_often_it_is_run(tmp_path):
    """Any names; links and FIFOs are left alone; a second run finds nothing to do and compresses no output."""
    make_tree(tmp_path, *(b"d/e/" + name for name in ODD_NAMES), "d/x")
    (tmp_path / "d/link").symlink_to("x")
    os.mkfifo(tmp_path / "d/fifo")
    done = mpp("run", "zstd", "-r", "d", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    for name in ODD_NAMES:
        packed = tmp_path / "d/e" / os.fsdecode(name + b".zst")
        assert unpacked(packed.read_bytes()) == b"d/e/" + name
    assert lines_of(done)[-1] in (
        "mpp: skipped 2 (1 symbolic link, 1 no regular file)",
        "mpp: skipped 2 (1 no regular file, 1 symbolic link)",
    )
    before = tree_of(tmp_path)
    assert len(before) == 2 * 6 + 2
    again = mpp("run", "zstd", "-r", "--skip-existing", "-v", "d", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "6 called *.zst already" in lines_of(again)[-1]
    assert "6 output exists" in lines_of(again)[-1]
    assert "mpp: d/x.zst: skipped: called *.zst already" in lines_of(again)
    assert tree_of(tmp_path) == before


def test_patterns_count_in_the_order_of_the_command_line(tmp_path):
    """The last one that matches decides, of whichever option it is."""
    make_tree(tmp_path, "d/a.log", "d/b.log", "d/c.txt", "d/cache/a.log")
    options = ("--exclude", "*.log", "--include", "a.*", "--exclude=cache/")
    done = mpp("run", "zstd", "-r", *options, "d", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert tree_of(tmp_path / "d") == {"a.log", "a.log.zst", "b.log", "c.txt", "cache/a.log"}
    again = mpp("run", "zstd", "-r", "--dry-run", "--include", "a.*", "--exclude", "*.log", "d", cwd=tmp_path)
    assert again.stdout == b"d/a.log.zst: skipped: called *.zst already\n"


def test_names_come_from_find_while_it_is_still_finding(tmp_path):
    """``find -print0 | mpp run -0 --files-from -``, in the folder to which the outputs go."""
    make_tree(tmp_path, *ODD_NAMES, *(f"f{number}" for number in range(50)))
    script = 'find . -type f -print0 | "$@" run zstd -0 --files-from -'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script, "bash", *MPP],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = {*map(os.fsdecode, ODD_NAMES), *(f"f{number}" for number in range(50))}
    assert tree_of(tmp_path) == names | {f"{name}.zst" for name in names}


def test_a_tree_moves_into_another_folder_and_back(tmp_path):
    """``--output-dir`` keeps it; ``--remove-source`` leaves one copy of everything; ``/.`` keeps what is inside."""
    make_tree(tmp_path, "d/x", "d/e/y", "d/e/f/z")
    done = mpp("run", "zstd", "-r", "--output-dir", "out", "--remove-source", "d", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert tree_of(tmp_path) == {"out/d/x.zst", "out/d/e/y.zst", "out/d/e/f/z.zst"}
    back = mpp("run", "unzstd", "-r", "--output-dir", "new", "--remove-source", "out/d/.", cwd=tmp_path)
    assert back.returncode == 0, back.stderr
    assert tree_of(tmp_path) == {"new/x", "new/e/y", "new/e/f/z"}
    assert (tmp_path / "new/e/f/z").read_bytes() == b"d/e/f/z"


def test_a_source_whose_output_failed_is_not_removed(tmp_path):
    """Neither one that could not be read as what it should be, nor one whose output was there already."""
    make_tree(tmp_path, "bad.zst", "there")
    make_tree(tmp_path, "there.zst")
    (tmp_path / "good").write_bytes(b"good")
    assert mpp("run", "zstd", "--remove-source", "good", "there", cwd=tmp_path).returncode == 3
    assert mpp("run", "unzstd", "--remove-source", "bad.zst", cwd=tmp_path).returncode == 1
    assert tree_of(tmp_path) == {"bad.zst", "there", "there.zst", "good.zst"}
    assert (tmp_path / "there").read_bytes() == b"there"


def test_a_resumed_run_removes_what_an_earlier_one_was_killed_before(tmp_path):
    """Its output is there by the journal; a source that has changed since is done again, and so fails."""
    make_tree(tmp_path, "d/a", "d/changed")
    run = ("run", "zstd", "-r", "d", "--journal", "journal")
    assert mpp(*run, cwd=tmp_path).returncode == 0
    (tmp_path / "d/changed").write_bytes(b"something else")
    done = mpp(*run, "--resume", "--remove-source", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert tree_of(tmp_path) == {"d/a.zst", "d/changed", "d/changed.zst", "journal"}


def test_a_source_that_cannot_be_removed_is_told_status_1(tmp_path):
    """Its output is complete all the same."""
    make_tree(tmp_path, "d/x")
    (tmp_path / "d").chmod(0o555)
    done = mpp("run", "zstd", "--remove-source", "-o", "out", "d/x", cwd=tmp_path, preexec_fn=without_power_over_files)
    (tmp_path / "d").chmod(0o755)
    assert (done.returncode, lines_of(done)[0]) == (1, "mpp: d/x: done, but not removed: Permission denied")
    assert tree_of(tmp_path) == {"d/x", "out"}


def test_named_inputs_with_one_output_are_refused_before_anything_starts(tmp_path):
    """Status 2, both names, and the other inputs are not begun."""
    make_tree(tmp_path, "a.tar.zst", "a.tzst", "b.zst")
    done = mpp("run", "unzstd", "a.tar.zst", "b.zst", "a.tzst", cwd=tmp_path)
    assert (done.returncode, lines_of(done)) == (2, ["mpp: 'a.tar.zst' and 'a.tzst' have the same output 'a.tar'"])


def test_a_collision_that_is_found_later_costs_the_second_file_alone(tmp_path):
    """Status 3; with ``--force`` the first one's output is not replaced by it either."""
    make_tree(tmp_path, "d/x", "d/y")
    for source, target in (("x", "a.tar.zst"), ("y", "a.tzst")):
        assert mpp("run", "zstd", "-o", f"d/{target}", f"d/{source}", cwd=tmp_path).returncode == 0
        (tmp_path / "d" / source).unlink()
    done = mpp("run", "unzstd", "-r", "--force", "d", cwd=tmp_path)
    assert done.returncode == 3
    assert "mpp: d/a.tzst: 'd/a.tar': Another input of this run has the same output" in lines_of(done)
    assert (tmp_path / "d/a.tar").read_bytes() == b"d/x"


def test_a_dry_run_shows_everything_and_does_nothing(tmp_path):
    """Targets and what is skipped on standard output, failures on standard error."""
    make_tree(tmp_path, "d/x", "d/y.zst", "d/line\nend")
    before = tree_of(tmp_path)
    done = mpp("run", "zstd", "-r", "-n", "--output-dir", "out", "--remove-source", "d", "gone", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout.decode().splitlines() == [
        "d/line\\nend -> out/d/line\\nend.zst",
        "d/x -> out/d/x.zst",
        "d/y.zst: skipped: called *.zst already",
    ]
    assert lines_of(done) == ["mpp: 'gone': No such file or directory"]
    assert tree_of(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_a_folder_that_may_not_be_read_costs_only_what_is_in_it(tmp_path):
    """Its name and the reason; status 3."""
    make_tree(tmp_path, "d/a/x", "d/b/y", "d/c/z")
    (tmp_path / "d/b").chmod(0)
    done = mpp("run", "zstd", "-r", "d", cwd=tmp_path, preexec_fn=without_power_over_files)
    (tmp_path / "d/b").chmod(0o755)
    assert done.returncode == 3
    assert "mpp: 'd/b': Permission denied" in lines_of(done)
    assert tree_of(tmp_path / "d") == {"a/x", "a/x.zst", "b/y", "c/z", "c/z.zst"}


def test_a_tree_to_standard_output_comes_in_order_and_without_itself(tmp_path):
    """The file that the shell has made for the output stands in the tree."""
    make_tree(tmp_path, "d/b", "d/a", "d/c/x")
    with open(tmp_path / "d/all", "wb") as out:
        done = mpp("run", "zstd", "-r", "-o", "-", "d", cwd=tmp_path, stdout=out)
    assert done.returncode == 0, done.stderr
    assert lines_of(done)[-1] == "mpp: skipped 1 (written by this run)"
    plain = mpp("run", "unzstd", data=(tmp_path / "d/all").read_bytes())
    assert plain.stdout == b"d/ad/bd/c/x"


def options(**changes: Any) -> RunOptions:
    """A command line with nothing but these options."""
    return RunOptions(**{"pipeline": "zstd", "inputs": ("x",)} | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"null": True}, "--files-from"),
        ({"output": "o", "output_dir": "d"}, "exclude each other"),
        ({"force": True, "skip_existing": True}, "exclude each other"),
        ({"inputs": ("-",), "files_from": "-"}, "cannot be an input too"),
        ({"inputs": ("-",), "files_from": __file__}, "give -o -"),
        ({"inputs": (), "files_from": "/nowhere/list"}, "--files-from: '/nowhere/list' is not there"),
        ({"inputs": (), "files_from": os.path.dirname(__file__)}, "is a folder, not a list"),
        ({"inputs": ("-",), "output_dir": "d"}, "give -o FILE"),
        ({"inputs": ("-",), "remove_source": True}, "--remove-source"),
        ({"output": "-", "remove_source": True}, "--remove-source"),
        ({"output": "-", "skip_existing": True}, "--skip-existing"),
        ({"inputs": (), "files_from": __file__, "output": "o"}, "cannot go to one file 'o'"),
        ({"inputs": (os.path.dirname(__file__),), "recursive": True, "output": "o"}, "cannot go to one file 'o'"),
        ({"inputs": (), "files_from": ""}, "--files-from"),
        ({"output_dir": __file__}, "is no folder"),
        ({"patterns": (("include", "[a"),)}, "--include: '[a'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(changes, words):
    """Before anything is looked for."""
    with pytest.raises(UsageProblem) as caught:
        search_of(options(**changes), goes_to_stdout(options(**changes)))
    assert words in str(caught.value)
