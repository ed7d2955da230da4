"""A process that helps a stage with its lines: both sides of its two pipes.

Each message is its length and so many bytes. First comes the stage, and as an answer the empty greeting; then blocks,
and a result for each. In the place of an answer there may be a failure.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from typing import IO, Final

from atbu.mp_pipeline.exception import PipelineError
from atbu.mp_pipeline.fork_guard import OwnedDescriptor
from atbu.mp_pipeline.lifeline import end_with_parent
from atbu.mp_pipeline.template import is_readable

from .buffers import keep_freed_memory
from .functions import filtered_lines

_LENGTH_BYTES: Final = 8
#: Stands for the length of an answer: a pickled exception follows.
_FAILED: Final = (1 << 64) - 1
#: How long a helper that was told to end may take.
_GRACE_S: Final = 5.0
_PIPE_BYTES: Final = 1 << 20
#: Of which this much may be lost to pages that are not full, and to what is not a block.
_PIPE_RESERVE_BYTES: Final = 128 << 10
_PROGRAM: Final = "from mpp_stages.line_helper import help_with_lines; help_with_lines()"


class LineHelper:
    """A process that applies a stage's function to blocks of lines.

    It ends with the pipe to it, and with the process that has started it, however that ends and whatever it does then.

    Args:
        stage: A pickle of it.
    """

    def __init__(self, stage: bytes) -> None:
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        lifeline, ours = os.pipe()
        self._lifeline = OwnedDescriptor(ours)
        try:
            self._process = subprocess.Popen(
                # -P: no module is taken from the current folder by accident
                [sys.executable, "-P", "-c", _PROGRAM, str(lifeline)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": paths},
                bufsize=0,
                pass_fds=[lifeline],
            )
        except BaseException:
            self._lifeline.close()
            raise
        finally:
            os.close(lifeline)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to: IO[bytes] = self._process.stdin
        self._back: IO[bytes] = self._process.stdout
        self._under_way: deque[int] = deque()  # the lengths of the blocks whose results have not been received
        self._has_greeted = False
        self._room = 0
        for pipe in (self._back, self._to):
            with contextlib.suppress(OSError):  # without, it is only slower
                self._room = fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES) - _PIPE_RESERVE_BYTES
        try:
            self._send(stage)
        except BaseException:
            self.close()
            raise

    def can_take(self, block: bytes) -> bool:
        """Whether it has nothing to do, or there is room in the pipe for this one and all that it has.

        A block that is sent while another is under way must never wait for room: the helper may wait itself, for
        its result to be received.
        """
        under_way = self._under_way
        return not under_way or sum(under_way) + len(block) <= self._room

    def send(self, block: bytes) -> None:
        """Give it a block that it can take."""
        self._under_way.append(len(block))
        self._send(block)

    def is_ready(self) -> bool:
        """Whether its greeting or its next result has begun to come."""
        return is_readable(self._back.fileno(), 0)

    def _send(self, block: bytes) -> None:
        with self._explained():
            _write(self._to, len(block).to_bytes(_LENGTH_BYTES, "big"))
            _write(self._to, block)

    def greet(self) -> None:
        """Wait until it has loaded the stage; raises what loading it has raised."""
        if not self._has_greeted:
            self._has_greeted = True
            self._answer()

    def receive(self) -> bytes:
        """The result of the first block that was sent; raises what the function has raised."""
        self.greet()
        self._under_way.popleft()
        return self._answer()

    def _answer(self) -> bytes:
        with self._explained():
            length = int.from_bytes(_read(self._back, _LENGTH_BYTES), "big")
            if length != _FAILED:
                return _read(self._back, length)
            length = int.from_bytes(_read(self._back, _LENGTH_BYTES), "big")
            error = pickle.loads(_read(self._back, length))
        raise error

    def close(self) -> None:
        """End it and wait for its end."""
        if not self._has_greeted:
            self._process.kill()  # it has done nothing yet, and would first load all that it needs
        with contextlib.suppress(OSError):
            self._to.close()
        self._back.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._lifeline.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, BrokenPipeError):
            status = self._process.wait()
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            raise PipelineError(f"a helper process of the stage {how}") from None


def help_with_lines() -> None:
    """What the helper runs: blocks from standard input, results to standard output, until one of the two ends.

    Its argument is the lifeline.
    """
    end_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program that we help decides what Ctrl-C means
    with contextlib.suppress(EOFError, BrokenPipeError):
        _serve()


def _serve() -> None:
    source = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - for as long as the process lives
    target = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a print of the user's function is no result
    keep_freed_memory()
    try:
        stage = pickle.loads(_next(source))
        stage.function  # noqa: B018 - it is loaded by being asked for
    except BaseException as ex:  # noqa: BLE001 - an import of the user's module may raise anything
        _write_failure(target, ex)
        while True:  # what is sent meanwhile must find a reader
            _next(source)
    _write_result(target, b"")
    while True:
        block = _next(source)
        try:
            result = filtered_lines(stage, block)
        except BaseException as ex:  # noqa: BLE001 - whatever the function raises is the answer
            _write_failure(target, ex)
        else:
            _write_result(target, result)


def _write_failure(target: IO[bytes], ex: BaseException) -> None:
    from atbu.mp_pipeline.stage_run import portable_failure

    _write(target, _FAILED.to_bytes(_LENGTH_BYTES, "big"))
    _write_result(target, pickle.dumps(portable_failure(ex)))


def _write_result(target: IO[bytes], result: bytes) -> None:
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
