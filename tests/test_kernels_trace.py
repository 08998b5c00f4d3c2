"""A trace records each load and store of a kernel, and changes nothing else."""

import time

import numpy as np
import pytest
import torch
import traced_kernels as kernels
from triton.runtime import interpreter

from bncourse.kernels import trace as module
from bncourse.kernels.trace import Access, Trace, trace


def copied(x: torch.Tensor, y: torch.Tensor, block: int = 8) -> Trace:
    return trace(lambda: kernels.copy_kernel[(-(-x.numel() // block),)](x, y, x.numel(), BLOCK=block))


def summed_columns(x: torch.Tensor, y: torch.Tensor, block: tuple[int, int]) -> Trace:
    rows, columns = x.shape
    grid = (-(-columns // block[1]),)
    return trace(lambda: kernels.columns_kernel[grid](x, y, rows, columns, x.stride(0), *block))


def where(access: Access) -> tuple:
    return access.program, access.kind, access.tensor, access.offsets.tolist(), access.lanes


def test_each_load_and_store_is_recorded_once_in_order():
    x, y = torch.randn(11), torch.zeros(11)
    seen = copied(x, y)
    assert [where(access) for access in seen.accesses] == [
        ((0, 0, 0), "load", "x", list(range(8)), 8),
        ((0, 0, 0), "store", "y", list(range(8)), 8),
        ((1, 0, 0), "load", "x", [8, 9, 10], 8),
        ((1, 0, 0), "store", "y", [8, 9, 10], 8),
    ]
    assert {access.kernel for access in seen.accesses} == {"copy_kernel"}
    assert torch.equal(y, x)
    assert seen.launches == ["copy_kernel"] and seen.tensors == ["x", "y"]


def test_accesses_without_a_mask_are_recorded_once():
    x, y = torch.randn(4), torch.zeros(4)
    seen = trace(lambda: kernels.shifted_copy_kernel[(1,)](x, y, 0, BLOCK=4))
    assert [where(a)[1:] for a in seen.accesses] == [
        ("load", "x", [0, 1, 2, 3], 4),
        ("store", "y", [0, 1, 2, 3], 4),
    ]
    assert torch.equal(y, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int8])
def test_bytes_are_elements_times_the_size_of_one(dtype):
    seen = copied(torch.ones(11, dtype=dtype), torch.ones(11, dtype=dtype))
    size = torch.ones(0, dtype=dtype).element_size()
    assert (seen.elements(), seen.elements("x"), seen.elements("x", "load"), seen.elements("x", "store")) == (
        22, 11, 11, 0,
    )  # fmt: skip
    assert (seen.bytes(), seen.bytes("y"), seen.bytes(kind="load")) == (22 * size, 11 * size, 11 * size)
    assert seen.wasted_lanes == pytest.approx(10 / 32)


def test_tiles_keep_their_shape_and_what_is_masked():
    x, y = torch.randn(3, 5), torch.zeros(5)
    first, second, _ = summed_columns(x, y, (2, 8)).accesses
    np.testing.assert_array_equal(first.tile, np.arange(2)[:, None] * 5 + np.arange(8))
    np.testing.assert_array_equal(first.mask, np.ones((2, 1), bool) & (np.arange(8) < 5))
    np.testing.assert_array_equal(second.mask, np.array([[True], [False]]) & (np.arange(8) < 5))
    assert first.offsets.tolist() == list(range(10))
    torch.testing.assert_close(y, x.sum(0))


def test_a_trace_is_filtered_by_kernel_program_tensor_and_kind():
    x, y, z = torch.randn(16), torch.zeros(16), torch.zeros(16)

    def call():
        kernels.copy_kernel[(2,)](x, y, 16, BLOCK=8)
        kernels.shifted_copy_kernel[(1,)](y, z, 0, BLOCK=16)
        kernels.copy_kernel[(2,)](z, x, 16, BLOCK=8)

    seen = trace(call)
    assert seen.launches == ["copy_kernel", "shifted_copy_kernel", "copy_kernel"]
    assert [access.launch for access in seen.accesses] == [0] * 4 + [1] * 2 + [2] * 4
    assert len(seen.of(kernel="copy_kernel").accesses) == 8
    assert seen.of(kernel="copy_kernel").launches == ["copy_kernel"] * 2
    assert {a.program for a in seen.of(program=1).accesses} == {(1, 0, 0)}
    assert seen.of(program=1).accesses == seen.of(program=(1, 0, 0)).accesses
    assert len(seen.of(kernel="shifted_copy_kernel", program=0, tensor="y", kind="store").accesses) == 1


@pytest.mark.parametrize("wrong", [{"kernel": "copy"}, {"tensor": "x_ptr"}])
def test_a_name_that_is_not_there_is_an_error_with_the_names_that_are(wrong):
    seen = copied(torch.ones(3), torch.ones(3))
    with pytest.raises(ValueError, match="copy_kernel; got 'copy'|x, y, outside; got 'x_ptr'"):
        seen.of(**wrong)


def test_a_tensor_that_is_an_argument_twice_is_told_apart_by_the_argument():
    x = torch.arange(6.0)
    seen = copied(x, x)
    assert [(a.kind, a.tensor) for a in seen.accesses] == [("load", "x"), ("store", "y")]


def test_offsets_of_views_count_from_their_own_first_element():
    both = torch.arange(20.0).reshape(2, 10)
    seen = copied(both[0], both[1])
    assert seen.of(tensor="y").accesses[0].offsets.tolist() == list(range(8))
    assert not seen.outside.accesses
    assert both[1].tolist() == list(range(10))
    x, y = torch.randn(4, 10)[:, 3:7], torch.zeros(4)
    seen = summed_columns(x, y, (4, 4))
    assert seen.accesses[0].offsets.tolist() == [10 * row + column for row in range(4) for column in range(4)]
    assert seen.accesses[0].size == 3 * 10 + 4
    torch.testing.assert_close(y, x.sum(0))


@pytest.mark.parametrize(("shift", "foreign"), [(3, [6, 7, 8, 9, 10]), (-2, [-2, -1]), (2**31 - 4, None)])
def test_accesses_outside_of_a_tensor_say_so_and_touch_no_memory(shift, foreign):
    memory = torch.arange(64.0)
    x, y = memory[:6].clone(), memory[40:46].clone()
    seen = trace(lambda: kernels.shifted_copy_kernel[(1,)](x, y, shift, BLOCK=8))
    load, store = seen.outside.accesses
    assert (load.tensor, store.tensor) == ("x", "y")
    offsets = np.arange(8, dtype=np.int32) + np.int32(shift)  # 32 bits, as in the kernel
    expected = foreign or offsets.tolist()
    assert load.outside.tolist() == store.outside.tolist() == expected
    assert load.offsets.size == load.lanes == 8
    assert torch.equal(x, memory[:6])
    inside = [i for i in range(6) if i in offsets]
    assert [y[i] for i in inside] == [x[i] for i in inside]
    assert torch.equal(
        y[[i for i in range(6) if i not in inside]], memory[[i + 40 for i in range(6) if i not in inside]]
    )


def test_an_access_beyond_a_view_is_outside_but_happens():
    whole, y = torch.arange(16.0), torch.zeros(16)
    seen = trace(lambda: kernels.shifted_copy_kernel[(1,)](whole[4:8], y[4:8], -4, BLOCK=16))
    assert seen.accesses[0].outside.tolist() == [-4, -3, -2, -1, 4, 5, 6, 7, 8, 9, 10, 11]
    assert torch.equal(y, whole)


def test_an_address_that_comes_from_no_argument_is_outside():
    x = torch.ones(2)
    load, store = trace(lambda: kernels.null_kernel[(1,)](x)).accesses
    assert (load.tensor, load.outside.tolist(), store.tensor) == ("outside", [64, 64], "x")
    assert x.tolist() == [0, 0]


def test_an_empty_tensor_has_nothing_inside():
    seen = trace(lambda: kernels.shifted_copy_kernel[(1,)](torch.empty(3, 0), torch.zeros(2), 0, BLOCK=2))
    assert [(a.tensor, a.outside.tolist()) for a in seen.outside.accesses] == [("x", [0, 1])]


def test_atomics_are_a_kind_of_their_own():
    total, lock = torch.zeros(1), torch.zeros(1, dtype=torch.int32)
    seen = trace(lambda: kernels.count_kernel[(1, 2, 3)](total, lock))
    assert [a.program for a in seen.of(tensor="total").accesses] == [(0, y, z) for y in range(2) for z in range(3)]
    assert {a.kind for a in seen.accesses} == {"atomic"}
    assert seen.elements("program_of", "atomic") == 6
    assert (total.item(), lock.item()) == (6, 1)


def test_what_goes_through_descriptors_is_recorded():
    x, y = torch.randn(3, 4), torch.zeros(3, 4)
    seen = trace(lambda: kernels.descriptor_kernel[(1,)](x, y, 3, 4, BLOCK=4))
    assert [where(a)[1:] for a in seen.accesses] == [
        ("load", "x", list(range(12)), 16),
        ("store", "y", list(range(12)), 16),
    ]
    assert torch.equal(y, x)


def test_a_tile_of_pointers_into_two_tensors_is_two_accesses():
    a, b, y = torch.arange(8.0), -torch.arange(8.0), torch.zeros(8)
    seen = trace(lambda: kernels.pair_kernel[(1,)]((a, b), y, BLOCK=8))
    assert [where(access)[1:] for access in seen.accesses] == [
        ("load", "pair[0]", [0, 2, 4, 6], 4),
        ("load", "pair[1]", [1, 3, 5, 7], 4),
        ("store", "y", list(range(8)), 8),
    ]
    assert y.tolist() == [0, -1, 2, -3, 4, -5, 6, -7]


def test_sectors_are_few_where_neighbours_are_read_together():
    x, y = torch.randn(16, 32), torch.zeros(32)
    together = summed_columns(x, y, (16, 32)).sectors("x")
    apart = summed_columns(x, y, (16, 1)).sectors("x")
    assert together == x.numel() * 4 / 32
    assert apart == x.numel(), "a sector for each element"
    half = x.to(torch.bfloat16)
    assert summed_columns(half, y, (16, 32)).sectors("x") == x.numel() * 2 / 32


def test_sectors_begin_at_multiples_of_32_bytes_of_memory():
    aligned = torch.zeros(32)
    aligned = aligned[-aligned.data_ptr() // 4 % 8 :]  # torch starts arrays at such a multiple
    assert copied(aligned[:8], torch.zeros(8)).sectors("x") == 1
    assert copied(aligned[4:12], torch.zeros(8)).sectors("x") == 2


def test_only_the_call_is_traced():
    before = {name: getattr(interpreter, name) for name in ("_implicit_cvt", "interpreter_builder")}
    prepare = interpreter.GridExecutor._init_args_hst
    copied(torch.ones(3), torch.ones(3))
    with pytest.raises(interpreter.InterpreterError, match="no_such_attribute"):
        trace(lambda: kernels.broken_kernel[(1,)](torch.ones(3)))
    assert before == {name: getattr(interpreter, name) for name in before}
    assert interpreter.GridExecutor._init_args_hst is prepare
    assert not {name for name in vars(interpreter.interpreter_builder) if name.startswith("create")}
    y = torch.zeros(3)
    kernels.copy_kernel[(1,)](torch.ones(3), y, 3, BLOCK=4)
    assert y.tolist() == [1, 1, 1]


def test_a_call_without_kernels_leaves_an_empty_trace():
    seen = trace(lambda: torch.ones(3) + 1)
    assert (seen.accesses, seen.launches, seen.elements(), seen.wasted_lanes) == ([], [], 0, 0)


def test_a_trace_within_a_trace_is_an_error():
    with pytest.raises(RuntimeError, match="one trace at a time"):
        trace(lambda: copied(torch.ones(3), torch.ones(3)))


def test_compiled_kernels_cannot_be_traced(monkeypatch):
    monkeypatch.setattr(module, "INTERPRETED", False)
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET=1 before triton"):
        trace(lambda: pytest.fail("it was called"))


def test_a_trace_of_a_hundred_programs_takes_no_second():
    x, y = torch.randn(100 * 256), torch.zeros(100 * 256)
    start = time.perf_counter()
    seen = copied(x, y, 256)
    assert time.perf_counter() - start < 1
    assert len(seen.accesses) == 200
