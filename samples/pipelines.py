"""Pipelines as Python code: a filter, a function with arguments, and a list with a name.

    mpp run samples/pipelines.py:keep --set word=ERROR < access.log
    mpp run samples/pipelines.py:errors --set word=FATAL --set level=19 access.log
    mpp run samples/pipelines.py:nightly access.log
    mpp run 'samples/pipelines.py:keep word=ERROR | zstd level=9' access.log

docs/pipelines.md says what else may stand in such a list.
"""

from collections.abc import Iterator
from typing import Any

from mpp_stages.byte_stage import line_filter
from mpp_stages.definition import PipelineDefinition


@line_filter
def keep(line: bytes, word: str = "ERROR") -> bytes | None:
    """Keep the lines that have a word in them.

    Args:
        word: The word.
    """
    return line if word.encode() in line else None


def errors(word: str = "ERROR", level: int = 3) -> Iterator[Any]:
    """Lines with a word, compressed. What ``--set`` gives becomes what the annotations say."""
    yield keep(word=word)
    yield {"use": "zstd", "level": level}


nightly = PipelineDefinition("nightly", [keep, "zstd level=9", {"use": "write", "suffix": ".errors.zst"}])
