"""The crash table of piped chains: producer | middle | consumer, one of which goes wrong.

What it must not cost is the same as in test_crash.py; and nobody behind the one that failed may see a clean end.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import crash_stages as ways
import pytest
from crash_chain_stages import (
    CHAIN_BYTES,
    ChainStage,
    EverywhereStage,
    TornFrameReaderStage,
    TornFrameStage,
    chain_of_three,
    die_or_loop,
)
from crash_stages import CrashItem, OnDeparture, OnReturn
from failure_clock import FailureClock
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
from ways_to_die import DEATHS, EXIT_0, EXIT_STATUSES, KILLED, Death

from atbu.mp_pipeline.mp_pipeline import (
    PipeConnectionAborted,
    PipelinePicklingError,
    PipelineResultIsNotPipelineWorkItem,
    PipelineStageError,
    PipelineStageTimeout,
    PipelineWorkerDied,
)

# The middle stage in a thread of the parent, between two workers; and the other way round.
MIDDLE_IN_THREAD = "middle in a thread"
ENDS_IN_THREADS = "ends in threads"
# The whole chain of a small item.
IN_ONE_WORKER = "in one worker"
SAMPLED = (DEFAULT, FORKSERVER, SPAWN)
ANYWHERE = (DEFAULT, MIDDLE_IN_THREAD, ENDS_IN_THREADS, IN_ONE_WORKER, SERIAL)
ORDER = ("producer", "middle", "consumer")
AT_ONCE = 3
# What a stage sees of another's failure.
CONSEQUENCES = (PipeConnectionAborted, BrokenPipeError)


@dataclass(frozen=True)
class Row:
    """One way to go wrong.

    Args:
        at: The stage and the moment.
        name: What it is.
        act: What is done then.
        error: The class of the item's first failure, exactly; the others are consequences of it.
        message: What its text says, a regular expression.
        runners: Where the row is run.
    """

    at: str
    name: str
    act: Callable[[Any], Any]
    error: type[BaseException]
    message: str
    runners: tuple[str, ...] = (DEFAULT,)

    @property
    def stage(self) -> str:
        return self.at.partition(":")[0]


def died(death: Death, at: str, *runners: str) -> Row:
    stage = at.partition(":")[0]
    text = rf"^stage '{stage}': worker \d+ {death.how} while it held 'victim'; the item was not retried\."
    return Row(at, death.name, death.act, PipelineWorkerDied, text, (DEFAULT, *runners))


def died_while_answering(death: Death, stage: str) -> Row:
    act = partial(ways.return_trap, OnDeparture, death.act)
    text = rf"^stage '{stage}': worker \d+ {death.how} while it held 'victim'; the item was not retried\."
    return Row(f"{stage}:after", f"{death.name} while answering", act, PipelineWorkerDied, text)


def exits_while_answering(stage: str, status: int) -> Row:
    act = partial(ways.return_trap, OnDeparture, partial(ways.sys_exit, status))
    text = f"^stage '{stage}': the result could not be pickled or unpickled for 'victim': "
    return Row(f"{stage}:after", f"exit({status}) while answering", act, PipelinePicklingError, text)


def exits(at: str, status: int, runners: tuple[str, ...] = (DEFAULT,)) -> Row:
    act = partial(ways.sys_exit, status)
    return Row(at, f"exit({status})", act, PipelineStageError, f"SystemExit: {status}$", runners)


def raises(at: str) -> Row:
    act = partial(ways.fail, ValueError, "so it is")
    return Row(at, "error", act, ValueError, "^so it is$", ANYWHERE)


MORE_RUNNERS = {
    (EXIT_0, "producer:amid"): (FORKSERVER, SPAWN),
    (KILLED, "producer:amid"): (FORKSERVER, SPAWN, MIDDLE_IN_THREAD, IN_ONE_WORKER),
    (KILLED, "middle:amid"): (FORKSERVER, SPAWN, ENDS_IN_THREADS, IN_ONE_WORKER),
    (KILLED, "middle:after"): (ENDS_IN_THREADS,),
    (KILLED, "consumer:amid"): (FORKSERVER, SPAWN, MIDDLE_IN_THREAD, IN_ONE_WORKER),
}
# After the last data the end of a worker looks most like success.
MOMENTS = ("before", "amid", "after")

ROWS = [
    *(
        died(death, at, *MORE_RUNNERS.get((death, at), ()))
        for death, stage, moment in itertools.product(DEATHS, ORDER, MOMENTS)
        for at in [f"{stage}:{moment}"]
    ),
    *(died_while_answering(death, stage) for death in DEATHS for stage in ORDER),
    *(
        exits(f"{stage}:amid", status, ANYWHERE if (stage, status) == ("producer", 0) else (DEFAULT,))
        for status in EXIT_STATUSES
        for stage in ORDER
    ),
    *(exits_while_answering(stage, status) for status in EXIT_STATUSES for stage in ORDER),
    raises("producer:before"),
    raises("producer:amid"),
    raises("producer:after"),
    raises("middle:before"),
    raises("middle:amid"),
    raises("middle:after"),
    raises("consumer:before"),
    raises("consumer:amid"),
    raises("consumer:after"),
    # All data was written, but the answer is none
    Row("producer:after", "None", ways.return_none, PipelineResultIsNotPipelineWorkItem, "'NoneType'", ANYWHERE),
    Row("middle:after", "None", ways.return_none, PipelineResultIsNotPipelineWorkItem, "'NoneType'"),
    Row("consumer:after", "None", ways.return_none, PipelineResultIsNotPipelineWorkItem, "'NoneType'"),
    Row("producer:after", "unpicklable", ways.return_a_lambda, PipelinePicklingError, "^stage 'producer': the result"),
    Row("middle:after", "unpicklable", ways.return_a_lambda, PipelinePicklingError, "^stage 'middle': the result"),
]


def cases(rows: list[Row]) -> list[Any]:
    return [pytest.param(row, runner, id=f"{row.at}-{row.name}-{runner}") for row in rows for runner in row.runners]


IN_THREADS = {MIDDLE_IN_THREAD: ("middle",), ENDS_IN_THREADS: ("producer", "consumer")}


@pytest.mark.parametrize(("row", "runner"), cases(ROWS))
def test_one_bad_chain_costs_one_item(row: Row, runner: str, journal: Journal, tmp_path: Path) -> None:
    """It fails soon and by its cause, nobody takes half of the data for the whole, and its neighbours succeed."""
    at_once = 1 if runner == SERIAL else AT_ONCE
    in_threads = IN_THREADS.get(runner, ())
    with pipeline_on(
        DEFAULT if in_threads or runner == IN_ONE_WORKER else runner,
        stages=[*chain_of_three(in_threads), MeetingStage()],
        max_simultaneous_work_items=at_once,
    ) as pipeline:
        victim = CrashItem("victim", journal.path, row.act, row.at)
        neighbours = [CrashItem(f"neighbour {number}", journal.path) for number in range(4)]
        order = [*neighbours[:2], victim, *neighbours[2:]]
        for item in order:
            item.in_one_worker = runner == IN_ONE_WORKER
        clock = FailureClock(victim)
        futures = [clock.submit(pipeline) if item is victim else pipeline.submit(item) for item in order]
        assert [result(future) for future in futures] == order
        assert len(pids_at_strength(pipeline, tmp_path, at_once)) == at_once
    assert [item.exceptions for item in neighbours] == [None] * 4
    assert [item.num_bytes for item in neighbours] == [CHAIN_BYTES] * 4
    assert_failed_as(row, victim)
    clock.assert_in_time()
    assert journal.repeated() == []
    behind = ORDER[ORDER.index(row.stage) + 1 :]
    assert [stage for stage in behind if f"victim {stage} saw a clean end" in journal.lines()] == []
    assert pipeline.anomalies == []
    assert pipeline.was_graceful_shutdown


def assert_failed_as(row: Row, victim: CrashItem) -> None:
    assert victim.is_failed
    cause, *others = victim.exceptions
    assert type(cause) is row.error, victim.exceptions
    assert re.search(row.message, str(cause)), str(cause)
    assert [ex for ex in others if not isinstance(ex, CONSEQUENCES)] == []


IN_A_FRAME = [
    *(
        died(death, f"{stage}:in a frame", *((FORKSERVER, SPAWN) if death is KILLED and stage == "producer" else ()))
        for death in DEATHS
        for stage in ("producer", "consumer")
    ),
    *(exits(f"{stage}:in a frame", status) for status in EXIT_STATUSES for stage in ("producer", "consumer")),
]


@pytest.mark.parametrize(("row", "runner"), cases(IN_A_FRAME))
def test_half_of_a_frame_is_none(row: Row, runner: str, journal: Journal) -> None:
    """One of two goes wrong when a message is half-way between them: the other learns that it is half of one."""
    stages = [
        TornFrameStage("producer", is_piped=True),
        TornFrameReaderStage("consumer", is_piped=False),
    ]
    with pipeline_on(runner, stages=stages) as pipeline:
        victim = CrashItem("victim", journal.path, row.act, row.at)
        clock = FailureClock(victim)
        result(clock.submit(pipeline))
    assert_failed_as(row, victim)
    assert len(victim.exceptions) == 2
    clock.assert_in_time()
    assert sorted(journal.lines()) == ["victim consumer", "victim producer"]


MIDDLE_IN_A_FRAME = [
    *(died(death, "middle:in a frame") for death in DEATHS),
    *(exits("middle:in a frame", status) for status in EXIT_STATUSES),
]


@pytest.mark.parametrize("row", MIDDLE_IN_A_FRAME, ids=lambda row: row.name)
@pytest.mark.parametrize("neighbour", ["producer", "consumer"])
def test_half_of_a_frame_at_the_middle_stage_is_none(row: Row, neighbour: str, journal: Journal) -> None:
    """It goes wrong when a message is half-way from the producer or to the consumer: nobody behind sees an end."""
    is_reading = neighbour == "producer"
    stages = [
        (TornFrameStage if is_reading else ChainStage)("producer", is_piped=True),
        (TornFrameReaderStage if is_reading else TornFrameStage)("middle", is_piped=True),
        (ChainStage if is_reading else TornFrameReaderStage)("consumer", is_piped=False),
    ]
    with pipeline_on(DEFAULT, stages=stages) as pipeline:
        victim = CrashItem("victim", journal.path, row.act, row.at)
        clock = FailureClock(victim)
        result(clock.submit(pipeline))
    assert_failed_as(row, victim)
    assert len(victim.exceptions) == (3 if is_reading else 2)  # else the producer was done, and all was well with it
    clock.assert_in_time()
    assert journal.repeated() == []
    assert "victim consumer saw a clean end" not in journal.lines()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("runner", [DEFAULT, SPAWN])
def test_a_timeout_ends_a_chain(runner: str, moment: str, journal: Journal) -> None:
    """What loops is ended by its own stage's limit; the others fail because of it."""
    with pipeline_on(runner, stages=chain_of_three(timeout=0.3)) as pipeline:
        victim = CrashItem("victim", journal.path, ways.ignore_signals_and_work_for_ever, f"middle:{moment}")
        clock = FailureClock(victim)
        result(clock.submit(pipeline))
    cause, *others = victim.exceptions
    assert type(cause) is PipelineStageTimeout
    assert (cause.stage, cause.stage_num, cause.timeout_s, cause.item) == ("middle", 1, 0.3, "victim")
    assert {type(ex) for ex in others} <= set(CONSEQUENCES)
    clock.assert_in_time(cause.timeout_s)
    assert "victim consumer saw a clean end" not in journal.lines()


@pytest.mark.parametrize(("dies", "loops"), list(itertools.permutations(ORDER, 2)))
def test_survivors_of_a_failed_chain_are_ended(dies: str, loops: str, journal: Journal, tmp_path: Path) -> None:
    """One dies, another does not look at its pipe: it gets ``grace_s`` and is ended."""
    act = partial(die_or_loop, dies, loops)
    stages = [*(EverywhereStage(name, name != "consumer") for name in ORDER), MeetingStage()]
    with pipeline_on(DEFAULT, stages=stages, grace_s=0.2, max_simultaneous_work_items=AT_ONCE) as pipeline:
        victim = CrashItem("victim", journal.path, act)
        clock = FailureClock(victim)
        result(clock.submit(pipeline))
        assert len(pids_at_strength(pipeline, tmp_path, AT_ONCE)) == AT_ONCE
    cause = victim.exceptions[0]
    assert type(cause) is PipelineWorkerDied
    assert (cause.stage, cause.exitcode) == (dies, 3)
    clock.assert_in_time(allowed_s=0.2)
    assert journal.repeated() == []
    # Not that shutdown was graceful: a loaded machine may not let idle workers end within so short a grace.


@pytest.mark.parametrize("stage", ORDER)
def test_a_result_that_the_parent_cannot_read_fails_its_chain(stage: str, journal: Journal) -> None:
    """The chain was done by then: each stage saw a clean end, and the item fails all the same."""
    act = partial(ways.return_trap, OnReturn, partial(ways.fail, ValueError, "not here"))
    with pipeline_on(DEFAULT, stages=chain_of_three()) as pipeline:
        victim = CrashItem("victim", journal.path, act, f"{stage}:after")
        clock = FailureClock(victim)
        result(clock.submit(pipeline))
    (failure,) = victim.exceptions
    assert type(failure) is PipelinePicklingError
    assert (failure.what, failure.stage, failure.item) == ("the result", stage, "victim")
    clock.assert_in_time()
