"""``mpp check``: its warnings, its JSON, and what zstd's memory is estimated to be."""

from __future__ import annotations

import json

import pytest
import zstandard
from cli_tools import lines_of, mpp

from mpp_cli.cautions import cautions
from mpp_cli.definition import load_definition
from mpp_cli.errors import UsageProblem
from mpp_cli.plan import plan_lines
from mpp_cli.plan_json import plan_json, problem_json
from mpp_cli.tables import value_words

CIPHER = """
from mpp_stages.byte_stage import ByteStage, line_filter
class Cipher(ByteStage):
    adds_suffix, is_encrypted_output, is_compressed_output = ".c", True, True
class Decipher(ByteStage):
    strips_suffixes = {".c": ""}
class Whatever(ByteStage):
    strips_suffixes = dict.fromkeys([".a", ".b", ".c", ".zst"], "")
class Pack(ByteStage):
    adds_suffix, is_compressed_output = ".p", True
    def memory_bytes(self): return 3 << 30
@line_filter
def lines(line): return line
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a user's stages, as the current one."""
    (tmp_path / "c.py").write_text(CIPHER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("pipeline", "warned"),
    [
        ("zstd", []),
        ("unzstd", []),
        ("zstd | ./c.py:Cipher", []),
        ("./c.py:Decipher | unzstd", []),
        ("./c.py:Decipher | unzstd | ./c.py:lines | zstd | ./c.py:Cipher", []),
        ("./c.py:lines | zstd", []),
        ("./c.py:Cipher | zstd", [(2, "encrypted")]),
        ("./c.py:Cipher | ./c.py:Decipher", [(2, "undone")]),
        ("./c.py:Cipher | ./c.py:Cipher", []),
        ("zstd | ./c.py:Cipher | zstd", [(3, "encrypted")]),
        ("zstd | sha256 | zstd", [(3, "compressed")]),
        ("zstd | unzstd", [(2, "undone")]),
        ("zstd | unzstd | zstd", [(2, "undone"), (3, "undone")]),
        ("unzstd | zstd level=19", [(2, "undone")]),
        ("unzstd | ./c.py:lines | zstd", []),
        ("./c.py:Whatever | zstd", []),
        ("zstd | ./c.py:Whatever", [(2, "undone")]),
        ("zstd | ./c.py:lines", [(2, "text")]),
        ("zstd | ./c.py:Cipher | ./c.py:lines", [(3, "text")]),
        ("zstd level=19 threads=2", []),
        ("zstd level=20 threads=2", [(1, "memory")]),
        ("zstd long=31", [(1, "memory")]),
        ("unzstd long=29", []),
        ("unzstd long=30", [(1, "memory")]),
        ("./c.py:Pack", [(1, "memory")]),
    ],
)
def test_what_hurts_is_warned_of(folder, pipeline, warned):
    """By what stages say of themselves, not by their names; what makes sense is not warned of."""
    planned = load_definition(f"{pipeline} | write").planned
    assert [(caution.number, caution.kind) for caution in cautions(planned)] == warned


def test_a_warning_is_a_line_of_the_plan_and_no_failure(folder):
    """With the stage's name, and its number where two have that name."""
    done = mpp("check", "zstd | ./c.py:Cipher | ./c.py:Pack name=zstd", cwd=folder)
    assert (done.returncode, lines_of(done)) == (0, [])
    assert [line for line in done.stdout.decode().splitlines() if line.startswith("warning")] == [
        "warning: stage 'zstd' (number 3): it compresses what 'Cipher' has encrypted, which makes nothing smaller; "
        "put it before that",
        "warning: stage 'zstd' (number 3): it may take 3.0 GiB of memory for each large file at once; "
        "take lower options, or few --jobs",
    ]


def test_the_table_shows_suffixes_and_options():
    """Those given first, then the others' defaults."""
    lines = [line.split() for line in plan_lines(load_definition("unzstd timeout=2 | write suffix=.x"))]
    assert lines[2] == ["1", "unzstd", "a", "process", "pipe", "-.zst", "-.tzst", "long=27", "timeout=2"]
    assert lines[3][:6] == ["2", "write", "a", "process", "end", ".x"]
    assert 'suffix=".x"' in lines[3]


def test_a_value_is_shown_as_in_toml():
    """Lists and tables, too."""
    assert value_words({"a": [1, "b", True], "c": {}}) == '{a = [1, "b", true], c = {}}'


def test_the_json_has_the_documented_fields(folder, checkout):
    """Of a right definition and of a wrong one; each is named in docs/pipelines.md."""
    plan = json.loads(plan_json(load_definition("./c.py:Cipher | zstd level=9 retries=1 | unzstd")))
    stage = {
        "number": 2, "name": "zstd", "use": "zstd", "added": False, "runs_in": "process", "inside": None,
        "then": "pipe",
        "options": {"level": 9, "threads": None, "long": None, "checksum": True, "roundtrip": False},
        "given": ["level"], "timeout": None,
        "retries": 1, "adds_suffix": ".zst", "strips_suffixes": [],
    }  # fmt: skip
    assert plan["stages"][1] == stage | {"memory_bytes": plan["stages"][1]["memory_bytes"]}
    assert plan["stages"][1]["memory_bytes"] > 1 << 20
    assert [(each["use"], each["then"], each["added"]) for each in plan["stages"]] == [
        ("./c.py:Cipher", "pipe", False), ("zstd", "pipe", False), ("unzstd", "pipe", False), ("write", "end", True),
    ]  # fmt: skip
    assert plan["outputs"] == [{"input": "FILE", "output": "FILE.c"}]
    assert [(each["stage"], each["name"], each["kind"]) for each in plan["warnings"]] == [
        (2, "zstd", "encrypted"), (3, "unzstd", "undone"),
    ]  # fmt: skip
    with pytest.raises(UsageProblem) as problem:
        load_definition("zstd levle=9")
    faults = json.loads(problem_json(problem.value))
    text = "pipeline:1:6: stage 'zstd': 'levle' is not an option (did you mean 'level'?)"
    assert faults == {
        "ok": False, "faults": [{"source": "pipeline", "line": 1, "column": 6, "kind": "unknown", "text": text}],
    }  # fmt: skip
    page = (checkout / "docs/pipelines.md").read_text()
    for name in {*plan, *stage, *faults, *faults["faults"][0], *plan["warnings"][0], *plan["outputs"][0]}:
        assert f"`{name}`" in page or f"`{name}[]`" in page


def test_check_json_prints_one_object_and_the_status(folder):
    """On standard output; the lines of what is wrong stand on standard error as always."""
    done = mpp("check", "--json", "--set", "level=9", "zstd", cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["stages"][0]["options"]["level"] == 9
    done = mpp("check", "--json", "no.toml", cwd=folder)
    assert (done.returncode, lines_of(done)) == (2, ["no.toml: No such file or directory"])
    assert json.loads(done.stdout)["faults"][0]["text"] == lines_of(done)[0]


def test_the_json_is_json_whatever_the_options_are(folder):
    """Dates, numbers that JSON lacks, bytes of a name that are no text."""
    (folder / "any.py").write_text(
        "from mpp_stages.byte_stage import ByteStage\n"
        "class Any(ByteStage):\n    def __init__(self, **options):\n        super().__init__()\n"
    )
    plan = plan_json(load_definition("./any.py:Any a=1979-05-27 b=nan c=[inf, {d = 07:32:00}] | write suffix='\udcff'"))
    options = json.loads(plan, parse_constant=pytest.fail)["stages"][0]["options"]
    assert options == {"a": "1979-05-27", "b": "nan", "c": ["inf", {"d": "07:32:00"}]}


@pytest.mark.parametrize("level", [1, 3, 6, 9, 12, 15, 19, 22])
def test_the_memory_of_compression_is_at_least_that_of_its_contexts(level):
    """And not without measure above it: portions of four windows, or of 2 MiB at the fast levels, for two threads,
    their outputs and what waits."""
    (zstd, _) = load_definition(f"zstd level={level} threads=2 | write").planned
    parameters = zstandard.ZstdCompressionParameters.from_level(level)
    contexts, window = 2 * parameters.estimated_compression_context_size(), 1 << parameters.window_log
    portion = 2 << 20 if level <= 4 else 4 * window
    assert contexts + 5 * portion <= zstd.stage.memory_bytes() <= contexts + 40 * window + (16 << 20)


@pytest.mark.parametrize(
    ("pipeline", "memory_bytes"),
    [
        ("xz level=9 threads=2", 2 * 18 * (64 << 20)),
        ("xz level=9 threads=1", 18 * (64 << 20)),
        ("unxz memory_mib=2000", 2000 << 20),
        ("encrypt passphrase_file=pass work_factor=20", 1 << 30),
    ],
)
def test_whatever_takes_a_gibibyte_is_warned_of(folder, pipeline, memory_bytes):
    """By its options, and so it counts for --max-memory too."""
    (folder / "pass").write_text("secret")
    plan = json.loads(plan_json(load_definition(f"{pipeline} | write")))
    assert plan["stages"][0]["memory_bytes"] == memory_bytes
    assert [(warning["stage"], warning["kind"]) for warning in plan["warnings"]] == [(1, "memory")]


@pytest.mark.parametrize("pipeline", ["xz threads=2", "unxz", "decompress", "encrypt recipients_file=keys"])
def test_what_takes_little_is_not_warned_of(folder, pipeline):
    """As most runs with the usual options do."""
    (folder / "keys").write_text("")
    assert json.loads(plan_json(load_definition(f"{pipeline} | write")))["warnings"] == []
