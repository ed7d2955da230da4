"""--remove-source: what is removed, and what never is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from mpp_stages.file_item import FileItem, PathSource, PathTarget

from mpp_cli import remove_source
from mpp_cli.jobs import Job
from mpp_cli.remove_source import SourceRemover, not_removed_line, sync_outputs


def job_for(source: Path, output: Path) -> Job:
    """A job whose output has been published."""
    source.write_bytes(b"source")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(b"output")
    item = FileItem(PathSource(str(source)), PathTarget(output.name, False, str(output)), name=source.name)
    return Job(item, False, os.stat(source))


def never() -> bool:
    return False


def test_sources_go_when_their_outputs_are_safe(tmp_path):
    """Also more than one portion of them."""
    remover = SourceRemover(str(tmp_path / "out"))
    for number in range(2500):
        remover.published(job_for(tmp_path / f"{number}", tmp_path / f"out/d{number % 7}/{number}"))
    assert remover.close(never) == []
    assert os.listdir(tmp_path) == ["out"]
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "out")) == 2500


@pytest.mark.parametrize("change", ["written", "replaced", "touched", "removed"])
def test_a_source_that_is_no_longer_what_was_read_stays(tmp_path, change):
    """It holds what no output has."""
    remover = SourceRemover(None)
    source = tmp_path / "x"
    remover.published(job_for(source, tmp_path / "x.zst"))
    if change == "written":
        source.write_bytes(b"source and more")
    elif change == "replaced":
        (tmp_path / "new").write_bytes(b"SOURCE")
        shutil.copystat(source, tmp_path / "new")
        os.replace(tmp_path / "new", source)
    elif change == "touched":
        os.utime(source, ns=(1, 1))
    else:
        source.unlink()
    (not_removed,) = remover.close(never)
    assert not_removed_line(not_removed).startswith("mpp: x: done, but not removed: ")
    assert source.exists() == (change != "removed")


@pytest.mark.parametrize("change", ["removed", "link"])
def test_a_source_whose_output_is_not_on_the_disk_stays(tmp_path, change):
    """Somebody has taken the output away, or put something else there."""
    remover = SourceRemover(None)
    remover.published(job_for(tmp_path / "x", tmp_path / "x.zst"))
    (tmp_path / "x.zst").unlink()
    if change == "link":
        (tmp_path / "x.zst").symlink_to("x")
    (not_removed,) = remover.close(never)
    assert not_removed.name == "x"
    assert (tmp_path / "x").read_bytes() == b"source"


def test_outputs_are_synced_with_their_folders(tmp_path, monkeypatch):
    """Each file, each folder once, and folders above that may be new; an error costs what is in that folder."""
    synced: list[str] = []
    really_sync = os.fsync
    bad = {str(tmp_path / "out/b")}

    def note(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.append(path)
        if path in bad:
            raise OSError(5, "Input/output error")
        really_sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    outputs = [tmp_path / "out/a/c/x", tmp_path / "out/a/c/y", tmp_path / "out/b/z"]
    for output in outputs:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.touch()
    above: set[str] = set()
    problems = sync_outputs([str(output) for output in outputs], str(tmp_path), above)
    expected = ["", "out", "out/a", "out/a/c", "out/a/c/x", "out/a/c/y", "out/b", "out/b/z"]
    assert sorted(synced) == [str(tmp_path / path) for path in expected]
    assert list(problems) == [str(tmp_path / "out/b/z")]
    synced.clear()
    sync_outputs([str(outputs[0])], str(tmp_path), above)
    assert sorted(synced) == [str(outputs[0].parent), str(outputs[0])], "what is above has been synced"


def test_a_run_that_must_end_leaves_sources_rather_than_waits(tmp_path, monkeypatch):
    """A second stop signal while a slow disk is waited for."""
    reading, writing = os.pipe()
    monkeypatch.setattr(os, "fsync", lambda descriptor: os.read(reading, 1))
    monkeypatch.setattr(remove_source, "_SYNCS_AT_ONCE", 1)
    remover = SourceRemover(None)
    remover.published(job_for(tmp_path / "x", tmp_path / "x.zst"))
    assert remover.close(lambda: True) == []
    assert (tmp_path / "x").exists()
    os.write(writing, b"12")
    assert remover.close(never) == []
    assert not (tmp_path / "x").exists()
    os.close(reading)
    os.close(writing)
