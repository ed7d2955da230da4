"""Options given to a stage, held against what its class or function declares."""

from __future__ import annotations

import inspect
import os
import pathlib
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from mpp_stages.checks import Between
from mpp_stages.options import Option, describe_options, takes_any_option

from .errors import listed, nearest, shown

_PLAIN_TYPES: Final[Mapping[Any, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
    type(None): "nothing",
}
#: Hints that say nothing about a value.
_ANYTHING: Final = (Any, inspect.Parameter.empty, object)
#: Beyond, a number is told by its size: Python refuses to write out one of thousands of digits.
_MAX_SHOWN_BITS: Final = 200
_MAX_HINT: Final = 60

#: What is wrong: the place below the stage's table, the kind of :class:`.faults.Fault`, the words.
OptionFault = tuple[tuple[str | int, ...], str, str]


def option_faults(factory: Any, given: Mapping[str, Any]) -> list[OptionFault]:
    """What is wrong with the options given to a stage's class, filter or function, as far as its signature says."""
    known = {option.name: option for option in describe_options(factory)}
    found: list[OptionFault] = []
    for name, value in given.items():
        option = known.get(name)
        if option is not None:
            found.extend(_value_faults(option, value))
        elif not takes_any_option(factory):
            found.append(((name,), "unknown", f"'{shown(name)}' is not an option{_instead(name, known)}"))
    for option in known.values():
        if option.is_required and option.name not in given:
            words = f"the option '{option.name}' ({describe_type(option.annotation)}) is missing"
            found.append(((), "missing", words + as_filter(factory, option)))
    return found


def as_filter(factory: Any, option: Option) -> str:
    """What a plain function's first argument may be that stands without an annotation or default: its data."""
    is_first = isinstance(factory, types.FunctionType) and factory.__code__.co_varnames[:1] == (option.name,)
    if not is_first or option.annotation is not Any:
        return ""
    return "; a function over data needs @line_filter or @chunk_filter, or stands as 'function' in 'lines' or 'chunks'"


def _value_faults(option: Option, value: Any) -> Iterator[OptionFault]:
    name, hint = option.name, option.annotation
    if fits(value, hint):
        for limits in _limits(value, hint):
            problem = limits.problem(name, value)
            if problem is not None:
                yield (name,), "range", problem
        return
    expected = f"'{name}' must be {describe_type(hint)}"
    item = _item_hint(value, hint)
    if item is None:
        yield (name,), "type", f"{expected}, not {describe_value(value)}{_as_list(hint, value)}"
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if not fits(inner, item):
            which = f"'{shown(key)}'" if isinstance(key, str) else f"number {key + 1}"
            yield (name, key), "type", f"{expected}, and {which} is {describe_value(inner)}"


def _as_list(hint: Any, value: Any) -> str:
    """How a text is written where a list of texts is wanted; double quotes, for single ones are often the shell's."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_HINT or not fits([str(value)], hint):
        return ""
    import json  # needed only where something is wrong

    return f"; a list of it is written {json.dumps([str(value)], ensure_ascii=False)}"


def build_faults(
    factory: Callable[..., Any], given: Mapping[str, Any], error: BaseException, *, is_all: bool = True
) -> list[tuple[str | None, str]]:
    """Find which options made ``factory(**given)`` raise ``error``, by giving them one at a time.

    Args:
        is_all: Whether ``given`` are all options that are written; else what is missed may be one of the others.
    """
    required = {
        option.name: given[option.name]
        for option in describe_options(factory)
        if option.is_required and option.name in given
    }
    missed, said = _error_of(factory, required), _text_of(error)
    found: dict[str, str | None] = {}
    for name in given:
        text = _error_of(factory, {**required, name: given[name]})
        # What the factory says without an option is no fault of that option: it misses another one.
        if text is None or (text == missed and name not in required):
            continue
        # A required option that is wrong fails each of these calls with the same words.
        if text not in found or name in required:
            found[text] = name
    if said not in found and (is_all or said != missed):
        without = [name for name in given if _error_of(factory, {k: v for k, v in given.items() if k != name}) is None]
        found[said] = without[0] if len(without) == 1 else None
    return [(name, text) for text, name in found.items()]


def _error_of(factory: Callable[..., Any], options: Mapping[str, Any]) -> str | None:
    """What ``factory`` raises with these options; None if nothing."""
    try:
        factory(**options)
    except (Exception, SystemExit) as ex:  # noqa: BLE001 - whatever a user's class raises is a fault of the definition
        return _text_of(ex)
    return None


def _text_of(error: BaseException) -> str:
    return str(error) or type(error).__name__


def fits(value: Any, hint: Any) -> bool:
    """Say whether a value from TOML is of the annotated type. A type that TOML cannot hold is not judged."""
    if hint in _ANYTHING:
        return True
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, arg) for arg in toml_kinds(hint))
    if origin is typing.Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    if origin is typing.Annotated:
        return fits(value, args[0])
    plain = plain_type(hint)
    if plain is list:
        return isinstance(value, list) and (not args or all(fits(item, args[0]) for item in value))
    if plain is dict:
        return isinstance(value, dict) and (len(args) < 2 or all(fits(item, args[1]) for item in value.values()))
    if plain is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if plain is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, plain) if plain in _PLAIN_TYPES else True


def _limits(value: Any, hint: Any) -> Iterator[Between]:
    """The range that a fitting number has to be in."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        hint = next(arg for arg in toml_kinds(hint) if fits(value, arg))
        yield from _limits(value, hint)
    elif origin is typing.Annotated:
        yield from (limits for limits in args[1:] if isinstance(limits, Between))


def _item_hint(value: Any, hint: Any) -> Any:
    """What the elements must be where a list or table is wanted and there, so that an element must be wrong."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return next((item for arg in args if (item := _item_hint(value, arg)) is not None), None)
    if origin is typing.Annotated:
        return _item_hint(value, args[0])
    plain = plain_type(hint)
    if plain is list and isinstance(value, list) and args:
        return args[0]
    return args[1] if plain is dict and isinstance(value, dict) and len(args) == 2 else None


def as_declared(value: Any, hint: Any) -> Any:
    """A fitting value as the type that its annotation names, where TOML does not have that type: a path, a tuple."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = toml_kinds(hint)
        return as_declared(value, kinds[0]) if len(kinds) == 1 else value
    origin = typing.get_origin(hint) or hint
    if isinstance(value, str) and origin in (pathlib.Path, pathlib.PurePath, os.PathLike):
        return pathlib.Path(value)
    return origin(value) if isinstance(value, list) and origin in (tuple, set, frozenset) else value


def describe_type(hint: Any) -> str:
    """Words for an annotation: ``a whole number``, ``one of 'a', 'b'``."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        words = [describe_type(arg) for arg in toml_kinds(hint)]
        return " or ".join(dict.fromkeys(words))
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(arg) for arg in args)
    if origin is typing.Annotated:
        words_of = describe_type(args[0])
        limits = next((limits for limits in args[1:] if isinstance(limits, Between)), None)
        return words_of if limits is None else f"{words_of} from {limits.low} to {limits.high}"
    plain = plain_type(hint)
    item = args[0] if plain is list and args else args[1] if plain is dict and len(args) == 2 else Any
    if item not in _ANYTHING:
        return f"{_PLAIN_TYPES[plain]} ({describe_type(item)} each)"
    if plain in _PLAIN_TYPES:
        return _PLAIN_TYPES[plain]
    return "any value" if hint in _ANYTHING else getattr(hint, "__name__", str(hint))


def describe_value(value: Any) -> str:
    """Words for a value that is wrong."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return _PLAIN_TYPES[type(value)]
    if isinstance(value, int) and value.bit_length() > _MAX_SHOWN_BITS:
        return f"a number of {value.bit_length()} bits"
    text = repr(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def toml_kinds(hint: Any) -> list[Any]:
    """The members of a union that TOML can write; the others are for callers in Python."""
    return [arg for arg in typing.get_args(hint) if arg is not type(None) and typing.get_origin(arg) is not Callable]


def plain_type(hint: Any) -> Any:
    """The type of TOML's that an annotation without arguments means; the annotation itself where it means none."""
    origin = typing.get_origin(hint) or hint
    if origin in (list, tuple, set, frozenset, Sequence, Collection, Iterable):
        return list
    if origin is Mapping:
        return dict
    if isinstance(origin, type) and issubclass(origin, os.PathLike):
        return str
    return origin


def _instead(wrong: str, known: Collection[str]) -> str:
    if not known:
        return "; it has none"
    return nearest(wrong, known) or f"; its options are {listed(known)}"
