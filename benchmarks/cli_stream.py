"""Standard input → zstd -3 → standard output of a large tar archive, files in tmpfs, beside zstd's own program."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tarfile
from pathlib import Path

from . import programs
from .table import Row, Target, at_most_times_peer

# DESIGN names 900 MB: so long that a start counts little.
ARCHIVE_BYTES = 900_000_000
# What every machine has some of: programs, libraries, texts.
CONTENT = Path("/usr")
TIMES_ZSTD = 1.0

# The same compressor with nothing of ours around it: one process, and so no pipe between two.
IN_ONE_PROCESS = """
import sys, os
from zstandard import ZstdCompressionParameters, ZstdCompressor
parameters = ZstdCompressionParameters(compression_level=3, threads=len(os.sched_getaffinity(0)), write_checksum=1)
chunker = ZstdCompressor(compression_params=parameters).chunker(-1, 1 << 20)
buffer = memoryview(bytearray(1 << 20))
source, target = open(0, "rb", 0), open(1, "wb", 0)
while n := source.readinto(buffer):
    for chunk in chunker.compress(buffer[:n]):
        target.write(chunk)
for chunk in chunker.finish():
    target.write(chunk)
"""


def make_archive(path: Path) -> None:
    """The files below /usr in the order of their names, over and over, until there is enough."""
    written = 0
    with tarfile.open(path, "w") as archive:
        while written < ARCHIVE_BYTES:
            before = written
            for folder, folders, names in os.walk(CONTENT):
                folders.sort()
                for name in sorted(names):
                    file = Path(folder, name)
                    if written >= ARCHIVE_BYTES:
                        return
                    if file.is_file() and not file.is_symlink() and os.access(file, os.R_OK):
                        archive.add(file)
                        written += file.stat().st_size
            if written == before:
                raise RuntimeError(f"no files below {CONTENT}")


def run(rounds: int, _seconds: float) -> list[Row]:
    """Time and peak memory of each; all outputs are checked once."""
    zstd = programs.require("zstd")
    commands = {
        "mpp run zstd": [*programs.mpp(), "run", "zstd"],
        "zstd -3 -T0": [zstd, "-3", "-T0", "-q", "-c"],
        "zstd -3 -T1": [zstd, "-3", "-T1", "-q", "-c"],
        "python-zstandard in one process": [sys.executable, "-c", IN_ONE_PROCESS],
    }
    with programs.folder_in_memory() as folder:
        archive, output = folder / "archive.tar", folder / "output.zst"
        make_archive(archive)
        usages: dict[str, list[programs.Usage]] = {name: [] for name in commands}
        sizes = {}
        for number in range(rounds):
            # There and back, so that none has the same one before it every time: who has heated the processor, whose
            # output has to be freed.
            for name, command in list(commands.items())[:: -1 if number % 2 else 1]:
                usages[name].append(programs.usage(command, archive, output))
                if not number:
                    _check(zstd, archive, output)
                    sizes[name] = output.stat().st_size
        total = archive.stat().st_size
    seconds = {name: statistics.median(one.seconds for one in of_it) for name, of_it in usages.items()}
    peaks = {name: statistics.median(one.peak_mib for one in of_it) for name, of_it in usages.items()}
    return _rows(total, sizes, seconds, peaks)


def _rows(total: int, sizes: dict[str, int], seconds: dict[str, float], peaks: dict[str, float]) -> list[Row]:
    ours, *others = seconds
    targets: dict[str, Target] = {"zstd -3 -T0": at_most_times_peer(TIMES_ZSTD)}
    work = f"stdin → zstd -3 → stdout, {total / 1e6:,.0f} MB tar"
    rows = [Row(work, "s", seconds[ours], other, seconds[other], targets.get(other)) for other in others]
    rows += [Row(f"{work}: peak memory of the largest process", "MiB", peaks[ours], o, peaks[o]) for o in others]
    rows += [Row(f"{work}: output", "MB", sizes[ours] / 1e6, o, sizes[o] / 1e6) for o in others]
    return rows


def _check(zstd: str, archive: Path, output: Path) -> None:
    """Raise CalledProcessError where the output is not the archive, compressed."""
    with subprocess.Popen([zstd, "-dc", str(output)], stdout=subprocess.PIPE) as decompressor:
        subprocess.run(["cmp", "-", str(archive)], stdin=decompressor.stdout, check=True)
