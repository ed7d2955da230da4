"""What docs/stages.md and samples/plugin show works as it stands there."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import environment, lines_of, mpp, unpacked


@pytest.fixture
def documented(checkout: Path, tmp_path: Path) -> Path:
    """A folder with all the files that the page shows."""
    page = (checkout / "docs/stages.md").read_text()
    for name, text in re.findall(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("pipeline", "made"),
    [
        ("drop.toml", b"a\nb DEBUG\n\n"),
        ("shout.toml", b"A\nB DEBUG\nC TRACE\n\n"),
        ("number.toml", b"100 a\n101 b DEBUG\n102 c TRACE\n103 \n"),
        ("./zeros.py:Zeros", b"a\nb DEBUG\nc TRACE\n\n"),
    ],
)
def test_the_page_s_stages_run(documented, pipeline, made):
    """Each from its own file."""
    done = mpp("run", pipeline, data=b"a\nb DEBUG\nc TRACE\n\n", cwd=documented)
    assert (done.returncode, done.stdout) == (0, made), done.stderr


def test_what_the_page_s_stage_finds_is_shown(documented):
    """It runs inside the sink."""
    (documented / "x").write_bytes(b"a\0b\0")
    done = mpp("run", "-v", "./zeros.py:Zeros", "x", "-o", "y", cwd=documented)
    assert done.returncode == 0, done.stderr
    assert any("zeros of the output: 2" in line for line in lines_of(done))
    assert b"inside 2" in mpp("check", "./zeros.py:Zeros", cwd=documented).stdout


def test_the_page_s_stage_behind_the_sink_sees_what_was_written(documented):
    """Its figures and its digest."""
    (documented / "x").write_bytes(b"abc")
    done = mpp("run", "-q", "sha256 | write suffix=.y | ./index.py:Index", "x", cwd=documented)
    assert (done.returncode, lines_of(done)) == (0, [f"x.y 3 {hashlib.sha256(b'abc').hexdigest()}"])


@pytest.fixture(scope="module")
def installed(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the plug-in is installed."""
    work = tmp_path_factory.mktemp("plugin")
    shutil.copytree(checkout / "samples/plugin", work / "source", ignore=shutil.ignore_patterns("__pycache__", "build"))
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index"]
    options = ["--disable-pip-version-check", "--no-warn-script-location", "--target", str(work / "site")]
    done = subprocess.run(
        [*command, *options, str(work / "source")], env=environment(), capture_output=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return work / "site"


def test_the_plug_in_is_found_by_its_names(installed, tmp_path):
    """Its stage in a TOML with its option, its pipeline by name, both listed."""
    env = environment(PYTHONPATH=str(installed))
    (tmp_path / "p.toml").write_text('[[stage]]\nuse = "rot13"\nby = 1\n')
    assert mpp("run", "p.toml", data=b"Az!", env=env, cwd=tmp_path).stdout == b"Ba!"
    assert mpp("run", "rot13", data=b"Hello", env=env, cwd=tmp_path).stdout == b"Uryyb"
    assert unpacked(mpp("run", "secret", data=b"Hello", env=env, cwd=tmp_path).stdout) == b"Uryyb"
    assert b"Rotate the letters of the alphabet." in mpp("stages", env=env).stdout
    assert b"secret" in mpp("pipelines", env=env).stdout
