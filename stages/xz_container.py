"""The frame of an .xz stream around blocks that were compressed apart. Pure: bytes in, bytes out.

liblzma's Python binding compresses whole streams of one block. Taken apart and put together again they are one
stream of many blocks, as ``xz -T`` writes it; several streams one after another would do as well for a reader, but
then a run that fails between two of them would have written what looks complete.

Source: The .xz File Format 1.2.1, https://tukaani.org/xz/xz-file-format.txt, sections 2, 4.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from atbu.mp_pipeline.named_tuple import NamedTuple

_FOOTER_BYTES: Final = 12
_HEADER_MAGIC: Final = b"\xfd7zXZ\x00"
_FOOTER_MAGIC: Final = b"YZ"
_ALIGNMENT: Final = 4


class Block(NamedTuple):
    """One block: its bytes with padding, and what the index tells of it."""

    data: bytes
    unpadded_bytes: int
    content_bytes: int


def stream_header(check: int) -> bytes:
    """How a stream begins whose blocks have that kind of check."""
    flags = bytes((0, check))
    return _HEADER_MAGIC + flags + _crc(flags)


def take_apart(stream: bytes, header: bytes) -> Block:
    """The block of a stream that has exactly one, and begins with ``header``.

    Raises:
        ValueError: It is no such stream.
    """
    footer = stream[-_FOOTER_BYTES:]
    if not stream.startswith(header) or footer[-2:] != _FOOTER_MAGIC:
        raise ValueError("not one whole .xz stream")
    index_bytes = (int.from_bytes(footer[4:8], "little") + 1) * _ALIGNMENT
    start = len(stream) - _FOOTER_BYTES - index_bytes
    index = stream[start:-_FOOTER_BYTES]
    if index[:2] != b"\x00\x01":  # the indicator, and the number of records
        raise ValueError("not one block in the .xz stream")
    unpadded_bytes, place = _number_at(index, 2)
    content_bytes, _ = _number_at(index, place)
    block = stream[len(header) : start]
    if len(block) != _aligned(unpadded_bytes):
        raise ValueError("the index of the .xz stream does not tell its block")
    return Block(block, unpadded_bytes, content_bytes)


class Index:
    """What stands behind the blocks: their sizes, and the stream's footer."""

    def __init__(self) -> None:
        self._records = bytearray()
        self._num_records = 0

    def add(self, block: Block) -> None:
        self._records += _number(block.unpadded_bytes) + _number(block.content_bytes)
        self._num_records += 1

    def end(self, header: bytes) -> bytes:
        """The index and the footer of the stream with that header."""
        index = b"\x00" + _number(self._num_records) + self._records
        index += bytes(-len(index) % _ALIGNMENT)
        index += _crc(index)
        # In units of four bytes less one; then the flags, which the header has behind its magic.
        footer = struct.pack("<I", len(index) // _ALIGNMENT - 1) + header[6:8]
        return index + _crc(footer) + footer + _FOOTER_MAGIC


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _number(value: int) -> bytes:
    """Seven bits a byte, the lowest first (1.2)."""
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _number_at(data: bytes, place: int) -> tuple[int, int]:
    """The number that stands there, and the place behind it."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, place


__all__ = ["Block", "Index", "stream_header", "take_apart"]
