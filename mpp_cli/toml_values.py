"""Single values in the notation of TOML, as they stand in inline pipelines and behind ``--set key=``."""

from __future__ import annotations

from typing import Any

from .options import fits


def toml_value(text: str) -> Any:
    """The value that ``text`` is in TOML.

    Raises:
        ValueError: It is none.
    """
    import tomllib  # costs 5 ms; a ready-made pipeline does without

    try:
        document = tomllib.loads(f"value = {text}")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if list(document) != ["value"]:
        raise ValueError("more than one value")
    return document["value"]


def word_value(word: str, hint: Any) -> Any:
    """What a bare word is where a value of type ``hint`` is wanted: a value of TOML if it can be, else text.

    ``9`` is a number for an option that takes one, and text for an option that takes text.
    """
    text = str(word)
    try:
        value = toml_value(text)
    except ValueError:
        return text
    return text if not fits(value, hint) and fits(text, hint) else value
