"""Time limits and further attempts, per stage."""

from __future__ import annotations

import os
import signal
import time

import chain_stages as work
import pytest
from pipeline_harness import note_in, result
from pipeline_stages import (
    PROCESSES,
    RUNNERS,
    Item,
    chain,
    closing_gate,
    closing_runner,
    having,
    process_stage,
    results,
    thread_stage,
    wait_if_told,
)

from atbu.mp_pipeline.mp_pipeline import (
    InvalidFunctionArgument,
    MultiprocessingPipeline,
    PipeConnectionIO,
    PipelineStageTimeout,
    PipelineWorkerDied,
)

TIMEOUT_S = 0.3
# A second, and what a loaded machine needs.
SOON_S = TIMEOUT_S + 5.0


@pytest.fixture(params=RUNNERS)
def runner(request):
    with closing_runner(request.param) as runner:
        yield runner


@pytest.fixture
def processes():
    with closing_runner(PROCESSES) as runner:
        yield runner


@pytest.fixture
def gate(processes, tmp_path):
    with closing_gate(tmp_path) as gate:
        yield gate


def _failures(item):
    return [type(ex) for ex in item.exceptions or ()]


def _attempts(item):
    return [type(ex) for ex in item.attempts or ()]


# -- time limits


def _pickle_for_ever(item):
    item.user_obj = _Endless()
    return item


class _Endless:
    def __reduce__(self):
        while True:
            pass


def test_an_item_that_takes_too_long_fails_by_name_and_alone(processes, gate):
    """Its worker is ended and replaced; the others, before and behind it, succeed."""
    stage = having(process_stage(wait_if_told), timeout=TIMEOUT_S, name="the slow one")
    pipeline = processes(stage, max_simultaneous_work_items=2)
    slow = having(Item(gate.path), name="a long story")
    start = time.monotonic()
    items = results(pipeline, [*(Item() for _ in range(20)), slow, *(Item() for _ in range(20))])
    assert time.monotonic() - start < SOON_S
    assert _failures(slow) == [PipelineStageTimeout]
    failure = slow.exceptions[0]
    assert (failure.stage, failure.stage_num, failure.timeout_s) == ("the slow one", 0, TIMEOUT_S)
    assert failure.item == "a long story"
    for word in ("the slow one", "a long story", f"{TIMEOUT_S:g} s", "not retried"):
        assert word in str(failure)
    assert [item.exceptions for item in items if item is not slow] == [None] * 40


def test_the_limit_is_for_the_pickling_of_the_result_too(processes):
    """In the worker, where it may loop as the work itself."""
    stage = having(process_stage(_pickle_for_ever), timeout=TIMEOUT_S)
    start = time.monotonic()
    (item,) = results(processes(stage), [Item()])
    assert time.monotonic() - start < SOON_S
    assert _failures(item) == [PipelineStageTimeout]


def test_the_limit_does_not_count_what_an_item_waits_for_its_turn(processes):
    """Only the time it is worked on."""
    stage = having(process_stage(_be_busy), timeout=TIMEOUT_S)
    items = results(processes(stage, max_simultaneous_work_items=1), [Item(TIMEOUT_S / 20) for _ in range(40)])
    assert [item.exceptions for item in items] == [None] * 40


def test_the_limit_counts_behind_a_stage_without_one(processes):
    """Though the item was queued at its worker behind another stage's."""
    endless = having(process_stage(_be_busy), timeout=TIMEOUT_S)
    endless.fn_determiner = _is_endless
    pipeline = processes(process_stage(_be_busy), endless, max_simultaneous_work_items=1)
    # Short ones, so that several are queued at the one worker; not so short that a batch of them is one moment.
    results(pipeline, [Item(SHORT_S) for _ in range(200)])
    items = results(pipeline, [having(Item(SHORT_S), endless=n == 0) for n in range(100)])
    assert [_failures(item) for item in items] == [[PipelineStageTimeout] if n == 0 else [] for n in range(100)]


SHORT_S = 0.0003


def _is_endless(item):
    if not getattr(item, "endless", False):
        return False
    item.user_obj = 3600
    return True


def _be_busy(item):
    end = time.monotonic() + item.user_obj
    while time.monotonic() < end:
        pass
    return item


@pytest.mark.parametrize("is_added", [False, True], ids=["at construction", "by add_stage"])
@pytest.mark.parametrize(("stage_of", "serial"), [(thread_stage, False), (thread_stage, True), (process_stage, True)])
def test_a_limit_that_cannot_be_kept_is_refused(stage_of, serial, is_added):
    """A thread cannot be ended."""
    stage = having(stage_of(), timeout=TIMEOUT_S, name="the unstoppable")
    with MultiprocessingPipeline(serial=serial) as pipeline:

        def give_it():
            if is_added:
                pipeline.add_stage(stage)
            else:
                MultiprocessingPipeline(stages=[stage], serial=serial)

        with pytest.raises(InvalidFunctionArgument, match=r"'the unstoppable'.*timeout"):
            give_it()


@pytest.mark.parametrize("timeout", [0, -1.0, "soon", float("nan")])
def test_a_limit_that_makes_no_sense_is_refused(timeout):
    """At construction."""
    with pytest.raises(InvalidFunctionArgument, match="timeout"):
        MultiprocessingPipeline(stages=[having(process_stage(), timeout=timeout)])


def test_a_limit_set_later_fails_the_items_of_a_thread_stage(runner):
    """Rather than being passed over in silence."""
    stage = thread_stage()
    pipeline = runner(stage)
    stage.timeout = TIMEOUT_S
    (item,) = results(pipeline, [Item()])
    assert _failures(item) == [InvalidFunctionArgument]


# -- further attempts


class TryingItem(Item):
    """Fails in its first attempts, as the payload says; each attempt uses a new number."""

    def __init__(self, payload, num_failures, journal):
        super().__init__(payload)
        self.num_failures = num_failures
        self.journal = str(journal.path)
        self.attempt = None
        self.prepared = ()
        self.may = True

    def before_attempt(self, attempt):
        self.attempt = attempt
        self.prepared = (*self.prepared, (attempt, os.getpid(), id(self)))

    def may_retry(self):
        return self.may


def _die(item):
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(item):
    raise ConnectionError(f"attempt {item.attempt}")


def _take_long(item):
    while True:
        time.sleep(60)


WAYS = {"dies": _die, "raises": _raise, "takes long": _take_long}


def _try(item):
    note_in(item.journal, f"attempt {item.attempt}")
    if item.attempt < item.num_failures:
        WAYS[item.user_obj](item)
    item.user_obj = "done"
    return item


@pytest.mark.parametrize(
    ("way", "error"),
    [("dies", PipelineWorkerDied), ("raises", ConnectionError), ("takes long", PipelineStageTimeout)],
)
@pytest.mark.parametrize("num_failures", [1, 2, 3])
def test_an_item_is_tried_again_after_a_crash_a_timeout_or_a_listed_error(processes, journal, way, error, num_failures):
    """At most as often as the stage says; what failed before stands in attempts, exceptions has the last only."""
    stage = having(process_stage(_try), retries=2, retry_on=(OSError,))
    if way == "takes long":
        stage.timeout = TIMEOUT_S
    item = TryingItem(way, num_failures, journal)
    neighbour = TryingItem("", 0, journal)
    results(processes(stage), [item, neighbour])
    num_tried = min(num_failures + 1, 3)
    assert [journal.lines().count(f"attempt {n}") for n in range(1, 4)] == [int(n < num_tried) for n in range(1, 4)]
    assert _attempts(item) == [error] * (min(num_failures, 2))
    assert _failures(item) == ([error] if num_failures == 3 else [])
    assert item.user_obj == (way if num_failures == 3 else "done")
    assert item.prepared == tuple((n, os.getpid(), id(item)) for n in range(num_tried))
    assert (neighbour.exceptions, neighbour.attempts) == (None, None)
    if num_failures == 3 and way != "raises":
        assert item.exceptions[0].retried == 2
        assert "retried 2 times" in str(item.exceptions[0])


@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
def test_a_listed_error_is_tried_again_anywhere(runner, journal, stage_of):
    """In a thread and in the serial runner too; one class need not be in a tuple."""
    for retry_on in ((LookupError, OSError), OSError):
        item = TryingItem("raises", 1, journal)
        results(runner(having(stage_of(_try), retries=1, retry_on=retry_on)), [item])
        assert (item.exceptions, item.user_obj, _attempts(item)) == (None, "done", [ConnectionError])


@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
def test_an_error_that_is_not_listed_is_final(runner, journal, stage_of):
    """Whatever the number of retries."""
    item = TryingItem("raises", 1, journal)
    results(runner(having(stage_of(_try), retries=5, retry_on=(LookupError,))), [item])
    assert _failures(item) == [ConnectionError]
    assert item.attempts is None
    assert journal.lines() == ["attempt 0"]


@pytest.mark.parametrize("way", ["dies", "raises"])
def test_the_item_may_refuse_to_be_tried_again(processes, journal, way):
    """Its source may be gone: may_retry says so."""
    item = TryingItem(way, 1, journal)
    item.may = False
    results(processes(having(process_stage(_try), retries=5, retry_on=(OSError,))), [item])
    assert item.is_failed
    assert journal.lines() == ["attempt 0"]


def test_each_run_begins_with_attempt_0(runner, journal):
    """Of every stage that wants the item."""
    item = TryingItem("", 0, journal)
    results(runner(process_stage(_try), thread_stage(_try), process_stage(_try)), [item])
    assert [attempt for attempt, _, _ in item.prepared] == [0, 0, 0]


def test_a_second_attempt_is_a_matter_of_the_stage_alone(runner, journal):
    """It is not asked again whether it wants the item, and stage_complete is called once."""
    asked = []
    stage = having(thread_stage(_try), retries=3, retry_on=(OSError,))
    stage.fn_determiner = lambda item: (asked.append(item), True)[1]
    item = CompletingItem("raises", 2, journal)
    results(runner(stage), [item])
    assert asked == [item]
    assert item.completed == [(0, None)]


class CompletingItem(TryingItem):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.completed = []

    def stage_complete(self, stage_num, wi, ex):
        completed = self.completed
        super().stage_complete(stage_num, wi, ex)
        self.completed = [*completed, (stage_num, ex)]


# -- chains


def _produce_trying(item):
    note_in(item.journal, f"producer {item.attempt}")
    with PipeConnectionIO(item.pipe_out, is_write=True) as writer:
        writer.write(b"attempt %d" % item.attempt)
        if item.user_obj[0] == "producer" and item.attempt < item.num_failures:
            WAYS[item.user_obj[1]](item)
    return item


def _consume_trying(item):
    note_in(item.journal, f"consumer {item.attempt}")
    where, way = item.user_obj
    with PipeConnectionIO(item.pipe_in, is_write=False) as reader:
        if where == "consumer" and item.attempt < item.num_failures:
            reader.read(1)
            WAYS[way](item)
        item.user_obj = reader.readall()
    return item


@pytest.mark.parametrize(
    ("where", "letters", "way"),
    [
        (where, letters, way)
        for number, where in enumerate(["producer", "consumer"])
        for letters in ["PP", "PT", "TP"]
        for way in ["dies", "raises"]
        # a thread cannot die alone
        if (letters[number], way) != ("T", "dies")
    ],
)
def test_a_chain_is_tried_again_as_a_whole(processes, journal, where, letters, way):
    """From the item as it was before it, with new pipes; however the two ends are heard."""
    number = ["producer", "consumer"].index(where)
    stages = chain(letters, _produce_trying, _consume_trying)
    having(stages[number], retries=2, retry_on=(OSError,))
    pipeline = processes(*stages, max_simultaneous_work_items=2)
    items = [TryingItem((where, way), 2, journal) for _ in range(5)]
    results(pipeline, items)
    error = PipelineWorkerDied if way == "dies" else ConnectionError
    for item in items:
        assert (item.exceptions, item.user_obj) == (None, b"attempt 2")
        assert _attempts(item) == [error, error]
        assert [attempt for attempt, _, _ in item.prepared] == [0, 1, 2]


def test_a_chain_is_tried_again_only_for_the_stage_that_failed_first(runner, journal):
    """The others' failures follow from that one."""
    stages = chain("PP", _produce_trying, _consume_trying)
    having(stages[1], retries=2, retry_on=(OSError,))
    item = TryingItem(("producer", "raises"), 1, journal)
    results(runner(*stages), [item])
    assert _failures(item)[0] is ConnectionError
    assert item.attempts is None


def test_survivors_of_an_attempt_are_ended_before_the_next(processes, gate, journal):
    """Two attempts never overlap."""
    stages = chain("PP", work.wait_for_ever, _try_consuming)
    having(stages[1], retries=1, retry_on=(OSError,))
    item = having(TryingItem(b"", 1, journal), gate=gate.path)
    # Long enough for the survivor to come to the gate on a loaded machine.
    future = processes(*stages, grace_s=1.0).submit(item)
    gate.wait_for(2)
    gate.open(1)
    result(future)
    assert journal.lines() == ["attempt 0", "attempt 1"]
    assert (item.exceptions, _attempts(item)) == (None, [ConnectionError])


def _try_consuming(item):
    note_in(item.journal, f"attempt {item.attempt}")
    if item.attempt == 0:
        _raise(item)
    return item


# -- settings that make no sense


@pytest.mark.parametrize("settings", [{"retry_on": "OSError"}, {"retries": "two"}, {"retry_on": (3,)}], ids=str)
def test_senseless_settings_cost_the_item_that_failed_alone(runner, journal, settings):
    """They are looked at when an item has failed."""
    pipeline = runner(having(process_stage(_try), **{"retries": 1, "retry_on": (OSError,), **settings}))
    bad, good = TryingItem("raises", 1, journal), TryingItem("", 0, journal)
    results(pipeline, [bad, good])
    assert ConnectionError in _failures(bad)
    assert good.exceptions is None
