"""The options of ``mpp run`` that say which inputs there are and what becomes of their outputs, as Typer takes them."""

from __future__ import annotations

from typing import Annotated

import typer

Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Take the files in folders, and below them.")]
Include = Annotated[
    list[str] | None,
    typer.Option("--include", metavar="GLOB", help="Take only these files; the last --include or --exclude decides."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="GLOB", help="Leave these files or folders out, such as '*.tmp' or 'cache/'."),
]
FilesFrom = Annotated[
    str | None,
    typer.Option("--files-from", metavar="FILE", help="Take more names of inputs from this file, one a line, or '-'."),
]
Null = Annotated[
    bool, typer.Option("--null", "-0", help="Names in --files-from end with a zero byte, as find -print0 writes.")
]
OutputDir = Annotated[
    str | None,
    typer.Option("--output-dir", metavar="DIR", help="Write outputs below this folder, the inputs' folders kept."),
]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Pass over inputs whose output is there.")]
RemoveSource = Annotated[
    bool, typer.Option("--remove-source", help="Remove each input once its output is safe on the disk.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Show what would be done with each input, and do nothing.")
]
