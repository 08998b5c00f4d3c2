"""The first kernels of chapter 9: right up to what the chapter says is wrong with them."""

import pytest
import torch
import torch.nn.functional as F

from bncourse.kernels import first


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", [(2, 3), (5, 3, 7), (7, 1, 49), (3, 4, 33, 33), (1, 2, 1023)], ids=str)
def test_values_match_pytorch(shape, dtype):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(shape), torch.randn(shape[1]), torch.randn(shape[1])
    y = first.batch_norm_forward(x.to(dtype), weight, bias, eps=1e-5)
    assert y.dtype == dtype
    wanted = F.batch_norm(x.to(dtype).double(), None, None, weight.double(), bias.double(), training=True)
    assert (y - wanted).abs().max() < (2e-3 if dtype == torch.float16 else 1e-4) * wanted.abs().max()


def test_several_blocks_give_the_same_values():
    x, weight, bias = torch.randn(4, 3, 9, 9), torch.randn(3), torch.randn(3)
    few, many = (first.batch_norm_forward(x, weight, bias, eps=1e-5, block=block) for block in (1024, 16))
    torch.testing.assert_close(few, many)


def test_any_order_in_memory_is_read_rightly():
    x, weight, bias = torch.randn(4, 3, 5, 7), torch.randn(3), torch.randn(3)
    last = x.to(memory_format=torch.channels_last)
    assert torch.equal(*(first.batch_norm_forward(t, weight, bias, eps=1e-5) for t in (x, last)))


def test_a_large_mean_costs_its_digits():
    x, weight, bias = 1e4 + torch.randn(8, 2, 9, 9), torch.ones(2), torch.zeros(2)
    wanted = F.batch_norm(x.double(), None, None, training=True)
    y = first.batch_norm_forward(x, weight, bias, eps=1e-5)
    assert not (y - wanted).abs().max() < 0.1
