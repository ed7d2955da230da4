"""Runs contestants in turn and takes medians.

Each measurement is a process of its own, so that nothing one contestant has started, imported or warmed up helps or
hinders another; and they take turns, so that a machine's mood hits all alike.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from .table import Row, Target

CONTESTANTS = Path(__file__).resolve().parent / "contestants"
#: The virtual environment that has the original; see benchmarks/original.py.
ORIGINAL_VARIABLE = "MPP_BENCH_ORIGINAL"

ROUNDS = 5
SECONDS = 1.0
# Far beyond what the slowest takes for one turn: the original now and then hangs for ever.
HANG_S = 60.0


class TurnFailed(Exception):
    """A turn that gave no figure; the text says what happened: "hung", "failed (…)"."""


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A script in contestants/, the work it is to do, and the interpreter that runs it."""

    name: str
    script: str
    work: str
    #: The distribution whose version stands beside the name; None for the standard library.
    distribution: str | None = None
    python: str = sys.executable
    #: Why it cannot take part, where it can't.
    absence: str = ""
    items: int = 0

    def measure(self, seconds: float) -> float:
        """One run; gives items/s. Raises TurnFailed where there is no figure."""
        command = [self.python, str(CONTESTANTS / self.script), self.work, "--seconds", str(seconds)]
        if self.items:
            command += ["--items", str(self.items)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            try:
                output, complaints = process.communicate(timeout=HANG_S)
            except subprocess.TimeoutExpired:
                raise TurnFailed("hung") from None
            finally:
                # with the workers that it leaves, which hold the other end of the pipe we read
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode:
            raise TurnFailed(f"failed ({(complaints.splitlines() or ['without a word'])[-1]})")
        told = json.loads(output.splitlines()[-1])
        return float(told["items"] / told["seconds"])

    @property
    def label(self) -> str:
        """Its name with its version."""
        if self.distribution is None or self.absence:
            return self.name
        if self.python != sys.executable:
            return self.name
        return f"{self.name} {importlib.metadata.version(self.distribution)}"


def peer(name: str, script: str, work: str, distribution: str) -> Contestant:
    """One that comes with the benchmark extra; absent where it is not installed."""
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return Contestant(name, script, work, distribution, absence="not installed: pip install '.[benchmark]'")
    return Contestant(name, script, work, distribution)


def original(work: str) -> Contestant:
    """The implementation that this package takes the place of."""
    name, script = "the original 0.0.10", "atbu_pipeline.py"
    folder = os.environ.get(ORIGINAL_VARIABLE)
    if not folder:
        return Contestant(name, script, work, absence=f"{ORIGINAL_VARIABLE} is not set; see --setup-original")
    python = Path(folder) / "bin" / "python"
    if not python.exists():
        return Contestant(name, script, work, absence=f"there is no {python}")
    return Contestant(name, script, work, python=str(python))


@dataclasses.dataclass(frozen=True)
class Figure:
    """What the turns of one contestant came to."""

    median: float | None
    #: What went wrong, once for each turn without a figure.
    failures: tuple[str, ...]
    num_turns: int

    @property
    def note(self) -> str:
        return f"{self.failures[0]} in {len(self.failures)} of {self.num_turns} turns" if self.failures else ""

    @property
    def required(self) -> float:
        """The median of a contestant whose failures are no row of a table: ours. Raises TurnFailed."""
        if self.failures or self.median is None:
            raise TurnFailed(f"ours {self.note}")
        return self.median


def alternate(runs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Figure]:
    """Each in turn, so often. A run without a figure raises TurnFailed."""
    values: dict[str, list[float]] = {name: [] for name in runs}
    failures: dict[str, list[str]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            try:
                values[name].append(run())
            except TurnFailed as ex:
                failures[name].append(str(ex))
    return {
        name: Figure(statistics.median(values[name]) if values[name] else None, tuple(failures[name]), rounds)
        for name in runs
    }


def compete(contestants: list[Contestant], rounds: int, seconds: float) -> dict[str, Figure]:
    """Those that can take part, in turn; by their labels, in items/s."""
    runs = {one.label: partial(one.measure, seconds) for one in contestants if not one.absence}
    return alternate(runs, rounds)


def rows_beside_peers(
    work: str, ours: Contestant, targets: dict[str, Target], peers: list[Contestant], rounds: int, seconds: float
) -> list[Row]:
    """A row for each peer; ``targets`` names those that a target is about."""
    figures = compete([ours, *peers], rounds, seconds)
    rows = []
    for one in peers:
        figure = figures.get(one.label, Figure(None, (), 0))
        target, note = targets.get(one.name), one.absence or figure.note
        rows.append(Row(work, "items/s", figures[ours.label].required, one.label, figure.median, target, note))
    return rows
