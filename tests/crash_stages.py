"""Work items, stages and misbehaviour for the crash tests; at module level, so that every start method finds them."""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from failure_clock import say_when
from pipeline_harness import note_in

from atbu.mp_pipeline.mp_pipeline import PipelineWorkItem, SubprocessPipelineStage

Act = Callable[[Any], Any]


class CrashItem(PipelineWorkItem):
    """An item that may misbehave.

    Args:
        name: What messages call it.
        journal: The file in which stages note that they ran.
        act: What it does wrong; called with the item, and what it returns the stage returns. None: it behaves.
        at: The stage that takes it; in a chain, the stage and the moment at which it misbehaves.
    """

    def __init__(self, name: str, journal: Path, act: Act | None = None, at: str = "act") -> None:
        super().__init__()
        self.name = name
        self.journal = str(journal)
        self.act = act
        self.at = at
        self.num_stages_done = 0

    @property
    def moments(self) -> str:
        """The file in which it is noted when it went wrong."""
        return f"{self.journal}.{self.name.rpartition('/')[2]}.moments"

    def note(self, what: str) -> None:
        note_in(self.journal, f"{self.name} {what}")

    def misbehave(self, moment: str) -> Any:
        """What the stage returns: whatever the act makes of it, if this is its moment."""
        return say_when(self.moments, self.act, self) if self.act is not None and self.at == moment else self


class ActStage(SubprocessPipelineStage):
    """Takes the items that are meant for it, which may misbehave in it."""

    name = "act"

    def is_for_stage(self, pwi: Any) -> bool:
        return isinstance(pwi, CrashItem) and pwi.at == self.name

    def perform_stage_work(self, pwi: Any, **kwargs: Any) -> Any:
        pwi.note(self.name)
        pwi.num_stages_done += 1
        return pwi.misbehave(self.name)


class ThreadActStage(ActStage):
    """The same in a thread of the parent."""

    @property
    def is_subprocess(self) -> bool:
        return False


class VictimStage(ActStage):
    """A stage for the item that goes wrong only, where the stage is what is wrong, or must not be the neighbours'."""

    name = "bad"

    def __init__(self, timeout: float | None = None) -> None:
        super().__init__()
        self.timeout = timeout


class UnpicklableStage(VictimStage):
    """Holds what cannot be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class FatalOnArrivalStage(VictimStage):
    """Kills the worker that unpickles it."""

    def __reduce__(self) -> Any:
        return (_die_on_arrival, ())


class RaisingOnArrivalStage(VictimStage):
    """Cannot be unpickled in a worker."""

    def __reduce__(self) -> Any:
        return (_raise_on_arrival, ())


class RaisingDeterminerStage(VictimStage):
    """Raises when it is asked whether it wants the item."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        self.act = act

    def is_for_stage(self, pwi: Any) -> bool:
        return super().is_for_stage(pwi) and self.act(pwi)


class RaisingPipePropertyStage(VictimStage):
    """Raises when it is asked for a pipe with the next stage."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        self.act = act

    @property
    def is_pipe_with_next_stage(self) -> bool:
        return self.act(None)


class PipeToNobodyStage(VictimStage):
    """The last stage, and asks for a pipe with the next."""

    @property
    def is_pipe_with_next_stage(self) -> bool:
        return True


class BadCompletionItem(CrashItem):
    """Misbehaves when it is told that a stage is complete."""

    def __init__(self, name: str, journal: Path, at_completion: Act) -> None:
        super().__init__(name, journal)
        self.at_completion = at_completion

    def stage_complete(self, stage_num: int, wi: PipelineWorkItem, ex: BaseException | None) -> None:
        self.at_completion(self)


# Ways to die


def is_worker() -> bool:
    return multiprocessing.parent_process() is not None


def kill_self(signum: int, _item: Any = None) -> NoReturn:
    """Be killed by a signal, and be so now: not when Python looks next."""
    os.kill(os.getpid(), signum)
    signal.pause()
    raise AssertionError("unreachable")


def exit_at_once(status: int, _item: Any = None) -> NoReturn:
    os._exit(status)


def sys_exit(status: int, _item: Any = None) -> NoReturn:
    sys.exit(status)


def _leave_no_dump() -> None:
    """Die without a core file and without the stack that pytest's faulthandler would print."""
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def segfault(_item: Any = None) -> NoReturn:
    """A real one, as C extensions have them."""
    _leave_no_dump()
    ctypes.string_at(0)
    raise AssertionError("unreachable")


def abort(_item: Any = None) -> NoReturn:
    """As a failed assertion in C, or heap corruption."""
    _leave_no_dump()
    os.abort()


def overflow_the_stack(_item: Any = None) -> None:
    """Really overflow the C stack: Python counts levels, not bytes, and here it has a few bytes only."""
    _leave_no_dump()
    threading.stack_size(64 * 1024)
    thread = threading.Thread(target=_nest_in_c, args=(400,))
    thread.start()
    thread.join()


def _nest_in_c(depth: int) -> None:
    if depth:
        max([depth - 1], key=_nest_in_c)


def recurse_for_ever(item: Any) -> Any:
    return recurse_for_ever(item)


def work_for_ever(_item: Any = None) -> NoReturn:
    while True:
        signal.pause()


def ignore_signals_and_work_for_ever(_item: Any = None) -> NoReturn:
    """Only SIGKILL ends it."""
    for signum in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGIO}:
        signal.signal(signum, signal.SIG_IGN)
    work_for_ever()


def run_out_of_memory(item: Any) -> Any:
    """More than RLIMIT_AS allows."""
    limit_memory(64 << 20)
    item.result = bytearray(1 << 30)
    return item


def limit_memory(more_bytes: int) -> None:
    """Let this process have only so much address space beyond what it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def limit_memory_of_this_process(item: Any) -> Any:
    limit_memory(64 << 20)
    return item


# Ways to fail


class NeedsTwo(Exception):
    """Cannot be unpickled: what pickle calls it with is not what it needs."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class OnlyInWorkers(Exception):
    """Can be unpickled in workers only."""

    def __reduce__(self) -> Any:
        return (_only_in_workers, ())


def _only_in_workers() -> OnlyInWorkers:
    if not is_worker():
        raise ValueError("not in the parent")
    return OnlyInWorkers("only in workers")


class FatalToPickle(Exception):
    """Kills the worker that pickles it."""

    def __reduce__(self) -> Any:
        if is_worker():
            os._exit(5)
        return (FatalToPickle, ())


class NoText(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise ValueError("no text")


def fail(error: type[BaseException], text: str = "", _item: Any = None) -> NoReturn:
    """Raise a new exception: one that was kept in the table would keep the frames it was raised in."""
    raise error(text) if text else error


def fail_with_two(_item: Any) -> NoReturn:
    raise NeedsTwo("one", "two")


def fail_with_a_lambda(_item: Any) -> NoReturn:
    raise ValueError(lambda: None)


def _raise_on_arrival() -> NoReturn:
    raise ValueError("cannot be made here")


def _die_on_arrival() -> NoReturn:
    os._exit(6)


def return_none(_item: Any) -> None:
    return None


def return_user_obj(item: Any) -> Any:
    return item.user_obj


def wait_at(fifo: str, item: Any) -> Any:
    """Be at work until somebody opens and closes the FIFO."""
    with open(fifo, "rb") as file:
        file.read()
    return item


def return_a_lambda(item: Any) -> Any:
    item.result = lambda: None
    return item


def return_trap(trap: Callable[[Act], Any], act: Act, item: Any) -> Any:
    """A result whose pickling or unpickling does something."""
    item.result = trap(act)
    return item


class OnDeparture:
    """Does something when a worker pickles it."""

    def __init__(self, act: Act) -> None:
        self.act = act

    def __reduce__(self) -> Any:
        if is_worker():
            self.act(None)
        return (OnDeparture, (self.act,))


class OnArrival:
    """Does something when a worker unpickles it."""

    def __init__(self, act: Act) -> None:
        self.act = act

    def __reduce__(self) -> Any:
        return (_arrive, (self.act,))


def _arrive(act: Act) -> OnArrival:
    if is_worker():
        act(None)
    return OnArrival(act)


class OnReturn:
    """Does something when the parent unpickles it."""

    def __init__(self, act: Act) -> None:
        self.act = act

    def __reduce__(self) -> Any:
        return (_come_home, (self.act,))


def _come_home(act: Act) -> OnReturn:
    if not is_worker():
        act(None)
    return OnReturn(act)


# Initialisers of workers


def initialise_never(act: Act) -> None:
    """Fail, die or hang in each worker."""
    act(None)


def initialise_at_last(journal: str, num_failures: int, act: Act) -> None:
    """Fail or die in the first few workers."""
    note_in(journal, "initialiser")
    if len(Path(journal).read_text().splitlines()) <= num_failures:
        act(None)


def leave_a_handler(signum: int, act: Act) -> None:
    """Let a signal do it, whatever the worker does by then."""
    signal.signal(signum, lambda *_: act(None))


# Items that travel heavily


def lower_file_limit(item: Any) -> Any:
    """From now on this process can open no more files."""
    forbid_more_files()
    return item


def forbid_more_files() -> None:
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def allow_more_files(_item: Any = None) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class ParentOutOfFilesItem(CrashItem):
    """While this is being sent the parent can open no more files."""

    def before_attempt(self, attempt: int) -> None:
        self.file_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        forbid_more_files()

    def stage_complete(self, stage_num: int, wi: PipelineWorkItem, ex: BaseException | None) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self.file_limit)
        super().stage_complete(stage_num, wi, ex)


class SignallingItem(CrashItem):
    """Writes to a descriptor of the parent when it is about to be sent."""

    signal_fd = -1

    def before_attempt(self, attempt: int) -> None:
        os.write(self.signal_fd, b"x")


def say_pid_and_stop(fifo: str, item: Any) -> Any:
    """Be stopped at work; whoever reads the FIFO learns who."""
    write_pid(fifo)
    os.kill(os.getpid(), signal.SIGSTOP)
    return item


def say_pid_and_work_for_ever(fifo: str, _item: Any = None) -> NoReturn:
    write_pid(fifo)
    work_for_ever()


def write_pid(fifo: str) -> None:
    Path(fifo).write_text(str(os.getpid()))


def answer_with(num_bytes: int, item: Any) -> Any:
    item.result = bytes(num_bytes)
    return item


def wait_then_answer_with(fifo: str, patience_s: float | None, num_bytes: int, item: Any) -> Any:
    """The same, once there is something in the FIFO, or the patience is over."""
    fd = os.open(fifo, os.O_RDONLY)
    select.select([fd], [], [], patience_s)
    os.close(fd)
    return answer_with(num_bytes, item)


def wait_then_die_amid_the_answer(fifo: str, num_bytes: int, act: Act, item: Any) -> Any:
    """The same without an end of patience; whoever sends SIGUSR1 meanwhile decides when it goes wrong."""
    signal.signal(signal.SIGUSR1, lambda *_: act(item))
    return wait_then_answer_with(fifo, None, num_bytes, item)


class BlockingDeterminerStage(ActStage):
    """Keeps the pipeline's own thread, for one item: a line to the first FIFO, then until the end of the second."""

    name = "block"

    def __init__(self, blocked: str, until: str) -> None:
        super().__init__()
        self.blocked = blocked
        self.until = until

    def is_for_stage(self, pwi: Any) -> bool:
        if super().is_for_stage(pwi):
            Path(self.blocked).write_text("blocked")
            Path(self.until).read_text()
        return False
