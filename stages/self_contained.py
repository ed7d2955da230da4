"""Functions that can keep nothing from one call to the next, as their code proves, and so may run anywhere.

What such a function can reach is its arguments, which are immutable, what it makes of them, constants, and built-in
functions that keep nothing themselves. It is sent as code: nobody imports its module once more.
"""

from __future__ import annotations

import builtins
import marshal
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any, Final

_IMMUTABLE: Final = (type(None), bool, int, float, str, bytes)
#: Neither these nor what they make has a way to anything that lives longer than a call. Not among them: what writes,
#: reads, looks names up, or gives another answer in another process, as hash() and id() do.
_BUILTINS: Final = (
    "abs all any ascii bin bool bytearray bytes chr dict divmod enumerate filter float frozenset hex int "
    "isinstance len list map max min oct ord pow range repr reversed round set slice sorted str sum tuple zip "
    "ArithmeticError AssertionError AttributeError Exception IndexError KeyError LookupError OverflowError "
    "RuntimeError StopIteration TypeError UnicodeDecodeError UnicodeEncodeError UnicodeError ValueError "
    "ZeroDivisionError"
)
#: str.format finds attributes by itself, and so a way to whatever there is.
_FORBIDDEN: Final = frozenset({"format", "format_map"})
_WITH_METHODS: Final = (bytes, bytearray, str, int, float, list, tuple, dict, set, frozenset)
_REBINDING: Final = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})


def packed_if_self_contained(function: Callable[..., Any], options: Mapping[str, Any]) -> bytes | None:
    """The function as bytes for :func:`unpacked`, or None where its code does not prove that it can keep nothing.

    Args:
        options: With which it will be called, beside immutable values.
    """
    if type(function) is not FunctionType or function.__closure__ is not None:
        return None
    if getattr(function, "__builtins__", None) is not vars(builtins):
        return None
    defaults, keyword_defaults = function.__defaults__ or (), function.__kwdefaults__ or {}
    values = (*defaults, *keyword_defaults.values(), *options.values())
    if not all(type(value) in _IMMUTABLE for value in values):
        return None
    if not all(_keeps_nothing(code, function.__globals__) for code in _with_inner(function.__code__)):
        return None
    return marshal.dumps((function.__code__, defaults, keyword_defaults))


def unpacked(data: bytes) -> Callable[..., Any]:
    """The function in ``data``, without anything around it."""
    code, defaults, keyword_defaults = marshal.loads(data)
    function = FunctionType(code, {"__builtins__": builtins}, argdefs=defaults)
    function.__kwdefaults__ = keyword_defaults
    return function


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of the functions and comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)


def _keeps_nothing(code: CodeType, module: Mapping[str, Any]) -> bool:
    import dis  # only for the few runs that are long

    # The names are those of globals, attributes and imports; which of these, is not asked.
    allowed = set(_BUILTINS.split())
    allowed.update(name for each in _WITH_METHODS for name in dir(each) if not name.startswith("_"))
    if not (allowed - _FORBIDDEN).issuperset(code.co_names) or not module.keys().isdisjoint(code.co_names):
        return False
    return not any(instruction.opname in _REBINDING for instruction in dis.get_instructions(code))


__all__ = ["packed_if_self_contained", "unpacked"]
