"""The scheduler under arbitrary interleavings of everything that can happen to a pipeline, and some by plain calls.

pytest tests/test_scheduler.py                                  some hundred interleavings, as in CI
MPP_EXAMPLES=10000 pytest tests/test_scheduler.py               at least as many as you say, other ones each time
"""

from __future__ import annotations

import math
import os
import signal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from scheduler_books import Need
from scheduler_model import AGAIN, FAILED, LATER, NEXT, EngineModel

from atbu.mp_pipeline.scheduler import Admit, Command, Grow, Scheduler, Start

NUM_EXAMPLES = int(os.environ.get("MPP_EXAMPLES", "300"))
# So many take well below the time-out of one test on a busy machine.
EXAMPLES_PER_TEST = 500
NUM_STEPS = 50
# Hypothesis takes up to five minutes to find the shortest interleaving that fails.
SHRINKING_S = 400

ALONE, THREAD = Need(1), Need(0)
CHAINS = [Need(0, True), Need(1, True), Need(2, True), Need(3, True), Need(5, True)]
plans = st.one_of(
    st.lists(st.just(ALONE), min_size=1, max_size=2),
    st.lists(st.sampled_from([ALONE, ALONE, THREAD, *CHAINS]), max_size=3),
)
after_run = st.sampled_from([NEXT, NEXT, NEXT, AGAIN, FAILED, LATER])
# One for each command; what it means that one goes wrong is the model's to know.
outcomes = st.lists(st.booleans(), max_size=8)


def _some(count: str):
    """Only where ``model.count`` is not empty."""
    return precondition(lambda self: bool(getattr(self.model, count)))


class SchedulerMachine(RuleBasedStateMachine):
    """Each rule is one thing that happens; what was decided is checked by the model as it comes."""

    model: EngineModel = EngineModel(1)

    @initialize(
        max_running=st.sampled_from([1, 2, 2, 3, 4]),
        depth=st.sampled_from([1, 2, 3, 5]),
        num_items=st.sampled_from([0, 4, 12]),
    )
    def start(self, max_running: int, depth: int, num_items: int) -> None:
        """With something under way already, or else most examples end before anything interesting can happen."""
        self.model = EngineModel(max_running)
        self.model.scheduler.depth = depth
        for _ in range(num_items):
            self.model.submit([ALONE])
        self.decide_with_all_workers()

    # -- callers

    @rule(plans=st.lists(plans, min_size=1, max_size=8))
    def submit(self, plans: list[list[Need]]) -> None:
        for plan in plans:
            self.model.submit(plan)

    @_some("new")
    @rule(data=st.data())
    def cancel_one(self, data: st.DataObject) -> None:
        self.model.cancel(data.draw(st.sampled_from(self.model.items)))

    @_some("new")
    @rule()
    def cancel_new(self) -> None:
        self.model.cancel_new()

    @_some("ready")
    @rule()
    def give_up_what_waits(self) -> None:
        self.model.cancel_ready()

    # -- the engine

    @rule(outcomes=outcomes)
    def decide(self, outcomes: list[bool]) -> None:
        self.model.decide_all(list(outcomes))

    @rule()
    def decide_with_all_workers(self) -> None:
        self.model.decide_all([])
        for _ in range(self.model.num_starting):
            self.model.worker_ready()
        self.model.decide_all([])

    @rule(depth=st.integers(1, 6))
    def measure(self, depth: int) -> None:
        self.model.scheduler.depth = depth

    @rule(more=st.integers(1, 3))
    def allow_more_workers(self, more: int) -> None:
        self.model.scheduler.max_workers += more

    @rule(can_grow=st.booleans())
    def allow_growth(self, can_grow: bool) -> None:
        self.model.scheduler.can_grow = can_grow

    @_some("between")
    @rule(data=st.data(), fate=after_run)
    def follow_up(self, data: st.DataObject, fate: str) -> None:
        self.model.follow_up_later(data.draw(st.sampled_from(self.model.between)), fate)

    # -- runs

    @_some("busy")
    @rule(data=st.data(), fate=after_run)
    def answer(self, data: st.DataObject, fate: str) -> None:
        self.model.answer(data.draw(st.sampled_from(self.model.busy)), fate)

    @_some("busy")
    @rule(data=st.data(), is_decided=st.booleans())
    def answer_all(self, data: st.DataObject, is_decided: bool) -> None:
        """A worker does all that it holds; what waits at others is taken back from them."""
        key = data.draw(st.sampled_from(self.model.busy))
        for _ in range(len(self.model.workers[key].held)):
            self.model.answer(key, NEXT)
        for other in self.model.scheduler.held_up():
            self.model.take_back(other)
        if is_decided:
            self.model.decide_all([])

    @_some("busy")
    @rule(data=st.data(), is_decided=st.booleans())
    def answer_together(self, data: st.DataObject, is_decided: bool) -> None:
        """The engine reads several answers of a worker at once."""
        key = data.draw(st.sampled_from(self.model.busy))
        num_held = len(self.model.workers[key].held)
        self.model.answer_together(key, data.draw(st.lists(after_run, min_size=1, max_size=num_held)))
        if is_decided:
            self.model.decide_all([])

    @_some("busy")
    @rule(data=st.data())
    def begin_queued(self, data: st.DataObject) -> None:
        self.model.begin(data.draw(st.sampled_from(self.model.busy)))

    @_some("in_chains")
    @rule(data=st.data(), fate=after_run)
    def end_part_of_chain(self, data: st.DataObject, fate: str) -> None:
        self.model.release(data.draw(st.sampled_from(self.model.in_chains)), fate)

    @_some("threads_running")
    @rule(data=st.data(), fate=after_run)
    def end_thread_run(self, data: st.DataObject, fate: str) -> None:
        self.model.end_run(data.draw(st.sampled_from(self.model.threads_running)), fate)

    # -- workers

    @_some("num_starting")
    @rule()
    def worker_comes(self) -> None:
        self.model.worker_ready()

    @_some("num_starting")
    @rule(data=st.data(), is_passing=st.booleans())
    def workers_do_not_come(self, data: st.DataObject, is_passing: bool) -> None:
        self.model.workers_failed(data.draw(st.integers(1, self.model.num_starting)), is_passing)

    @_some("workers")
    @rule(data=st.data(), has_begun=st.booleans(), fate=after_run)
    def worker_dies(self, data: st.DataObject, has_begun: bool, fate: str) -> None:
        self.model.lose(data.draw(st.sampled_from(list(self.model.workers))), has_begun, fate)

    @_some("frozen")
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        self.model.confirm(data.draw(st.sampled_from(self.model.frozen)))

    # -- always

    @invariant()
    def the_counts_are_right(self) -> None:
        self.model.check_counts()

    def teardown(self) -> None:
        self.model.drain()


@pytest.mark.parametrize("part", range(math.ceil(NUM_EXAMPLES / EXAMPLES_PER_TEST)))
def test_whatever_happens_every_item_ends_once_and_no_worker_is_lost(part: int) -> None:
    """First come, first served, never too many at once, nothing waits for what cannot come."""
    signal.setitimer(signal.ITIMER_REAL, SHRINKING_S)  # instead of conftest's, which would call that a hang
    run_state_machine_as_test(
        SchedulerMachine,
        settings=settings(
            max_examples=min(NUM_EXAMPLES, EXAMPLES_PER_TEST),
            stateful_step_count=NUM_STEPS,
            deadline=None,
            print_blob=True,
            derandomize="MPP_EXAMPLES" not in os.environ and "CI" in os.environ,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


# -- by plain calls: the cases worth reading


def _scheduler(max_running: int, num_workers: int, depth: int = 1) -> Scheduler:
    """One whose workers 1, 2, … are there and idle."""
    scheduler = Scheduler(max_running)
    scheduler.max_workers = max(num_workers, max_running)
    assert _submit(scheduler, "s", workers=num_workers, is_chain=True) == [Grow(num_workers)]
    assert scheduler.cancel_ready() == ["s"]
    scheduler.done("s")
    for number in range(num_workers):
        scheduler.worker_ready(number + 1)
    scheduler.depth = depth
    return scheduler


def _submit(scheduler: Scheduler, items: str, workers: int = 1, is_chain: bool = False) -> list[Command]:
    """Submit one-letter items that all need the same, and return what is to be done once they are admitted."""
    for item in items:
        scheduler.submit(item)
    return _decide(scheduler, workers, is_chain)


def _decide(scheduler: Scheduler, workers: int = 1, is_chain: bool = False) -> list[Command]:
    """All commands but admissions, which are answered."""
    commands: list[Command] = []
    while decided := scheduler.decide():
        for command in decided:
            if isinstance(command, Admit):
                scheduler.want(command.item, workers, is_chain)
            else:
                commands.append(command)
    return commands


def _starts(commands: list[Command]) -> dict[str, tuple[int, ...]]:
    return {command.item: command.workers for command in commands if isinstance(command, Start)}


def test_a_chain_gets_all_its_workers_at_once_and_holds_none_meanwhile() -> None:
    """It waits for the second worker while the first stays idle, and nobody behind it overtakes."""
    scheduler = _scheduler(max_running=3, num_workers=2)
    scheduler.max_workers = 2
    assert _starts(_submit(scheduler, "a")) == {"a": (2,)}
    assert _submit(scheduler, "c", workers=2, is_chain=True) == []
    assert _submit(scheduler, "b") == []
    assert (scheduler.held_by(1), scheduler.held_by(2)) == ((), ("a",))
    scheduler.answered("a", 2)
    scheduler.done("a")
    assert {item: set(workers) for item, workers in _starts(_decide(scheduler)).items()} == {"c": {1, 2}}


def test_a_chain_longer_than_the_pool_makes_the_pool_grow() -> None:
    """Four workers are asked for where one item at a time is allowed."""
    scheduler = Scheduler(1)
    assert _submit(scheduler, "c", workers=4, is_chain=True) == [Grow(4)]
    for worker in range(4):
        scheduler.worker_ready(worker)
    assert len(_starts(_decide(scheduler))["c"]) == 4


def test_thread_runs_count_among_those_that_run_at_once() -> None:
    """A third thread run waits for one of two to end."""
    scheduler = Scheduler(2)
    assert _starts(_submit(scheduler, "ab", workers=0)) == {"a": (), "b": ()}
    assert _submit(scheduler, "c", workers=0) == []
    scheduler.run_ended("a")
    scheduler.done("a")
    assert _starts(_decide(scheduler, workers=0)) == {"c": ()}


def test_short_runs_are_queued_where_the_queue_is_shortest() -> None:
    """Six runs on two workers with queues of three: none idle, none has more than three."""
    scheduler = _scheduler(max_running=2, num_workers=2, depth=3)
    commands = _submit(scheduler, "abcdefg")
    assert [len(scheduler.held_by(worker)) for worker in (1, 2)] == [3, 3]
    assert [command.is_queued for command in commands if isinstance(command, Start)] == [False, False] + [True] * 4
    assert scheduler.num_running == 2


def test_all_that_a_worker_holds_can_be_taken_back() -> None:
    """Its place among those that run is free again: it had begun none of them."""
    scheduler = _scheduler(max_running=2, num_workers=2, depth=3)
    _submit(scheduler, "abcdef")
    for item in scheduler.held_by(2):
        scheduler.answered(item, 2)
        scheduler.done(item)
    first, *rest = scheduler.held_by(1)
    scheduler.answered(first, 1)
    scheduler.done(first)
    assert scheduler.held_up() == [1]
    assert scheduler.taken_back(1, 2) == rest
    assert scheduler.num_running == 0
    assert _starts(_decide(scheduler)) == {rest[0]: (2,), rest[1]: (2,)}, "worker 1 has yet to confirm"
    scheduler.confirmed(1)
    assert _starts(_submit(scheduler, "g")) == {"g": (1,)}


def test_what_a_dead_worker_had_not_begun_is_first_in_line_again_in_its_order() -> None:
    """Nobody overtakes because a worker died."""
    scheduler = _scheduler(max_running=1, num_workers=1, depth=4)
    _submit(scheduler, "abcdef")
    assert scheduler.worker_lost(1) == ["a", "b", "c", "d"]
    scheduler.done("a")
    scheduler.requeue(["b", "c", "d"])
    assert _decide(scheduler) == [Grow(1)]
    scheduler.worker_ready(2)
    assert list(_starts(_decide(scheduler))) == ["b", "c", "d", "e"]


def test_a_worker_that_cannot_be_started_is_asked_for_again() -> None:
    """Nothing while growth is impossible, as many as are needed afterwards."""
    scheduler = Scheduler(2)
    assert _submit(scheduler, "ab") == [Grow(2)]
    scheduler.workers_failed(2)
    scheduler.can_grow = False
    assert scheduler.decide() == []
    scheduler.can_grow = True
    assert scheduler.decide() == [Grow(2)]


def test_no_more_is_admitted_than_can_run_or_be_queued() -> None:
    """Two at once, queues of three: the seventh item is not even asked about."""
    scheduler = Scheduler(2)
    scheduler.depth = 3
    for item in "abcdefg":
        scheduler.submit(item)
    assert scheduler.decide() == [Admit(item) for item in "abcdef"]
    assert scheduler.cancel("g")
    assert not scheduler.cancel("a")


def test_an_item_goes_on_at_the_worker_it_comes_from_while_others_are_busy() -> None:
    """No other waits in line and none is free; beyond a fair share they wait for whoever is free first."""
    scheduler = _scheduler(max_running=2, num_workers=2, depth=3)
    _submit(scheduler, "abcdef")
    first, second = scheduler.held_by(1), scheduler.held_by(2)
    assert (len(first), len(second)) == (3, 3)
    assert scheduler.answered_together(1, 2, list(first[:2])) == list(first[:2])
    assert scheduler.held_by(1) == (first[2], *first[:2])
    scheduler.depth = 2
    assert scheduler.answered_together(1, 2, [first[2], first[0]]) == [first[2]]
    assert scheduler.held_by(1) == (first[1], first[2])


def test_an_item_does_not_go_on_at_its_worker_while_another_is_free() -> None:
    """The free one gets it."""
    scheduler = _scheduler(max_running=2, num_workers=2, depth=3)
    _submit(scheduler, "abcd")
    first, second = scheduler.held_by(1), scheduler.held_by(2)
    assert scheduler.answered_together(2, len(second), []) == []
    for item in second:
        scheduler.done(item)
    assert scheduler.answered_together(1, 1, [first[0]]) == []
    assert _starts(_decide(scheduler)) == {first[0]: (2,)}
