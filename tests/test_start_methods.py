"""How workers come to life: what the program has chosen, what it may choose later, and what can reach a worker."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from lifetime_stages import CallItem, CallStage
from pipeline_harness import (
    FORKSERVER,
    PATIENCE_S,
    SPAWN,
    TEMPLATE,
    chosen_start_method,
    pipeline_on,
    result,
    worker_pool,
)

from atbu.mp_pipeline.mp_pipeline import InvalidFunctionArgument, MultiprocessingPipeline
from atbu.mp_pipeline.template import Template

TESTS = Path(__file__).parent


def run(*arguments: str, script: str | None = None) -> list[str]:
    """Run Python with these arguments; the lines it says. It must succeed and complain about nothing."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        input=script,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.stderr == ""
    assert ran.returncode == 0
    return ran.stdout.splitlines()


@pytest.mark.parametrize(
    ("chosen", "method"), [("none", TEMPLATE), ("fork", TEMPLATE), ("forkserver", FORKSERVER), ("spawn", SPAWN)]
)
def test_the_program_chooses_how_workers_come_to_life(chosen: str, method: str) -> None:
    """fork, or nothing, means a template forked while it has one thread; what it has not chosen is not fixed."""
    said = run(str(TESTS / "lifetime_programs.py"), "of_main", chosen, "no thread")
    assert said == [f"{method} 42", str(None if chosen == "none" else chosen)]


@pytest.mark.parametrize(
    ("chosen", "method"), [("none", FORKSERVER), ("fork", FORKSERVER), ("forkserver", FORKSERVER), ("spawn", SPAWN)]
)
def test_a_program_with_threads_is_never_forked(chosen: str, method: str) -> None:
    """A lock that another thread holds would be held for ever in the copy."""
    said = run(str(TESTS / "lifetime_programs.py"), "of_main", chosen, "thread")
    assert said == [f"{method} 42", str(None if chosen == "none" else chosen)]


SCRIPT = """
from atbu.mp_pipeline.mp_pipeline import MultiprocessingPipeline, PipelineWorkItem, SubprocessPipelineStage

def is_wanted(item):
    return True

def double(item):
    item.user_obj *= 2
    return item

class Item(PipelineWorkItem):
    pass

if __name__ == "__main__":
    with MultiprocessingPipeline([SubprocessPipelineStage(is_wanted, double)]) as pipeline:
        print(pipeline.submit(Item(21)).result().user_obj)
"""


@pytest.mark.parametrize("where", ["stdin", "argument", "file"])
def test_a_script_works_wherever_it_comes_from(where: str, tmp_path: Path) -> None:
    """Also where no worker could import it: its stages are functions of __main__."""
    if where == "stdin":
        assert run("-", script=SCRIPT) == ["42"]
    elif where == "argument":
        assert run("-c", SCRIPT) == ["42"]
    else:
        (tmp_path / "script.py").write_text(SCRIPT)
        assert run(str(tmp_path / "script.py")) == ["42"]


def test_a_module_run_as_a_program_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """python -m, by each start method."""
    choice = (
        "    import multiprocessing, sys\n    if sys.argv[1:]: multiprocessing.set_start_method(sys.argv[1])\n    with"
    )
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(SCRIPT)
    (tmp_path / "module.py").write_text(SCRIPT.replace("    with", choice))
    monkeypatch.chdir(tmp_path)
    assert run("-m", "package") == ["42"]
    assert [run("-m", "module", *choices) for choices in ([], ["forkserver"], ["spawn"])] == [["42"]] * 3


@pytest.mark.parametrize("method", [FORKSERVER, SPAWN])
def test_a_script_that_no_worker_can_import_breaks_the_pipeline(method: str) -> None:
    """A new process cannot read stdin again; multiprocessing says so on stderr, and nothing hangs."""
    chosen = f"    import multiprocessing\n    multiprocessing.set_start_method('{method}')\n    with"
    script = SCRIPT.replace("    with", chosen).replace(".result().user_obj", ".result().exceptions")
    ran = subprocess.run(
        [sys.executable, "-"], input=script, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert "PipelineBroken(" in ran.stdout
    assert "<stdin>" in ran.stderr
    assert ran.returncode == 0


@pytest.mark.parametrize(
    "ask",
    [
        "import atbu.mp_pipeline.mp_pipeline",
        "import atbu.mp_pipeline.mp_global",
        "from atbu.mp_pipeline.mp_pipeline import PipeConnectionIO",
        "import atbu.mp_pipeline.pipeline as p; p.MultiprocessingPipeline().shutdown()",
        "import atbu.mp_pipeline.pipeline as p; p.MultiprocessingPipeline(serial=True).num_stages",
        "from atbu.mp_pipeline.mp_helper import *",
        "from atbu.mp_pipeline.mp_global import *; get_verbosity_level()",
    ],
)
def test_the_library_fixes_no_start_method(ask: str) -> None:
    """Whatever it is asked, a program may choose afterwards, and without force."""
    check = "import multiprocessing as m; print(m.get_start_method(allow_none=True)); m.set_start_method('spawn')"
    assert run("-c", f"{ask}\n{check}") == ["None"]


@pytest.mark.parametrize("first", [TEMPLATE, FORKSERVER])
def test_a_second_pipeline_may_come_to_life_otherwise(first: str) -> None:
    """Each looks at the program when it is made: the first one's thread runs by then."""
    with pipeline_on(first, stages=[CallStage(str)]) as one:
        assert result(one.submit(CallItem(1))).answer == "1"
        with (
            pipeline_on(SPAWN, stages=[CallStage(str)]) as two,
            pipeline_on(FORKSERVER, stages=[CallStage(str)]) as three,
        ):
            assert [result(each.submit(CallItem(2))).answer for each in (one, two, three)] == ["2"] * 3


def test_a_thread_at_construction_means_a_forkserver() -> None:
    """In this very process."""
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        with pipeline_on(FORKSERVER, stages=[CallStage(str)]):
            pass
        with chosen_start_method(None), MultiprocessingPipeline([CallStage(str)]) as pipeline:
            assert worker_pool(pipeline).method == FORKSERVER
            assert result(pipeline.submit(CallItem(1))).answer == "1"
    finally:
        ended.set()
        thread.join()


# What cannot travel


_shared: Any = None


def keep(shared: Any) -> None:
    """An initialiser that keeps what it is given."""
    global _shared
    _shared = shared


def use(_: Any) -> str:
    """Use what the initialiser kept, a lock or a queue."""
    if hasattr(_shared, "put"):
        _shared.put("used")
        return "put"
    with _shared:
        return "locked"


MAKERS = {"Lock": "locked", "RLock": "locked", "Semaphore": "locked", "Queue": "put", "SimpleQueue": "put"}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("method", [FORKSERVER, SPAWN])
def test_what_cannot_travel_is_refused_at_construction(method: str, maker: str) -> None:
    """A lock of the fork context reaches no worker that is not forked; the message says what would."""
    shared = getattr(multiprocessing.get_context("fork"), maker)()
    refused = pytest.raises(InvalidFunctionArgument, match=r'get_context\("spawn"\)')
    with refused, chosen_start_method(method):
        MultiprocessingPipeline([CallStage(use)], process_initfunc=keep, process_initargs=(shared,))
    close(shared)


def test_a_function_that_cannot_travel_is_refused_at_construction() -> None:
    """Not in the first worker."""
    with pytest.raises(InvalidFunctionArgument, match="process_initfunc"), chosen_start_method(SPAWN):
        MultiprocessingPipeline([CallStage(use)], process_initfunc=lambda: None)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    ("method", "context"),
    [(TEMPLATE, "fork"), (TEMPLATE, "spawn"), (FORKSERVER, "spawn"), (SPAWN, "spawn"), (SPAWN, "forkserver")],
)
def test_what_can_travel_does(method: str, context: str, maker: str) -> None:
    """What is forked inherits all; what is spawned takes what was made for it."""
    shared = getattr(multiprocessing.get_context(context), maker)()
    with pipeline_on(
        method,
        stages=[CallStage(use)],
        max_simultaneous_work_items=1,
        process_initfunc=keep,
        process_initargs=(shared,),
    ) as pipeline:
        item = result(pipeline.submit(CallItem()))
    assert item.exceptions is None
    assert item.answer == MAKERS[maker]
    if maker.endswith("Queue"):
        assert shared.get() == "used"
    close(shared)


def close(shared: Any) -> None:
    if hasattr(shared, "close"):
        shared.close()


def test_a_template_inherits_what_cannot_be_pickled() -> None:
    """Its initialiser may be a lambda, its arguments anything."""
    with pipeline_on(
        TEMPLATE,
        stages=[CallStage(use)],
        process_initfunc=lambda lock: keep(lock),
        process_initargs=(threading.Lock(),),
    ) as pipeline:
        assert result(pipeline.submit(CallItem())).answer == "locked"


def _parent_and_mark(_: Any) -> tuple[int, str | None]:
    return os.getppid(), os.environ.get("PREPARED")


def _prepare() -> None:
    os.environ["PREPARED"] = "yes"
    raise ValueError("left for the workers to find")


def test_a_template_may_be_started_before_its_pipeline() -> None:
    """Its workers have what it prepared, also where that failed half-way, and it ends with the pipeline."""
    template = Template(None, (), "early", _prepare)
    with MultiprocessingPipeline([CallStage(_parent_and_mark)], template=template) as pipeline:
        assert result(pipeline.submit(CallItem())).answer == (template.pid, "yes")
    assert not template.is_alive
    template.close(0.0)  # once more
    assert "PREPARED" not in os.environ


@pytest.mark.parametrize("arguments", [{"serial": True}, {"process_initfunc": print}, {"process_initargs": (1,)}])
def test_a_template_that_was_started_without_an_initialiser_takes_none(arguments: dict[str, Any]) -> None:
    """It would have to be run before the template was forked."""
    template = Template(None, (), "early")
    try:
        with pytest.raises(InvalidFunctionArgument, match="template"):
            MultiprocessingPipeline([], template=template, **arguments)
    finally:
        template.close(PATIENCE_S)
