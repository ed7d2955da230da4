"""Many small files in one trip to a worker: the same stages, one file after the other, all in memory.

    parent                              worker
    FileBatch(files) ───────────────▶   for each file: read ─▶ stage ─▶ bytes ─▶ stage ─▶ bytes ─▶ sink ─▶ temporary
    publish each  ◀── BatchResults ──   until all are done, or the time is up

A trip costs more than a small file does. What happens to a file is what would happen to it alone: the same
:meth:`~mpp_stages.byte_stage.ByteStage.run`, the same bytes, the same failures. What needs more than memory (a file
that is larger than it was, output without bounds) is left to be done alone.
"""

from __future__ import annotations

import pickle
import select
import time
from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain
from typing import Any, ClassVar, Final

from atbu.mp_pipeline.counters import counter
from atbu.mp_pipeline.descriptors import PassedDescriptor
from atbu.mp_pipeline.exception import PipelineError
from atbu.mp_pipeline.named_tuple import NamedTuple
from atbu.mp_pipeline.plain_stages import look_at
from atbu.mp_pipeline.stage import PipelineStage, SubprocessPipelineStage
from atbu.mp_pipeline.stage_run import describe_failure, portable_failure, with_worker_traceback
from atbu.mp_pipeline.work_item import PipelineWorkItem

from .byte_stage import ByteStage, FilterStage
from .file_item import FileItem
from .memory_ends import MemorySink, MemorySource, NotForMemory, read_small_file
from .write import WriteStage

#: Up to this size a file is small: larger ones gain nothing, for a trip costs less than a hundredth of their work.
SMALL_FILE_BYTES: Final = 4 << 20
#: What a stage may make of a small file before it is left to be done alone, by pipes.
_MAX_OUTPUT_BYTES: Final = 16 << 20
#: Those that the sink sets on each item, and the bytes read.
_NUM_USUAL_ATTRIBUTES: Final = 4
#: With a shorter time limit the limit of a single file would often be that of a batch.
MIN_TIMEOUT_S: Final = 1.0


#: One file of a batch: name, source path, target path, temporary; see FileItem.of_paths().
SmallFile = tuple[str, str, str, str]
#: A stage that is kept, or what makes one.
_Maker = tuple[ByteStage | None, Callable[[], ByteStage] | None]


class FileFailure(NamedTuple):
    """Why a file failed: the stage's label, and the error's pickle with its traceback as text."""

    stage: str
    pickled: bytes

    def error(self) -> BaseException:
        """The error, as it would have come from a worker that had this file alone."""
        error, text = pickle.loads(self.pickled)
        if not isinstance(error, PipelineError):
            error.add_note(f"in stage {self.stage!r}")
        return with_worker_traceback(error, text)


class BatchResults:
    """How the files of a batch ended, by their place in it. What is from ``len(figures) // 3`` on was not begun.

    Attributes:
        figures: Bytes read, bytes written and nanoseconds of each file.
        cpu_s: Processor time that they took together.
        failures: Those that failed.
        alone: Those that have to be done alone.
        attributes: What stages have set on their items, beside what is in :attr:`figures`.
    """

    def __init__(self) -> None:
        self.figures = array("Q")
        self.cpu_s = 0.0
        self.failures: dict[int, FileFailure] = {}
        self.alone: set[int] = set()
        self.attributes: dict[int, dict[str, Any]] = {}

    @property
    def num_begun(self) -> int:
        """How many files were begun, the first ones of the batch."""
        return len(self.figures) // 3


class FileBatch(PipelineWorkItem):
    """Small files on their way to a worker; publishing and discarding is the business of whoever made it.

    Args:
        files: What is to be done; may be asked for several times, when the batch is pickled.
        budget_s: After this time no further file is begun.
        stop: The read end of a pipe: when its other end is closed, no further file is begun.
    """

    results: BatchResults | None = None

    def __init__(self, files: Collection[SmallFile], budget_s: float, stop: PassedDescriptor | None = None) -> None:
        super().__init__()
        self._files: Collection[SmallFile] | str = files
        self._num_files = len(files)
        self.budget_s = budget_s
        self.stop = stop

    def __getstate__(self) -> dict[str, Any]:
        # As one text, for a pickle takes each of many in its hands, when it is made and when it is read. No name or
        # path has a zero byte in it.
        files = self._files
        return self.__dict__ | {"_files": files if isinstance(files, str) else "\0".join(chain.from_iterable(files))}

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self._num_files} small files"

    def take_files(self) -> Iterable[SmallFile]:
        """The files; this object, which goes back to whoever made it, has none then."""
        files, self._files = self._files, ()
        if not isinstance(files, str):
            return files
        fields = iter(files.split("\0"))
        return zip(fields, fields, fields, fields, strict=False)


class SmallFilesStage(SubprocessPipelineStage):
    """Does batches of small files; stands in a pipeline beside the stages that it runs.

    Args:
        stages: A pipeline's stages, for which :func:`can_batch` holds.
    """

    name = "small files"
    #: The stages inside are fresh for each file, or kept, as each of them wants it.
    keep_in_worker: ClassVar[bool] = True

    def __init__(self, stages: Sequence[PipelineStage]) -> None:
        super().__init__()
        self._stages = [stage for stage in stages if isinstance(stage, ByteStage)]
        # For the batch as for each file; whatever is hit by it is done again alone, with the whole of the time.
        self.timeout = min((stage.timeout for stage in stages if stage.timeout is not None), default=None)
        self._filters: list[_Maker] | None = None

    @property
    def limit_bytes(self) -> int:
        """Up to this size a file is small."""
        return SMALL_FILE_BYTES

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_filters": None}

    def is_for_stage(self, pwi: Any) -> bool:
        return isinstance(pwi, FileBatch)

    def perform_stage_work(self, pwi: FileBatch, **kwargs: Any) -> FileBatch:
        if self._filters is None:
            self._filters = [_maker(stage) for stage in self._stages[:-1]]
        files = pwi.take_files()
        stop = None
        if pwi.stop is not None:
            stop = select.poll()
            stop.register(pwi.stop.fileno(), 0)
            pwi.stop = None
        pwi.results = results = BatchResults()
        add_figure, do, clock_ns = results.figures.append, self._do, time.monotonic_ns
        begun_cpu_s = time.process_time()
        begun_ns = time.monotonic_ns()
        end_ns = begun_ns + int(pwi.budget_s * 1e9)
        total_in = total_out = 0
        try:
            for number, (name, source_path, target_path, temporary) in enumerate(files):
                item = FileItem.of_paths(name, source_path, target_path, temporary)
                do(item, source_path, number, results)
                now_ns = clock_ns()
                bytes_read, bytes_written = item.bytes_read, item.bytes_written
                add_figure(bytes_read)
                add_figure(bytes_written)
                add_figure(now_ns - begun_ns)
                total_in += bytes_read
                total_out += bytes_written
                begun_ns = now_ns
                # Looked at after each file, for the next may take for ever; it costs a few tenths of a microsecond.
                if now_ns >= end_ns or (stop is not None and stop.poll(0)):
                    break
        finally:
            results.cpu_s = time.process_time() - begun_cpu_s
            counter("bytes_in").add(total_in)
            if not self._stages[-1].taps:  # with them it counts itself
                counter("bytes_out").add(total_out)
        return pwi

    def _do(self, item: FileItem, source_path: str, number: int, results: BatchResults) -> None:
        """Take one file through all stages; what happened stands in ``results``, the sizes on ``item``."""
        stage = self._stages[0]
        attributes = item.__dict__
        found: dict[str, Any] | None = None
        bytes_read = 0
        assert self._filters is not None
        try:
            try:
                data, item.source_status, item.is_source_bare = read_small_file(source_path, SMALL_FILE_BYTES)
            except OSError:
                raise NotForMemory from None  # alone it will say why
            bytes_read = len(data)
            size = bytes_read or None
            for kept, make in self._filters:
                stage = kept if make is None else make()  # type: ignore[assignment]  # it is one or the other
                made = None if stage.taps else stage.convert(data, item)
                data = self._run(stage, data, size, item) if made is None else made
                size = None
                if attributes:  # for no other stage to see
                    found = attributes.copy() if found is None else found | attributes
                    attributes.clear()
            stage = self._stages[-1]
            if stage.taps:
                with stage.open_output(item) as raw:
                    stage.work_between(MemorySource(data), raw, item, reads_to_end=True)  # type: ignore[arg-type]
            else:
                stage.write_whole(data, item)  # type: ignore[attr-defined]  # can_batch() knows the sink
            item.bytes_read = bytes_read
        except NotForMemory:
            results.alone.add(number)
        except BaseException as ex:  # noqa: BLE001 - whatever a stage raises fails this file alone
            item.bytes_read = bytes_read
            text = describe_failure(ex)
            results.failures[number] = FileFailure(stage.label, pickle.dumps((portable_failure(ex, text), text)))
        else:
            if found is not None or len(attributes) > _NUM_USUAL_ATTRIBUTES or item.is_synced:
                results.attributes[number] = attributes if found is None else found | attributes

    def _run(self, stage: ByteStage, data: bytes, size: int | None, item: FileItem) -> bytes:
        """Have a stage's ``run`` do it; ``size`` is what it would know of its input if it read the file itself."""
        source = MemorySource(data)
        source.size = size
        sink = MemorySink(_MAX_OUTPUT_BYTES)
        stage.work_between(source, sink, item, reads_to_end=False)  # type: ignore[arg-type]  # raw enough
        if sink.is_over:
            raise NotForMemory
        return sink.value()


def can_batch(stages: Sequence[PipelineStage]) -> bool:
    """Whether small files may go through these stages in batches, and nobody can tell.

    All must be byte stages in processes, with nothing of their own in the ways of a byte stage but ``run``; the last
    one must be the sink that we know.
    """
    *filters, sink = stages
    return (
        type(sink) is WriteStage
        and all(map(_is_plain, stages))
        and all(
            type(stage).open_input is ByteStage.open_input and type(stage).open_output is ByteStage.open_output  # type: ignore[attr-defined]
            for stage in filters
        )
    )


def _is_plain(stage: PipelineStage) -> bool:
    cls = type(stage)
    return (
        issubclass(cls, ByteStage)
        and stage.is_subprocess
        and cls.perform_stage_work is ByteStage.perform_stage_work
        and cls.work_between is ByteStage.work_between
        and cls.is_for_stage is ByteStage.is_for_stage
        and all(type(each).prepare is ByteStage.prepare for each in (stage, *getattr(stage, "taps", ())))
        and cls.is_pipe_with_next_stage is ByteStage.is_pipe_with_next_stage
        # What a stage wants to be tried again for is tried again by the pipeline.
        and not stage.retry_on
        and (stage.timeout is None or stage.timeout >= MIN_TIMEOUT_S)
    )


def _maker(stage: ByteStage) -> _Maker:
    """The stage for each file, kept where it wants that, or else what makes one that is fresh, as for any item."""
    if stage.keep_in_worker or type(stage) is FilterStage:  # which has nothing that work could change
        return stage, None
    look = look_at(stage)
    if look is not None:
        return None, look.make
    pickled = pickle.dumps(stage)
    return None, lambda: pickle.loads(pickled)


__all__ = ["SMALL_FILE_BYTES", "BatchResults", "FileBatch", "FileFailure", "SmallFile", "SmallFilesStage", "can_batch"]
