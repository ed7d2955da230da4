"""The errors: what they say, that they travel, and what they are where atbu.common is installed."""

from __future__ import annotations

import copy
import importlib.util
import io
import os
import pickle
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path

import pytest

import atbu.mp_pipeline
from atbu.mp_pipeline import exception as ex
from atbu.mp_pipeline.exception import PipelineError

PLAIN_CLASSES = [
    ex.InvalidFunctionArgument,
    ex.InvalidStateError,
    ex.QueueListenerAlreadyStarted,
    ex.QueueListenerNotStarted,
    ex.GlobalContextNotSet,
    ex.PipelineResultIsNotPipelineWorkItem,
    ex.PipelineLastStageError,
    ex.PipelineFutureStuckPendingError,
    ex.InvalidPipeConnectionMessage,
    ex.PipeConnectionAlreadyEof,
    ex.PipeConnectionWrongSide,
    ex.PipelineClosed,
]

ERRORS = [
    PipelineError(),
    PipelineError("what happened"),
    PipelineError("what happened", cause="a cause"),
    *[cls("what happened", "a cause") for cls in PLAIN_CLASSES],
    ex.PipeConnectionAborted(),
    ex.PipeConnectionAborted("the disk is full"),
    ex.PipelineWorkerDied("zstd", 2, 4242, -9, "a/b.log"),
    ex.PipelineWorkerDied(None, None, None, None, None, retried=3, note="A note."),
    ex.PipelineStageTimeout("zstd", 2, 4242, 1.5, "a/b.log", retried=1),
    ex.PipelineBroken("no worker starts", "Traceback of the initialiser"),
    ex.PipelineBroken(),
    ex.PipelineTerminated("zstd", "a/b.log"),
    ex.PipelineTerminated(None, None),
    ex.PipelinePicklingError("the result", "zstd", "a/b.log", "cannot pickle '_io.FileIO' object"),
    ex.PipelineStageError("SystemExit", "3", "Traceback of the stage"),
]


class DerivedError(PipelineError):
    """A program's own error, with arguments of its own and nothing done for pickle."""

    def __init__(self, path: str, *, line: int) -> None:
        super().__init__(f"{path}:{line}")
        self.path = path
        self.line = line


@pytest.mark.parametrize("error", [*ERRORS, DerivedError("a.toml", line=7)], ids=lambda e: f"{type(e).__name__}-{e}")
@pytest.mark.parametrize("copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_an_error_arrives_as_it_was_sent(error, copied):
    """Type, text, arguments, attributes and notes survive pickling and copying."""
    arrived = copied(error)

    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert arrived.args == error.args
    assert arrived.__dict__ == error.__dict__
    assert str(arrived.__cause__) == str(error.__cause__)


def test_a_note_travels():
    """What add_note() added is still there."""
    error = PipelineError("what happened")
    error.add_note("seen on a Tuesday")

    assert pickle.loads(pickle.dumps(error)).__notes__ == ["seen on a Tuesday"]


def test_every_class_is_tried():
    """ERRORS has an example of every error there is."""
    tried = {type(error) for error in ERRORS}
    all_of_them = {cls for cls in vars(ex).values() if isinstance(cls, type) and issubclass(cls, PipelineError)}

    assert all_of_them <= tried


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_one_class_catches_all(error):
    """Every error is a PipelineError, with message and cause."""
    assert isinstance(error, PipelineError)
    assert isinstance(error, ex.AtbuException)
    assert error.message is None or error.message in str(error)
    assert error.cause in (None, "a cause")


def test_the_cause_is_part_of_the_text():
    """str() is the message, and the cause where there is one."""
    assert str(PipelineError("what happened")) == "what happened"
    assert str(PipelineError("what happened", cause=OSError("no space"))) == "what happened cause=no space"
    assert str(PipelineError()) == "PipelineError"


def test_the_workers_traceback_is_shown_and_travels():
    """A WorkerTraceback as __cause__ stands in the traceback, also after pickling."""
    error = PipelineError("what happened")
    error.__cause__ = ex.WorkerTraceback("Traceback:\n  in stage.py")

    shown = "".join(traceback.format_exception(pickle.loads(pickle.dumps(error))))

    assert "raised in a worker:\nTraceback:\n  in stage.py" in shown
    assert str(pickle.loads(pickle.dumps(error.__cause__))) == str(error.__cause__)


@pytest.mark.parametrize(
    ("error", "also"),
    [
        (ex.PipeConnectionAborted(), (OSError, ConnectionError)),
        (ex.PipeConnectionWrongSide("no"), (io.UnsupportedOperation, NotImplementedError, OSError, ValueError)),
        (ex.PipelineClosed("no"), (ex.InvalidFunctionArgument, ex.InvalidStateError)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_are_what_programs_catch(error, also):
    """Errors of a kind that Python has a class for are of that class too."""
    for cls in also:
        assert isinstance(error, cls)


def test_an_aborted_pipe_is_no_end_of_file():
    """Nobody takes PipeConnectionAborted for the end of the data."""
    assert not issubclass(ex.PipeConnectionAborted, EOFError)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            ex.PipelineWorkerDied("zstd", 0, 4242, -9, "a/b.log"),
            "stage 'zstd': worker 4242 was killed by SIGKILL while it held 'a/b.log'; the item was not retried. "
            "Out of memory? Try fewer items at once, or a stage that needs less.",
        ),
        (
            ex.PipelineWorkerDied("zstd", 0, 4242, -11, "a/b.log", retried=1),
            "stage 'zstd': worker 4242 was killed by SIGSEGV while it held 'a/b.log'; the item had been retried once.",
        ),
        (
            ex.PipelineWorkerDied("zstd", 0, 4242, 3, "a/b.log", retried=2, note="It was a producer."),
            "stage 'zstd': worker 4242 ended with exit status 3 while it held 'a/b.log'; "
            "the item had been retried 2 times. It was a producer.",
        ),
        (
            ex.PipelineWorkerDied(None, None, 4242, -64, None),
            "worker 4242 was killed by SIGRTMAX.",
        ),
        (
            ex.PipelineWorkerDied(None, None, 4242, -63, None),
            "worker 4242 was killed by signal 63.",
        ),
        (
            ex.PipelineWorkerDied(None, None, 4242, None, None),
            "worker 4242 vanished (how it ended is unknown).",
        ),
        (
            ex.PipelineStageTimeout("zstd", 0, 4242, 2.5, "a/b.log"),
            "stage 'zstd': worker 4242 was not done with 'a/b.log' after 2.5 s and was ended; the item was not "
            "retried. Does it hang? Else give the stage a longer timeout.",
        ),
        (
            ex.PipelinePicklingError("the result", "zstd", "a/b.log", "cannot pickle it"),
            "stage 'zstd': the result could not be pickled or unpickled for 'a/b.log': cannot pickle it. "
            "Only what pickle can carry goes to a worker and back: no lambda, open file, lock or generator.",
        ),
        (ex.PipelineStageError("SystemExit", "", ""), "the stage raised SystemExit"),
        (ex.PipelineStageError("MyError", "no", ""), "the stage raised MyError: no"),
        (
            ex.PipelineTerminated("zstd", "a/b.log"),
            "stage 'zstd': 'a/b.log' was still at work and was ended: the pipeline was terminated",
        ),
        (
            ex.PipelineTerminated(None, "a/b.log"),
            "'a/b.log' was unfinished and was given up: the pipeline was terminated",
        ),
        (
            ex.PipeConnectionAborted("no space left"),
            "the writer of the pipe aborted: no space left; what was read from it is incomplete",
        ),
    ],
)
def test_an_error_says_where_what_and_what_to_try(error, text):
    """The text is built from the facts."""
    assert str(error) == text


def test_a_name_of_any_bytes_can_be_printed():
    """A file name that is no UTF-8 does not make the error unprintable."""
    name = os.fsdecode(b"caf\xe9\n")

    text = str(ex.PipelineWorkerDied("zstd", 0, 1, -9, name))

    assert text.encode("utf-8")
    assert "\n" not in text


def test_an_anomaly_compares_and_shows_its_facts():
    """Anomaly has the three attributes, equality and a repr."""
    anomaly = ex.Anomaly(ex.ANOMALY_KIND_EXCEPTION, message="what happened")

    assert (anomaly.kind, anomaly.exception, anomaly.message) == ("exception", None, "what happened")
    assert anomaly == ex.Anomaly(ex.ANOMALY_KIND_EXCEPTION, None, "what happened")
    assert anomaly != ex.Anomaly(ex.ANOMALY_KIND_CANCELLED)
    assert anomaly != "exception"
    assert "what happened" in repr(anomaly)
    assert pickle.loads(pickle.dumps(anomaly)) == anomaly


# A stand-in for the other distribution, which shares the namespace; what programs rely on and no more.
COMMON = """
from dataclasses import dataclass

@dataclass
class Anomaly:
    kind: str
    exception: Exception = None
    message: str = None

class AtbuException(Exception):
    def __init__(self, message, cause=None):
        super().__init__(message)
        self.message = message
        self._cause = cause

    @property
    def cause(self):
        return self._cause

class InvalidFunctionArgument(AtbuException):
    def __init__(self, message=None, cause=None):
        super().__init__(message=message, cause=cause)

class InvalidStateError(AtbuException):
    def __init__(self, message=None, cause=None):
        super().__init__(message=message, cause=cause)

class QueueListenerAlreadyStarted(AtbuException): ...
class QueueListenerNotStarted(AtbuException): ...
"""

WITH_COMMON = """
import copy, pickle, sys
from atbu.common import exception as common
from atbu.mp_pipeline import exception as ex

assert ex.AtbuException is common.AtbuException
assert ex.Anomaly is common.Anomaly

by_name = ["InvalidFunctionArgument", "InvalidStateError", "QueueListenerAlreadyStarted", "QueueListenerNotStarted"]
for name in by_name:
    ours, theirs = getattr(ex, name), getattr(common, name)
    try:
        raise ours("what happened", cause="a cause")
    except theirs as error:
        assert isinstance(error, ex.PipelineError)
    try:
        raise ours
    except theirs as error:
        assert error.message is None

errors = [
    ex.PipelineError("m", "c"), ex.InvalidStateError("m"), ex.PipelineClosed("m"), ex.PipeConnectionAborted("r"),
    ex.PipeConnectionWrongSide("m"), ex.PipelineWorkerDied("zstd", 0, 1, -9, "a"), ex.PipelineBroken("m", "tb"),
]
for error in errors:
    assert isinstance(error, common.AtbuException), error
    assert error.message and error.message in str(error)
    for arrived in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(arrived) is type(error) and str(arrived) == str(error), arrived
        assert arrived.__dict__ == error.__dict__ and arrived.cause == error.cause
assert isinstance(ex.PipelineClosed(), common.InvalidStateError)
assert isinstance(ex.PipelineClosed(), common.InvalidFunctionArgument)
assert isinstance(ex.PipeConnectionAborted(), OSError)
print("good")
"""

WITHOUT_COMMON = """
from atbu.mp_pipeline import exception as ex

assert ex.AtbuException is ex.PipelineError
assert ex.Anomaly.__module__ == "atbu.mp_pipeline.exception"
print("good")
"""

BROKEN_COMMON = "import a_module_that_is_not_there"


def _run_with_path(program: str, folder: Path) -> str:
    """Run a program whose ``atbu`` has two homes: the library's, and ``folder``."""
    library = Path(atbu.mp_pipeline.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(library)])}
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _distribution(folder: Path, source: str) -> Path:
    package = folder / "atbu" / "common"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "exception.py").write_text(source)
    return folder


def test_where_atbu_common_is_installed_the_errors_are_its_too(tmp_path):
    """A program catches our errors by atbu.common's classes, and they still travel."""
    assert _run_with_path(WITH_COMMON, _distribution(tmp_path, COMMON)) == "good"


@pytest.mark.skipif(importlib.util.find_spec("atbu.common") is not None, reason="atbu.common is installed")
def test_where_it_is_not_nothing_is_missing(tmp_path):
    """Without atbu.common the library has classes of its own."""
    assert _run_with_path(WITHOUT_COMMON, tmp_path) == "good"


def test_where_it_is_broken_nothing_is_missing(tmp_path):
    """An atbu.common that cannot be imported is none."""
    assert _run_with_path(WITHOUT_COMMON, _distribution(tmp_path, BROKEN_COMMON)) == "good"
