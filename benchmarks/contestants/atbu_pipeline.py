"""atbu.mp_pipeline by what the seed's interface has, so that the original runs the very same file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import contest

from atbu.mp_pipeline.mp_pipeline import (
    MultiprocessingPipeline,
    PipeConnectionIO,
    PipelineWorkItem,
    SubprocessPipelineStage,
)

PAYLOAD = b"ten bytes."


class ProducerStage(SubprocessPipelineStage):
    """Sends ten bytes to the next stage."""

    @property
    def is_pipe_with_next_stage(self):
        return True

    def is_for_stage(self, pwi):
        return True

    def perform_stage_work(self, pwi, **kwargs):
        with PipeConnectionIO(pwi.pipe_conn, is_write=True) as pipe:
            pipe.write(PAYLOAD)
        return pwi


class ConsumerStage(SubprocessPipelineStage):
    """Reads what the stage before has sent."""

    def is_for_stage(self, pwi):
        return True

    def perform_stage_work(self, pwi, **kwargs):
        with PipeConnectionIO(pwi.pipe_conn, is_write=False) as pipe:
            pwi.user_obj = pipe.read()
        return pwi


def no_op_stage(**attributes: object) -> SubprocessPipelineStage:
    stage = SubprocessPipelineStage(fn_determiner=contest.is_wanted, fn_worker=contest.no_op)
    vars(stage).update(attributes)
    return stage


@contextlib.contextmanager
def pipeline(stages: list[SubprocessPipelineStage]) -> Iterator[MultiprocessingPipeline]:
    made = MultiprocessingPipeline(stages=stages, max_simultaneous_work_items=contest.workers(), name="contest")
    yield made
    made.shutdown()


def submit_all(
    made: MultiprocessingPipeline, count: int, item_class: type[PipelineWorkItem] = PipelineWorkItem
) -> None:
    """Submit, then wait for all; a failure ends the contest."""
    for future in [made.submit(item_class(number)) for number in range(count)]:
        item = future.result()
        if item.is_failed:
            raise item.exceptions[0]


@contextlib.contextmanager
def one_stage() -> Iterator[contest.Run]:
    with pipeline([no_op_stage()]) as made:
        yield lambda count: contest.clocked(lambda: submit_all(made, count))


@contextlib.contextmanager
def three_stages() -> Iterator[contest.Run]:
    with pipeline([no_op_stage() for _ in range(3)]) as made:
        yield lambda count: contest.clocked(lambda: submit_all(made, count))


@contextlib.contextmanager
def piped_pair() -> Iterator[contest.Run]:
    with pipeline([ProducerStage(), ConsumerStage()]) as made:
        yield lambda count: contest.clocked(lambda: submit_all(made, count))


if __name__ == "__main__":
    contest.main({"one_stage": one_stage, "three_stages": three_stages, "piped_pair": piped_pair})
