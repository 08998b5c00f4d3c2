"""Blocked batch norm: the shared table however the input is cut, its buffers, its threads, its memory, its accuracy."""

import multiprocessing
import threading
import time

import numpy as np
import pytest
from cases import CASES, LAYOUTS, assert_matches, lay_out
from hypothesis import given
from hypothesis import strategies as st

from bncourse import blocked, reference
from bncourse.benchmark.memory import peak_bytes

BATCH_NORM = [case for case in CASES if case.op == "batch_norm"]
by_name = pytest.mark.parametrize("case", BATCH_NORM, ids=lambda case: case.name)
# How the inputs of the table are cut: whole, into samples, and into channels of samples.
by_cut = pytest.mark.parametrize("block_bytes", [2**21, 200, 1], ids=lambda size: f"{size}-bytes")
SHAPE = (64, 64, 32, 32)


@pytest.fixture
def small_blocks(monkeypatch):
    """A function that makes blocks, rows and runs so short that small inputs have many of them."""

    def cut(block_bytes: int) -> None:
        monkeypatch.setattr(blocked, "BLOCK_BYTES", block_bytes)
        monkeypatch.setattr(blocked, "MOST_SAMPLES", 2 if block_bytes < 2**21 else 256)
        monkeypatch.setattr(blocked, "LONGEST_RUN", 6 if block_bytes < 2**21 else 1024)
        monkeypatch.setattr(blocked, "FEWEST_SHARES", 3 if block_bytes < 2**21 else 16)
        monkeypatch.setattr(blocked, "LONGEST_COPIES", 10 if block_bytes < 2**21 else 4096)
        monkeypatch.setattr(blocked, "SHORTEST_ROW", 8 if block_bytes == 200 else 32)

    return cut


def forward(case, arrays, **options):
    x, _, weight, bias, running_mean, running_var = arrays
    settings = {"training": case.training, "momentum": case.momentum, "eps": case.eps}
    return blocked.batch_norm_forward(x, weight, bias, running_mean, running_var, **settings, **options)


def random_arrays(shape, dtype=np.float32, mean=0.5):
    """x, dy, weight and bias."""
    rng = np.random.default_rng(0)
    x, dy = (mean + 2 * rng.standard_normal(shape)).astype(dtype), rng.standard_normal(shape).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[1])).astype(dtype)
    return x, dy, weight, bias


# The table


@by_cut
@pytest.mark.parametrize("threads", [1, 3])
@by_name
def test_forward_matches_the_textbook(case, threads, block_bytes, small_blocks):
    small_blocks(block_bytes)
    arrays = case.arrays()
    y, _ = forward(case, arrays, threads=threads)
    assert_matches(case, y=y, running_mean=arrays.running_mean, running_var=arrays.running_var)


@by_cut
@pytest.mark.parametrize("threads", [1, 3])
@by_name
def test_backward_matches_autograd(case, threads, block_bytes, small_blocks):
    small_blocks(block_bytes)
    arrays = case.arrays()
    _, cache = forward(case, arrays, threads=threads)
    dx, dweight, dbias = blocked.batch_norm_backward(arrays.dy, cache)
    assert_matches(case, dx=dx, dweight=dweight, dbias=dbias)


@by_name
def test_arguments_stay_as_they_were(case):
    arrays, before = case.arrays(), case.arrays()
    _, cache = forward(case, arrays)
    blocked.batch_norm_backward(arrays.dy, cache)
    kept = ["x", "dy", "weight", "bias"] + ([] if case.training else ["running_mean", "running_var"])
    for name in kept:
        np.testing.assert_array_equal(getattr(arrays, name), getattr(before, name), err_msg=name)


@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 9), st.integers(1, 40)),
    threads=st.integers(1, 4),
    block_bytes=st.integers(1, 3000),
)
def test_every_value_is_in_exactly_one_block(shape, threads, block_bytes):
    before, blocked.BLOCK_BYTES = blocked.BLOCK_BYTES, block_bytes
    try:
        plan = blocked.Plan.of(np.zeros(shape, np.float32), threads)
        blocks = plan.blocks()
    finally:
        blocked.BLOCK_BYTES = before
    visits = np.zeros(shape, int)
    for block in blocks:
        visits[block] += 1
        assert visits[block].shape[:2] <= (plan.samples, plan.channels)
    assert np.all(visits == 1)
    one_row = shape[2] * 4
    assert max(visits[block].size * 4 for block in blocks) <= max(block_bytes, one_row)


# Buffers


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("mean", [0.5, 1e3])
def test_out_is_filled_and_returned(training, dtype, mean):
    x, dy, weight, bias = random_arrays((6, 5, 7, 3), dtype, mean)
    running = np.full(5, mean), np.full(5, 4.0)
    out, target = (np.full_like(x, np.nan) for _ in range(2))
    expected, cache = blocked.batch_norm_forward(x, weight, bias, *running, training=training, momentum=0)
    y, _ = blocked.batch_norm_forward(x, weight, bias, *running, training=training, momentum=0, out=out)
    dx, *_ = blocked.batch_norm_backward(dy, cache, out=target)
    assert y is out
    assert dx is target
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(dx, blocked.batch_norm_backward(dy, cache)[0])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mean", [0.5, 1e3])
def test_dx_may_take_the_place_of_dy(training, mean):
    x, dy, weight, bias = random_arrays((6, 5, 7, 3), mean=mean)
    running = np.full(5, mean), np.full(5, 4.0)
    _, cache = blocked.batch_norm_forward(x, weight, bias, *running, training=training)
    expected = blocked.batch_norm_backward(dy, cache)
    results = blocked.batch_norm_backward(dy, cache, out=dy)
    assert results[0] is dy
    for got, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_results_are_c_contiguous_whatever_the_input(layout):
    x, dy, weight, bias = random_arrays((6, 5, 7, 3))
    y, cache = blocked.batch_norm_forward(lay_out(x, layout), weight, bias)
    dx, *_ = blocked.batch_norm_backward(lay_out(dy, layout), cache)
    assert y.flags.c_contiguous
    assert dx.flags.c_contiguous


def test_the_cache_holds_the_input_itself():
    x, _, weight, bias = random_arrays((6, 5, 7, 3))
    _, cache = blocked.batch_norm_forward(x, weight, bias)
    assert cache.x is x


# Threads


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_as_many_threads_work_as_are_asked_for(threads, monkeypatch):
    """Everyone waits at the first block until all are there."""
    monkeypatch.setattr(blocked, "BLOCK_BYTES", 4 * 5 * 21)
    everyone = threading.Barrier(threads, timeout=20)
    seen = set()

    def work(block, scratch):
        if threading.get_ident() not in seen:
            seen.add(threading.get_ident())
            everyone.wait()

    blocked.Plan.of(np.zeros((16, 5, 7, 3), np.float32), threads).run(work)
    assert len(seen) == threads
    assert threading.get_ident() in seen


def test_a_failure_in_a_thread_is_raised(monkeypatch):
    monkeypatch.setattr(blocked, "BLOCK_BYTES", 4 * 5 * 21)
    here, met = threading.get_ident(), threading.Barrier(2, timeout=20)

    def work(block, scratch):
        if block[0].start < 2:
            met.wait()
        if threading.get_ident() != here:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        blocked.Plan.of(np.zeros((16, 5, 7, 3), np.float32), 2).run(work)


def test_after_a_failure_in_this_thread_nobody_begins_another_block(monkeypatch):
    monkeypatch.setattr(blocked, "BLOCK_BYTES", 4 * 5 * 21)
    here, met, done = threading.get_ident(), threading.Barrier(2, timeout=20), []

    def work(block, scratch):
        if not done:
            met.wait()
        if threading.get_ident() == here:
            raise KeyboardInterrupt
        time.sleep(0.1)
        done.append(block)

    with pytest.raises(KeyboardInterrupt):
        blocked.Plan.of(np.zeros((16, 5, 7, 3), np.float32), 2).run(work)
    assert len(done) == 1  # the block that the other thread was in; it has ended
    time.sleep(0.3)
    assert len(done) == 1


def test_a_call_does_not_wait_for_threads_that_have_not_begun(monkeypatch):
    """Helpers are busy with another caller's blocks."""
    monkeypatch.setattr(blocked, "BLOCK_BYTES", 4 * 5 * 21)
    release, x = threading.Event(), np.zeros((16, 5, 7, 3), np.float32)
    busy = blocked._pool(1).submit(release.wait, 20)
    visited = []
    blocked.Plan.of(x, 2).run(lambda block, scratch: visited.append(block))
    assert not busy.done()
    assert len(visited) == 16
    release.set()


def test_a_failure_leaves_running_statistics_alone(monkeypatch):
    def fail(plan, cache, y):
        raise MemoryError

    monkeypatch.setattr(blocked, "_normalize", fail)
    x, _, weight, bias = random_arrays((6, 5, 7))
    running = np.full(5, 2.0), np.full(5, 3.0)
    with pytest.raises(MemoryError):
        blocked.batch_norm_forward(x, weight, bias, *running)
    np.testing.assert_array_equal(running, [[2.0] * 5, [3.0] * 5])


def in_a_child(results):
    results.put(blocked.batch_norm_forward(random_arrays((64, 4, 16, 16))[0], threads=2)[0])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs a system that can fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(blocked, "BLOCK_BYTES", 4 * 1024 * 4)
    x = random_arrays((64, 4, 16, 16))[0]
    expected, _ = blocked.batch_norm_forward(x, threads=2)  # starts the threads of this process
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=in_a_child, args=(results,), daemon=True)
    child.start()
    np.testing.assert_array_equal(results.get(timeout=60), expected)
    child.join()


def test_all_cores_work_if_nothing_is_said(monkeypatch):
    monkeypatch.setattr(blocked, "cores", lambda: 5)
    x, dy, *_ = random_arrays((6, 5, 7))
    _, cache = blocked.batch_norm_forward(x)
    assert cache.threads == 5
    asked = []
    of = blocked.Plan.of
    monkeypatch.setattr(blocked.Plan, "of", lambda x, threads: asked.append(threads) or of(x, threads))
    blocked.batch_norm_backward(dy, cache)
    blocked.batch_norm_backward(dy, cache, threads=2)
    assert asked == [5, 2]


# Memory, accuracy, speed


@pytest.mark.parametrize(("shape", "mean", "threads"), [(SHAPE, 0.5, 16), (SHAPE, 1e3, 2), ((2, 512, 32, 32), 0.5, 2)])
def test_beside_the_results_memory_for_half_an_input_is_enough(shape, mean, threads):
    x, dy, weight, bias = random_arrays(shape, mean=mean)

    def call():
        y, cache = blocked.batch_norm_forward(x, weight, bias, threads=threads)
        return y, blocked.batch_norm_backward(dy, cache)

    assert (peak_bytes(call) - 2 * x.nbytes) / x.nbytes <= 0.5


def test_with_short_rows_the_sums_take_little_memory():
    x = random_arrays((8192, 128))[0]
    assert (peak_bytes(lambda: blocked.batch_norm_forward(x, threads=2)) - x.nbytes) / x.nbytes <= 0.5


@pytest.mark.parametrize("mean", [0, 1, 2, 3.9, 5, 11, 100, 1e4])
def test_errors_are_those_of_a_few_roundings(mean):
    """Also right below and right above the mean from which values are shifted, at 4 with a spread of 2."""
    arrays = random_arrays((32, 16, 32, 32), mean=mean)
    x, dy, weight, bias = arrays
    y, cache = blocked.batch_norm_forward(x, weight, bias)
    results = y, *blocked.batch_norm_backward(dy, cache)
    x, dy, weight, bias = (array.astype(np.float64) for array in arrays)
    y, cache = reference.batch_norm_forward(x, weight, bias)
    for got, exact in zip(results, (y, *reference.batch_norm_backward(dy, cache)), strict=True):
        assert np.max(np.abs(got - exact)) / np.max(np.abs(exact)) <= 5e-7


def test_products_that_overflow_float32_are_added_up_again():
    x, dy, weight, bias = random_arrays((8, 3, 5, 5))
    x, dy = x * np.float32(1e25), dy * np.float32(1e25)
    _, cache = blocked.batch_norm_forward(x, weight, bias)
    results = blocked.batch_norm_backward(dy, cache)
    x, dy, weight, bias = (array.astype(np.float64) for array in (x, dy, weight, bias))
    _, cache = reference.batch_norm_forward(x, weight, bias)
    for got, exact in zip(results, reference.batch_norm_backward(dy, cache), strict=True):
        assert np.max(np.abs(got - exact)) / np.max(np.abs(exact)) <= 1e-6


def test_no_variance_is_negative():
    x = np.broadcast_to(np.random.default_rng(0).standard_normal(500), (77, 500)).astype(np.float32)
    running_mean, running_var = np.zeros(500), np.zeros(500)
    blocked.batch_norm_forward(x, None, None, running_mean, running_var, momentum=1.0)
    assert np.all(running_var >= 0)
    assert np.all(running_var < 1e-12)


def test_blocks_are_at_least_twice_as_fast_as_the_reference():
    """Time of the processor, the best of several calls: 2.5 times or more on a machine with nothing else to do."""
    x, dy, weight, bias = random_arrays((32, 64, 32, 32))

    def seconds(module, **options):
        start = time.process_time()
        _, cache = module.batch_norm_forward(x, weight, bias, **options)
        module.batch_norm_backward(dy, cache)
        return time.process_time() - start

    assert min(seconds(reference) for _ in range(9)) >= 2 * min(seconds(blocked, threads=1) for _ in range(9))
