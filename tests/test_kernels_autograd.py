"""functional on the kernels, in Triton's interpreter: what they compute, and what PyTorch operations do instead."""

import warnings

import pytest
import torch
from cases import CASES, Case, as_tensor, assert_matches
from test_functional import call
from torch.autograd import forward_ad
from torch.func import grad, hessian, vmap

from bncourse import functional, kernels

OPS = ("batch_norm", "layer_norm", "rms_norm")
MODES = [(op, True) for op in OPS] + [("batch_norm", False)]


@pytest.fixture(autouse=True)
def launches(monkeypatch):
    """CPU tensors go where CUDA tensors go; the names of the launchers that are called."""
    monkeypatch.setattr(functional, "_is_on_gpu", lambda input: True)
    called = []
    for op in OPS:
        for direction in ("forward", "backward"):
            name = f"{op}_{direction}"
            monkeypatch.setattr(kernels, name, _noted(called, name, getattr(kernels, name)))
    return called


def _noted(called, name, launcher):
    def note(*args, **kwargs):
        called.append(name)
        return launcher(*args, **kwargs)

    return note


def example(op, training=True, **fields):
    """A case, and x, weight, bias and running statistics in float32; the first three ask for gradients."""
    fields = {"shape": (4, 6, 5), "trailing": 2} | fields
    case = Case("example", op, dtype=fields.pop("dtype", "float32"), training=training, **fields)
    x, _, *others = map(as_tensor, case.arrays())
    for tensor in (x, *others[:2]):
        if tensor is not None:
            tensor.requires_grad_()
    return case, [x, *others]


def in_float64(given):
    return [None if t is None else t.detach().double().requires_grad_(t.requires_grad) for t in given]


# What the kernels compute

USUAL = [case for case in CASES if case.op in OPS and case.dtype != "float64" and case.scale < 1e30]
USUAL = [case for case in USUAL if case.param_dtype in (None, "float32") and case.eps != 0 and 0 not in case.shape]


@pytest.mark.parametrize("case", USUAL[::4], ids=lambda case: case.name)
def test_values_and_gradients_match_the_textbook(case, launches):
    x, dy, weight, bias, *running = map(as_tensor, case.arrays())
    given = [t.requires_grad_() for t in (x, weight, bias) if t is not None]
    y = call(functional, case, x, weight, bias, *running)
    found = iter(torch.autograd.grad(y, given, dy))
    gradients = {
        name: None if t is None else next(found).numpy()
        for name, t in zip(("dx", "dweight", "dbias"), (x, weight, bias), strict=True)
    }
    moved = {
        name: None if t is None else t.numpy()
        for name, t in zip(("running_mean", "running_var"), running, strict=False)
    }
    assert_matches(case, y=y.detach().numpy(), **gradients, **moved)
    assert launches == [f"{case.op}_forward", f"{case.op}_backward"]


@pytest.mark.parametrize(("op", "training"), MODES)
def test_only_the_gradients_asked_for_come_out(op, training):
    case, (x, weight, bias, *running) = example(op, training)
    x.requires_grad_(False)
    y = call(functional, case, x, weight, bias, *running)
    y.sum().backward()
    assert x.grad is None and weight.grad is not None


def test_parameters_may_have_axes_of_length_one():
    _, (x, weight, bias, *running) = example("batch_norm")
    wide = [v.detach().view(1, 6, 1) for v in (weight, bias)]
    y = functional.batch_norm(x, *running, *wide, True)
    assert torch.equal(y, functional.batch_norm(x, *running, weight, bias, True))


def test_a_change_of_the_running_statistics_is_seen_by_autograd():
    _, (x, weight, bias, *running) = example("batch_norm")
    before = [r._version for r in running]
    functional.batch_norm(x, *running, weight, bias, True)
    assert all(r._version > b for r, b in zip(running, before, strict=True))


def test_evaluation_is_not_disturbed_by_later_updates_of_its_buffers():
    case, (x, weight, bias, *running) = example("batch_norm", training=False)
    y = call(functional, case, x, weight, bias, *running)
    wanted = call(functional, case, *in_float64([x, weight, bias, *running]))
    dy = torch.randn(y.shape)
    for r in running:
        r.fill_(7)
    (dx,) = torch.autograd.grad(y, x, dy)
    assert wanted.dtype == torch.float64
    scale = weight.detach() * (torch.as_tensor(case.arrays().running_var) + case.eps).rsqrt()
    torch.testing.assert_close(dx, dy * scale.view(1, 6, 1))


# What PyTorch operations do instead


@pytest.mark.parametrize("what", ["x", "weight"])
@pytest.mark.parametrize(("op", "training"), MODES)
def test_second_derivatives_are_those_of_float64(op, training, what, launches):
    case, given = example(op, training)
    results = []
    for tensors in (given, in_float64(given)):
        torch.manual_seed(0)
        y = call(functional, case, *tensors)
        dy, direction = torch.randn(2, *y.shape).to(y.dtype)
        wanted = tensors[0] if what == "x" else tensors[1]
        (first,) = torch.autograd.grad(y, tensors[0], dy, create_graph=True)
        results.append(
            (first.detach(), *torch.autograd.grad((first * direction).sum(), wanted, materialize_grads=True))
        )
    assert launches == [f"{op}_forward"]
    if training or what == "weight":
        assert results[1][1].abs().max() > 0.1
    for single, double in zip(*results, strict=True):
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("op", "training"), MODES)
def test_batched_gradients(op, training, launches):
    case, given = example(op, training)
    y = call(functional, case, *given)
    dys = torch.randn(3, *y.shape)
    wanted = [t for t in given[:3] if t is not None]
    batched = torch.autograd.grad(y, wanted, dys, is_grads_batched=True, retain_graph=True)
    assert launches == [f"{op}_forward"]
    for k, dy in enumerate(dys):
        for one, all_ in zip(torch.autograd.grad(y, wanted, dy, retain_graph=True), batched, strict=True):
            torch.testing.assert_close(all_[k], one, rtol=1e-4, atol=1e-5)


TRANSFORMS = {
    "grad": lambda f, x: grad(lambda x: f(x).square().sum())(x),
    "hessian": lambda f, x: hessian(lambda x: f(x).square().sum())(x),
    "vmap": lambda f, x: vmap(f)(torch.stack([x, 2 * x])),
    "compile": lambda f, x: torch.compile(f, backend="eager")(x),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("op", ["batch_norm", "layer_norm", "rms_norm"])
def test_transforms_leave_the_kernels_out(op, transform, launches):
    case, (x, weight, bias, *running) = example(op, shape=(3, 2, 4), trailing=1)
    running = [None] * len(running)

    def norm(x):
        return call(functional, case, x, weight.detach(), None if bias is None else bias.detach(), *running)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.compile's own
        assert TRANSFORMS[transform](norm, x.detach()).isfinite().all()
    assert launches == []


def test_forward_mode_leaves_the_kernels_out(launches):
    _, (x, weight, bias, *running) = example("batch_norm")
    with forward_ad.dual_level():
        y = functional.batch_norm(forward_ad.make_dual(x.detach(), torch.ones_like(x)), *running, weight, bias, True)
        assert forward_ad.unpack_dual(y).tangent.abs().max() < 1e-4  # a shift of all values changes nothing
    assert launches == []


LONG = torch.randn(kernels.row_norm.longest_row(centered=True) + 1)
REMAINING = {
    "float64": lambda: functional.batch_norm(torch.randn(4, 3).double(), None, None, training=True),
    "instance norm": lambda: functional.instance_norm(torch.randn(4, 3, 5)),
    "group norm": lambda: functional.group_norm(torch.randn(4, 6, 5), 2),
    "no values": lambda: functional.layer_norm(torch.randn(0, 5), (5,)),
    "long rows": lambda: functional.layer_norm(LONG, LONG.shape),
}


@pytest.mark.parametrize("name", REMAINING)
def test_the_rest_is_computed_by_pytorch_operations(name, launches):
    assert REMAINING[name]().isfinite().all()
    assert launches == []


def test_cpu_tensors_are_not_for_the_kernels(monkeypatch, launches):
    monkeypatch.undo()
    assert not functional._is_for_kernels(torch.randn(4, 3))
    assert not functional._is_for_kernels(torch.empty(4, 3, device="meta"))


def test_without_triton_pytorch_operations_do_everything(monkeypatch):
    monkeypatch.undo()
    assert functional._is_on_gpu(_OnGpu())
    monkeypatch.setattr(functional, "_has_triton", lambda: False)
    assert not functional._is_on_gpu(_OnGpu())


class _OnGpu:
    is_cuda = True
