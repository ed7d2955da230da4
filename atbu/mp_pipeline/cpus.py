"""How many CPUs this process may use: affinity and the cgroup's quota, not the machine's count."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """The number of CPUs this process can keep busy; at least 1."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        allowed = os.cpu_count() or 1
    quota = _cgroup_quota()
    if quota is not None:
        allowed = min(allowed, max(1, math.ceil(quota)))
    return max(1, allowed)


def _cgroup_quota() -> float | None:
    """The tightest CPU quota of this process's cgroup and those above it, in CPUs, or None.

    Source: Documentation/admin-guide/cgroup-v2.rst (cpu.max) and cgroup-v1/cpu (cpu.cfs_quota_us).
    """
    try:
        lines = _OWN_CGROUP.read_text().splitlines()
    except OSError:
        return None
    tightest: float | None = None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, read = _CGROUP_ROOT, _quota_v2
        elif "cpu" in controllers.split(","):
            base, read = _CGROUP_ROOT / "cpu", _quota_v1
        else:
            continue
        folder = base / path.lstrip("/")
        while True:
            found = read(folder)
            if found is not None and (tightest is None or found < tightest):
                tightest = found
            if folder == base or base not in folder.parents:
                break
            folder = folder.parent
    return tightest


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
