"""What a stage finds in the process it runs in."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from multiprocessing import util

import pytest
from pipeline_harness import Journal, note_in, result
from pipeline_stages import PROCESSES, RUNNERS, Item, closing_runner, keep, process_stage, results, thread_stage

from atbu.mp_pipeline.mp_pipeline import PipelineWorkerDied


@pytest.fixture(params=RUNNERS)
def runner(request):
    with closing_runner(request.param) as runner:
        yield runner


@pytest.fixture
def processes():
    with closing_runner(PROCESSES) as runner:
        yield runner


def _describe_process(item):
    process = multiprocessing.current_process()
    parent = multiprocessing.parent_process()
    item.user_obj = {
        "pid": (process.pid, os.getpid()),
        "is daemon": process.daemon,
        "name": process.name,
        "class": type(process).__name__,
        "authkey": bytes(process.authkey),
        "parent": (parent.pid, parent.is_alive()),
        "thread": threading.current_thread() is threading.main_thread(),
        "stdin": sys.stdin.read(),
    }
    return item


def test_a_worker_is_a_process_of_multiprocessing(processes):
    """current_process(), parent_process() and the authkey say so."""
    (item,) = results(processes(process_stage(_describe_process), name="shop"), [Item()])
    assert item.exceptions is None
    facts = item.user_obj
    assert facts["pid"][0] == facts["pid"][1] != os.getpid()
    assert facts["parent"] == (os.getpid(), True)
    assert facts["authkey"] == bytes(multiprocessing.current_process().authkey)
    assert facts["is daemon"] is False
    assert facts["class"] == "Process"
    assert facts["name"] != "MainProcess"
    assert "shop" in facts["name"]
    assert facts["thread"]
    assert facts["stdin"] == ""


def _start_processes(item):
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=_send_pid, args=(writer,))
    child.start()
    item.user_obj = [reader.recv(), child.pid]
    child.join()
    item.user_obj += [child.exitcode, subprocess.run(["true"], check=False).returncode]
    reader.close()
    writer.close()
    return item


def _send_pid(writer):
    writer.send(os.getpid())


def _say_that_it_is_there(descriptor):
    os.write(descriptor, b"here ")


def test_workers_may_be_started_before_the_first_item(processes):
    """They are there although there is nothing to do, and then do it; without any item they end as well."""
    reading, writing = os.pipe()
    try:
        options = {"process_initfunc": _say_that_it_is_there, "process_initargs": (writing,)}
        idle, busy = (processes(process_stage(keep), max_simultaneous_work_items=2, **options) for _ in range(2))
        for pipeline in (idle, busy):
            pipeline.start_workers(2)
            assert os.read(reading, 5) + os.read(reading, 5) == b"here here "
        assert [item.exceptions for item in results(busy, [Item(), Item()])] == [None, None]
        idle.shutdown()
        assert idle.was_graceful_shutdown
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_stage_may_start_processes(processes):
    """Workers are not daemonic."""
    (item,) = results(processes(process_stage(_start_processes)), [Item()])
    assert item.exceptions is None
    reported, pid, *statuses = item.user_obj
    assert reported == pid
    assert statuses == [0, 0]


def _register_exit_handlers(item_or_path):
    path = item_or_path if isinstance(item_or_path, str) else item_or_path.user_obj
    util.Finalize(None, note_in, (path, "finalizer"), exitpriority=1)
    atexit.register(note_in, path, "atexit")
    return item_or_path


def test_exit_handlers_of_a_worker_run_as_in_a_process_of_multiprocessing(processes, journal, tmp_path):
    """And before shutdown returns."""
    peer = Journal(tmp_path / "peer")
    child = multiprocessing.get_context("fork").Process(target=_register_exit_handlers, args=(str(peer.path),))
    child.start()
    child.join()
    child.close()

    pipeline = processes(process_stage(_register_exit_handlers), max_simultaneous_work_items=1)
    results(pipeline, [Item(str(journal.path))])
    assert journal.lines() == []
    pipeline.shutdown()
    assert "finalizer" in journal.lines()
    assert journal.lines() == peer.lines()


def _log_at_exit(item):
    util.Finalize(None, logging.getLogger("tests.worker").warning, ("the last word",), exitpriority=1)
    logging.getLogger("tests.worker").warning("at work")
    return item


class JournalHandler(logging.Handler):
    """Writes into a journal, from whatever process."""

    def __init__(self, journal):
        super().__init__()
        self.journal = journal

    def emit(self, record):
        note_in(self.journal, record.getMessage())


@pytest.mark.parametrize("propagate", [True, False])
def test_a_record_is_handled_once_by_the_handler_of_its_logger(processes, journal, propagate):
    """In the parent; a worker that was forked has not kept the handlers it inherited."""
    logger, handler = logging.getLogger("tests.worker"), JournalHandler(str(journal.path))
    logger.addHandler(handler)
    logger.propagate = propagate
    try:
        pipeline = processes(process_stage(_log))
        results(pipeline, [Item()])
        pipeline.shutdown()
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    assert journal.lines() == ["a word"]


def _log(item):
    logging.getLogger("tests.worker").warning("a word")
    return item


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("no")], ids=repr)
def test_a_handler_of_the_program_that_raises_costs_no_item(processes, error):
    """Whatever it raises is an anomaly."""

    class Raising(logging.Handler):
        def emit(self, record):
            raise error

    handler = Raising()
    logging.getLogger("tests.worker").addHandler(handler)
    try:
        pipeline = processes(process_stage(_log))
        assert [item.exceptions for item in results(pipeline, [Item(), Item()])] == [None] * 2
        pipeline.shutdown()
    finally:
        logging.getLogger("tests.worker").removeHandler(handler)
    assert [anomaly.exception for anomaly in pipeline.anomalies] == [error] * 2


def test_a_workers_last_log_records_arrive_before_shutdown_returns(processes, caplog):
    """Those of its exit handlers too."""
    pipeline = processes(process_stage(_log_at_exit), max_simultaneous_work_items=1)
    results(pipeline, [Item()])
    pipeline.shutdown()
    assert [record.message for record in caplog.records] == ["at work", "the last word"]
    assert {record.name for record in caplog.records} == {"tests.worker"}


def test_nothing_fixes_a_start_method(tmp_path):
    """Neither importing the package, nor asking it anything, nor running a pipeline."""
    script = """
        import multiprocessing
        from atbu.mp_pipeline import mp_global, mp_helper, mp_pipeline
        def unset():
            return multiprocessing.get_start_method(allow_none=True) is None
        if __name__ == "__main__":
            assert unset()
            mp_global.get_verbosity_level()
            pipeline = mp_pipeline.MultiprocessingPipeline()
            assert pipeline.num_stages == 0 and pipeline.anomalies == [] and unset()
            pipeline.shutdown()
            from pipeline_stages import Item, process_stage
            with mp_pipeline.MultiprocessingPipeline(stages=[process_stage()]) as pipeline:
                assert not pipeline.submit(Item()).result(30).is_failed
            assert unset()
            multiprocessing.set_start_method("spawn")
    """
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    here = os.path.dirname(os.path.abspath(__file__))
    environment = {**os.environ, "PYTHONPATH": here}
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_stages_of_one_item_may_run_back_to_back(processes):
    """Where all of them say that they want every item; their results are the same."""
    stages = [process_stage(_add_pid) for _ in range(3)]
    for stage in stages:
        stage.wants_all = True
        stage.fn_determiner = _never_asked
    items = results(processes(*stages, process_stage(keep)), [Item([]) for _ in range(20)])
    for item in items:
        assert item.exceptions is None
        assert len(item.user_obj) == 3
        assert len(set(item.user_obj)) == 1


def _add_pid(item):
    item.user_obj.append(os.getpid())
    return item


def _never_asked(item):
    raise AssertionError("a stage that wants all is asked")


def _fail_on_three(item):
    if item.user_obj == 3:
        raise ValueError("three")
    item.user_obj += 1
    return item


@pytest.mark.parametrize("wants_all", [False, True])
def test_a_failure_names_the_stage_it_happened_in_and_ends_the_item(runner, wants_all):
    """Back to back or not: stage_complete hears of the stage that failed, none behind it runs."""
    stages = [process_stage(_fail_on_three) for _ in range(4)]
    for stage in stages:
        stage.wants_all = wants_all
    item = Item(1)
    assert result(runner(*stages).submit(item)) is item
    assert [str(ex) for ex in item.exceptions] == ["three"]


def test_the_next_pipeline_starts_its_workers_in_the_same_way(processes):
    """A thread of the one before, which has just ended, does not make the program one of many threads."""
    for _ in range(40):
        # It could not be sent to a worker that is not forked.
        pipeline = processes(process_stage(), thread_stage(), process_initfunc=lambda: None)
        assert results(pipeline, [Item()])[0].exceptions is None
        pipeline.shutdown()


def _close_all_descriptors(item):
    if item.user_obj == "close":
        os.closerange(3, 1024)
        signal.pause()
    return item


def test_a_stage_that_closes_all_descriptors_is_told_so(processes):
    """Memory had no part in it."""
    pipeline = processes(process_stage(_close_all_descriptors))
    bad, good = results(pipeline, [Item("close"), Item()])
    assert [type(ex) for ex in bad.exceptions] == [PipelineWorkerDied]
    assert "Does a stage close all descriptors?" in str(bad.exceptions[0])
    assert "memory" not in str(bad.exceptions[0])
    assert good.exceptions is None
