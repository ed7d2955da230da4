"""Removes what dead runs have left in the folders that a run writes to."""

from __future__ import annotations

from typing import Final

from mpp_stages.temporaries import sweep_and_look

#: How many names of a folder a run looks at that does not list folders anyway: about 3 ms. A folder of a million
#: would cost it more than its work.
_A_LOOK: Final = 5000
#: Files are found folder by folder; to look at one twice is no harm.
_FOLDERS_REMEMBERED: Final = 1024


class Sweeper:
    """Looks once at each folder, before the first output is written there.

    Args:
        is_thorough: Whether each folder is looked at to its end, however many names it has.
    """

    def __init__(self, *, is_thorough: bool) -> None:
        self._max_entries = None if is_thorough else _A_LOOK
        self._swept: dict[str, bool] = {}

    def enter(self, folder: str, suffix: str) -> bool:
        """Sweep a folder, if it was not swept; says whether no name in it ended with ``suffix`` then, for certain."""
        known = self._swept.get(folder)
        if known is None:
            while len(self._swept) >= _FOLDERS_REMEMBERED:
                del self._swept[next(iter(self._swept))]
            _, known = sweep_and_look(f"{folder}/", self._max_entries, suffix)
            self._swept[folder] = known
        return known
