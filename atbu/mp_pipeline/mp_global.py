"""Logging of a program and its processes through one place, and the verbosity level they share.

    ProcessPoolExecutor child ─ root QueueHandler ─┐
    this process ────────────── root QueueHandler ─┴▶ LogQueue ─ listener thread ─▶ stdout, log file
    worker of a pipeline ─ its private channel ─▶ this process's root logger

A worker of a pipeline needs none of this: its records travel on the channel it has anyway.
The state is the process's, as that of :mod:`logging` is; nothing here is done at import.
"""

from __future__ import annotations

import atexit
import logging
import logging.handlers
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from .exception import GlobalContextNotSet, InvalidStateError, QueueListenerAlreadyStarted, QueueListenerNotStarted
from .global_context import _MultiprocessGlobalContext
from .log_queue import LogQueue, RelayHandler

_DETAILED_FORMAT = (
    "%(asctime)s.%(msecs)03d PID=%(process)-05d TID=%(thread)-05d %(name)-12s %(levelname)-8s %(message)s"
)
_DETAILED_DATE_FORMAT = "%Y-%m-%d %H:%M:%S"


class ProcessThreadContextMixin:
    """What a class of a program with many processes and threads likes to say of itself in its log."""

    @property
    def our_process(self) -> multiprocessing.process.BaseProcess:
        """The process this runs in."""
        return multiprocessing.current_process()

    @property
    def our_thread(self) -> threading.Thread:
        """The thread this runs in."""
        return threading.current_thread()

    @property
    def our_thread_name(self) -> str:
        """The name of the thread this runs in."""
        return self.our_thread.name

    def get_exec_context_log_stamp_str(self) -> str:
        """The process and the thread this runs in, for a line of a log."""
        process, thread = self.our_process, self.our_thread
        return (
            f"PID={os.getpid()} TID={thread.native_id} t_name={thread.name} "
            f"cp.pid={process.pid} c_p={process} c_t={thread}"
        )


_GLOBAL_CONTEXT: _MultiprocessGlobalContext | None = None
_PARENT_QUEUE_LISTENER: logging.handlers.QueueListener | None = None
_LISTENER_PID: int | None = None
_QUEUE_HANDLER: RelayHandler | None = None
_CREATED_LOGGING_HANDLERS: set[logging.Handler] = set()
_LAST_INITIALIZE_ARGS: dict[str, Any] | None = None

# Set by the worker of a pipeline before its initialiser runs: its records travel by this handler.
_worker_log_handler: logging.Handler | None = None


def global_init(logging_level: int | str = "INFO", verbosity_level: int = 0) -> None:
    """Make the context that this process and its children share. Later calls change nothing."""
    global _GLOBAL_CONTEXT
    if _GLOBAL_CONTEXT is None:
        _GLOBAL_CONTEXT = _MultiprocessGlobalContext(logging_level, verbosity_level)


def set_verbosity_level(level: int) -> None:
    """Set the verbosity level; what it means is the program's business. Children started later see it."""
    _context_made_if_needed().global_verbosity_level = int(level)


def get_verbosity_level() -> int:
    """The verbosity level; 0 unless it was set."""
    return _context_made_if_needed().global_verbosity_level


def get_process_pool_exec_init_func() -> Callable[[_MultiprocessGlobalContext | None], None]:
    """The ``initializer`` for a ProcessPoolExecutor whose children log to this process.

    Use it together with :func:`get_process_pool_exec_init_args`, for the executor's ``initargs``; or as
    ``process_initfunc`` and ``process_initargs`` of a pipeline. The executor may have any start method.
    """
    return _global_init_subprocess


def get_process_pool_exec_init_args() -> tuple[_MultiprocessGlobalContext]:
    """The ``initargs`` that go with :func:`get_process_pool_exec_init_func`; only for those.

    They may be asked for before :func:`initialize_logging`; records then wait until it is called.
    """
    context = _context_made_if_needed()
    if _worker_log_handler is None and context.queue is None:
        # A forked child inherits the queue instead of unpickling it, so it has to be there before.
        _made_queue(context)
    return (context,)


def initialize_logging(
    logfile: str | os.PathLike[str] | None,
    loglevel: int | str | None,
    verbosity_level: int | None,
    log_console_detail: bool,
) -> None:
    """Write the log records of this process and its children to stdout and, if one is named, to a log file.

    This process's root logger gets a queue handler; a thread writes what comes out of the queue. End it with
    :func:`deinitialize_logging`; a program that does not still has its last records written at its exit.

    Args:
        logfile: The log file's path, or None. It is appended to.
        loglevel: For the root logger, the console and the file. None for INFO, but the file also takes what
            loggers with a lower level of their own let through.
        verbosity_level: See :func:`set_verbosity_level`; None for 0.
        log_console_detail: Write time, process and thread to the console too, as always to the file.

    Raises:
        GlobalContextNotSet: :func:`global_init` was not called.
        QueueListenerAlreadyStarted: it is initialised already.
        OSError: the log file cannot be opened; nothing is changed then.
    """
    global _LAST_INITIALIZE_ARGS
    context = _context()
    if _running_listener() is not None:
        raise QueueListenerAlreadyStarted(
            "initialize_logging: logging is initialised already; call deinitialize_logging first"
        )
    sinks = _make_sinks(logfile, loglevel, log_console_detail)
    _LAST_INITIALIZE_ARGS = {
        "logfile": logfile,
        "loglevel": loglevel,
        "verbosity_level": verbosity_level,
        "log_console_detail": log_console_detail,
    }
    context.global_logging_level = logging.INFO if loglevel is None else loglevel
    context.global_verbosity_level = verbosity_level or 0
    # What switch_to_non_queued_logging left on the root logger would write every record twice.
    remove_created_logging_handlers()
    _start_listener(_made_queue(context), sinks)
    _connect_root_logger(context)


def deinitialize_logging() -> None:
    """Undo :func:`initialize_logging`: write what is still queued, end the thread, close the file and the queue.

    Children that log later find nobody to read; from then on they write warnings to their own stderr.

    Raises:
        QueueListenerNotStarted: logging is not initialised.
    """
    is_switched = bool(_CREATED_LOGGING_HANDLERS) and _running_listener() is None and _QUEUE_HANDLER is None
    if not is_switched:
        _close_all(_stop_listener())
    remove_created_logging_handlers()
    if _GLOBAL_CONTEXT is not None:
        _GLOBAL_CONTEXT.close_queue()


def switch_to_non_queued_logging() -> None:
    """From now on write this process's records at once, by the root logger, without the queue and its thread.

    For a dialogue with the user, where a line of the log must not come late. Does nothing where logging is not
    initialised. :func:`reinitialize_logging` switches back; until then the records of children wait.
    """
    if _running_listener() is None:
        return
    sinks = _stop_listener()
    _remove_queue_handler()
    for sink in sinks:
        logging.root.addHandler(sink)
    _CREATED_LOGGING_HANDLERS.update(sinks)


def reinitialize_logging() -> None:
    """Call :func:`initialize_logging` again as it was called last, after :func:`switch_to_non_queued_logging`.

    Raises:
        InvalidStateError: it was never called.
        QueueListenerAlreadyStarted: there is nothing to switch back.
    """
    if _LAST_INITIALIZE_ARGS is None:
        raise InvalidStateError("reinitialize_logging: initialize_logging was never called, so there is no way back")
    initialize_logging(**_LAST_INITIALIZE_ARGS)


def initialize_logging_basic() -> None:
    """Bare messages from INFO on to stderr: for a program's first moments, before its arguments are read."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


def remove_root_stream_handlers() -> None:
    """Take the plain StreamHandlers off the root logger, so that nothing is written twice to the console.

    Handlers of derived classes stay: files, and those a test runner has put there.
    """
    for handler in list(logging.root.handlers):
        if type(handler) is logging.StreamHandler:
            logging.root.removeHandler(handler)


def remove_created_logging_handlers() -> None:
    """Take the handlers that this module made off all loggers, and close them. All others stay."""
    global _QUEUE_HANDLER
    named = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    removed = set()
    for logger in [logging.root, *named]:
        for handler in _CREATED_LOGGING_HANDLERS.intersection(logger.handlers):
            logger.removeHandler(handler)
            removed.add(handler)
    _CREATED_LOGGING_HANDLERS.difference_update(removed)
    if _QUEUE_HANDLER in removed:
        _QUEUE_HANDLER = None
    _close_all(removed)


def _context() -> _MultiprocessGlobalContext:
    if _GLOBAL_CONTEXT is None:
        raise GlobalContextNotSet(
            "the global context is not set: call global_init() in the program, and give its processes "
            "get_process_pool_exec_init_func() and get_process_pool_exec_init_args()"
        )
    return _GLOBAL_CONTEXT


def _context_made_if_needed() -> _MultiprocessGlobalContext:
    global_init()
    return _context()


def _global_init_subprocess(global_context_from_parent: _MultiprocessGlobalContext | None) -> None:
    """The initialiser of a child: take over the parent's context and send the records where they belong."""
    global _GLOBAL_CONTEXT
    _GLOBAL_CONTEXT = global_context_from_parent
    context = _context()
    if _worker_log_handler is not None:
        logging.root.setLevel(context.global_logging_level)
        return
    # A forked child has inherited the handlers that write in the parent.
    remove_created_logging_handlers()
    _connect_root_logger(context)


def _connect_root_logger(context: _MultiprocessGlobalContext) -> None:
    """Set the root logger's level and have its records go to the queue, where there is one."""
    global _QUEUE_HANDLER
    logging.root.setLevel(context.global_logging_level)
    if context.queue is not None:
        _QUEUE_HANDLER = RelayHandler(context.queue)
        _CREATED_LOGGING_HANDLERS.add(_QUEUE_HANDLER)
        logging.root.addHandler(_QUEUE_HANDLER)


def _remove_queue_handler() -> None:
    global _QUEUE_HANDLER
    handler, _QUEUE_HANDLER = _QUEUE_HANDLER, None
    if handler is not None:
        logging.root.removeHandler(handler)
        _CREATED_LOGGING_HANDLERS.discard(handler)
        handler.close()


def _make_sinks(
    logfile: str | os.PathLike[str] | None, loglevel: int | str | None, log_console_detail: bool
) -> tuple[logging.Handler, ...]:
    detailed = logging.Formatter(fmt=_DETAILED_FORMAT, datefmt=_DETAILED_DATE_FORMAT)
    console = logging.StreamHandler(stream=sys.stdout)
    console.setLevel(logging.INFO if loglevel is None else loglevel)
    if log_console_detail:
        console.setFormatter(detailed)
    if logfile is None:
        return (console,)
    file = logging.FileHandler(logfile, encoding="utf-8")
    file.setLevel(logging.DEBUG if loglevel is None else loglevel)
    file.setFormatter(detailed)
    return (console, file)


def _running_listener() -> logging.handlers.QueueListener | None:
    """This process's listener; what a forked child has inherited listens only in the parent."""
    return _PARENT_QUEUE_LISTENER if os.getpid() == _LISTENER_PID else None


def _start_listener(queue: LogQueue, sinks: tuple[logging.Handler, ...]) -> None:
    global _PARENT_QUEUE_LISTENER, _LISTENER_PID
    _LISTENER_PID = os.getpid()
    _PARENT_QUEUE_LISTENER = logging.handlers.QueueListener(queue, *sinks, respect_handler_level=True)
    _PARENT_QUEUE_LISTENER.start()


def _stop_listener() -> tuple[logging.Handler, ...]:
    """End the listener after what is queued now; the handlers it wrote to are the caller's then."""
    global _PARENT_QUEUE_LISTENER
    listener = _running_listener()
    if listener is None:
        raise QueueListenerNotStarted("logging is not initialised in this process: there is no listener to stop")
    _PARENT_QUEUE_LISTENER = None
    listener.stop()
    return listener.handlers


def _close_all(handlers: Iterable[logging.Handler]) -> None:
    for handler in handlers:
        handler.close()


def _made_queue(context: _MultiprocessGlobalContext) -> LogQueue:
    """The context's queue with its reading end in this process, made if needed."""
    queue = context.queue
    if queue is None or not queue.is_readable:
        context.close_queue()
        queue = context.queue = LogQueue()
        atexit.register(_end_at_exit, os.getpid())
    return queue


def _end_at_exit(owner_pid: int) -> None:
    """Have the last records written; the thread itself would just vanish with the interpreter."""
    if os.getpid() != owner_pid:
        return
    if _running_listener() is not None:
        deinitialize_logging()
    elif _GLOBAL_CONTEXT is not None:
        _GLOBAL_CONTEXT.close_queue()
