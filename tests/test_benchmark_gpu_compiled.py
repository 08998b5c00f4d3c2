"""The kernels, compiled for GPUs that need not be there: nothing spills, and loads are wide."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import triton

from bncourse.benchmark.gpu import compiled
from bncourse.benchmark.gpu.compiled import Compiled
from bncourse.benchmark.gpu.operations import (
    BACKWARD,
    EVALUATION,
    FORWARD,
    IMAGES,
    LAYER,
    ROW_NORMS,
    TOKENS,
    Group,
    groups,
)

# Small inputs and evaluation run the same kernels; those of float16 differ from bfloat16's in the conversion only.
LARGE = [g for g in groups() if g.shape in (*IMAGES, *TOKENS) and g.dtype != "float16" and g.norm != EVALUATION]
WANTED = {90: LARGE, 80: [g for g in LARGE if g.shape not in IMAGES[1:3]]}  # those are like IMAGES[0]
KERNELS = {
    "_batch_norm_statistics_kernel",
    "_batch_norm_normalize_kernel",
    "_batch_norm_resident_forward_kernel",
    "_batch_norm_gradient_sums_kernel",
    "_batch_norm_input_gradient_kernel",
    "_batch_norm_resident_backward_kernel",
    "_row_norm_forward_kernel",
    "_row_norm_backward_kernel",
    "_row_norm_sum_kernel",
}


SUMS = {"_batch_norm_statistics_kernel", "_batch_norm_gradient_sums_kernel"}  # they store a few numbers a channel
# Of a thread, in bytes: on an A100, two numbers where 64 registers a thread let two programs run side by side.
SPILLED = {(80, "_row_norm_forward_kernel"): 8}
ITEMSIZE = {"float32": 4, "bfloat16": 2}


@pytest.mark.parametrize("architecture", WANTED)
def test_kernels_are_compiled_well(architecture, tmp_path, monkeypatch):
    """One test for an architecture, since compiling takes most of the time."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    report = compiled.report(architecture, WANTED[architecture])
    assert {c.kernel for c in report} == KERNELS
    inputs = {(c.norm, c.shape, c.dtype, c.operation) for c in report}
    assert inputs == {(g.norm, g.shape, g.dtype, o) for g in WANTED[architecture] for o in g.operations}
    assert_none("spills", [c for c in report if c.spilled > SPILLED.get((architecture, c.kernel), 0)])
    assert_none("fits on no multiprocessor", [c for c in report if c.side_by_side < 1])
    large = [c for c in report if c.kernel != "_row_norm_sum_kernel"]  # which handles a small share of the bytes
    rows, images = ([c for c in large if (c.norm in ROW_NORMS) == wanted] for wanted in (True, False))
    assert_none("loads or stores rows narrowly", [c for c in rows if min(c.wide_loads, c.wide_stores) < 0.75])
    # While one program waits for its row, another computes. In the backward pass, a program loads a row ahead.
    assert_none("fills a multiprocessor", [c for c in rows if c.operation == FORWARD and c.side_by_side < 2])
    assert_none("waits for others", [c for c in rows if c.operation == BACKWARD and c.side_by_side * 132 < c.grid[0]])
    # Planes of 7 · 7 values start anywhere. Weights and statistics of each column are read one by one.
    aligned = [c for c in images if math.prod(c.shape[2:]) * ITEMSIZE[c.dtype] % 16 == 0]
    assert len(aligned) > len(images) / 2
    narrow = [c for c in aligned if c.widest_load < 16 or (c.widest_store < 16 and c.kernel not in SUMS)]
    assert_none("loads or stores images narrowly", narrow)


def assert_none(what, found):
    assert not found, f"{what}:\n{compiled.table(found)}"


def test_every_choice_of_optional_arguments_compiles(tmp_path):
    """The interpreter takes more than the compiler does."""
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    program = Path(__file__).with_name("compiled_options.py")
    done = subprocess.run([sys.executable, program], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 100


# How the report is made


def test_loads_are_counted_by_their_width():
    ptx = """
        ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];
        @%p1 ld.global.L1::evict_last.L2::cache_hint.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ], %rd9;
        ld.global.nc.b16 { %rs1 }, [ %rd2 + 0 ];
        ld.shared.v4.b32 {%r5, %r6, %r7, %r8}, [%r9];
        ld.param.b64 %rd1, [kernel_param_0];
        st.global.v2.b64 [ %rd1 + 0 ], { %rd2, %rd3 };
        st.global.b32 [ %rd1 + 0 ], { %r1 };
        cp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x10, 0x10;
        cp.async.ca.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x4, %r3;
    """
    assert compiled._widths("ld", ptx) == {16: 2, 2: 1}
    assert compiled._widths("st", ptx) == {16: 1, 4: 1}
    assert compiled._copies(ptx) == {16: 1, 4: 1}


SPILLING = """
.version 8.0
.target sm_90
.address_size 64
.visible .entry kernel(.param .u64 .ptr .global out) {
    .local .align 4 .b8 depot[256];
    .reg .b64 %rd<3>; .reg .b32 %r<4>;
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, %tid.x;
    and.b32 %r2, %r1, 252;
    cvt.u64.u32 %rd0, %r2;
    mov.u64 %rd2, depot;
    add.u64 %rd2, %rd2, %rd0;
    st.local.u32 [%rd2], %r1;
    ld.local.u32 %r3, [depot+128];
    st.global.u32 [%rd1], %r3;
    ret;
}
"""


def test_bytes_in_local_memory_are_found(tmp_path):
    """Here those of an array that is indexed with what only a thread knows."""
    source, cubin = tmp_path / "kernel.ptx", tmp_path / "kernel.cubin"
    source.write_text(SPILLING)
    assembler = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    subprocess.run([assembler, "-arch=sm_90", source, "-o", cubin], check=True)
    registers, spilled = compiled._resources(cubin.read_bytes())
    assert 0 < registers < 64 and spilled == 256


EXAMPLE = Compiled(
    norm=LAYER,
    operation=FORWARD,
    shape=(4096, 1024),
    dtype="float32",
    channels_last=False,
    kernel="_row_norm_forward_kernel",
    architecture=90,
    grid=(1024,),
    num_warps=4,
    registers=61,
    spilled=0,
    shared=64,
    loads={16: 6, 4: 8},
    stores={4: 3},
)


def test_widths_are_summed_up():
    assert (EXAMPLE.widest_load, EXAMPLE.wide_loads) == (16, 0.75)
    assert (EXAMPLE.widest_store, EXAMPLE.wide_stores) == (4, 0)


@pytest.mark.parametrize(
    ("limited_by", "change", "programs"),
    [
        ("registers", {}, 8),  # 65536 / (128 · 64)
        ("threads", {"registers": 16, "num_warps": 16}, 4),
        ("programs", {"registers": 16, "num_warps": 1}, 32),
        ("shared memory", {"shared": 99 * 1024}, 2),
    ],
)
def test_what_limits_programs_side_by_side(limited_by, change, programs):
    assert replace(EXAMPLE, **change).side_by_side == programs


def test_the_table_has_a_line_for_each_launch(monkeypatch, capsys):
    monkeypatch.setattr(compiled, "report", lambda architecture, channels_last: [EXAMPLE] * (1 + channels_last))
    compiled.main(["--architecture", "80", "--channels-last"])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["norm", "shape", "dtype", "kernel"]
    cells = "layer norm 4096×1024 float32 row_norm_forward 1024 4 61 0 64 16 (75%) 4 (0%) 8"
    assert [" ".join(line.split()) for line in lines] == [cells] * 2


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match=r"architecture of \[80, 90\]; got 70"):
        compiled.report(70)


def test_what_does_not_compile_says_why():
    with pytest.raises(RuntimeError, match=r"(?s)architecture 90 failed.*at most 16384 values"):
        compiled.report(90, [Group(LAYER, (4, 20000), "float32")])
