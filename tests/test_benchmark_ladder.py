"""The steps of chapter 8: that all compute batch norm, and that each moves what is written beside it."""

import inspect

import numpy as np
import pytest
from counted_passes import Ledger, counted

from bncourse.benchmark import ladder
from bncourse.benchmark.arrays import Arguments, largest_error
from bncourse.benchmark.memory import page_faults, peak_bytes
from bncourse.benchmark.peers import exact_results
from bncourse.benchmark.traffic import CACHE, LEVELS, MEMORY, arrays_moved

SHAPE = (16, 3, 8, 16)
A = Arguments.random(SHAPE)
EXACT_Y, *EXACT_GRADIENTS = exact_results(A)
LARGE = Arguments.random((16, 8, 32, 32))


def test_every_forward_step_is_batch_norm():
    for step in ladder.forward_steps(A, 2):
        y, *_ = step.call()
        assert largest_error((y,), (EXACT_Y,)) < 1e-6, step.name


def test_every_forward_step_returns_the_statistics():
    mean, var = A.x.mean((0, 2, 3), dtype=np.float64), A.x.var((0, 2, 3), dtype=np.float64)
    for step in ladder.forward_steps(A, 2):
        if not step.name.startswith(ladder.BLOCKED):
            _, *statistics = step.call()
            assert largest_error(tuple(statistics), (mean, 1 / np.sqrt(var + 1e-5))) < 1e-6, step.name


def test_every_backward_step_gives_the_gradients():
    for step in ladder.backward_steps(A, 2):
        assert largest_error(step.call(), tuple(EXACT_GRADIENTS)) < 1e-6, step.name


def test_relu_is_the_same_in_the_block_and_afterwards():
    alone, afterwards, inside = (step.call for step in ladder.relu_steps(A))  # all write into one array
    assert alone()[0].min() < 0
    for call in (afterwards, lambda: inside()[0]):
        assert largest_error((call(),), (np.maximum(EXACT_Y, 0),)) < 1e-6


def test_every_step_leaves_its_input_alone():
    before = [array.copy() for array in vars(A).values()]
    for step in [*ladder.forward_steps(A, 2), *ladder.backward_steps(A, 2), *ladder.relu_steps(A)]:
        step.call()
    for array, was in zip(vars(A).values(), before, strict=True):
        np.testing.assert_array_equal(array, was)


@pytest.mark.parametrize("block_bytes", [1, A.x[0].nbytes, 3 * A.x[0].nbytes, 10**9])
def test_blocks_of_any_size_hold_every_sample_once(block_bytes):
    blocks = ladder.blocks_of(A.x, block_bytes)
    np.testing.assert_array_equal(np.concatenate([A.x[b] for b in blocks]), A.x)
    assert max(A.x[b].nbytes for b in blocks) <= max(block_bytes, A.x[0].nbytes)
    y, *_ = ladder.by_blocks(A.x, A.weight, A.bias, np.empty_like(A.x), block_bytes=block_bytes)
    assert largest_error((y,), (EXACT_Y,)) < 1e-6


# Passes


def moved(step, *, block_bytes: int) -> dict[str, float]:
    """What a step reads and writes, in inputs, by level."""
    ledger = Ledger(small=A.x[0].nbytes // 2, block_bytes=block_bytes)
    given = [counted(a, ledger) if isinstance(a, np.ndarray) and a.ndim == 4 else a for a in step.call.args]
    out = {name: counted(a, ledger) for name, a in step.call.keywords.items()}
    step.call.func(*given, **out)
    return {level: ledger.moved[level] / A.x.nbytes for level in LEVELS}


@pytest.mark.parametrize(
    "step",
    [s for s in [*ladder.forward_steps(A, 1), *ladder.backward_steps(A, 1)] if not s.name.startswith(ladder.BLOCKED)],
    ids=lambda step: step.call.func.__name__,
)
def test_a_step_moves_what_its_passes_say(step, monkeypatch):
    """Blocks of one sample: the second loop finds the last one in the cache, and that is all the difference."""
    monkeypatch.setattr(ladder, "full_size_of", lambda numbers, positions: numbers.astype(np.float32)[:, None])
    monkeypatch.setattr(ladder, "blocks_of", lambda x, block_bytes=None: [slice(i, i + 1) for i in range(len(x))])
    monkeypatch.setattr(ladder, "channels_of", lambda x: [slice(i, i + 1) for i in range(x.shape[1])])
    size = {"by_blocks": A.x[0].nbytes, "by_channels": A.x[:, 0].nbytes}
    in_blocks = step.call.func.__name__.removesuffix("_backward") in size
    found = moved(step, block_bytes=size.get(step.call.func.__name__.removesuffix("_backward"), 0))
    assert sum(found.values()) == pytest.approx(arrays_moved(step.passes))
    assert found[CACHE] == pytest.approx(arrays_moved(step.passes, CACHE), abs=3 / len(A.x) if in_blocks else 1e-9)


def test_the_counter_counts_reads_and_writes_of_large_arrays():
    ledger = Ledger(small=1000, block_bytes=0)
    x = counted(np.ones((10, 100)), ledger)
    _ = x * x + x.mean(0)  # x once, and the product; x; both once more, since the mean is small
    assert ledger.moved == {MEMORY: (2 + 1 + 2) * x.nbytes}
    y = x[1:]
    y += 1
    assert ledger.moved == {MEMORY: 5 * x.nbytes + 2 * y.nbytes}


def test_the_counter_tells_near_from_far():
    ledger = Ledger(small=100, block_bytes=1000)  # and the last 4000 bytes are near
    x = counted(np.ones((10, 125)), ledger)
    for i in (0, 0, 4, 1, 2, 3, 5, 0, 5):
        x[i].sum()
    assert ledger.moved == {CACHE: 2 * 1000, MEMORY: 7 * 1000}


def test_fused_relu_moves_two_arrays_less_from_memory():
    alone, afterwards, inside = (step.passes for step in ladder.relu_steps(A))
    assert arrays_moved(afterwards, MEMORY) - arrays_moved(inside, MEMORY) == 2
    assert arrays_moved(inside, MEMORY) == arrays_moved(alone, MEMORY)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("textbook", 3), ("fewer passes", 3), ("dot products", 2)],
)
def test_temporaries_are_as_many_as_the_comments_say(name, inputs):
    """The result included. NumPy does not reuse a temporary when it broadcasts, or fewer passes would need less."""
    step = next(s for s in ladder.forward_steps(LARGE, 1) if s.name == name)
    assert peak_bytes(step.call) / LARGE.x.nbytes == pytest.approx(inputs, abs=0.1)


def test_steps_with_an_output_take_hardly_any_memory():
    for step in [
        *ladder.forward_steps(LARGE, 1)[3:6],
        *ladder.backward_steps(LARGE, 1)[1:3],
        *ladder.relu_steps(LARGE),
    ]:
        assert peak_bytes(step.call) < 0.45 * LARGE.x.nbytes, step.name  # numbers of the size of some samples of 16


def test_numpy_reuses_a_temporary_of_the_same_shape_but_not_when_it_broadcasts():
    """What the comments in ``textbook_backward`` count on."""
    x, row = np.ones((5000, 100)), np.ones(100)
    assert peak_bytes(lambda: x - x - x) / x.nbytes == pytest.approx(1, abs=0.05)
    assert peak_bytes(lambda: x - row - row) / x.nbytes == pytest.approx(2, abs=0.05)


def test_functions_that_the_chapter_shows_are_short():
    for step in [*ladder.forward_steps(A, 1), *ladder.backward_steps(A, 1)]:
        function = step.call.func
        if function.__module__ == ladder.__name__:
            code = inspect.getsource(function)
            body = code.split('"""')[2].strip().splitlines()
            assert sum(not line.lstrip().startswith("#") for line in body) <= 18, function.__name__
            assert max(map(len, code.splitlines())) <= 76, function.__name__  # what a page shows without scrolling


# Causes


def test_both_calls_of_a_cause_do_the_same():
    for cause in ladder.causes(A):
        slow, fast = (
            np.array(r[0] if isinstance(r, tuple) else r) for r in (call() for call in (cause.slow, cause.fast))
        )
        np.testing.assert_allclose(slow, fast, rtol=1e-4, atol=1e-4, err_msg=cause.name)


def test_fresh_memory_has_to_be_fetched():
    if page_faults(dict) is None:
        pytest.skip("this system does not count")
    like = np.ones(2**21)
    warm = np.ones_like(like)
    assert page_faults(lambda: np.copyto(warm, like)) <= 2
    assert page_faults(lambda: np.copyto(ladder.fresh(like), like)) >= like.nbytes / 2**21 - 1  # pages of 2 MiB at most


def test_blocks_of_pixels_are_as_many_as_those_of_the_images():
    pixels = Arguments.random((16, 3, 1, 1))
    for blocks in (1, 4, 16):
        assert len(ladder.blocks_of(pixels.x, -(-pixels.x.nbytes // blocks))) == blocks
