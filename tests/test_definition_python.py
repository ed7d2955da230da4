"""Pipelines that Python code defines: what may stand in a list, arguments of functions, and code that fails."""

from __future__ import annotations

import pytest
from cli_tools import lines_of, mpp
from user_stages import STAGES

from mpp_cli.definition import load_definition
from mpp_cli.errors import UsageProblem

DEFINITIONS = """
from pathlib import Path
from mpp_stages.byte_stage import line_filter
from mpp_stages.definition import PipelineDefinition

@line_filter
def keep(line, word="a", times: int = 1):
    return line * times if word.encode() in line else None

slow = keep(word="b")
slow.timeout = 3

everything = [Add, ready, keep, slow, "zstd level=9 | unzstd", {"use": "write", "suffix": ".x"}]
named = PipelineDefinition("by name", [keep, "zstd"])

def made(level: int, word: str = "a", ratio: float = 1.0, where: Path | None = None, many: list[int] = ()):
    assert isinstance(where, (Path, type(None))) and isinstance(ratio, (int, float))
    return [keep(word=word), {"use": "zstd", "level": level}]

def yielded():
    yield "zstd"
    yield {"use": "unzstd", "long": 20}

def fails():
    import json
    return json.loads("{")

def fails_late():
    yield "zstd"
    raise SystemExit("late")

wrong = ["zstd levle=9", 3, {"use": "unzstd", "long": 99}, lambda line: line, None]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a user's definitions, as the current one."""
    (tmp_path / "mine.py").write_text(STAGES + DEFINITIONS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def faults_of(pipeline: str, *settings: str) -> list[str]:
    """The lines that are shown; empty where all is right."""
    try:
        load_definition(pipeline, None, settings)
    except UsageProblem as ex:
        return list(ex.lines)
    return []


def test_a_list_holds_stages_in_every_form(folder):
    """Classes, objects, filters with and without options, texts, mappings; settings reach what is not made yet."""
    definition = load_definition("./mine.py:everything", None, ["1.text=!", "3.times=2"])
    assert [planned.label for planned in definition.planned] == [
        "Add",
        "Add",
        "keep",
        "keep",
        "zstd",
        "unzstd",
        "write",
    ]
    assert [dict(planned.options) for planned in definition.planned] == [
        {"text": "!"}, {}, {"times": 2}, {}, {"level": 9}, {}, {"suffix": ".x"},
    ]  # fmt: skip
    assert definition.planned[3].stage.timeout == 3
    assert definition.planned[3].stage.options == {"word": "b"}


def test_a_definition_has_a_name(folder):
    """PipelineDefinition(name, stages)."""
    definition = load_definition("./mine.py:named")
    assert (definition.name, definition.origin) == ("by name", "./mine.py:named")
    assert [planned.label for planned in definition.planned] == ["keep", "zstd", "write"]


def test_a_function_s_arguments_are_set_from_outside(folder):
    """As what their annotations say; a stage's options by its name."""
    settings = ["level=9", "word=7", "ratio=2", "where=/tmp", "many=[1, 2]", "zstd.threads=2"]
    keep, zstd, _ = load_definition("./mine.py:made", None, settings).planned
    assert keep.stage.options == {"word": "7"}
    assert zstd.options == {"level": 9, "threads": 2}
    assert [planned.label for planned in load_definition("./mine.py:yielded").planned] == ["zstd", "unzstd", "write"]


@pytest.mark.parametrize(
    ("pipeline", "settings", "faults"),
    [
        ("made", [],
         ["'./mine.py:made': the argument 'level' (a whole number) is missing; give it with --set level=..."]),
        ("made", ["level=x", "wrod=b", "many=['a']"],
         ["--set level=x: 'level' must be a whole number, not 'x'",
          "--set wrod=b: './mine.py:made' has no argument 'wrod' (did you mean 'word'?)",
          "--set many=['a']: 'many' must be a list (a whole number each), and number 1 is 'a'"]),
        ("yielded", ["x=1"], ["--set x=1: './mine.py:yielded' has no argument 'x'; it takes none"]),
        ("wrong", [],
         ["'./mine.py:wrong': number 2 is a int, not a stage",
          "'./mine.py:wrong': number 4 is a function, not a stage; decorate it with @chunk_filter or @line_filter",
          "'./mine.py:wrong': number 5 is None, not a stage",
          "'./mine.py:wrong': stage 'zstd': 'levle' is not an option (did you mean 'level'?)",
          "'./mine.py:wrong': stage 'unzstd': long must be between 10 and 31, not 99"]),
        ("fails", [],
         ["'./mine.py:fails' raised JSONDecodeError: Expecting property name enclosed in double quotes: "
          "line 1 column 2 (char 1) (mine.py:{line})"]),
        ("fails_late", [], ["'./mine.py:fails_late' raised SystemExit: late (mine.py:{line})"]),
        ("Plain.x", [], ["'./mine.py' has no 'Plain.x'"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_python_code_is_told(folder, pipeline, settings, faults):
    """All of it at once; what raises has the user's own line, not that of a library that it called."""
    text = (folder / "mine.py").read_text().splitlines()
    mark = 'return json.loads("{")' if pipeline == "fails" else 'raise SystemExit("late")'
    (line,) = [number for number, each in enumerate(text, start=1) if each.strip() == mark]
    assert faults_of(f"./mine.py:{pipeline}", *settings) == [
        f"mpp: {fault}".replace("{line}", str(line)) for fault in faults
    ]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import json\njson.loads('')\n", "JSONDecodeError: Expecting value: line 1 column 1 (char 0) (broken.py:2)"),
        ("x = 1\ndef f(:\n", "SyntaxError: invalid syntax (broken.py:2)"),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module' (broken.py:1)"),
        ("raise SystemExit(3)\n", "SystemExit: 3 (broken.py:1)"),
    ],
)
def test_a_file_that_fails_to_load_is_shown_with_its_line(folder, code, words):
    """The file's own line, whatever it called."""
    (folder / "broken.py").write_text(code)
    assert faults_of("./broken.py:x") == [f"mpp: './broken.py' failed to load: {words}"]
    (folder / "p.toml").write_text('[[stage]]\nuse = "./broken.py:x"\n')
    assert faults_of("p.toml") == [f"p.toml:2: stage './broken.py:x': './broken.py' failed to load: {words}"]


def test_a_filter_s_options_are_set_in_a_toml_a_text_and_by_set(folder):
    """The three say the same; a run shows it."""
    (folder / "p.toml").write_text('[[stage]]\nuse = "./mine.py:keep"\nword = "b"\n')
    for args in (["p.toml"], ["./mine.py:keep word=b | write"], ["./mine.py:keep", "--set", "word=b"]):
        done = mpp("run", "-q", *args, data=b"a\nb\n", cwd=folder)
        assert (done.returncode, done.stdout) == (0, b"b\n"), lines_of(done)


def test_a_function_over_data_is_told_how_to_become_a_stage(tmp_path, monkeypatch):
    """As a pipeline and as a stage of one; a function that makes a pipeline has arguments."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.py").write_text("def drop(line, word='x'):\n    return line\n\n\ndef made(level: int): ...\n")
    for pipeline, is_told in [("./f.py:drop", True), ("./f.py:drop | write", True), ("./f.py:made", False)]:
        with pytest.raises(UsageProblem) as caught:
            load_definition(pipeline)
        assert len(caught.value.lines) == 1
        assert ("@line_filter" in caught.value.lines[0]) is is_told


def test_an_async_function_is_no_pipeline(tmp_path, monkeypatch):
    """One line, and no warning of Python's that it was not awaited."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.py").write_text("async def made():\n    return ['zstd']\n")
    with pytest.raises(UsageProblem) as caught:
        load_definition("./f.py:made")
    assert list(caught.value.lines) == ["mpp: './f.py:made' raised TypeError: an async function cannot make a pipeline"]
