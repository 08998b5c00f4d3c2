"""Internal covariate shift: two measures of it, and noise that brings it about.

A layer's inputs shift when the layers before it learn. :func:`drift` measures by how much the means of the inputs move
in a step; :func:`gradient_shift`, by how much the layer's gradient changes for it.
"""

import copy
import re
from itertools import chain, groupby

import torch
from torch import Tensor, nn

from bncourse.training import cross_entropy
from bncourse.training.fitting import seeded
from bncourse.training.stacking import FORMS, as_it_is


class Noise(nn.Module):
    """Moves and stretches each unit at random, anew at every call: (*, N, F) → (*, N, F).

    y = s x + (m + e) σ, with s ~ U(1, 1 + scale) and m ~ U(−shift, shift) for each unit, e ~ U(−jitter, jitter) for
    each unit and sample, and σ the standard deviation of the unit over the batch, as a constant. In evaluation mode
    y = (1 + scale / 2) x.
    """

    def __init__(self, scale: float, shift: float, jitter: float) -> None:
        super().__init__()
        self.scale, self.shift, self.jitter = scale, shift, jitter

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x * (1 + self.scale / 2)
        spread = x.detach().std(-2, correction=0, keepdim=True)
        stretch = torch.empty_like(spread).uniform_(1, 1 + self.scale)
        move = torch.empty_like(spread).uniform_(-self.shift, self.shift)
        jitter = torch.empty_like(x).uniform_(-self.jitter, self.jitter)
        return torch.addcmul(jitter.add_(move).mul_(spread), x, stretch)

    def extra_repr(self) -> str:
        return f"{self.scale}, {self.shift}, {self.jitter}"


FORMS[Noise] = as_it_is  # so that networks with it are trained all at once


def drift(network: nn.Module, x: Tensor, y: Tensor, rate: float, seed: int) -> list[float]:
    """For each hidden layer: change of the units' means, in one step of SGD and on its batch, as a multiple of their
    standard deviation (both as root mean squares over the units). Noise is drawn anew, as in training."""
    network = copy.deepcopy(network)
    activations: list[Tensor] = []
    for name, module in network.layers.named_children():
        if name.startswith("activation"):  # what goes into the next layer
            module.register_forward_hook(lambda module, inputs, output: activations.append(output.detach()))
    params = list(network.parameters())
    grads = gradients(network, x, y, seed, params)
    _update(params, grads, rate)
    with torch.no_grad(), seeded(seed + 1, x.device):
        network(x)
    half = len(activations) // 2
    pairs = zip(activations[:half], activations[half:], strict=True)
    return [_over((b.mean(0) - a.mean(0)).norm(), a.std(0, correction=0).norm()) for a, b in pairs]


def gradient_shift(network: nn.Module, x: Tensor, y: Tensor, rate: float, seed: int) -> list[tuple[float, float]]:
    """For each linear layer but the first, ‖G − G′‖ / ‖G‖ and the cosine of G and G′.

    G is the gradient of its weight; G′ the same, on the same batch and with the same noise, after the layers before it,
    and only they, have made their step of SGD (Santurkar et al. 2018, definition 2.1, there without division).
    """
    network = copy.deepcopy(network)
    layers = [list(some) for _, some in groupby(network.layers.named_children(), lambda pair: _number(pair[0]))]
    params = [[param for _, module in layer for param in module.parameters()] for layer in layers]
    steps = iter(gradients(network, x, y, seed, list(chain.from_iterable(params))))
    steps = [[next(steps) for _ in some] for some in params]
    found = []
    for i, some in enumerate(params):  # a layer's weight is the first of its parameters
        if i > 0:
            g, (after,) = steps[i][0], gradients(network, x, y, seed, some[:1])
            cosine = _over((g * after).sum(), g.norm() * after.norm())
            found.append((_over((g - after).norm(), g.norm()), cosine))
        _update(some, steps[i], rate)
    return found


def gradients(network: nn.Module, x: Tensor, y: Tensor, seed: int, params: list[nn.Parameter]) -> tuple[Tensor, ...]:
    """Of the loss, with the noise of the seed."""
    with seeded(seed, x.device):
        return torch.autograd.grad(cross_entropy(network(x), y), params)


@torch.no_grad()
def _update(params: list[nn.Parameter], grads: tuple[Tensor, ...] | list[Tensor], rate: float) -> None:
    for param, grad in zip(params, grads, strict=True):
        param -= rate * grad


def _number(name: str) -> str:
    """Of the hidden layer that a module of an MLP belongs to."""
    return re.search(r"\d+$", name).group()


def _over(top: Tensor, bottom: Tensor) -> float:
    """Their quotient; 0 over 0 is 0, where all units of a layer are dead."""
    return float(top / bottom) if bottom != 0 else (0.0 if top == 0 else float("inf"))
