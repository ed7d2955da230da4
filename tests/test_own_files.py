"""What a run writes beside its outputs is neither an input nor an output of it: nothing is lost by a name."""

from __future__ import annotations

import os

import pytest
from cli_tools import lines_of, mpp
from test_cli_inputs import make_tree, options, tree_of

from mpp_cli.errors import UsageProblem
from mpp_cli.own_files import own_paths
from mpp_cli.run_options import WatchOptions


def watch(**files: str) -> WatchOptions:
    return WatchOptions(**files)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the files ``x``, which is the input of :func:`options`, ``hard``, the same, and ``link``."""
    make_tree(tmp_path, "x", "list")
    (tmp_path / "link").symlink_to("x")
    os.link(tmp_path / "x", tmp_path / "hard")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"watch": watch(report="x")}, "--report: 'x' is an input"),
        ({"watch": watch(json="hard")}, "--json: 'x' is an input"),
        ({"watch": watch(log_file="./link")}, "--log-file: 'x' is an input"),
        ({"watch": watch(), "checksums": "x"}, "--checksums: 'x' is an input"),
        ({"watch": watch(json="list"), "files_from": "list"}, "'list' is the list of --files-from"),
        ({"watch": watch(log_file="list"), "pipeline": "list"}, "'list' is the pipeline"),
        ({"watch": watch(report="new"), "output": "./new"}, "--report and -o cannot write one file"),
        ({"watch": watch(journal="new"), "output": "new"}, "--journal and -o cannot write one file"),
    ],
)
def test_a_name_that_would_cost_data_is_refused_before_anything_is_opened(here, changes, words):
    """By whatever name: to open some of them cuts the file short."""
    with pytest.raises(UsageProblem) as caught:
        own_paths(options(**{"pipeline": "zstd"} | changes))
    assert words in str(caught.value)


def test_standard_output_and_devices_are_nobodys_file(here):
    """They may be named twice."""
    changes = {"watch": watch(json="-", log_file="/dev/stderr", report="/dev/null"), "checksums": "/dev/stdout"}
    assert own_paths(options(pipeline="zstd", output="-", **changes)) == {}


@pytest.mark.parametrize(
    ("pipeline", "option"), [("zstd", "--report"), ("zstd", "--json"), ("sha256 | zstd", "--checksums")]
)
def test_an_output_that_would_be_overwritten_by_the_runs_own_file_fails(tmp_path, pipeline, option):
    """With --remove-source its data would be nowhere any more; other files are done."""
    make_tree(tmp_path, "a", "b")
    done = mpp("run", pipeline, "--force", "--remove-source", f"{option}=./a.zst", "a", "b", cwd=tmp_path)
    assert done.returncode == 3
    words = f"mpp: a: 'a.zst': That is the file of {option}: give it another name"
    assert words in lines_of(done)
    assert tree_of(tmp_path) == {"a", "a.zst", "b.zst"}


def test_a_report_and_checksums_of_an_earlier_run_are_no_inputs(tmp_path):
    """They stand in the tree, and are replaced."""
    make_tree(tmp_path, "d/a", "d/report.html", "d/SUMS")
    own = ("--force", "--report", "d/report.html", "--checksums", "d/SUMS")
    done = mpp("run", "sha256 | zstd", "-r", "d", *own, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert lines_of(done)[-1] == "mpp: skipped 2 (written by this run)"
    assert tree_of(tmp_path) == {"d/a", "d/a.zst", "d/report.html", "d/SUMS"}
