"""Stages that take bytes and yield bytes: the class ByteStage, and two decorators that make one of a function."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final, Literal

from atbu.mp_pipeline.exception import InvalidStateError
from atbu.mp_pipeline.pipe_io import PipeConnectionIO
from atbu.mp_pipeline.stage import SubprocessPipelineStage

from .errors import StageDataError
from .file_item import FileItem
from .source_reader import SourceReader

#: Portions that stages read and write. Fewer system calls and switches than with less; beyond, the pipe's own
#: 1 MiB buffer is the limit and the data leaves the processor's cache before the neighbour reads it.
CHUNK_BYTES: Final = 1 << 20
#: Gathers small reads and writes; whatever is larger passes by it without a copy.
_BUFFER_BYTES: Final = 1 << 16
#: A line filter reads less, so that its many small objects stay in the processor's cache.
_LINES_BYTES: Final = 256 << 10
#: It holds one line in memory; what is longer is hardly text.
_MAX_LINE_BYTES: Final = 64 << 20


class ByteStage(SubprocessPipelineStage):
    """A stage over bytes. Derive, and write :meth:`run`; the options are the keyword arguments of ``__init__``.

    The first stage of a chain reads the item's source; between two stages runs a pipe. A stage never sends its
    own end: it only returns from :meth:`run`, or raises.
    """

    #: What messages call the stage.
    name: str | None = None
    #: Where the work runs.
    run_in: Literal["process", "thread"] = "process"
    #: What its output is called: the input's name and this.
    adds_suffix: str | None = None
    #: Or the input's name without one of these, each with what stands in its place.
    strips_suffixes: ClassVar[Mapping[str, str]] = {}
    #: Whether its output is nothing for a terminal.
    is_compressed_output: bool = False
    #: It works on bytes, and so cannot follow a stage that has none to give.
    needs_bytes: ClassVar[bool] = True
    #: It writes the target, and nothing that needs bytes can follow.
    is_sink: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        """Read ``reader`` to its end and write ``writer``; both are closed by the caller.

        Finish the format only after ``reader`` has come to its end: if whatever comes before fails, it raises
        PipeConnectionAborted instead of ending, and that error is best left alone. Use portions of
        :data:`CHUNK_BYTES`. What ``run`` does not read is read for it, so that the stage before does not fail.

        Args:
            item: This stage's copy; attributes set here are carried back.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what it does: write its run()")

    @property
    def label(self) -> str:
        """What messages call the stage."""
        return self.name or type(self).__name__

    @property
    def is_subprocess(self) -> bool:
        return self.run_in == "process"

    @property
    def is_pipe_with_next_stage(self) -> bool:
        return not self.is_sink

    def is_for_stage(self, pwi: Any) -> bool:
        return isinstance(pwi, FileItem)

    def perform_stage_work(self, pwi: FileItem, **kwargs: Any) -> FileItem:
        with self.open_input(pwi) as raw_in, self.open_output(pwi) as raw_out:
            reader: io.BufferedReader = io.BufferedReader(raw_in, _BUFFER_BYTES)
            writer: io.BufferedWriter = io.BufferedWriter(raw_out, _BUFFER_BYTES)
            try:
                self._own().run(reader, writer, pwi)
                if pwi.pipe_in is not None and not reader.closed:
                    while reader.read1(CHUNK_BYTES):
                        pass
                if not writer.closed:
                    writer.flush()
            finally:
                # Before the writer's destructor, which would send what a failed run has left in the buffer.
                raw_out.close()
        return pwi

    def _own(self) -> ByteStage:
        """The object whose run() works on one item, and at that time on no other.

        In a worker process that is this one. On threads it is at work for several items at once, and what it keeps
        from item to item (compressors, buffers) is for one at a time: pickling leaves that out, and so does copying.
        """
        return copy.copy(self) if self.keep_in_worker and not self.is_subprocess else self

    @contextlib.contextmanager
    def open_input(self, item: FileItem) -> Iterator[io.RawIOBase]:
        """The raw end to read from: the pipe, or for the first stage of a chain the item's source."""
        if item.pipe_in is not None:
            with contextlib.closing(PipeConnectionIO(item.pipe_in, is_write=False)) as pipe:
                yield pipe
            return
        with contextlib.closing(SourceReader(item.source, item.name)) as source:
            yield source
            item.bytes_read = source.bytes_read

    @contextlib.contextmanager
    def open_output(self, item: FileItem) -> Iterator[io.RawIOBase]:
        """The raw end to write to. After a successful run the block is left normally, else by its error."""
        if item.pipe_out is None:
            raise InvalidStateError(
                f"stage {self.label!r} yields bytes and nothing takes them: put the stage 'write' after it"
            )
        with contextlib.closing(PipeConnectionIO(item.pipe_out, is_write=True)) as pipe:
            yield pipe


def known_size(reader: io.BufferedReader) -> int | None:
    """How many bytes ``reader`` will have given at its end, where what it reads from can tell by its ``size``."""
    size: int | None = getattr(reader.raw, "size", None)
    return size


class FilterStage(ByteStage):
    """A stage made of a function by a decorator, whose name it takes over.

    It can stand in a list of stages as it is. Called with the function's keyword arguments, it gives a stage with
    those options. In a pickle the function stands by name, as functions do.

    Args:
        function: The decorated function; for its own tests it can be called by this attribute.
        apply: Runs it: takes this stage, the reader, the writer and the item.
        options: Its keyword arguments.
    """

    _original: FilterStage | None = None
    __qualname__: str  # of the function; pickle finds it by this name

    def __init__(
        self, function: Callable[..., Any], apply: Callable[..., None], options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.options = dict(options or {})
        self.name = function.__name__
        self._apply = apply

    def __call__(self, **options: Any) -> FilterStage:
        """A new stage with these options.

        Raises:
            ValueError: The function does not have one of them, or needs another.
        """
        options = self.options | options
        try:
            inspect.signature(self.function).bind(None, **options)
        except TypeError as ex:
            raise ValueError(f"{self.name}: {ex}") from None
        stage = FilterStage(self.function, self._apply, options)
        stage._original = self._original or self
        return stage

    def __reduce__(self) -> str | tuple[Any, ...]:
        original = self._original
        if original is None:
            return self.__qualname__  # "the global of that name", where unpickling finds this very object
        settings = {key: value for key, value in self.__dict__.items() if key not in original.__dict__}
        del settings["_original"]
        return _restore_filter, (original, self.options, settings | {"name": self.name})

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        self._apply(self, reader, writer, item)

    def wrong_type(self, found: object) -> TypeError:
        """The error for a function that gave something else than bytes."""
        return TypeError(f"stage {self.label!r}: the function must give bytes, not {type(found).__name__}")


def _restore_filter(original: FilterStage, options: dict[str, Any], settings: dict[str, Any]) -> FilterStage:
    stage = original(**options)
    stage.__dict__.update(settings)
    return stage


def _apply_to_chunks(stage: FilterStage, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
    chunks = iter(functools.partial(reader.read1, CHUNK_BYTES), b"")
    made: Iterable[bytes] = stage.function(chunks, **stage.options)
    for chunk in made:
        if not isinstance(chunk, (bytes, bytearray, memoryview)):
            raise stage.wrong_type(chunk)
        writer.write(chunk)


def _apply_to_lines(stage: FilterStage, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
    begun: list[bytes] = []  # the line that is not at its end yet
    begun_bytes = 0
    while chunk := reader.read1(_LINES_BYTES):
        cut = chunk.rfind(b"\n") + 1
        if cut:
            begun.append(chunk[:cut])
            writer.write(_filtered_lines(stage, b"".join(begun)))
            begun, begun_bytes = [], 0
        begun.append(chunk[cut:])
        begun_bytes += len(chunk) - cut
        if begun_bytes > _MAX_LINE_BYTES:
            raise StageDataError(stage.label, item.name, f"a line is longer than {_MAX_LINE_BYTES >> 20} MiB")
    writer.write(_filtered_lines(stage, b"".join(begun)))


def _filtered_lines(stage: FilterStage, lines: bytes) -> bytes:
    # All the loops over lines are C's; a dropped line is None, and an empty one adds nothing either.
    function = functools.partial(stage.function, **stage.options) if stage.options else stage.function
    made = list(filter(None, map(function, io.BytesIO(lines).readlines())))
    try:
        return b"".join(made)
    except TypeError:
        wrong = next(line for line in made if not isinstance(line, (bytes, bytearray, memoryview)))
        raise stage.wrong_type(wrong) from None


def chunk_filter(function: Callable[..., Iterable[bytes]]) -> FilterStage:
    """Make a stage of a function at module level: an iterator of chunks in, an iterable of chunks out.

    ::

        @chunk_filter
        def upper(chunks):
            for chunk in chunks:
                yield chunk.upper()

    Chunks have any size from one byte to :data:`CHUNK_BYTES`, and end anywhere. Keyword parameters are options.
    """
    return FilterStage(function, _apply_to_chunks)


def line_filter(function: Callable[..., bytes | None]) -> FilterStage:
    """Make a stage of a function at module level: one line in, with its newline, one line out, or None for none.

    ::

        @line_filter
        def drop_debug(line):
            return None if b"DEBUG" in line else line

    Lines end with ``b"\\n"``, but for the last one of a file that does not. Keyword parameters are options.
    """
    return FilterStage(function, _apply_to_lines)


__all__ = ["CHUNK_BYTES", "ByteStage", "FilterStage", "chunk_filter", "known_size", "line_filter"]
