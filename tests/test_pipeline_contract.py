"""What a caller of a pipeline can rely on: construction, submit, results, and what is asked on the way."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future

import pytest
from pipeline_harness import note_in, result
from pipeline_stages import RUNNERS, Item, closing_runner, fail, keep, process_stage, results, thread_stage

from atbu.mp_pipeline.mp_pipeline import (
    InvalidFunctionArgument,
    InvalidStateError,
    MultiprocessingPipeline,
    PipelineClosed,
    PipelineResultIsNotPipelineWorkItem,
    PipelineStage,
    PipelineWorkItem,
    SubprocessPipelineStage,
)


@pytest.fixture(params=RUNNERS)
def runner(request):
    with closing_runner(request.param) as runner:
        yield runner


# -- construction


def _remember_start(path, word):
    note_in(path, f"{os.getpid()} {word}")


def _note_pid(item, path):
    note_in(path, f"{os.getpid()} worked")
    return item


def test_arguments_stand_in_the_originals_order(journal):
    """Stages, items at once, name, initialiser, its arguments; and the initialiser runs first in each worker."""
    stages = [process_stage(_note_pid, path=str(journal.path))]
    pipeline = MultiprocessingPipeline(stages, 0, "in order", _remember_start, (str(journal.path), "started"))
    results(pipeline, [Item() for _ in range(20)])
    pipeline.shutdown()

    assert pipeline.name == "in order"
    lines = journal.lines()
    workers = {line.split()[0] for line in lines}
    assert str(os.getpid()) not in workers
    for pid in workers:
        assert next(line for line in lines if line.startswith(pid)) == f"{pid} started"
        assert lines.count(f"{pid} started") == 1


@pytest.mark.parametrize("at_once", [None, 0, 1, 3])
def test_zero_items_at_once_is_legal_and_means_the_default(runner, at_once):
    """Programs pass cpu_count() // 2."""
    pipeline = runner(process_stage(), max_simultaneous_work_items=at_once)
    assert not any(item.is_failed for item in results(pipeline, [Item(n) for n in range(5)]))


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_simultaneous_work_items": -1},
        {"stages": (process_stage(),)},
        {"stages": process_stage()},
        {"max_pending": 0},
        {"grace_s": -1.0},
        {"grace_s": float("nan")},
        {"counters": "bytes_in"},
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused(arguments):
    """At construction, by an error that names the argument."""
    with pytest.raises(InvalidFunctionArgument, match=next(iter(arguments))):
        MultiprocessingPipeline(**arguments)


def test_stages_are_added_behind_the_others_and_counted(runner, journal):
    """By add_stage, before and after the first item."""
    pipeline = runner()
    assert pipeline.num_stages == 0
    pipeline.add_stage(process_stage(_note_word, path=str(journal.path), word="first"))
    pipeline.add_stage(thread_stage(_note_word, path=str(journal.path), word="second"))
    assert pipeline.num_stages == 2
    results(pipeline, [Item()])
    pipeline.add_stage(stage=process_stage(_note_word, path=str(journal.path), word="third"))
    assert pipeline.num_stages == 3
    results(pipeline, [Item()])
    assert journal.lines() == ["first", "second", "first", "second", "third"]


def _note_word(item, path, word):
    note_in(path, word)
    return item


def test_without_stages_an_item_comes_back_as_it_is(runner):
    """There is nothing to do, and so it is done."""
    item = Item("payload")
    assert results(runner(), [item]) == [item]
    assert (item.user_obj, item.exceptions) == ("payload", None)


@pytest.mark.parametrize("num_items", [0, 1, 10])
def test_shutdown_may_be_called_any_number_of_times(runner, num_items):
    """Also with nothing submitted; afterwards it was graceful, whatever became of the items."""
    pipeline = runner(process_stage(fail))
    results(pipeline, [Item() for _ in range(num_items)])
    assert not pipeline.was_graceful_shutdown
    for _ in range(3):
        pipeline.shutdown()
        assert pipeline.was_graceful_shutdown
    assert pipeline.anomalies == []


# -- submit


def test_the_futures_result_is_the_submitted_object(runner):
    """Updated; the future is a concurrent.futures.Future."""
    pipeline = runner(process_stage(_double), thread_stage(_double))
    items = [Item(n) for n in range(10)]
    futures = [pipeline.submit(item) for item in items]
    assert all(isinstance(future, Future) for future in futures)
    for future, item in zip(futures, items, strict=True):
        assert result(future) is item
    assert [item.user_obj for item in items] == [4 * n for n in range(10)]
    assert {item.exceptions for item in items} == {None}
    assert not any(item.is_failed for item in items)


def _double(item):
    item.user_obj *= 2
    return item


@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
def test_a_failed_item_is_a_result_not_an_exception(runner, stage_of):
    """It says so by is_failed, and exceptions holds the failure once; no later stage is asked."""
    asked = []
    later = SubprocessPipelineStage(fn_determiner=asked.append, fn_worker=keep)
    item = Item()
    future = runner(stage_of(fail), later).submit(item)
    assert result(future) is item
    assert future.exception() is None
    assert item.is_failed
    assert [(type(ex), str(ex)) for ex in item.exceptions] == [(ValueError, "it was not to be")]
    assert asked == []


@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
def test_a_stage_may_return_its_item_failed(runner, stage_of):
    """What it recorded on its copy is recorded on the submitted item, once each."""
    (item,) = results(runner(stage_of(_record_two)), [Item()])
    assert [(type(ex), str(ex)) for ex in item.exceptions] == [(KeyError, "'one'"), (OSError, "two")]


def _record_two(item):
    item.append_exception(KeyError("one"))
    item.append_exception(OSError("two"))
    return item


@pytest.mark.parametrize("thing", [None, "an item", 7, object(), PipelineWorkItem, PipelineStage()], ids=repr)
def test_what_is_no_work_item_is_refused_at_submit(runner, thing):
    """And the pipeline goes on."""
    pipeline = runner(process_stage())
    with pytest.raises(InvalidFunctionArgument, match="PipelineWorkItem"):
        pipeline.submit(thing)
    assert not results(pipeline, [Item()])[0].is_failed


def test_after_shutdown_submit_refuses(runner):
    """By an error that programs catch as either of two."""
    pipeline = runner(process_stage())
    pipeline.shutdown()
    for error in (PipelineClosed, InvalidFunctionArgument, InvalidStateError):
        with pytest.raises(error, match="shut down"):
            pipeline.submit(Item())


def test_an_item_is_in_one_pipeline_once_at_a_time(runner):
    """Submitting it once more is refused while it is in one, and fine when it has ended."""
    at_work, go_on = threading.Event(), threading.Event()

    def work(item):
        at_work.set()
        go_on.wait()
        return item

    pipeline, other = runner(thread_stage(work)), runner()
    item = Item()
    future = pipeline.submit(item)
    at_work.wait()
    for each in (pipeline, other):
        with pytest.raises(InvalidFunctionArgument, match="already"):
            each.submit(item)
    go_on.set()
    result(future)
    assert results(pipeline, [item]) == [item]


# -- is_for_stage


class AskingStage(PipelineStage):
    """Notes who asks it, and where; declines the items it is told to."""

    def __init__(self, is_process, declined=()):
        super().__init__()
        self.is_process = is_process
        self.declined = declined

    @property
    def is_subprocess(self):
        return self.is_process

    def is_for_stage(self, pwi):
        pwi.asked.append((id(pwi), os.getpid()))
        return pwi.name not in self.declined

    def perform_stage_work(self, pwi, **kwargs):
        pwi.done = [*pwi.done, pwi.name]
        return pwi


class AskedItem(PipelineWorkItem):
    def __init__(self, name):
        super().__init__(auto_copy_attr=True)
        self.name = name
        self.done = []

    # not an attribute, for those are carried back
    asked_of: dict = {}  # noqa: RUF012

    @property
    def asked(self):
        return self.asked_of.setdefault(self.name, [])


def test_is_for_stage_runs_in_the_parent_on_the_submitted_object_once_for_each_stage(runner):
    """Whether it wants the item or not."""
    AskedItem.asked_of.clear()
    stages = [AskingStage(True), AskingStage(False, ["b"]), AskingStage(True, ["a", "b"]), AskingStage(False)]
    a, b = AskedItem("a"), AskedItem("b")
    results(runner(*stages), [a, b])
    assert AskedItem.asked_of == {"a": [(id(a), os.getpid())] * 4, "b": [(id(b), os.getpid())] * 4}
    assert (a.done, b.done) == (["a"] * 3, ["b"] * 2)


@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
def test_what_is_for_stage_changes_on_the_item_the_stage_sees(runner, stage_of):
    """It is the submitted object, and the copy is made afterwards."""
    stage = stage_of(_double)
    stage.fn_determiner = _decide_and_add_one
    assert results(runner(stage), [Item(20)])[0].user_obj == 42


def _decide_and_add_one(item):
    item.user_obj += 1
    return True


# -- perform_stage_work


class ListItem(PipelineWorkItem):
    """Carries nothing back by itself; what it shares with its copies is seen without that."""

    def __init__(self):
        super().__init__(auto_copy_attr=False)
        self.seen = []
        self.mark = "submitted"
        self.copied_by = None

    def __copy__(self):
        twin = ListItem.__new__(ListItem)
        twin.__dict__.update(self.__dict__, copied_by="copy")
        return twin

    def __setstate__(self, state):
        self.__dict__.update(state, copied_by="pickle")


def _leave_traces(item):
    item.user_obj = (item.copied_by, os.getpid(), id(item))
    item.seen.append("been here")
    item.mark = "worked on"
    return item


def test_a_process_stage_works_on_a_pickled_copy(runner):
    """In the serial runner too: nothing of the copy is shared with the submitted item."""
    (item,) = results(runner(process_stage(_leave_traces)), [ListItem()])
    copied_by, pid, _ = item.user_obj
    assert copied_by == "pickle"
    assert (pid == os.getpid()) == runner.is_serial
    assert (item.seen, item.mark) == ([], "submitted")


def test_a_thread_stage_works_on_a_shallow_copy(runner):
    """Made by copy.copy: attributes are its own, what they refer to is shared."""
    (item,) = results(runner(thread_stage(_leave_traces)), [ListItem()])
    copied_by, pid, identity = item.user_obj
    assert (copied_by, pid) == ("copy", os.getpid())
    assert identity != id(item)
    assert (item.seen, item.mark) == (["been here"], "submitted")


def test_the_items_keyword_arguments_override_the_stages(runner):
    """And the stage gets both."""
    stages = [process_stage(_take_kwargs, a=1, b=2), thread_stage(_take_kwargs, a=10, c=30)]
    item = Item([], b="item's", d="item's too")
    results(runner(*stages), [item])
    theirs = {"b": "item's", "d": "item's too"}
    assert item.user_obj == [{"a": 1, **theirs}, {"a": 10, "c": 30, **theirs}]


def _take_kwargs(item, **kwargs):
    item.user_obj = [*item.user_obj, kwargs]
    return item


@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
@pytest.mark.parametrize("returned", [None, True, "the item", [], PipelineWorkItem], ids=repr)
def test_a_result_that_is_no_work_item_fails_the_item(runner, stage_of, returned):
    """By an error of its own."""
    item = Item(returned)
    results(runner(stage_of(_return_payload)), [item])
    assert [type(ex) for ex in item.exceptions] == [PipelineResultIsNotPipelineWorkItem]


def _return_payload(item):
    return item.user_obj


@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
def test_a_stage_that_returns_another_items_object_fails_its_item_alone(runner, stage_of):
    """The other item has a future of its own to answer for it."""
    other = Item("other")
    item = Item(other)
    pipeline = runner(thread_stage(), stage_of(_return_payload_if_item))
    assert result(pipeline.submit(other)) is other
    go_on = threading.Event()
    held = runner(thread_stage(lambda pwi: (go_on.wait(), pwi)[1])).submit(other)
    results(pipeline, [item])
    go_on.set()
    assert result(held) is other
    assert [type(ex) for ex in item.exceptions] == [PipelineResultIsNotPipelineWorkItem]
    assert not other.is_failed


def _return_payload_if_item(item):
    return item.user_obj if isinstance(item.user_obj, Item) else item


# -- stage_complete and what is carried back


class CompletingItem(PipelineWorkItem):
    """Notes the calls of stage_complete."""

    def __init__(self, auto_copy_attr=True):
        super().__init__(auto_copy_attr=auto_copy_attr)
        self.mark = 0
        self.calls = None

    def stage_complete(self, stage_num, wi, ex):
        mine = self.calls or []
        super().stage_complete(stage_num, wi, ex)
        self.calls = [*mine, (stage_num, wi.mark, None if ex is None else str(ex), id(self), os.getpid())]


def _mark(item):
    item.mark += 1
    item.user_obj = f"marked {item.mark}"
    return item


def test_stage_complete_runs_in_the_parent_on_the_submitted_object_in_stage_order(runner):
    """Once for each stage that ran, with the copy the stage returned; a failure comes with the item itself."""
    stages = [process_stage(_mark), thread_stage(_mark), process_stage(_mark), thread_stage(fail)]
    stages.insert(1, SubprocessPipelineStage(fn_determiner=lambda item: False, fn_worker=fail))
    item = CompletingItem()
    results(runner(*stages), [item])
    here = (id(item), os.getpid())
    assert item.calls == [
        (0, 1, None, *here),
        (2, 2, None, *here),
        (3, 3, None, *here),
        (4, 3, "it was not to be", *here),
    ]
    assert [str(ex) for ex in item.exceptions] == ["it was not to be"]


@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
@pytest.mark.parametrize("auto_copy_attr", [True, False])
def test_user_obj_is_always_carried_back_and_other_attributes_unless_told_not_to(runner, stage_of, auto_copy_attr):
    """auto_copy_attr=False leaves the taking over to an override of stage_complete."""
    item = CompletingItem(auto_copy_attr)
    results(runner(stage_of(_mark)), [item])
    assert item.user_obj == "marked 1"
    assert item.mark == (1 if auto_copy_attr else 0)


@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
def test_an_item_may_be_its_own_user_obj(runner, stage_of):
    """And stays so, updated."""
    item = CompletingItem()
    item.user_obj = item
    pipeline = runner(stage_of(_mark_only), stage_of(_mark_only))
    results(pipeline, [item])
    assert item.user_obj is item
    assert item.mark == 2


def _mark_only(item):
    item.mark += 1
    return item


class SilentItem(PipelineWorkItem):
    """Overrides stage_complete and does not call super."""

    def stage_complete(self, stage_num, wi, ex):
        pass


@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
@pytest.mark.parametrize(("work", "failures"), [(fail, [ValueError]), (_record_two, [KeyError, OSError])])
def test_a_failure_is_recorded_whatever_stage_complete_does(runner, stage_of, work, failures):
    """The pipeline itself sees to that."""
    (item,) = results(runner(stage_of(work)), [SilentItem()])
    assert [type(ex) for ex in item.exceptions] == failures
