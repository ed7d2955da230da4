"""Watches a run and writes its report at the end, however that comes."""

from __future__ import annotations

import contextlib
import os
import stat
import time

from mpp_stages.endpoints import follow_links
from mpp_stages.temporaries import temporary_beside

from mpp_cli.errors import FileProblem, UsageProblem, shown
from mpp_cli.observers import ItemResult, Observer, RunStart, RunSummary
from mpp_cli.progress.figures import Figures

from .collector import Collector


class ReportWriter(Observer):
    """The ``--report`` of a run.

    Args:
        path: The page; replaced if it is there, when the run has ended.

    Raises:
        UsageProblem: No page can be written there.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._final = follow_links(os.path.abspath(path))
        self._collector = Collector()
        self._start = RunStart("", 1)
        self._begun_s = time.time()
        _check(path, self._final)

    def run_started(self, start: RunStart) -> None:
        self._start = start

    def item_ended(self, result: ItemResult) -> None:
        self._collector.add_item(result)

    def progressed(self, figures: Figures) -> None:
        self._collector.add_sample(figures)

    def run_ended(self, summary: RunSummary) -> None:
        """Write the page.

        Raises:
            OSError: It cannot be written; ``filename`` is the page as the user named it.
        """
        from .page import render  # only now, and not in the forked template either

        self._collector.add_sample(summary.figures)
        text = render(self._collector, self._start, summary, self._begun_s)
        temporary = temporary_beside(self._final)
        try:
            try:
                with open(temporary, "x", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(text)
                os.replace(temporary, self._final)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        except OSError as ex:
            raise OSError(ex.errno, ex.strerror, self._path) from None


def _check(path: str, final: str) -> None:
    """A run of a night must not find out at its end that it cannot report."""
    folder = os.path.dirname(final)
    try:
        if os.path.lexists(final) and not stat.S_ISREG(os.lstat(final).st_mode):
            raise UsageProblem(f"mpp: --report: '{shown(path)}' is no regular file")
        if not os.path.isdir(folder):
            raise UsageProblem(f"mpp: --report: there is no folder '{shown(folder)}'")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageProblem(f"mpp: --report: no file can be made in '{shown(folder)}'")
    except OSError as ex:
        raise FileProblem("--report", path, ex) from ex
