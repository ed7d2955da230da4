"""Runs one stage on one item: the same steps in a worker process, in a thread and in the serial runner.

    set the pipe ends ─▶ perform_stage_work ─▶ check the answer ─▶ encode it ─▶ verdict to the pipes ─▶ Outcome

The verdict is spoken last: the clean end goes down the pipe only when the answer is good and could be encoded,
so a consumer never takes half of a failed producer's data for the whole.
"""

from __future__ import annotations

import pickle
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .exception import (
    PipelinePicklingError,
    PipelineResultIsNotPipelineWorkItem,
    PipelineStageError,
    WorkerTraceback,
)
from .fork_guard import disown, own
from .named_tuple import NamedTuple
from .stage import PipelineStage
from .work_item import PipelineWorkItem

if TYPE_CHECKING:
    from .stage_connection import StageConnection


class Outcome(NamedTuple):
    """How one stage ended: ``answer`` is what ``encode`` made of the returned item, or ``failure`` says why not."""

    answer: Any
    failure: BaseException | None
    #: When the stage failed, CLOCK_MONOTONIC ns: in a chain the failure that came first is the cause of the others.
    failed_at_ns: int = 0


def run_stage(
    stage: PipelineStage,
    item: PipelineWorkItem,
    pipe_in: StageConnection | None = None,
    pipe_out: StageConnection | None = None,
    encode: Callable[[PipelineWorkItem], Any] | None = None,
) -> Outcome:
    """Run ``stage`` on ``item``, the stage's own copy, and give both pipe ends their verdict. Never raises."""
    failure: BaseException | None = None
    answer: Any = None
    failed_at_ns = 0
    submission = item._submission
    try:
        if pipe_in is not None or pipe_out is not None:
            item.pipe_in, item.pipe_out = pipe_in, pipe_out
            item.pipe_conn = pipe_in if pipe_in is not None else pipe_out
        returned = perform(stage, item, submission)
        if returned.pipe_conn is not None or pipe_in is not None or pipe_out is not None:
            returned.pipe_conn = returned.pipe_in = returned.pipe_out = None
        answer = returned if encode is None else encode(returned)
        is_ok, reason = True, None
        if returned.exceptions:
            failed_at_ns = _failure_moment_ns(returned.exceptions[0], pipe_in, pipe_out)
            is_ok, reason = False, f"the stage before failed: {first_line(returned.exceptions[0])}"
    except BaseException as ex:  # noqa: BLE001 - whatever user code raises fails this item alone
        failure = ex
        failed_at_ns = _failure_moment_ns(ex, pipe_in, pipe_out)
        is_ok, reason = False, f"the stage before failed: {first_line(ex)}"
    for conn in (pipe_out, pipe_in):
        if conn is not None:
            close_stage_end(conn, is_ok, reason)
    return Outcome(answer, failure, failed_at_ns)


def _failure_moment_ns(failure: BaseException, *ends: StageConnection | None) -> int:
    """When a failed stage began to make its neighbours fail: now, or when its error, on its way out, closed an end."""
    moments = [time.monotonic_ns()]
    for conn in ends:
        if conn is not None and conn.cut_off is not None:
            at_ns, error = conn.cut_off
            if error is None or _are_related(error, failure):
                moments.append(at_ns)
    return min(moments)


def _are_related(one: BaseException, other: BaseException) -> bool:
    """Whether one of the two is the other, or came of it."""
    return any(ex is one for ex in _with_origins(other)) or any(ex is other for ex in _with_origins(one))


def _with_origins(failure: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [failure]
    while waiting:
        ex = waiting.pop()
        if ex is None or any(ex is known for known in found):
            continue
        found.append(ex)
        waiting += [ex.__cause__, ex.__context__]
        if isinstance(ex, BaseExceptionGroup):
            waiting += ex.exceptions
    return found


def perform(stage: PipelineStage, item: PipelineWorkItem, submission: int | None) -> PipelineWorkItem:
    """The stage's work itself: what it returns, if that is an answer. Raises what the stage raises."""
    kwargs = getattr(stage, "stage_kwargs", None) or {}
    if item.user_kwargs:
        kwargs = kwargs | item.user_kwargs
    returned: PipelineWorkItem = stage.perform_stage_work(item, **kwargs)
    check_answer(returned, submission)
    return returned


class _ForkCopy:
    """Closes a stage's pipe end in a process forked from this one, where an end only closes."""

    def __init__(self, conn: StageConnection) -> None:
        self._conn = conn

    def close(self) -> None:
        self._conn.finish(False, None)


def open_stage_end(fd: int, is_write: bool, interrupt_fd: int | None = None) -> StageConnection:
    """A stage's end of a pipe, which no process forked from this one keeps."""
    from .stage_connection import StageConnection  # brings 6 ms of imports, which only who works on bytes needs

    conn = StageConnection(fd, readable=not is_write, writable=is_write)
    conn.interrupt_fd = interrupt_fd
    conn.fork_copy = own(_ForkCopy(conn))
    return conn


def close_stage_end(conn: StageConnection, is_ok: bool, reason: str | None) -> None:
    """Give the end its verdict and close it; doing it twice is fine."""
    conn.finish(is_ok, reason)
    conn.cut_off = None  # an exception knows the frames that know us
    if conn.fork_copy is not None:
        disown(conn.fork_copy)
        conn.fork_copy = None


def check_answer(returned: Any, submission: int | None) -> None:
    """Refuse what is no work item, or is another submitted item's object."""
    if not isinstance(returned, PipelineWorkItem):
        raise PipelineResultIsNotPipelineWorkItem(
            f"the stage returned {type(returned).__name__!r} instead of the PipelineWorkItem it was given"
        )
    if returned._submission is not None and returned._submission != submission:
        raise PipelineResultIsNotPipelineWorkItem("the stage returned another work item than the one it was given")


def check_unpickled(answer: Any) -> None:
    """Refuse what a ``__reduce__`` of the user's has made of an answer on its way home."""
    if not isinstance(answer, PipelineWorkItem):
        raise TypeError(f"its pickle is one of {type(answer).__name__!r}, not of a PipelineWorkItem")


def first_line(ex: BaseException) -> str:
    """The class and the first line of an exception's text; for a reason that crosses a pipe."""
    text = _text_of(ex, "(its text cannot be had)").partition("\n")[0]
    return f"{type(ex).__name__}: {text}" if text else type(ex).__name__


def _text_of(ex: BaseException, otherwise: str = "") -> str:
    try:
        return str(ex)
    except BaseException:  # noqa: BLE001 - a broken __str__ is the user's, the failure must still be told
        return otherwise


def add_note(ex: BaseException, note: str) -> None:
    """Add a note to a user's exception, if it takes one."""
    try:
        ex.add_note(note)
    except BaseException:  # noqa: BLE001 - an override of the user's, or __notes__ is no list
        return


def describe_failure(ex: BaseException) -> str:
    """The traceback of ``ex`` as text."""
    try:
        return "".join(traceback.format_exception(ex))
    except BaseException:  # noqa: BLE001 - see _text_of
        return _plain_traceback(ex)


def _plain_traceback(ex: BaseException) -> str:
    """Where it was raised, from what is in memory: no file is opened, no module imported."""
    lines = []
    step = ex.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {step.tb_lineno}, in {code.co_name}\n')
        step = step.tb_next
    return "".join(lines) + first_line(ex) + "\n"


def portable_failure(ex: BaseException, text: str | None = None) -> BaseException:
    """``ex`` if it is an Exception that survives pickling, else a PipelineStageError in its place."""
    if isinstance(ex, Exception) and _can_travel(ex):
        return ex
    text = describe_failure(ex) if text is None else text
    stands_for_it = PipelineStageError(_qualified_name(type(ex)), _text_of(ex), text)
    for note in _notes_of(ex):
        stands_for_it.add_note(note)
    return stands_for_it


def _notes_of(ex: BaseException) -> list[str]:
    try:
        return [str(note) for note in getattr(ex, "__notes__", ())]
    except BaseException:  # noqa: BLE001 - see _text_of
        return []


def _can_travel(ex: Exception) -> bool:
    try:
        return type(pickle.loads(pickle.dumps(ex))) is type(ex)
    except BaseException:  # noqa: BLE001 - whatever its pickling raises, it cannot travel
        return False


def failure_to_record(ex: BaseException) -> BaseException:
    """What is recorded of a failure in this process: an Exception as it is, anything else wrapped."""
    if isinstance(ex, Exception):
        return ex
    wrapped = PipelineStageError(_qualified_name(type(ex)), _text_of(ex), describe_failure(ex))
    wrapped.__cause__ = ex
    return wrapped


def with_worker_traceback(ex: BaseException, text: str) -> BaseException:
    """``ex``, which came from a worker, with the worker's traceback as its cause."""
    if text and ex.__cause__ is None:
        ex.__cause__ = WorkerTraceback(text)
    return ex


def portable_item_failures(item: PipelineWorkItem) -> None:
    """Make the failures that a stage recorded on its own copy fit to travel."""
    if item.exceptions:
        # what is no exception is the user's, and travels as it is
        item.exceptions = [portable_failure(ex) if isinstance(ex, BaseException) else ex for ex in item.exceptions]


def pickling_error(what: str, stage: str, item: str, ex: BaseException) -> PipelinePicklingError:
    """The error for something that could not be pickled or unpickled."""
    return PipelinePicklingError(what, stage, item, first_line(ex))


def _qualified_name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ in ("builtins", "__main__") else f"{cls.__module__}.{cls.__qualname__}"
