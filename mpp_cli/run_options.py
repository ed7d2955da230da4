"""The command line of ``mpp run``, read: what all the rest of a run is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from atbu.mp_pipeline.named_tuple import NamedTuple

if TYPE_CHECKING:
    from .from_command import Command

#: What the stages count for us.
COUNTERS: Final = ("bytes_in", "bytes_out")
#: ``--json`` alone.
JSON_TO_STDOUT: Final = "-"
#: What an INPUT is that means standard input.
STDIN_PATHS: Final = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
#: Options as they are given that stand in RunOptions as something else.
_RENDERED: Final = ("inputs", "include", "exclude", "from_command", "ok_status", "settings")


class WatchOptions(NamedTuple):
    """Who watches the run."""

    json: str | None = None
    journal: str | None = None
    resume: bool = False
    report: str | None = None
    log_file: str | None = None


class RunOptions:
    """The command line of ``mpp run``; what is not given is as it stands here."""

    # No NamedTuple: to make one of so many fields takes 1.5 ms.
    pipeline: str
    inputs: tuple[str, ...] = ()
    output: str | None = None
    force: bool = False
    recursive: bool = False
    patterns: tuple[tuple[str, str], ...] = ()
    files_from: str | None = None
    null: bool = False
    output_dir: str | None = None
    skip_existing: bool = False
    remove_source: bool = False
    dry_run: bool = False
    app_dir: str | None = None
    settings: tuple[str, ...] = ()
    jobs: str | None = None
    keep_order: bool = False
    fail_fast: bool = False
    retries: str | None = None
    timeout: str | None = None
    max_memory: str | None = None
    progress: str = "auto"
    size_hint: str | None = None
    checksums: str | None = None
    quiet: bool = False
    verbose: bool = False
    watch: WatchOptions = WatchOptions()
    command: Command | None = None

    def __init__(self, **given: Any) -> None:
        unknown = given.keys() - RunOptions.__annotations__.keys()
        if unknown or "pipeline" not in given:
            raise TypeError(f"no such options: {', '.join(unknown)}" if unknown else "no pipeline")
        self.__dict__.update(given)

    @property
    def reads_stdin(self) -> bool:
        """Whether standard input is an input, or the list of inputs."""
        return self.command is None and (self.files_from == "-" or any(name in STDIN_PATHS for name in self.inputs))

    @property
    def may_be_many(self) -> bool:
        """Whether there may be more than one input."""
        return len(self.inputs) > 1 or self.recursive or self.files_from is not None


def make_options(values: Mapping[str, Any], patterns: Sequence[tuple[str, str]]) -> RunOptions:
    """Take over what somebody has read from the command line.

    Args:
        values: By the names of the parameters of ``mpp run``; what is missing was not given.
        patterns: ``--include`` and ``--exclude`` in the order in which they came.

    Raises:
        UsageProblem: A command is missing, or there is one where none belongs.
    """
    inputs = values.get("inputs")
    files_from = values.get("files_from")
    command = None
    if values.get("from_command") or values.get("ok_status") is not None:
        from .from_command import read_command  # few runs have a command

        command = read_command(bool(values.get("from_command")), inputs, values.get("ok_status"), files_from)
        inputs = ["-"]
    plain = {name: value for name, value in values.items() if name not in (*_RENDERED, *WatchOptions._fields)}
    return RunOptions(
        **plain,
        inputs=tuple(inputs or (("-",) if files_from is None else ())),
        patterns=tuple(patterns),
        settings=tuple(values.get("settings") or ()),
        watch=WatchOptions(*(values.get(name, default) for name, default in WatchOptions._field_defaults.items())),
        command=command,
    )
