"""What the search for inputs finds, and the words for what it does not take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from atbu.mp_pipeline.named_tuple import NamedTuple
from mpp_cli.run_options import STDIN_PATHS

#: Why something is not taken. Few and short: the summary counts by them.
EXISTS: Final = "output exists"
IS_LINK: Final = "symbolic link"
IS_SPECIAL: Final = "no regular file"
IS_OURS: Final = "written by this run"
IS_REPEATED: Final = "listed before"
DONE_BEFORE: Final = "done by an earlier run"


def skipped_words(reasons: Mapping[str, int]) -> str:
    """How many inputs were skipped for which reason, the most frequent first: ``12 (called *.zst already)``."""
    by_count = sorted(reasons.items(), key=lambda pair: -pair[1])
    if len(by_count) == 1:
        return f"{by_count[0][1]} ({by_count[0][0]})"
    return f"{sum(reasons.values())} ({', '.join(f'{count} {reason}' for reason, count in by_count)})"


def is_stdin(name: str) -> bool:
    """Whether an INPUT argument means standard input."""
    return name in STDIN_PATHS


class Folder:
    """What all files of one folder have in common, worked out once. All prefixes end with "/" or are "".

    Attributes:
        shown: What stands before a file's name in messages; as the user named it.
        path: The absolute way to it, as it is opened.
        real: The same without symbolic links: two names of one folder have one.
        inside: Its place below the named folder, for patterns.
        kept: Its place below ``--output-dir``.
        verdict: What the patterns say of it, for the files in it that no pattern matches.
    """

    __slots__ = ("inside", "kept", "path", "real", "shown", "verdict")

    def __init__(self, shown: str, path: str, real: str, inside: str, kept: str, verdict: bool | None) -> None:
        self.shown = shown
        self.path = path
        self.real = real
        self.inside = inside
        self.kept = kept
        self.verdict = verdict

    def child(self, name: str, verdict: bool | None) -> Folder:
        """The folder ``name`` in this one, which is no symbolic link."""
        tail = name + "/"
        return Folder(
            self.shown + tail, self.path + tail, self.real + tail, self.inside + tail, self.kept + tail, verdict
        )


class FoundFile(NamedTuple):
    """An input that is there.

    Attributes:
        folder: Where it stands.
        base: Its name in there.
        status: Its size, times and identity when it was found; None where it is no regular file, but something
            to be opened and read once.
        is_named: Whether the user named it; what was found in a folder may be passed over without an error.
    """

    folder: Folder
    base: str
    status: os.stat_result | None
    is_named: bool

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.folder.shown + self.base

    @property
    def path(self) -> str:
        """The absolute path to open."""
        return self.folder.path + self.base

    @property
    def real(self) -> str:
        """What tells it from every other name: its folder without symbolic links, and its own name."""
        return self.folder.real + self.base


class StandardInput:
    """Standard input as an input, in its place among the others."""


class Refused(NamedTuple):
    """An input that cannot even begin, and why. It counts as failed."""

    name: str
    error: Exception


class Skipped(NamedTuple):
    """An input that is left alone, and why. It counts as skipped.

    Attributes:
        reason: Few words, the same for many files.
        target_path: The output that it would have had, where that is why.
        done: What the source is, where an earlier run has made its output.
    """

    name: str
    reason: str
    source_path: str | None = None
    target_path: str | None = None
    done: os.stat_result | None = None


class NotYet(NamedTuple):
    """The list of names comes from a pipe and is behind: go on with other work until ``descriptor`` is readable.

    Then ask for the next one again.
    """

    descriptor: int
