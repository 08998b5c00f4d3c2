"""Claim 10: small batches make batch norm's statistics noisy, and that hurts."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

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
from bncourse.claims.experiment import CLASSES, SIZES, Setting, Trial, in_training_mode, tune
from bncourse.claims.statistics import quotient
from bncourse.models import MLP, Norm
from bncourse.training import accuracy
from bncourse.training.stacking import FORMS

SEEDS = tuple(range(5))
HIDDEN = [64] * 2  # of the MLP
CHANNELS = [8, 16]  # of the CNN
EPOCHS = 15  # whatever the batch size: every network sees the same number of samples
RATES = tuple(2.0**k for k in range(-11, 4))
LARGE_BATCH = 1024  # at most so many samples at once, when precise statistics are computed

LARGE, SMALL = 64, 2  # the batch sizes that the claim is judged by
BATCH_SIZES = (2, 4, 8, 16, 32, 64, 256)
LEARNS = 50.0  # percent, five times chance: a network below, at the large batch size, has nothing to lose
HURTS = 1.0  # points: a loss of accuracy that matters

ACCURACY = "test accuracy (%)"  # with running averages, if the norm has some
PRECISE = "test accuracy with precise statistics (%)"
OWN = "test accuracy with the statistics of the test batch (%)"
GIVEN_BACK = "given back by precise statistics (points)"
SHARE = "given back by precise statistics (share of the loss)"
DIFFERENCE = "difference (points)"
PRECISE_DIFFERENCE = "difference with precise statistics (points)"

NORMS = {  # a group, in group norm, is within a sample
    "MLP": {
        "batch norm": nn.BatchNorm1d,
        "group norm": partial(nn.GroupNorm, 8),
        "layer norm": nn.LayerNorm,
        "none": None,
    },
    "CNN": {
        "batch norm": nn.BatchNorm2d,
        "group norm": partial(nn.GroupNorm, 4),
        "layer norm": partial(nn.GroupNorm, 1),  # over all channels and positions of a sample
        "instance norm": partial(nn.InstanceNorm2d, affine=True),
        "none": None,
    },
}


# The networks


class CNN(nn.Sequential):
    """3 × 3 convolutions with norm and ReLU, and a linear layer: (N, C, H, W) → (N, 10)."""

    def __init__(self, in_channels: int, side: int, norm: Norm) -> None:
        parts: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(pairwise([in_channels, *CHANNELS])):
            conv = nn.Conv2d(inputs, outputs, 3, stride=2 if i else 1, padding=1, bias=norm is None)
            nn.init.kaiming_normal_(conv.weight)
            parts += [conv, nn.Identity() if norm is None else norm(outputs), nn.ReLU()]
        head = nn.Conv2d(CHANNELS[-1], CLASSES, side // 2)  # as large as what it sees: a linear layer
        super().__init__(*parts, head, nn.Flatten())


class StackedCNN(nn.Module):
    """M CNNs as one, with the channels of all side by side: (M, N, C, H, W) → (M, N, 10).

    M convolutions are one of M groups, and M norms one of M times as many channels, and groups.
    """

    def __init__(self, members: Sequence[CNN]) -> None:
        super().__init__()
        self.wide = copy.deepcopy(members[0])
        for name, module in self.wide.named_modules():
            for count in ("groups", "in_channels", "out_channels", "num_features", "num_groups", "num_channels"):
                if hasattr(module, count):
                    setattr(module, count, len(members) * getattr(module, count))
            alike = [member.get_submodule(name) for member in members]
            for own, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                if value.dim():
                    joined = torch.cat([getattr(part, own).detach() for part in alike])
                    setattr(module, own, nn.Parameter(joined) if isinstance(value, nn.Parameter) else joined)

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(x.transpose(0, 1).flatten(1, 2)).unflatten(1, (len(x), -1)).transpose(0, 1)


FORMS[CNN] = StackedCNN  # so that all runs of a condition are trained at once


# The experiment


def run(network: str, norm: str, batch_size: int, setting: Setting) -> Trial:
    """Test accuracy of a network that was trained with so many samples in a batch."""
    if network == "MLP":
        make, form = partial(MLP, [setting.features, *HIDDEN, CLASSES], NORMS[network][norm]), "vectors"
    else:
        make, form = partial(CNN, *SIZES[setting.data], NORMS[network][norm]), "images"
    with _without_denormals():
        tuned = tune(make, setting, seeds=SEEDS, grid=RATES, form=form, epochs=EPOCHS, batch_size=batch_size)
    values = {ACCURACY: tuned.accuracy()}
    if norm == "batch norm":
        # The networks and the rate stay those that were chosen with running averages, which is how they are used.
        values |= {PRECISE: [], OWN: []}
        for seed, trained in zip(tuned.sweep.seeds, tuned.networks, strict=True):
            data = tuned.parts(seed)
            train, x, y = (tensor.to(setting.device) for tensor in (data.train.x, *data.test))
            with torch.no_grad():
                precise = with_precise_statistics(trained, train).eval()(x)
            values[PRECISE].append(100 * float(accuracy(precise, y)))
            values[OWN].append(100 * float(accuracy(in_training_mode(trained, x, batch_size), y)))
    return tuned.trial(values)


@contextmanager
def _without_denormals() -> Iterator[None]:
    """Numbers below 1e-38 become 0: thousands of small steps make many, and a processor is ten times slower with them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def with_precise_statistics(network: nn.Module, x: Tensor) -> nn.Module:
    """A copy of the network, with the mean of the statistics of large batches of ``x`` for running averages.

    The weights stay. Source: Wu and Johnson 2021 (arXiv:2105.07576), section 3.
    """
    network = copy.deepcopy(network).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # each batch counts the same
    with torch.no_grad():
        for batch in x.chunk(math.ceil(len(x) / LARGE_BATCH)):  # of equal size, up to a few
            network(batch)
    return network


def measure(trials: Mapping[str, Trial]) -> list[Measurement]:
    """The accuracy of each, what precise statistics give back, and each batch size against the large one."""
    found = means(trials)
    for name, trial in trials.items():
        if PRECISE in trial.values:
            found.append(Measurement.difference(name, GIVEN_BACK, trial.values[PRECISE], trial.values[ACCURACY]))
    for network in NORMS:
        for size in BATCH_SIZES:
            found += _against_batch_norm(network, size, trials)
            found += _against_the_large_batch(network, size, trials) if size != LARGE else []
    return found


def _against_batch_norm(network: str, size: int, trials: Mapping[str, Trial]) -> list[Measurement]:
    """Every other norm minus batch norm, with the same batch size."""
    baseline = trials[_name(network, "batch norm", size)].values[ACCURACY]
    return [
        Measurement.difference(
            _name(network, f"{norm} − batch norm", size),
            DIFFERENCE,
            trials[_name(network, norm, size)].values[ACCURACY],
            baseline,
        )
        for norm in NORMS[network]
        if norm != "batch norm"
    ]


def _against_the_large_batch(network: str, size: int, trials: Mapping[str, Trial]) -> list[Measurement]:
    """Every norm with this batch size minus the same with the large one; and batch norm's difference minus group norm's."""
    found, losses = [], {}
    for norm in NORMS[network]:
        small, large = (trials[_name(network, norm, s)].values for s in (size, LARGE))
        name = _comparison(network, norm, size)
        found.append(Measurement.difference(name, DIFFERENCE, small[ACCURACY], large[ACCURACY]))
        losses[norm] = found[-1].values
        if PRECISE in small:
            back = [p - a for p, a in zip(small[PRECISE], small[ACCURACY], strict=True)]
            found.append(Measurement(name, SHARE, quotient(back, [-loss for loss in losses[norm]])))
            found.append(Measurement.difference(name, PRECISE_DIFFERENCE, small[PRECISE], large[PRECISE]))
    pair = losses["batch norm"], losses["group norm"]
    return [*found, Measurement.difference(_comparison(network, "batch norm − group norm", size), DIFFERENCE, *pair)]


def _name(network: str, norm: str, batch_size: int) -> str:
    return f"{network}, {norm}, batches of {batch_size}"


def _comparison(network: str, norms: str, batch_size: int) -> str:
    return f"{network}, {norms}, batches of {batch_size} − {LARGE}"


# The rule


def judge(findings: Findings) -> Verdict:
    """The rule.

    Batch norm hurts in a network if, from batches of 64 to batches of 2, it loses more than a point of accuracy. The
    harm is batch norm's if group norm loses less. It is harmless if it loses less than a point. In each case the whole
    interval says so.

    Supported: it hurts in both networks, and in both the harm is batch norm's. Qualified: it hurts in one of them, or
    group norm may lose as much. Not supported: it is harmless in both. Not testable here: a network does not learn with
    batches of 64; or it hurts in none, and the intervals are too wide to say that it is harmless.

    How much precise statistics give back does not decide, but is said: that part of the harm is not done by noise in
    training, but by running averages that do not fit.
    """
    low = {_name(n, norm, LARGE) for n in NORMS for norm in ("batch norm", "group norm")}
    low = sorted(name for name in low if findings[name, ACCURACY].low < LEARNS)
    if low:
        return Verdict(NOT_TESTABLE, f"Not above {LEARNS:.0f} % even with large batches: {'; '.join(low)}.")
    losses = {n: findings[_comparison(n, "batch norm", SMALL), DIFFERENCE] for n in NORMS}
    excess = {n: findings[_comparison(n, "batch norm − group norm", SMALL), DIFFERENCE] for n in NORMS}
    hurt = [n for n, loss in losses.items() if loss.high < -HURTS]
    its_own = [n for n in hurt if excess[n].high < 0]
    because = " ".join(_told(n, findings) for n in NORMS)
    if not hurt:
        if all(loss.low > -HURTS for loss in losses.values()):
            return Verdict(NOT_SUPPORTED, because)
        return Verdict(NOT_TESTABLE, f"The intervals are too wide to tell. {because}")
    if len(its_own) == len(NORMS):
        return Verdict(SUPPORTED, because)
    spared = [
        f"That batch norm loses more than {HURTS:.0f} point is not shown for the {n}." for n in NORMS if n not in hurt
    ]
    shared = [f"In the {n}, group norm may lose as much." for n in hurt if n not in its_own]
    return Verdict(QUALIFIED, " ".join([*spared, *shared, because]))


def _told(network: str, findings: Findings) -> str:
    """What batch norm and group norm lose in a network, and what precise statistics give back."""
    loss, other = (findings[_comparison(network, norm, SMALL), DIFFERENCE] for norm in ("batch norm", "group norm"))
    between = [size for size in BATCH_SIZES if SMALL < size < LARGE]
    rest = ", ".join(
        f"{findings[_comparison(network, 'batch norm', size), DIFFERENCE].estimate:+.1f} at {size}" for size in between
    )
    given_back = findings[_name(network, "batch norm", SMALL), GIVEN_BACK]
    own = findings[_name(network, "batch norm", SMALL), OWN]
    return (
        f"{network}: from batches of {LARGE} to batches of {SMALL}, batch norm {loss:+.1f} points ({rest}), group norm "
        f"{other:+.1f} points; precise statistics give back {given_back.estimate:.1f} of these points; with the statistics "
        f"of the test batch {own.estimate:.1f} % are right."
    )


CLAIM = Claim(
    id="batch_size",
    number=10,
    claim="Small batches make its statistics noisy, and that hurts",
    source=("ioffe2015batch", "wu2018group", "wu2021rethinking", "singh2019evalnorm", "ioffe2017batch"),
    hypothesis=(
        f"From batches of {LARGE} to batches of {SMALL}, networks with batch norm lose accuracy, and networks with "
        f"group norm, whose statistics are a sample's own, lose less. {SMALL} is the hardest case: of two values, batch "
        "norm in an MLP makes ±1 whatever they are, up to γ and β; a convolution has many positions in each sample."
    ),
    metric=(
        f"Test accuracy in evaluation mode after {EPOCHS} epochs, so the same number of samples, at the learning rate "
        "that is best on validation data for this norm and batch size; an MLP with 2 hidden layers of 64 units and a "
        f"CNN with 2 convolutions; it hurts if the interval of the paired difference lies below −{HURTS:.0f} point, and "
        "it is batch norm's own harm if the interval of its difference minus group norm's lies below 0; the same "
        "networks evaluated with precise statistics, and with those of the test batch, say what running averages cost"
    ),
    seeds=SEEDS,
    conditions={
        _name(network, norm, size): partial(run, network, norm, size)
        for network, norms in NORMS.items()
        for norm in norms
        for size in BATCH_SIZES
    },
    measure=measure,
    judge=judge,
    slice=("MLP, batch norm, batches of 256", "MLP, group norm, batches of 64"),
)
