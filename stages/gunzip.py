"""Decompression of the gzip format, as ``gzip -d`` does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from .member_decoding import Decoder, MemberInput, MemberStage

MAGIC: Final = b"\x1f\x8b"


class GunzipStage(MemberStage):
    """Decompress what gzip, pigz or bgzip has written, also several members one after another.

    Input that is empty or ends in the middle of a member is an error. As with gzip, zeros behind the last member are
    padding, and anything else there is ignored with a warning.
    """

    name = "gunzip"
    strips_suffixes: ClassVar[Mapping[str, str]] = {".gz": "", ".tgz": ".tar", ".bgz": "", ".svgz": ".svg"}
    format_name = "gzip"
    member_noun = "member"
    magic_bytes = len(MAGIC)

    def is_member(self, head: bytes) -> bool:
        return head in (MAGIC, MAGIC[:1])

    def new_decoder(self, head: bytes) -> Decoder:
        from isal import igzip_lib  # only the worker that decompresses needs the library

        return igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP)

    def decoder_errors(self) -> tuple[type[Exception], ...]:
        from isal import igzip_lib

        error: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]  # its stubs have an instance
        return (error,)

    def goes_on(self, source: MemberInput) -> bool:
        head = source.peek(self.magic_bytes)
        if head == MAGIC:
            return True
        if not head.startswith(b"\0"):
            if len(head) < self.magic_bytes:  # what is too short for another member, gzip takes for a torn one
                raise source.truncated()
        elif source.skip_zeros() and not source.peek(1):
            return False
        source.warn_of_garbage()
        return False


__all__ = ["MAGIC", "GunzipStage"]
