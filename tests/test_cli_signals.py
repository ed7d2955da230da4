"""Stop signals, vanished readers and killed workers: how a run ends, and that nothing is left of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
from pathlib import Path

import pytest
from cli_tools import (
    MPP,
    TIMEOUT_S,
    descendants,
    environment,
    feed,
    group_of,
    holders_of,
    mpp,
    started,
    unpacked,
    wait_until,
)

STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
CHUNK = os.urandom(1 << 20)
#: More than all pipes and buffers between the test and the output hold: when it is taken, work is under way.
CHUNKS_TO_BE_UNDER_WAY = 8

SLOW = """
import os
from mpp_stages.byte_stage import ByteStage

class Slow(ByteStage):
    adds_suffix = ".out"

    def run(self, reader, writer, item):
        data = reader.read()
        with open("started", "wb", buffering=0) as started:
            started.write(b"x")
        with open("go", "rb") as go:
            go.read()
        writer.write(data)

stages = [Slow()]
"""


def the_rest_of(folder: Path) -> list[str]:
    """What stands in a folder, hidden temporaries too."""
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("signum", STOP_SIGNALS)
def test_ctrl_c_for_the_whole_group_leaves_no_file(tmp_path, signum):
    """``tar c d | mpp run zstd -o x.zst``: tar dies too, and the end of its data is no end."""
    (tmp_path / "d").mkdir()
    with open(tmp_path / "d/large", "wb") as large:
        large.truncate(1 << 40)  # a hole: tar writes zeros for hours
    script = 'tar c d | "$@" run zstd -o x.zst'
    with group_of(["bash", "-c", script, "bash", *MPP], cwd=tmp_path) as shell:
        wait_until(lambda: list(tmp_path.glob(".mpp-*")), "output is being written")
        os.killpg(shell.pid, signum)
        assert shell.stderr is not None
        words = shell.stderr.read().decode()
        shell.wait(TIMEOUT_S)
    assert the_rest_of(tmp_path) == ["d"]
    assert f"mpp: {signum.name}: stopping" in words
    assert "Traceback" not in words


@pytest.mark.parametrize("signum", STOP_SIGNALS)
def test_a_stop_signal_is_what_the_process_ends_by(tmp_path, signum):
    """A shell must see that it was the signal (130, 143, 129), not an exit status."""
    with started("run", "zstd", "-o", "out", cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        feed(process.stdin, CHUNKS_TO_BE_UNDER_WAY, CHUNK)
        process.send_signal(signum)
        assert process.wait(TIMEOUT_S) == -signum
        process.stdin.close()
    assert the_rest_of(tmp_path) == []


@pytest.mark.parametrize(
    "args", [("-o", "out", "fifo"), ("-o", "fifo", "file"), ("--files-from", "fifo")], ids=["input", "output", "list"]
)
def test_a_fifo_without_another_end_does_not_hold_a_signal_up(tmp_path, args):
    """To open one may take for ever, and nobody else would end it."""
    (tmp_path / "file").write_bytes(b"data")
    os.mkfifo(tmp_path / "fifo")
    with started("run", "--json=events", "zstd", *args, cwd=tmp_path) as process:
        wait_until(lambda: (tmp_path / "events").exists() and (tmp_path / "events").stat().st_size, "it has begun")
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == -signal.SIGTERM
    assert the_rest_of(tmp_path) == ["events", "fifo", "file"]


def test_words_that_nobody_reads_do_not_hold_a_signal_up(tmp_path):
    """A pager that waits at its first page has the run wait with it, but not for ever."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    missing = [f"{'x' * 100}{number}" for number in range(100)]  # a line each, of which the pipe takes a part
    with started("run", "zstd", *missing, cwd=tmp_path, stderr=writer) as process, open(reader, "rb") as words:
        os.close(writer)
        wait_until(lambda: select.select([words], [], [], 0)[0], "a line was written")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) in (-signal.SIGTERM, -signal.SIGINT)
    assert the_rest_of(tmp_path) == []


def test_an_end_of_data_after_the_signal_is_no_end(tmp_path):
    """The flag is looked at before the commit: data that ends because its writer was stopped is not published."""
    with started("run", "zstd", "-o", "out", cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        feed(process.stdin, CHUNKS_TO_BE_UNDER_WAY, CHUNK)
        # Stopped, it finds both when it goes on: the signal, and an item that has ended well.
        process.send_signal(signal.SIGSTOP)
        process.stdin.close()
        process.send_signal(signal.SIGINT)
        wait_until(lambda: [f for f in tmp_path.glob(".mpp-*") if f.stat().st_mode & 0o777 != 0o600], "it is written")
        process.send_signal(signal.SIGCONT)
        assert process.wait(TIMEOUT_S) == -signal.SIGINT
    assert the_rest_of(tmp_path) == []


def test_named_files_under_way_are_finished_and_no_new_ones_begun(tmp_path):
    """The first signal is polite: what is under way may end, then the process ends by the signal."""
    (tmp_path / "slow.py").write_text(SLOW)
    for name in ("a", "b", "c", "d", "e", "f"):
        (tmp_path / name).write_bytes(b"data")
    os.mkfifo(tmp_path / "started")
    os.mkfifo(tmp_path / "go")
    with started("run", "--jobs", "1", "./slow.py:stages", "gone", *"abcdef", cwd=tmp_path) as process:
        with open(tmp_path / "started", "rb", buffering=0) as marker:
            marker.read(1)
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert b"gone" in process.stderr.readline()
            assert b"SIGINT: stopping; again to stop at once" in process.stderr.readline()
        with open(tmp_path / "go", "wb"):
            pass
        assert process.wait(TIMEOUT_S) == -signal.SIGINT
        words = process.stderr.read()
    assert (tmp_path / "a.out").exists(), words
    assert (tmp_path / "a.out").read_bytes() == b"data"
    assert b"--fail-fast" not in words  # nobody has asked for that
    assert not [name for name in the_rest_of(tmp_path) if name.endswith(".out") and name != "a.out"]
    assert not list(tmp_path.glob(".mpp-*"))


def test_after_a_failure_and_a_stop_signal_only_the_signal_is_told(tmp_path):
    """What was left is left because of the signal; nobody has asked for --fail-fast."""
    (tmp_path / "slow.py").write_text(SLOW)
    for name in "abcdef":
        (tmp_path / name).write_bytes(b"data")
    os.mkfifo(tmp_path / "started")
    os.mkfifo(tmp_path / "go")
    with started("run", "--jobs", "1", "./slow.py:stages", "missing", *"abcdef", cwd=tmp_path) as process:
        assert process.stderr is not None
        assert b"'missing': No such file" in process.stderr.readline()
        with open(tmp_path / "started", "rb", buffering=0) as marker:
            marker.read(1)
            process.send_signal(signal.SIGINT)
            assert b"again to stop at once" in process.stderr.readline()
        with open(tmp_path / "go", "wb"):
            pass
        words = process.stderr.read()
        assert process.wait(TIMEOUT_S) == -signal.SIGINT
    assert b"stopped by SIGINT" in words
    assert b"--fail-fast" not in words


def test_the_second_signal_stops_at_once(tmp_path):
    """A stage that would go on for hours does not."""
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "a").write_bytes(b"data")
    os.mkfifo(tmp_path / "started")
    os.mkfifo(tmp_path / "go")
    with (
        started("run", "./slow.py:stages", "a", cwd=tmp_path) as process,
        open(tmp_path / "started", "rb", buffering=0) as marker,
    ):
        marker.read(1)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == -signal.SIGINT
    assert not (tmp_path / "a.out").exists()
    assert not list(tmp_path.glob(".mpp-*"))


def test_a_stage_in_a_thread_cannot_hold_up_a_stop(tmp_path):
    """It cannot be ended, so the process ends around it, and takes its temporary along."""
    (tmp_path / "thread.py").write_text(
        "from mpp_stages.byte_stage import ByteStage\n"
        "class Endless(ByteStage):\n"
        "    run_in = 'thread'\n"
        "    def run(self, reader, writer, item):\n"
        "        while True:\n"
        "            writer.write(reader.read1(100))\n"
        "stages = [Endless()]\n"
    )
    with started("run", "./thread.py:stages", "-o", "out", cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        feed(process.stdin, CHUNKS_TO_BE_UNDER_WAY, CHUNK)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == -signal.SIGTERM
        process.stdin.close()
    assert [name for name in the_rest_of(tmp_path) if not name.startswith("__")] == ["thread.py"]


def test_a_signal_that_was_ignored_stays_ignored(tmp_path):
    """nohup: the terminal goes away, the run does not."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with started("run", "-q", "zstd", "-o", "out", cwd=tmp_path, stdin=subprocess.PIPE, preexec_fn=ignore) as process:
        assert process.stdin is not None
        feed(process.stdin, CHUNKS_TO_BE_UNDER_WAY, CHUNK)
        os.killpg(process.pid, signal.SIGHUP)
        process.stdin.close()
        assert process.wait(TIMEOUT_S) == 0
    assert unpacked((tmp_path / "out").read_bytes()) == CHUNK * CHUNKS_TO_BE_UNDER_WAY


def test_a_reader_that_has_gone_ends_the_run_by_sigpipe():
    """As ``zstd | head -c1`` ends: quietly, by the signal."""
    with started("run", "unzstd", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        packed = mpp("run", "-q", "zstd", data=CHUNK).stdout
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            feed(process.stdin, 1000, packed)
        assert process.wait(TIMEOUT_S) == -signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == b""
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def test_in_a_shell_the_statuses_are_130_143_and_141(tmp_path):
    """What a script sees in $? and PIPESTATUS."""
    script = """
        "$@" run -q zstd < /dev/urandom | head -c 1 > /dev/null; echo ${PIPESTATUS[0]}
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", *MPP], cwd=tmp_path, env=environment(), capture_output=True, timeout=TIMEOUT_S,
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == [b"141"]
    assert done.stderr == b""


@pytest.mark.parametrize("victim", ["producer", "consumer"])
def test_a_killed_worker_fails_the_run_by_name(tmp_path, victim):
    """kill -9 in the middle: status 1, a line with stage, pid and signal; no target, no temporary, no process."""
    reader, writer = os.pipe()
    with (
        started("run", "zstd", "-o", "out.zst", cwd=tmp_path, stdin=reader) as process,
        os.fdopen(writer, "wb") as pipe,
    ):
        feed(pipe, CHUNKS_TO_BE_UNDER_WAY, CHUNK)
        workers = descendants(process.pid)
        (temporary,) = tmp_path.glob(".mpp-*")
        with open(temporary, "rb") as file:
            (consumer,) = holders_of(file.fileno(), workers)
        (producer,) = set(holders_of(reader, workers)) - {consumer}
        pid = producer if victim == "producer" else consumer
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        assert process.wait(TIMEOUT_S) == 1
        assert process.stderr is not None
        (line,) = process.stderr.read().decode().splitlines()
    stage = "zstd" if victim == "producer" else "write"
    assert line.startswith(f"mpp: stage '{stage}': worker {pid} was killed by SIGKILL while it held 'stdin'"), line
    assert the_rest_of(tmp_path) == []


def test_a_killed_mpp_takes_its_workers_along(tmp_path):
    """kill -9 of mpp itself: the workers end, no target appears; a second run finishes the job."""
    (tmp_path / "in").write_bytes(CHUNK * 3)
    with started("run", "zstd", "-o", "out", cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        feed(process.stdin, CHUNKS_TO_BE_UNDER_WAY, CHUNK)
        workers = descendants(process.pid)
        process.kill()
        process.wait(TIMEOUT_S)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "no worker is left")
    assert not (tmp_path / "out").exists()
    assert mpp("run", "zstd", "-o", "out", "in", cwd=tmp_path).returncode == 0
    assert unpacked((tmp_path / "out").read_bytes()) == CHUNK * 3
