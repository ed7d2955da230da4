"""Orders of stages that cannot work, told with the line of the stage and together with all other faults."""

from __future__ import annotations

import pytest

from mpp_cli.definition import load_definition
from mpp_cli.errors import UsageProblem
from mpp_cli.order import Placed, lacks_sink, order_faults


class Bytes:
    """Takes bytes and gives bytes."""

    needs_bytes = True
    is_sink = False


class Sink(Bytes):
    """Takes bytes."""

    is_sink = True


class Watches(Bytes):
    """Passes its bytes on."""

    is_pass_through = True


class Compares(Watches):
    """Passes them on and compares them with a file's."""

    needs_file_bytes = True


class Item:
    """Has to do with no bytes."""


SHAPES = {"b": Bytes, "s": Sink, "i": Item, "w": Watches, "v": Compares, "?": None}
TAKEN = "it needs bytes, and '{}' before it has taken them; put it before that"
NONE = "it needs bytes, and '{}' before it gives none; put it before that"
BETWEEN = (
    "it stands between stages that change the bytes, so no file has those that it sees; put it first, or last before "
    "'write'"
)
TWICE = "the output has been written by '{}' before; leave one of them out"
LOST = "it gives bytes, and '{}' after it takes none; put 'write' between them"


@pytest.mark.parametrize(
    ("order", "faults"),
    [
        ("b", []),
        ("bb", []),
        ("bs", []),
        ("s", []),
        ("bsii", []),
        ("bsb", [(2, TAKEN.format("1s"))]),
        ("bss", [(2, TWICE.format("1s"))]),
        ("sbs", [(1, TAKEN.format("0s")), (2, TWICE.format("0s"))]),
        ("bsib", [(3, TAKEN.format("1s"))]),
        ("bi", [(0, LOST.format("1i"))]),
        ("bbii", [(1, LOST.format("2i"))]),
        ("bis", [(0, LOST.format("1i"))]),
        ("ib", [(1, NONE.format("0i"))]),
        ("ibs", [(1, NONE.format("0i"))]),
        ("is", [(1, NONE.format("0i"))]),
        ("ii", [(None, "no stage of it writes anything")]),
        ("vbs", []),
        ("wvwbs", []),
        ("bvwsi", []),
        ("bv", []),
        ("bvbs", [(1, BETWEEN)]),
        ("bwvwvb", [(2, BETWEEN), (4, BETWEEN)]),
        ("bv?", []),
        ("?vb", []),
        ("bsv", [(2, TAKEN.format("1s"))]),
        ("?", []),
        ("i?", []),
        ("b?i", []),
        ("i?b", []),
        ("bs?b", [(3, TAKEN.format("1s"))]),
    ],
)
def test_an_order_that_cannot_work_is_told(order, faults):
    """Once for each stage that stands wrong; nothing is said of what a stage that is not known could be."""
    stages = [Placed(f"{number}{shape}", SHAPES[shape]) for number, shape in enumerate(order)]
    assert list(order_faults(stages)) == faults


@pytest.mark.parametrize(("order", "lacks"), [("", False), ("b", True), ("bs", False), ("bsi", False), ("b?", False)])
def test_a_sink_is_missing_where_the_last_stage_gives_bytes(order, lacks):
    """That is where 'write' is added."""
    assert lacks_sink([Placed(shape, SHAPES[shape]) for shape in order]) is lacks


def test_order_faults_come_with_all_others(tmp_path, monkeypatch):
    """Also of stages that could not be made; each has its stage's line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text(
        '[[stage]]\nuse = "write"\nsuffix = 3\n\n[[stage]]\nuse = "unzstd"\nlnog = 3\n[[stage]]\nuse = "wirte"\n'
        '[[stage]]\nname = "end"\nuse = "write"\n'
    )
    with pytest.raises(UsageProblem) as problem:
        load_definition("p.toml")
    assert list(problem.value.lines) == [
        "p.toml:3: stage 'write': 'suffix' must be text, not 3",
        "p.toml:5: stage 'unzstd': it needs bytes, and 'write' before it has taken them; put it before that",
        "p.toml:7: stage 'unzstd': 'lnog' is not an option (did you mean 'long'?)",
        "p.toml:9: stage 'wirte': there is no stage 'wirte' (did you mean 'write'?)",
        "p.toml:10: stage 'end': the output has been written by 'write' before; leave one of them out",
    ]


def test_the_sink_that_was_added_is_not_blamed():
    """Nobody has written it: what made it necessary is the fault."""
    with pytest.raises(UsageProblem) as caught:
        load_definition("zstd | write | gzip")
    assert str(caught.value).splitlines() == [
        "pipeline:1:16: stage 'gzip': it needs bytes, and 'write' before it has taken them; put it before that"
    ]
