"""Long runs of zeros become holes of the output."""

from __future__ import annotations

import os

import pytest
import zstandard
from byte_chains import file_item, publish, run_item
from cli_tools import mpp
from hypothesis import given
from hypothesis import strategies as st
from mpp_stages.holes import HOLE_BLOCK_BYTES, leading_run
from mpp_stages.write import WriteStage

BLOCK = HOLE_BLOCK_BYTES
PIECES = st.lists(
    st.tuples(st.sampled_from([b"\0", b"x", b"\0\0\0x"]), st.sampled_from([1, 100, BLOCK - 1, BLOCK, 3 * BLOCK])),
    max_size=6,
)


@given(PIECES, st.integers(0, 3 * BLOCK))
def test_holes_are_whole_aligned_blocks_of_zeros(pieces, position):
    """Whatever the data and their place; what is left to write and the holes are all of it."""
    data = b"".join((pattern * length)[:length] for pattern, length in pieces)
    rest = memoryview(data)
    while rest:
        is_hole, length = leading_run(rest, position)
        assert 0 < length <= len(rest)
        if is_hole:
            assert position % BLOCK == 0
            assert length % BLOCK == 0
            assert not any(rest[:length])
        position += length
        rest = rest[length:]


@pytest.mark.parametrize("end", [b"", b"\0" * 10, b"end"])
def test_an_output_with_long_runs_of_zeros_is_sparse(tmp_path, end):
    """It has the same content and size, also where it ends with a hole, and takes little room on the disk."""
    data = b"begin" + bytes(8 << 20) + b"middle" + bytes(4 << 20) + end
    (tmp_path / "x").write_bytes(data)
    item = file_item(tmp_path / "x", tmp_path / "y")
    run_item([WriteStage()], item, serial=True)
    publish(item)
    assert (tmp_path / "y").read_bytes() == data
    assert item.bytes_written == len(data)
    if os.statvfs(tmp_path).f_bsize <= BLOCK:
        assert (tmp_path / "y").stat().st_blocks * 512 < len(data) // 4


def test_a_sparse_source_is_read_as_the_zeros_it_has(tmp_path):
    """And an output that is all zeros has its size."""
    with open(tmp_path / "x", "wb") as file:
        file.truncate(5 << 20)
    item = file_item(tmp_path / "x", tmp_path / "y")
    run_item([WriteStage()], item, serial=True)
    publish(item)
    assert (tmp_path / "y").read_bytes() == bytes(5 << 20)


def test_small_files_in_batches_have_their_holes_too(tmp_path):
    """As if each had been alone."""
    contents = {"a": bytes(2 << 20), "b": b"begin" + bytes(1 << 20) + b"end", "c": b"", "d": os.urandom(3 * BLOCK)}
    for name, data in contents.items():
        (tmp_path / f"{name}.zst").write_bytes(zstandard.compress(data))
    assert mpp("run", "unzstd", *(f"{name}.zst" for name in contents), cwd=tmp_path).returncode == 0
    assert {name: (tmp_path / name).read_bytes() for name in contents} == contents
    if os.statvfs(tmp_path).f_bsize <= BLOCK:
        assert (tmp_path / "a").stat().st_blocks * 512 <= 2 * BLOCK
        assert (tmp_path / "b").stat().st_blocks * 512 <= 2 * BLOCK
