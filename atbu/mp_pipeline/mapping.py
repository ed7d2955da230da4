"""What map() does: items in by a submit, results out, both no faster than they are taken."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures._base import FINISHED
from typing import Any

from .work_item import PipelineWorkItem

Submit = Callable[[PipelineWorkItem], Future[Any]]


def in_order(submit: Submit, work_items: Iterator[PipelineWorkItem], bound: int) -> Iterator[PipelineWorkItem]:
    """Yield each item when it and all before it have ended; at most ``bound`` are under way."""
    pending: deque[Future[Any]] = deque()
    try:
        for item in work_items:
            # done(), without its lock: what is missed here is seen the next time
            while pending and (len(pending) >= bound or pending[0]._state == FINISHED):
                yield pending.popleft().result()
            pending.append(submit(item))
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def as_completed(submit: Submit, work_items: Iterator[PipelineWorkItem], bound: int) -> Iterator[PipelineWorkItem]:
    """Yield each item when it has ended; at most ``bound`` are under way."""
    pending: set[Future[Any]] = set()
    # Not concurrent.futures.wait(): it takes every future's lock for each that has ended.
    done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    try:
        for item in work_items:
            while len(pending) >= bound or not done.empty():
                pending.discard(future := done.get())
                yield future.result()
            pending.add(future := submit(item))
            future.add_done_callback(done.put)
        while pending:
            pending.discard(future := done.get())
            yield future.result()
    finally:
        for future in pending:
            future.cancel()
