"""The log of a program and its processes: who writes where, in every order of calls, and that it ends."""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

from atbu.mp_pipeline import mp_global
from atbu.mp_pipeline.exception import (
    GlobalContextNotSet,
    InvalidStateError,
    QueueListenerAlreadyStarted,
    QueueListenerNotStarted,
)
from atbu.mp_pipeline.mp_pipeline import MultiprocessingPipeline, PipelineWorkItem, SubprocessPipelineStage

START_METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(autouse=True)
def _fresh_logging(monkeypatch):
    """The module's state as in a new program, and the root logger as it was before."""
    for name in ("_GLOBAL_CONTEXT", "_PARENT_QUEUE_LISTENER", "_LISTENER_PID", "_QUEUE_HANDLER"):
        monkeypatch.setattr(mp_global, name, None)
    monkeypatch.setattr(mp_global, "_LAST_INITIALIZE_ARGS", None)
    monkeypatch.setattr(mp_global, "_CREATED_LOGGING_HANDLERS", set())
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    mp_global._end_at_exit(os.getpid())
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture
def logfile(tmp_path):
    return tmp_path / "program.log"


def log_as_child(number):
    """Runs in a ProcessPoolExecutor's child."""
    logging.getLogger("child").info("from child %s", number, extra={"callback": lambda: None})
    return os.getpid(), mp_global.get_verbosity_level()


def log_error_as_child():
    try:
        raise ValueError("no good")
    except ValueError:
        logging.getLogger("child").exception("it failed")


def _executor(method):
    return ProcessPoolExecutor(
        1,
        mp_context=multiprocessing.get_context(method),
        initializer=mp_global.get_process_pool_exec_init_func(),
        initargs=mp_global.get_process_pool_exec_init_args(),
    )


def test_the_programs_own_records_go_to_console_and_file(logfile, capsys):
    """The console shows the message, the file also when, where and who."""
    mp_global.global_init()
    mp_global.initialize_logging(logfile, "INFO", 0, False)
    assert any(isinstance(h, logging.handlers.QueueHandler) for h in logging.root.handlers)

    logging.getLogger("program").info("what %s", "happened")
    logging.getLogger("program").debug("not shown")
    mp_global.deinitialize_logging()

    assert capsys.readouterr().out == "what happened\n"
    (line,) = logfile.read_text().splitlines()
    assert f"PID={os.getpid()}" in line
    assert line.endswith("program      INFO     what happened")


def test_console_detail_is_what_the_file_has(logfile, capsys):
    """log_console_detail=True writes the same line to both."""
    mp_global.global_init()
    mp_global.initialize_logging(str(logfile), "INFO", 0, True)
    logging.info("what happened")
    mp_global.deinitialize_logging()

    assert capsys.readouterr().out == logfile.read_text()


@pytest.mark.parametrize("loglevel", ["DEBUG", logging.DEBUG, None])
def test_the_level_counts_for_root_console_and_file(loglevel, logfile, capsys):
    """None means INFO; but the file takes what a logger with a level of its own lets through."""
    chatty = logging.getLogger("chatty")
    chatty.setLevel(logging.DEBUG)
    mp_global.global_init()
    mp_global.initialize_logging(logfile, loglevel, None, False)
    logging.debug("root's detail")
    chatty.debug("chatty's detail")
    mp_global.deinitialize_logging()
    chatty.setLevel(logging.NOTSET)

    console, file = capsys.readouterr().out, logfile.read_text()
    assert ("root's detail" in console, "root's detail" in file) == ((loglevel is not None),) * 2
    assert ("chatty's detail" in console, "chatty's detail" in file) == (loglevel is not None, True)


# Forking beside the listener's thread is the program's choice here, and Python warns about it.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("method", START_METHODS)
@pytest.mark.parametrize("is_early", [True, False], ids=["started before", "started after"])
def test_records_of_an_executors_child_arrive(method, is_early, logfile, capsys):
    """Under every start method, whether it started before or after initialize_logging, with its own pid."""
    mp_global.global_init(verbosity_level=3)
    if not is_early:
        mp_global.initialize_logging(logfile, "INFO", 3, False)
    with _executor(method) as executor:
        pid, verbosity = executor.submit(log_as_child, 1).result()
        if is_early:
            mp_global.initialize_logging(logfile, "INFO", 3, False)
        executor.submit(log_as_child, 2).result()
        executor.submit(log_error_as_child).result()
    mp_global.deinitialize_logging()

    assert pid != os.getpid()
    assert verbosity == 3
    shown = capsys.readouterr().out
    assert shown.startswith("from child 1\nfrom child 2\nit failed\nTraceback (most recent call last):\n")
    assert shown.endswith("ValueError: no good\n")
    lines = logfile.read_text().splitlines()
    assert all(f"PID={pid}" in line for line in lines[:3])


def _log_in_stage(wi, **_kwargs):
    log_as_child(wi.user_obj)
    wi.user_obj = os.getpid(), mp_global.get_verbosity_level()
    return wi


def _always(_wi):
    return True


@pytest.mark.parametrize("is_given", [True, False], ids=["with the initialiser", "without"])
@pytest.mark.parametrize("is_early", [True, False], ids=["started before", "started after"])
def test_records_of_a_pipelines_worker_arrive_once(is_early, is_given, logfile):
    """By the worker's own channel, whether or not the program also gives it the initialiser."""
    mp_global.global_init(verbosity_level=3)
    if not is_early:
        mp_global.initialize_logging(logfile, "INFO", 3, False)
    stages = [SubprocessPipelineStage(fn_determiner=_always, fn_worker=_log_in_stage)]
    initialiser = (
        {
            "process_initfunc": mp_global.get_process_pool_exec_init_func(),
            "process_initargs": mp_global.get_process_pool_exec_init_args(),
        }
        if is_given
        else {}
    )
    with MultiprocessingPipeline(stages=stages, max_simultaneous_work_items=1, **initialiser) as pipeline:
        if is_early:
            logging.root.setLevel(logging.INFO)
            assert not pipeline.submit(PipelineWorkItem(0)).result(60).is_failed
            mp_global.initialize_logging(logfile, "INFO", 3, False)
        item = pipeline.submit(PipelineWorkItem(1)).result(60)
    mp_global.deinitialize_logging()

    assert not item.is_failed, item.exceptions
    pid, verbosity = item.user_obj
    assert pid != os.getpid()
    if is_given:
        assert verbosity == 3
    (line,) = logfile.read_text().splitlines()
    assert f"PID={pid}" in line
    assert line.endswith("from child 1")


def test_a_child_outlives_the_log(logfile, capfd):
    """After deinitialize_logging a child's records go nowhere, its warnings to stderr, and it works on."""
    mp_global.global_init()
    with _executor("spawn") as executor:
        mp_global.initialize_logging(logfile, "INFO", 0, False)
        executor.submit(log_as_child, 1).result()
        mp_global.deinitialize_logging()
        executor.submit(log_as_child, 2).result()
        executor.submit(log_error_as_child).result()

    assert "from child 1" in logfile.read_text()
    assert "from child 2" not in logfile.read_text()
    error = capfd.readouterr().err
    assert "it failed" in error
    assert "Logging error" not in error


def test_direct_logging_and_back(logfile, capsys):
    """Switched, records are written before the call returns; switched back, a child's arrive again. Each once."""
    mp_global.global_init()
    with _executor("spawn") as executor:
        mp_global.initialize_logging(logfile, "INFO", 0, False)
        logging.info("queued")
        mp_global.switch_to_non_queued_logging()
        logging.info("direct")
        written_at_once = logfile.read_text().count("direct")
        executor.submit(log_as_child, 1).result()
        mp_global.reinitialize_logging()
        executor.submit(log_as_child, 2).result()
        logging.info("queued again")
    mp_global.deinitialize_logging()

    assert written_at_once == 1
    texts = capsys.readouterr().out.splitlines()
    assert texts[:2] == ["queued", "direct"]
    assert sorted(texts[2:]) == ["from child 1", "from child 2", "queued again"]
    assert len(logfile.read_text().splitlines()) == 5


def test_switching_twice_and_without_a_log_does_nothing(logfile, capsys):
    """switch_to_non_queued_logging is for whoever is about to ask the user something."""
    handlers = list(logging.root.handlers)
    mp_global.switch_to_non_queued_logging()
    assert logging.root.handlers == handlers

    mp_global.global_init()
    mp_global.initialize_logging(logfile, "INFO", 0, False)
    mp_global.switch_to_non_queued_logging()
    mp_global.switch_to_non_queued_logging()
    logging.info("once")
    mp_global.deinitialize_logging()

    assert capsys.readouterr().out == "once\n"
    assert logging.root.handlers == handlers


def test_it_can_be_done_again_and_again(logfile, capsys):
    """Initialise and undo, three times: every record once, nothing left on the root logger."""
    handlers = list(logging.root.handlers)
    mp_global.global_init()
    for number in range(3):
        mp_global.initialize_logging(logfile, "INFO", 0, False)
        logging.info("run %s", number)
        mp_global.deinitialize_logging()
        assert logging.root.handlers == handlers

    assert capsys.readouterr().out == "run 0\nrun 1\nrun 2\n"
    assert len(logfile.read_text().splitlines()) == 3


def test_what_cannot_be_is_refused(logfile):
    """Each wrong order of calls has its error."""
    with pytest.raises(GlobalContextNotSet, match=r"global_init\(\)"):
        mp_global.initialize_logging(None, "INFO", 0, False)
    with pytest.raises(QueueListenerNotStarted):
        mp_global.deinitialize_logging()
    with pytest.raises(InvalidStateError, match="never called"):
        mp_global.reinitialize_logging()
    with pytest.raises(GlobalContextNotSet):
        mp_global.get_process_pool_exec_init_func()(None)

    mp_global.global_init()
    mp_global.initialize_logging(None, "INFO", 0, False)
    with pytest.raises(QueueListenerAlreadyStarted):
        mp_global.initialize_logging(logfile, "INFO", 0, False)
    with pytest.raises(QueueListenerAlreadyStarted):
        mp_global.reinitialize_logging()
    mp_global.deinitialize_logging()
    with pytest.raises(QueueListenerNotStarted):
        mp_global.deinitialize_logging()
    assert not logfile.exists()


def test_a_log_file_that_cannot_be_opened_changes_nothing(tmp_path):
    """The error is the system's; no handler, thread or descriptor is left."""
    handlers = list(logging.root.handlers)
    mp_global.global_init()
    with pytest.raises(FileNotFoundError):
        mp_global.initialize_logging(tmp_path / "no such folder" / "a.log", "INFO", 0, False)

    assert logging.root.handlers == handlers
    with pytest.raises(QueueListenerNotStarted):
        mp_global.deinitialize_logging()


def test_verbosity_levels():
    """0 until it is set; initialize_logging sets it too."""
    assert mp_global.get_verbosity_level() == 0
    mp_global.set_verbosity_level("2")
    assert mp_global.get_verbosity_level() == 2
    mp_global.global_init(verbosity_level=5)  # not the first call
    assert mp_global.get_verbosity_level() == 2
    mp_global.initialize_logging(None, None, 4, False)
    assert mp_global.get_verbosity_level() == 4
    mp_global.deinitialize_logging()


def test_init_arguments_travel_anywhere_without_their_queue():
    """A work item or a pipeline's worker can take them along by plain pickling."""
    mp_global.global_init("DEBUG", 2)

    (context,) = pickle.loads(pickle.dumps(mp_global.get_process_pool_exec_init_args()))

    assert (context.global_logging_level, context.global_verbosity_level) == ("DEBUG", 2)
    assert context.queue is None


def test_in_a_pipelines_worker_the_initialiser_leaves_the_handlers_alone(monkeypatch):
    """Records travel on the worker's own channel there; only the levels are taken over."""
    mp_global.global_init("WARNING", 2)
    (context,) = pickle.loads(pickle.dumps(mp_global.get_process_pool_exec_init_args()))
    mp_global._GLOBAL_CONTEXT.close_queue()
    handlers = list(logging.root.handlers)
    monkeypatch.setattr(mp_global, "_worker_log_handler", logging.NullHandler())

    mp_global.get_process_pool_exec_init_func()(context)

    assert logging.root.handlers == handlers
    assert logging.root.level == logging.WARNING
    assert mp_global.get_verbosity_level() == 2
    assert mp_global.get_process_pool_exec_init_args()[0].queue is None


class DerivedHandler(logging.StreamHandler):
    """As a test runner's."""


def test_remove_root_stream_handlers_takes_the_plain_ones_and_all_of_them():
    """Handlers of derived classes stay."""
    before = list(logging.root.handlers)
    derived = DerivedHandler()
    for handler in (logging.StreamHandler(), logging.StreamHandler(), derived, logging.StreamHandler()):
        logging.root.addHandler(handler)

    mp_global.remove_root_stream_handlers()

    assert logging.root.handlers == [*before, derived]


def test_remove_created_logging_handlers_takes_ours_wherever_they_are(logfile):
    """Somebody's own handler stays; ours are closed."""
    mp_global.global_init()
    mp_global.initialize_logging(logfile, "INFO", 0, False)
    mp_global.switch_to_non_queued_logging()
    named, own = logging.getLogger("a.logger"), logging.NullHandler()
    ours = [h for h in logging.root.handlers if h in mp_global._CREATED_LOGGING_HANDLERS]
    for handler in [*ours, own]:
        named.addHandler(handler)

    mp_global.remove_created_logging_handlers()

    assert len(ours) == 2
    assert named.handlers == [own]
    assert not set(ours) & set(logging.root.handlers)
    named.removeHandler(own)


def test_initialize_logging_basic_writes_bare_messages(monkeypatch, capsys):
    """Where the root logger has no handler yet, from INFO on."""
    monkeypatch.setattr(logging.root, "handlers", [])
    mp_global.initialize_logging_basic()
    logging.info("what happened")
    logging.debug("not shown")

    assert capsys.readouterr().err == "what happened\n"


def test_the_stamp_names_process_and_thread():
    """A class that mixes it in can say where it runs."""

    class Worker(mp_global.ProcessThreadContextMixin):
        pass

    worker = Worker()

    assert worker.our_process.pid == os.getpid()
    assert worker.our_thread_name == worker.our_thread.name
    stamp = worker.get_exec_context_log_stamp_str()
    assert f"PID={os.getpid()} TID={worker.our_thread.native_id} t_name={worker.our_thread_name}" in stamp


FIXES_NO_START_METHOD = """
import logging, multiprocessing
from atbu.mp_pipeline import mp_global
mp_global.global_init()
mp_global.get_verbosity_level(), mp_global.get_process_pool_exec_init_func()
mp_global.get_process_pool_exec_init_args()
mp_global.initialize_logging(None, None, None, False)
logging.info("what happened")
mp_global.deinitialize_logging()
assert multiprocessing.get_start_method(allow_none=True) is None
multiprocessing.set_start_method("spawn")
"""

ENDS_WITHOUT_A_WORD = """
import logging, os
from atbu.mp_pipeline import mp_global
mp_global.global_init()
mp_global.initialize_logging(None, None, None, False)
for number in range(1000):
    logging.info("record %s", number)
"""

FORKS_A_CHILD_THAT_ENDS_THE_LOG = """
import logging, os, warnings
from atbu.mp_pipeline import exception, mp_global
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside a thread
mp_global.global_init()
mp_global.initialize_logging(None, None, None, False)
pid = os.fork()
if pid == 0:
    try:
        mp_global.deinitialize_logging()
    except exception.QueueListenerNotStarted:
        logging.info("from the child")
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
logging.info("from the parent")
"""

NEVER_INITIALISES = """
from atbu.mp_pipeline import mp_global
mp_global.get_process_pool_exec_init_args()
"""


@pytest.mark.parametrize(
    ("program", "output"),
    [
        (FIXES_NO_START_METHOD, "what happened\n"),
        (ENDS_WITHOUT_A_WORD, "".join(f"record {number}\n" for number in range(1000))),
        (FORKS_A_CHILD_THAT_ENDS_THE_LOG, "from the child\nfrom the parent\n"),
        (NEVER_INITIALISES, ""),
    ],
    ids=["fixes no start method", "ends without a word", "forks a child that ends the log", "never initialises"],
)
def test_a_program_that(program, output):
    """Runs to its end with every record written and no warning."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == output
