"""The part of docs/pipelines.md that is made from the code: ``python -m mpp_cli.reference docs/pipelines.md``.

A test compares the two, so that the page cannot drift from the stages.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any, Final

from mpp_stages.builtin import PIPELINES, STAGES

from .listing import example_lines, pipeline_words
from .options import describe_type
from .resolve import find_stage
from .schema import options_of
from .tables import value_words

_BEGIN: Final = "<!-- made by python -m mpp_cli.reference docs/pipelines.md -->"
_END: Final = "<!-- end of what is made -->"


def reference() -> str:
    """The built-in stages with their options, and the ready-made pipelines, in Markdown."""
    parts = ["## The stages", ""]
    for name in sorted(STAGES):
        parts += _stage(name, find_stage(name, ""))
    parts += ["## The ready-made pipelines", "", "| name | stages |", "|---|---|"]
    parts += [f"| `{name}` | `{_cell(pipeline_words(name))}` |" for name in sorted(PIPELINES)]
    return "\n".join(parts)


def updated(page: str) -> str:
    """The page with its made part as the code is now.

    Raises:
        ValueError: The page does not have the two marks.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the page must have {_BEGIN} and behind it {_END}")
    return f"{before}{begin}\n\n{reference()}\n\n{end}{after}"


def _stage(name: str, stage: Any) -> list[str]:
    lines = [f"### {name}", "", " ".join((inspect.getdoc(stage) or "").partition("\n\n")[0].split()), ""]
    options = options_of(stage)
    if options:
        lines += ["| option | what it takes | default | |", "|---|---|---|---|"]
    for option in options:
        default = "must be given" if option.is_required else f"`{_cell(value_words(option.default))}`"
        lines.append(
            f"| `{option.name}` | {_cell(describe_type(option.annotation))} | {default} | {_cell(option.doc)} |"
        )
    return [*lines, *([""] if options else []), "```toml", *example_lines(name, stage), "```", ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> None:
    """Rewrite the pages that are named."""
    for argument in arguments:
        page = Path(argument)
        page.write_text(updated(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
