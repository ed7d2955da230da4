"""``mpp check``: the plan of a pipeline as a table, without running anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mpp_stages.naming import target_path

from . import exit_codes
from .cautions import cautions, memory_of
from .definition import load_definition
from .errors import UsageProblem, one_line, shown
from .planned import Definition, PlannedStage
from .sizes import memory_words
from .stdio import Stdio
from .tables import aligned, value_words

_JOINT_WORDS: Final = {"end": "end", "pipe": "pipe", "tap": "tap", "item": "whole item"}


def show_plan(pipeline: str, app_dir: str | None, settings: Sequence[str], is_json: bool, stdio: Stdio) -> int:
    """Load a definition, running its Python code where it has some, and print its plan on standard output.

    Raises:
        UsageProblem: The definition is wrong. With ``is_json`` standard output has the faults, too.
    """
    stdio.words_to_stderr()
    try:
        definition = load_definition(pipeline, app_dir, settings)
    except UsageProblem as ex:
        if is_json:
            from .plan_json import problem_json

            stdio.show([problem_json(ex)])
        raise
    if is_json:
        from .plan_json import plan_json

        stdio.show([plan_json(definition)])
    else:
        stdio.show(plan_lines(definition))
    return exit_codes.DONE


def plan_lines(definition: Definition) -> list[str]:
    """The plan in lines: each stage, where it runs, what joins it to the next, its suffix and options; warnings."""
    rows = [("", "stage", "runs in", "then", "suffix", "options")]
    hosts = definition.hosts
    for number, planned in enumerate(definition.planned, start=1):
        rows.append(
            (
                str(number),
                one_line(_stage_words(planned)),
                _runner_words(hosts.get(number - 1), planned),
                _JOINT_WORDS[joint(definition.planned, number - 1, hosts)],
                one_line(_suffix_words(planned)),
                one_line(_options_words(planned)),
            )
        )
    origin = "" if definition.origin == definition.name else f" ({shown(definition.origin)})"
    lines = [f"pipeline {shown(definition.name)}{origin}", *aligned(rows)]
    for given, made in outputs(definition):
        lines.append(f"output of {shown(given)}: {'needs -o' if made is None else shown(made)}")
    memory = sum(memory_of(planned) or 0 for planned in definition.planned)
    if memory:
        lines.append(f"memory for each large file at once: up to about {memory_words(memory)}")
    for caution in cautions(definition.planned):
        label = definition.planned[caution.number - 1].label
        is_one_of_several = [planned.label for planned in definition.planned].count(label) > 1
        which = f" (number {caution.number})" if is_one_of_several else ""
        lines.append(one_line(f"warning: stage '{label}'{which}: {caution.words}"))
    return lines


def outputs(definition: Definition) -> Iterator[tuple[str, str | None]]:
    """What a named file's output is called, for each suffix that the first stage takes off; None: it has no name."""
    for suffix in getattr(definition.stages[0], "strips_suffixes", None) or ("",):
        try:
            yield f"FILE{suffix}", target_path(f"FILE{suffix}", definition.stages)
        except ValueError:
            yield f"FILE{suffix}", None


def joint(planned: Sequence[PlannedStage], index: int, hosts: Mapping[int, int]) -> str:
    """What joins a stage to the next. A stage whose answer depends on the item may say otherwise later."""
    if index in hosts:
        return "tap"
    if index == len(planned) - 1:
        return "end"
    return "pipe" if planned[index].stage.is_pipe_with_next_stage else "item"


def options_in_force(planned: PlannedStage) -> dict[str, Any]:
    """The options given, as they may be shown, then the defaults of the others."""
    from mpp_stages.options import describe_options, is_filter

    found = dict(planned.options if planned.shown_options is None else planned.shown_options)
    stage = planned.stage
    if is_filter(stage):
        found = {**stage.options, **found}
    for option in describe_options(stage if is_filter(stage) else type(stage)):
        if option.name not in found and not option.is_required:
            found[option.name] = getattr(stage, option.name, option.default)
    return found


def _stage_words(planned: PlannedStage) -> str:
    words = planned.label if planned.label == planned.use else f"{planned.label} ({planned.use})"
    return f"{words} (added)" if planned.is_appended else words


def _runner_words(host: int | None, planned: PlannedStage) -> str:
    if host is not None:
        return f"inside {host + 1}"
    return "a process" if planned.stage.is_subprocess else "a thread"


def _suffix_words(planned: PlannedStage) -> str:
    stage = planned.stage
    if getattr(stage, "is_sink", False) is True:
        return str(getattr(stage, "suffix", None) or "")
    strips = " ".join(f"-{suffix}" for suffix in getattr(stage, "strips_suffixes", None) or ())
    adds = getattr(stage, "adds_suffix", None)
    return strips if not adds else f"{strips} +{adds}".strip()


def _options_words(planned: PlannedStage) -> str:
    words = [f"{name}={value_words(value)}" for name, value in options_in_force(planned).items()]
    stage = planned.stage
    if stage.timeout is not None:
        words.append(f"timeout={value_words(stage.timeout)}")
    if stage.retries:
        words.append(f"retries={stage.retries}")
    return " ".join(words)
