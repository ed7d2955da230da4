"""Chains: neighbouring stages joined by pipes, that run at once and succeed or fail together."""

from __future__ import annotations

import itertools
import os
import random
import time

import chain_stages as work
import pytest
from pipeline_harness import result
from pipeline_stages import (
    PROCESSES,
    RUNNERS,
    Item,
    chain,
    closing_gate,
    closing_runner,
    having,
    process_stage,
    results,
    thread_stage,
)

from atbu.mp_pipeline.mp_pipeline import (
    PipeConnectionAborted,
    PipelineLastStageError,
    PipelineResultIsNotPipelineWorkItem,
    PipelineStageTimeout,
    PipelineWorkerDied,
)

# P and T: processes and threads; p: all of the chain in one worker, if the item wants that.
PAIRS = ["PP", "PT", "TP", "TT", "pp"]
OWN_FAILURE = "the stage's own failure"


@pytest.fixture(params=RUNNERS)
def runner(request):
    with closing_runner(request.param) as runner:
        yield runner


@pytest.fixture
def processes():
    with closing_runner(PROCESSES) as runner:
        yield runner


@pytest.fixture
def gate(request, tmp_path):
    # The stages must be let on before the pipelines are shut down.
    request.getfixturevalue("runner" if "runner" in request.fixturenames else "processes")
    with closing_gate(tmp_path) as gate:
        yield gate


def _item(letters, payload=None, **attributes):
    """An item for the chain of these letters."""
    return having(Item(payload), in_one_worker=letters.islower(), **attributes)


def _failures(item):
    return [type(ex) for ex in item.exceptions or ()]


def _names(item):
    return [cls.__name__ for cls in _failures(item)]


# -- data


@pytest.mark.parametrize(
    "letters", [*map("".join, itertools.product("PT", repeat=3)), "PP", "TPTPT", "PPPPPPPP", "pp", "pppp"]
)
def test_data_goes_through_a_chain_of_any_length(runner, letters):
    """Processes and threads mixed, far more data than pipes hold."""
    data = random.Random(letters).randbytes(work.MORE_THAN_A_PIPE_HOLDS)
    between = len(letters) - 2
    stages = chain(letters, work.produce, *[work.pass_on_plus_one] * between, work.consume)
    (item,) = results(runner(*stages), [_item(letters, data)])
    assert item.exceptions is None
    assert item.user_obj == data.translate(bytes((n + between) % 256 for n in range(256)))


@pytest.mark.parametrize("letters", ["PPP", "PTP", "TTT"])
def test_all_stages_of_a_chain_run_at_once(runner, gate, letters):
    """Each at the same moment as the others."""
    stages = chain(letters, work.produce_and_meet, work.consume_and_produce_and_meet, work.consume_and_meet)
    future = runner(*stages).submit(_item(letters, b"data", gate=gate.path))
    gate.wait_for(3)
    gate.open(3)
    assert result(future).user_obj == b"data"


def test_chains_and_single_stages_follow_each_other(runner):
    """Two chains with a stage between; many items, of which few are at work at once."""
    middle = chain("TP", work.produce, work.consume)
    stages = [*chain("PT", work.produce, work.consume), process_stage(_reverse), *middle, thread_stage(_reverse)]
    items = [Item(b"item %d" % n) for n in range(30)]
    results(runner(*stages, max_simultaneous_work_items=3), items)
    assert [item.exceptions for item in items] == [None] * 30
    assert [item.user_obj for item in items] == [b"item %d" % n for n in range(30)]


def _reverse(item):
    item.user_obj = item.user_obj[::-1]
    return item


@pytest.mark.parametrize("letters", PAIRS)
def test_a_program_may_write_to_the_pipe_itself(runner, letters):
    """By the descriptor: then the end of the data is that of the descriptor."""
    item = _item(letters)
    results(runner(*chain(letters, work.have_a_child_produce, work.consume_raw)), [item])
    assert item.exceptions is None
    assert item.user_obj == b"x" * 16 + b"y" * 1_000_000


def test_each_process_stage_of_a_chain_has_a_worker_of_its_own(processes):
    """However few items may be worked on at once."""
    stages = chain("PPPP", *[_note_process] * 4)
    item = _NotingItem()
    results(processes(*stages, max_simultaneous_work_items=1), [item])
    assert len(set(item.pids)) == 4
    assert os.getpid() not in item.pids


def _note_process(item):
    item.user_obj = os.getpid()
    return item


class _NotingItem(Item):
    def __init__(self):
        super().__init__()
        self.pids = []

    def stage_complete(self, stage_num, wi, ex):
        pids = self.pids
        super().stage_complete(stage_num, wi, ex)
        self.pids = [*pids, wi.user_obj]


def test_stage_complete_is_called_when_all_of_a_chain_has_ended(runner, journal, gate):
    """In stage order, whichever ended first."""
    stages = chain("PP", work.write_eof_return_late, work.consume)
    item = _CompletionItem()
    vars(item).update(gate=gate.path, journal=str(journal.path))
    future = runner(*stages).submit(item)
    gate.wait_for(1)
    assert item.calls == []
    gate.open(1)
    result(future)
    assert item.calls == [(0, None), (1, None)]


class _CompletionItem(Item):
    def __init__(self):
        super().__init__()
        self.calls = []

    def stage_complete(self, stage_num, wi, ex):
        calls = self.calls
        super().stage_complete(stage_num, wi, ex)
        self.calls = [*calls, (stage_num, ex)]


def test_the_last_stage_has_nobody_to_pipe_to(runner):
    """An item it wants fails, by an error that names it."""
    stages = chain("PP", work.produce, work.consume)
    stages.append(chain("PP", work.produce, work.consume)[0])
    stages[-1].name = "the very last"
    (item,) = results(runner(*stages), [Item(b"data")])
    assert _failures(item) == [PipelineLastStageError]
    assert "the very last" in str(item.exceptions[0])


@pytest.mark.parametrize("letters", PAIRS)
def test_answers_that_are_pickled_at_the_same_time_do_not_mix(runner, letters):
    """Where the stages share a process."""
    stages = chain(letters, work.produce_and_meet_while_pickled, work.consume_and_meet_while_pickled)
    (item,) = results(runner(*stages), [_item(letters)])
    assert item.exceptions is None
    assert item.user_obj == work.MORE_THAN_A_PIPE_HOLDS
    for words, word in ((item.produced, "produced"), (item.consumed, "consumed")):
        assert [words[0], words[1].text, words[2]] == [word, word, f"{word}, too"]


# -- the verdict


@pytest.mark.parametrize("letters", PAIRS)
@pytest.mark.parametrize("producer", work.UNFINISHED)
def test_a_consumer_never_takes_half_of_a_failed_producers_data_for_all(runner, journal, letters, producer):
    """However the producer closed: the reader's end is an abort, its cause comes first."""
    item = _item(letters, journal=str(journal.path))
    results(runner(*chain(letters, producer, work.consume_noting_the_end)), [item])
    assert journal.lines() == ["PipeConnectionAborted"]
    cause = PipelineResultIsNotPipelineWorkItem if producer is work.return_something_else else ValueError
    assert _failures(item) == [cause, PipeConnectionAborted]
    assert cause.__name__ in item.exceptions[1].reason
    if cause is ValueError:
        assert OWN_FAILURE in item.exceptions[1].reason


@pytest.mark.parametrize("letters", ["PP", "PT"])
def test_a_producer_whose_result_cannot_travel_has_failed(processes, journal, letters):
    """Its consumer must not take the data for good."""
    item = _item(letters, journal=str(journal.path))
    results(processes(*chain(letters, _produce_and_return_a_lambda, work.consume_noting_the_end)), [item])
    assert journal.lines() == ["PipeConnectionAborted"]


def _produce_and_return_a_lambda(item):
    item = work.produce(_with(item, b"data"))
    item.user_obj = lambda: None
    return item


def _with(item, payload):
    item.user_obj = payload
    return item


@pytest.mark.parametrize("letters", PAIRS)
def test_the_clean_end_is_sent_when_the_producer_has_returned(runner, gate, journal, letters):
    """Not when it closes."""
    stages = chain(letters, work.close_early_return_late, work.consume_noting_the_end)
    future = runner(*stages).submit(_item(letters, gate=gate.path, journal=str(journal.path)))
    gate.wait_for(1)
    gate.open(1)
    assert result(future).user_obj == b"all of the data"
    assert journal.lines() == ["the producer returns", "clean end"]


@pytest.mark.parametrize("letters", ["PP", "PT", "TP", "TT"])
def test_write_eof_is_sent_at_once(runner, gate, journal, letters):
    """It is the writer's own word: the consumer is through while the producer still works."""
    stages = chain(letters, work.write_eof_return_late, work.consume_then_wait)
    future = runner(*stages).submit(_item(letters, gate=gate.path, journal=str(journal.path)))
    gate.wait_for(2)
    assert journal.lines() == ["clean end"]
    gate.open(2)
    assert result(future).user_obj == b"all of the data"


# -- failures


@pytest.mark.parametrize("letters", ["PPP", "TTT", "PTP", "TPT", "ppp"])
def test_a_failure_in_the_middle_reaches_both_ends(runner, letters):
    """The producer's writes fail, the consumer's end is an abort; the failure that came first stands first."""
    item = _item(letters)
    results(runner(*chain(letters, work.produce_for_ever, work.fail_after_reading, work.consume)), [item])
    assert _failures(item)[0] is ValueError
    assert sorted(_names(item)[1:]) == ["BrokenPipeError", "PipeConnectionAborted"]
    aborted = next(ex for ex in item.exceptions if isinstance(ex, PipeConnectionAborted))
    assert OWN_FAILURE in aborted.reason


@pytest.mark.parametrize("letters", ["PPP", "TPT"])
def test_a_death_in_the_middle_reaches_both_ends(processes, letters):
    """As a failure does."""
    pipeline = processes(*chain(letters, work.produce_for_ever, work.die, work.consume))
    for item in results(pipeline, [Item() for _ in range(5)]):
        assert _failures(item)[0] is PipelineWorkerDied
        assert sorted(_names(item)[1:]) == ["BrokenPipeError", "PipeConnectionAborted"]


@pytest.mark.parametrize("letters", PAIRS)
@pytest.mark.parametrize("failing", [0, 1], ids=["producer", "consumer"])
def test_the_failure_that_came_first_stands_first(runner, letters, failing):
    """Whichever stage's answer is heard first."""
    works = [[work.fail, work.consume], [work.produce_for_ever, work.fail_after_reading]][failing]
    pipeline = runner(*chain(letters, *works), max_simultaneous_work_items=2)
    items = results(pipeline, [_item(letters) for _ in range(25)])
    other = [PipeConnectionAborted, BrokenPipeError][failing]
    assert [_failures(item) for item in items] == [[ValueError, other]] * 25


@pytest.mark.parametrize("letters", ["PP", "PT", "TP"])
def test_a_death_that_came_first_stands_first(processes, letters):
    """Though the survivor's answer is heard before it."""
    dies_first = letters[0] == "P"
    works = [work.die, work.consume] if dies_first else [work.produce_for_ever, work.die]
    pipeline = processes(*chain(letters, *works), max_simultaneous_work_items=2)
    items = results(pipeline, [Item() for _ in range(10)])
    other = PipeConnectionAborted if dies_first else BrokenPipeError
    assert [_failures(item) for item in items] == [[PipelineWorkerDied, other]] * 10


@pytest.mark.parametrize("letters", PAIRS)
def test_data_to_a_reader_that_has_gone_is_an_error(runner, letters):
    """A clear one; the reader itself has not failed."""
    item = _item(letters)
    results(runner(*chain(letters, work.write_to_nobody, work.ignore_the_pipe)), [item])
    assert _failures(item) == [BrokenPipeError]
    assert "reader" in str(item.exceptions[0])


@pytest.mark.parametrize("letters", PAIRS)
@pytest.mark.parametrize("says_so", [True, False], ids=["write_eof", "by the verdict"])
def test_the_end_to_a_reader_that_has_gone_is_none(runner, letters, says_so):
    """Nothing was lost: the reader wanted no more."""
    item = _item(letters, says_so)
    results(runner(*chain(letters, work.end_to_nobody, work.ignore_the_pipe)), [item])
    assert item.exceptions is None


@pytest.mark.parametrize("letters", ["PPP", "TTT", "PTP", "ppp"])
def test_a_failed_chain_costs_its_item_alone(runner, letters):
    """Its neighbours in time succeed."""
    stages = chain(letters, work.produce, _fail_if_told, work.consume)
    items = [_item(letters, b"bad" if n % 4 == 1 else b"good %d" % n) for n in range(20)]
    results(runner(*stages, max_simultaneous_work_items=2), items)
    for n, item in enumerate(items):
        if n % 4 == 1:
            assert _failures(item)[0] is ValueError
        else:
            assert (item.exceptions, item.user_obj) == (None, b"good %d" % n)


def _fail_if_told(item):
    if item.user_obj == b"bad":
        return work.fail(item)
    return work.produce(work.consume(item))


# -- survivors

GRACE_S = 0.3
# The grace, and what a loaded machine needs to act on it.
SOON_S = GRACE_S + 5.0


@pytest.mark.parametrize("letters", ["PP", "PT", "TP", "TT"])
def test_survivors_end_though_a_child_of_the_stage_holds_the_pipe(processes, gate, letters):
    """Within grace_s: a thread's waiting is ended, a worker is killed and replaced; the next item succeeds."""
    failing = chain(letters, work.leave_the_end_to_a_child, _consume_bare)
    pipeline = processes(*failing, process_stage(), grace_s=GRACE_S)
    item = _item(letters, gate=gate.path)
    start = time.monotonic()
    results(pipeline, [item])
    assert time.monotonic() - start < SOON_S
    survivor = PipelineWorkerDied if letters[1] == "P" else PipeConnectionAborted
    assert _failures(item) == [ValueError, survivor]
    if survivor is PipelineWorkerDied:
        assert "another stage of its chain had failed" in str(item.exceptions[1])
    for stage in pipeline._stages[:2]:
        stage.fn_determiner = _declines
    assert results(pipeline, [Item()])[0].exceptions is None


def _consume_bare(item):
    item.pipe_in.recv_bytes()
    return item


def _declines(item):
    return False


@pytest.mark.parametrize("failing", [0, 1], ids=["producer", "consumer"])
@pytest.mark.parametrize("letters", ["PP", "pp"])
def test_a_survivor_that_does_not_look_at_its_pipe_is_ended_too(processes, gate, letters, failing):
    """What it waits for nobody knows; grace_s is all it gets."""
    works = [[work.fail, work.wait_for_ever], [work.produce_then_wait_for_ever, work.fail]][failing]
    pipeline = processes(*chain(letters, *works), grace_s=GRACE_S)
    start = time.monotonic()
    (item,) = results(pipeline, [_item(letters, gate=gate.path)])
    assert time.monotonic() - start < SOON_S
    assert _failures(item) == [ValueError, PipelineWorkerDied]


def test_a_timeout_after_the_first_failure_is_not_the_first(processes, gate):
    """The survivor's time limit may come before the grace is over."""
    stages = chain("PP", work.wait_for_ever, work.fail)
    # Long enough for the other to fail first on a loaded machine.
    stages[0].timeout = 1.0
    (item,) = results(processes(*stages, grace_s=10 * SOON_S), [_item("PP", gate=gate.path)])
    assert _failures(item) == [ValueError, PipelineStageTimeout]


def test_a_timeout_in_a_chain_reaches_the_others(processes, gate):
    """It is the cause of their failures."""
    stages = chain("PPP", work.produce_for_ever, work.wait_for_ever, work.consume)
    stages[1].timeout = GRACE_S
    (item,) = results(processes(*stages), [_item("PPP", gate=gate.path)])
    assert _failures(item)[0] is PipelineStageTimeout
    assert sorted(_names(item)[1:]) == ["BrokenPipeError", "PipeConnectionAborted"]
