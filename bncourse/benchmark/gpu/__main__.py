"""Batch norm, layer norm and RMS norm on this GPU, beside PyTorch, torch.compile and Liger: ``python -m bncourse.benchmark.gpu``.

It saves ``book/results/<device>.partial.json`` after each group of measurements. The first call compiles, which takes
most of its time, and may end before all is measured. Called again, with the same code and versions, it goes on with the
groups that are missing. When none is, the record becomes ``book/results/<device>.json``; an earlier one stays until
then. Run it on a GPU that does nothing else.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence

from bncourse.benchmark.gpu import candidates as who
from bncourse.benchmark.gpu.operations import groups
from bncourse.benchmark.gpu.record import Record, Result, load
from bncourse.benchmark.gpu.targets import targets
from bncourse.benchmark.gpu.timing import backend
from bncourse.benchmark.tables import table

HEADER = (
    "operation", "implementation", "µs (20th to 80th percentile)", "F_comp", "F_stream", "× eager", "× compile",
    "in a row, µs", "× eager", "launches, by", "error", "error, mean 1000 σ", "peak, MB",
)  # fmt: skip
EXPLANATION = """\
F_comp: a copy that moves the compulsory bytes takes this share of the time; F_stream: one that moves what an algorithm
without on-chip memory must move. × eager, × compile: times their speed. error: the largest, relative to the largest
value, against float64. All medians of calls in turn, each with a cold cache, but for those of small inputs "in a row":
many calls one after the other, by the host's clock."""


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="python -m bncourse.benchmark.gpu", description=__doc__.replace("``", ""))
    parser.add_argument("--seconds", type=float, default=480, help="no group is begun that would end later")
    parser.add_argument("--runs", type=int, default=50, help="timed rounds, in which the candidates take turns")
    parser.add_argument("--fresh", action="store_true", help="measure everything anew")
    options = parser.parse_args(arguments)
    if options.runs < 2:
        parser.error("--runs must be at least 2, for a spread")
    import torch

    if not torch.cuda.is_available():
        built = "" if torch.version.cuda else f"; this PyTorch, {torch.__version__}, is built without CUDA"
        sys.exit(f"No CUDA device: the kernels are measured on a GPU only{built}")
    _measure(options, shlex.join(["python", "-m", "bncourse.benchmark.gpu", *arguments]))


def _measure(options: argparse.Namespace, command: str) -> None:
    from bncourse import kernels  # before anything else imports triton
    from bncourse.benchmark.gpu.device import Cuda
    from bncourse.benchmark.gpu.run import run

    if kernels.INTERPRETED:
        sys.exit("TRITON_INTERPRET is set, so the kernels would run on the CPU: unset it")
    device = Cuda()
    print(device.describe(), EXPLANATION, sep="\n", flush=True)
    try:
        file, missing = run(
            device,
            groups(),
            seconds=options.seconds,
            runs=options.runs,
            command=command,
            fresh=options.fresh,
            report=lambda group: print(describe(group), flush=True),
        )
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. What was finished is recorded; the same command goes on")
    print(f"\nThe record is {file}\n" + summary(load(file)))
    if missing:
        print(f"\nThe time is up. The same command measures what is missing, {len(missing)} groups:")
        print("\n".join(f"  {group.key}" for group in missing))


def describe(group: dict) -> str:
    """A group of the record as a table."""
    lines = [_line(Result.of(fields)) for fields in group["results"]]
    failed = [f"{name} is not measured: {why}" for name, why in group["failed"].items()]
    title = f"\n{group['norm']}, {tuple(group['shape'])}, {group['dtype']}; {group['seconds']:.0f} s"
    return "\n".join([title, table(HEADER, lines), *failed])


def _line(r: Result) -> tuple[str, ...]:
    times = [f"{r.times[name].median:.2f}" if name in r.times else "-" for name in (who.EAGER, who.COMPILED)]
    in_a_row = "-" if r.in_a_row is None else f"{r.in_a_row.median:.1f}"
    eager = r.times_in_a_row.get(who.EAGER)
    launched = "not seen" if r.kernels is None else f"{r.launches}, {backend(r.kernels)}"
    return (
        r.operation,
        r.name if r.plan in (None, who.SPLIT_PLAN) else f"{r.name} ({r.plan})",
        f"{r.microseconds.median:.1f} ({r.microseconds.low:.1f} to {r.microseconds.high:.1f})",
        f"{r.f_comp.median:.3f}",
        f"{r.f_stream.median:.3f}",
        *times,
        in_a_row,
        "-" if eager is None else f"{eager.median:.2f}",
        launched,
        f"{r.error:.0e}",
        f"{r.error_large_mean:.0e}",
        f"{1e-6 * r.peak_bytes:.1f}",
    )


def summary(record: Record) -> str:
    """The targets, and what was reached."""
    return "Targets\n" + "\n".join(f"  {target}" for target in targets(record))


if __name__ == "__main__":
    main()
