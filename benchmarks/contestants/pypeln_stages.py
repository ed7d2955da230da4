"""pypeln.process.map, a pipeline of stages as well; it starts its workers anew each time, which is not counted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import contest
import pypeln


def stage(items: Iterable[object]) -> Iterable[object]:
    return pypeln.process.map(contest.no_op, items, workers=contest.workers())


def from_first_to_last(results: Iterable[object], count: int) -> float:
    """The seconds for so many items, by those between the first result and the last."""
    iterator = iter(results)
    next(iterator)
    seconds = contest.clocked(lambda: contest.exhaust(iterator))
    return seconds * count / (count - 1)


@contextlib.contextmanager
def one_stage() -> Iterator[contest.Run]:
    yield lambda count: from_first_to_last(stage(range(count)), count)


@contextlib.contextmanager
def three_stages() -> Iterator[contest.Run]:
    yield lambda count: from_first_to_last(stage(stage(stage(range(count)))), count)


if __name__ == "__main__":
    contest.main({"one_stage": one_stage, "three_stages": three_stages})
