"""What each of the processes of :func:`bncourse.distributed.run` does."""

import faulthandler
import io
import linecache
import os
import pickle
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed as dist

from bncourse.distributed.connections import is_lost_connection

Item = TypeVar("Item")

OWN, ENDED, FOLLOWED = range(3)  # kinds of failures, likely causes first
LINGER = 2.0  # seconds that a process that has returned stays connected: others may still make a new group with it
START = 60.0  # seconds that a process waits for the others to start, or its timeout, if that is longer
PERIOD = 0.1  # seconds between two messages about progress

_GLOO = re.compile(r"\[\S*gloo\S*\] | This is typically caused.*", re.DOTALL)  # its line, and its advice


@dataclass(frozen=True)
class Order:
    """What one process needs to know."""

    rank: int
    processes: int
    timeout: float  # seconds
    progress: bool  # whether to tell how far it is
    folder: Path  # holds the function, and takes what is printed
    environment: dict[str, str]  # the parent's now: the server that forks may be older

    @property
    def call(self) -> Path:
        """The pickled function, its arguments, and source lines that are in no file."""
        return self.folder / "call"

    @property
    def output(self) -> Path:
        """What the process prints."""
        return self.folder / f"{self.rank}.out"

    @property
    def errors(self) -> Path:
        """What the process writes to its error stream."""
        return self.folder / f"{self.rank}.err"


@dataclass(frozen=True)
class Progress:
    """How far a loop is."""

    done: int
    total: int | None


@dataclass(frozen=True)
class Result:
    """What the function returned, pickled here: torch's own way through shared memory ends with the process."""

    pickled: bytes


@dataclass(frozen=True)
class Failure:
    """How a process failed."""

    kind: int
    summary: str  # one line
    details: str  # a traceback, or what a process that died wrote last
    time: float  # of a clock that all processes share


def work(order: Order, connection: Connection) -> None:
    """Call the function in a process group; send the parent what it returns, or how it failed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted as well, and ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(order.environment)
    _redirect(order)
    try:
        result = _result(order, connection)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent tells
        connection.send(_failure(error))
        return
    connection.send(result)
    connection.poll(LINGER)  # until the parent closes its end
    if dist.is_initialized():
        dist.destroy_process_group()


def _end_with_parent() -> None:
    """An endless process must not outlive a parent that was killed."""
    parent_process().join()
    os._exit(1)


def _redirect(order: Order) -> None:
    """Write to files: prints of several processes must not mix, nor wait for a reader, nor get lost if one dies."""
    for number, name, path in ((1, "stdout", order.output), (2, "stderr", order.errors)):
        file = open(path, "wb", buffering=0)  # noqa: SIM115 - open until the process ends
        os.dup2(file.fileno(), number)  # for what is not written by Python
        setattr(sys, name, io.TextIOWrapper(file, encoding="utf-8", errors="replace", write_through=True))
    faulthandler.enable(sys.stderr)
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, sys.stderr, all_threads=False)  # the parent asks where it hangs


def _result(order: Order, connection: Connection) -> Result:
    """What the function returns."""
    global _reporter
    import cloudpickle

    function, arguments, sources = pickle.loads(order.call.read_bytes())
    linecache.cache.update(sources)
    _join(order)
    _reporter = reporter = _Reporter(connection) if order.progress else None
    try:
        value = function(*arguments)
    finally:
        if reporter is not None:
            reporter.send_last()
    try:
        return Result(cloudpickle.dumps(value))
    except Exception as error:
        raise TypeError(
            f"expected a function that returns what can be pickled; got a {type(value).__name__}, or what it holds; "
            "return numbers, tensors or text"
        ) from error


def _join(order: Order) -> None:
    """Wait until all processes have started, then make them one group."""
    torch.set_num_threads(1)
    loopback = {name for _, name in socket.if_nameindex()} & {"lo", "lo0"}
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback.pop())
    store = dist.FileStore(str(order.folder / "store"), order.processes)
    store.set_timeout(timedelta(seconds=max(order.timeout, START)))
    _meet(store, order.processes, "started")  # only from now on the timeout counts
    timeout = timedelta(seconds=order.timeout)
    dist.init_process_group("gloo", store=store, rank=order.rank, world_size=order.processes, timeout=timeout)
    _meet(store, order.processes, "connected")  # none returns, and leaves, while others are still connecting
    store.set_timeout(timeout)


def _meet(store: dist.Store, processes: int, what: str) -> None:
    """Wait until all processes are here."""
    if store.add(what, 1) == processes:
        store.set(f"all {what}", "")
    store.wait([f"all {what}"])


def _failure(error: BaseException) -> Failure:
    """An error, as text: the parent may not know its class."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next  # the reader's own begin behind those of this module
    details = "".join(traceback.format_exception(type(error), error, frames))
    summary = " ".join(f"{type(error).__name__}: {error}".split())
    if any(map(is_lost_connection, _chain(error))):
        return Failure(FOLLOWED, f"waited for another one in vain: {_GLOO.sub('', summary)}", details, time.monotonic())
    return Failure(OWN, summary, details, time.monotonic())


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class _Reporter:
    """Tells the parent how far a loop is, now and then."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._news: Progress | None = None
        self._sent = -PERIOD

    def __call__(self, progress: Progress) -> None:
        """Send it, or keep it if the last message was sent just now."""
        self._news = progress
        if time.monotonic() - self._sent > PERIOD:
            self.send_last()

    def send_last(self) -> None:
        """Send what is not sent yet."""
        if self._news is not None:
            self._connection.send(self._news)
            self._news, self._sent = None, time.monotonic()


_reporter: _Reporter | None = None  # there is one while the function runs, and no loop is tracked


def track(items: Iterable[Item], total: int | None = None) -> Iterator[Item]:
    """The items; inside of :func:`run`, the parent shows how many of them this process has done.

    A loop inside of a tracked one is not shown. Outside of :func:`run`, nothing is.

    Args:
        items: what to iterate over.
        total: the number of items; if None, ``len(items)`` where there is one.
    """
    global _reporter
    if _reporter is None:
        yield from items
        return
    total = len(items) if total is None and hasattr(items, "__len__") else total
    reporter, _reporter = _reporter, None
    began, done = time.monotonic(), 0
    try:
        reporter(Progress(done, total))
        for item in items:
            yield item
            done += 1
            reporter(Progress(done, total))
    finally:
        if time.monotonic() - began > PERIOD:  # so even of many short loops there are few messages
            reporter.send_last()
        _reporter = reporter
