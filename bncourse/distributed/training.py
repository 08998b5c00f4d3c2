"""The digits CNN on several processes: each batch is shared among them, and its statistics and gradient are the same.

Every process draws the same order of samples, takes its part of each batch, and normalizes with the statistics of the
whole batch. So the curve does not depend on how many processes there are. What differs is rounding, since sums over the
batch are added up in another order. With the default settings and 1, 2 or 3 processes, losses in float64 differ by less
than 1e-15: all printed digits are equal, and ``diff`` finds nothing. In float32 the differences grow over the steps, to
some 1e-3 in the loss and 0.01 in the accuracy. That is why float64 is the default here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from bncourse import data
from bncourse.distributed.processes import track
from bncourse.distributed.sync_batch_norm import SyncBatchNorm, convert_sync_batch_norm
from bncourse.models import ResidualCNN
from bncourse.training.fitting import batches_of, evaluation_mode, seeded


@dataclass(frozen=True)
class Epoch:
    """What :func:`train` measured in one epoch; the same in every process."""

    loss: float  # mean over the samples of the training part, in nats, while the weights change
    accuracy: float  # share of the validation part whose class is right, after the epoch


@dataclass(frozen=True)
class Settings:
    """What :func:`train` does; every process gets the same.

    Args:
        epochs: how often to go through the samples.
        batch_size: the number of samples in a batch, over all processes together.
        learning_rate: of stochastic gradient descent.
        seed: decides the first weights and the order of the samples.
        norm: "sync", with the statistics of all processes; or "local", where each normalizes its own part of a batch
            alone. With "local" each has its own running statistics. DistributedDataParallel sends those of rank 0 to
            all before each forward pass, so evaluation has those of rank 0.
        group_size: with "sync", share statistics only among so many processes: ranks 0 to group_size - 1, and so on.
            It divides their number. Evaluation has the running statistics of the first group. None: all of them.
        dtype: of weights and inputs, torch.float32 or torch.float64.
        device: of this process, such as "cpu" or "cuda:0".

    Raises:
        ValueError: if one of them is out of its range.
    """

    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 0.3
    seed: int = 0
    norm: Literal["sync", "local"] = "sync"
    group_size: int | None = None
    dtype: torch.dtype = torch.float64
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 1 or more; got {getattr(self, name)}; choose a larger number")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate: expected a number above 0; got {self.learning_rate}; choose 0.3, say")
        if self.norm not in ("sync", "local"):
            raise ValueError(f"norm: expected 'sync' or 'local'; got {self.norm!r}; choose who shares statistics")
        if self.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype: expected torch.float32 or torch.float64; got {self.dtype}; choose one of the two")
        self._check_group_size()

    def _check_group_size(self) -> None:
        if self.group_size is None:
            return
        if self.norm == "local":
            raise ValueError(
                f"group_size: expected None with norm='local'; got {self.group_size}; choose norm='sync', since with "
                "'local' no process shares its statistics"
            )
        if self.group_size < 1:
            raise ValueError(f"group_size: expected 1 or more; got {self.group_size}; choose None for all processes")


def network(settings: Settings) -> ResidualCNN:
    """The digits CNN with its first weights; they follow from the seed alone."""
    with seeded(settings.seed, torch.device("cpu")):
        return ResidualCNN().to(settings.device, settings.dtype)


def train(settings: Settings, model: nn.Module | None = None) -> list[Epoch]:
    """Train on the digits, in every process of the group together, or in one process without a group.

    With W processes, and n samples in the whole batch, the loss of process r is (W / n) · Σ ℓᵢ over the samples of its
    part. DistributedDataParallel averages the gradients of the processes: (1 / W) Σᵣ (W / n) Σ ∂ℓᵢ = (1 / n) Σ ∂ℓᵢ, the
    gradient of the mean over the whole batch, however unequal the parts are. A process without samples has a loss of 0,
    and takes part in all that is sent.

    Args:
        settings: the same in every process, but for the device.
        model: what to train, in place, with images (N, 1, 8, 8) as inputs and 10 logits, of the dtype and on the device
            of ``settings``; None for the digits CNN. With "sync" its batch norms become synchronized ones.

    Returns:
        Loss and accuracy of each epoch.

    Raises:
        ValueError: if the number of processes is no multiple of ``settings.group_size``.
        RuntimeError: if another process of the group has ended, or does not answer in time.
    """
    return list(epochs(settings, model))


def epochs(settings: Settings, model: nn.Module | None = None) -> Iterator[Epoch]:
    """Train as :func:`train` does, an epoch at a time."""
    share = Share.of(settings)
    digits = data.digits()
    train, validation = (_moved(part, settings) for part in (digits.train, digits.validation))
    model = network(settings) if model is None else model
    order = torch.Generator().manual_seed(settings.seed)
    with share.synchronized(model) as replica:
        optimizer = torch.optim.SGD(replica.parameters(), lr=settings.learning_rate)
        for _ in track(range(settings.epochs)):
            batches = batches_of(len(train.y), settings.batch_size, order)
            losses = [_step(replica, optimizer, train, batch, share) for batch in batches]
            right = _right(replica, validation, share)
            loss, right = share.sum(torch.stack([torch.stack(losses).sum(), right])).tolist()
            yield Epoch(loss / sum(map(len, batches)), right / len(validation.y))


@dataclass(frozen=True)
class Share:
    """Which part of each batch this process takes, and with how many it shares statistics.

    Args:
        rank: of this process.
        world: the number of processes.
        span: how many processes share statistics; it divides ``world``.
    """

    rank: int
    world: int
    span: int

    @classmethod
    def of(cls, settings: Settings) -> "Share":
        """The share of this process in its group, or all of the batch where there is no group."""
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        span = 1 if settings.norm == "local" else settings.group_size or world
        if world % span:
            raise ValueError(
                f"group_size: expected a divisor of the number of processes, {world}; got {span}; change one of the two"
            )
        return cls(rank, world, span)

    def part(self, samples: Tensor) -> Tensor:
        """The part of this process; parts differ by one sample at most, and some are empty if there are few samples."""
        return samples.tensor_split(self.world)[self.rank]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    @contextmanager
    def synchronized(self, model: nn.Module) -> Iterator[nn.Module]:
        """The model with gradients averaged over all processes, and statistics shared; without a group, as it is."""
        if not dist.is_initialized():
            yield model
            return
        group, groups = dist.new_subgroups(self.span) if 1 < self.span < self.world else (None, [])
        if self.span > 1:
            model = convert_sync_batch_norm(model, group)
        try:
            yield DistributedDataParallel(model)
        finally:
            for layer in model.modules():
                if isinstance(layer, SyncBatchNorm):
                    layer.process_group = None  # it is destroyed, and a layer that holds it cannot be copied
            for one in groups:
                dist.destroy_process_group(one)


def _moved(part: data.Part, settings: Settings) -> data.Part:
    return data.Part(part.x.to(settings.device, settings.dtype), part.y.to(settings.device))


def _step(
    replica: nn.Module, optimizer: torch.optim.Optimizer, train: data.Part, batch: Tensor, share: Share
) -> Tensor:
    """One step; the sum of the losses of this process's part, before the step."""
    mine = share.part(batch)
    optimizer.zero_grad()
    loss = F.cross_entropy(replica(train.x[mine]), train.y[mine], reduction="sum")  # 0 without samples
    (loss * (share.world / len(batch))).backward()
    optimizer.step()
    return loss.detach().double()


def _right(replica: nn.Module, validation: data.Part, share: Share) -> Tensor:
    """How many samples of this process's part of the validation part have the right class, in evaluation mode."""
    mine = share.part(torch.arange(len(validation.y)))
    with evaluation_mode(replica), torch.no_grad():
        return (replica(validation.x[mine]).argmax(-1) == validation.y[mine]).sum().double()
