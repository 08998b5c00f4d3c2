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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_masked_lanes_hold_something_else_than_zero_unless_other_is_given(dtype):
    memory, y = run(copying, dtype=dtype)
    assert y == [1, 2, UNDEFINED] and memory.facts == {"reads_beyond": 0, "writes_beyond": 0}


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
    from triton.runtime.interpreter import interpreter_builder as builder

    before = dict(vars(builder))
    run(copying)
    names = {"create_masked_load", "create_masked_store", "create_atomic_rmw", "create_atomic_cas"}
    assert not names & vars(builder).keys() and builder.options == before["options"]


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


course_kernel = first._row_mean_kernel


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
    "Expected a function below @triton.jit alone, got a type": int,
    "Pass it without parentheses": np.zeros(3),
    "_row_mean_kernel of bncourse.kernels.first, the course's own work": leaving_it_to_the_course,
    "_row_mean_kernel of bncourse.kernels.first, the course's own": leaving_it_to_a_helper,
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
