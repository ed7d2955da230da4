"""User code that raises: in stages, in items, in callbacks; it costs the item it belongs to."""

from __future__ import annotations

import copy
import threading
from typing import ClassVar

import pytest
from pipeline_harness import PATIENCE_S, result
from pipeline_stages import (
    PROCESSES,
    RUNNERS,
    Item,
    closing_runner,
    fail,
    keep,
    process_stage,
    results,
    thread_stage,
    wants,
)

from atbu.mp_pipeline.mp_pipeline import (
    InvalidStateError,
    PipelineStage,
    PipelineStageError,
    PipelineWorkItem,
    SubprocessPipelineStage,
    ThreadPipelineStage,
)


@pytest.fixture(params=RUNNERS)
def runner(request):
    with closing_runner(request.param) as runner:
        yield runner


class Stubborn(BaseException):
    """Neither an Exception nor one that anybody expects."""


class RaisingItem(PipelineWorkItem):
    """Raises at one place; the others pass."""

    def __init__(self, place, error):
        super().__init__()
        self.place = place
        self.error = error

    def trip(self, place):
        if self.place == place:
            raise self.error

    def stage_complete(self, stage_num, wi, ex):
        self.trip("stage_complete")
        super().stage_complete(stage_num, wi, ex)

    def before_attempt(self, attempt):
        self.trip("before_attempt")

    def may_retry(self):
        self.trip("may_retry")
        return False

    def __copy__(self):
        self.trip("__copy__")
        twin = RaisingItem.__new__(RaisingItem)
        twin.__dict__.update(self.__dict__)
        return twin


class RaisingStage(PipelineStage):
    """Has its item raise wherever the pipeline asks a stage something."""

    retries = 1
    retry_on = (LookupError,)

    def __init__(self, is_process):
        super().__init__()
        self.is_process = is_process
        self.asked_for = None

    @property
    def is_subprocess(self):
        if self.asked_for is not None:
            self.asked_for.trip("is_subprocess")
        return self.is_process

    @property
    def is_pipe_with_next_stage(self):
        self.asked_for.trip("is_pipe_with_next_stage")
        return False

    def is_for_stage(self, pwi):
        self.asked_for = pwi
        pwi.trip("is_for_stage")
        return True

    def perform_stage_work(self, pwi, **kwargs):
        pwi.trip("perform_stage_work")
        if pwi.place == "may_retry":
            raise LookupError("to be retried")
        return pwi


PLACES = [
    "is_for_stage",
    "is_pipe_with_next_stage",
    "is_subprocess",
    "before_attempt",
    "perform_stage_work",
    "may_retry",
    "stage_complete",
]


@pytest.mark.parametrize(
    ("is_process", "place"),
    # a process stage gets a pickled copy
    [*((True, place) for place in PLACES), *((False, place) for place in [*PLACES, "__copy__"])],
)
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), Stubborn("no")], ids=repr)
def test_whatever_user_code_raises_fails_that_item_alone(runner, is_process, place, error):
    """SystemExit included; its neighbours succeed."""
    pipeline = runner(RaisingStage(is_process))
    before, bad, after = results(
        pipeline, [RaisingItem("", error), RaisingItem(place, copy.copy(error)), RaisingItem("", error)]
    )
    assert (before.exceptions, after.exceptions) == (None, None)
    failures = [ex for ex in bad.exceptions if not isinstance(ex, LookupError)]
    assert len(failures) == 1
    if isinstance(error, Exception):
        assert type(failures[0]) is type(error)
    else:
        assert isinstance(failures[0], PipelineStageError)
        assert failures[0].exc_type.rpartition(".")[2] == type(error).__name__
    assert pipeline.anomalies == []


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)], ids=repr)
def test_a_callback_that_raises_costs_nothing(runner, error):
    """Neither its item nor another; what concurrent.futures does not log is noted as an anomaly."""
    go_on = threading.Event()

    def callback(future):
        raise error

    pipeline = runner(thread_stage(lambda pwi: (go_on.wait(), pwi)[1]))
    future = pipeline.submit(Item())
    future.add_done_callback(callback)
    go_on.set()
    assert not result(future).is_failed
    assert not results(pipeline, [Item()])[0].is_failed
    noted = [type(anomaly.exception) for anomaly in pipeline.anomalies]
    assert noted == ([] if isinstance(error, Exception) else [SystemExit])


class Unlabelled(PipelineWorkItem):
    """Does not call super().__init__, and its name cannot be had."""

    def __init__(self):
        self.x = 1

    @property
    def name(self):
        raise OSError("no name")


@pytest.mark.parametrize("work", [keep, fail])
@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
def test_an_item_that_is_badly_made_costs_at_most_itself(runner, work, stage_of):
    """It ends, and its neighbours succeed."""
    good, bad, too = Item("good"), Unlabelled(), Item("good too")
    stage = stage_of(work)
    stage.fn_determiner = _is_unlabelled
    results(runner(stage), [good, bad, too])
    assert bad.is_failed == (work is fail)
    assert (good.exceptions, too.exceptions) == (None, None)


def _is_unlabelled(item):
    return isinstance(item, Unlabelled)


def test_a_stage_without_its_functions_fails_its_items(runner):
    """By an error that says what is missing."""
    pipelines = [runner(SubprocessPipelineStage()), runner(ThreadPipelineStage(fn_determiner=wants))]
    for pipeline, missing in zip(pipelines, ["fn_determiner", "fn_worker"], strict=True):
        (item,) = results(pipeline, [Item()])
        assert [type(ex) for ex in item.exceptions] == [InvalidStateError]
        assert missing in str(item.exceptions[0])


class Mute(BaseException):
    """Cannot be shown."""

    def __str__(self):
        raise SystemExit("no text")


class Closed(Exception):
    """Takes no notes."""

    def add_note(self, note):
        raise RuntimeError("no notes")


def with_a_text_for_its_notes():
    error = ValueError("no")
    error.__notes__ = "a text, no list"
    return error


ILL_MADE = {"no text": Mute, "no notes": Closed, "notes are no list": with_a_text_for_its_notes}


def raise_ill_made(item):
    if item.user_obj in ILL_MADE:
        raise ILL_MADE[item.user_obj]()
    return item


@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
@pytest.mark.parametrize("place", ["fn_worker", "fn_determiner"])
def test_an_exception_that_is_badly_made_costs_its_item_alone(runner, stage_of, place):
    """It fails by that exception, or by its name where it cannot be recorded."""
    stage = stage_of(keep)
    setattr(stage, place, raise_ill_made)
    pipeline = runner(stage)
    bad, good = [Item(way) for way in ILL_MADE], Item("good")
    results(pipeline, [*bad, good])
    told = [getattr(item.exceptions[0], "exc_type", type(item.exceptions[0]).__name__) for item in bad]
    assert [name.rpartition(".")[2] for name in told] == ["Mute", "Closed", "ValueError"]
    assert good.exceptions is None
    assert pipeline.anomalies == []


class Spoiling(PipelineWorkItem):
    """Spoils its stage's time limit once the run is planned."""

    spoilt: ClassVar[list[bool]] = []

    def before_attempt(self, attempt):
        self.spoilt.append(True)


class LimitedStage(SubprocessPipelineStage):
    """Can be asked for its time limit until it is spoilt."""

    @property
    def timeout(self):
        if Spoiling.spoilt:
            raise LookupError("no limit")
        return PATIENCE_S


def test_a_time_limit_is_asked_for_once_for_a_run():
    """What becomes of it later is seen by later items, and costs them alone."""
    with closing_runner(PROCESSES) as processes:
        pipeline = processes(LimitedStage(wants, keep))
        first, second = results(pipeline, [Spoiling()]) + results(pipeline, [Spoiling()])
        Spoiling.spoilt.clear()
        third = results(pipeline, [Spoiling()])[0]
    assert (first.exceptions, third.exceptions) == (None, None)
    assert [type(ex) for ex in second.exceptions] == [LookupError]
    assert pipeline.anomalies == []


class Unrecording(PipelineWorkItem):
    """Cannot record a failure."""

    def append_exception(self, ex):
        raise LookupError("no room")


class Frozen(PipelineWorkItem):
    """Lets nobody set what a retry sets."""

    def __setattr__(self, name, value):
        if name == "attempts":
            raise LookupError("frozen")
        super().__setattr__(name, value)


def with_a_tuple_for_its_failures():
    item = PipelineWorkItem()
    item.exceptions = ()
    return item


@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
@pytest.mark.parametrize("make", [Unrecording, Frozen, with_a_tuple_for_its_failures])
def test_an_item_that_cannot_record_its_failure_fails_alone(runner, stage_of, make):
    """The pipeline records it all the same."""
    stage = stage_of(fail)
    stage.retries, stage.retry_on = 1, Exception
    stage.fn_determiner = _is_not_good
    pipeline = runner(stage)
    bad, good = results(pipeline, [make(), Item("good")])
    assert bad.is_failed
    assert good.exceptions is None
    assert pipeline.anomalies == []


def _is_not_good(item):
    return item.user_obj != "good"
