"""Wrong answers, each with one mistake of the catalogue, written as learners write them.

``MISTAKEN[exercise]`` lists the id of a mistake and a function that makes it. The functions use nothing of the
course, least of all the steps by which its checks model mistakes: a mistake has to be recognized in code that
the checks do not know. To add one, write it below its exercise and put ``@mistaken(id, exercise)`` above it.
"""

from collections import defaultdict
from collections.abc import Callable

import numpy as np

MISTAKEN: dict[str, list[tuple[str, Callable]]] = defaultdict(list)


def mistaken(id: str, exercise: str) -> Callable[[Callable], Callable]:
    """Enter the function below as an answer to the exercise that makes this mistake."""

    def enter(function: Callable) -> Callable:
        MISTAKEN[exercise].append((id, function))
        return function

    return enter


# Helpers, such as learners write for themselves

NHW = (0, 2, 3)


def across(values):
    """Values of shape (C,) in a shape that lines up with axis 1 of images."""
    return values.reshape(1, -1, 1, 1)


def forward(x, eps):
    """x̂ and 1/√(σ² + ε) of a table."""
    inv_std = 1 / np.sqrt(x.var(0) + eps)
    return (x - x.mean(0)) * inv_std, inv_std


def stages(x, eps):
    """x − μ, σ² and √(σ² + ε) of a table."""
    centered = x - x.mean(0)
    var = (centered**2).mean(0)
    return centered, var, np.sqrt(var + eps)


def forward_images(x, eps):
    """The same of images."""
    inv_std = 1 / np.sqrt(x.var(NHW, keepdims=True) + eps)
    return (x - x.mean(NHW, keepdims=True)) * inv_std, inv_std


def backward(dx_hat, x_hat, inv_std):
    """dx of a table."""
    return inv_std * (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0))


def backward_images(dx_hat, x_hat, inv_std):
    """dx of images."""
    projection = (dx_hat * x_hat).mean(NHW, keepdims=True)
    return inv_std * (dx_hat - dx_hat.mean(NHW, keepdims=True) - x_hat * projection)


# normalize_channels


def other_axes(x):
    """All axes but that of the channels."""
    return (0, *range(2, x.ndim))


@mistaken("F06", "normalize_channels")
def mean_of_the_squares(x, eps):
    x_hat = np.zeros_like(x)
    for c in range(x.shape[1]):
        v = x[:, c]
        x_hat[:, c] = (v - v.mean()) / np.sqrt(np.mean(v * v) + eps)
    return x_hat


@mistaken("F08", "normalize_channels")
def x_times_inv_std(x, eps):
    mean = x.mean(other_axes(x), keepdims=True)
    centered = x - mean
    inv_std = 1 / np.sqrt((centered**2).mean(other_axes(x), keepdims=True) + eps)
    return x * inv_std


@mistaken("F24", "normalize_channels")
def writes_into_x(x, eps):
    for c in range(x.shape[1]):
        v = x[:, c].copy()
        x[:, c] = (v - v.mean()) / np.sqrt(v.var() + eps)
    return x


@mistaken("F26", "normalize_channels")
def result_for_integers(x, eps):
    x_hat = np.zeros(x.shape, dtype=int)
    for c in range(x.shape[1]):
        x_hat[:, c] = (x[:, c] - x[:, c].mean()) / np.sqrt(x[:, c].var() + eps)
    return x_hat


@mistaken("F30", "normalize_channels")
def mean_distance(x, eps):
    centered = x - x.mean(other_axes(x), keepdims=True)
    deviation = np.abs(centered).mean(other_axes(x), keepdims=True)
    return centered / np.sqrt(deviation**2 + eps)


@mistaken("F31", "normalize_channels")
def between_0_and_1(x, eps):
    low, high = x.min(other_axes(x), keepdims=True), x.max(other_axes(x), keepdims=True)
    return (x - low) / (high - low + eps)


@mistaken("F36", "normalize_channels")
def times_std(x, eps):
    axes = other_axes(x)
    return (x - x.mean(axes, keepdims=True)) * np.sqrt(x.var(axes, keepdims=True) + eps)


@mistaken("F37", "normalize_channels")
def sum_of_squares(x, eps):
    x_hat = np.empty_like(x)
    for c in range(x.shape[1]):
        centered = x[:, c] - x[:, c].mean()
        x_hat[:, c] = centered / np.sqrt((centered**2).sum() + eps)
    return x_hat


@mistaken("C01", "normalize_channels")
def only_over_the_batch(x, eps):
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)


@mistaken("C02", "normalize_channels")
def each_image_alone(x, eps):
    x_hat = np.zeros_like(x)
    for n in range(len(x)):
        for c in range(x.shape[1]):
            x_hat[n, c] = (x[n, c] - x[n, c].mean()) / np.sqrt(x[n, c].var() + eps)
    return x_hat


@mistaken("C07", "normalize_channels")
def columns_by_reshape(x, eps):
    table = x.reshape(-1, x.shape[1])
    return ((table - table.mean(0)) / np.sqrt(table.var(0) + eps)).reshape(x.shape)


@mistaken("C09", "normalize_channels")
def divided_by_the_batch_size(x, eps):
    mean = x.sum(other_axes(x), keepdims=True) / len(x)
    var = ((x - mean) ** 2).sum(other_axes(x), keepdims=True) / len(x)
    return (x - mean) / np.sqrt(var + eps)


@mistaken("C17", "normalize_channels")
def one_mean_for_all(x, eps):
    return (x - np.mean(x)) / np.sqrt(np.var(x) + eps)


@mistaken("C18", "normalize_channels")
def channels_last(x, eps):
    axes = tuple(range(x.ndim - 1))
    return (x - x.mean(axes)) / np.sqrt(x.var(axes) + eps)


@mistaken("C21", "normalize_channels")
def mean_of_the_images_variances(x, eps):
    per_image = x.reshape(*x.shape[:2], -1).var(axis=2)
    var = per_image.mean(axis=0).reshape(-1, *[1] * (x.ndim - 2))
    return (x - x.mean(other_axes(x), keepdims=True)) / np.sqrt(var + eps)


# batch_norm_forward


@mistaken("F01", "batch_norm_forward")
def divided_by_n_minus_1(x, weight, bias, eps):
    n = x.shape[0]
    centered = x - x.sum(axis=0) / n
    var = (centered**2).sum(axis=0) / (n - 1)
    return weight * centered / np.sqrt(var + eps) + bias


@mistaken("F02", "batch_norm_forward")
def eps_added_to_std(x, weight, bias, eps):
    return weight * (x - x.mean(0)) / (x.std(0) + eps) + bias


@mistaken("F02", "batch_norm_forward")
def eps_outside_the_fraction(x, weight, bias, eps):
    x_hat = (x - x.mean(0)) / np.sqrt(x.var(0)) + eps
    return weight * x_hat + bias


@mistaken("F03", "batch_norm_forward")
def without_eps(x, weight, bias, eps):
    return weight * (x - x.mean(0)) / x.std(0) + bias


@mistaken("F04", "batch_norm_forward")
def divided_by_the_variance(x, weight, bias, eps):
    inv = 1 / (x.var(0) + eps)
    return (x - x.mean(0)) * inv * weight + bias


@mistaken("F09", "batch_norm_forward")
def weight_for_bias(x, weight, bias, eps):
    y = np.zeros(x.shape)
    for c in range(x.shape[1]):
        v = x[:, c]
        y[:, c] = bias[c] * (v - v.mean()) / np.sqrt(v.var() + eps) + weight[c]
    return y


@mistaken("F11", "batch_norm_forward")
def sum_is_lost(x, weight, bias, eps):
    y = weight * (x - x.mean(0)) / np.sqrt(x.var(0) + eps)
    y + bias
    return y


@mistaken("F14", "batch_norm_forward")
def tiny_number_against_zero(x, weight, bias, eps):
    return weight * (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-8) + bias


@mistaken("F19", "batch_norm_forward")
def variance_in_one_pass(x, weight, bias, eps):
    mean = x.mean(0)
    var = np.maximum((x**2).mean(0) - mean**2, 0)
    return weight * (x - mean) / np.sqrt(var + eps) + bias


@mistaken("F24", "batch_norm_forward")
def centers_in_place(x, weight, bias, eps):
    var = x.var(0)
    np.subtract(x, x.mean(0), out=x)
    return weight * x / np.sqrt(var + eps) + bias


@mistaken("F29", "batch_norm_forward")
def std_of_at_least_eps(x, weight, bias, eps):
    return weight * (x - x.mean(0)) / np.maximum(x.std(0), eps) + bias


@mistaken("F32", "batch_norm_forward")
def minus_bias(x, weight, bias, eps):
    return weight * (x - x.mean(0)) / np.sqrt(x.var(0) + eps) - bias


@mistaken("F33", "batch_norm_forward")
def affine_first(x, weight, bias, eps):
    x = weight * x + bias
    return (x - x.mean(0)) / np.sqrt(x.var(0) + eps)


@mistaken("F34", "batch_norm_forward")
def weight_times_the_sum(x, weight, bias, eps):
    x_hat = (x - x.mean(0)) / np.sqrt(x.var(0) + eps)
    return weight * (x_hat + bias)


@mistaken("F38", "batch_norm_forward")
def missing_parentheses(x, weight, bias, eps):
    x_hat = x - x.mean(0) / np.sqrt(x.var(0) + eps)
    return weight * x_hat + bias


@mistaken("F39", "batch_norm_forward")
def x_for_x_hat(x, weight, bias, eps):
    x_hat = (x - x.mean(0)) / np.sqrt(x.var(0) + eps)  # noqa: F841
    return weight * x + bias


@mistaken("F40", "batch_norm_forward")
def root_of_the_std(x, weight, bias, eps):
    return weight * (x - x.mean(0)) / np.sqrt(x.std(0) + eps) + bias


@mistaken("C05", "batch_norm_forward")
def row_by_row(x, weight, bias, eps):
    rows = [(row - row.mean()) / np.sqrt(row.var() + eps) for row in x]
    return weight * np.array(rows) + bias


@mistaken("C05", "batch_norm_forward")
def axis_1(x, weight, bias, eps):
    mean = x.mean(axis=1)
    var = x.var(axis=1)
    return weight * (x - mean) / np.sqrt(var + eps) + bias


@mistaken("C15", "batch_norm_forward")
def list_of_columns(x, weight, bias, eps):
    columns = []
    for c in range(x.shape[1]):
        v = x[:, c]
        columns.append(weight[c] * (v - v.mean()) / np.sqrt(v.var() + eps) + bias[c])
    return np.array(columns)


# batch_norm_forward_images


@mistaken("F07", "batch_norm_forward_images")
def only_centered(x, weight, bias, eps):
    x_hat = x - x.mean(NHW, keepdims=True)
    return across(weight) * x_hat + across(bias)


@mistaken("F15", "batch_norm_forward_images")
def keras_default(x, weight, bias, eps=1e-3):
    mean, var = x.mean(NHW, keepdims=True), x.var(NHW, keepdims=True)
    return across(weight) * (x - mean) / np.sqrt(var + 1e-3) + across(bias)


@mistaken("C01", "batch_norm_forward_images")
def one_mean_per_pixel(x, weight, bias, eps):
    mean = x.mean(axis=0, keepdims=True)
    var = x.var(axis=(0, 2, 3), keepdims=True)
    return across(weight) * (x - mean) / np.sqrt(var + eps) + across(bias)


@mistaken("C02", "batch_norm_forward_images")
def instance_norm(x, weight, bias, eps):
    x_hat = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + eps)
    return x_hat * weight[:, None, None] + bias[:, None, None]


@mistaken("C05", "batch_norm_forward_images")
def layer_norm(x, weight, bias, eps):
    x_hat = (x - x.mean((1, 2, 3), keepdims=True)) / np.sqrt(x.var((1, 2, 3), keepdims=True) + eps)
    return across(weight) * x_hat + across(bias)


@mistaken("C06", "batch_norm_forward_images")
def weight_as_it_is(x, weight, bias, eps):
    x_hat, _ = forward_images(x, eps)
    return weight * x_hat + bias


@mistaken("C06", "batch_norm_forward_images")
def bias_as_it_is(x, weight, bias, eps):
    x_hat, _ = forward_images(x, eps)
    return across(weight) * x_hat + bias


@mistaken("C07", "batch_norm_forward_images")
def rows_by_reshape(x, weight, bias, eps):
    rows = x.reshape(x.shape[1], -1)
    x_hat = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + eps)
    return (weight[:, None] * x_hat + bias[:, None]).reshape(x.shape)


@mistaken("C09", "batch_norm_forward_images")
def one_image_refused(x, weight, bias, eps):
    if x.shape[0] == 1:
        raise ValueError("one image has no variance")
    x_hat, _ = forward_images(x, eps)
    return across(weight) * x_hat + across(bias)


@mistaken("C14", "batch_norm_forward_images")
def statistics_without_keepdims(x, weight, bias, eps):
    x_hat = (x - x.mean(NHW)) / np.sqrt(x.var(NHW) + eps)
    return across(weight) * x_hat + across(bias)


@mistaken("C15", "batch_norm_forward_images")
def channels_stay_last(x, weight, bias, eps):
    moved = x.transpose(0, 2, 3, 1)
    mean, var = moved.mean((0, 1, 2)), moved.var((0, 1, 2))
    return weight * (moved - mean) / np.sqrt(var + eps) + bias


@mistaken("C20", "batch_norm_forward_images")
def not_moved_back(x, weight, bias, eps):
    table = x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])
    y = weight * (table - table.mean(0)) / np.sqrt(table.var(0) + eps) + bias
    return y.reshape(x.shape)


@mistaken("C21", "batch_norm_forward_images")
def variance_of_the_images_means(x, weight, bias, eps):
    means = x.mean((2, 3))
    x_hat = (x - across(means.mean(0))) / np.sqrt(across(means.var(0)) + eps)
    return across(weight) * x_hat + across(bias)


# stable_variance


@mistaken("F01", "stable_variance")
def as_torch_does(x):
    d = x - x.mean(axis=0)
    return (d * d).sum(axis=0) / (x.shape[0] - 1)


@mistaken("F06", "stable_variance")
def squares_of_x(x):
    return np.mean(x**2, axis=0)


@mistaken("F19", "stable_variance")
def never_negative(x):
    return np.abs((x**2).mean(axis=0) - x.mean(axis=0) ** 2)


@mistaken("F19", "stable_variance")
def sums_in_a_loop(x):
    total, squares = np.zeros(x.shape[1], np.float32), np.zeros(x.shape[1], np.float32)
    for row in x:
        total += row
        squares += row * row
    return squares / len(x) - (total / len(x)) ** 2


@mistaken("F24", "stable_variance")
def subtracts_in_place(x):
    x -= x.mean(axis=0)
    return (x**2).mean(axis=0)


@mistaken("F35", "stable_variance")
def root_of_the_variance(x):
    return np.sqrt(((x - x.mean(axis=0)) ** 2).mean(axis=0))


@mistaken("F37", "stable_variance")
def not_divided(x):
    return ((x - x.mean(axis=0)) ** 2).sum(axis=0)


@mistaken("C05", "stable_variance")
def variance_of_each_row(x):
    return ((x - x.mean(axis=1, keepdims=True)) ** 2).mean(axis=1)


@mistaken("C17", "stable_variance")
def variance_of_everything(x):
    return ((x - x.mean()) ** 2).mean()


@mistaken("C17", "stable_variance")
def around_one_mean(x):
    return ((x - x.mean()) ** 2).mean(axis=0)


# batch_norm_backward_nodes


def from_y(dy, x, weight, eps):
    """u, 1/√(var + ε), and the gradients as far as x̂."""
    u, _, std = stages(x, eps)
    return u, 1 / std, {"dbias": dy.sum(0), "dweight": (dy * u / std).sum(0), "dx_hat": dy * weight}


def through_inv_std(known, u, inv_std):
    """And those of inv_std and of the variance."""
    dinv_std = (known["dx_hat"] * u).sum(0)
    return {**known, "dinv_std": dinv_std, "dvar": -0.5 * inv_std**3 * dinv_std}


def through_u(known, u, inv_std):
    """And those of u, of the mean and of x."""
    du = known["dx_hat"] * inv_std + known["dvar"] * 2 * u / len(u)
    return {**known, "du": du, "dmean": -du.sum(0), "dx": du - du.mean(0)}


@mistaken("B02", "batch_norm_backward_nodes")
def u_only_in_x_hat(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    du = known["dx_hat"] * inv_std
    return {**through_inv_std(known, u, inv_std), "du": du, "dmean": -du.sum(0), "dx": du - du.mean(0)}


@mistaken("B03", "batch_norm_backward_nodes")
def dx_is_du(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    known = through_u(through_inv_std(known, u, inv_std), u, inv_std)
    known["dx"] = known["du"]
    return known


@mistaken("B04", "batch_norm_backward_nodes")
def both_means_taken_for_sums(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    known = through_inv_std(known, u, inv_std)
    du = known["dx_hat"] * inv_std + known["dvar"] * 2 * u
    dmean = -du.sum(0)
    return {**known, "du": du, "dmean": dmean, "dx": du + dmean}


@mistaken("B06", "batch_norm_backward_nodes")
def divided_by_inv_std(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    known = through_inv_std(known, u, inv_std)
    du = known["dx_hat"] / inv_std + known["dvar"] * 2 * u / len(x)
    return {**known, "du": du, "dmean": -du.sum(0), "dx": du - du.mean(0)}


@mistaken("B12", "batch_norm_backward_nodes")
def square_without_its_2(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    known = through_inv_std(known, u, inv_std)
    du = known["dx_hat"] * inv_std + known["dvar"] * u / len(x)
    return {**known, "du": du, "dmean": -du.sum(0), "dx": du - du.mean(0)}


@mistaken("B16", "batch_norm_backward_nodes")
def x_for_u(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    return through_u(through_inv_std(known, u, inv_std), x, inv_std)


@mistaken("B25", "batch_norm_backward_nodes")
def average_for_dinv_std(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    dinv_std = (known["dx_hat"] * u).mean(0)
    return through_u({**known, "dinv_std": dinv_std, "dvar": -0.5 * inv_std**3 * dinv_std}, u, inv_std)


@mistaken("B32", "batch_norm_backward_nodes")
def parameters_summed_over_features(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    known["dbias"], known["dweight"] = dy.sum(axis=1), (dy * u * inv_std).sum(axis=1)
    return through_u(through_inv_std(known, u, inv_std), u, inv_std)


@mistaken("B39", "batch_norm_backward_nodes")
def no_sum_for_the_parameters(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    known["dbias"], known["dweight"] = dy, dy * u * inv_std
    return through_u(through_inv_std(known, u, inv_std), u, inv_std)


@mistaken("B40", "batch_norm_backward_nodes")
def x_hat_in_dinv_std(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    dinv_std = (known["dx_hat"] * u * inv_std).sum(0)
    return through_u({**known, "dinv_std": dinv_std, "dvar": -0.5 * inv_std**3 * dinv_std}, u, inv_std)


@mistaken("B40", "batch_norm_backward_nodes")
def x_in_dinv_std(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    return through_u(through_inv_std(known, x, inv_std), u, inv_std)


@mistaken("B41", "batch_norm_backward_nodes")
def dvar_without_its_sign(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    known = through_inv_std(known, u, inv_std)
    known["dvar"] = 0.5 * inv_std**3 * known["dinv_std"]
    return through_u(known, u, inv_std)


@mistaken("B42", "batch_norm_backward_nodes")
def exponent_of_the_root(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    known = through_inv_std(known, u, inv_std)
    known["dvar"] = -0.5 * known["dinv_std"] * (x.var(0) + eps) ** -0.5
    return through_u(known, u, inv_std)


@mistaken("B42", "batch_norm_backward_nodes")
def exponent_of_inv_std(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    known = through_inv_std(known, u, inv_std)
    known["dvar"] = -0.5 * known["dinv_std"] * inv_std**1.5
    return through_u(known, u, inv_std)


@mistaken("B43", "batch_norm_backward_nodes")
def u_only_in_the_variance(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    known = through_inv_std(known, u, inv_std)
    du = known["dvar"] * 2 * u / len(x)
    return {**known, "du": du, "dmean": -du.sum(0), "dx": du - du.mean(0)}


@mistaken("B44", "batch_norm_backward_nodes")
def average_for_dmean(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    known = through_u(through_inv_std(known, u, inv_std), u, inv_std)
    dmean = -known["du"].mean(0)
    return {**known, "dmean": dmean, "dx": known["du"] + dmean / len(x)}


@mistaken("B45", "batch_norm_backward_nodes")
def nothing_came_down(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    known = through_inv_std(known, u, inv_std)
    known["dvar"] = -0.5 * inv_std**3
    return through_u(known, u, inv_std)


@mistaken("B46", "batch_norm_backward_nodes")
def product_of_two_paths(dy, x, weight, eps):
    u, inv_std, known = from_y(dy, x, weight, eps)
    known = through_inv_std(known, u, inv_std)
    du = known["dx_hat"] * inv_std * known["dvar"] * 2 * u / len(x)
    return {**known, "du": du, "dmean": -du.sum(0), "dx": du - du.mean(0)}


@mistaken("F04", "batch_norm_backward_nodes")
def inv_std_without_the_root(dy, x, weight, eps):
    u, var, _ = stages(x, eps)
    inv_std = 1 / (var + eps)
    known = {"dbias": dy.sum(0), "dweight": (dy * u * inv_std).sum(0), "dx_hat": dy * weight}
    dinv_std = (known["dx_hat"] * u).sum(0)
    return through_u({**known, "dinv_std": dinv_std, "dvar": -0.5 * dinv_std * (var + eps) ** -1.5}, u, inv_std)


# batch_norm_backward


@mistaken("B01", "batch_norm_backward")
def statistics_as_constants(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    return weight * dy * inv_std, (dy * x_hat).sum(0), dy.sum(0)


@mistaken("B02", "batch_norm_backward")
def no_path_through_the_variance(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    return weight * inv_std * (dy - dy.mean(0)), (dy * x_hat).sum(0), dy.sum(0)


@mistaken("B03", "batch_norm_backward")
def no_path_through_the_mean(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    dweight, dbias = (dy * x_hat).sum(0), dy.sum(0)
    return weight * inv_std * (dy - x_hat * dweight / len(x)), dweight, dbias


@mistaken("B04", "batch_norm_backward")
def sums_for_means(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    dweight, dbias = (dy * x_hat).sum(0), dy.sum(0)
    return weight * inv_std * (dy - dbias - x_hat * dweight), dweight, dbias


@mistaken("B09", "batch_norm_backward")
def plus_the_projection(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    dx_hat = dy * weight
    dx = inv_std * (dx_hat - dx_hat.mean(0) + x_hat * (dx_hat * x_hat).mean(0))
    return dx, (dy * x_hat).sum(0), dy.sum(0)


@mistaken("B10", "batch_norm_backward")
def dmean_subtracted(dy, x, weight, eps):
    n, u, var, std = len(x), *stages(x, eps)
    dx_hat = dy * weight
    dvar = (dx_hat * u).sum(0) * -0.5 * (var + eps) ** -1.5
    dmean = -(dx_hat / std).sum(0)
    return dx_hat / std + dvar * 2 * u / n - dmean / n, (dy * u / std).sum(0), dy.sum(0)


@mistaken("B13", "batch_norm_backward")
def lost_the_half(dy, x, weight, eps):
    n, u, var, std = len(x), *stages(x, eps)
    dx_hat = dy * weight
    dvar = -(dx_hat * u).sum(0) * (var + eps) ** -1.5
    dmean = -(dx_hat / std).sum(0)
    return dx_hat / std + dvar * 2 * u / n + dmean / n, (dy * u / std).sum(0), dy.sum(0)


@mistaken("B16", "batch_norm_backward")
def raw_x_in_front(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    dx_hat = dy * weight
    dx = inv_std * (dx_hat - dx_hat.mean(0) - x * (dx_hat * x_hat).mean(0))
    return dx, (dy * x_hat).sum(0), dy.sum(0)


@mistaken("B18", "batch_norm_backward")
def centered_for_x_hat(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    u, dx_hat = x - x.mean(0), dy * weight
    dx = inv_std * (dx_hat - dx_hat.mean(0) - u * (dx_hat * u).mean(0))
    return dx, (dy * x_hat).sum(0), dy.sum(0)


@mistaken("B23", "batch_norm_backward")
def centered_for_dweight(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    return backward(dy * weight, x_hat, inv_std), (dy * (x - x.mean(0))).sum(0), dy.sum(0)


@mistaken("B26", "batch_norm_backward")
def dweight_from_dx_hat(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    dx_hat = dy * weight
    return backward(dx_hat, x_hat, inv_std), (dx_hat * x_hat).sum(0), dy.sum(0)


@mistaken("B28", "batch_norm_backward")
def bias_before_weight(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    return backward(dy * weight, x_hat, inv_std), dy.sum(0), (dy * x_hat).sum(0)


@mistaken("B32", "batch_norm_backward")
def one_number_per_sample(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    return backward(dy * weight, x_hat, inv_std), (dy * x_hat).sum(axis=1), dy.sum(axis=1)


@mistaken("B47", "batch_norm_backward")
def parentheses_of_inv_std(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    dx_hat = dy * weight
    dx = inv_std * dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0)
    return dx, (dy * x_hat).sum(0), dy.sum(0)


@mistaken("B47", "batch_norm_backward")
def dmean_without_std(dy, x, weight, eps):
    n, u, var, std = len(x), *stages(x, eps)
    dx_hat = dy * weight
    dvar = (dx_hat * u).sum(0) * -0.5 * (var + eps) ** -1.5
    dmean = -dx_hat.sum(0)
    return dx_hat / std + dvar * 2 * u / n + dmean / n, (dy * u / std).sum(0), dy.sum(0)


@mistaken("B48", "batch_norm_backward")
def weight_only_on_the_direct_path(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    dweight, dbias, n = (dy * x_hat).sum(0), dy.sum(0), len(x)
    return inv_std * (weight * dy - dbias / n - x_hat * dweight / n), dweight, dbias


@mistaken("B49", "batch_norm_backward")
def n_times_dy_without_the_n(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    dweight, dbias = (dy * x_hat).sum(0), dy.sum(0)
    return weight * inv_std / len(x) * (dy - dbias - x_hat * dweight), dweight, dbias


@mistaken("B50", "batch_norm_backward")
def x_hat_inside_the_mean(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    dx_hat = dy * weight
    dx = inv_std * (dx_hat - dx_hat.mean(0) - (x_hat * dx_hat * x_hat).mean(0))
    return dx, (dy * x_hat).sum(0), dy.sum(0)


@mistaken("B53", "batch_norm_backward")
def x_hat_for_u_in_dvar(dy, x, weight, eps):
    n, u, var, std = len(x), *stages(x, eps)
    x_hat, dx_hat = u / std, dy * weight
    dvar = (dx_hat * x_hat).sum(0) * -0.5 * (var + eps) ** -1.5
    dmean = -(dx_hat / std).sum(0)
    return dx_hat / std + dvar * 2 * u / n + dmean / n, (dy * x_hat).sum(0), dy.sum(0)


@mistaken("B53", "batch_norm_backward")
def cube_of_the_variance(dy, x, weight, eps):
    n, u, var, std = len(x), *stages(x, eps)
    dx_hat = dy * weight
    dvar = (dx_hat * u).sum(0) * -0.5 * (var + eps) ** -3
    dmean = -(dx_hat / std).sum(0)
    return dx_hat / std + dvar * 2 * u / n + dmean / n, (dy * u / std).sum(0), dy.sum(0)


@mistaken("F02", "batch_norm_backward")
def eps_beside_the_root(dy, x, weight, eps):
    n, u, var, _ = len(x), *stages(x, eps)
    std = np.sqrt(var) + eps
    dx_hat = dy * weight
    dvar = (dx_hat * u).sum(0) * -0.5 * (var + eps) ** -1.5
    dmean = -(dx_hat / std).sum(0)
    return dx_hat / std + dvar * 2 * u / n + dmean / n, (dy * u / std).sum(0), dy.sum(0)


@mistaken("F08", "batch_norm_backward")
def x_hat_not_centered(dy, x, weight, eps):
    inv_std = 1 / np.sqrt(x.var(0) + eps)
    x_hat = x * inv_std
    return backward(dy * weight, x_hat, inv_std), (dy * x_hat).sum(0), dy.sum(0)


@mistaken("C05", "batch_norm_backward")
def means_over_the_features(dy, x, weight, eps):
    inv_std = 1 / np.sqrt(x.var(1, keepdims=True) + eps)
    x_hat, dx_hat = (x - x.mean(1, keepdims=True)) * inv_std, dy * weight
    projection = (dx_hat * x_hat).mean(1, keepdims=True)
    dx = inv_std * (dx_hat - dx_hat.mean(1, keepdims=True) - x_hat * projection)
    return dx, (dy * x_hat).sum(0), dy.sum(0)


@mistaken("C17", "batch_norm_backward")
def means_over_everything(dy, x, weight, eps):
    x_hat, inv_std = forward(x, eps)
    dx_hat = dy * weight
    dx = inv_std * (dx_hat - dx_hat.mean() - x_hat * (dx_hat * x_hat).mean())
    return dx, (dy * x_hat).sum(0), dy.sum(0)


# batch_norm_backward_images


@mistaken("B08", "batch_norm_backward_images")
def dx_times_std(dy, x, weight, eps):
    x_hat, inv_std = forward_images(x, eps)
    return backward_images(dy * across(weight), x_hat, 1 / inv_std), (dy * x_hat).sum(NHW), dy.sum(NHW)


@mistaken("B15", "batch_norm_backward_images")
def n_counts_images(dy, x, weight, eps):
    x_hat, inv_std = forward_images(x, eps)
    n, dweight, dbias = len(x), (dy * x_hat).sum(NHW), dy.sum(NHW)
    dx = across(weight) * inv_std / n * (n * dy - across(dbias) - x_hat * across(dweight))
    return dx, dweight, dbias


@mistaken("B22", "batch_norm_backward_images")
def x_for_dweight(dy, x, weight, eps):
    x_hat, inv_std = forward_images(x, eps)
    return backward_images(dy * across(weight), x_hat, inv_std), (dy * x).sum(NHW), dy.sum(NHW)


@mistaken("B27", "batch_norm_backward_images")
def weight_times_dbias(dy, x, weight, eps):
    x_hat, inv_std = forward_images(x, eps)
    return backward_images(dy * across(weight), x_hat, inv_std), (dy * x_hat).sum(NHW), weight * dy.sum(NHW)


@mistaken("B30", "batch_norm_backward_images")
def summed_over_the_batch_alone(dy, x, weight, eps):
    x_hat, inv_std = forward_images(x, eps)
    return backward_images(dy * across(weight), x_hat, inv_std), (dy * x_hat).sum(0), dy.sum(0)


@mistaken("B31", "batch_norm_backward_images")
def summed_over_everything(dy, x, weight, eps):
    x_hat, inv_std = forward_images(x, eps)
    return backward_images(dy * across(weight), x_hat, inv_std), (dy * x_hat).sum(), dy.sum()


@mistaken("B32", "batch_norm_backward_images")
def summed_up_to_the_last_axis(dy, x, weight, eps):
    x_hat, inv_std = forward_images(x, eps)
    return backward_images(dy * across(weight), x_hat, inv_std), (dy * x_hat).sum((0, 1, 2)), dy.sum((0, 1, 2))


@mistaken("B39", "batch_norm_backward_images")
def summed_image_by_image(dy, x, weight, eps):
    x_hat, inv_std = forward_images(x, eps)
    return backward_images(dy * across(weight), x_hat, inv_std), (dy * x_hat).sum((2, 3)), dy.sum((2, 3))


@mistaken("C01", "batch_norm_backward_images")
def statistics_over_the_batch_alone(dy, x, weight, eps):
    inv_std = 1 / np.sqrt(x.var(0) + eps)
    x_hat, dx_hat = (x - x.mean(0)) * inv_std, dy * across(weight)
    return backward(dx_hat, x_hat, inv_std), (dy * x_hat).sum(NHW), dy.sum(NHW)


@mistaken("C02", "batch_norm_backward_images")
def statistics_of_each_image(dy, x, weight, eps):
    inv_std = 1 / np.sqrt(x.var((2, 3), keepdims=True) + eps)
    x_hat = (x - x.mean((2, 3), keepdims=True)) * inv_std
    return backward_images(dy * across(weight), x_hat, inv_std), (dy * x_hat).sum(NHW), dy.sum(NHW)


@mistaken("C06", "batch_norm_backward_images")
def weight_not_reshaped(dy, x, weight, eps):
    x_hat, inv_std = forward_images(x, eps)
    return backward_images(dy * weight, x_hat, inv_std), (dy * x_hat).sum(NHW), dy.sum(NHW)


@mistaken("C06", "batch_norm_backward_images")
def sums_not_reshaped(dy, x, weight, eps):
    x_hat, inv_std = forward_images(x, eps)
    m, dweight, dbias = x.size / x.shape[1], (dy * x_hat).sum(NHW), dy.sum(NHW)
    return across(weight) * inv_std / m * (m * dy - dbias - x_hat * dweight), dweight, dbias


@mistaken("C07", "batch_norm_backward_images")
def table_by_reshape(dy, x, weight, eps):
    x_table, dy_table = x.reshape(-1, x.shape[1]), dy.reshape(-1, x.shape[1])
    x_hat, inv_std = forward(x_table, eps)
    dx = backward(dy_table * weight, x_hat, inv_std)
    return dx.reshape(x.shape), (dy_table * x_hat).sum(0), dy_table.sum(0)


@mistaken("C14", "batch_norm_backward_images")
def no_keepdims_at_all(dy, x, weight, eps):
    inv_std = 1 / np.sqrt(x.var(NHW) + eps)
    x_hat, dx_hat = (x - x.mean(NHW)) * inv_std, dy * across(weight)
    dx = inv_std * (dx_hat - dx_hat.mean(NHW) - x_hat * (dx_hat * x_hat).mean(NHW))
    return dx, (dy * x_hat).sum(NHW), dy.sum(NHW)


@mistaken("C14", "batch_norm_backward_images")
def no_keepdims_in_dx(dy, x, weight, eps):
    x_hat, inv_std = forward_images(x, eps)
    dx_hat = dy * across(weight)
    dx = inv_std * (dx_hat - dx_hat.mean(NHW) - x_hat * (dx_hat * x_hat).mean(NHW))
    return dx, (dy * x_hat).sum(NHW), dy.sum(NHW)


@mistaken("C18", "batch_norm_backward_images")
def keras_axes(dy, x, weight, eps):
    axes = (0, 1, 2)
    inv_std = 1 / np.sqrt(x.var(axes) + eps)
    x_hat, dx_hat = (x - x.mean(axes)) * inv_std, dy * across(weight)
    dx = inv_std * (dx_hat - dx_hat.mean(axes) - x_hat * (dx_hat * x_hat).mean(axes))
    return dx, (dy * x_hat).sum(NHW), dy.sum(NHW)


@mistaken("C20", "batch_norm_backward_images")
def dx_not_moved_back(dy, x, weight, eps):
    x_table, dy_table = (a.transpose(0, 2, 3, 1).reshape(-1, a.shape[1]) for a in (x, dy))
    x_hat, inv_std = forward(x_table, eps)
    dx = backward(dy_table * weight, x_hat, inv_std)
    return dx.reshape(x.shape), (dy_table * x_hat).sum(0), dy_table.sum(0)


# update_running_stats


@mistaken("R01", "update_running_stats")
def momentum_keeps_the_old(x, running_mean, running_var, momentum):
    mean, var = x.mean(NHW), x.var(NHW, ddof=1)
    return mean + momentum * (running_mean - mean), var + momentum * (running_var - var)


@mistaken("R02", "update_running_stats")
def variance_of_numpy(x, running_mean, running_var, momentum):
    mean, var = x.mean(NHW), x.var(NHW)
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * var


@mistaken("R05", "update_running_stats")
def std_is_stored(x, running_mean, running_var, momentum):
    mean, std = x.mean(NHW), x.std(NHW, ddof=1)
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * std


@mistaken("R07", "update_running_stats")
def new_values_are_lost(x, running_mean, running_var, momentum):
    new_mean = (1 - momentum) * running_mean + momentum * x.mean(NHW)  # noqa: F841
    new_var = (1 - momentum) * running_var + momentum * x.var(NHW, ddof=1)  # noqa: F841
    return running_mean, running_var


@mistaken("R13", "update_running_stats")
def only_the_mean_moves(x, running_mean, running_var, momentum):
    return (1 - momentum) * running_mean + momentum * x.mean(NHW), running_var.copy()


@mistaken("R25", "update_running_stats")
def averages_in_place(x, running_mean, running_var, momentum):
    running_mean *= 1 - momentum
    running_mean += momentum * x.mean(NHW)
    running_var *= 1 - momentum
    running_var += momentum * x.var(NHW, ddof=1)
    return running_mean, running_var


@mistaken("R27", "update_running_stats")
def plain_average_of_old_and_new(x, running_mean, running_var, momentum):
    return (running_mean + x.mean(NHW)) / 2, (running_var + x.var(NHW, ddof=1)) / 2


@mistaken("R27", "update_running_stats")
def momentum_by_heart(x, running_mean, running_var, momentum):
    return 0.9 * running_mean + 0.1 * x.mean(NHW), 0.9 * running_var + 0.1 * x.var(NHW, ddof=1)


@mistaken("R29", "update_running_stats")
def old_values_keep_their_weight(x, running_mean, running_var, momentum):
    return running_mean + momentum * x.mean(NHW), running_var + momentum * x.var(NHW, ddof=1)


@mistaken("R29", "update_running_stats")
def new_values_with_full_weight(x, running_mean, running_var, momentum):
    keep = 1 - momentum
    return keep * running_mean + x.mean(NHW), keep * running_var + x.var(NHW, ddof=1)


@mistaken("R30", "update_running_stats")
def everything_corrected(x, running_mean, running_var, momentum):
    m = x.size / x.shape[1]
    new_var = ((1 - momentum) * running_var + momentum * x.var(NHW)) * m / (m - 1)
    return (1 - momentum) * running_mean + momentum * x.mean(NHW), new_var


@mistaken("R32", "update_running_stats")
def around_the_running_mean(x, running_mean, running_var, momentum):
    m = x.size / x.shape[1]
    var = ((x - across(running_mean)) ** 2).sum(NHW) / (m - 1)
    return (1 - momentum) * running_mean + momentum * x.mean(NHW), (1 - momentum) * running_var + momentum * var


@mistaken("R34", "update_running_stats")
def away_from_the_batch(x, running_mean, running_var, momentum):
    mean, var = x.mean(NHW), x.var(NHW, ddof=1)
    return running_mean + momentum * (running_mean - mean), running_var + momentum * (running_var - var)


@mistaken("C02", "update_running_stats")
def axes_of_one_image(x, running_mean, running_var, momentum):
    mean, var = x.mean((2, 3)), x.var((2, 3), ddof=1)
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * var


@mistaken("C05", "update_running_stats")
def axes_of_a_sample(x, running_mean, running_var, momentum):
    mean, var = x.mean((1, 2, 3)), x.var((1, 2, 3), ddof=1)
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * var


@mistaken("C07", "update_running_stats")
def rows_of_channels_by_reshape(x, running_mean, running_var, momentum):
    rows = x.reshape(x.shape[1], -1)
    mean, var = rows.mean(axis=1), rows.var(axis=1, ddof=1)
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * var


@mistaken("C09", "update_running_stats")
def n_over_n_minus_1(x, running_mean, running_var, momentum):
    n = x.shape[0]
    var = x.var(NHW) * n / (n - 1) if n > 1 else np.full(x.shape[1], np.nan)
    return (1 - momentum) * running_mean + momentum * x.mean(NHW), (1 - momentum) * running_var + momentum * var


@mistaken("C14", "update_running_stats")
def batch_mean_not_reshaped(x, running_mean, running_var, momentum):
    mean, m = x.mean(NHW), x.size / x.shape[1]
    var = ((x - mean) ** 2).sum(NHW) / (m - 1)
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * var


@mistaken("C15", "update_running_stats")
def statistics_with_keepdims(x, running_mean, running_var, momentum):
    mean, var = x.mean(NHW, keepdims=True), x.var(NHW, ddof=1, keepdims=True)
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * var


# pytorch_momentum


@mistaken("U13", "pytorch_momentum")
def taken_as_it_is(momentum, framework):
    return momentum


@mistaken("U33", "pytorch_momentum")
def always_converted(momentum, framework):
    if framework == "keras" or "flax" or "onnx":  # noqa: SIM222
        return 1 - momentum
    return momentum


@mistaken("U34", "pytorch_momentum")
def onnx_taken_for_pytorch(momentum, framework):
    return 1 - momentum if framework in ("keras", "flax") else momentum


@mistaken("U34", "pytorch_momentum")
def only_keras_converted(momentum, framework):
    if framework == "keras":
        return 1 - momentum
    return momentum


@mistaken("U35", "pytorch_momentum")
def reciprocal(momentum, framework):
    return momentum if framework == "pytorch" else 1 / momentum


@mistaken("U35", "pytorch_momentum")
def difference_the_other_way(momentum, framework):
    return momentum if framework == "pytorch" else momentum - 1


@mistaken("U36", "pytorch_momentum")
def the_other_way_round(momentum, framework):
    if framework == "pytorch":
        return 1 - momentum
    return momentum


# cumulative_average


@mistaken("R16", "cumulative_average")
def fixed_weight(x, running_mean, running_var, num_batches_tracked):
    mean, var = x.mean(NHW), x.var(NHW, ddof=1)
    return 0.9 * running_mean + 0.1 * mean, 0.9 * running_var + 0.1 * var, num_batches_tracked + 1


@mistaken("R16", "cumulative_average")
def counted_too_late(x, running_mean, running_var, num_batches_tracked):
    weight = 1 / num_batches_tracked
    new_mean = (1 - weight) * running_mean + weight * x.mean(NHW)
    new_var = (1 - weight) * running_var + weight * x.var(NHW, ddof=1)
    return new_mean, new_var, num_batches_tracked + 1


@mistaken("R16", "cumulative_average")
def weights_swapped(x, running_mean, running_var, num_batches_tracked):
    n = num_batches_tracked + 1
    new_mean = running_mean / n + (1 - 1 / n) * x.mean(NHW)
    new_var = running_var / n + (1 - 1 / n) * x.var(NHW, ddof=1)
    return new_mean, new_var, n


@mistaken("R16", "cumulative_average")
def counted_twice(x, running_mean, running_var, num_batches_tracked):
    n = num_batches_tracked + 1
    new_mean = (running_mean * n + x.mean(NHW)) / (n + 1)
    new_var = (running_var * n + x.var(NHW, ddof=1)) / (n + 1)
    return new_mean, new_var, n + 1


@mistaken("R31", "cumulative_average")
def count_stays(x, running_mean, running_var, num_batches_tracked):
    n = num_batches_tracked
    new_mean = (running_mean * n + x.mean(NHW)) / (n + 1)
    new_var = (running_var * n + x.var(NHW, ddof=1)) / (n + 1)
    return new_mean, new_var, n


@mistaken("R31", "cumulative_average")
def images_counted(x, running_mean, running_var, num_batches_tracked):
    weight = 1 / (num_batches_tracked + 1)
    new_mean = running_mean + weight * (x.mean(NHW) - running_mean)
    new_var = running_var + weight * (x.var(NHW, ddof=1) - running_var)
    return new_mean, new_var, num_batches_tracked + len(x)


@mistaken("R11", "cumulative_average")
def last_batch_only(x, running_mean, running_var, num_batches_tracked):
    return x.mean(NHW), x.var(NHW, ddof=1), num_batches_tracked + 1


@mistaken("R26", "cumulative_average")
def variance_first(x, running_mean, running_var, num_batches_tracked):
    n = num_batches_tracked + 1
    new_mean = running_mean + (x.mean(NHW) - running_mean) / n
    new_var = running_var + (x.var(NHW, ddof=1) - running_var) / n
    return new_var, new_mean, n


@mistaken("R33", "cumulative_average")
def average_variance_of_an_image(x, running_mean, running_var, num_batches_tracked):
    n = num_batches_tracked + 1
    var = x.var((2, 3)).mean(0)
    return running_mean + (x.mean(NHW) - running_mean) / n, running_var + (var - running_var) / n, n


@mistaken("F06", "cumulative_average")
def squares_of_x_remembered(x, running_mean, running_var, num_batches_tracked):
    n, m = num_batches_tracked + 1, x.size / x.shape[1]
    var = (x**2).sum(NHW) / (m - 1)
    return running_mean + (x.mean(NHW) - running_mean) / n, running_var + (var - running_var) / n, n


@mistaken("F19", "cumulative_average")
def difference_of_squares(x, running_mean, running_var, num_batches_tracked):
    n, m = num_batches_tracked + 1, x.size / x.shape[1]
    mean = x.mean(NHW)
    var = ((x**2).mean(NHW) - mean**2) * m / (m - 1)
    return running_mean + (mean - running_mean) / n, running_var + (var - running_var) / n, n


# batch_norm_eval


@mistaken("R05", "batch_norm_eval")
def root_taken_twice(x, weight, bias, running_mean, running_var, eps):
    std = np.sqrt(running_var)
    x_hat = (x - across(running_mean)) / np.sqrt(across(std) + eps)
    return across(weight) * x_hat + across(bias)


@mistaken("R09", "batch_norm_eval")
def statistics_of_the_batch(x, weight, bias, running_mean, running_var, eps):
    x_hat, _ = forward_images(x, eps)
    return across(weight) * x_hat + across(bias)


@mistaken("R14", "batch_norm_eval")
def scale_without_root(x, weight, bias, running_mean, running_var, eps):
    scale = weight / (running_var + eps)
    return x * across(scale) + across(bias - running_mean * scale)


@mistaken("R25", "batch_norm_eval")
def trains_on(x, weight, bias, running_mean, running_var, eps):
    x_hat = (x - across(running_mean)) / np.sqrt(across(running_var) + eps)
    running_mean += 0.1 * (x.mean(NHW) - running_mean)
    return across(weight) * x_hat + across(bias)


@mistaken("R28", "batch_norm_eval")
def corrects_the_bias_again(x, weight, bias, running_mean, running_var, eps):
    m = x.size / x.shape[1]
    var = running_var * m / (m - 1)
    return across(weight) * (x - across(running_mean)) / np.sqrt(across(var) + eps) + across(bias)


@mistaken("R35", "batch_norm_eval")
def shift_without_scale(x, weight, bias, running_mean, running_var, eps):
    scale = weight / np.sqrt(running_var + eps)
    shift = bias - running_mean
    return x * scale[:, None, None] + shift[:, None, None]


@mistaken("R35", "batch_norm_eval")
def shift_with_the_wrong_sign(x, weight, bias, running_mean, running_var, eps):
    scale = weight / np.sqrt(running_var + eps)
    shift = bias + running_mean * scale
    return x * across(scale) + across(shift)


@mistaken("F02", "batch_norm_eval")
def eps_after_the_root(x, weight, bias, running_mean, running_var, eps):
    y = np.zeros(x.shape)
    for c in range(x.shape[1]):
        y[:, c] = weight[c] * (x[:, c] - running_mean[c]) / (np.sqrt(running_var[c]) + eps) + bias[c]
    return y


@mistaken("F08", "batch_norm_eval")
def no_shift_by_the_mean(x, weight, bias, running_mean, running_var, eps):
    scale = weight / np.sqrt(running_var + eps)
    return x * across(scale) + across(bias)


@mistaken("F12", "batch_norm_eval")
def scale_without_weight(x, weight, bias, running_mean, running_var, eps):
    scale = 1 / np.sqrt(running_var + eps)
    return x * across(scale) + across(bias - running_mean * scale)


@mistaken("F23", "batch_norm_eval")
def updates_first(x, weight, bias, running_mean, running_var, eps):
    running_mean = 0.9 * running_mean + 0.1 * x.mean(NHW)
    running_var = 0.9 * running_var + 0.1 * x.var(NHW, ddof=1)
    return across(weight) * (x - across(running_mean)) / np.sqrt(across(running_var) + eps) + across(bias)


@mistaken("F23", "batch_norm_eval")
def updates_first_with_numpys_variance(x, weight, bias, running_mean, running_var, eps):
    mean = 0.9 * running_mean + 0.1 * x.mean(NHW)
    var = 0.9 * running_var + 0.1 * x.var(NHW)
    return across(weight) * (x - across(mean)) / np.sqrt(across(var) + eps) + across(bias)


@mistaken("C06", "batch_norm_eval")
def parameters_without_reshape(x, weight, bias, running_mean, running_var, eps):
    x_hat = (x - across(running_mean)) / np.sqrt(across(running_var) + eps)
    return weight * x_hat + bias


@mistaken("C07", "batch_norm_eval")
def table_of_reshaped_images(x, weight, bias, running_mean, running_var, eps):
    table = x.reshape(-1, x.shape[1])
    y = weight * (table - running_mean) / np.sqrt(running_var + eps) + bias
    return y.reshape(x.shape)


@mistaken("C14", "batch_norm_eval")
def running_statistics_without_reshape(x, weight, bias, running_mean, running_var, eps):
    x_hat = (x - running_mean) / np.sqrt(running_var + eps)
    return across(weight) * x_hat + across(bias)


# batch_norm_eval_backward


@mistaken("B21", "batch_norm_eval_backward")
def formula_of_training(dy, x, weight, running_mean, running_var, eps):
    inv_std = 1 / np.sqrt(across(running_var) + eps)
    x_hat = (x - across(running_mean)) * inv_std
    return backward_images(dy * across(weight), x_hat, inv_std), (dy * x_hat).sum(NHW), dy.sum(NHW)


@mistaken("B21", "batch_norm_eval_backward")
def copied_from_training(dy, x, weight, running_mean, running_var, eps):
    x_hat, inv_std = forward_images(x, eps)
    return backward_images(dy * across(weight), x_hat, inv_std), (dy * x_hat).sum(NHW), dy.sum(NHW)


@mistaken("R09", "batch_norm_eval_backward")
def x_hat_and_std_of_the_batch(dy, x, weight, running_mean, running_var, eps):
    x_hat, inv_std = forward_images(x, eps)
    return dy * across(weight) * inv_std, (dy * x_hat).sum(NHW), dy.sum(NHW)


@mistaken("R14", "batch_norm_eval_backward")
def dx_divided_by_the_variance(dy, x, weight, running_mean, running_var, eps):
    x_hat = (x - across(running_mean)) / np.sqrt(across(running_var) + eps)
    return dy * across(weight / (running_var + eps)), (dy * x_hat).sum(NHW), dy.sum(NHW)


@mistaken("R38", "batch_norm_eval_backward")
def x_hat_of_the_batch(dy, x, weight, running_mean, running_var, eps):
    x_hat, _ = forward_images(x, eps)
    return dy * across(weight / np.sqrt(running_var + eps)), (dy * x_hat).sum(NHW), dy.sum(NHW)


@mistaken("B05", "batch_norm_eval_backward")
def dx_without_weight(dy, x, weight, running_mean, running_var, eps):
    inv_std = across(1 / np.sqrt(running_var + eps))
    return dy * inv_std, (dy * (x - across(running_mean)) * inv_std).sum(NHW), dy.sum(NHW)


@mistaken("B06", "batch_norm_eval_backward")
def dx_is_dx_hat(dy, x, weight, running_mean, running_var, eps):
    x_hat = (x - across(running_mean)) / np.sqrt(across(running_var) + eps)
    return dy * across(weight), (dy * x_hat).sum(NHW), dy.sum(NHW)


@mistaken("B08", "batch_norm_eval_backward")
def times_the_std_in_a_loop(dy, x, weight, running_mean, running_var, eps):
    dx, dweight = np.zeros(x.shape), np.zeros(len(weight))
    for c in range(len(weight)):
        std = np.sqrt(running_var[c] + eps)
        dx[:, c] = weight[c] * std * dy[:, c]
        dweight[c] = (dy[:, c] * (x[:, c] - running_mean[c]) / std).sum()
    return dx, dweight, dy.sum(NHW)


@mistaken("B19", "batch_norm_eval_backward")
def dx_without_eps(dy, x, weight, running_mean, running_var, eps):
    x_hat = (x - across(running_mean)) / np.sqrt(across(running_var) + eps)
    return dy * across(weight / np.sqrt(running_var)), (dy * x_hat).sum(NHW), dy.sum(NHW)


@mistaken("B25", "batch_norm_eval_backward")
def averages_over_the_batch(dy, x, weight, running_mean, running_var, eps):
    inv_std = across(1 / np.sqrt(running_var + eps))
    x_hat = (x - across(running_mean)) * inv_std
    return dy * across(weight) * inv_std, (dy * x_hat).mean(NHW), dy.mean(NHW)


@mistaken("B37", "batch_norm_eval_backward")
def scales_dy_in_place(dy, x, weight, running_mean, running_var, eps):
    inv_std = across(1 / np.sqrt(running_var + eps))
    dweight, dbias = (dy * (x - across(running_mean)) * inv_std).sum(NHW), dy.sum(NHW)
    dy *= across(weight) * inv_std
    return dy, dweight, dbias


@mistaken("B51", "batch_norm_eval_backward")
def x_hat_from_the_scale_alone(dy, x, weight, running_mean, running_var, eps):
    inv_std = across(1 / np.sqrt(running_var + eps))
    return dy * across(weight) * inv_std, (dy * x * inv_std).sum(NHW), dy.sum(NHW)


@mistaken("B52", "batch_norm_eval_backward")
def dx_times_x_hat(dy, x, weight, running_mean, running_var, eps):
    inv_std = across(1 / np.sqrt(running_var + eps))
    x_hat = (x - across(running_mean)) * inv_std
    return dy * across(weight) * inv_std * x_hat, (dy * x_hat).sum(NHW), dy.sum(NHW)


@mistaken("C06", "batch_norm_eval_backward")
def weight_along_the_columns(dy, x, weight, running_mean, running_var, eps):
    inv_std = across(1 / np.sqrt(running_var + eps))
    x_hat = (x - across(running_mean)) * inv_std
    return dy * weight * inv_std, (dy * x_hat).sum(NHW), dy.sum(NHW)
