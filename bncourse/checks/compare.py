"""Whether two arrays are the same, up to the rounding that a right answer may have."""

import numpy as np

from .exercise import Outputs, Probe

ABSOLUTE = 1e-5  # for sums that are zero but for rounding in float32


def deviations(got: np.ndarray, expected: np.ndarray, probe: Probe) -> np.ndarray:
    """|got − expected| in multiples of what the probe tolerates, value by value; at most 1 is right.

    NaN where one of the two is finite and the other is not. NaN and infinity count as the same: which of them
    comes out of a division by zero depends on the order of operations.
    """
    finite = expected[np.isfinite(expected)]
    typical = np.sqrt(np.mean(finite**2)) if finite.size else 0.0
    tolerance = probe.rtol * np.abs(expected) + probe.floor * typical + ABSOLUTE
    with np.errstate(all="ignore"):
        result = np.abs(got - expected) / tolerance
    finite_got, finite_expected = np.isfinite(got), np.isfinite(expected)
    both = np.where(finite_got & finite_expected, result, 0.0)
    return np.where(finite_got == finite_expected, both, np.nan)


def same(got: np.ndarray, expected: np.ndarray, probe: Probe) -> bool:
    """Whether ``got`` has the shape and the values of ``expected``."""
    return got.shape == expected.shape and bool((deviations(got, expected, probe) <= 1).all())


def all_same(got: Outputs, expected: Outputs, probe: Probe) -> bool:
    """Whether every output is the same."""
    return all(same(got[name], expected[name], probe) for name in expected)
