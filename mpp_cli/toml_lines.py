"""Where a TOML file's keys stand. ``tomllib`` gives values without lines, and an error without a line is a search.

The scanner reads only text that ``tomllib`` has accepted, so it needs no errors of its own.
"""

from __future__ import annotations

from typing import Final

#: A key's place in the parsed file: names of tables, and numbers of elements of arrays.
Path = tuple[str | int, ...]

_BARE_KEY_ENDS: Final = frozenset(" \t.=]\r\n")
_SPACES: Final = frozenset(" \t")
_BLANKS: Final = frozenset(" \t\r\n")
_SCALAR_ENDS: Final = frozenset(",]}#\r\n")
_ESCAPES: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\", "e": "\x1b"}
_HEX_DIGITS: Final = {"x": 2, "u": 4, "U": 8}


def key_lines(text: str) -> dict[Path, int]:
    """Map each key, table and element of an array in valid TOML to its line; the first line is 1.

    ``[[stage]]`` gives ``("stage", 0)``, ``("stage", 1)``, … and a key below it ``("stage", 0, "level")``.
    """
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted_at = 0
        self._line = 1
        self._lines: dict[Path, int] = {}
        self._array_lengths: dict[Path, int] = {}

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip_blank():
            if self._peek() == "[":
                table = self._header()
            else:
                self._key_value(table)
        return self._lines

    def _header(self) -> Path:
        line = self._line_here()
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        path = self._last_elements(self._key())
        self._at += 2 if is_array else 1
        if is_array:
            number = self._array_lengths.get(path, 0)
            self._array_lengths[path] = number + 1
            self._note(path, line)
            path = (*path, number)
        self._note(path, line)
        return path

    def _last_elements(self, key: list[str]) -> Path:
        """The place a header's key names: below an array of tables it means the array's last table."""
        path: Path = ()
        for name in key[:-1]:
            path = (*path, name)
            if path in self._array_lengths:
                path = (*path, self._array_lengths[path] - 1)
        path = (*path, key[-1])
        return path

    def _key_value(self, table: Path) -> None:
        line = self._line_here()
        path = table
        for name in self._key():
            path = (*path, name)
            self._note(path, line)
        self._at += 1  # the equals sign
        self._value(path)

    def _key(self) -> list[str]:
        """Read a dotted key; stands behind it and its blanks afterwards."""
        names = []
        while True:
            self._skip_spaces()
            names.append(self._string() if self._peek() in "\"'" else self._bare_key())
            self._skip_spaces()
            if self._peek() != ".":
                return names
            self._at += 1

    def _bare_key(self) -> str:
        start = self._at
        while self._peek() not in _BARE_KEY_ENDS:
            self._at += 1
        return self._text[start : self._at]

    def _value(self, path: Path) -> None:
        self._skip_spaces()
        first = self._peek()
        if first in "\"'":
            self._string()
        elif first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            while self._at < len(self._text) and self._peek() not in _SCALAR_ENDS:
                self._at += 1

    def _array(self, path: Path) -> None:
        self._at += 1
        number = 0
        while self._skip_blank() and self._peek() != "]":
            if self._peek() == ",":
                self._at += 1
                continue
            self._note((*path, number), self._line_here())
            self._value((*path, number))
            number += 1
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._skip_blank() and self._peek() != "}":
            if self._peek() == ",":
                self._at += 1
                continue
            self._key_value(path)
        self._at += 1

    def _string(self) -> str:
        """Read a string of any of the four kinds and give its text."""
        quote = self._peek()
        if self._text.startswith(quote * 3, self._at):
            return self._multi_line_string(quote)
        self._at += 1
        parts = []
        while (char := self._peek()) != quote:
            if char == "\\" and quote == '"':
                parts.append(self._escape())
            else:
                parts.append(char)
                self._at += 1
        self._at += 1
        return "".join(parts)

    def _multi_line_string(self, quote: str) -> str:
        start = self._at = self._at + 3
        while not self._text.startswith(quote * 3, self._at):
            self._at += 2 if quote == '"' and self._peek() == "\\" else 1
        text = self._text[start : self._at]
        while self._peek() == quote:  # up to two quotes may stand before the closing three
            self._at += 1
        return text

    def _escape(self) -> str:
        kind = self._text[self._at + 1]
        digits = _HEX_DIGITS.get(kind)
        start = self._at + 2
        if digits is None:
            self._at = start
            return _ESCAPES[kind]
        self._at = start + digits
        return chr(int(self._text[start : self._at], 16))

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip_spaces(self) -> None:
        while self._peek() in _SPACES:
            self._at += 1

    def _skip_blank(self) -> bool:
        """Go to the next character that is no blank, line end or comment; say whether there is one."""
        while self._at < len(self._text):
            char = self._peek()
            if char == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif char in _BLANKS:
                self._at += 1
            else:
                return True
        return False

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted_at, self._at)
        self._counted_at = self._at
        return self._line

    def _note(self, path: Path, line: int) -> None:
        self._lines.setdefault(path, line)
