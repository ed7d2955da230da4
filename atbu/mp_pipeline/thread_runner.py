"""Runs thread stages, and in a serial pipeline all stages, on threads of this process.

Threads are made on demand and reused; how many there are at once is the scheduler's decision. They are daemons:
a stage that never returns cannot be ended, and must not keep the program from ending.
"""

from __future__ import annotations

import copy
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .counters import set_current_slot
from .descriptors import ItemPickler, PassedDescriptor, loads_answer, loads_received
from .shared_slots import SharedSlots
from .stage import PipelineStage
from .stage_run import (
    Outcome,
    check_unpickled,
    close_stage_end,
    failure_to_record,
    pickling_error,
    run_stage,
)
from .work_item import PipelineWorkItem

if TYPE_CHECKING:
    from .stage_connection import StageConnection

# Far more than the kernel needs; a bound, for another thread may have got the number.
_THREAD_GONE_WAIT_S = 0.1

Job = Callable[[], None]


class ThreadRunner:
    """Threads that run jobs; each has its own slot for counters."""

    def __init__(self, name: str, slots: SharedSlots, counter_names: tuple[str, ...]) -> None:
        self._name = name
        self.slots = slots
        self._counter_names = counter_names
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._num_free = 0
        self._lock = threading.Lock()

    def run(self, job: Job) -> None:
        """Have a thread run ``job``, which never raises."""
        with self._lock:
            if self._num_free > 0:
                self._num_free -= 1
            else:
                self._start_thread()
        self._jobs.put(job)

    def make_ready(self, count: int) -> None:
        """Have ``count`` threads, for a time when none can be started."""
        with self._lock:
            while len(self._threads) < count:
                self._start_thread()
                self._num_free += 1

    def _start_thread(self) -> None:
        slot = self.slots.take()
        thread = threading.Thread(
            target=self._work,
            args=(slot,),
            name=f"MpPipeline-{self._name}-thread-{len(self._threads)}",
            daemon=True,
        )
        try:
            thread.start()
        except BaseException:  # no more threads, or the interpreter is ending
            self.slots.give_back(slot)
            raise
        self._threads.append(thread)

    def _work(self, slot: int) -> None:
        set_current_slot(self.slots.slot(slot), self._counter_names)
        while (job := self._jobs.get()) is not None:
            job()
            del job
            with self._lock:
                self._num_free += 1
        set_current_slot(None, ())

    def owns(self, thread: threading.Thread) -> bool:
        return thread in self._threads

    def close(self, grace_s: float) -> list[threading.Thread]:
        """End the threads; returns those that still run a stage after ``grace_s``."""
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + grace_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            wait_until_gone(thread)
        return [thread for thread in self._threads if thread.is_alive()]


def wait_until_gone(thread: threading.Thread) -> None:
    """Wait until the kernel, too, has done with a thread that has ended; microseconds.

    join() returns a little earlier. A program that then makes its next pipeline would be taken for one with threads.
    """
    if thread.is_alive() or thread.native_id is None:
        return
    deadline = time.monotonic() + _THREAD_GONE_WAIT_S
    while os.path.exists(f"/proc/self/task/{thread.native_id}") and time.monotonic() < deadline:
        time.sleep(0)


def run_on_thread(
    stage: PipelineStage,
    item: PipelineWorkItem,
    pipe_in: StageConnection | None,
    pipe_out: StageConnection | None,
    is_isolated: bool,
) -> Outcome:
    """Run one stage in this thread on a copy of ``item``.

    Args:
        is_isolated: Copy the stage, the item and the answer by pickling, as a worker process would.
    """
    passed: list[PassedDescriptor] = []
    try:
        if not is_isolated:
            outcome = run_stage(stage, _copy(item), pipe_in, pipe_out)
        else:
            outcome, passed = _run_isolated(stage, item, pipe_in, pipe_out)
    except BaseException as ex:  # noqa: BLE001 - a copy that raises fails this item alone
        outcome = Outcome(None, ex, time.monotonic_ns())
    finally:
        for conn in (pipe_out, pipe_in):
            if conn is not None:
                close_stage_end(conn, False, "the stage before could not be started")
        for descriptor in passed:
            descriptor.close()
    if outcome.failure is not None:
        return outcome._replace(answer=None, failure=failure_to_record(outcome.failure))
    return outcome


def _copy(item: PipelineWorkItem) -> PipelineWorkItem:
    """A thread stage's own copy: shallow, but an item that is its own payload stays so."""
    own = copy.copy(item)
    if item.user_obj is item:
        own.user_obj = own
    return own


def _run_isolated(
    stage: PipelineStage,
    item: PipelineWorkItem,
    pipe_in: StageConnection | None,
    pipe_out: StageConnection | None,
) -> tuple[Outcome, list[PassedDescriptor]]:
    pickler = ItemPickler()
    originals: Sequence[PassedDescriptor] = ()
    if stage.is_subprocess:
        try:
            stage = loads_answer(pickler.dumps(stage), ())
        except BaseException as ex:
            raise pickling_error("the stage", "", "", ex) from ex
        try:
            pickled = pickler.dumps_passing(item)
            originals = pickled.originals
            own_copy, passed = loads_received(pickled.data, pickled.fds)
        except BaseException as ex:
            raise pickling_error("the item", "", "", ex) from ex
    else:
        own_copy, passed = _copy(item), []

    def encode(returned: PipelineWorkItem) -> Any:
        try:
            answer = loads_answer(pickler.dumps(returned), originals)
            check_unpickled(answer)
            return answer
        except BaseException as ex:
            raise pickling_error("the result", "", "", ex) from ex

    return run_stage(stage, own_copy, pipe_in, pipe_out, encode if stage.is_subprocess else None), passed
