"""A stacked network computes what each of its networks computes, and gives back what became of them."""

import copy

import pytest
import torch
from torch import nn

from bncourse import layers
from bncourse.models import (
    GPT,
    LSTM,
    MLP,
    RNN,
    ResidualBranch,
    ResidualCNN,
    ResidualMLP,
    Scale,
    Shift,
    StepBatchNorm,
)
from bncourse.training import evaluation_mode
from bncourse.training.stacking import FORMS, NotStackable, as_it_is, container, stack, unstack

M, N = 3, 6

NORMS = {
    "none": None,
    **{
        f"{package.__name__}, {name}": norm
        for package in (nn, layers)
        for name, norm in {
            "batch": package.BatchNorm1d,
            "batch without affine": lambda c, p=package: p.BatchNorm1d(c, affine=False),
            "batch without statistics": lambda c, p=package: p.BatchNorm1d(c, track_running_stats=False),
            "batch with a plain average": lambda c, p=package: p.BatchNorm1d(c, momentum=None),
            "layer": package.LayerNorm,
            "layer without bias": lambda c, p=package: p.LayerNorm(c, bias=False),
            "layer without affine": lambda c, p=package: p.LayerNorm(c, elementwise_affine=False),
            "group": lambda c, p=package: p.GroupNorm(2, c),
            "group without affine": lambda c, p=package: p.GroupNorm(2, c, affine=False),
            "RMS": package.RMSNorm,
            "RMS without affine": lambda c, p=package: p.RMSNorm(c, elementwise_affine=False),
        }.items()
    },
}


def randomized(network):
    """Random parameters and statistics: constants hide mistakes."""
    with torch.no_grad():
        for name, value in [*network.named_parameters(), *network.named_buffers()]:
            if value.is_floating_point():
                value.uniform_(0.5, 2) if "running_var" in name else value.normal_()
    return network


def members(make, count=M):
    """Networks that differ in their numbers, in float64: rounding hides mistakes, too."""
    torch.manual_seed(0)
    return [randomized(make().double()) for _ in range(count)]


def mlp(norm=nn.BatchNorm1d, **settings):
    return MLP([5, 8, 8, 4], norm, **settings)


def inputs(*shape):
    return torch.randn(*shape or (M, N, 5), dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def states(networks):
    return [dict([*network.named_parameters(), *network.named_buffers()]) for network in networks]


# The same numbers


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("norm", NORMS)
def test_every_slice_is_the_output_of_its_network(norm, place, training):
    networks = members(lambda: mlp(NORMS[norm], place=place))
    x = inputs()
    whole = stack(networks).train(training)
    expected = torch.stack([network.train(training)(part) for network, part in zip(networks, x, strict=True)])
    torch.testing.assert_close(whole(x), expected)


@pytest.mark.parametrize(
    ("start", "norm"), [*((start, norm) for start in ("he", "skipinit") for norm in NORMS), ("fixup", "none")]
)
def test_residual_networks_are_stacked_too(start, norm):
    networks = members(lambda: ResidualMLP(5, 8, 2, 4, NORMS[norm], start=start))
    x, whole = inputs(), stack(networks)
    expected = torch.stack([network(part) for network, part in zip(networks, x, strict=True)])
    torch.testing.assert_close(whole(x), expected)


RECURRENT = {
    **{name: NORMS[name] for name in ("none", "torch.nn, batch", "torch.nn, layer", "bncourse.layers, layer")},
    "batch, shared": StepBatchNorm,
    "batch, per step": lambda c: StepBatchNorm(c, 2, weight=0.1),
    "batch, padding counted": lambda c: StepBatchNorm(c, padding=True),
}


def recurrent_inputs():
    lengths = torch.tensor(
        [[4, 2, 3, 1, 2, 1], [4, 3, 4, 2, 3, 3], [2, 4, 4, 4, 3, 4]]
    )  # one network has one at the end
    return inputs(M, N, 4, 5), torch.arange(4) < lengths[..., None]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cell", ["tanh", "lstm"])
@pytest.mark.parametrize("norm", RECURRENT)
def test_recurrent_networks_are_stacked_too(norm, cell, training):
    """Outputs, gradients and statistics."""
    networks = members(lambda: RNN(5, 8, 3, RECURRENT[norm], cell=cell))
    results = copy.deepcopy(networks)
    for network in networks:
        network.train(training)
    whole, x = stack(networks).train(training), recurrent_inputs()
    outputs = whole(*x)
    expected = torch.stack([network(*part) for network, *part in zip(networks, *x, strict=True)])
    torch.testing.assert_close(outputs, expected)
    for network, out in [(whole, outputs), *zip(networks, expected, strict=True)]:
        params = list(network.parameters())
        gradients = torch.autograd.grad(out.square().sum(), params, retain_graph=True)
        with torch.no_grad():
            for param, gradient in zip(params, gradients, strict=True):
                param.data = param - 0.01 * gradient
    unstack(whole, results)
    torch.testing.assert_close(states(results), states(networks))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid])
def test_activations_stay_what_they_are(activation):
    networks = members(lambda: mlp(None, activation=activation))
    x = inputs()
    expected = torch.stack([network(part) for network, part in zip(networks, x, strict=True)])
    torch.testing.assert_close(stack(networks)(x), expected)


def test_a_module_may_stand_in_two_places_if_it_has_no_parameters():
    relu = nn.ReLU()
    networks = members(lambda: nn.Sequential(nn.Linear(5, 8), relu, nn.Linear(8, 8), relu, nn.Linear(8, 4)))
    x = inputs()
    expected = torch.stack([network(part) for network, part in zip(networks, x, strict=True)])
    torch.testing.assert_close(stack(networks)(x), expected)


def test_a_network_alone_is_a_stack_of_one():
    (network,) = members(mlp, 1)
    x = inputs()[:1]
    torch.testing.assert_close(stack([network]).eval()(x), network.eval()(x[0])[None])


@pytest.mark.parametrize("norm", NORMS)
def test_gradients_and_statistics_come_back_to_their_networks(norm):
    """After a step by hand in both, in training mode."""
    networks = members(lambda: mlp(NORMS[norm]))
    results = copy.deepcopy(networks)
    whole, x = stack(networks), inputs()
    for network, out in [(whole, whole(x)), *((n, n(part)) for n, part in zip(networks, x, strict=True))]:
        params = list(network.parameters())
        gradients = torch.autograd.grad(out.square().sum(), params)
        with torch.no_grad():
            for param, gradient in zip(params, gradients, strict=True):
                param.sub_(0.01 * gradient)
    unstack(whole, results)
    torch.testing.assert_close(states(results), states(networks))


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_stacked_comes_back_bit_for_bit(norm):
    networks = members(lambda: mlp(NORMS[norm]))
    for network in networks:
        network(inputs()[0])  # so that there is a count of batches
    others = members(lambda: mlp(NORMS[norm]))
    unstack(stack(networks), others)
    torch.testing.assert_close(states(others), states(networks), rtol=0, atol=0)


def test_buffers_that_are_not_saved_come_back_too():
    def make():
        network = nn.Sequential(nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4))
        network[1].register_buffer("running_mean", torch.randn(4), persistent=False)
        return network

    networks, others = members(make), members(make)
    for other in others:
        other[1].running_mean.zero_()
    unstack(stack(networks), others)
    torch.testing.assert_close(states(others), states(networks), rtol=0, atol=0)


def test_names_may_be_those_of_the_stack():
    """``wide`` is what the stacked form of batch norm calls its own module."""
    networks = members(lambda: nn.Sequential())
    for network in networks:
        network.add_module("wide", nn.Linear(5, 4))
        network.add_module("plain", nn.BatchNorm1d(4))
        randomized(network)
    others = copy.deepcopy(networks)
    for other in others:
        randomized(other)
    unstack(stack(networks), others)
    torch.testing.assert_close(states(others), states(networks), rtol=0, atol=0)


@pytest.mark.parametrize("make", [mlp, lambda: mlp(nn.LayerNorm), lambda: ResidualMLP(5, 8, 1, 4, start="fixup")])
def test_a_stack_shares_no_memory_with_its_networks(make):
    networks = members(make)
    before = copy.deepcopy(states(networks))
    whole = stack(networks)
    whole(inputs())
    with torch.no_grad():
        for param in whole.parameters():
            param.add_(1)
    torch.testing.assert_close(states(networks), before, rtol=0, atol=0)


# What stays apart


@pytest.mark.parametrize("norm", NORMS)
def test_a_network_of_nan_leaves_the_others_as_they_are(norm):
    networks = members(lambda: mlp(NORMS[norm]))
    x = inputs()
    results = []
    for value in (0.5, float("nan")):
        nn.init.constant_(networks[1].layers.linear1.weight, value)
        whole = stack(networks)
        out = whole(x)
        out.square().sum().backward()
        gradients = [param.grad.view(M, -1) for param in whole.parameters()]
        results.append((out, *gradients))
    for healthy, ill in zip(*results, strict=True):
        assert torch.equal(healthy[::2], ill[::2])
    assert results[1][0][1].isnan().all()


def test_dropout_draws_for_every_slice_and_keeps_its_share():
    whole = stack([nn.Sequential(nn.Dropout(0.25)) for _ in range(2)])
    torch.manual_seed(0)
    first, second = whole(torch.ones(2, 100, 100))
    assert not torch.equal(first, second)
    assert (first == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    with evaluation_mode(whole):
        assert torch.equal(whole(torch.ones(2, 3, 4)), torch.ones(2, 3, 4))


def test_what_is_frozen_stays_frozen():
    def make():
        network = mlp()
        network.layers.norm1.eval().requires_grad_(False)
        network.layers.linear2.weight.requires_grad_(False)
        return network

    networks = members(make)
    whole = stack(networks)
    frozen = {name.replace("wide.", "") for name, param in whole.named_parameters() if not param.requires_grad}
    assert frozen == {"layers.norm1.weight", "layers.norm1.bias", "layers.linear2.weight"}
    before = copy.deepcopy(states(networks))
    whole(inputs())
    unstack(whole, networks)
    for old, new in zip(before, states(networks), strict=True):
        assert {name for name in old if not torch.equal(old[name], new[name])} == {
            "layers.norm2.running_mean",
            "layers.norm2.running_var",
            "layers.norm2.num_batches_tracked",
        }


# What cannot be stacked


class OtherLinear(nn.Linear):
    """Might compute something else."""


def hooked():
    network = mlp()
    network.layers.linear1.register_forward_hook(lambda *_: None)
    return network


def tied():
    linear = nn.Linear(5, 5)
    return nn.Sequential(linear, nn.ReLU(), linear)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(OtherLinear(5, 4)),
        lambda: nn.Sequential(nn.PReLU()),
        lambda: ResidualCNN(),
        lambda: LSTM(4, 8, 3),
        lambda: GPT(4, 6, width=8),
        lambda: torch.compile(mlp(), backend="eager"),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)),
        hooked,
        tied,
    ],
)
def test_what_has_no_stacked_form_is_refused(make):
    with pytest.raises(NotStackable, match="expected .*; got .*; "):
        stack([make(), make()])


def count_of_batches(network):
    network.layers.norm1.num_batches_tracked += 1


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network.layers.norm1.eval(),
        lambda network: network.layers.linear1.weight.requires_grad_(False),
        lambda network: network.layers.add_module("norm1", nn.BatchNorm1d(8, eps=1e-3)),
        lambda network: network.layers.add_module("norm1", nn.BatchNorm1d(8, momentum=None)),
        lambda network: network.layers.add_module("norm1", layers.BatchNorm1d(8)),
        lambda network: network.layers.add_module("linear1", nn.Linear(5, 8)),
        lambda network: network.layers.add_module("dropout2", nn.Dropout(0.1)),
        lambda network: network.double(),
        count_of_batches,
    ],
)
def test_networks_that_differ_in_more_than_their_numbers_are_refused(change):
    other = mlp()
    change(other)
    with pytest.raises(NotStackable):
        stack([mlp(), other])


def test_networks_that_print_the_same_but_differ_are_refused(monkeypatch):
    class Power(nn.Module):
        def __init__(self, exponent):
            super().__init__()
            self.exponent = exponent

        def forward(self, x):
            return x**self.exponent

    monkeypatch.setitem(FORMS, Power, as_it_is)
    assert stack([nn.Sequential(Power(2)), nn.Sequential(Power(2))])
    with pytest.raises(NotStackable, match="differ in nothing but their numbers"):
        stack([nn.Sequential(Power(2)), nn.Sequential(Power(3))])


@pytest.mark.parametrize("form", [as_it_is, container])
@pytest.mark.parametrize("kind", [nn.PReLU, Scale])
def test_a_module_with_numbers_needs_a_form_that_keeps_them(kind, form, monkeypatch):
    monkeypatch.setitem(FORMS, kind, form)
    with pytest.raises(NotStackable, match="give it another form"):
        stack([kind(), kind()])


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Sequential(nn.Linear(5, 4)), (M, N, 2, 5)),
        (lambda: nn.Sequential(nn.BatchNorm1d(5)), (M, N, 5, 2)),
        (lambda: nn.Sequential(nn.LayerNorm(5)), (M, N, 2, 5)),
        (lambda: nn.Sequential(nn.Linear(5, 4)), (M, 5)),
    ],
)
def test_samples_of_other_than_one_axis_are_refused(make, shape):
    with pytest.raises(NotStackable, match=r"expected inputs \(N, F\)"):
        stack(members(make))(inputs(*shape))


def test_scalars_are_one_number_for_each_network():
    networks = [nn.Sequential(Scale(2.0), Shift(1.0)), nn.Sequential(Scale(-1.0), Shift(0.5))]
    x = torch.randn(2, N, 5)
    torch.testing.assert_close(stack(networks)(x), torch.stack([2 * x[0] + 1, 0.5 - x[1]]))
    assert ResidualBranch in FORMS
