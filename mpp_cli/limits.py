"""The numbers of the command line of ``mpp run``, and what they mean for the stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from atbu.mp_pipeline.named_tuple import NamedTuple

from .errors import UsageProblem, shown

if TYPE_CHECKING:
    from .run_options import RunOptions

#: Each is a process or two; beyond, it is a slip of the finger.
_MAX_JOBS: Final = 1024
_MAX_RETRIES: Final = 1000


class Limits(NamedTuple):
    """The numbers, read; None where nothing was given."""

    jobs: int | None = None
    size_hint: int | None = None
    retries: int | None = None
    timeout_s: float | None = None
    max_memory: int | None = None


def read_limits(options: RunOptions) -> Limits:
    """Read them.

    Raises:
        UsageProblem: One is none.
    """
    return Limits(
        jobs=_whole_number("--jobs", options.jobs, 1, _MAX_JOBS),
        size_hint=_size("--size-hint", options.size_hint),
        retries=_whole_number("--retries", options.retries, 0, _MAX_RETRIES),
        timeout_s=_seconds("--timeout", options.timeout),
        max_memory=_size("--max-memory", options.max_memory),
    )


def apply_to_stages(limits: Limits, stages: Sequence[Any]) -> None:
    """Give every stage that has no limits of its own those of the command line.

    Raises:
        UsageProblem: A time limit for a stage that runs in a thread, which cannot be ended.
    """
    for stage in stages:
        if limits.retries is not None and not stage.retries:
            stage.retries = limits.retries
        if limits.timeout_s is not None and stage.timeout is None:
            if not stage.is_subprocess:
                raise UsageProblem(
                    f"mpp: --timeout: stage '{shown(_label(stage))}' runs in a thread, which cannot be ended; "
                    "have it run in a process, or leave out --timeout"
                )
            stage.timeout = limits.timeout_s


def jobs_within(limits: Limits, jobs: int, stages: Sequence[Any]) -> int:
    """How many of ``jobs`` items may be worked on at once, by the memory that the stages say they need.

    Raises:
        UsageProblem: One item alone would need more than there may be.
    """
    if limits.max_memory is None:
        return jobs
    needs = [(_memory_of(stage), _label(stage)) for stage in stages]
    total = sum(need for need, _ in needs)
    if total > limits.max_memory:
        most, largest = max(needs)
        raise UsageProblem(
            f"mpp: --max-memory: one input alone may take {_mib(total)}, most of it ({_mib(most)}) in stage "
            f"'{shown(largest)}', and {_mib(limits.max_memory)} are allowed; choose other options for it, or allow more"
        )
    return min(jobs, limits.max_memory // total) if total else jobs


def _memory_of(stage: Any) -> int:
    ask = getattr(stage, "memory_bytes", None)
    return (ask() or 0) if callable(ask) else 0


def _label(stage: Any) -> str:
    return str(getattr(stage, "name", None) or type(stage).__name__)


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"


def _whole_number(option: str, text: str | None, low: int, high: int) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
        raise UsageProblem(f"mpp: {option}: '{shown(text)}' is not a whole number from {low} to {high}")
    return int(text)


def _size(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    from .sizes import parse_size

    try:
        return parse_size(text)
    except ValueError as ex:
        raise UsageProblem(f"mpp: {option}: {ex}") from ex


def _seconds(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    word = text.removesuffix("s")
    try:
        seconds = float(word) if word.replace(".", "", 1).isdecimal() and word.isascii() else 0.0
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageProblem(f"mpp: {option}: '{shown(text)}' is not a number of seconds such as 30 or 1.5")
    return seconds
