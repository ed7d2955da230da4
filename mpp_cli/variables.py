"""Environment variables in the values of options: ``${NAME}``, and nothing else that begins with a dollar sign."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from .document import Path, Word
from .errors import nearest

_REFERENCE: Final = re.compile(r"(\$+)\{([^}]*)(\}?)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def expand(value: Any, environment: Mapping[str, str], complain: Callable[[Path, str], None]) -> Any:
    """Put the variables' values into every text in ``value``; a table's keys stay as they are.

    Of several dollar signs before a brace each two stand for one: ``$${X}`` gives ``${X}``.

    Args:
        complain: Told the place in ``value`` and the words of each fault.
    """
    return _expand((), value, environment, complain)


def _expand(path: Path, value: Any, environment: Mapping[str, str], complain: Callable[[Path, str], None]) -> Any:
    if isinstance(value, str):
        if "${" not in value:
            return value
        faults: list[str] = []
        text = _REFERENCE.sub(lambda found: _replaced(found, environment, faults), value)
        for words in faults:
            complain(path, words)
        return Word(text) if isinstance(value, Word) else text
    if isinstance(value, list):
        return [_expand((*path, number), inner, environment, complain) for number, inner in enumerate(value)]
    if isinstance(value, dict):
        return {key: _expand((*path, key), inner, environment, complain) for key, inner in value.items()}
    return value


def _replaced(found: re.Match[str], environment: Mapping[str, str], faults: list[str]) -> str:
    dollars, name, end = found.groups()
    literal = "$" * (len(dollars) // 2)
    if len(dollars) % 2 == 0:
        return f"{literal}{{{name}{end}"
    if not end or not _NAME.fullmatch(name):
        written = f"${{{name}{end}"
        faults.append(f"'{written}' names no environment variable; write '${written}' for these characters themselves")
    elif name not in environment:
        faults.append(f"the environment variable '{name}' is not set{nearest(name, environment, 0.75)}")
    else:
        return literal + environment[name]
    return ""


def has_variable(value: Any) -> bool:
    """Whether some text in ``value`` takes a variable's value."""
    return any(len(found[1]) % 2 for text in _texts(value) for found in _REFERENCE.finditer(text))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
