"""The work item: the payload, its position in the pipeline, and its failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class PipelineWorkItem:
    """One piece of work that travels through the stages of a pipeline.

    The submitted object stays in the parent. Each stage that wants it works on a copy: pickled for a worker
    process, ``copy.copy`` for a thread. What comes back is taken over by :meth:`stage_complete`.

    Args:
        user_obj: The caller's payload; always carried back from a stage. It may be the item itself.
        auto_copy_attr: Whether the attributes that a stage set on its copy are carried back too. What stands in
            ``__slots__`` never is: it goes to the stages and belongs to the submitted object.
        kwargs: Keyword arguments for every stage's work; they override the stage's own.
    """

    # Set by the pipeline at submit on the object itself; it travels in the copies, so that a stage that
    # answers with another item's object is found out.
    _submission: int | None = None
    # What is never carried back by auto_copy_attr.
    _OUR_ATTRIBUTES: Final = frozenset(
        (
            "_cur_stage",
            "user_obj",
            "user_kwargs",
            "exceptions",
            "attempts",
            "pipe_conn",
            "pipe_in",
            "pipe_out",
            "_auto_copy_attr",
            "_submission",
        )
    )

    # Defaults, also for classes that do not call our __init__.
    _cur_stage: int = 0
    _auto_copy_attr: bool = True
    user_obj: Any = None
    user_kwargs: dict[str, Any] | None = None
    exceptions: list[BaseException] | None = None
    #: The failures of attempts that were repeated, oldest first; None when there were none.
    attempts: list[BaseException] | None = None
    #: Run a chain of piped process stages inside one worker: right for items so small that two processes cost more
    #: than they save. The stages, their pipes, ends and failures are the same.
    in_one_worker: bool = False
    pipe_conn: Connection | None = None
    pipe_in: Connection | None = None
    pipe_out: Connection | None = None

    def __init__(self, user_obj: Any = None, auto_copy_attr: bool = True, **kwargs: Any) -> None:
        # Only what differs from the class's defaults: an item is pickled on every trip to a worker.
        self.user_obj = user_obj
        if kwargs:
            self.user_kwargs = kwargs
        if not auto_copy_attr:
            self._auto_copy_attr = auto_copy_attr

    def __str__(self) -> str:
        own = " (the item itself)" if self.user_obj is self else f"{self.user_obj}"
        return f"{type(self).__name__}: next_stage={self._cur_stage} user_obj={own} exceps={self.exceptions}"

    @property
    def auto_copy_attr(self) -> bool:
        """Whether :meth:`stage_complete` takes over the attributes a stage set on its copy."""
        return self._auto_copy_attr

    @auto_copy_attr.setter
    def auto_copy_attr(self, value: bool) -> None:
        self._auto_copy_attr = value

    @property
    def is_failed(self) -> bool:
        """True once a failure has been recorded by :meth:`append_exception`."""
        return bool(self.exceptions)

    @property
    def cur_stage(self) -> int:
        """The number of the stage that is asked or run next; the number of stages once the item has ended."""
        return self._cur_stage

    @cur_stage.setter
    def cur_stage(self, value: int) -> None:
        self._cur_stage = value

    def increment_stage(self) -> None:
        """Move on to the next stage."""
        self._cur_stage += 1

    def append_exception(self, ex: BaseException) -> None:
        """Record a failure; from now on :attr:`is_failed` is true. Each exception object is kept once."""
        if self.exceptions is None:
            self.exceptions = []
        if not any(known is ex for known in self.exceptions):
            self.exceptions.append(ex)

    def before_attempt(self, attempt: int) -> None:
        """Prepare the submitted object for an attempt at what it does next; runs in the parent.

        Args:
            attempt: 0 for the first, then one more after each attempt that is repeated.
        """

    def may_retry(self) -> bool:
        """Whether what just failed can be done again: the source can be read again, nothing was published."""
        return True

    def stage_complete(self, stage_num: int, wi: PipelineWorkItem, ex: BaseException | None) -> None:
        """Take over what a stage did; runs in the parent on the submitted object, in ascending stage order.

        Args:
            stage_num: The stage that has ended; 0 is the first.
            wi: The copy the stage returned, or this very object where the stage failed.
            ex: Why the stage failed, or None.
        """
        if ex is not None:
            self.append_exception(ex)
        if wi is self:
            return
        for failure in wi.exceptions or ():
            self.append_exception(failure)
        self.user_obj = self if wi.user_obj is wi else wi.user_obj
        if self._auto_copy_attr:
            self._copy_attributes(wi.__dict__)

    def _take_over(self, attributes: dict[str, Any]) -> None:
        """What :meth:`stage_complete` does where nothing has failed, given no more than the attributes of the copy."""
        self.user_obj = attributes.get("user_obj")
        if self._auto_copy_attr:  # _copy_attributes(), in one piece: this is the parent's hot path
            ours = PipelineWorkItem._OUR_ATTRIBUTES
            for name in attributes:
                if name not in ours:
                    self.__dict__[name] = attributes[name]

    def _copy_attributes(self, theirs: dict[str, Any]) -> None:
        ours = PipelineWorkItem._OUR_ATTRIBUTES
        for name, value in theirs.items():
            if name not in ours:
                self.__dict__[name] = value
