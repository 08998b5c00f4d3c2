"""Batch norm by kernels, in Triton's interpreter: the table of all implementations, both plans, and what is fused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from cases import CASES, as_tensor, assert_matches

from bncourse import kernels
from bncourse.kernels.arguments import matrix
from bncourse.kernels.batch_norm_kernels import _origin, _tile
from bncourse.kernels.plan import batch_norm_plan
from bncourse.kernels.trace import trace

PLANS = {"chosen": None, "split": False}  # and what is asked of `resident`


def in_float32(case):
    """The kernels know no float64."""
    param_dtype = None if case.param_dtype == "float64" else case.param_dtype
    return replace(case, dtype="float32" if case.dtype == "float64" else case.dtype, param_dtype=param_dtype)


# Squares of 1e30 are no float32 numbers, and in those the kernels compute, as PyTorch does on a GPU.
TABLE = [in_float32(case) for case in CASES if case.op == "batch_norm" and case.scale < 1e30]


def plan_of(x, arrays, resident):
    return batch_norm_plan(*matrix(x), itemsize=x.element_size(), arrays=arrays, resident=resident)


def options(x, arrays, plan):
    """The keyword that asks for a plan, unless it is the chosen one."""
    return {} if PLANS[plan] is None or x.numel() == 0 else {"plan": plan_of(x, arrays, PLANS[plan])}


@pytest.fixture(autouse=True)
def fresh_memory_holds_nan():
    """What a kernel leaves unwritten, or reads before it was written, shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def forward(x, weight, bias, running, plan="chosen", training=True, momentum=0.1, eps=1e-5, **fused):
    given = {"training": training, "momentum": momentum, "eps": eps, **fused}
    return kernels.batch_norm_forward(x, weight, bias, *running, **given, **options(x, 1, plan))


def backward(dy, x, weight, mean, inv_std, plan="chosen", training=True, **fused):
    return kernels.batch_norm_backward(dy, x, weight, mean, inv_std, training=training, **fused, **options(x, 2, plan))


# The table


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_values_and_gradients_match_the_textbook(case, plan):
    x, dy, weight, bias, *running = map(as_tensor, case.arrays())
    y, *statistics = forward(x, weight, bias, running, plan, case.training, case.momentum, case.eps)
    dx, dweight, dbias = backward(dy, x, weight, *statistics, plan, case.training)
    results = {
        "y": y,
        "dx": dx,
        "dweight": None if weight is None else dweight,
        "dbias": None if bias is None else dbias.to(bias.dtype),
        "running_mean": running[0],
        "running_var": running[1],
    }
    assert_matches(case, **{name: None if r is None else r.numpy() for name, r in results.items()})


def test_the_table_has_what_kernels_get_wrong():
    shapes = {case.shape for case in TABLE}
    sizes = {size for shape in shapes for size in shape}
    assert {1, 3, 7, 49, 1023} <= sizes
    assert any(case.mean == 1e4 for case in TABLE)
    assert {"channels_last", "strided", "broadcast"} <= {case.layout for case in TABLE}
    assert {"float32", "float16"} == {case.dtype for case in TABLE}


# bfloat16, which NumPy does not have

EXACT = ((5, 3), (6, 3, 7), (4, 6, 5, 3), (8, 12, 7, 7))


def example(shape, dtype=torch.float32, channels_last=False, seed=0):
    """x, dy, weight, bias, running statistics and a residual."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator)

    x, dy, residual = (2 * random(*shape) + 0.5).to(dtype), (random(*shape) + 0.7).to(dtype), random(*shape).to(dtype)
    if channels_last:
        x, dy, residual = (t.to(memory_format=torch.channels_last) for t in (x, dy, residual))
    weight, bias = random(shape[1]) + 0.3, random(shape[1])
    running = random(shape[1]), random(shape[1]).exp()
    return x, dy, weight, bias, running, residual


def exact(x, dy, weight, bias, running, residual, *, training, relu, eps=1e-5):
    """y and all gradients by PyTorch in float64, and the running statistics afterwards."""
    x, weight, bias, residual = (
        None if t is None else t.double().requires_grad_() for t in (x, weight, bias, residual)
    )
    running = [r.double() for r in running]
    y = F.batch_norm(x, *running, weight, bias, training, 0.1, eps)
    y = y if residual is None else y + residual
    y = y.relu() if relu else y
    inputs = [t for t in (x, weight, bias, residual) if t is not None]
    return y.detach(), *torch.autograd.grad(y, inputs, dy.double()), *running


def assert_close(got, wanted, allowed):
    """Each is right up to a share of its largest value."""
    for index, (a, b) in enumerate(zip(got, wanted, strict=True)):
        error = (a.double() - b).abs().max() / b.abs().max()
        assert error <= allowed, f"result {index} is off by {error:.2g} of its largest value, allowed are {allowed:.2g}"


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", EXACT, ids=str)
def test_bfloat16_is_computed_in_float32(shape, training, plan):
    x, dy, weight, bias, running, _ = example(shape, torch.bfloat16)
    wanted = exact(x, dy, weight, bias, running, None, training=training, relu=False)
    y, *statistics = forward(x, weight, bias, running, plan, training)
    dx, dweight, dbias = backward(dy, x, weight, *statistics, plan, training)
    assert y.dtype == dx.dtype == torch.bfloat16
    assert all(statistic.dtype == torch.float32 for statistic in statistics)
    # The interpreter cuts off what a GPU rounds, so a result may be off by a whole step of 2⁻⁷ of its size.
    assert_close((y, dx), wanted[:2], 2**-7)
    assert_close((dweight, dbias, *running), wanted[2:], 2e-6)


# Fused: ReLU and residual


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("shape", "channels_last"), [*((s, False) for s in EXACT), ((4, 6, 5, 3), True)], ids=str)
@pytest.mark.parametrize(("add", "relu"), [(False, True), (True, False), (True, True)])
def test_relu_and_residual(shape, channels_last, add, relu, training, plan):
    x, dy, weight, bias, running, residual = example(shape, channels_last=channels_last)
    residual = residual if add else None
    wanted = exact(x, dy, weight, bias, running, residual, training=training, relu=relu)
    y, *statistics = forward(x, weight, bias, running, plan, training, residual=residual, relu=relu)
    gradients = backward(dy, x, weight, *statistics, plan, training, bias=bias, residual=residual, relu=relu)
    assert_close((y, *gradients, *running), wanted, 2e-6)


@pytest.mark.parametrize("plan", PLANS)
def test_relu_lets_nan_through(plan):
    x, _, weight, bias, running, _ = example((4, 6, 5, 3))
    x[0, 2, 0, 0] = torch.nan
    y, *_ = forward(x, weight, bias, running, plan, relu=True)
    assert y[:, 2].isnan().all() and not y[:, [0, 1, 3, 4, 5]].isnan().any()


# Plans that a large GPU makes for large inputs, here for small ones

CUTS = [  # of rows × channels · width; channels is no multiple of the group in the last
    {"rows": 6, "channels": 4, "width": 35, "group": 1, "block_rows": 4, "block_columns": 16, "splits": 3},
    {"rows": 6, "channels": 4, "width": 35, "group": 1, "block_rows": 1, "block_columns": 64, "splits": 5},
    {"rows": 6, "channels": 4, "width": 35, "group": 2, "block_rows": 2, "block_columns": 128, "splits": 2},
    {"rows": 6, "channels": 4, "width": 35, "group": 4, "block_rows": 8, "block_columns": 256, "splits": 1},
    {"rows": 210, "channels": 4, "width": 1, "group": 4, "block_rows": 16, "block_columns": 4, "splits": 7},
    {"rows": 210, "channels": 4, "width": 1, "group": 8, "block_rows": 32, "block_columns": 8, "splits": 3},
    {"rows": 210, "channels": 4, "width": 1, "group": 3, "block_rows": 64, "block_columns": 4, "splits": 2},
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: "-".join(map(str, cut.values())))
def test_any_cut_gives_the_same_values(cut, training):
    x, dy, weight, bias, running, residual = example((6, 4, 5, 7), channels_last=cut["width"] == 1)
    plan = kernels.Plan(**cut, resident=False, num_warps=4)
    wanted = exact(x, dy, weight, bias, running, residual, training=training, relu=True)
    given = {"residual": residual, "relu": True, "training": training, "plan": plan}
    y, *statistics = kernels.batch_norm_forward(x, weight, bias, *running, momentum=0.1, eps=1e-5, **given)
    gradients = kernels.batch_norm_backward(dy, x, weight, *statistics, bias=bias, **given)
    assert_close((y, *gradients, *running), wanted, 2e-6)


def test_the_same_input_gives_the_same_bits():
    x, dy, weight, bias, running, _ = example((6, 4, 5, 7))
    plan = kernels.Plan(**CUTS[0], resident=False, num_warps=4)
    results = []
    for _ in range(2):
        given = [statistic.clone() for statistic in running]
        y, *statistics = kernels.batch_norm_forward(
            x, weight, bias, *given, training=True, momentum=0.1, eps=1e-5, plan=plan
        )
        gradients = kernels.batch_norm_backward(dy, x, weight, *statistics, training=True, plan=plan)
        results.append((y, *statistics, *gradients, *given))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


# Accuracy


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("border", [False, True])
def test_a_mean_of_1e4_costs_no_digits(plan, border):
    x, dy, weight, bias, running, _ = example((16, 4, 9, 9))
    x = x + 1e4
    if border:
        x[:, :, 0] = 0
    wanted = exact(x, dy, weight, bias, running, None, training=True, relu=False)
    y, *statistics = forward(x, weight, bias, running, plan)
    gradients = backward(dy, x, weight, *statistics, plan)
    assert_close((y, *gradients, *running), wanted, 1e-5 if border else 3e-6)


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("plan", PLANS)
def test_an_outlier_costs_the_other_values_no_digits(plan, place):
    x, *_ = example((64, 2, 6, 6))
    n, position = {"first": (0, 9), "middle": (32, 18), "last": (63, 27)}[place]  # where the statistics look
    x.view(64, 2, 36)[n, :, position] = 1e6
    y, *_ = forward(x, None, None, (None, None), plan)
    wanted = F.batch_norm(x.double(), None, None, training=True)
    wanted, y = (t.masked_fill(x == 1e6, 0) for t in (wanted, y))
    assert (y - wanted).abs().max() <= 1e-5 * (wanted.max() - wanted.min())


# What is done with arguments


def test_layouts_are_kept_and_dy_may_have_another():
    x, dy, weight, bias, running, residual = example((4, 6, 5, 3))
    last = x.to(memory_format=torch.channels_last)
    y, *statistics = forward(last, weight, bias, running, residual=residual, relu=True)
    dx, *_ = backward(dy, last, weight, *statistics, bias=bias, residual=residual, relu=True)
    assert y.is_contiguous(memory_format=torch.channels_last) and dx.is_contiguous(memory_format=torch.channels_last)
    same, *statistics = forward(x, weight, bias, running, residual=residual, relu=True)
    assert_close(
        (y, dx), (same, backward(dy, x, weight, *statistics, bias=bias, residual=residual, relu=True)[0]), 1e-6
    )


def test_arguments_stay_as_they_were():
    x, dy, weight, bias, running, residual = given = example((4, 6, 5, 3))
    before = [t.clone() for t in (x, dy, weight, bias, residual)]
    _, *statistics = forward(x, weight, bias, running, residual=residual, relu=True)
    backward(dy, x, weight, *statistics, bias=bias, residual=residual, relu=True)
    after = given[:4] + given[5:]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("plan", PLANS)
def test_running_statistics_may_lie_apart_and_in_another_dtype(plan):
    x, dy, weight, bias, running, _ = example((4, 6, 5, 3))
    wanted = exact(x, dy, weight, bias, running, None, training=True, relu=False)[-2:]
    apart = [torch.stack([r, r], 1)[:, 0] for r in running]
    forward(x, weight, bias, apart, plan)
    assert_close(apart, wanted, 1e-6)
    half = [r.half() for r in running]
    forward(x, weight, bias, half, plan)
    assert_close(half, wanted, 1e-3)


def test_evaluation_leaves_the_running_statistics_and_returns_what_it_used():
    x, _, weight, bias, running, _ = example((4, 6, 5, 3))
    before = [r.clone() for r in running]
    _, mean, inv_std = forward(x, weight, bias, running, training=False)
    assert all(torch.equal(a, b) for a, b in zip(running, before, strict=True))
    assert torch.equal(mean, running[0]) and mean.data_ptr() != running[0].data_ptr()
    torch.testing.assert_close(inv_std, (running[1] + 1e-5).rsqrt())


def test_gradients_without_weight_are_float32_and_those_with_a_half_weight_are_half():
    x, dy, weight, bias, running, _ = example((4, 6, 5, 3), torch.float16)
    _, *statistics = forward(x, None, None, running)
    assert [g.dtype for g in backward(dy, x, None, *statistics)] == [torch.float16, torch.float32, torch.float32]
    _, *statistics = forward(x, weight.half(), bias.half(), running)
    assert {g.dtype for g in backward(dy, x, weight.half(), *statistics)} == {torch.float16}


def test_the_gradient_of_a_residual_without_relu_is_dy():
    x, dy, weight, bias, running, residual = example((4, 6, 5, 3))
    _, *statistics = forward(x, weight, bias, running, residual=residual)
    *_, dresidual = backward(dy, x, weight, *statistics, residual=residual)
    assert torch.equal(dresidual, dy)


# What does not fit

X = torch.zeros(4, 6, 5, 3)
C = torch.ones(6)
WRONG = {
    "float64": (lambda: forward(X.double(), C, C, (C, C)), "float32, bfloat16 or float16"),
    "one axis": (lambda: forward(X[0, 0, 0], None, None, (None, None)), r"shape \(N, C, \*\)"),
    "weight": (lambda: forward(X, C[:3], C, (C, C)), "expected weight of shape"),
    "running": (lambda: forward(X, C, C, (C[:3], C)), "expected running_mean of shape"),
    "one running": (lambda: forward(X, C, C, (C, None)), "together"),
    "none in evaluation": (lambda: forward(X, C, C, (None, None), training=False), "in evaluation"),
    "one value": (lambda: forward(X[:1, :, :1, :1], C, C, (C, C)), "more than one value per channel"),
    "residual": (lambda: forward(X, C, C, (C, C), residual=X[:2]), "expected residual of shape"),
    "residual's dtype": (lambda: forward(X, C, C, (C, C), residual=X.half()), "expected residual in the dtype of x"),
    "dy": (lambda: backward(X[:2], X, C, C, C), "expected dy of shape"),
    "dy's dtype": (lambda: backward(X.half(), X, C, C, C), "expected dy in the dtype of x"),
    "mean": (lambda: backward(X, X, C, C[:3], C), "expected mean of shape"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_refusal_says_what_was_expected_and_changes_nothing(name):
    call, words = WRONG[name]
    with pytest.raises(ValueError, match=words):
        call()
    assert torch.equal(C, torch.ones(6))


# What a kernel does


def test_in_training_the_resident_plan_is_one_launch_and_the_split_one_two():
    x, dy, weight, bias, running, _ = example((8, 12, 7, 7))
    launches = {}
    for plan in PLANS:
        launches[plan] = trace(lambda plan=plan: _both(x, dy, weight, bias, running, plan)).launches
    assert launches == {
        "chosen": ["_batch_norm_resident_forward_kernel", "_batch_norm_resident_backward_kernel"],
        "split": [
            "_batch_norm_statistics_kernel",
            "_batch_norm_normalize_kernel",
            "_batch_norm_gradient_sums_kernel",
            "_batch_norm_input_gradient_kernel",
        ],
    }


def _both(x, dy, weight, bias, running, plan):
    _, *statistics = forward(x, weight, bias, running, plan)
    backward(dy, x, weight, *statistics, plan)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("shape", [(8, 12, 7, 7), (3, 5, 40, 40), (300, 70)], ids=str)
def test_every_value_is_read_and_written_as_often_as_planned(shape, plan):
    x, dy, weight, bias, running, _ = example(shape)
    traced = trace(lambda: _both(x, dy, weight, bias, running, plan))
    resident = plan == "chosen" and plan_of(x, 2, None).resident
    reads = 1 if resident else 2
    assert [traced.elements(written, "store") for written in ("y", "dx")] == [x.numel()] * 2
    assert traced.elements("dy", "load") == reads * x.numel()
    # The values from which the statistics measure are read as well, but not as tiles.
    of_x = [access for access in traced.accesses if access.tensor == "x" and access.tile.ndim == 2]
    assert sum(len(access.offsets) for access in of_x) == 2 * reads * x.numel()  # forward and backward
    assert "outside" not in {access.tensor for access in traced.accesses}


def test_no_kernel_adds_atomically():
    sources = [path.read_text() for path in Path(kernels.__file__).parent.glob("*norm*.py")]
    assert any("tl.store" in source for source in sources) and not any("atomic" in source for source in sources)


# Offsets


@triton.jit
def _offsets_kernel(
    offsets_ptr, tile, group, R, C, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr
):
    offsets, _ = _tile(tile, group, R, C, WIDTH, 1, BLOCK_ROWS, BLOCK_COLUMNS, True)
    place = tl.arange(0, BLOCK_ROWS)[:, None] * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)[None, :]
    tl.store(offsets_ptr + place, offsets)


@pytest.mark.parametrize(("rows", "channels", "width"), [(3, 2**20 + 16, 1024), (2**31 + 5, 1, 1), (1, 3, 2**30)])
def test_offsets_beyond_32_bits(rows, channels, width):
    offsets = torch.empty(2, 4, dtype=torch.int64)
    plan = kernels.Plan(rows, channels, width, 1, *offsets.shape, 1, resident=False, num_warps=4)
    last = plan.tiles - 1, plan.groups - 1
    _offsets_kernel[(1,)](offsets, *last, rows, channels, WIDTH=width, BLOCK_ROWS=2, BLOCK_COLUMNS=4)
    start = (channels - 1) * width
    of_rows, of_columns = _last_block(rows, 2), _last_block(width, 4)
    wanted = [[row * channels * width + start + column for column in of_columns] for row in of_rows]
    assert offsets.tolist() == wanted


@triton.jit
def _addresses_kernel(x_ptr, value_ptr, channel, R, C, WIDTH: tl.constexpr):
    channel = channel + tl.arange(0, 1)
    tl.store(value_ptr + tl.arange(0, 1), _origin(x_ptr, channel, channel < C, R, C, WIDTH, True))


@pytest.mark.parametrize("matrix", [(1, 4, 2**30), (5, 2**16, 2**15)], ids=str)
def test_the_origin_of_the_last_channel_lies_beyond_32_bits(matrix):
    rows, channels, width = matrix
    seen = trace(
        lambda: _addresses_kernel[(1,)](torch.zeros(1), torch.empty(1), channels - 1, rows, channels, WIDTH=width)
    )
    start = (channels - 1) * width
    places = [(0, width // 4), (rows // 2, width // 2), (rows - 1, 3 * width // 4)]
    wanted = [row * channels * width + start + position for row, position in places]
    assert [access.offsets.item() for access in seen.of(tensor="x").accesses] == wanted


def _last_block(size: int, block: int) -> range:
    start = (size - 1) // block * block
    return range(start, start + block)
