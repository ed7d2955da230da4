"""Helpers that keep few futures pending."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from atbu.mp_pipeline.exception import InvalidFunctionArgument
from atbu.mp_pipeline.mp_helper import num_pending_futures, pending_futures, wait_futures_to_regulate


def _done() -> Future:
    future = Future()
    future.set_result(None)
    return future


def test_pending_futures_are_those_not_done():
    """In their order; cancelled and failed ones are done."""
    first, second, failed, cancelled = Future(), Future(), Future(), Future()
    failed.set_exception(ValueError())
    cancelled.cancel()
    fs = [_done(), first, failed, second, cancelled]

    assert pending_futures(fs) == [first, second]
    assert num_pending_futures(fs) == 2
    assert num_pending_futures([]) == 0


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_can_never_be_reached_is_refused(limit):
    """Fewer than one pending is more than waiting can promise."""
    with pytest.raises(InvalidFunctionArgument, match=f"max_allowed_pending is {limit}"):
        wait_futures_to_regulate({Future()}, limit)


def test_few_enough_pending_returns_at_once():
    """One of three is pending and two are allowed to be: no wait."""
    wait_futures_to_regulate([_done(), Future(), _done()], 2)


@pytest.mark.parametrize("kind", [set, list, tuple])
def test_it_waits_until_fewer_than_the_limit_are_pending_and_leaves_the_futures_alone(kind):
    """It returns when one of two has ended, not before, and the collection is as it was."""
    gates = [threading.Event(), threading.Event()]
    returned = threading.Event()
    with ThreadPoolExecutor(2) as workers, ThreadPoolExecutor(1) as waiter:
        futures = [workers.submit(gate.wait) for gate in gates]
        fs = kind(futures)
        waiting = waiter.submit(wait_futures_to_regulate, fs, 2)
        waiting.add_done_callback(lambda _: returned.set())
        is_early = returned.wait(0.05)
        gates[0].set()
        waiting.result(timeout=60)
        still_pending = num_pending_futures(futures)
        gates[1].set()

    assert not is_early
    assert still_pending == 1
    assert fs == kind(futures)
