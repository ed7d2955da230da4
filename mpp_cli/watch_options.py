"""The options of ``mpp run`` that say what it tells and remembers, as Typer takes them."""

from __future__ import annotations

from typing import Annotated

import typer

# An option with a value that may be left out is none that Typer knows: see lean_typer.
Json = Annotated[
    str | None,
    typer.Option(
        "--json", metavar="[=FILE]", help="Tell the run as JSON lines on standard output, or in a file by --json=FILE."
    ),
]
JournalFile = Annotated[
    str | None, typer.Option("--journal", metavar="FILE", help="Remember in this file what is done, for --resume.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Skip what the journal's earlier runs have done, and do the rest.")
]
Report = Annotated[
    str | None, typer.Option("--report", metavar="FILE.html", help="Write a page about the run when it has ended.")
]
LogFile = Annotated[
    str | None, typer.Option("--log-file", metavar="FILE", help="Append all words, and tracebacks, to this file too.")
]
