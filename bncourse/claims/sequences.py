"""Claim 11: batch norm is awkward in recurrent networks and with sequences of varying length; layer norm is preferred."""

import copy
import math
from collections.abc import Mapping
from functools import cache, partial

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
    means,
)
from bncourse.claims.experiment import CLASSES, SIZES, Setting, Trial, Tuned
from bncourse.data import Data, Part, with_blanks
from bncourse.models import RNN, Norm, StepBatchNorm
from bncourse.training import accuracy, predict, sweep

SEEDS = tuple(range(5))
BATCH_SIZE = 64
# Per kind of network: width, epochs, and the grid of learning rates, of Adam.
CELLS = {
    "tanh RNN": ("tanh", 48, 40, tuple(2.0**k for k in range(-10, -4))),
    "LSTM": ("lstm", 32, 20, tuple(2.0**k for k in range(-8, -2))),
}
# Lengths, in heights of an image, above and up to: as in training; up to twice, and to four times as long.
TRAINED, LONGER, LONGEST = RANGES = {"8 to 16": (1, 2), "17 to 32": (2, 4), "33 to 64": (4, 8)}
COMPARED = 16  # samples that are predicted one by one

LEARNS = 50.0  # percent, five times chance: a network below has not learned the task
MATTERS = 2.0  # points: a difference that matters, about twice the standard error of one accuracy on 360 digits
ROUNDING = 1e-3  # standard deviations of the logits: what moves less has not moved
WORST = 100.0  # standard deviations: what a run counts that has no finite number

TRAINING = f"test accuracy in training mode, lengths {TRAINED} (%)"
ALONE = "logits move without the batch, evaluation mode (standard deviations)"
PADDING = "logits move with the values of the padding, training mode (standard deviations)"
GAP = "evaluation − training mode (points)"

PLAIN = "batch norm, shared statistics, γ = 1"
PER_STEP = tuple(f"batch norm, statistics per step, γ = {weight:g}" for weight in (1, 0.1))
MASKED = (PLAIN, "batch norm, shared statistics, γ = 0.1", *PER_STEP)  # the forms that do not count the padding
COUNTED = "batch norm, statistics per step, γ = 0.1, padding counted"
NORMS = ("none", "layer norm", *MASKED, COUNTED)


def _norm(name: str, longest: int) -> Norm:
    """A norm by its name; ``longest`` is the length for which there are statistics per step."""
    if name in ("none", "layer norm"):
        return None if name == "none" else nn.LayerNorm
    steps = longest if "per step" in name else 1
    return partial(StepBatchNorm, steps=steps, weight=0.1 if "γ = 0.1" in name else 1.0, padding=name == COUNTED)


# The experiment


def run(cell: str, norm: str, setting: Setting) -> Trial:
    """Test accuracy of a recurrent network at each range of lengths, trained at the first of them."""
    kind, hidden, epochs, grid = CELLS[cell]
    channels, rows = SIZES[setting.data]
    images = cache(setting.parts("sequences"))

    def parts(seed: int, lengths: str = TRAINED) -> Data:
        return _lengthened(images(seed), rows, lengths, seed)

    runs = sweep(
        partial(RNN, channels * rows, hidden, CLASSES, _norm(norm, 2 * rows), cell=kind),
        parts,
        learning_rates=setting.learning_rates or grid,
        seeds=setting.seeds or SEEDS,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer=torch.optim.Adam,
        device=setting.device,
        workers=1,  # the conditions run side by side
        progress=False,
    )
    tuned = Tuned(runs, runs.best(), parts)
    histories = runs.histories[tuned.choice.index]
    values: dict[str, list[float]] = {
        f"validation accuracy after {epoch} epochs (%)": [100 * h.validation_metric[epoch - 1] for h in histories]
        for epoch in sorted({max(epochs * eighths // 8, 1) for eighths in (1, 2, 4, 8)})
    }
    for seed, network in zip(runs.seeds, tuned.networks, strict=True):
        data = {name: parts(seed, name) for name in RANGES}
        train, tests = (_on(setting.device, part) for part in (data[TRAINED].train, data[TRAINED].test))
        measured = {
            TRAINING: _percent(in_training_mode(network, tests.x), tests.y),
            ALONE: alone(network, tests.x),
            PADDING: with_other_padding(network, tests.x),
        }
        precise = with_precise_statistics(network, train.x) if norm in MASKED else None
        for name in RANGES:
            x, y = _on(setting.device, data[name].test)
            measured[_accuracy(name)] = _percent(predict(network, x), y)
            if precise is not None:
                measured[_accuracy(name, precise=True)] = _percent(predict(precise, x), y)
        for quantity, value in measured.items():
            values.setdefault(quantity, []).append(value)
    return tuned.trial(values)


def _lengthened(images: Data, rows: int, lengths: str, seed: int) -> Data:
    """Images by rows, with blank rows until they have a length in the range."""
    shortest, longest = (rows * times for times in RANGES[lengths])
    return with_blanks(images, shortest + (lengths != TRAINED), longest, seed=seed)


def _on(device: str, part: Part) -> Part:
    return Part(tuple(values.to(device) for values in part.x), part.y.to(device))


def _percent(output: Tensor, target: Tensor) -> float:
    return 100 * float(accuracy(output, target))


def in_training_mode(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Outputs in training mode, in batches of one size, ``BATCH_SIZE`` or a little less. The network stays as it is."""
    network = copy.deepcopy(network).train()
    count = math.ceil(len(inputs[0]) / BATCH_SIZE)
    with torch.no_grad():
        return torch.cat([network(*batch) for batch in zip(*(v.tensor_split(count) for v in inputs), strict=True)])


def alone(network: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """How far logits move, in evaluation mode, if a sequence is alone instead of in a batch with all."""
    some = tuple(values[:COMPARED] for values in inputs)
    return _moved(predict(network, some, batch_size=1), predict(network, inputs)[:COMPARED])


def with_other_padding(network: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """How far logits move, in training mode, if the padding holds ones instead of zeros."""
    x, mask = inputs
    other = torch.where(mask[..., None], x, 1.0)
    return _moved(in_training_mode(network, (other, mask)), in_training_mode(network, (x, mask)))


def _moved(logits: Tensor, others: Tensor) -> float:
    """The largest difference, in standard deviations of the logits."""
    moved = float((logits - others).abs().max() / others.std())
    if not math.isfinite(moved):
        return WORST
    return moved if moved >= ROUNDING else 0.0


def with_precise_statistics(network: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    """A copy whose batch norm has the statistics of all ``inputs`` instead of running averages.

    Of each step; or, where steps share them, the mean over these steps.
    """
    network = copy.deepcopy(network).train()

    def count_steps_alike(norm: StepBatchNorm, args: tuple[Tensor, Tensor, int]) -> None:
        norm.momentum = 1 / (max(args[2] - norm.steps + 1, 0) + 1)

    network.norm.register_forward_pre_hook(count_steps_alike)
    with torch.no_grad():
        network(*inputs)
    return network


def measure(trials: Mapping[str, Trial]) -> list[Measurement]:
    """What each reached, its loss from training to evaluation mode, and its differences to layer norm."""
    found = means(trials)
    for cell in CELLS:
        baseline = trials[f"{cell}, layer norm"].values
        for norm in NORMS:
            values = trials[f"{cell}, {norm}"].values
            found.append(Measurement.difference(f"{cell}, {norm}", GAP, values[_accuracy(TRAINED)], values[TRAINING]))
            for quantity, lengths, _ in _forms(norm) if norm != "layer norm" else ():
                pair = values[quantity], baseline[_accuracy(lengths)]
                found.append(Measurement.difference(f"{cell}, {norm} − layer norm", _points(quantity), *pair))
    return found


def _accuracy(lengths: str, *, precise: bool = False) -> str:
    return f"test accuracy{' with precise statistics' if precise else ''}, lengths {lengths} (%)"


def _points(quantity: str) -> str:
    """The name of the difference of two accuracies."""
    return quantity.replace("(%)", "(points)")


def _forms(norm: str) -> list[tuple[str, str, bool]]:
    """In which ways a norm is evaluated: the quantity, the lengths, and whether with precise statistics."""
    ways = (False, True) if norm in MASKED else (False,)
    return [(_accuracy(lengths, precise=precise), lengths, precise) for lengths in RANGES for precise in ways]


# The rule


def judge(findings: Findings) -> Verdict:
    """The rule. Lengths are 8 to 16, as in training, and 17 to 32; what happens beyond is said, and does not decide.

    Plain batch norm is one module that is called at each step: shared running statistics, γ = 1 at first, and padding
    left out. It is awkward in a kind of network if it loses more than 2 points in one of three comparisons: evaluation
    against training mode, and against layer norm at the lengths of training, and at longer ones. It is not if it loses
    less than 2 points in all three.

    Layer norm is preferable in a kind of network if no form of batch norm (shared statistics or statistics per step, γ
    0.1 or 1 at first, evaluated with running averages or precise statistics) is 2 points better, at the lengths of
    training or at longer ones. It is not if one form is more than 2 points better. In each case the whole interval says so.

    Supported: in both kinds of network, batch norm is awkward and layer norm preferable. Qualified: batch norm is
    awkward in one at least. Not supported: it is awkward in none. Not testable here: in a kind of network, neither
    layer norm nor a form of batch norm learns; or awkwardness is not shown in one of them, and not refuted in both.
    """
    learned = {
        cell: [n for n in ("layer norm", *MASKED) if findings[f"{cell}, {n}", _accuracy(TRAINED)].low >= LEARNS]
        for cell in CELLS
    }
    because = " ".join(_told(cell, findings) for cell in CELLS)
    if not all(learned.values()):
        which = " and the ".join(cell for cell in CELLS if not learned[cell])
        return Verdict(NOT_TESTABLE, f"With no norm does the {which} learn the task for sure. {because}")
    losses = {cell: _losses(cell, findings) for cell in CELLS}
    gains = {cell: _gains(cell, findings) for cell in CELLS}
    awkward = [cell for cell in CELLS if any(loss.high < -MATTERS for loss in losses[cell])]
    if not awkward:
        if all(loss.low > -MATTERS for cell in CELLS for loss in losses[cell]):
            return Verdict(NOT_SUPPORTED, f"Plain batch norm loses less than {MATTERS:.0f} points. {because}")
        return Verdict(NOT_TESTABLE, f"The intervals are too wide to tell. {because}")
    beaten = [cell for cell in CELLS if any(gain.low > MATTERS for gain in gains[cell])]
    unsure = [cell for cell in CELLS if cell not in beaten and any(gain.high >= MATTERS for gain in gains[cell])]
    if len(awkward) == len(CELLS) and not beaten and not unsure:
        return Verdict(SUPPORTED, because)
    limits = [
        *(f"That plain batch norm is awkward in the {cell} is not shown." for cell in CELLS if cell not in awkward),
        *(f"In the {cell}, a form of batch norm is more accurate than layer norm." for cell in beaten),
        *(f"In the {cell}, a form of batch norm may be more accurate than layer norm." for cell in unsure),
    ]
    return Verdict(QUALIFIED, " ".join([*limits, because]))


def _losses(cell: str, findings: Findings) -> list:
    """The three comparisons in which plain batch norm can lose: intervals, in points."""
    to_layer_norm = [findings[f"{cell}, {PLAIN} − layer norm", _points(_accuracy(name))] for name in (TRAINED, LONGER)]
    return [findings[f"{cell}, {PLAIN}", GAP], *to_layer_norm]


def _gains(cell: str, findings: Findings) -> list:
    """Each form of batch norm − layer norm, at the lengths of training and at longer ones: intervals, in points."""
    return [
        findings[f"{cell}, {norm} − layer norm", _points(quantity)]
        for norm in MASKED
        for quantity, lengths, _ in _forms(norm)
        if lengths != LONGEST
    ]


def _told(cell: str, findings: Findings) -> str:
    """The numbers of a kind of network that decide, and those beyond."""
    names = [f"{cell}, layer norm", f"{cell}, {PLAIN}"]
    layer, plain = ("/".join(f"{findings[name, _accuracy(r)].estimate:.1f}" for r in RANGES) for name in names)
    gap = findings[f"{cell}, {PLAIN}", GAP]
    best = max(MASKED, key=lambda norm: findings[f"{cell}, {norm}", _accuracy(TRAINED)].estimate)
    of_best = "/".join(f"{findings[f'{cell}, {best}', _accuracy(r)].estimate:.1f}" for r in RANGES)
    against = findings[f"{cell}, {best} − layer norm", _points(_accuracy(TRAINED))]
    counted = "/".join(f"{findings[f'{cell}, {COUNTED}', _accuracy(r)].estimate:.1f}" for r in RANGES)
    return (
        f"{cell}, percent right at lengths {', '.join(RANGES)}: layer norm {layer}, plain batch norm {plain}, its "
        f"best form there, {best.removeprefix('batch norm, ')}, {of_best}, and {counted} with statistics per step that "
        f"count the padding. Evaluation minus training mode, plain: {gap:+.1f} points; best form minus layer norm, lengths "
        f"{TRAINED}: {against:+.1f}."
    )


CLAIM = Claim(
    id="sequences",
    number=11,
    claim="It suits recurrent networks and varying lengths badly; layer norm is preferred",
    source=("ba2016layer", "cooijmans2017recurrent"),
    hypothesis=(
        "Batch norm that is put into a recurrent network as into any other, one module for all steps, is less accurate "
        "in evaluation mode than in training mode, or than layer norm, or at lengths that training did not have. With "
        "care, statistics per step and a small γ, it may work; layer norm needs none, and is as good as the best form."
    ),
    metric=(
        f"Test accuracy in evaluation mode of recurrent networks (tanh and LSTM) that read an image row by row and "
        f"then 0 to 8 blank rows, padded to {TRAINED.split()[-1]} steps, with the norm of W x + U h at each step, at "
        f"the learning rate of Adam that is best on validation data; tested at lengths {', '.join(RANGES)}. A "
        f"difference counts if the interval of the paired difference lies beyond {MATTERS:.0f} points. Plain batch norm "
        "is awkward if it loses so much from training to evaluation mode, or against layer norm at one of the first "
        "two ranges; layer norm is preferable if no form of batch norm gains so much there"
    ),
    seeds=SEEDS,
    conditions={f"{cell}, {norm}": partial(run, cell, norm) for cell in CELLS for norm in NORMS},
    measure=measure,
    judge=judge,
    slice=(f"LSTM, {PER_STEP[1]}",),
)
