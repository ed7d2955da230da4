"""Pipelines written as one text on the command line: what the text means, and what is said where it is wrong."""

from __future__ import annotations

import datetime
import json
import tempfile
from pathlib import Path

import pytest
from cli_tools import lines_of, mpp, unpacked
from hypothesis import given, settings
from hypothesis import strategies as st
from user_stages import STAGES

from mpp_cli.definition import load_definition
from mpp_cli.errors import UsageProblem
from mpp_cli.inline_definition import is_inline


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a user's stages, as the current one."""
    (tmp_path / "mine.py").write_text(STAGES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def meaning(pipeline: str) -> list[tuple[str, dict]]:
    """Each stage that a definition names, with the options that it gives."""
    planned = load_definition(pipeline).planned
    return [(stage.use, dict(stage.options)) for stage in planned if not stage.is_appended]


def faults_of(pipeline: str) -> list[str]:
    """The lines that are shown for it; empty where it is right."""
    try:
        load_definition(pipeline)
    except UsageProblem as ex:
        return list(ex.lines)
    return []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("zstd level=9 | write", [("zstd", {"level": 9}), ("write", {})]),
        ("zstd level=9|write", [("zstd", {"level": 9}), ("write", {})]),
        ("\n zstd\n  level=9\n| write ", [("zstd", {"level": 9}), ("write", {})]),
        ("write suffix=.zst sync=true", [("write", {"suffix": ".zst", "sync": True})]),
        ("write suffix='.a b|c'", [("write", {"suffix": ".a b|c"})]),
        (r'write suffix="\".\u00e9"', [("write", {"suffix": '".é'})]),
        ("write suffix=1", [("write", {"suffix": "1"})]),
        ("write suffix=a=b", [("write", {"suffix": "a=b"})]),
        ("'zstd' | write sync=false", [("zstd", {}), ("write", {"sync": False})]),
        ("./mine.py:Add text=9 times=2", [("./mine.py:Add", {"text": "9", "times": 2})]),
        ("./mine.py:Add text=x share=1", [("./mine.py:Add", {"text": "x", "share": 1})]),
        ("./mine.py:Add text=x words=['a b', \"]|\", '''c''']",
         [("./mine.py:Add", {"text": "x", "words": ["a b", "]|", "c"]})]),
        ("./mine.py:Anything a=1 b=x c={d = [1, {e = '}'}]} f=1979-05-27",
         [("./mine.py:Anything", {"a": 1, "b": "x", "c": {"d": [1, {"e": "}"}]}, "f": datetime.date(1979, 5, 27)})]),
    ],
)  # fmt: skip
def test_a_text_means_its_stages(folder, text, expected):
    """Values are TOML's; a bare word is what its option takes."""
    assert meaning(text) == expected


VALUES = st.recursive(
    st.integers(-99, 99)
    | st.booleans()
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)
TABLES = st.fixed_dictionaries(
    {"use": st.just("./mine.py:Anything")},
    optional={"a": VALUES, "b": VALUES, "run_in": st.sampled_from(["process", "thread"]), "name": st.just("n")},
)


def as_toml(value) -> str:
    """A value in the notation that TOML and inline texts share."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {as_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@settings(max_examples=60, deadline=None)
@given(st.lists(TABLES, min_size=1, max_size=3))
def test_the_same_pipeline_as_text_and_as_toml_is_the_same(tables):
    """Whatever its options are: same stages, same values, same names."""
    text = " | ".join(
        " ".join([table["use"], *(f"{key}={as_toml(value)}" for key, value in table.items() if key != "use")])
        for table in tables
    )
    toml = "".join(
        "[[stage]]\n" + "".join(f"{key} = {as_toml(value)}\n" for key, value in table.items()) for table in tables
    )
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.chdir(name)
        Path("mine.py").write_text(STAGES)
        Path("p.toml").write_text(toml)
        inline, from_file = load_definition(f" {text} | write").planned, load_definition("p.toml").planned
    for ours, theirs in zip(inline, from_file, strict=True):
        assert (ours.use, ours.options, ours.label) == (theirs.use, theirs.options, theirs.label)
        assert ours.stage.is_subprocess == theirs.stage.is_subprocess


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("zstd levle=3 | wirte",
         ["pipeline:1:6: stage 'zstd': 'levle' is not an option (did you mean 'level'?)",
          "pipeline:1:16: stage 'wirte': there is no stage 'wirte' (did you mean 'write'?)"]),
        ("zstd\n| write\n  suffix=[3]", ["pipeline:3:3: stage 'write': 'suffix' must be text, not a list"]),
        ("zstd write",
         ["pipeline:1:6: stage 'zstd': 'write' is no option; options are written key=value, and a bar | stands between "
          "stages"]),
        ("zstd | | write |", ["pipeline:1:8: there is no stage here", "pipeline:1:17: there is no stage here"]),
        ("|", ["pipeline:1:1: there is no stage here", "pipeline:1:2: there is no stage here"]),
        ("zstd level=1 level=2", ["pipeline:1:14: stage 'zstd': 'level' is given twice"]),
        ("write suffix='x", ["pipeline:1:7: ' is not closed"]),
        ("write suffix=[1, {a = 2}", ["pipeline:1:7: [ is not closed"]),
        (
            "tee file={nam}",
            [
                "pipeline:1:5: {nam} is no value of TOML: Expected '=' after a key in a key/value pair; "
                'a text is written "{nam}"',
                "pipeline:1:5: stage 'tee': file: '{nam}' is no field; there are {name}, {stem}, {suffix}",
            ],
        ),
        ("write suffix=[1 2]", ["pipeline:1:7: [1 2] is no value of TOML: Unclosed array"]),
        ("write suffix=a'b'",
         ["pipeline:1:7: a quote inside a word, or a word right behind a value, at 'a''; put the whole value in "]),
        ("write suffix='a'b",
         ["pipeline:1:7: a quote inside a word, or a word right behind a value, at ''a'b'; "
          "put the whole value in quotes"]),
        ("exec argv=jq", ["pipeline:1:6: stage 'exec': 'argv' must be a list (text each), not 'jq'; "
                          'a list of it is written ["jq"]']),
        ("level=9 | write", ["pipeline:1:1: stage 'level=9': there is no stage 'level=9'; there are "]),
    ],
)  # fmt: skip
def test_a_fault_has_its_column(text, faults):
    """In the words that a TOML gets, with line and column of the key."""
    found = faults_of(text)
    assert [line[: len(start)] for line, start in zip(found, faults, strict=True)] == faults


@pytest.mark.parametrize("text", ["zstd", "my file.toml", "./a b/c.toml", "module:object", "./my file.py:object", "x"])
def test_a_name_is_no_text(text):
    """What has neither a bar nor ``key=`` behind a blank names a pipeline, whether it is there or not."""
    assert not is_inline(text)


def test_the_form_alone_decides(folder):
    """A file of the same name is not looked for, and a file's name with blanks is a file's name."""
    (folder / "zstd level=9").write_text("raise SystemExit")
    (folder / "my file.toml").write_text('[[stage]]\nuse = "unzstd"\n')
    assert meaning("zstd level=9") == [("zstd", {"level": 9})]
    assert meaning("my file.toml") == [("unzstd", {})]
    assert faults_of("no file.toml") == ["no file.toml: No such file or directory (did you mean 'my file.toml'?)"]


def test_a_stage_s_name_alone_is_a_pipeline_of_that_stage():
    """Where no ready-made pipeline has the name."""
    assert meaning("write") == [("write", {})]


def test_a_word_is_text_where_the_default_is(folder):
    """So that a filter without annotations, as the docs show one, can look for a number; in TOML it is what it is."""
    (folder / "keep.py").write_text(
        "from mpp_stages.byte_stage import line_filter\n\n\n"
        "@line_filter\ndef keep(line, word='x', n=1):\n    return line\n\n\n"
        "def pipeline(word='x'):\n    return [keep(word=word)]\n"
    )
    assert meaning("./keep.py:keep word=404 n=2") == [("./keep.py:keep", {"word": "404", "n": 2})]
    (planned, _) = load_definition("./keep.py:pipeline", settings=["word=404"]).planned
    assert planned.stage.options == {"word": "404"}
    (folder / "p.toml").write_text('[[stage]]\nuse = "./keep.py:keep"\nword = 404\n')
    assert meaning("p.toml") == [("./keep.py:keep", {"word": 404})]


def test_a_text_runs(folder):
    """``mpp run 'zstd level=9 | write'`` does what the TOML does, with the same bytes."""
    (folder / "p.toml").write_text('[[stage]]\nuse = "./mine.py:Add"\ntext = "+"\n[[stage]]\nuse = "zstd"\nlevel = 9\n')
    texts = ["./mine.py:Add text=+ | zstd level=9 | write", "p.toml"]
    done = [mpp("run", "-q", text, data=b"data", cwd=folder) for text in texts]
    assert [each.returncode for each in done] == [0, 0], done
    assert done[0].stdout == done[1].stdout
    assert unpacked(done[0].stdout) == b"data+"


def test_a_wrong_text_starts_nothing(folder):
    """Exit 2 with all lines; the output is not made."""
    done = mpp("run", "zstd level=99 | wirte", "-o", "out", data=b"data", cwd=folder)
    assert (done.returncode, done.stdout) == (2, b"")
    assert [line[:13] for line in lines_of(done)] == ["pipeline:1:6:", "pipeline:1:17"]
    assert sorted(path.name for path in folder.iterdir()) == ["mine.py"]


PIECES = [
    "zstd",
    "write",
    "|",
    " ",
    "level",
    "=",
    "9",
    "'",
    '"',
    "[",
    "]",
    "{",
    "${",
    "}",
    "$$",
    "\\",
    "\n",
    "é",
    "''' ",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join))
def test_no_text_makes_a_traceback(text):
    """Whatever is written, it is a pipeline or its faults are named, each in one line."""
    for line in faults_of(f"zstd | {text}"):
        assert line.startswith("pipeline:")
        assert "\n" not in line
