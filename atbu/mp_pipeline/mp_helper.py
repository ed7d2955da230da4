"""Helpers for code that submits many futures and wants few of them pending."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable
from typing import Any

from .exception import InvalidFunctionArgument

_AnyFuture = concurrent.futures.Future[Any]


def pending_futures(fs: Iterable[_AnyFuture]) -> list[_AnyFuture]:
    """The futures among ``fs`` that are not done, in their order."""
    return [f for f in fs if not f.done()]


def num_pending_futures(fs: Iterable[_AnyFuture]) -> int:
    """How many futures among ``fs`` are not done."""
    return len(pending_futures(fs))


def wait_futures_to_regulate(fs: Iterable[_AnyFuture], max_allowed_pending: int) -> None:
    """Block until fewer than ``max_allowed_pending`` of the futures are pending.

    ``fs`` itself is left alone: the futures that are done stay in it.

    Raises:
        InvalidFunctionArgument: ``max_allowed_pending`` is less than 1, which could never be reached.
    """
    if max_allowed_pending < 1:
        raise InvalidFunctionArgument(
            f"wait_futures_to_regulate: max_allowed_pending is {max_allowed_pending}; it must be 1 or more, "
            "since fewer futures than that are to be pending in the end"
        )
    pending = pending_futures(set(fs))
    while len(pending) >= max_allowed_pending:
        concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
        pending = pending_futures(pending)
