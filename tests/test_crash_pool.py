"""What hits the pool rather than an item in work: idle and stopped workers, and their makers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import crash_stages as ways
import pytest
from crash_chain_stages import CHAIN_BYTES, chain_of_three
from crash_stages import ActStage, CrashItem
from failure_clock import FailureClock
from pipeline_harness import (
    DEFAULT,
    FORKSERVER,
    SPAWN,
    Journal,
    MeetingStage,
    kill_and_wait,
    pids_at_strength,
    pipeline_on,
    result,
    wait_readable,
    wait_stopped,
    worker_pool,
)
from pool_checks import AT_ONCE, LARGE, assert_all_succeed, stages
from ways_to_die import DEATHS, EXIT_STATUSES, Death

from atbu.mp_pipeline.mp_pipeline import PipelineWorkerDied

EVERY_METHOD = (DEFAULT, FORKSERVER, SPAWN)


# Workers


# An idle worker runs nobody's code but the handler of a signal that somebody left behind. So exit() while idle, which
# makes no sense else, is a SystemExit in the worker's own loop.
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM)
EXITS_IDLE = [Death(f"exit({status})", partial(ways.sys_exit, status), "", status) for status in EXIT_STATUSES]
IDLE = [
    pytest.param(death, runner, id=f"{death.name}-{runner}")
    for death in (*DEATHS, *EXITS_IDLE)
    for runner in (EVERY_METHOD if -death.exitcode in FROM_OUTSIDE else (DEFAULT,))
]


@pytest.mark.parametrize(("death", "runner"), IDLE)
def test_a_worker_that_dies_idle_costs_nothing(death: Death, runner: str, journal: Journal, tmp_path: Path) -> None:
    """All die while they have nothing to do; others take their place, and soon."""
    with pipeline_on(
        runner,
        stages=stages(),
        max_simultaneous_work_items=AT_ONCE,
        process_initfunc=ways.leave_a_handler,
        process_initargs=(signal.SIGUSR1, death.act),
    ) as pipeline:
        pids = pids_at_strength(pipeline, tmp_path, AT_ONCE)
        first = CrashItem("first after it", journal.path)
        clock = FailureClock(first)
        for pid in pids:
            kill_and_wait(pid, -death.exitcode if -death.exitcode in FROM_OUTSIDE else signal.SIGUSR1)
        assert result(clock.submit(pipeline)).exceptions is None
        assert_all_succeed(pipeline, journal)
        assert not pids & pids_at_strength(pipeline, tmp_path, AT_ONCE)
    clock.assert_in_time()
    assert pipeline.was_graceful_shutdown


@pytest.mark.parametrize("runner", EVERY_METHOD)
@pytest.mark.parametrize("num_bytes", [0, LARGE], ids=["small", "large"])
def test_an_item_whose_worker_dies_before_it_began_runs_elsewhere(
    num_bytes: int, runner: str, journal: Journal, tmp_path: Path
) -> None:
    """A stopped worker is sent an item, as much of it as there is room for, and is killed: it had not begun."""
    with pipeline_on(runner, stages=stages(), max_simultaneous_work_items=1) as pipeline:
        (pid,) = pids_at_strength(pipeline, tmp_path, 1)
        os.kill(pid, signal.SIGSTOP)
        wait_stopped(pid)
        item = CrashItem("item", journal.path)
        item.user_obj = bytes(num_bytes)
        future = pipeline.submit(item)
        while not future.running():
            os.sched_yield()
        kill_and_wait(pid)
        assert result(future).exceptions is None
        assert len(item.user_obj) == num_bytes
    assert journal.lines() == ["item act"]
    assert pipeline.was_graceful_shutdown


@pytest.mark.parametrize("runner", EVERY_METHOD)
def test_a_chain_whose_worker_died_idle_runs_on_others(runner: str, journal: Journal, tmp_path: Path) -> None:
    """A chain needs all its workers at once; one that is dead is not among them."""
    with pipeline_on(runner, stages=[*chain_of_three(), MeetingStage()], max_simultaneous_work_items=3) as pipeline:
        kill_and_wait(min(pids_at_strength(pipeline, tmp_path, 3)))
        item = CrashItem("item", journal.path, at="nowhere")
        assert result(pipeline.submit(item)).exceptions is None
        assert item.num_bytes == CHAIN_BYTES
    assert journal.repeated() == []


@pytest.mark.parametrize("runner", EVERY_METHOD)
def test_a_stopped_worker_stalls_nobody_and_can_be_killed(
    runner: str, journal: Journal, tmp_path: Path, fifo: Callable[[str], str]
) -> None:
    """Others go on while it stands still in work; SIGKILL then costs the item it held."""
    says_pid = fifo("pid")
    with pipeline_on(runner, stages=stages(), max_simultaneous_work_items=AT_ONCE) as pipeline:
        pids_at_strength(pipeline, tmp_path, AT_ONCE)
        clock = FailureClock(CrashItem("victim", journal.path, partial(ways.say_pid_and_stop, says_pid)))
        future = clock.submit(pipeline)
        pid = int(Path(says_pid).read_text())
        wait_stopped(pid)
        assert_all_succeed(pipeline, journal)
        clock.start()
        kill_and_wait(pid)
        (failure,) = result(future).exceptions
        assert len(pids_at_strength(pipeline, tmp_path, AT_ONCE)) == AT_ONCE
    assert type(failure) is PipelineWorkerDied
    assert (failure.pid, failure.stage, failure.item) == (pid, "act", "victim")
    assert "was killed by SIGKILL while it held 'victim'" in str(failure)
    clock.assert_in_time()
    assert journal.repeated() == []
    assert pipeline.was_graceful_shutdown


def test_a_worker_that_goes_on_after_a_stop_has_lost_nothing(journal: Journal, fifo: Callable[[str], str]) -> None:
    """SIGSTOP and SIGCONT are no death."""
    says_pid = fifo("pid")
    with pipeline_on(DEFAULT, stages=stages()) as pipeline:
        future = pipeline.submit(CrashItem("item", journal.path, partial(ways.say_pid_and_stop, says_pid)))
        pid = int(Path(says_pid).read_text())
        wait_stopped(pid)
        os.kill(pid, signal.SIGCONT)
        assert result(future).exceptions is None


@pytest.mark.parametrize("runner", EVERY_METHOD)
def test_all_workers_killed_at_once_cost_one_item_each(
    runner: str, journal: Journal, tmp_path: Path, fifo: Callable[[str], str]
) -> None:
    """As the kernel does when memory runs out; what was waiting runs on others."""
    names = [fifo(f"pid {number}") for number in range(AT_ONCE)]
    with pipeline_on(runner, stages=stages(), max_simultaneous_work_items=AT_ONCE) as pipeline:
        victims = [CrashItem(name, journal.path, partial(ways.say_pid_and_work_for_ever, name)) for name in names]
        clocks = [FailureClock(victim) for victim in victims]
        futures = [clock.submit(pipeline) for clock in clocks]
        waiting = pipeline.submit(CrashItem("waiting", journal.path))
        pids = [int(Path(name).read_text()) for name in names]
        for pid, clock in zip(pids, clocks, strict=True):
            clock.start()
            os.kill(pid, signal.SIGKILL)
        failures = [result(future).exceptions for future in futures]
        assert result(waiting).exceptions is None
        assert len(pids_at_strength(pipeline, tmp_path, AT_ONCE)) == AT_ONCE
    assert [[(type(ex), ex.pid, ex.item) for ex in each] for each in failures] == [
        [(PipelineWorkerDied, pid, name)] for pid, name in zip(pids, names, strict=True)
    ]
    for clock in clocks:
        clock.assert_in_time()
    assert journal.repeated() == []


@pytest.mark.parametrize("runner", EVERY_METHOD)
def test_deaths_amid_many_short_items_cost_those_items_only(runner: str, journal: Journal) -> None:
    """What was queued behind the one that killed the worker had not begun: it runs elsewhere, once."""
    kill = partial(ways.kill_self, signal.SIGKILL)
    with pipeline_on(runner, stages=stages(), max_simultaneous_work_items=AT_ONCE) as pipeline:
        items = [CrashItem(f"item {n}", journal.path, kill if n % 100 == 50 else None) for n in range(500)]
        clocks = {item: FailureClock(item) for item in items if item.act}
        for future in [clocks[item].submit(pipeline) if item.act else pipeline.submit(item) for item in items]:
            result(future)
    assert [item.name for item in items if item.is_failed] == [f"item {n}" for n in range(50, 500, 100)]
    assert {type(ex) for item in items for ex in item.exceptions or ()} == {PipelineWorkerDied}
    for clock in clocks.values():
        clock.assert_in_time()
    assert len(journal.lines()) == len(items)
    assert journal.repeated() == []
    assert pipeline.was_graceful_shutdown


# exit() is a death there, for no stage is at work.
AMID_THE_ANSWER = [
    *(pytest.param(death.act, death.exitcode, id=death.name) for death in DEATHS),
    *(pytest.param(partial(ways.sys_exit, status), status, id=f"exit({status})") for status in EXIT_STATUSES),
]


@pytest.mark.parametrize(("act", "exitcode"), AMID_THE_ANSWER)
def test_a_worker_that_dies_half_way_through_its_answer_costs_one_item(
    act: Callable[[Any], Any], exitcode: int, journal: Journal, tmp_path: Path, fifo: Callable[[str], str]
) -> None:
    """Half of an answer is none."""
    blocked, until, answer = fifo("blocked"), fifo("until"), fifo("answer")
    block = ways.BlockingDeterminerStage(blocked, until)
    with pipeline_on(DEFAULT, stages=[*stages(), block], max_simultaneous_work_items=AT_ONCE) as pipeline:
        (pid,) = pids_at_strength(pipeline, tmp_path, 1)
        victim = CrashItem("victim", journal.path, partial(ways.wait_then_die_amid_the_answer, answer, LARGE, act))
        clock = FailureClock(victim)
        future = clock.submit(pipeline)
        with open(answer, "wb"):  # which waits for the stage to be there
            blocker = pipeline.submit(CrashItem("blocker", journal.path, at="block"))
            assert Path(blocked).read_text() == "blocked"
        # The stage answers now, and the pipeline's thread does not read: the answer stands in the socket half-way.
        (worker,) = (worker for worker in worker_pool(pipeline).workers.values() if worker.pid == pid)
        wait_readable(worker.channel.fileno(), "no answer came")
        kill_and_wait(pid, signal.SIGUSR1)
        clock.start()
        Path(until).write_bytes(b"")
        (failure,) = result(future).exceptions
        assert result(blocker).exceptions is None
        assert_all_succeed(pipeline, journal)
    assert type(failure) is PipelineWorkerDied
    assert (failure.exitcode, failure.stage, failure.item) == (exitcode, "act", "victim")
    clock.assert_in_time()
    assert pipeline.was_graceful_shutdown


def test_a_stage_whose_first_run_was_taken_back_is_not_lost(journal: Journal, fifo: Callable[[str], str]) -> None:
    """What is queued behind a long run goes to another worker; the stage that it brought along is needed here too."""
    until = [fifo(f"until {number}") for number in range(AT_ONCE)]
    with pipeline_on(DEFAULT, stages=[ActStage(), ways.VictimStage()], max_simultaneous_work_items=AT_ONCE) as pipeline:
        # Short ones first, so that the following are queued behind others.
        assert_all_succeed(pipeline, journal, 300)
        long = [CrashItem(path, journal.path, partial(ways.wait_at, path)) for path in until]
        at_work = [pipeline.submit(item) for item in long]
        behind = [pipeline.submit(CrashItem(f"behind {number}", journal.path, at="bad")) for number in range(8)]
        for path, future in zip(until, at_work, strict=True):
            Path(path).write_bytes(b"")
            assert result(future).exceptions is None
            # All of these run on the worker that is free, or on the last.
            if path is until[0]:
                assert [result(future).exceptions for future in behind] == [None] * 8
        later = [pipeline.submit(CrashItem(f"later {number}", journal.path, at="bad")) for number in range(300)]
        assert [result(future).exceptions for future in later] == [None] * 300
    assert journal.repeated() == []


# Those who make the workers


def test_a_killed_template_costs_nothing(journal: Journal, tmp_path: Path) -> None:
    """The workers live on, and further ones are made by a forkserver."""
    with pipeline_on(DEFAULT, stages=stages(), max_simultaneous_work_items=AT_ONCE) as pipeline:
        pids = pids_at_strength(pipeline, tmp_path, AT_ONCE)
        kill_and_wait(worker_pool(pipeline).template.pid)
        assert pids_at_strength(pipeline, tmp_path, AT_ONCE) == pids
        for pid in pids:
            kill_and_wait(pid)
        assert_all_succeed(pipeline, journal)
        assert not pids & pids_at_strength(pipeline, tmp_path, AT_ONCE)
    assert pipeline.was_graceful_shutdown


def test_a_template_killed_before_the_first_worker_costs_nothing(journal: Journal, tmp_path: Path) -> None:
    """It dies between the making of the pipeline and its first item."""
    with pipeline_on(DEFAULT, stages=stages(), max_simultaneous_work_items=AT_ONCE) as pipeline:
        kill_and_wait(worker_pool(pipeline).template.pid)
        assert_all_succeed(pipeline, journal)
        assert len(pids_at_strength(pipeline, tmp_path, AT_ONCE)) == AT_ONCE
    assert pipeline.was_graceful_shutdown


def test_a_stopped_template_does_not_keep_a_pipeline_from_ending(journal: Journal, tmp_path: Path) -> None:
    """It has ``grace_s`` to end, and is ended."""
    with pipeline_on(DEFAULT, stages=stages(), max_simultaneous_work_items=1, grace_s=0.2) as pipeline:
        assert_all_succeed(pipeline, journal)
        template = worker_pool(pipeline).template.pid
        os.kill(template, signal.SIGSTOP)
        wait_stopped(template)


def test_a_killed_forkserver_costs_nothing(journal: Journal, tmp_path: Path) -> None:
    """All its sentinels become ready at once while the workers live on."""
    with pipeline_on(FORKSERVER, stages=stages(), max_simultaneous_work_items=AT_ONCE) as pipeline:
        pids = pids_at_strength(pipeline, tmp_path, AT_ONCE)
        kill_and_wait(forkserver._forkserver._forkserver_pid)
        assert pids_at_strength(pipeline, tmp_path, AT_ONCE) == pids
        for pid in pids:
            kill_and_wait(pid)
        assert_all_succeed(pipeline, journal)
        assert not pids & pids_at_strength(pipeline, tmp_path, AT_ONCE)
    assert pipeline.was_graceful_shutdown


@pytest.mark.parametrize("maker", [DEFAULT, FORKSERVER])
def test_a_death_that_nobody_can_explain_still_names_the_item(
    maker: str, journal: Journal, fifo: Callable[[str], str]
) -> None:
    """With the worker's parent gone nobody knows how it ended, but that it did."""
    says_pid = fifo("pid")
    with pipeline_on(maker, stages=stages(), max_simultaneous_work_items=1) as pipeline:
        clock = FailureClock(CrashItem("victim", journal.path, partial(ways.say_pid_and_work_for_ever, says_pid)))
        future = clock.submit(pipeline)
        pid = int(Path(says_pid).read_text())
        kill_and_wait(
            worker_pool(pipeline).template.pid if maker == DEFAULT else forkserver._forkserver._forkserver_pid
        )
        assert not future.done()
        clock.start()
        os.kill(pid, signal.SIGKILL)
        (failure,) = result(future).exceptions
        assert_all_succeed(pipeline, journal)
    assert type(failure) is PipelineWorkerDied
    assert (failure.pid, failure.exitcode, failure.stage, failure.item) == (pid, None, "act", "victim")
    assert "how it ended is unknown" in str(failure)
    clock.assert_in_time()


@pytest.mark.parametrize("runner", [FORKSERVER, SPAWN])
@pytest.mark.filterwarnings("ignore:resource_tracker.*:UserWarning")
def test_a_killed_resource_tracker_costs_nothing(runner: str, journal: Journal, tmp_path: Path) -> None:
    """multiprocessing starts another."""
    with pipeline_on(runner, stages=stages(), max_simultaneous_work_items=AT_ONCE) as pipeline:
        pids = pids_at_strength(pipeline, tmp_path, AT_ONCE)
        kill_and_wait(resource_tracker._resource_tracker._pid)
        for pid in pids:
            kill_and_wait(pid)
        assert_all_succeed(pipeline, journal)
        assert len(pids_at_strength(pipeline, tmp_path, AT_ONCE)) == AT_ONCE
    assert pipeline.was_graceful_shutdown
