"""A pipeline from a TOML stage list. All that is wrong with a file is reported at once, each with its line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from atbu.mp_pipeline.stage import PipelineStage

from .errors import UsageProblem, listed, nearest, one_line, shown
from .options import OptionProblem, build_faults, describe_value, located, option_faults
from .planned import Definition, PlannedStage
from .resolve import ResolveProblem, find_stage
from .toml_lines import Path, key_lines

_TOP_KEYS: Final = ("name", "stage")
_RUN_IN: Final = ("process", "thread")
#: Keys of a stage that are not options of its class, with what each must be.
_RESERVED: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "use": (lambda v: isinstance(v, str) and bool(v), "a stage's name, 'module:object' or './file.py:object'"),
    "name": (lambda v: isinstance(v, str) and bool(v), "text"),
    "run_in": (lambda v: v in _RUN_IN, "one of 'process', 'thread'"),
    "timeout": (lambda v: _is_number(v) and v > 0, "a number of seconds above 0"),
    "retries": (lambda v: _is_number(v) and isinstance(v, int) and v >= 0, "a whole number from 0 up"),
}


def load_toml(path: str) -> Definition:
    """Read, check and build the pipeline that the file ``path`` defines.

    Raises:
        UsageProblem: One line for each fault: ``file:line: stage 'x': what is wrong``.
    """
    text = _read(path)
    document, lines = _parse(path, text)
    return _Loader(path, document, lines).load()


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as ex:
        raise UsageProblem(f"{shown(path)}: {ex.strerror}{_file_hint(path)}") from ex
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as ex:
        line = data.count(b"\n", 0, ex.start) + 1
        raise UsageProblem(f"{shown(path)}:{line}: a byte that is not UTF-8") from ex


def _parse(path: str, text: str) -> tuple[dict[str, Any], dict[Path, int]]:
    import tomllib  # costs 5 ms; a ready-made pipeline does without

    try:
        return tomllib.loads(text), key_lines(text.replace("\r\n", "\n"))
    except ValueError as ex:
        words, line = _without_position(str(ex), text)
        raise UsageProblem(f"{shown(path)}:{line}: {one_line(words)}") from ex
    except RecursionError as ex:
        raise UsageProblem(f"{shown(path)}:1: nested too deeply") from ex


def _without_position(words: str, text: str) -> tuple[str, int]:
    """Split tomllib's ``… (at line 3, column 5)`` into its words and the line."""
    words, _, position = words.partition(" (at ")
    number = position.removeprefix("line ").partition(",")[0]
    if number.isdecimal():
        return words, int(number)
    return words, text.rstrip("\n").count("\n") + 1 if position else 1


def _file_hint(path: str) -> str:
    try:
        files = [name for name in os.listdir(os.path.dirname(path) or ".") if name.endswith(".toml")]
    except OSError:
        return ""
    return nearest(os.path.basename(path), files)


class _Loader:
    """Builds one file's stages and collects its faults on the way."""

    def __init__(self, path: str, document: dict[str, Any], lines: dict[Path, int]) -> None:
        self._path = path
        self._document = document
        self._lines = lines
        self._faults: list[tuple[int, str]] = []

    def load(self) -> Definition:
        for key in self._document:
            if key not in _TOP_KEYS:
                hint = nearest(key, _TOP_KEYS) or f"; there are {listed(_TOP_KEYS)}"
                self._fault((key,), f"'{shown(key)}' is not a key of a pipeline{hint}")
        name = self._document.get("name", os.path.basename(self._path).removesuffix(".toml"))
        if not isinstance(name, str):
            self._fault(("name",), f"'name' must be text, not {describe_value(name)}")
        planned = [self._stage(number, table) for number, table in enumerate(self._tables())]
        if self._faults:
            where = shown(self._path)
            raise UsageProblem(*(f"{where}:{line}: {one_line(words)}" for line, words in sorted(self._faults)))
        return Definition(name, self._path, tuple(stage for stage in planned if stage is not None))

    def _tables(self) -> list[Any]:
        tables = self._document.get("stage")
        if isinstance(tables, list) and tables:
            return tables
        if tables is None or tables == []:
            self._fault((), "it has no stages; each begins with [[stage]]")
        else:
            self._fault(("stage",), "each stage begins with [[stage]], in double brackets")
        return []

    def _stage(self, number: int, table: Any) -> PlannedStage | None:
        place: Path = ("stage", number)
        if not isinstance(table, dict):
            self._fault(place, f"stage number {number + 1} must be a table, not {describe_value(table)}")
            return None
        label = _label(number, table)
        faults_before = len(self._faults)
        for key, (is_right, expected) in _RESERVED.items():
            if key in table and not is_right(table[key]):
                self._fault((*place, key), f"{label}: '{key}' must be {expected}, not {describe_value(table[key])}")
        if "use" not in table:
            self._fault(place, f"{label}: 'use' is missing; it says which stage this is")
        factory = self._factory(place, label, table.get("use"))
        if factory is None:
            return None
        options = {key: value for key, value in table.items() if key not in _RESERVED}
        self._check_options(place, label, factory, options)
        stage = self._build(place, label, factory, options) if len(self._faults) == faults_before else None
        if stage is None:
            return None
        self._apply_reserved(place, label, stage, table)
        return PlannedStage(stage, table["use"], options)

    def _factory(self, place: Path, label: str, use: Any) -> Callable[..., Any] | None:
        if not isinstance(use, str) or not use:
            return None
        try:
            found = find_stage(use, os.path.dirname(os.path.abspath(self._path)))
        except ResolveProblem as ex:
            self._fault((*place, "use"), f"{label}: {ex}")
            return None
        if isinstance(found, PipelineStage):
            return _Given(found)
        if not callable(found):
            self._fault((*place, "use"), f"{label}: '{shown(use)}' is {type(found).__name__}, not a stage")
            return None
        return found  # type: ignore[no-any-return]

    def _check_options(self, place: Path, label: str, factory: Callable[..., Any], options: dict[str, Any]) -> None:
        for name, words in option_faults(factory, options):
            self._fault(place if name is None else (*place, name), f"{label}: {words}")

    def _build(
        self, place: Path, label: str, factory: Callable[..., Any], options: dict[str, Any]
    ) -> PipelineStage | None:
        try:
            options = located(factory, options, os.path.dirname(os.path.abspath(self._path)))
            stage = factory(**options)
        except OptionProblem as ex:
            self._fault((*place, ex.option), f"{label}: {ex.words}")
            return None
        except Exception as ex:  # noqa: BLE001 - a user's class may raise anything; it is that stage's fault
            for name, words in build_faults(factory, options, ex):
                self._fault(place if name is None else (*place, name), f"{label}: {words}")
            return None
        if not isinstance(stage, PipelineStage):
            self._fault((*place, "use"), f"{label}: it gives {type(stage).__name__}, not a stage")
            return None
        return stage

    def _apply_reserved(self, place: Path, label: str, stage: PipelineStage, table: dict[str, Any]) -> None:
        for key, value in (("name", table.get("name")), ("timeout", table.get("timeout"))):
            if value is not None:
                setattr(stage, key, value)
        if "retries" in table:
            stage.retries = table["retries"]
        if "run_in" in table:
            self._run_in(place, label, stage, table["run_in"])
        if "timeout" in table and not stage.is_subprocess:
            self._fault((*place, "timeout"), f"{label}: 'timeout' needs a stage that runs in a process")

    def _run_in(self, place: Path, label: str, stage: PipelineStage, where: str) -> None:
        if hasattr(stage, "run_in"):
            stage.run_in = where
        if stage.is_subprocess != (where == "process"):
            self._fault((*place, "run_in"), f"{label}: this stage cannot run in a {where}")

    def _fault(self, place: Path, words: str) -> None:
        while place and place not in self._lines:
            place = place[:-1]
        self._faults.append((self._lines.get(place, 1), words))


class _Given:
    """Stands for a stage that is an object already: it takes no options."""

    def __init__(self, stage: PipelineStage) -> None:
        self._stage = stage

    def __call__(self) -> PipelineStage:
        import copy

        # The same object may stand in the list twice under two names.
        return copy.copy(self._stage)


def _label(number: int, table: Mapping[str, Any]) -> str:
    for key in ("name", "use"):
        value = table.get(key)
        if isinstance(value, str) and value:
            return f"stage '{shown(value)}'"
    return f"stage number {number + 1}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
