"""What the crash tables of the pool share."""

from __future__ import annotations

from typing import Any

from crash_stages import ActStage, CrashItem
from pipeline_harness import Journal, MeetingStage, result

from atbu.mp_pipeline.mp_pipeline import MultiprocessingPipeline

AT_ONCE = 2
# More than a socket holds, so that it is under way when something happens.
LARGE = 32 << 20


def stages() -> list[Any]:
    return [ActStage(), MeetingStage()]


def assert_all_succeed(pipeline: MultiprocessingPipeline, journal: Journal, count: int = 6) -> None:
    """Send items through the pipeline; each succeeds and nothing has ever run twice."""
    number = len(journal.lines())
    items = [CrashItem(f"item {number + n}", journal.path) for n in range(count)]
    for future in [pipeline.submit(item) for item in items]:
        assert result(future).exceptions is None
    assert journal.repeated() == []
