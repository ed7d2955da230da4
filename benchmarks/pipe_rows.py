"""Row 4: what pipe_throughput.py measures, as rows of the table."""

from __future__ import annotations

from . import pipe_throughput
from .table import Row, times_peer


def run(rounds: int, seconds: float) -> list[Row]:
    return [
        Row(
            f"PipeConnectionIO, {row['work']}",
            row["unit"],
            row["ours"],
            row["peer_name"],
            row["peer"],
            times_peer(row["target"]),
        )
        for row in pipe_throughput.run(rounds)
    ]
