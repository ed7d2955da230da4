"""A chain of piped stages inside one worker: for small items, which two processes would cost more than they save.

The stages run one after the other in the worker's main thread, and the pipe between two of them is the buffer. When
a stage fills its pipe, what follows it starts on a thread of its own, and from then on both run at once, as they
would in two workers. So the same stages see the same pipes, ends and failures; only the processes are missing.

    stage 0 ── fits the pipe ──▶ ends ─▶ stage 1 …                 one thread
    stage 0 ── pipe is full ──▶ (thread: stage 1 …) ── both ──▶    two threads
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .stage import PipelineStage
from .stage_run import Outcome, close_stage_end, open_stage_end, run_stage
from .work_item import PipelineWorkItem

if TYPE_CHECKING:
    from .stage_connection import StageConnection


class LocalChain:
    """One item's way through a chain in this process.

    Args:
        stages: The chain's stages, fresh.
        load: Makes a stage's own copy of the item, or raises.
        encode: Makes the answer of a returned item, or raises.
        on_thread: Called by a thread that goes on with the chain, before its first stage.
        on_stage: Called before each stage with its place in the chain.
        on_failure: Called once, with the place and the outcome, when a stage has failed and others have not ended.
    """

    def __init__(
        self,
        stages: Sequence[PipelineStage],
        load: Callable[[], PipelineWorkItem],
        encode: Callable[[PipelineWorkItem], Any],
        on_thread: Callable[[], None],
        on_stage: Callable[[int], None],
        on_failure: Callable[[int, Outcome], None],
    ) -> None:
        self._stages = stages
        self._load = load
        self._encode = encode
        self._on_thread = on_thread
        self._on_stage = on_stage
        self._on_failure: Callable[[int, Outcome], None] | None = on_failure
        self._outcomes: list[Outcome] = [Outcome(None, None)] * len(stages)
        self._num_unfinished = len(stages)
        self._threads: list[threading.Thread] = []

    def run(self) -> list[Outcome]:
        """Run all stages and return how each ended, in their order. Never raises."""
        self._run_from(0, None)
        for thread in self._threads:  # grows only by threads that are in it
            thread.join()
        return self._outcomes

    def _run_from(self, first: int, pipe_in: StageConnection | None) -> None:
        last = len(self._stages) - 1
        for number in range(first, last + 1):
            if number == last:
                self._run_one(number, pipe_in, None)
                return
            try:
                reader, writer = os.pipe()
            except OSError as ex:
                self._fail_from(number, pipe_in, ex)
                return
            os.set_blocking(writer, False)
            pipe_out = open_stage_end(writer, is_write=True)
            follower = _Follower(self, number + 1, open_stage_end(reader, is_write=False))
            pipe_out.on_full = follower.start
            self._run_one(number, pipe_in, pipe_out)
            if follower.is_started:
                return
            pipe_in = follower.pipe_in

    def _run_one(self, number: int, pipe_in: StageConnection | None, pipe_out: StageConnection | None) -> None:
        self._on_stage(number)
        try:
            item = self._load()
        except BaseException as ex:  # noqa: BLE001 - unpickling runs user code
            self._note(number, Outcome(None, ex, time.monotonic_ns()))
            for conn in (pipe_out, pipe_in):
                if conn is not None:
                    close_stage_end(conn, False, "the stage before could not be started")
            return
        self._note(number, run_stage(self._stages[number], item, pipe_in, pipe_out, self._encode))

    def _note(self, number: int, outcome: Outcome) -> None:
        self._outcomes[number] = outcome
        tell = self._on_failure
        self._num_unfinished -= 1
        if outcome.failed_at_ns and self._num_unfinished and tell is not None:
            # The others may never return: then the parent ends this process, and must know why.
            self._on_failure = None
            tell(number, outcome)

    def _fail_from(self, first: int, pipe_in: StageConnection | None, ex: BaseException) -> None:
        for number in range(first, len(self._stages)):
            self._outcomes[number] = Outcome(None, ex, time.monotonic_ns())
        if pipe_in is not None:
            close_stage_end(pipe_in, False, None)

    def start_thread(self, first: int, pipe_in: StageConnection) -> None:
        """Go on with the chain from ``first`` on, on a thread of its own."""

        def work() -> None:
            self._on_thread()
            self._run_from(first, pipe_in)

        thread = threading.Thread(target=work, name=f"chain-stage-{first}", daemon=True)
        thread.start()
        self._threads.append(thread)


class _Follower:
    """What follows a stage: started by it when its pipe is full, else run when it has ended."""

    def __init__(self, chain: LocalChain, first: int, pipe_in: StageConnection) -> None:
        self._chain = chain
        self._first = first
        self.pipe_in = pipe_in
        self.is_started = False

    def start(self) -> None:
        """Start the thread, once; called by the stage's thread, or one of its own."""
        if self.is_started:
            return
        self.is_started = True
        try:
            self._chain.start_thread(self._first, self.pipe_in)
        except BaseException:  # no more threads: the stage fails by this, and what follows runs after it
            self.is_started = False
            raise
