"""The ways in which the same stages can be run, between which nobody must be able to tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest
from byte_chains import run_item
from mpp_stages.file_item import FileItem
from mpp_stages.fusing import fused, placed

from atbu.mp_pipeline.stage import PipelineStage

Way = Literal["processes", "one worker", "serial"]
WAYS: tuple[Way, ...] = ("processes", "one worker", "serial")

#: In worker processes, in one worker, and in this process.
all_ways = pytest.mark.parametrize("way", WAYS)
#: As planned by the command line, where what only watches is a tap, and each stage with pipes of its own.
planned_or_not = pytest.mark.parametrize("is_fused", [True, False], ids=["taps", "pipes"])


def run(stages: Sequence[PipelineStage], item: FileItem, way: Way, *, is_fused: bool = True) -> FileItem:
    """Send one item through, as :func:`byte_chains.run_item` does; the stages know their places."""
    stages = placed(stages)
    item.in_one_worker = way == "one worker"
    return run_item(fused(stages) if is_fused else stages, item, serial=way == "serial")
