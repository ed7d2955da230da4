"""The option ``roundtrip``: what a compressor writes is decoded at once, and compared with what it has read.

::

    reader ──▶ digest ──▶ compressor ──▶ writer
                                │
                                └─▶ a few portions ──▶ decoder (thread) ──▶ digest

The stage returns only if both digests are the same, so that nothing is published that does not decode.
"""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from atbu.mp_pipeline.exception import PipelineError

from .buffers import new_buffer

if TYPE_CHECKING:
    import hashlib

    from _typeshed import ReadableBuffer, WriteableBuffer

    from .byte_stage import ByteStage
    from .file_item import FileItem

    Run = Callable[[Any, io.BufferedReader, io.BufferedWriter, FileItem], None]

#: How far the decoder may be behind.
_MAX_WAITING_BYTES: Final = 4 << 20
_BUFFER_BYTES: Final = 1 << 16


class RoundTripError(PipelineError):
    """What a stage has written does not decode to what it has read.

    Args:
        stage: What messages call the stage.
        item: What messages call the input.
        problem: What came of decoding it.
    """

    def __init__(self, stage: str, item: str, problem: str) -> None:
        super().__init__(
            f"stage {stage!r}: {item!r}: the output does not decode to the input: {problem}; "
            "it is not published. Memory that is faulty? Try again, and test the machine's memory"
        )
        self.stage = stage
        self.item = item
        self.problem = problem


def proved_by_decoding(run: Run) -> Run:
    """Make a compressor's ``run`` heed its attribute ``roundtrip``; its ``new_decoder()`` gives the way back."""

    @functools.wraps(run)
    def run_and_prove(stage: Any, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        if not stage.roundtrip:
            run(stage, reader, writer, item)
            return
        source = _DigestingReader(reader)
        with _Decoding(stage.new_decoder(), item) as decoding:
            copy = _Copies(writer, decoding.handover)
            own_reader: io.BufferedReader = io.BufferedReader(source, _BUFFER_BYTES)
            own_writer: io.BufferedWriter = io.BufferedWriter(copy, _BUFFER_BYTES)
            try:
                run(stage, own_reader, own_writer, item)
                own_writer.flush()
                is_all_read = not own_reader.read1(_BUFFER_BYTES)
            finally:
                copy.close()  # before the writer's destructor, which would send what a failed run has left in it
            problem = decoding.problem_beside(source) if is_all_read else "the input was not read to its end"
        if problem is not None:
            raise RoundTripError(stage.label, item.name, problem)

    return run_and_prove


def _new_digest() -> hashlib._Hash:
    import hashlib  # brings OpenSSL, which only who proves needs

    return hashlib.sha256()


class _DigestingReader(io.RawIOBase):
    """Hands ``reader`` on and takes the digest of what it gives."""

    def __init__(self, reader: io.BufferedReader) -> None:
        super().__init__()
        self._reader = reader
        self.digest = _new_digest()
        self.num_bytes = 0
        #: How many bytes there will be, where that is known: it decides about the format, so it is passed on.
        self.size: int | None = getattr(reader.raw, "size", None)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        n = self._reader.readinto1(buffer)
        self.digest.update(memoryview(buffer).cast("B")[:n])
        self.num_bytes += n
        return n


class _Copies(io.RawIOBase):
    """Writes to ``writer``, and gives the decoder the same."""

    def __init__(self, writer: io.BufferedWriter, handover: _Handover) -> None:
        super().__init__()
        self._writer = writer
        self._handover = handover

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        n = self._writer.write(data)
        self._handover.put(memoryview(data).cast("B"))
        return n


class _Handover(io.RawIOBase):
    """Bytes on their way to the decoder: the compressor's thread puts them in, the decoder's reads them as a file.

    They wait in one buffer that is used round and round, and are read in portions of one size. Objects of all sizes,
    in the arena of the decoder's thread or made on one thread and freed on another, would have the C library keep more
    and more memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self._condition = threading.Condition()
        self._ring = new_buffer(_MAX_WAITING_BYTES)
        self._start = 0
        self._waiting_bytes = 0
        self._has_writer = True
        self._has_reader = True
        self._is_abandoned = False

    def put(self, data: memoryview) -> None:
        """Give the decoder more; waits while it has enough. What nobody reads any more is dropped."""
        while data:
            with self._condition:
                while self._waiting_bytes == _MAX_WAITING_BYTES and self._has_reader:
                    self._condition.wait()
                if not self._has_reader:
                    return
                end = (self._start + self._waiting_bytes) % _MAX_WAITING_BYTES
                n = min(len(data), _MAX_WAITING_BYTES - self._waiting_bytes, _MAX_WAITING_BYTES - end)
                self._ring[end : end + n] = data[:n]
                self._waiting_bytes += n
                self._condition.notify_all()
            data = data[n:]

    def end(self) -> None:
        """There is no more to come."""
        with self._condition:
            self._has_writer = False
            self._condition.notify_all()

    def abandon(self) -> None:
        """There is no more to come, and that is not the end of the data: reading raises."""
        with self._condition:
            self._is_abandoned = True
            self._condition.notify_all()

    def stop_reading(self) -> None:
        """Nobody will read any more."""
        with self._condition:
            self._has_reader = False
            self._condition.notify_all()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        # Not the few that there may be. Whoever waits to put more in waits for no more than this to be taken out.
        enough_bytes = min(len(view), _MAX_WAITING_BYTES)
        with self._condition:
            while self._waiting_bytes < enough_bytes and self._has_writer and not self._is_abandoned:
                self._condition.wait()
            if self._is_abandoned:
                raise BrokenPipeError("the compressor has failed")  # its own error is the one that is told
            n = min(len(view), self._waiting_bytes, _MAX_WAITING_BYTES - self._start)
            view[:n] = self._ring[self._start : self._start + n]
            self._waiting_bytes -= n
            self._start = (self._start + n) % _MAX_WAITING_BYTES
            end = self._start + self._waiting_bytes
            if self._waiting_bytes <= min(self._start, _BUFFER_BYTES) and end <= _MAX_WAITING_BYTES:
                # From the front again where little waits: a decoder that keeps up needs little of the buffer.
                self._ring[: self._waiting_bytes] = self._ring[self._start : end]
                self._start = 0
            self._condition.notify_all()
        return n


class _Decoding:
    """The decoder on a thread of its own, from entering ``with`` to leaving it at the latest."""

    def __init__(self, decoder: ByteStage, item: FileItem) -> None:
        self.handover = _Handover()
        from .member_decoding import MemberStage  # not at a start, which few of these follow

        self._decoder = decoder
        if isinstance(decoder, MemberStage):
            decoder.refuses_garbage = True  # a compressor that has written more than its format has failed
        self._item = item
        self._error: BaseException | None = None
        self._made = _Digest()
        self._thread = threading.Thread(target=self._decode, name="roundtrip")

    def __enter__(self) -> _Decoding:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.handover.abandon()
        self._thread.join()

    def problem_beside(self, source: _DigestingReader) -> str | None:
        """Wait until all is decoded; says what is wrong with the result, where something is."""
        self.handover.end()
        self._thread.join()
        if self._error is not None:
            return getattr(self._error, "problem", None) or f"{type(self._error).__name__}: {self._error}"
        if self._made.num_bytes != source.num_bytes:
            return f"{source.num_bytes} bytes have become {self._made.num_bytes}"
        if self._made.digest.digest() != source.digest.digest():
            return f"the same number of bytes, {source.num_bytes}, but not the same bytes"
        return None

    def _decode(self) -> None:
        reader: io.BufferedReader = io.BufferedReader(self.handover, _BUFFER_BYTES)
        writer: io.BufferedWriter = io.BufferedWriter(self._made, _BUFFER_BYTES)
        try:
            self._decoder.run(reader, writer, self._item)
            writer.flush()
        except BaseException as ex:  # noqa: BLE001 - told by problem_beside(), on the thread that asks
            self._error = ex
        finally:
            self.handover.stop_reading()
            self._made.close()  # before the writer's destructor, which would send what is left in it


class _Digest(io.RawIOBase):
    """Keeps of what is written to it the digest alone."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = _new_digest()
        self.num_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data).cast("B")
        self.digest.update(view)
        self.num_bytes += len(view)
        return len(view)


__all__ = ["RoundTripError", "proved_by_decoding"]
