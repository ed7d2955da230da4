"""``--checksums FILE``: the digests that a run has found, as ``sha256sum -c`` and its like read them.

Only an output that is published has a line. The file itself is a temporary until the run has ended.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import Any, Final

from mpp_stages.checksum_lines import ALGORITHMS, format_line, is_always_tagged
from mpp_stages.commit import publish_file, sync_folder, umask, write_all
from mpp_stages.file_item import DescriptorSource, DescriptorTarget, FileItem, PathTarget, open_target
from mpp_stages.temporaries import temporary_beside

from .errors import FileProblem, UsageProblem, shown
from .jobs import Job
from .observers import ItemResult, Observer, RunSummary
from .planned import Definition
from .stdio import Stdio

#: What the checksum tools call standard input.
_STREAM: Final = "-"


class ChecksumsFile(Observer):
    """Writes the lines of a run. Close it in any case; only :meth:`publish` gives the file its name.

    Args:
        path: As the user named it; ``-`` is standard output.
        kinds: The kinds of digests that the pipeline finds.

    Raises:
        UsageProblem: The file is there and ``force`` is not set, or it cannot be made.
    """

    def __init__(self, path: str, kinds: frozenset[str], stdio: Stdio, force: bool) -> None:
        self._shown = path
        self._is_tagged = len(kinds) > 1 or any(map(is_always_tagged, kinds))
        self._final: str | None = None
        self._temporary: str | None = None
        self._force = force
        self._failure: OSError | None = None
        self._pending: deque[tuple[str, str | None, bytes]] = deque()
        try:
            self._descriptor = self._open(path, stdio)
        except OSError as ex:
            hint = " (--force replaces it)" if isinstance(ex, FileExistsError) else ""
            raise FileProblem("--checksums", path, ex, hint) from ex

    def _open(self, path: str, stdio: Stdio) -> int:
        if path == _STREAM:
            if stdio.out_was_closed:
                raise OSError(errno.EBADF, "standard output is closed")
            return os.dup(stdio.data_out)
        target = open_target(path, self._force, stdout=stdio.data_out)
        if isinstance(target, DescriptorTarget):
            descriptor = os.dup(target.descriptor.fileno())
            target.descriptor.close()
            return descriptor
        self._final = os.path.realpath(target.path)
        self._temporary = temporary_beside(self._final)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._temporary, flags, 0o666 & ~umask())

    def before_publish(self, job: Job) -> None:
        """Keep the item's lines until it is known whether its output got its name."""
        item = job.item
        lines = b"".join(self._lines(item))
        self._pending.append((item.name, getattr(item.target, "path", None), lines))

    def item_ended(self, result: ItemResult) -> None:
        """Write the lines of an item that was published, and drop those of one that was not."""
        # Items end in the order in which they were to be published; those that failed before stand in between.
        if not self._pending or self._pending[0][:2] != (result.name, result.target_path):
            return
        _, _, lines = self._pending.popleft()
        if result.status != "done" or self._failure is not None:
            return
        try:
            write_all(self._descriptor, lines)
        except OSError as ex:
            self._failure = OSError(ex.errno, ex.strerror, self._shown)  # told at the end: the outputs are complete

    def run_ended(self, summary: RunSummary) -> None:
        """See :meth:`publish`."""
        self.publish()

    def publish(self) -> None:
        """Give the file its name, however the run has ended: its lines are those of what was published.

        Raises:
            OSError: It could not be written or published; ``filename`` is the file.
        """
        if self._failure is not None:
            raise self._failure
        temporary, final = self._temporary, self._final
        if temporary is None or final is None:
            return
        try:
            os.fsync(self._descriptor)
            publish_file(temporary, final, self._force)
            self._temporary = None
            sync_folder(os.path.dirname(final))
        except OSError as ex:
            raise OSError(ex.errno, ex.strerror, self._shown) from ex

    def close(self) -> None:
        """Drop what has not been published; any number of times."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            os.unlink(temporary)

    def _lines(self, item: FileItem) -> list[bytes]:
        return [
            format_line(found.kind, str(found.value), _name(item, found.sees), tagged=self._is_tagged)
            for found in item.findings
            if found.kind in ALGORITHMS and found.sees is not None
        ]


def open_checksums(
    path: str, definition: Definition, stdio: Stdio, *, force: bool, goes_to_stdout: bool
) -> ChecksumsFile:
    """The file of ``--checksums``, begun.

    Raises:
        UsageProblem: It, or the pipeline, is not fit for it; nothing has been made.
    """
    kinds = digest_kinds(definition)
    if path == _STREAM and goes_to_stdout:
        raise UsageProblem("mpp: --checksums: standard output is taken by the data; name a file")
    return ChecksumsFile(path, kinds, stdio, force)


def digest_kinds(definition: Definition) -> frozenset[str]:
    """The kinds of digests that the pipeline finds of its inputs and outputs.

    Raises:
        UsageProblem: It finds none, or one of bytes that are no file, or one that no checksum file knows.
    """
    stages: list[Any] = [stage for stage in definition.placed if getattr(stage, "is_digest", False)]
    if not stages:
        raise UsageProblem("mpp: --checksums: the pipeline has no stage such as 'sha256' that finds a digest")
    faults = []
    for stage in stages:
        if not (stage.sees_source or stage.sees_output):
            faults.append(
                f"mpp: --checksums: stage '{shown(stage.label)}' (number {stage.position + 1}) stands between stages "
                "that change the bytes, so no file has those that it sees; put it first, or last before 'write'"
            )
        elif stage.kind not in ALGORITHMS:
            faults.append(f"mpp: --checksums: no checksum file knows the digest of stage '{shown(stage.label)}'")
    if faults:
        raise UsageProblem(*faults)
    return frozenset(stage.kind for stage in stages)


def _name(item: FileItem, sees: str | None) -> str:
    if sees == "source":
        return _STREAM if isinstance(item.source, DescriptorSource) else item.name
    return item.target.path if isinstance(item.target, PathTarget) else _STREAM
