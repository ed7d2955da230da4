"""What a digest beside the compressor costs: ``zstd`` alone, with sha256 behind it, and with sha256 before it.

All of a run's CPU time counts here, for zstd keeps every core busy: a digest in front reads all of the input, at some
2 GB/s a core, while the compressor takes about 0.25 GB/s a core; there is nothing idle that could do it for nothing.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from . import programs
from .cli_stream import make_archive
from .table import Row, at_most_times_peer

TIMES_WITHOUT = 1.10
PIPELINES = {
    "zstd | write": ("zstd",),
    "zstd | sha256 | write": ("zstd", "sha256"),
    "sha256 | zstd | write": ("sha256", "zstd"),
    "zstd | blake3 | write": ("zstd", "blake3"),
    "blake3 | zstd | write": ("blake3", "zstd"),
}


def run(rounds: int, _seconds: float) -> list[Row]:
    """Medians of alternating runs, beside the same pipeline without the digest."""
    with programs.folder_in_memory() as folder:
        archive, output = folder / "archive.tar", folder / "output.zst"
        make_archive(archive)
        seconds: dict[str, list[float]] = {name: [] for name in PIPELINES}
        for _ in range(rounds):
            for name, stages in PIPELINES.items():
                seconds[name].append(_timed(folder, stages, archive, output))
        total = archive.stat().st_size
    medians = {name: statistics.median(of_it) for name, of_it in seconds.items()}
    (peer, without), *others = medians.items()
    work = f"stdin → {{}} → stdout, {total / 1e6:,.0f} MB tar"
    return [
        Row(work.format(name), "s", median, peer, without, at_most_times_peer(TIMES_WITHOUT)) for name, median in others
    ]


def _timed(folder: Path, stages: tuple[str, ...], archive: Path, output: Path) -> float:
    definition = folder / "pipeline.toml"
    definition.write_text("".join(f'[[stage]]\nuse = "{stage}"\n' for stage in stages))
    return programs.usage([*programs.mpp(), "run", "-q", str(definition)], archive, output).seconds
