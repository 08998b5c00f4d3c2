"""Claim 12, its neighbour: which norm serves a transformer, and before or after the addition."""

import math
from collections.abc import Mapping, Sequence
from functools import cache, partial

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
from bncourse.claims.experiment import CLASSES, Setting, Trial, Tuned, in_training_mode
from bncourse.claims.learning_rate import at, largest, window
from bncourse.claims.statistics import share
from bncourse.data import Data, Part, as_tokens
from bncourse.models import GPT
from bncourse.training import cross_entropy, predict, sweep
from bncourse.training.fitting import seeded

SEEDS = tuple(range(5))
SIDE, LEVELS = 4, 5  # images as tokens: 4 × 4 pixels of 5 grey levels, after the class
WIDTH, BLOCKS = 32, 3
RATES = tuple(2.0**k for k in range(-12, -2))  # of Adam, at the first step
EPOCHS, BATCH_SIZE = 6, 16  # batch norm averages over 256 positions
PROBED = 1024  # samples of the training part for the gradients before the first step, at most

LEARNED = 0.1  # nats below the frequencies by position: about half of what the class alone tells
SAME = 0.02  # nats, 2 % of the perplexity: norms that differ by less are alike
FURTHER = 1.0  # octaves, one step of the grid: a rate twice as high is a higher rate
HIGHEST_LOSS = 10.0  # larger ones, infinite ones and NaN count as this

LOSS = "test loss in evaluation mode (nats per token)"
TRAINING_LOSS = "test loss in training mode (nats per token)"
MODES = "test loss, training − evaluation mode (nats per token)"
GAIN = "test loss below the frequencies by position (nats per token)"
VALIDATION = "validation loss (nats per token)"  # in evaluation mode, rate by rate
LEARNS = "share that learns"
LARGEST = "largest rate that learns (log2)"
WINDOW = "rates that learn (octaves)"
CEILING = "largest rate is the grid's highest (share of seeds)"
DIFFERENCE = "difference in loss in evaluation mode (nats per token)"
TRAINING_DIFFERENCE = "difference in loss in training mode (nats per token)"
GAP = "difference in the largest rate (octaves)"

NORMS = {"layer norm": nn.LayerNorm, "RMS norm": nn.RMSNorm, "batch norm": nn.BatchNorm1d, "none": None}
PLACES = ("pre", "post")
NETWORKS = {f"{n}, {p}" if n != "none" else n: (n, p) for n in NORMS for p in PLACES if (n, p) != ("none", "post")}
TABLES = {  # frequencies in the training part, given the position and what is made of x (N, L) here
    "position": torch.zeros_like,
    "position and token before": lambda x: x,
    "position and class": lambda x: x[:, :1].expand_as(x),
}


# The task


def tokens(setting: Setting, seed: int) -> Data:
    """Images as tokens, each to be predicted from the class and the pixels before."""
    return as_tokens(setting.parts("images")(seed), side=SIDE, levels=LEVELS)


def table_loss(train: Part, part: Part, given: str) -> float:
    """The loss of frequencies, each counted once more than it occurs."""
    context = TABLES[given]
    counts = torch.ones(SIDE**2, LEVELS + CLASSES, LEVELS)
    position = torch.arange(SIDE**2)
    for seen, y in zip(context(train.x), train.y, strict=True):
        counts[position, seen, y] += 1
    shares = counts / counts.sum(-1, keepdim=True)
    return -float(shares[position, context(part.x), part.y].log().mean())


def frequencies(given: str, setting: Setting) -> Trial:
    """The test loss of frequencies."""
    data = [tokens(setting, seed) for seed in setting.seeds or SEEDS]
    return Trial({LOSS: [table_loss(d.train, d.test, given) for d in data]})


# The experiment


class Decaying(torch.optim.Adam):
    """Adam whose learning rate falls in a straight line from the first step on, to 0 after ``steps``; no warm-up."""

    def __init__(self, params, lr: float, *, steps: int) -> None:
        super().__init__(params, lr=lr, fused=True)
        self.first, self.steps, self.done = lr, steps, 0

    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] = self.first * max(0.0, 1 - self.done / self.steps)
        self.done += 1
        return super().step(closure)


def _network(norm: str, place: str) -> GPT:
    return GPT(LEVELS + CLASSES, SIDE**2, NORMS[norm], place=place, width=WIDTH, blocks=BLOCKS)


def gradients(norm: str, place: str, setting: Setting) -> Trial:
    """The norm of each block's gradient before the first step."""
    values: dict[str, list[float]] = {gradient_of(block): [] for block in range(1, BLOCKS + 1)}
    for seed in setting.seeds or SEEDS:
        with seeded(seed, torch.device("cpu")):
            network = _network(norm, place).to(setting.device)
        x, y = (tensor[:PROBED].to(setting.device) for tensor in tokens(setting, seed).train)
        cross_entropy(network(x), y).backward()
        for i, block in enumerate(network.blocks, start=1):
            squares = [param.grad.square().sum() for param in block.parameters()]
            values[gradient_of(i)].append(float(sum(squares)) ** 0.5)
    return Trial(values)


def gradient_of(block: int) -> str:
    """The name of a quantity; blocks count from 1, at the tokens."""
    return f"gradient of block {block} before the first step"


def run(norm: str, place: str, setting: Setting) -> Trial:
    """Train with every rate of the grid; what each gives, and what the best one on validation data does."""
    seeds = setting.seeds or SEEDS
    parts = cache(partial(tokens, setting))
    runs = sweep(
        partial(_network, norm, place),
        parts,
        learning_rates=setting.learning_rates or RATES,
        seeds=seeds,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        optimizer=partial(Decaying, steps=EPOCHS * math.ceil(len(parts(seeds[0]).train.y) / BATCH_SIZE)),
        metric=cross_entropy,
        workers=1,
        device=setting.device,
        progress=False,
    )
    tuned = Tuned(runs, runs.best(largest=False), parts)
    curves = counted(runs.validation_metric)  # (rates, seeds, epochs)
    needed = [table_loss(parts(s).train, parts(s).validation, "position") - LEARNED for s in seeds]
    values: dict[str, Sequence[float]] = dict(_tested(tuned, setting.device))
    values |= {curve_at(epoch): curves[tuned.choice.index, :, epoch - 1] for epoch in range(1, EPOCHS + 1)}
    for rate, last in zip(runs.learning_rates, curves[:, :, -1], strict=True):
        values |= {at(LEARNS, rate): last < needed, at(VALIDATION, rate): last}
    return tuned.trial(values)


def _tested(tuned: Tuned, device: str) -> dict[str, list[float]]:
    """What the networks with the best rate do on the test part, in both modes."""
    values: dict[str, list[float]] = {LOSS: [], TRAINING_LOSS: [], GAIN: []}
    for seed, network in zip(tuned.sweep.seeds, tuned.networks, strict=True):
        train, _, test = tuned.parts(seed)
        x, y = (tensor.to(device) for tensor in test)
        loss = float(counted(_loss(predict(network, x), y)))
        values[LOSS].append(loss)
        values[TRAINING_LOSS].append(float(counted(_loss(in_training_mode(network, x, BATCH_SIZE), y))))
        values[GAIN].append(table_loss(train, test, "position") - loss)
    return values


def _loss(output: Tensor, target: Tensor) -> float:
    return float(cross_entropy(output, target))


def counted(losses: np.ndarray | float) -> np.ndarray:
    """The losses, but ``HIGHEST_LOSS`` for those that are larger, infinite or NaN."""
    return np.nan_to_num(losses, nan=HIGHEST_LOSS).clip(max=HIGHEST_LOSS)


def curve_at(epoch: int) -> str:
    """The name of a quantity: of the networks with the best rate, in evaluation mode."""
    return f"validation loss after epoch {epoch} (nats per token)"


# What is made of it


def measure(trials: Mapping[str, Trial]) -> list[Measurement]:
    """All that was measured; the windows of rates; and the comparisons, seed by seed."""
    found, tops = [], {}
    for name, trial in trials.items():
        for quantity, values in trial.values.items():
            if quantity.startswith(LEARNS):
                found.append(Measurement(name, quantity, share(values)))
            else:
                found.append(Measurement.mean(name, quantity, values))
        if name in NETWORKS:
            whole, ceiling = across(trial)
            found += [Measurement.mean(name, quantity, values) for quantity, values in whole.items()]
            found.append(Measurement(name, CEILING, share(ceiling)))
            found.append(Measurement.difference(name, MODES, trial.values[TRAINING_LOSS], trial.values[LOSS]))
            tops[name] = whole[LARGEST]

    def compare(name: str, baseline: str, comparison: str) -> None:
        a, b = trials[name].values, trials[baseline].values
        found.append(Measurement.difference(comparison, DIFFERENCE, a[LOSS], b[LOSS]))
        found.append(Measurement.difference(comparison, TRAINING_DIFFERENCE, a[TRAINING_LOSS], b[TRAINING_LOSS]))
        found.append(Measurement.difference(comparison, GAP, tops[name], tops[baseline]))

    for name, (norm, place) in NETWORKS.items():
        if norm != "layer norm":
            compare(name, f"layer norm, {place}", f"{norm} − layer norm, {place}")
        if place == "post":
            compare(f"{norm}, pre", name, f"pre − post, {norm}")
    return found


def across(trial: Trial) -> tuple[dict[str, list[float]], list[float]]:
    """The largest rate that learns and the width of the window, by seed; and whether the window meets the grid's end."""
    rates = sorted(trial.grid)
    learns = np.array([trial.values[at(LEARNS, rate)] for rate in rates])  # (rates, seeds)
    windows = [window(column) for column in learns.T]
    whole = {
        LARGEST: [largest(rates, some) for some in windows],
        WINDOW: [float(len(some)) for some in windows],
    }
    return whole, [float(len(rates) - 1 in some) for some in windows]


# The rule

SHOWN, REFUTED, OPEN = "shown", "refuted", "open"
PARTS = (
    "that RMS norm serves as layer norm does",
    "that batch norm serves worse than layer norm",
    "that pre-norm stands larger learning rates than post-norm",
)


def judge(findings: Findings) -> Verdict:
    """The rule. The claim has three parts, and each is shown, refuted, or open.

    RMS norm serves as layer norm does: shown if the whole interval of the paired difference in test loss, in
    evaluation mode, lies within 0.02 nats, in every place; refuted if in some place all of it lies outside. Batch norm
    serves worse: shown if in every place all of that interval lies above 0.02 nats, refuted if in every place all of
    it lies below. The places are pre and post, as far as layer norm learns there: if all of the interval of its gain over
    frequencies by position is 0.1 nats or more.

    Pre-norm stands larger rates: shown if both with layer norm and with RMS norm its largest rate that learns is
    higher for sure (the interval lies above 0) and by an octave or more (the estimate); refuted if with both the
    interval ends below an octave. Where rates learn up to the end of the grid, it is not refuted; where those of
    post-norm do, it is not shown either.

    Not testable here: layer norm learns in neither place, or all parts are open. Supported: all are shown. Not supported:
    more are refuted than shown. Qualified: all else.

    What batch norm reaches in training mode decides nothing, since nobody can use it: it is named, and so is no norm.
    """
    places = [place for place in PLACES if findings[f"layer norm, {place}", GAIN].low >= LEARNED]
    if not places:
        gains = " and ".join(f"{findings[f'layer norm, {p}', GAIN]:.2f} nats as {p}-norm" for p in PLACES)
        return Verdict(NOT_TESTABLE, f"Layer norm does not learn: its gain over frequencies is {gains}.")
    states = (_alike(findings, places), _worse(findings, places), _higher(findings))
    because = _because(findings, places, states)
    if all(state == SHOWN for state in states):
        return Verdict(SUPPORTED, because)
    if states.count(REFUTED) > states.count(SHOWN):
        return Verdict(NOT_SUPPORTED, because)
    return Verdict(QUALIFIED if SHOWN in states else NOT_TESTABLE, because)


def _alike(findings: Findings, places: Sequence[str]) -> str:
    gaps = [findings[f"RMS norm − layer norm, {place}", DIFFERENCE] for place in places]
    if all(-SAME < gap.low <= gap.high < SAME for gap in gaps):
        return SHOWN
    return REFUTED if any(gap.low >= SAME or gap.high <= -SAME for gap in gaps) else OPEN


def _worse(findings: Findings, places: Sequence[str]) -> str:
    gaps = [findings[f"batch norm − layer norm, {place}", DIFFERENCE] for place in places]
    if all(gap.low > SAME for gap in gaps):
        return SHOWN
    return REFUTED if all(gap.high < SAME for gap in gaps) else OPEN


def _higher(findings: Findings) -> str:
    norms = ("layer norm", "RMS norm")
    gaps = [findings[f"pre − post, {norm}", GAP] for norm in norms]
    cut = {p: any(findings[f"{norm}, {p}", CEILING].estimate > 0 for norm in norms) for p in PLACES}
    if all(gap.low > 0 and gap.estimate >= FURTHER for gap in gaps) and not cut["post"]:
        return SHOWN
    return REFUTED if all(gap.high < FURTHER for gap in gaps) and not any(cut.values()) else OPEN


def _because(findings: Findings, places: Sequence[str], states: Sequence[str]) -> str:
    """Which parts are not shown, and the numbers that decide."""
    refuted, unclear = ([p for p, s in zip(PARTS, states, strict=True) if s == state] for state in (REFUTED, OPEN))
    said = [f"Refuted: {' and '.join(refuted)}."] if refuted else []
    said += [f"Not shown: {' and '.join(unclear)}."] if unclear else []
    said += [f"That layer norm learns as {p}-norm is not shown." for p in PLACES if p not in places]
    said.append("Test loss minus that with layer norm, in nats per token:")
    losses = [
        f"{norm} {findings[f'{norm} − layer norm, {place}', DIFFERENCE]:+.3f} as {place}-norm"
        for norm in ("RMS norm", "batch norm")
        for place in PLACES
    ]
    none = findings["none − layer norm, pre", DIFFERENCE]
    said.append(f"{', '.join(losses)}; no norm {none:+.3f} against pre-norm.")
    modes = [f"{findings[f'batch norm, {p}', MODES].estimate:+.3f} ({p})" for p in PLACES]
    said.append(f"In training mode the loss of batch norm is {' and '.join(modes)} against its own in evaluation mode.")
    gaps = [f"{findings[f'pre − post, {norm}', GAP]:.1f} with {norm}" for norm in NORMS if norm != "none"]
    said.append(f"The largest rate that learns is higher with pre-norm by octaves: {', '.join(gaps)}.")
    said.append("This is one small network on small images, with Adam and no warm-up.")
    return " ".join(said)


CLAIM = Claim(
    id="transformer",
    number=12,
    claim=(
        "Layer norm and RMS norm serve a transformer alike, batch norm does not, and pre-norm is more stable than "
        "post-norm"
    ),
    source=(
        "zhang2019root",
        "xiong2020layer",
        "shen2020powernorm",
        "wang2022understanding",
        "guo2024slab",
        "zhu2025transformers",
    ),
    hypothesis=(
        "A small GPT predicts held-out tokens as well with RMS norm as with layer norm, and worse with batch norm, in "
        "evaluation mode and each at its own learning rate; and without warm-up, rates at least twice as high as with "
        "post-norm still learn with pre-norm."
    ),
    metric=(
        f"Test loss in nats per token in evaluation mode after {EPOCHS} epochs, of images of {SIDE} × {SIDE} pixels with "
        f"{LEVELS} grey levels, after their class; {BLOCKS} blocks of width {WIDTH}, batches of {BATCH_SIZE}, Adam without "
        f"warm-up, with a rate that falls linearly to 0, at the best on validation data of {len(RATES)} rates from 2^{math.log2(RATES[0]):g} "
        f"to 2^{math.log2(RATES[-1]):g}. Differences below {SAME:g} nats count as alike. A run learns if its validation loss in evaluation mode "
        f"is {LEARNED:g} nats below that of frequencies by position; the largest rate that learns is the highest of the "
        "longest unbroken row of rates that do. Paired by seed"
    ),
    seeds=SEEDS,
    conditions={
        **{name: partial(run, *network) for name, network in NETWORKS.items()},
        **{f"gradients, {name}": partial(gradients, *network) for name, network in NETWORKS.items()},
        **{f"frequencies by {given}": partial(frequencies, given) for given in TABLES},
    },
    measure=measure,
    judge=judge,
    slice=("gradients, layer norm, pre", "gradients, layer norm, post"),
)
