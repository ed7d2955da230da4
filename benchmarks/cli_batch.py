"""Many small files → .zst beside xargs with zstd's own program and GNU parallel, and the memory of the parent.

The files are pieces of source code from below /usr, most of them of one to twenty kilobytes. All is
in tmpfs. Each command makes all outputs, which are removed again before the next.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from . import programs
from .harness import alternate
from .table import Row, at_most, at_most_times_peer, times_peer

#: DESIGN's rows: how many files, and how many times the peer's time we may take.
TIMES_XARGS: Final = {5_000: 1.5, 50_000: 1.0}
#: GNU parallel starts one zstd for each file; so many of the 5,000 are enough to know its rate.
PARALLEL_FILES: Final = 1_000
TIMES_PARALLEL: Final = 40.0
MEMORY_FILES: Final = (1_000, 100_000)
MAX_PARENT_MIB: Final = 90.0
MAX_GROWTH: Final = 1.1
#: Median 3 kB, mean 5 kB.
_MEDIAN_LOG: Final = 8.0
_SIGMA_LOG: Final = 1.0
_MAX_BYTES: Final = 128 << 10
_LOOK_S: Final = 0.01


def make_files(folder: Path, count: int) -> Path:
    """Make the files below ``folder`` and return the list of their names, each with a zero byte behind it."""
    text = _source_code()
    rng = random.Random(count)
    names = []
    for number in range(count):
        if number % 1_000 == 0:
            (folder / f"d{number // 1_000:03}").mkdir()
        size = min(_MAX_BYTES, int(rng.lognormvariate(_MEDIAN_LOG, _SIGMA_LOG)))
        start = rng.randrange(len(text) - size)
        name = f"d{number // 1_000:03}/file-{number:06}.py"
        (folder / name).write_bytes(text[start : start + size])
        names.append(name)
    listed = folder / "names"
    listed.write_bytes(b"".join(name.encode() + b"\0" for name in names))
    return listed


def _source_code() -> bytes:
    """Some megabytes of what every machine that runs this has."""
    found = bytearray()
    for file in sorted(Path(os.__file__).parent.rglob("*.py")):
        found += file.read_bytes()
        if len(found) > 8 << 20:
            break
    return bytes(found)


def run(rounds: int, _seconds: float) -> list[Row]:
    """All rows."""
    rows = []
    for count in TIMES_XARGS:
        rows += _beside_peers(count, rounds if count < 10_000 else max(1, rounds - 2))
    return rows + _memory()


def _beside_peers(count: int, rounds: int) -> list[Row]:
    zstd, xargs = programs.require("zstd"), programs.require("xargs")
    with programs.folder_in_memory() as folder:
        names = make_files(folder, count)
        some = folder / "some-names"
        some.write_bytes(b"\0".join(names.read_bytes().split(b"\0")[:PARALLEL_FILES]) + b"\0")
        ours = [*programs.mpp(), "run", "-q", "zstd", "-0", "--files-from", "-"]
        peer = [xargs, "-0", "-P2", "-n64", zstd, "-q", "-3", "-k"]
        runs: dict[str, Callable[[], float]] = {
            "mpp": lambda: _timed(ours, folder, names, count),
            "xargs": lambda: _timed(peer, folder, names, count),
        }
        if count == min(TIMES_XARGS):
            parallel = [programs.require("parallel"), "-0", "-j2", zstd, "-q", "-3", "-k"]
            runs["parallel"] = lambda: _timed(parallel, folder, some, PARALLEL_FILES) * count / PARALLEL_FILES
        figures = {name: figure.required for name, figure in alternate(runs, rounds).items()}
        total = sum(file.stat().st_size for file in _files(folder, ".py"))
    work = f"{count:,} files, {total / 1e6:,.0f} MB → .zst"
    rows = [
        Row(
            work, "s", figures["mpp"], "xargs -P2 -n64 zstd -q -3 -k", figures["xargs"],
            at_most_times_peer(TIMES_XARGS[count]),
        )
    ]  # fmt: skip
    if "parallel" in figures:
        rate = count / figures["mpp"], count / figures["parallel"]
        note = f"GNU parallel -j2, one job a file, measured with {PARALLEL_FILES:,}"
        rows.append(Row(work, "files/s", rate[0], note, rate[1], times_peer(TIMES_PARALLEL)))
    return rows


def _timed(command: list[str], folder: Path, names: Path, count: int) -> float:
    with open(names, "rb") as source:
        started = time.perf_counter()
        subprocess.run(command, stdin=source, cwd=folder, check=True, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
    made = list(_files(folder, ".zst"))
    if len(made) != count:
        raise RuntimeError(f"{command[0]} made {len(made)} outputs of {count}")
    for file in made:
        file.unlink()
    return seconds


def _files(folder: Path, suffix: str) -> Iterator[Path]:
    return (file for file in folder.glob("*/*") if file.name.endswith(suffix))


def _memory() -> list[Row]:
    """The parent's peak with few and with many files of a tree, and of a list.

    Of a list something has to be kept, for a file that stands in it twice is done once: a hash of each name.
    """
    peaks: dict[str, list[float]] = {"tree": [], "list": []}
    for count in MEMORY_FILES:
        with programs.folder_in_memory() as folder:
            names = make_files(folder, count)
            listed = [*programs.mpp(), "run", "-q", "zstd", "-0", "--files-from", names.name]
            peaks["list"].append(_parents_peak_mib(listed, folder))
            for made in list(_files(folder, ".zst")):
                made.unlink()
            tree = [*programs.mpp(), "run", "-q", "zstd", "--recursive", "--exclude", names.name, "."]
            peaks["tree"].append(_parents_peak_mib(tree, folder))
    rows = []
    few_files, many_files = MEMORY_FILES
    for kind, (few, many) in peaks.items():
        work = f"peak memory of the parent, {many_files:,} files of a {kind}"
        rows.append(Row(work, "MiB", many, target=at_most(MAX_PARENT_MIB, "MiB")))
        rows.append(Row(work, "MiB", many, f"{few_files:,} files", few, at_most_times_peer(MAX_GROWTH)))
    return rows


def _parents_peak_mib(command: list[str], folder: Path) -> float:
    """VmHWM as it was seen last: of this process alone, which /usr/bin/time cannot tell from its children."""
    peak = 0
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL) as process:
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            for line in status.splitlines():
                if line.startswith("VmHWM:"):
                    peak = int(line.split()[1])
            time.sleep(_LOOK_S)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return peak / 1024


if __name__ == "__main__":
    from . import table

    print(table.as_text(run(int(sys.argv[1]) if len(sys.argv) > 1 else 5, 0.0)))
