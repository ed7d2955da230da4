"""What is found for the inputs of a command line, and when."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpp_cli.inputs.finder import Candidate, InputFinder, Search
from mpp_cli.inputs.found import IS_LINK, IS_OURS, IS_REPEATED, IS_SPECIAL, Folder, FoundFile, NotYet, Refused, Skipped
from mpp_cli.inputs.patterns import PathFilter, Pattern
from mpp_cli.inputs.seen import SeenNames

ODD_NAMES = [b"line\nend", b"\xff\xfe", b"-dash", b" blank ", b"a" * 255, "ü".encode(), b"*", b"\\"]


def search_for(
    *inputs: str, list_descriptor: int | None = None, pruned: tuple[str, ...] = (), **options: object
) -> list[Candidate]:
    """All that is found."""

    def output_folders(root: Folder) -> tuple[str, ...]:
        return pruned

    search = Search(inputs, **options)  # type: ignore[arg-type]
    return list(InputFinder(search, output_folders, list_descriptor).candidates())


def names(found: list[Candidate]) -> list[str]:
    """Names of what is taken, none of which is found twice."""
    assert all(isinstance(one, FoundFile) for one in found), found
    return [one.name for one in found if isinstance(one, FoundFile)]


def make_tree(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(file.encode())


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A folder to stand in, with a small tree ``d``."""
    monkeypatch.chdir(tmp_path)
    make_tree(tmp_path, "d/b", "d/a", "d/c/x", "d/c/e/y", ".hidden")
    return tmp_path


# -- folders


def test_a_folder_is_walked_in_the_order_of_names(tree):
    """Every file below it, under the name by which the folder was named."""
    assert names(search_for("d", recursive=True)) == ["d/a", "d/b", "d/c/e/y", "d/c/x"]
    assert names(search_for("./d/", recursive=True)) == ["./d/a", "./d/b", "./d/c/e/y", "./d/c/x"]
    assert names(search_for(".", recursive=True))[0] == "./.hidden"
    assert search_for("d", recursive=True)[0].path == str(tree / "d/a")  # type: ignore[union-attr]


def test_a_folder_without_recursive_is_an_error_that_names_the_option(tree):
    """Other inputs are found all the same."""
    refused, found = search_for("d", ".hidden")
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, IsADirectoryError)
    assert "--recursive" in str(refused.error)
    assert names([found]) == [".hidden"]


def test_any_bytes_may_stand_in_names_of_a_tree(tree):
    """Newlines, no UTF-8, 255 bytes."""
    for name in ODD_NAMES:
        (tree / "odd" / os.fsdecode(name)).parent.mkdir(exist_ok=True)
        (tree / "odd" / os.fsdecode(name)).touch()
    found = names(search_for("odd", recursive=True))
    assert sorted(map(os.fsencode, found)) == sorted(b"odd/" + name for name in ODD_NAMES)


def test_links_in_a_tree_are_neither_followed_nor_taken(tree):
    """Loops of them end nowhere; one to a file is not a second file."""
    (tree / "d/loop").symlink_to("..")
    (tree / "d/link").symlink_to("a")
    (tree / "d/dangling").symlink_to("nothing")
    found = search_for("d", recursive=True)
    skipped = [one for one in found if isinstance(one, Skipped)]
    assert [one.reason for one in skipped] == [IS_LINK] * 3
    # Events tell them by their paths, as everything that has one.
    assert sorted(str(one.source_path) for one in skipped) == [
        str(tree / "d" / name) for name in ("dangling", "link", "loop")
    ]
    assert names([one for one in found if isinstance(one, FoundFile)]) == ["d/a", "d/b", "d/c/e/y", "d/c/x"]


def test_named_links_are_followed(tree):
    """To a folder and to a file; a dangling one is an error."""
    (tree / "folder").symlink_to("d/c")
    (tree / "file").symlink_to("d/a")
    (tree / "dangling").symlink_to("nothing")
    assert names(search_for("folder", "file", recursive=True)) == ["folder/e/y", "folder/x", "file"]
    (refused,) = search_for("dangling")
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, FileNotFoundError)


def test_special_files_are_left_alone_in_a_tree_and_never_opened(tree):
    """A FIFO without a writer would block for ever."""
    os.mkfifo(tree / "d/fifo")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind("d/socket")
        found = search_for("d", recursive=True)
    assert [(one.name, one.reason) for one in found if isinstance(one, Skipped)] == [
        ("d/fifo", IS_SPECIAL),
        ("d/socket", IS_SPECIAL),
    ]


def test_a_folder_that_cannot_be_read_is_one_failure(tree):
    """Named, and everything beside it is found. (Root may read all modes: a path that is too long cannot be.)"""
    deep = tree / "d/m"
    deep.mkdir()
    descriptor = os.open(deep, os.O_RDONLY)
    for _ in range(17):  # 17 × 250 bytes are more than a path may have
        os.mkdir("n" * 250, dir_fd=descriptor)
        below = os.open("n" * 250, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    make_tree(tree, "d/z")
    found = search_for("d", recursive=True)
    (refused,) = [one for one in found if isinstance(one, Refused)]
    assert isinstance(refused.error, OSError)
    assert refused.error.errno == errno.ENAMETOOLONG
    assert names([one for one in found if isinstance(one, FoundFile)]) == ["d/a", "d/b", "d/c/e/y", "d/c/x", "d/z"]


def test_temporaries_are_never_inputs(tree):
    """Neither found nor named, for a list may name what this very run is writing."""
    make_tree(tree, "d/.mpp-1-ab.tmp")
    assert names(search_for("d", "d/.mpp-1-ab.tmp", "d/.mpp-1-gone.tmp", recursive=True)) == [
        "d/a",
        "d/b",
        "d/c/e/y",
        "d/c/x",
    ]


def test_where_outputs_go_is_not_entered(tree):
    """With ``--output-dir`` inside of the tree."""
    *found, skipped = search_for("d", recursive=True, pruned=(f"{os.path.realpath(tree)}/d/c/",))
    assert names(found) == ["d/a", "d/b"]
    assert skipped == Skipped("d/c/", IS_OURS)


def test_a_large_folder_is_found_whole(tree):
    """It comes in several portions, or where the order is asked for, in one."""
    (tree / "large").mkdir()
    for number in range(10_000):
        os.mknod(tree / "large" / f"{number:05}")
    found = search_for("large", recursive=True)
    assert len({one.name for one in found if isinstance(one, FoundFile)}) == 10_000
    in_order = names(search_for("large", recursive=True, in_order=True))
    assert in_order == sorted(in_order)


def test_nothing_is_looked_at_before_it_is_asked_for(tree):
    """What appears in a folder that comes later is found."""
    make_tree(tree, "e/last")
    candidates = InputFinder(Search(("d", "e"), recursive=True), lambda root: ()).candidates()
    first = next(candidates)
    make_tree(tree, "d/c/e/later", "e/later")
    rest = list(candidates)
    assert names([first, *rest]) == ["d/a", "d/b", "d/c/e/later", "d/c/e/y", "d/c/x", "e/last", "e/later"]


# -- patterns


def test_patterns_decide_in_trees_and_for_named_files(tree):
    """A folder that is left out is not entered; a named file is judged by its name and its folders."""
    path_filter = PathFilter([Pattern("c/", takes=False), Pattern("b", takes=False)])
    assert names(search_for("d", recursive=True, path_filter=path_filter)) == ["d/a"]
    assert names(search_for("d/a", "d/b", "d/c/x", ".hidden", path_filter=path_filter)) == ["d/a", ".hidden"]


def test_an_anchored_pattern_begins_at_the_named_folder(tree):
    """Wherever that folder is."""
    path_filter = PathFilter([Pattern("/c/e", takes=False)])
    assert names(search_for("d", recursive=True, path_filter=path_filter)) == ["d/a", "d/b", "d/c/x"]
    assert names(search_for(f"{tree}/d", recursive=True, path_filter=path_filter)) == [
        f"{tree}/d/a",
        f"{tree}/d/b",
        f"{tree}/d/c/x",
    ]


# -- once


def test_a_file_that_is_listed_twice_is_found_once(tree):
    """By whatever way it is named; another hard link is another name."""
    os.link("d/a", "d/hard")
    (tree / "l").symlink_to("d")
    found = search_for("d/a", "./d/../d/a", f"{tree}/d/a", "l/a", "d/hard")
    assert [one.name for one in found if isinstance(one, FoundFile)] == ["d/a", "d/hard"]
    assert [one.reason for one in found if isinstance(one, Skipped)] == [IS_REPEATED] * 3


def test_overlapping_folders_are_found_once(tree):
    """``d`` and a folder in it."""
    found = search_for("d/c", "d", recursive=True)
    assert [one.name for one in found if isinstance(one, FoundFile)] == ["d/c/e/y", "d/c/x", "d/a", "d/b"]


def test_seen_names_are_told_from_new_ones():
    """Before buckets are split, while they are, and when all have been."""
    seen = SeenNames(first_buckets=256)
    for first in range(0, 40_000, 8_000):
        more = range(first, first + 8_000)
        assert all(seen.add(f"name {number}") for number in more)
        assert not any(seen.add(f"name {number}") for number in more)
    assert all(f"name {number}" in seen for number in range(40_000))
    assert not any(f"other name {number}" in seen for number in range(8_000))
    assert len(seen) == 40_000


# -- lists


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's reading and writing end."""
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def test_a_list_of_names_has_one_a_line(tree):
    """Empty lines count nothing, the last needs no newline, and "-" is a file's name."""
    make_tree(tree, "-")
    (tree / "list").write_text("d/b\n\nd/a\n-")
    assert names(search_for(files_from="list")) == ["d/b", "d/a", "-"]


def test_a_list_with_zero_bytes_has_names_of_any_bytes(tree):
    """As ``find -print0`` writes."""
    for name in ODD_NAMES:
        (tree / os.fsdecode(name)).touch()
    (tree / "list").write_bytes(b"\0".join(ODD_NAMES) + b"\0")
    found = names(search_for(files_from="list", is_null_separated=True))
    assert list(map(os.fsencode, found)) == ODD_NAMES


def test_a_list_from_a_pipe_is_never_waited_for(tree, pipe):
    """While nothing has come, the search says so; half a name waits for its other half."""
    reading, writing = pipe
    candidates = InputFinder(Search((), files_from="-"), lambda root: (), reading).candidates()
    assert next(candidates) == NotYet(reading)
    os.write(writing, b"d/a\nd/")
    assert names([next(candidates)]) == ["d/a"]
    assert next(candidates) == NotYet(reading)
    os.write(writing, b"b\n")
    assert names([next(candidates)]) == ["d/b"]
    os.close(writing)
    assert list(candidates) == []


@pytest.mark.parametrize(
    ("content", "is_null_separated", "words"),
    [(b"d/a\nx\0y\n", False, "give --null"), (b"d/a\nd/b\n" * 20_000, True, "leave out --null")],
)
def test_a_list_with_the_other_separator_is_refused(tree, content, is_null_separated, words):
    """The message names the option."""
    (tree / "list").write_bytes(content)
    found = search_for(files_from="list", is_null_separated=is_null_separated)
    assert isinstance(found[-1], Refused)
    assert words in str(found[-1].error)


@pytest.mark.parametrize(("name", "number"), [("nowhere", errno.ENOENT), ("d", errno.EISDIR)])
def test_a_list_that_cannot_be_read_is_an_error(tree, name, number):
    """By its name."""
    (refused,) = search_for(files_from=name)
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, OSError)
    assert (refused.name, refused.error.errno) == (name, number)


def test_special_files_in_a_list_are_refused(tree):
    """A list is found by a program, and nobody means to read its FIFOs."""
    os.mkfifo("fifo")
    (tree / "list").write_text("fifo\nnowhere\nd\nd/a\n")
    fifo, nowhere, folder, found = search_for(files_from="list")
    for refused, number in ((fifo, errno.EINVAL), (nowhere, errno.ENOENT), (folder, errno.EISDIR)):
        assert isinstance(refused, Refused)
        assert isinstance(refused.error, OSError)
        assert refused.error.errno == number
    assert names([found]) == ["d/a"]
