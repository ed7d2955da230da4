"""What became of a run, counted."""

from __future__ import annotations

from collections import Counter


class Outcome:
    """The counts of a run; nothing is kept of a single input.

    Attributes:
        done: Inputs that succeeded.
        failed: Inputs that failed.
        skipped: Inputs that were left alone, by the reason.
        stopped: Inputs that the end of the run has ended.
        not_removed: Inputs among the done ones that --remove-source had to leave.
        lost_reader: Standard output's reader has gone: the run ends as a writer does, by SIGPIPE.
        broken: Why the run as a whole could not go on, or None.
        was_cut_short: Inputs were left because the run was to begin nothing more.
    """

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.skipped: Counter[str] = Counter()
        self.stopped = 0
        self.not_removed = 0
        self.lost_reader = False
        self.broken: str | None = None
        self.was_cut_short = False

    @property
    def ended(self) -> int:
        """Inputs that have ended, in whatever way."""
        return self.done + self.failed + self.skipped.total() + self.stopped
