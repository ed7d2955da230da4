"""What the engine does with a Scheduler, without processes: keeps the books itself and checks every command.

    test's rules ──▶ EngineModel ── events ──▶ Scheduler
                          ▲                        │
                          └── commands, checked ───┘

Every command is checked against the books as it comes, and the scheduler's counts are compared with theirs.
"""

from __future__ import annotations

from collections.abc import Iterable

from scheduler_books import Books, Item, Need, WorkerModel

from atbu.mp_pipeline.scheduler import Admit, Grow, Start

# More turns than any drain here needs; beyond it the scheduler does not come to an end.
MAX_TURNS = 10_000

# What an item does when its run has ended.
NEXT, AGAIN, FAILED, LATER = "next", "again", "failed", "later"


class EngineModel(Books):
    """Drives one scheduler as the engine does and asserts, at every step, what it promises."""

    def __init__(self, max_running: int) -> None:
        super().__init__(max_running)
        self._next_worker = 0

    # -- events: items

    def submit(self, plan: Iterable[Need]) -> Item:
        item = Item(len(self.items), tuple(plan))
        self.items.append(item)
        self.new.append(item)
        self.num_ended[item] = 0
        self.scheduler.submit(item)
        return item

    def cancel(self, item: Item) -> None:
        was_new = item.phase == "new"
        assert self.scheduler.cancel(item) is was_new
        if was_new:
            self.new.remove(item)
            self._end(item)

    def cancel_new(self) -> None:
        assert self.scheduler.cancel_new() == self.new
        for item in self.new:
            self._end(item)
        self.new = []

    def cancel_ready(self) -> None:
        dropped = self.scheduler.cancel_ready()
        assert dropped == self.ready
        self.ready = []
        for item in dropped:
            self.scheduler.done(item)
            self._end(item)

    def follow_up(self, item: Item, fate: str) -> None:
        """Say what an item does whose run has ended."""
        if fate == LATER:
            self.between.append(item)
            item.phase = "between"
            return
        if fate == NEXT:
            item.done_runs.append(item.position)
            item.position += 1
        if fate == FAILED or item.position == len(item.plan):
            self.scheduler.done(item)
            self._end(item)
        else:
            self._want(item)

    def follow_up_later(self, item: Item, fate: str) -> None:
        self.between.remove(item)
        self.follow_up(item, fate)

    def _want(self, item: Item) -> None:
        item.phase = "ready"
        self.ready.append(item)
        self.scheduler.want(item, item.need.workers, item.need.is_chain)

    def _end(self, item: Item) -> None:
        item.phase = "ended"
        self.num_ended[item] += 1
        assert self.num_ended[item] == 1, f"{item} ended twice"

    # -- events: runs

    def answer(self, key: int, fate: str) -> None:
        """A worker answers the first of its one-stage runs."""
        worker = self.workers[key]
        item = worker.held.popleft()
        item.needs_ticket = False
        self.scheduler.answered(item, key)
        self.follow_up(item, fate)

    def answer_together(self, key: int, fates: list[str]) -> None:
        """A worker's answers arrive together; what goes on to another run of one stage may stay there."""
        worker = self.workers[key]
        may_stay = not (self.ready or self.idle or worker.is_frozen) and self.num_running == self.max_running
        going_on = []
        for fate in fates:
            item = worker.held.popleft()
            item.needs_ticket = False
            if fate == NEXT and item.position + 1 < len(item.plan) and item.plan[item.position + 1].is_alone:
                item.done_runs.append(item.position)
                item.position += 1
                item.phase = "ready"
                going_on.append(item)
            else:
                self.follow_up(item, fate)
        may_stay = may_stay and not self.ready
        staying = self.scheduler.answered_together(key, len(fates), going_on)
        assert staying == going_on[: len(staying)], "not in the order in which they were answered"
        assert may_stay or not staying, "it overtakes what waits in line, or leaves a free worker without work"
        self.ready.extend(going_on[len(staying) :])
        for item in staying:
            item.phase = "running"
            item.needs_ticket = bool(worker.held)
            worker.held.append(item)
            assert len(worker.held) <= self.scheduler.depth

    def begin(self, key: int) -> None:
        """A worker goes on to the next of what is queued; nobody is told, its last answer may still be on its way."""
        waiting = [item for item in self.workers[key].held if item.needs_ticket]
        if waiting:
            waiting[0].needs_ticket = False

    def release(self, key: int, fate: str) -> None:
        """A worker has done its part of a chain."""
        worker = self.workers[key]
        item = worker.held.popleft()
        worker.is_exclusive = False
        self.scheduler.released(item, key)
        self._part_ended(item, key, fate)

    def _part_ended(self, item: Item, key: int, fate: str) -> None:
        item.parts.discard(key)
        if not item.parts:
            self.end_run(item, fate)

    def end_run(self, item: Item, fate: str) -> None:
        """A thread run, or the last part of a chain, has ended."""
        self.scheduler.run_ended(item)
        self.follow_up(item, fate)

    # -- events: workers

    def worker_ready(self) -> None:
        self.num_starting -= 1
        key = self._next_worker = self._next_worker + 1
        self.workers[key] = WorkerModel()
        self.scheduler.worker_ready(key)

    def workers_failed(self, count: int, is_passing: bool) -> None:
        """``is_passing``: no other can be started for now either."""
        self.num_starting -= count
        self.scheduler.workers_failed(count)
        if is_passing:
            self.scheduler.can_grow = False

    def lose(self, key: int, has_begun: bool, fate: str) -> None:
        """A worker dies: what it had begun fails or is tried again, what it had not is queued again."""
        worker = self.workers.pop(key)
        lost = self.scheduler.worker_lost(key)
        assert lost == list(worker.held), "a lost worker's runs must all be given back, in order"
        if worker.is_exclusive:
            self._part_ended(lost[0], key, fate)
            return
        first, rest = lost[: int(has_begun)], lost[int(has_begun) :]
        for item in lost:
            item.needs_ticket = False
        for item in first:
            self.follow_up(item, fate)
        self._requeue(rest, by_scheduler=False)

    def _requeue(self, items: list[Item], by_scheduler: bool) -> None:
        for item in items:
            item.phase = "ready"
        self.ready[:0] = items
        if not by_scheduler:
            self.scheduler.requeue(items)

    def take_back(self, key: int) -> None:
        """All runs that the worker has not begun and that can be kept from it, go to others."""
        worker = self.workers[key]
        count = worker.num_tickets
        if not count:
            return
        expected = [worker.held.pop() for _ in range(count)][::-1]
        worker.is_frozen = True
        assert self.scheduler.taken_back(key, count) == expected
        for item in expected:
            item.needs_ticket = False
        self._requeue(expected, by_scheduler=True)

    def confirm(self, key: int) -> None:
        self.workers[key].is_frozen = False
        self.scheduler.confirmed(key)

    # -- commands

    def decide_all(self, outcomes: list[bool]) -> None:
        """Carry out commands until there are none; ``outcomes`` says whether each goes well, as do all further ones."""
        for _ in range(MAX_TURNS):
            commands = self.scheduler.decide()
            if not commands:
                self.check_nothing_waits_in_vain()
                return
            for command in commands:
                self._check(command)
            for command in commands:
                self._carry_out(command, outcomes.pop() if outcomes else True)
        raise AssertionError("the scheduler goes on deciding for ever")

    def _check(self, command: Admit | Start | Grow) -> None:
        """Is this command allowed by the books as they stand? Enter it there."""
        if isinstance(command, Admit):
            assert not self.ready, "items are admitted while others wait"
            assert self.new, "nothing was there to be admitted"
            assert command.item is self.new.pop(0), "not in the order of submission"
            assert self.num_admitted < self.max_running * self.scheduler.depth, "more admitted than allowed"
            command.item.phase = "between"
        elif isinstance(command, Grow):
            assert command.num_workers > 0
            assert self.scheduler.can_grow
            self.num_starting += command.num_workers
            first = self.ready[0].need
            useful = min(len(self.ready), self.max_running - self.num_running) if first.is_alone else first.workers
            assert self.num_starting + len(self.idle) <= useful, "more workers than there is work for"
            assert len(self.workers) + self.num_starting <= self.scheduler.max_workers, "more workers than allowed"
        else:
            self._check_start(command)

    def _check_start(self, start: Start) -> None:
        assert self.ready, "nothing was ready to be started"
        item = self.ready.pop(0)
        assert start.item is item, "not first come, first served"
        assert item.phase == "ready"
        assert len(start.workers) == len(set(start.workers)) == item.need.workers
        item.phase = "running"
        item.needs_ticket = start.is_queued
        if start.is_queued:
            assert item.need.is_alone
            worker = self.workers[start.workers[0]]
            assert not worker.is_exclusive
            assert not worker.is_frozen
            assert 0 < len(worker.held) < self.scheduler.depth
        else:
            assert all(self.workers[key].is_idle for key in start.workers), "it waits for a worker it has been given"
        for key in start.workers:
            self.workers[key].held.append(item)
            self.workers[key].is_exclusive = not item.need.is_alone
        if not item.need.is_alone:
            item.parts = set(start.workers)
        assert self.num_running <= self.max_running, "more running than allowed"

    def _carry_out(self, command: Admit | Start | Grow, is_well: bool) -> None:
        if isinstance(command, Admit):
            if is_well and command.item.plan:
                self._want(command.item)
            else:  # it was cancelled, or no stage wants it
                self.scheduler.done(command.item)
                self._end(command.item)
        elif is_well:
            return
        elif isinstance(command, Grow):
            self.workers_failed(command.num_workers, is_passing=True)
        elif command.item.need.is_alone:
            self._withdraw(command.item, command.workers[0])
        elif command.workers:
            self._give_back(command.item, command.workers)

    def _withdraw(self, item: Item, key: int) -> None:
        """The run could not be handed to its worker."""
        self.workers[key].held.remove(item)
        item.needs_ticket = False
        self.scheduler.withdrawn(item, key)
        self.follow_up(item, FAILED)

    def _give_back(self, item: Item, keys: tuple[int, ...]) -> None:
        """The first of a chain's workers is found dead before the chain starts: it waits for others."""
        for key in keys[1:]:
            self.workers[key] = WorkerModel()
            self.scheduler.released(item, key)
        del self.workers[keys[0]]
        assert self.scheduler.worker_lost(keys[0]) == [item]
        item.parts = set()
        self.scheduler.run_ended(item)
        self._requeue([item], by_scheduler=False)

    def drain(self) -> None:
        """Let everything under way come to a good end; then prove that nothing was lost."""
        self.scheduler.can_grow = True
        for _ in range(MAX_TURNS):
            self.decide_all([])
            if not self._advance_all():
                break
        else:
            raise AssertionError("the items do not come to an end")
        self.check_counts()
        assert self.scheduler.is_empty
        assert set(self.num_ended.values()) <= {1}
        assert not self.num_running
        self._check_every_worker_is_usable()

    def _advance_all(self) -> bool:
        """Everything that can happen by itself does, once; says whether anything did."""
        before = (self.num_starting, self.frozen, list(self.between), self.threads_running)
        for _ in range(self.num_starting):
            self.worker_ready()
        for key in self.frozen:
            self.confirm(key)
        for item in list(self.between):
            self.follow_up_later(item, NEXT)
        for item in self.threads_running:
            self.end_run(item, NEXT)
        busy, in_chains = self.busy, self.in_chains
        for key in busy:
            self.answer(key, NEXT)
        for key in in_chains:
            self.release(key, NEXT)
        return any(before) or bool(busy or in_chains)

    def _check_every_worker_is_usable(self) -> None:
        """A chain that needs all workers there may be starts on all workers there are and the missing ones."""
        probe = self.submit([Need(self.scheduler.max_workers, is_chain=True)])
        for _ in range(2):
            self.decide_all([])
            for _ in range(self.num_starting):
                self.worker_ready()
        self.decide_all([])
        assert probe.phase == "running", "a worker was lost"
        assert probe.parts == set(self.workers)
