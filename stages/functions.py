"""How a user's function is applied to bytes: to chunks, or line by line."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from .errors import StageDataError
from .file_item import FileItem

#: Portions that stages read and write. Fewer system calls and switches than with less; beyond, the pipe's own
#: 1 MiB buffer is the limit and the data leaves the processor's cache before the neighbour reads it.
CHUNK_BYTES: Final = 1 << 20
#: A line filter reads less, so that its many small objects stay in the processor's cache.
_LINES_BYTES: Final = 256 << 10
#: It holds one line in memory; what is longer is hardly text.
_MAX_LINE_BYTES: Final = 64 << 20
#: As much of a line is shown in a message.
_MAX_SHOWN_BYTES: Final = 100


class FunctionStage(Protocol):
    """What a stage is that applies a function."""

    options: dict[str, Any]

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


def apply_to_lines(stage: FunctionStage, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
    """Give the function each line, and write what it gives."""
    for block in blocks_of_lines(stage, reader, item):
        writer.write(filtered_lines(stage, block))


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
    # All the loops over lines are C's; a dropped line is None, and an empty one adds nothing either.
    function = functools.partial(stage.function, **stage.options) if stage.options else stage.function
    source = io.BytesIO(lines)
    try:
        made = list(filter(None, map(function, source)))
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
