"""Right answers of every shape to the exercises, as learners may write them: a check has to accept all of them.

``RIGHT[exercise][name]`` is a function; the name says what is special about its code. To add an
answer, write it below its exercise and put ``@right(name, exercise)`` above it. The answers have no
annotations, as in the notebooks.
"""

import functools
import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Callable

import numpy as np

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
        return value.astype(np.float32) if isinstance(value, np.ndarray) else value

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


# The first answer to each exercise in float32; pytorch_momentum takes no arrays and has one of its own

for exercise, answers in RIGHT.items():
    if "float32" not in answers:
        right("float32", exercise)(in_float32(next(iter(answers.values()))))
