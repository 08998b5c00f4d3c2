"""The statistics of parts of a batch, and what the whole batch has: count, mean and M2 of each channel.

M2 is the sum of the squared distances from the mean, so the biased variance is M2 / count.
"""

from torch import Tensor

from bncourse.functional import batch_layout
from bncourse.normalize import moments
from bncourse.tensor_arguments import check_input

Statistics = tuple[Tensor, Tensor, Tensor]


def summarize(x: Tensor) -> Statistics:
    """What a part of a batch contributes to the statistics of the whole.

    Args:
        x: shape (N, C, *); N may be 0.

    Returns:
        (count, mean, M2) in float64: how many values a channel has, of shape (), and two of shape (C,), in units of x
        and squared units of x. All are 0 if there are no values.

    Raises:
        ArgumentError: x has only one axis, or no floating-point numbers.
    """
    check_input(x, minimum_rank=2)
    mean, var = (moment.flatten() for moment in moments(x, batch_layout(x)))
    count = mean.new_full((), x.numel() // max(x.shape[1], 1))
    return count, mean, count * var


def merge(counts: Tensor, means: Tensor, m2s: Tensor) -> Statistics:
    """The statistics of k parts together.

    n = Σ nᵢ, μ = Σ nᵢ μᵢ / n, M2 = Σ M2ᵢ + Σ nᵢ (μᵢ − μ)². A part without values contributes nothing; if none has any,
    all are 0.

    Args:
        counts: nᵢ, shape (k,), floating-point as the others.
        means: μᵢ, shape (k, C).
        m2s: M2ᵢ, shape (k, C).

    Returns:
        (n, μ, M2) of shapes (), (C,) and (C,).

    Source:
        Chan, Golub and LeVeque (1983), for two parts; chapter 10 derives it for k.
    """
    weights = counts[:, None]
    mean = (weights / counts.sum().clamp_min(1) * means).sum(0)
    between = (weights * (means - mean).square()).sum(0)
    return counts.sum(), mean, m2s.sum(0) + between
