"""The options of a stage: the keyword parameters of its class, or of the function that it is made of or by."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

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

    @property
    def word_annotation(self) -> Any:
        """What a word without quotes is read for: where no annotation says so, a default that is text does."""
        return str if self.annotation is Any and isinstance(self.default, str) else self.annotation


def describe_options(stage: Any) -> list[Option]:
    """What can be set on ``stage``, in its own order: a class, a filter, or a function that gives a stage.

    Annotations are resolved to types where they can be, ``Annotated`` included; one that cannot, or is missing, is
    ``typing.Any``.
    """
    function, documented = _signature_holder(stage)
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError):
        hints = {}
    docs = argument_docs(inspect.getdoc(documented))
    found = []
    for parameter in _parameters(stage):
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            name = parameter.name
            found.append(Option(name, hints.get(name, Any), parameter.default, docs.get(name, "")))
    return found


def takes_any_option(stage: Any) -> bool:
    """Whether it has ``**options``, and so must judge their names itself."""
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in _parameters(stage))


def is_filter(stage: Any) -> bool:
    """Whether it was made by ``@chunk_filter`` or ``@line_filter``: called, it gives a stage."""
    return not isinstance(stage, type) and callable(stage) and callable(getattr(stage, "function", None))


def _signature_holder(stage: Any) -> tuple[Callable[..., Any], Any]:
    """Whose parameters the options are, and whose docstring describes them."""
    # A filter, or a stage that applies one: its options are the function's.
    if not isinstance(stage, type) and callable(getattr(stage, "function", None)):
        return stage.function, stage.function
    return (cast(Any, stage).__init__ if isinstance(stage, type) else stage), stage


def _parameters(stage: Any) -> list[inspect.Parameter]:
    holder, _ = _signature_holder(stage)
    try:
        parameters = list(inspect.signature(holder).parameters.values())
    except (TypeError, ValueError):  # some of C's callables do not tell
        return [inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)]
    # The first one of a method is the stage, that of a filter's function the data.
    return parameters if holder is stage else parameters[1:]


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


__all__ = ["REQUIRED", "Option", "argument_docs", "describe_options", "is_filter", "takes_any_option"]
