"""What the processes of a program share by :mod:`.mp_global`; its travels are why it is a class."""

from __future__ import annotations

from multiprocessing.context import get_spawning_popen
from typing import Any

from .log_queue import LogQueue


class _MultiprocessGlobalContext:
    """The levels, and the queue of the log records once there is one.

    The queue goes along to a process that is being started; anywhere else the context travels without it.
    """

    def __init__(self, logging_level: int | str, verbosity_level: int) -> None:
        self.global_logging_level = logging_level
        self.global_verbosity_level = verbosity_level
        self.queue: LogQueue | None = None

    def close_queue(self) -> None:
        queue, self.queue = self.queue, None
        if queue is not None:
            queue.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ if get_spawning_popen() is not None else {**self.__dict__, "queue": None}
