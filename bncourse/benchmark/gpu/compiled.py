"""What the compiler makes of the kernels for a GPU, without one: registers, spills, shared memory, width of loads.

``python -m bncourse.benchmark.gpu.compiled`` prints a table for the inputs of the GPU benchmark.

The functions that launch kernels are called as ever, on tensors without memory, in a process of its own, in which
Triton is told that there is a GPU, and every launch ends after the compilation. So this shows the kernels, the tiles
and the numbers of warps that are launched in earnest on a GPU with 132 multiprocessors.
"""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from bncourse import kernels
from bncourse.benchmark.gpu.operations import ADD_RELU, EVALUATION, FORWARD, RELU, RMS, ROW_NORMS, Group, groups
from bncourse.kernels import runtime

MODULE = "bncourse.benchmark.gpu.compiled"
ARCHITECTURES = {80: "A100", 90: "H100, H200"}  # compute capability times ten
REGISTERS, THREADS, PROGRAMS = 65536, 2048, 32  # of a multiprocessor: how many there are
SHARED = {80: 164 * 1024, 90: 228 * 1024}  # bytes of shared memory of a multiprocessor, of which a program takes 1 KiB
DRIVER_SHARED = 1024


@dataclass(frozen=True)
class Compiled:
    """One kernel as one call launches it.

    Attributes:
        norm, operation, shape, dtype, channels_last: the call, in the words of the benchmark.
        kernel: the name of the kernel's function.
        architecture: compute capability of the GPU times ten.
        grid: how many programs there are along each axis.
        num_warps: how many times 32 threads work on a program.
        registers: of a thread.
        spilled: bytes of a thread for which no register was left, or which it indexes; they lie in memory.
        shared: bytes of shared memory of a program.
        loads, stores: from the width in bytes to the number of instructions of that width that access global memory;
            loops count once.
    """

    norm: str
    operation: str
    shape: tuple[int, ...]
    dtype: str
    channels_last: bool
    kernel: str
    architecture: int
    grid: tuple[int, ...]
    num_warps: int
    registers: int
    spilled: int
    shared: int
    loads: dict[int, int]
    stores: dict[int, int]

    @property
    def widest_load(self) -> int:
        """Bytes that a thread loads with one instruction, at most."""
        return max(self.loads, default=0)

    @property
    def widest_store(self) -> int:
        """Bytes that a thread stores with one instruction, at most."""
        return max(self.stores, default=0)

    @property
    def wide_loads(self) -> float:
        """The share of bytes that 16-byte instructions load, where every instruction runs once."""
        return _wide(self.loads)

    @property
    def wide_stores(self) -> float:
        """The share of bytes that 16-byte instructions store, where every instruction runs once."""
        return _wide(self.stores)

    @property
    def side_by_side(self) -> int:
        """How many programs a multiprocessor has room for at a time."""
        threads = 32 * self.num_warps
        registers = threads * -(-self.registers // 8) * 8  # handed out by eights
        shared = SHARED[self.architecture] // (self.shared + DRIVER_SHARED)
        return min(REGISTERS // registers, THREADS // threads, PROGRAMS, shared)


def report(
    architecture: int = 90, wanted: Iterable[Group] | None = None, *, channels_last: bool = False
) -> list[Compiled]:
    """Compile what forward and backward of these inputs launch, in a new process.

    Triton keeps what it has compiled in a folder, which the environment variable ``TRITON_CACHE_DIR`` names.

    Args:
        architecture: compute capability of the GPU times ten: 90 for H100 and H200, 80 for A100.
        wanted: norms, shapes and dtypes; None for those of the GPU benchmark.
        channels_last: whether images have that memory format.

    Raises:
        ValueError: the architecture is none of ``ARCHITECTURES``.
        RuntimeError: something did not compile.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"expected an architecture of {list(ARCHITECTURES)}; got {architecture}; 90 is that of the H100"
        )
    order = [architecture, channels_last, [dataclasses.astuple(group) for group in wanted or groups()]]
    work = [sys.executable, "-c", f"from {MODULE} import work; work()"]
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    done = subprocess.run(work, check=False, input=json.dumps(order), capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"compiling for architecture {architecture} failed:\n{done.stderr[-4000:]}")
    return [_read(fields) for fields in json.loads(done.stdout)]


def _read(fields: dict) -> Compiled:
    """What :func:`work` wrote: JSON has neither tuples nor numbers as keys."""
    widths = {name: {int(width): n for width, n in fields[name].items()} for name in ("loads", "stores")}
    return Compiled(**{**fields, **widths, "shape": tuple(fields["shape"]), "grid": tuple(fields["grid"])})


def _wide(widths: dict[int, int]) -> float:
    total = sum(width * number for width, number in widths.items())
    return 16 * widths.get(16, 0) / total if total else 1.0


# In the new process


def work() -> None:
    """Read an order from the standard input, and write what was compiled to the standard output, both as JSON."""
    architecture, channels_last, listed = json.load(sys.stdin)
    found = []
    for norm, shape, dtype, autotune in listed:
        group = Group(norm, tuple(shape), dtype, autotune)
        for operation in group.operations:
            found += _compile(architecture, group, operation, channels_last)
    json.dump([dataclasses.asdict(compiled) for compiled in found], sys.stdout)


def _compile(architecture: int, group: Group, operation: str, channels_last: bool) -> list[Compiled]:
    """Every kernel that forward or backward of one norm launches."""
    launches = compile_launches(architecture, lambda: _call(group, operation, channels_last))
    given = {"norm": group.norm, "operation": operation, "shape": group.shape, "dtype": group.dtype}
    given |= {"channels_last": channels_last and len(group.shape) == 4, "architecture": architecture}
    return [Compiled(**given, **launch) for launch in launches]


def compile_launches(architecture: int, call: Callable[[], object]) -> list[dict[str, object]]:
    """What ``call()`` would launch: each kernel, compiled but not run; not for a process that interprets."""
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    driver.set_active(_NoGPU(architecture))
    found, run = [], JITFunction.run

    def compile_only(
        kernel: JITFunction, *args: object, grid: tuple[int, ...], warmup: bool, **options: object
    ) -> None:
        compiled = run(kernel, *args, grid=grid, warmup=True, **options)
        launch = {"kernel": kernel.__name__, "grid": grid, "num_warps": compiled.metadata.num_warps}
        found.append(launch | _measured(compiled))

    # check_device then lets tensors pass that are on no GPU
    with patch.object(JITFunction, "run", compile_only), patch.object(runtime, "INTERPRETED", True):
        call()
    return found


class _NoGPU:
    """What Triton asks its driver for before it compiles."""

    def __init__(self, architecture: int) -> None:
        self.architecture = architecture

    def get_current_target(self) -> object:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.architecture, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def _call(group: Group, operation: str, channels_last: bool) -> None:
    """Forward or backward of one norm, on tensors of the right shapes without memory."""
    dtype = getattr(torch, group.dtype)
    x = torch.empty(group.shape, dtype=dtype, device="meta")
    if group.norm in ROW_NORMS:
        _call_row_norm(x, x.new_empty(group.shape[-1]), centered=group.norm != RMS, forward=operation == FORWARD)
        return
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    channels = x.new_empty(group.shape[1], dtype=torch.float32)
    fused = {"residual": x if group.norm == ADD_RELU else None, "relu": group.norm in (RELU, ADD_RELU)}
    given = {"training": group.norm != EVALUATION, **fused}
    if operation == FORWARD:
        kernels.batch_norm_forward(x, *[channels] * 4, momentum=0.1, eps=1e-5, **given)
    else:
        kernels.batch_norm_backward(x, x, *[channels] * 3, bias=channels, **given)


def _call_row_norm(x: Tensor, weight: Tensor, *, centered: bool, forward: bool) -> None:
    rows = x.new_empty(x.shape[:-1], dtype=torch.float32)
    shape = tuple(weight.shape)
    if centered and forward:
        kernels.layer_norm_forward(x, shape, weight, weight, eps=1e-5)
    elif centered:
        kernels.layer_norm_backward(x, x, weight, rows, rows)
    elif forward:
        kernels.rms_norm_forward(x, shape, weight)
    else:
        kernels.rms_norm_backward(x, x, weight, rows)


def _measured(compiled: object) -> dict[str, object]:
    """What stands in the machine code and in PTX, the assembler's source, of a compiled kernel."""
    registers, spilled = _resources(compiled.asm["cubin"])
    ptx = compiled.asm["ptx"]
    return {
        "registers": registers,
        "spilled": spilled,
        "shared": compiled.metadata.shared,
        "loads": dict(_widths("ld", ptx) + _copies(ptx)),
        "stores": dict(_widths("st", ptx)),
    }


def _resources(machine_code: bytes) -> tuple[int, int]:
    """Registers, and bytes in local memory, of a thread."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(machine_code)
        file.flush()
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    numbers = {name: int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK", "LOCAL")}
    return numbers["REG"], numbers["STACK"] + numbers["LOCAL"]


def _widths(instruction: str, ptx: str) -> Counter:
    """How many instructions there are by their width in bytes; ``ld.global.v4.b32`` loads 16."""
    pattern = rf"\b{instruction}\.global(?:\.[\w:]+)*?(?:\.v(\d+))?\.[busf](\d+)\s"
    return Counter(int(vector or 1) * int(bits) // 8 for vector, bits in re.findall(pattern, ptx))


def _copies(ptx: str) -> Counter:
    """The same for copies from global to shared memory that run in the background."""
    pattern = r"\bcp\.async\.c[ag]\.shared\.global[^;]*?\],\s*\[[^\]]*\],\s*(0x[0-9a-f]+|\d+)"
    return Counter(int(width, 0) for width in re.findall(pattern, ptx))


# The table


def table(found: Sequence[Compiled]) -> str:
    """One line a launch: the most bytes an instruction moves, and in brackets the share of bytes moved 16 at a time."""
    head = (
        "norm",
        "shape",
        "dtype",
        "kernel",
        "programs",
        "warps",
        "regs",
        "spilled",
        "shared",
        "loads",
        "stores",
        "per SM",
    )
    lines = [head, *(_cells(compiled) for compiled in found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cells(c: Compiled) -> tuple[str, ...]:
    shape = "×".join(map(str, c.shape)) + (" channels last" if c.channels_last else "")
    programs = "×".join(map(str, c.grid))
    loads = f"{c.widest_load} ({c.wide_loads:.0%})"
    stores = f"{c.widest_store} ({c.wide_stores:.0%})"
    numbers = map(str, (c.num_warps, c.registers, c.spilled, c.shared))
    kernel = c.kernel.removeprefix("_").removesuffix("_kernel")
    return c.norm, shape, c.dtype, kernel, programs, *numbers, loads, stores, str(c.side_by_side)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bncourse.benchmark.gpu.compiled", description=main.__doc__)
    parser.add_argument("--architecture", type=int, choices=ARCHITECTURES, default=90)
    parser.add_argument("--channels-last", action="store_true")
    given = parser.parse_args(arguments)
    print(table(report(given.architecture, channels_last=given.channels_last)))


if __name__ == "__main__":
    main()
