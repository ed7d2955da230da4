"""``--set KEY=VALUE``: options of stages, changed from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mpp_stages.options import describe_options, takes_any_option

from .document import Step, Word
from .errors import UsageProblem, listed, nearest, shown
from .faults import Fault, Place

_SETTABLE: Final = ("run_in", "timeout", "retries")
_KEY: Final = re.compile(r"(?:(?P<stage>.+)\.)?(?P<option>[A-Za-z_][\w-]*)", re.DOTALL)


@dataclass(frozen=True)
class Setting:
    """One ``--set``.

    Attributes:
        stage: The stage's name, ``use`` or number; None where the key had no dot.
    """

    stage: str | None
    option: str
    value: str

    @property
    def place(self) -> Place:
        key = self.option if self.stage is None else f"{self.stage}.{self.option}"
        return Place(f"--set {key}={self.value}")


class Changeable(Protocol):
    """What a setting can be applied to: a stage that has been looked up and not yet made."""

    number: int
    step: Step
    factory: Any

    @property
    def name(self) -> str: ...


def parse_settings(arguments: Sequence[str]) -> list[Setting]:
    """Read the arguments of ``--set``.

    Raises:
        UsageProblem: One of them is not of the form.
    """
    found, faults = [], []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        match = _KEY.fullmatch(key)
        if not equals or match is None:
            faults.append(
                f"mpp: --set {shown(argument)}: write KEY=VALUE, or STAGE.KEY=VALUE for one of several stages"
            )
        else:
            found.append(Setting(match["stage"], match["option"], value))
    if faults:
        raise UsageProblem(*faults)
    return found


def apply_settings(settings: Sequence[Setting], stages: Sequence[Changeable]) -> Iterator[Fault]:
    """Put the settings into the stages' tables; gives what cannot be put anywhere."""
    for setting in settings:
        words = _apply(setting, stages)
        if words is not None:
            yield Fault(setting.place, "unknown", words)


def _apply(setting: Setting, stages: Sequence[Changeable]) -> str | None:
    stage = _owner(setting, stages) if setting.stage is None else _named(setting, stages)
    if isinstance(stage, str):
        return stage or None
    if stage.step.stage is not None:
        return f"stage '{stage.name}' is made in Python, where its options are given"
    if setting.option in ("use", "name"):
        return f"'{setting.option}' cannot be set; it belongs to the definition"
    step = stage.step
    step.table[setting.option] = Word(setting.value)
    step.set_keys.add(setting.option)
    for path in [path for path in step.places if path[0] == setting.option]:
        del step.places[path]
    step.places[(setting.option,)] = setting.place
    return None


def _named(setting: Setting, stages: Sequence[Changeable]) -> Changeable | str:
    """The stage that a key with a dot means, or what is wrong with it."""
    wanted = setting.stage
    found = [stage for stage in stages if wanted in _names(stage)]
    found = found or [stage for stage in stages if wanted == str(stage.number)]
    if len(found) == 1:
        return found[0]
    if found:
        keys = " or ".join(f"{stage.number}.{setting.option}" for stage in found)
        return f"{len(found)} stages are called '{wanted}'; say {keys}"
    known = [stage.name for stage in stages]
    return (
        f"there is no stage '{wanted}' in this pipeline{nearest(str(wanted), known) or f'; there are {listed(known)}'}"
    )


def _names(stage: Changeable) -> set[str]:
    use = str(stage.step.table.get("use"))
    return {stage.name, use, use.rpartition(":")[2]}


def _owner(setting: Setting, stages: Sequence[Changeable]) -> Changeable | str:
    """The one stage that has the option, or what is wrong with it; empty where a stage that is wrong might have it."""
    own = {stage.number: _option_names(stage) for stage in stages}
    found = [stage for stage in stages if setting.option in own[stage.number]]
    # The one that we have added is meant only where no other can be.
    found = [stage for stage in found if not stage.step.is_appended] or found
    if len(found) == 1:
        return found[0]
    if found:
        names = [stage.name for stage in found]
        names = names if len(set(names)) == len(names) else [str(stage.number) for stage in found]
        keys = " or ".join(f"{name}.{setting.option}" for name in names)
        return f"{len(found)} stages have an option '{setting.option}'; say {keys}"
    if not stages or any(stage.factory is None and stage.step.stage is None for stage in stages):
        return ""
    if setting.option in _SETTABLE:
        return f"say of which stage, such as {stages[0].name}.{setting.option}"
    known = sorted({option for options in own.values() for option in options})
    hint = nearest(setting.option, known) or (f"; there are {listed(known)}" if known else "")
    if any(stage.factory is not None and takes_any_option(stage.factory) for stage in stages):
        hint += "; for one that takes any, name the stage: STAGE.KEY"
    return f"no stage of this pipeline has an option '{setting.option}'{hint}"


def _option_names(stage: Changeable) -> set[str]:
    if stage.factory is None:
        return set()
    return {option.name for option in describe_options(stage.factory)}
