"""Training 16 small networks: one after the other with ``fit``, and all at once with ``sweep``."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from bncourse.benchmark.timing import Timing, interleave
from bncourse.data import Data, digits
from bncourse.models import MLP
from bncourse.training import History, Sweep, fit, sweep

SIZES = [64, 32, 32, 10]
NORMS = {"none": None, "batch norm": nn.BatchNorm1d, "layer norm": nn.LayerNorm, "RMS norm": nn.RMSNorm}
LEARNING_RATES = (0.01, 0.03, 0.1, 0.3)
SEEDS = (0, 1, 2, 3)
EPOCHS, BATCH_SIZE = 5, 32
LOOP, SWEEP = "loop", "sweep"


def loop_of_runs(make: Callable[[], nn.Module], data: Data) -> list[list[History]]:
    """Every run on its own: histories by learning rate and seed."""
    options = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "validation": data.validation, "progress": False}

    def run(rate: float, seed: int) -> History:
        torch.manual_seed(seed)
        return fit(make(), *data.train, learning_rate=rate, seed=seed, **options)

    return [[run(rate, seed) for seed in SEEDS] for rate in LEARNING_RATES]


def sweep_of_runs(make: Callable[[], nn.Module], data: Data) -> Sweep:
    """The same runs all at once."""
    options = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "progress": False}
    return sweep(make, data, learning_rates=LEARNING_RATES, seeds=SEEDS, **options)


def candidates(norm: str, data: Data) -> dict[str, Callable[[], object]]:
    """What is compared, by name."""
    make = partial(MLP, SIZES, NORMS[norm])
    return {LOOP: partial(loop_of_runs, make, data), SWEEP: partial(sweep_of_runs, make, data)}


def timings(runs: int) -> dict[str, dict[str, Timing]]:
    """For each norm, the time of the loop and of the sweep, on the digits."""
    data = digits("vectors")
    return {norm: interleave(candidates(norm, data), runs=runs, warmup=1) for norm in NORMS}
