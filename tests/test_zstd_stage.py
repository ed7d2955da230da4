"""The stages zstd and unzstd, against the zstd program, whole, torn and corrupt input."""

from __future__ import annotations

import io
import pickle
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import zstandard
from byte_chains import Collector, Portions, both_runners, failure, file_item, publish, run_item, through
from hypothesis import given, settings
from hypothesis import strategies as st
from mpp_stages.errors import StageDataError
from mpp_stages.unzstd import UnzstdStage
from mpp_stages.write import WriteStage
from mpp_stages.zstd import ZstdStage
from mpp_stages.zstd_frames import FrameWalker

from atbu.mp_pipeline.pipeline import MultiprocessingPipeline

MIB = 1 << 20
SKIPPABLE = (0x184D2A53).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"extra"


def sample(size: int, seed: int = 1) -> bytes:
    """Data that compress to about a third."""
    source = random.Random(seed)
    words = [source.randbytes(source.randint(2, 12)) for _ in range(300)]
    made = bytearray()
    while len(made) < size:
        made += b" ".join(source.choices(words, k=1000))
    return bytes(made[:size])


SMALL = sample(3000)


def by_program(require_tool: Any, *options: str, data: bytes) -> bytes:
    done = subprocess.run([require_tool("zstd"), *options, "-qc"], input=data, capture_output=True, check=True)
    return done.stdout


# -- whole data


@pytest.mark.parametrize("size", [0, 1, 3000, MIB - 1, MIB, MIB + 1, 9 * MIB])
def test_what_we_write_zstd_reads_and_the_other_way_round(require_tool, size):
    """From nothing at all to what several threads share."""
    data = sample(size)
    packed = through(ZstdStage(), data)
    assert by_program(require_tool, "-d", data=packed) == data
    assert through(UnzstdStage(), packed) == data
    assert through(UnzstdStage(), by_program(require_tool, data=data)) == data


@both_runners
@pytest.mark.parametrize("size", [0, 1, 3000, 9 * MIB])
def test_files_go_there_and_back_through_pipes(tmp_path, require_tool, serial, size):
    """Through the pipeline, compressing and decompressing, with the program's own test between."""
    (tmp_path / "x").write_bytes(sample(size))
    publish(run_item([ZstdStage(), WriteStage()], file_item(tmp_path / "x", tmp_path / "x.zst"), serial=serial))
    subprocess.run([require_tool("zstd"), "-tq", tmp_path / "x.zst"], check=True)
    publish(run_item([UnzstdStage(), WriteStage()], file_item(tmp_path / "x.zst", tmp_path / "y"), serial=serial))
    assert (tmp_path / "y").read_bytes() == sample(size)


@pytest.mark.parametrize("options", [{"level": 1}, {"level": 19}, {"long": 24}, {"level": 5, "long": 27, "threads": 2}])
def test_options_change_the_frame_and_not_the_data(require_tool, options):
    """Each of them is read back by the program."""
    data = sample(2 * MIB)
    packed = through(ZstdStage(**options), data)
    assert packed != through(ZstdStage(), data)
    assert by_program(require_tool, "-d", data=packed) == data


def test_a_frame_has_a_checksum_unless_told_not_to():
    """It costs four bytes."""
    with_checksum, without = through(ZstdStage(), SMALL), through(ZstdStage(checksum=False), SMALL)
    assert zstandard.get_frame_parameters(with_checksum).has_checksum
    assert not zstandard.get_frame_parameters(without).has_checksum
    assert through(UnzstdStage(), without) == SMALL


def test_a_frame_tells_its_contents_size_where_that_is_known(tmp_path):
    """A file's, and that of what fits one portion; of a longer stream it is not known before."""
    (tmp_path / "x").write_bytes(sample(9 * MIB))
    item = file_item(tmp_path / "x", tmp_path / "x.zst")
    publish(run_item([ZstdStage(), WriteStage()], item, serial=True))
    assert zstandard.frame_content_size((tmp_path / "x.zst").read_bytes()) == 9 * MIB
    assert zstandard.frame_content_size(through(ZstdStage(), SMALL)) == len(SMALL)
    assert zstandard.frame_content_size(through(ZstdStage(), sample(9 * MIB))) == -1


# -- the same bytes, whatever the machine


@pytest.mark.parametrize("options", [{}, {"long": 24}])
def test_the_number_of_threads_does_not_show_in_the_output(options):
    """Nor does the number of CPUs, which is its default."""
    data = sample(20 * MIB)
    packed = {through(ZstdStage(threads=threads, **options), data) for threads in (1, 2, 4, None)}
    assert len(packed) == 1


@pytest.mark.parametrize("size", [3000, 3 * MIB, 9 * MIB])
def test_how_the_data_arrive_does_not_show_in_the_output(size):
    """Whether in one piece or in many; only the data decide whether threads share them."""
    data = sample(size)
    source = random.Random(7)
    whole = through(ZstdStage(), data)
    for largest in (size, 70_000, 4096):
        portions = []
        rest = memoryview(data)
        while rest:
            n = source.randint(1, largest)
            portions.append(bytes(rest[:n]))
            rest = rest[n:]
        assert through(ZstdStage(), Portions(portions)) == whole


def test_a_kept_compressor_gives_what_a_fresh_one_gives():
    """After small and large input in any order, and after a failure in the middle."""
    kept, kept_back = ZstdStage(), UnzstdStage()
    large = sample(9 * MIB)
    with pytest.raises(OSError, match="torn"):
        through(kept, Portions([large, OSError("torn")]))
    with pytest.raises(OSError, match="torn"):
        through(kept, Portions([SMALL, OSError("torn")]))
    for data in (SMALL, large, b"", SMALL):
        packed = through(ZstdStage(), data)
        assert through(kept, data) == packed
        with pytest.raises(StageDataError):
            through(kept_back, packed[:-1])
        assert through(kept_back, packed) == data


def test_a_used_stage_can_still_be_pickled():
    """Compressors stay where they are."""
    for stage in (ZstdStage(level=5), UnzstdStage(long=28)):
        through(stage, through(ZstdStage(), SMALL))
        other = pickle.loads(pickle.dumps(stage))
        assert through(other, through(ZstdStage(), SMALL))
        assert pickle.dumps(pickle.loads(pickle.dumps(stage))) == pickle.dumps(
            type(stage)(**{name: getattr(stage, name) for name in ("level", "long") if hasattr(stage, name)})
        )


# -- failures upstream


@pytest.mark.parametrize("size", [0, 1, 3000, MIB, 9 * MIB])
def test_a_frame_is_never_finished_when_the_input_fails(size):
    """What has been written by then does not decode."""
    made = Collector()
    reader: io.BufferedReader = io.BufferedReader(Portions([*filter(None, [sample(size)]), OSError("torn")]))
    writer: io.BufferedWriter = io.BufferedWriter(made)
    with pytest.raises(OSError, match="torn"):
        ZstdStage().run(reader, writer, file_item(Path("x"), Path("y")))
    writer.flush()
    with pytest.raises(StageDataError):
        through(UnzstdStage(), b"".join(made.portions))


# -- input that is no whole zstd data


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(through(ZstdStage(), SMALL), id="checksum"),
        pytest.param(through(ZstdStage(checksum=False), SMALL[:100]), id="no checksum"),
        pytest.param(through(ZstdStage(), b""), id="empty"),
        pytest.param(SKIPPABLE + through(ZstdStage(), SMALL[:100]), id="after a skippable frame"),
    ],
)
def test_input_that_is_cut_anywhere_is_an_error(packed):
    """At every byte, but between frames: a whole frame is whole data."""
    between = len(SKIPPABLE) if packed.startswith(SKIPPABLE) else None
    for cut in range(len(packed)):
        if cut == between:
            continue
        with pytest.raises(StageDataError, match=r"truncated|empty"):
            through(UnzstdStage(), packed[:cut], name="x.zst")


def test_a_cut_is_found_wherever_portions_end():
    """In a long frame of many blocks, by the message a user sees."""
    packed = through(ZstdStage(), sample(3 * MIB))
    for cut in (len(packed) - 1, len(packed) - 4, len(packed) - 5, len(packed) // 2):
        with pytest.raises(StageDataError) as caught:
            through(UnzstdStage(), Portions([packed[: cut // 2], packed[cut // 2 : cut]]), name="x.zst")
        expected = "stage 'unzstd': 'x.zst': the compressed data ends in the middle of a frame (truncated?)"
        assert str(caught.value) == expected


def test_a_flipped_bit_never_gives_other_data():
    """With a checksum each one is an error, or has not changed anything."""
    packed = through(ZstdStage(), SMALL[:400])
    for place in range(len(packed)):
        for bit in range(8):
            flipped = bytearray(packed)
            flipped[place] ^= 1 << bit
            try:
                assert through(UnzstdStage(), bytes(flipped)) == SMALL[:400]
            except StageDataError:
                continue


@given(st.binary(max_size=200), st.binary(max_size=60))
@settings(max_examples=200)
def test_arbitrary_bytes_are_data_or_a_data_error(head, tail):
    """Nothing else is ever raised."""
    for data in (head, through(ZstdStage(), b"a frame") + tail, head + through(ZstdStage(), b"a frame")):
        try:
            through(UnzstdStage(), data)
        except StageDataError:
            continue


@pytest.mark.parametrize("rest", [b"\0", b"garbage", b"\x1f\x8b\x08\x00gzip", bytes(1000)])
def test_anything_behind_the_data_is_an_error(require_tool, rest):
    """As for the program: who appended it has to know that it is lost."""
    packed = through(ZstdStage(), SMALL)
    with pytest.raises(StageDataError, match=f"what follows the compressed data at byte {len(packed)} is not zstd"):
        through(UnzstdStage(), packed + rest)
    with pytest.raises(subprocess.CalledProcessError):
        by_program(require_tool, "-d", data=packed + rest)


@pytest.mark.parametrize("data", [b"", b"plain text", b"\x1f\x8b\x08\x00gzip", SKIPPABLE[:-1], b"\x28\xb5\x2f\xfd"])
def test_what_the_program_refuses_we_refuse(require_tool, data):
    """Nothing, another format, a frame that has only begun."""
    with pytest.raises(subprocess.CalledProcessError):
        by_program(require_tool, "-d", data=data)
    with pytest.raises(StageDataError):
        through(UnzstdStage(), data)


def test_several_frames_are_one_stream(require_tool):
    """Ours and the program's, skippable ones between, also where portions end between them."""
    second = by_program(require_tool, "--no-check", data=b"second ")
    frames = [through(ZstdStage(), b"first "), SKIPPABLE, second, through(ZstdStage(), b""), SKIPPABLE]
    frames.append(through(ZstdStage(), b"last"))
    joined = b"".join(frames)
    assert through(UnzstdStage(), joined) == b"first second last"
    assert through(UnzstdStage(), Portions(frames)) == b"first second last"
    assert through(UnzstdStage(), Portions(joined[i : i + 1] for i in range(len(joined)))) == b"first second last"
    assert by_program(require_tool, "-d", data=joined) == b"first second last"


def test_only_skippable_frames_hold_nothing(require_tool):
    """For the program too, that is no error."""
    assert through(UnzstdStage(), SKIPPABLE * 2) == b""
    assert by_program(require_tool, "-d", data=SKIPPABLE * 2) == b""


def test_an_old_format_is_named():
    """zstd before 0.8."""
    with pytest.raises(StageDataError, match=r"before 0\.8"):
        through(UnzstdStage(), (0xFD2FB527).to_bytes(4, "little") + bytes(100))


def test_a_larger_window_than_allowed_is_refused_with_the_way_out(require_tool):
    """A few bytes may ask for gigabytes of memory; the program has the same limit."""
    packed = through(ZstdStage(long=28), sample(2 * MIB))
    with pytest.raises(StageDataError, match=r"larger window than 2\*\*27 bytes; allow it with long = 31 of 'unzstd'"):
        through(UnzstdStage(), packed)
    with pytest.raises(subprocess.CalledProcessError):
        by_program(require_tool, "-d", data=packed)
    assert through(UnzstdStage(long=28), packed) == sample(2 * MIB)


# -- memory


def test_a_small_input_with_a_huge_content_comes_in_portions():
    """A gigabyte of zeros is 33 kB; never is more of it in memory than a portion."""
    packed = through(ZstdStage(), Portions(bytes(MIB) for _ in range(1024)))
    assert len(packed) < 64 * 1024
    sizes = []

    class Counts(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any, /) -> int:
            sizes.append(len(data))
            return len(data)

    reader: io.BufferedReader = io.BufferedReader(io.BytesIO(packed))  # type: ignore[arg-type]
    writer: io.BufferedWriter = io.BufferedWriter(Counts())
    UnzstdStage().run(reader, writer, file_item(Path("x"), Path("y")))
    writer.flush()
    assert sum(sizes) == 1024 * MIB
    assert max(sizes) <= MIB


@pytest.mark.parametrize("threads", [1, 2])
def test_output_is_passed_on_while_the_input_runs(threads):
    """Of input that does not compress no more is held back than the pieces that the threads work on."""
    source = random.Random(3)
    made = Collector()
    held_back = []

    def portions():
        for number in range(96):
            yield source.randbytes(MIB)
            held_back.append((number + 1) * MIB - sum(map(len, made.portions)))

    reader: io.BufferedReader = io.BufferedReader(Portions(portions()))
    writer: io.BufferedWriter = io.BufferedWriter(made)
    ZstdStage(threads=threads).run(reader, writer, file_item(Path("x"), Path("y")))
    assert max(held_back) < 8 * MIB * (threads + 3)
    assert max(map(len, made.portions)) <= MIB


# -- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": 99}, "level must be between 1 and 22, not 99"),
        ({"level": 0}, "level must be between 1 and 22, not 0"),
        ({"level": "3"}, "level must be a whole number, not '3'"),
        ({"level": True}, "level must be a whole number, not True"),
        ({"threads": 0}, "threads must be between 1 and 256, not 0"),
        ({"threads": 1.5}, "threads must be a whole number, not 1.5"),
        ({"long": 9}, "long must be between 10 and 31, not 9"),
        ({"checksum": "yes"}, "checksum must be true or false, not 'yes'"),
    ],
)
def test_a_wrong_option_is_named(options, words):
    """With what it may be."""
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        ZstdStage(**options)


def test_the_windows_limit_has_limits():
    """Of unzstd."""
    with pytest.raises(ValueError, match=r"^long must be between 10 and 31, not 32$"):
        UnzstdStage(long=32)


@both_runners
def test_corrupt_input_fails_its_item_in_one_line(tmp_path, serial):
    """With stage, file and what is wrong, and no output."""
    packed = bytearray(through(ZstdStage(), sample(MIB)))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "x.zst").write_bytes(packed)
    item = run_item([UnzstdStage(), WriteStage()], file_item(tmp_path / "x.zst", tmp_path / "x"), serial=serial)
    ex = failure(item, StageDataError)
    assert re.fullmatch(r"stage 'unzstd': '.*/x\.zst': the compressed data is corrupt \(.+\)", str(ex))
    item.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["x.zst"]


@both_runners
def test_one_bad_file_among_many_costs_no_other(tmp_path, serial):
    """Kept decompressors go on with the next item, whatever the last one was."""
    contents = {f"{number}.zst": sample(3000 + number, seed=number) for number in range(30)}
    bad = {"7.zst": b"", "8.zst": b"no zstd data", "9.zst": through(ZstdStage(), SMALL)[:-1]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(bad.get(name, through(ZstdStage(), content)))
    items = [file_item(tmp_path / name, tmp_path / f"{name}.out", name=name) for name in contents]
    with MultiprocessingPipeline([UnzstdStage(), WriteStage()], 2, "many", serial=serial) as pipeline:
        for item in pipeline.map(items):
            if item.name in bad:
                assert failure(item, StageDataError).item == item.name
                item.discard()
            else:
                publish(item)
                assert (tmp_path / f"{item.name}.out").read_bytes() == contents[item.name]
    assert len(list(tmp_path.iterdir())) == 30 + 27


# -- the walk over frames


@given(st.data())
def test_frames_are_followed_through_any_portions(data):
    """Between two frames and only there the walker is between frames."""
    contents = data.draw(st.lists(st.binary(max_size=50), min_size=1, max_size=4))
    frames = [through(ZstdStage(checksum=data.draw(st.booleans())), content) for content in contents] + [SKIPPABLE]
    ends, joined = set(), b""
    for frame in frames:
        joined += frame
        ends.add(len(joined))
    walker, place = FrameWalker(), 0
    assert walker.is_empty
    while place < len(joined):
        n = data.draw(st.integers(1, 20))
        walker.feed(joined[place : place + n])
        place = min(place + n, len(joined))
        assert walker.is_between_frames == (place in ends)
    assert not walker.is_empty
