"""Time, memory and accuracy of the implementations beside PyTorch: ``python -m bncourse.benchmark``."""

import argparse
import platform
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bncourse import provenance, reference
from bncourse.benchmark.memory import peak_bytes, saved_bytes
from bncourse.benchmark.timing import Timing, interleave

SHAPE = (64, 64, 32, 32)
REFERENCE, PYTORCH = "reference", "PyTorch"
Calls = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Arguments:
    """What every implementation is given."""

    x: np.ndarray
    dy: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    running_mean: np.ndarray
    running_var: np.ndarray

    @classmethod
    def random(cls, shape: tuple[int, ...], dtype: str, seed: int = 0) -> "Arguments":
        rng = np.random.default_rng(seed)
        x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        weight, bias, running_mean = (rng.standard_normal(shape[1]).astype(dtype) for _ in range(3))
        return cls(x, dy, weight, bias, running_mean, rng.uniform(0.5, 2, shape[1]).astype(dtype))

    def astype(self, dtype: str) -> "Arguments":
        return Arguments(*(array.astype(dtype) for array in vars(self).values()))


def reference_calls(a: Arguments) -> Calls:
    """Training forward, and forward and backward, of the NumPy reference."""
    running = a.running_mean.copy(), a.running_var.copy()

    def forward():
        return reference.batch_norm_forward(a.x, a.weight, a.bias, *running)

    def forward_backward():
        y, cache = forward()
        return y, *reference.batch_norm_backward(a.dy, cache)

    return {"forward": forward, "forward + backward": forward_backward}


def torch_calls(a: Arguments, batch_norm: Callable) -> Calls:
    """The same with a function of PyTorch's signature; ``autograd.grad`` returns gradients without adding them up."""
    import torch

    x, weight, bias = (torch.from_numpy(array).requires_grad_() for array in (a.x, a.weight, a.bias))
    dy = torch.from_numpy(a.dy)
    running = [torch.from_numpy(array.copy()) for array in (a.running_mean, a.running_var)]

    def forward():
        return batch_norm(x, *running, weight, bias, training=True)

    def forward_backward():
        y = forward()
        return y, *torch.autograd.grad(y, (x, weight, bias), dy)

    return {"forward": forward, "forward + backward": forward_backward}


def largest_error(results: tuple, exact: tuple) -> float:
    """The largest error of y, dx, dweight and dbias, each relative to its largest value."""
    pairs = [[np.asarray(array, dtype=np.float64) for array in pair] for pair in zip(results, exact, strict=True)]
    return max(float(np.max(np.abs(got - wanted)) / np.max(np.abs(wanted))) for got, wanted in pairs)


def as_arrays(results: tuple) -> tuple[np.ndarray, ...]:
    """NumPy arrays, of arrays and of tensors."""
    return tuple(result if isinstance(result, np.ndarray) else result.detach().numpy() for result in results)


def implementations(a: Arguments) -> dict[str, Calls]:
    """What is compared, by name."""
    import torch

    from bncourse import functional
    from bncourse.benchmark import composed

    return {
        REFERENCE: reference_calls(a),
        "composed": torch_calls(a, composed.batch_norm),
        "functional": torch_calls(a, functional.batch_norm),
        PYTORCH: torch_calls(a, torch.nn.functional.batch_norm),
    }


def rows(a: Arguments, runs: int) -> list[tuple[str, ...]]:
    """The lines of the table: what was done, by whom, and how well."""
    candidates = implementations(a)
    exact = as_arrays(implementations(a.astype("float64"))[PYTORCH]["forward + backward"]())
    lines = []
    for what in ("forward", "forward + backward"):
        timings = interleave({name: calls[what] for name, calls in candidates.items()}, runs=runs)
        for name, calls in candidates.items():
            error = largest_error(as_arrays(calls["forward + backward"]()), exact)
            memory = memory_of(name, calls, what, a.x.nbytes)
            lines.append((what, name, *describe(timings[name], timings[PYTORCH]), *memory, f"{error:.0e}"))
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


def memory_of(name: str, calls: Calls, what: str, input_bytes: int) -> tuple[str, str]:
    """The peak, which is seen of NumPy alone, and what autograd saves; in units of the input."""
    if name == REFERENCE:
        return f"{peak_bytes(calls[what]) / input_bytes:.1f}", "-"
    return "not seen", f"{saved_bytes(calls['forward']) / input_bytes:.3f}"


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
        "--threads", type=int, default=provenance.cores(), help="PyTorch's threads; NumPy always uses one"
    )
    options = parser.parse_args()

    import torch

    torch.set_num_threads(options.threads)
    print(f"Batch norm in training, {SHAPE} float32, median of {options.runs} runs (20th to 80th percentile)")
    print(
        f"{provenance.machine()}; Python {platform.python_version()}, NumPy {np.__version__}, PyTorch {torch.__version__}"
    )
    print(f"Threads: PyTorch {torch.get_num_threads()}, reference 1 (NumPy's loops are not threaded)")
    header = ("operation", "implementation", "ms", "times PyTorch's speed", "peak / input", "saved / input", "error")
    print("Peak and saved memory in units of the input; error: the largest of y, dx, dweight, dbias, against float64\n")
    print(table(header, rows(Arguments.random(SHAPE, "float32"), options.runs)))
    print(
        "\nTraining 16 networks with the layers 64, 32, 32, 10: one after the other with fit, all at once with sweep\n"
    )
    header = ("threads", "norm", "loop, ms", "sweep, ms", "times the loop's speed")
    print(table(header, sweep_rows(max(2, options.runs // 3), {1, options.threads})))


if __name__ == "__main__":
    main()
