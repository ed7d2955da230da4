"""A pipeline as one text: ``zstd level=9 | sha256 | write``. It becomes the same document as a TOML file.

The grammar, in which blanks and line ends are the same::

    pipeline = stage *( "|" stage )
    stage    = use *( key "=" value )
    use      = a word, or a string as in TOML
    value    = a string, array or inline table as in TOML, or a word

A word ends at a blank or a bar, and has no quote in it. The option that takes it decides whether it is a number,
``true`` or text.
"""

from __future__ import annotations

import os
import re
from typing import Any, Final

from .document import Document, Path, Step, Word, label_of
from .faults import Fault, Place
from .toml_values import toml_value

_BLANKS: Final = re.compile(r"\s*")
_WORD: Final = re.compile(r"[^\s|\"']+")
_KEY: Final = re.compile(r"([^\s|\"'=]+)=")
_STRING: Final = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL)
_OPENERS: Final = {"[": "]", "{": "}"}
#: How much of a long text stands in for it as the pipeline's name.
_NAME_CHARS: Final = 60


def is_inline(text: str) -> bool:
    """Whether a PIPELINE argument is a pipeline itself, and not the name of one. No file is looked at."""
    return "|" in text or re.search(r"\s[^\s|\"'=/]+=", text) is not None


def read_inline(text: str, source: str = "pipeline") -> Document:
    """Take the text apart. What is wrong with its form is among the document's faults."""
    name = " ".join(text.split())
    short = name if len(name) <= _NAME_CHARS else f"{name[:_NAME_CHARS]}..."
    document = Document(short, "the command line", Place(source, 1, 1), os.getcwd())
    _Reader(text, source, document).read()
    return document


class _Malformed(Exception):
    """What follows cannot be told apart any more."""


class _Reader:
    def __init__(self, text: str, source: str, document: Document) -> None:
        self._text = text
        self._at = 0
        self._source = source
        self._document = document

    def read(self) -> None:
        try:
            while True:
                self._stage()
                if not self._peek():
                    return
                self._at += 1  # the bar
        except _Malformed:
            return

    def _stage(self) -> None:
        self._skip_blanks()
        place = self._place()
        if self._peek() in ("", "|"):
            self._fault(place, "missing", "there is no stage here" if self._text.strip() else "the pipeline is empty")
            return
        table: dict[str, Any] = {}
        places: dict[Path, Place] = {("use",): place}
        self._document.steps.append(Step(table, place, places))
        table["use"] = str(self._value(place, is_use=True))
        while self._skip_blanks() and self._peek() != "|":
            place = self._place()
            label = label_of(len(self._document.steps), table)
            key = _KEY.match(self._text, self._at)
            if key is None:
                start, word = self._at, self._value(place, is_use=True)
                written = self._text[start : self._at] if not isinstance(word, str) else word
                hint = "options are written key=value, and a bar | stands between stages"
                self._fault(place, "syntax", f"'{written}' is no option; {hint}", label)
                continue
            self._at = key.end()
            value = self._value(place, is_use=False)
            if key[1] in table:
                self._fault(place, "syntax", f"'{key[1]}' is given twice", label)
            else:
                table[key[1]], places[(key[1],)] = value, place

    def _value(self, place: Place, is_use: bool) -> Any:
        """Read a value of TOML or a word, up to the blank or bar behind it."""
        first = self._peek()
        start = self._at
        if first in ("", "|") or first.isspace():
            return Word("")
        if first in "\"'" or (first in _OPENERS and not is_use):
            self._at = self._end_of_value(place)
            written = self._text[start : self._at]
            try:
                value = toml_value(written)
            except ValueError as ex:
                hint = f'; a text is written "{written}"' if first == "{" and '"' not in written else ""
                self._fault(place, "syntax", f"{written} is no value of TOML: {str(ex).partition(' (at ')[0]}{hint}")
                value = Word(written)
        else:
            word = _WORD.match(self._text, self._at)
            self._at = start if word is None else word.end()
            value = Word(self._text[start : self._at])
        if self._peek() not in ("", "|") and not self._peek().isspace():
            words = f"a quote inside a word, or a word right behind a value, at '{self._text[start : self._at + 1]}'"
            self._fault(place, "syntax", f"{words}; put the whole value in quotes")
            raise _Malformed
        return value

    def _end_of_value(self, place: Place) -> int:
        """Where the string, array or table that begins here ends."""
        closers: list[str] = []
        at = self._at
        while at < len(self._text):
            char = self._text[at]
            if char in "\"'":
                string = _STRING.match(self._text, at)
                if string is None:
                    break
                at = string.end()
            else:
                if char in _OPENERS:
                    closers.append(_OPENERS[char])
                elif closers and char == closers[-1]:
                    closers.pop()
                at += 1
            if not closers:
                return at
        self._fault(place, "syntax", f"{self._text[self._at]} is not closed")
        raise _Malformed

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip_blanks(self) -> bool:
        """Go to the next character that is none; say whether there is one."""
        blanks = _BLANKS.match(self._text, self._at)
        self._at = self._at if blanks is None else blanks.end()
        return self._at < len(self._text)

    def _place(self) -> Place:
        before = self._text[: self._at]
        return Place(self._source, before.count("\n") + 1, self._at - (before.rfind("\n") + 1) + 1)

    def _fault(self, place: Place, kind: str, words: str, stage: str | None = None) -> None:
        self._document.faults.append(Fault(place, kind, words, stage))
