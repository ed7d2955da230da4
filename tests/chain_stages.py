"""Work of the stages that the tests of chains join by pipes."""

from __future__ import annotations

import gc
import gzip
import os
import select
import signal
import subprocess
import sys
from typing import Any

from pipeline_harness import note_in
from pipeline_stages import wait_at

from atbu.mp_pipeline.mp_pipeline import PipeConnectionIO

# More than any pipe holds: whoever sends as much cannot end before it is read.
MORE_THAN_A_PIPE_HOLDS = 3 * 1024 * 1024 + 17
PORTION_BYTES = 100_000


def produce(item: Any) -> Any:
    """Send the payload in portions."""
    data = item.user_obj
    with PipeConnectionIO(item.pipe_out, is_write=True) as writer:
        for at in range(0, len(data), PORTION_BYTES):
            writer.write(data[at : at + PORTION_BYTES])
    return item


def pass_on_plus_one(item: Any) -> Any:
    """Send on what comes, each byte one higher."""
    table = bytes((n + 1) % 256 for n in range(256))
    reader = PipeConnectionIO(item.pipe_in, is_write=False)
    with reader, PipeConnectionIO(item.pipe_out, is_write=True) as writer:
        while portion := reader.read(PORTION_BYTES):
            writer.write(portion.translate(table))
    return item


def consume(item: Any) -> Any:
    """Read to the end; the payload is what was read."""
    with PipeConnectionIO(item.pipe_in, is_write=False) as reader:
        item.user_obj = reader.readall()
    return item


def consume_noting_the_end(item: Any) -> Any:
    """Read to the end, and note what kind of end it is."""
    path = item.journal
    try:
        item = consume(item)
    except OSError as ex:
        note_in(path, type(ex).__name__)
        raise
    note_in(path, "clean end")
    return item


def produce_and_meet(item: Any) -> Any:
    """Take part in the chain only once all of the chain's stages are at work."""
    wait_at(item.gate)
    return produce(item)


def consume_and_meet(item: Any) -> Any:
    wait_at(item.gate)
    return consume(item)


def consume_and_produce_and_meet(item: Any) -> Any:
    wait_at(item.gate)
    return produce(consume(item))


# -- ends without success


def fail(item: Any) -> Any:
    raise ValueError("the stage's own failure")


def fail_after_reading(item: Any) -> Any:
    """Fail in the middle: some has come, some was sent."""
    reader = PipeConnectionIO(item.pipe_in, is_write=False)
    first = reader.read(10)
    if item.pipe_out is not None:
        PipeConnectionIO(item.pipe_out, is_write=True).write(first)
    raise ValueError("the stage's own failure")


def die(item: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def produce_for_ever(item: Any) -> Any:
    writer = PipeConnectionIO(item.pipe_out, is_write=True)
    while True:
        writer.write(b"x" * PORTION_BYTES)


def close_in_finally(item: Any) -> Any:
    """What careful programs do."""
    writer = PipeConnectionIO(item.pipe_out, is_write=True)
    try:
        writer.write(b"half of the data")
        raise ValueError("the stage's own failure")
    finally:
        writer.close()


def close_bare_in_except(item: Any) -> Any:
    """What the seed's example does."""
    try:
        PipeConnectionIO(item.pipe_out, is_write=True).write(b"half of the data")
        raise ValueError("the stage's own failure")
    except ValueError:
        item.pipe_out.close()
        raise


def leave_with_by_exception(item: Any) -> Any:
    with PipeConnectionIO(item.pipe_out, is_write=True) as writer:
        writer.write(b"half of the data")
        raise ValueError("the stage's own failure")


def fail_after_with(item: Any) -> Any:
    """The data was whole, the stage is not."""
    with PipeConnectionIO(item.pipe_out, is_write=True) as writer:
        writer.write(b"half of the data")
    raise ValueError("the stage's own failure")


def drop_a_wrapper(item: Any) -> Any:
    """A GzipFile that is dropped writes its trailer: what came decodes as complete."""
    writer = PipeConnectionIO(item.pipe_out, is_write=True)
    packer = gzip.GzipFile(fileobj=writer, mode="wb")
    packer.write(b"half of the data")
    del packer
    # From Python 3.12 on it is a cycle, dropped some time later: to a pipe that is closed by then, in another test.
    if sys.version_info >= (3, 12):
        gc.collect()
    raise ValueError("the stage's own failure")


def return_it_failed(item: Any) -> Any:
    with PipeConnectionIO(item.pipe_out, is_write=True) as writer:
        writer.write(b"half of the data")
    item.append_exception(ValueError("the stage's own failure"))
    return item


def return_something_else(item: Any) -> Any:
    with PipeConnectionIO(item.pipe_out, is_write=True) as writer:
        writer.write(b"half of the data")
    return "no item"


UNFINISHED = [
    close_in_finally,
    close_bare_in_except,
    leave_with_by_exception,
    fail_after_with,
    drop_a_wrapper,
    return_it_failed,
    return_something_else,
]


# -- ends


def close_early_return_late(item: Any) -> Any:
    """The end of the data goes with the verdict, not with close()."""
    with PipeConnectionIO(item.pipe_out, is_write=True) as writer:
        writer.write(b"all of the data")
    wait_at(item.gate)
    note_in(item.journal, "the producer returns")
    return item


def write_eof_return_late(item: Any) -> Any:
    """The writer's own word is sent at once: the consumer lets the producer go on."""
    PipeConnectionIO(item.pipe_out, is_write=True).write_eof(b"all of the data")
    wait_at(item.gate)
    note_in(item.journal, "the producer returns")
    return item


def consume_then_wait(item: Any) -> Any:
    item = consume_noting_the_end(item)
    wait_at(item.gate)
    return item


def ignore_the_pipe(item: Any) -> Any:
    return item


def _wait_until_the_reader_has_gone(item: Any) -> None:
    poll = select.poll()
    poll.register(item.pipe_out.fileno(), 0)
    assert poll.poll(30_000)


def write_to_nobody(item: Any) -> Any:
    writer = PipeConnectionIO(item.pipe_out, is_write=True)
    _wait_until_the_reader_has_gone(item)
    writer.write(b"data")
    return item


def end_to_nobody(item: Any) -> Any:
    """An end mark, written or left to the verdict, to a reader that has gone is no error."""
    writer = PipeConnectionIO(item.pipe_out, is_write=True)
    _wait_until_the_reader_has_gone(item)
    if item.user_obj:
        writer.write_eof(b"")
    return item


# -- children that hold an end


def leave_the_end_to_a_child(item: Any) -> Any:
    """Fail while a child of the stage holds the writing end open: the reader sees no end at all."""
    # The shell ends at once, and what it leaves in the background nobody waits for.
    command = ["sh", "-c", 'head -c1 "$0" > /dev/null &', item.gate]
    subprocess.run(command, pass_fds=[item.pipe_out.fileno()], check=True)
    raise ValueError("the stage's own failure")


def wait_for_ever(item: Any) -> Any:
    """Never reads; nothing but its end ends it."""
    wait_at(item.gate)
    return item


def produce_then_wait_for_ever(item: Any) -> Any:
    """Write until nobody reads, and do not mind."""
    try:
        produce_for_ever(item)
    except BrokenPipeError:
        return wait_for_ever(item)


# -- children that write


def have_a_child_produce(item: Any) -> Any:
    """A program writes to the pipe itself, more than it holds; the data is bare."""
    command = [sys.executable, "-c", "import os; os.write(1, b'x' * 16); os.write(1, b'y' * 1_000_000)"]
    subprocess.run(command, stdout=item.pipe_out.fileno(), check=True)
    item.pipe_out.close()
    return item


def consume_raw(item: Any) -> Any:
    data = bytearray()
    while portion := os.read(item.pipe_in.fileno(), 65536):
        data += portion
    item.user_obj = bytes(data)
    return item
