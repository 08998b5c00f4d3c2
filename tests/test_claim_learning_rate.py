"""Claim 6: the window of rates that learn, the effective rate and the rule, on numbers that are made up."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from bncourse.claims import learning_rate as claim
from bncourse.claims import record
from bncourse.claims.claim import NOT_SUPPORTED, NOT_TESTABLE, QUALIFIED, SUPPORTED, Findings, Measurement
from bncourse.claims.experiment import Setting, Trial
from bncourse.claims.learning_rate import (
    ACCURACY,
    BASELINE,
    CEILING,
    EFFECTIVE_END,
    EFFECTIVE_START,
    GAP,
    GAP_END,
    GAP_START,
    LARGEST,
    LEARNS,
    LOSS,
    NONES,
    NORMS,
    OPTIMIZERS,
    OTHERS,
    USE,
    WINDOW,
    at,
)
from bncourse.claims.statistics import Interval
from bncourse.models import MLP

# The window


@pytest.mark.parametrize(
    ("learns", "expected"),
    [
        ("..###..", range(2, 5)),
        ("..###.#", range(2, 5)),  # a lucky rate counts for nothing
        ("#.###..", range(2, 5)),
        ("##..###", range(4, 7)),
        ("##..##.", range(2)),  # of equals, the lower one
        (".......", range(0)),
        ("#######", range(7)),
        ("......#", range(6, 7)),
    ],
)
def test_the_window_is_the_longest_row_of_rates_that_learn(learns, expected):
    assert claim.window([c == "#" for c in learns]) == expected
    assert claim.window(np.array([c == "#" for c in learns])) == expected


def test_the_largest_rate_is_the_last_of_the_window():
    rates = [0.25, 0.5, 1.0, 2.0, 4.0]
    assert claim.largest(rates, range(1, 4)) == 1
    assert claim.largest(rates, range(1)) == -2
    assert claim.largest(rates, range(0)) == -3  # none learns: an octave below the grid


def test_the_effective_rate_takes_the_median_of_the_hidden_layers():
    network = MLP([4, 4, 4, 4, 4], nn.BatchNorm1d)
    squares = (2.0, 32.0, 8.0, 1e6)  # the last layer, which no norm follows, is left out
    for linear, square in zip([m for m in network.modules() if isinstance(m, nn.Linear)], squares, strict=True):
        nn.init.constant_(linear.weight, (square / 16) ** 0.5)
    assert claim.effective(network, 0.5) == pytest.approx(-1 - 3)
    assert claim.effective(network, 16.0) == pytest.approx(4 - 3)
    for param in network.parameters():
        nn.init.constant_(param, float("nan"))
    assert claim.effective(network, 0.5) == -1 - 128


def test_rates_have_names_by_their_exponents():
    assert at(LEARNS, 0.25) == "share that learns at 2^-2"
    assert at(LEARNS, 1.0) == "share that learns at 2^0"


# The rule


def findings(**changes):
    """Batch norm allows rates 3 octaves higher with SGD and with momentum; names end in the optimizer."""
    numbers = {}
    for optimizer in OPTIMIZERS:
        numbers |= {f"gap_{optimizer}": Interval(3.0, 2.5, 3.5), f"ceiling_{optimizer}": Interval(0.0, 0.0, 0.4)}
        numbers |= {f"none_{optimizer}": Interval(5.0, 4.0, 6.0), f"default_{optimizer}": Interval(2.0, 1.0, 3.0)}
        numbers |= {f"batch_{optimizer}": Interval(8.0, 7.0, 9.0)}
    made = []
    for key, interval in (numbers | changes).items():
        kind, optimizer = key.split("_")
        name, quantity = {
            "gap": (f"batch norm − {BASELINE}", GAP),
            "ceiling": ("batch norm", CEILING),
            "none": (NONES[0], WINDOW),
            "default": (NONES[1], WINDOW),
            "batch": ("batch norm", WINDOW),
        }[kind]
        made.append(Measurement(f"{name}, {optimizer}", quantity, interval))
    for optimizer in OPTIMIZERS:
        for i, other in enumerate(OTHERS):
            made.append(Measurement(f"{other} − {BASELINE}, {optimizer}", GAP, Interval(i + 0.1, i, i + 0.2)))
    return Findings(made)


NOTHING, SOME = Interval(0.0, 0.0, 0.0), Interval(0.2, 0.0, 0.4)
FLAT, MIDDLE = Interval(0.5, 0.1, 0.9), Interval(1.5, 1.1, 1.9)
CASES = [
    (SUPPORTED, {}),
    (SUPPORTED, {"gap_SGD": Interval(2.0, 2.0, 2.0), "gap_momentum": Interval(3.0, 2.0, 4.0)}),
    (QUALIFIED, {"gap_SGD": Interval(2.5, 1.99, 3.0)}),
    (QUALIFIED, {"gap_momentum": Interval(2.5, 1.99, 3.0)}),
    (QUALIFIED, {"gap_momentum": FLAT}),
    (QUALIFIED, {"gap_SGD": FLAT, "gap_momentum": Interval(0.5, 0.0, 1.0)}),
    (QUALIFIED, {"gap_SGD": FLAT, "gap_momentum": MIDDLE}),
    (QUALIFIED, {"gap_SGD": MIDDLE, "gap_momentum": MIDDLE}),
    (NOT_SUPPORTED, {"gap_SGD": FLAT, "gap_momentum": FLAT}),
    (NOT_SUPPORTED, {"gap_SGD": Interval(-3.0, -4.0, -2.0), "gap_momentum": Interval(0.5, 0.0, 0.99)}),
    # the grid ends too early
    (SUPPORTED, {"ceiling_SGD": SOME, "ceiling_momentum": SOME}),
    (NOT_TESTABLE, {"gap_SGD": MIDDLE, "ceiling_SGD": SOME}),
    (NOT_TESTABLE, {"gap_SGD": FLAT, "gap_momentum": FLAT, "ceiling_momentum": SOME}),
    (QUALIFIED, {"gap_SGD": MIDDLE, "ceiling_momentum": SOME}),
    # nothing learns
    (NOT_TESTABLE, {"none_SGD": NOTHING, "default_SGD": NOTHING}),
    (NOT_TESTABLE, {"none_momentum": NOTHING, "default_momentum": NOTHING}),
    (NOT_TESTABLE, {"batch_momentum": NOTHING}),
    (SUPPORTED, {"none_SGD": NOTHING}),
    (SUPPORTED, {"none_SGD": NOTHING, "default_SGD": SOME}),
]


@pytest.mark.parametrize(("verdict", "changes"), CASES)
def test_the_rule(verdict, changes):
    assert claim.judge(findings(**changes)).verdict == verdict


def test_the_reason_tells_what_other_norms_allow():
    because = claim.judge(findings(gap_momentum=Interval(4.4, 4.0, 4.8))).because
    assert "3.0 octaves" in because and "4.4 octaves" in because and "(4.0 to 4.8;" in because
    assert "layer norm 0.1, RMS norm 1.1, group norm 2.1" in because


# From trials to measurements


RATES = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0]  # of which the lowest always learns


def trials():
    """Three seeds; the two nones change places as the better one."""
    tops = {NONES[0]: [0.5, 0.125, 0.25], NONES[1]: [0.25, 0.5, 0.25], "batch norm": [2.0, 2.0, 4.0]}
    made = {}
    for name in NORMS:
        for optimizer in OPTIMIZERS:
            top = tops.get(name, [1.0, 1.0, 1.0])
            end = 9 if name in NONES else 12  # log2 of the squared weights
            values = {ACCURACY: [97, 98, 96]}
            for rate in RATES:
                values |= {at(LEARNS, rate): [rate <= t for t in top], at(LOSS, rate): [rate] * 3}
                values |= {at(ACCURACY, rate): [95 + rate, 96, 97]}
                values |= {at(EFFECTIVE_START, rate): [np.log2(rate) - 7] * 3}
                values |= {at(EFFECTIVE_END, rate): [np.log2(rate) - end] * 3}
            best = 0.5 if name == "none" else 1.0
            floats = {quantity: list(map(float, numbers)) for quantity, numbers in values.items()}
            made[f"{name}, {optimizer}"] = Trial(floats, best, RATES)
    return made


def values_of(measurements, condition, quantity):
    (found,) = [m for m in measurements if (m.condition, m.quantity) == (condition, quantity)]
    return found.values


def test_measure_finds_the_window_of_each_seed():
    found = claim.measure(trials())
    assert values_of(found, "batch norm, SGD", LARGEST) == (1, 1, 2)
    assert values_of(found, "batch norm, SGD", WINDOW) == (5, 5, 6)
    assert values_of(found, "batch norm, SGD", EFFECTIVE_START) == (-6, -6, -5)
    assert values_of(found, "batch norm, SGD", EFFECTIVE_END) == (-11, -11, -10)
    assert Findings(found)["batch norm, SGD", CEILING].estimate == pytest.approx(1 / 3)
    assert Findings(found)["layer norm, SGD", CEILING].estimate == 0


def test_the_order_of_the_grid_and_lucky_rates_change_nothing():
    trial = trials()["layer norm, SGD"]
    trial.values[at(LEARNS, 4.0)] = [1.0, 0.0, 0.0]
    shuffled = Trial(trial.values, 1.0, [4.0, 0.25, 1.0, 0.125, 2.0, 0.5])
    assert claim.across(shuffled)[LARGEST] == [0, 0, 0] and claim.across(shuffled)[CEILING] == [0, 0, 0]
    assert claim.across(shuffled)[WINDOW] == [4, 4, 4]


def test_where_no_rate_learns_the_largest_lies_below_the_grid():
    trial = trials()["layer norm, SGD"]
    for rate in RATES:
        trial.values[at(LEARNS, rate)][1] = 0.0
    assert claim.across(trial)[LARGEST] == [0, -4, 0]
    assert claim.across(trial)[WINDOW] == [4, 0, 4]
    assert claim.across(trial)[EFFECTIVE_START] == [-7, -10, -7]


def test_measure_compares_with_the_better_of_the_two_nones_of_each_seed():
    found = claim.measure(trials())
    assert values_of(found, f"{BASELINE}, SGD", LARGEST) == (-1, -1, -2)
    assert values_of(found, f"batch norm − {BASELINE}, SGD", GAP) == (2, 2, 4)
    assert values_of(found, f"layer norm − {BASELINE}, momentum", GAP) == (1, 1, 2)
    assert values_of(found, f"batch norm − {BASELINE}, SGD", GAP_START) == (2, 2, 4)
    assert values_of(found, f"batch norm − {BASELINE}, SGD", GAP_END) == (-1, -1, 1)
    assert Findings(found)[f"batch norm − {BASELINE}, SGD", GAP].estimate == pytest.approx(8 / 3)


def test_measure_asks_what_the_higher_rate_is_good_for():
    found = claim.measure(trials())
    assert values_of(found, "batch norm, best rate − best rate of none, SGD", USE) == (1.5, 2, -1)


def test_measure_tells_for_each_rate_who_learns():
    found = Findings(claim.measure(trials()))
    assert found["batch norm, SGD", at(LEARNS, 4.0)].estimate == pytest.approx(1 / 3)
    assert found["layer norm, SGD", at(LOSS, 0.5)].estimate == 0.5


# A small run of everything


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(claim, "EPOCHS", 3)
    monkeypatch.setattr(claim, "HIDDEN", [16])
    return Setting(seeds=(1000, 1001), learning_rates=(0.25, 0.5, 1e3, 1e30))


def test_a_small_run_gives_a_verdict(quick):
    made = {name: condition(quick) for name, condition in claim.CLAIM.conditions.items()}
    made = {name: Trial.from_json(trial.to_json()) for name, trial in made.items()}
    entry = record.entry(claim.CLAIM, made, quick, "test")
    assert entry["verdict"] == claim.judge(Findings(claim.measure(made))).verdict


def test_a_run_learns_if_its_last_losses_are_small(quick, monkeypatch):
    seen = []
    tune = claim.tune
    monkeypatch.setattr(claim, "tune", lambda *args, **options: seen.append(tune(*args, **options)) or seen[-1])
    monkeypatch.setattr(claim, "LEARNED", 1.0)
    trial = claim.run("batch norm", "momentum", quick)
    last = np.array([[np.mean(h.step_loss[-20:]) for h in row] for row in seen[0].sweep.histories])
    hits = last < 1.0
    assert hits.any() and not hits[2:].any() and trial.diverged == 2
    assert last[2].max() > 10  # large, but finite
    for i, rate in enumerate(quick.learning_rates):
        assert trial.values[at(LEARNS, rate)] == hits[i].tolist()
        assert trial.values[at(LOSS, rate)] == pytest.approx(np.where(last[i] < 10, last[i], 10))
    chosen = quick.learning_rates.index(trial.learning_rate)
    assert trial.values[ACCURACY] == trial.values[at(ACCURACY, trial.learning_rate)]
    assert trial.values[at(ACCURACY, 1e30)] != trial.values[ACCURACY] and chosen < 2


def test_the_effective_rate_is_that_of_the_runs_own_networks(quick):
    trial = claim.run("batch norm", "SGD", quick)
    starts, ends = (trial.values[at(quantity, 0.5)] for quantity in (EFFECTIVE_START, EFFECTIVE_END))
    for seed, start, end in zip(quick.seeds, starts, ends, strict=True):
        torch.manual_seed(seed)
        network = partial(MLP, [64, 16, 10], nn.BatchNorm1d)()
        squared = float(network.layers.linear1.weight.detach().square().sum())
        assert start == pytest.approx(-1 - np.log2(squared), rel=1e-5)
        assert end < start  # in plain steps the weights before batch norm can only grow


def test_a_run_with_one_rate_gives_again_what_it_gave_in_the_grid(quick):
    whole, again = (
        claim.run("batch norm", "SGD", Setting(seeds=quick.seeds, learning_rates=rates))
        for rates in ((0.25, 0.5), (0.5,))
    )
    for quantity in (LEARNS, LOSS, ACCURACY, EFFECTIVE_END):
        assert again.values[at(quantity, 0.5)] == pytest.approx(whole.values[at(quantity, 0.5)], rel=1e-4)
