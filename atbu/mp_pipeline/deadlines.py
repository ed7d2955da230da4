"""What is due when: members with a time limit, and the survivors of failed chains."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from .exception import PipelineStageTimeout, PipelineWorkerDied
from .runs import Member, Run, describe_item

if TYPE_CHECKING:
    import select

    from .engine import Engine

#: While a limit runs, waits are cut into such pieces: so exactly it is known how long everything stood still.
_TICK_S: Final = 0.5
#: A wait that ends so much too late was no wait of a busy machine.
_STOOD_STILL_S: Final = 1.0


# Thousands of years; larger numbers need not be floats.
_FOR_EVER_S = 1e12


class Deadlines:
    """Watches over what was started; engine's thread only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.timed: set[Member] = set()
        self.chains: set[Run] = set()

    @property
    def is_watching(self) -> bool:
        """Whether anything may be due."""
        return bool(self.timed or self.chains)

    def due(self) -> Iterator[float]:
        """When something is due, monotonic seconds."""
        for member in self.timed:
            if member.deadline is not None:
                yield member.deadline
        for run in self.chains:
            if run.end_survivors_at is not None:
                yield run.end_survivors_at

    def track(self, run: Run, members: Sequence[Member]) -> None:
        """A run has been started."""
        if run.is_chain:
            self.chains.add(run)
        for member in members:
            worker = member.worker
            if worker is None or member.limit_s is None:
                continue
            self.timed.add(member)
            if worker.queue[0] is member:
                self.start_clock(member)

    def start_clock(self, member: Member) -> None:
        """A member is now the first in its worker's queue: its time limit, if it has one, counts from here."""
        if member in self.timed:
            limit_s = member.limit_s
            member.deadline = None if limit_s is None else time.monotonic() + min(limit_s, _FOR_EVER_S)

    def poll(self, epoll: select.epoll, timeout_s: float) -> list[tuple[int, int]]:
        """Wait as ``epoll`` does, perhaps not as long, and take out of all limits the time in which nobody ran.

        Ctrl-Z stops the workers with us, and so does who freezes a container; the clock goes on.
        """
        wait_s = min(timeout_s, _TICK_S) if timeout_s >= 0 else _TICK_S
        begun_s = time.monotonic()
        ready = epoll.poll(wait_s)
        late_s = time.monotonic() - begun_s - wait_s
        if late_s > _STOOD_STILL_S:
            for member in self.timed:
                if member.deadline is not None:
                    member.deadline += late_s
            for run in self.chains:
                if run.end_survivors_at is not None:
                    run.end_survivors_at += late_s
        return ready

    def forget(self, member: Member) -> None:
        """A member has answered, or is not at its worker any more."""
        self.timed.discard(member)

    def forget_run(self, run: Run) -> None:
        """A run has ended in all its members."""
        self.chains.discard(run)

    def end_chains(self) -> None:
        """End the waiting of all thread stages on their pipes, now."""
        for run in self.chains:
            self._engine.dispatcher.interrupt(run)

    def meet(self) -> None:
        """End what is overdue."""
        now = time.monotonic()
        overdue = [each for each in self.timed if each.deadline is not None and each.deadline <= now]
        # Of a chain all are overdue at once, and the first to be ended is taken for the cause: who waits for a stage
        # before it hangs through no fault of its own.
        for member in sorted(overdue, key=lambda each: each.stage_num):
            self._end_overdue(member)
        for run in [each for each in self.chains if each.end_survivors_at is not None and each.end_survivors_at <= now]:
            self._end_survivors(run)

    def end_survivors_of(self, lead: Member) -> None:
        """A chain inside one worker has failed in part: the rest gets ``grace_s``."""
        lead.deadline = time.monotonic() + self._engine.grace_s
        self.timed.add(lead)

    def _ended_survivor(self, member: Member) -> PipelineWorkerDied:
        return PipelineWorkerDied(
            self._engine.label(member),
            member.stage_num,
            member.worker.pid if member.worker is not None else None,
            -signal.SIGKILL,
            describe_item(member.entry.item),
            note="It was ended by the pipeline: another stage of its chain had failed.",
        )

    def _end_overdue(self, member: Member) -> None:
        self.timed.discard(member)
        worker = member.worker
        assert worker is not None
        if member is member.run.lead:
            member.killed_for = self._ended_survivor(member)
            member.failed_at_ns = time.monotonic_ns()
            worker.kill()
            return
        member.killed_for = PipelineStageTimeout(
            self._engine.label(member),
            member.stage_num,
            worker.pid,
            member.limit_s or 0.0,
            describe_item(member.entry.item),
            retried=member.entry.attempt,
        )
        member.failed_at_ns = time.monotonic_ns()
        worker.kill()

    def _end_survivors(self, run: Run) -> None:
        """``grace_s`` ago the chain failed, and these have not come to an end by themselves."""
        run.end_survivors_at = None
        self._engine.dispatcher.interrupt(run)
        for member in run.members:
            if not member.is_done and member.worker is not None:
                member.killed_for = self._ended_survivor(member)
                member.failed_at_ns = time.monotonic_ns()
                member.worker.kill()
