"""Waits for somebody else without keeping the run's loop from anything, a stop signal least of all."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Generator
from typing import TypeVar

from .inputs.found import NotYet

T = TypeVar("T")


def patiently(call: Callable[[], T]) -> Generator[NotYet, None, T]:
    """What ``call`` gives or raises, which may take for ever: to open a FIFO that nobody has at its other end.

    It runs in a thread; NotYet is given until it has ended. If nobody asks again, the thread is left behind, which
    does not keep the process from its end.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def work() -> None:
        try:
            results.append(call())
        except BaseException as ex:  # noqa: BLE001 - raised where it was asked for
            errors.append(ex)
        finally:
            os.close(writer)  # wakes whoever polls the other end

    thread = threading.Thread(target=work, name="mpp-open", daemon=True)
    thread.start()
    try:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        while not poll.poll(0):
            yield NotYet(reader)
        thread.join()
    finally:
        os.close(reader)
    if errors:
        raise errors[0]
    return results[0]
