"""Options given to a stage, held against what its class or function declares."""

from __future__ import annotations

import inspect
import os
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from mpp_stages.options import describe_options

from .errors import listed, nearest, shown
from .resolve import ResolveProblem, load_object, split_reference

_PLAIN_TYPES: Final[Mapping[Any, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
    tuple: "a list",
    type(None): "nothing",
}


def option_faults(factory: Any, given: Mapping[str, Any]) -> list[tuple[str | None, str]]:
    """What is wrong with the options given to a stage's class or filter: (option, or None if missing; words)."""
    known = {option.name: option for option in describe_options(factory)}
    found: list[tuple[str | None, str]] = []
    for name, value in given.items():
        option = known.get(name)
        if option is None:
            if not _takes_any(factory):
                found.append((name, f"'{shown(name)}' is not an option{_instead(name, known)}"))
        elif not fits(value, option.annotation):
            expected = describe_type(option.annotation)
            found.append((name, f"'{name}' must be {expected}, not {describe_value(value)}"))
    found.extend(
        (None, f"the option '{option.name}' ({describe_type(option.annotation)}) is missing")
        for option in known.values()
        if option.is_required and option.name not in given
    )
    return found


def located(factory: Any, given: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The options with what they name found: paths from ``folder`` on, objects loaded.

    Raises:
        OptionProblem: An object cannot be loaded.
    """
    found = dict(given)
    for name, value in given.items():
        if not isinstance(value, str):
            continue
        if name in getattr(factory, "path_options", ()):
            found[name] = os.path.join(folder, value)
        elif name in getattr(factory, "pattern_options", ()):
            found[name] = os.path.join(folder.replace("{", "{{").replace("}", "}}"), value)
        elif name in getattr(factory, "object_options", ()):
            found[name] = _load(name, value, folder)
    return found


def _load(option: str, value: str, folder: str) -> Any:
    reference = split_reference(value)
    if reference is None:
        raise OptionProblem(option, f"'{option}' must be 'module:object' or './file.py:object', not '{shown(value)}'")
    try:
        return load_object(*reference, folder)
    except ResolveProblem as ex:
        raise OptionProblem(option, f"'{option}': {ex}") from ex


class OptionProblem(Exception):
    """What an option names cannot be had."""

    def __init__(self, option: str, words: str) -> None:
        super().__init__(option, words)
        self.option = option
        self.words = words


def build_faults(
    factory: Callable[..., Any], given: Mapping[str, Any], error: Exception
) -> list[tuple[str | None, str]]:
    """Find which options made ``factory(**given)`` raise ``error``, by giving them one at a time."""
    required = {
        option.name: given[option.name]
        for option in describe_options(factory)
        if option.is_required and option.name in given
    }
    found: dict[str, str | None] = {}
    for name in given:
        try:
            factory(**{**required, name: given[name]})
        except Exception as ex:  # noqa: BLE001 - whatever a user's class raises is a fault of this option
            text = str(ex) or type(ex).__name__
            # A required option that is wrong fails each of these calls with the same words.
            if text not in found or name in required:
                found[text] = name
    return [(name, text) for text, name in found.items()] or [(None, str(error) or type(error).__name__)]


def fits(value: Any, hint: Any) -> bool:
    """Say whether a value from TOML is of the annotated type. A type that TOML cannot hold is not judged."""
    if hint in (Any, inspect.Parameter.empty, object):
        return True
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, arg) for arg in args if typing.get_origin(arg) is not Callable)
    if origin is typing.Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    if origin is typing.Annotated:
        return fits(value, args[0])
    plain = _plain(hint)
    if plain in (list, tuple):
        items = [arg for arg in args if arg is not Ellipsis]
        return isinstance(value, list) and (not items or all(fits(item, items[0]) for item in value))
    if plain is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if plain is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, plain) if plain in _PLAIN_TYPES else True


def describe_type(hint: Any) -> str:
    """Words for an annotation: ``a whole number``, ``one of 'a', 'b'``."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        # What TOML cannot hold is for callers in Python.
        kinds = [arg for arg in args if arg is not type(None) and typing.get_origin(arg) is not Callable]
        return " or ".join(describe_type(arg) for arg in kinds)
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(arg) for arg in args)
    if origin is typing.Annotated:
        return describe_type(args[0])
    plain = _plain(hint)
    items = [arg for arg in args if arg is not Ellipsis]
    if plain in (list, tuple) and items:
        return f"a list ({describe_type(items[0])} each)"
    if plain in _PLAIN_TYPES:
        return _PLAIN_TYPES[plain]
    return "any value" if hint in (Any, inspect.Parameter.empty) else getattr(hint, "__name__", str(hint))


def describe_value(value: Any) -> str:
    """Words for a value that has the wrong type."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return _PLAIN_TYPES[type(value)]
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(hint: Any) -> Any:
    origin = typing.get_origin(hint) or hint
    if origin is Sequence:
        return list
    if origin is Mapping:
        return dict
    return origin


def _takes_any(factory: Any) -> bool:
    """Whether it has ``**options`` and so must judge their names itself."""
    function = getattr(factory, "function", None) or factory.__init__
    parameters = inspect.signature(function).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _instead(wrong: str, known: Collection[str]) -> str:
    if not known:
        return "; it has none"
    return nearest(wrong, known) or f"; its options are {listed(known)}"
