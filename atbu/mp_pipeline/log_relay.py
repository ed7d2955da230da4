"""Log records of a worker on their way to the parent's handlers."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable


class ChannelLogHandler(logging.Handler):
    """The root handler of a worker: sends each record up the worker's own channel.

    In a process that a stage forked the channel is not ours to use; records go to stderr there.

    Args:
        send: Sends one pickled record; may block until the parent reads.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        super().__init__()
        self._send = send
        self._pid = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() != self._pid:
            if logging.lastResort is not None:
                logging.lastResort.handle(record)
            return
        try:
            self._send(encode_record(record))
        except Exception:  # noqa: BLE001 - logging never raises into the program; handleError tells on stderr
            self.handleError(record)


def encode_record(record: logging.LogRecord) -> bytes:
    """The record's facts, its message formatted and its traceback as text, so that all of it can travel."""
    fields = dict(record.__dict__)
    fields["msg"] = record.getMessage()
    fields["args"] = None
    if record.exc_info and not record.exc_text:
        fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
    fields["exc_info"] = None
    try:
        return pickle.dumps(fields)
    except Exception:  # noqa: BLE001 - an `extra` that cannot travel is left behind, not the record
        known = logging.LogRecord("", 0, "", 0, "", None, None).__dict__.keys() | {"exc_text"}
        return pickle.dumps({name: value for name, value in fields.items() if name in known})


def handle_record(data: bytes) -> None:
    """Give a worker's record to this process's loggers, as if it had been logged here."""
    record = logging.makeLogRecord(pickle.loads(data))
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
