"""Layer norm and RMS norm by kernels, in Triton's interpreter: the table of all implementations, and all ways to cut rows."""

import math
from dataclasses import replace

import pytest
import torch
import triton
import triton.language as tl
from cases import CASES, as_tensor, assert_matches, textbook

from bncourse.kernels import row_norm
from bncourse.kernels.trace import trace

NORMS = ("layer_norm", "rms_norm")
BOTH = pytest.mark.parametrize("norm", NORMS)


@pytest.fixture(autouse=True)
def fresh_memory_holds_nan():
    """What a kernel leaves unwritten, or reads before it was written, shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def run(norm, x, dy, shape, weight, bias, eps=1e-5):
    """y, dx, dweight, dbias; no dbias in RMS norm."""
    if norm == "rms_norm":
        y, inv_rms = row_norm.rms_norm_forward(x, shape, weight, eps=eps)
        return y, *row_norm.rms_norm_backward(dy, x, weight, inv_rms)
    y, mean, inv_std = row_norm.layer_norm_forward(x, shape, weight, bias, eps=eps)
    return y, *row_norm.layer_norm_backward(dy, x, weight, mean, inv_std)


# The table


def in_float32(case):
    """The kernels know no float64."""
    param_dtype = None if case.dtype == "float64" else case.param_dtype
    return replace(case, dtype="float32" if case.dtype == "float64" else case.dtype, param_dtype=param_dtype)


# Squares of 1e30 are no float32 numbers, and in those the kernels compute, as PyTorch does on a GPU.
TABLE = [in_float32(case) for case in CASES if case.op in NORMS and case.scale < 1e30]


def check(case):
    x, dy, weight, bias, *_ = map(as_tensor, case.arrays())
    y, dx, dweight, *dbias = run(case.op, x, dy, case.normalized_shape, weight, bias, case.eps)
    results = {
        "y": y,
        "dx": dx,
        "dweight": None if weight is None else dweight,
        "dbias": None if bias is None else dbias[0].to(bias.dtype),
    }
    assert_matches(case, **{name: None if r is None else r.numpy() for name, r in results.items()})


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_values_and_gradients_match_the_textbook(case):
    check(case)


def few_processors(monkeypatch, number):
    """So that there are more rows than programs, and programs take several rows at a time."""
    monkeypatch.setattr(row_norm, "multiprocessors", lambda device: number)


def in_chunks(monkeypatch, columns):
    """So that short rows are computed as long ones are."""
    monkeypatch.setattr(row_norm, "WHOLE", 0)
    monkeypatch.setattr(row_norm, "CHUNK_BYTES", 4 * columns)


# How rows are cut depends neither on their layout in memory, nor on what was float64.
CUT = [case for case in TABLE if case.layout == "contiguous" and not case.name.endswith("float64")]


@pytest.mark.parametrize("case", CUT, ids=lambda case: case.name)
def test_a_single_processor_computes_the_same(case, monkeypatch):
    few_processors(monkeypatch, 1)
    check(case)


@pytest.mark.parametrize("case", CUT, ids=lambda case: case.name)
def test_chunks_of_a_row_give_the_same(case, monkeypatch):
    few_processors(monkeypatch, 1)
    in_chunks(monkeypatch, 4 if math.prod(case.normalized_shape) < 100 else 256)  # no divisors of 6, 7 and 1023
    check(case)


def test_the_table_has_what_kernels_get_wrong():
    lengths = {math.prod(case.normalized_shape) for case in TABLE}
    assert {1, 7, 1023, 1025} <= lengths
    assert any(case.mean == 1e4 for case in TABLE)
    assert {"channels_last", "strided", "broadcast"} <= {case.layout for case in TABLE}
    assert {"float32", "float16"} == {case.dtype for case in TABLE}


# What the table has not: bfloat16, which NumPy does not know, and many rows


def example(norm, shape, dtype=torch.float32, mean=0.5, scale=2.0, seed=0):
    """x, dy, weight and, in layer norm, a bias."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator)

    x, dy = (scale * random(*shape) + mean).to(dtype), (random(*shape) + 0.7).to(dtype)
    weight, bias = random(shape[-1]) + 0.3, random(shape[-1])
    return x, dy, weight, bias if norm == "layer_norm" else None


def exact(norm, x, dy, weight, bias, eps=1e-5):
    """y, dx, dweight and dbias in float64."""
    case = replace(TABLE[0], op=norm, shape=tuple(x.shape), eps=eps)
    inputs = [t.double().requires_grad_() for t in (x, weight, bias) if t is not None]
    y, *_ = textbook(case, *inputs, *(None,) * (5 - len(inputs)))
    return y.detach(), *torch.autograd.grad(y, inputs, dy.double())


def assert_close(got, wanted, *allowed):
    """Each is right up to a share of its largest value."""
    for index, (a, b, share) in enumerate(zip(got, wanted, allowed, strict=True)):
        error, largest = (a.double() - b).abs().max(), b.abs().max()
        assert error <= share * largest, f"result {index} is off by {error:.2g}, of values up to {largest:.2g}"


@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 3, 7), (3, 1023)], ids=str)
@BOTH
def test_bfloat16_is_computed_in_float32(norm, shape):
    x, dy, weight, bias = given = example(norm, shape, torch.bfloat16)
    got = run(norm, x, dy, shape[-1:], weight, bias)
    assert [result.dtype for result in got[:3]] == [torch.bfloat16, torch.bfloat16, torch.float32]
    # The interpreter cuts off what a GPU rounds, so a result may be off by a whole step of 2⁻⁷ of its size; sums and
    # gradients of float32 parameters never see bfloat16.
    assert_close(got, exact(norm, *given), *(2**-7, 2**-7, 2e-6, 2e-6)[: len(got)])


CUTS = {  # of 45 rows: the shape, the processors, what a tile holds
    "a row a program": (7, 132, 4096),
    "two rows a program, and one left over": (7, 22, 4096),
    "16 rows a tile, the last not full": (7, 1, 128),
    "one row a tile, fewer programs than rows": (7, 3, 8),
    "many rows of a single value": (1, 1, 16),
}


@pytest.mark.parametrize("cut", CUTS)
@BOTH
def test_any_cut_gives_the_same_values(norm, cut, monkeypatch):
    columns, processors, tile = CUTS[cut]
    few_processors(monkeypatch, processors)
    monkeypatch.setattr(row_norm, "TILE", tile)
    x, dy, weight, bias = given = example(norm, (45, columns))
    got = run(norm, x, dy, (columns,), weight, bias, eps=0.1)
    # The share of float32's tolerance in the table, and once more for sums of 45 rows.
    assert_close(got, exact(norm, *given, eps=0.1), *[2e-6] * len(got))


def test_the_cuts_differ():
    cuts = {}
    for name, (columns, processors, tile) in CUTS.items():
        block = triton.next_power_of_2(columns)
        row_norm_tile = row_norm._tile(45, columns, processors)["ROWS"] if tile == 4096 else tile // block
        cuts[name] = row_norm_tile
    assert list(cuts.values()) == [1, 2, 16, 1, 16]


@BOTH
def test_the_same_input_gives_the_same_bits(norm, monkeypatch):
    few_processors(monkeypatch, 3)
    x, dy, weight, bias = example(norm, (45, 7))
    first, second = (run(norm, x, dy, (7,), weight, bias) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("columns", [64, 100, 1023])
@pytest.mark.parametrize("scale", [2.0, 0.02])
def test_a_mean_of_1e4_costs_no_digits(scale, columns, chunked, monkeypatch):
    """With little spread, rounding the mean, by up to 5e-4, shows even in the lanes without a value."""
    if chunked:
        in_chunks(monkeypatch, 64)
    x, dy, weight, bias = given = example("layer_norm", (3, columns), mean=1e4, scale=scale)
    got = run("layer_norm", x, dy, (columns,), weight, bias)
    assert_close(got, exact("layer_norm", *given), *[2e-6] * 4)


# What is done with arguments


@BOTH
def test_gradients_without_weight_are_float32_and_those_with_a_half_weight_are_half(norm):
    x, dy, weight, bias = example(norm, (5, 6), torch.float16)
    assert {g.dtype for g in run(norm, x, dy, (6,), None, None)[2:]} == {torch.float32}
    bias = None if bias is None else bias.half()
    assert {g.dtype for g in run(norm, x, dy, (6,), weight.half(), bias)[2:]} == {torch.float16}


def test_statistics_are_those_of_the_rows():
    x, *_ = example("layer_norm", (2, 3, 7), torch.float16)
    _, mean, inv_std = row_norm.layer_norm_forward(x, (7,), None, None, eps=0.5)
    rows = x.double()
    assert mean.dtype == inv_std.dtype == torch.float32
    torch.testing.assert_close(mean.double(), rows.mean(-1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(inv_std.double(), (rows.var(-1, correction=0) + 0.5).rsqrt(), rtol=1e-6, atol=0)
    assert torch.equal(
        row_norm.rms_norm_forward(x, (7,), None)[1], row_norm.rms_norm_forward(x, (7,), None, eps=2**-23)[1]
    )


def test_arguments_stay_as_they_were():
    x, dy, weight, bias = given = example("layer_norm", (5, 6))
    before = [t.clone() for t in given]
    run("layer_norm", x, dy, (6,), weight, bias)
    assert all(torch.equal(a, b) for a, b in zip(before, given, strict=True))


def test_any_normalized_shape_is_a_sequence_of_ints():
    x, *_ = example("layer_norm", (2, 3, 7))
    for shape in ([3, 7], torch.Size([3, 7])):
        assert row_norm.layer_norm_forward(x, shape, None, None, eps=1e-5)[1].shape == (2,)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (2, 0, 5)], ids=str)
@BOTH
def test_nothing_is_launched_for_nothing(norm, shape):
    x = torch.zeros(shape)
    results = []
    traced = trace(lambda: results.extend(run(norm, x, x, shape[-1:], None, None)))
    assert traced.launches == []
    assert [result.shape for result in results[:3]] == [x.shape, x.shape, x.shape[-1:]]
    assert not any(gradient.any() for gradient in results[2:])


# What does not fit

X = torch.zeros(4, 6)
C = torch.ones(6)
ROWS = torch.ones(4)


def forward(x=X, shape=(6,), weight=None, bias=None):
    return row_norm.layer_norm_forward(x, shape, weight, bias, eps=1e-5)


def backward(dy=X, x=X, weight=None, mean=ROWS, inv_std=ROWS):
    return row_norm.layer_norm_backward(dy, x, weight, mean, inv_std)


WRONG = {
    "float64": (lambda: forward(X.double()), "float32, bfloat16 or float16"),
    "normalized_shape": (lambda: forward(shape=(4,)), r"normalized_shape .* \(4, 6\); got \(4,\)"),
    "too many axes": (lambda: forward(shape=(1, 4, 6)), "normalized_shape"),
    "no axes": (lambda: forward(shape=()), "normalized_shape"),
    "weight": (lambda: forward(weight=C[:3]), "expected weight of shape"),
    "bias": (lambda: forward(bias=C[None]), "expected bias of shape"),
    "long row": (
        lambda: forward(torch.zeros(1, 16385), (16385,)),
        "at most 16384 values.*got 16385.*bncourse.functional",
    ),
    "long row in RMS norm": (
        lambda: row_norm.rms_norm_forward(torch.zeros(1, 32769), (32769,), None),
        "at most 32768 values.*got 32769",
    ),
    "dy": (lambda: backward(dy=X[:2]), "expected dy of shape"),
    "dy's dtype": (lambda: backward(dy=X.half()), "expected dy in the dtype of x"),
    "mean": (lambda: backward(mean=ROWS[:3]), "expected mean of shape"),
    "inv_std": (lambda: backward(inv_std=ROWS[:3]), "expected inv_std of shape"),
    "inv_rms": (lambda: row_norm.rms_norm_backward(X, X, None, ROWS[:3]), "expected inv_rms of shape"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_refusal_says_what_was_expected(name):
    call, words = WRONG[name]
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(("centered", "longest"), [(True, 16384), (False, 32768)])
def test_what_fits_is_what_is_accepted(centered, longest):
    assert row_norm.fits(longest, centered=centered) and not row_norm.fits(longest + 1, centered=centered)


# What a kernel does


@BOTH
def test_every_value_is_read_once_and_written_once(norm, monkeypatch):
    few_processors(monkeypatch, 3)
    x, dy, weight, bias = example(norm, (45, 7))
    traced = trace(lambda: run(norm, x, dy, (7,), weight, bias))
    assert traced.launches == ["_row_norm_forward_kernel", "_row_norm_backward_kernel", "_row_norm_sum_kernel"]
    # x once in the forward and once in the backward pass
    assert [traced.elements(name, "load") for name in ("x", "dy")] == [2 * x.numel(), x.numel()]
    assert [traced.elements(name, "store") for name in ("y", "dx")] == [x.numel()] * 2
    assert traced.elements("partial", "store") == (2 if norm == "layer_norm" else 1) * 6 * 7  # of 6 programs


@BOTH
def test_long_rows_are_read_twice_in_the_backward_pass(norm, monkeypatch):
    in_chunks(monkeypatch, 4)
    x, dy, weight, bias = example(norm, (5, 7))
    traced = trace(lambda: run(norm, x, dy, (7,), weight, bias))
    assert [traced.elements(name, "load") for name in ("x", "dy")] == [3 * x.numel(), 2 * x.numel()]


@BOTH
def test_the_longest_rows_are_launched_in_chunks_that_cover_them(norm):
    """Their size depends on the dtype, so that a thread loads 16 bytes."""
    for dtype in (torch.float32, torch.bfloat16):
        columns = 10001
        x, dy, weight, bias = given = example(norm, (1, columns), dtype)
        got = run(norm, x, dy, (columns,), weight, bias)
        allowed = 2e-6 if dtype == torch.float32 else 2**-7
        assert_close(got, exact(norm, *given), *[allowed] * len(got))


# Offsets


@triton.jit
def _starts_kernel(starts_ptr, row, COLUMNS: tl.constexpr):
    tl.store(starts_ptr + tl.arange(0, 2), row_norm._start(row + tl.arange(0, 2), COLUMNS))


def test_rows_may_start_beyond_32_bits():
    starts = torch.empty(2, dtype=torch.int64)
    _starts_kernel[(1,)](starts, 2**31 - 2, COLUMNS=16384)
    assert starts.tolist() == [(2**31 - 2) * 16384, (2**31 - 1) * 16384]
