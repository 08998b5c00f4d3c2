"""Right answers of every shape to the exercises, as learners may write them: a check has to accept all of them.

``RIGHT[exercise][name]`` is a function; the name says what is special about its code. To add an
answer, write it below its exercise and put ``@right(name, exercise)`` above it. The answers have no
annotations, as in the notebooks.
"""

import copy
import functools
import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import torch
import triton
import triton.language as tl

from bncourse.checks import EXERCISES

RIGHT: dict[str, dict[str, Callable]] = defaultdict(dict)


def right(name: str, *exercises: str) -> Callable[[Callable], Callable]:
    """Enter the function below as an answer to these exercises."""

    def enter(function: Callable) -> Callable:
        for exercise in exercises:
            assert name not in RIGHT[exercise], f"{exercise} has two answers named {name!r}"
            RIGHT[exercise][name] = function
        return function

    return enter


# Adapters


def in_float32(function: Callable) -> Callable:
    """The function with all arrays in float32, on the way in and on the way out; it takes keywords alone."""

    def narrow(value):
        numbers = isinstance(value, np.ndarray) and value.dtype != bool
        return value.astype(np.float32) if numbers else value

    def call(**inputs):
        result = function(**{name: narrow(value) for name, value in inputs.items()})
        if isinstance(result, dict):
            return {name: narrow(value) for name, value in result.items()}
        return tuple(map(narrow, result)) if isinstance(result, tuple | list) else narrow(result)

    return call


def in_a_list(function: Callable) -> Callable:
    """The function with its results in a list instead of a tuple."""
    return lambda **inputs: list(function(**inputs))


# Helpers


def count(x):
    """How many values of x share a mean."""
    return x.size // x.shape[1]


def across(values, x):
    """Values of shape (C,) in a shape that lines up with axis 1 of x."""
    return np.reshape(values, (-1, *[1] * (x.ndim - 2)))


def as_table(x):
    """(N, C, *) as a table: a column for each channel, a row for each position of each sample."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def as_before(table, x):
    """The inverse of as_table."""
    return np.moveaxis(table.reshape(np.moveaxis(x, 1, -1).shape), -1, 1)


def merged(rows):
    """Count, mean and sum of squared distances of a table, from those of its two halves."""
    if len(rows) == 1:
        return 1, rows[0], np.zeros_like(rows[0])
    (m, mean_a, m2_a), (n, mean_b, m2_b) = merged(rows[: len(rows) // 2]), merged(rows[len(rows) // 2 :])
    delta = mean_b - mean_a
    return m + n, mean_a + delta * n / (m + n), m2_a + m2_b + delta**2 * m * n / (m + n)


def welford(rows):
    """The same, one row after the other."""
    mean, m2 = np.zeros_like(rows[0]), np.zeros_like(rows[0])
    for n, row in enumerate(rows, 1):
        delta = row - mean
        mean = mean + delta / n
        m2 = m2 + delta * (row - mean)
    return len(rows), mean, m2


# normalize_channels


@right("compact", "normalize_channels")
def normalize(x, eps):
    axes = (0, *range(2, x.ndim))
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


@right("one channel after the other", "normalize_channels")
def normalize_in_a_loop(x, eps):
    x_hat = np.empty_like(x)
    for c in range(x.shape[1]):
        x_hat[:, c] = (x[:, c] - np.mean(x[:, c])) / np.sqrt(np.var(x[:, c]) + eps)
    return x_hat


@right("einsum", "normalize_channels")
def normalize_by_einsum(x, eps):
    rows = x.reshape(len(x), x.shape[1], -1)
    u = rows - np.einsum("ncl->c", rows)[:, None] / count(x)
    var = np.einsum("ncl,ncl->c", u, u) / count(x)
    return np.einsum("ncl,c->ncl", u, (var + eps) ** -0.5).reshape(x.shape)


@right("reshaped to (C, N*H*W) after a transpose", "normalize_channels")
def normalize_rows(x, eps):
    channels_first = x.swapaxes(0, 1)
    rows = channels_first.reshape(x.shape[1], -1).T
    x_hat = (rows - rows.mean(0)) / np.hypot(rows.std(0), math.sqrt(eps))
    return x_hat.T.reshape(channels_first.shape).swapaxes(0, 1)


@right("welford", "normalize_channels")
def normalize_by_welford(x, eps):
    m, mean, m2 = welford(as_table(x))
    return (x - across(mean, x)) / np.sqrt(across(m2 / m, x) + eps)


@right("recursion over halves", "normalize_channels")
def normalize_by_halves(x, eps):
    m, mean, m2 = merged(as_table(x))
    return (x - across(mean, x)) * across(1 / np.sqrt(m2 / m + eps), x)


@right("residuals of least squares", "normalize_channels")
def normalize_residuals(x, eps):
    table = as_table(x)
    ones = np.ones((len(table), 1))
    u = table - ones @ np.linalg.lstsq(ones, table)[0]
    return as_before(u / np.sqrt(np.mean(u**2, axis=0) + eps), x)


@right("pairwise differences", "normalize_channels")
def normalize_by_pairs(x, eps):
    table = as_table(x)
    differences = table[:, None] - table
    var = np.mean(differences**2, axis=(0, 1)) / 2
    return as_before(differences.mean(1) / np.sqrt(var + eps), x)


@right("eps as one more value", "normalize_channels")
def normalize_with_a_row_for_eps(x, eps):
    u = as_table(x) - as_table(x).mean(0)
    longer = np.vstack([u, np.full(x.shape[1], math.sqrt(count(x) * eps))])
    return as_before(u / np.linalg.norm(longer, axis=0) * math.sqrt(count(x)), x)


@right("torch's instance norm of one long sample", "normalize_channels")
def normalize_by_instance_norm(x, eps):
    import torch

    channels_first = torch.tensor(x).transpose(0, 1)
    x_hat = torch.nn.functional.instance_norm(channels_first.flatten(1)[None], eps=eps)
    return x_hat.reshape(channels_first.shape).transpose(0, 1).numpy()


# batch_norm_forward


@right("staged", "batch_norm_forward")
def forward(x, weight, bias, eps):
    n = x.shape[0]
    mean = np.sum(x, axis=0) / n
    centered = x - mean
    var = np.sum(centered**2, axis=0) / n
    std = np.sqrt(var + eps)
    x_hat = centered / std
    return weight * x_hat + bias


@right("plain numbers", "batch_norm_forward")
def forward_of_numbers(x, weight, bias, eps):
    columns = []
    for values, gamma, beta in zip(x.T.tolist(), weight.tolist(), bias.tolist(), strict=True):
        mean = math.fsum(values) / len(values)
        var = math.fsum((value - mean) ** 2 for value in values) / len(values)
        columns.append([gamma * (value - mean) / math.sqrt(var + eps) + beta for value in values])
    return np.array(columns).T


@right("centring matrix", "batch_norm_forward")
def forward_by_a_matrix(x, weight, bias, eps):
    n = len(x)
    u = (np.eye(n) - np.full((n, n), 1 / n)) @ x
    var = np.diag(u.T @ u) / n
    return u @ np.diag(weight / np.sqrt(var + eps)) + bias


@right("scale and shift", "batch_norm_forward")
def forward_by_scale_and_shift(x, weight, bias, eps):
    scale = weight / np.sqrt(np.var(x, axis=0) + eps)
    return scale * x + (bias - scale * np.mean(x, axis=0))


@right("shifted variance", "batch_norm_forward")
def forward_with_shifted_variance(x, weight, bias, eps):
    shifted = x - x[0]  # the first sample is close enough to the mean
    mean = shifted.mean(0)
    var = (shifted**2).mean(0) - mean**2
    return weight * (shifted - mean) / np.sqrt(var + eps) + bias


@right("torch's layer norm of the transposed table", "batch_norm_forward")
def forward_by_layer_norm(x, weight, bias, eps):
    import torch

    x_hat = torch.nn.functional.layer_norm(torch.tensor(x.T), (len(x),), eps=eps)
    return weight * x_hat.numpy().T + bias


@right("torch's layer", "batch_norm_forward")
def forward_by_a_layer(x, weight, bias, eps):
    import torch

    x, weight, bias = map(torch.tensor, (x, weight, bias))
    layer = torch.nn.BatchNorm1d(x.shape[1], eps, dtype=x.dtype)
    layer.load_state_dict({"weight": weight, "bias": bias}, strict=False)
    return layer(x).detach().numpy()


class Normalizer:
    """Statistics first, then their use."""

    def fit(self, x):
        self.mean, self.var = x.mean(0), x.var(0)
        return self

    def transform(self, x, eps):
        return (x - self.mean) / np.sqrt(self.var + eps)

    def forward(self, x, weight, bias, eps):
        return self.fit(x).transform(x, eps) * weight + bias


right("method of an object", "batch_norm_forward")(Normalizer().forward)


def batch_norm(x, weight, bias, eps, axes):
    """For any shape; the axes say which values share a mean."""
    x_hat = (x - x.mean(axes, keepdims=True)) / (x.var(axes, keepdims=True) + eps) ** 0.5
    return across(weight, x) * x_hat + across(bias, x)


right("functools.partial", "batch_norm_forward")(functools.partial(batch_norm, axes=0))


@right("keyword only", "batch_norm_forward")
def forward_of_keywords(*, eps, weight, bias, x):
    return batch_norm(x, weight, bias, eps, 0)


@right("other names", "batch_norm_forward")
def forward_of_greek(data, gamma, beta, epsilon):
    return batch_norm(data, gamma, beta, epsilon, 0)


# batch_norm_forward_images


right("functools.partial", "batch_norm_forward_images")(functools.partial(batch_norm, axes=(0, 2, 3)))


@right("as a table", "batch_norm_forward_images")
def forward_images_as_a_table(x, weight, bias, eps):
    return as_before(forward(as_table(x), weight, bias, eps), x)


@right("in place on a copy", "batch_norm_forward_images")
def forward_images_in_place(x, weight, bias, eps):
    y = x.copy()
    y -= y.mean((0, 2, 3), keepdims=True)
    y /= np.sqrt((y * y).mean((0, 2, 3), keepdims=True) + eps)
    y *= weight[:, None, None]
    y += bias[None, :, None, None]
    return y


@right("loops over everything", "batch_norm_forward_images")
def forward_images_in_loops(x, weight, bias, eps):
    n, channels, h, w = x.shape
    y = np.zeros(x.shape)
    for c in range(channels):
        places = [(i, c, j, k) for i in range(n) for j in range(h) for k in range(w)]
        mean = sum(float(x[place]) for place in places) / len(places)
        var = sum((float(x[place]) - mean) ** 2 for place in places) / len(places)
        for place in places:
            y[place] = weight[c] * (x[place] - mean) / math.sqrt(var + eps) + bias[c]
    return y


@right("einsum", "batch_norm_forward_images")
def forward_images_by_einsum(x, weight, bias, eps):
    u = x - np.einsum("nchw->c", x)[:, None, None] / count(x)
    var = np.einsum("nchw,nchw->c", u, u) / count(x)
    return np.einsum("nchw,c->nchw", u, weight / np.sqrt(var + eps)) + bias.reshape(1, -1, 1, 1)


@right("variance within images and between them", "batch_norm_forward_images")
def forward_images_by_total_variance(x, weight, bias, eps):
    means, variances = x.mean((2, 3)), x.var((2, 3))
    mean, var = means.mean(0), variances.mean(0) + means.var(0)
    return across(weight / np.sqrt(var + eps), x) * (x - across(mean, x)) + across(bias, x)


@right("sums by bincount", "batch_norm_forward_images")
def forward_images_by_bincount(x, weight, bias, eps):
    channel = np.broadcast_to(np.arange(x.shape[1])[:, None, None], x.shape).ravel()
    u = x.ravel() - (np.bincount(channel, x.ravel()) / count(x))[channel]
    inv_std = 1 / np.sqrt(np.bincount(channel, u * u) / count(x) + eps)
    return ((weight * inv_std)[channel] * u + bias[channel]).reshape(x.shape)


@right("channels last", "batch_norm_forward_images")
def forward_images_channels_last(x, weight, bias, eps):
    last = x.transpose(0, 2, 3, 1)
    u = last - last.mean((0, 1, 2))
    return (weight * u / np.sqrt(np.square(u).mean((0, 1, 2)) + eps) + bias).transpose(0, 3, 1, 2)


@right("torch's function", "batch_norm_forward_images")
def forward_images_by_torch(x, weight, bias, eps):
    import torch

    x, weight, bias = map(torch.tensor, (x, weight, bias))
    return torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True, eps=eps).numpy()


@right("parameters in another order", "batch_norm_forward_images")
def forward_images_reordered(bias, weight, eps, x):
    return batch_norm(x, weight, bias, eps, (0, 2, 3))


# stable_variance


@right("np.var", "stable_variance")
def variance(x):
    return np.var(x, axis=0)


@right("plain numbers", "stable_variance")
def variance_of_numbers(x):
    result = []
    for values in x.T.tolist():
        mean = math.fsum(values) / len(values)
        result.append(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return np.array(result)


@right("welford", "stable_variance")
def variance_by_welford(x):
    n, _, m2 = welford(x)
    return m2 / n


@right("recursion over halves", "stable_variance")
def variance_by_halves(x):
    n, _, m2 = merged(x)
    return m2 / n


@right("shifted by the first row", "stable_variance")
def variance_of_shifted(x):
    shifted = x - x[0]
    return (shifted**2).mean(0) - shifted.mean(0) ** 2


@right("one pass in float64", "stable_variance")
def variance_in_float64(x):
    # The squares of float32 values are exact in float64, and so is most of what is left.
    x = x.astype(np.float64)
    return (x**2).mean(0) - x.mean(0) ** 2


@right("pairwise differences", "stable_variance")
def variance_by_pairs(x):
    return np.mean([(row - x) ** 2 for row in x], axis=(0, 1)) / 2


@right("two passes, corrected", "stable_variance")
def variance_corrected(x):
    u = x - x.sum(0) / len(x)
    return ((u**2).sum(0) - u.sum(0) ** 2 / len(x)) / len(x)  # what rounding of the mean left is taken away


@right("diagonal of the covariance", "stable_variance")
def variance_from_covariance(x):
    return np.diag(np.cov(x, rowvar=False, bias=True))


@right("the statistics module", "stable_variance")
def variance_by_statistics(x):
    return np.array([statistics.pvariance(values) for values in x.T.tolist()])


@right("torch", "stable_variance")
def variance_by_torch(x):
    import torch

    return torch.var(torch.from_numpy(x), dim=0, correction=0).numpy()


# batch_norm_backward_nodes


@right("staged", "batch_norm_backward_nodes")
def nodes(dy, x, weight, eps):
    u = x - x.mean(0)
    inv_std = ((u**2).mean(0) + eps) ** -0.5
    dx_hat = weight * dy
    dinv_std = (dx_hat * u).sum(0)
    dvar = -0.5 * inv_std**3 * dinv_std
    du = dx_hat * inv_std + 2 * u * dvar / len(x)
    dmean = -du.sum(0)
    inner = {"dx_hat": dx_hat, "dinv_std": dinv_std, "dvar": dvar, "du": du, "dmean": dmean}
    return {"dbias": dy.sum(0), "dweight": (dy * u * inv_std).sum(0), **inner, "dx": du + dmean / len(x)}


@right("each from the end result", "batch_norm_backward_nodes")
def nodes_from_the_end(dy, x, weight, eps):
    dx, dweight, dbias = backward(dy, x, weight, eps)
    std = np.sqrt(x.var(0) + eps)
    dmean = -weight * dbias / std
    outer = {"dx": dx, "dweight": dweight, "dbias": dbias, "dx_hat": dy * weight}
    inner = {"dinv_std": weight * dweight * std, "dvar": -weight * dweight / (2 * std**2)}
    return {**outer, **inner, "dmean": dmean, "du": dx - dmean / len(x)}


@right("a mean that is used in the variance as well", "batch_norm_backward_nodes")
def nodes_with_two_uses_of_the_mean(dy, x, weight, eps):
    gradients = nodes(dy, x, weight, eps)
    through_var = -2 * (x - x.mean(0)).mean(0) * gradients["dvar"]  # 0, but for rounding
    return gradients | {"dmean": gradients["dmean"] + through_var}


@right("sample by sample", "batch_norm_backward_nodes")
def nodes_sample_by_sample(dy, x, weight, eps):
    n = len(x)
    u = [row - sum(x) / n for row in x]
    inv_std = 1 / np.sqrt(sum(row**2 for row in u) / n + eps)
    grads = dict.fromkeys(("dbias", "dweight", "dinv_std", "dmean"), 0.0) | {"dx_hat": np.zeros(x.shape)}
    for i in range(n):
        grads["dbias"] = grads["dbias"] + dy[i]
        grads["dweight"] = grads["dweight"] + dy[i] * u[i] * inv_std
        grads["dx_hat"][i] = dy[i] * weight
        grads["dinv_std"] = grads["dinv_std"] + dy[i] * weight * u[i]
    grads["dvar"] = -grads["dinv_std"] / 2 * inv_std**3
    grads["du"] = np.array([grads["dx_hat"][i] * inv_std + 2 / n * u[i] * grads["dvar"] for i in range(n)])
    for i in range(n):
        grads["dmean"] = grads["dmean"] - grads["du"][i]
    grads["dx"] = np.array([row + grads["dmean"] / n for row in grads["du"]])
    return grads


@right("Jacobian matrices", "batch_norm_backward_nodes")
def nodes_by_jacobians(dy, x, weight, eps):
    n = len(x)
    average = np.full(n, 1 / n)
    u = x - average @ x
    inv_std = 1 / np.sqrt(average @ u**2 + eps)
    dx_hat = dy @ np.diag(weight)
    dinv_std = np.diag(u.T @ dx_hat)
    dvar = dinv_std @ np.diag(-0.5 * inv_std**3)
    du = dx_hat @ np.diag(inv_std) + np.outer(2 * average, dvar) * u
    outer = {"dbias": np.ones(n) @ dy, "dweight": np.diag(dy.T @ (u * inv_std)), "dx_hat": dx_hat}
    dx = (np.eye(n) - np.outer(average, np.ones(n))) @ du
    return outer | {"dinv_std": dinv_std, "dvar": dvar, "du": du, "dmean": -np.ones(n) @ du, "dx": dx}


@right("a tape of closures", "batch_norm_backward_nodes")
def nodes_by_a_tape(dy, x, weight, eps):
    d = defaultdict(float, y=dy)
    u = x - x.mean(0)
    inv_std = (np.mean(u**2, 0) + eps) ** -0.5

    def add(name, value):
        d[name] = d[name] + value

    tape = [  # in the order of the forward pass
        lambda: add("x", d["mean"] / len(x)),
        lambda: (add("x", d["u"]), add("mean", -d["u"].sum(0))),
        lambda: add("u", 2 * u / len(x) * d["var"]),
        lambda: add("var", -0.5 * inv_std**3 * d["inv_std"]),
        lambda: (add("u", d["x_hat"] * inv_std), add("inv_std", (d["x_hat"] * u).sum(0))),
        lambda: (add("x_hat", d["y"] * weight), add("weight", (d["y"] * u * inv_std).sum(0))),
        lambda: add("bias", d["y"].sum(0)),
    ]
    for step in reversed(tape):
        step()
    return {f"d{name}": value for name, value in d.items()}


def loss(dy, x, weight, eps, nudge):
    """Σ dy · y, with something added to the values on the way."""
    x = x + nudge.get("dx", 0)
    mean = x.mean(0) + nudge.get("dmean", 0)
    u = x - mean + nudge.get("du", 0)
    var = (u**2).mean(0) + nudge.get("dvar", 0)
    inv_std = (var + eps) ** -0.5 + nudge.get("dinv_std", 0)
    x_hat = u * inv_std + nudge.get("dx_hat", 0)
    return np.sum(dy * ((weight + nudge.get("dweight", 0)) * x_hat + nudge.get("dbias", 0)))


def complex_step(function, shape):
    """The gradient of a function at 0, exact but for rounding: f(ih) / h, without a difference."""
    gradient = np.zeros(shape)
    for place in np.ndindex(shape):
        nudge = np.zeros(shape, complex)
        nudge[place] = 1e-30j
        gradient[place] = function(nudge).imag / 1e-30
    return gradient


@right("complex step", "batch_norm_backward_nodes")
def nodes_by_complex_steps(dy, x, weight, eps):
    shapes = dict.fromkeys(("dx", "du", "dx_hat"), x.shape)
    shapes |= dict.fromkeys(("dmean", "dvar", "dinv_std", "dweight", "dbias"), weight.shape)
    return {
        name: complex_step(lambda nudge, name=name: loss(dy, x, weight, eps, {name: nudge}), shape)
        for name, shape in shapes.items()
    }


@right("autograd of torch's own graph", "batch_norm_backward_nodes")
def nodes_by_autograd(dy, x, weight, eps):
    import torch

    dy, x, weight = map(torch.tensor, (dy, x, weight))
    n = {"dx": x.requires_grad_(), "dweight": weight.requires_grad_()}
    n["dbias"] = torch.zeros_like(weight, requires_grad=True)
    n["dmean"] = x.mean(0)
    n["du"] = x - n["dmean"]
    n["dvar"] = (n["du"] ** 2).mean(0)
    n["dinv_std"] = (n["dvar"] + eps) ** -0.5
    n["dx_hat"] = n["du"] * n["dinv_std"]
    gradients = torch.autograd.grad(weight * n["dx_hat"] + n["dbias"], list(n.values()), dy)
    return {name: gradient.numpy() for name, gradient in zip(n, gradients, strict=True)}


# batch_norm_backward and batch_norm_backward_images

BACKWARD = ("batch_norm_backward", "batch_norm_backward_images")


@right("compact", "batch_norm_backward")
def backward(dy, x, weight, eps):
    std = np.sqrt(x.var(0) + eps)
    x_hat, dx_hat = (x - x.mean(0)) / std, dy * weight
    dx = (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0)) / std
    return dx, (dy * x_hat).sum(0), dy.sum(0)


@right("as a table", "batch_norm_backward_images")
def backward_images(dy, x, weight, eps):
    dx, dweight, dbias = backward(as_table(dy), as_table(x), weight, eps)
    return as_before(dx, x), dweight, dbias


@right("written with dweight and dbias", *BACKWARD)
def backward_from_parameters(dy, x, weight, eps):
    axes, m = (0, *range(2, x.ndim)), count(x)
    inv_std = 1 / np.sqrt(x.var(axes) + eps)
    x_hat = (x - across(x.mean(axes), x)) * across(inv_std, x)
    dweight, dbias = (dy * x_hat).sum(axes), dy.sum(axes)
    dx = across(weight * inv_std / m, x) * (m * dy - across(dbias, x) - x_hat * across(dweight, x))
    return dx, dweight, dbias


@right("staged, with a root and a quotient", "batch_norm_backward")
def backward_staged(dy, x, weight, eps):
    n, u = len(x), x - x.mean(0)
    std = np.sqrt((u * u).sum(0) / n + eps)
    dx_hat = weight * dy
    dstd = -(dx_hat * u).sum(0) / std**2
    dvar = dstd / (2 * std)
    dsquares = np.ones_like(x) * dvar / n
    du = dx_hat / std + 2 * u * dsquares
    dmean = -du.sum(0)
    return du + dmean / n, (dy * u / std).sum(0), dy.sum(0)


@right("projection matrix", *BACKWARD)
def backward_by_projection(dy, x, weight, eps):
    columns, dys = as_table(x).T.astype(np.float64), as_table(dy).T
    dx = np.empty(dys.shape)
    dweight = np.empty(len(columns))
    for c, values in enumerate(columns):
        m = len(values)
        inv_std = (np.var(values) + eps) ** -0.5
        x_hat = inv_std * (values - values.mean())
        projection = np.eye(m) - (np.ones((m, m)) + np.outer(x_hat, x_hat)) / m
        dx[c] = weight[c] * inv_std * projection @ dys[c]
        dweight[c] = x_hat @ dys[c]
    return as_before(dx.T, x), dweight, dys.sum(1)


@right("loops over everything", *BACKWARD)
def backward_in_loops(dy, x, weight, eps):
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(len(weight)), np.zeros(len(weight))
    for c in range(len(weight)):
        g, values = dy[:, c].ravel().tolist(), x[:, c].ravel().tolist()
        m, mean = len(values), math.fsum(values) / len(values)
        inv_std = 1 / math.sqrt(math.fsum((value - mean) ** 2 for value in values) / m + eps)
        x_hat = [(value - mean) * inv_std for value in values]
        for i in range(m):
            dbias[c] += g[i]
            dweight[c] += g[i] * x_hat[i]
        terms = [m * g[i] - dbias[c] - x_hat[i] * dweight[c] for i in range(m)]
        dx[:, c] = np.reshape(terms, dx[:, c].shape) * (weight[c] * inv_std / m)
    return dx, dweight, dbias


@right("einsum", "batch_norm_backward_images")
def backward_by_einsum(dy, x, weight, eps):
    m = count(x)
    u = x - np.einsum("nchw->c", x)[:, None, None] / m
    inv_std = (np.einsum("nchw,nchw->c", u, u) / m + eps) ** -0.5
    x_hat = np.einsum("nchw,c->nchw", u, inv_std)
    dbias, dweight = np.einsum("nchw->c", dy), np.einsum("nchw,nchw->c", dy, x_hat)
    inner = dy - (dbias[:, None, None] + np.einsum("nchw,c->nchw", x_hat, dweight)) / m
    return np.einsum("c,nchw->nchw", weight * inv_std, inner), dweight, dbias


@right("pairwise differences", "batch_norm_backward")
def backward_by_pairs(dy, x, weight, eps):
    x_hat = normalize_by_pairs(x, eps)
    g = dy * weight
    std = np.sqrt(((x[:, None] - x) ** 2).mean((0, 1)) / 2 + eps)
    pairs = g[:, None] - g - x_hat[:, None] * x_hat * g
    return pairs.mean(1) / std, np.einsum("nc,nc->c", dy, x_hat), np.einsum("nc->c", dy)


@right("complex step", *BACKWARD)
def backward_by_complex_steps(dy, x, weight, eps):
    table, dys = as_table(x), as_table(dy)
    shapes = {"dx": table.shape, "dweight": weight.shape}
    dx, dweight = (
        complex_step(lambda nudge, name=name: loss(dys, table, weight, eps, {name: nudge}), shape)
        for name, shape in shapes.items()
    )
    return as_before(dx, x), dweight, dys.sum(0)


@right("autograd of torch's function", *BACKWARD)
def backward_by_autograd(dy, x, weight, eps):
    import torch

    x, weight = (torch.tensor(a, requires_grad=True) for a in (x, weight))
    bias = torch.zeros_like(weight, requires_grad=True)
    y = torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True, eps=eps)
    y.backward(torch.tensor(dy))
    return x.grad.numpy(), weight.grad.numpy(), bias.grad.numpy()


@right("torch's vjp of its own code", "batch_norm_backward_images")
def backward_by_vjp(dy, x, weight, eps):
    import torch

    def forward(x, weight, bias):
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
        return weight[:, None, None] * (x - mean) * (var + eps).rsqrt() + bias[:, None, None]

    given = tuple(map(torch.tensor, (x, weight, np.zeros_like(weight))))
    _, gradients = torch.autograd.functional.vjp(forward, given, torch.tensor(dy))
    return [gradient.numpy() for gradient in gradients]


@right("torch's kernel", "batch_norm_backward_images")
def backward_by_a_kernel(dy, x, weight, eps):
    import torch

    dy, x, weight = map(torch.tensor, (dy, x, weight))
    _, mean, inv_std = torch.native_batch_norm(x, weight, None, None, None, True, 0.1, eps)
    kernel = torch.ops.aten.native_batch_norm_backward
    grads = kernel(dy, x, weight, None, None, mean, inv_std, True, eps, [True, True, True])
    return tuple(grad.numpy() for grad in grads)


@right("torch's Jacobian", "batch_norm_backward")
def backward_by_a_jacobian(dy, x, weight, eps):
    import torch

    def forward(x, weight, bias):
        return torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True, eps=eps)

    given = tuple(map(torch.tensor, (x, weight, np.zeros_like(weight))))
    jacobians = torch.autograd.functional.jacobian(forward, given)
    return tuple(np.tensordot(dy, jacobian.numpy(), 2) for jacobian in jacobians)


right("returns a list", "batch_norm_backward")(in_a_list(backward))


@right("any arguments", "batch_norm_backward_images")
def backward_of_any_arguments(*arguments, **named):
    return backward_images(*arguments, **named)


# update_running_stats


@right("compact", "update_running_stats")
def update(x, running_mean, running_var, momentum):
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * var


@right("a step towards the batch", "update_running_stats")
def update_by_a_step(x, running_mean, running_var, momentum):
    m = count(x)
    table = as_table(x)
    mean, var = table.mean(0), table.var(0) * m / (m - 1)
    return running_mean + momentum * (mean - running_mean), running_var - momentum * (running_var - var)


@right("loops over everything", "update_running_stats")
def update_in_loops(x, running_mean, running_var, momentum):
    mean, var = np.zeros(len(running_mean)), np.zeros(len(running_var))
    n, channels, h, w = x.shape
    for c in range(channels):
        values = [float(x[i, c, j, k]) for i in range(n) for j in range(h) for k in range(w)]
        average = sum(values) / len(values)
        spread = sum((value - average) ** 2 for value in values) / (len(values) - 1)
        mean[c] = momentum * average + (1 - momentum) * running_mean[c]
        var[c] = momentum * spread + (1 - momentum) * running_var[c]
    return mean, var


@right("np.average and np.cov", "update_running_stats")
def update_by_average(x, running_mean, running_var, momentum):
    rows = as_table(x).T
    pairs = [[running_mean, rows.mean(1)], [running_var, np.diag(np.cov(rows))]]
    return tuple(np.average(pair, axis=0, weights=[1 - momentum, momentum]) for pair in pairs)


@right("welford", "update_running_stats")
def update_by_welford(x, running_mean, running_var, momentum):
    m, mean, m2 = welford(as_table(x))
    new = np.stack([mean, m2 / (m - 1)])
    return tuple(momentum * new + (1 - momentum) * np.stack([running_mean, running_var]))


@right("the statistics module", "update_running_stats")
def update_by_statistics(x, running_mean, running_var, momentum):
    channels = [x[:, c].ravel().tolist() for c in range(x.shape[1])]
    batch = [[statistics.fmean(values), statistics.variance(values)] for values in channels]
    mean, var = np.transpose(batch)
    return [old + momentum * (new - old) for old, new in ((running_mean, mean), (running_var, var))]


@right("torch's lerp", "update_running_stats")
def update_by_lerp(x, running_mean, running_var, momentum):
    import torch

    x, mean, var = map(torch.tensor, (x, running_mean, running_var))
    batch_var, batch_mean = torch.var_mean(x, dim=(0, 2, 3))
    return torch.lerp(mean, batch_mean, momentum).numpy(), var.lerp(batch_var, momentum).numpy()


def run_layer(x, running_mean, running_var, **options):
    """A layer of PyTorch that has seen one more batch."""
    import torch

    x, running_mean, running_var = map(torch.tensor, (x, running_mean, running_var))
    layer = torch.nn.BatchNorm2d(x.shape[1], dtype=x.dtype, affine=False, **options)
    layer.running_mean, layer.running_var = running_mean, running_var
    return layer, x


@right("torch's layer", "update_running_stats")
def update_by_a_layer(x, running_mean, running_var, momentum):
    layer, batch = run_layer(x, running_mean, running_var, momentum=momentum)
    layer(batch)
    return layer.running_mean.numpy(), layer.running_var.numpy()


# pytorch_momentum

OLD_VALUE = ("keras", "flax", "onnx")  # their momentum is the weight of the old value


@right("if", "pytorch_momentum")
def momentum_by_if(momentum, framework):
    if framework == "pytorch":
        return momentum
    return 1 - momentum


@right("a table of functions", "pytorch_momentum")
def momentum_from_a_table(momentum, framework):
    keep = {"pytorch": lambda new: new, **dict.fromkeys(OLD_VALUE, lambda old: 1.0 - old)}
    return keep[framework](momentum)


@right("match", "pytorch_momentum")
def momentum_by_match(momentum, framework):
    match framework.lower():
        case "keras" | "flax" | "onnx":
            return -(momentum - 1)
        case "pytorch":
            return momentum
        case _:
            raise ValueError(f"unknown framework {framework!r}")


@right("a distance", "pytorch_momentum")
def momentum_as_a_distance(momentum, framework):
    return abs((framework in OLD_VALUE) - momentum)


@right("chosen from two", "pytorch_momentum")
def momentum_chosen_from_two(momentum, framework):
    return np.array([momentum, 1 - momentum])[int(framework != "pytorch")]


@right("np.where", "pytorch_momentum")
def momentum_by_where(momentum, framework):
    return np.where(np.isin(framework, OLD_VALUE), np.subtract(1, momentum), momentum)


@right("how far a running mean moves from 0 to 1", "pytorch_momentum")
def momentum_by_experiment(momentum, framework):
    old, new = np.zeros(1), np.ones(1)
    if framework == "pytorch":
        moved = (1 - momentum) * old + momentum * new
    else:
        moved = momentum * old + (1 - momentum) * new
    return moved.item()


@right("a lookup that may fail", "pytorch_momentum")
def momentum_by_exception(momentum, framework):
    try:
        OLD_VALUE.index(framework)
    except ValueError:
        return momentum
    return math.fsum([1, -momentum])


right("np.vectorize", "pytorch_momentum")(np.vectorize(momentum_by_if))
right("remembered", "pytorch_momentum")(functools.cache(momentum_by_if))


@right("float32", "pytorch_momentum")
def momentum_in_float32(momentum, framework):
    momentum = np.float32(momentum)
    return momentum if framework == "pytorch" else np.float32(1) - momentum


# cumulative_average


@right("momentum 1 / n", "cumulative_average")
def cumulative(x, running_mean, running_var, num_batches_tracked):
    n = num_batches_tracked + 1
    return *update(x, running_mean, running_var, 1 / n), n


@right("sums of all batches", "cumulative_average")
def cumulative_by_sums(x, running_mean, running_var, num_batches_tracked):
    n, m = num_batches_tracked, count(x)
    mean = x.sum((0, 2, 3)) / m
    var = ((x - across(mean, x)) ** 2).sum((0, 2, 3)) / (m - 1)
    return (n * running_mean + mean) / (n + 1), (n * running_var + var) / (n + 1), n + 1


@right("a list of all batches", "cumulative_average")
def cumulative_of_a_list(x, running_mean, running_var, num_batches_tracked):
    means = [running_mean] * num_batches_tracked + [np.mean(x, (0, 2, 3))]
    variances = [running_var] * num_batches_tracked + [np.var(x, (0, 2, 3), ddof=1)]
    return np.mean(means, axis=0), np.mean(variances, axis=0), len(means)


@right("np.average with counts", "cumulative_average")
def cumulative_by_average(x, running_mean, running_var, num_batches_tracked):
    rows = x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
    counts = [num_batches_tracked, 1]
    mean, total = np.average([running_mean, rows.mean(1)], axis=0, weights=counts, returned=True)
    var = np.average([running_var, rows.var(1, ddof=1)], axis=0, weights=counts)
    return mean, var, total[0]


@right("one channel after the other", "cumulative_average")
def cumulative_by_channels(x, running_mean, running_var, num_batches_tracked):
    mean, var = running_mean.copy(), running_var.copy()
    n = float(num_batches_tracked) + 1.0
    for c, channel in enumerate(np.moveaxis(x, 1, 0)):
        values = channel.astype(np.float64).ravel()
        mean[c] += (values.mean() - mean[c]) / n
        var[c] += (np.dot(values - values.mean(), values - values.mean()) / (len(values) - 1) - var[c]) / n
    return mean, var, n


@right("first batch apart", "cumulative_average")
def cumulative_with_a_first_batch(x, running_mean, running_var, num_batches_tracked):
    m, mean, m2 = merged(as_table(x))
    if num_batches_tracked == 0:
        return mean, m2 / (m - 1), 1
    kept = num_batches_tracked / (num_batches_tracked + 1)
    return (
        kept * (running_mean + mean / num_batches_tracked),
        kept * (running_var + m2 / (m - 1) / num_batches_tracked),
        num_batches_tracked + 1,
    )


@right("the statistics module", "cumulative_average")
def cumulative_by_statistics(x, running_mean, running_var, num_batches_tracked):
    mean, var = [], []
    for c, values in enumerate(as_table(x).T.tolist()):
        mean.append(statistics.fmean([running_mean[c], statistics.mean(values)], [num_batches_tracked, 1]))
        var.append(statistics.fmean([running_var[c], statistics.variance(values)], [num_batches_tracked, 1]))
    return np.array(mean), np.array(var), np.int64(num_batches_tracked) + 1


@right("torch's layer without momentum", "cumulative_average")
def cumulative_by_a_layer(x, running_mean, running_var, num_batches_tracked):
    layer, batch = run_layer(x, running_mean, running_var, momentum=None)
    layer.num_batches_tracked += num_batches_tracked
    layer(batch)
    return layer.running_mean.numpy(), layer.running_var.numpy(), layer.num_batches_tracked.item()


right("returns a list", "cumulative_average")(in_a_list(cumulative))


# batch_norm_eval


@right("compact", "batch_norm_eval")
def evaluate(x, weight, bias, running_mean, running_var, eps):
    weight, bias, mean, var = (v.reshape(1, -1, 1, 1) for v in (weight, bias, running_mean, running_var))
    return weight * (x - mean) / np.sqrt(var + eps) + bias


@right("scale and shift", "batch_norm_eval")
def evaluate_by_scale_and_shift(x, weight, bias, running_mean, running_var, eps):
    scale = weight / np.sqrt(running_var + eps)
    shift = bias - running_mean * scale
    return scale[:, None, None] * x + shift[:, None, None]


@right("loops over everything", "batch_norm_eval")
def evaluate_in_loops(x, weight, bias, running_mean, running_var, eps):
    y = np.empty_like(x)
    for n, c, h, w in np.ndindex(x.shape):
        x_hat = (x[n, c, h, w] - running_mean[c]) / math.sqrt(running_var[c] + eps)
        y[n, c, h, w] = weight[c] * x_hat + bias[c]
    return y


@right("channels last", "batch_norm_eval")
def evaluate_channels_last(x, weight, bias, running_mean, running_var, eps):
    y = np.moveaxis(x, 1, -1) - running_mean
    y = y * (running_var + eps) ** -0.5 * weight + bias
    return np.moveaxis(y, -1, 1)


@right("image by image", "batch_norm_eval")
def evaluate_image_by_image(x, weight, bias, running_mean, running_var, eps):
    slope = np.diag(weight / np.sqrt(running_var + eps))
    images = [slope @ (image.reshape(len(weight), -1) - running_mean[:, None]) + bias[:, None] for image in x]
    return np.stack(images).reshape(x.shape)


@right("torch's layer", "batch_norm_eval")
def evaluate_by_a_layer(x, weight, bias, running_mean, running_var, eps):
    import torch

    names = ("weight", "bias", "running_mean", "running_var")
    state = dict(zip(names, map(torch.tensor, (weight, bias, running_mean, running_var)), strict=True))
    layer = torch.nn.BatchNorm2d(len(weight), eps, dtype=state["weight"].dtype).eval()
    layer.load_state_dict(state, strict=False)
    return layer(torch.tensor(x)).detach().numpy()


@right("torch's convolution of one pixel", "batch_norm_eval")
def evaluate_by_convolution(x, weight, bias, running_mean, running_var, eps):
    import torch

    x, weight, bias, mean, var = map(torch.tensor, (x, weight, bias, running_mean, running_var))
    scale = weight * torch.rsqrt(var + eps)
    kernel = scale.reshape(-1, 1, 1, 1)
    return torch.nn.functional.conv2d(x, kernel, bias - scale * mean, groups=len(scale)).numpy()


@right("parameters in another order", "batch_norm_eval")
def evaluate_reordered(x, running_mean, running_var, weight, bias, eps=1e-5):
    return evaluate(x, weight, bias, running_mean, running_var, eps)


# batch_norm_eval_backward


@right("compact", "batch_norm_eval_backward")
def evaluate_backward(dy, x, weight, running_mean, running_var, eps):
    std = np.sqrt(running_var + eps).reshape(-1, 1, 1)
    x_hat = (x - running_mean.reshape(-1, 1, 1)) / std
    return dy * weight.reshape(-1, 1, 1) / std, (dy * x_hat).sum((0, 2, 3)), dy.sum((0, 2, 3))


@right("loops over everything", "batch_norm_eval_backward")
def evaluate_backward_in_loops(dy, x, weight, running_mean, running_var, eps):
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(weight)
    for place in itertools.product(*map(range, x.shape)):
        c = place[1]
        inv_std = 1 / math.sqrt(running_var[c] + eps)
        dx[place] = dy[place] * weight[c] * inv_std
        dweight[c] += dy[place] * (x[place] - running_mean[c]) * inv_std
        dbias[c] += dy[place]
    return dx, dweight, dbias


@right("einsum", "batch_norm_eval_backward")
def evaluate_backward_by_einsum(dy, x, weight, running_mean, running_var, eps):
    inv_std = (running_var + eps) ** -0.5
    u = x - running_mean[None, :, None, None]
    dweight = np.einsum("nchw,nchw,c->c", dy, u, inv_std)
    return np.einsum("nchw,c,c->nchw", dy, weight, inv_std), dweight, np.einsum("nchw->c", dy)


@right("two sums", "batch_norm_eval_backward")
def evaluate_backward_by_two_sums(dy, x, weight, running_mean, running_var, eps):
    inv_std = 1 / np.sqrt(running_var + eps)
    dbias = np.sum(dy, (0, 2, 3), dtype=np.float64)
    products = np.sum(dy * x, (0, 2, 3), dtype=np.float64)
    return dy * across(weight * inv_std, x), (products - running_mean * dbias) * inv_std, dbias


@right("one channel after the other", "batch_norm_eval_backward")
def evaluate_backward_by_channels(dy, x, weight, running_mean, running_var, eps):
    def channel(c):
        std = np.hypot(np.sqrt(running_var[c]), np.sqrt(eps))
        return weight[c] / std * dy[:, c], np.vdot(dy[:, c], (x[:, c] - running_mean[c]) / std), dy[:, c].sum()

    dx, dweight, dbias = zip(*map(channel, range(len(weight))), strict=True)
    return np.stack(dx, axis=1), np.array(dweight), np.array(dbias)


@right("slope of the forward pass", "batch_norm_eval_backward")
def evaluate_backward_by_slope(dy, x, weight, running_mean, running_var, eps):
    def y(x, weight):
        return evaluate(x, weight, 0 * weight, running_mean, running_var, eps)

    ones = np.ones_like(weight)
    slope = y(across(running_mean + 1, x), weight) - y(across(running_mean, x), weight)
    return dy * slope, np.sum(dy * y(x, ones), (0, 2, 3)), np.sum(dy, (0, 2, 3))


@right("autograd of torch's layer", "batch_norm_eval_backward")
def evaluate_backward_by_autograd(dy, x, weight, running_mean, running_var, eps):
    import torch

    layer, batch = run_layer(x, running_mean, running_var, eps=eps)
    layer.weight = torch.nn.Parameter(torch.tensor(weight))
    layer.bias = torch.nn.Parameter(torch.zeros_like(layer.weight))
    layer.eval()(batch.requires_grad_()).backward(torch.tensor(dy))
    return batch.grad.numpy(), layer.weight.grad.numpy(), layer.bias.grad.numpy()


@right("torch's kernel", "batch_norm_eval_backward")
def evaluate_backward_by_a_kernel(dy, x, weight, running_mean, running_var, eps):
    import torch

    dy, x, weight, mean, var = map(torch.tensor, (dy, x, weight, running_mean, running_var))
    kernel = torch.ops.aten.native_batch_norm_backward
    grads = kernel(dy, x, weight, mean, var, None, None, False, eps, [True, True, True])
    return [grad.numpy() for grad in grads]


right("returns a list", "batch_norm_eval_backward")(in_a_list(evaluate_backward))


# BatchNormFunction


@right("compact", "BatchNormFunction")
class KeepsXHat(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        inv_std = 1 / torch.sqrt(x.var(0, correction=0) + eps)
        x_hat = (x - x.mean(0)) * inv_std
        ctx.save_for_backward(x_hat, inv_std, weight)
        return weight * x_hat + bias

    @staticmethod
    def backward(ctx, dy):
        x_hat, inv_std, weight = ctx.saved_tensors
        dx_hat = dy * weight
        dx = inv_std * (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0))
        return dx, (dy * x_hat).sum(0), dy.sum(0), None


def table_statistics(x, eps):
    """x − μ and 1/√(σ² + ε) of a table."""
    centered = x - x.mean(dim=0)
    return centered, (centered.square().mean(dim=0) + eps).rsqrt()


@right("keeps x and a number", "BatchNormFunction")
class KeepsX(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        centered, inv_std = table_statistics(x, eps)
        return centered * inv_std * weight + bias

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        centered, inv_std = table_statistics(x, ctx.eps)
        dbias, dweight = dy.sum(0), (dy * centered).sum(0) * inv_std
        dx = weight * inv_std / len(x) * (len(x) * dy - dbias - centered * inv_std * dweight)
        return dx, dweight, dbias, None


@right("setup_context", "BatchNormFunction")
class ContextApart(torch.autograd.Function):
    @staticmethod
    def forward(x, weight, bias, eps):
        var, mean = torch.var_mean(x, dim=0, correction=0)
        return torch.addcmul(bias, weight, (x - mean) / (var + eps) ** 0.5)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, _, ctx.eps = inputs
        ctx.save_for_backward(x, weight)

    backward = KeepsX.backward


@right("node by node", "BatchNormFunction")
class NodeByNode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        mean = x.sum(0) / x.shape[0]
        u = x - mean
        var = (u * u).sum(0) / x.shape[0]
        std = torch.sqrt(var + eps)
        ctx.save_for_backward(u, std, weight)
        return weight * (u / std) + bias

    @staticmethod
    def backward(ctx, dy):
        u, std, weight = ctx.saved_tensors
        n = dy.shape[0]
        dx_hat = dy * weight
        dstd = -(dx_hat * u).sum(0) / std**2
        dvar = dstd / (2 * std)
        du = dx_hat / std + dvar * 2 * u / n
        dmean = -du.sum(0)
        return du + dmean / n, (dy * u / std).sum(0), dy.sum(0), None


@right("NumPy inside", "BatchNormFunction")
class NumpyInside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return torch.from_numpy(forward(x.numpy(), weight.numpy(), bias.numpy(), eps))

    @staticmethod
    def backward(ctx, dy):
        x, weight = (saved.detach().numpy() for saved in ctx.saved_tensors)
        return *map(torch.from_numpy, backward(dy.numpy(), x, weight, ctx.eps)), None


@right("projections", "BatchNormFunction")
class Projections(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        n = len(x)
        centring = torch.eye(n, dtype=x.dtype) - torch.full((n, n), 1 / n, dtype=x.dtype)
        u = centring @ x
        scale = weight * torch.rsqrt(torch.einsum("nc,nc->c", u, u) / n + eps)
        ctx.save_for_backward(centring, u, scale, weight)
        return torch.addmm(bias, u, torch.diag(scale))

    @staticmethod
    def backward(ctx, dy):
        centring, u, scale, weight = ctx.saved_tensors
        inv_std = scale / weight
        dweight = torch.einsum("nc,nc,c->c", dy, u, inv_std)
        dx = scale * (centring @ dy) - u * (dweight * scale * inv_std / len(dy))
        return dx, dweight, torch.ones(len(dy), dtype=dy.dtype) @ dy, None


@right("one feature after the other", "BatchNormFunction")
class FeatureByFeature(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        y, x_hat, stds = torch.empty_like(x), torch.empty_like(x), []
        for c in range(x.shape[1]):
            stds.append(torch.sqrt(torch.mean((x[:, c] - torch.mean(x[:, c])) ** 2) + eps))
            x_hat[:, c] = (x[:, c] - torch.mean(x[:, c])) / stds[c]
            y[:, c] = weight[c] * x_hat[:, c] + bias[c]
        ctx.save_for_backward(x_hat, weight, *stds)
        return y

    @staticmethod
    def backward(ctx, dy):
        x_hat, weight, *stds = ctx.saved_tensors
        dx = torch.zeros_like(dy)
        for c, std in enumerate(stds):
            g = dy[:, c] * weight[c]
            dx[:, c] = (g - g.mean() - x_hat[:, c] * torch.dot(g, x_hat[:, c]) / len(g)) / std
        return dx, torch.sum(dy * x_hat, dim=0), torch.sum(dy, dim=0), None


@right("autograd inside backward", "BatchNormFunction")
class AutogradInside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        ctx.save_for_backward(x, weight, bias)
        ctx.eps = eps
        return AutogradInside.formula(x, weight, bias, eps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        leaves = [saved.detach().requires_grad_() for saved in ctx.saved_tensors]
        with torch.enable_grad():
            y = AutogradInside.formula(*leaves, ctx.eps)
        return *torch.autograd.grad(y, leaves, dy), None

    @staticmethod
    def formula(x, weight, bias, eps):
        centered, inv_std = table_statistics(x, eps)
        return weight * centered * inv_std + bias


@right("float64 inside, and None where nothing is needed", "BatchNormFunction")
class DoubleInside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        centered, inv_std = table_statistics(x.double(), eps)
        ctx.save_for_backward(centered, inv_std, weight)
        return (weight * centered * inv_std + bias).to(x.dtype)

    @staticmethod
    def backward(ctx, dy):
        centered, inv_std, weight = ctx.saved_tensors
        dx = dweight = dbias = None
        if ctx.needs_input_grad[0]:
            g = dy * weight * inv_std
            x_hat = centered * inv_std
            dx = (g - g.mean(0) - x_hat * (g * x_hat).mean(0)).to(dy.dtype)
        if ctx.needs_input_grad[1]:
            dweight = (dy * centered).sum(0, keepdim=True) * inv_std
        if ctx.needs_input_grad[2]:
            dbias = dy.sum(0)
        return dx, dweight, dbias, None, None


class Backward(torch.autograd.Function):
    """The second half, for several forwards."""

    @staticmethod
    def backward(ctx, dy):
        return KeepsXHat.backward(ctx, dy)


@right("two classes, and the length of a vector", "BatchNormFunction")
class Heir(Backward):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        centered = x - x.mean(0)
        x_hat = centered / (torch.norm(centered, dim=0) ** 2 / len(x) + eps) ** 0.5
        ctx.save_for_backward(x_hat, table_statistics(x, eps)[1], weight)
        return weight * x_hat + bias


# BatchNorm1d


@right("compact", "BatchNorm1d")
class CompactLayer(torch.nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = torch.nn.Parameter(torch.ones(num_features))
        self.bias = torch.nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
            self.remember(mean.detach(), x.detach().var(0))
        return self.weight * (x - mean) / torch.sqrt(var + self.eps) + self.bias

    def remember(self, mean, var):
        self.num_batches_tracked += 1
        momentum = self.momentum
        if momentum is None:
            momentum = 1 / self.num_batches_tracked
        self.running_mean = (1 - momentum) * self.running_mean + momentum * mean
        self.running_var = (1 - momentum) * self.running_var + momentum * var


@right("a Function inside", "BatchNorm1d")
class FunctionInside(CompactLayer):
    def forward(self, x):
        if not self.training:
            scale = self.weight * torch.rsqrt(self.running_var + self.eps)
            return x * scale + (self.bias - self.running_mean * scale)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            n = self.num_batches_tracked.item()
            weight = self.momentum if self.momentum is not None else 1 / n
            self.running_mean.lerp_(x.mean(0), weight)
            self.running_var.lerp_(x.var(0, unbiased=True), weight)
        return KeepsXHat.apply(x, self.weight, self.bias, self.eps)


class Remembering(torch.nn.Module):
    """Running statistics without parameters."""

    def __init__(self, channels):
        super().__init__()
        self.running_mean = torch.nn.Buffer(torch.zeros(channels))
        self.running_var = torch.nn.Buffer(torch.ones(channels))
        self.num_batches_tracked = torch.nn.Buffer(torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def see(self, x, momentum):
        var, mean = torch.var_mean(x, dim=0)
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if momentum is None else momentum
        self.running_mean += share * (mean - self.running_mean)
        self.running_var -= share * (self.running_var - var)


@right("a base class, buffers by nn.Buffer", "BatchNorm1d")
class Derived(Remembering):
    def __init__(self, num_features, eps, momentum, **options):
        super().__init__(num_features)
        self.register_parameter("weight", torch.nn.Parameter(torch.full((num_features,), 1.0)))
        self.register_parameter("bias", torch.nn.Parameter(torch.full((num_features,), 0.0)))
        self.options = {"eps": eps, "momentum": momentum, **options}

    def forward(self, x):
        return self.in_training(x) if self.training else self.in_use(x, self.running_mean, self.running_var)

    def in_training(self, x):
        self.see(x, self.options["momentum"])
        return self.in_use(x, torch.mean(x, 0), torch.mean((x - torch.mean(x, 0)) ** 2, 0))

    def in_use(self, x, mean, var):
        return torch.addcmul(self.bias, (x - mean) / (var + self.options["eps"]).sqrt(), self.weight)


@right("float64 inside, data of the buffers", "BatchNorm1d")
class DoubleLayer(CompactLayer):
    def forward(self, input):
        x = input.to(torch.float64)
        mean, var = self.running_mean.double(), self.running_var.double()
        if self.training is True:
            n = len(x)
            mean = x.sum(0) / n
            var = (x - mean).pow(2).sum(0) / n
            self.num_batches_tracked.data += 1
            a = 1.0 / self.num_batches_tracked.double() if self.momentum is None else self.momentum
            self.running_mean.data = (a * mean.data + (1 - a) * self.running_mean.data).float()
            self.running_var.data = (a * var.data * n / (n - 1) + (1 - a) * self.running_var.data).float()
        y = (x - mean) / (var + self.eps) ** 0.5 * self.weight + self.bias
        return y.type_as(input)


@right("one feature after the other", "BatchNorm1d")
class FeatureLayer(CompactLayer):
    def forward(self, x):
        if self.training:
            self.num_batches_tracked.copy_(self.num_batches_tracked + 1)
        return torch.stack([self.feature(c, x[:, c]) for c in range(x.shape[1])], dim=1)

    def feature(self, c, values):
        mean, var = self.running_mean[c].clone(), self.running_var[c].clone()
        if self.training:
            mean = sum(values) / len(values)
            squares = sum((value - mean) ** 2 for value in values)
            var = squares / len(values)
            share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean[c] = (1 - share) * self.running_mean[c] + share * mean
                self.running_var[c] = (1 - share) * self.running_var[c] + share * squares / (len(values) - 1)
        return self.weight[c] * (values - mean) * torch.rsqrt(var + self.eps) + self.bias[c]


@right("the length of a vector, and all batches in a list", "BatchNorm1d")
class ListLayer(torch.nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        names = ("weight", torch.ones), ("bias", torch.zeros)
        for name, fill in names:
            setattr(self, name, torch.nn.Parameter(fill(num_features)))
        for name, start in (("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full([num_features], start))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.int64))
        self.eps, self.momentum, self.seen = eps, momentum, []

    def forward(self, x):
        if not self.training:
            return torch.einsum("nc,c->nc", x - self.running_mean, self.scale()) + self.bias
        self.seen.append(torch.stack([x.mean(0), x.var(0)]).detach())
        self.num_batches_tracked.fill_(len(self.seen))
        self.running_mean, self.running_var = self.average()
        centered = x - x.mean(0)
        std = torch.linalg.vector_norm(centered, dim=0) / len(x) ** 0.5
        return centered / torch.hypot(std, torch.tensor(self.eps**0.5)) * self.weight + self.bias

    def scale(self):
        return self.weight / torch.sqrt(self.running_var + self.eps)

    def average(self):
        if self.momentum is None:
            return torch.stack(self.seen).mean(0)
        start = torch.stack([torch.zeros_like(self.bias), torch.ones_like(self.bias)]).detach()
        step = lambda old, new: old + self.momentum * (new - old)
        return functools.reduce(step, self.seen, start)


# accurate_statistics


@right("float64 from the start", "accurate_statistics")
def statistics_in_float64(x):
    x = x.astype(np.float64)
    return x.mean(axis=0), x.var(axis=0)


@right("shifted by the first row", "accurate_statistics")
def statistics_of_shifted(x):
    first = x[0]
    shifted = x - first
    mean = shifted.mean(0)
    return first + mean, (shifted**2).mean(0) - mean**2


@right("subtracted twice", "accurate_statistics")
def statistics_subtracted_twice(x):
    mean = x.mean(0)
    u = x - mean
    remainder = u.mean(0)
    return mean + remainder, ((u - remainder) ** 2).mean(0)


@right("two passes over plain numbers", "accurate_statistics")
def statistics_of_numbers(x):
    means, variances = [], []
    for values in x.T.tolist():
        mean = math.fsum(values) / len(values)
        means.append(mean)
        variances.append(sum((value - mean) ** 2 for value in values) / len(values))
    return np.array(means), np.array(variances)


@right("welford in float64", "accurate_statistics")
def statistics_by_welford(x):
    n, mean, m2 = welford(x.astype(np.float64))
    return mean, m2 / n


@right("welford of shifted rows", "accurate_statistics")
def statistics_by_shifted_welford(x):
    n, mean, m2 = welford(x - x[-1])
    return mean + x[-1], m2 / n


@right("recursion over halves", "accurate_statistics")
def statistics_by_halves(x):
    n, mean, m2 = merged(x - np.median(x, axis=0).astype(np.float32))
    return mean + np.median(x, axis=0), m2 / n


@right("the statistics module", "accurate_statistics")
def statistics_by_statistics(x):
    columns = x.T.tolist()
    return np.array([[statistics.fmean(c) for c in columns], [statistics.pvariance(c) for c in columns]])


@right("one pass in fractions", "accurate_statistics")
def statistics_in_fractions(x):
    means, variances = [], []
    for column in x.T.tolist():
        total = sum(map(Fraction, column))
        squares = sum(Fraction(value) ** 2 for value in column)
        means.append(float(total / len(column)))
        variances.append(float(squares / len(column) - (total / len(column)) ** 2))
    return np.array(means), np.array(variances)


@right("float64 where it matters", "accurate_statistics")
def statistics_by_dtype(x):
    mean = x.mean(axis=0, dtype=np.float64)
    return mean.astype(np.float32), np.square(x - mean).mean(axis=0)


@right("einsum", "accurate_statistics")
def statistics_by_einsum(x):
    u = x - x[:1].astype(np.float64)
    mean = np.einsum("nc->c", u) / len(u)
    u -= mean
    return mean + x[0], np.einsum("nc,nc->c", u, u) / len(u)


@right("pairwise differences", "accurate_statistics")
def statistics_by_pairs(x):
    # The differences of close float32 numbers are exact.
    return np.median(x, 0) + (x - np.median(x, 0)).mean(0), np.mean([(row - x) ** 2 for row in x], axis=(0, 1)) / 2


@right("torch", "accurate_statistics")
def statistics_by_torch(x):
    import torch

    var, mean = torch.var_mean(torch.from_numpy(x).double(), dim=0, correction=0)
    return mean.numpy(), var.numpy()


right("returns a list", "accurate_statistics")(in_a_list(statistics_of_shifted))


# welford_step


@right("compact", "welford_step")
def step_of_welford(count, mean, m2, x):
    count = count + 1
    new_mean = mean + (x - mean) / count
    return count, new_mean, m2 + (x - mean) * (x - new_mean)


@right("one distance", "welford_step")
def step_with_one_distance(count, mean, m2, x):
    d = x - mean
    return count + 1, mean + d / (count + 1), m2 + d * d * count / (count + 1)


@right("sums", "welford_step")
def step_by_sums(count, mean, m2, x):
    n = count + 1
    new_mean = (count * mean + x) / n
    return n, new_mean, m2 + count * (new_mean - mean) ** 2 + (x - new_mean) ** 2


@right("loops over features", "welford_step")
def step_in_loops(count, mean, m2, x):
    means, squares = [], []
    for c in range(len(x)):
        delta = float(x[c]) - float(mean[c])
        means.append(float(mean[c]) + delta / (count + 1))
        squares.append(float(m2[c]) + delta * (float(x[c]) - means[-1]))
    return count + 1, np.array(means), np.array(squares)


@right("a merge with one sample", "welford_step")
def step_by_merging(count, mean, m2, x):
    counts = np.array([count, 1.0])
    delta = x - mean
    new_mean = np.average([mean, x], axis=0, weights=counts)
    return counts.sum(), new_mean, m2 + 0.0 + delta**2 * counts.prod() / counts.sum()


@right("shifted by the sample", "welford_step")
def step_shifted(count, mean, m2, x):
    # Seen from x: the mean of the others is d, that of all is d · count / n.
    d = mean - x
    share = count / (count + 1)
    return count + 1, x + share * d, m2 + share * d**2


@right("first sample apart", "welford_step")
def step_with_a_first_sample(count, mean, m2, x):
    if count == 0:
        return 1, x.copy(), np.zeros_like(x)
    new_mean = mean - (mean - x) / (count + 1)
    return count + 1, new_mean, m2 + np.prod([mean - x, new_mean - x], axis=0)


@right("a matrix product", "welford_step")
def step_by_a_matrix(count, mean, m2, x):
    n = count + 1
    new_mean = np.array([count / n, 1 / n]) @ np.stack([mean, x])
    distances = np.stack([mean, x]) - new_mean
    return n, new_mean, m2 + np.array([count, 1]) @ distances**2


right("returns a list", "welford_step")(in_a_list(step_of_welford))


# batch_norm_half


@right("float32", "batch_norm_half")  # of float16 only: in_float32 would round float64 as well
def half_in_float32(x, weight, bias, eps):
    x = x.astype(np.float32) if x.dtype == np.float16 else x
    return weight * (x - x.mean(0)) / np.sqrt(x.var(0) + eps) + bias


@right("float64", "batch_norm_half")
def half_in_float64(x, weight, bias, eps):
    u = x - x.mean(axis=0, dtype=np.float64)
    return weight * u / np.sqrt(np.mean(u**2, axis=0) + eps) + bias


@right("dtype of every sum", "batch_norm_half")
def half_with_wide_sums(x, weight, bias, eps):
    mean = np.sum(x, axis=0, dtype=np.float64) / len(x)
    var = np.sum((x - mean) ** 2, axis=0) / len(x)
    return (x - mean) * (weight / np.sqrt(var + eps)) + bias


@right("plain numbers", "batch_norm_half")
def half_of_numbers(x, weight, bias, eps):
    y = np.empty(x.shape, np.float32)
    for c, values in enumerate(x.T.tolist()):
        mean = math.fsum(values) / len(values)
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values) + eps)
        y[:, c] = [(v - mean) / std * float(weight[c]) + float(bias[c]) for v in values]
    return y


@right("welford", "batch_norm_half")
def half_by_welford(x, weight, bias, eps):
    rows = np.array(x, dtype=np.float64)
    n, mean, m2 = welford(rows)
    return weight * (rows - mean) / np.sqrt(m2 / n + eps) + bias


@right("einsum", "batch_norm_half")
def half_by_einsum(x, weight, bias, eps):
    u = x - np.einsum("nc->c", x.astype(np.float64)) / len(x)
    var = np.einsum("nc,nc->c", u, u) / len(x)
    return np.einsum("nc,c->nc", u, weight * (var + eps) ** -0.5) + bias


@right("shifted by the first row", "batch_norm_half")
def half_of_shifted(x, weight, bias, eps):
    x = x.astype(np.result_type(x.dtype, np.float32))
    x = x - x[:1]
    mean = np.mean(x, axis=0)
    return weight * ((x - mean) / np.sqrt(np.mean(x * x, axis=0) - mean * mean + eps)) + bias


@right("torch", "batch_norm_half")
def half_by_torch(x, weight, bias, eps):
    import torch

    x, weight, bias = (torch.tensor(a, dtype=torch.float64) for a in (x, weight, bias))
    return torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True, eps=eps).numpy()


@right("column after column", "batch_norm_half")
def half_by_columns(x, weight, bias, eps):
    columns = []
    for c, column in enumerate(np.asarray(x, np.float64).T):
        column = column - column.mean()
        columns.append(weight[c] / np.sqrt(column @ column / len(column) + eps) * column + bias[c])
    return np.stack(columns, axis=1)


# fold_batch_norm


@right("compact", "fold_batch_norm")
def fold(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    if bias is None:
        bias = np.zeros_like(running_mean)
    return weight * scale[:, None, None, None], (bias - running_mean) * scale + bn_bias


@right("loops over everything", "fold_batch_norm")
def fold_in_loops(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    new_weight, new_bias = np.empty_like(weight), []
    for place in np.ndindex(weight.shape):
        scale = bn_weight[place[0]] / math.sqrt(running_var[place[0]] + eps)
        new_weight[place] = weight[place] * scale
    for c in range(len(weight)):
        value = -running_mean[c] if bias is None else bias[c] - running_mean[c]
        new_bias.append(value * bn_weight[c] / math.sqrt(running_var[c] + eps) + bn_bias[c])
    return new_weight, np.array(new_bias)


@right("a diagonal matrix", "fold_batch_norm")
def fold_by_matrix(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = np.diag(bn_weight * (running_var + eps) ** -0.5)
    shift = bn_bias - scale @ running_mean
    new_bias = shift if bias is None else scale @ bias + shift
    return (scale @ weight.reshape(len(weight), -1)).reshape(weight.shape), new_bias


@right("einsum", "fold_batch_norm")
def fold_by_einsum(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    inv_std = 1 / np.sqrt(running_var + eps)
    bias = 0.0 if bias is None else bias
    new_weight = np.einsum("oihw,o,o->oihw", weight, bn_weight, inv_std)
    return new_weight, np.einsum("o,o,o->o", bias - running_mean, bn_weight, inv_std) + bn_bias


@right("transposed", "fold_batch_norm")
def fold_transposed(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    new_bias = bn_bias - running_mean * scale
    if bias is not None:
        new_bias += bias * scale
    return (weight.T * scale).T, new_bias


@right("what batch norm makes of 0 and 1", "fold_batch_norm")
def fold_by_probing(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    def batch_norm(z):
        return bn_weight * (z - running_mean) / np.sqrt(running_var + eps) + bn_bias

    slope = batch_norm(1.0) - batch_norm(0.0)
    return np.moveaxis(np.moveaxis(weight, 0, -1) * slope, -1, 0), batch_norm(0.0 if bias is None else bias)


@right("an extra input of ones", "fold_batch_norm")
def fold_with_an_extra_column(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    outputs = weight.shape[0]
    rows = np.c_[weight.reshape(outputs, -1), np.zeros(outputs) if bias is None else bias]
    rows[:, -1] -= running_mean
    rows *= (bn_weight / np.sqrt(running_var + eps))[:, np.newaxis]
    rows[:, -1] += bn_bias
    return rows[:, :-1].reshape(weight.shape), rows[:, -1]


@right("torch's own", "fold_batch_norm")
def fold_by_torch(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    import torch

    arrays = (weight, bias, running_mean, running_var, eps, bn_weight, bn_bias)
    weight, bias, mean, var, eps, gamma, beta = (torch.tensor(a) if isinstance(a, np.ndarray) else a for a in arrays)
    fused = torch.nn.utils.fusion.fuse_conv_bn_weights(weight, bias, mean, var, eps, gamma, beta)
    return tuple(parameter.detach().numpy() for parameter in fused)


right("returns a list", "fold_batch_norm")(in_a_list(fold))


# FrozenNorms; these are classes

BATCH_NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)


@right("train overridden", "FrozenNorms")
class FrozenNorms(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
        for module in self.modules():
            if isinstance(module, BATCH_NORMS):
                module.requires_grad_(False)
        self.train()

    def forward(self, x):
        return self.network(x)

    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()
        return self


@right("a list of the layers", "FrozenNorms")
class FrozenByList(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
        self.norms = [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        for norm in self.norms:
            norm.training = False
            norm.weight.requires_grad = norm.bias.requires_grad = False

    def forward(self, x):
        return self.network(x)

    def train(self, mode=True):
        module = super().train(mode)
        [norm.train(False) for norm in self.norms]
        return module


@right("apply", "FrozenNorms")
class FrozenByApply(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.inner = network.apply(self.freeze)

    @staticmethod
    def freeze(module):
        if "BatchNorm" in type(module).__name__:
            module.eval().requires_grad_(False)

    def forward(self, *inputs):
        return self.inner(*inputs)

    def train(self, mode=True):
        return super().train(mode).apply(self.freeze)


@right("recursion over children", "FrozenNorms")
class FrozenByRecursion(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
        self._freeze(self)

    def _freeze(self, module):
        for child in module.children():
            if isinstance(child, BATCH_NORMS):
                child.eval()
                for parameter in child.parameters():
                    parameter.requires_grad = False
            else:
                self._freeze(child)

    def forward(self, x):
        return self.network.forward(x)

    def train(self, mode=True):
        super().train(mode)
        self._freeze(self)
        return self


@right("layers that ignore train", "FrozenNorms")
class FrozenForGood(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
        for norm in network.modules():
            if isinstance(norm, BATCH_NORMS):
                norm.eval()
                norm.requires_grad_(False)
                norm.train = lambda mode=True, norm=norm: norm

    def forward(self, x):
        return self.network(x)


@right("frozen in every forward", "FrozenNorms")
class FrozenInForward(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.add_module("network", network)

    def forward(self, x):
        for module in self.modules():
            if isinstance(module, BATCH_NORMS):
                module.train(False).requires_grad_(False)
        return self.network(x)


@right("a copy of the network", "FrozenNorms")
class FrozenCopy(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.body = copy.deepcopy(network)
        for name, parameter in self.body.named_parameters():
            if isinstance(self.body.get_submodule(name.rpartition(".")[0]), BATCH_NORMS):
                parameter.requires_grad_(False)
        self.train(self.training)

    def forward(self, x):
        return self.body(x)

    def train(self, mode=True):
        for module in self.modules():
            module.training = mode and not isinstance(module, BATCH_NORMS)
        return self


@right("a stack of modules", "FrozenNorms")
class FrozenByStack(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
        self.train(True)

    def train(self, mode=True):
        self.training = mode
        stack = [self.network]
        while stack:
            module = stack.pop()
            frozen = isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
            module.training = mode and not frozen
            if frozen:
                module.weight.requires_grad_(False)
                module.bias.requires_grad_(False)
            stack += module.children()
        return self

    def forward(self, x):
        return self.network(x)


# parameter_groups


@right("by the number of axes", "parameter_groups")
def groups_by_axes(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


@right("by the classes of the layers", "parameter_groups")
def groups_by_classes(model, weight_decay):
    decay, rest = [], []
    for module in model.modules():
        norm = isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        for name, parameter in module.named_parameters(recurse=False):
            (rest if norm or name == "bias" else decay).append(parameter)
    return [{"params": rest, "weight_decay": 0}, {"params": decay, "weight_decay": weight_decay}]


@right("one part after the other", "parameter_groups")
def groups_by_recursion(model, weight_decay):
    groups = [{"params": [], "weight_decay": weight_decay}, {"params": [], "weight_decay": 0.0}]

    def visit(module):
        for child in module.children():
            visit(child)
        matrices = isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
        for parameter in module.parameters(recurse=False):
            groups[not matrices or parameter is module.bias]["params"].append(parameter)

    visit(model)
    return groups


@right("a group for each parameter", "parameter_groups")
def groups_of_one(model, weight_decay):
    return [{"params": p, "weight_decay": weight_decay * (len(p.shape) > 1)} for p in model.parameters()]


@right("what is left over, as a tuple", "parameter_groups")
def groups_by_difference(model, weight_decay):
    decay = {module.weight for module in model.modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)}
    rest = set(model.parameters()) - decay
    return {"params": rest, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}


@right("three groups, with names", "parameter_groups")
def groups_by_names(model, weight_decay):
    norms = [f"{n}." for n, m in model.named_modules() if type(m).__name__.startswith("BatchNorm")]
    rates = {"weights": weight_decay, "biases": 0.0, "norms": 0.0}
    groups = {name: {"params": [], "weight_decay": rate, "label": name} for name, rate in rates.items()}
    for name, parameter in model.named_parameters():
        kind = "norms" if name.startswith(tuple(norms)) else "biases" if name.endswith("bias") else "weights"
        groups[kind]["params"].append(parameter)
    return list(groups.values())


@right("pairs of name and parameter", "parameter_groups")
def groups_of_pairs(model, weight_decay):
    groups = {weight_decay: [], 0.0: []}
    for pair in model.named_parameters():
        groups[weight_decay if pair[1].dim() > 1 else 0.0].append(pair)
    return [{"params": pairs, "weight_decay": rate} for rate, pairs in groups.items()]


@right("sorted and grouped, with generators", "parameter_groups")
def groups_by_itertools(model, weight_decay):
    matrix = lambda parameter: parameter.dim() >= 2
    ordered = sorted(model.parameters(), key=matrix)
    groups = [(key, tuple(members)) for key, members in itertools.groupby(ordered, matrix)]
    return [{"params": (p for p in members), "weight_decay": weight_decay * key} for key, members in groups]


# layer_norm_forward


def as_rows(x):
    """(*, D) as a table with one row for each position."""
    return x.reshape(-1, x.shape[-1])


@right("compact", "layer_norm_forward")
def layer_norm(x, weight, bias, eps):
    return weight * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) + bias


@right("plain numbers, row by row", "layer_norm_forward")
def layer_norm_of_numbers(x, weight, bias, eps):
    y = np.empty(x.shape)
    for place in itertools.product(*map(range, x.shape[:-1])):
        row = x[place].tolist()
        mean, var = statistics.fmean(row), statistics.pvariance(row)
        for d, value in enumerate(row):
            y[(*place, d)] = weight[d] * (value - mean) / math.sqrt(var + eps) + bias[d]
    return y


@right("batch norm of the transposed table", "layer_norm_forward")
def layer_norm_by_batch_norm(x, weight, bias, eps):
    return (normalize(as_rows(x).T, eps).T * weight + bias).reshape(x.shape)


@right("centring matrix", "layer_norm_forward")
def layer_norm_by_a_matrix(x, weight, bias, eps):
    d = x.shape[-1]
    u = x.astype(np.float64) @ (np.eye(d) - 1 / d)
    return u * weight / np.sqrt(np.einsum("...d,...d->...", u, u)[..., None] / d + eps) + bias


@right("one row after the other, along an axis", "layer_norm_forward")
def layer_norm_along_an_axis(x, weight, bias, eps):
    return np.apply_along_axis(lambda row: weight * (row - row.mean()) / np.hypot(row.std(), eps**0.5) + bias, -1, x)


@right("welford", "layer_norm_forward")
def layer_norm_by_welford(x, weight, bias, eps):
    m, mean, m2 = welford(np.moveaxis(x, -1, 0))
    return weight * ((x - mean[..., None]) / np.sqrt(m2 / m + eps)[..., None]) + bias


@right("pairwise differences", "layer_norm_forward")
def layer_norm_by_pairs(x, weight, bias, eps):
    differences = x[..., :, None] - x[..., None, :]
    var = (differences**2).mean((-2, -1))[..., None] / 2
    return differences.mean(-1) * (var + eps) ** -0.5 * weight + bias


@right("torch's function", "layer_norm_forward")
def layer_norm_by_torch(x, weight, bias, eps):
    x, weight, bias = map(torch.tensor, (x, weight, bias))
    return torch.nn.functional.layer_norm(x, weight.shape, weight, bias, eps).numpy()


@right("torch's batch norm, with the rows as channels", "layer_norm_forward")
def layer_norm_by_torch_batch_norm(x, weight, bias, eps):
    rows = torch.tensor(as_rows(x))[None]
    x_hat = torch.nn.functional.batch_norm(rows, None, None, training=True, eps=eps)[0]
    return x_hat.numpy().reshape(x.shape) * weight + bias


# layer_norm_backward


def complex_steps_along_rows(function, dy, x):
    """Σ dy · ∂f/∂x for a function of single rows: the value in one column is nudged in all rows at once."""
    nudges = 1e-30j * np.eye(x.shape[-1])
    return np.stack([(dy * function(x + nudge).imag).sum(-1) / 1e-30 for nudge in nudges], -1)


@right("compact", "layer_norm_backward")
def layer_norm_gradient(dy, x, weight, eps):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    inv_std = 1 / np.sqrt(var + eps)
    x_hat, dx_hat = (x - mean) * inv_std, dy * weight
    dx = inv_std * (dx_hat - dx_hat.mean(-1, keepdims=True) - x_hat * (dx_hat * x_hat).mean(-1, keepdims=True))
    axes = tuple(range(x.ndim - 1))
    return dx, (dy * x_hat).sum(axes), dy.sum(axes)


@right("batch norm of the transposed table, without its γ", "layer_norm_backward")
def layer_norm_gradient_by_batch_norm(dy, x, weight, eps):
    rows, g = as_rows(x).T, as_rows(dy * weight).T
    dx = backward(g, rows, np.ones(rows.shape[1], x.dtype), eps)[0].T.reshape(x.shape)
    x_hat = normalize(rows, eps).T
    return dx, np.einsum("rd,rd->d", as_rows(dy), x_hat), as_rows(dy).sum(0)


@right("stages", "layer_norm_backward")
def layer_norm_gradient_by_stages(dy, x, weight, eps):
    d, keep = x.shape[-1], {"axis": -1, "keepdims": True}
    u = x - x.mean(**keep)
    std = np.sqrt((u * u).mean(**keep) + eps)
    dx_hat = dy * weight
    dstd = -(dx_hat * u).sum(**keep) / std**2
    dvar = dstd / (2 * std)
    du = dx_hat / std + 2 * u * dvar / d
    dx = du - du.sum(**keep) / d
    return dx, as_rows(dy * u / std).sum(0), as_rows(dy).sum(0)


@right("Jacobian of each row", "layer_norm_backward")
def layer_norm_gradient_by_jacobians(dy, x, weight, eps):
    d = x.shape[-1]
    dx, dweight = np.zeros(x.shape), np.zeros(d)
    for place in np.ndindex(x.shape[:-1]):
        row = x[place].astype(np.float64)
        std = np.sqrt(row.var() + eps)
        x_hat = (row - row.mean()) / std
        jacobian = np.diag(weight) @ (np.eye(d) - 1 / d - np.outer(x_hat, x_hat) / d) / std
        dx[place] = dy[place] @ jacobian
        dweight += dy[place] * x_hat
    return [dx, dweight, np.add.reduce(as_rows(dy))]


@right("plain numbers", "layer_norm_backward")
def layer_norm_gradient_of_numbers(dy, x, weight, eps):
    d = x.shape[-1]
    dx, dweight, dbias = np.zeros(x.shape), [0.0] * d, [0.0] * d
    for place in itertools.product(*map(range, x.shape[:-1])):
        row, g = x[place].tolist(), dy[place].tolist()
        mean = math.fsum(row) / d
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in row) / d + eps)
        x_hat = [(value - mean) / std for value in row]
        c1 = math.fsum(g[j] * weight[j] for j in range(d)) / d
        c2 = math.fsum(g[j] * weight[j] * x_hat[j] for j in range(d)) / d
        for j in range(d):
            dx[(*place, j)] = (g[j] * weight[j] - c1 - x_hat[j] * c2) / std
            dweight[j] += g[j] * x_hat[j]
            dbias[j] += g[j]
    return dx, np.array(dweight), np.array(dbias)


@right("complex step", "layer_norm_backward")
def layer_norm_gradient_by_complex_steps(dy, x, weight, eps):
    def x_hat(x):
        u = x - x.mean(-1, keepdims=True)
        return u / np.sqrt((u**2).mean(-1, keepdims=True) + eps)

    x = x.astype(np.float64)
    axes = tuple(range(x.ndim - 1))
    return complex_steps_along_rows(x_hat, dy * weight, x), (dy * x_hat(x)).sum(axes), dy.sum(axes)


@right("autograd of torch's function", "layer_norm_backward")
def layer_norm_gradient_by_autograd(dy, x, weight, eps):
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, weight, np.zeros_like(weight))]
    y = torch.nn.functional.layer_norm(leaves[0], weight.shape, *leaves[1:], eps)
    return tuple(grad.numpy() for grad in torch.autograd.grad(y, leaves, torch.tensor(dy)))


@right("torch's kernel", "layer_norm_backward")
def layer_norm_gradient_by_a_kernel(dy, x, weight, eps):
    dy, x, weight = map(torch.tensor, (dy, x, weight))
    _, mean, inv_std = torch.native_layer_norm(x, weight.shape, weight, None, eps)
    kernel = torch.ops.aten.native_layer_norm_backward
    grads = kernel(dy, x, weight.shape, mean, inv_std, weight, torch.zeros_like(weight), [True, True, True])
    return tuple(grad.numpy() for grad in grads)


# group_norm_forward


@right("an axis for the groups", "group_norm_forward")
def group_norm(x, num_groups, weight, bias, eps):
    grouped = x.reshape(len(x), num_groups, -1)
    mean, var = grouped.mean(2, keepdims=True), grouped.var(2, keepdims=True)
    x_hat = ((grouped - mean) / np.sqrt(var + eps)).reshape(x.shape)
    return weight[:, None, None] * x_hat + bias[:, None, None]


@right("loops over images and groups", "group_norm_forward")
def group_norm_in_loops(x, num_groups, weight, bias, eps):
    y, size = np.empty_like(x), x.shape[1] // num_groups
    for n, start in itertools.product(range(len(x)), range(0, x.shape[1], size)):
        group = slice(start, start + size)
        values = x[n, group]
        x_hat = (values - values.mean()) / (values.var() + eps) ** 0.5
        y[n, group] = x_hat * weight[group, None, None] + bias[group, None, None]
    return y


@right("split and joined", "group_norm_forward")
def group_norm_of_parts(x, num_groups, weight, bias, eps):
    axes, parts = (1, 2, 3), []
    for part in np.split(x, num_groups, axis=1):
        u = part - part.mean(axes, keepdims=True)
        parts.append(u / np.sqrt(np.square(u).mean(axes, keepdims=True) + eps))
    return np.concatenate(parts, axis=1) * across(weight, x) + across(bias, x)


@right("a matrix of memberships", "group_norm_forward")
def group_norm_by_membership(x, num_groups, weight, bias, eps):
    member = np.repeat(np.eye(num_groups), x.shape[1] // num_groups, axis=1)  # (G, C)
    values = x.size / len(x) / num_groups
    u = x - np.einsum("nchw,gc,gk->nk", x.astype(np.float64), member, member)[..., None, None] / values
    var = np.einsum("nchw,nchw,gc,gk->nk", u, u, member, member) / values
    return np.einsum("nchw,nc,c->nchw", u, (var + eps) ** -0.5, weight) + bias[:, None, None]


@right("plain numbers", "group_norm_forward")
def group_norm_of_numbers(x, num_groups, weight, bias, eps):
    channels, y = x.shape[1], np.empty(x.shape)
    group_of = [c * num_groups // channels for c in range(channels)]
    for n, image in enumerate(x):
        for g in range(num_groups):
            own = [c for c in range(channels) if group_of[c] == g]
            values = [value for c in own for value in image[c].ravel().tolist()]
            mean, std = statistics.fmean(values), math.sqrt(statistics.pvariance(values) + eps)
            for c in own:
                y[n, c] = [[weight[c] * (v - mean) / std + bias[c] for v in line] for line in image[c].tolist()]
    return y


@right("channels last", "group_norm_forward")
def group_norm_channels_last(x, num_groups, weight, bias, eps):
    images = np.moveaxis(x, 1, -1)
    grouped = images.reshape(*images.shape[:3], num_groups, -1)
    u = grouped - grouped.mean((1, 2, 4), keepdims=True)
    x_hat = u / np.sqrt((u * u).mean((1, 2, 4), keepdims=True) + eps)
    return np.moveaxis(x_hat.reshape(images.shape) * weight + bias, -1, 1)


@right("batch norm with every group as a channel", "group_norm_forward")
def group_norm_by_batch_norm(x, num_groups, weight, bias, eps):
    x_hat = normalize(x.reshape(1, len(x) * num_groups, -1), eps).reshape(x.shape)
    return weight.reshape(1, -1, 1, 1) * x_hat + bias.reshape(1, -1, 1, 1)


@right("torch's function", "group_norm_forward")
def group_norm_by_torch(x, num_groups, weight, bias, eps):
    x, weight, bias = map(torch.tensor, (x, weight, bias))
    return torch.nn.functional.group_norm(x, num_groups, weight, bias, eps).numpy()


# instance_norm_forward


@right("group norm with a group for each channel", "instance_norm_forward")
def instance_norm(x, weight, bias, eps):
    return group_norm(x, x.shape[1], weight, bias, eps)


@right("means over the positions", "instance_norm_forward")
def instance_norm_over_positions(x, weight, bias, eps):
    mean, var = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    return weight[:, None, None] * (x - mean) / np.sqrt(var + eps) + bias[:, None, None]


@right("loops over images and channels", "instance_norm_forward")
def instance_norm_in_loops(x, weight, bias, eps):
    y = np.zeros_like(x)
    for n in range(len(x)):
        for c, plane in enumerate(x[n]):
            y[n, c] = weight[c] * (plane - np.mean(plane)) / math.sqrt(np.var(plane) + eps) + bias[c]
    return y


@right("batch norm, image by image", "instance_norm_forward")
def instance_norm_by_batch_norm(x, weight, bias, eps):
    return np.concatenate([forward_images_as_a_table(image[None], weight, bias, eps) for image in x])


@right("layer norm of the planes", "instance_norm_forward")
def instance_norm_by_layer_norm(x, weight, bias, eps):
    planes = x.reshape(*x.shape[:2], -1)
    ones = np.ones(planes.shape[-1], x.dtype)
    x_hat = layer_norm(planes, ones, 0 * ones, eps)
    return (np.einsum("ncp,c->ncp", x_hat, weight) + bias[:, None]).reshape(x.shape)


@right("welford", "instance_norm_forward")
def instance_norm_by_welford(x, weight, bias, eps):
    pixels = x.reshape(*x.shape[:2], -1)
    m, mean, m2 = welford(np.moveaxis(pixels, -1, 0))
    x_hat = (x - mean[..., None, None]) / np.sqrt(m2 / m + eps)[..., None, None]
    return x_hat * across(weight, x) + across(bias, x)


@right("torch's function", "instance_norm_forward")
def instance_norm_by_torch(x, weight, bias, eps):
    x, weight, bias = map(torch.tensor, (x, weight, bias))
    return torch.nn.functional.instance_norm(x, weight=weight, bias=bias, eps=eps).numpy()


# rms_norm_forward


@right("compact", "rms_norm_forward")
def rms_norm(x, weight, eps):
    return weight * x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


@right("plain numbers, row by row", "rms_norm_forward")
def rms_norm_of_numbers(x, weight, eps):
    y = np.empty(x.shape)
    for place in np.ndindex(x.shape[:-1]):
        row = x[place].tolist()
        rms = math.sqrt(math.fsum(value * value for value in row) / len(row) + eps)
        y[place] = [gain * value / rms for gain, value in zip(weight, row, strict=True)]
    return y


@right("length of the row", "rms_norm_forward")
def rms_norm_by_length(x, weight, eps):
    d = x.shape[-1]
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return math.sqrt(d) * weight * x / np.hypot(length, math.sqrt(d * eps))


@right("eps as one more value", "rms_norm_forward")
def rms_norm_with_a_column_for_eps(x, weight, eps):
    d = x.shape[-1]
    longer = np.append(x, np.full((*x.shape[:-1], 1), math.sqrt(d * eps)), axis=-1)
    return x / np.linalg.norm(longer, axis=-1)[..., None] * (weight * d**0.5)


@right("einsum", "rms_norm_forward")
def rms_norm_by_einsum(x, weight, eps):
    inv = (np.einsum("...d,...d->...", x, x) / x.shape[-1] + eps) ** -0.5
    return np.einsum("...d,...,d->...d", x, inv, weight)


@right("mean and variance", "rms_norm_forward")
def rms_norm_of_moments(x, weight, eps):
    square = x.var(-1, keepdims=True) + x.mean(-1, keepdims=True) ** 2
    return x * (square + eps) ** -0.5 * weight


@right("scaled by the largest value", "rms_norm_forward")
def rms_norm_of_scaled(x, weight, eps):
    largest = np.abs(x).max(-1, keepdims=True) + 1
    scaled = x / largest
    return scaled / np.sqrt((scaled**2).mean(-1, keepdims=True) + eps / largest**2) * weight


@right("torch's function", "rms_norm_forward")
def rms_norm_by_torch(x, weight, eps):
    x, weight = torch.tensor(x), torch.tensor(weight)
    return torch.nn.functional.rms_norm(x, weight.shape, weight, eps).numpy()


# rms_norm_backward


@right("compact", "rms_norm_backward")
def rms_norm_gradient(dy, x, weight, eps):
    inv = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
    x_hat, dx_hat = x * inv, dy * weight
    dx = inv * (dx_hat - x_hat * (dx_hat * x_hat).mean(-1, keepdims=True))
    return dx, as_rows(dy * x_hat).sum(0)


@right("in terms of x", "rms_norm_backward")
def rms_norm_gradient_of_x(dy, x, weight, eps):
    r = (np.square(x).mean(-1) + eps) ** -0.5
    g = dy * weight
    inner = np.einsum("...d,...d->...", g, x) / x.shape[-1]
    dx = g * r[..., None] - x * (r**3 * inner)[..., None]
    return dx, np.einsum("rd,rd,r->d", as_rows(dy), as_rows(x), r.ravel())


@right("stages", "rms_norm_backward")
def rms_norm_gradient_by_stages(dy, x, weight, eps):
    d, keep = x.shape[-1], {"axis": -1, "keepdims": True}
    rms = np.sqrt((x * x).sum(**keep) / d + eps)
    dx_hat = dy * weight
    drms = -(dx_hat * x).sum(**keep) / rms**2
    dsquare = drms / (2 * rms)
    dx = dx_hat / rms + 2 * x * dsquare / d
    return dx, (dy * x / rms).sum(tuple(range(x.ndim - 1)))


@right("Jacobian of each row", "rms_norm_backward")
def rms_norm_gradient_by_jacobians(dy, x, weight, eps):
    d = x.shape[-1]
    dx, dweight = np.zeros(x.shape), np.zeros(d)
    for place in np.ndindex(x.shape[:-1]):
        rms = np.sqrt(x[place].astype(np.float64) @ x[place] / d + eps)
        x_hat = x[place] / rms
        dx[place] = (np.eye(d) - np.outer(x_hat, x_hat) / d) @ (weight * dy[place]) / rms
        dweight += dy[place] * x_hat
    return dx, dweight


@right("plain numbers", "rms_norm_backward")
def rms_norm_gradient_of_numbers(dy, x, weight, eps):
    d = x.shape[-1]
    dx, dweight = np.zeros(x.shape), np.zeros(d)
    for place in itertools.product(*map(range, x.shape[:-1])):
        row, g = x[place].tolist(), (weight * dy[place]).tolist()
        square = math.fsum(value**2 for value in row) / d + eps
        shared = math.fsum(a * b for a, b in zip(g, row, strict=True)) / d / square
        for j in range(d):
            dx[(*place, j)] = (g[j] - row[j] * shared) / math.sqrt(square)
            dweight[j] += dy[(*place, j)] * row[j] / math.sqrt(square)
    return dx, dweight


@right("complex step", "rms_norm_backward")
def rms_norm_gradient_by_complex_steps(dy, x, weight, eps):
    def x_hat(x):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)

    x = x.astype(np.float64)
    return complex_steps_along_rows(x_hat, dy * weight, x), as_rows(dy * x_hat(x)).sum(0)


@right("autograd of torch's function", "rms_norm_backward")
def rms_norm_gradient_by_autograd(dy, x, weight, eps):
    x, weight = (torch.tensor(a, requires_grad=True) for a in (x, weight))
    torch.nn.functional.rms_norm(x, weight.shape, weight, eps).backward(torch.tensor(dy))
    return x.grad.numpy(), weight.grad.numpy()


@right("torch's vjp of its own code", "rms_norm_backward")
def rms_norm_gradient_by_vjp(dy, x, weight, eps):
    def forward(x, weight):
        return weight * x * (x.square().mean(-1, keepdim=True) + eps).rsqrt()

    dy, x, weight = map(torch.tensor, (dy, x, weight))
    return [grad.numpy() for grad in torch.func.vjp(forward, x, weight)[1](dy)]


# masked_batch_norm


@right("a table of the data", "masked_batch_norm")
def masked_by_table(x, mask, weight, bias, eps):
    rows = x[mask]
    y = np.zeros_like(x)
    y[mask] = weight * (rows - rows.mean(0)) / np.sqrt(rows.var(0) + eps) + bias
    return y


@right("np.where", "masked_batch_norm")
def masked_by_where(x, mask, weight, bias, eps):
    there, n = mask[..., np.newaxis], mask.sum()
    mean = np.where(there, x, 0).sum(axis=(0, 1)) / n
    centered = np.where(there, x - mean, 0)
    var = (centered**2).sum(axis=(0, 1)) / n
    return np.where(there, weight * centered / np.sqrt(var + eps) + bias, 0)


@right("loops", "masked_batch_norm")
def masked_in_loops(x, mask, weight, bias, eps):
    y = np.zeros(x.shape)
    places = [(n, i) for n, row in enumerate(mask) for i, there in enumerate(row) if there]
    for c in range(x.shape[2]):
        values = [float(x[n, i, c]) for n, i in places]
        mean = sum(values) / len(values)
        std = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values) + eps)
        for (n, i), value in zip(places, values, strict=True):
            y[n, i, c] = weight[c] * (value - mean) / std + bias[c]
    return y


@right("NaN in the padding", "masked_batch_norm")
def masked_by_nan(x, mask, weight, bias, eps):
    x = np.where(mask[:, :, None], x, np.nan)
    y = (x - np.nanmean(x, (0, 1))) / np.sqrt(np.nanvar(x, (0, 1)) + eps) * weight + bias
    y[~mask] = 0
    return y


@right("a masked array", "masked_batch_norm")
def masked_by_numpy(x, mask, weight, bias, eps):
    x = np.ma.array(x, mask=np.repeat(~mask[:, :, None], x.shape[2], axis=2))
    y = (x - x.mean(axis=(0, 1))) / np.sqrt(x.var(axis=(0, 1)).data + eps) * weight + bias
    return y.filled(0)


@right("where=", "masked_batch_norm")
def masked_by_argument(x, mask, weight, bias, eps):
    there = np.broadcast_to(mask[..., None], x.shape)
    mean, var = x.mean((0, 1), where=there), x.var((0, 1), where=there)
    y = np.zeros_like(x)
    np.copyto(y, (x - mean) * (weight / np.sqrt(var + eps)) + bias, where=there)
    return y


@right("einsum with weights", "masked_batch_norm")
def masked_by_einsum(x, mask, weight, bias, eps):
    share = mask / mask.sum()
    clean = np.nan_to_num(x * 1.0)
    clean[~mask] = 0
    mean = np.einsum("nl,nlc->c", share, clean)
    centered = clean - mean
    var = np.einsum("nl,nlc,nlc->c", share, centered, centered)
    scale = weight / np.sqrt(var + eps)
    return np.einsum("nl,nlc->nlc", mask, centered * scale + bias)


@right("Welford", "masked_batch_norm")
def masked_by_welford(x, mask, weight, bias, eps):
    flat, there = x.reshape(-1, x.shape[-1]), mask.ravel()
    n, mean, m2 = welford(flat[there])
    y = np.zeros_like(flat)
    y[there] = bias + weight * (flat[there] - mean) / np.sqrt(m2 / n + eps)
    return y.reshape(x.shape)


@right("sequences of their own length", "masked_batch_norm")
def masked_by_list(x, mask, weight, bias, eps):
    data = np.concatenate([sequence[there] for sequence, there in zip(x, mask, strict=True)])
    mean, std = np.mean(data, axis=0), np.sqrt(np.var(data, axis=0) + eps)
    normal = iter(weight * (data - mean) / std + bias)
    empty = np.zeros(x.shape[2])
    return np.array([[next(normal) if there else empty for there in row] for row in mask])


@right("PyTorch", "masked_batch_norm")
def masked_by_torch(x, mask, weight, bias, eps):
    y, there = torch.zeros(x.shape, dtype=torch.float64), torch.from_numpy(mask)
    parameters = (torch.from_numpy(np.array(value, float)) for value in (weight, bias))
    rows = torch.from_numpy(np.array(x, float))[there]
    y[there] = torch.nn.functional.batch_norm(rows, None, None, *parameters, training=True, eps=eps)
    return y.numpy()


# choose_norm

FITTING = {
    "phone": "batch norm",
    "sensors": "group norm",
    "text": "layer norm",
    "style": "instance norm",
    "privacy": "group norm",
    "finetuning": "frozen batch norm",
}


right("a dict", "choose_norm")(lambda situation: FITTING[situation])


@right("if", "choose_norm")
def norm_by_if(situation):
    if situation == "phone":
        return "batch norm"
    if situation in ("sensors", "privacy"):
        return "group norm"
    if situation == "text":
        return "RMS norm"
    if situation == "style":
        return "instance norm"
    return "frozen batch norm"


@right("match", "choose_norm")
def norm_by_match(situation):
    match situation:
        case "text" | "privacy":
            return "layer norm"
        case "sensors":
            return "Group Norm"
        case "style":
            return "Instance Norm"
        case "finetuning":
            return "Frozen batch norm"
        case _:
            return "Batch norm"


@right("names of classes", "choose_norm")
def norm_as_class(situation):
    names = "BatchNorm2d GroupNorm RMSNorm InstanceNorm2d RMSNorm FrozenBatchNorm2d"
    return dict(zip(FITTING, names.split(), strict=True))[situation]


@right("names with their module", "choose_norm")
def norm_of_torch(situation):
    where = {"phone": "BatchNorm2d", "sensors": "GroupNorm", "style": "InstanceNorm2d", "finetuning": None}
    name = where.get(situation, "LayerNorm")
    return "batch norm (frozen)" if name is None else f"torch.nn.{name}"


@right("written out, and short", "choose_norm")
def norm_in_other_words(situation):
    words = ["BN", "GN", "LN", "IN", "group-normalization", "frozen batch normalisation"]
    return words[list(FITTING).index(situation)]


@right("spelled as they come", "choose_norm")
def norm_in_any_spelling(situation):
    return f" {FITTING[situation].upper().replace(' ', '_')}\n"


@right("a text of NumPy", "choose_norm")
def norm_from_an_array(situation):
    return np.array(list(FITTING.values()))[list(FITTING).index(situation)]


# unfused_bytes


@right("a loop", "unfused_bytes")
def unfused_in_a_loop(shape, itemsize, calls):
    arrays = 0
    for inputs, _ in calls:
        arrays += len(set(inputs)) + 1
    return arrays * math.prod(shape) * itemsize


@right("np.prod", "unfused_bytes")
def unfused_by_prod(shape, itemsize, calls):
    return np.prod(shape) * itemsize * np.sum([len({*inputs}) + 1 for inputs, output in calls])


@right("one call after the other, to the end of a copied list", "unfused_bytes")
def unfused_with_a_stack(shape, itemsize, calls):
    waiting, moved = list(calls), 0
    while waiting:
        inputs, _ = waiting.pop()
        moved += (1 + len(dict.fromkeys(inputs))) * itemsize * np.empty(shape).size
    return moved


@right("an array of the shape", "unfused_bytes")
def unfused_by_nbytes(shape, itemsize, calls):
    one = np.zeros(shape, dtype=f"V{itemsize}")
    return sum(one.nbytes for inputs, output in calls for _ in (*set(inputs), output))


@right("recursion", "unfused_bytes")
def unfused_by_recursion(shape, itemsize, calls):
    if not calls:
        return 0
    (inputs, _), *rest = calls
    return (len(set(inputs)) + 1) * functools.reduce(int.__mul__, shape) * itemsize + unfused_by_recursion(
        shape, itemsize, rest
    )


@right("names that are sorted", "unfused_bytes")
def unfused_by_unique(shape, itemsize, calls):
    size = 1
    for length in shape:
        size *= length
    reads = sum(np.unique(inputs).size for inputs, _ in calls)
    return float(itemsize * size * (reads + len(calls)))


@right("other names", "unfused_bytes")
def unfused_with_other_names(dims, bytes_per_value, steps):
    operands = [set(step[0]) for step in steps]
    return int(sum(map(len, operands), start=len(steps)) * np.prod(dims) * bytes_per_value)


# fused_bytes


@right("sets", "fused_bytes")
def fused_by_sets(shape, itemsize, calls):
    made = {output for _, output in calls}
    read = {name for inputs, _ in calls for name in inputs} - made
    return (len(read) + 1) * math.prod(shape) * itemsize


@right("in the order of the calls", "fused_bytes")
def fused_in_order(shape, itemsize, calls):
    at_hand, moved = [], 1
    for inputs, output in calls:
        for name in inputs:
            if name not in at_hand:
                at_hand.append(name)
                moved += 1
        at_hand.append(output)
    return moved * np.prod(shape) * itemsize


@right("from the end", "fused_bytes")
def fused_from_the_end(shape, itemsize, calls):
    needed = set()
    for inputs, output in reversed(calls):
        needed.discard(output)
        needed.update(inputs)
    return (1 + len(needed)) * itemsize * int(np.prod(shape))


@right("a dictionary of where things are", "fused_bytes")
def fused_by_places(shape, itemsize, calls):
    place = {}
    for inputs, output in calls:
        for name in inputs:
            place.setdefault(name, "memory")
        place[output] = "loop"
    place[calls[-1][1]] = "memory"
    return sum(where == "memory" for where in place.values()) * itemsize * math.prod(shape)


@right("what is saved taken away", "fused_bytes")
def fused_by_savings(shape, itemsize, calls):
    one = itemsize * math.prod(shape)
    total = unfused_in_a_loop(shape, itemsize, calls)
    made, seen = {output for _, output in calls}, set()
    for inputs, _ in calls:
        for name in set(inputs):
            if name in made or name in seen:
                total -= one
            seen.add(name)
    return total - one * (len(calls) - 1)


@right("NumPy's sets", "fused_bytes")
def fused_by_numpy(shape, itemsize, calls):
    outputs = np.array([output for _, output in calls])
    inputs = np.concatenate([names for names, _ in calls])
    return np.zeros(shape, bool).size * itemsize * (np.setdiff1d(inputs, outputs).size + 1)


@right("any", "fused_bytes")
def fused_by_any(shape, itemsize, calls):
    names = [name for inputs, _ in calls for name in inputs]
    outside = [n for k, n in enumerate(names) if n not in names[:k] and not any(n == made for _, made in calls)]
    return math.prod((*shape, itemsize, len(outside) + 1))


# predict_time


@right("max", "predict_time")
def time_by_max(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    return max(flops / peak_flops, bytes_moved * copy_seconds / (2 * copied_bytes))


@right("bandwidth first", "predict_time")
def time_by_bandwidth(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = (copied_bytes + copied_bytes) / copy_seconds
    memory, arithmetic = bytes_moved / bandwidth, flops / peak_flops
    if memory > arithmetic:
        return memory
    return arithmetic


@right("np.maximum", "predict_time")
def time_by_numpy(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    return np.maximum(flops / np.float64(peak_flops), bytes_moved / (2 * copied_bytes / copy_seconds))


@right("arithmetic intensity", "predict_time")
def time_by_intensity(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = 2 * copied_bytes / copy_seconds
    if flops > bytes_moved * peak_flops / bandwidth:  # to the right of the ridge
        return flops / peak_flops
    return bytes_moved / bandwidth


@right("attainable speed", "predict_time")
def time_by_speed(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = 2 * copied_bytes / copy_seconds
    if flops == 0:
        return bytes_moved / bandwidth
    intensity = flops / bytes_moved if bytes_moved else float("inf")
    return flops / min(peak_flops, intensity * bandwidth)


@right("as many copies", "predict_time")
def time_by_copies(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    copies = bytes_moved / copied_bytes / 2
    times = sorted([flops / peak_flops, copies * copy_seconds])
    return times.pop()


@right("whole and half of a sum", "predict_time")
def time_by_half_sum(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    one, other = flops / peak_flops, bytes_moved / copied_bytes * copy_seconds / 2
    return (one + other + abs(one - other)) / 2


@right("milliseconds in between", "predict_time")
def time_by_milliseconds(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    gigabytes_per_second = 2 * copied_bytes / 1e9 / copy_seconds
    milliseconds = [1e3 * flops / peak_flops, 1e3 * (bytes_moved / 1e9) / gigabytes_per_second]
    return np.max(milliseconds) / 1e3


# blocked_statistics


@right("merged block by block", "blocked_statistics")
def statistics_by_merging(x, block):
    count, mean, m2 = 0, 0.0, 0.0
    for start in range(0, len(x), block):
        part = x[start : start + block].astype(np.float64)
        n, part_mean = part.size // part.shape[1], part.mean(axis=(0, 2))
        part_m2 = ((part - part_mean[:, None]) ** 2).sum(axis=(0, 2))
        delta = part_mean - mean
        mean = mean + delta * n / (count + n)
        m2 = m2 + part_m2 + delta**2 * count * n / (count + n)
        count += n
    return mean, m2 / count


@right("sums of shifted values", "blocked_statistics")
def statistics_of_shifted(x, block):
    shift = np.array(x[0, :, 0])[:, None]
    parts = (x[i : i + block] - shift for i in range(0, len(x), block))
    sums = [(part.sum((0, 2)), np.einsum("ncl,ncl->c", part, part)) for part in parts]
    first, second = np.sum(sums, axis=0) / (x.shape[0] * x.shape[2])
    return first + shift[:, 0], second - first**2


@right("all blocks, then their statistics", "blocked_statistics")
def statistics_of_statistics(x, block):
    parts = np.split(x, range(block, len(x), block))
    found = [(len(part), part.mean((0, 2), dtype=float), part.var((0, 2), dtype=float)) for part in parts]
    counts, means, variances = (np.array(values) for values in zip(*found, strict=True))
    mean = np.average(means, axis=0, weights=counts)
    return mean, np.average(variances + (means - mean) ** 2, axis=0, weights=counts)


@right("parts of equal length", "blocked_statistics")
def statistics_of_equal_parts(x, block):
    found = [
        (part.size // part.shape[1], part.mean((0, 2), dtype=float), part.var((0, 2), dtype=float))
        for part in np.array_split(x, math.ceil(len(x) / block))
    ]
    count = sum(n for n, _, _ in found)
    mean = sum(n * m for n, m, _ in found) / count
    return [mean, sum(n * (v + (m - mean) ** 2) for n, m, v in found) / count]


@right("Welford, sample by sample", "blocked_statistics")
def block_statistics_by_welford(x, block):
    rows = as_table(np.empty((0, *x.shape[1:])))
    state = 0, np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for sample in x:
        for row in (*rows, *np.asarray(sample, float).T):
            n, mean, m2 = state
            delta = row - mean
            mean = mean + delta / (n + 1)
            state = n + 1, mean, m2 + delta * (row - mean)
    return state[1], state[2] / state[0]


@right("plain numbers", "blocked_statistics")
def block_statistics_of_numbers(x, block):
    mean, var = [], []
    for c in range(x.shape[1]):
        mean.append(statistics.fmean(float(v) for v in np.asarray(x)[:, c].flat))
        var.append(statistics.fmean((float(v) - mean[-1]) ** 2 for v in np.asarray(x)[:, c].flat))
    return np.array(mean), np.array(var)


@right("in pairs", "blocked_statistics")
def statistics_in_pairs(x, block):
    def of(start, stop):
        if stop - start <= block:
            part = np.asarray(x[start:stop], float)
            mean = part.mean((0, 2))
            return part.size // len(mean), mean, ((part - mean[:, None]) ** 2).sum((0, 2))
        middle = (start + stop) // 2
        (m, mean_a, m2_a), (n, mean_b, m2_b) = of(start, middle), of(middle, stop)
        delta = mean_b - mean_a
        return m + n, mean_a + delta * n / (m + n), m2_a + m2_b + delta**2 * m * n / (m + n)

    count, mean, m2 = of(0, len(x))
    return mean, m2 / count


@right("samples far apart in a block", "blocked_statistics")
def statistics_of_strided_blocks(x, block):
    blocks = math.ceil(len(x) / block)
    found = [
        (len(x[k::blocks]), x[k::blocks].mean((0, 2), float), x[k::blocks].var((0, 2), float)) for k in range(blocks)
    ]
    counts, means, variances = (np.array(values) for values in zip(*found, strict=True))
    mean = counts @ means / len(x)
    return mean, counts @ (variances + (means - mean) ** 2) / len(x)


@right("channel by channel", "blocked_statistics")
def statistics_by_channel(x, block):
    result = np.zeros((2, x.shape[1]))
    for c in range(x.shape[1]):
        parts = (x[i : i + block, c].astype(float) for i in range(0, len(x), block))
        n, m, v = np.transpose([(part.size, part.mean(), part.var()) for part in parts])
        result[0, c] = np.average(m, weights=n)
        result[1, c] = np.average(v + (m - result[0, c]) ** 2, weights=n)
    return result


@right("one number after the other", "blocked_statistics")
def statistics_by_number(x, block):
    shift, total, squares = [float(v) for v in x[0, :, 0]], [0.0] * x.shape[1], [0.0] * x.shape[1]
    for i, c, k in itertools.product(range(len(x)), range(x.shape[1]), range(x.shape[2])):
        distance = float(x[i, c, k]) - shift[c]
        total[c] += distance
        squares[c] += distance**2
    count = len(x) * x.shape[2]
    mean = np.array(total) / count
    return mean + shift, np.array(squares) / count - mean**2


@right("in the dtype of x, merged", "blocked_statistics")
def statistics_in_the_dtype(x, block):
    count, mean, var = 0, None, None
    for i in range(0, len(x), block):
        rows = as_table(x[i : i + block])
        n, m, v = len(rows), rows.mean(0), rows.var(0)
        if count == 0:
            count, mean, var = n, m, v
            continue
        share = x.dtype.type(n / (count + n))
        delta = m - mean
        var = var + (v - var) * share + delta**2 * share * (1 - share)
        mean = mean + delta * share
        count += n
    return mean, var


@right("PyTorch", "blocked_statistics")
def block_statistics_by_torch(x, block):
    parts = torch.from_numpy(x).double().split(block)
    found = [torch.var_mean(part, dim=(0, 2), correction=0) for part in parts]
    counts = torch.tensor([len(part) for part in parts], dtype=float)[:, None] / len(x)
    var, mean = (torch.stack(each) for each in zip(*found, strict=True))
    center = (counts * mean).sum(0)
    return center.numpy(), (counts * (var + (mean - center) ** 2)).sum(0).numpy()


# normalize_into


@right("four calls with out=", "normalize_into")
def into_by_four_calls(x, mean, inv_std, weight, bias, out):
    np.subtract(x, mean[:, None], out=out)
    np.multiply(out, inv_std[:, None], out=out)
    np.multiply(out, weight[:, None], out=out)
    np.add(out, bias[:, None], out=out)
    return out


@right("two calls", "normalize_into")
def into_by_two_calls(x, mean, inv_std, weight, bias, out):
    scale = weight * inv_std
    np.multiply(x, scale[None, :, None], out=out)
    out += (bias - mean * scale)[None, :, None]
    return out


@right("copied, then changed in place", "normalize_into")
def into_after_a_copy(x, mean, inv_std, weight, bias, out):
    out[:] = x
    out -= mean.reshape(-1, 1)
    out *= (inv_std * weight).reshape(-1, 1)
    out += bias.reshape(-1, 1)
    return out


@right("sample by sample", "normalize_into")
def into_sample_by_sample(x, mean, inv_std, weight, bias, out):
    for n in range(len(x)):
        out[n] = weight[:, None] * (x[n] - mean[:, None]) * inv_std[:, None] + bias[:, None]
    return out


@right("channel by channel", "normalize_into")
def into_channel_by_channel(x, mean, inv_std, weight, bias, out):
    for c, (m, i, w, b) in enumerate(zip(mean, inv_std, weight, bias, strict=True)):
        np.subtract(x[:, c], m, out[:, c])
        out[:, c] *= i * w
        out[:, c] += b
    return out


@right("plain numbers", "normalize_into")
def into_number_by_number(x, mean, inv_std, weight, bias, out):
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            scale, shift = float(weight[c] * inv_std[c]), float(bias[c] - mean[c] * weight[c] * inv_std[c])
            for k in range(x.shape[2]):
                out[n, c, k] = x[n, c, k] * scale + shift
    return out


@right("einsum", "normalize_into")
def into_by_einsum(x, mean, inv_std, weight, bias, out):
    np.einsum("ncl,c->ncl", x, weight * inv_std, out=out)
    np.moveaxis(out, 1, -1)[...] += bias - mean * weight * inv_std
    return out


@right("numbers per channel in full size", "normalize_into")
def into_full_size(x, mean, inv_std, weight, bias, out):
    shape = x.shape[1:]
    scale, center, shift = (np.repeat(v, shape[1]).reshape(shape) for v in (weight * inv_std, mean, bias))
    for part, result in zip(x, out, strict=True):
        np.subtract(part, center, out=result)
        np.multiply(result, scale, out=result)
        np.add(result, shift, out=result)
    return out


@right("a view of out", "normalize_into")
def into_a_view(x, mean, inv_std, weight, bias, out):
    by_channel = out.transpose(0, 2, 1)
    np.copyto(by_channel, x.transpose(0, 2, 1))
    by_channel -= mean
    by_channel *= inv_std
    by_channel *= weight
    by_channel += bias
    return out[:]


@right("PyTorch", "normalize_into")
def into_by_torch(x, mean, inv_std, weight, bias, out):
    x, mean, inv_std, weight, bias, y = map(torch.from_numpy, (x, mean, inv_std, weight, bias, out))
    torch.sub(x, mean[:, None], out=y).mul_((inv_std * weight)[:, None]).add_(bias[:, None])
    return out


# masked_mean_kernel


@right("masked twice", "masked_mean_kernel")
@triton.jit
def masked_mean_twice(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, tl.sum(centered * centered, axis=0) / N)


@right("padding that is taken off again", "masked_mean_kernel")
@triton.jit
def masked_mean_corrected(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * N + columns, columns < N, 0.0).to(tl.float32)
    shift = tl.load(x_ptr + row * N).to(tl.float32)
    distance = tl.where(columns < N, x - shift, 0.0)
    mean = tl.sum(distance) / N
    squares = tl.sum((distance - mean) * (distance - mean)) - (BLOCK - N) * mean * mean
    tl.store(mean_ptr + row, shift + mean)
    tl.store(var_ptr + row, squares / N)


@right("masked lanes at the mean", "masked_mean_kernel")
@triton.jit
def masked_mean_loaded_again(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    pointers = x_ptr + row * N + tl.arange(0, BLOCK)
    mask = tl.arange(0, BLOCK) < N
    mean = tl.sum(tl.load(pointers, mask=mask, other=0).to(tl.float32)) / N
    x = tl.load(pointers, mask=mask)
    x = tl.where(mask, x.to(tl.float32), mean)
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, tl.sum((x - mean) * (x - mean)) / N)


@right("0 and 1 as weights", "masked_mean_kernel")
@triton.jit
def masked_mean_weighted(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    i = tl.program_id(axis=0)
    lane = tl.arange(0, BLOCK)
    weight = (lane < N).to(tl.float32)
    x = tl.load(x_ptr + i * N + lane, mask=lane < N, other=0.0).to(tl.float32)
    count = tl.sum(weight)
    mean = tl.sum(weight * x) / count
    var = tl.sum(weight * (x - mean) * (x - mean)) / count
    tl.store(mean_ptr + i, mean)
    tl.store(var_ptr + i, var)


@right("number by number", "masked_mean_kernel")
@triton.jit
def masked_mean_by_numbers(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    mean = 0.0
    m2 = 0.0
    for i in range(N):
        x = tl.load(x_ptr + row * N + i).to(tl.float32)
        delta = x - mean
        mean += delta / (i + 1)
        m2 += delta * (x - mean)
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, m2 / N)


@triton.jit
def mean_of_lanes(values, mask, N):
    return tl.sum(tl.where(mask, values, 0.0)) / N


@right("a function of its own", "masked_mean_kernel")
@triton.jit
def masked_mean_by_function(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask).to(tl.float32)
    mean = mean_of_lanes(x, mask, N)
    centered = x - mean
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, mean_of_lanes(centered * centered, mask, N))


@right("a tile of two axes", "masked_mean_kernel")
@triton.jit
def masked_mean_in_two_axes(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    rows = tl.program_id(0) + tl.arange(0, 1)[:, None]
    columns = tl.arange(0, BLOCK)[None, :]
    mask = columns < N
    x = tl.load(x_ptr + rows * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=1, keep_dims=True) / N
    centered = tl.where(mask, x - mean, 0.0)
    tl.store(mean_ptr + rows, mean)
    tl.store(var_ptr + rows, tl.sum(centered * centered, axis=1, keep_dims=True) / N)


@right("number by number, with masks", "masked_mean_kernel")
@triton.jit
def masked_mean_by_masked_numbers(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    first = x_ptr + tl.program_id(0) * N
    total = 0.0
    for i in range(BLOCK):
        total += tl.load(first + i, mask=i < N, other=0.0).to(tl.float32)
    mean = total / N
    squares = 0.0
    for i in range(BLOCK):
        distance = tl.load(first + i, mask=i < N, other=0).to(tl.float32) - mean
        squares += tl.where(i < N, distance * distance, 0.0)
    tl.store(mean_ptr + tl.program_id(0), mean)
    tl.store(var_ptr + tl.program_id(0), squares / N)


# long_row_mean_kernel


@right("a sum in each lane", "long_row_mean_kernel")
@triton.jit
def long_mean_by_lanes(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    sums = tl.zeros([BLOCK], tl.float32)
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        sums += tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0).to(tl.float32)
    tl.store(mean_ptr + row, tl.sum(sums) / N)


@right("one sum", "long_row_mean_kernel")
@triton.jit
def long_mean_by_one_sum(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for block in range(tl.cdiv(N, BLOCK)):
        columns = block * BLOCK + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0)
        total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total / N)


@right("full blocks, then the rest", "long_row_mean_kernel")
@triton.jit
def long_mean_with_rest(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    lanes = tl.arange(0, BLOCK)
    full = N // BLOCK
    total = 0.0
    for block in range(full):
        total += tl.sum(tl.load(x_ptr + row * N + block * BLOCK + lanes).to(tl.float32))
    rest = tl.load(x_ptr + row * N + full * BLOCK + lanes, mask=full * BLOCK + lanes < N, other=0.0)
    tl.store(mean_ptr + row, (total + tl.sum(rest.to(tl.float32))) / N)


@right("pointers that move", "long_row_mean_kernel")
@triton.jit
def long_mean_by_pointers(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    columns = tl.arange(0, BLOCK)
    pointers = x_ptr + tl.program_id(0) * N + columns
    sums = tl.zeros((BLOCK,), dtype=tl.float32)
    while tl.min(columns) < N:
        x = tl.load(pointers, mask=columns < N)
        sums = sums + tl.where(columns < N, x.to(tl.float32), 0.0)
        pointers += BLOCK
        columns += BLOCK
    tl.store(mean_ptr + tl.program_id(0), tl.sum(sums, axis=0) / N)


@right("means of blocks, merged", "long_row_mean_kernel")
@triton.jit
def long_mean_merged(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    mean = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        there = columns < N
        count = tl.sum(there.to(tl.int32))
        x = tl.load(x_ptr + row * N + columns, mask=there, other=0.0).to(tl.float32)
        mean += (tl.sum(x) / count - mean) * count / (start + count)
    tl.store(mean_ptr + row, mean)


@right("number by number", "long_row_mean_kernel")
@triton.jit
def long_mean_by_numbers(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for i in range(row * N, (row + 1) * N):
        total += tl.load(x_ptr + i).to(tl.float32)
    tl.store(mean_ptr + row, total / N)


@right("a block pointer", "long_row_mean_kernel")
@triton.jit
def long_mean_by_block_pointer(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    block = tl.make_block_ptr(x_ptr + row * N, (N,), (1,), (0,), (BLOCK,), (0,))
    total = 0.0
    for _ in range(0, N, BLOCK):
        total += tl.sum(tl.load(block, boundary_check=(0,), padding_option="zero").to(tl.float32))
        block = tl.advance(block, (BLOCK,))
    tl.store(mean_ptr + row, total / N)


@triton.jit
def sum_of_a_piece(first, there, SIZE: tl.constexpr):
    lanes = tl.arange(0, SIZE)
    x = tl.load(first + lanes, mask=lanes < there, other=0.0).to(tl.float32)
    return tl.sum(tl.where(tl.arange(0, x.shape[0]) < there, x, 0.0))


@right("sizes worked out from BLOCK", "long_row_mean_kernel")
@triton.jit
def long_mean_by_halves(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    HALF: tl.constexpr = BLOCK // 2
    first = x_ptr + tl.program_id(0) * N
    lanes = tl.arange(0, HALF) + 0 * tl.arange(HALF, 2 * HALF)
    sums = tl.zeros([HALF], tl.float32)
    for start in range(0, N // BLOCK * BLOCK, BLOCK):
        sums += tl.load(first + start + lanes).to(tl.float32) + tl.load(first + start + HALF + lanes).to(tl.float32)
    rest = N // BLOCK * BLOCK
    tl.store(mean_ptr + tl.program_id(0), (tl.sum(sums) + sum_of_a_piece(first + rest, N - rest, BLOCK)) / N)


# merge_partials_kernel


@right("all splits at once", "merge_partials_kernel")
@triton.jit
def merge_at_once(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    splits = tl.arange(0, BLOCK)
    mask = splits < S
    places = splits * C + channel
    count = tl.load(count_ptr + places, mask=mask, other=0.0)
    mean = tl.load(mean_ptr + places, mask=mask, other=0.0)
    m2 = tl.load(m2_ptr + places, mask=mask, other=0.0)
    total = tl.sum(count)
    center = tl.sum(count * mean) / total
    distance = mean - center
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, tl.sum(m2 + count * distance * distance) / total)


@right("split by split", "merge_partials_kernel")
@triton.jit
def merge_by_splits(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    n = 0.0
    mean = 0.0
    m2 = 0.0
    for split in range(S):
        place = split * C + channel
        count = tl.load(count_ptr + place)
        if count > 0:
            delta = tl.load(mean_ptr + place) - mean
            together = n + count
            m2 += tl.load(m2_ptr + place) + delta * delta * n * count / together
            mean += delta * count / together
            n = together
    tl.store(total_mean_ptr + channel, mean)
    tl.store(total_var_ptr + channel, m2 / n)


@right("split by split, at least 1 below the bar", "merge_partials_kernel")
@triton.jit
def merge_with_maximum(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    c = tl.program_id(0)
    n, mean, m2 = 0.0, 0.0, 0.0
    for s in range(S):
        n_b = tl.load(count_ptr + s * C + c)
        delta = tl.load(mean_ptr + s * C + c) - mean
        share = n_b / tl.maximum(n + n_b, 1.0)
        m2 = m2 + tl.load(m2_ptr + s * C + c) + delta * delta * n * share
        mean = mean + delta * share
        n = n + n_b
    tl.store(total_mean_ptr + c, mean)
    tl.store(total_var_ptr + c, m2 / n)


@right("two loops", "merge_partials_kernel")
@triton.jit
def merge_in_two_loops(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    c = tl.program_id(0)
    n = 0.0
    weighted = 0.0
    for s in range(S):
        count = tl.load(count_ptr + s * C + c)
        n += count
        weighted += count * tl.load(mean_ptr + s * C + c)
    mean = weighted / n
    m2 = 0.0
    for s in range(S):
        distance = tl.load(mean_ptr + s * C + c) - mean
        m2 += tl.load(m2_ptr + s * C + c) + tl.load(count_ptr + s * C + c) * distance * distance
    tl.store(total_mean_ptr + c, mean)
    tl.store(total_var_ptr + c, m2 / n)


@right("shares, and masked afterwards", "merge_partials_kernel")
@triton.jit
def merge_by_shares(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    c = tl.program_id(0)
    s = tl.arange(0, BLOCK)
    count = tl.where(s < S, tl.load(count_ptr + s * C + c, mask=s < S), 0.0)
    share = count / tl.sum(count)
    means = tl.where(s < S, tl.load(mean_ptr + s * C + c, mask=s < S), 7.0)
    variance = tl.load(m2_ptr + s * C + c, mask=s < S) / tl.where(count > 0, count, 1.0)
    variance = tl.where(s < S, variance, 7.0)
    mean = tl.sum(share * means)
    tl.store(total_mean_ptr + c, mean)
    tl.store(total_var_ptr + c, tl.sum(share * (variance + (means - mean) * (means - mean))))


@triton.jit
def of_two(n_a, mean_a, m2_a, n_b, mean_b, m2_b):
    n = n_a + n_b
    share = n_b / tl.maximum(n, 1.0)
    delta = mean_b - mean_a
    return n, mean_a + delta * share, m2_a + m2_b + delta * delta * n_a * share


@right("a reduction of triples", "merge_partials_kernel")
@triton.jit
def merge_by_reduction(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    c = tl.program_id(0)
    places = tl.arange(0, BLOCK) * C + c
    mask = places < S * C
    count = tl.load(count_ptr + places, mask=mask, other=0.0)
    mean = tl.load(mean_ptr + places, mask=mask, other=0.0)
    m2 = tl.load(m2_ptr + places, mask=mask, other=0.0)
    n, mean, m2 = tl.reduce((count, mean, m2), 0, of_two)
    tl.store(total_mean_ptr + c, mean)
    tl.store(total_var_ptr + c, m2 / n)


@right("the differences of all pairs", "merge_partials_kernel")
@triton.jit
def merge_by_pairs(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    c = tl.program_id(0)
    s = tl.arange(0, BLOCK)
    count = tl.load(count_ptr + s * C + c, mask=s < S, other=0.0)
    mean = tl.load(mean_ptr + s * C + c, mask=s < S, other=0.0)
    m2 = tl.load(m2_ptr + s * C + c, mask=s < S, other=0.0)
    n = tl.sum(count)
    difference = mean[:, None] - mean[None, :]
    weight = count[:, None] * count[None, :]
    between = tl.sum(tl.sum(weight * difference * difference, axis=1), axis=0) / (2 * n)
    tl.store(total_mean_ptr + c, tl.sum(count / n * mean))
    tl.store(total_var_ptr + c, (tl.sum(m2) + between) / n)


# channel_sums_kernel


@right("a loop over samples", "channel_sums_kernel")
@triton.jit
def sums_by_samples(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = n * stride_n + channel * stride_c + positions * stride_l
        total += tl.sum(tl.load(x_ptr + places, mask=positions < L, other=0.0))
    tl.store(sums_ptr + channel, total)


@right("a sum in each lane", "channel_sums_kernel")
@triton.jit
def sums_by_lanes(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    sums = tl.zeros([BLOCK], tl.float32)
    pointers = x_ptr + channel * stride_c + positions * stride_l
    for _ in range(N):
        sums += tl.load(pointers, mask=positions < L, other=0.0)
        pointers += stride_n
    tl.store(sums_ptr + channel, tl.sum(sums, axis=0))


@right("number by number", "channel_sums_kernel")
@triton.jit
def sums_by_numbers(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    c = tl.program_id(0)
    total = 0.0
    for n in range(N):
        for i in range(L):
            total += tl.load(x_ptr + n * stride_n + c * stride_c + i * stride_l)
    tl.store(sums_ptr + c, total)


@right("samples and positions as one axis", "channel_sums_kernel")
@triton.jit
def sums_over_one_axis(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    c = tl.program_id(0)
    total = 0.0
    for start in range(0, N * L, BLOCK):
        i = start + tl.arange(0, BLOCK)
        places = (i // L) * stride_n + (i % L) * stride_l + c * stride_c
        total += tl.sum(tl.load(x_ptr + places, mask=i < N * L, other=0.0))
    tl.store(sums_ptr + c, total)


@right("positions in the loop, samples in the lanes", "channel_sums_kernel")
@triton.jit
def sums_with_samples_in_lanes(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    c = tl.program_id(0)
    base = x_ptr + c * stride_c
    total = 0.0
    for i in range(L):
        for first in range(0, N, BLOCK):
            n = first + tl.arange(0, BLOCK)
            values = tl.load(base + n * stride_n + i * stride_l, mask=n < N)
            total += tl.sum(tl.where(n < N, values, 0.0))
    tl.store(sums_ptr + c, total)


@right("a tile of two axes", "channel_sums_kernel")
@triton.jit
def sums_in_two_axes(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    c = tl.program_id(0)
    i = tl.arange(0, BLOCK)[None, :]
    sums = tl.zeros([2, BLOCK], tl.float32)
    for first in range(0, N, 2):
        n = first + tl.arange(0, 2)[:, None]
        mask = (n < N) & (i < L)
        sums += tl.load(x_ptr + n * stride_n + c * stride_c + i * stride_l, mask=mask, other=0.0)
    tl.store(sums_ptr + c, tl.sum(tl.sum(sums, axis=1), axis=0))


@right("a block pointer", "channel_sums_kernel")
@triton.jit
def sums_by_block_pointer(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    c = tl.program_id(0)
    tile = tl.make_block_ptr(x_ptr + c * stride_c, (N, L), (stride_n, stride_l), (0, 0), (1, BLOCK), (1, 0))
    total = 0.0
    for _ in range(N):
        total += tl.sum(tl.load(tile, boundary_check=(0, 1), padding_option="zero"))
        tile = tl.advance(tile, (1, 0))
    tl.store(sums_ptr + c, total)


# gradient_sums_kernel


@right("a loop over rows", "gradient_sums_kernel")
@triton.jit
def gradients_by_rows(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    mean = tl.load(mean_ptr + columns, mask=mask, other=0.0)
    inv_std = tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    dweight = tl.zeros([BLOCK], tl.float32)
    dbias = tl.zeros([BLOCK], tl.float32)
    for k in range(ROWS):
        row = program * ROWS + k
        there = mask & (row < M)
        dy = tl.load(dy_ptr + row * C + columns, mask=there, other=0.0)
        x = tl.load(x_ptr + row * C + columns, mask=there, other=0.0)
        dweight += dy * (x - mean) * inv_std
        dbias += dy
    tl.store(dweight_ptr + program * C + columns, dweight, mask=mask)
    tl.store(dbias_ptr + program * C + columns, dbias, mask=mask)


@right("a tile of two axes", "gradient_sums_kernel")
@triton.jit
def gradients_in_two_axes(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    p = tl.program_id(0)
    rows = p * ROWS + tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)[None, :]
    mask = (rows < M) & (columns < C)
    dy = tl.load(dy_ptr + rows * C + columns, mask=mask, other=0.0)
    x = tl.load(x_ptr + rows * C + columns, mask=mask, other=0.0)
    mean = tl.load(mean_ptr + columns, mask=columns < C, other=0.0)
    inv_std = tl.load(inv_std_ptr + columns, mask=columns < C, other=0.0)
    dweight = tl.sum(dy * ((x - mean) * inv_std), axis=0)
    lanes = tl.arange(0, BLOCK)
    tl.store(dweight_ptr + p * C + lanes, dweight, mask=lanes < C)
    tl.store(dbias_ptr + p * C + lanes, tl.sum(dy, axis=0), mask=lanes < C)


@right("rows that exist", "gradient_sums_kernel")
@triton.jit
def gradients_up_to_the_end(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    p = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    there = columns < C
    mean = tl.load(mean_ptr + columns, there)
    scale = tl.load(inv_std_ptr + columns, there)
    product = tl.zeros([BLOCK], tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for row in range(p * ROWS, min(M, (p + 1) * ROWS)):
        dy = tl.load(dy_ptr + row * C + columns, there)
        product += dy * (tl.load(x_ptr + row * C + columns, there) - mean)
        total += dy
    tl.store(dweight_ptr + p * C + columns, product * scale, there)
    tl.store(dbias_ptr + p * C + columns, total, there)


@right("number by number", "gradient_sums_kernel")
@triton.jit
def gradients_by_numbers(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    p = tl.program_id(0)
    for c in range(C):
        dweight = 0.0
        dbias = 0.0
        for k in range(ROWS):
            row = p * ROWS + k
            if row < M:
                dy = tl.load(dy_ptr + row * C + c)
                x_hat = (tl.load(x_ptr + row * C + c) - tl.load(mean_ptr + c)) * tl.load(inv_std_ptr + c)
                dweight += dy * x_hat
                dbias += dy
        tl.store(dweight_ptr + p * C + c, dweight)
        tl.store(dbias_ptr + p * C + c, dbias)


@right("sums in the output", "gradient_sums_kernel")
@triton.jit
def gradients_in_the_output(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    p = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    slot = p * C + c
    tl.store(dweight_ptr + slot, tl.zeros([BLOCK], tl.float32), mask=c < C)
    tl.store(dbias_ptr + slot, tl.zeros([BLOCK], tl.float32), mask=c < C)
    for k in range(ROWS):
        place = (p * ROWS + k) * C + c
        mask = (c < C) & (place < M * C)
        dy = tl.load(dy_ptr + place, mask=mask, other=0.0)
        x = tl.load(x_ptr + place, mask=mask, other=0.0)
        x_hat = (x - tl.load(mean_ptr + c, mask=c < C)) * tl.load(inv_std_ptr + c, mask=c < C)
        tl.store(dweight_ptr + slot, tl.load(dweight_ptr + slot, mask=c < C) + dy * x_hat, mask=c < C)
        tl.store(dbias_ptr + slot, tl.load(dbias_ptr + slot, mask=c < C) + dy, mask=c < C)


@right("the mean taken off at the end", "gradient_sums_kernel")
@triton.jit
def gradients_by_moments(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    p = tl.program_id(0)
    rows = p * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    mask = (rows < M)[:, None] & (columns < C)[None, :]
    places = rows[:, None] * C + columns[None, :]
    dy = tl.where(mask, tl.load(dy_ptr + places, mask=mask), 0.0)
    x = tl.where(mask, tl.load(x_ptr + places, mask=mask), 0.0)
    mean = tl.load(mean_ptr + columns, mask=columns < C, other=0.0)
    dbias = tl.sum(dy, axis=0)
    dweight = (tl.sum(dy * x, axis=0) - mean * dbias) * tl.load(inv_std_ptr + columns, mask=columns < C, other=0.0)
    tl.store(dweight_ptr + p * C + columns, dweight, mask=columns < C)
    tl.store(dbias_ptr + p * C + columns, dbias, mask=columns < C)


@right("number by number, with masks", "gradient_sums_kernel")
@triton.jit
def gradients_by_masked_numbers(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    p = tl.program_id(0)
    for c in range(BLOCK):
        mean = tl.load(mean_ptr + c, mask=c < C, other=0.0)
        inv_std = tl.load(inv_std_ptr + c, mask=c < C, other=0.0)
        dweight = 0.0
        dbias = 0.0
        for k in range(ROWS):
            place = (p * ROWS + k) * C + c
            there = (p * ROWS + k < M) & (c < C)
            dy = tl.load(dy_ptr + place, mask=there, other=0.0)
            x = tl.load(x_ptr + place, mask=there, other=0.0)
            dweight += dy * (x - mean) * inv_std
            dbias += dy
        tl.store(dweight_ptr + p * C + c, dweight, mask=c < C)
        tl.store(dbias_ptr + p * C + c, dbias, mask=c < C)


# row_offsets_kernel


@right("the number of the program", "row_offsets_kernel")
@triton.jit
def offsets_of_wide_rows(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = row.to(tl.int64) * stride + columns
    tl.store(offset_ptr + row * N + columns, offset, mask=columns < N)


@right("the stride", "row_offsets_kernel")
@triton.jit
def offsets_of_wide_strides(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    tl.store(offset_ptr + row * N + columns, row * stride.to(tl.int64) + columns, mask=columns < N)


@right("everything wide", "row_offsets_kernel")
@triton.jit
def offsets_of_wide_numbers(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK).to(tl.int64)
    tl.store(offset_ptr + row * N + columns, row * stride + columns, mask=columns < N)


@right("stride by stride", "row_offsets_kernel")
@triton.jit
def offsets_by_adding(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = columns.to(tl.int64)
    for _ in range(row):
        offset += stride
    tl.store(offset_ptr + row * N + columns, offset, mask=columns < N)


@right("number by number", "row_offsets_kernel")
@triton.jit
def offsets_by_numbers(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.cast(tl.program_id(0), tl.int64)
    for column in range(N):
        tl.store(offset_ptr + row * N + column, row * stride + column)


@right("a tile of zeros", "row_offsets_kernel")
@triton.jit
def offsets_from_zeros(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    rows = tl.zeros([BLOCK], tl.int64) + row
    tl.store(offset_ptr + row * N + columns, columns + stride * rows, mask=columns < N)


@right("halves of 16 bits", "row_offsets_kernel")
@triton.jit
def offsets_from_halves(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    upper = (row * (stride >> 16)).to(tl.int64) << 16
    tl.store(offset_ptr + row * N + columns, upper + row * (stride & 0xFFFF) + columns, mask=columns < N)


# merge_statistics


@right("the pooled formula", "merge_statistics")
def two_by_formula(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    count = count_a + count_b
    delta = mean_b - mean_a
    mean = mean_a + delta * count_b / count
    m2 = m2_a + m2_b + delta**2 * count_a * count_b / count
    return count, mean, m2


@right("from the definition", "merge_statistics")
def two_by_definition(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n = count_a + count_b
    mu = (count_a * mean_a + count_b * mean_b) / n
    from_a = m2_a + count_a * (mean_a - mu) ** 2
    from_b = m2_b + count_b * (mean_b - mu) ** 2
    return n, mu, from_a + from_b


@right("number by number", "merge_statistics")
def two_in_a_loop(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    count = float(count_a) + float(count_b)
    mean, m2 = np.zeros(len(mean_a)), np.zeros(len(mean_a))
    for c in range(len(mean_a)):
        mean[c] = (float(count_a) * float(mean_a[c]) + float(count_b) * float(mean_b[c])) / count
        for n, mu, squares in ((count_a, mean_a, m2_a), (count_b, mean_b, m2_b)):
            m2[c] += float(squares[c]) + n * (float(mu[c]) - mean[c]) ** 2
    return [count, mean, m2]


@right("empty parts first", "merge_statistics")
def two_with_ifs(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    if count_a == 0:
        return count_b, mean_b, m2_b
    if count_b == 0:
        return count_a, mean_a, m2_a
    var_a, var_b = m2_a / count_a, m2_b / count_b
    share = count_b / (count_a + count_b)
    mean = (1 - share) * mean_a + share * mean_b
    var = (1 - share) * var_a + share * var_b + share * (1 - share) * (mean_a - mean_b) ** 2
    return count_a + count_b, mean, var * (count_a + count_b)


@right("stacked and averaged", "merge_statistics")
def two_by_average(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    counts = np.array([count_a, count_b])
    means = np.vstack([mean_a, mean_b])
    mean = np.average(means, axis=0, weights=counts)
    m2 = np.vstack([m2_a, m2_b]).sum(axis=0) + counts @ (means - mean) ** 2
    return counts.sum(), mean, m2


@right("two steps of Welford", "merge_statistics")
def two_by_welford(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    count, before = np.float64(count_a + count_b), mean_b - mean_a
    mean = mean_a + before * (count_b / count)
    after = mean_b - mean
    return count, mean, m2_a + m2_b + count_b * before * after


@right("data with these statistics", "merge_statistics")
def two_by_data(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    # Weighted points at the mean and at one standard deviation to either side have the same statistics.
    points, weights = [], []
    for count, mean, m2 in ((count_a, mean_a, m2_a), (count_b, mean_b, m2_b)):
        std = np.sqrt(m2 / max(count, 1))
        points += [mean - std, mean + std]
        weights += [count / 2, count / 2]
    points, weights = np.array(points), np.array(weights)[:, None]
    mean = (weights * points).sum(0) / weights.sum()
    return int(weights.sum()), mean, (weights * (points - mean) ** 2).sum(0)


# merge_many


def merged_pair(one, other):
    count = one[0] + other[0]
    if count == 0:
        return one
    delta = other[1] - one[1]
    return count, one[1] + delta * other[0] / count, one[2] + other[2] + delta**2 * one[0] * other[0] / count


@right("at once", "merge_many")
def many_at_once(counts, means, m2s):
    n = counts[:, None]
    mean = (n * means).sum(axis=0) / counts.sum()
    return counts.sum(), mean, (m2s + n * (means - mean) ** 2).sum(axis=0)


@right("one after the other", "merge_many")
def many_in_a_loop(counts, means, m2s):
    count, mean, m2 = 0, np.zeros(means.shape[1]), np.zeros(means.shape[1])
    for n, mu, squares in zip(counts, means, m2s, strict=True):
        if n > 0:
            delta = mu - mean
            m2 = m2 + squares + delta**2 * count * n / (count + n)
            mean = mean + delta * n / (count + n)
            count = count + n
    return count, mean, m2


@right("reduce", "merge_many")
def many_by_reduce(counts, means, m2s):
    return functools.reduce(merged_pair, zip(counts, means, m2s, strict=True))


@right("a tree", "merge_many")
def many_in_pairs(counts, means, m2s):
    parts = [(float(n), mean, m2) for n, mean, m2 in zip(counts, means, m2s, strict=True)]
    while len(parts) > 1:
        rest = parts[len(parts) // 2 * 2 :]
        parts = [merged_pair(*two) for two in zip(parts[::2], parts[1::2], strict=False)] + rest
    return list(parts[0])


@right("products of matrices", "merge_many")
def many_by_matrices(counts, means, m2s):
    n = counts.sum()
    mean = counts @ means / n
    return n, mean, np.ones(len(counts)) @ m2s + counts @ np.square(means - mean)


@right("einsum over distances from the first", "merge_many")
def many_by_einsum(counts, means, m2s):
    origin = means[np.argmax(counts)]
    shifted = means - origin
    n = int(counts.sum())
    lift = np.einsum("k,kc->c", counts, shifted) / n
    return n, origin + lift, m2s.sum(0) + np.einsum("k,kc->c", counts, (shifted - lift) ** 2)


@right("number by number", "merge_many")
def many_of_numbers(counts, means, m2s):
    k, features = means.shape
    total = sum(int(n) for n in counts)
    mean = [sum(int(counts[r]) * float(means[r, c]) for r in range(k)) / total for c in range(features)]
    m2 = [
        sum(float(m2s[r, c]) + int(counts[r]) * (float(means[r, c]) - mean[c]) ** 2 for r in range(k))
        for c in range(features)
    ]
    return total, np.array(mean), np.array(m2)


@right("empty parts taken out", "merge_many")
def many_that_hold_something(counts, means, m2s):
    there = counts > 0
    counts, means, m2s = counts[there], means[there], m2s[there]
    mean = np.average(means, axis=0, weights=counts)
    var = np.average(m2s / counts[:, None] + (means - mean) ** 2, axis=0, weights=counts)
    return np.sum(counts), mean, var * np.sum(counts)


# update_running_var


@right("at once", "update_running_var")
def running_at_once(running_var, counts, means, m2s, momentum):
    n = counts.sum()
    weights = counts[:, np.newaxis]
    mean = (weights * means).sum(0) / n
    m2 = (m2s + weights * (means - mean) ** 2).sum(0)
    return (1 - momentum) * running_var + momentum * m2 / (n - 1)


@right("Bessel's factor", "update_running_var")
def running_by_factor(running_var, counts, means, m2s, momentum):
    total = float(sum(counts))
    mean = sum(n * mu for n, mu in zip(counts, means, strict=True)) / total
    between = sum(n * (mu - mean) ** 2 for n, mu in zip(counts, means, strict=True)) / total
    biased = sum(m2s) / total + between
    return running_var + momentum * (biased * total / (total - 1) - running_var)


@right("merged one by one", "update_running_var")
def running_by_reduce(running_var, counts, means, m2s, momentum):
    count, _, m2 = functools.reduce(merged_pair, zip(counts, means, m2s, strict=True))
    new = running_var * (1 - momentum)
    new += momentum * (m2 / (count - 1))
    return new


@right("number by number", "update_running_var")
def running_of_numbers(running_var, counts, means, m2s, momentum):
    new = np.empty(len(running_var))
    total = int(counts.sum())
    for c in range(len(running_var)):
        mean = math.fsum(int(n) * float(mu) for n, mu in zip(counts, means[:, c], strict=True)) / total
        squares = math.fsum(int(n) * (float(mu) - mean) ** 2 for n, mu in zip(counts, means[:, c], strict=True))
        new[c] = (1 - momentum) * running_var[c] + momentum * (squares + math.fsum(m2s[:, c])) / (total - 1)
    return new


@right("np.cov of the means", "update_running_var")
def running_by_cov(running_var, counts, means, m2s, momentum):
    n = int(counts.sum())
    rows = np.repeat(means, counts.astype(int), axis=0)
    between = rows.var(axis=0, ddof=1)
    return np.average([running_var, m2s.sum(axis=0) / (n - 1) + between], axis=0, weights=[1 - momentum, momentum])


@right("torch's lerp", "update_running_var")
def running_by_lerp(running_var, counts, means, m2s, momentum):
    n, mu = torch.tensor(counts).double(), torch.tensor(means).double()
    mean = n @ mu / n.sum()
    var = (torch.tensor(m2s).double().sum(0) + n @ (mu - mean) ** 2) / (n.sum() - 1)
    return torch.lerp(torch.tensor(running_var).double(), var, momentum).numpy()


@right("all pairs of processes", "update_running_var")
def running_by_pairs(running_var, counts, means, m2s, momentum):
    m2 = m2s.sum(0)
    for i in range(len(counts)):
        for j in range(i):
            m2 = m2 + counts[i] * counts[j] / counts.sum() * (means[i] - means[j]) ** 2
    return running_var - momentum * running_var + momentum * m2 / (counts.sum() - 1)


# scale_losses


@right("where", "scale_losses")
def losses_by_where(losses, counts):
    factor = len(counts) * counts / counts.sum()
    return np.where(counts > 0, losses * factor, 0.0)


@right("a list", "scale_losses")
def losses_in_a_list(losses, counts):
    total, scaled = sum(counts), []
    for loss, n in zip(losses, counts, strict=True):
        scaled.append(loss * n * len(losses) / total if n else 0)
    return scaled


@right("relative to the mean count", "scale_losses")
def losses_by_mean_count(losses, counts):
    return np.nan_to_num(losses) * (counts / np.mean(counts))


@right("a tuple of floats", "scale_losses")
def losses_in_a_tuple(losses, counts):
    share = [float(n) / float(np.sum(counts)) for n in counts]
    return tuple(
        0.0 if math.isnan(loss) else float(loss) * len(share) * s for loss, s in zip(losses, share, strict=True)
    )


@right("only where there are samples", "scale_losses")
def losses_by_index(losses, counts):
    there = np.flatnonzero(counts)
    scaled = np.zeros(len(losses))
    scaled[there] = losses[there] * counts[there]
    return scaled / counts.sum() * counts.size


@right("float32", "scale_losses")
def losses_in_float32(losses, counts):
    weights = (counts / counts.sum()).astype(np.float32) * np.float32(len(counts))
    return np.where(np.isnan(losses), np.float32(0), losses.astype(np.float32) * weights)


@right("a product with where", "scale_losses")
def losses_by_multiply(losses, counts):
    out = np.zeros_like(losses)
    np.multiply(losses, counts, out=out, where=counts != 0)
    return len(out) * out / sum(counts.tolist())


@right("a matrix", "scale_losses")
def losses_by_matrix(losses, counts):
    return np.diag(counts / counts.sum() * len(counts)) @ np.nan_to_num(losses, nan=0.0)


# backward_of_shards


@right("two loops", "backward_of_shards")
def shards_in_two_loops(dys, x_hats, weight, inv_std):
    dbiases = [dy.sum(axis=0) for dy in dys]
    dweights = [(dy * x_hat).sum(axis=0) for dy, x_hat in zip(dys, x_hats, strict=True)]
    n = sum(len(dy) for dy in dys)
    dbias, dweight = sum(dbiases), sum(dweights)
    dxs = []
    for dy, x_hat in zip(dys, x_hats, strict=True):
        dxs.append(weight * inv_std * (dy - dbias / n - x_hat * dweight / n))
    return dxs, dweights, dbiases


@right("one big batch, cut again", "backward_of_shards")
def shards_concatenated(dys, x_hats, weight, inv_std):
    dy, x_hat = np.concatenate(dys), np.concatenate(x_hats)
    dx_hat = dy * weight
    dx = inv_std * (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0))
    cuts = np.cumsum([len(part) for part in dys])[:-1]
    return (
        np.split(dx, cuts),
        tuple(part.sum(0) for part in np.split(dy * x_hat, cuts)),
        tuple(part.sum(0) for part in np.split(dy, cuts)),
    )


@right("an all-reduce of one array", "backward_of_shards")
def shards_by_message(dys, x_hats, weight, inv_std):
    messages = [
        np.concatenate([dy.sum(0), (dy * x_hat).sum(0), [len(dy)]]) for dy, x_hat in zip(dys, x_hats, strict=True)
    ]
    *sums, count = np.sum(messages, axis=0)
    first, second = np.split(np.array(sums) / count, 2)
    dxs = [(dy - first - x_hat * second) * (weight * inv_std) for dy, x_hat in zip(dys, x_hats, strict=True)]
    c = len(weight)
    return dxs, np.array(messages)[:, c : 2 * c], np.array(messages)[:, :c]


@right("einsum", "backward_of_shards")
def shards_by_einsum(dys, x_hats, weight, inv_std):
    dweights = [np.einsum("nc,nc->c", *pair) for pair in zip(dys, x_hats, strict=True)]
    dbiases = [np.einsum("nc->c", dy) for dy in dys]
    n = sum(map(len, x_hats))
    terms = np.sum(dbiases, axis=0), np.sum(dweights, axis=0)
    scale = inv_std * weight / n
    dxs = [scale * (n * dy - terms[0] - x_hat * terms[1]) for dy, x_hat in zip(dys, x_hats, strict=True)]
    return [dxs, dweights, dbiases]


@right("number by number", "backward_of_shards")
def shards_of_numbers(dys, x_hats, weight, inv_std):
    dxs = [np.zeros(dy.shape) for dy in dys]
    dweights, dbiases = np.zeros((2, len(dys), len(weight)))
    n = sum(dy.shape[0] for dy in dys)
    for c in range(len(weight)):
        for r, (dy, x_hat) in enumerate(zip(dys, x_hats, strict=True)):
            dweights[r, c] = sum(float(dy[i, c]) * float(x_hat[i, c]) for i in range(len(dy)))
            dbiases[r, c] = sum(float(value) for value in dy[:, c])
        for r, (dy, x_hat) in enumerate(zip(dys, x_hats, strict=True)):
            for i in range(len(dy)):
                rest = (dbiases[:, c].sum() + x_hat[i, c] * dweights[:, c].sum()) / n
                dxs[r][i, c] = weight[c] * inv_std[c] * (dy[i, c] - rest)
    return dxs, list(dweights), list(dbiases)


@right("float32", "backward_of_shards")
def shards_in_float32(dys, x_hats, weight, inv_std):
    dys, x_hats = ([part.astype(np.float32) for part in parts] for parts in (dys, x_hats))
    weight, inv_std = weight.astype(np.float32), inv_std.astype(np.float32)
    return shards_in_two_loops(dys, x_hats, weight, inv_std)


@right("autograd", "backward_of_shards")
def shards_by_autograd(dys, x_hats, weight, inv_std):
    # A weight for each process; x is any input with these x̂ and this inv_std.
    sizes = [len(dy) for dy in dys]
    scale = torch.tensor(inv_std)
    x = (torch.tensor(np.concatenate(x_hats)) / scale).requires_grad_()
    weights = torch.tensor(weight).repeat(len(dys), 1).requires_grad_()
    biases = torch.zeros_like(weights).requires_grad_()
    eps = (scale**-2 - x.var(0, correction=0)).detach()
    x_hat = (x - x.mean(0)) / torch.sqrt(x.var(0, correction=0) + eps)
    rows = torch.repeat_interleave(torch.arange(len(dys)), torch.tensor(sizes))
    y = weights[rows] * x_hat + biases[rows]
    dx, dweights, dbiases = torch.autograd.grad(y, (x, weights, biases), torch.tensor(np.concatenate(dys)))
    return [part.numpy() for part in dx.split(sizes)], dweights.numpy(), dbiases.numpy()


# samples_normalized_together

SAMPLES = {
    "ddp": 4,
    "converted": 32,
    "groups": 16,
    "accumulation": 4,
    "accumulation_synced": 16,
    "data_parallel": 8,
    "bare_layer": 4,
    "evaluation": 0,
}

right("a dict", "samples_normalized_together")(lambda setup: SAMPLES[setup])
right("floats", "samples_normalized_together")(lambda setup: float(SAMPLES[setup]))
right("NumPy's integers", "samples_normalized_together")(lambda setup: np.int32(SAMPLES[setup]))
right("NumPy's floats", "samples_normalized_together")(
    lambda setup: np.array(list(SAMPLES.values()), np.float32)[list(SAMPLES).index(setup)]
)


@right("if", "samples_normalized_together")
def samples_by_if(setup):
    if setup == "converted":
        return 32
    if "group" in setup or setup == "accumulation_synced":
        return 32 // 2
    if setup == "data_parallel":
        return 32 / 4
    return 0 if setup == "evaluation" else 32 // 8


@right("match", "samples_normalized_together")
def samples_by_match(setup):
    match setup:
        case "ddp" | "bare_layer":
            return 32 // 8
        case "converted":
            return 16 * 2
        case "groups" | "accumulation_synced":
            return 4 * 4
        case "accumulation":
            return 4
        case "data_parallel":
            return 32 // 4
        case _:
            return 0


@right("processes times samples", "samples_normalized_together")
def samples_by_product(setup):
    together = {"converted": (16, 2), "groups": (4, 4), "accumulation_synced": (4, 4), "evaluation": (0, 4)}
    return math.prod(together.get(setup, (1, 8 if setup == "data_parallel" else 4)))


# The first answer to each exercise in float32, if it takes arrays itself; pytorch_momentum takes none

for exercise, answers in RIGHT.items():
    if "float32" not in answers and not EXERCISES[exercise].drive:
        right("float32", exercise)(in_float32(next(iter(answers.values()))))
