"""From a document to stages. All that is wrong with it is reported at once, each fault with its place."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mpp_stages.options import Option, describe_options, is_filter

from atbu.mp_pipeline.stage import PipelineStage

from .document import Document, Path, Step, Word, label_of
from .errors import shown
from .faults import DefinitionProblem, Fault
from .located_options import OptionProblem, located
from .options import as_declared, build_faults, describe_value, option_faults
from .order import SINK, Placed, lacks_sink, order_faults
from .planned import Definition, PlannedStage
from .resolve import ResolveProblem, find_stage
from .settings import Setting, apply_settings
from .toml_values import word_value
from .variables import expand, has_variable

RUN_IN: Final = ("process", "thread")
#: Beyond, it is a slip of the finger, and no clock counts so far.
MAX_TIMEOUT_S: Final = 10**9
MAX_RETRIES: Final = 10**6
#: Keys of a stage that are not options of its class, with what each must be.
RESERVED: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "use": (lambda v: isinstance(v, str) and bool(v), "a stage's name, 'module:object' or './file.py:object'"),
    "name": (lambda v: isinstance(v, str) and bool(v), "text"),
    "run_in": (lambda v: v in RUN_IN, "one of 'process', 'thread'"),
    "timeout": (
        lambda v: _is_number(v) and 0 < v <= MAX_TIMEOUT_S,
        f"a number of seconds, above 0 and up to {MAX_TIMEOUT_S}",
    ),
    "retries": (
        lambda v: _is_number(v) and isinstance(v, int) and 0 <= v <= MAX_RETRIES,
        f"a whole number from 0 to {MAX_RETRIES}",
    ),
}


def build(document: Document, settings: Sequence[Setting] = ()) -> Definition:
    """Look up, check and make the stages of a document.

    Args:
        settings: What ``--set`` changes in it.

    Raises:
        DefinitionProblem: With every fault of the document. Nothing has been run but the stages' own constructors.
    """
    drafts = [_Draft(document, number, step) for number, step in enumerate(document.steps, start=1)]
    for draft in drafts:
        draft.look_up()
    if lacks_sink([draft.placed for draft in drafts]):
        drafts.append(_sink_draft(document, drafts))
    faults = [*document.faults, *apply_settings(settings, drafts)]
    planned = [draft.build() for draft in drafts]
    for draft in drafts:
        faults += draft.faults
    order = [draft.placed for draft in drafts]
    if lacks_sink(order):  # only a function's stage, built by now, could not be known before
        planned.append(_sink_draft(document, drafts).build())
    for number, words in order_faults(order):
        if number is None:
            faults.append(Fault(document.place, "order", words))
        elif drafts[number].step.is_appended:
            continue  # nobody has written it: what made it necessary has been said
        else:
            faults.append(Fault(drafts[number].step.place, "order", words, drafts[number].label))
    if faults:
        raise DefinitionProblem(faults)
    return Definition(document.name, document.origin, tuple(stage for stage in planned if stage is not None))


def _sink_draft(document: Document, drafts: Sequence[_Draft]) -> _Draft:
    step = Step({"use": SINK}, drafts[-1].step.place, is_appended=True)
    draft = _Draft(document, len(drafts) + 1, step)
    draft.look_up()
    return draft


@dataclass
class _Draft:
    """One stage on its way from a step to a plan."""

    document: Document
    number: int
    step: Step

    def __post_init__(self) -> None:
        self.label = label_of(self.number, self.step.table)
        if self.step.stage is not None:
            self.label = f"stage '{PlannedStage(self.step.stage, str(self.step.table['use'])).label}'"
        self.factory: Any = None
        self.faults: list[Fault] = []
        self._wrong: set[str | int] = set()  # the keys that have a fault
        self._located: dict[str, Any] = {}  # the objects that options name, each imported once
        self._built: PipelineStage | None = self.step.stage

    @property
    def name(self) -> str:
        """What other messages call it."""
        name = self.step.table.get("name") or getattr(self._built, "name", None) or self.step.table.get("use")
        return name if isinstance(name, str) and name else f"number {self.number}"

    @property
    def placed(self) -> Placed:
        shape = self._built if self._built is not None else self.factory
        if isinstance(shape, _Given):
            shape = shape.stage
        is_known = isinstance(shape, PipelineStage) or (isinstance(shape, type) and issubclass(shape, PipelineStage))
        return Placed(self.name, shape if is_known else None)

    def look_up(self) -> None:
        """Find what ``use`` names. The other keys may still be changed after this."""
        step = self.step
        if step.stage is not None:
            return
        if "use" not in step.table:
            self.fault((), "missing", "'use' is missing; it says which stage this is")
            return
        use = step.table["use"]
        if not RESERVED["use"][0](use):
            return  # said by the check of all reserved keys
        try:
            found = step.factory if step.factory is not None else find_stage(use, self.document.folder)
        except ResolveProblem as ex:
            self.fault(("use",), "stage", str(ex))
            return
        if isinstance(found, PipelineStage) and not is_filter(found):
            self.factory = _Given(found)
        elif not callable(found):
            self.fault(("use",), "stage", f"'{shown(use)}' is {type(found).__name__}, not a stage")
        elif isinstance(found, type) and not issubclass(found, PipelineStage):
            self.fault(("use",), "stage", f"'{shown(use)}' is a class, but not one of stages")
        else:
            self.factory = found

    def build(self) -> PlannedStage | None:
        """Check the keys and make the stage; None where there is a fault."""
        table = self.step.table
        if self.step.stage is not None:
            return PlannedStage(self.step.stage, str(table["use"]))
        for key, (is_right, expected) in RESERVED.items():
            value = table.get(key)
            if isinstance(value, Word):
                value = table[key] = word_value(value, str if key in ("name", "run_in") else Any)
            if key in table and not is_right(value):
                self.fault((key,), "type", f"'{key}' must be {expected}, not {describe_value(value)}")
        if self.factory is None:
            return None
        written = {key: value for key, value in table.items() if key not in RESERVED}
        known = {option.name: option for option in describe_options(self.factory)}
        function, of_function = self._function_options(written, known)
        hints = {name: option.annotation for name, option in (of_function | known).items()}
        word_hints = {name: option.word_annotation for name, option in (of_function | known).items()}
        options = {key: self._value(key, value, word_hints.get(key, Any)) for key, value in written.items()}
        unset = set(self._wrong)  # an unset variable's value is judged no further
        for path, kind, words in option_faults(self.factory, options):
            if not path or path[0] not in unset:
                self.fault(path, kind, words)
        given = {key: value for key, value in options.items() if key in of_function}
        for path, kind, words in option_faults(function, given) if given else ():
            if kind in ("type", "range") and path[0] not in unset:  # of the rest the stage itself tells
                self.fault(path, kind, words)
        found = {key: self._found(key, value) for key, value in options.items() if key not in self._wrong}
        right = {key: as_declared(value, hints.get(key, Any)) for key, value in found.items() if key not in self._wrong}
        had_faults = bool(self.faults)
        # Also where something is wrong: its class may find more to say of the other options.
        is_whole = all(name in right for name, option in known.items() if option.is_required)
        is_whole = is_whole and self._wrong.isdisjoint(of_function)
        stage = self._make(right) if is_whole else None
        if stage is None or had_faults:
            return None
        try:
            self._apply_reserved(stage)
        except Exception as ex:  # noqa: BLE001 - what a user's class says of itself may raise anything
            self.fault((), "stage", f"it cannot be used: {type(ex).__name__}: {ex}")
            return None
        self._built = stage
        shown_options = {key: written[key] if has_variable(written[key]) else options[key] for key in options}
        return PlannedStage(stage, table["use"], options, self.step.is_appended, shown_options)

    def _value(self, key: str, value: Any, hint: Any) -> Any:
        """An option's value with variables filled in; a bare word becomes what the option takes."""
        if key not in self.step.set_keys:
            value = expand(value, os.environ, lambda path, words: self.fault((key, *path), "variable", words))
        return word_value(value, hint) if isinstance(value, Word) else value

    def _function_options(
        self, written: Mapping[str, Any], known: Mapping[str, Option]
    ) -> tuple[Any, dict[str, Option]]:
        """The function that an option names, and what may be given to it besides: its annotations hold for that."""
        for key in getattr(self.factory, "object_options", ()):
            value = written.get(key)
            if isinstance(value, str) and not has_variable(value):
                function = self._located[key] = self._found(key, value)
                if key in self._wrong or not callable(function):
                    continue
                options = describe_options(function)
                if not is_filter(function):
                    options = options[1:]  # the first is the data
                return function, {option.name: option for option in options if option.name not in known}
        return None, {}

    def _found(self, key: str, value: Any) -> Any:
        if key in self._located:
            return self._located[key]
        # What was typed on the command line is meant from where it was typed.
        folder = os.getcwd() if key in self.step.set_keys else self.document.folder
        try:
            return located(self.factory, key, value, folder)
        except OptionProblem as ex:
            self.fault((key,), "value", str(ex))
            return value

    def _make(self, options: Mapping[str, Any]) -> PipelineStage | None:
        factory = self.factory
        try:
            stage = factory(**options)
        except (Exception, SystemExit) as ex:  # noqa: BLE001 - a user's class may raise anything; it is that stage's fault
            for name, words in build_faults(factory, options, ex, is_all=not self._wrong):
                self.fault(() if name is None else (name,), "value", words)
            return None
        if not isinstance(stage, PipelineStage):
            self.fault(("use",), "stage", f"it gives {type(stage).__name__}, not a stage")
            return None
        return stage

    def _apply_reserved(self, stage: PipelineStage) -> None:
        table = self.step.table
        for key in ("name", "timeout", "retries"):
            if key in table:
                setattr(stage, key, table[key])
        is_subprocess = stage.is_subprocess
        if "run_in" in table:
            where = table["run_in"]
            if hasattr(stage, "run_in"):
                stage.run_in = where
            is_subprocess = stage.is_subprocess
            if is_subprocess != (where == "process"):
                self.fault(("run_in",), "value", f"this stage cannot run in a {where}")
        if "timeout" in table and not is_subprocess:
            self.fault(("timeout",), "value", "'timeout' needs a stage that runs in a process")

    def fault(self, path: Path, kind: str, words: str) -> None:
        """Note what is wrong with a key of this stage."""
        self._wrong.update(path[:1])
        self.faults.append(Fault(self.step.place_of(*path), kind, words, self.label))


class _Given:
    """Stands for a stage that is an object already: it takes no options."""

    def __init__(self, stage: PipelineStage) -> None:
        self.stage = stage

    def __call__(self) -> PipelineStage:
        # The same object may stand in the list twice under two names.
        return copy.copy(self.stage)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
