"""Batch, layer, instance, group and RMS normalization for PyTorch, with gradients in closed form.

The signatures and defaults are those of ``torch.nn.functional``, and what PyTorch accepts or
refuses is accepted or refused here. :mod:`bncourse.normalize` computes; here stands what each norm
is: which axes share a mean, and what becomes of running statistics. Batch, layer and RMS norm of CUDA tensors are
computed by :mod:`bncourse.kernels`.
"""

import functools
import importlib.util
import math

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

from bncourse.normalize import computable, is_transformed, normalized, normalized_with, number_of
from bncourse.reference import Layout
from bncourse.tensor_arguments import (
    HALF,
    ArgumentError,
    check_batch_norm,
    check_channels,
    check_count,
    check_dtypes,
    check_groups,
    check_input,
    check_momentum,
    check_running,
)

KERNEL_DTYPES = (*HALF, torch.float32)  # whose statistics the kernels take in float32

# The five norms


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalization: every channel is standardized over the batch and all positions.

    y = γ · (x − μ) / √(σ² + ε) + β. In training, μ and the biased σ² are those of the batch, and
    the running statistics, if given, move towards them:
    running ← (1 − momentum) · running + momentum · batch, with the unbiased σ² for
    ``running_var``. In evaluation, the default, μ and σ² are the running statistics.

    Args:
        input: x of shape (N, C, *).
        running_mean: shape (C,), updated in place in training.
        running_var: shape (C,), updated in place in training.
        weight: γ of shape (C,), or None for 1.
        bias: β of shape (C,), or None for 0.
        training: whether to use the statistics of the batch.
        momentum: the share of the batch in the running statistics; any number, as in PyTorch.
        eps: ε, in squared units of ``input``.

    Returns:
        y in the shape, dtype and memory format of ``input``.

    Raises:
        ArgumentError: the arguments do not fit together, or a channel has only one value in training.

    Source:
        Ioffe and Szegedy (2015), Algorithms 1 and 2; ``torch.nn.functional.batch_norm``.
    """
    given = running_mean, running_var, weight, bias
    check_batch_norm(input, *given, training=training, momentum=momentum, eps=eps)
    layout = batch_layout(input)
    if training:
        check_count(input, math.prod(input.shape) // max(input.shape[1], 1), "value per channel")
    if _is_for_kernels(input):
        from bncourse.kernels.autograd import batch_norm as on_kernels

        return on_kernels(input, layout, weight, bias, running_mean, running_var, training, momentum, eps)
    if not training:
        return normalized_with(input, layout, weight, bias, running_mean, running_var, eps)
    y, mean, var = normalized(input, layout, weight, bias, eps)
    _update_running(running_mean, running_var, mean, var, layout, momentum)
    return y


def layer_norm(
    input: Tensor,
    normalized_shape: tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Layer normalization: every sample is standardized over its trailing axes.

    y = γ · (x − μ) / √(σ² + ε) + β, with μ and the biased σ² over the last
    ``len(normalized_shape)`` axes, and γ and β that vary along them.

    Args:
        input: x of shape (*, *normalized_shape).
        normalized_shape: the trailing shape to normalize over.
        weight: γ of shape ``normalized_shape``, or None for 1.
        bias: β of shape ``normalized_shape``, or None for 0.
        eps: ε, in squared units of ``input``.

    Returns:
        y in the shape and dtype of ``input``.

    Raises:
        ArgumentError: the arguments do not fit together.

    Source:
        Ba, Kiros and Hinton (2016); ``torch.nn.functional.layer_norm``.
    """
    check_input(input, minimum_rank=0)
    layout = _trailing(input, normalized_shape, weight=weight, bias=bias)
    check_dtypes(input, weight=weight, bias=bias)
    return _row_norm(input, layout, weight, bias, eps, centered=True)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Instance normalization: every channel of every sample is standardized over its positions.

    y = γ · (x − μ) / √(σ² + ε) + β, with μ and the biased σ² of one channel of one sample. The
    running statistics, if given, move towards the averages over the samples of μ and of the unbiased σ².

    Args:
        input: x of shape (N, C, *) with at least one axis of positions.
        running_mean: shape (C,), updated in place if ``use_input_stats``.
        running_var: shape (C,), updated in place if ``use_input_stats``.
        weight: γ of shape (C,), or None for 1.
        bias: β of shape (C,), or None for 0.
        use_input_stats: whether to use the statistics of the input; otherwise the running ones.
        momentum: the share of the batch in the running statistics; any number, as in PyTorch.
        eps: ε, in squared units of ``input``.

    Returns:
        y in the shape, dtype and memory format of ``input``.

    Raises:
        ArgumentError: the arguments do not fit together, or there is only one position.

    Source:
        Ulyanov, Vedaldi and Lempitsky (2016); ``torch.nn.functional.instance_norm``.
    """
    check_input(input, minimum_rank=2)
    check_channels(input.shape[1], weight=weight, bias=bias)
    check_dtypes(input, weight=weight, bias=bias)  # as in PyTorch, the running statistics may have any other
    check_running(input.shape[1], running_mean, running_var, required=not use_input_stats)
    layout = _per_channel(input, dims=tuple(range(2, input.dim())))
    if not use_input_stats:
        return normalized_with(input, layout, weight, bias, running_mean, running_var, eps)
    check_momentum(momentum)
    check_count(input, math.prod(input.shape[2:]), "spatial element")
    y, mean, var = normalized(input, layout, weight, bias, eps)
    _update_running(running_mean, running_var, mean, var, layout, momentum)
    return y


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Group normalization: every group of consecutive channels of a sample is standardized.

    y = γ · (x − μ) / √(σ² + ε) + β, with μ and the biased σ² over the C / num_groups channels of
    a group and all positions; γ and β are per channel, not per group.

    Args:
        input: x of shape (N, C, *).
        num_groups: the number of groups, a divisor of C.
        weight: γ of shape (C,), or None for 1.
        bias: β of shape (C,), or None for 0.
        eps: ε, in squared units of ``input``.

    Returns:
        y in the shape, dtype and memory format of ``input``.

    Raises:
        ArgumentError: the arguments do not fit together, or the whole input is one value per group.

    Source:
        Wu and He (2018); ``torch.nn.functional.group_norm``.
    """
    check_input(input, minimum_rank=2)
    samples, channels, *positions = input.shape
    check_groups(num_groups, input)
    check_channels(channels, vectors=True, weight=weight, bias=bias)
    check_dtypes(input, weight=weight, bias=bias)
    # PyTorch refuses a single sample whose groups have one value each, and accepts two of them.
    check_count(input, samples * channels // num_groups * math.prod(positions), "value per channel")
    grouped = (num_groups, channels // num_groups)
    shape = (samples, *grouped, *positions)
    layout = Layout(shape, tuple(range(2, len(shape))), (1, *grouped, *(1 for _ in positions)))
    return normalized(input, layout, weight, bias, eps)[0]


def rms_norm(
    input: Tensor, normalized_shape: tuple[int, ...], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """RMS normalization: every sample is divided by its root mean square over its trailing axes.

    y = γ · x / √(mean(x²) + ε), with the mean over the last ``len(normalized_shape)`` axes.

    Args:
        input: x of shape (*, *normalized_shape).
        normalized_shape: the trailing shape to normalize over.
        weight: γ of shape ``normalized_shape``, or None for 1.
        eps: ε, in squared units of ``input``; None for the machine epsilon of the dtype in which it is computed.

    Returns:
        y in the shape and dtype of ``input``.

    Raises:
        ArgumentError: the arguments do not fit together.

    Source:
        Zhang and Sennrich (2019), which has no ε; ``torch.nn.functional.rms_norm``.
    """
    check_input(input, minimum_rank=0)
    layout = _trailing(input, normalized_shape, weight=weight)
    if weight is not None:  # as in PyTorch, here the weight may have any floating-point dtype
        weight = weight.to(computable(input).dtype)
    if eps is None:
        eps = torch.finfo(computable(input).dtype).eps
    return _row_norm(input, layout, weight, None, eps, centered=False)


# Who computes


def _is_for_kernels(input: Tensor) -> bool:
    """Whether the kernels compute this norm; what they cannot do, transforms among others, PyTorch operations do."""
    if torch.compiler.is_compiling() or is_transformed() or torch.autograd.forward_ad._current_level >= 0:
        return False
    return _is_on_gpu(input) and input.dtype in KERNEL_DTYPES and input.numel() > 0


def _is_on_gpu(input: Tensor) -> bool:
    return input.is_cuda and _has_triton()


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _row_norm(
    input: Tensor, layout: Layout, weight: Tensor | None, bias: Tensor | None, eps: float, *, centered: bool
) -> Tensor:
    """Layer norm, or RMS norm if not ``centered``."""
    if _is_for_kernels(input):
        from bncourse.kernels import autograd, row_norm

        if row_norm.fits(math.prod(layout.param_shape), centered=centered):
            return autograd.row_norm(input, layout, weight, bias, eps, centered=centered)
    return normalized(input, layout, weight, bias, eps, centered=centered)[0]


# Which axes share a mean, and along which the parameters vary


def _per_channel(input: Tensor, dims: tuple[int, ...]) -> Layout:
    """Averages over ``dims``, parameters per channel."""
    return Layout(tuple(input.shape), dims, (1, input.shape[1], *(1 for _ in input.shape[2:])))


def batch_layout(input: Tensor) -> Layout:
    """Averages over the batch and all positions, parameters per channel."""
    return _per_channel(input, dims=(0, *range(2, input.dim())))


def _trailing(input: Tensor, normalized_shape: tuple[int, ...], **params: Tensor | None) -> Layout:
    """Averages over the last axes, along which the parameters vary."""
    if isinstance(normalized_shape, int):
        raise TypeError(
            f"expected normalized_shape to be a tuple of ints; got {normalized_shape}; pass ({normalized_shape},)"
        )
    shape = tuple(normalized_shape)
    if not shape or tuple(input.shape[-len(shape) :]) != shape:
        raise ArgumentError(
            f"expected normalized_shape to be the end of the input's shape, {tuple(input.shape)}; got {shape}; "
            "the last axis alone is input.shape[-1:]"
        )
    for name, param in params.items():
        if param is not None and tuple(param.shape) != shape:
            raise ArgumentError(
                f"expected {name} of the same shape as normalized_shape, {shape}; got {tuple(param.shape)}; "
                f"make {name} anew for this shape"
            )
    return Layout(tuple(input.shape), tuple(range(input.dim() - len(shape), input.dim())), shape)


# Running statistics


def _update_running(
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    layout: Layout,
    momentum: float,
) -> None:
    """Move the running statistics towards those of the batch, in place and outside of the graph."""
    if running_mean is None or mean is None:
        return
    count = number_of(layout.shape, layout.axes)
    for running, batch in ((running_mean, mean), (running_var, var * (count / (count - 1)))):
        # one value per sample in instance norm, one in all in batch norm
        move_running(running, batch.mean(0).flatten(), momentum)


def move_running(running: Tensor, batch: Tensor, momentum: float | Tensor) -> None:
    """running ← (1 − momentum) · running + momentum · batch, in place."""
    if is_transformed():
        _Move.apply(running, batch, momentum)
    else:
        _Move.forward(running, batch, momentum)


class _Move(Function):
    """The same below the transforms of torch.func, which refuse changes of tensors that are not their arguments."""

    generate_vmap_rule = True

    @staticmethod
    def forward(running: Tensor, batch: Tensor, momentum: float) -> Tensor:
        with torch.no_grad():
            running.copy_((1 - momentum) * running.double() + momentum * batch)
        return batch.clone()

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: FunctionCtx, _: Tensor) -> tuple[None, None, None]:
        return None, None, None

    @staticmethod
    def jvp(ctx: FunctionCtx, *_: Tensor) -> None:
        return None
