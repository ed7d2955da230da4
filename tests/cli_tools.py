"""Runs ``mpp`` for real, as users do: a process of its own, with pipes, files or a terminal."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import zstandard

MPP = (sys.executable, "-m", "mpp_cli")
TIMEOUT_S = 60
Running = subprocess.Popen[bytes]
_POLL_S = 0.01
#: What a user's or CI's environment would change.
_UNSET = ("CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM")


def environment(**changes: str) -> dict[str, str]:
    """The environment for a run: the same wherever the tests run."""
    env = {name: value for name, value in os.environ.items() if name not in _UNSET}
    return env | {"TERM": "xterm", "COLUMNS": "100"} | changes


def mpp(
    *args: str | bytes | Path,
    data: bytes | None = b"",
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[bytes]:
    """Run mpp to its end. ``data`` is its standard input; None leaves that to ``options``."""
    if data is not None:
        options["input"] = data
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    command: Sequence[str | bytes | Path] = [*MPP, *args]
    return subprocess.run(command, cwd=cwd, env=env or environment(), timeout=TIMEOUT_S, check=False, **options)


@contextlib.contextmanager
def group_of(
    command: Sequence[str | Path], cwd: Path | None = None, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A running command at the head of a process group of its own; ended with its group in any case."""
    options.setdefault("stderr", subprocess.PIPE)
    process = subprocess.Popen(command, cwd=cwd, env=environment(), start_new_session=True, **options)
    try:
        with process:
            try:
                yield process
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def started(
    *args: str | Path, cwd: Path | None = None, **options: Any
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A running mpp, as :func:`group_of` runs commands."""
    return group_of([*MPP, *args], cwd, **options)


_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_libc = ctypes.CDLL(None)


def without_power_over_files() -> None:
    """A ``preexec_fn``: file modes count in the new program, even if it is root's."""
    if os.geteuid() == 0:
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def lines_of(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """The lines of standard error."""
    return done.stderr.decode().splitlines()


def unpacked(data: bytes) -> bytes:
    """What zstd's own library makes of ``data``; raises if it is not a complete frame."""
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    plain = decompressor.decompress(data)
    assert decompressor.eof, "the frame has no end"
    assert not decompressor.unused_data
    return plain


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Look until ``condition`` holds, for what tells nobody when it happens."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"still not: {what}"
        time.sleep(_POLL_S)
    return found


def descendants(pid: int) -> list[int]:
    """All processes below ``pid``."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def holders_of(descriptor: int, pids: Sequence[int]) -> list[int]:
    """Which of the processes have the file open that ``descriptor`` is here."""
    wanted = os.fstat(descriptor)
    found = []
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                status = link.stat()
                if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
                    found.append(pid)
                    break
    return found


def feed(pipe: IO[bytes], count: int, chunk: bytes) -> None:
    """Write ``count`` chunks; returns when all but a pipe's buffer of them has been read."""
    for _ in range(count):
        pipe.write(chunk)
    pipe.flush()
