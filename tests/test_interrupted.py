"""What a signal's handler raises between two steps of Python: nobody waits for ever for what was left behind."""

from __future__ import annotations

import sys
import threading

import pytest
from pipeline_harness import PATIENCE_S, result
from pipeline_stages import Item, process_stage, thread_stage

from atbu.mp_pipeline.mp_pipeline import MultiprocessingPipeline


class TooLate(Exception):
    """What a program's handler of SIGALRM raises."""


class RaisingAfter:
    """Raises as a handler would whose signal comes while Python calls a function of C, once."""

    def __init__(self, name):
        self.name = name
        self.has_raised = False

    def __enter__(self):
        sys.setprofile(self._on_event)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def _on_event(self, frame, event, argument):
        if event == "c_return" and argument.__name__ == self.name:
            sys.setprofile(None)
            self.has_raised = True
            raise TooLate


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("stage_of", [process_stage, thread_stage])
def test_a_submit_that_is_broken_off_while_the_first_thread_starts_can_be_repeated(stage_of):
    """Python then has the new thread end at once, or not."""
    pipeline = MultiprocessingPipeline(stages=[stage_of()])
    with RaisingAfter("start_new_thread") as moment, pytest.raises((TooLate, KeyError)):
        pipeline.submit(Item())
    assert moment.has_raised
    assert not result(pipeline.submit(Item())).is_failed
    pipeline.shutdown()


@pytest.mark.parametrize("do", ["cancel", "done", "result", "exception"])
def test_a_future_is_not_left_locked(do):
    """Its pipeline's thread would wait for it, and all items with it."""
    pipeline = MultiprocessingPipeline(stages=[thread_stage()])
    future = pipeline.submit(Item())
    result(future)
    free = []
    with RaisingAfter("__enter__"):
        getattr(future, do)()
    thread = threading.Thread(target=lambda: free.append(future._condition.acquire(False)))
    thread.start()
    thread.join(PATIENCE_S)
    assert free == [True]
    pipeline.shutdown()
