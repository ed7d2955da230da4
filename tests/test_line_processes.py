"""Lines in several processes that nobody has asked for: only where nobody can tell."""

from __future__ import annotations

import functools
import io
import itertools
import os
import re
import select
import subprocess
import sys
import time

import pytest
from byte_chains import Collector, Portions
from mpp_stages.byte_stage import line_filter
from mpp_stages.file_item import FileItem, PathSource, PathTarget
from mpp_stages.lines import LinesStage
from mpp_stages.self_contained import packed_if_self_contained, unpacked

from atbu.mp_pipeline.cpus import usable_cpus

LINES = [b"line %d DEBUG\n" % number for number in range(100)]
PATTERN = re.compile(b"DEBUG")
COUNTER = itertools.count()
DEADLINE_S = 30.0
#: So that the few lines of a test are long work.
TURNS = 2_000

needs_two_cpus = pytest.mark.skipif(usable_cpus() < 2, reason="with one CPU there is nobody to share with")


def work_for_a_while():
    for _ in range(TURNS):
        pass


@line_filter(stateless=True)
def tells_process(line):
    work_for_a_while()
    return b"%d\n" % os.getpid()


@line_filter(stateless=True)
def only_here(line):
    """Where this module is imported for a helper, it is not found."""
    work_for_a_while()
    return line


if "help_with_lines" in " ".join(sys.orig_argv):
    del only_here


def hangs_in_a_helper(line, told):
    if "help_with_lines" in " ".join(sys.orig_argv):
        os.write(os.open(told, os.O_WRONLY), b"%d\n" % os.getpid())
        while True:
            pass
    return line


RUN_FOREVER = """
import sys
sys.path[:0] = {path!r}
from byte_chains import Portions, through
from mpp_stages.lines import LinesStage
from test_line_processes import hangs_in_a_helper

through(LinesStage(hangs_in_a_helper, processes=2, told={told!r}), Portions([b"line\\n"] * 100))
"""


def counts(line):
    work_for_a_while()
    return b"%d\n" % next(COUNTER)


def tells_order(line):
    for _ in range(2_000):  # work_for_a_while() is a name that it may not use
        pass
    return b" ".join(set(line.split())) + b"\n"


def run_until(stage, is_enough):
    """What a stage makes of as many lines as it takes; the number of lines, too."""
    made = Collector()
    written = itertools.count()
    until = time.monotonic() + DEADLINE_S

    def portions():
        while not is_enough(b"".join(made.portions)) and time.monotonic() < until:
            next(written)
            yield b"".join(LINES)

    writer = io.BufferedWriter(made)
    item = FileItem(PathSource("memory"), PathTarget("memory"), name="memory")
    stage.run(io.BufferedReader(Portions(portions())), writer, item)
    writer.flush()
    return b"".join(made.portions).splitlines(keepends=True), next(written) * len(LINES)


def takes_cpu(seconds):
    started = time.thread_time()
    return lambda made: time.thread_time() - started > seconds


@needs_two_cpus
def test_a_declared_function_is_shared():
    """Two processes at least have done lines, and none is lost."""
    made, expected = run_until(LinesStage(tells_process), lambda made: len(set(made.split())) > 1)
    assert len(set(made)) > 1
    assert len(made) == expected


@needs_two_cpus
def test_a_function_that_needs_nothing_around_it_is_shared(monkeypatch):
    """It travels as code: words in a set have another order in each process, if that is not fixed."""
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    many = b" ".join(b"%d" % number for number in range(50))
    monkeypatch.setattr(sys.modules[__name__], "LINES", [many + b"\n"] * 100)
    made, expected = run_until(LinesStage(tells_order), lambda made: len(set(made.splitlines())) > 1)
    assert len(set(made)) > 1
    assert len(made) == expected


def test_any_other_function_stays_in_one_process():
    """One that counts gives the numbers in their order."""
    made, expected = run_until(LinesStage(counts), takes_cpu(0.5))
    assert made == [b"%d\n" % number for number in range(expected)]


def test_a_helper_that_cannot_start_is_done_without():
    """Nobody has asked for it."""
    made, expected = run_until(LinesStage(only_here), takes_cpu(0.6))
    assert made == LINES * (expected // len(LINES))


def test_a_helper_ends_with_who_has_started_it(tmp_path):
    """By kill -9, and in the middle of a function that never returns."""
    told = str(tmp_path / "told")
    os.mkfifo(told)
    program = RUN_FOREVER.format(path=sys.path, told=told)
    with subprocess.Popen([sys.executable, "-c", program]) as process, open(told, "rb") as pids:
        try:
            ended = os.pidfd_open(int(pids.readline()))
        finally:
            process.kill()
    with open(ended, closefd=True):
        assert select.select([ended], [], [], DEADLINE_S)[0]


def plain(line):
    if b"DEBUG" in line:
        return None
    return line


def with_options(line, word="DEBUG", *, number=2):
    fields = line.split(b" ")
    if len(fields) > number and fields[number].strip() == word.encode():
        return b" ".join(sorted(fields))
    return line.upper()


def with_inner_function(line):
    total = 0

    def add(number):
        nonlocal total
        total += number

    for number in [len(field) for field in line.split()]:
        add(number)
    try:
        return b"%d\n" % (total // (total - 13))
    except ZeroDivisionError:
        return f"{total:x}\n".encode()


@pytest.mark.parametrize("function", [plain, with_options, with_inner_function, lambda line: line[::-1]])
def test_a_function_of_its_arguments_alone_is_recognized(function):
    """What is unpacked does the same without its module."""
    packed = packed_if_self_contained(function, {})
    assert packed is not None
    copy = unpacked(packed)
    assert "LINES" not in copy.__globals__
    for line in (*LINES, b"a b DEBUG\n", b"", b"\xff \n"):
        assert copy(line) == function(line)


def closed_over(found=PATTERN):
    return lambda line: found.sub(b"", line)


def seen_before(line, seen={}):  # noqa: B006 - that is the point
    return seen.setdefault(line, line)


def rebinds(line):
    global count  # the name is also a method's
    count = len(line)
    return line


def imports(line):
    import random

    return line if random.random() < 0.5 else None


def prints(line):
    print(line)
    return line


def reaches_out(line):
    return b"%d\n" % len(line.__class__.__subclasses__())


def formats(line):
    def inner():
        return line

    return "{0.__globals__}".format(inner).encode()  # noqa: UP030, UP032


class Numbering:
    def __call__(self, line):
        return line

    def method(self, line):
        return line


@pytest.mark.parametrize(
    "function",
    [
        *(counts, closed_over(), seen_before, rebinds, imports, prints, reaches_out, formats, len, Numbering()),
        *(Numbering().method, functools.partial(plain), lambda line: PATTERN.sub(b"", line), lambda line: hash(line)),
    ],
)
def test_a_function_that_might_keep_something_is_not(function):
    """Nor one that can reach anything but its arguments."""
    assert packed_if_self_contained(function, {}) is None


@pytest.mark.parametrize(("options", "is_proof"), [({"word": "x", "number": 3}, True), ({"word": ["x"]}, False)])
def test_options_that_can_change_are_no_proof(options, is_proof):
    """A list could be added to."""
    assert (packed_if_self_contained(with_options, options) is not None) is is_proof
