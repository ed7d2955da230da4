"""Progress as a bar on a terminal, drawn with rich.

No thread draws: the run's own loop calls, so there is none beside the workers' fork.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mpp_cli.tell import tell

from .figures import Figures, progress_words

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

#: rich takes 80 ms to import; a run that ends before this never pays for it.
_FIRST_DRAW_S: Final = 0.3
#: Smooth to the eye; each drawing costs 1 to 2 ms.
_REDRAW_S: Final = 0.2


class BarReporter:
    """A bar where the size is known, figures anyway; gone when the run ends."""

    interval_s = _REDRAW_S / 2

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._next_draw_s = _FIRST_DRAW_S

    def update(self, figures: Figures) -> None:
        """Draw the figures, if the last drawing is old enough."""
        if figures.elapsed_s < self._next_draw_s:
            return
        self._next_draw_s = figures.elapsed_s + _REDRAW_S
        if self._progress is None:
            self._progress = self._start(has_bar=figures.total_bytes is not None)
            self._task = self._progress.add_task("", total=figures.total_bytes, words="")
        assert self._task is not None
        self._progress.update(
            self._task, completed=figures.bytes_in, total=figures.total_bytes, words=progress_words(figures)
        )
        self._progress.refresh()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._progress is None:
            tell(text)
        else:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _start(self, *, has_bar: bool) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
        from rich.table import Column

        words = TextColumn("{task.fields[words]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
        columns: list[ProgressColumn] = [BarColumn(bar_width=20), TextColumn("{task.percentage:>3.0f} %"), words]
        # Standard output and error stay as they are: a user's print must not be lost in the bar.
        progress = Progress(
            *(columns if has_bar else [words]),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        progress.start()
        # rich hides the cursor; a process that is killed could not bring it back.
        progress.console.show_cursor(True)
        return progress
