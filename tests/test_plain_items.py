"""Packing items: what comes out is what pickle would have given, and what cannot be foreseen is left to pickle."""

from __future__ import annotations

import copyreg
import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline_harness import DEFAULT, SERIAL, pipeline_on, result

from atbu.mp_pipeline.descriptors import ItemPickler
from atbu.mp_pipeline.mp_pipeline import PipelineWorkItem, SubprocessPipelineStage
from atbu.mp_pipeline.plain_items import ItemUnpacker

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    # Names of files may hold lone surrogates.
    st.text(st.characters(exclude_categories=())),
    st.binary(),
)


class PlainItem(PipelineWorkItem):
    """Nothing of its own."""


class Number(int):
    """A number with a class of its own."""


class WithState(PipelineWorkItem):
    """Says what is pickled of it."""

    def __getstate__(self):
        return {"user_obj": "its state"}


class WithArguments(PipelineWorkItem):
    """Needs an argument to be made."""

    def __new__(cls, *args):
        return super().__new__(cls)


class WithSetState(PipelineWorkItem):
    """Wants to be told its state."""

    def __setstate__(self, state):
        self.__dict__.update(state, user_obj="told")


class WithReduce(PipelineWorkItem):
    """Says how it is made."""

    def __reduce__(self):
        return PlainItem, (1,)


class WithSlots(PipelineWorkItem):
    """Has something beside its dictionary."""

    __slots__ = ("beside",)


class Registered(PipelineWorkItem):
    """Has a reducer in copyreg."""


class TakesOver(PipelineWorkItem):
    """Has a stage_complete of its own."""

    def stage_complete(self, stage_num, wi, ex):
        self.seen = (stage_num, type(wi).__name__, wi.user_obj, wi.extra, ex)


class SetsOnlySome(PipelineWorkItem):
    """Refuses a payload that is negative."""

    def __setattr__(self, name, value):
        if name == "user_obj" and isinstance(value, int) and value < 0:
            raise ValueError("no negative payload")
        super().__setattr__(name, value)


def _pack(item):
    return ItemPickler().pack(item)


# An instance that has, say, a __getstate__ of its own is beyond what anybody does.
NAMES = st.text().filter(lambda name: not name.startswith("__"))


@given(st.dictionaries(NAMES, PLAIN))
def test_a_plain_item_comes_out_as_pickle_would_give_it(attributes):
    """Class, attributes, their order and their types."""
    item = PlainItem()
    item.__dict__.update(attributes)
    packed = _pack(item)
    assert packed is not None
    copies = ItemUnpacker().unpack(packed), pickle.loads(pickle.dumps(item))
    for copy in copies:
        assert type(copy) is PlainItem
        assert list(copy.__dict__.items()) == list(item.__dict__.items())
        assert list(map(type, copy.__dict__.values())) == list(map(type, item.__dict__.values()))


@pytest.mark.parametrize(
    "value", [[1], (1,), {"a": 1}, bytearray(b"x"), memoryview(b"x"), Number(1), sys, len, PlainItem, frozenset((1,))]
)
def test_an_item_with_anything_else_is_left_to_pickle(value):
    """Also what marshal would take, but make something else of."""
    assert _pack(PlainItem(value)) is None


def test_an_item_that_is_its_own_payload_is_left_to_pickle():
    """Its copy has to be its own payload too."""
    item = PlainItem()
    item.user_obj = item
    assert _pack(item) is None


@pytest.mark.parametrize("cls", [WithState, WithArguments, WithSetState, WithReduce, WithSlots])
def test_a_class_with_ways_of_its_own_is_left_to_pickle(cls):
    """Nothing that pickle would call is passed over."""
    assert _pack(cls(1)) is None


def test_a_class_that_cannot_be_pickled_is_left_to_pickle():
    """Which says why it cannot."""

    class Local(PipelineWorkItem):
        pass

    assert _pack(Local(1)) is None


def test_a_reducer_that_is_registered_later_counts():
    """Though the class has been looked at."""
    pickler = ItemPickler()
    assert pickler.pack(Registered(1)) is not None
    copyreg.pickle(Registered, lambda item: (PlainItem, (1,)))
    try:
        assert pickler.pack(Registered(1)) is None
    finally:
        del copyreg.dispatch_table[Registered]


def _add_one(item):
    item.user_obj += 1
    item.extra = f"extra {item.user_obj}"
    return item


def _always(item):
    return True


def _return_another_class(item):
    other = PlainItem(item.user_obj + 1)
    other.extra = "extra"
    return other


@pytest.mark.parametrize("runner", [DEFAULT, SERIAL])
@pytest.mark.parametrize("work", [_add_one, _return_another_class])
@pytest.mark.parametrize("auto_copy_attr", [True, False])
def test_what_a_stage_set_is_taken_over_however_it_travels(runner, work, auto_copy_attr):
    """A plain item, and beside it one that is pickled."""
    stage = SubprocessPipelineStage(fn_determiner=_always, fn_worker=work)
    with pipeline_on(runner, stages=[stage]) as pipeline:
        plain, pickled = PlainItem(1, auto_copy_attr=auto_copy_attr), PlainItem(1, auto_copy_attr=auto_copy_attr)
        pickled.extra_list = [1]
        for item in (plain, pickled):
            assert result(pipeline.submit(item)) is item
            assert (item.user_obj, item.exceptions) == (2, None)
            assert hasattr(item, "extra") is auto_copy_attr


@pytest.mark.parametrize("runner", [DEFAULT, SERIAL])
def test_a_stage_complete_of_its_own_gets_the_copy(runner):
    """An object of the item's class, with what the stage set."""
    stage = SubprocessPipelineStage(fn_determiner=_always, fn_worker=_add_one)
    with pipeline_on(runner, stages=[stage]) as pipeline:
        assert result(pipeline.submit(TakesOver(1))).seen == (0, "TakesOver", 2, "extra 2", None)


def _negate(item):
    item.__dict__["user_obj"] = -item.user_obj
    return item


def test_an_item_that_refuses_what_came_back_has_failed():
    """And no other."""
    stage = SubprocessPipelineStage(fn_determiner=_always, fn_worker=_negate)
    with pipeline_on(DEFAULT, stages=[stage]) as pipeline:
        bad, good = (result(pipeline.submit(SetsOnlySome(payload))) for payload in (1, 0))
    assert [str(ex) for ex in bad.exceptions] == ["no negative payload"]
    assert good.exceptions is None


def test_items_packed_together_are_what_each_is_alone():
    """Also those that cannot be packed, and a class that was never looked at is left to the long way."""
    pickler = ItemPickler()
    items = [PipelineWorkItem(1), PipelineWorkItem([2]), PipelineWorkItem("three")]
    assert pickler.pack_all(items) == [None, None, None]
    alone = [pickler.pack(item) for item in items]
    assert pickler.pack_all(items) == alone
    assert [data is None for data in alone] == [False, True, False]
