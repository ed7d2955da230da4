"""Stages that take bytes and yield bytes: the class ByteStage, and two decorators that make one of a function."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, overload

from atbu.mp_pipeline.exception import InvalidStateError
from atbu.mp_pipeline.stage import SubprocessPipelineStage

from .endpoints import CommandSource
from .file_item import FileItem
from .functions import CHUNK_BYTES, apply_to_chunks, apply_to_lines
from .source_reader import SourceReader
from .taps import TappedReader

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from atbu.mp_pipeline.pipe_io import PipeConnectionIO

    from .command_source import CommandReader
    from .pass_through import PassThroughStage

#: Gathers small reads and writes; whatever is larger passes by it without a copy.
_BUFFER_BYTES: Final = 1 << 16


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
    #: Whether its output is encrypted, so that nobody can make it smaller.
    is_encrypted_output: bool = False
    #: It takes text apart, so that compressed or encrypted bytes make no sense to it.
    wants_text: bool = False
    #: It works on bytes, and so cannot follow a stage that has none to give.
    needs_bytes: ClassVar[bool] = True
    #: It writes the target, and nothing that needs bytes can follow.
    is_sink: ClassVar[bool] = False
    #: It passes its bytes on unchanged.
    is_pass_through: ClassVar[bool] = False
    #: Options that are paths: in a definition, relative ones are relative to its file.
    path_options: ClassVar[tuple[str, ...]] = ()
    #: The same for options that are patterns of paths, in which braces mean something.
    pattern_options: ClassVar[tuple[str, ...]] = ()
    #: Options that name a Python object, "module:object" or "./file.py:object": they are given the object.
    object_options: ClassVar[tuple[str, ...]] = ()
    #: How it stands in a TOML, where its name alone would not do.
    example: ClassVar[str | None] = None
    #: Stages before this one that run inside it and see what it reads; set by the planner.
    taps: tuple[PassThroughStage, ...] = ()

    def __init__(self) -> None:
        super().__init__()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if isinstance(cls.strips_suffixes, (str, tuple, list, set)):  # easily taken for what it holds
            raise TypeError(f'{cls.__name__}.strips_suffixes must be a mapping, such as {{".gz": "", ".tgz": ".tar"}}')

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        """Read ``reader`` to its end and write ``writer``; both are closed by the caller.

        Finish the format only after ``reader`` has come to its end: if whatever comes before fails, it raises
        PipeConnectionAborted instead of ending, and that error is best left alone. Use portions of
        :data:`CHUNK_BYTES`. What ``run`` does not read is read for it, so that the stage before does not fail.

        Args:
            item: This stage's copy; attributes set here are carried back.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what it does: write its run()")

    def convert(self, data: bytes, item: FileItem) -> bytes | None:
        """A shortcut for small files: what :meth:`run` would make of ``data``, the whole input, byte for byte.

        None: ``run`` has to do it, as it has for every stage that leaves this alone.
        """
        return None

    def memory_bytes(self) -> int | None:
        """How much memory one run of it may take at most, roughly; None where it takes next to nothing.

        Asked in the parent, and only where somebody wants to know: it may load a library for the answer.
        """
        return None

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
        if not isinstance(pwi, FileItem):
            return False
        self.prepare(pwi)
        for tap in self.taps:
            tap.prepare(pwi)
        return True

    def prepare(self, item: FileItem) -> None:
        """Say on the submitted item, in the parent and before its first attempt, what this stage will need of it."""

    def perform_stage_work(self, pwi: FileItem, **kwargs: Any) -> FileItem:
        with self.open_input(pwi) as raw_in, self.open_output(pwi) as raw_out:
            self.work_between(raw_in, raw_out, pwi, reads_to_end=pwi.pipe_in is not None)
        return pwi

    def work_between(self, raw_in: io.RawIOBase, raw_out: io.RawIOBase, item: FileItem, *, reads_to_end: bool) -> None:
        """Have :meth:`run` work from one raw end to the other, whatever they are; ``raw_out`` is closed.

        What the stage reads is seen by its taps, if it has some; if this returns, they have seen all of it.

        Args:
            reads_to_end: Whether what ``run`` leaves unread is read for it.
        """
        if not self.taps:
            self._work(raw_in, raw_out, item, reads_to_end)
            return
        with contextlib.closing(TappedReader(raw_in, [tap.new_watch(item) for tap in self.taps])) as tapped:
            self._work(tapped, raw_out, item, reads_to_end=True)
            tapped.check()

    def _work(self, raw_in: io.RawIOBase, raw_out: io.RawIOBase, item: FileItem, reads_to_end: bool) -> None:
        reader: io.BufferedReader = io.BufferedReader(raw_in, _BUFFER_BYTES)
        writer: io.BufferedWriter = io.BufferedWriter(raw_out, _BUFFER_BYTES)
        try:
            made: Any = self._own().run(reader, writer, item)  # type: ignore[func-returns-value]  # of a mistaken one
            if made is not None:
                self._refuse_generator(made)
            if reads_to_end and not reader.closed:
                while reader.read1(CHUNK_BYTES):
                    pass
            if not writer.closed:
                writer.flush()
        finally:
            # Before the writer's destructor, which would send what a failed run has left in the buffer.
            raw_out.close()

    def _refuse_generator(self, made: Any) -> None:
        """Raise where run() has run nothing: a ``yield`` or ``async`` in it makes it give an object instead."""
        if isinstance(made, (GeneratorType, CoroutineType)):
            made.close()
            kind = type(made).__name__
            raise TypeError(f"stage {self.label!r}: its run() gives a {kind}; it must write to the writer, not yield")

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
            with contextlib.closing(_pipe_end(item.pipe_in, is_write=False)) as pipe:
                yield pipe
            return
        item.begun_ns = time.monotonic_ns()
        with contextlib.closing(_open_source(item)) as source:
            yield source
            item.bytes_read = source.bytes_read

    @contextlib.contextmanager
    def open_output(self, item: FileItem) -> Iterator[io.RawIOBase]:
        """The raw end to write to. After a successful run the block is left normally, else by its error."""
        if item.pipe_out is None:
            raise InvalidStateError(
                f"stage {self.label!r} yields bytes and nothing takes them: put the stage 'write' after it"
            )
        with contextlib.closing(_pipe_end(item.pipe_out, is_write=True)) as pipe:
            yield pipe


def _pipe_end(connection: Connection, *, is_write: bool) -> PipeConnectionIO:
    from atbu.mp_pipeline.pipe_io import PipeConnectionIO  # for workers; the parent of a run needs none of it

    return PipeConnectionIO(connection, is_write=is_write)


def _open_source(item: FileItem) -> SourceReader | CommandReader:
    if isinstance(item.source, CommandSource):
        from .command_source import CommandReader  # few runs have a command

        return CommandReader(item.source)
    return SourceReader(item.source, item.name)


def known_size(reader: io.BufferedReader) -> int | None:
    """How many bytes ``reader`` will have given at its end, where its source can tell."""
    size = getattr(reader.raw, "size", None)  # a source's, a tap's on it, or a small file's in memory
    return size if isinstance(size, int) else None


class FilterStage(ByteStage):
    """A stage made of a function by a decorator, whose name it takes over.

    It can stand in a list of stages as it is. Called with the function's keyword arguments, it gives a stage with
    those options. In a pickle the function stands by name, as functions do.

    Args:
        function: The decorated function; for its own tests it can be called by this attribute.
        apply: Runs it: takes this stage, the reader, the writer and the item.
        options: Its keyword arguments.
    """

    #: Of a line filter: whether what the function makes depends on nothing but its arguments.
    is_stateless: bool = False
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
        import inspect  # costs 5 ms, and most runs have no function with options

        options = self.options | options
        try:
            inspect.signature(self.function).bind(None, **options)
        except TypeError as ex:
            raise ValueError(f"{self.name}: {ex}") from None
        stage = FilterStage(self.function, self._apply, options)
        stage.wants_text, stage.is_stateless = self.wants_text, self.is_stateless
        stage._original = self._original or self
        return stage

    @property
    def is_original(self) -> bool:
        """Whether it is what the decorator made, and not one that was made of it with options."""
        return self._original is None

    def __reduce__(self) -> str | tuple[Any, ...]:
        original = self._original
        if original is None:
            return self.__qualname__  # "the global of that name", where unpickling finds this very object
        settings = {key: value for key, value in self.__dict__.items() if key not in original.__dict__}
        del settings["_original"]
        return _restore_filter, (original, self.options, settings | {"name": self.name})

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        self._apply(self, reader, writer, item)


def _restore_filter(original: FilterStage, options: dict[str, Any], settings: dict[str, Any]) -> FilterStage:
    stage = original(**options)
    stage.__dict__.update(settings)
    return stage


def chunk_filter(function: Callable[..., Iterable[bytes]]) -> FilterStage:
    """Make a stage of a function at module level: an iterator of chunks in, an iterable of chunks out.

    ::

        @chunk_filter
        def upper(chunks):
            for chunk in chunks:
                yield chunk.upper()

    Chunks have any size from one byte to :data:`CHUNK_BYTES`, and end anywhere. Keyword parameters are options.
    """
    return FilterStage(function, apply_to_chunks)


@overload
def line_filter(function: Callable[..., bytes | None], /) -> FilterStage: ...


@overload
def line_filter(*, stateless: bool) -> Callable[[Callable[..., bytes | None]], FilterStage]: ...


def line_filter(
    function: Callable[..., bytes | None] | None = None, /, *, stateless: bool = False
) -> FilterStage | Callable[[Callable[..., bytes | None]], FilterStage]:
    """Make a stage of a function at module level: one line in, with its newline, one line out, or None for none.

    ::

        @line_filter
        def drop_debug(line):
            return None if b"DEBUG" in line else line

    Lines end with ``b"\\n"``, but for the last one of a file that does not. Keyword parameters are options.

    Args:
        stateless: ``@line_filter(stateless=True)`` says that what the function gives for a line depends on that line
            and the options alone, not on other lines or on when it is called. A long input is then shared by all CPUs.
    """
    if function is None:
        return functools.partial(_line_filter, stateless=stateless)
    return _line_filter(function, stateless)


def _line_filter(function: Callable[..., bytes | None], stateless: bool) -> FilterStage:
    stage = FilterStage(function, apply_to_lines)
    stage.wants_text, stage.is_stateless = True, stateless
    return stage


__all__ = ["CHUNK_BYTES", "ByteStage", "FilterStage", "chunk_filter", "known_size", "line_filter"]
