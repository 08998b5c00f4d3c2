"""Claim 12, the transformer: its rule and its windows on made-up numbers, its tables, and one tiny run."""

import math

import numpy as np
import pytest
import torch

from bncourse import data
from bncourse.claims import record, transformer
from bncourse.claims.claim import NOT_SUPPORTED, NOT_TESTABLE, QUALIFIED, SUPPORTED, Findings, Measurement
from bncourse.claims.experiment import Setting, Trial
from bncourse.claims.learning_rate import at
from bncourse.claims.statistics import Interval
from bncourse.claims.transformer import (
    CEILING,
    CLAIM,
    DIFFERENCE,
    GAIN,
    GAP,
    LARGEST,
    LEARNS,
    LOSS,
    MODES,
    NETWORKS,
    PLACES,
    TABLES,
    TRAINING_DIFFERENCE,
    TRAINING_LOSS,
    VALIDATION,
    WINDOW,
    Decaying,
    counted,
    curve_at,
    gradient_of,
    judge,
    measure,
    table_loss,
)
from bncourse.data import Part

# The rule

ALIKE, WORSE, UNCLEAR = Interval(0, -0.0199, 0.0199), Interval(0.05, 0.0201, 0.08), Interval(0.02, -0.01, 0.05)
BETTER = Interval(-0.05, -0.08, -0.02)
FAR, NEAR, MAYBE = Interval(1.0, 0.1, 1.9), Interval(0.4, -0.2, 0.99), Interval(0.8, 0.2, 1.4)
LEARNED, UNLEARNED = Interval(0.2, 0.1, 0.3), Interval(0.2, 0.0999, 0.3)
NO, SOME = Interval(0, 0, 0.4), Interval(0.2, 0.04, 0.6)


def findings(*, rms=(ALIKE, ALIKE), bn=(WORSE, WORSE), gaps=(FAR, FAR), gains=(LEARNED, LEARNED), ceilings=None):
    """All parts are shown, but for changes; pairs are pre and post, or layer norm and RMS norm."""
    made = {("none − layer norm, pre", DIFFERENCE): BETTER, ("pre − post, batch norm", GAP): NEAR}
    for place, r, b, gain in zip(PLACES, rms, bn, gains, strict=True):
        made[f"RMS norm − layer norm, {place}", DIFFERENCE] = r
        made[f"batch norm − layer norm, {place}", DIFFERENCE] = b
        made[f"batch norm, {place}", MODES] = Interval(-0.015, -0.03, 0)
        made[f"layer norm, {place}", GAIN] = gain
    for norm, gap in zip(("layer norm", "RMS norm"), gaps, strict=True):
        made[f"pre − post, {norm}", GAP] = gap
        for place in PLACES:
            name = f"{norm}, {place}"
            made[name, CEILING] = (ceilings or {}).get(name, NO)
    return Findings([Measurement(*key, interval) for key, interval in made.items()])


RMS_OPEN, RMS_REFUTED = {"rms": (ALIKE, UNCLEAR)}, {"rms": (ALIKE, WORSE)}
BN_OPEN, BN_REFUTED = {"bn": (WORSE, UNCLEAR)}, {"bn": (ALIKE, ALIKE)}
GAP_OPEN, GAP_REFUTED = {"gaps": (FAR, MAYBE)}, {"gaps": (NEAR, NEAR)}
CASES = {
    "all shown": ({}, SUPPORTED),
    # RMS norm
    "RMS norm as pre-norm is not clear": ({"rms": (UNCLEAR, ALIKE)}, QUALIFIED),
    "RMS norm at the margin above": ({"rms": (ALIKE, Interval(0, -0.01, 0.02))}, QUALIFIED),
    "RMS norm at the margin below": ({"rms": (ALIKE, Interval(0, -0.02, 0.01))}, QUALIFIED),
    # Batch norm
    "batch norm as pre-norm is not clear": ({"bn": (UNCLEAR, WORSE)}, QUALIFIED),
    "batch norm at the margin": ({"bn": (WORSE, Interval(0.05, 0.02, 0.08))}, QUALIFIED),
    "batch norm worse in one place, alike in the other": ({"bn": (WORSE, ALIKE)}, QUALIFIED),
    # Rates
    "with RMS norm rates are not clear": (GAP_OPEN, QUALIFIED),
    "with layer norm rates are not clear": ({"gaps": (MAYBE, FAR)}, QUALIFIED),
    "the gap may be none": ({"gaps": (FAR, Interval(1.2, 0, 2.4))}, QUALIFIED),
    "the gap is less than an octave": ({"gaps": (Interval(0.99, 0.1, 1.9), FAR)}, QUALIFIED),
    "pre-norm learns at the highest rate": ({"ceilings": {"layer norm, pre": SOME}}, SUPPORTED),
    "post-norm learns at the highest rate": ({"ceilings": {"RMS norm, post": SOME}}, QUALIFIED),
    # Two and more
    "one refuted, two shown": (BN_REFUTED, QUALIFIED),
    "one refuted, one shown": (BN_REFUTED | RMS_OPEN, QUALIFIED),
    "two refuted, one shown": (BN_REFUTED | GAP_REFUTED, NOT_SUPPORTED),
    "RMS norm and batch norm refuted": (BN_REFUTED | RMS_REFUTED, NOT_SUPPORTED),
    "RMS norm better is not alike": (BN_REFUTED | {"rms": (BETTER, ALIKE)}, NOT_SUPPORTED),
    "RMS norm unlike only just": (BN_REFUTED | {"rms": (ALIKE, Interval(0.03, 0.02, 0.04))}, NOT_SUPPORTED),
    "RMS norm only nearly unlike": (BN_REFUTED | {"rms": (ALIKE, Interval(0.03, 0.0199, 0.04))}, QUALIFIED),
    "all refuted": (RMS_REFUTED | BN_REFUTED | GAP_REFUTED, NOT_SUPPORTED),
    "one refuted, two open": (BN_REFUTED | RMS_OPEN | GAP_OPEN, NOT_SUPPORTED),
    "batch norm better is refuted too": ({"bn": (BETTER, ALIKE)} | RMS_OPEN | GAP_OPEN, NOT_SUPPORTED),
    "batch norm alike in one place only": ({"bn": (ALIKE, UNCLEAR)} | RMS_OPEN | GAP_OPEN, NOT_TESTABLE),
    "batch norm at the margin is not refuted": (
        {"bn": (ALIKE, Interval(0, -0.02, 0.02))} | RMS_OPEN | GAP_OPEN,
        NOT_TESTABLE,
    ),
    "rates refuted, two open": (GAP_REFUTED | RMS_OPEN | BN_OPEN, NOT_SUPPORTED),
    "rates nearly refuted": ({"gaps": (NEAR, Interval(0.4, -0.2, 1.0))} | RMS_OPEN | BN_OPEN, NOT_TESTABLE),
    "rates refuted with one norm": ({"gaps": (NEAR, FAR)} | RMS_OPEN | BN_OPEN, NOT_TESTABLE),
    "rates not refuted where the grid ends": (
        GAP_REFUTED | RMS_OPEN | BN_OPEN | {"ceilings": {"RMS norm, pre": SOME}},
        NOT_TESTABLE,
    ),
    "all open": (RMS_OPEN | BN_OPEN | GAP_OPEN, NOT_TESTABLE),
    # Where layer norm does not learn, nothing is compared with it
    "layer norm learns in neither place": ({"gains": (UNLEARNED, UNLEARNED)}, NOT_TESTABLE),
    "post-norm does not learn, and is left out": (
        {"gains": (LEARNED, UNLEARNED), "rms": (ALIKE, WORSE), "bn": (WORSE, ALIKE)},
        SUPPORTED,
    ),
    "pre-norm does not learn, and is left out": (
        {"gains": (UNLEARNED, LEARNED), "rms": (WORSE, ALIKE), "bn": (ALIKE, WORSE)},
        SUPPORTED,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rule(case):
    changes, verdict = CASES[case]
    assert judge(findings(**changes)).verdict == verdict


def test_the_reason_names_the_parts_that_fail_and_the_numbers():
    reason = judge(findings(**BN_REFUTED, **GAP_OPEN)).because
    assert "Refuted: that batch norm serves worse than layer norm." in reason
    assert "Not shown: that pre-norm stands larger learning rates than post-norm." in reason
    assert "RMS norm +0.000 (-0.020 to +0.020) as pre-norm" in reason and "no norm -0.050 (-0.080 to -0.020)" in reason
    assert "-0.015 (pre)" in reason and "1.0 (0.1 to 1.9) with layer norm" in reason
    assert "0.4 (-0.2 to 1.0) with batch norm" in reason
    whole = judge(findings()).because
    assert "Refuted" not in whole and "Not shown" not in whole and "is not shown" not in whole
    assert "That layer norm learns as post-norm is not shown." in judge(findings(gains=(LEARNED, UNLEARNED))).because
    assert "0.20 (0.10 to 0.30) nats as pre-norm" in judge(findings(gains=(UNLEARNED, UNLEARNED))).because


def test_the_rule_has_an_answer_to_any_numbers():
    rng = np.random.default_rng(0)
    scales = {DIFFERENCE: (0, 0.03), MODES: (0, 0.03), GAIN: (0.15, 0.1), GAP: (1, 1), CEILING: (0, 1)}
    verdicts = set()
    for _ in range(1000):
        numbers = {key: np.sort(rng.normal(*scales[key[1]], 3)) for key in findings()}
        verdicts.add(
            judge(Findings([Measurement(*key, Interval(b, a, c)) for key, (a, b, c) in numbers.items()])).verdict
        )
    assert len(verdicts) >= 3


# What is made of the trials

RATES = [0.25, 0.5, 1.0, 2.0]


def trials():
    """Two seeds; each network has a loss of its own, and learns up to a rate of its own."""
    made = {}
    for i, name in enumerate(NETWORKS):
        learns = {0.25: [0.0, 1.0], 0.5: [1.0, 1.0], 1.0: [float(i < 2), 1.0], 2.0: [0.0, float(i == 0)]}
        values = {LOSS: [0.7 + i / 100, 0.6], TRAINING_LOSS: [0.7, 0.5 - i / 100], GAIN: [0.2, 0.3]}
        values |= {at(LEARNS, rate): seeds for rate, seeds in learns.items()}
        made[name] = Trial(values, 0.5, RATES[::-1])
    return made


def found_in(measurements, condition, quantity):
    (found,) = [m for m in measurements if (m.condition, m.quantity) == (condition, quantity)]
    return found


def test_measure_compares_seed_by_seed():
    assert list(NETWORKS)[:2] == ["layer norm, pre", "layer norm, post"] and list(NETWORKS)[-1] == "none"
    found = measure(trials())

    def values(condition, quantity):
        return pytest.approx(found_in(found, condition, quantity).values)

    assert values("RMS norm − layer norm, pre", DIFFERENCE) == (0.02, 0)
    assert values("batch norm − layer norm, post", DIFFERENCE) == (0.04, 0)
    assert values("batch norm − layer norm, post", TRAINING_DIFFERENCE) == (0, -0.04)
    assert values("none − layer norm, pre", DIFFERENCE) == (0.06, 0)
    assert values("pre − post, RMS norm", DIFFERENCE) == (-0.01, 0)
    assert values("batch norm, pre", MODES) == (-0.04, -0.14)
    assert values("layer norm, pre", LARGEST) == (0, 1) and values("layer norm, pre", WINDOW) == (2, 4)
    assert values("layer norm, post", LARGEST) == (0, 0) and values("layer norm, post", WINDOW) == (2, 3)
    assert values("RMS norm, pre", LARGEST) == (-1, 0)
    assert values("pre − post, layer norm", GAP) == (0, 1)
    assert values("RMS norm − layer norm, pre", GAP) == (-1, -1)


def test_measure_counts_the_seeds_that_learn_and_windows_that_the_grid_cuts():
    found = measure(trials())
    assert found_in(found, "layer norm, pre", CEILING).interval.estimate == 0.5
    assert found_in(found, "layer norm, post", CEILING).interval.estimate == 0
    learns = found_in(found, "none", at(LEARNS, 1.0))
    assert learns.interval.estimate == 0.5 and learns.values == ()
    judge(Findings(found))  # finds all that it needs


# The task and the training


def test_frequencies_are_counted_by_what_they_are_given(monkeypatch):
    monkeypatch.setattr(transformer, "SIDE", 1)
    monkeypatch.setattr(transformer, "LEVELS", 2)
    train = Part(torch.tensor([[2], [2], [2], [5]]), torch.tensor([[0], [0], [1], [1]]))
    part = Part(torch.tensor([[2], [5]]), torch.tensor([[0], [1]]))
    half = 3 / 6, 3 / 6  # each is seen twice, and once more
    by_class = 3 / 5, 2 / 3  # 0 after 2: two of three, 1 after 5: one of one
    for given, shares in zip(TABLES, (half, by_class, by_class), strict=True):
        assert table_loss(train, part, given) == pytest.approx(-np.log(shares).mean()), given


def test_tables_look_at_the_position_the_token_before_or_the_class():
    x = torch.tensor([[7, 1, 2], [9, 3, 4]])
    nothing, before, kind = (context(x).tolist() for context in TABLES.values())
    assert nothing == [[0] * 3] * 2 and before == x.tolist() and kind == [[7] * 3, [9] * 3]


def test_the_task_is_neither_solved_by_frequencies_nor_noise():
    losses = [transformer.frequencies(given, Setting(seeds=(1000, 1001))).values[LOSS] for given in TABLES]
    by_position, before, kind = np.array(losses)
    assert (by_position < math.log(5) - 0.5).all() and (before < by_position).all()
    assert (kind < by_position - transformer.LEARNED).all()


def test_the_rate_falls_in_a_straight_line():
    param = torch.nn.Parameter(torch.zeros(1))
    optimizer = Decaying([param], lr=0.8, steps=4)
    places = [0.0]
    for _ in range(6):
        param.grad = torch.ones(1)  # Adam's steps are then as long as its rate
        optimizer.step()
        places.append(param.item())
    assert np.diff(places) == pytest.approx([-0.8, -0.6, -0.4, -0.2, 0, 0], abs=1e-5)


def test_what_is_not_finite_counts_as_the_highest_loss():
    assert counted(np.array([0.5, 11.0, math.nan, math.inf])).tolist() == [0.5, 10, 10, 10]


def test_gradients_are_those_of_the_whole_block():
    setting = Setting(seeds=(1000, 1001))
    values = transformer.gradients("layer norm", "post", setting).values
    torch.manual_seed(1001)
    network = transformer._network("layer norm", "post")
    x, y = data.as_tokens(data.digits(seed=1001)).train
    parameters = list(network.blocks[1].parameters())
    loss = torch.nn.functional.cross_entropy(network(x[:1024]).mT, y[:1024])
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
    assert values[gradient_of(2)][1] == pytest.approx(gradient.norm().item(), rel=1e-4)
    assert list(values) == [gradient_of(block) for block in (1, 2, 3)]


# A small run of everything


@pytest.fixture
def quick(monkeypatch):
    for name, value in {"EPOCHS": 2, "WIDTH": 8, "BLOCKS": 1, "BATCH_SIZE": 64, "LEARNED": -0.15}.items():
        monkeypatch.setattr(transformer, name, value)
    return Setting(seeds=(1000, 1001), learning_rates=(1e30, 1e-6, 2.0**-5))


def test_a_small_run_gives_a_verdict(quick):
    made = {name: Trial.from_json(condition(quick).to_json()) for name, condition in CLAIM.conditions.items()}
    entry = record.entry(CLAIM, made, quick, "test")
    assert entry["verdict"] == judge(Findings(measure(made))).verdict
    assert entry["seeds"] == [1000, 1001]
    assert made["batch norm, pre"].values[TRAINING_LOSS] != made["batch norm, pre"].values[LOSS]
    assert made["RMS norm, pre"].values[TRAINING_LOSS] == pytest.approx(made["RMS norm, pre"].values[LOSS], rel=1e-5)
    trial = made["layer norm, post"]
    assert trial.learning_rate == 2**-5 and curve_at(2) in trial.values and curve_at(3) not in trial.values
    assert trial.values[curve_at(2)] == trial.values[at(VALIDATION, 2.0**-5)] != trial.values[curve_at(1)]
    assert max(trial.values[at(VALIDATION, 1e30)]) <= 10 and trial.values[at(LEARNS, 1e30)] == [0, 0]
    parts = [data.as_tokens(data.digits(seed=seed)) for seed in quick.seeds]
    needed = [table_loss(d.train, d.validation, "position") + 0.15 for d in parts]
    for rate in quick.learning_rates:
        assert trial.values[at(LEARNS, rate)] == [
            v < n for v, n in zip(trial.values[at(VALIDATION, rate)], needed, strict=True)
        ]
    assert trial.values[at(LEARNS, 2.0**-5)] == [1, 1] and trial.values[at(LEARNS, 1e-6)] == [0, 0]
    gains = [table_loss(d.train, d.test, "position") - loss for d, loss in zip(parts, trial.values[LOSS], strict=True)]
    assert trial.values[GAIN] == pytest.approx(gains)
    assert made["frequencies by position"].values[LOSS] == pytest.approx(np.add(trial.values[LOSS], gains).tolist())


def test_a_run_learns_if_it_is_far_enough_below_the_frequencies_of_its_validation_part(quick, monkeypatch):
    alone = Setting(seeds=(1000,), learning_rates=(2.0**-5,))
    train, validation, _ = data.as_tokens(data.digits(seed=1000))
    (reached,) = transformer.run("layer norm", "pre", alone).values[at(VALIDATION, 2.0**-5)]
    gain = table_loss(train, validation, "position") - reached
    for needed, learns in ((gain - 1e-4, [1]), (gain + 1e-4, [0])):
        monkeypatch.setattr(transformer, "LEARNED", needed)
        assert transformer.run("layer norm", "pre", alone).values[at(LEARNS, 2.0**-5)] == learns


def test_post_norm_has_its_norm_after_the_addition():
    assert not transformer._network("layer norm", "post").blocks[0].norm_first
    assert transformer._network("RMS norm", "pre").blocks[0].norm_first
    assert isinstance(transformer._network("batch norm", "pre").last_norm.norm, torch.nn.BatchNorm1d)
