"""Every codec: against its own program, torn, corrupt and hostile input, and the same bytes in all circumstances."""

from __future__ import annotations

import gzip
import io
import pickle
import random
import re
from pathlib import Path
from typing import Any

import pytest
from byte_chains import Collector, Portions, both_runners, failure, file_item, publish, through
from codec_table import (
    BZIP2,
    CODECS,
    GZIP,
    LZ4,
    MIB,
    XZ,
    ZSTD,
    each_block_codec,
    each_codec,
    noise,
    packed_by,
    run_program,
    text,
    unpacked_by,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from mpp_stages.decompress import DecompressStage
from mpp_stages.errors import StageDataError
from mpp_stages.naming import target_path
from mpp_stages.write import WriteStage

from atbu.mp_pipeline.pipeline import MultiprocessingPipeline

#: Lengths around a block's end, as its content and as what one more or less makes of it.
AROUND = (-1, 0, 1)
SKIPPABLE = (0x184D2A53).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"extra"

# -- against the format's own program


@each_codec
def test_what_we_write_the_program_reads_and_the_other_way_round(codec, require_tool):
    """Nothing, one byte, text and noise, around the end of a block and over several."""
    program = require_tool(codec.program)
    contents = [b"", b"x", text(3000), noise(3000), bytes(3 * codec.block_bytes)]
    contents += [text(codec.block_bytes + more) for more in AROUND]
    contents.append(text(2 * codec.block_bytes + 5) + noise(codec.block_bytes))
    for data in contents:
        packed = through(codec.compressor(**codec.options), data)
        assert unpacked_by(program, packed) == data
        assert through(codec.decompressor(), packed) == data
    assert through(codec.decompressor(), packed_by(program, contents[-1], "-1")) == contents[-1]


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_every_level_is_read_by_the_program(codec, require_tool):
    """From the lowest to the highest, a higher one being smaller."""
    program = require_tool(codec.program)
    data = text(60_000)
    levels = {GZIP: range(10), XZ: range(10), BZIP2: range(1, 10), LZ4: range(1, 13), ZSTD: range(1, 20)}[codec]
    sizes = []
    for level in levels:
        packed = through(codec.compressor(level=level), data)
        assert through(codec.decompressor(), packed) == data
        if level in (levels[0], levels[-1]):
            assert unpacked_by(program, packed) == data
        sizes.append(len(packed))
    assert codec is BZIP2 or sizes[-1] < sizes[0]


@each_codec
def test_concatenated_members_are_one_input(codec, require_tool):
    """Ours and the program's, empty ones between, wherever portions end."""
    program = require_tool(codec.program)
    compressor = codec.compressor(**codec.options)
    members = [through(compressor, b"first "), packed_by(program, b"second "), through(compressor, b"")]
    members += [packed_by(program, b""), through(compressor, b"last")]
    joined = b"".join(members)
    assert unpacked_by(program, joined) == b"first second last"
    for stage in (codec.decompressor(), DecompressStage()):
        assert through(stage, joined) == b"first second last"
        assert through(stage, Portions(members)) == b"first second last"
        assert through(stage, Portions(joined[i : i + 1] for i in range(len(joined)))) == b"first second last"


def test_python_and_pigz_read_our_gzip_and_we_theirs(require_tool):
    """And BGZF: members with an extra field, the last of them empty."""
    data = text(2 * MIB)
    packed = through(GZIP.compressor(level=6), data)
    pigz = require_tool("pigz")
    assert gzip.decompress(packed) == data
    assert unpacked_by(pigz, packed) == data
    assert through(GZIP.decompressor(), gzip.compress(data, 1)) == data
    assert through(GZIP.decompressor(), packed_by(pigz, data, "-p2")) == data
    assert through(GZIP.decompressor(), packed_by(pigz, data, "-p2", "-i")) == data
    bgzf = b"".join(_bgzf_member(part) for part in (data[:60_000], data[60_000:100_000], b""))
    assert through(GZIP.decompressor(), bgzf) == data[:100_000]


def _bgzf_member(data: bytes) -> bytes:
    """A block of BGZF (SAM/BAM specification, 4.1): gzip with the member's size in a field ``BC``."""
    plain = gzip.compress(data, mtime=0)
    field = b"BC\x02\x00" + (len(plain) + 8 - 1).to_bytes(2, "little")
    return plain[:3] + b"\x04" + plain[4:10] + len(field).to_bytes(2, "little") + field + plain[10:]


def test_a_gzip_header_with_all_its_fields_is_passed_over(require_tool):
    """Name, comment, extra field: what gzip and others put there."""
    plain = gzip.compress(b"content", mtime=1)
    full = plain[:3] + b"\x1c" + plain[4:10] + b"\x03\x00abc" + b"name\0" + b"a comment\0" + plain[10:]
    assert unpacked_by(require_tool("gzip"), full) == b"content"
    assert through(GZIP.decompressor(), full) == b"content"
    for cut in range(len(full)):
        with pytest.raises(StageDataError):
            through(GZIP.decompressor(), full[:cut])


def test_the_older_lzma_format_is_read(require_tool):
    """As xz does; a torn one is an error."""
    data = text(100_000)
    packed = packed_by(require_tool("xz"), data, "--format=lzma")
    for stage in (XZ.decompressor(), DecompressStage()):
        assert through(stage, packed) == data
        with pytest.raises(StageDataError, match="truncated"):
            through(stage, packed[:-1])


def test_an_xz_stream_of_many_blocks_is_one_that_xz_lists(tmp_path, require_tool):
    """One stream, its blocks in the index with their sizes."""
    (tmp_path / "x.xz").write_bytes(through(XZ.compressor(level=0), text(2 * MIB + MIB // 2)))
    done = run_program(require_tool("xz"), "--robot", "--list", "-v", str(tmp_path / "x.xz"), data=b"")
    rows = [line.split("\t") for line in done.stdout.decode().splitlines()]
    sizes = [row[7] for row in rows if row[0] == "block"]
    assert sizes == [str(MIB), str(MIB), str(MIB // 2)]
    assert sum(row[0] == "stream" for row in rows) == 1


def test_lz4_is_read_with_linked_blocks_all_sizes_and_checksums(require_tool):
    """Whatever its program can be told to write."""
    program, data = require_tool("lz4"), text(300_000)
    for options in (["-B4", "-BD"], ["-B5", "-BX"], ["--content-size", "-9"], ["--no-frame-crc"]):
        assert through(LZ4.decompressor(), packed_by(program, data, *options)) == data
    with pytest.raises(StageDataError, match="legacy format of lz4"):
        through(LZ4.decompressor(), packed_by(program, data, "-l"))


def test_bzip2_takes_data_that_its_first_step_makes_longer(require_tool):
    """Runs of four bytes are stored in five: a block's input then fills two."""
    data = b"".join(bytes([i % 251]) * 4 for i in range(100_000))
    packed = through(BZIP2.compressor(level=1, roundtrip=True), data)
    assert unpacked_by(require_tool("bzip2"), packed) == data


def test_a_flipped_bit_in_an_lz4_block_s_header_is_an_error():
    """Also the one that says the block is stored as it is, which no checksum of blocks covers."""
    packed = through(LZ4.compressor(), text(3_000))
    for bit in range(32):
        damaged = bytearray(packed)
        damaged[7 + bit // 8] ^= 1 << bit % 8
        with pytest.raises(StageDataError):
            through(LZ4.decompressor(), bytes(damaged))


# -- the same bytes in all circumstances


@each_block_codec
def test_threads_and_arrival_do_not_show_in_the_output(codec):
    """One thread or several; in one piece or in many."""
    data = text(3 * codec.block_bytes + 1000)
    source = random.Random(7)
    made = {through(codec.compressor(threads=threads, **codec.options), data) for threads in (1, 2, 5, None)}
    for largest in (codec.block_bytes, 70_000):
        portions, place = [], 0
        while place < len(data):
            n = source.randint(1, largest)
            portions.append(data[place : place + n])
            place += n
        made.add(through(codec.compressor(threads=2, **codec.options), Portions(portions)))
    made.add(through(codec.compressor(roundtrip=True, **codec.options), data))
    assert len(made) == 1


@pytest.mark.parametrize("where", ["processes", "one worker", "serial"])
def test_files_go_there_and_back_alike_wherever_the_stages_run(tmp_path, where):
    """In worker processes, inside one, and in this process: the same bytes."""
    contents = {"empty": b"", "small": text(3000), "large": text(MIB + 1)}
    stages = {codec: codec.compressor(**codec.options) for codec in CODECS}
    for codec, stage in stages.items():
        items = []
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
            items.append(file_item(tmp_path / name, tmp_path / f"{name}{codec.suffix}"))
        _run_all([stage, WriteStage()], items, where)
        for name, content in contents.items():
            assert (tmp_path / f"{name}{codec.suffix}").read_bytes() == through(stage, Sized(content))
    packed = [path for path in tmp_path.iterdir() if path.suffix]
    assert len(packed) == len(CODECS) * len(contents)
    back = [file_item(path, tmp_path / f"{path.name}.back") for path in packed]
    _run_all([DecompressStage(), WriteStage()], back, where)
    for path in packed:
        assert (tmp_path / f"{path.name}.back").read_bytes() == contents[path.stem]


class Sized(io.BytesIO):
    """Tells its size before, as a file does."""

    @property
    def size(self) -> int:
        return len(self.getvalue())


def _run_all(stages: list[Any], items: list[Any], where: str) -> None:
    for item in items:
        item.in_one_worker = where == "one worker"
    with MultiprocessingPipeline(stages, 2, "codecs", serial=where == "serial") as pipeline:
        for item in pipeline.map(items):
            publish(item)


@each_codec
@pytest.mark.parametrize("by", ["its own", "decompress"])
def test_items_at_once_on_threads_do_not_share_what_a_stage_keeps(tmp_path, codec, by):
    """run_in = "thread": one stage object for all of them."""
    decompressor = DecompressStage() if by == "decompress" else codec.decompressor()
    stages = [codec.compressor(**codec.options), decompressor, WriteStage()]
    for stage in stages:
        stage.run_in = "thread"
    contents = {f"{number}": text(MIB, seed=number) for number in range(6)}
    items = []
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        items.append(file_item(tmp_path / name, tmp_path / f"{name}.back"))
    with MultiprocessingPipeline(stages, 3, "threads") as pipeline:
        for item in pipeline.map(items):
            publish(item)
    for name, content in contents.items():
        assert (tmp_path / f"{name}.back").read_bytes() == content


@each_codec
def test_a_used_stage_can_be_pickled_and_used_again(codec):
    """And after failures: what it keeps is not worth a word."""
    stage, back = codec.compressor(**codec.options), codec.decompressor()
    data = text(3000)
    packed = through(stage, data)
    with pytest.raises(OSError, match="torn"):
        through(stage, Portions([data, OSError("torn")]))
    with pytest.raises(StageDataError):
        through(back, packed[:-1])
    for same in (stage, pickle.loads(pickle.dumps(stage))):
        assert through(same, data) == packed
    for same in (back, pickle.loads(pickle.dumps(back))):
        assert through(same, packed) == data


# -- failures


@each_codec
@pytest.mark.parametrize("blocks", [0, 1, 2.5])
def test_the_output_is_never_complete_when_the_input_fails(codec, blocks):
    """Nor is anything that a reader of it has seen before: no beginning of it decodes."""
    size = int(blocks * codec.block_bytes)
    whole = through(codec.compressor(**codec.options), text(size))
    made = Collector()
    reader: io.BufferedReader = io.BufferedReader(Portions([*filter(None, [text(size)]), OSError("torn")]))
    writer: io.BufferedWriter = io.BufferedWriter(made)
    with pytest.raises(OSError, match="torn"):
        codec.compressor(threads=2, **codec.options).run(reader, writer, file_item(Path("x"), Path("y")))
    writer.flush()
    begun = b"".join(made.portions)
    with pytest.raises(StageDataError):
        through(codec.decompressor(), begun)
    ends = {0, len(begun)}
    for portion in made.portions:
        ends.add(max(ends - {len(begun)}) + len(portion))
    ends |= {random.Random(3).randrange(len(whole)) for _ in range(10)}
    for end in sorted(ends - {len(whole)}):
        with pytest.raises(StageDataError):
            through(codec.decompressor(), whole[:end])


@each_codec
def test_input_that_is_cut_anywhere_is_an_error(codec):
    """At every byte of small data, of one block and of none, by its own stage and by the one that finds out which."""
    for data in (text(200), b""):
        packed = through(codec.compressor(**codec.options), data)
        for cut in range(len(packed)):
            for stage in (codec.decompressor(), DecompressStage()):
                with pytest.raises(StageDataError, match=r"truncated|empty"):
                    through(stage, packed[:cut])


@each_block_codec
def test_cuts_between_and_within_blocks_are_errors(codec):
    """Where a block ends, nothing ends."""
    data = text(3 * codec.block_bytes)
    one = len(through(codec.compressor(**codec.options), data[: codec.block_bytes]))
    packed = through(codec.compressor(**codec.options), data)
    for cut in {one + more for more in range(-40, 40, 9)} | {len(packed) - less for less in range(1, 30, 3)}:
        with pytest.raises(StageDataError, match="truncated"):
            through(codec.decompressor(), packed[:cut])


@each_codec
def test_a_second_member_that_is_cut_is_an_error(codec):
    """However much of it there is, from its first byte."""
    first = through(codec.compressor(**codec.options), b"first")
    for cut in range(1, len(first)):
        with pytest.raises(StageDataError, match="truncated"):
            through(codec.decompressor(), first + first[:cut])


@each_codec
def test_a_flipped_bit_never_gives_other_data(codec):
    """Each one is an error, or has not changed anything."""
    data = text(150)
    packed = through(codec.compressor(**codec.options), data)
    for place in range(len(packed)):
        for bit in range(8):
            flipped = bytearray(packed)
            flipped[place] ^= 1 << bit
            try:
                assert through(codec.decompressor(), bytes(flipped)) == data
            except StageDataError:
                continue


@each_codec
@given(head=st.binary(max_size=40), tail=st.binary(min_size=1, max_size=60))
@settings(max_examples=50, deadline=None)
def test_arbitrary_bytes_are_data_or_a_data_error(codec, head, tail):
    """Nothing else is ever raised."""
    packed = through(codec.compressor(**codec.options), b"data")
    for data in (head, packed[:6] + tail, packed + tail, packed[:-5] + tail):
        for stage in (codec.decompressor(), DecompressStage()):
            try:
                through(stage, data)
            except StageDataError:
                continue


@pytest.mark.parametrize(
    "rest", [b"\0", bytes(4), bytes(70_000), b"garbage", b"g", b"\0\0garbage", b"B", b"BZ", b"BZx", b"\x1f", SKIPPABLE]
)
@each_codec
def test_what_stands_behind_the_data_is_treated_as_by_the_program(codec, rest, require_tool):
    """An error where it is one there; where it is ignored, it is ignored here, with a warning if there is one there."""
    packed = through(codec.compressor(**codec.options), b"data")
    theirs = run_program(require_tool(codec.program), "-dc", data=packed + rest)
    is_ignored = theirs.returncode == 0 or (codec is GZIP and theirs.returncode == 2)
    if not is_ignored:
        with pytest.raises(StageDataError):
            through(codec.decompressor(), packed + rest)
        return
    assert theirs.stdout == b"data"
    assert through(codec.decompressor(), packed + rest) == b"data"


def test_ignored_garbage_is_told(caplog):
    """In one line, with stage, input and place; padding is not worth a word."""
    packed = through(GZIP.compressor(), b"data")
    through(GZIP.decompressor(), packed + bytes(100))
    assert caplog.messages == []
    through(GZIP.decompressor(), packed + b"garbage", name="x.gz")
    through(BZIP2.decompressor(), through(BZIP2.compressor(), b"") + b"\0", name="x.bz2")
    assert caplog.messages == [
        f"stage 'gunzip': 'x.gz': trailing garbage at byte {len(packed)} ignored",
        "stage 'bunzip2': 'x.bz2': trailing garbage at byte 14 ignored",
    ]


@each_codec
def test_what_is_no_data_of_the_format_is_said_to_be_none(codec):
    """Empty, plain, of every other format: the message names the input."""
    with pytest.raises(StageDataError, match=f"'x': the input is empty, which no {codec.program} data is"):
        through(codec.decompressor(), b"", name="x")
    others = [through(other.compressor(**other.options), b"data") for other in CODECS if other is not codec]
    for data in (b"p", b"plain text", *others):
        with pytest.raises(StageDataError, match=f"'x': it is not {codec.program} data$"):
            through(codec.decompressor(), data, name="x")


@both_runners
def test_one_bad_file_among_others_costs_no_other(tmp_path, serial):
    """One line with stage, file and reason; no output; the others are there."""
    packed = {codec: through(codec.compressor(**codec.options), text(3000)) for codec in CODECS}
    items = []
    for codec, good in packed.items():
        (tmp_path / f"good{codec.suffix}").write_bytes(good)
        (tmp_path / f"torn{codec.suffix}").write_bytes(good[:-1])
        items += [
            file_item(tmp_path / f"{kind}{codec.suffix}", tmp_path / f"{kind}-{codec}") for kind in ("good", "torn")
        ]
    with MultiprocessingPipeline([DecompressStage(), WriteStage()], 2, "many", serial=serial) as pipeline:
        for item in pipeline.map(items):
            if "torn" in item.name:
                assert re.fullmatch(
                    r"stage 'decompress': '.*torn.*': the compressed data ends in the middle of a \w+ \(truncated\?\)",
                    str(failure(item, StageDataError)),
                )
                item.discard()
            else:
                publish(item)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.suffix) == sorted(f"good-{c}" for c in CODECS)


# -- memory


class Counts(io.RawIOBase):
    """Notes how much is written to it, and the largest portion."""

    def __init__(self) -> None:
        super().__init__()
        self.total = self.largest = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.total, self.largest = self.total + len(data), max(self.largest, len(data))
        return len(data)


@each_block_codec
def test_a_small_input_with_a_huge_content_comes_in_portions(codec):
    """Never is more of it in memory than a portion."""
    one = through(codec.compressor(**codec.options), bytes(32 * MIB))
    assert len(one) < 256 * 1024
    made = Counts()
    reader: io.BufferedReader = io.BufferedReader(Portions([one] * 4))
    writer: io.BufferedWriter = io.BufferedWriter(made)
    codec.decompressor().run(reader, writer, file_item(Path("x"), Path("y")))
    writer.flush()
    assert made.total == 128 * MIB
    assert made.largest <= MIB


def test_xz_data_that_ask_for_too_much_memory_are_refused_with_the_way_out(require_tool):
    """A few bytes may ask for gigabytes."""
    packed = packed_by(require_tool("xz"), b"data", "--lzma2=dict=64MiB")
    with pytest.raises(StageDataError, match="it needs more than 32 MiB of memory; allow it with a higher memory_mib"):
        through(XZ.decompressor(memory_mib=32), packed)
    assert through(XZ.decompressor(), packed) == b"data"


def test_decompress_names_the_stage_that_can_be_allowed_more(require_tool):
    """For it has no such option itself."""
    packed = packed_by(require_tool("xz"), b"data", "--lzma2=dict=512MiB")
    with pytest.raises(StageDataError, match="a higher memory_mib of 'unxz'"):
        through(DecompressStage(), packed)
    packed = packed_by(require_tool("zstd"), b"data", "--long=31", "--no-content-size")
    with pytest.raises(StageDataError, match="long = 31 of 'unzstd'"):
        through(DecompressStage(), packed)


@each_block_codec
def test_output_is_passed_on_while_the_input_runs(codec):
    """No more blocks are held than threads work on, and some."""
    total = 16
    read = []

    def portions() -> Any:
        for number in range(total):
            read.append(number)
            yield noise(codec.block_bytes)

    held = []

    class Notes(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any, /) -> int:
            nonlocal written
            written += len(data)
            held.append(len(read) * codec.block_bytes - written)
            return len(data)

    written = 0
    reader: io.BufferedReader = io.BufferedReader(Portions(portions()))
    writer: io.BufferedWriter = io.BufferedWriter(Notes())
    options = codec.options | ({"level": 9} if codec is GZIP else {})
    codec.compressor(threads=2, **options).run(reader, writer, file_item(Path("x"), Path("y")))
    writer.flush()
    assert max(held) <= 6 * codec.block_bytes


# -- options and names


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GZIP.compressor(level=10), "level must be between 0 and 9, not 10"),
        (lambda: XZ.compressor(level=-1), "level must be between 0 and 9, not -1"),
        (lambda: XZ.compressor(extreme=1), "extreme must be true or false, not 1"),
        (lambda: BZIP2.compressor(level=0), "level must be between 1 and 9, not 0"),
        (lambda: LZ4.compressor(level=13), "level must be between 1 and 12, not 13"),
        (lambda: GZIP.compressor(threads=0), "threads must be between 1 and 256, not 0"),
        (lambda: LZ4.compressor(roundtrip="yes"), "roundtrip must be true or false, not 'yes'"),
        (lambda: ZSTD.compressor(roundtrip=1), "roundtrip must be true or false, not 1"),
        (lambda: XZ.decompressor(memory_mib=0), "memory_mib must be between 1 and 1048576, not 0"),
    ],
)
def test_a_wrong_option_is_named(make, words):
    """With what it may be."""
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        make()


def test_outputs_are_named_by_the_suffix():
    """Added by a compressor, taken off by what knows it."""
    for codec in CODECS:
        assert target_path("a.tar", [codec.compressor(), WriteStage()]) == f"a.tar{codec.suffix}"
        for stage in (codec.decompressor(), DecompressStage()):
            assert target_path(f"a.tar{codec.suffix}", [stage, WriteStage()]) == "a.tar"
    for suffix in (".tgz", ".txz", ".tbz2", ".tlz4", ".tzst"):
        assert target_path(f"a{suffix}", [DecompressStage(), WriteStage()]) == "a.tar"
    with pytest.raises(ValueError, match=r"'a\.zip' is not called"):
        target_path("a.zip", [DecompressStage(), WriteStage()])


# -- more than 4 GiB


@pytest.mark.slow
@pytest.mark.parametrize("codec", [GZIP, LZ4, ZSTD], ids=str)
def test_more_than_4_gib_go_through(codec):
    """Beyond what 32 bits count; xz and bzip2 take a minute or two and are left out."""
    total, portion = (4 << 30) + 5 * MIB, bytes(8 * MIB)
    portions = Portions([*[portion] * (total // len(portion)), bytes(total % len(portion))])
    packed = through(codec.compressor(**codec.options), portions)
    if codec is GZIP:  # its trailer holds the length modulo 2**32
        assert int.from_bytes(packed[-4:], "little") == total - (4 << 30)
    made = Counts()
    writer: io.BufferedWriter = io.BufferedWriter(made)
    codec.decompressor().run(io.BufferedReader(io.BytesIO(packed)), writer, file_item(Path("x"), Path("y")))
    writer.flush()
    assert made.total == total
