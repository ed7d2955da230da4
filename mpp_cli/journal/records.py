"""The lines of a journal. Pure.

    {"event":"journal","format":1,"hash":…,"stages":[…],"pipeline":…,"pid":…,"time":…}     each run begins with one
    {"event":"publish","n":1,"path":…,"size":…,"mtime_ns":…,"target":…,"bytes_out":…,"ino":…}
    {"event":"done","n":[1]}

``publish`` is written before the output gets its name and says which file that will be; ``done`` comes after, for
one or several. A ``publish`` without its ``done`` counts if the file it speaks of stands under the target's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from mpp_cli.names import put_name, taken_name

FORMAT: Final = 1
#: What every journal begins with.
MAGIC: Final = b'{"event":"journal",'
_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False, allow_nan=False).encode
_decode: Final = json.JSONDecoder().decode


@dataclass(frozen=True)
class Header:
    """The pipeline that a journal is of."""

    hash: str
    stages: Sequence[Mapping[str, Any]]
    pipeline: str


class Published(NamedTuple):
    """An output that is complete: what it was made of, and which file it is.

    Attributes:
        path: The source, absolute.
        size: The source's size before it was read.
        mtime_ns: When the source was changed last, before it was read.
        target: The output's name, absolute.
        bytes_out: The output's size.
        ino: The output's inode, the same before and after it has got its name.
    """

    path: str
    size: int
    mtime_ns: int
    target: str
    bytes_out: int
    ino: int


def header_line(header: Header, pid: int, time_s: float) -> bytes:
    """The line with which a run begins."""
    record = {
        "event": "journal",
        "format": FORMAT,
        "hash": header.hash,
        "stages": list(header.stages),
        "pipeline": header.pipeline,
        "pid": pid,
        "time": round(time_s, 3),
    }
    return _line(record)


def publish_line(number: int, output: Published) -> bytes:
    """The line before an output gets its name."""
    record: dict[str, Any] = {"event": "publish", "n": number}
    put_name(record, "path", output.path)
    record["size"] = output.size
    record["mtime_ns"] = output.mtime_ns
    put_name(record, "target", output.target)
    record["bytes_out"] = output.bytes_out
    record["ino"] = output.ino
    return _line(record)


def done_line(numbers: Sequence[int]) -> bytes:
    """The line after outputs have got their names."""
    return _line({"event": "done", "n": list(numbers)})


def read_line(line: bytes) -> Header | tuple[int, Published] | list[int] | None:
    """What a line says; None for one that is torn, damaged, or of a kind that only a newer mpp knows."""
    try:
        record = _decode(line.decode("ascii"))
        kind = record["event"]
        if kind == "publish":
            return record["n"], _published(record)
        if kind == "done":
            return [int(number) for number in record["n"]]
        if kind == "journal":
            return Header(str(record["hash"]), list(record["stages"]), str(record["pipeline"]))
    except (ValueError, TypeError, KeyError):
        return None
    return None


def _published(record: dict[str, Any]) -> Published:
    output = Published(
        taken_name(record, "path"),
        record["size"],
        record["mtime_ns"],
        taken_name(record, "target"),
        record["bytes_out"],
        record["ino"],
    )
    if not type(record["n"]) is type(output[1]) is type(output[2]) is type(output[4]) is type(output[5]) is int:
        raise TypeError("what must be a whole number is none")
    return output


def _line(record: Mapping[str, Any]) -> bytes:
    return f"{_encode(record)}\n".encode("ascii")
