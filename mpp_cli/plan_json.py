"""``mpp check --json``. Its fields are described in docs/pipelines.md, and may be added to, never changed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from .cautions import cautions, memory_of
from .errors import UsageProblem
from .faults import DefinitionProblem
from .plan import joint, options_in_force, outputs
from .planned import Definition, PlannedStage


def plan_json(definition: Definition) -> str:
    """The plan of a right definition."""
    planned, hosts = definition.planned, definition.hosts
    return _text(
        {
            "ok": True,
            "name": definition.name,
            "origin": definition.origin,
            "stages": [
                _stage(number, stage, joint(planned, number, hosts), hosts.get(number))
                for number, stage in enumerate(planned)
            ],
            "outputs": [{"input": given, "output": made} for given, made in outputs(definition)],
            "warnings": [
                {
                    "stage": caution.number,
                    "name": planned[caution.number - 1].label,
                    "kind": caution.kind,
                    "text": caution.words,
                }
                for caution in cautions(planned)
            ],
        }
    )


def problem_json(problem: UsageProblem) -> str:
    """What is wrong with a definition, in the order of its lines."""
    if isinstance(problem, DefinitionProblem):
        faults = [
            {
                "source": fault.place.source,
                "line": fault.place.line,
                "column": fault.place.column,
                "kind": fault.kind,
                "text": str(fault),
            }
            for fault in problem.faults
        ]
    else:
        faults = [
            {"source": None, "line": None, "column": None, "kind": "usage", "text": line} for line in problem.lines
        ]
    return _text({"ok": False, "faults": faults})


def _stage(number: int, planned: PlannedStage, then: str, host: int | None) -> dict[str, Any]:
    stage = planned.stage
    return {
        "number": number + 1,
        "name": planned.label,
        "use": planned.use,
        "added": planned.is_appended,
        "runs_in": "process" if stage.is_subprocess else "thread",
        "inside": None if host is None else host + 1,
        "then": then,
        "options": options_in_force(planned),
        "given": list(planned.options),
        "timeout": stage.timeout,
        "retries": stage.retries,
        "adds_suffix": getattr(stage, "adds_suffix", None),
        "strips_suffixes": list(getattr(stage, "strips_suffixes", None) or ()),
        "memory_bytes": memory_of(planned),
    }


def _text(value: Any) -> str:
    # Bytes of file names that are no UTF-8 are escaped, as is all that is not ASCII.
    return json.dumps(_plain(value), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    """A value, of an option perhaps, as JSON can have it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
