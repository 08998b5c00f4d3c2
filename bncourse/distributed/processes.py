"""Several processes of this machine in one group of torch.distributed."""

import linecache
import math
import os
import pickle
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from torch import multiprocessing

from bncourse.distributed.worker import ENDED, FOLLOWED, OWN, Failure, Order, Progress, Result, track, work
from bncourse.watching import someone_watches

__all__ = ["ProcessError", "run", "track"]

GRACE = 5.0  # seconds that the others have to end after the first failure
LONGEST = 1e8  # seconds, three years: what is much longer overflows in gloo
LEAVE = 5.0  # seconds that processes that have returned have to leave
_LOCK = threading.Lock()  # multiprocessing's list of processes and their exit codes is not safe from threads


class ProcessError(RuntimeError):
    """Some processes of :func:`run` failed.

    The message says what happened to each, likely causes first, and has the first one's traceback.

    Attributes:
        errors: by rank, the traceback of each that failed, or what it wrote last, if it died.
    """

    def __init__(self, message: str, errors: dict[int, str] | None = None) -> None:
        super().__init__(message)
        self.errors = errors or {}


def run(
    function: Callable[..., Any],
    *arguments: Any,
    processes: int = 2,
    timeout: float = 60.0,
    progress: bool | None = None,
) -> list[Any]:
    """Call ``function(*arguments)`` in several processes of this machine; return the results in the order of ranks.

    In each process, which has one thread, torch.distributed is initialized with the back end gloo. The function may
    be defined in a notebook, and be a closure or a lambda: function, arguments and results travel as copies, by
    cloudpickle. What the processes print appears after all have ended, in the order of ranks. The first call takes
    seconds: it starts a server with PyTorch, of which all processes are forks. A script calls this under
    ``if __name__ == "__main__":``.

    Args:
        function: what each process calls.
        arguments: the same ones in each process.
        processes: how many to start; there may be more of them than cores. On Linux each takes some 20 MB, as they
            share PyTorch, elsewhere some 240 MB.
        timeout: seconds that a process may wait for the others in one collective operation. The whole call may take
            longer: as long as all processes compute, nothing ends them.
        progress: whether :func:`track` draws bars; if None, when someone watches: in a terminal, or a notebook with
            a reader.

    Raises:
        ValueError: if an argument does not fit.
        ProcessError: if a process raised an error, died, or did not end within some seconds after another had failed.
    """
    _check(function, processes, timeout)
    watched = someone_watches() if progress is None else progress
    with tempfile.TemporaryDirectory(prefix="bncourse-", ignore_cleanup_errors=True) as folder:
        orders = [Order(rank, processes, timeout, watched, Path(folder), dict(os.environ)) for rank in range(processes)]
        orders[0].call.write_bytes(_pickled(function, arguments))
        try:
            with _bars(processes) as show, _started(orders) as running:
                _gather(running, show)
        finally:
            _show_outputs(orders)
    return _results([process.outcome for process in running])


def _check(function: Callable[..., Any], processes: int, timeout: float) -> None:
    """Raise if the arguments of :func:`run` do not fit."""
    if not callable(function):
        raise ValueError(f"expected a function; got a {type(function).__name__}; pass it without calling it")
    if not isinstance(processes, int) or processes < 1:
        raise ValueError(f"expected a number of processes, 1 at least; got {processes!r}; choose 2, say")
    if not isinstance(timeout, int | float) or not 0 < timeout <= LONGEST:
        raise ValueError(f"expected a timeout of 0 to {LONGEST:g} seconds; got {timeout!r}; choose 60, say")


def _pickled(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    """The call, with the source lines of notebook cells, which tracebacks show."""
    import cloudpickle

    sources = {name: entry for name, entry in linecache.cache.items() if len(entry) == 4 and entry[1] is None}
    try:
        return cloudpickle.dumps((function, arguments, sources))
    except Exception as error:
        raise ValueError(
            "expected a function and arguments that can be pickled for other processes; "
            f"got {type(error).__name__}: {error}; create inside the function what cannot be copied"
        ) from error


def _context() -> BaseContext:
    """How to start processes."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Optimizers import torch._dynamo, which takes a second.
    context.set_forkserver_preload(["torch", "torch._dynamo", "cloudpickle", "bncourse.distributed"])
    return context


class _Process:
    """One process, as the parent sees it; it runs until there is an outcome."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.outcome: Result | Failure | None = None

    def start(self, context: BaseContext) -> None:
        """Start it."""
        self.connection, theirs = context.Pipe()
        with theirs:
            self.process = context.Process(target=work, args=(self.order, theirs), name=f"rank {self.order.rank}")
            with _LOCK:
                self.process.start()

    def listen(self, show: Callable[[int, Progress], None]) -> None:
        """Read one message, or note that the process died."""
        try:
            message = self.connection.recv() if self.connection.poll() else None
        except (EOFError, OSError):
            message = None
        if isinstance(message, Progress):
            show(self.order.rank, message)
        else:
            self.outcome = message or self._died()

    def _died(self) -> Failure:
        """Why there is no more to read."""
        code = self.end(LEAVE)
        signals = {-number: number.name for number in signal.Signals}
        summary = f"died of {signals.get(code, code)}" if code < 0 else f"ended itself with exit code {code}"
        if not self.order.output.exists():
            summary += ' before it began; in a script, call run under: if __name__ == "__main__":'
        return self._failure(OWN, summary)

    def give_up(self) -> None:
        """End it, as it does not end by itself, and note where it was."""
        with suppress(ProcessLookupError, AttributeError):  # it has just ended; Windows has no such signals
            os.kill(self.process.pid, signal.SIGUSR1)
        wait([self.process.sentinel], 0.2)  # until it has written where it is
        self.end(0.0)
        self.outcome = self._failure(ENDED, f"still ran {GRACE:g} s after another one had failed, and was ended")

    def _failure(self, kind: int, summary: str) -> Failure:
        """A failure of which there is no traceback, only what the process wrote, and what faulthandler did."""
        details = f"{summary}\n{_without_machinery(_read(self.order.errors))}"
        self.order.errors.unlink(missing_ok=True)  # the error tells it, so it is not printed again
        return Failure(kind, summary, details, time.monotonic())

    def end(self, patience: float) -> int:
        """Wait some seconds for its end, then enforce it; return its exit code."""
        if not wait([self.process.sentinel], patience):
            self.process.kill()
            wait([self.process.sentinel])
        with _LOCK:
            self.process.join()
            return self.process.exitcode

    def close(self) -> None:
        """Give back its file descriptors."""
        with _LOCK:
            self.process.close()


@contextmanager
def _started(orders: list[Order]) -> Iterator[list[_Process]]:
    """Processes at work, all of which have ended afterwards, whatever happens."""
    context, processes = _context(), []
    try:
        for order in orders:
            process = _Process(order)
            processes.append(process)
            process.start(context)
        yield processes
    finally:
        _end([process for process in processes if hasattr(process, "process")])


def _end(processes: list[_Process]) -> None:
    """End processes: those that have returned may leave by themselves, if all have."""
    patience = LEAVE if all(isinstance(process.outcome, Result) for process in processes) else 0.0
    deadline = time.monotonic() + patience
    for process in processes:
        process.connection.close()  # they wait for this
    for process in processes:
        if process.process.pid is not None:  # else it could not be started
            process.end(max(0.0, deadline - time.monotonic()))
        process.close()


def _gather(processes: list[_Process], show: Callable[[int, Progress], None]) -> None:
    """Listen to the processes until each has a result or a failure; after the first failure, not for long."""
    deadline = math.inf
    while running := [process for process in processes if process.outcome is None]:
        if any(isinstance(process.outcome, Failure) for process in processes):
            deadline = min(deadline, time.monotonic() + GRACE)
        sources = {source: process for process in running for source in (process.connection, process.process.sentinel)}
        ready = wait(sources, None if deadline == math.inf else max(0.0, deadline - time.monotonic()))
        for process in dict.fromkeys(sources[source] for source in ready):
            process.listen(show)
        if not ready:
            for process in running:
                process.give_up()


@contextmanager
def _bars(processes: int) -> Iterator[Callable[[int, Progress], None]]:
    """A function that shows how far a process is; the bars appear when it is first called."""
    bars: list[Any] = []

    def show(rank: int, progress: Progress) -> None:
        from tqdm.auto import tqdm

        if not bars:
            names = [f"process {other}" for other in range(processes)]
            bars.extend(tqdm(total=progress.total, desc=name, position=i) for i, name in enumerate(names))
        bar = bars[rank]
        if progress.done < bar.n or progress.total != bar.total:
            bar.reset(progress.total)
        bar.n = progress.done
        bar.refresh()

    try:
        yield show
    finally:
        for bar in bars:
            bar.close()


def _show_outputs(orders: list[Order]) -> None:
    """Print what the processes have written."""
    for order in orders:
        sys.stdout.write(_read(order.output))
    for order in orders:
        sys.stderr.write(_read(order.errors))


def _read(path: Path) -> str:
    """What is in the file, if there is one."""
    return path.read_text("utf-8", errors="replace") if path.exists() else ""


def _without_machinery(text: str) -> str:
    """What faulthandler wrote, without the thread and the frames that are not the reader's."""
    text = re.sub(r"Thread .*\n(  File .*\n)*  File .* in _end_with_parent\n(  File .*\n)*\n?", "", text)
    text = re.sub(rf'  File "{re.escape(work.__code__.co_filename)}".*\n(  File .*\n)*', "", text)
    return re.sub(r"\n*Extension modules: .*", "", text)


def _results(outcomes: list[Result | Failure]) -> list[Any]:
    """What the processes returned; raise if any failed."""
    failures = {rank: outcome for rank, outcome in enumerate(outcomes) if isinstance(outcome, Failure)}
    if failures:
        raise _error(failures, len(outcomes))
    return [pickle.loads(outcome.pickled) for outcome in outcomes]


def _error(failures: dict[int, Failure], processes: int) -> ProcessError:
    """What happened, likely causes first: a process that returned is one, if others only waited in vain."""
    ranks = sorted(failures, key=lambda rank: (failures[rank].kind, failures[rank].time))
    first = failures[ranks[0]]
    lines = [f"rank {rank}: {failures[rank].summary}" for rank in ranks]
    returned = [f"rank {rank}: returned" for rank in range(processes) if rank not in failures]
    lines = [*returned, *lines] if first.kind == FOLLOWED else [*lines, *returned]
    if first.details.strip() != first.summary:
        lines += ["", f"rank {ranks[0]}:", first.details]
    message = "\n".join([f"{len(ranks)} of {processes} processes failed", *lines])
    return ProcessError(message, {rank: failures[rank].details for rank in ranks})
