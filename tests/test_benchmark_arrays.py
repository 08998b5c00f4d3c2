"""The arrays that implementations are given, and how results are compared."""

import numpy as np
import pytest
import torch

from bncourse.benchmark.arrays import Arguments, as_arrays, largest_error


def test_arguments_are_random_and_the_same_for_the_same_seed():
    one, same, other = (Arguments.random((4, 3, 2, 2), seed=seed) for seed in (0, 0, 1))
    for a, b, c in zip(*(vars(found).values() for found in (one, same, other)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == np.float32 and not np.array_equal(a, c)
    assert one.weight.shape == one.running_var.shape == (3,) and one.running_var.min() > 0


def test_arguments_in_another_dtype_have_the_same_values():
    a = Arguments.random((4, 3, 2, 2))
    for narrow, wide in zip(vars(a).values(), vars(a.astype("float64")).values(), strict=True):
        assert wide.dtype == np.float64
        np.testing.assert_array_equal(narrow, wide)


def test_largest_error_is_relative_to_the_largest_value_of_each_array():
    exact = (np.array([1.0, -100.0]), np.array([1e-3, 2e-3]))
    results = (np.array([2.0, -100.0], np.float32), np.array([1e-3, 2.1e-3]))
    assert largest_error(results, exact) == pytest.approx(0.05)


def test_tensors_become_arrays():
    array = np.ones(2)
    found = as_arrays((array, torch.ones(2, requires_grad=True)))
    assert found[0] is array
    np.testing.assert_array_equal(*found)
