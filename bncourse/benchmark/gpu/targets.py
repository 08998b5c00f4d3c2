"""What ours should reach on a GPU, and what it reached."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bncourse.benchmark.gpu import candidates as who
from bncourse.benchmark.gpu.inputs import TOLERANCE
from bncourse.benchmark.gpu.operations import (
    BACKWARD,
    BATCH,
    FORWARD,
    IMAGES,
    LAYER,
    RMS,
    SMALL_IMAGES,
    SMALL_TOKENS,
    TOKENS,
)
from bncourse.benchmark.gpu.record import Record, Result

BOTH = ("float32", "bfloat16")
Key = tuple[str, tuple[int, ...], str, str]  # norm, shape, dtype, operation


@dataclass(frozen=True)
class Target:
    """A number that ours should reach in each of several places; what counts is the worst of them."""

    name: str
    limit: float
    value: float | None  # None: not measured
    where: str  # the place of the worst value
    missing: int  # places where nothing was measured
    failed: int = 0  # and where ours did not run, or was wrong

    @property
    def met(self) -> bool | None:
        """None: what was measured is good enough, but something is missing."""
        if self.failed or (self.value is not None and self.value < self.limit):
            return False
        return None if self.missing else True

    def __str__(self) -> str:
        if self.value is None and not self.failed:
            return f"{self.name}: at least {self.limit:g}; not measured"
        found = [] if self.value is None else [f"{self.value:.3f} at {self.where}"]
        found += [f"ours failed in {self.failed}"] if self.failed else []
        found.append({True: "met", False: "missed", None: f"so far, {self.missing} not measured"}[self.met])
        return "; ".join([f"{self.name}: at least {self.limit:g}", *found])


def targets(record: Record) -> list[Target]:
    """All of them. Speeds are compared in the same run; the evaluation, fused norms and float16 have no target.

    Where ours gave wrong results, or did not run, a target is missed; where who it is compared with did, not measured.
    Small inputs are compared by the host's clock, in calls in a row, since what counts there is launching.
    """
    found = []
    for direction, stream in ((FORWARD, 0.95), (BACKWARD, 0.92)):
        everywhere = _keys([BATCH], IMAGES, BOTH, [direction])
        found.append(
            _target(record, f"batch norm {direction}, F_stream", stream, everywhere, lambda r: r.f_stream.median)
        )
        if direction == FORWARD:
            found.append(
                _target(record, "batch norm forward, times torch.compile's speed", 1.0, everywhere, _times_compiled)
            )
        for dtype, times in (("float32", 2.0), ("bfloat16", 3.0)):
            keys = _keys([BATCH], IMAGES, [dtype], [direction])
            found.append(
                _target(record, f"batch norm {direction}, {dtype}, times eager's speed", times, keys, _times_eager)
            )
    for norm in (LAYER, RMS):
        for direction, limit in ((FORWARD, 0.95), (BACKWARD, 0.75)):
            keys = _keys([norm], TOKENS, BOTH, [direction])
            found.append(_target(record, f"{norm} {direction}, F_comp", limit, keys, lambda r: r.f_comp.median))
    small = _keys([BATCH], SMALL_IMAGES, BOTH, [FORWARD, BACKWARD])
    small += _keys([LAYER, RMS], SMALL_TOKENS, BOTH, [FORWARD, BACKWARD])
    found.append(
        _target(record, "small inputs, calls in a row, times eager's speed", 1.0, small, _times_eager_in_a_row)
    )
    return found


def _keys(
    norms: Iterable[str], shapes: Iterable[tuple[int, ...]], dtypes: Iterable[str], operations: Iterable[str]
) -> list[Key]:
    return [(n, shape, dtype, what) for n in norms for shape in shapes for dtype in dtypes for what in operations]


def _times_eager(result: Result) -> float | None:
    spread = result.times.get(who.EAGER)
    return None if spread is None else spread.median


def _times_eager_in_a_row(result: Result) -> float | None:
    spread = result.times_in_a_row.get(who.EAGER)
    return None if spread is None else spread.median


def _times_compiled(result: Result) -> float | None:
    """As fast as the faster of its modes."""
    spreads = [result.times[name] for name in (who.COMPILED, who.AUTOTUNED) if name in result.times]
    return min((spread.median for spread in spreads), default=None)


def _target(
    record: Record, name: str, limit: float, keys: list[Key], value: Callable[[Result], float | None]
) -> Target:
    values, failed = {}, 0
    for key in keys:
        result = record.result(*key, who.OURS)
        if who.OURS in record.failed.get(key[:3], {}) or (result is not None and not _right(result, key[2])):
            failed += 1
        elif result is not None and (found := value(result)) is not None:
            values[key] = found
    missing = len(keys) - len(values) - failed
    if not values:
        return Target(name, limit, None, "", missing, failed)
    worst = min(values, key=values.get)
    return Target(name, limit, values[worst], ", ".join(map(str, worst)), missing, failed)


def _right(result: Result, dtype: str) -> bool:
    """What is wrong is not measured; but a record may come from anywhere."""
    return result.error <= TOLERANCE[dtype] and math.isfinite(result.error_large_mean)
