"""Where a TOML file's keys stand (mpp_cli.toml_lines)."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpp_cli.toml_lines import Path, key_lines


def paths_of(value: Any, path: Path = ()) -> set[Path]:
    """Every key, table and element of an array in what tomllib gives."""
    found = {path} if path else set()
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= paths_of(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            found |= paths_of(inner, (*path, number))
    return found


DOCUMENT = '''\
# a pipeline
name = "nightly" # "[[stage]]"

[[stage]]
use = "zstd"
level = 9
text = """
[[stage]]
level = 1 \\"""
quote: ""\\""" # not a comment
"""
other = \'\'\'
use = "no" \'\'\'

[[ "stage" ]]
  use   = 'C:\\'
  list = [ 1, # one
    [2,
     3], {x = 1, y = {z = 2}},
    "]", ]
  "quoted key" . inner . "\\u00e9" = 2
  when = 1979-05-27 07:32:00
[stage.table]
a.b = 1
[[stage.more]]
k = 1
[[stage.more]]
k = 2
'''

EXPECTED = {
    ("name",): 2,
    ("stage",): 4,
    ("stage", 0): 4,
    ("stage", 0, "use"): 5,
    ("stage", 0, "level"): 6,
    ("stage", 0, "text"): 7,
    ("stage", 0, "other"): 12,
    ("stage", 1): 15,
    ("stage", 1, "use"): 16,
    ("stage", 1, "list"): 17,
    ("stage", 1, "list", 0): 17,
    ("stage", 1, "list", 1): 18,
    ("stage", 1, "list", 1, 0): 18,
    ("stage", 1, "list", 1, 1): 19,
    ("stage", 1, "list", 2): 19,
    ("stage", 1, "list", 2, "x"): 19,
    ("stage", 1, "list", 2, "y"): 19,
    ("stage", 1, "list", 2, "y", "z"): 19,
    ("stage", 1, "list", 3): 20,
    ("stage", 1, "quoted key"): 21,
    ("stage", 1, "quoted key", "inner"): 21,
    ("stage", 1, "quoted key", "inner", "é"): 21,
    ("stage", 1, "when"): 22,
    ("stage", 1, "table"): 23,
    ("stage", 1, "table", "a"): 24,
    ("stage", 1, "table", "a", "b"): 24,
    ("stage", 1, "more"): 25,
    ("stage", 1, "more", 0): 25,
    ("stage", 1, "more", 0, "k"): 26,
    ("stage", 1, "more", 1): 27,
    ("stage", 1, "more", 1, "k"): 28,
}


def test_every_key_of_a_crowded_file_has_its_line() -> None:
    """Strings that look like tables, comments, nested and dotted keys do not move a line."""
    assert paths_of(tomllib.loads(DOCUMENT)) == set(EXPECTED)
    assert key_lines(DOCUMENT) == EXPECTED


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("", (), None),
        ("\n\n  a=1", ("a",), 3),
        ("a = [\n]\nb = 1", ("b",), 3),
        ("stage = [\n {use = 'x'},\n\n {use = 'y'}]", ("stage", 1, "use"), 4),
        ("a = ''''x'''''\nb = 1", ("b",), 2),
        ('a = """"x"""""\nb = 1', ("b",), 2),
        ("a.'b.c' = 1\n[d]\n'' = 2", ("d", ""), 3),
        ("a = +inf\nb = 0x_1 # x".replace("0x_1", "0x1"), ("b",), 2),
        ("[a.b]\n[a]\nx = 1", ("a", "x"), 3),
    ],
)
def test_a_key_has_its_line(text: str, path: Path, line: int | None) -> None:
    """Forms of TOML that are easily misread."""
    assert key_lines(text).get(path) == line


NEWLINE = "\n"
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=6)
SCALARS = st.one_of(st.integers(-99, 99), st.booleans(), st.text(st.characters(codec="utf-8"), max_size=12))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


class _Writer:
    """Writes TOML in one of the ways it can be written, and notes the line of each key on the way."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self.text = ""
        self.lines: dict[Path, int] = {}

    def document(self, stages: list[dict[str, Any]]) -> None:
        for number, table in enumerate(stages):
            self._filler()
            self._note(("stage",), ("stage", number))
            self.text += self._draw(st.sampled_from(["[[stage]]", "[[ 'stage' ]]", '[["stage"]] # [[stage]]'])) + "\n"
            for key, value in table.items():
                self._filler()
                self._note(("stage", number, key))
                self.text += f"{self._key(key)} = "
                self._value(("stage", number, key), value)
                self.text += self._draw(st.sampled_from(["\n", " # x = 1\n", "\n\n"]))

    def _value(self, path: Path, value: Any) -> None:
        if isinstance(value, bool):
            self.text += str(value).lower()
        elif isinstance(value, int):
            self.text += str(value)
        elif isinstance(value, str):
            self._string(value)
        elif isinstance(value, list):
            self.text += "["
            for number, inner in enumerate(value):
                self.text += self._draw(st.sampled_from(["", " ", "\n", " # ]\n"]))
                self._note((*path, number))
                self._value((*path, number), inner)
                self.text += ","
            self.text += "]"
        else:
            self.text += "{"
            for number, (key, inner) in enumerate(value.items()):
                self.text += ", " if number else " "
                self._note((*path, key))
                self.text += f"{self._key(key)} = "
                self._value((*path, key), inner)
            self.text += "}"

    def _string(self, value: str) -> None:
        is_literal = "'" not in value and all(char.isprintable() or char in "\t\n" for char in value)
        if self._draw(st.booleans()) and is_literal:
            self.text += f"'''\n{value}'''"
        elif self._draw(st.booleans()):
            # A backslash at the end of a line would take the blanks behind it along.
            start = "\n" if value[:1].isspace() or self._draw(st.booleans()) else "\\\n"
            self.text += f'"""{start}{"".join(char if char == NEWLINE else _escaped(char) for char in value)}"""'
        else:
            self.text += f'"{_escaped(value)}"'

    def _key(self, key: str) -> str:
        is_bare = bool(key) and key.isascii() and key.isalnum()
        return key if is_bare and self._draw(st.booleans()) else f'"{_escaped(key)}"'

    def _filler(self) -> None:
        self.text += self._draw(st.sampled_from(["", "\n", "# use = 'x'\n", " \t", "\n  # '''\n"]))

    def _note(self, *paths: Path) -> None:
        for path in paths:
            self.lines.setdefault(path, self.text.count("\n") + 1)


def _escaped(text: str) -> str:
    parts = []
    for char in text:
        if char == "\n":
            parts.append("\\n")
        elif char in '"\\':
            parts.append("\\" + char)
        else:
            parts.append(char if char.isprintable() else f"\\U{ord(char):08x}")
    return "".join(parts)


@st.composite
def documents(draw: st.DrawFn) -> tuple[list[dict[str, Any]], str, dict[Path, int]]:
    """What a file means, its text, and the line of each of its keys."""
    stages = draw(st.lists(st.dictionaries(KEYS, VALUES, max_size=4), min_size=1, max_size=3))
    writer = _Writer(draw)
    writer.document(stages)
    return stages, writer.text, writer.lines


@settings(max_examples=300, deadline=None)
@given(documents())
def test_any_file_has_the_line_of_each_of_its_keys(document: tuple[list[dict[str, Any]], str, dict[Path, int]]) -> None:
    """Whatever is written, in whichever notation, each key is found on the line where it was written."""
    stages, text, lines = document
    assert tomllib.loads(text) == {"stage": stages}
    assert key_lines(text) == lines
