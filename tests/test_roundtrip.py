"""roundtrip = true: what does not decode to the input is never published."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest
from byte_chains import Portions, both_runners, failure, file_item, publish, run_item, through
from codec_table import BZIP2, GZIP, MIB, each_codec, text
from mpp_stages.byte_stage import CHUNK_BYTES, ByteStage
from mpp_stages.errors import StageDataError
from mpp_stages.gzip_stage import GzipStage
from mpp_stages.roundtrip import RoundTripError, proved_by_decoding
from mpp_stages.write import WriteStage


class Damages:
    """A block format of which one block's bytes are wrong after packing, as with faulty memory."""

    def __init__(self, real, damage):
        self._real, self._damage, self._number = real, damage, 0
        self.block_bytes, self.history_bytes = real.block_bytes, real.history_bytes
        self.head, self.tail, self.pack = real.head, real.tail, real.pack

    def join(self, packed):
        data = self._real.join(packed)
        self._number += 1
        return self._damage(data) if self._number == 2 else data


class Damaging(GzipStage):
    """gzip by a compressor that fails."""

    def __init__(self, damage, **options):
        super().__init__(**options)
        self.damage = damage

    def new_format(self):
        return Damages(super().new_format(), self.damage)


def flip_a_bit(data: bytes) -> bytes:
    return data[:1000] + bytes([data[1000] ^ 4]) + data[1001:]


def drop_the_block(_data: bytes) -> bytes:
    return b""


def nothing(data: bytes) -> bytes:
    return data


class Copies(ByteStage):
    """A codec whose output is its input, but for a letter."""

    name = "copies"
    roundtrip = True

    def __init__(self, wrong: bytes = b"") -> None:
        super().__init__()
        self.wrong = wrong

    def new_decoder(self) -> ByteStage:
        return Copies()

    @proved_by_decoding
    def run(self, reader, writer, item):
        while data := reader.read1(CHUNK_BYTES):
            writer.write(data.replace(b"e", self.wrong) if self.wrong else data)


class Undecorated(Copies):
    """Decodes without proving it once more."""

    roundtrip = False


@each_codec
def test_good_output_is_published_as_without(codec):
    """The same bytes, for nothing, little, and more than may wait for the decoder."""
    for size in (0, 1, 3000, 9 * MIB):
        data = text(size)
        assert through(codec.compressor(roundtrip=True, **codec.options), data) == through(
            codec.compressor(**codec.options), data
        )


@both_runners
@pytest.mark.parametrize("damage", [flip_a_bit, drop_the_block])
def test_damaged_output_is_not_published(tmp_path, serial, damage):
    """The item fails with an error that names stage, file and reason; without the option it would have succeeded."""
    (tmp_path / "x").write_bytes(text(2 * MIB))
    stages = [Damaging(damage, level=1, roundtrip=True), WriteStage()]
    item = run_item(stages, file_item(tmp_path / "x", tmp_path / "x.gz"), serial=serial)
    ex = failure(item, RoundTripError)
    assert str(ex).startswith(f"stage 'gzip': {str(tmp_path / 'x')!r}: the output does not decode to the input: the co")
    assert not item.is_written
    item.discard()
    assert os.listdir(tmp_path) == ["x"]
    publish(
        run_item([Damaging(damage, level=1), WriteStage()], file_item(tmp_path / "x", tmp_path / "x.gz"), serial=True)
    )
    with pytest.raises(StageDataError):
        through(GZIP.decompressor(), (tmp_path / "x.gz").read_bytes())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(b"a", "the same number of bytes, 12, but not the same bytes"), (b"ee", "12 bytes have become 14")],
)
def test_output_that_decodes_to_something_else_is_found(wrong, words):
    """No checksum of a format is needed for it."""
    with pytest.raises(RoundTripError, match=words):
        through(CopiesOnce(wrong), b"three  .....")


class CopiesOnce(Copies):
    """Its decoder is of another class, which does not prove anything again."""

    def new_decoder(self) -> ByteStage:
        return Undecorated()


@pytest.mark.parametrize("codec", [GZIP, BZIP2], ids=str)
def test_output_with_garbage_behind_it_is_found(codec):
    """What these formats' own programs would ignore."""

    class WritesMore(codec.compressor):
        @proved_by_decoding
        def run(self, reader, writer, item):
            writer.write(through(codec.compressor(), reader.read()) + b"more")

    with pytest.raises(RoundTripError, match="what follows the compressed data at byte"):
        through(WritesMore(roundtrip=True), b"data")


def test_output_of_only_a_part_of_the_input_is_found():
    """What was written decodes to what was read, and that was not all."""

    class ReadsOnce(Copies):
        @proved_by_decoding
        def run(self, reader, writer, item):
            writer.write(reader.read1(CHUNK_BYTES))

        def new_decoder(self) -> ByteStage:
            return Undecorated()

    with pytest.raises(RoundTripError, match="the input was not read to its end"):
        through(ReadsOnce(), Portions([b"some", b"more"]))


def test_a_decoder_that_stops_early_holds_nobody_up():
    """Damage near the beginning of much data: the rest is neither kept nor waited for."""
    with pytest.raises(RoundTripError, match="corrupt"):
        through(Damaging(flip_a_bit, level=1, roundtrip=True), Portions(text(MIB) for _ in range(40)))


def test_a_failed_input_ends_the_decoder_and_is_told_as_it_is():
    """Its own error, not that of the decoder; no thread stays."""
    before = threading.active_count()
    with pytest.raises(OSError, match="torn"):
        through(GZIP.compressor(roundtrip=True), Portions([text(MIB), OSError("torn")]))
    assert threading.active_count() == before


def test_a_target_that_fails_ends_the_decoder():
    """As when a disk is full."""

    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, _data: object, /) -> int:
            raise OSError(28, "No space left on device")

    reader: io.BufferedReader = io.BufferedReader(Portions([text(2 * MIB)]))
    raw = Full()
    writer: io.BufferedWriter = io.BufferedWriter(raw)
    with pytest.raises(OSError, match="No space"):
        GZIP.compressor(roundtrip=True).run(reader, writer, file_item(Path("x"), Path("y")))
    raw.close()
