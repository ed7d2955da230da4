"""The numbers of the command line, and what they mean for the stages."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mpp_stages.byte_stage import ByteStage

from mpp_cli.errors import UsageProblem
from mpp_cli.limits import Limits, apply_to_stages, jobs_within, read_limits


def options(**given):
    names = ("jobs", "size_hint", "retries", "timeout", "max_memory")
    return SimpleNamespace(**(dict.fromkeys(names) | given))


class Hungry(ByteStage):
    name = "hungry"

    def memory_bytes(self):
        return 100 << 20


class OnThread(ByteStage):
    name = "threaded"
    run_in = "thread"


def test_numbers_are_read():
    """Sizes as people write them, seconds with or without their letter."""
    found = read_limits(options(jobs="3", retries="0", timeout="1.5s", max_memory="2G"))
    assert found == Limits(jobs=3, retries=0, timeout_s=1.5, max_memory=2 << 30)


@pytest.mark.parametrize(
    ("option", "text"),
    [("jobs", "0"), ("retries", "-1"), ("timeout", "0"), ("timeout", "soon"), ("timeout", "inf"), ("max_memory", "x")],
)
def test_what_is_no_number_is_refused_by_name(option, text):
    """Before anything is started."""
    with pytest.raises(UsageProblem, match=f"--{option.replace('_', '-')}: '{text}'"):
        read_limits(options(**{option: text}))


def test_a_stage_keeps_limits_of_its_own():
    """Those of the command line are for all others."""
    own, other = Hungry(), Hungry()
    own.timeout, own.retries = 5, 2
    apply_to_stages(Limits(timeout_s=1.0, retries=3), [own, other])
    assert (own.timeout, own.retries, other.timeout, other.retries) == (5, 2, 1.0, 3)


def test_a_time_limit_for_a_thread_is_refused():
    """A thread cannot be ended."""
    with pytest.raises(UsageProblem, match="stage 'threaded' runs in a thread"):
        apply_to_stages(Limits(timeout_s=1.0), [OnThread()])


@pytest.mark.parametrize(("max_memory", "jobs"), [(None, 8), (10 << 30, 8), (450 << 20, 4), (100 << 20, 1)])
def test_fewer_items_at_once_where_memory_is_short(max_memory, jobs):
    """As many as stay below it by what the stages declare."""
    assert jobs_within(Limits(max_memory=max_memory), 8, [Hungry(), OnThread()]) == jobs


def test_an_item_that_needs_more_alone_is_an_error_that_says_so():
    """With what is needed, where, and what is allowed."""
    with pytest.raises(UsageProblem, match=r"alone may take 200 MiB, .* in stage 'hungry', and 150 MiB are"):
        jobs_within(Limits(max_memory=150 << 20), 8, [_twice(Hungry()), OnThread()])


def test_two_stages_of_one_name_need_what_both_need():
    """As two compressors in a row do."""
    assert jobs_within(Limits(max_memory=450 << 20), 8, [Hungry(), Hungry()]) == 2


def _twice(stage):
    stage.memory_bytes = lambda: 200 << 20
    return stage
