"""Names of temporary files, from which it can be told whether the run that made one still lives.

    .mpp-PLACE-PID-START-RANDOM.tmp

PLACE is a hash of the boot and the PID namespace, without which a pid says nothing: on a network filesystem or in a
container it is somebody else's. START is when that process began, for pids are used again.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import stat
import time
from typing import Final
from zlib import crc32

from atbu.mp_pipeline.named_tuple import NamedTuple

#: What cannot be asked, another machine's or an earlier boot's, is taken for dead when it was left alone so long.
FOREIGN_MAX_AGE_S: Final = 24 * 3600
# Compiled where it is used first, as re keeps it: most runs meet none.
_NAME: Final = r"(?a:\.mpp-(?:([0-9a-f]{8})-(\d+)-(\d+)-)?[0-9a-f-]{1,40}\.tmp)"
_START: Final = ".mpp-"
_START_FIELD: Final = 22
_UNKNOWN: Final = "00000000"


_NUMBER_MASK: Final = (1 << 40) - 1
# Counted, from where nobody else does; a copy of this process has a pid of its own. (A call to the kernel for each
# would take longer than all the rest of a name.)
_numbers = itertools.count(int.from_bytes(os.urandom(5), "big"))


class _Owner(NamedTuple):
    place: str
    pid: int
    start: int


def temporary_beside(final: str) -> str:
    """A new name in the folder of ``final``, of this process, which will publish or unlink it.

    Short and made of nothing of the target's, so that a target of 255 bytes has one too.
    """
    number = next(_numbers) & _NUMBER_MASK
    return f"{final[: final.rfind('/') + 1]}{_start_of_names(os.getpid())}{number:010x}.tmp"


def is_temporary_name(name: str) -> bool:
    """Whether a file of this name, without its folder, is or was a temporary of some run."""
    return name.startswith(_START) and re.fullmatch(_NAME, name) is not None


def is_stale(name: str, status: os.stat_result, now_s: float) -> bool:
    """Whether the run that made this temporary is dead.

    Args:
        name: Its name, without the folder.
        status: From os.lstat().
        now_s: The time, in seconds since 1970.
    """
    match = re.fullmatch(_NAME, name)
    if match is None or not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        return False
    if match[1] is None or match[1] == _UNKNOWN or match[1] != _own(os.getpid()).place:
        # Not the time of its last change of data: a finished one has its source's.
        return now_s - status.st_ctime > FOREIGN_MAX_AGE_S
    return not _lives(int(match[2]), int(match[3]))


def sweep(folder: str, max_entries: int | None = None) -> int:
    """Remove the temporaries of dead runs from a folder; gives their number. What cannot be removed stays.

    Args:
        folder: Its path.
        max_entries: Look at no more names than this; None: at all of them.
    """
    return sweep_and_look(folder, max_entries, "").removed


class Look(NamedTuple):
    """What a sweep has seen of a folder.

    Attributes:
        removed: How many temporaries of dead runs were there.
        saw_all: Whether it has seen all names; also of a folder that cannot be listed, where there is nothing to do.
        is_without: Whether it has, and none of them ends with the suffix.
    """

    removed: int
    saw_all: bool
    is_without: bool


def sweep_and_look(folder: str, max_entries: int | None, suffix: str) -> Look:
    """As :func:`sweep`; says too what is there."""
    removed = 0
    saw_all, is_without = True, False
    with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
        has_such = False
        for entry in itertools.islice(entries, max_entries):
            name = entry.name
            if not name.startswith(_START):  # most of what may be a million
                has_such = has_such or name.endswith(suffix)
            elif is_temporary_name(name):
                with contextlib.suppress(OSError):
                    if is_stale(name, entry.stat(follow_symlinks=False), time.time()):
                        os.unlink(entry.path)
                        removed += 1
            else:
                has_such = True
        saw_all = next(entries, None) is None
        is_without = saw_all and not has_such
    return Look(removed, saw_all, is_without)


@functools.cache
def _start_of_names(pid: int) -> str:
    owner = _own(pid)
    return f".mpp-{owner.place}-{owner.pid}-{owner.start}-"


@functools.cache
def _own(pid: int) -> _Owner:
    """Who this process is. The pid is asked for, because a forked process is another one."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return _Owner(_UNKNOWN, pid, 0)
    start = _start_of("self")
    # /proc of another PID namespace would tell of other processes; then a pid alone has to do.
    if start != _start_of(str(pid)):
        start = 0
    # Not hashlib: OpenSSL costs every start 2 ms.
    return _Owner(f"{crc32(f'{boot} {namespace}'.encode()):08x}", pid, start)


def _lives(pid: int, start: int) -> bool:
    """Whether the process ``pid`` of this boot and namespace lives, and is the one that began at ``start``."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # another user's: it is there
    if not start or not _own(os.getpid()).start:
        return True
    found = _start_of(str(pid))
    # What /proc hides from us lives all the same.
    return not found or found == start


def _start_of(process: str) -> int:
    """When a process began, in clock ticks since the boot; 0 where /proc does not say."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[_START_FIELD - 3])
    except (OSError, ValueError, IndexError):
        return 0


__all__ = ["FOREIGN_MAX_AGE_S", "is_stale", "is_temporary_name", "sweep", "sweep_and_look", "temporary_beside"]
