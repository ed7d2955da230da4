"""The wire format: whatever way a stream is cut, it is read as written; whatever is broken, it is refused."""

from __future__ import annotations

import pickle
import struct
from zlib import crc32

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atbu.mp_pipeline import frames
from atbu.mp_pipeline.exception import InvalidPipeConnectionMessage
from atbu.mp_pipeline.frames import (
    ABORT,
    DATA,
    DATA_FINAL,
    END,
    END_FRAME,
    HEADER_BYTES,
    MAX_ABORT_FRAME_BYTES,
    MESSAGE,
    FrameCursor,
    decode_header,
    decode_reason,
    encode_abort,
    encode_header,
)

Frame = tuple[int, bytes, bytes]


class Collector:
    """A reader as simple as can be: takes a stream in any pieces, keeps the frames that are whole."""

    def __init__(self, takes_header_along: bool = False) -> None:
        self.cursor = FrameCursor()
        self.frames: list[Frame] = []
        self._body = b""
        self._takes_header_along = takes_header_along

    def feed(self, piece: bytes) -> None:
        cursor = self.cursor
        while piece and not cursor.is_ended:
            if cursor.kind is None:
                piece = self._feed_header(piece)
                if not cursor.open_frame():
                    continue
                if not cursor.left:
                    self._finish_body(0)
            else:
                taken, piece = piece[: cursor.left], piece[cursor.left :]
                self._body += taken
                if self._takes_header_along and len(taken) == cursor.left and cursor.kind == DATA:
                    piece = self._feed_header(piece)
                self._finish_body(len(taken))
                if cursor.kind is None and cursor.open_frame() and not cursor.left:
                    self._finish_body(0)

    def _feed_header(self, piece: bytes) -> bytes:
        start = self.cursor.header_have
        header = piece[: HEADER_BYTES - start]
        self.cursor.header[start : start + len(header)] = header
        self.cursor.header_arrived(len(header))
        return piece[len(header) :]

    def _finish_body(self, count: int) -> None:
        cursor = self.cursor
        kind, command_bytes = cursor.kind, cursor.command_bytes
        cursor.body_taken(count)
        if cursor.kind is None:
            assert kind is not None
            self.frames.append((kind, self._body[:command_bytes], self._body[command_bytes:]))
            self._body = b""


def encode(frame: Frame) -> bytes:
    kind, command, data = frame
    return encode_header(kind, len(data), len(command)) + command + data


data_frames = st.tuples(st.just(DATA), st.just(b""), st.binary(max_size=40))
message_frames = st.tuples(st.just(MESSAGE), st.binary(max_size=10), st.binary(max_size=40))
last_frames = st.one_of(
    st.tuples(st.just(DATA_FINAL), st.just(b""), st.binary(max_size=40)),
    st.just((END, b"", b"")),
)
streams = st.tuples(st.lists(st.one_of(data_frames, message_frames), max_size=6), last_frames).map(
    lambda parts: [*parts[0], parts[1]]
)


@given(streams, st.lists(st.integers(1, 30), min_size=1), st.booleans())
def test_a_stream_is_read_as_written_however_it_is_cut(
    stream: list[Frame], cuts: list[int], takes_header_along: bool
) -> None:
    """Frames come out whole, in order, and the end is seen exactly at the end."""
    raw = b"".join(map(encode, stream))
    collector = Collector(takes_header_along)
    position, turn = 0, 0
    while position < len(raw):
        assert not collector.cursor.is_ended
        size = cuts[turn % len(cuts)]
        collector.feed(raw[position : position + size])
        position, turn = position + size, turn + 1
    assert collector.frames == stream
    assert collector.cursor.is_ended


@given(streams)
def test_a_stream_cut_short_at_any_byte_is_never_complete(stream: list[Frame]) -> None:
    """What is whole before the cut is read, and nothing says that this was all."""
    raw = b"".join(map(encode, stream))
    for length in range(len(raw)):
        collector = Collector()
        collector.feed(raw[:length])
        assert not collector.cursor.is_ended
        assert collector.frames == stream[: len(collector.frames)]
        assert len(collector.frames) < len(stream)


@pytest.mark.parametrize("kind", [DATA, DATA_FINAL, MESSAGE, END, ABORT])
def test_a_header_with_one_wrong_bit_is_refused(kind: int) -> None:
    """Every bit of a header is checked."""
    header = encode_header(kind, 0 if kind == END else 3, 7 if kind == MESSAGE else 0)
    for bit in range(HEADER_BYTES * 8):
        damaged = bytearray(header)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidPipeConnectionMessage):
            decode_header(damaged)


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_sixteen_random_bytes_are_refused(raw: bytes) -> None:
    """Nothing but what encode_header builds is a header."""
    with pytest.raises(InvalidPipeConnectionMessage):
        decode_header(raw)


@pytest.mark.parametrize(
    ("kind", "command_bytes", "data_bytes"),
    [(0, 0, 0), (6, 0, 0), (255, 0, 0), (DATA, 1, 0), (DATA_FINAL, 1, 5), (END, 0, 1), (END, 1, 0), (ABORT, 0, 4081)],
)
def test_an_impossible_header_is_refused_even_with_its_checksum_right(
    kind: int, command_bytes: int, data_bytes: int
) -> None:
    """The checksum guards against damage, this against another version's frames."""
    facts = struct.pack(">BBHQ", frames.MAGIC, kind, command_bytes, data_bytes)
    with pytest.raises(InvalidPipeConnectionMessage, match="damaged"):
        decode_header(facts + struct.pack(">I", crc32(facts)))


@given(st.integers(0, (1 << 64) - 1), st.integers(0, 0xFFFF))
def test_a_header_carries_any_length(data_bytes: int, command_bytes: int) -> None:
    """Lengths come back as given."""
    assert decode_header(encode_header(MESSAGE, data_bytes, command_bytes)) == (MESSAGE, command_bytes, data_bytes)
    assert decode_header(encode_header(DATA, data_bytes)) == (DATA, 0, data_bytes)


@given(st.integers(0, 0x7FFFFFFF))
def test_a_bare_connections_message_is_told_apart_by_its_first_byte(length: int) -> None:
    """multiprocessing's own length is refused at once, by what it is: the other fifteen bytes may never come."""
    for raw in (struct.pack("!i", length), struct.pack("!iQ", -1, length)):
        collector = Collector()
        with pytest.raises(InvalidPipeConnectionMessage, match="bare"):
            collector.feed(raw[:1])


def test_what_is_no_frame_and_no_bare_message_is_named_by_its_byte() -> None:
    """The error shows what stood there."""
    with pytest.raises(InvalidPipeConnectionMessage, match="0x9a"):
        Collector().feed(b"\x9a")


def test_no_frame_opens_before_its_header_is_whole() -> None:
    """A cursor waits for all sixteen bytes."""
    cursor = FrameCursor()
    assert not cursor.open_frame()
    collector = Collector()
    collector.feed(END_FRAME[:-1])
    assert collector.cursor.kind is None
    collector.feed(END_FRAME[-1:])
    assert collector.cursor.is_ended


@given(streams, st.integers(0, 200))
def test_a_cursor_goes_on_after_pickling(stream: list[Frame], position: int) -> None:
    """An end that is handed to another process goes on where it stood."""
    raw = b"".join(map(encode, stream))
    collector = Collector()
    collector.feed(raw[:position])
    collector.cursor = pickle.loads(pickle.dumps(collector.cursor))
    collector.feed(raw[position:])
    assert collector.frames == stream


@example("\ud800")
@given(st.text(max_size=50))
def test_any_reason_fits_an_abort(reason: str) -> None:
    """Whatever the text, surrogates too, the frame is well-formed and the reason readable."""
    frame = encode_abort(reason)
    kind, _, data_bytes = decode_header(frame[:HEADER_BYTES])
    assert (kind, data_bytes) == (ABORT, len(frame) - HEADER_BYTES)
    told = decode_reason(frame[HEADER_BYTES:])
    if reason and reason.isascii():
        assert told == reason
    assert (told is None) == (not reason)


@pytest.mark.parametrize("letter", ["a", "é", "€", "𝄞"])
def test_a_long_reason_is_cut_to_what_a_pipe_takes_in_one_piece(letter: str) -> None:
    """No more than PIPE_BUF bytes, and no half of a character at the cut."""
    frame = encode_abort("x" + letter * 5000)
    assert len(frame) <= MAX_ABORT_FRAME_BYTES
    told = decode_reason(frame[HEADER_BYTES:])
    assert told is not None
    assert set(told) == {"x", letter}
    assert len(told.encode()) > MAX_ABORT_FRAME_BYTES - HEADER_BYTES - 4
