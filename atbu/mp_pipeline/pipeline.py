"""MultiprocessingPipeline: submit, map, shutdown.

caller ── submit(item) ──▶ Engine (one thread a pipeline)
                             │  asks is_for_stage, plans a run, decides when it starts
             ┌───────────────┼────────────────┐
             ▼               ▼                ▼
          worker          worker           thread         one run: a stage, or a chain joined by pipes
          stage k ══pipe══ stage k+1        stage j
             │               │                │
             └───── answers ─┴────────────────┘
                             │  stage_complete on the submitted item, then the next run …
caller ◀── Future(item) ─────┘
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from .arguments import check_arguments, check_template
from .cpus import usable_cpus
from .engine import LONGEST_WAIT_S, Engine
from .exception import Anomaly, InvalidFunctionArgument, InvalidStateError, PipelineClosed
from .item_future import ItemFuture, is_needed_by_items
from .mapping import as_completed, in_order
from .runs import Entry, check_timeout
from .scheduler import Scheduler
from .shared_slots import SharedSlots
from .stage import PipelineStage
from .template import Template
from .thread_runner import ThreadRunner, wait_until_gone
from .work_item import PipelineWorkItem
from .workers import WorkerPool

DEFAULT_GRACE_S = 5.0
# Python 3.12 starts no thread once the main thread has ended; those before and after it do until all exit handlers ran.
_NO_THREADS_AT_EXIT = sys.version_info[:2] == (3, 12)
# As many as items at once on a large machine; a chain of many thread stages in each of them is far from it.
_MAX_THREADS_AT_EXIT = 256
_submissions = itertools.count(1)
# An item may be offered to several pipelines at once, each with a lock of its own.
_claims = threading.RLock()
# Pipelines whose threads run; ended at interpreter exit if the program has not.
_live: weakref.WeakSet[Engine] = weakref.WeakSet()


def _claim(work_item: PipelineWorkItem) -> int:
    """Mark the item as being in a pipeline, before its first stage; returns its submission's number."""
    with _claims:
        if work_item._submission is not None:
            raise InvalidFunctionArgument("work_item is in a pipeline already")
        work_item._cur_stage = 0  # first, for an item may refuse to be changed
        submission = next(_submissions)
        # past a __setattr__ of the user's, here and wherever we set what is ours
        work_item.__dict__["_submission"] = submission
        return submission


class MultiprocessingPipeline:
    """Items travel through stages; a stage runs in a worker process or in a thread.

    Args:
        stages: The stages, in order; :meth:`add_stage` adds more.
        max_simultaneous_work_items: How many items may be worked on at once; None or 0 is the number of usable
            CPUs.
        name: For the names of threads and processes, and for messages.
        process_initfunc: Called in each worker process before its first item.
        process_initargs: Its arguments.
        serial: Run everything in this process, one item at a time, with the same semantics; for debugging and
            for tiny runs.
        max_pending: How many submitted items may be unfinished before :meth:`submit` blocks; None is no bound.
        grace_s: Seconds that a worker gets to end by itself before it is ended.
        counters: Names of counters that stages add to (:func:`atbu.mp_pipeline.counters.counter`).
        max_workers: How many worker processes there may be, started as they are needed; as many as items at once
            where None. A chain needs one for each of its stages, and gets them in any case.
        template: The process that workers are forked from, where it was started before the pipeline, to have it
            import what they need meanwhile (:mod:`atbu.mp_pipeline.template`). The pipeline ends it.

    Raises:
        InvalidFunctionArgument: an argument is not allowed, or the initialiser cannot reach a worker.
        OSError: the system has no descriptors, memory or process for it.
    """

    def __init__(
        self,
        stages: list[PipelineStage] | None = None,
        max_simultaneous_work_items: int | None = None,
        name: str = "unnamed",
        process_initfunc: Callable[..., object] | None = None,
        process_initargs: tuple[Any, ...] = (),
        *,
        serial: bool = False,
        max_pending: int | None = None,
        grace_s: float = DEFAULT_GRACE_S,
        counters: Sequence[str] = (),
        max_workers: int | None = None,
        template: Template | None = None,
    ) -> None:
        check_arguments(stages, max_simultaneous_work_items, max_pending, grace_s, counters)
        check_template(template, process_initfunc, process_initargs, serial)
        self.name = name
        self._stages: list[PipelineStage] = [] if stages is None else stages
        for number, stage in enumerate(self._stages):
            # before anything is opened that a refusal would leave behind
            if getattr(stage, "timeout", None) is not None:
                check_timeout(stage, number, stage.is_subprocess and not serial)
        self._counter_names = tuple(counters)
        self._max_pending = max_pending
        self._num_pending = 0
        # A signal handler of the program may call any method in the middle of any other.
        self._lock = threading.RLock()
        self._has_room = threading.Condition(self._lock)
        self._pid = os.getpid()
        self._is_started = False
        self._is_closed = False
        self.was_graceful_shutdown = False
        max_running = 1 if serial else max_simultaneous_work_items or usable_cpus()
        pool = None if serial else WorkerPool(process_initfunc, process_initargs, name, self._counter_names, template)
        self._slots = SharedSlots() if pool is None else pool.slots
        if pool is None:
            self._slots.close_descriptor()
        self._threads = ThreadRunner(name, self._slots, self._counter_names)
        scheduler = Scheduler(max_running)
        scheduler.max_workers = max(max_running, max_workers or 0)
        grace_s = min(grace_s, LONGEST_WAIT_S)
        try:
            self._engine = Engine(name, self._stages, scheduler, pool, self._threads, grace_s)
        except BaseException:  # no descriptors
            if pool is not None:
                pool.close(grace_s)
            self._slots.close()
            raise
        reference = weakref.ref(self)

        def on_ended(entry: Entry) -> None:
            pipeline = reference()
            if pipeline is not None:
                pipeline._note_ended()

        if max_pending is not None:
            self._engine.on_ended = on_ended
        # Dropped without a shutdown: the items in it are finished, then its thread and workers end.
        self._finalizer = weakref.finalize(self, _abandon, self._engine)
        self._finalizer.atexit = False

    @property
    def anomalies(self) -> list[Anomaly]:
        """What went wrong beside the items: callbacks that raised, workers that would not end."""
        return self._engine.anomalies

    @property
    def num_stages(self) -> int:
        return len(self._stages)

    def add_stage(self, stage: PipelineStage) -> None:
        """Add a stage behind the others. Raises InvalidFunctionArgument for a time limit that cannot be kept."""
        if getattr(stage, "timeout", None) is not None:
            check_timeout(stage, len(self._stages), stage.is_subprocess and not self._engine.is_serial)
        self._stages.append(stage)

    def counters(self) -> dict[str, int]:
        """The pipeline's counters, summed over all workers and threads there ever were."""
        return dict(zip(self._counter_names, self._slots.sum_counters(len(self._counter_names)), strict=True))

    def start_workers(self, count: int) -> None:
        """Start this many workers now, before the first item, where it is known that there will be work for them."""
        self._check_process()
        with self._lock:
            self._check_open()
            if not self._is_started:
                self._engine.start_workers(count)
                self._start()

    def submit(self, work_item: PipelineWorkItem) -> Future[Any]:
        """Put an item into the pipeline.

        Blocks while ``max_pending`` items are unfinished.

        Returns:
            A future whose result is ``work_item`` itself, updated, whether it failed or not. ``cancel()`` works
            until its first stage was asked.

        Raises:
            InvalidFunctionArgument: it is no work item, or is in a pipeline already.
            PipelineClosed: the pipeline was shut down.
            PipelineBroken: no worker can be started.
            InvalidStateError: it would block, and the caller is one of the pipeline's own threads.
            RuntimeError: the system has no thread for the pipeline.
        """
        if not isinstance(work_item, PipelineWorkItem):
            raise InvalidFunctionArgument(f"work_item must be a PipelineWorkItem, not {type(work_item).__name__!r}")
        engine = self._engine
        future = ItemFuture()
        self._check_process()
        with self._lock:
            self._check_open()
            if self._max_pending is not None and self._num_pending >= self._max_pending:
                self._wait_for_room()
            if not self._is_started:
                self._start()
            future.entry = entry = Entry(work_item, future, _claim(work_item))
            future.engine = engine
            if self._max_pending is not None:
                self._num_pending += 1
            engine.post(entry)
        return future

    def _check_process(self) -> None:
        if os.getpid() != self._pid:  # not under the lock: a thread that is not in this copy may hold it
            raise InvalidStateError(
                f"pipeline {self.name!r} belongs to the process that made it; a forked copy has no thread to run it"
            )

    def _check_open(self) -> None:
        if self._is_closed or self._engine.is_shut_down:
            raise PipelineClosed(f"pipeline {self.name!r} was shut down; make a new one")
        if self._engine.broken is not None:
            raise self._engine.broken.with_traceback(None)  # the same object each time, which would grow by it

    def _wait_for_room(self) -> None:
        assert self._max_pending is not None
        if self._is_own_thread():
            raise InvalidStateError(
                f"submit would wait for one of {self._max_pending} pending items from a thread that they need"
            )
        try:
            while self._num_pending >= self._max_pending:
                self._has_room.wait()
                self._check_open()
        except BaseException:
            self._has_room.notify()  # what woke this one up is for the next one that waits
            raise

    def _is_own_thread(self) -> bool:
        me = threading.current_thread()
        return me is self._engine.thread or self._threads.owns(me)

    def _start(self) -> None:
        if not _live:
            # Behind multiprocessing's own exit handler, which would join our workers: last registered, first run.
            atexit.unregister(_end_all_at_exit)
            atexit.register(_end_all_at_exit)
        _live.add(self._engine)
        try:
            self._engine.start()
        finally:
            self._is_started = self._engine.thread is not None

    def _note_ended(self) -> None:
        with self._lock:
            self._num_pending -= 1
            self._has_room.notify()

    def map(
        self, work_items: Iterable[PipelineWorkItem], *, ordered: bool = True, window: int | None = None
    ) -> Iterator[PipelineWorkItem]:
        """Send items through the pipeline and yield each when it has ended.

        The iterable is read only as fast as results are taken: at most ``window`` items are in the pipeline or
        wait to be yielded. Results that are there are yielded before the item that was read is sent.

        Args:
            work_items: Any iterable; it may be endless.
            ordered: Yield in the order of the input; else as they are completed.
            window: The bound; a few for each item at once where None.
        """
        bound = window if window is not None else max(64, 512 * self._engine.scheduler.max_running)
        if bound < 1:
            raise InvalidFunctionArgument(f"window must be at least 1, not {bound}")
        if is_needed_by_items(self._engine):
            raise InvalidStateError("map would wait for items on the pipeline's own thread, which they need to end")
        if self._max_pending is not None:
            bound = min(bound, self._max_pending)
        results = in_order if ordered else as_completed
        return results(self.submit, iter(work_items), bound)

    def shutdown(self, wait: bool = True, cancel_pending: bool = False) -> None:
        """Refuse new items, finish those that are in the pipeline, end the workers. Any number of times.

        Args:
            wait: Return when all of that is done.
            cancel_pending: Cancel the items that no stage has been asked for yet.

        In a process forked from the pipeline's own it does nothing.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            is_first = not self._is_closed
            self._is_closed = True
            self._has_room.notify_all()
        self._engine.is_shut_down = True
        if is_first and not wait and self._is_started and _NO_THREADS_AT_EXIT:
            self._make_threads_ready()
        if is_first or cancel_pending:
            self._engine.stop(cancel_pending)
        if not self._is_started:
            self._end_unstarted()
        elif wait and not self._is_own_thread():
            self._join()

    def _make_threads_ready(self) -> None:
        """The program may end now, with items in the pipeline whose stages need threads."""
        is_serial = self._engine.is_serial
        num_stages = sum(is_serial or not stage.is_subprocess for stage in self._stages)
        max_running = self._engine.scheduler.max_running
        with contextlib.suppress(RuntimeError):  # no more threads: those that there are do what they can
            self._threads.make_ready(min(num_stages * max_running, _MAX_THREADS_AT_EXIT))

    def _end_unstarted(self) -> None:
        if self._engine.close_unstarted():
            self._slots.close()
            self.was_graceful_shutdown = True

    def _join(self) -> None:
        assert self._engine.thread is not None
        lock: Any = self._lock
        # In a signal handler it may be held further up in this very thread, and the engine needs it to end items.
        held = lock._release_save() if lock._is_owned() else None
        try:
            self._engine.loop.wait_until_ended()
        except BaseException:
            # The program has given up waiting: should it end now, its items are not waited for either.
            self._engine.is_shut_down = False
            raise
        finally:
            if held is not None:
                lock._acquire_restore(held)
        wait_until_gone(self._engine.thread)
        self._finalizer.detach()  # there is nothing left to end
        still_running = self._threads.close(self._engine.grace_s)
        if not still_running:
            self._slots.close()
        for thread in still_running:
            self._engine.note_anomaly(
                TimeoutError(f"thread {thread.name!r} still runs a stage"), "a thread stage did not end"
            )
        self.was_graceful_shutdown = (
            self._engine.broken is None and not self._engine.was_terminated and not self._engine.anomalies
        )

    def terminate(self) -> None:
        """End everything now: pending items are cancelled, running ones fail with PipelineTerminated.

        Returns when all workers are gone. A thread stage cannot be ended; its item is failed all the same.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._is_closed = True
            self._has_room.notify_all()
        self._engine.terminate()
        if not self._is_started:
            self._end_unstarted()
        elif not self._is_own_thread():
            self._join()

    def __enter__(self) -> MultiprocessingPipeline:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        """Finish all items; when an exception is under way, cancel those that have not been started."""
        self.shutdown(cancel_pending=exc_type is not None)


def _abandon(engine: Engine) -> None:
    """The pipeline object is gone. Its items are finished; nobody waits for that."""
    engine.is_abandoned = True
    engine.stop(cancel_pending=False)
    if engine.thread is None and engine.close_unstarted():
        engine.threads.slots.close()


def _end_all_at_exit() -> None:
    """The program ends and has not shut its pipelines down."""
    left = [engine for engine in _live if engine.loop.is_running]
    if not left:
        return
    forgotten = [engine for engine in left if not engine.is_shut_down]
    for engine in forgotten:
        engine.end_at_exit()
    for engine in left:
        # one that was shut down without waiting finishes its items, as a program expects of shutdown()
        engine.loop.wait_until_ended(3 * engine.grace_s + 1.0 if engine in forgotten else None)
    if forgotten:
        # last, for where warnings are errors
        names = ", ".join(sorted(repr(engine.name) for engine in forgotten))
        text = f"the program ended without shutdown() of pipeline {names}: items that had not started were cancelled"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
