"""Claim 2: batch norm works because it reduces internal covariate shift.

Ioffe and Szegedy 2015 say so: a layer's inputs change their distribution when the layers before it learn, and batch
norm reduces this. Santurkar et al. 2018 undo the reduction with noise after batch norm, see it train fast all the same,
and find no reduction of the shift as the layer's gradient feels it. Awais, Bin Iqbal and Bae 2020 hold against them
that without the reduction batch norm is not as good. So there are two questions: does batch norm reduce the shift,
by two definitions; and does its advantage, fewer steps, go when noise brings the shift back?

Two limits. The next batch norm removes a part of the noise: a constant shift of a unit's mean. And noise can show
that a reduced shift is not necessary; if the advantage goes, noise may also have done harm in another way.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

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
from bncourse.claims.experiment import CLASSES, Setting, Trial, Tuned, tune
from bncourse.claims.shift import Noise, drift, gradient_shift
from bncourse.claims.statistics import mean, quotient, ratio, share
from bncourse.models import MLP
from bncourse.training import Choice, Sweep, fit
from bncourse.training.fitting import seeded

SEEDS = tuple(range(8))
HIDDEN = [64] * 8
RATES = tuple(2.0**k for k in range(-8, 3))
EPOCHS, BATCH_SIZE = 36, 128
TARGET = 0.95  # of the validation digits right: the goal of the race
MOMENTS = (1, 2, 4, 8)  # epochs after which the shift is measured
BATCHES = 3  # on which it is measured then
LIMITS = 1e-6, 100.0  # a relative change outside, or of a network that is infinite or NaN, counts as the nearest limit

ADVANTAGE = 1.1  # times as many steps without norm: with less, there is nothing to explain
REDUCED = 0.9  # of the shift without norm: batch norm reduces the shift if it leaves less, a tenth less at least
HALF = 0.5  # of the advantage, on a logarithmic scale

ACCURACY = "test accuracy (%)"
STEPS = "steps to 95 % validation accuracy"
REACHED = "share of seeds that reach 95 % validation accuracy"
DRIFT = "drift of unit means in one step (standard deviations)"
CHANGE = "relative change of a layer's gradient by the step of earlier layers"
COSINE = "cosine of a layer's gradient before and after the step of earlier layers"
BEST = ", at the rate of the best validation accuracy"  # after ACCURACY and STEPS
RATIOS = {STEPS: "ratio of steps", DRIFT: "ratio of drifts", CHANGE: "ratio of relative gradient changes"}
KEPT = "share of batch norm's advantage kept"


DOSES = {"noise": (0.25, 0.5, 0.1), "twice the noise": (0.5, 1.0, 0.2)}  # scale, shift, jitter


def noisy(norm: Callable[[int], nn.Module] | None, dose: str, features: int) -> nn.Module:
    """The norm, if there is one, and noise right after it."""
    noise = Noise(*DOSES[dose])
    return noise if norm is None else nn.Sequential(norm(features), noise)


NORMS: dict[str, Callable[[int], nn.Module] | None] = {
    "none": None,
    "batch norm": nn.BatchNorm1d,
    "layer norm": nn.LayerNorm,
    **{f"batch norm, {dose}": partial(noisy, nn.BatchNorm1d, dose) for dose in DOSES},
    **{f"none, {dose}": partial(noisy, None, dose) for dose in DOSES},
}
SAME_RATE = "batch norm, at the rate of none"


# The experiment


def run(name: str, setting: Setting) -> Trial:
    """Steps to the target and accuracy at the rate with the fewest steps, and the shift in networks trained with it."""
    make, tuned = _tuned(name, setting)
    quickest = fastest(tuned)
    values = {ACCURACY: quickest.accuracy(), ACCURACY + BEST: tuned.accuracy(), STEPS + BEST: _steps(tuned)}
    return _with_shift(make, quickest, setting, values)


def run_same_rate(setting: Setting) -> Trial:
    """Batch norm at the rate that is fastest without norm."""
    none = fastest(_tuned("none", setting)[1])
    make, tuned = _tuned("batch norm", replace(setting, learning_rates=(none.choice.learning_rate,)))
    trial = _with_shift(make, tuned, setting, {ACCURACY: tuned.accuracy()})
    return replace(trial, grid=list(none.sweep.learning_rates), on_edge=none.choice.on_edge)


def _tuned(name: str, setting: Setting) -> tuple[Callable[[], nn.Module], Tuned]:
    """The network of a condition, and its runs."""
    norm = NORMS[name]
    bias = "batch norm" not in name and "layer norm" not in name  # noise alone makes none superfluous
    make = partial(MLP, [setting.features, *HIDDEN, CLASSES], norm, bias=bias)
    return make, tune(make, setting, seeds=SEEDS, grid=RATES, epochs=EPOCHS, batch_size=BATCH_SIZE)


def steps_to(sweep: Sweep) -> tuple[np.ndarray, np.ndarray]:
    """Steps until the validation accuracy first reaches the target, and whether it does: (rates, seeds) each.

    It is known after each epoch. A run that never reaches the target counts with all its steps.
    """
    hit = sweep.validation_metric.round(6) >= TARGET  # rounded as they are single precision; False for NaN
    reached = hit.any(-1)
    epochs = np.where(reached, hit.argmax(-1) + 1, hit.shape[-1])
    return epochs * (sweep.step_loss.shape[-1] // hit.shape[-1]), reached


def fastest(tuned: Tuned) -> Tuned:
    """The same runs, with the rate that needs the fewest steps in the mean of logarithms.

    Of equals, the one with the best last validation accuracy, and then the lowest.
    """
    rates, last = np.array(tuned.sweep.learning_rates), tuned.sweep.validation_metric[..., -1].mean(-1)
    needed = np.log(steps_to(tuned.sweep)[0]).mean(-1).round(9)
    order = np.lexsort((rates, -np.nan_to_num(last, nan=-np.inf), needed))
    i = int(order[0])
    choice = Choice(i, tuned.sweep.learning_rates[i], bool(rates[i] in (rates.min(), rates.max())))
    return Tuned(tuned.sweep, choice, tuned.parts)


def _steps(tuned: Tuned) -> list[float]:
    return steps_to(tuned.sweep)[0][tuned.choice.index].tolist()


def _with_shift(make: Callable[[], nn.Module], tuned: Tuned, setting: Setting, values: dict) -> Trial:
    """The trial of the chosen rate: these values, the steps, and the shift in each of its networks."""
    values[STEPS] = _steps(tuned)
    values[REACHED] = steps_to(tuned.sweep)[1][tuned.choice.index]
    rows = [
        shift_of(make, tuned.parts(s).train, tuned.choice.learning_rate, s, setting.device) for s in tuned.sweep.seeds
    ]
    values |= dict(zip((DRIFT, CHANGE, COSINE), zip(*rows, strict=True), strict=True))
    return tuned.trial(values)


def shift_of(make: Callable[[], nn.Module], train: tuple[Tensor, Tensor], rate: float, seed: int, device: str) -> tuple:
    """Drift, gradient change and cosine: means over layers, batches and moments of one training; of the first two, of
    their logarithms."""
    with seeded(seed, torch.device("cpu")):
        network = make().to(device)
    x, y = (values.to(device) for values in train)
    order = torch.Generator().manual_seed(seed)
    drifts, changes, cosines = [], [], []
    for before, now in pairwise((0, *MOMENTS)):
        # The order of the samples follows from the epoch as well: it is another one each time.
        options = {"epochs": now - before, "seed": 1000 * seed + before, "batch_size": BATCH_SIZE}
        fit(network, x, y, learning_rate=rate, progress=False, **options)
        for _ in range(BATCHES):
            rows = torch.randperm(len(y), generator=order)[:BATCH_SIZE]
            drifts += drift(network, x[rows], y[rows], rate, seed)
            pairs = gradient_shift(network, x[rows], y[rows], rate, seed)
            changes += [change for change, _ in pairs]
            cosines += [cosine for _, cosine in pairs]
    return *(_geometric_mean(some) for some in (drifts, changes)), float(
        np.nan_to_num(cosines, posinf=0.0, neginf=0.0).mean()
    )


def _geometric_mean(values: list[float]) -> float:
    low, high = LIMITS
    return float(np.exp(np.log(np.nan_to_num(values, nan=high).clip(low, high)).mean()))


# What is made of it


def measure(trials: Mapping[str, Trial]) -> list[Measurement]:
    """Each condition; the races and shifts of two, as paired ratios; the share of the advantage that noise leaves."""
    found = []
    for name, trial in trials.items():
        for quantity, numbers in trial.values.items():
            interval = share(numbers) if quantity == REACHED else mean(numbers)
            found.append(Measurement(name, quantity, interval, tuple(numbers)))
    faster = [name for name in trials if name not in ("none", SAME_RATE)]
    found += [_ratio(trials, "none", name, STEPS) for name in [*faster, SAME_RATE]]
    found += [_ratio(trials, f"none, {dose}", f"batch norm, {dose}", STEPS) for dose in DOSES]
    found += [_ratio(trials, name, "none", q) for name in [*faster, SAME_RATE] for q in (DRIFT, CHANGE)]
    with_best = {name: trials[name].values[STEPS + BEST] for name in ("none", *faster)}
    at_fastest = {name: trials[name].values[STEPS] for name in with_best}
    for steps, suffix in ((at_fastest, ""), (with_best, BEST)):
        gain = {name: np.log(steps["none"]) - np.log(steps[name]) for name in faster}
        for dose in DOSES:
            noisy_gain = gain[f"batch norm, {dose}"]
            found.append(Measurement(f"batch norm, {dose}", KEPT + suffix, quotient(noisy_gain, gain["batch norm"])))
    return found


def _ratio(trials: Mapping[str, Trial], top: str, bottom: str, quantity: str) -> Measurement:
    a, b = (trials[name].values[quantity] for name in (top, bottom))
    return Measurement(f"{top} / {bottom}", RATIOS[quantity], ratio(a, b), tuple(np.divide(a, b).tolist()))


def judge(findings: Findings) -> Verdict:
    """The rule, in this order.

    Not testable here: without norm, a network does not need at least 1.1 times as many steps.
    Not supported: by neither definition batch norm reduces the shift, at its own rate or at that of none.
    Not testable here: no dose of noise makes the drift with batch norm at least that without norm.
    Else the smallest dose that does decides: more noise would do more harm than the shift it stands for.
    Supported: batch norm, at its own rate, reduces the shift by both definitions, and with the noise less than half of
    the advantage, counted in logarithms of steps, is left. Not supported: half of it or more is left, and by one definition at least batch norm does not
    reduce the shift, at either rate. Qualified: all else, such as a shift that is reduced but need not be.
    """
    advantage = findings["none / batch norm", RATIOS[STEPS]]
    if advantage.low <= ADVANTAGE:
        return Verdict(
            NOT_TESTABLE,
            f"Without norm it takes {advantage:.2g} times as many steps: nothing to be explained.",
        )
    own = {q: findings["batch norm / none", RATIOS[q]] for q in (DRIFT, CHANGE)}
    same = {q: findings[f"{SAME_RATE} / none", RATIOS[q]] for q in own}
    reduced = all(own[q].high < REDUCED for q in own)
    unreduced = [q for q in own if min(own[q].low, same[q].low) >= REDUCED]
    because = (
        f"Without norm it takes {advantage:.2g} times as many steps. With batch norm, unit means drift "
        f"{own[DRIFT]:.2g} times as much and a layer's gradient changes {own[CHANGE]:.2g} times as much as "
        f"without, each at its own learning rate; at the same rate, {same[DRIFT]:.2g} and {same[CHANGE]:.2g} times."
    )
    if len(unreduced) == len(own):
        return Verdict(NOT_SUPPORTED, because)
    strong = [dose for dose in DOSES if findings[f"batch norm, {dose} / none", RATIOS[DRIFT]].low >= 1]
    if not strong:
        return Verdict(NOT_TESTABLE, because + " No noise brought the drift back to what it is without norm.")
    kept = findings[f"batch norm, {strong[0]}", KEPT]
    drifts = findings[f"batch norm, {strong[0]} / none", RATIOS[DRIFT]]
    because += (
        f" With noise that makes the drift {drifts:.2g} times that without norm, {kept:.0%} of the advantage, "
        "counted in logarithms, is left."
    )
    if reduced and kept.high < HALF:
        return Verdict(SUPPORTED, because + " Noise can also do harm in other ways.")
    if unreduced and kept.low >= HALF:
        return Verdict(NOT_SUPPORTED, because)
    return Verdict(QUALIFIED, because)


CLAIM = Claim(
    id="covariate_shift",
    number=2,
    claim="It works because it reduces internal covariate shift",
    source=(
        "ioffe2015batch",
        "santurkar2018how",
        "awais2020revisiting",
        "lipton2018troubling",
        "bjorck2018understanding",
    ),
    hypothesis=(
        "With batch norm, one step of SGD moves the means of a layer's inputs less, and changes a layer's gradient less "
        "through the layers before it. Noise after batch norm, which moves the inputs as much as they move without "
        "norm, takes away at least half of what batch norm gains in steps."
    ),
    metric=(
        f"Steps to {TARGET:.0%} validation accuracy with 8 hidden layers of 64 units, at the rate with the fewest; a "
        "run that never gets there counts with all its steps. Drift: change of a unit's mean by a step, in standard "
        "deviations. Gradient: relative change of a layer's by the step of earlier layers, same batch and same noise. "
        f"Reduced: less than {REDUCED} times that without norm. The advantage, and the share of it that noise leaves, "
        "are compared on a logarithmic scale; intervals decide"
    ),
    seeds=SEEDS,
    conditions={**{name: partial(run, name) for name in NORMS}, SAME_RATE: run_same_rate},
    measure=measure,
    judge=judge,
    slice=(SAME_RATE,),
)
