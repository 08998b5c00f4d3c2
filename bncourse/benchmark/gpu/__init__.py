"""Ours on a GPU beside PyTorch, torch.compile and Liger: ``python -m bncourse.benchmark.gpu``, and its record."""

from bncourse.benchmark.gpu.record import Record, load
from bncourse.benchmark.gpu.targets import Target, targets

__all__ = ["Record", "Target", "load", "targets"]
