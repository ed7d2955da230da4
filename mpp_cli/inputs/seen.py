"""Remembers very many names in little memory."""

from __future__ import annotations

from typing import Final

#: A name's hash has 64 bits. Its last ones choose the bucket, at least the last 8; all but these are kept in there.
_KEY_BYTES: Final = 7
_NOT_IN_KEY: Final = 8
_MASK: Final = (1 << 64) - 1
_FIRST_BUCKETS: Final = 1 << 11
#: So many names a bucket has on average before there is one more: few enough to be searched in no time.
_NAMES_PER_BUCKET: Final = 64


class SeenNames:
    """A set of names, kept as their 64-bit hashes: 9 bytes for each, where a set of them takes 100 and more.

    Two names with one hash would be taken for one: among a million names, once in 30 million runs. Python's hash
    has a secret key for each process, so no list of names can be made to do it.

    The hashes stand in buckets, one behind another in a bytes object, which is searched and extended faster than
    anything that is written in Python. When there are many, the buckets are split one at a time (Litwin, Linear
    hashing, VLDB 1980), so that no name has to wait and nothing is there twice.

    Args:
        first_buckets: How many there are at first: a power of two, and no less than 256.
    """

    def __init__(self, first_buckets: int = _FIRST_BUCKETS) -> None:
        self._buckets = [b""] * first_buckets
        self._mask = first_buckets - 1
        self._num_split = 0
        self._count = 0
        self._max_count = first_buckets * _NAMES_PER_BUCKET

    def __len__(self) -> int:
        return self._count

    def add(self, name: str) -> bool:
        """Remember ``name``; say whether it is new."""
        number, key = self._place_of(name)
        bucket = self._buckets[number]
        if _is_in(bucket, key):
            return False
        self._buckets[number] = bucket + key
        self._count += 1
        if self._count > self._max_count:
            self._split_one()
        return True

    def __contains__(self, name: str) -> bool:
        number, key = self._place_of(name)
        return _is_in(self._buckets[number], key)

    def _place_of(self, name: str) -> tuple[int, bytes]:
        """The number of its bucket, and what stands for it there."""
        hashed = hash(name) & _MASK
        number = hashed & self._mask
        if number < self._num_split:
            number = hashed & (2 * self._mask + 1)
        return number, (hashed >> _NOT_IN_KEY).to_bytes(_KEY_BYTES, "little")

    def _split_one(self) -> None:
        """Have the next bucket in turn share its hashes with a new one, by one more of their bits."""
        buckets, number, bit = self._buckets, self._num_split, (self._mask + 1) >> _NOT_IN_KEY
        parts = [bytearray(), bytearray()]
        bucket = buckets[number]
        for place in range(0, len(bucket), _KEY_BYTES):
            key = bucket[place : place + _KEY_BYTES]
            parts[bool(int.from_bytes(key, "little") & bit)] += key
        buckets[number], other = map(bytes, parts)
        buckets.append(other)
        self._num_split += 1
        self._max_count += _NAMES_PER_BUCKET
        if self._num_split > self._mask:
            self._mask = 2 * self._mask + 1
            self._num_split = 0


def _is_in(bucket: bytes, key: bytes) -> bool:
    """Whether ``key`` stands in its bucket, and not in the end of one and the beginning of the next."""
    place = bucket.find(key)
    while place >= 0 and place % _KEY_BYTES:
        place = bucket.find(key, place + 1)
    return place >= 0
