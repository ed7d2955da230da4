"""RESULTS.md: what was measured, when, and on which machine; the newest first."""

from __future__ import annotations

from pathlib import Path

from .machine import today
from .table import Row, as_markdown

FILE = Path(__file__).resolve().parent / "RESULTS.md"

_HEAD = """\
# Results

Written by `python -m benchmarks --record`, the newest first. Each contestant runs in a process of its own, they take
turns, and a figure is the median of the turns. "met" is about the targets of docs/design.md.
"""


def record(rows: list[Row], machine: str, rounds: int, note: str) -> None:
    """Add a dated section above the others."""
    older = FILE.read_text(encoding="utf-8").removeprefix(_HEAD) if FILE.exists() else ""
    said = f"{note}\n\n" if note else ""
    section = f"\n## {today()}\n\n{machine}; {rounds} rounds.\n\n{said}{as_markdown(rows)}\n"
    FILE.write_text(_HEAD + section + older, encoding="utf-8")
