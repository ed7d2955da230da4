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
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any, NoReturn

from failure_clock import say_when
from pipeline_harness import note_in

from atbu.mp_pipeline.mp_pipeline import PipeConnectionIO, PipelineWorkItem, SubprocessPipelineStage

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


# A chain of three

CHAIN_BLOCK = b"0123456789abcdef" * 4096
# More than a pipe holds, so that each waits for the next.
CHAIN_BLOCKS = 32
CHAIN_BYTES = CHAIN_BLOCKS * len(CHAIN_BLOCK)
# Far more than any pipe holds: its writer is in the midst of it while its reader has only the first bytes.
LARGE_MESSAGE = CHAIN_BLOCK * 512


class ChainStage(SubprocessPipelineStage):
    """A part of the chain; an item may misbehave before the first data, amid it, or after the last."""

    def __init__(self, name: str, is_piped: bool, is_subprocess: bool = True, timeout: float | None = None) -> None:
        super().__init__()
        self.name = name
        self.timeout = timeout
        self._is_piped = is_piped
        self._is_subprocess = is_subprocess

    @property
    def is_subprocess(self) -> bool:
        return self._is_subprocess

    @property
    def is_pipe_with_next_stage(self) -> bool:
        return self._is_piped

    def is_for_stage(self, pwi: Any) -> bool:
        return isinstance(pwi, CrashItem)

    def perform_stage_work(self, pwi: Any, **kwargs: Any) -> Any:
        pwi.note(self.name)
        pwi.misbehave(f"{self.name}:before")
        blocks = self._produce() if pwi.pipe_in is None else self._read(pwi)
        if pwi.pipe_out is None:
            self._count(pwi, blocks)
        else:
            with PipeConnectionIO(pwi.pipe_out, is_write=True) as writer:
                self._forward(pwi, blocks, writer)
        return pwi.misbehave(f"{self.name}:after")

    def _produce(self) -> Iterator[bytes]:
        for _ in range(CHAIN_BLOCKS):
            yield CHAIN_BLOCK

    def _read(self, pwi: Any) -> Iterator[bytes]:
        with PipeConnectionIO(pwi.pipe_in, is_write=False) as reader:
            while block := reader.read():
                yield block
        pwi.note(f"{self.name} saw a clean end")

    def _forward(self, pwi: Any, blocks: Iterator[bytes], writer: PipeConnectionIO) -> None:
        for number, block in enumerate(blocks):
            if number == 1:
                pwi.misbehave(f"{self.name}:amid")
            writer.write(block)

    def _count(self, pwi: Any, blocks: Iterator[bytes]) -> None:
        pwi.num_bytes = 0
        for number, block in enumerate(blocks):
            if number == 1:
                pwi.misbehave(f"{self.name}:amid")
            pwi.num_bytes += len(block)


class TornFrameStage(ChainStage):
    """Sends its pid, then one message which no pipe holds at once; SIGUSR1 makes its item misbehave amid that."""

    def perform_stage_work(self, pwi: Any, **kwargs: Any) -> Any:
        before = signal.signal(signal.SIGUSR1, lambda *_: pwi.misbehave(f"{self.name}:in a frame"))
        try:
            return super().perform_stage_work(pwi, **kwargs)
        finally:
            signal.signal(signal.SIGUSR1, before)

    def _produce(self) -> Iterator[bytes]:
        yield str(os.getpid()).encode()
        yield LARGE_MESSAGE


class TornFrameReaderStage(ChainStage):
    """Signals to the stage before it when that has sent the first bytes of its large message, then reads on."""

    def _read(self, pwi: Any) -> Iterator[bytes]:
        # Left to the worker to close: the writer would see that before this stage has failed.
        reader = PipeConnectionIO(pwi.pipe_in, is_write=False)
        pid = int(reader.read())
        yield reader.read(10)
        pwi.misbehave(f"{self.name}:in a frame")
        os.kill(pid, signal.SIGUSR1)
        while block := reader.read():
            yield block
        pwi.note(f"{self.name} saw a clean end")


def chain_of_three(in_threads: Container[str] = (), timeout: float | None = None) -> list[ChainStage]:
    """Producer, middle and consumer, those of ``in_threads`` in threads; ``timeout`` is the middle's."""
    return [
        ChainStage("producer", is_piped=True, is_subprocess="producer" not in in_threads),
        ChainStage("middle", is_piped=True, is_subprocess="middle" not in in_threads, timeout=timeout),
        ChainStage("consumer", is_piped=False, is_subprocess="consumer" not in in_threads),
    ]


class EverywhereStage(ChainStage):
    """A part of a chain whose item's act is asked in each stage at once, before any data."""

    def perform_stage_work(self, pwi: Any, **kwargs: Any) -> Any:
        pwi.note(self.name)
        return say_when(pwi.moments, pwi.act, self.name)


def die_or_loop(dies: str, loops: str, stage: str) -> None:
    """One of the stages dies, another never ends, a third behaves."""
    if stage == dies:
        os._exit(3)
    if stage == loops:
        ignore_signals_and_work_for_ever()


# Initialisers of workers


def initialise_never(act: Act) -> None:
    """Fail, die or hang in each worker."""
    act(None)


def initialise_at_last(journal: str, num_failures: int, act: Act) -> None:
    """Fail or die in the first few workers."""
    note_in(journal, "initialiser")
    if len(Path(journal).read_text().splitlines()) <= num_failures:
        act(None)


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


def on_signal(signum: int, act: Act, item: Any) -> Any:
    """Let a signal do it, whatever the worker does by then."""
    signal.signal(signum, lambda *_: act(None))
    return item


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
