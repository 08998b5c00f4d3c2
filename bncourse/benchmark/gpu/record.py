"""The record of a GPU: written group by group, read by the chapter."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from bncourse import provenance
from bncourse.benchmark.gpu import candidates as who
from bncourse.benchmark.gpu.operations import (
    ARRAYS,
    BATCH,
    EAGER_ARRAYS,
    FLOPS,
    FORWARD,
    ITEMSIZE,
    OUR_ARRAYS,
    RELU,
)
from bncourse.benchmark.machine import Peaks, Point
from bncourse.benchmark.timing import Spread

KIND = "GPU benchmark"  # by which these records are told from others in the same folder
PARTIAL = ".partial.json"


@dataclass(frozen=True)
class Result:
    """One candidate in one operation of one group."""

    name: str  # one of those in candidates
    operation: str  # FORWARD or BACKWARD
    microseconds: Spread
    f_comp: Spread  # the time of a copy that moves the compulsory bytes, divided by the time, round by round
    f_stream: Spread  # and that of a copy that moves the streaming bytes
    times: dict[str, Spread]  # by PyTorch's candidates, how many times as fast as they, round by round
    kernels: tuple[str, ...] | None  # in order; None where the profiler did not tell
    error: float  # the largest against float64, relative to the largest value, at mean 0; infinite if not finite
    error_large_mean: float  # where the mean is 1000 times the standard deviation
    peak_bytes: int  # new memory at the peak, results included
    plan: str | None  # of ours: whether an array stays on chip
    in_a_row: Spread | None = None  # of small inputs: microseconds of a call on the host's clock, no cache flushed
    times_in_a_row: dict[str, Spread] = field(default_factory=dict)  # and as ``times``, but by that

    @property
    def launches(self) -> int | None:
        return None if self.kernels is None else len(self.kernels)

    def fields(self) -> dict:
        """As it stands in the file, which has no infinite numbers."""
        found = asdict(self)
        errors = {name: found[name] if math.isfinite(found[name]) else None for name in ("error", "error_large_mean")}
        return found | errors

    @classmethod
    def of(cls, fields: dict) -> "Result":
        spreads = {name: Spread(**fields[name]) for name in ("microseconds", "f_comp", "f_stream")}
        errors = {n: math.inf if fields[n] is None else fields[n] for n in ("error", "error_large_mean")}
        spreads["in_a_row"] = Spread(**fields["in_a_row"]) if fields["in_a_row"] else None
        for times in ("times", "times_in_a_row"):
            spreads[times] = {name: Spread(**spread) for name, spread in fields[times].items()}
        kernels = None if fields["kernels"] is None else tuple(fields["kernels"])
        return cls(**fields | spreads | errors | {"kernels": kernels})


class Copy(NamedTuple):
    """A copy of as many bytes as an operation moves, read and written together."""

    bytes: int
    microseconds: Spread

    @property
    def bytes_per_second(self) -> float:
        return 1e6 * self.bytes / self.microseconds.median


class Step(NamedTuple):
    """A way to compute batch norm: what it moves, how long a copy of as many bytes takes, and how long it took."""

    name: str
    arrays: int  # times the size of the input
    predicted: float  # seconds
    measured: Spread  # seconds

    @property
    def times_predicted(self) -> float:
        return self.measured.median / self.predicted


class Record:
    """What was measured on one GPU; where a run ended early, not all groups.

    Attributes:
        fields: all of it, as it stands in the file: device, driver, multiprocessors, l2_bytes, versions, date, command,
            commit, peaks, groups and others.
        results: by norm, shape and dtype, in the order of measuring.
        copies: by the same and the operation, the copies of the compulsory and of the streaming bytes.
        failed: by norm, shape and dtype, the candidates that did not run or gave wrong results, and why; they have no
            results.
    """

    def __init__(self, fields: dict) -> None:
        self.fields = fields
        self.results: dict[tuple, list[Result]] = {}
        self.copies: dict[tuple, tuple[Copy, Copy]] = {}
        self.failed: dict[tuple, dict[str, str]] = {}
        for group in fields["groups"]:
            key = group["norm"], tuple(group["shape"]), group["dtype"]
            self.results[key] = [Result.of(row) for row in group["results"]]
            self.failed[key] = group["failed"]
            for operation, copies in group["copies"].items():
                self.copies[*key, operation] = tuple(Copy(c["bytes"], Spread(**c["microseconds"])) for c in copies)

    def result(self, norm: str, shape: Sequence[int], dtype: str, operation: str, name: str) -> Result | None:
        """That of one candidate; None if there is none."""
        rows = self.results.get((norm, tuple(shape), dtype), [])
        return next((row for row in rows if (row.operation, row.name) == (operation, name)), None)

    def steps(
        self, shape: Sequence[int], dtype: str, *, norm: str = BATCH, operation: str = FORWARD, fused: bool = True
    ) -> list[Step]:
        """The steps of the chapter that were measured, each with the time that a copy predicts: eager PyTorch,
        torch.compile, the first kernel, the split one, the resident one; and, with ``fused``, ours with the ReLU in it.
        ``norm`` is batch norm, or that with a ReLU or with a residual and a ReLU.
        """

        def step(name: str, candidate: str, arrays: int, norm: str = norm) -> list[Step]:
            row = self.result(norm, shape, dtype, operation, candidate)
            return [] if row is None else [self._step(name, arrays, (norm, tuple(shape), dtype, operation), row)]

        key = norm, operation
        found = step("eager", who.EAGER, EAGER_ARRAYS[key]) + step("torch.compile", who.COMPILED, ARRAYS[key].streaming)
        found += step("first kernel", who.FIRST, ARRAYS[key].streaming)
        resident = self._is_resident(norm, shape, dtype, operation)
        found += step("split", who.SPLIT if resident else who.OURS, OUR_ARRAYS[key].streaming)
        found += step("resident", who.OURS, OUR_ARRAYS[key].compulsory) if resident else []
        if fused and norm == BATCH:
            resident = self._is_resident(RELU, shape, dtype, operation)
            found += step("with ReLU", who.OURS, OUR_ARRAYS[RELU, operation][not resident], RELU)
        return found

    def _is_resident(self, norm: str, shape: Sequence[int], dtype: str, operation: str) -> bool:
        row = self.result(norm, shape, dtype, operation, who.OURS)
        return row is not None and row.plan == who.RESIDENT_PLAN

    def _step(self, name: str, arrays: int, key: tuple, row: Result) -> Step:
        _, shape, dtype, _ = key
        moved = arrays * math.prod(shape) * ITEMSIZE[dtype]
        nearest = min(self.copies[key], key=lambda copy: abs(copy.bytes - moved))  # the speed depends on the size
        spread = row.microseconds
        return Step(
            name,
            arrays,
            moved / nearest.bytes_per_second,
            Spread(1e-6 * spread.median, 1e-6 * spread.low, 1e-6 * spread.high),
        )

    def points(self, shape: Sequence[int], dtype: str, *, operation: str = FORWARD) -> list[Point]:
        """The steps of batch norm in the roofline."""
        values = math.prod(shape)
        found = []
        for step in self.steps(shape, dtype, operation=operation, fused=False):
            operations = FLOPS[operation] * values
            moved = step.arrays * values * ITEMSIZE[dtype]
            found.append(Point(step.name, operations / moved, 1e-9 * operations / step.measured.median))
        return found

    @property
    def peaks(self) -> Peaks:
        """The roof: a large float32 matrix product, and a large copy."""
        return Peaks(self.fields["peaks"]["gflops"], {"copy": self.fields["peaks"]["copy_gb_per_s"]})


def path(device: str, folder: Path | None = None) -> Path:
    """The record of a device by its name: "NVIDIA H200" has ``nvidia_h200.json``."""
    return (folder or provenance.RESULTS) / f"{re.sub('[^a-z0-9]+', '_', device.lower()).strip('_')}.json"


def partial(file: Path) -> Path:
    """The record beside ``file`` that is being made; it becomes ``file`` when it has all groups."""
    return file.with_suffix(PARTIAL)


def load(file: Path | None = None, *, folder: Path | None = None) -> Record | None:
    """The record in ``file``; or, if None, the newest of any GPU; None where there is no record yet.

    A record that is still being made counts only where there is no whole one.
    """
    if file is not None:
        return Record(read(file)) if file.exists() else None
    found = {each: read(each) for each in sorted((folder or provenance.RESULTS).glob("*.json"))}
    records = {e: fields for e, fields in found.items() if isinstance(fields, dict) and fields.get("kind") == KIND}
    whole = [fields for each, fields in records.items() if not each.name.endswith(PARTIAL)]
    candidates = whole or list(records.values())
    return Record(max(candidates, key=lambda fields: fields["date"])) if candidates else None


def read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def save(fields: dict, file: Path) -> None:
    """Write the record, whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(_rounded(fields), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(file)


def _rounded(value: object) -> object:
    """Numbers with five significant digits."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
