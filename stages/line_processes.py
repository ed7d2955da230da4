"""Lines through a function in several processes: blocks of whole lines, whose order stays.

    blocks ─┬─▶ the stage's own process ─▶ result ─┐
            ├─▶ helper, a program of its own ──────┼─▶ written in the order of the blocks
            └─▶ helper …                   ────────┘

A block goes to a helper that has less than two of them, else it is done here. What is ahead of its turn waits, up to a
bound.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pickle
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from typing import IO, Final

from atbu.mp_pipeline.exception import PipelineError

from .file_item import FileItem
from .functions import FunctionStage, blocks_of_lines, filtered_lines

_LENGTH_BYTES: Final = 8
_FAILED: Final = (1 << 64) - 1
#: How long a helper that was told to end may take.
_GRACE_S: Final = 5.0
_PIPE_BYTES: Final = 1 << 20
#: Of which this much may be lost to pages that are not full, and to what is not a block.
_PIPE_RESERVE_BYTES: Final = 128 << 10
#: Blocks that are done before a helper is started, which takes as long as some of them.
_BLOCKS_ALONE: Final = 8
#: Blocks that may wait for their turn: they are in memory.
_MAX_TURNS: Final = 16
_PROGRAM: Final = "from mpp_stages.line_processes import help_with_lines; help_with_lines()"


class LineHelper:
    """A process that applies a stage's function to blocks of lines.

    It ends with the pipe to it, and so with the process that has started it, however that ends.

    Args:
        stage: Pickled for the helper.
    """

    def __init__(self, stage: FunctionStage) -> None:
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM],  # -P: no module is taken from the current folder by accident
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to: IO[bytes] = self._process.stdin
        self._back: IO[bytes] = self._process.stdout
        self._under_way: deque[int] = deque()  # the lengths of the blocks whose results have not been received
        self._room = 0
        for pipe in (self._back, self._to):
            with contextlib.suppress(OSError):  # without, it is only slower
                self._room = fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES) - _PIPE_RESERVE_BYTES
        self._send(pickle.dumps(stage))

    def can_take(self, block: bytes) -> bool:
        """Whether it has nothing to do, or no second block that waits and room for this one in the pipe.

        A block that is sent while another is under way must never wait for room: the helper may wait itself, for
        its result to be received.
        """
        under_way = self._under_way
        return not under_way or (len(under_way) == 1 and under_way[0] + len(block) <= self._room)

    def send(self, block: bytes) -> None:
        """Give it a block that it can take."""
        self._under_way.append(len(block))
        self._send(block)

    def is_ready(self) -> bool:
        """Whether its result has begun to come."""
        return bool(select.select([self._back], [], [], 0)[0])

    def _send(self, block: bytes) -> None:
        with self._explained():
            _write(self._to, len(block).to_bytes(_LENGTH_BYTES, "big"))
            _write(self._to, block)

    def receive(self) -> bytes:
        """The result of the first block that was sent; raises what the function has raised."""
        self._under_way.popleft()
        with self._explained():
            length = int.from_bytes(_read(self._back, _LENGTH_BYTES), "big")
            if length != _FAILED:
                return _read(self._back, length)
            length = int.from_bytes(_read(self._back, _LENGTH_BYTES), "big")
            error = pickle.loads(_read(self._back, length))
        raise error

    def close(self) -> None:
        """End it and wait for its end."""
        with contextlib.suppress(OSError):
            self._to.close()
        self._back.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, BrokenPipeError):
            status = self._process.wait()
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            raise PipelineError(f"a helper process of the stage {how}") from None


def apply_to_lines_in_processes(
    stage: FunctionStage, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem, processes: int
) -> None:
    """As :func:`.functions.apply_to_lines`, in this and ``processes - 1`` others. A small input needs no other."""
    helpers: list[LineHelper] = []
    turns: deque[LineHelper | bytes] = deque()  # results that are not written yet, and who will have one

    def write_next() -> None:
        turn = turns.popleft()
        writer.write(turn.receive() if isinstance(turn, LineHelper) else turn)

    try:
        for number, block in enumerate(blocks_of_lines(stage, reader, item)):
            if number == _BLOCKS_ALONE:
                helpers += [LineHelper(stage) for _ in range(processes - 1)]
            while turns and (isinstance(turns[0], bytes) or turns[0].is_ready() or len(turns) > _MAX_TURNS):
                write_next()
            helper = next((each for each in helpers if each.can_take(block)), None)
            if helper is None:
                turns.append(filtered_lines(stage, block))
            else:
                helper.send(block)
                turns.append(helper)
        while turns:
            write_next()
    finally:
        for helper in helpers:
            helper.close()


def help_with_lines() -> None:
    """What the helper runs: blocks from standard input, results to standard output, until one of the two ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program that we help decides what Ctrl-C means
    with contextlib.suppress(EOFError, BrokenPipeError):
        _serve()


def _serve() -> None:
    source = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - for as long as the process lives
    target = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a print of the user's function is no result
    try:
        stage = pickle.loads(_next(source))
        failure: BaseException | None = None
    except BaseException as ex:  # noqa: BLE001 - an import of the user's module may raise anything
        failure = ex
    while True:
        block = _next(source)
        try:
            if failure is not None:
                raise failure
            result = filtered_lines(stage, block)
        except BaseException as ex:  # noqa: BLE001 - whatever the function raises is the answer
            from atbu.mp_pipeline.stage_run import portable_failure

            result = pickle.dumps(portable_failure(ex))
            _write(target, _FAILED.to_bytes(_LENGTH_BYTES, "big"))
        _write(target, len(result).to_bytes(_LENGTH_BYTES, "big"))
        _write(target, result)


def _next(source: IO[bytes]) -> bytes:
    return _read(source, int.from_bytes(_read(source, _LENGTH_BYTES), "big"))


def _read(file: IO[bytes], length: int) -> bytes:
    """All of ``length`` bytes; raises EOFError where there are fewer."""
    parts = []
    while length:
        part = os.read(file.fileno(), length)  # mostly all of it, and then there is nothing to copy
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write(file: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


__all__ = ["LineHelper", "help_with_lines"]
