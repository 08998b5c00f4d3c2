"""Kernels of learners are launched safely, watched, and told in words what is no kernel."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import triton
import triton.language as tl

from bncourse.checks import check, interpret, triton_answers
from bncourse.checks.observe import observe
from bncourse.checks.triton_answers import FILL, OUTSIDE, UNDEFINED, launch
from bncourse.kernels import first


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Checks write progress beside the notebook."""
    monkeypatch.chdir(tmp_path)


# Memory


@triton.jit
def copying(x_ptr, y_ptr, N, BLOCK: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    tl.store(y_ptr + lanes, tl.load(x_ptr + lanes, mask=lanes < N), mask=lanes < N + 1)


@triton.jit
def copying_everything(x_ptr, y_ptr, N, BLOCK: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    tl.store(y_ptr + lanes, tl.load(x_ptr + lanes))


@triton.jit
def going_far(x_ptr, y_ptr, N, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * 2**40 - N
    tl.store(y_ptr + place, tl.load(x_ptr + place))
    tl.store(y_ptr, tl.load(x_ptr))


@triton.jit
def adding(x_ptr, y_ptr, N, BLOCK: tl.constexpr):
    tl.atomic_add(y_ptr + tl.arange(0, BLOCK), 1.0)


def run(kernel, block=4, programs=1, dtype=np.float32):
    x, y = np.array([1, 2, 3], dtype), np.full(3, FILL, dtype)
    return launch(kernel, {"x_ptr": x, "y_ptr": y, "N": 2, "BLOCK": block}, (programs,)), y.tolist()


@triton.jit
def copying_one_by_one(x_ptr, y_ptr, N, BLOCK: tl.constexpr):
    for i in range(3):
        tl.store(y_ptr + i, tl.load(x_ptr + i, mask=i < N))


@triton.jit
def copying_one_by_one_or_zero(x_ptr, y_ptr, N, BLOCK: tl.constexpr):
    for i in range(3):
        tl.store(y_ptr + i, tl.load(x_ptr + i, mask=i < N, other=0))


@pytest.mark.parametrize("kernel", [copying, copying_one_by_one])
@pytest.mark.parametrize(("dtype", "held"), [(np.float16, UNDEFINED), (np.float32, UNDEFINED), (np.int64, OUTSIDE)])
def test_masked_lanes_hold_something_else_than_zero_unless_other_is_given(kernel, dtype, held):
    memory, y = run(kernel, dtype=dtype)
    np.testing.assert_equal(y, [1, 2, held])
    assert memory.facts == {"reads_beyond": 0, "writes_beyond": 0}


@triton.jit
def copying_by_descriptor(x_ptr, y_ptr, N, BLOCK: tl.constexpr):
    x = tl.make_tensor_descriptor(x_ptr, [N], [1], [BLOCK]).load([0])
    tl.store(y_ptr + tl.arange(0, BLOCK), x, mask=tl.arange(0, BLOCK) < 3)


def test_masked_lanes_of_a_descriptor_are_defined():
    assert run(copying_by_descriptor)[1] == [1, 2, 0]


def test_other_of_a_single_number_may_be_zero():
    assert run(copying_one_by_one_or_zero)[1] == [1, 2, 0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_reads_and_writes_outside_of_a_tensor_are_measured_and_harmless(dtype):
    memory, y = run(copying_everything, block=8, dtype=dtype)
    assert y == [1, 2, 3] and memory.facts == {"reads_beyond": 5, "writes_beyond": 5}


def test_places_far_away_crash_nothing():
    memory, y = run(going_far, programs=3)
    assert y == [1, FILL, FILL]
    assert memory.facts == {"reads_beyond": triton_answers.FARTHEST, "writes_beyond": triton_answers.FARTHEST}


def test_what_is_read_outside_has_a_known_value():
    x, y = np.ones(3, np.float32), np.zeros(8, np.float32)
    launch(copying_everything, {"x_ptr": x, "y_ptr": y, "N": 2, "BLOCK": 8}, (1,))
    assert y.tolist() == 3 * [1] + 5 * [OUTSIDE]


def test_atomics_are_noticed_and_stay_inside():
    memory, y = run(adding)
    assert memory.atomics and y == 3 * [FILL + 1] and memory.writes_beyond == 1
    assert not run(copying)[0].atomics


def test_the_interpreter_is_left_as_it_was():
    from triton.runtime import interpreter

    builder, patch = interpreter.interpreter_builder, interpreter._patch_lang_tensor
    before = dict(vars(builder))
    run(copying)
    names = {"create_masked_load", "create_masked_store", "create_atomic_rmw", "create_atomic_cas"}
    assert not names & vars(builder).keys() and builder.options == before["options"]
    assert "load" not in vars(interpreter.interpreter_semantic) and interpreter._patch_lang_tensor is patch


# What is no kernel, or none of one's own


def plain(x_ptr, mean_ptr, N, BLOCK):
    pass


@triton.jit
def stub(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    """To be written."""
    raise NotImplementedError()


@triton.jit
def without_constexpr(x_ptr, mean_ptr, N, BLOCK):
    tl.store(mean_ptr, 0.0)


@triton.jit
def without_block(x_ptr, mean_ptr, N):
    tl.store(mean_ptr, 0.0)


@triton.jit
def returning(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    return tl.sum(tl.load(x_ptr + tl.arange(0, BLOCK)))


@triton.jit
def misspelt(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    columns = tl.arrange(0, BLOCK)
    tl.store(mean_ptr + columns, 0.0)


@triton.jit
def helping(x):
    return x.no_such_thing


@triton.jit
def failing_in_a_helper(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    tl.store(mean_ptr, helping(tl.load(x_ptr)))


@triton.jit
def tile_from_start(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = tl.arange(start, start + BLOCK)
        total += tl.sum(tl.load(x_ptr + tl.program_id(0) * N + columns, mask=columns < N, other=0.0).to(tl.float32))
    tl.store(mean_ptr + tl.program_id(0), total / N)


@triton.jit
def tile_of_the_whole_row(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    columns = tl.arange(0, triton.next_power_of_2(int(N)))
    x = tl.load(x_ptr + tl.program_id(0) * N + columns, mask=columns < N, other=0.0)
    tl.store(mean_ptr + tl.program_id(0), tl.sum(x.to(tl.float32)) / N)


@triton.jit
def half_a_tile(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    half = BLOCK // 2
    tl.store(mean_ptr + tl.program_id(0), tl.sum(tl.zeros([half], tl.float32)))


@triton.jit
def a_list_of_loads(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    values = [tl.load(x_ptr + tl.program_id(0) * N + i).to(tl.float32) for i in range(N)]
    tl.store(mean_ptr + tl.program_id(0), sum(values) / N)


@triton.jit
def trying(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    try:
        tl.store(mean_ptr + tl.program_id(0), 0.0)
    except ValueError:
        pass


@triton.jit
def asking_a_tile(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    columns = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + columns)
    if columns >= N:
        x = 0.0
    tl.store(mean_ptr, tl.sum(x, axis=0))


@triton.jit
def joined_by_and(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    columns = tl.arange(0, BLOCK)
    tl.store(mean_ptr + columns, 0.0, mask=(columns < N) and (columns < BLOCK))


@triton.jit
def one_number(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    x = tl.load(x_ptr + tl.program_id(0) * N)
    tl.store(mean_ptr, tl.sum(x, axis=0))


course_kernel = first._first_forward_kernel


@triton.jit
def leaving_it_to_the_course(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    course_kernel(x_ptr, mean_ptr, N, BLOCK)


@triton.jit
def leaving_it_to_a_helper(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    leaving_it_to_the_course(x_ptr, mean_ptr, N, BLOCK)


TOLD = {
    "no line @triton.jit stands above its def": plain,
    "BLOCK has lost its mark": without_constexpr,
    "takes (x_ptr, mean_ptr, N); the exercise takes (x_ptr, mean_ptr, N, BLOCK)": without_block,
    "Your kernel stored nothing.": returning,
    "raised AttributeError: module 'triton.language' has no attribute 'arrange', in your line": misspelt,
    "return x.no_such_thing": failing_in_a_helper,
    "start is not: in tl.arange only numbers and what is tl.constexpr may stand. It is in your line": tile_from_start,
    "N is not: in tl.arange only numbers": tile_of_the_whole_row,
    "half is not: in tl.zeros only numbers": half_a_tile,
    "knows no list comprehensions there": a_list_of_loads,
    "knows no try there": trying,
    ": if columns >= N:": asking_a_tile,
    "(a) & (b) is true where both are": joined_by_and,
    "tl.store(mean_ptr, tl.sum(x, axis=0)). What is added up here is one number, not a tile.": one_number,
    "Pass the kernel itself, without [...]": stub[(4,)],
    "Expected a function below @triton.jit alone, got a type": int,
    "Pass it without parentheses": np.zeros(3),
    "_first_forward_kernel of bncourse.kernels.first, the course's own work": leaving_it_to_the_course,
    "_first_forward_kernel of bncourse.kernels.first, the course's own": leaving_it_to_a_helper,
}


@pytest.mark.parametrize("says", TOLD)
def test_what_is_no_answer_is_told_in_words(says):
    report = check("long_row_mean_kernel", TOLD[says], seed=1)
    assert report.verdict == "incorrect" and says in report.message, report


def test_a_stub_is_not_attempted():
    report = check("long_row_mean_kernel", stub, seed=1)
    assert (report.verdict, report.details) == ("not attempted", "")


@triton.jit
def in_other_names(rows, result, length, SIZE: tl.constexpr):
    total = 0.0
    for i in range(length):
        total += tl.load(rows + tl.program_id(0) * length + i).to(tl.float32)
    tl.store(result + tl.program_id(0), total / length)


@triton.jit
def endless(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    n = 0
    while n < N:
        tl.store(mean_ptr, tl.sum(tl.load(x_ptr + tl.arange(0, BLOCK))))


def test_an_endless_kernel_is_stopped_and_the_next_one_runs(monkeypatch):
    monkeypatch.setattr(observe, "__defaults__", (1.0,))
    report = check("long_row_mean_kernel", endless, seed=1)
    assert "The calls of your kernel took longer than 1 seconds" in report.message
    monkeypatch.undo()
    assert check("long_row_mean_kernel", in_other_names, seed=1).verdict == "correct"


@triton.jit
def mean_without_mask(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + tl.program_id(0) * N + columns).to(tl.float32)
        total += tl.sum(tl.where(columns < N, x, 0.0))
    tl.store(mean_ptr + tl.program_id(0), total / N)


def test_reads_outside_are_told_although_the_numbers_are_right():
    report = check("long_row_mean_kernel", mean_without_mask, seed=1)
    assert report.mistakes == ("K24",)
    assert "A lane reads outside of its tensor, 2 places away." in report.message


# Turning the interpreter on


def test_a_missing_triton_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(triton_answers.NoTriton, match="not installed here") as raised:
        interpret()
    assert raised.value._render_traceback_() == [str(raised.value)] and "\n" not in str(raised.value)


SCRIPT = """
import os
os.environ.pop("TRITON_INTERPRET", None)
import {module}
from bncourse.checks import interpret
interpret()
import triton.language as tl
print(type(tl.sum).__name__)
"""


@pytest.mark.parametrize(("module", "says"), [("sys", "InterpretedFunction"), ("triton", "was imported before")])
def test_the_interpreter_has_to_be_turned_on_before_triton_is_imported(module, says):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(module=module)], check=False, capture_output=True, text=True
    )
    assert says in done.stdout + done.stderr


# What is told of kernels that nobody knows


@triton.jit
def second_row_forgotten(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for i in range(N):
        total += tl.load(x_ptr + row * N + i).to(tl.float32)
    tl.store(mean_ptr + row, tl.where(row == 1, 0.0, total / N))


@triton.jit
def first_row_without_a_number(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    tl.store(mean_ptr + row, tl.where(row == 0, float("nan"), 2.0))


@triton.jit
def one_place_too_far(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = row.to(tl.int64) * stride + columns + row // 4
    tl.store(offset_ptr + row * N + columns, offset, mask=columns < N)


def test_a_kernel_is_not_asked_for_its_return():
    assert "mean is all 0 in row 1 (counted from 0).\n" in check("long_row_mean_kernel", second_row_forgotten).message


def test_nan_may_come_from_a_masked_lane():
    assert "or a masked lane holds nothing" in check("long_row_mean_kernel", first_row_without_a_number).message


def test_numbers_that_look_alike_are_told_in_full():
    message = check("row_offsets_kernel", one_place_too_far, seed=1).message
    assert "offset[4, 0] is 4294967297, expected 4294967296." in message


@triton.jit
def without_other(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * N + columns, mask=columns < N).to(tl.float32)
    mean = tl.sum(x) / N
    centered = tl.where(columns < N, x - mean, 0.0)
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, tl.sum(centered * centered) / N)


def test_of_mean_and_variance_the_mean_is_spoken_of_first():
    report = check("masked_mean_kernel", without_other, seed=1)
    assert report.mistakes == ("K23",) and "The first that does not: the means are right." in report.message
