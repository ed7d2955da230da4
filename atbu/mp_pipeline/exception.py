"""The errors of the library, all of them a PipelineError and all of them picklable.

Where the distribution that holds ``atbu.common`` is installed, they are also instances of its classes of the
same names, which programs catch. It is no dependency: without it nothing is missing.
"""

from __future__ import annotations

import importlib
import io
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

ANOMALY_KIND_EXCEPTION: Final = "exception"
ANOMALY_KIND_CANCELLED: Final = "cancelled"
ANOMALY_KIND_UNEXPECTED_STATE: Final = "unexpected state"


class Anomaly:
    """Something that went wrong beside the work items: a callback that raised, a worker that would not end.

    Args:
        kind: One of the ``ANOMALY_KIND_…`` constants.
        exception: What was raised, where something was.
        message: What happened, for people.
    """

    def __init__(self, kind: str, exception: BaseException | None = None, message: str | None = None) -> None:
        self.kind = kind
        self.exception = exception
        self.message = message

    def __repr__(self) -> str:
        return f"Anomaly(kind={self.kind!r}, exception={self.exception!r}, message={self.message!r})"

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if isinstance(other, Anomaly) else NotImplemented


def _common_module() -> ModuleType | None:
    try:
        return importlib.import_module("atbu.common.exception")
    except ImportError:
        return None


if TYPE_CHECKING:
    _CommonError = Exception
    _CommonArgument = Exception
    _CommonState = Exception
    _CommonStarted = Exception
    _CommonNotStarted = Exception
else:
    _COMMON = _common_module()
    _CommonError = getattr(_COMMON, "AtbuException", Exception)
    _CommonArgument = getattr(_COMMON, "InvalidFunctionArgument", Exception)
    _CommonState = getattr(_COMMON, "InvalidStateError", Exception)
    _CommonStarted = getattr(_COMMON, "QueueListenerAlreadyStarted", Exception)
    _CommonNotStarted = getattr(_COMMON, "QueueListenerNotStarted", Exception)
    Anomaly = getattr(_COMMON, "Anomaly", Anomaly)


class WorkerTraceback(Exception):
    """The traceback of a worker as text; the ``__cause__`` of an error that was raised there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"raised in a worker:\n{self.text}"


class PipelineError(_CommonError):
    """Base of every error of the library.

    Args:
        message: What happened, for people.
        cause: What it came from, if that is known; any object.
    """

    message: str | None

    def __init__(self, message: str | None = None, cause: Any = None) -> None:
        Exception.__init__(self, message)
        self.message = message
        self._cause = cause

    @property
    def cause(self) -> Any:
        """What the error came from, or None."""
        return self._cause

    def __str__(self) -> str:
        text = type(self).__name__ if self.message is None else str(self.message)
        return text if self._cause is None else f"{text} cause={self._cause}"

    def __reduce__(self) -> tuple[Any, ...]:
        # By the facts that are there, not by calling __init__ again: its arguments differ from class to class
        # (BaseException would pass the message as the first of them), and derived classes need do nothing.
        remote = self.__cause__.text if isinstance(self.__cause__, WorkerTraceback) else None
        return _restore, (type(self), self.args, remote), self.__dict__


def _restore(cls: type[PipelineError], args: tuple[Any, ...], remote: str | None) -> PipelineError:
    error = cls.__new__(cls)
    error.args = args
    if remote is not None:
        error.__cause__ = WorkerTraceback(remote)
    return error


# The base of the errors as programs written for the original import it from here.
AtbuException: type[Exception] = PipelineError if _CommonError is Exception else _CommonError


class InvalidFunctionArgument(PipelineError, _CommonArgument):
    """A caller gave an argument that is not allowed."""


class InvalidStateError(PipelineError, _CommonState):
    """A caller asked for something that is not possible now."""


class QueueListenerAlreadyStarted(PipelineError, _CommonStarted):
    """The log relay of this process runs already; ``deinitialize_logging`` ends it."""


class QueueListenerNotStarted(PipelineError, _CommonNotStarted):
    """The log relay of this process does not run."""


class GlobalContextNotSet(PipelineError):
    """``global_init`` was not called in this process, nor its initialiser for worker processes."""


class PipelineResultIsNotPipelineWorkItem(PipelineError):
    """A stage returned something else than the work item it was given."""


class PipelineLastStageError(PipelineError):
    """The last stage asked for a pipe with the next one."""


class PipelineFutureStuckPendingError(PipelineError):
    """A work item was never finished by the pipeline."""


class InvalidPipeConnectionMessage(PipelineError):
    """A pipe between two stages held something else than was expected."""


class PipeConnectionAlreadyEof(PipelineError):
    """Data was written to a pipe after the end of the data had been sent."""


class PipeConnectionWrongSide(PipelineError, io.UnsupportedOperation, NotImplementedError):
    """A read from the writer's end of a pipe, or a write to the reader's."""


class PipeConnectionAborted(PipelineError, ConnectionError):
    """The writer of a pipe went without ending its data: what was read is not all there was to be.

    Args:
        reason: Why, in the writer's words, where it could still say.
    """

    def __init__(self, reason: str | None = None, cause: Any = None) -> None:
        why = "the writer of the pipe vanished" if reason is None else f"the writer of the pipe aborted: {reason}"
        super().__init__(f"{why}; what was read from it is incomplete", cause)
        self.reason = reason


class PipelinePicklingError(PipelineError):
    """Something could not be brought from one process to another.

    Args:
        what: What it was: "the item", "the stage", "the result" …
        stage: What messages call the stage it was for, or came from.
        item: What messages call the work item.
        detail: What pickle said.
    """

    def __init__(self, what: str, stage: str | None, item: str | None, detail: str) -> None:
        super().__init__(
            f"{_where(stage)}{what} could not be pickled or unpickled{_of(item)}: {detail}. "
            "Only what pickle can carry goes to a worker and back: no lambda, open file, lock or generator."
        )
        self.what = what
        self.stage = stage
        self.item = item
        self.detail = detail


class PipelineStageError(PipelineError):
    """Stands for what a stage raised in a worker and could not travel itself, or was no Exception.

    Args:
        exc_type: The name of its class.
        exc_text: Its text.
        traceback_text: The worker's traceback.
    """

    def __init__(self, exc_type: str, exc_text: str, traceback_text: str) -> None:
        super().__init__(f"the stage raised {exc_type}: {exc_text}" if exc_text else f"the stage raised {exc_type}")
        self.exc_type = exc_type
        self.exc_text = exc_text
        self.traceback_text = traceback_text
        self.__cause__ = WorkerTraceback(traceback_text) if traceback_text else None


class PipelineWorkerDied(PipelineError):
    """A worker process ended while it held a work item.

    Args:
        stage: What messages call the stage that was running.
        stage_num: Its number; 0 is the first.
        pid: The worker's process id.
        exitcode: As in multiprocessing: the exit status, minus the signal's number, or None where it is unknown.
        item: What messages call the work item.
        retried: How often the item had been tried again before.
        note: A sentence to add, for what only the pipeline knows.
    """

    def __init__(
        self,
        stage: str | None,
        stage_num: int | None,
        pid: int | None,
        exitcode: int | None,
        item: str | None,
        retried: int = 0,
        note: str | None = None,
    ) -> None:
        held = "" if item is None else f" while it held {item!r}; {_retried_text(retried)}"
        # The kernel's out-of-memory killer is the likely sender, and it leaves no other trace in this process.
        hint = (
            " Out of memory? Try fewer items at once, or a stage that needs less."
            if exitcode == -9 and note is None
            else ""
        )
        more = "" if note is None else f" {note}"
        super().__init__(f"{_where(stage)}worker {pid} {_end_text(exitcode)}{held}.{hint}{more}")
        self.stage = stage
        self.stage_num = stage_num
        self.pid = pid
        self.exitcode = exitcode
        self.item = item
        self.retried = retried
        self.note = note


class PipelineStageTimeout(PipelineError):
    """A stage took longer for one attempt at an item than its ``timeout``, and its worker was ended.

    Args:
        stage: What messages call the stage.
        stage_num: Its number; 0 is the first.
        pid: The process id of the worker that was ended.
        timeout_s: The seconds it had.
        item: What messages call the work item.
        retried: How often the item had been tried again before.
    """

    def __init__(
        self,
        stage: str | None,
        stage_num: int | None,
        pid: int | None,
        timeout_s: float,
        item: str | None,
        retried: int = 0,
    ) -> None:
        super().__init__(
            f"{_where(stage)}worker {pid} was not done{_of(item, 'with')} after {timeout_s:g} s and was ended; "
            f"{_retried_text(retried)}. Does it hang? Else give the stage a longer timeout."
        )
        self.stage = stage
        self.stage_num = stage_num
        self.pid = pid
        self.timeout_s = timeout_s
        self.item = item
        self.retried = retried


class PipelineBroken(PipelineError):
    """The pipeline cannot get workers any more: its items fail with this, and it takes no new ones.

    Args:
        message: What broke it.
        traceback_text: The traceback of the last worker that could not start, where there is one.
    """

    def __init__(self, message: str | None = None, traceback_text: str | None = None) -> None:
        super().__init__(message)
        self.traceback_text = traceback_text
        self.__cause__ = WorkerTraceback(traceback_text) if traceback_text else None


class PipelineClosed(InvalidFunctionArgument, InvalidStateError):
    """A work item was submitted to a pipeline that has been shut down."""


class PipelineTerminated(PipelineError):
    """A work item was unfinished when its pipeline was terminated.

    Args:
        stage: What messages call the stage that was running, or None between two stages.
        item: What messages call the work item.
    """

    def __init__(self, stage: str | None, item: str | None) -> None:
        subject = "the item" if item is None else repr(item)
        done = "was still at work and was ended" if stage is not None else "was unfinished and was given up"
        super().__init__(f"{_where(stage)}{subject} {done}: the pipeline was terminated")
        self.stage = stage
        self.item = item


def _where(stage: str | None) -> str:
    return "" if stage is None else f"stage {stage!r}: "


def _of(item: str | None, preposition: str = "for") -> str:
    return "" if item is None else f" {preposition} {item!r}"


def _retried_text(retried: int) -> str:
    if not retried:
        return "the item was not retried"
    return f"the item had been retried {'once' if retried == 1 else f'{retried} times'}"


def _end_text(exitcode: int | None) -> str:
    """How a process ended, its signal by name; ``exitcode`` as in multiprocessing."""
    if exitcode is None:
        return "vanished (how it ended is unknown)"
    if exitcode >= 0:
        return f"ended with exit status {exitcode}"
    import signal  # Only an error that has happened needs its enums.

    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"was killed by signal {-exitcode}"


__all__ = [
    "ANOMALY_KIND_CANCELLED",
    "ANOMALY_KIND_EXCEPTION",
    "ANOMALY_KIND_UNEXPECTED_STATE",
    "Anomaly",
    "AtbuException",
    "GlobalContextNotSet",
    "InvalidFunctionArgument",
    "InvalidPipeConnectionMessage",
    "InvalidStateError",
    "PipeConnectionAborted",
    "PipeConnectionAlreadyEof",
    "PipeConnectionWrongSide",
    "PipelineBroken",
    "PipelineClosed",
    "PipelineError",
    "PipelineFutureStuckPendingError",
    "PipelineLastStageError",
    "PipelinePicklingError",
    "PipelineResultIsNotPipelineWorkItem",
    "PipelineStageError",
    "PipelineStageTimeout",
    "PipelineTerminated",
    "PipelineWorkerDied",
    "QueueListenerAlreadyStarted",
    "QueueListenerNotStarted",
    "WorkerTraceback",
]
