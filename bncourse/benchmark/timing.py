"""Fair timing: candidates take turns, so that what slows the machine slows all of them."""

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The median of some runs, and the values that a fifth of them lie below and above."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: tuple[float, ...]) -> "Spread":
        """The 20th, 50th and 80th percentile of at least two values, interpolated linearly."""
        low, *_, high = statistics.quantiles(values, n=5, method="inclusive")
        return cls(statistics.median(values), low, high)


@dataclass(frozen=True)
class Timing:
    """The time of every run of one candidate, in seconds and in order."""

    seconds: tuple[float, ...]

    @property
    def spread(self) -> Spread:
        return Spread.of(self.seconds)

    def speed(self, baseline: "Timing") -> Spread:
        """How many times as fast as ``baseline``, run by run; both from one call of :func:`interleave`."""
        return Spread.of(tuple(b / s for s, b in zip(self.seconds, baseline.seconds, strict=True)))


def interleave(
    candidates: Mapping[str, Callable[[], object]],
    *,
    runs: int = 15,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time every candidate ``runs`` times, in turn, each round in another order.

    Whoever follows a candidate that uses much memory finds a cold cache. In an order drawn anew, the same in every
    program, nobody always does.

    Args:
        candidates: what to call, by name. Results are freed after the clock has been read.
        runs: timed rounds, at least 2.
        warmup: rounds before these, which are not timed.
        clock: gives seconds.

    Returns:
        the timing of each candidate.

    Raises:
        ValueError: fewer than two runs, which have no spread.
    """
    if runs < 2:
        raise ValueError(f"expected at least 2 runs, for a spread; got {runs}; 15 give a stable median")
    seconds = {name: [] for name in candidates}
    draws = random.Random(0)
    for round_ in range(warmup + runs):
        for name, call in draws.sample(list(candidates.items()), len(candidates)):
            start = clock()
            result = call()
            elapsed = clock() - start
            del result
            if round_ >= warmup:
                seconds[name].append(elapsed)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}
