"""One table of cases for every implementation of the norms: NumPy, PyTorch, blocked, Triton.

A case makes its own random arrays and knows what must come out, from a float64 textbook
implementation that shares no code with the package. To add a case, add a line to ``CASES``.
A test module runs an implementation on ``case.arrays()`` and hands what came out to
:func:`assert_matches`.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

# The largest error allowed, as a share of the largest term of the result (see `_allowed`).
TOLERANCE = {
    # Two roundings of 1.1e-16 per operation and sums of up to a few thousand terms. Any mistake in
    # a formula is far larger: ddof=1 for 4096 values changes y by 1.2e-4.
    "float64": 1e-13,
    # One rounding is 6e-8; a result has about five of them, and its sums add as much again if they
    # are accumulated in float32 by blocks. A one-pass variance is wrong by 1 at mean 1e4.
    "float32": 1e-6,
    # Only the result is rounded to float16, once, by at most 4.9e-4. Computing in float16 rounds
    # several times, and its sums of squares overflow.
    "float16": 5.5e-4,
}

LAYOUTS = ("contiguous", "channels_last", "strided", "reversed", "fortran", "broadcast")


class Arrays(NamedTuple):
    x: np.ndarray
    dy: np.ndarray
    weight: np.ndarray | None
    bias: np.ndarray | None
    running_mean: np.ndarray | None
    running_var: np.ndarray | None


class Expected(NamedTuple):
    """What must come out, in float64; None where nothing was given."""

    y: np.ndarray
    dx: np.ndarray
    dweight: np.ndarray | None
    dbias: np.ndarray | None
    running_mean: np.ndarray | None
    running_var: np.ndarray | None


@dataclass(frozen=True)
class Case:
    name: str
    op: str  # batch_norm, layer_norm, instance_norm, group_norm or rms_norm
    shape: tuple[int, ...]
    dtype: str = "float32"
    param_dtype: str | None = None  # of weight, bias and running statistics; None: as dtype
    training: bool = True  # read by batch_norm only
    mean: float = 0.5
    scale: float = 2.0
    constant_channel: bool = False  # channel 0 holds one value
    eps: float | None = 1e-5
    momentum: float = 0.1
    weight: bool = True
    bias: bool = True
    running: bool = True
    num_groups: int = 2
    trailing: int = 1  # how many axes layer_norm and rms_norm normalize
    layout: str = "contiguous"
    seed: int = 0

    @property
    def normalized_shape(self) -> tuple[int, ...]:
        return self.shape[-self.trailing :]

    @property
    def param_shape(self) -> tuple[int, ...]:
        return self.normalized_shape if self.op in ("layer_norm", "rms_norm") else self.shape[1:2]

    def arrays(self) -> Arrays:
        """Fresh arrays, the same on every call."""
        rng = np.random.default_rng([self.seed, *self.name.encode()])
        x = self.mean + self.scale * rng.standard_normal(self.shape)
        if self.constant_channel:
            x[:, 0] = 0.3
        # Without `+ 0.7`, a gradient that forgets mean(dy) would be nearly right.
        dy = rng.standard_normal(self.shape) + 0.7
        weight = rng.standard_normal(self.param_shape) + 0.3
        bias = rng.standard_normal(self.param_shape)
        running_mean = self.mean + self.scale * rng.standard_normal(self.param_shape)
        running_var = self.scale**2 * rng.uniform(0.5, 2, self.param_shape)
        running = self.running and self.op == "batch_norm"
        params = (
            (weight, self.weight),
            (bias, self.bias and self.op != "rms_norm"),
            (running_mean, running),
            (running_var, running),
        )
        return Arrays(
            lay_out(x.astype(self.dtype), self.layout),
            lay_out(dy.astype(self.dtype), self.layout),
            *(self._param(param) if given else None for param, given in params),
        )

    def _param(self, param: np.ndarray) -> np.ndarray:
        layout = self.layout if self.layout in ("strided", "reversed") else "contiguous"
        return lay_out(param.astype(self.param_dtype or self.dtype), layout)

    def expected(self) -> Expected:
        return _expected(self)


def lay_out(array: np.ndarray, layout: str) -> np.ndarray:
    """``array`` with its values elsewhere in memory; "broadcast" repeats its first sample."""
    if layout == "channels_last":
        return np.moveaxis(np.moveaxis(array, 1, -1).copy(), -1, 1)
    if layout == "strided":  # what lies between is NaN, so that reading it shows
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if layout == "reversed":
        return np.flip(np.flip(array).copy())
    if layout == "fortran":
        return np.asfortranarray(array)
    if layout == "broadcast":
        return np.broadcast_to(array[:1], array.shape)
    return array


def as_tensor(array):
    """A tensor in the memory order of ``array``; PyTorch has no negative strides, so reversed ones are copied."""
    import torch

    if array is None:
        return None
    if 0 in array.strides and array.size > 0 and array.ndim > 1:  # repeated, and so not writeable
        return torch.from_numpy(array[:1].copy()).expand(array.shape)
    return torch.from_numpy(array.copy() if any(stride < 0 for stride in array.strides) else array)


# The oracle


def textbook(case: Case, x, weight, bias, running_mean, running_var):
    """y, and the mean and the biased variance that made it.

    Takes float64 NumPy arrays, or PyTorch tensors, through which autograd then finds the gradients.
    """
    seen, axes, affine = _geometry(case)
    x = x.reshape(seen)
    if case.op == "batch_norm" and not case.training:
        mean, var = running_mean.reshape(affine), running_var.reshape(affine)
    else:
        count = _count(case)
        mean = 0 if case.op == "rms_norm" else x.sum(axis=axes, keepdims=True) / count
        var = ((x - mean) ** 2).sum(axis=axes, keepdims=True) / count
    y = ((x - mean) / (var + _eps(case)) ** 0.5).reshape(case.shape)
    if weight is not None:
        y = y * weight.reshape(affine)
    if bias is not None:
        y = y + bias.reshape(affine)
    return y, mean, var


def _geometry(case: Case) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The shape in which x is seen, the axes that are averaged, the shape of weight and bias against x."""
    rank = len(case.shape)
    if case.op in ("layer_norm", "rms_norm"):
        return case.shape, tuple(range(rank - case.trailing, rank)), case.normalized_shape
    samples, channels, *positions = case.shape
    affine = (1, channels, *(1 for _ in positions))
    if case.op == "group_norm":
        seen = (samples, case.num_groups, channels // case.num_groups, *positions)
        return seen, tuple(range(2, rank + 1)), affine
    batch = (0,) if case.op == "batch_norm" else ()
    return case.shape, (*batch, *range(2, rank)), affine


def _count(case: Case) -> int:
    """How many values share a mean; at least 1, so that empty sums can be divided."""
    seen, axes, _ = _geometry(case)
    return max(1, math.prod(seen[axis] for axis in axes))


def _eps(case: Case) -> float:
    if case.eps is not None:
        return case.eps
    # PyTorch computes float16 in float32, and takes float32's machine epsilon.
    return float(np.finfo("float64" if case.dtype == "float64" else "float32").eps)


@cache
def _expected(case: Case) -> Expected:
    x, dy, *params = (None if array is None else array.astype(np.float64) for array in case.arrays())
    y, mean, var = textbook(case, x, *params)
    *_, running_mean, running_var = params
    if running_mean is not None and case.training and x.size > 0:
        unbiased_var = var * _count(case) / (_count(case) - 1)
        running_mean = (1 - case.momentum) * running_mean + case.momentum * mean.ravel()
        running_var = (1 - case.momentum) * running_var + case.momentum * unbiased_var.ravel()
    return Expected(y, *_gradients(case, x, dy, *params), running_mean, running_var)


def _gradients(case: Case, x, dy, weight, bias, running_mean, running_var) -> list[np.ndarray | None]:
    """dx, dweight and dbias by PyTorch's autograd in float64."""
    import torch

    x, dy, weight, bias, *running = (
        None if a is None else torch.tensor(a) for a in (x, dy, weight, bias, running_mean, running_var)
    )
    wanted = [tensor.requires_grad_() for tensor in (x, weight, bias) if tensor is not None]
    y, *_ = textbook(case, x, weight, bias, *running)
    found = iter(torch.autograd.grad(y, wanted, dy))
    return [None if tensor is None else next(found).numpy() for tensor in (x, weight, bias)]


# Comparing


def assert_matches(case: Case, **results: np.ndarray | None) -> None:
    """Each result (y, dx, dweight, ...) has the dtype, the shape and the values that the case expects."""
    for name, got in results.items():
        wanted = getattr(case.expected(), name)
        assert (got is None) == (wanted is None), f"{name} is {got}, expected {wanted}"
        if got is None:
            continue
        assert got.dtype == (case.dtype if name in ("y", "dx") else case.param_dtype or case.dtype), name
        assert got.shape == wanted.shape, name
        error = np.max(np.abs(got.astype(np.float64) - wanted), initial=0)
        allowed = _allowed(case, name, got.dtype.name)
        assert error <= allowed, f"{name} is off by {error:.2g}, allowed are {allowed:.2g}"


def _allowed(case: Case, name: str, dtype: str) -> float:
    """The tolerance times the largest term of which the result is made; 0 where every term is 0.

    y and the running statistics are measured by themselves. The gradients may cancel (dx for two
    values a channel almost completely), but rounding errors are in proportion to what cancels: for
    dx, terms of size γ · dy / σ; for dweight, whose x̂ are all shifted by the rounding of one mean,
    and for dbias, the sum of |dy|.
    """
    wanted = getattr(case.expected(), name)
    largest = np.max(np.abs(wanted), initial=0)
    if name == "dx":
        largest = max(largest, np.max(np.abs(_direct_path(case)), initial=0))
    if name in ("dweight", "dbias") and wanted.size > 0:
        largest = max(largest, np.sum(np.abs(case.arrays().dy.astype(np.float64))) / wanted.size)
    # Parameters of a wider dtype than x do not make their gradients better: x̂ has the accuracy of x.
    computed_in = "float32" if case.dtype == "float16" else case.dtype
    return max(TOLERANCE[dtype], TOLERANCE[computed_in]) * largest


@cache
def _direct_path(case: Case) -> np.ndarray:
    """γ · dy / σ, the gradient of y = γ · (x − μ) / σ + β with μ and σ held fixed."""
    x, dy, *params = (None if array is None else array.astype(np.float64) for array in case.arrays())
    seen, _, affine = _geometry(case)
    _, _, var = textbook(case, x, *params)
    weight = 1 if params[0] is None else params[0].reshape(affine)
    return (weight * dy).reshape(seen) / np.sqrt(var + _eps(case))


# The table

SHAPES = {
    "batch_norm": [(5, 3), (6, 3, 7), (2, 3, 4, 5), (2, 3, 2, 3, 4)],
    "layer_norm": [(6,), (5, 6), (2, 3, 7), (2, 3, 4, 5)],
    "instance_norm": [(3, 4, 7), (2, 3, 4, 5), (2, 3, 2, 3, 4)],
    "group_norm": [(3, 6), (3, 6, 5), (2, 6, 4, 5), (2, 6, 2, 3, 4)],
    "rms_norm": [(6,), (5, 6), (2, 3, 7), (2, 3, 4, 5)],
}


def _label(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


CASES = [
    # Every op in its usual shapes and every dtype, with every parameter; batch norm in evaluation, too.
    *(
        Case(f"{op}-{_label(shape)}-{dtype}", op, shape, dtype)
        for op, shapes in SHAPES.items()
        for shape in shapes
        for dtype in TOLERANCE
    ),
    *(
        Case(f"batch_norm-evaluation-{_label(shape)}-{dtype}", "batch_norm", shape, dtype, training=False)
        for shape in SHAPES["batch_norm"]
        for dtype in TOLERANCE
    ),
    # Every op in every memory layout.
    *(
        Case(f"{op}-{layout}", op, (4, 6, 5, 3), layout=layout, trailing=3)
        for op in SHAPES
        for layout in LAYOUTS
        if layout != "contiguous"
    ),
    *(
        Case(f"batch_norm-evaluation-{layout}", "batch_norm", (4, 6, 5, 3), layout=layout, training=False)
        for layout in LAYOUTS
        if layout != "contiguous"
    ),
    # An eps that shows: outside the root, left out, replaced by the default, or forgotten in the backward.
    *(Case(f"{op}-large-eps", op, (4, 6, 5), "float64", eps=0.5) for op in SHAPES),
    *(Case(f"{op}-no-eps", op, (4, 6, 5), "float64", eps=0.0) for op in SHAPES),
    Case("batch_norm-evaluation-large-eps", "batch_norm", (4, 6, 5), "float64", eps=0.5, training=False),
    *(Case(f"rms_norm-default-eps-{d}", "rms_norm", (5, 6), d, eps=None, scale=1e-3, mean=0.0) for d in TOLERANCE),
    # Parameters left out.
    *(Case(f"{op}-no-weight", op, (4, 6, 5), weight=False) for op in SHAPES),
    *(Case(f"{op}-no-bias", op, (4, 6, 5), bias=False) for op in SHAPES),
    *(Case(f"{op}-plain", op, (4, 6, 5), weight=False, bias=False, running=False) for op in SHAPES),
    Case("batch_norm-evaluation-plain", "batch_norm", (4, 6, 5), weight=False, bias=False, training=False),
    # Parameters of another dtype than x.
    *(Case(f"{op}-float16-params-float32", op, (4, 6, 5), "float16", "float32") for op in SHAPES),
    *(Case(f"{op}-float32-params-float64", op, (4, 6, 5), "float32", "float64") for op in SHAPES),
    # Momentum.
    Case("batch_norm-momentum-0", "batch_norm", (5, 3), momentum=0.0),
    Case("batch_norm-momentum-0.3", "batch_norm", (5, 3), "float64", momentum=0.3),
    Case("batch_norm-momentum-1", "batch_norm", (5, 3), momentum=1.0),
    # Groups and trailing axes.
    *(Case(f"group_norm-groups-{g}", "group_norm", (3, 6, 4, 5), "float64", num_groups=g) for g in (1, 2, 3, 6)),
    *(Case(f"layer_norm-trailing-{n}", "layer_norm", (3, 4, 2, 5), "float64", trailing=n) for n in (1, 2, 3, 4)),
    *(Case(f"rms_norm-trailing-{n}", "rms_norm", (3, 4, 2, 5), "float64", trailing=n) for n in (1, 2, 3, 4)),
    # Channels, samples and positions of equal number: a wrong axis raises no error.
    *(Case(f"{op}-square", op, (4, 4, 4, 4), "float64") for op in SHAPES),
    # Awkward sizes: one, odd, primes, one more or less than a power of two, more than 1024 in a run.
    Case("batch_norm-one-sample", "batch_norm", (1, 3, 7)),
    Case("batch_norm-one-channel", "batch_norm", (7, 1, 3)),
    Case("batch_norm-two-values", "batch_norm", (2, 5), "float64"),
    Case("batch_norm-7x49", "batch_norm", (7, 49)),
    Case("batch_norm-1023x3", "batch_norm", (1023, 3)),
    Case("batch_norm-3x7x1023", "batch_norm", (3, 7, 1023)),
    Case("batch_norm-2x3x33x33", "batch_norm", (2, 3, 33, 33)),
    Case("batch_norm-7x1x7x7", "batch_norm", (7, 1, 7, 7)),
    Case("batch_norm-1023x1x1x1", "batch_norm", (1023, 1, 1, 1)),
    Case("layer_norm-one-feature", "layer_norm", (7, 1)),
    Case("layer_norm-49x1023", "layer_norm", (49, 1023)),
    Case("layer_norm-1x1025", "layer_norm", (1, 1025)),
    Case("instance_norm-1x1x1023", "instance_norm", (1, 1, 1023)),
    Case("instance_norm-3x7x7x7", "instance_norm", (3, 7, 7, 7)),
    Case("group_norm-one-value-per-group", "group_norm", (3, 4), num_groups=4),
    Case("group_norm-3x49x7", "group_norm", (3, 49, 7), num_groups=7),
    Case("group_norm-1x2x1023", "group_norm", (1, 2, 1023), num_groups=1),
    Case("rms_norm-one-feature", "rms_norm", (7, 1)),
    Case("rms_norm-49x1023", "rms_norm", (49, 1023)),
    # Nothing to do: no samples, no positions, no channels.
    Case("batch_norm-no-samples", "batch_norm", (0, 3)),
    Case("batch_norm-no-images", "batch_norm", (0, 3, 4, 4)),
    Case("batch_norm-no-positions", "batch_norm", (4, 3, 0)),
    Case("batch_norm-no-channels", "batch_norm", (4, 0, 5)),
    Case("batch_norm-evaluation-no-samples", "batch_norm", (0, 3), training=False),
    Case("layer_norm-no-samples", "layer_norm", (0, 5)),
    Case("layer_norm-no-features", "layer_norm", (5, 0)),
    Case("instance_norm-no-samples", "instance_norm", (0, 3, 4)),
    Case("group_norm-no-samples", "group_norm", (0, 4, 3)),
    Case("rms_norm-no-samples", "rms_norm", (0, 5)),
    # One value per channel, which evaluation can normalize.
    Case("batch_norm-evaluation-one-value", "batch_norm", (1, 3), training=False),
    Case("batch_norm-evaluation-one-pixel", "batch_norm", (1, 3, 1, 1), training=False),
    # A channel without spread: y is the bias, not NaN.
    Case("batch_norm-constant-channel", "batch_norm", (8, 3, 5), constant_channel=True),
    Case("instance_norm-constant-channel", "instance_norm", (4, 3, 5), constant_channel=True),
    # A mean that dwarfs the spread, little spread, huge and tiny values.
    *(Case(f"{op}-mean-1e4", op, (6, 4, 9), mean=1e4, scale=1.0) for op in SHAPES),
    *(Case(f"{op}-scale-1e-3", op, (6, 4, 9), mean=0.0, scale=1e-3) for op in SHAPES),
    *(Case(f"{op}-huge", op, (6, 4, 9), mean=0.0, scale=1e30, running=False) for op in SHAPES),
    *(
        Case(f"{op}-float16-squares-overflow", op, (6, 4, 9), "float16", mean=0.0, scale=2e3, running=False)
        for op in SHAPES
    ),
    Case("batch_norm-huge-float64", "batch_norm", (6, 4, 9), "float64", mean=0.0, scale=1e30),
    Case("batch_norm-evaluation-mean-1e4", "batch_norm", (6, 4, 9), mean=1e4, scale=1.0, training=False),
    Case(
        "batch_norm-evaluation-float64-mean-1e4", "batch_norm", (6, 4), param_dtype="float64", training=False, mean=1e4
    ),
    Case("batch_norm-mean-1e4-4096-values", "batch_norm", (4096, 3), mean=1e4, scale=1.0),
    Case("batch_norm-mean-1e4-scale-1e-2", "batch_norm", (64, 3, 4, 4), mean=1e4, scale=1e-2),
]
