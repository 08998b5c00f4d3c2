"""Claim 12, causality: its rule on made-up numbers, its probes, and one tiny run."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bncourse.claims import causality, record
from bncourse.claims.causality import (
    ACCURACY,
    ALONE,
    CLAIM,
    COPYING,
    DIFFERENCE,
    LOSS,
    PROBE_SIZES,
    PROBES,
    TRAINED,
    TRAINING_ACCURACY,
    TRAINING_LOSS,
    judge,
    measure,
    movement,
    probe,
    random_tokens,
)
from bncourse.claims.claim import NOT_SUPPORTED, NOT_TESTABLE, QUALIFIED, Findings, Measurement
from bncourse.claims.experiment import Setting, Trial
from bncourse.claims.statistics import Interval

HONEST = math.log(2)
LEARNS, STILL, MOVED = Interval(99, 98, 100), Interval(0, 0, 0), Interval(0.1, 0.05, 0.2)
UNUSED, USED, MAYBE = (Interval(HONEST - d, HONEST - d - 0.02, HONEST - d + 0.02) for d in (0, 0.3, 0.05))
AS_GOOD, WORSE, UNCLEAR = Interval(0, -0.9, 0.9), Interval(-5, -7, -3), Interval(-1, -3, 1)


def moves(size):
    return f"earlier logits move, batches of {size} (standard deviations)"


def findings(*, bn=WORSE, rms=AS_GOOD, ln_learns=LEARNS, uses=(USED, UNUSED, UNUSED), leaks=None):
    """Batch norm leaks, with one batch size networks use it, and it copies badly; but for changes."""
    leaks = {"leak, batch norm in training": [MOVED] * 4, "leak, group norm": [MOVED] * 4} | (leaks or {})
    made = {
        (name, moves(size)): interval
        for name in PROBES
        for size, interval in zip(PROBE_SIZES, leaks.get(name, [STILL] * 4), strict=True)
    }
    for norm, size in TRAINED:
        made[f"random tokens, {norm}, batches of {size}", TRAINING_LOSS] = UNUSED
        made[f"random tokens, {norm}, batches of {size}", LOSS] = Interval(2.5, 2, 3)
    for size, interval in zip(causality.LEAK_SIZES, uses, strict=True):
        made[f"random tokens, batch norm, batches of {size}", TRAINING_LOSS] = interval
    for norm in COPYING:
        made[f"copying, {norm}", ACCURACY] = ln_learns
    for norm, interval in zip(COPYING[1:], (rms, bn, AS_GOOD), strict=True):
        made[f"copying, {norm} − layer norm", DIFFERENCE] = interval
    return Findings([Measurement(*key, interval) for key, interval in made.items()])


TIGHT = {"leak, batch norm in training": [Interval(5e-4, 0, 1e-3)] * 4}
NOT_USED = (UNUSED,) * 3
CASES = {
    "both reasons": ({}, QUALIFIED),
    "both only just": (
        {"bn": Interval(-2, -3, -1.01), "uses": (UNUSED, UNUSED, Interval(0.6, 0.5, HONEST - 0.0501))},
        QUALIFIED,
    ),
    "with one batch size earlier logits move": (
        {"leaks": {"leak, batch norm in training": [STILL, STILL, Interval(0.01, 0.0011, 0.02), STILL]}},
        QUALIFIED,
    ),
    "a leak alone": ({"bn": AS_GOOD}, QUALIFIED),
    "a leak, and accuracy is not clear": ({"bn": UNCLEAR}, QUALIFIED),
    "a leak, and a point at most": ({"bn": Interval(-2, -3, -1)}, QUALIFIED),
    "accuracy alone, the leak is not used": ({"uses": NOT_USED}, QUALIFIED),
    "accuracy alone, nothing moves": ({"leaks": TIGHT}, QUALIFIED),
    "accuracy, and the use is not clear": ({"uses": (MAYBE, UNUSED, UNUSED)}, QUALIFIED),
    "use at the threshold": ({"uses": (Interval(0.6, 0.5, HONEST - 0.05), UNUSED, UNUSED)}, QUALIFIED),
    "both reasons, but RMS norm is worse": ({"rms": WORSE}, QUALIFIED),
    "both reasons, but RMS norm may be a point worse": ({"rms": Interval(0, -1, 1)}, QUALIFIED),
    "both reasons, but RMS norm leaks": ({"leaks": {"leak, RMS norm": [MOVED] * 4}}, QUALIFIED),
    "both refuted": ({"uses": NOT_USED, "bn": AS_GOOD}, NOT_SUPPORTED),
    "both refuted only just": (
        {"uses": (Interval(0.67, HONEST - 0.05, 0.7),) * 3, "bn": Interval(0, -0.99, 9)},
        NOT_SUPPORTED,
    ),
    "nothing moves, so what is used is no leak": ({"leaks": TIGHT, "bn": AS_GOOD}, NOT_SUPPORTED),
    "both refuted, RMS norm does not matter": (
        {"uses": NOT_USED, "bn": AS_GOOD, "rms": WORSE},
        NOT_SUPPORTED,
    ),
    "neither shown nor refuted": ({"uses": (MAYBE,) * 3, "bn": UNCLEAR}, NOT_TESTABLE),
    "one refuted, the other not clear": ({"uses": NOT_USED, "bn": UNCLEAR}, NOT_TESTABLE),
    "accuracy as good, the use not clear": ({"uses": (MAYBE, UNUSED, UNUSED), "bn": AS_GOOD}, NOT_TESTABLE),
    "one refuted, the other a point at most": ({"uses": NOT_USED, "bn": Interval(0, -1, 1)}, NOT_TESTABLE),
    "what moves is at the threshold": (
        {"leaks": {"leak, batch norm in training": [Interval(2e-3, 1e-3, 3e-3)] * 4}, "bn": AS_GOOD},
        NOT_TESTABLE,
    ),
    "layer norm does not learn": ({"ln_learns": Interval(92, 89.9, 94)}, NOT_TESTABLE),
    "layer norm learns only just": ({"ln_learns": Interval(92, 90, 94)}, QUALIFIED),
    "layer norm leaks": ({"leaks": {"leak, layer norm": [STILL, STILL, STILL, MOVED]}}, NOT_TESTABLE),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rule(case):
    changes, verdict = CASES[case]
    assert judge(findings(**changes)).verdict == verdict


def test_the_reason_names_what_decides_and_what_was_not_tested():
    reason = judge(findings(uses=(UNUSED, USED, UNUSED))).because
    assert "0.1 at 1, 0.1 at 4" in reason and "0.393 (0.373 to 0.413) in training mode with batches of 4" in reason
    assert "2.500 in evaluation mode" in reason and "batch norm -5.0 (-7.0 to -3.0)" in reason
    for changes, _ in CASES.values():
        assert "What papers and models use was not counted" in judge(findings(**changes)).because
    assert "That networks use a leak is not shown" in judge(findings(uses=NOT_USED)).because
    assert "There are reasons for the custom" in judge(findings()).because
    assert "RMS norm may not" in judge(findings(rms=WORSE)).because
    assert "RMS norm may not" in judge(findings(leaks={"leak, RMS norm": [MOVED] * 4})).because
    assert "more than 1 point less accurate is not shown" in judge(findings(bn=AS_GOOD)).because
    assert "more than 1 point less accurate is not shown" in judge(findings(bn=Interval(-2, -3, -1))).because
    tie = Interval(0.6, 0.5, HONEST - 0.05)
    assert "That networks use a leak is not shown" in judge(findings(uses=(tie, UNUSED, UNUSED))).because


def test_the_rule_has_an_answer_to_any_numbers():
    rng = np.random.default_rng(0)
    scales = {DIFFERENCE: (0, 2), ACCURACY: (95, 3), TRAINING_LOSS: (0.65, 0.1)}
    for _ in range(300):
        numbers = {key: np.sort(rng.normal(*scales.get(key[1], (0, 2e-3)), 3)) for key in findings()}
        judge(Findings([Measurement(*key, Interval(b, a, c)) for key, (a, b, c) in numbers.items()]))


def test_differences_are_to_layer_norm_seed_by_seed():
    trials = {name: Trial({moves(size): [0.0, 0.0] for size in PROBE_SIZES}) for name in PROBES}
    trials |= {
        f"random tokens, {n}, batches of {s}": Trial({TRAINING_LOSS: [0.7, 0.7], LOSS: [1, 2]}) for n, s in TRAINED
    }
    trials |= {f"copying, {norm}": Trial({ACCURACY: [98.0, 99.0]}) for norm in COPYING}
    trials["copying, batch norm"] = Trial({ACCURACY: [90.0, 95.0]})
    found = {(m.condition, m.quantity): m for m in measure(trials)}
    assert found["copying, batch norm − layer norm", DIFFERENCE].values == (-8, -4)
    assert found["copying, batch norm − layer norm", DIFFERENCE].interval.estimate == -6
    assert found["copying, none − layer norm", DIFFERENCE].values == (0, 0)
    assert found["random tokens, layer norm, batches of 4", LOSS].values == (1, 2)
    judge(Findings(list(found.values())))  # finds all that it needs


# The probe


class Peeking(nn.Module):
    """Adds the last token of the first sequence, times a number, to the first logit of all positions."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, tokens):
        logits = torch.nn.functional.one_hot(tokens, 2).float()
        logits[..., 0] += self.share * tokens[0, -1]
        return logits


def test_the_probe_measures_what_earlier_logits_gain_from_the_last_token():
    tokens = torch.randint(2, (4, 8), generator=torch.Generator().manual_seed(0))
    spread = Peeking(0.3)(tokens).std().item()
    assert movement(Peeking(0.3), tokens) == pytest.approx(0.3 / 2**0.5 / spread)  # one of two logits
    assert movement(Peeking(0), tokens) == 0  # though the logits of the last position itself change


def test_norms_within_a_position_do_not_leak_and_batch_norm_in_training_does():
    setting = Setting(seeds=(1000,))
    found = {name: probe(*arguments, setting).values for name, arguments in PROBES.items()}
    for name in ("leak, layer norm", "leak, RMS norm", "leak, batch norm in evaluation"):
        assert all(value[0] < 1e-5 for value in found[name].values()), name
    leak = [found["leak, batch norm in training"][moves(size)][0] for size in PROBE_SIZES]
    assert leak == sorted(leak, reverse=True) and leak[-1] > 1e-3  # the larger the batch, the thinner
    assert all(value[0] > 0.01 for value in found["leak, group norm"].values())
    assert probe("batch norm", True, setting).values == found["leak, batch norm in training"]


# Random tokens


def test_random_tokens_come_with_their_successors():
    train, validation, test = random_tokens(3, 1000)
    assert len(train.y) == 3 * causality.STEPS and len(validation.y) == len(test.y) == causality.HELD_OUT
    assert (train.x[:, 1:] == train.y[:, :-1]).all() and train.x.shape == train.y.shape == (len(train.y), 8)
    assert train.y.float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert not torch.equal(validation.x, test.x) and torch.equal(random_tokens(3, 1000).test.x, test.x)
    assert not torch.equal(random_tokens(3, 1001).test.x, test.x)


def test_the_rate_is_the_one_with_the_smallest_loss_in_training_mode(monkeypatch):
    monkeypatch.setattr(causality, "STEPS", 3)
    monkeypatch.setattr(causality, "HELD_OUT", 8)
    setting = Setting(seeds=(1000, 1001), learning_rates=(10.0, 1e-4, 1.0))
    trial = causality.use_of_leak("layer norm", 4, setting)
    assert trial.learning_rate == 1e-4 and trial.on_edge
    assert trial.values[TRAINING_LOSS] == pytest.approx(trial.values[LOSS], rel=1e-5)  # layer norm has one mode
    assert max(trial.values[LOSS]) < 1.5
    of_two_modes = causality.use_of_leak("batch norm", 4, setting).values
    assert np.abs(np.subtract(of_two_modes[TRAINING_LOSS], of_two_modes[LOSS])).min() > 1e-4


def test_what_is_not_finite_counts_as_the_worst():
    assert [causality._counted(x) for x in (0.5, math.nan, math.inf, 1e9)] == [0.5, 100, 100, 100]


def test_a_tiny_run_becomes_an_entry(monkeypatch):
    for name, value in {"STEPS": 4, "HELD_OUT": 8, "COPY_EPOCHS": 1, "DRAWS": 2, "WIDTH": 8, "BLOCKS": 1}.items():
        monkeypatch.setattr(causality, name, value)
    setting = Setting(seeds=(1000, 1001), learning_rates=(0.001,))
    trials = {name: run(setting) for name, run in CLAIM.conditions.items()}
    entry = record.entry(CLAIM, trials, setting, "test")
    assert entry["verdict"] == NOT_TESTABLE and entry["seeds"] == [1000, 1001]
    assert max(trials["copying, batch norm"].values[ALONE]) < 1e-3
    assert trials["copying, batch norm"].values[TRAINING_ACCURACY] != trials["copying, batch norm"].values[ACCURACY]
    assert trials["copying, none"].values[TRAINING_ACCURACY] == trials["copying, none"].values[ACCURACY]
    assert trials["random tokens, batch norm, batches of 1"].grid == [0.001]
