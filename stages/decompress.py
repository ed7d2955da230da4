"""Decompression of whatever format the input is in, told by its first bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from .bunzip2 import MAGIC as BZIP2_MAGIC
from .bunzip2 import Bunzip2Stage
from .byte_stage import ByteStage
from .errors import StageDataError
from .file_item import FileItem
from .gunzip import MAGIC as GZIP_MAGIC
from .gunzip import GunzipStage
from .unlz4 import MAGIC as LZ4_MAGIC
from .unlz4 import Unlz4Stage
from .unxz import LZMA_BEGIN, UnxzStage
from .unxz import MAGIC as XZ_MAGIC
from .unzstd import UnzstdStage

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
#: zstd and lz4 share their skippable frames. One at the beginning is zstd's: pzstd writes it, lz4 does not.
_SKIPPABLE_REST: Final = b"\x2a\x4d\x18"
_SKIPPABLE_FIRST: Final = range(0x50, 0x60)
_HEAD_BYTES: Final = 6
_BUFFER_BYTES: Final = 1 << 16


class DecompressStage(ByteStage):
    """Decompress gzip, xz, lzma, bzip2, lz4 or zstd data, whichever the input is, told by its first bytes.

    Input in another format is an error. What each format takes is said at its own stage.
    """

    name = "decompress"
    strips_suffixes: ClassVar[Mapping[str, str]] = {
        suffix: instead
        for stage in (GunzipStage, UnxzStage, Bunzip2Stage, Unlz4Stage, UnzstdStage)
        for suffix, instead in stage.strips_suffixes.items()
    }
    #: Of what it keeps, unzstd's window is worth it.
    keep_in_worker: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self._kept_unzstd: UnzstdStage | None = None

    def memory_bytes(self) -> int:
        return max(UnxzStage().memory_bytes(), UnzstdStage().memory_bytes())

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept_unzstd": None}

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        head = reader.read(_HEAD_BYTES)
        if not head:
            raise StageDataError(self.label, item.name, "the input is empty, which no compressed data is")
        new_stage = self._stage_for(head)
        if new_stage is None:
            raise StageDataError(
                self.label, item.name, "it is in no format that can be told: gzip, xz, lzma, bzip2, lz4, zstd"
            )
        stage = new_stage()
        stage.name = self.label
        whole: io.BufferedReader = io.BufferedReader(_Rejoined(head, reader), _BUFFER_BYTES)
        stage.run(whole, writer, item)

    def _stage_for(self, head: bytes) -> Callable[[], ByteStage] | None:
        known: dict[bytes, Callable[[], ByteStage]] = {
            GZIP_MAGIC: GunzipStage,
            XZ_MAGIC: UnxzStage,
            LZMA_BEGIN: UnxzStage,
            BZIP2_MAGIC: Bunzip2Stage,
            LZ4_MAGIC: Unlz4Stage,
            _ZSTD_MAGIC: self._unzstd,
        }
        for magic, new_stage in known.items():
            # An input shorter than a magic number is a torn one: its own stage says so.
            if head.startswith(magic) or magic.startswith(head):
                return new_stage
        if head[0] in _SKIPPABLE_FIRST and _SKIPPABLE_REST.startswith(head[1:4]):
            return known[_ZSTD_MAGIC]
        return None

    def _unzstd(self) -> UnzstdStage:
        if self._kept_unzstd is None:
            self._kept_unzstd = UnzstdStage()
        return self._kept_unzstd


class _Rejoined(io.RawIOBase):
    """Some bytes that have been read already, then the reader they came from."""

    def __init__(self, head: bytes, reader: io.BufferedReader) -> None:
        super().__init__()
        self._head = head
        self._reader = reader

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if not self._head:
            return self._reader.readinto1(buffer)
        view = memoryview(buffer).cast("B")
        n = min(len(view), len(self._head))
        view[:n], self._head = self._head[:n], self._head[n:]
        return n


__all__ = ["DecompressStage"]
