"""Claim 6: batch norm allows higher learning rates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import product

import numpy as np
import torch
from torch import nn

from bncourse.claims.claim import (
    NOT_SUPPORTED,
    NOT_TESTABLE,
    QUALIFIED,
    SUPPORTED,
    Claim,
    Findings,
    Measurement,
    Verdict,
)
from bncourse.claims.experiment import CLASSES, Setting, Trial, tune
from bncourse.claims.statistics import mean, share
from bncourse.models import MLP
from bncourse.training import Choice
from bncourse.training.fitting import seeded

SEEDS = tuple(range(5))
HIDDEN = [64] * 4
RATES = tuple(2.0**k for k in range(-10, 8))
EPOCHS, BATCH_SIZE = 30, 128
LEARNED = 0.1 * float(np.log(CLASSES))  # a run learns if its last losses are, on average, below: a tenth of guessing's
LAST_STEPS = 20  # whose losses are the last ones
HIGHER = 2.0  # octaves: rates four times as high are higher
SAME = 1.0  # octaves, one step of the grid: rates that differ by less are not higher
HIGHEST_LOSS = 10.0  # larger ones, infinite ones and NaN count as this in the mean of the last losses

LARGEST = "largest rate that learns (log2)"
WINDOW = "rates that learn (octaves)"
CEILING = "largest rate is the grid's highest (share of seeds)"
ACCURACY = "test accuracy (%)"
LEARNS = "share that learns"
LOSS = "last training loss"
EFFECTIVE_START = "learning rate over squared weights, at the start (log2)"
EFFECTIVE_END = "learning rate over squared weights, at the end (log2)"
GAP = "difference in the largest rate (octaves)"
GAP_START = "difference in rate over squared weights, at the start (octaves)"
GAP_END = "difference in rate over squared weights, at the end (octaves)"
USE = "difference in test accuracy (points)"
BASELINE = "best of none"

# The weights of the hidden layers start as He et al. have it. PyTorch's own start stands beside it for no norm.
NORMS: dict[str, Callable[[int], nn.Module] | None] = {
    "none": None,
    "none, default initialization": None,
    "batch norm": nn.BatchNorm1d,
    "batch norm without affine": partial(nn.BatchNorm1d, affine=False),
    "layer norm": nn.LayerNorm,
    "RMS norm": nn.RMSNorm,
    "group norm": partial(nn.GroupNorm, 8),
}
NONES = ("none", "none, default initialization")
OTHERS = ("layer norm", "RMS norm", "group norm")
OPTIMIZERS = {"SGD": torch.optim.SGD, "momentum": partial(torch.optim.SGD, momentum=0.9)}


# The experiment


def run(norm: str, optimizer: str, setting: Setting) -> Trial:
    """Train with every rate of the grid; what each gives."""
    init = {"init": None} if norm == NONES[1] else {}
    make = partial(MLP, [setting.features, *HIDDEN, CLASSES], NORMS[norm], **init)
    options = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "optimizer": OPTIMIZERS[optimizer]}
    tuned = tune(make, setting, seeds=SEEDS, grid=RATES, **options)
    tuned = replace(tuned, parts=cache(tuned.parts))  # they are evaluated with every rate
    starts = [_start(make, seed) for seed in tuned.sweep.seeds]
    last = tuned.sweep.step_loss[..., -LAST_STEPS:].mean(-1)  # (rates, seeds)
    values = {ACCURACY: tuned.accuracy()}
    for i, rate in enumerate(tuned.sweep.learning_rates):
        values |= {
            at(LEARNS, rate): last[i] < LEARNED,  # False for NaN
            at(LOSS, rate): np.nan_to_num(last[i], nan=HIGHEST_LOSS).clip(max=HIGHEST_LOSS),
            at(ACCURACY, rate): replace(tuned, choice=Choice(i, rate, False)).accuracy(),
            at(EFFECTIVE_START, rate): [effective(network, rate) for network in starts],
            at(EFFECTIVE_END, rate): [effective(network, rate) for network in tuned.sweep.networks[i]],
        }
    return tuned.trial(values)


def at(quantity: str, rate: float) -> str:
    """The name of a quantity at one learning rate."""
    return f"{quantity} at 2^{np.log2(rate):g}"


def _start(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    with seeded(seed, torch.device("cpu")):
        return make()


def effective(network: nn.Module, rate: float) -> float:
    """log2 of learning rate / ‖w‖², the median over the hidden layers.

    Weights before a norm act through their direction only, and this ratio is what turns it (van Laarhoven 2017).
    Weights that are infinite or NaN count as 2^128, where single precision ends.
    """
    linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
    squares = [float(linear.weight.detach().double().square().sum()) for linear in linears[:-1]]
    square = float(np.median(squares))
    return float(np.log2(rate)) - (np.log2(square) if np.isfinite(square) else 128)


# What is made of it


def window(learns: Sequence[bool]) -> range:
    """Where the longest unbroken row of rates that learn lies; of equally long ones, the row of the lowest rates.

    A single rate that learns by luck, beyond rates that do not, neither counts as the largest nor adds to the row.
    """
    best = range(0)
    start = 0
    for i, learned in enumerate([*learns, False]):
        if not learned:
            best = max(best, range(start, i), key=len)  # the first of equals
            start = i + 1
    return best


def largest(rates: Sequence[float], learning: range) -> float:
    """log2 of the largest rate of the row; if there is none, of half the lowest rate of the grid."""
    return float(np.log2(rates[learning[-1]] if learning else rates[0] / 2))


def across(trial: Trial) -> dict[str, list[float]]:
    """What the rates of the grid give together."""
    rates = sorted(trial.grid)

    def table(quantity: str) -> np.ndarray:
        return np.array([trial.values[at(quantity, rate)] for rate in rates])  # (rates, seeds)

    windows = [window(column) for column in table(LEARNS).T]
    tops = [some[-1] if some else 0 for some in windows]  # where no rate learns, the effective one of the lowest
    seeds = range(len(windows))
    return {
        LARGEST: [largest(rates, some) for some in windows],
        WINDOW: [float(len(some)) for some in windows],
        CEILING: [float(len(rates) - 1 in some) for some in windows],
        EFFECTIVE_START: table(EFFECTIVE_START)[tops, seeds].tolist(),
        EFFECTIVE_END: table(EFFECTIVE_END)[tops, seeds].tolist(),
    }


def measure(trials: Mapping[str, Trial]) -> list[Measurement]:
    """Each condition, rate by rate too; each norm against the better of the two nones; and the use of high rates."""
    found, whole = [], {name: across(trial) for name, trial in trials.items()}
    for name, trial in trials.items():
        found.append(Measurement.mean(name, ACCURACY, trial.values[ACCURACY]))
        found += [
            Measurement.mean(name, quantity, values) for quantity, values in whole[name].items() if quantity != CEILING
        ]
        found.append(Measurement(name, CEILING, share(whole[name][CEILING])))
        for rate in trial.grid:
            found.append(Measurement(name, at(LEARNS, rate), share(trial.values[at(LEARNS, rate)])))
            found.append(Measurement(name, at(LOSS, rate), mean(trial.values[at(LOSS, rate)])))
    for optimizer in OPTIMIZERS:
        found += _compared(whole, optimizer)
        batch_norm = trials[f"batch norm, {optimizer}"].values
        low = batch_norm[at(ACCURACY, trials[f"none, {optimizer}"].learning_rate)]
        name = f"batch norm, best rate − best rate of none, {optimizer}"
        found.append(Measurement.difference(name, USE, batch_norm[ACCURACY], low))
    return found


def _compared(whole: Mapping[str, dict[str, list[float]]], optimizer: str) -> list[Measurement]:
    """Every norm with the better of the two nones, seed by seed."""
    nones = [whole[f"{none}, {optimizer}"] for none in NONES]
    tops = np.array([none[LARGEST] for none in nones])
    better = tops.argmax(0)  # He initialization, if they are equal
    found = [Measurement.mean(f"{BASELINE}, {optimizer}", LARGEST, tops.max(0))]
    for norm in [name for name in NORMS if name not in NONES]:
        comparison = f"{norm} − {BASELINE}, {optimizer}"
        for quantity, gap in ((LARGEST, GAP), (EFFECTIVE_START, GAP_START), (EFFECTIVE_END, GAP_END)):
            baseline = np.choose(better, [none[quantity] for none in nones])
            found.append(Measurement.difference(comparison, gap, whole[f"{norm}, {optimizer}"][quantity], baseline))
    return found


def judge(findings: Findings) -> Verdict:
    """The rule.

    The largest rate that learns, of batch norm and of the better of two networks without norm, seed by seed.

    Not testable here: without a norm or with batch norm, no run learns at any rate, with or without momentum; or the
    difference would be too small, but the grid ended before batch norm's rates did.
    Supported: batch norm's largest rate is at least 2 octaves higher, with and without momentum.
    Not supported: it is less than 1 octave higher, with and without. Qualified: all else.

    The claim says nothing of other norms. What they allow is named, and decides nothing.
    """
    for condition in (BASELINE, "batch norm"):
        for optimizer in OPTIMIZERS:
            names = NONES if condition == BASELINE else (condition,)
            if all(findings[f"{name}, {optimizer}", WINDOW].high <= 0 for name in names):
                who = "without a norm" if condition == BASELINE else "with batch norm"
                return Verdict(NOT_TESTABLE, f"With {_long(optimizer)}, no run {who} learns at any rate of the grid.")
    gaps = {o: findings[f"batch norm − {BASELINE}, {o}", GAP] for o in OPTIMIZERS}
    because = _because(findings)
    if all(gap.low >= HIGHER for gap in gaps.values()):
        return Verdict(SUPPORTED, because)
    censored = [o for o in OPTIMIZERS if gaps[o].low < HIGHER and findings[f"batch norm, {o}", CEILING].estimate > 0]
    if censored:
        return Verdict(
            NOT_TESTABLE, f"{because} With {_long(censored[0])}, batch norm still learns at the highest rate tried."
        )
    if all(gap.high < SAME for gap in gaps.values()):
        return Verdict(NOT_SUPPORTED, because)
    return Verdict(QUALIFIED, because)


def _because(findings: Findings) -> str:
    sentences = []
    for optimizer in OPTIMIZERS:
        gap = findings[f"batch norm − {BASELINE}, {optimizer}", GAP]
        others = [f"{name} {findings[f'{name} − {BASELINE}, {optimizer}', GAP].estimate:.1f}" for name in OTHERS]
        sentences.append(
            f"With {_long(optimizer)}, the largest rate that learns is {gap.estimate:.1f} octaves higher with batch "
            f"norm than without a norm ({gap.low:.1f} to {gap.high:.1f}; {', '.join(others)})."
        )
    return " ".join(sentences)


def _long(optimizer: str) -> str:
    return {"SGD": "plain SGD", "momentum": "momentum"}[optimizer]


CLAIM = Claim(
    id="learning_rate",
    number=6,
    claim="It allows higher learning rates",
    source=("ioffe2015batch", "bjorck2018understanding", "arora2019theoretical", "vanlaarhoven2017l2"),
    hypothesis=(
        "The largest learning rate at which a network learns is several times as high with batch norm as without a "
        "norm. That it is so with no other norm is not part of the claim, nor is that high rates are of use."
    ),
    metric=(
        f"A run learns if the mean training loss of its last {LAST_STEPS} steps, after {EPOCHS} epochs with batches of "
        f"{BATCH_SIZE}, is below a tenth of the loss of guessing; the largest rate that learns is the highest of the "
        "longest unbroken row of rates that do, in octaves, of 18 from 2^-10 to 2^7; without a norm, the better of He "
        "and PyTorch's own initialization; paired by seed; plain SGD, and SGD with momentum 0.9"
    ),
    seeds=SEEDS,
    conditions={
        f"{norm}, {optimizer}": partial(run, norm, optimizer) for norm, optimizer in product(NORMS, OPTIMIZERS)
    },
    measure=measure,
    judge=judge,
    slice=("batch norm, SGD",),  # at its best rate
)
