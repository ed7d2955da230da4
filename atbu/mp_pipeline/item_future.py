"""The future of a submitted item."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from concurrent.futures._base import PENDING
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import Engine
    from .runs import Entry


class _SlimCondition(threading.Condition):
    """A condition of one object less its seven: it binds no methods, and makes room for waiters when there is one.

    A program may hold a future for each of 100,000 items, few of which it ever waits for. What they consist of is made,
    and visited by the garbage collector, for each of them.
    """

    _waiters: Any = ()

    def __init__(self) -> None:
        # Not ours: Condition's own would bind five methods of the lock.
        self._lock = threading.RLock()

    def acquire(self, *args: Any) -> bool:
        return self._lock.acquire(*args)

    def release(self) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        if self._waiters == ():
            self._waiters = deque()
        return super().wait(timeout)

    def _release_save(self) -> Any:
        return self._lock._release_save()  # type: ignore[attr-defined]

    def _acquire_restore(self, state: Any) -> None:
        self._lock._acquire_restore(state)  # type: ignore[attr-defined]

    def _is_owned(self) -> bool:
        return self._lock._is_owned()  # type: ignore[attr-defined,no-any-return]


class ItemFuture(Future[Any]):
    """The future of a submitted item. Cancelling it frees the item, and its place, at once."""

    entry: Entry | None
    engine: Engine

    def __init__(self) -> None:
        # What Future's own does (tests/test_item_future.py compares), but for the condition.
        self._condition = _SlimCondition()
        self._state = PENDING
        self._result = None
        self._exception = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []

    def cancel(self) -> bool:
        """Cancel the item if no stage has been asked for it yet; says whether it is cancelled."""
        is_cancelled = super().cancel()
        entry = self.entry
        if is_cancelled and entry is not None and not entry.is_ended:
            if entry.item._submission == entry.submission:
                entry.item._submission = None
            items, left = self.engine.items, entry
            self.engine.post(lambda: items.drop(left))
        return is_cancelled
