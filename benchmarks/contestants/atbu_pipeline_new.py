"""atbu.mp_pipeline by what the original has not: map(), stages back to back, a piped chain inside one worker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import contest
from atbu_pipeline import ConsumerStage, ProducerStage, no_op_stage, pipeline, submit_all

from atbu.mp_pipeline.mp_pipeline import PipelineWorkItem, SubprocessPipelineStage


@contextlib.contextmanager
def mapped(stages: list[SubprocessPipelineStage]) -> Iterator[contest.Run]:
    with pipeline(stages) as made:
        yield lambda count: contest.clocked(
            lambda: contest.exhaust(made.map(PipelineWorkItem(number) for number in range(count)))
        )


def one_stage_map() -> contextlib.AbstractContextManager[contest.Run]:
    return mapped([no_op_stage()])


def three_stages_map() -> contextlib.AbstractContextManager[contest.Run]:
    return mapped([no_op_stage() for _ in range(3)])


def three_stages_wants_all_map() -> contextlib.AbstractContextManager[contest.Run]:
    return mapped([no_op_stage(wants_all=True) for _ in range(3)])


@contextlib.contextmanager
def three_stages_wants_all() -> Iterator[contest.Run]:
    with pipeline([no_op_stage(wants_all=True) for _ in range(3)]) as made:
        yield lambda count: contest.clocked(lambda: submit_all(made, count))


class SmallItem(PipelineWorkItem):
    """One whose chain is to run inside one worker."""

    in_one_worker = True


@contextlib.contextmanager
def piped_pair_in_one_worker() -> Iterator[contest.Run]:
    with pipeline([ProducerStage(), ConsumerStage()]) as made:
        yield lambda count: contest.clocked(lambda: submit_all(made, count, SmallItem))


if __name__ == "__main__":
    contest.main(
        {
            "one_stage_map": one_stage_map,
            "three_stages_map": three_stages_map,
            "three_stages_wants_all": three_stages_wants_all,
            "three_stages_wants_all_map": three_stages_wants_all_map,
            "piped_pair_in_one_worker": piped_pair_in_one_worker,
        }
    )
