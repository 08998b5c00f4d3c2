"""Intervals agree with numbers worked out by hand, and hold what they promise to hold."""

import math

import numpy as np
import pytest
from scipy import stats

from bncourse.claims.statistics import Interval, difference, mean, quotient, ratio, share


def ends(interval):
    return interval.estimate, interval.low, interval.high


def test_the_interval_of_a_mean_is_students():
    # mean 4, standard deviation 2, standard error 1; t of 3 degrees of freedom at 97.5 % is 3.18245 (any table)
    values = [4 - math.sqrt(6), 4.0, 4.0, 4 + math.sqrt(6)]
    assert ends(mean(values)) == pytest.approx((4, 4 - 3.18245, 4 + 3.18245), abs=1e-5)


def test_the_interval_of_a_difference_is_that_of_a_paired_t_test():
    a, b = np.random.default_rng(0).normal(size=(2, 7))
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert ends(difference(a, b)) == pytest.approx((np.mean(a - b), expected.low, expected.high))


def test_what_all_seeds_have_in_common_is_no_part_of_a_difference():
    seeds = np.array([10.0, 20.0, 30.0])
    assert ends(difference(seeds + [1.0, 2.0, 3.0], seeds)) == pytest.approx(ends(mean([1.0, 2.0, 3.0])))


def test_a_ratio_is_the_difference_of_logarithms():
    found = ratio([2.0, 8.0], [1.0, 1.0])
    reach = stats.t.ppf(0.975, 1) * math.log(2)  # the logarithms differ from their mean by log 2: error log 2
    assert ends(found) == pytest.approx((4, 4 * math.exp(-reach), 4 * math.exp(reach)))
    inverse = ratio([1.0, 1.0], [2.0, 8.0])
    assert ends(inverse) == pytest.approx((1 / found.estimate, 1 / found.high, 1 / found.low))


def test_a_share_has_wilsons_interval():
    # (p + z²/2n ± z √(p q / n + z²/4n²)) / (1 + z²/n) with p = 8/10 and z = 1.959964
    assert ends(share([True] * 8 + [False] * 2)) == pytest.approx((0.8, 0.490162, 0.943318), abs=1e-6)
    assert ends(share([0.0] * 10)) == pytest.approx((0, 0, 0.277533), abs=1e-6)
    assert ends(share([1, 1, 1])) == pytest.approx((1, 3 / (3 + 1.959964**2), 1), abs=1e-6)


def test_a_quotient_holds_the_numbers_that_a_paired_test_does_not_reject():
    rng = np.random.default_rng(1)
    b = rng.normal(5, 1, 8)
    a = 2 * b + rng.normal(0, 1, 8)
    found = quotient(a, b)
    assert found.estimate == pytest.approx(a.mean() / b.mean())
    for end in (found.low, found.high):
        assert stats.ttest_rel(a, end * b).pvalue == pytest.approx(0.05)
    assert ends(quotient(a, rng.normal(0, 1, 8), limit=7.0))[1:] == (-7, 7)


def covered(interval, truth, draw, runs=4000):
    """How often the interval of random samples holds the truth."""
    rng = np.random.default_rng(0)
    return np.mean([truth in interval(*draw(rng)) for _ in range(runs)])


SIMULATIONS = {
    "mean": (mean, 3.0, lambda rng: (rng.normal(3, 2, 5),), 0.95),
    "difference": (difference, 1.0, lambda rng: (rng.normal(1, 1, 10), rng.normal(0, 2, 10)), 0.95),
    "ratio": (ratio, 2.0, lambda rng: (2 * rng.lognormal(0, 1, 5), rng.lognormal(0, 0.5, 5)), 0.95),
    "quotient": (quotient, 0.5, lambda rng: (rng.normal(2, 1, 10), rng.normal(4, 1, 10)), 0.95),
    "share": (share, 0.8, lambda rng: (rng.random(10) < 0.8,), stats.binom.pmf(range(6, 11), 10, 0.8).sum()),
}


@pytest.mark.parametrize(("interval", "truth", "draw", "promised"), SIMULATIONS.values(), ids=SIMULATIONS)
def test_intervals_hold_the_truth_as_often_as_they_promise(interval, truth, draw, promised):
    assert covered(interval, truth, draw) == pytest.approx(promised, abs=0.012)  # 3.5 standard errors


@pytest.mark.parametrize("interval", [mean, lambda v: difference(v, [0.0] * 5), lambda v: ratio(v, [1.0] * 5)])
def test_equal_values_have_an_interval_without_width(interval):
    assert ends(interval([0.1] * 5)) == pytest.approx((0.1, 0.1, 0.1), rel=1e-12)


def test_an_interval_holds_its_ends():
    interval = Interval(0.0, -1.0, 1.0)
    assert -1 in interval and 1 in interval and 0.5 in interval
    assert 1.1 not in interval and -1.1 not in interval


WRONG = {
    "one value": (lambda: mean([1.0]), "expected at least two finite values"),
    "no value": (lambda: mean([]), "expected at least two finite values"),
    "a number": (lambda: mean(1.0), "expected at least two finite values"),
    "a table": (lambda: mean([[1.0, 2.0], [3.0, 4.0]]), "expected at least two finite values"),
    "nan": (lambda: mean([1.0, math.nan]), "at least two finite values.*decide in the experiment"),
    "infinity": (lambda: difference([1.0, 2.0], [1.0, math.inf]), "at least two finite values"),
    "seeds missing": (
        lambda: difference([1.0, 2.0, 3.0], [1.0, 2.0]),
        "expected values of the same seeds; got 3 and 2",
    ),
    "seeds missing in a quotient": (lambda: quotient([1.0, 2.0, 3.0], [1.0, 2.0]), "expected values of the same seeds"),
    "ratio of zero": (lambda: ratio([0.0, 1.0], [1.0, 1.0]), "expected positive numbers; got .*; take"),
    "ratio to a negative": (lambda: ratio([1.0, 1.0], [1.0, -1.0]), "expected positive numbers"),
    "share of nothing": (lambda: share([]), "expected true or false"),
    "share of percent": (lambda: share([0.0, 97.5]), "expected true or false .*; got .*97.5"),
    "share of nan": (lambda: share([1.0, math.nan]), "expected true or false"),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_values_without_an_interval_are_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_interval_is_written_with_its_ends_each_in_the_same_form():
    assert f"{Interval(97.24, -96.81, 97.6):+.1f}" == "+97.2 (-96.8 to +97.6)"
    assert f"{Interval(0.702, 0.44, 0.958):.0%}" == "70% (44% to 96%)"
