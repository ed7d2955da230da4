"""Moves bytes through a program: in, out and its end are minded at once, so none can keep the others waiting.

reader ──▶ pending ──▶ stdin   program   stdout ──▶ buffer ──▶ writer
                         └── supervisor's reports ──┘
"""

from __future__ import annotations

import io
import os
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final

from atbu.mp_pipeline.exception import PipeConnectionAborted
from atbu.mp_pipeline.fork_guard import OwnedDescriptor
from atbu.mp_pipeline.pipe_descriptor import grow_pipe

from .buffers import new_buffer
from .byte_stage import CHUNK_BYTES
from .errors import ProgramFailed
from .supervised import SILENCE_S, SupervisedProgram

#: From this on a pipe is made larger; all pipes of a user share one limit.
_LARGE_BYTES: Final = 64 << 10


class ProgramPump:
    """One program's run, from its start to its end; ``with`` ends it in any case.

    Args:
        reader: What the program reads; left where the program has stopped reading.
        writer: Takes what it writes; not closed.
        label: What messages call the program.
        ok_status: The exit statuses that count as success.
        interrupt_fd: Once it is readable another stage has failed.
    """

    def __init__(
        self,
        reader: io.BufferedReader,
        writer: io.BufferedWriter,
        label: str,
        ok_status: Sequence[int],
        interrupt_fd: int | None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._label = label
        self._ok_status = ok_status
        self._interrupt_fd = interrupt_fd
        self._source = _descriptor_of(reader)
        self._program: SupervisedProgram | None = None
        self._stdin: OwnedDescriptor | None = None
        self._stdout: OwnedDescriptor | None = None
        self._buffer_in = new_buffer(CHUNK_BYTES)
        self._buffer_out = new_buffer(CHUNK_BYTES)
        self._pending = self._buffer_in[:0]
        self._is_input_open = True
        self._has_ended = False
        self._silent_since_s = 0.0

    def __enter__(self) -> ProgramPump:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The program first, for the end of its input would tell it that all is well.
        if self._program is not None:
            self._program.end()
        for owned in (self._stdin, self._stdout):
            if owned is not None:
                owned.close()

    def start(self, argv: Sequence[str], cwd: str | None, env: Mapping[str, str]) -> None:
        """Start the program.

        Raises:
            OSError: No process or descriptor can be had.
        """
        stdin, writer = os.pipe()
        self._stdin = OwnedDescriptor(writer)
        try:
            reader, stdout = os.pipe()
            self._stdout = OwnedDescriptor(reader)
            os.set_blocking(writer, False)
            try:
                self._program = SupervisedProgram(argv, stdin=stdin, stdout=stdout, held_input=writer, cwd=cwd, env=env)
            finally:
                os.close(stdout)
        finally:
            os.close(stdin)

    def run(self) -> None:
        """Move everything, until the program has ended and all it has written is with the writer.

        Raises:
            ProgramFailed: It could not be started, or did not end as it should.
            PipeConnectionAborted, OSError: The input or the output failed; the program is then still to be ended.
        """
        assert self._program is not None
        while self._stdout is not None or not self._has_ended:
            if self._is_input_open and not self._pending and self._is_input_ahead():
                self._read()
            ready = self._wait()
            if self._program.fileno() in ready:
                self._take_report()
            if self._interrupt_fd is not None and self._interrupt_fd in ready:
                raise PipeConnectionAborted("another stage of the chain has failed")
            if self._stdout is not None and self._stdout.fileno() in ready:
                self._take_output(self._stdout)
            if self._stdin is not None and self._stdin.fileno() in ready:
                self._feed(self._stdin)
            elif self._source in ready and self._is_input_open and not self._pending:
                self._read()

    def _wait(self) -> dict[int, int]:
        poll = select.poll()
        for fd, events in self._awaited():
            poll.register(fd, events)
        timeout_s = None
        if self._has_ended:
            timeout_s = self._silent_since_s + SILENCE_S - time.monotonic()
        ready = dict(poll.poll(0))
        if not ready:
            self._writer.flush()  # whoever reads it need not wait for more than there is
            ready = dict(poll.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000))
        if not ready:
            problem = "has left a process behind that holds its output open, so nobody knows whether this is all: "
            problem += "let it wait for that one, or redirect that one's output"
            raise ProgramFailed(self._label, problem, None, b"")
        return ready

    def _awaited(self) -> Iterator[tuple[int, int]]:
        assert self._program is not None
        if self._interrupt_fd is not None:
            yield self._interrupt_fd, select.POLLIN
        if self._stdout is not None:
            yield self._stdout.fileno(), select.POLLIN
        if not self._has_ended:
            yield self._program.fileno(), select.POLLIN
            if self._pending and self._stdin is not None:
                yield self._stdin.fileno(), select.POLLOUT
            elif self._is_input_open and self._source is not None:
                yield self._source, select.POLLIN

    def _take_report(self) -> None:
        assert self._program is not None
        if self._program.receive().check(self._label, self._ok_status):
            self._has_ended = True
            self._is_input_open = False
            self._pending = self._buffer_in[:0]
            self._silent_since_s = time.monotonic()

    def _is_input_ahead(self) -> bool:
        """Whether the reader can be read without anything coming from its descriptor."""
        return self._source is None or bool(getattr(self._reader.raw, "has_message_ahead", False))

    def _read(self) -> None:
        n = self._reader.readinto1(self._buffer_in)
        self._pending = self._buffer_in[:n]
        if n == 0:
            self._is_input_open = False
            self._close_input()
        elif n >= _LARGE_BYTES and self._stdin is not None:
            grow_pipe(self._stdin.fileno())
        if self._stdin is not None and n:
            self._feed(self._stdin)

    def _close_input(self) -> None:
        """All has been fed, and what came before has succeeded: the program may see the end."""
        assert self._program is not None
        stdin, self._stdin = self._stdin, None
        if stdin is not None:
            stdin.close()
        self._program.end_input()

    def _feed(self, stdin: OwnedDescriptor) -> None:
        try:
            self._pending = self._pending[os.write(stdin.fileno(), self._pending) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            # It wants no more, which is its right; how it ends will tell.
            self._is_input_open = False
            self._pending = self._buffer_in[:0]

    def _take_output(self, stdout: OwnedDescriptor) -> None:
        n = os.readv(stdout.fileno(), (self._buffer_out,))
        self._silent_since_s = time.monotonic()
        if n == 0:
            self._stdout = None
            stdout.close()
            return
        self._writer.write(self._buffer_out[:n])
        if n >= _LARGE_BYTES:
            grow_pipe(stdout.fileno())


def _descriptor_of(reader: io.BufferedReader) -> int | None:
    """What to wait on for more of it; None: it can always be read."""
    try:
        return reader.fileno()
    except OSError:  # of bytes in memory
        return None


__all__ = ["ProgramPump"]
