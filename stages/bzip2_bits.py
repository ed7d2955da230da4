"""One .bz2 stream from blocks that were compressed apart. Pure: bytes in, bytes out.

In the format a block begins at any bit: what libbz2 gives for one block alone is taken out of its stream and shifted
to where the block before has ended. Several streams one after another would do as well for a reader, but then a run
that fails between two of them would have written what looks complete.

Source: there is no specification by the author; this is compress.c and decompress.c of bzip2 1.0.8.
"""

from __future__ import annotations

from typing import Final

#: "BZh" and the level.
_HEADER_BYTES: Final = 4
_BLOCK_MAGIC: Final = 0x314159265359
_END_MAGIC: Final = 0x177245385090
_MAGIC_BITS: Final = 48
_CRC_BITS: Final = 32
_CRC_MASK: Final = 0xFFFFFFFF


def take_apart(stream: bytes) -> tuple[int, int, int]:
    """The only block of a stream, as a number of so many bits, and its CRC: (bits, number of bits, CRC).

    Raises:
        ValueError: It is no whole stream, or not of one block.
    """
    total = (len(stream) - _HEADER_BYTES) * 8
    bits = int.from_bytes(memoryview(stream)[_HEADER_BYTES:], "big")
    head = bits >> max(0, total - _MAGIC_BITS - _CRC_BITS)
    crc = head & _CRC_MASK
    # Of one block the stream's CRC is the block's own, so this finds the end, and tells more than one block.
    end = _END_MAGIC << _CRC_BITS | crc
    low = bits & (1 << _MAGIC_BITS + _CRC_BITS + 8) - 1
    for padding in range(8):
        if low >> padding & (1 << _MAGIC_BITS + _CRC_BITS) - 1 == end and head >> _CRC_BITS == _BLOCK_MAGIC:
            behind = padding + _MAGIC_BITS + _CRC_BITS
            return bits >> behind, total - behind, crc
    raise ValueError("not one block in the .bz2 stream")


class BitStream:
    """Puts blocks one behind the other."""

    def __init__(self) -> None:
        self._rest = 0
        self._rest_bits = 0  # fewer than 8: what does not fill a byte yet
        self._crc = 0

    def add(self, bits: int, num_bits: int, crc: int) -> bytes:
        """Put a block behind the others; gives the bytes that are full by now."""
        self._crc = (self._crc << 1 & _CRC_MASK | self._crc >> 31) ^ crc
        return self._put(bits, num_bits)

    def end(self) -> bytes:
        """The stream's end, to a whole byte."""
        made = self._put(_END_MAGIC << _CRC_BITS | self._crc, _MAGIC_BITS + _CRC_BITS)
        return made + self._put(0, -self._rest_bits % 8)

    def _put(self, bits: int, num_bits: int) -> bytes:
        total = self._rest_bits + num_bits
        joined = self._rest << num_bits | bits
        self._rest_bits = total % 8
        self._rest = joined & (1 << self._rest_bits) - 1
        return (joined >> self._rest_bits).to_bytes(total // 8, "big")


__all__ = ["BitStream", "take_apart"]
