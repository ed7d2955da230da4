"""Items whose attributes are all plain values, packed without pickle's detour over the class.

An item travels twice for every stage. Most items are objects with a few numbers, strings and names; for those pickle
spends nearly all its time on what is the same for each of them: how the class is called, how such an object is taken
apart and made. Here the class is pickled once, the attributes go by marshal, and the object is made anew from both.
What comes out is what pickle would have given. Any other item goes the long way.
"""

from __future__ import annotations

import copyreg
import marshal
import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .work_item import PipelineWorkItem

# Immutable, known to marshal, and nothing that could lead back to the item. Exact types only: marshal refuses
# subclasses, and takes anything with a buffer for bytes.
_is_subset_of_plain = frozenset((type(None), bool, int, float, complex, str, bytes)).issuperset

_PACKED = tuple[bytes, dict[str, Any]]


def is_ordinary(cls: Any) -> bool:
    """Whether pickle takes objects of this class apart into ``__dict__`` and nothing else."""
    return (
        cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
        and cls.__new__ is object.__new__
        and getattr(cls, "__getstate__", None) is getattr(object, "__getstate__", None)
        and not hasattr(cls, "__setstate__")
        and not hasattr(cls, "__getnewargs_ex__")
        and not hasattr(cls, "__getnewargs__")
        and not copyreg._slotnames(cls)  # type: ignore[attr-defined]
    )


class ItemPacker:
    """Packs items; a class is looked at once, and again when anybody has registered a reducer.

    Args:
        dumps: Pickles a class.
        reducers: The tables of what is pickled in ways of its own.
    """

    def __init__(self, dumps: Callable[[Any], bytes], reducers: tuple[Mapping[type, Any], Mapping[type, Any]]) -> None:
        self._dumps = dumps
        self._general, self._extra = reducers
        self._num_reducers = 0
        #: The pickle of each class that was looked at; None where its items have to be pickled.
        self._classes: dict[type, bytes | None] = {}

    def pack(self, item: PipelineWorkItem) -> bytes | None:
        """The item in few bytes; None where it has to be pickled."""
        if len(self._general) + len(self._extra) != self._num_reducers:
            self._num_reducers = len(self._general) + len(self._extra)
            self._classes.clear()
        try:
            known = self._classes[type(item)]
        except KeyError:
            known = self._look_at(type(item))
        if known is None:
            return None
        attributes = item.__dict__
        if not _is_subset_of_plain(map(type, attributes.values())):
            return None
        try:
            return marshal.dumps((known, attributes))
        except ValueError:  # an attribute's name that is no plain string; more than marshal's 2 GiB
            return None

    def pack_all(self, items: Iterable[PipelineWorkItem]) -> list[bytes | None]:
        """What :meth:`pack` makes of each, in one piece; None also where there is no memory for one."""
        if len(self._general) + len(self._extra) != self._num_reducers:
            self._num_reducers = len(self._general) + len(self._extra)
            self._classes.clear()
        known_classes, is_plain, dumps = self._classes, _is_subset_of_plain, marshal.dumps
        packed: list[bytes | None] = []
        for item in items:
            known = known_classes.get(type(item))
            data = None
            if known is not None and is_plain(map(type, item.__dict__.values())):
                try:
                    data = dumps((known, item.__dict__))
                except (ValueError, MemoryError):
                    data = None
            packed.append(data)
        return packed

    def class_pickle(self, cls: type) -> bytes | None:
        """How packed items name this class; None where they are never packed."""
        return self._classes[cls] if cls in self._classes else self._look_at(cls)

    def _look_at(self, cls: type) -> bytes | None:
        known = None
        if type(cls) is type and is_ordinary(cls) and cls not in self._general and cls not in self._extra:
            try:
                known = self._dumps(cls)
            except Exception:  # noqa: BLE001 - the pickling of the item will say the same, and where
                known = None
        self._classes[cls] = known
        return known


#: The pickle of a packed item's class, and its attributes.
unpack_parts: Callable[[Any], _PACKED] = marshal.loads


class ItemUnpacker:
    """Makes items of what :meth:`ItemPacker.pack` has made of them."""

    def __init__(self) -> None:
        self._classes: dict[bytes, type] = {}

    def unpack(self, data: Any) -> PipelineWorkItem:
        """The item. Raises what the import of its class raises."""
        return self.make(*unpack_parts(data))

    def make(self, known: bytes, attributes: dict[str, Any]) -> PipelineWorkItem:
        """The item of these parts; the attributes are its own from then on."""
        try:
            cls = self._classes[known]
        except KeyError:
            cls = self._classes[known] = pickle.loads(known)
        item: PipelineWorkItem = object.__new__(cls)
        item.__dict__ = attributes
        return item
