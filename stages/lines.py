"""Stages that apply a Python function: to each line, or to the chunks as they come."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Final

from .byte_stage import ByteStage, FilterStage
from .checks import Between, check_whole_number
from .file_item import FileItem
from .functions import apply_to_chunks, apply_to_lines

_MAX_PROCESSES: Final = 64


class _AppliedFunction(ByteStage):
    """What both stages share. The function stands in a pickle by its name, as functions do."""

    object_options = ("function",)

    def __init__(self, function: Any, options: dict[str, Any]) -> None:
        super().__init__()
        if isinstance(function, str):
            function = _imported(function)
        # A decorated function's name leads to the filter, so the filter is what can be pickled.
        self._applied: FilterStage | Callable[..., Any] = function
        if isinstance(function, FilterStage):
            options = function.options | options
            function = function.function
        if not callable(function) or isinstance(function, type):
            raise ValueError(f"function must lead to a function, not to {type(function).__name__}")
        _check_options(function, options)
        self.options = options

    @property
    def function(self) -> Callable[..., Any]:
        """The user's own function."""
        applied = self._applied
        return applied.function if isinstance(applied, FilterStage) else applied

    @property
    def is_stateless(self) -> bool:
        """Whether its decorator says so."""
        return isinstance(self._applied, FilterStage) and self._applied.is_stateless


class LinesStage(_AppliedFunction):
    """Give each line to a Python function, and write what it returns.

    The function takes a line as bytes, with its newline, and returns bytes, or None to drop the line. The last line of
    an input may have no newline. All other options are given to the function by name.

    Args:
        function: Where it is: "module:function", or "./file.py:function" beside the definition.
        processes: How many share the lines of a long input; their order stays. If not given, one for each usable CPU,
            up to 8, where the function is known to keep nothing from line to line: it says so by
            @line_filter(stateless=True), or uses nothing but its arguments. Else one.
    """

    name = "lines"
    wants_text = True
    example: ClassVar[str | None] = (
        'use = "lines"\nfunction = "./filters.py:drop"\nword = "DEBUG"  # drop(line, word="DEBUG")'
    )

    def __init__(
        self,
        function: str | Callable[..., bytes | None],
        processes: Annotated[int, Between(1, _MAX_PROCESSES)] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(function, options)
        self.processes = None if processes is None else check_whole_number("processes", processes, 1, _MAX_PROCESSES)

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        apply_to_lines(self, reader, writer, item, self.processes)


class ChunksStage(_AppliedFunction):
    """Give all chunks to a Python function, and write the chunks that it yields.

    The function takes an iterator of chunks, bytes of any length from 1 to 1 MiB that end anywhere, and yields bytes.
    All other options are given to the function by name.

    Args:
        function: Where it is: "module:function", or "./file.py:function" beside the definition.
    """

    name = "chunks"
    example: ClassVar[str | None] = 'use = "chunks"\nfunction = "./filters.py:upper"'

    def __init__(self, function: str | Callable[..., Iterable[bytes]], **options: Any) -> None:
        super().__init__(function, options)

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        apply_to_chunks(self, reader, writer, item)


def _check_options(function: Callable[..., Any], options: dict[str, Any]) -> None:
    """Refuse options that the function, called with one argument and these, would not take."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    known = [each.name for each in parameters if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)]
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    for name in options:
        if name not in known and not takes_any:
            has = f"; it has {', '.join(known)}" if known else "; it has none"
            raise ValueError(f"{name!r} is not an option of the function {function.__name__!r}{has}")
    try:
        inspect.signature(function).bind(None, **options)
    except TypeError as ex:
        raise ValueError(f"the function {function.__name__!r}: {ex}") from None


def _imported(reference: str) -> Any:
    """The object behind ``module:function``, for who makes the stage without the command line."""
    import importlib

    module, colon, name = reference.partition(":")
    if not colon or module.endswith(".py"):
        raise ValueError(f"function must be 'module:function' or './file.py:function', not {reference!r}")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as ex:
        raise ValueError(f"function: {ex}") from ex


__all__ = ["ChunksStage", "LinesStage"]
