"""Removes what dead runs have left in the folders that a run writes to."""

from __future__ import annotations

from typing import Final

from mpp_stages.temporaries import sweep, sweep_and_look

#: How many names of a folder a run looks at that does not list folders anyway: about 3 ms. A folder of a million
#: would cost it more than its work.
_A_LOOK: Final = 5000
#: And one that does: about 30 ms, for nobody is to wait longer for the first output.
_A_LONG_LOOK: Final = 50_000
#: Files are found folder by folder; to look at one twice is no harm.
_FOLDERS_REMEMBERED: Final = 1024


class Sweeper:
    """Looks once at each folder, before the first output is written there.

    Args:
        is_thorough: Whether each folder is looked at to its end, however many names it has; the largest by
            :meth:`finish`.
    """

    def __init__(self, *, is_thorough: bool) -> None:
        self._is_thorough = is_thorough
        self._swept: dict[str, bool] = {}
        self._begun: set[str] = set()

    def enter(self, folder: str, suffix: str) -> bool:
        """Sweep a folder, if it was not swept; says whether no name in it ended with ``suffix`` then, for certain."""
        known = self._swept.get(folder)
        if known is None:
            while len(self._swept) >= _FOLDERS_REMEMBERED:
                del self._swept[next(iter(self._swept))]
            look = sweep_and_look(f"{folder}/", _A_LONG_LOOK if self._is_thorough else _A_LOOK, suffix)
            self._swept[folder] = known = look.is_without
            if self._is_thorough and not look.saw_all:
                self._begun.add(folder)
        return known

    def finish(self) -> None:
        """Sweep what was too large to be looked at to its end while others waited."""
        for folder in self._begun:
            sweep(f"{folder}/")
