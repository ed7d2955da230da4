"""Stages that look at the process they run in, or stay in it; for every start method to find them."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import util
from pathlib import Path
from typing import Any, NoReturn

from pipeline_harness import note_in, worker_pool

from atbu.mp_pipeline.mp_pipeline import (
    MultiprocessingPipeline,
    PipeConnectionIO,
    PipelineWorkItem,
    SubprocessPipelineStage,
)


class CallStage(SubprocessPipelineStage):
    """Stores what a function makes of the item."""

    name = "call"

    def __init__(self, function: Callable[[Any], Any], *held: Any) -> None:
        super().__init__()
        self.function = function
        self.held = held

    def is_for_stage(self, pwi: Any) -> bool:
        return True

    def perform_stage_work(self, pwi: Any, **kwargs: Any) -> Any:
        pwi.answer = self.function(pwi.user_obj, *self.held)
        return pwi


class CallItem(PipelineWorkItem):
    """An item with an answer."""

    answer: Any = None


# Who am I


def describe_process(_: Any) -> dict[str, Any]:
    """What a program can see of its worker."""
    me, parent = multiprocessing.current_process(), multiprocessing.parent_process()
    return {
        "name": me.name,
        "pid": me.pid,
        "is_own_pid": me.pid == os.getpid(),
        "is_daemon": me.daemon,
        "parent_pid": None if parent is None else parent.pid,
        "is_parent_alive": parent is not None and parent.is_alive(),
        "authkey": bytes(me.authkey),
        "children": multiprocessing.active_children(),
        "num_threads": len(os.listdir("/proc/self/task")),
    }


def count_at(shared: Any, proxy: Any) -> None:
    """Count in a dictionary that a manager process keeps."""
    proxy[shared] = proxy.get(shared, 0) + 1


def sign_in(workers: Any) -> None:
    """As an initialiser: add this process to a list that a manager keeps."""
    workers.append(os.getpid())


def start_processes(_: Any) -> list[int | None]:
    """Start processes in all ways; their exit statuses."""
    process = multiprocessing.Process(target=sys.exit, args=(3,))
    process.start()
    process.join()
    pid = os.fork()
    if pid == 0:
        os._exit(4)
    forked = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return [
        process.exitcode,
        forked,
        subprocess.run([sys.executable, "-c", "raise SystemExit(5)"], check=False).returncode,
    ]


# How a worker ends


def leave_last_words(_: Any, journal: str) -> None:
    """Register what a process does in the end."""
    logging.getLogger("lifetime").warning("at work")
    atexit.register(note_in, journal, "atexit")
    util.Finalize(None, _last_word, args=(journal,), exitpriority=10)


def _last_word(journal: str) -> None:
    note_in(journal, "finalizer")
    logging.getLogger("lifetime").warning("the last word")


# What goes on for ever; each says its pid first


def say_pid(report: str) -> None:
    with open(report, "a") as file:
        file.write(f"{os.getpid()}\n")


def pause_for_ever() -> NoReturn:
    while True:
        signal.pause()


def ignore_all_signals() -> NoReturn:
    """Those that can be ignored are, all others but SIGKILL and SIGSTOP are blocked."""
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError):  # the C library's own
            signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    while True:
        signal.sigwait([signal.SIGUSR1])


def handle_all_signals() -> NoReturn:
    """As a program that has handlers of its own for everything."""
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError):
            signal.signal(signum, _do_nothing)
    pause_for_ever()


def _do_nothing(_signum: int, _frame: Any) -> None:
    pass


def hold_the_gil() -> NoReturn:
    """In C, with the interpreter locked: no Python code runs in this process any more."""
    libc = ctypes.PyDLL(None)
    while True:
        libc.pause()


def compute_for_ever() -> NoReturn:
    while True:
        pass


HOLDS: dict[str, Callable[[], NoReturn]] = {
    "sleeps": pause_for_ever,
    "ignores all signals": ignore_all_signals,
    "handles all signals": handle_all_signals,
    "holds the GIL": hold_the_gil,
    "computes": compute_for_ever,
}


def hold(how: str, report: str) -> NoReturn:
    """Be at work until somebody ends this process."""
    say_pid(report)
    HOLDS[how]()


class HoldStage(SubprocessPipelineStage):
    """Starts with this, and never ends."""

    name = "hold"

    def __init__(self, how: str, report: str) -> None:
        super().__init__()
        self.how = how
        self.report = report

    def is_for_stage(self, pwi: Any) -> bool:
        return True

    def perform_stage_work(self, pwi: Any, **kwargs: Any) -> Any:
        hold(self.how, self.report)


def hold_in_a_pipeline_of_my_own(_: Any, report: str) -> None:
    """A pipeline inside a worker, that never ends."""
    with MultiprocessingPipeline([HoldStage("sleeps", report)], 2) as inner:
        for future in [inner.submit(CallItem()) for _ in range(2)]:
            future.result()


def run_a_pipeline_of_my_own(numbers: list[int]) -> tuple[str, list[int]]:
    """A pipeline inside a worker; how its workers were started, and what they answered."""
    with MultiprocessingPipeline([CallStage(_double)], 2) as inner:
        answers = [item.answer for item in inner.map(CallItem(number) for number in numbers)]
        return worker_pool(inner).method, answers


def _double(number: int) -> int:
    return 2 * number


# A stage's own children


class ForkingProducerStage(SubprocessPipelineStage):
    """Starts a process that outlives it, then produces, or dies."""

    name = "producer"

    def __init__(self, until: str, is_by_fork: bool, dies: bool) -> None:
        super().__init__()
        self.until = until
        self.is_by_fork = is_by_fork
        self.dies = dies

    @property
    def is_pipe_with_next_stage(self) -> bool:
        return True

    def is_for_stage(self, pwi: Any) -> bool:
        return True

    def perform_stage_work(self, pwi: Any, **kwargs: Any) -> Any:
        writer = PipeConnectionIO(pwi.pipe_out, is_write=True)
        writer.write(b"data")
        if self.is_by_fork:
            if os.fork() == 0:
                _linger(self.until)
        else:
            process = multiprocessing.get_context("fork").Process(target=_linger, args=(self.until,))
            process.start()
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        if not self.is_by_fork:
            # A Process is joined at its parent's exit; this one is not to be waited for.
            multiprocessing.process._children.discard(process)
        return pwi


def _linger(until: str) -> NoReturn:
    """Live until somebody opens the FIFO and closes it."""
    try:
        Path(until).read_bytes()
    finally:
        os._exit(0)


class ReadAllStage(SubprocessPipelineStage):
    """Reads to the end."""

    name = "consumer"

    def is_for_stage(self, pwi: Any) -> bool:
        return True

    def perform_stage_work(self, pwi: Any, **kwargs: Any) -> Any:
        with PipeConnectionIO(pwi.pipe_in, is_write=False) as reader:
            pwi.answer = reader.readall()
        return pwi
