"""The commands of docs/batch.md do what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import environment, unpacked

CONTENTS = {name: name.encode() * 1000 for name in ("a.log", "b.log", "c.log")}


@pytest.fixture
def shell(tmp_path):
    """Runs a script in a folder with three logs, with ``mpp`` on the PATH."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "mpp").write_text(f'#!/bin/sh\nexec {sys.executable} -m mpp_cli "$@"\n')
    (tools / "mpp").chmod(0o755)
    folder = tmp_path / "logs"
    folder.mkdir()
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)

    def run(script: str) -> subprocess.CompletedProcess[str]:
        env = environment(PATH=f"{tools}:{os.environ['PATH']}")
        command = ["bash", "-c", script]
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)

    run.folder = folder
    return run


@pytest.fixture
def block(checkout):
    """The code block behind a marker."""
    text = (checkout / "docs/batch.md").read_text()

    def of(marker: str) -> str:
        (found,) = re.findall(rf"^<!-- {marker} -->\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        return found

    return of


def assert_all_packed(folder: Path) -> None:
    for name, content in CONTENTS.items():
        assert unpacked((folder / f"{name}.zst").read_bytes()) == content


@pytest.mark.parametrize("marker", ["run: named", "run: folder", "run: listed"])
def test_files_are_named_in_each_way(shell, block, marker):
    """By the shell's pattern, by a folder and by a list."""
    done = shell(block(marker))
    assert done.returncode == 0, done.stderr
    assert_all_packed(shell.folder)


def test_outputs_go_elsewhere_and_sources_go_away(shell, block):
    """One after the other."""
    done = shell(block("run: elsewhere") + block("run: removing"))
    assert done.returncode == 0, done.stderr
    assert_all_packed(shell.folder / "packed")
    assert_all_packed(shell.folder)
    assert sorted(os.listdir(shell.folder)) == [*(f"{name}.zst" for name in CONTENTS), "packed"]


def test_a_failure_is_told_as_it_is_shown(shell, block, checkout):
    """The lines of the document are those of the program."""
    for name in CONTENTS:
        (shell.folder / f"{name}.zst").write_bytes(b"no zstd")
    assert shell("mpp run -q zstd --force a.log c.log; rm *.log").returncode == 0
    done = shell(block("run: failing"))
    failure, summary = done.stderr.splitlines()
    text = (checkout / "docs/batch.md").read_text()
    assert f"    {failure}\n    {summary.partition(': ')[0]}: {summary.split(': ')[1]}: …\n    {done.stdout}" in text


@pytest.mark.parametrize("marker", ["make", "make-all"])
def test_make_does_what_has_changed(shell, block, marker):
    """All at first, nothing the second time, then the one that was touched."""
    (shell.folder / "Makefile").write_text(block(marker))
    assert shell("make").returncode == 0
    assert_all_packed(shell.folder)
    assert re.search("up to date|Nothing to be done", shell("make").stdout)
    changed = CONTENTS["b.log"] * 2
    (shell.folder / "b.log").write_bytes(changed)
    os.utime(shell.folder / "b.log", (2_000_000_000, 2_000_000_000))
    done = shell("make")
    assert done.returncode == 0, done.stderr
    assert ("b.log" in done.stdout, "a.log" in done.stdout) == (True, False)
    assert unpacked((shell.folder / "b.log.zst").read_bytes()) == changed


def test_the_ci_step_can_be_run_again(shell, block):
    """Nothing is said and nothing done twice."""
    (shell.folder / "build/deep").mkdir(parents=True)
    (shell.folder / "build/deep/x.map").write_bytes(b"data")
    for _ in range(2):
        done = shell(block("run: ci"))
        assert (done.returncode, done.stderr) == (0, "")
    assert unpacked((shell.folder / "build/deep/x.map.zst").read_bytes()) == b"data"
