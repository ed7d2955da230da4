"""How a user's function is applied to bytes: to chunks, or line by line."""

from __future__ import annotations

import functools
import io
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from .buffers import keep_freed_memory
from .errors import StageDataError
from .file_item import FileItem

#: Portions that stages read and write. Fewer system calls and switches than with less; beyond, the pipe's own
#: 1 MiB buffer is the limit and the data leaves the processor's cache before the neighbour reads it.
CHUNK_BYTES: Final = 1 << 20
#: A line filter reads less, so that its many small objects stay in the processor's cache.
_LINES_BYTES: Final = 256 << 10
#: It holds one line in memory; what is longer is hardly text.
_MAX_LINE_BYTES: Final = 64 << 20
#: With how much of an input other processes that were asked for are not started.
_BLOCKS_ALONE: Final = 8
#: And for how much work those that were not: starting one costs a fifth of this, and in a batch no CPU is idle.
_ALONE_S: Final = 0.2
#: As much of a line is shown in a message.
_MAX_SHOWN_BYTES: Final = 100


class FunctionStage(Protocol):
    """What a stage is that applies a function."""

    options: dict[str, Any]

    @property
    def is_stateless(self) -> bool:
        """Whether who wrote the function says that what it makes depends on nothing but its arguments."""

    @property
    def function(self) -> Callable[..., Any]:
        """What is applied."""

    @property
    def label(self) -> str:
        """What messages call the stage."""


def apply_to_chunks(stage: FunctionStage, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
    """Give the function an iterator of chunks, and write the chunks that it gives."""
    chunks = iter(functools.partial(reader.read1, CHUNK_BYTES), b"")
    made: Iterable[bytes] = stage.function(chunks, **stage.options)
    if isinstance(made, (bytes, bytearray, memoryview, str)) or not isinstance(made, Iterable):
        kind = type(made).__name__
        raise TypeError(f"stage {stage.label!r}: the function must yield chunks of bytes, and has returned {kind}")
    for chunk in made:
        if not isinstance(chunk, (bytes, bytearray, memoryview)):
            raise _wrong_type(stage, chunk)
        writer.write(chunk)


def apply_to_lines(
    stage: FunctionStage,
    reader: io.BufferedReader,
    writer: io.BufferedWriter,
    item: FileItem,
    processes: int | None = None,
) -> None:
    """Give the function each line, and write what it gives.

    Args:
        processes: In how many; if None, one for each CPU where the work is long and the function keeps no state.
    """
    keep_freed_memory()
    blocks = blocks_of_lines(stage, reader, item)
    for block in blocks if processes == 1 else _first_blocks(blocks, processes is not None):
        writer.write(filtered_lines(stage, block))
    block_after = next(blocks, None)
    if block_after is not None:
        from .line_processes import apply_in_processes  # most inputs end before

        apply_in_processes(stage, itertools.chain((block_after,), blocks), writer, processes)


def _first_blocks(blocks: Iterator[bytes], is_asked_for: bool) -> Iterator[bytes]:
    """Those before it is worth while to start another process, which takes as long as some of them."""
    started_s = time.thread_time()
    for number, block in enumerate(blocks, start=1):
        yield block
        if (number >= _BLOCKS_ALONE) if is_asked_for else (time.thread_time() - started_s >= _ALONE_S):
            return


def blocks_of_lines(stage: FunctionStage, reader: io.BufferedReader, item: FileItem) -> Iterator[bytes]:
    """All of the input in portions of whole lines, but for the last one's last line, which may have no newline."""
    begun: list[bytes] = []  # the line that is not at its end yet
    begun_bytes = 0
    while chunk := reader.read1(_LINES_BYTES):
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield b"".join((*begun, memoryview(chunk)[:cut]))  # a slice of the chunk itself would be one copy more
            begun, begun_bytes = [], 0
        begun.append(chunk[cut:])
        begun_bytes += len(chunk) - cut
        if begun_bytes > _MAX_LINE_BYTES:
            raise StageDataError(stage.label, item.name, f"a line is longer than {_MAX_LINE_BYTES >> 20} MiB")
    if begun_bytes:
        yield b"".join(begun)


def filtered_lines(stage: FunctionStage, lines: bytes) -> bytes:
    """What the function makes of a portion of whole lines."""
    function = functools.partial(stage.function, **stage.options) if stage.options else stage.function
    source = io.BytesIO(lines)
    try:
        # A comprehension enters a Python function faster than map() does. Dropped lines are None; empty ones add nil.
        made = [made_of_it for line in source if (made_of_it := function(line))]
    except Exception as ex:
        ex.add_note(f"in the line {_last_line(lines, source.tell())}")
        raise
    try:
        return b"".join(made)
    except TypeError:
        wrong = next(line for line in made if not isinstance(line, (bytes, bytearray, memoryview)))
        raise _wrong_type(stage, wrong) from None


def _last_line(lines: bytes, end: int) -> str:
    """The line that ends at ``end``, for a message."""
    line = lines[lines.rfind(b"\n", 0, end - 1) + 1 : end]
    return repr(line) if len(line) <= _MAX_SHOWN_BYTES else f"{line[:_MAX_SHOWN_BYTES]!r}…"


def _wrong_type(stage: FunctionStage, found: object) -> TypeError:
    return TypeError(f"stage {stage.label!r}: the function must give bytes, not {type(found).__name__}")


__all__ = ["CHUNK_BYTES", "FunctionStage", "apply_to_chunks", "apply_to_lines", "blocks_of_lines", "filtered_lines"]
