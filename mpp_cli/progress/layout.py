"""What a bar's lines say at a given width. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from mpp_cli.errors import shown

from .figures import Figures, Part, progress_parts

#: Files whose names are shown; more would take the screen and tell no more.
MAX_NAMES: Final = 3
_WIDE: Final = 72
_NARROW: Final = 36
_ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"
_INDENT: Final = "  "


class BarLine(NamedTuple):
    """The first line: a bar of so many cells, of which some are full, and words; no cells where no size is known."""

    cells: int
    full: int
    words: str


def first_line(figures: Figures, width: int) -> BarLine:
    """The line of the whole run, as much of it as fits into ``width``."""
    share = figures.share
    if share is None:
        return BarLine(0, 0, _fitting(figures, width))
    cells = 20 if width >= _WIDE else 10 if width >= _NARROW else 0
    # Only what is done is 100 %.
    percent = f"{min(99, int(100 * share)) if share < 1 else 100:3d} % "
    taken = (cells + 1 if cells else 0) + len(percent)
    return BarLine(cells, int(cells * share), percent + _fitting(figures, width - taken))


def name_lines(figures: Figures, width: int, measure: Callable[[str], int] = len) -> list[str]:
    """A line for each of the largest files under way; nothing where there is one file only.

    Args:
        measure: How many columns a text takes on the screen.
    """
    if figures.items_total == 1:
        return []
    return [_INDENT + cropped(shown(name), width - len(_INDENT), measure) for name in figures.active[:MAX_NAMES]]


def cropped(text: str, width: int, measure: Callable[[str], int] = len) -> str:
    """The text, or its beginning and its end: a long path's are what tells it from others."""
    if measure(text) <= width:
        return text
    if width < 3:
        return ""
    head, tail = (width - 1) // 3, width - 1 - (width - 1) // 3
    return _first(text, head, measure) + _ELLIPSIS + _first(text[::-1], tail, measure)[::-1]


def _first(text: str, width: int, measure: Callable[[str], int]) -> str:
    # No character takes more than two columns, and none of several takes less than nothing.
    cut = min(len(text), width)
    while cut and measure(text[:cut]) > width:
        cut -= 1
    return text[:cut]


def _fitting(figures: Figures, width: int) -> str:
    """The run's words without those that matter least, until they fit."""
    parts = progress_parts(figures)
    while len(parts) > 1 and len(_joined(parts)) > width:
        parts.remove(min(parts, key=lambda part: part.weight))
    return cropped(_joined(parts), max(width, 0))


def _joined(parts: list[Part]) -> str:
    return ", ".join(part.words for part in parts)
