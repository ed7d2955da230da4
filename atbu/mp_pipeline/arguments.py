"""What a pipeline does not take for an argument."""

from __future__ import annotations

from collections.abc import Sequence

from .exception import InvalidFunctionArgument
from .shared_slots import MAX_COUNTERS


def check_arguments(
    stages: object,
    max_simultaneous_work_items: int | None,
    max_pending: int | None,
    grace_s: float,
    counters: Sequence[str],
) -> None:
    """Raises InvalidFunctionArgument; before anything is opened that a refusal would leave behind."""
    if stages is not None and not isinstance(stages, list):
        raise InvalidFunctionArgument(f"stages must be a list, not {type(stages).__name__!r}")
    if max_simultaneous_work_items is not None and max_simultaneous_work_items < 0:
        raise InvalidFunctionArgument(f"max_simultaneous_work_items must be >= 0, not {max_simultaneous_work_items}")
    if max_pending is not None and max_pending < 1:
        raise InvalidFunctionArgument(f"max_pending must be >= 1 or None, not {max_pending}")
    if not grace_s >= 0:
        raise InvalidFunctionArgument(f"grace_s must be >= 0, not {grace_s}")
    if len(counters) > MAX_COUNTERS or isinstance(counters, str) or len(set(counters)) < len(counters):
        raise InvalidFunctionArgument(f"counters must be a list of at most {MAX_COUNTERS} names, each of them once")


def check_template(template: object, initfunc: object, initargs: tuple[object, ...], serial: bool) -> None:
    """Raises InvalidFunctionArgument where a template that was started before cannot do what is asked."""
    if template is not None and (serial or initfunc is not None or initargs):
        raise InvalidFunctionArgument(
            "template starts workers, and was started without an initialiser: leave out serial, process_initfunc and "
            "process_initargs, or template"
        )
