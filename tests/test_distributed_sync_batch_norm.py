"""Synchronized batch norm in real processes, against one process with the whole batch."""

import copy
import inspect
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
import torch.distributed as dist
from cases import CASES, as_tensor, assert_matches
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from bncourse import layers, models
from bncourse.distributed import ProcessError, SyncBatchNorm, convert_sync_batch_norm, run, sync_batch_norm

LOCAL = {1: layers.BatchNorm1d, 2: layers.BatchNorm1d, 3: layers.BatchNorm2d, 4: layers.BatchNorm3d}  # by axes but N


# The table that all implementations share


TABLE = [
    case
    for case in CASES
    if case.op == "batch_norm" and case.training and case.eps and case.param_dtype != "float64" and all(case.shape)
]


def parts_of_cases(cases):
    """(y, dx, dweight, dbias, running_mean, running_var) of this process, for each case."""
    return [part_of_case(case) for case in cases]


def part_of_case(case):
    x, dy, weight, bias, *running = map(as_tensor, case.arrays())
    x, dy = (unequal_part(values) for values in (x, dy))
    x.requires_grad_()
    layer = SyncBatchNorm(case.shape[1], case.eps, case.momentum, affine=False, track_running_stats=False)
    layer.weight, layer.bias = (None if p is None else nn.Parameter(p) for p in (weight, bias))
    layer.track_running_stats = running[0] is not None
    layer.running_mean, layer.running_var = running
    y = layer(x)
    y.backward(dy)
    gradients = [None if p is None else p.grad for p in (layer.weight, layer.bias)]
    return y.detach(), x.grad, *gradients, *running


def unequal_part(values):
    """Two samples or none for the first process, the rest for the others."""
    first, rest = values.split((min(2, len(values) - 1), max(len(values) - 2, 1)))
    rank, world = dist.get_rank(), dist.get_world_size()
    return first if rank == 0 else rest.tensor_split(world - 1)[rank - 1]


@pytest.fixture(scope="module", params=[2, 3])
def parts_by_case(request):
    ranks = run(parts_of_cases, TABLE, processes=request.param)
    return {case.name: results for case, *results in zip(TABLE, *ranks, strict=True)}


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_parts_of_the_batch_match_the_textbook(case, parts_by_case):
    y, dx, dweight, dbias, *running = zip(*parts_by_case[case.name], strict=True)
    added = [None if p[0] is None else sum(g.double() for g in p).to(p[0].dtype) for p in (dweight, dbias)]
    values = {"y": torch.cat(y), "dx": torch.cat(dx), "dweight": added[0], "dbias": added[1]}
    assert_matches(case, **{name: None if got is None else got.numpy() for name, got in values.items()})
    for mean, var in zip(*running, strict=True):
        found = {"running_mean": mean, "running_var": var}
        assert_matches(case, **{name: None if got is None else got.numpy() for name, got in found.items()})


# Several steps of a layer


@dataclass
class Setting:
    """Several steps of one layer on batches of which each process sees a part."""

    sizes: tuple[int, ...]
    shape: tuple[int, ...] = (3, 4, 5)  # C, *
    dtype: torch.dtype = torch.float64
    mean: float = 2.0
    channels_last: bool = False
    steps: int = 3
    options: dict = field(default_factory=dict)  # of the layer

    def batches(self):
        """x and dy of every step."""
        generator = torch.Generator().manual_seed(sum(self.sizes))
        for _ in range(self.steps):
            x, dy = torch.randn(2, sum(self.sizes), *self.shape, generator=generator, dtype=torch.float64)
            # the parts of a batch differ, so that local statistics are far from those of the batch
            drift = torch.linspace(-1, 1, len(x), dtype=torch.float64).view(-1, *(1 for _ in self.shape))
            layout = {"memory_format": torch.channels_last} if self.channels_last else {}
            yield tuple(values.to(self.dtype).contiguous(**layout) for values in (x + self.mean + drift, dy + 0.7))

    def layer(self, make):
        """With random parameters and statistics, which no constant can be mistaken for."""
        torch.manual_seed(1)
        precise = self.dtype if self.dtype == torch.float64 else torch.float32
        layer = make(self.shape[0], dtype=precise, **self.options)
        for name, values in layer.state_dict().items():
            if values.is_floating_point():
                values.copy_(torch.rand_like(values) + 0.5 if "var" in name else torch.randn_like(values))
        return layer


def local_steps(setting, make):
    """What one process sees: (y, dx, dweight, dbias) of every step, and the buffers at the end."""
    layer, results = setting.layer(make), []
    rank = dist.get_rank() if dist.is_initialized() else None
    for x, dy in setting.batches():
        if rank is not None:
            x, dy = (values.split(setting.sizes)[rank] for values in (x, dy))
        x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        y = layer(x)
        y.backward(dy)
        gradients = [None if p is None else p.grad.double().clone() for p in (layer.weight, layer.bias)]
        results.append((y.detach(), x.grad, *gradients))
        descend(layer)
    return results, dict(layer.named_buffers())


def descend(layer):
    """A step against the gradient of all processes."""
    for param in layer.parameters():
        if dist.is_initialized():
            dist.all_reduce(param.grad)
        param.data -= 0.1 * param.grad
        param.grad = None


FLOAT64 = 1e-12
SETTINGS = {
    "equal": (Setting((4, 4)), FLOAT64),
    "unequal": (Setting((2, 5)), FLOAT64),
    "empty": (Setting((6, 0)), FLOAT64),
    # with a usual eps, dx for two values cancels almost completely
    "one-value": (Setting((1, 1), (3,), options={"eps": 0.5}), FLOAT64),
    "channels-last-one": (Setting((1, 3), channels_last=True), FLOAT64),
    "equal-3": (Setting((3, 3, 3)), FLOAT64),
    "unequal-3": (Setting((5, 1, 2)), FLOAT64),
    "empty-3": (Setting((0, 4, 3)), FLOAT64),
    "two-empty-3": (Setting((0, 0, 4)), FLOAT64),
    **{
        f"{name}-{len(sizes)}": (Setting(sizes, **what), tolerance)
        for sizes in ((2, 5), (5, 0, 2))
        for name, what, tolerance in (
            ("vectors", {"shape": (3,)}, FLOAT64),
            ("sequences", {"shape": (3, 6)}, FLOAT64),
            ("volumes", {"shape": (3, 2, 2, 3)}, FLOAT64),
            ("float32", {"dtype": torch.float32}, 3e-6),
            ("float32-large-mean", {"dtype": torch.float32, "mean": 1e4, "steps": 1}, 1e-6),
            ("bfloat16", {"dtype": torch.bfloat16}, 1e-2),
            ("float16", {"dtype": torch.float16}, 2e-3),
            ("channels-last", {"channels_last": True}, FLOAT64),
            ("cumulative", {"options": {"momentum": None}}, FLOAT64),
            ("momentum-eps", {"options": {"momentum": 0.7, "eps": 0.3}}, FLOAT64),
            ("no-affine", {"options": {"affine": False}}, FLOAT64),
            ("no-bias", {"options": {"bias": False}}, FLOAT64),
            ("no-running", {"options": {"track_running_stats": False}}, FLOAT64),
        )
    },
}


def steps_of_settings(settings):
    return [local_steps(setting, SyncBatchNorm) for setting in settings]


@pytest.fixture(scope="module")
def ranks_by_setting():
    """What each process saw, for each setting: all settings of as many processes in one go."""
    found = {}
    for processes in (2, 3):
        names = [name for name, (setting, _) in SETTINGS.items() if len(setting.sizes) == processes]
        ranks = run(steps_of_settings, [SETTINGS[name][0] for name in names], processes=processes)
        found |= dict(zip(names, zip(*ranks, strict=True), strict=True))
    return found


@pytest.mark.parametrize("name", SETTINGS)
def test_several_steps_are_those_of_one_process(name, ranks_by_setting):
    setting, tolerance = SETTINGS[name]
    whole, buffers = local_steps(setting, LOCAL[len(setting.shape)])
    for step, expected in enumerate(whole):
        parts = zip(*(results[step] for results, _ in ranks_by_setting[name]), strict=True)
        for what, got, wanted in zip(("y", "dx", "dweight", "dbias"), parts, expected, strict=True):
            assert_together(what, got, wanted, tolerance)
    for _, found in ranks_by_setting[name]:
        torch.testing.assert_close(found, buffers, rtol=tolerance, atol=tolerance)


def assert_together(what, got, wanted, tolerance):
    """The parts put together, or added up, are the whole."""
    if wanted is None:
        assert got == (None,) * len(got), what
        return
    together = torch.cat(got) if what in ("y", "dx") else sum(got)
    scale = wanted.abs().max().item()
    torch.testing.assert_close(together, wanted, rtol=0, atol=tolerance * scale, msg=lambda text: f"{what}: {text}")


@pytest.mark.parametrize("name", ["channels-last-2", "channels-last-3", "channels-last-one"])
def test_channels_last_comes_out_as_it_went_in(name, ranks_by_setting):
    for steps, _ in ranks_by_setting[name]:
        for y, dx, *_ in steps:
            for values in (y, dx):
                assert values.stride() == torch.empty_like(values, memory_format=torch.channels_last).stride()


def test_all_processes_have_the_same_bits():
    ranks = run(local_steps, Setting((1, 4, 2), dtype=torch.float32), SyncBatchNorm, processes=3)
    for _, buffers in ranks[1:]:
        assert all(torch.equal(values, ranks[0][1][name]) for name, values in buffers.items())


# What is sent


class Recorded(TorchDispatchMode):
    """Lists the operations that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.append(str(operation))
        return operation(*args, **kwargs or {})

    def sent(self):
        return [name for name in self.names if "c10d" in name]


def operations(training, track_running_stats):
    """The operations of a forward and of a backward pass."""
    layer = SyncBatchNorm(3, track_running_stats=track_running_stats).train(training)
    x = torch.randn(2, 3, 4, requires_grad=True)
    sync_batch_norm._check_global_count = lambda *_: None  # on a GPU it does not look
    with Recorded() as forward:
        y = layer(x)
    with Recorded() as backward:
        y.backward(torch.randn_like(y))
    return forward, backward


def counted_operations(training, track_running_stats=True):
    return [(recorded.sent(), recorded.names) for recorded in operations(training, track_running_stats)]


def test_one_collective_forward_and_one_backward():
    for (forward, _), (backward, _) in run(counted_operations, True, processes=2):
        assert len(forward) == 1 and "allgather" in forward[0]
        assert len(backward) == 1 and "allreduce" in backward[0]


def test_nothing_is_copied_to_the_host():
    for passes in run(counted_operations, True, processes=2):
        names = [name for _, names in passes for name in names]
        assert "aten.mul.Tensor" in names  # something was recorded
        assert not [name for name in names if any(wait in name for wait in ("local_scalar", "nonzero", "_to_cpu"))]


def sent_for_parameters_alone():
    layer = SyncBatchNorm(3)
    y = layer(torch.randn(4, 3))
    with Recorded() as backward:
        y.sum().backward()
    return backward.sent(), layer.bias.grad.tolist()


def test_an_input_that_needs_no_gradient_sends_none():
    for sent, dbias in run(sent_for_parameters_alone, processes=2):
        assert not sent and dbias == [4, 4, 4]


@pytest.mark.parametrize("track_running_stats", [True, False])
def test_evaluation_sends_nothing(track_running_stats):
    for (forward, names), (backward, _) in run(counted_operations, False, track_running_stats, processes=2):
        assert names and not forward and not backward


def statistics_of_nothing():
    layer = SyncBatchNorm(3)
    layer.running_mean += torch.tensor([1.0, -2.0, 3.0])
    y = layer(torch.randn(0, 3, 4))
    return y.shape, layer.running_mean.tolist(), layer.running_var.tolist()


def test_a_batch_that_is_empty_everywhere_teaches_nothing():
    for found in run(statistics_of_nothing, processes=2):
        assert found == ((0, 3, 4), [1, -2, 3], [1, 1, 1])


# Errors


def one_value(sizes):
    x = torch.randn(sizes[dist.get_rank()], 3)
    SyncBatchNorm(3)(x)


def test_a_single_value_is_refused_by_all_and_two_are_enough():
    run(one_value, (1, 1), processes=2)
    with pytest.raises(ProcessError, match="more than 1 value per channel when training, in all processes") as caught:
        run(one_value, (1, 0), processes=2)
    assert all("ArgumentError" in caught.value.errors[rank] for rank in (0, 1))


def forward_then(act, rank):
    """Two steps; before the second, one process does something else."""
    layer = SyncBatchNorm(3)
    layer(torch.randn(4, 3))
    if dist.get_rank() == rank:
        act()
    layer(torch.randn(4, 3))


def backward_after(act, rank):
    y = SyncBatchNorm(3)(torch.randn(4, 3, requires_grad=True))
    if dist.get_rank() == rank:
        act()
    y.sum().backward()


@pytest.mark.parametrize("steps", [forward_then, backward_after])
@pytest.mark.parametrize("processes", [2, 3])
def test_a_process_that_dies_is_an_error_for_the_others(steps, processes):
    start = time.monotonic()
    with pytest.raises(ProcessError) as caught:
        run(steps, partial(os._exit, 5), 1, processes=processes, timeout=20)
    assert time.monotonic() - start < 15
    for rank in set(range(processes)) - {1}:
        assert f"SyncBatchNorm: process {rank} of {processes} could not exchange" in caught.value.errors[rank]


def test_a_process_that_stays_away_is_an_error_after_the_timeout():
    with pytest.raises(ProcessError) as caught:
        run(forward_then, partial(time.sleep, 6), 1, processes=2, timeout=2)
    assert "could not exchange the statistics of the batch" in caught.value.errors[0]


def on_no_device():
    """What is not the fault of other processes."""
    layer = SyncBatchNorm(3)
    return torch.vmap(layer)(torch.randn(2, 4, 3))


def test_other_errors_are_left_as_they_are():
    with pytest.raises(ProcessError) as caught:
        run(on_no_device, processes=2)
    assert all("SyncBatchNorm: process" not in error for error in caught.value.errors.values())


def gradient_of_gradient():
    x = torch.randn(4, 3, requires_grad=True)
    (dx,) = torch.autograd.grad(SyncBatchNorm(3)(x).square().sum(), x, create_graph=True)
    dx.sum().backward()


def test_the_gradient_of_the_gradient_is_refused():
    with pytest.raises(ProcessError, match="once_differentiable"):
        run(gradient_of_gradient, processes=2)


# Groups


def step_in_groups(size):
    group, _ = dist.new_subgroups(size)
    layer = SyncBatchNorm(2, momentum=1.0, process_group=group)
    torch.manual_seed(dist.get_rank())
    x, dy = torch.randn(2, 3, 2, dtype=torch.float64)
    x.requires_grad_()
    layer.double()(x).backward(dy)
    return x.detach(), dy, x.grad, layer.running_mean


def test_a_group_shares_its_statistics_with_no_other():
    ranks = run(step_in_groups, 2, processes=4)
    for members in (ranks[:2], ranks[2:]):
        x, dy, dx, means = zip(*members, strict=True)
        whole = torch.cat(x).requires_grad_()
        nn.BatchNorm1d(2).double()(whole).backward(torch.cat(dy))
        torch.testing.assert_close(torch.cat(dx), whole.grad)
        assert all(torch.allclose(mean, whole.mean(0)) for mean in means)


def layer_of_another_group():
    group = dist.new_group([0])
    SyncBatchNorm(2, process_group=group)(torch.randn(3, 2))


def test_a_process_outside_of_the_group_is_told_so():
    with pytest.raises(ProcessError, match="process 1 is not in the process_group") as caught:
        run(layer_of_another_group, processes=2)
    assert list(caught.value.errors) == [1]  # a group of one process is local


# One process


@pytest.mark.parametrize("training", [True, False])
def test_one_process_has_local_batch_norm(training):
    x, local, sync = torch.randn(4, 3, 5), nn.BatchNorm1d(3), SyncBatchNorm(3)
    for layer in (local, sync):
        layer.train(training)
    torch.testing.assert_close(sync(x), local(x))
    torch.testing.assert_close(sync.state_dict(), local.state_dict())
    assert torch.equal(run(lambda: sync(x), processes=1)[0], sync(x))


def test_state_dict_and_constructor_are_those_of_pytorch():
    assert inspect.signature(SyncBatchNorm).parameters.keys() == inspect.signature(nn.SyncBatchNorm).parameters.keys()
    for name, parameter in inspect.signature(nn.SyncBatchNorm).parameters.items():
        assert inspect.signature(SyncBatchNorm).parameters[name].default == parameter.default
    theirs, ours = nn.SyncBatchNorm(3), SyncBatchNorm(3)
    nn.init.normal_(theirs.weight)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(theirs.weight, ours.weight)


def test_the_kind_of_input_is_checked():
    with pytest.raises(ValueError, match="at least 2 axes"):
        SyncBatchNorm(3)(torch.randn(3))
    x = torch.randn(4, 3, 2, 2, 2, 2)  # one more than volumes have
    torch.testing.assert_close(SyncBatchNorm(3)(x), nn.SyncBatchNorm(3)(x))


# Converting


def network(norms=nn, **options):
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.Sequential(norms.BatchNorm2d(3, eps=0.2, momentum=0.3, **options), nn.ReLU()),
        nn.Flatten(1, 2),
        norms.BatchNorm1d(18),
    )


@pytest.mark.parametrize("norms", [nn, layers])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"bias": False}, {"track_running_stats": False}], ids=str)
def test_conversion_keeps_everything(norms, options):
    model = network(norms, **options)
    model[3].eval()
    before = copy.deepcopy(model)
    numbers = [*model.parameters(), *model.buffers()]
    x = torch.randn(2, 1, 8, 8)
    converted = convert_sync_batch_norm(model)
    assert converted is model
    assert [type(norm) for norm in (model[1][0], model[3])] == [SyncBatchNorm, SyncBatchNorm]
    assert all(a is b for a, b in zip(numbers, [*model.parameters(), *model.buffers()], strict=True))
    assert model[1][0].training and not model[3].training
    torch.testing.assert_close(model(x), before(x))
    torch.testing.assert_close(model.state_dict(), before.state_dict())


def test_a_batch_norm_itself_is_replaced_by_what_is_returned():
    bn = nn.BatchNorm1d(3)
    converted = convert_sync_batch_norm(bn)
    assert type(bn) is nn.BatchNorm1d and type(converted) is SyncBatchNorm
    assert converted.weight is bn.weight
    converted.weight = None
    assert bn.weight is not None  # from here on, each goes its own way


def test_conversion_keeps_hooks_and_shared_layers():
    bn, calls = nn.BatchNorm1d(3), []
    handle = bn.register_forward_hook(lambda *_: calls.append(1))
    model = nn.ModuleDict({"first": bn, "second": bn, "none": nn.Identity()})
    convert_sync_batch_norm(model)
    assert model["first"] is model["second"] and type(model["first"]) is SyncBatchNorm
    model["first"](torch.randn(4, 3))
    handle.remove()
    model["first"](torch.randn(4, 3))
    assert calls == [1]


def test_a_compiled_layer_is_not_the_old_one():
    bn = nn.BatchNorm1d(3)
    bn.compile(backend="eager")
    assert convert_sync_batch_norm(bn)._compiled_call_impl is None


def test_conversion_sets_the_group():
    group = object()
    assert convert_sync_batch_norm(nn.SyncBatchNorm(3), group).process_group is group
    assert convert_sync_batch_norm(SyncBatchNorm(3, process_group=group)).process_group is None


@pytest.mark.parametrize("make", [type("Special", (nn.BatchNorm2d,), {}), nn.LazyBatchNorm2d], ids=str)
def test_what_may_be_more_than_batch_norm_is_refused(make):
    arguments = () if make is nn.LazyBatchNorm2d else (3,)
    model = nn.Sequential(nn.BatchNorm1d(3), make(*arguments))
    with pytest.raises(ValueError, match=f"got the subclass {make.__name__}"):
        convert_sync_batch_norm(model)
    assert type(model[0]) is nn.BatchNorm1d  # all or nothing


# Whole models


def trained(sizes, make, convert=convert_sync_batch_norm, steps=3):
    """The state of a model after some steps on all of the batch, or on this process's part."""
    torch.manual_seed(3)
    model = convert(make()).double()
    parallel = DistributedDataParallel(model) if dist.is_initialized() else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images, classes = torch.randn(steps * sum(sizes), 1, 8, 8), torch.randint(10, (steps * sum(sizes),))
    world = dist.get_world_size() if dist.is_initialized() else 1
    for step in range(steps):
        part = slice(step * sum(sizes), (step + 1) * sum(sizes))
        x, y = images[part].double(), classes[part]
        if dist.is_initialized():
            x, y = (values.split(sizes)[dist.get_rank()] for values in (x, y))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(parallel(x), y, reduction="sum") * world / sum(sizes)
        loss.backward()
        optimizer.step()
    return {name: values.detach() for name, values in model.state_dict().items()}


def accumulated(make, x, dy):
    """The gradients of two pieces, of which only the second exchanges gradients; and of a model with a checkpoint."""
    part = slice(dist.get_rank(), None, dist.get_world_size())
    found = []
    for forward in (nn.Module.__call__, partial(checkpoint, use_reentrant=True)):
        model = DistributedDataParallel(convert_sync_batch_norm(make()))
        for i, context in enumerate((model.no_sync, nullcontext)):
            with context():
                piece = x[i][part].clone().requires_grad_()
                forward(model, piece).backward(dy[i][part])
        found.append([p.grad for p in model.parameters()])
    return found


def test_pieces_and_checkpoints_under_ddp():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).double()
    x, dy = torch.randn(2, 6, 5).double(), torch.randn(2, 6, 3).double()
    ranks = run(accumulated, partial(copy.deepcopy, model), x, dy, processes=2)
    for piece, upstream in zip(x, dy, strict=True):
        model(piece).backward(upstream / 2)  # DDP averages over two processes
    wanted = [p.grad for p in model.parameters()]
    for plain, checkpointed in ranks:
        torch.testing.assert_close(plain, wanted)
        torch.testing.assert_close(checkpointed, wanted)


@pytest.mark.parametrize("sizes", [(8, 8), (3, 10), (5, 0, 6)], ids=str)
@pytest.mark.parametrize("norms", [nn, layers])
def test_a_model_under_ddp_is_trained_as_by_one_process(sizes, norms):
    make = partial(models.ResidualCNN, norm=norms.BatchNorm2d, channels=(4, 6))
    whole = trained(sizes, make)
    for state in run(trained, sizes, make, processes=len(sizes)):
        torch.testing.assert_close(state, whole, rtol=1e-9, atol=1e-11)


def test_a_model_with_local_statistics_is_not():
    make = partial(models.ResidualCNN, norm=nn.BatchNorm2d, channels=(4, 6))
    whole = trained((8, 8), make)
    for state in run(trained, (8, 8), make, lambda model: model, processes=2):
        assert (state["head.weight"] - whole["head.weight"]).abs().max() > 1e-3
