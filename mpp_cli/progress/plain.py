"""Progress as plain lines, for logs: one every few seconds."""

from __future__ import annotations

from typing import Final

from mpp_cli.tell import tell

from .figures import Figures, progress_words

#: Often enough to see that a run is alive, seldom enough for a log of a night's run.
LINE_INTERVAL_S: Final = 10.0


class PlainReporter:
    """Prints a line on standard error every :data:`LINE_INTERVAL_S`."""

    interval_s = 1.0

    def __init__(self) -> None:
        self._next_line_s = LINE_INTERVAL_S

    def update(self, figures: Figures) -> None:
        """Print a line if it is time."""
        if figures.elapsed_s >= self._next_line_s:
            self._next_line_s = figures.elapsed_s + LINE_INTERVAL_S
            self.say(f"mpp: {progress_words(figures)}")

    def say(self, text: str) -> None:
        tell(text)

    def close(self) -> None:
        """Printed lines stay."""
