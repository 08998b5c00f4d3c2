"""Batch, layer, instance, group and RMS normalization in NumPy: the course's oracle.

Every norm is a choice of axes. :func:`standardize` gives the values along those axes mean 0
and variance 1; multiplying by ``weight`` (γ) and adding ``bias`` (β) follows. The five norms
share that forward and one backward.

Statistics are accumulated in float64, in two passes, from data shifted by a first estimate
of their mean, so a mean that dwarfs the spread costs no digits. float16 input is computed in
float32. Outputs have the dtype of ``x``. Only the running statistics of batch norm are
changed in place, last of all; when an error is raised, nothing has changed.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bncourse.array_arguments import (
    check_count,
    check_eps,
    check_groups,
    check_momentum,
    check_running,
    checked_dy,
    checked_input,
    checked_params,
    is_integer,
)

# Values that may be added up in float32 before float64 takes over.
LONGEST_RUN = 1024

Gradients = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]


class Layout(NamedTuple):
    """How a norm looks at its input."""

    shape: tuple[int, ...]  # the shape in which the input is seen
    axes: tuple[int, ...]  # the axes of it whose values share one mean and one variance
    param_shape: tuple[int, ...]  # the shape in which weight and bias broadcast against it


class Statistics(NamedTuple):
    """Statistics over the averaged axes, which are kept at length 1; float64."""

    mean: np.ndarray
    var: np.ndarray  # biased: the sum of squares divided by the number of values
    inv_std: np.ndarray  # 1 / √(var + eps)


@dataclass(frozen=True)
class Cache:
    """What a forward pass leaves to its backward pass.

    ``x_hat`` is the standardized input in ``layout.shape``, made with ``statistics``. These
    depend on the input unless ``fixed_statistics`` (batch norm in evaluation mode);
    ``centered`` is False where no mean was subtracted (RMS norm). ``weight`` and ``bias``
    are the parameters as they were passed, not copies: leave them as they are until the backward
    pass. ``dtype`` and ``shape`` are those of the input.
    """

    x_hat: np.ndarray
    statistics: Statistics
    layout: Layout
    weight: np.ndarray | None
    bias: np.ndarray | None
    dtype: np.dtype
    shape: tuple[int, ...]
    fixed_statistics: bool = False
    centered: bool = True


# One forward and one backward


def standardize(
    x: np.ndarray, axes: tuple[int, ...], eps: float, *, centered: bool = True
) -> tuple[np.ndarray, Statistics]:
    """Give the values along ``axes`` mean 0 and variance (almost) 1.

    x̂ = (x − μ) / √(σ² + ε), with μ and the biased σ² taken over ``axes``. With
    ``centered=False`` nothing is subtracted, and σ² is the mean of the squares.

    Args:
        x: float32 or float64 values of any shape.
        axes: the axes whose values share one mean and one variance.
        eps: ε, in squared units of ``x``.
        centered: whether to subtract the mean.

    Returns:
        x̂, and the statistics it was made with.
    """
    if x.size == 0:
        nothing = np.zeros([1 if i in axes else n for i, n in enumerate(x.shape)])
        return x.copy(), Statistics(nothing, nothing, nothing)
    if centered:
        shift = _mean(axes, x).astype(x.dtype)  # nearly the mean; rounding left a remainder
        deviation = x - shift
        remainder = _mean(axes, deviation)
        deviation -= remainder.astype(x.dtype)
        mean = shift + remainder
    else:
        mean, deviation = np.zeros(1), x.copy()
    var = _mean(axes, deviation, deviation)
    statistics = Statistics(mean, var, 1 / np.sqrt(var + eps))
    deviation *= statistics.inv_std.astype(x.dtype)
    return deviation, statistics


def standardize_backward(
    dx_hat: np.ndarray, x_hat: np.ndarray, inv_std: np.ndarray, axes: tuple[int, ...], *, centered: bool = True
) -> np.ndarray:
    """Gradient of the loss with respect to the input of :func:`standardize`.

    dx = (dx̂ − mean(dx̂) − x̂ · mean(dx̂ · x̂)) / √(σ² + ε), with means over ``axes``: the direct
    path, the path through the mean (absent if not ``centered``), the path through the variance.

    Args:
        dx_hat: gradient of the loss with respect to x̂, in the shape of ``x_hat``.
        x_hat: what the forward pass returned.
        inv_std: 1 / √(σ² + ε), in a shape that broadcasts against ``x_hat``.
        axes: as in the forward pass.
        centered: as in the forward pass.
    """
    dx = x_hat * -_mean(axes, dx_hat, x_hat).astype(x_hat.dtype)
    dx += dx_hat
    if centered:
        dx -= _mean(axes, dx_hat).astype(dx.dtype)
    dx *= inv_std.astype(dx.dtype)
    return dx


def _forward(
    x: np.ndarray,
    layout: Layout,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    *,
    centered: bool = True,
) -> tuple[np.ndarray, Cache]:
    """Standardize ``x`` with its own statistics, then apply weight and bias."""
    x_hat, statistics = standardize(_computable(x).reshape(layout.shape), layout.axes, eps, centered=centered)
    cache = Cache(x_hat, statistics, layout, weight, bias, x.dtype, x.shape, centered=centered)
    return _affine(cache), cache


def _backward(dy: np.ndarray, cache: Cache) -> Gradients:
    """Gradients of the loss with respect to the input, the weight and the bias of any norm."""
    dy = _computable(checked_dy(dy, cache.shape)).reshape(cache.layout.shape)
    dweight = None if cache.weight is None else _sum_to(cache.weight, cache, dy, cache.x_hat)
    dbias = None if cache.bias is None else _sum_to(cache.bias, cache, dy)
    dx_hat = dy if cache.weight is None else dy * _param(cache.weight, cache)
    inv_std = cache.statistics.inv_std
    if cache.fixed_statistics:
        dx = dx_hat * inv_std.astype(dx_hat.dtype)
    else:
        dx = standardize_backward(dx_hat, cache.x_hat, inv_std, cache.layout.axes, centered=cache.centered)
    return dx.reshape(cache.shape).astype(cache.dtype, copy=False), dweight, dbias


def _affine(cache: Cache) -> np.ndarray:
    """y = γ · x̂ + β, in the shape and the dtype of the input."""
    y = cache.x_hat.copy() if cache.weight is None else cache.x_hat * _param(cache.weight, cache)
    if cache.bias is not None:
        y += _param(cache.bias, cache)
    return y.reshape(cache.shape).astype(cache.dtype, copy=False)


def _param(param: np.ndarray, cache: Cache) -> np.ndarray:
    """``param`` in the dtype of x̂ and in the shape in which it broadcasts."""
    return param.astype(cache.x_hat.dtype).reshape(cache.layout.param_shape)


def _sum_to(param: np.ndarray, cache: Cache, a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """Sum of ``a`` or of a · b over all axes along which ``param`` is repeated."""
    padding = len(cache.layout.shape) - len(cache.layout.param_shape)
    padded = (1,) * padding + cache.layout.param_shape
    axes = tuple(i for i, n in enumerate(padded) if n == 1)
    return _sum(axes, a, b).reshape(param.shape).astype(param.dtype)


def _sum(axes: tuple[int, ...], a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """Sum of ``a`` or of a · b over ``axes``, kept at length 1, in float64.

    Runs of at most ``LONGEST_RUN`` neighbouring float32 values are added up in float32, which is
    much faster and no less accurate than the output, and their sums in float64. Where that
    overflows, everything is done in float64. (Products below float32's range, 1e-38, count as 0.)
    """
    run_start = a.ndim
    while run_start - 1 in axes and math.prod(a.shape[run_start - 1 :]) <= LONGEST_RUN:
        run_start -= 1
    if run_start < a.ndim:
        run = math.prod(a.shape[run_start:])
        flat = (*a.shape[:run_start], run)
        with np.errstate(over="ignore", invalid="ignore"):
            partial = np.vecdot(a.reshape(flat), np.ones(run, a.dtype) if b is None else b.reshape(flat))
        total = np.sum(partial, axis=tuple(i for i in axes if i < run_start), dtype=np.float64)
        if np.isfinite(total).all():
            return total.reshape([1 if i in axes else n for i, n in enumerate(a.shape)])
    every = list(range(a.ndim))
    kept = [i for i in every if i not in axes]
    operands = (a, every) if b is None else (a, every, b, every)
    return np.expand_dims(np.einsum(*operands, kept, dtype=np.float64), axes)


def _mean(axes: tuple[int, ...], a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """Mean of ``a`` or of a · b over ``axes``, kept at length 1, in float64."""
    return _sum(axes, a, b) / max(math.prod(a.shape[i] for i in axes), 1)


def _computable(x: np.ndarray) -> np.ndarray:
    """``x`` in float32 or float64: sums of float16 squares overflow beyond 65504."""
    return x.astype(np.result_type(x, np.float32), copy=False)


# Batch norm


def batch_norm_forward(
    x: np.ndarray,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    *,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[np.ndarray, Cache]:
    """Batch normalization: every channel is standardized over the batch and all positions.

    y = γ · (x − μ) / √(σ² + ε) + β. In training, μ and the biased σ² are those of the batch,
    and the running statistics, if given, move towards them in PyTorch's convention:
    running ← (1 − momentum) · running + momentum · batch, with the unbiased σ² for
    ``running_var``. In evaluation, μ and σ² are the running statistics.

    Args:
        x: input of shape (N, C, *), float16, float32 or float64.
        weight: γ of shape (C,), or None for 1.
        bias: β of shape (C,), or None for 0.
        running_mean: shape (C,), updated in place in training.
        running_var: shape (C,), updated in place in training.
        training: whether to use the statistics of the batch.
        momentum: the share of the batch in the running statistics, from 0 to 1.
        eps: ε, in squared units of ``x``.

    Returns:
        y in the shape and dtype of ``x``, and the cache for :func:`batch_norm_backward`.

    Raises:
        ValueError: the arguments do not fit together, or a channel has only one value in training.

    Source:
        Ioffe and Szegedy (2015), Algorithms 1 and 2; ``torch.nn.functional.batch_norm``.
    """
    x = checked_input(x, minimum_rank=2)
    channels = x.shape[1]
    weight, bias = checked_params((channels,), weight=weight, bias=bias)
    check_running(channels, running_mean, running_var, training=training)
    check_momentum(momentum)
    check_eps(eps)
    layout = Layout(x.shape, (0, *range(2, x.ndim)), _channels_first(channels, x.ndim))
    if not training:
        return _forward_fixed(x, layout, weight, bias, running_mean, running_var, eps)
    check_count(
        x, x.size // max(channels, 1), owner="channel", remedy="use a larger batch, or evaluation mode (training=False)"
    )
    y, cache = _forward(x, layout, weight, bias, eps)
    if running_mean is not None and x.size > 0:
        mean, var, _ = (statistic.ravel() for statistic in cache.statistics)
        update_running(running_mean, running_var, mean, var, x.size // channels, momentum)
    return y, cache


def batch_norm_backward(dy: np.ndarray, cache: Cache) -> Gradients:
    """Gradients of batch normalization.

    With dx̂ = γ · dy and means over the batch and all positions of a channel:
    dx = (dx̂ − mean(dx̂) − x̂ · mean(dx̂ · x̂)) / √(σ² + ε) in training, dx̂ / √(σ² + ε) in
    evaluation; dweight = Σ dy · x̂ and dbias = Σ dy.

    Args:
        dy: gradient of the loss with respect to y, shape (N, C, *).
        cache: from :func:`batch_norm_forward`.

    Returns:
        dx of shape (N, C, *), dweight and dbias of shape (C,); None for a parameter that was None.

    Raises:
        ValueError: ``dy`` does not have the shape of the input or is not floating-point.

    Source:
        Ioffe and Szegedy (2015), section 3, simplified.
    """
    return _backward(dy, cache)


def _forward_fixed(
    x: np.ndarray,
    layout: Layout,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    eps: float,
) -> tuple[np.ndarray, Cache]:
    """Standardize ``x`` with running statistics, then apply weight and bias."""
    mean, var = (s.astype(np.float64).reshape(layout.param_shape) for s in (running_mean, running_var))
    statistics = Statistics(mean, var, 1 / np.sqrt(var + eps))
    x_hat = x - mean  # float64, in case the mean is far from zero
    x_hat *= statistics.inv_std
    x_hat = x_hat.astype(_computable(x).dtype, copy=False)
    cache = Cache(x_hat, statistics, layout, weight, bias, x.dtype, x.shape, fixed_statistics=True)
    return _affine(cache), cache


def update_running(
    running_mean: np.ndarray, running_var: np.ndarray, mean: np.ndarray, var: np.ndarray, count: int, momentum: float
) -> None:
    """Move the running statistics towards those of a batch, in place; ``var`` is biased, over ``count`` values."""
    unbiased_var = var * (count / (count - 1))
    new_mean = ((1 - momentum) * running_mean + momentum * mean).astype(running_mean.dtype)
    new_var = ((1 - momentum) * running_var + momentum * unbiased_var).astype(running_var.dtype)
    # Nothing can fail from here on, so the two never get out of step.
    running_mean[...] = new_mean
    running_var[...] = new_var


# The other norms: other axes


def layer_norm_forward(
    x: np.ndarray,
    normalized_shape: int | tuple[int, ...],
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    *,
    eps: float = 1e-5,
) -> tuple[np.ndarray, Cache]:
    """Layer normalization: every sample is standardized over its trailing axes.

    y = γ · (x − μ) / √(σ² + ε) + β, with μ and the biased σ² over the last
    ``len(normalized_shape)`` axes, and γ and β that vary along them.

    Args:
        x: input of shape (*, *normalized_shape), float16, float32 or float64.
        normalized_shape: the trailing shape to normalize over; an int means one axis.
        weight: γ of shape ``normalized_shape``, or None for 1.
        bias: β of shape ``normalized_shape``, or None for 0.
        eps: ε, in squared units of ``x``.

    Returns:
        y in the shape and dtype of ``x``, and the cache for :func:`layer_norm_backward`.

    Raises:
        ValueError: the arguments do not fit together.

    Source:
        Ba, Kiros and Hinton (2016); ``torch.nn.functional.layer_norm``.
    """
    x = checked_input(x, minimum_rank=1)
    layout = _trailing(x, normalized_shape)
    weight, bias = checked_params(layout.param_shape, weight=weight, bias=bias)
    check_eps(eps)
    return _forward(x, layout, weight, bias, eps)


def layer_norm_backward(dy: np.ndarray, cache: Cache) -> Gradients:
    """Gradients of layer normalization.

    As :func:`batch_norm_backward`, with means over the trailing axes. γ varies along them,
    so it cannot be pulled out of mean(dx̂): dx̂ = γ · dy comes first.

    Args:
        dy: gradient of the loss with respect to y, in the shape of the input.
        cache: from :func:`layer_norm_forward`.

    Returns:
        dx, dweight and dbias in the shapes of x, weight and bias; None for a parameter that was None.

    Raises:
        ValueError: ``dy`` does not have the shape of the input or is not floating-point.
    """
    return _backward(dy, cache)


def instance_norm_forward(
    x: np.ndarray, weight: np.ndarray | None = None, bias: np.ndarray | None = None, *, eps: float = 1e-5
) -> tuple[np.ndarray, Cache]:
    """Instance normalization: every channel of every sample is standardized over its positions.

    y = γ · (x − μ) / √(σ² + ε) + β, with μ and the biased σ² of one channel of one sample.

    Args:
        x: input of shape (N, C, *) with at least one axis of positions, float16, float32 or float64.
        weight: γ of shape (C,), or None for 1.
        bias: β of shape (C,), or None for 0.
        eps: ε, in squared units of ``x``.

    Returns:
        y in the shape and dtype of ``x``, and the cache for :func:`instance_norm_backward`.

    Raises:
        ValueError: the arguments do not fit together, or there is only one position.

    Source:
        Ulyanov, Vedaldi and Lempitsky (2016); ``torch.nn.functional.instance_norm``.
    """
    x = checked_input(x, minimum_rank=3)
    channels = x.shape[1]
    weight, bias = checked_params((channels,), weight=weight, bias=bias)
    check_eps(eps)
    positions = math.prod(x.shape[2:])
    check_count(x, positions, owner="channel of a sample", remedy="use larger images, or another norm")
    layout = Layout(x.shape, tuple(range(2, x.ndim)), _channels_first(channels, x.ndim))
    return _forward(x, layout, weight, bias, eps)


def instance_norm_backward(dy: np.ndarray, cache: Cache) -> Gradients:
    """Gradients of instance normalization.

    As :func:`batch_norm_backward`, with means over the positions of one channel of one sample.

    Args:
        dy: gradient of the loss with respect to y, shape (N, C, *).
        cache: from :func:`instance_norm_forward`.

    Returns:
        dx of shape (N, C, *), dweight and dbias of shape (C,); None for a parameter that was None.

    Raises:
        ValueError: ``dy`` does not have the shape of the input or is not floating-point.
    """
    return _backward(dy, cache)


def group_norm_forward(
    x: np.ndarray,
    num_groups: int,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    *,
    eps: float = 1e-5,
) -> tuple[np.ndarray, Cache]:
    """Group normalization: every group of consecutive channels of a sample is standardized.

    y = γ · (x − μ) / √(σ² + ε) + β, with μ and the biased σ² over the C / num_groups channels
    of a group and all positions; γ and β are per channel, not per group. A group of one value
    becomes β.

    Args:
        x: input of shape (N, C, *), float16, float32 or float64.
        num_groups: the number of groups, a divisor of C.
        weight: γ of shape (C,), or None for 1.
        bias: β of shape (C,), or None for 0.
        eps: ε, in squared units of ``x``.

    Returns:
        y in the shape and dtype of ``x``, and the cache for :func:`group_norm_backward`.

    Raises:
        ValueError: the arguments do not fit together, or ``num_groups`` does not divide C.

    Source:
        Wu and He (2018); ``torch.nn.functional.group_norm``.
    """
    x = checked_input(x, minimum_rank=2)
    samples, channels, *positions = x.shape
    weight, bias = checked_params((channels,), weight=weight, bias=bias)
    check_groups(num_groups, channels)
    check_eps(eps)
    grouped = (num_groups, channels // num_groups)
    shape = (samples, *grouped, *positions)
    layout = Layout(shape, tuple(range(2, len(shape))), (1, *grouped, *(1 for _ in positions)))
    return _forward(x, layout, weight, bias, eps)


def group_norm_backward(dy: np.ndarray, cache: Cache) -> Gradients:
    """Gradients of group normalization.

    As :func:`batch_norm_backward`, with means over one group of channels of one sample. γ varies
    within a group, so dx̂ = γ · dy comes before the means.

    Args:
        dy: gradient of the loss with respect to y, shape (N, C, *).
        cache: from :func:`group_norm_forward`.

    Returns:
        dx of shape (N, C, *), dweight and dbias of shape (C,); None for a parameter that was None.

    Raises:
        ValueError: ``dy`` does not have the shape of the input or is not floating-point.
    """
    return _backward(dy, cache)


def rms_norm_forward(
    x: np.ndarray,
    normalized_shape: int | tuple[int, ...],
    weight: np.ndarray | None = None,
    *,
    eps: float | None = None,
) -> tuple[np.ndarray, Cache]:
    """RMS normalization: every sample is divided by its root mean square over its trailing axes.

    y = γ · x / √(mean(x²) + ε), with the mean over the last ``len(normalized_shape)`` axes.

    Args:
        x: input of shape (*, *normalized_shape), float16, float32 or float64.
        normalized_shape: the trailing shape to normalize over; an int means one axis.
        weight: γ of shape ``normalized_shape``, or None for 1.
        eps: ε, in squared units of ``x``; None for the machine epsilon that PyTorch takes,
            that of the dtype in which the input is computed.

    Returns:
        y in the shape and dtype of ``x``, and the cache for :func:`rms_norm_backward`.

    Raises:
        ValueError: the arguments do not fit together.

    Source:
        Zhang and Sennrich (2019), which has no ε; ``torch.nn.functional.rms_norm``.
    """
    x = checked_input(x, minimum_rank=1)
    layout = _trailing(x, normalized_shape)
    (weight,) = checked_params(layout.param_shape, weight=weight)
    if eps is None:
        eps = float(np.finfo(_computable(x).dtype).eps)
    check_eps(eps)
    return _forward(x, layout, weight, None, eps, centered=False)


def rms_norm_backward(dy: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray | None]:
    """Gradients of RMS normalization.

    With dx̂ = γ · dy and means over the trailing axes:
    dx = (dx̂ − x̂ · mean(dx̂ · x̂)) / √(mean(x²) + ε) and dweight = Σ dy · x̂.

    Args:
        dy: gradient of the loss with respect to y, in the shape of the input.
        cache: from :func:`rms_norm_forward`.

    Returns:
        dx and dweight in the shapes of x and weight; None for a weight that was None.

    Raises:
        ValueError: ``dy`` does not have the shape of the input or is not floating-point.
    """
    dx, dweight, _ = _backward(dy, cache)
    return dx, dweight


def _channels_first(channels: int, rank: int) -> tuple[int, ...]:
    """The shape in which one value per channel broadcasts against (N, C, *)."""
    return (1, channels) + (1,) * (rank - 2)


def _trailing(x: np.ndarray, normalized_shape: int | tuple[int, ...]) -> Layout:
    normalized = tuple(normalized_shape) if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
    if not normalized or not all(map(is_integer, normalized)) or x.shape[-len(normalized) :] != normalized:
        raise ValueError(
            f"expected normalized_shape to be the end of the shape of x, {x.shape}; got {normalized_shape}; "
            f"for the last axis alone pass {x.shape[-1]}"
        )
    return Layout(x.shape, tuple(range(x.ndim - len(normalized), x.ndim)), normalized)
