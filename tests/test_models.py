"""Networks have the norm that they are given, where they are told to have it, and nothing else changes with it."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bncourse import layers
from bncourse.models import (
    GPT,
    LSTM,
    MLP,
    RNN,
    PostNormBlock,
    PreNormBlock,
    ResidualBranch,
    ResidualCNN,
    ResidualMLP,
    Scale,
    SequenceNorm,
    Shift,
    StepBatchNorm,
)

N, LENGTH, TOKENS = 6, 5, 7

NORMS_OF_FEATURES = {
    "none": None,
    "batch": layers.BatchNorm1d,
    "PyTorch's batch": nn.BatchNorm1d,
    "layer": layers.LayerNorm,
    "PyTorch's layer": nn.LayerNorm,
    "RMS": layers.RMSNorm,
    "group": lambda c: layers.GroupNorm(2, c),
}
NORMS_OF_IMAGES = {
    "none": None,
    "batch": layers.BatchNorm2d,
    "PyTorch's batch": nn.BatchNorm2d,
    "group": lambda c: layers.GroupNorm(4, c),
    "instance": nn.InstanceNorm2d,
}


def mlp(norm, place):
    return MLP([5, 8, 6, 3], norm, place=place), torch.randn(N, 5), (N, 3)


def residual_mlp(norm, place):
    return ResidualMLP(5, 8, 2, 3, norm, start=place), torch.randn(N, 5), (N, 3)


def cnn(norm, place):
    return ResidualCNN(norm=norm, place=place, channels=(4, 8)), torch.randn(N, 1, 8, 8), (N, 10)


def colour_cnn(norm, place):
    return ResidualCNN(3, 4, norm, place=place, channels=(8, 4), blocks=2), torch.randn(N, 3, 32, 32), (N, 4)


def lstm(norm, place):
    return LSTM(4, 8, 3, norm, place=place, num_layers=2), torch.randn(N, LENGTH, 4), (N, 3)


def rnn(norm, place):
    return RNN(4, 8, 3, norm, cell=place), torch.randn(N, LENGTH, 4), (N, 3)


def gpt(norm, place):
    return GPT(TOKENS, LENGTH + 2, norm, place=place, width=8), torch.randint(TOKENS, (N, LENGTH)), (N, LENGTH, TOKENS)


PLACES = {
    mlp: ("before", "after"),
    residual_mlp: ("he", "skipinit"),
    cnn: ("post", "pre"),
    colour_cnn: ("post", "pre"),
    lstm: ("input", "output"),
    rnn: ("tanh", "lstm"),
    gpt: ("pre", "post"),
}
CASES = [
    pytest.param(make, norm, place, id=f"{make.__name__}-{name}-{place}")
    for make, places in PLACES.items()
    for name, norm in (NORMS_OF_IMAGES if "cnn" in make.__name__ else NORMS_OF_FEATURES).items()
    for place in places
]
WITH_BATCH_NORM = [
    pytest.param(make, place, id=f"{make.__name__}-{place}") for make, places in PLACES.items() for place in places
]


def batch_norm(make, package):
    return package.BatchNorm2d if "cnn" in make.__name__ else package.BatchNorm1d


def randomize(model):
    """Random parameters and running statistics, not far from 1: constants hide mistakes."""
    with torch.no_grad():
        for name, values in model.state_dict().items():
            if "running_var" in name or ("norm" in name and name.endswith("weight")):
                values.uniform_(0.5, 2)
            elif "num_batches_tracked" not in name:
                values.normal_(std=0.5)
    return model


def calls(model, *inputs):
    """The names of the layers, in the order in which they are called, and what each was given."""
    seen = []
    for name, module in model.named_modules():
        if not list(module.children()) and not isinstance(module, (nn.Identity, nn.Sequential)):
            module.register_forward_pre_hook(lambda _, args, name=name: seen.append((name, args[0])))
    model(*inputs)
    return seen


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


# Every network


@pytest.mark.parametrize(("make", "norm", "place"), CASES)
def test_outputs_have_their_shape_and_every_parameter_gets_a_gradient(make, norm, place):
    model, x, shape = make(norm, place)
    y = randomize(model)(x)
    assert y.shape == shape
    (y * torch.randn(shape)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name
    assert model.eval()(x).isfinite().all()


@pytest.mark.parametrize(("make", "place"), WITH_BATCH_NORM)
def test_the_state_of_a_network_with_pytorchs_norms_fits_one_with_ours(make, place):
    theirs, x, _ = make(batch_norm(make, nn), place)
    ours, _, _ = make(batch_norm(make, layers), place)
    ours.load_state_dict(randomize(theirs).state_dict())
    assert any("running_mean" in name for name in ours.state_dict())
    for _ in range(3):
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", PLACES)
def test_a_copy_shares_nothing_with_the_network(make):
    model, x, _ = make(batch_norm(make, layers), PLACES[make][0])
    twin = copy.deepcopy(model)
    state = copy.deepcopy(model.state_dict())
    twin(x)
    randomize(twin)
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)


class LeafTracer(torch.fx.Tracer):
    """Norms check their input's shape, which cannot be traced: leave them whole."""

    def is_leaf_module(self, module, name):
        return module.__module__ == "bncourse.layers" or super().is_leaf_module(module, name)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("make", [mlp, residual_mlp, cnn])
def test_mlps_and_cnn_can_be_traced(make, place):
    model, x, _ = make(batch_norm(make, layers), PLACES[make][place])
    randomize(model)
    graph = LeafTracer().trace(model)
    traced = torch.fx.GraphModule(model, graph)
    called = {node.target for node in graph.nodes if node.op == "call_module"}
    assert called.issuperset(name for name, module in model.named_modules() if hasattr(module, "num_features"))
    torch.testing.assert_close(traced.eval()(x), model.eval()(x), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore")  # TorchDynamo does what PyTorch warns of
@pytest.mark.parametrize("make", [mlp, residual_mlp, cnn, lstm, gpt])
def test_networks_can_be_compiled(make):
    """The graph only, which needs no C++ compiler; whole, but for the LSTM, which PyTorch does not compile."""
    model, x, _ = make(batch_norm(make, layers), PLACES[make][0])
    twin = copy.deepcopy(randomize(model))
    compiled = torch.compile(twin, backend="eager", fullgraph=make is not lstm)
    for _ in range(2):
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(twin.state_dict(), model.state_dict(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [mlp, cnn, lstm, gpt])
def test_a_place_that_does_not_exist_is_an_error(make):
    with pytest.raises(ValueError, match=r"place: expected one of \('.*'\); got 'middle'; choose"):
        make(None, "middle")


def test_a_norm_that_is_a_module_is_an_error():
    with pytest.raises(ValueError, match=r"expected a callable .* got the module BatchNorm1d\(.*; pass its class"):
        MLP([5, 8, 3], nn.BatchNorm1d(8))


# Fully connected networks


@pytest.mark.parametrize(
    ("place", "order"),
    [
        ("before", ["linear1", "norm1", "activation1", "dropout1", "linear2", "norm2", "activation2", "dropout2"]),
        ("after", ["linear1", "activation1", "norm1", "dropout1", "linear2", "activation2", "norm2", "dropout2"]),
    ],
)
def test_norm_of_an_mlp_stands_before_or_after_the_activation(place, order):
    model = MLP([5, 8, 6, 3], place=place, dropout=0.25, activation=nn.Tanh)
    assert [name for name, _ in calls(model, torch.randn(N, 5))] == [f"layers.{name}" for name in [*order, "linear3"]]
    assert isinstance(model.layers.norm1, layers.BatchNorm1d)
    assert isinstance(model.layers.activation1, nn.Tanh)
    assert model.layers.dropout1.p == 0.25


@pytest.mark.parametrize(
    ("norm", "place", "bias", "expected"),
    [
        (nn.BatchNorm1d, "before", None, False),
        (nn.BatchNorm1d, "before", True, True),
        (nn.BatchNorm1d, "after", None, True),
        (nn.BatchNorm1d, "after", False, False),
        (None, "before", None, True),
    ],
)
def test_linear_layers_have_a_bias_unless_a_norm_follows(norm, place, bias, expected):
    model = MLP([5, 8, 6, 3], norm, place=place, bias=bias)
    assert (model.layers.linear1.bias is not None, model.layers.linear2.bias is not None) == (expected, expected)
    assert model.layers.linear3.bias is not None


def test_an_mlp_without_a_size_for_its_output_is_an_error():
    with pytest.raises(ValueError, match=r"expected at least an input and an output size; got \[5\]; write"):
        MLP([5])


def test_weights_before_a_relu_start_with_he_initialization():
    model = MLP([400, 300, 200, 100], None)
    for linear in (model.layers.linear1, model.layers.linear2):
        assert linear.weight.std().item() == pytest.approx(math.sqrt(2 / linear.in_features), rel=0.02)
        assert not linear.bias.any()
    pytorchs = 1 / math.sqrt(3 * 200)  # uniform between ± 1 / √inputs
    assert model.layers.linear3.weight.std().item() == pytest.approx(pytorchs, rel=0.02)
    cnn = ResidualCNN(norm=None, channels=(64, 64))
    for conv in (cnn.blocks[0].conv1, cnn.blocks[1].conv2):
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)


def test_weights_start_as_they_are_told_to():
    default = MLP([400, 300, 10], None, init=None).layers.linear1
    assert default.weight.std().item() == pytest.approx(1 / math.sqrt(3 * 400), rel=0.02)
    assert default.bias.any()
    weight = MLP([400, 300, 10], None, init=nn.init.orthogonal_).layers.linear1.weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(300), rtol=0, atol=1e-5)


# Residual networks


def kinds(network, *inputs):
    """The classes of the layers, in the order in which they are called."""
    modules = dict(network.named_modules())
    return [type(modules[name]) for name, _ in calls(network, *inputs)]


@pytest.mark.parametrize("start", ["he", "skipinit", "fixup"])
@pytest.mark.parametrize("blocks", [0, 1, 4])
def test_a_residual_mlp_has_two_hidden_layers_per_block_and_one(blocks, start):
    network = ResidualMLP(5, 8, blocks, 3, start=start)
    linears = [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]
    assert linears == [(5, 8), *[(8, 8)] * (2 * blocks), (8, 3)]


def test_norms_of_a_residual_mlp_precede_its_relus():
    x, norm = torch.randn(N, 5), nn.BatchNorm1d
    branch = [norm, nn.ReLU, nn.Linear] * 2
    ends = [nn.Linear], [norm, nn.ReLU, nn.Linear]
    assert kinds(ResidualMLP(5, 8, 2, 3, norm), x) == [*ends[0], *branch, *branch, *ends[1]]
    scaled = [*branch, Scale]
    assert kinds(ResidualMLP(5, 8, 2, 3, norm, start="skipinit"), x) == [*ends[0], *scaled, *scaled, *ends[1]]


@pytest.mark.parametrize("norm", [None, nn.LayerNorm])
def test_hidden_layers_of_a_residual_mlp_have_a_bias_only_without_norm(norm):
    network = ResidualMLP(5, 8, 2, 3, norm)
    biases = [m.bias is not None for m in network.modules() if isinstance(m, nn.Linear)]
    assert biases == [norm is None] * 5 + [True]


def test_a_residual_mlp_starts_with_he_initialization():
    network = ResidualMLP(400, 300, 1, 10)
    for linear in (network.stem, network.blocks[0].branch[2], network.blocks[0].branch[5]):
        assert linear.weight.std().item() == pytest.approx(math.sqrt(2 / linear.in_features), rel=0.02)
        assert not linear.bias.any()


@pytest.mark.parametrize("start", ["he", "skipinit", "fixup"])
def test_a_residual_branch_adds_what_it_computes_to_its_input(start):
    block = randomize(ResidualBranch(8, None, start, 3))
    x = torch.randn(N, 8)
    torch.testing.assert_close(block(x) - x, block.branch(x), rtol=1e-4, atol=1e-5)
    assert block.branch(x).abs().max() > 0.01


@pytest.mark.parametrize(("start", "norm"), [("skipinit", None), ("skipinit", nn.BatchNorm1d), ("fixup", None)])
def test_blocks_start_as_the_identity_and_learn_to_be_something_else(start, norm):
    network, x = ResidualMLP(5, 8, 3, 3, norm, start=start), torch.randn(N, 5)
    for block in network.blocks:
        values = torch.randn(N, 8)
        assert torch.equal(block(values), values)
    nn.init.normal_(network.head.weight)  # with fixup, 0 at first
    network(x).square().sum().backward()
    last = network.blocks[0].branch[-1 if start == "skipinit" else -2]
    assert next(last.parameters()).grad.any()


def test_fixup_starts_with_an_output_of_zero():
    network = ResidualMLP(5, 8, 3, 3, start="fixup")
    assert not network(torch.randn(N, 5)).any()


@pytest.mark.parametrize("blocks", [1, 4, 25])
def test_branches_of_fixup_start_as_those_of_its_paper(blocks):
    """With m = 2 layers in each of L branches, the first weights are He's times L^(-1/(2m-2)), the last are 0."""
    branch = ResidualBranch(400, None, "fixup", blocks).branch
    first, last = (module for module in branch if isinstance(module, nn.Linear))
    assert first.weight.std().item() == pytest.approx(math.sqrt(2 / 400) * blocks ** (-1 / 2), rel=0.02)
    assert not last.weight.any()


def test_fixup_shifts_what_goes_into_each_relu_and_linear_layer_and_scales_each_branch():
    network = ResidualMLP(5, 8, 2, 3, start="fixup")
    branch = [Shift, nn.ReLU, Shift, nn.Linear, Shift, nn.ReLU, Shift, nn.Linear, Scale]
    tail = [Shift, nn.ReLU, Shift, nn.Linear]
    assert kinds(network, torch.randn(N, 5)) == [nn.Linear, *branch, *branch, *tail]
    assert [m.value.item() for m in network.modules() if isinstance(m, Shift | Scale)] == [*[0, 0, 0, 0, 1] * 2, 0, 0]
    assert all(m.bias is None for block in network.blocks for m in block.modules() if isinstance(m, nn.Linear))


def test_every_parameter_of_fixup_gets_a_gradient():
    network = randomize(ResidualMLP(5, 8, 2, 3, start="fixup"))
    network(torch.randn(N, 5)).square().sum().backward()
    assert all(parameter.grad.any() for parameter in network.parameters())


def test_scale_and_shift_learn_one_number():
    x = torch.randn(N, 5)
    scale, shift = Scale(-2.0), Shift(0.5)
    torch.testing.assert_close(scale(x), -2 * x)
    torch.testing.assert_close(shift(x), x + 0.5)
    (scale(x) + shift(x)).sum().backward()
    torch.testing.assert_close(scale.value.grad, x.sum())
    assert shift.value.grad == 5 * N
    assert (Scale().value, Shift().value) == (1, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": "orthogonal"}, r"start: expected one of .*; got 'orthogonal'; choose how branches begin"),
        ({"start": "fixup", "norm": nn.LayerNorm}, "norm: expected None, since fixup takes its place; got .*; choose"),
    ],
)
def test_a_start_that_does_not_exist_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResidualMLP(5, 8, 2, 3, **arguments)


def test_norm_of_a_residual_network_follows_or_precedes_its_convolutions():
    x = torch.randn(N, 1, 8, 8)
    post = [name for name, _ in calls(ResidualCNN(channels=(4, 8)), x)]
    block = ["conv1", "norm1", "relu1", "conv2", "norm2"]
    assert post == [
        *("stem.conv", "stem.norm", "stem.relu"),
        *(f"blocks.0.{name}" for name in [*block, "relu2"]),
        *(f"blocks.1.{name}" for name in [*block, "shortcut.0", "shortcut.1", "relu2"]),
        "head",
    ]
    pre = [name for name, _ in calls(ResidualCNN(channels=(4, 8), place="pre"), x)]
    block = ["norm1", "relu1", "conv1", "norm2", "relu2", "conv2"]
    assert pre == [
        "stem.conv",
        *(f"blocks.0.{name}" for name in block),
        *(f"blocks.1.{name}" for name in [*block, "shortcut"]),
        *("tail.norm", "tail.relu", "head"),
    ]


@pytest.mark.parametrize("place", ["post", "pre"])
def test_each_stage_but_the_first_halves_the_image(place):
    model = ResidualCNN(3, channels=(4, 8, 12), blocks=2, place=place)
    seen = {name: tuple(x.shape[1:]) for name, x in calls(model, torch.randn(N, 3, 32, 32))}
    inputs = [seen[f"blocks.{i}.conv1"] for i in range(6)]
    assert inputs == [(4, 32, 32), (4, 32, 32), (4, 32, 32), (8, 16, 16), (8, 16, 16), (12, 8, 8)]
    assert seen["head"] == (12,)


@pytest.mark.parametrize("place", ["post", "pre"])
def test_the_head_of_a_residual_network_sees_the_mean_over_all_positions(place):
    model = randomize(ResidualCNN(channels=(4, 8), place=place))
    last = []
    (model.tail if place == "pre" else model.blocks).register_forward_hook(lambda *args: last.append(args[2]))
    y = model(torch.randn(N, 1, 8, 8))
    assert last[0].shape == (N, 8, 4, 4) and (last[0] >= 0).all()
    torch.testing.assert_close(y, last[0].flatten(2).mean(2) @ model.head.weight.T + model.head.bias)


@pytest.mark.parametrize("outputs", [4, 6])
@pytest.mark.parametrize("block", [PostNormBlock, PreNormBlock])
def test_a_block_adds_its_input_to_what_it_computes(block, outputs):
    model = randomize(block(4, outputs, nn.BatchNorm2d, stride=1 if outputs == 4 else 2))
    x = torch.randn(N, 4, 8, 8)
    y = model(x)
    model.conv2.weight.data.zero_()
    if block is PostNormBlock:
        model.norm2.bias.data.zero_()
    shortcut = x if outputs == 4 else model.shortcut(x)
    torch.testing.assert_close(model(x), shortcut.relu() if block is PostNormBlock else shortcut)
    assert not torch.allclose(model(x), y, atol=0.1)


@pytest.mark.parametrize("place", ["post", "pre"])
def test_convolutions_have_a_bias_only_without_norm(place):
    for norm in (None, nn.BatchNorm2d):
        model = ResidualCNN(norm=norm, place=place)
        convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        assert len(convolutions) == 6  # the stem, two in each block, and a shortcut
        assert all((conv.bias is None) == (norm is not None) for conv in convolutions)


# Sequences


@pytest.mark.parametrize("package", [nn, layers])
def test_batch_norm_over_sequences_shares_statistics_among_all_positions(package):
    """With as many positions as features, batch norm over the wrong axis goes unnoticed but for its numbers."""
    norm = randomize(package.BatchNorm1d(LENGTH))
    flat = copy.deepcopy(norm)
    x = torch.randn(N, LENGTH, LENGTH) * torch.arange(1.0, LENGTH + 1) + torch.arange(LENGTH)
    y = SequenceNorm(norm)(x)
    torch.testing.assert_close(y, flat(x.flatten(0, 1)).view_as(x))
    torch.testing.assert_close(norm.state_dict(), flat.state_dict())


@pytest.mark.parametrize("norm", [layers.LayerNorm, nn.LayerNorm, layers.RMSNorm, nn.RMSNorm])
def test_layer_norm_over_sequences_looks_at_each_position_alone(norm):
    norm = randomize(norm(LENGTH))
    x = torch.randn(N, LENGTH, LENGTH)
    torch.testing.assert_close(SequenceNorm(norm)(x)[2, 3], norm(x[2, 3]))


@pytest.mark.parametrize("norm", [layers.BatchNorm1d, layers.LayerNorm, nn.Identity])
def test_padding_stays_out_of_the_statistics_and_becomes_zero(norm):
    norm = randomize(norm(4))
    alone = copy.deepcopy(norm)
    x, mask = torch.randn(N, LENGTH, 4) + 3, torch.arange(LENGTH) < torch.tensor([[5], [2], [1], [3], [5], [4]])
    x[~mask] = 1e3
    y = SequenceNorm(norm)(x, mask)
    torch.testing.assert_close(y[mask], alone(x[mask]))
    assert not y[~mask].any()
    torch.testing.assert_close(norm.state_dict(), alone.state_dict())


@pytest.mark.parametrize("place", ["input", "output"])
def test_norm_of_an_lstm_is_over_its_input_or_its_output(place):
    model = LSTM(4, 8, 3, layers.BatchNorm1d, place=place, num_layers=2)
    names = [name for name, _ in calls(model, torch.randn(N, LENGTH, 4))]
    pairs = [("norms.0.norm", "lstms.0"), ("norms.1.norm", "lstms.1")]
    ordered = pairs if place == "input" else [pair[::-1] for pair in pairs]
    assert names == [*ordered[0], *ordered[1], "head"]
    assert [norm.norm.num_features for norm in model.norms] == ([4, 8] if place == "input" else [8, 8])


@pytest.mark.parametrize("norm", [None, layers.BatchNorm1d, layers.LayerNorm])
@pytest.mark.parametrize("place", ["input", "output"])
def test_an_lstm_gives_the_same_with_more_padding_behind_a_sequence(norm, place):
    model = randomize(LSTM(4, 8, 3, norm, place=place, num_layers=2))
    longer = copy.deepcopy(model)
    x, mask = torch.randn(N, LENGTH, 4), torch.arange(LENGTH) < torch.tensor([[5], [2], [1], [3], [4], [4]])
    padded = torch.cat([x.masked_fill(~mask[..., None], 7.0), torch.full((N, 3, 4), 7.0)], dim=1)
    y = model(x, mask)
    torch.testing.assert_close(y, longer(padded, F.pad(mask, (0, 3))))
    torch.testing.assert_close(model.state_dict(), longer.state_dict())
    assert not torch.allclose(y, model(x))


@pytest.mark.parametrize("norm", [None, layers.BatchNorm1d, layers.LayerNorm])
def test_an_lstm_in_evaluation_mode_gives_a_sequence_the_same_alone(norm):
    model = randomize(LSTM(4, 8, 3, norm)).eval()
    x, lengths = torch.randn(N, LENGTH, 4), [5, 2, 1, 3, 4, 4]
    y = model(x, torch.arange(LENGTH) < torch.tensor(lengths)[:, None])
    for i, length in enumerate(lengths):
        torch.testing.assert_close(y[i], model(x[i : i + 1, :length])[0])


LENGTHS = torch.tensor([5, 2, 1, 3, 5, 4])  # of N sequences


def ended_at(lengths, longest=LENGTH):
    return torch.arange(longest) < lengths[:, None]


def running(norm):
    return torch.stack([norm.running_mean, norm.running_var])


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_of_a_step_is_pytorchs_of_the_samples_that_are_left(training, steps):
    """Its output, its gradients and its running statistics; steps beyond those that it knows are as the last."""
    ours = randomize(StepBatchNorm(4, steps, eps=0.1, momentum=0.3)).train(training)
    nn.init.uniform_(ours.weight, 0.5, 2)
    theirs = [nn.BatchNorm1d(4, eps=0.1, momentum=0.3).train(training) for _ in range(steps)]
    for i, norm in enumerate(theirs):
        values = {"weight": ours.weight, "bias": ours.bias}
        values |= {"running_mean": ours.running_mean[i], "running_var": ours.running_var[i]}
        norm.load_state_dict(values, strict=False)
    before = running(ours).clone()
    for step in (0, 1, 2, 3, 3):
        live = torch.rand(N, 1) < 0.6
        live[:2] = True
        x, dy = torch.randn(N, 4, requires_grad=True), torch.randn(N, 4)
        alike = x.detach()[live[:, 0]].requires_grad_()
        norm = theirs[min(step, steps - 1)]
        y, expected = ours(x, live, step), norm(alike)
        torch.testing.assert_close(y[live[:, 0]], expected)
        found = torch.autograd.grad((y * dy * live).sum(), [x, ours.weight, ours.bias])
        wanted = torch.autograd.grad((expected * dy[live[:, 0]]).sum(), [alike, norm.weight, norm.bias])
        torch.testing.assert_close(found[0][live[:, 0]], wanted[0])
        assert not found[0][~live[:, 0]].any()
        torch.testing.assert_close(found[1:], wanted[1:])
        torch.testing.assert_close(running(ours), torch.stack([running(norm) for norm in theirs], dim=1))
    assert torch.equal(running(ours), before) != training


@pytest.mark.parametrize("left", [0, 1])
def test_a_step_with_one_sample_left_or_none_makes_no_nan_and_changes_no_statistics(left):
    norm = randomize(StepBatchNorm(4, 2))
    before = running(norm).clone()
    x, live = torch.randn(N, 4, requires_grad=True), torch.arange(N)[:, None] < left
    y = norm(x, live, 1)
    torch.testing.assert_close(y[:left], norm.bias.expand(left, -1))
    gradients = torch.autograd.grad(torch.where(live, y, 0).square().sum(), [x, norm.weight, norm.bias])
    assert all(values.isfinite().all() for values in (y, *gradients))
    assert torch.equal(running(norm), before)


def test_batch_norm_that_counts_the_padding_is_pytorchs_of_all_samples():
    ours, theirs = StepBatchNorm(4, padding=True), nn.BatchNorm1d(4)
    x = torch.randn(N, 4) + 3
    torch.testing.assert_close(ours(x, torch.arange(N)[:, None] < 2, 0), theirs(x))
    torch.testing.assert_close(running(ours)[:, 0], running(theirs))


def test_gamma_starts_where_it_is_told_to_and_beta_at_zero():
    norm = StepBatchNorm(3, weight=0.1)
    assert norm.weight.tolist() == pytest.approx([0.1] * 3) and not norm.bias.any()
    assert StepBatchNorm(3).weight.tolist() == [1, 1, 1]


@pytest.mark.parametrize("cell", ["tanh", "lstm"])
def test_an_rnn_without_norm_is_pytorchs(cell):
    ours = randomize(RNN(4, 8, 3, None, cell=cell))
    theirs = nn.RNN(4, 8, batch_first=True) if cell == "tanh" else nn.LSTM(4, 8, batch_first=True)

    def in_their_order(values):  # gates i, f, o, g there are i, f, g, o
        return torch.cat([values.chunk(4)[i] for i in (0, 1, 3, 2)]) if cell == "lstm" else values

    weights = {"weight_ih_l0": ours.project_in.weight, "weight_hh_l0": ours.project_hidden.weight}
    weights |= {"bias_ih_l0": ours.project_in.bias}
    state = {name: in_their_order(values.detach()) for name, values in weights.items()}
    theirs.load_state_dict(state | {"bias_hh_l0": torch.zeros_like(state["bias_ih_l0"])})
    x = torch.randn(N, LENGTH, 4)
    hidden = theirs(x)[0]
    torch.testing.assert_close(ours(x), ours.head(hidden[:, -1]))
    torch.testing.assert_close(ours(x, ended_at(LENGTHS)), ours.head(hidden[torch.arange(N), LENGTHS - 1]))


@pytest.mark.parametrize("steps", [1, LENGTH])
def test_norm_of_an_rnn_is_inside_of_its_recurrence(steps):
    """Against a loop with PyTorch's batch norm, over those sequences that have not ended."""
    model = randomize(RNN(4, 8, 3, lambda c: StepBatchNorm(c, steps)))
    theirs = [nn.BatchNorm1d(8) for _ in range(steps)]
    for i, norm in enumerate(theirs):
        values = {"running_mean": model.norm.running_mean[i], "running_var": model.norm.running_var[i]}
        norm.load_state_dict({"weight": model.norm.weight, "bias": model.norm.bias} | values, strict=False)
    lengths = torch.tensor([5, 2, 3, 3, 5, 4])
    x, h = torch.randn(N, LENGTH, 4), torch.zeros(N, 8)
    for t in range(LENGTH):
        left = lengths > t
        a = x[left, t] @ model.project_in.weight.T + h[left] @ model.project_hidden.weight.T
        h = h.clone()
        h[left] = theirs[t % steps](a).tanh()
    torch.testing.assert_close(model(x, ended_at(lengths)), model.head(h))
    torch.testing.assert_close(running(model.norm), torch.stack([running(norm) for norm in theirs], dim=1))


def test_layer_norm_of_an_lstm_is_over_all_its_gates():
    model = randomize(RNN(4, 8, 3, cell="lstm"))
    x, h, c = torch.randn(N, 2, 4), torch.zeros(N, 8), torch.zeros(N, 8)
    for t in range(2):
        a = F.layer_norm(model.project_in(x[:, t]) + model.project_hidden(h), [32], model.norm.weight, model.norm.bias)
        i, f, o, g = a.split(8, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    torch.testing.assert_close(model(x), model.head(h))


RECURRENT_NORMS = {
    "none": None,
    "layer": layers.LayerNorm,
    "batch": StepBatchNorm,
    "batch per step": lambda c: StepBatchNorm(c, 3),
    "batch, padding counted": lambda c: StepBatchNorm(c, padding=True),
    "PyTorch's batch, which counts it": nn.BatchNorm1d,
}


@pytest.mark.parametrize("cell", ["tanh", "lstm"])
@pytest.mark.parametrize("norm", RECURRENT_NORMS)
def test_padding_changes_nothing_in_an_rnn_unless_batch_norm_counts_it(norm, cell):
    """Neither what stands there nor how much there is of it, in training mode."""
    model = randomize(RNN(4, 8, 3, RECURRENT_NORMS[norm], cell=cell))
    other = copy.deepcopy(model)
    x, mask = torch.randn(N, LENGTH, 4), ended_at(LENGTHS)
    padded = torch.cat([x.masked_fill(~mask[..., None], 7.0), torch.full((N, 3, 4), 7.0)], dim=1)
    outputs = model(x, mask), other(padded, F.pad(mask, (0, 3)))
    for y in outputs:
        y.square().sum().backward()
    same = [(*outputs,), *((a.grad, b.grad) for a, b in zip(model.parameters(), other.parameters(), strict=True))]
    same += list(zip(model.buffers(), other.buffers(), strict=True))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in same) != ("counts" in norm or "counted" in norm)


@pytest.mark.parametrize("cell", ["tanh", "lstm"])
@pytest.mark.parametrize("norm", RECURRENT_NORMS)
def test_an_rnn_in_evaluation_mode_gives_a_sequence_the_same_alone(norm, cell):
    model = randomize(RNN(4, 8, 3, RECURRENT_NORMS[norm], cell=cell)).eval()
    x = torch.randn(N, LENGTH, 4)
    y = model(x, ended_at(LENGTHS))
    for i, length in enumerate(LENGTHS):
        torch.testing.assert_close(y[i], model(x[i : i + 1, :length])[0])


@pytest.mark.parametrize("norm", [None, nn.LayerNorm, nn.RMSNorm])
def test_an_rnn_starts_with_orthogonal_matrices_and_an_lstm_remembers(norm):
    tanh, lstm = (RNN(4, 8, 3, norm, cell=cell) for cell in ("tanh", "lstm"))
    for gate in (tanh.project_hidden.weight, *lstm.project_hidden.weight.chunk(4)):
        torch.testing.assert_close(gate @ gate.T, torch.eye(8), rtol=0, atol=1e-5)
    for model, expected in ((tanh, [0] * 8), (lstm, [0] * 8 + [1] * 8 + [0] * 16)):
        biases = [bias for bias in (model.project_in.bias, getattr(model.norm, "bias", None)) if bias is not None]
        assert [bias.tolist() for bias in biases] == [expected], "one bias, of the norm if it has one"
    wide = RNN(300, 300, 3, norm, cell="lstm").project_in.weight
    assert wide.std().item() == pytest.approx(math.sqrt(2 / 600), rel=0.02)  # as a matrix for each gate


def test_a_cell_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match=r"cell: expected one of \('tanh', 'lstm'\); got 'gru'; choose the kind of"):
        RNN(4, 8, 3, cell="gru")


def test_batch_norm_in_a_gpt_is_given_the_features_as_channels():
    model = GPT(TOKENS, LENGTH, layers.BatchNorm1d, width=8)
    seen = {name: x.shape for name, x in calls(model, torch.randint(TOKENS, (N, LENGTH))) if "norm" in name}
    assert len(seen) == 5  # two in each block, and the last one
    assert set(seen.values()) == {(N, 8, LENGTH)}


def test_norm_of_a_gpt_precedes_or_follows_attention_and_mlp():
    x = torch.randint(TOKENS, (N, LENGTH))
    embedding = ["token_embedding", "position_embedding"]
    attention, mlp = (
        ["attention.project_in", "attention.project_out"],
        [f"mlp.layers.{n}" for n in ("linear1", "activation1", "linear2")],
    )
    pre = [f"blocks.0.{name}" for name in ["norm1.norm", *attention, "norm2.norm", *mlp]]
    assert [name for name, _ in calls(GPT(TOKENS, LENGTH, blocks=1), x)] == [*embedding, *pre, "last_norm.norm", "head"]
    post = [f"blocks.0.{name}" for name in [*attention, "norm1.norm", *mlp, "norm2.norm"]]
    assert [name for name, _ in calls(GPT(TOKENS, LENGTH, blocks=1, place="post"), x)] == [*embedding, *post, "head"]


@pytest.mark.parametrize("place", ["pre", "post"])
def test_a_transformer_block_adds_attention_and_mlp_to_its_input(place):
    block = randomize(GPT(TOKENS, LENGTH, layers.LayerNorm, place=place, width=8).blocks[0])
    x = torch.randn(N, LENGTH, 8)
    y = block(x)
    for last in (block.attention.project_out, block.mlp.layers.linear2):
        nn.init.zeros_(last.weight)
    nn.init.zeros_(block.mlp.layers.linear2.bias)
    torch.testing.assert_close(block(x), x if place == "pre" else block.norm2(block.norm1(x)))
    assert not torch.allclose(block(x), y, atol=0.1)


@pytest.mark.parametrize("place", ["pre", "post"])
@pytest.mark.parametrize(
    ("norm", "training", "leaks"),
    [
        (None, True, False),
        (layers.LayerNorm, True, False),
        (layers.BatchNorm1d, True, True),
        (layers.BatchNorm1d, False, False),
    ],
)
def test_only_batch_statistics_let_a_gpt_see_later_tokens(norm, training, leaks, place):
    model = randomize(GPT(TOKENS, LENGTH, norm, place=place, width=8)).train(training)
    x = torch.randint(TOKENS, (N, LENGTH))
    other = x.clone()
    other[:, -1] = (x[:, -1] + 1) % TOKENS
    change = (model(x) - model(other)).abs()
    assert change[:, -1].max() > 0.01
    assert (change[:, :-1].max() > 0.01) == leaks


def test_a_gpt_tells_positions_apart_and_reads_shorter_texts():
    model = randomize(GPT(TOKENS, LENGTH))
    x = torch.randint(TOKENS, (N, LENGTH))
    torch.testing.assert_close(model(x[:, :3]), model(x)[:, :3], rtol=1e-4, atol=1e-5)
    same = model(torch.full((1, LENGTH), 2))[0]
    assert not torch.allclose(same[0], same[1], atol=0.01)


def test_heads_attend_on_their_own():
    """Attention of two heads beside PyTorch's, which has the same weights in another arrangement."""
    ours = randomize(GPT(TOKENS, LENGTH, width=8).blocks[0].attention)
    theirs = nn.MultiheadAttention(8, 2, bias=False, batch_first=True)
    theirs.load_state_dict({"in_proj_weight": ours.project_in.weight, "out_proj.weight": ours.project_out.weight})
    x = torch.randn(N, LENGTH, 8)
    later = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    torch.testing.assert_close(ours(x), theirs(x, x, x, attn_mask=later)[0])


def test_heads_that_do_not_divide_the_width_are_an_error():
    with pytest.raises(ValueError, match="expected a multiple of heads = 3; got 8; change"):
        GPT(TOKENS, LENGTH, width=8, heads=3)
