"""A pipeline from a TOML stage list: the file's text and its form. What it means is :mod:`.building`'s."""

from __future__ import annotations

import os
from typing import Any, Final

from .document import Document, Path, Step
from .errors import UsageProblem, listed, nearest, shown
from .faults import DefinitionProblem, Fault, Place
from .options import describe_value
from .toml_lines import key_lines

TOP_KEYS: Final = ("name", "stage")
#: What tomllib says where it helps nobody.
_CLEARER: Final = {"Cannot overwrite a value": "this key is there twice"}


def read_toml(path: str) -> Document:
    """Read the file ``path``.

    Raises:
        UsageProblem: It cannot be read, or is no TOML. A wrong form of the document is among its faults instead.
    """
    text = _read(path)
    data, lines = _parse(path, text)
    return document_of_tables(path, data, lines)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as ex:  # ValueError: a NUL in the name
        reason = ex.strerror if isinstance(ex, OSError) else ex
        hint = _file_hint(path) if isinstance(ex, FileNotFoundError) else ""
        raise UsageProblem(f"{shown(path)}: {reason}{hint}") from ex
    try:
        return data.decode("utf-8-sig")  # some editors put a mark at the beginning
    except UnicodeDecodeError as ex:
        line = data.count(b"\n", 0, ex.start) + 1
        raise _syntax_problem(path, line, "a byte that is not UTF-8") from ex


def _parse(path: str, text: str) -> tuple[dict[str, Any], dict[Path, int]]:
    import tomllib  # costs 5 ms; a ready-made pipeline does without

    try:
        return tomllib.loads(text), key_lines(text.replace("\r\n", "\n"))
    except ValueError as ex:
        words, line = _without_position(str(ex), text)
        raise _syntax_problem(path, line, words) from ex
    except RecursionError as ex:
        raise _syntax_problem(path, 1, "nested too deeply") from ex


def _syntax_problem(path: str, line: int, words: str) -> DefinitionProblem:
    return DefinitionProblem([Fault(Place(path, line), "syntax", words)])


def _without_position(words: str, text: str) -> tuple[str, int]:
    """Split tomllib's ``… (at line 3, column 5)`` into its words and the line."""
    words, _, position = words.partition(" (at ")
    words = _CLEARER.get(words, words)
    number = position.removeprefix("line ").partition(",")[0]
    if number.isdecimal():
        return words, int(number)
    return words, text.rstrip("\n").count("\n") + 1 if position else 1


def _file_hint(path: str) -> str:
    try:
        files = [name for name in os.listdir(os.path.dirname(path) or ".") if name.endswith(".toml")]
    except (OSError, ValueError):
        return ""
    return nearest(os.path.basename(path), files)


def document_of_tables(path: str, data: dict[str, Any], lines: dict[Path, int]) -> Document:
    """The document of what ``tomllib`` gave; ``lines`` are those of :func:`.toml_lines.key_lines`."""
    places = {key: Place(path, line) for key, line in lines.items()}
    whole = Place(path, 1)
    folder = os.path.dirname(os.path.abspath(path))
    document = Document(os.path.basename(path).removesuffix(".toml"), path, whole, folder)

    def fault(key_path: Path, kind: str, words: str) -> None:
        document.faults.append(Fault(places.get(key_path, whole), kind, words))

    for key in data:
        if key not in TOP_KEYS:
            hint = nearest(key, TOP_KEYS) or f"; there are {listed(TOP_KEYS)}"
            fault((key,), "unknown", f"'{shown(key)}' is not a key of a pipeline{hint}")
    name = data.get("name", document.name)
    if isinstance(name, str):
        document.name = name
    else:
        fault(("name",), "type", f"'name' must be text, not {describe_value(name)}")
    tables = data.get("stage", [])
    if not isinstance(tables, list):
        fault(("stage",), "type", "each stage begins with [[stage]], in double brackets")
        return document
    if not tables:
        fault(("stage",), "missing", "it has no stages; each begins with [[stage]]")
    by_stage: dict[Any, dict[Path, Place]] = {}
    for path_of_key, place in places.items():
        if path_of_key[0] == "stage" and len(path_of_key) > 2:
            by_stage.setdefault(path_of_key[1], {})[path_of_key[2:]] = place
    for number, table in enumerate(tables):
        place = places.get(("stage", number), whole)
        if isinstance(table, dict):
            document.steps.append(Step(table, place, by_stage.get(number, {})))
        else:
            words = f"stage number {number + 1} must be a table, not {describe_value(table)}"
            document.faults.append(Fault(place, "type", words))
    return document
