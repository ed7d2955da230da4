"""How long workers live, how they end, and what they are to the program that has them."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lifetime_stages as stages
import pytest
from lifetime_stages import CallItem, CallStage
from pipeline_harness import (
    DEFAULT,
    FORKSERVER,
    PATIENCE_S,
    SPAWN,
    TEMPLATE,
    Journal,
    kill_and_wait,
    pipeline_on,
    result,
    wait_gone,
    wait_readable,
    worker_pool,
)

from atbu.mp_pipeline.mp_pipeline import PipeConnectionAborted, PipelineWorkerDied

EVERY_METHOD = (DEFAULT, FORKSERVER, SPAWN)
# Ways to end in which no line of the program's Python code runs any more, and ways in which some does.
HARD_ENDS = ("SIGKILL", "SIGTERM", "SIGSEGV", "os._exit", "exec")
SOFT_ENDS = ("sys.exit", "error")


class Report:
    """A FIFO in which workers write their pids."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._fd = os.open(path, os.O_RDWR)
        self._rest = b""

    def close(self) -> None:
        os.close(self._fd)

    def pidfds(self, count: int) -> dict[int, int]:
        """Wait for ``count`` pids; their pidfds, for wait_gone()."""
        while self._rest.count(b"\n") < count:
            wait_readable(self._fd, f"only {self._rest!r} of {count} workers came to life")
            self._rest += os.read(self._fd, 4096)
        *lines, self._rest = self._rest.split(b"\n")
        return {int(line): os.pidfd_open(int(line)) for line in lines}


@pytest.fixture
def report(tmp_path: Path) -> Iterator[Report]:
    report = Report(tmp_path / "report")
    yield report
    report.close()


@contextlib.contextmanager
def program(name: str, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A running program of lifetime_programs.py; ended in the end, whatever became of the test."""
    path = Path(__file__).with_name("lifetime_programs.py")
    process = subprocess.Popen(
        [sys.executable, str(path), name, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def tell(process: subprocess.Popen[str]) -> None:
    """Let the program go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """The next line that the program says."""
    assert process.stdout is not None
    wait_readable(process.stdout.fileno(), "the program says nothing")
    return process.stdout.readline().rstrip("\n")


@pytest.mark.parametrize("how", list(stages.HOLDS))
@pytest.mark.parametrize("method", EVERY_METHOD)
def test_a_killed_program_takes_its_workers_along(method: str, how: str, report: Report) -> None:
    """In the middle of a stage, whatever that is doing."""
    with program("that_holds", method, how, report.path, "SIGKILL") as process:
        assert hear(process) == "ready"
        workers = report.pidfds(2)
        process.kill()
        wait_gone(workers)


@pytest.mark.parametrize("end", [*HARD_ENDS, *SOFT_ENDS])
@pytest.mark.parametrize("method", EVERY_METHOD)
def test_workers_end_with_the_program_however_it_ends(method: str, end: str, report: Report) -> None:
    """Also where a stage would never end by itself."""
    with program("that_holds", method, "handles all signals", report.path, end) as process:
        assert hear(process) == "ready"
        workers = report.pidfds(2)
        tell(process)
        wait_gone(workers)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert said.count("without shutdown()") == (1 if end in SOFT_ENDS else 0)
    assert process.returncode == {
        "SIGKILL": -signal.SIGKILL,
        "SIGTERM": -signal.SIGTERM,
        "SIGSEGV": -signal.SIGSEGV,
        "error": 1,
    }.get(end, 0)


@pytest.mark.parametrize("end", ["SIGKILL", "sys.exit"])
@pytest.mark.parametrize("method", EVERY_METHOD)
def test_idle_workers_end_with_the_program(method: str, end: str, report: Report) -> None:
    """They wait for an item that will not come."""
    with program("that_idles", method, report.path, end) as process:
        assert hear(process) == "ready"
        workers = report.pidfds(1)
        tell(process)
        wait_gone(workers)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == (0 if end == "sys.exit" else -signal.SIGKILL)


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_a_child_that_the_program_forks_does_not_keep_workers_alive(method: str, report: Report) -> None:
    """It has copies of all descriptors; those of the pipeline are closed there."""
    with program("that_forks", method, report.path, "SIGKILL") as process:
        assert hear(process) == "ready"
        workers = report.pidfds(2)
        tell(process)
        child = int(hear(process))
        try:
            tell(process)
            process.wait(PATIENCE_S)
            wait_gone(workers)
        finally:
            kill_and_wait(child)


def test_two_pipelines_do_not_keep_each_other_alive(report: Report) -> None:
    """What is forked for the second has copies of what the first has open."""
    with program("with_two_pipelines", report.path, "SIGKILL") as process:
        assert hear(process) == "ready"
        workers = report.pidfds(2)
        tell(process)
        wait_gone(workers)


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_the_workers_of_a_worker_end_with_the_program(method: str, report: Report) -> None:
    """A pipeline inside a worker ends with that worker, which ends with the program."""
    with program("with_nested_pipelines", method, report.path, "SIGKILL") as process:
        assert hear(process) == "ready"
        inner = report.pidfds(2)
        tell(process)
        wait_gone(inner)


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_only_the_program_acts_on_an_interrupt(method: str, report: Report, tmp_path: Path) -> None:
    """Ctrl-C reaches the whole group; what the workers do next is the program's to decide."""
    os.mkfifo(tmp_path / "report.until")
    with program("that_is_interrupted", method, report.path, start_new_session=True) as process:
        workers = report.pidfds(1)
        os.killpg(process.pid, signal.SIGINT)
        assert hear(process) == "interrupted"
        os.killpg(process.pid, signal.SIGWINCH)
        tell(process)
        said, complaints = process.communicate(timeout=PATIENCE_S)
        wait_gone(workers)
    assert said == "None\nTrue\n"
    assert complaints == ""
    assert process.returncode == 0


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_signal_handlers_of_the_program_are_not_its_workers(method: str) -> None:
    """SIGTERM ends a worker, though the program handles it."""
    with program("that_handles_sigterm", method) as process:
        said, _ = process.communicate(timeout=PATIENCE_S)
    assert "was killed by SIGTERM" in said
    assert "handled" not in said


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_what_was_printed_before_is_printed_once(method: str) -> None:
    """A forked worker has no copy of the program's unwritten output; its own comes out."""
    with program("that_prints", method) as process:
        said, complaints = process.communicate(timeout=PATIENCE_S)
    assert said == "before in the worker after\n"
    assert complaints == ""


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_a_worker_is_a_process_of_multiprocessing(method: str) -> None:
    """It has a name, a parent, the program's authkey, and is not daemonic."""
    with pipeline_on(method, stages=[CallStage(stages.describe_process)], name="mine") as pipeline:
        answer = result(pipeline.submit(CallItem())).answer
    assert answer.pop("name").startswith("MpPipeline-mine-worker-")
    assert answer.pop("pid") != os.getpid()
    assert answer == {
        "is_own_pid": True,
        "is_daemon": False,
        "parent_pid": os.getpid(),
        "is_parent_alive": True,
        "authkey": bytes(multiprocessing.current_process().authkey),
        "children": [],
        "num_threads": 1,
    }


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_a_stage_and_an_initialiser_may_hold_a_manager_proxy(method: str) -> None:
    """The authkey is the program's, so that the manager talks to workers."""
    # By spawn, for Python 3.12 complains about a fork where a pipeline's thread runs.
    with multiprocessing.get_context("spawn").Manager() as manager:
        counts, workers = manager.dict(), manager.list()
        with pipeline_on(
            method,
            stages=[CallStage(stages.count_at, counts)],
            max_simultaneous_work_items=1,
            process_initfunc=stages.sign_in,
            process_initargs=(workers,),
        ) as pipeline:
            for item in pipeline.map(CallItem("ab"[number % 2]) for number in range(10)):
                assert item.exceptions is None
        assert dict(counts) == {"a": 5, "b": 5}
        assert len(workers) == 1


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_a_stage_may_start_processes(method: str) -> None:
    """By multiprocessing, by fork, by subprocess."""
    with pipeline_on(method, stages=[CallStage(stages.start_processes)]) as pipeline:
        item = result(pipeline.submit(CallItem()))
    assert item.exceptions is None
    assert item.answer == [3, 4, 5]


class Records(logging.Handler):
    """Keeps the messages it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def records() -> Iterator[Records]:
    handler = Records()
    logging.getLogger("lifetime").addHandler(handler)
    yield handler
    logging.getLogger("lifetime").removeHandler(handler)


def last_words_of_a_process(method: str, journal: Journal) -> list[str]:
    """What a process of multiprocessing does in the end, in this Python."""
    context = multiprocessing.get_context("fork" if method == TEMPLATE else method)
    process = context.Process(target=stages.leave_last_words, args=(None, str(journal.path)))
    process.start()
    process.join()
    assert process.exitcode == 0
    process.close()
    return journal.lines()


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_workers_end_as_processes_of_multiprocessing_do(method: str, records: Records, tmp_path: Path) -> None:
    """Finalizers and exit functions run as they do there, and the last log record arrives before shutdown returns."""
    expected = last_words_of_a_process(method, Journal(tmp_path / "expected"))
    records.messages.clear()
    journal = Journal(tmp_path / "journal")
    with pipeline_on(method, stages=[CallStage(stages.leave_last_words, str(journal.path))]) as pipeline:
        assert result(pipeline.submit(CallItem())).exceptions is None
        assert journal.lines() == []
    assert journal.lines() == expected
    assert records.messages == ["at work", "the last word"]
    assert pipeline.was_graceful_shutdown


@pytest.mark.parametrize("dies", [False, True], ids=["succeeds", "dies"])
@pytest.mark.parametrize("is_by_fork", [False, True], ids=["multiprocessing", "os.fork"])
@pytest.mark.parametrize("method", EVERY_METHOD)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_that_a_stage_leaves_behind_keeps_no_pipe_open(
    method: str, is_by_fork: bool, dies: bool, tmp_path: Path
) -> None:
    """The consumer sees the end, clean or not, while that child lives on."""
    until = tmp_path / "until"
    os.mkfifo(until)
    chain = [stages.ForkingProducerStage(str(until), is_by_fork, dies), stages.ReadAllStage()]
    with pipeline_on(method, stages=chain) as pipeline:
        item = result(pipeline.submit(CallItem()))
    until.write_bytes(b"")
    if dies:
        assert [type(ex) for ex in item.exceptions] == [PipelineWorkerDied, PipeConnectionAborted]
    else:
        assert item.exceptions is None
        assert item.answer == b"data"


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_a_pipeline_runs_inside_a_worker_of_another(method: str) -> None:
    """A worker started by the template has one thread, as a program that starts."""
    with pipeline_on(method, stages=[CallStage(stages.run_a_pipeline_of_my_own)]) as pipeline:
        items = [result(pipeline.submit(CallItem([number, 7]))) for number in range(3)]
    assert [item.exceptions for item in items] == [None] * 3
    assert [item.answer for item in items] == [(method, [2 * number, 14]) for number in range(3)]


def test_two_pipelines_run_at_once(tmp_path: Path) -> None:
    """Items of one and of the other; the second was made while the first one's thread ran."""
    double: Callable[[int], int] = stages._double
    with pipeline_on(DEFAULT, stages=[CallStage(double)]) as first:
        result(first.submit(CallItem(0)))
        with pipeline_on(FORKSERVER, stages=[CallStage(double)]) as second:
            assert worker_pool(second).method == FORKSERVER
            futures = [pipeline.submit(CallItem(n)) for n in range(50) for pipeline in (first, second)]
            answers = [result(future).answer for future in futures]
    assert answers == [2 * n for n in range(50) for _ in (first, second)]
