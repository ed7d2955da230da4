"""What all contestants share: how long a run may take, how its speed is told, and the work that is no work.

A contestant is a script that runs alone in a fresh interpreter, be it that of another virtual environment:

    python pool.py one_stage --seconds 1.0
    {"items": 58500, "seconds": 1.01}

so nothing here imports anything but the standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

#: Runs so many items through what was set up; gives the seconds that took.
Run = Callable[[int], float]

# Enough to start every worker and to tell the speed roughly, few enough for the slowest contestant.
WARM_UP_ITEMS = 100
MIN_ITEMS = 200
MAX_ITEMS = 100_000


def workers() -> int:
    """How many worker processes each contestant gets."""
    return len(os.sched_getaffinity(0))


def no_op(item: object) -> object:
    """The stage."""
    return item


def is_wanted(item: object) -> bool:
    """The determiner, asked in the parent."""
    return True


def exhaust(results: Iterable[object]) -> int:
    """Take all of an iterator; gives how many there were."""
    count = 0
    for _ in results:
        count += 1
    return count


def clocked(work: Callable[[], object]) -> float:
    """The seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main(works: dict[str, Callable[[], AbstractContextManager[Run]]]) -> None:
    """Run one of the works as the arguments say and print what came of it as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=works)
    parser.add_argument("--seconds", type=float, default=1.0, help="about so long, after a warm-up")
    parser.add_argument("--items", type=int, default=0, help="exactly so many in one go instead, again and again")
    arguments = parser.parse_args()
    with works[arguments.work]() as run:
        run(WARM_UP_ITEMS)
        if arguments.items:
            rounds = max(1, round(arguments.seconds / max(1e-9, run(arguments.items))))
            times = sorted(run(arguments.items) for _ in range(rounds))
            items, seconds = arguments.items, times[len(times) // 2]
        else:
            items = MIN_ITEMS
            while (seconds := run(items)) < arguments.seconds / 2 and items < MAX_ITEMS:
                items = min(MAX_ITEMS, max(2 * items, int(items * arguments.seconds / max(seconds, 1e-9))))
    print(json.dumps({"items": items, "seconds": seconds}))
