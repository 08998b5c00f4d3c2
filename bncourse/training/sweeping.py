"""Many runs of one condition, each with its own learning rate and seed: :func:`bncourse.training.sweep`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bncourse.training.apart import train_apart
from bncourse.training.fitting import History, Metric, accuracy, cross_entropy
from bncourse.training.plan import Plan, Source
from bncourse.training.stacking import NotStackable
from bncourse.training.together import train_together


@dataclass(frozen=True)
class Choice:
    """The learning rate that did best on the validation part."""

    index: int
    learning_rate: float
    on_edge: bool  # of the grid: a rate outside of it might have done better


@dataclass(frozen=True)
class Sweep:
    """Trained networks and their histories; ``[i][j]`` is learning rate i with seed j."""

    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    networks: tuple[tuple[nn.Module, ...], ...]
    histories: tuple[tuple[History, ...], ...]

    @property
    def diverged(self) -> np.ndarray:
        """Whether the loss of a step was infinite or NaN: bool, (rates, seeds)."""
        return ~np.isfinite(self.step_loss).all(axis=-1)

    @property
    def step_loss(self) -> np.ndarray:
        """The loss of every step: (rates, seeds, steps)."""
        return np.array([[history.step_loss for history in row] for row in self.histories])

    @property
    def validation_metric(self) -> np.ndarray:
        """The metric after every epoch: (rates, seeds, epochs)."""
        return np.array([[history.validation_metric for history in row] for row in self.histories])

    def best(self, *, largest: bool = True) -> Choice:
        """The learning rate with the best validation metric after the last epoch, on average over the seeds.

        A run that diverged counts with the metric that it has; where that is infinite or NaN, its rate comes last. Of
        equals, the lowest rate is taken.

        Args:
            largest: whether the largest metric is the best, or else the smallest.
        """
        last = self.validation_metric[:, :, -1] * (1 if largest else -1)
        means = np.where(np.isfinite(last), last, -math.inf).mean(axis=1)
        order = np.argsort(self.learning_rates)
        index = int(max(order, key=lambda i: means[i]))
        return Choice(index, self.learning_rates[index], index in (order[0], order[-1]))


def sweep(
    make: Callable[[], nn.Module],
    data: Source,
    *,
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    epochs: int,
    batch_size: int = 32,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    loss: Metric = cross_entropy,
    metric: Metric = accuracy,
    workers: int | None = None,
    device: str | torch.device = "cpu",
    progress: bool | None = None,
) -> Sweep:
    """Train a network with every learning rate and every seed. Up to rounding, a run is

        torch.manual_seed(seed)
        network = make()
        fit(network, *data(seed).train, validation=data(seed).validation, learning_rate=rate, seed=seed, ...)

    Fully connected networks are stacked (:mod:`bncourse.training.stacking`) and trained as one; dropout then draws
    something else. Others are trained one by one, in worker processes, and so are those that share parameters, have
    hooks, or have an optimizer that is none of ``bncourse.training.together.PROPORTIONAL``. A run whose loss becomes
    infinite or NaN harms no other and goes on to its end: see :attr:`Sweep.diverged`.

    Args:
        make: makes a network in training mode, with weights from PyTorch's global generator.
        data: what to train on, or a function that makes it from the seed: for every seed, parts of the same size.
        learning_rates: one run each, with every seed.
        seeds: decide initial weights, the order of the samples and, if ``data`` is a function, the data.
        epochs: how often to go through the samples.
        batch_size: the number of samples in a batch.
        optimizer: makes one from parameters and ``lr``, as in :func:`bncourse.training.fit`.
        loss: of outputs and targets; the mean over the batch. For stacked networks it goes through ``torch.vmap``,
            which does not take branches on values.
        metric: of outputs and targets of the validation part, after each epoch.
        workers: processes for networks that cannot be stacked; if None, one per core, but on a GPU one alone. With 1,
            all stays in this process.
        device: where to train.
        progress: whether to draw a bar; if None, when someone watches.

    Raises:
        ValueError: there is no learning rate or no seed; ``make`` gives the same network twice, or the data of seeds
            differ in size; or what :func:`bncourse.training.fit` raises.
    """
    rates, seeds = tuple(learning_rates), tuple(seeds)
    if not rates or not seeds:
        raise ValueError(
            f"expected at least one learning rate and one seed; got {len(rates)} and {len(seeds)}; name what to train"
        )
    plan = Plan(make, data, rates, seeds, epochs, batch_size, optimizer, loss, metric, device, progress)
    try:
        runs = train_together(plan)
    except NotStackable:
        runs = train_apart(plan, workers)
    by_rate = [runs[i :: len(rates)] for i in range(len(rates))]  # they come seed by seed
    networks, histories = ([tuple(run[part] for run in row) for row in by_rate] for part in (0, 1))
    return Sweep(rates, seeds, tuple(networks), tuple(histories))
