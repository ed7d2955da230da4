"""Where the output of each input goes, and what forbids it."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from mpp_stages.naming import OutputNamer, same_name

from atbu.mp_pipeline.named_tuple import NamedTuple

from .errors import shown
from .inputs.found import DONE_BEFORE, EXISTS, IS_OURS, IS_REPEATED, Folder, FoundFile, Skipped
from .inputs.seen import SeenNames

#: Folders below --output-dir that are known to be there.
_KNOWN_FOLDERS: Final = 1024
#: More than this is some work.
_LARGE_BYTES: Final = 1 << 20


class TargetTaken(OSError):
    """Another input of this run has the same output."""

    def __init__(self, target: str) -> None:
        super().__init__(errno.EEXIST, "Another input of this run has the same output", target)

    def __reduce__(self) -> tuple[type[TargetTaken], tuple[str]]:
        return type(self), (str(self.filename),)


class NamedTarget(NamedTuple):
    """The output of one file.

    Attributes:
        shown: As messages call it.
        final: The absolute path that it gets; a link there is neither followed nor replaced.
    """

    shown: str
    final: str


class Outputs:
    """Names the outputs of a run that stand beside their sources or below ``--output-dir``.

    Args:
        namer: Gives the name within the folder.
        output_dir: The folder for all outputs; None for each one's own.
        force: Whether existing files are replaced.
        skip_existing: Whether an input whose output is there is passed over.
        may_collide: Whether two inputs might get one output, or an output be met as an input. Where they cannot,
            nothing is remembered.
        own_paths: Real paths at which the run writes something else, and the options that say so.
        is_done: Asked where an output is there: whether an earlier run, whose journal is gone on with, made it.

    Attributes:
        tells_repeated: Whether files that come again are noticed here: their outputs alone are remembered, not they.
    """

    def __init__(
        self,
        namer: OutputNamer,
        *,
        output_dir: str | None,
        force: bool,
        skip_existing: bool,
        may_collide: bool,
        own_paths: Mapping[str, str] | None = None,
        is_done: Callable[[FoundFile, str], bool] | None = None,
    ) -> None:
        self._namer = namer
        self._output_dir = output_dir
        self._force = force
        self._skip_existing = skip_existing
        self._is_done = is_done
        self._own_paths = own_paths
        self._real_output_dir = None if output_dir is None else os.path.join(os.path.realpath(output_dir), "")
        self._taken = SeenNames() if may_collide else None
        # Where no two files have one output, an output that comes again tells of a file that comes again.
        self.tells_repeated = may_collide and not self.may_collide_anywhere
        self._empty_folder: Folder | None = None
        self._ready_folder = functools.lru_cache(_KNOWN_FOLDERS)(self._make_folder)

    @property
    def may_collide_anywhere(self) -> bool:
        """Whether two files, wherever they are, might get one output: not beside them, by names that stay different."""
        return self._output_dir is not None or not self._namer.is_one_to_one

    def has_no_output(self, found: FoundFile) -> bool:
        """Note that a file gets no output; says whether that was noted before, where :attr:`tells_repeated`."""
        if self._taken is None or not self.tells_repeated or found.status is None:
            return False
        return not self._taken.add(found.real + "\0")  # which no output is called

    def folders_below(self, root: Folder) -> Iterable[str]:
        """The real paths of the folders that the outputs for a named folder go to, if not beside their sources."""
        if self._real_output_dir is None:
            return ()
        return {self._real_output_dir, self._real_output_dir + root.kept}

    def target_of(self, found: FoundFile) -> NamedTarget | Skipped:
        """The output for a file. Looks whether it is there, and makes nothing.

        Raises:
            TargetTaken: An input before has it.
            FileExistsError: It is there, and may not be replaced.
            ValueError: It has no name.
        """
        folder, base, status, is_named = found
        taken, namer = self._taken, self._namer
        if taken is not None and base.endswith(namer.added) and found.real in taken:
            return Skipped(found.name, IS_OURS, found.path)
        if not is_named and (reason := namer.why_not_found(base)) is not None:
            return Skipped(found.name, IS_REPEATED if self.has_no_output(found) else reason, found.path)
        output = namer.name_for(base, folder.shown + base)
        if self._output_dir is None:
            shown_target, final, real = folder.shown + output, folder.path + output, folder.real + output
        else:
            kept = folder.kept + output
            shown_target = os.path.join(self._output_dir, kept)
            final = real = f"{self._real_output_dir}{kept}"
        if output == base and real == found.real:
            raise same_name(found.name)
        if self._own_paths and real in self._own_paths:
            raise OSError(
                errno.EBUSY, f"That is the file of {self._own_paths[real]}: give it another name", shown_target
            )
        if taken is not None and not taken.add(real):
            if self.tells_repeated:
                return Skipped(found.name, IS_REPEATED, found.path)
            raise TargetTaken(shown_target)
        # Most are not there, and access() says so without an exception. What is large is asked for in any case, for
        # its work would be lost.
        is_known = folder is self._empty_folder and status is not None and status.st_size <= _LARGE_BYTES
        if not is_known and os.access(final, os.F_OK, follow_symlinks=False):
            if self._is_done is not None and self._is_done(found, final):
                return Skipped(found.name, DONE_BEFORE, found.path, final, found.status)
            if self._skip_existing:
                return Skipped(found.name, EXISTS, found.path, final)
            self._refuse_existing(final, shown_target)
        return NamedTarget(shown_target, final)

    @property
    def name_end(self) -> str:
        """What the names of all outputs end with; may be ""."""
        return self._namer.added

    def note_folder(self, folder: Folder, *, is_empty: bool) -> None:
        """No output was there when this run came to the folder of these inputs; so until the next one is noted.

        To ask for each would be to wait for the workers, who make files in it. An output that somebody else makes
        meanwhile is found when ours is to get its name.
        """
        # But these two are about outputs that others make.
        is_known = is_empty and not self._skip_existing and self._is_done is None
        self._empty_folder = folder if is_known else None

    def make_ready(self, found: FoundFile) -> None:
        """Make the folders that an output needs.

        Raises:
            OSError: That cannot be done, or one of them is a symbolic link, which might lead out.
        """
        if self._output_dir is not None:
            self._ready_folder(found.folder.kept)

    def collisions(self, files: Iterable[FoundFile]) -> list[str]:
        """Words for each output that two of ``files`` have; nothing is looked at."""
        first_of: dict[str, FoundFile] = {}
        found_words = []
        for found in files:
            try:
                output = self._namer.name_for(found.base)
            except ValueError:
                continue  # fails for itself
            kept = (found.folder.real if self._output_dir is None else found.folder.kept) + output
            first = first_of.setdefault(kept, found)
            if first.real != found.real:
                target = found.folder.shown + output
                if self._output_dir is not None:
                    target = os.path.join(self._output_dir, kept)
                found_words.append(
                    f"'{shown(first.name)}' and '{shown(found.name)}' have the same output '{shown(target)}'"
                )
        return found_words

    def _refuse_existing(self, final: str, shown_target: str) -> None:
        mode = os.lstat(final).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), shown_target)
        if not self._force:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), shown_target)
        if not stat.S_ISREG(mode):
            what = "a symbolic link" if stat.S_ISLNK(mode) else "no regular file"
            raise FileExistsError(errno.EEXIST, f"Is {what}, which is not replaced: remove it", shown_target)

    def _make_folder(self, kept: str) -> None:
        """Make --output-dir and the folders ``kept`` below it, each of them a real one."""
        assert self._output_dir is not None
        assert self._real_output_dir is not None
        os.makedirs(self._real_output_dir, exist_ok=True)
        descriptor = os.open(self._real_output_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        made = self._output_dir
        try:
            for part in kept.split("/")[:-1]:
                made = os.path.join(made, part)
                descriptor = _enter(descriptor, part, made)
        finally:
            os.close(descriptor)


def _enter(folder: int, name: str, shown_name: str) -> int:
    """Open the folder ``name`` in an open one, which is closed; make it where it is missing."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        try:
            below = os.open(name, flags, dir_fd=folder)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):  # somebody else's, just now
                os.mkdir(name, dir_fd=folder)
            below = os.open(name, flags, dir_fd=folder)
    except OSError as ex:
        if ex.errno in (errno.ELOOP, errno.ENOTDIR):
            text = "Is a symbolic link or a file, not a folder: nothing is written through it"
            raise NotADirectoryError(errno.ENOTDIR, text, shown_name) from None
        raise OSError(ex.errno, ex.strerror, shown_name) from None
    os.close(folder)
    return below
