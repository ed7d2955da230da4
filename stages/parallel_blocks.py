"""Compression of one stream by all cores: blocks of a fixed size, packed in threads, joined in their order.

::

    reader ──▶ block 1 ──▶ pack (thread) ──┐
               block 2 ──▶ pack (thread) ──┼─▶ join, in order ──▶ writer
               block 3 ──▶ pack (thread) ──┘

Where blocks end depends on the data alone, and packing one on nothing but the data and the options: the number of
threads does not show in the output.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from .buffers import new_buffer
from .byte_stage import ByteStage
from .checks import check_flag, check_whole_number
from .file_item import FileItem
from .roundtrip import proved_by_decoding

if TYPE_CHECKING:
    from concurrent.futures import Future

MAX_THREADS: Final = 256
#: Blocks read ahead of those that are being packed: so many that no thread waits while the next one is read.
_READ_AHEAD_BLOCKS: Final = 2


class BlockFormat(Protocol):
    """How one stream of a format is put together; an object for each stream.

    What has been written before :meth:`tail` must be no complete stream of its format, for a run that fails in the
    middle writes no more.
    """

    #: How many bytes go into a block; only the last is shorter.
    block_bytes: int
    #: How many bytes before a block its packing looks back to.
    history_bytes: int

    def head(self) -> bytes:
        """What stands before the first block."""
        ...

    def pack(self, block: memoryview, history: bytes, is_last: bool) -> Any:
        """Compress one block. Runs in any thread, several at a time; the last one may be empty."""
        ...

    def join(self, packed: Any) -> bytes:
        """What of a packed block is written; called for each in its order."""
        ...

    def tail(self) -> bytes:
        """What stands behind the last block."""
        ...


def write_blocks(
    reader: io.BufferedReader, writer: io.BufferedWriter, block_format: BlockFormat, count_threads: Callable[[], int]
) -> None:
    """Compress ``reader`` to its end; a block for each thread and a few more are in memory.

    ``count_threads`` is asked only if there is something to share.
    """
    block_bytes = block_format.block_bytes
    writer.write(block_format.head())
    buffer = new_buffer(block_bytes)
    # To the full, however the data arrive: only then is a short block the last.
    n = reader.readinto(buffer)
    if n < block_bytes:
        writer.write(block_format.join(block_format.pack(buffer[:n], b"", True)))
    else:
        _write_in_threads(reader, writer, block_format, count_threads(), buffer)
    writer.write(block_format.tail())


def _write_in_threads(
    reader: io.BufferedReader, writer: io.BufferedWriter, block_format: BlockFormat, threads: int, buffer: memoryview
) -> None:
    from concurrent.futures import ThreadPoolExecutor  # most inputs are small and go without

    block_bytes, history_bytes = block_format.block_bytes, block_format.history_bytes
    pending: deque[tuple[Future[Any], memoryview]] = deque()
    free: list[memoryview] = []
    history = b""
    n = block_bytes
    executor = ThreadPoolExecutor(threads, "pack")
    try:
        while True:
            is_last = n < block_bytes
            pending.append((executor.submit(block_format.pack, buffer[:n], history, is_last), buffer))
            if is_last:
                break
            history = bytes(buffer[n - history_bytes : n])
            while len(pending) >= threads + _READ_AHEAD_BLOCKS or (pending and pending[0][0].done()):
                free.append(_write_first(pending, writer, block_format))
            buffer = free.pop() if free else new_buffer(block_bytes)
            n = reader.readinto(buffer)
        while pending:
            _write_first(pending, writer, block_format)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _write_first(
    pending: deque[tuple[Future[Any], memoryview]], writer: io.BufferedWriter, block_format: BlockFormat
) -> memoryview:
    """Write the oldest block; gives its buffer back for another."""
    future, buffer = pending.popleft()
    writer.write(block_format.join(future.result()))
    return buffer


class BlockStage(ByteStage):
    """A compressor whose format allows blocks. Derive, and write :meth:`new_format` and :meth:`new_decoder`."""

    is_compressed_output = True
    #: There is no more to a stage than its options, so keeping it only saves sending them.
    keep_in_worker: ClassVar[bool] = True

    def __init__(self, threads: int | None, roundtrip: bool) -> None:
        super().__init__()
        self.threads = None if threads is None else check_whole_number("threads", threads, 1, MAX_THREADS)
        self.roundtrip = check_flag("roundtrip", roundtrip)

    def new_format(self) -> BlockFormat:
        """What puts one stream together."""
        raise NotImplementedError

    def new_decoder(self) -> ByteStage:
        """The stage that decodes what this one writes."""
        raise NotImplementedError

    def default_threads(self) -> int:
        """How many threads share one input where the options do not say."""
        from atbu.mp_pipeline.cpus import usable_cpus

        return usable_cpus()

    @proved_by_decoding
    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        write_blocks(reader, writer, self.new_format(), self._count_threads)

    def _count_threads(self) -> int:
        return min(MAX_THREADS, self.default_threads()) if self.threads is None else self.threads


__all__ = ["MAX_THREADS", "BlockFormat", "BlockStage", "write_blocks"]
