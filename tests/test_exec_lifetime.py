"""Programs of the exec stage end with what they belong to, however that ends, and stop and go on with it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from byte_chains import failure
from cli_tools import MPP, TIMEOUT_S, environment, wait_until
from exec_tools import is_running, parent_of, pids_in, shell, state_of, under_way
from mpp_stages.errors import ProgramFailed

from atbu.mp_pipeline.exception import PipelineWorkerDied

#: Says who it and its child are, waits for the end of its input, and would tell if it had seen that. It says so from a
#: subshell, when it only waits: a shell that starts a program by vfork() cannot stop (state D) while its child, stopped
#: before its exec(), cannot go on.
PROGRAM = """
cd "$1"
sleep 1000 &
echo $$ $! > pids.new
(mv pids.new pids; exec cat > /dev/null)
touch took-it-for-complete
"""
DEFINITION = f"""
[[stage]]
use = "exec"
argv = ["sh", "-c", '''{PROGRAM}''', "sh", "FOLDER"]
"""


@pytest.fixture
def endless(tmp_path: Path):
    """A FIFO that stays open for writing, as a source that has no end yet."""
    os.mkfifo(tmp_path / "in")
    writer = os.open(tmp_path / "in", os.O_RDWR)
    yield tmp_path / "in"
    os.close(writer)


def wait_until_gone(pids: list[int]) -> None:
    """Nothing tells of other people's children."""
    wait_until(lambda: not any(map(is_running, pids)), "the programs have ended")


@pytest.fixture
def program_in_mpp(tmp_path: Path, endless: Path):
    """A running mpp in a process group of its own, and the ids of its program and the program's child."""
    (tmp_path / "p.toml").write_text(DEFINITION.replace("FOLDER", str(tmp_path)))
    command = [*MPP, "run", "p.toml", "-o", "out", "in"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), process_group=0, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process, pids_in(tmp_path / "pids", 2)
    finally:
        process.kill()
        process.wait(TIMEOUT_S)


def test_a_killed_worker_takes_its_program_along(tmp_path, endless):
    """kill -9 of the worker: program and grandchild end, and neither takes it for the end of the input."""
    (tmp_path / "source").write_bytes(b"data")
    program = shell(PROGRAM.replace("$1", str(tmp_path)).replace("cat >", f"cat {endless} >"))
    with under_way([program], tmp_path / "source") as item:
        pids = pids_in(tmp_path / "pids", 2)
        supervisor = parent_of(pids[0])
        os.kill(parent_of(supervisor), signal.SIGKILL)
    item.discard()
    assert failure(item, PipelineWorkerDied)
    wait_until_gone([*pids, supervisor])
    assert sorted(os.listdir(tmp_path)) == ["in", "pids", "source"]


def test_a_killed_supervisor_takes_the_program_along(tmp_path, endless):
    """It fails the item by name, and what it minded is ended by the worker."""
    (tmp_path / "source").write_bytes(b"data")
    program = shell(PROGRAM.replace("$1", str(tmp_path)).replace("cat >", f"cat {endless} >"))
    with under_way([program], tmp_path / "source") as item:
        pids = pids_in(tmp_path / "pids", 2)
        os.kill(parent_of(pids[0]), signal.SIGKILL)
    item.discard()
    assert "was lost: its supervisor has ended" in str(failure(item, ProgramFailed))
    wait_until_gone(pids)
    assert not (tmp_path / "took-it-for-complete").exists()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_an_ended_mpp_takes_its_programs_along(tmp_path, program_in_mpp, signum):
    """Whether it is told to end or killed."""
    process, pids = program_in_mpp
    process.send_signal(signum)
    assert process.wait(TIMEOUT_S) == -signum
    wait_until_gone(pids)
    assert not (tmp_path / "took-it-for-complete").exists()
    assert not (tmp_path / "out").exists()


def test_ctrl_z_stops_the_programs_and_fg_continues_them(program_in_mpp):
    """SIGTSTP and SIGCONT come to mpp's group; the program's own group gets them too. Killed while stopped, all end."""
    process, pids = program_in_mpp
    os.killpg(process.pid, signal.SIGTSTP)
    wait_until(lambda: all(state_of(pid) == "T" for pid in [process.pid, *pids]), "all are stopped")
    os.killpg(process.pid, signal.SIGCONT)
    wait_until(lambda: all(state_of(pid) == "S" for pid in [process.pid, *pids]), "all go on")
    os.killpg(process.pid, signal.SIGTSTP)
    wait_until(lambda: all(state_of(pid) == "T" for pid in [process.pid, *pids]), "all are stopped again")
    process.kill()
    wait_until_gone(pids)


@pytest.mark.parametrize("pause_s", [0.0, 0.001])
def test_a_stop_that_is_taken_back_at_once_stops_nobody(program_in_mpp, pause_s):
    """However fast SIGCONT comes after SIGTSTP: a supervisor that stopped itself after it would never go on."""
    process, pids = program_in_mpp
    for _ in range(100):
        os.killpg(process.pid, signal.SIGTSTP)
        time.sleep(pause_s)  # any moment of the supervisor's way to its own stop
        os.killpg(process.pid, signal.SIGCONT)
    wait_until(lambda: all(state_of(pid) == "S" for pid in [process.pid, *pids]), "all go on")


def test_a_program_that_ignores_sigterm_is_killed(tmp_path):
    """It gets two seconds to remove its temporary files, and no more."""
    (tmp_path / "source").write_bytes(b"data")
    script = f"trap '' TERM; sleep 1000 & echo $$ $! > {tmp_path}/pids; kill -STOP $$"
    with under_way([shell(script)], tmp_path / "source") as item:
        pids = pids_in(tmp_path / "pids", 2)
        os.kill(parent_of(parent_of(pids[0])), signal.SIGKILL)
    item.discard()
    wait_until_gone(pids)
