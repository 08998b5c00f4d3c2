"""What a sweep is to run, and what every run of it starts from."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bncourse.training.fitting import History, Inputs, Metric, seeded

Source = "Data | Callable[[int], Data]"
Samples = tuple[Inputs, Tensor]  # inputs and targets
Run = tuple[nn.Module, History]


@dataclass(frozen=True)
class Plan:
    """The arguments of :func:`bncourse.training.sweep`, where they are explained."""

    make: Callable[[], nn.Module]
    data: Source
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int
    optimizer: Callable[..., torch.optim.Optimizer]
    loss: Metric
    metric: Metric
    device: str | torch.device
    progress: bool | None

    def network(self, seed: int) -> nn.Module:
        """The network of a run, before its training."""
        with seeded(seed, torch.device("cpu")):
            return self.make().to(self.device)

    def samples(self, seed: int) -> tuple[Samples, Samples]:
        """What a run is trained and validated on."""
        with seeded(seed, torch.device("cpu")):  # in case that the function uses the global generator
            data = self.data(seed) if callable(self.data) else self.data
        return tuple((self._moved(x), self._moved(y)) for x, y in (data.train, data.validation))

    def _moved(self, values: Inputs) -> Inputs:
        """The tensor, or each of them, on the device."""
        return tuple(v.to(self.device) for v in values) if isinstance(values, tuple) else values.to(self.device)
