"""Claim 11, sequences: its rule on made-up numbers, how it evaluates, and one tiny run."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from bncourse.claims import record, sequences
from bncourse.claims.claim import NOT_SUPPORTED, NOT_TESTABLE, QUALIFIED, SUPPORTED, Findings, Measurement
from bncourse.claims.experiment import Setting, Trial
from bncourse.claims.sequences import (
    ALONE,
    CELLS,
    CLAIM,
    COUNTED,
    GAP,
    LONGER,
    LONGEST,
    MASKED,
    NORMS,
    PADDING,
    PER_STEP,
    PLAIN,
    RANGES,
    TRAINED,
    TRAINING,
    alone,
    in_training_mode,
    judge,
    measure,
    with_other_padding,
    with_precise_statistics,
)
from bncourse.claims.statistics import Interval
from bncourse.data import digits
from bncourse.models import RNN, StepBatchNorm

LOSES, KEEPS, OPEN, GAINS = Interval(-9, -12, -6), Interval(0, -1, 1), Interval(-1, -4, 3), Interval(5, 3, 7)


def accuracy(lengths, precise=False):
    return f"test accuracy{' with precise statistics' if precise else ''}, lengths {lengths} (%)"


def points(lengths, precise=False):
    return accuracy(lengths, precise).replace("%", "points")


def findings(changes=None):
    """In both networks, plain batch norm loses 9 points in each comparison, and the other forms lose none."""
    made = {}
    for cell in CELLS:
        for norm in NORMS:
            made[f"{cell}, {norm}", GAP] = LOSES if norm == PLAIN else KEEPS
            for lengths in RANGES:
                for precise in (False, True) if norm in MASKED else (False,):
                    made[f"{cell}, {norm}", accuracy(lengths, precise)] = Interval(90, 89, 91)
                    if norm != "layer norm":
                        name = f"{cell}, {norm} − layer norm"
                        made[name, points(lengths, precise)] = LOSES if norm == PLAIN else KEEPS
    assert set(changes or {}) <= set(made)
    return Findings([Measurement(*key, interval) for key, interval in (made | (changes or {})).items()])


def gap(cell, interval):
    return {(f"{cell}, {PLAIN}", GAP): interval}


def against(cell, lengths, interval, norm=PLAIN, precise=False):
    return {(f"{cell}, {norm} − layer norm", points(lengths, precise)): interval}


def plain(cell, gaps=KEEPS, trained=KEEPS, longer=KEEPS):
    return gap(cell, gaps) | against(cell, TRAINED, trained) | against(cell, LONGER, longer)


def both(function, *arguments, **more):
    return function("LSTM", *arguments, **more) | function("tanh RNN", *arguments, **more)


def learned(cell, interval, norms=("layer norm", *MASKED)):
    return {(f"{cell}, {norm}", accuracy(TRAINED)): interval for norm in norms}


JUST, NOT_QUITE = Interval(-3, -4, -2.01), Interval(-3, -4, -2)
CASES = {
    "awkward in both, layer norm as good": ({}, SUPPORTED),
    "awkward in evaluation alone": (both(plain, gaps=JUST), SUPPORTED),
    "awkward against layer norm alone": (both(plain, trained=JUST), SUPPORTED),
    "awkward at longer lengths alone": (both(plain, longer=JUST), SUPPORTED),
    "each in its own way": (plain("LSTM", gaps=LOSES) | plain("tanh RNN", longer=LOSES), SUPPORTED),
    "awkward in one, not in the other": (plain("LSTM"), QUALIFIED),
    "awkward in one, open in the other": (plain("LSTM", gaps=NOT_QUITE), QUALIFIED),
    "awkward in none": (both(plain), NOT_SUPPORTED),
    "just not awkward": (both(plain, *[Interval(-1, -1.99, 0)] * 3), NOT_SUPPORTED),
    "open in one, not awkward in the other": (plain("LSTM") | plain("tanh RNN", trained=OPEN), NOT_TESTABLE),
    "at 2 points it is open": (plain("LSTM") | plain("tanh RNN", longer=Interval(-1, -2, 0)), NOT_TESTABLE),
    "open in both": (both(plain, gaps=NOT_QUITE), NOT_TESTABLE),
    "not awkward, and a form is better": (both(plain) | both(against, TRAINED, GAINS, PER_STEP[1]), NOT_SUPPORTED),
    "awkward, but a form is better": (against("LSTM", TRAINED, GAINS, PER_STEP[1]), QUALIFIED),
    "at longer lengths": (against("LSTM", LONGER, GAINS, PER_STEP[0]), QUALIFIED),
    "with precise statistics": (against("tanh RNN", LONGER, GAINS, MASKED[1], precise=True), QUALIFIED),
    "plain batch norm with precise statistics": (against("LSTM", TRAINED, GAINS, precise=True), QUALIFIED),
    "a form may be better": (against("LSTM", TRAINED, Interval(0, -2, 2), PER_STEP[1]), QUALIFIED),
    "no form is that much better": (against("LSTM", TRAINED, Interval(1, 0.1, 1.99), PER_STEP[1]), SUPPORTED),
    "lengths beyond do not decide": (both(against, LONGEST, GAINS, PER_STEP[1]), SUPPORTED),
    "nor does what counts the padding": (both(against, TRAINED, GAINS, COUNTED), SUPPORTED),
    "nor no norm": (both(against, TRAINED, GAINS, "none"), SUPPORTED),
    "nothing learns": (learned("LSTM", Interval(50, 49.9, 52)), NOT_TESTABLE),
    "layer norm learns only just": (learned("LSTM", Interval(60, 50, 70)), SUPPORTED),
    "only a form of batch norm learns": (
        learned("LSTM", Interval(20, 10, 30), ("layer norm",)) | against("LSTM", TRAINED, GAINS, PER_STEP[1]),
        QUALIFIED,
    ),
    "only layer norm learns": (both(learned, Interval(20, 10, 30), MASKED), SUPPORTED),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rule(case):
    changes, verdict = CASES[case]
    assert judge(findings(changes)).verdict == verdict


def test_the_reason_names_what_decides_with_its_numbers():
    changes = plain("LSTM") | against("tanh RNN", TRAINED, GAINS, PER_STEP[1])
    changes |= against("LSTM", LONGER, OPEN, PER_STEP[0])
    changes |= {
        (f"tanh RNN, {PER_STEP[1]}", accuracy(r)): Interval(x, x, x)
        for r, x in zip(RANGES, (95, 80, 60.04), strict=True)
    }
    changes |= {(f"LSTM, {PLAIN}", accuracy(LONGER)): Interval(33.3, 30, 40)}
    changes |= {(f"LSTM, {COUNTED}", accuracy(LONGEST)): Interval(22.2, 20, 30)}
    reason = judge(findings(changes)).because
    for text in (
        "That plain batch norm is awkward in the LSTM is not shown.",
        "In the tanh RNN, a form of batch norm is more accurate than layer norm.",
        "In the LSTM, a form of batch norm may be more accurate than layer norm.",
        "its best form there, statistics per step, γ = 0.1, 95.0/80.0/60.0,",
        "LSTM, percent right at lengths 8 to 16, 17 to 32, 33 to 64: layer norm 90.0/90.0/90.0, plain ",
        "plain batch norm 90.0/33.3/90.0",
        "90.0/90.0/22.2 with statistics per step that count the padding",
        "plain: -9.0 (-12.0 to -6.0) points; best form minus layer norm, lengths 8 to 16: +5.0 (+3.0 to +7.0).",
    ):
        assert text in reason, text
    assert "the LSTM learn" in judge(findings(learned("LSTM", Interval(10, 9, 11)))).because


def test_the_rule_has_an_answer_to_any_numbers():
    rng, verdicts = np.random.default_rng(0), set()
    for _ in range(300):
        spread = rng.choice([0.5, 5])
        numbers = {
            key: np.sort(rng.normal(80 if "(%)" in key[1] else rng.choice([-4, 0]), spread, 3)) for key in findings()
        }
        verdicts.add(
            judge(Findings([Measurement(*key, Interval(b, a, c)) for key, (a, b, c) in numbers.items()])).verdict
        )
    assert len(verdicts) > 1


def test_what_is_measured_of_made_up_trials():
    trials = {}
    for name in CLAIM.conditions:
        values = {accuracy(lengths): [90.0, 80.0] for lengths in RANGES} | {TRAINING: [91.0, 79.0], ALONE: [0.0, 0.0]}
        if name.split(", ", 1)[1] in MASKED:
            values |= {accuracy(lengths, precise=True): [95.0, 80.0] for lengths in RANGES}
        trials[name] = Trial(values)
    trials["LSTM, layer norm"].values[accuracy(LONGER)] = [50.0, 60.0]
    found = {(m.condition, m.quantity): m for m in measure(trials)}
    assert found[f"LSTM, {PLAIN}", GAP].values == (-1, 1)
    assert found[f"LSTM, {PLAIN} − layer norm", points(TRAINED)].values == (0, 0)
    assert found[f"LSTM, {PLAIN} − layer norm", points(LONGER)].values == (40, 20)
    assert found[f"LSTM, {PLAIN} − layer norm", points(LONGER, precise=True)].values == (45, 20)
    assert found["LSTM, none − layer norm", points(LONGER)].values == (40, 20)
    assert found["tanh RNN, none − layer norm", points(LONGER)].values == (0, 0)
    assert ("LSTM, none − layer norm", points(LONGER, precise=True)) not in found
    assert found["LSTM, none", ALONE].values == (0, 0)
    judge(Findings(list(found.values())))  # finds all that it needs


# How it evaluates


def network(norm, cell="tanh"):
    torch.manual_seed(0)
    made = RNN(3, 4, 2, norm, cell=cell)
    for param in made.parameters():
        nn.init.normal_(param, 0.2, 0.5)
    return made


def padded(count=8, longest=5):
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([5, 3, 4, 5, 2, 5, 4, 5])[:count]
    return torch.randn(count, longest, 3, generator=generator), torch.arange(longest) < lengths[:, None]


@pytest.mark.parametrize("norm", MASKED)
def test_precise_statistics_are_those_of_all_samples_that_are_left(norm):
    """With statistics per step, evaluation then does what training does, but for Bessel's correction."""
    trained = network(sequences._norm(norm, 5))
    trained(*padded())
    before = copy.deepcopy(trained.state_dict())
    x, mask = padded()
    precise = with_precise_statistics(trained, (x, mask)).norm
    torch.testing.assert_close(trained.state_dict(), before)
    h, means, variances = torch.zeros(8, 4), [], []
    for t in range(5):
        left = mask[:, t]
        a = x[:, t] @ trained.project_in.weight.T + h @ trained.project_hidden.weight.T
        means.append(a[left].mean(0))
        variances.append(a[left].var(0))
        normed = (a - a[left].mean(0)) / (a[left].var(0, unbiased=False) + 1e-5).sqrt()
        h = (normed * trained.norm.weight + trained.norm.bias).tanh()
    means, variances = torch.stack(means), torch.stack(variances)
    if norm not in PER_STEP:
        means, variances = means.mean(0, keepdim=True), variances.mean(0, keepdim=True)
    torch.testing.assert_close(precise.running_mean, means)
    torch.testing.assert_close(precise.running_var, variances)


@pytest.mark.parametrize(
    ("name", "steps", "weight", "padding"),
    [
        (PLAIN, 1, 1.0, False),
        (MASKED[1], 1, 0.1, False),
        (PER_STEP[0], 16, 1.0, False),
        (PER_STEP[1], 16, 0.1, False),
        (COUNTED, 16, 0.1, True),
    ],
)
def test_norms_are_what_their_names_say(name, steps, weight, padding):
    norm = sequences._norm(name, 16)(3)
    assert isinstance(norm, StepBatchNorm) and len(norm.running_mean) == steps and norm.padding == padding
    assert norm.weight.tolist() == pytest.approx([weight] * 3)
    assert sequences._norm("none", 16) is None and sequences._norm("layer norm", 16) is nn.LayerNorm


def test_in_training_mode_batches_have_their_own_statistics_and_the_network_stays(monkeypatch):
    monkeypatch.setattr(sequences, "BATCH_SIZE", 3)
    trained = network(StepBatchNorm).eval()
    before = copy.deepcopy(trained.state_dict())
    x, mask = padded()
    outputs = in_training_mode(trained, (x, mask))
    torch.testing.assert_close(trained.state_dict(), before)
    assert not trained.training and not outputs.requires_grad
    twin = copy.deepcopy(trained).train()
    expected = [twin(x[some], mask[some]) for some in (slice(0, 3), slice(3, 6), slice(6, 8))]  # none of one alone
    torch.testing.assert_close(outputs, torch.cat(expected).detach())


def test_alone_finds_what_depends_on_the_batch_and_leaves_rounding_out(monkeypatch):
    class OfBatch(nn.Module):
        shift = 0.0

        def forward(self, x, mask):
            return x[:, 0] + self.shift * len(x)

    monkeypatch.setattr(sequences, "COMPARED", 2)
    made, (x, mask) = OfBatch(), padded()
    assert alone(made, (x, mask)) == 0
    for made.shift, expected in ((1e-6, 0), (0.5, 0.5 * 7 / x[:2, 0].std().item()), (math.nan, 100), (math.inf, 100)):
        assert alone(made, (x, mask)) == pytest.approx(expected, rel=1e-4)
    calls = []
    monkeypatch.setattr(OfBatch, "forward", lambda self, x, mask: calls.append(len(x)) or x[:, 0])
    alone(made, (x, mask))
    assert sorted(calls) == [1, 1, 8]


@pytest.mark.parametrize("norm", ["none", "layer norm", *MASKED])
def test_values_of_the_padding_move_nothing(norm):
    assert with_other_padding(network(sequences._norm(norm, 5)), padded()) == 0


def test_values_of_the_padding_move_logits_if_batch_norm_counts_them():
    trained = network(sequences._norm(COUNTED, 5))
    x, mask = padded()
    other = x.masked_fill(~mask[..., None], 1.0)
    x = x * mask[..., None]
    with torch.no_grad():
        logits, others = (copy.deepcopy(trained)(values, mask) for values in (x, other))
    expected = ((others - logits).abs().max() / logits.std()).item()
    assert with_other_padding(trained, (x, mask)) == pytest.approx(expected) and expected > 0.01


@pytest.mark.parametrize(("lengths", "expected"), [(TRAINED, (8, 16)), (LONGER, (17, 32)), (LONGEST, (33, 64))])
def test_ranges_of_lengths_are_what_their_names_say(lengths, expected):
    part = sequences._lengthened(digits("sequences", seed=1000), 8, lengths, seed=1).test
    found = part.x[1].sum(1)
    assert (found.min(), found.max()) == expected == tuple(map(int, lengths.split(" to ")))
    assert torch.equal(part.y, digits(seed=1000).test.y)


def test_a_tiny_run_becomes_an_entry(monkeypatch):
    monkeypatch.setattr(sequences, "CELLS", {name: (kind, 6, 2, ()) for name, (kind, *_) in CELLS.items()})
    monkeypatch.setattr(sequences, "COMPARED", 2)
    monkeypatch.setattr(
        Setting, "parts", lambda _, form: lambda seed: digits(form, validation=1600, test=40, seed=seed)
    )
    setting = Setting(seeds=(1000, 1001), learning_rates=(2**-6, 2**-4))
    trials = {name: run(setting) for name, run in CLAIM.conditions.items()}
    entry = record.entry(CLAIM, trials, setting, "test")
    assert entry["seeds"] == [1000, 1001] and entry["because"]
    for name, trial in trials.items():
        assert (accuracy(LONGER, precise=True) in trial.values) == any(name.endswith(norm) for norm in MASKED)
        assert all(trial.values[PADDING]) == (COUNTED in name)
        assert trial.values[ALONE] == [0, 0] and trial.grid == [2**-6, 2**-4]
        assert {f"validation accuracy after {epoch} epochs (%)" for epoch in (1, 2)} < set(trial.values)
    assert {m["condition"] for m in entry["measurements"]} > set(CLAIM.conditions)
