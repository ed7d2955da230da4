"""The ways in which a worker can die; each is a row at each moment: test_crash.py, _chains.py and _pool.py."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import crash_stages as ways


@dataclass(frozen=True)
class Death:
    """One way to die.

    Args:
        name: What it is.
        act: Does it.
        how: What the item's failure says of it.
        exitcode: As multiprocessing has it.
    """

    name: str
    act: Callable[[Any], Any]
    how: str
    exitcode: int


def _exits(status: int) -> Death:
    return Death(f"os._exit({status})", partial(ways.exit_at_once, status), f"ended with exit status {status}", status)


def _killed(signum: signal.Signals, act: Callable[[Any], Any] | None = None) -> Death:
    return Death(signum.name, act or partial(ways.kill_self, signum), f"was killed by {signum.name}", -signum)


EXIT_0 = _exits(0)
KILLED = _killed(signal.SIGKILL)
DEATHS = (EXIT_0, _exits(3), KILLED, _killed(signal.SIGTERM), _killed(signal.SIGSEGV, ways.segfault))
# exit() is no death: the worker lives on, and the item fails by the SystemExit, or because it cannot travel.
EXIT_STATUSES = (0, 3)
