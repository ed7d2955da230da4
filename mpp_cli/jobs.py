"""From INPUT arguments and ``-o`` to work items, one at a time and only when they are asked for."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mpp_stages.file_item import (
    DescriptorSource,
    DescriptorTarget,
    FileItem,
    PathSource,
    Source,
    Target,
    open_source,
    open_target,
    source_of,
)
from mpp_stages.naming import target_path

from atbu.mp_pipeline.descriptors import PassedDescriptor

from .errors import shown
from .stdio import Stdio

STDIN: Final = "-"
STDOUT: Final = "-"
_STDIN_PATHS: Final = (STDIN, "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
_STDOUT_PATHS: Final = (STDOUT, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


@dataclass(frozen=True)
class Job:
    """An item that is ready to be submitted.

    Attributes:
        is_stream: Its source cannot be read again: a stop signal aborts it.
    """

    item: FileItem
    is_stream: bool

    @property
    def writes_directly(self) -> bool:
        """Whether it has no temporary, so that nothing is left behind when it ends at once."""
        return isinstance(self.item.target, DescriptorTarget)

    def close(self) -> None:
        """Close the parent's copies of its descriptors."""
        for side in self.item.side_outputs.values():
            side.close()
        _close_ends(self.item.source, self.item.target)


@dataclass(frozen=True)
class Refused:
    """An input that cannot even begin, and why."""

    name: str
    error: Exception


class JobMaker:
    """Makes the jobs of a run.

    Args:
        stages: The pipeline's stages; they decide how outputs are called.
        output: The ``-o`` argument, or None for a name beside each input.
        force: Whether existing files may be replaced.
    """

    def __init__(self, stdio: Stdio, stages: Sequence[Any], output: str | None, force: bool) -> None:
        self._stdio = stdio
        self._stages = stages
        self._output = output
        self._force = force

    def jobs(self, inputs: Iterable[str]) -> Iterator[Job | Refused]:
        """Make one job for each input. Opens what is no regular file, so take no more than are run soon."""
        for name in inputs:
            try:
                yield self._job(name)
            except (OSError, ValueError) as ex:
                yield Refused("stdin" if is_stdin(name) else name, ex)

    def _job(self, name: str) -> Job:
        source = self._stdin() if is_stdin(name) else open_source(name)
        try:
            target = self._target(name, source)
        except BaseException:
            _close_ends(source)
            raise
        item = FileItem(source, target, name="stdin" if is_stdin(name) else name)
        return Job(item, is_stream=isinstance(source, DescriptorSource))

    def _stdin(self) -> Source:
        if self._stdio.in_was_closed:
            raise OSError(errno.EBADF, "standard input is closed")
        return source_of(os.dup(self._stdio.take_stdin()))

    def _target(self, name: str, source: Source) -> Target:
        if self._output is not None and not is_stdout(self._output):
            return open_target(self._output, self._force, stdout=self._stdio.data_out)
        if self._output is not None or is_stdin(name):
            if self._stdio.out_was_closed:
                raise OSError(errno.EBADF, "standard output is closed")
            return DescriptorTarget(PassedDescriptor(os.dup(self._stdio.data_out)), "stdout")
        if not isinstance(source, PathSource):
            raise ValueError(f"'{shown(name)}' is no regular file, so its output has no name: give -o FILE")
        return open_target(target_path(name, self._stages), self._force, stdout=self._stdio.data_out)


def is_stdin(name: str) -> bool:
    """Whether an INPUT argument means standard input."""
    return name in _STDIN_PATHS


def is_stdout(name: str) -> bool:
    """Whether an argument of ``-o`` means standard output."""
    return name in _STDOUT_PATHS


def _close_ends(*ends: Source | Target) -> None:
    for end in ends:
        if isinstance(end, (DescriptorSource, DescriptorTarget)):
            end.descriptor.close()
