"""mpire.WorkerPool.imap with chunk_size=1; it does one map at a time, so three stages are three passes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import contest
from mpire import WorkerPool


def one_pass(pool: WorkerPool, items: Iterable[object], count: int) -> list[object]:
    wanted = (item for item in items if contest.is_wanted(item))
    return list(pool.imap(contest.no_op, wanted, iterable_len=count, chunk_size=1))


@contextlib.contextmanager
def one_stage() -> Iterator[contest.Run]:
    with WorkerPool(contest.workers(), keep_alive=True) as pool:
        yield lambda count: contest.clocked(
            lambda: contest.exhaust(pool.imap(contest.no_op, range(count), chunk_size=1))
        )


@contextlib.contextmanager
def three_stages() -> Iterator[contest.Run]:
    with WorkerPool(contest.workers(), keep_alive=True) as pool:

        def run(count: int) -> float:
            return contest.clocked(
                lambda: one_pass(pool, one_pass(pool, one_pass(pool, range(count), count), count), count)
            )

        yield run


if __name__ == "__main__":
    contest.main({"one_stage": one_stage, "three_stages": three_stages})
