"""Where the time of one item goes, and the floor below which no engine of this kind can be.

    python -m benchmarks.profile_item [--stages 3] [--items 20000] [--lines 15]

Three parts: the floor (bare socket pairs, the pickles alone); the CPU time of one item in each thread and process of a
pipeline that runs undisturbed; and a profile of the engine's thread and of a worker, whose absolute times are those of
a profiled program, several times too long, but whose shares are about right.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import os
import pickle
import pstats
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from multiprocessing import util
from pathlib import Path
from typing import Any

from atbu.mp_pipeline.mp_pipeline import (
    MultiprocessingPipeline,
    PipelineStage,
    PipelineWorkItem,
    SubprocessPipelineStage,
)

WARM_UP_ITEMS = 2_000
FLOOR_ROUNDS = 20_000
# What the engine queues at a worker whose runs take no time is of this order.
BATCH = 64
_LENGTH = struct.Struct("<I")


class PidItem(PipelineWorkItem):
    """One whose stage tells where it ran."""

    pid = 0


def is_wanted(item: PipelineWorkItem) -> bool:
    return True


def no_op(item: PidItem) -> PidItem:
    return item


def tell_pid(item: PidItem) -> PidItem:
    item.pid = os.getpid()
    return item


def profile_worker(folder: str) -> None:
    """An initialiser: from now on this worker is profiled, until it ends."""
    profile = cProfile.Profile()
    util.Finalize(None, profile.dump_stats, args=(f"{folder}/{os.getpid()}",), exitpriority=10)
    profile.enable()


# -- the floor


def _receive(sock: socket.socket, length: int) -> bytes:
    data = sock.recv(length)
    while len(data) < length:
        data += sock.recv(length - len(data))
    return data


def _answer_bytes(sock: socket.socket, length: int) -> None:
    while data := sock.recv(length):
        sock.sendall(data)


def _answer_pickles(sock: socket.socket, batch: int) -> None:
    while head := sock.recv(_LENGTH.size):
        (length,) = _LENGTH.unpack(head)
        items = pickle.loads(_receive(sock, length))
        _send_pickles(sock, [pickle.dumps(pickle.loads(item)) for item in items])


def _send_pickles(sock: socket.socket, pickles: list[bytes]) -> None:
    data = pickle.dumps(pickles)
    sock.sendall(_LENGTH.pack(len(data)) + data)


def _exchange_pickles(sock: socket.socket, items: list[PidItem]) -> None:
    _send_pickles(sock, [pickle.dumps(item) for item in items])
    (length,) = _LENGTH.unpack(_receive(sock, _LENGTH.size))
    for answer in pickle.loads(_receive(sock, length)):
        pickle.loads(answer)


@contextmanager
def _other_process(serve: Callable[[socket.socket, int], None], argument: int) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        ours.close()
        serve(theirs, argument)
        os._exit(0)
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        os.waitpid(pid, 0)


def _microseconds(call: Callable[[], object], rounds: int = FLOOR_ROUNDS) -> float:
    started = time.perf_counter()
    for _ in range(rounds):
        call()
    return (time.perf_counter() - started) / rounds * 1e6


def floor() -> list[tuple[str, float]]:
    """What, and the microseconds of it for one item."""
    item = PidItem(1)
    data, length = pickle.dumps(item), len(pickle.dumps(item))
    rows = [(f"a pickle of the item, {length} bytes: dumps", _microseconds(lambda: pickle.dumps(item)))]
    rows.append(("                                loads", _microseconds(lambda: pickle.loads(data))))
    rows.append(("a Future made, completed and read", _microseconds(_use_a_future)))
    with _other_process(_answer_bytes, length) as sock:

        def ping() -> None:
            sock.sendall(data)
            _receive(sock, length)

        rows.append(("round trip over a bare socket pair, one after the other", _microseconds(ping)))
    with _other_process(_answer_pickles, 1) as sock:
        one = _microseconds(lambda: _exchange_pickles(sock, [item]))
        rows.append(("the same with one pickle each way", one))
    with _other_process(_answer_pickles, BATCH) as sock:
        many = _microseconds(lambda: _exchange_pickles(sock, [item] * BATCH), FLOOR_ROUNDS // BATCH) / BATCH
        rows.append((f"the same, {BATCH} items a trip", many))
    return rows


def _use_a_future() -> None:
    future: Future[int] = Future()
    future.set_running_or_notify_cancel()
    future.set_result(1)
    future.result()


# -- the pipeline


def _stages(count: int, work: Callable[[PidItem], PidItem]) -> list[PipelineStage]:
    return [SubprocessPipelineStage(fn_determiner=is_wanted, fn_worker=work) for _ in range(count)]


def _work(pipeline: MultiprocessingPipeline, items: int) -> set[int]:
    futures = [pipeline.submit(PidItem(number)) for number in range(items)]
    return {future.result().pid for future in futures}


def _cpu_s(pid: int, thread_id: int | None = None) -> float:
    """What a process, or one of its threads, has had of the CPUs so far."""
    tasks = [thread_id] if thread_id is not None else map(int, os.listdir(f"/proc/{pid}/task"))
    return sum(int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0]) for task in tasks) / 1e9


def cpu_times(num_stages: int, items: int) -> list[tuple[str, float]]:
    """The wall and CPU microseconds of one item."""
    before = {thread.native_id for thread in threading.enumerate()}
    with MultiprocessingPipeline(_stages(num_stages, tell_pid)) as pipeline:
        pids = _work(pipeline, WARM_UP_ITEMS)
        (engine,) = (thread.native_id for thread in threading.enumerate() if thread.native_id not in before)

        def read() -> tuple[float, ...]:
            ours, workers = _cpu_s(os.getpid(), engine), sum(map(_cpu_s, pids))
            return time.perf_counter(), _cpu_s(os.getpid(), threading.get_native_id()), ours, workers

        started = read()
        if _work(pipeline, items) - pids:
            raise RuntimeError("a worker came late: more items are needed for the warm-up")
        spent = [(end - start) / items * 1e6 for start, end in zip(started, read(), strict=True)]
    names = ("by the clock", "CPU of the caller's thread", "CPU of the engine's thread", f"CPU of {len(pids)} workers")
    return list(zip(names, spent, strict=True))


@contextmanager
def _engine_profiled(profile: cProfile.Profile) -> Iterator[None]:
    """Profile the next thread that is started while this lasts."""
    original = threading.Thread.run

    def run(thread: threading.Thread) -> None:
        profile.runcall(original, thread)

    threading.Thread.run = run  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        threading.Thread.run = original  # type: ignore[method-assign]


def profiles(num_stages: int, items: int) -> dict[str, pstats.Stats]:
    """The profile of the engine's thread, and that of all workers together."""
    engine = cProfile.Profile()
    with tempfile.TemporaryDirectory() as folder:
        with (
            _engine_profiled(engine),
            MultiprocessingPipeline(
                _stages(num_stages, no_op), process_initfunc=profile_worker, process_initargs=(folder,)
            ) as pipeline,
        ):
            _work(pipeline, items)
        workers = pstats.Stats(*(str(path) for path in Path(folder).iterdir()), stream=io.StringIO())
    return {"the engine's thread": pstats.Stats(engine, stream=io.StringIO()), "the workers": workers}


def shares(stats: pstats.Stats, lines: int) -> list[tuple[str, float]]:
    """The functions with the largest own time, in percent of all but waiting."""
    table: dict[Any, Any] = stats.stats  # type: ignore[attr-defined]
    own = {_name(key): row[2] for key, row in table.items() if not _is_waiting(key)}
    total = sum(own.values())
    top = sorted(own, key=lambda name: -own[name])[:lines]
    return [(name, 100 * own[name] / total) for name in top]


def _is_waiting(key: tuple[str, int, str]) -> bool:
    return any(word in key[2] for word in ("'poll' of", "'recv' of", "acquire"))


def _name(key: tuple[str, int, str]) -> str:
    file, line, function = key
    return function if file == "~" else f"{Path(file).name}:{line} {function}"


def _print(title: str, rows: list[tuple[str, float]], unit: str) -> None:
    print(f"\n{title}\n")
    for name, value in rows:
        print(f"    {value:8.1f} {unit}  {name}")


def main() -> None:
    """Print all three parts."""
    parser = argparse.ArgumentParser(description="Where the time of one item goes.")
    parser.add_argument("--stages", type=int, default=1, help="how many no-op process stages")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--lines", type=int, default=15, help="lines of each profile")
    arguments = parser.parse_args()
    _print("The floor, for one item", floor(), "us")
    title = f"{arguments.stages} no-op process stage(s), {arguments.items} items submitted at once, for one item"
    _print(title, cpu_times(arguments.stages, arguments.items), "us")
    for name, stats in profiles(arguments.stages, arguments.items).items():
        _print(f"Own time in {name}, waiting left out", shares(stats, arguments.lines), "%")


if __name__ == "__main__":
    main()
