"""Peak memory of each stage with a short and with a long stream: run by hand, for it takes the better part of an hour.

python -m benchmarks.memory                              all of them, 10 MB, 1 GB and 10 GB
python -m benchmarks.memory --sizes 10M 3G -- xz bzip2

Two figures a run, of the tree of processes that mpp is: the peak of the largest process as the kernel keeps it, and the
sum of all (proportional set sizes, so that what processes share counts once), looked at 20 times a second.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from . import programs

SIZES: Final = ("10M", "1G", "10G")
_UNITS: Final = {"K": 10**3, "M": 10**6, "G": 10**9}
_BETWEEN_LOOKS_S: Final = 0.05
#: What is repeated: it compresses in parts well, in parts badly, and in parts not at all.
_ZERO_BYTES, _TEXT_BYTES, _RANDOM_BYTES = 640 << 10, 256 << 10, 128 << 10
#: So many of these make the streams that decoders get one after another.
_BLOCKS_A_STREAM: Final = 64
_FUNCTIONS: Final = """
def keep(line):
    return line

def pass_on(chunks):
    yield from chunks
"""


@dataclasses.dataclass(frozen=True)
class Case:
    """A pipeline and what it is fed with."""

    pipeline: str
    #: Each stream of the input is the output of this program; without it the input is plain.
    packer: tuple[str, ...] = ()
    #: Whether that program makes one stream of the whole input, while it is read.
    is_one_stream: bool = False
    is_text: bool = False
    is_to_file: bool = False


CASES: Final[dict[str, Case]] = {
    "write": Case("write"),
    "write-file": Case("write", is_to_file=True),
    "tee": Case("tee file={folder}/second | write"),
    "verify": Case("verify checksums={folder}/sums | write"),
    "digests": Case("sha256 | blake3 | count | write"),
    "chunks": Case("chunks function={folder}/functions.py:pass_on | write"),
    "lines": Case("lines function={folder}/functions.py:keep | write", is_text=True),
    "lines-one-process": Case("lines function={folder}/functions.py:keep processes=1 | write", is_text=True),
    "exec": Case("exec argv=['cat'] | write"),
    "zstd": Case("zstd | write"),
    "gzip": Case("gzip level=6 | write"),
    "lz4": Case("lz4 | write"),
    "xz": Case("xz level=0 | write"),
    "bzip2": Case("bzip2 level=1 | write"),
    "zstd-roundtrip": Case("zstd roundtrip=true | write"),
    "gzip-roundtrip": Case("gzip level=1 roundtrip=true | write"),
    "lz4-roundtrip": Case("lz4 roundtrip=true | write"),
    "xz-roundtrip": Case("xz level=0 roundtrip=true | write"),
    "bzip2-roundtrip": Case("bzip2 level=1 roundtrip=true | write"),
    "unzstd": Case("unzstd | write", ("zstd", "-1", "-qc")),
    "gunzip": Case("gunzip | write", ("pigz", "-1c")),
    "unlz4": Case("unlz4 | write", ("lz4", "-1qc")),
    "unxz": Case("unxz | write", ("xz", "-0c")),
    "unxz-one-stream": Case("unxz | write", ("xz", "-0c"), is_one_stream=True),
    "bunzip2": Case("bunzip2 | write", ("bzip2", "-1c")),
    "decompress": Case("decompress | write", ("zstd", "-1", "-qc")),
    "encrypt": Case("encrypt recipients_file={folder}/public | write"),
    "decrypt": Case(
        "decrypt identities_file={folder}/key | write", ("age", "-R", "{folder}/public"), is_one_stream=True
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description="Peak memory of each stage.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(CASES)}")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="SIZE", help="of the uncompressed input, as 10M")
    parser.add_argument("--folder", type=Path, help="where the second outputs are written, 10 GB at a time")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in CASES]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    sizes = {text: int(text[:-1]) * _UNITS[text[-1]] for text in arguments.sizes}
    print(f"| stage | {' | '.join(sizes)} |\n|---|{'---|' * len(sizes)}")
    with tempfile.TemporaryDirectory(prefix="mpp-bench-", dir=arguments.folder) as name:
        folder = Path(name)
        _make_files(folder)
        for case in arguments.names or CASES:
            print(f"| {case} ", end="", flush=True)
            for size in sizes.values():
                print(f"| {_measured(CASES[case], size, folder)} ", end="", flush=True)
            print("|", flush=True)
    return 0


def _make_files(folder: Path) -> None:
    (folder / "functions.py").write_text(_FUNCTIONS)
    subprocess.run(["age-keygen", "-o", folder / "key"], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["age-keygen", "-y", "-o", folder / "public", folder / "key"], check=True)


def _measured(case: Case, size: int, folder: Path) -> str:
    """One run: "largest / sum MiB, seconds"."""
    plain = _text_block() if case.is_text else _mixed_block()
    if "verify" in case.pipeline:
        digest = hashlib.sha256()
        for portion in _repeated(plain, size):
            digest.update(portion)
        (folder / "sums").write_text(f"{digest.hexdigest()}  -\n")
    pipeline = case.pipeline.replace("{folder}", str(folder))
    output = ["-o", str(folder / "output")] if case.is_to_file else []
    command = [programs.require("time"), "-f", "%M", "-o", str(folder / "peak")]
    command += [*programs.mpp(), "run", "-q", *output, pipeline]
    started = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0) as process:
        assert process.stdin is not None
        feeder = threading.Thread(target=_feed, args=(case, plain, size, folder, process.stdin))
        feeder.start()
        total = 0
        while process.poll() is None:
            total = max(total, _tree_kib(process.pid))
            time.sleep(_BETWEEN_LOOKS_S)
        feeder.join()
    seconds = time.monotonic() - started
    for name in ("output", "second"):
        (folder / name).unlink(missing_ok=True)
    if process.returncode:
        return f"FAILED with {process.returncode}"
    peak = int((folder / "peak").read_text().split()[-1])
    return f"{peak / 1024:.0f} / {total / 1024:.0f} MiB, {seconds:.0f} s"


def _feed(case: Case, plain: bytes, size: int, folder: Path, pipe: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError), pipe:
        packer = [part.replace("{folder}", str(folder)) for part in case.packer]
        if case.is_one_stream:
            with subprocess.Popen(packer, stdin=subprocess.PIPE, stdout=pipe) as process:
                assert process.stdin is not None
                pipe.close()
                for portion in _repeated(plain, size):
                    process.stdin.write(portion)
            return
        if packer:
            whole = min(size, _BLOCKS_A_STREAM * len(plain))
            packed = subprocess.run(packer, input=b"".join(_repeated(plain, whole)), stdout=subprocess.PIPE, check=True)
            plain, size = packed.stdout, len(packed.stdout) * max(1, size // whole)
        for portion in _repeated(plain, size):
            rest = memoryview(portion)
            while rest:
                rest = rest[pipe.write(rest) :]


def _repeated(block: bytes, size: int) -> Iterator[bytes]:
    for _ in range(size // len(block)):
        yield block
    yield block[: size % len(block)]


def _mixed_block() -> bytes:
    return bytes(_ZERO_BYTES) + _text_block()[:_TEXT_BYTES] + random.Random(2).randbytes(_RANDOM_BYTES)


def _text_block() -> bytes:
    chance = random.Random(1)
    lines = (
        b"2026-11-27 worker-%d request %08x\n" % (chance.randint(1, 64), chance.getrandbits(32)) for _ in range(9000)
    )
    return b"".join(lines)


def _tree_kib(pid: int) -> int:
    """The proportional set size of a process and of all below it; of those that have just ended, nothing."""
    total, waiting = 0, [pid]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                waiting += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


if __name__ == "__main__":
    sys.exit(main())
