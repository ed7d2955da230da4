"""Who watches a run: the hooks that the run's loop calls, and what it tells in them.

The loop calls each observer in the main thread, in this order for one input:

    before_publish(job) ──▶ the output appears under its name ──▶ item_ended(result)

An input that fails, is skipped or is stopped has no ``before_publish``. A run without observers pays for none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from atbu.mp_pipeline.named_tuple import NamedTuple

if TYPE_CHECKING:
    from mpp_stages.file_item import Finding

    from .jobs import Job
    from .progress.figures import Figures

Status = Literal["done", "skipped", "failed", "stopped"]


class RunStart(NamedTuple):
    """What a run is about to do.

    Attributes:
        pipeline: The pipeline's name.
        jobs: How many inputs are worked on at once.
        items_total: How many inputs there are, where that is known before they are found.
        total_bytes: How many bytes they have together, where that is known.
    """

    pipeline: str
    jobs: int
    items_total: int | None = None
    total_bytes: int | None = None


class ItemResult(NamedTuple):
    """How one input ended.

    Attributes:
        name: What messages call the input.
        source_path: The path it was read from; None for standard input and its like.
        target_path: The path its output has, or would have had; None where there is no file.
        bytes_in: Bytes read from the source, as far as they are known.
        bytes_out: Bytes of the output.
        seconds: The time a worker was busy with it, as far as it is known.
        stage: The stage that failed, where one did and is known.
        errors: What went wrong, the cause first.
        findings: What stages such as ``sha256`` and ``count`` have found out, in their order; only of a done input.
    """

    name: str
    source_path: str | None
    target_path: str | None
    status: Status
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    stage: str | None = None
    errors: Sequence[BaseException] = ()
    findings: Sequence[Finding] = ()


class RunSummary(NamedTuple):
    """How a run ended.

    Attributes:
        figures: Its figures at the end.
        exit_status: What the process will exit with, if no signal ends it.
        signal_name: The stop signal that ended it, or None.
        broken: Why the run as a whole could not go on, or None.
    """

    figures: Figures
    done: int
    skipped: int
    failed: int
    stopped: int
    exit_status: int
    signal_name: str | None = None
    broken: str | None = None


class RunObserver(Protocol):
    """Watches a run. Derive from :class:`Observer` and override what is of interest."""

    def run_started(self, start: RunStart) -> None:
        """Before the first input."""

    def before_publish(self, job: Job) -> None:
        """The output of ``job`` is complete and gets its name when this has returned. An OSError fails the item."""

    def item_ended(self, result: ItemResult) -> None:
        """An input has ended, in whatever way. Called for each one, so it must be quick."""

    def progressed(self, figures: Figures) -> None:
        """The figures have moved; called about ten times a second at most."""

    def run_ended(self, summary: RunSummary) -> None:
        """After the last input."""


class Observer:
    """A RunObserver that does nothing."""

    def run_started(self, start: RunStart) -> None:
        """Nothing."""

    def before_publish(self, job: Job) -> None:
        """Nothing."""

    def item_ended(self, result: ItemResult) -> None:
        """Nothing."""

    def progressed(self, figures: Figures) -> None:
        """Nothing."""

    def run_ended(self, summary: RunSummary) -> None:
        """Nothing."""


Observers = tuple[RunObserver, ...]
