"""Planning: which stages need no process and no pipe of their own.

A stage that passes its bytes on unchanged becomes a tap on what the next stage reads:

    source ─▶ sha256 ══ pipe ══▶ zstd ══ pipe ══▶ write      as written
    source ─▶ (sha256) zstd ══ pipe ══▶ write                as run

A pipe would copy every byte twice, and wake two processes for it. The list as it is written decides alone, never the
item or the machine, so that the same definition gives the same bytes everywhere.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from atbu.mp_pipeline.stage import PipelineStage

from .byte_stage import ByteStage, FilterStage
from .pass_through import PassThroughStage


def fused(stages: Sequence[PipelineStage]) -> list[PipelineStage]:
    """The stages to run: those given, but for each one that runs inside another; none of the given is changed."""
    hosts = hosts_of(stages)
    made = []
    for number, stage in enumerate(stages):
        if number in hosts:
            continue
        taps = tuple(stages[tap] for tap, host in hosts.items() if host == number)
        made.append(_with_taps(stage, taps) if taps else stage)
    return made


def hosts_of(stages: Sequence[PipelineStage]) -> dict[int, int]:
    """Stage number -> number of the stage in which it runs, for each that needs no process of its own."""
    hosts: dict[int, int] = {}
    waiting: list[int] = []
    for number, stage in enumerate(stages):
        if _can_be_tap(stage):
            waiting.append(number)
            continue
        if _can_host(stage):
            hosts.update((tap, number) for tap in waiting if _run_in_same_place(stages[tap], stage))
        waiting.clear()
    # One in the middle that has a process of its own cuts those before it off.
    for tap in sorted(hosts, reverse=True):
        if tap + 1 != hosts[tap] and tap + 1 not in hosts:
            del hosts[tap]
    return hosts


def placed(stages: Sequence[PipelineStage]) -> list[PipelineStage]:
    """The stages given, but of each one that watches a copy that knows where it stands and whose bytes it sees.

    Where only such stages stand before it, it sees the source's bytes; where only such stages stand between it and
    the sink, the output's.
    """
    is_of_source = True
    made: list[PipelineStage] = []
    for number, stage in enumerate(stages):
        if isinstance(stage, PassThroughStage):
            watching = copy.copy(stage)
            watching.position = number
            watching.sees_source = is_of_source
            watching.sees_output = _reaches_sink(stages[number + 1 :])
            made.append(watching)
        else:
            is_of_source = False
            made.append(stage)
    return made


def _reaches_sink(rest: Sequence[PipelineStage]) -> bool:
    for stage in rest:
        if getattr(stage, "is_sink", False):
            return True
        if not isinstance(stage, PassThroughStage):
            return False
    return False


def _can_be_tap(stage: PipelineStage) -> bool:
    """Whether nothing but its watch makes it what it is."""
    return (
        isinstance(stage, PassThroughStage)
        and type(stage).run is PassThroughStage.run
        and _is_plain(type(stage))
        # A limit or a retry of its own can only be had by a process of its own.
        and stage.timeout is None
        and not stage.retries
        and not stage.retry_on
        and not stage.taps
    )


def _can_host(stage: PipelineStage) -> bool:
    return isinstance(stage, ByteStage) and _is_plain(type(stage)) and not stage.taps


def _is_plain(cls: type[ByteStage]) -> bool:
    """Whether it takes items and opens its input as every byte stage does."""
    return (
        cls.perform_stage_work is ByteStage.perform_stage_work
        and cls.open_input is ByteStage.open_input
        and cls.is_for_stage is ByteStage.is_for_stage
        and cls.is_pipe_with_next_stage is ByteStage.is_pipe_with_next_stage
    )


def _run_in_same_place(tap: PipelineStage, host: PipelineStage) -> bool:
    return tap.is_subprocess == host.is_subprocess


def _with_taps(stage: PipelineStage, taps: tuple[PipelineStage, ...]) -> PipelineStage:
    # An original filter is pickled by its name alone; called, it gives one that is pickled with what it has.
    made = stage() if isinstance(stage, FilterStage) and stage.is_original else copy.copy(stage)
    made.taps = taps  # type: ignore[attr-defined]  # only byte stages come here
    return made


__all__ = ["fused", "hosts_of", "placed"]
