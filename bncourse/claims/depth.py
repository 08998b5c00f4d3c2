"""Claim 5: beyond 10 layers gradients vanish or explode without batch norm; 50 layers are practically impossible."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
from bncourse.claims.statistics import mean, ratio, share
from bncourse.models import MLP, ResidualMLP
from bncourse.training import cross_entropy
from bncourse.training.fitting import seeded

SEEDS = tuple(range(5))  # for training
PROBE_SEEDS = tuple(range(10))  # for what is measured before the first step, which costs little
WIDTH = 64
SHALLOW, JUST_BEYOND, BEYOND, DEEP, DEEPEST = 5, 11, 21, 51, 101  # hidden layers
TRAINED_DEPTHS = (SHALLOW, JUST_BEYOND, BEYOND, DEEP)  # what is deeper is only looked at before the first step
EPOCHS, BATCH_SIZE, MOMENTUM = 28, 128, 0.9  # 252 steps with the digits
COUNT = 8  # learning rates of a grid, each a factor of √10 above the one before
TRAINS = 90.0  # percent of the test digits: a network below has not learned the task
STAYS = 10.0  # a gradient that changes by a larger factor on its way through the network vanishes or explodes
FLOOR = 1e-300  # norm that a gradient counts with if all of it is 0

ACCURACY = "test accuracy (%)"
SHARE = "share of runs that train"
FIRST = "gradient of the first hidden layer's weights (norm)"
LAST = "gradient of the last hidden layer's weights (norm)"
ACROSS = "gradient, first over last hidden layer (ratio)"
BY_DEPTH = "gradient of the first hidden layer, over that with 5 layers (ratio)"
SIMILARITY = "similarity of two samples in the last hidden layer (mean cosine)"
COSINE = "mean cosine of two samples"  # in one draw

# Orthogonal weights are for tanh, not ReLU: with them, singular values near 1 pass through all layers (Saxe et al.
# 2014; Xiao et al. 2018). That needs gain 1, the border between order and chaos for biases of 0. PyTorch's
# calculate_gain("tanh"), 5/3, lies far in the chaotic phase, where gradients grow exponentially with depth.
WITHOUT = {
    "default": {"norm": None, "init": None},
    "He": {"norm": None},
    "orthogonal": {"norm": None, "activation": nn.Tanh, "init": nn.init.orthogonal_},
}
PLAIN = WITHOUT | {"batch norm": {"norm": nn.BatchNorm1d}, "layer norm": {"norm": nn.LayerNorm}}  # with He
RESIDUAL = {
    "residual": {},
    "residual, batch norm": {"norm": nn.BatchNorm1d},
    "residual, layer norm": {"norm": nn.LayerNorm},
    "residual, SkipInit": {"start": "skipinit"},
    "residual, Fixup": {"start": "fixup"},
}
# They begin with branches that give 0, whose gradients are 0 or those of a network without branches.
WITHOUT_GRADIENT = ("residual, SkipInit", "residual, Fixup")


def name(network: str, layers: int) -> str:
    """Of a condition."""
    return f"{network}, {layers} layers"


CONDITIONS = {
    name(network, layers): (network, layers) for network in (*PLAIN, *RESIDUAL) for layers in (*TRAINED_DEPTHS, DEEPEST)
}


def make(network: str, layers: int, features: int) -> nn.Module:
    """A network with so many hidden layers."""
    if network in PLAIN:
        return MLP([features, *[WIDTH] * layers, CLASSES], **PLAIN[network])
    return ResidualMLP(features, WIDTH, (layers - 1) // 2, CLASSES, **RESIDUAL[network])


def rates(network: str, layers: int) -> tuple[float, ...]:
    """The grid of learning rates: as many for each, and lower where there is no norm to bear high ones."""
    # Every block of a residual network without norm or other start doubles the variance, and 25 make activations of
    # several thousand.
    doubled = {BEYOND: -10, DEEP: -16}.get(layers, -8)
    lowest = doubled if network == "residual" else -8 if network in (*WITHOUT, "layer norm") else -7
    return tuple(10.0 ** (k / 2) for k in range(lowest, lowest + COUNT))


def run(network: str, layers: int, setting: Setting) -> Trial:
    """Probes before the first step and, unless it is too deep for the budget, the test accuracy."""
    maker = partial(make, network, layers, setting.features)
    values = probes(maker, setting, gradients=network not in WITHOUT_GRADIENT)
    if layers not in TRAINED_DEPTHS:
        return Trial(values)
    optimizer = partial(torch.optim.SGD, momentum=MOMENTUM)
    grid = rates(network, layers)
    tuned = tune(maker, setting, seeds=SEEDS, grid=grid, epochs=EPOCHS, batch_size=BATCH_SIZE, optimizer=optimizer)
    return tuned.trial({ACCURACY: tuned.accuracy(), **values})


def probes(maker: partial, setting: Setting, *, gradients: bool) -> dict[str, list[float]]:
    """What :func:`probe` finds with one batch of training samples, seed by seed."""
    found = []
    for seed in setting.seeds or PROBE_SEEDS:
        with seeded(seed, torch.device("cpu")):
            network = maker().to(setting.device)
        x, y = (values[:BATCH_SIZE].to(setting.device) for values in setting.parts()(seed).train)
        found.append(probe(network, x, y))
    names = (FIRST, LAST, COSINE) if gradients else (COSINE,)
    return {name: [numbers[name] for numbers in found] for name in names}


def probe(network: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """Norms of gradients, and the mean cosine of two samples, before the first step and in training mode."""
    network.double()  # 100 layers can leave less than float32 holds
    *hidden, head = [module for module in network.modules() if isinstance(module, nn.Linear)]
    activations: list[Tensor] = []
    head.register_forward_pre_hook(lambda _, inputs: activations.append(inputs[0].detach()))
    loss = cross_entropy(network(x.double()), y)
    norms = [float(g.norm()) for g in torch.autograd.grad(loss, [hidden[0].weight, hidden[-1].weight])]
    first, last = (max(norm, FLOOR) for norm in norms)
    return {FIRST: first, LAST: last, COSINE: similarity(activations[0])}


def similarity(activations: Tensor) -> float:
    """Mean cosine of two different samples of (N, C)."""
    directions = F.normalize(activations, dim=1)
    cosines = directions @ directions.T
    count = len(activations)
    return float((cosines.sum() - cosines.trace()) / (count * (count - 1)))


def measure(trials: Mapping[str, Trial]) -> list[Measurement]:
    """Accuracies and similarities as they are; of gradients, ratios within a network and to one with 5 layers.

    Of what is measured before the first step, with more seeds than the claim's, only the intervals are kept.
    """
    found = []
    for condition, (network, _) in CONDITIONS.items():
        values, shallow = trials[condition].values, trials[name(network, SHALLOW)].values
        if ACCURACY in values:
            accuracies = values[ACCURACY]
            hits = tuple(float(value >= TRAINS) for value in accuracies)
            found.append(Measurement.mean(condition, ACCURACY, accuracies))
            found.append(Measurement(condition, SHARE, share(hits), hits))
        if FIRST in values:
            found.append(Measurement(condition, ACROSS, ratio(values[FIRST], values[LAST])))
            found.append(Measurement(condition, BY_DEPTH, ratio(values[FIRST], shallow[FIRST])))
        found.append(Measurement(condition, SIMILARITY, mean(values[COSINE])))
    return found


def judge(findings: Findings) -> Verdict:
    """The rule.

    The claim has two parts, both about plain networks (without shortcuts) that have no norm. One initialization is
    enough to refute a part, since the claim speaks of all.

    A network *trains* if all of the interval of its accuracy is ``TRAINS`` or more, and *fails* if all of it is less. Its
    gradient *stays* if the gradient of the first hidden layer has at most ``STAYS`` times, and at least 1 / ``STAYS``
    of, the norm of that of the last hidden layer, and likewise of that of the first layer in a network of 5 layers:
    both intervals lie within these limits. (All layers of a network could vanish together: hence the second.) It
    *vanishes or explodes* if one of the two intervals lies outside.

    (a) Beyond 10 layers gradients vanish or explode. Refuted: with some initialization the gradient stays with 11, 21
    and 51 layers. Confirmed: with every initialization it vanishes or explodes with 21 and with 51.
    (b) 50 layers are practically impossible. Refuted: some initialization trains with 51. Confirmed: every one fails
    with 51, and the same network with batch norm trains.

    Not testable here: no initialization trains even with 5 layers, or no network at all, normalized and residual ones
    included, trains with 51; then the budget is too small for the question. Not supported: both are refuted.
    Supported: both are confirmed. Qualified: all else.
    """
    no_verdict = _nothing_to_tell(findings)
    if no_verdict:
        return Verdict(NOT_TESTABLE, no_verdict)
    steady = [n for n in WITHOUT if all(_stays(findings, n, layers) for layers in (JUST_BEYOND, BEYOND, DEEP))]
    unsteady = [n for n in WITHOUT if all(_changes(findings, n, layers) for layers in (BEYOND, DEEP))]
    trained = [n for n in WITHOUT if _trains(findings, n, DEEP)]
    failed = [n for n in WITHOUT if findings[name(n, DEEP), ACCURACY].high < TRAINS]
    part_a = "refuted" if steady else "confirmed" if len(unsteady) == len(WITHOUT) else "open"
    batch_norm_alone = len(failed) == len(WITHOUT) and _trains(findings, "batch norm", DEEP)
    part_b = "refuted" if trained else "confirmed" if batch_norm_alone else "open"
    verdicts = {("refuted", "refuted"): NOT_SUPPORTED, ("confirmed", "confirmed"): SUPPORTED}
    return Verdict(verdicts.get((part_a, part_b), QUALIFIED), _because(findings, part_a, steady, part_b, trained))


def _trains(findings: Findings, network: str, layers: int) -> bool:
    return findings[name(network, layers), ACCURACY].low >= TRAINS


def _stays(findings: Findings, network: str, layers: int) -> bool:
    intervals = [findings[name(network, layers), quantity] for quantity in (ACROSS, BY_DEPTH)]
    return all(1 / STAYS <= i.low and i.high <= STAYS for i in intervals)


def _changes(findings: Findings, network: str, layers: int) -> bool:
    intervals = [findings[name(network, layers), quantity] for quantity in (ACROSS, BY_DEPTH)]
    return any(i.high < 1 / STAYS or i.low > STAYS for i in intervals)


def _nothing_to_tell(findings: Findings) -> str:
    """Why the question cannot be answered; empty if it can."""
    if not any(_trains(findings, network, SHALLOW) for network in WITHOUT):
        return f"Without batch norm, no plain network trains even with {SHALLOW} hidden layers."
    if not any(_trains(findings, network, DEEP) for network in (*PLAIN, *RESIDUAL)):
        return f"No network trains with {DEEP} hidden layers, whether with batch norm, without, or residual."
    return ""


def _because(findings: Findings, part_a: str, steady: Sequence[str], part_b: str, trained: Sequence[str]) -> str:
    """The numbers that decide, for 51 layers, and those of the default initialization beside them."""

    def across(network: str) -> str:
        return f"{findings[name(network, DEEP), ACROSS].estimate:.2g} with {network}"

    def accuracy(network: str) -> str:
        return f"{findings[name(network, DEEP), ACCURACY].estimate:.1f} % with {network}"

    gradients = {
        "refuted": f"stays, without a norm, within a factor of {STAYS:.0f} for {_names(steady)} weights",
        "confirmed": "vanishes or explodes, without a norm, whatever the weights",
        "open": f"stays within a factor of {STAYS:.0f}, without a norm, for no kind of weights at every depth, but "
        "does not surely vanish or explode for all of them",
    }
    training = {
        "refuted": f"train without a norm with {_names(trained)} weights",
        "confirmed": "train with batch norm, and without a norm with no kind of weights",
        "open": "train, without a norm, with no kind of weights for sure, but that does not show that batch norm is "
        "what they need",
    }
    networks = (*WITHOUT, "batch norm")
    return (
        "Orthogonal weights go with tanh, all others with ReLU. "
        f"Before the first step, the gradient {gradients[part_a]}; first over last of {DEEP} hidden layers: "
        f"{', '.join(map(across, networks))}. {DEEP} plain layers {training[part_b]}: "
        f"{', '.join(map(accuracy, networks))}."
    )


def _names(networks: Sequence[str]) -> str:
    return " and ".join(networks)


CLAIM = Claim(
    id="depth",
    number=5,
    claim="Beyond 10 layers, gradients vanish or explode without it; 50 layers are practically impossible",
    source=(
        "ioffe2015batch",
        "he2015delving",
        "saxe2014exact",
        "xiao2018dynamical",
        "yang2019mean",
        "zhang2019fixup",
        "de2020batch",
    ),
    hypothesis=(
        "Without batch norm, plain networks of more than 10 layers have gradients that vanish or explode, however they "
        "are initialized, and with 51 layers they do not learn; with batch norm they do."
    ),
    metric=(
        f"Before the first step, over {len(PROBE_SEEDS)} draws and one batch of {BATCH_SIZE}: the norm of the gradient "
        f"of the first hidden layer's weights, over that of the last hidden layer's, and over that in a network of "
        f"{SHALLOW} layers; a gradient stays if both intervals lie between 1/{STAYS:.0f} and {STAYS:.0f}. Test "
        f"accuracy after {EPOCHS} epochs of SGD with momentum {MOMENTUM}, batches of {BATCH_SIZE} and hidden layers of "
        f"{WIDTH} units, at the best of {COUNT} learning rates on validation data, the lowest 0.0001 in plain networks "
        f"without a norm; a network trains if all of the interval of its accuracy is {TRAINS:.0f} % or more. Impossible "
        f"means: within these steps, width and rates. {DEEPEST} layers are only measured before the first step"
    ),
    seeds=SEEDS,
    conditions={condition: partial(run, *what) for condition, what in CONDITIONS.items()},
    measure=measure,
    judge=judge,
    slice=(name("He", SHALLOW), name("batch norm", SHALLOW)),
)
