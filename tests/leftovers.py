"""Finds what a test has left: processes, threads, descriptors, temporary files."""

from __future__ import annotations

import functools
import gc
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

PRIVATE_TMPDIR_VARIABLE = "MPP_TEST_TMPDIR"

# What ends by itself has to do so within this.
PATIENCE_S = 5.0
POLL_S = 0.01

_RUN_VARIABLE = "MPP_TEST_RUN"


def mark_this_process() -> None:
    """Make every descendant of this process recognisable, orphans too.

    A forked process inherits the name of the thread that forked it; one that executes a program loses the name and
    shows the environment instead.
    """
    os.environ[_RUN_VARIABLE] = str(os.getpid())
    Path("/proc/self/comm").write_text(_comm())


def _comm() -> str:
    return f"mpptest{os.getpid()}"


@dataclass(frozen=True)
class Leftovers:
    """What this process has and its descendants are, at one moment. Each as {key: what to call it}."""

    processes: dict[int, str]
    threads: dict[int, str]
    descriptors: dict[tuple[int, str], str]
    files: dict[str, str]

    @classmethod
    def now(cls) -> Leftovers:
        return cls(_processes(), _threads(), _descriptors(), _files())

    @classmethod
    def wait_until_like(cls, before: Leftovers) -> list[str]:
        """What is left that was not there before, once nothing is or the patience is over."""
        deadline = time.monotonic() + PATIENCE_S
        new = cls.now()._beyond(before)
        if new:
            gc.collect()
            new = cls.now()._beyond(before)
        while new and time.monotonic() < deadline:
            # Processes and threads that are about to end say nothing when they have; only looking again helps.
            threading.Event().wait(POLL_S)
            new = cls.now()._beyond(before)
        return new

    def _beyond(self, before: Leftovers) -> list[str]:
        return [
            *_new(self.processes, before.processes),
            *_new(self.threads, before.threads),
            *_new(self.descriptors, before.descriptors),
            *_new(self.files, before.files),
        ]


def _new(after: dict, before: dict) -> list[str]:
    return [text for key, text in after.items() if key not in before]


def _services() -> dict[str, list[int]]:
    """multiprocessing's own processes and descriptors: they live as long as the program, whoever started them."""
    pids, fds = [os.getpid()], []
    forkserver = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    pids += [getattr(forkserver, "_forkserver_pid", None), getattr(tracker, "_pid", None)]
    fds += [getattr(forkserver, "_forkserver_alive_fd", None), getattr(tracker, "_fd", None)]
    return {"pids": [pid for pid in pids if pid is not None], "fds": [fd for fd in fds if fd is not None]}


def _processes() -> dict[int, str]:
    services = _services()["pids"]
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in services and _is_ours(int(name)):
            found[int(name)] = f"process {name}: {_describe(int(name))}"
    return found


def _is_ours(pid: int) -> bool:
    try:
        stat = _read(f"/proc/{pid}/stat").decode(errors="replace")
        comm, rest = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
        state, parent = rest[0], int(rest[1])
        if parent == os.getpid():
            return True
        if state in "ZX":  # somebody else's dead child: reaping it is not our business
            return False
        if comm == _comm():
            return True
        if int(rest[_START_TIME]) < _own_start_time():  # older than we are; most of a machine's processes are
            return False
        marker = f"{_RUN_VARIABLE}={os.getpid()}".encode()
        return marker in _read(f"/proc/{pid}/environ").split(b"\0")
    except (OSError, ValueError):  # it has just ended, or is another user's
        return False


# The place of a process's start time in /proc/PID/stat, counted from behind its name.
_START_TIME = 19


@functools.cache
def _own_start_time() -> int:
    return int(_read("/proc/self/stat").rpartition(b")")[2].split()[_START_TIME])


def _read(path: str) -> bytes:
    """A file of /proc; for each process of the machine, twice a test, where pathlib takes three times as long."""
    fd = os.open(path, os.O_RDONLY)
    try:
        data = b""
        while portion := os.read(fd, 1 << 16):
            data += portion
        return data
    finally:
        os.close(fd)


def _describe(pid: int) -> str:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "ending"
    return f"state {state}, {command or 'no command line'}"


def _threads() -> dict[int, str]:
    named = {thread.native_id: thread for thread in threading.enumerate()}
    # Not only Python's own: a compressor's threads are leftovers as well.
    tasks = [int(task) for task in os.listdir("/proc/self/task")]
    return {task: f"thread {task}: {named.get(task, 'not a Python thread')}" for task in tasks}


def _descriptors() -> dict[tuple[int, str], str]:
    services = _services()["fds"]
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # that of the listing itself
            continue
        if int(name) not in services:
            found[int(name), target] = f"descriptor {name}: {target}"
    return found


def _files() -> dict[str, str]:
    folder = os.environ[PRIVATE_TMPDIR_VARIABLE]
    # multiprocessing keeps one folder for its sockets until the program ends.
    return {name: f"temporary file {folder}/{name}" for name in os.listdir(folder) if not name.startswith("pymp-")}
