"""Many runs of one condition, each with its own learning rate and seed: :func:`bncourse.training.sweep`."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bncourse.data import IGNORED, Data
from bncourse.training.fitting import (
    History,
    Metric,
    accuracy,
    batches_of,
    check,
    cross_entropy,
    evaluation_mode,
    fit,
    seeded,
    with_bar,
)
from bncourse.training.stacking import NotStackable, stack, unstack

Source = Data | Callable[[int], Data]


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

        Args:
            largest: whether the largest metric is the best. NaN is the worst; of equals, the lowest rate is taken.
        """
        last = self.validation_metric[:, :, -1] * (1 if largest else -1)
        means = np.nan_to_num(last, nan=-math.inf).mean(axis=1)
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

    Fully connected networks are stacked (:mod:`bncourse.training.stacking`) and trained as one; what dropout draws then differs.
    Others are trained one by one, in worker processes. A run whose loss becomes infinite or NaN harms no other and
    goes on to its end: see :attr:`Sweep.diverged`.

    Args:
        make: makes a network in training mode, with weights from PyTorch's global generator.
        data: what to train on, or a function that makes it from the seed.
        learning_rates: one run each, with every seed.
        seeds: decide initial weights, the order of the samples and, if ``data`` is a function, the data.
        epochs: how often to go through the samples.
        batch_size: the number of samples in a batch.
        optimizer: as in :func:`bncourse.training.fit`; its steps must be proportional to ``lr``, as SGD's and Adam's are.
        loss: of outputs and targets; the mean over the batch.
        metric: of outputs and targets of the validation part, after each epoch.
        workers: processes for networks that cannot be stacked; if None, one per core. With 1, all stays in this process.
        device: where to train.
        progress: whether to draw a bar; if None, when someone watches.

    Raises:
        ValueError: there is no learning rate or no seed, or what :func:`bncourse.training.fit` raises.
    """
    rates, seeds = tuple(learning_rates), tuple(seeds)
    if not rates or not seeds:
        raise ValueError(
            f"expected at least one learning rate and one seed; got {len(rates)} and {len(seeds)}; name what to train"
        )
    options = {"epochs": epochs, "batch_size": batch_size, "optimizer": optimizer, "loss": loss, "metric": metric}
    try:
        runs = _train_stacked(make, data, rates, seeds, device, progress, **options)
    except NotStackable:
        runs = _train_apart(make, data, rates, seeds, device, progress, workers, **options)
    by_rate = [runs[i :: len(rates)] for i in range(len(rates))]  # they come seed by seed
    networks, histories = ([tuple(run[part] for run in row) for row in by_rate] for part in (0, 1))
    return Sweep(rates, seeds, tuple(networks), tuple(histories))


Run = tuple[nn.Module, History]


def _network(make: Callable[[], nn.Module], seed: int, device: str | torch.device) -> nn.Module:
    """The network of a run before its training."""
    with seeded(seed, torch.device("cpu")):
        return make().to(device)


def _data(data: Source, seed: int, device: str | torch.device) -> Data:
    """The data of a run, on the device."""
    source = data(seed) if callable(data) else data

    def move(values: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        return tuple(v.to(device) for v in values) if isinstance(values, tuple) else values.to(device)

    return Data(*(type(part)(*map(move, part)) for part in source))


# One by one


def _train_apart(
    make: Callable[[], nn.Module],
    data: Source,
    rates: tuple[float, ...],
    seeds: tuple[int, ...],
    device: str | torch.device,
    progress: bool | None,
    workers: int | None,
    **options: object,
) -> list[Run]:
    """Every run in a process of its own, as many at a time as there are workers."""
    from joblib import Parallel, cpu_count, delayed

    workers = workers or cpu_count()
    apart = workers > 1
    calls = [delayed(_train_one)(make, data, r, s, device, apart, options) for s in seeds for r in rates]
    results = Parallel(n_jobs=workers, return_as="generator")(calls)
    return list(with_bar(results, len(calls), "run", progress))


def _train_one(
    make: Callable[[], nn.Module],
    data: Source,
    rate: float,
    seed: int,
    device: str | torch.device,
    apart: bool,
    options: dict,
) -> Run:
    """One run; in a process apart, on one core."""
    if apart:
        torch.set_num_threads(1)
    network, parts = _network(make, seed, device), _data(data, seed, device)
    options = {**options, "learning_rate": rate, "seed": seed, "progress": False}
    return network, fit(network, *parts.train, validation=parts.validation, **options)


# All at once


def _train_stacked(
    make: Callable[[], nn.Module],
    data: Source,
    rates: tuple[float, ...],
    seeds: tuple[int, ...],
    device: str | torch.device,
    progress: bool | None,
    *,
    epochs: int,
    batch_size: int,
    optimizer: Callable[..., torch.optim.Optimizer],
    loss: Metric,
    metric: Metric,
) -> list[Run]:
    """All runs as one network: the runs of the first seed with every rate, then those of the second, and so on."""
    networks = [_network(make, seed, device) for seed in seeds for _ in rates]
    whole = stack(networks)
    parts = [_data(data, seed, device) for seed in seeds] if callable(data) else [_data(data, 0, device)] * len(seeds)
    for part in parts:
        check(whole, (part.train.x,), part.train.y, batch_size)
    step = _Step(whole, optimizer, loss, torch.tensor(rates, device=device).repeat(len(seeds)))
    orders = [torch.Generator().manual_seed(seed) for seed in seeds]
    histories = [History() for _ in networks]
    with seeded(seeds[0], torch.device(device)):
        for _ in with_bar(range(epochs), epochs, "epoch", progress):
            batches = [batches_of(len(p.train.y), batch_size, o) for p, o in zip(parts, orders, strict=True)]
            losses = [step(*_batch([p.train for p in parts], rows, len(rates))) for rows in zip(*batches, strict=True)]
            sizes = [len(batch) for batch in batches[0]]
            for history, values in zip(histories, torch.stack(losses, dim=1).tolist(), strict=True):
                history.add_epoch(values, sizes)
            _validate(whole, [p.validation for p in parts], len(rates), histories, loss, metric)
    unstack(whole, networks)
    return list(zip(networks, histories, strict=True))


class _Step:
    """One step of every run: loss, gradients, and an update with the run's own learning rate."""

    def __init__(self, whole: nn.Module, optimizer: Callable, loss: Metric, rates: Tensor) -> None:
        self.whole = whole
        self.params = [param for param in whole.parameters() if param.requires_grad]
        self.optimizer = optimizer(self.params, lr=1.0)
        self.losses = _cross_entropies if loss is cross_entropy else torch.vmap(loss)
        self.rates = [_rate_of_each(param, rates) for param in self.params]

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of each run, (M,), before the step."""
        self.optimizer.zero_grad()
        losses = self.losses(self.whole(x), y)
        losses.sum().backward()
        self._update()
        return losses.detach()

    @torch.no_grad()
    def _update(self) -> None:
        """The optimizer's step for a learning rate of 1, times the learning rate of each run."""
        before = [param.clone() for param in self.params]
        self.optimizer.step()
        for param, old, rates in zip(self.params, before, self.rates, strict=True):
            torch.lerp(old, param, rates, out=param)


def _rate_of_each(param: Tensor, rates: Tensor) -> Tensor:
    """The learning rates in a shape that goes with ``param``, whose first axis is (M,) or, in batch norm, (M · F,)."""
    repeated = rates.repeat_interleave(len(param) // len(rates))
    return repeated.view(-1, *(1 for _ in param.shape[1:])).to(param.dtype)


def _cross_entropies(outputs: Tensor, targets: Tensor) -> Tensor:
    """``cross_entropy`` of each run, (M,); what vmap makes of it takes several times as long."""
    values = F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="none").view(len(targets), -1)
    return values.sum(1) / (targets != IGNORED).flatten(1).sum(1)


def _batch(parts: Iterable, rows: Iterable[Tensor], rates: int) -> tuple[Tensor, Tensor]:
    """Inputs (M, N, *) and targets (M, N, *) of the runs; those of one seed see the same samples."""
    samples = [(part.x[row], part.y[row]) for part, row in zip(parts, rows, strict=True)]
    x, y = (torch.stack(values).repeat_interleave(rates, dim=0) for values in zip(*samples, strict=True))
    return x, y


def _validate(
    whole: nn.Module, parts: Sequence, rates: int, histories: list[History], loss: Metric, metric: Metric
) -> None:
    """Note how good every run is on its validation part."""
    rows = [torch.arange(len(part.y)).split(1024) for part in parts]
    with evaluation_mode(whole), torch.no_grad():
        outputs = torch.cat([whole(_batch(parts, some, rates)[0]) for some in zip(*rows, strict=True)], dim=1)
    for i, (history, output) in enumerate(zip(histories, outputs, strict=True)):
        history.add_validation(output, parts[i // rates].y, loss, metric)
