"""Writes a run's events as they happen, one JSON object a line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

from mpp_cli.line_writer import LineWriter
from mpp_cli.observers import ItemResult, Observer, RunStart, RunSummary
from mpp_cli.progress.figures import Figures

from .records import item_event, progress_event, start_event, summary_event

#: Enough to see that a run is alive; whoever wants more has the items.
PROGRESS_INTERVAL_S: Final = 1.0
#: One for all events: making an encoder costs as much as using it. Only ASCII, so that every tool reads it.
_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False, allow_nan=False).encode


class JsonEvents(Observer):
    """Tells a run in JSON.

    Args:
        writer: Gets a line with each event.
        on_failure: Called once, with the reason, when a line could not be written; after it nothing is.
    """

    def __init__(self, writer: LineWriter, on_failure: Callable[[OSError], None]) -> None:
        self._writer = writer
        self._on_failure = on_failure
        self._has_failed = False
        self._next_progress_s = PROGRESS_INTERVAL_S

    def run_started(self, start: RunStart) -> None:
        self._tell(start_event(start, time.time()))

    def item_ended(self, result: ItemResult) -> None:
        self._tell(item_event(result, time.time()))

    def progressed(self, figures: Figures) -> None:
        if figures.elapsed_s >= self._next_progress_s:
            self._next_progress_s = figures.elapsed_s + PROGRESS_INTERVAL_S
            self._tell(progress_event(figures, time.time()))

    def run_ended(self, summary: RunSummary) -> None:
        self._tell(summary_event(summary, time.time()))

    def _tell(self, event: dict[str, Any]) -> None:
        if self._has_failed:
            return
        try:
            self._writer.write(f"{_encode(event)}\n".encode("ascii"))
        except OSError as ex:
            self._has_failed = True
            self._on_failure(ex)
