"""The autograd function behind all norms for PyTorch: one forward and one backward, in closed form.

The forward pass keeps the input and one mean and variance per set of averaged values, never x̂: the
backward pass makes x̂ again. How a norm looks at its input, a ``Layout``, is what the norms differ in.

Statistics are computed in float64, from data shifted by a first estimate of their mean, so a mean
that dwarfs the spread costs no digits. float16 and bfloat16 input is computed in float32.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from bncourse.reference import Layout
from bncourse.tensor_arguments import HALF

PART = 2**20  # values computed with at a time: 4 MiB of float32, of which a cache holds a few copies

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


# What the norms call


def normalized(
    x: Tensor, layout: Layout, weight: Tensor | None, bias: Tensor | None, eps: float, *, centered: bool = True
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """y, and the statistics that made it; None where there are no values."""
    if x.numel() == 0:
        return _nothing(x, layout, weight, bias), None, None
    function = _Normalize if torch.compiler.is_compiling() else _NormalizeForwardMode
    y, mean, var = function.apply(x, weight, bias, layout, eps, centered)
    return _shaped(x, y), mean, var


def normalized_with(
    x: Tensor,
    layout: Layout,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    eps: float,
) -> Tensor:
    """y with the running statistics."""
    if x.numel() == 0:
        return _nothing(x, layout, weight, bias)
    # Copies: training may change the buffers before the backward pass.
    statistics = [s.detach().to(torch.float64, copy=True).view(layout.param_shape) for s in (running_mean, running_var)]
    function = _NormalizeFixed if torch.compiler.is_compiling() else _NormalizeFixedForwardMode
    return _shaped(x, function.apply(x, weight, bias, layout, eps, *statistics))


def moments(x: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """The mean and the biased variance, in float64, each in the shape of a parameter."""
    if x.numel() == 0:
        return tuple(torch.zeros(2, *layout.param_shape, dtype=torch.float64, device=x.device))
    return _deviations(_seen(x.detach(), layout), layout.axes, centered=True)[1:]


def normalized_part(
    x: Tensor,
    layout: Layout,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    mean: Tensor,
    var: Tensor,
    count: Tensor,
    add_up: Callable[[Tensor], Tensor],
) -> Tensor:
    """y with the statistics of a batch of which ``x``, which may be empty, is only one part.

    The statistics depend on ``x``, and the gradient flows through them. ``mean`` and ``var`` are in float64 and in the
    shape of a parameter, ``count`` is how many values of the batch share a mean. In the backward pass ``add_up`` turns
    the sums of this part, in place if it likes, into those of the batch. The gradients of weight and bias are those of
    this part, and none can be differentiated again.
    """
    return _shaped(x, _NormalizePart.apply(x, weight, bias, layout, eps, mean, var, count, add_up))


def _nothing(x: Tensor, layout: Layout, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """An empty y, through which the parameters get zeros as gradients."""
    return _shaped(x, _laid_out(x, _affine(_seen(x, layout) * 1, _param(weight, layout), _param(bias, layout))))


# An autograd function for all norms, and one for fixed statistics


class _Normalize(Function):
    """y = γ · (x − μ) / √(σ² + ε) + β with the statistics of x, which are returned as well."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor | None, bias: Tensor | None, layout: Layout, eps: float, centered: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        def compute(x: Tensor, gamma: Tensor | None, beta: Tensor | None, out: Tensor | None = None) -> tuple:
            x_hat, mean, var = _standardize(computable(x), layout.axes, eps, centered, out)
            return _affine(x_hat, gamma, beta), mean, var

        given = x.reshape(layout.shape), _param(weight, layout), _param(bias, layout)
        y, mean, var = _by_channels(compute, layout, *given)
        return _laid_out(x, y), mean, var

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, weight, bias, ctx.layout, ctx.eps, ctx.centered = inputs
        _, mean, var = output
        ctx.mark_non_differentiable(mean, var)
        _save(ctx, x, weight, bias, mean, var)

    @staticmethod
    def backward(ctx: FunctionCtx, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        layout, eps, centered = ctx.layout, ctx.eps, ctx.centered

        def compute(
            dy: Tensor, x: Tensor, gamma: Tensor | None, mean: Tensor, var: Tensor, out: Tensor | None = None
        ) -> Gradients:
            x_hat, var = _standardize_again(computable(x), mean, var, layout.axes, eps, centered, out)
            return _closed_form(computable(dy), x_hat, _inv_std(var, eps), gamma, layout, centered)

        x, weight, mean, var = ctx.saved_tensors
        given = dy.reshape(layout.shape), x.reshape(layout.shape), _param(weight, layout), mean, var
        dx, dweight, dbias = _by_channels(compute, layout, *given)
        return *_as_saved(ctx, _shaped(x, dx), dweight, dbias), None, None, None


class _NormalizeForwardMode(_Normalize):
    """The same with a derivative for forward mode, which :func:`torch.compile` cannot trace."""

    @staticmethod
    def jvp(ctx: FunctionCtx, x_t: Tensor | None, weight_t: Tensor | None, bias_t: Tensor | None, *_: None) -> tuple:
        x, weight, _, _ = ctx.saved_tensors
        x_hat, _, var = _standardize(_seen(x, ctx.layout), ctx.layout.axes, ctx.eps, ctx.centered)
        x_hat_t = None
        if x_t is not None:  # the Jacobian of x̂ is symmetric, so this is the formula of the backward pass
            x_t = _seen(x_t, ctx.layout)
            sums = _sum(x_t, ctx.layout.axes), _sum(x_t * x_hat, ctx.layout.axes)
            count = number_of(x_hat.shape, ctx.layout.axes)
            x_hat_t = _standardize_backward(x_t, x_hat.clone(), _inv_std(var, ctx.eps), *sums, count, ctx.centered)
        return _affine_tangent(ctx, x_hat, x_hat_t, weight, weight_t, bias_t), None, None


class _NormalizeFixed(Function):
    """y = γ · (x − μ) / √(σ² + ε) + β with given statistics, through which no gradient flows."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        layout: Layout,
        eps: float,
        mean: Tensor,
        var: Tensor,
    ) -> Tensor:
        x_hat = _standardize_fixed(computable(x), mean, var, eps)
        return _laid_out(x, _affine(x_hat, _param(weight, layout), _param(bias, layout)))

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple, output: Tensor) -> None:
        x, weight, bias, ctx.layout, ctx.eps, mean, var = inputs
        _save(ctx, x, weight, bias, mean, var)

    @staticmethod
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        x_hat, dy = _standardize_fixed(computable(x), mean, var, ctx.eps), computable(dy)
        scale = _scale(_inv_std(var, ctx.eps), _param(weight, ctx.layout))
        dx, dweight, dbias = dy * scale.to(dy.dtype), _to_param(dy * x_hat, ctx.layout), _to_param(dy, ctx.layout)
        return *_as_saved(ctx, _shaped(x, dx), dweight, dbias), None, None, None, None


class _NormalizeFixedForwardMode(_NormalizeFixed):
    """The same with a derivative for forward mode, which :func:`torch.compile` cannot trace."""

    @staticmethod
    def jvp(ctx: FunctionCtx, x_t: Tensor | None, weight_t: Tensor | None, bias_t: Tensor | None, *_: None) -> Tensor:
        x, weight, mean, var = ctx.saved_tensors
        x_hat = _standardize_fixed(computable(x), mean, var, ctx.eps)
        x_hat_t = None if x_t is None else computable(x_t) * _inv_std(var, ctx.eps).to(x_hat.dtype)
        return _affine_tangent(ctx, x_hat, x_hat_t, weight, weight_t, bias_t)


class _NormalizePart(Function):
    """y = γ · (x − μ) / √(σ² + ε) + β with statistics of a batch of which x is one part."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        layout: Layout,
        eps: float,
        mean: Tensor,
        var: Tensor,
        count: Tensor,
        add_up: Callable[[Tensor], Tensor],
    ) -> Tensor:
        _save(ctx, x, weight, bias, mean, var)
        ctx.layout, ctx.eps, ctx.count, ctx.add_up = layout, eps, count, add_up
        return _NormalizeFixed.forward(x, weight, bias, layout, eps, mean, var)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        x_hat, dy = _standardize_fixed(computable(x), mean, var, ctx.eps), computable(dy)
        dbias, dweight = _to_param(dy, ctx.layout), _to_param(dy * x_hat, ctx.layout)
        dx = dy
        if ctx.needs_input_grad[0]:
            totals = ctx.add_up(torch.stack((dbias, dweight)))
            scale = _scale(_inv_std(var, ctx.eps), _param(weight, ctx.layout))
            dx = _standardize_backward(dy, x_hat, scale, *totals, ctx.count, centered=True)
        return *_as_saved(ctx, _shaped(x, dx), dweight, dbias), *[None] * 6


# The formulas, in float32 or float64 and in the shape of the layout


def _standardize(
    x: Tensor, axes: tuple[int, ...], eps: float, centered: bool, out: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """x̂ = (x − μ) / √(σ² + ε), in ``out`` if there is one, and the float64 μ and σ² over ``axes``, kept at length 1."""
    deviation, mean, var = _deviations(x, axes, centered, out)
    return deviation.mul_(_inv_std(var, eps).to(x.dtype)), mean, var


def _deviations(
    x: Tensor, axes: tuple[int, ...], centered: bool, out: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """x − μ, in ``out`` if there is one, and the float64 μ and σ² over ``axes``, kept at length 1.

    Differentiable: the first estimate of the mean and the largest deviation cancel out of the
    result, so they count as constants.
    """
    count = number_of(x.shape, axes)
    if centered:
        shift = (_sum(x.detach(), axes) / count).to(x.dtype)
        deviation = torch.sub(x, shift, out=out)
        remainder = _sum(deviation, axes) / count
        deviation -= remainder.to(x.dtype)
        mean = torch.where(shift.isfinite(), shift + remainder, shift)  # an infinite one has no remainder
    else:
        mean, deviation = torch.zeros([1] * x.dim(), dtype=torch.float64, device=x.device), x.clone()
    # Squares of large values would overflow, those of tiny ones vanish; of the quotients they do neither.
    values = deviation.detach()
    largest = torch.maximum(values.amax(axes, keepdim=True), -values.amin(axes, keepdim=True))
    largest = largest.clamp_min(torch.finfo(x.dtype).tiny)
    squares = (deviation * largest.reciprocal()).pow_(2)
    var = _sum(squares, axes) / count * largest.double().square()
    del squares  # y may take its place in memory
    return deviation, mean, var


def _standardize_again(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    axes: tuple[int, ...],
    eps: float,
    centered: bool,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """x̂, in ``out`` if there is one, and σ² for the backward pass, from what the forward pass saved.

    Where a second derivative may be wanted, the statistics are taken from x anew, so that autograd
    sees how they depend on it. Saved ones would count as constants, and the gradient of the
    gradient would be wrong.
    """
    if torch.is_grad_enabled():
        x_hat, _, var = _standardize(x, axes, eps, centered)
        return x_hat, var
    return _standardize_fixed(x, mean, var, eps, out), var


def _standardize_fixed(x: Tensor, mean: Tensor, var: Tensor, eps: float, out: Tensor | None = None) -> Tensor:
    """(x − μ) / √(σ² + ε), in ``out`` if there is one, where rounding μ to the dtype of x must cost no digits."""
    rounded = mean.to(x.dtype)
    x_hat = torch.sub(x, _batched_like(rounded, var), out=out)
    x_hat -= (mean - rounded).to(x.dtype)
    return x_hat.mul_(_inv_std(var, eps).to(x.dtype))


def _closed_form(
    dy: Tensor, x_hat: Tensor, inv_std: Tensor, gamma: Tensor | None, layout: Layout, centered: bool
) -> Gradients:
    """dx, dweight and dbias, the latter two in the rank of x̂ and in float64."""
    products, count = dy * x_hat, number_of(x_hat.shape, layout.axes)
    if _varies(layout):
        dweight, dbias = _to_param(products, layout), _to_param(dy, layout)
        if gamma is not None:
            gamma = gamma.to(dy.dtype)
            dy, products = dy * gamma, products * gamma
        sums = _sum(dy, layout.axes), _sum(products, layout.axes)
        return _standardize_backward(dy, x_hat, inv_std, *sums, count, centered), dweight, dbias
    # γ is the same for all values that share a mean: it can wait, and the sums are needed only once.
    sums = _sum(dy, layout.axes), _sum(products, layout.axes)
    dx = _standardize_backward(dy, x_hat, _scale(inv_std, gamma), *sums, count, centered)
    return dx, _to_param(sums[1], layout), _to_param(sums[0], layout)


def _standardize_backward(
    dx_hat: Tensor,
    x_hat: Tensor,
    scale: Tensor,
    total: Tensor,
    total_products: Tensor,
    count: int | Tensor,
    centered: bool,
) -> Tensor:
    """dx = scale · (dx̂ − mean(dx̂) − x̂ · mean(dx̂ · x̂)), with the sums of ``count`` dx̂ and dx̂ · x̂ given.

    May change ``x_hat``, as :func:`_product` does.
    """
    through_var = _batched_like(total_products / -count, scale)
    dx = _product(x_hat, through_var.to(x_hat.dtype))
    dx += dx_hat
    if centered:
        dx -= (total / count).to(x_hat.dtype)
    return dx.mul_(scale.to(x_hat.dtype))


def _affine(x_hat: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    """γ · x̂ + β, in the memory of x̂ where nobody needs that any more."""
    gamma, beta = (None if param is None else param.to(x_hat.dtype) for param in (gamma, beta))
    if gamma is None:
        return x_hat if beta is None else x_hat + beta
    if beta is None:
        return _product(x_hat, gamma)
    return _product(x_hat, _batched_like(gamma, beta)).add_(beta)


def _affine_tangent(
    ctx: FunctionCtx,
    x_hat: Tensor,
    x_hat_t: Tensor | None,
    weight: Tensor | None,
    weight_t: Tensor | None,
    bias_t: Tensor | None,
) -> Tensor:
    """The derivative of γ · x̂ + β along the tangents that are given."""
    y_t = torch.zeros_like(x_hat)
    if x_hat_t is not None:
        y_t = y_t + _affine(x_hat_t, _param(weight, ctx.layout), None)
    if weight_t is not None:
        y_t = y_t + x_hat * _param(weight_t, ctx.layout).to(x_hat.dtype)
    if bias_t is not None:
        y_t = y_t + _param(bias_t, ctx.layout).to(x_hat.dtype)
    return _laid_out(ctx.saved_tensors[0], y_t)


def _sum(a: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Sum over ``dims``, which are kept at length 1, in float64.

    PyTorch adds up neighbours pairwise, which costs float32 no digits; what it adds one after the
    other, the sums of different samples, is added in float64.
    """
    if not dims:
        return a.double()
    first, *rest = dims
    if rest:
        a = a.sum(rest, keepdim=True).double()
    return a.sum(first, keepdim=True).double()


def number_of(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """How many values share a mean."""
    return math.prod([shape[axis] for axis in axes])


def _inv_std(var: Tensor, eps: float) -> Tensor:
    return (var + eps).rsqrt()


def _product(x_hat: Tensor, factor: Tensor) -> Tensor:
    """x̂ · factor, if possible in the memory of x̂, which is not needed any more.

    Memory that was just written is in the cache; new memory is not, and costs several times as much.
    """
    return torch.mul(x_hat, factor, out=x_hat if _is_plain(x_hat, factor) else None)


def _batched_like(small: Tensor, other: Tensor) -> Tensor:
    """``small``, but under vmap batched if ``other`` is: what is made of it can then be changed in place, with ``other``.

    In place is much faster, and no array of the input's size is touched here.
    """
    return small + torch.zeros_like(other, dtype=small.dtype)


def _scale(inv_std: Tensor, gamma: Tensor | None) -> Tensor:
    """γ / √(σ² + ε), in float64."""
    return inv_std if gamma is None else inv_std * gamma


# Part by part


def _by_channels(compute: Callable, layout: Layout, x: Tensor, *others: Tensor | None) -> tuple[Tensor, ...]:
    """``compute(x, *others)``, for some channels at a time, so that what it makes meanwhile stays in the cache.

    All tensors have their channels, or groups, in axis 1, and so have the results. The first is of the
    size of ``x``, and ``compute`` may put it into ``out``.
    """
    if not (_is_plain(x, *others) and _is_worth_parting(x, layout)):
        return compute(x, *others)
    step = max(1, PART * x.shape[1] // x.numel())
    whole, rest = torch.empty_like(x), []
    for start in range(0, x.shape[1], step):
        part = slice(start, start + step)
        given = [None if tensor is None else tensor[:, part] for tensor in (x, *others)]
        out = whole[:, part]
        first, *more = compute(*given, out=None if x.dtype in HALF else out)
        if first.data_ptr() != out.data_ptr():
            out.copy_(first)
        rest.append(more)
    return whole, *(torch.cat(results, 1) for results in zip(*rest, strict=True))


def _is_worth_parting(x: Tensor, layout: Layout) -> bool:
    """Whether there is much to compute, on a CPU, and the channels lie apart in memory."""
    has_channels = x.dim() > 2 and len(layout.param_shape) == x.dim() and x.stride(1) > 1
    return x.device.type == "cpu" and has_channels and x.numel() >= 2 * PART


def is_transformed() -> bool:
    """Whether a transform of torch.func is at work; ``autograd.Function.apply`` asks in the same way."""
    return torch._C._are_functorch_transforms_active()


def _is_plain(*tensors: Tensor | None) -> bool:
    """Whether these are mere numbers: nothing is recorded or traced, and no tensor stands for a batch of tensors."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or is_transformed():
        return False
    batched = torch._C._functorch.is_legacy_batchedtensor  # as autograd makes for is_grads_batched
    return not any(batched(tensor) for tensor in tensors if tensor is not None)


# Shapes and dtypes


def computable(x: Tensor) -> Tensor:
    """``x`` in float32 or float64."""
    return x.float() if x.dtype in HALF else x


def _seen(x: Tensor, layout: Layout) -> Tensor:
    """``x`` as it is computed with: in the layout's shape, in float32 or float64."""
    return computable(x).reshape(layout.shape)


def _is_channels_last(x: Tensor) -> bool:
    """Whether the channels are closest in memory and the other axes follow from the last to the first."""
    steps = [x.stride(axis) for axis in (1, *range(x.dim() - 1, 1, -1), 0)] if x.dim() in (4, 5) else [0]
    return steps[0] == 1 and steps[1] >= x.shape[1] and steps == sorted(steps)


def _laid_out(x: Tensor, y: Tensor) -> Tensor:
    """``y`` in the dtype of ``x``, contiguous unless ``x`` is channels_last; no view: those cannot be changed in place."""
    y = y.to(x.dtype)
    return y if _is_channels_last(x) else y.contiguous()


def _shaped(x: Tensor, y: Tensor) -> Tensor:
    """``y`` in the shape and memory format of ``x``; may be a view, so not for what an autograd function returns."""
    y = y if y.shape == x.shape else y.reshape(x.shape)
    # With a single sample, the step to the next one, which is nowhere, tells the format, too.
    if _is_channels_last(x) and not _is_channels_last(y):
        last = y.movedim(1, -1)
        y = last.flatten().view(last.shape).movedim(-1, 1)
    return y


def _param(param: Tensor | None, layout: Layout) -> Tensor | None:
    """``param`` in the shape in which it broadcasts."""
    return None if param is None else param.reshape(layout.param_shape)


def _repeated(layout: Layout) -> tuple[int, ...]:
    """The axes along which a parameter is repeated."""
    padded = (1,) * (len(layout.shape) - len(layout.param_shape)) + layout.param_shape
    return tuple(axis for axis, size in enumerate(padded) if size == 1)


def _to_param(a: Tensor, layout: Layout) -> Tensor:
    """Sum of ``a`` over all axes along which a parameter is repeated."""
    return _sum(a, _repeated(layout))


def _varies(layout: Layout) -> bool:
    """Whether a parameter varies among values that share a mean."""
    return not set(layout.axes) <= set(_repeated(layout))


def _save(ctx: FunctionCtx, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor) -> None:
    """Keep for the backward pass, and for forward mode, what is no larger than the input."""
    ctx.save_for_backward(x, weight, mean, var)
    ctx.save_for_forward(x, weight, mean, var)
    ctx.shapes = [None if tensor is None else tensor.shape for tensor in (x, weight, bias)]
    ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in (x, weight, bias)]


def _as_saved(ctx: FunctionCtx, *gradients: Tensor) -> Gradients:
    """The gradients in the shapes and dtypes of the inputs; None where nobody asked."""
    given = zip(gradients, ctx.shapes, ctx.dtypes, ctx.needs_input_grad, strict=False)
    # reshaping to the same shape would lose the memory format of a single sample
    return tuple(
        (g if g.shape == shape else g.reshape(shape)).to(dtype) if needed else None for g, shape, dtype, needed in given
    )
