"""Decompression of the .bz2 format, as ``bzip2 -d`` does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from .member_decoding import Decoder, MemberInput, MemberStage

MAGIC: Final = b"BZh"
_LEVELS: Final = b"123456789"


class Bunzip2Stage(MemberStage):
    """Decompress what bzip2 has written, also several streams one after another.

    Input that is empty or ends in the middle of a stream is an error. As with bzip2, anything behind the last stream
    is ignored with a warning.
    """

    name = "bunzip2"
    strips_suffixes: ClassVar[Mapping[str, str]] = {".bz2": "", ".bz": "", ".tbz2": ".tar", ".tbz": ".tar"}
    format_name = "bzip2"
    magic_bytes = len(MAGIC) + 1

    def is_member(self, head: bytes) -> bool:
        return MAGIC.startswith(head[: len(MAGIC)]) and (len(head) < self.magic_bytes or head[-1] in _LEVELS)

    def new_decoder(self, head: bytes) -> Decoder:
        import bz2  # only the worker that decompresses needs the library

        return bz2.BZ2Decompressor()

    def decoder_errors(self) -> tuple[type[Exception], ...]:
        return (OSError,)

    def goes_on(self, source: MemberInput) -> bool:
        if self.is_member(source.peek(self.magic_bytes)):
            return True
        source.warn_of_garbage()
        return False


__all__ = ["MAGIC", "Bunzip2Stage"]
