"""How outputs are called."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpp_stages.byte_stage import ByteStage
from mpp_stages.naming import OutputNamer, kept_path, target_path
from mpp_stages.unzstd import UnzstdStage
from mpp_stages.write import WriteStage
from mpp_stages.zstd import ZstdStage

NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: not {0, ord("/")} & set(name) and name not in (b".", b"..")
)


@pytest.mark.parametrize(
    ("source", "stages", "target"),
    [
        ("x", [ZstdStage(), WriteStage()], "x.zst"),
        ("a.b/x.tar", [ZstdStage(), WriteStage()], "a.b/x.tar.zst"),
        ("/a/x.zst", [UnzstdStage(), WriteStage()], "/a/x"),
        ("x.tar.zst", [UnzstdStage(), WriteStage()], "x.tar"),
        ("x.tzst", [UnzstdStage(), WriteStage()], "x.tar"),
        ("x.tzst", [UnzstdStage(), ZstdStage(), WriteStage()], "x.tar.zst"),
        ("x.zst", [ZstdStage(), WriteStage()], "x.zst.zst"),
        ("x", [ZstdStage(), WriteStage(suffix=".backup")], "x.backup"),
        ("x", [UnzstdStage(), WriteStage(suffix=".out")], "x.out"),
        ("x", [ZstdStage(), ZstdStage(), WriteStage()], "x.zst.zst"),
        ("x\n\udcff", [ZstdStage(), WriteStage()], "x\n\udcff.zst"),
    ],
)
def test_a_target_is_named_by_the_stages_in_order(source, stages, target):
    """Each stage adds or takes off its suffix; one given to write replaces all that."""
    assert target_path(source, stages) == target


@pytest.mark.parametrize("source", ["x", "x.zs", ".zst", "d/.zst", ".tzst", "x.ZST", "x.zst.gz"])
def test_a_name_without_the_suffix_to_take_off_is_refused(source):
    """The message names stage, file and suffix."""
    with pytest.raises(ValueError, match=r"stage 'unzstd': .*\*\.zst or \.tzst"):
        target_path(source, [UnzstdStage(), WriteStage()])


def test_an_output_is_never_called_like_its_input_in_the_same_folder():
    """Without any suffix there is no name, unless the output goes elsewhere."""
    with pytest.raises(ValueError, match="'d/x': the output would have the input's name"):
        target_path("d/x", [WriteStage()])
    assert target_path("d/x", [WriteStage()], elsewhere=True) == "d/x"


@pytest.mark.parametrize("source", ["", "d/", "/"])
def test_what_has_no_last_part_has_no_target(source):
    """A path that ends in a slash names a folder."""
    with pytest.raises(ValueError, match="names a folder"):
        target_path(source, [ZstdStage(), WriteStage()])


@given(NAMES)
def test_any_bytes_in_a_name_come_back_unchanged(name):
    """Compressing and decompressing give the first name, whatever its bytes."""
    source = os.path.join("d", os.fsdecode(name))
    packed = target_path(source, [ZstdStage(), WriteStage()])
    assert os.fsencode(packed) == b"d/" + name + b".zst"
    assert target_path(packed, [UnzstdStage(), WriteStage()]) == source


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("a/b", "a/b"),
        ("a//b/", "a/b"),
        ("./a/b", "a/b"),
        ("/a/b", "a/b"),
        ("../a", "a"),
        ("a/../../b", "b"),
        ("../../..", ""),
        ("a/b/.", ""),
        ("/data/./a/b", "a/b"),
        ("./data/./a", "a"),
        ("a/./../b", "b"),
        (".", ""),
        ("..", ""),
        ("/", ""),
        ("...", "..."),
        ("a/..b/c", "a/..b/c"),
    ],
)
def test_the_kept_part_of_a_path_never_leads_out(path, kept):
    """Roots and everything up to the last ``..`` are taken off; a ``.`` within marks where it begins."""
    assert kept_path(path) == kept


@given(st.text(alphabet="a./", max_size=20))
def test_no_path_leads_out_of_an_output_folder(path):
    """Whatever dots and slashes it has."""
    kept = kept_path(path)
    assert not kept.startswith("/")
    assert not {"", ".", ".."} & set(kept.split("/")) or kept == ""


@pytest.mark.parametrize(
    ("stages", "added", "is_one_to_one", "left_alone"),
    [
        ([ZstdStage(), WriteStage()], ".zst", True, "x.zst"),
        ([ZstdStage(), WriteStage(suffix=".bak")], ".bak", True, "x.bak"),
        ([UnzstdStage(), WriteStage()], "", False, "x"),
        ([UnzstdStage(), ZstdStage(), WriteStage()], ".zst", False, "x"),
        ([WriteStage()], "", True, None),
    ],
)
def test_what_looks_done_is_known_by_its_name(stages, added, is_one_to_one, left_alone):
    """In a folder a second run must not compress the outputs of the first, nor decompress what it made."""
    namer = OutputNamer(stages)
    assert (namer.added, namer.is_one_to_one) == (added, is_one_to_one)
    assert left_alone is None or namer.why_not_found(left_alone) is not None
    assert namer.why_not_found("x.tzst") is None


@given(NAMES.map(os.fsdecode))
def test_a_namer_gives_what_target_path_gives(name):
    """One answer, asked once a file or once a run."""
    stages = [ZstdStage(), WriteStage()]
    assert os.path.join("d", OutputNamer(stages).name_for(name)) == target_path(os.path.join("d", name), stages)


def test_suffixes_that_are_no_mapping_are_refused_with_the_class():
    """What a stage's author writes by mistake, for one suffix alone."""
    with pytest.raises(TypeError, match=r"Torn.strips_suffixes must be a mapping"):
        type("Torn", (ByteStage,), {"strips_suffixes": (".torn",)})
