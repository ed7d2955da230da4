"""A pipeline as Python code defines it, for ``mpp run module:object`` and for plug-ins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from atbu.mp_pipeline.stage import PipelineStage


class PipelineDefinition:
    """A list of stages with a name::

        backup = PipelineDefinition("backup", ["zstd level=9", MaskAddresses(keep_domain=True)])

    Args:
        name: What messages and ``mpp check`` call it.
        stages: In order: stages; stage classes and filters, which are made without options; text as on the command
            line; or mappings with the keys of a ``[[stage]]`` in TOML. ``write`` is added at the end where it is
            missing.
    """

    def __init__(
        self, name: str, stages: Iterable[PipelineStage | type[PipelineStage] | str | Mapping[str, Any]]
    ) -> None:
        self.name = name
        self.stages = list(stages)

    def __repr__(self) -> str:
        return f"PipelineDefinition({self.name!r}, {self.stages!r})"


__all__ = ["PipelineDefinition"]
