"""``--journal``, ``--resume`` and ``--report``: what a run leaves for the next one, and for people."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
from pathlib import Path

import pytest
from cli_tools import TIMEOUT_S, lines_of, mpp, started, unpacked, wait_until

RESUMED = ("--journal", "../journal", "--resume")


@pytest.fixture
def folder(tmp_path):
    """A folder for the data; journals and reports stand beside it."""
    made = tmp_path / "data"
    made.mkdir()
    return made


def fill(folder: Path, count: int) -> dict[str, bytes]:
    contents = {f"{number:04}": b"%d" % number * (number % 50 + 1) for number in range(count)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return contents


def statuses(done: subprocess.CompletedProcess[bytes]) -> dict[str, str]:
    events = map(json.loads, done.stdout.splitlines())
    return {event["path"]: event["status"] for event in events if event["event"] == "item"}


def test_resume_skips_what_is_done_and_does_the_rest(folder):
    """Outputs that are gone or of another size, and inputs that have changed or are new, are done again."""
    contents = fill(folder, 6)
    first = mpp("run", "zstd", *contents, *RESUMED, cwd=folder)
    assert first.returncode == 0
    (folder / "0001.zst").unlink()
    (folder / "0002.zst").write_bytes(b"short")
    (folder / "0003").write_bytes(b"changed")
    (folder / "new").write_bytes(b"new")
    again = mpp("run", "zstd", "--json", "-f", *contents, "new", *RESUMED, cwd=folder)
    assert again.returncode == 0
    redone = ["0001", "0002", "0003", "new"]
    assert statuses(again) == dict.fromkeys(contents, "skipped") | dict.fromkeys(redone, "done")
    contents |= {"0003": b"changed", "new": b"new"}
    assert {name: unpacked((folder / f"{name}.zst").read_bytes()) for name in contents} == contents
    assert "done by an earlier run" in lines_of(again)[-1]
    third = mpp("run", "zstd", "--json", "-r", ".", "--output-dir", ".", *RESUMED, cwd=folder)
    assert third.returncode == 0, third.stderr
    assert set(statuses(third).values()) == {"skipped"}


def test_another_pipeline_s_journal_is_refused(folder):
    """With the difference, and before anything is done."""
    fill(folder, 1)
    (folder / "p.toml").write_text('name = "p"\n[[stage]]\nuse = "zstd"\nlevel = 9\n')
    assert mpp("run", "zstd", "0000", *RESUMED, cwd=folder).returncode == 0
    refused = mpp("run", "p.toml", "0000", *RESUMED, cwd=folder)
    assert refused.returncode == 2
    assert "stage 1 'zstd': level was 3, is 9" in lines_of(refused)[0]
    assert mpp("run", "zstd", "0000", "--journal", "../journal", cwd=folder).returncode == 2


def test_a_run_killed_at_any_moment_is_finished_by_the_next(folder):
    """However often: each output is whole, none is refused, and no temporary is left."""
    contents = fill(folder, 400)
    command = ("run", "zstd", "-r", ".", "--exclude", "*.zst", *RESUMED)
    chance = random.Random()
    outputs_left = [0]
    for _ in range(4):
        with started(*command, cwd=folder) as process:
            target = outputs_left[-1] + chance.randrange(1, 90)
            wait_until(
                lambda target=target: len(list(folder.glob("*.zst"))) >= target or process.poll() is not None, ""
            )
            process.send_signal(signal.SIGKILL)
            process.wait(TIMEOUT_S)
        outputs_left.append(len(list(folder.glob("*.zst"))))
    done = mpp(*command, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert {name: unpacked((folder / f"{name}.zst").read_bytes()) for name in contents} == contents
    assert not list(folder.glob(".mpp-*"))
    again = mpp(*command, "--json", cwd=folder)
    assert json.loads(again.stdout.splitlines()[-1])["skipped"] == len(contents)


def test_two_runs_on_one_journal_are_refused(folder):
    """The second is told to wait."""
    fill(folder, 1)
    os.mkfifo(folder / "fifo")
    with started("run", "zstd", "fifo", "-o", "out", *RESUMED, cwd=folder) as first:
        wait_until(lambda: (folder.parent / "journal").exists(), "the journal is there")
        wait_until(lambda: (folder.parent / "journal").stat().st_size, "the journal is begun")
        second = mpp("run", "zstd", "0000", *RESUMED, cwd=folder)
        assert second.returncode == 2
        assert "in use by another run" in lines_of(second)[0]
        (folder / "fifo").write_bytes(b"data")
        assert first.wait(TIMEOUT_S) == 0
    assert mpp("run", "zstd", "0000", *RESUMED, cwd=folder).returncode == 0


@pytest.mark.parametrize(("limit_bytes", "status"), [(0, 1), (None, 2)])
def test_a_full_disk_is_no_wrong_command_line(folder, limit_bytes, status):
    """A journal that cannot be begun fails the run; one in a folder that is not there is a wrong name."""
    fill(folder, 1)
    name = "j" if limit_bytes is not None else "nowhere/j"

    def limit() -> None:
        if limit_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    done = mpp("run", "zstd", "0000", "--journal", name, cwd=folder, preexec_fn=limit)
    assert (done.returncode, len(lines_of(done))) == (status, 1), done.stderr
    assert lines_of(done)[0].startswith(f"mpp: --journal: '{name}': ")
    assert not (folder / "0000.zst").exists()


def test_a_log_on_a_full_disk_is_told_once(folder):
    """The run is as good as without it."""
    fill(folder, 1)
    done = mpp("run", "zstd", "0000", "-v", "--log-file", "/dev/full", cwd=folder)
    assert done.returncode == 0
    assert sum(b"--log-file: No space left on device" in line for line in done.stderr.splitlines()) == 1


def test_what_a_run_writes_for_itself_is_no_input(folder):
    """Journal, events, report and log in the very folder."""
    fill(folder, 3)
    own = ("--journal", "j", "--json=e", "--log-file", "l")
    done = mpp("run", "zstd", "-r", ".", *own, "--report", "r.html", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.glob("*.zst")) == ["0000.zst", "0001.zst", "0002.zst"]


def test_a_stopped_run_has_its_report_and_its_last_event(folder):
    """Ctrl-C: what was done so far, and that it was stopped."""
    contents = fill(folder, 3)
    os.mkfifo(folder / "fifo")
    with started(
        "run", "zstd", *contents, "--json", "--report", "../r.html", "--files-from", "fifo",
        cwd=folder, stdout=subprocess.PIPE,
    ) as process, open(folder / "fifo", "wb"):  # fmt: skip
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(4)]
        process.send_signal(signal.SIGINT)
        lines += map(json.loads, process.stdout)
        assert process.wait(TIMEOUT_S) == -signal.SIGINT
    summary = lines[-1]
    assert (summary["event"], summary["signal"], summary["exit_status"], summary["done"]) == (
        "summary",
        "SIGINT",
        130,
        3,
    )
    page = (folder.parent / "r.html").read_text()
    assert "Stopped by SIGINT" in page
    assert "0002" in page
