"""Open descriptors that travel with a work item."""

from __future__ import annotations

import copy
import fcntl
import os
import pickle

import pytest
from pipeline_harness import result
from pipeline_stages import (
    PROCESSES,
    RUNNERS,
    Item,
    chain,
    closing_gate,
    closing_runner,
    fail,
    having,
    process_stage,
    results,
    thread_stage,
    wait_at,
)

from atbu.mp_pipeline.descriptors import PassedDescriptor
from atbu.mp_pipeline.mp_pipeline import PipeConnectionIO, PipelinePicklingError, PipelineWorkerDied


@pytest.fixture(params=RUNNERS)
def runner(request):
    with closing_runner(request.param) as runner:
        yield runner


@pytest.fixture
def processes():
    with closing_runner(PROCESSES) as runner:
        yield runner


@pytest.fixture
def gate(processes, tmp_path):
    with closing_gate(tmp_path) as gate:
        yield gate


@pytest.fixture
def passed(tmp_path):
    """A descriptor of a file with some content, ours to close."""
    path = tmp_path / "content"
    path.write_bytes(b"content")
    descriptor = PassedDescriptor(os.open(path, os.O_RDWR))
    yield descriptor
    assert not descriptor.closed
    descriptor.close()


def _read_it(item):
    passed = item.passed
    item.user_obj = (os.pread(passed.fileno(), 100, 0), passed.fileno(), os.getpid())
    return item


def test_a_process_stage_gets_a_duplicate(runner, passed):
    """It is open there, though the numbers differ; what comes back is the caller's own object, open."""
    item = having(Item(), passed=passed)
    results(runner(process_stage(_read_it)), [item])
    assert item.exceptions is None
    content, number, pid = item.user_obj
    assert content == b"content"
    assert (pid == os.getpid()) == runner.is_serial
    if runner.is_serial:
        assert number != passed.fileno()
    assert item.passed is passed


def test_a_thread_stage_gets_the_callers_own(runner, passed):
    """Nothing is copied that need not be."""
    item = having(Item(), passed=passed)
    results(runner(thread_stage(_read_it)), [item])
    assert item.user_obj == (b"content", passed.fileno(), os.getpid())
    assert item.passed is passed


def test_it_may_stand_anywhere_in_the_item(runner, passed, tmp_path):
    """Deep in the payload, several times, beside others: what was one object is one object."""
    other = PassedDescriptor(os.open(tmp_path, os.O_RDONLY))
    item = Item({"deep": [passed, (other, passed)]})
    results(runner(process_stage(_check_identity)), [item])
    assert item.exceptions is None
    assert item.user_obj["deep"][0] is passed
    assert item.user_obj["deep"][1] == (other, passed)
    other.close()


def _check_identity(item):
    first, (other, again) = item.user_obj["deep"]
    assert first is again
    assert os.path.isdir(f"/proc/self/fd/{other.fileno()}")
    assert os.pread(first.fileno(), 100, 0) == b"content"
    return item


def test_it_travels_through_many_stages_and_items(runner, passed):
    """Again and again."""
    stages = [process_stage(_read_it), thread_stage(_read_it), process_stage(_read_it)]
    items = [having(Item(), passed=passed) for _ in range(50)]
    results(runner(*stages), items)
    assert [item.exceptions for item in items] == [None] * 50
    assert {id(item.passed) for item in items} == {id(passed)}


def _keep_for_later(item):
    _kept.append(item.passed)
    item.user_obj = item.passed.fileno()
    item.seen_before = [kept.closed for kept in _kept[:-1]]
    return item


_kept: list[PassedDescriptor] = []


def test_the_workers_duplicate_is_closed_when_the_stage_has_returned(processes, passed):
    """A stage that keeps it has nothing."""
    pipeline = processes(process_stage(_keep_for_later), max_simultaneous_work_items=1)
    items = results(pipeline, [having(Item(), passed=passed) for _ in range(10)])
    assert [item.seen_before for item in items] == [[True] * n for n in range(10)]
    assert len({item.user_obj for item in items}) == 1


def _close_it(item):
    item.passed.close()
    assert item.passed.closed
    item.passed.close()
    with pytest.raises(ValueError, match="closed"):
        item.passed.fileno()
    return item


@pytest.mark.parametrize("work", [_close_it, "fail", "die", "drop"], ids=str)
def test_whatever_a_process_stage_does_with_it_the_callers_stays_open(processes, passed, work):
    """Close it, fail, die, forget it."""
    works = {"fail": fail, "die": _die, "drop": _drop}
    item = having(Item(), passed=passed)
    results(processes(process_stage(works.get(work, work))), [item])
    assert os.pread(passed.fileno(), 100, 0) == b"content"
    failures = {"fail": [ValueError], "die": [PipelineWorkerDied]}
    assert [type(ex) for ex in item.exceptions or ()] == failures.get(work, [])


def _die(item):
    os._exit(1)


def _drop(item):
    del item.passed
    return item


def test_one_that_is_closed_fails_its_item_by_name(runner, tmp_path):
    """Before anything is sent; its neighbours succeed."""
    closed = PassedDescriptor(os.open(tmp_path, os.O_RDONLY))
    closed.close()
    bad, good = having(Item(), passed=closed, name="the closed one"), Item()
    results(runner(process_stage()), [bad, good])
    assert [type(ex) for ex in bad.exceptions] == [PipelinePicklingError]
    assert "closed" in str(bad.exceptions[0])
    assert "the closed one" in str(bad.exceptions[0])
    assert good.exceptions is None


@pytest.mark.parametrize("pickler", [pickle.dumps, copy.deepcopy], ids=["pickle", "deepcopy"])
def test_only_a_pipeline_can_pickle_it(passed, pickler):
    """Elsewhere its number would mean another file."""
    with pytest.raises(TypeError, match="pipeline"):
        pickler(passed)


def test_it_is_not_inherited_by_programs_a_stage_starts(processes, passed):
    """Only by those it is handed to."""
    (item,) = results(processes(process_stage(_say_flags)), [having(Item(), passed=passed)])
    assert item.user_obj & fcntl.FD_CLOEXEC


def _say_flags(item):
    item.user_obj = fcntl.fcntl(item.passed.fileno(), fcntl.F_GETFD)
    return item


def _copy_in(item):
    with PipeConnectionIO(item.pipe_out, is_write=True) as writer:
        writer.write(os.pread(item.source.fileno(), 100, 0))
    return item


def _copy_out(item):
    with PipeConnectionIO(item.pipe_in, is_write=False) as reader:
        os.pwrite(item.target.fileno(), reader.readall(), 0)
    return item


@pytest.mark.parametrize("letters", ["PP", "PT", "TP", "TT"])
def test_every_stage_of_a_chain_gets_them(runner, passed, tmp_path, letters):
    """Each its own duplicates."""
    target = PassedDescriptor(os.open(tmp_path / "copy", os.O_RDWR | os.O_CREAT))
    item = having(Item(), source=passed, target=target)
    results(runner(*chain(letters, _copy_in, _copy_out)), [item])
    assert item.exceptions is None
    assert (item.source, item.target) == (passed, target)
    assert (tmp_path / "copy").read_bytes() == b"content"
    target.close()


def test_those_of_items_taken_back_from_a_worker_arrive_at_another(processes, gate, passed):
    """They had been sent to the first already; what was not used there is closed there."""
    pipeline = processes(process_stage(_wait_and_read), max_simultaneous_work_items=2)
    for _ in range(10):
        results(pipeline, [having(Item(), passed=passed) for _ in range(100)])
        held = pipeline.submit(having(Item(gate.path), passed=passed))
        for item in results(pipeline, [having(Item(), passed=passed) for _ in range(100)]):
            assert item.exceptions is None
            # a worker that kept what it was sent would run out of low numbers
            assert item.number < 64
        gate.open(1)
        assert result(held).exceptions is None


def _wait_and_read(item):
    if item.user_obj is not None:
        wait_at(item.user_obj)
    item.number = item.passed.fileno()
    assert os.pread(item.number, 100, 0) == b"content"
    return item


def test_a_retry_gets_them_anew(processes, passed):
    """From the caller's object, which is still open."""
    stage = process_stage(_die_at_first)
    stage.retries = 1
    item = AttemptItem()
    item.passed = passed
    results(processes(stage), [item])
    assert (item.exceptions, item.user_obj) == (None, b"content")
    assert [type(ex) for ex in item.attempts] == [PipelineWorkerDied]


class AttemptItem(Item):
    attempt = 0

    def before_attempt(self, attempt):
        self.attempt = attempt


def _die_at_first(item):
    if item.attempt == 0:
        os._exit(1)
    item.user_obj = os.pread(item.passed.fileno(), 100, 0)
    return item


def test_more_than_one_message_carries_fails_the_item_not_the_pipeline(processes, passed):
    """The kernel takes 253 at once."""
    many = [PassedDescriptor(os.dup(passed.fileno())) for _ in range(300)]
    pipeline = processes(process_stage())
    bad, good = having(Item(), many=many), having(Item(), many=many[:200])
    results(pipeline, [bad, good, Item()])
    for each in many:
        each.close()
    (failure,) = bad.exceptions
    assert "300 descriptors" in str(failure)
    assert "253" in str(failure)
    assert good.exceptions is None
