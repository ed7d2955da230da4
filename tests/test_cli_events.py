"""``mpp run --json`` and ``--log-file`` as programs and people use them."""

from __future__ import annotations

import gzip
import importlib.resources
import json
import os
import re
import signal
import subprocess

import jsonschema
import pytest
from cli_tools import MPP, TIMEOUT_S, environment, lines_of, mpp

SCHEMA = json.loads((importlib.resources.files("mpp_cli") / "events/schema.json").read_text())


def events_of(data: bytes) -> list[dict]:
    """The events, each after it was found to fit the schema."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    events = [json.loads(line) for line in data.splitlines()]
    for event in events:
        validator.validate(event)
    return events


def test_a_run_is_told_on_standard_output(tmp_path):
    """From start to summary, each input once, every name lossless; words stay on standard error."""
    names = [b"a.log", "ä b.log".encode(), b"c\n\xff.log", b"missing.log"]
    for name in names[:3]:
        (tmp_path / os.fsdecode(name)).write_bytes(name * 1000)
    (tmp_path / "a.log.zst").write_bytes(b"is there")
    done = mpp("run", "zstd", "--json", "--skip-existing", *names, cwd=tmp_path)
    assert done.returncode == 3
    events = events_of(done.stdout)
    assert [event["event"] for event in events if event["event"] != "progress"] == ["start", *["item"] * 4, "summary"]
    items = {event.get("path_b64") or event["path"]: event for event in events if event["event"] == "item"}
    statuses = {"a.log": "skipped", "ä b.log": "done", "Ywr/LmxvZw==": "done", "missing.log": "failed"}
    assert {path: item["status"] for path, item in items.items()} == statuses
    assert items["missing.log"]["errors"][0]["errno"] == "ENOENT"
    assert items["ä b.log"]["seconds"] > 0
    assert items["ä b.log"]["bytes_in"] == 1000 * len(names[1])
    assert items["ä b.log"]["bytes_out"] == os.path.getsize(tmp_path / "ä b.log.zst")
    summary = events[-1]
    assert [summary[key] for key in ("done", "skipped", "failed", "stopped", "exit_status")] == [2, 1, 1, 0, 3]
    assert lines_of(done)[0] == "mpp: 'missing.log': No such file or directory"


def test_where_data_goes_to_standard_output_events_go_to_a_file(tmp_path):
    """Which is begun anew; standard output has the data alone."""
    (tmp_path / "events").write_text("old\n")
    done = mpp("run", "zstd", "--json=events", data=b"data" * 1000, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith(b"\x28\xb5\x2f\xfd")
    events = events_of((tmp_path / "events").read_bytes())
    (item,) = (event for event in events if event["event"] == "item")
    assert (item["path"], item["name"], item["bytes_in"]) == (None, "stdin", 4000)
    assert 0 < item["seconds"] < TIMEOUT_S
    assert events[-1]["event"] == "summary"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--json"], "data goes to standard output"),
        (["--json=/dev/stdout"], "data goes to standard output"),
        (["--json=missing/events", "in"], "missing/events"),
        (["--json=", "in"], "an empty name"),
        (["--resume", "in"], "--journal FILE"),
        (["--journal", "j"], "cannot be resumed"),
        (["--journal", "x", "--report", "./x", "in"], "cannot write one file"),
        (["--log-file", "missing/log", "in"], "missing/log"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_told_is_refused_before_the_run(tmp_path, args, words):
    """Exit 2, one line, nothing begun."""
    (tmp_path / "in").write_bytes(b"data")
    done = mpp("run", "zstd", *args, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = lines_of(done)
    assert words in line
    assert os.listdir(tmp_path) == ["in"]


def test_what_stands_behind_json_without_its_sign_is_an_input(tmp_path):
    """``--json a.log`` tells of a.log on standard output; behind ``--`` it is no option at all."""
    (tmp_path / "a.log").write_bytes(b"data")
    (tmp_path / "--json").write_bytes(b"data")
    done = mpp("run", "zstd", "--json", "a.log", "--", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    items = [event["path"] for event in events_of(done.stdout) if event["event"] == "item"]
    assert sorted(items) == ["--json", "a.log"]


def test_where_json_is_a_flag_it_stays_one():
    """That of ``mpp check`` takes no value."""
    done = mpp("check", "zstd", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)


def test_a_reader_of_events_that_goes_away_ends_the_run_as_it_ends_any_writer(tmp_path):
    """By SIGPIPE; and no temporary is left."""
    for number in range(50):
        (tmp_path / f"{number}").write_bytes(b"data" * 1000)
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [*MPP, "run", "zstd", "--json", *sorted(os.listdir(tmp_path))]
    with os.fdopen(write_end, "wb") as closed:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment(),
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert done.returncode == -signal.SIGPIPE
    assert b"Traceback" not in done.stderr
    assert not list(tmp_path.glob(".mpp-*"))


@pytest.mark.parametrize("options", [[], ["-q"]], ids=["told", "quiet"])
def test_what_a_stage_logs_is_told_like_all_else(tmp_path, options):
    """On stderr and in the log file; a warning in a quiet run in that alone."""
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"x") + b"garbage")
    done = mpp("run", *options, "gunzip", "x.gz", "--log-file", "log", cwd=tmp_path)
    words = "mpp: stage 'gunzip': 'x.gz': trailing garbage at byte 21 ignored"
    assert (done.returncode, lines_of(done)[:1]) == (0, [] if options else [words])
    assert words in (tmp_path / "log").read_text()


def test_words_and_tracebacks_go_to_the_log_file_too(tmp_path):
    """With the time, appended; standard error is as ever."""
    (tmp_path / "log").write_text("before\n")
    done = mpp("run", "unzstd", "bad.zst", "--log-file", "log", cwd=tmp_path)
    assert done.returncode == 1
    assert len(lines_of(done)) == 1
    first, words, *rest = (tmp_path / "log").read_text().splitlines()
    assert first == "before"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d " + re.escape(lines_of(done)[0]), words)
    assert any("FileNotFoundError" in line for line in rest)
