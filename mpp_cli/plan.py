"""``mpp check``: the plan of a pipeline as a table, without running anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpp_stages.naming import target_path

from . import exit_codes
from .definition import load_definition
from .errors import one_line, shown
from .planned import Definition, PlannedStage
from .stdio import Stdio
from .tables import aligned, value_words


def show_plan(pipeline: str, app_dir: str | None, stdio: Stdio) -> int:
    """Load a definition, running its Python code where it has some, and print its plan on standard output.

    Raises:
        UsageProblem: The definition is wrong.
    """
    stdio.words_to_stderr()
    definition = load_definition(pipeline, app_dir)
    stdio.show(plan_lines(definition))
    return exit_codes.DONE


def plan_lines(definition: Definition) -> list[str]:
    """The plan in lines: each stage, where it runs, what joins it to the next, and its options."""
    rows = [("", "stage", "runs in", "then", "options")]
    hosts = definition.hosts
    for number, planned in enumerate(definition.planned, start=1):
        rows.append(
            (
                str(number),
                one_line(_stage_words(planned)),
                _runner_words(definition, hosts.get(number - 1), planned),
                _joint(definition.planned, number - 1, hosts),
                one_line(_options_words(planned)),
            )
        )
    origin = "" if definition.origin == definition.name else f" ({shown(definition.origin)})"
    lines = [f"pipeline {shown(definition.name)}{origin}", *aligned(rows)]
    return [*lines, *_naming_lines(definition)]


def _naming_lines(definition: Definition) -> list[str]:
    """What the output of a named file is called, for each suffix that the first stage takes off."""
    lines = []
    for suffix in getattr(definition.stages[0], "strips_suffixes", None) or ("",):
        try:
            target = target_path(f"FILE{suffix}", definition.stages)
        except ValueError:
            target = "needs -o"
        lines.append(f"output of FILE{shown(suffix)}: {shown(target)}")
    return lines


def _stage_words(planned: PlannedStage) -> str:
    words = planned.label if planned.label == planned.use else f"{planned.label} ({planned.use})"
    return f"{words} (added)" if planned.is_appended else words


def _runner_words(definition: Definition, host: int | None, planned: PlannedStage) -> str:
    if host is not None:
        return f"inside {host + 1}"
    return "a process" if planned.stage.is_subprocess else "a thread"


def _joint(planned: Sequence[PlannedStage], index: int, hosts: Mapping[int, int]) -> str:
    """What joins a stage to the next. A stage whose answer depends on the item may say otherwise later."""
    if index in hosts:
        return "tap"
    if index == len(planned) - 1:
        return "end"
    return "pipe" if planned[index].stage.is_pipe_with_next_stage else "whole item"


def _options_words(planned: PlannedStage) -> str:
    """The options in force: those given, then the defaults of the others."""
    from mpp_stages.options import describe_options

    given: dict[str, Any] = dict(planned.options)
    words = [f"{name}={value_words(value)}" for name, value in given.items()]
    for option in describe_options(type(planned.stage)):
        if option.name not in given and not option.is_required:
            value = getattr(planned.stage, option.name, option.default)
            words.append(f"{option.name}={value_words(value)}")
    stage = planned.stage
    if stage.timeout is not None:
        words.append(f"timeout={value_words(stage.timeout)}")
    if stage.retries:
        words.append(f"retries={stage.retries}")
    return " ".join(words)
