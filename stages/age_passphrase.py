"""Files that ``age -p`` reads and writes, in a stream: the format age-encryption.org/v1 with a passphrase.

pyrage can only do this with the whole file in memory. The format is small (c2sp.org/age): a header that holds the
file's key, wrapped by a key that scrypt makes of the passphrase, and a payload in chunks of 64 KiB, of which the last
one is marked, so that no cut goes unnoticed. The primitives are those of hashlib and of the package cryptography.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import io
import os
import re
from collections.abc import Iterator
from typing import Final

_VERSION: Final = b"age-encryption.org/v1\n"
_ARMOR: Final = b"-----BEGIN AGE"
_SALT_LABEL: Final = b"age-encryption.org/v1/scrypt"
_FILE_KEY_BYTES: Final = 16
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 16
_TAG_BYTES: Final = 16
_CHUNK_BYTES: Final = 64 << 10
_SCRYPT_BLOCK: Final = 8
#: N = 2**18 costs about a second and 256 MiB: what age uses.
DEFAULT_WORK_FACTOR: Final = 18
#: N = 2**22 costs 4 GiB: what age accepts at most. A file must not be able to demand more.
MAX_WORK_FACTOR: Final = 22
_MAX_HEADER_LINE: Final = 4096
_STANZA: Final = re.compile(rb"-> scrypt ([A-Za-z0-9+/]{22}) ([1-9][0-9]?)\n")


class AgeFormatError(ValueError):
    """The input cannot be decrypted; the text says why, and holds no secret."""


def encrypt_with_passphrase(
    reader: io.BufferedReader, writer: io.BufferedWriter, passphrase: bytes, work_factor: int
) -> None:
    """Encrypt ``reader`` to its end."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # costs 20 ms

    file_key, salt, nonce = os.urandom(_FILE_KEY_BYTES), os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    wrapped = ChaCha20Poly1305(_wrap_key(passphrase, salt, work_factor)).encrypt(bytes(12), file_key, None)
    header = _VERSION + b"-> scrypt %s %d\n%s\n---" % (_encoded(salt), work_factor, _encoded(wrapped))
    writer.write(b"%s %s\n%s" % (header, _encoded(_header_mac(file_key, header)), nonce))
    cipher = ChaCha20Poly1305(_derived(file_key, nonce, b"payload"))
    for number, chunk, is_last in _numbered(reader, _CHUNK_BYTES):
        writer.write(cipher.encrypt(_chunk_nonce(number, is_last), chunk, None))


def decrypt_with_passphrase(reader: io.BufferedReader, writer: io.BufferedWriter, passphrase: bytes) -> None:
    """Decrypt ``reader``; returns only when its end is the end that was encrypted.

    What is written before an error is authentic, but not all.

    Raises:
        AgeFormatError: It is no such file, or it is cut or changed, or the passphrase is another one.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    file_key = _read_file_key(reader, passphrase)
    nonce = reader.read(_NONCE_BYTES)
    if len(nonce) != _NONCE_BYTES:
        raise AgeFormatError("it ends in the middle (truncated?)")
    cipher = ChaCha20Poly1305(_derived(file_key, nonce, b"payload"))
    for number, sealed, is_last in _numbered(reader, _CHUNK_BYTES + _TAG_BYTES):
        try:
            chunk = cipher.decrypt(_chunk_nonce(number, is_last), sealed, None)
        except (InvalidTag, ValueError):
            raise AgeFormatError("the encrypted data is corrupt or truncated") from None
        if not chunk and number:
            raise AgeFormatError("the encrypted data is corrupt: its last chunk is empty")
        writer.write(chunk)


def _read_file_key(reader: io.BufferedReader, passphrase: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    version = reader.readline(_MAX_HEADER_LINE)
    if version.startswith(_ARMOR):
        raise AgeFormatError("it is armored, which is not supported together with a passphrase; 'age -d' reads it")
    if version != _VERSION:
        raise AgeFormatError("it is no age file")
    stanza = reader.readline(_MAX_HEADER_LINE)
    found = _STANZA.fullmatch(stanza)
    if found is None:
        if stanza.startswith(b"-> ") and not stanza.startswith(b"-> scrypt ") and stanza.endswith(b"\n"):
            raise AgeFormatError("it was not encrypted with a passphrase; give identities_file")
        raise AgeFormatError("its header is corrupt or truncated")
    work_factor = int(found[2])
    if work_factor > MAX_WORK_FACTOR:
        raise AgeFormatError(f"its work factor, {work_factor}, would take too much memory")
    body, end = reader.readline(_MAX_HEADER_LINE), reader.readline(_MAX_HEADER_LINE)
    if end.startswith(b"-> "):
        raise AgeFormatError("its header is corrupt: beside a passphrase there can be no other recipient")
    if not (body.endswith(b"\n") and end.startswith(b"--- ") and end.endswith(b"\n")):
        raise AgeFormatError("its header is corrupt or truncated")
    salt, wrapped, mac = _decoded(found[1]), _decoded(body[:-1]), _decoded(end[4:-1])
    if len(wrapped) != _FILE_KEY_BYTES + _TAG_BYTES:
        raise AgeFormatError("its header is corrupt")
    try:
        file_key = ChaCha20Poly1305(_wrap_key(passphrase, salt, work_factor)).decrypt(bytes(12), wrapped, None)
    except InvalidTag:
        raise AgeFormatError("the passphrase is not the one that it was encrypted with") from None
    if not hmac.compare_digest(mac, _header_mac(file_key, version + stanza + body + b"---")):
        raise AgeFormatError("its header is corrupt")
    return file_key


def _numbered(reader: io.BufferedReader, chunk_bytes: int) -> Iterator[tuple[int, bytes, bool]]:
    """(number, chunk, whether it is the last); of an empty input one empty chunk."""
    number, chunk = 0, reader.read(chunk_bytes)
    while True:
        following = reader.read(chunk_bytes) if len(chunk) == chunk_bytes else b""
        yield number, chunk, not following
        if not following:
            return
        number, chunk = number + 1, following


def _chunk_nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


def _wrap_key(passphrase: bytes, salt: bytes, work_factor: int) -> bytes:
    n = 1 << work_factor
    memory = 128 * _SCRYPT_BLOCK * (n + 4)  # what OpenSSL counts, and some blocks more
    return hashlib.scrypt(passphrase, salt=_SALT_LABEL + salt, n=n, r=_SCRYPT_BLOCK, p=1, maxmem=memory, dklen=32)


def _header_mac(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_derived(file_key, b"", b"header"), header, "sha256")


def _derived(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    """HKDF-SHA-256 (RFC 5869), for one block of output."""
    extracted = hmac.digest(salt or bytes(32), key, "sha256")
    return hmac.digest(extracted, purpose + b"\x01", "sha256")


def _encoded(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _decoded(text: bytes) -> bytes:
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise AgeFormatError("its header is corrupt") from None
    if _encoded(data) != text:  # there is one way to write it
        raise AgeFormatError("its header is corrupt")
    return data


__all__ = [
    "DEFAULT_WORK_FACTOR",
    "MAX_WORK_FACTOR",
    "AgeFormatError",
    "decrypt_with_passphrase",
    "encrypt_with_passphrase",
]
