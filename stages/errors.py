"""What a byte stage says about data it cannot work on."""

from __future__ import annotations

import errno

from atbu.mp_pipeline.exception import PipelineError


class StageDataError(PipelineError, ValueError):
    """The data that came to a stage is not what the stage can take: corrupt, truncated, of another format.

    Args:
        stage: What messages call the stage.
        item: What messages call the input.
        problem: What is wrong, with what to try where there is something.
    """

    def __init__(self, stage: str, item: str, problem: str) -> None:
        super().__init__(f"stage {stage!r}: {item!r}: {problem}")
        self.stage = stage
        self.item = item
        self.problem = problem


class ProgramFailed(PipelineError):
    """A program that we ran has not ended as it should.

    Args:
        label: What messages call the program, with where it stands.
        problem: How it ended, with the last lines of its stderr.
        status: Its exit status, negative for a signal; None if it has none.
        stderr: The end of its stderr.
    """

    def __init__(self, label: str, problem: str, status: int | None, stderr: bytes) -> None:
        super().__init__(f"{label} {problem}")
        self.label = label
        self.problem = problem
        self.status = status
        self.stderr = stderr


def source_changed(filename: str, how: str) -> OSError:
    """The error for an input that became another file while it was read: what was read is no file there ever was."""
    return OSError(errno.ESTALE, f"Changed while it was read: {how}", filename)


__all__ = ["ProgramFailed", "StageDataError", "source_changed"]
