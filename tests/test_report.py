"""The report: what is on the page, that it stays small, and that a browser shows it as it is meant."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from cli_tools import TIMEOUT_S
from hypothesis import given
from hypothesis import strategies as st

from mpp_cli.errors import UsageProblem
from mpp_cli.observers import ItemResult, RunStart, RunSummary
from mpp_cli.progress.figures import Figures
from mpp_cli.report.chart import rates, throughput_svg
from mpp_cli.report.collector import MAX_FAILURES, MAX_SAMPLES, TOP_FILES, Collector, Sample
from mpp_cli.report.observer import ReportWriter
from mpp_cli.report.page import render

EVIL = "a<script>document.title='owned'</script>\"'&\u202e\udcff\n.log"


def done(name, bytes_in=100_000, bytes_out=50_000, seconds=1.0) -> ItemResult:
    return ItemResult(name, f"/{name}", f"/{name}.zst", "done", bytes_in, bytes_out, seconds)


def failed(name, *errors) -> ItemResult:
    return ItemResult(name, f"/{name}", f"/{name}.zst", "failed", errors=errors)


def a_summary(**changes) -> RunSummary:
    facts = {"done": 3, "skipped": 0, "failed": 0, "stopped": 0, "exit_status": 0} | changes
    return RunSummary(Figures(3_000_000, 1_000_000, 12.0, items_done=4, items_total=4), **facts)


def a_full_collector() -> Collector:
    collector = Collector()
    for second in range(1, 13):
        collector.add_sample(Figures(second * 250_000, second * 80_000, float(second)))
    for number in range(3):
        collector.add_item(done(f"file {number}", bytes_out=20_000 * (number + 1), seconds=3.0 - number))
    collector.add_item(failed(EVIL, OSError(errno.ENOSPC, "No space left on device", "out")))
    return collector


class _Checker(HTMLParser):
    """Collects the tags, and fails where one is closed that is not open."""

    VOID = ("meta", "path", "line")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def checked(page: str) -> _Checker:
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def test_the_page_is_whole_and_needs_nothing_else():
    """No script, no link, no image; every tag is closed; the browser is told to load nothing."""
    page = render(a_full_collector(), RunStart("zstd", 2), a_summary(failed=1), 1.5e9)
    checker = checked(page)
    assert not checker.tags & {"script", "link", "img", "iframe", "object", "base", "a"}
    assert not checker.attributes & {"src", "href", "onclick", "onload"}
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_names_cannot_change_the_page():
    """Whatever stands in them, they are shown as text, on one line."""
    collector = a_full_collector()
    collector.add_item(done(EVIL))
    page = render(collector, RunStart(EVIL, 2), a_summary(failed=1, broken=EVIL), 1.5e9)
    page.encode()  # no lone surrogates
    assert "<script" not in page
    shown = "a<script>document.title='owned'</script>\"'&\\u202e\\xff\\n.log"
    assert checked(page).text.count(shown) >= 2


@given(st.text(max_size=30))
def test_no_name_breaks_the_page(name):
    """Any text at all."""
    collector = Collector()
    collector.add_item(done(name))
    collector.add_item(failed(name, ValueError(name)))
    checked(render(collector, RunStart(name, 1), a_summary(failed=1), 0.0))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "Finished"),
        ({"failed": 1}, "Finished, but 1 file failed"),
        ({"failed": 1200}, "Finished, but 1,200 files failed"),
        ({"stopped": 2, "signal_name": "SIGINT"}, "Stopped by SIGINT; unfinished output was discarded"),
        ({"broken": "no workers"}, "The run could not go on: no workers"),
    ],
)
def test_the_page_says_how_the_run_ended(facts, words):
    """In one line under the title."""
    page = render(Collector(), RunStart("zstd", 2), a_summary(**facts), 0.0)
    assert re.search(rf'<p class="verdict \w+">{re.escape(words)}</p>', page)


def test_the_slowest_and_the_worst_compressed_stand_out():
    """In order, as many as fit; tiny files are no example of bad compression."""
    collector = Collector()
    for number in range(1000):
        collector.add_item(done(f"n{number}", 10_000, 1 + number * 7919 % 1000, seconds=number * 7907 % 1000))
    collector.add_item(done("tiny", 10, 23, seconds=0.0))
    assert [row.seconds for row in collector.slowest()] == list(range(999, 999 - TOP_FILES, -1))
    assert [row.bytes_out for row in collector.worst_compressed()] == list(range(1000, 1000 - TOP_FILES, -1))


def test_of_many_failures_the_first_are_shown_and_all_are_counted():
    """A page of a million rows is no use to anybody."""
    collector = Collector()
    for number in range(MAX_FAILURES + 5):
        collector.add_item(failed(f"n{number}", ValueError("no")))
    page = render(collector, RunStart("zstd", 2), a_summary(failed=MAX_FAILURES + 5), 0.0)
    assert page.count(">ValueError<") == MAX_FAILURES
    assert "and 5 files more" in page


@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=1500))
def test_samples_are_few_in_order_and_cover_the_run(spans):
    """However long it takes: from its beginning to nearly its end."""
    collector = Collector()
    elapsed_s = 0.0
    for span_s in spans:
        elapsed_s += span_s
        collector.add_sample(Figures(1, 1, elapsed_s))
    times = [sample.elapsed_s for sample in collector.samples]
    assert len(times) <= MAX_SAMPLES
    assert times == sorted(set(times))
    assert times[0] == 0.0


def test_samples_of_a_steady_run_stand_evenly():
    """What was thinned out early is no coarser than what came late."""
    collector = Collector()
    for tenth in range(1, 36_000):
        collector.add_sample(Figures(tenth, tenth, tenth / 10))
    times = [sample.elapsed_s for sample in collector.samples]
    spans = [after - before for before, after in pairwise(times)]
    assert len(times) > MAX_SAMPLES / 3
    assert max(spans) < 2.1 * min(spans)


def test_rates_are_of_the_spans_between_samples():
    """And never negative, where a failed attempt's bytes were taken back."""
    samples = [Sample(0.0, 0, 0), Sample(2.0, 100, 10), Sample(3.0, 50, 10)]
    assert rates(samples) == [(2.0, 50.0, 5.0), (3.0, 0, 0.0)]


@given(st.lists(st.tuples(st.floats(0.001, 1e5), st.integers(0, 10**13), st.integers(0, 10**13)), max_size=20))
def test_any_run_can_be_drawn(steps):
    """Runs of nothing, of exabytes, of days: every coordinate is inside the drawing."""
    samples, elapsed_s, bytes_in, bytes_out = [Sample(0.0, 0, 0)], 0.0, 0, 0
    for span_s, more_in, more_out in steps:
        elapsed_s, bytes_in, bytes_out = elapsed_s + span_s, bytes_in + more_in, bytes_out + more_out
        samples.append(Sample(elapsed_s, bytes_in, bytes_out))
    drawing = throughput_svg(samples)
    assert (drawing is None) == (len(rates(samples)) < 2)
    if drawing is not None:
        for path in re.findall(r' d="M([^"]*)"', drawing):
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
            assert min(numbers) >= 0
            assert max(numbers) <= 880
        assert 2 <= drawing.count('class="grid"') <= 8
        assert drawing.count("</text>") <= 20


def test_a_report_is_replaced_as_a_whole(tmp_path):
    """Nothing but the page is left, and a link is followed to the file it names."""
    page, link = tmp_path / "page.html", tmp_path / "link.html"
    page.write_text("old")
    link.symlink_to(page)
    writer = ReportWriter(str(link))
    writer.run_started(RunStart("zstd", 2))
    writer.item_ended(done("one"))
    assert page.read_text() == "old"
    writer.run_ended(a_summary())
    assert "<h1>mpp run zstd</h1>" in page.read_text()
    assert link.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link.html", "page.html"]


@pytest.mark.parametrize("place", ["missing/page.html", ".", "fifo"])
def test_a_report_that_cannot_be_written_is_refused_before_the_run(tmp_path, place):
    """A night's work must not end with that."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageProblem, match="--report: "):
        ReportWriter(str(tmp_path / place))


def test_a_report_that_fails_at_the_end_says_which(tmp_path):
    """And leaves nothing beside it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    writer = ReportWriter(str(folder / "page.html"))
    folder.rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        writer.run_ended(a_summary())
    assert caught.value.filename == str(folder / "page.html")


#: In the order of their start-up time.
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")


@pytest.fixture
def browser(require_tool) -> str:
    """Whichever is there; else the first is asked for, and found missing."""
    return require_tool(next(filter(shutil.which, BROWSERS), BROWSERS[0]))


def test_a_browser_shows_the_page(tmp_path, browser):
    """Chromium draws the plot, shows an evil name as text, loads nothing, and runs no script."""
    page = tmp_path / "page.html"
    page.write_text(render(a_full_collector(), RunStart("zstd", 2), a_summary(failed=1), 1.5e9))
    (tmp_path / "profile").mkdir()
    dumped = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=1000",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"--screenshot={tmp_path / 'page.png'}",
         "--window-size=1000,1400", page.as_uri()],
        capture_output=True, timeout=TIMEOUT_S, check=True,
    )  # fmt: skip
    dom = dumped.stdout.decode()
    assert "<title>mpp run zstd</title>" in dom
    assert dom.count("<path ") == 4
    assert re.search(r'<td class="name">a&lt;script&gt;', dom)
    assert checked_sections(dom) == ["figures", "throughput", "failures", "slowest", "worst"]
    # A page that is nearly all one colour compresses to a few kilobytes.
    assert (tmp_path / "page.png").stat().st_size > 20_000


def checked_sections(dom: str) -> list[str]:
    return re.findall(r'<section id="(\w+)">', dom)
