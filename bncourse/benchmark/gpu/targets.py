"""What ours should reach on a GPU, and what it reached."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bncourse.benchmark.gpu import candidates as who
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

    @property
    def met(self) -> bool | None:
        """None: what was measured is good enough, but something is missing."""
        if self.value is not None and self.value < self.limit:
            return False
        return None if self.missing else True

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name}: at least {self.limit:g}; not measured"
        verdict = {True: "met", False: "missed", None: f"so far, {self.missing} not measured"}[self.met]
        return f"{self.name}: at least {self.limit:g}; {self.value:.3f} at {self.where}; {verdict}"


def targets(record: Record) -> list[Target]:
    """All of them. Speeds are compared in the same run; the evaluation, fused norms and float16 have no target."""
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
    found.append(_target(record, "small inputs, times eager's speed", 1.0, small, _times_eager))
    return found


def _keys(
    norms: Iterable[str], shapes: Iterable[tuple[int, ...]], dtypes: Iterable[str], operations: Iterable[str]
) -> list[Key]:
    return [(n, shape, dtype, what) for n in norms for shape in shapes for dtype in dtypes for what in operations]


def _times_eager(result: Result) -> float | None:
    spread = result.times.get(who.EAGER)
    return None if spread is None else spread.median


def _times_compiled(result: Result) -> float | None:
    """As fast as the faster of its modes."""
    spreads = [result.times[name] for name in (who.COMPILED, who.AUTOTUNED) if name in result.times]
    return min((spread.median for spread in spreads), default=None)


def _target(
    record: Record, name: str, limit: float, keys: list[Key], value: Callable[[Result], float | None]
) -> Target:
    values = {}
    for key in keys:
        result = record.result(*key, who.OURS)
        found = None if result is None else value(result)
        if found is not None:
            values[key] = found
    if not values:
        return Target(name, limit, None, "", len(keys))
    worst = min(values, key=values.get)
    return Target(name, limit, values[worst], ", ".join(map(str, worst)), len(keys) - len(values))
