"""The figures of a run and their words. Pure."""

from __future__ import annotations

from typing import Final

from atbu.mp_pipeline.named_tuple import NamedTuple

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
#: Below this share of the work, or this time, a rate says nothing about the rest.
_MIN_SHARE_FOR_ETA: Final = 0.001
_MIN_ELAPSED_S: Final = 0.2


class Figures(NamedTuple):
    """A run at one moment.

    Attributes:
        total_bytes: How many bytes there are to read, where that is known.
        items_done: How many inputs have ended, in whatever way.
        items_total: How many inputs there are, where that is known.
        failed: How many of the :attr:`items_done` failed.
        skipped: How many of them were skipped.
        stopped: How many of them a stop signal ended.
        skipped_bytes: How many of the :attr:`total_bytes` belong to inputs that were skipped or failed unread.
        active: Names of inputs that are being worked on, the largest first; a few are enough.
    """

    bytes_in: int
    bytes_out: int
    elapsed_s: float
    total_bytes: int | None = None
    items_done: int = 0
    items_total: int | None = 1
    failed: int = 0
    skipped: int = 0
    stopped: int = 0
    skipped_bytes: int = 0
    active: tuple[str, ...] = ()

    @property
    def done(self) -> int:
        """How many inputs succeeded."""
        return self.items_done - self.failed - self.skipped - self.stopped

    @property
    def share(self) -> float | None:
        """What part of the bytes that are to be read has been read, from 0 to 1, where the total is known."""
        if not self.total_bytes:
            return None
        to_read = self.total_bytes - self.skipped_bytes
        return min(1.0, self.bytes_in / to_read) if to_read > 0 else 1.0

    @property
    def rate(self) -> float:
        """Bytes read in a second, over the whole time."""
        return self.bytes_in / max(self.elapsed_s, 1e-9)

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at the rate so far, where the total is known."""
        share = self.share
        if share is None or share < _MIN_SHARE_FOR_ETA or self.elapsed_s < _MIN_ELAPSED_S:
            return None
        return self.elapsed_s * (1 - share) / share


def size_words(count: float) -> str:
    """``0 B``, ``999 B``, ``1.00 kB``, ``12.3 MB``, ``456 GB``: three digits, powers of 1000."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count /= 1000
        unit += 1
    if unit == 0:
        return f"{count:.0f} B"
    digits = 2 if count < 9.995 else 1 if count < 99.95 else 0
    return f"{count:.{digits}f} {_UNITS[unit]}"


def time_words(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3:05``, ``1:02:03``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    minutes, rest = divmod(whole, _MINUTE_S)
    if whole < _HOUR_S:
        return f"{minutes}:{rest:02}"
    hours, minutes = divmod(minutes, _MINUTE_S)
    return f"{hours}:{minutes:02}:{rest:02}"


def ratio_words(bytes_in: int, bytes_out: int) -> str:
    """Output as a percentage of input, or nothing before there is any."""
    return f"{100 * bytes_out / bytes_in:.1f} %" if bytes_in else ""


class Part(NamedTuple):
    """Some words of a line; where they do not all fit, those of the smallest weight go first."""

    words: str
    weight: int


def progress_parts(figures: Figures) -> list[Part]:
    """What there is to say of a run that goes on, in order."""
    read = f"{size_words(figures.bytes_in)} in"
    if figures.total_bytes:
        read = f"{size_words(figures.bytes_in)} of {size_words(figures.total_bytes)} in"
    written = f"{size_words(figures.bytes_out)} out"
    if ratio := ratio_words(figures.bytes_in, figures.bytes_out):
        written += f" ({ratio})"
    parts = [Part(read, 3), Part(written, 1), Part(f"{size_words(figures.rate)}/s", 5)]
    parts.append(Part(time_words(figures.elapsed_s), 0))
    if figures.eta_s is not None:
        parts.append(Part(f"{time_words(figures.eta_s)} left", 6))
    if items := items_words(figures):
        parts.insert(0, Part(items, 4))
    weights = {"failed": 7, "stopped": 2, "skipped": 2}
    parts += [Part(words, weights[words.rpartition(" ")[2]]) for words in _other_ends(figures)]
    return parts


def progress_words(figures: Figures) -> str:
    """One line of a run that goes on."""
    return ", ".join(part.words for part in progress_parts(figures))


def items_words(figures: Figures) -> str:
    """``3 of 7 files``, ``3 files`` where nobody knows yet how many there are, or nothing where there is but one."""
    if figures.items_total is None:
        return f"{figures.items_done} files"
    return f"{figures.items_done} of {figures.items_total} files" if figures.items_total > 1 else ""


def _other_ends(figures: Figures) -> list[str]:
    ends = ((figures.failed, "failed"), (figures.skipped, "skipped"), (figures.stopped, "stopped"))
    return [f"{count} {word}" for count, word in ends if count]


def summary_words(figures: Figures, name: str) -> str:
    """The line at the end of a run; ``name`` is the input's where there is one only."""
    subject = name
    if figures.items_total is None:
        files = "1 file" if figures.done == 1 else f"{figures.done} files"
        subject = ", ".join([f"{files} done", *_other_ends(figures)])
    elif figures.items_total > 1:
        subject = ", ".join([f"{figures.done} of {figures.items_total} files done", *_other_ends(figures)])
    ratio = ratio_words(figures.bytes_in, figures.bytes_out)
    sizes = f"{size_words(figures.bytes_in)} in, {size_words(figures.bytes_out)} out" + (f" ({ratio})" if ratio else "")
    return f"{subject}: {sizes}, {time_words(figures.elapsed_s)}, {size_words(figures.rate)}/s"
