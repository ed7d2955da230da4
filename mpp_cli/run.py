"""``mpp run``: puts definition, jobs, pipeline, signals and progress together."""

from __future__ import annotations

import gc
import os
import signal
import stat
import sys
from dataclasses import dataclass
from typing import Final

from . import exit_codes
from .batch import Batch, Outcome
from .definition import load_definition
from .errors import UsageProblem, listed, nearest, shown
from .jobs import JobMaker, is_stdin, is_stdout
from .planned import Definition
from .progress.figures import Figures, summary_words
from .progress.reporter import MODES, choose, make_reporter
from .signals import StopFlag
from .sizes import parse_size
from .stdio import Stdio
from .tell import tell

#: What the stages count for us.
COUNTERS: Final = ("bytes_in", "bytes_out")
#: Submitted for each that can be worked on, so that no worker waits for the next while this one publishes.
_JOBS_AHEAD: Final = 4
#: Each is a process or two; beyond, it is a slip of the finger.
_MAX_JOBS: Final = 1024


@dataclass(frozen=True)
class RunOptions:
    """The command line of ``mpp run``."""

    pipeline: str
    inputs: tuple[str, ...]
    output: str | None
    force: bool
    app_dir: str | None
    settings: tuple[str, ...]
    jobs: str | None
    progress: str
    size_hint: str | None
    quiet: bool
    verbose: bool


@dataclass(frozen=True)
class _Limits:
    """The numbers of the command line, read."""

    jobs: int | None
    size_hint: int | None


def run(options: RunOptions, stdio: Stdio) -> int:
    """Do the run and return the exit status; ends the process itself where a signal is the status.

    Raises:
        UsageProblem: The command line or the definition is wrong; nothing has been started.
    """
    stdio.words_to_stderr()
    limits = _read_limits(options)
    goes_to_stdout = _goes_to_stdout(options)
    definition = load_definition(options.pipeline, options.app_dir, options.settings)
    if goes_to_stdout:
        _refuse_terminal(definition, options, stdio)
    outcome, figures, first_signal = _run_batch(definition, options, stdio, limits, goes_to_stdout)
    is_on_screen = goes_to_stdout and os.isatty(stdio.data_out)
    if not (options.quiet or is_on_screen or outcome.lost_reader):
        name = "stdin" if is_stdin(options.inputs[0]) else shown(options.inputs[0])
        if outcome.done or len(options.inputs) > 1:
            tell(f"mpp: {summary_words(figures, name)}")
    if first_signal is not None and outcome.stopped:
        tell(f"mpp: stopped by {first_signal.name}; unfinished output was discarded")
    if first_signal is not None:
        exit_codes.die_by(first_signal)
    if outcome.lost_reader:
        exit_codes.die_by(signal.SIGPIPE)
    return _status(outcome, len(options.inputs))


def _run_batch(
    definition: Definition, options: RunOptions, stdio: Stdio, limits: _Limits, goes_to_stdout: bool
) -> tuple[Outcome, Figures, signal.Signals | None]:
    from atbu.mp_pipeline.cpus import usable_cpus
    from atbu.mp_pipeline.mp_pipeline import MultiprocessingPipeline

    jobs = limits.jobs or usable_cpus()
    total_bytes = _total_bytes(options.inputs, limits.size_hint)
    if any(is_stdin(name) for name in options.inputs):
        stdio.take_stdin()  # before there is a worker, for a stage must not find it on descriptor 0
    gc.enable()  # main() had turned it off
    # Before anything that starts a thread or a handler: the pipeline forks a template of this process.
    pipeline = MultiprocessingPipeline(
        definition.stages, max_simultaneous_work_items=jobs, name=definition.name, counters=COUNTERS
    )
    stop = StopFlag()
    stop.install()
    maker = JobMaker(stdio, definition.stages, options.output, options.force)
    batch = Batch(
        pipeline,
        maker.jobs(options.inputs),
        stop,
        make_reporter(_mode(options, stdio, goes_to_stdout)),
        # One writer on standard output: one input after another.
        window=1 if goes_to_stdout else _JOBS_AHEAD * jobs,
        items_total=len(options.inputs),
        total_bytes=total_bytes,
        verbose=options.verbose,
    )
    try:
        outcome = batch.run()
        figures = batch.figures()
    finally:
        batch.close()
        stop.close()
    return outcome, figures, stop.first


def _read_limits(options: RunOptions) -> _Limits:
    if options.progress not in MODES:
        raise UsageProblem(
            f"mpp: --progress: '{shown(options.progress)}' is not one of {listed(MODES)}"
            f"{nearest(options.progress, MODES)}"
        )
    jobs = options.jobs
    if jobs is not None and not (jobs.isascii() and jobs.isdecimal() and 1 <= int(jobs) <= _MAX_JOBS):
        raise UsageProblem(f"mpp: --jobs: '{shown(jobs)}' is not a whole number from 1 to {_MAX_JOBS}")
    try:
        size_hint = None if options.size_hint is None else parse_size(options.size_hint)
    except ValueError as ex:
        raise UsageProblem(f"mpp: --size-hint: {ex}") from ex
    return _Limits(None if jobs is None else int(jobs), size_hint)


def _goes_to_stdout(options: RunOptions) -> bool:
    """Whether data goes to standard output; refuses what cannot be meant."""
    if options.output is not None:
        if is_stdout(options.output):
            return True
        if len(options.inputs) > 1:
            raise UsageProblem(
                f"mpp: {len(options.inputs)} inputs cannot go to one file '{shown(options.output)}'; "
                "leave out -o, or write -o - for all of them one after another"
            )
        return False
    if any(is_stdin(name) for name in options.inputs):
        if len(options.inputs) > 1:
            raise UsageProblem("mpp: standard input among several inputs has no name for its output; give -o -")
        return True
    return False


def _refuse_terminal(definition: Definition, options: RunOptions, stdio: Stdio) -> None:
    givers = [stage for stage in definition.stages if not getattr(stage, "is_sink", False)]
    is_for_no_terminal = bool(givers) and bool(getattr(givers[-1], "is_compressed_output", False))
    if is_for_no_terminal and not options.force and os.isatty(stdio.data_out):
        raise UsageProblem(
            "mpp: compressed data is not written to a terminal: redirect it, give -o FILE, or insist with --force"
        )


def _mode(options: RunOptions, stdio: Stdio, goes_to_stdout: bool) -> str:
    if options.quiet:
        return "none"
    return choose(
        options.progress,
        os.environ,
        stderr_is_terminal=sys.stderr.isatty(),
        stdout_is_terminal=goes_to_stdout and os.isatty(stdio.data_out),
    )


def _total_bytes(inputs: tuple[str, ...], size_hint: int | None) -> int | None:
    """How many bytes there are to read, for the bar; a file that cannot be asked counts nothing here."""
    if size_hint is not None:
        return size_hint
    total = 0
    for name in inputs:
        try:
            status = os.fstat(0) if is_stdin(name) else os.stat(name)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode):
            return None
        total += status.st_size - (os.lseek(0, 0, os.SEEK_CUR) if is_stdin(name) else 0)
    return total


def _status(outcome: Outcome, items_total: int) -> int:
    if outcome.broken is not None:
        tell(f"mpp: {outcome.broken}")
        return exit_codes.FAILED
    if outcome.failed:
        return exit_codes.FAILED if items_total == 1 else exit_codes.SOME_FAILED
    return exit_codes.DONE
