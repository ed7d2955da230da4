"""The short way through a command line reads what Typer reads, or leaves it to Typer."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from mpp_cli.app import app
from mpp_cli.lean_typer import in_order_given
from mpp_cli.run_line import FLAGS, LISTS, TEXTS, read_run_line
from mpp_cli.run_options import RunOptions, make_options

COMMAND: Any = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]


def as_typer_reads(args: list[str]) -> RunOptions:
    """The whole way."""
    context = COMMAND.make_context("run", list(args))
    values = context.params
    patterns = in_order_given(context, include=values["include"], exclude=values["exclude"])
    return make_options(values, patterns)


def values_of(options: RunOptions) -> dict[str, Any]:
    """All of them, given or not."""
    return {name: getattr(options, name) for name in RunOptions.__annotations__}


def test_every_option_is_known_in_all_its_spellings():
    """What is added to Typer's options, and not here, would be slow for ever."""
    flags: dict[str, tuple[str, bool]] = {}
    texts: dict[str, str] = {}
    lists: dict[str, str] = {}
    for option in COMMAND.params:
        if option.param_type_name != "option":
            continue
        if option.is_flag:
            flags |= dict.fromkeys(option.opts, (option.name, True))
            flags |= dict.fromkeys(option.secondary_opts, (option.name, False))
        else:
            table = lists if option.multiple else texts
            table |= dict.fromkeys(option.opts, option.name)
    assert (flags, texts, lists) == (FLAGS, TEXTS, LISTS)


WHOLE = [
    *[[flag] for flag in FLAGS if flag != "--from-command"],
    *[[name, "3"] for name in TEXTS if name not in ("--json", "--ok-status")],
    *[[f"{name}=3"] for name in TEXTS if name.startswith("--") and name != "--ok-status"],
    *[[name, "a.b=-c"] for name in LISTS],
    *[[f"{name}=*.x"] for name in LISTS],
    ["--json"],
    ["-"],
    ["a", "b"],
    ["-o", "-"],
    ["-o3"],
    ["-o=3"],
    ["-qvf"],
    ["-qj", "3"],
    ["-kj3"],
    ["-j", "2", "--jobs=3"],
    ["--fail-fast", "--keep-going"],
    ["--include=*.a", "--exclude", "*.b", "--include", "*.c", "--set=x=1", "--set", "y="],
    ["--json", "a"],
    ["--json", "--json=b"],
    ["--output=a=b"],
    ["--from-command", "--", "tar", "-c", "--", "x"],
    ["--from-command", "--ok-status=0,1", "tar"],
    ["--", "-q", "--no", ""],
    ["--", "--", "-"],
    ["x\udcff", ""],
]


@pytest.mark.parametrize("rest", WHOLE, ids=" ".join)
@pytest.mark.parametrize("is_last", [False, True], ids=["first", "last"])
def test_a_plain_line_means_what_typer_makes_of_it(rest, is_last):
    """Wherever the pipeline's name stands."""
    args = [*rest, "zstd"] if is_last else ["zstd", *rest]
    read = read_run_line(["run", *args])
    assert read is not None
    assert values_of(make_options(*read)) == values_of(as_typer_reads(args))


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--help"],
        ["--version"],
        ["check", "zstd"],
        ["run"],
        ["run", ""],
        ["run", "-q"],
        ["run", "--"],
        ["run", "zstd", "--help"],
        ["run", "-h"],
        ["run", "zstd", "--levle", "3"],
        ["run", "zstd", "--force=yes"],
        ["run", "zstd", "--forc"],
        ["run", "zstd", "-qx"],
        ["run", "zstd", "-o"],
        ["run", "zstd", "--output"],
        ["run", "zstd", "--output="],
        ["run", "zstd", "-o", "--force"],
        ["run", "zstd", "-o", "--"],
        ["run", "zstd", "--set", "-x"],
        ["run", "zstd", "--json="],
        ["run", "zstd", "---"],
    ],
    ids=" ".join,
)
def test_what_is_not_plain_is_left_to_typer(args):
    """Help, other commands, and all that is wrong or only looks so."""
    assert read_run_line(args) is None


def test_completion_is_left_to_typer(monkeypatch):
    """A shell asks by a variable."""
    monkeypatch.setenv("_MPP_COMPLETE", "complete_bash")
    assert read_run_line(["run", "zstd"]) is None
