"""pebble.ProcessPool: a crash costs one task there too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import Any

import contest
from futures_executor import run_one_stage, run_three_stages
from pebble import ProcessPool


class AsExecutor(Executor):
    """schedule() by the name of submit()."""

    def __init__(self, pool: ProcessPool) -> None:
        self._pool = pool

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._pool.schedule(fn, args=args, kwargs=kwargs)


@contextlib.contextmanager
def one_stage() -> Iterator[contest.Run]:
    with ProcessPool(contest.workers()) as pool:
        yield run_one_stage(AsExecutor(pool))


@contextlib.contextmanager
def three_stages() -> Iterator[contest.Run]:
    with ProcessPool(contest.workers()) as pool:
        yield run_three_stages(AsExecutor(pool))


if __name__ == "__main__":
    contest.main({"one_stage": one_stage, "three_stages": three_stages})
