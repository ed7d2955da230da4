"""Who may import whom, and what an import costs and changes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LIBRARY, STAGES, COMMAND_LINE = "atbu.mp_pipeline", "mpp_stages", "mpp_cli"
FOLDERS = {LIBRARY: "atbu/mp_pipeline", STAGES: "stages", COMMAND_LINE: "mpp_cli"}

# What the command line may know of the stages: the work item it submits, the table it looks names up in, how
# outputs are called, what options a stage has and their ranges, what a pipeline of Python code is, and the contract
# that all stages share. Never a stage.
COMMAND_LINE_KNOWS = {
    "file_item", "builtin", "naming", "options", "checks", "definition", "byte_stage", "fusing", "checksum_lines",
    "commit", "small_files", "endpoints", "temporaries",
}  # fmt: skip
# The one module that may use another distribution where it is installed.
OPTIONAL = {("exception.py", "atbu.common.exception")}
# Each third-party module, and who may use it.
THIRD_PARTY = {
    STAGES: {"zstandard", "blake3", "xxhash", "pyrage", "cryptography"},
    COMMAND_LINE: {"typer", "click", "rich"},
    LIBRARY: set(),
}

# Exists for type checkers alone; at run time importing it would fail, so nothing can depend on it.
ONLY_FOR_TYPES = {"_typeshed"}

HEAVY = [
    "asyncio",
    "rich",
    "typer",
    "click",
    "zstandard",
    "unittest",
    "http",
    "ssl",
    "mpp_cli",
    "mpp_stages",
]


def _sources(checkout: Path, package: str) -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of every module of a package."""
    folder = checkout / FOLDERS[package]
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder).with_suffix("").parts
        yield ".".join([package, *(part for part in parts if part != "__init__")]), file


def _imports(name: str, file: Path) -> Iterator[tuple[str, int]]:
    """(absolute dotted name, line) of all that a module imports, inside functions too."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{module}.{alias.name}", node.lineno


def _foreign_imports(checkout: Path, package: str) -> Iterator[tuple[Path, int, str]]:
    """(file, line, name) of what a package imports from outside itself and the standard library."""
    for name, file in _sources(checkout, package):
        for imported, line in _imports(name, file):
            is_own = imported == package or imported.startswith(package + ".")
            if not is_own and imported.partition(".")[0] not in sys.stdlib_module_names | ONLY_FOR_TYPES:
                yield file, line, imported


def _belongs_to(imported: str, package: str) -> bool:
    return imported == package or imported.startswith(package + ".")


@pytest.mark.parametrize("package", FOLDERS)
def test_there_is_something_to_check(checkout, package):
    """The folders are where this file believes them to be."""
    assert len(list(_sources(checkout, package))) > 3


def test_the_library_needs_the_standard_library_alone(checkout):
    """Nothing else, wherever the import stands; atbu.common is loaded by name in one module."""
    wrong = [
        f"{file.name}:{line}: {imported}"
        for file, line, imported in _foreign_imports(checkout, LIBRARY)
        if (file.name, imported) not in OPTIONAL
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("package", "may_use"),
    [(STAGES, [LIBRARY]), (COMMAND_LINE, [LIBRARY, STAGES])],
)
def test_imports_go_one_way(checkout, package, may_use):
    """mpp_cli → mpp_stages → atbu.mp_pipeline, and to the third-party modules that are declared."""
    wrong = [
        f"{file.name}:{line}: {imported}"
        for file, line, imported in _foreign_imports(checkout, package)
        if not any(_belongs_to(imported, other) for other in may_use)
        and imported.partition(".")[0] not in THIRD_PARTY[package]
    ]
    assert wrong == []


def test_the_command_line_knows_no_stage(checkout):
    """Stages are found by name; only the contract is imported."""
    wrong = []
    for file, line, imported in _foreign_imports(checkout, COMMAND_LINE):
        if (
            _belongs_to(imported, STAGES)
            and imported.split(".")[1:2]
            and imported.split(".")[1] not in COMMAND_LINE_KNOWS
        ):
            wrong.append(f"{file.name}:{line}: {imported}")
    assert wrong == []


@pytest.mark.parametrize("folder", ["atbu", "stages", "mpp_cli", "samples", "benchmarks", "tests"])
def test_nobody_imports_the_folder_of_the_stages(checkout, folder):
    """``import stages`` works from a checkout and would give a second copy of every class."""
    wrong = [
        f"{file}:{line}"
        for file in sorted((checkout / folder).rglob("*.py"))
        for imported, line in _imports("x." + file.stem, file)
        if imported.partition(".")[0] == "stages"
    ]
    assert wrong == []


def test_the_namespace_is_shared(checkout):
    """An ``atbu/__init__.py`` would hide the other distributions that live in it."""
    assert not (checkout / "atbu" / "__init__.py").exists()


def test_no_module_of_the_stages_is_named_like_one_of_the_standard_library(checkout):
    """Run from inside the folder it would take that one's place."""
    names = {file.stem for file in (checkout / "stages").glob("*.py")}

    assert names & sys.stdlib_module_names == set()


def test_the_relative_import_reader_reads(tmp_path):
    """The helper above resolves what a module imports; the tests stand on it."""
    module = tmp_path / "module.py"
    module.write_text("import a.b\nfrom . import c\nfrom .d import e\nfrom ..f import g\nfrom h.i import j\n")

    assert [name for name, _ in _imports("x.y.module", module)] == ["a.b", "x.y.c", "x.y.d.e", "x.f.g", "h.i.j"]


IMPORT_IS_CHEAP = f"""
import sys
import atbu.mp_pipeline.mp_pipeline
print([name for name in {HEAVY!r} if name in sys.modules])
"""

IMPORT_CHANGES_NOTHING = """
import os, signal, sys, threading
def state():
    return (
        threading.active_count(), os.listdir("/proc/self/fd"), os.listdir("/proc/self/task"),
        [signal.getsignal(number) for number in sorted(signal.valid_signals())], list(sys.meta_path), os.environ.copy(),
    )
before = state()
import atbu.mp_pipeline.mp_pipeline, atbu.mp_pipeline.mp_global, atbu.mp_pipeline.mp_helper
import multiprocessing
assert state() == before, (state(), before)
print(multiprocessing.get_start_method(allow_none=True))
"""


def _run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_library_loads_nothing_heavy():
    """No event loop, no command line, no compressor."""
    assert _run(IMPORT_IS_CHEAP) == "[]"


def test_importing_the_library_changes_nothing():
    """No thread, descriptor, signal handler or start method."""
    assert _run(IMPORT_CHANGES_NOTHING) == "None"
