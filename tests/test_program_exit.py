"""Programs that end without a word to their pipelines."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
GRACE_S = 0.5
# A program that ends takes this long at most: the start of Python and of workers, the grace, a loaded machine.
SOON_S = 20.0

STAGES = """
    import os, signal, sys, time
    from pipeline_harness import note_in
    from pipeline_stages import Item, process_stage, thread_stage
    from atbu.mp_pipeline.mp_pipeline import MultiprocessingPipeline

    JOURNAL = sys.argv[1]

    def work(item):
        note_in(JOURNAL, f"begin {item.user_obj}")
        while not os.path.exists(JOURNAL + ".go"):
            time.sleep(0.01)
        note_in(JOURNAL, f"end {item.user_obj}")
        return item

    def say(future):
        how = "cancelled" if future.cancelled() else [type(ex).__name__ for ex in future.result().exceptions or ()]
        print(future.number, how, flush=True)

    def start(stage, count, *more_stages, **arguments):
        arguments = {"max_simultaneous_work_items": 1, "grace_s": GRACE_S, "name": "left", **arguments}
        pipeline = MultiprocessingPipeline(stages=[stage, *more_stages], **arguments)
        futures = [pipeline.submit(Item(number)) for number in range(count)]
        for number, future in enumerate(futures):
            future.number = number
            future.add_done_callback(say)
        while not (os.path.exists(JOURNAL) and open(JOURNAL).read().startswith("begin")):
            time.sleep(0.01)
        return pipeline
"""


@pytest.fixture
def run_program(journal, tmp_path):
    """Runs a program to its end, and says how it ended: its status, and the lines of its outputs."""

    def run(body: str, *options: str) -> tuple[int, list[str], list[str]]:
        script = tmp_path / "program.py"
        program = textwrap.dedent(STAGES) + f"\nGRACE_S = {GRACE_S}\n"
        script.write_text(program + '\nif __name__ == "__main__":\n' + textwrap.indent(textwrap.dedent(body), "    "))
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, *options, str(script), str(journal.path)],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(HERE)},
            check=False,
        )
        assert time.monotonic() - start < SOON_S
        return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()

    return run


METHODS = ["", "multiprocessing.set_start_method('spawn')", "multiprocessing.set_start_method('forkserver')"]
IDS = ["default", "spawn", "forkserver"]


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_a_program_that_ends_without_shutdown_ends(run_program, journal, method):
    """Pending items are cancelled, the one at work is ended within grace_s; one warning says so."""
    body = f"""
        import multiprocessing
        {method}
        pipeline = start(process_stage(work), 4)
    """
    status, said, complaints = run_program(body)
    assert status == 0
    assert sorted(said) == ["0 ['PipelineTerminated']", "1 cancelled", "2 cancelled", "3 cancelled"]
    assert len(complaints) == 1
    assert "RuntimeWarning" in complaints[0]
    assert "'left'" in complaints[0]
    assert "shutdown()" in complaints[0]
    assert journal.lines() == ["begin 0"]


@pytest.mark.parametrize("arguments", ["thread_stage(work), 3", "process_stage(work), 3, serial=True"])
def test_a_program_ends_though_a_thread_is_at_work(run_program, journal, arguments):
    """It cannot be ended by itself, and ends with the program."""
    status, said, complaints = run_program(f"pipeline = start({arguments})")
    assert status == 0
    assert sorted(said) == ["0 ['PipelineTerminated']", "1 cancelled", "2 cancelled"]
    assert len([line for line in complaints if "RuntimeWarning" in line]) == len(complaints) == 1
    assert journal.lines() == ["begin 0"]


def test_what_ends_within_the_grace_is_finished(run_program, journal):
    """An item at work is not thrown away if it needs little more."""
    body = """
        pipeline = start(process_stage(work), 2, grace_s=30.0)
        # Once the end has begun: the last one is cancelled. Sooner, and another item could be taken up.
        pipeline.submit(Item(2)).add_done_callback(lambda _: open(JOURNAL + ".go", "w"))
    """
    status, said, _ = run_program(body)
    assert status == 0
    assert sorted(said) == ["0 []", "1 cancelled"]
    assert journal.lines() == ["begin 0", "end 0"]


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_it_ends_where_warnings_are_errors_too(run_program, method):
    """Everything is ended before the warning is given."""
    body = f"""
        import multiprocessing
        {method}
        pipeline = start(process_stage(work), 2)
    """
    status, said, complaints = run_program(body, "-W", "error")
    assert status == 0
    assert sorted(said) == ["0 ['PipelineTerminated']", "1 cancelled"]
    assert "RuntimeWarning" in complaints[-1]


def test_several_pipelines_that_were_forgotten_share_one_warning(run_program):
    """It names them all, and none that was shut down."""
    body = """
        open(JOURNAL + ".go", "w")
        pipelines = [start(process_stage(work), 1, name=name) for name in ("one", "two", "three")]
        pipelines[1].shutdown()
        del pipelines[1]
    """
    status, _, complaints = run_program(body)
    assert status == 0
    assert len(complaints) == 1
    assert "'one'" in complaints[0]
    assert "'three'" in complaints[0]
    assert "'two'" not in complaints[0]


def test_a_submit_when_the_program_has_ended_its_pipelines_is_refused(run_program):
    """An exit handler of the program's own that comes later does not wait for ever."""
    body = """
        import atexit
        def submit_late():
            try:
                pipeline.submit(Item(9)).result()
            except Exception as ex:
                print(type(ex).__name__)
        atexit.register(submit_late)
        pipeline = start(process_stage(work), 1)
        open(JOURNAL + ".go", "w")
    """
    status, said, complaints = run_program(body)
    assert (status, said, len(complaints)) == (0, ["0 []", "PipelineClosed"], 1)


@pytest.mark.parametrize("stage", ["process_stage(work)", "thread_stage(work)"])
def test_shutdown_without_waiting_is_a_shutdown(run_program, journal, stage):
    """The program ends when the items have; nothing is cancelled, nobody is warned."""
    body = f"""
        pipeline = start({stage}, 3)
        pipeline.shutdown(wait=False)
        open(JOURNAL + ".go", "w")
    """
    status, said, complaints = run_program(body)
    assert (status, complaints) == (0, [])
    assert said == ["0 []", "1 []", "2 []"]
    assert journal.lines() == [f"{word} {number}" for number in range(3) for word in ("begin", "end")]


def test_a_thread_stage_may_start_when_the_main_thread_has_ended(run_program):
    """Python 3.12 starts no threads then."""
    body = """
        pipeline = start(process_stage(work), 3, thread_stage())
        pipeline.shutdown(wait=False)
        open(JOURNAL + ".go", "w")
    """
    assert run_program(body) == (0, ["0 []", "1 []", "2 []"], [])


def test_a_pipeline_that_was_dropped_is_ended_with_the_program(run_program):
    """It is one that ends without shutdown: what has not started is cancelled, and one warning says so."""
    body = """
        start(process_stage(work), 2)
        open(JOURNAL + ".go", "w")
    """
    status, said, complaints = run_program(body)
    assert (status, sorted(said)) == (0, ["0 []", "1 cancelled"])
    assert len(complaints) == 1, complaints
    assert "without shutdown()" in complaints[0]


@pytest.mark.parametrize("end", ["sys.exit(7)", "raise SystemExit(7)"])
def test_the_exit_status_is_the_programs(run_program, end):
    """Whatever is left running."""
    body = f"""
        pipeline = start(process_stage(work), 2)
        {end}
    """
    assert run_program(body)[0] == 7


@pytest.mark.parametrize("end", ["os._exit(7)", "os.kill(os.getpid(), signal.SIGKILL)"])
@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_workers_end_with_a_program_that_vanishes(run_program, method, end):
    """In the middle of a stage; the check of leftovers finds none."""
    body = f"""
        import multiprocessing
        {method}
        pipeline = start(process_stage(work), 2)
        {end}
    """
    status, said, _ = run_program(body)
    assert status in (7, -9)
    assert said == []


def test_a_fork_of_the_program_leaves_its_pipelines_alone(run_program):
    """It ends without a word, and the parent's items go on."""
    body = """
        pipeline = start(process_stage(work), 2)
        child = os.fork()
        if child == 0:
            sys.exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        open(JOURNAL + ".go", "w")
        pipeline.shutdown()
    """
    status, said, complaints = run_program(body)
    assert (status, said) == (0, ["0 []", "1 []"])
    # Python 3.12 and later warn of every fork beside threads.
    assert [line for line in complaints if "DeprecationWarning" not in line and "os.fork()" not in line] == []
