"""``NamedTuple``, as in :mod:`typing`, made in a third of the time.

A start makes twenty. typing's compiles every annotation that is text, as all are under ``from __future__ import
annotations``, and the first one of them readies Python's whole parser for it: 3 ms together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["NamedTuple"]

if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from collections import namedtuple

    #: What a class statement puts into every body, and namedtuple() makes by itself.
    _OF_THE_STATEMENT = frozenset(("__module__", "__qualname__", "__annotations__"))

    class _TupleMaker(type):
        """Its class statements give tuples: the annotated names are the fields, all else is taken over."""

        def __new__(mcls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> type:
            fields = body.get("__annotations__", {})
            defaults = [body[field] for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            for key, value in body.items():
                if key not in fields and key not in _OF_THE_STATEMENT:
                    setattr(made, key, value)
            made.__annotations__ = fields
            return made

    NamedTuple = type.__new__(_TupleMaker, "NamedTuple", (), {})
