"""``mpp run`` on good input: pipes, files, names, and what stands on which descriptor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import MPP, environment, lines_of, mpp, unpacked

TEXT = b"".join(b"%d: a line of a log file\n" % number for number in range(20_000))


def test_standard_input_goes_to_standard_output():
    """Compressed and decompressed again by two processes in a pipe, data comes back as it was."""
    packed = mpp("run", "zstd", data=TEXT)
    assert packed.returncode == 0, packed.stderr
    assert unpacked(packed.stdout) == TEXT
    plain = mpp("run", "unzstd", data=packed.stdout)
    assert (plain.returncode, plain.stdout) == (0, TEXT)


def test_empty_input_is_a_complete_frame():
    """No bytes are data too."""
    done = mpp("run", "zstd", data=b"")
    assert (done.returncode, unpacked(done.stdout)) == (0, b"")


def test_output_file_has_the_umask_and_nothing_stands_beside_it(tmp_path):
    """``-o FILE`` from stdin: mode as any new file's, standard output empty, no temporary."""
    done = mpp("run", "zstd", "-o", "out.zst", data=TEXT, cwd=tmp_path, preexec_fn=lambda: os.umask(0o027) and None)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    assert os.listdir(tmp_path) == ["out.zst"]
    assert (tmp_path / "out.zst").stat().st_mode & 0o777 == 0o640
    assert unpacked((tmp_path / "out.zst").read_bytes()) == TEXT


def test_each_file_gets_its_output_beside_it(tmp_path):
    """``x`` becomes ``x.zst`` with the mode and times of x; ``x.zst`` becomes ``x``."""
    names = [f"file {number}" for number in range(12)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(TEXT[number * 1000 :])
        os.chmod(tmp_path / name, 0o604)
        os.utime(tmp_path / name, ns=(1_000_000_000_000_000_000 + number,) * 2)
    done = mpp("run", "zstd", *names, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    for number, name in enumerate(names):
        packed = tmp_path / f"{name}.zst"
        assert unpacked(packed.read_bytes()) == TEXT[number * 1000 :]
        assert packed.stat().st_mode & 0o777 == 0o604
        assert packed.stat().st_mtime_ns == 1_000_000_000_000_000_000 + number
        (tmp_path / name).unlink()
    done = mpp("run", "unzstd", *(f"{name}.zst" for name in names), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path)) == sorted([*names, *(f"{name}.zst" for name in names)])
    assert (tmp_path / names[3]).read_bytes() == TEXT[3000:]


def test_several_files_to_standard_output_follow_each_other_in_order(tmp_path):
    """``-o -``: one frame after the other, in the order of the command line."""
    for number in range(5):
        (tmp_path / f"f{number}").write_bytes(b"%d" % number * 300_000)
    done = mpp("run", "zstd", "-o", "-", "f3", "f0", "-", "f4", data=b"stdin", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "all.zst").write_bytes(done.stdout)
    plain = mpp("run", "unzstd", "-o", "-", "all.zst", cwd=tmp_path)
    assert plain.stdout == b"3" * 300_000 + b"0" * 300_000 + b"stdin" + b"4" * 300_000


@pytest.mark.parametrize("name", [b"line\nend", b"\xff\xfe", "ü \t'\"".encode(), b"-dash", b"a" * 250])
def test_any_bytes_may_stand_in_a_name(tmp_path, name):
    """Names are bytes; messages show them on one line."""
    path = os.path.join(os.fsencode(tmp_path), name)
    Path(os.fsdecode(path)).write_bytes(b"x")
    done = mpp("run", "zstd", "--", name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert unpacked(Path(os.fsdecode(path + b".zst")).read_bytes()) == b"x"
    assert len(lines_of(done)) == 1
    again = mpp("run", "zstd", "--", name, cwd=tmp_path)
    assert again.returncode == 1
    assert len(lines_of(again)) == 1
    assert "File exists" in lines_of(again)[0]


@pytest.mark.parametrize("out", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-"])
@pytest.mark.parametrize("source", ["/dev/stdin", "-", "/proc/self/fd/0"])
def test_the_system_s_names_for_standard_input_and_output_mean_these(source, out):
    """Descriptor 1 has been moved by then; its names still lead to the data's end."""
    done = mpp("run", "zstd", "-o", out, source, data=b"data")
    assert (done.returncode, unpacked(done.stdout)) == (0, b"data"), done.stderr


def test_process_substitution_works_both_ways(tmp_path):
    """``<(…)`` and ``>(…)`` are /dev/fd/N of this very process."""
    script = 'exec 4> >(cat > out); "$@" run zstd -q -o /dev/fd/4 <(printf data); exec 4>&-; wait $!'
    subprocess.run(["bash", "-c", script, "bash", *MPP], cwd=tmp_path, env=environment(), check=True, timeout=60)
    assert unpacked((tmp_path / "out").read_bytes()) == b"data"


def test_a_device_is_written_and_stays_one():
    """``-o /dev/null`` is neither refused nor replaced."""
    done = mpp("run", "zstd", "-o", "/dev/null", data=TEXT)
    assert done.returncode == 0, done.stderr
    assert Path("/dev/null").is_char_device()


def test_a_redirected_standard_input_is_read_from_where_it_stands(tmp_path):
    """What another program has read of it before is not read again."""
    (tmp_path / "in").write_bytes(b"head\nrest")
    script = 'read -r first; exec "$@" run zstd'
    with open(tmp_path / "in", "rb") as file:
        done = subprocess.run(
            ["sh", "-c", script, "sh", *MPP], stdin=file, capture_output=True, env=environment(), timeout=60, check=True
        )
    assert unpacked(done.stdout) == b"rest"


def test_force_replaces_a_file_and_follows_a_link(tmp_path):
    """The link stays, what it leads to is replaced as a whole."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real/old").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real/old")
    done = mpp("run", "zstd", "--force", "-o", "link", data=b"new", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "link").is_symlink()
    assert unpacked((tmp_path / "real/old").read_bytes()) == b"new"
    assert os.listdir(tmp_path / "real") == ["old"]


def test_the_same_input_gives_the_same_bytes_with_any_number_of_jobs(tmp_path):
    """--jobs is no option of the output."""
    (tmp_path / "in").write_bytes(TEXT * 30)
    outputs = {mpp("run", "zstd", "-o", "-", "--jobs", jobs, "in", cwd=tmp_path).stdout for jobs in ("1", "2", "5")}
    assert len(outputs) == 1


def test_quiet_says_nothing():
    """-q leaves only errors."""
    assert mpp("run", "-q", "zstd", data=TEXT).stderr == b""


def test_the_installed_command_is_the_same():
    """The console script of the distribution runs."""
    script = Path(sys.executable).with_name("mpp")
    if not script.exists():
        pytest.skip("not installed with its script")
    done = subprocess.run([script, "run", "-q", "zstd"], input=b"x", capture_output=True, timeout=60, check=True)
    assert unpacked(done.stdout) == b"x"


def test_what_a_definition_writes_to_a_file_of_its_own_is_kept(tmp_path):
    """Although it never closes it: the end of an interpreter does."""
    (tmp_path / "own.py").write_text(
        "from mpp_stages.zstd import ZstdStage\nlog = open('log', 'w')\nlog.write('loaded')\nstages = [ZstdStage()]\n"
    )
    done = mpp("run", "./own.py:stages", data=b"data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").read_text() == "loaded"
