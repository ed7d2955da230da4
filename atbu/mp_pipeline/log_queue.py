"""The queue by which log records of other processes reach the one that writes them.

Not ``multiprocessing.Queue``: a process killed while it holds that queue's lock, or half-way through a record,
silences every other one and hangs the reader; each child needs a feeder thread; and a queue made by the
program's start method fixes that method. Here each record is one packet of a socket: it arrives whole or not at
all, no lock is shared, and the sending end can be given to a child of every start method.
"""

from __future__ import annotations

import array
import logging
import logging.handlers
import math
import os
import pickle
import queue
import select
import socket
import time
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import Any

from .fork_guard import disown, own
from .log_relay import encode_record

# Room for some hundred records in flight; the system may allow less (net.core.wmem_max).
_BUFFER_BYTES = 1024 * 1024
# A record beyond this goes as a memory file, of which the packet holds the descriptor: a packet must fit in the
# socket's buffer, which may be as small as 208 KiB, and large ones would keep the small ones waiting.
_PACKET_BYTES = 32 * 1024
# How long a record may wait for a reader that does not read. Beyond it records are dropped, and counted.
_STALL_S = 5.0

# First byte of a packet; what follows a record's is its pickle.
_END = b"E"
_RECORD = b"R"
_MEMORY_FILE = b"M"


class LogQueue:
    """A queue of log records with one reader, this process, and senders in any.

    It has what ``logging.handlers.QueueHandler`` and ``QueueListener`` ask of a queue. Where it is pickled for a
    starting process, that process gets the sending end alone; a forked one keeps no more either.
    """

    def __init__(self) -> None:
        receiver, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._receiver: socket.socket | None = own(receiver)
        self._reader_pid = os.getpid()
        self._set_sender(sender)

    def _set_sender(self, sender: socket.socket) -> None:
        sender.setblocking(False)
        self._sender = sender
        self._dropped = 0

    def __getstate__(self) -> dict[str, Any]:
        if get_spawning_popen() is None:
            raise TypeError("a LogQueue goes only to a process that is being started")
        return {"sender": DupFd(self._sender.fileno())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._receiver = None
        self._reader_pid = -1
        self._set_sender(socket.socket(fileno=state["sender"].detach()))

    @property
    def is_readable(self) -> bool:
        """Whether this process is the one that reads."""
        return self._receiver is not None and self._reader_pid == os.getpid()

    def put_nowait(self, record: logging.LogRecord | None) -> None:
        """Send a record, or the end mark None.

        Raises:
            BrokenPipeError: nobody will read it.
            queue.Full: the reader has read nothing for a while; the record is dropped.
        """
        if record is None:
            self._send([_END], [])
            return
        data = encode_record(record)
        if self._dropped:
            self._send_dropped_notice()
        if len(data) <= _PACKET_BYTES:
            self._send([_RECORD, data], [])
            return
        fd = os.memfd_create("log record")
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            self._send([_MEMORY_FILE], [fd])
        finally:
            os.close(fd)

    def _send_dropped_notice(self) -> None:
        dropped = self._dropped
        notice = _own_record(f"{dropped} log records were dropped here: nobody read them")
        self._send([_RECORD, encode_record(notice)], [])
        self._dropped -= dropped

    def _send(self, pieces: list[bytes], fds: list[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        # The end mark waits as long as the reader needs: whoever sends it waits for the reader to end anyway.
        # For records one long wait is enough to find out that the reader is stuck; the next do not wait again.
        patience_s = math.inf if pieces[0] == _END else 0 if self._dropped else _STALL_S
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self._sender.sendmsg(pieces, rights, socket.MSG_NOSIGNAL)
                return
            except BlockingIOError:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    self._dropped += 1
                    raise queue.Full("nobody reads the log records") from None
            poller = select.poll()
            poller.register(self._sender, select.POLLOUT)
            poller.poll(min(left_s, _STALL_S) * 1000)

    def get(self, block: bool = True) -> logging.LogRecord | None:
        """The next record; None for the end mark. What cannot be read becomes a record that says so."""
        if self._receiver is None:
            raise OSError("only the process that made a LogQueue can read it")
        flags = socket.MSG_CMSG_CLOEXEC | (0 if block else socket.MSG_DONTWAIT)
        try:
            packet, ancillary, _, _ = self._receiver.recvmsg(
                1 + _PACKET_BYTES, socket.CMSG_SPACE(array.array("i").itemsize), flags
            )
        except BlockingIOError:
            raise queue.Empty from None
        if packet[:1] in (_END, b""):
            return None
        try:
            data = _read_memory_file(ancillary) if packet[:1] == _MEMORY_FILE else memoryview(packet)[1:]
            return logging.makeLogRecord(pickle.loads(data))
        except Exception as ex:  # noqa: BLE001 - whatever an unpickled class raises must not end the listener
            return _own_record(f"a log record of another process could not be read: {type(ex).__name__}: {ex}")

    def close(self) -> None:
        """Close this process's ends. Senders elsewhere get BrokenPipeError once the reader has closed."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            disown(receiver)
            receiver.close()
        self._sender.close()


class RelayHandler(logging.handlers.QueueHandler):
    """The root handler of a process whose records go to a LogQueue."""

    queue: LogQueue

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            return  # the queue counts what it drops and says so when it is read again
        except (OSError, ValueError):  # nobody will read it, or the queue is closed
            last = logging.lastResort
            if last is not None and record.levelno >= last.level:
                last.handle(record)


def _own_record(message: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, None, None)


def _read_memory_file(ancillary: list[tuple[int, int, bytes]]) -> bytes:
    fds = array.array("i")
    for _, _, rights in ancillary:
        fds.frombytes(rights[: len(rights) - len(rights) % fds.itemsize])
    if not fds:
        raise OSError("its descriptor was lost on the way (too many open files?)")
    with open(fds[0], "rb") as file:
        file.seek(0)
        return file.read()
