"""A definition as it was written, before anything of it is looked up: the same for TOML, inline text and Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atbu.mp_pipeline.stage import PipelineStage

from .faults import Fault, Place

#: A key's place in a table of a stage: names of keys, and numbers of elements of arrays.
Path = tuple[str | int, ...]


class Word(str):
    """A value of which only the text is known: the option that takes it decides what it is."""

    __slots__ = ()


@dataclass
class Step:
    """One stage of a document.

    Attributes:
        table: What was written: ``use``, the reserved keys, and options.
        place: Where it begins.
        places: Where its keys and their elements stand; what is not here stands where the stage begins.
        factory: What ``use`` stands for, where Python code gave the object itself.
        stage: A stage that Python code has already made.
        is_appended: Whether we put it there.
        set_keys: The keys whose values come from ``--set``, with all variables filled in by the shell.
    """

    table: dict[str, Any]
    place: Place
    places: dict[Path, Place] = field(default_factory=dict)
    factory: Any = None
    stage: PipelineStage | None = None
    is_appended: bool = False
    set_keys: set[str] = field(default_factory=set)

    def place_of(self, *path: str | int) -> Place:
        """The place of a key, or of the nearest thing around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.place)


@dataclass
class Document:
    """A whole definition.

    Attributes:
        name: What the user calls it.
        origin: Where it comes from: ``ready-made``, a file, ``module:object``.
        place: Stands for all of it.
        folder: Relative files in it are relative to this.
        steps: Its stages, in order.
        faults: What is wrong with its form.
    """

    name: str
    origin: str
    place: Place
    folder: str
    steps: list[Step] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def label_of(number: int, table: Mapping[str, Any]) -> str:
    """What messages call a stage that is not built yet; ``number`` counts from 1."""
    for key in ("name", "use"):
        value = table.get(key)
        if isinstance(value, str) and value:
            return f"stage '{value}'"
    return f"stage number {number}"
