"""From the PIPELINE argument to a list of stages: a ready-made name, a TOML file, a Python object, or a text."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpp_stages.builtin import PIPELINES, STAGES

from .errors import UsageProblem, one_line, shown
from .planned import Definition, PlannedStage
from .resolve import (
    ResolveProblem,
    find_pipeline,
    find_stage,
    is_stage_of_plugin,
    load_object,
    split_reference,
)

if TYPE_CHECKING:
    from .document import Document
    from .settings import Setting


def load_definition(pipeline: str, app_dir: str | None = None, settings: Sequence[str] = ()) -> Definition:
    """Build the pipeline that the argument names or is, with ``write`` at its end where it needs one.

    Runs the user's code for anything but a ready-made pipeline.

    Args:
        pipeline: ``zstd``, ``file.toml``, ``module:object``, ``./file.py:object`` or ``zstd level=9 | write``.
        app_dir: A folder to look for the user's modules in, before all others.
        settings: The arguments of ``--set``: ``key=value``, ``stage.key=value``.

    Raises:
        UsageProblem: Nothing is named so, or what is defined is wrong.
    """
    if app_dir is not None:
        if not os.path.isdir(app_dir):
            raise UsageProblem(f"mpp: --app-dir: there is no folder '{shown(app_dir)}'")
        sys.path.insert(0, os.path.abspath(app_dir))
    try:
        if pipeline in PIPELINES and not settings:
            # Right as it is, and built without all that looks at what somebody has written.
            return Definition(pipeline, "ready-made", tuple(_built_in(*pair) for pair in PIPELINES[pipeline]))
        from .settings import parse_settings

        return _build(pipeline, parse_settings(settings))
    except ResolveProblem as ex:
        raise UsageProblem(f"mpp: {one_line(str(ex))}") from ex


def _built_in(name: str, options: dict[str, Any]) -> PlannedStage:
    return PlannedStage(find_stage(name, "")(**options), name, options)


def _build(pipeline: str, settings: Sequence[Setting]) -> Definition:
    from .building import build

    document, settings = _document(pipeline, settings)
    return build(document, settings)


def _document(pipeline: str, settings: Sequence[Setting]) -> tuple[Document, Sequence[Setting]]:
    """What the argument means; its form alone decides that, never what files there are."""
    from .inline_definition import is_inline, read_inline

    if pipeline in PIPELINES:
        return _ready_made(pipeline), settings
    if is_inline(pipeline):
        return read_inline(pipeline), settings
    if pipeline.endswith(".toml"):
        from .toml_definition import read_toml

        return read_toml(pipeline), settings
    from .python_definition import document_of

    reference = split_reference(pipeline)
    if reference is not None:
        place, attribute = reference
        folder = os.path.dirname(os.path.abspath(place)) if place.endswith(".py") else os.getcwd()
        found = load_object(place, attribute, os.getcwd())
        return document_of(found, pipeline, pipeline, folder, settings)
    if pipeline in STAGES or len(pipeline.split()) > 1:
        return read_inline(pipeline), settings
    if os.sep in pipeline or os.path.exists(pipeline):
        raise ResolveProblem(f"'{shown(pipeline)}' is no pipeline: it takes file.toml or ./file.py:object")
    if is_stage_of_plugin(pipeline):
        return read_inline(pipeline), settings
    found = find_pipeline(pipeline)
    return document_of(found, pipeline, "a plug-in's", os.getcwd(), settings)


def _ready_made(name: str) -> Document:
    from .document import Document, Step
    from .faults import Place

    whole = Place(name)
    steps = [Step({"use": use, **options}, whole) for use, options in PIPELINES[name]]
    return Document(name, "ready-made", whole, os.getcwd(), steps)
