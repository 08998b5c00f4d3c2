"""Batch norm in training compiled by numba: the blocked NumPy's passes as plain loops. Needs ``pip install numba``.

One loop computes both sums, and one loop the output, so nothing is written twice: two reads and a write. float32,
(N, C, H · W); the sums of a row are added in float32, those of rows in float64.
"""

import numba
import numpy as np
from numba import njit, prange

from bncourse.benchmark.ladder import channel_numbers

numba.config.THREADING_LAYER = "workqueue"  # with OpenMP, numba would change PyTorch's number of threads

FAST = {
    "parallel": True,
    "fastmath": {"reassoc", "contract", "nsz"},
    "cache": True,
}  # sums in several lanes; NaN stays NaN


@njit(**FAST)
def _sums(a, b):
    """Σ a and Σ a · b of each row, (2, N, C)."""
    samples, channels, positions = a.shape
    sums = np.empty((2, samples, channels), np.float64)
    for n in prange(samples):
        for c in range(channels):
            total, products = np.float32(0), np.float32(0)
            for i in range(positions):
                total += a[n, c, i]
                products += a[n, c, i] * b[n, c, i]
            sums[0, n, c], sums[1, n, c] = total, products
    return sums


@njit(**FAST)
def _scale_and_shift(x, scale, shift, y):
    """y = x · scale + shift."""
    for n in prange(x.shape[0]):
        for c in range(x.shape[1]):
            for i in range(x.shape[2]):
                y[n, c, i] = x[n, c, i] * scale[c] + shift[c]


@njit(**FAST)
def _combine(dy, x, scale, slope, level, dx):
    """dx = scale · (dy + slope · x + level)."""
    for n in prange(x.shape[0]):
        for c in range(x.shape[1]):
            for i in range(x.shape[2]):
                dx[n, c, i] = scale[c] * (dy[n, c, i] + slope[c] * x[n, c, i] + level[c])


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-5) -> tuple[np.ndarray, ...]:
    """y, and mean and 1 / √(var + eps) of shape (C,), for x of shape (N, C, H, W)."""
    planes = x.reshape(*x.shape[:2], -1)
    total, squares = _sums(planes, planes).sum(axis=1)
    count = x.size // len(total)
    mean = total / count
    inv_std = 1 / np.sqrt(squares / count - mean**2 + eps)
    y = np.empty_like(planes)
    scale = weight * inv_std
    _scale_and_shift(planes, scale.astype(x.dtype), (bias - mean * scale).astype(x.dtype), y)
    return y.reshape(x.shape), mean, inv_std


def backward(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, inv_std: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx, dweight and dbias."""
    planes, dys = (a.reshape(*a.shape[:2], -1) for a in (x, dy))
    total, products = _sums(dys, planes).sum(axis=1)
    dweight, dbias, *numbers = channel_numbers(total, products, weight, mean, inv_std, x.size // len(total))
    dx = np.empty_like(planes)
    _combine(dys, planes, *(n.astype(x.dtype) for n in numbers), dx)
    return dx.reshape(x.shape), dweight, dbias
