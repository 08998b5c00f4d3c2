"""What the byte model predicts for each step, beside what was measured in the same run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bncourse.benchmark import machine
from bncourse.benchmark.ladder import Cause
from bncourse.benchmark.memory import page_faults
from bncourse.benchmark.timing import Spread, Timing, interleave
from bncourse.benchmark.traffic import CACHE, MEMORY, Rates, Step, arrays_moved


@dataclass(frozen=True)
class Row:
    """One step: what it moves, what the model predicts, and what was measured."""

    name: str
    threads: int
    memory_arrays: int  # moved from and to arrays of the input's size
    cache_arrays: int  # ... and blocks in a cache
    predicted: float  # seconds, at least
    measured: Spread  # seconds
    times_predicted: float  # measured / predicted
    gflops: float  # billions of additions and multiplications per second
    flops_per_byte: float  # of the bytes at MEMORY


def measure(steps: Sequence[Step], shape: Sequence[int], *, runs: int = 15) -> tuple[dict[int, Rates], list[Row]]:
    """Time the steps and the simplest calls in turn; the rates by number of threads, and the steps."""
    counts = sorted({step.threads for step in steps})
    probes = {(n, *key): call for n in counts for key, call in machine.probes(shape, threads=n).items()}
    with machine.blas_threads(1):
        timings = interleave({step.name: step.call for step in steps} | probes, runs=runs)
    by_count = {n: {key[1:]: timings[key] for key in probes if key[0] == n} for n in counts}
    rates = {n: machine.rates_of(found, shape) for n, found in by_count.items()}
    return rates, rows(steps, timings, rates)


def rows(steps: Sequence[Step], timings: Mapping[str, Timing], rates: Mapping[int, Rates]) -> list[Row]:
    """The steps with their times."""
    return [_row(step, timings[step.name].spread, rates[step.threads]) for step in steps]


def _row(step: Step, measured: Spread, rates: Rates) -> Row:
    arrays = {level: arrays_moved(step.passes, level) for level in (MEMORY, CACHE)}
    predicted, values = rates.predict(step.passes), rates.array_bytes // np.dtype(np.float32).itemsize
    return Row(
        name=step.name,
        threads=step.threads,
        memory_arrays=arrays[MEMORY],
        cache_arrays=arrays[CACHE],
        predicted=predicted,
        measured=measured,
        times_predicted=measured.median / predicted,
        gflops=1e-9 * step.flops * values / measured.median,
        flops_per_byte=step.flops * values / (arrays[MEMORY] * rates.array_bytes),
    )


@dataclass(frozen=True)
class Gap:
    """A cause, measured: two calls that do the same."""

    name: str
    why: str
    slow: Spread  # seconds
    fast: Spread
    times: Spread  # slow / fast, run by run
    slow_faults: int | None  # pages that the system had to provide
    fast_faults: int | None


def measure_causes(causes: Sequence[Cause], *, runs: int = 15) -> list[Gap]:
    """Time both calls of every cause in turn, and count the pages that each needs from the system."""
    calls = {(c.name, which): getattr(c, which) for c in causes for which in ("slow", "fast")}
    with machine.blas_threads(1):
        timings = interleave(calls, runs=runs)
    faults = {key: page_faults(call) for key, call in calls.items()}
    return [
        Gap(
            cause.name,
            cause.why,
            (slow := timings[cause.name, "slow"]).spread,
            (fast := timings[cause.name, "fast"]).spread,
            fast.speed(slow),
            faults[cause.name, "slow"],
            faults[cause.name, "fast"],
        )
        for cause in causes
    ]
