"""Claim 9, placement: its rule on made-up numbers, and one tiny run."""

import numpy as np
import pytest
import torch
from torch import nn

from bncourse.claims import placement, record
from bncourse.claims.claim import NOT_SUPPORTED, NOT_TESTABLE, QUALIFIED, SUPPORTED, Findings, Measurement
from bncourse.claims.experiment import Setting, Trial
from bncourse.claims.placement import ACCURACY, ACTIVATIONS, CLAIM, DIFFERENCE, PLACES, judge, measure
from bncourse.claims.statistics import Interval

GOOD, BAD, UNCLEAR = Interval(96, 95, 97), Interval(50, 40, 60), Interval(90, 85, 95)
NOWHERE = {f"{a}, {p}": BAD for a in ACTIVATIONS for p in PLACES}


def findings(changes=None):
    """Every network trains, and places are as good as each other; but for changes, by condition."""
    made = {(f"{a}, {p}", ACCURACY): GOOD for a in ACTIVATIONS for p in PLACES}
    made |= {(f"{a}, after − before", DIFFERENCE): Interval(0.2, -0.3, 0.7) for a in ACTIVATIONS}
    for condition, interval in (changes or {}).items():
        made[condition, DIFFERENCE if "−" in condition else ACCURACY] = interval
    return Findings([Measurement(*key, interval) for key, interval in made.items()])


CASES = {
    "both places are as good": ({}, SUPPORTED),
    "without it nothing trains": ({f"{a}, none": BAD for a in ACTIVATIONS}, SUPPORTED),
    "at the threshold": ({"ReLU, before": Interval(92, 90, 94)}, SUPPORTED),
    "differences close to the limits": (
        {"tanh, after − before": Interval(0, -0.99, 0.99)},
        SUPPORTED,
    ),
    "as much as a point better": ({"tanh, after − before": Interval(0.5, 0.1, 1.0)}, QUALIFIED),
    "as much as a point worse": ({"sigmoid, after − before": Interval(-0.5, -1.0, -0.1)}, QUALIFIED),
    "surely better": ({"ReLU, after − before": Interval(3, 2, 4)}, QUALIFIED),
    "surely worse": ({"ReLU, after − before": Interval(-3, -4, -2)}, QUALIFIED),
    "one place is unclear": ({"tanh, after": UNCLEAR}, QUALIFIED),
    "one place only just unclear": ({"tanh, before": Interval(80, 70, 90)}, QUALIFIED),
    "one place fails": ({"tanh, before": Interval(80, 70, 89.9)}, NOT_SUPPORTED),
    "the other place fails": ({"sigmoid, after": BAD}, NOT_SUPPORTED),
    "both fail where none trains": ({"ReLU, before": BAD, "ReLU, after": BAD}, NOT_SUPPORTED),
    "an activation with which nothing trains": ({f"tanh, {p}": BAD for p in PLACES}, QUALIFIED),
    "one fails, the other is unclear": (
        {"tanh, before": BAD, "tanh, after": UNCLEAR, "tanh, none": UNCLEAR},
        QUALIFIED,
    ),
    "nothing trains": (NOWHERE, NOT_TESTABLE),
    "nothing trains for sure": (dict.fromkeys(NOWHERE, Interval(91, 89.9, 92)), NOT_TESTABLE),
    "one network alone trains": (NOWHERE | {"ReLU, before": GOOD}, NOT_SUPPORTED),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rule(case):
    changes, verdict = CASES[case]
    assert judge(findings(changes)).verdict == verdict


def test_the_reason_names_what_decides_with_its_numbers():
    assert "fails with batch norm before tanh (50.0 %)" in judge(findings({"tanh, before": BAD})).because
    reason = judge(findings({"ReLU, after − before": Interval(3, 2, 4)})).because
    assert "with ReLU they may differ by more than 1 point" in reason and "+3.0 (+2.0 to +4.0) with ReLU" in reason
    assert judge(findings({"tanh, after": UNCLEAR})).because.startswith("With batch norm after tanh the network")
    assert "-0.3 to +0.7) with sigmoid" in judge(findings()).because
    assert "60.0 %" in judge(findings(NOWHERE | {"ReLU, none": Interval(60, 50, 70)})).because


def test_the_rule_has_an_answer_to_any_numbers():
    rng = np.random.default_rng(0)
    for _ in range(300):
        numbers = {
            key[0]: np.sort(rng.normal(90, 10, 3) if key[1] == ACCURACY else rng.normal(0, 1, 3)) for key in findings()
        }
        judge(findings({name: Interval(*map(float, (b, a, c))) for name, (a, b, c) in numbers.items()}))


def test_differences_are_after_minus_before_seed_by_seed():
    trials = {f"{a}, {p}": Trial({ACCURACY: [90.0, 92.0]}) for a in ACTIVATIONS for p in PLACES}
    trials["tanh, after"] = Trial({ACCURACY: [91.0, 95.0]})
    found = {(m.condition, m.quantity): m for m in measure(trials)}
    assert found["tanh, after − before", DIFFERENCE].values == (1, 3)
    assert found["tanh, after − before", DIFFERENCE].interval.estimate == 2
    assert found["ReLU, after − before", DIFFERENCE].values == (0, 0)
    assert found["tanh, after", ACCURACY].values == (91, 95) and found["tanh, after", ACCURACY].interval.estimate == 93
    judge(Findings(list(found.values())))  # finds all that it needs


def test_the_norm_stands_where_the_condition_says(monkeypatch):
    networks = []

    def tune(make, setting, **options):
        torch.manual_seed(0)
        networks.append(make())
        raise InterruptedError

    monkeypatch.setattr(placement, "tune", tune)
    for run in CLAIM.conditions.values():
        with pytest.raises(InterruptedError):
            run(Setting())
    made = dict(zip(CLAIM.conditions, networks, strict=True))
    kinds = {"ReLU": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    for name, network in made.items():
        activation, place = name.split(", ")
        second = list(network.layers)[2 if place == "none" else 3 :][: 2 if place == "none" else 3]
        norm = [] if place == "none" else [nn.BatchNorm1d]
        order = [*norm, kinds[activation]] if place == "before" else [kinds[activation], *norm]
        assert [type(module) for module in second] == [nn.Linear, *order]
        assert (second[0].bias is None) == (place == "before")
    deviations = [made[f"{a}, none"].layers.linear2.weight.std().item() for a in ACTIVATIONS]
    assert deviations == pytest.approx([2**0.5 / 8, 5 / 3 / 8, 4 / 8], rel=0.05)


def test_a_tiny_run_becomes_an_entry(monkeypatch):
    monkeypatch.setattr(placement, "EPOCHS", 1)
    monkeypatch.setattr(placement, "HIDDEN", [8])
    setting = Setting(seeds=(1000, 1001), learning_rates=(0.1,))
    trials = {name: run(setting) for name, run in CLAIM.conditions.items()}
    entry = record.entry(CLAIM, trials, setting, "test")
    assert entry["verdict"] == NOT_TESTABLE and entry["seeds"] == [1000, 1001]
    assert entry["conditions"]["tanh, after"]["grid"] == [0.1]
    assert len(entry["measurements"]) == 12
