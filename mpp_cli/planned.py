"""A pipeline as it was defined: its stages with what a plan shows of them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atbu.mp_pipeline.stage import PipelineStage


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a definition.

    Attributes:
        stage: The stage itself, as the pipeline runs it.
        use: What the definition calls it: a name, ``module:object``, a class.
        options: The options that were given.
        is_appended: Whether we put it there, not the definition.
        shown_options: The same as they may be shown: ``${NAME}`` stands where a variable's value, perhaps a secret,
            has been filled in.
    """

    stage: PipelineStage
    use: str
    options: Mapping[str, Any] = field(default_factory=dict)
    is_appended: bool = False
    shown_options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if getattr(self.stage, "name", None) is None:
            # Else the pipeline's own messages could only give a number.
            with contextlib.suppress(AttributeError):  # it may be a property
                self.stage.name = self.use.rpartition(":")[2]

    @property
    def label(self) -> str:
        """What messages call the stage."""
        own = getattr(self.stage, "name", None)
        return own if isinstance(own, str) and own else self.use


@dataclass(frozen=True)
class Definition:
    """A whole pipeline.

    Attributes:
        name: What the user calls it.
        origin: Where it comes from: ``ready-made``, a file, ``module:object``.
        planned: Its stages, in order.
    """

    name: str
    origin: str
    planned: tuple[PlannedStage, ...]

    @property
    def stages(self) -> list[PipelineStage]:
        """The stages alone, for the pipeline."""
        return [planned.stage for planned in self.planned]
