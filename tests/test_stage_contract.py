"""What a stage can rely on: fresh or its caller's own, and its pipes."""

from __future__ import annotations

import threading
from multiprocessing.connection import Connection

import pytest
from pipeline_stages import (
    PROCESSES,
    RUNNERS,
    Item,
    PipedProcessStage,
    PipedThreadStage,
    chain,
    closing_runner,
    keep,
    negate,
    process_stage,
    results,
    thread_stage,
    wants,
)

from atbu.mp_pipeline.mp_pipeline import SubprocessPipelineStage, ThreadPipelineStage


@pytest.fixture(params=RUNNERS)
def runner(request):
    with closing_runner(request.param) as runner:
        yield runner


@pytest.fixture
def processes():
    with closing_runner(PROCESSES) as runner:
        yield runner


# -- fresh for every item


class CountingStage(SubprocessPipelineStage):
    """Counts its items on itself."""

    def __init__(self):
        super().__init__(fn_determiner=wants)
        self.count = 0
        self.log = []
        self.parents = {"word": "first"}

    def perform_stage_work(self, pwi, **kwargs):
        self.count += 1
        self.log.append(self.count)
        self.parents[self.count] = self.count
        pwi.user_obj = (self.count, len(self.log), len(self.parents), self.parents["word"])
        return pwi


class CountingThreadStage(CountingStage):
    @property
    def is_subprocess(self):
        return False


class KeptStage(CountingStage):
    """Opts into being kept in the worker."""

    keep_in_worker = True


def test_a_process_stage_is_fresh_for_every_item(runner):
    """What it stores on itself while working the next item does not see, nor does the parent."""
    stage = CountingStage()
    items = results(runner(stage, max_simultaneous_work_items=1), [Item() for _ in range(20)])
    assert [item.user_obj for item in items] == [(1, 1, 2, "first")] * 20
    assert (stage.count, stage.log, stage.parents) == (0, [], {"word": "first"})


def test_a_stage_that_takes_the_place_of_another_does_the_work_of_later_items(runner):
    """In the list that the pipeline was given."""
    pipeline = runner(process_stage(negate))
    first = results(pipeline, [Item(1)])[0]
    pipeline._stages[0] = process_stage(keep)
    second = results(pipeline, [Item(1)])[0]
    assert (first.user_obj, second.user_obj) == (-1, 1)


def test_what_the_parent_changes_on_a_stage_later_items_see(runner):
    """Whether it replaces a value, changes one in place, or adds one."""
    stage = CountingStage()
    pipeline = runner(stage)
    assert results(pipeline, [Item()])[0].user_obj == (1, 1, 2, "first")
    stage.parents["word"] = "second"
    assert results(pipeline, [Item()])[0].user_obj == (1, 1, 2, "second")
    stage.count = 10
    assert results(pipeline, [Item()])[0].user_obj == (11, 1, 2, "second")
    stage.log.extend("abc")
    assert results(pipeline, [Item()])[0].user_obj == (11, 4, 2, "second")
    stage.parents = {"word": "third", "more": "to see"}
    assert results(pipeline, [Item()])[0].user_obj == (11, 4, 3, "third")
    stage.stage_kwargs["unused"] = 1
    del stage.parents["more"]
    assert results(pipeline, [Item()])[0].user_obj == (11, 4, 2, "third")


def test_a_class_may_opt_into_being_kept_in_the_worker(processes):
    """Until the parent changes the stage."""
    stage = KeptStage()
    pipeline = processes(stage, max_simultaneous_work_items=1)
    assert [item.user_obj[0] for item in results(pipeline, [Item() for _ in range(5)])] == [1, 2, 3, 4, 5]
    stage.count = 100
    assert [item.user_obj[0] for item in results(pipeline, [Item() for _ in range(2)])] == [101, 102]


def test_a_thread_stage_is_the_callers_own_object(runner):
    """It sees what earlier items left on it."""
    stage = CountingThreadStage()
    items = results(runner(stage, max_simultaneous_work_items=1), [Item() for _ in range(5)])
    assert [item.user_obj[0] for item in items] == [1, 2, 3, 4, 5]
    assert (stage.count, stage.log) == (5, [1, 2, 3, 4, 5])


class UnpicklableThreadStage(ThreadPipelineStage):
    def __reduce__(self):
        raise AssertionError("somebody pickles a thread stage")


def test_a_thread_stage_is_never_pickled_and_holds_anything(runner):
    """Lambdas, bound methods, locks; and so may its items."""
    seen = []
    stage = UnpicklableThreadStage(fn_determiner=lambda item: True, fn_worker=lambda item: (seen.append(item), item)[1])
    stage.lock = threading.Lock()
    item = Item(lambda: "payload")
    results(runner(stage, thread_stage(fn_kwargs=seen.append)), [item])
    assert item.exceptions is None
    assert item.user_obj() == "payload"
    assert len(seen) == 1


# -- pipes


class MoodyStage(SubprocessPipelineStage):
    """Whether it pipes is asked per item; how often is counted in the parent."""

    mood: bool = False
    num_asked = 0

    @property
    def is_pipe_with_next_stage(self):
        type(self).num_asked += 1
        return type(self).mood

    def is_for_stage(self, pwi):
        type(self).mood = pwi.user_obj
        return True

    def perform_stage_work(self, pwi, **kwargs):
        pwi.had_pipe = pwi.pipe_conn is not None
        return pwi


def test_whether_to_pipe_is_asked_for_each_item(runner):
    """The property may say now this, now that."""
    MoodyStage.num_asked = 0
    items = [Item(bool(n % 2)) for n in range(6)]
    results(runner(MoodyStage(), process_stage()), items)
    assert [item.had_pipe for item in items] == [False, True] * 3
    assert MoodyStage.num_asked == 6


class AskedStage(ThreadPipelineStage):
    """Notes in the parent which stage was asked and which worked."""

    def __init__(self, name, answer, is_piped):
        super().__init__()
        self.name = name
        self.answer = answer
        self.is_piped = is_piped

    @property
    def is_pipe_with_next_stage(self):
        return self.is_piped

    def is_for_stage(self, pwi):
        pwi.user_obj.append(f"{self.name}?")
        return self.answer

    def perform_stage_work(self, pwi, **kwargs):
        pwi.user_obj.append(self.name)
        return pwi


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"b": False}, ["a?", "b?", "c?", "c", "d?", "d"]),
        ({"a": False}, ["a?", "b?", "b", "c?", "c", "d?", "d"]),
        ({"b": False, "d": False}, ["a?", "b?", "c?", "c", "d?"]),
    ],
    ids=["the second declines", "the first declines", "the second and the last decline"],
)
def test_both_stages_of_a_pipe_must_want_the_item(runner, answers, expected):
    """If the next declines neither runs, and it is not asked again."""
    stages = [AskedStage(name, answers.get(name, True), name == "a") for name in "abcd"]
    (item,) = results(runner(*stages), [Item([])])
    assert item.exceptions is None
    assert item.user_obj == expected


def test_a_chain_in_which_one_declines_does_not_run_at_all(runner):
    """However many had agreed before."""
    stages = [AskedStage(name, name != "c", name in "abc") for name in "abcde"]
    (item,) = results(runner(*stages), [Item([])])
    assert item.user_obj == ["a?", "b?", "c?", "d?", "d", "e?", "e"]


def _describe_pipes(item):
    pipes = (item.pipe_conn, item.pipe_in, item.pipe_out)
    item.user_obj = [
        *item.user_obj,
        (
            all(pipe is None or isinstance(pipe, Connection) for pipe in pipes),
            "in" if item.pipe_conn is item.pipe_in else "out",
            [pipe is not None and (pipe.readable, pipe.writable) for pipe in pipes[1:]],
        ),
    ]
    return item


class KeepingItem(Item):
    """Keeps what each stage of a chain made of its payload."""

    def __init__(self):
        super().__init__([])
        self.of_stage = {}

    def stage_complete(self, stage_num, wi, ex):
        kept = self.of_stage
        super().stage_complete(stage_num, wi, ex)
        self.of_stage = {**kept, stage_num: wi.user_obj}


@pytest.mark.parametrize("letters", ["PPP", "TTT", "PTP", "TPT"])
def test_pipe_conn_is_the_pipe_in_where_there_is_one_else_the_pipe_out(runner, letters):
    """Each a Connection of multiprocessing, for one direction."""
    (item,) = results(runner(*chain(letters, *[_describe_pipes] * 3)), [KeepingItem()])
    assert item.exceptions is None
    assert item.of_stage == {
        0: [(True, "out", [False, (False, True)])],
        1: [(True, "in", [(True, False), (False, True)])],
        2: [(True, "in", [(True, False), False])],
    }


def _send_bare(item):
    item.pipe_conn.send_bytes(b"bytes")
    item.pipe_conn.send({"any": "object"})
    return item


def _receive_bare(item):
    assert item.pipe_conn.poll(30)
    item.user_obj = [item.pipe_conn.recv_bytes(), item.pipe_conn.recv()]
    with pytest.raises(EOFError):
        item.pipe_conn.recv()
    return item


def _close_after(work):
    return {_send_bare: _send_bare_and_close, _receive_bare: _receive_bare_and_close}[work]


def _send_bare_and_close(item):
    _send_bare(item).pipe_conn.close()
    return item


def _receive_bare_and_close(item):
    _receive_bare(item).pipe_conn.close()
    return item


@pytest.mark.parametrize("letters", ["PP", "PT", "TP", "TT"])
@pytest.mark.parametrize("is_closed", [False, True], ids=["left open", "closed"])
def test_a_pipe_is_usable_bare_and_never_travels_back(runner, letters, is_closed):
    """Whether the stage closes it or returns its item with it open."""
    works = [_send_bare, _receive_bare]
    stages = chain(letters, *map(_close_after, works) if is_closed else works)
    (item,) = results(runner(*stages), [Item()])
    assert item.exceptions is None
    assert item.user_obj == [b"bytes", {"any": "object"}]
    assert (item.pipe_conn, item.pipe_in, item.pipe_out) == (None, None, None)
    assert not any(isinstance(value, Connection) for value in vars(item).values())


def test_stages_may_pipe_by_a_plain_attribute(runner):
    """is_pipe_with_next_stage need not be a property."""
    first = SubprocessPipelineStage(fn_determiner=wants, fn_worker=_send_bare)
    assert first.is_pipe_with_next_stage is False
    for stage_class in (PipedProcessStage, PipedThreadStage):
        stages = [stage_class(fn_determiner=wants, fn_worker=_send_bare), thread_stage(_receive_bare)]
        assert results(runner(*stages), [Item()])[0].exceptions is None
