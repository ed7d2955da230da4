"""``--from-command``: a command that we run ourselves is the source, and how it ends decides.

mpp ── supervisor ── tar c /data ── pipe ──▶ first stage, which reads its end only with an accepted status
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mpp_stages.endpoints import CommandSource
from mpp_stages.file_item import FileItem, Target
from mpp_stages.supervised import SupervisedProgram

from atbu.mp_pipeline.descriptors import PassedDescriptor
from atbu.mp_pipeline.pipe_descriptor import grow_pipe

from .errors import UsageProblem, shown
from .jobs import Job

_MAX_STATUS: Final = 255


@dataclass(frozen=True)
class Command:
    """The command line after ``--from-command``.

    Attributes:
        argv: The program and its arguments.
        ok_status: The exit statuses that count as success.
    """

    argv: tuple[str, ...]
    ok_status: tuple[int, ...] = (0,)

    @property
    def name(self) -> str:
        """What the run calls it."""
        return f"command {os.path.basename(self.argv[0]) or self.argv[0]}"


def read_command(is_wanted: bool, argv: Sequence[str] | None, ok_status: str | None, files_from: str | None) -> Command:
    """Read the arguments of a command line with ``--from-command`` or ``--ok-status``.

    Raises:
        UsageProblem: There is no command, or what is said of it contradicts itself.
    """
    if not is_wanted:
        raise UsageProblem("mpp: --ok-status is about the command of --from-command: give that too")
    if files_from is not None:
        raise UsageProblem("mpp: --from-command and --files-from exclude each other")
    if not argv or not argv[0]:
        raise UsageProblem(
            "mpp: --from-command: there is no command; write it at the end, after '--': "
            "mpp run zstd --from-command -o data.tar.zst -- tar c /data"
        )
    return Command(tuple(argv), (0,) if ok_status is None else _read_statuses(ok_status))


def _read_statuses(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.isascii() and word.isdecimal() and int(word) <= _MAX_STATUS for word in words):
        raise UsageProblem(f"mpp: --ok-status: '{shown(text)}' is not a list of exit statuses such as 0,1")
    return tuple(int(word) for word in words)


@dataclass(slots=True, eq=False)
class CommandJob(Job):
    """The one job of such a run; closing it ends the command, unless that has ended well."""

    program: SupervisedProgram | None = None

    def close(self) -> None:
        if self.program is not None:
            self.program.end(leave_the_rest=not self.item.is_failed)
        if isinstance(self.item.source, CommandSource):
            self.item.source.descriptor.close()
            self.item.source.report.close()
        Job.close(self)


def command_job(command: Command, target: Target) -> CommandJob:
    """Start the command and make the job that reads it; it is to be closed.

    Raises:
        OSError: No process or descriptor can be had.
    """
    with contextlib.ExitStack() as ends:
        reader, stdout = os.pipe()
        ends.callback(os.close, stdout)
        output = PassedDescriptor(reader)
        grow_pipe(reader)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ends.enter_context(theirs)
        report = PassedDescriptor(ours.detach())
        try:
            program = SupervisedProgram(
                command.argv, stdout=stdout, report=theirs.fileno(), has_own_group=not _has_terminal()
            )
        except BaseException:
            output.close()
            report.close()
            raise
    source = CommandSource(output, report, f"'{shown(command.name)}'", command.ok_status)
    return CommandJob(FileItem(source, target, name=command.name), is_stream=True, program=program)


def _has_terminal() -> bool:
    """Whether there is a controlling terminal.

    Then the command stays in our process group, as it would in a shell's pipeline: what asks for a password there
    has to be in the foreground when we are, and stops with us when we are not.
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
