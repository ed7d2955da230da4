"""Sizes as people write them."""

from __future__ import annotations

from typing import Final

_POWERS: Final = "kmgtpe"


def parse_size(text: str) -> int:
    """Read ``40G``, ``1.5 GB``, ``512KiB``, ``1000``: a single letter and ...iB mean powers of 1024, ...B of 1000.

    Raises:
        ValueError: It is no size.
    """
    word = text.strip().lower().replace(" ", "")
    base = 1024
    if word.endswith("ib"):
        word = word[:-2]
        if not word or word[-1] not in _POWERS:
            raise ValueError(_refusal(text))
    elif word.endswith("b"):
        word, base = word[:-1], 1000
    factor = 1
    if word and word[-1] in _POWERS:
        factor = base ** (_POWERS.index(word[-1]) + 1)
        word = word[:-1]
    if not word.replace(".", "", 1).isdecimal() or not word.isascii():
        raise ValueError(_refusal(text))
    return int(float(word) * factor) if "." in word else int(word) * factor


def memory_words(size: int) -> str:
    """An amount of memory, roughly: ``85 MiB``, ``1.5 GiB``."""
    if size < 1 << 20:
        return f"{max(1, round(size / (1 << 10)))} KiB"
    return f"{round(size / (1 << 20))} MiB" if size < 1 << 30 else f"{size / (1 << 30):.1f} GiB"


def _refusal(text: str) -> str:
    return f"'{text}' is not a size such as 40G, 1.5GB or 512MiB"
