"""The JSON Schema for editors and the made part of docs/pipelines.md: both are what the stages' signatures say."""

from __future__ import annotations

import functools
import json
import pathlib
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from cli_tools import environment, mpp
from hypothesis import given, settings
from hypothesis import strategies as st
from mpp_stages.builtin import PIPELINES, STAGES
from mpp_stages.checks import Between
from mpp_stages.options import describe_options

from mpp_cli.building import build
from mpp_cli.definition import load_definition
from mpp_cli.faults import DefinitionProblem
from mpp_cli.options import fits
from mpp_cli.reference import updated
from mpp_cli.resolve import find_stage
from mpp_cli.schema import schema, type_schema
from mpp_cli.toml_definition import document_of_tables

VALIDATOR = jsonschema.Draft7Validator(schema(sorted(STAGES)))
#: What a schema can judge; the rest is left to ``mpp check``.
KINDS = {"unknown", "type", "range", "missing", "stage"}
#: What else a stage with such an option has to be given.
NEEDED = {"lines": {"function": "operator:pos"}, "encrypt": {"passphrase_file": __file__}}


def test_it_is_a_schema():
    """Of draft 7, which taplo knows."""
    jsonschema.Draft7Validator.check_schema(VALIDATOR.schema)


@pytest.mark.parametrize("name", sorted(STAGES))
def test_it_has_every_default(name):
    """Lists too; nothing stands for what the stage decides itself."""
    branches = schema([name])["properties"]["stage"]["items"]["allOf"]
    branch = next(each["then"] for each in branches if "then" in each)
    for option in describe_options(find_stage(name, ".")):
        if not option.is_required and option.default is not None:
            default = list(option.default) if isinstance(option.default, tuple) else option.default
            assert branch["properties"][option.name]["default"] == default


def verdict_of_loader(data: dict[str, Any]) -> set[str]:
    """The kinds of faults that the loader finds in a document."""
    try:
        build(document_of_tables("p.toml", data, {}))
    except DefinitionProblem as ex:
        return {fault.kind for fault in ex.faults}
    return set()


@pytest.mark.parametrize(
    ("stages", "is_right"),
    [
        ([{"use": "zstd"}], True),
        ([{"use": "zstd", "level": 22, "name": "x", "run_in": "thread", "retries": 3}, {"use": "write"}], True),
        ([{"use": "zstd", "timeout": 0.5}], True),
        ([{"use": "lines", "function": "json:loads", "free": [1, {"x": True}]}], True),
        ([{"use": "lines"}], False),
        ([{"use": "zstd", "level": 23}], False),
        ([{"use": "zstd", "level": "9"}], False),
        ([{"use": "zstd", "level": True}], False),
        ([{"use": "zstd", "levle": 9}], False),
        ([{"use": "zst"}], False),
        ([{"use": 3}], False),
        ([{"level": 3}], False),
        ([{"use": "zstd", "timeout": 0}], False),
        ([{"use": "zstd", "retries": -1}], False),
        ([{"use": "zstd", "run_in": "here"}], False),
        ([{"use": "zstd", "name": ""}], False),
        ([{"use": "encrypt", "recipients": ["a", 3]}], False),
        ([], False),
        ([3], False),
    ],
)
def test_the_schema_and_the_loader_agree(stages, is_right):
    """On right files and on wrong ones."""
    data = {"stage": stages}
    assert VALIDATOR.is_valid(data) is is_right
    assert (not verdict_of_loader(data) & KINDS) is is_right


@pytest.mark.parametrize(
    "data", [{"nmae": "x"}, {"name": 3}, {"stage": {"use": "zstd"}}, {"name": "x"}, {"stage": "zstd"}], ids=str
)
def test_the_keys_of_a_pipeline_are_judged_alike(data):
    """Unknown, of the wrong type, missing."""
    data = {"stage": [{"use": "zstd"}], **data} if data != {"name": "x"} else data
    assert not VALIDATOR.is_valid(data)
    assert verdict_of_loader(data) & KINDS


OPTIONS = {name: [option.name for option in describe_options(find_stage(name, ""))] for name in STAGES}
#: Not 3.0, of which JSON does not know that TOML's is no whole number.
VALUES = (
    st.integers(-3, 70)
    | st.sampled_from([1.5, -0.5, True, False, "", "a", "9", "thread", "16M"])
    | st.lists(st.sampled_from([1, "a"]), max_size=2)
    | st.dictionaries(st.just("a"), st.sampled_from([1, "a"]), max_size=1)
)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """A stage's table: a stage that there is, with options that it has, and sometimes others."""
    use = draw(st.sampled_from([*sorted(STAGES), "nope", 3]))
    known = OPTIONS.get(use, ()) if isinstance(use, str) else ()
    keys = st.sampled_from([*known, "run_in", "timeout", "retries", "name", "other"])
    return {"use": use, **draw(st.dictionaries(keys, VALUES, max_size=3))}


@settings(max_examples=400, deadline=None)
@given(tables())
def test_the_schema_and_the_loader_agree_on_any_stage(table):
    """Every built-in stage, with values of every type."""
    data = {"stage": [table]}
    assert VALIDATOR.is_valid(data) == (not verdict_of_loader(data) & KINDS)


HINTS = [
    str, int, float, bool, list, dict, Any, list[str], Sequence[int], tuple[str, ...], dict[str, int],
    Mapping[str, Any], str | None, int | str, list[str] | str, Literal["a", "b"], Literal[1, "a"] | None,
    pathlib.Path, pathlib.Path | None, list[pathlib.Path], Annotated[int, "other"] | None, list[list[int]],
    dict[str, list[str]], str | Callable[[], int],
]  # fmt: skip


@pytest.mark.parametrize("hint", HINTS, ids=str)
@pytest.mark.parametrize(
    "value", [1, 1.5, True, "a", "x", [], ["a"], [1], [[1]], [["a"]], {}, {"a": 1}, {"a": "b"}, {"a": ["b"]}], ids=str
)
def test_a_type_means_the_same_to_both(hint, value):
    """Whatever a stage's signature may say."""
    assert jsonschema.Draft7Validator(type_schema(hint)).is_valid(value) == fits(value, hint)


def test_a_range_stands_in_the_schema():
    """As do the words of the docstring, and the default."""
    branches = VALIDATOR.schema["properties"]["stage"]["items"]["allOf"]
    (zstd,) = [each["then"] for each in branches[1:] if each["if"]["properties"]["use"]["const"] == "zstd"]
    level = zstd["properties"]["level"]
    assert (level["type"], level["minimum"], level["maximum"], level["default"]) == ("integer", 1, 22, 3)
    assert level["description"].startswith("From 1, the fastest, to 22")


def limited_options() -> list[tuple[str, str, Between]]:
    """Each option of a built-in stage that says its range."""
    found = []
    for name in sorted(STAGES):
        for option in describe_options(find_stage(name, "")):
            parts = [option.annotation, *typing.get_args(option.annotation)]
            found += [(name, option.name, limits) for part in parts for limits in getattr(part, "__metadata__", ())]
    return found


@pytest.mark.parametrize(("name", "option", "limits"), limited_options())
def test_a_stage_keeps_to_the_range_that_it_declares(name, option, limits):
    """Its class refuses what is outside, and not the limits themselves, for callers in Python."""
    stage = functools.partial(find_stage(name, ""), **NEEDED.get(name, {}))
    for right in (limits.low, limits.high):
        stage(**{option: right})
    for wrong in (limits.low - 1, limits.high + 1):
        with pytest.raises(ValueError, match="between"):
            stage(**{option: wrong})


def test_an_environment_variable_may_stand_for_a_choice():
    """An editor cannot know its value."""
    validator = jsonschema.Draft7Validator(type_schema(Literal["fast", "slow"]))
    assert [validator.is_valid(value) for value in ("fast", "${MODE}", "$MODE", "other")] == [True, True, False, False]


def test_mpp_schema_prints_it_with_plug_ins(tmp_path):
    """A plug-in's stage has its options; one that cannot be loaded takes any."""
    (tmp_path / "plug.py").write_text(
        "from mpp_stages.byte_stage import line_filter\n@line_filter\ndef keep(line, word: str):\n    return line\n"
    )
    dist = tmp_path / "plug-1.0.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (dist / "entry_points.txt").write_text("[mpp.stages]\nkeep = plug:keep\nbroken = nowhere:x\n")
    done = mpp("schema", env=environment(PYTHONPATH=str(tmp_path)))
    assert (done.returncode, done.stderr) == (0, b"")
    validator = jsonschema.Draft7Validator(json.loads(done.stdout))
    rights = [{"use": "keep", "word": "a"}, {"use": "broken", "x": 1}, {"use": "zstd"}, {"use": "a:b", "x": 1}]
    wrongs = [{"use": "keep"}, {"use": "keep", "word": 3}, {"use": "keep", "word": "a", "x": 1}, {"use": "other"}]
    assert all(validator.is_valid({"stage": [table]}) for table in rights)
    assert not any(validator.is_valid({"stage": [table]}) for table in wrongs)


def test_the_page_has_the_stages_as_they_are(checkout):
    """Made anew by ``python -m mpp_cli.reference docs/pipelines.md``."""
    page = (checkout / "docs/pipelines.md").read_text(encoding="utf-8")
    assert updated(page) == page
    assert updated(page.replace("### zstd", "### sztd")) == page


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_a_ready_made_pipeline_is_what_its_text_says(name):
    """The short way that it is built in gives what the long way does."""
    text = " | ".join(
        " ".join([use, *(f"{key}={json.dumps(value)}" for key, value in options.items())])
        for use, options in PIPELINES[name]
    )
    short, long = load_definition(name).planned, load_definition(f"{text} ").planned
    assert [(each.use, each.options, each.label) for each in short] == [
        (each.use, each.options, each.label) for each in long if not each.is_appended
    ]
    assert len(short) == len(long)
