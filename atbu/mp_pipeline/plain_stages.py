"""Stages whose pickling and unpickling can be foreseen, so that it need not be done again for every item.

A stage is fresh for every item: what the parent changes on it is seen by the next item, what the work changes on
it is not. For most stages, a plain object with a few plain values (functions, names, numbers), that can be had
without the pickle: in the parent by looking whether any value was replaced, in the worker by making the object
anew from the values. Whatever is not plain goes the long way.
"""

from __future__ import annotations

import copyreg
import types
from operator import is_
from typing import Any

from .plain_items import is_ordinary

# Immutable, or pickled by reference.
_ATOMIC = frozenset(
    (
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        types.FunctionType,
        types.BuiltinFunctionType,
        type,
    )
)


class PlainStage:
    """What a plain stage was made of when it was looked at; made by :func:`look_at`."""

    __slots__ = ("_attributes", "_cls", "_inner", "_keys", "_values")

    def __init__(self, stage: object, inner: dict[str, PlainDict]) -> None:
        self._cls = type(stage)
        self._keys = tuple(stage.__dict__)
        self._values = tuple(stage.__dict__.values())
        self._inner = inner
        self._attributes = dict(stage.__dict__)

    def is_unchanged(self, stage: object) -> bool:
        """Whether ``stage``, the very object that was looked at, would be pickled as it was then."""
        if type(stage) is not self._cls:
            return False
        attributes = stage.__dict__
        if tuple(attributes) != self._keys or not all(map(is_, attributes.values(), self._values)):
            return False
        return all(inner.is_unchanged() for inner in self._inner.values())

    def make(self) -> Any:
        """A stage as unpickling would make it."""
        stage = object.__new__(self._cls)
        attributes = stage.__dict__ = self._attributes.copy()
        for name, inner in self._inner.items():
            attributes[name] = inner.items.copy()
        return stage


class PlainDict:
    """A dictionary among the values of a plain stage, and the atomic items it had."""

    __slots__ = ("_original", "items")

    def __init__(self, original: dict[Any, Any]) -> None:
        self._original = original
        self.items = dict(original)

    def is_unchanged(self) -> bool:
        original, items = self._original, self.items
        if not items:
            return not original
        return (
            len(original) == len(items)
            and all(map(is_, original.values(), items.values()))
            and all(map(is_, original, items))
        )


def look_at(stage: object) -> PlainStage | None:
    """What is needed to foresee the pickling of ``stage``; None where that cannot be done."""
    cls = type(stage)
    if not is_ordinary(cls) or cls in copyreg.dispatch_table or type(getattr(stage, "__dict__", None)) is not dict:
        return None
    inner: dict[str, PlainDict] = {}
    for name, value in stage.__dict__.items():
        if type(value) in _ATOMIC:
            continue
        if type(value) is not dict or not all(type(each) in _ATOMIC for pair in value.items() for each in pair):
            return None
        if any(value is known._original for known in inner.values()):
            return None  # shared by two attributes: pickling would keep it shared
        inner[name] = PlainDict(value)
    return PlainStage(stage, inner)
