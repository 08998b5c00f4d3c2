"""Training a network and evaluating it; all random numbers follow from a seed.

The mode of every module belongs to the caller. :func:`fit` trains each module in the mode in which it finds it, so a
norm that ``norm.eval()`` froze stays frozen; :func:`evaluate` leaves each in the mode in which it found it.
:func:`sweep` trains with many learning rates and seeds at once.
"""

from bncourse.training.fitting import (
    History,
    Inputs,
    Metric,
    accuracy,
    cross_entropy,
    evaluate,
    evaluation_mode,
    fit,
    predict,
)
from bncourse.training.sweeping import Choice, Sweep, sweep

__all__ = [
    "Choice",
    "History",
    "Inputs",
    "Metric",
    "Sweep",
    "accuracy",
    "cross_entropy",
    "evaluate",
    "evaluation_mode",
    "fit",
    "predict",
    "sweep",
]
