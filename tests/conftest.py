"""What every test gets: a time-out that shows where it hangs, and a check that it leaves nothing behind."""

from __future__ import annotations

import atexit
import faulthandler
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from leftovers import PRIVATE_TMPDIR_VARIABLE, Leftovers, mark_this_process

if TYPE_CHECKING:
    from pipeline_harness import Journal

# Far beyond the slowest test on the slowest machine; what takes longer hangs.
TEST_TIMEOUT_S = 120
# The time-out again, for a test whose clean-up hangs as well.
TEST_TIMEOUT_REPEAT_S = 30


# A loaded machine makes any single example slow; what hangs is seen by the time-out above.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    """Have SIGALRM show every thread's stack, then fail the test.

    Not pytest's faulthandler_timeout: it waits in a thread, and a process with a second thread is one from which
    a pipeline does not fork its template, so that no test would run on the start method that users get.
    """
    # nohup and background jobs ignore them, and so would every program that a test starts.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    # Capturing is off now, so this is where people look.
    stderr = os.fdopen(os.dup(2), "w")
    signal.signal(signal.SIGALRM, _fail_the_hanging_test)
    faulthandler.register(signal.SIGALRM, file=stderr, all_threads=True, chain=True)

    def disarm() -> None:
        faulthandler.unregister(signal.SIGALRM)
        stderr.close()

    config.add_cleanup(disarm)


def _fail_the_hanging_test(_signum: int, _frame: object) -> None:
    pytest.fail(f"the test hangs: it took longer than {TEST_TIMEOUT_S} s (every thread's stack stands on stderr)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, TEST_TIMEOUT_S, TEST_TIMEOUT_REPEAT_S)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _own_tmpdir() -> None:
    """Give this run a temporary folder of its own, so that what is left in it was left by the tests."""
    # Where pytest keeps tmp_path is its own business: failed tests' files are for people to look at.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    folder = tempfile.mkdtemp(prefix="mpptest-")
    os.environ["TMPDIR"] = os.environ[PRIVATE_TMPDIR_VARIABLE] = folder
    tempfile.tempdir = None
    atexit.register(_remove_in, os.getpid(), folder)


def _remove_in(owner_pid: int, folder: str) -> None:
    if os.getpid() == owner_pid:
        shutil.rmtree(folder, ignore_errors=True)


_own_tmpdir()
mark_this_process()


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Fail a test after which a process, thread, descriptor or temporary file is left that was not there before."""
    before = Leftovers.now()
    yield
    left = Leftovers.wait_until_like(before)
    if left:
        pytest.fail("the test has left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """What was done, line by line, by whatever process."""
    # Not above: multiprocessing, which this brings, would clean up at exit after our temporary folder has gone.
    from pipeline_harness import Journal

    return Journal(tmp_path / "journal")


@pytest.fixture
def fifo(tmp_path: Path) -> Callable[[str], str]:
    """Makes a FIFO; gives its path."""

    def make(name: str) -> str:
        path = tmp_path / name
        os.mkfifo(path)
        return str(path)

    return make


@pytest.fixture
def require_tool() -> Callable[[str], str]:
    """``require_tool("zstd")`` gives the path of a program, or skips the test. Under CI it must be there."""

    def require(name: str) -> str:
        path = shutil.which(name)
        if path is not None:
            return path
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed; under CI every tool has to be")
        pytest.skip(f"{name} is not installed")

    return require


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The checkout these tests stand in; the code they test may be installed elsewhere."""
    return Path(__file__).resolve().parent.parent
