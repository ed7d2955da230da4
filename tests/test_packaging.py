"""The wheel holds the three packages, whole, and nothing else."""

from __future__ import annotations

import configparser
import email.parser
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

PACKAGES = {"atbu/mp_pipeline": "atbu/mp_pipeline", "mpp_stages": "stages", "mpp_cli": "mpp_cli"}


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    """The wheel of this checkout, built from a copy: a build leaves files beside its sources, and finds old ones."""
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(checkout / name, source)
    for name in ("atbu", "stages", "mpp_cli", "tests", "samples", "benchmarks"):
        shutil.copytree(checkout / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(target), str(source)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    (built,) = target.iterdir()
    with zipfile.ZipFile(built) as opened:
        yield opened


def _info(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = [path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")]
    return wheel.read(path).decode()


def test_it_is_a_wheel_for_every_platform(wheel):
    """Pure Python, under the name that programs ask for."""
    assert Path(wheel.filename).name == "atbu_mp_pipeline_pkg-1.0.0.dev0-py3-none-any.whl"


def test_it_holds_exactly_the_three_packages(checkout, wheel):
    """Every module and marker file of each, under the name it is imported by; no tests, no samples."""
    expected = {
        f"{inside}/{file.relative_to(checkout / folder).as_posix()}"
        for inside, folder in PACKAGES.items()
        for file in (checkout / folder).rglob("*")
        if file.suffix in (".py", ".json") or file.name == "py.typed"
    }
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert held == expected
    assert {f"{inside}/py.typed" for inside in PACKAGES} <= held
    assert "atbu/__init__.py" not in held


def test_every_subpackage_is_declared(checkout):
    """pyproject.toml names each folder with modules in it: setuptools takes no other along."""
    declared = set(tomllib.loads((checkout / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {
        ".".join([inside.replace("/", "."), *file.parent.relative_to(checkout / folder).parts])
        for inside, folder in PACKAGES.items()
        for file in (checkout / folder).rglob("*.py")
    }

    assert declared == there


def test_it_says_what_it_is(wheel):
    """Name, version, licence and Python; the library's own dependencies are the command line's."""
    metadata = email.parser.Parser().parsestr(_info(wheel, "METADATA"))

    assert (metadata["Name"], metadata["Version"]) == ("atbu-mp-pipeline-pkg", "1.0.0.dev0")
    assert (metadata["License-Expression"], metadata["Requires-Python"]) == ("Apache-2.0", ">=3.11")
    needed = {line.partition(">")[0] for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert needed == {
        *("typer", "rich", "zstandard", "isal", "zlib-ng", "lz4"),
        *("blake3", "xxhash", "pyrage", "cryptography"),
    }
    assert _info(wheel, "licenses/LICENSE")


def test_it_brings_the_command(wheel):
    """The console script is mpp."""
    entry_points = configparser.ConfigParser()
    entry_points.read_string(_info(wheel, "entry_points.txt"))

    assert dict(entry_points["console_scripts"]) == {"mpp": "mpp_cli.main:main"}
