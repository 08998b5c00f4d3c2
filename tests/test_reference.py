import itertools
import tracemalloc
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import CASES, LAYOUTS, SHAPES, TOLERANCE, Arrays, Case, assert_matches, lay_out
from hypothesis import given
from hypothesis import strategies as st

from bncourse import reference

OPS = list(SHAPES)
MOST_TEMPORARIES = 2.5  # in units of the input: x̂ and γ · dy, and half of one for small arrays
MODES = [(op, True) for op in OPS] + [("batch_norm", False)]
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def forward(case: Case, arrays: Arrays):
    """Call the forward of ``case`` on ``arrays``."""
    x, _, weight, bias, running_mean, running_var = arrays
    if case.op == "rms_norm":
        return reference.rms_norm_forward(x, case.normalized_shape, weight, eps=case.eps)
    if case.op == "layer_norm":
        return reference.layer_norm_forward(x, case.normalized_shape, weight, bias, eps=case.eps)
    if case.op == "group_norm":
        return reference.group_norm_forward(x, case.num_groups, weight, bias, eps=case.eps)
    if case.op == "instance_norm":
        return reference.instance_norm_forward(x, weight, bias, eps=case.eps)
    return reference.batch_norm_forward(
        x, weight, bias, running_mean, running_var, training=case.training, momentum=case.momentum, eps=case.eps
    )


def backward(case: Case, dy: np.ndarray, cache):
    """dx, dweight and dbias (None for RMS norm, which has none)."""
    return (*getattr(reference, f"{case.op}_backward")(dy, cache), None)[:3]


def random_case(op: str, training: bool = True, **fields) -> Case:
    """A small case in float64."""
    return Case(f"{op}-{training}", op, **{"shape": (4, 6, 5), "dtype": "float64", "training": training} | fields)


# The table


@by_name
def test_forward_matches_the_textbook(case):
    arrays = case.arrays()
    y, _ = forward(case, arrays)
    assert_matches(case, y=y, running_mean=arrays.running_mean, running_var=arrays.running_var)


@by_name
def test_backward_matches_autograd(case):
    arrays = case.arrays()
    _, cache = forward(case, arrays)
    dx, dweight, dbias = backward(case, arrays.dy, cache)
    assert_matches(case, dx=dx, dweight=dweight, dbias=dbias)


@by_name
def test_arguments_stay_as_they_were(case):
    arrays, before = case.arrays(), case.arrays()
    _, cache = forward(case, arrays)
    backward(case, arrays.dy, cache)
    kept = ["x", "dy", "weight", "bias"] + ([] if case.training else ["running_mean", "running_var"])
    for name in kept:
        np.testing.assert_array_equal(getattr(arrays, name), getattr(before, name), err_msg=name)


@by_name
def test_results_are_arrays_of_their_own(case):
    arrays = case.arrays()
    y, cache = forward(case, arrays)
    results = [y, *(gradient for gradient in backward(case, arrays.dy, cache) if gradient is not None)]
    others = [array for array in (*arrays, cache.x_hat) if array is not None]
    for result, other in [*itertools.product(results, others), *itertools.combinations(results, 2)]:
        assert not np.shares_memory(result, other)


def test_backward_can_be_called_again():
    case = random_case("batch_norm")
    arrays = case.arrays()
    _, cache = forward(case, arrays)
    for first, second in zip(backward(case, arrays.dy, cache), backward(case, arrays.dy, cache), strict=True):
        np.testing.assert_array_equal(first, second)


def test_names_of_cases_are_unique():
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("op", OPS)
def test_table_has_every_dtype_and_layout_of(op):
    cases = [case for case in CASES if case.op == op]
    assert {case.dtype for case in cases} == set(TOLERANCE)
    assert {case.layout for case in cases} == set(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_differ_in_memory_only(layout):
    array = np.random.default_rng(0).standard_normal((3, 4, 5))
    laid_out = lay_out(array, layout)
    assert (laid_out.strides == array.strides) == (layout == "contiguous")
    np.testing.assert_array_equal(laid_out, array if layout != "broadcast" else np.stack([array[0]] * 3))


# Finite differences and other properties of the gradient


def loss(case: Case, arrays: Arrays) -> float:
    """Σ y · dy, whose gradient with respect to y is dy."""
    frozen = arrays._replace(
        running_mean=np.copy(arrays.running_mean) if case.op == "batch_norm" else None,
        running_var=np.copy(arrays.running_var) if case.op == "batch_norm" else None,
    )
    return float(np.sum(forward(case, frozen)[0] * arrays.dy))


@pytest.mark.parametrize("eps", [1e-5, 0.5])
@pytest.mark.parametrize(
    ("op", "training", "name"),
    [(*mode, name) for mode in MODES for name in ("x", "weight", "bias") if (mode[0], name) != ("rms_norm", "bias")],
)
def test_gradients_match_finite_differences(op, training, eps, name):
    case = random_case(op, training, eps=eps)
    arrays = case.arrays()
    array = getattr(arrays, name)
    gradients = dict(zip(("x", "weight", "bias"), backward(case, arrays.dy, forward(case, arrays)[1]), strict=True))
    for direction in np.random.default_rng(1).standard_normal((5, *array.shape)):
        step = 1e-5 * direction
        rise = loss(case, arrays._replace(**{name: array + step})) - loss(case, arrays._replace(**{name: array - step}))
        assert rise / 2e-5 == pytest.approx(np.sum(gradients[name] * direction), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("op", OPS)
def test_dx_is_orthogonal_to_what_the_forward_removes(op):
    case = random_case(op, weight=False, bias=False, eps=1e-10)
    arrays = case.arrays()
    _, cache = forward(case, arrays)
    dx, *_ = backward(case, arrays.dy, cache)
    dx = dx.reshape(cache.layout.shape)
    along_x_hat = np.sum(dx * cache.x_hat, axis=cache.layout.axes)
    np.testing.assert_allclose(along_x_hat, 0, atol=1e-8)  # 0 but for eps
    if op != "rms_norm":
        np.testing.assert_allclose(np.sum(dx, axis=cache.layout.axes), 0, atol=1e-12)


def test_evaluation_treats_samples_one_by_one():
    case = random_case("batch_norm", training=False)
    arrays = case.arrays()
    together, _ = forward(case, arrays)
    alone = [forward(case, arrays._replace(x=arrays.x[i : i + 1]))[0] for i in range(len(arrays.x))]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_training_output_does_not_depend_on_running_statistics():
    case = random_case("batch_norm")
    arrays = case.arrays()
    with_running, _ = forward(case, arrays)
    without, _ = forward(case, arrays._replace(running_mean=None, running_var=None))
    np.testing.assert_array_equal(with_running, without)


# Special cases of each other


def test_group_norm_with_one_group_is_layer_norm_over_channels_and_positions():
    arrays = random_case("group_norm", shape=(3, 6, 4, 5)).arrays()
    in_group, _ = reference.group_norm_forward(arrays.x, 1)
    in_layer, _ = reference.layer_norm_forward(arrays.x, (6, 4, 5))
    np.testing.assert_allclose(in_group, in_layer, rtol=1e-13, atol=1e-13)


def test_group_norm_with_a_group_per_channel_is_instance_norm():
    x, dy, weight, bias, *_ = random_case("group_norm", shape=(3, 6, 4, 5)).arrays()
    in_group, group_cache = reference.group_norm_forward(x, 6, weight, bias)
    in_instance, instance_cache = reference.instance_norm_forward(x, weight, bias)
    np.testing.assert_allclose(in_group, in_instance, rtol=1e-13, atol=1e-13)
    gradients = (reference.group_norm_backward(dy, group_cache), reference.instance_norm_backward(dy, instance_cache))
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_batch_norm_of_one_sample_is_instance_norm():
    x, _, weight, bias, *_ = random_case("batch_norm", shape=(1, 6, 4, 5)).arrays()
    in_batch, _ = reference.batch_norm_forward(x, weight, bias)
    in_instance, _ = reference.instance_norm_forward(x, weight, bias)
    np.testing.assert_allclose(in_batch, in_instance, rtol=1e-13, atol=1e-13)


def test_rms_norm_of_centered_values_is_layer_norm():
    x, _, weight, *_ = random_case("rms_norm", shape=(5, 7)).arrays()
    x -= x.mean(axis=-1, keepdims=True)
    by_rms, _ = reference.rms_norm_forward(x, 7, weight, eps=1e-5)
    by_layer, _ = reference.layer_norm_forward(x, 7, weight, eps=1e-5)
    np.testing.assert_allclose(by_rms, by_layer, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("size", [6, np.int64(6), (6,), [6]], ids=repr)
def test_normalized_shape_may_be_a_number_or_a_sequence(size):
    x = random_case("layer_norm", shape=(5, 6)).arrays().x
    np.testing.assert_array_equal(reference.layer_norm_forward(x, size)[0], reference.layer_norm_forward(x, (6,))[0])


def test_defaults_are_those_of_pytorch():
    x = random_case("batch_norm", shape=(6, 4, 5), scale=1e-3).arrays().x
    tensor = torch.from_numpy(x)
    batch_norm = torch.nn.BatchNorm1d(4, dtype=torch.float64)
    running_mean, running_var = np.zeros(4), np.ones(4)
    pairs = [
        (reference.batch_norm_forward(x, None, None, running_mean, running_var)[0], batch_norm(tensor)),
        (running_mean, batch_norm.running_mean),
        (running_var, batch_norm.running_var),
        (reference.layer_norm_forward(x, 5)[0], F.layer_norm(tensor, (5,))),
        (reference.instance_norm_forward(x)[0], F.instance_norm(tensor)),
        (reference.group_norm_forward(x, 2)[0], F.group_norm(tensor, 2)),
        (reference.rms_norm_forward(x, 5)[0], F.rms_norm(tensor, (5,))),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-11, atol=1e-11)


# PyTorch


class Example(NamedTuple):
    """Arrays of one dtype, and the options that a norm takes beside them."""

    x: np.ndarray
    dy: np.ndarray
    weight: np.ndarray | None
    bias: np.ndarray | None
    eps: float


@st.composite
def examples(draw, op: str, shapes) -> Example:
    dtype = draw(st.sampled_from(list(TOLERANCE)))
    shape = draw(shapes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = draw(st.floats(-5, 5)) + draw(st.floats(0.5, 5)) * rng.standard_normal(shape)
    dy = rng.standard_normal(shape) + 0.7
    # PyTorch takes float16 input with float32 parameters, as in mixed precision.
    param_dtype = "float64" if dtype == "float64" else "float32" if op in ("batch_norm", "instance_norm") else dtype
    size = shape[-1] if op in ("layer_norm", "rms_norm") else shape[1]
    affine = draw(st.booleans())
    weight, bias = (rng.standard_normal(size).astype(param_dtype) if affine else None for _ in range(2))
    return Example(x.astype(dtype), dy.astype(dtype), weight, bias, draw(st.sampled_from([1e-3, 0.1, 0.5])))


def channel_shapes(minimum_rank: int, *, positions: int = 1):
    """(N, C, *) with at least two values per channel."""
    sizes = st.integers(1, 6)
    return (
        st.tuples(sizes, sizes)
        | st.tuples(sizes, sizes, st.integers(positions, 9))
        | st.tuples(sizes, sizes, st.integers(positions, 6), sizes)
        | st.tuples(sizes, sizes, st.integers(positions, 3), sizes, st.integers(1, 3))
    ).filter(lambda shape: len(shape) >= minimum_rank and np.prod(shape) > shape[1])


def assert_equals_pytorch(example: Example, ours, backward, norm: Callable[..., torch.Tensor]) -> None:
    """dtypes as PyTorch's; y, dx and the gradients of the parameters as PyTorch's when it computes in float64.

    PyTorch in the dtype of the arrays is no measure: with few values it is the less accurate of the two.
    """
    y, cache = ours
    x, weight, bias = (None if a is None else torch.from_numpy(a).requires_grad_() for a in example[:1] + example[2:4])
    assert_equal_dtypes(y, norm(x, weight, bias))
    their_y = norm(*(None if tensor is None else tensor.double() for tensor in (x, weight, bias)))
    assert_near(y, their_y, example)
    wanted = [tensor for tensor in (x, weight, bias) if tensor is not None]
    their_gradients = torch.autograd.grad(their_y, wanted, torch.from_numpy(example.dy).double())
    our_gradients = [gradient for gradient in backward(example.dy, cache) if gradient is not None]
    for our, their in zip(our_gradients, their_gradients, strict=True):
        assert_equal_dtypes(our, their)
        assert_near(our, their, example)


def assert_equal_dtypes(ours: np.ndarray, theirs: torch.Tensor) -> None:
    assert ours.dtype == theirs.detach().numpy().dtype


def assert_near(ours: np.ndarray, theirs: torch.Tensor, example: Example) -> None:
    """Equal up to a few roundings of the values, of x or of dy."""
    theirs = theirs.detach().numpy()
    size = max(np.max(np.abs(a.astype(float))) for a in (theirs, example.x, example.dy))
    tolerance = 4 * TOLERANCE[example.x.dtype.name]
    np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=tolerance, atol=tolerance * size)


@given(examples("batch_norm", channel_shapes(2)), st.floats(0, 1), st.integers(1, 3))
def test_batch_norm_equals_pytorch(example, momentum, steps):
    x, _, weight, bias, eps = example
    channels = x.shape[1]
    running_dtype = np.float64 if x.dtype == np.float64 else np.float32
    running = [np.linspace(low, 3, channels, dtype=running_dtype) for low in (-1, 0.5)]
    their_running = [torch.from_numpy(array).double() for array in running]
    for training in [True] * steps + [False]:
        options = {"training": training, "momentum": momentum, "eps": eps}
        before = [array.clone() for array in their_running]

        def norm(x, weight, bias):
            dtype = torch.float32 if x.dtype == torch.float16 else x.dtype
            return F.batch_norm(x, *(array.to(dtype, copy=True) for array in before), weight, bias, **options)  # noqa: B023

        ours = reference.batch_norm_forward(x, weight, bias, *running, **options)
        assert_equals_pytorch(example, ours, reference.batch_norm_backward, norm)
        F.batch_norm(torch.from_numpy(x).double(), *their_running, **options)
        for our, their in zip(running, their_running, strict=True):
            assert_near(our, their, example)


@given(examples("layer_norm", st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple)))
def test_layer_norm_equals_pytorch(example):
    size = example.x.shape[-1:]
    assert_equals_pytorch(
        example,
        reference.layer_norm_forward(example.x, size, example.weight, example.bias, eps=example.eps),
        reference.layer_norm_backward,
        lambda x, weight, bias: F.layer_norm(x, size, weight, bias, example.eps),
    )


@given(examples("instance_norm", channel_shapes(3, positions=2)))
def test_instance_norm_equals_pytorch(example):
    assert_equals_pytorch(
        example,
        reference.instance_norm_forward(example.x, example.weight, example.bias, eps=example.eps),
        reference.instance_norm_backward,
        lambda x, weight, bias: F.instance_norm(x, weight=weight, bias=bias, eps=example.eps),
    )


@given(examples("group_norm", channel_shapes(2)), st.data())
def test_group_norm_equals_pytorch(example, data):
    channels = example.x.shape[1]
    num_groups = data.draw(st.sampled_from([n for n in range(1, channels + 1) if channels % n == 0]))
    assert_equals_pytorch(
        example,
        reference.group_norm_forward(example.x, num_groups, example.weight, example.bias, eps=example.eps),
        reference.group_norm_backward,
        lambda x, weight, bias: F.group_norm(x, num_groups, weight, bias, example.eps),
    )


@given(examples("rms_norm", st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple)))
def test_rms_norm_equals_pytorch(example):
    example = example._replace(bias=None)
    size = example.x.shape[-1:]
    assert_equals_pytorch(
        example,
        reference.rms_norm_forward(example.x, size, example.weight, eps=example.eps),
        reference.rms_norm_backward,
        lambda x, weight, _: F.rms_norm(x, size, weight, example.eps),
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rms_norm_takes_the_eps_that_pytorch_takes(dtype):
    x = random_case("rms_norm", shape=(5, 7), mean=0.0, scale=1e-4).arrays().x.astype(dtype)
    y, _ = reference.rms_norm_forward(x, 7)
    np.testing.assert_allclose(y, F.rms_norm(torch.from_numpy(x), (7,)).numpy(), rtol=4 * TOLERANCE[dtype])


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_running_statistics_equal_those_of_pytorch_modules(shape, dtype):
    rng = np.random.default_rng(0)
    kinds = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}
    module = kinds[len(shape)](3, momentum=0.3, dtype=getattr(torch, dtype))
    state = {
        name: (rng.standard_normal(3) if name != "running_var" else rng.uniform(0.5, 2, 3)).astype(dtype)
        for name in ("weight", "bias", "running_mean", "running_var")
    }
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()}, strict=False)
    for step in range(5):
        module.train(step < 4)  # four steps of training, then evaluation
        x = (rng.standard_normal(shape) * (step + 1) + step).astype(dtype)
        y, _ = reference.batch_norm_forward(x, **state, momentum=0.3, training=module.training)
        close = {"rtol": 20 * TOLERANCE[dtype], "atol": 20 * TOLERANCE[dtype]}
        np.testing.assert_allclose(y, module(torch.from_numpy(x)).detach().numpy(), **close)
        np.testing.assert_allclose(state["running_mean"], module.running_mean.numpy(), **close)
        np.testing.assert_allclose(state["running_var"], module.running_var.numpy(), **close)


# Accuracy


@pytest.mark.parametrize("shape", [(2, 1_000_000), (2, 1000, 1000)], ids=str)
def test_long_sums_are_not_added_up_in_float32(shape):
    x = (np.random.default_rng(0).random(shape) ** 8).astype(np.float32)  # all of one sign
    y, _ = reference.layer_norm_forward(x, shape[1:])
    exact, _ = reference.layer_norm_forward(x.astype(np.float64), shape[1:])
    np.testing.assert_allclose(y, exact, rtol=0, atol=1e-6 * np.abs(exact).max())


# NaN, empty arrays, dtypes


@pytest.mark.parametrize(("op", "training"), MODES)
@pytest.mark.parametrize("dtypes", list(itertools.product(TOLERANCE, repeat=3)), ids="-".join)
def test_dtypes_follow_the_arrays(op, training, dtypes):
    x_dtype, param_dtype, dy_dtype = dtypes
    case = Case("dtypes", op, (4, 6, 5), x_dtype, param_dtype, training=training)
    arrays = case.arrays()
    y, cache = forward(case, arrays)
    dx, dweight, dbias = backward(case, arrays.dy.astype(dy_dtype), cache)
    assert y.dtype == dx.dtype == x_dtype
    assert {gradient.dtype for gradient in (dweight, dbias) if gradient is not None} == {np.dtype(param_dtype)}
    assert arrays.running_mean is None or arrays.running_mean.dtype == param_dtype


def test_lists_are_taken_as_arrays():
    y, cache = reference.layer_norm_forward([[1.0, 2.0], [3.0, 5.0]], 2, [1.0, 2.0])
    np.testing.assert_allclose(y, [[-1, 2], [-1, 2]], rtol=1e-4)
    dx, dweight, _ = reference.layer_norm_backward([[1.0, 2.0], [3.0, 4.0]], cache)
    assert dx.shape == (2, 2)
    np.testing.assert_allclose(dweight, [-4, 6], rtol=1e-4)


# Failures


def test_a_failure_before_the_end_leaves_running_statistics_alone(monkeypatch):
    def fail(cache):
        raise MemoryError

    monkeypatch.setattr(reference, "_affine", fail)
    arrays, before = (random_case("batch_norm").arrays() for _ in range(2))
    with pytest.raises(MemoryError):
        forward(random_case("batch_norm"), arrays)
    np.testing.assert_array_equal(arrays.running_mean, before.running_mean)
    np.testing.assert_array_equal(arrays.running_var, before.running_var)


# Memory


@pytest.mark.parametrize(("op", "training"), MODES)
def test_memory_holds_two_temporaries_at_most(op, training):
    """Beside x and dy, which the caller holds, and the results y and dx.

    tracemalloc sees every allocation of NumPy, so its peak is y and dx (one input each) and the
    temporaries that live at the same time, of which the cache's x̂ is one.
    """
    case = Case("memory", op, (16, 16, 32, 32), training=training)
    arrays = case.arrays()
    tracemalloc.start()
    try:
        y, cache = forward(case, arrays)
        dx, *_ = backward(case, arrays.dy, cache)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    temporaries = (peak - y.nbytes - dx.nbytes) / arrays.x.nbytes
    assert temporaries <= MOST_TEMPORARIES, temporaries
