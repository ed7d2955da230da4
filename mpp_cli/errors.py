"""What goes wrong before a run starts, and the words for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class UsageProblem(Exception):
    """The command line or a definition is wrong: exit 2.

    Args:
        lines: One line for each fault, ready to be shown.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines: Sequence[str] = lines


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
