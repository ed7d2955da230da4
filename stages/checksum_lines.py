"""Lines of checksum files, as coreutils, b3sum and xxhsum write and read them. Pure: bytes in, bytes out.

Two forms, from the manual of coreutils, 6.4:

    0123…cdef  name              one algorithm for the whole file, which the line does not name
    SHA256 (name) = 0123…cdef    tagged; lines of several algorithms may be mixed
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

#: Kind of finding -> what a tagged line calls the algorithm, and how many hex digits its digest has.
ALGORITHMS: Final[dict[str, tuple[str, int]]] = {
    "md5": ("MD5", 32),
    "sha1": ("SHA1", 40),
    "sha224": ("SHA224", 56),
    "sha256": ("SHA256", 64),
    "sha384": ("SHA384", 96),
    "sha512": ("SHA512", 128),
    "b2": ("BLAKE2b", 128),
    "blake3": ("BLAKE3", 64),
    "xxh64": ("XXH64", 16),
    "xxh128": ("XXH128", 32),
    "xxh3": ("XXH3", 16),
}
#: xxhsum takes a plain line of 16 digits for XXH64.
_ALWAYS_TAGGED: Final = frozenset({"xxh3"})
#: Their tools do not know the escape of a carriage return, which those of coreutils from 9.0 on write.
_CR_AS_IT_IS: Final = frozenset({"blake3", "xxh64", "xxh128", "xxh3"})
_KINDS_BY_TAG: Final = {tag: kind for kind, (tag, _) in ALGORITHMS.items()}
#: A plain line's algorithm where nobody has named one; the more usual one of equal length.
_KINDS_BY_DIGITS: Final = {
    digits: kind for kind, (_, digits) in ALGORITHMS.items() if kind not in ("b2", "blake3", "xxh3", "xxh128")
}

_PLAIN: Final = re.compile(rb"(\\?)([0-9a-fA-F]{16,128}) [ *](.+)", re.DOTALL)
_TAGGED: Final = re.compile(rb"(\\?)([A-Za-z0-9]+)(?:-([0-9]{1,3}))? \((.+)\) = ([0-9a-fA-F]+)", re.DOTALL)
_ESCAPES: Final = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}
_BITS_A_DIGIT: Final = 4


class ChecksumLine(NamedTuple):
    """One line: the digest that the file of that name must have."""

    kind: str
    digest: str
    name: str


def is_always_tagged(kind: str) -> bool:
    """Whether the algorithm's own tool reads its lines in the tagged form only."""
    return kind in _ALWAYS_TAGGED


def format_line(kind: str, digest: str, name: str, *, tagged: bool) -> bytes:
    """A whole line, with its newline. A name with a backslash or a newline is escaped as coreutils does."""
    raw = os.fsencode(name)
    escaped = raw.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    if kind not in _CR_AS_IT_IS:
        escaped = escaped.replace(b"\r", b"\\r")
    mark = b"" if escaped == raw else b"\\"
    if not tagged:
        return b"%s%s  %s\n" % (mark, digest.encode(), escaped)
    tag, digits = ALGORITHMS[kind]
    if len(digest) != digits:  # a BLAKE2b of another length than the usual
        tag += f"-{len(digest) * _BITS_A_DIGIT}"
    return b"%s%s (%s) = %s\n" % (mark, tag.encode(), escaped, digest.encode())


def parse_line(line: bytes, kind: str | None = None) -> ChecksumLine:
    """Read one line, without its newline.

    Args:
        line: Plain or tagged.
        kind: The algorithm of plain lines; told by the digest's length if None.

    Raises:
        ValueError: It is no such line, or nothing tells its algorithm.
    """
    tagged = _TAGGED.fullmatch(line)
    if tagged is not None and (found := _KINDS_BY_TAG.get(tagged[2].decode())) is not None:
        mark, digest, name = tagged[1], tagged[5], tagged[4]
        bits = len(digest) * _BITS_A_DIGIT
        expected = int(tagged[3]) if tagged[3] else ALGORITHMS[found][1] * _BITS_A_DIGIT
        if bits != expected or (tagged[3] and found != "b2"):
            raise ValueError("its digest has a wrong length")
    else:
        plain = _PLAIN.fullmatch(line)
        if plain is None:
            raise ValueError("it is neither 'digest  name' nor 'ALGORITHM (name) = digest'")
        mark, digest, name = plain[1], plain[2], plain[3]
        found = kind or _KINDS_BY_DIGITS.get(len(digest))
        if found is None:
            raise ValueError(f"a digest of {len(digest)} digits does not tell its algorithm")
        if found != "b2" and len(digest) != ALGORITHMS[found][1]:
            raise ValueError(f"a {found} digest has {ALGORITHMS[found][1]} digits, not {len(digest)}")
    if len(digest) % 2 or len(digest) > ALGORITHMS[found][1]:  # only those of b2 can be
        raise ValueError("its digest has a wrong length")
    return ChecksumLine(found, digest.decode().lower(), os.fsdecode(_unescaped(name) if mark else name))


def _unescaped(name: bytes) -> bytes:
    try:
        return re.sub(rb"\\(.?)", lambda escape: _ESCAPES[escape[0]], name, flags=re.DOTALL)
    except KeyError:
        raise ValueError("its name has an escape that is none") from None


__all__ = ["ALGORITHMS", "ChecksumLine", "format_line", "is_always_tagged", "parse_line"]
