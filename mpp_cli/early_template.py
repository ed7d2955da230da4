"""The process that workers are forked from, started before the rest of a run is imported.

    command line ──▶ imports for both ──▶ fork ─┬─ parent:   imports the run, finds inputs ──▶ asks for workers
                                                └─ template: imports what only workers run ──▶ forks them

Two CPUs then share what one did, and nothing is done twice. It is for ready-made pipelines alone: workers of others
need the user's modules, as the parent has loaded them.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
from collections.abc import Iterable, Iterator
from functools import partial

from mpp_stages.builtin import LIBRARIES, PIPELINES, STAGES

from atbu.mp_pipeline.template import Template, is_single_threaded

from .exit_codes import note_all_is_ours
from .run_options import RunOptions
from .stdio import Stdio


@contextlib.contextmanager
def early_template(options: RunOptions, stdio: Stdio) -> Iterator[Template | None]:
    """A template for the run's pipeline, where it can be started now; if none takes it, it is ended with the block.

    Standard input is taken away before, where it holds data: no process but the one that reads it may have it.
    """
    if not _is_possible(options):
        yield None
        return
    note_all_is_ours()
    if options.reads_stdin:
        stdio.take_stdin()
    for name in ("atbu.mp_pipeline.worker_main", *_stage_modules(options)):
        importlib.import_module(name)
    template = Template(None, (), options.pipeline, partial(_import_all, LIBRARIES.get(options.pipeline, ())))
    try:
        yield template
    finally:
        if not template.is_taken:
            template.close(0.0)


def _is_possible(options: RunOptions) -> bool:
    is_ready_made = options.pipeline in PIPELINES and not options.settings and options.app_dir is None
    # Who has loaded it before us may have chosen how processes are started.
    return is_ready_made and not options.dry_run and "multiprocessing" not in sys.modules and is_single_threaded()


def _stage_modules(options: RunOptions) -> list[str]:
    stages = [STAGES[use].partition(":")[0] for use, _ in PIPELINES[options.pipeline]]
    return [*stages, "mpp_stages.small_files"] if options.may_be_many else stages


def _import_all(names: Iterable[str]) -> None:
    """In the template: import these, and turn on the collection of garbage that main() has turned off."""
    try:
        for name in names:
            importlib.import_module(name)
    finally:
        gc.enable()
