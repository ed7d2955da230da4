"""The thread of an engine's loop: its start and the wait for its end, whatever a signal's handler raises there.

A program's handler may raise (Ctrl-C does) in the middle of ``Thread.start()`` and ``join()``. The first may then have
cost the thread its life, and the second takes it for ended until Python 3.13.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

_WAIT_PIECE_S = 0.5
# A thread begins within microseconds. One that comes later finds that it is not wanted any more.
_BEGIN_WAIT_S = 0.2


class LoopThread:
    """Runs something once, in a thread of its own.

    Args:
        name: The thread's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pid = os.getpid()
        #: None before its start.
        self.thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._has_begun = False
        self._is_ended = False
        # Held while it runs.
        self._running = threading.Lock()

    def start(self, run: Callable[[], None]) -> None:
        """Have it do ``run``. Raises RuntimeError when there can be no thread, and what a signal's handler raises."""
        thread = threading.Thread(target=self._run_to_the_end, args=(run,), name=self._name, daemon=True)
        self.thread = thread  # it asks for itself
        try:
            thread.start()
        except BaseException:
            deadline = time.monotonic() + _BEGIN_WAIT_S
            while not self._has_begun and time.monotonic() < deadline:
                time.sleep(0.001)
            with self._lock:
                if not self._has_begun:
                    self.thread = None
            raise

    def _run_to_the_end(self, run: Callable[[], None]) -> None:
        with self._lock:
            if self.thread is not threading.current_thread():
                return  # given up
            self._running.acquire()
            self._has_begun = True
        try:
            run()
        finally:
            self._is_ended = True
            self._running.release()

    @property
    def is_running(self) -> bool:
        """Whether the thread is there; it is not in a forked copy."""
        return self.thread is not None and not self._is_ended and os.getpid() == self._pid

    def wait_until_ended(self, timeout_s: float | None = None) -> None:
        """Wait for its end, once it was started; from any place of any thread, signal handlers included."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._is_ended and (deadline is None or time.monotonic() < deadline):
            if not self._has_begun:
                time.sleep(0.001)
            # In pieces: one who is broken off between the two leaves it locked.
            elif self._running.acquire(timeout=_WAIT_PIECE_S):
                self._running.release()
        if self._is_ended and self.thread is not None:
            self.thread.join()
