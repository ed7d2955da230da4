"""From the PIPELINE argument to a list of stages: a ready-made name, a TOML file, or a Python object."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, Final

from mpp_stages.builtin import PIPELINES

from atbu.mp_pipeline.stage import PipelineStage

from .errors import UsageProblem, one_line, shown
from .planned import Definition, PlannedStage
from .resolve import ResolveProblem, find_pipeline, find_stage, load_object, split_reference

#: Appended where the last stage gives bytes that nobody takes.
_SINK: Final = "write"


def load_definition(pipeline: str, app_dir: str | None) -> Definition:
    """Build the pipeline that the argument names, with ``write`` at its end where it needs one.

    Runs the user's code for anything but a ready-made pipeline.

    Args:
        pipeline: ``zstd``, ``file.toml``, ``module:object`` or ``./file.py:object``.
        app_dir: A folder to look for the user's modules in, before all others.

    Raises:
        UsageProblem: Nothing is named so, or what is defined is wrong.
    """
    if app_dir is not None:
        if not os.path.isdir(app_dir):
            raise UsageProblem(f"mpp: --app-dir: there is no folder '{shown(app_dir)}'")
        sys.path.insert(0, os.path.abspath(app_dir))
    try:
        return _checked(_find(pipeline))
    except ResolveProblem as ex:
        raise UsageProblem(f"mpp: {one_line(str(ex))}") from ex


def _find(pipeline: str) -> Definition:
    if pipeline in PIPELINES:
        return Definition(pipeline, "ready-made", tuple(_built_in(*pair) for pair in PIPELINES[pipeline]))
    if pipeline.endswith(".toml"):
        from .toml_definition import load_toml  # a ready-made pipeline needs none of it

        return load_toml(pipeline)
    reference = split_reference(pipeline)
    if reference is not None:
        return _from_object(load_object(*reference, os.getcwd()), pipeline, pipeline)
    if os.sep in pipeline or os.path.exists(pipeline):
        raise ResolveProblem(f"'{shown(pipeline)}' is no pipeline: it takes file.toml or ./file.py:object")
    return _from_object(find_pipeline(pipeline), pipeline, "a plug-in's")


def _built_in(name: str, options: dict[str, Any]) -> PlannedStage:
    return PlannedStage(find_stage(name, "")(**options), name, options)


def _from_object(found: Any, name: str, origin: str) -> Definition:
    if not isinstance(found, (type, PipelineStage)) and not _is_filter(found) and callable(found):
        try:
            found = found()
        except (Exception, SystemExit) as ex:
            raise ResolveProblem(f"'{shown(name)}' raised {type(ex).__name__}: {ex}") from ex
    items = list(found) if isinstance(found, (list, tuple)) else [found]
    if not items:
        raise ResolveProblem(f"'{shown(name)}' has no stages")
    numbered = enumerate(items, start=1)
    return Definition(name, origin, tuple(_as_planned(item, name, number) for number, item in numbered))


def _as_planned(item: Any, name: str, number: int) -> PlannedStage:
    """One element of a user's list: a stage, or a stage's class or filter that needs no options."""
    if isinstance(item, PipelineStage):
        return PlannedStage(item, type(item).__name__)
    use = item if isinstance(item, str) else getattr(item, "__name__", type(item).__name__)
    if isinstance(item, str):
        item = find_stage(item, os.getcwd())
    if _is_filter(item) or (isinstance(item, type) and issubclass(item, PipelineStage)):
        try:
            return PlannedStage(item(), use)
        except (Exception, SystemExit) as ex:
            raise ResolveProblem(f"'{shown(name)}': stage number {number}: {type(ex).__name__}: {ex}") from ex
    hint = "; decorate it with @chunk_filter or @line_filter" if callable(item) else ""
    raise ResolveProblem(f"'{shown(name)}': number {number} is {_kind(item)}, not a stage{hint}")


def _is_filter(item: Any) -> bool:
    """Whether it was made by ``@chunk_filter`` or ``@line_filter``: called, it gives a stage."""
    return callable(item) and callable(getattr(item, "function", None))


def _kind(item: Any) -> str:
    return f"a {type(item).__name__}" if item is not None else "None"


def _checked(definition: Definition) -> Definition:
    """Append the sink where it is missing, and refuse an order in which bytes have no taker."""
    planned = list(definition.planned)
    last_bytes = _last(i for i, stage in enumerate(planned) if _gives_bytes(stage))
    sinks = [i for i, stage in enumerate(planned) if getattr(stage.stage, "is_sink", False)]
    if last_bytes is not None and last_bytes == len(planned) - 1:
        planned.append(PlannedStage(find_stage(_SINK, "")(), _SINK, is_appended=True))
    elif last_bytes is not None and (not sinks or sinks[-1] < last_bytes):
        label, after = planned[last_bytes].label, planned[last_bytes + 1].label
        raise ResolveProblem(
            f"'{shown(definition.origin)}': stage '{label}' gives bytes, and '{after}' after it takes none; "
            f"put '{_SINK}' between them"
        )
    elif not sinks:
        raise ResolveProblem(f"'{shown(definition.origin)}': no stage of it writes anything")
    return Definition(definition.name, definition.origin, tuple(planned))


def _gives_bytes(planned: PlannedStage) -> bool:
    return bool(getattr(planned.stage, "needs_bytes", False)) and not getattr(planned.stage, "is_sink", False)


def _last(numbers: Iterable[int]) -> int | None:
    found = list(numbers)
    return found[-1] if found else None
