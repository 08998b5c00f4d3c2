"""Counting what NumPy reads and writes: arrays that tell of every ufunc that they take part in."""

from collections import Counter, OrderedDict

import numpy as np

from bncourse.benchmark.traffic import CACHE, MEMORY

NEAR = 4  # blocks: what was touched no longer ago, in bytes of traffic, still lies in a cache


class Ledger:
    """Bytes read and written by level; what counts are arrays larger than ``small`` bytes."""

    def __init__(self, small: int, block_bytes: int) -> None:
        self.small, self.near = small, NEAR * block_bytes
        self.moved, self.touched, self.traffic = Counter(), OrderedDict(), 0

    def add(self, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> None:
        distinct = {_place(a): a.nbytes for a in inputs if a.nbytes > self.small}  # x · x reads x once
        written = {_place(a): a.nbytes for a in outputs if a.nbytes > self.small}
        levels = {place: self._level(place) for place in {**distinct, **written}}
        for place, size in [*distinct.items(), *written.items()]:
            self.moved[levels[place]] += size
            self.traffic += size
        self.touched |= dict.fromkeys(levels, self.traffic)

    def _level(self, place: tuple[int, int]) -> str:
        since = self.traffic - self.touched.get(place, -np.inf)
        return CACHE if since < self.near else MEMORY


def _place(a: np.ndarray) -> tuple[int, int]:
    start, stop = np.lib.array_utils.byte_bounds(a)
    return start, stop


class Counted(np.ndarray):
    """An array that enters every ufunc into its ledger."""

    def __array_finalize__(self, source: object) -> None:
        self.ledger = getattr(source, "ledger", None)

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        arrays = [a for a in (*inputs, *out) if isinstance(a, Counted)]
        plain = [np.asarray(a) if isinstance(a, Counted) else a for a in inputs]
        if out:
            options["out"] = tuple(np.asarray(a) if isinstance(a, Counted) else a for a in out)
        result = getattr(ufunc, method)(*plain, **options)
        ledger = next(a.ledger for a in arrays if a.ledger is not None)
        ledger.add([a for a in plain if isinstance(a, np.ndarray)], [np.asarray(result)])
        if out:
            return out[0]
        return counted(result, ledger) if isinstance(result, np.ndarray) else result


def counted(array: np.ndarray, ledger: Ledger) -> Counted:
    """The same array, with a ledger."""
    found = array.view(Counted)
    found.ledger = ledger
    return found
