"""The norms for PyTorch: the table that all implementations share, and what only PyTorch can see."""

import inspect
import math
import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from cases import CASES, Case, as_tensor, assert_matches, textbook
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

from bncourse import functional, normalize
from bncourse.benchmark.memory import saved_bytes

OPS = ("batch_norm", "layer_norm", "instance_norm", "group_norm", "rms_norm")
PER_CHANNEL = ("batch_norm", "instance_norm")
MODES = [*((op, True) for op in OPS), *((op, False) for op in PER_CHANNEL)]


TEXTBOOK = "the formula, composed of PyTorch operations"


def call(module, case: Case, x, weight, bias, running_mean=None, running_var=None):
    """Call the norm of ``case`` in ``module``: bncourse.functional, torch.nn.functional or ``TEXTBOOK``."""
    if module is TEXTBOOK:
        if not case.training:  # then instance norm is batch norm
            case = replace(case, op="batch_norm")
        return textbook(case, x, weight, bias, running_mean, running_var)[0]
    norm = getattr(module, case.op)
    if case.op == "rms_norm":
        return norm(x, case.normalized_shape, weight, case.eps)
    if case.op == "layer_norm":
        return norm(x, case.normalized_shape, weight, bias, case.eps)
    if case.op == "group_norm":
        return norm(x, case.num_groups, weight, bias, case.eps)
    return norm(x, running_mean, running_var, weight, bias, case.training, case.momentum, case.eps)


def tensors(case: Case) -> list[torch.Tensor | None]:
    """x, dy, weight, bias, running_mean, running_var; those with a gradient ask for it."""
    found = [as_tensor(array) for array in case.arrays()]
    for i in (0, 2, 3):
        if found[i] is not None:
            found[i].requires_grad_()
    return found


def is_refused_by_pytorch(case: Case) -> bool:
    x, _, *others = tensors(case)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(F, case, x, *others)
    except IndexError:  # a slip, on an input without channels
        return False
    except (RuntimeError, ValueError):
        return True
    return False


REFUSED = [case for case in CASES if is_refused_by_pytorch(case)]
ACCEPTED = [case for case in CASES if case not in REFUSED]


# The table


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_values_and_gradients_match_the_textbook(case):
    x, dy, weight, bias, *running = tensors(case)
    y = call(functional, case, x, weight, bias, *running)
    wanted = [tensor for tensor in (x, weight, bias) if tensor is not None]
    found = iter(torch.autograd.grad(y, wanted, dy))
    names = ("dx", "dweight", "dbias")
    gradients = {
        name: None if tensor is None else next(found).numpy()
        for name, tensor in zip(names, (x, weight, bias), strict=True)
    }
    statistics = (None if tensor is None else tensor.numpy() for tensor in running)
    results = dict(zip(("running_mean", "running_var"), statistics, strict=True))
    assert_matches(case, y=y.detach().numpy(), **gradients, **results)


PARTED = [case for case in ACCEPTED if case.op in ("batch_norm", "instance_norm", "group_norm")]


@pytest.mark.parametrize("case", PARTED, ids=lambda case: case.name)
def test_computing_part_by_part_changes_no_value(case, monkeypatch):
    monkeypatch.setattr(normalize, "PART", 8)
    test_values_and_gradients_match_the_textbook(case)


def test_large_inputs_are_computed_part_by_part(monkeypatch):
    calls = []
    standardize = normalize._standardize
    monkeypatch.setattr(normalize, "_standardize", lambda x, *a: calls.append(x.shape) or standardize(x, *a))
    functional.batch_norm(torch.randn(64, 64, 32, 32), None, None, training=True)
    assert calls == [(64, 16, 32, 32)] * 4


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_pytorch_refuses_in_the_table_is_refused(case):
    x, _, *others = tensors(case)
    with pytest.raises(functional.ArgumentError):
        call(functional, case, x, *others)


def test_refused_cases_are_those_of_other_dtypes_and_no_eps():
    assert {case.name for case in REFUSED} == {
        *(f"{op}-float32-params-float64" for op in OPS if op != "rms_norm"),
        "batch_norm-evaluation-float64-mean-1e4",
        "batch_norm-no-eps",
    }


@pytest.mark.parametrize("op", OPS)
def test_signature_is_that_of_pytorch(op):
    ours, theirs = (inspect.signature(getattr(module, op)).parameters.values() for module in (functional, F))
    assert [(p.name, p.default, p.kind) for p in ours] == [(p.name, p.default, p.kind) for p in theirs]


# Derivatives


def example(op: str, seed: int = 0, **fields) -> tuple[Case, list[torch.Tensor]]:
    """A case in float64 with its random x, weight and bias (None for RMS norm), and running statistics apart."""
    shape = {"layer_norm": (4, 6), "rms_norm": (4, 6), "group_norm": (3, 4, 3)}.get(op, (3, 2, 4))
    case = Case(f"{op}-{seed}", op, **{"shape": shape, "dtype": "float64", "seed": seed} | fields)
    x, _, weight, bias, *running = tensors(case)
    if op == "instance_norm" and case.running:  # the table has none for it
        channels, generator = case.shape[1], torch.Generator().manual_seed(seed)
        random = partial(torch.rand, channels, dtype=x.dtype, generator=generator)
        running = [random(), 0.5 + random()]
    return case, [x, weight, bias, *running]


def function_of(module, case: Case, given: list[torch.Tensor | None]):
    """The norm as a function of those of x, weight and bias that are there; running statistics are copies."""
    here = [i for i in range(3) if given[i] is not None]

    def function(*values):
        three = [None, None, None]
        for i, value in zip(here, values, strict=True):
            three[i] = value
        return call(module, case, *three, *(None if r is None else r.clone() for r in given[3:]))

    return function, tuple(given[i] for i in here)


VARIANTS = [
    pytest.param(op, fields, id="-".join([op, *fields]))
    for op in OPS
    for fields in (
        {},
        {"weight": False, "bias": False},
        {"weight": False},
        {"bias": False},
        *([{"training": False}, {"training": False, "weight": False}] if op in PER_CHANNEL else []),
    )
    if not (op == "rms_norm" and "bias" in fields)
]


@pytest.mark.parametrize(("op", "fields"), VARIANTS)
def test_first_derivatives_match_finite_differences(op, fields):
    function, arguments = function_of(functional, *example(op, **fields))
    batched = {"check_batched_grad": True, "check_batched_forward_grad": True}
    assert gradcheck(function, arguments, check_forward_ad=True, **batched)


@pytest.mark.parametrize(("op", "fields"), VARIANTS)
def test_second_derivatives_match_finite_differences(op, fields):
    """Also for layer norm with a bias alone, where PyTorch's own fails (pytorch#79705)."""
    function, arguments = function_of(functional, *example(op, **fields))
    assert gradgradcheck(function, arguments, check_fwd_over_rev=True)


def losses(op: str, fields: dict):
    """The same loss of x, weight and bias with our norm and with the textbook's formula, and the arguments."""
    case, given = example(op, **fields)
    factor = torch.randn(case.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    functions = [function_of(module, case, given)[0] for module in (functional, TEXTBOOK)]
    _, arguments = function_of(F, case, given)
    arguments = tuple(argument.detach() for argument in arguments)
    ours, theirs = ((lambda *a, f=f: (f(*a) * factor).square().sum()) for f in functions)
    return ours, theirs, arguments


def assert_same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


TRANSFORMS = {
    "grad": lambda loss, a: grad(loss, tuple(range(len(a))))(*a),
    "jacrev": lambda loss, a: jacrev(loss, len(a) - 1)(*a),
    "jacfwd": lambda loss, a: jacfwd(loss)(*a),
    "jvp": lambda loss, a: jvp(loss, a, tuple(t.flip(0) for t in a)),
    "jvp of x alone": lambda loss, a: jvp(lambda x: loss(x, *a[1:]), a[:1], (a[0].flip(0),)),
    "hessian": lambda loss, a: hessian(loss)(*a),
    "reverse over forward": lambda loss, a: jacrev(jacfwd(loss))(*a),
    "grad of grad": lambda loss, a: grad(lambda *b: grad(loss)(*b).pow(3).sum())(*a),
    "grad of grad of grad": lambda loss, a: grad(
        lambda *b: grad(lambda *c: grad(loss)(*c).pow(3).sum())(*b).pow(2).sum()
    )(*a),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("fields", [{"running": False}, {"weight": False, "running": False}], ids=["", "no-weight"])
@pytest.mark.parametrize("op", OPS)
def test_transforms_give_what_they_give_for_the_formula(op, fields, transform):
    ours, theirs, arguments = losses(op, fields)
    assert_same(TRANSFORMS[transform](ours, arguments), TRANSFORMS[transform](theirs, arguments))


@pytest.mark.parametrize("op", PER_CHANNEL)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_in_evaluation_give_what_they_give_for_the_formula(op, transform):
    ours, theirs, arguments = losses(op, {"training": False})
    assert_same(TRANSFORMS[transform](ours, arguments), TRANSFORMS[transform](theirs, arguments))


VMAPPED = [
    (op, training, which)
    for op in OPS
    for training in ([True, False] if op in PER_CHANNEL else [True])
    for which in ((0,), (1,), (2,), (0, 1), (0, 1, 2))
    if not (op == "rms_norm" and 2 in which)
]


@pytest.mark.parametrize(("op", "training", "which"), VMAPPED, ids=str)
def test_vmap_over_any_argument(op, training, which):
    ours, theirs, arguments = losses(op, {"running": not training, "training": training})
    dims = tuple(0 if i in which else None for i in range(len(arguments)))
    batched = [torch.stack([a, a.flip(0), a * 2]) if d == 0 else a for a, d in zip(arguments, dims, strict=True)]
    for transform in (lambda f: f, lambda f: grad(f, tuple(range(len(arguments))))):
        assert_same(vmap(transform(ours), dims)(*batched), vmap(transform(theirs), dims)(*batched))


def test_vmap_over_running_statistics_in_evaluation():
    case, (x, weight, bias, mean, var) = example("batch_norm", training=False)
    stacked = torch.stack([mean, mean + 1]), torch.stack([var, var * 2])
    for dims, statistics in [((0, 0), stacked), ((0, None), (stacked[0], var)), ((None, 0), (mean, stacked[1]))]:
        ours, theirs = (vmap(partial(call, m, case, x, weight, bias), dims)(*statistics) for m in (functional, F))
        assert_same(ours, theirs)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("op", PER_CHANNEL)
def test_transforms_may_find_running_statistics_outside(op, transform):
    """As with PyTorch's own, they are updated although they are no arguments of the function."""
    case, given = example(op)
    _, theirs, arguments = losses(op, {"running": False})
    factor = torch.randn(case.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    running = [given[3].clone(), given[4].clone()]

    def loss(*values):
        return (call(functional, case, *values, *running) * factor).square().sum()

    assert_same(TRANSFORMS[transform](loss, arguments), TRANSFORMS[transform](theirs, arguments))
    call(F, case, *arguments, *given[3:])  # updates once; hessian and its like call the function once, too
    assert_same(running, given[3:])


@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize(("op", "fields"), VARIANTS)
def test_forward_mode_without_transforms(op, fields, recording):
    function, arguments = function_of(functional, *example(op, **fields))
    exact, _ = function_of(TEXTBOOK, *example(op, **fields))
    tangents = tuple(argument.detach().flip(0) for argument in arguments)
    results = []
    for f in (function, exact):
        with torch.set_grad_enabled(recording), forward_ad.dual_level():
            dual = [forward_ad.make_dual(a.detach(), t) for a, t in zip(arguments, tangents, strict=True)]
            results.append(forward_ad.unpack_dual(f(*dual)).tangent)
    assert_same(*results)


@pytest.mark.parametrize("op", OPS)
def test_backward_keeps_to_the_saved_statistics_unless_it_is_recorded(op, monkeypatch):
    calls = []
    standardize = normalize._standardize
    monkeypatch.setattr(normalize, "_standardize", lambda *a: calls.append(1) or standardize(*a))
    function, arguments = function_of(functional, *example(op))
    y = function(*arguments)
    assert len(calls) == 1
    torch.autograd.grad(y.sum(), arguments, retain_graph=True)
    assert len(calls) == 1
    torch.autograd.grad(y.sum(), arguments, create_graph=True)
    assert len(calls) == 2


@pytest.mark.parametrize("op", OPS)
def test_only_the_gradients_asked_for_are_made(op):
    case, (x, weight, bias, *running) = example(op)
    x = x.detach()
    y = call(functional, case, x, weight, bias, *running)
    exact = call(TEXTBOOK, case, x, weight, bias, *running)
    assert_same(*(torch.autograd.grad(out.pow(3).sum(), weight) for out in (y, exact)))


# Memory


@pytest.mark.parametrize(("op", "training"), MODES)
def test_memory_saved_for_backward_is_within_one_percent_of_pytorch(op, training):
    shape = (64, 512) if op in ("layer_norm", "rms_norm") else (16, 8, 64, 64)
    case, given = example(op, shape=shape, dtype="float32", training=training)
    x_bytes = given[0].nbytes
    ours, theirs = (saved_bytes(partial(call, module, case, *given)) for module in (functional, F))
    assert x_bytes <= ours <= 1.01 * max(theirs, x_bytes)


def test_evaluation_is_not_disturbed_by_later_updates_of_its_buffers():
    case, (x, weight, bias, mean, var) = example("batch_norm", training=False)
    want = torch.autograd.grad(call(functional, case, x, weight, bias, mean, var).square().sum(), x)[0]
    y = call(functional, case, x, weight, bias, mean, var)
    mean.add_(1)
    var.mul_(2)
    assert torch.equal(torch.autograd.grad(y.square().sum(), x)[0], want)


def test_two_forward_passes_before_one_backward_pass():
    case, (x, weight, bias, *running) = example("batch_norm")
    first = call(functional, case, x, weight, bias, *running)
    second = call(functional, case, x * 2, weight, bias, *running)
    torch.autograd.grad((first * second).sum(), (x, weight))  # an update in place must not forbid it


@pytest.mark.parametrize("op", PER_CHANNEL)
def test_running_statistics_stay_outside_of_the_graph(op):
    case, (x, weight, bias, mean, var) = example(op)
    address = mean.data_ptr(), var.data_ptr()
    call(functional, case, x, weight, bias, mean, var)
    assert not mean.requires_grad and not var.requires_grad
    assert (mean.data_ptr(), var.data_ptr()) == address


# Memory formats


LAST = [
    ((2, 3, 4, 5), torch.channels_last),
    ((1, 3, 4, 5), torch.channels_last),
    ((2, 3, 2, 4, 3), torch.channels_last_3d),
    ((1, 3, 2, 4, 3), torch.channels_last_3d),
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("op", ["batch_norm", "instance_norm", "group_norm"])
@pytest.mark.parametrize(("shape", "memory_format"), LAST)
def test_channels_last_is_kept(shape, memory_format, op, training):
    case, (x, *others) = example(op, shape=shape, training=training, num_groups=3)
    x = x.detach().contiguous(memory_format=memory_format).requires_grad_()
    y = call(functional, case, x, *others)
    assert y.stride() == x.stride()
    for dy in (torch.randn_like(y), torch.randn(shape, dtype=y.dtype)):
        (dx,) = torch.autograd.grad(y, x, dy, retain_graph=True)
        assert dx.stride() == x.stride()


@pytest.mark.parametrize(("op", "training"), MODES)
def test_output_may_be_changed_in_place(op, training):
    """As ReLU(inplace=True) does, for which it must not be a view."""
    case, (x, *others) = example(op, training=training)
    gradients = []
    for module in (functional, TEXTBOOK):
        y = call(module, case, x, *others)
        gradients.append(torch.autograd.grad(y.relu_().pow(3).sum(), x)[0])
    assert_same(*gradients)


def test_output_of_permuted_volumes_is_contiguous():
    x = torch.randn(2, 4, 5, 6, 3).permute(0, 4, 2, 1, 3)
    assert x.stride(1) == 1
    assert functional.batch_norm(x, None, None, training=True).is_contiguous()


@pytest.mark.parametrize("op", OPS)
def test_output_of_a_strided_input_is_contiguous(op):
    case, (x, *others) = example(op, shape=(3, 4, 5))
    x = x.detach().transpose(0, 2).contiguous().transpose(0, 2)
    assert not x.is_contiguous()
    assert call(functional, case, x, *others).is_contiguous()


# Dtypes


HALF = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("param_dtype", ["half", torch.float32])
@pytest.mark.parametrize("op", OPS)
def test_half_types_are_computed_in_float32_and_rounded_once(op, param_dtype, dtype):
    case, given = example(op, shape=(4, 6, 16), trailing=1, num_groups=2)
    x, *params = (None if t is None else t.detach() for t in given)
    x = (30 * x).to(dtype)
    params = [None if p is None else p.to(dtype if param_dtype == "half" else param_dtype) for p in params]
    exact = call(functional, case, x.double(), *(None if p is None else p.double() for p in params))
    y = call(functional, case, x, *params)
    assert y.dtype == dtype
    error = (y.double() - exact).abs() / exact.abs().clamp_min(1e-3)
    assert error.max() <= 0.51 * torch.finfo(dtype).eps


@pytest.mark.parametrize("op", PER_CHANNEL)
def test_running_statistics_of_half_input_are_kept_in_float32(op):
    case, (x, *_) = example(op, shape=(4, 3, 16))
    x = (x.detach() + 300).bfloat16()
    mean, var = torch.zeros(3), torch.ones(3)
    call(functional, case, x, None, None, mean, var)
    want = 0.1 * x.double().mean((0, 2))
    torch.testing.assert_close(mean, want.float())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weight_of_rms_norm_may_have_any_dtype(dtype):
    """As in PyTorch, and in contrast to the other norms."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(4, 6, generator=generator), torch.randn(6, generator=generator).to(dtype).requires_grad_()
    y = functional.rms_norm(x, (6,), weight)
    y.square().sum().backward()
    exact_weight = weight.detach().double().requires_grad_()
    exact = F.rms_norm(x.double(), (6,), exact_weight, torch.finfo(torch.float32).eps)
    exact.square().sum().backward()
    torch.testing.assert_close(y, exact.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        weight.grad.double(), exact_weight.grad, rtol=max(1e-5, torch.finfo(dtype).eps), atol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_running_statistics_of_instance_norm_may_have_any_dtype(dtype):
    """As in PyTorch, and in contrast to batch norm."""
    x = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    ours, theirs = ([torch.zeros(3, dtype=dtype), torch.ones(3, dtype=dtype)] for _ in range(2))
    torch.testing.assert_close(functional.instance_norm(x, *ours), F.instance_norm(x, *theirs))
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("op", OPS)
def test_gradients_have_the_dtypes_of_their_tensors(op):
    case, given = example(op, shape=(4, 6, 16))
    x = given[0].detach().bfloat16().requires_grad_()
    params = [None if p is None else p.detach().float().requires_grad_() for p in given[1:3]]
    call(functional, case, x, *params).float().square().sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert all(p.grad.dtype == torch.float32 for p in params if p is not None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("op", OPS)
def test_autocast_gives_the_dtype_that_it_gives_for_pytorch(op, dtype):
    case, (x, *params) = example(op, shape=(4, 6, 16), running=False)
    params = [None if p is None else p.detach().float() for p in params]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = (call(m, case, x.detach().to(dtype), *params).dtype for m in (functional, F))
    assert ours == theirs


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4, 1e6])
def test_x_hat_of_float32_is_accurate_whatever_the_mean(mean):
    x = (torch.randn(4096, 3, generator=torch.Generator().manual_seed(0)) + mean).requires_grad_()
    exact_x = x.detach().double().requires_grad_()
    y, exact = (F_(v, None, None, training=True) for F_, v in ((functional.batch_norm, x), (F.batch_norm, exact_x)))
    assert (y - exact).abs().max() < 5e-7
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    dx, exact_dx = (torch.autograd.grad(*pair)[0] for pair in ((y, x, dy), (exact, exact_x, dy.double())))
    assert (dx - exact_dx).abs().max() < 5e-6


# What is accepted, and what is refused


def accepted(m) -> dict:
    """Calls that PyTorch accepts, as functions of the module."""
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    images = x.reshape(2, 3, 2)
    zeros, ones, params = torch.zeros(3), torch.ones(3), torch.tensor([0.5, -1.0, 2.0])
    bn = partial(m.batch_norm, x)
    return {
        "momentum above 1": lambda: bn(zeros.clone(), ones.clone(), training=True, momentum=2.0),
        "negative momentum": lambda: bn(zeros.clone(), ones.clone(), training=True, momentum=-1.0),
        "weight as a column": lambda: bn(zeros, ones, params[:, None]),
        "weight as a row": lambda: bn(None, None, params[None], training=True),
        "bias alone": lambda: bn(None, None, None, params, training=True),
        "no eps in evaluation": lambda: bn(zeros, ones, eps=0.0),
        "no eps in instance norm": lambda: m.instance_norm(images, eps=0.0),
        "one value in evaluation": lambda: m.batch_norm(x[:1], zeros, ones),
        "nothing": lambda: m.batch_norm(x[:0], zeros, ones, params, params, training=True),
        "no channels": lambda: m.batch_norm(torch.ones(4, 0, 5), None, None, training=True),
        "one sample of several positions": lambda: m.batch_norm(images[:1], None, None, training=True),
        "instance norm in evaluation": lambda: m.instance_norm(images, zeros, ones, use_input_stats=False),
        "instance norm of one position in evaluation": lambda: m.instance_norm(
            images[:, :, :1], zeros, ones, use_input_stats=False
        ),
        "group norm of one value per group": lambda: m.group_norm(x, 3, params),
        "list as normalized_shape": lambda: m.layer_norm(images, [3, 2]),
        "size as normalized_shape": lambda: m.rms_norm(images, images.shape[1:]),
        "negative eps in instance norm": lambda: m.instance_norm(100 * images, eps=-0.5),
        "negative eps in layer norm": lambda: m.layer_norm(100 * x, (3,), eps=-0.5),
        "infinite input": lambda: m.layer_norm(torch.tensor([[1.0, math.inf, 2.0]]), (3,)),
    }


@pytest.mark.parametrize("name", accepted(F))
def test_what_pytorch_accepts_is_accepted(name):
    torch.testing.assert_close(accepted(functional)[name](), accepted(F)[name](), rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("momentum", [2.0, -1.0, 0.0])
@pytest.mark.parametrize("op", PER_CHANNEL)
def test_any_momentum_moves_the_running_statistics_as_in_pytorch(op, momentum):
    case, (x, _, _, mean, var) = example(op, momentum=momentum)
    ours, theirs = [mean.clone(), var.clone()], [mean.clone(), var.clone()]
    call(functional, case, x, None, None, *ours)
    call(F, case, x, None, None, *theirs)
    assert_same(ours, theirs)


def refused(m) -> dict:
    """Calls that PyTorch refuses, as functions of the module, each with words that the message must hold."""
    x = torch.randn(4, 3)
    images = torch.randn(2, 6, 4)
    two, three, four = torch.ones(2), torch.ones(3), torch.ones(4)
    wants_gradient = torch.ones(3, requires_grad=True)
    bn, ln, gn, rms = (partial(f, x) for f in (m.batch_norm, m.layer_norm, m.group_norm, m.rms_norm))
    return {
        "one value": (lambda: m.batch_norm(x[:1], three, three, training=True), "more than 1 value.*1, 3"),
        "one pixel": (lambda: m.batch_norm(x[:1, :, None, None], None, None, training=True), "more than 1 value"),
        "one axis": (lambda: m.batch_norm(three, three, three), "axes|elements"),
        "no running statistics": (lambda: bn(None, None), "evaluation mode"),
        "running_mean alone": (lambda: bn(three, None, training=True), "running_mean.*running_var"),
        "running_var alone": (lambda: bn(None, three, training=True), "running_mean.*running_var"),
        "long running_mean": (lambda: bn(four, three, training=True), "running_mean should contain 3 elements"),
        "short running_var": (lambda: bn(three, two), "running_var should contain 3 elements"),
        "running_mean of two axes": (lambda: bn(three[None], three[None], training=True), "dim|axis"),
        "running_mean with a gradient": (lambda: bn(wants_gradient, three, training=True), "requires_grad"),
        "long weight": (lambda: bn(three, three, four), "weight should contain 3 elements"),
        "short bias": (lambda: bn(three, three, three, two), "bias should contain 3 elements"),
        "eps of zero": (lambda: bn(three, three, training=True, eps=0.0), "eps must be positive.*0"),
        "negative eps": (lambda: bn(three, three, eps=-0.5), "eps must be"),
        "integers": (lambda: m.batch_norm(x.long(), three, three, training=True), "not implemented"),
        "booleans": (lambda: m.layer_norm(x > 0, (3,)), "not implemented"),
        "complex numbers": (lambda: m.layer_norm(x.to(torch.complex64), (3,)), "not implemented"),
        "weight of float64": (lambda: bn(three, three, three.double()), "mixed dtype"),
        "running statistics of float64": (lambda: bn(three.double(), three.double(), training=True), "mixed dtype"),
        "float64 with others": (lambda: m.batch_norm(x.double(), three, three, training=True), "mixed dtype"),
        "bfloat16 with two dtypes": (
            lambda: m.batch_norm(x.bfloat16(), three, three, three, three.bfloat16(), training=True),
            "mixed dtype",
        ),
        "layer norm over another shape": (lambda: ln((4,)), "normalized_shape.*4"),
        "layer norm over no axes": (lambda: ln(()), "normalized_shape"),
        "layer norm over too many axes": (lambda: ln((2, 4, 3)), "normalized_shape"),
        "layer norm with a long weight": (lambda: ln((3,), four), "weight.* same shape as normalized_shape.*4"),
        "layer norm with a row as bias": (lambda: ln((3,), None, three[None]), "bias.* same shape as normalized_shape"),
        "layer norm of a number": (lambda: m.layer_norm(torch.tensor(1.0), (1,)), "normalized_shape"),
        "RMS norm over another shape": (lambda: rms((4,)), "normalized_shape.*4"),
        "RMS norm with a long weight": (lambda: rms((3,), four), "weight.* same shape as normalized_shape"),
        "groups that do not divide": (lambda: m.group_norm(images, 4), "6, 4.*num_groups|num_groups.*6"),
        "negative groups": (lambda: m.group_norm(images, -1), "num.groups.*-1"),
        "group norm of one axis": (lambda: m.group_norm(three, 3), "2 (axes|dimensions)"),
        "group norm with a long weight": (lambda: gn(3, four), "weight.*4"),
        "group norm with a row as weight": (lambda: gn(3, three[None]), "weight.*1, 3"),
        "group norm of one value": (lambda: m.group_norm(x[:1], 3), "more than 1 value"),
        "instance norm of one position": (lambda: m.instance_norm(images[:, :, :1]), "more than 1 spatial element"),
        "instance norm without positions": (lambda: m.instance_norm(x), "more than 1 spatial element"),
        "instance norm without statistics": (lambda: m.instance_norm(images, use_input_stats=False), "running_mean"),
        "instance norm with a short weight": (lambda: m.instance_norm(images, weight=four), "weight should contain"),
    }


@pytest.mark.parametrize("name", refused(F))
def test_what_pytorch_refuses_is_refused_in_its_words(name):
    theirs, words = refused(F)[name]
    with pytest.raises((RuntimeError, ValueError)):
        theirs()
    with pytest.raises(functional.ArgumentError, match=words):
        refused(functional)[name][0]()


@pytest.mark.parametrize("name", refused(functional))
def test_a_refusal_is_a_value_error_and_a_runtime_error_that_names_the_fix(name):
    with pytest.raises(ValueError, match="; ") as caught:
        refused(functional)[name][0]()
    assert isinstance(caught.value, RuntimeError)


def test_wrong_types_are_type_errors():
    x = torch.randn(4, 3)
    for wrong in (
        lambda: functional.batch_norm([[1.0, 2.0]], None, None, training=True),
        lambda: functional.batch_norm(x, None, None, training=True, momentum=None),
        lambda: functional.instance_norm(x[None], momentum=None),
        lambda: functional.layer_norm(x, 3),
    ):
        with pytest.raises(TypeError, match="expected"):
            wrong()


def test_zero_groups_are_refused():
    with pytest.raises(functional.ArgumentError, match="got 0"):
        functional.group_norm(torch.randn(2, 4), 0)


def test_a_refusal_leaves_the_running_statistics():
    mean, var = torch.randn(3), torch.rand(3)
    before = mean.clone(), var.clone()
    for x, weight in ((torch.randn(1, 3), None), (torch.randn(4, 3), torch.ones(4)), (torch.ones(4, 3).long(), None)):
        with pytest.raises(functional.ArgumentError):
            functional.batch_norm(x, mean, var, weight, training=True)
    assert torch.equal(mean, before[0]) and torch.equal(var, before[1])


@pytest.mark.parametrize("op", OPS)
def test_arguments_stay_as_they_were(op):
    case, given = example(op)
    dy = torch.randn(case.shape, dtype=torch.float64)
    before = [None if t is None else t.detach().clone() for t in (*given[:3], dy)]
    y = call(functional, case, *given)
    torch.autograd.grad(y, [t for t in given[:3] if t is not None], dy)
    for now, then in zip((*given[:3], dy), before, strict=True):
        assert now is None or torch.equal(now, then)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_moves_the_running_statistics_as_in_pytorch(value):
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    x[1, 2] = value
    ours, theirs = ([torch.zeros(3), torch.ones(3)] for _ in range(2))
    for module, running in ((functional, ours), (F, theirs)):
        y = module.batch_norm(x, *running, training=True)
        assert y.isnan().sum(0).tolist() == [0, 0, 4]
    torch.testing.assert_close(ours, theirs, equal_nan=True)


def test_tiny_values_have_a_variance_too():
    """Their squares are below the range of float32."""
    x = (1e-25 * torch.randn(64, 3, generator=torch.Generator().manual_seed(0))).requires_grad_()
    y = functional.layer_norm(x.t(), (64,), eps=0.0)
    torch.testing.assert_close(y.double(), F.layer_norm(x.t().double(), (64,), eps=0.0), rtol=1e-5, atol=1e-6)
