"""The tensors that every candidate is given, what must come out, and how far off a result is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from bncourse.benchmark.gpu.operations import ADD_RELU, BACKWARD, EVALUATION, FORWARD, RELU, RMS, ROW_NORMS, Group

EPS, MOMENTUM = 1e-5, 0.1
STATISTICS = "statistics"
LARGE_MEAN = 1e3  # times the standard deviation
KINK = 0.05  # so close to zero, rounding decides on which side of the ReLU a value is
# The largest errors that right results may have, relative to the largest value of each, at mean 0. In half precision a
# value is rounded by at most 2⁻⁸ (bfloat16) or 2⁻¹¹ (float16) of itself. PyTorch and Liger round up to twice on the
# way, the norm and then the sum or the product; this allows four times. In float32, sums make the largest errors: the
# 1.3 million values of the longest channel, added one after the other, are off by 2e-5 of the largest sum of the six. A
# sum of gradients that leaves out a single one of them is off by about 7e-4.
TOLERANCE = {"float32": 1e-4, "bfloat16": 2**-6, "float16": 2**-9}


@dataclass(frozen=True)
class Inputs:
    """What every candidate is given; None where the norm has no such thing."""

    x: Tensor
    dy: Tensor
    weight: Tensor
    bias: Tensor | None
    residual: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None

    @classmethod
    def random(cls, group: Group, device: str, *, mean: float = 0.0, seed: int = 0) -> "Inputs":
        """Normal values, x with the given mean and a standard deviation of 1.

        Where a ReLU follows, dy is zero wherever the ReLU's input is close to zero: rounding decides there whether the
        gradient passes, and the error of a whole gradient would hide all others.
        """
        generator = torch.Generator(device).manual_seed(seed)
        dtype, rows = getattr(torch, group.dtype), group.norm in ROW_NORMS
        channels = group.shape[-1] if rows else group.shape[1]

        def normal(shape: Sequence[int], dtype: torch.dtype = dtype) -> Tensor:
            return torch.randn(shape, generator=generator, device=device, dtype=torch.float32).to(dtype)

        parameters = dtype if rows else torch.float32  # as they are when a network is trained in half precision
        found = cls(
            x=(mean + normal(group.shape, torch.float32)).to(dtype),
            dy=normal(group.shape),
            weight=normal((channels,), parameters),
            bias=None if group.norm == RMS else normal((channels,), parameters),
            residual=normal(group.shape) if group.norm == ADD_RELU else None,
            running_mean=None if rows else normal((channels,), torch.float32) + mean,
            running_var=None if rows else normal((channels,), torch.float32).square() + 0.5,
        )
        if group.norm not in (RELU, ADD_RELU):
            return found
        passing = _normalized(group, found)[0].abs() >= KINK
        return replace(found, dy=found.dy * passing)

    def apart(self) -> "Inputs":
        """The same tensors, but running statistics of its own: a forward pass updates them."""
        running = {name: getattr(self, name) for name in ("running_mean", "running_var")}
        return replace(self, **{name: t if t is None else t.clone() for name, t in running.items()})

    @cached_property
    def channels_last(self) -> "Inputs":
        """The same values, in the other layout of images."""
        images = {name: getattr(self, name) for name in ("x", "dy", "residual")}
        return replace(
            self,
            **{n: t if t is None else t.contiguous(memory_format=torch.channels_last) for n, t in images.items()},
        )

    @cached_property
    def leaves(self) -> tuple[Tensor, ...]:
        """What gradients are asked for, in the order of the gradients: x, weight, bias and residual."""
        given = (self.x, self.weight, self.bias, self.residual)
        return tuple(tensor.detach().requires_grad_() for tensor in given if tensor is not None)


def exact(group: Group, inputs: Inputs) -> dict[str, tuple[Tensor, ...]]:
    """By operation, what must come out, in float64: y; dx, dweight, dbias, and the gradient of the residual.

    Under STATISTICS: the mean, but for RMS norm, 1 / σ, and of batch norm the running statistics after the forward pass.
    """
    z, x_hat, inv_std = _normalized(group, inputs)
    relu = group.norm in (RELU, ADD_RELU)
    found = {FORWARD: (z.clamp_min(0) if relu else z,), STATISTICS: _statistics(group, inputs)}
    if BACKWARD not in group.operations:
        return found
    dz = inputs.dy.double() * (z > 0) if relu else inputs.dy.double()
    rows = group.norm in ROW_NORMS
    averaged, others = ((-1,), (0,)) if rows else (_batch_axes(dz), _batch_axes(dz))
    g = dz * _spread(inputs.weight, dz, rows)
    dx = g - x_hat * (g * x_hat).mean(averaged, keepdim=True)
    if group.norm != RMS:
        dx = dx - g.mean(averaged, keepdim=True)
    gradients = [dx * inv_std, (dz * x_hat).sum(others)]
    if inputs.bias is not None:
        gradients.append(dz.sum(others))
    return found | {BACKWARD: (*gradients, *([] if inputs.residual is None else [dz]))}


def _normalized(group: Group, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """What comes before the ReLU, x̂, and 1 / σ, in float64."""
    x, rows = inputs.x.double(), group.norm in ROW_NORMS
    mean, var = _moments(group, inputs)
    inv_std = (var + EPS).rsqrt()
    x_hat = (x - mean) * inv_std
    z = x_hat * _spread(inputs.weight, x, rows)
    if inputs.bias is not None:
        z = z + _spread(inputs.bias, x, rows)
    return (z if inputs.residual is None else z + inputs.residual.double()), x_hat, inv_std


def _moments(group: Group, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The mean and the biased variance by which x is normalized, in float64 and in shapes that broadcast against it."""
    x, rows = inputs.x.double(), group.norm in ROW_NORMS
    if group.norm == EVALUATION:
        return _spread(inputs.running_mean, x, rows), _spread(inputs.running_var, x, rows)
    axes = (-1,) if rows else _batch_axes(x)
    mean = x.mean(axes, keepdim=True)
    if group.norm == RMS:
        mean = torch.zeros_like(mean)
    return mean, (x - mean).square().mean(axes, keepdim=True)


def _statistics(group: Group, inputs: Inputs) -> tuple[Tensor, ...]:
    mean, var = (moment.flatten() for moment in _moments(group, inputs))
    inv_std = (var + EPS).rsqrt()
    if group.norm in ROW_NORMS:
        return (inv_std,) if group.norm == RMS else (mean, inv_std)
    running = inputs.running_mean.double(), inputs.running_var.double()
    if group.norm != EVALUATION:
        count = inputs.x.numel() // mean.numel()
        batch = mean, var * (count / (count - 1))
        running = tuple(old + MOMENTUM * (new - old) for old, new in zip(running, batch, strict=True))
    return mean, inv_std, *running


def _batch_axes(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _spread(vector: Tensor, x: Tensor, rows: bool) -> Tensor:
    """A vector over the last axis, or over the channels, in a shape that broadcasts against x."""
    return vector.double() if rows else vector.double().view(-1, *(1,) * (x.ndim - 2))


def largest_error(results: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest error of any result, each relative to its largest value; infinite where a result is not finite.

    Raises:
        ValueError: the results are not as many as wanted, or differ in shape.
    """
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (results, wanted)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"expected results of shapes {shapes[1]}; got {shapes[0]}")
    pairs = zip(results, wanted, strict=True)
    errors = [float((got.double() - right).abs().max() / right.abs().max()) for got, right in pairs]
    return max(errors) if all(map(math.isfinite, errors)) else math.inf
