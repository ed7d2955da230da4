"""Checks of option values; a wrong one is a ValueError that names the option."""

from __future__ import annotations

from typing import Any, Final

from atbu.mp_pipeline.named_tuple import NamedTuple

_MAX_SHOWN: Final = 10**20


class Between(NamedTuple):
    """Stands in an option's annotation and says its range: ``level: Annotated[int, Between(1, 22)]``.

    What is shown of a stage and the schema for editors have the range from here, and a definition is checked
    against it. Its class still checks what Python code gives it, with :func:`check_whole_number`.
    """

    low: int
    high: int

    def problem(self, option: str, value: Any) -> str | None:
        """What is wrong with a number that is too small or too large."""
        if self.low <= value <= self.high:
            return None
        # Python refuses to write out a number of thousands of digits.
        found = "" if abs(value) > _MAX_SHOWN else f", not {value}"
        return f"{option} must be between {self.low} and {self.high}{found}"


def check_whole_number(option: str, value: Any, low: int, high: int) -> int:
    """Give ``value`` back if it is a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{option} must be a whole number, not {value!r}")
    problem = Between(low, high).problem(option, value)
    if problem is not None:
        raise ValueError(problem)
    return value


def check_flag(option: str, value: Any) -> bool:
    """Give ``value`` back if it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{option} must be true or false, not {value!r}")
    return value


__all__ = ["Between", "check_flag", "check_whole_number"]
