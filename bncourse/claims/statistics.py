"""Intervals for numbers of which there is one per seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its 95 % interval."""

    estimate: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def mean(values: Sequence[float]) -> Interval:
    """The mean, with Student's t interval. Of runs that share data it is somewhat too narrow.

    Raises:
        ValueError: fewer than two values, or some that are not finite.
    """
    from scipy import stats

    values = _finite(values)
    center, error = float(values.mean()), float(stats.sem(values))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return Interval(center, center - reach, center + reach)


def difference(values: Sequence[float], baseline: Sequence[float]) -> Interval:
    """The mean of ``values`` − ``baseline``, seed by seed."""
    return mean(_finite(values) - _finite(baseline))


def ratio(values: Sequence[float], baseline: Sequence[float]) -> Interval:
    """The geometric mean of ``values`` / ``baseline``, seed by seed; both positive."""
    logs = difference(np.log(values), np.log(baseline))
    return Interval(*(float(np.exp(x)) for x in (logs.estimate, logs.low, logs.high)))


def share(hits: Sequence[bool]) -> Interval:
    """The share of seeds for which something holds, with Wilson's interval."""
    from scipy import stats

    ends = stats.binomtest(int(sum(hits)), len(hits)).proportion_ci(LEVEL, method="wilson")
    return Interval(float(np.mean(hits)), float(ends.low), float(ends.high))


def _finite(values: Sequence[float]) -> np.ndarray:
    """The values as an array, if an interval can be made of them."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"expected at least two finite values, one per seed; got {values}; decide in the experiment what a run "
            "that has none counts as"
        )
    return values
