"""What each norm costs beside batch norm, in time and in memory: ``python -m bncourse.benchmark.costs``.

It writes ``book/results/norm_costs.json``. All norms of a layout take turns in one run, on one core, and what counts are
ratios. The clock is the processor's, so that what else the machine does counts little.
"""

import argparse
import datetime
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from bncourse import functional, provenance
from bncourse.benchmark.memory import keep_freed_memory, saved_bytes
from bncourse.benchmark.timing import Spread, Timing, interleave

FILE = provenance.RESULTS / "norm_costs.json"
LAYOUTS = {"images": (32, 64, 32, 32), "tokens": (4096, 256)}  # (N, C, H, W); and features of all tokens, (N · T, D)
GROUPS = 8
IMPLEMENTATIONS = {"PyTorch": F, "course": functional}
OPERATIONS = ("forward", "forward + backward", "evaluation")
COPY = "copy"  # reads every value once and writes it once, as every norm must
BASELINE = "batch norm"

Norm = Callable[[Tensor, Tensor, Tensor, bool], Tensor]  # of x, weight, bias, and whether it is training


@dataclass(frozen=True)
class Cost:
    """What a norm costs in one operation."""

    layout: str  # one of LAYOUTS
    implementation: str  # one of IMPLEMENTATIONS
    operation: str  # one of OPERATIONS
    norm: str
    milliseconds: Spread
    times_batch_norm: Spread  # the time as a multiple of batch norm's, in the same implementation and the same round
    times_copy: Spread  # and of a copy's
    saved: float  # what autograd keeps for the backward pass, as a multiple of the input


class Costs:
    """The record: ``costs["tokens", "PyTorch", "forward", "layer norm"].times_batch_norm.median``."""

    def __init__(self, fields: dict) -> None:
        self.fields = fields
        spreads = ("milliseconds", "times_batch_norm", "times_copy")
        rows = [row | {name: Spread(**row[name]) for name in spreads} for row in fields["costs"]]
        self._costs = {(r["layout"], r["implementation"], r["operation"], r["norm"]): Cost(**r) for r in rows}

    def __getitem__(self, key: tuple[str, str, str, str]) -> Cost:
        return self._costs[key]

    def norms(self, layout: str) -> list[str]:
        """Those that were measured with a layout, batch norm first."""
        return list(dict.fromkeys(norm for where, _, _, norm in self._costs if where == layout))


def load(file: Path | None = None) -> Costs:
    """The recorded costs."""
    return Costs(json.loads((file or FILE).read_text(encoding="utf-8")))


def norms(layout: str, module: object) -> dict[str, Norm]:
    """The norms of a layout, as ``module`` has them, by name; with weight and bias, if the norm has one."""
    channels = LAYOUTS[layout][1]
    running = torch.zeros(channels), torch.ones(channels)

    def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, training: bool) -> Tensor:
        return module.batch_norm(x, *running, weight, bias, training)

    def group_norm(groups: int, x: Tensor, weight: Tensor, bias: Tensor, training: bool) -> Tensor:
        return module.group_norm(x, groups, weight, bias)

    def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, training: bool) -> Tensor:
        return module.instance_norm(x, weight=weight, bias=bias)

    def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, training: bool) -> Tensor:
        return module.layer_norm(x, (channels,), weight, bias)

    def rms_norm(x: Tensor, weight: Tensor, bias: Tensor, training: bool) -> Tensor:
        return module.rms_norm(x, (channels,), weight)

    found = {BASELINE: batch_norm, "group norm": partial(group_norm, GROUPS)}
    if layout == "images":  # layer norm is then over all channels and positions
        return found | {"layer norm": partial(group_norm, 1), "instance norm": instance_norm}
    return found | {"layer norm": layer_norm, "RMS norm": rms_norm}


def calls(norm: Norm, shape: Sequence[int]) -> dict[str, Callable[[], object]]:
    """What is timed, by operation."""
    draws = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(*shape, generator=draws).requires_grad_() for _ in range(2))
    weight, bias = (torch.randn(shape[1], generator=draws).requires_grad_() for _ in range(2))

    def forward() -> Tensor:
        return norm(x, weight, bias, True)

    def forward_backward() -> object:
        y = forward()
        return y, torch.autograd.grad(y, (x, weight, bias), dy.detach(), allow_unused=True)  # RMS norm has no bias

    @torch.no_grad()
    def evaluation() -> Tensor:
        return norm(x, weight, bias, False)

    return dict(zip(OPERATIONS, (forward, forward_backward, evaluation), strict=True))


def measure(layout: str, implementation: str, runs: int, shape: Sequence[int] | None = None) -> list[Cost]:
    """The cost of every norm of a layout in every operation; ``shape`` takes the place of the layout's."""
    shape = tuple(shape or LAYOUTS[layout])
    x = torch.randn(*shape)
    by_norm = {name: calls(norm, shape) for name, norm in norms(layout, IMPLEMENTATIONS[implementation]).items()}
    saved = {name: saved_bytes(operations["forward"]) / x.nbytes for name, operations in by_norm.items()}
    found = []
    for operation in OPERATIONS:
        candidates = {name: operations[operation] for name, operations in by_norm.items()}
        timings = interleave(candidates | {COPY: x.clone}, runs=runs, clock=time.process_time)
        for name in candidates:
            spreads = _milliseconds(timings[name]), _times(timings, name, BASELINE), _times(timings, name, COPY)
            found.append(Cost(layout, implementation, operation, name, *spreads, saved[name]))
    return found


def _milliseconds(timing: Timing) -> Spread:
    return Spread.of(tuple(1e3 * seconds for seconds in timing.seconds))


def _times(timings: dict[str, Timing], name: str, baseline: str) -> Spread:
    """How many times as long as the baseline, round by round."""
    return timings[baseline].speed(timings[name])


def record(runs: int, command: str, file: Path | None = None) -> None:
    """Measure everything on one core, and write the record."""
    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [c for layout in LAYOUTS for name in IMPLEMENTATIONS for c in measure(layout, name, runs)]
    finally:
        torch.set_num_threads(before)
    fields = {
        "shapes": LAYOUTS,
        "dtype": "float32",
        "threads": 1,
        "runs": runs,
        "costs": [_rounded(asdict(cost)) for cost in found],
        "machine": provenance.machine(),
        "date": datetime.date.today().isoformat(),
        "versions": provenance.versions(["numpy", "torch"]),
        "command": command,
        "commit": provenance.commit(),
    }
    (file or FILE).write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


def _rounded(value: object) -> object:
    """Numbers with four significant digits."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m bncourse.benchmark.costs", description=__doc__.replace("``", ""))
    parser.add_argument("--runs", type=int, default=25, help="timed rounds, in which the norms take turns")
    options = parser.parse_args(arguments)
    record(options.runs, shlex.join(["python", "-m", "bncourse.benchmark.costs", *arguments]))
    print(f"The record is {FILE}")


if __name__ == "__main__":
    main()
