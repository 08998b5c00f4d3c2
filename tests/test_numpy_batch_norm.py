"""What batch norm in NumPy is held to beyond the table of cases, whichever module computes it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import Case

from bncourse import blocked, reference


def random_arrays():
    """Arrays of a small case in float64."""
    return Case("batch_norm", "batch_norm", (4, 6, 5), "float64").arrays()


@pytest.fixture(params=[reference, blocked], ids=["reference", "blocked"])
def module(request):
    return request.param


# Accuracy


@pytest.mark.parametrize("mean", [0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("shape", [(4096, 5), (16, 5, 16, 16), (4, 5, 32, 32), (1, 5, 64, 64), (32768, 2, 2)], ids=str)
def test_a_large_mean_costs_no_digits(module, mean, shape):
    x = (mean + np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    y, _ = module.batch_norm_forward(x)
    exact = x.astype(np.longdouble)
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    exact -= exact.mean(axis=axes, keepdims=True)
    exact /= np.sqrt((exact**2).mean(axis=axes, keepdims=True) + 1e-5)
    assert np.max(np.abs(y - exact)) < 1e-6


def test_running_statistics_of_a_large_mean_are_accurate(module):
    x = (1e6 + np.random.default_rng(0).standard_normal((4096, 5))).astype(np.float32)
    running_mean, running_var = np.zeros(5), np.zeros(5)
    module.batch_norm_forward(x, running_mean=running_mean, running_var=running_var, momentum=1.0)
    np.testing.assert_allclose(running_mean, x.mean(axis=0, dtype=np.longdouble).astype(float), rtol=1e-12)
    np.testing.assert_allclose(running_var, x.var(axis=0, ddof=1, dtype=np.longdouble).astype(float), rtol=1e-6)


def test_an_outlier_in_front_costs_the_other_values_no_digits(module):
    x = np.random.default_rng(0).standard_normal((262_144, 1)).astype(np.float32)
    x[0] = 1e6
    y, _ = module.batch_norm_forward(x)
    exact, _ = module.batch_norm_forward(x.astype(np.float64))
    np.testing.assert_allclose(y, exact, rtol=1e-6, atol=1e-9)


# NaN, empty arrays, memory of another kind


def test_nan_spoils_its_own_channel_only(module):
    x, dy, *params = random_arrays()
    x[1, 2, 3] = np.nan
    tensors = [torch.from_numpy(array.copy()) for array in params]
    theirs = F.batch_norm(torch.from_numpy(x).requires_grad_(), *tensors[2:], *tensors[:2], training=True)
    y, cache = module.batch_norm_forward(x, *params)
    dx, dweight, dbias = module.batch_norm_backward(dy, cache)
    spoiled = np.arange(6) == 2
    for values in (y, theirs.detach().numpy(), dx):
        np.testing.assert_array_equal(np.isnan(values), np.broadcast_to(spoiled[:, None], x.shape))
    for values in (dweight, *params[2:], *(tensor.numpy() for tensor in tensors[2:])):
        np.testing.assert_array_equal(np.isnan(values), spoiled)
    assert np.isfinite(dbias).all()


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (0, 3, 4, 4), (2, 3, 0)], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_an_empty_batch_changes_no_running_statistics_as_in_pytorch(module, shape, training):
    running = [np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])]
    tensors = [torch.from_numpy(array.copy()) for array in running]
    theirs = F.batch_norm(torch.zeros(shape, dtype=torch.float64), *tensors, training=training)
    y, _ = module.batch_norm_forward(np.zeros(shape), None, None, *running, training=training)
    assert y.shape == theirs.shape == shape
    for ours, their, before in zip(running, tensors, ([1, 2, 3], [4, 5, 6]), strict=True):
        np.testing.assert_array_equal(ours, before)
        np.testing.assert_array_equal(their.numpy(), before)


def test_running_statistics_may_be_columns_of_one_array(module):
    x, both = np.random.default_rng(0).normal(size=(8, 3)), np.zeros((3, 2))
    module.batch_norm_forward(x, None, None, both[:, 0], both[:, 1], momentum=1.0)
    np.testing.assert_allclose(both, np.stack([x.mean(axis=0), x.var(axis=0, ddof=1)], axis=1), rtol=1e-12)


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8"])
def test_byte_order_does_not_matter(module, dtype):
    arrays = random_arrays()
    native = [array.astype(np.dtype(dtype).newbyteorder("=")) for array in arrays]
    swapped = [array.astype(dtype) for array in arrays]
    results = []
    for x, dy, *params in (native, swapped):
        y, cache = module.batch_norm_forward(x, *params)
        results.append((y, *module.batch_norm_backward(dy, cache), *params[2:]))
    for wanted, got in zip(*results, strict=True):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("small", ["running_mean", "running_var"])
def test_running_statistics_are_updated_both_or_none(module, small):
    """One of them is float16, and the batch's statistics overflow it."""
    x = 1e5 * np.random.default_rng(0).standard_normal((8, 3)) + 1e7
    running = {
        name: np.ones(3, np.float16 if name == small else np.float64) for name in ("running_mean", "running_var")
    }
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        module.batch_norm_forward(x, **running)
    for name, array in running.items():
        np.testing.assert_array_equal(array, 1, err_msg=name)
