"""From the command line's inputs and lists to files, one at a time and only when they are asked for."""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from mpp_stages.file_item import own_descriptor
from mpp_stages.naming import kept_path

from atbu.mp_pipeline.named_tuple import NamedTuple

from .found import IS_REPEATED, Folder, FoundFile, NotYet, Refused, Skipped, StandardInput, is_stdin
from .seen import SeenNames
from .walk import TreeWalk, is_temporary

if TYPE_CHECKING:
    from .patterns import PathFilter

#: Folders of named files that are kept in mind; a list is mostly in the order of its folders.
_KNOWN_FOLDERS: Final = 1024

Candidate = FoundFile | StandardInput | Refused | Skipped | NotYet


class Search(NamedTuple):
    """What the command line says of the inputs.

    Attributes:
        inputs: Files and folders, as named; "-" is standard input.
        recursive: Whether folders are entered.
        files_from: A list of more names; "-" is standard input.
        is_null_separated: Whether its names end with a zero byte instead of a newline.
        path_filter: What of all that is taken; None takes everything.
        in_order: Whether files of a folder come in order, however large it is.
    """

    inputs: tuple[str, ...]
    recursive: bool = False
    files_from: str | None = None
    is_null_separated: bool = False
    path_filter: PathFilter | None = None
    in_order: bool = False

    @property
    def is_open_ended(self) -> bool:
        """Whether nobody can say yet how many inputs there will be."""
        return self.recursive or self.files_from is not None

    @property
    def is_one_file(self) -> bool:
        """Whether there is one input at most."""
        return len(self.inputs) == 1 and not self.is_open_ended

    @property
    def may_repeat(self) -> bool:
        """Whether one file may be met twice."""
        return len(self.inputs) > 1 or self.files_from is not None


class InputFinder:
    """Finds the inputs of one run.

    Args:
        search: What to look for.
        output_folders: Says in which folders of their own the outputs of what is below a named folder go, by their
            real paths with "/" at the end; they are not entered.
        list_descriptor: Standard input, for a list that is read from there.
        tells_repeated: Whether a file that comes twice is given once; else somebody else looks after that.
    """

    def __init__(
        self,
        search: Search,
        output_folders: Callable[[Folder], Iterable[str]],
        list_descriptor: int | None = None,
        *,
        tells_repeated: bool = True,
    ) -> None:
        self._search = search
        self._filter = search.path_filter
        self._output_folders = output_folders
        self._list_descriptor = list_descriptor
        self._seen = SeenNames() if search.may_repeat and tells_repeated else None
        self._pruned: set[str] = set()
        self._walk = TreeWalk(search.path_filter, self._pruned, search.in_order)
        self._folder_of = functools.lru_cache(_KNOWN_FOLDERS)(self._make_folder)

    def candidates(self) -> Iterator[Candidate]:
        """Everything there is, also what cannot be taken and why. A file that comes twice is taken once."""
        self._prune(self._search.inputs)
        yield from self._brought_by(self._search.inputs, may_be_stream=True)
        if self._search.files_from is not None:
            yield from self._listed(self._search.files_from)

    def _listed(self, path: str) -> Iterator[Candidate]:
        from .name_list import NameListError, names_from, open_list  # few runs have a list

        shown = "stdin" if path == "-" else path
        descriptor = -1
        try:
            descriptor = open_list(path) if self._list_descriptor is None else self._list_descriptor
            names = names_from(descriptor, b"\0" if self._search.is_null_separated else b"\n", shown)
            yield from self._brought_by(names, may_be_stream=False)
        except (OSError, NameListError) as ex:
            yield Refused(shown, ex)
        finally:
            if descriptor >= 0 and descriptor != self._list_descriptor:
                os.close(descriptor)

    def _brought_by(self, names: Iterable[str | NotYet], *, may_be_stream: bool) -> Iterator[Candidate]:
        """What names bring: a file each, or all files of a folder."""
        for name in names:
            if isinstance(name, NotYet):
                yield name
            elif may_be_stream and is_stdin(name):
                yield StandardInput()
            elif isinstance(candidate := self._named(name, may_be_stream), FoundFile):
                yield self._once(candidate)
            elif isinstance(candidate, Folder):
                for found in self._walk.files(candidate):
                    yield self._once(found) if isinstance(found, FoundFile) else found
            elif candidate is not None:
                yield candidate

    def _once(self, found: FoundFile) -> FoundFile | Skipped:
        if self._seen is None or found.status is None or self._seen.add(found.real):
            return found
        return Skipped(found.name, IS_REPEATED, found.path)

    def _named(self, name: str, may_be_stream: bool) -> FoundFile | Refused | Folder | None:
        """What a name stands for; None where it is passed over without a word."""
        place = name.rfind("/") + 1
        base = name[place:]
        if is_temporary(base):
            return None  # a list made while the run goes on names them, and they may be gone by now
        try:
            status: os.stat_result | None = os.lstat(name)
            if stat.S_ISLNK(status.st_mode):  # type: ignore[union-attr]
                # A link that the user names is followed; /dev/fd/N is a descriptor of ours, to be read once.
                status = None if own_descriptor(name) is not None else os.stat(name)
        except OSError as ex:
            return Refused(name, OSError(ex.errno, ex.strerror, name))
        if status is not None and not stat.S_ISREG(status.st_mode):
            if stat.S_ISDIR(status.st_mode):
                return self._tree(name)
            status = None
        folder = self._folder_of(name[:place])
        if self._filter is not None and (folder.verdict is False or not self._filter.takes_file(folder, base)):
            return None
        if status is None and not may_be_stream:
            return Refused(name, OSError(errno.EINVAL, "Not a regular file", name))
        return FoundFile(folder, base, status, True)

    def _tree(self, name: str) -> Folder | Refused:
        """A named folder, to be walked."""
        if not self._search.recursive:
            text = "Is a directory (--recursive takes the files in it)"
            return Refused(name, IsADirectoryError(errno.EISDIR, text, name))
        try:
            root = _root_folder(name)
        except OSError as ex:
            return Refused(name, OSError(ex.errno, ex.strerror, name))
        self._prune([name])
        return root

    def _prune(self, names: Iterable[str]) -> None:
        """Keep the walk out of where outputs go, but not out of a folder that the user has named."""
        if not self._search.recursive:
            return
        for name in names:
            if os.path.isdir(name):
                root = _root_folder(name)
                self._pruned.update(folder for folder in self._output_folders(root) if folder != root.real)

    def _make_folder(self, head: str) -> Folder:
        """The folder of a named file; ``head`` is the name up to its last "/"."""
        inside = "/".join(part for part in head.split("/") if part not in ("", "."))
        verdict = None if self._filter is None else self._filter.verdict_of_folder(inside)
        return Folder(
            head, _absolute(head), _real_path(head), _with_slash(inside), _with_slash(kept_path(head)), verdict
        )


def _root_folder(name: str) -> Folder:
    return Folder(_with_slash(name), _absolute(name), _real_path(name), "", _with_slash(kept_path(name)), None)


def _absolute(folder: str) -> str:
    # Not os.path.abspath(): behind a symbolic link ".." is not what it takes it for.
    return _with_slash(folder if folder.startswith("/") else os.path.join(os.getcwd(), folder))


def _real_path(folder: str) -> str:
    return _with_slash(os.path.realpath(folder or "."))


def _with_slash(path: str) -> str:
    return path if not path or path.endswith("/") else path + "/"
