"""Batch norm composed of PyTorch operations, the way to write it without a gradient of one's own."""

import torch
from torch import Tensor


def batch_norm(
    input: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As ``torch.nn.functional.batch_norm`` in training, for an input of shape (N, C, *); autograd finds the gradients."""
    if not training:
        raise ValueError("expected training=True; got False; evaluation is not compared here")
    dims = (0, *range(2, input.dim()))
    mean = input.mean(dims, keepdim=True)
    var = (input - mean).square().mean(dims, keepdim=True)
    with torch.no_grad():
        count = input.numel() // mean.numel()
        running_mean.lerp_(mean.flatten(), momentum)
        running_var.lerp_(var.flatten() * (count / (count - 1)), momentum)
    x_hat = (input - mean) / torch.sqrt(var + eps)
    return x_hat * weight.view(mean.shape) + bias.view(mean.shape)
