"""The work item of byte stages: one source, one target, and the step that makes the target visible."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Final

from atbu.mp_pipeline.exception import InvalidStateError
from atbu.mp_pipeline.named_tuple import NamedTuple
from atbu.mp_pipeline.work_item import PipelineWorkItem

from .commit import publish_file, sync_folder, write_all
from .endpoints import (
    DescriptorSource,
    DescriptorTarget,
    PathSource,
    PathTarget,
    Source,
    Target,
    follow_links,
    open_source,
    open_target,
    own_descriptor,
    source_of,
)
from .side_outputs import SideOutput, is_to_sync, take_held_back
from .temporaries import temporary_beside

#: Not an identifier, so that no attribute of a stage's own can be taken for a finding.
_FINDING: Final = "finding "


class Finding(NamedTuple):
    """What a stage has found out about the bytes that passed it.

    Attributes:
        kind: Of what, such as ``sha256`` or ``lines``.
        sees: Whose bytes these were: ``output``, else ``source``, else None.
    """

    kind: str
    value: str | int
    sees: str | None = None

    def __str__(self) -> str:
        of_whose = "" if self.sees is None else f" of the {self.sees}"
        return f"{self.kind}{of_whose}: {self.value}"


class FileItem(PipelineWorkItem):
    """Bytes from a source through byte stages to a target.

    The sink never makes the target visible. When the item has come back, whoever submitted it calls either
    :meth:`publish` or :meth:`discard`, in the process that submitted it.

    What a stage sets on its copy is carried back; what it did not touch is not in the way of what its
    neighbour in the chain has set, because results are class attributes until they are set.

    Args:
        source: Where the bytes come from. A path is made absolute: a worker may stand in another folder.
        target: Where they go.
        name: What messages call the input; usually its path as the user named it.
    """

    # Slots are not among the attributes that stage_complete() carries back: they belong to the parent.
    __slots__ = (
        "_final",
        "_is_published",
        "_side_outputs",
        "_temporary",
        "is_source_bare",
        "name",
        "source",
        "source_status",
        "target",
    )

    #: When the first stage began, by the clock that all processes share (time.monotonic_ns()); 0: never.
    begun_ns: int = 0
    #: Bytes that the first stage has read from the source.
    bytes_read: int = 0
    #: Bytes that the sink has made of them.
    bytes_written: int = 0
    #: The end of the output, where the target is written directly: publish() writes it.
    held_back: bytes = b""
    #: Set by the sink when the output is complete.
    is_written: bool = False
    #: Set by the sink when the output is on the disk, so that its name has to follow it there.
    is_synced: bool = False
    #: The source's status after it was read, where one process does all, and whether it has no extended attributes,
    #: for certain. Not carried back.
    source_status: os.stat_result | None
    is_source_bare: bool

    def __init__(self, source: Source, target: Target, *, name: str) -> None:
        # Not our base class's, whose attributes have their defaults: it costs as much as the rest.
        if isinstance(source, PathSource) and not source.path.startswith("/"):
            source = PathSource(os.path.abspath(source.path))
        self.source = source
        self.target = target
        self.name = name
        self._temporary: str | None = None
        self._final: str | None = None
        self._is_published = False
        self._side_outputs: Mapping[str, SideOutput] | None = None
        self.source_status = None
        self.is_source_bare = False

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of_paths(cls, name: str, source_path: str, target_path: str, temporary: str) -> FileItem:
        """The copy for a worker that is told the paths alone, absolute ones, and fills ``temporary``."""
        item = cls.__new__(cls)
        item.name = name
        item.source = PathSource(source_path)
        item.target = PathTarget(target_path)
        item._temporary = temporary
        item._final = None
        item._is_published = False
        item._side_outputs = None
        item.source_status = None
        item.is_source_bare = False
        return item

    @property
    def temporary(self) -> str | None:
        """The file that the sink fills in this attempt; None where the target is written directly."""
        return self._temporary

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the stages have found out; in their order, where a planner has told them their places."""
        return tuple(self.__dict__[name] for name in sorted(self.__dict__) if name.startswith(_FINDING))

    def add_finding(self, key: str, finding: Finding) -> None:
        """Put a finding on this copy; ``key`` tells it from those of all other stages.

        Each is an attribute of its own: stages of a chain work on copies, and one list would replace another.
        """
        self.__dict__[_FINDING + key] = finding

    @property
    def side_outputs(self) -> Mapping[str, SideOutput]:
        """Further outputs that become visible with the first one, by the keys of :meth:`add_side_output`."""
        return self._side_outputs or {}

    def add_side_output(self, key: str, side: SideOutput) -> None:
        """Have ``side`` published, discarded and closed with the item; for a stage's ``prepare``, in the parent."""
        self._side_outputs = {**self.side_outputs, key: side}

    def before_attempt(self, attempt: int) -> None:
        """Choose a temporary of this attempt's own, here in the parent, which outlives any worker.

        Item stages that run after the sink, in whatever attempt, leave the complete output alone.
        """
        if self.is_written:
            return
        if attempt or self._temporary is not None:
            self.discard()
        target = self.target
        if isinstance(target, PathTarget):
            self._final = final = target.final or follow_links(target.path)
            self._temporary = temporary_beside(final)
        if self._side_outputs:
            for side in self.side_outputs.values():
                side.before_attempt()

    def may_retry(self) -> bool:
        """Only where the source can be read again and nothing has been written to the target."""
        targets = (self.target, *(side.target for side in self.side_outputs.values()))
        return isinstance(self.source, PathSource) and all(isinstance(target, PathTarget) for target in targets)

    def publish(self) -> None:
        """Make the output visible under its name, or write the end that was held back. Once is enough.

        Side outputs come first: where the output is, they are.

        Raises:
            FileExistsError: The target is there, and its ``force`` is not set.
            OSError: Anything else; ``filename`` is the target as the user named it. discard() is then still due.
            InvalidStateError: The item failed, or no sink has completed it.
        """
        if self._is_published:
            return
        if self.exceptions or not self.is_written:
            raise InvalidStateError(f"{self.name!r} was not written by every stage, so it cannot be published")
        if self._side_outputs:
            for key, side in self.side_outputs.items():
                side.publish(take_held_back(self, key), is_to_sync(self))
        target, temporary, final = self.target, self._temporary, self._final
        try:
            if isinstance(target, DescriptorTarget):
                held_back, self.held_back = self.held_back, b""  # a second try must not write them twice
                write_all(target.descriptor.fileno(), held_back)
            elif temporary is None or final is None:
                raise InvalidStateError(f"{self.name!r} has no temporary: it was discarded or never run")
            else:
                publish_file(temporary, final, target.force)
                self._temporary = None
                if self.is_synced:
                    sync_folder(os.path.dirname(final))
        except OSError as ex:
            shown = target.name if isinstance(target, DescriptorTarget) else target.path
            raise OSError(ex.errno, ex.strerror, shown) from ex
        self._is_published = True

    def discard(self) -> None:
        """Drop what has not been published. Never raises; any number of times."""
        for side in self.side_outputs.values():
            side.discard()
            if not self._is_published:
                side.take_back()
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if self.__dict__:
            for result in ("held_back", "is_written"):
                self.__dict__.pop(result, None)  # back to the class's


__all__ = [
    "DescriptorSource",
    "DescriptorTarget",
    "FileItem",
    "Finding",
    "PathSource",
    "PathTarget",
    "Source",
    "Target",
    "open_source",
    "open_target",
    "own_descriptor",
    "source_of",
]
