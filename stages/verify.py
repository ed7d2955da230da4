"""The stage that checks the bytes passing by against a file of checksums."""

from __future__ import annotations

import functools
import hmac
import os
from typing import Any, ClassVar, Final

from atbu.mp_pipeline.exception import PipelineError

from .checksum_lines import ALGORITHMS, ChecksumLine, parse_line
from .endpoints import DescriptorSource, DescriptorTarget
from .errors import StageDataError
from .file_item import FileItem
from .pass_through import PassThroughStage
from .taps import Watch

#: What the checksum tools call standard input.
_STDIN: Final = "-"


class VerifyStage(PassThroughStage):
    """Check the bytes that pass against a file of checksums, such as ``sha256sum`` writes.

    A digest that differs, or an input without a line, fails the input, and nothing of it is published. A line's name is
    the input's where the stage sees the input's bytes, else the output's; relative names are those seen from the
    current folder, or else from the folder of the file.

    Args:
        checksums: The file: lines of ``sha256sum``, ``b3sum``, ``md5sum`` and their like, plain or tagged.
        algorithm: The stage whose digest stands in lines that do not say so, such as "blake3"; by their length, md5,
            sha1, sha224, sha256, sha384, sha512 or xxh64, if not given.
    """

    name = "verify"
    needs_file_bytes: ClassVar[bool] = True
    path_options = ("checksums",)
    example: ClassVar[str | None] = 'use = "verify"\nchecksums = "SHA256SUMS"'

    def __init__(self, checksums: str, algorithm: str | None = None) -> None:
        super().__init__()
        if algorithm is not None and algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, not {algorithm!r}")
        self.checksums = checksums
        self.algorithm = algorithm
        # A worker may stand in another folder than the user.
        self._path = os.path.abspath(checksums)
        self._folder = os.getcwd()
        if not os.path.isfile(self._path):
            raise ValueError(f"there is no file {checksums!r}")

    def watch(self, item: FileItem) -> Watch:
        return _Verification(self, item.name, self._line_of(item))

    def _line_of(self, item: FileItem) -> ChecksumLine:
        name = self._name_of(item)
        status = os.stat(self._path)
        known = _read_checksums(self._path, self._folder, self.algorithm, status.st_mtime_ns, status.st_size)
        path = name if name == _STDIN else os.path.join(self._folder, name)
        line = known.get(os.path.normpath(path))
        if line is None:
            raise StageDataError(self.label, item.name, f"{self.checksums!r} has no line for {name!r}")
        return line

    def _name_of(self, item: FileItem) -> str:
        if self.position is not None and not (self.sees_source or self.sees_output):
            raise PipelineError(
                f"stage {self.label!r} stands between stages that change the bytes, so no file has those that it sees; "
                "put it first, or last before 'write'"
            )
        if self.sees_output and not self.sees_source:
            target = item.target
            return _STDIN if isinstance(target, DescriptorTarget) else target.path
        return _STDIN if isinstance(item.source, DescriptorSource) else item.name


class _Verification(Watch):
    def __init__(self, stage: VerifyStage, item: str, line: ChecksumLine) -> None:
        self.label = stage.label
        self._item = item
        self._shown = stage.checksums
        self._line = line
        self._hasher = _new_hasher(line)

    def update(self, data: memoryview) -> None:
        self._hasher.update(data)

    def finish(self) -> None:
        found, expected = self._hasher.hexdigest(), self._line.digest
        if not hmac.compare_digest(found, expected):
            problem = f"its {self._line.kind} is {found}, and {self._shown!r} says {expected}"
            raise StageDataError(self.label, self._item, problem)


def _new_hasher(line: ChecksumLine) -> Any:
    from . import digests

    if line.kind == "b2":
        return digests.B2Stage(len(line.digest) * 4).new_hasher()
    if line.kind == "xxh128":
        return digests.Xxh3Stage(128).new_hasher()
    stages: dict[str, type[digests.DigestStage]] = {
        "md5": digests.Md5Stage,
        "sha1": digests.Sha1Stage,
        "sha224": digests.Sha224Stage,
        "sha256": digests.Sha256Stage,
        "sha384": digests.Sha384Stage,
        "sha512": digests.Sha512Stage,
        "blake3": digests.Blake3Stage,
        "xxh3": digests.Xxh3Stage,
        "xxh64": digests.Xxh64Stage,
    }
    return stages[line.kind]().new_hasher()


# Kept in the worker from item to item: parsing a long file anew for each of its files would take quadratic time. A file
# that has changed is read again.
@functools.lru_cache(maxsize=2)
def _read_checksums(path: str, folder: str, kind: str | None, mtime_ns: int, size: int) -> dict[str, ChecksumLine]:
    """All lines by the paths that their names may mean."""
    found: dict[str, ChecksumLine] = {}
    beside: dict[str, ChecksumLine] = {}
    with open(path, "rb") as file:
        for number, raw in enumerate(file, start=1):
            text = raw.rstrip(b"\r\n")
            if not text or text.startswith(b"#"):
                continue
            try:
                line = parse_line(text, kind)
            except ValueError as ex:
                raise PipelineError(f"{path!r}: line {number}: {ex}") from None
            if line.name == _STDIN:
                found.setdefault(_STDIN, line)
                continue
            found.setdefault(os.path.normpath(os.path.join(folder, line.name)), line)
            beside.setdefault(os.path.normpath(os.path.join(os.path.dirname(path), line.name)), line)
    return beside | found


__all__ = ["VerifyStage"]
