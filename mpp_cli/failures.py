"""Why an item failed, in one line."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Sequence

from atbu.mp_pipeline.exception import (
    PipeConnectionAborted,
    PipelineError,
    PipelineStageError,
    PipelineWorkerDied,
)

from .errors import one_line, shown


def failure_line(name: str, error: BaseException) -> str:
    """The line on standard error for one input that failed."""
    words = one_line(error_words(error))
    # Many errors name the file themselves, and twice is noise.
    return f"mpp: {words}" if _is_about(error, words, name) else f"mpp: {shown(name)}: {words}"


def error_words(error: BaseException) -> str:
    """What an error says, without its class where the class says nothing more."""
    if isinstance(error, PipelineStageError):  # stands for an error that could not travel from its worker
        kind = error.exc_type.rpartition(".")[2]
        return _located(error, f"{kind}: {error.exc_text}" if error.exc_text else kind)
    if isinstance(error, PipelineError):
        return str(error.message or error)
    if isinstance(error, OSError) and error.strerror:
        words = error.strerror + (" (--force replaces it)" if _force_would_help(error) else "")
        return f"'{shown(_text(error.filename))}': {words}" if error.filename else words
    text = str(error)
    if (type(error) is not ValueError and not text.startswith("stage ")) or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return _located(error, text)


def _located(error: BaseException, text: str) -> str:
    """``text`` with the stage and the line that stand in the error's notes, where there are some."""
    notes = [str(note) for note in getattr(error, "__notes__", ())]
    line = next((f" ({note})" for note in notes if note.startswith("in the line ")), "")
    stage = next((note[3:] for note in notes if note.startswith("in stage ")), None)
    return text + line if stage is None or text.startswith(f"{stage}:") else f"{stage}: {text}{line}"


def _force_would_help(error: OSError) -> bool:
    return isinstance(error, FileExistsError) and error.strerror == os.strerror(errno.EEXIST)


def root_cause(errors: Sequence[BaseException]) -> BaseException:
    """Of the errors of one item, in the order of their happening, the first that was not caused by another."""
    return next((error for error in errors if not _is_consequence(error)), errors[0])


def _is_consequence(error: BaseException) -> bool:
    """Whether another stage of the chain has failed before, and this one only felt it.

    Its reader saw the abort, its writer that nobody reads, or it was ended because it felt nothing at all.
    """
    if isinstance(error, PipelineWorkerDied):
        return error.note is not None
    # The sink names what it writes to; between stages nothing has a name.
    is_of_a_pipe = isinstance(error, BrokenPipeError) and error.filename is None
    return is_of_a_pipe or isinstance(error, PipeConnectionAborted)


def traceback_text(errors: Sequence[BaseException]) -> str:
    """All tracebacks, the workers' too, for ``-v``."""
    return "".join("".join(traceback.format_exception(error)) for error in errors).rstrip()


def _is_about(error: BaseException, words: str, name: str) -> bool:
    """Whether the words name the input, or its output, which is refused before the input matters."""
    return isinstance(error, FileExistsError) or any(quoted in words for quoted in (f"'{shown(name)}'", repr(name)))


def _text(filename: object) -> str:
    if isinstance(filename, bytes):
        return filename.decode("utf-8", "surrogateescape")
    return str(filename)
