"""Claim 2: the noise, the measures of internal covariate shift, and the rule, against simple computations."""

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from bncourse.claims import covariate_shift as claim
from bncourse.claims import record
from bncourse.claims.claim import NOT_SUPPORTED, NOT_TESTABLE, QUALIFIED, SUPPORTED, Findings, Measurement
from bncourse.claims.covariate_shift import CHANGE, COSINE, DRIFT, KEPT, RATIOS, REACHED, SAME_RATE, STEPS
from bncourse.claims.experiment import Setting, Trial, Tuned
from bncourse.claims.shift import Noise, drift, gradient_shift
from bncourse.claims.statistics import Interval, difference, quotient
from bncourse.models import MLP
from bncourse.training import Choice, History, Sweep, cross_entropy
from bncourse.training.stacking import stack

# Noise


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(50, 6, dtype=torch.float64) * torch.arange(1, 7) + torch.randn(6)


def line(x, y):
    """Slope and constant of each unit, from two samples."""
    slope = (y[1] - y[0]) / (x[1] - x[0])
    return slope, y[0] - slope * x[0]


def test_noise_is_a_line_for_each_unit_within_its_ranges(x):
    noise = Noise(0.5, 0.8, 0.0)
    draws = [noise(x) for _ in range(200)]
    slopes, constants = (torch.stack(some) for some in zip(*(line(x, y) for y in draws), strict=True))
    for y, slope, constant in zip(draws, slopes, constants, strict=True):
        torch.testing.assert_close(y, slope * x + constant)
    moves = constants / x.std(0, correction=0)
    assert 1 <= slopes.min() < 1.02 and 1.48 < slopes.max() <= 1.5
    assert -0.8 <= moves.min() < -0.78 and 0.78 < moves.max() <= 0.8
    assert abs(slopes.mean() - 1.25) < 0.02 and abs(moves.mean()) < 0.05
    assert slopes[0].std() > 0.01 and moves[0].std() > 0.01  # not the same for all units


def test_jitter_differs_from_sample_to_sample_and_stays_within_its_range(x):
    spread = x.std(0, correction=0)
    jitter = torch.stack([(Noise(0.0, 0.0, 0.3)(x) - x) / spread for _ in range(40)])
    assert 0.29 < jitter.abs().max() <= 0.3
    assert jitter.std(1).min() > 0.1
    assert abs(jitter.mean()) < 0.01


def test_noise_is_drawn_anew_in_training_and_leaves_its_mean_scale_in_evaluation(x):
    noise = Noise(0.5, 0.8, 0.1)
    assert not torch.equal(noise(x), noise(x))
    torch.testing.assert_close(noise.eval()(x), 1.25 * x)


def test_a_dose_means_the_same_in_networks_of_every_size(x):
    noise = Noise(0.5, 0.8, 0.1)
    torch.manual_seed(0)
    small = noise(x)
    torch.manual_seed(0)
    torch.testing.assert_close(noise(100 * x), 100 * small)


def test_gradients_take_noise_for_constants(x):
    noise = Noise(0.5, 0.8, 0.0)
    x.requires_grad_()
    y = noise(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, line(x, y)[0].detach().expand(50, 6))


def test_stacked_networks_have_noise_of_their_own():
    torch.manual_seed(0)
    network = MLP([4, 5, 3], partial(claim.noisy, nn.BatchNorm1d, "noise"))
    whole = stack([network, copy.deepcopy(network)])
    x = torch.randn(9, 4)
    first, second = whole(x.expand(2, 9, 4))
    assert not torch.allclose(first, second)
    whole.eval()
    first, second = whole(x.expand(2, 9, 4))
    torch.testing.assert_close(first, second)


# The shift


def network_and_batch(norm, seed=0):
    torch.manual_seed(seed)
    network = MLP([5, 8, 7, 6, 3], norm, bias=True).double()
    for param in network.parameters():
        nn.init.normal_(param, std=0.6)
    return network, torch.randn(20, 5, dtype=torch.float64), torch.randint(3, (20,))


def names_of_layer(network, number):
    return [name for name, _ in network.named_parameters() if name.split(".")[1][-1] == str(number)]


def stepped(network, x, y, rate, names):
    """A copy in which the parameters of these names have made their step."""
    after = copy.deepcopy(network)
    torch.optim.SGD([dict(after.named_parameters())[name] for name in names], lr=rate).zero_grad()
    cross_entropy(after(x), y).backward()
    torch.optim.SGD([dict(after.named_parameters())[name] for name in names], lr=rate).step()
    return after


@pytest.mark.parametrize("norm", [None, nn.BatchNorm1d, nn.LayerNorm])
def test_drift_is_what_a_step_of_sgd_does_to_the_means(norm):
    network, x, y = network_and_batch(norm)
    kept = copy.deepcopy(network.state_dict())
    after = stepped(network, x, y, 0.3, [name for name, _ in network.named_parameters()])
    expected = []
    for last in range(1, len(network.layers)):
        if isinstance(network.layers[last], nn.ReLU):
            old, new = (copy.deepcopy(net).layers[: last + 1](x).detach() for net in (network, after))
            squares = (old - old.mean(0)).square().mean(0).sum()
            expected.append(float(((new.mean(0) - old.mean(0)).square().sum() / squares).sqrt()))
    assert drift(network, x, y, 0.3, seed=5) == pytest.approx(expected)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, kept[name])


@pytest.mark.parametrize("norm", [None, nn.BatchNorm1d, nn.LayerNorm])
def test_the_gradient_is_taken_again_after_the_step_of_the_earlier_layers_alone(norm):
    network, x, y = network_and_batch(norm)
    found = gradient_shift(network, x, y, 0.3, seed=5)
    assert len(found) == 3
    for number, (change, cosine) in zip((2, 3, 4), found, strict=True):
        earlier = [name for i in range(1, number) for name in names_of_layer(network, i)]
        grads = []
        for net in (copy.deepcopy(network), stepped(network, x, y, 0.3, earlier)):
            net.zero_grad()
            cross_entropy(net(x), y).backward()
            grads.append(net.get_parameter(f"layers.linear{number}.weight").grad.flatten())
        assert change == pytest.approx(float((grads[0] - grads[1]).norm() / grads[0].norm()))
        assert cosine == pytest.approx(float(torch.cosine_similarity(*grads, dim=0)))
        assert change > 0.01


def test_without_a_step_noise_makes_drift_but_no_change_of_the_gradient():
    network, x, y = network_and_batch(partial(claim.noisy, nn.BatchNorm1d, "noise"))
    assert min(drift(network, x, y, 0.0, seed=5)) > 0.05
    assert gradient_shift(network, x, y, 0.0, seed=5) == [pytest.approx((0.0, 1.0))] * 3
    plain, x, y = network_and_batch(nn.BatchNorm1d)
    assert drift(plain, x, y, 0.0, seed=5) == pytest.approx([0, 0, 0])


def test_a_dead_layer_does_not_drift():
    network, x, y = network_and_batch(None)
    with torch.no_grad():
        network.layers.linear2.weight.zero_()
        network.layers.linear2.bias.fill_(-1)
    assert drift(network, x, y, 0.1, seed=0)[1] == 0
    assert gradient_shift(network, x, y, 0.1, seed=0)[0] == (0, 0)


@pytest.mark.parametrize("rate", [0.1, 1e30])
def test_the_shift_of_a_network_is_finite_even_if_the_network_is_not(rate, monkeypatch):
    monkeypatch.setattr(claim, "MOMENTS", (1, 3))
    train = Setting().parts()(0).train
    values = claim.shift_of(partial(MLP, [64, 8, 8, 10], None), train, rate, 0, "cpu")
    assert np.isfinite(values).all()
    assert (values[0] > 10) == (rate > 1)


def test_changes_beyond_the_limits_count_as_the_limits():
    assert claim._geometric_mean([0.0, 4.0]) == pytest.approx((1e-6 * 4) ** 0.5)
    assert claim._geometric_mean([float("inf"), float("nan"), 1e9]) == pytest.approx(100)


# Steps


def made_up(validation, steps_per_epoch=9):
    """Runs with these validation accuracies: (rates, seeds, epochs)."""
    histories = tuple(
        tuple(History(step_loss=[0.0] * (len(v) * steps_per_epoch), validation_metric=list(v)) for v in row)
        for row in validation
    )
    rates, seeds = tuple(2.0**k for k in range(len(validation))), tuple(range(len(validation[0])))
    nothing = tuple(tuple(None for _ in row) for row in validation)
    sweep = Sweep(rates, seeds, nothing, histories)
    return Tuned(sweep, sweep.best(), None)


def test_steps_are_counted_to_the_first_epoch_at_the_target_or_to_the_end():
    single = float(torch.tensor(0.95))  # as accuracies are computed: 0.94999999
    runs = made_up([[[0.5, single, 0.9], [0.1, 0.2, 0.949]], [[0.96, 0.1, 0.1], [float("nan")] * 3]])
    steps, reached = claim.steps_to(runs.sweep)
    assert steps.tolist() == [[18, 27], [9, 27]]
    assert reached.tolist() == [[True, False], [True, False]]


def test_the_fastest_rate_needs_the_fewest_steps_not_the_best_end():
    slow, quick, equal = [0.1, 0.2, 0.3, 0.99], [0.1, 0.96, 0.95, 0.95], [0.2, 0.95, 0.97, 0.97]
    assert claim.fastest(made_up([[slow] * 2, [quick] * 2, [slow] * 2])).choice == Choice(1, 2.0, False)
    assert claim.fastest(made_up([[slow] * 2, [quick] * 2, [equal] * 2])).choice == Choice(2, 4.0, True)
    assert claim.fastest(made_up([[quick] * 2, [quick] * 2, [slow] * 2])).choice == Choice(0, 1.0, True)
    never = [0.1, 0.2, 0.3, 0.5]
    assert claim.fastest(made_up([[[0.1] * 4] * 2, [never] * 2, [[float("nan")] * 4] * 2])).choice.index == 1
    # In the mean of logarithms, 9 and 36 steps are as many as twice 18.
    mixed, even = [[0.96] * 4, slow], [quick, quick]
    assert claim.fastest(made_up([[never] * 2, mixed, even])).choice.index == 1


# The rule


def around(value, reach=0.01):
    return Interval(value, value - reach, value + reach)


def findings(**changes):
    """Batch norm reduces both shifts at both rates, and the first dose of noise takes the advantage away."""
    numbers = {
        "advantage": around(2.0),
        "own_drift": around(0.5),
        "own_change": around(0.5),
        "same_drift": around(0.4),
        "same_change": around(0.4),
        "force": around(1.5),
        "more_force": around(3.0),
        "kept": around(0.2),
        "more_kept": around(0.1),
    } | changes
    first, second = (f"batch norm, {dose}" for dose in claim.DOSES)
    names = {
        "advantage": ("none / batch norm", RATIOS[STEPS]),
        "own_drift": ("batch norm / none", RATIOS[DRIFT]),
        "own_change": ("batch norm / none", RATIOS[CHANGE]),
        "same_drift": (f"{SAME_RATE} / none", RATIOS[DRIFT]),
        "same_change": (f"{SAME_RATE} / none", RATIOS[CHANGE]),
        "force": (f"{first} / none", RATIOS[DRIFT]),
        "more_force": (f"{second} / none", RATIOS[DRIFT]),
        "kept": (first, KEPT),
        "more_kept": (second, KEPT),
    }
    return Findings([Measurement(*names[key], interval) for key, interval in numbers.items()])


UNREDUCED = {"own_change": around(1.2), "same_change": around(1.0)}
BOTH_UNREDUCED = {**UNREDUCED, "own_drift": around(1.2), "same_drift": around(1.0)}
CASES = [
    (SUPPORTED, {}),
    # is there something to explain?
    (NOT_TESTABLE, {"advantage": around(1.0)}),
    (NOT_TESTABLE, {"advantage": Interval(1.5, 1.1, 2.0)}),
    (SUPPORTED, {"advantage": Interval(1.5, 1.11, 2.0)}),
    (NOT_TESTABLE, {"advantage": around(0.5), **BOTH_UNREDUCED}),
    # does batch norm reduce the shift?
    (QUALIFIED, {"own_drift": Interval(0.8, 0.7, 0.9)}),
    (SUPPORTED, {"own_drift": Interval(0.8, 0.7, 0.89)}),
    (QUALIFIED, {"own_change": Interval(0.8, 0.7, 0.9)}),
    (SUPPORTED, {"same_drift": around(2.0), "same_change": around(2.0)}),
    (NOT_SUPPORTED, BOTH_UNREDUCED),
    (NOT_SUPPORTED, {**BOTH_UNREDUCED, "force": around(0.5), "more_force": around(0.5)}),
    (NOT_SUPPORTED, {**BOTH_UNREDUCED, "same_drift": Interval(1.0, 0.9, 1.1)}),
    (QUALIFIED, {**BOTH_UNREDUCED, "same_drift": Interval(1.0, 0.89, 1.1)}),
    (QUALIFIED, {**BOTH_UNREDUCED, "own_drift": Interval(1.0, 0.89, 1.1)}),
    # did the noise bring it back?
    (NOT_TESTABLE, {"force": around(0.8), "more_force": around(0.9)}),
    (SUPPORTED, {"force": Interval(1.2, 1.0, 1.4), "more_kept": around(0.9)}),
    (QUALIFIED, {"force": Interval(1.2, 0.99, 1.4), "more_kept": around(0.9)}),
    (SUPPORTED, {"force": around(0.8), "kept": around(0.9)}),
    # does the advantage go with it?
    (QUALIFIED, {"kept": around(0.9)}),
    (QUALIFIED, {"kept": Interval(0.4, 0.3, 0.5)}),
    (SUPPORTED, {"kept": Interval(0.4, 0.3, 0.49)}),
    (SUPPORTED, {"kept": around(-3.0)}),
    (NOT_SUPPORTED, {"kept": Interval(0.6, 0.5, 0.7), **UNREDUCED}),
    (QUALIFIED, {"kept": Interval(0.6, 0.49, 0.7), **UNREDUCED}),
    (QUALIFIED, {"kept": around(0.9), **UNREDUCED, "same_change": around(0.8)}),
    (NOT_SUPPORTED, {"kept": around(0.9), "own_drift": around(1.2), "same_drift": around(0.95)}),
    (QUALIFIED, {"kept": around(0.2), **UNREDUCED}),
]


@pytest.mark.parametrize(("verdict", "changes"), CASES)
def test_the_rule(verdict, changes):
    assert claim.judge(findings(**changes)).verdict == verdict


def test_the_reason_names_the_dose_that_decides():
    because = claim.judge(findings(force=around(0.8), more_force=around(3.25), more_kept=around(0.61))).because
    assert "3.2 (" in because and "61% (60% to 62%)" in because and "2 (2 to 2)" in because


# From trials to measurements


def trials(**changes):
    """Four seeds of each condition."""
    steps = {"none": 80.0, "batch norm": 20.0, "batch norm, noise": 40.0, "batch norm, twice the noise": 80.0} | changes
    made = {}
    for i, name in enumerate(claim.CLAIM.conditions):
        spread = np.array([1.0, 1.1, 0.9, 1.05])
        values = {claim.ACCURACY: 90 + spread, STEPS: steps.get(name, 60.0) * spread, REACHED: [1.0, 1.0, 0.0, 1.0]}
        values |= {DRIFT: (i + 1) * spread, CHANGE: (i + 2) * spread, COSINE: spread / 2}
        if name != SAME_RATE:
            values |= {STEPS + claim.BEST: 2 * values[STEPS], claim.ACCURACY + claim.BEST: 91 + spread}
        made[name] = Trial({quantity: list(map(float, numbers)) for quantity, numbers in values.items()}, 0.1)
    return made


def test_measure_compares_seed_by_seed():
    found = Findings(claim.measure(trials()))
    assert found["none / batch norm", RATIOS[STEPS]].estimate == pytest.approx(4)
    assert found["none / batch norm", RATIOS[STEPS]].high == pytest.approx(4)  # the same in every seed
    assert found[f"none / {SAME_RATE}", RATIOS[STEPS]].estimate == pytest.approx(80 / 60)
    names = list(claim.CLAIM.conditions)
    for name in names[1:]:
        i = names.index(name)
        assert found[f"{name} / none", RATIOS[DRIFT]].estimate == pytest.approx(i + 1)
        assert found[f"{name} / none", RATIOS[CHANGE]].estimate == pytest.approx((i + 2) / 2)
    assert found["batch norm, noise", KEPT].estimate == pytest.approx(0.5)
    assert found["batch norm, twice the noise", KEPT].estimate == pytest.approx(0)
    assert found["batch norm, noise", KEPT + claim.BEST].estimate == pytest.approx(0.5)
    assert found["none, noise / batch norm, noise", RATIOS[STEPS]].estimate == pytest.approx(60 / 40)
    assert found["none", REACHED].estimate == 0.75


def test_what_is_kept_of_nothing_is_unknown_and_still_judged():
    measurements = claim.measure(trials(**{"batch norm": 80.0}))
    assert Findings(measurements)["batch norm, noise", KEPT].high == 100
    assert claim.judge(Findings(measurements)).verdict == NOT_TESTABLE


def test_the_interval_of_a_quotient_holds_the_ratios_that_pairs_do_not_rule_out():
    generator = np.random.default_rng(0)
    whole = generator.normal(2.0, 0.8, 9)
    part = 0.6 * whole + generator.normal(0.2, 0.5, 9)
    found = quotient(part, whole)
    assert found.estimate == pytest.approx(part.mean() / whole.mean())
    for r, side in ((found.low, "low"), (found.high, "high")):
        assert getattr(difference(part, r * whole), side) == pytest.approx(0, abs=1e-9)
    assert 0 in difference(part, (found.low + 0.01) * whole) and 0 in difference(part, (found.high - 0.01) * whole)


def test_a_quotient_over_what_may_be_zero_is_unknown():
    assert quotient([1.0, 2.0, 3.0], [-1.0, 1.0, 0.5]) == Interval(12.0, -100.0, 100.0)
    assert quotient([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]) == Interval(0.0, -100.0, 100.0)
    assert quotient([1.0, 1.0], [1e-5, 1e-5]) == Interval(100.0, 100.0, 100.0)


# A small run of everything


def test_a_small_run_gives_a_verdict(monkeypatch):
    monkeypatch.setattr(claim, "EPOCHS", 2)
    monkeypatch.setattr(claim, "MOMENTS", (1, 2))
    monkeypatch.setattr(claim, "BATCHES", 1)
    monkeypatch.setattr(claim, "HIDDEN", [16] * 2)
    setting = Setting(seeds=(1000, 1001), learning_rates=(0.1, 0.3))
    made = {name: condition(setting) for name, condition in claim.CLAIM.conditions.items()}
    made = {name: Trial.from_json(trial.to_json()) for name, trial in made.items()}
    entry = record.entry(claim.CLAIM, made, setting, "test")
    assert entry["verdict"] == claim.judge(Findings(claim.measure(made))).verdict
    assert {trial.learning_rate for trial in made.values()} <= {0.1, 0.3}
    same = made[SAME_RATE]
    assert same.learning_rate == made["none"].learning_rate and same.grid == [0.1, 0.3]
    if same.learning_rate == made["batch norm"].learning_rate:
        assert same.values[DRIFT] == made["batch norm"].values[DRIFT]
    again = claim.CLAIM.conditions[SAME_RATE](replace(setting, learning_rates=(same.learning_rate,)))
    assert again.values == same.values
