"""The report's HTML. Pure.

No script, and nothing is loaded: the page says so to the browser, so that no name in it could change that.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from typing import Final

from mpp_cli.errors import one_line, shown
from mpp_cli.observers import RunStart, RunSummary
from mpp_cli.progress.figures import Figures, ratio_words, size_words, time_words

from .chart import throughput_svg
from .collector import MAX_FAILURES, Collector, FailureRow, FileRow
from .style import STYLE

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
#: What time a file took below this is chance.
_SHORTEST_S: Final = 1e-9


def render(collector: Collector, start: RunStart, summary: RunSummary, begun_s: float) -> str:
    """The whole page.

    Args:
        begun_s: When the run began, in seconds since 1970.
    """
    title = f"mpp run {one_line(start.pipeline)}"
    begun = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(begun_s))
    kind, verdict = _verdict(summary)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>",
        f"<header><h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(begun)}, {start.jobs} at once</p>',
        f'<p class="verdict {kind}">{escape(verdict)}</p></header>',
        _figures_section(summary),
        _chart_section(collector),
        _failures_section(collector.failures, summary.failed),
        _files_section("Slowest files", collector.slowest()),
        _files_section("Worst compressed files", collector.worst_compressed()),
        "</main></body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _verdict(summary: RunSummary) -> tuple[str, str]:
    """A class of the style sheet, and how the run ended in words."""
    if summary.broken is not None:
        return "bad", f"The run could not go on: {one_line(summary.broken)}"
    if summary.signal_name is not None:
        return "warn", f"Stopped by {summary.signal_name}; unfinished output was discarded"
    if summary.failed:
        return "bad", f"Finished, but {_files(summary.failed)} failed"
    return "good", "Finished"


def _figures_section(summary: RunSummary) -> str:
    figures: Figures = summary.figures
    tiles = [
        ("Done", f"{summary.done:,}", ""),
        ("Skipped", f"{summary.skipped:,}", ""),
        ("Failed", f"{summary.failed:,}", "bad" if summary.failed else ""),
        ("Stopped", f"{summary.stopped:,}", ""),
        ("Read", size_words(figures.bytes_in), ""),
        ("Written", size_words(figures.bytes_out), ""),
        ("Written / read", ratio_words(figures.bytes_in, figures.bytes_out) or "–", ""),
        ("Time", time_words(figures.elapsed_s), ""),
        ("Rate", f"{size_words(figures.rate)}/s", ""),
    ]
    shown_tiles = [tile for tile in tiles if tile[0] not in ("Skipped", "Stopped") or tile[1] != "0"]
    cells = "".join(f'<div class="{kind}"><dt>{name}</dt><dd>{value}</dd></div>' for name, value, kind in shown_tiles)
    return f'<section id="figures"><dl class="tiles">{cells}</dl></section>'


def _chart_section(collector: Collector) -> str:
    drawing = throughput_svg(collector.samples)
    legend = '<p class="legend"><span class="in">read</span><span class="out">written</span></p>'
    content = '<p class="soft">The run was too short for a plot.</p>' if drawing is None else legend + drawing
    return f'<section id="throughput"><h2>Throughput</h2>{content}</section>'


def _failures_section(failures: Sequence[FailureRow], failed: int) -> str:
    if not failed:
        return ""
    rows = "\n".join(
        f'<tr><td class="name">{_name(row.name)}</td><td>{escape(row.stage)}</td>'
        f'<td class="kind">{escape(row.kind)}</td><td>{escape(row.words)}</td></tr>'
        for row in failures
    )
    more = failed - len(failures)
    rest = f'<p class="soft">and {_files(more)} more; these are the first {MAX_FAILURES}</p>' if more > 0 else ""
    head = "<tr><th>file</th><th>stage</th><th>error</th><th>what happened</th></tr>"
    return (
        f'<section id="failures"><h2>Failures</h2><div class="wide"><table>{head}\n{rows}</table></div>{rest}</section>'
    )


def _files_section(title: str, files: Sequence[FileRow]) -> str:
    if not files:
        return ""
    rows = "\n".join(
        f'<tr><td class="name">{_name(row.name)}</td><td class="number">{size_words(row.bytes_in)}</td>'
        f'<td class="number">{size_words(row.bytes_out)}</td>'
        f'<td class="number">{ratio_words(row.bytes_in, row.bytes_out) or "–"}</td>'
        f'<td class="number">{_seconds(row.seconds)}</td>'
        f'<td class="number">{_rate(row)}</td></tr>'
        for row in files
    )
    numbers = "".join(f'<th class="number">{name}</th>' for name in ("read", "written", "ratio", "time", "rate"))
    identifier = title.partition(" ")[0].lower()
    return (
        f'<section id="{identifier}"><h2>{title}</h2><div class="wide"><table><tr><th>file</th>{numbers}</tr>\n'
        f"{rows}</table></div></section>"
    )


def _name(name: str) -> str:
    return escape(shown(name))


def _files(number: int) -> str:
    return f"{number:,} file{'' if number == 1 else 's'}"


def _seconds(seconds: float) -> str:
    return time_words(seconds) if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _rate(row: FileRow) -> str:
    return "–" if row.seconds < _SHORTEST_S else f"{size_words(row.bytes_in / row.seconds)}/s"
