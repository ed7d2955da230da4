"""What a start loads: the figures of docs and benchmarks stand on what is left out."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cli_tools import TIMEOUT_S, environment

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
