"""What this machine can do: how long the simplest calls take, how fast it copies, what its caches hold, how fast it multiplies."""

import contextlib
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bncourse.benchmark.ladder import blocks_of
from bncourse.benchmark.timing import Spread, Timing, interleave
from bncourse.benchmark.traffic import CACHE, COPY, MEMORY, READ, UPDATE, Rates

Calls = dict[tuple[str, str], Callable[[], object]]
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")  # where Linux describes them
KIB, MIB = 2**10, 2**20
CURVE = tuple(2**k for k in range(14, 29))  # 16 KiB to 256 MiB
# Calls of a probe: the passes of a step follow each other, too, and find what the one before left in a cache.
IN_A_ROW = 2
PEAK_SIZE = 2048  # rows and columns of the matrices whose product is the peak
SMALL_OPERAND = 256 * KIB  # which an update adds again and again
LEAST_BYTES = 32 * MIB  # copied in one timed run, so that it takes a few milliseconds


class Point(NamedTuple):
    """A place in the roofline."""

    name: str
    flops_per_byte: float
    gflops: float  # billions of additions and multiplications per second


class Peaks(NamedTuple):
    """The roof: the fastest that was measured."""

    gflops: float  # billions of additions and multiplications per second
    bandwidths: dict[str, float]  # billions of bytes per second, by what holds the data


def rates(shape: Sequence[int], dtype: str = "float32", threads: int = 1, *, runs: int = 15) -> Rates:
    """The least time of every kind of pass over an array of this shape, (N, C, H, W), measured now."""
    with blas_threads(1):
        timings = interleave(probes(shape, dtype, threads), runs=runs)
    return rates_of(timings, shape, dtype)


def rates_of(timings: Mapping[tuple[str, str], Timing], shape: Sequence[int], dtype: str = "float32") -> Rates:
    """What the timings of :func:`probes` say: a pass takes at least as long as a fast run, the 20th percentile."""
    seconds = {key: timing.spread.low / IN_A_ROW for key, timing in timings.items()}
    return Rates(seconds, array_bytes(shape, dtype))


def array_bytes(shape: Sequence[int], dtype: str) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


def probes(shape: Sequence[int], dtype: str = "float32", threads: int = 1, *, in_a_row: int = IN_A_ROW) -> Calls:
    """The simplest call of every kind and level, several times in a row; the threads share an array of this shape.

    - read: the dot product of each channel of each sample with ones
    - copy: ``np.copyto``
    - update: ``a += b``, with a small b of a few channels' size; NumPy is slower with a single row

    At the level MEMORY the arrays have this shape, and each thread works on a share of the samples. At the level
    CACHE each thread works again and again on the same block.
    """
    samples, channels = shape[:2]
    x = np.random.default_rng(0).standard_normal((samples, channels, math.prod(shape[2:]))).astype(dtype)
    y, ones = np.zeros_like(x), np.ones(x.shape[2], dtype)
    few = _few_channels(channels, x[0, 0].nbytes)
    b = np.zeros_like(x[0, :few])
    simplest = {
        READ: lambda part: np.vecdot(x[part], ones),
        COPY: lambda part: np.copyto(y[part], x[part]),
        UPDATE: lambda part: _add_in_place(y[part].reshape(-1, *b.shape), b),
    }
    ends = sorted({round(i * samples / threads) for i in range(threads + 1)})  # a set: with few samples, fewer shares
    shares = [slice(start, stop) for start, stop in itertools.pairwise(ends)]
    parts = {MEMORY: [[share] for share in shares], CACHE: [_same_block(x, share) for share in shares]}
    return {
        (kind, level): _side_by_side([_each(call, mine * in_a_row) for mine in parts[level]])
        for kind, call in simplest.items()
        for level in parts
    }


def _few_channels(channels: int, row_bytes: int) -> int:
    """The most channels, a divisor of all, that together stay in the nearest caches."""
    return max(n for n in range(1, channels + 1) if channels % n == 0 and (n == 1 or n * row_bytes <= SMALL_OPERAND))


def _add_in_place(a: np.ndarray, b: np.ndarray) -> None:
    a += b


def _same_block(x: np.ndarray, share: slice) -> list[slice]:
    """As many samples as the share has, but always the first of them, block by block."""
    start, count = share.start, share.stop - share.start
    return [slice(start, start + min(block.stop, count) - block.start) for block in blocks_of(x[share])]


def _each(call: Callable[[slice], object], parts: Sequence[slice]) -> Callable[[], None]:
    def run() -> None:
        for part in parts:
            call(part)

    return run


def _side_by_side(calls: Sequence[Callable[[], object]]) -> Callable[[], None]:
    """All calls at once, the first in this thread."""
    first, *others = calls
    if not others:
        return first

    def run() -> None:
        futures = [_pool(len(others)).submit(call) for call in others]
        first()
        for future in futures:
            future.result()

    return run


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="bncourse-benchmark")


def copy_curve(sizes: Sequence[int] | None = None, threads: int = 1, *, runs: int = 9) -> dict[int, Spread]:
    """How fast arrays of these sizes in bytes are copied: billions of bytes per second, read and written.

    An array is copied again and again, so that small ones come from a cache. Each thread has its own pair of arrays,
    of which all sizes are a part. Below 64 KiB most of the time is Python's.
    """
    calls, moved, sizes = {}, {}, tuple(sizes or CURVE)
    pairs = [np.ones((2, max(sizes)), np.uint8) for _ in range(threads)]
    for size in sizes:
        repeats = max(1, LEAST_BYTES // size)
        calls[size] = _side_by_side(
            [functools.partial(_copy, source[:size], target[:size], repeats) for source, target in pairs]
        )
        moved[size] = 2 * size * repeats * threads
    timings = interleave(calls, runs=runs, warmup=1)
    return {size: Spread.of(tuple(1e-9 * moved[size] / s for s in timing.seconds)) for size, timing in timings.items()}


def _copy(source: np.ndarray, target: np.ndarray, repeats: int) -> None:
    for _ in range(repeats):
        np.copyto(target, source)


def caches() -> dict[str, int]:
    """The sizes in bytes of the caches for data that the first core uses, by name; empty where the system does not say."""
    found = {}
    for folder in sorted(CACHES.glob("index*")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            kind, level, size = ((folder / name).read_text().strip() for name in ("type", "level", "size"))
            if kind != "Instruction":
                found[f"L{level}"] = int(size[:-1]) * {"K": KIB, "M": MIB}[size[-1]]
    return found


@contextlib.contextmanager
def blas_threads(threads: int) -> Iterator[None]:
    """NumPy's matrix and dot products on so many threads.

    A dot product has one anyway, unless a row has more than 10,000 values; then OpenBLAS starts threads of its own.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads, user_api="blas"):
        yield


def let_waiting_threads_sleep() -> None:
    """Call this before PyTorch is imported, in a program that compares it with others.

    Otherwise PyTorch's threads, of OpenMP, go on for milliseconds after each call, waiting for the next one, on the
    cores that whoever comes next needs. To be woken up again costs PyTorch a little, which shows with small inputs.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # OpenMP reads it when it is loaded


@contextlib.contextmanager
def use_threads(threads: int) -> Iterator[None]:
    """PyTorch on so many threads, and each dot product of NumPy on one, since rows are shared among threads already."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with blas_threads(1):
            yield
    finally:
        torch.set_num_threads(before)


def peak_flops(threads: int = 1, *, runs: int = 9) -> float:
    """Billions of additions and multiplications per second in a large float32 matrix product."""
    return matmul_point(threads, size=PEAK_SIZE, runs=runs).gflops


def matmul_point(threads: int = 1, *, size: int = 512, runs: int = 9) -> Point:
    """A float32 matrix product in the roofline: 2 · size³ operations on three matrices."""
    a, b = np.random.default_rng(0).standard_normal((2, size, size)).astype(np.float32)
    product = np.empty_like(a)
    with blas_threads(threads):
        timing = interleave({"matmul": lambda: np.matmul(a, b, out=product)}, runs=runs)["matmul"]
    return Point(
        f"matrix product, {size} × {size}", 2 * size**3 / (3 * a.nbytes), 2e-9 * size**3 / timing.spread.median
    )
