"""Who watches a run, as the command line asks for it: journal, events, report, log file."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from . import exit_codes
from .errors import FileProblem, UsageProblem, shown
from .failures import error_words
from .line_writer import LinesGivenUp, LineWriter
from .observers import Observers, RunStart, RunSummary
from .run_options import JSON_TO_STDOUT, WatchOptions
from .stdio import Stdio
from .tell import close_log, open_log, tell

if TYPE_CHECKING:
    from .inputs.found import FoundFile
    from .journal.journal import Journal
    from .outcome import Outcome
    from .planned import Definition
    from .signals import StopFlag

#: How long the reader of the events may take nothing after the first stop signal.
_PATIENCE_S: Final = 5.0
#: Values of --json that mean standard output; the first stands for none.
STDOUT_PATHS: Final = (JSON_TO_STDOUT, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


class Watch:
    """The observers of one run, and what belongs to them.

    Attributes:
        observers: In the order in which they are told: the journal first, for without its record nothing is published.
        own_files: What they write, by (st_dev, st_ino); no input of this run.
        journal: What earlier runs have done, where that is asked for.
    """

    def __init__(self, *, is_resumed: bool) -> None:
        self.observers: Observers = ()
        self.own_files: list[tuple[int, int]] = []
        self.journal: Journal | None = None
        self.is_resumed = is_resumed
        self._outcome: Outcome | None = None
        self._stop: StopFlag | None = None
        self._stopped_at_s: float | None = None
        self._is_well = True
        self._has_ended = False

    def begin(self, start: RunStart, outcome: Outcome, stop: StopFlag) -> None:
        """The run begins; ``outcome`` is told when it cannot go on, ``stop`` asked how long to wait."""
        self._outcome, self._stop = outcome, stop
        for observer in self.observers:
            observer.run_started(start)

    def end(self, summary: RunSummary) -> bool:
        """The run has ended. Says whether everybody could write it down, and tells who could not."""
        self._has_ended = True
        if self.journal is not None:
            try:
                self.journal.close()
            except OSError as ex:
                self.lost("--journal", ex)
        for observer in self.observers:
            # The events come last, with the exit status that the others have made of it.
            status = summary.exit_status if self._is_well else summary.exit_status or exit_codes.FAILED
            try:
                observer.run_ended(summary._replace(exit_status=status))
            except OSError as ex:
                self.lost("--report", ex)
        return self._is_well

    def is_done(self, found: FoundFile, final: str) -> bool:
        """Whether an earlier run has done this, and its output is still there."""
        status = found.status
        if self.journal is None or not self.is_resumed or status is None:
            return False
        return self.journal.is_done(found.path, status.st_size, status.st_mtime_ns, final)

    def may_wait(self) -> bool:
        """Whether who writes events may wait for their reader."""
        if self._stop is None or not self._stop.count:
            return True
        now_s = time.monotonic()
        if self._stopped_at_s is None:
            self._stopped_at_s = now_s
        return self._stop.count == 1 and now_s - self._stopped_at_s < _PATIENCE_S

    def lost(self, option: str, error: OSError) -> None:
        """A run that cannot be told or remembered as it was asked does not go on."""
        words = f"{option}: {error_words(error)}"
        if isinstance(error, LinesGivenUp):
            return  # the run ends already, and by a signal
        if error.errno == errno.EPIPE and self._outcome is not None:
            self._outcome.lost_reader = True
        elif self._has_ended or self._outcome is None:
            self._is_well = False
            tell(f"mpp: {words}")
        elif self._outcome.broken is None:
            self._outcome.broken = words


@contextlib.contextmanager
def watching(options: WatchOptions, definition: Definition, stdio: Stdio, goes_to_stdout: bool) -> Iterator[Watch]:
    """Open what the options ask for. A run that asks for nothing pays nothing.

    Raises:
        UsageProblem: One of them cannot be had, or makes no sense here.
    """
    _refuse_contradictions(options, goes_to_stdout)
    watch = Watch(is_resumed=options.resume)
    with contextlib.ExitStack() as stack:
        if options.log_file is not None:
            stack.callback(close_log)
            try:
                _add_own(watch, open_log(options.log_file))
            except OSError as ex:
                raise FileProblem("--log-file", options.log_file, ex) from ex
        if options.journal is not None:
            _add_journal(watch, stack, options.journal, definition)
        if options.report is not None:
            from .report.observer import ReportWriter  # a run without a report needs none of it

            watch.observers += (ReportWriter(options.report),)
            with contextlib.suppress(OSError):  # usually it is not there yet
                status = os.stat(options.report)
                watch.own_files.append((status.st_dev, status.st_ino))
        if options.json is not None:
            _add_events(watch, stack, options.json, stdio)
        yield watch


def _refuse_contradictions(options: WatchOptions, goes_to_stdout: bool) -> None:
    if options.resume and options.journal is None:
        raise UsageProblem("mpp: --resume goes on by a journal: say which one by --journal FILE")
    if options.journal is not None and goes_to_stdout:
        raise UsageProblem("mpp: --journal remembers outputs in files; what goes to standard output cannot be resumed")
    if options.json is not None and goes_to_stdout and options.json in STDOUT_PATHS:
        raise UsageProblem("mpp: --json: data goes to standard output; let the events go to a file by --json=FILE")
    named = (("--json", options.json), ("--journal", options.journal), ("--report", options.report))
    for option, name in (*named, ("--log-file", options.log_file)):
        if name == "":
            raise UsageProblem(f"mpp: {option}: an empty name is no name")
    used: dict[str, str] = {}
    for option, name in (*named, ("--log-file", options.log_file)):
        if name is None or (option == "--json" and name in STDOUT_PATHS) or name.startswith("/dev/"):
            continue
        first = used.setdefault(os.path.realpath(name), option)
        if first != option:
            raise UsageProblem(f"mpp: {first} and {option} cannot write one file, '{shown(name)}'")


def _add_journal(watch: Watch, stack: contextlib.ExitStack, path: str, definition: Definition) -> None:
    from .journal.fingerprint import fingerprint, stage_records
    from .journal.journal import open_journal
    from .journal.observer import JournalKeeper
    from .journal.records import Header

    records = stage_records(definition.planned)
    journal = open_journal(path, Header(fingerprint(records), records, definition.name), is_resumed=watch.is_resumed)
    stack.callback(_close_quietly, journal)
    if journal.damaged:
        tell(f"mpp: --journal: {journal.damaged} damaged lines of '{shown(path)}' were passed over")
    watch.journal = journal
    _add_own(watch, journal.fileno())
    watch.observers += (JournalKeeper(journal, lambda ex: watch.lost("--journal", ex)),)


def _close_quietly(journal: Journal) -> None:
    """After an error that is being told already."""
    with contextlib.suppress(OSError):
        journal.close()


def _add_events(watch: Watch, stack: contextlib.ExitStack, path: str, stdio: Stdio) -> None:
    from .events.observer import JsonEvents

    if path in STDOUT_PATHS:
        if stdio.out_was_closed:
            raise UsageProblem("mpp: --json: standard output is closed")
        descriptor = os.dup(stdio.data_out)
    else:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
            descriptor = os.open(path, flags, 0o666)
        except OSError as ex:
            raise FileProblem("--json", path, ex) from ex
        _add_own(watch, descriptor)
    writer = LineWriter(descriptor, watch.may_wait)
    stack.callback(writer.close)
    watch.observers += (JsonEvents(writer, lambda ex: watch.lost("--json", ex)),)


def _add_own(watch: Watch, descriptor: int) -> None:
    status = os.fstat(descriptor)
    watch.own_files.append((status.st_dev, status.st_ino))
