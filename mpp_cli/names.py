"""Names of files in JSON: readable, and lossless where a name is no UTF-8."""

from __future__ import annotations

import base64
import os
from typing import Any


def put_name(record: dict[str, Any], key: str, name: str) -> None:
    """Put a file's name into ``record``.

    Args:
        record: Gets ``key``, and ``key + "_b64"`` with the name's bytes where ``key`` cannot tell them.
        key: What the name is called there.
        name: As :func:`os.fsdecode` gives it.
    """
    if name.isascii():  # nearly all are, and this is asked once or more for each file
        record[key] = name
        return
    raw = os.fsencode(name)
    try:
        record[key] = raw.decode()
    except UnicodeDecodeError:
        record[key] = raw.decode(errors="replace")
        record[f"{key}_b64"] = base64.b64encode(raw).decode("ascii")


def taken_name(record: dict[str, Any], key: str) -> str:
    """The name that :func:`put_name` has put there, as :func:`os.fsdecode` gives it.

    Raises:
        KeyError, TypeError, ValueError: It has none.
    """
    encoded = record.get(f"{key}_b64")
    if encoded is not None:
        return os.fsdecode(base64.b64decode(encoded, validate=True))
    name = record[key]
    if not isinstance(name, str):
        raise TypeError(f"{key} is no text")
    return name if name.isascii() else os.fsdecode(name.encode())
