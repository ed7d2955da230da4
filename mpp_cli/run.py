"""``mpp run``: puts definition, jobs, pipeline, signals and progress together."""

from __future__ import annotations

import gc
import os
import signal
import stat
import sys
from dataclasses import dataclass
from typing import Final

from . import exit_codes, selection
from .batch import Batch, Outcome
from .definition import load_definition
from .errors import UsageProblem, listed, nearest, shown
from .inputs.found import skipped_words
from .jobs import JobMaker, Search, is_stdin
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
    recursive: bool
    patterns: tuple[tuple[str, str], ...]
    files_from: str | None
    null: bool
    output_dir: str | None
    skip_existing: bool
    remove_source: bool
    dry_run: bool
    app_dir: str | None
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
    goes_to_stdout = selection.goes_to_stdout(options)
    search = selection.search_of(options, goes_to_stdout)
    definition = load_definition(options.pipeline, options.app_dir)
    maker = JobMaker(
        stdio,
        definition.stages,
        search,
        output="-" if goes_to_stdout else options.output,
        force=options.force,
        output_dir=options.output_dir,
        skip_existing=options.skip_existing,
    )
    maker.refuse_collisions()
    if options.dry_run:
        from .dry_run import show_plans

        return show_plans(maker, options.output, stdio)
    if goes_to_stdout:
        _refuse_terminal(definition, options, stdio)
    outcome, figures, first_signal = _run_batch(definition, options, stdio, limits, maker, search, goes_to_stdout)
    is_on_screen = goes_to_stdout and os.isatty(stdio.data_out)
    if not (options.quiet or is_on_screen or outcome.lost_reader):
        if outcome.done or not search.is_one_file:
            tell(f"mpp: {summary_words(figures, _only_name(options.inputs))}")
        if outcome.skipped:
            tell(f"mpp: skipped {skipped_words(outcome.skipped)}")
    if first_signal is not None and outcome.stopped:
        tell(f"mpp: stopped by {first_signal.name}; unfinished output was discarded")
    if first_signal is not None:
        exit_codes.die_by(first_signal)
    if outcome.lost_reader:
        exit_codes.die_by(signal.SIGPIPE)
    return _status(outcome, search)


def _run_batch(
    definition: Definition,
    options: RunOptions,
    stdio: Stdio,
    limits: _Limits,
    maker: JobMaker,
    search: Search,
    goes_to_stdout: bool,
) -> tuple[Outcome, Figures, signal.Signals | None]:
    from atbu.mp_pipeline.cpus import usable_cpus
    from atbu.mp_pipeline.mp_pipeline import MultiprocessingPipeline

    jobs = limits.jobs or usable_cpus()
    total_bytes = limits.size_hint
    if total_bytes is None and not search.is_open_ended:
        total_bytes = _total_bytes(options.inputs)
    if any(is_stdin(name) for name in options.inputs):
        stdio.take_stdin()  # before there is a worker, for a stage must not find it on descriptor 0
    gc.enable()  # main() had turned it off
    # Before anything that starts a thread or a handler: the pipeline forks a template of this process.
    pipeline = MultiprocessingPipeline(
        definition.stages, max_simultaneous_work_items=jobs, name=definition.name, counters=COUNTERS
    )
    stop = StopFlag()
    stop.install()
    batch = Batch(
        pipeline,
        maker.jobs(),
        stop,
        make_reporter(_mode(options, stdio, goes_to_stdout)),
        # One writer on standard output: one input after another.
        window=1 if goes_to_stdout else _JOBS_AHEAD * jobs,
        items_total=None if search.is_open_ended else len(options.inputs),
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


def _only_name(inputs: tuple[str, ...]) -> str:
    """The name that stands for the run where it has one input."""
    if not inputs:
        return ""
    return "stdin" if is_stdin(inputs[0]) else shown(inputs[0])


def _total_bytes(inputs: tuple[str, ...]) -> int | None:
    """How many bytes there are to read, for the bar; a file that cannot be asked counts nothing here."""
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


def _status(outcome: Outcome, search: Search) -> int:
    if outcome.broken is not None:
        tell(f"mpp: {outcome.broken}")
        return exit_codes.FAILED
    if outcome.failed:
        return exit_codes.FAILED if search.is_one_file else exit_codes.SOME_FAILED
    return exit_codes.DONE
