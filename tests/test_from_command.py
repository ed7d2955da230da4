"""``--from-command``: how the command ends decides whether anything is published, and it ends with the run."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import MPP, TIMEOUT_S, environment, lines_of, mpp, started, unpacked, wait_until
from exec_tools import is_running, parent_of, pids_in

ENDLESS = "echo $$ > pids.new; mv pids.new pids; exec cat /dev/zero"


def from_command(folder: Path, *command: str, options: tuple[str, ...] = ("-o", "out.zst"), **more):
    """Run a command as the source of zstd."""
    return mpp("run", "zstd", "--from-command", *options, "--", *command, cwd=folder, **more)


def test_what_a_command_writes_is_the_input(tmp_path, require_tool):
    """The command line of the documentation, and a name for it in the summary."""
    require_tool("tar")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_bytes(os.urandom(3 << 20))
    done = from_command(tmp_path, "tar", "c", "data")
    assert done.returncode == 0, done.stderr
    assert lines_of(done)[-1].startswith("mpp: command tar: ")
    tar = subprocess.run(["tar", "c", "data"], cwd=tmp_path, capture_output=True, check=True, timeout=TIMEOUT_S)
    assert unpacked((tmp_path / "out.zst").read_bytes()) == tar.stdout


def test_it_has_our_standard_input_and_no_descriptor_more(tmp_path):
    """As with ``time``: a filter of what comes to us."""
    done = from_command(tmp_path, "sh", "-c", "cat; ls /proc/self/fd", options=("-q",), data=b"from stdin\n")
    assert (done.returncode, done.stderr) == (0, b"")
    # The fourth descriptor is the one by which ls reads the folder.
    assert unpacked(done.stdout) == b"from stdin\n0\n1\n2\n3\n"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("seq 100000; echo why >&2; exit 3", "exited with status 3: why"),
        ("seq 100000; kill -KILL $$", "was killed by SIGKILL"),
        ("sleep 1000 & exit 4", "exited with status 4"),
    ],
)
@pytest.mark.parametrize("options", [("-o", "out.zst"), ()], ids=["file", "stdout"])
def test_a_command_that_fails_publishes_nothing(tmp_path, script, words, options):
    """Status 1, its last words, no file; on standard output nothing that a decoder takes for complete."""
    done = from_command(tmp_path, "sh", "-c", script, options=options)
    assert (done.returncode, os.listdir(tmp_path)) == (1, [])
    assert lines_of(done)[-1] == f"mpp: 'command sh' {words}"
    with pytest.raises(AssertionError, match="no end"):
        unpacked(done.stdout)


def test_a_command_that_cannot_start_publishes_nothing(tmp_path):
    """Status 1, and one line that says why."""
    done = from_command(tmp_path, "no-such-command")
    assert (done.returncode, os.listdir(tmp_path)) == (1, [])
    words = "could not be started: No such file or directory: 'no-such-command'"
    assert lines_of(done) == [f"mpp: 'command no-such-command' {words}"]


def test_statuses_that_count_as_success_can_be_given(tmp_path):
    """tar's 1: a file changed while it was read."""
    options = ("-q", "--ok-status", "0,1", "-o", "out.zst")
    done = from_command(tmp_path, "sh", "-c", "echo data; exit 1", options=options)
    assert (done.returncode, done.stderr) == (0, b"")
    assert unpacked((tmp_path / "out.zst").read_bytes()) == b"data\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--from-command",), "there is no command"),
        (("--from-command", "--ok-status", "x", "--", "true"), "--ok-status: 'x' is not a list of exit statuses"),
        (("--from-command", "--ok-status", "256", "--", "true"), "--ok-status: '256' is not a list"),
        (("--ok-status", "1"), "--ok-status is about the command of --from-command"),
        (("--from-command", "--files-from", "x", "--", "true"), "exclude each other"),
        (("--from-command", "--output-dir", "x", "--", "true"), "the output of 'command true' has no name to be kept"),
    ],
)
def test_a_wrong_command_line_is_status_2(args, words):
    """Nothing is started."""
    done = mpp("run", "zstd", *args)
    assert (done.returncode, done.stdout) == (2, b"")
    assert words in done.stderr.decode()


def test_a_dry_run_starts_no_command(tmp_path):
    """It says what would become of it."""
    done = from_command(tmp_path, "touch", "started", options=("--dry-run", "-o", "out.zst"))
    assert (done.returncode, os.listdir(tmp_path)) == (0, [])
    assert done.stdout == b"command touch -> out.zst\n"


def test_an_output_that_is_there_starts_no_command(tmp_path):
    """It is refused before the command has done anything."""
    (tmp_path / "out.zst").write_bytes(b"old")
    done = from_command(tmp_path, "touch", "started")
    assert (done.returncode, os.listdir(tmp_path)) == (1, ["out.zst"])
    assert b"--force replaces it" in done.stderr


def test_an_output_without_its_folder_starts_no_command(tmp_path):
    """The dump of a database is not begun for nothing."""
    done = from_command(tmp_path, "touch", "started", options=("-o", "nowhere/out.zst"))
    assert (done.returncode, (tmp_path / "started").exists()) == (1, False)
    assert lines_of(done) == ["mpp: command touch: 'nowhere/out.zst': No such file or directory"]


def test_a_pipeline_that_fails_ends_the_command(tmp_path):
    """With all that it has started."""
    (tmp_path / "fails.py").write_text(
        "from mpp_stages.byte_stage import ByteStage\n"
        "class Fails(ByteStage):\n"
        "    def run(self, reader, writer, item):\n"
        "        reader.read(100)\n"
        "        raise ValueError('no more of this')\n"
        "stages = [Fails()]\n"
    )
    script = "sleep 1000 & echo $$ $! > pids; cat /dev/zero; exit 0"
    done = mpp("run", "./fails.py:stages", "--from-command", "-o", "out", "--", "sh", "-c", script, cwd=tmp_path)
    assert done.returncode == 1
    assert b"no more of this" in done.stderr
    assert not any(map(is_running, pids_in(tmp_path / "pids", 2)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_ended_mpp_ends_the_command(tmp_path, signum):
    """Ctrl-C, a polite end, and kill -9."""
    args = ("run", "zstd", "--from-command", "-o", "out.zst", "--", "sh", "-c", ENDLESS)
    with started(*args, cwd=tmp_path, stdin=subprocess.DEVNULL) as process:
        (pid,) = pids_in(tmp_path / "pids", 1)
        process.send_signal(signum)
        assert process.wait(TIMEOUT_S) == -signum
        wait_until(lambda: not is_running(pid), "the command has ended")
    assert not (tmp_path / "out.zst").exists()


def test_a_lost_supervisor_is_no_end_of_the_data(tmp_path):
    """What it was to tell nobody knows: nothing is published, and the command ends."""
    args = ("run", "zstd", "--from-command", "-o", "out.zst", "--", "sh", "-c", ENDLESS)
    with started(*args, cwd=tmp_path, stdin=subprocess.DEVNULL) as process:
        (pid,) = pids_in(tmp_path / "pids", 1)
        os.kill(parent_of(pid), signal.SIGKILL)
        assert process.wait(TIMEOUT_S) == 1
        assert process.stderr is not None
        assert b"'command sh' was lost" in process.stderr.read()
        wait_until(lambda: not is_running(pid), "the command has ended")
    assert not (tmp_path / "out.zst").exists()


@contextlib.contextmanager
def on_a_terminal(folder: Path, *args: str):
    """mpp in the foreground of a terminal of its own: (its pid, the terminal's other side)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(sys.executable, [*MPP, *args], environment())
    try:
        yield pid, terminal
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        os.close(terminal)


def said_by(terminal: int, until: bytes) -> bytes:
    """What appears on the terminal, up to these words."""
    said = b""
    while until not in said:
        said += os.read(terminal, 1000)
    return said


def test_a_command_may_ask_for_a_password_on_the_terminal(tmp_path):
    """It stays in the foreground, as ssh, gpg and sudo need it."""
    script = "exec 3<>/dev/tty; printf 'password: ' >&3; read word <&3; echo got $word"
    with on_a_terminal(tmp_path, "run", "zstd", "--from-command", "-o", "out.zst", "--", "sh", "-c", script) as (
        pid,
        tt,
    ):
        said_by(tt, b"password: ")
        os.write(tt, b"secret\n")
        said_by(tt, b"mpp: command sh: ")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert unpacked((tmp_path / "out.zst").read_bytes()) == b"got secret\n"


def test_ctrl_c_on_the_terminal_leaves_nothing(tmp_path):
    """It reaches the command and its children too; one that ignores it is ended with the run."""
    script = "trap '' INT; sleep 1000 & echo $$ $! > pids.new; mv pids.new pids; cat /dev/zero"
    with on_a_terminal(tmp_path, "run", "zstd", "--from-command", "-o", "out.zst", "--", "sh", "-c", script) as (
        pid,
        tt,
    ):
        pids = pids_in(tmp_path / "pids", 2)
        os.write(tt, b"\x03")
        said_by(tt, b"unfinished output was discarded")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGINT
        wait_until(lambda: not any(map(is_running, pids)), "the command has ended")
    assert os.listdir(tmp_path) == ["pids"]


def test_a_program_of_exec_that_asks_the_terminal_fails(tmp_path):
    """It is in the background there: instead of waiting for ever it fails the item."""
    (tmp_path / "p.toml").write_text(
        '[[stage]]\nuse = "exec"\nargv = ["sh", "-c", "cat; read word < /dev/tty; echo $word"]\n'
    )
    (tmp_path / "in").write_bytes(b"data")
    with on_a_terminal(tmp_path, "run", "p.toml", "-o", "out", "in") as (pid, tt):
        said = said_by(tt, b"not in its foreground")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert b"sh was ended, for it wants to use the terminal" in said
    assert not (tmp_path / "out").exists()
