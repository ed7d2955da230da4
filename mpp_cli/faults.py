"""What is wrong with a definition, and where: gathered while it is built, shown all at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .errors import UsageProblem, one_line, shown


@dataclass(frozen=True)
class Place:
    """Where a part of a definition was written.

    Attributes:
        source: The file, ``pipeline`` for text on the command line, an object's reference, or ``--set …``.
        line: Its line, from 1; None where there are no lines.
        column: Its column, from 1; only where a line may hold several stages.
    """

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        if self.line is None:
            return f"mpp: {shown(self.source)}"
        return f"{shown(self.source)}:{self.line}" + ("" if self.column is None else f":{self.column}")

    @property
    def order(self) -> tuple[bool, int, int]:
        """Sorts the faults of a text; those without a line come after it."""
        return self.line is None, self.line or 0, self.column or 0


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        kind: ``syntax``, ``unknown`` (a key, an option), ``type``, ``range``, ``missing``, ``stage`` (not found,
            cannot be loaded), ``order``, ``variable`` (of the environment), or ``value`` for what only the stage
            itself could judge.
        words: What is wrong and what would be right, in one line.
        stage: What messages call the stage, if it is one's.
    """

    place: Place
    kind: str
    words: str
    stage: str | None = None

    def __str__(self) -> str:
        stage = "" if self.stage is None else f"{self.stage}: "
        return one_line(f"{self.place}: {stage}{self.words}")


class DefinitionProblem(UsageProblem):
    """A definition is wrong.

    Args:
        faults: All that is; at least one.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = sorted(faults, key=lambda fault: fault.place.order)
        super().__init__(*(str(fault) for fault in self.faults))
