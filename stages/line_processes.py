"""Lines through a function in several processes: blocks of whole lines, whose order stays.

    blocks ─┬─▶ the stage's own process ─▶ result ─┐
            ├─▶ helper, a program of its own ──────┼─▶ written in the order of the blocks
            └─▶ helper …                   ────────┘

A block goes to a helper that has room for it, else it is done here. What is ahead of its turn waits, up to a bound.
Helpers that nobody has asked for are a convenience: they get blocks once they have started, and one that cannot start
is done without.
"""

from __future__ import annotations

import functools
import io
import logging
import pickle
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from atbu.mp_pipeline.exception import PipelineError

from .functions import FunctionStage, filtered_lines
from .line_helper import LineHelper
from .self_contained import packed_if_self_contained, unpacked

#: Blocks that may wait for their turn: they are in memory.
_MAX_TURNS: Final = 16
#: More processes than this one can keep busy, which reads, cuts and writes, only if they are asked for.
_MAX_PROCESSES_UNASKED: Final = 8
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelfContainedLines:
    """What a helper has to know of a stage whose function travels as code."""

    label: str
    options: dict[str, Any]
    packed_function: bytes
    is_stateless: bool = True

    @functools.cached_property
    def function(self) -> Callable[..., Any]:
        return unpacked(self.packed_function)


def apply_in_processes(
    stage: FunctionStage, blocks: Iterable[bytes], writer: io.BufferedWriter, processes: int | None
) -> None:
    """Give the function each line of the blocks, in this process and in others, and write what it gives in order.

    Args:
        processes: How many; if None, as many as there are CPUs where the function keeps nothing from line to line.
    """
    starting: list[LineHelper] = []  # they get no blocks yet
    helpers: list[LineHelper] = []
    turns: deque[LineHelper | bytes] = deque()  # results that are not written yet, and who will have one

    def write_next() -> None:
        turn = turns.popleft()
        writer.write(turn.receive() if isinstance(turn, LineHelper) else turn)

    def write_what_is_due() -> None:
        while turns and (isinstance(turns[0], bytes) or turns[0].is_ready() or len(turns) > _MAX_TURNS):
            write_next()

    try:
        _start(stage, processes, starting, helpers)
        for block in blocks:
            write_what_is_due()
            if starting:
                _welcome(starting, helpers)
            helper = next((each for each in helpers if each.can_take(block)), None)
            if helper is not None:
                helper.send(block)
                turns.append(helper)
                continue
            try:
                turns.append(filtered_lines(stage, block))
            except Exception:
                while turns:  # what failed before it, in the order of the input, is the failure to be told
                    write_next()
                raise
            write_what_is_due()  # the next block may be long in coming
        while turns:
            write_next()
    finally:
        for helper in starting + helpers:
            helper.close()


def _start(stage: FunctionStage, processes: int | None, starting: list[LineHelper], helpers: list[LineHelper]) -> None:
    """Start the other processes: in ``helpers`` those that were asked for, else in ``starting``."""
    if processes is not None:
        pickled = pickle.dumps(stage)
        for _ in range(processes - 1):
            helpers.append(LineHelper(pickled))  # one by one: those that have started are closed if the next cannot
        return
    from atbu.mp_pipeline.cpus import usable_cpus

    others = min(usable_cpus(), _MAX_PROCESSES_UNASKED) - 1
    portable = _portable(stage) if others else None
    if portable is None:
        return
    try:
        for _ in range(others):
            starting.append(LineHelper(portable))
    except (OSError, PipelineError) as ex:
        _log.info("stage %r: no process could be started to help it: %s", stage.label, ex)


def _portable(stage: FunctionStage) -> bytes | None:
    """The stage for another process, where its function may run in several."""
    if stage.is_stateless:
        try:
            return pickle.dumps(stage)
        except (pickle.PicklingError, AttributeError, TypeError) as ex:
            _log.info("stage %r: its function cannot be given to other processes: %s", stage.label, ex)
            return None
    packed = packed_if_self_contained(stage.function, stage.options)
    return None if packed is None else pickle.dumps(SelfContainedLines(stage.label, stage.options, packed))


def _welcome(starting: list[LineHelper], helpers: list[LineHelper]) -> None:
    """Move to ``helpers`` those that have started, and drop those that cannot."""
    for helper in [each for each in starting if each.is_ready()]:
        starting.remove(helper)
        try:
            helper.greet()
        except Exception as ex:  # noqa: BLE001 - whatever an import of the user's module raises
            _log.info("a helper process could not start, its work is done without it: %s", ex)
            helper.close()
        else:
            helpers.append(helper)


__all__ = ["SelfContainedLines", "apply_in_processes"]
