"""Batch norm in training, from the textbook's formulas down to blocks: each step moves fewer bytes, or the same faster.

All take x of shape (N, C, H, W), float32. The forward steps return y, and mean and 1 / √(var + eps) of shape (C,);
the backward steps take these and return dx, dweight and dbias. Behind each line stands what it moves, in arrays of
the size of x. From ``dot_products`` on, the variance is the mean of the squares minus the square of the mean: right
for data whose mean is not much larger than its spread. :mod:`bncourse.blocked` has no such limit.
"""

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from bncourse import blocked
from bncourse.benchmark.arrays import Arguments
from bncourse.benchmark.traffic import CACHE, COPY, MEMORY, READ, UPDATE, Pass, Step
from bncourse.blocked import BLOCK_BYTES

AXES = (0, 2, 3)
COLD = 4  # arrays of the input's size that a cache is taken not to hold together

Normalized = tuple[np.ndarray, np.ndarray, np.ndarray]  # y, mean, inv_std
Gradients = tuple[np.ndarray, np.ndarray, np.ndarray]  # dx, dweight, dbias


def per_channel(numbers: np.ndarray) -> np.ndarray:
    """One number per channel, in float32 and in the shape in which it broadcasts against (N, C, H, W)."""
    return numbers.astype(np.float32)[:, None, None]


def as_planes(x: np.ndarray) -> np.ndarray:
    """A view of shape (N, C, H · W): each row is one channel of one sample."""
    return x.reshape(*x.shape[:2], -1)


def plane_sums(a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """Σ a · b, or Σ a, for each channel of planes: float32 within a plane, float64 across planes."""
    ones = np.ones(a.shape[2], a.dtype)
    return np.vecdot(a, ones if b is None else b).sum(axis=0, dtype=np.float64)


def moments(total: np.ndarray, squares: np.ndarray, count: int, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """mean and 1 / √(var + eps), of Σ x and Σ x²."""
    mean = total / count
    return mean, 1 / np.sqrt(squares / count - mean**2 + eps)


def full_size_of(numbers: np.ndarray, positions: int) -> np.ndarray:
    """One number per channel, repeated to the size of one sample, (C, positions), in float32."""
    return np.repeat(numbers.astype(np.float32)[:, None], positions, axis=1)


# Forward


def textbook(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    eps: float = 1e-5,
) -> Normalized:
    """Line by line as in chapter 2."""
    mean = x.mean(AXES)  # read
    # the mean once more: read; subtract it: copy; square: update; sum: read
    var = x.var(AXES)
    inv_std = 1 / np.sqrt(var + eps)
    x_hat = (x - per_channel(mean)) * per_channel(inv_std)  # copy, copy
    y = per_channel(weight) * x_hat + per_channel(bias)  # copy, copy
    return y, mean, inv_std


def fewer_passes(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    eps: float = 1e-5,
) -> Normalized:
    """Nothing is computed twice, and γ / σ is one number per channel."""
    mean = x.mean(AXES)  # read
    deviation = x - per_channel(mean)  # copy
    var = np.square(deviation).mean(AXES)  # copy, read
    inv_std = 1 / np.sqrt(var + eps)
    # copy, copy
    y = deviation * per_channel(weight * inv_std) + per_channel(bias)
    return y, mean, inv_std


def dot_products(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    eps: float = 1e-5,
) -> Normalized:
    """Sums are dot products, which write nothing; x goes straight to y."""
    planes = as_planes(x)
    total = plane_sums(planes)  # read
    squares = plane_sums(planes, planes)  # read
    mean, inv_std = moments(total, squares, x.size // len(total), eps)
    scale, shift = weight * inv_std, bias - mean * weight * inv_std
    y = x * per_channel(scale) + per_channel(shift)  # copy, copy
    return y, mean, inv_std


def in_place(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    out: np.ndarray,
    eps: float = 1e-5,
) -> Normalized:
    """The same without a temporary array."""
    planes = as_planes(x)
    total = plane_sums(planes)  # read
    squares = plane_sums(planes, planes)  # read
    mean, inv_std = moments(total, squares, x.size // len(total), eps)
    scale, shift = weight * inv_std, bias - mean * weight * inv_std
    np.multiply(x, per_channel(scale), out=out)  # copy
    out += per_channel(shift)  # update
    return out, mean, inv_std


def full_size(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    out: np.ndarray,
    eps: float = 1e-5,
) -> Normalized:
    """The same, with numbers per channel repeated to a sample's size."""
    planes, y = as_planes(x), as_planes(out)
    total = plane_sums(planes)  # read
    squares = plane_sums(planes, planes)  # read
    mean, inv_std = moments(total, squares, x.size // len(total), eps)
    scale = full_size_of(weight * inv_std, planes.shape[2])
    shift = full_size_of(bias - mean * weight * inv_std, planes.shape[2])
    np.multiply(planes, scale, out=y)  # copy
    y += shift  # update
    return out, mean, inv_std


def blocks_of(x: np.ndarray, block_bytes: int = BLOCK_BYTES) -> list[slice]:
    """Slices of samples, each of about ``block_bytes``."""
    samples = max(1, block_bytes // x[0].nbytes)
    return [slice(start, start + samples) for start in range(0, len(x), samples)]


def by_blocks(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    out: np.ndarray,
    eps: float = 1e-5,
    *,
    relu: bool = False,
    block_bytes: int = BLOCK_BYTES,
) -> Normalized:
    """The same by blocks: each line finds cached what the last one left."""
    planes, y = as_planes(x), as_planes(out)
    blocks = blocks_of(x, block_bytes)
    # read, and read in the cache
    sums = []
    for b in blocks:
        block = planes[b]
        sums.append((plane_sums(block), plane_sums(block, block)))
    total, squares = np.sum(sums, axis=0)
    mean, inv_std = moments(total, squares, x.size // len(total), eps)
    scale = full_size_of(weight * inv_std, planes.shape[2])
    shift = full_size_of(bias - mean * weight * inv_std, planes.shape[2])
    zeros = np.zeros_like(shift)
    for b in reversed(blocks):  # those read last may still be in a cache
        np.multiply(planes[b], scale, out=y[b])  # copy
        y[b] += shift  # update in the cache
        if relu:
            np.maximum(y[b], zeros, out=y[b])  # update in the cache
    return out, mean, inv_std


def channels_of(x: np.ndarray, block_bytes: int = 4 * BLOCK_BYTES) -> list[slice]:
    """Slices of channels, each of about ``block_bytes`` over all samples; with less, too little lies side by side."""
    channels = max(1, block_bytes // x[:, 0].nbytes)
    starts = range(0, x.shape[1], channels)
    return [slice(start, start + channels) for start in starts]


def by_channels(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    out: np.ndarray,
    eps: float = 1e-5,
) -> Normalized:
    """A channel's statistics need that channel alone: x comes but once."""
    planes, y = as_planes(x), as_planes(out)
    mean, inv_std = np.empty((2, x.shape[1]))
    for c in channels_of(x):
        block, result = planes[:, c], y[:, c]
        total = plane_sums(block)  # read
        squares = plane_sums(block, block)  # read in the cache
        count = x.size // x.shape[1]
        mean[c], inv_std[c] = moments(total, squares, count, eps)
        scale = weight[c] * inv_std[c]
        shift = bias[c] - mean[c] * scale
        # read in the cache, and write
        np.multiply(block, full_size_of(scale, planes.shape[2]), out=result)
        # update in the cache
        result += full_size_of(shift, planes.shape[2])
    return out, mean, inv_std


def relu_in_place(y: np.ndarray) -> np.ndarray:
    """max(y, 0), in a call of its own; with a sample of zeros, since NumPy is slow with a single one."""
    np.maximum(y, np.zeros_like(y[0]), out=y)  # update
    return y


# Backward


def textbook_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
) -> Gradients:
    """Line by line as in chapter 3."""
    x_hat = (x - per_channel(mean)) * per_channel(inv_std)  # copy, copy
    dx_hat = per_channel(weight) * dy  # copy
    mean_term = dx_hat.mean(AXES)  # read
    # read two arrays and write one: read, copy; its mean: read; copy
    var_term = x_hat * per_channel((dx_hat * x_hat).mean(AXES))
    # copy; then NumPy reuses what it wrote (not on Windows): read, update
    dx = dx_hat - per_channel(mean_term) - var_term
    dx = per_channel(inv_std) * dx  # copy
    dweight = (dy * x_hat).sum(AXES)  # read, copy; read
    return dx, dweight, dy.sum(AXES)  # read


def channel_numbers(
    dy_sum: np.ndarray,
    products: np.ndarray,
    weight: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    count: int,
) -> tuple[np.ndarray, ...]:
    """dweight, dbias, and A, P and Q of dx = A · (dy + P · x + Q).

    Of Σ dy and Σ dy · x for each channel; all have the shape (C,).
    """
    dweight = (products - mean * dy_sum) * inv_std
    slope = -dweight * inv_std / count
    level = -dy_sum / count - slope * mean
    return dweight, dy_sum, weight * inv_std, slope, level


def closed_form_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    out: np.ndarray,
) -> Gradients:
    """dx = A · (dy + P · x + Q): no temporaries, and no x̂."""
    dys, xs, dx = as_planes(dy), as_planes(x), as_planes(out)
    dy_sum = plane_sums(dys)  # read
    products = plane_sums(dys, xs)  # read, read
    count = x.size // len(mean)
    found = channel_numbers(dy_sum, products, weight, mean, inv_std, count)
    dweight, dbias, *numbers = found
    scale, slope, level = (full_size_of(n, dx.shape[2]) for n in numbers)
    np.multiply(xs, slope, out=dx)  # copy
    dx += level  # update
    dx += dys  # read, update
    dx *= scale  # update
    return out, dweight, dbias


def by_blocks_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    out: np.ndarray,
) -> Gradients:
    """The same, block by block."""
    dys, xs, dx = as_planes(dy), as_planes(x), as_planes(out)
    blocks = blocks_of(x)
    # read; read in the cache, read
    sums = [(plane_sums(dys[b]), plane_sums(dys[b], xs[b])) for b in blocks]
    dy_sum, products = np.sum(sums, axis=0)
    count = x.size // len(mean)
    found = channel_numbers(dy_sum, products, weight, mean, inv_std, count)
    dweight, dbias, *numbers = found
    scale, slope, level = (full_size_of(n, dx.shape[2]) for n in numbers)
    for b in reversed(blocks):
        np.multiply(xs[b], slope, out=dx[b])  # copy
        dx[b] += level  # update in the cache
        dx[b] += dys[b]  # read, update in the cache
        dx[b] *= scale  # update in the cache
    return out, dweight, dbias


# Steps, with what each moves


def _passes(level: str, *kinds: str) -> tuple[Pass, ...]:
    return tuple(Pass(kind, level) for kind in kinds)


# Both sums read x; γ / σ times x goes to y, and the rest is added in place.
_FORWARD = {
    textbook: _passes(MEMORY, READ, READ, COPY, UPDATE, READ, COPY, COPY, COPY, COPY),
    fewer_passes: _passes(MEMORY, READ, COPY, COPY, READ, COPY, COPY),
    dot_products: _passes(MEMORY, READ, READ, COPY, COPY),
    in_place: _passes(MEMORY, READ, READ, COPY, UPDATE),
    full_size: _passes(MEMORY, READ, READ, COPY, UPDATE),
    by_blocks: _passes(MEMORY, READ, COPY) + _passes(CACHE, READ, UPDATE),
    # From memory to memory x goes once: one copy.
    by_channels: _passes(MEMORY, COPY) + _passes(CACHE, READ, READ, UPDATE),
}
_BACKWARD = {
    textbook_backward: _passes(MEMORY, COPY, COPY, COPY, READ, READ, COPY, READ, COPY)  # up to var_term
    + _passes(MEMORY, COPY, READ, UPDATE, COPY, READ, COPY, READ, READ),
    closed_form_backward: _passes(MEMORY, READ, READ, READ, COPY, UPDATE, READ, UPDATE, UPDATE),
    by_blocks_backward: _passes(MEMORY, READ, READ, COPY, READ) + _passes(CACHE, READ, UPDATE, UPDATE, UPDATE),
}
_RELU_IN_A_BLOCK, _RELU_ALONE = _passes(CACHE, UPDATE), _passes(MEMORY, UPDATE)
_FLOPS = {textbook: 9, fewer_passes: 6, textbook_backward: 13}  # the others: 5 forward, 7 backward
# (A dot product with ones is an addition: to multiply by 1 is no use.)
BLOCKED = "blocked"


def forward_steps(a: Arguments, threads: int) -> list[Step]:
    """Training forward, from the slowest to the fastest; those that can, write into one array that exists."""
    out, params = np.zeros_like(a.x), (a.weight, a.bias)
    steps = [
        Step(_name(f), _with_out(f, out, a.x, *params), passes, _FLOPS.get(f, 5)) for f, passes in _FORWARD.items()
    ]
    return steps + [
        Step(
            _blocked_name(count),
            partial(blocked.batch_norm_forward, a.x, *params, out=out, threads=count),
            _FORWARD[by_blocks],
            5,
            count,
        )
        for count in sorted({1, threads})
    ]


def backward_steps(a: Arguments, threads: int) -> list[Step]:
    """The backward pass alone, from the slowest to the fastest."""
    out, (_, mean, inv_std) = np.zeros_like(a.x), textbook(a.x, a.weight, a.bias)
    given = (a.dy, a.x, a.weight, mean, inv_std)
    steps = [Step(_name(f), _with_out(f, out, *given), passes, _FLOPS.get(f, 7)) for f, passes in _BACKWARD.items()]
    _, cache = blocked.batch_norm_forward(a.x, a.weight, a.bias)
    return steps + [
        Step(
            _blocked_name(count),
            partial(blocked.batch_norm_backward, a.dy, cache, out=out, threads=count),
            _BACKWARD[by_blocks_backward],
            7,
            count,
        )
        for count in sorted({1, threads})
    ]


def relu_steps(a: Arguments, threads: int = 1) -> list[Step]:
    """Batch norm by blocks and ReLU: alone, in two calls, and in one; in one thread, however many there are."""
    given = (a.x, a.weight, a.bias, np.zeros_like(a.x))
    passes = _FORWARD[by_blocks]
    return [
        Step("no ReLU", lambda: by_blocks(*given), passes, 5),
        Step("ReLU afterwards", lambda: relu_in_place(by_blocks(*given)[0]), passes + _RELU_ALONE, 6),
        Step("ReLU in the block", lambda: by_blocks(*given, relu=True), passes + _RELU_IN_A_BLOCK, 6),
    ]


def _with_out(function: Callable, out: np.ndarray, *given: np.ndarray) -> Callable[[], object]:
    takes_out = "out" in function.__annotations__
    return partial(function, *given, **({"out": out} if takes_out else {}))


def _name(function: Callable) -> str:
    return function.__name__.removesuffix("_backward").replace("_", " ")


def _blocked_name(threads: int) -> str:
    return f"{BLOCKED}, {threads} thread{'s' if threads > 1 else ''}"


# Causes: why a call takes longer than the simplest one with the same traffic


@dataclass(frozen=True)
class Cause:
    """Two calls that do the same; the slow one differs in the cause alone."""

    name: str
    slow: Callable[[], object]
    fast: Callable[[], object]
    why: str


def causes(a: Arguments, threads: int = 2) -> list[Cause]:
    """What makes steps take longer than the byte model says."""
    planes, y, numbers = as_planes(a.x), np.zeros_like(as_planes(a.x)), a.weight[:, None]
    full, zeros = full_size_of(a.weight, planes.shape[2]), np.zeros_like(planes[0])
    pixels = Arguments.random((*a.x.shape[:2], 1, 1))
    cold, many = [planes.copy() for _ in range(COLD)], np.tile(planes, (COLD, 1, 1))
    cut, few = (partial(_by_blocks_of_pixels, pixels, n) for n in (len(blocks_of(a.x)), 1))
    shared, alone = (partial(blocked.batch_norm_forward, pixels.x, threads=n) for n in (threads, 1))
    return [
        Cause(
            "broadcast",
            lambda: np.multiply(planes, numbers, out=y),
            lambda: np.multiply(planes, full, out=y),
            "one number per channel: NumPy repeats it in a small buffer first, unless rows are longer than half of the buffer",
        ),
        Cause(
            "one number for all",
            lambda: np.maximum(planes, 0, out=y),
            lambda: np.maximum(planes, zeros, out=y),
            "np.maximum takes a slow path if one operand is a single number",
        ),
        Cause(
            "np.sum",
            lambda: a.x.sum(AXES),
            lambda: plane_sums(planes),
            "NumPy adds in pairs, in its own loop, with any axes; a dot product with ones is code of a tuned library",
        ),
        Cause(
            "sum in float64",
            lambda: a.x.sum(AXES, dtype=np.float64),
            lambda: plane_sums(planes),
            "every value is converted first, through a small buffer; only the sums of rows need float64",
        ),
        Cause(
            "fresh output",
            lambda: np.multiply(planes, full, out=fresh(planes)),
            lambda: np.multiply(planes, full, out=y),
            "the system hands out new memory page by page, at the first touch, filled with zeros",
        ),
        Cause(
            "cold cache",
            lambda: [plane_sums(p) for p in cold],
            lambda: [plane_sums(planes) for _ in range(COLD)],
            "other arrays of this size have passed through the cache since the input was there",
        ),
        Cause(
            "rows far apart",
            lambda: [plane_sums(many[:, c]) for c in channels_of(many) for _ in range(2)],
            lambda: [plane_sums(many[b]) for b in blocks_of(many) for _ in range(2)],
            "of four times as many samples, a block of channels takes a few rows of each; a block of samples is one piece",
        ),
        Cause(
            "Python's calls", cut, few, "blocks of one pixel per channel: as many calls, and next to nothing to compute"
        ),
        Cause("work for threads", shared, alone, "the same pixels: starting the other threads, and waiting for them"),
    ]


def fresh(like: np.ndarray) -> np.ndarray:
    """An array of this shape and dtype in memory that the process has not used yet."""
    # As NumPy gets large arrays from the system: memory of its own, on Linux in large pages.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    memory = mmap.mmap(-1, like.nbytes, **private)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, like.dtype).reshape(like.shape)


def _by_blocks_of_pixels(pixels: Arguments, blocks: int) -> Normalized:
    out, block_bytes = np.empty_like(pixels.x), -(-pixels.x.nbytes // blocks)
    return by_blocks(pixels.x, pixels.weight, pixels.bias, out, block_bytes=block_bytes)
