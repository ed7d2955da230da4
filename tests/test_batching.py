"""Short items are handed to a worker in batches; none may wait for another because of that."""

from __future__ import annotations

import os
import random
import threading

import pytest
from pipeline_harness import note_in, result
from pipeline_stages import (
    PROCESSES,
    Item,
    chain,
    closing_gate,
    closing_runner,
    process_stage,
    results,
    thread_stage,
    wait_if_told,
)

from atbu.mp_pipeline.mp_pipeline import PipeConnectionIO, PipelineWorkerDied


@pytest.fixture
def processes():
    with closing_runner(PROCESSES) as runner:
        yield runner


@pytest.fixture
def gate(processes, tmp_path):
    with closing_gate(tmp_path) as gate:
        yield gate


def _shorts(count):
    return [Item() for _ in range(count)]


# Long enough a run of short items for the deepest batches, short enough for the clock.
NUM_SHORT = 400


@pytest.mark.parametrize("at_once", [2, 3, 4, 8])
def test_items_that_wait_for_each_other_meet_after_a_run_of_short_ones(processes, gate, at_once):
    """As many as may be worked on at once, on as many workers, whatever was queued where."""
    dice = random.Random(at_once)
    pipeline = processes(process_stage(wait_if_told), max_simultaneous_work_items=at_once)
    for _ in range(25):
        before = [pipeline.submit(item) for item in _shorts(dice.choice([0, 20, NUM_SHORT]))]
        if before and dice.random() < 0.5:
            result(before[-1])
        meeting = [pipeline.submit(Item(gate.path)) for _ in range(at_once)]
        behind = [pipeline.submit(item) for item in _shorts(dice.choice([0, 20, 200]))]
        gate.wait_for(at_once)
        gate.open(at_once)
        for future in [*before, *meeting, *behind]:
            assert not result(future).is_failed


def test_items_behind_one_that_takes_long_are_done_by_another_worker(processes, gate):
    """They do not wait for it."""
    pipeline = processes(process_stage(wait_if_told), max_simultaneous_work_items=2)
    results(pipeline, _shorts(NUM_SHORT))
    long = pipeline.submit(Item(gate.path))
    for item in results(pipeline, _shorts(NUM_SHORT)):
        assert not item.is_failed
    gate.open(1)
    assert not result(long).is_failed


def test_an_item_in_a_batch_runs_once(processes, gate, journal):
    """Though it was taken back from one worker and given to another."""
    pipeline = processes(process_stage(_note_and_wait_if_told), max_simultaneous_work_items=3)
    futures = []
    for number in range(600):
        item = Item(gate.path if number % 100 == 50 else None)
        item.line = str(number)
        item.journal = str(journal.path)
        futures.append(pipeline.submit(item))
    gate.open(6)
    for future in futures:
        assert not result(future).is_failed
    assert journal.repeated() == []
    assert len(journal.lines()) == 600


def _note_and_wait_if_told(item):
    note_in(item.journal, item.line)
    return wait_if_told(item)


def test_a_stage_that_came_with_an_item_taken_back_is_known(processes, gate):
    """A worker that passes over an item remembers the stage that came with it."""
    first = _for(_is_for_first, process_stage(wait_if_told))
    second = _for(_is_for_second, process_stage())
    pipeline = processes(first, second, max_simultaneous_work_items=2)
    for attempt in range(20):
        second.stage_kwargs = {"attempt": attempt}
        results(pipeline, _of_stage("first", NUM_SHORT // 4))
        long = _of_stage("first", 1)[0]
        long.user_obj = gate.path
        held = pipeline.submit(long)
        gate.wait_for(1)
        behind = [pipeline.submit(item) for item in _of_stage("second", 50)]
        for future in behind:
            assert result(future).exceptions is None
        gate.open(1)
        assert result(held).exceptions is None
        for item in results(pipeline, _of_stage("second", 50)):
            assert item.exceptions is None


def _of_stage(name, count):
    items = _shorts(count)
    for item in items:
        item.stage_name = name
    return items


def _is_for_first(item):
    return item.stage_name == "first"


def _is_for_second(item):
    return item.stage_name == "second"


def test_a_worker_that_dies_in_a_batch_costs_the_item_it_held(processes, journal):
    """Those queued behind it run elsewhere, once."""
    pipeline = processes(process_stage(_note_and_die_if_told), max_simultaneous_work_items=2)
    results(pipeline, [_noting(journal, f"short {n}") for n in range(NUM_SHORT)])
    items = [_noting(journal, f"dies {n}" if n % 50 == 25 else f"lives {n}") for n in range(NUM_SHORT)]
    results(pipeline, items)
    for item in items:
        failures = [type(ex) for ex in item.exceptions or ()]
        assert failures == ([PipelineWorkerDied] if item.line.startswith("dies") else [])
    assert journal.repeated() == []
    assert len(journal.lines()) == 2 * NUM_SHORT


def _noting(journal, line):
    item = Item()
    item.journal, item.line = str(journal.path), line
    return item


def _note_and_die_if_told(item):
    note_in(item.journal, item.line)
    if item.line.startswith("dies"):
        os._exit(9)
    return item


def test_chains_threads_and_batches_mix(processes):
    """Whatever comes after whatever: everything ends, nothing is lost."""
    dice = random.Random(7)
    kinds = ["chain", "short", "thread", "chain with thread", "fails"]

    mixed = [_for(_is_for_mixed_chain, stage) for stage in chain("TP", _send_some, _receive_some)]
    pure = [_for(_is_for_chain, stage) for stage in chain("PP", _send_some, _receive_some)]
    short = _for(_is_for_short, process_stage(_fail_if_told))
    threads = [_for(lambda item: item.user_obj in ("thread", "short"), thread_stage()) for _ in range(2)]
    pipeline = processes(short, *mixed, threads[0], *pure, threads[1], max_simultaneous_work_items=3)
    items = [Item(dice.choice(kinds)) for _ in range(300)]
    results(pipeline, items)
    assert [item.is_failed for item in items] == [item.user_obj == "fails" for item in items]


def _for(determiner, stage):
    stage.fn_determiner = determiner
    return stage


def _is_for_mixed_chain(item):
    return item.user_obj == "chain with thread"


def _is_for_chain(item):
    return item.user_obj == "chain"


def _is_for_short(item):
    return item.user_obj in ("short", "fails")


def _fail_if_told(item):
    if item.user_obj == "fails":
        raise ValueError("as told")
    return item


def _send_some(item):
    with PipeConnectionIO(item.pipe_out, is_write=True) as writer:
        writer.write(b"some")
    return item


def _receive_some(item):
    with PipeConnectionIO(item.pipe_in, is_write=False) as reader:
        assert reader.readall() == b"some"
    return item


def test_a_chain_gets_its_workers_though_short_items_never_end(processes):
    """First come, first served."""
    stages = [_for(_is_for_chain, stage) for stage in chain("PP", _send_some, _receive_some)]
    pipeline = processes(*stages, process_stage(), max_simultaneous_work_items=2)
    is_enough = threading.Event()

    def submit_next(future):
        if not is_enough.is_set():
            pipeline.submit(Item("short")).add_done_callback(submit_next)

    for _ in range(50):
        pipeline.submit(Item("short")).add_done_callback(submit_next)
    try:
        for item in results(pipeline, [Item("chain") for _ in range(20)]):
            assert item.exceptions is None
    finally:
        is_enough.set()
