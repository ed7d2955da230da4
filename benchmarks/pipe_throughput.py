"""PipeConnectionIO beside a raw os.pipe with a 1 MiB buffer: two processes, the same buffers, alternating turns.

python -m benchmarks.pipe_throughput
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final

from atbu.mp_pipeline.pipe_io import PipeConnectionIO

PIPE_BYTES: Final = 1 << 20
SIZES: Final = {"64 KiB": 64 << 10, "1 MiB": 1 << 20, "4 MiB": 4 << 20}
# Short turns, many of them: what else the machine does then hits both sides alike.
TURN_BYTES: Final = 1 << 28
TURNS_PER_ROUND: Final = 5
ROUNDS: Final = 5
TARGET: Final = 0.9
PEER_NAME: Final = "raw os.pipe, 1 MiB buffer"


def _drain_raw(connection: Connection, size: int, by_read: bool) -> int:
    fd, total, buffers = connection.fileno(), 0, [bytearray(size)]
    while got := len(os.read(fd, size)) if by_read else os.readv(fd, buffers):
        total += got
    connection.close()
    return total


def _drain_ours(connection: Connection, size: int, by_read: bool) -> int:
    total, buffer = 0, bytearray(size)
    with PipeConnectionIO(connection, is_write=False) as reader:
        while got := len(reader.read()) if by_read else reader.readinto(buffer):
            total += got
    return total


def _fill_raw(connection: Connection, data: bytes, count: int) -> None:
    fd = connection.fileno()
    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    for _ in range(count):
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
    connection.close()


def _fill_ours(connection: Connection, data: bytes, count: int) -> None:
    with PipeConnectionIO(connection, is_write=True) as writer:
        for _ in range(count):
            writer.write(data)


def _consume(orders: Connection) -> None:
    """The other process: drains each connection it is sent and answers with the number of bytes."""
    while (order := orders.recv()) is not None:
        connection, drain, size, by_read = order
        orders.send(None)
        orders.send(drain(connection, size, by_read))


def _turn(
    orders: Connection,
    fill: Callable[[Connection, bytes, int], None],
    drain: Callable[[Connection, int, bool], int],
    size: int,
    by_read: bool,
) -> float:
    """One transfer of TURN_BYTES; gives GB/s."""
    reader, writer = multiprocessing.Pipe(duplex=False)
    orders.send((reader, drain, size, by_read))
    orders.recv()
    reader.close()
    data, count = os.urandom(size), TURN_BYTES // size
    started = time.perf_counter()
    fill(writer, data, count)
    received = orders.recv()
    elapsed = time.perf_counter() - started
    if received != size * count:
        raise RuntimeError(f"{received} bytes arrived, {size * count} were sent")
    return float(received / elapsed / 1e9)


def run(rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Measure; one row for each size of writes and way of reading."""
    orders, theirs = multiprocessing.Pipe()
    consumer = multiprocessing.get_context("forkserver").Process(target=_consume, args=(theirs,))
    consumer.start()
    theirs.close()
    rows = []
    for by_read in (False, True):
        for name, size in SIZES.items():
            figures: dict[str, list[float]] = {"ours": [], "peer": []}
            for _ in range(rounds * TURNS_PER_ROUND):
                figures["ours"].append(_turn(orders, _fill_ours, _drain_ours, size, by_read))
                figures["peer"].append(_turn(orders, _fill_raw, _drain_raw, size, by_read))
            ours, peer = statistics.median(figures["ours"]), statistics.median(figures["peer"])
            rows.append(
                {
                    "work": f"{name} writes, {'read()' if by_read else 'readinto()'}",
                    "ours": ours,
                    "peer_name": f"{PEER_NAME}, {'os.read' if by_read else 'os.readv'}",
                    "peer": peer,
                    "unit": "GB/s",
                    "ratio": ours / peer,
                    "target": TARGET,
                    "met": ours >= TARGET * peer,
                }
            )
    orders.send(None)
    consumer.join()
    orders.close()
    return rows


def main() -> None:
    """Print the table."""
    print(f"{'work':32} {'ours':>8} {'peer':>8} {'ratio':>6} {'target':>6}  met")
    for row in run():
        print(
            f"{row['work']:32} {row['ours']:8.2f} {row['peer']:8.2f} {row['ratio']:6.2f} {row['target']:6.2f}  "
            f"{'yes' if row['met'] else 'no'}   {row['unit']}; peer: {row['peer_name']}"
        )


if __name__ == "__main__":
    main()
