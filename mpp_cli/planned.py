"""A pipeline as it was defined: its stages with what a plan shows of them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

from atbu.mp_pipeline.stage import PipelineStage


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

    def __init__(
        self,
        stage: PipelineStage,
        use: str,
        options: Mapping[str, Any] | None = None,
        is_appended: bool = False,
        shown_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.stage = stage
        self.use = use
        self.options = options or {}
        self.is_appended = is_appended
        self.shown_options = shown_options
        if getattr(stage, "name", None) is None:
            # Else the pipeline's own messages could only give a number.
            with contextlib.suppress(AttributeError):  # it may be a property
                stage.name = use.rpartition(":")[2]

    @property
    def label(self) -> str:
        """What messages call the stage."""
        own = getattr(self.stage, "name", None)
        return own if isinstance(own, str) and own else self.use


class Definition:
    """A whole pipeline.

    Attributes:
        name: What the user calls it.
        origin: Where it comes from: ``ready-made``, a file, ``module:object``.
        planned: Its stages, in order.
    """

    def __init__(self, name: str, origin: str, planned: tuple[PlannedStage, ...]) -> None:
        self.name = name
        self.origin = origin
        self.planned = planned

    @functools.cached_property
    def stages(self) -> list[PipelineStage]:
        """The stages to run, without those that run inside another (see :mod:`mpp_stages.fusing`)."""
        stages = self.placed
        if not any(getattr(stage, "is_pass_through", False) for stage in stages):
            return stages
        from mpp_stages.fusing import fused

        return fused(stages)

    @functools.cached_property
    def placed(self) -> list[PipelineStage]:
        """All stages of the definition; those that watch know where they stand."""
        stages = [planned.stage for planned in self.planned]
        if not any(getattr(stage, "is_pass_through", False) for stage in stages):
            return stages
        from mpp_stages.fusing import placed  # a pipeline without such stages does without

        return placed(stages)

    @property
    def hosts(self) -> dict[int, int]:
        """Number of a stage that runs inside another -> number of that other, both from 0."""
        from mpp_stages.fusing import hosts_of

        return hosts_of([planned.stage for planned in self.planned])
