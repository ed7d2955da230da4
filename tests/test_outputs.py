"""Where outputs go, what forbids it, and what two inputs with one output come to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from mpp_stages.naming import OutputNamer
from mpp_stages.unzstd import UnzstdStage
from mpp_stages.write import WriteStage
from mpp_stages.zstd import ZstdStage

from mpp_cli.inputs.finder import InputFinder, Search
from mpp_cli.inputs.found import EXISTS, IS_OURS, IS_REPEATED, FoundFile, Skipped
from mpp_cli.outputs import NamedTarget, Outputs, TargetTaken

PACK = (ZstdStage(), WriteStage())
UNPACK = (UnzstdStage(), WriteStage())
COPY = (WriteStage(),)


class OnlyZst(UnzstdStage):
    """Takes off one suffix alone, so that no two names become one."""

    strips_suffixes: ClassVar = {".zst": ""}


def outputs_of(stages: Sequence[Any] = PACK, **options: Any) -> Outputs:
    settings: dict[str, Any] = {"output_dir": None, "force": False, "skip_existing": False, "may_collide": True}
    return Outputs(OutputNamer(stages), **settings | options)


def found(*names: str) -> list[FoundFile]:
    """Files of these names, made where they are missing."""
    for name in names:
        Path(os.path.dirname(name) or ".").mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    candidates = list(InputFinder(Search(names), lambda root: ()).candidates())
    assert all(isinstance(one, FoundFile) for one in candidates), candidates
    return candidates  # type: ignore[return-value]


def in_tree(root: str) -> list[FoundFile]:
    candidates = InputFinder(Search((root,), recursive=True), lambda root: ()).candidates()
    return [one for one in candidates if isinstance(one, FoundFile)]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(os.path.realpath(tmp_path))


def test_an_output_stands_beside_its_source(here):
    """Shown as the input was named; the path to write is absolute."""
    (one,) = found("d/x")
    assert outputs_of().target_of(one) == NamedTarget("d/x.zst", f"{here}/d/x.zst")


def test_an_output_folder_keeps_the_tree(here):
    """Below it the path stands as it was named, its root and ``..`` taken off."""
    names = ["d/e/x", "./d/y", f"{here}/d/z", "d/../../" + here.name + "/w"]
    outputs = outputs_of(output_dir="out")
    targets = [outputs.target_of(one) for one in found(*names)]
    assert [target.final for target in targets if isinstance(target, NamedTarget)] == [
        f"{here}/out/d/e/x.zst",
        f"{here}/out/d/y.zst",
        f"{here}/out{here}/d/z.zst",
        f"{here}/out/{here.name}/w.zst",
    ]
    assert not os.path.exists("out"), "nothing is made before a job is"


@pytest.mark.parametrize(("root", "target"), [("d", "out/d/e/x"), ("d/.", "out/e/x"), ("./d/./e", "out/e/x")])
def test_a_named_folder_is_kept_or_not(here, root, target):
    """As cp does: the folder itself, or with ``/.`` only what is in it."""
    found("d/e/x")
    (one,) = in_tree(root)
    assert outputs_of(COPY, output_dir="out").target_of(one) == NamedTarget(target, f"{here}/{target}")


def test_folders_are_made_below_the_output_folder(here):
    """All that are missing, and no more."""
    (one,) = found("d/e/x")
    outputs_of(output_dir="o/u/t").make_ready(one)
    assert [path.as_posix() for path in Path("o").rglob("*")] == ["o/u", "o/u/t", "o/u/t/d", "o/u/t/d/e"]


@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
def test_a_link_in_the_output_folder_does_not_lead_out(here, kind):
    """Nothing is made or written where it leads."""
    (here / "elsewhere").mkdir()
    (here / "out/d").mkdir(parents=True)
    if kind == "file":
        (here / "out/d/e").touch()
    else:
        (here / "out/d/e").symlink_to(here / ("elsewhere" if kind == "link" else "nowhere"))
    (one,) = found("d/e/f/x")
    with pytest.raises(NotADirectoryError) as caught:
        outputs_of(output_dir="out").make_ready(one)
    assert caught.value.filename == "out/d/e"
    assert os.listdir("elsewhere") == []
    assert not os.path.exists("nowhere")


def test_the_output_folder_itself_may_be_a_link(here):
    """The user named it."""
    (here / "real").mkdir()
    (here / "out").symlink_to("real")
    (one,) = found("d/x")
    outputs_of(output_dir="out").make_ready(one)
    assert os.path.isdir("real/d")


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link", "fifo"])
@pytest.mark.parametrize("force", [False, True])
def test_what_is_there_is_replaced_only_if_it_is_a_file_and_with_force(here, kind, force):
    """A name that the user did not give leads through no link and to no device."""
    (one,) = found("x")
    make_existing(here / "x.zst", kind)
    outputs = outputs_of(force=force)
    if kind == "file" and force:
        assert isinstance(outputs.target_of(one), NamedTarget)
        return
    error = IsADirectoryError if kind == "folder" else FileExistsError
    with pytest.raises(error) as caught:
        outputs.target_of(one)
    assert caught.value.filename == "x.zst"


def make_existing(path: Path, kind: str) -> None:
    if kind == "file":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("x" if kind == "link" else "nothing")


def test_an_input_whose_output_is_there_is_skipped_if_that_is_wanted(here):
    """Whatever is there; the others are done."""
    one, other = found("x", "y")
    (here / "x.zst").touch()
    outputs = outputs_of(skip_existing=True)
    assert outputs.target_of(one) == Skipped("x", EXISTS, f"{here}/x", f"{here}/x.zst")
    assert isinstance(outputs.target_of(other), NamedTarget)


def test_of_two_inputs_with_one_output_the_second_fails(here):
    """By force too; the first is done."""
    outputs = outputs_of(UNPACK, force=True)
    first, second, other = found("x.tar.zst", "x.tzst", "y.zst")
    assert isinstance(outputs.target_of(first), NamedTarget)
    with pytest.raises(TargetTaken, match=r"'x\.tar'"):
        outputs.target_of(second)
    assert isinstance(outputs.target_of(other), NamedTarget)


def test_collisions_of_named_inputs_are_all_told(here):
    """Whatever makes them one: suffixes, or the folder that is taken off."""
    files = found("x.tar.zst", "x.tzst", "y.zst")
    assert outputs_of(UNPACK).collisions(files) == ["'x.tar.zst' and 'x.tzst' have the same output 'x.tar'"]
    files = found("d/x", f"d/../../{here.name}/x", f"{here.name}/x")
    words = outputs_of(COPY, output_dir="out").collisions(files)
    assert words == [f"'d/../../{here.name}/x' and '{here.name}/x' have the same output 'out/{here.name}/x'"]


def test_an_output_of_this_run_is_no_input(here):
    """A list made by ``find`` while the run goes on names them too."""
    outputs = outputs_of()
    first, second = found("x", "x.zst")
    os.unlink("x.zst")
    assert isinstance(outputs.target_of(first), NamedTarget)
    assert outputs.target_of(second) == Skipped("x.zst", IS_OURS, f"{here}/x.zst")


def test_a_file_that_comes_again_is_noticed_by_its_output(here):
    """Where no two files have one output, no names of inputs are remembered for that; one without an output too."""
    outputs = outputs_of((OnlyZst(), WriteStage()))
    assert outputs.tells_repeated
    one, other = found("x.zst", "y")
    assert isinstance(outputs.target_of(one), NamedTarget)
    assert outputs.target_of(one) == Skipped("x.zst", IS_REPEATED, f"{here}/x.zst")
    assert not outputs.has_no_output(other)
    assert outputs.has_no_output(other)
    assert not outputs_of(UNPACK).tells_repeated
    assert not outputs_of(output_dir="out").tells_repeated


def test_where_no_output_was_there_each_is_not_asked_for_again(here):
    """Unless it is much work, or another run's output would be no failure; a folder that was not looked at is."""
    small, large = found("d/x", "d/large")
    (elsewhere,) = found("e/x")
    os.truncate("d/large", 2 << 20)
    (large,) = found("d/large")
    outputs, skipping = outputs_of(), outputs_of(skip_existing=True)
    for one in (outputs, skipping):
        one.note_folder(small.folder, is_empty=True)
    found("d/x.zst", "d/large.zst", "e/x.zst")
    assert isinstance(outputs.target_of(small), NamedTarget)
    assert isinstance(skipping.target_of(small), Skipped)
    for one in (large._replace(folder=small.folder), elsewhere):
        with pytest.raises(FileExistsError):
            outputs.target_of(one)
    other = outputs_of()
    other.note_folder(small.folder, is_empty=True)
    other.note_folder(elsewhere.folder, is_empty=True)
    with pytest.raises(FileExistsError):
        other.target_of(small)


def test_what_looks_done_is_passed_over_in_a_tree_but_not_where_it_is_named(here):
    """``x.zst`` is compressed again only by its name, as zstd does."""
    found("d/x.zst")
    (in_the_tree,), (named,) = in_tree("d"), found("d/x.zst")
    assert outputs_of().target_of(in_the_tree) == Skipped("d/x.zst", "called *.zst already", f"{here}/d/x.zst")
    assert outputs_of().target_of(named) == NamedTarget("d/x.zst.zst", f"{here}/d/x.zst.zst")


def test_without_the_suffix_to_take_off_a_file_in_a_tree_is_passed_over(here):
    """A named one fails."""
    found("d/x")
    (in_the_tree,), (named,) = in_tree("d"), found("d/x")
    assert isinstance(outputs_of(UNPACK).target_of(in_the_tree), Skipped)
    with pytest.raises(ValueError, match=r"'d/x' is not called \*\.zst or \.tzst"):
        outputs_of(UNPACK).target_of(named)


@pytest.mark.parametrize("output_dir", [None, ".", "link"])
def test_an_output_never_takes_its_source_s_place(here, output_dir):
    """Beside it, or through an output folder that is the source's own."""
    (here / "link").symlink_to(".")
    (one,) = found("d/x")
    with pytest.raises(ValueError, match="the output would have the input's name"):
        outputs_of(COPY, output_dir=output_dir, force=True).target_of(one)


def test_folders_that_outputs_go_to_are_told(here):
    """The walk must not enter them."""
    found("d/x")
    (one,) = in_tree("d")
    assert list(outputs_of().folders_below(one.folder)) == []
    real = os.path.realpath(here)
    assert set(outputs_of(output_dir="out").folders_below(one.folder)) == {f"{real}/out/", f"{real}/out/d/"}
