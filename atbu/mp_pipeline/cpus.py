"""How many CPUs this process may use: affinity and the cgroup's quota, not the machine's count."""

from __future__ import annotations

import math
import os

_CGROUP_ROOT = "/sys/fs/cgroup"
_OWN_CGROUP = "/proc/self/cgroup"


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
        lines = _text(_OWN_CGROUP).splitlines()
    except OSError:
        return None
    tightest: float | None = None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, read = _CGROUP_ROOT, _quota_v2
        elif "cpu" in controllers.split(","):
            base, read = f"{_CGROUP_ROOT}/cpu", _quota_v1
        else:
            continue
        inside = path.strip("/")
        while True:
            found = read(f"{base}/{inside}")
            if found is not None and (tightest is None or found < tightest):
                tightest = found
            if not inside:
                break
            inside = inside.rpartition("/")[0]
    return tightest


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _quota_v2(folder: str) -> float | None:
    try:
        quota, period = _text(f"{folder}/cpu.max").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: str) -> float | None:
    try:
        quota = int(_text(f"{folder}/cpu.cfs_quota_us"))
        period = int(_text(f"{folder}/cpu.cfs_period_us"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
