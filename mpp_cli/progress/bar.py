"""Progress as a bar on a terminal, drawn with rich: the whole run, and below it the largest files under way.

No thread draws: the run's own loop calls, so there is none beside the workers' fork.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mpp_cli.tell import note, tell

from .figures import Figures
from .layout import first_line, name_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

#: rich takes 80 ms to import; a run that ends before this never pays for it.
_FIRST_DRAW_S: Final = 0.3
#: Smooth to the eye; each drawing costs about a millisecond.
_REDRAW_S: Final = 0.2
#: A full cell and an empty one, which differ without colours too; and in terminals that know no more than ASCII.
_CELLS: Final = ("\N{BOX DRAWINGS HEAVY HORIZONTAL}", "\N{BOX DRAWINGS LIGHT HORIZONTAL}")
_ASCII_CELLS: Final = ("#", "-")


class BarReporter:
    """A bar where the size is known, figures anyway; gone when the run ends."""

    interval_s = _REDRAW_S / 2

    def __init__(self) -> None:
        self._live: Live | None = None
        self._lengths: list[int] = []
        self._next_draw_s = _FIRST_DRAW_S

    def update(self, figures: Figures) -> None:
        """Draw the figures, if the last drawing is old enough."""
        if figures.elapsed_s < self._next_draw_s:
            return
        self._next_draw_s = figures.elapsed_s + _REDRAW_S
        if self._live is None:
            self._live = _started()
        console = self._live.console
        width = console.width
        self._take_back_folded(console, width)
        # Not to the last column: some terminals fold a line that ends there.
        text, self._lengths = _drawn(figures, width - 1, is_ascii=console.options.ascii_only)
        self._live.update(text, refresh=True)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._live is None:
            tell(text)
            return
        note(text)
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _take_back_folded(self, console: Console, width: int) -> None:
        """A terminal made narrower has folded the lines that stand there: go up over those that rich knows not of."""
        from rich.control import Control
        from rich.segment import ControlType

        folded = sum((length - 1) // width for length in self._lengths if length > width)
        if folded:
            console.control(Control((ControlType.CURSOR_UP, folded)))
            console.file.write("\x1b[J")


def _started() -> Live:
    from rich.console import Console
    from rich.live import Live

    # Standard output and error stay as they are: a user's print must not be lost in the bar.
    live = Live(
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        vertical_overflow="crop",
    )
    live.start()
    # rich hides the cursor; a process that is killed could not bring it back.
    live.console.show_cursor(True)
    return live


def _drawn(figures: Figures, width: int, *, is_ascii: bool) -> tuple[Text, list[int]]:
    """The lines, and how many columns each takes."""
    from rich.cells import cell_len
    from rich.text import Text

    line = first_line(figures, width)
    text = Text(no_wrap=True, overflow="crop", end="")
    if line.cells:
        full, empty = _ASCII_CELLS if is_ascii else _CELLS
        text.append(full * line.full, "green")
        text.append(empty * (line.cells - line.full), "bright_black")
        text.append(" ")
    text.append(line.words)
    names = name_lines(figures, width, cell_len)
    if is_ascii:
        # Else each of what cannot be written would take the room of its escape.
        names = ["".join(char if char.isascii() else "?" for char in name) for name in names]
    for name in names:
        text.append(f"\n{name}", "dim")
    first = (line.cells + 1 if line.cells else 0) + len(line.words)
    return text, [first, *map(cell_len, names)]
