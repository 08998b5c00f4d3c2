"""Claim 10, batch size: its rule on made-up numbers, its networks and statistics, and one tiny run."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from bncourse.claims import batch_size, record
from bncourse.claims.batch_size import (
    ACCURACY,
    BATCH_SIZES,
    CLAIM,
    CNN,
    DIFFERENCE,
    GIVEN_BACK,
    NORMS,
    OWN,
    PRECISE,
    PRECISE_DIFFERENCE,
    SHARE,
    judge,
    measure,
    with_precise_statistics,
)
from bncourse.claims.claim import NOT_SUPPORTED, NOT_TESTABLE, QUALIFIED, SUPPORTED, Findings, Measurement
from bncourse.claims.experiment import Setting, Trial, in_training_mode
from bncourse.claims.statistics import Interval
from bncourse.data import digits
from bncourse.models import MLP
from bncourse.training import fit, sweep
from bncourse.training.stacking import stack, unstack

LOSES, KEEPS, OPEN = Interval(-5, -7, -3), Interval(0, -0.9, 0.9), Interval(-1, -3, 1)


def findings(changes=None):
    """Batch norm loses 5 points in both networks, group norm none; but for changes, by condition."""
    made = {}
    for network, norms in NORMS.items():
        for norm in norms:
            for size in BATCH_SIZES:
                made[f"{network}, {norm}, batches of {size}", ACCURACY] = Interval(95, 94, 96)
                comparison = f"{network}, {norm}, batches of {size} − 64"
                made[comparison, DIFFERENCE] = LOSES if norm == "batch norm" else KEEPS
        made[f"{network}, batch norm − group norm, batches of 2 − 64", DIFFERENCE] = LOSES
        made[f"{network}, batch norm, batches of 2", GIVEN_BACK] = Interval(1.25, 1, 1.5)
        made[f"{network}, batch norm, batches of 2", OWN] = Interval(77.7, 77, 78)
    for condition, interval in (changes or {}).items():
        made[condition, DIFFERENCE if "−" in condition else ACCURACY] = interval
    return Findings([Measurement(*key, interval) for key, interval in made.items()])


def loss(network, interval):
    return {f"{network}, batch norm, batches of 2 − 64": interval}


def excess(network, interval):
    return {f"{network}, batch norm − group norm, batches of 2 − 64": interval}


CASES = {
    "it hurts in both, and is its own": ({}, SUPPORTED),
    "only just": (loss("MLP", Interval(-2, -3, -1.01)) | excess("CNN", Interval(-1, -2, -0.01)), SUPPORTED),
    "a point at most, in one": (loss("MLP", Interval(-2, -3, -1)), QUALIFIED),
    "harmless in one": (loss("CNN", KEEPS), QUALIFIED),
    "not clear in one": (loss("CNN", OPEN), QUALIFIED),
    "group norm may lose as much in one": (excess("MLP", Interval(-1, -2, 0)), QUALIFIED),
    "group norm may lose as much in both": (excess("MLP", OPEN) | excess("CNN", OPEN), QUALIFIED),
    "one is harmless, the other not its own": (loss("CNN", KEEPS) | excess("MLP", OPEN), QUALIFIED),
    "harmless in both": (loss("CNN", KEEPS) | loss("MLP", Interval(0, -0.99, 1)), NOT_SUPPORTED),
    "it helps in both": (loss("CNN", Interval(3, 2, 4)) | loss("MLP", Interval(3, 2, 4)), NOT_SUPPORTED),
    "a point at most in one, harmless in the other": (
        loss("CNN", KEEPS) | loss("MLP", Interval(-0.5, -1, 0)),
        NOT_TESTABLE,
    ),
    "clear in none": (loss("CNN", OPEN) | loss("MLP", OPEN), NOT_TESTABLE),
    "the network does not learn": ({"CNN, batch norm, batches of 64": Interval(60, 49.9, 70)}, NOT_TESTABLE),
    "the comparison does not learn": ({"MLP, group norm, batches of 64": Interval(20, 10, 30)}, NOT_TESTABLE),
    "it learns only just": ({"CNN, batch norm, batches of 64": Interval(60, 50, 70)}, SUPPORTED),
    "without a norm it does not learn": ({"CNN, none, batches of 64": Interval(10, 9, 11)}, SUPPORTED),
    "small batches do not learn": ({"MLP, batch norm, batches of 2": Interval(10, 9, 11)}, SUPPORTED),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rule(case):
    changes, verdict = CASES[case]
    assert judge(findings(changes)).verdict == verdict


def test_the_reason_names_what_decides_with_its_numbers():
    reason = judge(findings(loss("CNN", KEEPS) | excess("MLP", OPEN))).because
    assert (
        "more than 1 point is not shown for the CNN." in reason and "In the MLP, group norm may lose as much." in reason
    )
    assert "batch norm -5.0 (-7.0 to -3.0) points (-5.0 at 4, -5.0 at 8, -5.0 at 16, -5.0 at 32)" in reason
    assert "group norm +0.0 (-0.9 to +0.9) points; precise statistics give back 1.2 of" in reason and "77.7 %" in reason
    low = judge(findings({"CNN, batch norm, batches of 64": Interval(40, 30, 50)})).because
    assert "CNN, batch norm, batches of 64" in low and "MLP" not in low


def test_the_rule_has_an_answer_to_any_numbers():
    rng = np.random.default_rng(0)
    for _ in range(300):
        numbers = {key: np.sort(rng.normal(0 if "−" in key[0] else 80, 3, 3)) for key in findings()}
        judge(Findings([Measurement(*key, Interval(b, a, c)) for key, (a, b, c) in numbers.items()]))


def test_what_is_measured_of_made_up_trials():
    trials = {}
    for name in CLAIM.conditions:
        values = {ACCURACY: [96.0, 98.0]}
        if "batch norm" in name:
            values |= {PRECISE: [96.0, 97.0], OWN: [95.0, 95.0]}
        trials[name] = Trial(values)
    trials["MLP, batch norm, batches of 2"] = Trial({ACCURACY: [86.0, 90.0], PRECISE: [91.0, 94.0], OWN: [80.0, 70.0]})
    trials["MLP, group norm, batches of 2"] = Trial({ACCURACY: [95.0, 99.0]})
    found = {(m.condition, m.quantity): m for m in measure(trials)}
    assert found["MLP, batch norm, batches of 2", GIVEN_BACK].values == (5, 4)
    assert found["MLP, batch norm, batches of 2", OWN].values == (80, 70)
    assert found["MLP, batch norm, batches of 2 − 64", DIFFERENCE].values == (-10, -8)
    assert found["MLP, batch norm, batches of 2 − 64", PRECISE_DIFFERENCE].values == (-5, -3)
    assert found["MLP, batch norm, batches of 2 − 64", SHARE].interval.estimate == pytest.approx(0.5)
    assert found["MLP, group norm, batches of 2 − 64", DIFFERENCE].values == (-1, 1)
    assert found["MLP, batch norm − group norm, batches of 2 − 64", DIFFERENCE].values == (-9, -9)
    assert found["CNN, none, batches of 8 − 64", DIFFERENCE].values == (0, 0)
    assert found["MLP, group norm − batch norm, batches of 2", DIFFERENCE].values == (9, 9)
    assert found["CNN, instance norm − batch norm, batches of 64", DIFFERENCE].values == (0, 0)
    assert not any("batches of 64 − 64" in condition for condition, _ in found)
    judge(Findings(list(found.values())))  # finds all that it needs


# Networks and statistics


def cnns(norm, count=3):
    torch.manual_seed(0)
    networks = [CNN(1, 8, NORMS["CNN"][norm]) for _ in range(count)]
    for network in networks:
        for param in network.parameters():
            nn.init.normal_(param, 0.1, 0.3)
    return networks


@pytest.mark.parametrize("norm", NORMS["CNN"])
def test_stacked_cnns_compute_what_they_compute_alone(norm):
    networks = cnns(norm)
    x, alone = torch.randn(3, 6, 1, 8, 8), copy.deepcopy(networks)
    whole = stack(networks)
    outputs = whole(x)
    expected = torch.stack([network(images) for network, images in zip(alone, x, strict=True)])
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    unstack(whole, networks)
    for network, other in zip(networks, alone, strict=True):
        torch.testing.assert_close(network.state_dict(), other.state_dict())
        torch.testing.assert_close(network.eval()(x[0]), other.eval()(x[0]), rtol=1e-4, atol=1e-5)


def test_a_sweep_of_cnns_trains_each_as_it_would_be_trained_alone():
    data = digits(validation=20, test=1740)
    options = {"epochs": 2, "batch_size": 8}
    runs = sweep(
        lambda: CNN(1, 8, nn.BatchNorm2d), data, learning_rates=[0.01, 0.1], seeds=[3, 4], progress=False, **options
    )
    torch.manual_seed(4)
    network = CNN(1, 8, nn.BatchNorm2d)
    history = fit(network, *data.train, learning_rate=0.1, seed=4, progress=False, **options)
    assert history.step_loss == pytest.approx(runs.histories[1][1].step_loss, rel=1e-3)


def test_precise_statistics_are_the_mean_of_those_of_large_batches(monkeypatch):
    monkeypatch.setattr(batch_size, "LARGE_BATCH", 8)
    torch.manual_seed(0)
    network, x = MLP([5, 4, 3, 2], nn.BatchNorm1d), torch.randn(20, 5)
    network(x[:6])
    before = copy.deepcopy(network.state_dict())
    precise = with_precise_statistics(network, x)
    hidden = [network.layers.linear1(batch) for batch in (x[:7], x[7:14], x[14:])]
    first = precise.layers.norm1
    torch.testing.assert_close(first.running_mean, torch.stack([h.mean(0) for h in hidden]).mean(0))
    torch.testing.assert_close(first.running_var, torch.stack([h.var(0) for h in hidden]).mean(0))
    normed = [torch.relu((h - h.mean(0)) / (h.var(0, unbiased=False) + 1e-5).sqrt()) for h in hidden]
    means = torch.stack([network.layers.linear2(h).mean(0) for h in normed]).mean(0)
    torch.testing.assert_close(precise.layers.norm2.running_mean, means)
    torch.testing.assert_close(network.state_dict(), before)
    torch.testing.assert_close(dict(precise.named_parameters()), dict(network.named_parameters()))


def test_in_training_mode_each_batch_has_its_own_statistics_and_the_network_stays_as_it_is():
    norm = nn.BatchNorm1d(3).eval()
    x, before = torch.arange(15.0).view(5, 3) ** 2, copy.deepcopy(norm.state_dict())
    outputs = in_training_mode(norm, x, 2)
    torch.testing.assert_close(outputs[:2].abs(), torch.ones(2, 3))  # ±1, whatever the values
    joined = (x[2:] - x[2:].mean(0)) / (x[2:].var(0, unbiased=False) + 1e-5).sqrt()  # none alone in a batch
    torch.testing.assert_close(outputs[2:], joined)
    torch.testing.assert_close(norm.state_dict(), before)
    assert not norm.training and not outputs.requires_grad


def test_denormal_numbers_are_lost_in_training_and_nowhere_else():
    tiny = torch.tensor([1e-39])
    with batch_size._without_denormals():
        pass
    assert (tiny * 1).item() > 0


def test_a_tiny_run_becomes_an_entry(monkeypatch):
    monkeypatch.setattr(batch_size, "EPOCHS", 1)
    monkeypatch.setattr(batch_size, "HIDDEN", [8])
    monkeypatch.setattr(batch_size, "CHANNELS", [4, 4])
    monkeypatch.setattr(
        Setting, "parts", lambda _, form: lambda seed: digits(form, validation=1640, test=40, seed=seed)
    )
    setting = Setting(seeds=(1000, 1001), learning_rates=(2**-6, 0.25))
    trials = {name: run(setting) for name, run in CLAIM.conditions.items()}
    entry = record.entry(CLAIM, trials, setting, "test")
    assert entry["seeds"] == [1000, 1001] and entry["because"]
    names = {m["condition"] for m in entry["measurements"]}
    assert set(CLAIM.conditions) <= names
    assert PRECISE in trials["CNN, batch norm, batches of 8"].values
    assert PRECISE not in trials["CNN, group norm, batches of 8"].values
    assert trials["CNN, none, batches of 64"].grid == [2**-6, 0.25]
