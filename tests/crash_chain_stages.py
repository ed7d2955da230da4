"""Chains for the crash tables, a part of which misbehaves; at module level, so that every start method finds them."""

from __future__ import annotations

import os
import signal
from collections.abc import Container, Iterator
from typing import Any

from crash_stages import CrashItem, ignore_signals_and_work_for_ever
from failure_clock import say_when

from atbu.mp_pipeline.mp_pipeline import PipeConnectionIO, SubprocessPipelineStage

CHAIN_BLOCK = b"0123456789abcdef" * 4096
# More than a pipe holds, so that each waits for the next.
CHAIN_BLOCKS = 32
CHAIN_BYTES = CHAIN_BLOCKS * len(CHAIN_BLOCK)
# Far more than any pipe holds: its writer is in the midst of it while its reader has only the first bytes.
LARGE_MESSAGE = CHAIN_BLOCK * 512


class ChainStage(SubprocessPipelineStage):
    """A part of the chain; an item may misbehave before the first data, amid it, or after the last."""

    def __init__(self, name: str, is_piped: bool, is_subprocess: bool = True, timeout: float | None = None) -> None:
        super().__init__()
        self.name = name
        self.timeout = timeout
        self._is_piped = is_piped
        self._is_subprocess = is_subprocess

    @property
    def is_subprocess(self) -> bool:
        return self._is_subprocess

    @property
    def is_pipe_with_next_stage(self) -> bool:
        return self._is_piped

    def is_for_stage(self, pwi: Any) -> bool:
        return isinstance(pwi, CrashItem)

    def perform_stage_work(self, pwi: Any, **kwargs: Any) -> Any:
        pwi.note(self.name)
        pwi.misbehave(f"{self.name}:before")
        blocks = self._produce() if pwi.pipe_in is None else self._read(pwi)
        if pwi.pipe_out is None:
            self._count(pwi, blocks)
        else:
            with PipeConnectionIO(pwi.pipe_out, is_write=True) as writer:
                self._forward(pwi, blocks, writer)
        return pwi.misbehave(f"{self.name}:after")

    def _produce(self) -> Iterator[bytes]:
        for _ in range(CHAIN_BLOCKS):
            yield CHAIN_BLOCK

    def _read(self, pwi: Any) -> Iterator[bytes]:
        with PipeConnectionIO(pwi.pipe_in, is_write=False) as reader:
            while block := reader.read():
                yield block
        pwi.note(f"{self.name} saw a clean end")

    def _forward(self, pwi: Any, blocks: Iterator[bytes], writer: PipeConnectionIO) -> None:
        for number, block in enumerate(blocks):
            if number == 1:
                pwi.misbehave(f"{self.name}:amid")
            writer.write(block)

    def _count(self, pwi: Any, blocks: Iterator[bytes]) -> None:
        pwi.num_bytes = 0
        for number, block in enumerate(blocks):
            if number == 1:
                pwi.misbehave(f"{self.name}:amid")
            pwi.num_bytes += len(block)


class TornFrameStage(ChainStage):
    """Sends its pid, then one message which no pipe holds at once; SIGUSR1 makes its item misbehave amid that."""

    def perform_stage_work(self, pwi: Any, **kwargs: Any) -> Any:
        before = signal.signal(signal.SIGUSR1, lambda *_: pwi.misbehave(f"{self.name}:in a frame"))
        try:
            return super().perform_stage_work(pwi, **kwargs)
        finally:
            signal.signal(signal.SIGUSR1, before)

    def _produce(self) -> Iterator[bytes]:
        yield str(os.getpid()).encode()
        yield LARGE_MESSAGE

    def _read(self, pwi: Any) -> Iterator[bytes]:
        for _ in super()._read(pwi):
            pass
        yield from self._produce()


class TornFrameReaderStage(ChainStage):
    """Signals to the stage before it when that has sent the first bytes of its large message, then reads on."""

    def _read(self, pwi: Any) -> Iterator[bytes]:
        reader = PipeConnectionIO(pwi.pipe_in, is_write=False)
        pid = int(reader.read())
        yield reader.read(10)
        pwi.misbehave(f"{self.name}:in a frame")
        os.kill(pid, signal.SIGUSR1)
        while block := reader.read():
            yield block
        pwi.note(f"{self.name} saw a clean end")


def chain_of_three(in_threads: Container[str] = (), timeout: float | None = None) -> list[ChainStage]:
    """Producer, middle and consumer, those of ``in_threads`` in threads; ``timeout`` is the middle's."""
    return [
        ChainStage("producer", is_piped=True, is_subprocess="producer" not in in_threads),
        ChainStage("middle", is_piped=True, is_subprocess="middle" not in in_threads, timeout=timeout),
        ChainStage("consumer", is_piped=False, is_subprocess="consumer" not in in_threads),
    ]


class EverywhereStage(ChainStage):
    """A part of a chain whose item's act is asked in each stage at once, before any data."""

    def perform_stage_work(self, pwi: Any, **kwargs: Any) -> Any:
        pwi.note(self.name)
        return say_when(pwi.moments, pwi.act, self.name)


def die_or_loop(dies: str, loops: str, stage: str) -> None:
    """One of the stages dies, another never ends, a third behaves."""
    if stage == dies:
        os._exit(3)
    if stage == loops:
        ignore_signals_and_work_for_ever()
