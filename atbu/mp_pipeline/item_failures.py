"""An item's failures, whatever its class has made of ``exceptions`` and of the ways to set it.

The engine's thread reads and records them, and what a user's property or override raises must cost that item alone.
"""

from __future__ import annotations

from .stage_run import failure_to_record
from .work_item import PipelineWorkItem


def failures_of(item: PipelineWorkItem) -> list[BaseException]:
    """The failures that stand in an item; why they cannot be read, where that is so."""
    try:
        return list(item.exceptions or ())
    except BaseException as ex:  # noqa: BLE001 - a property of the user's, or exceptions is no list
        return [failure_to_record(ex)]


def record(item: PipelineWorkItem, failure: BaseException) -> None:
    """Record a failure, whatever the item's class has made of append_exception()."""
    try:
        item.append_exception(failure)
    except BaseException:  # noqa: BLE001 - an override of the user's, or exceptions is no list
        append_past_setattr(item, "exceptions", failure)


def append_past_setattr(item: PipelineWorkItem, name: str, failure: BaseException) -> None:
    """Add a failure to an attribute that is a list, past a ``__setattr__`` of the user's."""
    known = item.__dict__.get(name)
    item.__dict__[name] = [*known, failure] if isinstance(known, list) else [failure]


def put_first(item: PipelineWorkItem, cause: BaseException) -> None:
    """Order the failures of a chain: what failed first is the cause of the rest, whatever its stage's number."""
    failures = item.__dict__.get("exceptions")
    if not isinstance(failures, list):
        return  # the item keeps them in a way of its own
    for index, failure in enumerate(failures):
        if failure is cause:
            failures.insert(0, failures.pop(index))
            return
