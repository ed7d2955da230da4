"""Closes what a pipeline owns in every process that is forked from this one.

A pipe ends only when its last writer is gone, a worker is known to be gone only when nobody else holds its
socket. So a process forked from the parent, from a template or from a worker must keep none of these, whoever
forks it. One registry of owned objects and one ``os.register_at_fork`` hook see to that.
"""

from __future__ import annotations

import os
from typing import Protocol, TypeVar


class Closable(Protocol):
    """Anything with ``close()``; it must really close when called in a forked copy."""

    def close(self) -> object: ...


T = TypeVar("T", bound="Closable")


class _Registry:
    """The objects owned by pipelines of this process, by identity; strong references."""

    def __init__(self) -> None:
        self._owned: dict[int, Closable] = {}
        self._is_hooked = False

    def add(self, obj: Closable) -> None:
        if not self._is_hooked:
            self._is_hooked = True
            os.register_at_fork(after_in_child=self.close_all)
        self._owned[id(obj)] = obj

    def discard(self, obj: Closable) -> None:
        self._owned.pop(id(obj), None)

    def close_all(self) -> None:
        owned, self._owned = list(self._owned.values()), {}
        for obj in owned:
            try:
                obj.close()
            except OSError:
                continue  # a descriptor that was closed behind our back is closed all the same


_registry = _Registry()


class OwnedDescriptor:
    """A bare descriptor that closes once, and is forgotten by the registry when it does."""

    def __init__(self, fd: int) -> None:
        #: -1 once it is closed, and so in a forked copy, where a descriptor of that number may be anybody's.
        self.number = fd
        own(self)

    def fileno(self) -> int:
        return self.number

    def close(self) -> None:
        disown(self)
        fd, self.number = self.number, -1
        if fd >= 0:
            os.close(fd)


def own(obj: T) -> T:
    """Have ``obj.close()`` called in every process forked from this one, until :func:`disown`."""
    _registry.add(obj)
    return obj


def disown(obj: Closable) -> None:
    """Forget ``obj``: it was closed here, or was given away."""
    _registry.discard(obj)
