"""What a stage offers: whether it wants an item, its work, and where that work runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from .exception import InvalidStateError
from .work_item import PipelineWorkItem


class PipelineStage:
    """A step of a pipeline. Derive from it, or give the two callables.

    Usually :class:`SubprocessPipelineStage` or :class:`ThreadPipelineStage` is what you want. A process stage
    is pickled for every item and so is fresh for every item; a thread stage is the caller's own object.

    Args:
        fn_determiner: Called in the parent with the submitted item; says whether this stage wants it.
        fn_worker: Called with a copy of the item and the keyword arguments; returns that copy.
        stage_kwargs: Keyword arguments for ``fn_worker``; those of the item override them.
    """

    #: Seconds one attempt at one item may take before its worker is ended (process stages only).
    timeout: float | None = None
    #: How many further attempts an item gets after a worker's death, a time-out, or an error in ``retry_on``.
    retries: int = 0
    #: Exception classes after which an item is tried again.
    retry_on: tuple[type[BaseException], ...] | type[BaseException] = ()
    #: Opt in to being kept in the worker between items instead of being fresh for each.
    keep_in_worker: ClassVar[bool] = False
    #: Promise that the stage wants every item, so that it may run back to back with its neighbours.
    wants_all: bool = False
    #: What messages call this stage; its class's name where None.
    name: str | None = None

    def __init__(
        self,
        fn_determiner: Callable[[Any], bool] | None = None,
        fn_worker: Callable[..., Any] | None = None,
        **stage_kwargs: Any,
    ) -> None:
        self.fn_determiner = fn_determiner
        self.fn_worker = fn_worker
        self.stage_kwargs = stage_kwargs

    @property
    def is_subprocess(self) -> bool:
        """Whether the work runs in a worker process (True) or in a thread of the parent (False)."""
        raise NotImplementedError(
            "is_subprocess is not implemented: use SubprocessPipelineStage or ThreadPipelineStage, or override it"
        )

    @property
    def is_pipe_with_next_stage(self) -> bool:
        """Whether this stage and the next run at the same time, joined by a pipe. Asked for each item."""
        return False

    def is_for_stage(self, pwi: Any) -> bool:
        """Say whether this stage wants ``pwi``. Runs in the parent, at most once for each item."""
        if self.fn_determiner is None:
            raise InvalidStateError(f"{type(self).__name__} has no fn_determiner and does not override is_for_stage")
        return self.fn_determiner(pwi)

    def perform_stage_work(self, pwi: Any, **kwargs: Any) -> Any:
        """Do the work on ``pwi``, a copy of the item, and return it."""
        if self.fn_worker is None:
            raise InvalidStateError(f"{type(self).__name__} has no fn_worker and does not override perform_stage_work")
        return self.fn_worker(pwi, **kwargs)


class SubprocessPipelineStage(PipelineStage):
    """A stage whose work runs in a worker process."""

    @property
    def is_subprocess(self) -> bool:
        return True


class ThreadPipelineStage(PipelineStage):
    """A stage whose work runs in a thread of the process that hosts the pipeline."""

    @property
    def is_subprocess(self) -> bool:
        return False


def stage_label(stage: PipelineStage, stage_num: int) -> str:
    """What messages call a stage: its ``name``, else its class's name with its number."""
    try:
        own = getattr(stage, "name", None)
    except BaseException:  # noqa: BLE001 - a property of the user's; a message must come out all the same
        own = None
    return own if isinstance(own, str) and own else f"{type(stage).__name__} (number {stage_num})"


__all__ = [
    "PipelineStage",
    "PipelineWorkItem",
    "SubprocessPipelineStage",
    "ThreadPipelineStage",
    "stage_label",
]
