"""The stage that writes what passes to a second file."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import Any, ClassVar

from atbu.mp_pipeline.descriptors import PassedDescriptor
from atbu.mp_pipeline.exception import InvalidStateError

from .checks import check_flag
from .endpoints import DescriptorTarget, PathSource, PathTarget, Target, open_target
from .file_item import FileItem
from .name_pattern import check_pattern, filled, has_fields
from .pass_through import PassThroughStage
from .side_outputs import SideOutput, SideWriter
from .taps import Watch


class TeeStage(PassThroughStage):
    """Write what passes to a second file as well, which appears only together with the output.

    It gets the permissions of any new file, but no more than the input file has. It never replaces the input itself.
    A FIFO or a device is written as the data comes, but for the last 64 KiB, which wait for the success of all
    stages; it takes one input only.

    Args:
        file: Its name, in which {name}, {stem} and {suffix} stand for those of the input; its folder has to be there.
        overwrite: Replace a file that is already there, as --force does for the output.
    """

    name = "tee"
    pattern_options = ("file",)
    example: ClassVar[str | None] = 'use = "tee"\nfile = "plain/{name}"'

    def __init__(self, file: str, overwrite: bool = False) -> None:
        super().__init__()
        self.file = check_pattern("file", file)
        if file.endswith("/"):
            raise ValueError(f"file: {file!r} names a folder; '{file}{{name}}' would be a file in it")
        self.overwrite = check_flag("overwrite", overwrite)
        self._folder = os.getcwd()
        self._is_taken = False
        self._replaced: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_replaced": set()}  # the parent's alone, and it grows

    def prepare(self, item: FileItem) -> None:
        path = os.path.join(self._folder, filled(self.file, item.name))
        target = item.target
        is_forced = self.overwrite or (isinstance(target, PathTarget) and target.force)
        if isinstance(target, PathTarget) and os.path.abspath(target.path) == path:
            raise FileExistsError(errno.EEXIST, f"The stage {self.label!r} would write the output's own file", path)
        if isinstance(item.source, PathSource) and _is_one_file(item.source.path, path):
            raise FileExistsError(errno.EEXIST, f"The stage {self.label!r} would write over the input", path)
        if any(isinstance(side.target, PathTarget) and side.target.path == path for side in item.side_outputs.values()):
            raise FileExistsError(errno.EEXIST, f"Another stage {self.label!r} writes this file", path)
        if is_forced:
            # Without force the second one finds the first one's file.
            key = hash(path)
            if key in self._replaced:
                raise FileExistsError(errno.EEXIST, f"Another input of this run has the same {self.label!r}", path)
            self._replaced.add(key)
        item.add_side_output(self.own_key, SideOutput(self._target(path, is_forced)))

    def _target(self, path: str, is_forced: bool) -> Target:
        if not _is_fifo(path):
            target = open_target(path, is_forced)
        else:
            # Not blocking: this is the parent, and everything else would wait for the FIFO's reader too.
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_WRONLY)
            target = DescriptorTarget(PassedDescriptor(descriptor), path)
        if isinstance(target, DescriptorTarget):
            if self._is_taken or has_fields(self.file):
                target.descriptor.close()
                raise OSError(errno.EBUSY, "What is no regular file takes the data of one input only", path)
            self._is_taken = True
        return target

    def watch(self, item: FileItem) -> Watch:
        side = item.side_outputs.get(self.own_key)
        if side is None:
            raise InvalidStateError(f"stage {self.label!r}: {item.name!r} was not prepared, so the file has no name")
        return _Copying(self, item, SideWriter(side))


class _Copying(Watch):
    def __init__(self, stage: TeeStage, item: FileItem, writer: SideWriter) -> None:
        self.label = stage.label
        self._stage = stage
        self._item = item
        self._writer = writer
        self.update = writer.write  # type: ignore[method-assign]  # one call less for each portion

    def finish(self) -> None:
        self._writer.finish(self._item, self._stage.own_key)

    def close(self) -> None:
        self._writer.close()


def _is_one_file(path: str, other: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(other).st_mode) and os.path.samefile(path, other)
    except OSError:  # one of them is not there
        return False


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode) and not os.path.islink(path)
    except OSError:
        return False


__all__ = ["TeeStage"]
