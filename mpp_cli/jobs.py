"""From what was found to work items, one at a time and only when they are asked for.

    command line ─▶ InputFinder ─▶ found files ─▶ Outputs ─▶ plans ─▶ jobs ─▶ the run's loop

Nothing is opened, made or changed before a job is made of a plan; ``--dry-run`` shows the plans.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mpp_stages.endpoints import follow_links
from mpp_stages.file_item import (
    DescriptorSource,
    DescriptorTarget,
    FileItem,
    PathSource,
    PathTarget,
    Source,
    Target,
    open_source,
    open_target,
    own_descriptor,
    source_of,
)
from mpp_stages.naming import OutputNamer

from atbu.mp_pipeline.descriptors import PassedDescriptor
from atbu.mp_pipeline.named_tuple import NamedTuple

from .errors import UsageProblem, shown
from .inputs.finder import InputFinder, Search
from .inputs.found import (
    DONE_BEFORE,
    IS_OURS,
    IS_REPEATED,
    Folder,
    FoundFile,
    NotYet,
    Refused,
    Skipped,
    StandardInput,
    is_stdin,
)
from .outputs import NamedTarget, Outputs
from .stdio import Stdio

if TYPE_CHECKING:
    from .from_command import Command

T = TypeVar("T")

STDOUT: Final = "-"
_STDOUT_PATHS: Final = (STDOUT, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


class Job:
    """An item that is ready to be submitted.

    Attributes:
        is_stream: Its source cannot be read again: a stop signal aborts it.
        status: The source's size, times and identity when it was found, where it is a regular file and somebody wants
            to know.
        size: How many bytes there are to read, where that is known.
    """

    __slots__ = ("is_stream", "item", "size", "status")

    def __init__(
        self, item: FileItem, is_stream: bool, status: os.stat_result | None = None, size: int | None = None
    ) -> None:
        self.item = item
        self.is_stream = is_stream
        self.status = status
        self.size = size

    @property
    def writes_directly(self) -> bool:
        """Whether it has no temporary, so that nothing is left behind when it ends at once."""
        return isinstance(self.item.target, DescriptorTarget)

    def once_more(self) -> Job:
        """The same job with an item that nobody has worked on; what the old one has left is dropped."""
        item = self.item
        item.discard()
        return Job(FileItem(item.source, item.target, name=item.name), self.is_stream, self.status)

    def close(self) -> None:
        """Close the parent's copies of its descriptors."""
        for side in self.item.side_outputs.values():
            side.close()
        _close_ends(self.item.source, self.item.target)


class Plan(NamedTuple):
    """What is to be done with one input.

    Attributes:
        found: The input.
        target: Where its output goes; None is the ``-o`` argument or standard output.
        command: What stands for standard input, where a command is the source.
    """

    found: FoundFile | StandardInput
    target: NamedTarget | None
    command: Command | None = None

    @property
    def name(self) -> str:
        """What messages call the input."""
        if self.command is not None:
            return self.command.name
        return "stdin" if isinstance(self.found, StandardInput) else self.found.name


class JobMaker:
    """Makes the jobs of a run.

    Args:
        stages: The pipeline's stages; they decide how outputs are called.
        search: What the inputs are.
        output: The ``-o`` argument, or None for a name for each input.
        force: Whether existing files may be replaced.
        output_dir: The folder for outputs that have a name for each input; None puts them beside their inputs.
        skip_existing: Whether inputs whose output is there are passed over.
        own_files: Files, by (st_dev, st_ino), that this run writes besides its outputs: journal, report.
        own_paths: The real paths of those that have a name, also where they are not there yet, and their options.
        is_done: Whether an earlier run has made this output of this input; it is then skipped.
        command: What standard input stands for, where a command is the source.
        keeps_status: Whether jobs tell the status of their source: it takes a third of their memory.
    """

    def __init__(
        self,
        stdio: Stdio,
        stages: Sequence[Any],
        search: Search,
        *,
        output: str | None,
        force: bool,
        output_dir: str | None = None,
        skip_existing: bool = False,
        own_files: Sequence[tuple[int, int]] = (),
        own_paths: Mapping[str, str] | None = None,
        is_done: Callable[[FoundFile, str], bool] | None = None,
        command: Command | None = None,
        keeps_status: bool = False,
    ) -> None:
        self._keeps_status = keeps_status
        self._stdio = stdio
        self._search = search
        self._output = output
        self._force = force
        self._is_done = is_done
        self._command = command
        self._own_paths = own_paths
        self._entered: Folder | None = None
        self._own_files = {*own_files, *_regular_files(stdio.data_out, 2)}
        namer = OutputNamer(stages)
        # Within one tree names differ, and outputs that follow them one to one differ too.
        may_collide = search.may_repeat or not namer.is_one_to_one
        self._outputs = Outputs(
            namer,
            output_dir=output_dir,
            force=force,
            skip_existing=skip_existing,
            may_collide=may_collide,
            own_paths=own_paths,
            is_done=is_done,
        )

    def refuse_collisions(self) -> None:
        """Look whether named inputs have the same output, before anything is started.

        Raises:
            UsageProblem: Two have.
        """
        if self._output is not None or len(self._search.inputs) < 2 or not self._outputs.may_collide_anywhere:
            return
        named = InputFinder(Search(self._search.inputs, path_filter=self._search.path_filter), _no_folders)
        words = self._outputs.collisions(found for found in named.candidates() if isinstance(found, FoundFile))
        if words:
            raise UsageProblem(*(f"mpp: {line}" for line in words))

    def jobs(self, enter: Callable[[str, str], bool]) -> Iterator[Job | Refused | Skipped | NotYet]:
        """Make one job for each input. Opens what is no regular file, so take no more than are run soon.

        May take as long as the file system does to tell of one file; what waits for a pipe says NotYet.

        Args:
            enter: Told the folder of outputs, before the first job that has one there, and perhaps again; with the end
                of their names. Says whether it knows that no name in there ends so.
        """
        for plan in self.plans():
            if isinstance(plan, Plan):
                try:
                    if plan.target is not None:
                        yield self._file_job(plan.found, plan.target, enter)  # type: ignore[arg-type]  # a file then
                    else:
                        job = yield from self._job(plan)
                        if isinstance(target := job.item.target, PathTarget):
                            enter(os.path.dirname(os.path.abspath(target.path)), "")
                        yield job
                except (OSError, ValueError) as ex:
                    yield Refused(plan.name, ex)
            else:
                yield plan

    def plans(self) -> Iterator[Plan | Refused | Skipped | NotYet]:
        """Say what is to be done with each input. Nothing is opened but folders and the list of names."""
        list_descriptor = None
        if self._search.files_from == "-":
            if self._stdio.in_was_closed:
                yield Refused("stdin", OSError(errno.EBADF, "standard input is closed"))
                return
            list_descriptor = self._stdio.take_stdin()
        outputs = self._outputs
        finder = InputFinder(
            self._search,
            outputs.folders_below,
            list_descriptor,
            tells_repeated=self._output is not None or not outputs.tells_repeated,
        )
        for found in finder.candidates():
            if isinstance(found, FoundFile):
                try:
                    yield self._plan(found)
                except (OSError, ValueError) as ex:
                    is_repeated = self._output is None and outputs.has_no_output(found)
                    yield Skipped(found.name, IS_REPEATED, found.path) if is_repeated else Refused(found.name, ex)
            elif isinstance(found, StandardInput):
                yield Plan(found, None, self._command)
            else:
                yield found

    def _plan(self, found: FoundFile) -> Plan | Refused | Skipped:
        status = found.status
        own_files, own_paths = self._own_files, self._own_paths
        if (own_files and status is not None and (status.st_dev, status.st_ino) in own_files) or (
            own_paths and found.real in own_paths
        ):
            if found.is_named:
                raise OSError(errno.EINVAL, "Is written by this run, so it cannot be read too", found.name)
            return Skipped(found.name, IS_OURS, found.path)
        if self._output is not None:
            if self._is_done is not None and not is_stdout(self._output):
                final = follow_links(os.path.abspath(self._output))
                if self._is_done(found, final):
                    return Skipped(found.name, DONE_BEFORE, found.path, final, status)
            return Plan(found, None)
        if status is None:
            raise ValueError(f"'{shown(found.name)}' is no regular file, so its output has no name: give -o FILE")
        target = self._outputs.target_of(found)
        return target if isinstance(target, Skipped) else Plan(found, target)

    def _file_job(self, found: FoundFile, named: NamedTarget, enter: Callable[[str, str], bool]) -> Job:
        folder, base, status, _ = found
        shown_target, final = named
        if folder is not self._entered:
            outputs = self._outputs
            outputs.make_ready(found)
            outputs.note_folder(folder, is_empty=enter(os.path.dirname(final), outputs.name_end))
            self._entered = folder
        target = PathTarget(shown_target, self._force, final)
        item = FileItem(PathSource(folder.path + base), target, name=folder.shown + base)
        return Job(item, False, status if self._keeps_status else None, status.st_size)  # type: ignore[union-attr]

    def _job(self, plan: Plan) -> Generator[NotYet, None, Job]:
        found, _, command = plan
        if command is not None:
            return (yield from self._command_job(command))
        if isinstance(found, StandardInput):
            source, status = self._stdin(), None
        else:
            status = found.status
            name = found.name
            source = PathSource(found.path) if status is not None else (yield from _opened(name, open_source))
        try:
            target = yield from self._given_target()
        except BaseException:
            _close_ends(source)
            raise
        size = None if status is None else status.st_size
        return Job(FileItem(source, target, name=plan.name), isinstance(source, DescriptorSource), status, size)

    def _command_job(self, command: Command) -> Generator[NotYet, None, Job]:
        from .from_command import command_job  # few runs have a command

        # The target and its folder first, for a command may have done something before it is ended again.
        target = yield from self._given_target()
        try:
            if isinstance(target, PathTarget) and not os.path.isdir(os.path.dirname(follow_links(target.path))):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), target.path)
            return command_job(command, target)
        except BaseException:
            _close_ends(target)
            raise

    def _stdin(self) -> Source:
        if self._stdio.in_was_closed:
            raise OSError(errno.EBADF, "standard input is closed")
        return source_of(os.dup(self._stdio.take_stdin()))

    def _given_target(self) -> Generator[NotYet, None, Target]:
        """What ``-o`` says, or standard output."""
        output = self._output
        if output is not None and not is_stdout(output):
            stdout = self._stdio.data_out
            return (yield from _opened(output, lambda path: open_target(path, self._force, stdout=stdout)))
        if self._stdio.out_was_closed:
            raise OSError(errno.EBADF, "standard output is closed")
        return DescriptorTarget(PassedDescriptor(os.dup(self._stdio.data_out)), "stdout")


def is_stdout(name: str) -> bool:
    """Whether an argument of ``-o`` means standard output."""
    return name in _STDOUT_PATHS


def _opened(path: str, opener: Callable[[str], T]) -> Generator[NotYet, None, T]:
    """What ``opener`` makes of a path. A FIFO is opened only when somebody else opens its other end."""
    try:
        is_fifo = stat.S_ISFIFO(os.stat(path).st_mode) and own_descriptor(path) is None
    except OSError:
        is_fifo = False  # the opener says what is wrong
    if not is_fifo:
        return opener(path)
    from .patience import patiently  # few runs open a FIFO

    return (yield from patiently(lambda: opener(path)))


def _regular_files(*descriptors: int) -> Iterator[tuple[int, int]]:
    for descriptor in descriptors:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            yield status.st_dev, status.st_ino


def _no_folders(_: object) -> tuple[str, ...]:
    return ()


def _close_ends(*ends: Source | Target) -> None:
    for end in ends:
        if isinstance(end, (DescriptorSource, DescriptorTarget)):
            end.descriptor.close()


__all__ = ["Job", "JobMaker", "NotYet", "Plan", "Refused", "Search", "Skipped", "is_stdin", "is_stdout"]
