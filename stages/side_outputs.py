"""A second output of an item, which becomes visible only with the first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from .commit import publish_file, sync_folder, umask, write_all
from .endpoints import DescriptorTarget, PathSource, PathTarget, Target, follow_links
from .temporaries import temporary_beside

if TYPE_CHECKING:
    from .file_item import FileItem

#: As much of the end as the sink keeps back (see sinks.py).
_HOLD_BACK_BYTES: Final = 64 << 10
_HELD: Final = "held back "


class SideOutput:
    """Where a side output goes, in the parent and in its copies; all but ``temporary`` stays as it is.

    Attributes:
        target: A file, or an open descriptor that is written directly.
        temporary: The file that is filled in this attempt; None for a descriptor.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.temporary: str | None = None
        self._final: str | None = None
        self._published: str | None = None

    def before_attempt(self) -> None:
        """Choose a temporary of this attempt's own, in the parent."""
        self.discard()
        if isinstance(self.target, PathTarget):
            self._final = follow_links(self.target.path)
            self.temporary = temporary_beside(self._final)

    def publish(self, held_back: bytes, is_synced: bool) -> None:
        """Make it visible, or write its end. Raises OSError, whose ``filename`` is the target."""
        target = self.target
        try:
            if isinstance(target, DescriptorTarget):
                write_all(target.descriptor.fileno(), held_back)
            elif self.temporary is not None and self._final is not None:
                publish_file(self.temporary, self._final, target.force)
                self.temporary = None
                if not target.force:
                    self._published = self._final
                if is_synced:
                    sync_folder(os.path.dirname(self._final))
        except OSError as ex:
            shown = target.name if isinstance(target, DescriptorTarget) else target.path
            raise OSError(ex.errno, ex.strerror, shown) from ex

    def take_back(self) -> None:
        """Undo :meth:`publish` where nothing else was replaced by it: the first output could not be published."""
        published, self._published = self._published, None
        if published is not None:
            with contextlib.suppress(OSError):
                os.unlink(published)

    def discard(self) -> None:
        """Drop what has not been published. Never raises."""
        temporary, self.temporary = self.temporary, None
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def close(self) -> None:
        """Close the descriptor, where it is one."""
        if isinstance(self.target, DescriptorTarget):
            self.target.descriptor.close()


class SideWriter:
    """Fills a side output, in the stage that makes it."""

    def __init__(self, side: SideOutput) -> None:
        target = side.target
        self._is_owned = side.temporary is not None
        self._held = bytearray()
        if isinstance(target, DescriptorTarget):
            self._shown = target.name
            self._descriptor = target.descriptor.fileno()
            return
        self._shown = target.path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with self._named():
            self._descriptor = os.open(side.temporary or "", flags, 0o600)

    def write(self, data: memoryview) -> None:
        """The next bytes; of a descriptor's the last ones are kept back."""
        with self._named():
            if self._is_owned:
                write_all(self._descriptor, data)
                return
            due = len(self._held) + len(data) - _HOLD_BACK_BYTES
            of_held = max(0, min(due, len(self._held)))
            of_new = max(0, due - of_held)
            if of_held:
                write_all(self._descriptor, bytes(self._held[:of_held]))
                del self._held[:of_held]
            if of_new:
                write_all(self._descriptor, data[:of_new])
            self._held += data[of_new:]

    def finish(self, item: FileItem, key: str) -> None:
        """It is complete; a descriptor's end is left on ``item``, the stage's copy."""
        if not self._is_owned:
            item.__dict__[_HELD + key] = bytes(self._held)
            return
        with self._named():
            os.fchmod(self._descriptor, self._mode(item))
            if is_to_sync(item):
                os.fsync(self._descriptor)
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _mode(self, item: FileItem) -> int:
        """That of any new file, but nobody may read here who may not read the source file."""
        mode = 0o666 & ~umask()
        if isinstance(item.source, PathSource):
            source = os.stat(item.source.path)
            mode &= source.st_mode
            if os.fstat(self._descriptor).st_gid != source.st_gid:
                mode &= 0o707 | (mode & 0o007) << 3
        return mode

    def close(self) -> None:
        """Let go of the file; the parent unlinks or publishes it."""
        descriptor, self._descriptor = self._descriptor, -1
        if self._is_owned and descriptor >= 0:
            os.close(descriptor)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as ex:
            raise OSError(ex.errno, ex.strerror, self._shown) from None


def is_to_sync(item: FileItem) -> bool:
    """Whether the data must be on the disk before the file gets its name, as for the sink: they may be nowhere else."""
    return not isinstance(item.source, PathSource)


def take_held_back(item: FileItem, key: str) -> bytes:
    """The end that :meth:`SideWriter.finish` has left on the item; once, for a second try must not write it twice."""
    end: bytes = item.__dict__.pop(_HELD + key, b"")
    return end


__all__ = ["SideOutput", "SideWriter", "is_to_sync", "take_held_back"]
