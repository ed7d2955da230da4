"""The one place that writes words to standard error."""

from __future__ import annotations

import contextlib
import sys


def tell(text: str) -> None:
    """Print one line on standard error, at once. Nobody listening is no reason to end a run."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
