"""The rows of the table: ours, peer, ratio, target, met."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Target:
    """What has to be reached: ``factor`` times the peer's figure where there is a factor, else ``value``."""

    text: str
    factor: float | None = None
    value: float | None = None
    is_at_most: bool = False

    def is_met(self, ours: float, peer: float | None) -> bool | None:
        """None where it cannot be said."""
        bound = self.value
        if self.factor is not None:
            bound = None if peer is None else self.factor * peer
        if bound is None:
            return None
        return ours <= bound if self.is_at_most else ours >= bound


def times_peer(factor: float) -> Target:
    return Target(f"≥ {factor:g} × peer", factor=factor)


def at_most_times_peer(factor: float) -> Target:
    return Target(f"≤ {factor:g} × peer", factor=factor, is_at_most=True)


def at_least(value: float, unit: str) -> Target:
    return Target(f"≥ {value:,g} {unit}", value=value)


def at_most(value: float, unit: str) -> Target:
    return Target(f"≤ {value:,g} {unit}", value=value, is_at_most=True)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table. ``ours`` is None for what was not measured, ``note`` then says why."""

    work: str
    unit: str
    ours: float | None = None
    peer_name: str = "–"
    peer: float | None = None
    target: Target | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.peer if self.ours is not None and self.peer else None

    @property
    def is_met(self) -> bool | None:
        if self.ours is None or self.target is None:
            return None
        return self.target.is_met(self.ours, self.peer)

    def cells(self) -> tuple[str, ...]:
        """work, ours, peer, ratio, target, met – as text."""
        ours = f"not measured: {self.note}" if self.ours is None else f"{_figure(self.ours)} {self.unit}"
        peer = self.peer_name
        if self.peer is not None:
            peer += f" {_figure(self.peer)} {self.unit}"
        if self.note and self.ours is not None:
            peer += f" ({self.note})"
        ratio = "–" if self.ratio is None else f"{self.ratio:.2f}"
        target = "–" if self.target is None else self.target.text
        met = {True: "yes", False: "NO", None: "–"}[self.is_met]
        return self.work, ours, peer, ratio, target, met


COLUMNS = ("work", "ours", "peer", "ratio", "target", "met")


def _figure(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def as_text(rows: list[Row]) -> str:
    """An aligned table for a terminal."""
    table = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(map(str.ljust, cells, widths)).rstrip() for cells in table)


def as_markdown(rows: list[Row]) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row.cells()) + " |" for row in rows]
    return "\n".join(lines)
