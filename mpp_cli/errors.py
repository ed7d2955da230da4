"""What goes wrong before a run starts, and the words for it."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from typing import Final

from . import exit_codes

#: What is wrong with the machine at the moment, and not with the words of the command line.
_OF_THE_MACHINE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EFBIG)


class UsageProblem(Exception):
    """The command line or a definition is wrong: exit 2.

    Args:
        lines: One line for each fault, ready to be shown.
    """

    exit_status = exit_codes.USAGE

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines: Sequence[str] = lines


class FileProblem(UsageProblem):
    """A file that an option names cannot be had: exit 2, or 1 where another name would not help (a full disk).

    Args:
        option: As on the command line.
        path: As the user named it.
        error: Why.
        hint: Put behind it.
    """

    def __init__(self, option: str, path: str, error: OSError, hint: str = "") -> None:
        super().__init__(f"mpp: {option}: '{shown(path)}': {error.strerror}{hint}")
        if error.errno in _OF_THE_MACHINE:
            self.exit_status = exit_codes.FAILED


def nearest(wrong: str, known: Iterable[str], likeness: float = 0.5) -> str:
    """Give `` (did you mean 'x'?)`` for the known name nearest to ``wrong``, or nothing if none is as like as that."""
    import difflib  # costs 3 ms and is needed only where something is wrong

    found = difflib.get_close_matches(wrong, list(known), n=1, cutoff=likeness)
    return f" (did you mean '{found[0]}'?)" if found else ""


def listed(names: Iterable[str]) -> str:
    """Join names for a sentence."""
    return ", ".join(sorted(names))


def one_line(text: str) -> str:
    """Make any text fit one line of a terminal: what is not printable is escaped, line ends become blanks."""
    flat = " ".join(part for part in (line.strip() for line in text.splitlines()) if part)
    return flat if flat.isprintable() else "".join(_escaped(char) for char in flat)


def shown(name: str) -> str:
    """A file's name for a message, one line whatever bytes it has."""
    return name if name.isprintable() else "".join(_escaped(char) for char in name)


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as os.fsdecode hands it over
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
