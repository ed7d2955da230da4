"""Counters that stages add to and the parent reads."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pipeline_harness import PATIENCE_S, result
from pipeline_stages import (
    PROCESSES,
    RUNNERS,
    Item,
    chain,
    closing_gate,
    closing_runner,
    process_stage,
    results,
    thread_stage,
    wait_at,
)

from atbu.mp_pipeline.counters import counter
from atbu.mp_pipeline.mp_pipeline import InvalidFunctionArgument, MultiprocessingPipeline
from atbu.mp_pipeline.shared_slots import FIRST_COUNTER, SharedSlots

NAMES = ("bytes_in", "bytes_out")


@pytest.fixture(params=RUNNERS)
def runner(request):
    with closing_runner(request.param) as runner:
        yield runner


@pytest.fixture
def processes():
    with closing_runner(PROCESSES) as runner:
        yield runner


def _count(item):
    counter("bytes_in").add(item.user_obj)
    bytes_out = counter("bytes_out")
    for _ in range(item.user_obj):
        bytes_out.add(2)
    return item


@pytest.mark.parametrize("stages_of", [(process_stage,), (thread_stage,), (process_stage, thread_stage)])
def test_the_parent_reads_the_sum_over_all_workers_and_threads(runner, stages_of):
    """Exact when the items have ended, and after shutdown too."""
    pipeline = runner(*(stage_of(_count) for stage_of in stages_of), max_simultaneous_work_items=3, counters=NAMES)
    assert pipeline.counters() == {"bytes_in": 0, "bytes_out": 0}
    results(pipeline, [Item(n) for n in range(100)])
    total = sum(range(100)) * len(stages_of)
    expected = {"bytes_in": total, "bytes_out": 2 * total}
    assert pipeline.counters() == expected
    pipeline.shutdown()
    assert pipeline.counters() == expected


def test_stages_of_a_chain_count_too(runner):
    """Each in its worker or thread."""
    pipeline = runner(*chain("PTP", *[_count] * 3), counters=NAMES)
    results(pipeline, [Item(5) for _ in range(4)])
    assert pipeline.counters() == {"bytes_in": 60, "bytes_out": 120}


def _count_and_wait(item):
    counter("bytes_in").add(7)
    wait_at(item.user_obj)
    counter("bytes_in").add(7)
    return item


@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
def test_they_are_read_while_a_stage_works(runner, stage_of, tmp_path):
    """That is what they are for: progress."""
    with closing_gate(tmp_path) as gate:
        pipeline = runner(stage_of(_count_and_wait), counters=NAMES)
        future = pipeline.submit(Item(gate.path))
        gate.wait_for(1)
        assert pipeline.counters() == {"bytes_in": 7, "bytes_out": 0}
        gate.open(1)
        result(future)
        assert pipeline.counters() == {"bytes_in": 14, "bytes_out": 0}


def _count_and_die(item):
    counter("bytes_in").add(1)
    if item.user_obj:
        os._exit(1)
    return item


def test_what_a_dead_worker_counted_stays_counted(processes):
    """The sums never fall; the worker that takes its place goes on from there."""
    pipeline = processes(process_stage(_count_and_die), counters=NAMES, max_simultaneous_work_items=2)
    last = 0
    for n in range(20):
        results(pipeline, [Item(n % 3 == 0)])
        now = pipeline.counters()["bytes_in"]
        assert now == last + 1
        last = now


def test_a_name_the_pipeline_was_not_given_counts_nowhere(runner):
    """A stage need not know who uses it."""
    pipeline = runner(process_stage(_count), counters=("bytes_out",))
    (item,) = results(pipeline, [Item(3)])
    assert item.exceptions is None
    assert pipeline.counters() == {"bytes_out": 6}


def test_a_pipeline_without_counters_has_none(runner):
    """And its stages may count all the same."""
    pipeline = runner(process_stage(_count), thread_stage(_count))
    assert not results(pipeline, [Item(3)])[0].is_failed
    assert pipeline.counters() == {}


def test_outside_a_stage_they_count_nowhere():
    """A function of a stage can be called anywhere."""
    assert _count(Item(3)).user_obj == 3


def test_pipelines_count_for_themselves(runner):
    """Those in the same process, and one within a stage of another."""
    first, second = (runner(thread_stage(_count), process_stage(_count), counters=NAMES) for _ in range(2))
    results(first, [Item(1)])
    results(second, [Item(10)])
    assert (first.counters()["bytes_in"], second.counters()["bytes_in"]) == (2, 20)


def _count_in_a_pipeline_of_its_own(item):
    counter("bytes_in").add(1)
    with MultiprocessingPipeline(stages=[process_stage(_count), thread_stage(_count)], counters=NAMES) as inner:
        results(inner, [Item(100)])
    item.user_obj = inner.counters()["bytes_in"]
    counter("bytes_in").add(1)
    return item


@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
def test_a_pipeline_in_a_stage_counts_for_itself(runner, stage_of):
    """And leaves the outer's counters alone."""
    pipeline = runner(stage_of(_count_in_a_pipeline_of_its_own), counters=NAMES)
    (item,) = results(pipeline, [Item()])
    assert (item.exceptions, item.user_obj) == (None, 200)
    assert pipeline.counters()["bytes_in"] == 2


def test_large_numbers_add_up(runner):
    """Of whole terabytes."""
    pipeline = runner(process_stage(_count_terabytes), counters=NAMES)
    results(pipeline, [Item() for _ in range(3)])
    assert pipeline.counters()["bytes_in"] == 3 * 2**50


def _count_terabytes(item):
    counter("bytes_in").add(2**50)
    return item


@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
def test_an_update_costs_a_stage_less_than_a_microsecond(runner, stage_of):
    """Of its own CPU time, whatever else the machine does."""
    (item,) = results(runner(stage_of(_time_updates), counters=NAMES), [Item()])
    assert item.user_obj < 1.0


def _time_updates(item):
    updated = counter("bytes_in")
    turns = []
    for _ in range(20):
        start = time.thread_time_ns()
        for _ in range(1000):
            updated.add(1)
        turns.append((time.thread_time_ns() - start) / 1000 / 1000)
    item.user_obj = min(turns)
    return item


def test_reading_never_sees_a_torn_or_falling_value(runner):
    """While many add."""
    pipeline = runner(process_stage(_count), thread_stage(_count), counters=NAMES, max_simultaneous_work_items=3)
    is_over = threading.Event()
    readings = []

    def read():
        while not is_over.is_set():
            readings.append(pipeline.counters())

    reader = threading.Thread(target=read)
    reader.start()
    results(pipeline, [Item(50) for _ in range(200)])
    is_over.set()
    reader.join()
    for name in NAMES:
        values = [reading[name] for reading in readings]
        assert values == sorted(values)
        assert values[-1] <= 2 * 2 * 50 * 200


def test_names_may_be_long(processes, capfd):
    """Longer than a message to the template, which does not end by them."""
    names = [f"{number} {'x' * 1000}" for number in range(50)]
    pipeline = processes(process_stage(), counters=names)
    assert results(pipeline, [Item()])[0].exceptions is None
    assert pipeline.counters() == dict.fromkeys(names, 0)
    pipeline.shutdown()
    assert capfd.readouterr().err == ""


def test_they_may_be_read_while_they_are_closed():
    """By a thread that draws a bar while another shuts the pipeline down; the last figures stay."""
    switch_interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as thread:
            for _ in range(5):
                slots, has_begun = SharedSlots(), threading.Event()
                for number in range(200):
                    slots.slot(slots.take())[FIRST_COUNTER] = number
                readings = thread.submit(_read_until_closed, slots, has_begun)
                has_begun.wait()
                slots.close()
                assert set(readings.result(PATIENCE_S)) == {sum(range(200))}
    finally:
        sys.setswitchinterval(switch_interval_s)


def _read_until_closed(slots, has_begun):
    readings = []
    while slots.fileno() >= 0 or len(readings) < 2:
        readings += slots.sum_counters(1)
        has_begun.set()
    return [*readings, *slots.sum_counters(1)]


@pytest.mark.parametrize(
    "counters",
    ["bytes_in", tuple(f"counter {n}" for n in range(1000)), ("bytes_in", "bytes_in")],
    ids=["a string", "1000", "twice"],
)
def test_names_that_make_no_sense_are_refused(counters):
    """At construction."""
    with pytest.raises(InvalidFunctionArgument, match="counters"):
        MultiprocessingPipeline(counters=counters)
