"""What the kernels accept, and how they see it."""

import math

import torch
from torch import Tensor

from bncourse.kernels.runtime import check_device, check_dtype

Shape = tuple[int, ...]


def check_batch_norm(x: Tensor, *, training: bool, **others: Tensor | None) -> None:
    """ValueError unless dtypes and shapes fit: ``dy`` and ``residual`` are like x, all others have a number per channel."""
    check_device(x)
    check_dtype(x)
    if x.dim() < 2:
        raise ValueError(f"expected x of shape (N, C, *); got {tuple(x.shape)}; add the missing axes, as with x[None]")
    for name, tensor in others.items():
        if tensor is not None:
            check_shape(name, tensor, tuple(x.shape) if name in ("dy", "residual") else tuple(x.shape[1:2]))
    for name in ("dy", "residual"):
        check_same_dtype(x, name, others.get(name))
    if training and x.numel() == x.shape[1] > 0:
        raise ValueError(
            f"expected more than one value per channel in training; got {tuple(x.shape)}; use a larger batch, or evaluation"
        )


def check_shape(name: str, tensor: Tensor, shape: Shape) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"expected {name} of shape {shape}; got {tuple(tensor.shape)}; make {name} anew for this x")


def check_same_dtype(x: Tensor, name: str, tensor: Tensor | None) -> None:
    if tensor is not None and tensor.dtype != x.dtype:
        raise ValueError(f"expected {name} in the dtype of x, {x.dtype}; got {tensor.dtype}; use {name}.to(x.dtype)")


def check_running(x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, *, required: bool) -> None:
    """ValueError unless there are both or neither, or if they are missing where they are ``required``."""
    if (running_mean is None) != (running_var is None):
        raise ValueError("expected running_mean and running_var together; got one of them; pass both or neither")
    if required and running_mean is None:
        raise ValueError("expected running statistics in evaluation; got None; pass them, or training=True")
    for name, tensor in (("running_mean", running_mean), ("running_var", running_var)):
        if tensor is not None:
            check_shape(name, tensor, tuple(x.shape[1:2]))


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels are neighbours in memory, and x has no gaps."""
    if x.dim() not in (4, 5) or x.is_contiguous():
        return False
    return x.is_contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)


def like(x: Tensor, tensor: Tensor | None) -> Tensor | None:
    """``tensor`` without gaps: in the memory format of x if that is channels_last, else contiguous."""
    if tensor is None or not is_channels_last(x):
        return None if tensor is None else tensor.contiguous()
    return tensor.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)


def matrix(x: Tensor) -> tuple[int, int, int]:
    """Rows, channels and width: how the kernels see the memory of x, see :mod:`bncourse.kernels.plan`."""
    samples, channels = x.shape[:2]
    positions = math.prod(x.shape[2:])
    return (samples * positions, channels, 1) if is_channels_last(x) else (samples, channels, positions)


def vector(tensor: Tensor | None) -> Tensor | None:
    """``tensor`` without gaps."""
    return None if tensor is None else tensor.contiguous()
