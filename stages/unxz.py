"""Decompression of the .xz format and the older .lzma, as ``xz -d`` does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

from .checks import Between, check_whole_number
from .member_decoding import Decoder, MemberInput, MemberStage

MAGIC: Final = b"\xfd7zXZ\x00"
#: How a .lzma file begins that was made with the usual properties; the format has no magic number.
LZMA_BEGIN: Final = b"\x5d\x00\x00"
#: Stream Padding comes in such units (The .xz File Format, 2.2).
_PADDING_BYTES: Final = 4
_DEFAULT_MEMORY_MIB: Final = 256
_MAX_MEMORY_MIB: Final = 1 << 20


class UnxzStage(MemberStage):
    """Decompress what xz has written, also several streams one after another, and .lzma files.

    Input that is empty, ends in the middle of a stream, or goes on after it with anything else than padding is an
    error.

    Args:
        memory_mib: Refuse input that needs more than so many MiB of memory; no level of xz needs more than 65.
    """

    name = "unxz"
    strips_suffixes: ClassVar[Mapping[str, str]] = {".xz": "", ".txz": ".tar", ".lzma": "", ".tlz": ".tar"}
    format_name = "xz"
    magic_bytes = len(MAGIC)

    def __init__(self, memory_mib: Annotated[int, Between(1, _MAX_MEMORY_MIB)] = _DEFAULT_MEMORY_MIB) -> None:
        super().__init__()
        self.memory_mib = check_whole_number("memory_mib", memory_mib, 1, _MAX_MEMORY_MIB)

    def memory_bytes(self) -> int:
        # An input may ask for all that is allowed.
        return self.memory_mib << 20

    def is_member(self, head: bytes) -> bool:
        return MAGIC.startswith(head) or head.startswith(LZMA_BEGIN)

    def new_decoder(self, head: bytes) -> Decoder:
        import lzma  # only the worker that decompresses needs the library

        kind = lzma.FORMAT_ALONE if head.startswith(LZMA_BEGIN) else lzma.FORMAT_XZ
        return lzma.LZMADecompressor(kind, memlimit=self.memory_mib << 20)

    def decoder_errors(self) -> tuple[type[Exception], ...]:
        import lzma

        return (lzma.LZMAError,)

    def explain(self, ex: Exception) -> str:
        if "limit" in str(ex):
            return f"it needs more than {self.memory_mib} MiB of memory; allow it with a higher memory_mib of 'unxz'"
        return super().explain(ex)

    def goes_on(self, source: MemberInput) -> bool:
        begin = source.position
        num_zeros = source.skip_zeros()
        if num_zeros % _PADDING_BYTES:
            raise source.error(f"the padding at byte {begin} is no multiple of {_PADDING_BYTES} bytes")
        head = source.peek(self.magic_bytes)
        if head and not MAGIC.startswith(head):
            raise source.foreign()
        return bool(head)


__all__ = ["LZMA_BEGIN", "MAGIC", "UnxzStage"]
