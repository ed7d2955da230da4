"""Items that keep their failures, or pickle themselves, in ways of their own: they cost no other item."""

from __future__ import annotations

import pytest
from pipeline_stages import RUNNERS, Item, chain, closing_runner, fail, having, process_stage, results, thread_stage

from atbu.mp_pipeline.mp_pipeline import PipelineWorkItem


@pytest.fixture(params=RUNNERS)
def runner(request):
    with closing_runner(request.param) as runner:
        yield runner


class KeepsATuple(PipelineWorkItem):
    """Never changes the failures that it has given out."""

    def append_exception(self, ex):
        self.exceptions = (*(self.exceptions or ()), ex)


class Sealed(PipelineWorkItem):
    """Lets nobody set anything once a stage has ended."""

    is_sealed = False

    def __setattr__(self, name, value):
        if self.is_sealed:
            raise AttributeError(f"{name} cannot be set any more")
        super().__setattr__(name, value)

    def stage_complete(self, stage_num, wi, ex):
        super().stage_complete(stage_num, wi, ex)
        self.is_sealed = True


class Unreadable(PipelineWorkItem):
    """Its failures cannot be read."""

    @property
    def exceptions(self):
        raise LookupError("no failures here")


def fail_the_bad(item, **kwargs):
    return item if item.user_obj == "good" else fail(item)


STAGES = {
    "process": lambda work: [process_stage(work)],
    "thread": lambda work: [thread_stage(work)],
    "chain": lambda work: chain("PT", work, work),
    "with a limit": lambda work: [having(process_stage(work), retries=1)],
}


@pytest.mark.parametrize("make", [KeepsATuple, Sealed, Unreadable])
@pytest.mark.parametrize("kind", STAGES)
def test_an_item_with_failures_of_its_own_kind_costs_itself_alone(runner, kind, make):
    """It ends, failed where it can tell, and the pipeline goes on."""
    pipeline = runner(*STAGES[kind](fail_the_bad))
    bad, good = results(pipeline, [make("bad"), Item("good")])
    if make is not Unreadable:
        assert [str(ex) for ex in bad.exceptions][:1] == ["it was not to be"]
    assert good.exceptions is None
    assert results(pipeline, [Item("good")])[0].exceptions is None
    assert pipeline.anomalies == []


def set_failures(item, **kwargs):
    item.exceptions = item.user_obj
    return item


@pytest.mark.parametrize("kind", STAGES)
@pytest.mark.parametrize("failures", [True, 5, "text", ["text"], ("text",), {"a": 1}], ids=repr)
def test_what_a_stage_sets_in_place_of_failures_fails_its_item_alone(runner, kind, failures):
    """Whatever it is, if it is true."""
    pipeline = runner(*STAGES[kind](set_failures))
    bad, good = results(pipeline, [Item(failures), Item(None)])
    assert bad.is_failed
    assert good.exceptions is None
    assert pipeline.anomalies == []


class Changeling(PipelineWorkItem):
    """Is pickled as something else once a stage has had it."""

    becomes = None

    def __reduce__(self):
        if self.becomes is not None:
            return self.becomes, ()
        return _make_changeling, (self.__dict__,)


def _make_changeling(attributes):
    item = Changeling()
    item.__dict__.update(attributes)
    return item


def nothing():
    return None


def change(item, **kwargs):
    item.becomes = item.user_obj
    return item


@pytest.mark.parametrize("becomes", [dict, str, nothing])
@pytest.mark.parametrize("stages", [[process_stage(change)], chain("PP", change, change)], ids=["alone", "chain"])
def test_an_answer_that_is_unpickled_as_something_else_fails_its_item_alone(runner, stages, becomes):
    """By an error that says as what."""
    if len(stages) == 1:
        stages[0].retries = 1
    pipeline = runner(*stages)
    bad, good = results(pipeline, [Changeling(becomes), Item(None)])
    kind = type(becomes()).__name__
    assert all(f"its pickle is one of '{kind}', not of a PipelineWorkItem" in str(ex) for ex in bad.exceptions)
    assert len(bad.exceptions) == len(stages)
    assert good.exceptions is None
    assert pipeline.anomalies == []


class Slotted(PipelineWorkItem):
    """Has attributes that do not stand in its __dict__."""

    __slots__ = ("here", "there")

    def __init__(self):
        super().__init__()
        self.here = 1


def set_slots(item, **kwargs):
    item.here += 1
    item.there = "there"
    item.user_obj = item.here
    return item


@pytest.mark.parametrize("kind", STAGES)
def test_attributes_in_slots_belong_to_the_parent(runner, kind):
    """Stages get them; what a stage sets is not carried back, however it runs."""
    item = Slotted()
    stages = STAGES[kind](set_slots)
    results(runner(*stages), [item])
    assert item.exceptions is None
    assert (item.here, item.user_obj, hasattr(item, "there")) == (1, 2, False)
