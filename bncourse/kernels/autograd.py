"""The kernels as autograd functions, for :mod:`bncourse.functional`.

Where more than a first derivative is wanted, PyTorch operations take over: the backward pass then differentiates
:func:`bncourse.normalize.normalized`, which can be differentiated again.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

from bncourse import kernels
from bncourse.normalize import normalized
from bncourse.reference import Layout

Gradients = tuple[Tensor | None, ...]


def batch_norm(
    x: Tensor,
    layout: Layout,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """As :func:`bncourse.functional.batch_norm`, which has checked the arguments."""
    running = [None if vector is None else vector.view(-1) for vector in (running_mean, running_var)]
    if training and running_mean is not None:
        torch.autograd.graph.increment_version(running)  # kernels write unseen by autograd
    weight, bias = (None if vector is None else vector.reshape(-1) for vector in (weight, bias))
    return _BatchNorm.apply(x, weight, bias, layout, eps, *running, training, momentum)


def row_norm(
    x: Tensor, layout: Layout, weight: Tensor | None, bias: Tensor | None, eps: float, *, centered: bool
) -> Tensor:
    """Layer norm, or RMS norm if not ``centered``, over the trailing axes of the layout."""
    return _RowNorm.apply(x, weight, bias, layout, eps, centered)


class _BatchNorm(Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        layout: Layout,
        eps: float,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        training: bool,
        momentum: float,
    ) -> Tensor:
        given = x, weight, bias, running_mean, running_var
        y, mean, inv_std = kernels.batch_norm_forward(*given, training=training, momentum=momentum, eps=eps)
        ctx.save_for_backward(x, weight, bias, mean, inv_std)
        ctx.layout, ctx.eps, ctx.training = layout, eps, training
        return y

    @staticmethod
    def backward(ctx: FunctionCtx, dy: Tensor) -> Gradients:
        x, weight, bias, mean, inv_std = ctx.saved_tensors

        def composed(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
            if ctx.training:
                return normalized(x, ctx.layout, weight, bias, ctx.eps)[0]
            return _with_fixed(x, ctx.layout, weight, bias, mean, inv_std)

        if _needs_composed(dy):
            gradients = _composed_gradients(ctx, composed, dy, x, weight, bias)
        else:
            gradients = kernels.batch_norm_backward(dy, x, weight, mean, inv_std, training=ctx.training)
        return *_wanted(ctx, gradients, x, weight, bias), *[None] * 6


class _RowNorm(Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        layout: Layout,
        eps: float,
        centered: bool,
    ) -> Tensor:
        shape = layout.param_shape
        if centered:
            y, *statistics = kernels.layer_norm_forward(x, shape, weight, bias, eps=eps)
        else:
            y, *statistics = kernels.rms_norm_forward(x, shape, weight, eps=eps)
        ctx.save_for_backward(x, weight, bias, *statistics)
        ctx.layout, ctx.eps, ctx.centered = layout, eps, centered
        return y

    @staticmethod
    def backward(ctx: FunctionCtx, dy: Tensor) -> Gradients:
        x, weight, bias, *statistics = ctx.saved_tensors

        def composed(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
            return normalized(x, ctx.layout, weight, bias, ctx.eps, centered=ctx.centered)[0]

        if _needs_composed(dy):
            gradients = _composed_gradients(ctx, composed, dy, x, weight, bias)
        elif ctx.centered:
            gradients = kernels.layer_norm_backward(dy, x, weight, *statistics)
        else:
            gradients = *kernels.rms_norm_backward(dy, x, weight, *statistics), None
        return *_wanted(ctx, gradients, x, weight, bias), None, None, None


def _with_fixed(
    x: Tensor, layout: Layout, weight: Tensor | None, bias: Tensor | None, mean: Tensor, inv_std: Tensor
) -> Tensor:
    """y in evaluation, in operations that autograd can differentiate as often as it likes."""
    mean, inv_std, weight, bias = (
        None if v is None else v.float().view(layout.param_shape) for v in (mean, inv_std, weight, bias)
    )
    y = (x.float() - mean) * inv_std
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias).to(x.dtype)


def _needs_composed(dy: Tensor) -> bool:
    """Whether the gradient is to be differentiated again, or ``dy`` stands for a batch of gradients."""
    return torch.is_grad_enabled() or torch._C._functorch.is_legacy_batchedtensor(dy)


def _composed_gradients(
    ctx: FunctionCtx, composed: Callable[..., Tensor], dy: Tensor, *given: Tensor | None
) -> list[Tensor | None]:
    """The gradients that are wanted of x, weight and bias, through ``composed``, the norm in PyTorch operations."""
    needed = ctx.needs_input_grad[:3]
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        y = composed(*given)
    sought = [tensor for tensor, needs in zip(given, needed, strict=True) if needs]
    found = iter(torch.autograd.grad(y, sought, dy, create_graph=again))
    return [next(found) if needs else None for needs in needed]


def _wanted(ctx: FunctionCtx, gradients: Gradients, *given: Tensor | None) -> list[Tensor | None]:
    """The gradients of x, weight and bias where somebody asked, in their dtypes."""
    asked = zip(gradients, given, ctx.needs_input_grad, strict=False)
    return [gradient.to(tensor.dtype) if needed else None for gradient, tensor, needed in asked]
