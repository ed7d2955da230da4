"""``mpp run`` on many files: real workers, all ways to fail, order, limits."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli_tools import TIMEOUT_S, descendants, lines_of, mpp, started, unpacked, wait_until, without_power_over_files

STAGES = """
import os
import signal
from mpp_stages.byte_stage import ByteStage

class Wild(ByteStage):
    name = "wild"
    adds_suffix = ".out"

    def run(self, reader, writer, item):
        data = reader.read()
        with open("log", "ab", buffering=0) as log:
            log.write(data[:20] + b"\\n")
        if data == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        if data == b"die twice" and open("log", "rb").read().count(b"die twice") <= 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if data == b"hang":
            signal.pause()
        if data[:9] == b"wait once" and not os.path.exists("waited"):
            open("waited", "x").close()
            with open("started", "wb", buffering=0) as started:
                started.write(b"%d" % os.getpid())
            signal.pause()
        if data == b"wait for go":
            with open("started", "wb"):
                pass
            with open("go", "rb") as go:
                go.read()
        if data == b"fail":
            raise ValueError("no good")
        writer.write(data)

stages = [Wild()]
"""


def folder_of(path: Path, **contents: bytes) -> list[str]:
    """A folder with the stages above and files of these contents; returns the files' names."""
    (path / "wild.py").write_text(STAGES)
    for name, content in contents.items():
        (path / name).write_bytes(content)
    return list(contents)


def outputs(path: Path) -> list[str]:
    return sorted(file.name.removesuffix(".out") for file in path.glob("*.out"))


def temporaries(path: Path) -> list[str]:
    return [name for name in os.listdir(path) if name.startswith(".mpp-")]


def is_read(fifo: Path) -> bool:
    """Whether somebody has opened it to read; he then sees its end."""
    with contextlib.suppress(OSError):
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return True
    return False


def many(path: Path, count: int) -> list[str]:
    names = [f"f{number:03}" for number in range(count)]
    for number, name in enumerate(names):
        (path / name).write_bytes(b"%d: a line of a log file\n" % number * (number % 50))
    return names


def test_many_files_become_what_each_becomes_alone(tmp_path):
    """All there, the same bytes, nothing beside them; large ones among small ones too."""
    names = many(tmp_path, 300)
    (tmp_path / "f100").write_bytes(os.urandom(5 << 20))
    done = mpp("run", "zstd", *names, cwd=tmp_path)
    assert (done.returncode, lines_of(done)[0].partition(":")[2].strip()[:22]) == (0, "300 of 300 files done:")
    assert len(os.listdir(tmp_path)) == 600
    for name in names:
        assert unpacked((tmp_path / f"{name}.zst").read_bytes()) == (tmp_path / name).read_bytes()
    alone = mpp("run", "zstd", "-o", "-", "f049", cwd=tmp_path).stdout
    assert (tmp_path / "f049.zst").read_bytes() == alone


def test_one_corrupt_file_among_500_costs_one_file_and_says_why(tmp_path):
    """Status 3; one line with file, stage and reason; the summary counts."""
    names = many(tmp_path, 500)
    assert mpp("run", "-q", "zstd", *names, cwd=tmp_path).returncode == 0
    for name in names:
        (tmp_path / name).unlink()
    packed = (tmp_path / "f234.zst").read_bytes()
    (tmp_path / "f234.zst").write_bytes(packed[:-1])
    done = mpp("run", "unzstd", *(f"{name}.zst" for name in names), cwd=tmp_path)
    assert done.returncode == 3
    failure, summary = lines_of(done)
    assert failure == "mpp: stage 'unzstd': 'f234.zst': the compressed data ends in the middle of a frame (truncated?)"
    assert "499 of 500 files done, 1 failed" in summary
    assert len(os.listdir(tmp_path)) == 999


def test_unreadable_and_vanished_files_cost_themselves(tmp_path):
    """Each with its own reason."""
    names = many(tmp_path, 20)
    (tmp_path / "f003").chmod(0)
    listed = "".join(f"{name}\n" for name in [*names, "gone"]).encode()
    done = mpp(
        "run", "zstd", "--files-from", "-", data=listed, cwd=tmp_path, preexec_fn=without_power_over_files
    )  # fmt: skip
    assert done.returncode == 3
    assert sorted(lines_of(done)[:2]) == [
        "mpp: 'f003': Permission denied",
        "mpp: 'gone': No such file or directory",
    ]
    assert len(list(tmp_path.glob("*.zst"))) == 19
    assert not temporaries(tmp_path)


def test_a_file_that_kills_its_worker_fails_alone_by_name(tmp_path):
    """It was tried once more, by itself; all others are done, and it leaves no temporary."""
    names = folder_of(tmp_path, a=b"1", b=b"2", c=b"die", d=b"3", e=b"4")
    done = mpp("run", "-j1", "./wild.py:stages", *names, cwd=tmp_path)
    assert done.returncode == 3
    failure, _ = lines_of(done)
    how = r"worker \d+ was killed by SIGKILL while it held 'c'; the item had been retried once\. Out of memory\?"
    assert re.match(f"mpp: stage 'wild': {how}", failure)
    assert outputs(tmp_path) == ["a", "b", "d", "e"]
    assert (tmp_path / "log").read_bytes().count(b"die") == 2
    assert not temporaries(tmp_path)


@pytest.mark.parametrize("size", [9, 5 << 20], ids=["in a batch", "alone"])
def test_a_worker_killed_from_outside_costs_a_retry_and_no_file(tmp_path, size):
    """kill -9 in the middle of a batch, or of a large file: every file is done in the end."""
    names = folder_of(tmp_path, a=b"1", b=b"wait once".ljust(size), c=b"3")
    os.mkfifo(tmp_path / "started")
    with started("run", "-j1", "./wild.py:stages", *names, cwd=tmp_path) as process:
        with open(tmp_path / "started", "rb") as marker:
            worker = int(marker.read())
        assert worker in descendants(process.pid)
        os.kill(worker, signal.SIGKILL)
        assert process.wait(TIMEOUT_S) == 0
    assert outputs(tmp_path) == ["a", "b", "c"]
    assert max((tmp_path / "log").read_bytes().split().count(word) for word in (b"1", b"3")) <= 2
    assert not temporaries(tmp_path)


def test_retries_are_tries_beside_the_one_in_the_batch(tmp_path):
    """A file that kills two workers and then is good: it is lost without --retries, and done with one."""
    names = folder_of(tmp_path, a=b"1", b=b"die twice")
    assert mpp("run", "-j1", "./wild.py:stages", *names, cwd=tmp_path).returncode == 3
    (tmp_path / "log").unlink()
    done = mpp("run", "-j1", "--force", "--retries", "1", "./wild.py:stages", *names, cwd=tmp_path)
    assert (done.returncode, outputs(tmp_path)) == (0, ["a", "b"]), done.stderr


def test_an_output_that_another_run_makes_meanwhile_is_skipped(tmp_path):
    """With --skip-existing it is no failure that the other was faster, and its output stays."""
    names = folder_of(tmp_path, a=b"wait for go", b=b"1")
    os.mkfifo(tmp_path / "started")
    os.mkfifo(tmp_path / "go")
    args = ("run", "--skip-existing", "--remove-source", "--json=events", "./wild.py:stages", *names)
    with started(*args, cwd=tmp_path) as process:
        (tmp_path / "started").read_bytes()
        (tmp_path / "a.out").write_bytes(b"the other's")
        wait_until(lambda: is_read(tmp_path / "go"), "the stage waits for its go")
        assert process.wait(TIMEOUT_S) == 0
    assert ((tmp_path / "a.out").read_bytes(), (tmp_path / "a").exists()) == (b"the other's", True)
    summary = json.loads((tmp_path / "events").read_bytes().splitlines()[-1])
    assert [summary[each] for each in ("done", "skipped", "failed", "items_ended")] == [1, 1, 0, 2]
    assert not temporaries(tmp_path)


@pytest.mark.slow
def test_the_time_in_which_all_is_stopped_does_not_count_for_the_time_limit(tmp_path):
    """Ctrl-Z for longer than --timeout, then fg: the file under way is done, in its first attempt."""
    names = folder_of(tmp_path, a=b"wait for go")
    os.mkfifo(tmp_path / "started")
    os.mkfifo(tmp_path / "go")
    with started("run", "--timeout", "1.5", "./wild.py:stages", *names, cwd=tmp_path) as process:
        (tmp_path / "started").read_bytes()
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(1.8)  # this time itself is what is tested
        os.killpg(process.pid, signal.SIGCONT)
        wait_until(lambda: is_read(tmp_path / "go"), "the stage waits for its go")
        assert process.wait(TIMEOUT_S) == 0
    assert (tmp_path / "log").read_bytes().split(b"\n").count(b"wait for go") == 1


@pytest.mark.slow
def test_a_file_that_hangs_fails_by_its_time_limit(tmp_path):
    """The others of its batch are done again and are good."""
    names = folder_of(tmp_path, a=b"1", b=b"hang", c=b"3")
    done = mpp("run", "-j1", "--timeout", "1", "./wild.py:stages", *names, cwd=tmp_path)
    assert done.returncode == 3
    failure, _ = lines_of(done)
    assert failure.startswith("mpp: stage 'wild': ")
    assert "'b'" in failure
    assert "after 1 s" in failure
    assert outputs(tmp_path) == ["a", "c"]
    assert not temporaries(tmp_path)


def test_fail_fast_begins_nothing_more(tmp_path):
    """Status 1, for the run has not been finished; what was under way is complete."""
    names = folder_of(tmp_path, a=b"fail", **{f"f{number}": b"%d" % number for number in range(2000)})
    done = mpp("run", "-j1", "--fail-fast", "./wild.py:stages", *names, cwd=tmp_path)
    assert done.returncode == 1
    assert lines_of(done)[0] == "mpp: 'a': wild: no good" or "no good" in lines_of(done)[0]
    assert "--fail-fast" in lines_of(done)[-1]
    assert len(outputs(tmp_path)) < 1900
    assert not temporaries(tmp_path)


def test_keep_order_publishes_in_the_order_of_the_inputs(tmp_path):
    """Also where a later file is done long before, and failures stand in their place."""
    names = many(tmp_path, 100)
    (tmp_path / "f000").write_bytes(os.urandom(12 << 20))
    (tmp_path / "f050").unlink()
    done = mpp("run", "-v", "--keep-order", "zstd", *names, cwd=tmp_path)
    told = [line.split(": ")[1].strip("'") for line in lines_of(done) if re.match("mpp: '?f", line)]
    assert told == names
    assert done.returncode == 3


def test_max_memory_that_one_file_exceeds_is_refused(tmp_path):
    """Before anything is started, in one line."""
    (tmp_path / "hungry.py").write_text(
        "from mpp_stages.byte_stage import ByteStage\n"
        "class Hungry(ByteStage):\n"
        "    adds_suffix = '.x'\n"
        "    def memory_bytes(self):\n"
        "        return 1 << 30\n"
        "stages = [Hungry()]\n"
    )
    (tmp_path / "a").write_bytes(b"")
    done = mpp("run", "--max-memory", "512M", "./hungry.py:stages", "a", cwd=tmp_path)
    (line,) = lines_of(done)
    assert done.returncode == 2
    assert line.startswith("mpp: --max-memory: one input alone may take 1,024 MiB, most of it (1,024 MiB) in stage")


MEETING = """
import os
import time
from mpp_stages.byte_stage import ByteStage

class Meeting(ByteStage):
    adds_suffix = ".out"

    def run(self, reader, writer, item):
        open(f"here-{item.name}", "x").close()
        while not (os.path.exists("here-a") and os.path.exists("here-b")):
            time.sleep(0.005)
        while reader.read1(1 << 20):
            pass

stages = [Meeting()]
"""


def test_as_many_large_files_at_once_as_jobs(tmp_path):
    """Each has a worker for every stage: two of them can wait for each other."""
    (tmp_path / "meet.py").write_text(MEETING)
    for name in "ab":
        with open(tmp_path / name, "wb") as file:
            file.truncate(5 << 20)
    done = mpp("run", "-j2", "./meet.py:stages", "a", "b", cwd=tmp_path)
    assert (done.returncode, outputs(tmp_path)) == (0, ["a", "b"]), done.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_run_and_leaves_what_is_done(small_disk, tmp_path):
    """Status 1, it says why and what to do; every output that is there is complete, and no temporary is left."""
    source = tmp_path / "source"
    source.mkdir()
    names = [f"f{number:02}" for number in range(60)]
    for name in names:
        (source / name).write_bytes(os.urandom(20_000))
    done = mpp("run", "zstd", "--output-dir", str(small_disk), *names, cwd=source)
    assert done.returncode == 1
    assert "No space left on device" in lines_of(done)[0]
    assert "stopped, for there is no space left" in lines_of(done)[-1]
    made = list(small_disk.iterdir())
    assert 5 <= len(made) < 60
    for path in made:
        assert unpacked(path.read_bytes()) == (source / path.stem).read_bytes()
