"""What is said where a TOML stage list is wrong: each fault with its line, all of them at once."""

from __future__ import annotations

import json
import tempfile
import tomllib
from pathlib import Path

import pytest
from cli_tools import lines_of, mpp
from hypothesis import given, settings
from hypothesis import strategies as st
from user_stages import STAGES

from mpp_cli.building import build
from mpp_cli.definition import load_definition
from mpp_cli.errors import UsageProblem
from mpp_cli.plan import plan_lines
from mpp_cli.plan_json import plan_json
from mpp_cli.toml_definition import document_of_tables


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a user's stages, as the current one."""
    (tmp_path / "mine.py").write_text(STAGES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def faults_of(folder, text: str | bytes) -> list[str]:
    """The lines that are shown for a TOML file; empty where it is right."""
    (folder / "p.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        load_definition("p.toml")
    except UsageProblem as ex:
        return list(ex.lines)
    return []


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (
            '[[stage]]\nuse = "zstd"\nlevle = 3',
            ["p.toml:3: stage 'zstd': 'levle' is not an option (did you mean 'level'?)"],
        ),
        (
            '[[stage]]\nuse = "zstd"\n\nxyz = 3',
            [
                "p.toml:4: stage 'zstd': 'xyz' is not an option; "
                "its options are checksum, level, long, roundtrip, threads"
            ],
        ),
        (
            '[[stage]]\nuse = "zstd"\nlevel = "9"',
            ["p.toml:3: stage 'zstd': 'level' must be a whole number from 1 to 22, not '9'"],
        ),
        (
            '[[stage]]\nuse = "zstd"\nlevel = true',
            ["p.toml:3: stage 'zstd': 'level' must be a whole number from 1 to 22, not true"],
        ),
        (
            '[[stage]]\nuse = "zstd"\nlevel = 1.5',
            ["p.toml:3: stage 'zstd': 'level' must be a whole number from 1 to 22, not 1.5"],
        ),
        ('[[stage]]\nuse = "zstd"\nlevel = 99', ["p.toml:3: stage 'zstd': level must be between 1 and 22, not 99"]),
        ('[[stage]]\nuse = "zstd"\nchecksum = 1', ["p.toml:3: stage 'zstd': 'checksum' must be true or false, not 1"]),
        ('[[stage]]\nuse = "zst"', ["p.toml:2: stage 'zst': there is no stage 'zst' (did you mean 'zstd'?)"]),
        ('[[stage]]\nuse = 3', ["p.toml:2: stage number 1: 'use' must be a stage's name, 'module:object' or "]),
        ('[[stage]]\nname = "x"', ["p.toml:1: stage 'x': 'use' is missing; it says which stage this is"]),
        ("", ["p.toml:1: it has no stages; each begins with [[stage]]"]),
        ('\n[stage]\nuse = "zstd"', ["p.toml:2: each stage begins with [[stage]], in double brackets"]),
        ("stage = [3]", ["p.toml:1: stage number 1 must be a table, not 3"]),
        (
            'nmae = "x"\n[[stage]]\nuse = "zstd"',
            ["p.toml:1: 'nmae' is not a key of a pipeline (did you mean 'name'?)"],
        ),
        ('name = 3\n[[stage]]\nuse = "zstd"', ["p.toml:1: 'name' must be text, not 3"]),
        ('[[stage]]\nuse = "zstd"\nlevel = = 3', ["p.toml:3: Invalid value"]),
        ('[[stage]]\nuse = "zstd"\nuse = "x"', ["p.toml:3: this key is there twice"]),
        (b"\xef\xbb\xbf[stage]", ["p.toml:1: each stage begins with [[stage]], in double brackets"]),
        ("[[stage", ["p.toml:1: Expected ']]' at the end of an array declaration"]),
        (b"\xff", ["p.toml:1: a byte that is not UTF-8"]),
        (b"# \n# \xc3\xbc\n'\xff'", ["p.toml:3: a byte that is not UTF-8"]),
        ("a = " + "[" * 5000 + "]" * 5000, ["p.toml:1: nested too deeply"]),
        (
            '[[stage]]\nuse = "zstd"\nrun_in = "here"\ntimeout = 0\nretries = -1',
            [
                "p.toml:3: stage 'zstd': 'run_in' must be one of 'process', 'thread', not 'here'",
                "p.toml:4: stage 'zstd': 'timeout' must be a number of seconds, above 0 and up to 1000000000, not 0",
                "p.toml:5: stage 'zstd': 'retries' must be a whole number from 0 to 1000000, not -1",
            ],
        ),
        (
            '[[stage]]\nuse = "zstd"\nrun_in = "thread"\ntimeout = 5',
            ["p.toml:4: stage 'zstd': 'timeout' needs a stage that runs in a process"],
        ),
        (
            '[[stage]]\nuse = "./mine.py:Add"\ntext = "forbidden"\ntimes = 101\n',
            [
                "p.toml:3: stage './mine.py:Add': text must not be 'forbidden'",
                "p.toml:4: stage './mine.py:Add': times must be at most 100, not 101",
            ],
        ),
        (
            '[[stage]]\nname = "add"\nuse = "./mine.py:Add"\nmode = "fsat"\nshare = "half"\nwords = ["a", 3]',
            [
                "p.toml:1: stage 'add': the option 'text' (text) is missing",
                "p.toml:4: stage 'add': 'mode' must be one of 'fast', 'slow', not 'fsat'",
                "p.toml:5: stage 'add': 'share' must be a number, not 'half'",
                "p.toml:6: stage 'add': 'words' must be a list (text each), and number 2 is 3",
            ],
        ),
        (
            '[[stage]]\nuse = "./mine.py:Add"\ntext = "a"\ntimes = 101\nmode = 3\nother = 1',
            [
                "p.toml:4: stage './mine.py:Add': times must be at most 100, not 101",
                "p.toml:5: stage './mine.py:Add': 'mode' must be one of 'fast', 'slow', not 3",
                "p.toml:6: stage './mine.py:Add': 'other' is not an option; its options are mode, share, text, times",
            ],
        ),
        (  # what it misses without the wrong option, or with another one alone, is no fault of its own
            '[[stage]]\nuse = "encrypt"\npassphrase_file = "none"\nwork_factor = 2',
            [
                "p.toml:3: stage 'encrypt': passphrase_file: there is no file of that name; the option takes a file's "
                "path, not a secret"
            ],
        ),
        (
            '[[stage]]\nuse = "encrypt"\nrecipients = 3',
            ["p.toml:3: stage 'encrypt': 'recipients' must be a list (text each), not 3"],
        ),
        (
            '[[stage]]\nuse = "encrypt"\nwork_factor = 2',
            ["p.toml:1: stage 'encrypt': give it either recipients (or recipients_file) or a passphrase_file"],
        ),
        (
            '[[stage]]\nuse = "./mine.py:Ad"',
            ["p.toml:2: stage './mine.py:Ad': './mine.py' has no 'Ad' (did you mean 'Add'?)"],
        ),
        (
            '[[stage]]\nuse = "./mine.py:number"',
            ["p.toml:2: stage './mine.py:number': './mine.py:number' is int, not a stage"],
        ),
        (
            '[[stage]]\nuse = "./mine.py:Plain"\nx = 1',
            ["p.toml:3: stage './mine.py:Plain': 'x' is not an option; it has none"],
        ),
        (
            '[[stage]]\nuse = "./mine.py:Anything"\nx = 1\nbad = 2',
            ["p.toml:4: stage './mine.py:Anything': 'bad'"],
        ),
        (
            '[[stage]]\nuse = "./mien.py:Add"',
            ["p.toml:2: stage './mien.py:Add': there is no file './mien.py' (did you mean 'mine.py'?)"],
        ),
        (
            '[[stage]]\nuse = "./mine.py:ready"\ntimes = 1',
            ["p.toml:3: stage './mine.py:ready': 'times' is not an option; it has none"],
        ),
        (
            '[[stage]]\nuse = "no.such:Stage"',
            ["p.toml:2: stage 'no.such:Stage': there is no module 'no'"],
        ),
    ],
)  # fmt: skip
def test_a_fault_has_its_line_and_the_nearest_name(folder, text, faults):
    """file:line: stage 'x': what is wrong, what would be right; a class that fails is asked option by option."""
    found = faults_of(folder, text)
    assert [line[: len(start)] for line, start in zip(found, faults, strict=True)] == faults


def test_all_faults_of_a_file_come_at_once(folder):
    """In the order of their lines, from every stage."""
    text = """
nam = 1
[[stage]]
use = "zstd"
levle = 9
threads = "all"

[[stage]]
use = "sha265"

[[stage]]
use = "write"
suffix = 3
"""
    found = faults_of(folder, text)
    assert [line.split(":")[1] for line in found] == ["2", "5", "6", "9", "13"]
    (folder / "p.toml").write_text(text)
    done = mpp("run", "p.toml", cwd=folder)
    assert (done.returncode, done.stdout, lines_of(done)) == (2, b"", found)


def test_the_same_fault_of_two_stages_has_two_lines(folder):
    """Each stage is told apart by where it stands."""
    text = '[[stage]]\nuse = "zstd"\nx = 1\n[[stage]]\nuse = "zstd"\nx = 1\n'
    assert [line.split(":")[1] for line in faults_of(folder, text)] == ["3", "6"]


TOML_VALUES = st.sampled_from(
    ['"zstd"', '"write"', '"./mine.py:Add"', '"x:y"', '""', "3", "-1", "1.5", "nan", "true", "[]", '["a"]', "{a = 1}"]
)
TOML_KEYS = st.sampled_from(
    ["use", "name", "run_in", "timeout", "retries", "level", "threads", "suffix", "text", "times", "stage", '""', "é"]
)
TOML_LINES = st.one_of(
    st.builds("{} = {}".format, TOML_KEYS, TOML_VALUES),
    st.sampled_from(["[[stage]]", "[stage]", "[[stage.x]]", "", "# x", "'''", "stage = [", "]"]),
    st.text(max_size=10),
)


def check_verdict(data: bytes) -> None:
    """Load a file of these bytes: a plan that can be shown, or lines that name their place; nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.toml"
        (Path(folder) / "mine.py").write_text(STAGES)
        path.write_bytes(data)
        try:
            definition = load_definition(str(path))
        except UsageProblem as ex:
            faults = ex.lines
        else:
            assert tomllib.loads(data.decode())["stage"]
            assert all("\n" not in line for line in plan_lines(definition))
            assert json.loads(plan_json(definition))["ok"]
            return
    assert faults
    for line in faults:
        assert line.startswith(f"{path}:")
        assert line.removeprefix(f"{path}:").partition(":")[0].isdecimal()
        assert "\n" not in line


@settings(max_examples=200, deadline=None)
@given(st.lists(TOML_LINES, max_size=10).map("\n".join))
def test_no_toml_makes_a_traceback(text):
    """Whatever lines the file has, it is a pipeline or its faults are named with their lines."""
    check_verdict(text.encode("utf-8", "surrogatepass"))


VALID = """\
name = "nightly" # a comment
[[stage]]
use = "./mine.py:Add"
text = "${HOME}"
words = ["a", 'b']
share = 0.5
timeout = 3
[[stage]]
use = "zstd"
level = 0x13
run_in = "thread"
[[stage]]
use = "./mine.py:Anything"
when = 1979-05-27T07:32:00Z
nested = {a = [1, {b = inf}], "c d" = \'\'\'e\'\'\'}
[[stage]]
use = "write"
suffix = ".x"
"""
TOKENS = [
    "[",
    "]",
    "{",
    "}",
    "=",
    '"',
    "'",
    "\n",
    "\r\n",
    "${",
    "}",
    "use",
    "stage",
    ".",
    ",",
    "9" * 400,
    "0x" + "f" * 5000,
]
TOKENS += ["-", "nan", "\0", "\\", "é", "\x7f", "#", "name", "true", "[[stage]]", "write", "unzstd"]


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """A right file with a few places of it cut out, doubled, moved or replaced."""
    text = VALID
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 30)))
        text = (
            text[:start] + draw(st.sampled_from(["", text[start:end] * 2, *TOKENS]) | st.text(max_size=4)) + text[end:]
        )
    return text


@settings(max_examples=200, deadline=None)
@given(mutations())
def test_no_mutation_of_a_right_file_makes_a_traceback(text):
    """However little is wrong with it, or how much."""
    check_verdict(text.encode("utf-8", "surrogatepass"))


VALUES = st.recursive(
    st.integers() | st.booleans() | st.floats() | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
USES = st.sampled_from(
    ["zstd", "write", "unzstd", "./mine.py:Add", "./mine.py:ready", "./mine.py:no_stage", "os:getcwd", "x"]
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["name", "stage", "x"]), VALUES, max_size=2),
    st.lists(
        st.tuples(
            USES | VALUES,
            st.dictionaries(
                st.sampled_from(["name", "level", "text", "run_in", "timeout", "retries", "é", ""]), VALUES, max_size=3
            ),
        ),
        max_size=3,
    ),
)
def test_no_document_makes_a_traceback(top, stages):
    """Whatever values stand in it, of whatever types, in any depth."""
    document = {"stage": [{"use": use, **options} for use, options in stages], **top}
    try:
        build(document_of_tables("p.toml", document, {}))
    except UsageProblem as ex:
        faults = list(ex.lines)
    else:
        return
    assert faults
    assert [line for line in faults if not line.startswith("p.toml:1: ") or "\n" in line] == []


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ("builtins:exit", "None"),
        ("os:getpid", "it gives int, not a stage"),
        ("mpp_stages.file_item:FileItem", "'mpp_stages.file_item:FileItem' is a class, but not one of stages"),
        ("atbu.mp_pipeline.stage:PipelineStage", "it cannot be used: NotImplementedError: is_subprocess is not"),
        ("mpp_cli.user_files.x_zz:y", "module 'mpp_cli.user_files.x_zz' failed to load: ValueError: "),
        ("a\\u0000b.py:x", "there is no file 'a\\x00b.py'"),
        ("json:__name__", "'json:__name__' is str, not a stage"),
    ],
)
def test_no_object_makes_a_traceback(folder, use, words):
    """Whatever ``use`` leads to: it is a stage, or it is said that it is none, even if it ends the program."""
    found = faults_of(folder, f'[[stage]]\nuse = "{use}"\n')
    assert [line for line in found if f": {words}" in line], found


def test_the_annotations_of_a_function_for_lines_hold(tmp_path, monkeypatch):
    """As those of a filter do: a wrong type is a fault, a word is read for what is wanted, a text stays text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.py").write_text(
        "from mpp_stages.byte_stage import line_filter\n\n\n"
        "def number(line, start: int, word='x'):\n    return line\n\n\n"
        "@line_filter\ndef keep(line, least: float = 1.0):\n    return line\n"
    )
    (planned, _) = load_definition("lines function=./f.py:number start=3 word=404").planned
    assert planned.stage.options == {"start": 3, "word": "404"}
    with pytest.raises(UsageProblem) as caught:
        load_definition("lines function=./f.py:number start=x | lines function=./f.py:keep least=much")
    assert list(caught.value.lines) == [
        "pipeline:1:30: stage 'lines': 'start' must be a whole number, not 'x'",
        "pipeline:1:67: stage 'lines': 'least' must be a number, not 'much'",
    ]
