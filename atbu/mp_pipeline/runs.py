"""What the engine keeps of an item on its way: the entry, its present run, and the run's members.

A *run* is what an item does next, all at once. A *member* is one stage of it (or several neighbouring ones that
run back to back) in one worker or thread.

    Entry ── run ──▶ Run ── members ──▶ Member 0 ═ pipe ═▶ Member 1 ═ pipe ═▶ …
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .exception import InvalidFunctionArgument, PipelineLastStageError
from .stage import PipelineStage, stage_label
from .work_item import PipelineWorkItem

if TYPE_CHECKING:
    from .descriptors import PassedDescriptor
    from .item_future import ItemFuture
    from .workers import Worker


class Member:
    """One part of a run: ``count`` stages from ``first`` on, in one worker or thread."""

    # Defaults stand on the class: most members of a pipeline of short stages never differ from them.
    worker: Worker | None = None
    seq = 0
    originals: Sequence[PassedDescriptor] = ()
    answer: PipelineWorkItem | None = None
    failure: BaseException | None = None
    #: When it failed, CLOCK_MONOTONIC ns as read where it ran; 0 for a death, which nobody there could tell.
    failed_at_ns = 0
    is_done = False
    #: It has been handed to its worker or thread.
    is_started = False
    #: It was queued behind another run: it needs a ticket to start.
    is_started_late = False
    #: Why we ended its worker, where we did: its failure then.
    killed_for: BaseException | None = None
    #: The stage's time limit, as it was when the run was planned.
    limit_s: float | None = None
    #: When it is to be ended (monotonic seconds), if its stage has a time limit and the clock runs.
    deadline: float | None = None

    def __init__(self, entry: Entry, run: Run, first: int, count: int, is_process: bool) -> None:
        self.entry = entry
        self.run = run
        self.first = first
        self.count = count
        self.is_process = is_process
        #: The stage the answer is of: the last, or the one that failed.
        self.stage_num = first + count - 1


class Run:
    """What an item does next, all of it at once."""

    is_chain = False
    #: A chain that runs inside one worker, which is handed this one member for all of them.
    lead: Member | None = None
    #: A stage of it has a time limit.
    has_timeout = False
    num_workers = 0
    num_pending = 0
    has_failed = False
    #: When the survivors of a failed chain are ended (monotonic seconds), if it has failed.
    end_survivors_at: float | None = None

    def __init__(self) -> None:
        self.members: list[Member] = []


class SoloRun(Member, Run):
    """A run of one process stage without a time limit, and its only member in one.

    It is what most trips to a worker are: one object instead of three, and none that knows itself by another.
    """

    num_workers = 1
    num_pending = 1
    is_process = True
    count = 1

    def __init__(self, entry: Entry, first: int) -> None:
        self.entry = entry
        self.first = first
        self.stage_num = first

    @property
    def run(self) -> Run:  # type: ignore[override]
        return self

    @property
    def members(self) -> list[Member]:  # type: ignore[override]
        return [self]


class Entry:
    """One submitted item in the pipeline; hashed by identity."""

    __slots__ = ("attempt", "future", "is_admitted", "is_ended", "item", "num_free_restarts", "run", "submission")

    def __init__(self, item: PipelineWorkItem, future: ItemFuture, submission: int) -> None:
        self.item = item
        self.future = future
        self.submission = submission
        self.run: Run | None = None
        self.attempt = 0
        self.is_admitted = False
        #: Its future has its result; what still comes from workers or threads is dropped.
        self.is_ended = False
        #: How often it was handed out again because a worker died before it had started it.
        self.num_free_restarts = 0


def plan_run(
    entry: Entry, stages: Sequence[PipelineStage], is_serial: bool, spare: SoloRun | None = None
) -> Run | None:
    """Ask the stages, from the item's position on, what it does next; None when it is through.

    Moves the item's position behind the run. Calls user code: whatever that raises comes out, the item's
    position being at the stage that raised. ``spare``, a run of the same entry that has ended, may be the next.

    Raises:
        PipelineLastStageError: the last stage wants the item and asks for a pipe.
    """
    item = entry.item
    num_stages = len(stages)
    while (first := item._cur_stage) < num_stages:
        stage = stages[first]
        if not (stage.wants_all or stage.is_for_stage(item)):
            item._cur_stage = first + 1
            continue
        is_piped = stage.is_pipe_with_next_stage
        if not is_piped:
            is_process = stage.is_subprocess and not is_serial
            count = _back_to_back(item, stages, first) if is_process and stage.wants_all else 1
            item._cur_stage = first + count
            if is_process and count == 1 and stage.timeout is None:
                if spare is None:
                    return SoloRun(entry, first)
                spare.first = spare.stage_num = first
                spare.is_started = False
                return spare
            run = Run()
            _add_member(run, entry, stage, first, count, is_process)
            return run
        last = _chain_end(item, stages, first)
        if last is None:
            continue
        run = Run()
        run.is_chain = True
        for number in range(first, last + 1):
            each = stages[number]
            _add_member(run, entry, each, number, 1, each.is_subprocess and not is_serial)
        item._cur_stage = last + 1
        if item.in_one_worker and run.num_workers == len(run.members) and not run.has_timeout:
            run.is_chain = False
            run.num_workers = 1
            run.lead = Member(entry, run, first, len(run.members), is_process=True)
        return run
    return None


def _add_member(run: Run, entry: Entry, stage: PipelineStage, first: int, count: int, is_process: bool) -> None:
    member = Member(entry, run, first, count, is_process)
    if stage.timeout is not None:
        member.limit_s = check_timeout(stage, first, is_process)
        run.has_timeout = True
    run.members.append(member)
    run.num_pending += 1
    if is_process:
        run.num_workers += 1


def check_timeout(stage: PipelineStage, stage_num: int, is_process: bool) -> float | None:
    """The stage's time limit. Raises InvalidFunctionArgument for one that cannot be kept."""
    timeout = stage.timeout
    if timeout is None:
        return None
    label = stage_label(stage, stage_num)
    if not is_process:
        raise InvalidFunctionArgument(
            f"stage {label!r} has a timeout of {timeout} s, but runs on a thread, which cannot be ended; "
            "use a process stage (and no serial pipeline)"
        )
    if not (isinstance(timeout, (int, float)) and timeout > 0):
        raise InvalidFunctionArgument(f"stage {label!r}: timeout must be a number of seconds > 0, not {timeout!r}")
    return timeout


def _chain_end(item: PipelineWorkItem, stages: Sequence[PipelineStage], first: int) -> int | None:
    """The last stage of the chain that starts at ``first``, whose stage wants the item and a pipe.

    All of a chain must want the item; when one declines, none of it runs: None, the item standing behind that one.
    """
    last = first
    is_piped = True  # the first has been asked
    while is_piped:
        if last + 1 == len(stages):
            item._cur_stage = last
            raise PipelineLastStageError(
                f"stage {stage_label(stages[last], last)!r} is the last of the pipeline and asks for a pipe with the "
                "next stage; add the stage that reads from it, or let is_pipe_with_next_stage be False"
            )
        last += 1
        item._cur_stage = last
        if not (stages[last].wants_all or stages[last].is_for_stage(item)):
            item._cur_stage = last + 1
            return None
        is_piped = stages[last].is_pipe_with_next_stage
    return last


def _back_to_back(item: PipelineWorkItem, stages: Sequence[PipelineStage], first: int) -> int:
    """How many stages from ``first`` on may run in one trip to a worker without anybody seeing a difference."""
    cls = type(item)
    if cls.stage_complete is not PipelineWorkItem.stage_complete or not item._auto_copy_attr:
        return 1
    if stages[first].timeout is not None or stages[first].retries:
        return 1
    count = 1
    for stage in stages[first + 1 :]:
        if not (stage.wants_all and stage.is_subprocess) or stage.is_pipe_with_next_stage:
            break
        if stage.timeout is not None or stage.retries:
            break
        count += 1
    return count


def describe_item(item: PipelineWorkItem) -> str:
    """How messages call an item: its ``name`` where it has one, else its class."""
    try:
        name = getattr(item, "name", None)
    except BaseException:  # noqa: BLE001 - a property of the user's; a message must come out all the same
        name = None
    return name if isinstance(name, str) and name else type(item).__name__
