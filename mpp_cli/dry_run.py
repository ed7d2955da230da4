"""``mpp run --dry-run``: what would be done with each input."""

from __future__ import annotations

import select
from collections.abc import Iterator

from mpp_stages.commit import wait_until_ready

from . import exit_codes
from .errors import shown
from .failures import failure_line
from .jobs import JobMaker, NotYet, Plan, Refused
from .stdio import Stdio
from .tell import tell


def show_plans(maker: JobMaker, output: str | None, stdio: Stdio) -> int:
    """Print a line for each input on standard output, for a failure on standard error; nothing is made or changed."""
    failed: list[str] = []  # the first alone: how many there are does not matter
    stdio.show(_lines(maker, output, failed))
    return exit_codes.SOME_FAILED if failed else exit_codes.DONE


def _lines(maker: JobMaker, output: str | None, failed: list[str]) -> Iterator[str]:
    for plan in maker.plans():
        if isinstance(plan, NotYet):
            wait_until_ready(plan.descriptor, select.POLLIN)
        elif isinstance(plan, Plan):
            target = (output or "stdout") if plan.target is None else plan.target.shown
            yield f"{shown(plan.name)} -> {shown('stdout' if target == '-' else target)}"
        elif isinstance(plan, Refused):
            tell(failure_line(plan.name, plan.error))
            failed[:] = [plan.name]
        else:
            yield f"{shown(plan.name)}: skipped: {plan.reason}"
