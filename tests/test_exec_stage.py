"""Bytes through any program: what comes out, what it runs with, and how its failures are told."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from byte_chains import Portions, failure, through
from exec_tools import RUNNERS, failure_of, is_running, made_of, shell, under_way
from mpp_stages import program_pump
from mpp_stages.byte_stage import ByteStage
from mpp_stages.errors import ProgramFailed
from mpp_stages.exec import ExecStage
from pipeline_harness import no_low_descriptor_free

from atbu.mp_pipeline.exception import PipeConnectionAborted

MIB = 1 << 20
#: The others are real-time signals, of which the C library has some for itself.
ORDINARY_SIGNALS = 0x7FFFFFFF
all_runners = pytest.mark.parametrize("runner", RUNNERS)


class FailsAtTheEnd(ByteStage):
    """Passes its input on and fails, as a decoder does that misses the end."""

    def run(self, reader, writer, item):
        writer.write(reader.read())
        writer.flush()
        raise ValueError("as it was asked to")


class AsksOnce(ByteStage):
    """Writes a line and goes on only when it has been answered."""

    def __init__(self, seen: Path) -> None:
        super().__init__()
        self.seen = seen

    def run(self, reader, writer, item):
        writer.write(b"question\n")
        writer.flush()
        writer.write(self.seen.read_bytes())


class Answers(AsksOnce):
    """Answers the first line."""

    def run(self, reader, writer, item):
        self.seen.write_bytes(b"answer to " + reader.readline())
        writer.write(reader.read())


# Bytes


@all_runners
def test_what_the_program_writes_goes_on(tmp_path, runner):
    """The same bytes in processes, inside one worker and serially; programs in a row, and more than pipes hold."""
    data = os.urandom(3 * MIB + 7)
    stages = [ExecStage(["tr", "\\000-\\377", "\\001-\\377\\000"]), ExecStage(["cat"])]
    assert made_of(stages, data, tmp_path, runner) == bytes((byte + 1) & 0xFF for byte in data)


@pytest.mark.parametrize("data", [b"", b"x"])
def test_next_to_nothing_goes_through(tmp_path, data):
    """An empty input is an input."""
    assert made_of(ExecStage(["cat"]), data, tmp_path) == data


def test_a_program_may_write_before_it_reads_and_read_before_it_writes():
    """Both ends are served at once, or one would wait for the other for ever."""
    assert through(shell(f"head -c {3 * MIB} /dev/zero; cat"), b"a" * 3 * MIB) == bytes(3 * MIB) + b"a" * 3 * MIB
    assert through(ExecStage(["sort"]), b"b\na\n" * MIB) == b"a\n" * MIB + b"b\n" * MIB


@all_runners
def test_a_program_need_not_read_all_its_input(tmp_path, runner):
    """``head`` ends early; that costs nobody anything, neither the program before it nor a large source."""
    head = ExecStage(["head", "-c", "5"])
    assert made_of([ExecStage(["cat"]), head], b"12345" * MIB, tmp_path, runner) == b"12345"
    assert made_of(head, b"12345" * MIB, tmp_path, runner) == b"12345"


def test_a_program_that_closes_its_input_may_go_on(tmp_path):
    """What it no longer reads is no failure, however late it ends."""
    script = "exec <&-; while [ ! -e go ]; do touch go; done; echo done"
    assert made_of(shell(script, cwd=str(tmp_path)), bytes(3 * MIB), tmp_path) == b"done\n"


def test_a_program_that_closes_its_output_may_go_on(tmp_path):
    """It gets all its input, and its status still decides."""
    script = f"exec >&-; cat > {tmp_path}/copy; exit 7"
    assert failure_of(shell(script), b"x" * 3 * MIB, tmp_path).status == 7
    assert (tmp_path / "copy").stat().st_size == 3 * MIB


def test_output_comes_as_it_is_written(tmp_path):
    """A program that answers line by line is answered for before its input has ended."""
    os.mkfifo(tmp_path / "seen")

    stages = [AsksOnce(tmp_path / "seen"), ExecStage(["cat"]), Answers(tmp_path / "seen")]
    assert made_of(stages, b"", tmp_path, "serial") == b"answer to question\n"


# What it runs with


@all_runners
def test_the_program_starts_as_from_a_shell(tmp_path, runner):
    """A group of its own, nothing ignored, nothing blocked, and no descriptor but the three."""
    script = "cat /proc/self/status; echo fds; ls /proc/self/fd; echo $$; cut -d ' ' -f 5 /proc/$$/stat"
    status, _, rest = made_of(shell(script), b"", tmp_path, runner).partition(b"fds\n")
    words = rest.split()
    # The fourth descriptor is the one by which ls reads the folder.
    assert words[:-2] == [b"0", b"1", b"2", b"3"]
    assert words[-2] == words[-1] != str(os.getpgrp()).encode()
    lines = dict(line.split(b":\t") for line in status.splitlines() if line.startswith(b"Sig"))
    assert int(lines[b"SigBlk"], 16) == 0
    assert int(lines[b"SigIgn"], 16) & ORDINARY_SIGNALS == 0


def test_folder_and_variables(tmp_path):
    """``cwd`` and ``env`` are the program's alone, and PATH among them says where it is found."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").write_text("#!/bin/sh\necho $GREETING; pwd; echo $HOME\n")
    (tmp_path / "bin/tool").chmod(0o755)
    env = {"GREETING": "a = b", "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    expected = f"a = b\n{tmp_path}\n{os.environ['HOME']}\n".encode()
    assert through(ExecStage(["tool"], cwd=str(tmp_path), env=env), b"") == expected
    assert through(ExecStage(["bin/tool"], cwd=str(tmp_path), env={"GREETING": "a = b"}), b"") == expected


@all_runners
def test_a_program_may_have_a_thousand_files_open(tmp_path, runner):
    """The descriptors by which it is minded then have numbers that select() does not take."""
    with no_low_descriptor_free():
        assert made_of(ExecStage(["cat"]), b"data", tmp_path, runner) == b"data"


def test_arguments_are_no_shell_words(tmp_path):
    """What a shell would expand arrives as it is, bytes that are no UTF-8 too."""
    arguments = ["$HOME", "*", "a b", "", "'", os.fsdecode(b"\xff")]
    assert through(ExecStage(["printf", "%s\\n", *arguments]), b"") == b"$HOME\n*\na b\n\n'\n\xff\n"


# Failures


@all_runners
def test_an_exit_status_other_than_zero_fails_the_item(tmp_path, runner):
    """The error names stage, item and program, and holds the last of what the program said."""
    error = failure_of(shell("cat; seq 9999 >&2; echo last words >&2; exit 3"), b"data", tmp_path, runner)
    words = f"stage 'exec': '{tmp_path}/in': sh exited with status 3: 9998 | 9999 | last words"
    assert (str(error), error.status) == (words, 3)
    assert error.stderr.endswith(b"9999\nlast words\n")
    assert len(error.stderr) == 4096
    assert not (tmp_path / "out").exists()


def test_statuses_that_count_as_success_can_be_given(tmp_path):
    """``grep`` says 1 where it has found nothing."""
    grep = ExecStage(["grep", "x"], ok_status=[0, 1])
    assert made_of(grep, b"a\n", tmp_path) == b""
    assert made_of(grep, b"x\n", tmp_path) == b"x\n"
    assert failure_of(shell("exit 2", ok_status=[0, 1]), b"", tmp_path).status == 2


def test_a_program_that_is_killed_fails_the_item(tmp_path):
    """Whatever it wrote before."""
    error = failure_of(shell("cat; kill -SEGV $$"), b"data", tmp_path)
    assert str(error).endswith("sh was killed by SIGSEGV")
    assert error.status == -signal.SIGSEGV


@all_runners
def test_a_program_that_has_vanished_fails_the_item(tmp_path, runner):
    """It was there when the stage was made."""
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    stage = ExecStage([str(tool)])
    tool.unlink()
    error = failure_of(stage, b"data", tmp_path, runner)
    assert str(error).endswith(f": tool could not be started: No such file or directory: '{tool}'")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"argv": ["no-such-program"]}, "there is no program 'no-such-program' on PATH"),
        ({"argv": ["./no-such-program"]}, "there is no program './no-such-program'"),
        ({"argv": ["/etc/passwd"]}, "'/etc/passwd' is not executable"),
        ({"argv": ["/etc"]}, "'/etc' is not executable"),
        ({"argv": []}, "argv must name a program"),
        ({"argv": [""]}, "argv must name a program"),
        ({"argv": "cat -n"}, "argv must be a list"),
        ({"argv": ["cat", "\0"]}, "NUL"),
        ({"argv": ["cat", 3]}, "texts"),
        ({"argv": ["cat"], "ok_status": []}, "ok_status must be a list"),
        ({"argv": ["cat"], "ok_status": [256]}, "ok_status must be between 0 and 255"),
        ({"argv": ["cat"], "cwd": "/no/such/folder"}, "there is no folder '/no/such/folder'"),
        ({"argv": ["cat"], "env": {"A=B": "c"}}, "'A=B' is no name of a variable"),
        ({"argv": ["cat"], "suffix": "a/b"}, "suffix must be some text"),
        ({"argv": ["cat"], "strip_suffix": ""}, "strip_suffix must be some text"),
    ],
)
def test_a_wrong_option_is_refused_at_once(options, words):
    """Before anything is started."""
    with pytest.raises(ValueError, match=words):
        ExecStage(**options)


@all_runners
def test_a_failure_before_it_is_no_end_of_input_for_the_program(tmp_path, runner):
    """A program that does something when its input is complete does not do it."""
    (tmp_path / "in").write_bytes(b"half of it")
    program = shell(f"cat; touch {tmp_path}/took-it-for-complete")
    with under_way([FailsAtTheEnd(), program], tmp_path / "in", runner) as item:
        pass
    item.discard()
    assert failure(item, ValueError)
    assert failure(item, PipeConnectionAborted)
    assert sorted(os.listdir(tmp_path)) == ["in"]


def test_a_source_that_cannot_be_read_is_no_end_of_input(tmp_path):
    """As with a failure of a stage before."""
    source = Portions([b"data", OSError(5, "a broken disk")])
    with pytest.raises(OSError, match="a broken disk"):
        through(shell(f"cat; touch {tmp_path}/took-it-for-complete"), source)
    assert os.listdir(tmp_path) == []


def test_an_item_is_tried_again_where_the_stage_asks_for_it(tmp_path):
    """With a new program and the whole input."""
    stage = shell(f"cat; [ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; exit 1; }}")
    stage.retries = 1
    assert made_of(stage, b"data", tmp_path) == b"data"


def test_what_a_program_leaves_running_ends_with_the_item(tmp_path):
    """The whole group does."""
    pid = int(made_of(shell("sleep 1000 > /dev/null 2>&1 < /dev/null & echo $!"), b"", tmp_path))
    assert not is_running(pid)


def test_an_output_that_is_held_open_is_not_waited_for_without_end(monkeypatch):
    """A background process that inherited it and says nothing fails the item, for nobody knows what is missing."""
    monkeypatch.setattr(program_pump, "SILENCE_S", 0.1)
    with pytest.raises(ProgramFailed, match="sh has left a process behind that holds its output open"):
        through(shell("sleep 1000 & echo data"), b"")


def test_an_output_that_goes_on_after_the_program_is_taken_to_its_end():
    """As a shell's pipe does."""
    assert through(shell("(seq 1000000 | tail -n 1) &"), b"") == b"1000000\n"


def test_stderr_is_bounded_and_does_not_hold_the_program_up(capfd):
    """Far more than a pipe holds, while nobody reads stdout."""
    assert through(shell("seq 100000 >&2; echo -n end >&2; echo data"), b"") == b"data\n"
    said = capfd.readouterr().err.splitlines()
    assert said == [*map(str, range(1, 100001)), "end"]


def test_a_closed_stderr_costs_no_time_of_a_processor():
    """The supervisor waits; it does not look again and again at what will not come."""
    before_s = os.times().children_user + os.times().children_system
    assert through(shell("exec 2>&-; sleep 0.5; echo data"), b"") == b"data\n"
    assert os.times().children_user + os.times().children_system - before_s < 0.3


def test_a_python_program_that_raises_tells_why(tmp_path):
    """The last line of its traceback is the one that says it."""
    error = failure_of(ExecStage([sys.executable, "-c", "raise ValueError('too many')"]), b"", tmp_path)
    assert str(error).endswith("| ValueError: too many")


def test_names_of_outputs(tmp_path):
    """``suffix`` is put behind the name, ``strip_suffix`` taken off it."""
    from mpp_stages.naming import target_path

    assert target_path("a.json", [ExecStage(["gzip"], suffix=".gz")]) == "a.json.gz"
    assert target_path("d/a.gz", [ExecStage(["gunzip"], strip_suffix=".gz")]) == "d/a"
    with pytest.raises(ValueError, match="the output would have the input's name"):
        target_path("a.json", [ExecStage(["cat"])])
