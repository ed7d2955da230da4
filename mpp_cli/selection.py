"""What the command line says of inputs and outputs, held against itself before anything is looked at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import UsageProblem, shown
from .inputs.finder import Search
from .inputs.found import is_stdin
from .jobs import is_stdout

if TYPE_CHECKING:
    from .inputs.patterns import PathFilter
    from .run_options import RunOptions


def search_of(options: RunOptions, goes_to_stdout: bool) -> Search:
    """What to look for.

    Raises:
        UsageProblem: A pattern has no meaning.
    """
    return Search(
        inputs=options.inputs,
        recursive=_may_be_tree(options),
        files_from=options.files_from,
        is_null_separated=options.null,
        path_filter=_path_filter(options.patterns),
        in_order=goes_to_stdout or options.keep_order,
    )


def goes_to_stdout(options: RunOptions) -> bool:
    """Whether data goes to standard output.

    Raises:
        UsageProblem: The options contradict each other or the inputs.
    """
    _refuse_contradictions(options)
    has_stdin = any(is_stdin(name) for name in options.inputs)
    is_open_ended = _may_be_tree(options) or options.files_from is not None
    if options.output is not None:
        if is_stdout(options.output):
            return True
        if len(options.inputs) > 1 or is_open_ended:
            several = (
                f"{len(options.inputs)} inputs" if len(options.inputs) > 1 and not is_open_ended else "many inputs"
            )
            raise UsageProblem(
                f"mpp: {several} cannot go to one file '{shown(options.output)}'; "
                "leave out -o, or write -o - for all of them one after another"
            )
        return False
    if has_stdin:
        if options.output_dir is not None and len(options.inputs) == 1 and options.files_from is None:
            what = "standard input" if options.command is None else f"the output of '{shown(options.command.name)}'"
            raise UsageProblem(f"mpp: --output-dir: {what} has no name to be kept there; give -o FILE instead")
        if len(options.inputs) > 1 or options.files_from is not None or options.output_dir is not None:
            raise UsageProblem("mpp: standard input among several inputs has no name for its output; give -o -")
        return True
    return False


def _may_be_tree(options: RunOptions) -> bool:
    """Whether there is a folder to be entered, or a list that may name one."""
    return options.recursive and (options.files_from is not None or any(map(os.path.isdir, options.inputs)))


def _refuse_contradictions(options: RunOptions) -> None:
    has_stdin = any(is_stdin(name) for name in options.inputs)
    is_to_stdout = options.output is not None and is_stdout(options.output)
    contradictions = (
        (options.null and options.files_from is None, "--null says how --files-from is separated: give that too"),
        (options.output is not None and options.output_dir is not None, "-o and --output-dir exclude each other"),
        (options.force and options.skip_existing, "--force and --skip-existing exclude each other"),
        (
            options.files_from == "-" and has_stdin,
            "standard input is the list of inputs and cannot be an input too",
        ),
        (
            options.remove_source and (has_stdin or is_to_stdout),
            "--remove-source is for files that become files, not for standard input or output",
        ),
        (options.skip_existing and (has_stdin or is_to_stdout), "--skip-existing is for outputs in files"),
    )
    for holds, words in contradictions:
        if holds:
            raise UsageProblem(f"mpp: {words}")
    for option, value in (("--output-dir", options.output_dir), ("--files-from", options.files_from)):
        if value == "":
            raise UsageProblem(f"mpp: {option}: an empty name is no name")
    if options.files_from not in (None, "-") and (problem := _why_no_list(str(options.files_from))):
        raise UsageProblem(f"mpp: --files-from: '{shown(str(options.files_from))}' {problem}")
    if options.output_dir is not None and os.path.exists(options.output_dir) and not os.path.isdir(options.output_dir):
        raise UsageProblem(f"mpp: --output-dir: '{shown(options.output_dir)}' is no folder")


def _why_no_list(path: str) -> str:
    if os.path.isdir(path):
        return "is a folder, not a list of names (name it as an input, with --recursive)"
    return "" if os.path.exists(path) else "is not there"


def _path_filter(patterns: Sequence[tuple[str, str]]) -> PathFilter | None:
    if not patterns:
        return None
    from .inputs.patterns import PathFilter, Pattern, PatternError  # few runs have any

    made = []
    for option, text in patterns:
        try:
            made.append(Pattern(text, takes=option == "include"))
        except PatternError as ex:
            raise UsageProblem(f"mpp: --{option}: '{shown(text)}': {ex}") from ex
    return PathFilter(made)
