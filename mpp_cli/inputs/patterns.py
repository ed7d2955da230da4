"""Patterns of ``--include`` and ``--exclude``: what they match, and which of several decides. Pure.

The rules are gitignore's: the last pattern that matches decides; what no pattern matches goes with its folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .found import Folder

#: Everything but a slash; newlines too.
_ANY_CHAR: Final = "[^/]"


class PatternError(ValueError):
    """A pattern that has no meaning."""


class Pattern:
    """One pattern.

    - ``*`` and ``?`` match anything but ``/``, ``[a-z]`` and ``[!a-z]`` one character; after ``\\`` one stands for
      itself.
    - With a ``/`` at the beginning or within, it is matched from the named folder down; else at any depth.
    - ``**/`` at the beginning and ``/**/`` within match any number of folders, ``/**`` at the end all that is inside.
    - With a ``/`` at the end it matches folders only.

    Args:
        text: As the user gave it.
        takes: Whether what it matches is taken, or left out.

    Raises:
        PatternError: It is empty, or a bracket or ``\\`` in it has no end.
    """

    __slots__ = ("_match", "is_for_folders", "is_of_path", "takes")

    def __init__(self, text: str, takes: bool) -> None:
        self.takes = takes
        body = text[:-1] if text.endswith("/") and not text.endswith("\\/") else text
        self.is_for_folders = body != text
        self.is_of_path = "/" in body
        body = body.removeprefix("/")
        if not body:
            raise PatternError("a pattern needs at least one character other than '/'")
        self._match = re.compile(_regex(body) if self.is_of_path else _regex_of_part(body), re.DOTALL).fullmatch

    def matches(self, base: str, inside: str, is_folder: bool) -> bool:
        """Whether it matches what is called ``base`` in the folder at ``inside``."""
        if self.is_for_folders and not is_folder:
            return False
        return self._match(inside + base if self.is_of_path else base) is not None


class PathFilter:
    """All patterns of a run, in the order of the command line.

    A file that no pattern matches goes with its folder: it is taken where the folder was taken by a pattern. Where
    nothing decides, it is taken if no pattern takes anything, that is, without an ``--include``. A folder is
    entered unless the last pattern that matches it leaves it out; nothing in it can be taken then.
    """

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self._last_first = list(patterns)[::-1]
        self._takes_the_rest = not any(pattern.takes for pattern in self._last_first)

    def verdict(self, base: str, inside: str, is_folder: bool) -> bool | None:
        """What the last pattern that matches says; None where none does."""
        for pattern in self._last_first:
            if pattern.matches(base, inside, is_folder):
                return pattern.takes
        return None

    def takes_file(self, folder: Folder, base: str) -> bool:
        """Whether a file is taken."""
        verdict = self.verdict(base, folder.inside, is_folder=False)
        if verdict is None:
            verdict = folder.verdict
        return self._takes_the_rest if verdict is None else verdict

    def verdict_of_folder(self, inside: str) -> bool | None:
        """What the patterns say of the folder at ``inside``, with the folders above it; False leaves it out."""
        verdict: bool | None = None
        above = ""
        for part in inside.split("/"):
            if part:
                own = self.verdict(part, above, is_folder=True)
                if own is False:
                    return False
                verdict = verdict if own is None else own
                above += part + "/"
        return verdict


def _regex(pattern: str) -> str:
    """For the whole path of something, which has slashes between its parts and none at its ends."""
    parts = pattern.split("/")
    last = len(parts) - 1
    regex = ""
    for number, part in enumerate(parts):
        is_any_depth = len(part) > 1 and not part.strip("*")
        if is_any_depth:
            regex += ".+" if number == last else "(?:.+/)?"
        else:
            regex += _regex_of_part(part) + ("" if number == last else "/")
    return regex


def _regex_of_part(part: str) -> str:
    regex, position = "", 0
    while position < len(part):
        char = part[position]
        position += 1
        if char == "*":
            if not regex.endswith(_ANY_CHAR + "*"):
                regex += _ANY_CHAR + "*"
        elif char == "?":
            regex += _ANY_CHAR
        elif char == "[":
            bracket, position = _bracket(part, position)
            regex += bracket
        else:
            if char == "\\":
                if position == len(part):
                    raise PatternError("there is nothing after the last '\\'")
                char = part[position]
                position += 1
            regex += re.escape(char)
    return regex


def _bracket(part: str, start: int) -> tuple[str, int]:
    """The regular expression of a bracket whose inside begins at ``start``, and where it ends."""
    position = start
    is_negated = part[position : position + 1] in ("!", "^")
    position += is_negated
    first = position
    members = ""
    while position < len(part) and (part[position] != "]" or position == first):
        if part.startswith("[:", position):
            raise PatternError("'[:' in a bracket is not supported: write the range out, such as [0-9]")
        low, position = _member(part, position)
        if part[position : position + 1] == "-" and part[position + 1 : position + 2] not in ("", "]"):
            high, position = _member(part, position + 1)
            members += f"{re.escape(low)}-{re.escape(high)}" if low <= high else ""
        else:
            members += re.escape(low)
    if position >= len(part):
        raise PatternError("a '[' has no ']' (write \\[ for the character itself)")
    if is_negated:
        return (f"[^/{members}]" if members else _ANY_CHAR), position + 1
    return (f"(?!/)[{members}]" if members else "(?!)"), position + 1


def _member(part: str, position: int) -> tuple[str, int]:
    if part[position] == "\\" and position + 1 < len(part):
        position += 1
    return part[position], position + 1
