"""Compression to the Zstandard format, what ``zstd`` writes and ``zstd -d`` reads."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from atbu.mp_pipeline.exception import PipelineError

from .byte_stage import CHUNK_BYTES, ByteStage, known_size
from .checks import Between, check_flag, check_whole_number
from .file_item import FileItem
from .roundtrip import proved_by_decoding

if TYPE_CHECKING:
    from zstandard import ZstdCompressor

#: From this size on an input is compressed by threads. Below, starting them
#: costs what they save; the two ways give different bytes, hence the item alone decides, never the machine.
_MULTITHREAD_FROM_BYTES: Final = 8 << 20
#: zstd's own pieces are four windows, 8 MiB at level 3: little is read twice, into the next worker's tables. With
#: these, which stay in the processor's cache, the fast levels take 10 % less of its time and half the memory, and write
#: 0.4 % more. Slower levels gain nothing.
_SMALL_JOB_BYTES: Final = 2 << 20
_SMALL_JOBS_TO_LEVEL: Final = 4
#: What fits one block is compressed to the same bytes in one call as in portions.
_ONE_BLOCK_BYTES: Final = 128 << 10
_MAX_LEVEL: Final = 22
#: ZSTDMT_NBWORKERS_MAX and the limits of windowLog on 64-bit systems, from zstd.h.
_MAX_THREADS: Final = 256
_MIN_WINDOW_LOG: Final = 10
_MAX_WINDOW_LOG: Final = 31


class ZstdStage(ByteStage):
    """Compress with zstd, on all CPUs where the input is large enough.

    The same input and options give the same bytes, however many threads there are. The frame tells its content's
    size where that is known before: for a file, and for anything below 1 MiB.

    Args:
        level: From 1, the fastest, to 22, the smallest; from 20 on with some GiB of memory.
        threads: How many threads compress one large input; one for each usable CPU, and one more at
            levels 1 to 4, if not given.
        long: Search matches up to 2**long bytes back, 10 to 31; 27 is what ``zstd --long`` does, above that
            whoever decompresses has to allow it.
        checksum: Whether the frame holds a checksum of its content.
        roundtrip: Decode what was written, and compare it with the input before it is published.
    """

    name = "zstd"
    adds_suffix = ".zst"
    is_compressed_output = True
    #: The compressors' tables and threads are worth keeping from one small file to the next.
    keep_in_worker: ClassVar[bool] = True

    def __init__(
        self,
        level: Annotated[int, Between(1, _MAX_LEVEL)] = 3,
        threads: Annotated[int, Between(1, _MAX_THREADS)] | None = None,
        long: Annotated[int, Between(_MIN_WINDOW_LOG, _MAX_WINDOW_LOG)] | None = None,
        checksum: bool = True,
        roundtrip: bool = False,
    ) -> None:
        super().__init__()
        self.level = check_whole_number("level", level, 1, _MAX_LEVEL)
        self.threads = None if threads is None else check_whole_number("threads", threads, 1, _MAX_THREADS)
        self.long = None if long is None else check_whole_number("long", long, _MIN_WINDOW_LOG, _MAX_WINDOW_LOG)
        self.checksum = check_flag("checksum", checksum)
        self.roundtrip = check_flag("roundtrip", roundtrip)
        self._kept_compressors: dict[bool, ZstdCompressor] = {}
        self._kept_buffer: memoryview | None = None

    def memory_bytes(self) -> int:
        from .zstd_memory import compression_bytes

        return compression_bytes(self.level, self._threads(), self.long, self._job_bytes())

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept_compressors": {}, "_kept_buffer": None}

    def new_decoder(self) -> ByteStage:
        """The stage that decodes what this one writes."""
        from .unzstd import UnzstdStage

        return UnzstdStage() if self.long is None else UnzstdStage(long=max(self.long, UnzstdStage().long))

    @proved_by_decoding
    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        from zstandard import ZstdError  # only the worker that compresses needs the library

        if self._kept_buffer is None:
            self._kept_buffer = memoryview(bytearray(CHUNK_BYTES))
        buffer = self._kept_buffer
        # To the full: that a first portion falls short is a fact of the input, not of how it arrived.
        n = reader.readinto(buffer)
        size = n if n < CHUNK_BYTES else known_size(reader)
        is_multithreaded = size is None or size >= _MULTITHREAD_FROM_BYTES
        try:
            chunker = self._compressor(is_multithreaded).chunker(-1 if size is None else size, CHUNK_BYTES)
            while n:
                for chunk in chunker.compress(buffer[:n]):
                    writer.write(chunk)
                n = reader.readinto1(buffer)
            for chunk in chunker.finish():  # type: ignore[no-untyped-call]  # an omission of its stubs
                writer.write(chunk)
        except ZstdError as ex:
            raise self._failure(item, ex) from ex

    def convert(self, data: bytes, item: FileItem) -> bytes | None:
        if len(data) > _ONE_BLOCK_BYTES:
            return None
        try:
            return self._compressor(False).compress(data)
        except Exception as ex:
            from zstandard import ZstdError  # not above: it would be the slowest thing here but for the compression

            if not isinstance(ex, ZstdError):
                raise
            raise self._failure(item, ex) from ex

    def _failure(self, item: FileItem, ex: Exception) -> PipelineError:
        return PipelineError(f"stage {self.label!r}: {item.name!r} could not be compressed: {ex}")

    def _compressor(self, is_multithreaded: bool) -> ZstdCompressor:
        known = self._kept_compressors.get(is_multithreaded)
        if known is None:
            known = self._kept_compressors[is_multithreaded] = self._new_compressor(is_multithreaded)
        return known

    def _new_compressor(self, is_multithreaded: bool) -> ZstdCompressor:
        from zstandard import ZstdCompressionParameters, ZstdCompressor

        threads = self._threads() if is_multithreaded else 0
        # The level, not its parameters spelled out: zstd then fits them to an input whose size it is told.
        parameters: dict[str, int] = {"compression_level": self.level, "threads": threads}
        if threads and (job_bytes := self._job_bytes()) is not None:
            parameters["job_size"] = job_bytes
        if self.long is not None:
            parameters |= {"enable_ldm": 1, "window_log": self.long}
        return ZstdCompressor(
            compression_params=ZstdCompressionParameters(
                write_checksum=int(self.checksum), write_content_size=1, **parameters
            )
        )

    def _threads(self) -> int:
        """How many compress one large input."""
        if self.threads is not None:
            return self.threads
        from atbu.mp_pipeline.cpus import usable_cpus

        cpus = usable_cpus()
        # zstd hands a thread its next piece only when the feeding thread looks again. With one thread more, whose piece
        # waits meanwhile, no CPU does: 5 to 10 % of the time.
        spare = int(cpus > 1 and self._job_bytes() is not None)
        return min(_MAX_THREADS, cpus + spare)

    def _job_bytes(self) -> int | None:
        """The size of the pieces that threads work on; None for zstd's own choice."""
        return _SMALL_JOB_BYTES if self.long is None and self.level <= _SMALL_JOBS_TO_LEVEL else None


__all__ = ["ZstdStage"]
