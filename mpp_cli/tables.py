"""Plain text in columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_GAP: Final = "  "


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines in which the columns of all rows stand below each other."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = (_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return list(lines)


def value_words(value: Any) -> str:
    """A value as it would stand in TOML; ``auto`` for an option that was left open."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(value_words, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {value_words(inner)}' for key, inner in value.items())}}}"
    return str(value)
