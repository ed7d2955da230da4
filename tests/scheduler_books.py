"""The books a test keeps beside a Scheduler: its own queues, workers, counts, and what has to be true of them."""

from __future__ import annotations

import dataclasses
from collections import deque

from atbu.mp_pipeline.scheduler import Scheduler


@dataclasses.dataclass(frozen=True)
class Need:
    """What one run of an item needs."""

    workers: int
    is_chain: bool = False

    @property
    def is_alone(self) -> bool:
        return self.workers == 1 and not self.is_chain


@dataclasses.dataclass(eq=False)
class Item:
    """A submitted item and the runs it has to do."""

    number: int
    plan: tuple[Need, ...]
    position: int = 0
    #: new, ready, running, between (its run has ended, nobody has said yet what follows), ended
    phase: str = "new"
    #: Workers that still do their part of its chain.
    parts: set[int] = dataclasses.field(default_factory=set)
    #: Its one-stage run was queued behind another, so it needs a ticket to begin.
    needs_ticket: bool = False
    done_runs: list[int] = dataclasses.field(default_factory=list)

    @property
    def need(self) -> Need:
        return self.plan[self.position]

    def __repr__(self) -> str:
        return f"item{self.number}"


@dataclasses.dataclass
class WorkerModel:
    """One live worker."""

    held: deque[Item] = dataclasses.field(default_factory=deque)
    is_exclusive: bool = False
    is_frozen: bool = False

    @property
    def is_idle(self) -> bool:
        return not self.held and not self.is_frozen

    @property
    def num_tickets(self) -> int:
        """How many of its runs it has not begun and can be kept from beginning."""
        return sum(item.needs_ticket for item in self.held)


class Books:
    """What is under way, by what has happened; nothing here is read back from the scheduler."""

    def __init__(self, max_running: int) -> None:
        self.scheduler = Scheduler(max_running)
        self.max_running = max_running
        self.items: list[Item] = []
        self.new: list[Item] = []
        self.ready: list[Item] = []
        self.between: list[Item] = []
        self.workers: dict[int, WorkerModel] = {}
        self.num_starting = 0
        self.num_ended: dict[Item, int] = {}

    # -- what is under way

    @property
    def threads_running(self) -> list[Item]:
        return [item for item in self.items if item.phase == "running" and not item.need.workers]

    @property
    def chains_running(self) -> list[Item]:
        return [item for item in self.items if item.phase == "running" and not item.need.is_alone]

    @property
    def busy(self) -> list[int]:
        """Workers that do one-stage runs."""
        return [key for key, worker in self.workers.items() if worker.held and not worker.is_exclusive]

    @property
    def in_chains(self) -> list[int]:
        return [key for key, worker in self.workers.items() if worker.is_exclusive]

    @property
    def frozen(self) -> list[int]:
        return [key for key, worker in self.workers.items() if worker.is_frozen]

    @property
    def idle(self) -> list[int]:
        return [key for key, worker in self.workers.items() if worker.is_idle]

    @property
    def num_running(self) -> int:
        return len(self.busy) + len(self.chains_running)

    @property
    def num_admitted(self) -> int:
        return sum(item.phase in ("ready", "running", "between") for item in self.items)

    # -- what has to be true

    def check_counts(self) -> None:
        """The scheduler's numbers are the books' numbers."""
        scheduler = self.scheduler
        assert scheduler.num_new == len(self.new)
        assert scheduler.num_admitted == self.num_admitted
        assert scheduler.num_running == self.num_running <= self.max_running
        assert scheduler.num_starting == self.num_starting >= 0
        assert scheduler.num_workers == len(self.workers) + self.num_starting
        assert scheduler.is_empty == (all(item.phase == "ended" for item in self.items))
        for key, worker in self.workers.items():
            assert scheduler.held_by(key) == tuple(worker.held)
        held_up = [key for key in self.busy if len(self.workers[key].held) > 1 and not self.workers[key].is_frozen]
        is_other_free = bool(self.idle) and self.num_running < self.max_running
        assert set(scheduler.held_up()) == (set(held_up) if is_other_free else set())

    def check_nothing_waits_in_vain(self) -> None:
        """After a decision whatever waits has a reason that will pass by itself."""
        if self.ready:
            self._check_first_is_coming(self.ready[0].need)
        elif self.new:
            assert self.num_admitted >= self.max_running * self.scheduler.depth, "there is room, and nobody is let in"

    def _check_first_is_coming(self, need: Need) -> None:
        if need.is_alone:
            open_queues = [key for key in self.busy if not self.workers[key].is_frozen]
            assert not any(len(self.workers[key].held) < self.scheduler.depth for key in open_queues), (
                "a queue has room"
            )
        if self.num_running >= self.max_running:
            return  # one of these ends
        assert need.workers, "a thread run waits for nothing"
        assert len(self.idle) < need.workers, "its workers are there"
        if not self.scheduler.can_grow:
            return  # the engine tries again after a while
        # those that are coming and those that are busy or have to confirm will do, once they are free
        assert len(self.workers) + self.num_starting >= min(need.workers, self.scheduler.max_workers)
        assert self.scheduler.max_workers >= need.workers, "there may never be enough workers"
        if self.num_starting + len(self.idle) < need.workers:
            assert len(self.workers) + self.num_starting == self.scheduler.max_workers, "more workers are not asked for"
