"""The queue that carries log records between processes: whole records, nobody blocked for long, nothing left."""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal

import pytest

from atbu.mp_pipeline import log_queue
from atbu.mp_pipeline.log_queue import LogQueue, RelayHandler


@pytest.fixture
def records():
    """An open LogQueue."""
    opened = LogQueue()
    yield opened
    opened.close()


def _record(message: str, **extra: object) -> logging.LogRecord:
    record = logging.LogRecord("a.logger", logging.INFO, "a.py", 7, message, None, None)
    record.__dict__.update(extra)
    return record


def _fill(records: LogQueue) -> int:
    """Send until a record is dropped; how many were sent before."""
    sent = 0
    while True:
        try:
            records.put_nowait(_record("x" * 30_000))
        except queue.Full:
            return sent
        sent += 1


class CannotBeRead:
    """Goes into a pickle and does not come out."""

    def __reduce__(self):
        return (_raise, ())


def _raise():
    raise RuntimeError("not here")


@pytest.mark.parametrize("length", [0, 10, 32_000, 33_000, 3_000_000], ids="{} characters".format)
def test_a_record_arrives_whole(records, length):
    """Of any length: what fits no packet goes another way."""
    records.put_nowait(_record("x" * length, user="me"))

    arrived = records.get()

    assert (arrived.name, arrived.levelno, arrived.msg, arrived.user) == ("a.logger", logging.INFO, "x" * length, "me")
    assert arrived.process == os.getpid()


def test_records_arrive_in_order_and_then_the_end(records):
    """Large and small ones alike; None is the end mark."""
    texts = ["small", "large" * 20_000, "small again"]
    for text in texts:
        records.put_nowait(_record(text))
    records.put_nowait(None)

    assert [records.get().msg for _ in texts] == texts
    assert records.get() is None


def test_an_empty_queue_says_so(records):
    """get(block=False) is what a QueueListener may ask for."""
    with pytest.raises(queue.Empty):
        records.get(block=False)


def test_what_cannot_travel_is_left_behind_and_not_the_record(records):
    """An extra that cannot be pickled costs only the extras."""
    records.put_nowait(_record("what happened", callback=lambda: None))

    assert records.get().msg == "what happened"


def test_a_record_that_cannot_be_read_becomes_one_that_says_so(records):
    """And the next one is fine."""
    records.put_nowait(_record("lost", strange=CannotBeRead()))
    records.put_nowait(_record("next"))

    told = records.get()
    assert told.levelno == logging.WARNING
    assert "could not be read: RuntimeError: not here" in told.msg
    assert records.get().msg == "next"


def test_a_reader_that_does_not_read_stops_nobody(records, monkeypatch):
    """The sender waits once, then drops and counts; the count arrives when there is room again."""
    monkeypatch.setattr(log_queue, "_STALL_S", 0.05)
    sent = _fill(records)
    monkeypatch.setattr(log_queue, "_STALL_S", 3600)
    # Not one of these waits the hour.
    for _ in range(2):
        with pytest.raises(queue.Full):
            records.put_nowait(_record("x" * 30_000))

    arrived = [records.get().msg for _ in range(sent)]
    records.put_nowait(_record("after"))

    assert arrived == ["x" * 30_000] * sent
    # One for each call that raised.
    assert records.get().msg == "3 log records were dropped here: nobody read them"
    assert records.get().msg == "after"


def test_it_travels_only_to_a_starting_process(records):
    """Plain pickling is refused; a work item must not carry it."""
    with pytest.raises(TypeError, match="being started"):
        pickle.dumps(records)


def test_a_forked_process_keeps_no_reading_end(records):
    """When the reader closes, a sender in another process is told, though a forked child lives on."""
    told_r, told_w = os.pipe()
    closed_r, closed_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(closed_w)
        os.read(closed_r, 1)  # returns when the parent has closed
        try:
            records.put_nowait(_record("too late"))
        except BrokenPipeError:
            os.write(told_w, b"broken")
        os._exit(0)
    os.close(told_w)
    os.close(closed_r)

    records.close()
    os.close(closed_w)

    assert os.read(told_r, 100) == b"broken"
    os.close(told_r)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_sender_that_is_killed_harms_nobody(records):
    """Kill -9 of a process that logs without a pause: the reader gets whole records and another's too."""
    pid = os.fork()
    if pid == 0:
        while True:
            try:
                records.put_nowait(_record("x" * 20_000))
            except queue.Full:
                continue
    before = [records.get().msg for _ in range(200)]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    after = []
    while True:
        try:
            after.append(records.get(block=False).msg)
        except queue.Empty:
            break
    records.put_nowait(_record("mine"))

    assert set(before + after) == {"x" * 20_000}
    assert records.get().msg == "mine"


def test_where_nobody_reads_warnings_go_to_stderr(records, capsys):
    """The handler falls back to logging's last resort; what is below a warning is not shown."""
    handler = RelayHandler(records)
    records.close()

    handler.handle(_record("not shown"))
    warning = _record("a warning")
    warning.levelno = logging.WARNING
    handler.handle(warning)
    handler.close()

    assert capsys.readouterr().err == "a warning\n"
