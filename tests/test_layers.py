"""The layers beside torch.nn's: the same constructors, states, modes, numbers and refusals."""

import copy
import inspect
import io
import pickle
import shutil
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from bncourse import functional, layers, models

PAIRS = {  # our layer, PyTorch's, what their constructors need, an input shape
    "BatchNorm1d": ((6,), (5, 6)),
    "BatchNorm2d": ((6,), (3, 6, 4, 5)),
    "BatchNorm3d": ((6,), (3, 6, 2, 3, 2)),
    "InstanceNorm1d": ((6,), (3, 6, 5)),
    "InstanceNorm2d": ((6,), (3, 6, 4, 5)),
    "InstanceNorm3d": ((6,), (3, 6, 2, 3, 2)),
    "LayerNorm": (((4, 5),), (3, 6, 4, 5)),
    "GroupNorm": ((3, 6), (3, 6, 4, 5)),
    "RMSNorm": ((5,), (3, 6, 5)),
}
TRACKING = [name for name in PAIRS if "Batch" in name or "Instance" in name]
BATCH = [name for name in PAIRS if "Batch" in name]
OPTIONS = {
    **{n: ["affine", "no affine", "no bias", "tracking", "no tracking", "average", "momentum"] for n in TRACKING},
    "LayerNorm": ["default", "no elementwise", "no bias"],
    "GroupNorm": ["default", "no affine", "no bias"],
    "RMSNorm": ["default", "no elementwise"],
}
KEYWORDS = {
    "default": {},
    "affine": {"affine": True},
    "no affine": {"affine": False},
    "no elementwise": {"elementwise_affine": False},
    "no bias": {"bias": False},
    "tracking": {"track_running_stats": True, "affine": True},
    "no tracking": {"track_running_stats": False},
    "average": {"momentum": None, "track_running_stats": True},
    "momentum": {"momentum": 0.3, "eps": 0.5, "track_running_stats": True, "affine": True},
}
EVERY = pytest.mark.parametrize(("name", "option"), [(n, o) for n, options in OPTIONS.items() for o in options])


def pair(name: str, option: str = "default", seed: int = 0) -> tuple[nn.Module, nn.Module]:
    """Our layer and PyTorch's, with the same random parameters and running statistics."""
    arguments, _ = PAIRS[name]
    keywords = KEYWORDS[option]
    ours, theirs = (getattr(module, name)(*arguments, **keywords) for module in (layers, nn))
    randomize(theirs, seed)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def randomize(layer: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in layer.state_dict().items():
            if tensor.dtype.is_floating_point:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + (0.5 if "var" in name else -0.3))


def inputs(name: str, count: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [3 * torch.randn(PAIRS[name][1], generator=generator) + i for i in range(count)]


def assert_same_state(ours: nn.Module, theirs: nn.Module) -> None:
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    for key, value in ours.state_dict().items():
        assert value.dtype == state[key].dtype
        torch.testing.assert_close(value, state[key], rtol=1e-5, atol=1e-5)


# Constructors and attributes


@pytest.mark.parametrize("name", PAIRS)
def test_constructor_is_that_of_pytorch(name):
    ours, theirs = (inspect.signature(getattr(module, name)).parameters.values() for module in (layers, nn))
    assert [(p.name, p.default, p.kind) for p in ours] == [(p.name, p.default, p.kind) for p in theirs]


@EVERY
def test_attributes_and_text_are_those_of_pytorch(name, option):
    ours, theirs = pair(name, option)
    assert repr(ours) == repr(theirs)
    plain = {key: value for key, value in vars(theirs).items() if not key.startswith("_")}
    assert {key: vars(ours)[key] for key in plain} == plain
    assert ours._version == theirs._version
    for kind in ("named_parameters", "named_buffers"):
        found = [[(key, value.shape, value.dtype) for key, value in getattr(m, kind)()] for m in (ours, theirs)]
        assert found[0] == found[1]


@pytest.mark.parametrize("name", PAIRS)
def test_device_and_dtype_reach_parameters_and_buffers(name):
    layer = getattr(layers, name)(*PAIRS[name][0], device="meta", dtype=torch.float64)
    for key, tensor in layer.state_dict().items():
        assert tensor.is_meta
        assert tensor.dtype == (torch.long if key == "num_batches_tracked" else torch.float64)


@EVERY
def test_reset_parameters_gives_the_state_of_a_new_layer(name, option):
    ours, _ = pair(name, option)
    ours(inputs(name)[0])
    ours.reset_parameters()
    fresh = getattr(nn, name)(*PAIRS[name][0], **KEYWORDS[option])
    assert_same_state(ours, fresh)


def test_reset_running_stats_keeps_the_parameters():
    ours, _ = pair("BatchNorm2d", "tracking")
    weight = ours.weight.clone()
    ours.reset_running_stats()
    assert torch.equal(ours.weight, weight)
    assert not ours.running_mean.any() and (ours.running_var == 1).all()


# Numbers


@EVERY
def test_training_and_evaluation_are_those_of_pytorch(name, option):
    ours, theirs = pair(name, option)
    for x in inputs(name):
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
        assert_same_state(ours, theirs)
    ours.eval()
    theirs.eval()
    for x in inputs(name, 2):
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    assert_same_state(ours, theirs)
    ours.train()
    theirs.train()
    x = inputs(name)[-1]
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    assert_same_state(ours, theirs)


@EVERY
def test_gradients_are_those_of_pytorch(name, option):
    ours, theirs = pair(name, option)
    x = inputs(name)[0]
    dy = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    gradients = []
    for layer in (ours, theirs):
        leaf = x.clone().requires_grad_()
        layer(leaf).backward(dy)
        gradients.append([leaf.grad, *(p.grad for p in layer.parameters())])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BATCH)
def test_average_of_all_batches_is_the_plain_mean(name):
    ours, _ = pair(name, "average")
    ours.reset_running_stats()
    batches = inputs(name, 5)
    for x in batches:
        ours(x)
    dims = [0, *range(2, batches[0].dim())]
    torch.testing.assert_close(ours.running_mean, torch.stack([x.mean(dims) for x in batches]).mean(0))
    torch.testing.assert_close(ours.running_var, torch.stack([x.var(dims) for x in batches]).mean(0))


@pytest.mark.parametrize("name", TRACKING)
def test_buffers_are_updated_in_place_and_outside_of_the_graph(name):
    ours, _ = pair(name, "tracking")
    buffers = dict(ours.named_buffers())
    before = {key: value.clone() for key, value in buffers.items()}
    ours(inputs(name)[0])
    for key in ("running_mean", "running_var"):
        assert getattr(ours, key) is buffers[key]
        assert not torch.equal(buffers[key], before[key])
        assert buffers[key].grad_fn is None and not buffers[key].requires_grad


@pytest.mark.parametrize("name", BATCH)
def test_gradient_mode_does_not_choose_the_mode(name):
    ours, theirs = pair(name, "tracking")
    x = inputs(name)[0]
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    assert ours.num_batches_tracked == 1
    ours.eval()
    ours(x.requires_grad_())
    assert ours.num_batches_tracked == 1


@pytest.mark.parametrize("name", BATCH)
def test_what_is_refused_is_not_counted(name):
    ours, _ = pair(name, "tracking")
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    x = inputs(name)[0]
    one_value = x[(slice(0, 1), slice(None), *[slice(0, 1)] * (x.dim() - 2))]
    for wrong in (one_value, x[:, :5]):
        with pytest.raises(functional.ArgumentError):
            ours(wrong)
    for key, value in ours.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("name", [name for name in PAIRS if "Instance" in name])
def test_instance_norm_takes_an_input_without_a_batch(name):
    ours, theirs = pair(name, "tracking")
    x = inputs(name)[0][0]
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    assert ours(x).shape == x.shape


def test_instance_norm_warns_of_other_channels_where_they_do_no_harm():
    ours = layers.InstanceNorm1d(4)
    x = torch.randn(2, 6, 5)
    with pytest.warns(UserWarning, match="num_features"):
        y = ours(x)
    torch.testing.assert_close(y, functional.instance_norm(x))
    with pytest.raises(ValueError, match="expected 4 channels in axis 1"):
        layers.InstanceNorm1d(4, affine=True)(x)


# Refusals


@pytest.mark.parametrize("name", TRACKING)
def test_other_ranks_are_refused_as_by_pytorch(name):
    ours, theirs = pair(name, "tracking")
    for rank in range(1, 7):
        x = torch.randn([6] * rank)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs(x)
        except (ValueError, RuntimeError):
            with pytest.raises(ValueError, match=rf"got {rank}D input"):
                ours(x)
        else:
            assert ours(x).shape == x.shape


def test_refusals_of_shapes_come_with_the_input_not_before():
    layer = layers.LayerNorm(5)
    with pytest.raises(ValueError, match=r"expected normalized_shape .*\(3, 4\).* got \(5,\)"):
        layer(torch.randn(3, 4))
    layer = layers.BatchNorm1d(5)
    with pytest.raises(ValueError, match="should contain 4 elements"):
        layer(torch.randn(3, 4))


@pytest.mark.parametrize("groups", [4, 0, -1])
def test_groups_that_do_not_divide_are_refused_at_once(groups):
    with pytest.raises(ValueError, match=rf"num_channels \(6\) must be divisible by num_groups \({groups}\)"):
        layers.GroupNorm(groups, 6)


# States


@EVERY
def test_state_dicts_are_interchangeable_both_ways(name, option):
    ours, theirs = pair(name, option)
    for x in inputs(name, 3):
        ours(x)
    theirs.load_state_dict(ours.state_dict())
    assert_same_state(ours, theirs)
    back = getattr(layers, name)(*PAIRS[name][0], **KEYWORDS[option])
    back.load_state_dict(theirs.state_dict())
    assert_same_state(back, ours)


@pytest.mark.parametrize("name", TRACKING)
@pytest.mark.parametrize("version", [None, 1, 2])
@pytest.mark.parametrize("has_counter", [True, False])
def test_versions_of_states_are_read_as_by_pytorch(name, version, has_counter):
    """States of before version 2 lack num_batches_tracked; a later one without it is incomplete."""
    results = []
    for module in (layers, nn):
        layer = getattr(module, name)(6, track_running_stats=True)
        layer.num_batches_tracked.fill_(7)
        state = getattr(nn, name)(6, track_running_stats=True).state_dict()
        state["num_batches_tracked"].fill_(3)
        if not has_counter:
            del state["num_batches_tracked"]
        if version is None:
            del state._metadata
        else:
            state._metadata[""]["version"] = version
        missing = layer.load_state_dict(state, strict=False).missing_keys
        results.append((missing, int(layer.num_batches_tracked)))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", TRACKING)
def test_old_states_are_read_into_layers_without_memory(name):
    state = getattr(nn, name)(6, track_running_stats=True).state_dict()
    del state["num_batches_tracked"], state._metadata
    layer = getattr(layers, name)(6, track_running_stats=True, device="meta")
    layer.load_state_dict(state, assign=True)
    assert layer.num_batches_tracked.device.type == "cpu"
    assert layer.num_batches_tracked == 0


def test_new_states_with_stray_running_statistics_are_refused_as_by_pytorch():
    for module in (layers, nn):
        state = nn.InstanceNorm2d(3, track_running_stats=True).state_dict()
        with pytest.raises(RuntimeError, match="Unexpected key"):
            module.InstanceNorm2d(3).load_state_dict(state)


ATTRIBUTES = [
    {"track_running_stats": False},
    {"momentum": None},
    {"momentum": 0.9, "eps": 0.5},
    {"running_mean": None, "running_var": None},
    {"num_batches_tracked": None},
    {"num_batches_tracked": None, "momentum": None},
    {"weight": None},
    {"bias": None},
]


@pytest.mark.parametrize("attributes", ATTRIBUTES, ids=str)
@pytest.mark.parametrize("name", TRACKING)
def test_attributes_set_later_do_what_they_do_in_pytorch(name, attributes):
    ours, theirs = pair(name, "tracking")
    for layer in (ours, theirs):
        for key, value in attributes.items():
            setattr(layer, key, value)
    for training in (True, True, False, True):
        x = inputs(name)[0]
        try:
            expected = theirs.train(training)(x)
        except (RuntimeError, ValueError):
            with pytest.raises((RuntimeError, ValueError)):
                ours.train(training)(x)
        else:
            torch.testing.assert_close(ours.train(training)(x), expected, rtol=1e-5, atol=1e-5)
        assert_same_state(ours, theirs)


@pytest.mark.parametrize("name", BATCH)
def test_the_counter_stays_the_same_tensor(name):
    ours, _ = pair(name, "tracking")
    counter = ours.num_batches_tracked
    ours(inputs(name)[0])
    assert ours.num_batches_tracked is counter


def test_numpy_integers_are_shapes_too():
    assert layers.LayerNorm(np.int64(5)).normalized_shape == (5,)


def test_unbatched_input_with_one_channel_keeps_its_axes():
    x = torch.randn(1, 7)
    assert layers.InstanceNorm1d(1)(x).shape == nn.InstanceNorm1d(1)(x).shape == (1, 7)


def test_old_running_statistics_are_refused_by_an_instance_norm_without_them():
    messages = []
    for module in (layers, nn):
        state = nn.BatchNorm2d(3).state_dict()
        del state._metadata
        del state["num_batches_tracked"], state["weight"], state["bias"]
        with pytest.raises(RuntimeError, match="track_running_stats=False") as caught:
            module.InstanceNorm2d(3).load_state_dict(state)
        messages.append(str(caught.value))
    assert all("running_mean" in message and "running_var" in message for message in messages)


@EVERY
def test_copies_and_pickles_are_equal_and_independent(name, option):
    ours, _ = pair(name, option)
    stream = io.BytesIO()
    torch.save(ours, stream)
    stream.seek(0)
    x = inputs(name)[0]
    twins = (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), torch.load(stream, weights_only=False))
    y = ours(x)
    for twin in twins:
        assert torch.equal(twin(x), y)
        assert_same_state(twin, ours)
        shared = {tensor.data_ptr() for tensor in twin.state_dict().values()}
        assert shared.isdisjoint(tensor.data_ptr() for tensor in ours.state_dict().values())


@pytest.mark.parametrize("name", TRACKING)
def test_running_statistics_are_moved_and_cast_with_the_layer(name):
    ours, _ = pair(name, "tracking")
    ours.to(torch.float64)
    assert ours.running_mean.dtype == torch.float64
    assert ours.num_batches_tracked.dtype == torch.long
    assert ours(inputs(name)[0].double()).dtype == torch.float64


# Whole models


def trained(norm) -> nn.Module:
    """A residual network with PyTorch's or our batch norm, after some steps."""
    torch.manual_seed(0)
    model = models.ResidualCNN(norm=norm)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(5):
        loss = model(torch.randn(16, 1, 8, 8)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@pytest.mark.parametrize(("trains", "takes"), [("nn", "layers"), ("layers", "nn")])
def test_a_trained_model_is_switched_by_its_state(trains, takes):
    modules = {"nn": nn, "layers": layers}
    model = trained(modules[trains].BatchNorm2d).eval()
    other = models.ResidualCNN(norm=modules[takes].BatchNorm2d)
    other.load_state_dict(model.state_dict())
    x = torch.randn(8, 1, 8, 8)
    torch.testing.assert_close(other.eval()(x), model(x), rtol=1e-5, atol=1e-5)
    back = trained(modules[trains].BatchNorm2d)
    back.load_state_dict(other.state_dict())
    assert torch.equal(back.eval()(x), model(x))


def every_layer() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False),
        layers.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        layers.GroupNorm(3, 6),
        layers.InstanceNorm2d(6, affine=True, track_running_stats=True),
        nn.Flatten(),
        layers.LayerNorm(96),
        layers.RMSNorm(96),
        nn.Linear(96, 4),
        layers.BatchNorm1d(4, momentum=None),
    )


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), layers.BatchNorm2d(6))


# Inductor writes and compiles C++, which takes a while: one small model shows that it can.
WITH_COMPILER = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
COMPILED = [
    (every_layer, "aot_eager", True),
    (every_layer, "aot_eager", False),
    pytest.param(small, "inductor", True, marks=WITH_COMPILER),
]


@pytest.mark.parametrize(("make", "backend", "training"), COMPILED)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # Dynamo does
def test_compiled_model_gives_the_same_values_gradients_and_buffers(make, backend, training):
    torch.manual_seed(0)
    model, x = make().train(training), torch.randn(5, 3, 6, 6)
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, fullgraph=True, backend=backend)
    for _ in range(3):
        y, compiled_y = model(x), compiled(x)
        torch.testing.assert_close(compiled_y, y, rtol=1e-4, atol=1e-4)
        dy = torch.randn(y.shape)
        y.backward(dy)
        compiled_y.backward(dy)
    for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3)
    assert_same_state(twin, model)


@pytest.mark.parametrize("training", [True, False])
def test_exported_model_gives_the_same_values_and_buffers(training):
    torch.manual_seed(0)
    model, x = every_layer().train(training), torch.randn(5, 3, 6, 6)
    program = torch.export.export(copy.deepcopy(model), (x,)).module()
    for _ in range(3):
        torch.testing.assert_close(program(x), model(x), rtol=1e-5, atol=1e-5)
    assert_same_state(program, model)
