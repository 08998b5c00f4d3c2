"""Batch norm whose batch is spread over processes.

Each process summarizes its part of the batch to a count, a mean and an M2 for each channel. One all-gather brings these
numbers to all processes, and each of them merges them, to the same bits. In the backward pass, one all-reduce adds up
the two sums on which dx depends. The gradients of weight and bias are those of the local part:
``torch.nn.parallel.DistributedDataParallel`` averages them over the processes, as it does with all parameters.

All that is sent is in float64, 8 · (2C + 1) bytes forward and 8 · 2C bytes backward from each process. The layer copies
nothing to the host, so with nccl a GPU does not wait for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bncourse import layers
from bncourse.distributed.connections import is_lost_connection
from bncourse.distributed.merging import Statistics, merge, summarize
from bncourse.functional import batch_layout, move_running
from bncourse.normalize import normalized_part
from bncourse.tensor_arguments import ArgumentError, check_batch_norm, check_input

Group = Any  # a torch.distributed.ProcessGroup, which some builds of PyTorch lack; None stands for all processes

# The layer


class SyncBatchNorm(layers._BatchNorm):
    """Batch normalization over (N, C, *), with the statistics of the batches of all processes together.

    A drop-in for ``torch.nn.SyncBatchNorm``, with the same constructor and ``state_dict``; it also takes tensors on a
    CPU, whatever the back end of torch.distributed is. In evaluation mode, without torch.distributed, or in a group of
    one process nothing is sent, and the layer is :class:`bncourse.layers.BatchNorm2d` for any number of axes.

    In training mode, all processes of the group call the layer, and go backward through it, in the same order among all
    that is sent in this group. Those with nothing to do call it with an empty batch, N = 0; batches may differ in size.
    DistributedDataParallel sends gradients as soon as they are ready. If it is told to find unused parameters, and
    these are not the same everywhere, the order may differ: then give the layer a group of its own,
    ``process_group=dist.new_group()``.

    The gradient can be taken once: not of the gradient again.

    Args:
        num_features: C.
        eps: ε, in squared units of the input.
        momentum: the share of the new batch in the running statistics; None for a plain average in which every batch
            counts equally.
        affine: whether there are γ and β, of shape (C,).
        track_running_stats: whether there are running statistics; without them the statistics in evaluation mode
            are those of the local batch.
        process_group: the processes that share statistics; None for all.
        device: of parameters and buffers.
        dtype: of parameters and buffers.
        bias: whether there is a β beside γ.

    Raises:
        ArgumentError: a ValueError. The input does not fit; or, on a CPU, all processes together have one value for
            each channel.
        RuntimeError: another process has stopped, or did not come within the timeout of the group (with nccl,
            torch.distributed may end the process instead); or this process is not in the group.

    Source:
        ``torch.nn.SyncBatchNorm``; Chan, Golub and LeVeque (1983) for the merged variance.
    """

    ranks = (2, 3, 4, 5)  # what the layers that it is folded into put out; it takes any number from 2 on

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Group = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    def _check_input_dim(self, input: Tensor) -> None:
        check_input(input, minimum_rank=2)

    def _normalize(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        *,
        training: bool,
        momentum: float | Tensor,
    ) -> Tensor:
        given = input, running_mean, running_var
        if not self.training or _size(self.process_group) == 1:
            return super()._normalize(*given, training=training, momentum=momentum)
        return _sync_batch_norm(*given, self.weight, self.bias, momentum, self.eps, self.process_group)


CONVERTIBLE = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(layers.BatchNorm1d, layers.BatchNorm2d, layers.BatchNorm3d, SyncBatchNorm),
)


def convert_sync_batch_norm(module: nn.Module, process_group: Group = None) -> nn.Module:
    """``module`` with a :class:`SyncBatchNorm` in the place of every batch norm in it.

    Parameters, buffers, hooks and the mode of each are kept, so an optimizer may have been made before; wrap the result
    in DistributedDataParallel, and compile it, afterwards. The module is changed in place. But a module that is itself
    a batch norm cannot be: so use what is returned.

    Args:
        module: with BatchNorm1d/2d/3d or SyncBatchNorm of ``torch.nn``, or this package's.
        process_group: the processes that share statistics; None for all.

    Raises:
        ValueError: there is a subclass of these, which may compute something else, or does not know its size yet.
            Then nothing is changed.
    """
    norms = [found for found in module.modules() if isinstance(found, (_BatchNorm, layers._BatchNorm))]
    sync = {norm: _as_sync(norm, process_group) for norm in norms}
    for parent in [*module.modules()]:
        for name, child in parent._modules.items():  # named_children leaves out the second place of a shared layer
            parent._modules[name] = sync.get(child, child)
    return sync.get(module, module)


def _as_sync(norm: nn.Module, process_group: Group) -> SyncBatchNorm:
    if type(norm) not in CONVERTIBLE:
        raise ArgumentError(
            "expected BatchNorm1d/2d/3d or SyncBatchNorm of torch.nn or of this package; got the subclass "
            f"{type(norm).__name__}, which may compute something else; replace it by hand, or run a batch through it "
            "first if it is lazy"
        )
    sync = SyncBatchNorm(norm.num_features, device="meta")
    vars(sync).update(vars(norm))  # all of a module: parameters, buffers, hooks, mode
    # From here on each has parameters of its own, but hooks in common, so that their handles still remove them.
    sync._parameters, sync._buffers = dict(norm._parameters), dict(norm._buffers)
    sync._compiled_call_impl = None  # it would go on calling the old one
    sync.process_group = process_group
    return sync


# The computation


def _sync_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float | Tensor,
    eps: float,
    group: Group,
) -> Tensor:
    """Batch norm in training mode, with the statistics of all processes of the group."""
    given = running_mean, running_var, weight, bias
    check_batch_norm(input, *given, training=True, momentum=momentum, eps=eps)
    count, mean, m2 = merge(*_gathered(summarize(input), group))
    _check_global_count(count, input)
    layout = batch_layout(input)
    params = (values.view(layout.param_shape) for values in (mean, m2 / count.clamp_min(1)))
    y = normalized_part(input, layout, weight, bias, eps, *params, count, partial(_added_up, group=group))
    if running_mean is not None:
        share = momentum * count.clamp(max=1)  # nothing to learn from a batch that is empty everywhere
        move_running(running_mean, mean, share)
        move_running(running_var, m2 / (count - 1).clamp_min(1), share)
    return y


def _gathered(local: Statistics, group: Group) -> Statistics:
    """The (count, mean, M2) of all processes, one below the other: one collective."""
    channels = len(local[1])
    sent = torch.cat([part.view(-1) for part in local])
    received = sent.new_empty(_size(group) * len(sent))
    with _explained("the statistics of the batch", group):
        dist.all_gather_single(received, sent, group=group)
    counts, means, m2s = received.view(-1, len(sent)).split((1, channels, channels), dim=1)
    return counts.flatten(), means, m2s


def _added_up(sums: Tensor, group: Group) -> Tensor:
    """The sums of all processes, in place: one collective."""
    with _explained("the sums of the gradient", group):
        dist.all_reduce(sums, group=group)
    return sums


def _check_global_count(count: Tensor, input: Tensor) -> None:
    """Refuse a single value for each channel; on a GPU it would have to wait for the number, and does not."""
    if count.device.type == "cpu" and count == 1:
        raise ArgumentError(
            "Expected more than 1 value per channel when training, in all processes together; got input size "
            f"{tuple(input.shape)} and no values elsewhere; one value has no variance: use a larger batch, or "
            "evaluation mode"
        )


# Processes


def _size(group: Group) -> int:
    """How many processes share statistics."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    size = dist.get_world_size(group)
    if size < 1:
        raise RuntimeError(
            f"process {dist.get_rank()} is not in the process_group of this SyncBatchNorm; give each process the "
            "group that it belongs to, as dist.new_subgroups does"
        )
    return size


@contextmanager
def _explained(what: str, group: Group) -> Iterator[None]:
    """Say what an error of the back end means here."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost_connection(error):
            raise
        raise RuntimeError(
            f"SyncBatchNorm: process {dist.get_rank(group)} of {_size(group)} could not exchange {what}. Another "
            "process has stopped, or did not come here in time. All processes of a group have to run this layer "
            f"equally often, with an empty batch if need be, and all of them in training mode. ({error})"
        ) from error
