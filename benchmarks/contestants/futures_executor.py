"""concurrent.futures.ProcessPoolExecutor and what has its interface: submit, a callback submits to the next stage."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor

import contest


def run_one_stage(executor: Executor) -> contest.Run:
    """Submit all, then wait for all."""

    def run(count: int) -> float:
        return contest.clocked(
            lambda: contest.exhaust(
                future.result() for future in [executor.submit(contest.no_op, number) for number in range(count)]
            )
        )

    return run


def run_three_stages(executor: Executor) -> contest.Run:
    """Each result goes on to the next stage as soon as it is there and the determiner has said so."""

    def run(count: int) -> float:
        all_ended = threading.Semaphore(0)

        def go_on(stages: int) -> Callable[[Future[object]], None]:
            def submit_next(future: Future[object]) -> None:
                item = future.result()
                if stages and contest.is_wanted(item):
                    executor.submit(contest.no_op, item).add_done_callback(go_on(stages - 1))
                else:
                    all_ended.release()

            return submit_next

        def work() -> None:
            for number in range(count):
                if contest.is_wanted(number):
                    executor.submit(contest.no_op, number).add_done_callback(go_on(2))
            for _ in range(count):
                all_ended.acquire()

        return contest.clocked(work)

    return run


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
