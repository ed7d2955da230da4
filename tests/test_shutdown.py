"""The ways to end a pipeline: by itself, at once, from within, and by forgetting it."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from concurrent.futures import CancelledError

import pytest
from pipeline_harness import PATIENCE_S, result
from pipeline_stages import (
    PROCESSES,
    RUNNERS,
    Item,
    closing_gate,
    closing_runner,
    having,
    keep,
    negate,
    process_stage,
    thread_stage,
    wait_if_told,
    wants,
)

from atbu.mp_pipeline.mp_pipeline import (
    MultiprocessingPipeline,
    PipelineClosed,
    PipelineTerminated,
    SubprocessPipelineStage,
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


@BOTH_KINDS
def test_shutdown_without_waiting_returns_at_once_and_finishes_all_items(runner, gate, stage_of):
    """A later shutdown waits."""
    pipeline = runner(stage_of(wait_if_told), max_simultaneous_work_items=1)
    futures = [pipeline.submit(Item(gate.path)) for _ in range(4)]
    gate.wait_for(1)
    pipeline.shutdown(wait=False)
    assert not futures[0].done()
    with pytest.raises(PipelineClosed):
        pipeline.submit(Item())
    gate.open(4)
    pipeline.shutdown()
    assert [future.result(0).exceptions for future in futures] == [None] * 4
    assert pipeline.was_graceful_shutdown


@BOTH_KINDS
def test_shutdown_may_cancel_what_is_pending(runner, gate, stage_of):
    """What runs is finished."""
    pipeline = runner(stage_of(wait_if_told), max_simultaneous_work_items=1)
    running, *pending = [pipeline.submit(Item(gate.path)) for _ in range(4)]
    gate.wait_for(1)
    pipeline.shutdown(wait=False, cancel_pending=True)
    with pytest.raises(CancelledError):
        pending[-1].result(PATIENCE_S)
    gate.open(4)
    pipeline.shutdown()
    assert running.result(0).exceptions is None
    # What had been started before was not pending any more.
    assert [future.done() for future in pending] == [True] * 3
    assert pipeline.was_graceful_shutdown


def test_leaving_the_context_finishes_all_items_but_not_after_an_exception(runner, gate):
    """Then those that were not started are cancelled."""
    with runner(process_stage()) as pipeline:
        futures = [pipeline.submit(Item()) for _ in range(10)]
    assert [future.result(0).exceptions for future in futures] == [None] * 10
    assert pipeline.was_graceful_shutdown

    def leave():
        with runner(process_stage(wait_if_told), max_simultaneous_work_items=1) as pipeline:
            futures.extend(pipeline.submit(Item(gate.path)) for _ in range(3))
            gate.wait_for(1)
            gate.open(3)
            raise LookupError("away")

    with pytest.raises(LookupError, match="away"):
        leave()
    assert futures[10].result(0).exceptions is None
    assert futures[12].done()


class Signalling(Item):
    """Has a signal arrive in the middle of submit(), where it gets its place in the pipeline."""

    is_ready = False

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "_cur_stage" and self.is_ready:
            self.is_ready = False
            signal.raise_signal(signal.SIGUSR1)


@pytest.mark.parametrize("end", ["shutdown", "terminate"])
@pytest.mark.parametrize("max_pending", [None, 9])
def test_a_signal_handler_may_end_a_pipeline_in_the_middle_of_submit(runner, end, max_pending):
    """Nothing waits for ever, and the item that was under way ends like the others."""
    pipeline = runner(thread_stage(), max_pending=max_pending)
    before = signal.signal(signal.SIGUSR1, lambda *_: getattr(pipeline, end)())
    try:
        first, last = Item(), Signalling()
        last.is_ready = True
        futures = [pipeline.submit(first), pipeline.submit(last)]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert all(future.done() for future in futures)
    with pytest.raises(PipelineClosed):
        pipeline.submit(Item())


def test_terminate_gives_up_what_is_queued_behind_what_runs(processes, gate):
    """It comes back from the worker that is ended, and is not started again."""
    pipeline = processes(process_stage(wait_if_told), max_simultaneous_work_items=1)
    deadline = time.monotonic() + PATIENCE_S
    while pipeline._engine.scheduler.depth < 2:  # until runs so short are queued at their worker
        result(pipeline.submit(Item()))
        assert time.monotonic() < deadline
    running, queued = pipeline.submit(Item(gate.path)), pipeline.submit(Item())
    gate.wait_for(1)
    while not queued.running():
        assert time.monotonic() < deadline
    pipeline.terminate()
    for future in (running, queued):
        assert [type(ex) for ex in future.result(0).exceptions] == [PipelineTerminated]
    assert pipeline.anomalies == []


def test_terminate_ends_what_runs_now(processes, gate):
    """It fails by name; what is pending is cancelled; no worker is left when it returns."""
    pipeline = processes(process_stage(wait_if_told), max_simultaneous_work_items=1)
    running, pending = having(Item(gate.path), name="the one at work"), Item(gate.path)
    futures = [pipeline.submit(running), pipeline.submit(pending)]
    gate.wait_for(1)
    start = time.monotonic()
    pipeline.terminate()
    assert time.monotonic() - start < PATIENCE_S / 3
    assert futures[0].result(0) is running
    assert [type(ex) for ex in running.exceptions] == [PipelineTerminated]
    assert "the one at work" in str(running.exceptions[0])
    assert futures[1].cancelled()
    assert not pipeline.was_graceful_shutdown
    for end in (pipeline.terminate, pipeline.shutdown):
        end()
    with pytest.raises(PipelineClosed):
        pipeline.submit(Item())


def test_terminate_does_not_wait_for_a_thread_that_cannot_be_ended(runner, gate):
    """Longer than grace_s; its item has failed all the same."""
    pipeline = runner(thread_stage(wait_if_told), max_simultaneous_work_items=1, grace_s=0.1)
    item = Item(gate.path)
    future = pipeline.submit(item)
    gate.wait_for(1)
    pipeline.terminate()
    assert future.result(0) is item
    assert [type(ex) for ex in item.exceptions] == [PipelineTerminated]
    gate.open(1)


def test_terminate_before_anything_was_submitted(runner):
    """Ends it, too."""
    pipeline = runner(process_stage())
    pipeline.terminate()
    with pytest.raises(PipelineClosed):
        pipeline.submit(Item())


def test_a_pipeline_that_is_dropped_finishes_its_items_and_ends():
    """Nobody has to shut it down for that; the check of leftovers says that it ended."""
    for arguments in ({}, {"serial": True}):
        pipeline = MultiprocessingPipeline(stages=[process_stage(negate), thread_stage()], **arguments)
        futures = [pipeline.submit(Item(n)) for n in range(50)]
        del pipeline
        assert [result(future).user_obj for future in futures] == [-n for n in range(50)]


def test_a_pipeline_that_was_never_used_is_dropped_without_a_trace():
    """Its template too."""
    MultiprocessingPipeline(stages=[process_stage()])
    MultiprocessingPipeline(stages=[process_stage()], serial=True)
    gc.collect()


def test_a_pipeline_that_was_shut_down_without_waiting_ends_though_it_is_kept(runner):
    """Its threads and workers end with the last item."""
    pipeline = runner(SubprocessPipelineStage(fn_determiner=wants, fn_worker=keep), thread_stage())
    futures = [pipeline.submit(Item()) for _ in range(10)]
    pipeline.shutdown(wait=False)
    for future in futures:
        result(future)
    own = f"MpPipeline-{pipeline.name}"
    deadline = time.monotonic() + PATIENCE_S
    while any(thread.name.startswith(own) for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "its threads live on"
        os.sched_yield()


@BOTH_KINDS
@pytest.mark.parametrize("serial", [False, True])
def test_what_a_pipeline_held_is_freed_when_it_is_dropped_after_its_shutdown(stage_of, serial):
    """By nobody but the last reference to it."""
    pipeline = MultiprocessingPipeline(stages=[stage_of(), stage_of()], serial=serial)
    for future in [pipeline.submit(Item(n)) for n in range(10)]:
        result(future)
    pipeline.shutdown()
    engine = pipeline._engine
    held = [weakref.ref(each) for each in (engine, engine.items, engine.scheduler)]
    gc.collect()
    gc.disable()
    try:
        del engine, pipeline, future
        assert [reference() for reference in held] == [None] * 3
    finally:
        gc.enable()
