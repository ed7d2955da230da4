"""Options that name something: a path that is relative to the definition, a Python object to load."""

from __future__ import annotations

import os
from typing import Any

from .errors import shown
from .resolve import ResolveProblem, load_object, split_reference


class OptionProblem(Exception):
    """What an option names cannot be had; the words say why."""


def located(factory: Any, name: str, value: Any, folder: str) -> Any:
    """An option's value with what it names found, as the stage's class says: from ``folder`` on.

    Raises:
        OptionProblem: An object cannot be loaded.
    """
    if not isinstance(value, str):
        return value
    if name in getattr(factory, "path_options", ()):
        return os.path.join(folder, value)
    if name in getattr(factory, "pattern_options", ()):
        return os.path.join(folder.replace("{", "{{").replace("}", "}}"), value)
    return _load(name, value, folder) if name in getattr(factory, "object_options", ()) else value


def _load(option: str, value: str, folder: str) -> Any:
    reference = split_reference(value)
    if reference is None:
        raise OptionProblem(f"'{option}' must be 'module:object' or './file.py:object', not '{shown(value)}'")
    try:
        return load_object(*reference, folder)
    except ResolveProblem as ex:
        raise OptionProblem(f"'{option}': {ex}") from ex
