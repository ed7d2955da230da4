"""A ten-line Python line filter on log lines, beside a plain Python loop on one core and beside ``grep -v``."""

from __future__ import annotations

import filecmp
import os
import random
import statistics
import sys
from pathlib import Path

from . import programs
from .table import Row, times_peer

#: The target is for 1 GB: with less, the start counts more.
LOG_BYTES = 1_000_000_000
TIMES_PLAIN = 1.0
TIMES_GREP = 0.3
LEVELS = ("INFO", "INFO", "INFO", "INFO", "INFO", "INFO", "INFO", "WARN", "ERROR", "DEBUG")

FILTERS = """
from mpp_stages.byte_stage import line_filter

WORD = b"DEBUG"

def drop(line):
    if b"DEBUG" in line:
        return None
    return line

def drop_word(line):
    if WORD in line:
        return None
    return line

@line_filter(stateless=True)
def drop_word_declared(line):
    if WORD in line:
        return None
    return line
"""
#: What is measured -> the function.
OURS = {
    "lines, a function that uses its line alone": "drop",
    "lines, a function that uses a global, declared stateless": "drop_word_declared",
    "lines, a function that uses a global, in one process": "drop_word",
}
DEFINITION = """
[[stage]]
use = "lines"
function = "./filters.py:{name}"
"""
PLAIN_LOOP = """
import sys

def main():
    write = sys.stdout.buffer.write
    for line in sys.stdin.buffer:
        if b"DEBUG" in line:
            continue
        write(line)

main()
"""


def make_log(path: Path) -> None:
    """Lines of about 90 bytes, one in ten of which has the word."""
    chance = random.Random(1)
    lines = [
        f"2026-11-{chance.randint(1, 28):02} {chance.randint(0, 23):02}:{chance.randint(0, 59):02}:00.000 "
        f"{chance.choice(LEVELS):5} worker-{chance.randint(1, 64)} request {chance.getrandbits(32):08x} "
        f"/api/v1/items/{chance.randint(1, 10**6)} took {chance.randint(1, 900)} ms\n"
        for _ in range(20_000)
    ]
    block = "".join(lines).encode()
    with path.open("wb") as file:
        for _ in range(LOG_BYTES // len(block)):
            file.write(block)


def run(rounds: int, _seconds: float) -> list[Row]:
    """Medians of alternating runs; all outputs must be the same."""
    grep = programs.require("grep")
    with programs.folder_in_memory() as folder:
        log = folder / "log"
        make_log(log)
        (folder / "filters.py").write_text(FILTERS)
        for name in OURS.values():
            (folder / f"{name}.toml").write_text(DEFINITION.format(name=name))
        one_core = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
        commands = {
            **{work: [*programs.mpp(), "run", "-q", str(folder / f"{name}.toml")] for work, name in OURS.items()},
            "a plain Python loop": [*one_core, sys.executable, "-c", PLAIN_LOOP],
            "grep -v": [grep, "-v", "DEBUG"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        outputs = {name: folder / f"output{number}" for number, name in enumerate(commands)}
        for _ in range(rounds):
            for name, command in commands.items():
                seconds[name].append(programs.usage(command, log, outputs[name]).seconds)
        total, expected = log.stat().st_size, outputs["grep -v"]
        wrong = [name for name, output in outputs.items() if not filecmp.cmp(output, expected, shallow=False)]
    if wrong:
        raise RuntimeError(f"other bytes than those of grep: {', '.join(wrong)}")
    rates = {name: total / 1e6 / statistics.median(of_it) for name, of_it in seconds.items()}
    plain, by_grep = "a plain Python loop", "grep -v"
    rows = []
    for ours in OURS:
        work = f"{ours}: {total / 1e6:,.0f} MB of log lines"
        rows.append(Row(work, "MB/s", rates[ours], plain, rates[plain], times_peer(TIMES_PLAIN)))
        rows.append(Row(work, "MB/s", rates[ours], by_grep, rates[by_grep], times_peer(TIMES_GREP)))
    return rows
