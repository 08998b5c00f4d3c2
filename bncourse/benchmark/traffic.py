"""The byte model: which arrays a computation moves, and the least time that takes.

A computation is a list of passes over arrays of the input's size. Each is one of three kinds, and meets its
values either in an array that is as large as the input, or in a block that was just touched and still lies in a
cache. What a pass costs at least is measured (:func:`bncourse.benchmark.machine.rates`): it is the time of the
simplest NumPy call with the same traffic.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

READ, COPY, UPDATE = "read", "copy", "update"
MEMORY, CACHE = "memory", "cache"
LEVELS = (MEMORY, CACHE)
ARRAYS = {READ: 1, COPY: 2, UPDATE: 2}  # moved by a pass of each kind


@dataclass(frozen=True)
class Pass:
    """One walk over an array.

    ``kind`` is READ (as a sum), COPY (one array is read, another is written) or UPDATE (one array is read and
    written in place). What reads two arrays and writes one, as a + b does, is a READ and a COPY. Numbers per
    channel, and whatever else is no larger than one sample, do not count. ``level`` says where the values are: MEMORY
    for an array of the input's size, CACHE for a block that was just read or written.
    """

    kind: str
    level: str


@dataclass(frozen=True)
class Step:
    """One way to compute something, with what it moves."""

    name: str
    call: Callable[[], object]  # on arrays that exist, outputs included
    passes: tuple[Pass, ...]
    flops: int  # additions and multiplications per value of the input
    threads: int = 1


def arrays_moved(passes: Iterable[Pass], level: str | None = None) -> int:
    """How many times the input's size is read or written, at one level or, if None, at both."""
    return sum(ARRAYS[p.kind] for p in passes if level in (None, p.level))


@dataclass(frozen=True)
class Rates:
    """The least time of a pass on one machine, with one number of threads.

    ``seconds`` is by kind and level; ``array_bytes`` is the size of the input for which it was measured.
    """

    seconds: Mapping[tuple[str, str], float]
    array_bytes: int

    def predict(self, passes: Iterable[Pass]) -> float:
        """The least time of these passes one after the other, in seconds."""
        return sum(self.seconds[p.kind, p.level] for p in passes)

    def bandwidth(self, kind: str, level: str) -> float:
        """Bytes read and written per second."""
        return ARRAYS[kind] * self.array_bytes / self.seconds[kind, level]
