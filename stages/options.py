"""The options of a stage: the keyword parameters of its class, or of its function where it is a filter."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

_ARGUMENT: Final = re.compile(r"(?P<name>\w+)(?: \([^)]*\))?:\s*(?P<text>.*)")
#: Stands for the default of an option that has to be given.
REQUIRED: Final = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Option:
    """One option. ``default`` is :data:`REQUIRED` where there is none; ``doc`` is one line, without markup."""

    name: str
    annotation: Any
    default: Any
    doc: str

    @property
    def is_required(self) -> bool:
        return self.default is REQUIRED


def describe_options(stage: Any) -> list[Option]:
    """What can be set on ``stage``, a stage class or a decorated filter function, in its own order.

    Annotations are resolved to types where they can be; one that cannot, or is missing, is ``typing.Any``.
    """
    filter_function = getattr(stage, "function", None)
    function: Callable[..., Any] = stage.__init__ if filter_function is None else filter_function
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError, SyntaxError):
        hints = {}
    docs = argument_docs(inspect.getdoc(stage if filter_function is None else filter_function))
    found = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            name = parameter.name
            found.append(Option(name, hints.get(name, Any), parameter.default, docs.get(name, "")))
    return found


def argument_docs(docstring: str | None) -> dict[str, str]:
    """The texts of an ``Args:`` section by parameter name."""
    docs: dict[str, str] = {}
    lines = iter((docstring or "").splitlines())
    section = next((_depth(line) for line in lines if line.strip() == "Args:"), None)
    if section is None:
        return docs
    entries: int | None = None  # the depth at which the parameters stand
    current = ""
    for line in lines:
        if not line.strip():
            continue
        if _depth(line) <= section:
            break
        entries = _depth(line) if entries is None else entries
        start = _ARGUMENT.fullmatch(line.strip())
        if start is not None and _depth(line) == entries:
            current = start["name"]
            docs[current] = start["text"]
        elif current:
            docs[current] += f" {line.strip()}"
    return {name: text.replace("``", "").strip() for name, text in docs.items()}


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


__all__ = ["REQUIRED", "Option", "argument_docs", "describe_options"]
