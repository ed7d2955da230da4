"""The processes that there are, as the kernel tells. Runs in a supervisor, so that it imports next to nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator


def processes() -> Iterator[tuple[int, int, int, int]]:
    """(pid, parent, group, session) of each process that has not ended."""
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The name stands in parentheses and may hold anything.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] not in (b"Z", b"X"):
            yield int(name), int(fields[1]), int(fields[2]), int(fields[3])


def descendants_in_session(root: int) -> list[int]:
    """All below ``root`` in its session, each before what it has started. A daemon has left it, and may stay."""
    children: dict[int, list[int]] = {}
    sessions: dict[int, int] = {}
    for pid, parent, _, session in processes():
        children.setdefault(parent, []).append(pid)
        sessions[pid] = session
    found: list[int] = []
    front = [root]
    while front:
        below = children.get(front.pop(), [])
        front += below
        found.extend(pid for pid in below if sessions[pid] == os.getsid(0))
    return found
