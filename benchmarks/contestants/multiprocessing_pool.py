"""multiprocessing.Pool.imap with chunksize=1; three stages are one imap over another, all through the parent."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Iterable, Iterator
from multiprocessing.pool import Pool

import contest


def stage(pool: Pool, items: Iterable[object]) -> Iterator[object]:
    return pool.imap(contest.no_op, (item for item in items if contest.is_wanted(item)), chunksize=1)


@contextlib.contextmanager
def one_stage() -> Iterator[contest.Run]:
    with multiprocessing.Pool(contest.workers()) as pool:
        yield lambda count: contest.clocked(lambda: contest.exhaust(pool.imap(contest.no_op, range(count))))


@contextlib.contextmanager
def three_stages() -> Iterator[contest.Run]:
    with multiprocessing.Pool(contest.workers()) as pool:
        yield lambda count: contest.clocked(
            lambda: contest.exhaust(stage(pool, stage(pool, stage(pool, range(count)))))
        )


if __name__ == "__main__":
    contest.main({"one_stage": one_stage, "three_stages": three_stages})
