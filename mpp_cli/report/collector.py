"""What a report needs of a run, in a bounded amount of memory. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple

from mpp_cli.errors import one_line
from mpp_cli.events.records import stage_of
from mpp_cli.failures import error_words, root_cause
from mpp_cli.observers import ItemResult
from mpp_cli.progress.figures import Figures

#: As many points as a plot has room for; when there are more, every second one goes.
MAX_SAMPLES: Final = 300
#: Rows of the tables of the slowest and of the worst compressed files.
TOP_FILES: Final = 20
#: Failures that are shown; of more only the number is.
MAX_FAILURES: Final = 200
#: A format's own header makes every tiny file look badly compressed.
_SMALLEST_FOR_RATIO: Final = 4096


class Sample(NamedTuple):
    """How far a run was at one moment."""

    elapsed_s: float
    bytes_in: int
    bytes_out: int


class FileRow(NamedTuple):
    """One finished file."""

    name: str
    bytes_in: int
    bytes_out: int
    seconds: float


class FailureRow(NamedTuple):
    """One failed input; all in words that fit a line."""

    name: str
    stage: str
    kind: str
    words: str


@dataclass
class _Top:
    """The rows with the largest keys."""

    rows: list[tuple[float, int, FileRow]] = field(default_factory=list)
    numbers: count[int] = field(default_factory=count)

    def offer(self, key: float, row: ItemResult) -> None:
        if len(self.rows) == TOP_FILES and key <= self.rows[0][0]:
            return
        entry = (key, -next(self.numbers), FileRow(row.name, row.bytes_in, row.bytes_out, row.seconds))
        if len(self.rows) < TOP_FILES:
            heapq.heappush(self.rows, entry)
        else:
            heapq.heapreplace(self.rows, entry)

    def sorted(self) -> list[FileRow]:
        return [row for _, _, row in sorted(self.rows, reverse=True)]


class Collector:
    """Gathers a run's samples, the files that stand out, and its failures."""

    def __init__(self) -> None:
        self._samples: list[Sample] = [Sample(0.0, 0, 0)]
        self._interval_s = 0.0
        self._slowest = _Top()
        self._worst = _Top()
        self.failures: list[FailureRow] = []
        self.failed = 0

    def add_sample(self, figures: Figures) -> None:
        """Take a point of the plot, if it is far enough from the last one."""
        last = self._samples[-1]
        if figures.elapsed_s - last.elapsed_s <= self._interval_s:
            return
        self._samples.append(Sample(figures.elapsed_s, figures.bytes_in, figures.bytes_out))
        if len(self._samples) > MAX_SAMPLES:
            del self._samples[1::2]
            # What comes from now on stands as far apart as what is left.
            self._interval_s = figures.elapsed_s / (len(self._samples) - 1)

    def add_item(self, result: ItemResult) -> None:
        """Take an input that has ended."""
        if result.status == "done":
            self._slowest.offer(result.seconds, result)
            if result.bytes_in >= _SMALLEST_FOR_RATIO:
                self._worst.offer(result.bytes_out / result.bytes_in, result)
        elif result.status == "failed":
            self.failed += 1
            if len(self.failures) < MAX_FAILURES:
                self.failures.append(_failure_row(result))

    @property
    def samples(self) -> Sequence[Sample]:
        """From the beginning on, at most :data:`MAX_SAMPLES`."""
        return self._samples

    def slowest(self) -> list[FileRow]:
        """The files that took longest, the longest first."""
        return self._slowest.sorted()

    def worst_compressed(self) -> list[FileRow]:
        """The files whose output is largest in proportion, the worst first; tiny ones do not count."""
        return self._worst.sorted()


def _failure_row(result: ItemResult) -> FailureRow:
    if not result.errors:
        return FailureRow(result.name, result.stage or "", "", "")
    cause = root_cause(result.errors)
    stage = stage_of(cause) or result.stage or ""
    return FailureRow(result.name, one_line(stage), type(cause).__name__, one_line(error_words(cause)))
