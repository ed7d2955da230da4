"""Which failure of a chain stands first: the one that made the others fail, whoever was heard sooner."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash_chain_stages import ChainStage
from crash_stages import CrashItem
from pipeline_harness import DEFAULT, PATIENCE_S, SERIAL, pipeline_on, result, wait_readable

from atbu.mp_pipeline.mp_pipeline import PipeConnectionIO

Work = Callable[[Any], None]


class Cause(Exception):
    """What made the others fail."""


class WorkStage(ChainStage):
    """Does its work, and tells when that has failed."""

    def __init__(self, work: Work, is_piped: bool, is_subprocess: bool, **attributes: Any) -> None:
        super().__init__(work.__name__, is_piped, is_subprocess)
        self.work = work
        vars(self).update(attributes)

    def perform_stage_work(self, pwi: Any, **kwargs: Any) -> Any:
        try:
            self.work(pwi)
        except BaseException:
            with _opened(pwi.failures) as fifo:
                os.write(fifo, b"!")
            raise
        return pwi


@contextlib.contextmanager
def _opened(fifo: str) -> Iterator[int]:
    # For both, so that nobody waits for the other in opening it.
    fd = os.open(fifo, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


def wait_for_neighbour(pwi: Any) -> None:
    """Until another stage of the chain has failed, which it does because of what was done to its pipe."""
    with _opened(pwi.failures) as fifo:
        wait_readable(fifo, "no neighbour has failed")


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


def fail_after_neighbour(work: Work, pwi: Any) -> None:
    try:
        work(pwi)
    finally:
        wait_for_neighbour(pwi)


def fail_in_with(pwi: Any) -> None:
    fail_after_neighbour(read_some_and_fail, pwi)


def fail_otherwise_because_of_it(pwi: Any) -> None:
    try:
        fail_after_neighbour(_read_some_and_raise_another, pwi)
    except ValueError as ex:
        raise Cause from ex


def _read_some_and_raise_another(pwi: Any) -> None:
    with PipeConnectionIO(pwi.pipe_in, is_write=False) as reader:
        reader.read(10)
        raise ValueError


def fail_amid_a_frame(pwi: Any) -> None:
    fail_after_neighbour(_write_half_a_frame, pwi)


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
    wait_for_neighbour(pwi)
    raise Cause


def abort_writing(pwi: Any) -> None:
    writer = PipeConnectionIO(pwi.pipe_out, is_write=True)
    writer.write(b"little")
    writer.abort("on purpose")
    wait_for_neighbour(pwi)
    raise Cause


def fail_bare(pwi: Any) -> None:
    fail_after_neighbour(_send_one_and_fail, pwi)


def _send_one_and_fail(pwi: Any) -> None:
    with pwi.pipe_out as connection:
        connection.send_bytes(b"one")
        raise Cause


def receive_two(pwi: Any) -> None:
    with pwi.pipe_in as connection:
        connection.recv_bytes()
        connection.recv_bytes()


def fail_raw(pwi: Any) -> None:
    fail_after_neighbour(_write_raw_and_fail, pwi)


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
    # Left to the runner to close, for the reader to see that this stage has failed.
    writer = PipeConnectionIO(pwi.pipe_out, is_write=True)
    writer.write_eof(b"all")
    raise Cause


def read_all_and_fail_later(pwi: Any) -> None:
    copy = os.dup(pwi.pipe_in.fileno())
    try:
        read_all(pwi)
        poll = select.poll()
        poll.register(copy, 0)  # for its hanging up: the writer's end is closed when its stage has failed
        assert poll.poll(PATIENCE_S * 1000)
    finally:
        os.close(copy)
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


@pytest.fixture
def item(tmp_path: Path) -> Iterator[Any]:
    """An item whose stages can tell each other of failures."""
    item = CrashItem("victim", tmp_path / "journal")
    item.failures = str(tmp_path / "failures")
    os.mkfifo(item.failures)
    with _opened(item.failures):  # what was written is lost with the last who has it open
        yield item


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize(("runner", "is_subprocess"), [(DEFAULT, True), (DEFAULT, False), (SERIAL, True)])
def test_the_cause_stands_first(runner: str, is_subprocess: bool, name: str, item: Any) -> None:
    """Also where it is on its way out while what it has done is already felt at the other end."""
    with pipeline_on(runner, stages=_stages(CHAINS[name], is_subprocess)) as pipeline:
        result(pipeline.submit(item))
    cause, *others = item.exceptions
    assert type(cause) is Cause, item.exceptions
    assert others


def fail_at_first(pwi: Any) -> None:
    if not pwi.attempts:
        fail_in_with(pwi)
    read_all(pwi)


def test_the_cause_decides_about_a_retry(item: Any) -> None:
    """And not what it does to a stage that had closed its own reading end before."""
    stages = _stages([write_little, read_all_then_write, fail_at_first], True, retries=1, retry_on=Cause)
    with pipeline_on(DEFAULT, stages=stages) as pipeline:
        result(pipeline.submit(item))
    assert not item.is_failed
    assert [type(ex) for ex in item.attempts] == [Cause]
