"""How many runs to queue at one worker: as many as it does in about two milliseconds, by what was measured."""

from __future__ import annotations

# More would gain nothing (a trip costs some 50 us), and would make the runs behind a slow one wait longer.
_QUEUED_WORK_US = 2000.0
# Enough for the shortest stages; bounds what a worker's socket holds.
_MAX_DEPTH = 256
# A longer run is believed at half its weight at once, shorter ones slowly: too deep is worse than too shallow.
_UP = 0.5
_DOWN = 0.1


class Pacing:
    """The measured duration of one-stage runs, and the queue depth that follows from it."""

    #: Runs that wait this long behind one run while another worker is idle are taken back (seconds).
    hold_up_s = 0.005

    def __init__(self) -> None:
        self._mean_us = _QUEUED_WORK_US
        self.depth = 1

    def note(self, duration_us: float) -> int:
        """Runs took this long in their worker on average, from arrival to answer; returns the new depth."""
        mean = self._mean_us
        mean += (duration_us - mean) * (_UP if duration_us > mean else _DOWN)
        self._mean_us = mean
        self.depth = min(_MAX_DEPTH, int(_QUEUED_WORK_US / (mean + 1.0))) or 1
        return self.depth

    def held_up(self) -> int:
        """Runs had to be taken back: trust what was measured half as much; returns the new depth."""
        self._mean_us *= 2
        self.depth = max(1, self.depth // 2)
        return self.depth
