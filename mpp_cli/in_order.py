"""Puts what ends in any order back into the order of the inputs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class InOrder(Generic[T]):
    """Holds what came early. Each number from 0 on comes once."""

    def __init__(self) -> None:
        self._held: dict[int, T] = {}
        self._next = 0

    @property
    def next_number(self) -> int:
        """The first number that has not come; all before it were given out."""
        return self._next

    def add(self, number: int, thing: T) -> Iterator[T]:
        """``thing`` has come; gives out all that are next in line."""
        self._held[number] = thing
        while self._next in self._held:
            yield self._held.pop(self._next)
            self._next += 1

    def drain(self) -> Iterator[T]:
        """Give out what is held, in its order, gaps or not: no more will come."""
        for number in sorted(self._held):
            yield self._held.pop(number)
