"""Which failure of a chain stands first: the one that made the others fail, whoever was heard sooner."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from pipeline_harness import DEFAULT, SERIAL, pipeline_on, result

from atbu.mp_pipeline.mp_pipeline import PipeConnectionIO, PipelineWorkItem, SubprocessPipelineStage

Work = Callable[[Any], None]
# For the neighbour, which has seen the end of its pipe by then, to fail before a stage's own error has come to us.
ON_ITS_WAY_OUT_S = 0.1


class Cause(Exception):
    """What made the others fail."""


class WorkStage(SubprocessPipelineStage):
    def __init__(self, work: Work, is_piped: bool, is_subprocess: bool, **attributes: Any) -> None:
        super().__init__()
        self.work = work
        self._is_piped = is_piped
        self._is_subprocess = is_subprocess
        vars(self).update(attributes)

    @property
    def is_subprocess(self) -> bool:
        return self._is_subprocess

    @property
    def is_pipe_with_next_stage(self) -> bool:
        return self._is_piped

    def is_for_stage(self, pwi: Any) -> bool:
        return True

    def perform_stage_work(self, pwi: Any, **kwargs: Any) -> Any:
        self.work(pwi)
        return pwi


def write_little(pwi: Any) -> None:
    with PipeConnectionIO(pwi.pipe_out, is_write=True) as writer:
        writer.write(b"little")


def write_much(pwi: Any) -> None:
    with PipeConnectionIO(pwi.pipe_out, is_write=True) as writer:
        for _ in range(100):
            writer.write(bytes(100_000))


def read_all(pwi: Any) -> None:
    with PipeConnectionIO(pwi.pipe_in, is_write=False) as reader:
        reader.read(-1)


def read_some_and_fail(pwi: Any) -> None:
    with PipeConnectionIO(pwi.pipe_in, is_write=False) as reader:
        reader.read(10)
        raise Cause


def take_long_to_fail(work: Work, pwi: Any) -> None:
    try:
        work(pwi)
    finally:
        time.sleep(ON_ITS_WAY_OUT_S)


def fail_in_with(pwi: Any) -> None:
    take_long_to_fail(read_some_and_fail, pwi)


def fail_otherwise_because_of_it(pwi: Any) -> None:
    try:
        take_long_to_fail(_read_some_and_raise_another, pwi)
    except ValueError as ex:
        raise Cause from ex


def _read_some_and_raise_another(pwi: Any) -> None:
    with PipeConnectionIO(pwi.pipe_in, is_write=False) as reader:
        reader.read(10)
        raise ValueError


def fail_amid_a_frame(pwi: Any) -> None:
    take_long_to_fail(_write_half_a_frame, pwi)


def _write_half_a_frame(pwi: Any) -> None:
    with PipeConnectionIO(pwi.pipe_out, is_write=True) as writer:
        writer.write(b"little")
        # What an exception out of a signal handler leaves behind; without the signal.
        pwi.pipe_out.writer_state.is_mid_frame = True
        raise Cause


def abort_reading(pwi: Any) -> None:
    reader = PipeConnectionIO(pwi.pipe_in, is_write=False)
    reader.read(10)
    reader.abort()
    time.sleep(ON_ITS_WAY_OUT_S)
    raise Cause


def abort_writing(pwi: Any) -> None:
    writer = PipeConnectionIO(pwi.pipe_out, is_write=True)
    writer.write(b"little")
    writer.abort("on purpose")
    time.sleep(ON_ITS_WAY_OUT_S)
    raise Cause


def fail_bare(pwi: Any) -> None:
    take_long_to_fail(_send_one_and_fail, pwi)


def _send_one_and_fail(pwi: Any) -> None:
    with pwi.pipe_out as connection:
        connection.send_bytes(b"one")
        raise Cause


def receive_two(pwi: Any) -> None:
    with pwi.pipe_in as connection:
        connection.recv_bytes()
        connection.recv_bytes()


def fail_raw(pwi: Any) -> None:
    take_long_to_fail(_write_raw_and_fail, pwi)


def _write_raw_and_fail(pwi: Any) -> None:
    try:
        os.write(pwi.pipe_out.fileno(), b"part")
        raise Cause
    finally:
        pwi.pipe_out.close()


def read_raw(pwi: Any) -> None:
    os.read(pwi.pipe_in.fileno(), 100)
    if not os.read(pwi.pipe_in.fileno(), 100):
        raise EOFError


# The same for stages that have closed an end in peace, long before anything goes wrong.


def read_all_then_write(pwi: Any) -> None:
    read_all(pwi)
    write_much(pwi)


def end_and_fail(pwi: Any) -> None:
    with PipeConnectionIO(pwi.pipe_out, is_write=True) as writer:
        writer.write_eof(b"all")
    raise Cause


def read_all_and_fail_later(pwi: Any) -> None:
    read_all(pwi)
    time.sleep(ON_ITS_WAY_OUT_S)
    raise ValueError


CHAINS: dict[str, list[Work]] = {
    "a reader, by with": [write_much, fail_in_with],
    "a reader, by with, and another error of it": [write_much, fail_otherwise_because_of_it],
    "a writer amid a frame": [fail_amid_a_frame, read_all],
    "a reader that aborts": [write_much, abort_reading],
    "a writer that aborts": [abort_writing, read_all],
    "a bare writer": [fail_bare, receive_two],
    "a raw writer": [fail_raw, read_raw],
    "behind one that had read all": [write_little, read_all_then_write, fail_in_with],
    "before one that had read all": [end_and_fail, read_all_and_fail_later],
}


def _stages(works: list[Work], is_subprocess: bool, **of_last: Any) -> list[WorkStage]:
    last = len(works) - 1
    return [
        WorkStage(work, number < last, is_subprocess, **(of_last if number == last else {}))
        for number, work in enumerate(works)
    ]


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize(("runner", "is_subprocess"), [(DEFAULT, True), (DEFAULT, False), (SERIAL, True)])
def test_the_cause_stands_first(runner: str, is_subprocess: bool, name: str) -> None:
    """Also where it is on its way out while what it has done is already felt at the other end."""
    with pipeline_on(runner, stages=_stages(CHAINS[name], is_subprocess)) as pipeline:
        item = result(pipeline.submit(PipelineWorkItem()))
    cause, *others = item.exceptions
    assert type(cause) is Cause, item.exceptions
    assert others


def fail_at_first(pwi: Any) -> None:
    if not pwi.attempts:
        fail_in_with(pwi)
    read_all(pwi)


def test_the_cause_decides_about_a_retry() -> None:
    """And not what it does to a stage that had closed its own reading end before."""
    stages = _stages([write_little, read_all_then_write, fail_at_first], True, retries=1, retry_on=Cause)
    with pipeline_on(DEFAULT, stages=stages) as pipeline:
        item = result(pipeline.submit(PipelineWorkItem()))
    assert not item.is_failed
    assert [type(ex) for ex in item.attempts] == [Cause]
