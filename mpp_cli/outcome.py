"""What became of a run, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
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
        was_cut_short: Inputs were left because one had failed, as the user wanted it.
    """

    done: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    stopped: int = 0
    not_removed: int = 0
    lost_reader: bool = False
    broken: str | None = None
    was_cut_short: bool = False

    @property
    def ended(self) -> int:
        """Inputs that have ended, in whatever way."""
        return self.done + self.failed + self.skipped.total() + self.stopped
