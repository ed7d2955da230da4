"""What the README shows works as it stands there."""

from __future__ import annotations

import gzip
import lzma
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest


@pytest.fixture
def blocks(checkout):
    """The README's code blocks of a language, in order."""
    readme = (checkout / "README.md").read_text()

    def of(language: str) -> list[str]:
        return re.findall(rf"^```{language}\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)

    return of


def _mpp(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    command = [sys.executable, "-m", "mpp_cli", *arguments]
    done = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_the_library_example_prints_its_results(blocks, tmp_path):
    """The program runs as a script."""
    (program,) = [block for block in blocks("python") if "MultiprocessingPipeline" in block]
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, "-W", "error", "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "0\n2\n4\n6\n8\n"


def test_the_custom_stage_runs(blocks, tmp_path):
    """By the file and the name of its class."""
    (stage,) = [block for block in blocks("python") if "ByteStage" in block]
    (tmp_path / "rot13.py").write_text(stage)

    assert _mpp(tmp_path, "run", "./rot13.py:Rot13", stdin=b"Hello\nWorld") == b"Uryyb\nJbeyq"


def test_the_stage_list_is_valid(blocks, tmp_path):
    """mpp check takes it, and it compresses."""
    (definition,) = blocks("toml")
    (tmp_path / "backup.toml").write_text(definition)
    (tmp_path / "big.tar").write_bytes(b"data" * 10_000)
    _mpp(tmp_path, "check", "backup.toml")
    _mpp(tmp_path, "run", "backup.toml", "big.tar")

    assert _mpp(tmp_path, "run", "unzstd", "-o", "-", "big.tar.zst") == b"data" * 10_000


def test_the_commands_of_the_tour_work(blocks, tmp_path, require_tool):
    """All of them in turn, in a folder that has what they name; ``/data`` is a folder of it."""
    for tool in ("age-keygen", "jq"):
        require_tool(tool)
    tour = [block for block in blocks("sh") if not block.startswith("python3 -m venv")]
    assert len(tour) == 8
    files = {
        re.match(r"# (\S+\.(?:py|toml))", block)[1]: block
        for language in ("python", "toml")
        for block in blocks(language)
        if block.startswith("# ")
    }
    files |= dict.fromkeys(["access.log", "error.log", "big.tar", "logs/a.log", "data/x", "plain.txt"], "some words\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "old.tar.xz").write_bytes(lzma.compress(b"old"))
    (tmp_path / "dump.sql.gz").write_bytes(gzip.compress(b"dump"))
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(tmp_path / "logs", "logs")
    begin = f'set -euo pipefail; mpp() {{ "{sys.executable}" -m mpp_cli "$@"; }}\n'
    for block in tour:
        script = begin + block.replace("/data", "data")
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, block + done.stderr.decode()


@pytest.mark.parametrize("marker", ["try-it", "run-the-tests"])
def test_the_commands_that_others_read_are_marked(checkout, marker):
    """Each marker has one command behind it, on one line; .ci/run takes the second from there."""
    readme = (checkout / "README.md").read_text()
    (block,) = re.findall(rf"^<!-- {marker} -->\n```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)

    assert block.count("\n") == 1
    assert block.startswith("python3 -m venv .venv && ")


def test_every_link_leads_somewhere(checkout):
    """Links within the repository."""
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (checkout / name).read_text()):
            assert target.startswith("https://") or (checkout / target).exists(), f"{name}: {target}"
