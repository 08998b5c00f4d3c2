"""Timing on a GPU: candidates take turns, each with a cold cache, between two events; and which kernels ran."""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from bncourse.benchmark.timing import Timing


class Device(Protocol):
    """What a benchmark asks of a device; :class:`bncourse.benchmark.gpu.device.Cuda` is the only one outside tests."""

    name: str  # where tensors are made, such as "cuda"

    def flush(self) -> None:
        """Fill the cache with something else."""

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
    calls are queued, so that launches are prepared while the device still works on what came before.

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
        else:
            found.append("PyTorch" if "at::" in kernel else "Triton")
    return " + ".join(dict.fromkeys(found))
