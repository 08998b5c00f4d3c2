"""Batch norm in NumPy once more, for speed: in blocks that a cache holds, and with threads.

Same arguments, results and errors as in :mod:`bncourse.reference`. What differs is how often a value
comes from memory, and through how many temporaries it goes:

- The input is read twice and the output written once, by blocks of samples. All that happens to a block
  happens while it lies in the cache.
- Sums are dot products, in float32 over short runs, in float64 across them. They are of the values
  themselves while no mean is more than twice its channel's spread, else of deviations from the mean.
- The numbers of a channel are repeated to the size of a sample, once for many samples: NumPy adds two full arrays
  faster than it broadcasts, for which it repeats each number in a small buffer.
- Each thread takes the next block until none is left. NumPy lets go of Python's lock while it computes. Where all
  cores are busy, threads gain nothing; right after a call of PyTorch, its own may go on spinning for milliseconds.

Any memory layout is right; C-contiguous inputs are fast. A row, one channel of one sample, is never cut.
"""

import functools
import math
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from bncourse.array_arguments import (
    check_count,
    check_eps,
    check_momentum,
    check_out,
    check_running,
    check_threads,
    checked_dy,
    checked_input,
    checked_params,
)
from bncourse.provenance import cores
from bncourse.reference import LONGEST_RUN, Gradients, update_running

BLOCK_BYTES = 2 * 2**20  # of the input: less takes Python longer, more leaves the caches; measured with two cores
MOST_SAMPLES = 256  # in a block whose samples are added up in float32, one on top of the other
LARGEST_MEAN = 2  # standard deviations that a mean may be from 0 before values are shifted
SHORTEST_ROW = 32  # positions; below, a dot product for each row takes longer than adding up whole samples
# Positions for which the number of a channel is repeated. Longer rows NumPy broadcasts without its buffer, which has
# room for twice as many values (numpy.getbufsize()).
LONGEST_COPIES = 4096
FEWEST_SHARES = 16  # samples that share such a copy; for fewer, its making takes too much time and memory

Block = tuple[slice, slice]  # of samples and of channels


@dataclass(frozen=True)
class Cache:
    """What a forward pass leaves to its backward pass.

    ``x``, ``weight`` and ``bias`` are the arrays that were passed, not copies: leave them as they are until the
    backward pass. The mean is ``shift + offset``: ``shift`` has the precision of the computation and is
    subtracted from the values; it is None where the mean is small beside the spread, and stands for 0.
    """

    x: np.ndarray
    weight: np.ndarray | None
    bias: np.ndarray | None
    shift: np.ndarray | None
    offset: np.ndarray  # float64
    inv_std: np.ndarray  # 1 / √(var + eps), float64
    fixed_statistics: bool  # those of evaluation mode, which do not depend on x
    threads: int


def batch_norm_forward(
    x: np.ndarray,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    *,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    out: np.ndarray | None = None,
    threads: int | None = None,
) -> tuple[np.ndarray, Cache]:
    """Batch normalization, as :func:`bncourse.reference.batch_norm_forward`.

    y = γ · (x − μ) / √(σ² + ε) + β. In training, x is read twice and y written once; in evaluation, x is
    read once. Beside y, memory for a few samples or blocks is needed.

    Args:
        x: input of shape (N, C, *), float16, float32 or float64.
        weight: γ of shape (C,), or None for 1.
        bias: β of shape (C,), or None for 0.
        running_mean: shape (C,), updated in place in training.
        running_var: shape (C,), updated in place in training.
        training: whether to use the statistics of the batch.
        momentum: the share of the batch in the running statistics, from 0 to 1.
        eps: ε, in squared units of ``x``.
        out: where to write y: C-contiguous, with the shape and the dtype of ``x``, and elsewhere in memory, since
            the backward pass needs x. None for a new array.
        threads: how many threads share the blocks; None for as many as there are cores.

    Returns:
        y in the shape and dtype of ``x``, which is ``out`` if given, and the cache for :func:`batch_norm_backward`.

    Raises:
        ValueError: the arguments do not fit together, or a channel has only one value in training.

    Source:
        Ioffe and Szegedy (2015), Algorithms 1 and 2; ``torch.nn.functional.batch_norm``.
    """
    x = checked_input(x, minimum_rank=2)
    channels = x.shape[1]
    weight, bias = checked_params((channels,), weight=weight, bias=bias)
    check_running(channels, running_mean, running_var, training=training)
    check_momentum(momentum)
    check_eps(eps)
    check_threads(threads)
    count = x.size // max(channels, 1)
    if training:
        check_count(x, count, owner="channel", remedy="use a larger batch, or evaluation mode (training=False)")
    y = np.empty(x.shape, x.dtype) if out is None else check_out(out, x)
    plan = Plan.of(x, threads or cores())
    if training:
        shift, offset, var = _statistics(plan, x)
    else:
        mean, var = running_mean.astype(np.float64), running_var.astype(np.float64)
        shift, offset = _split(plan, mean, var)
    cache = Cache(x, weight, bias, shift, offset, 1 / np.sqrt(var + eps), not training, plan.threads)
    _normalize(plan, cache, y)
    if training and running_mean is not None and x.size > 0:
        mean = offset if shift is None else shift + offset
        update_running(running_mean, running_var, mean, var, count, momentum)
    return y, cache


def batch_norm_backward(
    dy: np.ndarray, cache: Cache, *, out: np.ndarray | None = None, threads: int | None = None
) -> Gradients:
    """Gradients of batch normalization, as :func:`bncourse.reference.batch_norm_backward`.

    dx = A · (dy + P · (x − μ) + Q), with A = γ / √(σ² + ε), P = −mean(dy · x̂) / √(σ² + ε) and Q = −mean(dy) for
    each channel; P and Q are 0 in evaluation. dweight = Σ dy · x̂ and dbias = Σ dy. x and dy are read twice, dx is
    written once.

    Args:
        dy: gradient of the loss with respect to y, shape (N, C, *).
        cache: from :func:`batch_norm_forward`.
        out: where to write dx, as in the forward pass; may be ``dy`` itself, whose values are then lost.
        threads: how many threads share the blocks; None for as many as in the forward pass.

    Returns:
        dx of shape (N, C, *), dweight and dbias of shape (C,); None for a parameter that was None.

    Raises:
        ValueError: ``dy`` does not have the shape of the input or is not floating-point; ``out`` does not fit.

    Source:
        Ioffe and Szegedy (2015), section 3, simplified.
    """
    x, weight, bias = cache.x, cache.weight, cache.bias
    dy = checked_dy(dy, x.shape)
    check_threads(threads)
    dx = np.empty(x.shape, x.dtype) if out is None else check_out(out, x, dy=dy)
    plan = Plan.of(x, threads or cache.threads)
    dy_sum, dweight = _gradient_sums(plan, cache, dy)
    _input_gradient(plan, cache, dy, dy_sum, dweight, dx)
    return (
        dx,
        None if weight is None else dweight.astype(weight.dtype),
        None if bias is None else dy_sum.astype(bias.dtype),
    )


# Blocks and threads


@dataclass(frozen=True)
class Plan:
    """How an input is cut into blocks, in which precision they are computed, and by how many threads."""

    shape: tuple[int, int, int]  # (N, C, L): samples, channels, positions
    dtype: np.dtype  # of the computation: float32 for float16 as well
    samples: int  # in a block
    channels: int  # in a block; all of them, unless one sample is larger than a block
    threads: int

    @classmethod
    def of(cls, x: np.ndarray, threads: int, dtype: type | None = None) -> "Plan":
        samples, channels = x.shape[:2]
        positions = math.prod(x.shape[2:])
        dtype = np.dtype(dtype or (np.float64 if x.dtype.itemsize == 8 else np.float32))
        row = max(positions, 1) * dtype.itemsize
        block_channels = max(1, min(channels, BLOCK_BYTES // row))
        most = MOST_SAMPLES if positions < SHORTEST_ROW else samples
        block_samples = max(1, min(BLOCK_BYTES // (row * block_channels), math.ceil(samples / threads), most))
        return cls((samples, channels, positions), dtype, block_samples, block_channels, threads)

    @property
    def count(self) -> int:
        """Values per channel; at least 1, so that empty sums can be divided."""
        return max(1, self.shape[0] * self.shape[2])

    def blocks(self) -> list[Block]:
        samples, channels, positions = self.shape
        return [
            (slice(n, min(n + self.samples, samples)), slice(c, min(c + self.channels, channels)))
            for n in range(0, samples if positions else 0, self.samples)
            for c in range(0, channels, self.channels)
        ]

    def blocks_of(self, array: np.ndarray) -> Callable[[Block], np.ndarray]:
        """Gives the blocks (n, c, L) of an array in the dtype of the computation: views, or copies where that takes one."""
        if array.flags.c_contiguous and array.dtype == self.dtype:
            return array.reshape(self.shape).__getitem__

        def copied(block: Block) -> np.ndarray:
            values = array[block]
            return values.reshape(*values.shape[:2], self.shape[2]).astype(self.dtype, copy=False)

        return copied

    def per_value(self, per_channel: np.ndarray | None) -> np.ndarray | None:
        """One number per channel in the shape (C, L), where that makes NumPy faster, or (C, 1)."""
        if per_channel is None:
            return None
        column = per_channel.astype(self.dtype)[:, None]
        pays = self.shape[0] >= FEWEST_SHARES and self.shape[2] <= LONGEST_COPIES
        return np.repeat(column, self.shape[2], axis=1) if pays else column

    def run(self, work: Callable[[Block, "Scratch"], None], *, backwards: bool = False) -> None:
        """``work(block, scratch)`` for every block, in ``threads`` threads of which this is one."""
        remaining = deque(self.blocks()[::-1] if backwards else self.blocks())

        def worker() -> None:
            scratch = Scratch((self.samples, self.channels, self.shape[2]), self.dtype)
            with np.errstate(over="ignore", invalid="ignore"):  # sums that overflow are done again in float64
                while block := _next(remaining):
                    work(block, scratch)

        helpers = min(self.threads, len(remaining)) - 1
        futures = [_pool(helpers).submit(worker) for _ in range(helpers)]
        try:
            worker()
        finally:
            remaining.clear()  # after an error nobody begins another block
            for future in futures:
                future.cancel() or future.result()


def _next(remaining: "deque[Block]") -> Block | None:
    """The next block, or None if another thread has taken the last one; each block is given once."""
    try:
        return remaining.popleft()
    except IndexError:
        return None


class Scratch:
    """A thread's room for the numbers of a block, made when it is first needed."""

    def __init__(self, shape: tuple[int, int, int], dtype: np.dtype) -> None:
        self._make = functools.cache(functools.partial(np.empty, shape, dtype))

    def like(self, values: np.ndarray) -> np.ndarray:
        samples, channels, _ = values.shape
        return self._make()[:samples, :channels]


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="bncourse-blocked")


if hasattr(os, "register_at_fork"):  # a child process has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


# The first pass: sums


def _statistics(plan: Plan, x: np.ndarray) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """shift and offset, which make the mean, and the biased variance of every channel."""
    mean, var = _moments(plan, x, None)
    shift, offset = _split(plan, mean, var)
    if shift is not None:
        offset, var = _moments(plan, x, shift)
    return shift, offset, var


def _split(plan: Plan, mean: np.ndarray, var: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """The mean as shift + offset; no shift, unless a mean is larger than ``LARGEST_MEAN`` times its channel's spread.

    Then x² and x / σ are large beside what is left of them after subtraction, and so are their rounding errors.
    """
    if not np.any(mean**2 > LARGEST_MEAN**2 * var):
        return None, mean
    shift = mean.astype(plan.dtype)
    return shift, mean - shift


def _moments(plan: Plan, x: np.ndarray, shift: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of x − shift, by channel, in float64."""
    shifts, x_of = plan.per_value(shift), plan.blocks_of(x)

    def operands(block: Block, scratch: Scratch) -> tuple[np.ndarray, np.ndarray]:
        values = _shifted(x_of(block), shifts, block, scratch.like)
        return values, values

    total, squares = _sums(plan, operands)
    if plan.dtype == np.float32 and not np.isfinite(squares).all():
        return _moments(Plan.of(x, plan.threads, np.float64), x, shift)
    mean = total / plan.count
    return mean, squares / plan.count - mean**2


def _gradient_sums(plan: Plan, cache: Cache, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σ dy and Σ dy · x̂, by channel, in float64."""
    shifts, x_of, dy_of = plan.per_value(cache.shift), plan.blocks_of(cache.x), plan.blocks_of(dy)

    def operands(block: Block, scratch: Scratch) -> tuple[np.ndarray, np.ndarray]:
        return dy_of(block), _shifted(x_of(block), shifts, block, scratch.like)

    total, products = _sums(plan, operands)
    if plan.dtype == np.float32 and not np.isfinite(products).all():
        return _gradient_sums(Plan.of(cache.x, plan.threads, np.float64), cache, dy)
    return total, (products - cache.offset * total) * cache.inv_std


def _shifted(
    values: np.ndarray, shifts: np.ndarray | None, block: Block, room: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """values − shifts, in the room for an array like them; the values themselves if there is no shift."""
    return values if shifts is None else np.subtract(values, shifts[block[1]], out=room(values))


def _sums(
    plan: Plan, operands: Callable[[Block, Scratch], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Σ a and Σ a · b, by channel, in float64, of the arrays that ``operands`` gives for a block."""
    samples, channels, positions = plan.shape
    totals, products = np.zeros((2, math.ceil(samples / plan.samples), channels))
    add_up = _column_sums if positions < SHORTEST_ROW else _row_sums

    def work(block: Block, scratch: Scratch) -> None:
        a, b = operands(block, scratch)
        where = block[0].start // plan.samples, block[1]
        totals[where] = add_up(a, None)
        products[where] = add_up(a, b)

    plan.run(work)
    return totals.sum(axis=0), products.sum(axis=0)


def _row_sums(a: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    """Σ a · b (b = 1, if None) of every channel of a block: short rows in float32, across them in float64."""
    samples, channels, positions = a.shape
    sums = np.zeros(channels)
    whole = positions - positions % LONGEST_RUN  # as many full runs as there are, then the rest
    for part, run in ((slice(whole), LONGEST_RUN), (slice(whole, None), positions - whole)):
        if run and positions >= run:
            shape = samples, channels, -1, run
            other = _ones(run, a.dtype) if b is None else b[:, :, part].reshape(shape)
            sums += np.add.reduce(np.vecdot(a[:, :, part].reshape(shape), other), axis=(0, 2), dtype=np.float64)
    return sums


@functools.cache
def _ones(length: int, dtype: np.dtype) -> np.ndarray:
    return np.ones(length, dtype)


def _column_sums(a: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    """The same: few samples in float32, one on top of the other, across positions in float64."""
    samples, channels, positions = a.shape
    flat = a.reshape(samples, -1)
    columns = np.add.reduce(flat, axis=0) if b is None else np.einsum("nk,nk->k", flat, b.reshape(samples, -1))
    return np.add.reduce(columns.reshape(channels, positions), axis=1, dtype=np.float64)


# The second pass: values


def _normalize(plan: Plan, cache: Cache, y: np.ndarray) -> None:
    """y = (x − shift) · γ / σ + (β − offset · γ / σ)."""
    scale = _scale(cache)
    bias = -cache.offset * scale if cache.bias is None else cache.bias - cache.offset * scale
    shifts, scales, biases = (plan.per_value(numbers) for numbers in (cache.shift, scale, bias))
    x_of, y_of = plan.blocks_of(cache.x), y.reshape(plan.shape).__getitem__

    def work(block: Block, scratch: Scratch) -> None:
        found = y_of(block)
        on_the_way = _on_the_way(found, plan.dtype, scratch)
        values = _shifted(x_of(block), shifts, block, lambda _: on_the_way)
        np.multiply(values, scales[block[1]], out=on_the_way)
        np.add(on_the_way, biases[block[1]], out=found, casting="same_kind")

    # The blocks that the first pass read last may still lie in a cache.
    plan.run(work, backwards=True)


def _input_gradient(
    plan: Plan, cache: Cache, dy: np.ndarray, dy_sum: np.ndarray, dweight: np.ndarray, dx: np.ndarray
) -> None:
    """dx = A · (dy + P · (x − shift) + Q), in evaluation A · dy."""
    dy_of, dx_of = plan.blocks_of(dy), dx.reshape(plan.shape).__getitem__
    scales = plan.per_value(_scale(cache))

    def direct(block: Block, scratch: Scratch) -> None:
        np.multiply(dy_of(block), scales[block[1]], out=dx_of(block), casting="same_kind")

    if cache.fixed_statistics:
        return plan.run(direct)
    slope = -dweight * cache.inv_std / plan.count
    level = -dy_sum / plan.count - slope * cache.offset
    shifts, slopes, levels = (plan.per_value(numbers) for numbers in (cache.shift, slope, level))
    x_of = plan.blocks_of(cache.x)
    in_place = np.may_share_memory(dx, dy)  # dy is still needed when the first numbers are written

    def work(block: Block, scratch: Scratch) -> None:
        found = dx_of(block)
        on_the_way = _on_the_way(found, None if in_place else plan.dtype, scratch)
        values = _shifted(x_of(block), shifts, block, lambda _: on_the_way)
        np.multiply(values, slopes[block[1]], out=on_the_way)
        np.add(on_the_way, levels[block[1]], out=on_the_way)
        np.add(on_the_way, dy_of(block), out=on_the_way)
        np.multiply(on_the_way, scales[block[1]], out=found, casting="same_kind")

    plan.run(work, backwards=True)


def _scale(cache: Cache) -> np.ndarray:
    """γ / σ"""
    return cache.inv_std if cache.weight is None else cache.weight * cache.inv_std


def _on_the_way(found: np.ndarray, dtype: np.dtype | None, scratch: Scratch) -> np.ndarray:
    """Where to compute: in the block of the result if it has this dtype, else in scratch."""
    return found if found.dtype == dtype else scratch.like(found)
