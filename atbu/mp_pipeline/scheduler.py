"""Decides what runs next. Pure: events come in by method calls, commands go out by :meth:`Scheduler.decide`.

It knows items and workers only as keys. An item goes through these states:

    new ──Admit──▶ admitted ──want()──▶ ready ──Start──▶ running ──run_ended()──▶ admitted … ──done()──▶ gone
     │                                    ▲                 │
     └─ cancel() ─▶ gone                  └── requeue() ────┘   (its worker died before it had started the item)

A *run* is what an item does next, all of it at once: one process stage (``workers=1``), one thread stage
(``workers=0``), or a chain of piped stages with k process stages among them (``workers=k``, exclusive).
Runs start first come, first served, each with all the workers it needs: nobody holds one and waits for another.

At most ``max_running`` runs are under way at once. Where runs are short, up to ``depth`` of them are queued at
one worker, which does them one after the other; they count once. What waits behind a run that turned out long
can be taken back (:meth:`Scheduler.held_up`, :meth:`Scheduler.taken_back`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

from .named_tuple import NamedTuple

Item = Any
Worker = Any


class Admit(NamedTuple):
    """Ask the stages which run ``item`` does first; answer by want() or done()."""

    item: Item


class Start(NamedTuple):
    """Start the run of ``item`` on ``workers`` (empty for a thread stage)."""

    item: Item
    workers: tuple[Worker, ...]
    #: True where the worker has other runs to do first.
    is_queued: bool


class Grow(NamedTuple):
    """Start ``num_workers`` more workers; answer each by worker_ready() or workers_failed()."""

    num_workers: int


Command = Admit | Start | Grow


# NamedTuple's own constructor is a Python function; these are made for every trip to a worker.
_new_tuple: Callable[[type[Any], tuple[Any, ...]], Any] = tuple.__new__
_length = itemgetter(0)


class _WorkerState:
    """What the scheduler knows of one worker."""

    __slots__ = ("held", "is_exclusive", "is_frozen")

    def __init__(self) -> None:
        self.held: deque[Item] = deque()
        #: It takes part in a chain, nothing is queued behind it.
        self.is_exclusive = False
        #: It has still to confirm what was taken back from it, nothing is queued behind it until then.
        self.is_frozen = False


class Scheduler:
    """The decisions of one pipeline.

    Args:
        max_running: How many runs may be under way at once, >= 1.
    """

    def __init__(self, max_running: int) -> None:
        self.max_running = max_running
        #: How many runs may be queued at one worker, >= 1; the engine sets it from measured durations.
        self.depth = 1
        #: How many workers there may be; a run that needs more raises it.
        self.max_workers = max_running
        #: False while no worker can be started for a passing reason.
        self.can_grow = True
        self._new: OrderedDict[Item, None] = OrderedDict()
        self._ready: deque[Item] = deque()
        # Of the items whose run is not one stage in one worker.
        self._need: dict[Item, tuple[int, bool]] = {}
        self._admitted = 0
        self._running = 0
        self._workers: dict[Worker, _WorkerState] = {}
        self._idle: list[Worker] = []
        self._starting = 0

    # -- what the engine asks

    @property
    def num_admitted(self) -> int:
        return self._admitted

    @property
    def num_running(self) -> int:
        return self._running

    @property
    def num_new(self) -> int:
        return len(self._new)

    @property
    def num_workers(self) -> int:
        """Workers that are ready or being started."""
        return len(self._workers) + self._starting

    @property
    def num_starting(self) -> int:
        return self._starting

    @property
    def is_empty(self) -> bool:
        return not self._new and not self._admitted

    def held_by(self, worker: Worker) -> tuple[Item, ...]:
        return tuple(self._workers[worker].held)

    # -- events: items

    def submit(self, item: Item) -> None:
        """A new item waits to be admitted."""
        self._new[item] = None

    def cancel(self, item: Item) -> bool:
        """Drop ``item`` if it is not admitted yet; says whether it was."""
        if item in self._new:
            del self._new[item]
            return True
        return False

    def cancel_new(self) -> list[Item]:
        """Drop all items that are not admitted yet and return them."""
        dropped = list(self._new)
        self._new.clear()
        return dropped

    def cancel_ready(self) -> list[Item]:
        """Drop the runs that wait to be started and return their items, which are still admitted."""
        dropped = list(self._ready)
        self._ready.clear()
        return dropped

    def want(self, item: Item, workers: int, is_chain: bool = False) -> None:
        """An admitted item's next run is known: it needs ``workers`` at once."""
        if workers != 1 or is_chain:
            self._need[item] = (workers, is_chain)
            if workers > self.max_workers:
                self.max_workers = workers
        elif item in self._need:
            del self._need[item]
        self._ready.append(item)

    def done(self, item: Item) -> None:
        """An admitted item that is neither ready nor running has ended."""
        self._admitted -= 1
        self._need.pop(item, None)

    # -- events: runs

    def answered(self, item: Item, worker: Worker) -> None:
        """A worker has done the one-stage run of ``item``, the first in its queue."""
        state = self._workers[worker]
        state.held.popleft()
        if not state.held:
            self._running -= 1
            if not state.is_frozen:
                self._idle.append(worker)

    def answered_together(self, worker: Worker, count: int, going_on: list[Item], may_stay: bool = True) -> list[Item]:
        """A worker has done the one-stage runs of the first ``count`` items in its queue, all at once.

        Args:
            worker: The worker.
            count: How many it has done.
            going_on: Those of their items that want another such run.
            may_stay: False where the worker is known to end.

        Returns:
            The first of ``going_on``, as many as stay with the worker: to be started there now, behind what it has.
            That is so where nobody waits in line and no worker is free, up to a fair share of all. The others wait.
        """
        state = self._workers[worker]
        held = state.held
        is_crowded = self._running >= self.max_running and not (self._ready or self._idle or state.is_frozen)
        for _ in range(count):
            held.popleft()
        staying: list[Item] = []
        if going_on:
            if may_stay and is_crowded:
                num_held = sum([len(each.held) for each in self._workers.values()]) + len(going_on)
                share = min(self.depth, -(-num_held // len(self._workers)))
                staying = going_on[: max(0, share - len(held))]
                held.extend(staying)
            self._ready.extend(going_on[len(staying) :])
        if not held and count:
            self._running -= 1
            if not state.is_frozen:
                self._idle.append(worker)
        return staying

    def withdrawn(self, item: Item, worker: Worker) -> None:
        """The one-stage run of ``item`` could not be handed to ``worker`` after all."""
        state = self._workers[worker]
        state.held.remove(item)
        if not state.held:
            self._running -= 1
            if not state.is_frozen:
                self._idle.append(worker)

    def released(self, item: Item, worker: Worker) -> None:
        """A worker has done its part of the chain of ``item``."""
        state = self._workers[worker]
        state.held.popleft()
        state.is_exclusive = False
        self._idle.append(worker)

    def run_ended(self, item: Item) -> None:
        """A thread run or a chain of ``item`` has ended in all its parts."""
        self._running -= 1

    def requeue(self, items: Iterable[Item]) -> None:
        """These runs were never started by their dead worker: they are first in line again, in this order."""
        self._ready.extendleft(reversed(list(items)))

    # -- events: workers

    def worker_ready(self, worker: Worker) -> None:
        """A worker that was asked for by Grow can take work."""
        self._starting -= 1
        self._workers[worker] = _WorkerState()
        self._idle.append(worker)

    def expect_workers(self, count: int) -> None:
        """So many are being started before there is anything to do."""
        self._starting += count

    def workers_failed(self, count: int) -> None:
        """Workers that were asked for by Grow did not come."""
        self._starting -= count

    def worker_lost(self, worker: Worker) -> list[Item]:
        """A worker is gone. Returns what it held, first in line first; each is now the engine's to end or requeue.

        The run of a chain goes on counting until run_ended().
        """
        state = self._workers.pop(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        held = list(state.held)
        if held and not state.is_exclusive:
            self._running -= 1
        return held

    def held_up(self) -> list[Worker]:
        """Workers in whose queue runs wait while another worker has nothing to do."""
        if not self._idle or self._running >= self.max_running:
            return []
        return [
            worker
            for worker, state in self._workers.items()
            if len(state.held) > 1 and not state.is_exclusive and not state.is_frozen
        ]

    def taken_back(self, worker: Worker, count: int) -> list[Item]:
        """The last ``count`` runs queued at ``worker`` will not be done there; they are first in line again.

        Nothing is queued at the worker until confirmed().
        """
        state = self._workers[worker]
        items = [state.held.pop() for _ in range(count)]
        items.reverse()
        state.is_frozen = True
        if not state.held:
            self._running -= 1
        self.requeue(items)
        return items

    def confirmed(self, worker: Worker) -> None:
        """The worker has passed over all that was taken back from it."""
        state = self._workers[worker]
        state.is_frozen = False
        if not state.held:
            self._idle.append(worker)

    # -- commands

    def decide(self) -> list[Command]:
        """What to do now, in this order. Admit is to be answered before the next call."""
        commands: list[Command] = []
        ready, needs = self._ready, self._need
        while ready:
            item = ready[0]
            if item not in needs:
                if not self._start_short_runs(commands):
                    break
                continue
            need, _ = needs[item]
            if self._running >= self.max_running:
                break
            if len(self._idle) < need:
                self._ask_for_workers(need, commands)
                break
            workers = tuple(self._idle.pop() for _ in range(need))
            for worker in workers:
                state = self._workers[worker]
                state.is_exclusive = True
                state.held.append(item)
            self._running += 1
            commands.append(Start(item, workers, False))
            ready.popleft()
        if not ready and self._new:
            room = self.max_running * self.depth - self._admitted
            while room > 0 and self._new:
                item, _ = self._new.popitem(last=False)
                self._admitted += 1
                room -= 1
                commands.append(_new_tuple(Admit, (item,)))
        return commands

    def _start_short_runs(self, commands: list[Command]) -> bool:
        """Start the one-stage runs that are first in line: on idle workers, then in the shortest queues.

        Says whether something else is first in line now, or nothing; False: one is left that has to wait.
        """
        ready, needs, idle = self._ready, self._need, self._idle
        while idle and self._running < self.max_running:
            self._running += 1
            worker = idle.pop()
            item = ready.popleft()
            self._workers[worker].held.append(item)
            commands.append(_new_tuple(Start, (item, (worker,), False)))
            if not ready or ready[0] in needs:
                return True
        # as many as could run now, were there workers for them
        self._ask_for_workers(min(len(ready), self.max_running - self._running), commands)
        depth = self.depth
        queues = [
            (len(state.held), state.held, (worker,))
            for worker, state in self._workers.items()
            if not state.is_exclusive and not state.is_frozen and 0 < len(state.held) < depth
        ]
        queues.sort(key=_length)
        num_lowest = 0
        # Level by level, as water rises: all queues that are as short as the shortest get one each.
        for level in range(queues[0][0] if queues else depth, depth):
            while num_lowest < len(queues) and queues[num_lowest][0] <= level:
                num_lowest += 1
            for _, held, workers in queues[:num_lowest]:
                item = ready.popleft()
                held.append(item)
                commands.append(_new_tuple(Start, (item, workers, True)))
                if not ready or ready[0] in needs:
                    return True
        return False

    def _ask_for_workers(self, need: int, commands: list[Command]) -> None:
        """Grow so that ``need`` workers can be idle at once, or as many as there may be."""
        if not self.can_grow:
            return
        missing = need - len(self._idle) - self._starting
        count = min(missing, self.max_workers - self.num_workers)
        if count > 0:
            self._starting += count
            commands.append(Grow(count))
