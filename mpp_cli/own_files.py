"""Files that a run writes beside its outputs (journal, report, ...): none may be an input or an output as well.

Looked at before the first of them is opened, for that alone would cut an input short.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mpp_stages.endpoints import follow_links

from .errors import UsageProblem, shown
from .inputs.found import is_stdin
from .jobs import is_stdout

if TYPE_CHECKING:
    from .run_options import RunOptions

_JOURNAL = "--journal"


def own_paths(options: RunOptions) -> dict[str, str]:
    """The real paths of these files, and the options that name them.

    Raises:
        UsageProblem: One of them is an input, the output, or something else that the command line names.
    """
    paths = {os.path.realpath(name): option for option, name in _named(options)}
    if not paths:
        return paths
    output = options.output
    if output is not None and not is_stdout(output):
        try:
            option: str | None = paths.get(follow_links(os.path.abspath(output)))
        except OSError:
            option = None  # whoever opens it says so
        if option is not None:
            raise UsageProblem(f"mpp: {option} and -o cannot write one file, '{shown(output)}'")
    _refuse_inputs(options, paths)
    return paths


def _refuse_inputs(options: RunOptions, paths: dict[str, str]) -> None:
    found: dict[tuple[int, int], str] = {}
    for path, option in paths.items():
        # What is no journal is never touched by --journal; and one that a "*" has named costs that file alone.
        if option != _JOURNAL and (identity := _identity(path)) is not None:
            found[identity] = option
    if not found:
        return
    read = [("an input", name) for name in options.inputs if not is_stdin(name)]
    read.append(("the pipeline", options.pipeline))
    if options.files_from is not None and options.files_from != "-":
        read.append(("the list of --files-from", options.files_from))
    for what, name in read:
        identity = _identity(name)
        if identity is not None and identity in found:
            own = found[identity]
            raise UsageProblem(f"mpp: {own}: '{shown(name)}' is {what}, and would be overwritten: name another file")


def _named(options: RunOptions) -> Iterator[tuple[str, str]]:
    watch = options.watch
    for option, name in (
        ("--json", watch.json),
        (_JOURNAL, watch.journal),
        ("--report", watch.report),
        ("--log-file", watch.log_file),
        ("--checksums", options.checksums),
    ):
        if name and not is_stdout(name) and not name.startswith("/dev/"):
            yield option, name


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # the latter for a pipeline's text with a zero byte in it
        return None
    return status.st_dev, status.st_ino
