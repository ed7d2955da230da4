"""What a PIPELINE argument may be, and what is said where it is wrong (TOML files and Python objects)."""

from __future__ import annotations

import os
import tempfile
import tomllib
from pathlib import Path

import pytest
from cli_tools import environment, lines_of, mpp, unpacked
from hypothesis import given, settings
from hypothesis import strategies as st

from mpp_cli.definition import load_definition
from mpp_cli.errors import UsageProblem
from mpp_cli.toml_definition import load_toml

STAGES = '''\
"""Stages of a user's own."""
from typing import Literal
from mpp_stages.byte_stage import ByteStage

class Add(ByteStage):
    """Put some text behind the data.

    Args:
        text: What is put there,
            on as many lines as it takes.
        times: How often.
        mode: How.
        share: A part of one.
        words: Some words.
    """

    def __init__(
        self, text: str, times: int = 1, mode: Literal["fast", "slow"] = "fast", share: float | None = None,
        words: list[str] | None = None,
    ) -> None:
        super().__init__()
        if times > 100:
            raise ValueError(f"times must be at most 100, not {times}")
        if text == "forbidden":
            raise ValueError("text must not be 'forbidden'")
        self.text, self.times, self.mode, self.share, self.words = text, times, mode, share, words

    def run(self, reader, writer, item):
        writer.write(reader.read() + self.text.encode() * self.times)

class Plain(ByteStage):
    def run(self, reader, writer, item):
        writer.write(reader.read())

class Anything(Plain):
    def __init__(self, **options):
        super().__init__()
        if "bad" in options:
            raise KeyError("bad")

ready = Add("!", 2)
pipeline = [Add("a"), Add("b")]
def function(): return pipeline
def no_stage(): return 3
number = 3
'''


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
        load_toml("p.toml")
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
            ["p.toml:4: stage 'zstd': 'xyz' is not an option; its options are checksum, level, long, threads"],
        ),
        ('[[stage]]\nuse = "zstd"\nlevel = "9"', ["p.toml:3: stage 'zstd': 'level' must be a whole number, not '9'"]),
        ('[[stage]]\nuse = "zstd"\nlevel = true', ["p.toml:3: stage 'zstd': 'level' must be a whole number, not true"]),
        ('[[stage]]\nuse = "zstd"\nlevel = 1.5', ["p.toml:3: stage 'zstd': 'level' must be a whole number, not 1.5"]),
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
        ('[[stage]]\nuse = "zstd"\nuse = "x"', ["p.toml:3: Cannot overwrite a value"]),
        ("[[stage", ["p.toml:1: Expected ']]' at the end of an array declaration"]),
        (b"\xff", ["p.toml:1: a byte that is not UTF-8"]),
        (b"# \n# \xc3\xbc\n'\xff'", ["p.toml:3: a byte that is not UTF-8"]),
        ("a = " + "[" * 5000 + "]" * 5000, ["p.toml:1: nested too deeply"]),
        (
            '[[stage]]\nuse = "zstd"\nrun_in = "here"\ntimeout = 0\nretries = -1',
            [
                "p.toml:3: stage 'zstd': 'run_in' must be one of 'process', 'thread', not 'here'",
                "p.toml:4: stage 'zstd': 'timeout' must be a number of seconds above 0, not 0",
                "p.toml:5: stage 'zstd': 'retries' must be a whole number from 0 up, not -1",
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
                "p.toml:6: stage 'add': 'words' must be a list (text each), not a list",
            ],
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


def test_a_right_file_is_what_it_says(folder):
    """Names, options and reserved keys reach the stages."""
    (folder / "p.toml").write_text(
        'name = "mine"\n[[stage]]\nname = "first"\nuse = "./mine.py:Add"\ntext = "x"\nshare = 1\ntimeout = 2.5\n'
        'retries = 3\n[[stage]]\nuse = "zstd"\nlevel = 19\nrun_in = "thread"\n'
    )
    definition = load_definition("p.toml", None)
    first, second, sink = definition.stages
    assert (definition.name, definition.origin) == ("mine", "p.toml")
    assert (first.name, first.timeout, first.retries) == ("first", 2.5, 3)
    assert (first.text, first.times, first.share) == ("x", 1, 1)
    assert (second.level, second.is_subprocess) == (19, False)
    assert [planned.is_appended for planned in definition.planned] == [False, False, True]
    assert sink.is_sink


def test_a_ready_stage_may_stand_in_a_file_twice(folder):
    """Under two names it is two stages."""
    text = '[[stage]]\nuse="./mine.py:ready"\nname="one"\n[[stage]]\nuse="./mine.py:ready"\nname="two"\n'
    (folder / "p.toml").write_text(text)
    assert [stage.name for stage in load_toml("p.toml").stages] == ["one", "two"]


def test_a_file_of_stages_is_found_beside_the_toml(folder):
    """Not beside where the user happens to stand."""
    (folder / "elsewhere").mkdir()
    (folder / "p.toml").write_text('[[stage]]\nuse = "./mine.py:ready"\n')
    done = mpp("run", "-q", "../p.toml", data=b"x", cwd=folder / "elsewhere")
    assert (done.returncode, done.stdout) == (0, b"x!!"), done.stderr


@pytest.mark.parametrize(
    ("args", "output"),
    [
        (["./mine.py:pipeline"], b"xab"),
        (["./mine.py:function"], b"xab"),
        (["./mine.py:ready"], b"x!!"),
        (["./mine.py:Plain"], b"x"),
        (["--app-dir", ".", "mine:pipeline"], b"xab"),
        (["--app-dir", "folder", "inner.module:Holder.stages"], b"x?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_python_object_is_a_pipeline(folder, args, output):
    """A list, a function that gives one, a stage, a class; by file or by module; dotted names."""
    (folder / "folder/inner").mkdir(parents=True)
    (folder / "folder/inner/module.py").write_text(STAGES + "class Holder:\n    stages = [Add('?')]\n")
    done = mpp("run", "-q", *args, data=b"x", cwd=folder)
    assert (done.returncode, done.stdout) == (0, output), done.stderr


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_file_s_stages_reach_workers_however_they_are_started(folder, method):
    """Also under a name that an installed module has."""
    (folder / "zstandard.py").write_text(
        f"import multiprocessing\nmultiprocessing.set_start_method('{method}', force=True)\n{STAGES}"
    )
    done = mpp("run", "-q", "./zstandard.py:pipeline", data=b"x", cwd=folder)
    assert (done.returncode, done.stdout) == (0, b"xab"), done.stderr


def test_built_in_names_cannot_be_shadowed(folder):
    """A file, a module or a plug-in of the same name is not run."""
    for name in ("zstd.py", "zstd", "zstd.toml"):
        (folder / name).write_text("raise SystemExit(77)\n")
    dist = folder / "evil-1.0.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (dist / "entry_points.txt").write_text("[mpp.pipelines]\nzstd = evil:x\n[mpp.stages]\nzstd = evil:x\n")
    (folder / "p.toml").write_text('[[stage]]\nuse = "zstd"\n')
    env = environment(PYTHONPATH=str(folder))
    for args in (["zstd"], ["--app-dir", ".", "zstd"], ["p.toml"]):
        done = mpp("run", "-q", *args, data=b"x", cwd=folder, env=env)
        assert (done.returncode, unpacked(done.stdout)) == (0, b"x"), done.stderr


def test_plug_ins_are_found_by_their_entry_points(folder):
    """Stages and pipelines, in TOML, on the command line and in the lists; a broken one costs only itself."""
    dist = folder / "plug-1.0.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (dist / "entry_points.txt").write_text(
        "[mpp.pipelines]\nplug = mine:pipeline\n[mpp.stages]\nadd = mine:Add\nbroken = nowhere:x\n"
    )
    (folder / "p.toml").write_text('[[stage]]\nuse = "add"\ntext = "+"\n')
    env = environment(PYTHONPATH=str(folder))
    for pipeline, output in (("plug", b"xab"), ("p.toml", b"x+")):
        done = mpp("run", "-q", pipeline, data=b"x", env=env, cwd=folder)
        assert (done.returncode, done.stdout) == (0, output), done.stderr
    listed = mpp("stages", env=env).stdout
    assert b"add     Put some text behind the data." in listed
    assert b"broken  cannot be used: stage 'broken' (nowhere:x) failed to load: ModuleNotFoundError" in listed
    assert b"plug" in mpp("pipelines", env=env).stdout
    shown = mpp("stages", "add", env=env).stdout.decode().splitlines()
    assert "  text   text                   must be given" in shown
    assert "      What is put there, on as many lines as it takes." in shown
    assert ["mode", "one", "of", "'fast',", "'slow'", "default", '"fast"'] in [line.split() for line in shown]
    (folder / "p.toml").write_text('[[stage]]\nuse = "broken"\n')
    done = mpp("run", "p.toml", env=env, cwd=folder)
    assert done.returncode == 2
    assert "p.toml:2: stage 'broken': stage 'broken' (nowhere:x) failed to load" in lines_of(done)[0]


def test_check_shows_the_plan_and_what_was_added(folder):
    """Each stage, where it runs, what joins it to the next, its options; nothing is read or written."""
    (folder / "p.toml").write_text('name = "nightly"\n[[stage]]\nuse = "zstd"\nlevel = 9\n')
    done = mpp("check", "p.toml", cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    title, header, *rows = [line.split() for line in done.stdout.decode().splitlines()]
    assert title == ["pipeline", "nightly", "(p.toml)"]
    assert header == ["stage", "runs", "in", "then", "options"]
    assert rows[0][:7] == ["1", "zstd", "a", "process", "pipe", "level=9", "threads=auto"]
    assert rows[1][:6] == ["2", "write", "(added)", "a", "process", "end"]
    assert rows[2] == ["output", "of", "FILE:", "FILE.zst"]
    assert sorted(os.listdir(folder)) == ["mine.py", "p.toml"]


def test_bytes_that_nobody_takes_are_refused(folder):
    """An item stage after a byte stage needs a 'write' between them."""
    (folder / "order.py").write_text(
        "from atbu.mp_pipeline.mp_pipeline import ThreadPipelineStage\n"
        "class Index(ThreadPipelineStage):\n    name = 'index'\n"
        "stages = ['zstd', Index()]\nonly = [Index()]\n"
    )
    done = mpp("check", "./order.py:stages", cwd=folder)
    assert done.returncode == 2
    assert lines_of(done) == [
        "mpp: './order.py:stages': stage 'zstd' gives bytes, and 'index' after it takes none; put 'write' between them"
    ]
    done = mpp("check", "./order.py:only", cwd=folder)
    assert done.returncode == 2
    assert lines_of(done) == ["mpp: './order.py:only': no stage of it writes anything"]


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


@settings(max_examples=300, deadline=None)
@given(st.lists(TOML_LINES, max_size=10).map("\n".join))
def test_no_toml_makes_a_traceback(text):
    """Whatever the file holds, it is a pipeline or its faults are named with their lines."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.toml"
        (Path(folder) / "mine.py").write_text(STAGES)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            load_toml(str(path))
        except UsageProblem as ex:
            faults = ex.lines
        else:
            assert tomllib.loads(text)["stage"]
            return
    assert faults
    for line in faults:
        assert line.startswith(f"{path}:")
        assert line.removeprefix(f"{path}:").partition(":")[0].isdecimal()
        assert "\n" not in line
