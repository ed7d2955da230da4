"""Typer commands that start fast."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


class LeanCommand(TyperCommand):
    """A command whose parameters are all flags and texts, taken over as they are.

    Typer 0.29 checks every value, also one that was not given, by pydantic, whose import takes longer than all
    the rest of a small run. What is no text is read by :mod:`.run`.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        # With the help option, which is made only here.
        return _take_values_as_they_are(super().get_params(ctx))


class LeanGroup(TyperGroup):
    """A group of commands that is as fast as they are."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _take_values_as_they_are(super().get_params(ctx))


def _take_values_as_they_are(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if not isinstance(parameter.process_value, _ValueAsItIs):
            parameter.process_value = _ValueAsItIs(parameter)
    return parameters


class _ValueAsItIs:
    """Stands in for a parameter's ``process_value``."""

    def __init__(self, parameter: Any) -> None:
        self._parameter = parameter
        self._checked = parameter.process_value

    def __call__(self, ctx: Any, value: Any) -> Any:
        if self._parameter.required and value in (None, ()):
            return self._checked(ctx, value)  # Typer says what is missing
        callback = self._parameter.callback
        return value if callback is None else callback(ctx, self._parameter, value)
