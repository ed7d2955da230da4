"""The channel between the parent and a worker: any cut of the bytes, lost descriptors, both sides sending at once."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import select
import socket
import threading
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atbu.mp_pipeline import channel as wire
from atbu.mp_pipeline.channel import ChannelClosed, ParentChannel, WorkerChannel

MIB = 1 << 20
# What either end asks for in one receive; a worker takes longer payloads in another way.
RECEIVE_BYTES = wire._RECV_BYTES

payloads = st.one_of(
    st.binary(max_size=64),
    # More than one recv() takes, and with the header around what one takes exactly.
    st.builds(
        lambda size, fill: bytes([fill]) * size,
        st.sampled_from([RECEIVE_BYTES // 3, RECEIVE_BYTES - wire.HEADER_BYTES, RECEIVE_BYTES]),
        st.integers(0, 255),
    ),
)
frames = st.lists(
    st.builds(
        lambda kind, seq, payload, stage: wire.frame(kind, seq, payload, stage=stage),
        st.integers(1, 255),
        st.integers(0, 2**64 - 1),
        payloads,
        st.integers(0, 2**16 - 1),
    ),
    min_size=1,
    max_size=6,
)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` in pieces; each cut is taken modulo what is left."""
    pieces = []
    for cut in cuts:
        at = cut % (len(data) + 1)
        if at:
            pieces.append(data[:at])
        data = data[at:]
    return [*pieces, data] if data else pieces


def _as_sent(received: list[tuple[tuple[int, ...], bytes]]) -> list[bytes]:
    """Received frames as the bytes that were sent."""
    return [wire.HEADER.pack(*fields) + payload for fields, payload in received]


@contextlib.contextmanager
def _parent() -> Iterator[tuple[ParentChannel, socket.socket, socket.socket]]:
    """A parent's channel and the two bare sockets of the other side."""
    stream, their_stream = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    descriptors, their_descriptors = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = ParentChannel(stream, descriptors)
    try:
        yield channel, their_stream, their_descriptors
    finally:
        channel.close()
        their_stream.close()
        their_descriptors.close()


@contextlib.contextmanager
def _worker(stream_type: int = socket.SOCK_STREAM) -> Iterator[tuple[WorkerChannel, socket.socket]]:
    """A worker's channel and the bare stream of the other side.

    With SOCK_SEQPACKET each recv() of the worker gets what one send() gave: the cuts are where the test wants them.
    """
    ours, stream = socket.socketpair(socket.AF_UNIX, stream_type)
    our_descriptors, descriptors = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = WorkerChannel(stream, descriptors)
    try:
        yield channel, ours
    finally:
        channel.close()
        ours.close()
        our_descriptors.close()


@contextlib.contextmanager
def _both() -> Iterator[tuple[ParentChannel, WorkerChannel]]:
    """Both ends of one channel."""
    stream, their_stream = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    descriptors, their_descriptors = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent, worker = ParentChannel(stream, descriptors), WorkerChannel(their_stream, their_descriptors)
    try:
        yield parent, worker
    finally:
        parent.close()
        worker.close()


# -- frames


@given(frames, st.lists(st.integers(0, 2**20), max_size=12))
@settings(deadline=None)
def test_the_parent_gets_whole_frames_however_the_bytes_are_cut(sent: list[bytes], cuts: list[int]) -> None:
    """All of them, in order, each as soon as its last byte is there."""
    received: list[bytes] = []
    with _parent() as (channel, theirs, _):
        theirs.setblocking(False)
        for piece in _cut(b"".join(sent), cuts):
            rest = memoryview(piece)
            while rest:
                rest = rest[theirs.send(rest) :]
                got, is_ended = channel.receive()
                assert not is_ended
                received += _as_sent(got)
    assert received == sent


@given(frames, st.lists(st.integers(0, 2**20), max_size=12))
@settings(deadline=None)
def test_the_worker_gets_whole_frames_however_the_bytes_are_cut(sent: list[bytes], cuts: list[int]) -> None:
    """A reader that asks for headers and payloads gets these, and then the end."""
    # A packet is received in one piece or cut off.
    pieces = [data for piece in _cut(b"".join(sent), cuts) for data in _cut(piece, [RECEIVE_BYTES // 2] * 40)]
    with _worker(socket.SOCK_SEQPACKET) as (channel, ours):
        writer = threading.Thread(target=lambda: [ours.send(piece) for piece in pieces] and ours.close())
        writer.start()
        for frame in sent:
            fields = channel.receive_header()
            assert wire.HEADER.pack(*fields) + channel.receive_payload(fields[7]) == frame
        with pytest.raises(ChannelClosed):
            channel.receive_header()
        writer.join()


def test_a_payload_of_many_reads_reaches_the_worker_whole() -> None:
    """Far beyond the socket's buffer, with a small frame before it and behind it."""
    large = os.urandom(3 * MIB)
    with _worker() as (channel, ours):
        data = wire.frame(wire.RUN, 1, b"before") + wire.frame(wire.RUN, 2, large) + wire.frame(wire.RUN, 3, b"behind")
        writer = threading.Thread(target=ours.sendall, args=(data,))
        writer.start()
        for seq, payload in ((1, b"before"), (2, large), (3, b"behind")):
            fields = channel.receive_header()
            assert fields[6] == seq
            assert channel.receive_payload(fields[7]) == payload
        writer.join()


def test_the_parent_takes_no_part_of_a_frame_for_a_frame() -> None:
    """A worker that dies at any byte: what was whole arrives, then the end, never anything else."""
    sent = [wire.frame(wire.RESULT, 1, b"one"), wire.frame(wire.LOG), wire.frame(wire.ERROR, 2, b"two")]
    data = b"".join(sent)
    for length in range(len(data) + 1):
        with _parent() as (channel, theirs, _):
            theirs.sendall(data[:length])
            theirs.close()
            received: list[bytes] = []
            is_ended = False
            while not is_ended:
                got, is_ended = channel.receive()
                received += _as_sent(got)
        num_whole = sum(len(b"".join(sent[: number + 1])) <= length for number in range(len(sent)))
        assert received == sent[:num_whole]


def test_the_worker_takes_no_part_of_a_frame_for_a_frame() -> None:
    """A parent that dies at any byte is an end, not a short read."""
    data = wire.frame(wire.RUN, 7, b"payload")
    for length in range(len(data)):
        with _worker() as (channel, ours):
            ours.sendall(data[:length])
            ours.close()
            with pytest.raises(ChannelClosed):
                channel.receive_payload(channel.receive_header()[7])


def test_a_header_makes_the_parent_allocate_nothing() -> None:
    """A frame of 2**60 bytes is announced and some KiB of it come: memory grows by these alone."""
    with _parent() as (channel, theirs, _):
        theirs.sendall(wire.HEADER.pack(wire.RESULT, 0, 0, 0, 0, 0, 1, 1 << 60) + bytes(64 * 1024))
        tracemalloc.start()
        try:
            assert channel.receive() == ([], False)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2 * MIB
        theirs.close()
        assert channel.receive() == ([], True)


# -- flow


@given(
    st.lists(st.lists(st.sampled_from([0, 1, 1000, 40_000, 300_000]), max_size=4), min_size=1, max_size=8),
    st.lists(st.integers(1, 400_000), max_size=30),
)
@settings(deadline=None)
def test_what_is_sent_arrives_in_order_however_slowly_it_is_read(sends: list[list[int]], reads: list[int]) -> None:
    """send() and flush() return at once, whatever the reader does; in the end it has every byte."""
    sent, got = bytearray(), bytearray()
    with _parent() as (channel, theirs, _):
        theirs.setblocking(False)
        amounts = iter(reads)
        for number, sizes in enumerate(sends):
            pieces = [bytes([(number * 7 + index) % 256]) * size for index, size in enumerate(sizes)]
            sent += b"".join(pieces)
            channel.send(pieces)
            with contextlib.suppress(BlockingIOError):
                got += theirs.recv(next(amounts, 1))
            if next(amounts, 1) % 2:
                channel.flush()
        while True:
            channel.flush()
            try:
                got += theirs.recv(MIB)
            except BlockingIOError:
                break
        assert not channel.wants_to_send
    assert got == sent


def test_a_stopped_worker_keeps_the_parent_neither_from_sending_nor_from_receiving() -> None:
    """Nobody reads, and 32 MiB are sent: the parent goes on at once and still takes in what comes."""
    with _parent() as (channel, theirs, _):
        channel.send([bytes(32 * MIB)])
        assert channel.wants_to_send
        assert not select.select([], [channel], [], 0)[1], "it would not have to wait"
        theirs.sendall(wire.frame(wire.RESULT, 5, b"answer"))
        got, is_ended = channel.receive()
        assert _as_sent(got) == [wire.frame(wire.RESULT, 5, b"answer")]
        assert not is_ended


def test_both_sides_sending_a_lot_at_once_do_not_wait_for_each_other() -> None:
    """The worker blocks in its send while the parent's 16 MiB are on their way: both arrive."""
    size = 16 * MIB
    received = bytearray()
    with _both() as (parent, worker):

        def work() -> None:
            worker.send(wire.frame(wire.RESULT, 1, b"r" * size))
            received.extend(worker.receive_payload(worker.receive_header()[7]))

        thread = threading.Thread(target=work)
        thread.start()
        parent.send([wire.frame(wire.RUN, 1, b"i" * size)])
        answers: list[bytes] = []
        while parent.wants_to_send or not answers:
            readable, writable, _ = select.select([parent], [parent] if parent.wants_to_send else [], [])
            if writable:
                parent.flush()
            if readable:
                answers += [payload for _, payload in parent.receive()[0]]
        thread.join()
        assert answers == [b"r" * size]
        assert received == b"i" * size


def test_sending_to_a_worker_that_has_gone_is_an_error() -> None:
    """At once, or when the rest is flushed, and on a closed channel too."""
    with _parent() as (channel, theirs, _):
        theirs.close()
        with pytest.raises(ChannelClosed):
            channel.send([b"data"])
    with _parent() as (channel, theirs, _):
        channel.send([bytes(4 * MIB)])
        theirs.close()
        with pytest.raises(ChannelClosed):
            channel.flush()
        channel.close()
        channel.close()
        with pytest.raises(ChannelClosed):
            channel.send([b"more"])


def test_the_parents_end_is_an_end_for_a_worker_that_sends() -> None:
    """Not an error of the item that it was about to answer."""
    with _worker() as (channel, ours):
        ours.close()
        with pytest.raises(ChannelClosed):
            channel.send(bytes(MIB))


# -- descriptors


@contextlib.contextmanager
def _pipes(count: int) -> Iterator[tuple[list[int], list[int]]]:
    """Read ends and write ends of so many pipes; the read ends are closed here, what is sent by who gets it."""
    pairs = [os.pipe() for _ in range(count)]
    readers, writers = [r for r, _ in pairs], [w for _, w in pairs]
    try:
        yield readers, writers
    finally:
        for fd in readers:
            os.close(fd)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _has_ended(reader: int) -> bool:
    """Whether nobody holds the write end any more."""
    return bool(select.select([reader], [], [], 0)[0]) and os.read(reader, 1) == b""


@contextlib.contextmanager
def _room_for(count: int) -> Iterator[None]:
    """So many descriptors more may be opened in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.dup(0) for _ in range(count + 1)]
    _close_all(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("count", [1, 2, wire.MAX_DESCRIPTORS])
def test_descriptors_arrive_with_their_frame_and_are_not_inherited(count: int) -> None:
    """In order, up to as many as the kernel takes in one message."""
    with _both() as (parent, worker), _pipes(count) as (readers, writers):
        parent.send_descriptors(9, writers)
        _close_all(writers)
        received = worker.receive_descriptors(9, count)
        assert not any(os.get_inheritable(fd) for fd in received)
        for number, fd in enumerate(received):
            os.write(fd, b"%d" % number)
        _close_all(received)
        assert [os.read(fd, 8) for fd in readers] == [b"%d" % number for number in range(count)]
        assert all(map(_has_ended, readers))


def test_descriptors_of_a_frame_that_was_taken_back_are_closed() -> None:
    """The worker never asks for them; the next frame gets its own."""
    with _both() as (parent, worker), _pipes(2) as (readers, writers):
        parent.send_descriptors(1, writers[:1])
        parent.send_descriptors(2, writers[1:])
        _close_all(writers)
        received = worker.receive_descriptors(2, 1)
        assert _has_ended(readers[0])
        assert not _has_ended(readers[1])
        _close_all(received)


@pytest.mark.parametrize("num_that_fit", [0, 1, 2])
def test_descriptors_lost_on_the_way_cost_their_frame_alone(num_that_fit: int) -> None:
    """The receiver may open no more files: an error that says so, nothing is kept, and the next frame is well."""
    with _both() as (parent, worker), _pipes(4) as (readers, writers):
        parent.send_descriptors(1, writers[:3])
        parent.send_descriptors(2, writers[3:])
        _close_all(writers)
        with _room_for(num_that_fit), pytest.raises(OSError, match=rf"{3 - num_that_fit} of 3 descriptors were lost"):
            worker.receive_descriptors(1, 3)
        assert all(map(_has_ended, readers[:3]))
        received = worker.receive_descriptors(2, 1)
        assert not _has_ended(readers[3])
        _close_all(received)


def test_waiting_for_descriptors_ends_with_the_parent() -> None:
    """It is an end, like that of the frames."""
    with _both() as (parent, worker):
        parent.close()
        with pytest.raises(ChannelClosed):
            worker.receive_descriptors(1, 1)


def test_descriptors_for_a_worker_that_has_gone_are_an_error_and_stay_ours() -> None:
    """The item fails; its descriptors can still be closed here."""
    with _both() as (parent, worker), _pipes(1) as (readers, writers):
        worker.close()
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            parent.send_descriptors(1, writers)
        assert not _has_ended(readers[0])
        _close_all(writers)
        assert _has_ended(readers[0])


def test_a_stopped_worker_does_not_block_the_sending_of_descriptors() -> None:
    """When its socket is full the frame fails; nothing waits."""
    with _both() as (parent, _), _pipes(1) as (_, writers):

        def send_for_ever() -> None:
            for seq in itertools.count():
                parent.send_descriptors(seq, writers)

        with pytest.raises(BlockingIOError):
            send_for_ever()
        _close_all(writers)


# -- forks


def test_a_forked_process_keeps_no_end_of_a_channel() -> None:
    """Somebody forks; when the parent closes its end the worker sees that, though the fork lives on."""
    with _both() as (parent, worker), _pipes(1) as ((lifeline,), (held,)):
        pid = os.fork()
        if not pid:
            os.close(held)
            os.read(lifeline, 1)
            os._exit(0)
        try:
            parent.close()
            with pytest.raises(ChannelClosed):
                worker.receive_header()
        finally:
            os.close(held)
            assert os.waitpid(pid, 0)[1] == 0


def test_a_duration_too_long_for_its_field_is_the_longest_there_is() -> None:
    """A stage that ran for hours must not look like a short one."""
    assert wire.duration_us(1_000, 5_000) == 4
    assert wire.duration_us(0, 10**9 * 3600 * 24) == 2**32 - 1
