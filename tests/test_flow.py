"""The flow of items: how many may be in a pipeline and at work, map, cancelling."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import mmap
import threading
import time
import tracemalloc
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
from pipeline_harness import PATIENCE_S, note_in, result
from pipeline_stages import (
    PROCESSES,
    RUNNERS,
    Item,
    closing_gate,
    closing_runner,
    having,
    negate,
    process_stage,
    results,
    thread_stage,
    wait_at,
    wait_if_told,
)

from atbu.mp_pipeline.mp_pipeline import (
    InvalidFunctionArgument,
    InvalidStateError,
    PipelineBroken,
    PipelineClosed,
)


@pytest.fixture(params=RUNNERS)
def runner(request):
    with closing_runner(request.param) as runner:
        yield runner


@pytest.fixture
def processes():
    with closing_runner(PROCESSES) as runner:
        yield runner


@pytest.fixture
def gate(request, tmp_path):
    # The stages must be let on before the pipelines are shut down.
    request.getfixturevalue("runner" if "runner" in request.fixturenames else "processes")
    with closing_gate(tmp_path) as gate:
        yield gate


BOTH_KINDS = pytest.mark.parametrize("stage_of", [process_stage, thread_stage])


# -- max_pending


@pytest.mark.parametrize("max_pending", [1, 3])
def test_submit_blocks_while_as_many_as_allowed_are_unfinished(runner, max_pending):
    """Never are there more, from however many threads."""
    pipeline = runner(process_stage(), max_pending=max_pending)
    unfinished, most, lock = 0, 0, threading.Lock()

    def ended(future):
        nonlocal unfinished
        with lock:
            unfinished -= 1

    def submit_many():
        nonlocal unfinished, most
        for _ in range(50):
            future = pipeline.submit(Item())
            with lock:
                unfinished += 1
                most = max(most, unfinished)
            future.add_done_callback(ended)
        return True

    with ThreadPoolExecutor(3) as threads:
        assert all(future.result(PATIENCE_S) for future in [threads.submit(submit_many) for _ in range(3)])
    pipeline.shutdown()
    # Each thread may have counted one late whose place was taken already.
    assert most <= max_pending + 3
    assert unfinished == 0


@BOTH_KINDS
def test_a_place_is_free_when_an_item_has_ended_or_was_cancelled(runner, gate, stage_of):
    """Then the submit that waits goes on."""
    pipeline = runner(stage_of(wait_if_told), max_pending=2, max_simultaneous_work_items=1)
    running, waiting = pipeline.submit(Item(gate.path)), pipeline.submit(Item(gate.path))
    gate.wait_for(1)
    with ThreadPoolExecutor(1) as thread:
        third = thread.submit(pipeline.submit, Item())
        assert concurrent.futures.wait([third], timeout=0.05).not_done
        assert waiting.cancel()
        third = third.result(PATIENCE_S)
        fourth = thread.submit(pipeline.submit, Item())
        gate.open(1)
        assert not result(fourth.result(PATIENCE_S)).is_failed
    assert not result(running).is_failed
    assert not result(third).is_failed


def test_a_submit_that_would_wait_for_itself_raises(runner):
    """In the pipeline's own threads: a callback, is_for_stage, a thread stage."""
    caught = []

    def submit_two(*_):
        try:
            for _ in range(2):
                pipeline.submit(Item("late"))
        except InvalidStateError as ex:
            caught.append(str(ex))
        return True

    go_on = threading.Event()

    def work(item):
        if item.user_obj == "callback":
            go_on.wait()
        if item.user_obj == "thread stage":
            submit_two()
        return item

    stage = thread_stage(work)
    stage.fn_determiner = lambda item: submit_two() if item.user_obj == "is_for_stage" else True
    pipeline = runner(stage, max_pending=1)
    future = pipeline.submit(Item("callback"))
    future.add_done_callback(submit_two)
    go_on.set()
    result(future)
    for place in ("is_for_stage", "thread stage"):
        result(pipeline.submit(Item(place)))
    assert len(caught) == 3
    assert all("wait" in text for text in caught)


def test_a_submit_that_waits_is_refused_when_the_pipeline_is_shut_down(runner, gate):
    """It does not wait for ever."""
    pipeline = runner(process_stage(wait_if_told), max_pending=1)
    running = pipeline.submit(Item(gate.path))
    gate.wait_for(1)
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(pipeline.submit, Item())
        assert concurrent.futures.wait([late], timeout=0.05).not_done
        pipeline.shutdown(wait=False)
        with pytest.raises(PipelineClosed):
            late.result(PATIENCE_S)
    gate.open(1)
    assert not result(running).is_failed


def raise_when_let_on(path):
    wait_at(path)
    raise LookupError("no worker")


def test_submits_that_wait_are_refused_when_the_pipeline_breaks(processes, gate):
    """All of them, though one item alone has made room."""
    pipeline = processes(
        process_stage(), max_pending=1, process_initfunc=raise_when_let_on, process_initargs=(gate.path,)
    )
    first = pipeline.submit(Item())
    gate.wait_for(1)
    with ThreadPoolExecutor(4) as threads:
        late = [threads.submit(pipeline.submit, Item()) for _ in range(4)]
        assert len(concurrent.futures.wait(late, timeout=0.05).not_done) == 4
        gate.open(3)
        ended = concurrent.futures.wait(late, timeout=PATIENCE_S).done
        pipeline.shutdown()
    assert [type(each.exception()) for each in ended] == [PipelineBroken] * 4
    assert result(first).is_failed


# -- map


@BOTH_KINDS
@pytest.mark.parametrize("window", [None, 1, 7])
def test_map_yields_in_the_order_of_the_input(runner, stage_of, window):
    """The submitted objects, updated."""
    items = [Item(n) for n in range(100)]
    mapped = list(runner(stage_of(negate)).map(items, window=window))
    assert [item.user_obj for item in mapped] == [-n for n in range(100)]
    assert all(one is other for one, other in zip(mapped, items, strict=True))


def test_map_yields_as_completed(processes, gate):
    """One that takes long holds nothing up."""
    pipeline = processes(process_stage(wait_if_told), max_simultaneous_work_items=2)
    slow = Item(gate.path)
    mapped = pipeline.map([slow, *(Item() for _ in range(20))], ordered=False)
    first = [next(mapped) for _ in range(20)]
    assert slow not in first
    gate.open(1)
    assert list(mapped) == [slow]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("window", [1, 5])
def test_map_reads_its_input_only_as_fast_as_results_are_taken(runner, ordered, window):
    """Never more than the window is ahead; the input may be endless."""
    num_read = 0

    def endless():
        nonlocal num_read
        for n in itertools.count():
            num_read += 1
            yield Item(n)

    mapped = runner(process_stage()).map(endless(), ordered=ordered, window=window)
    assert num_read == 0
    for num_taken, _ in enumerate(itertools.islice(mapped, 200)):
        # one more is in the hand of the generator that waits for a place
        assert num_read <= num_taken + 1 + window
    mapped.close()


@pytest.mark.parametrize("ordered", [True, False])
def test_map_takes_flat_memory(runner, ordered):
    """Whatever the number of items: nothing is kept of those that were yielded."""
    alive = weakref.WeakSet()
    most_alive = 0

    def items(count):
        for n in range(count):
            item = Item(n)
            alive.add(item)
            yield item

    def go_through(count):
        nonlocal most_alive
        for _ in runner_map(items(count), ordered=ordered, window=64):
            most_alive = max(most_alive, len(alive))
        gc.collect()

    runner_map = runner(process_stage()).map
    go_through(500)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        go_through(1500)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 200_000
    assert most_alive < 200


@pytest.mark.slow
@pytest.mark.parametrize("ordered", [True, False])
def test_map_over_very_many_items_leaves_the_program_as_small_as_it_was(processes, ordered):
    """By what the system says: nothing of 60,000 items is kept, in whatever way."""
    mapped = processes(process_stage()).map((Item(n) for n in range(60_000)), ordered=ordered)
    sum(1 for _ in itertools.islice(mapped, 10_000))
    before = _resident_bytes()
    assert sum(1 for _ in mapped) == 50_000
    # A kept item would be some 1,000 bytes: 50 MB of all.
    assert _resident_bytes() - before < 5_000_000


def _resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * mmap.PAGESIZE


def test_map_over_an_input_that_raises_raises_that(runner):
    """The items before it are cancelled or end; the pipeline goes on."""

    def items():
        yield Item(1)
        raise LookupError("the input is broken")

    pipeline = runner(process_stage())
    with pytest.raises(LookupError, match="broken"):
        list(pipeline.map(items()))
    assert not results(pipeline, [Item()])[0].is_failed


@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_that_is_left_cancels_what_it_has_not_started(runner, gate, journal, ordered):
    """Its items do not run behind the caller's back."""
    pipeline = runner(thread_stage(_note_and_wait), max_simultaneous_work_items=1)
    first = having(Item(), journal=str(journal.path), gate=None)
    rest = [having(Item(), journal=str(journal.path), gate=gate.path) for _ in range(20)]
    mapped = pipeline.map([first, *rest], ordered=ordered, window=5)
    assert next(mapped) is first
    mapped.close()
    gate.open(2)
    pipeline.shutdown()
    # the first, and what had been started
    assert len(journal.lines()) <= 3


def _note_and_wait(item):
    note_in(item.journal, "worked")
    if item.gate is not None:
        wait_at(item.gate)
    return item


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_that_is_none_is_refused_at_once(runner, window):
    """Not at the first item."""
    with pytest.raises(InvalidFunctionArgument, match="window"):
        runner().map([], window=window)


@pytest.mark.parametrize("ordered", [True, False])
def test_map_yields_what_is_there_while_its_input_is_slow(runner, ordered):
    """It does not wait for the window to be full."""
    pipeline = runner(process_stage())
    results(pipeline, [Item()])  # the workers are there
    given = itertools.count()

    def slowly():
        for number in given:
            time.sleep(0.002)
            yield Item(number)

    mapped = pipeline.map(slowly(), ordered=ordered, window=1000)
    assert next(mapped).user_obj < 1000
    assert next(given) < 1000
    mapped.close()


def test_map_keeps_to_max_pending(runner):
    """Else it would wait for itself."""
    items = [Item(n) for n in range(20)]
    assert list(runner(process_stage(), max_pending=2).map(items)) == items


def test_map_of_nothing_yields_nothing(runner):
    """And ends."""
    assert list(runner(process_stage()).map([])) == []


# -- items at once


@pytest.mark.parametrize("at_once", [1, 2, 3])
@pytest.mark.parametrize("stages_of", [(process_stage,), (thread_stage,), (process_stage, thread_stage)])
def test_no_more_items_than_allowed_are_worked_on_at_once(processes, journal, gate, at_once, stages_of):
    """And that many are."""
    stages = [stage_of(_note_begin_and_end, path=str(journal.path), gate=gate.path) for stage_of in stages_of]
    pipeline = processes(*stages, max_simultaneous_work_items=at_once)
    num_items = 20
    futures = [pipeline.submit(Item()) for _ in range(num_items)]
    gate.wait_for(at_once)
    gate.open(num_items * len(stages))
    for future in futures:
        assert not result(future).is_failed
    at_work = list(itertools.accumulate(1 if line == "begin" else -1 for line in journal.lines()))
    assert max(at_work) == at_once
    assert len(at_work) == 2 * num_items * len(stages)


def _note_begin_and_end(item, path, gate):
    note_in(path, "begin")
    wait_at(gate)
    note_in(path, "end")
    return item


# -- cancelling


def test_an_item_is_cancelled_as_long_as_no_stage_was_asked_for_it(runner, gate):
    """Afterwards it is not; others do not notice."""
    asked = []
    stage = thread_stage(wait_if_told)
    stage.fn_determiner = lambda item: (asked.append(item), True)[1]
    pipeline = runner(stage, max_simultaneous_work_items=1)
    running, pending, last = Item(gate.path), Item(), Item()
    futures = [pipeline.submit(item) for item in (running, pending, last)]
    gate.wait_for(1)
    assert futures[0].running()
    assert not futures[0].cancel()
    assert futures[1].cancel()
    assert futures[1].cancelled()
    with pytest.raises(CancelledError):
        result(futures[1])
    gate.open(1)
    assert (result(futures[0]), result(futures[2])) == (running, last)
    assert asked == [running, last]
    # it is free for another try
    assert results(pipeline, [pending]) == [pending]


def test_a_cancelled_item_may_be_submitted_again_at_once(runner, gate):
    """It is in no pipeline any more."""
    pipeline = runner(thread_stage(wait_if_told), max_simultaneous_work_items=1)
    first, item = pipeline.submit(Item(gate.path)), Item()
    gate.wait_for(1)
    for _ in range(3):
        assert pipeline.submit(item).cancel()
    future = pipeline.submit(item)
    gate.open(1)
    assert result(future) is item
    assert not result(first).is_failed
