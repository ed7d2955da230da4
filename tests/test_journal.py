"""The journal: what it remembers, what a crash may do to it, and whose it is."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import TIMEOUT_S
from hypothesis import given, settings
from hypothesis import strategies as st

from mpp_cli.errors import UsageProblem
from mpp_cli.journal.index import DoneIndex
from mpp_cli.journal.journal import open_journal
from mpp_cli.journal.records import Header, Published, done_line, header_line, publish_line, read_line

HEADER = Header("abc", [{"use": "m:Zstd", "label": "zstd", "options": {"level": 3}}], "zstd")
NAMES = st.binary(min_size=1, max_size=20).filter(lambda raw: b"\0" not in raw).map(os.fsdecode)
NUMBERS = st.integers(0, 2**63)
OUTPUTS = st.builds(Published, NAMES, NUMBERS, NUMBERS, NAMES, NUMBERS, NUMBERS)


def an_output(folder, name="a", content=b"output", size=10, mtime_ns=20) -> Published:
    """A file that stands where the record says."""
    target = folder / f"{name}.zst"
    target.write_bytes(content)
    return Published(f"/in/{name}", size, mtime_ns, str(target), len(content), target.stat().st_ino)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "journal")


def journal_of(path, *, is_resumed=True, header=HEADER):
    return open_journal(path, header, is_resumed=is_resumed)


def recorded(path, *outputs, header=HEADER):
    """A run that has done all of them and ended."""
    journal = journal_of(path, header=header)
    for output in outputs:
        journal.published(journal.before_publish(output))
    journal.close()


def is_done(path, output, header=HEADER) -> bool:
    """What the next run sees."""
    journal = journal_of(path, header=header)
    try:
        return journal.is_done(*output[:4])
    finally:
        journal.close()


def test_a_record_that_fits_in_part_only_spoils_no_other(path, tmp_path):
    """A full disk takes the beginning of a line; what comes when there is room again stands on a line of its own."""
    first, second = an_output(tmp_path, "first"), an_output(tmp_path, "second")
    journal = journal_of(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.stat(path).st_size + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.before_publish(first)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    journal.published(journal.before_publish(second))
    journal.close()
    journal = journal_of(path)
    assert (journal.damaged, journal.is_done(*first[:4]), journal.is_done(*second[:4])) == (0, False, True)
    journal.close()


@given(st.integers(0, 2**40), OUTPUTS)
def test_every_line_can_be_read(number, output):
    """Any bytes in names; and each is one line of ASCII."""
    line = publish_line(number, output)
    assert read_line(line) == (number, output)
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert read_line(done_line([number, 7])) == [number, 7]
    assert read_line(header_line(HEADER, 1, 2.5)) == HEADER


@given(st.binary(max_size=60))
def test_no_damaged_line_is_an_error(line):
    """Whatever a disk makes of it."""
    read_line(line)
    read_line(b'{"event":"publish","n":' + line)
    read_line(json.dumps({"event": "publish", "n": line.decode("latin-1")}).encode())


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_the_index_knows_the_last_result_of_each_file(notes):
    """As a dictionary would, asked and added to by turns."""
    index, expected = DoneIndex(), {}
    for path, size, bytes_out in notes:
        index.add(path, size, 1, path, bytes_out)
        expected[path] = (size, bytes_out)
        for each in "abcd":
            assert index.has(each, size, 1, each, bytes_out) == (expected.get(each) == (size, bytes_out))


def test_what_is_done_is_known(path, tmp_path):
    """By the next run, and the one after it."""
    output = an_output(tmp_path)
    recorded(path, output)
    assert is_done(path, output)
    assert is_done(path, output)


@pytest.mark.parametrize("change", [{"path": "/in/b"}, {"size": 11}, {"mtime_ns": 21}, {"target": "/in/other"}])
def test_another_file_is_not_done(path, tmp_path, change):
    """Path, size, time of change, output: all must be the same."""
    output = an_output(tmp_path)
    recorded(path, output)
    assert not is_done(path, output._replace(**change))


@pytest.mark.parametrize("what", ["missing", "shorter", "a folder"])
def test_an_output_that_is_not_there_any_more_is_not_done(path, tmp_path, what):
    """It is made again."""
    output = an_output(tmp_path)
    recorded(path, output)
    os.unlink(output.target)
    if what == "shorter":
        (tmp_path / "a.zst").write_bytes(b"outpu")
    elif what == "a folder":
        (tmp_path / "a.zst").mkdir()
    assert not is_done(path, output)


def killed_before_the_record_of_done(path, output) -> None:
    journal = journal_of(path)
    journal.before_publish(output)
    journal._close_descriptor()  # as the kernel does for a process that is killed


def test_a_run_killed_after_it_published_is_found_out(path, tmp_path):
    """The file that was announced stands under the target's name: it is done, and stays done."""
    output = an_output(tmp_path)
    killed_before_the_record_of_done(path, output)
    assert is_done(path, output)
    assert is_done(path, output)


def test_a_run_killed_before_it_published_is_found_out(path, tmp_path):
    """There is no output, or one of somebody else's with the same size: it is not done."""
    output = an_output(tmp_path)
    killed_before_the_record_of_done(path, output)
    os.rename(output.target, tmp_path / "temporary")
    assert not is_done(path, output)
    (tmp_path / "a.zst").write_bytes(b"OUTPUT")
    assert not is_done(path, output)


def test_a_file_that_was_another_in_between_is_not_done(path, tmp_path):
    """Only its last result counts: the output is not that of the first one any more."""
    first = an_output(tmp_path)
    second = first._replace(mtime_ns=99)
    recorded(path, first, second)
    assert is_done(path, second)
    assert not is_done(path, first)


@settings(max_examples=25)
@given(st.floats(0, 1))
def test_a_torn_line_costs_its_own_record_alone(tmp_path_factory, where):
    """Cut anywhere, then appended to by the next runs: all that was complete before and after is kept."""
    folder = tmp_path_factory.mktemp("torn")
    path = str(folder / "journal")
    outputs = [an_output(folder, name) for name in "abc"]
    recorded(path, outputs[0])
    whole = os.path.getsize(path)
    recorded(path, outputs[1])
    os.truncate(path, whole + round(where * (os.path.getsize(path) - whole)))
    recorded(path, outputs[2])
    assert is_done(path, outputs[0])
    assert is_done(path, outputs[2])


@pytest.mark.parametrize("rubbish", [b"\0" * 5000, b"{}\n", b"\xff\xfe\n", b'{"event":"newer"}\n', b"x" * (3 << 20)])
def test_a_damaged_middle_is_passed_over(path, tmp_path, rubbish):
    """What a crash of the machine may leave; the number of such lines is told."""
    before, after = an_output(tmp_path, "a"), an_output(tmp_path, "b")
    recorded(path, before)
    with open(path, "ab") as journal:
        journal.write(rubbish)
    recorded(path, after)
    assert is_done(path, before)
    assert is_done(path, after)
    journal = journal_of(path)
    journal.close()
    assert journal.damaged >= 1


@pytest.mark.parametrize("left", [0, 7, 40])
def test_a_journal_cut_in_its_first_line_begins_anew(path, tmp_path, left):
    """A run killed while it began one."""
    recorded(path)
    os.truncate(path, left)
    output = an_output(tmp_path)
    recorded(path, output)
    assert is_done(path, output)


def test_another_pipeline_s_journal_is_refused(path):
    """With what differs; and it is left as it is."""
    recorded(path)
    before = Path(path).read_bytes()
    other = Header("abd", [{"use": "m:Zstd", "label": "zstd", "options": {"level": 9}}], "zstd")
    with pytest.raises(UsageProblem, match=r"another pipeline.*stage 1 'zstd': level was 3, is 9"):
        journal_of(path, header=other)
    assert Path(path).read_bytes() == before


def test_an_earlier_run_s_journal_is_refused_without_resume(path):
    """With the way on."""
    recorded(path)
    with pytest.raises(UsageProblem, match="--resume"):
        journal_of(path, is_resumed=False)


@pytest.mark.parametrize("content", [b"my letters", b'{"event":"journey"}', b"\n"])
def test_what_is_no_journal_is_left_alone(path, content):
    """A slip of the finger costs no file."""
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(UsageProblem, match="no journal"):
        journal_of(path)
    assert Path(path).read_bytes() == content


def test_a_journal_is_for_its_owner_alone(path):
    """It tells names and sizes."""
    recorded(path)
    assert os.stat(path).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("place", ["missing/journal", "."])
def test_a_journal_that_cannot_be_opened_is_a_usage_error(tmp_path, place):
    """Before anything is run."""
    with pytest.raises(UsageProblem, match=r"--journal: '.*': "):
        journal_of(str(tmp_path / place))


def test_two_runs_on_one_journal_are_refused(path):
    """While the first runs, in this process or another; not after it."""
    first = journal_of(path)
    try:
        with pytest.raises(UsageProblem, match="in use"):
            journal_of(path)
    finally:
        first.close()
    journal_of(path).close()


def test_a_process_that_outlives_the_run_does_not_keep_the_next_one_out(path):
    """A forked child lets go of the journal at once."""
    journal = journal_of(path)
    wait_for_end, end = os.pipe()
    said, say = os.pipe()
    child = os.fork()
    if not child:
        os.close(end)
        os.write(say, b"!")
        os.read(wait_for_end, 1)
        os._exit(0)
    os.close(wait_for_end)
    try:
        os.read(said, 1)
        journal.close()
        journal_of(path).close()
    finally:
        os.close(end)
        os.waitpid(child, 0)
        os.close(said)
        os.close(say)


def test_the_journal_is_written_before_the_output_appears(path, tmp_path):
    """When before_publish() returns, another process can read the record."""
    journal = journal_of(path)
    try:
        output = an_output(tmp_path)
        journal.before_publish(output)
        assert read_line(Path(path).read_bytes().splitlines()[-1]) == (1, output)
    finally:
        journal.close()


def test_a_full_disk_is_an_error_that_names_the_journal(path):
    """The output must not get its name then."""
    program = """
import resource, signal, sys
from mpp_cli.journal.journal import open_journal
from mpp_cli.journal.records import Header, Published
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = open_journal(sys.argv[1], Header("abc", [], "zstd"), is_resumed=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    for number in range(100):
        journal.before_publish(Published("p", 1, 1, "t", 1, 1))
except OSError as ex:
    print(ex.filename, 0 < number < 100)
"""
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, timeout=TIMEOUT_S, check=False)
    assert done.stdout.decode().split() == [path, "True"], done.stderr
