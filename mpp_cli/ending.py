"""How a run ends before its inputs do: nothing more begins, or everything is ended.

first signal, --fail-fast ──▶ begin nothing more ──▶ what is under way ends ──▶ over
second signal, a stream, five seconds, no space, no reader ──▶ abort ──▶ workers are ended ──▶ over
"""

from __future__ import annotations

import threading
import time
from typing import Final

from atbu.mp_pipeline.pipeline import MultiprocessingPipeline

from .signals import StopFlag
from .stop_pipe import StopPipe

#: How long items from named files may go on after the first stop signal.
STOP_GRACE_S: Final = 5.0
#: How long the end of aborted items is waited for before the process ends without them: a stage in a thread cannot
#: be ended, and workers end with this process anyway.
_ABORT_WAIT_S: Final = 2.0


class Ending:
    """The end of one run; main thread only.

    Attributes:
        pipe: Tells workers with a batch that they are to begin nothing more.
        is_beginning: Whether anything may still begin.
    """

    def __init__(self, pipeline: MultiprocessingPipeline, stop: StopFlag) -> None:
        self.pipe = StopPipe()
        self.is_beginning = True
        self._pipeline = pipeline
        self._stop = stop
        self._stop_deadline_s: float | None = None
        self._abort_deadline_s: float | None = None
        self._terminator: threading.Thread | None = None

    @property
    def is_aborting(self) -> bool:
        """Whether what is under way is being ended too."""
        return self._abort_deadline_s is not None

    @property
    def is_over(self) -> bool:
        """Whether what is still under way is to be left behind."""
        if self._abort_deadline_s is None:
            return False
        return self._stop.count > 1 or time.monotonic() > self._abort_deadline_s

    def begin_nothing_more(self) -> None:
        """What is under way may end."""
        self.is_beginning = False
        self.pipe.close_write_end()

    def hear_signal(self) -> bool:
        """A stop signal has come; says whether it is the first that is heard of."""
        if self._stop_deadline_s is not None:
            return False
        self._stop_deadline_s = time.monotonic() + STOP_GRACE_S
        return True

    @property
    def must_abort(self) -> bool:
        """Whether a stop signal ends what is under way: it was the second, or the time is up."""
        is_late = self._stop_deadline_s is not None and time.monotonic() >= self._stop_deadline_s
        return self._stop.count > 1 or is_late

    def abort(self) -> None:
        """End everything; any number of times."""
        self.begin_nothing_more()
        if self._abort_deadline_s is None:
            self._abort_deadline_s = time.monotonic() + _ABORT_WAIT_S
            # It waits for the workers' end, and this thread must see a second signal meanwhile.
            self._terminator = threading.Thread(target=self._pipeline.terminate, name="mpp-terminate", daemon=True)
            self._terminator.start()

    def close(self) -> None:
        """End the pipeline, in good order if nothing was aborted."""
        if self._terminator is None:
            self._pipeline.shutdown()
        else:
            self._terminator.join(_ABORT_WAIT_S)
        self.pipe.close()
