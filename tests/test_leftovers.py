"""The checks that every test gets do find what they are there for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent

# They test the tests; once is enough.
pytestmark = pytest.mark.slow

CLEAN = """
def test_it(tmp_path):
    (tmp_path / "a").write_text("a")
    with tempfile.TemporaryFile(), subprocess.Popen(["true"]):
        pass
    thread = threading.Thread(target=int)
    thread.start()
"""

CHILD = """
def test_it():
    globals()["kept"] = subprocess.Popen(["sleep", "600"])
"""

ZOMBIE = """
def test_it():
    if os.fork() == 0:
        os._exit(0)
"""

FORKED_ORPHAN = """
def test_it():
    r, w = os.pipe()
    if os.fork() == 0:
        os.close(r)
        if os.fork() == 0:
            os.write(w, b"%d" % os.getpid())
            os.close(w)
            threading.Event().wait(600)
        os._exit(0)
    os.close(w)
    os.read(r, 100)
    os.close(r)
    os.wait()
"""

EXECUTED_ORPHAN = """
def test_it():
    subprocess.run("sleep 600 > /dev/null 2>&1 &", shell=True, check=True)
"""

THREAD = """
def test_it():
    threading.Thread(target=threading.Event().wait, args=(600,), daemon=True).start()
"""

DESCRIPTOR = """
def test_it():
    os.open("/dev/null", os.O_RDONLY)
"""

FILE = """
def test_it():
    fd, path = tempfile.mkstemp(prefix="forgotten-")
    os.close(fd)
"""

UNCLOSED = """
def test_it():
    open("/dev/null")
"""

HANGS = """
def test_it():
    threading.Event().wait(600)

def test_the_next():
    pass
"""

NEEDS_A_TOOL = """
def test_it(require_tool):
    assert require_tool("sh")
    require_tool("no-such-tool")
"""


class Done(NamedTuple):
    """How a pytest ended."""

    returncode: int
    stdout: str
    stderr: str


# Nothing but a hang takes so long, on a loaded machine neither; what hangs gets HANG_S.
INNER_TIMEOUT_S = 50
HANG_S = 2


def _run(folder: Path, test: str, timeout_s: int = INNER_TIMEOUT_S, **environment: str) -> Done:
    """Run a test file of its own under our conftest, with less patience."""
    conftest = (HERE / "conftest.py").read_text().replace("TEST_TIMEOUT_S = 120", f"TEST_TIMEOUT_S = {timeout_s}")
    leftovers = (HERE / "leftovers.py").read_text().replace("PATIENCE_S = 5.0", "PATIENCE_S = 0.2")
    (folder / "conftest.py").write_text(conftest)
    (folder / "leftovers.py").write_text(leftovers)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (folder / "test_it.py").write_text(f"import os, subprocess, tempfile, threading\n{test}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    variables = {name: value for name, value in os.environ.items() if name != "CI"} | environment
    # Into files: what it leaves on purpose would hold a pipe open.
    with open(folder / "stdout", "w") as stdout, open(folder / "stderr", "w") as stderr:
        status = subprocess.run(
            command, cwd=folder, env=variables, stdout=stdout, stderr=stderr, timeout=100, check=False
        ).returncode
    done = Done(status, (folder / "stdout").read_text(), (folder / "stderr").read_text())
    # What it has left on purpose ends here, and is found by this run's own check if not.
    for pid in re.findall(r"^  process (\d+): state [^Z]", done.stdout, re.MULTILINE):
        os.kill(int(pid), 9)
    return done


def test_a_clean_test_passes(tmp_path):
    """tmp_path, closed files, reaped children and ending threads are no leftovers."""
    done = _run(tmp_path, CLEAN)

    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.parametrize(
    ("test", "found"),
    [
        (CHILD, r"process \d+: state S, sleep 600"),
        (ZOMBIE, r"process \d+: state Z, no command line"),
        (FORKED_ORPHAN, r"process \d+: state S, .*pytest"),
        (EXECUTED_ORPHAN, r"process \d+: state S, sleep 600"),
        (THREAD, r"thread \d+: <Thread\(Thread-1 "),
        (DESCRIPTOR, r"descriptor \d+: /dev/null"),
        (FILE, r"temporary file .*/forgotten-"),
    ],
    ids=["child", "zombie", "forked orphan", "executed orphan", "thread", "descriptor", "file"],
)
def test_what_is_left_is_named(test, found, tmp_path):
    """Each kind of thing fails the test that left it."""
    done = _run(tmp_path, test)

    assert done.returncode == 1
    assert re.search(found, done.stdout), done.stdout
    assert "1 passed, 1 error" in done.stdout


def test_what_is_not_closed_fails_its_test(tmp_path):
    """A file that only the garbage collector closed is a warning, and warnings are errors."""
    done = _run(tmp_path, UNCLOSED)

    assert done.returncode == 1
    assert "ResourceWarning" in done.stdout


def test_a_hang_is_a_readable_failure(tmp_path):
    """The test fails with all stacks on stderr, and the next one runs."""
    done = _run(tmp_path, HANGS, HANG_S)

    assert done.returncode == 1
    assert f"the test hangs: it took longer than {HANG_S} s" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
    assert re.search(r'File ".*test_it.py", line 4 in test_it', done.stderr)


@pytest.mark.parametrize(("environment", "outcome"), [({}, "1 skipped"), ({"CI": "true"}, "1 failed")])
def test_a_missing_tool_skips_but_not_under_ci(environment, outcome, tmp_path):
    """require_tool gives the path of what is there."""
    done = _run(tmp_path, NEEDS_A_TOOL, **environment)

    assert outcome in done.stdout
