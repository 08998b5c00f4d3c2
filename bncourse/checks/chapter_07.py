"""Chapter 7, inference: its exercises, and the mistakes made in them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .chapter_02 import AFFINE_MISTAKES, STATISTICS_MISTAKES, asked, chosen, close, own
from .chapter_04 import RUNNING_STD
from .exercise import Exercise, Form, Inputs, Mistake, Operation, Probe, Property, step
from .observe import Unusable, a
from .torch_answers import build, expect_subclass, tensor

if TYPE_CHECKING:
    import torch


class Folding(Operation):
    """weight ← s · weight, bias ← s · (bias − μ) + β, with s = γ / √(σ² + ε) for each output channel."""

    outputs = ("new_weight", "new_bias")

    @step
    def epsilon(s):
        return s.eps

    @step
    def var(s):
        return s.running_var

    @step
    def std(s):
        return np.sqrt(s.var + s.epsilon)

    @step
    def params(s):
        """γ and β, in this order."""
        return s.bn_weight, s.bn_bias

    @step
    def scale(s):
        """s, what the outputs of the convolution are multiplied by."""
        return s.params[0] / s.std

    @step
    def across(s):
        """s in a shape that lines up with the weight."""
        return s.scale.reshape(-1, 1, 1, 1)

    @step
    def bias_scale(s):
        """s as the bias sees it."""
        return s.scale

    @step
    def old_bias(s):
        return np.zeros(len(s.weight)) if s.bias is None else s.bias

    @step
    def bias_part(s):
        return s.old_bias * s.bias_scale

    @step
    def mean_part(s):
        return s.running_mean * s.bias_scale

    @step
    def shift(s):
        return s.params[1]

    @step
    def new_weight(s):
        return s.weight * s.across

    @step
    def new_bias(s):
        return s.bias_part - s.mean_part + s.shift


# A network is a list of these: what stands in it, and how deep inside
NETWORKS = {
    "images": (("BatchNorm2d", 0), ("BatchNorm2d", 1), ("BatchNorm1d", 0)),
    "table": (("BatchNorm1d", 1), ("BatchNorm1d", 0)),
    "volumes": (("BatchNorm3d", 0), ("BatchNorm3d", 2)),
}


class Freezing(Operation):
    """What a network with frozen batch norms does in two epochs with a validation between them; 1 is yes, 0 is no.

    The first three outputs have an entry for each batch norm.
    """

    outputs = (
        *("fixed_in_epoch_1", "fixed_in_epoch_2", "statistics_kept", "gamma_and_beta_kept"),
        *("others_trained", "dropout", "training", "train_returns_itself", "same_in_evaluation"),
    )

    @step
    def norms(s):
        """Kind and depth of every batch norm."""
        return NETWORKS[s.network]

    @step
    def found(s):
        """Which of them are frozen."""
        return np.ones(len(s.norms))

    @step
    def at_first(s):
        """Which of them are in evaluation mode before anybody calls train()."""
        return s.found

    @step
    def again(s):
        """Which of them are in evaluation mode after train()."""
        return s.found

    @step
    def without_gradient(s):
        return s.found

    @step
    def fixed_in_epoch_1(s):
        """Whether the batch norm uses its running statistics in training."""
        return s.at_first

    @step
    def fixed_in_epoch_2(s):
        return s.again

    @step
    def statistics_kept(s):
        return s.at_first * s.again

    @step
    def gamma_and_beta_kept(s):
        return s.without_gradient

    @step
    def others_trained(s):
        """Whether all linear layers and convolutions, all other norms are trained."""
        return np.ones(2)

    @step
    def dropout(s):
        """Whether it is active in epoch 1, in the validation, in epoch 2."""
        return np.array([1.0, 0.0, 1.0])

    @step
    def training(s):
        """The network's own mode in the validation and in epoch 2."""
        return np.array([0.0, 1.0])

    @step
    def train_returns_itself(s):
        return 1.0

    @step
    def same_in_evaluation(s):
        """Whether the outputs in evaluation mode are those of the network that came in."""
        return 1.0


# Mistakes of folding

AT_THE_MEAN = "Where the convolution puts out running_mean: what does batch norm make of it, and what your new layer?"
ONE_STEP = "If the output of the convolution grows by one running standard deviation, by how much should that of yours?"


def _along(*shape: int) -> Form:
    """s in a shape that lines up with another axis of the weight."""
    return {"across": lambda s: s.scale.reshape(shape)}


def _corrected(count: Callable) -> Form:
    """running_var corrected as if it were the biased variance of so many values."""
    return {"var": lambda s: s.running_var * np.float64(count(s)) / (count(s) - 1)}


def _without_bias(value: Callable) -> Form:
    """Another bias for a convolution that has none; right for others."""
    return {"new_bias": lambda s: value(s) if s.bias is None else Folding.new_bias.compute(s)}


def _per_output(values: np.ndarray | float) -> np.ndarray:
    return np.reshape(values, (-1, 1, 1, 1))


FOLDING_MISTAKES = (
    Mistake(
        "U15",
        "The bias of the convolution is not scaled. Batch norm multiplies all that the convolution puts out, its bias "
        "as well.",
        "What does batch norm make of an output that is all bias?",
        {"bias_part": lambda s: s.old_bias},
    ),
    Mistake(
        "U16",
        "A convolution without a bias gets one by folding: batch norm subtracts a mean and adds β, and that has to go "
        "somewhere.",
        "If bias is None, what does batch norm still add to the output?",
        {"old_bias": lambda s: s.bias - 0.0},  # raises TypeError for None
        _without_bias(lambda s: np.zeros(len(s.weight))),
        _without_bias(lambda s: s.shift),
        _without_bias(lambda s: -s.mean_part),
        _without_bias(lambda s: s.shift - s.running_mean),
        _without_bias(lambda s: s.shift * s.bias_scale),
    ),
    Mistake(
        "U17",
        "ε is missing. Batch norm adds it to the variance in evaluation, too, and the new layer has to do the same.",
        "Where does eps occur in your code?",
        {"epsilon": lambda s: 0.0},
    ),
    Mistake(
        "U19",
        "The scale lies along another axis of the weight. It belongs to the output channels: in the weight of shape "
        "(C_out, C_in, kH, kW) these are on axis 0.",
        "With which axis of four does NumPy align an array of shape (C_out,)?",
        _along(-1),
        _along(-1, 1),
        _along(-1, 1, 1),
        {"new_weight": lambda s: (s.weight.reshape(-1, len(s.scale)) * s.scale).reshape(s.weight.shape)},
    ),
    Mistake(
        "U41",
        "The bias of the convolution got lost: your new bias is the same whatever the old one was.",
        "Where does bias occur in your code?",
        {"bias_part": lambda s: 0.0},
    ),
    Mistake(
        "U42",
        "The bias came back as it was: only the weight is folded.",
        AT_THE_MEAN,
        {"new_bias": lambda s: s.old_bias + 0.0},
        {"new_bias": lambda s: s.bias + 0.0},  # raises TypeError for None
    ),
    Mistake(
        "U43",
        "The weight came back as it was. What batch norm multiplies by, the weight has to be multiplied by.",
        ONE_STEP,
        {"new_weight": lambda s: s.weight},
    ),
    Mistake(
        "U44",
        "running_mean is added; batch norm subtracts it.",
        AT_THE_MEAN,
        {"mean_part": lambda s: -s.running_mean * s.bias_scale},
    ),
    Mistake(
        "U45",
        "running_mean is not scaled as the weight is. Batch norm subtracts first and multiplies then.",
        AT_THE_MEAN,
        {"mean_part": lambda s: s.running_mean},
        {"mean_part": lambda s: s.running_mean / s.std},
        {"mean_part": lambda s: s.running_mean * s.params[0]},
    ),
    Mistake(
        "U46",
        "running_mean is missing: what the convolution puts out is not centred.",
        AT_THE_MEAN,
        {"mean_part": lambda s: 0.0},
    ),
    Mistake(
        "U47",
        "You divided by the scale instead of multiplying by it.",
        ONE_STEP,
        {"scale": lambda s: s.std / s.params[0]},
        {"across": lambda s: _per_output(1 / s.scale)},
    ),
    Mistake(
        "U48",
        "You normalized the weight itself, with the mean or the β of the outputs. A number that is added to the outputs "
        "belongs into the bias.",
        "If the input of the convolution is all 0, what does the weight do?",
        {"new_weight": lambda s: (s.weight - _per_output(s.running_mean)) * s.across + _per_output(s.shift)},
        {"new_weight": lambda s: (s.weight - _per_output(s.running_mean)) * s.across},
        {"new_weight": lambda s: s.weight * s.across + _per_output(s.shift)},
    ),
    *chosen(RUNNING_STD, "R14", "R05"),
    own(
        RUNNING_STD,
        "R28",
        _corrected(lambda s: len(s.weight)),
        _corrected(lambda s: s.weight[0].size),
        _corrected(lambda s: s.weight.size),
    ),
    own(
        STATISTICS_MISTAKES,
        "F02",
        {"std": lambda s: np.sqrt(s.var) + s.epsilon},
        {"std": lambda s: np.sqrt(s.var) + np.sqrt(s.epsilon)},
        {"scale": lambda s: s.params[0] / np.sqrt(s.var) + s.epsilon},
    ),
    *asked(chosen(STATISTICS_MISTAKES, "F14", "F15", "F29", "F36"), {"F36": ONE_STEP}),
    *asked(chosen(AFFINE_MISTAKES, "F11"), {"F11": AT_THE_MEAN}),
    own(AFFINE_MISTAKES, "F09", {"params": lambda s: (s.bn_bias, s.bn_weight)}, asks=AT_THE_MEAN),
    own(
        AFFINE_MISTAKES,
        "F12",
        {"params": lambda s: (np.ones(len(s.weight)), s.bn_bias)},
        {"across": lambda s: _per_output(1 / s.std)},
        {"bias_scale": lambda s: 1 / s.std},
        asks=ONE_STEP,
    ),
    own(AFFINE_MISTAKES, "F32", {"shift": lambda s: -s.params[1]}, asks=AT_THE_MEAN),
    Mistake(
        "F34",
        "β is scaled, too. Batch norm adds it last.",
        AT_THE_MEAN,
        {"shift": lambda s: s.params[1] * s.scale},
        {"shift": lambda s: s.params[1] * s.params[0]},
    ),
)

# Mistakes of freezing


def _none(s: Freezing) -> np.ndarray:
    return np.zeros(len(s.norms))


def _all(s: Freezing) -> np.ndarray:
    return np.ones(len(s.norms))


def _only(*kinds: str) -> Form:
    """Batch norms of some kinds alone are found."""
    return {"found": lambda s: np.array([float(kind in kinds) for kind, _ in s.norms])}


def _facts(*values: int) -> Callable:
    return lambda s: np.array(values, float)


DIFFERENT = {"same_in_evaluation": lambda s: 0.0}

FREEZING_MISTAKES = (
    Mistake(
        "U04",
        "The running statistics still move, and the layers normalize with each batch: requires_grad_(False) stops what "
        "an optimizer does, and nothing else.",
        "Which switch decides whether batch norm uses the batch or its memory?",
        {"at_first": _none, "again": _none},
    ),
    Mistake(
        "U05",
        "The freeze is lost after train(): it switches all layers back to training mode, the batch norms among them.",
        "Who calls train(), how often, and what does nn.Module's train() do to your layers?",
        {"again": _none},
        {"again": _none, "statistics_kept": _all},  # with a momentum of 0
    ),
    Mistake(
        "U51",
        "The batch norms are frozen only after the first train(). Until then they learn.",
        "In which mode is a network after it was built?",
        {"at_first": _none},
        {"at_first": _none, "without_gradient": _none},  # train() stops the gradients as well
    ),
    Mistake(
        "U52",
        "γ and β are still trained: evaluation mode keeps the statistics, and gradients flow all the same. "
        "(Setting those to 0 is not enough: weight decay still moves γ and β.)",
        "What does an optimizer change in a layer that is in evaluation mode?",
        {"without_gradient": _none},
    ),
    Mistake(
        "U53",
        "You froze more than the batch norms: other layers are not trained any more.",
        "Which parameters of the network have requires_grad=False now?",
        {"others_trained": _facts(0, 0)},
        {"others_trained": _facts(1, 0)},
        {"others_trained": lambda s: np.array([float(s.network == "table"), 1.0])},  # no convolution
        {"others_trained": lambda s: np.array([1.0, float(s.network != "images")])},  # no instance norm
    ),
    Mistake(
        "U54",
        "Dropout is off in training: you switched the whole network to evaluation mode, and not the batch norms alone.",
        "Which layers behave differently in the two modes?",
        {"dropout": _facts(0, 0, 0)},
        {"dropout": _facts(0, 0, 1)},
        {"dropout": _facts(1, 0, 0)},
        {"dropout": _facts(1, 0, 0), "training": _facts(0, 0)},
        {"dropout": _facts(0, 0, 0), "training": _facts(0, 0)},
    ),
    Mistake(
        "U55",
        "You looked at the outer layers only. A batch norm further inside, in a block or a block of a block, stays as "
        "it was.",
        "Which layers do you get from children(), and which from modules()?",
        {"found": lambda s: np.array([float(depth == 0) for _, depth in s.norms])},
        {"found": lambda s: np.array([float(depth <= 1) for _, depth in s.norms])},
    ),
    Mistake(
        "U56",
        "You froze some kinds of batch norm only.",
        "PyTorch has BatchNorm1d, BatchNorm2d and BatchNorm3d. Which do you look for?",
        _only("BatchNorm2d"),
        _only("BatchNorm1d"),
        _only("BatchNorm1d", "BatchNorm2d"),
        _only("BatchNorm2d", "BatchNorm3d"),
    ),
    Mistake(
        "U57",
        "The running statistics stay, but the layers normalize with each batch all the same: momentum and "
        "track_running_stats decide what is remembered.",
        "Which switch decides whether batch norm uses the batch or its memory?",
        {"at_first": _none, "again": _none, "statistics_kept": _all},
    ),
    Mistake(
        "U58",
        "eval() does not reach the network any more. It calls your train(False), so train(mode) has to pass its mode on.",
        "What should a dropout layer do in validation?",
        {"dropout": _facts(1, 1, 1), "training": _facts(1, 1), **DIFFERENT},
        {"dropout": _facts(1, 1, 1), **DIFFERENT},
    ),
    Mistake(
        "U59",
        "Your own object is not switched: training stays True in validation. Only the layers inside follow.",
        "Which method of nn.Module sets training, of a module and of all inside?",
        {"training": _facts(1, 1)},
    ),
    Mistake(
        "U60",
        "train() does not return the object itself, as the train() of every nn.Module does.",
        "What is the value of model.train(), and of model.eval()?",
        {"train_returns_itself": lambda s: 0.0},
    ),
    Mistake(
        "U61",
        "No batch norm is frozen.",
        "Let your loop print the batch norms that it meets: how many are there?",
        {"found": _none},
    ),
    Mistake(
        "U62",
        "In evaluation mode the outputs are not those of the network that came in.",
        "What does your forward do to x?",
        DIFFERENT,
    ),
)


# Probes

FOLDING_PARAMETERS = ("weight", "bias", "bn_weight", "bn_bias", "running_mean", "running_var", "eps")


def _folding_inputs(rng: np.random.Generator, shape: tuple[int, ...], eps: float, *, bias: bool = True) -> Inputs:
    """A convolution with random weights and a batch norm with random parameters and statistics."""
    outputs = shape[0]

    def away_from_0(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, outputs) * rng.choice([-1, 1], outputs)

    return {
        "weight": rng.normal(0, 1, shape),
        "bias": away_from_0(1.3, 3) if bias else None,
        "bn_weight": away_from_0(1.3, 3),
        "bn_bias": away_from_0(1.3, 3),
        "running_mean": away_from_0(2, 6),
        "running_var": rng.uniform(2, 9, outputs),
        "eps": eps,
    }


def _folding_probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    plain = _folding_inputs(rng, (4, 3, 3, 2), 1e-5)
    square = _folding_inputs(rng, (3, 3, 3, 3), 1e-2)
    still = {"running_var": np.array([0.0, 0.1, 0.3])}
    return (
        Probe("plain", "a convolution with a bias.", plain),
        Probe("epsilon", "ε = 0.5, so large that its place matters.", {**plain, "eps": 0.5}),
        Probe("no bias", "a convolution without a bias: bias is None.", {**plain, "bias": None}),
        Probe("square", "all four axes of the weight equally long, so that shapes fit which should not.", square),
        Probe("one pixel", "a convolution with a 1 × 1 kernel.", _folding_inputs(rng, (5, 2, 1, 1), 1e-3)),
        Probe("quiet", "running variances of 0 and a little more.", {**square, **still}),
    )


def _fresh_folding(rng: np.random.Generator) -> Inputs:
    shape = tuple(int(n) for n in rng.integers(2, 6, 4))
    return _folding_inputs(rng, shape, float(10 ** rng.uniform(-4, -1)), bias=bool(rng.integers(2)))


def _freezing_inputs(rng: np.random.Generator, network: str) -> Inputs:
    shape = {"images": (4, 2, 5, 5), "table": (6, 5), "volumes": (3, 2, 3, 3, 3)}[network]
    return {"x": rng.normal(1, 2, shape).astype(np.float32), "network": network}


def _freezing_probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    reasons = {
        "images": "a network for images with three batch norms, one of them inside a block.",
        "table": "a network for tables with two batch norms, one of them inside a block.",
        "volumes": "a network for volumes with two batch norms, one inside a block of a block.",
    }
    return tuple(Probe(name, reason, _freezing_inputs(rng, name)) for name, reason in reasons.items())


# Driving


def _network(name: str) -> torch.nn.Module:
    """A new network with batch norms and other norms, dropout, linear layers and convolutions."""
    from torch import nn

    if name == "images":
        block = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.Dropout(0.5))
        first = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        then = nn.Tanh(), nn.InstanceNorm2d(4, affine=True)
        layers = *first, *then, block, nn.Flatten(), nn.Linear(36, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
    elif name == "table":
        block = nn.Sequential(nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5))
        layers = nn.Linear(5, 6), block, nn.GroupNorm(2, 6), nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
    else:
        inner = nn.Sequential(nn.BatchNorm3d(4), nn.ReLU())
        block = nn.Sequential(nn.Dropout(0.5), inner)
        first = nn.Conv3d(2, 4, 2), nn.BatchNorm3d(4)
        layers = *first, block, nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(32, 3)
    return nn.Sequential(*layers)


def _batch_norms(network: torch.nn.Module) -> list[torch.nn.Module]:
    from torch.nn.modules.batchnorm import _BatchNorm

    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def _trained_network(name: str) -> torch.nn.Module:
    """The same with random running statistics, γ and β, as after training."""
    network = _network(name)
    for norm in _batch_norms(network):
        norm.running_mean.normal_(1, 1)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 2)
        norm.bias.data.normal_()
    return network


class _Watched:
    """An object of the learner's class, and what its network held at first."""

    def __init__(self, answer: type, network: torch.nn.Module, x: torch.Tensor):
        self.frozen, self.x = build(answer, "(network)", copy.deepcopy(network)), x
        self.norms = _batch_norms(self.frozen)
        count = len(_batch_norms(network))
        if len(self.norms) != count:
            says = f"The network has {count} batch norm layers, your object holds {len(self.norms)}"
            raise Unusable("type", f"{says}. Keep the network in an attribute, with its layers as they are.")
        self.statistics = [_copies(norm, "running_mean", "running_var") for norm in self.norms]
        self.gamma_and_beta = [_copies(norm, "weight", "bias") for norm in self.norms]
        layers = self._of_kind("Linear", "Conv2d", "Conv3d")
        self.others = [layers, self._of_kind("GroupNorm", "InstanceNorm2d")]
        self.weights = [[_copies(other, "weight") for other in kind] for kind in self.others]

    def _of_kind(self, *names: str) -> list[torch.nn.Module]:
        return [module for module in self.frozen.modules() if type(module).__name__ in names]

    def outputs(self) -> torch.Tensor:
        """What the object makes of x."""
        import torch

        y = self.frozen(self.x)
        if not isinstance(y, torch.Tensor):
            raise Unusable("type", f"Expected a tensor from your forward, got {a(y)}. Is there a return at its end?")
        return y

    def epoch(self) -> list[float]:
        """One step of training; for each batch norm, whether it normalized with its running statistics."""
        fixed = dict.fromkeys(self.norms, 0.0)
        hooks = [norm.register_forward_hook(_comparing(norm, fixed)) for norm in self.norms]
        y = self.outputs()
        for hook in hooks:
            hook.remove()
        _descend(self.frozen, y)
        return list(fixed.values())

    def dropout(self) -> float:
        """Whether it is active."""
        return float(all(module.training for module in self._of_kind("Dropout")))

    def kept(self) -> dict[str, list[float]]:
        """Which statistics, γ and β are what they were, and which other weights are not."""
        statistics = [_copies(norm, "running_mean", "running_var") for norm in self.norms]
        gamma_and_beta = [_copies(norm, "weight", "bias") for norm in self.norms]
        weights = [[_copies(other, "weight") for other in kind] for kind in self.others]
        pairs = zip(weights, self.weights, strict=True)
        return {
            "statistics_kept": list(map(_same, statistics, self.statistics)),
            "gamma_and_beta_kept": list(map(_same, gamma_and_beta, self.gamma_and_beta)),
            "others_trained": [float(not any(map(_same, after, before))) for after, before in pairs],
        }


def _comparing(norm: torch.nn.Module, fixed: dict[torch.nn.Module, float]) -> Callable:
    """Notes whether a batch norm normalizes with the running statistics that it has now."""
    import torch
    from torch.nn.functional import batch_norm

    mean, var = _copies(norm, "running_mean", "running_var")

    def compare(norm: torch.nn.Module, inputs: tuple, y: torch.Tensor) -> None:
        if mean is not None and var is not None:
            expected = batch_norm(inputs[0], mean, var, norm.weight, norm.bias, eps=norm.eps)
            fixed[norm] = float(torch.allclose(y, expected, atol=1e-4))

    return compare


def _copies(module: torch.nn.Module, *names: str) -> list[torch.Tensor | None]:
    """Copies of what a layer holds under these names."""
    values = (getattr(module, name) for name in names)
    return [None if value is None else value.detach().clone() for value in values]


def _same(one: list, other: list) -> float:
    """Whether all tensors are equal; one that is missing is not."""
    import torch

    pairs = zip(one, other, strict=True)
    return float(all(p is not None and q is not None and torch.allclose(p, q, atol=1e-5) for p, q in pairs))


def _descend(network: torch.nn.Module, y: torch.Tensor) -> None:
    """One step of gradient descent with a random loss and weight decay, for all that gets a gradient."""
    import torch

    if y.requires_grad:
        (y * torch.randn_like(y)).sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad + 0.01 * parameter


def drive_freezing(answer: object, inputs: Inputs) -> dict[str, object]:
    """Two epochs of one step each with a validation between them; and another object, evaluated at once."""
    import torch

    expect_subclass(answer, "nn.Module")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network, x = _trained_network(inputs["network"]), tensor(inputs["x"])
        facts = _two_epochs(_Watched(answer, network, x)) | _evaluated(_Watched(answer, network, x), network)
    return {name: np.array(values, float) for name, values in facts.items()}


def _two_epochs(watched: _Watched) -> dict[str, object]:
    frozen = watched.frozen
    facts = {"fixed_in_epoch_1": watched.epoch()}
    dropout = [watched.dropout()]
    frozen.eval()
    training, dropout = [frozen.training], [*dropout, watched.dropout()]
    returned = frozen.train()
    training, dropout = [*training, frozen.training], [*dropout, watched.dropout()]
    facts |= {"fixed_in_epoch_2": watched.epoch(), "dropout": dropout, "training": training}
    return facts | watched.kept() | {"train_returns_itself": returned is frozen}


def _evaluated(watched: _Watched, network: torch.nn.Module) -> dict[str, object]:
    watched.frozen.eval()
    y, expected = watched.outputs(), copy.deepcopy(network).eval()(watched.x)
    return {"same_in_evaluation": y.shape == expected.shape and _same([y], [expected])}


# Exercises

FOLD = Exercise(
    id="fold_batch_norm",
    chapter="07_inference",
    signature="(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps) -> (weight, bias), "
    "weight of shape (C_out, C_in, kH, kW), bias of shape (C_out,) or None",
    operation=Folding,
    probes=_folding_probes(70),
    fresh=_fresh_folding,
    mistakes=FOLDING_MISTAKES,
    properties=(
        Property(
            "weight and bias have the shapes of a convolution's.",
            lambda o, i: all(
                o[n]["new_weight"].shape == i[n]["weight"].shape and o[n]["new_bias"].shape == i[n]["bn_bias"].shape
                for n in i
            ),
        ),
        Property(
            "the new weight of each output channel is the old one, multiplied by one number.",
            lambda o, i: all(
                close(ratio, ratio[:, :1, :1, :1]) for ratio in [_ratio(o, i, n) for n in i if n != "quiet"]
            ),
        ),
        Property(
            "what the convolution puts out at running_mean becomes β.",
            lambda o, i: all(close(_at_running_mean(o, i, n), i[n]["bn_bias"]) for n in ("plain", "square")),
        ),
        Property(
            "a convolution without a bias gets one.",
            lambda o, i: (np.abs(o["no bias"]["new_bias"] - i["no bias"]["bn_bias"]) > 1e-3).all(),
        ),
        Property(
            "a running variance of 0 gives finite values.",
            lambda o, i: all(np.isfinite(value).all() for value in o["quiet"].values()),
        ),
    ),
    hints=(
        "For one output channel: the convolution puts out z, batch norm makes s · (z − μ) + β of it. What is s?",
        "z is a sum of products with the weight, plus the bias. Multiply out s · (z − μ) + β: what multiplies the input?",
        "All that does not multiply the input is the new bias. Without a bias, the old one is 0.",
    ),
    changing={name: "R25" if "running" in name else "F24" for name in FOLDING_PARAMETERS[:-1]},
)


def _ratio(o, i, name: str) -> np.ndarray:
    return o[name]["new_weight"] / i[name]["weight"]


def _at_running_mean(o, i, name: str) -> np.ndarray:
    """What the folded convolution puts out where the old one puts out running_mean."""
    scale = _ratio(o, i, name)[:, 0, 0, 0]
    return scale * (i[name]["running_mean"] - i[name]["bias"]) + o[name]["new_bias"]


def _always(*names: str) -> Callable:
    """Whether these facts hold in every network."""
    return lambda o, i: all((o[n][name] == 1).all() for n in i for name in names)


FREEZE = Exercise(
    id="FrozenNorms",
    chapter="07_inference",
    signature="(network) with forward(x) and train(mode=True), a subclass of torch.nn.Module",
    operation=Freezing,
    probes=_freezing_probes(71),
    fresh=lambda rng: _freezing_inputs(rng, str(rng.choice(list(NETWORKS)))),
    mistakes=FREEZING_MISTAKES,
    properties=(
        Property("evaluation mode gives what the network gave.", _always("same_in_evaluation")),
        Property("a frozen batch norm normalizes with its running statistics.", _always("fixed_in_epoch_1")),
        Property("it still does so after eval() and train().", _always("fixed_in_epoch_2")),
        Property("the running statistics stay as they were.", _always("statistics_kept")),
        Property("γ and β stay as they were.", _always("gamma_and_beta_kept")),
        Property("all other layers are trained.", _always("others_trained")),
        Property(
            "dropout is active in training and not in validation.",
            lambda o, i: all((o[n]["dropout"] == [1, 0, 1]).all() for n in i),
        ),
        Property(
            "train(mode) sets training and returns the object.",
            lambda o, i: all((o[n]["training"] == [0, 1]).all() and o[n]["train_returns_itself"] == 1 for n in i),
        ),
    ),
    hints=(
        "Two things are to be stopped, the statistics and the parameters. Which switch stops which?",
        "train(mode) of nn.Module goes through all layers. Call it first, and then switch some of them back.",
        "modules() goes through all layers, however deep, and isinstance takes a tuple of classes.",
    ),
    container="dict",
    drive=drive_freezing,
)

EXERCISES = (FOLD, FREEZE)
