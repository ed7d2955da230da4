"""The JSON events: each is what docs/json.md and the schema say, and every name can be had back."""

from __future__ import annotations

import base64
import errno
import importlib.resources
import json
import os
import re

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpp_stages.file_item import Finding

from atbu.mp_pipeline.exception import PipelineWorkerDied
from mpp_cli.events.observer import PROGRESS_INTERVAL_S, JsonEvents
from mpp_cli.events.records import item_event, progress_event, start_event, summary_event
from mpp_cli.line_writer import LinesGivenUp, LineWriter
from mpp_cli.names import put_name, taken_name
from mpp_cli.observers import ItemResult, RunStart, RunSummary
from mpp_cli.progress.figures import Figures

SCHEMA = json.loads((importlib.resources.files("mpp_cli") / "events/schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def fitting(event: dict) -> dict:
    """The event as a reader gets it, after it was found to fit the schema."""
    read = json.loads(json.dumps(event))
    VALIDATOR.validate(read)
    return read


def located(error: BaseException, stage: str) -> BaseException:
    """As the library hands over an error of a stage's."""
    error.add_note(f"in stage {stage!r}")
    return error


FIGURES = Figures(10, 5, 1.0, total_bytes=20, items_done=4, items_total=None, failed=1, skipped=2)
DONE = ItemResult("a/b", "/x/a/b", "/x/a/b.zst", "done", 10, 5, 0.25)


def test_the_schema_is_a_schema():
    """By its own meta-schema, which no other test would tell."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "event",
    [
        start_event(RunStart("zstd", 2), 1.5),
        start_event(RunStart("zstd", 2, items_total=3, total_bytes=10), 1.5),
        item_event(DONE, 2.0),
        item_event(ItemResult("stdin", None, None, "stopped"), 2.0),
        item_event(ItemResult("x", "/x", "/x.zst", "failed", errors=[ValueError("no")]), 2.0),
        progress_event(FIGURES, 3.0),
        summary_event(RunSummary(FIGURES, 1, 2, 3, 4, 3), 4.0),
        summary_event(RunSummary(FIGURES, 1, 2, 3, 4, 1, signal_name="SIGINT", broken="all workers\ndied"), 4.0),
    ],
    ids=lambda event: event["event"],
)
def test_every_event_fits_the_schema(event):
    """With and without what may be missing."""
    fitting(event)


@pytest.mark.parametrize("field", ["status", "path", "bytes_in", "time"])
def test_the_schema_misses_what_is_missing(field):
    """Else it would test nothing."""
    event = item_event(DONE, 2.0)
    del event[field]
    assert not VALIDATOR.is_valid(event)


def test_the_schema_lets_fields_grow():
    """A reader that validates survives a newer mpp."""
    fitting(item_event(DONE, 2.0) | {"new": 1})


def test_the_document_names_every_field(checkout):
    """docs/json.md has a row for each."""
    rows = re.findall(r"^\| (`.*?) \| ", (checkout / "docs/json.md").read_text(), re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    fields = {name for part in SCHEMA["$defs"].values() for name in part["properties"]}
    assert fields == documented


def test_the_document_s_example_fits_the_schema(checkout):
    """Each line of it."""
    block = (checkout / "docs/json.md").read_text().partition("<!-- json-example -->\n```json\n")[2].partition("```")[0]
    events = [json.loads(line) for line in block.splitlines()]
    for event in events:
        VALIDATOR.validate(event)
    assert [event["event"] for event in events] == ["start", "item", "item", "summary"]


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_every_name_can_be_had_back(raw):
    """Any bytes; and the bytes stand there only where the text does not tell them."""
    record: dict = {}
    put_name(record, "path", os.fsdecode(raw))
    record = json.loads(json.dumps(record))
    assert os.fsencode(taken_name(record, "path")) == raw
    record["path"].encode()  # no lone surrogates: not every reader takes them
    if "path_b64" in record:
        assert base64.b64decode(record["path_b64"]) == raw
        with pytest.raises(UnicodeDecodeError):
            raw.decode()
    else:
        assert record["path"].encode() == raw


def test_an_item_without_a_path_says_what_it_is():
    """Standard input has a name for people only."""
    event = fitting(item_event(ItemResult("stdin", None, "/out", "done", 1, 1), 2.0))
    assert (event["path"], event["name"], event["target"]) == (None, "stdin", "/out")


def test_an_item_says_what_its_stages_have_found():
    """Kind, value, and whose bytes they were; an input of which nothing was found has no such field."""
    found = (Finding("sha256", "ab" * 32, "source"), Finding("lines", 3))
    event = fitting(item_event(DONE._replace(findings=found), 2.0))
    assert event["findings"] == [
        {"kind": "sha256", "value": "ab" * 32, "of": "source"},
        {"kind": "lines", "value": 3, "of": None},
    ]
    assert "findings" not in fitting(item_event(DONE, 2.0))


def test_an_error_says_stage_class_and_errno():
    """Each in a field of its own, the cause first."""
    errors = [located(OSError(errno.ENOSPC, "No space left on device", "out"), "write"), ValueError("later")]
    event = fitting(item_event(ItemResult("x", "/x", "/x.zst", "failed", errors=errors), 2.0))
    assert event["errors"] == [
        {"kind": "OSError", "message": "'out': No space left on device", "stage": "write", "errno": "ENOSPC"},
        {"kind": "ValueError", "message": "later", "stage": None},
    ]


def test_an_error_of_a_worker_says_its_stage():
    """The library's errors know it themselves."""
    error = PipelineWorkerDied("zstd", 0, 4242, -9, "a.log")
    (record,) = fitting(item_event(ItemResult("x", "/x", None, "failed", errors=[error]), 2.0))["errors"]
    assert (record["kind"], record["stage"]) == ("PipelineWorkerDied", "zstd")


def lines_written(tell) -> list[dict]:
    """What comes out of a pipe after ``tell`` was called with an observer that writes it."""
    read_end, write_end = os.pipe()
    writer = LineWriter(write_end, lambda: True)
    failures: list[OSError] = []
    try:
        tell(JsonEvents(writer, failures.append))
    finally:
        writer.close()
    with open(read_end, "rb") as pipe:
        lines = pipe.read().splitlines()
    assert not failures
    return [json.loads(line) for line in lines]


def test_progress_comes_once_a_second():
    """However often the run's loop tells."""

    def tell(events):
        for tenth in range(35):
            events.progressed(Figures(tenth, tenth, tenth / 10))

    assert [line["elapsed_s"] for line in lines_written(tell)] == [1.0, 2.0, 3.0]
    assert PROGRESS_INTERVAL_S == 1.0


def test_a_reader_that_has_gone_is_told_once():
    """And nothing is written after that."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    failures: list[OSError] = []
    writer = LineWriter(write_end, lambda: True)
    try:
        events = JsonEvents(writer, failures.append)
        events.item_ended(DONE)
        events.item_ended(DONE)
    finally:
        writer.close()
    assert [failure.errno for failure in failures] == [errno.EPIPE]


def test_a_reader_that_takes_nothing_does_not_hold_up_a_stopped_run():
    """The write ends when the run may wait no longer; until then it waits."""
    read_end, write_end = os.pipe()
    asked = []

    def may_wait() -> bool:
        asked.append(True)
        return len(asked) < 2

    writer = LineWriter(write_end, may_wait)
    try:
        with pytest.raises(LinesGivenUp):
            writer.write(b"x" * (1 << 20))
    finally:
        writer.close()
        os.close(read_end)
    assert len(asked) == 2
