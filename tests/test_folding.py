"""Folded layers and models compute what the unfolded ones compute; what cannot be folded stays, with the reason."""

import copy
import itertools
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fusion, parametrizations

from bncourse import folding, layers
from bncourse.distributed import SyncBatchNorm
from bncourse.folding import fold, fold_model

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
OUR_BATCH_NORMS = {1: layers.BatchNorm1d, 2: layers.BatchNorm2d, 3: layers.BatchNorm3d}
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
AFFINE = {"affine": {}, "scale only": {"bias": False}, "no affine": {"affine": False}}
POSITIONS = (5, 6, 4)  # of 1, 2 or 3 dimensions


@pytest.fixture(autouse=True)
def _float64():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def random_norm(make: Callable[..., nn.Module], channels: int, **options: object) -> nn.Module:
    """A batch norm in evaluation mode none of whose numbers is special, with an ε that counts."""
    return ready(make(channels, eps=0.3, **options))


def randomized(model: nn.Module) -> nn.Module:
    """The model with random statistics and parameters in its batch norms; γ is negative in every other channel."""
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm | layers._BatchNorm):
            for tensor in filter(torch.is_tensor, (part.weight, part.running_var)):
                tensor.data.uniform_(0.3, 2)
            for tensor in filter(torch.is_tensor, (part.bias, part.running_mean)):
                tensor.data.normal_()
            if part.weight is not None:
                part.weight.data[::2].neg_()
    return model


def ready(model: nn.Module) -> nn.Module:
    return randomized(model).eval()


def images(channels: int, dimensions: int) -> Tensor:
    return torch.randn(3, channels, *POSITIONS[:dimensions])


@torch.no_grad()
def assert_same_outputs(actual: nn.Module, expected: nn.Module, *inputs: Tensor) -> None:
    got, wanted = actual(*inputs), expected(*inputs)
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() <= 1e-12 * wanted.abs().max()


def assert_folds(layer: nn.Module, bn: nn.Module, x: Tensor) -> None:
    assert_same_outputs(fold(layer.eval(), bn), nn.Sequential(layer, bn), x)


# A pair of layers


@pytest.mark.parametrize("affine", AFFINE)
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_computes_what_the_pair_computed(bias, affine):
    assert_folds(nn.Linear(4, 6, bias=bias), random_norm(nn.BatchNorm1d, 6, **AFFINE[affine]), torch.randn(7, 4))


@pytest.mark.parametrize(
    "dimensions, groups, bias, padding_mode, affine",
    list(itertools.product(CONVOLUTIONS, (1, 2, 4), (True, False), PADDING_MODES, AFFINE)),
)
def test_a_convolution_computes_what_the_pair_computed(dimensions, groups, bias, padding_mode, affine):
    options = {"stride": 2, "padding": 2, "dilation": 2} if groups == 2 else {"padding": 1}
    conv = CONVOLUTIONS[dimensions](4, 8, 3, groups=groups, bias=bias, padding_mode=padding_mode, **options)
    bn = random_norm(BATCH_NORMS[dimensions], 8, **AFFINE[affine])
    assert_folds(conv, bn, images(4, dimensions))


@pytest.mark.parametrize(
    "dimensions, groups, outputs, bias, affine",
    list(itertools.product(TRANSPOSED, (1, 2, 4), (4, 8), (True, False), AFFINE)),
)
def test_a_transposed_convolution_computes_what_the_pair_computed(dimensions, groups, outputs, bias, affine):
    options = {"stride": 3, "output_padding": 2, "dilation": 2, "padding": 1} if groups == 2 else {}
    conv = TRANSPOSED[dimensions](4, outputs, 3, groups=groups, bias=bias, **options)
    bn = random_norm(BATCH_NORMS[dimensions], outputs, **AFFINE[affine])
    assert_folds(conv, bn, images(4, dimensions))


def test_a_transposed_convolution_still_takes_an_output_size():
    conv, bn = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2).eval(), random_norm(nn.BatchNorm2d, 6)
    x = images(4, 2)
    torch.testing.assert_close(fold(conv, bn)(x, output_size=[12, 14]), bn(conv(x, output_size=[12, 14])))


@pytest.mark.parametrize("make", [*OUR_BATCH_NORMS.values(), nn.SyncBatchNorm, SyncBatchNorm])
@pytest.mark.parametrize("kinds", [CONVOLUTIONS, TRANSPOSED])
def test_other_batch_norms_fold_as_well(kinds, make):
    dimensions = next((d for d, ours in OUR_BATCH_NORMS.items() if ours is make), 2)
    assert_folds(kinds[dimensions](4, 6, 3, groups=2), random_norm(make, 6), images(4, dimensions))


@pytest.mark.parametrize("make", [layers.BatchNorm1d, nn.SyncBatchNorm, SyncBatchNorm])
def test_other_batch_norms_fold_into_a_linear_layer(make):
    assert_folds(nn.Linear(4, 6), random_norm(make, 6), torch.randn(7, 4))


def test_two_batch_norms_fold_into_one_layer():
    conv, first, second = nn.Conv2d(4, 6, 3).eval(), random_norm(nn.BatchNorm2d, 6), random_norm(nn.BatchNorm2d, 6)
    folded = fold(fold(conv, first), second)
    assert_same_outputs(folded, nn.Sequential(conv, first, second), images(4, 2))
    assert len(folded._forward_pre_hooks) == 1


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("make, transpose", [(nn.Conv2d, False), (nn.ConvTranspose2d, True)])
def test_parameters_are_those_of_pytorch_where_pytorch_is_right(make, transpose, bias):
    conv, bn = make(4, 6, 3, bias=bias).eval(), random_norm(nn.BatchNorm2d, 6)
    ours, theirs = fold(conv, bn), fusion.fuse_conv_bn_eval(conv, bn, transpose)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-14, atol=1e-14)


def test_parameters_of_a_linear_layer_are_those_of_pytorch():
    linear, bn = nn.Linear(4, 6).eval(), random_norm(nn.BatchNorm1d, 6)
    ours, theirs = fold(linear, bn), fusion.fuse_linear_bn_eval(linear, bn)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-14, atol=1e-14)


# What the tests above must see: each known mistake in the formula, put in the place of ours


def parameters(layer: nn.Module, bn: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """The scale per channel, the scale in a shape for a weight with output channels on axis 0, the bias."""
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()
    bias = torch.zeros(bn.num_features) if layer.bias is None else layer.bias
    return scale, scale.reshape(-1, *[1] * (layer.weight.dim() - 1)), bias


def bias_not_scaled(layer, bn):
    scale, on_axis_0, bias = parameters(layer, bn)
    return layer.weight * on_axis_0, bias + bn.bias - bn.running_mean * scale


def no_bias_made(layer, bn):
    scale, on_axis_0, bias = parameters(layer, bn)
    new_bias = scale * (bias - bn.running_mean) + bn.bias
    return layer.weight * on_axis_0, torch.zeros_like(new_bias) if layer.bias is None else new_bias


def eps_dropped(layer, bn):
    copied = copy.deepcopy(bn)
    copied.eps = 0.0
    scale, on_axis_0, bias = parameters(layer, copied)
    return layer.weight * on_axis_0, scale * (bias - bn.running_mean) + bn.bias


def scale_on_axis_0(layer, bn):
    scale, on_axis_0, bias = parameters(layer, bn)
    return layer.weight * on_axis_0, scale * (bias - bn.running_mean) + bn.bias


def scale_applied_twice(layer, bn):
    scale, on_axis_0, bias = parameters(layer, bn)
    return layer.weight * on_axis_0**2, scale * (bias - bn.running_mean) + bn.bias


@pytest.mark.parametrize(
    "mistake, make, options",
    [
        (bias_not_scaled, nn.Conv2d, {}),
        (no_bias_made, nn.Conv2d, {"bias": False}),
        (eps_dropped, nn.Conv2d, {}),
        (scale_on_axis_0, nn.ConvTranspose2d, {}),
        (scale_on_axis_0, nn.ConvTranspose2d, {"groups": 2}),
        (scale_applied_twice, nn.Conv2d, {}),
    ],
)
def test_known_mistakes_are_seen(monkeypatch, mistake, make, options):
    layer, bn = make(4, 4, 3, **options), random_norm(nn.BatchNorm2d, 4)
    assert_folds(layer, bn, images(4, 2))
    monkeypatch.setattr(folding, "_folded_parameters", mistake)
    with pytest.raises(AssertionError):
        assert_folds(layer, bn, images(4, 2))


# What a folded layer is


@pytest.mark.parametrize("bias", [True, False])
def test_the_arguments_stay_as_they_are(bias):
    conv, bn = nn.Conv2d(4, 6, 3, bias=bias).eval(), random_norm(nn.BatchNorm2d, 6)
    before = copy.deepcopy((conv.state_dict(), bn.state_dict()))
    folded = fold(conv, bn)
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.add_(1)
    torch.testing.assert_close((conv.state_dict(), bn.state_dict()), before, rtol=0, atol=0)
    assert type(folded) is nn.Conv2d and not folded.training and (conv.bias is not None) == bias
    assert not conv._forward_pre_hooks


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("make", [nn.Linear, lambda *sizes: nn.Conv1d(*sizes, 3)])
def test_parameters_are_rounded_once(make, dtype):
    layer, bn = make(16, 8).to(dtype).eval(), random_norm(nn.BatchNorm1d, 8).float()
    folded, exact = fold(layer, bn), fold(copy.deepcopy(layer).double(), copy.deepcopy(bn).double())
    assert folded.weight.dtype == folded.bias.dtype == dtype
    assert torch.equal(folded.weight, exact.weight.to(dtype)) and torch.equal(folded.bias, exact.bias.to(dtype))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("trained", [True, False])
def test_what_was_trained_is_trained(trained, bias):
    linear = nn.Linear(4, 6, bias=bias).requires_grad_(trained).eval()
    folded = fold(linear, random_norm(nn.BatchNorm1d, 6))
    assert folded.weight.requires_grad == folded.bias.requires_grad == trained
    assert folded.weight.is_leaf and folded.bias.is_leaf


def test_weight_and_bias_are_frozen_each_on_its_own():
    linear = nn.Linear(4, 6).eval()
    linear.weight.requires_grad_(False)
    folded = fold(linear, random_norm(nn.BatchNorm1d, 6))
    assert not folded.weight.requires_grad and folded.bias.requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_result_is_on_the_device_of_the_layer():
    conv, bn = nn.Conv2d(4, 6, 3, bias=False).eval().cuda(), random_norm(nn.BatchNorm2d, 6).cuda()
    folded = fold(conv, bn)
    assert folded.weight.device == folded.bias.device == conv.weight.device
    assert_same_outputs(folded, nn.Sequential(conv, bn), images(4, 2).cuda())


@pytest.mark.parametrize(
    "make, bn, shape",
    [
        (lambda: nn.Linear(4, 6), nn.BatchNorm1d, (3, 6, 4)),
        (lambda: nn.Linear(4, 6), nn.SyncBatchNorm, (3, 6, 4)),
        (lambda: nn.Conv1d(4, 6, 3, padding=1), nn.BatchNorm1d, (4, 6)),
        (lambda: nn.Conv2d(4, 6, 3, padding=1), nn.SyncBatchNorm, (4, 6, 5)),
    ],
)
def test_channels_on_another_axis_are_refused_when_the_layer_runs(make, bn, shape):
    layer, bn, x = make().eval(), random_norm(bn, 6), torch.randn(shape)
    folded = fold(layer, bn)
    nn.Sequential(layer, bn)(x)  # the pair takes it, and normalizes the axis of 6 that is not the layer's
    for run in (lambda: folded(x), lambda: folded(input=x), lambda: copy.deepcopy(folded)(x)):
        with pytest.raises(ValueError, match=r"expected an input of \d axes.*got shape .*keep the batch norm"):
            run()
    with pytest.raises(ValueError, match="expected an input"):
        pickle.loads(pickle.dumps(folded))(x)


# What cannot be folded


class ActivatedNorm(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.relu(super().forward(input))


class SamePadding(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, (0, 1, 0, 1)))


def hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, args, output: output.relu())
    return layer


def hooked_before(layer: nn.Module) -> nn.Module:
    layer.register_forward_pre_hook(lambda module, args: args[0].relu())
    return layer


def conv() -> nn.Conv2d:
    return nn.Conv2d(4, 6, 3).eval()


def norm(**options: object) -> nn.BatchNorm2d:
    return random_norm(nn.BatchNorm2d, 6, **options)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: (conv().train(), norm()), "expected layer in evaluation mode.*got Conv2d in training mode.*eval()"),
        (lambda: (conv(), norm().train()), "expected bn in evaluation mode.*got BatchNorm2d in training mode.*eval()"),
        (lambda: (conv(), nn.BatchNorm2d(6, track_running_stats=False).eval()), "with running statistics.*track_run"),
        (lambda: (conv(), OUR_BATCH_NORMS[2](6, track_running_stats=False).eval()), "with running statistics.*track_"),
        (lambda: (nn.ReLU().eval(), norm()), "expected layer to be Linear, Conv.*got ReLU; leave"),
        (lambda: (norm(), conv()), "expected layer to be Linear, Conv.*got BatchNorm2d; leave"),
        (lambda: (conv(), conv()), "expected bn to be BatchNorm.*got Conv2d; leave"),
        (lambda: (SamePadding(4, 6, 3).eval(), norm()), "expected layer to be .*got SamePadding"),
        (lambda: (conv(), ActivatedNorm(6).eval()), "expected bn to be BatchNorm.*got ActivatedNorm"),
        (
            lambda: (conv(), nn.InstanceNorm2d(6, affine=True, track_running_stats=True).eval()),
            "expected bn to be BatchNorm.*got InstanceNorm2d",
        ),
        (lambda: (conv(), nn.GroupNorm(2, 6).eval()), "expected bn to be BatchNorm.*got GroupNorm"),
        (lambda: (nn.LazyConv2d(6, 3).eval(), norm()), "with its shape known; got LazyConv2d.*pass it one batch"),
        (lambda: (conv(), nn.LazyBatchNorm2d().eval()), "with its shape known; got LazyBatchNorm2d.*pass it one batch"),
        (lambda: (hooked(conv()), norm()), "expected layer without hooks.*got Conv2d with some; remove"),
        (lambda: (hooked_before(conv()), norm()), "expected layer without hooks.*got Conv2d with some; remove"),
        (lambda: (conv(), hooked(norm())), "expected bn without hooks.*got BatchNorm2d with some; remove"),
        (lambda: (parametrizations.spectral_norm(conv()), norm()), "without hooks and parametrizations.*remove"),
        (lambda: (conv(), random_norm(nn.BatchNorm2d, 4)), "expected bn with num_features=6.*got 4; pass the batch"),
        (lambda: (nn.ConvTranspose2d(6, 4, 3).eval(), norm()), "expected bn with num_features=4.*got 6"),
        (lambda: (nn.Linear(4, 6).eval(), norm()), "expected bn for the 2 axes.*got BatchNorm2d; take BatchNorm1d"),
        (lambda: (conv(), random_norm(nn.BatchNorm1d, 6)), "for the 4 axes.*got BatchNorm1d; take BatchNorm2d"),
        (lambda: (conv(), random_norm(OUR_BATCH_NORMS[3], 6)), "for the 4 axes.*got BatchNorm3d; take BatchNorm2d"),
    ],
)
def test_pairs_that_do_not_fold_are_refused(make, message):
    layer, bn = make()
    with pytest.raises(ValueError, match=message):
        fold(layer, bn)


def test_a_lazy_layer_folds_once_it_has_seen_data():
    model = nn.Sequential(nn.LazyConv2d(6, 3), nn.LazyBatchNorm2d())
    model(images(4, 2))
    assert_folds(model[0], ready(model)[1], images(4, 2))


# Whole models


def assert_model_folds(model: nn.Module, *inputs: Tensor, folded: dict[str, str], left: dict[str, str]) -> nn.Module:
    """Same outputs, and this report; the folded batch norms are neither in the graph nor in the state."""
    result = fold_model(model)
    assert_same_outputs(result, model, *inputs)
    assert dict(result.folding_report.folded) == folded
    assert dict(result.folding_report.left) == left
    targets = {node.target for node in result.graph.nodes if node.op == "call_module"}
    assert not targets & set(folded)
    assert not [key for key in result.state_dict() if key.rpartition(".")[0] in folded]
    return result


class Network(nn.Module):
    """Two convolutions and two batch norms; the tests below differ in ``forward``."""

    def __init__(self, make: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(4, 4, 3, padding=1, bias=False), make(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3, padding=1, groups=2), make(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))


class Residual(Network):
    def __init__(self, make: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__(make)
        self.block = Network(make)
        self.shortcut = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), make(4))
        self.norm3, self.head = make(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(super().forward(x))
        x = self.norm3(self.shortcut(x) + self.block(x))
        return self.head(x.mean(dim=(2, 3)))


@pytest.mark.parametrize("make", [nn.BatchNorm2d, layers.BatchNorm2d, nn.SyncBatchNorm, SyncBatchNorm])
def test_a_residual_network_is_folded_up_to_the_norm_behind_its_sum(make):
    pairs = {"norm1": "conv1", "norm2": "conv2", "shortcut.1": "shortcut.0"}
    pairs |= {"block.norm1": "block.conv1", "block.norm2": "block.conv2"}
    left = {"norm3": "its input is add, not a linear layer or a convolution"}
    assert_model_folds(ready(Residual(make)), images(4, 2), folded=pairs, left=left)


@pytest.mark.parametrize("norms", [nn, layers])
def test_a_sequential_network_is_folded_without_a_trace_of_its_norms(norms):
    features = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2), norms.BatchNorm2d(6), nn.ReLU(),
        nn.ConvTranspose2d(6, 6, 2, stride=2, groups=3, bias=False), norms.BatchNorm2d(6, affine=False), nn.GELU(),
    )  # fmt: skip
    head = nn.Sequential(nn.Linear(96, 5), norms.BatchNorm1d(5), nn.Dropout(), nn.Linear(5, 2))
    model = ready(nn.Sequential(features, nn.Flatten(), head))
    pairs = {"0.1": "0.0", "0.4": "0.3", "2.1": "2.0"}
    result = assert_model_folds(model, images(4, 2), folded=pairs, left={})
    assert set(result.state_dict()) == {
        f"{name}.{tensor}" for name in ("0.0", "0.3", "2.0", "2.3") for tensor in ("weight", "bias")
    }
    assert not any(isinstance(part, nn.Identity) for part in result.modules())


class NormAfterActivation(Network):
    def forward(self, x):
        return self.norm2(self.relu(self.conv2(self.norm1(self.conv1(x)))))


class NormBeforePadding(Network):
    def forward(self, x):
        return self.conv1(self.norm1(x))


class ConvTwice(Network):
    def forward(self, x):
        return self.conv1(self.norm1(self.conv1(x)))


class NormTwice(Network):
    def forward(self, x):
        return self.norm1(self.conv2(self.norm1(self.conv1(x))))


class NormTwiceUnderTwoNames(Network):
    def __init__(self):
        super().__init__()
        self.norm2 = self.norm1


class UsedByAdd(Network):
    def forward(self, x):
        y = self.conv1(x)
        return self.norm1(y) + y


class Returned(Network):
    def forward(self, x):
        y = self.conv1(x)
        return torch.cat([self.norm1(y), y])


class AlsoAnOutput(Network):
    def forward(self, x):
        y = self.conv1(x)
        return {"normalized": self.norm1(y), "raw": y}


class WeightUsedOutside(Network):
    def forward(self, x):
        return self.norm1(self.conv1(x)) + F.conv2d(x, self.conv1.weight, padding=1)


class NormParameterUsedOutside(Network):
    def forward(self, x):
        return self.norm1(self.conv1(x)) * self.norm1.bias.reshape(-1, 1, 1)


class FunctionalNorm(Network):
    def forward(self, x):
        return F.batch_norm(self.conv1(x), self.norm1.running_mean, self.norm1.running_var)


class KeywordCalls(Network):
    def forward(self, x):
        return self.norm1(input=self.conv1(input=x))


class NormOfANorm(Network):
    def forward(self, x):
        return self.norm2(self.norm1(self.conv1(x)))


class SharedWeight(Network):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
        self.conv2.weight = self.conv1.weight


class Subclasses(Network):
    def __init__(self):
        super().__init__()
        self.norm1 = ActivatedNorm(4)
        self.conv2 = SamePadding(4, 4, 3)


NOT_A_LAYER = "not a linear layer or a convolution"


@pytest.mark.parametrize(
    "network, folded, left",
    [
        (NormAfterActivation, {"norm1": "conv1"}, {"norm2": f"its input is relu (ReLU), {NOT_A_LAYER}"}),
        (NormBeforePadding, {}, {"norm1": f"its input is the model's input x, {NOT_A_LAYER}"}),
        (ConvTwice, {}, {"norm1": "conv1 is called 2 times"}),
        (NormTwice, {}, {"norm1": "norm1 is called 2 times"}),
        (NormTwiceUnderTwoNames, {}, {"norm1": "norm1 is called 2 times"}),
        (UsedByAdd, {}, {"norm1": "the output of conv1 is also used by add"}),
        (Returned, {}, {"norm1": "the output of conv1 is also used by cat"}),
        (WeightUsedOutside, {}, {"norm1": "a parameter of conv1 is also used outside it"}),
        (FunctionalNorm, {}, {"batch_norm": "it is a function call, not a layer"}),
        (KeywordCalls, {"norm1": "conv1"}, {}),
        (NormOfANorm, {"norm1": "conv1", "norm2": "conv1"}, {}),
        (SharedWeight, {"norm1": "conv1", "norm2": "conv2"}, {}),
    ],
)
def test_what_can_be_folded_is_folded_and_the_rest_is_reported(network, folded, left):
    assert_model_folds(ready(network()), images(4, 2), folded=folded, left=left)


def test_a_norm_before_a_padded_convolution_would_be_wrong_at_the_border():
    """Why ``NormBeforePadding`` is left: the padding is 0 there, and not what batch norm makes of some input."""
    model = ready(NormBeforePadding())
    bn, weight = model.norm1, model.conv1.weight
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()
    shift = bn.bias - scale * bn.running_mean
    x = images(4, 2)
    wrong = F.conv2d(x, weight * scale[:, None, None], torch.einsum("oihw,i->o", weight, shift), padding=1)
    error = (wrong - model(x)).abs()
    assert error[..., 1:-1, 1:-1].max() < 1e-12 and error[..., 0, :].max() > 0.1
    assert_same_outputs(fold_model(model), model, x)


class PartOfAnotherLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.norm = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.BatchNorm1d(8)

    def forward(self, x):
        return self.norm(self.attention.linear1(self.attention(x)[:, 0]))


@pytest.mark.parametrize("norm", [lambda: layers.GroupNorm(2, 4), lambda: layers.InstanceNorm2d(4)])
def test_other_norms_of_the_package_stay(norm):
    model = ready(nn.Sequential(nn.Conv2d(4, 4, 3), norm(), nn.Conv2d(4, 4, 3), layers.BatchNorm2d(4)))
    result = assert_model_folds(model, images(4, 2), folded={"3": "2"}, left={})
    assert isinstance(result.get_submodule("1"), type(model[1]))


def test_a_layer_that_another_one_uses_is_left():
    left = {"norm": "attention.linear1 is called 2 times"}
    assert_model_folds(ready(PartOfAnotherLayer()), torch.randn(3, 5, 4), folded={}, left=left)


def test_an_output_of_the_model_is_a_use():
    model = ready(AlsoAnOutput())
    folded = fold_model(model)
    torch.testing.assert_close(folded(x := images(4, 2)), model(x))
    assert folded.folding_report.left == (("norm1", "the output of conv1 is also used by the model's output"),)


def test_a_parameter_of_a_folded_norm_that_is_used_elsewhere_stays():
    model = ready(NormParameterUsedOutside())
    folded = fold_model(model)
    assert_same_outputs(folded, model, images(4, 2))
    assert set(folded.state_dict()) == {"conv1.weight", "conv1.bias", "norm1.bias"}


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda model: model.norm1.train(), "expected bn in evaluation mode"),
        (lambda model: model.conv1.train(), "expected layer in evaluation mode"),
        (lambda model: setattr(model, "norm1", nn.BatchNorm2d(4, track_running_stats=False).eval()), "with running st"),
        (lambda model: hooked(model.conv1), "expected layer without hooks"),
        (lambda model: parametrizations.weight_norm(model.conv1), "expected layer without hooks and parametrizations"),
        (lambda model: setattr(model, "norm1", ready(ActivatedNorm(4))), "got ActivatedNorm"),
        (lambda model: setattr(model, "conv1", SamePadding(4, 4, 3).eval()), "got SamePadding"),
    ],
)
def test_what_fold_refuses_is_reported_with_its_message(change, reason):
    model = ready(Network())
    change(model)
    folded = fold_model(model)
    assert_same_outputs(folded, model, images(4, 2))
    ((name, left),) = folded.folding_report.left
    assert name == "norm1" and reason in left
    assert folded.folding_report.folded == (("norm2", "conv2"),)


@pytest.mark.parametrize("name", ["MLP", "ResidualCNN"])
@pytest.mark.parametrize("norms", [nn, layers])
def test_the_networks_of_the_course_are_folded(name, norms):
    from bncourse import models

    model, x = {
        "MLP": lambda: (models.MLP([4, 5, 6, 2], norms.BatchNorm1d), torch.randn(7, 4)),
        "ResidualCNN": lambda: (models.ResidualCNN(norm=norms.BatchNorm2d), torch.randn(3, 1, 8, 8)),
    }[name]()
    folded = fold_model(ready(model))
    assert_same_outputs(folded, model, x)
    assert not folded.folding_report.left and len(folded.folding_report.folded) >= 2


# What a folded model is


def test_the_model_stays_as_it_is():
    model = ready(Residual())
    before, parts = copy.deepcopy(model.state_dict()), list(model.modules())
    folded = fold_model(model)
    with torch.no_grad():
        for tensor in folded.state_dict().values():
            tensor.add_(1)
    folded.train()
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert list(model.modules()) == parts and not any(part.training for part in parts)


def pickled(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize(
    "passed_on",
    [copy.deepcopy, pickled, lambda m: copy.deepcopy(pickled(m)), lambda m: pickled(pickled(copy.deepcopy(m)))],
)
def test_copies_compute_the_same_and_carry_the_report(passed_on):
    model = ready(Residual())
    folded = fold_model(model)
    passed = passed_on(folded)
    assert_same_outputs(passed, model, images(4, 2))
    assert passed.folding_report == folded.folding_report
    assert set(passed.state_dict()) == set(folded.state_dict()) and not passed.training


def test_folding_twice_finds_nothing_more_to_fold():
    model = ready(Residual())
    twice = fold_model(fold_model(model))
    assert_same_outputs(twice, model, images(4, 2))
    assert not twice.folding_report.folded and [name for name, _ in twice.folding_report.left] == ["norm3"]


def test_the_model_keeps_its_name_and_the_report_reads_as_text():
    folded = fold_model(ready(NormAfterActivation()))
    report = folded.folding_report
    assert type(folded).__name__ == "NormAfterActivation"
    assert str(report) == (
        "batch norms: 1 folded, 1 left\n"
        "folded norm1 into conv1\n"
        "left norm2: its input is relu (ReLU), not a linear layer or a convolution"
    )
    with pytest.raises(AttributeError):
        report.left = ()


class Options(Network):
    def forward(self, x, skip=None, twice=False, factor=2.0):
        x = self.norm1(self.conv1(x))
        x = x if skip is None else x + skip
        return factor * (x + x if twice else x)


def test_optional_arguments_keep_their_defaults():
    model = ready(Options())
    folded = assert_model_folds(model, x := images(4, 2), folded={"norm1": "conv1"}, left={})
    torch.testing.assert_close(folded(x, skip=None, twice=False, factor=2.0), model(x))
    for options in ({"skip": x}, {"twice": True}, {"factor": 3.0}):
        with pytest.raises(AssertionError, match="has been specialized to have value"):
            folded(x, **options)


def test_a_linear_layer_within_a_model_refuses_more_axes():
    model = ready(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)))
    folded = fold_model(model)
    assert_same_outputs(folded, model, torch.randn(7, 4))
    with pytest.raises(ValueError, match="keep the batch norm"):
        folded(torch.randn(7, 6, 4))


class Untraceable(Network):
    def forward(self, x):
        return self.norm1(self.conv1(x)) if x.sum() > 0 else x


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Network(), "expected model in evaluation mode.*got Network in training mode.*eval()"),
        (lambda: ready(Untraceable()), r"torch.fx can trace; got Untraceable.*TraceError.*control flow.*fold\(layer"),
        (lambda: F.relu, "expected model to be a torch.nn.Module; got function; pass the module"),
        (lambda: hooked(ready(Network())), "expected model without hooks.*got Network with some; remove"),
    ],
)
def test_models_that_cannot_be_folded_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        fold_model(make())
