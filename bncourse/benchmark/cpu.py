"""Batch norm on this CPU, beside its peers and beside the byte model: ``python -m bncourse.benchmark.cpu``.

It writes ``book/results/cpu_batch_norm.json``. Run it on a machine that does nothing else: the times of threads that
wait for each other say nothing on a machine that is shared.
"""

import argparse
import datetime
import importlib.util
import json
import math
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bncourse import provenance
from bncourse.benchmark import ladder, machine, peers, predictions
from bncourse.benchmark.arrays import SHAPE, Arguments, as_arrays, largest_error
from bncourse.benchmark.machine import Peaks, Point
from bncourse.benchmark.memory import keep_freed_memory, peak_bytes
from bncourse.benchmark.predictions import Gap, Row
from bncourse.benchmark.timing import Spread, Timing, interleave
from bncourse.benchmark.traffic import COPY, LEVELS, MEMORY, Rates

FILE = provenance.RESULTS / "cpu_batch_norm.json"
SAMPLES = (2, 4, 8, 16, 32, 64, 128, 256, 512)  # N of (N, 64, 32, 32)
SIDES = (7, 14, 28, 56, 112)  # H and W of (64, 64, H, W)
SWEEPS = {"N": [(n, (n, 64, 32, 32)) for n in SAMPLES], "H": [(side, (64, 64, side, side)) for side in SIDES]}
COPYING = "copy"
LARGE = (256, 64, 32, 32)  # few caches hold an array of this size
LADDERS = {  # the groups of steps, with the shape of their input
    "forward": (ladder.forward_steps, SHAPE),
    "backward": (ladder.backward_steps, SHAPE),
    "relu": (ladder.relu_steps, SHAPE),
    "forward, large": (ladder.forward_steps, LARGE),
    "backward, large": (ladder.backward_steps, LARGE),
}
GROWING = (peers.BLOCKED, peers.BLOCKED_OUT, peers.PYTORCH)


@dataclass(frozen=True)
class Implementation:
    """One implementation in one operation, with one number of threads."""

    name: str  # one of those in peers
    operation: str  # one of peers.OPERATIONS
    threads: int
    milliseconds: Spread
    times_pytorch: Spread  # its speed as a multiple of that of PyTorch with contiguous arrays, run by run
    times_plain: Spread  # and of plain NumPy's
    error: float  # the largest of y, dx, dweight and dbias against float64, each relative to its largest value
    extra_memory: float | None  # at the peak, beside new outputs, in inputs; None where it is not seen


@dataclass(frozen=True)
class Growth:
    """The training forward at one size."""

    name: str  # one of GROWING, or COPYING
    sweep: str  # one of SWEEPS: which number grows
    size: int  # that number
    values: int  # of the input
    threads: int
    milliseconds: Spread

    @property
    def array_bytes(self) -> int:
        return 4 * self.values  # float32

    @property
    def ns_per_value(self) -> Spread:
        return _scaled(self.milliseconds, 1e6 / self.values)


class Record:
    """What was measured: ``record.implementation("blocked", "forward", 1).milliseconds.median``.

    Attributes:
        fields: all of it, as it stands in the file; shape, machine, versions, date, command, commit, runs, threads.
        implementations: ours and the peers.
        steps: the rows of each of LADDERS: predicted and measured.
        rates: of the run of each of these: by number of threads.
        causes: of what the byte model does not explain.
        curve: by number of threads, and by size in bytes, billions of bytes copied per second, read and written.
        growth: how times grow with N, and with H and W.
        caches: sizes in bytes by name.
        peaks: by number of threads, the roof of the roofline: a large matrix product, and copies at each level.
        points: places in the roofline, for one thread: the steps, and a matrix product.
    """

    def __init__(self, fields: dict) -> None:
        self.fields = fields
        spread = ("milliseconds", "times_pytorch", "times_plain")
        self.implementations = [Implementation(**_with_spreads(row, spread)) for row in fields["implementations"]]
        self.steps = {
            name: [Row(**_with_spreads(row, ["measured"])) for row in rows] for name, rows in fields["steps"].items()
        }
        self.rates = {name: _rates(found) for name, found in fields["rates"].items()}
        self.causes = [Gap(**_with_spreads(row, ["slow", "fast", "times"])) for row in fields["causes"]]
        self.curve = {
            int(n): {int(size): Spread(**v) for size, v in sizes.items()} for n, sizes in fields["curve"].items()
        }
        self.growth = [Growth(**_with_spreads(row, ["milliseconds"])) for row in fields["growth"]]
        self.caches: dict[str, int] = fields["caches"]
        self.peaks = {int(n): Peaks(**peaks) for n, peaks in fields["peaks"].items()}
        self.points = [Point(**point) for point in fields["points"]]

    def implementation(self, name: str, operation: str, threads: int) -> Implementation:
        """The one of this name, operation and number of threads."""
        wanted = (name, operation, threads)
        return next(i for i in self.implementations if (i.name, i.operation, i.threads) == wanted)

    def growing(self, sweep: str, threads: int) -> dict[str, list[Growth]]:
        """The times of one sweep by name, in the order of the sizes."""
        rows = [row for row in self.growth if (row.sweep, row.threads) == (sweep, threads)]
        return {name: [row for row in rows if row.name == name] for name in dict.fromkeys(row.name for row in rows)}


def load(file: Path | None = None) -> Record:
    """The recorded measurements."""
    return Record(json.loads((file or FILE).read_text(encoding="utf-8")))


# Measuring


def implementations(a: Arguments, threads: int, runs: int) -> list[Implementation]:
    """Every peer in every operation, in turn."""
    exact = peers.exact_results(a)
    found = peers.peers(a, threads)
    errors = {name: largest_error(as_arrays(calls[peers.BOTH]()), exact) for name, calls in found.items()}
    rows = []
    for operation in peers.OPERATIONS:
        timings = interleave({name: calls[operation] for name, calls in found.items()}, runs=runs)
        for name, timing in timings.items():
            spreads = (
                _milliseconds(timing),
                timing.speed(timings[peers.PYTORCH]),
                timing.speed(timings[peers.PLAIN]),
            )
            memory = extra_memory(name, operation, found[name], a.x.nbytes)
            rows.append(Implementation(name, operation, threads, *spreads, errors[name], memory))
    return rows


def extra_memory(name: str, operation: str, calls: peers.Calls, input_bytes: int) -> float | None:
    """What a call holds at its peak beside y and dx, in inputs; None where the memory does not come through NumPy."""
    if name not in peers.SEEN:
        return None
    new = 0 if name == peers.BLOCKED_OUT else 1 + (operation == peers.BOTH)
    return peak_bytes(calls[operation]) / input_bytes - new


def steps(threads: int, runs: int) -> tuple[dict[str, dict[int, Rates]], dict[str, list[Row]]]:
    """The steps of every ladder, each group in one run with the simplest calls."""
    rates, rows = {}, {}
    for name, (group, shape) in LADDERS.items():
        rates[name], rows[name] = predictions.measure(group(Arguments.random(shape), threads), shape, runs=runs)
    return rates, rows


def growth(threads: int, runs: int, sweeps: dict | None = None) -> list[Growth]:
    """Blocked, PyTorch and a copy at every size of the sweeps.

    ``blocked`` and PyTorch make their outputs, from memory that the process has kept.
    """
    found = []
    for sweep, sizes in (sweeps or SWEEPS).items():
        for size, shape in sizes:
            a = Arguments.random(shape)
            calls = {name: c[peers.FORWARD] for name, c in peers.peers(a, threads, GROWING).items()}
            calls[COPYING] = machine.probes(shape, "float32", threads, in_a_row=1)[COPY, MEMORY]
            for name, timing in interleave(calls, runs=runs).items():
                found.append(Growth(name, sweep, size, math.prod(shape), threads, _milliseconds(timing)))
    return found


def points(steps: Mapping[str, Iterable[Row]]) -> list[Point]:
    """The steps of one thread in the roofline, and a matrix product."""
    found = [
        Point(f"{row.name}, {direction}", row.flops_per_byte, row.gflops)
        for direction in ("forward", "backward")
        for row in steps[direction]
        if row.threads == 1
    ]
    return [*found, machine.matmul_point()]


def peaks_of(threads: int, rates: Rates) -> Peaks:
    """The roof over so many threads."""
    return Peaks(machine.peak_flops(threads), {level: 1e-9 * rates.bandwidth(COPY, level) for level in LEVELS})


def measure(runs: int, threads: int) -> dict:
    """All that the record holds, but where it comes from."""
    keep_freed_memory()
    counts, a, found = sorted({1, threads}), Arguments.random(SHAPE), {"implementations": [], "growth": []}
    for count in counts:
        with machine.use_threads(count):
            found["implementations"] += map(asdict, implementations(a, count, runs))
            found["growth"] += map(asdict, growth(count, max(2, runs // 2)))
    with machine.blas_threads(1):
        rates, rows = steps(threads, runs)
        causes = predictions.measure_causes(ladder.causes(a, threads), runs=runs)
        curve = {n: machine.copy_curve(threads=n, runs=max(2, runs // 2)) for n in counts}
    return found | {
        "steps": {name: [asdict(row) for row in group] for name, group in rows.items()},
        "rates": {name: {n: _rates_fields(r) for n, r in by_count.items()} for name, by_count in rates.items()},
        "causes": [asdict(gap) for gap in causes],
        "curve": {n: {size: asdict(spread) for size, spread in sizes.items()} for n, sizes in curve.items()},
        "caches": machine.caches(),
        "peaks": {n: peaks_of(n, rates["forward"][n])._asdict() for n in counts},
        "points": [point._asdict() for point in points(rows)],
    }


def record(runs: int, threads: int, command: str, file: Path | None = None) -> None:
    """Measure everything, and write the record."""
    packages = ["numpy", "torch"] + ["numba"] * bool(importlib.util.find_spec("numba"))
    fields = {
        "shape": SHAPE,
        "dtype": "float32",
        "threads": threads,
        "runs": runs,
        "machine": provenance.machine(),
        "date": datetime.date.today().isoformat(),
        "versions": provenance.versions(packages),
        "command": command,
        "commit": provenance.commit(),
    }
    fields |= _rounded(measure(runs, threads))
    (file or FILE).write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


def _milliseconds(timing: Timing) -> Spread:
    return _scaled(timing.spread, 1e3)


def _scaled(spread: Spread, factor: float) -> Spread:
    return Spread(*(factor * value for value in (spread.median, spread.low, spread.high)))


def _with_spreads(row: dict, names: Iterable[str]) -> dict:
    return row | {name: Spread(**row[name]) for name in names}


def _rates_fields(rates: Rates) -> dict:
    return {
        "array_bytes": rates.array_bytes,
        "seconds": {f"{kind} {level}": seconds for (kind, level), seconds in rates.seconds.items()},
    }


def _rates(by_count: dict) -> dict[int, Rates]:
    return {
        int(n): Rates({tuple(key.split()): s for key, s in fields["seconds"].items()}, fields["array_bytes"])
        for n, fields in by_count.items()
    }


def _rounded(value: object) -> object:
    """Numbers with four significant digits."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m bncourse.benchmark.cpu", description=__doc__.replace("``", ""))
    parser.add_argument("--runs", type=int, default=25, help="timed rounds, in which the candidates take turns")
    parser.add_argument(
        "--threads", type=int, default=provenance.cores(), help="beside one; as many as cores, unless given"
    )
    options = parser.parse_args(arguments)
    machine.let_waiting_threads_sleep()
    record(options.runs, options.threads, shlex.join(["python", "-m", "bncourse.benchmark.cpu", *arguments]))
    print(f"The record is {FILE}")


if __name__ == "__main__":
    main()
