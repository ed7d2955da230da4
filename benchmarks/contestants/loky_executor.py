"""loky's reusable executor: the interface of concurrent.futures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import contest
from futures_executor import run_one_stage, run_three_stages
from loky import ProcessPoolExecutor


@contextlib.contextmanager
def one_stage() -> Iterator[contest.Run]:
    with ProcessPoolExecutor(contest.workers()) as executor:
        yield run_one_stage(executor)


@contextlib.contextmanager
def three_stages() -> Iterator[contest.Run]:
    with ProcessPoolExecutor(contest.workers()) as executor:
        yield run_three_stages(executor)


if __name__ == "__main__":
    contest.main({"one_stage": one_stage, "three_stages": three_stages})
