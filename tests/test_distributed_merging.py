"""Statistics of parts, and those of the whole."""

import numpy as np
import pytest
import torch

from bncourse.distributed import merge, summarize


def batch(sizes, *, mean=3.0, dtype=torch.float64, positions=(4, 5)):
    """Parts of a batch of random numbers, each part around another mean."""
    generator = torch.Generator().manual_seed(7)
    parts = (torch.randn(n, 3, *positions, generator=generator, dtype=torch.float64) for n in sizes)
    return [(part * (1 + i) + mean * (1 + i % 2)).to(dtype) for i, part in enumerate(parts)]


def stacked(parts):
    return [torch.stack(values) for values in zip(*map(summarize, parts), strict=True)]


@pytest.mark.parametrize("positions", [(), (6,), (4, 5), (2, 3, 2)])
def test_a_summary_is_count_mean_and_m2_of_each_channel(positions):
    (x,) = batch([5], positions=positions)
    count, mean, m2 = summarize(x)
    values = x.movedim(1, 0).reshape(3, -1).numpy()
    assert count == values.shape[1]
    np.testing.assert_allclose(mean, values.mean(1), rtol=1e-14)
    np.testing.assert_allclose(m2, ((values - values.mean(1, keepdims=True)) ** 2).sum(1), rtol=1e-13)


@pytest.mark.parametrize("sizes", [(4, 4), (1, 7), (0, 5), (2, 0, 9, 1), (3,), (1, 1, 1, 1)])
def test_merged_parts_have_the_statistics_of_the_whole(sizes):
    parts = batch(sizes)
    for merged, whole in zip(merge(*stacked(parts)), summarize(torch.cat(parts)), strict=True):
        torch.testing.assert_close(merged, whole, rtol=1e-13, atol=0)


def test_a_mean_that_dwarfs_the_spread_costs_no_digits():
    parts = batch((3, 8, 5), mean=1e6)
    exact = torch.cat(parts).movedim(1, 0).flatten(1).to(torch.float64).numpy().astype(np.longdouble)
    expected = ((exact - exact.mean(1, keepdims=True)) ** 2).sum(1).astype(np.float64)
    np.testing.assert_allclose(merge(*stacked(parts))[2], expected, rtol=1e-13)


def test_where_nothing_is_all_is_zero():
    assert all((values == 0).all() for values in merge(*stacked(batch((0, 0)))))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_statistics_of_every_dtype_are_float64(dtype):
    x = torch.cat(batch([9], dtype=dtype))
    found, exact = summarize(x), summarize(x.double())
    assert {values.dtype for values in found} == {torch.float64}
    for values, wanted in zip(found, exact, strict=True):
        torch.testing.assert_close(values, wanted, rtol=1e-6, atol=0)


def test_a_summary_takes_no_part_in_the_graph():
    assert not any(values.requires_grad for values in summarize(torch.randn(4, 3, requires_grad=True)))
