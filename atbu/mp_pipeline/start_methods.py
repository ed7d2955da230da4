"""How worker processes come to life: by the template, or by a start method of multiprocessing.

    the program chose spawn or forkserver ─────────────▶ that one
    it chose fork, or nothing, and has one thread ─────▶ a template, forked at once
    it has more threads ───────────────────────────────▶ forkserver, the stages' modules preloaded

Nothing here fixes the program's start method.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterable
from multiprocessing import context, reduction
from multiprocessing.process import BaseProcess
from typing import Any

from .exception import InvalidFunctionArgument
from .template import Template, is_single_threaded

Initializer = Callable[..., object] | None


def choose_start_method() -> str:
    """``"template"``, ``"forkserver"`` or ``"spawn"``."""
    chosen = multiprocessing.get_start_method(allow_none=True)
    if chosen in ("spawn", "forkserver"):
        return chosen
    return "template" if is_single_threaded() else "forkserver"


def refuse_what_cannot_travel(initializer: Initializer, initargs: tuple[Any, ...], method: str) -> None:
    """Find out now, not in the first worker, whether the initialiser can reach a worker.

    Raises:
        InvalidFunctionArgument: it cannot be pickled for a new process.
    """
    if method == "template" or (initializer is None and not initargs):
        return
    context.set_spawning_popen(_TrialPopen())  # type: ignore[arg-type]
    try:
        reduction.ForkingPickler.dumps((initializer, initargs))
    except Exception as ex:
        hint = (
            ' Make it from a context whose objects travel: multiprocessing.get_context("spawn").Queue() (or Lock(), …).'
            if isinstance(ex, RuntimeError)
            else ""
        )
        raise InvalidFunctionArgument(
            f"process_initfunc or process_initargs cannot be sent to a worker started by {method!r}: {ex}.{hint}",
            cause=ex,
        ) from ex
    finally:
        context.set_spawning_popen(None)


class _TrialPopen:
    """Stands for a process being started while its arguments are pickled on trial."""

    def duplicate_for_child(self, fd: int) -> int:
        return fd

    def DupFd(self, fd: int) -> _TrialDescriptor:
        return _TrialDescriptor(fd)


class _TrialDescriptor:
    def __init__(self, fd: int) -> None:
        self.fd = fd


def start_by_context(
    method: str,
    name: str,
    preload: Iterable[str],
    arguments: tuple[Any, ...],
    fds: list[int],
    initializer: Initializer,
    initargs: tuple[Any, ...],
) -> BaseProcess:
    """Start a worker by a start method of multiprocessing. Blocks until the process exists.

    Raises:
        OSError: no process or descriptor can be had. Other errors: the initialiser cannot be pickled.
    """
    from .worker_main import InheritedDescriptor, WorkerSpec, run_worker  # the template's workers come without us

    ctx = multiprocessing.get_context(method)
    if method == "forkserver":
        _preload(preload)
    slot, counter_names, log_level = arguments
    own_fds = tuple(InheritedDescriptor(fd) for fd in fds)
    spec = WorkerSpec(own_fds, slot, counter_names, log_level, initializer, initargs)
    process: BaseProcess = ctx.Process(target=run_worker, args=(spec,), name=name)  # type: ignore[attr-defined]
    chosen = multiprocessing.get_start_method(allow_none=True)
    process.start()
    if chosen is None:
        # starting a process asks for the program's start method, and asking fixes it
        multiprocessing.set_start_method(None, force=True)
    return process


def _preload(modules: Iterable[str]) -> None:
    """Have the forkserver import these once, unless it runs already or the program has said what to preload."""
    from multiprocessing import forkserver  # starts nothing, but most programs never need it

    server: Any = forkserver._forkserver
    if getattr(server, "_forkserver_pid", None) is not None or server._preload_modules != ["__main__"]:
        return
    wanted = dict.fromkeys(("__main__", "atbu.mp_pipeline.worker_main", *modules))
    forkserver.set_forkserver_preload(list(wanted))


def stage_modules(objects: Iterable[object]) -> list[str]:
    """The importable modules of these objects' classes."""
    names = dict.fromkeys(type(obj).__module__ for obj in objects)
    return [name for name in names if name in sys.modules and name not in ("__main__", "builtins")]


__all__ = [
    "Initializer",
    "Template",
    "choose_start_method",
    "refuse_what_cannot_travel",
    "stage_modules",
    "start_by_context",
]
