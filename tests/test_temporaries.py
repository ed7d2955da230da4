"""Temporaries: those of dead runs are swept, those of live ones never are, wherever they may live."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import TIMEOUT_S, mpp, started, wait_until
from hypothesis import given
from hypothesis import strategies as st
from mpp_stages.temporaries import (
    FOREIGN_MAX_AGE_S,
    is_stale,
    is_temporary_name,
    sweep,
    sweep_and_look,
    temporary_beside,
)

from mpp_cli import sweeping

NAME_IT = "import sys; from mpp_stages.temporaries import temporary_beside; print(temporary_beside(sys.argv[1]))"


def made_by_a_dead_run(folder: Path) -> Path:
    """A temporary of a process that has ended."""
    done = subprocess.run(
        [sys.executable, "-c", NAME_IT, f"{folder}/x"], capture_output=True, timeout=TIMEOUT_S, check=True, text=True
    )
    temporary = Path(done.stdout.strip())
    temporary.write_bytes(b"half")
    return temporary


def a_status(path: Path) -> os.stat_result:
    path.write_bytes(b"half")
    return path.lstat()


def test_a_dead_run_s_temporary_is_swept(tmp_path):
    """And nothing else."""
    dead = made_by_a_dead_run(tmp_path)
    others = [tmp_path / name for name in ("x", ".mpp-", ".mpp-x.tmp", ".mpp-notes.tmp", f"{dead.name}.zst")]
    for other in others:
        other.write_bytes(b"kept")
    assert sweep(str(tmp_path)) == 1
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_a_live_run_s_temporary_is_left_alone(tmp_path):
    """This process lives."""
    temporary = Path(temporary_beside(f"{tmp_path}/x"))
    temporary.write_bytes(b"half")
    assert sweep(str(tmp_path)) == 0
    assert temporary.exists()


def test_a_process_that_got_a_dead_run_s_pid_does_not_protect_its_temporaries(tmp_path):
    """Pids are used again; the time when a process began tells them apart."""
    own = os.path.basename(temporary_beside("x"))
    _, place, pid, start, rest = own.split("-")
    reused = tmp_path / f".mpp-{place}-{pid}-{int(start) - 1}-{rest}"
    assert is_stale(reused.name, a_status(reused), 0.0)
    assert not is_stale(own, reused.lstat(), 0.0)


@pytest.mark.parametrize("form", [".mpp-0123abcd-{pid}-1-00.tmp", ".mpp-00000000-{pid}-0-00.tmp", ".mpp-{pid}-00.tmp"])
def test_where_a_run_cannot_be_asked_its_temporaries_are_left_for_a_day(tmp_path, form):
    """Another machine's, container's or boot's: only that nobody has touched it for long says that it is dead."""
    path = tmp_path / form.format(pid=made_by_a_dead_run(tmp_path).name.split("-")[2])
    status = a_status(path)
    os.utime(path, (0, 0))  # a finished one has its source's time
    assert is_temporary_name(path.name)
    assert not is_stale(path.name, path.lstat(), status.st_ctime + FOREIGN_MAX_AGE_S - 60)
    assert is_stale(path.name, path.lstat(), status.st_ctime + FOREIGN_MAX_AGE_S + 60)


def test_only_own_regular_files_are_swept(tmp_path):
    """A link or folder of such a name was made by somebody else."""
    dead = made_by_a_dead_run(tmp_path)
    status = list(dead.lstat())
    dead.unlink()
    dead.symlink_to("elsewhere")
    assert sweep(str(tmp_path)) == 0
    dead.unlink()
    dead.mkdir()
    assert sweep(str(tmp_path)) == 0
    status[stat.ST_UID] = os.geteuid() + 1
    assert not is_stale(dead.name, os.stat_result(status), 1e12)


def test_a_sweep_looks_at_no_more_names_than_it_may(tmp_path):
    """A folder of a million costs a run of one file nothing to speak of."""
    made_by_a_dead_run(tmp_path)
    assert sweep(str(tmp_path), max_entries=0) == 0
    assert sweep(str(tmp_path), max_entries=1) == 1


@pytest.mark.parametrize("is_thorough", [False, True])
def test_a_run_sweeps_the_rest_of_a_large_folder_at_its_end(tmp_path, monkeypatch, is_thorough):
    """Its first output does not wait for that; a run that need not be thorough leaves the rest."""
    monkeypatch.setattr(sweeping, "_A_LOOK", 0)
    monkeypatch.setattr(sweeping, "_A_LONG_LOOK", 0)
    dead = made_by_a_dead_run(tmp_path)
    sweeper = sweeping.Sweeper(is_thorough=is_thorough)
    assert not sweeper.enter(str(tmp_path), ".zst")
    assert dead.exists()
    sweeper.finish()
    assert dead.exists() != is_thorough


def test_a_sweep_tells_whether_no_name_ends_so(tmp_path):
    """Only if it has seen them all; temporaries count nothing, whosever they are."""
    made_by_a_dead_run(tmp_path)
    Path(temporary_beside(f"{tmp_path}/x.zst")).touch()
    (tmp_path / "x").touch()
    assert sweep_and_look(str(tmp_path), None, ".zst") == (1, True, True)
    assert sweep_and_look(str(tmp_path), 2, ".zst") == (0, True, True)
    assert sweep_and_look(str(tmp_path), 1, ".zst") == (0, False, False)
    assert sweep_and_look(str(tmp_path), None, "") == (0, True, False)
    (tmp_path / "y.zst").symlink_to("nowhere")
    assert sweep_and_look(str(tmp_path), None, ".zst") == (0, True, False)
    assert sweep_and_look(str(tmp_path / "missing"), None, ".zst") == (0, True, False)


@pytest.mark.parametrize("place", ["missing", "file"])
def test_a_folder_that_cannot_be_read_is_no_error(tmp_path, place):
    """The outputs will tell."""
    (tmp_path / "file").touch()
    assert sweep(str(tmp_path / place)) == 0


@given(st.text(max_size=40))
def test_names_of_other_files_are_never_stale(text):
    """Only the very form of ours."""
    status = os.lstat("/proc/self/status")
    assert not is_stale(f".mpp-{text}", status, 1e12)


def test_a_run_sweeps_what_a_killed_one_has_left_and_spares_a_live_one_s(tmp_path):
    """Two runs write in one folder: one is killed, one goes on, and a third comes by."""

    def writing(name):
        return started("run", "zstd", "-o", name, cwd=tmp_path, stdin=subprocess.PIPE)

    def temporaries():
        return {path.name for path in tmp_path.glob(".mpp-*")}

    with writing("live.zst") as live:
        (of_live,) = wait_until(temporaries, "the first writes")
        with writing("dead.zst") as dead:
            wait_until(lambda: len(temporaries()) == 2, "the second writes")
            dead.send_signal(signal.SIGKILL)
            dead.wait(TIMEOUT_S)
        assert len(temporaries()) == 2
        (tmp_path / "third").write_bytes(b"data")
        assert mpp("run", "zstd", "third", cwd=tmp_path).returncode == 0
        assert temporaries() == {of_live}
        assert live.communicate(b"data", TIMEOUT_S) is not None
        assert live.returncode == 0
    assert temporaries() == set()
