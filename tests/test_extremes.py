"""What a large or long-lived program may come to: many descriptors, waits of weeks, no threads, long names."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import threading
import time
from collections.abc import Iterator

import chain_stages as work
import pytest
from pipeline_harness import PATIENCE_S, TEMPLATE, no_low_descriptor_free, pipeline_on, result, wait_readable
from pipeline_stages import Item, chain, process_stage, thread_stage

from atbu.mp_pipeline.item_future import ItemFuture
from atbu.mp_pipeline.mp_pipeline import PipelineBroken
from atbu.mp_pipeline.runs import Entry
from atbu.mp_pipeline.workers import WorkerPool


def test_a_program_may_have_a_thousand_files_open() -> None:
    """Descriptors with large numbers are as good as others."""
    with (
        no_low_descriptor_free(),
        pipeline_on(TEMPLATE, stages=[process_stage(), thread_stage()], max_simultaneous_work_items=2) as pipeline,
    ):
        assert [result(pipeline.submit(Item(number))).exceptions for number in range(4)] == [None] * 4
    assert pipeline.was_graceful_shutdown


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Be a program that may open so many more files."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = os.open(os.devnull, os.O_RDONLY)
    held = [first, *(os.dup(first) for _ in range(count))]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, limits[1]))
    try:
        with contextlib.suppress(OSError):  # those that are free between others
            while True:
                held.append(os.dup(first))
        for fd in sorted(held[1:])[-count:] if count else []:
            held.remove(fd)
            os.close(fd)
        yield
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("count", range(7))
def test_a_pipeline_that_cannot_be_made_leaves_nothing(count: int) -> None:
    """No descriptor, and no template, at whatever point descriptors run out."""
    with (
        descriptors_left(count),
        contextlib.suppress(OSError),
        pipeline_on(TEMPLATE, stages=[process_stage()]) as pipeline,
    ):
        # made, but no worker will be
        assert [type(ex) for ex in result(pipeline.submit(Item())).exceptions] == [PipelineBroken]


@pytest.mark.parametrize("seconds", [math.inf, 1e9, 10**400])
def test_waits_may_be_as_long_as_one_likes(seconds: float) -> None:
    """A time limit and a grace of years are as good as none."""
    stage = process_stage()
    stage.timeout = seconds
    with pipeline_on(TEMPLATE, stages=[stage, thread_stage()], grace_s=seconds) as pipeline:
        assert result(pipeline.submit(Item())).exceptions is None
    assert pipeline.was_graceful_shutdown


def refuse_to_start(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_submit_that_gets_no_thread_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the item nor its place: the same submit succeeds later."""
    item = Item()
    with pipeline_on(TEMPLATE, stages=[process_stage()], max_pending=1) as pipeline:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse_to_start)
            with pytest.raises(RuntimeError, match="new thread"):
                pipeline.submit(item)
        assert result(pipeline.submit(item)).exceptions is None
    assert pipeline.was_graceful_shutdown


def test_a_pipeline_that_never_got_a_thread_can_be_shut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves nothing."""
    with pipeline_on(TEMPLATE, stages=[process_stage()]) as pipeline, monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse_to_start)
        with pytest.raises(RuntimeError, match="new thread"):
            pipeline.submit(Item())
    assert pipeline.was_graceful_shutdown


def test_an_item_that_comes_when_the_loop_has_ended_is_failed() -> None:
    """A submit that was under way when the program ended, say."""
    with pipeline_on(TEMPLATE, stages=[process_stage()]) as pipeline:
        result(pipeline.submit(Item()))
    item, future = Item(), ItemFuture()
    pipeline._engine.post(Entry(item, future, 1))
    assert [type(ex) for ex in future.result(0).exceptions] == [PipelineBroken]
    assert item._submission is None


def take_a_while(item: Item) -> Item:
    time.sleep(0.3)
    item.pid = os.getpid()
    return item


def test_as_many_workers_as_the_system_has_room_for_do_the_work() -> None:
    """That there cannot be more breaks nothing while one is at work."""
    with (
        descriptors_left(18),
        pipeline_on(TEMPLATE, stages=[process_stage(take_a_while)], max_simultaneous_work_items=4) as pipeline,
    ):
        items = [result(future) for future in [pipeline.submit(Item()) for _ in range(4)]]
    assert [item.exceptions for item in items] == [None] * 4
    assert len({item.pid for item in items}) == 1
    assert pipeline.was_graceful_shutdown


@pytest.mark.parametrize("letters", ["PTP", "TTT"])
def test_a_chain_for_which_descriptors_run_out_leaves_none(letters: str) -> None:
    """At whatever point they do; the chain fails, and later ones succeed."""
    stages = chain(letters, work.produce, work.pass_on_plus_one, work.consume)
    with pipeline_on(TEMPLATE, stages=stages, max_simultaneous_work_items=1) as pipeline:
        assert result(pipeline.submit(Item(b"data"))).exceptions is None
        before = os.listdir("/proc/self/fd")
        has_failed = []
        for count in range(10):
            with descriptors_left(count):
                item = result(pipeline.submit(Item(b"data")))
            has_failed.append(item.is_failed)
            assert not item.is_failed or type(item.exceptions[0]) is OSError
        assert has_failed[0]  # how many are enough depends on when the threads close theirs
        assert result(pipeline.submit(Item(b"data"))).exceptions is None
        assert len(os.listdir("/proc/self/fd")) == len(before)


def test_workers_that_came_to_life_with_the_last_descriptors_cost_no_item(capfd: pytest.CaptureFixture[str]) -> None:
    """Many are asked for at once, and none is left to watch some of them by: those get no work, the others do it."""
    with (
        descriptors_left(100),
        pipeline_on(TEMPLATE, stages=[process_stage(take_a_while)], max_simultaneous_work_items=24) as pipeline,
    ):
        items = [result(future) for future in [pipeline.submit(Item()) for _ in range(24)]]
    assert [item.exceptions for item in items] == [None] * 24
    assert pipeline.was_graceful_shutdown
    assert capfd.readouterr().err == ""


def test_a_worker_faster_than_the_report_of_its_start_is_kept_where_that_loses_its_descriptor() -> None:
    """It has said itself that it is there, and may be at work by then."""
    pool = WorkerPool(None, (), "faster", ())
    worker = pool.start([])
    try:
        wait_readable(worker.channel.fileno(), "the worker was never ready")
        ((fields, _),), _ = worker.channel.receive()
        worker.came_to_life(fields[6], os.pidfd_open(fields[6]))
        assert pool.template is not None
        wait_readable(pool.template.fileno(), "the template has not reported")
        with descriptors_left(0):
            pool.read_template()
        assert pool.take_news() == []
        assert pool.workers == {worker.id: worker}
        assert worker.refusal is None
    finally:
        pool.ask_to_end(worker)
        assert worker.pidfd is not None
        wait_readable(worker.pidfd.fileno(), "the worker has not ended")
        assert pool.bury(worker) == 0
        pool.close(PATIENCE_S)


def exit_at_once() -> None:
    os._exit(1)


def test_refusing_again_and_again_costs_no_memory() -> None:
    """The error of a broken pipeline does not grow by each submit."""
    with pipeline_on(TEMPLATE, stages=[process_stage()], process_initfunc=exit_at_once) as pipeline:
        assert result(pipeline.submit(Item())).is_failed
        lengths = []
        for _ in range(3):
            with pytest.raises(PipelineBroken) as refusal:
                pipeline.submit(Item())
            lengths.append(len(refusal.traceback))
    assert len(set(lengths)) == 1
