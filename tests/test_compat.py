"""What programs written for the original rely on."""

from __future__ import annotations

import concurrent.futures
import gc
import inspect
import multiprocessing
import os
import pickle
from multiprocessing import resource_sharer
from multiprocessing.managers import BaseManager, SyncManager

import pytest
from pipeline_harness import PATIENCE_S
from pipeline_stages import PROCESSES, RUNNERS, Item, chain, closing_runner, process_stage, results, thread_stage, wants

import atbu.mp_pipeline.exception as errors
import atbu.mp_pipeline.mp_pipeline as public
from atbu.mp_pipeline.mp_pipeline import (
    InvalidPipeConnectionMessage,
    PipeConnectionIO,
    PipeConnectionMessage,
    PipelineStage,
    PipelineWorkItem,
    SubprocessPipelineStage,
)


@pytest.fixture(params=RUNNERS)
def runner(request):
    with closing_runner(request.param) as runner:
        yield runner


@pytest.fixture
def processes():
    with closing_runner(PROCESSES) as runner:
        yield runner


# -- names

NAMES = [
    "ANOMALY_KIND_EXCEPTION",
    "Anomaly",
    "InvalidFunctionArgument",
    "InvalidPipeConnectionMessage",
    "InvalidStateError",
    "MultiprocessingPipeline",
    "PIPE_CONN_MSG_CMD_DATA",
    "PIPE_CONN_MSG_CMD_DATA_FINAL",
    "PipeConnectionAlreadyEof",
    "PipeConnectionIO",
    "PipeConnectionMessage",
    "PipelineFutureStuckPendingError",
    "PipelineLastStageError",
    "PipelineResultIsNotPipelineWorkItem",
    "PipelineStage",
    "PipelineWorkItem",
    "SubprocessPipelineStage",
    "ThreadPipelineStage",
]


@pytest.mark.parametrize("name", NAMES)
def test_programs_import_their_names_from_one_module(name):
    """atbu.mp_pipeline.mp_pipeline has them all."""
    assert hasattr(public, name)
    assert name in public.__all__


def test_arguments_have_the_originals_names_and_order():
    """Programs give them by position and by name."""
    pipeline = inspect.signature(public.MultiprocessingPipeline).parameters
    assert list(pipeline)[:5] == [
        "stages",
        "max_simultaneous_work_items",
        "name",
        "process_initfunc",
        "process_initargs",
    ]
    assert list(inspect.signature(PipelineWorkItem).parameters) == ["user_obj", "auto_copy_attr", "kwargs"]
    assert list(inspect.signature(SubprocessPipelineStage).parameters) == ["fn_determiner", "fn_worker", "stage_kwargs"]
    complete = inspect.signature(PipelineWorkItem.stage_complete).parameters
    assert list(complete) == ["self", "stage_num", "wi", "ex"]


ERRORS = [
    "AtbuException",
    "GlobalContextNotSet",
    "InvalidFunctionArgument",
    "InvalidPipeConnectionMessage",
    "InvalidStateError",
    "PipeConnectionAlreadyEof",
    "PipelineFutureStuckPendingError",
    "PipelineLastStageError",
    "PipelineResultIsNotPipelineWorkItem",
    "QueueListenerAlreadyStarted",
    "QueueListenerNotStarted",
]


@pytest.mark.parametrize("name", ERRORS)
def test_errors_take_a_message_and_a_cause(name):
    """By position or name, and have them as attributes; also after a trip through pickle."""
    cls = getattr(errors, name)
    by_position, by_name = cls("what", "why"), cls(message="what", cause="why")
    for error in (by_position, by_name, pickle.loads(pickle.dumps(by_position))):
        assert (error.message, error.cause) == ("what", "why")
        assert str(error).startswith("what")
    assert isinstance(cls(), errors.AtbuException)


# -- items


class OwnObjectItem(PipelineWorkItem):
    """Its own user_obj, as the seed's."""

    def __init__(self, num):
        super().__init__(user_obj=self)
        self.num = num
        self.pids = [os.getpid()]


class OwnObjectStage(PipelineStage):
    @property
    def is_subprocess(self):
        return True

    def is_for_stage(self, pwi):
        return True

    def perform_stage_work(self, pwi, **kwargs):
        assert pwi.user_obj is pwi
        pwi.user_obj.num += 1
        pwi.pids.append(os.getpid())
        return pwi


def _raise_num(pwi):
    pwi.user_obj.num += 1
    return pwi


def test_an_item_that_is_its_own_user_obj_goes_through_processes_and_threads(runner):
    """It is that still, and has what each stage did."""
    stages = [OwnObjectStage(), thread_stage(_raise_num), OwnObjectStage(), thread_stage(_raise_num), OwnObjectStage()]
    items = [OwnObjectItem(10 * n) for n in range(5)]
    results(runner(*stages), items)
    for n, item in enumerate(items):
        assert item.exceptions is None
        assert item.user_obj is item
        assert item.num == 10 * n + 5
        assert len(item.pids) == 4
        assert str(item).count("OwnObjectItem") == 1


def test_work_items_have_the_originals_methods():
    """cur_stage, increment_stage, append_exception, is_failed, auto_copy_attr, user_kwargs."""
    item = PipelineWorkItem("payload", True, word="value")
    assert (item.user_obj, item.auto_copy_attr, item.user_kwargs) == ("payload", True, {"word": "value"})
    assert (item.cur_stage, item.is_failed, item.exceptions, item.pipe_conn) == (0, False, None, None)
    item.increment_stage()
    assert item.cur_stage == 1
    error = ValueError("once")
    item.append_exception(error)
    item.append_exception(error)
    assert (item.is_failed, item.exceptions) == (True, [error])


def test_cur_stage_counts_the_stages_an_item_has_passed(runner):
    """All of them, when it has ended."""
    seen = []
    stage = thread_stage(lambda pwi: (seen.append(pwi.cur_stage), pwi)[1])
    (item,) = results(runner(process_stage(), stage, process_stage()), [Item()])
    assert len(seen) == 1
    assert item.cur_stage == 3


# -- manager proxies


class SharingStage(SubprocessPipelineStage):
    """Holds proxies of a manager's objects."""

    def __init__(self, shared_list, shared_dict):
        super().__init__()
        self.shared_list = shared_list
        self.shared_dict = shared_dict

    def is_for_stage(self, pwi):
        return True

    def perform_stage_work(self, pwi, **kwargs):
        self.shared_list.append(pwi.user_obj)
        self.shared_dict[pwi.user_obj] = os.getpid()
        return pwi


class Tally:
    def __init__(self):
        self._sum = 0

    def add(self, number):
        self._sum += number
        return self._sum


class TallyManager(BaseManager):
    pass


TallyManager.register("Tally", Tally)


def _add_to_tally(pwi):
    pwi.user_obj["tally"].add(pwi.user_obj["number"])
    return pwi


@pytest.mark.parametrize("is_manager_first", [True, False])
def test_stages_may_hold_manager_proxies(runner, is_manager_first):
    """Whichever was there first: the workers have the program's authkey."""
    pipeline = None if is_manager_first else runner(max_simultaneous_work_items=3)
    with SyncManager() as manager:
        failures, added, pids = _share(pipeline or runner(max_simultaneous_work_items=3), manager)
    # The pipeline first, then the stage that it kept alive, whose proxies hold connections.
    for _ in range(2):
        gc.collect()
    assert failures == [None] * 20
    assert added == list(range(20))
    assert (os.getpid() in pids) == runner.is_serial


def _share(pipeline, manager):
    stage = SharingStage(manager.list(), manager.dict())
    pipeline.add_stage(stage)
    items = results(pipeline, [Item(n) for n in range(20)])
    pipeline.shutdown()
    return [item.exceptions for item in items], sorted(stage.shared_list), stage.shared_dict.values()


def test_items_may_hold_proxies_of_a_manager_of_ones_own(runner):
    """They travel with the item and come back with it."""
    with TallyManager() as manager:
        tally = manager.Tally()
        items = [Item({"tally": tally, "number": n}) for n in range(10)]
        results(runner(process_stage(_add_to_tally)), items)
        assert [item.exceptions for item in items] == [None] * 10
        assert items[0].user_obj["tally"].add(0) == sum(range(10))
        del tally
        items.clear()


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_initialisers_may_get_what_multiprocessing_shares(processes, method):
    """Queues and locks of any context, for a program of one thread."""
    context = multiprocessing.get_context(method)
    queue, lock = context.SimpleQueue(), context.Lock()
    stage = process_stage(_use_shared)
    pipeline = processes(stage, process_initfunc=_remember_shared, process_initargs=(queue, lock))
    results(pipeline, [Item(n) for n in range(10)])
    pipeline.shutdown()
    assert sorted(queue.get() for _ in range(10)) == list(range(10))
    queue.close()


_shared = []


def _remember_shared(*things):
    _shared[:] = things


def _use_shared(pwi):
    queue, lock = _shared
    with lock:
        queue.put(pwi.user_obj)
    return pwi


# -- pipes


def _send_a_header_first(pwi):
    with PipeConnectionIO(pwi.pipe_conn, is_write=True) as pipe_io:
        pipe_io.send_message(PipeConnectionMessage("x-header", pickle.dumps({"name": pwi.user_obj})))
        pipe_io.send_message(PipeConnectionMessage("x-empty"))
        pipe_io.write(b"the data, ")
        pipe_io.send_message(PipeConnectionMessage(cmd="x-between", data=b"between"))
        pipe_io.write(b"all of it")
    return pwi


def _receive_a_header_first(pwi):
    with PipeConnectionIO(pwi.pipe_conn, is_write=False) as pipe_io:
        header, empty = pipe_io.recv_message(), pipe_io.recv_message()
        data = pipe_io.read()
        with pytest.raises(InvalidPipeConnectionMessage, match="recv_message"):
            pipe_io.read()
        between = pipe_io.recv_message()
        pwi.user_obj = {
            "header": (header.cmd, pickle.loads(header.data)),
            "empty": (empty.cmd, empty.data),
            "data": [data, pipe_io.read(), pipe_io.read()],
            "between": (between.cmd, between.data),
        }
    return pwi


@pytest.mark.parametrize("letters", ["PP", "PT", "TP", "TT"])
def test_custom_messages_go_before_and_between_data(runner, letters):
    """A reader that does not expect one is told so."""
    (item,) = results(runner(*chain(letters, _send_a_header_first, _receive_a_header_first)), [Item("a name")])
    assert item.exceptions is None
    got = item.user_obj
    assert got["header"] == ("x-header", {"name": "a name"})
    assert got["empty"] == ("x-empty", b"")
    assert got["between"] == ("x-between", b"between")
    assert got["data"] == [b"the data, ", b"all of it", b""]


def _read_all_in_child(reader):
    with reader:
        return reader.readall(), os.getpid()


def _write_all_in_child(writer, data):
    with writer:
        writer.write(data)
    return os.getpid()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("end", ["reader", "writer"])
def test_an_end_of_a_pipe_may_go_to_a_process_pools_child(method, end):
    """The other stays here; the end of the data is seen."""
    data = os.urandom(300_000)
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        # The child must not inherit the ends: one that it holds keeps the pipe from ending.
        assert pool.submit(os.getpid).result(PATIENCE_S) != os.getpid()
        reader, writer = PipeConnectionIO.create_reader_writer_pair()
        if end == "reader":
            future = pool.submit(_read_all_in_child, reader)
            with writer:
                writer.write(data)
            got, pid = future.result(PATIENCE_S)
            reader.close()
        else:
            future = pool.submit(_write_all_in_child, writer, data)
            with reader:
                got = reader.readall()
            pid = future.result(PATIENCE_S)
            writer.close()
    # multiprocessing's thread that hands descriptors out
    resource_sharer.stop(PATIENCE_S)
    assert got == data
    assert pid != os.getpid()


# -- determiners and callables


class Determiner:
    """A bound method is as good as a function, where it can be pickled."""

    def __init__(self, word):
        self.word = word

    def is_for(self, pwi):
        return pwi.user_obj == self.word

    def work(self, pwi):
        pwi.user_obj = f"{self.word} done"
        return pwi


def test_determiners_and_workers_may_be_bound_methods(runner):
    """Of objects that travel with the stage."""
    this, that = Determiner("this"), Determiner("that")
    stages = [SubprocessPipelineStage(fn_determiner=each.is_for, fn_worker=each.work) for each in (this, that)]
    items = results(runner(*stages), [Item("this"), Item("that"), Item("neither")])
    assert [item.user_obj for item in items] == ["this done", "that done", "neither"]


def test_any_truth_of_a_determiner_counts(runner):
    """As in an if."""
    wanted = [SubprocessPipelineStage(fn_determiner=each, fn_worker=_count) for each in (_one, _none, wants, _text)]
    (item,) = results(runner(*wanted), [Item(0)])
    assert item.user_obj == 3


def _count(pwi):
    pwi.user_obj += 1
    return pwi


def _one(pwi):
    return 1


def _none(pwi):
    return None


def _text(pwi):
    return "yes"
