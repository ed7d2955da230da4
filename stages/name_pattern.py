"""Names made of a pattern and a file's name, such as ``{stem}.tar.zst``. Pure."""

from __future__ import annotations

import os
import re
from typing import Final

#: What can stand in braces.
FIELDS: Final = ("name", "stem", "suffix")
# Compiled where it is used first, as re keeps it: few runs have such a pattern.
_PART: Final = r"\{\{|\}\}|\{([^{}]*)\}|[{}]"


def check_pattern(option: str, pattern: str) -> str:
    """Give ``pattern`` back; raise ValueError, naming the option, if it is none."""
    if not isinstance(pattern, str) or not pattern or "\0" in pattern:
        raise ValueError(f"{option} must be some text like '{{stem}}.txt', not {pattern!r}")
    for part in re.finditer(_PART, pattern):
        if part[0] in ("{", "}"):
            raise ValueError(f"{option}: a lone '{part[0]}' in {pattern!r}; write '{part[0] * 2}' for one")
        if part[1] is not None and part[1] not in FIELDS:
            known = ", ".join(f"{{{field}}}" for field in FIELDS)
            raise ValueError(f"{option}: '{part[0]}' is no field; there are {known}")
    return pattern


def filled(pattern: str, path: str) -> str:
    """The pattern with its fields filled in from the last part of ``path``.

    ``{name}`` is that part, ``{suffix}`` the last suffix with its dot, or nothing, and ``{stem}`` what stands before
    it; ``{{`` and ``}}`` are braces.
    """
    name = os.path.basename(path)
    stem, suffix = os.path.splitext(name)
    values = {"name": name, "stem": stem, "suffix": suffix}
    return re.sub(_PART, lambda part: part[0][0] if part[1] is None else values[part[1]], pattern)


def fixed_end(pattern: str) -> str:
    """What every name ends with that the pattern gives."""
    end = 0
    for part in re.finditer(_PART, pattern):
        if part[1] is not None:
            end = part.end()
    return filled(pattern[end:], "")


def keeps_apart(pattern: str) -> bool:
    """Whether two names never become one."""
    fields = {part[1] for part in re.finditer(_PART, pattern)}
    return "name" in fields or {"stem", "suffix"} <= fields


def has_fields(pattern: str) -> bool:
    """Whether it gives different names for different files."""
    return any(part[1] is not None for part in re.finditer(_PART, pattern))


__all__ = ["FIELDS", "check_pattern", "filled", "fixed_end", "has_fields", "keeps_apart"]
