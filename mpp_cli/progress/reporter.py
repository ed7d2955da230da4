"""What every way of showing a run has in common, and the choice between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Protocol

from mpp_cli.tell import tell

from .figures import Figures

Mode = Literal["auto", "bar", "plain", "none"]
MODES: Final = ("auto", "bar", "plain", "none")


class Reporter(Protocol):
    """Shows a run. Called only from the main thread, at least every :attr:`interval_s`."""

    interval_s: float

    def update(self, figures: Figures) -> None:
        """Show the run as it is now; the reporter itself leaves out what would be too often."""

    def say(self, text: str) -> None:
        """Print one line that stays."""

    def close(self) -> None:
        """Take away what does not stay. Called once, before the summary."""


class SilentReporter:
    """Shows nothing while the run goes on; lines that must be said are said."""

    # Nothing is drawn: the loop wakes only to look after itself.
    interval_s = 1.0

    def update(self, figures: Figures) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        tell(text)

    def close(self) -> None:
        """There is nothing to take away."""


def choose(mode: str, environ: Mapping[str, str], *, stderr_is_terminal: bool, stdout_is_terminal: bool) -> str:
    """Decide what ``auto`` means: a bar only where somebody sees it and nothing else is written there."""
    if mode != "auto":
        return mode
    if stdout_is_terminal:
        return "none"  # the data itself appears there
    if not stderr_is_terminal or environ.get("CI") or environ.get("TERM", "dumb") == "dumb":
        return "plain"
    return "bar"


def make_reporter(mode: str) -> Reporter:
    """Make the reporter of a mode other than ``auto``."""
    if mode == "bar":
        from .bar import BarReporter

        return BarReporter()
    if mode == "plain":
        from .plain import PlainReporter

        return PlainReporter()
    return SilentReporter()
