"""Every way in which one item can go wrong in a stage, one row each; what it must not cost is the same for all.

Chains have a table of their own (test_crash_chains.py), so has what hits the pool and not an item (test_crash_pool.py).
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import crash_stages as ways
import pytest
from crash_stages import ActStage, CrashItem, OnArrival, OnDeparture, OnReturn, ThreadActStage, VictimStage
from failure_clock import FailureClock, say_when
from pipeline_harness import (
    DEFAULT,
    FORKSERVER,
    SERIAL,
    SPAWN,
    Journal,
    MeetingStage,
    pids_at_strength,
    pipeline_on,
    result,
)
from ways_to_die import DEATHS, EXIT_STATUSES

from atbu.mp_pipeline.mp_pipeline import (
    MultiprocessingPipeline,
    PipelineLastStageError,
    PipelinePicklingError,
    PipelineResultIsNotPipelineWorkItem,
    PipelineStage,
    PipelineStageError,
    PipelineStageTimeout,
    PipelineWorkerDied,
)

THREAD = "thread"
# A sample for each start method that users do not get by default.
SAMPLED = (DEFAULT, FORKSERVER, SPAWN)
# What needs no process of its own is the same without one.
ANYWHERE = (DEFAULT, THREAD, SERIAL)
NEIGHBOURS_BEFORE = 3
NEIGHBOURS_AFTER = 6
AT_ONCE = 2


@dataclass(frozen=True)
class Row:
    """One way to go wrong.

    Args:
        name: What it is.
        error: The class of the item's one failure, exactly.
        message: What its text says, a regular expression.
        act: What the stage does with the item, or
        make: makes the item that goes wrong by itself, or
        bad_stage: makes a stage for that item only; it goes wrong, or has a time limit.
        facts: Attributes of the failure.
        runners: Where the row is run.
    """

    name: str
    error: type[BaseException]
    message: str
    act: Callable[[Any], Any] | None = None
    make: Callable[[str, Path], CrashItem] | None = None
    bad_stage: Callable[[], PipelineStage] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    runners: tuple[str, ...] = (DEFAULT,)

    def victim(self, journal: Path) -> CrashItem:
        victim = CrashItem("victim", journal, self.act) if self.make is None else self.make("victim", journal)
        if self.bad_stage is not None:
            victim.at = "bad"
        return victim


def died(name: str, how: str, exitcode: int, act: Callable[[Any], Any] | None = None, **more: Any) -> Row:
    """A row in which the worker dies in the stage."""
    text = rf"^stage 'act': worker \d+ {how} while it held 'victim'; the item was not retried\."
    facts = {"exitcode": exitcode, "stage": "act", "stage_num": 0, "item": "victim", "retried": 0}
    return Row(name, PipelineWorkerDied, text, act, facts=facts, **more)


def with_trap(trap: type, act: Callable[[Any], Any]) -> Callable[[str, Path], CrashItem]:
    """Makes an item that holds a trap when it is submitted."""

    def make(name: str, journal: Path) -> CrashItem:
        item = CrashItem(name, journal)
        item.user_obj = trap(partial(say_when, item.moments, act))
        return item

    return make


def before_work(act: Callable[[Any], Any]) -> dict[str, Any]:
    return {"make": with_trap(OnArrival, act)}


def in_work(act: Callable[[Any], Any]) -> dict[str, Any]:
    return {"act": act}


def while_answering(act: Callable[[Any], Any]) -> dict[str, Any]:
    return {"act": partial(ways.return_trap, OnDeparture, act)}


def with_a_lambda(name: str, journal: Path) -> CrashItem:
    item = CrashItem(name, journal)
    item.user_obj = lambda: None
    return item


def failing_when_complete(act: Callable[[Any], Any]) -> Callable[[str, Path], CrashItem]:
    """Makes an item whose stage_complete misbehaves."""
    return lambda name, journal: ways.BadCompletionItem(name, journal, act)


def pickling(name: str, what: str, **more: Any) -> Row:
    """A row in which something cannot travel."""
    stage = "bad" if "bad_stage" in more else "act"
    facts = {"what": what, "stage": stage, "item": "victim"}
    text = rf"^stage '{stage}': {what} could not be pickled or unpickled for 'victim': "
    return Row(name, PipelinePicklingError, text, facts=facts, **more)


def loops(name: str, **more: Any) -> Row:
    """A row in which the stage's timeout ends what goes on for ever."""
    text = r"^stage 'bad': worker \d+ was not done with 'victim' after 0\.2 s and was ended; the item was not retried\."
    facts = {"timeout_s": 0.2, "stage": "bad", "stage_num": 2, "item": "victim", "retried": 0}
    return Row(name, PipelineStageTimeout, text, bad_stage=partial(VictimStage, timeout=0.2), facts=facts, **more)


def raised(exc_type: str, text: str) -> dict[str, Any]:
    return {"exc_type": exc_type, "exc_text": text}


# When a worker dies with an item of its own. As a part of a chain, and half-way through a frame: test_crash_chains.py;
# while it is idle: test_crash_pool.py.
MOMENTS = {"before work": before_work, "in work": in_work, "while answering": while_answering}
SAMPLED_DEATHS = {
    ("os._exit(0)", "before work"),
    ("os._exit(3)", "in work"),
    ("SIGKILL", "in work"),
    ("SIGSEGV", "in work"),
    ("os._exit(3)", "while answering"),
}

ROWS = [
    # The worker dies
    *(
        died(f"{death.name} {moment}", death.how, death.exitcode, **happens(death.act), runners=runners)
        for death in DEATHS
        for moment, happens in MOMENTS.items()
        for runners in [SAMPLED if (death.name, moment) in SAMPLED_DEATHS else (DEFAULT,)]
    ),
    died("abort in work", "was killed by SIGABRT", -signal.SIGABRT, ways.abort),
    died("stack overflow", "was killed by SIGSEGV", -signal.SIGSEGV, ways.overflow_the_stack),
    died(
        "its end by the lifeline's signal", "was killed by SIGIO", -signal.SIGIO, partial(ways.kill_self, signal.SIGIO)
    ),
    died("an exception whose pickling dies", "ended with exit status 5", 5, partial(ways.fail, ways.FatalToPickle, "")),
    Row(
        "a stage whose unpickling dies",
        PipelineWorkerDied,
        r"^stage 'bad': worker \d+ ended with exit status 6 while it held 'victim'; ",
        bad_stage=ways.FatalOnArrivalStage,
        facts={"exitcode": 6, "stage": "bad", "stage_num": 2},
    ),
    # It loops
    loops("a stage that loops", act=ways.ignore_signals_and_work_for_ever, runners=SAMPLED),
    loops("a result whose pickling loops", act=partial(ways.return_trap, OnDeparture, ways.work_for_ever)),
    loops("an item whose unpickling loops", make=with_trap(OnArrival, ways.work_for_ever)),
    # It runs out of something
    Row("endless recursion", RecursionError, "maximum recursion depth", ways.recurse_for_ever, runners=ANYWHERE),
    Row("MemoryError under RLIMIT_AS", MemoryError, "", ways.run_out_of_memory, runners=SAMPLED),
    # It raises
    Row("an error", ValueError, "^so it is$", partial(ways.fail, ValueError, "so it is"), runners=ANYWHERE),
    *(
        Row(
            f"exit({status}) in work",
            PipelineStageError,
            f"SystemExit: {status}$",
            partial(ways.sys_exit, status),
            facts=raised("SystemExit", str(status)),
            runners=ANYWHERE,
        )
        for status in EXIT_STATUSES
    ),
    Row(
        "KeyboardInterrupt",
        PipelineStageError,
        "KeyboardInterrupt",
        partial(ways.fail, KeyboardInterrupt, ""),
        facts=raised("KeyboardInterrupt", ""),
        runners=ANYWHERE,
    ),
    Row(
        "GeneratorExit",
        PipelineStageError,
        "GeneratorExit",
        partial(ways.fail, GeneratorExit, ""),
        facts=raised("GeneratorExit", ""),
        runners=ANYWHERE,
    ),
    Row(
        "an exception with required arguments",
        PipelineStageError,
        "NeedsTwo: one and two$",
        ways.fail_with_two,
        facts=raised("crash_stages.NeedsTwo", "one and two"),
        runners=SAMPLED,
    ),
    Row("an exception that cannot be pickled", PipelineStageError, "ValueError: <function", ways.fail_with_a_lambda),
    pickling(
        "an exception that cannot be unpickled in the parent",
        "the error",
        act=partial(ways.fail, ways.OnlyInWorkers, ""),
    ),
    Row("an exception without a text", ways.NoText, "", partial(ways.fail, ways.NoText, ""), runners=ANYWHERE),
    # What it returns
    Row(
        "None returned",
        PipelineResultIsNotPipelineWorkItem,
        "returned 'NoneType'",
        ways.return_none,
        runners=ANYWHERE,
    ),
    pickling("a result that cannot be pickled", "the result", act=ways.return_a_lambda, runners=(*SAMPLED, SERIAL)),
    *(
        pickling(f"exit({status}) while answering", "the result", **while_answering(partial(ways.sys_exit, status)))
        for status in EXIT_STATUSES
    ),
    pickling(
        "a result that cannot be unpickled in the parent",
        "the result",
        act=partial(ways.return_trap, OnReturn, partial(ways.fail, ValueError, "not here")),
        runners=SAMPLED,
    ),
    pickling(
        "a result whose unpickling in the parent exits",
        "the result",
        act=partial(ways.return_trap, OnReturn, partial(ways.sys_exit, 3)),
    ),
    # What cannot be sent
    pickling("an item that cannot be pickled", "the item", make=with_a_lambda, runners=(*SAMPLED, SERIAL)),
    *(
        pickling(f"exit({status}) before work", "the item", **before_work(partial(ways.sys_exit, status)))
        for status in EXIT_STATUSES
    ),
    pickling(
        "a stage that cannot be pickled", "the stage", bad_stage=ways.UnpicklableStage, runners=(*SAMPLED, SERIAL)
    ),
    pickling("a stage that cannot be unpickled in the worker", "the stage", bad_stage=ways.RaisingOnArrivalStage),
    # What is asked in the parent
    Row(
        "is_for_stage raises",
        ValueError,
        "^asked$",
        bad_stage=partial(ways.RaisingDeterminerStage, partial(ways.fail, ValueError, "asked")),
        runners=ANYWHERE,
    ),
    Row(
        "is_for_stage exits",
        PipelineStageError,
        "SystemExit: 3$",
        bad_stage=partial(ways.RaisingDeterminerStage, partial(ways.sys_exit, 3)),
        runners=ANYWHERE,
    ),
    Row(
        "the pipe property raises",
        ValueError,
        "^property$",
        bad_stage=partial(ways.RaisingPipePropertyStage, partial(ways.fail, ValueError, "property")),
        runners=ANYWHERE,
    ),
    Row(
        "the pipe property is interrupted",
        PipelineStageError,
        "KeyboardInterrupt",
        bad_stage=partial(ways.RaisingPipePropertyStage, partial(ways.fail, KeyboardInterrupt, "")),
        runners=ANYWHERE,
    ),
    Row(
        "stage_complete raises",
        ValueError,
        "^completion$",
        make=failing_when_complete(partial(ways.fail, ValueError, "completion")),
        runners=ANYWHERE,
    ),
    Row(
        "stage_complete exits",
        PipelineStageError,
        "SystemExit: 3$",
        make=failing_when_complete(partial(ways.sys_exit, 3)),
        runners=ANYWHERE,
    ),
    Row(
        "the last stage asks for a pipe",
        PipelineLastStageError,
        "^stage 'bad' is the last of the pipeline and asks for a pipe",
        bad_stage=ways.PipeToNobodyStage,
        runners=ANYWHERE,
    ),
]

CASES = [pytest.param(row, runner, id=f"{row.name}-{runner}") for row in ROWS for runner in row.runners]


def stages_for(row: Row, runner: str) -> list[PipelineStage]:
    act = ThreadActStage() if runner == THREAD else ActStage()
    # last, for a last stage may be what is wrong
    bad = [] if row.bad_stage is None else [row.bad_stage()]
    return [act, MeetingStage(), *bad]


def submitted(
    pipeline: MultiprocessingPipeline, victim: CrashItem, clock: FailureClock, journal: Path
) -> Iterator[CrashItem]:
    """Submit the victim amid its neighbours; yields all neighbours, each when it has ended."""
    names = [f"neighbour {number}" for number in range(NEIGHBOURS_BEFORE + NEIGHBOURS_AFTER)]
    neighbours = [CrashItem(name, journal) for name in names]
    order = [*neighbours[:NEIGHBOURS_BEFORE], victim, *neighbours[NEIGHBOURS_BEFORE:]]
    futures = [clock.submit(pipeline) if item is victim else pipeline.submit(item) for item in order]
    for item, future in zip(order, futures, strict=True):
        assert result(future) is item
        if item is not victim:
            yield item


@pytest.mark.parametrize(("row", "runner"), CASES)
def test_one_bad_item_costs_one_item(row: Row, runner: str, journal: Journal, tmp_path: Path) -> None:
    """It fails by name and soon; its neighbours succeed, nothing runs twice, and the pool is back at strength."""
    at_once = 1 if runner == SERIAL else AT_ONCE
    with pipeline_on(
        DEFAULT if runner == THREAD else runner,
        stages=stages_for(row, runner),
        max_simultaneous_work_items=at_once,
    ) as pipeline:
        victim = row.victim(journal.path)
        clock = FailureClock(victim)
        for neighbour in submitted(pipeline, victim, clock, journal.path):
            assert neighbour.exceptions is None
            assert neighbour.num_stages_done == 1
        assert len(pids_at_strength(pipeline, tmp_path, at_once)) == at_once
    assert_failed_as(row, victim)
    clock.assert_in_time(row.facts.get("timeout_s", 0.0))
    assert journal.repeated() == []
    assert pipeline.anomalies == []
    assert pipeline.was_graceful_shutdown


def assert_failed_as(row: Row, victim: CrashItem) -> None:
    assert victim.is_failed
    assert [type(ex) for ex in victim.exceptions] == [row.error]
    (failure,) = victim.exceptions
    if row.error is not ways.NoText:
        assert re.search(row.message, str(failure)), str(failure)
    assert {name: getattr(failure, name) for name in row.facts} == row.facts


@pytest.mark.parametrize("runner", ANYWHERE)
def test_a_stage_cannot_answer_with_an_item_that_is_elsewhere_at_work(
    runner: str, journal: Journal, tmp_path: Path
) -> None:
    """Only the item that was given to it, or a new one, comes back: no two submitted items become one."""
    fifo = tmp_path / "until"
    os.mkfifo(fifo)
    row = Row("", PipelineResultIsNotPipelineWorkItem, "another work item")
    with (
        pipeline_on(DEFAULT, stages=[ActStage()]) as elsewhere,
        pipeline_on(
            DEFAULT if runner == THREAD else runner, stages=stages_for(row, runner), max_simultaneous_work_items=1
        ) as pipeline,
    ):
        other = CrashItem("other", journal.path, partial(ways.wait_at, str(fifo)))
        at_work = elsewhere.submit(other)
        victim = CrashItem("victim", journal.path, ways.return_user_obj)
        victim.user_obj = other
        result(pipeline.submit(victim))
        fifo.write_bytes(b"")
        result(at_work)
    assert_failed_as(row, victim)
    assert other.exceptions is None
    assert other.num_stages_done == 1
