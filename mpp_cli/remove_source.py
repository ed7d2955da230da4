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
from typing import TYPE_CHECKING, Final, NamedTuple

from mpp_stages.file_item import PathSource, PathTarget

from .errors import shown

if TYPE_CHECKING:
    from .jobs import Job

#: So many outputs are synced together: enough to share the disk's writes, few enough that a crash of the machine
#: leaves little to be done again.
_PORTION: Final = 1024
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
        status: What it was when it was found; it must still be that.
        output: The path of its output, absolute.
    """

    name: str
    path: str
    status: os.stat_result
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
        self._top = None if output_dir is None else os.path.dirname(os.path.abspath(output_dir))
        self._waiting: list[Removal] = []
        self._waiting_since_s = 0.0
        self._thread: threading.Thread | None = None
        self._not_removed: list[NotRemoved] = []
        self._synced_above: set[str] = set()

    def published(self, job: Job) -> None:
        """Have the source of ``job`` removed, whose output has its name now. Waits for the disk if that is behind."""
        item = job.item
        if job.status is None or not isinstance(item.source, PathSource) or not isinstance(item.target, PathTarget):
            error = OSError(errno.EINVAL, "Input and output have to be files for that")
            self._not_removed.append(NotRemoved(item.name, error))
            return
        if not self._waiting:
            self._waiting_since_s = time.monotonic()
        output = item.target.final or os.path.realpath(item.target.path)
        self._waiting.append(Removal(item.name, item.source.path, job.status, output))
        if len(self._waiting) >= _PORTION:
            self._join()
            self._begin()

    def look(self) -> list[NotRemoved]:
        """Begin a portion that has waited long enough; what could not be removed since the last time."""
        if self._thread is None or not self._thread.is_alive():
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

    def _begin(self) -> None:
        portion, self._waiting = self._waiting, []
        self._thread = threading.Thread(target=self._remove, args=(portion,), name="mpp-remove", daemon=True)
        self._thread.start()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _remove(self, portion: Sequence[Removal]) -> None:
        problems = sync_outputs([removal.output for removal in portion], self._top, self._synced_above)
        for removal in portion:
            problem = problems.get(removal.output) or _unlink_if_unchanged(removal)
            if problem is not None:
                self._not_removed.append(NotRemoved(removal.name, problem))


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
    then = removal.status
    try:
        now = os.stat(removal.path)
        if (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns) != (
            then.st_dev,
            then.st_ino,
            then.st_size,
            then.st_mtime_ns,
        ):
            return OSError(errno.ESTALE, "Changed after it was found")
        os.unlink(removal.path)
    except OSError as ex:
        return ex
    return None


def not_removed_line(not_removed: NotRemoved) -> str:
    """The line on standard error."""
    return f"mpp: {shown(not_removed.name)}: done, but not removed: {not_removed.error.strerror}"
