"""The short way from a command line to a run: ``mpp run`` with nothing unusual in it, read without Typer.

    mpp run zstd < in > out ──▶ read_run_line ──▶ RunOptions ──▶ run
    anything else, help, whatever is wrong ──▶ None ──▶ Typer

To load Typer and to build its commands takes 35 ms, a third of what a small run took. So this reads what Typer would
accept, and gives up at the first thing that it is not sure of: Typer then reads the whole line and words every error.
A test holds the tables to Typer's options, and what is read to what Typer reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from .run_options import JSON_TO_STDOUT, make_options

if TYPE_CHECKING:
    from .stdio import Stdio

#: Options without a value: the parameter, and what it becomes.
FLAGS: Final[dict[str, tuple[str, bool]]] = {
    "--force": ("force", True),
    "-f": ("force", True),
    "--recursive": ("recursive", True),
    "-r": ("recursive", True),
    "--null": ("null", True),
    "-0": ("null", True),
    "--skip-existing": ("skip_existing", True),
    "--remove-source": ("remove_source", True),
    "--dry-run": ("dry_run", True),
    "-n": ("dry_run", True),
    "--from-command": ("from_command", True),
    "--keep-order": ("keep_order", True),
    "-k": ("keep_order", True),
    "--fail-fast": ("fail_fast", True),
    "--keep-going": ("fail_fast", False),
    "--quiet": ("quiet", True),
    "-q": ("quiet", True),
    "--verbose": ("verbose", True),
    "-v": ("verbose", True),
    "--resume": ("resume", True),
}
#: Options with a value: the parameter.
TEXTS: Final[dict[str, str]] = {
    "--output": "output",
    "-o": "output",
    "--files-from": "files_from",
    "--output-dir": "output_dir",
    "--ok-status": "ok_status",
    "--app-dir": "app_dir",
    "--jobs": "jobs",
    "-j": "jobs",
    "--retries": "retries",
    "--timeout": "timeout",
    "--max-memory": "max_memory",
    "--progress": "progress",
    "--size-hint": "size_hint",
    "--checksums": "checksums",
    "--json": "json",
    "--journal": "journal",
    "--report": "report",
    "--log-file": "log_file",
}
#: Options with a value that may be repeated.
LISTS: Final[dict[str, str]] = {"--include": "include", "--exclude": "exclude", "--set": "settings"}
_PATTERNS: Final = ("include", "exclude")
#: Its value may be left out, and it stands behind "=" or is none.
_JSON: Final = "--json"

Values = dict[str, Any]
Patterns = list[tuple[str, str]]


class _Unsure(Exception):
    """Typer is to read it."""


def run_plain_line(args: Sequence[str], stdio: Stdio) -> int | None:
    """Do the run that ``args`` ask for and return the exit status; None where Typer has to read them."""
    read = read_run_line(args)
    if read is None or needs_help(read[0], stdio):
        return None
    from .telling_errors import told

    return told(lambda: _run(*read, stdio))


def _run(values: Values, patterns: Patterns, stdio: Stdio) -> int:
    from .early_template import early_template

    options = make_options(values, patterns)
    with early_template(options, stdio) as template:
        from .run import run  # while the template imports what it needs

        return run(options, stdio, template)


def needs_help(values: Values, stdio: Stdio) -> bool:
    """Whether nothing says what to read, and a person sits at standard input."""
    has_source = values.get("inputs") or values.get("files_from") is not None or values.get("from_command")
    return not has_source and values.get("ok_status") is None and not stdio.in_was_closed and os.isatty(0)


def read_run_line(args: Sequence[str]) -> tuple[Values, Patterns] | None:
    """The parameters of ``mpp run`` that are given, and its patterns in their order; None for what is not plain."""
    if args[:1] != ["run"] or "_MPP_COMPLETE" in os.environ:
        return None
    values: Values = {}
    patterns: Patterns = []
    names: list[str] = []
    rest = iter(args[1:])
    try:
        for arg in rest:
            if arg == "--":
                names.extend(rest)
            elif not arg.startswith("-") or arg == "-":
                names.append(arg)
            elif arg.startswith("--"):
                _read_long(arg, rest, values, patterns)
            else:
                _read_short(arg, rest, values)
    except _Unsure:
        return None
    if not names or not names[0]:
        return None
    values["pipeline"], *values["inputs"] = names
    return values, patterns


def _read_long(arg: str, rest: Iterator[str], values: Values, patterns: Patterns) -> None:
    option, equals, value = arg.partition("=")
    if option in FLAGS and not equals:
        name, values[name] = FLAGS[option]
    elif option in TEXTS:
        if option == _JSON and not equals:
            value = JSON_TO_STDOUT
        values[TEXTS[option]] = _value(value) if equals or value else _next(rest)
    elif option in LISTS:
        name, value = LISTS[option], _value(value) if equals else _next(rest)
        if name in _PATTERNS:
            patterns.append((name, value))
        values.setdefault(name, []).append(value)
    else:
        raise _Unsure


def _read_short(arg: str, rest: Iterator[str], values: Values) -> None:
    """``-q``, ``-qf``, ``-o FILE``, ``-oFILE``, ``-qo FILE``."""
    for number, letter in enumerate(arg[1:], 2):
        option = "-" + letter
        if option in FLAGS:
            name, values[name] = FLAGS[option]
        elif option in TEXTS:
            values[TEXTS[option]] = _value(arg[number:]) if arg[number:] else _next(rest)
            return
        else:
            raise _Unsure


def _next(rest: Iterator[str]) -> str:
    return _value(next(rest, ""))


def _value(text: str) -> str:
    if not text or (text.startswith("-") and text != "-"):
        raise _Unsure  # forgotten, or meant for an option
    return text
