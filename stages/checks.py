"""Checks of option values; a wrong one is a ValueError that names the option."""

from __future__ import annotations

from typing import Any


def check_whole_number(option: str, value: Any, low: int, high: int) -> int:
    """Give ``value`` back if it is a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{option} must be a whole number, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{option} must be between {low} and {high}, not {value}")
    return value


def check_flag(option: str, value: Any) -> bool:
    """Give ``value`` back if it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{option} must be true or false, not {value!r}")
    return value


__all__ = ["check_flag", "check_whole_number"]
