"""What the tests of worker processes share: a start method, a journal of who ran, a meeting of all workers."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import select
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from atbu.mp_pipeline.mp_pipeline import MultiprocessingPipeline, PipelineWorkItem, SubprocessPipelineStage

# No test waits this long unless what it waits for never comes.
PATIENCE_S = 30.0

TEMPLATE = "template"
FORKSERVER = "forkserver"
SPAWN = "spawn"
SERIAL = "serial"
# How workers come to life where the program has chosen nothing and has one thread.
DEFAULT = TEMPLATE
# What select() takes.
_FD_SETSIZE = 1024


@contextlib.contextmanager
def chosen_start_method(method: str | None) -> Iterator[None]:
    """Be a program that has chosen this start method of multiprocessing, or none."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(method, force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(before, force=True)


@contextlib.contextmanager
def pipeline_on(runner: str, **arguments: Any) -> Iterator[MultiprocessingPipeline]:
    """A pipeline whose workers come to life by ``runner``, or that is serial; shut down in the end.

    Its workers get as long to end as anything here: the usual grace is too short for a whole interpreter (spawn) on
    a machine that does not run it for seconds. A test of the grace says its own.
    """
    arguments.setdefault("grace_s", PATIENCE_S)
    with (
        chosen_start_method(runner if runner in (FORKSERVER, SPAWN) else None),
        MultiprocessingPipeline(serial=runner == SERIAL, **arguments) as pipeline,
    ):
        pool = worker_pool(pipeline)
        assert (SERIAL if pool is None else pool.method) == runner, "has this process more than one thread?"
        yield pipeline


def worker_pool(pipeline: MultiprocessingPipeline) -> Any:
    """The pipeline's workers, which have no public name; None where it is serial."""
    workforce = pipeline._engine.workforce
    return None if workforce is None else workforce._pool


def result(future: Future[Any]) -> Any:
    """The future's result; a hang is a failure."""
    return future.result(PATIENCE_S)


class Journal:
    """A file to which stages, in whatever process, append a line each time they run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    def repeated(self) -> list[str]:
        """What happened more than once."""
        return [line for line, count in Counter(self.lines()).items() if count > 1]


def note_in(journal: str, line: str) -> None:
    """Append a line to a journal; one write, so that lines of several processes do not mix."""
    fd = os.open(journal, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)


class MeetingItem(PipelineWorkItem):
    """An item whose stage waits until all items of its meeting are at work."""

    def __init__(self, here: str, go: str) -> None:
        super().__init__()
        self.here = here
        self.go = go
        self.pid = 0


class MeetingStage(SubprocessPipelineStage):
    """Takes part in a Meeting; passes all other items by."""

    name = "meet"

    def is_for_stage(self, pwi: Any) -> bool:
        return isinstance(pwi, MeetingItem)

    def perform_stage_work(self, pwi: Any, **kwargs: Any) -> Any:
        pwi.pid = os.getpid()
        with open(pwi.here, "wb", buffering=0) as here, open(pwi.go, "rb", buffering=0) as go:
            here.write(b"x")
            go.read(1)
        return pwi


def pids_at_strength(pipeline: MultiprocessingPipeline, folder: Path, count: int) -> set[int]:
    """Have ``count`` items at work at the same moment; the pids of their workers.

    The pipeline needs a MeetingStage.
    """
    here, go = folder / "meeting-here", folder / "meeting-go"
    with contextlib.ExitStack() as stack:
        fds = []
        for path in (here, go):
            os.mkfifo(path)
            stack.callback(path.unlink)
            fds.append(os.open(path, os.O_RDWR))
            stack.callback(os.close, fds[-1])
        futures = [pipeline.submit(MeetingItem(str(here), str(go))) for _ in range(count)]
        try:
            for present in range(count):
                wait_readable(fds[0], f"only {present} of {count} items were at work at once")
                os.read(fds[0], 1)
        finally:
            os.write(fds[1], b"x" * count)
        items = [result(future) for future in futures]
    assert [item.exceptions for item in items] == [None] * count
    return {item.pid for item in items}


def wait_readable(fd: int, complaint: str) -> None:
    """Wait until ``fd`` is readable: a byte, an end, a pidfd's process gone."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(PATIENCE_S * 1000), complaint


def wait_gone(pidfds: dict[int, int]) -> None:
    """Wait until the processes of these pidfds (by pid) have ended; closes the pidfds."""
    try:
        for pid, pidfd in pidfds.items():
            wait_readable(pidfd, f"process {pid} lives on")
    finally:
        for pidfd in pidfds.values():
            with contextlib.suppress(ProcessLookupError):  # a test that fails leaves nobody either
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)


def kill_and_wait(pid: int, signum: int = signal.SIGKILL) -> None:
    """Send a signal that ends a process, and wait until it has ended."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signum)
    wait_gone({pid: pidfd})


def wait_stopped(pid: int) -> None:
    """Wait until a process that is about to be stopped is."""
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        # the kernel tells nobody but the parent, which this process need not be
        assert time.monotonic() < deadline, f"process {pid} was never stopped"
        os.sched_yield()


@contextlib.contextmanager
def no_low_descriptor_free() -> Iterator[None]:
    """Be a program whose next descriptor is beyond what select() takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * _FD_SETSIZE:
        pytest.skip(f"this process may not open more than {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * _FD_SETSIZE), hard))
    held = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while held[-1] < _FD_SETSIZE:
            held.append(os.dup(held[0]))
        yield
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
