"""The commands and their options, as Typer shows them. What they do stands in modules of their own."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import exit_codes
from .errors import nearest, one_line, shown
from .lean_typer import LeanCommand, LeanGroup, in_order_given
from .option_types import (
    DryRun,
    Exclude,
    FilesFrom,
    Include,
    Null,
    OutputDir,
    Recursive,
    RemoveSource,
    SkipExisting,
)
from .run_line import needs_help
from .run_options import make_options
from .stdio import Stdio
from .tell import tell
from .telling_errors import complain, tell_of_failure, told
from .watch_options import JournalFile, Json, LogFile, Report, Resume

# Plain help: rich's rendering costs 80 ms.
app = typer.Typer(
    name="mpp",
    cls=LeanGroup,
    help="Run bytes and files through a pipeline of stages, on all cores.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


Pipeline = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE",
        help="A ready-made pipeline (see 'mpp pipelines'), file.toml, module:object, ./file.py:object, or the stages "
        "themselves: 'zstd level=9 | write'.",
        show_default=False,
    ),
]
AppDir = Annotated[
    str | None,
    typer.Option("--app-dir", metavar="DIR", help="Look for the module of module:object in this folder first."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set an option of a stage (STAGE.KEY=VALUE where several have it), or an argument of a Python function.",
    ),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # costs 25 ms

        typer.echo(f"mpp {version('atbu-mp-pipeline-pkg')}")
        raise typer.Exit


@app.callback()
def _mpp(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run bytes and files through a pipeline of stages, on all cores."""


@app.command("run", cls=LeanCommand, short_help="Run data or files through a pipeline.")
def _run(
    ctx: typer.Context,
    pipeline: Pipeline,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Files and folders; '-' is standard input, and the default. Outputs stand beside their inputs.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Write this file; '-' is standard output.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace existing files; write compressed data to a terminal.")
    ] = False,
    recursive: Recursive = False,
    include: Include = None,
    exclude: Exclude = None,
    files_from: FilesFrom = None,
    null: Null = False,
    output_dir: OutputDir = None,
    skip_existing: SkipExisting = False,
    remove_source: RemoveSource = False,
    dry_run: DryRun = False,
    from_command: Annotated[
        bool,
        typer.Option(
            "--from-command",
            help="The arguments after -- are a command: run it and read its output, which counts only if it succeeds.",
        ),
    ] = False,
    ok_status: Annotated[
        str | None,
        typer.Option("--ok-status", metavar="N,...", help="Exit statuses of that command that count as success: 0,1."),
    ] = None,
    app_dir: AppDir = None,
    settings: Settings = None,
    jobs: Annotated[
        str | None, typer.Option("--jobs", "-j", metavar="N", help="Files at once; as many as usable CPUs by default.")
    ] = None,
    keep_order: Annotated[
        bool, typer.Option("--keep-order", "-k", help="Outputs appear in the order of the inputs.")
    ] = False,
    fail_fast: Annotated[
        bool,
        typer.Option("--fail-fast/--keep-going", help="Begin no further file after a failure; by default all go on."),
    ] = False,
    retries: Annotated[
        str | None,
        typer.Option("--retries", metavar="N", help="Further attempts at a file whose worker was killed or timed out."),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="SECONDS", help="End the work on a file that takes longer.")
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option("--max-memory", metavar="SIZE", help="Fewer files at once, so that the stages stay below it."),
    ] = None,
    progress: Annotated[
        str,
        typer.Option(
            "--progress", metavar="auto|bar|plain|none", help="Show a bar, plain lines every 10 s, or only a summary."
        ),
    ] = "auto",
    size_hint: Annotated[
        str | None,
        typer.Option("--size-hint", metavar="SIZE", help="How much standard input will bring, such as 40G."),
    ] = None,
    checksums: Annotated[
        str | None,
        typer.Option(
            "--checksums",
            metavar="FILE",
            help="Write the digests that the pipeline finds, for sha256sum -c and its like.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show tracebacks and every finished file.")] = False,
    json: Json = None,
    journal: JournalFile = None,
    resume: Resume = False,
    report: Report = None,
    log_file: LogFile = None,
) -> int:
    """Run data through a pipeline: standard input to standard output, or files.

    Exit status: 0 all done; 1 the run failed; 2 a wrong command line or definition; 3 some of several files failed.
    """
    stdio: Stdio = ctx.obj
    if needs_help(ctx.params, stdio):
        tell(ctx.get_help())
        return exit_codes.USAGE
    from .run import run

    return run(make_options(ctx.params, in_order_given(ctx, include=include, exclude=exclude)), stdio)


@app.command("check", cls=LeanCommand)
def _check(
    ctx: typer.Context,
    pipeline: Pipeline,
    app_dir: AppDir = None,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan, or what is wrong, as JSON.")] = False,
) -> int:
    """Validate a pipeline, show its plan, and warn of what will hurt. Nothing is run."""
    from .plan import show_plan

    return show_plan(pipeline, app_dir, settings or (), as_json, ctx.obj)


@app.command("schema", cls=LeanCommand)
def _schema(ctx: typer.Context) -> int:
    """Print a JSON Schema of the TOML stage lists, for editors. Installed plug-ins' stages are in it."""
    from .schema import show_schema

    return show_schema(ctx.obj)


@app.command("stages", cls=LeanCommand, short_help="List the stages, or show one with its options.")
def _stages(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show this stage and its options.", show_default=False)
    ] = None,
) -> int:
    """List what can stand in 'use = ...' of a stage, or show one with its options."""
    from .listing import show_stage, show_stages

    return show_stages(ctx.obj) if name is None else show_stage(name, ctx.obj)


@app.command("pipelines", cls=LeanCommand)
def _pipelines(ctx: typer.Context) -> int:
    """List the ready-made pipelines."""
    from .listing import show_pipelines

    return show_pipelines(ctx.obj)


def run_app(args: list[str], stdio: Stdio) -> int:
    """Run one command line; returns the exit status."""
    command = typer.main.get_command(app)
    stdio.words_to_stdout()
    status = told(lambda: _run_command(command, args, stdio), _tell_of)
    try:
        stdio.words_to_stderr()
    except OSError as ex:
        return status or complain(ex, [f"mpp: {ex.strerror}"], exit_codes.FAILED)
    return status


def _run_command(command: Any, args: list[str], stdio: Stdio) -> int:
    status = command.main(args=args, prog_name="mpp", standalone_mode=False, obj=stdio)
    return status if isinstance(status, int) else exit_codes.DONE


def _tell_of(error: Exception) -> int:
    """Say in one line what Typer found wrong; which module its errors come from depends on its version."""
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        return tell_of_failure(error)
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        tell(format_message())
        return exit_codes.USAGE
    path = context.command_path if context is not None else "mpp"
    words = one_line(format_message()).rstrip(".")
    hint = f"(see '{path} --help')"
    if type(error).__name__ == "NoSuchOption" and context is not None:
        name = getattr(error, "option_name", "")
        known = [option for each in context.command.get_params(context) for option in each.opts]
        words = f"No such option: {shown(name)}{nearest(name, known, likeness=0.7)}"
        if any(each.name == "settings" for each in context.command.params):
            hint = f"(see '{path} --help'; a stage's option is set by --set KEY=VALUE)"
    return complain(None, [f"mpp: {words} {hint}"], exit_codes.USAGE)
