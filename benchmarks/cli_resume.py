"""What it takes to see that 100,000 files are done, and what being watched costs a file. All is in tmpfs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Final

from mpp_cli.events.observer import JsonEvents
from mpp_cli.journal.journal import open_journal
from mpp_cli.journal.records import Header
from mpp_cli.line_writer import LineWriter
from mpp_cli.observers import ItemResult

from . import programs
from .table import Row, at_most

FILES: Final = 100_000
FILES_A_FOLDER: Final = 1_000
MAX_RESUME_S: Final = 3.0
MAX_PARENT_MIB: Final = 90.0
MAX_WATCHER_US: Final = 15.0
_CALLS: Final = 20_000


def run(rounds: int, _seconds: float) -> list[Row]:
    """Best of the rounds: the others measure what else the machine does."""
    with programs.folder_in_memory() as folder:
        for number in range(FILES):
            if number % FILES_A_FOLDER == 0:
                (folder / f"in/{number // FILES_A_FOLDER:03}").mkdir(parents=True)
            (folder / f"in/{number // FILES_A_FOLDER:03}/{number:06}.log").write_bytes(b"line %d\n" % number * 20)
        command = [
            *programs.mpp(), "run", "zstd", "-r", f"{folder}/in", "--output-dir", f"{folder}/out",
            "--journal", f"{folder}/journal", "--resume", "--progress", "none",
        ]  # fmt: skip
        first = programs.usage(command)
        resumed = [programs.usage(command) for _ in range(rounds)]
        watchers = {
            "--json": min(_events_us(folder / "events") for _ in range(rounds)),
            "--journal": min(_journal_us(folder / "small journal") for _ in range(rounds)),
        }
    work = f"--resume over {FILES:,} finished files"
    return [
        Row(
            work,
            "s",
            min(usage.seconds for usage in resumed),
            "the first run",
            first.seconds,
            at_most(MAX_RESUME_S, "s"),
        ),
        Row(f"{work}, memory", "MiB", max(usage.peak_mib for usage in resumed), target=at_most(MAX_PARENT_MIB, "MiB")),
        *(
            Row(f"{option}, a file", "µs", figure, target=at_most(MAX_WATCHER_US, "µs"))
            for option, figure in watchers.items()
        ),
    ]


def _events_us(path: Path) -> float:
    writer = LineWriter(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), lambda: True)
    events = JsonEvents(writer, _raise)
    result = ItemResult("d001/file-000001.py", "/x/d001/file-000001.py", "d001/file-000001.py.zst", "done", 9, 5, 0.001)
    started = time.process_time()
    for _ in range(_CALLS):
        events.item_ended(result)
    taken = time.process_time() - started
    writer.close()
    return taken / _CALLS * 1e6


def _journal_us(path: Path) -> float:
    from mpp_stages.file_item import FileItem, PathSource, PathTarget

    from mpp_cli.journal.observer import JournalKeeper

    path.unlink(missing_ok=True)
    journal = open_journal(str(path), Header("0", [], "zstd"), is_resumed=False)
    keeper = JournalKeeper(journal, _raise)
    item = FileItem.of_paths("a", str(path), f"{path}.zst", str(path))
    item.target = PathTarget(f"{path}.zst", False, f"{path}.zst")
    item.source = PathSource(str(path))
    job = SimpleNamespace(item=item, status=os.stat(path))
    result = ItemResult("a", str(path), f"{path}.zst", "done", 9, 5, 0.001)
    started = time.process_time()
    for _ in range(_CALLS):
        keeper.before_publish(job)
        keeper.item_ended(result)
    taken = time.process_time() - started
    journal.close()
    return taken / _CALLS * 1e6


def _raise(error: OSError) -> None:
    raise error
