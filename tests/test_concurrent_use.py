"""Pipelines used from many places: threads, callbacks, stages, other pipelines."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from pipeline_harness import PATIENCE_S, result
from pipeline_stages import (
    PROCESSES,
    RUNNERS,
    Item,
    closing_runner,
    negate,
    process_stage,
    results,
    thread_stage,
)

from atbu.mp_pipeline.mp_pipeline import (
    InvalidStateError,
    MultiprocessingPipeline,
    PipelineClosed,
    PipelineTerminated,
)


@pytest.fixture(params=RUNNERS)
def runner(request):
    with closing_runner(request.param) as runner:
        yield runner


@pytest.fixture
def processes():
    with closing_runner(PROCESSES) as runner:
        yield runner


BOTH_KINDS = pytest.mark.parametrize("stage_of", [process_stage, thread_stage])


@BOTH_KINDS
def test_many_threads_may_use_one_pipeline(runner, stage_of):
    """Each gets its own results."""
    pipeline = runner(stage_of(negate), max_pending=50)

    def use(number):
        if number % 2:
            return [item.user_obj for item in results(pipeline, [Item(n + number) for n in range(60)])]
        return [item.user_obj for item in pipeline.map(Item(n + number) for n in range(60))]

    with ThreadPoolExecutor(6) as threads:
        for number, future in enumerate([threads.submit(use, number) for number in range(6)]):
            assert future.result(PATIENCE_S) == [-n - number for n in range(60)]


def test_many_threads_may_shut_one_pipeline_down(runner):
    """All return when it has ended."""
    pipeline = runner(process_stage())
    futures = [pipeline.submit(Item()) for _ in range(50)]
    with ThreadPoolExecutor(6) as threads:
        for ended in [threads.submit(pipeline.shutdown) for _ in range(6)]:
            ended.result(PATIENCE_S)
    assert all(future.done() for future in futures)
    assert pipeline.was_graceful_shutdown


@pytest.mark.parametrize("place", ["fn_determiner", "callback"])
@pytest.mark.parametrize("wait", [lambda pipeline, future: future.result(), lambda pipeline, future: pipeline.map([])])
def test_who_waits_for_an_item_where_it_needs_the_thread_is_refused(runner, place, wait):
    """Nobody waits for ever, and the pipeline goes on."""
    refused = []

    def wait_for_another(*_):
        other = pipeline.submit(Item("other"))
        try:
            wait(pipeline, other)
        except InvalidStateError as ex:
            refused.append(str(ex))
        with pytest.raises(TimeoutError):
            other.result(0)
        return True

    stage, go_on = thread_stage(lambda item: (go_on.wait(), item)[1]), threading.Event()
    stage.fn_determiner = lambda item: item.user_obj != "asks" or wait_for_another()
    pipeline = runner(stage)
    future = pipeline.submit(Item("asks" if place == "fn_determiner" else "calls"))
    if place == "callback":
        future.add_done_callback(wait_for_another)
    go_on.set()
    assert not result(future).is_failed
    assert not results(pipeline, [Item()])[0].is_failed
    assert len(refused) == 1
    assert "own thread" in refused[0]


def test_many_pipelines_may_live_in_one_process(runner):
    """And pass items on to each other."""
    second, third = runner(process_stage(negate)), runner(thread_stage(negate))
    ended: list[Future] = [Future() for _ in range(30)]

    def pass_on(future):
        second.submit(future.result()).add_done_callback(
            lambda future: third.submit(future.result()).add_done_callback(
                lambda future: ended[abs(future.result().user_obj)].set_result(future.result())
            )
        )

    first = runner(process_stage(negate))
    for n in range(30):
        first.submit(Item(n)).add_done_callback(pass_on)
    assert [result(future).user_obj for future in ended] == [-n for n in range(30)]


def _run_a_pipeline(item):
    with MultiprocessingPipeline(stages=[process_stage(_append_pid)], name="inner") as pipeline:
        inner = results(pipeline, [Item([os.getpid()]) for _ in range(5)])
    for each in inner:
        assert each.exceptions is None, each.exceptions
    item.user_obj = [each.user_obj for each in inner]
    return item


def _append_pid(item):
    item.user_obj.append(os.getpid())
    return item


@BOTH_KINDS
def test_a_stage_may_run_a_pipeline_of_its_own(runner, stage_of):
    """In a worker of another, too."""
    for item in results(runner(stage_of(_run_a_pipeline)), [Item(), Item()]):
        assert item.exceptions is None
        for outer, inner in item.user_obj:
            assert outer != inner
            assert (outer == os.getpid()) == (stage_of is thread_stage or runner.is_serial)


def _leave_a_pipeline(item):
    pipeline = MultiprocessingPipeline(stages=[process_stage()], name="left")
    item.user_obj = result(pipeline.submit(Item("inner"))).user_obj
    item.kept = None
    _kept.append(pipeline)
    return item


_kept: list[MultiprocessingPipeline] = []


def test_a_worker_may_leave_a_pipeline_behind(processes):
    """It ends with the worker."""
    (item,) = results(processes(process_stage(_leave_a_pipeline)), [Item()])
    assert (item.exceptions, item.user_obj) == (None, "inner")


def test_a_thread_stage_may_submit_to_its_own_pipeline(runner):
    """And callbacks may; what they submit is done."""
    later: list[Future] = []

    def work(item):
        if item.user_obj:
            later.append(pipeline.submit(Item(item.user_obj - 1)))
        return item

    pipeline = runner(thread_stage(work), process_stage())
    results(pipeline, [Item(20)])
    for number in range(20):
        assert result(later[number]).user_obj == 19 - number


def test_a_thread_stage_may_wait_for_an_item_of_its_own_pipeline(processes):
    """Where there is room for both."""

    def work(item):
        item.user_obj = result(pipeline.submit(Item("inner"))).user_obj
        return item

    stage = thread_stage(work)
    stage.fn_determiner = lambda item: item.user_obj == "outer"
    pipeline = processes(stage, process_stage(), max_simultaneous_work_items=2)
    assert results(pipeline, [Item("outer")])[0].user_obj == "inner"


def test_a_callback_may_submit(runner):
    """A chain of a hundred, each by the callback of the one before."""
    last: Future = Future()

    def submit_next(future):
        left = future.result().user_obj
        if left:
            pipeline.submit(Item(left - 1)).add_done_callback(submit_next)
        else:
            last.set_result("done")

    pipeline = runner(process_stage())
    pipeline.submit(Item(100)).add_done_callback(submit_next)
    assert result(last) == "done"


@pytest.mark.parametrize("end", ["shutdown", "terminate"])
@pytest.mark.parametrize("place", ["callback", "is_for_stage", "thread stage", "stage_complete"])
def test_the_pipeline_may_be_ended_from_within(runner, end, place):
    """From its own threads, which do not wait for themselves."""

    class EndingItem(Item):
        def stage_complete(self, stage_num, wi, ex):
            end_at("stage_complete")
            super().stage_complete(stage_num, wi, ex)

    def end_at(here):
        if here == place:
            getattr(pipeline, end)()

    go_on = threading.Event()

    def work(item):
        go_on.wait()
        end_at("thread stage")
        return item

    stage = thread_stage(work)
    stage.fn_determiner = lambda item: (end_at("is_for_stage"), True)[1]
    pipeline = runner(stage)
    item = EndingItem()
    future = pipeline.submit(item)
    future.add_done_callback(lambda future: end_at("callback"))
    go_on.set()
    assert result(future) is item
    assert item.exceptions is None or [type(ex) for ex in item.exceptions] == [PipelineTerminated]
    if end == "shutdown":
        assert item.exceptions is None
    pipeline.shutdown()
    with pytest.raises(PipelineClosed):
        pipeline.submit(Item())


@pytest.mark.parametrize(
    "wait", [lambda pipeline: pipeline.submit(Item()).result(), lambda pipeline: next(pipeline.map([]), 0)]
)
def test_a_thread_stage_is_told_that_it_would_wait_for_ever(runner, wait):
    """Where no other item may be at work meanwhile."""

    def wait_inside(item):
        if item.user_obj == "wait":
            wait(pipeline)
        return item

    pipeline = runner(thread_stage(wait_inside), max_simultaneous_work_items=1)
    waiting, good = results(pipeline, [Item("wait"), Item()])
    assert [type(ex) for ex in waiting.exceptions] == [InvalidStateError]
    assert good.exceptions is None


@pytest.mark.parametrize("complete", [lambda future: future.set_result("mine"), Future.set_running_or_notify_cancel])
def test_a_future_that_the_program_sets_itself_costs_no_other_item(runner, complete):
    """What it was set to stays."""
    let_go = threading.Event()
    pipeline = runner(thread_stage(lambda item: (let_go.wait(PATIENCE_S), item)[1]), max_simultaneous_work_items=1)
    first, second, third = [pipeline.submit(Item(number)) for number in range(3)]
    complete(second)
    let_go.set()
    assert [result(future).exceptions for future in (first, third)] == [None, None]
    assert result(second) == "mine" or not result(second).is_failed
    assert pipeline.anomalies == []
