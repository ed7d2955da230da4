"""Standard input → a codec → standard output, files in tmpfs, beside the format's own program on two threads."""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
from pathlib import Path

from . import programs
from .cli_stream import make_archive
from .table import Row, Target, at_most_times_peer, times_peer

#: What the slower ones get of the archive: bzip2 takes a minute for all of it.
PART_BYTES = 100_000_000
TIMES_PIGZ_6, TIMES_PIGZ_1 = 2.0, 3.0
LARGER_THAN_PIGZ_6 = 1.05


@dataclasses.dataclass(frozen=True)
class Match:
    """One stage with its options beside a program that does the same."""

    stage: str
    options: dict[str, int]
    peer: list[str]
    decompressor: str
    is_whole: bool = False
    speed: Target | None = None
    size: Target | None = None

    @property
    def is_back(self) -> bool:
        return not self.options

    @property
    def label(self) -> str:
        return " ".join(["mpp run", self.stage, *(f"{name}={value}" for name, value in self.options.items())])


MATCHES = [
    Match(
        "gzip",
        {"level": 6},
        ["pigz", "-p2", "-6"],
        "gzip",
        True,
        times_peer(TIMES_PIGZ_6),
        at_most_times_peer(LARGER_THAN_PIGZ_6),
    ),
    Match("gzip", {"level": 1}, ["pigz", "-p2", "-1"], "gzip", True, times_peer(TIMES_PIGZ_1)),
    Match("zstd", {"level": 3}, ["zstd", "-3", "-T2", "-q"], "zstd"),
    Match("xz", {"level": 1}, ["xz", "-1", "-T2"], "xz"),
    Match("bzip2", {"level": 9}, ["bzip2", "-9"], "bzip2"),
    Match("lz4", {"level": 1}, ["lz4", "-1", "-q"], "lz4"),
    # Back again: the input is what the peer has made of the part.
    Match("gunzip", {}, ["pigz", "-dc"], "gzip"),
    Match("unxz", {}, ["xz", "-dc", "-T2"], "xz"),
    Match("bunzip2", {}, ["bzip2", "-dc"], "bzip2"),
    Match("unlz4", {}, ["lz4", "-dcq"], "lz4"),
    Match("unzstd", {}, ["zstd", "-dcq"], "zstd"),
]


def run(rounds: int, _seconds: float) -> list[Row]:
    """Speed in MB/s of uncompressed data, and the size of what was made; each output is checked once."""
    with programs.folder_in_memory() as folder:
        archive, part = folder / "archive.tar", folder / "part.tar"
        make_archive(archive)
        with open(archive, "rb") as file:
            part.write_bytes(file.read(PART_BYTES))
        rows = []
        for match in MATCHES:
            rows += _rows(match, archive if match.is_whole else part, folder, rounds)
    return rows


def _rows(match: Match, archive: Path, folder: Path, rounds: int) -> list[Row]:
    output = folder / "output"
    source = archive
    if match.is_back:
        source = folder / "packed"
        programs.usage([programs.require(match.decompressor), "-c", "-1"], archive, source)
    pipeline = folder / "pipeline.toml"
    options = "".join(f"{name} = {value}\n" for name, value in match.options.items())
    pipeline.write_text(f'[[stage]]\nuse = "{match.stage}"\n{options}')
    commands = {
        match.label: [*programs.mpp(), "run", "-q", str(pipeline)],
        " ".join(match.peer): [programs.require(match.peer[0]), *match.peer[1:]],
    }
    usages: dict[str, list[programs.Usage]] = {name: [] for name in commands}
    sizes = {}
    for number in range(rounds):
        for name, command in commands.items():
            usages[name].append(programs.usage(command, source, output))
            if not number:
                _check(None if match.is_back else programs.require(match.decompressor), archive, output)
                sizes[name] = output.stat().st_size
    total = archive.stat().st_size / 1e6
    ours, peer = (total / statistics.median(one.seconds for one in of_it) for of_it in usages.values())
    rows = [Row(f"{match.label}, {total:,.0f} MB tar", "MB/s", ours, " ".join(match.peer), peer, match.speed)]
    if not match.is_back:
        our_size, peer_size = (size / 1e6 for size in sizes.values())
        rows.append(Row(f"{match.label}: output", "MB", our_size, " ".join(match.peer), peer_size, match.size))
    return rows


def _check(decompressor: str | None, archive: Path, output: Path) -> None:
    """Raise CalledProcessError where the output is not the archive, after decompression if there is a program."""
    if decompressor is None:
        subprocess.run(["cmp", str(output), str(archive)], check=True)
        return
    with (
        open(output, "rb") as file,
        subprocess.Popen([decompressor, "-dc"], stdin=file, stdout=subprocess.PIPE) as process,
    ):
        subprocess.run(["cmp", "-", str(archive)], stdin=process.stdout, check=True)
