"""Timing on a GPU: candidates take turns, each with a cold cache, between two events, or many times in a row; and which
kernels ran.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from bncourse.benchmark import timing as host
from bncourse.benchmark.timing import Timing


class Device(Protocol):
    """What a benchmark asks of a device; :class:`bncourse.benchmark.gpu.device.Cuda` is the only one outside tests."""

    name: str  # where tensors are made, such as "cuda"

    def flush(self) -> None:
        """Fill the cache with something else, and stay busy for so long that the next call is queued before it starts."""

    def mark(self) -> Any:
        """A moment in the device's queue of work."""

    def synchronize(self) -> None:
        """Wait until the queue is empty."""

    def seconds(self, start: Any, end: Any) -> float:
        """From one mark to another; both have been reached."""

    def kernels(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, list[str]]:
        """The names of the kernels that each call launches, in order."""

    def peak_bytes(self, call: Callable[[], object]) -> int:
        """The most memory that a call takes at one time, its result included."""

    def describe(self) -> dict:
        """The device, its driver and the versions of what computes on it."""

    def clocks(self) -> dict[str, float]:
        """Clocks and the like at this moment, by name; empty where the system does not say."""


def interleave(
    candidates: Mapping[str, Callable[[], object]], device: Device, *, runs: int = 50, warmup: int = 10
) -> dict[str, Timing]:
    """Time every candidate ``runs`` times on the device, in turn, each round in another order.

    As ``triton.testing.do_bench``: before each call the cache is flushed, and nothing waits for the device until all
    calls are queued. The flush keeps the device busy while the launches of a call are prepared, so this is the time of
    the device alone: what the host needs for a call is not in it, unless it needs longer than the flush. See
    :func:`in_a_row` for that.

    Raises:
        ValueError: fewer than two runs, which have no spread.
    """
    if runs < 2:
        raise ValueError(f"expected at least 2 runs, for a spread; got {runs}; 50 give a stable median")
    marks = {name: [] for name in candidates}
    draws = random.Random(0)
    for round_ in range(warmup + runs):
        for name, call in draws.sample(list(candidates.items()), len(candidates)):
            device.flush()
            start = device.mark()
            result = call()
            end = device.mark()
            del result
            if round_ >= warmup:
                marks[name].append((start, end))
    device.synchronize()
    return {name: Timing(tuple(device.seconds(*pair) for pair in pairs)) for name, pairs in marks.items()}


def in_a_row(
    candidates: Mapping[str, Callable[[], object]],
    device: Device,
    *,
    runs: int = 15,
    warmup: int = 2,
    calls: int = 100,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """The time of a call on the host's clock, where calls follow each other and nothing is flushed.

    Candidates take turns; in a turn, one is called ``calls`` times, and the device has finished before the clock is
    read. So this is the time of the host or of the device, whichever is longer: of small inputs, that of launching.
    """

    def repeat(call: Callable[[], object]) -> None:
        for _ in range(calls):
            call()
        device.synchronize()

    device.synchronize()
    turns = {name: lambda call=call: repeat(call) for name, call in candidates.items()}
    found = host.interleave(turns, runs=runs, warmup=warmup, clock=clock)
    return {name: Timing(tuple(turn / calls for turn in timing.seconds)) for name, timing in found.items()}


def by_call(names: Iterable[str], kernels: Iterable[str], marker: str) -> dict[str, list[str]]:
    """The kernels of each call: those that follow its marker. Empty where there is not one marker for each call."""
    names, parts = list(names), []
    for kernel in kernels:
        if marker in kernel:
            parts.append([])
        elif parts:
            parts[-1].append(kernel)
    return dict(zip(names, parts, strict=True)) if len(parts) == len(names) else {}


def backend(kernels: Iterable[str]) -> str:
    """Whose kernels ran, by their names; copies and fills of memory aside."""
    found = []
    for kernel in kernels:
        if kernel.startswith(("Memcpy", "Memset")):
            continue
        if "cudnn" in kernel:
            found.append("cuDNN")
        elif "at::" in kernel:
            found.append("PyTorch")
        else:  # of C++, a kernel has its types in its name
            found.append("Triton" if kernel.isidentifier() else "other")
    return " + ".join(dict.fromkeys(found))
