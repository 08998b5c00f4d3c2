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

    def __format__(self, number: str) -> str:
        """``f"{interval:.1f}"`` is "97.2 (96.8 to 97.6)"; what stands behind the colon goes for each number."""
        estimate, low, high = (format(value, number) for value in (self.estimate, self.low, self.high))
        return f"{estimate} ({low} to {high})"


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
    values, baseline = _pairs(values, baseline)
    return mean(values - baseline)


def ratio(values: Sequence[float], baseline: Sequence[float]) -> Interval:
    """The geometric mean of ``values`` / ``baseline``, seed by seed.

    Raises:
        ValueError: some are not positive, or what :func:`mean` raises.
    """
    values, baseline = _pairs(values, baseline)
    if min(*values, *baseline) <= 0:
        raise ValueError(f"expected positive numbers; got {values} and {baseline}; take their difference instead")
    logs = difference(np.log(values), np.log(baseline))
    return Interval(*(float(np.exp(x)) for x in (logs.estimate, logs.low, logs.high)))


def quotient(values: Sequence[float], baseline: Sequence[float], *, limit: float = 100.0) -> Interval:
    """The mean of ``values`` over the mean of ``baseline``, with Fieller's interval for pairs.

    It holds the numbers r for which the interval of ``values`` − r · ``baseline``, seed by seed, holds 0. What lies
    beyond ± ``limit`` counts as ± ``limit``, and so do both ends if the mean of ``baseline`` may be 0.
    """
    from scipy import stats

    a, b = _pairs(values, baseline)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(a) - 1)) ** 2 * np.cov(a, b) / len(a)
    (u, v), (_, w) = (
        np.outer((a.mean(), b.mean()), (a.mean(), b.mean())) - reach
    )  # u - 2 r v + r² w <= 0 in the interval
    estimate = float(a.mean() / b.mean()) if b.mean() else 0.0
    if w <= 0:
        return Interval(float(np.clip(estimate, -limit, limit)), -limit, limit)
    root = float(np.sqrt(max(v**2 - u * w, 0.0)))
    ends = (estimate, (v - root) / w, (v + root) / w)
    return Interval(*(float(np.clip(end, -limit, limit)) for end in ends))


def share(hits: Sequence[bool]) -> Interval:
    """The share of seeds for which something holds, with Wilson's interval.

    Raises:
        ValueError: there are none, or other values than true and false (or 1 and 0).
    """
    from scipy import stats

    if not len(hits) or not set(hits) <= {0, 1}:
        raise ValueError(f"expected true or false (or 1 or 0), one per seed; got {hits}; pass what holds")
    ends = stats.binomtest(int(sum(hits)), len(hits)).proportion_ci(LEVEL, method="wilson")
    return Interval(float(np.mean(hits)), float(ends.low), float(ends.high))


def _pairs(values: Sequence[float], baseline: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of one length."""
    values, baseline = _finite(values), _finite(baseline)
    if len(values) != len(baseline):
        raise ValueError(
            f"expected values of the same seeds; got {len(values)} and {len(baseline)}; run both with all seeds"
        )
    return values, baseline


def _finite(values: Sequence[float]) -> np.ndarray:
    """The values as an array, if an interval can be made of them."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"expected at least two finite values, one per seed; got {values}; decide in the experiment what a run "
            "that has none counts as"
        )
    return values
