"""Digests of the bytes that pass: one class for each algorithm, all alike but for how the digest is begun."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, ClassVar, Literal, Protocol

from .checks import Between, check_whole_number
from .file_item import FileItem
from .pass_through import PassThroughStage
from .taps import Watch


class Hasher(Protocol):
    """What hashlib's objects are, and those of blake3 and xxhash."""

    def update(self, data: Any, /) -> object:
        """The next bytes."""

    def hexdigest(self) -> str:
        """The digest of all bytes so far."""


class DigestStage(PassThroughStage):
    """Find the digest of the bytes that pass. Derive, and write :meth:`new_hasher`.

    The digest is a :class:`~mpp_stages.file_item.Finding` on the item, of the kind :attr:`kind`.
    """

    is_digest: ClassVar[bool] = True

    @property
    def kind(self) -> str:
        """What its findings are called: the stage's built-in name."""
        return str(type(self).name)

    def new_hasher(self) -> Hasher:
        """A digest of nothing yet."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its digest is begun: write its new_hasher()")

    def watch(self, item: FileItem) -> Watch:
        return _DigestWatch(self, item)


class _DigestWatch(Watch):
    def __init__(self, stage: DigestStage, item: FileItem) -> None:
        self.label = stage.label
        self._stage = stage
        self._item = item
        self._hasher = stage.new_hasher()
        self.update = self._hasher.update  # type: ignore[method-assign,assignment]  # one call less for each portion

    def finish(self) -> None:
        self._stage.add_finding(self._item, self._stage.kind, self._hasher.hexdigest())


class Md5Stage(DigestStage):
    """Find the MD5 digest, as ``md5sum`` does; against accidents only, for it is broken."""

    name = "md5"

    def new_hasher(self) -> Hasher:
        return hashlib.md5(usedforsecurity=False)


class Sha1Stage(DigestStage):
    """Find the SHA-1 digest, as ``sha1sum`` does; against accidents only, for it is broken."""

    name = "sha1"

    def new_hasher(self) -> Hasher:
        return hashlib.sha1(usedforsecurity=False)


class Sha224Stage(DigestStage):
    """Find the SHA-224 digest, as ``sha224sum`` does."""

    name = "sha224"

    def new_hasher(self) -> Hasher:
        return hashlib.sha224()


class Sha256Stage(DigestStage):
    """Find the SHA-256 digest, as ``sha256sum`` does."""

    name = "sha256"

    def new_hasher(self) -> Hasher:
        return hashlib.sha256()


class Sha384Stage(DigestStage):
    """Find the SHA-384 digest, as ``sha384sum`` does."""

    name = "sha384"

    def new_hasher(self) -> Hasher:
        return hashlib.sha384()


class Sha512Stage(DigestStage):
    """Find the SHA-512 digest, as ``sha512sum`` does."""

    name = "sha512"

    def new_hasher(self) -> Hasher:
        return hashlib.sha512()


class B2Stage(DigestStage):
    """Find the BLAKE2b digest, as ``b2sum`` does.

    Args:
        length: Its length in bits, a multiple of 8 up to 512.
    """

    name = "b2"

    def __init__(self, length: Annotated[int, Between(8, 512)] = 512) -> None:
        super().__init__()
        self.length = check_whole_number("length", length, 8, 512)
        if length % 8:
            raise ValueError(f"length must be a multiple of 8 bits, not {length}")

    def new_hasher(self) -> Hasher:
        return hashlib.blake2b(digest_size=self.length // 8)


class Blake3Stage(DigestStage):
    """Find the BLAKE3 digest, as ``b3sum`` does: faster than SHA-256, and as good.

    Args:
        threads: How many threads work on one item.
    """

    name = "blake3"

    def __init__(self, threads: Annotated[int, Between(1, 256)] = 1) -> None:
        super().__init__()
        self.threads = check_whole_number("threads", threads, 1, 256)

    def new_hasher(self) -> Hasher:
        from blake3 import blake3  # only the worker that needs it loads the library

        hasher: Hasher = blake3(max_threads=self.threads)
        return hasher


class Xxh3Stage(DigestStage):
    """Find the XXH3 checksum, as ``xxhsum`` does: the fastest; against accidents only, it is no cryptographic digest.

    Args:
        bits: 64 as of ``xxhsum -H3``, or 128 as of ``xxhsum -H2``.
    """

    name = "xxh3"

    def __init__(self, bits: Literal[64, 128] = 64) -> None:
        super().__init__()
        if bits not in (64, 128):
            raise ValueError(f"bits must be 64 or 128, not {bits!r}")
        self.bits = bits

    @property
    def kind(self) -> str:
        return "xxh3" if self.bits == 64 else "xxh128"

    def new_hasher(self) -> Hasher:
        import xxhash  # only the worker that needs it loads the library

        return xxhash.xxh3_64() if self.bits == 64 else xxhash.xxh3_128()


class Xxh64Stage(DigestStage):
    """Find the XXH64 checksum, as ``xxhsum`` does; against accidents only, it is no cryptographic digest."""

    name = "xxh64"

    def new_hasher(self) -> Hasher:
        import xxhash

        return xxhash.xxh64()


__all__ = [
    "B2Stage",
    "Blake3Stage",
    "DigestStage",
    "Hasher",
    "Md5Stage",
    "Sha1Stage",
    "Sha224Stage",
    "Sha256Stage",
    "Sha384Stage",
    "Sha512Stage",
    "Xxh3Stage",
    "Xxh64Stage",
]
