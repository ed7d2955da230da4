"""``--remove-source``: inputs go once their outputs are on the disk, whatever happens to the machine then.

    published ──▶ collected ──▶ outputs synced, then their folders ──▶ is the input what was read? ──▶ unlinked

One sync after another would take a disk's write for each file. Many at once share one: a portion is synced by several
threads, in the background, while the run goes on.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from mpp_stages.file_item import PathSource, PathTarget

from atbu.mp_pipeline.named_tuple import NamedTuple

from .errors import shown

if TYPE_CHECKING:
    from .inputs.found import Skipped
    from .jobs import Job

#: So many outputs at least are synced together: enough to share the disk's writes, few enough that a crash of the
#: machine leaves little to be done again.
_PORTION: Final = 1024
#: Where the disk is behind, the run waits for it from here on.
_MOST_WAITING: Final = 4 * _PORTION
#: Or what has come together in this time.
_PORTION_S: Final = 2.0
#: File systems join the syncs that wait at the same time.
_SYNCS_AT_ONCE: Final = 16
#: So soon a stop signal is obeyed while the disk is waited for.
_LOOK_S: Final = 0.1


class Removal(NamedTuple):
    """An input to be removed.

    Attributes:
        name: What messages call it.
        path: Its absolute path.
        identity: What it was when it was found; it must still be that.
        output: The path of its output, absolute.
    """

    name: str
    path: str
    identity: tuple[int, int, int, int]
    output: str


class NotRemoved(NamedTuple):
    """An input that had to be left, although its output is complete."""

    name: str
    error: OSError


class SourceRemover:
    """Removes the inputs of outputs that have been published. All methods are for one thread.

    Args:
        output_dir: Folders below it may be new, and are synced too; None where outputs stand beside their inputs.
    """

    def __init__(self, output_dir: str | None) -> None:
        self._top = None if output_dir is None else os.path.dirname(os.path.realpath(output_dir))
        self._waiting: list[Removal] = []
        self._waiting_since_s = 0.0
        self._thread: threading.Thread | None = None
        self._not_removed: list[NotRemoved] = []
        self._left_by_thread: list[NotRemoved] = []
        self._synced_above: set[str] = set()

    def published(self, job: Job) -> None:
        """Have the source of ``job`` removed, whose output has its name now. Waits for the disk if that is behind."""
        item = job.item
        if job.status is None or not isinstance(item.source, PathSource) or not isinstance(item.target, PathTarget):
            error = OSError(errno.EINVAL, "Input and output have to be files for that")
            self._not_removed.append(NotRemoved(item.name, error))
            return
        output = item.target.final or os.path.realpath(item.target.path)
        self._add(Removal(item.name, item.source.path, _identity(job.status), output))

    def done_before(self, skipped: Skipped) -> None:
        """Have a source removed whose output an earlier run has made, but was killed before it had removed it."""
        if skipped.done is not None and skipped.source_path is not None and skipped.target_path is not None:
            removal = Removal(skipped.name, skipped.source_path, _identity(skipped.done), skipped.target_path)
            self._add(removal)

    def _add(self, removal: Removal) -> None:
        if not self._waiting:
            self._waiting_since_s = time.monotonic()
        self._waiting.append(removal)
        if len(self._waiting) >= _PORTION and (self._is_idle() or len(self._waiting) >= _MOST_WAITING):
            self._join()
            self._begin()

    def look(self) -> list[NotRemoved]:
        """Begin a portion that has waited long enough; what could not be removed since the last time."""
        if self._is_idle():
            self._join()
            if self._waiting and time.monotonic() - self._waiting_since_s > _PORTION_S:
                self._begin()
        not_removed, self._not_removed = self._not_removed, []
        return not_removed

    def close(self, must_end: Callable[[], bool]) -> list[NotRemoved]:
        """Remove all that is left, until ``must_end`` says so; what could not be removed since the last look."""
        while self._thread is not None or self._waiting:
            if self._thread is None:
                self._begin()
            elif self._thread.is_alive():
                self._thread.join(_LOOK_S)
            else:
                self._join()
            if must_end():
                break
        not_removed, self._not_removed = self._not_removed, []
        return not_removed

    def _is_idle(self) -> bool:
        return self._thread is None or not self._thread.is_alive()

    def _begin(self) -> None:
        portion, self._waiting = self._waiting, []
        self._thread = threading.Thread(target=self._remove, args=(portion,), name="mpp-remove", daemon=True)
        self._thread.start()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._not_removed += self._left_by_thread
            self._left_by_thread = []

    def _remove(self, portion: Sequence[Removal]) -> None:
        """Runs in the thread; what it has to tell is fetched when it has ended."""
        problems = sync_outputs([removal.output for removal in portion], self._top, self._synced_above)
        for removal in portion:
            problem = problems.get(removal.output) or _unlink_if_unchanged(removal)
            if problem is not None:
                self._left_by_thread.append(NotRemoved(removal.name, problem))


def sync_outputs(outputs: Sequence[str], top: str | None, synced_above: set[str]) -> dict[str, OSError]:
    """Bring files and the folders they are named in to the disk.

    Args:
        outputs: Absolute paths.
        top: New folders may be anywhere below this one; None: there are none.
        synced_above: Folders above the outputs' that have been synced before; this call adds its own.

    Returns:
        What went wrong, by the output that is not safe for it.
    """
    problems = _sync_all(outputs)
    folders = {os.path.dirname(output) for output in outputs}
    above = set()
    for folder in folders if top is not None else ():
        while folder != top and folder != "/" and (folder := os.path.dirname(folder)) not in synced_above:
            above.add(folder)
    of_folders = _sync_all([*folders, *above])
    synced_above |= above - of_folders.keys()
    if of_folders:
        for output in outputs:
            for folder, problem in of_folders.items():
                if output.startswith(folder + "/"):
                    problems.setdefault(output, problem)
    return problems


def _sync_all(paths: Iterable[str]) -> dict[str, OSError]:
    problems: dict[str, OSError] = {}
    paths = list(paths)
    rest = iter(paths)
    lock = threading.Lock()

    def sync_the_next() -> None:
        while True:
            with lock:
                path = next(rest, None)
            if path is None:
                return
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            except OSError as ex:
                problems[path] = ex

    threads = [threading.Thread(target=sync_the_next) for _ in range(min(_SYNCS_AT_ONCE, len(paths)) - 1)]
    for thread in threads:
        thread.start()
    sync_the_next()
    for thread in threads:
        thread.join()
    return problems


def _unlink_if_unchanged(removal: Removal) -> OSError | None:
    """Unlink the source; the reason where it has to stay.

    What was read is what was found: a worker's reader refuses to end if its file changes, so one look here, at what
    the name leads to now, covers the time from the search to the end.
    """
    try:
        if _identity(os.stat(removal.path)) != removal.identity:
            return OSError(errno.ESTALE, "Changed after it was found")
        os.unlink(removal.path)
    except OSError as ex:
        return ex
    return None


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def not_removed_line(not_removed: NotRemoved) -> str:
    """The line on standard error."""
    return f"mpp: {shown(not_removed.name)}: done, but not removed: {not_removed.error.strerror}"
