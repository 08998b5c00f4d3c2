"""What the norms for PyTorch accept: errors that say what was expected, what came, and the fix."""

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
FLOATING = (*HALF, torch.float32, torch.float64)


class ArgumentError(ValueError, RuntimeError):
    """Arguments that do not fit: a ValueError as in the rest of the package, a RuntimeError as in PyTorch."""


def check_input(input: Tensor, *, minimum_rank: int) -> None:
    if not isinstance(input, Tensor):
        raise TypeError(f"expected input to be a torch.Tensor; got {type(input).__name__}; use torch.as_tensor(...)")
    if input.dtype not in FLOATING:
        raise ArgumentError(
            f"expected a floating-point input; got {input.dtype}, for which normalization is not implemented; "
            "convert it, for example with input.float()"
        )
    if input.dim() < minimum_rank:
        raise ArgumentError(
            f"expected input of shape (N, C, *), so at least 2 axes; got shape {tuple(input.shape)}; "
            "add the missing axes, for example with input[None]"
        )


def check_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    training: bool,
    momentum: float,
    eps: float,
) -> None:
    """All but the number of values, which may be spread over several processes."""
    check_input(input, minimum_rank=2)
    check_channels(input.shape[1], weight=weight, bias=bias)
    check_dtypes(input, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var)
    check_running(input.shape[1], running_mean, running_var, required=not training)
    check_eps(eps, training)
    if training:
        check_momentum(momentum)


def check_channels(channels: int, *, vectors: bool = False, **params: Tensor | None) -> None:
    for name, param in params.items():
        if param is None:
            continue
        if param.numel() != channels or (vectors and param.dim() != 1):
            raise ArgumentError(
                f"{name} should contain {channels} elements, one per channel of the input; got shape "
                f"{tuple(param.shape)}; make {name} anew for this input, or check the order of the input's axes"
            )


def check_dtypes(input: Tensor, **others: Tensor | None) -> None:
    """All of one dtype, that of the input; with half types, float32 is allowed."""
    dtypes = {tensor.dtype for tensor in others.values() if tensor is not None}
    allowed = (input.dtype, torch.float32) if input.dtype in HALF else (input.dtype,)
    if len(dtypes) > 1 or not dtypes <= set(allowed):
        listed = ", ".join(f"{name} {tensor.dtype}" for name, tensor in others.items() if tensor is not None)
        raise ArgumentError(
            f"mixed dtypes: expected the other tensors in {' or all in '.join(map(str, allowed))}, to match the input; "
            f"got {listed}; convert them, for example with layer.to(input.dtype)"
        )


def check_running(channels: int, running_mean: Tensor | None, running_var: Tensor | None, *, required: bool) -> None:
    if (running_mean is None) != (running_var is None):
        present = "running_mean" if running_var is None else "running_var"
        raise ArgumentError(f"expected running_mean and running_var together; got only {present}; pass both or neither")
    if running_mean is None:
        if required:
            raise ArgumentError(
                "running_mean and running_var must be defined in evaluation mode; got None; pass both, or normalize "
                "with the statistics of the input (training=True, or use_input_stats=True)"
            )
        return
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        if tuple(running.shape) != (channels,):
            raise ArgumentError(
                f"{name} should contain {channels} elements, one per channel of the input, in one axis; got shape "
                f"{tuple(running.shape)}; check the number of channels that the layer was made for"
            )
        if running.requires_grad:
            raise ArgumentError(
                f"expected {name} without a gradient; got one with requires_grad=True; running statistics are "
                f"updated in place, not trained: make it a buffer, or pass {name}.detach()"
            )


def check_eps(eps: float, training: bool) -> None:
    """For batch norm alone: in the other norms PyTorch takes any ε."""
    if eps < 0 or (training and eps == 0):
        wanted = "positive in training" if training else "0 or more"
        raise ArgumentError(f"eps must be {wanted}; got {eps}; the usual value is 1e-5")


def check_momentum(momentum: float) -> None:
    if momentum is None:
        raise TypeError(
            "expected momentum to be a number; got None; the layers turn None into 1 / number of batches, "
            "here pass that number"
        )


def check_groups(num_groups: int, input: Tensor) -> None:
    if num_groups < 1 or input.shape[1] % num_groups:
        raise ArgumentError(
            f"expected num_groups to divide the number of channels, {input.shape[1]}; got {num_groups} for an input of "
            f"shape {tuple(input.shape)}; choose a divisor, such as 1 or the number of channels"
        )


def check_count(input: Tensor, count: int, what: str) -> None:
    if count == 1:
        raise ArgumentError(
            f"Expected more than 1 {what} when training, got input size {tuple(input.shape)}; one value has no "
            "variance: use a larger batch (DataLoader(..., drop_last=True)), or evaluation mode"
        )
