"""``--set KEY=VALUE`` and ``${NAME}``: what is filled in from outside a definition."""

from __future__ import annotations

import pytest
from cli_tools import environment, lines_of, mpp, unpacked
from user_stages import STAGES

from mpp_cli.definition import load_definition
from mpp_cli.errors import UsageProblem
from mpp_cli.variables import expand, has_variable


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a user's stages, as the current one."""
    (tmp_path / "mine.py").write_text(STAGES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def options_of(pipeline: str, *settings: str) -> list[dict]:
    """The options that each stage was given in the end."""
    return [dict(planned.options) for planned in load_definition(pipeline, None, settings).planned]


def faults_of(pipeline: str, *settings: str) -> list[str]:
    """The lines that are shown; empty where all is right."""
    try:
        load_definition(pipeline, None, settings)
    except UsageProblem as ex:
        return list(ex.lines)
    return []


@pytest.mark.parametrize(
    ("pipeline", "settings", "options"),
    [
        ("zstd", ["level=9"], [{"level": 9}, {}]),
        ("zstd", ["zstd.level=9", "suffix=.x"], [{"level": 9}, {"suffix": ".x"}]),
        ("zstd level=3 threads=1", ["level=9", "level=19"], [{"level": 19, "threads": 1}, {}]),
        ("zstd | zstd", ["2.level=9"], [{}, {"level": 9}, {}]),
        ("zstd name=a | zstd name=b", ["b.level=9"], [{}, {"level": 9}, {}]),
        ("./mine.py:Add text=x", ["Add.text=9", "./mine.py:Add.times=9"], [{"text": "9", "times": 9}, {}]),
        ("./mine.py:Add text=x", ["words=['a', 'b=c']"], [{"text": "x", "words": ["a", "b=c"]}, {}]),
        ("./mine.py:Anything", ["Anything.free=1"], [{"free": 1}, {}]),
        ("./mine.py:Plain", ["suffix=a b"], [{}, {"suffix": "a b"}]),
        ("./mine.py:Add", ["text=${HOME}"], [{"text": "${HOME}"}, {}]),
    ],
)
def test_a_setting_changes_an_option(folder, pipeline, settings, options):
    """By the option's name alone where one stage has it, else by stage; of ready-made ones too, and the added write."""
    assert options_of(pipeline, *settings) == options


@pytest.mark.parametrize(
    ("pipeline", "setting", "fault"),
    [
        ("zstd", "levle=9", "no stage of this pipeline has an option 'levle' (did you mean 'level'?)"),
        ("zstd", "zst.level=9", "there is no stage 'zst' in this pipeline (did you mean 'zstd'?)"),
        ("zstd", "zstd.levle=9", "stage 'zstd': 'levle' is not an option (did you mean 'level'?)"),
        ("zstd", "level=99", "stage 'zstd': level must be between 1 and 22, not 99"),
        ("zstd", "level=x", "stage 'zstd': 'level' must be a whole number from 1 to 22, not 'x'"),
        ("zstd", "zstd.run_in=here", "stage 'zstd': 'run_in' must be one of 'process', 'thread', not 'here'"),
        ("zstd", "zstd.use=write", "'use' cannot be set; it belongs to the definition"),
        ("zstd", "timeout=3", "say of which stage, such as zstd.timeout"),
        ("zstd | zstd", "level=3", "2 stages have an option 'level'; say 1.level or 2.level"),
        ("zstd name=a | zstd", "level=3", "2 stages have an option 'level'; say a.level or zstd.level"),
        ("zstd | zstd", "zstd.level=3", "2 stages are called 'zstd'; say 1.level or 2.level"),
        ("./mine.py:pipeline", "1.text=x", "stage 'Add' is made in Python, where its options are given"),
        ("./mine.py:number", "x=1", None),
        ("zstd", "level", "write KEY=VALUE, or STAGE.KEY=VALUE for one of several stages"),
        ("zstd", "=9", "write KEY=VALUE, or STAGE.KEY=VALUE for one of several stages"),
    ],
)
def test_a_setting_that_fits_nowhere_is_named(folder, pipeline, setting, fault):
    """With itself as its place."""
    expected = f"mpp: --set {setting}: {fault}" if fault else "mpp: './mine.py:number': it is a int, not a stage"
    assert faults_of(pipeline, setting) == [expected]


def test_the_added_write_is_meant_only_where_no_other_stage_can_be(folder):
    """Both have an option 'times'."""
    assert options_of("./mine.py:Add text=x", "times=3") == [{"text": "x", "times": 3}, {}]


def test_a_setting_heals_what_the_file_lacks(folder):
    """The file is judged as it is after the settings."""
    (folder / "p.toml").write_text('[[stage]]\nuse = "./mine.py:Add"\ntimes = 1000\n')
    assert options_of("p.toml", "text=x", "times=3") == [{"text": "x", "times": 3}, {}]
    done = mpp("run", "-q", "zstd", "--set", "level=19", "--set", "zstd.checksum=false", data=b"x", cwd=folder)
    assert (done.returncode, unpacked(done.stdout)) == (0, b"x"), done.stderr
    assert len(done.stdout) == len(mpp("run", "-q", "zstd", data=b"x", cwd=folder).stdout) - 4


ENVIRONMENT = {"A": "1", "LONG_name2": "${A}", "EMPTY": ""}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("${LONG_name2}", "${A}"),
        ("[${EMPTY}]", "[]"),
        ("$A $ $$ {A} $(A) $1", "$A $ $$ {A} $(A) $1"),
        ("$${A}", "${A}"),
        ("$$${A}", "$1"),
        ("$$$${A}", "$${A}"),
        ("$${", "${"),
        (["${A}", {"${A}": ["${A}", 3]}], ["1", {"${A}": ["1", 3]}]),
        (True, True),
    ],
)
def test_a_variable_stands_only_where_it_is_written(written, expected):
    """Once, in values alone, and two dollar signs before a brace are one."""
    assert expand(written, ENVIRONMENT, lambda *_: pytest.fail("no fault")) == expected


@pytest.mark.parametrize(
    ("written", "is_one"), [("${A}", True), ("$${A}", False), ([{"x": "$$${A}"}], True), (3, False)]
)
def test_a_value_with_a_variable_is_known(written, is_one):
    """Such a value is shown as it was written."""
    assert has_variable(written) is is_one


@pytest.mark.parametrize(
    ("written", "path", "words"),
    [
        ("${B}", (), "the environment variable 'B' is not set"),
        (["", {"x": "${LONG_name}"}], (1, "x"), "the environment variable 'LONG_name' is not set (did you mean 'LONG_"),
        ("${}", (), "'${}' names no environment variable; write '$${}' for these characters themselves"),
        ("${A", (), "'${A' names no environment variable; write '$${A' for"),
        ("${A:-x}", (), "'${A:-x}' names no environment variable; write '$${A:-x}' for"),
    ],
)
def test_a_variable_that_is_not_there_is_a_fault(written, path, words):
    """With its place in the value."""
    found = []
    expand(written, ENVIRONMENT, lambda *fault: found.append(fault))
    ((place, said),) = found
    assert (place, said[: len(words)]) == (path, words)


def test_variables_in_a_file(folder, monkeypatch):
    """In options, never in ``use`` or a name; an unset one has its line and no second fault; check shows no value."""
    monkeypatch.setenv("MPP_TEST_WORD", "secret-word")
    monkeypatch.delenv("MPP_TEST_NONE", raising=False)
    (folder / "p.toml").write_text(
        '[[stage]]\nuse = "./mine.py:Add"\nname = "${MPP_TEST_NONE}"\ntext = "${MPP_TEST_WORD}!"\n'
        'words = [\n  "a",\n  "${MPP_TEST_WORD}"]\n'
    )
    assert options_of("p.toml")[0] == {"text": "secret-word!", "words": ["a", "secret-word"]}
    (folder / "bad.toml").write_text(
        '[[stage]]\nuse = "./mine.py:${MPP_TEST_NONE}"\n[[stage]]\nuse = "./mine.py:Add"\ntext = "x"\n'
        'mode = "${MPP_TEST_NONE}"\nwords = [\n  "a",\n  "${MPP_TEST_NONE}"]\n'
    )
    assert [line.partition(" (did")[0].partition("; there are")[0] for line in faults_of("bad.toml")] == [
        "bad.toml:2: stage './mine.py:${MPP_TEST_NONE}': there is no stage './mine.py:${MPP_TEST_NONE}'",
        "bad.toml:6: stage './mine.py:Add': the environment variable 'MPP_TEST_NONE' is not set",
        "bad.toml:9: stage './mine.py:Add': the environment variable 'MPP_TEST_NONE' is not set",
    ]
    env = environment(MPP_TEST_WORD="secret-word")
    for args in (["check", "p.toml"], ["check", "--json", "p.toml"]):
        done = mpp(*args, cwd=folder, env=env)
        assert (done.returncode, lines_of(done)) == (0, [])
        assert b"${MPP_TEST_WORD}!" in done.stdout
        assert b"secret-word" not in done.stdout
    done = mpp("run", "-q", "p.toml", data=b"x", cwd=folder, env=env)
    assert (done.returncode, done.stdout) == (0, b"xsecret-word!")
