"""Keys and passphrases for age, read from files. No error here repeats what stands in one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

#: Far more than any list of keys; what is longer is another file, named by mistake.
_MAX_BYTES: Final = 1 << 20
_SECRET: Final = "AGE-SECRET-KEY-"
_SSH_PRIVATE: Final = b"-----BEGIN"


def check_key_file(option: str, path: str) -> str:
    """The absolute path of a file that is there. The value is not repeated: it may be a secret, given by mistake."""
    full = os.path.abspath(path)
    if not os.path.exists(full):
        raise ValueError(f"{option}: there is no file of that name; the option takes a file's path, not a secret")
    return full


def read_recipients(path: str, option: str) -> list[Any]:
    """The public keys in a file, one a line; ``#`` begins a comment."""
    return parse_recipients(_lines(path, option), option)


def parse_recipients(texts: Iterable[str], option: str) -> list[Any]:
    """pyrage's objects for public keys, ``age1…`` or ``ssh-…``.

    Raises:
        ValueError: One of them is none; says which.
    """
    import pyrage  # only who encrypts needs it

    found: list[Any] = []
    for number, text in enumerate(texts, start=1):
        if _SECRET in text.upper():
            raise ValueError(f"{option}: number {number} is a secret key; the public one begins with 'age1'")
        kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
        try:
            found.append(kind.Recipient.from_str(text.strip()))
        except pyrage.RecipientError:
            raise ValueError(f"{option}: number {number} is no public key of age or ssh (age1…, ssh-…)") from None
    if not found:
        raise ValueError(f"{option}: there is no key in it")
    return found


def read_identities(path: str, option: str) -> list[Any]:
    """pyrage's objects for the secret keys in a file: that of ``age-keygen``, or one of ssh."""
    import pyrage

    data = _content(path, option)
    if data.startswith(_SSH_PRIVATE):
        try:
            return [pyrage.ssh.Identity.from_buffer(data)]
        except pyrage.IdentityError:
            raise ValueError(f"{option}: the ssh key in it cannot be used (has it a passphrase?)") from None
    found = []
    for number, text in enumerate(_lines(path, option), start=1):
        try:
            found.append(pyrage.x25519.Identity.from_str(text))
        except pyrage.IdentityError:
            raise ValueError(f"{option}: key number {number} in it is no secret key of age ({_SECRET}1…)") from None
    if not found:
        raise ValueError(f"{option}: there is no key in it")
    return found


def read_passphrase(path: str, option: str) -> bytes:
    """What stands in a file, but for one newline at its end."""
    data = _content(path, option)
    passphrase = data.removesuffix(b"\n").removesuffix(b"\r")
    if not passphrase:
        raise ValueError(f"{option}: there is no passphrase in it")
    return passphrase


def _content(path: str, option: str) -> bytes:
    with open(path, "rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"{option}: it has more than {_MAX_BYTES >> 20} MiB, which no such file has")
    return data


def _lines(path: str, option: str) -> list[str]:
    try:
        lines = _content(path, option).decode().splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{option}: it is no text") from None
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


__all__ = ["check_key_file", "parse_recipients", "read_identities", "read_passphrase", "read_recipients"]
