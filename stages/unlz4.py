"""Decompression of the LZ4 frame format, as ``lz4 -d`` does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from .member_decoding import Decoder, MemberStage

MAGIC: Final = b"\x04\x22\x4d\x18"
#: Any of sixteen first bytes, then these: a frame to pass over, which zstd has too.
_SKIPPABLE_FIRST: Final = range(0x50, 0x60)
_SKIPPABLE_REST: Final = b"\x2a\x4d\x18"
_LEGACY_MAGIC: Final = b"\x02\x21\x4c\x18"


class Unlz4Stage(MemberStage):
    """Decompress what lz4 has written, also several frames one after another.

    Input that is empty, ends in the middle of a frame, or goes on after it with anything else is an error.
    """

    name = "unlz4"
    strips_suffixes: ClassVar[Mapping[str, str]] = {".lz4": "", ".tlz4": ".tar"}
    format_name = "lz4"
    member_noun = "frame"
    magic_bytes = len(MAGIC)

    def is_member(self, head: bytes) -> bool:
        return MAGIC.startswith(head) or (head[0] in _SKIPPABLE_FIRST and _SKIPPABLE_REST.startswith(head[1:]))

    def name_foreign(self, head: bytes) -> str:
        if head == _LEGACY_MAGIC:
            return "in the legacy format of lz4, which is not supported; the program lz4 reads it"
        return super().name_foreign(head)

    def new_decoder(self, head: bytes) -> Decoder:
        from lz4.frame import LZ4FrameDecompressor  # only the worker that decompresses needs the library

        decoder: Decoder = LZ4FrameDecompressor()
        return decoder

    def decoder_errors(self) -> tuple[type[Exception], ...]:
        return (RuntimeError,)


__all__ = ["MAGIC", "Unlz4Stage"]
