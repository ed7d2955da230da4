"""Names of inputs from a file or a pipe, as they come."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from typing import Final

from .found import NotYet

#: Some hundred names, which are held at once.
_READ_BYTES: Final = 1 << 14
#: Longer than any path: what goes on without an end is no list of names, most likely the wrong separator or file.
_MAX_NAME_BYTES: Final = 1 << 16


class NameListError(ValueError):
    """The list is none; what was read of it before has been handed out."""


def names_from(descriptor: int, separator: bytes, shown: str) -> Iterator[str | NotYet]:
    """The names in what ``descriptor`` gives, one after another; it is left open.

    Never waits: while a pipe has nothing, each call for the next gives NotYet. A last name without a separator
    behind it counts; empty names do not.

    Args:
        shown: What messages call the list.

    Raises:
        OSError: The list cannot be read.
        NameListError: It holds something that is no name.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    begun = b""
    while True:
        if not poll.poll(0):
            yield NotYet(descriptor)
            continue
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            continue
        except OSError as ex:
            raise OSError(ex.errno, ex.strerror, shown) from None
        whole, _, begun = (begun + data).rpartition(separator)
        if len(begun) > _MAX_NAME_BYTES:
            raise NameListError(f"'{shown}' is no list of names{_other_separator(begun, separator)}")
        yield from _names_in(whole, separator, shown)
        if not data:
            yield from _names_in(begun, separator, shown)
            return


def open_list(path: str) -> int:
    """Open a list of names.

    Raises:
        OSError: It cannot be opened, or is a folder.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    # Non-blocking is for a FIFO that has no writer yet: names_from() waits for one, and sees no end before it.
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)


def _names_in(data: bytes, separator: bytes, shown: str) -> Iterator[str]:
    good, wrong, _ = data.partition(b"\0") if separator != b"\0" else (data, b"", b"")
    if wrong:
        good = good[: good.rfind(separator) + 1]
    # Decoded at once, for no encoding of names has a separator within a character.
    yield from filter(None, os.fsdecode(good).split(separator.decode()))
    if wrong:
        raise NameListError(f"'{shown}' has names that end with a zero byte: give --null (-0)")


def _other_separator(begun: bytes, separator: bytes) -> str:
    if separator == b"\0" and b"\n" in begun:
        return ": no zero byte ends a name; leave out --null (-0)"
    return f": a name in it is longer than {_MAX_NAME_BYTES} bytes"
