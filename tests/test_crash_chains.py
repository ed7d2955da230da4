"""The crash table of piped chains: producer | middle | consumer, one of which goes wrong.

What it must not cost is the same as in test_crash.py; and nobody behind the one that failed may see a clean end.
"""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import crash_stages as ways
import pytest
from crash_stages import CHAIN_BYTES, CrashItem, OnDeparture, OnReturn, chain_of_three
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


def killed(at: str, *runners: str) -> Row:
    stage = at.partition(":")[0]
    text = rf"^stage '{stage}': worker \d+ was killed by SIGKILL while it held 'victim'; the item was not retried\."
    return Row(at, "SIGKILL", partial(ways.kill_self, signal.SIGKILL), PipelineWorkerDied, text, (DEFAULT, *runners))


def raises(at: str) -> Row:
    act = partial(ways.fail, ValueError, "so it is")
    return Row(at, "error", act, ValueError, "^so it is$", ANYWHERE)


ROWS = [
    killed("producer:before"),
    killed("producer:amid", FORKSERVER, SPAWN, MIDDLE_IN_THREAD, IN_ONE_WORKER),
    killed("producer:after"),
    killed("middle:before"),
    killed("middle:amid", FORKSERVER, SPAWN, ENDS_IN_THREADS, IN_ONE_WORKER),
    killed("middle:after", ENDS_IN_THREADS),
    killed("consumer:before"),
    killed("consumer:amid", FORKSERVER, SPAWN, MIDDLE_IN_THREAD, IN_ONE_WORKER),
    killed("consumer:after"),
    # An end that looks like success
    Row("producer:amid", "os._exit(0)", partial(ways.exit_at_once, 0), PipelineWorkerDied, "exit status 0", SAMPLED),
    Row("middle:amid", "os._exit(0)", partial(ways.exit_at_once, 0), PipelineWorkerDied, "exit status 0"),
    Row("producer:after", "os._exit(0)", partial(ways.exit_at_once, 0), PipelineWorkerDied, "exit status 0"),
    Row("producer:amid", "exit(0)", partial(ways.sys_exit, 0), PipelineStageError, "SystemExit: 0", ANYWHERE),
    Row("producer:amid", "SIGSEGV", ways.segfault, PipelineWorkerDied, "killed by SIGSEGV"),
    Row("consumer:amid", "SIGTERM", partial(ways.kill_self, signal.SIGTERM), PipelineWorkerDied, "killed by SIGTERM"),
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
    Row(
        "producer:after",
        "SIGKILL while answering",
        partial(ways.return_trap, OnDeparture, partial(ways.kill_self, signal.SIGKILL)),
        PipelineWorkerDied,
        "^stage 'producer': .*SIGKILL while it held 'victim'",
    ),
]

CASES = [pytest.param(row, runner, id=f"{row.at}-{row.name}-{runner}") for row in ROWS for runner in row.runners]
IN_THREADS = {MIDDLE_IN_THREAD: ("middle",), ENDS_IN_THREADS: ("producer", "consumer")}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.mark.parametrize(("row", "runner"), CASES)
def test_one_bad_chain_costs_one_item(row: Row, runner: str, journal: Journal, tmp_path: Path) -> None:
    """It fails by its cause, nobody takes half of the data for the whole, and its neighbours succeed."""
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
        futures = [pipeline.submit(item) for item in order]
        assert [result(future) for future in futures] == order
        assert len(pids_at_strength(pipeline, tmp_path, at_once)) == at_once
    assert [item.exceptions for item in neighbours] == [None] * 4
    assert [item.num_bytes for item in neighbours] == [CHAIN_BYTES] * 4
    assert_failed_as(row, victim)
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


@pytest.mark.parametrize("runner", [DEFAULT, FORKSERVER, SPAWN])
def test_a_producer_killed_half_way_through_a_frame_is_no_end(runner: str, journal: Journal) -> None:
    """The consumer has half of a message and learns that it is half of one."""
    stages = [ways.SelfDestructStage("producer", is_piped=True), ways.KillerStage("consumer", is_piped=False)]
    with pipeline_on(runner, stages=stages) as pipeline:
        victim = result(pipeline.submit(CrashItem("victim", journal.path)))
    cause, consequence = victim.exceptions
    assert type(cause) is PipelineWorkerDied
    assert (cause.stage, cause.exitcode, cause.item) == ("producer", -signal.SIGKILL, "victim")
    assert type(consequence) is PipeConnectionAborted
    assert sorted(journal.lines()) == ["victim consumer", "victim producer"]


@pytest.mark.parametrize("moment", ["before", "amid", "after"])
@pytest.mark.parametrize("runner", [DEFAULT, SPAWN])
def test_a_timeout_ends_a_chain(runner: str, moment: str, journal: Journal) -> None:
    """What loops is ended by its own stage's limit; the others fail because of it."""
    with pipeline_on(runner, stages=chain_of_three(timeout=0.3)) as pipeline:
        victim = CrashItem("victim", journal.path, ways.ignore_signals_and_work_for_ever, f"middle:{moment}")
        result(pipeline.submit(victim))
    cause, *others = victim.exceptions
    assert type(cause) is PipelineStageTimeout
    assert (cause.stage, cause.stage_num, cause.timeout_s, cause.item) == ("middle", 1, 0.3, "victim")
    assert {type(ex) for ex in others} <= set(CONSEQUENCES)
    assert "victim consumer saw a clean end" not in journal.lines()


@pytest.mark.parametrize(("dies", "loops"), list(itertools.permutations(ORDER, 2)))
def test_survivors_of_a_failed_chain_are_ended(dies: str, loops: str, journal: Journal, tmp_path: Path) -> None:
    """One dies, another does not look at its pipe: it gets ``grace_s`` and is ended."""
    act = partial(ways.die_or_loop, dies, loops)
    stages = [*(ways.EverywhereStage(name, name != "consumer") for name in ORDER), MeetingStage()]
    with pipeline_on(DEFAULT, stages=stages, grace_s=0.2, max_simultaneous_work_items=AT_ONCE) as pipeline:
        victim = result(pipeline.submit(CrashItem("victim", journal.path, act)))
        assert len(pids_at_strength(pipeline, tmp_path, AT_ONCE)) == AT_ONCE
    cause = victim.exceptions[0]
    assert type(cause) is PipelineWorkerDied
    assert (cause.stage, cause.exitcode) == (dies, 3)
    assert journal.repeated() == []
    # Not that shutdown was graceful: a loaded machine may not let idle workers end within so short a grace.


@pytest.mark.parametrize("stage", ORDER)
def test_a_result_that_the_parent_cannot_read_fails_its_chain(stage: str, journal: Journal) -> None:
    """The chain was done by then: each stage saw a clean end, and the item fails all the same."""
    act = partial(ways.return_trap, OnReturn, partial(ways.fail, ValueError, "not here"))
    with pipeline_on(DEFAULT, stages=chain_of_three()) as pipeline:
        victim = result(pipeline.submit(CrashItem("victim", journal.path, act, f"{stage}:after")))
    (failure,) = victim.exceptions
    assert type(failure) is PipelinePicklingError
    assert (failure.what, failure.stage, failure.item) == ("the result", stage, "victim")
