"""The future of an item: a Future of concurrent.futures in every way."""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, as_completed, wait

import pytest

from atbu.mp_pipeline.item_future import ItemFuture

PATIENCE_S = 30.0


def test_it_has_what_a_future_of_this_python_has():
    """It makes its attributes itself; those of a Python to come would be missed."""
    ours, theirs = vars(ItemFuture()), vars(Future())
    assert ours.keys() == theirs.keys()
    assert {name: value for name, value in ours.items() if name != "_condition"} == {
        name: value for name, value in theirs.items() if name != "_condition"
    }


def _started(target):
    thread = threading.Thread(target=target)
    thread.start()
    return thread


def test_any_number_of_threads_may_wait_for_it():
    """All get its result; who comes late gets it at once."""
    future = ItemFuture()
    results = []
    threads = [_started(lambda: results.append(future.result(PATIENCE_S))) for _ in range(3)]
    while len(future._condition._waiters) < 3:
        time.sleep(0)
    future.set_running_or_notify_cancel()
    future.set_result("done")
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [*results, future.result(0)] == ["done"] * 4


def test_who_waits_too_short_is_told():
    """As by any future."""
    future = ItemFuture()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            future.result(0.001)
    future.set_running_or_notify_cancel()
    future.set_result(1)
    assert future.result(0) == 1


def test_wait_and_as_completed_take_it():
    """Several at once, also one that is done already."""
    futures = [ItemFuture() for _ in range(3)]
    for future in futures:
        future.set_running_or_notify_cancel()
    futures[0].set_result(0)
    done, pending = wait(futures, PATIENCE_S, FIRST_COMPLETED)
    assert (done, pending) == ({futures[0]}, set(futures[1:]))
    finisher = _started(lambda: [future.set_result(n) for n, future in enumerate(futures[1:], 1)])
    assert {future.result() for future in as_completed(futures, PATIENCE_S)} == {0, 1, 2}
    finisher.join()


def test_its_lock_may_be_taken_twice_by_one_thread():
    """A signal handler or a finaliser that asks it may interrupt just that thread."""
    future = ItemFuture()
    with future._condition:
        assert not future.done()


@pytest.mark.parametrize("has_waiter", [False, True])
def test_a_callback_may_wait_for_a_thread_that_reads_the_future(has_waiter):
    """No lock is held while callbacks run, whichever way the result was set."""
    future, results = ItemFuture(), []
    waiter = _started(lambda: future.result(PATIENCE_S)) if has_waiter else None
    while has_waiter and not future._condition._waiters:
        time.sleep(0)

    def callback(done):
        reader = _started(lambda: results.append(done.done()))
        reader.join(PATIENCE_S)

    future.add_done_callback(callback)
    future.set_running_or_notify_cancel()
    future.set_result("done")
    assert results == [True]
    if waiter:
        waiter.join(PATIENCE_S)


def test_a_result_is_set_once():
    """As with any future."""
    future = ItemFuture()
    future.set_running_or_notify_cancel()
    future.set_result(1)
    with pytest.raises(InvalidStateError):
        future.set_result(2)
    assert future.result() == 1


def test_a_callback_that_exits_keeps_no_other_from_being_called():
    """Somebody may wait for it: asyncio's wrap_future() is one."""
    future, called = ItemFuture(), []

    def leave(_):
        raise SystemExit("away")

    for callback in (leave, called.append):
        future.add_done_callback(callback)
    future.set_running_or_notify_cancel()
    with pytest.raises(SystemExit, match="away"):
        future.set_result(1)
    assert called == [future]
