"""Claim 5, depth: its rule on made-up numbers, its probes against simple computations, and one tiny run."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from bncourse.claims import depth, record
from bncourse.claims.claim import NOT_SUPPORTED, NOT_TESTABLE, QUALIFIED, SUPPORTED, Findings, Measurement
from bncourse.claims.depth import (
    ACCURACY,
    ACROSS,
    BY_DEPTH,
    CLAIM,
    COSINE,
    FIRST,
    LAST,
    PLAIN,
    RESIDUAL,
    SHARE,
    SIMILARITY,
    WITHOUT,
    judge,
    name,
)
from bncourse.claims.experiment import Setting, Trial
from bncourse.claims.statistics import Interval
from bncourse.training.fitting import seeded

BAD, GOOD = Interval(10, 9, 11), Interval(95, 94, 96)
LEVEL, VANISHED, EXPLODED = Interval(1, 0.5, 2), Interval(1e-9, 1e-10, 1e-8), Interval(1e4, 1e3, 1e5)


def findings(changes=()):
    """The claim comes true: plain networks train with 5 layers, and deeper ones with batch norm only."""
    made = {}
    for network in (*PLAIN, *RESIDUAL):
        for layers in (5, 11, 21, 51):
            alone = network in WITHOUT and layers > 5
            made[name(network, layers), ACCURACY] = BAD if alone else GOOD
            for quantity in (ACROSS, BY_DEPTH):
                made[name(network, layers), quantity] = VANISHED if alone else LEVEL
    made |= dict(changes)
    return Findings([Measurement(*key, interval) for key, interval in made.items()])


def accuracy(network, interval, layers=51):
    return {(name(network, layers), ACCURACY): interval}


def gradient(network, interval, layers=(11, 21, 51), quantities=(ACROSS, BY_DEPTH)):
    return {(name(network, n), quantity): interval for n in layers for quantity in quantities}


def all_plain(change, *args, **options):
    return {key: value for network in WITHOUT for key, value in change(network, *args, **options).items()}


REFUTED_A, REFUTED_B = gradient("orthogonal", LEVEL), accuracy("He", GOOD)
NOBODY = {key: BAD for network in (*PLAIN, *RESIDUAL) for key in accuracy(network, BAD)}
CASES = {
    "the claim as it is": ({}, SUPPORTED),
    "exploding is as good as vanishing": (all_plain(gradient, EXPLODED), SUPPORTED),
    "all layers vanish alike": (all_plain(gradient, LEVEL, quantities=[ACROSS]), SUPPORTED),
    "shallow and deep vanish alike": (all_plain(gradient, LEVEL, quantities=[BY_DEPTH]), SUPPORTED),
    "11 layers are still well": (all_plain(gradient, LEVEL, layers=[11]), SUPPORTED),
    "residual networks do not count": (
        {key: BAD for network in RESIDUAL for key in accuracy(network, BAD)},
        SUPPORTED,
    ),
    "both refuted by one": (gradient("He", LEVEL) | accuracy("He", GOOD), NOT_SUPPORTED),
    "both refuted by two": (REFUTED_A | REFUTED_B, NOT_SUPPORTED),
    "both refuted though batch norm fails": (REFUTED_A | REFUTED_B | accuracy("batch norm", BAD), NOT_SUPPORTED),
    "gradients stay, no training": (REFUTED_A, QUALIFIED),
    "training in spite of the gradients": (REFUTED_B, QUALIFIED),
    "gradients stay at the limits": (REFUTED_B | gradient("He", Interval(1, 0.1, 10)), NOT_SUPPORTED),
    "gradients shrink a little too much": (REFUTED_B | gradient("He", Interval(1, 0.099, 10)), QUALIFIED),
    "gradients grow a little too much": (REFUTED_B | gradient("He", Interval(1, 0.1, 10.1)), QUALIFIED),
    "gradients stay to 21 layers only": (REFUTED_B | gradient("He", LEVEL, layers=[11, 21]), QUALIFIED),
    "gradients stay, but not at 11": (REFUTED_B | gradient("He", LEVEL, layers=[21, 51]), QUALIFIED),
    "gradients stay, but not at 21": (REFUTED_B | gradient("He", LEVEL, layers=[11, 51]), QUALIFIED),
    "one initialization to 21, one to 51": (
        REFUTED_B | gradient("He", LEVEL, layers=[11, 21]) | gradient("orthogonal", LEVEL, layers=[51]),
        QUALIFIED,
    ),
    "gradients unclear": (gradient("default", Interval(0.1, 0.01, 0.1)), QUALIFIED),
    "gradients only just vanish": (gradient("default", Interval(0.05, 0.01, 0.0999)), SUPPORTED),
    "gradients only just explode": (gradient("default", Interval(20, 10.1, 40)), SUPPORTED),
    "gradients unclear at 21": (gradient("default", Interval(1, 0.01, 1), layers=[21]), QUALIFIED),
    "trains, at the threshold": (REFUTED_A | accuracy("default", Interval(92, 90, 94)), NOT_SUPPORTED),
    "does not quite train": (REFUTED_A | accuracy("default", Interval(92, 89.9, 94)), QUALIFIED),
    "training unclear": (accuracy("default", Interval(85, 80, 90)), QUALIFIED),
    "training only just fails": (accuracy("default", Interval(85, 80, 89.9)), SUPPORTED),
    "batch norm fails as well": (accuracy("batch norm", BAD), QUALIFIED),
    "batch norm unclear": (accuracy("batch norm", Interval(92, 89, 95)), QUALIFIED),
    "nobody trains with 51": (NOBODY, NOT_TESTABLE),
    "only a residual network trains with 51": (NOBODY | accuracy("residual, Fixup", GOOD), QUALIFIED),
    "only layer norm trains with 51": (NOBODY | accuracy("layer norm", GOOD), QUALIFIED),
    "plain networks never train": (all_plain(accuracy, Interval(90, 89, 91), layers=5), NOT_TESTABLE),
    "one plain network trains with 5": (
        all_plain(accuracy, BAD, layers=5) | accuracy("orthogonal", Interval(91, 90, 92), layers=5),
        SUPPORTED,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rule(case):
    changes, verdict = CASES[case]
    assert judge(findings(changes)).verdict == verdict


def test_the_rule_has_an_answer_to_any_numbers():
    rng = np.random.default_rng(0)
    verdicts = set()
    for _ in range(300):
        share_good, share_level = rng.random(2)
        made = {}
        for key in findings():
            good = [GOOD, LEVEL][key[1] != ACCURACY], [BAD, EXPLODED][key[1] != ACCURACY]
            wild = Interval(*(float(x) for x in np.sort(rng.normal(0, 100, 3))[[1, 0, 2]]))
            kind = rng.random() < (share_good if key[1] == ACCURACY else share_level)
            made[key] = wild if rng.random() < 0.05 else good[0] if kind else good[1]
        verdicts.add(judge(findings(made)).verdict)
    assert verdicts == {SUPPORTED, QUALIFIED, NOT_SUPPORTED, NOT_TESTABLE}


def test_the_reason_names_what_decides_with_its_numbers():
    numbers = {(name("He", 51), ACROSS): Interval(0.83, 0.5, 2)} | accuracy("He", Interval(95.25, 94, 96))
    because = judge(findings(gradient("He", LEVEL) | numbers)).because
    assert "within a factor of 10 for He weights" in because and "0.83 with He" in because
    assert "train without a norm with He weights" in because and "95.2 % with He" in because
    assert "10.0 % with default" in because and "95.0 % with batch norm" in because


# Measuring


def made_trials():
    trials = {}
    for network in (*PLAIN, *RESIDUAL):
        for layers in (5, 11, 21, 51, 101):
            values = {COSINE: [0.5, 0.7]}
            if network not in depth.WITHOUT_GRADIENT:
                values |= {FIRST: [2.0 * layers, 8.0 * layers], LAST: [1.0 * layers, 1.0 * layers]}
            if layers < 101:
                values[ACCURACY] = [90.0, 80.0]
            trials[name(network, layers)] = Trial(values)
    return trials


def test_measurements_are_means_and_ratios_seed_by_seed():
    found = depth.measure(made_trials())
    values = {(m.condition, m.quantity): m.values for m in found if m.values}
    estimates = {(m.condition, m.quantity): m.interval.estimate for m in found}
    key = name("He", 51)
    assert estimates[key, ACROSS] == pytest.approx(4)  # the geometric mean of 2 and 8
    assert estimates[key, BY_DEPTH] == pytest.approx(10.2)
    assert [m.interval.low for m in found if (m.condition, m.quantity) == (key, BY_DEPTH)] == pytest.approx([10.2])
    assert estimates[key, ACCURACY] == 85 and values[key, ACCURACY] == (90, 80)
    assert values[key, SHARE] == (1, 0) and estimates[key, SHARE] == 0.5
    assert estimates[key, SIMILARITY] == pytest.approx(0.6)


def test_measurements_leave_out_what_no_trial_has():
    keys = {(m.condition, m.quantity) for m in depth.measure(made_trials())}
    assert (name("He", 101), ACROSS) in keys and (name("He", 101), ACCURACY) not in keys
    assert (name("residual, Fixup", 51), SIMILARITY) in keys and (name("residual, Fixup", 51), ACROSS) not in keys
    judge(Findings(depth.measure(made_trials())))  # finds all that it needs


# Networks and probes


def test_grids_have_as_many_rates_and_start_lower_without_a_norm():
    for network, layers in depth.CONDITIONS.values():
        rates = depth.rates(network, layers)
        assert len(rates) == 8 and np.diff(np.log10(rates)) == pytest.approx(0.5)
        if network in WITHOUT:
            assert rates[0] == pytest.approx(1e-4) and rates[-1] > 0.3
    assert depth.rates("batch norm", 51)[-1] == 1
    assert depth.rates("residual", 51)[0] == pytest.approx(1e-8)


@pytest.mark.parametrize("network", [*PLAIN, *RESIDUAL])
@pytest.mark.parametrize("layers", [5, 51])
def test_networks_have_as_many_hidden_layers_as_they_should(network, layers):
    made = depth.make(network, layers, 64)
    assert sum(isinstance(module, nn.Linear) for module in made.modules()) == layers + 1
    norms = sum(isinstance(module, (nn.BatchNorm1d, nn.LayerNorm)) for module in made.modules())
    assert norms == (layers if "norm" in network else 0)


def test_initializations_are_what_they_are_called():
    torch.manual_seed(0)
    weights = {
        n: depth.make(n, 5, 64).layers.linear3.weight.data for n in ("default", "He", "batch norm", "orthogonal")
    }
    assert weights["default"].std() == pytest.approx((1 / 64 / 3) ** 0.5, rel=0.05)
    assert weights["He"].std() == pytest.approx((2 / 64) ** 0.5, rel=0.05)
    assert weights["batch norm"].std() == pytest.approx((2 / 64) ** 0.5, rel=0.05)
    torch.testing.assert_close(weights["orthogonal"] @ weights["orthogonal"].T, torch.eye(64), atol=1e-5, rtol=0)
    kinds = {n: type(depth.make(n, 5, 64).layers.activation1) for n in weights}
    assert kinds == {"default": nn.ReLU, "He": nn.ReLU, "batch norm": nn.ReLU, "orthogonal": nn.Tanh}


def test_gradients_are_those_of_the_first_and_last_hidden_weights():
    torch.manual_seed(0)
    x, y = torch.randn(9, 6), torch.arange(9) % 3
    w1, w2, w3 = (torch.randn(*shape, dtype=torch.double) for shape in [(5, 6), (4, 5), (3, 4)])
    network = nn.Sequential(
        nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Linear(5, 4, bias=False), nn.ReLU(), nn.Linear(4, 3, bias=False)
    )
    for layer, weight in zip(network[::2], (w1, w2, w3), strict=True):
        layer.weight.data = weight.clone()
    h1 = (x.double() @ w1.T).relu()
    h2 = (h1 @ w2.T).relu()
    error = (torch.softmax(h2 @ w3.T, 1) - nn.functional.one_hot(y, 3)) / 9
    error2 = (error @ w3) * (h2 > 0)
    error1 = (error2 @ w2) * (h1 > 0)
    found = depth.probe(network, x, y)
    assert found[FIRST] == pytest.approx((error1.T @ x.double()).norm().item())
    assert found[LAST] == pytest.approx((error2.T @ h1).norm().item())
    cosines = [
        float(nn.functional.cosine_similarity(h2[i], h2[j], dim=0)) for i in range(9) for j in range(9) if i != j
    ]
    assert found[COSINE] == pytest.approx(np.mean(cosines))


def test_a_sample_is_not_compared_with_itself():
    assert depth.similarity(torch.tensor([[1.0, 0], [0, 2]])) == pytest.approx(0)
    assert depth.similarity(torch.tensor([[1.0, 1], [3, 3], [-2, -2]])) == pytest.approx(-1 / 3)


def test_a_gradient_of_zero_has_a_logarithm():
    network = depth.make("He", 5, 64)
    network.layers.linear6.weight.data.zero_()
    found = depth.probe(network, torch.randn(8, 64), torch.arange(8))
    assert found[FIRST] == found[LAST] == depth.FLOOR > 0


def test_the_default_vanishes_and_batch_norm_explodes_where_orthogonal_weights_stay():
    setting = Setting(seeds=(1000, 1001))
    ratios = {}
    for network in ("default", "orthogonal", "batch norm"):
        values = depth.run(network, 101, setting).values
        assert ACCURACY not in values
        ratios[network] = np.divide(values[FIRST], values[LAST])
    assert (ratios["default"] < 1e-30).all() and (ratios["batch norm"] > 1e6).all()
    assert (abs(np.log10(ratios["orthogonal"])) < 0.5).all()


def test_probes_see_the_first_training_batch_in_training_mode(monkeypatch):
    seen = []

    def look(network, x, y):
        seen.append((network, x, y))
        return {FIRST: 1.0, LAST: 2.0, COSINE: 0.5}

    monkeypatch.setattr(depth, "probe", look)
    setting, maker = Setting(seeds=(7,)), partial(depth.make, "batch norm", 5, 64)
    assert depth.probes(maker, setting, gradients=True) == {FIRST: [1.0], LAST: [2.0], COSINE: [0.5]}
    assert depth.probes(maker, setting, gradients=False) == {COSINE: [0.5]}
    network, x, y = seen[0]
    train = setting.parts()(7).train
    assert network.training and torch.equal(x, train.x[:128]) and torch.equal(y, train.y[:128])
    with seeded(7, torch.device("cpu")):
        expected = maker()
    assert torch.equal(network.layers.linear3.weight, expected.layers.linear3.weight)


# Runs


@pytest.fixture
def short(monkeypatch):
    """Networks so small and training so short that all conditions take a few seconds."""
    for constant, value in {"WIDTH": 8, "EPOCHS": 1}.items():
        monkeypatch.setattr(depth, constant, value)
    return Setting(seeds=(1000, 1001), learning_rates=(0.01, 0.03))


@pytest.mark.parametrize("network", [*PLAIN, *RESIDUAL])
def test_every_network_can_be_trained(short, network):
    trial = depth.run(network, 5, short)
    assert len(trial.values[ACCURACY]) == len(trial.values[COSINE]) == 2
    assert trial.grid == [0.01, 0.03] and trial.diverged == 0


def test_a_tiny_run_becomes_an_entry(short):
    trials = {}
    for condition, run in CLAIM.conditions.items():
        network, layers = condition.removesuffix(" layers").rsplit(", ", 1)
        plain = network in PLAIN and layers in ("5", "11")
        trials[condition] = run(short) if plain else None
    like = trials[name("He", 11)]
    for condition, trial in trials.items():
        trials[condition] = trial or like
    entry = record.entry(CLAIM, trials, short, "test")
    assert entry["id"] == "depth" and entry["seeds"] == [1000, 1001]
    assert entry["verdict"] == NOT_TESTABLE  # after one epoch, nothing trains
    assert entry["conditions"]["He, 11 layers"]["grid"] == [0.01, 0.03]


def test_conditions_are_named_by_network_and_layers():
    assert len(CLAIM.conditions) == 50 and set(CLAIM.slice) <= set(CLAIM.conditions)
    for condition, run in CLAIM.conditions.items():
        assert name(*run.args) == condition
