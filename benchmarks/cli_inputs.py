"""Finding inputs: how soon the first output of a large tree is there, and what the search costs for each file."""

from __future__ import annotations

import subprocess
import time
from functools import partial
from pathlib import Path

from . import programs
from .harness import alternate
from .table import Row, at_most

FOLDERS, FILES_IN_EACH = 250, 1000
FIRST_OUTPUT_MS = 200


def run(rounds: int, _seconds: float) -> list[Row]:
    """Milliseconds to the first output, and microseconds a file of a dry run, beside find's."""
    with programs.folder_in_memory() as folder:
        tree = folder / "tree"
        _make_tree(tree)
        small = folder / "small"
        small.write_bytes(b"x")
        one_file = [*programs.mpp(), "run", "-q", "--force", "zstd", str(small)]
        dry_run = [*programs.mpp(), "run", "--dry-run", "-r", "zstd", str(tree)]
        runs = {
            "first": partial(_seconds_to_first_output, tree),
            "one file": partial(programs.seconds, one_file),
            "dry run": partial(programs.seconds, dry_run),
            "find": partial(programs.seconds, [programs.require("find"), str(tree), "-type", "f", "-size", "-1M"]),
        }
        figures = alternate(runs, rounds)
    files = FOLDERS * FILES_IN_EACH
    work = f"mpp run -r zstd, a tree of {files:,} files"
    first, one, dry, find = (figures[name].required for name in runs)
    return [
        Row(f"{work}: first output", "ms", 1e3 * first, "mpp run, one file", 1e3 * one, at_most(FIRST_OUTPUT_MS, "ms")),
        Row(f"{work}: --dry-run, each file", "µs", 1e6 * dry / files, "find with a stat", 1e6 * find / files),
    ]


def _make_tree(tree: Path) -> None:
    for folder in range(FOLDERS):
        below = tree / f"d{folder}"
        below.mkdir(parents=True)
        for file in range(FILES_IN_EACH):
            (below / f"f{file}").touch()


def _seconds_to_first_output(tree: Path) -> float:
    """From the start of the process to the word that the first file is done; what it has made is removed again."""
    started = time.perf_counter()
    command = [*programs.mpp(), "run", "-v", "--progress", "none", "-r", "zstd", str(tree)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.readline()
        seconds = time.perf_counter() - started
        process.terminate()
        process.stderr.read()
    for output in tree.glob("*/*.zst"):
        output.unlink()
    return seconds
