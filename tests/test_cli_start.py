"""What a start loads: the figures of docs and benchmarks stand on what is left out."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from cli_tools import TIMEOUT_S, environment, mpp

PROGRAM = """
import atexit, sys
from mpp_cli.main import main
heavy = sys.argv.pop(1).split(",")
atexit.register(lambda: print([name for name in heavy if name in sys.modules], file=sys.stderr))
main()
"""
#: Each costs from 5 to 80 ms.
NEVER = ["rich", "pydantic", "importlib.metadata", "tomllib", "asyncio", "zstandard", "isal", "zlib_ng", "lz4"]
#: Each costs from 1 to 35 ms, and only what is behind a plain run needs them: its workers, or another way to call it.
NOT_IN_THE_PARENT = [
    "typer", "inspect", "dataclasses", "multiprocessing.connection", "tempfile", "subprocess", "uuid",
    "difflib", "json", "mpp_cli.app", "atbu.mp_pipeline.pipe_io",
]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "unloaded"),
    [
        (["--help"], [*NEVER, "multiprocessing", "atbu.mp_pipeline.pipeline", "mpp_stages.builtin"]),
        (["run", "--help"], [*NEVER, "multiprocessing", "atbu.mp_pipeline.pipeline", "mpp_stages.builtin"]),
        (
            ["run", "-q", "zstd"],
            [
                *NEVER,
                *NOT_IN_THE_PARENT,
                *("mpp_cli.building", "mpp_cli.options", "mpp_stages.options", "mpp_stages.unzstd"),
            ],
        ),
        (["run", "-q", "gzip"], [*NEVER, *NOT_IN_THE_PARENT, "mpp_stages.gunzip", "hashlib"]),
        (["run", "zstd", "--progress", "plain"], [*NEVER, "mpp_cli.progress.bar"]),
        (["stages"], ["rich", "pydantic", "multiprocessing.popen_fork", "zstandard"]),
    ],
    ids=" ".join,
)
def test_a_start_loads_only_what_it_needs(args, unloaded):
    """No bar, no compressor, no scan for plug-ins, no validation library."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(unloaded), *args],
        input=b"data", capture_output=True, env=environment(), timeout=TIMEOUT_S, check=True,
    )  # fmt: skip
    assert done.stderr.decode().splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--jobs", "0"], "--jobs: '0' is not"),
        (["-o", "x", "--output-dir", "y"], "exclude each other"),
        (["--resume", "absent"], "--resume"),
        (["--include", "[", "absent"], "--include"),
    ],
    ids=" ".join,
)
def test_what_is_wrong_behind_the_early_start_leaves_no_process(args, words):
    """The template is there already when these are found: it keeps the ends of the pipes, which come to an end."""
    done = mpp("run", "zstd", *args)
    assert (done.returncode, done.stdout) == (2, b"")
    assert words in done.stderr.decode()


def test_a_failure_that_nobody_foresaw_is_one_line_on_the_short_way_too(tmp_path):
    """As Typer's way has it: the folder that the names are relative to is gone."""
    gone = tmp_path / "gone"
    gone.mkdir()
    done = mpp("run", "zstd", "x", preexec_fn=lambda: (os.chdir(gone), gone.rmdir()))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
