"""Claim 12: transformers use layer norm, many language models RMS norm; batch norm is standard elsewhere."""

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from bncourse.claims.claim import (
    NOT_SUPPORTED,
    NOT_TESTABLE,
    QUALIFIED,
    Claim,
    Findings,
    Measurement,
    Verdict,
    means,
)
from bncourse.claims.experiment import Setting, Trial, Tuned, in_training_mode
from bncourse.data import Data, Part, copying
from bncourse.models import GPT
from bncourse.training import Choice, accuracy, cross_entropy, predict, sweep

SEEDS = tuple(range(5))
WIDTH, BLOCKS = 32, 2
RATES = tuple(4.0**k for k in range(-7, -2))  # of Adam

LENGTH = 8  # tokens that the network sees
SYMBOLS = 2  # of the random tokens: nobody can predict them better than with a loss of ln 2
STEPS, HELD_OUT = 1000, 256  # steps of training, each with new sequences; sequences to choose a rate, and to test
LEAK_SIZES = (1, 4, 16)  # batch sizes of the training on random tokens
PROBE_SIZES, DRAWS = (1, 4, 16, 64), 16  # batch sizes, and batches of each, of the probe

COPIED, COPY_SYMBOLS = 4, 8  # length of what is to be repeated, and of how many symbols
COPY_EPOCHS, COPY_BATCH = 15, 32

MOVES = 1e-3  # standard deviations of the logits: what moves less has not moved, but for rounding
USED = 0.05  # nats below ln 2: a loss that only a leak explains
LEARNS = 90.0  # percent: a network below has not learned to copy
SAME = 1.0  # points: norms that differ by less are as good as each other

TRAINING_LOSS = "held-out loss in training mode (nats)"
LOSS = "held-out loss in evaluation mode (nats)"
ACCURACY = "test accuracy (%)"
TRAINING_ACCURACY = "test accuracy in training mode (%)"
ALONE = "logits alone − in a batch (standard deviations)"  # the largest, in evaluation mode
DIFFERENCE = "difference (points)"
WORST = 100.0  # nats, or standard deviations: what a run counts that has no finite number

NORMS = {
    "layer norm": nn.LayerNorm,
    "RMS norm": nn.RMSNorm,
    "batch norm": nn.BatchNorm1d,  # over all positions of all samples
    "group norm": partial(nn.GroupNorm, 4),  # over all positions of a sample
    "none": None,
}
PROBES = {  # by condition: the norm, and whether the network is in training mode
    "leak, batch norm in training": ("batch norm", True),
    "leak, batch norm in evaluation": ("batch norm", False),
    "leak, layer norm": ("layer norm", True),
    "leak, RMS norm": ("RMS norm", True),
    "leak, group norm": ("group norm", True),
}
TRAINED = [("batch norm", size) for size in LEAK_SIZES] + [("layer norm", 4), ("RMS norm", 4)]
COPYING = ("layer norm", "RMS norm", "batch norm", "none")


# Does an earlier position see a later token?


def probe(norm: str, training: bool, setting: Setting) -> Trial:
    """How far logits move at the positions before a token that changes, in networks before training."""
    values: dict[str, list[float]] = {_moves(size): [] for size in PROBE_SIZES}
    for seed in setting.seeds or SEEDS:
        draws = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = GPT(SYMBOLS, LENGTH, NORMS[norm], width=WIDTH, blocks=BLOCKS).to(setting.device).train(training)
        for size in PROBE_SIZES:
            batches = torch.randint(SYMBOLS, (DRAWS, size, LENGTH), generator=draws).to(setting.device)
            values[_moves(size)].append(float(np.mean([movement(network, batch) for batch in batches])))
    return Trial(values)


@torch.no_grad()
def movement(network: nn.Module, tokens: Tensor) -> float:
    """RMS of the change of the first sequence's logits before its last token, when that token changes.

    In standard deviations of all logits.
    """
    changed = tokens.clone()
    changed[0, -1] = (changed[0, -1] + 1) % SYMBOLS
    before, after = network(tokens), network(changed)
    return ((after - before)[0, :-1].square().mean().sqrt() / before.std()).item()


def _moves(batch_size: int) -> str:
    return f"earlier logits move, batches of {batch_size} (standard deviations)"


# Do networks learn to use it?


def random_tokens(batch_size: int, seed: int) -> Data:
    """Sequences (N, LENGTH) in which every token is drawn alone, and each token's successor as target."""
    draws = torch.Generator().manual_seed(seed)

    def part(samples: int) -> Part:
        tokens = torch.randint(SYMBOLS, (samples, LENGTH + 1), generator=draws)
        return Part(tokens[:, :-1], tokens[:, 1:])

    return Data(part(STEPS * batch_size), part(HELD_OUT), part(HELD_OUT))


def use_of_leak(norm: str, batch_size: int, setting: Setting) -> Trial:
    """The loss for random tokens in training mode, at the rate that makes it smallest, and in evaluation mode."""
    parts = partial(random_tokens, batch_size)
    make = partial(GPT, SYMBOLS, LENGTH, NORMS[norm], width=WIDTH, blocks=BLOCKS)
    runs = _sweep(make, parts, setting, epochs=1, batch_size=batch_size)

    def loss(network: nn.Module, part: Part) -> float:
        x, y = (tensor.to(setting.device) for tensor in part)
        return _counted(float(cross_entropy(in_training_mode(network, x, batch_size), y)))

    data = [parts(seed) for seed in runs.seeds]
    by_rate = [np.mean([loss(n, d.validation) for n, d in zip(row, data, strict=True)]) for row in runs.networks]
    order = np.argsort(runs.learning_rates)
    index = int(min(order, key=lambda i: by_rate[i]))
    tuned = Tuned(runs, Choice(index, runs.learning_rates[index], index in (order[0], order[-1])), parts)
    values: dict[str, list[float]] = {TRAINING_LOSS: [], LOSS: []}
    for network, d in zip(tuned.networks, data, strict=True):
        x, y = (tensor.to(setting.device) for tensor in d.test)
        values[TRAINING_LOSS].append(loss(network, d.test))
        values[LOSS].append(_counted(float(cross_entropy(predict(network, x), y))))
    return tuned.trial(values)


# Does batch norm serve as well?


def copy_tokens(norm: str, setting: Setting) -> Trial:
    """Accuracy at repeating tokens, at the rate that is best on validation data in evaluation mode."""
    parts = _copying
    make = partial(GPT, COPY_SYMBOLS + 1, 2 * COPIED, NORMS[norm], width=WIDTH, blocks=BLOCKS)
    runs = _sweep(make, parts, setting, epochs=COPY_EPOCHS, batch_size=COPY_BATCH)
    tuned = Tuned(runs, runs.best(), parts)
    values = {ACCURACY: tuned.accuracy(), TRAINING_ACCURACY: [], ALONE: []}
    for seed, network in zip(runs.seeds, tuned.networks, strict=True):
        x, y = (tensor.to(setting.device) for tensor in parts(seed).test)
        values[TRAINING_ACCURACY].append(100 * float(accuracy(in_training_mode(network, x, COPY_BATCH), y)))
        together = predict(network, x)[:64]
        apart = predict(network, x[:64], batch_size=1)
        values[ALONE].append(_counted(float((apart - together).abs().max() / together.std())))
    return tuned.trial(values)


def _copying(seed: int) -> Data:
    return copying(length=COPIED, symbols=COPY_SYMBOLS, seed=seed)


def _sweep(make, parts, setting: Setting, **options: int):
    return sweep(
        make,
        parts,
        learning_rates=setting.learning_rates or RATES,
        seeds=setting.seeds or SEEDS,
        optimizer=torch.optim.Adam,
        device=setting.device,
        workers=1,
        progress=False,
        **options,
    )


def _counted(value: float) -> float:
    return min(value, WORST) if math.isfinite(value) else WORST


# The rule


def measure(trials: Mapping[str, Trial]) -> list[Measurement]:
    """All that was measured, and at copying the differences to layer norm."""
    found = means(trials)
    baseline = trials["copying, layer norm"].values[ACCURACY]
    for norm in COPYING[1:]:
        values = trials[f"copying, {norm}"].values[ACCURACY]
        found.append(Measurement.difference(f"copying, {norm} − layer norm", DIFFERENCE, values, baseline))
    return found


def judge(findings: Findings) -> Verdict:
    """The rule. What is in use is not judged, but whether there is a reason for it in a causal transformer.

    There are two possible reasons. A leak that is used: in training, batch norm lets earlier positions see later tokens,
    and with some batch size the loss for random tokens falls more than 0.05 nats below what is possible without. And
    a loss of accuracy: in evaluation mode, batch norm is more than a point worse than layer norm at copying. Each is
    shown, refuted, or neither; the whole interval decides.

    Not testable here: layer norm leaks or does not learn to copy; or neither reason is shown, and not both are refuted.
    Not supported: both are refuted, so that batch norm serves as layer norm does. Qualified: a reason is shown, or both
    are. Supported is no outcome: runs can show that a custom has a reason, and only a count, how common it is.
    """
    because = _told(findings)
    if findings["copying, layer norm", ACCURACY].low < LEARNS or _leaks("layer norm", findings):
        return Verdict(NOT_TESTABLE, f"Layer norm itself leaks, or does not learn to copy. {because}")
    losses = [findings[_random("batch norm", size), TRAINING_LOSS] for size in LEAK_SIZES]
    possible = math.log(SYMBOLS) - USED
    moves = [findings["leak, batch norm in training", _moves(size)] for size in PROBE_SIZES]
    used = _leaks("batch norm in training", findings) and any(loss.high < possible for loss in losses)
    unused = all(move.high <= MOVES for move in moves) or all(loss.low >= possible for loss in losses)
    gap = findings["copying, batch norm − layer norm", DIFFERENCE]
    worse, as_good = gap.high < -SAME, gap.low > -SAME
    if unused and as_good:
        return Verdict(NOT_SUPPORTED, f"Batch norm serves as layer norm does. {because}")
    if not used and not worse:
        return Verdict(NOT_TESTABLE, f"The intervals are too wide to tell. {because}")
    rms = findings["copying, RMS norm − layer norm", DIFFERENCE].low > -SAME and not _leaks("RMS norm", findings)
    missing = [
        *([] if used else ["That networks use a leak is not shown."]),
        *([] if worse else [f"That batch norm is more than {SAME:.0f} point less accurate is not shown."]),
        *([] if rms else ["RMS norm may not serve as layer norm does."]),
    ]
    reasons = missing or ["There are reasons for the custom; how common it is was not counted."]
    return Verdict(QUALIFIED, " ".join([*reasons, because]))


def _leaks(probed: str, findings: Findings) -> bool:
    """Whether, with some batch size, earlier logits move for sure."""
    return any(findings[f"leak, {probed}", _moves(size)].low > MOVES for size in PROBE_SIZES)


def _told(findings: Findings) -> str:
    """The numbers that decide."""
    moves = ", ".join(
        f"{findings['leak, batch norm in training', _moves(size)].estimate:.2g} at {size}" for size in PROBE_SIZES
    )
    losses = {size: findings[_random("batch norm", size), TRAINING_LOSS] for size in LEAK_SIZES}
    size = min(losses, key=lambda size: losses[size].high)
    deployed = findings[_random("batch norm", size), LOSS].estimate
    gaps = ", ".join(f"{norm} {findings[f'copying, {norm} − layer norm', DIFFERENCE]:+.1f}" for norm in COPYING[1:])
    return (
        f"A later token moves earlier logits by, in standard deviations, with batch norm in training and batches of: "
        f"{moves}. Where no better loss than {math.log(SYMBOLS):.3f} is possible, it has {losses[size]:.3f} "
        f"in training mode with batches of {size}, and {deployed:.3f} in evaluation mode. At copying, minus layer norm, "
        f"in points: {gaps}. What papers and models use was not counted, and transformers that are not causal were not "
        "tested."
    )


def _random(norm: str, batch_size: int) -> str:
    return f"random tokens, {norm}, batches of {batch_size}"


CLAIM = Claim(
    id="causality",
    number=12,
    claim=(
        "Transformers use layer norm, many language models RMS norm; batch norm is standard in residual networks and "
        "some transformers"
    ),
    source=(
        "vaswani2017attention",
        "zhang2019root",
        "touvron2023llama",
        "shen2020powernorm",
        "wang2022understanding",
    ),
    hypothesis=(
        "What is in use is a matter of counting, which no run can replace. Tested is whether there is a reason for it in "
        "a causal transformer: in training, plain batch norm lets earlier positions see later tokens, networks learn to "
        "use that, and in evaluation mode they are less accurate than with layer norm; RMS norm serves as layer norm "
        "does. Of transformers in which each position may see all others, and of batch norm that was changed for "
        "transformers, this says nothing."
    ),
    metric=(
        f"How far logits move before a token that changes, where {MOVES:g} standard deviations count as no leak; the "
        f"held-out loss for {SYMBOLS} random symbols in training mode after {STEPS} steps, at the learning rate for "
        f"which it is smallest on validation data, where a leak is used if the interval lies more than {USED:g} nats "
        f"below ln {SYMBOLS}; and test accuracy at repeating {COPIED} of {COPY_SYMBOLS} symbols in evaluation mode, at "
        "the rate that is best there on validation data, where batch norm is worse if the interval of the paired "
        f"difference to layer norm lies below −{SAME:.0f} point; GPT with {BLOCKS} blocks of width {WIDTH}, Adam"
    ),
    seeds=SEEDS,
    conditions={
        **{name: partial(probe, norm, training) for name, (norm, training) in PROBES.items()},
        **{_random(norm, size): partial(use_of_leak, norm, size) for norm, size in TRAINED},
        **{f"copying, {norm}": partial(copy_tokens, norm) for norm in COPYING},
    },
    measure=measure,
    judge=judge,
    slice=("leak, batch norm in training", "leak, RMS norm"),
)
