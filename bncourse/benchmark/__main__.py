"""Time, memory and accuracy of the implementations beside PyTorch: ``python -m bncourse.benchmark``."""

import argparse
import platform
import sys
from collections.abc import Sequence

import numpy as np

from bncourse import provenance
from bncourse.benchmark import peers
from bncourse.benchmark.arrays import SHAPE, Arguments, as_arrays, largest_error
from bncourse.benchmark.machine import let_waiting_threads_sleep, use_threads
from bncourse.benchmark.memory import peak_bytes, saved_bytes
from bncourse.benchmark.tables import table
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


def main(arguments: Sequence[str] | None = None) -> None:
    """On a machine with CUDA the GPU's benchmark, which has options of its own; else, or if asked for, the CPU's."""
    arguments = sys.argv[1:] if arguments is None else arguments
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--device", choices=("cpu", "cuda"), help="cuda where there is one, unless given")
    chosen, others = chooser.parse_known_args(arguments)
    let_waiting_threads_sleep()
    import torch

    if (chosen.device or ("cuda" if torch.cuda.is_available() else "cpu")) == "cuda":
        from bncourse.benchmark.gpu.__main__ import main as measure_gpu

        measure_gpu(others)
    else:
        parser = argparse.ArgumentParser(prog="python -m bncourse.benchmark", description=__doc__, parents=[chooser])
        parser.add_argument("--runs", type=int, default=15, help="timed rounds, in which the candidates take turns")
        parser.add_argument(
            "--threads", type=int, default=provenance.cores(), help="of PyTorch and of blocked; the reference uses one"
        )
        compare_on_cpu(parser.parse_args(others))


def compare_on_cpu(options: argparse.Namespace) -> None:
    """Print the tables of the implementations for CPUs."""
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
