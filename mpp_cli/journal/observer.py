"""Keeps a run's journal: a record before each output gets its name, and one after."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpp_stages.endpoints import PathSource, PathTarget, follow_links

from mpp_cli.observers import ItemResult, Observer
from mpp_cli.progress.figures import Figures

from .journal import Journal
from .records import Published

if TYPE_CHECKING:
    from mpp_cli.jobs import Job


class JournalKeeper(Observer):
    """Writes a journal. What is read from no file, or written to none, cannot be resumed and is not in it.

    Args:
        on_failure: Called with the reason when a record of what is done could not be written.
    """

    def __init__(self, journal: Journal, on_failure: Callable[[OSError], None]) -> None:
        self._journal = journal
        self._on_failure = on_failure
        self._numbers: dict[str | None, int] = {}

    def before_publish(self, job: Job) -> None:
        """Record an output that is about to get its name.

        Raises:
            OSError: That failed, so it must not get it.
        """
        item = job.item
        source, target = item.source, item.target
        if job.status is None or not isinstance(source, PathSource) or not isinstance(target, PathTarget):
            return
        if item.temporary is None:
            return
        output = os.stat(item.temporary)
        self._numbers[source.path] = self._journal.before_publish(
            Published(
                source.path,
                # As they were when the file was found, before it was read: what changes it later is seen.
                job.status.st_size,
                job.status.st_mtime_ns,
                target.final or follow_links(os.path.abspath(target.path)),
                output.st_size,
                output.st_ino,
            )
        )

    def item_ended(self, result: ItemResult) -> None:
        number = self._numbers.pop(result.source_path, None)
        if number is not None and result.status == "done":
            self._guarded(self._journal.published, number)

    def progressed(self, figures: Figures) -> None:
        self._guarded(self._journal.flush)

    def _guarded(self, write: Callable[..., None], *args: int) -> None:
        try:
            write(*args)
        except OSError as ex:
            self._on_failure(ex)
