"""Open descriptors that travel with a work item, and the pickling that carries them.

A :class:`PassedDescriptor` inside an item becomes an index in the pickle; the descriptor itself goes beside it
by SCM_RIGHTS (never by multiprocessing's resource sharer). In the answer the index stands for the parent's
original object, so nothing is sent back.
"""

from __future__ import annotations

import copyreg
import os
import pickle
import threading
from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

from .plain_items import ItemPacker

PICKLE_PROTOCOL = 5


class PassedDescriptor:
    """An open descriptor that a work item takes along to the worker.

    In the parent it stays the caller's to close, after the item has ended. A worker gets a duplicate, which the
    pipeline closes when the stage has returned; a thread stage has the caller's own object. Only a pipeline can
    pickle it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._index: int | None = None

    def fileno(self) -> int:
        """The descriptor. Raises ValueError once closed."""
        if self._fd < 0:
            raise ValueError("the descriptor is closed")
        return self._fd

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def close(self) -> None:
        """Close it here; closing twice is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __reduce__(self) -> Any:
        raise TypeError("a PassedDescriptor travels only with a work item of a pipeline, it cannot be pickled alone")


class _Arriving(threading.local):
    """What the descriptors in the pickle that this thread is reading stand for."""

    resolve: Callable[[int], PassedDescriptor] | None = None


_arriving = _Arriving()


def _arrived(index: int) -> PassedDescriptor:
    """Stand-in of a PassedDescriptor in a pickle; resolved while it is read."""
    if _arriving.resolve is None:
        raise pickle.UnpicklingError("a PassedDescriptor can only be read by the pipeline that sent it")
    return _arriving.resolve(index)


class Pickled:
    """A pickle and what travels beside it. ``originals`` are the sender's objects, ``fds`` duplicates to send.

    Or a packed item (plain_items.py), beside which nothing travels.
    """

    __slots__ = ("data", "fds", "is_packed", "originals")

    def __init__(
        self, data: bytes, originals: Sequence[PassedDescriptor], fds: list[int], is_packed: bool = False
    ) -> None:
        self.data = data
        self.is_packed = is_packed
        self.originals = originals
        self.fds = fds

    def close(self) -> None:
        """Close the duplicates that were not sent."""
        if self.fds:
            fds, self.fds = self.fds, []
            for fd in fds:
                os.close(fd)


_NOTHING: tuple[PassedDescriptor, ...] = ()
_NO_FDS: list[int] = []


# What multiprocessing adds to the table of picklers for processes it starts.
_EXTRA_REDUCERS: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]


class _Chunks:
    """The file a pickler writes to: a small pickle comes as one chunk, which then is the result without a copy."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.write = chunks.append


class ItemPickler:
    """Pickles items, stages and answers, as a process start of multiprocessing would; one for one thread.

    One C pickler is kept and reused: making one for each item costs more than a small item's pickling.
    """

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._pickler = pickle.Pickler(_Chunks(self._chunks), PICKLE_PROTOCOL)
        self._num_reducers = (-1, -1)
        self._originals: list[PassedDescriptor] = []
        self._fds: list[int] = []
        #: The short way for plain items; None from it means dumps().
        packer = ItemPacker(self.dumps, (copyreg.dispatch_table, _EXTRA_REDUCERS))
        self.pack = packer.pack
        self.pack_all = packer.pack_all
        self.class_pickle = packer.class_pickle

    @property
    def has_taken_descriptors(self) -> bool:
        """Whether the last pickle held descriptors, whose duplicates are to be fetched by :meth:`passed`."""
        return bool(self._fds)

    def dumps(self, obj: Any) -> bytes:
        """Pickle ``obj``. When it raises, no duplicates of descriptors are left."""
        if len(copyreg.dispatch_table) != self._num_reducers[0] or len(_EXTRA_REDUCERS) != self._num_reducers[1]:
            self._refresh_reducers()
        chunks = self._chunks
        try:
            self._pickler.dump(obj)
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        except BaseException:
            self.passed(b"").close()
            raise
        finally:
            self._pickler.clear_memo()
            chunks.clear()

    def passed(self, data: bytes) -> Pickled:
        """The last pickle, together with duplicates of the descriptors in it."""
        if not self._fds:
            return Pickled(data, _NOTHING, _NO_FDS)
        pickled = Pickled(data, self._originals, self._fds)
        self._originals, self._fds = [], []
        return pickled

    def dumps_passing(self, obj: Any) -> Pickled:
        """Both in one."""
        return self.passed(self.dumps(obj))

    def _refresh_reducers(self) -> None:
        # Modules register reducers when they are imported; a plain dict is what the C pickler looks up fastest.
        self._num_reducers = (len(copyreg.dispatch_table), len(_EXTRA_REDUCERS))
        table = {**copyreg.dispatch_table, **_EXTRA_REDUCERS, PassedDescriptor: self._reduce_descriptor}
        self._pickler.dispatch_table = table

    def _reduce_descriptor(self, obj: PassedDescriptor) -> Any:
        if obj._index is not None:  # a worker's copy goes home as the parent's original
            return (_arrived, (obj._index,))
        self._fds.append(os.dup(obj.fileno()))
        self._originals.append(obj)
        return (_arrived, (len(self._fds) - 1,))


def loads_received(data: Any, fds: list[int]) -> tuple[Any, list[PassedDescriptor]]:
    """Read a pickle in the worker; the second is every descriptor that came with it, to be closed in the end."""
    if not fds:
        return pickle.loads(data), []
    copies = []
    for index, fd in enumerate(fds):
        copy = PassedDescriptor(fd)
        copy._index = index
        copies.append(copy)
    return _loads(data, copies), copies


def loads_answer(data: Any, originals: Sequence[PassedDescriptor]) -> Any:
    """Read an answer in the parent; descriptors become the objects that were sent."""
    return pickle.loads(data) if not originals else _loads(data, originals)


def _loads(data: Any, table: Sequence[PassedDescriptor]) -> Any:
    _arriving.resolve = table.__getitem__
    try:
        return pickle.loads(data)
    finally:
        _arriving.resolve = None
