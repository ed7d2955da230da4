"""What became of a run, counted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Outcome:
    """The counts of a run; nothing is kept of a single input.

    Attributes:
        done: Inputs that succeeded.
        failed: Inputs that failed.
        skipped: Inputs that there was nothing to do for.
        stopped: Inputs that a stop signal, or the end of the run, has ended.
        lost_reader: Standard output's reader has gone: the run ends as a writer does, by SIGPIPE.
        broken: Why the run as a whole could not go on, or None.
    """

    done: int = 0
    failed: int = 0
    skipped: int = 0
    stopped: int = 0
    lost_reader: bool = False
    broken: str | None = None

    @property
    def ended(self) -> int:
        """Inputs that have ended, in whatever way."""
        return self.done + self.failed + self.skipped + self.stopped
