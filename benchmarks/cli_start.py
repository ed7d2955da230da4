"""How long a start takes: ``mpp --help``, and one KB through ``mpp run zstd``."""

from __future__ import annotations

import os
import shutil
import sys
from functools import partial

from . import programs
from .harness import alternate
from .table import Row, at_most

HELP_MS, ONE_KB_MS = 90, 160
# A start takes a tenth of a second: many are needed, and cheap.
TURNS_A_ROUND = 4


def run(rounds: int, _seconds: float) -> list[Row]:
    """Milliseconds; the floor is an interpreter that does nothing."""
    with programs.folder_in_memory() as folder:
        small = folder / "small"
        small.write_bytes(os.urandom(512) + bytes(512))
        runs = {
            "help": partial(programs.seconds, [*programs.mpp(), "--help"]),
            "one KB": partial(programs.seconds, [*programs.mpp(), "run", "zstd"], small),
            "python": partial(programs.seconds, [sys.executable, "-c", "pass"]),
        }
        if parallel := shutil.which("parallel"):
            runs["parallel"] = partial(programs.seconds, [parallel, "--will-cite", "true", ":::", "1"])
        figures = alternate(runs, rounds * TURNS_A_ROUND)
    medians = {name: 1000 * figure.required for name, figure in figures.items()}
    one_kb = "mpp run zstd, 1 KB"
    rows = [
        Row("mpp --help", "ms", medians["help"], "python -c pass", medians["python"], at_most(HELP_MS, "ms")),
        Row(one_kb, "ms", medians["one KB"], "python -c pass", medians["python"], at_most(ONE_KB_MS, "ms")),
    ]
    if "parallel" in medians:
        rows.append(Row(one_kb, "ms", medians["one KB"], "GNU parallel true", medians["parallel"]))
    return rows
