"""Time, memory and accuracy of the implementations beside PyTorch: ``python -m bncourse.benchmark``."""

import argparse
import platform

import numpy as np

from bncourse import provenance
from bncourse.benchmark import peers
from bncourse.benchmark.arrays import SHAPE, Arguments, as_arrays, largest_error
from bncourse.benchmark.machine import let_waiting_threads_sleep, use_threads
from bncourse.benchmark.memory import peak_bytes, saved_bytes
from bncourse.benchmark.timing import Timing, interleave

# of all peers; those of chapter 8 have a record of their own
COMPARED = (peers.REFERENCE, peers.BLOCKED, peers.COMPOSED, peers.FUNCTIONAL, peers.PYTORCH)


def rows(a: Arguments, runs: int, threads: int = 1) -> list[tuple[str, ...]]:
    """The lines of the table: what was done, by whom, and how well."""
    candidates = peers.peers(a, threads, COMPARED)
    exact = peers.exact_results(a)
    lines = []
    for what in peers.OPERATIONS:
        timings = interleave({name: calls[what] for name, calls in candidates.items()}, runs=runs)
        for name, calls in candidates.items():
            error = largest_error(as_arrays(calls[peers.BOTH]()), exact)
            memory = memory_of(name, calls, what, a.x.nbytes)
            lines.append((what, name, *describe(timings[name], timings[peers.PYTORCH]), *memory, f"{error:.0e}"))
    return lines


def sweep_rows(runs: int, threads: set[int]) -> list[tuple[str, ...]]:
    """The lines of the table of sweeps: how long 16 runs take one after the other, and all at once."""
    import torch

    from bncourse.benchmark.sweeps import LOOP, SWEEP, timings

    lines = []
    for count in sorted(threads):
        torch.set_num_threads(count)
        for norm, timing in timings(runs).items():
            milliseconds, _ = describe(timing[LOOP], timing[LOOP])
            lines.append((str(count), norm, milliseconds, *describe(timing[SWEEP], timing[LOOP])))
    return lines


def memory_of(name: str, calls: peers.Calls, what: str, input_bytes: int) -> tuple[str, str]:
    """The peak, which is seen of NumPy alone, and what autograd saves; in units of the input."""
    if name in peers.SEEN:
        return f"{peak_bytes(calls[what]) / input_bytes:.1f}", "-"
    return "not seen", f"{saved_bytes(calls[peers.FORWARD]) / input_bytes:.3f}"


def describe(timing: Timing, baseline: Timing) -> tuple[str, str]:
    """Milliseconds, and speed as a multiple of the baseline's: median (20th to 80th percentile)."""
    time, speed = timing.spread, timing.speed(baseline)
    return (
        f"{1e3 * time.median:.1f} ({1e3 * time.low:.1f} to {1e3 * time.high:.1f})",
        f"{speed.median:.2f} ({speed.low:.2f} to {speed.high:.2f})",
    )


def table(header: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in [header, *lines])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bncourse.benchmark", description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="timed rounds, in which the candidates take turns")
    parser.add_argument(
        "--threads", type=int, default=provenance.cores(), help="of PyTorch and of blocked; the reference uses one"
    )
    options = parser.parse_args()

    let_waiting_threads_sleep()
    import torch

    print(f"Batch norm in training, {SHAPE} float32, median of {options.runs} runs (20th to 80th percentile)")
    print(
        f"{provenance.machine()}; Python {platform.python_version()}, NumPy {np.__version__}, PyTorch {torch.__version__}"
    )
    print(f"Threads: PyTorch and blocked {options.threads}, reference 1 (NumPy's loops are not threaded)")
    header = ("operation", "implementation", "ms", "times PyTorch's speed", "peak / input", "saved / input", "error")
    print("Peak and saved memory in units of the input; error: the largest of y, dx, dweight, dbias, against float64\n")
    with use_threads(options.threads):
        print(table(header, rows(Arguments.random(SHAPE), options.runs, options.threads)))
    print(
        "\nTraining 16 networks with the layers 64, 32, 32, 10: one after the other with fit, all at once with sweep\n"
    )
    header = ("threads", "norm", "loop, ms", "sweep, ms", "times the loop's speed")
    print(table(header, sweep_rows(max(2, options.runs // 3), {1, options.threads})))


if __name__ == "__main__":
    main()
