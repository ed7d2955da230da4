"""Bytes through any program."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Final

from .byte_stage import ByteStage
from .checks import check_whole_number
from .file_item import FileItem

_MAX_STATUS: Final = 255


class ExecStage(ByteStage):
    """Run a program: it reads the bytes on its stdin, and what it writes to its stdout goes on.

    No shell is involved. The program runs once for each item, in a process group of its own, which is ended with
    the item; what it writes to stderr appears on ours. It need not read all its input.

    Args:
        argv: The program, looked for on PATH where it is a bare name, and its arguments, as a list.
        ok_status: The exit statuses that count as success.
        cwd: The folder it runs in; where mpp was started if not given.
        env: Variables that its environment has more than ours.
        suffix: Names the output: the input's name and this.
        strip_suffix: Names the output: the input's name without this at its end.
    """

    name = "exec"

    def __init__(
        self,
        argv: list[str],
        ok_status: Sequence[int] = (0,),
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        suffix: str | None = None,
        strip_suffix: str | None = None,
    ) -> None:
        super().__init__()
        self.argv = _checked_argv(argv)
        self.ok_status = _checked_statuses(ok_status)
        self.env = _checked_env(env or {})
        self.cwd = _checked_folder(cwd)
        self.suffix = self.adds_suffix = _checked_suffix("suffix", suffix)
        self.strip_suffix = _checked_suffix("strip_suffix", strip_suffix)
        if self.strip_suffix is not None:
            self.strips_suffixes = {self.strip_suffix: ""}  # type: ignore[misc]  # of this one only
        _find_program(self.argv[0], self.cwd, self.env)

    def run(self, reader: io.BufferedReader, writer: io.BufferedWriter, item: FileItem) -> None:
        from .program_pump import ProgramPump  # only the worker that runs a program needs what it takes

        interrupt_fd = None if item.pipe_in is None else getattr(item.pipe_in, "interrupt_fd", None)
        label = f"stage {self.label!r}: {item.name!r}: {os.path.basename(self.argv[0])}"
        with ProgramPump(reader, writer, label, self.ok_status, interrupt_fd) as pump:
            pump.start(self.argv, self.cwd, self.env)
            pump.run()


def _checked_argv(argv: Sequence[str]) -> list[str]:
    if isinstance(argv, str):
        raise ValueError(f"argv must be a list, one element for each argument, not the text {argv!r}")
    checked = _checked_texts("argv", argv)
    if not checked or not checked[0]:
        raise ValueError("argv must name a program")
    return checked


def _checked_texts(option: str, values: Sequence[str]) -> list[str]:
    for value in values:
        if not isinstance(value, str) or "\0" in value:
            raise ValueError(f"{option} must hold texts without NUL bytes, not {value!r}")
    return list(values)


def _checked_statuses(statuses: Sequence[int]) -> list[int]:
    if isinstance(statuses, (str, int)) or not statuses:
        raise ValueError(f"ok_status must be a list of exit statuses such as [0, 1], not {statuses!r}")
    return [check_whole_number("ok_status", status, 0, _MAX_STATUS) for status in statuses]


def _checked_env(env: Mapping[str, str]) -> dict[str, str]:
    for name in _checked_texts("env", [*env]):
        if not name or "=" in name:
            raise ValueError(f"env: {name!r} is no name of a variable")
    _checked_texts("env", [*env.values()])
    return dict(env)


def _checked_folder(cwd: str | None) -> str | None:
    if cwd is None:
        return None
    if not isinstance(cwd, str) or not os.path.isdir(cwd):
        raise ValueError(f"cwd: there is no folder {cwd!r}")
    return os.path.abspath(cwd)


def _checked_suffix(option: str, suffix: str | None) -> str | None:
    if suffix is not None and (not isinstance(suffix, str) or not suffix or "/" in suffix or "\0" in suffix):
        raise ValueError(f"{option} must be some text like '.gz', not {suffix!r}")
    return suffix


def _find_program(program: str, cwd: str | None, env: Mapping[str, str]) -> None:
    """Refuse what cannot be started here and now; it may still be gone when it is needed."""
    if os.sep in program:
        path = os.path.join(cwd or "", program)
        if not os.path.exists(path):
            raise ValueError(f"argv: there is no program {program!r}")
        if os.path.isdir(path) or not os.access(path, os.X_OK):
            raise ValueError(f"argv: {program!r} is not executable")
    elif shutil.which(program, path=env.get("PATH")) is None:
        raise ValueError(f"argv: there is no program {program!r} on PATH")


__all__ = ["ExecStage"]
