"""``mpp run``: puts definition, jobs, pipeline, signals and progress together."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import stat
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from atbu.mp_pipeline.stage import PipelineStage

from . import exit_codes, selection
from .batch import Batch, BatchSettings
from .definition import load_definition
from .errors import UsageProblem, listed, nearest, shown
from .inputs.found import skipped_words
from .jobs import JobMaker, Search, is_stdin
from .limits import Limits, apply_to_stages, jobs_within, read_limits
from .observers import Observers, RunStart, RunSummary
from .outcome import Outcome
from .own_files import own_paths
from .planned import Definition
from .progress.figures import Figures, summary_words
from .progress.reporter import MODES, choose, make_reporter
from .run_options import COUNTERS, RunOptions, WatchOptions
from .signals import StopFlag
from .stdio import Stdio
from .sweeping import Sweeper
from .tell import patient, tell
from .watching import STDOUT_PATHS, Watch, watching

if TYPE_CHECKING:
    from mpp_stages.small_files import SmallFilesStage

    from atbu.mp_pipeline.template import Template

    from .remove_source import SourceRemover

#: So many new objects make a collection of garbage due. The look-ahead alone has ten thousand, none of them garbage.
_COLLECT_AFTER: Final = 50_000
#: A worker that has answered waits for the pipeline's thread, and that one for this, which many files keep busy.
_SWITCH_S: Final = 0.0005
#: So many named inputs are work for more than one worker, however small they are.
_MANY_INPUTS: Final = 64


def run(options: RunOptions, stdio: Stdio, template: Template | None = None) -> int:
    """Do the run and return the exit status; ends the process itself where a signal is the status.

    Args:
        template: For the workers of a ready-made pipeline, where it has been started already.

    Raises:
        UsageProblem: The command line or the definition is wrong; nothing has been started but the template.
    """
    stdio.words_to_stderr()
    _check_progress(options.progress)
    limits = read_limits(options)
    goes_to_stdout = selection.goes_to_stdout(options)
    search = selection.search_of(options, goes_to_stdout)
    definition = load_definition(options.pipeline, options.app_dir, options.settings)
    apply_to_stages(limits, definition.stages)
    if goes_to_stdout and not options.dry_run:
        _refuse_terminal(definition, options, stdio)
    own = own_paths(options)
    watch_options = WatchOptions() if options.dry_run else options.watch
    with watching(watch_options, definition, stdio, goes_to_stdout) as watch, patient(watch.may_wait):
        maker = JobMaker(
            stdio,
            definition.stages,
            search,
            output="-" if goes_to_stdout else options.output,
            force=options.force,
            output_dir=options.output_dir,
            skip_existing=options.skip_existing,
            own_files=watch.own_files,
            own_paths=own,
            is_done=watch.is_done if watch.is_resumed else None,
            command=options.command,
            keeps_status=watch.journal is not None or options.remove_source,
        )
        maker.refuse_collisions()
        if options.dry_run:
            from .dry_run import show_plans

            return show_plans(maker, options.output, stdio)
        from .logged_words import logged_words  # brings logging, which has no use before

        with logged_words(options.quiet), _checksums(options, definition, stdio, goes_to_stdout) as checksums:
            watch.observers += checksums
            outcome, figures, first_signal = _run_batch(
                definition, options, stdio, limits, maker, search, goes_to_stdout, watch, template
            )
        _tell_end(outcome, figures, first_signal, options, stdio, search, goes_to_stdout)
        status = _status(outcome, search, fail_fast=options.fail_fast and first_signal is None)
        signum = first_signal if first_signal is not None else signal.SIGPIPE if outcome.lost_reader else None
        if not watch.end(_summary(outcome, figures, status if signum is None else 128 + signum, first_signal)):
            status = status or exit_codes.FAILED
        if outcome.lost_reader and signum is None:  # the reader of the last event
            signum = signal.SIGPIPE
    if signum is not None:
        exit_codes.die_by(signum)
    return status


def _tell_end(
    outcome: Outcome,
    figures: Figures,
    first_signal: signal.Signals | None,
    options: RunOptions,
    stdio: Stdio,
    search: Search,
    goes_to_stdout: bool,
) -> None:
    is_on_screen = goes_to_stdout and os.isatty(stdio.data_out)
    if not (options.quiet or is_on_screen or outcome.lost_reader):
        if outcome.done or not search.is_one_file:
            tell(f"mpp: {summary_words(figures, _only_name(options))}")
        if outcome.skipped:
            tell(f"mpp: skipped {skipped_words(outcome.skipped)}")
    if first_signal is not None and outcome.stopped:
        tell(f"mpp: stopped by {first_signal.name}; unfinished output was discarded")


def _summary(outcome: Outcome, figures: Figures, exit_status: int, first_signal: signal.Signals | None) -> RunSummary:
    return RunSummary(
        figures,
        done=outcome.done,
        skipped=outcome.skipped.total(),
        failed=outcome.failed,
        stopped=outcome.stopped,
        exit_status=exit_status,
        signal_name=None if first_signal is None else first_signal.name,
        broken=outcome.broken,
    )


def _run_batch(
    definition: Definition,
    options: RunOptions,
    stdio: Stdio,
    limits: Limits,
    maker: JobMaker,
    search: Search,
    goes_to_stdout: bool,
    watch: Watch,
    template: Template | None,
) -> tuple[Outcome, Figures, signal.Signals | None]:
    from atbu.mp_pipeline.cpus import usable_cpus
    from atbu.mp_pipeline.pipeline import MultiprocessingPipeline

    stages = definition.stages
    jobs = jobs_within(limits, limits.jobs or usable_cpus(), stages)
    total_bytes = limits.size_hint
    if total_bytes is None and not search.is_open_ended:
        total_bytes = _total_bytes(options.inputs, stdio.data_in) if options.command is None else None
    if options.reads_stdin:
        stdio.take_stdin()  # before there is a worker, for a stage must not find it on descriptor 0
    gc.freeze()  # what was imported stays: neither we nor the workers need to look through it again
    gc.enable()  # main() had turned it off
    is_for_many = options.output is None and not goes_to_stdout and not search.is_one_file
    stage_for_small_files = _stage_for_small_files(stages) if is_for_many else None
    # Before anything that starts a thread or a handler: the pipeline forks a template of this process.
    pipeline = MultiprocessingPipeline(
        stages if stage_for_small_files is None else [*stages, stage_for_small_files],
        max_simultaneous_work_items=jobs,
        name=definition.name,
        counters=COUNTERS,
        # One long file leaves workers for the others. Idle ones keep memory, which --max-memory is about.
        max_workers=jobs if search.is_one_file or limits.max_memory else jobs * len(stages),
        template=template,
    )
    if stage_for_small_files is not None and (search.is_open_ended or len(search.inputs) >= _MANY_INPUTS):
        pipeline.start_workers(jobs)  # they come to life while we look for inputs
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(_COLLECT_AFTER)  # here alone: what the stages do in workers is not known
    stop = StopFlag()
    stop.install()
    # Folders are listed to their end in a run that does so anyway, or that a person has begun again.
    sweeper = Sweeper(is_thorough=options.recursive or watch.is_resumed)
    batch = Batch(
        pipeline,
        maker.jobs(sweeper.enter),
        stop,
        make_reporter(_mode(options, stdio, goes_to_stdout)),
        BatchSettings(
            # One writer on standard output: one input after another.
            window=1 if goes_to_stdout else _units_at_once(jobs),
            workers=jobs,
            small_bytes=-1 if stage_for_small_files is None else stage_for_small_files.limit_bytes,
            keep_order=options.keep_order or goes_to_stdout,
            fail_fast=options.fail_fast,
            skips_existing=options.skip_existing,
            items_total=None if search.is_open_ended else len(options.inputs),
            total_bytes=total_bytes,
            verbose=options.verbose,
        ),
        watch.observers,
        remover=_source_remover(options),
    )
    try:
        watch.begin(
            RunStart(definition.name, jobs, None if search.is_open_ended else len(options.inputs), total_bytes),
            batch.outcome,
            stop,
        )
        outcome = batch.run()
        figures = batch.figures()
        if not stop.count:
            sweeper.finish()
    finally:
        batch.close()
        stop.close()
    # What close() had to drop counts as well.
    figures = figures._replace(items_done=outcome.ended, stopped=outcome.stopped)
    return outcome, figures, stop.first


@contextlib.contextmanager
def _checksums(options: RunOptions, definition: Definition, stdio: Stdio, goes_to_stdout: bool) -> Iterator[Observers]:
    """The file of ``--checksums``, if one is wanted; it gets its name when the run has ended, however it has."""
    if options.checksums is None:
        yield ()
        return
    from .checksums import open_checksums

    file = open_checksums(options.checksums, definition, stdio, force=options.force, goes_to_stdout=goes_to_stdout)
    with contextlib.closing(file):
        yield (file,)
        file.publish()


def _source_remover(options: RunOptions) -> SourceRemover | None:
    if not options.remove_source:
        return None
    from .remove_source import SourceRemover  # few runs remove anything

    return SourceRemover(options.output_dir)


def _units_at_once(jobs: int) -> int:
    """How many submissions are under way: half as many again as are worked on.

    So no worker waits for the next while this process publishes. More would only be held in memory.
    """
    return jobs + (jobs + 1) // 2


def _stage_for_small_files(stages: list[PipelineStage]) -> SmallFilesStage | None:
    """What does many of them in one trip to a worker, where these stages allow it."""
    from mpp_stages.small_files import SmallFilesStage, can_batch  # a run of one file needs none of it

    return SmallFilesStage(stages) if can_batch(stages) else None


def _check_progress(mode: str) -> None:
    if mode not in MODES:
        raise UsageProblem(f"mpp: --progress: '{shown(mode)}' is not one of {listed(MODES)}{nearest(mode, MODES)}")


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
        stdout_is_terminal=(goes_to_stdout or options.watch.json in STDOUT_PATHS) and os.isatty(stdio.data_out),
    )


def _only_name(options: RunOptions) -> str:
    """The name that stands for the run where it has one input."""
    if options.command is not None:
        return shown(options.command.name)
    inputs = options.inputs
    if not inputs:
        return ""
    return "stdin" if is_stdin(inputs[0]) else shown(inputs[0])


def _total_bytes(inputs: tuple[str, ...], stdin: int) -> int | None:
    """How many bytes there are to read, for the bar; a file that cannot be asked counts nothing here."""
    total = 0
    for name in inputs:
        try:
            status = os.fstat(stdin) if is_stdin(name) else os.stat(name)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode):
            return None
        total += status.st_size - (os.lseek(stdin, 0, os.SEEK_CUR) if is_stdin(name) else 0)
    return total


def _status(outcome: Outcome, search: Search, *, fail_fast: bool) -> int:
    if outcome.broken is not None:
        tell(f"mpp: {outcome.broken}")
        return exit_codes.FAILED
    if fail_fast and outcome.was_cut_short and outcome.failed:
        tell("mpp: stopped after the first failure, as --fail-fast wants it; some inputs were not begun")
        return exit_codes.FAILED
    if outcome.failed or outcome.not_removed:
        return exit_codes.FAILED if search.is_one_file else exit_codes.SOME_FAILED
    return exit_codes.DONE
