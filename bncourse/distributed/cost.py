"""What a collective costs: the α-β model, and measurements of this machine beside it.

A message of n bytes takes α + n / B seconds: the latency α, whatever the size, and its bytes at the bandwidth B. A
collective is a chain of such messages, each of which waits for the one before. So its time has two terms: the number
of messages in the chain times α, and their bytes over B.

Assumed are P devices, any two of which are equally close. A device sends one message and receives one at a time, at
the full bandwidth, and no two messages share a wire. No message is split so that its parts can follow each other, and
adding numbers up takes no time. Chapter 10 derives the formulas.
"""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.distributed as dist

from bncourse.distributed.processes import run, track

RING, DOUBLING, TREE = "ring", "doubling", "tree"
ALL_GATHER, ALL_REDUCE = "all-gather", "all-reduce"
SENT_BYTES = 8  # a float64
FORWARD_PASSES, BACKWARD_PASSES = 3, 5  # over the layer's tensor, see layer_time
SIZES = (64, 512, 4096, 32768, 2**18, 2**20)  # bytes


# The model


@dataclass(frozen=True)
class Traffic:
    """The longest chain of messages of a collective, each of which waits for the one before.

    ``messages`` is how many there are, ``bytes`` the sum of their sizes.
    """

    messages: int
    bytes: float


@dataclass(frozen=True)
class Cost:
    """The two terms of a time, in seconds."""

    latency: float  # messages · α
    transfer: float  # bytes / B

    @property
    def seconds(self) -> float:
        return self.latency + self.transfer


@dataclass(frozen=True)
class Network:
    """What connects the devices.

    Args:
        latency: α, the seconds that a message takes whatever its size.
        bandwidth: B, the bytes per second that a device sends, while it receives as many.

    Raises:
        ValueError: a negative latency, or a bandwidth that is not positive.
    """

    latency: float
    bandwidth: float

    def __post_init__(self) -> None:
        if not (self.latency >= 0 and self.bandwidth > 0):
            raise ValueError(
                "expected a latency of at least 0 seconds and a bandwidth above 0 bytes per second; got "
                f"{self.latency} and {self.bandwidth}"
            )

    def cost(self, traffic: Traffic) -> Cost:
        """messages · α and bytes / B."""
        return Cost(traffic.messages * self.latency, traffic.bytes / self.bandwidth)


def all_gather_traffic(devices: int, bytes: float, algorithm: str = RING) -> Traffic:
    """What brings ``bytes`` of every device to all of them.

    ========  ===========  ===========  ========================================================================
    ring      P − 1        (P − 1) b    each device passes on what it received last to its neighbour
    doubling  ⌈log₂ P⌉     (P − 1) b    in step k, each sends what it has to the one 2ᵏ further, in the last step
                                        only what is missing there
    ========  ===========  ===========  ========================================================================

    The columns are the algorithm, the messages and their bytes.

    Args:
        devices: P.
        bytes: b, from each device.
        algorithm: "ring" or "doubling".

    Raises:
        ValueError: fewer than one device, negative bytes, or another algorithm.
    """
    _check(devices, bytes, algorithm, (RING, DOUBLING))
    messages = devices - 1 if algorithm == RING else _doublings(devices)
    return Traffic(messages, (devices - 1) * bytes)


def all_reduce_traffic(devices: int, bytes: float, algorithm: str = RING) -> Traffic:
    """What brings the sum over all devices of ``bytes`` of numbers to all of them.

    ====  ============  ================  ========================================================================
    ring  2 (P − 1)     2 (P − 1) b / P   the numbers in P parts: sums of one part each travel around, then results
    tree  2 ⌈log₂ P⌉    2 ⌈log₂ P⌉ b      pairs add up, then pairs of pairs; the result goes back the same way
    ====  ============  ================  ========================================================================

    The columns are the algorithm, the messages and their bytes.

    Args:
        devices: P.
        bytes: b, on each device, and of the result.
        algorithm: "ring" or "tree".

    Raises:
        ValueError: fewer than one device, negative bytes, or another algorithm.
    """
    _check(devices, bytes, algorithm, (RING, TREE))
    messages = 2 * (devices - 1) if algorithm == RING else 2 * _doublings(devices)
    return Traffic(messages, messages * (bytes / devices if algorithm == RING else bytes))


def all_gather_time(network: Network, devices: int, bytes: float, algorithm: str = RING) -> float:
    """Seconds, see :func:`all_gather_traffic`: ring (P − 1)(α + b / B), doubling ⌈log₂ P⌉ α + (P − 1) b / B."""
    return network.cost(all_gather_traffic(devices, bytes, algorithm)).seconds


def all_reduce_time(network: Network, devices: int, bytes: float, algorithm: str = RING) -> float:
    """Seconds, see :func:`all_reduce_traffic`: ring 2 (P − 1)(α + b / (P B)), tree 2 ⌈log₂ P⌉ (α + b / B)."""
    return network.cost(all_reduce_traffic(devices, bytes, algorithm)).seconds


def _doublings(devices: int) -> int:
    """⌈log₂ P⌉, in whole numbers."""
    return (devices - 1).bit_length()


def _check(devices: int, bytes: float, algorithm: str, known: Sequence[str]) -> None:
    if devices < 1 or bytes < 0:
        raise ValueError(f"expected at least 1 device and 0 bytes; got {devices} and {bytes}")
    if algorithm not in known:
        raise ValueError(f"expected the algorithm {' or '.join(known)}; got {algorithm!r}")


# The layer


def forward_bytes(channels: int) -> int:
    """What each device gives to the forward all-gather: count, C means and C values of M2, in float64."""
    return SENT_BYTES * (2 * channels + 1)


def backward_bytes(channels: int) -> int:
    """What each device gives to the backward all-reduce: two sums per channel, in float64."""
    return SENT_BYTES * 2 * channels


def layer_time(shape: Sequence[int], itemsize: int, bandwidth: float, passes: int = FORWARD_PASSES) -> float:
    """The least seconds of the layer's own work on one device, by the byte model.

    passes · S / bandwidth, where S is the size of the tensor. Forward there are 3 passes: x is read for its moments,
    read again, and y is written. Backward there are 5: x and dy are read for the two sums, read again, and dx is
    written.

    Args:
        shape: of the local batch, (N, C, *).
        itemsize: bytes of one element.
        bandwidth: bytes per second from and to the device's memory.
        passes: FORWARD_PASSES or BACKWARD_PASSES.
    """
    return passes * math.prod(shape) * itemsize / bandwidth


def devices_until(seconds: float, time: Callable[[int], float], most: int = 2**20) -> int | None:
    """The least number of devices, from 2, for which ``time(devices)`` is at least ``seconds``.

    Args:
        seconds: such as the layer's own time.
        time: of the number of devices, never falling.
        most: where the search ends.

    Returns:
        the number, or None if it is above ``most``.
    """
    counts = range(2, most + 1)
    place = bisect_left(counts, seconds, key=time)
    return counts[place] if place < len(counts) else None


# This machine


@dataclass(frozen=True)
class Measurement:
    """The time of one collective among real processes, that of the slowest process."""

    collective: str  # ALL_GATHER or ALL_REDUCE
    processes: int
    bytes: int  # from each process
    fastest: float  # seconds of the fastest of the repeats

    @property
    def traffic(self) -> Traffic:
        """What the model says of it: gloo moves data around a ring."""
        of = all_gather_traffic if self.collective == ALL_GATHER else all_reduce_traffic
        return of(self.processes, self.bytes, RING)


def measure(processes: int, sizes: Sequence[int] = SIZES, *, repeats: int = 15, warmup: int = 3) -> list[Measurement]:
    """Time gloo's all-gather and all-reduce among real processes on this machine.

    Before each there is a barrier, so that all start together; the time is that of the slowest process.

    Args:
        processes: how many, at least 2.
        sizes: bytes from each process, multiples of 8.
        repeats: timed runs of each.
        warmup: runs before these.

    Returns:
        all sizes of the all-gather, then all of the all-reduce.

    Raises:
        ValueError: fewer than 2 processes or 1 repeat, or a size that is no positive multiple of 8.
        ProcessError: a process failed.
    """
    if processes < 2 or repeats < 1:
        raise ValueError(f"expected at least 2 processes and 1 repeat; got {processes} and {repeats}")
    if bad := [size for size in sizes if size < SENT_BYTES or size % SENT_BYTES]:
        raise ValueError(f"expected positive multiples of {SENT_BYTES} bytes, whole float64 numbers; got {bad}")
    slowest = np.max(run(_seconds, list(sizes), repeats, warmup, processes=processes), axis=0)
    return [
        Measurement(collective, processes, size, float(np.min(seconds)))
        for collective, by_size in zip((ALL_GATHER, ALL_REDUCE), slowest, strict=True)
        for size, seconds in zip(sizes, by_size, strict=True)
    ]


def _seconds(sizes: Sequence[int], repeats: int, warmup: int) -> np.ndarray:
    """In one of the processes: seconds, of shape (collectives, sizes, repeats)."""
    seconds = np.empty((2, len(sizes), repeats))
    for column, size in enumerate(track(sizes)):
        sent = torch.zeros(size // SENT_BYTES, dtype=torch.float64)
        received = sent.new_empty(dist.get_world_size() * len(sent))
        for row, call in enumerate((partial(dist.all_gather_single, received, sent), partial(dist.all_reduce, sent))):
            seconds[row, column] = [_after_barrier(call) for _ in range(warmup + repeats)][warmup:]
    return seconds


def _after_barrier(call: Callable[[], object]) -> float:
    dist.barrier()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def fit(measured: Iterable[Measurement]) -> Network:
    """The α and B with which the model is closest to what was measured.

    Of each measurement it takes the fastest run, tᵢ: what else runs on the machine adds to a time, and takes nothing
    away. With mᵢ messages and nᵢ bytes it minimizes Σ ((α mᵢ + nᵢ / B − tᵢ) / tᵢ)². Errors count in proportion to the
    time, as times range over decades. The sum is quadratic in α and 1 / B, so this is linear least squares.

    Args:
        measured: several sizes; the numbers of processes and the collectives may differ.

    Raises:
        ValueError: fewer than three measurements, or all with as many bytes per message; or times that do not rise
            with the size.
    """
    measured = list(measured)
    chains = [m.traffic for m in measured]
    if len(measured) < 3 or len({chain.bytes / chain.messages for chain in chains}) == 1:
        raise ValueError(
            f"expected at least three measurements, of different sizes; got {len(measured)}, of "
            f"{sorted({m.bytes for m in measured})} bytes"
        )
    terms = np.array([[c.messages, c.bytes] for c in chains]) / [[m.fastest] for m in measured]
    scale = np.linalg.norm(terms, axis=0)  # messages and bytes are far apart, which rounding would feel
    latency, per_byte = np.linalg.lstsq(terms / scale, np.ones(len(terms)))[0] / scale
    if latency < 0 or per_byte <= 0:
        raise ValueError(
            f"expected times that rise with the size, from above 0; got a fit of {latency:.2g} seconds a message and "
            f"{per_byte:.2g} seconds a byte; measure with more repeats, or with sizes further apart"
        )
    return Network(float(latency), float(1 / per_byte))
