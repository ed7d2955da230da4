"""Runs programs from outside: their time and memory as /usr/bin/time tells them."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TIME = "/usr/bin/time"
_PEAK = re.compile(r"Maximum resident set size \(kbytes\): (\d+)")


@dataclasses.dataclass(frozen=True)
class Usage:
    """What one run of a program took."""

    seconds: float
    #: Of its largest process: the kernel keeps the maximum of those waited for, not their sum.
    peak_mib: float


def mpp() -> list[str]:
    """The command line of the mpp that belongs to this interpreter."""
    return [str(Path(sys.executable).parent / "mpp")]


def require(program: str) -> str:
    """Its path. Raises FileNotFoundError where it is not installed."""
    path = shutil.which(program)
    if path is None:
        raise FileNotFoundError(f"{program} is not installed")
    return path


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """A temporary folder in tmpfs, so that no disk is measured."""
    with tempfile.TemporaryDirectory(prefix="mpp-bench-", dir="/dev/shm") as name:
        yield Path(name)


def usage(command: list[str], stdin: Path | None = None, stdout: Path | None = None) -> Usage:
    """Run it once under /usr/bin/time -v. Raises CalledProcessError where it fails."""
    with (
        open(stdin or os.devnull, "rb") as source,
        open(stdout or os.devnull, "wb") as target,
        tempfile.NamedTemporaryFile("r", dir="/dev/shm") as told,
    ):
        started = time.perf_counter()
        subprocess.run(
            [_TIME, "-v", "-o", told.name, *command], stdin=source, stdout=target, stderr=subprocess.DEVNULL, check=True
        )
        seconds = time.perf_counter() - started
        peak = _PEAK.search(told.read())
    if peak is None:
        raise RuntimeError(f"{_TIME} -v tells no maximum resident set size; is it GNU time?")
    return Usage(seconds, int(peak[1]) / 1024)


def seconds(command: list[str], stdin: Path | None = None) -> float:
    """Run it once with as little as possible around it."""
    with open(stdin or os.devnull, "rb") as source:
        started = time.perf_counter()
        subprocess.run(
            command, stdin=source, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, close_fds=False
        )
        return time.perf_counter() - started
