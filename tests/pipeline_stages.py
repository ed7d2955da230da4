"""What the tests of the pipeline's contract share: runners, a gate for stages to wait at, and small stages.

Everything that travels to a worker stands at module level, so that every start method finds it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline_harness import PATIENCE_S, wait_readable

from atbu.mp_pipeline.mp_pipeline import (
    MultiprocessingPipeline,
    PipelineStage,
    PipelineWorkItem,
    SubprocessPipelineStage,
    ThreadPipelineStage,
)

PROCESSES = "processes"
SERIAL = "serial"
RUNNERS = [PROCESSES, SERIAL]

# More than ever wait at one gate; a pipe holds as many.
_EVERYBODY = 4096


class Runner:
    """Makes pipelines of one kind, and shuts those down that a test leaves open."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._made: list[MultiprocessingPipeline] = []

    @property
    def is_serial(self) -> bool:
        return self.kind == SERIAL

    def __call__(self, *stages: PipelineStage, **arguments: Any) -> MultiprocessingPipeline:
        pipeline = MultiprocessingPipeline(stages=list(stages), serial=self.is_serial, **arguments)
        self._made.append(pipeline)
        return pipeline

    def close(self) -> None:
        while self._made:
            self._made.pop().shutdown(cancel_pending=True)


@contextlib.contextmanager
def closing_runner(kind: str) -> Iterator[Runner]:
    """A runner whose pipelines are shut down in the end."""
    runner = Runner(kind)
    try:
        yield runner
    finally:
        runner.close()


class Gate:
    """A place where stages, in whatever process, wait until the test lets them go on.

    Stages call :func:`wait_at` with its path. Once it is closed nobody waits there any more.
    """

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "gate")
        self._fds = []
        for end in (_arrivals(self.path), self.path):
            os.mkfifo(end)
            # Open at both ends, so that opening one of them never waits, and what is written stays.
            self._fds.append(os.open(end, os.O_RDWR))

    def wait_for(self, count: int) -> None:
        """Wait until ``count`` more stages have come to the gate."""
        for present in range(count):
            wait_readable(self._fds[0], f"only {present} of {count} stages came to the gate")
            os.read(self._fds[0], 1)

    def open(self, count: int) -> None:
        """Let ``count`` stages on, whether they have come or not."""
        os.write(self._fds[1], b"x" * count)

    def close(self) -> None:
        self.open(_EVERYBODY)
        for fd in self._fds:
            os.close(fd)


@contextlib.contextmanager
def closing_gate(folder: Path) -> Iterator[Gate]:
    """A gate that is opened for everybody in the end."""
    gate = Gate(folder)
    try:
        yield gate
    finally:
        gate.close()


def _arrivals(path: str) -> str:
    return f"{path}-arrivals"


def wait_at(path: str) -> None:
    """Tell the gate at ``path`` that a stage has come, and wait there to be let on."""
    with contextlib.suppress(OSError):  # it is closed, nobody counts arrivals
        arrivals = os.open(_arrivals(path), os.O_WRONLY | os.O_NONBLOCK)
        os.write(arrivals, b"x")
        os.close(arrivals)
    gate = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.set_blocking(gate, True)
        os.read(gate, 1)
    finally:
        os.close(gate)


class Item(PipelineWorkItem):
    """A plain item."""


def wants(item: Any) -> bool:
    return True


def keep(item: Any, **kwargs: Any) -> Any:
    """The work of a stage that does nothing."""
    return item


def negate(item: Any) -> Any:
    item.user_obj = -item.user_obj
    return item


def wait_if_told(item: Any) -> Any:
    """Wait at the gate whose path is the payload, if there is one."""
    if item.user_obj is not None:
        wait_at(item.user_obj)
    return item


def fail(item: Any) -> Any:
    raise ValueError("it was not to be")


def process_stage(work: Callable[..., Any] = keep, **kwargs: Any) -> SubprocessPipelineStage:
    """A process stage that wants every item."""
    return SubprocessPipelineStage(fn_determiner=wants, fn_worker=work, **kwargs)


def thread_stage(work: Callable[..., Any] = keep, **kwargs: Any) -> ThreadPipelineStage:
    """A thread stage that wants every item."""
    return ThreadPipelineStage(fn_determiner=wants, fn_worker=work, **kwargs)


class PipedProcessStage(SubprocessPipelineStage):
    """A process stage that pipes to the next."""

    is_pipe_with_next_stage = True


class PipedThreadStage(ThreadPipelineStage):
    """A thread stage that pipes to the next."""

    is_pipe_with_next_stage = True


def chain_stage(letter: str, work: Callable[..., Any], is_last: bool) -> PipelineStage:
    """A stage of a chain: ``"P"`` runs in a process (``"p"`` too), ``"T"`` in a thread."""
    classes = (SubprocessPipelineStage, ThreadPipelineStage) if is_last else (PipedProcessStage, PipedThreadStage)
    return classes["PT".index(letter.upper())](fn_determiner=wants, fn_worker=work)


def chain(letters: str, *works: Callable[..., Any]) -> list[PipelineStage]:
    """The stages of one chain, joined by pipes; as many works as letters."""
    last = len(letters) - 1
    return [
        chain_stage(letter, work, number == last)
        for number, (letter, work) in enumerate(zip(letters, works, strict=True))
    ]


def having(thing: Any, **attributes: Any) -> Any:
    """The item or stage, with these attributes."""
    for name, value in attributes.items():
        setattr(thing, name, value)
    return thing


def results(pipeline: MultiprocessingPipeline, items: list[Any]) -> list[Any]:
    """Submit all items, and wait for all of them; a hang is a failure."""
    return [future.result(PATIENCE_S) for future in [pipeline.submit(item) for item in items]]
