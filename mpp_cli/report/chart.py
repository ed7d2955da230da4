"""Throughput over time as an SVG drawing. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from mpp_cli.progress.figures import size_words, time_words

from .collector import Sample

#: A figure's place in the drawing.
Scale = Callable[[float], float]

_WIDTH: Final = 880
_HEIGHT: Final = 260
_LEFT: Final = 78
_RIGHT: Final = 24
_TOP: Final = 14
_BOTTOM: Final = 30
_ROWS: Final = 4
_COLUMNS: Final = 6
#: What round steps of a scale are, times a power of ten.
_STEPS: Final = (1, 2, 2.5, 5, 10)
_MINUTE_S: Final = 60
_DAY_S: Final = 86400
_TIME_STEPS_S: Final = (10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)


def rates(samples: Sequence[Sample]) -> list[tuple[float, float, float]]:
    """For each span between two samples its end, and bytes in and out a second in it."""
    found = []
    for before, after in pairwise(samples):
        span_s = after.elapsed_s - before.elapsed_s
        if span_s > 0:
            # Counters of a failed attempt may be taken back; a rate is never negative.
            bytes_in = max(0, after.bytes_in - before.bytes_in)
            bytes_out = max(0, after.bytes_out - before.bytes_out)
            found.append((after.elapsed_s, bytes_in / span_s, bytes_out / span_s))
    return found


def throughput_svg(samples: Sequence[Sample]) -> str | None:
    """The drawing, or None where there is too little to see."""
    spans = rates(samples)
    if len(spans) < 2:
        return None
    end_s = spans[-1][0]
    step = _round_step(max(max(span[1], span[2]) for span in spans) / _ROWS or 1.0)
    top = step * max(1, math.ceil(max(max(span[1], span[2]) for span in spans) / step))

    def x_of(seconds: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * seconds / end_s

    def y_of(rate: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * rate / top

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Throughput over time">',
        *_rows(top, step, y_of),
        *_columns(end_s, x_of),
    ]
    for number, kind in ((1, "in"), (2, "out")):
        line = _staircase([(span[0], span[number]) for span in spans], x_of, y_of)
        ground = y_of(0)
        parts.append(f'<path class="area {kind}" d="M{_LEFT} {ground:.1f} L{line} V{ground:.1f} Z"/>')
        parts.append(f'<path class="line {kind}" d="M{line}"/>')
    parts.append("</svg>")
    return "\n".join(parts)


def _staircase(points: Sequence[tuple[float, float]], x_of: Scale, y_of: Scale) -> str:
    """A rate is that of the whole span before its point, so it is drawn level; a sloped line would make some up."""
    x = float(_LEFT)
    steps = []
    for seconds, rate in points:
        y = y_of(rate)
        steps.append(f"{x:.1f} {y:.1f}")
        x = x_of(seconds)
        steps.append(f"{x:.1f} {y:.1f}")
    return " ".join(steps)


def _rows(top: float, step: float, y_of: Scale) -> list[str]:
    parts = []
    for number in range(round(top / step) + 1):
        y = y_of(number * step)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        words = f"{size_words(number * step)}/s" if number else "0"
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{words}</text>')
    return parts


def _columns(end_s: float, x_of: Scale) -> list[str]:
    step = _round_step(end_s / _COLUMNS) if end_s < _MINUTE_S else _time_step(end_s / _COLUMNS)
    parts = []
    number = 0
    while number * step <= end_s:
        x = x_of(number * step)
        words = time_words(number * step) if number else "0"
        parts.append(f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{words}</text>')
        number += 1
    return parts


def _round_step(least: float) -> float:
    """The smallest round number that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in _STEPS if step * power >= least * 0.999)


def _time_step(least_s: float) -> float:
    return next((step for step in _TIME_STEPS_S if step >= least_s), math.ceil(least_s / _DAY_S) * _DAY_S)
