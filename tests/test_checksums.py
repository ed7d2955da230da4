"""Files of checksums: written by ``--checksums``, read by the tools and by the stage verify."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from byte_chains import failure, file_item, publish
from cli_tools import environment, lines_of, mpp, unpacked
from hypothesis import given
from hypothesis import strategies as st
from mpp_stages.checksum_lines import ALGORITHMS, format_line, parse_line
from mpp_stages.errors import StageDataError
from mpp_stages.unzstd import UnzstdStage
from mpp_stages.verify import VerifyStage
from mpp_stages.write import WriteStage
from mpp_stages.zstd import ZstdStage
from pass_through_ways import all_ways, planned_or_not, run

from atbu.mp_pipeline.exception import PipelineError

ODD_NAMES = ["plain", "with space", "new\nline", "back\\slash", "both\\\n", "*star", os.fsdecode(b"\xff\xfe")]


def pipeline(folder: Path, *stages: str) -> Path:
    path = folder / "p.toml"
    path.write_text("".join(f'[[stage]]\nuse = "{stage}"\n' for stage in stages))
    return path


def checks(folder: Path, *command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, timeout=60, check=False)


# -- lines


@given(
    kind=st.sampled_from(sorted(ALGORITHMS)),
    name=st.binary(min_size=1).filter(lambda name: b"\0" not in name).map(os.fsdecode),
    tagged=st.booleans(),
)
def test_a_line_is_read_as_it_was_written(kind, name, tagged):
    """Whatever bytes stand in the name."""
    digest = "0123456789abcdef" * (ALGORITHMS[kind][1] // 16) + "01234567" * (ALGORITHMS[kind][1] % 16 // 8)
    line = format_line(kind, digest, name, tagged=tagged)
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    assert parse_line(line[:-1], kind) == (kind, digest, name)


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"12  a", b"g" * 64 + b"  a", b"0" * 64 + b" a", b"\\" + b"0" * 64 + b"  a\\q", b"SHA256 (a) = 00"],
)
def test_what_is_no_line_is_refused(line):
    """A wrong digest, a wrong escape, no name."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_line(line)


@pytest.mark.parametrize("line", [b"BLAKE2b-12 (a) = abc", b"0" * 17 + b"  a", b"BLAKE2b-520 (a) = " + b"0" * 130])
def test_a_blake2b_digest_has_whole_bytes_and_at_most_64(line):
    """Found with the line, not later by the stage that would compute it."""
    with pytest.raises(ValueError, match="its digest has a wrong length"):
        parse_line(line, "b2")


# -- written


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        ("sha256", ["sha256sum", "-c", "--strict", "SUMS"]),
        ("md5", ["md5sum", "-c", "--strict", "SUMS"]),
        ("b2", ["b2sum", "-c", "--strict", "SUMS"]),
        ("blake3", ["b3sum", "-c", "SUMS"]),
        ("xxh3", ["xxhsum", "-c", "--strict", "SUMS"]),
    ],
)
def test_the_tool_accepts_the_file(tmp_path, require_tool, stage, command):
    """Names with backslashes and newlines too, where the tool knows an escape for them; and it notices a change."""
    require_tool(command[0])
    names = ODD_NAMES if stage != "xxh3" else ["plain", "with space"]
    if stage == "blake3":
        names = names[:-1]  # b3sum takes UTF-8 alone
    for name in names:
        (tmp_path / name).write_bytes(name.encode(errors="surrogateescape") * 100)
    done = mpp("run", pipeline(tmp_path, stage, "zstd"), *names, "--checksums", "SUMS", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    checked = checks(tmp_path, *command)
    assert checked.returncode == 0, checked
    assert checked.stdout.count(b": OK\n") == len(names)
    (tmp_path / "plain").write_bytes(b"changed")
    assert checks(tmp_path, *command).returncode != 0


def test_the_digest_behind_the_compressor_is_the_output_s(tmp_path, require_tool):
    """Named so; of a failed item there is no line, and none of what stood in its way is left."""
    require_tool("sha256sum")
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "b.zst").write_bytes(b"in the way")
    done = mpp("run", pipeline(tmp_path, "zstd", "sha256"), "a", "b", "c", "--checksums", "SUMS", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    checked = checks(tmp_path, "sha256sum", "-c", "--strict", "SUMS")
    assert sorted(checked.stdout.splitlines()) == [b"a.zst: OK", b"c.zst: OK"]
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".mpp")]


def test_a_stream_is_called_by_a_dash(tmp_path):
    """As ``sha256sum`` calls its standard input."""
    done = mpp("run", pipeline(tmp_path, "zstd", "sha256"), "--checksums", "SUMS", cwd=tmp_path, data=b"abc")
    assert (tmp_path / "SUMS").read_bytes() == f"{hashlib.sha256(done.stdout).hexdigest()}  -\n".encode()
    assert unpacked(done.stdout) == b"abc"


def test_several_algorithms_make_tagged_lines(tmp_path, require_tool):
    """Each tool of coreutils takes its own of them."""
    require_tool("md5sum")
    (tmp_path / "a").write_bytes(b"a")
    done = mpp("run", pipeline(tmp_path, "sha256", "md5", "zstd", "md5"), "a", "--checksums", "SUMS", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in (tmp_path / "SUMS").read_text().splitlines()] == ["SHA256", "MD5", "MD5"]
    assert checks(tmp_path, "md5sum", "-c", "SUMS").stdout == b"a: OK\na.zst: OK\n"
    assert checks(tmp_path, "sha256sum", "-c", "SUMS").stdout == b"a: OK\n"


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (["zstd"], "the pipeline has no stage such as 'sha256'"),
        (["zstd", "sha256", "unzstd"], "stage 'sha256' (number 2) stands between stages that change the bytes"),
    ],
)
def test_a_digest_of_no_file_is_refused_before_anything_starts(tmp_path, stages, words):
    """With the status of a wrong command line; nothing is made."""
    (tmp_path / "a").write_bytes(b"a")
    done = mpp("run", pipeline(tmp_path, *stages), "a", "-o", "out", "--checksums", "SUMS", cwd=tmp_path)
    assert done.returncode == 2
    assert words in lines_of(done)[0]
    assert sorted(os.listdir(tmp_path)) == ["a", "p.toml"]


def test_an_existing_file_of_checksums_is_not_replaced_without_force(tmp_path):
    """And with it, it is."""
    (tmp_path / "SUMS").write_bytes(b"mine")
    p = pipeline(tmp_path, "sha256")
    done = mpp("run", p, "--checksums", "SUMS", cwd=tmp_path, data=b"x")
    assert (done.returncode, done.stdout) == (2, b"")
    assert (tmp_path / "SUMS").read_bytes() == b"mine"
    assert mpp("run", p, "--checksums", "SUMS", "--force", cwd=tmp_path, data=b"x").returncode == 0
    assert (tmp_path / "SUMS").read_bytes().endswith(b"  -\n")


# -- verified


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file and its checksums."""
    monkeypatch.chdir(tmp_path)
    Path("x").write_bytes(b"abc" * 1_000_000)
    digest = hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    Path("SUMS").write_text(f"# a comment\n{digest}  x\nSHA256 (wrong) = {'0' * 64}\n")
    return tmp_path


@all_ways
@planned_or_not
def test_right_bytes_pass(listed, way, is_fused):
    """By the input's name in front, by the output's before the sink."""
    item = run(
        [VerifyStage("SUMS"), ZstdStage(), WriteStage()], file_item(listed / "x", listed / "y"), way, is_fused=is_fused
    )
    publish(item)
    item = run(
        [UnzstdStage(), VerifyStage("SUMS"), WriteStage()],
        file_item(listed / "y", listed / "x", force=True),
        way,
        is_fused=is_fused,
    )
    publish(item)


@all_ways
@planned_or_not
def test_a_mismatch_fails_the_item_before_anything_is_published(listed, way, is_fused):
    """And says both digests."""
    stages = [VerifyStage("SUMS"), ZstdStage(), WriteStage()]
    os.rename("x", "wrong")
    item = run(stages, file_item(listed / "wrong", listed / "y"), way, is_fused=is_fused)
    error = failure(item, StageDataError)
    assert error.stage == "verify"
    assert "its sha256 is " in error.problem
    assert f"'SUMS' says {'0' * 64}" in error.problem
    item.discard()
    assert sorted(os.listdir()) == ["SUMS", "wrong"]


def test_an_item_without_a_line_fails(listed):
    """It cannot be known to be right."""
    Path("other").write_bytes(b"")
    item = run([VerifyStage("SUMS"), WriteStage()], file_item(Path("other"), Path("y")), "serial")
    assert "'SUMS' has no line for 'other'" in str(failure(item, StageDataError))
    item.discard()


def test_bytes_that_are_no_file_s_cannot_be_verified(listed):
    """Between two stages that change them."""
    stages = [ZstdStage(), VerifyStage("SUMS"), UnzstdStage(), WriteStage()]
    item = run(stages, file_item(Path("x"), Path("y")), "serial")
    assert "stands between stages that change the bytes" in str(failure(item, PipelineError))
    item.discard()


def test_the_file_stands_beside_the_definition(listed, tmp_path_factory):
    """Its names are those seen from its own folder, where the current one has no such file."""
    p = pipeline(listed, 'verify"\nchecksums = "SUMS')
    done = mpp("run", p, listed / "x", "-o", "-", cwd=tmp_path_factory.mktemp("elsewhere"))
    assert (done.returncode, done.stdout) == (0, b"abc" * 1_000_000), done.stderr


def test_a_line_that_is_none_is_told_with_its_number(listed):
    """Before anything is published."""
    Path("SUMS").write_text("what is this\n")
    item = run([VerifyStage("SUMS"), WriteStage()], file_item(Path("x"), Path("y")), "serial")
    assert "line 1: it is neither" in str(failure(item, PipelineError))
    item.discard()
