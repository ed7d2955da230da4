"""Patterns of --include and --exclude, held against git's."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from mpp_cli.inputs.found import Folder
from mpp_cli.inputs.patterns import PathFilter, Pattern, PatternError


def folder(inside: str, path_filter: PathFilter) -> Folder:
    return Folder("", "/", "/", inside, "", path_filter.verdict_of_folder(inside))


def takes(path_filter: PathFilter, path: str) -> bool:
    """Whether a file at ``path`` below the named folder is found and taken."""
    head, slash, base = path.rpartition("/")
    above = folder(head + slash, path_filter)
    return above.verdict is not False and path_filter.takes_file(above, base)


@pytest.mark.parametrize(
    ("pattern", "matched", "not_matched"),
    [
        ("*.log", ["a.log", "d/e/a.log", ".log", "a\n.log", "\udcff.log"], ["a.log.1", "log", "a.LOG"]),
        ("a?c", ["abc", "a\udcffc", "a\nc"], ["ac", "abbc"]),
        ("/*.log", ["a.log"], ["d/a.log"]),
        ("d/*.log", ["d/a.log"], ["e/d/a.log", "d/e/a.log"]),
        ("d/**/a", ["d/a", "d/e/a", "d/e/f/a"], ["a", "e/d/a"]),
        ("**/d/a", ["d/a", "e/f/d/a"], ["xd/a"]),
        ("d/**", ["d/a", "d/e/a"], ["d", "e/d/a"]),
        ("cache/", ["cache/a", "d/cache/e/a"], ["cache", "d/cache"]),
        ("cache", ["cache", "cache/a", "d/cache/a"], ["cached"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "[a-c]x"]),
        ("[!a-c]x", ["dx"], ["ax", "x"]),
        ("[]]", ["]"], ["["]),
        ("\\*", ["*"], ["a"]),
        ("a+(b)", ["a+(b)"], ["aab"]),
    ],
)
def test_a_pattern_matches_as_in_gitignore(pattern, matched, not_matched):
    """Anchored by a slash, else at any depth; with a slash at the end for folders alone."""
    leaves_out = PathFilter([Pattern(pattern, takes=False)])
    assert [path for path in matched if takes(leaves_out, path)] == []
    assert [path for path in not_matched if not takes(leaves_out, path)] == []


def test_the_last_pattern_that_matches_decides():
    """Includes and excludes in the order in which they were given."""
    path_filter = PathFilter([Pattern("*.log", False), Pattern("keep*", True), Pattern("*.tmp.log", False)])
    assert takes(path_filter, "keep.log")
    assert not takes(path_filter, "keep.tmp.log")
    assert not takes(path_filter, "x.log")


def test_with_an_include_what_nothing_matches_is_left_out():
    """Without one it is taken; a folder that is included brings all that is in it."""
    assert takes(PathFilter([Pattern("*.tmp", False)]), "x")
    only = PathFilter([Pattern("*.log", True), Pattern("src/", True), Pattern("*.o", False)])
    assert [path for path in ("x", "d/x.log", "src/d/x", "src/x.o", "d/x") if takes(only, path)] == [
        "d/x.log",
        "src/d/x",
    ]


def test_nothing_in_an_excluded_folder_is_taken():
    """It is not entered, whatever its files are called."""
    path_filter = PathFilter([Pattern("cache/", False), Pattern("*.log", True)])
    assert not takes(path_filter, "d/cache/x.log")
    assert takes(path_filter, "d/x.log")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "at least one"),
        ("/", "at least one"),
        ("[a", "no ']'"),
        ("a\\", "nothing after"),
        ("[[:alpha:]]", "not supp"),
    ],
)
def test_a_pattern_without_a_meaning_is_refused(pattern, words):
    """Rather than matching nothing in silence."""
    with pytest.raises(PatternError, match=words):
        Pattern(pattern, takes=True)


PARTS = [
    "a",
    "b",
    "ab",
    "*",
    "**",
    "?",
    "[ab]",
    "[!a]",
    "a*",
    "*b",
    "a?",
    "*.log",
    "-",
    "[a-b]x",
    "[]a]",
    "[^b-]",
    "c\\d",
]
NAMES = ["a", "b", "ab", "x.log", "a-", "bx", "-", "cd", "]", "axb"]


def some_patterns(choose: random.Random) -> list[tuple[str, bool]]:
    found = []
    for _ in range(choose.randint(1, 4)):
        text = "/".join(choose.choice(PARTS) for _ in range(choose.randint(1, 3)))
        text = choose.choice(["", "", "", "/", "**/"]) + text + choose.choice(["", "", "", "/"])
        found.append((text, choose.random() < 0.3))
    return found


def test_random_patterns_decide_as_git_does(tmp_path, require_tool):
    """The same lists, as ``.gitignore`` and as options, leave the same files out."""
    require_tool("git")
    choose = random.Random(20)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for _ in range(150):
        path = tmp_path.joinpath(*(choose.choice(NAMES) for _ in range(choose.randint(1, 4))))
        if not any(above.is_file() for above in [path, *path.parents]) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    files = sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file() and ".git" not in path.parts
    )
    for number in range(30):
        patterns = some_patterns(choose)
        (tmp_path / ".gitignore").write_text("".join(f"{'!' * takes}{text}\n" for text, takes in patterns))
        path_filter = PathFilter([Pattern(text, takes) for text, takes in patterns])
        ours = {path for path in files if leaves_out(path_filter, path)}
        theirs = ignored_by_git(tmp_path, files)
        assert ours == theirs, (number, patterns)


def leaves_out(path_filter: PathFilter, path: str) -> bool:
    """As :func:`takes`, but what nothing decides is kept, as git keeps it."""
    head, slash, base = path.rpartition("/")
    verdict = path_filter.verdict_of_folder(head + slash)
    if verdict is not False:
        own = path_filter.verdict(base, head + slash, is_folder=False)
        verdict = verdict if own is None else own
    return verdict is False


def ignored_by_git(checkout: Path, files: list[str]) -> set[str]:
    done = subprocess.run(
        ["git", "-C", checkout, "check-ignore", "--no-index", "-z", "--stdin"],
        input="\0".join(files).encode(),
        capture_output=True,
        env=os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"},
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return set(filter(None, done.stdout.decode().split("\0")))
