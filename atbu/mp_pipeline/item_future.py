"""The future of a submitted item."""

from __future__ import annotations

import operator
import threading
from collections import deque
from concurrent.futures import Future
from concurrent.futures._base import FINISHED, LOGGER, PENDING, RUNNING
from typing import TYPE_CHECKING, Any

from .exception import InvalidStateError

if TYPE_CHECKING:
    from .engine import Engine
    from .runs import Entry


def is_needed_by_items(engine: Engine) -> bool:
    """Whether the present thread is one that all items need to end: who waits for an item there waits for ever.

    A stage on a thread is, where no other may be at work meanwhile.
    """
    me = threading.current_thread()
    return me is engine.thread or (engine.scheduler.max_running == 1 and engine.threads.owns(me))


class _SlimCondition(threading.Condition):
    """A condition of one object less its seven: it binds no methods, and makes room for waiters when there is one.

    A program may hold a future for each of 100,000 items, few of which it ever waits for. What they consist of is made,
    and visited by the garbage collector, for each of them.
    """

    _waiters: Any = ()
    # No Python frame between the lock's own and the body of a `with`, as Condition's are: what a signal's handler
    # raises there (Ctrl-C) would leave it locked for ever, and the pipeline's thread waiting for it.
    __enter__: Any = property(operator.attrgetter("_lock.__enter__"))
    __exit__: Any = property(operator.attrgetter("_lock.__exit__"))

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

    # The three below do what Future's own do, in the state in which they find nearly every item; the rest is Future's.
    # Its `with self._condition` is two Python calls more than taking the lock.

    def set_running_or_notify_cancel(self) -> bool:
        """Claim the item for the pipeline; False where it was cancelled."""
        with self._condition._lock:  # type: ignore[attr-defined]
            if self._state == PENDING:
                self._state = RUNNING
                return True
            if self._state in (RUNNING, FINISHED):  # by the program, which Future's own would have us fail for
                return self._state == RUNNING
        return super().set_running_or_notify_cancel()

    def set_result(self, result: Any) -> None:
        """Complete the future."""
        condition = self._condition
        with condition._lock:  # type: ignore[attr-defined]
            is_ordinary = self._state == RUNNING and not self._waiters and not condition._waiters  # type: ignore[attr-defined]
            if is_ordinary:
                self._result = result
                self._state = FINISHED
        if not is_ordinary:
            super().set_result(result)
        elif self._done_callbacks:
            self._invoke_callbacks()

    def _invoke_callbacks(self) -> None:
        """Call them all, also those behind one that raises SystemExit, which comes out in the end."""
        failure: BaseException | None = None
        for callback in self._done_callbacks:
            try:
                callback(self)
            except Exception:  # noqa: BLE001 - logged, as by any future
                LOGGER.exception("exception calling callback for %r", self)
            except BaseException as ex:  # noqa: BLE001 - raised again below
                failure = failure or ex
        if failure is not None:
            raise failure

    def result(self, timeout: float | None = None) -> Any:
        """The item, once it has ended.

        Raises InvalidStateError where it would wait for ever: in a callback or another hook that the item needs to end.
        """
        if self._state == FINISHED and self._exception is None:  # both are set before the state
            return self._result
        if timeout is None:
            self._refuse_to_wait_for_itself()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """None, once the item has ended: its failures are in the item. Raises as result() does."""
        if timeout is None:
            self._refuse_to_wait_for_itself()
        return super().exception(timeout)

    def _refuse_to_wait_for_itself(self) -> None:
        engine = getattr(self, "engine", None)
        if engine is not None and is_needed_by_items(engine) and not self.done():
            raise InvalidStateError(
                f"waiting for an item of pipeline {engine.name!r} on the pipeline's own thread (in a callback, "
                "is_for_stage or stage_complete, or in its only stage at work) would never end; use add_done_callback"
            )

    def cancel(self) -> bool:
        """Cancel the item if no stage has been asked for it yet; says whether it is cancelled."""
        is_cancelled = super().cancel()
        entry = self.entry
        if is_cancelled and entry is not None and not entry.is_ended:
            if entry.item._submission == entry.submission:
                entry.item.__dict__["_submission"] = None
            items, left = self.engine.items, entry
            self.engine.post(lambda: items.drop(left))
        return is_cancelled
