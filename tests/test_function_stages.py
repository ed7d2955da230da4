"""The stages lines and chunks: a user's function by its name."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import pytest
from byte_chains import Portions, failure, file_item, publish, through
from cli_tools import lines_of, mpp
from hypothesis import given
from hypothesis import strategies as st
from mpp_stages.byte_stage import line_filter
from mpp_stages.lines import ChunksStage, LinesStage
from mpp_stages.write import WriteStage
from pass_through_ways import all_ways, run

from mpp_cli.failures import error_words

TEXT = b"".join(b"line %d DEBUG\n" % n if n % 3 else b"line %d\n" % n for n in range(60_000)) + b"no end"


def drop(line, word="DEBUG"):
    return None if word.encode() in line else line


def upper(chunks, suffix=""):
    for chunk in chunks:
        yield chunk.upper()
    yield suffix.encode()


def fails_at(line, number):
    if line.startswith(b"line %d " % number):
        raise KeyError("that one")
    return line


class OddError(Exception):
    """Takes other arguments than it keeps, so pickle cannot make it again."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def fails_oddly(line):
    if line == b"b":
        raise OddError(1, 2)
    return line


def grow(line):
    return line * (1 + line.count(b"7"))


def fails_in_a_helper(line, how):
    if "help_with_lines" not in " ".join(sys.orig_argv):
        return line
    if how == "exits":
        os._exit(3)
    raise KeyError("that one")


@line_filter
def decorated(line, word="DEBUG"):
    return drop(line, word)


@all_ways
def test_lines_are_filtered(tmp_path, way):
    """The function gets each line with its newline, and the other options by name."""
    (tmp_path / "x").write_bytes(TEXT)
    item = run([LinesStage(drop, word="DEBUG"), WriteStage()], file_item(tmp_path / "x", tmp_path / "y"), way)
    publish(item)
    assert (tmp_path / "y").read_bytes() == b"".join(x for x in TEXT.splitlines(True) if b"DEBUG" not in x)


@all_ways
def test_chunks_are_filtered(tmp_path, way):
    """Through a generator, whose last words count too."""
    (tmp_path / "x").write_bytes(TEXT)
    item = run([ChunksStage(upper, suffix="!"), WriteStage()], file_item(tmp_path / "x", tmp_path / "y"), way)
    publish(item)
    assert (tmp_path / "y").read_bytes() == TEXT.upper() + b"!"


@all_ways
def test_what_the_function_raises_fails_the_item(tmp_path, way):
    """Under the stage's name, with the line, and nothing is published."""
    (tmp_path / "x").write_bytes(TEXT)
    item = run([LinesStage(fails_at, number=50_000), WriteStage()], file_item(tmp_path / "x", tmp_path / "y"), way)
    error = failure(item, KeyError)
    assert "in stage 'lines'" in error.__notes__
    assert error_words(error) == "stage 'lines': KeyError: 'that one' (in the line b'line 50000 DEBUG\\n')"
    item.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_error_that_cannot_be_pickled_is_told_like_any_other(tmp_path):
    """With its class, the stage and the line."""
    (tmp_path / "x").write_bytes(b"a\nb")
    item = run([LinesStage(fails_oddly), WriteStage()], file_item(tmp_path / "x", tmp_path / "y"), "processes")
    item.discard()
    assert error_words(item.exceptions[0]) == "stage 'lines': OddError: 1 and 2 (in the line b'b')"


def returns_bytes(chunks):
    return b"".join(chunks)


def returns_nothing(chunks):
    list(chunks)


@pytest.mark.parametrize(("function", "kind"), [(returns_bytes, "bytes"), (returns_nothing, "NoneType")])
def test_a_chunk_function_that_yields_nothing_is_told_so(function, kind):
    """Rather than what iterating over its result would say."""
    with pytest.raises(TypeError, match=f"must yield chunks of bytes, and has returned {kind}"):
        through(ChunksStage(function), b"data")


@all_ways
def test_lines_in_several_processes_keep_their_order(tmp_path, way):
    """The bytes are those of one process, also where lines grow."""
    (tmp_path / "x").write_bytes(TEXT * 3)
    item = run([LinesStage(grow, processes=2), WriteStage()], file_item(tmp_path / "x", tmp_path / "y"), way)
    publish(item)
    assert (tmp_path / "y").read_bytes() == b"".join(map(grow, (TEXT * 3).splitlines(True)))


@all_ways
@pytest.mark.parametrize(("how", "words"), [("raises", "that one"), ("exits", "ended with status 3")])
def test_a_failure_in_a_helper_fails_the_item(tmp_path, way, how, words):
    """By the error that the function raised, or by how the process ended; no process is left."""
    (tmp_path / "x").write_bytes(TEXT * 3)
    stage = LinesStage(fails_in_a_helper, processes=2, how=how)
    item = run([stage, WriteStage()], file_item(tmp_path / "x", tmp_path / "y"), way)
    assert words in str(item.exceptions[0])
    item.discard()


@given(text=st.binary(max_size=300), cuts=st.lists(st.integers(1, 50), max_size=10))
def test_lines_are_the_same_however_they_arrive(text, cuts):
    """Each is seen once, whole."""
    seen = []
    ends = [0, *itertools.accumulate(cuts)]
    portions = [text[a:b] for a, b in itertools.pairwise(ends)] + [text[ends[-1] :]]
    made = through(LinesStage(lambda line: seen.append(line) or line), Portions(filter(None, portions)))
    assert made == text
    assert seen == [line for line in text.replace(b"\n", b"\n\0").split(b"\0") if line] or b"\0" in text


@all_ways
def test_a_decorated_filter_can_be_named_too(tmp_path, way):
    """Its options come from both places."""
    (tmp_path / "x").write_bytes(b"a\nb\n")
    for stage, made in ((LinesStage(decorated(word="a"), word="b"), b"a\n"), (LinesStage(decorated, word="a"), b"b\n")):
        item = run([stage, WriteStage()], file_item(tmp_path / "x", tmp_path / "y", force=True), way)
        publish(item)
        assert (tmp_path / "y").read_bytes() == made


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (drop, {"wrod": 1}, "wrod"),
        (fails_at, {}, "number"),
        (3, {}, "must lead to a function, not to int"),
        (Path, {}, "must lead to a function"),
        ("nowhere", {}, "must be 'module:function'"),
        ("nowhere:f", {}, "No module named 'nowhere'"),
        ("json:nothing", {}, "nothing"),
    ],
)
def test_a_wrong_function_or_option_is_refused(function, options, words):
    """At once, when the stage is made."""
    with pytest.raises(ValueError, match=words):
        LinesStage(function, **options)


def test_a_function_is_found_beside_the_definition(tmp_path, tmp_path_factory):
    """Its file is imported by the workers, wherever mpp is run; faults stand at their lines."""
    (tmp_path / "filters.py").write_text("def drop(line, word):\n    return None if word.encode() in line else line\n")
    p = tmp_path / "p.toml"
    p.write_text('[[stage]]\nuse = "lines"\nfunction = "./filters.py:drop"\nword = "DEBUG"\n')
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = mpp("run", p, data=b"a\nb DEBUG\nc", cwd=elsewhere)
    assert (done.returncode, done.stdout) == (0, b"a\nc"), done.stderr
    assert b'function="./filters.py:drop" word="DEBUG"' in mpp("check", p, cwd=elsewhere).stdout
    p.write_text('[[stage]]\nuse = "lines"\nfunction = "./filters.py:dorp"\nword = "DEBUG"\n')
    (fault,) = lines_of(mpp("check", p, cwd=elsewhere))
    assert ":3: stage 'lines': 'function': './filters.py' has no 'dorp' (did you mean 'drop'?)" in fault
    p.write_text('[[stage]]\nuse = "lines"\nfunction = "./filters.py:drop"\nwrod = "DEBUG"\n')
    assert any("wrod" in line for line in lines_of(mpp("check", p, cwd=elsewhere)))
