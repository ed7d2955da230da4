"""Remembers very many names in little memory."""

from __future__ import annotations

from array import array
from typing import Final

_FIRST_SLOTS: Final = 1 << 10
#: A name's hash is of 64 bits, of which 0 stands for an empty slot.
_MASK: Final = (1 << 64) - 1


class SeenNames:
    """A set of names, kept as their 64-bit hashes: 12 to 24 bytes for each, where a set of them takes 100 and more.

    Two names with one hash would be taken for one: among a million names, once in 30 million runs. Python's hash
    has a secret key for each process, so no list of names can be made to do it.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _FIRST_SLOTS))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, name: str) -> bool:
        """Remember ``name``; say whether it is new."""
        slots = self._slots
        mask = len(slots) - 1
        key = hash(name) & _MASK or 1
        place = key & mask
        while held := slots[place]:
            if held == key:
                return False
            place = (place + 1) & mask
        slots[place] = key
        self._count += 1
        if self._count * 3 > len(slots) * 2:
            self._grow()
        return True

    def __contains__(self, name: str) -> bool:
        slots = self._slots
        mask = len(slots) - 1
        key = hash(name) & _MASK or 1
        place = key & mask
        while held := slots[place]:
            if held == key:
                return True
            place = (place + 1) & mask
        return False

    def _grow(self) -> None:
        old = self._slots
        slots = array("Q", bytes(16 * len(old)))
        mask = len(slots) - 1
        for key in old:
            if key:
                place = key & mask
                while slots[place]:
                    place = (place + 1) & mask
                slots[place] = key
        self._slots = slots
