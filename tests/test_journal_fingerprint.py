"""What makes a pipeline another one to a journal, and what does not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from cli_tools import TIMEOUT_S
from mpp_stages.byte_stage import line_filter

from atbu.mp_pipeline.stage import SubprocessPipelineStage
from mpp_cli.definition import load_definition
from mpp_cli.journal.fingerprint import differences, fingerprint, stage_records
from mpp_cli.planned import PlannedStage


@line_filter
def grep(line: bytes, *, word: str = "x") -> bytes | None:
    """Keeps lines with a word."""
    return line if word.encode() in line else None


def keep(item):
    return item


def give_up(item):
    raise ValueError


STAGE = """
from mpp_stages.byte_stage import ByteStage, line_filter

class Shift(ByteStage):
    def __init__(self, *, by: int = 1, key: str = "", where: object = object()):
        super().__init__()
        self.by, self.key, self.where = by, key, where

@line_filter
def drop(line):
    return line
"""


@pytest.fixture
def records_of(tmp_path):
    """The records of a TOML definition, from a fresh process as every run is one."""
    (tmp_path / "stage.py").write_text(STAGE)

    def of(*stages: str) -> list:
        definition = tmp_path / "p.toml"
        definition.write_text('name = "p"\n' + "".join(f"[[stage]]\n{stage}\n" for stage in stages))
        program = (
            "import json, sys; from mpp_cli.definition import load_definition;"
            "from mpp_cli.journal.fingerprint import stage_records;"
            "print(json.dumps(stage_records(load_definition(sys.argv[1], None).planned)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(definition)], capture_output=True, timeout=TIMEOUT_S, check=True
        )
        return json.loads(done.stdout)

    return of


def test_the_same_definition_is_the_same_in_every_process(records_of):
    """An option's default is as good as the option, an object without a value stays out, timeout and retries too."""
    one = records_of('use = "zstd"', 'use = "./stage.py:Shift"')
    other = records_of('use = "zstd"\nlevel = 3\nretries = 2', 'use = "./stage.py:Shift"\nby = 1\ntimeout = 5.0')
    assert fingerprint(one) == fingerprint(other)
    assert len(fingerprint(one)) == 32


def test_what_differs_is_said(records_of):
    """Numbers in the clear; of texts only that they differ, for they may be secret."""
    old = records_of('use = "zstd"', 'use = "./stage.py:Shift"\nkey = "hunter2"')
    new = records_of('use = "zstd"\nlevel = 9', 'use = "./stage.py:Shift"\nkey = "hunter3"')
    assert fingerprint(old) != fingerprint(new)
    assert differences(old, new) == ["stage 1 'zstd': level was 3, is 9", "stage 2 'Shift': key has changed"]
    assert "hunter" not in json.dumps([old, new])


def test_an_option_of_a_function_counts():
    """A decorated function has its options elsewhere than a class."""
    old, new = (stage_records([PlannedStage(grep(word=word), "grep")]) for word in "ab")
    assert differences(old, new) == ["stage 1 'grep': word has changed"]


def test_changed_code_of_the_user_s_counts(records_of, tmp_path):
    """What the file does now is not what it did."""
    old = records_of('use = "./stage.py:drop"')
    (tmp_path / "stage.py").write_text(STAGE.replace("return line", "return line.upper()"))
    new = records_of('use = "./stage.py:drop"')
    assert fingerprint(old) != fingerprint(new)
    assert differences(old, new) == ["stage 1 'drop': its code has changed"]


def test_a_function_given_as_an_option_counts():
    """By its name and the code of its file; the same one is the same in every process."""
    one, same, other = (
        stage_records([PlannedStage(SubprocessPipelineStage(fn_determiner=bool, fn_worker=worker), "s")])
        for worker in (keep, keep, give_up)
    )
    assert fingerprint(one) == fingerprint(same)
    assert fingerprint(one) != fingerprint(other)
    assert "0x" not in json.dumps(one)


def test_other_stages_are_named():
    """Each list as a whole."""
    old, new = (stage_records(load_definition(name, None).planned) for name in ("zstd", "unzstd"))
    assert differences(old, new) == ["its stages were zstd | write, and are unzstd | write"]
