"""``mpp stages`` and ``mpp pipelines``: what there is, with options, types and defaults."""

from __future__ import annotations

import inspect
from typing import Any

from mpp_stages.builtin import PIPELINES, STAGES

from . import exit_codes
from .errors import UsageProblem, one_line
from .resolve import PIPELINE_GROUP, STAGE_GROUP, ResolveProblem, find_stage, plugin_names
from .stdio import Stdio
from .tables import aligned, value_words


def show_stages(stdio: Stdio) -> int:
    """Print each stage's name and what it does."""
    stdio.words_to_stderr()
    rows = []
    for name in [*sorted(STAGES), *plugin_names(STAGE_GROUP)]:
        try:
            words = _first_line(find_stage(name, ""))
        except ResolveProblem as ex:
            words = f"cannot be used: {ex}"
        rows.append((name, one_line(words)))
    stdio.show(aligned(rows))
    return exit_codes.DONE


def show_stage(name: str, stdio: Stdio) -> int:
    """Print one stage with its options.

    Raises:
        UsageProblem: There is no such stage.
    """
    stdio.words_to_stderr()
    try:
        stage = find_stage(name, "")
    except ResolveProblem as ex:
        raise UsageProblem(f"mpp: {one_line(str(ex))}") from ex
    stdio.show(_stage_lines(name, stage))
    return exit_codes.DONE


def show_pipelines(stdio: Stdio) -> int:
    """Print each ready-made pipeline with its stages."""
    stdio.words_to_stderr()
    rows = [(name, pipeline_words(name)) for name in sorted(PIPELINES)]
    rows += [(name, "(a plug-in's)") for name in plugin_names(PIPELINE_GROUP)]
    stdio.show(aligned(rows))
    return exit_codes.DONE


def _stage_lines(name: str, stage: Any) -> list[str]:
    from .options import describe_type  # with what it needs 15 ms, and the lists do without
    from .schema import options_of

    options = options_of(stage)
    lines = [f"{name}: {_first_line(stage)}", ""]
    if not options:
        return [*lines, "It has no options."]
    rows = [
        (
            f"  {option.name}",
            describe_type(option.annotation),
            "must be given" if option.is_required else f"default {value_words(option.default)}",
        )
        for option in options
    ]
    for option, row in zip(options, aligned(rows), strict=True):
        lines.append(row)
        if option.doc:
            lines.append(f"      {option.doc}")
    return [*lines, "", "In a pipeline's TOML:", *(f"  {line}" for line in example_lines(name, stage))]


def example_lines(name: str, stage: Any) -> list[str]:
    """The stage as it stands in a TOML, with the options that must be given.

    A stage whose options need better values than ``"..."`` has them in its class's ``example``.
    """
    from .schema import options_of

    example = getattr(stage, "example", None)
    if isinstance(example, str):
        return ["[[stage]]", *example.strip().splitlines()]
    required = [f'{option.name} = "..."' for option in options_of(stage) if option.is_required]
    return ["[[stage]]", f'use = "{name}"', *required]


def pipeline_words(name: str) -> str:
    """A ready-made pipeline as it would be written inline."""
    return " | ".join(_step_words(*step) for step in PIPELINES[name])


def _first_line(stage: Any) -> str:
    return (inspect.getdoc(stage) or "").partition("\n")[0]


def _step_words(name: str, options: dict[str, Any]) -> str:
    return " ".join([name, *(f"{key}={value_words(value)}" for key, value in options.items())])
