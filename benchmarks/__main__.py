"""Run the benchmarks and print a table of ours, peer, ratio, target, met.

python -m benchmarks                                all of them
python -m benchmarks one_stage growth               some
python -m benchmarks --record                       and add the table to RESULTS.md
python -m benchmarks --setup-original DIR           make an environment with the original, then
MPP_BENCH_ORIGINAL=DIR python -m benchmarks         has it take part
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Final

from . import harness, results, table
from .machine import describe_machine, today

#: Name -> module, function: rows of DESIGN's table of targets, in its order.
BENCHMARKS: Final[dict[str, tuple[str, str]]] = {
    "one_stage": ("no_op_stages", "run_one_stage"),
    "three_stages": ("no_op_stages", "run_three_stages"),
    "growth": ("no_op_stages", "run_growth"),
    "piped_pair": ("piped_pair", "run"),
    "pipe_throughput": ("pipe_rows", "run"),
    "cli_stream": ("cli_stream", "run"),
    "cli_batch": ("cli_batch", "run"),
    "codecs": ("codecs", "run"),
    "cli_start": ("cli_start", "run"),
    "resume": ("cli_resume", "run"),
    "pass_through": ("pass_through", "run"),
    "line_filter": ("line_filter", "run"),
    "inputs": ("cli_inputs", "run"),
}


def main() -> int:
    """The exit status is 1 where a target was missed, so that it can be seen in a script."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ours beside its peers, in turns.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--rounds", type=int, default=harness.ROUNDS, help="turns of each contestant")
    parser.add_argument("--seconds", type=float, default=harness.SECONDS, help="about so long a turn, where it applies")
    parser.add_argument("--record", action="store_true", help=f"add the table to {results.FILE.name}")
    parser.add_argument("--note", default="", help="what to say of the run when it is recorded")
    parser.add_argument("--setup-original", type=Path, metavar="DIR", help="only make the original's environment")
    arguments = parser.parse_args()
    if arguments.setup_original:
        from .original import set_up

        set_up(arguments.setup_original)
        print(f"now set {harness.ORIGINAL_VARIABLE}={arguments.setup_original.resolve()}")
        return 0
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    machine = describe_machine()
    print(f"{today()}  {machine}", file=sys.stderr)
    rows: list[table.Row] = []
    for name in arguments.names or BENCHMARKS:
        print(f"{name} …", file=sys.stderr, flush=True)
        module, function = BENCHMARKS[name]
        its_rows = getattr(importlib.import_module(f"{__package__}.{module}"), function)(
            arguments.rounds, arguments.seconds
        )
        print(table.as_text(its_rows), end="\n\n", flush=True)
        rows += its_rows
    if arguments.record:
        results.record(rows, machine, arguments.rounds, arguments.note)
    missed = [row.work for row in rows if row.is_met is False]
    print(f"{sum(row.is_met is True for row in rows)} targets met, {len(missed)} missed", file=sys.stderr)
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
