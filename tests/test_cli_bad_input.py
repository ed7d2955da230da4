"""What goes wrong is said in one line that names it, with the exit status that fits."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import MPP, environment, lines_of, mpp, unpacked, without_power_over_files


@pytest.fixture
def terminal():
    """The two ends of a pseudo-terminal: (the user's, the program's)."""
    user, program = pty.openpty()
    yield user, program
    os.close(user)
    os.close(program)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["zst"], "there is no pipeline 'zst' (did you mean 'zstd'?)"),
        (["sha265"], "there is no pipeline 'sha265' (did you mean 'sha256'?)"),
        (["qqqq"], "there is no pipeline 'qqqq'; there are"),
        (["nowhere.toml"], "nowhere.toml: No such file or directory"),
        (["pipline.toml"], "(did you mean 'pipeline.toml'?)"),
        (["./nowhere.py:stages"], "there is no file './nowhere.py'"),
        (["./stage.py:stages"], "(did you mean 'stages.py'?)"),
        (["./stages.py:stagse"], "'./stages.py' has no 'stagse' (did you mean 'stages'?)"),
        (["stages:stages"], "there is no module 'stages' on the module path (--app-dir . looks in this folder too)"),
        (["--app-dir", ".", "stages:stagse"], "'stages' has no 'stagse' (did you mean 'stages'?)"),
        (["--app-dir", ".", "stage:stages"], "there is no module 'stage' (did you mean 'stages'?)"),
        (["--app-dir", "nowhere", "zstd"], "--app-dir: there is no folder 'nowhere'"),
        (["./stages.py:number"], "number 1 is a int, not a stage"),
        (["./stages.py:nothing"], "has no stages"),
        (["./stages.py:mixed"], "number 2 is a str"),
        (["./stages.py:function"], "number 1 is a function, not a stage; decorate it with @chunk_filter"),
        (["./stages.py:raising"], "raised KeyError"),
        (["./broken.py:stages"], "'./broken.py' failed to load: NameError: name 'zstdd' is not defined (broken.py:2)"),
        (["./syntax.py:stages"], "'./syntax.py' failed to load: SyntaxError"),
        (["./needs.py:stages"], "No module named 'not_installed'"),
        (["./leaves.py:stages"], "'./leaves.py' failed to load: SystemExit"),
        (["."], "'.' is no pipeline"),
        (["zstd", "--jobs", "0"], "--jobs: '0' is not a whole number"),
        (["zstd", "--jobs", "many"], "--jobs: 'many' is not a whole number"),
        (["zstd", "--progress", "bra"], "(did you mean 'bar'?)"),
        (["zstd", "--size-hint", "big"], "--size-hint: 'big' is not a size such as 40G"),
        (["zstd", "--levle", "3"], "No such option: --levle"),
        (["zstd", "--level", "3"], "a stage's option is set by --set KEY=VALUE"),
        (["zstd", "--recursve"], "(did you mean '--recursive'?)"),
        (["zstd", "-o", "x", "pipeline.toml", "stages.py"], "2 inputs cannot go to one file 'x'"),
        (["zstd", "-", "pipeline.toml"], "give -o -"),
        ([], "Missing argument 'PIPELINE'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_one_line_and_status_2(tmp_path, args, words):
    """Nothing is started, nothing is written, and the nearest valid name is shown."""
    (tmp_path / "pipeline.toml").write_text('[[stage]]\nuse = "zstd"\n')
    (tmp_path / "stages.py").write_text(
        "stages = ['zstd']\nnumber = 3\nnothing = []\nmixed = ['zstd', 'zst']\n"
        "def raising(): {}['x']\ndef function(): return [lambda chunks: chunks]\n"
    )
    (tmp_path / "broken.py").write_text("import os\nstages = [zstdd]\n")
    (tmp_path / "syntax.py").write_text("stages = [\n")
    (tmp_path / "needs.py").write_text("import not_installed\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)\n")
    before = sorted(os.listdir(tmp_path))
    done = mpp("run", *args, cwd=tmp_path, env=environment(PYTHONDONTWRITEBYTECODE="1"))
    assert (done.returncode, done.stdout) == (2, b""), done.stderr
    assert len(lines_of(done)) == 1, done.stderr
    assert lines_of(done)[0].startswith(("mpp: ", "nowhere.toml: ", "pipline.toml: "))
    assert words.replace("number 2 is a str", "there is no stage 'zst'") in lines_of(done)[0]
    assert sorted(os.listdir(tmp_path)) == before


def test_a_traceback_is_shown_with_v_only(tmp_path):
    """-v adds it to the same line."""
    (tmp_path / "broken.py").write_text("import os\nstages = [zstdd]\n")
    assert b"Traceback" not in mpp("run", "./broken.py:stages", cwd=tmp_path).stderr
    loud = mpp("run", "-v", "./broken.py:stages", cwd=tmp_path)
    assert b"Traceback" in loud.stderr
    assert b"NameError: name 'zstdd'" in loud.stderr


@pytest.mark.parametrize("pipeline", ["p.toml", "torn.toml", "zstd levle=3", "zst", "./p.py:pipeline"])
def test_no_fault_of_a_definition_has_a_traceback(tmp_path, pipeline):
    """Not with -v either, for what has been read is to blame, and no code."""
    (tmp_path / "p.toml").write_text('[[stage]]\nuse = "zstd"\nlevle = 9\n')
    (tmp_path / "torn.toml").write_text("[[x")
    (tmp_path / "p.py").write_text("def pipeline():\n    return [{'use': 'zstd', 'levle': 9}]\n")
    done = mpp("run", "-v", pipeline, cwd=tmp_path)
    assert (done.returncode, len(lines_of(done))) == (2, 1)


@pytest.mark.parametrize("command", [["rnu"], ["stages", "zst"], ["check", "zst"]])
def test_the_other_commands_complain_alike(command):
    """One line with the nearest name, status 2."""
    done = mpp(*command)
    assert (done.returncode, len(lines_of(done))) == (2, 1)
    assert "did you mean" in lines_of(done)[0].lower()


def make_bad(folder: Path, kind: str) -> str:
    """An input that cannot be read; returns its name."""
    if kind == "unreadable":
        (folder / kind).write_bytes(b"x")
        os.chmod(folder / kind, 0)
    elif kind == "folder":
        (folder / kind).mkdir()
    elif kind == "loop":
        (folder / kind).symlink_to(kind)
    return kind


BAD_INPUTS = [
    ("missing", "No such file or directory"),
    ("unreadable", "Permission denied"),
    ("folder", "Is a directory (--recursive takes the files in it)"),
    ("loop", "Too many levels of symbolic links"),
]


@pytest.mark.parametrize(("kind", "words"), BAD_INPUTS)
def test_an_input_that_cannot_be_read_is_named_status_1(tmp_path, kind, words):
    """Alone it is the run that failed."""
    done = mpp("run", "zstd", make_bad(tmp_path, kind), cwd=tmp_path, preexec_fn=without_power_over_files)
    assert (done.returncode, done.stdout) == (1, b"")
    assert lines_of(done) == [f"mpp: '{kind}': {words}"]
    assert not (tmp_path / f"{kind}.zst").exists()


def test_bad_inputs_among_several_cost_only_themselves_status_3(tmp_path):
    """Each is named; all others are done."""
    good = [f"good{number}" for number in range(8)]
    for name in good:
        (tmp_path / name).write_bytes(name.encode())
    bad = [make_bad(tmp_path, kind) for kind, _ in BAD_INPUTS]
    mixed = [name for pair in zip(good, [*bad, *good], strict=False) for name in pair][: 2 * len(bad)]
    done = mpp("run", "zstd", *mixed, *good[len(bad) :], cwd=tmp_path, preexec_fn=without_power_over_files)
    assert done.returncode == 3, done.stderr
    assert {f"mpp: '{kind}': {words}" for kind, words in BAD_INPUTS} <= set(lines_of(done))
    assert f"{len(good)} of {len(good) + len(bad)} files done, {len(bad)} failed" in lines_of(done)[-1]
    for name in good:
        assert unpacked((tmp_path / f"{name}.zst").read_bytes()) == name.encode()
    assert not list(tmp_path.glob(".mpp-*"))


def test_an_existing_target_is_refused_before_any_work(tmp_path):
    """It stays as it is; the input is not even read."""
    (tmp_path / "out").write_bytes(b"old")
    done = mpp("run", "zstd", "-o", "out", data=b"new", cwd=tmp_path)
    assert done.returncode == 1
    assert lines_of(done) == ["mpp: 'out': File exists (--force replaces it)"]
    assert (tmp_path / "out").read_bytes() == b"old"
    (tmp_path / "in").write_bytes(b"new")
    (tmp_path / "in.zst").write_bytes(b"old")
    done = mpp("run", "zstd", "in", cwd=tmp_path)
    assert done.returncode == 1
    assert lines_of(done) == ["mpp: 'in.zst': File exists (--force replaces it)"]
    assert (tmp_path / "in.zst").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["in", "in.zst", "out"]


def test_a_target_that_appears_meanwhile_is_not_overwritten(tmp_path):
    """The check before the work is not the only one."""
    reader, writer = os.pipe()
    with subprocess.Popen(
        [*MPP, "run", "zstd", "-o", "out"], stdin=reader, stderr=subprocess.PIPE, cwd=tmp_path, env=environment()
    ) as process:
        os.close(reader)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(os.urandom(3 << 20))  # more than a pipe holds: the check is over when it has been taken
            (tmp_path / "out").write_bytes(b"somebody else's")
        assert process.stderr is not None
        words = process.stderr.read()
    assert process.returncode == 1
    assert words == b"mpp: 'out': File exists (--force replaces it)\n"
    assert (tmp_path / "out").read_bytes() == b"somebody else's"
    assert os.listdir(tmp_path) == ["out"]


def test_a_name_without_its_suffix_is_refused(tmp_path):
    """There is no telling what its output should be called."""
    (tmp_path / "in").write_bytes(b"x")
    done = mpp("run", "unzstd", "in", cwd=tmp_path)
    assert (done.returncode, len(lines_of(done))) == (1, 1)
    assert "'in' is not called *.zst" in lines_of(done)[0]


def test_a_fifo_as_input_needs_a_name_for_its_output(tmp_path):
    """It is read, but nothing is written beside it."""
    os.mkfifo(tmp_path / "fifo")
    done = mpp("run", "zstd", "fifo", cwd=tmp_path)  # it is not even opened: nobody writes it
    assert done.returncode == 1
    assert "'fifo' is no regular file, so its output has no name: give -o FILE" in lines_of(done)[0]
    with subprocess.Popen(["sh", "-c", "printf data > fifo"], cwd=tmp_path):
        done = mpp("run", "zstd", "-o", "out", "fifo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert unpacked((tmp_path / "out").read_bytes()) == b"data"


def test_truncated_input_is_an_error_and_leaves_no_file(tmp_path):
    """A part of a frame is never taken for the whole."""
    whole = mpp("run", "zstd", data=os.urandom(500_000)).stdout
    (tmp_path / "cut.zst").write_bytes(whole[:100_000])
    done = mpp("run", "unzstd", "cut.zst", cwd=tmp_path)
    assert (done.returncode, len(lines_of(done))) == (1, 1)
    assert "stage 'unzstd': 'cut.zst': the compressed data ends in the middle of a frame" in lines_of(done)[0]
    assert os.listdir(tmp_path) == ["cut.zst"]
    done = mpp("run", "unzstd", data=whole[:100_000])
    assert done.returncode == 1
    assert "'stdin'" in lines_of(done)[0]
    assert len(done.stdout) < 100_000


def test_no_input_and_a_terminal_shows_the_help(terminal):
    """Nobody types data by accident; status 2."""
    done = mpp("run", "zstd", data=None, stdin=terminal[1])
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"Usage: mpp run")


def test_an_explicit_dash_reads_the_terminal(terminal):
    """The user has asked for it."""
    os.write(terminal[0], b"typed\n\x04")
    done = mpp("run", "zstd", "-", data=None, stdin=terminal[1])
    assert (done.returncode, unpacked(done.stdout)) == (0, b"typed\n"), done.stderr


def test_compressed_data_is_not_written_to_a_terminal(terminal):
    """Refused with what helps; --force insists. Plain data is welcome there."""
    done = mpp("run", "zstd", data=b"x", stdout=terminal[1])
    assert done.returncode == 2
    assert lines_of(done) == [
        "mpp: compressed data is not written to a terminal: redirect it, give -o FILE, or insist with --force"
    ]
    packed = mpp("run", "-q", "zstd", data=b"x").stdout
    assert mpp("run", "--force", "zstd", data=b"x", stdout=terminal[1]).returncode == 0
    assert os.read(terminal[0], 1000) == packed.replace(b"\n", b"\r\n")
    done = mpp("run", "unzstd", data=packed, stdout=terminal[1])
    assert (done.returncode, os.read(terminal[0], 1000), done.stderr) == (0, b"x", b"")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """By the output's name as the user gave it, not by that of a temporary."""
    (tmp_path / "folder").mkdir(mode=0o500)
    args = ("run", "zstd", "-o", "folder/out")
    done = mpp(*args, data=b"x", cwd=tmp_path, preexec_fn=without_power_over_files)
    assert (done.returncode, lines_of(done)) == (1, ["mpp: stdin: 'folder/out': Permission denied"])
    done = mpp("run", "zstd", "-o", "nowhere/out", data=b"x", cwd=tmp_path)
    assert (done.returncode, lines_of(done)) == (1, ["mpp: stdin: 'nowhere/out': No such file or directory"])


def test_a_full_disk_is_one_line_that_names_the_file(tmp_path):
    """ENOSPC fails the run; no part of the output stays."""
    done = mpp("run", "zstd", "-o", "/dev/full", data=os.urandom(1 << 20))
    assert done.returncode == 1
    assert lines_of(done) == ["mpp: stdin: '/dev/full': No space left on device"]


def test_a_file_too_large_for_its_limit_leaves_nothing(tmp_path):
    """EFBIG, as ENOSPC: one line, no target, no temporary."""
    import resource
    import signal

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9 << 20, 9 << 20))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = mpp("run", "zstd", "-o", "out", data=os.urandom(12 << 20), cwd=tmp_path, preexec_fn=limit)
    assert done.returncode == 1
    assert lines_of(done) == ["mpp: stdin: 'out': File too large"]
    assert os.listdir(tmp_path) == []


def test_a_current_folder_that_was_removed_is_named(tmp_path):
    """Relative names lead nowhere from there; those from the root go on working."""
    (tmp_path / "a").write_bytes(b"data")
    script = f'mkdir gone && cd gone && rmdir ../gone && "{sys.executable}" -m mpp_cli run -q zstd -r "$1"'

    def there(name: str) -> subprocess.CompletedProcess[bytes]:
        command = ["bash", "-c", script, "bash", name]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)

    lost = there(".")
    assert (lost.returncode, b"the current folder has been removed" in lost.stderr) == (1, True), lost.stderr
    found = there(str(tmp_path / "a"))
    assert (found.returncode, found.stderr) == (0, b"")
    assert unpacked((tmp_path / "a.zst").read_bytes()) == b"data"
