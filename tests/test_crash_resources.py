"""What a pool runs out of, and the initialisers of its workers: the rest of the crash table."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import crash_stages as ways
import pytest
from crash_chain_stages import chain_of_three
from crash_stages import CrashItem, OnArrival, ParentOutOfFilesItem, SignallingItem
from failure_clock import FailureClock
from pipeline_harness import (
    DEFAULT,
    FORKSERVER,
    PATIENCE_S,
    SPAWN,
    Journal,
    MeetingStage,
    pids_at_strength,
    pipeline_on,
    result,
)
from pool_checks import LARGE, assert_all_succeed, stages

from atbu.mp_pipeline.descriptors import PassedDescriptor
from atbu.mp_pipeline.mp_pipeline import PipelineBroken, PipelinePicklingError, PipelineTerminated

EVERY_METHOD = (DEFAULT, FORKSERVER, SPAWN)
# More than a worker may have that is given a limit, and than any socket holds.
HUGE = 200 << 20


# Resources


@pytest.mark.parametrize("runner", EVERY_METHOD)
def test_descriptors_lost_on_the_way_fail_the_item(runner: str, journal: Journal, tmp_path: Path) -> None:
    """The worker can open no more files, so the kernel drops what the item brought along."""
    with pipeline_on(runner, stages=stages(), max_simultaneous_work_items=1) as pipeline, open("/dev/null") as null:
        result(pipeline.submit(CrashItem("lower", journal.path, ways.lower_file_limit)))
        victim = CrashItem("victim", journal.path)
        victim.descriptor = PassedDescriptor(null.fileno())
        clock = FailureClock(victim)
        (failure,) = result(clock.submit(pipeline)).exceptions
        again = CrashItem("again", journal.path)
        again.user_obj = OnArrival(ways.allow_more_files)
        assert result(pipeline.submit(again)).exceptions is None
        neighbour = CrashItem("neighbour", journal.path)
        neighbour.descriptor = PassedDescriptor(null.fileno())
        assert result(pipeline.submit(neighbour)).exceptions is None
        assert len(pids_at_strength(pipeline, tmp_path, 1)) == 1
    assert type(failure) is OSError
    assert "1 of 1 descriptors were lost on the way" in str(failure)
    clock.assert_in_time()
    assert "victim act" not in journal.lines()
    assert pipeline.was_graceful_shutdown


def test_pipes_lost_on_the_way_fail_the_chain(journal: Journal) -> None:
    """A chain's pipes travel as descriptors too; the part that got its own sees the other's absence."""
    limited = CrashItem("limited", journal.path, ways.lower_file_limit, at="consumer:after")
    with pipeline_on(DEFAULT, stages=chain_of_three(), max_simultaneous_work_items=1) as pipeline:
        assert result(pipeline.submit(limited)).exceptions is None
        victim = CrashItem("victim", journal.path)
        clock = FailureClock(victim)
        result(clock.submit(pipeline))
    clock.assert_in_time()
    assert any("descriptors were lost on the way" in str(ex) for ex in victim.exceptions)
    assert "victim consumer saw a clean end" not in journal.lines()
    assert pipeline.was_graceful_shutdown


def test_a_parent_without_descriptors_fails_the_item(journal: Journal) -> None:
    """EMFILE in the parent while a descriptor is being sent; afterwards all is well again."""
    with pipeline_on(DEFAULT, stages=stages(), max_simultaneous_work_items=1) as pipeline, open("/dev/null") as null:
        assert_all_succeed(pipeline, journal)
        victim = ParentOutOfFilesItem("victim", journal.path)
        victim.descriptor = PassedDescriptor(null.fileno())
        clock = FailureClock(victim)
        (failure,) = result(clock.submit(pipeline)).exceptions
        assert_all_succeed(pipeline, journal)
    assert type(failure) is PipelinePicklingError
    assert os.strerror(errno.EMFILE) in str(failure)
    clock.assert_in_time()
    assert pipeline.was_graceful_shutdown


def test_a_parent_without_descriptors_for_pipes_fails_the_chain(journal: Journal, tmp_path: Path) -> None:
    """The same where a chain's pipes cannot be made."""
    chain = [*chain_of_three(), MeetingStage()]
    with pipeline_on(DEFAULT, stages=chain, max_simultaneous_work_items=3) as pipeline:
        pids = pids_at_strength(pipeline, tmp_path, 3)
        clock = FailureClock(ParentOutOfFilesItem("victim", journal.path))
        (failure,) = result(clock.submit(pipeline)).exceptions
        assert result(pipeline.submit(CrashItem("neighbour", journal.path))).exceptions is None
        assert pids_at_strength(pipeline, tmp_path, 3) == pids
    assert type(failure) is OSError
    assert failure.errno == errno.EMFILE
    clock.assert_in_time()
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
        clock = FailureClock(victim)
        (failure,) = result(clock.submit(pipeline)).exceptions
        assert_all_succeed(pipeline, journal)
        assert pids_at_strength(pipeline, tmp_path, 1) == {pid}
    assert isinstance(failure, MemoryError) or "MemoryError" in str(failure)
    clock.assert_in_time()
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
