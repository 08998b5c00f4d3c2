"""What the experiments share: where they run, and how a condition gets its best learning rate."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from bncourse import data
from bncourse.data import Data
from bncourse.training import Choice, Sweep, evaluate, sweep

SIZES = {"digits": (1, 8), "mnist": (1, 28), "cifar10": (3, 32)}  # channels, and height and width
CLASSES = 10


@dataclass(frozen=True)
class Setting:
    """Where to run, on what, and how much of it.

    The seed of a run decides its initial weights, the order of its samples, and which samples are for training,
    validation and test. So all conditions meet the same data, seed by seed.
    """

    data: str = "digits"  # or "mnist", "cifar10"
    device: str = "cpu"  # or "cuda"
    seeds: tuple[int, ...] | None = None  # instead of the claim's
    learning_rates: tuple[float, ...] | None = None  # instead of the grid

    def parts(self, form: str = "vectors") -> Callable[[int], Data]:
        """The function that makes the data from a seed."""
        return partial(_data, self.data, form)

    @property
    def channels(self) -> int:
        """Of the images."""
        return SIZES[self.data][0]

    @property
    def features(self) -> int:
        """Of the images as vectors."""
        channels, side = SIZES[self.data]
        return channels * side**2


def _data(name: str, form: str, seed: int) -> Data:
    return getattr(data, name)(form, seed=seed)


@dataclass(frozen=True)
class Trial:
    """What one condition gave."""

    values: dict[str, list[float]]  # quantity → one value per seed
    learning_rate: float | None = None  # that was chosen on validation data
    grid: list[float] = field(default_factory=list)  # of learning rates
    on_edge: bool = False  # whether the choice is the lowest or highest of the grid
    diverged: int = 0  # runs of the grid whose loss became infinite or NaN
    seconds: float = 0.0  # on one core

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Trial":
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Tuned:
    """The runs of one condition, with every learning rate of its grid, and the choice among the rates."""

    sweep: Sweep
    choice: Choice
    parts: Callable[[int], Data]

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks trained with the chosen rate, one per seed."""
        return self.sweep.networks[self.choice.index]

    def accuracy(self, part: str = "test") -> list[float]:
        """Percent right in a part of the data, one number per seed, in evaluation mode."""
        pairs = zip(self.sweep.seeds, self.networks, strict=True)
        return [100 * evaluate(network, *self._on(getattr(self.parts(seed), part), network)) for seed, network in pairs]

    def trial(self, values: dict[str, Sequence[float]]) -> Trial:
        """The trial with these values, and with the learning rates."""
        return Trial(
            {name: [float(v) for v in numbers] for name, numbers in values.items()},
            float(self.choice.learning_rate),
            [float(rate) for rate in self.sweep.learning_rates],
            bool(self.choice.on_edge),
            int(np.sum(self.sweep.diverged)),
        )

    @staticmethod
    def _on(part: data.Part, network: nn.Module) -> data.Part:
        device = next(network.parameters()).device
        return data.Part(part.x.to(device), part.y.to(device))


def tune(
    make: Callable[[], nn.Module],
    setting: Setting,
    *,
    seeds: Sequence[int],
    grid: Sequence[float],
    form: str = "vectors",
    **options: object,
) -> Tuned:
    """Train with every learning rate of the grid, and choose the one that is best on the validation part.

    Args:
        make: makes a network.
        setting: where to run; its seeds and learning rates, if given, take the place of these.
        seeds: of the claim.
        grid: learning rates.
        form: of the data, "vectors" or "images".
        options: ``epochs``, ``batch_size`` and what else :func:`bncourse.training.sweep` takes.
    """
    parts = setting.parts(form)
    runs = sweep(
        make,
        parts,
        learning_rates=setting.learning_rates or grid,
        seeds=setting.seeds or seeds,
        device=setting.device,
        workers=1,  # the conditions run side by side
        progress=False,
        **options,
    )
    return Tuned(runs, runs.best(), parts)


def in_training_mode(network: nn.Module, x: Tensor, batch_size: int) -> Tensor:
    """Outputs for ``x`` in training mode, batch by batch: batch norm takes the statistics of each batch.

    A sample left over joins the batch before it. The network, its running averages included, stays as it is.
    """
    batches = list(x.split(batch_size))
    if len(batches[-1]) == 1 < batch_size and len(batches) > 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    network = copy.deepcopy(network).train()
    with torch.no_grad():
        return torch.cat([network(batch) for batch in batches])
