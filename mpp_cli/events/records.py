"""The JSON events of a run as dictionaries. Pure; docs/json.md and schema.json say what each field means.

Fields only grow: one that is there stays, with its meaning; a reader ignores what it does not know.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any, Final

from mpp_cli.errors import one_line
from mpp_cli.failures import error_words
from mpp_cli.names import put_name
from mpp_cli.observers import ItemResult, RunStart, RunSummary
from mpp_cli.progress.figures import Figures

#: Would only change if a field had to change its meaning.
SCHEMA_VERSION: Final = 1
#: An item that fails in every stage and attempt has a few; more would hide the first.
_MAX_ERRORS: Final = 8


def start_event(start: RunStart, time_s: float) -> dict[str, Any]:
    """The first event of a run."""
    return {
        "event": "start",
        "schema": SCHEMA_VERSION,
        "time": round(time_s, 3),
        "pipeline": one_line(start.pipeline),
        "jobs": start.jobs,
        "items_total": start.items_total,
        "total_bytes": start.total_bytes,
    }


def item_event(result: ItemResult, time_s: float) -> dict[str, Any]:
    """The event of one input that has ended, in whatever way."""
    event: dict[str, Any] = {"event": "item", "time": round(time_s, 3), "status": result.status}
    if result.source_path is None:
        event["path"] = None
        event["name"] = one_line(result.name)
    else:
        put_name(event, "path", result.name)
    if result.target_path is None:
        event["target"] = None
    else:
        put_name(event, "target", result.target_path)
    event["bytes_in"] = result.bytes_in
    event["bytes_out"] = result.bytes_out
    event["seconds"] = round(result.seconds, 6)
    if result.findings:
        event["findings"] = [{"kind": one.kind, "value": one.value, "of": one.sees} for one in result.findings]
    if result.errors:
        event["errors"] = error_records(result.errors, result.stage)
    return event


def error_records(errors: Sequence[BaseException], stage: str | None) -> list[dict[str, Any]]:
    """What went wrong, the cause first.

    Args:
        errors: In that order.
        stage: The stage in which the first happened, where that is known.
    """
    records: list[dict[str, Any]] = []
    for error in errors[:_MAX_ERRORS]:
        record: dict[str, Any] = {
            "kind": type(error).__name__,
            "message": one_line(error_words(error)),
            "stage": stage_of(error) or (stage if not records else None),
        }
        number = error.errno if isinstance(error, OSError) else None
        if number is not None:
            record["errno"] = errno.errorcode.get(number, str(number))
        records.append(record)
    return records


def stage_of(error: BaseException) -> str | None:
    """The stage in which an error happened, where the error says."""
    stage = getattr(error, "stage", None)
    if isinstance(stage, str) and stage:
        return one_line(stage)
    for note in getattr(error, "__notes__", ()):
        # Items.located() in the library adds it to errors that are not its own.
        if isinstance(note, str) and note.startswith("in stage "):
            return one_line(note.removeprefix("in stage ").strip("'\""))
    return None


def progress_event(figures: Figures, time_s: float) -> dict[str, Any]:
    """The run as it is now."""
    return {
        "event": "progress",
        "time": round(time_s, 3),
        **_figures_fields(figures),
        "done": figures.done,
        "skipped": figures.skipped,
        "failed": figures.failed,
        "stopped": figures.stopped,
    }


def summary_event(summary: RunSummary, time_s: float) -> dict[str, Any]:
    """The last event of a run."""
    event: dict[str, Any] = {
        "event": "summary",
        "time": round(time_s, 3),
        "exit_status": summary.exit_status,
        "signal": summary.signal_name,
        "done": summary.done,
        "skipped": summary.skipped,
        "failed": summary.failed,
        "stopped": summary.stopped,
        **_figures_fields(summary.figures),
    }
    if summary.broken is not None:
        event["error"] = one_line(summary.broken)
    return event


def _figures_fields(figures: Figures) -> dict[str, Any]:
    return {
        "elapsed_s": round(figures.elapsed_s, 3),
        "bytes_in": figures.bytes_in,
        "bytes_out": figures.bytes_out,
        "total_bytes": figures.total_bytes,
        "items_ended": figures.items_done,
        "items_total": figures.items_total,
    }
