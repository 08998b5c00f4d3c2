"""Measuring, group after group, so that a run that was interrupted goes on where it ended.

Only what gives right results is measured: see :data:`bncourse.benchmark.gpu.inputs.TOLERANCE`.
"""

import datetime
import hashlib
import importlib.metadata
import importlib.util
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from bncourse import provenance
from bncourse.benchmark.gpu import candidates as who
from bncourse.benchmark.gpu.candidates import Candidate
from bncourse.benchmark.gpu.inputs import LARGE_MEAN, STATISTICS, TOLERANCE, Inputs, exact, largest_error
from bncourse.benchmark.gpu.operations import BACKWARD, FORWARD, ITEMSIZE, PROGRAMS, Group, traffic
from bncourse.benchmark.gpu.record import KIND, Result, partial, path, read, save
from bncourse.benchmark.gpu.timing import Device, in_a_row, interleave
from bncourse.benchmark.timing import Spread, Timing

COPIES = ("copy of the compulsory bytes", "copy of the streaming bytes")
BASELINES = (who.EAGER, who.COMPILED, who.AUTOTUNED)
SAME = ("kind", "device", "driver", "versions", "commit", "code", "runs")  # of two runs that go on with each other
WARMUP = 10  # rounds before those that are timed; they take longer than triton.testing.do_bench's 25 ms
CALLS = 100  # in a row
NAME = 100  # characters of a kernel's name; some list all their types
PEAK_SIZE = 8192  # rows and columns of the matrices whose product is the peak
PEAK_BYTES = 2**30  # of the array whose copy is the peak
MODULES = ("operations", "inputs", "candidates", "timing", "device", "record", "run")
CODE = ("kernels/*.py", "benchmark/timing.py", *(f"benchmark/gpu/{name}.py" for name in MODULES))


def run(
    device: Device,
    groups: Sequence[Group],
    *,
    seconds: float,
    runs: int,
    command: str,
    fresh: bool = False,
    folder: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
    report: Callable[[dict], None] = lambda group: None,
) -> tuple[Path, list[Group]]:
    """Measure every group that the record does not have, and save the record after each.

    Until it has all groups, it is saved beside the one of an earlier run, which it then replaces; see
    :func:`bncourse.benchmark.gpu.record.partial`.

    No group is begun that would, if it took as long as the longest of its kind so far, end after ``seconds``; one is
    always measured, so that every run gets on. ``report`` is given each group as it is recorded.

    Returns:
        where this run's record is, and the groups that it does not have.
    """
    start, longest = clock(), {True: 0.0, False: 0.0}  # with and without max-autotune
    fields = beginning(device, runs, command)
    file = path(fields["device"], folder)
    fields |= {} if fresh else _earlier(file, fields)
    done = {(g["norm"], tuple(g["shape"]), g["dtype"]) for g in fields["groups"]}
    missing = [group for group in groups if (group.norm, group.shape, group.dtype) not in done]
    for count, group in enumerate(list(missing)):
        began = clock()
        if count and began - start + longest[group.autotune] > seconds:
            break
        fields["peaks"] = fields["peaks"] or peaks(device)
        found = measure(group, device, runs=runs, programs=fields["multiprocessors"])
        took = clock() - began
        longest[group.autotune] = max(longest[group.autotune], took)
        fields["groups"].append(found | {"seconds": took})
        save(fields, partial(file))
        missing.remove(group)
        report(fields["groups"][-1])
    if missing:
        return partial(file), missing
    if partial(file).exists() and _same(read(partial(file)), fields):  # it may be of another run, which may yet go on
        partial(file).replace(file)
    return file, []


def _earlier(file: Path, fields: dict) -> dict:
    """What an earlier run of the same measured: the one that is to go on, or else the whole one."""
    for before in (read(each) for each in (partial(file), file) if each.exists()):
        if _same(before, fields):
            return {"groups": before["groups"], "peaks": before["peaks"]}
    return {}


def _same(before: dict, fields: dict) -> bool:
    return all(before.get(name) == fields[name] for name in SAME)


def beginning(device: Device, runs: int, command: str) -> dict:
    """The record before anything was measured."""
    described = device.describe()
    if importlib.util.find_spec("liger_kernel"):
        described["versions"]["liger_kernel"] = importlib.metadata.version("liger_kernel")
    return (
        {"kind": KIND}
        | described
        | {
            "host": provenance.machine(),
            "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "command": command,
            "commit": provenance.commit(),
            "code": code(),
            "runs": runs,
            "peaks": None,
            "groups": [],
        }
    )


def code() -> str:
    """A fingerprint of what is measured and of what measures it: a commit does not know of later changes."""
    here = Path(provenance.__file__).parent
    files = [file for pattern in CODE for file in sorted(here.glob(pattern))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def peaks(device: Device, *, size: int = PEAK_SIZE, copied: int = PEAK_BYTES) -> dict[str, float]:
    """Billions of operations per second in a float32 matrix product, and of bytes in a copy, read and written."""
    a, b = torch.randn(2, size, size, device=device.name)
    calls = {"matmul": lambda: a @ b, "copy": _copy(2 * copied, "float32", device)}  # source and target
    found = {name: timing.spread.median for name, timing in interleave(calls, device, runs=10, warmup=3).items()}
    return {"gflops": 2e-9 * size**3 / found["matmul"], "copy_gb_per_s": 2e-9 * copied / found["copy"]}


def measure(group: Group, device: Device, *, runs: int, programs: int = PROGRAMS, compiler: str = "inductor") -> dict:
    """One group, as it stands in the record; ``failed`` has who did not run or gave wrong results, and why."""
    torch.compiler.reset()  # or what was compiled for another shape counts towards the limit of recompiling
    results, copies = [], {}
    with torch.no_grad():
        inputs = Inputs.random(group, device.name)
        built, errors, failed = _build(group, inputs, device, compiler)
        for operation in group.operations:
            calls = {
                name: _call(candidate, operation, _given(name, inputs))
                for name, candidate in built.items()
                if operation in candidate.operations
            }
            timings, copies[operation] = _time(group, operation, calls, device, runs, programs)
            rows = in_a_row(calls, device, calls=CALLS) if group.small and calls else {}
            kernels = {name: [kernel[:NAME] for kernel in found] for name, found in device.kernels(calls).items()}
            for name, call in calls.items():
                about = {"kernels": kernels.get(name), "peak_bytes": device.peak_bytes(call)}
                about |= errors[name, operation] | {"plan": built[name].plans.get(operation)}
                times = _times(name, timings) | _times_in_a_row(name, rows)
                results.append(Result(name=name, operation=operation, **times, **about).fields())
    described = {"norm": group.norm, "shape": list(group.shape), "dtype": group.dtype}
    return described | {"results": results, "copies": copies, "failed": failed, "clocks": device.clocks()}


class Wrong(Exception):
    """Results that are too far off to be worth a time."""


def _build(
    group: Group, inputs: Inputs, device: Device, compiler: str
) -> tuple[dict[str, Candidate], dict[tuple[str, str], dict[str, float]], dict[str, str]]:
    """The candidates that run and are right, with their errors by name and operation; and the others, with why."""
    trials = {"error": inputs.apart(), "error_large_mean": Inputs.random(group, device.name, mean=LARGE_MEAN, seed=1)}
    wanted = {which: exact(group, trial) for which, trial in trials.items()}
    built, errors, failed = {}, {}, {}
    for name, make in who.makers(group, inputs, compiler=compiler).items():
        try:
            candidate = make()
            found = {(name, what): {} for what in candidate.operations}
            for operation in candidate.operations:
                for which, trial in trials.items():
                    off = _errors(name, candidate, operation, _given(name, trial), wanted[which])
                    _check(off, group.dtype if which == "error" else None)
                    found[name, operation][which] = off[operation]
            built[name] = candidate
            errors |= found
        except Exception as error:  # noqa: BLE001 - the others are still to be measured
            failed[name] = f"{type(error).__name__}: {error}"[:300]
    return built, errors, failed


def _check(errors: dict[str, float], dtype: str | None) -> None:
    """Raise Wrong where one is above its limit. Without a dtype it must be finite: at a large mean, how large it is tells
    good algorithms from bad ones, and stands in the record. Statistics are in float32 whatever x is.
    """
    for what, error in errors.items():
        which = "float32" if what == STATISTICS else dtype
        limit = sys.float_info.max if dtype is None else TOLERANCE[which]
        if not error <= limit:  # as NaN is not
            mean = "at a large mean" if dtype is None else f"more than {limit:.1e}"
            raise Wrong(f"{what} off by {error:.1e} of the largest value, {mean}")


def _given(name: str, inputs: Inputs) -> Inputs:
    """In the layout that a candidate is for."""
    return inputs.channels_last if name in who.CHANNELS_LAST else inputs


def _call(candidate: Candidate, operation: str, inputs: Inputs) -> Callable[[], object]:
    """One operation alone: what the backward pass needs is there."""
    if operation == FORWARD:
        return lambda: candidate.forward(inputs)
    _, saved = candidate.forward(inputs)
    return lambda: candidate.backward(inputs, saved)


def _errors(
    name: str, candidate: Candidate, operation: str, inputs: Inputs, wanted: dict[str, tuple[Tensor, ...]]
) -> dict[str, float]:
    """How far off the results are and, after the forward pass of ours, the statistics.

    Memory that is free holds no old result, so that all of a new one must be written. What torch.compile has made is
    called without the filling of new memory, since it would compile again for that.
    """
    inputs = inputs.apart()
    with nullcontext() if name in who.MODES else _new_memory_is_nan():
        call = _call(candidate, operation, inputs)
        poison = [torch.full_like(inputs.x, math.nan) for _ in range(3)]
        del poison
        results = call()
    if operation == BACKWARD:
        return {operation: largest_error(results, wanted[operation])}
    y, saved = results
    found = {operation: largest_error((y,), wanted[operation])}
    if candidate.statistics is not None:
        found[STATISTICS] = largest_error(candidate.statistics(inputs, saved), wanted[STATISTICS])
    return found


@contextmanager
def _new_memory_is_nan() -> Iterator[None]:
    """PyTorch fills what ``torch.empty`` returns while it is asked for deterministic algorithms."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an operation has no such algorithm
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _time(
    group: Group, operation: str, calls: dict[str, Callable[[], object]], device: Device, runs: int, programs: int
) -> tuple[dict[str, Timing], list[dict]]:
    """All candidates, and the copies of as many bytes, in the same rounds."""
    sizes = traffic(group, operation, programs)
    copies = {name: _copy(size, group.dtype, device) for name, size in zip(COPIES, sizes, strict=True)}
    timings = interleave(calls | copies, device, runs=runs, warmup=WARMUP)
    described = [
        {"bytes": size, "microseconds": asdict(_microseconds(timings[name]))}
        for name, size in zip(COPIES, sizes, strict=True)
    ]
    return timings, described


def _copy(size: int, dtype: str, device: Device) -> Callable[[], object]:
    """A copy that reads and writes so many bytes together."""
    values = max(1, round(size / (2 * ITEMSIZE[dtype])))
    x = torch.randn(values, device=device.name).to(getattr(torch, dtype))
    y = torch.empty_like(x)
    return lambda: y.copy_(x)


def _times(name: str, timings: dict[str, Timing]) -> dict:
    """The time of a candidate, and how it compares with copies and PyTorch in the same rounds."""
    timing = timings[name]
    f_comp, f_stream = (timing.speed(timings[copy]) for copy in COPIES)
    return {
        "microseconds": _microseconds(timing),
        "f_comp": f_comp,
        "f_stream": f_stream,
        "times": {other: timing.speed(timings[other]) for other in BASELINES if other in timings},
    }


def _times_in_a_row(name: str, timings: dict[str, Timing]) -> dict:
    """The same of calls in a row, where they were timed."""
    if name not in timings:
        return {}
    times = {other: timings[name].speed(timings[other]) for other in BASELINES if other in timings}
    return {"in_a_row": _microseconds(timings[name]), "times_in_a_row": times}


def _microseconds(timing: Timing) -> Spread:
    spread = timing.spread
    return Spread(1e6 * spread.median, 1e6 * spread.low, 1e6 * spread.high)
