"""Programs that the tests of worker lifetimes run, and end in all ways: python lifetime_programs.py NAME METHOD …"""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lifetime_stages import (
    CallItem,
    CallStage,
    HoldStage,
    describe_process,
    hold_in_a_pipeline_of_my_own,
)
from pipeline_harness import PATIENCE_S, TEMPLATE, worker_pool

from atbu.mp_pipeline.mp_pipeline import MultiprocessingPipeline

GRACE_S = 0.3


def choose(method: str) -> None:
    """The start method of this program; the template is what a program gets that chooses none."""
    if method != TEMPLATE:
        multiprocessing.set_start_method(method)


def make(method: str, stages: list[Any], **arguments: Any) -> MultiprocessingPipeline:
    pipeline = MultiprocessingPipeline(stages, 2, **{"grace_s": GRACE_S, **arguments})
    assert worker_pool(pipeline).method == method
    return pipeline


# Ways for a program to end


def segfault() -> None:
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def execute_something_else() -> None:
    """The program becomes another, under the same pid."""
    os.execv(sys.executable, [sys.executable, "-c", ""])


def raise_an_error() -> None:
    raise ValueError("the program fails")


ENDS: dict[str, Callable[[], Any]] = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "SIGSEGV": segfault,
    "os._exit": lambda: os._exit(0),
    "exec": execute_something_else,
    "sys.exit": lambda: sys.exit(0),
    "error": raise_an_error,
}


def end_when_told(how: str) -> None:
    """Whoever has our stdin decides when."""
    print("ready", flush=True)
    sys.stdin.readline()
    ENDS[how]()


def program_that_holds(method: str, how: str, report: str, end: str) -> None:
    """Two stages that never end; then the program ends."""
    choose(method)
    pipeline = make(method, [HoldStage(how, report)])
    futures = [pipeline.submit(CallItem()) for _ in range(3)]
    end_when_told(end)
    del futures


def program_that_idles(method: str, report: str, end: str) -> None:
    """Workers that have nothing to do; then the program ends."""
    choose(method)
    pipeline = make(method, [CallStage(describe_process)])
    items = [pipeline.submit(CallItem()).result() for _ in range(5)]
    Path(report).write_text("".join(f"{pid}\n" for pid in {item.answer["pid"] for item in items}))
    end_when_told(end)


def program_that_forks(method: str, report: str, end: str) -> None:
    """A child of the program's own outlives it; it must keep nothing of the pipeline's open."""
    choose(method)
    pipeline = make(method, [HoldStage("sleeps", report)])
    futures = [pipeline.submit(CallItem()) for _ in range(2)]
    print("ready", flush=True)
    sys.stdin.readline()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        signal.pause()
    sys.stdin.readline()
    ENDS[end]()
    del futures


def program_with_two_pipelines(report: str, end: str) -> None:
    """Each template is forked from a program that has the pipelines made before it."""
    pipelines = [make(TEMPLATE, [HoldStage("sleeps", report)]) for _ in range(2)]
    futures = [pipeline.submit(CallItem()) for pipeline in pipelines]
    end_when_told(end)
    del futures


def program_with_nested_pipelines(method: str, report: str, end: str) -> None:
    """A pipeline in a worker of another; the program ends."""
    choose(method)
    pipeline = make(method, [CallStage(hold_in_a_pipeline_of_my_own, report)])
    future = pipeline.submit(CallItem())
    end_when_told(end)
    del future


def program_that_is_interrupted(method: str, report: str) -> None:
    """Its whole process group gets SIGINT while a stage is at work."""
    choose(method)
    # Whether it ends gracefully is asked: no matter of how soon.
    with make(method, [CallStage(_wait_for_the_end, report)], grace_s=PATIENCE_S) as pipeline:
        future = pipeline.submit(CallItem(report))
        try:
            future.result()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        sys.stdin.readline()
        Path(f"{report}.until").write_bytes(b"")
        print(future.result().exceptions, flush=True)
    print(pipeline.was_graceful_shutdown)


def _wait_for_the_end(report: str, *_: Any) -> None:
    with open(report, "a") as file:
        file.write(f"{os.getpid()}\n")
    Path(f"{report}.until").read_bytes()


def program_that_prints(method: str) -> None:
    """What was printed before the workers were forked is printed once."""
    sys.stdout.write("before ")
    choose(method)
    with make(method, [CallStage(_print)]) as pipeline:
        pipeline.submit(CallItem("in the worker ")).result()
    print("after")


def _print(text: str) -> None:
    print(text, end="")


def program_that_handles_sigterm(method: str) -> None:
    """Its handlers are its own, not its workers'."""
    signal.signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
    choose(method)
    with make(method, [CallStage(_terminate)]) as pipeline:
        print(pipeline.submit(CallItem()).result().exceptions[0], flush=True)


def _terminate(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def program_of_main(chosen: str, has_thread: str) -> None:
    """Its stages, items and initialiser are of __main__; prints how its workers came to life, and its choice."""
    if chosen != "none":
        multiprocessing.set_start_method(chosen)
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    if has_thread == "thread":
        thread.start()
    with MultiprocessingPipeline([MainStage()], 1, process_initfunc=_initialise, process_initargs=(5,)) as pipeline:
        print(worker_pool(pipeline).method, pipeline.submit(MainItem(37)).result().answer)
    print(multiprocessing.get_start_method(allow_none=True))
    ended.set()


_initialised = 0


def _initialise(number: int) -> None:
    global _initialised
    _initialised = number


class MainItem(CallItem):
    """An item whose class is in __main__."""


class MainStage(CallStage):
    """A stage whose class is in __main__."""

    def __init__(self) -> None:
        super().__init__(_add)


def _add(number: int) -> int:
    return number + _initialised


if __name__ == "__main__":
    globals()[f"program_{sys.argv[1]}"](*sys.argv[2:])
