"""What hits the pool rather than an item in work: idle and stopped workers, their makers, resources, initialisers."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import crash_stages as ways
import pytest
from crash_stages import ActStage, CrashItem, OnArrival, ParentOutOfFilesItem, SignallingItem, chain_of_three
from pipeline_harness import (
    DEFAULT,
    FORKSERVER,
    PATIENCE_S,
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

from atbu.mp_pipeline.descriptors import PassedDescriptor
from atbu.mp_pipeline.mp_pipeline import (
    MultiprocessingPipeline,
    PipelineBroken,
    PipelinePicklingError,
    PipelineTerminated,
    PipelineWorkerDied,
)

EVERY_METHOD = (DEFAULT, FORKSERVER, SPAWN)
AT_ONCE = 2
# More than a socket holds, so that it is under way when something happens.
LARGE = 32 << 20
HUGE = 200 << 20


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def fifo(tmp_path: Path) -> Callable[[str], str]:
    """Makes a FIFO; gives its path."""

    def make(name: str) -> str:
        path = tmp_path / name
        os.mkfifo(path)
        return str(path)

    return make


def stages() -> list[Any]:
    return [ActStage(), MeetingStage()]


def assert_all_succeed(pipeline: MultiprocessingPipeline, journal: Journal, count: int = 6) -> None:
    """Send items through the pipeline; each succeeds and nothing has ever run twice."""
    number = len(journal.lines())
    items = [CrashItem(f"item {number + n}", journal.path) for n in range(count)]
    for future in [pipeline.submit(item) for item in items]:
        assert result(future).exceptions is None
    assert journal.repeated() == []


# Workers


@pytest.mark.parametrize("runner", EVERY_METHOD)
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_dies_idle_costs_nothing(
    signum: signal.Signals, runner: str, journal: Journal, tmp_path: Path
) -> None:
    """All are killed while they have nothing to do; others take their place."""
    with pipeline_on(runner, stages=stages(), max_simultaneous_work_items=AT_ONCE) as pipeline:
        pids = pids_at_strength(pipeline, tmp_path, AT_ONCE)
        for pid in pids:
            kill_and_wait(pid, signum)
        assert_all_succeed(pipeline, journal)
        assert not pids & pids_at_strength(pipeline, tmp_path, AT_ONCE)
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
        assert item.num_bytes == ways.CHAIN_BYTES
    assert journal.repeated() == []


@pytest.mark.parametrize("runner", EVERY_METHOD)
def test_a_stopped_worker_stalls_nobody_and_can_be_killed(
    runner: str, journal: Journal, tmp_path: Path, fifo: Callable[[str], str]
) -> None:
    """Others go on while it stands still in work; SIGKILL then costs the item it held."""
    says_pid = fifo("pid")
    with pipeline_on(runner, stages=stages(), max_simultaneous_work_items=AT_ONCE) as pipeline:
        pids_at_strength(pipeline, tmp_path, AT_ONCE)
        victim = CrashItem("victim", journal.path, partial(ways.say_pid_and_stop, says_pid))
        future = pipeline.submit(victim)
        pid = int(Path(says_pid).read_text())
        wait_stopped(pid)
        assert_all_succeed(pipeline, journal)
        kill_and_wait(pid)
        (failure,) = result(future).exceptions
        assert len(pids_at_strength(pipeline, tmp_path, AT_ONCE)) == AT_ONCE
    assert type(failure) is PipelineWorkerDied
    assert (failure.pid, failure.stage, failure.item) == (pid, "act", "victim")
    assert "was killed by SIGKILL while it held 'victim'" in str(failure)
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
        futures = [pipeline.submit(victim) for victim in victims]
        waiting = pipeline.submit(CrashItem("waiting", journal.path))
        pids = [int(Path(name).read_text()) for name in names]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        failures = [result(future).exceptions for future in futures]
        assert result(waiting).exceptions is None
        assert len(pids_at_strength(pipeline, tmp_path, AT_ONCE)) == AT_ONCE
    assert [[(type(ex), ex.pid, ex.item) for ex in each] for each in failures] == [
        [(PipelineWorkerDied, pid, name)] for pid, name in zip(pids, names, strict=True)
    ]
    assert journal.repeated() == []


@pytest.mark.parametrize("runner", EVERY_METHOD)
def test_deaths_amid_many_short_items_cost_those_items_only(runner: str, journal: Journal) -> None:
    """What was queued behind the one that killed the worker had not begun: it runs elsewhere, once."""
    kill = partial(ways.kill_self, signal.SIGKILL)
    with pipeline_on(runner, stages=stages(), max_simultaneous_work_items=AT_ONCE) as pipeline:
        items = [CrashItem(f"item {n}", journal.path, kill if n % 100 == 50 else None) for n in range(500)]
        for future in [pipeline.submit(item) for item in items]:
            result(future)
    assert [item.name for item in items if item.is_failed] == [f"item {n}" for n in range(50, 500, 100)]
    assert {type(ex) for item in items for ex in item.exceptions or ()} == {PipelineWorkerDied}
    assert len(journal.lines()) == len(items)
    assert journal.repeated() == []
    assert pipeline.was_graceful_shutdown


def test_a_worker_that_dies_half_way_through_its_answer_costs_one_item(
    journal: Journal, tmp_path: Path, fifo: Callable[[str], str]
) -> None:
    """Half of an answer is none."""
    blocked, until, answer = fifo("blocked"), fifo("until"), fifo("answer")
    block = ways.BlockingDeterminerStage(blocked, until)
    with pipeline_on(DEFAULT, stages=[*stages(), block], max_simultaneous_work_items=AT_ONCE) as pipeline:
        (pid,) = pids_at_strength(pipeline, tmp_path, 1)
        victim = CrashItem("victim", journal.path, partial(ways.wait_then_answer_with, answer, None, LARGE))
        future = pipeline.submit(victim)
        with open(answer, "wb"):  # which waits for the stage to be there
            blocker = pipeline.submit(CrashItem("blocker", journal.path, at="block"))
            assert Path(blocked).read_text() == "blocked"
        # The stage answers now, and the pipeline's thread does not read: the answer stands in the socket half-way.
        (worker,) = (worker for worker in worker_pool(pipeline).workers.values() if worker.pid == pid)
        wait_readable(worker.channel.fileno(), "no answer came")
        kill_and_wait(pid)
        Path(until).write_bytes(b"")
        (failure,) = result(future).exceptions
        assert result(blocker).exceptions is None
        assert_all_succeed(pipeline, journal)
    assert type(failure) is PipelineWorkerDied
    assert (failure.exitcode, failure.stage, failure.item) == (-signal.SIGKILL, "act", "victim")
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
        victim = CrashItem("victim", journal.path, partial(ways.say_pid_and_work_for_ever, says_pid))
        future = pipeline.submit(victim)
        pid = int(Path(says_pid).read_text())
        kill_and_wait(
            worker_pool(pipeline).template.pid if maker == DEFAULT else forkserver._forkserver._forkserver_pid
        )
        assert not future.done()
        os.kill(pid, signal.SIGKILL)
        (failure,) = result(future).exceptions
        assert_all_succeed(pipeline, journal)
    assert type(failure) is PipelineWorkerDied
    assert (failure.pid, failure.exitcode, failure.stage, failure.item) == (pid, None, "act", "victim")
    assert "how it ended is unknown" in str(failure)


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


# Resources


@pytest.mark.parametrize("runner", EVERY_METHOD)
def test_descriptors_lost_on_the_way_fail_the_item(runner: str, journal: Journal, tmp_path: Path) -> None:
    """The worker can open no more files, so the kernel drops what the item brought along."""
    with pipeline_on(runner, stages=stages(), max_simultaneous_work_items=1) as pipeline, open("/dev/null") as null:
        result(pipeline.submit(CrashItem("lower", journal.path, ways.lower_file_limit)))
        victim = CrashItem("victim", journal.path)
        victim.descriptor = PassedDescriptor(null.fileno())
        (failure,) = result(pipeline.submit(victim)).exceptions
        again = CrashItem("again", journal.path)
        again.user_obj = OnArrival(ways.allow_more_files)
        assert result(pipeline.submit(again)).exceptions is None
        neighbour = CrashItem("neighbour", journal.path)
        neighbour.descriptor = PassedDescriptor(null.fileno())
        assert result(pipeline.submit(neighbour)).exceptions is None
        assert len(pids_at_strength(pipeline, tmp_path, 1)) == 1
    assert type(failure) is OSError
    assert "1 of 1 descriptors were lost on the way" in str(failure)
    assert "victim act" not in journal.lines()
    assert pipeline.was_graceful_shutdown


def test_pipes_lost_on_the_way_fail_the_chain(journal: Journal) -> None:
    """A chain's pipes travel as descriptors too; the part that got its own sees the other's absence."""
    limited = CrashItem("limited", journal.path, ways.lower_file_limit, at="consumer:after")
    with pipeline_on(DEFAULT, stages=chain_of_three(), max_simultaneous_work_items=1) as pipeline:
        assert result(pipeline.submit(limited)).exceptions is None
        victim = result(pipeline.submit(CrashItem("victim", journal.path)))
    assert any("descriptors were lost on the way" in str(ex) for ex in victim.exceptions)
    assert "victim consumer saw a clean end" not in journal.lines()
    assert pipeline.was_graceful_shutdown


def test_a_parent_without_descriptors_fails_the_item(journal: Journal) -> None:
    """EMFILE in the parent while a descriptor is being sent; afterwards all is well again."""
    with pipeline_on(DEFAULT, stages=stages(), max_simultaneous_work_items=1) as pipeline, open("/dev/null") as null:
        assert_all_succeed(pipeline, journal)
        victim = ParentOutOfFilesItem("victim", journal.path)
        victim.descriptor = PassedDescriptor(null.fileno())
        (failure,) = result(pipeline.submit(victim)).exceptions
        assert_all_succeed(pipeline, journal)
    assert type(failure) is PipelinePicklingError
    assert os.strerror(errno.EMFILE) in str(failure)
    assert pipeline.was_graceful_shutdown


def test_a_parent_without_descriptors_for_pipes_fails_the_chain(journal: Journal, tmp_path: Path) -> None:
    """The same where a chain's pipes cannot be made."""
    chain = [*chain_of_three(), MeetingStage()]
    with pipeline_on(DEFAULT, stages=chain, max_simultaneous_work_items=3) as pipeline:
        pids = pids_at_strength(pipeline, tmp_path, 3)
        (failure,) = result(pipeline.submit(ParentOutOfFilesItem("victim", journal.path))).exceptions
        assert result(pipeline.submit(CrashItem("neighbour", journal.path))).exceptions is None
        assert pids_at_strength(pipeline, tmp_path, 3) == pids
    assert type(failure) is OSError
    assert failure.errno == errno.EMFILE
    assert [line for line in journal.lines() if line.startswith("victim")] == []
    assert pipeline.was_graceful_shutdown


@pytest.mark.parametrize("runner", [DEFAULT, SPAWN])
def test_an_item_too_large_for_its_worker_fails_and_the_worker_goes_on(
    runner: str, journal: Journal, tmp_path: Path
) -> None:
    """MemoryError while it is being received; what follows on the same socket is understood."""
    with pipeline_on(runner, stages=stages(), max_simultaneous_work_items=1) as pipeline:
        (pid,) = pids_at_strength(pipeline, tmp_path, 1)
        result(pipeline.submit(CrashItem("limit", journal.path, ways.limit_memory_of_this_process)))
        victim = CrashItem("victim", journal.path)
        victim.user_obj = bytes(HUGE)
        (failure,) = result(pipeline.submit(victim)).exceptions
        assert_all_succeed(pipeline, journal)
        assert pids_at_strength(pipeline, tmp_path, 1) == {pid}
    assert isinstance(failure, MemoryError) or "MemoryError" in str(failure)
    assert "victim act" not in journal.lines()
    assert pipeline.was_graceful_shutdown


@pytest.mark.slow
@pytest.mark.parametrize(("runner", "size"), [(each, HUGE if each == DEFAULT else LARGE) for each in EVERY_METHOD])
def test_two_sides_that_both_send_do_not_block_each_other(
    runner: str, size: int, journal: Journal, fifo: Callable[[str], str]
) -> None:
    """200 MB go to a worker that is sending 200 MB; how it was started makes no difference to its sockets."""
    go_on = fifo("go on")
    fd = os.open(go_on, os.O_RDWR)
    with pipeline_on(runner, stages=stages(), max_simultaneous_work_items=1) as pipeline:
        # Short ones first, so that the second is queued at the worker behind the first (under an absurd load it is not,
        # and then the patience ends).
        assert_all_succeed(pipeline, journal, 300)
        first = CrashItem("first", journal.path, partial(ways.wait_then_answer_with, go_on, 1.5, size))
        second = SignallingItem("second", journal.path, partial(ways.answer_with, size))
        second.signal_fd = fd
        second.user_obj = bytes(size)
        futures = [pipeline.submit(first), pipeline.submit(second)]
        assert [result(future).exceptions for future in futures] == [None, None]
        assert [len(item.result) for item in (first, second)] == [size, size]
    os.close(fd)
    assert journal.repeated() == []
    assert pipeline.was_graceful_shutdown


# Initialisers


@pytest.mark.parametrize("runner", EVERY_METHOD)
@pytest.mark.parametrize(
    ("act", "message", "traceback"),
    [
        (partial(ways.fail, ValueError, "no licence"), "exited with status 1", "ValueError: no licence"),
        (partial(ways.sys_exit, 3), "exited with status 1", "SystemExit: 3"),
        (partial(ways.exit_at_once, 3), "exited with status 3", None),
        (partial(ways.exit_at_once, 0), "exited with status 0", None),
        (partial(ways.kill_self, signal.SIGKILL), "was killed by SIGKILL", None),
    ],
    ids=["raises", "exits", "os._exit(3)", "os._exit(0)", "SIGKILL"],
)
def test_an_initialiser_that_always_fails_breaks_the_pipeline(
    act: Callable[[Any], Any], message: str, traceback: str | None, runner: str, journal: Journal
) -> None:
    """Its items fail with the initialiser's own words, and there will be no others."""
    with pipeline_on(
        runner, stages=stages(), process_initfunc=ways.initialise_never, process_initargs=(act,)
    ) as pipeline:
        victims = [CrashItem(f"victim {number}", journal.path) for number in range(4)]
        futures = []
        for victim in victims:
            try:
                futures.append(pipeline.submit(victim))
            except PipelineBroken:
                break
        assert futures
        failures = [result(future).exceptions for future in futures]
        with pytest.raises(PipelineBroken, match=message):
            pipeline.submit(CrashItem("too late", journal.path))
    for (failure,) in failures:
        assert type(failure) is PipelineBroken
        assert message in str(failure)
        assert (failure.traceback_text is None) is (traceback is None)
        assert traceback is None or traceback in failure.traceback_text
    assert journal.lines() == []
    assert not pipeline.was_graceful_shutdown


@pytest.mark.parametrize("runner", EVERY_METHOD)
@pytest.mark.parametrize("act", [partial(ways.fail, ValueError, "not yet"), partial(ways.kill_self, signal.SIGKILL)])
def test_a_worker_that_dies_before_it_is_ready_costs_no_item(
    act: Callable[[Any], Any], runner: str, journal: Journal, tmp_path: Path
) -> None:
    """Two in a row, then it works."""
    starts = Journal(tmp_path / "starts")
    with pipeline_on(
        runner,
        stages=stages(),
        max_simultaneous_work_items=1,
        process_initfunc=ways.initialise_at_last,
        process_initargs=(str(starts.path), 2, act),
    ) as pipeline:
        assert_all_succeed(pipeline, journal)
    assert len(starts.lines()) == 3
    assert pipeline.was_graceful_shutdown


def test_a_pipeline_whose_initialiser_hangs_can_be_terminated(journal: Journal, fifo: Callable[[str], str]) -> None:
    """Nothing is waited for that will not come."""
    says_pid = fifo("pid")
    act = partial(ways.say_pid_and_work_for_ever, says_pid)
    with pipeline_on(
        DEFAULT,
        stages=stages(),
        max_simultaneous_work_items=1,
        process_initfunc=ways.initialise_never,
        process_initargs=(act,),
    ) as pipeline:
        future = pipeline.submit(CrashItem("victim", journal.path))
        Path(says_pid).read_text()
        pipeline.terminate()
        (failure,) = future.result(PATIENCE_S).exceptions
    assert type(failure) is PipelineTerminated
