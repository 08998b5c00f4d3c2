"""Batch norm on a GPU: which kernels run, on what.

No program adds to what another has written, so the same input gives the same bits every time.

In training, the forward pass reads x twice and writes y, in two launches: the first leaves (count, mean, M2) of every
split, M2 being the sum of the squared distances from the mean; the second merges them and normalizes. The backward
pass reads x and dy twice and writes dx. Where all values of a program's channels fit into registers, one launch does
each, and reads everything once. Evaluation always does.
"""

import functools

import torch
from torch import Tensor

from bncourse.kernels import batch_norm_kernels as kernels
from bncourse.kernels.arguments import check_batch_norm, check_running, like, matrix, vector
from bncourse.kernels.plan import Plan, batch_norm_plan
from bncourse.kernels.runtime import launching_on, multiprocessors, power_of_two


def batch_norm_forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    *,
    training: bool,
    momentum: float,
    eps: float,
    residual: Tensor | None = None,
    relu: bool = False,
    plan: Plan | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """y = γ · (x − μ) / √(σ² + ε) + β, plus the residual if there is one, and 0 instead of what is negative if ``relu``.

    In training μ and the biased σ² are those of the batch, and the running statistics, if given, move towards them and
    the unbiased σ²; in evaluation they are the running statistics.

    Args:
        x: shape (N, C, *), float32, bfloat16 or float16.
        weight, bias: γ and β of shape (C,), or None.
        running_mean, running_var: shape (C,), or None in training; updated in place in training.
        training: whether to use the statistics of the batch.
        momentum: the share of the batch in the running statistics.
        eps: ε, in squared units of x.
        residual: shape, dtype and layout of x; added before the ReLU.
        relu: whether to apply a ReLU.
        plan: how to cut the work; None for :func:`bncourse.kernels.plan.batch_norm_plan`'s choice. Evaluation is split.

    Returns:
        y in shape, dtype and memory format of x, contiguous if x is neither that nor channels_last; the mean and
        1 / √(σ² + ε) that were used, in float32.

    Raises:
        ValueError: dtypes or shapes do not fit, or a channel has only one value in training.
        RuntimeError: x is on a CPU, and Triton does not interpret.
    """
    check_batch_norm(x, weight=weight, bias=bias, residual=residual, training=training)
    check_running(x, running_mean, running_var, required=not training)
    x = like(x, x)
    y = torch.empty_like(x)
    mean, inv_std = torch.empty(2, x.shape[1], device=x.device)
    if x.numel() == 0:
        return y, mean.zero_(), inv_std.zero_()
    running = vector(running_mean), vector(running_var)
    pointers = x, like(x, residual), vector(weight), vector(bias), y, mean, inv_std, *running
    plan = plan or _plan(x, arrays=1, training=training)
    with launching_on(x):
        _forward(plan, pointers, training=training, momentum=momentum, eps=eps, relu=relu)
    for given, updated in zip((running_mean, running_var), running, strict=True):
        if training and updated is not given:  # a copy was made, since the kernels need neighbours in memory
            given.copy_(updated)
    return y, mean, inv_std


def batch_norm_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    inv_std: Tensor,
    *,
    training: bool,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    relu: bool = False,
    plan: Plan | None = None,
) -> tuple[Tensor, ...]:
    """dx = γ / √(σ² + ε) · (dy − mean(dy) − x̂ · mean(dy · x̂)), dweight = Σ dy · x̂, dbias = Σ dy.

    In evaluation dx = γ / √(σ² + ε) · dy. With ``relu``, dy counts only where the output was positive; the output is
    computed again from x, bias and residual, so nothing of its size has to be kept. It is computed with the saved mean,
    which is rounded, so where the output is within |γ| / √(σ² + ε) roundings of the mean from 0, its sign may differ.

    Args:
        dy: the gradient of the output, shape and dtype of x.
        x, weight, bias, residual, relu, training, plan: as in the forward pass; the bias is needed for the ReLU only.
        mean, inv_std: as the forward pass returned them.

    Returns:
        dx, in shape, dtype and memory format of x; dweight and dbias of shape (C,), in the dtype of the weight, or
        float32 without one; and, with a residual, its gradient.

    Raises:
        ValueError: dtypes or shapes do not fit.
        RuntimeError: x is on a CPU, and Triton does not interpret.
    """
    check_batch_norm(
        x, weight=weight, bias=bias, mean=mean, inv_std=inv_std, dy=dy, residual=residual, training=training
    )
    x = like(x, x)
    dy = like(x, dy)
    dx = torch.empty_like(x)
    dtype = torch.float32 if weight is None else weight.dtype
    dweight, dbias = torch.empty(2, x.shape[1], dtype=dtype, device=x.device)
    masked = residual is not None and relu  # without a ReLU, the residual's gradient is dy
    dresidual = torch.empty_like(x) if masked else None
    if x.numel() == 0:
        dweight.zero_(), dbias.zero_()
    else:
        vectors = [vector(v) for v in (weight, bias, mean, inv_std)]
        pointers = dy, x, like(x, residual) if masked else None, *vectors, dx, dresidual
        plan = plan or _plan(x, arrays=2, training=training)
        with launching_on(x):
            _backward(plan, pointers, dweight, dbias, training=training, relu=relu)
    if residual is None:
        return dx, dweight, dbias
    return dx, dweight, dbias, dresidual if masked else dy


# Launches


def _plan(x: Tensor, *, arrays: int, training: bool) -> Plan:
    """In evaluation there is nothing to keep on chip: everything is read once as it is."""
    return batch_norm_plan(
        *matrix(x),
        itemsize=x.element_size(),
        arrays=arrays,
        resident=None if training else False,
        multiprocessors=multiprocessors(x.device),
    )


def _forward(plan: Plan, pointers: tuple, *, training: bool, momentum: float, eps: float, relu: bool) -> None:
    options = {"momentum": momentum, "eps": eps, "RELU": relu}
    if plan.resident and training:
        _launch(kernels._batch_norm_resident_forward_kernel, plan, *pointers, **options)
        return
    x = pointers[0]
    partial = _partial(plan, x) if training else (None, None, None)
    if training:
        _launch(kernels._batch_norm_statistics_kernel, plan, x, *partial)
    _launch(kernels._batch_norm_normalize_kernel, plan, *pointers, *partial, TRAINING=training, **options)


def _backward(plan: Plan, pointers: tuple, dweight: Tensor, dbias: Tensor, *, training: bool, relu: bool) -> None:
    if plan.resident and training:
        _launch(kernels._batch_norm_resident_backward_kernel, plan, *pointers, dweight, dbias, RELU=relu)
        return
    dy, x, _, weight, bias, mean, inv_std, dx, dresidual = pointers
    partial = _partial(plan, x)
    behind_relu = dresidual is not None
    given = *pointers[:-2], None if training else dx, dresidual
    _launch(kernels._batch_norm_gradient_sums_kernel, plan, *given, *partial, RELU=relu)
    if not training:
        dbias.copy_(partial[1].sum(0))
        dweight.copy_(partial[2].sum(0) * inv_std)
        return
    given = (dresidual if behind_relu else dy), x, weight, bias, mean, inv_std, dx, dweight, dbias
    _launch(kernels._batch_norm_input_gradient_kernel, plan, *given, *partial, RELU=relu and not behind_relu)


def _partial(plan: Plan, x: Tensor) -> tuple[Tensor, ...]:
    """Three numbers for every split of every channel."""
    return torch.empty(3, plan.splits, plan.channels, device=x.device).unbind()


def _launch(kernel, plan: Plan, *pointers: Tensor | None, **options: object) -> None:
    """Launch a kernel on tensors and on those numbers of the plan that it has parameters for."""
    kernel[plan.grid](*pointers, **_numbers(kernel, plan), **options, num_warps=plan.num_warps)


@functools.lru_cache(maxsize=4096)
def _numbers(kernel, plan: Plan) -> dict[str, int | float | bool]:
    """The parameters of a kernel that the plan decides."""
    numbers = {
        "R": plan.rows,
        "C": plan.channels,
        "tiles": plan.tiles,
        "count": float(plan.rows * plan.width),
        "WIDTH": plan.width,
        "GROUP": plan.group,
        "CHANNELS": power_of_two(plan.group),
        "SPLITS": power_of_two(plan.splits),
        "BLOCK_ROWS": plan.block_rows,
        "BLOCK_COLUMNS": plan.block_columns,
        "WIDE": plan.rows * plan.channels * plan.width >= 2**31,
    }
    return {name: numbers[name] for name in kernel.arg_names if name in numbers}
