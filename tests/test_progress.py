"""How a run is shown: words, the choice of a reporter, and what really appears on terminals and in logs."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import time

import pytest
from cli_tools import MPP, TIMEOUT_S, environment, feed, mpp
from hypothesis import given
from hypothesis import strategies as st

from mpp_cli.progress.figures import Figures, progress_words, ratio_words, size_words, summary_words, time_words
from mpp_cli.progress.layout import MAX_NAMES, cropped, first_line, name_lines
from mpp_cli.progress.plain import LINE_INTERVAL_S, PlainReporter
from mpp_cli.progress.reporter import choose
from mpp_cli.sizes import parse_size


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9994, "9.99 kB"),
        (9996, "10.0 kB"),
        (99_949, "99.9 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (123_456_789, "123 MB"),
        (40 * 10**9, "40.0 GB"),
        (10**18, "1.00 EB"),
        (10**22, "10000 EB"),
    ],
)
def test_sizes_have_three_digits(count, words):
    """Whatever the size, the figure has one width and one unit."""
    assert size_words(count) == words


@given(st.floats(0, 1e17))
def test_a_size_s_words_are_right_to_half_a_percent(count):
    """Rounding is all that is lost."""
    number, unit = size_words(count).split()
    factor = 1000 ** ["B", "kB", "MB", "GB", "TB", "PB"].index(unit)
    assert float(number) * factor == pytest.approx(count, rel=0.0051, abs=0.51)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1:00"), (185, "3:05"), (3723, "1:02:03")],
)
def test_times_are_short(seconds, words):
    """Tenths where they matter, then seconds, minutes, hours."""
    assert time_words(seconds) == words


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("40G", 40 << 30),
        ("1.5 GB", 1_500_000_000),
        ("512KiB", 512 << 10),
        ("7kb", 7000),
        ("3b", 3),
        (" 2 t ", 2 << 40),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_sizes_are_read_as_people_write_them(text, size):
    """A bare letter means powers of 1024, as dd and zstd read it; ...B powers of 1000."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "x", "-1", "1e3", "1.2.3", "1ib", "1X", "0x10", "1 G 2", "²"])
def test_what_is_no_size_is_refused(text):
    """With an example of what would be right."""
    with pytest.raises(ValueError, match="such as 40G"):
        parse_size(text)


@given(st.text(max_size=8))
def test_any_text_is_a_size_or_is_refused(text):
    """Nothing else comes out."""
    try:
        size = parse_size(text)
    except ValueError:
        return
    assert size >= 0


def test_words_of_a_run_with_a_known_size():
    """Bytes in and out, ratio, rate, time, and the time that is left."""
    figures = Figures(bytes_in=250_000_000, bytes_out=50_000_000, elapsed_s=2.0, total_bytes=1_000_000_000)
    assert progress_words(figures) == "250 MB of 1.00 GB in, 50.0 MB out (20.0 %), 125 MB/s, 2.0 s, 6.0 s left"


def test_words_of_a_run_with_an_unknown_size():
    """No end is guessed."""
    assert progress_words(Figures(1_000, 10, 0.5)) == "1.00 kB in, 10 B out (1.0 %), 2.00 kB/s, 0.5 s"


def test_words_of_many_files():
    """How many are done, and that some failed."""
    figures = Figures(10, 5, 1.0, items_done=3, items_total=7, failed=1)
    assert progress_words(figures) == "3 of 7 files, 10 B in, 5 B out (50.0 %), 10 B/s, 1.0 s, 1 failed"
    assert summary_words(figures, "x") == "2 of 7 files done, 1 failed: 10 B in, 5 B out (50.0 %), 1.0 s, 10 B/s"
    assert summary_words(Figures(10, 5, 1.0, items_done=1, items_total=None), "x").startswith("1 file done: 10 B in")


def test_a_run_of_nothing_has_words():
    """No division by zero."""
    figures = Figures(0, 0, 0.0, total_bytes=0)
    assert (figures.share, figures.eta_s, ratio_words(0, 13)) == (None, None, "")
    assert summary_words(figures, "stdin") == "stdin: 0 B in, 0 B out, 0.0 s, 0 B/s"


def test_a_hint_that_was_too_small_ends_at_the_end():
    """More bytes than hinted: all of it, nothing left."""
    figures = Figures(300, 1, 5.0, total_bytes=200)
    assert (figures.share, figures.eta_s) == (1.0, 0.0)


SEVERAL = Figures(
    250_000_000, 50_000_000, 2.0, total_bytes=1_000_000_000, items_done=3, items_total=7, failed=1,
    active=("a/" + "long/" * 30 + "name.tar", "b\n\udcff", "c", "d"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("width", "cells", "words"),
    [
        (
            200,
            20,
            " 25 % 3 of 7 files, 250 MB of 1.00 GB in, 50.0 MB out (20.0 %), 125 MB/s, 2.0 s, 6.0 s left, 1 failed",
        ),
        (80, 20, " 25 % 3 of 7 files, 125 MB/s, 6.0 s left, 1 failed"),
        (48, 10, " 25 % 125 MB/s, 6.0 s left, 1 failed"),
        (40, 10, " 25 % 6.0 s left, 1 failed"),
        (20, 0, " 25 % 1 failed"),
    ],
)
def test_a_narrow_terminal_shows_what_matters_most(width, cells, words):
    """Failures, the time that is left, the rate; a line never folds."""
    line = first_line(SEVERAL, width)
    assert (line.cells, line.words) == (cells, words)
    assert line.full == cells // 4


@given(st.integers(1, 200), st.integers(0, 10**13), st.one_of(st.none(), st.integers(0, 10**13)))
def test_no_line_of_the_bar_is_wider_than_the_terminal(width, bytes_in, total):
    """Whatever the figures."""
    figures = Figures(
        bytes_in, bytes_in // 2, 7.0, total_bytes=total, items_total=None, failed=3, active=SEVERAL.active
    )
    line = first_line(figures, width)
    assert (line.cells + 1 if line.cells else 0) + len(line.words) <= max(width, 6)
    assert all(len(name) <= max(width, 2) for name in name_lines(figures, width))


def test_the_largest_files_under_way_are_named():
    """A few of them, each on one line, its beginning and its end."""
    first, second, third = name_lines(SEVERAL, 40)
    assert len(name_lines(SEVERAL, 40)) == MAX_NAMES
    assert first == "  a/long/long/\N{HORIZONTAL ELLIPSIS}g/long/long/long/name.tar"
    assert (second, third) == ("  b\\n\\xff", "  c")
    assert name_lines(Figures(1, 1, 1.0, active=("x",)), 40) == []


@given(st.text(max_size=60), st.integers(3, 30))
def test_a_cropped_name_fits_by_the_columns_it_takes(text, width):
    """Characters two columns wide count twice."""

    def columns(text):
        return sum(1 + ("z" < char != "\N{HORIZONTAL ELLIPSIS}") for char in text)

    short = cropped(text, width, columns)
    assert columns(short) <= width
    assert (short == text) == (columns(text) <= width)


XTERM = {"TERM": "xterm"}


@pytest.mark.parametrize(
    ("mode", "environ", "stderr", "stdout", "chosen"),
    [
        ("auto", XTERM, True, False, "bar"),
        ("auto", XTERM, False, False, "plain"),
        ("auto", XTERM, True, True, "none"),
        ("auto", XTERM | {"CI": "true"}, True, False, "plain"),
        ("auto", {"TERM": "dumb"}, True, False, "plain"),
        ("auto", {}, True, False, "plain"),
        ("auto", XTERM | {"NO_COLOR": "1"}, True, False, "bar"),
        ("bar", XTERM | {"CI": "1"}, False, True, "bar"),
        ("plain", XTERM, True, True, "plain"),
        ("none", XTERM, True, False, "none"),
    ],
)
def test_auto_draws_a_bar_only_where_somebody_sees_it(mode, environ, stderr, stdout, chosen):
    """And what the user says goes."""
    assert choose(mode, environ, stderr_is_terminal=stderr, stdout_is_terminal=stdout) == chosen


def test_plain_lines_come_seldom(capsys):
    """Ten updates a second make one line each LINE_INTERVAL_S."""
    reporter = PlainReporter()
    for tenth in range(350):
        reporter.update(Figures(tenth, tenth, tenth / 10))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == int(35 / LINE_INTERVAL_S)
    assert lines[0].startswith("mpp: 100 B in, ")


def seen_on_a_terminal(*args: str, until: bytes, **env: str) -> str:
    """Run mpp with its standard error on a terminal and feed it until something is seen there; all that appeared."""
    user, program = pty.openpty()
    try:
        with subprocess.Popen(
            [*MPP, "run", *args], env=environment(**env), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=program,
        ) as process:  # fmt: skip
            os.close(program)
            assert process.stdin is not None
            deadline_s = time.monotonic() + TIMEOUT_S
            shown = b""
            with process.stdin as pipe:
                while until not in shown:
                    assert time.monotonic() < deadline_s, shown
                    feed(pipe, 1, bytes(1 << 16))
                    if select.select([user], [], [], 0.01)[0]:
                        shown += os.read(user, 65536)
            with contextlib.suppress(OSError):  # EIO: the program's side is closed
                while more := os.read(user, 65536):
                    shown += more
            assert process.wait(TIMEOUT_S) == 0
        return shown.decode()
    finally:
        os.close(user)


def without_escapes(text: str) -> str:
    """What a terminal would show of it."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_terminal_shows_a_bar_and_then_the_summary():
    """With a known size: how much of it, the rate and the time that is left; at the end only a line stays."""
    shown = seen_on_a_terminal("zstd", "--size-hint", "1GB", until=b" left")
    assert "\x1b[" in shown
    words = without_escapes(shown)
    assert re.search(r"0 % [\d.]+ .?B of 1\.00 GB in, [\d.]+ .?B out \(0\.0 %\), .*B/s, [\d.]+ s", words)
    last = shown.rstrip("\r\n").rpartition("\n")[2]
    assert without_escapes(last).strip().startswith("mpp: stdin: ")


def test_a_terminal_shows_figures_without_a_bar_where_no_size_is_known():
    """A pipe's end is not known: no percentage, no guess."""
    shown = without_escapes(seen_on_a_terminal("zstd", until=b"B/s"))
    assert re.search(r"[\d.]+ .?B in, [\d.]+ .?B out", shown)
    assert "\N{BOX DRAWINGS HEAVY HORIZONTAL}" not in shown
    assert " left" not in shown


def test_no_color_is_obeyed():
    """The bar is drawn in no colour, and what is done differs all the same from what is left."""
    shown = seen_on_a_terminal("zstd", "--size-hint", "1GB", until=b" left", NO_COLOR="1")
    assert "\N{BOX DRAWINGS LIGHT HORIZONTAL}" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown)


def test_a_short_run_on_a_terminal_is_one_line():
    """No bar flickers, and rich is not even loaded."""
    user, program = pty.openpty()
    try:
        done = mpp("run", "zstd", data=b"x", stderr=program)
        assert done.returncode == 0
        shown = os.read(user, 65536)
    finally:
        os.close(user)
        os.close(program)
    assert shown.startswith(b"mpp: stdin: 1 B in, ")
    assert shown.count(b"\n") == 1
    assert b"\x1b" not in shown


def test_off_terminal_a_run_ends_with_one_plain_line():
    """A log shows what was done."""
    done = mpp("run", "zstd", data=bytes(1_000_000))
    assert re.fullmatch(rb"mpp: stdin: 1\.00 MB in, \d+ B out \(0\.0 %\), [\d.]+ s, [\d.]+ .?B/s\n", done.stderr), (
        done.stderr
    )
