"""The private channel between the parent and one worker: frames both ways, descriptors one way.

Two socket pairs a worker: a stream for frames, and a packet socket for descriptors alone, so that what is lost
on the way (MSG_CTRUNC) is known to belong to one frame. The parent never blocks on either: it keeps what does
not fit in a queue of its own, and so reads on while a worker, stopped or sending itself, does not.

    parent ── RUN, EXIT ─────────────────────────────▶ worker
    parent ◀── READY, RESULT, ERROR, DROPPED, LOG … ── worker
    parent ── (sequence number, descriptors) ────────▶ worker      before the RUN frame that names them
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator

from .fork_guard import disown, own

# Frame kinds.
# What goes to a worker.
RUN = 1
EXIT = 2
# What comes from one.
READY = 10
INIT_FAILED = 11
RESULT = 12
ERROR = 13
DROPPED = 14
LOG = 15
CHAIN_ENDED = 16
CHAIN_FAILED = 17

# RUN flags.
NEEDS_TICKET = 1
HAS_PIPE_IN = 2
HAS_PIPE_OUT = 4
# The stages are a chain to be run inside the worker.
IS_LOCAL_CHAIN = 8
# The item is not pickled but packed (plain_items.py); in a RESULT the same.
IS_PACKED = 16

# RESULT flag: the item is failed; like an ERROR's, its payload begins with when that was (FAILED_AT).
IS_FAILED = 1
# ERROR flag: there was no memory for what came, stages' pickles included.
STAGES_LOST = 2
FAILED_AT = struct.Struct("<Q")  # CLOCK_MONOTONIC ns

# kind, flags, first stage, number of stages, descriptors, length of the stages' part or a duration in us,
# sequence number, length of what follows.
HEADER = struct.Struct("<BBHHHIQQ")
HEADER_BYTES = HEADER.size

_SEQ = struct.Struct("<Q")
# SCM_RIGHTS carries at most SCM_MAX_FD descriptors in one message (linux/include/net/scm.h).
MAX_DESCRIPTORS = 253
# As numbers: socket's are enums, whose & is a Python function.
_MSG_CTRUNC = int(socket.MSG_CTRUNC)
# A worker may be gone when we send to it, and the program may have SIGPIPE end it.
_NO_SIGPIPE = int(socket.MSG_NOSIGNAL)
_FD_BYTES = array.array("i").itemsize
_ANCILLARY_BYTES = socket.CMSG_SPACE(MAX_DESCRIPTORS * _FD_BYTES)
# Enough for hundreds of small answers in one system call. malloc() would get 128 KiB and more from the kernel each
# time: three system calls and a cleared page for each receive, of which most bring a few hundred bytes.
_RECV_BYTES = 64 * 1024
# Frames are joined up to here: one copy is cheaper than a longer iovec, beyond it is not.
_JOIN_BYTES = 64 * 1024

MAX_DURATION_US = 0xFFFFFFFF


class ChannelClosed(Exception):
    """The other side of the channel is gone."""


def frame(
    kind: int,
    seq: int = 0,
    payload: bytes = b"",
    *,
    flags: int = 0,
    stage: int = 0,
    count: int = 0,
    aux: int = 0,
) -> bytes:
    """One whole frame, for the small ones."""
    return HEADER.pack(kind, flags, stage, count, 0, aux, seq, len(payload)) + payload


class ParentChannel:
    """The parent's end: never blocks; the engine's loop calls it when the socket is ready."""

    def __init__(self, stream: socket.socket, descriptors: socket.socket) -> None:
        stream.setblocking(False)
        descriptors.setblocking(False)
        self._stream = own(stream)
        self._descriptors = own(descriptors)
        self._unsent: deque[memoryview | bytes] = deque()
        self._received = bytearray()
        self.is_closed = False

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def wants_to_send(self) -> bool:
        """Whether something waits for the socket to become writable."""
        return bool(self._unsent)

    def send_descriptors(self, seq: int, fds: list[int]) -> None:
        """Send the descriptors of frame ``seq``; before the frame itself.

        Raises:
            OSError: they cannot be sent (worker gone, EMFILE/ETOOMANYREFS, a stopped worker's full socket).
        """
        if len(fds) > MAX_DESCRIPTORS:
            text = f"{len(fds)} descriptors are more than travel with one item ({MAX_DESCRIPTORS}, its pipes included)"
            raise OSError(errno.E2BIG, text)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        self._descriptors.sendmsg([_SEQ.pack(seq)], rights, _NO_SIGPIPE)

    def send(self, pieces: list[bytes]) -> None:
        """Send these bytes in order, as much as fits now and the rest when :meth:`flush` is called.

        Raises:
            ChannelClosed: the worker's end is gone.
        """
        if self.is_closed:
            raise ChannelClosed
        total = sum(map(len, pieces))
        if total <= _JOIN_BYTES:
            data: bytes | memoryview = b"".join(pieces)
            if not self._unsent:
                data = self._send_some(data)
            if len(data):
                self._unsent.append(data)
            return
        self._unsent.extend(piece for piece in pieces if piece)
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        unsent = self._unsent
        while unsent:
            rest = self._send_some(unsent[0])
            if len(rest):
                unsent[0] = rest
                return
            unsent.popleft()

    def _send_some(self, data: bytes | memoryview) -> bytes | memoryview:
        try:
            sent = self._stream.send(data, _NO_SIGPIPE)
        except BlockingIOError:
            return data
        except OSError as ex:
            raise ChannelClosed from ex
        if sent == len(data):
            return b""
        view = memoryview(data)[sent:]
        while len(view):
            try:
                sent = self._stream.send(view, _NO_SIGPIPE)
            except BlockingIOError:
                break
            except OSError as ex:
                raise ChannelClosed from ex
            view = view[sent:]
        return view

    def receive(self) -> tuple[list[tuple[tuple[int, ...], bytes]], bool]:
        """Every whole frame that has arrived, as (header fields, payload), and whether the stream has ended.

        Reads what is there now; memory grows with the bytes that came, never with what a header promises.
        """
        received = self._received
        is_ended = False
        while True:
            try:
                chunk = self._stream.recv(_RECV_BYTES)
            except BlockingIOError:
                break
            except OSError:
                is_ended = True
                break
            if not chunk:
                is_ended = True
                break
            if not received and len(chunk) < _RECV_BYTES:
                # the common case: small whole frames, no copy into the buffer
                frames, used = _split(chunk)
                if used < len(chunk):
                    received += chunk[used:]
                return frames, False
            received += chunk
            if len(chunk) < _RECV_BYTES:
                break
        frames, used = _split(received)
        if used:
            del received[:used]
        return frames, is_ended

    def close(self) -> None:
        """Close both sockets; what waits to be sent is dropped. Closing twice is fine."""
        self.is_closed = True
        self._unsent.clear()
        for sock in (self._stream, self._descriptors):
            disown(sock)
            sock.close()


def _split(data: bytes | bytearray) -> tuple[list[tuple[tuple[int, ...], bytes]], int]:
    """The whole frames at the start of ``data`` and how many bytes they take."""
    frames: list[tuple[tuple[int, ...], bytes]] = []
    at = 0
    end = len(data)
    unpack = HEADER.unpack_from
    is_copied = type(data) is not bytes
    while end - at >= HEADER_BYTES:
        fields = unpack(data, at)
        after = at + HEADER_BYTES + fields[7]
        if after > end:
            break
        payload = data[at + HEADER_BYTES : after]
        frames.append((fields, bytes(payload) if is_copied else payload))  # type: ignore[arg-type]
        at = after
    return frames, at


class WorkerChannel:
    """The worker's end: blocks. Sending is the business of one thread at a time (the worker locks)."""

    def __init__(self, stream: socket.socket, descriptors: socket.socket) -> None:
        self._stream = own(stream)
        self._descriptors = own(descriptors)
        self._buffer = b""
        self._at = 0

    def receive_header(self) -> tuple[int, ...]:
        """The next frame's header fields. Raises ChannelClosed when the parent is gone."""
        if len(self._buffer) - self._at < HEADER_BYTES:
            self._fill(HEADER_BYTES)
        fields = HEADER.unpack_from(self._buffer, self._at)
        self._at += HEADER_BYTES
        return fields

    def receive_payload(self, length: int) -> memoryview:
        """The ``length`` bytes behind the header just received.

        Raises:
            MemoryError: there is no room for them; they have been passed over.
        """
        buffered = len(self._buffer) - self._at
        if buffered < length:
            if length > _RECV_BYTES:
                return self._receive_large(length)
            self._fill(length)
        view = memoryview(self._buffer)[self._at : self._at + length]
        self._at += length
        return view

    def _receive_large(self, length: int) -> memoryview:
        have = len(self._buffer) - self._at
        try:
            whole = memoryview(bytearray(length))
        except MemoryError:
            self._pass_over(length)
            raise
        whole[:have] = memoryview(self._buffer)[self._at :]
        self._buffer, self._at = b"", 0
        while have < length:
            got = self._stream.recv_into(whole[have:])
            if not got:
                raise ChannelClosed
            have += got
        return whole

    def _pass_over(self, length: int) -> None:
        """Read what there is no memory for and forget it, so that the next header is found."""
        left = length - (len(self._buffer) - self._at)
        self._buffer, self._at = b"", 0
        while left > 0:
            chunk = self._stream.recv(min(left, _RECV_BYTES))
            if not chunk:
                raise ChannelClosed
            left -= len(chunk)

    def _fill(self, need: int) -> None:
        parts = [self._buffer[self._at :]]
        have = len(parts[0])
        while have < need:
            chunk = self._stream.recv(_RECV_BYTES)
            if not chunk:
                raise ChannelClosed
            parts.append(chunk)
            have += len(chunk)
        self._buffer = parts[1] if len(parts) == 2 and not parts[0] else b"".join(parts)
        self._at = 0

    def receive_descriptors(self, seq: int, count: int) -> list[int]:
        """The descriptors that belong to frame ``seq``.

        Raises:
            OSError: they were lost on the way, for example because this process may open no more files.
        """
        while True:
            data, ancillary, flags, _ = self._descriptors.recvmsg(_SEQ.size, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
            if not data:
                raise ChannelClosed
            fds = list(_rights(ancillary))
            (sent_seq,) = _SEQ.unpack(data)
            if sent_seq != seq:  # of a frame that was taken back
                _close_all(fds)
                continue
            if flags & _MSG_CTRUNC or len(fds) != count:
                _close_all(fds)
                raise OSError(f"{count - len(fds)} of {count} descriptors were lost on the way (too many open files?)")
            return fds

    def send(self, *pieces: bytes) -> None:
        """Send these bytes; blocks until the parent has room, which it always makes."""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        try:
            self._stream.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as ex:
            raise ChannelClosed from ex

    def close(self) -> None:
        for sock in (self._stream, self._descriptors):
            disown(sock)
            sock.close()


def _rights(ancillary: list[tuple[int, int, bytes]]) -> Iterator[int]:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds = array.array("i")
            fds.frombytes(data[: len(data) - len(data) % _FD_BYTES])
            yield from fds


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def duration_us(start_ns: int, end_ns: int) -> int:
    """A duration as the header's 32-bit field holds it (saturating)."""
    return min((end_ns - start_ns) // 1000, MAX_DURATION_US)
