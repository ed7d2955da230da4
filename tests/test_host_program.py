"""What the program around a pipeline does: it forks, is interrupted, has signals and streams of its own."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from pipeline_harness import PATIENCE_S, result
from pipeline_stages import Item, closing_gate, process_stage, wait_if_told

from atbu.mp_pipeline.mp_pipeline import InvalidStateError, MultiprocessingPipeline

HERE = Path(__file__).resolve().parent


def in_a_forked_copy(work):
    """Fork, have the copy do ``work``, and say how it ended; a copy that hangs is ended by its alarm."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(int(PATIENCE_S))
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_copy_of_a_pipeline_writes_nowhere(tmp_path):
    """Its descriptors are closed there, and what has their numbers now is somebody else's."""
    folder = tmp_path / "opened"
    folder.mkdir()
    complaints = []

    def open_files_and_drop_the_pipeline():
        files = [open(folder / str(number), "wb") for number in range(20)]  # noqa: SIM115 - the copy ends with them
        sys.unraisablehook = complaints.append
        engine = pipelines[0]._engine
        for do in (pending.cancel, pipelines.clear):
            engine._is_asleep = True  # as it nearly always is
            do()
            gc.collect()
        assert files
        assert complaints == []

    with closing_gate(tmp_path) as gate:
        pipelines = [MultiprocessingPipeline([process_stage(wait_if_told)], 1)]
        pipelines[0].submit(Item(gate.path))
        gate.wait_for(1)
        pending = pipelines[0].submit(Item())
        assert in_a_forked_copy(open_files_and_drop_the_pipeline) == 0
        assert {path.stat().st_size for path in folder.iterdir()} == {0}
        gate.open(1)
        assert not result(pending).is_failed
        pipelines[0].shutdown()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_copy_refuses_items_though_a_thread_was_submitting_one(tmp_path):
    """The lock that this thread held will never be released in the copy."""
    with closing_gate(tmp_path) as gate:
        pipeline = MultiprocessingPipeline(stages=[process_stage(wait_if_told)])
        has_lock, let_go = threading.Event(), threading.Event()

        def submit_slowly():
            with pipeline._lock:
                has_lock.set()
                let_go.wait(PATIENCE_S)

        def submit():
            with pytest.raises(InvalidStateError, match="forked copy"):
                pipeline.submit(Item())

        thread = threading.Thread(target=submit_slowly)
        thread.start()
        has_lock.wait(PATIENCE_S)
        assert in_a_forked_copy(submit) == 0
        let_go.set()
        thread.join()
        gate.open(1)
        pipeline.shutdown()


def test_a_shutdown_that_was_interrupted_may_be_called_again(tmp_path):
    """It waits as the first one would have."""

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with closing_gate(tmp_path) as gate:
            pipeline = MultiprocessingPipeline(stages=[process_stage(wait_if_told)])
            future = pipeline.submit(Item(gate.path))
            gate.wait_for(1)
            main = threading.main_thread().ident
            threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGUSR1)).start()
            with pytest.raises(KeyboardInterrupt):
                pipeline.shutdown()
            assert not future.done()
            threading.Timer(0.1, gate.open, (1,)).start()
            pipeline.shutdown()
            assert future.done()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not result(future).is_failed
    assert pipeline.anomalies == []
    assert pipeline.was_graceful_shutdown


def run_program(body, *arguments):
    """Run a program of its own; its status, what it printed, and its complaints."""
    prelude = """
        import os, signal, sys, threading
        from pipeline_stages import Item, PipedProcessStage, process_stage, wants
        from atbu.mp_pipeline.mp_pipeline import MultiprocessingPipeline, PipeConnectionIO
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(body), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(HERE)},
        check=False,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_a_worker_that_is_gone_does_not_end_a_program_that_lets_sigpipe_end_it():
    """Nor does a reader that has gone end a worker."""
    body = """
        def write_to_nobody(item):
            if item.user_obj == "pid":
                item.user_obj = os.getpid()
                return item
            reader, writer = PipeConnectionIO.create_reader_writer_pair()
            reader.close()
            writer.write(b"x")

        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        with MultiprocessingPipeline([process_stage(write_to_nobody)], 1) as pipeline:
            for _ in range(20):
                pid = pipeline.submit(Item("pid")).result().user_obj
                os.kill(pid, signal.SIGKILL)
                # large: still being sent when the worker's end is noticed
                assert pipeline.submit(Item("x" * 1_000_000)).result().is_failed
            print(*pipeline.submit(Item("x")).result().exceptions)
    """
    assert run_program(body) == (0, ["[Errno 32] the reader of the pipe has gone"], "")


def test_a_program_may_have_any_object_with_a_write_for_its_output():
    """It need not have a flush()."""
    body = """
        class Upper:
            def write(self, text):
                return real.write(text.upper())

        def say(item):
            print("worker", end="; ")
            return item

        real, sys.stdout = sys.stdout, Upper()
        with MultiprocessingPipeline([process_stage(say)], 1) as pipeline:
            print(pipeline.submit(Item()).result().exceptions)
        sys.stdout = real
    """
    status, said, complaints = run_program(body)
    assert (status, complaints) == (0, "")
    assert "NONE" in "".join(said)


def test_a_program_that_was_interrupted_in_shutdown_does_not_wait_for_its_items_at_its_end(tmp_path):
    """What is pending is cancelled, what runs is ended within grace_s."""
    body = """
        def wait(item):
            open(sys.argv[1], "wb").close()  # a FIFO: somebody is at work
            signal.pause()

        def interrupt(signum, frame):
            sys.exit(7)

        os.mkfifo(sys.argv[1])
        signal.signal(signal.SIGUSR1, interrupt)
        pipeline = MultiprocessingPipeline([process_stage(wait)], 1, grace_s=0.2)
        futures = [pipeline.submit(Item()) for _ in range(2)]
        open(sys.argv[1], "rb").close()
        for future in futures:
            future.add_done_callback(lambda future: print("cancelled" if future.cancelled() else "ended"))
        threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1)).start()
        pipeline.shutdown()
    """
    status, said, _ = run_program(body, str(tmp_path / "fifo"))
    assert (status, sorted(said)) == (7, ["cancelled", "ended"])
