"""Descriptors 0, 1 and 2: data ends apart from words, whatever a user's code prints or reads."""

from __future__ import annotations

import os
import subprocess

import pytest
from cli_tools import MPP, environment, mpp, unpacked

CHATTY = """
import ctypes, os, subprocess, sys
print("printed at import")
from mpp_stages.byte_stage import ByteStage

class Chatty(ByteStage):
    def __init__(self):
        super().__init__()
        print("printed by the constructor")

    def run(self, reader, writer, item):
        print("printed by run")
        sys.stdout.write("written by run\\n")
        os.write(1, b"written to descriptor 1\\n")
        libc = ctypes.CDLL(None)
        libc.puts(b"put by C")
        libc.fflush(None)
        subprocess.run(["echo", "echoed by a child"], check=True)
        stolen = os.read(0, 100)
        writer.write(b"[" + stolen + b"]" + reader.read())
        print("printed at the end")

class ChattyThread(Chatty):
    run_in = "thread"

stages = [Chatty()]
threads = [ChattyThread()]
"""
SAID = [
    b"printed at import",
    b"printed by the constructor",
    b"printed by run",
    b"written by run",
    b"written to descriptor 1",
    b"put by C",
    b"echoed by a child",
    b"printed at the end",
]


@pytest.mark.parametrize("which", ["stages", "threads"])
def test_nothing_a_stage_prints_reaches_the_data(tmp_path, which):
    """Print, a bare write, the C library and a child: all of it on standard error, and descriptor 0 is empty."""
    (tmp_path / "chatty.py").write_text(CHATTY)
    done = mpp("run", f"./chatty.py:{which}", data=b"data", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"[]data"), done.stderr
    for said in SAID:
        assert said in done.stderr


def test_the_plan_is_not_mixed_with_what_a_definition_prints(tmp_path):
    """``mpp check`` writes its plan to standard output, a definition's words go to standard error."""
    (tmp_path / "chatty.py").write_text(CHATTY)
    done = mpp("check", "./chatty.py:stages", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"printed" not in done.stdout
    assert b"printed at import" in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "<&- 2>&-"])
def test_closed_descriptors_do_no_harm(tmp_path, closed):
    """Files take the numbers of closed standard descriptors, unless somebody sees to it."""
    (tmp_path / "in").write_bytes(b"data")
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" run zstd in {closed}', "sh", *MPP],
        cwd=tmp_path, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    assert unpacked((tmp_path / "in.zst").read_bytes()) == b"data"
    assert sorted(os.listdir(tmp_path)) == ["in", "in.zst"]


@pytest.mark.parametrize(("closed", "words"), [("<&-", b"standard input is closed"), (">&-", b"output is closed")])
def test_a_closed_end_of_the_data_is_an_error(closed, words):
    """It is not taken for an empty input or for an output that nobody wants."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" run zstd {closed}', "sh", *MPP],
        env=environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, b"")
    assert words in done.stderr


def test_help_and_lists_are_words_on_standard_output():
    """They are what these commands are for, and may be piped."""
    for args in (["--help"], ["run", "--help"], ["stages"], ["stages", "zstd"], ["pipelines"], ["--version"]):
        done = mpp(*args)
        assert (done.returncode, done.stderr) == (0, b""), args
        assert done.stdout.strip(), args


def test_a_list_whose_reader_has_gone_ends_quietly():
    """As any writer does: by SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = mpp("stages", stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (-13, b"")
