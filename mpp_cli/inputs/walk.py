"""What is in a folder and below it, found while it is asked for."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from .found import IS_LINK, IS_OURS, IS_SPECIAL, Folder, FoundFile, Refused, Skipped

if TYPE_CHECKING:
    from .patterns import PathFilter

#: So many entries of a folder are put in order before the first is handed on: within some milliseconds, and most
#: folders are wholly in order. A larger one comes in portions, for one of a million entries must neither be waited
#: for nor held in memory.
_PORTION_ENTRIES: Final = 4096
#: More than any folder has.
_ALL_ENTRIES: Final = 1 << 62
_TEMPORARY_START, _TEMPORARY_END = ".mpp-", ".tmp"


def is_temporary(base: str) -> bool:
    """Whether a name is one of those that outputs have while they are written."""
    return base.startswith(_TEMPORARY_START) and base.endswith(_TEMPORARY_END)


class TreeWalk:
    """Walks folders, depth first, names in order. It follows no symbolic link and holds one portion for each level.

    Args:
        path_filter: Decides which files are taken and which folders entered; None takes all.
        pruned: Folders, by their real path with "/" at the end, that hold what this run writes.
        in_order: Whether the order of files must be the same each time whatever the size of a folder, at the cost
            of holding the names of a whole folder.
    """

    def __init__(self, path_filter: PathFilter | None, pruned: Collection[str], in_order: bool) -> None:
        self._filter = path_filter
        self._pruned = pruned
        self._portion = _ALL_ENTRIES if in_order else _PORTION_ENTRIES

    def files(self, root: Folder) -> Iterator[FoundFile | Refused | Skipped]:
        """Everything below ``root``, one at a time."""
        path_filter = self._filter
        levels = [(root, self._entries(root))]
        while levels:
            folder, entries = levels[-1]
            try:
                entry = next(entries, None)
            except OSError as ex:
                levels.pop()
                yield _unreadable(folder, ex)
                continue
            if entry is None:
                levels.pop()
                continue
            base = entry.name
            try:
                if entry.is_file(follow_symlinks=False):
                    if is_temporary(base) or (path_filter is not None and not path_filter.takes_file(folder, base)):
                        continue
                    yield FoundFile(folder, base, entry.stat(follow_symlinks=False), False)
                elif entry.is_dir(follow_symlinks=False):
                    verdict = folder.verdict
                    if path_filter is not None:
                        own = path_filter.verdict(base, folder.inside, is_folder=True)
                        if own is False:
                            continue
                        verdict = verdict if own is None else own
                    below = folder.child(base, verdict)
                    if below.real in self._pruned:
                        yield Skipped(below.shown, IS_OURS)
                        continue
                    levels.append((below, self._entries(below)))
                elif path_filter is None or path_filter.takes_file(folder, base):
                    reason = IS_LINK if entry.is_symlink() else IS_SPECIAL
                    yield Skipped(folder.shown + base, reason, folder.path + base)
            except FileNotFoundError:
                continue  # gone since it was listed: another run's temporary, say
            except OSError as ex:
                yield Refused(folder.shown + base, OSError(ex.errno, ex.strerror, folder.shown + base))

    def _entries(self, folder: Folder) -> Iterator[os.DirEntry[str]]:
        with os.scandir(folder.path) as entries:
            while portion := list(islice(entries, self._portion)):
                portion.sort(key=_name_of)
                yield from portion


def _name_of(entry: os.DirEntry[str]) -> str:
    return entry.name


def _unreadable(folder: Folder, error: OSError) -> Refused:
    shown = folder.shown.rstrip("/") or "/"
    return Refused(shown, OSError(error.errno, error.strerror, shown))
