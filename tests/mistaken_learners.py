"""Wrong answers, each with one mistake of the catalogue, written as learners write them.

``MISTAKEN[exercise]`` lists the id of a mistake and a function that makes it. The functions use nothing of the
course, least of all the steps by which its checks model mistakes: a mistake has to be recognized in code that
the checks do not know. To add one, write it below its exercise and put ``@mistaken(id, exercise)`` above it.
"""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
import triton
import triton.language as tl
from torch import nn
from torch.autograd import Function

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


# BatchNormFunction


def stages_of_tensor(x, eps):
    """x − μ and √(σ² + ε) of a table."""
    centered = x - x.mean(0)
    return centered, torch.sqrt((centered**2).mean(0) + eps)


class Kept(Function):
    """What most learners get right: x̂, 1/√(σ² + ε) and γ are kept, and the formula is that of chapter 3."""

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        centered, std = stages_of_tensor(x, eps)
        ctx.save_for_backward(centered / std, std, weight)
        return weight * centered / std + bias

    @staticmethod
    def backward(ctx, dy):
        x_hat, std, weight = ctx.saved_tensors
        dx_hat = dy * weight
        dx = (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0)) / std
        return dx, (dy * x_hat).sum(0), dy.sum(0), None


@mistaken("F01", "BatchNormFunction")
class TorchsVariance(Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        inv_std = 1 / torch.sqrt(x.var(dim=0) + eps)
        x_hat = (x - x.mean(dim=0)) * inv_std
        ctx.save_for_backward(x_hat, inv_std, weight)
        return weight * x_hat + bias

    @staticmethod
    def backward(ctx, dy):
        x_hat, inv_std, weight = ctx.saved_tensors
        dx_hat = dy * weight
        dx = inv_std * (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0))
        return dx, (dy * x_hat).sum(0), dy.sum(0), None


@mistaken("F01", "BatchNormFunction")
class TorchsVarianceInForwardAlone(Kept):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        Kept.forward(ctx, x, weight, bias, eps)
        return weight * (x - x.mean(0)) / torch.sqrt(x.var(0) + eps) + bias


@mistaken("F01", "BatchNormFunction")
class TorchsStdInBackwardAlone(Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return weight * (x - x.mean(0)) / torch.sqrt(x.var(0, correction=0) + eps) + bias

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        inv_std = (x.std(0) ** 2 + ctx.eps) ** -0.5
        x_hat = (x - x.mean(0)) * inv_std
        dx = weight * inv_std * (dy - dy.mean(0) - x_hat * (dy * x_hat).mean(0))
        return dx, (dy * x_hat).sum(0), dy.sum(0), None


@mistaken("F02", "BatchNormFunction")
class EpsAfterTheRoot(Kept):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        std = x.std(0, correction=0) + eps
        x_hat = (x - x.mean(0)) / std
        ctx.save_for_backward(x_hat, std, weight)
        return weight * x_hat + bias


@mistaken("F24", "BatchNormFunction")
class CentersInPlace(Kept):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        x -= x.mean(0)
        std = torch.sqrt((x * x).mean(0) + eps)
        ctx.save_for_backward(x / std, std, weight)
        return weight * x / std + bias


@mistaken("C15", "BatchNormFunction")
class SinglePrecision(Kept):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        return Kept.forward(ctx, x.float(), weight.float(), bias.float(), eps)


@mistaken("C12", "BatchNormFunction")
class ColumnsByView(Kept):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        n, c = x.shape
        return Kept.forward(ctx, x.view(n * c).view(n, c), weight, bias, eps)


@mistaken("T06", "BatchNormFunction")
class ThreeGradients(Kept):
    @staticmethod
    def backward(ctx, dy):
        return Kept.backward(ctx, dy)[:3]


@mistaken("T06", "BatchNormFunction")
class OnlyDx(Kept):
    @staticmethod
    def backward(ctx, dy):
        return Kept.backward(ctx, dy)[0]


@mistaken("T06", "BatchNormFunction")
class ZeroForEps(Kept):
    @staticmethod
    def backward(ctx, dy):
        return *Kept.backward(ctx, dy)[:3], torch.zeros(())


@mistaken("T07", "BatchNormFunction")
class AttributesOfCtx(Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        centered, ctx.std = stages_of_tensor(x, eps)
        ctx.x_hat = centered / ctx.std
        ctx.weight = weight
        return weight * ctx.x_hat + bias

    @staticmethod
    def backward(ctx, dy):
        dx_hat = dy * ctx.weight
        dx = (dx_hat - dx_hat.mean(0) - ctx.x_hat * (dx_hat * ctx.x_hat).mean(0)) / ctx.std
        return dx, (dy * ctx.x_hat).sum(0), dy.sum(0), None


@mistaken("T07", "BatchNormFunction")
class CacheOnCtx(Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        centered, std = stages_of_tensor(x, eps)
        ctx.cache = {"x_hat": centered / std, "std": std, "weight": weight}
        return weight * centered / std + bias

    @staticmethod
    def backward(ctx, dy):
        x_hat, std, weight = ctx.cache.values()
        dx_hat = dy * weight
        dx = (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0)) / std
        return dx, (dy * x_hat).sum(0), dy.sum(0), None


@mistaken("T11", "BatchNormFunction")
class ScalesWhatItSaved(Kept):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        centered, std = stages_of_tensor(x, eps)
        x_hat = centered.div_(std)
        ctx.save_for_backward(x_hat, std, weight)
        x_hat *= weight
        x_hat += bias
        return x_hat


@mistaken("T11", "BatchNormFunction")
class MultipliesInPlace(Kept):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        centered, std = stages_of_tensor(x, eps)
        x_hat = centered / std
        ctx.save_for_backward(x_hat, std, weight)
        return x_hat.mul_(weight) + bias


@mistaken("T19", "BatchNormFunction")
class CacheOnTheClass(Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        centered, std = stages_of_tensor(x, eps)
        CacheOnTheClass.cache = centered / std, std, weight
        return weight * centered / std + bias

    @staticmethod
    def backward(ctx, dy):
        x_hat, std, weight = CacheOnTheClass.cache
        dx_hat = dy * weight
        dx = (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0)) / std
        return dx, (dy * x_hat).sum(0), dy.sum(0), None


@mistaken("B01", "BatchNormFunction")
class ConstantStatistics(Kept):
    @staticmethod
    def backward(ctx, dy):
        x_hat, std, weight = ctx.saved_tensors
        return dy * weight / std, (dy * x_hat).sum(0), dy.sum(0), None


@mistaken("B05", "BatchNormFunction")
class WithoutGamma(Kept):
    @staticmethod
    def backward(ctx, dy):
        x_hat, std, _ = ctx.saved_tensors
        dx = (dy - dy.mean(0) - x_hat * (dy * x_hat).mean(0)) / std
        return dx, (dy * x_hat).sum(0), dy.sum(0), None


@mistaken("B19", "BatchNormFunction")
class RootWithoutEps(Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        centered, std = stages_of_tensor(x, eps)
        ctx.save_for_backward(centered / std, x.var(0, correction=0), weight)
        return weight * centered / std + bias

    @staticmethod
    def backward(ctx, dy):
        x_hat, var, weight = ctx.saved_tensors
        dx_hat = dy * weight
        dx = (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0)) / torch.sqrt(var)
        return dx, (dy * x_hat).sum(0), dy.sum(0), None


@mistaken("B28", "BatchNormFunction")
class BiasBeforeWeight(Kept):
    @staticmethod
    def backward(ctx, dy):
        dx, dweight, dbias, _ = Kept.backward(ctx, dy)
        return dx, dbias, dweight, None


@mistaken("B31", "BatchNormFunction")
class OneSumForAll(Kept):
    @staticmethod
    def backward(ctx, dy):
        x_hat, _, _ = ctx.saved_tensors
        return Kept.backward(ctx, dy)[0], (dy * x_hat).sum(), dy.sum(), None


@mistaken("B32", "BatchNormFunction")
class SumsOfRows(Kept):
    @staticmethod
    def backward(ctx, dy):
        x_hat, _, _ = ctx.saved_tensors
        return Kept.backward(ctx, dy)[0], (dy * x_hat).sum(1), dy.sum(1), None


@mistaken("B37", "BatchNormFunction")
class ScalesUpstreamInPlace(Kept):
    @staticmethod
    def backward(ctx, dy):
        x_hat, std, weight = ctx.saved_tensors
        dweight, dbias = (dy * x_hat).sum(0), dy.sum(0)
        dy.mul_(weight)
        return (dy - dy.mean(0) - x_hat * (dy * x_hat).mean(0)) / std, dweight, dbias, None


# BatchNorm1d


class Usual(nn.Module):
    """What most learners get right; the methods below change one thing each."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.make_parameters(num_features)
        self.make_statistics(num_features)

    def make_parameters(self, n):
        self.weight = nn.Parameter(torch.ones(n))
        self.bias = nn.Parameter(torch.zeros(n))

    def make_statistics(self, n):
        self.register_buffer("running_mean", torch.zeros(n))
        self.register_buffer("running_var", torch.ones(n))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x):
        if not self.training:
            return self.normalized(x, self.running_mean, self.running_var)
        self.count(x)
        self.update(x, 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum)
        return self.normalized(x, x.mean(0), x.var(0, correction=0))

    def count(self, x):
        self.num_batches_tracked += 1

    def update(self, x, a):
        with torch.no_grad():
            self.running_mean = (1 - a) * self.running_mean + a * x.mean(0)
            self.running_var = (1 - a) * self.running_var + a * x.var(0)

    def normalized(self, x, mean, var):
        return self.weight * (x - mean) / torch.sqrt(var + self.eps) + self.bias


@mistaken("T01", "BatchNorm1d")
class PlainStatistics(Usual):
    def make_statistics(self, n):
        self.running_mean, self.running_var = torch.zeros(n), torch.ones(n)
        self.num_batches_tracked = torch.tensor(0)


@mistaken("T01", "BatchNorm1d")
class CountsInANumber(Usual):
    def make_statistics(self, n):
        self.register_buffer("running_mean", torch.zeros(n))
        self.register_buffer("running_var", torch.ones(n))
        self.num_batches_tracked = 0

    def forward(self, x):
        if not self.training:
            return self.normalized(x, self.running_mean, self.running_var)
        self.num_batches_tracked += 1
        self.update(x, 1 / self.num_batches_tracked if self.momentum is None else self.momentum)
        return self.normalized(x, x.mean(0), x.var(0, correction=0))


@mistaken("T01", "BatchNorm1d")
class StatisticsThatAreNotSaved(Usual):
    def make_statistics(self, n):
        self.register_buffer("running_mean", torch.zeros(n), persistent=False)
        self.register_buffer("running_var", torch.ones(n), persistent=False)
        self.register_buffer("num_batches_tracked", torch.tensor(0))


@mistaken("T02", "BatchNorm1d")
class StatisticsAsParameters(Usual):
    def make_statistics(self, n):
        self.running_mean = nn.Parameter(torch.zeros(n), requires_grad=False)
        self.running_var = nn.Parameter(torch.ones(n), requires_grad=False)
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def update(self, x, a):
        with torch.no_grad():
            self.running_mean.mul_(1 - a).add_(a * x.mean(0))
            self.running_var.mul_(1 - a).add_(a * x.var(0))


@mistaken("T02", "BatchNorm1d")
class StatisticsAsParametersChangedByData(Usual):
    def make_statistics(self, n):
        self.running_mean = nn.Parameter(torch.zeros(n))
        self.running_var = nn.Parameter(torch.ones(n))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def update(self, x, a):
        self.running_mean.data = (1 - a) * self.running_mean.data + a * x.data.mean(0)
        self.running_var.data = (1 - a) * self.running_var.data + a * x.data.var(0)


@mistaken("T02", "BatchNorm1d")
class StatisticsAsParametersChangedInPlace(StatisticsAsParametersChangedByData):
    def update(self, x, a):
        self.running_mean *= 1 - a
        self.running_mean += a * x.mean(0)
        self.running_var *= 1 - a
        self.running_var += a * x.var(0)


@mistaken("T02", "BatchNorm1d")
class StatisticsAsParametersReplaced(StatisticsAsParametersChangedByData):
    update = Usual.update


@mistaken("T03", "BatchNorm1d")
class PlainParameters(Usual):
    def make_parameters(self, n):
        self.weight, self.bias = torch.ones(n), torch.zeros(n)


@mistaken("T03", "BatchNorm1d")
class LeavesForParameters(Usual):
    def make_parameters(self, n):
        self.weight = torch.ones(n, requires_grad=True)
        self.bias = torch.zeros(n, requires_grad=True)


@mistaken("T03", "BatchNorm1d")
class BuffersForParameters(Usual):
    def make_parameters(self, n):
        self.register_buffer("weight", torch.ones(n))
        self.register_buffer("bias", torch.zeros(n))


@mistaken("T03", "BatchNorm1d")
class ForgottenBias(Usual):
    def make_parameters(self, n):
        self.weight = nn.Parameter(torch.ones(n))
        self.bias = torch.zeros(n)


@mistaken("T04", "BatchNorm1d")
class RecordsTheAverage(Usual):
    def update(self, x, a):
        self.running_mean = (1 - a) * self.running_mean + a * x.mean(0)
        self.running_var = (1 - a) * self.running_var + a * x.var(0)


@mistaken("T04", "BatchNorm1d")
class RecordsInPlace(Usual):
    def update(self, x, a):
        self.running_mean.mul_(1 - a).add_(x.mean(0), alpha=a)
        self.running_var.mul_(1 - a).add_(x.var(0), alpha=a)


@mistaken("T05", "BatchNorm1d")
class ThroughNumpy(Usual):
    def normalized(self, x, mean, var):
        x, mean, var, weight, bias = (v.detach().numpy() for v in (x, mean, var, self.weight, self.bias))
        return torch.tensor(weight * (x - mean) / np.sqrt(var + np.float32(self.eps)) + bias)


@mistaken("T05", "BatchNorm1d")
class DataOfParameters(Usual):
    def normalized(self, x, mean, var):
        return self.weight.data * (x - mean) / torch.sqrt(var + self.eps) + self.bias.data


@mistaken("T05", "BatchNorm1d")
class UnderNoGrad(Usual):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


@mistaken("B01", "BatchNorm1d")
class AllStatisticsWithoutGradients(Usual):
    def forward(self, x):
        if not self.training:
            return self.normalized(x, self.running_mean, self.running_var)
        with torch.no_grad():
            self.count(x)
            self.update(x, 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum)
            mean, var = x.mean(0), x.var(0, correction=0)
        return self.normalized(x, mean, var)


@mistaken("B02", "BatchNorm1d")
class DetachedVariance(Usual):
    def normalized(self, x, mean, var):
        return self.weight * (x - mean) / torch.sqrt(var.detach() + self.eps) + self.bias


@mistaken("B03", "BatchNorm1d")
class DetachedMean(Usual):
    def normalized(self, x, mean, var):
        return self.weight * (x - mean.detach()) / torch.sqrt(var + self.eps) + self.bias


@mistaken("F01", "BatchNorm1d")
class OneVarianceForBoth(Usual):
    def forward(self, x):
        y = super().forward(x)
        return self.normalized(x, x.mean(0), x.var(0)) if self.training else y


@mistaken("F02", "BatchNorm1d")
class EpsAddedToTheRoot(Usual):
    def normalized(self, x, mean, var):
        return self.weight * (x - mean) / (torch.sqrt(var) + self.eps) + self.bias


@mistaken("F11", "BatchNorm1d")
class BetaIsLost(Usual):
    def normalized(self, x, mean, var):
        return self.weight * (x - mean) / torch.sqrt(var + self.eps)


@mistaken("F12", "BatchNorm1d")
class GammaIsLost(Usual):
    def normalized(self, x, mean, var):
        return (x - mean) / torch.sqrt(var + self.eps) + self.bias


@mistaken("F14", "BatchNorm1d")
class EpsIsFixed(Usual):
    def normalized(self, x, mean, var):
        return self.weight * (x - mean) / torch.sqrt(var + 1e-5) + self.bias


@mistaken("F19", "BatchNorm1d")
class SquaresFirst(Usual):
    def forward(self, x):
        y = super().forward(x)
        return self.normalized(x, x.mean(0), (x**2).mean(0) - x.mean(0) ** 2) if self.training else y


@mistaken("F22", "BatchNorm1d")
class RunningStatisticsAlways(Usual):
    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        super().forward(x)
        return self.normalized(x, mean, var)


@mistaken("F23", "BatchNorm1d")
class UpdatesAndUses(Usual):
    def forward(self, x):
        super().forward(x)
        return self.normalized(x, self.running_mean, self.running_var)


@mistaken("F24", "BatchNorm1d")
class ChangesItsInput(Usual):
    def forward(self, x):
        y = super().forward(x)
        x.data -= x.data.mean(0)
        return y


@mistaken("C15", "BatchNorm1d")
class RowsOfStatistics(Usual):
    def make_statistics(self, n):
        super().make_statistics(n)
        self.running_mean, self.running_var = torch.zeros(1, n), torch.ones(1, n)


@mistaken("R01", "BatchNorm1d")
class WeighsTheOldValue(Usual):
    def update(self, x, a):
        super().update(x, a if self.momentum is None else 1 - a)


@mistaken("R02", "BatchNorm1d")
class RemembersWhatItUsed(Usual):
    def update(self, x, a):
        with torch.no_grad():
            self.running_mean = (1 - a) * self.running_mean + a * x.mean(0)
            self.running_var = (1 - a) * self.running_var + a * x.var(0, unbiased=False)


@mistaken("R05", "BatchNorm1d")
class RemembersTheStd(Usual):
    def update(self, x, a):
        with torch.no_grad():
            self.running_mean = (1 - a) * self.running_mean + a * x.mean(0)
            self.running_var = (1 - a) * self.running_var + a * x.std(0)


@mistaken("R07", "BatchNorm1d")
class AssignsToANewName(Usual):
    def update(self, x, a):
        running_mean = (1 - a) * self.running_mean + a * x.mean(0)  # noqa: F841
        running_var = (1 - a) * self.running_var + a * x.var(0)  # noqa: F841


@mistaken("R08", "BatchNorm1d")
class UpdatesInEveryMode(Usual):
    def forward(self, x):
        self.count(x)
        y = None if self.training else self.normalized(x, self.running_mean, self.running_var)
        self.update(x.detach(), 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum)
        return self.normalized(x, x.mean(0), x.var(0, correction=0)) if y is None else y


@mistaken("R09", "BatchNorm1d")
class BatchInEveryMode(Usual):
    def forward(self, x):
        super().forward(x)
        return self.normalized(x, x.mean(0), x.var(0, correction=0))


@mistaken("R11", "BatchNorm1d")
class KeepsTheLastBatch(Usual):
    def update(self, x, a):
        self.running_mean, self.running_var = x.detach().mean(0), x.detach().var(0)


@mistaken("R13", "BatchNorm1d")
class UpdatesOnlyTheMean(Usual):
    def update(self, x, a):
        self.running_mean.lerp_(x.detach().mean(0), a)


@mistaken("R14", "BatchNorm1d")
class NoRootInEvaluation(Usual):
    def normalized(self, x, mean, var):
        inv = 1 / torch.sqrt(var + self.eps) if self.training else 1 / (var + self.eps)
        return self.weight * (x - mean) * inv + self.bias


@mistaken("R16", "BatchNorm1d")
class KnowsNoNone(Usual):
    def forward(self, x):
        if not self.training:
            return self.normalized(x, self.running_mean, self.running_var)
        self.count(x)
        self.update(x, self.momentum)
        return self.normalized(x, x.mean(0), x.var(0, correction=0))


@mistaken("R16", "BatchNorm1d")
class OneTenthForNone(KnowsNoNone):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__(num_features, eps, 0.1 if momentum is None else momentum)


@mistaken("R16", "BatchNorm1d")
class CountsTooLate(Usual):
    def forward(self, x):
        if not self.training:
            return self.normalized(x, self.running_mean, self.running_var)
        self.update(x, 1 / self.num_batches_tracked if self.momentum is None else self.momentum)
        self.count(x)
        return self.normalized(x, x.mean(0), x.var(0, correction=0))


@mistaken("R17", "BatchNorm1d")
class StartsAtZero(Usual):
    def make_statistics(self, n):
        super().make_statistics(n)
        self.running_var = torch.zeros(n)


@mistaken("R20", "BatchNorm1d")
class CountsNothing(Usual):
    def make_statistics(self, n):
        self.register_buffer("running_mean", torch.zeros(n))
        self.register_buffer("running_var", torch.ones(n))
        self.seen = 0

    def forward(self, x):
        if not self.training:
            return self.normalized(x, self.running_mean, self.running_var)
        self.seen += 1
        self.update(x, 1 / self.seen if self.momentum is None else self.momentum)
        return self.normalized(x, x.mean(0), x.var(0, correction=0))


@mistaken("R21", "BatchNorm1d")
class AsksForGradMode(Usual):
    def forward(self, x):
        if not torch.is_grad_enabled():
            return self.normalized(x, self.running_mean, self.running_var)
        self.count(x)
        self.update(x, 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum)
        return self.normalized(x, x.mean(0), x.var(0, correction=0))


@mistaken("R39", "BatchNorm1d")
class ModesTheWrongWay(Usual):
    def forward(self, x):
        if self.training:
            return self.normalized(x, self.running_mean, self.running_var)
        self.count(x)
        self.update(x, 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum)
        return self.normalized(x, x.mean(0), x.var(0, correction=0))


@mistaken("R40", "BatchNorm1d")
class ReturnsEarlyInEvaluation(Usual):
    def forward(self, x):
        if not self.training:
            return (x - self.running_mean) / torch.sqrt(self.running_var + self.eps)
        return super().forward(x)


@mistaken("R41", "BatchNorm1d")
class ZeroIsNone(Usual):
    def update(self, x, a):
        super().update(x, self.momentum or 1 / self.num_batches_tracked.item())


@mistaken("R16", "BatchNorm1d")
class OneTenthForNothing(Usual):
    def update(self, x, a):
        super().update(x, self.momentum or 0.1)


@mistaken("R27", "BatchNorm1d")
class EqualWeightsAlways(Usual):
    def update(self, x, a):
        super().update(x, 1 / self.num_batches_tracked.item())


@mistaken("R27", "BatchNorm1d")
class MomentumIsFixed(Usual):
    def update(self, x, a):
        super().update(x, a if self.momentum is None else 0.1)


@mistaken("R29", "BatchNorm1d")
class OldValueKeepsItsWeight(Usual):
    def update(self, x, a):
        self.running_mean += a * x.detach().mean(0)
        self.running_var += a * x.detach().var(0)


@mistaken("R31", "BatchNorm1d")
class NeverCounts(Usual):
    def count(self, x):
        pass


@mistaken("R31", "BatchNorm1d")
class CountsSamplesForTheAverage(Usual):
    def count(self, x):
        self.num_batches_tracked += len(x)


@mistaken("R31", "BatchNorm1d")
class CountsSamples(Usual):
    def forward(self, x):
        if not self.training:
            return self.normalized(x, self.running_mean, self.running_var)
        self.num_batches_tracked += len(x)
        self.update(x, len(x) / self.num_batches_tracked.item() if self.momentum is None else self.momentum)
        return self.normalized(x, x.mean(0), x.var(0, correction=0))


# accurate_statistics


@mistaken("F19", "accurate_statistics")
def shortcut_in_one_pass(x):
    mean = x.mean(axis=0)
    return mean, (x**2).mean(axis=0) - mean**2


@mistaken("F19", "accurate_statistics")
def shortcut_that_hides_the_sign(x):
    total, squares = x.sum(axis=0), (x * x).sum(axis=0)
    return total / len(x), np.maximum(squares / len(x) - (total / len(x)) ** 2, 0)


@mistaken("N01", "accurate_statistics")
def shortcut_in_float64(x):
    x = x.astype(np.float64)
    mean = x.mean(axis=0)
    return mean, (x**2).mean(axis=0) - mean**2


@mistaken("N01", "accurate_statistics")
def sums_in_float64(x):
    n, total, squares = len(x), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for row in x.astype(float):
        total += row
        squares += row**2
    return total / n, np.abs((squares - total**2 / n) / n)


@mistaken("N02", "accurate_statistics")
def two_passes(x):
    mean = x.mean(axis=0)
    return mean, ((x - mean) ** 2).mean(axis=0)


@mistaken("N02", "accurate_statistics")
def numpys_own(x):
    return np.mean(x, axis=0), np.var(x, axis=0)


@mistaken("N02", "accurate_statistics")
def columns_of_two_passes(x):
    mean, var = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        column = x[:, c].copy()
        mean[c] = column.mean()
        var[c] = ((column - column.mean()) ** 2).mean()
    return mean, var


@mistaken("N02", "accurate_statistics")
def rounded_between_the_passes(x):
    mean = x.astype(np.float64).mean(axis=0).astype(np.float32)
    return mean, ((x - mean) ** 2).astype(np.float64).mean(axis=0)


@mistaken("N02", "accurate_statistics")
def welford_in_float32(x):
    mean, m2 = np.zeros_like(x[0]), np.zeros_like(x[0])
    for n, row in enumerate(x, start=1):
        d = row - mean
        mean += d / n
        m2 += d * (row - mean)
    return mean, m2 / len(x)


@mistaken("N03", "accurate_statistics")
def mean_of_what_is_left(x):
    x = x - x[0]
    mean = x.mean(axis=0)
    return mean, ((x - mean) ** 2).mean(axis=0)


@mistaken("N04", "accurate_statistics")
def shift_without_correction(x):
    shifted = x - x[0]
    return x[0] + shifted.mean(0), (shifted**2).mean(0)


@mistaken("N04", "accurate_statistics")
def corrected_by_the_mean_itself(x):
    shifted = x - x[0]
    mean = x[0] + shifted.mean(0)
    return mean, (shifted**2).mean(0) - mean**2


@mistaken("N05", "accurate_statistics")
def one_shift_for_all(x):
    shift = x.mean()
    shifted = x - shift
    mean = shifted.mean(axis=0)
    return shift + mean, (shifted**2).mean(axis=0) - mean**2


@mistaken("N06", "accurate_statistics")
def variance_and_mean(x):
    x = x.astype(float)
    return x.var(0), x.mean(0)


@mistaken("F01", "accurate_statistics")
def divided_by_one_less(x):
    shifted = x - x[0]
    mean = shifted.mean(axis=0)
    return x[0] + mean, ((shifted - mean) ** 2).sum(axis=0) / (len(x) - 1)


@mistaken("F24", "accurate_statistics")
def shifts_in_place(x):
    first = x[0].copy()
    x -= first
    return first + x.mean(0), x.var(0)


@mistaken("F35", "accurate_statistics")
def mean_and_std(x):
    x = np.asarray(x, dtype=np.float64)
    return x.mean(axis=0), x.std(axis=0)


@mistaken("C05", "accurate_statistics")
def statistics_of_rows(x):
    x = x.astype(np.float64)
    return x.mean(axis=1), x.var(axis=1)


@mistaken("C17", "accurate_statistics")
def statistics_of_all(x):
    x = x.astype(np.float64)
    return np.full(x.shape[1], x.mean()), np.full(x.shape[1], x.var())


# welford_step


@mistaken("N11", "welford_step")
def old_distance_squared(count, mean, m2, x):
    count += 1
    delta = x - mean
    return count, mean + delta / count, m2 + delta**2


@mistaken("N12", "welford_step")
def new_distance_squared(count, mean, m2, x):
    n = count + 1
    new_mean = (count * mean + x) / n
    return n, new_mean, m2 + (x - new_mean) ** 2


@mistaken("N13", "welford_step")
def divided_before_counting(count, mean, m2, x):
    delta = x - mean
    new_mean = mean + delta / count
    return count + 1, new_mean, m2 + delta * (x - new_mean)


@mistaken("N13", "welford_step")
def middle_of_old_and_new(count, mean, m2, x):
    new_mean = (mean + x) / 2
    return count + 1, new_mean, m2 + (x - mean) * (x - new_mean)


@mistaken("N13", "welford_step")
def old_mean_counted_once(count, mean, m2, x):
    n = count + 1
    new_mean = (mean + x) / n
    return n, new_mean, m2 + (x - mean) * (x - new_mean)


@mistaken("N14", "welford_step")
def whole_distance(count, mean, m2, x):
    delta = x - mean
    new_mean = mean + delta
    return count + 1, new_mean, m2 + delta * (x - new_mean)


@mistaken("N15", "welford_step")
def count_as_it_was(count, mean, m2, x):
    new_mean = mean + (x - mean) / (count + 1)
    return count, new_mean, m2 + (x - mean) * (x - new_mean)


@mistaken("N15", "welford_step")
def counted_again(count, mean, m2, x):
    count += 1
    new_mean = mean + (x - mean) / count
    return count + 1, new_mean, m2 + (x - mean) * (x - new_mean)


@mistaken("N16", "welford_step")
def variance_every_time(count, mean, m2, x):
    n = count + 1
    delta = x - mean
    new_mean = mean + delta / n
    return n, new_mean, (m2 + delta * (x - new_mean)) / n


@mistaken("N16", "welford_step")
def running_variance(count, mean, m2, x):
    n = count + 1
    new_mean = mean + (x - mean) / n
    return n, new_mean, m2 + ((x - mean) * (x - new_mean) - m2) / n


@mistaken("N17", "welford_step")
def away_from_the_sample(count, mean, m2, x):
    n = count + 1
    new_mean = mean - (x - mean) / n
    return n, new_mean, m2 + (x - mean) * (x - new_mean)


@mistaken("N17", "welford_step")
def distance_the_other_way(count, mean, m2, x):
    n, delta = count + 1, mean - x
    new_mean = mean + delta / n
    return n, new_mean, m2 + delta * (x - new_mean)


@mistaken("N18", "welford_step")
def squares_forgotten(count, mean, m2, x):
    return count + 1, mean + (x - mean) / (count + 1), m2


@mistaken("N19", "welford_step")
def only_the_last_product(count, mean, m2, x):
    n = count + 1
    new_mean = mean + (x - mean) / n
    m2 = (x - mean) * (x - new_mean)
    return n, new_mean, m2


@mistaken("N20", "welford_step")
def distance_not_squared(count, mean, m2, x):
    n = count + 1
    delta = x - mean
    return n, mean + delta / n, m2 + np.abs(delta)


@mistaken("N21", "welford_step")
def product_with_a_minus(count, mean, m2, x):
    n = count + 1
    new_mean = mean + (x - mean) / n
    return n, new_mean, m2 + (x - mean) * (new_mean - x)


@mistaken("N06", "welford_step")
def squares_before_the_mean(count, mean, m2, x):
    n = count + 1
    new_mean = mean + (x - mean) / n
    return n, m2 + (x - mean) * (x - new_mean), new_mean


@mistaken("F06", "welford_step")
def squares_of_x_added(count, mean, m2, x):
    return count + 1, mean + (x - mean) / (count + 1), m2 + x**2


@mistaken("F19", "welford_step")
def by_way_of_the_sum_of_squares(count, mean, m2, x):
    n = count + 1
    total, squares = count * mean + x, m2 + count * mean**2 + x**2
    return n, total / n, squares - total**2 / n


@mistaken("R25", "welford_step")
def updates_in_place(count, mean, m2, x):
    count += 1
    delta = x - mean
    mean += delta / count
    m2 += delta * (x - mean)
    return count, mean, m2


# batch_norm_half


@mistaken("F20", "batch_norm_half")
def as_in_chapter_2(x, weight, bias, eps):
    mean = x.mean(axis=0)
    var = ((x - mean) ** 2).mean(axis=0)
    return weight * (x - mean) / np.sqrt(var + eps) + bias


@mistaken("F20", "batch_norm_half")
def with_numpys_var(x, weight, bias, eps):
    return weight * (x - np.mean(x, axis=0)) / np.sqrt(np.var(x, axis=0) + eps) + bias


@mistaken("F20", "batch_norm_half")
def variance_kept_in_half(x, weight, bias, eps):
    wide = x.astype(np.float64)
    mean, var = wide.mean(0), wide.var(0).astype(x.dtype)
    return weight * (wide - mean) / np.sqrt(var + eps) + bias


@mistaken("F20", "batch_norm_half")
def converted_too_late(x, weight, bias, eps):
    u = x - x.mean(0)
    var = (u * u).mean(0).astype(np.float32)
    return (weight * u.astype(np.float32) / np.sqrt(var + eps) + bias).astype(np.float32)


@mistaken("N31", "batch_norm_half")
def mean_in_half(x, weight, bias, eps):
    mean = x.mean(axis=0)
    x = x.astype(np.float64)
    return weight * (x - mean) / np.sqrt(((x - mean) ** 2).mean(axis=0) + eps) + bias


@mistaken("N31", "batch_norm_half")
def centred_in_half(x, weight, bias, eps):
    u = (x - x.mean(axis=0)).astype(np.float64)
    return weight * u / np.sqrt((u**2).mean(axis=0) + eps) + bias


@mistaken("N32", "batch_norm_half")
def sum_of_the_column(x, weight, bias, eps):
    mean = x.sum(axis=0) / len(x)
    u = x.astype(np.float64) - mean
    return weight * u / np.sqrt((u**2).mean(axis=0) + eps) + bias


@mistaken("N32", "batch_norm_half")
def sum_in_a_loop(x, weight, bias, eps):
    total = np.zeros_like(x[0])
    for row in x:
        total = total + row
    mean = total / x.dtype.type(len(x))
    u = x - mean.astype(np.float64)
    return weight * u / np.sqrt((u**2).mean(axis=0) + eps) + bias


@mistaken("C15", "batch_norm_half")
def rounded_in_the_end(x, weight, bias, eps):
    wide = x.astype(np.float64)
    y = weight * (wide - wide.mean(0)) / np.sqrt(wide.var(0) + eps) + bias
    return y.astype(x.dtype)


@mistaken("F01", "batch_norm_half")
def wide_but_unbiased(x, weight, bias, eps):
    x = x.astype(np.float64)
    return weight * (x - x.mean(0)) / np.sqrt(x.var(0, ddof=1) + eps) + bias


@mistaken("F02", "batch_norm_half")
def wide_with_eps_outside(x, weight, bias, eps):
    x = x.astype(np.float64)
    return weight * (x - x.mean(0)) / (x.std(0) + eps) + bias


@mistaken("F02", "batch_norm_half")
def narrow_with_eps_outside(x, weight, bias, eps):
    x = x.astype(np.float32)
    return weight * (x - x.mean(0)) / (x.std(0) + eps) + bias


@mistaken("F19", "batch_norm_half")
def shortcut_in_float32(x, weight, bias, eps):
    x = x.astype(np.float32)
    mean = x.mean(0)
    return weight * (x - mean) / np.sqrt((x**2).mean(0) - mean**2 + eps) + bias


@mistaken("N33", "batch_norm_half")
def everything_to_float32(x, weight, bias, eps):
    x = x.astype(np.float32)
    return weight * (x - x.mean(0)) / np.sqrt(x.var(0) + eps) + bias


@mistaken("N33", "batch_norm_half")
def rounded_by_torch(x, weight, bias, eps):
    import torch

    x, weight, bias = (torch.from_numpy(a).float() for a in (x, weight, bias))
    return torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True, eps=eps).numpy()


# fold_batch_norm


@mistaken("U15", "fold_batch_norm")
def old_bias_as_it_is(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    if bias is None:
        bias = np.zeros(len(weight))
    return weight * scale.reshape(-1, 1, 1, 1), bias + bn_bias - running_mean * scale


@mistaken("U15", "fold_batch_norm")
def nothing_added_unless_there_is_a_bias(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    new_bias = bn_bias - scale * running_mean
    if bias is not None:
        new_bias = new_bias + bias
    return scale[:, None, None, None] * weight, new_bias


@mistaken("U16", "fold_batch_norm")
def none_stays_none(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    if bias is not None:
        bias = (bias - running_mean) * scale + bn_bias
    return weight * scale[:, None, None, None], bias


@mistaken("U16", "fold_batch_norm")
def none_not_thought_of(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    return weight * scale[:, None, None, None], (bias - running_mean) * scale + bn_bias


@mistaken("U16", "fold_batch_norm")
def only_beta_without_a_bias(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    new_bias = bn_bias if bias is None else (bias - running_mean) * scale + bn_bias
    return weight * scale[:, None, None, None], new_bias


@mistaken("U17", "fold_batch_norm")
def fold_without_eps(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var)
    bias = 0 if bias is None else bias
    return weight * scale[:, None, None, None], (bias - running_mean) * scale + bn_bias


@mistaken("U19", "fold_batch_norm")
def along_the_inputs(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    bias = 0 if bias is None else bias
    return weight * scale.reshape(1, -1, 1, 1), (bias - running_mean) * scale + bn_bias


@mistaken("U19", "fold_batch_norm")
def without_reshape(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    bias = 0 if bias is None else bias
    return weight * scale, scale * (bias - running_mean) + bn_bias


@mistaken("U19", "fold_batch_norm")
def one_axis_too_few(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    bias = 0 if bias is None else bias
    return weight * scale[:, None, None], scale * (bias - running_mean) + bn_bias


@mistaken("U19", "fold_batch_norm")
def weight_by_reshape(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    table = weight.reshape(-1, len(weight)) * scale
    bias = 0 if bias is None else bias
    return table.reshape(weight.shape), scale * (bias - running_mean) + bn_bias


@mistaken("U41", "fold_batch_norm")
def as_if_there_were_no_bias(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    return weight * scale[:, None, None, None], bn_bias - running_mean * scale


@mistaken("U42", "fold_batch_norm")
def weight_alone(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    return weight * scale[:, None, None, None], bias


@mistaken("U43", "fold_batch_norm")
def bias_alone(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    bias = 0 if bias is None else bias
    return weight, (bias - running_mean) * bn_weight / np.sqrt(running_var + eps) + bn_bias


@mistaken("U44", "fold_batch_norm")
def mean_added(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    bias = 0 if bias is None else bias
    return weight * scale[:, None, None, None], (bias + running_mean) * scale + bn_bias


@mistaken("U45", "fold_batch_norm")
def mean_not_scaled(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    bias = 0 if bias is None else bias
    return weight * scale[:, None, None, None], bias * scale - running_mean + bn_bias


@mistaken("U45", "fold_batch_norm")
def mean_in_standard_deviations(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    std = np.sqrt(running_var + eps)
    new_bias = bn_bias - running_mean / std
    if bias is not None:
        new_bias += bias * bn_weight / std
    return weight * (bn_weight / std)[:, None, None, None], new_bias


@mistaken("U46", "fold_batch_norm")
def mean_forgotten(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    bias = 0 if bias is None else bias
    return weight * scale[:, None, None, None], bias * scale + bn_bias


@mistaken("U47", "fold_batch_norm")
def divided_by_the_scale(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    bias = 0 if bias is None else bias
    return weight / scale[:, None, None, None], (bias - running_mean) * scale + bn_bias


@mistaken("U48", "fold_batch_norm")
def batch_norm_of_the_weight(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    def batch_norm(values, shape):
        gamma, beta, mean, var = (v.reshape(shape) for v in (bn_weight, bn_bias, running_mean, running_var))
        return gamma * (values - mean) / np.sqrt(var + eps) + beta

    bias = np.zeros(len(weight)) if bias is None else bias
    return batch_norm(weight, (-1, 1, 1, 1)), batch_norm(bias, -1)


@mistaken("R14", "fold_batch_norm")
def root_forgotten(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / (running_var + eps)
    bias = 0 if bias is None else bias
    return weight * scale[:, None, None, None], (bias - running_mean) * scale + bn_bias


@mistaken("R05", "fold_batch_norm")
def squared_before_the_root(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var**2 + eps)
    bias = 0 if bias is None else bias
    return weight * scale[:, None, None, None], (bias - running_mean) * scale + bn_bias


@mistaken("R28", "fold_batch_norm")
def corrected_by_the_size_of_the_kernel(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    m = weight[0].size
    scale = bn_weight / np.sqrt(running_var * m / (m - 1) + eps)
    bias = 0 if bias is None else bias
    return weight * scale[:, None, None, None], (bias - running_mean) * scale + bn_bias


@mistaken("F02", "fold_batch_norm")
def eps_outside(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / (np.sqrt(running_var) + eps)
    bias = 0 if bias is None else bias
    return weight * scale[:, None, None, None], (bias - running_mean) * scale + bn_bias


@mistaken("F09", "fold_batch_norm")
def beta_scales(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_bias / np.sqrt(running_var + eps)
    bias = 0 if bias is None else bias
    return weight * scale[:, None, None, None], (bias - running_mean) * scale + bn_weight


@mistaken("F11", "fold_batch_norm")
def beta_forgotten(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    bias = 0 if bias is None else bias
    return weight * scale[:, None, None, None], (bias - running_mean) * scale


@mistaken("F12", "fold_batch_norm")
def gamma_forgotten(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    inv_std = 1 / np.sqrt(running_var + eps)
    bias = 0 if bias is None else bias
    return weight * inv_std[:, None, None, None], (bias - running_mean) * inv_std + bn_bias


@mistaken("F12", "fold_batch_norm")
def gamma_only_in_the_weight(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    inv_std = 1 / np.sqrt(running_var + eps)
    bias = 0 if bias is None else bias
    return weight * (bn_weight * inv_std)[:, None, None, None], (bias - running_mean) * inv_std + bn_bias


@mistaken("F24", "fold_batch_norm")
def scales_the_weight_in_place(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    weight *= scale[:, None, None, None]
    bias = 0 if bias is None else bias
    return weight, (bias - running_mean) * scale + bn_bias


@mistaken("F34", "fold_batch_norm")
def beta_inside_the_brackets(weight, bias, bn_weight, bn_bias, running_mean, running_var, eps):
    scale = bn_weight / np.sqrt(running_var + eps)
    bias = 0 if bias is None else bias
    return weight * scale[:, None, None, None], (bias - running_mean + bn_bias) * scale


# FrozenNorms; these are classes

BATCH_NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)


class Wrapper(torch.nn.Module):
    """What most attempts have in common."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)


@mistaken("U04", "FrozenNorms")
class OnlyRequiresGrad(Wrapper):
    def __init__(self, network):
        super().__init__(network)
        for module in network.modules():
            if isinstance(module, BATCH_NORMS):
                for parameter in module.parameters():
                    parameter.requires_grad = False


@mistaken("U05", "FrozenNorms")
class EvalOnce(Wrapper):
    def __init__(self, network):
        super().__init__(network)
        for module in network.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()
                module.requires_grad_(False)


@mistaken("U05", "FrozenNorms")
class EvalBeforeTrain(EvalOnce):
    def train(self, mode=True):
        for module in self.network.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()
        return super().train(mode)


@mistaken("U51", "FrozenNorms")
class OnlyInTrain(OnlyRequiresGrad):
    def train(self, mode=True):
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()
        return self


@mistaken("U51", "FrozenNorms")
class NothingBeforeTrain(Wrapper):
    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()
                module.requires_grad_(False)
        return self


class EvalInTrain(OnlyInTrain):
    """A right answer, for others to spoil."""

    def __init__(self, network):
        super().__init__(network)
        self.train()


@mistaken("U52", "FrozenNorms")
class OnlyEval(Wrapper):
    def __init__(self, network):
        super().__init__(network)
        self.train()

    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()
        return self


@mistaken("U52", "FrozenNorms")
class GradientsOfZero(OnlyEval):
    def __init__(self, network):
        super().__init__(network)
        for module in network.modules():
            if isinstance(module, BATCH_NORMS):
                for parameter in module.parameters():
                    parameter.register_hook(torch.zeros_like)


@mistaken("U53", "FrozenNorms")
class ConvolutionsFrozen(EvalInTrain):
    def __init__(self, network):
        super().__init__(network)
        for module in network.modules():
            if "Conv" in type(module).__name__:
                module.requires_grad_(False)


@mistaken("U53", "FrozenNorms")
class WhatHasStatistics(Wrapper):
    def __init__(self, network):
        super().__init__(network)
        self.train()

    def train(self, mode=True):
        super().train(mode)
        for module in self.network.modules():
            if hasattr(module, "running_mean"):  # an instance norm has None
                module.eval().requires_grad_(False)
        return self


@mistaken("U53", "FrozenNorms")
class NothingTrained(EvalInTrain):
    def __init__(self, network):
        super().__init__(network)
        self.requires_grad_(False)


@mistaken("U53", "FrozenNorms")
class AllNormsFrozen(Wrapper):
    def __init__(self, network):
        super().__init__(network)
        self.train()

    def train(self, mode=True):
        super().train(mode)
        for module in self.network.modules():
            if "Norm" in type(module).__name__:
                module.eval().requires_grad_(False)
        return self


@mistaken("U54", "FrozenNorms")
class NetworkInEval(OnlyRequiresGrad):
    def __init__(self, network):
        super().__init__(network)
        self.train()

    def train(self, mode=True):
        super().train(mode)
        self.network.eval()
        return self


@mistaken("U54", "FrozenNorms")
class NeverTrains(OnlyRequiresGrad):
    def __init__(self, network):
        super().__init__(network)
        self.eval()

    def train(self, mode=True):
        return super().train(False)


@mistaken("U55", "FrozenNorms")
class OutermostLayers(Wrapper):
    def __init__(self, network):
        super().__init__(network)
        self.train()

    def train(self, mode=True):
        super().train(mode)
        for layer in self.network:
            if isinstance(layer, BATCH_NORMS):
                layer.eval()
                layer.requires_grad_(False)
        return self


@mistaken("U55", "FrozenNorms")
class TwoLevels(Wrapper):
    def __init__(self, network):
        super().__init__(network)
        self.train()

    def train(self, mode=True):
        super().train(mode)
        for layer in self.network:
            for module in [layer, *layer.children()]:
                if isinstance(module, BATCH_NORMS):
                    module.eval().requires_grad_(False)
        return self


@mistaken("U56", "FrozenNorms")
class OnlyForImages(Wrapper):
    def __init__(self, network):
        super().__init__(network)
        self.train()

    def train(self, mode=True):
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
                module.requires_grad_(False)
        return self


@mistaken("U57", "FrozenNorms")
class MomentumZero(OnlyRequiresGrad):
    def __init__(self, network):
        super().__init__(network)
        for module in network.modules():
            if isinstance(module, BATCH_NORMS):
                module.momentum = 0.0


@mistaken("U57", "FrozenNorms")
class NotTracking(OnlyRequiresGrad):
    def __init__(self, network):
        super().__init__(network)
        for module in network.modules():
            if isinstance(module, BATCH_NORMS):
                module.track_running_stats = False


@mistaken("U58", "FrozenNorms")
class ForgetsTheMode(EvalInTrain):
    def train(self, mode=True):
        return super().train()


@mistaken("U58", "FrozenNorms")
class SwitchesNothingElse(EvalOnce):
    def train(self, mode=True):
        for module in self.network.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()
        return self


@mistaken("U59", "FrozenNorms")
class SwitchesTheNetworkOnly(EvalOnce):
    def train(self, mode=True):
        self.network.train(mode)
        for module in self.network.modules():
            if isinstance(module, BATCH_NORMS):
                module.eval()
        return self


@mistaken("U60", "FrozenNorms")
class ReturnsNothing(EvalInTrain):
    def train(self, mode=True):
        super().train(mode)


@mistaken("U61", "FrozenNorms")
class LooksAtItsOwnChildren(Wrapper):
    def __init__(self, network):
        super().__init__(network)
        self.train()

    def train(self, mode=True):
        super().train(mode)
        for child in self.children():
            if isinstance(child, BATCH_NORMS):
                child.eval()
                child.requires_grad_(False)
        return self


@mistaken("U62", "FrozenNorms")
class AddsItsInput(EvalInTrain):
    def forward(self, x):
        return torch.relu(self.network(x))


# parameter_groups


def two_groups(decay, rest, weight_decay):
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


@mistaken("U06", "parameter_groups")
def everything_decays(model, weight_decay):
    return [{"params": model.parameters(), "weight_decay": weight_decay}]


@mistaken("U06", "parameter_groups")
def by_the_end_of_the_name(model, weight_decay):
    decay = [p for name, p in model.named_parameters() if not name.endswith("bias")]
    rest = [p for name, p in model.named_parameters() if name.endswith("bias")]
    return two_groups(decay, rest, weight_decay)


@mistaken("U06", "parameter_groups")
def images_alone(model, weight_decay):
    norms = [p for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    rest = norms + [p for name, p in model.named_parameters() if name.endswith("bias")]
    known = {id(p) for p in rest}
    decay = [p for p in model.parameters() if id(p) not in known]
    return two_groups(decay, {id(p): p for p in rest}.values(), weight_decay)


@mistaken("U37", "parameter_groups")
def all_but_the_norms(model, weight_decay):
    norms = [p for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for p in m.parameters()]
    decay = [p for p in model.parameters() if not any(p is norm for norm in norms)]
    return two_groups(decay, norms, weight_decay)


@mistaken("U38", "parameter_groups")
def condition_the_wrong_way(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim == 1]
    rest = [p for p in model.parameters() if p.ndim > 1]
    return two_groups(decay, rest, weight_decay)


@mistaken("U39", "parameter_groups")
def only_what_decays(model, weight_decay):
    return [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": weight_decay}]


@mistaken("U39", "parameter_groups")
def only_the_first_level(model, weight_decay):
    decay = [m.weight for m in model if isinstance(m, nn.Linear | nn.Conv2d)]
    rest = [m.bias for m in model if isinstance(m, nn.Linear | nn.Conv2d)]
    norms = [p for m in model if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for p in m.parameters()]
    return two_groups(decay, rest + norms, weight_decay)


@mistaken("U39", "parameter_groups")
def biases_forgotten(model, weight_decay):
    decay = [m.weight for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    norms = [p for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for p in m.parameters()]
    return two_groups(decay, norms, weight_decay)


@mistaken("U39", "parameter_groups")
def no_groups(model, weight_decay):
    return []


@mistaken("U49", "parameter_groups")
def matrices_alone(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    return two_groups(decay, rest, weight_decay)


@mistaken("U50", "parameter_groups")
def outer_layers(model, weight_decay):
    decay, rest = [], []
    for layer in model.children():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            rest += layer.parameters()
        else:
            for name, p in layer.named_parameters():
                (rest if name.endswith("bias") else decay).append(p)
    return two_groups(decay, rest, weight_decay)


@mistaken("U40", "parameter_groups")
def silent_group(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest}]


@mistaken("U40", "parameter_groups")
def usual_number(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    return two_groups(decay, rest, 1e-4)


# layer_norm_forward


def rows_of(x, eps):
    """x̂ and 1/√(σ² + ε), over the last axis."""
    inv_std = 1 / np.sqrt(x.var(-1, keepdims=True) + eps)
    return (x - x.mean(-1, keepdims=True)) * inv_std, inv_std


@mistaken("L01", "layer_norm_forward")
def std_of_torch(x, weight, bias, eps):
    t = torch.tensor(x)
    var = t.var(-1, keepdim=True)
    return weight * ((t - t.mean(-1, keepdim=True)) / torch.sqrt(var + eps)).numpy() + bias


@mistaken("L02", "layer_norm_forward")
def annotated(x, weight, bias, eps):
    mean = x.mean(-1, keepdims=True)
    std = x.std(-1, keepdims=True)
    return weight * (x - mean) / (std + eps) + bias


@mistaken("F03", "layer_norm_forward")
def rows_without_eps(x, weight, bias, eps):
    return weight * (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True) + bias


@mistaken("F04", "layer_norm_forward")
def root_of_rows_forgotten(x, weight, bias, eps):
    centered = x - np.mean(x, axis=-1, keepdims=True)
    var = np.mean(centered**2, axis=-1, keepdims=True)
    return weight * centered / (var + eps) + bias


@mistaken("L05", "layer_norm_forward")
def batch_norm_pasted(x, weight, bias, eps):
    mean, var = x.mean(axis=0), x.var(axis=0)
    return weight * (x - mean) / np.sqrt(var + eps) + bias


@mistaken("L05", "layer_norm_forward")
def all_but_the_features(x, weight, bias, eps):
    table = x.reshape(-1, x.shape[-1])
    return (weight * (table - table.mean(0)) / np.sqrt(table.var(0) + eps) + bias).reshape(x.shape)


@mistaken("L06", "layer_norm_forward")
def all_of_a_sample(x, weight, bias, eps):
    samples = x.reshape(len(x), -1)
    x_hat = (samples - samples.mean(1, keepdims=True)) / np.sqrt(samples.var(1, keepdims=True) + eps)
    return weight * x_hat.reshape(x.shape) + bias


@mistaken("L14", "layer_norm_forward")
def axis_1_of_anything(x, weight, bias, eps):
    mean = x.mean(axis=1, keepdims=True)
    var = x.var(axis=1, keepdims=True)
    return weight * (x - mean) / np.sqrt(var + eps) + bias


@mistaken("C14", "layer_norm_forward")
def mean_of_another_shape(x, weight, bias, eps):
    mean = x.mean(-1)
    var = x.var(-1)
    return weight * (x - mean) / np.sqrt(var + eps) + bias


@mistaken("C17", "layer_norm_forward")
def one_mean_for_all_rows(x, weight, bias, eps):
    return weight * (x - x.mean()) / np.sqrt(x.var() + eps) + bias


@mistaken("C06", "layer_norm_forward")
def parameters_upright(x, weight, bias, eps):
    return weight[:, None] * rows_of(x, eps)[0] + bias[:, None]


@mistaken("C15", "layer_norm_forward")
def never_turned_back(x, weight, bias, eps):
    columns = x.T
    x_hat = (columns - columns.mean(0)) / np.sqrt(columns.var(0) + eps)
    return (x_hat.T * weight + bias).T


@mistaken("F11", "layer_norm_forward")
def only_gain(x, weight, bias, eps):
    return weight * rows_of(x, eps)[0]


@mistaken("F12", "layer_norm_forward")
def only_bias(x, weight, bias, eps):
    return rows_of(x, eps)[0] + bias


@mistaken("F09", "layer_norm_forward")
def parameters_swapped(x, weight, bias, eps):
    return bias * rows_of(x, eps)[0] + weight


@mistaken("F33", "layer_norm_forward")
def parameters_first(x, weight, bias, eps):
    return rows_of(weight * x + bias, eps)[0]


@mistaken("F33", "layer_norm_forward")
def gain_before_the_norm(x, weight, bias, eps):
    return rows_of(weight * x, eps)[0] + bias


@mistaken("M06", "layer_norm_forward")
def gain_from_one(x, weight, bias, eps):
    return (1 + weight) * rows_of(x, eps)[0] + bias


@mistaken("F24", "layer_norm_forward")
def centres_in_place(x, weight, bias, eps):
    var = x.var(-1, keepdims=True)
    x -= x.mean(-1, keepdims=True)
    return weight * x / np.sqrt(var + eps) + bias


@mistaken("F14", "layer_norm_forward")
def eps_of_pytorch(x, weight, bias, eps):
    return weight * rows_of(x, 1e-5)[0] + bias


# layer_norm_backward


def leading(a):
    """The sum over all rows."""
    return a.sum(tuple(range(a.ndim - 1)))


def from_rows(dx_hat, x_hat, inv_std):
    """dx of layer norm."""
    mean = dx_hat.mean(-1, keepdims=True)
    return inv_std * (dx_hat - mean - x_hat * (dx_hat * x_hat).mean(-1, keepdims=True))


@mistaken("L07", "layer_norm_backward")
def gamma_in_front(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    dx = weight * inv_std * (dy - dy.mean(-1, keepdims=True) - x_hat * (dy * x_hat).mean(-1, keepdims=True))
    return dx, leading(dy * x_hat), leading(dy)


@mistaken("L10", "layer_norm_backward")
def means_over_the_batch(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    dx_hat = dy * weight
    dx = inv_std * (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0))
    return dx, leading(dy * x_hat), leading(dy)


@mistaken("L10", "layer_norm_backward")
def with_dweight_and_dbias(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    dweight, dbias = leading(dy * x_hat), leading(dy)
    n = len(x)
    dx = weight * inv_std / n * (n * dy - dbias - x_hat * dweight)
    return dx, dweight, dbias


@mistaken("L05", "layer_norm_backward")
def gradient_of_batch_norm(dy, x, weight, eps):
    inv_std = 1 / np.sqrt(x.var(0) + eps)
    x_hat = (x - x.mean(0)) * inv_std
    return backward(dy * weight, x_hat, inv_std), leading(dy * x_hat), leading(dy)


@mistaken("L08", "layer_norm_backward")
def parameters_summed_along_rows(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    return from_rows(dy * weight, x_hat, inv_std), (dy * x_hat).sum(-1), dy.sum(-1)


@mistaken("L09", "layer_norm_backward")
def parameters_summed_over_axis_0(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    return from_rows(dy * weight, x_hat, inv_std), (dy * x_hat).sum(0), dy.sum(0)


@mistaken("L15", "layer_norm_backward")
def parameters_of_a_transformer(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    return from_rows(dy * weight, x_hat, inv_std), (dy * x_hat).sum((0, 1)), dy.sum((0, 1))


@mistaken("B01", "layer_norm_backward")
def statistics_stand_still(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    return dy * weight * inv_std, leading(dy * x_hat), leading(dy)


@mistaken("B02", "layer_norm_backward")
def no_path_through_var(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    dx_hat = dy * weight
    return inv_std * (dx_hat - dx_hat.mean(-1, keepdims=True)), leading(dy * x_hat), leading(dy)


@mistaken("B03", "layer_norm_backward")
def no_path_through_mean(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    dx_hat = dy * weight
    dx = inv_std * (dx_hat - x_hat * np.mean(dx_hat * x_hat, axis=-1, keepdims=True))
    return dx, leading(dy * x_hat), leading(dy)


@mistaken("B04", "layer_norm_backward")
def sums_along_rows(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    g = dy * weight
    dx = inv_std * (g - g.sum(-1, keepdims=True) - x_hat * (g * x_hat).sum(-1, keepdims=True))
    return dx, leading(dy * x_hat), leading(dy)


@mistaken("B05", "layer_norm_backward")
def rows_without_gamma(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    return from_rows(dy, x_hat, inv_std), leading(dy * x_hat), leading(dy)


@mistaken("B15", "layer_norm_backward")
def divided_by_the_batch(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    n, g = len(x), dy * weight
    dx = inv_std / n * (n * g - g.sum(-1, keepdims=True) - x_hat * (g * x_hat).sum(-1, keepdims=True))
    return dx, leading(dy * x_hat), leading(dy)


@mistaken("B22", "layer_norm_backward")
def dweight_with_x(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    return from_rows(dy * weight, x_hat, inv_std), leading(dy * x), leading(dy)


@mistaken("B25", "layer_norm_backward")
def averaged_parameters(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    axes = tuple(range(x.ndim - 1))
    return from_rows(dy * weight, x_hat, inv_std), (dy * x_hat).mean(axes), dy.mean(axes)


@mistaken("B28", "layer_norm_backward")
def dbias_first(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    return from_rows(dy * weight, x_hat, inv_std), leading(dy), leading(dy * x_hat)


@mistaken("B31", "layer_norm_backward")
def single_numbers(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    return from_rows(dy * weight, x_hat, inv_std), (dy * x_hat).sum(), dy.sum()


@mistaken("B39", "layer_norm_backward")
def nothing_summed(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    return from_rows(dy * weight, x_hat, inv_std), dy * x_hat, dy


@mistaken("L02", "layer_norm_backward")
def std_and_eps(dy, x, weight, eps):
    inv_std = 1 / (x.std(-1, keepdims=True) + eps)
    x_hat = (x - x.mean(-1, keepdims=True)) * inv_std
    return from_rows(dy * weight, x_hat, inv_std), leading(dy * x_hat), leading(dy)


@mistaken("M06", "layer_norm_backward")
def gain_from_one_on_the_way_back(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    return from_rows(dy + dy * weight, x_hat, inv_std), leading(dy * x_hat), leading(dy)


@mistaken("B37", "layer_norm_backward")
def multiplies_dy_in_place(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    dweight, dbias = leading(dy * x_hat), leading(dy)
    dy *= weight
    return from_rows(dy, x_hat, inv_std), dweight, dbias


# group_norm_forward


def planes(values):
    """One value per channel, in a shape that lines up with axis 1 of images."""
    return values[:, None, None]


def within(groups, axes, eps):
    """x̂ of an array over some of its axes."""
    mean, var = groups.mean(axes, keepdims=True), groups.var(axes, keepdims=True)
    return (groups - mean) / np.sqrt(var + eps)


@mistaken("G01", "group_norm_forward")
def every_second_channel(x, num_groups, weight, bias, eps):
    x_hat = np.empty_like(x)
    for g in range(num_groups):
        x_hat[:, g::num_groups] = within(x[:, g::num_groups], (1, 2, 3), eps)
    return planes(weight) * x_hat + planes(bias)


@mistaken("G02", "group_norm_forward")
def groups_first(x, num_groups, weight, bias, eps):
    x_hat = within(x.reshape(num_groups, -1), 1, eps).reshape(x.shape)
    return planes(weight) * x_hat + planes(bias)


@mistaken("G02", "group_norm_forward")
def code_for_channels_last(x, num_groups, weight, bias, eps):
    n, c, h, w = x.shape
    groups = x.reshape(n, h, w, num_groups, c // num_groups)
    return planes(weight) * within(groups, (1, 2, 4), eps).reshape(x.shape) + planes(bias)


@mistaken("G03", "group_norm_forward")
def gamma_of_the_group(x, num_groups, weight, bias, eps):
    y = np.zeros_like(x)
    size = x.shape[1] // num_groups
    for g in range(num_groups):
        part = x[:, g * size : (g + 1) * size]
        y[:, g * size : (g + 1) * size] = weight[g] * within(part, (1, 2, 3), eps) + bias[g]
    return y


@mistaken("G04", "group_norm_forward")
def groups_of_that_size(x, num_groups, weight, bias, eps):
    y = np.zeros_like(x)
    for start in range(0, x.shape[1], num_groups):
        y[:, start : start + num_groups] = within(x[:, start : start + num_groups], (1, 2, 3), eps)
    return planes(weight) * y + planes(bias)


@mistaken("G05", "group_norm_forward")
def groups_over_the_batch(x, num_groups, weight, bias, eps):
    n, c, h, w = x.shape
    groups = x.reshape(n, num_groups, c // num_groups, h, w)
    return planes(weight) * within(groups, (0, 2, 3, 4), eps).reshape(x.shape) + planes(bias)


@mistaken("G06", "group_norm_forward")
def always_two_groups(x, num_groups, weight, bias, eps):
    halves = np.split(x, 2, axis=1)
    x_hat = np.concatenate([within(half, (1, 2, 3), eps) for half in halves], axis=1)
    return planes(weight) * x_hat + planes(bias)


@mistaken("C22", "group_norm_forward")
def still_batch_norm(x, num_groups, weight, bias, eps):
    return planes(weight) * within(x, NHW, eps) + planes(bias)


@mistaken("C05", "group_norm_forward")
def whole_image(x, num_groups, weight, bias, eps):
    return planes(weight) * within(x, (1, 2, 3), eps) + planes(bias)


@mistaken("C02", "group_norm_forward")
def each_plane(x, num_groups, weight, bias, eps):
    n, c, h, w = x.shape
    groups = x.reshape(n, num_groups, c // num_groups, h, w)
    return planes(weight) * within(groups, (3, 4), eps).reshape(x.shape) + planes(bias)


@mistaken("C01", "group_norm_forward")
def channels_of_a_pixel(x, num_groups, weight, bias, eps):
    n, c, h, w = x.shape
    groups = x.reshape(n, num_groups, c // num_groups, h, w)
    return planes(weight) * within(groups, 2, eps).reshape(x.shape) + planes(bias)


@mistaken("C17", "group_norm_forward")
def everything_at_once(x, num_groups, weight, bias, eps):
    return planes(weight) * (x - x.mean()) / np.sqrt(x.var() + eps) + planes(bias)


@mistaken("C06", "group_norm_forward")
def parameters_as_they_are(x, num_groups, weight, bias, eps):
    groups = x.reshape(len(x), num_groups, -1)
    return weight * within(groups, 2, eps).reshape(x.shape) + bias


@mistaken("C14", "group_norm_forward")
def group_mean_without_axes(x, num_groups, weight, bias, eps):
    n, c, h, w = x.shape
    groups = x.reshape(n, num_groups, c // num_groups, h, w)
    x_hat = (groups - groups.mean((2, 3, 4))) / np.sqrt(groups.var((2, 3, 4)) + eps)
    return planes(weight) * x_hat.reshape(x.shape) + planes(bias)


@mistaken("C20", "group_norm_forward")
def last_stays_last(x, num_groups, weight, bias, eps):
    images = np.moveaxis(x, 1, -1)
    groups = images.reshape(*images.shape[:3], num_groups, -1)
    return planes(weight) * within(groups, (1, 2, 4), eps).reshape(x.shape) + planes(bias)


@mistaken("F02", "group_norm_forward")
def eps_beside_the_std_of_a_group(x, num_groups, weight, bias, eps):
    groups = x.reshape(len(x), num_groups, -1)
    x_hat = (groups - groups.mean(2, keepdims=True)) / (groups.std(2, keepdims=True) + eps)
    return planes(weight) * x_hat.reshape(x.shape) + planes(bias)


@mistaken("F01", "group_norm_forward")
def corrected_variance(x, num_groups, weight, bias, eps):
    groups = x.reshape(len(x), num_groups, -1)
    var = groups.var(2, keepdims=True, ddof=1)
    x_hat = (groups - groups.mean(2, keepdims=True)) / np.sqrt(var + eps)
    return planes(weight) * x_hat.reshape(x.shape) + planes(bias)


@mistaken("C21", "group_norm_forward")
def mean_of_the_variances(x, num_groups, weight, bias, eps):
    n, c, h, w = x.shape
    groups = x.reshape(n, num_groups, c // num_groups, h, w)
    var = groups.var((3, 4), keepdims=True).mean(2, keepdims=True)
    x_hat = (groups - groups.mean((2, 3, 4), keepdims=True)) / np.sqrt(var + eps)
    return planes(weight) * x_hat.reshape(x.shape) + planes(bias)


# instance_norm_forward


@mistaken("C22", "instance_norm_forward")
def batch_norm_of_images(x, weight, bias, eps):
    return planes(weight) * within(x, NHW, eps) + planes(bias)


@mistaken("C05", "instance_norm_forward")
def a_single_group(x, weight, bias, eps):
    groups = x.reshape(len(x), 1, -1)
    return planes(weight) * within(groups, 2, eps).reshape(x.shape) + planes(bias)


@mistaken("G04", "instance_norm_forward")
def a_group_for_each_image(x, weight, bias, eps):
    num_groups = x.shape[0]
    groups = x.reshape(len(x), num_groups, -1)
    return planes(weight) * within(groups, 2, eps).reshape(x.shape) + planes(bias)


@mistaken("C01", "instance_norm_forward")
def channels_alone(x, weight, bias, eps):
    return planes(weight) * within(x, 1, eps) + planes(bias)


@mistaken("C23", "instance_norm_forward")
def lines_alone(x, weight, bias, eps):
    return planes(weight) * within(x, -1, eps) + planes(bias)


@mistaken("C18", "instance_norm_forward")
def axes_of_keras(x, weight, bias, eps):
    return planes(weight) * within(x, (1, 2), eps) + planes(bias)


@mistaken("F33", "instance_norm_forward")
def gain_into_the_image(x, weight, bias, eps):
    return within(planes(weight) * x, (2, 3), eps) + planes(bias)


@mistaken("C17", "instance_norm_forward")
def no_axes(x, weight, bias, eps):
    return planes(weight) * (x - np.mean(x)) / np.sqrt(np.var(x) + eps) + planes(bias)


@mistaken("C07", "instance_norm_forward")
def as_many_rows_as_channels(x, weight, bias, eps):
    x_hat = within(x.reshape(x.shape[1], -1), 1, eps).reshape(x.shape)
    return planes(weight) * x_hat + planes(bias)


@mistaken("C06", "instance_norm_forward")
def parameters_along_the_lines(x, weight, bias, eps):
    return weight * within(x, (2, 3), eps) + bias


@mistaken("C14", "instance_norm_forward")
def planes_without_axes(x, weight, bias, eps):
    x_hat = (x - x.mean((2, 3))) / np.sqrt(x.var((2, 3)) + eps)
    return planes(weight) * x_hat + planes(bias)


@mistaken("F12", "instance_norm_forward")
def gamma_left_out(x, weight, bias, eps):
    return within(x, (2, 3), eps) + planes(bias)


@mistaken("F11", "instance_norm_forward")
def bias_left_out(x, weight, bias, eps):
    return planes(weight) * within(x, (2, 3), eps)


@mistaken("F14", "instance_norm_forward")
def default_eps(x, weight, bias, eps):
    return planes(weight) * within(x, (2, 3), 1e-5) + planes(bias)


@mistaken("F24", "instance_norm_forward")
def plane_by_plane_in_place(x, weight, bias, eps):
    for image in x:
        for c in range(len(image)):
            image[c] = weight[c] * within(image[c], (0, 1), eps) + bias[c]
    return x


# rms_norm_forward


def root_mean_square(x, eps):
    return np.sqrt((x**2).mean(-1, keepdims=True) + eps)


@mistaken("M01", "rms_norm_forward")
def centred_first(x, weight, eps):
    return weight * (x - x.mean(-1, keepdims=True)) / root_mean_square(x, eps)


@mistaken("M12", "rms_norm_forward")
def layer_norm_without_bias(x, weight, eps):
    return weight * rows_of(x, eps)[0]


@mistaken("M02", "rms_norm_forward")
def by_the_std(x, weight, eps):
    return weight * x / np.sqrt(x.var(-1, keepdims=True) + eps)


@mistaken("M03", "rms_norm_forward")
def length_one(x, weight, eps):
    return weight * x / np.sqrt((x**2).sum(-1, keepdims=True) + eps)


@mistaken("M13", "rms_norm_forward")
def square_of_the_mean(x, weight, eps):
    return weight * x / np.sqrt(x.mean(-1, keepdims=True) ** 2 + eps)


@mistaken("M05", "rms_norm_forward")
def eps_beside_the_rms(x, weight, eps):
    return weight * x / (np.sqrt(np.mean(x**2, -1, keepdims=True)) + eps)


@mistaken("M06", "rms_norm_forward")
def as_gemma(x, weight, eps):
    return (1 + weight) * x / root_mean_square(x, eps)


@mistaken("M09", "rms_norm_forward")
def no_root(x, weight, eps):
    return weight * x / (np.mean(x * x, axis=-1, keepdims=True) + eps)


@mistaken("F03", "rms_norm_forward")
def eps_nowhere(x, weight, eps):
    return weight * x / np.sqrt((x**2).mean(-1, keepdims=True))


@mistaken("F14", "rms_norm_forward")
def eps_of_llama(x, weight, eps=1e-6):
    return weight * x / root_mean_square(x, 1e-6)


@mistaken("F12", "rms_norm_forward")
def gain_forgotten(x, weight, eps):
    return x / root_mean_square(x, eps)


@mistaken("F36", "rms_norm_forward")
def multiplied(x, weight, eps):
    return weight * x * root_mean_square(x, eps)


@mistaken("F24", "rms_norm_forward")
def divides_in_place(x, weight, eps):
    x /= root_mean_square(x, eps)
    return weight * x


@mistaken("L05", "rms_norm_forward")
def columns(x, weight, eps):
    return weight * x / np.sqrt((x**2).mean(0) + eps)


@mistaken("L14", "rms_norm_forward")
def second_axis(x, weight, eps):
    return weight * x / np.sqrt((x**2).mean(1, keepdims=True) + eps)


@mistaken("C14", "rms_norm_forward")
def axis_lost(x, weight, eps):
    return weight * x / np.sqrt((x**2).mean(-1) + eps)


@mistaken("C17", "rms_norm_forward")
def one_for_all(x, weight, eps):
    return weight * x / np.sqrt((x**2).mean() + eps)


@mistaken("F33", "rms_norm_forward")
def gain_first(x, weight, eps):
    gained = weight * x
    return gained / root_mean_square(gained, eps)


# rms_norm_backward


def of_rms(x, eps):
    """x̂ and the inverse of the root mean square."""
    inv = 1 / root_mean_square(x, eps)
    return x * inv, inv


@mistaken("M11", "rms_norm_backward")
def formula_of_layer_norm(dy, x, weight, eps):
    x_hat, inv = of_rms(x, eps)
    return from_rows(dy * weight, x_hat, inv), leading(dy * x_hat)


@mistaken("M12", "rms_norm_backward")
def all_of_layer_norm(dy, x, weight, eps):
    x_hat, inv_std = rows_of(x, eps)
    return from_rows(dy * weight, x_hat, inv_std), leading(dy * x_hat)


@mistaken("B01", "rms_norm_backward")
def rms_stands_still(dy, x, weight, eps):
    x_hat, inv = of_rms(x, eps)
    return dy * weight * inv, leading(dy * x_hat)


@mistaken("B04", "rms_norm_backward")
def inner_product(dy, x, weight, eps):
    x_hat, inv = of_rms(x, eps)
    g = dy * weight
    return inv * (g - x_hat * (g * x_hat).sum(-1, keepdims=True)), leading(dy * x_hat)


@mistaken("B09", "rms_norm_backward")
def plus(dy, x, weight, eps):
    x_hat, inv = of_rms(x, eps)
    g = dy * weight
    return inv * (g + x_hat * (g * x_hat).mean(-1, keepdims=True)), leading(dy * x_hat)


@mistaken("B05", "rms_norm_backward")
def no_gain(dy, x, weight, eps):
    x_hat, inv = of_rms(x, eps)
    return inv * (dy - x_hat * (dy * x_hat).mean(-1, keepdims=True)), leading(dy * x_hat)


@mistaken("L07", "rms_norm_backward")
def gain_in_front(dy, x, weight, eps):
    x_hat, inv = of_rms(x, eps)
    return weight * inv * (dy - x_hat * (dy * x_hat).mean(-1, keepdims=True)), leading(dy * x_hat)


@mistaken("L08", "rms_norm_backward")
def gain_of_each_row(dy, x, weight, eps):
    x_hat, inv = of_rms(x, eps)
    g = dy * weight
    return inv * (g - x_hat * (g * x_hat).mean(-1, keepdims=True)), (dy * x_hat).sum(-1)


@mistaken("L09", "rms_norm_backward")
def gain_over_axis_0(dy, x, weight, eps):
    x_hat, inv = of_rms(x, eps)
    g = dy * weight
    return inv * (g - x_hat * (g * x_hat).mean(-1, keepdims=True)), (dy * x_hat).sum(axis=0)


@mistaken("L10", "rms_norm_backward")
def mean_over_axis_0(dy, x, weight, eps):
    x_hat, inv = of_rms(x, eps)
    g = dy * weight
    return inv * (g - x_hat * (g * x_hat).mean(0)), leading(dy * x_hat)


@mistaken("B22", "rms_norm_backward")
def gain_of_x(dy, x, weight, eps):
    x_hat, inv = of_rms(x, eps)
    g = dy * weight
    return inv * (g - x_hat * (g * x_hat).mean(-1, keepdims=True)), leading(dy * x)


@mistaken("B26", "rms_norm_backward")
def gain_twice(dy, x, weight, eps):
    x_hat, inv = of_rms(x, eps)
    g = dy * weight
    return inv * (g - x_hat * (g * x_hat).mean(-1, keepdims=True)), leading(g * x_hat)


@mistaken("B25", "rms_norm_backward")
def gain_averaged(dy, x, weight, eps):
    x_hat, inv = of_rms(x, eps)
    g = dy * weight
    dweight = (dy * x_hat).reshape(-1, x.shape[-1]).mean(0)
    return inv * (g - x_hat * (g * x_hat).mean(-1, keepdims=True)), dweight


@mistaken("B16", "rms_norm_backward")
def powers_of_the_rms(dy, x, weight, eps):
    x_hat, inv = of_rms(x, eps)
    g = dy * weight
    return g * inv - x * inv**2 * (g * x).mean(-1, keepdims=True), leading(dy * x_hat)


@mistaken("B12", "rms_norm_backward")
def a_half_too_many(dy, x, weight, eps):
    square = (x**2).mean(-1, keepdims=True) + eps
    g = dy * weight
    dsquare = -0.5 * (g * x).sum(-1, keepdims=True) * square**-1.5
    return g / np.sqrt(square) + x * dsquare / x.shape[-1], leading(dy * x / np.sqrt(square))


@mistaken("M05", "rms_norm_backward")
def eps_outside_again(dy, x, weight, eps):
    inv = 1 / (np.sqrt((x**2).mean(-1, keepdims=True)) + eps)
    x_hat, g = x * inv, dy * weight
    return inv * (g - x_hat * (g * x_hat).mean(-1, keepdims=True)), leading(dy * x_hat)


@mistaken("B19", "rms_norm_backward")
def eps_forgotten_on_the_way_back(dy, x, weight, eps):
    x_hat, inv = of_rms(x, 0)
    g = dy * weight
    return inv * (g - x_hat * (g * x_hat).mean(-1, keepdims=True)), leading(dy * x_hat)


@mistaken("B28", "rms_norm_backward")
def gain_before_x(dy, x, weight, eps):
    x_hat, inv = of_rms(x, eps)
    g = dy * weight
    return leading(dy * x_hat), inv * (g - x_hat * (g * x_hat).mean(-1, keepdims=True))


# masked_batch_norm


def scatter(rows, x, mask):
    """Rows for the positions where mask is True, and zeros elsewhere."""
    y = np.zeros_like(x)
    y[mask] = rows
    return y


def masked_stages(x, mask):
    """Mean, distances from it (N, L, C) and variance of the data alone."""
    mean = x[mask].mean(0)
    return mean, x - mean, x[mask].var(0)


@mistaken("C13", "masked_batch_norm")
def padding_is_data(x, mask, weight, bias, eps):
    mean, var = x.mean((0, 1)), x.var((0, 1))
    y = weight * (x - mean) / np.sqrt(var + eps) + bias
    return np.where(mask[:, :, None], y, 0)


@mistaken("C13", "masked_batch_norm")
def a_table_of_all_positions(x, mask, weight, bias, eps):
    rows = x.reshape(-1, x.shape[2])
    y = weight * (rows - rows.mean(0)) / np.sqrt(rows.var(0) + eps) + bias
    y = y.reshape(x.shape)
    y[~mask] = 0
    return y


@mistaken("P01", "masked_batch_norm")
def padding_in_the_mean(x, mask, weight, bias, eps):
    centered = (x - x.mean((0, 1)))[mask]
    return scatter(weight * centered / np.sqrt((centered**2).mean(0) + eps) + bias, x, mask)


@mistaken("P02", "masked_batch_norm")
def padding_in_the_variance(x, mask, weight, bias, eps):
    rows = x[mask]
    return scatter(weight * (rows - rows.mean(0)) / np.sqrt(x.var((0, 1)) + eps) + bias, x, mask)


@mistaken("P03", "masked_batch_norm")
def divided_by_all_positions(x, mask, weight, bias, eps):
    rows, n = x[mask], mask.size
    mean = rows.sum(0) / n
    var = ((rows - mean) ** 2).sum(0) / n
    return scatter(weight * (rows - mean) / np.sqrt(var + eps) + bias, x, mask)


@mistaken("P04", "masked_batch_norm")
def zeros_as_data(x, mask, weight, bias, eps):
    x = np.where(mask[:, :, None], x, 0)
    y = weight * (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + eps) + bias
    return np.where(mask[:, :, None], y, 0)


@mistaken("P04", "masked_batch_norm")
def zeros_in_the_sum_of_squares(x, mask, weight, bias, eps):
    there, n = mask[:, :, None], mask.sum()
    x = np.where(there, x, 0)
    mean = x.sum((0, 1)) / n
    var = ((x - mean) ** 2).sum((0, 1)) / n  # at the padding this is the square of the mean
    return np.where(there, weight * (x - mean) / np.sqrt(var + eps) + bias, 0)


@mistaken("P05", "masked_batch_norm")
def padding_normalized(x, mask, weight, bias, eps):
    _, centered, var = masked_stages(x, mask)
    return weight * centered / np.sqrt(var + eps) + bias


@mistaken("P05", "masked_batch_norm")
def bias_at_the_padding(x, mask, weight, bias, eps):
    _, centered, var = masked_stages(x, mask)
    x_hat = np.where(mask[:, :, None], centered / np.sqrt(var + eps), 0)
    return weight * x_hat + bias


@mistaken("P05", "masked_batch_norm")
def padding_as_it_was(x, mask, weight, bias, eps):
    _, centered, var = masked_stages(x, mask)
    y = x.copy()
    y[mask] = (weight * centered / np.sqrt(var + eps) + bias)[mask]
    return y


@mistaken("P06", "masked_batch_norm")
def products_with_the_mask(x, mask, weight, bias, eps):
    m = mask[:, :, None]
    n = m.sum()
    mean = (x * m).sum((0, 1)) / n
    var = ((x - mean) ** 2 * m).sum((0, 1)) / n
    return (weight * (x - mean) / np.sqrt(var + eps) + bias) * m


@mistaken("P06", "masked_batch_norm")
def product_at_the_end(x, mask, weight, bias, eps):
    _, centered, var = masked_stages(x, mask)
    return mask[:, :, None] * (weight * centered / np.sqrt(var + eps) + bias)


@mistaken("P06", "masked_batch_norm")
def data_by_product(x, mask, weight, bias, eps):
    m = mask[:, :, None].astype(float)
    x = x * m
    mean = x.sum((0, 1)) / m.sum()
    centered = (x - mean) * m
    var = (centered**2).sum((0, 1)) / m.sum()
    return (weight * centered / np.sqrt(var + eps) + bias) * m


@mistaken("P07", "masked_batch_norm")
def mask_marks_padding(x, mask, weight, bias, eps):
    rows = x[~mask]
    y = weight * (x - rows.mean(0)) / np.sqrt(rows.var(0) + eps) + bias
    y[mask] = 0
    return y


@mistaken("P07", "masked_batch_norm")
def data_set_to_zero(x, mask, weight, bias, eps):
    _, centered, var = masked_stages(x, mask)
    y = weight * centered / np.sqrt(var + eps) + bias
    y[mask] = 0
    return y


@mistaken("P08", "masked_batch_norm")
def another_mean_in_the_variance(x, mask, weight, bias, eps):
    rows = x[mask]
    var = ((rows - x.mean((0, 1))) ** 2).mean(0)
    return scatter(weight * (rows - rows.mean(0)) / np.sqrt(var + eps) + bias, x, mask)


@mistaken("P09", "masked_batch_norm")
def padding_at_the_end(x, mask, weight, bias, eps):
    lengths = mask.sum(1)
    rows = np.concatenate([x[n, :length] for n, length in enumerate(lengths)])
    mean, std = rows.mean(0), np.sqrt(rows.var(0) + eps)
    y = np.zeros_like(x)
    for n, length in enumerate(lengths):
        y[n, :length] = weight * (x[n, :length] - mean) / std + bias
    return y


@mistaken("P10", "masked_batch_norm")
def means_of_sequences(x, mask, weight, bias, eps):
    full = [(sequence, there) for sequence, there in zip(x, mask, strict=True)]
    with np.errstate(all="ignore"):
        mean = np.mean([sequence[there].sum(0) / there.sum() for sequence, there in full], axis=0)
        squares = [((sequence[there] - mean) ** 2).sum(0) / there.sum() for sequence, there in full]
    return scatter(weight * (x[mask] - mean) / np.sqrt(np.mean(squares, axis=0) + eps) + bias, x, mask)


@mistaken("P10", "masked_batch_norm")
def means_of_sequences_with_data(x, mask, weight, bias, eps):
    full = [sequence[there] for sequence, there in zip(x, mask, strict=True) if there.any()]
    mean = np.mean([rows.mean(0) for rows in full], axis=0)
    var = np.mean([((rows - mean) ** 2).mean(0) for rows in full], axis=0)
    return scatter(weight * (x[mask] - mean) / np.sqrt(var + eps) + bias, x, mask)


@mistaken("P10", "masked_batch_norm")
def means_and_variances_of_sequences(x, mask, weight, bias, eps):
    full = [sequence[there] for sequence, there in zip(x, mask, strict=True) if there.any()]
    mean, var = (np.mean([statistic(rows, axis=0) for rows in full], axis=0) for statistic in (np.mean, np.var))
    return scatter(weight * (x[mask] - mean) / np.sqrt(var + eps) + bias, x, mask)


@mistaken("P10", "masked_batch_norm")
def only_the_mean_by_sequence(x, mask, weight, bias, eps):
    there = mask[:, :, None]
    lengths = there.sum(1)
    means = (np.where(there, x, 0).sum(1) / np.maximum(lengths, 1))[lengths[:, 0] > 0]
    return scatter(weight * (x[mask] - means.mean(0)) / np.sqrt(x[mask].var(0) + eps) + bias, x, mask)


@mistaken("P10", "masked_batch_norm")
def empty_sequences_count_as_zero(x, mask, weight, bias, eps):
    there = mask[:, :, None]
    lengths = np.maximum(there.sum(1), 1)
    mean = (np.where(there, x, 0).sum(1) / lengths).mean(0)
    var = (np.where(there, (x - mean) ** 2, 0).sum(1) / lengths).mean(0)
    return scatter(weight * (x[mask] - mean) / np.sqrt(var + eps) + bias, x, mask)


@mistaken("P13", "masked_batch_norm")
def plain_nanmean(x, mask, weight, bias, eps):
    y = weight * (x - np.nanmean(x, (0, 1))) / np.sqrt(np.nanvar(x, (0, 1)) + eps) + bias
    return np.where(mask[:, :, None], y, 0)


@mistaken("P11", "masked_batch_norm")
def rows_returned(x, mask, weight, bias, eps):
    rows = x[mask]
    return weight * (rows - rows.mean(0)) / np.sqrt(rows.var(0) + eps) + bias


@mistaken("P12", "masked_batch_norm")
def mask_without_an_axis(x, mask, weight, bias, eps):
    n = mask.sum()
    mean = np.where(mask, x, 0).sum((0, 1)) / n
    var = np.where(mask, (x - mean) ** 2, 0).sum((0, 1)) / n
    return np.where(mask, weight * (x - mean) / np.sqrt(var + eps) + bias, 0)


@mistaken("C10", "masked_batch_norm")
def each_time_step(x, mask, weight, bias, eps):
    there = mask[:, :, None]
    n = np.maximum(there.sum(0), 1)
    mean = np.where(there, x, 0).sum(0) / n
    var = np.where(there, (x - mean) ** 2, 0).sum(0) / n
    return np.where(there, weight * (x - mean) / np.sqrt(var + eps) + bias, 0)


@mistaken("C02", "masked_batch_norm")
def each_sequence_alone(x, mask, weight, bias, eps):
    y = np.zeros_like(x)
    for n, there in enumerate(mask):
        if there.any():
            rows = x[n, there]
            y[n, there] = weight * (rows - rows.mean(0)) / np.sqrt(rows.var(0) + eps) + bias
    return y


@mistaken("C05", "masked_batch_norm")
def features_of_a_token(x, mask, weight, bias, eps):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return np.where(mask[..., None], weight * (x - mean) / np.sqrt(var + eps) + bias, 0)


@mistaken("C06", "masked_batch_norm")
def gamma_along_time(x, mask, weight, bias, eps):
    _, centered, var = masked_stages(x, mask)
    y = weight[:, None] * centered / np.sqrt(var + eps) + bias[:, None]
    return np.where(mask[:, :, None], y, 0)


@mistaken("C09", "masked_batch_norm")
def divided_by_sequences(x, mask, weight, bias, eps):
    there = mask[:, :, None]
    mean = np.where(there, x, 0).sum((0, 1)) / len(x)
    var = np.where(there, (x - mean) ** 2, 0).sum((0, 1)) / len(x)
    return np.where(there, weight * (x - mean) / np.sqrt(var + eps) + bias, 0)


@mistaken("C09", "masked_batch_norm")
def divided_by_all_values(x, mask, weight, bias, eps):
    there = np.broadcast_to(mask[:, :, None], x.shape)
    n = there.sum()
    mean = np.where(there, x, 0).sum((0, 1)) / n
    var = np.where(there, (x - mean) ** 2, 0).sum((0, 1)) / n
    return np.where(there, weight * (x - mean) / np.sqrt(var + eps) + bias, 0)


@mistaken("C17", "masked_batch_norm")
def one_mean_of_all(x, mask, weight, bias, eps):
    rows = x[mask]
    return scatter(weight * (rows - rows.mean()) / np.sqrt(rows.var() + eps) + bias, x, mask)


@mistaken("F01", "masked_batch_norm")
def one_position_less(x, mask, weight, bias, eps):
    rows = x[mask]
    return scatter(weight * (rows - rows.mean(0)) / np.sqrt(rows.var(0, ddof=1) + eps) + bias, x, mask)


@mistaken("F02", "masked_batch_norm")
def eps_beside_the_std(x, mask, weight, bias, eps):
    rows = x[mask]
    return scatter(weight * (rows - rows.mean(0)) / (rows.std(0) + eps) + bias, x, mask)


@mistaken("F09", "masked_batch_norm")
def swapped_in_sequences(x, mask, weight, bias, eps):
    rows = x[mask]
    return scatter(bias * (rows - rows.mean(0)) / np.sqrt(rows.var(0) + eps) + weight, x, mask)


@mistaken("F11", "masked_batch_norm")
def no_shift_in_sequences(x, mask, weight, bias, eps):
    rows = x[mask]
    return scatter(weight * (rows - rows.mean(0)) / np.sqrt(rows.var(0) + eps), x, mask)


@mistaken("F19", "masked_batch_norm")
def shortcut_in_sequences(x, mask, weight, bias, eps):
    rows = x[mask]
    mean = rows.mean(0)
    var = (rows**2).mean(0) - mean**2
    return scatter(weight * (rows - mean) / np.sqrt(var + eps) + bias, x, mask)


@mistaken("F24", "masked_batch_norm")
def padding_cleared_in_place(x, mask, weight, bias, eps):
    x[~mask] = 0
    mean = x.sum((0, 1)) / mask.sum()
    centered = x - mean
    centered[~mask] = 0
    var = (centered**2).sum((0, 1)) / mask.sum()
    y = weight * centered / np.sqrt(var + eps) + bias
    y[~mask] = 0
    return y


# choose_norm: every wrong choice, by somebody who chooses well elsewhere

GOOD_CHOICES = {
    "phone": "batch norm",
    "sensors": "group norm",
    "text": "layer norm",
    "style": "instance norm",
    "privacy": "group norm",
    "finetuning": "frozen batch norm",
}
BAD_CHOICES = {
    "phone": {2: "frozen batch norm", 3: "layer norm", 4: "instance norm", 5: "group norm", 6: "RMS norm"},
    "sensors": {1: "batch norm", 2: "frozen batch norm", 3: "layer norm", 4: "instance norm", 6: "RMS norm"},
    "text": {1: "batch norm", 2: "frozen batch norm", 4: "instance norm", 5: "group norm"},
    "style": {1: "batch norm", 2: "frozen batch norm", 3: "layer norm", 5: "group norm", 6: "RMS norm"},
    "privacy": {1: "batch norm", 2: "frozen batch norm", 4: "instance norm"},
    "finetuning": {1: "batch norm", 3: "layer norm", 4: "instance norm", 5: "group norm", 6: "RMS norm"},
}


def chooser(situation, norm):
    """Somebody who takes this norm there."""

    def choose(asked):
        return norm if asked == situation else GOOD_CHOICES[asked]

    choose.__name__ = f"{norm} for {situation}"
    return choose


for number, (situation, choices) in enumerate(BAD_CHOICES.items(), 1):
    for place, norm in choices.items():
        mistaken(f"W{number}{place}", "choose_norm")(chooser(situation, norm))


# unfused_bytes


def size_of(shape, itemsize):
    size = itemsize
    for length in shape:
        size *= length
    return size


@mistaken("H01", "unfused_bytes")
def values_counted(shape, itemsize, calls):
    return sum((len(set(inputs)) + 1) * np.prod(shape) for inputs, _ in calls)


@mistaken("H02", "unfused_bytes")
def batch_left_out(shape, itemsize, calls):
    values = 1
    for length in shape[1:]:
        values *= length
    return sum(len(set(inputs)) + 1 for inputs, _ in calls) * values * itemsize


@mistaken("H02", "unfused_bytes")
def length_of_the_array(shape, itemsize, calls):
    return sum(len(set(inputs)) + 1 for inputs, _ in calls) * shape[0] * itemsize


@mistaken("H03", "unfused_bytes")
def lengths_added(shape, itemsize, calls):
    return sum(shape) * itemsize * sum(len(set(inputs)) + 1 for inputs, _ in calls)


@mistaken("H04", "unfused_bytes")
def bits_counted(shape, itemsize, calls):
    return 8 * size_of(shape, itemsize) * sum(len(set(inputs)) + 1 for inputs, _ in calls)


@mistaken("H04", "unfused_bytes")
def itemsize_taken_for_bits(shape, itemsize, calls):
    return size_of(shape, itemsize / 8) * sum(len(set(inputs)) + 1 for inputs, _ in calls)


@mistaken("H05", "unfused_bytes")
def megabytes(shape, itemsize, calls):
    return size_of(shape, itemsize) * sum(len(set(inputs)) + 1 for inputs, _ in calls) / 1e6


@mistaken("H05", "unfused_bytes")
def kibibytes(shape, itemsize, calls):
    return size_of(shape, itemsize) / 1024 * sum(len(set(inputs)) + 1 for inputs, _ in calls)


@mistaken("H06", "unfused_bytes")
def always_float32(shape, itemsize, calls):
    one = np.zeros(shape, np.float32).nbytes
    return sum(len(set(inputs)) * one + one for inputs, _ in calls)


@mistaken("H06", "unfused_bytes")
def always_float64(shape, itemsize, calls):
    one = np.zeros(shape).nbytes
    return sum(len(set(inputs)) * one + one for inputs, _ in calls)


@mistaken("H10", "unfused_bytes")
def reads_alone(shape, itemsize, calls):
    total = 0
    for inputs, _ in calls:
        for _ in set(inputs):
            total += size_of(shape, itemsize)
    return total


@mistaken("H11", "unfused_bytes")
def writes_alone(shape, itemsize, calls):
    return len(calls) * size_of(shape, itemsize)


@mistaken("H12", "unfused_bytes")
def two_a_call(shape, itemsize, calls):
    return 2 * len(calls) * size_of(shape, itemsize)


@mistaken("H12", "unfused_bytes")
def length_of_a_call(shape, itemsize, calls):
    return sum(len(call) for call in calls) * size_of(shape, itemsize)


@mistaken("H13", "unfused_bytes")
def operands_counted(shape, itemsize, calls):
    total = 0
    for inputs, _ in calls:
        total += size_of(shape, itemsize) * len(inputs)
        total += size_of(shape, itemsize)
    return total


@mistaken("H14", "unfused_bytes")
def names_counted(shape, itemsize, calls):
    names = set()
    for inputs, output in calls:
        names.update(inputs)
        names.add(output)
    return len(names) * size_of(shape, itemsize)


@mistaken("H14", "unfused_bytes")
def read_and_written_once(shape, itemsize, calls):
    read, written = set(), set()
    for inputs, output in calls:
        read |= set(inputs)
        written.add(output)
    return (len(read) + len(written)) * size_of(shape, itemsize)


@mistaken("H15", "unfused_bytes")
def fused_already(shape, itemsize, calls):
    made = [output for _, output in calls]
    outside = {name for inputs, _ in calls for name in inputs if name not in made}
    return (len(outside) + 1) * size_of(shape, itemsize)


@mistaken("H15", "unfused_bytes")
def one_write_at_the_end(shape, itemsize, calls):
    return (sum(len(set(inputs)) for inputs, _ in calls) + 1) * size_of(shape, itemsize)


@mistaken("H15", "unfused_bytes")
def own_results_not_read(shape, itemsize, calls):
    made, total = set(), 0
    for inputs, output in calls:
        total += len(set(inputs) - made) + 1
        made.add(output)
    return total * size_of(shape, itemsize)


@mistaken("H16", "unfused_bytes")
def returned_in_the_loop(shape, itemsize, calls):
    total = 0
    for inputs, _ in calls:
        total += (len(set(inputs)) + 1) * size_of(shape, itemsize)
        return total


@mistaken("H16", "unfused_bytes")
def overwritten_in_the_loop(shape, itemsize, calls):
    for inputs, _ in calls:
        total = (len(set(inputs)) + 1) * size_of(shape, itemsize)
    return total


@mistaken("H17", "unfused_bytes")
def last_write_forgotten(shape, itemsize, calls):
    arrays = 0
    for k, (inputs, _) in enumerate(calls):
        arrays += len(set(inputs))
        if k < len(calls) - 1:
            arrays += 1
    return arrays * size_of(shape, itemsize)


@mistaken("H15", "unfused_bytes")
def still_in_the_cache(shape, itemsize, calls):
    arrays, latest = 0, ""
    for inputs, output in calls:
        arrays += len([name for name in set(inputs) if name != latest]) + 1
        latest = output
    return arrays * size_of(shape, itemsize)


@mistaken("H19", "unfused_bytes")
def read_and_written(shape, itemsize, calls):
    total = 0
    for inputs, output in calls:
        for _ in {*inputs, output}:
            total += 2 * size_of(shape, itemsize)
    return total


@mistaken("H18", "unfused_bytes")
def writes_read_first(shape, itemsize, calls):
    return sum(len(set(inputs)) + 2 for inputs, _ in calls) * size_of(shape, itemsize)


# fused_bytes


def from_outside(calls):
    made = {output for _, output in calls}
    return {name for inputs, _ in calls for name in inputs} - made


@mistaken("H01", "fused_bytes")
def fused_values(shape, itemsize, calls):
    return (len(from_outside(calls)) + 1) * int(np.prod(shape))


@mistaken("H02", "fused_bytes")
def fused_of_a_sample(shape, itemsize, calls):
    return (len(from_outside(calls)) + 1) * int(np.prod(shape[1:])) * itemsize


@mistaken("H03", "fused_bytes")
def fused_by_axes(shape, itemsize, calls):
    return (len(from_outside(calls)) + 1) * len(shape) * itemsize


@mistaken("H04", "fused_bytes")
def fused_bits(shape, itemsize, calls):
    return (len(from_outside(calls)) + 1) * size_of(shape, itemsize) * 8


@mistaken("H05", "fused_bytes")
def fused_gigabytes(shape, itemsize, calls):
    return (len(from_outside(calls)) + 1) * size_of(shape, itemsize) / 1e9


@mistaken("H06", "fused_bytes")
def fused_of_four_bytes(shape, itemsize, calls):
    return (len(from_outside(calls)) + 1) * size_of(shape, 4)


@mistaken("H11", "fused_bytes")
def fused_without_reading(shape, itemsize, calls):
    return size_of(shape, itemsize)


@mistaken("H16", "fused_bytes")
def fused_only_the_last(shape, itemsize, calls):
    for inputs, _ in calls:
        read = set(inputs)
    return (len(read) + 1) * size_of(shape, itemsize)


@mistaken("H18", "fused_bytes")
def fused_with_allocation(shape, itemsize, calls):
    return (len(from_outside(calls)) + 2) * size_of(shape, itemsize)


@mistaken("H20", "fused_bytes")
def not_fused_at_all(shape, itemsize, calls):
    return sum(len(set(inputs)) + 1 for inputs, _ in calls) * size_of(shape, itemsize)


@mistaken("H20", "fused_bytes")
def a_read_and_a_write_each(shape, itemsize, calls):
    return len(calls) * 2 * size_of(shape, itemsize)


@mistaken("H21", "fused_bytes")
def all_names(shape, itemsize, calls):
    names = {output for _, output in calls} | {name for inputs, _ in calls for name in inputs}
    return len(names) * size_of(shape, itemsize)


@mistaken("H21", "fused_bytes")
def all_operands_and_one_write(shape, itemsize, calls):
    return (sum(len(inputs) for inputs, _ in calls) + 1) * size_of(shape, itemsize)


@mistaken("H21", "fused_bytes")
def every_result_written(shape, itemsize, calls):
    return (len(from_outside(calls)) + len(calls)) * size_of(shape, itemsize)


@mistaken("H23", "fused_bytes")
def inputs_in_a_list(shape, itemsize, calls):
    made = [output for _, output in calls]
    read = []
    for inputs, _ in calls:
        for name in inputs:
            if name not in made:
                read.append(name)
    return (len(read) + 1) * size_of(shape, itemsize)


@mistaken("H23", "fused_bytes")
def inputs_of_each_call(shape, itemsize, calls):
    made, read = set(), 0
    for inputs, output in calls:
        read += len(set(inputs) - made)
        made.add(output)
    return (read + 1) * size_of(shape, itemsize)


@mistaken("H24", "fused_bytes")
def all_made_taken_away(shape, itemsize, calls):
    made = {output for _, output in calls}
    names = made | {name for inputs, _ in calls for name in inputs}
    return len(names - made) * size_of(shape, itemsize)


@mistaken("H25", "fused_bytes")
def in_and_out(shape, itemsize, calls):
    return 2 * size_of(shape, itemsize)


@mistaken("H25", "fused_bytes")
def inputs_of_the_first_call(shape, itemsize, calls):
    first, _ = calls[0]
    return (len(set(first)) + 1) * size_of(shape, itemsize)


@mistaken("H26", "fused_bytes")
def only_the_call_before(shape, itemsize, calls):
    read, before = set(), None
    for inputs, output in calls:
        for name in inputs:
            if name != before:
                read.add(name)
        before = output
    return (len(read) + 1) * size_of(shape, itemsize)


@mistaken("H27", "fused_bytes")
def stored_if_used_twice(shape, itemsize, calls):
    arrays = len(from_outside(calls)) + 1
    for _, output in calls:
        if sum(output in inputs for inputs, _ in calls) > 1:
            arrays += 2
    return arrays * size_of(shape, itemsize)


@mistaken("H28", "fused_bytes")
def savings(shape, itemsize, calls):
    unfused = sum(len(set(inputs)) + 1 for inputs, _ in calls)
    return (unfused - len(from_outside(calls)) - 1) * size_of(shape, itemsize)


# predict_time


@mistaken("H30", "predict_time")
def copy_counted_once(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = copied_bytes / copy_seconds
    return max(flops / peak_flops, bytes_moved / bandwidth)


@mistaken("H30", "predict_time")
def traffic_doubled(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = 2 * copied_bytes / copy_seconds
    return max(flops / peak_flops, 2 * bytes_moved / bandwidth)


@mistaken("H31", "predict_time")
def half_the_copy(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = copied_bytes / (2 * copy_seconds)
    return max(flops / peak_flops, bytes_moved / bandwidth)


@mistaken("H32", "predict_time")
def times_added(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = 2 * copied_bytes / copy_seconds
    return flops / peak_flops + bytes_moved / bandwidth


@mistaken("H33", "predict_time")
def smaller_time(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    return min(flops / peak_flops, bytes_moved / (2 * copied_bytes / copy_seconds))


@mistaken("H33", "predict_time")
def ridge_the_wrong_way(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = 2 * copied_bytes / copy_seconds
    if flops * bandwidth < peak_flops * bytes_moved:
        return flops / peak_flops
    return bytes_moved / bandwidth


@mistaken("H34", "predict_time")
def traffic_alone(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    return bytes_moved / (2 * copied_bytes) * copy_seconds


@mistaken("H35", "predict_time")
def arithmetic_alone(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    return flops / peak_flops


@mistaken("H36", "predict_time")
def bandwidth_upside_down(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = copy_seconds / (2 * copied_bytes)
    return max(flops / peak_flops, bytes_moved / bandwidth)


@mistaken("H36", "predict_time")
def peak_by_flops(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    return max(peak_flops / flops, bytes_moved / (2 * copied_bytes / copy_seconds))


@mistaken("H37", "predict_time")
def milliseconds_returned(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    return 1000 * max(flops / peak_flops, bytes_moved / (2 * copied_bytes / copy_seconds))


@mistaken("H37", "predict_time")
def gigabytes_a_second(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = 2 * copied_bytes / copy_seconds / 1e9
    return max(flops / peak_flops, bytes_moved / bandwidth)


@mistaken("H38", "predict_time")
def roof_returned(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = 2 * copied_bytes / copy_seconds
    intensity = flops / bytes_moved
    return min(peak_flops, intensity * bandwidth)


@mistaken("H39", "predict_time")
def mean_of_times(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    return np.mean([flops / peak_flops, bytes_moved / (2 * copied_bytes / copy_seconds)])


@mistaken("H40", "predict_time")
def speeds_swapped(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = 2 * copied_bytes / copy_seconds
    return max(flops / bandwidth, bytes_moved / peak_flops)


@mistaken("H41", "predict_time")
def seconds_not_used(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    return max(flops / peak_flops, bytes_moved / (2 * copied_bytes))


@mistaken("H41", "predict_time")
def time_of_the_copy(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    return max(flops / peak_flops, copy_seconds)


@mistaken("H43", "predict_time")
def whole_seconds(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = 2 * copied_bytes / copy_seconds
    return max(flops // peak_flops, bytes_moved // bandwidth)


@mistaken("H33", "predict_time")
def intensity_the_wrong_way(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = 2 * copied_bytes / copy_seconds
    if flops / bytes_moved < peak_flops / bandwidth:
        return flops / peak_flops
    return bytes_moved / bandwidth


@mistaken("H44", "predict_time")
def flops_by_the_roofline(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = 2 * copied_bytes / copy_seconds
    speed = min(peak_flops, flops / bytes_moved * bandwidth)
    return flops / speed


@mistaken("H44", "predict_time")
def intensity_compared(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = 2 * copied_bytes / copy_seconds
    if flops / bytes_moved > peak_flops / bandwidth:
        return flops / peak_flops
    return bytes_moved / bandwidth


@mistaken("H44", "predict_time")
def bytes_by_flops(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    bandwidth = 2 * copied_bytes / copy_seconds
    if bytes_moved / flops > bandwidth / peak_flops:
        return bytes_moved / bandwidth
    return flops / peak_flops


@mistaken("H44", "predict_time")
def roofline_of_numpy(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    with np.errstate(all="ignore"):
        intensity = np.divide(flops, bytes_moved)
        return flops / np.minimum(peak_flops, intensity * 2 * copied_bytes / copy_seconds)


@mistaken("H42", "predict_time")
def bytes_the_other_way_round(flops, bytes_moved, peak_flops, copied_bytes, copy_seconds):
    with np.errstate(all="ignore"):
        bandwidth = bytes_moved / copy_seconds
        return max(flops / peak_flops, 2 * copied_bytes / bandwidth)


# blocked_statistics


def blocks_of(x, block):
    return [x[start : start + block] for start in range(0, len(x), block)]


def merge(blocks):
    """Count, mean and sum of squared distances."""
    count, mean, m2 = 0, 0.0, 0.0
    for part in blocks:
        n, center, squares = part[:, 0].size, part.mean((0, 2), dtype=float), part.var((0, 2), dtype=float)
        delta = center - mean
        mean = mean + delta * n / (count + n)
        m2 = m2 + n * squares + delta**2 * n * count / (count + n)
        count += n
    return count, mean, m2


@mistaken("K06", "blocked_statistics")
def mean_of_means(x, block):
    means, count, mean, m2 = [], 0, 0.0, 0.0
    for start in range(0, len(x), block):
        part = x[start : start + block].astype(float)
        means.append(part.mean(axis=(0, 2)))
        n, delta = part.size // part.shape[1], means[-1] - mean
        m2 = m2 + n * part.var(axis=(0, 2)) + delta**2 * count * n / (count + n)
        mean = mean + delta * n / (count + n)
        count += n
    return np.mean(means, axis=0), m2 / count


@mistaken("K06", "blocked_statistics")
def both_unweighted(x, block):
    found = [(part.mean((0, 2)), part.var((0, 2))) for part in blocks_of(x, block)]
    means, variances = np.array(found).swapaxes(0, 1)
    return means.mean(0), variances.mean(0)


@mistaken("K06", "blocked_statistics")
def halved_each_time(x, block):
    mean = var = None
    for start in range(0, len(x), block):
        part = x[start : start + block]
        m, v = part.mean((0, 2)), part.var((0, 2))
        mean, var = (m, v) if mean is None else ((mean + m) / 2, (var + v) / 2)
    return mean, var


@mistaken("K04", "blocked_statistics")
def variances_averaged(x, block):
    found = [(len(part), part.mean((0, 2)), part.var((0, 2))) for part in blocks_of(x, block)]
    mean = sum(n * m for n, m, _ in found) / len(x)
    return mean, sum(n * v for n, _, v in found) / len(x)


@mistaken("K04", "blocked_statistics")
def squares_added(x, block):
    total, m2, count = np.zeros(x.shape[1]), np.zeros(x.shape[1]), 0
    for start in range(0, len(x), block):
        part = x[start : start + block]
        m = part.mean((0, 2), keepdims=True)
        total += part.sum((0, 2))
        m2 += ((part - m) ** 2).sum((0, 2))
        count += part.shape[0] * part.shape[2]
    return total / count, m2 / count


@mistaken("H50", "blocked_statistics")
def whole_blocks_only(x, block):
    parts = [x[k * block : (k + 1) * block] for k in range(len(x) // block)]
    count, mean, m2 = merge(parts)
    return mean + np.zeros(x.shape[1]), m2 / np.float64(count) + np.zeros(x.shape[1])


@mistaken("H50", "blocked_statistics")
def stopped_early(x, block):
    total, squares, count = np.zeros(x.shape[1]), np.zeros(x.shape[1]), 0
    for start in range(0, len(x) - block, block):
        part = x[start : start + block].astype(float)
        total += part.sum((0, 2))
        squares += (part**2).sum((0, 2))
        count += part.shape[0] * part.shape[2]
    mean = total / count
    return mean, squares / count - mean**2


@mistaken("H50", "blocked_statistics")
def whole_blocks_of_all_samples(x, block):
    total, squares, count = np.zeros(x.shape[1]), np.zeros(x.shape[1]), x.shape[0] * x.shape[2]
    found = []
    for k in range(len(x) // block):
        part = x[k * block : (k + 1) * block].astype(float)
        total += part.sum((0, 2))
        found.append((part[:, 0].size, part.mean((0, 2)), part.var((0, 2))))
    mean = total / count
    for n, m, v in found:
        squares += n * (v + (m - mean) ** 2)
    return mean, squares / count


@mistaken("H50", "blocked_statistics")
def stopped_one_early(x, block):
    count, mean, m2 = merge([x[start : start + block] for start in range(0, len(x) - 1, block)])
    return mean, m2 / count


@mistaken("H49", "blocked_statistics")
def one_step_at_a_time(x, block):
    count, mean, m2 = merge([x[start : start + block] for start in range(len(x))])
    return mean, m2 / count


@mistaken("H49", "blocked_statistics")
def block_number_as_start(x, block):
    blocks = int(np.ceil(len(x) / block))
    count, mean, m2 = merge([x[k : k + block] for k in range(blocks)])
    return mean, m2 / count


@mistaken("H51", "blocked_statistics")
def first_block_only(x, block):
    for start in range(0, len(x), block):
        part = x[start : start + block]
        return part.mean((0, 2)), part.var((0, 2))


@mistaken("H51", "blocked_statistics")
def last_block_only(x, block):
    for start in range(0, len(x), block):
        part = x[start : start + block]
        mean, var = part.mean((0, 2)), part.var((0, 2))
    return mean, var


@mistaken("H52", "blocked_statistics")
def distances_not_weighted(x, block):
    found = [(part[:, 0].size, part.mean((0, 2)), part.var((0, 2))) for part in blocks_of(x, block)]
    count = sum(n for n, _, _ in found)
    mean = sum(n * m for n, m, _ in found) / count
    return mean, sum(n * v + (m - mean) ** 2 for n, m, v in found) / count


@mistaken("H52", "blocked_statistics")
def merged_without_the_total(x, block):
    count, mean, m2 = 0, 0.0, 0.0
    for part in blocks_of(x, block):
        n, m, v = part[:, 0].size, part.mean((0, 2)), part.var((0, 2))
        delta = m - mean
        if count:
            m2 = m2 + delta**2 * count * n
        m2 = m2 + n * v
        mean = mean + delta * n / (count + n)
        count += n
    return mean, m2 / count


@mistaken("H52", "blocked_statistics")
def from_the_moved_mean(x, block):
    count, mean, m2 = 0, np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for part in blocks_of(x, block):
        n, m = part[:, 0].size, part.mean((0, 2))
        mean = mean + (m - mean) * n / (count + n)
        m2 += ((part - m[:, None]) ** 2).sum((0, 2)) + (m - mean) ** 2 * count * n / (count + n)
        count += n
    return mean, m2 / count


@mistaken("H52", "blocked_statistics")
def from_the_old_mean(x, block):
    count, mean, m2 = 0, np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for part in blocks_of(x, block):
        n = part[:, 0].size
        m2 += ((part - mean[:, None]) ** 2).sum((0, 2))
        mean = mean + (part.mean((0, 2)) - mean) * n / (count + n)
        count += n
    return mean, m2 / count


@mistaken("H58", "blocked_statistics")
def variance_of_the_means(x, block):
    found = [(part[:, 0].size, part.mean((0, 2))) for part in blocks_of(x, block)]
    count = sum(n for n, _ in found)
    mean = sum(n * m for n, m in found) / count
    return mean, sum(n * (m - mean) ** 2 for n, m in found) / count


@mistaken("H59", "blocked_statistics")
def one_block_more(x, block):
    found = []
    for k in range(len(x) // block + 1):
        part = x[k * block : (k + 1) * block]
        found.append((part[:, 0].size, part.mean((0, 2)), part.var((0, 2))))
    count = sum(n for n, _, _ in found)
    mean = sum(n * m for n, m, _ in found) / count
    return mean, sum(n * (v + (m - mean) ** 2) for n, m, v in found) / count


@mistaken("K05", "blocked_statistics")
def variance_for_squares(x, block):
    count, mean, m2 = 0, 0.0, 0.0
    for part in blocks_of(x, block):
        n, m = part[:, 0].size, part.mean((0, 2))
        delta = m - mean
        mean = mean + delta * n / (count + n)
        m2 = m2 + part.var((0, 2)) + delta**2 * n * count / (count + n)
        count += n
    return mean, m2 / count


@mistaken("K06", "blocked_statistics")
def all_blocks_full(x, block):
    count, mean, m2 = 0, 0.0, 0.0
    n = block * x.shape[2]
    for part in blocks_of(x, block):
        m, v = part.mean((0, 2)), part.var((0, 2))
        delta = m - mean
        mean = mean + delta * n / (count + n)
        m2 = m2 + n * v + delta**2 * n * count / (count + n)
        count += n
    return mean, m2 / count


@mistaken("H53", "blocked_statistics")
def counted_as_full(x, block):
    found, total, count = [], 0.0, 0
    for part in blocks_of(x, block):
        total = total + part.sum((0, 2))
        found.append((part[:, 0].size, part.mean((0, 2)), part.var((0, 2))))
        count += block * x.shape[2]
    mean = total / count
    return mean, sum(n * (v + (m - mean) ** 2) for n, m, v in found) / count


@mistaken("H54", "blocked_statistics")
def padded_with_zeros(x, block):
    parts = []
    for start in range(0, len(x), block):
        part = np.zeros((block, *x.shape[1:]), x.dtype)
        found = x[start : start + block]
        part[: len(found)] = found
        parts.append(part)
    count, mean, m2 = merge(parts)
    return mean, m2 / count


@mistaken("H54", "blocked_statistics")
def last_block_moved_back(x, block):
    parts = [x[max(0, min(start, len(x) - block)) :][:block] for start in range(0, len(x), block)]
    count, mean, m2 = merge(parts)
    return mean, m2 / count


@mistaken("F01", "blocked_statistics")
def one_value_less(x, block):
    count, mean, m2 = merge(blocks_of(x, block))
    return mean, m2 / (count - 1)


@mistaken("F01", "blocked_statistics")
def one_less_in_each_block(x, block):
    count, mean, m2 = 0, 0.0, 0.0
    for part in blocks_of(x, block):
        n, m, v = part[:, 0].size, part.mean((0, 2)), part.var((0, 2), ddof=1)
        delta = m - mean
        mean = mean + delta * n / (count + n)
        m2 = m2 + n * v + delta**2 * n * count / (count + n)
        count += n
    return mean, m2 / count


@mistaken("F19", "blocked_statistics")
def sums_in_the_dtype(x, block):
    total, squares, count = 0, 0, 0
    for part in blocks_of(x, block):
        total = total + part.sum((0, 2))
        squares = squares + (part**2).sum((0, 2))
        count += part[:, 0].size
    mean = total / count
    return mean, squares / count - mean**2


@mistaken("F19", "blocked_statistics")
def block_sums_in_float64(x, block):
    total, squares, count = np.zeros(x.shape[1]), np.zeros(x.shape[1]), 0
    start = 0
    while start < x.shape[0]:
        part = x[start : start + block].astype(np.float64)
        total += part.sum((0, 2))
        squares += (part**2).sum((0, 2))
        count += part.shape[0] * part.shape[2]
        start += block
    return total / count, squares / count - (total / count) ** 2


@mistaken("F19", "blocked_statistics")
def shortcut_in_each_block(x, block):
    parts = [part.astype(float) for part in blocks_of(x, block)]
    found = [(part[:, 0].size, part.mean((0, 2)), (part**2).mean((0, 2))) for part in parts]
    counts, means, squares = (np.array(values) for values in zip(*found, strict=True))
    mean = np.average(means, axis=0, weights=counts)
    return mean, np.average(squares - means**2 + (means - mean) ** 2, axis=0, weights=counts)


@mistaken("F19", "blocked_statistics")
def merged_in_float32(x, block):
    count, mean, m2 = merge([part.astype(np.float32) for part in blocks_of(x, block)])
    return mean, m2 / count


@mistaken("F35", "blocked_statistics")
def root_returned(x, block):
    count, mean, m2 = merge(blocks_of(x, block))
    return mean, np.sqrt(m2 / count)


@mistaken("F37", "blocked_statistics")
def squares_returned(x, block):
    _, mean, m2 = merge(blocks_of(x, block))
    return mean, m2


@mistaken("N06", "blocked_statistics")
def variance_before_the_mean(x, block):
    count, mean, m2 = merge(blocks_of(x, block))
    return m2 / count, mean


@mistaken("C09", "blocked_statistics")
def divided_by_samples(x, block):
    _, mean, m2 = merge(blocks_of(x, block))
    return mean, m2 / len(x)


@mistaken("C09", "blocked_statistics")
def sum_divided_by_samples(x, block):
    total, squares, shift = 0.0, 0.0, x[0, :, :1].astype(float)
    for part in blocks_of(x, block):
        shifted = part - shift
        total = total + shifted.sum((0, 2))
        squares = squares + (shifted**2).sum((0, 2))
    count = x.shape[0] * x.shape[2]
    return (total + count * shift[:, 0]) / len(x), squares / count - (total / count) ** 2


@mistaken("C10", "blocked_statistics")
def each_position_alone(x, block):
    count, mean, m2 = 0, 0.0, 0.0
    for part in blocks_of(x, block):
        n, delta = len(part), part.mean(0) - mean
        mean = mean + delta * n / (count + n)
        m2 = m2 + n * part.var(0) + delta**2 * n * count / (count + n)
        count += n
    return mean, m2 / count


@mistaken("C18", "blocked_statistics")
def last_axis_kept(x, block):
    count, mean, m2 = 0, 0.0, 0.0
    for part in blocks_of(x, block):
        n, delta = part[..., 0].size, part.mean((0, 1)) - mean
        mean = mean + delta * n / (count + n)
        m2 = m2 + n * part.var((0, 1)) + delta**2 * n * count / (count + n)
        count += n
    return mean, m2 / count


@mistaken("C17", "blocked_statistics")
def one_mean_for_all_blocks(x, block):
    count, mean, m2 = 0, 0.0, 0.0
    for part in blocks_of(x, block):
        n, delta = part.size, part.mean() - mean
        mean = mean + delta * n / (count + n)
        m2 = m2 + n * part.var() + delta**2 * n * count / (count + n)
        count += n
    return mean, m2 / count


@mistaken("H55", "blocked_statistics")
def without_blocks(x, block):
    return x.mean(axis=(0, 2)), x.var(axis=(0, 2))


@mistaken("H55", "blocked_statistics")
def put_together_again(x, block):
    whole = np.concatenate(blocks_of(x, block))
    return whole.mean((0, 2)), whole.var((0, 2))


@mistaken("H55", "blocked_statistics")
def converted_at_once(x, block):
    count, mean, m2 = merge(blocks_of(x.astype(np.float64), block))
    return mean, m2 / count


@mistaken("H55", "blocked_statistics")
def rounded_down_number_of_blocks(x, block):
    count, mean, m2 = merge(np.array_split(x, max(1, len(x) // block)))
    return mean, m2 / count


@mistaken("H56", "blocked_statistics")
def block_blocks(x, block):
    count, mean, m2 = merge([part for part in np.array_split(x, block) if len(part)])
    return mean, m2 / count


@mistaken("H57", "blocked_statistics")
def two_passes_in_blocks(x, block):
    total, m2, count = np.zeros(x.shape[1]), np.zeros(x.shape[1]), x.shape[0] * x.shape[2]
    for start in range(0, len(x), block):
        total += x[start : start + block].sum((0, 2))
    mean = total / count
    for start in range(0, len(x), block):
        m2 += ((x[start : start + block] - mean[:, None]) ** 2).sum((0, 2))
    return mean, m2 / count


@mistaken("H57", "blocked_statistics")
def a_list_for_each_statistic(x, block):
    parts = blocks_of(x, block)
    counts = np.array([[part[:, 0].size] for part in parts])
    means = np.array([part.mean((0, 2)) for part in parts])
    variances = np.array([part.var((0, 2)) for part in parts])
    mean = (counts * means).sum(0) / counts.sum()
    return mean, (counts * (variances + (means - mean) ** 2)).sum(0) / counts.sum()


@mistaken("F24", "blocked_statistics")
def shifted_in_place(x, block):
    shift = x[0].mean(1, keepdims=True)
    total, squares, count = 0.0, 0.0, 0
    for start in range(0, len(x), block):
        part = x[start : start + block]
        part -= shift
        total = total + part.sum((0, 2), dtype=float)
        squares = squares + (part.astype(float) ** 2).sum((0, 2))
        count += part[:, 0].size
    mean = total / count
    return mean + shift[:, 0], squares / count - mean**2


# normalize_into


def column(values):
    return values[:, None]


def into(y, x, *parameters):
    """y = γ · (x − μ) / σ + β without other arrays; the parameters in columns."""
    mean, inv_std, weight, bias = parameters
    np.subtract(x, mean, out=y)
    y *= inv_std
    y *= weight
    y += bias
    return y


@mistaken("H60", "normalize_into")
def name_given_away(x, mean, inv_std, weight, bias, out):
    out = column(weight) * (x - column(mean)) * column(inv_std) + column(bias)
    return out


@mistaken("H60", "normalize_into")
def out_never_used(x, mean, inv_std, weight, bias, out):
    return (x - mean.reshape(1, -1, 1)) * inv_std.reshape(1, -1, 1) * weight.reshape(1, -1, 1) + bias.reshape(1, -1, 1)


@mistaken("H60", "normalize_into")
def result_forgotten(x, mean, inv_std, weight, bias, out):
    y = column(weight) * (x - column(mean)) * column(inv_std) + column(bias)  # noqa: F841
    return out


@mistaken("H61", "normalize_into")
def nothing_returned(x, mean, inv_std, weight, bias, out):
    into(out, x, column(mean), column(inv_std), column(weight), column(bias))


@mistaken("H62", "normalize_into")
def other_array_returned(x, mean, inv_std, weight, bias, out):
    y = column(weight) * (x - column(mean)) * column(inv_std) + column(bias)
    out[:] = y
    return y


@mistaken("H62", "normalize_into")
def x_returned(x, mean, inv_std, weight, bias, out):
    into(out, x, column(mean), column(inv_std), column(weight), column(bias))
    return x


@mistaken("H63", "normalize_into")
def one_line_into_out(x, mean, inv_std, weight, bias, out):
    out[...] = column(weight) * (x - column(mean)) * column(inv_std) + column(bias)
    return out


@mistaken("H63", "normalize_into")
def last_step_into_out(x, mean, inv_std, weight, bias, out):
    x_hat = (x - column(mean)) * column(inv_std)
    np.multiply(x_hat, column(weight), out=out)
    out += column(bias)
    return out


@mistaken("H63", "normalize_into")
def parameters_in_full_size(x, mean, inv_std, weight, bias, out):
    full = np.repeat(np.repeat(mean[None, :, None], len(x), 0), x.shape[2], 2)
    return into(out, x, full, column(inv_std), column(weight), column(bias))


@mistaken("H64", "normalize_into")
def added_to_out(x, mean, inv_std, weight, bias, out):
    scale = weight * inv_std
    for n, sample in enumerate(x):
        out[n] += sample * column(scale) + column(bias - mean * scale)
    return out


@mistaken("H64", "normalize_into")
def out_before_it_was_written(x, mean, inv_std, weight, bias, out):
    out -= column(mean)
    out *= column(weight * inv_std)
    out += column(bias)
    return out


@mistaken("H70", "normalize_into")
def out_only_once(x, mean, inv_std, weight, bias, out):
    np.subtract(x, column(mean), out=out)
    np.multiply(out, column(inv_std))
    np.multiply(out, column(weight))
    np.add(out, column(bias))
    return out


@mistaken("H71", "normalize_into")
def return_in_the_loop(x, mean, inv_std, weight, bias, out):
    for n, sample in enumerate(x):
        out[n] = column(weight) * (sample - column(mean)) * column(inv_std) + column(bias)
        return out


@mistaken("F09", "normalize_into")
def swapped_parameters(x, mean, inv_std, weight, bias, out):
    return into(out, x, column(mean), column(inv_std), column(bias), column(weight))


@mistaken("F11", "normalize_into")
def sum_thrown_away(x, mean, inv_std, weight, bias, out):
    np.subtract(x, column(mean), out=out)
    np.multiply(out, column(inv_std * weight), out=out)
    out[:1] + column(bias)
    return out


@mistaken("F12", "normalize_into")
def gamma_not_used(x, mean, inv_std, weight, bias, out):
    np.subtract(x, column(mean), out=out)
    out *= column(inv_std)
    out += column(bias)
    return out


@mistaken("F32", "normalize_into")
def beta_subtracted(x, mean, inv_std, weight, bias, out):
    into(out, x, column(mean), column(inv_std), column(weight), column(-bias))
    return out


@mistaken("F34", "normalize_into")
def beta_in_the_parentheses(x, mean, inv_std, weight, bias, out):
    scale = weight * inv_std
    np.multiply(x, column(scale), out=out)
    out += column((bias - mean) * scale)
    return out


@mistaken("F34", "normalize_into")
def beta_scaled(x, mean, inv_std, weight, bias, out):
    np.subtract(x, column(mean), out=out)
    out *= column(inv_std)
    out += column(bias)
    out *= column(weight)
    return out


@mistaken("F07", "normalize_into")
def not_divided_into(x, mean, inv_std, weight, bias, out):
    np.subtract(x, column(mean), out=out)
    np.multiply(out, column(weight), out=out)
    return np.add(out, column(bias), out=out)


@mistaken("F08", "normalize_into")
def mean_not_subtracted(x, mean, inv_std, weight, bias, out):
    np.multiply(x, column(weight * inv_std), out=out)
    return np.add(out, column(bias), out=out)


@mistaken("F36", "normalize_into")
def divided_into(x, mean, inv_std, weight, bias, out):
    np.subtract(x, column(mean), out=out)
    out /= column(inv_std)
    out *= column(weight)
    out += column(bias)
    return out


@mistaken("H65", "normalize_into")
def root_taken_again(x, mean, inv_std, weight, bias, out):
    np.subtract(x, column(mean), out=out)
    out /= column(np.sqrt(inv_std))
    out *= column(weight)
    out += column(bias)
    return out


@mistaken("H66", "normalize_into")
def mean_after_the_scale(x, mean, inv_std, weight, bias, out):
    np.multiply(x, column(weight * inv_std), out=out)
    np.add(out, column(bias - mean), out=out)
    return out


@mistaken("H66", "normalize_into")
def mean_after_inv_std(x, mean, inv_std, weight, bias, out):
    np.multiply(x, column(inv_std), out=out)
    out -= column(mean)
    out *= column(weight)
    out += column(bias)
    return out


@mistaken("H67", "normalize_into")
def mean_added_into(x, mean, inv_std, weight, bias, out):
    scale = weight * inv_std
    np.multiply(x, column(scale), out=out)
    out += column(bias + mean * scale)
    return out


@mistaken("H68", "normalize_into")
def own_statistics(x, mean, inv_std, weight, bias, out):
    rows = x.transpose(1, 0, 2).reshape(len(mean), -1)
    return into(out, x, column(rows.mean(1)), column(1 / rows.std(1)), column(weight), column(bias))


@mistaken("H69", "normalize_into")
def gamma_twice(x, mean, inv_std, weight, bias, out):
    scale = weight * inv_std
    np.subtract(x, column(mean), out=out)
    out *= column(scale)
    out *= column(weight)
    out += column(bias)
    return out


@mistaken("C06", "normalize_into")
def without_columns(x, mean, inv_std, weight, bias, out):
    return into(out, x, mean, inv_std, weight, bias)


@mistaken("C06", "normalize_into")
def gamma_along_positions(x, mean, inv_std, weight, bias, out):
    return into(out, x, column(mean), column(inv_std), weight, bias)


@mistaken("F24", "normalize_into")
def x_overwritten(x, mean, inv_std, weight, bias, out):
    x -= column(mean)
    x *= column(inv_std)
    np.multiply(x, column(weight), out=out)
    out += column(bias)
    return out


@mistaken("F24", "normalize_into")
def gamma_overwritten(x, mean, inv_std, weight, bias, out):
    weight *= inv_std
    bias -= mean * weight
    np.multiply(x, column(weight), out=out)
    out += column(bias)
    return out


# masked_mean_kernel


@mistaken("K01", "masked_mean_kernel")
@triton.jit
def padding_left_in_the_variance(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = x - mean
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K01", "masked_mean_kernel")
@triton.jit
def mask_in_the_wrong_place(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x, 0.0) - mean
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K03", "masked_mean_kernel")
@triton.jit
def divided_by_lanes(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / BLOCK
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / BLOCK
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K03", "masked_mean_kernel")
@triton.jit
def mean_over_lanes(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / BLOCK
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K24", "masked_mean_kernel")
@triton.jit
def no_mask_anywhere(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * N + columns).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = x - mean
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K24", "masked_mean_kernel")
@triton.jit
def masked_after_the_load(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns).to(tl.float32)
    x = tl.where(mask, x, 0.0)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K24", "masked_mean_kernel")
@triton.jit
def mask_for_the_variance_alone(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K25", "masked_mean_kernel")
@triton.jit
def mask_one_too_long(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns <= N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K25", "masked_mean_kernel")
@triton.jit
def mask_one_too_short(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N - 1
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K23", "masked_mean_kernel")
@triton.jit
def nothing_said_of_masked_lanes(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K26", "masked_mean_kernel")
@triton.jit
def every_program_the_first_row(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K26", "masked_mean_kernel")
@triton.jit
def rows_as_long_as_blocks(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * BLOCK + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K27", "masked_mean_kernel")
@triton.jit
def all_results_in_one_place(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr, mean)
    tl.store(var_ptr, var)


@mistaken("K28", "masked_mean_kernel")
@triton.jit
def variance_not_stored(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)


@mistaken("K19", "masked_mean_kernel")
@triton.jit
def mean_square_minus_square(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    var = tl.sum(x * x, axis=0) / N - mean * mean
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K13", "masked_mean_kernel")
@triton.jit
def sums_in_float16(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("F01", "masked_mean_kernel")
@triton.jit
def unbiased_in_a_kernel(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / (N - 1)
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("F06", "masked_mean_kernel")
@triton.jit
def squares_around_zero(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("F35", "masked_mean_kernel")
@triton.jit
def deviation_of_a_row(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, tl.sqrt(var))


@mistaken("F37", "masked_mean_kernel")
@triton.jit
def sum_of_squares_of_a_row(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0)
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("N06", "masked_mean_kernel")
@triton.jit
def results_swapped(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, var)
    tl.store(var_ptr + row, mean)


@mistaken("F24", "masked_mean_kernel")
@triton.jit
def tile_written_back(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(x_ptr + row * N + columns, centered, mask=mask)
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K23", "masked_mean_kernel")
@triton.jit
def masked_lanes_times_0(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask).to(tl.float32) * mask.to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K47", "masked_mean_kernel")
@triton.jit
def eight_lanes_always(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, 8)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K48", "masked_mean_kernel")
@triton.jit
def mask_of_places_in_blocks(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = row * BLOCK + columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K48", "masked_mean_kernel")
@triton.jit
def mask_of_places(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = row * N + columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, x - mean, 0.0)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


@mistaken("K51", "masked_mean_kernel")
@triton.jit
def values_and_padding_swapped(x_ptr, mean_ptr, var_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < N
    x = tl.load(x_ptr + row * N + columns, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / N
    centered = tl.where(mask, 0.0, x - mean)
    var = tl.sum(centered * centered, axis=0) / N
    tl.store(mean_ptr + row, mean)
    tl.store(var_ptr + row, var)


# long_row_mean_kernel


@mistaken("K02", "long_row_mean_kernel")
@triton.jit
def only_one_block(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    columns = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0)
    total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total / N)


@mistaken("K30", "long_row_mean_kernel")
@triton.jit
def full_blocks_alone(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for block in range(N // BLOCK):
        columns = block * BLOCK + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0)
        total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total / N)


@mistaken("K31", "long_row_mean_kernel")
@triton.jit
def lanes_compared(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=tl.arange(0, BLOCK) < N, other=0.0)
        total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total / N)


@mistaken("K33", "long_row_mean_kernel")
@triton.jit
def pointer_that_stays(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + tl.arange(0, BLOCK), mask=columns < N, other=0.0)
        total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total / N)


@mistaken("K33", "long_row_mean_kernel")
@triton.jit
def columns_that_stay(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for _ in range(0, N, BLOCK):
        columns = tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0)
        total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total / N)


@mistaken("K32", "long_row_mean_kernel")
@triton.jit
def sum_of_the_last_block(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0)
        total = tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total / N)


@mistaken("K06", "long_row_mean_kernel")
@triton.jit
def mean_of_means_of_blocks(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    blocks = 0
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0)
        total += tl.sum(x.to(tl.float32)) / tl.minimum(BLOCK, N - start)
        blocks += 1
    tl.store(mean_ptr + row, total / blocks)


@mistaken("K03", "long_row_mean_kernel")
@triton.jit
def divided_by_all_lanes(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0)
        total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total / (tl.cdiv(N, BLOCK) * BLOCK))


@mistaken("K03", "long_row_mean_kernel")
@triton.jit
def divided_by_one_block(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0)
        total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total / BLOCK)


@mistaken("K24", "long_row_mean_kernel")
@triton.jit
def last_block_without_mask(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns)
        total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total / N)


@mistaken("K25", "long_row_mean_kernel")
@triton.jit
def column_too_many(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns <= N, other=0.0)
        total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total / N)


@mistaken("K23", "long_row_mean_kernel")
@triton.jit
def masked_lanes_of_the_last_block(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns < N)
        total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total / N)


@mistaken("K26", "long_row_mean_kernel")
@triton.jit
def rows_a_block_apart(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * BLOCK + columns, mask=columns < N, other=0.0)
        total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total / N)


@mistaken("K27", "long_row_mean_kernel")
@triton.jit
def means_in_one_place(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0)
        total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr, total / N)


@mistaken("K13", "long_row_mean_kernel")
@triton.jit
def block_sums_in_float16(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = tl.sum(tl.zeros([1], x_ptr.dtype.element_ty))
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0)
        total += tl.sum(x)
    tl.store(mean_ptr + row, total / N)


@mistaken("F37", "long_row_mean_kernel")
@triton.jit
def sum_of_a_long_row(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0)
        total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total)


@mistaken("K13", "long_row_mean_kernel")
@triton.jit
def block_in_float16_total_in_float32(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0)
        total += tl.sum(x)
    tl.store(mean_ptr + row, total / N)


@mistaken("K13", "long_row_mean_kernel")
@triton.jit
def lanes_in_float16(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = tl.zeros([BLOCK], x_ptr.dtype.element_ty)
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0)
        total += x
    tl.store(mean_ptr + row, tl.sum(total.to(tl.float32)) / N)


@mistaken("K13", "long_row_mean_kernel")
@triton.jit
def lanes_and_their_sum_in_float16(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = tl.zeros([BLOCK], tl.float16)
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0)
        total += x
    tl.store(mean_ptr + row, tl.sum(total) / N)


@mistaken("K48", "long_row_mean_kernel")
@triton.jit
def mask_of_places_in_a_long_row(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in range(0, N, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=row * N + columns < N, other=0.0)
        total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total / N)


@mistaken("K49", "long_row_mean_kernel")
@triton.jit
def loop_over_columns(x_ptr, mean_ptr, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = 0.0
    for start in range(N):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * N + columns, mask=columns < N, other=0.0)
        total += tl.sum(x.to(tl.float32))
    tl.store(mean_ptr + row, total / N)


# merge_partials_kernel


@mistaken("K04", "merge_partials_kernel")
@triton.jit
def squares_within_alone(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    splits = tl.arange(0, BLOCK)
    mask = splits < S
    places = splits * C + channel
    count = tl.load(count_ptr + places, mask=mask, other=0.0)
    mean = tl.load(mean_ptr + places, mask=mask, other=0.0)
    m2 = tl.load(m2_ptr + places, mask=mask, other=0.0)
    total = tl.sum(count)
    center = tl.sum(count * mean) / total
    var = tl.sum(m2) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("K05", "merge_partials_kernel")
@triton.jit
def m2_times_count(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
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
    var = tl.sum(count * m2 + count * distance * distance) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("K06", "merge_partials_kernel")
@triton.jit
def plain_mean_of_means(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    splits = tl.arange(0, BLOCK)
    mask = splits < S
    places = splits * C + channel
    count = tl.load(count_ptr + places, mask=mask, other=0.0)
    mean = tl.load(mean_ptr + places, mask=mask, other=0.0)
    m2 = tl.load(m2_ptr + places, mask=mask, other=0.0)
    total = tl.sum(count)
    center = tl.sum(mean) / S
    distance = mean - center
    var = tl.sum(m2 + count * distance * distance) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("H52", "merge_partials_kernel")
@triton.jit
def distances_without_counts(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
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
    var = tl.sum(m2 + tl.where(mask, distance * distance, 0.0)) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("H52", "merge_partials_kernel")
@triton.jit
def distances_of_padding(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
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
    var = tl.sum(m2 + distance * distance) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("K34", "merge_partials_kernel")
@triton.jit
def variances_of_splits(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
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
    var = tl.sum(count * (m2 / count + distance * distance)) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("K03", "merge_partials_kernel")
@triton.jit
def divided_by_splits(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
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
    var = tl.sum(m2 + count * distance * distance) / S
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("K26", "merge_partials_kernel")
@triton.jit
def channel_by_channel(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    splits = tl.arange(0, BLOCK)
    mask = splits < S
    places = channel * S + splits
    count = tl.load(count_ptr + places, mask=mask, other=0.0)
    mean = tl.load(mean_ptr + places, mask=mask, other=0.0)
    m2 = tl.load(m2_ptr + places, mask=mask, other=0.0)
    total = tl.sum(count)
    center = tl.sum(count * mean) / total
    distance = mean - center
    var = tl.sum(m2 + count * distance * distance) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("K26", "merge_partials_kernel")
@triton.jit
def places_without_stride(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    splits = tl.arange(0, BLOCK)
    mask = splits < S
    places = splits + channel
    count = tl.load(count_ptr + places, mask=mask, other=0.0)
    mean = tl.load(mean_ptr + places, mask=mask, other=0.0)
    m2 = tl.load(m2_ptr + places, mask=mask, other=0.0)
    total = tl.sum(count)
    center = tl.sum(count * mean) / total
    distance = mean - center
    var = tl.sum(m2 + count * distance * distance) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("K24", "merge_partials_kernel")
@triton.jit
def splits_that_do_not_exist(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    splits = tl.arange(0, BLOCK)
    places = splits * C + channel
    count = tl.load(count_ptr + places)
    mean = tl.load(mean_ptr + places)
    m2 = tl.load(m2_ptr + places)
    total = tl.sum(count)
    center = tl.sum(count * mean) / total
    distance = mean - center
    var = tl.sum(m2 + count * distance * distance) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("K25", "merge_partials_kernel")
@triton.jit
def one_split_too_many(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    splits = tl.arange(0, BLOCK)
    mask = splits <= S
    places = splits * C + channel
    count = tl.load(count_ptr + places, mask=mask, other=0.0)
    mean = tl.load(mean_ptr + places, mask=mask, other=0.0)
    m2 = tl.load(m2_ptr + places, mask=mask, other=0.0)
    total = tl.sum(count)
    center = tl.sum(count * mean) / total
    distance = mean - center
    var = tl.sum(m2 + count * distance * distance) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("K23", "merge_partials_kernel")
@triton.jit
def counts_of_masked_lanes(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    splits = tl.arange(0, BLOCK)
    mask = splits < S
    places = splits * C + channel
    count = tl.load(count_ptr + places, mask=mask)
    mean = tl.load(mean_ptr + places, mask=mask, other=0.0)
    m2 = tl.load(m2_ptr + places, mask=mask, other=0.0)
    total = tl.sum(count)
    center = tl.sum(count * mean) / total
    distance = mean - center
    var = tl.sum(m2 + count * distance * distance) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("K23", "merge_partials_kernel")
@triton.jit
def masked_m2(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    splits = tl.arange(0, BLOCK)
    mask = splits < S
    places = splits * C + channel
    count = tl.load(count_ptr + places, mask=mask, other=0.0)
    mean = tl.load(mean_ptr + places, mask=mask, other=0.0)
    m2 = tl.load(m2_ptr + places, mask=mask)
    total = tl.sum(count)
    center = tl.sum(count * mean) / total
    distance = mean - center
    var = tl.sum(m2 + count * distance * distance) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("K27", "merge_partials_kernel")
@triton.jit
def merged_into_one_place(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
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
    var = tl.sum(m2 + count * distance * distance) / total
    tl.store(total_mean_ptr, center)
    tl.store(total_var_ptr, var)


@mistaken("K28", "merge_partials_kernel")
@triton.jit
def merged_mean_not_stored(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
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
    var = tl.sum(m2 + count * distance * distance) / total
    tl.store(total_var_ptr + channel, var)


@mistaken("F01", "merge_partials_kernel")
@triton.jit
def merged_unbiased(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
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
    var = tl.sum(m2 + count * distance * distance) / (total - 1)
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("F35", "merge_partials_kernel")
@triton.jit
def merged_deviation(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
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
    var = tl.sum(m2 + count * distance * distance) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, tl.sqrt(var))


@mistaken("F37", "merge_partials_kernel")
@triton.jit
def merged_m2(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
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
    var = tl.sum(m2 + count * distance * distance)
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("H58", "merge_partials_kernel")
@triton.jit
def variance_of_means(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    splits = tl.arange(0, BLOCK)
    mask = splits < S
    places = splits * C + channel
    count = tl.load(count_ptr + places, mask=mask, other=0.0)
    mean = tl.load(mean_ptr + places, mask=mask, other=0.0)
    tl.load(m2_ptr + places, mask=mask, other=0.0)
    total = tl.sum(count)
    center = tl.sum(count * mean) / total
    distance = mean - center
    var = tl.sum(count * distance * distance) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("N06", "merge_partials_kernel")
@triton.jit
def merged_and_swapped(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
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
    var = tl.sum(m2 + count * distance * distance) / total
    tl.store(total_mean_ptr + channel, var)
    tl.store(total_var_ptr + channel, center)


@mistaken("K34", "merge_partials_kernel")
@triton.jit
def nothing_and_nothing(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    n = 0.0
    mean = 0.0
    m2 = 0.0
    for split in range(S):
        place = split * C + channel
        count = tl.load(count_ptr + place)
        delta = tl.load(mean_ptr + place) - mean
        share = count / (n + count)
        m2 += tl.load(m2_ptr + place) + delta * delta * n * share
        mean += delta * share
        n += count
    tl.store(total_mean_ptr + channel, mean)
    tl.store(total_var_ptr + channel, m2 / n)


@mistaken("K19", "merge_partials_kernel")
@triton.jit
def squares_of_means_minus_square_of_mean(
    count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr
):
    channel = tl.program_id(0)
    splits = tl.arange(0, BLOCK)
    places = splits * C + channel
    mask = splits < S
    count = tl.load(count_ptr + places, mask=mask, other=0.0)
    mean = tl.load(mean_ptr + places, mask=mask, other=0.0)
    m2 = tl.load(m2_ptr + places, mask=mask, other=0.0)
    total = tl.sum(count)
    center = tl.sum(count * mean) / total
    var = tl.sum(m2 + count * mean * mean) / total - center * center
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("K23", "merge_partials_kernel")
@triton.jit
def only_the_count_says_what_masked_lanes_hold(
    count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr
):
    channel = tl.program_id(0)
    splits = tl.arange(0, BLOCK)
    places = splits * C + channel
    mask = splits < S
    count = tl.load(count_ptr + places, mask=mask, other=0.0)
    mean = tl.load(mean_ptr + places, mask=mask)
    m2 = tl.load(m2_ptr + places, mask=mask, other=0.0)
    total = tl.sum(count)
    center = tl.sum(count * mean) / total
    distance = mean - center
    var = tl.sum(m2 + count * distance * distance) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


@mistaken("K48", "merge_partials_kernel")
@triton.jit
def mask_of_places_of_partials(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    splits = tl.arange(0, BLOCK)
    places = splits * C + channel
    mask = places < S
    count = tl.load(count_ptr + places, mask=mask, other=0.0)
    mean = tl.load(mean_ptr + places, mask=mask, other=0.0)
    m2 = tl.load(m2_ptr + places, mask=mask, other=0.0)
    total = tl.sum(count)
    center = tl.sum(count * mean) / total
    distance = mean - center
    var = tl.sum(m2 + count * distance * distance) / total
    tl.store(total_mean_ptr + channel, center)
    tl.store(total_var_ptr + channel, var)


# channel_sums_kernel


@mistaken("K16", "channel_sums_kernel")
@triton.jit
def as_if_contiguous(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = (n * tl.num_programs(0) + channel) * L + positions
        total += tl.sum(tl.load(x_ptr + places, mask=positions < L, other=0.0))
    tl.store(sums_ptr + channel, total)


@mistaken("K16", "channel_sums_kernel")
@triton.jit
def channels_a_row_apart(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = n * stride_n + channel * L + positions * stride_l
        total += tl.sum(tl.load(x_ptr + places, mask=positions < L, other=0.0))
    tl.store(sums_ptr + channel, total)


@mistaken("K16", "channel_sums_kernel")
@triton.jit
def as_if_channels_last(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = (n * L + positions) * tl.num_programs(0) + channel
        total += tl.sum(tl.load(x_ptr + places, mask=positions < L, other=0.0))
    tl.store(sums_ptr + channel, total)


@mistaken("K35", "channel_sums_kernel")
@triton.jit
def positions_side_by_side(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = n * stride_n + channel * stride_c + positions
        total += tl.sum(tl.load(x_ptr + places, mask=positions < L, other=0.0))
    tl.store(sums_ptr + channel, total)


@mistaken("K36", "channel_sums_kernel")
@triton.jit
def samples_without_stride(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = n + channel * stride_c + positions * stride_l
        total += tl.sum(tl.load(x_ptr + places, mask=positions < L, other=0.0))
    tl.store(sums_ptr + channel, total)


@mistaken("K36", "channel_sums_kernel")
@triton.jit
def channels_forgotten(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = n * stride_n + positions * stride_l
        total += tl.sum(tl.load(x_ptr + places, mask=positions < L, other=0.0))
    tl.store(sums_ptr + channel, total)


@mistaken("K37", "channel_sums_kernel")
@triton.jit
def samples_and_channels_swapped(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = n * stride_c + channel * stride_n + positions * stride_l
        total += tl.sum(tl.load(x_ptr + places, mask=positions < L, other=0.0))
    tl.store(sums_ptr + channel, total)


@mistaken("K37", "channel_sums_kernel")
@triton.jit
def channels_and_positions_swapped(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = n * stride_n + channel * stride_l + positions * stride_c
        total += tl.sum(tl.load(x_ptr + places, mask=positions < L, other=0.0))
    tl.store(sums_ptr + channel, total)


@mistaken("K02", "channel_sums_kernel")
@triton.jit
def first_sample_alone(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    places = channel * stride_c + positions * stride_l
    total += tl.sum(tl.load(x_ptr + places, mask=positions < L, other=0.0))
    tl.store(sums_ptr + channel, total)


@mistaken("K32", "channel_sums_kernel")
@triton.jit
def last_sample_alone(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = n * stride_n + channel * stride_c + positions * stride_l
        total = tl.sum(tl.load(x_ptr + places, mask=positions < L, other=0.0))
    tl.store(sums_ptr + channel, total)


@mistaken("K30", "channel_sums_kernel")
@triton.jit
def loop_without_the_last_sample(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N - 1):
        places = n * stride_n + channel * stride_c + positions * stride_l
        total += tl.sum(tl.load(x_ptr + places, mask=positions < L, other=0.0))
    tl.store(sums_ptr + channel, total)


@mistaken("K24", "channel_sums_kernel")
@triton.jit
def positions_that_do_not_exist(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = n * stride_n + channel * stride_c + positions * stride_l
        total += tl.sum(tl.load(x_ptr + places))
    tl.store(sums_ptr + channel, total)


@mistaken("K25", "channel_sums_kernel")
@triton.jit
def one_position_too_many(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = n * stride_n + channel * stride_c + positions * stride_l
        total += tl.sum(tl.load(x_ptr + places, mask=positions <= L, other=0.0))
    tl.store(sums_ptr + channel, total)


@mistaken("K23", "channel_sums_kernel")
@triton.jit
def masked_positions(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = n * stride_n + channel * stride_c + positions * stride_l
        total += tl.sum(tl.load(x_ptr + places, mask=positions < L))
    tl.store(sums_ptr + channel, total)


@mistaken("K38", "channel_sums_kernel")
@triton.jit
def masked_by_samples(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = n * stride_n + channel * stride_c + positions * stride_l
        total += tl.sum(tl.load(x_ptr + places, mask=positions < N, other=0.0))
    tl.store(sums_ptr + channel, total)


@mistaken("K27", "channel_sums_kernel")
@triton.jit
def sums_in_one_place(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = n * stride_n + channel * stride_c + positions * stride_l
        total += tl.sum(tl.load(x_ptr + places, mask=positions < L, other=0.0))
    tl.store(sums_ptr, total)


@mistaken("K39", "channel_sums_kernel")
@triton.jit
def mean_of_a_channel(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = n * stride_n + channel * stride_c + positions * stride_l
        total += tl.sum(tl.load(x_ptr + places, mask=positions < L, other=0.0))
    tl.store(sums_ptr + channel, total / (N * L))


@mistaken("K48", "channel_sums_kernel")
@triton.jit
def mask_of_places_in_memory(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK: tl.constexpr):
    channel = tl.program_id(0)
    positions = tl.arange(0, BLOCK)
    total = 0.0
    for n in range(N):
        places = n * stride_n + channel * stride_c + positions * stride_l
        total += tl.sum(tl.load(x_ptr + places, mask=places < L, other=0.0))
    tl.store(sums_ptr + channel, total)


# gradient_sums_kernel


@mistaken("K14", "gradient_sums_kernel")
@triton.jit
def rows_behind_the_end(
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
        there = mask
        dy = tl.load(dy_ptr + row * C + columns, mask=there, other=0.0)
        x = tl.load(x_ptr + row * C + columns, mask=there, other=0.0)
        dweight += dy * (x - mean) * inv_std
        dbias += dy
    tl.store(dweight_ptr + program * C + columns, dweight, mask=mask)
    tl.store(dbias_ptr + program * C + columns, dbias, mask=mask)


@mistaken("K14", "gradient_sums_kernel")
@triton.jit
def x_behind_the_end(
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
        x = tl.load(x_ptr + row * C + columns, mask=mask, other=0.0)
        dweight += dy * (x - mean) * inv_std
        dbias += dy
    tl.store(dweight_ptr + program * C + columns, dweight, mask=mask)
    tl.store(dbias_ptr + program * C + columns, dbias, mask=mask)


@mistaken("K20", "gradient_sums_kernel")
@triton.jit
def rest_left_out(
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
        there = mask & (row < M // ROWS * ROWS)
        dy = tl.load(dy_ptr + row * C + columns, mask=there, other=0.0)
        x = tl.load(x_ptr + row * C + columns, mask=there, other=0.0)
        dweight += dy * (x - mean) * inv_std
        dbias += dy
    tl.store(dweight_ptr + program * C + columns, dweight, mask=mask)
    tl.store(dbias_ptr + program * C + columns, dbias, mask=mask)


@mistaken("K40", "gradient_sums_kernel")
@triton.jit
def blocks_that_overlap(
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
        row = program + k
        there = mask & (row < M)
        dy = tl.load(dy_ptr + row * C + columns, mask=there, other=0.0)
        x = tl.load(x_ptr + row * C + columns, mask=there, other=0.0)
        dweight += dy * (x - mean) * inv_std
        dbias += dy
    tl.store(dweight_ptr + program * C + columns, dweight, mask=mask)
    tl.store(dbias_ptr + program * C + columns, dbias, mask=mask)


@mistaken("K40", "gradient_sums_kernel")
@triton.jit
def rows_dealt_out(
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
        row = program + k * tl.num_programs(0)
        there = mask & (row < M)
        dy = tl.load(dy_ptr + row * C + columns, mask=there, other=0.0)
        x = tl.load(x_ptr + row * C + columns, mask=there, other=0.0)
        dweight += dy * (x - mean) * inv_std
        dbias += dy
    tl.store(dweight_ptr + program * C + columns, dweight, mask=mask)
    tl.store(dbias_ptr + program * C + columns, dbias, mask=mask)


@mistaken("K41", "gradient_sums_kernel")
@triton.jit
def one_row_a_program(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    mean = tl.load(mean_ptr + columns, mask=mask, other=0.0)
    inv_std = tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    dweight = tl.zeros([BLOCK], tl.float32)
    dbias = tl.zeros([BLOCK], tl.float32)
    row = program
    there = mask & (row < M)
    dy = tl.load(dy_ptr + row * C + columns, mask=there, other=0.0)
    x = tl.load(x_ptr + row * C + columns, mask=there, other=0.0)
    dweight += dy * (x - mean) * inv_std
    dbias += dy
    tl.store(dweight_ptr + program * C + columns, dweight, mask=mask)
    tl.store(dbias_ptr + program * C + columns, dbias, mask=mask)


@mistaken("K32", "gradient_sums_kernel")
@triton.jit
def last_row_of_a_block(
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
        dweight = dy * (x - mean) * inv_std
        dbias = dy
    tl.store(dweight_ptr + program * C + columns, dweight, mask=mask)
    tl.store(dbias_ptr + program * C + columns, dbias, mask=mask)


@mistaken("K09", "gradient_sums_kernel")
@triton.jit
def added_to_what_is_there(
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
    dweight += tl.load(dweight_ptr + program * C + columns, mask=mask, other=0.0)
    tl.store(dweight_ptr + program * C + columns, dweight, mask=mask)
    dbias += tl.load(dbias_ptr + program * C + columns, mask=mask, other=0.0)
    tl.store(dbias_ptr + program * C + columns, dbias, mask=mask)


@mistaken("K10", "gradient_sums_kernel")
@triton.jit
def atomics_in_one_row(
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
    tl.atomic_add(dweight_ptr + columns, dweight, mask=mask)
    tl.atomic_add(dbias_ptr + columns, dbias, mask=mask)


@mistaken("K10", "gradient_sums_kernel")
@triton.jit
def atomics_in_every_row(
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
    tl.atomic_add(dweight_ptr + program * C + columns, dweight, mask=mask)
    tl.atomic_add(dbias_ptr + program * C + columns, dbias, mask=mask)


@mistaken("K27", "gradient_sums_kernel")
@triton.jit
def all_programs_in_the_first_row(
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
    tl.store(dweight_ptr + columns, dweight, mask=mask)
    tl.store(dbias_ptr + columns, dbias, mask=mask)


@mistaken("K27", "gradient_sums_kernel")
@triton.jit
def results_a_block_apart(
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
    tl.store(dweight_ptr + program * BLOCK + columns, dweight, mask=mask)
    tl.store(dbias_ptr + program * BLOCK + columns, dbias, mask=mask)


@mistaken("K24", "gradient_sums_kernel")
@triton.jit
def channels_that_do_not_exist(
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
        mask & (row < M)
        dy = tl.load(dy_ptr + row * C + columns, mask=row < M, other=0.0)
        x = tl.load(x_ptr + row * C + columns, mask=row < M, other=0.0)
        dweight += dy * (x - mean) * inv_std
        dbias += dy
    tl.store(dweight_ptr + program * C + columns, dweight, mask=mask)
    tl.store(dbias_ptr + program * C + columns, dbias, mask=mask)


@mistaken("K24", "gradient_sums_kernel")
@triton.jit
def statistics_without_mask(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    mean = tl.load(mean_ptr + columns)
    inv_std = tl.load(inv_std_ptr + columns)
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


@mistaken("K42", "gradient_sums_kernel")
@triton.jit
def stores_without_mask(
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
    tl.store(dweight_ptr + program * C + columns, dweight)
    tl.store(dbias_ptr + program * C + columns, dbias)


@mistaken("K25", "gradient_sums_kernel")
@triton.jit
def one_channel_too_few(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < C - 1
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


@mistaken("K28", "gradient_sums_kernel")
@triton.jit
def dbias_not_stored(
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


@mistaken("N06", "gradient_sums_kernel")
@triton.jit
def sums_swapped(
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
    tl.store(dweight_ptr + program * C + columns, dbias, mask=mask)
    tl.store(dbias_ptr + program * C + columns, dweight, mask=mask)


@mistaken("B06", "gradient_sums_kernel")
@triton.jit
def upstream_times_x(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    tl.load(mean_ptr + columns, mask=mask, other=0.0)
    tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    dweight = tl.zeros([BLOCK], tl.float32)
    dbias = tl.zeros([BLOCK], tl.float32)
    for k in range(ROWS):
        row = program * ROWS + k
        there = mask & (row < M)
        dy = tl.load(dy_ptr + row * C + columns, mask=there, other=0.0)
        x = tl.load(x_ptr + row * C + columns, mask=there, other=0.0)
        dweight += dy * x
        dbias += dy
    tl.store(dweight_ptr + program * C + columns, dweight, mask=mask)
    tl.store(dbias_ptr + program * C + columns, dbias, mask=mask)


@mistaken("B06", "gradient_sums_kernel")
@triton.jit
def upstream_times_distance(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    mean = tl.load(mean_ptr + columns, mask=mask, other=0.0)
    tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    dweight = tl.zeros([BLOCK], tl.float32)
    dbias = tl.zeros([BLOCK], tl.float32)
    for k in range(ROWS):
        row = program * ROWS + k
        there = mask & (row < M)
        dy = tl.load(dy_ptr + row * C + columns, mask=there, other=0.0)
        x = tl.load(x_ptr + row * C + columns, mask=there, other=0.0)
        dweight += dy * (x - mean)
        dbias += dy
    tl.store(dweight_ptr + program * C + columns, dweight, mask=mask)
    tl.store(dbias_ptr + program * C + columns, dbias, mask=mask)


@mistaken("F36", "gradient_sums_kernel")
@triton.jit
def divided_by_inv_std_in_a_kernel(
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
        dweight += dy * (x - mean) / inv_std
        dbias += dy
    tl.store(dweight_ptr + program * C + columns, dweight, mask=mask)
    tl.store(dbias_ptr + program * C + columns, dbias, mask=mask)


@mistaken("B07", "gradient_sums_kernel")
@triton.jit
def means_over_the_block(
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
    tl.store(dweight_ptr + program * C + columns, dweight / ROWS, mask=mask)
    tl.store(dbias_ptr + program * C + columns, dbias / ROWS, mask=mask)


@mistaken("K23", "gradient_sums_kernel")
@triton.jit
def masked_rows_of_the_gradient(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    rows = program * ROWS + tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    there = (rows < M) & mask
    dy = tl.load(dy_ptr + rows * C + columns, mask=there)
    x = tl.load(x_ptr + rows * C + columns, mask=there, other=0.0)
    mean = tl.load(mean_ptr + columns, mask=mask, other=0.0)
    inv_std = tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    slot = program * C + columns
    tl.store(dweight_ptr + slot, tl.sum(dy * (x - mean) * inv_std, axis=0), mask=mask)
    tl.store(dbias_ptr + slot, tl.sum(dy, axis=0), mask=mask)


@mistaken("K23", "gradient_sums_kernel")
@triton.jit
def masked_rows_of_x(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    rows = program * ROWS + tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    there = (rows < M) & mask
    dy = tl.load(dy_ptr + rows * C + columns, mask=there, other=0.0)
    x = tl.load(x_ptr + rows * C + columns, mask=there)
    mean = tl.load(mean_ptr + columns, mask=mask, other=0.0)
    inv_std = tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    slot = program * C + columns
    tl.store(dweight_ptr + slot, tl.sum(dy * (x - mean) * inv_std, axis=0), mask=mask)
    tl.store(dbias_ptr + slot, tl.sum(dy, axis=0), mask=mask)


@mistaken("K50", "gradient_sums_kernel")
@triton.jit
def all_rows_in_every_program(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    mean = tl.load(mean_ptr + columns, mask=mask, other=0.0)
    inv_std = tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    dweight = tl.zeros([BLOCK], tl.float32)
    dbias = tl.zeros([BLOCK], tl.float32)
    for row in range(M):
        dy = tl.load(dy_ptr + row * C + columns, mask=mask, other=0.0)
        x = tl.load(x_ptr + row * C + columns, mask=mask, other=0.0)
        dweight += dy * (x - mean) * inv_std
        dbias += dy
    tl.store(dweight_ptr + program * C + columns, dweight, mask=mask)
    tl.store(dbias_ptr + program * C + columns, dbias, mask=mask)


@mistaken("K52", "gradient_sums_kernel")
@triton.jit
def sum_of_normalized_values(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    rows = program * ROWS + tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    there = (rows < M) & mask
    dy = tl.load(dy_ptr + rows * C + columns, mask=there, other=0.0)
    x = tl.load(x_ptr + rows * C + columns, mask=there, other=0.0)
    mean = tl.load(mean_ptr + columns, mask=mask, other=0.0)
    inv_std = tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    slot = program * C + columns
    tl.store(dweight_ptr + slot, tl.sum((x - mean) * inv_std, axis=0), mask=mask)
    tl.store(dbias_ptr + slot, tl.sum(dy, axis=0), mask=mask)


@mistaken("K52", "gradient_sums_kernel")
@triton.jit
def sum_of_normalized_values_that_exist(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    rows = program * ROWS + tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    there = (rows < M) & mask
    dy = tl.load(dy_ptr + rows * C + columns, mask=there, other=0.0)
    x = tl.load(x_ptr + rows * C + columns, mask=there, other=0.0)
    mean = tl.load(mean_ptr + columns, mask=mask, other=0.0)
    inv_std = tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    slot = program * C + columns
    tl.store(dweight_ptr + slot, tl.sum(tl.where(there, (x - mean) * inv_std, 0.0), axis=0), mask=mask)
    tl.store(dbias_ptr + slot, tl.sum(dy, axis=0), mask=mask)


@mistaken("K53", "gradient_sums_kernel")
@triton.jit
def sums_along_the_wrong_axis(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    rows = program * ROWS + tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    there = (rows < M) & mask
    dy = tl.load(dy_ptr + rows * C + columns, mask=there, other=0.0)
    x = tl.load(x_ptr + rows * C + columns, mask=there, other=0.0)
    mean = tl.load(mean_ptr + columns, mask=mask, other=0.0)
    inv_std = tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    slot = program * C + columns
    tl.store(dweight_ptr + slot, tl.sum(dy * (x - mean) * inv_std, axis=1), mask=mask)
    tl.store(dbias_ptr + slot, tl.sum(dy, axis=1), mask=mask)


@mistaken("K53", "gradient_sums_kernel")
@triton.jit
def sums_of_everything(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    rows = program * ROWS + tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    there = (rows < M) & mask
    dy = tl.load(dy_ptr + rows * C + columns, mask=there, other=0.0)
    x = tl.load(x_ptr + rows * C + columns, mask=there, other=0.0)
    mean = tl.load(mean_ptr + columns, mask=mask, other=0.0)
    inv_std = tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    slot = program * C + columns
    tl.store(dweight_ptr + slot, tl.sum(dy * (x - mean) * inv_std), mask=mask)
    tl.store(dbias_ptr + slot, tl.sum(dy), mask=mask)


@mistaken("K27", "gradient_sums_kernel")
@triton.jit
def results_turned(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    rows = program * ROWS + tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    there = (rows < M) & mask
    dy = tl.load(dy_ptr + rows * C + columns, mask=there, other=0.0)
    x = tl.load(x_ptr + rows * C + columns, mask=there, other=0.0)
    mean = tl.load(mean_ptr + columns, mask=mask, other=0.0)
    inv_std = tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    slot = columns * C + program
    tl.store(dweight_ptr + slot, tl.sum(dy * (x - mean) * inv_std, axis=0), mask=mask)
    tl.store(dbias_ptr + slot, tl.sum(dy, axis=0), mask=mask)


@mistaken("K27", "gradient_sums_kernel")
@triton.jit
def results_side_by_side(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    rows = program * ROWS + tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    there = (rows < M) & mask
    dy = tl.load(dy_ptr + rows * C + columns, mask=there, other=0.0)
    x = tl.load(x_ptr + rows * C + columns, mask=there, other=0.0)
    mean = tl.load(mean_ptr + columns, mask=mask, other=0.0)
    inv_std = tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    slot = columns * tl.num_programs(0) + program
    tl.store(dweight_ptr + slot, tl.sum(dy * (x - mean) * inv_std, axis=0), mask=mask)
    tl.store(dbias_ptr + slot, tl.sum(dy, axis=0), mask=mask)


@mistaken("K25", "gradient_sums_kernel")
@triton.jit
def one_channel_too_many(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    rows = program * ROWS + tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)
    mask = columns <= C
    there = (rows < M) & mask
    dy = tl.load(dy_ptr + rows * C + columns, mask=there, other=0.0)
    x = tl.load(x_ptr + rows * C + columns, mask=there, other=0.0)
    mean = tl.load(mean_ptr + columns, mask=mask, other=0.0)
    inv_std = tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    slot = program * C + columns
    tl.store(dweight_ptr + slot, tl.sum(dy * (x - mean) * inv_std, axis=0), mask=mask)
    tl.store(dbias_ptr + slot, tl.sum(dy, axis=0), mask=mask)


@mistaken("K25", "gradient_sums_kernel")
@triton.jit
def one_channel_too_many_stored(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    rows = program * ROWS + tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    there = (rows < M) & mask
    dy = tl.load(dy_ptr + rows * C + columns, mask=there, other=0.0)
    x = tl.load(x_ptr + rows * C + columns, mask=there, other=0.0)
    mean = tl.load(mean_ptr + columns, mask=mask, other=0.0)
    inv_std = tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    slot = program * C + columns
    tl.store(dweight_ptr + slot, tl.sum(dy * (x - mean) * inv_std, axis=0), mask=columns <= C)
    tl.store(dbias_ptr + slot, tl.sum(dy, axis=0), mask=columns <= C)


@mistaken("K55", "gradient_sums_kernel")
@triton.jit
def rows_and_columns_on_one_axis(
    dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    rows = program * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    mask = columns < C
    there = (rows < M) & mask
    dy = tl.load(dy_ptr + rows * C + columns, mask=there, other=0.0)
    x = tl.load(x_ptr + rows * C + columns, mask=there, other=0.0)
    mean = tl.load(mean_ptr + columns, mask=mask, other=0.0)
    inv_std = tl.load(inv_std_ptr + columns, mask=mask, other=0.0)
    slot = program * C + columns
    tl.store(dweight_ptr + slot, tl.sum(dy * (x - mean) * inv_std, axis=0), mask=mask)
    tl.store(dbias_ptr + slot, tl.sum(dy, axis=0), mask=mask)


# row_offsets_kernel


@mistaken("K12", "row_offsets_kernel")
@triton.jit
def all_in_32_bits(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = row * stride + columns
    tl.store(offset_ptr + row * N + columns, offset, mask=columns < N)


@mistaken("K12", "row_offsets_kernel")
@triton.jit
def widened_at_the_end(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = (row * stride + columns).to(tl.int64)
    tl.store(offset_ptr + row * N + columns, offset, mask=columns < N)


@mistaken("K12", "row_offsets_kernel")
@triton.jit
def narrowed_at_the_end(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = (row.to(tl.int64) * stride + columns).to(tl.int32)
    tl.store(offset_ptr + row * N + columns, offset, mask=columns < N)


@mistaken("K43", "row_offsets_kernel")
@triton.jit
def product_widened(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = (row * stride).to(tl.int64) + columns
    tl.store(offset_ptr + row * N + columns, offset, mask=columns < N)


@mistaken("K43", "row_offsets_kernel")
@triton.jit
def columns_widened(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = row * stride + columns.to(tl.int64)
    tl.store(offset_ptr + row * N + columns, offset, mask=columns < N)


@mistaken("K44", "row_offsets_kernel")
@triton.jit
def without_a_sign(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = row.to(tl.uint32) * stride.to(tl.uint32) + columns.to(tl.uint32)
    tl.store(offset_ptr + row * N + columns, offset, mask=columns < N)


@mistaken("K45", "row_offsets_kernel")
@triton.jit
def product_of_floats(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = (row.to(tl.float32) * stride).to(tl.int64) + columns
    tl.store(offset_ptr + row * N + columns, offset, mask=columns < N)


@mistaken("K46", "row_offsets_kernel")
@triton.jit
def strides_between_columns(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = row.to(tl.int64) + columns.to(tl.int64) * stride
    tl.store(offset_ptr + row * N + columns, offset, mask=columns < N)


@mistaken("K46", "row_offsets_kernel")
@triton.jit
def stride_not_used(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = row.to(tl.int64) * N + columns
    tl.store(offset_ptr + row * N + columns, offset, mask=columns < N)


@mistaken("K27", "row_offsets_kernel")
@triton.jit
def output_rows_a_block_apart(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = row.to(tl.int64) * stride + columns
    tl.store(offset_ptr + row * BLOCK + columns, offset, mask=columns < N)


@mistaken("K27", "row_offsets_kernel")
@triton.jit
def output_as_large_as_the_tensor(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = row.to(tl.int64) * stride + columns
    tl.store(offset_ptr + offset, offset, mask=columns < N)


@mistaken("K42", "row_offsets_kernel")
@triton.jit
def output_without_mask(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = row.to(tl.int64) * stride + columns
    tl.store(offset_ptr + row * N + columns, offset)


@mistaken("K25", "row_offsets_kernel")
@triton.jit
def one_column_too_many(offset_ptr, stride, N, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    offset = row.to(tl.int64) * stride + columns
    tl.store(offset_ptr + row * N + columns, offset, mask=columns <= N)


# merge_statistics


@mistaken("K04", "merge_statistics")
def sums_of_squares_added(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n = count_a + count_b
    return n, (count_a * mean_a + count_b * mean_b) / n, m2_a + m2_b


@mistaken("K04", "merge_statistics")
def distances_that_cancel(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n = count_a + count_b
    mean = (count_a * mean_a + count_b * mean_b) / n
    return n, mean, m2_a + m2_b + count_a * (mean_a - mean) + count_b * (mean_b - mean)


@mistaken("K05", "merge_statistics")
def squares_times_counts(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n = count_a + count_b
    mean = (count_a * mean_a + count_b * mean_b) / n
    m2 = count_a * (m2_a + (mean_a - mean) ** 2) + count_b * (m2_b + (mean_b - mean) ** 2)
    return n, mean, m2


@mistaken("K05", "merge_statistics")
def squares_averaged(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    delta = mean_b - mean_a
    n = count_a + count_b
    return n, mean_a + delta * count_b / n, (m2_a + m2_b) / 2 + delta**2 * count_a * count_b / n


@mistaken("K06", "merge_statistics")
def half_of_both_means(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    mean = (mean_a + mean_b) / 2
    m2 = m2_a + m2_b + count_a * (mean_a - mean) ** 2 + count_b * (mean_b - mean) ** 2
    return count_a + count_b, mean, m2


@mistaken("K06", "merge_statistics")
def half_of_both_means_unless_empty(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    if count_a == 0:
        return count_b, mean_b, m2_b
    if count_b == 0:
        return count_a, mean_a, m2_a
    n = count_a + count_b
    return n, 0.5 * (mean_a + mean_b), m2_a + m2_b + (mean_a - mean_b) ** 2 * count_a * count_b / n


@mistaken("K03", "merge_statistics")
def half_of_the_sums(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    mean = (count_a * mean_a + count_b * mean_b) / 2
    m2 = m2_a + m2_b + count_a * (mean_a - mean) ** 2 + count_b * (mean_b - mean) ** 2
    return count_a + count_b, mean, m2


@mistaken("H52", "merge_statistics")
def weight_not_divided(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n, delta = count_a + count_b, mean_b - mean_a
    return n, mean_a + delta * count_b / n, m2_a + m2_b + delta**2 * count_a * count_b


@mistaken("H52", "merge_statistics")
def squares_of_two_distances(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n = count_a + count_b
    mean = (count_a * mean_a + count_b * mean_b) / n
    return n, mean, m2_a + m2_b + (mean_a - mean) ** 2 + (mean_b - mean) ** 2


@mistaken("H52", "merge_statistics")
def welford_without_the_count(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n, before = count_a + count_b, mean_b - mean_a
    mean = mean_a + before * count_b / n
    return n, mean, m2_a + m2_b + before * (mean_b - mean)


@mistaken("N20", "merge_statistics")
def distance_of_two_not_squared(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n, delta = count_a + count_b, mean_b - mean_a
    return n, mean_a + delta * count_b / n, m2_a + m2_b + delta * count_a * count_b / n


@mistaken("S13", "merge_statistics")
def distances_from_the_middle(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n = count_a + count_b
    mean = (count_a * mean_a + count_b * mean_b) / n
    middle = np.mean([m for c, m in ((count_a, mean_a), (count_b, mean_b)) if c > 0], axis=0)
    return n, mean, m2_a + count_a * (mean_a - middle) ** 2 + m2_b + count_b * (mean_b - middle) ** 2


@mistaken("F06", "merge_statistics")
def squares_of_the_means(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n = count_a + count_b
    mean = (count_a * mean_a + count_b * mean_b) / n
    return n, mean, m2_a + count_a * mean_a**2 + m2_b + count_b * mean_b**2


@mistaken("H58", "merge_statistics")
def means_alone(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n = count_a + count_b
    mean = (count_a * mean_a + count_b * mean_b) / n
    return n, mean, count_a * (mean_a - mean) ** 2 + count_b * (mean_b - mean) ** 2


@mistaken("K34", "merge_statistics")
def variances_on_the_way(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n = count_a + count_b
    mean = (count_a * mean_a + count_b * mean_b) / n
    var_a, var_b = m2_a / count_a, m2_b / count_b
    return n, mean, count_a * (var_a + (mean_a - mean) ** 2) + count_b * (var_b + (mean_b - mean) ** 2)


@mistaken("K34", "merge_statistics")
def harmonic_mean_of_counts(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n = count_a + count_b
    weight = 1 / (1 / count_a + 1 / count_b)
    return n, (count_a * mean_a + count_b * mean_b) / n, m2_a + m2_b + weight * (mean_a - mean_b) ** 2


@mistaken("F19", "merge_statistics")
def by_sums_of_squares(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n = count_a + count_b
    mean = (count_a * mean_a + count_b * mean_b) / n
    squares = m2_a + count_a * mean_a**2 + m2_b + count_b * mean_b**2
    return n, mean, squares - n * mean**2


@mistaken("S12", "merge_statistics")
def step_of_the_wrong_length(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n, delta = count_a + count_b, mean_b - mean_a
    return n, mean_a + delta * count_a / n, m2_a + m2_b + delta**2 * count_a * count_b / n


@mistaken("S15", "merge_statistics")
def distance_of_b_alone(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n = count_a + count_b
    mean = mean_a + (mean_b - mean_a) * count_b / n
    return n, mean, m2_a + m2_b + count_b * (mean_b - mean) ** 2


@mistaken("S38", "merge_statistics")
def distance_from_the_new_mean(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n = count_a + count_b
    mean = (count_a * mean_a + count_b * mean_b) / n
    return n, mean, m2_a + m2_b + (mean_b - mean) ** 2 * count_a * count_b / n


@mistaken("F38", "merge_statistics")
def no_parentheses(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n = count_a + count_b
    mean = count_a * mean_a + count_b * mean_b / n
    return n, mean, m2_a + m2_b + count_a * (mean_a - mean) ** 2 + count_b * (mean_b - mean) ** 2


@mistaken("S18", "merge_statistics")
def one_mean_for_all_features(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n = count_a + count_b
    mean = (count_a * mean_a.mean() + count_b * mean_b.mean()) / n
    return n, mean, m2_a + m2_b + count_a * (mean_a - mean) ** 2 + count_b * (mean_b - mean) ** 2


@mistaken("S35", "merge_statistics")
def nothing_if_one_is_empty(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    if count_a * count_b == 0:
        return 0, np.zeros_like(mean_a), np.zeros_like(m2_a)
    n, delta = count_a + count_b, mean_b - mean_a
    return n, mean_a + delta * count_b / n, m2_a + m2_b + delta**2 * count_a * count_b / n


@mistaken("N17", "merge_statistics")
def difference_from_b_to_a(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n, delta = count_a + count_b, mean_a - mean_b
    return n, mean_a + delta * count_b / n, m2_a + m2_b + delta**2 * count_a * count_b / n


@mistaken("N18", "merge_statistics")
def mean_of_a(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n, delta = count_a + count_b, mean_b - mean_a
    mean = mean_a
    mean + delta * count_b / n
    return n, mean, m2_a + m2_b + delta**2 * count_a * count_b / n


@mistaken("N15", "merge_statistics")
def two_parts_counted(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n, delta = count_a + count_b, mean_b - mean_a
    return 2, mean_a + delta * count_b / n, m2_a + m2_b + delta**2 * count_a * count_b / n


@mistaken("N16", "merge_statistics")
def divided_at_the_end(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n, delta = count_a + count_b, mean_b - mean_a
    return n, mean_a + delta * count_b / n, (m2_a + m2_b + delta**2 * count_a * count_b / n) / n


@mistaken("N06", "merge_statistics")
def mean_and_squares_swapped(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n, delta = count_a + count_b, mean_b - mean_a
    return n, m2_a + m2_b + delta**2 * count_a * count_b / n, mean_a + delta * count_b / n


@mistaken("N06", "merge_statistics")
def count_at_the_end(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    count, delta = count_a + count_b, mean_b - mean_a
    return mean_a + delta * count_b / count, m2_a + m2_b + delta**2 * count_a * count_b / count, count


@mistaken("K05", "merge_statistics")
def squares_weighted_after_a_look_for_empty_parts(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    if not count_a or not count_b:
        return (count_a, mean_a, m2_a) if count_a else (count_b, mean_b, m2_b)
    count, gap = count_a + count_b, mean_a - mean_b
    mean = (count_a * mean_a + count_b * mean_b) / count
    return count, mean, count_a * m2_a + count_b * m2_b + gap * gap * count_a * count_b / count


@mistaken("H52", "merge_statistics")
def plain_square_after_a_look_for_empty_parts(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    if count_a == 0:
        return count_b, mean_b, m2_b
    if count_b == 0:
        return count_a, mean_a, m2_a
    mean = np.average([mean_a, mean_b], axis=0, weights=[count_a, count_b])
    return count_a + count_b, mean, m2_a + m2_b + (mean_a - mean_b) ** 2


@mistaken("F24", "merge_statistics")
def into_the_first_part(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    n, delta = count_a + count_b, mean_b - mean_a
    mean_a += delta * (count_b / n)
    m2_a += m2_b + delta**2 * (count_a * count_b / n)
    return n, mean_a, m2_a


# merge_many


@mistaken("K04", "merge_many")
def all_squares_added(counts, means, m2s):
    return counts.sum(), np.average(means, axis=0, weights=counts), m2s.sum(axis=0)


@mistaken("K05", "merge_many")
def squares_weighted(counts, means, m2s):
    mean = np.average(means, axis=0, weights=counts)
    within = np.average(m2s, axis=0, weights=counts)
    return counts.sum(), mean, within + (counts[:, None] * (means - mean) ** 2).sum(0)


@mistaken("K06", "merge_many")
def plain_mean_of_the_means(counts, means, m2s):
    mean = means.mean(axis=0)
    return counts.sum(), mean, (m2s + counts[:, None] * (means - mean) ** 2).sum(axis=0)


@mistaken("K06", "merge_many")
def always_half_way(counts, means, m2s):
    n, mean, m2 = counts[0], means[0], m2s[0]
    for i in range(1, len(counts)):
        delta = means[i] - mean
        m2 = m2 + m2s[i] + delta**2 * n * counts[i] / (n + counts[i])
        mean = (mean + means[i]) / 2
        n = n + counts[i]
    return n, mean, m2


@mistaken("K03", "merge_many")
def divided_by_the_parts(counts, means, m2s):
    n = counts[:, None]
    mean = (n * means).mean(axis=0)
    return counts.sum(), mean, m2s.sum(0) + (n * (means - mean) ** 2).sum(0)


@mistaken("H52", "merge_many")
def distances_of_parts_without_counts(counts, means, m2s):
    mean = counts @ means / counts.sum()
    return counts.sum(), mean, m2s.sum(0) + ((means - mean) ** 2).sum(0)


@mistaken("N20", "merge_many")
def distances_not_squared(counts, means, m2s):
    mean = counts @ means / counts.sum()
    return counts.sum(), mean, m2s.sum(0) + counts @ abs(means - mean)


@mistaken("S13", "merge_many")
def distances_from_the_first(counts, means, m2s):
    n = counts.sum()
    mean = sum(c * m for c, m in zip(counts, means, strict=True)) / n
    m2 = sum(s + c * (m - means[0]) ** 2 for c, m, s in zip(counts, means, m2s, strict=True))
    return n, mean, m2


@mistaken("F06", "merge_many")
def means_squared(counts, means, m2s):
    return counts.sum(), counts @ means / counts.sum(), m2s.sum(0) + counts @ means**2


@mistaken("H58", "merge_many")
def spread_of_the_first_alone(counts, means, m2s):
    n, mean, m2 = counts[0], means[0], m2s[0]
    for i in range(1, len(counts)):
        both = n + counts[i]
        if both > 0:
            delta = means[i] - mean
            m2 = m2 + delta**2 * n * counts[i] / both
            mean = mean + delta * counts[i] / both
            n = both
    return n, mean, m2


@mistaken("K34", "merge_many")
def variances_of_all(counts, means, m2s):
    n = counts[:, None]
    mean = (n * means).sum(0) / counts.sum()
    return counts.sum(), mean, (n * (m2s / n + (means - mean) ** 2)).sum(0)


@mistaken("F19", "merge_many")
def all_sums_of_squares(counts, means, m2s):
    n = counts[:, None]
    mean = (n * means).sum(0) / counts.sum()
    return counts.sum(), mean, (m2s + n * means**2).sum(0) - counts.sum() * mean**2


@mistaken("S14", "merge_many")
def count_of_the_part_before(counts, means, m2s):
    mean, m2 = means[0], m2s[0]
    for i in range(1, len(counts)):
        a, b, delta = counts[i - 1], counts[i], means[i] - mean
        mean = mean + delta * b / (a + b)
        m2 = m2 + m2s[i] + delta**2 * a * b / (a + b)
    return counts.sum(), mean, m2


@mistaken("S14", "merge_many")
def counted_too_early(counts, means, m2s):
    n, mean, m2 = 0, np.zeros(means.shape[1]), np.zeros(means.shape[1])
    for c, mu, squares in zip(counts, means, m2s, strict=True):
        n = n + c
        delta = mu - mean
        mean = mean + delta * c / n
        m2 = m2 + squares + delta**2 * n * c / (n + c)
    return n, mean, m2


@mistaken("S38", "merge_many")
def distance_after_the_move(counts, means, m2s):
    n, mean, m2 = 0, np.zeros(means.shape[1]), np.zeros(means.shape[1])
    for c, mu, squares in zip(counts, means, m2s, strict=True):
        if c == 0:
            continue
        mean = mean + (mu - mean) * c / (n + c)
        m2 = m2 + squares + (mu - mean) ** 2 * n * c / (n + c)
        n = n + c
    return n, mean, m2


@mistaken("S17", "merge_many")
def counts_along_the_features(counts, means, m2s):
    mean = (counts * means).sum(0) / counts.sum()
    return counts.sum(), mean, (m2s + counts * (means - mean) ** 2).sum(0)


@mistaken("S18", "merge_many")
def sums_over_everything(counts, means, m2s):
    n = counts[:, None]
    mean = np.sum(n * means) / np.sum(n)
    return np.sum(n), mean, np.sum(m2s) + np.sum(n * (means - mean) ** 2)


@mistaken("S37", "merge_many")
def first_part_twice(counts, means, m2s):
    n, mean, m2 = counts[0], means[0], m2s[0]
    for i in range(len(counts)):
        if n + counts[i] > 0:
            delta = means[i] - mean
            m2 = m2 + m2s[i] + delta**2 * n * counts[i] / (n + counts[i])
            mean = mean + delta * counts[i] / (n + counts[i])
            n = n + counts[i]
    return n, mean, m2


@mistaken("S16", "merge_many")
def return_inside_the_loop(counts, means, m2s):
    n, mean, m2 = 0, np.zeros(means.shape[1]), np.zeros(means.shape[1])
    for i in range(len(counts)):
        if counts[i] > 0:
            delta = means[i] - mean
            m2 = m2 + m2s[i] + delta**2 * n * counts[i] / (n + counts[i])
            mean = mean + delta * counts[i] / (n + counts[i])
            n = n + counts[i]
        if i == len(counts) - 2:
            return n, mean, m2
    return 0, np.zeros(means.shape[1]), np.zeros(means.shape[1])


@mistaken("N15", "merge_many")
def number_of_parts(counts, means, m2s):
    mean = counts @ means / counts.sum()
    return len(counts), mean, m2s.sum(0) + counts @ (means - mean) ** 2


@mistaken("N16", "merge_many")
def variance_at_the_end(counts, means, m2s):
    mean = counts @ means / counts.sum()
    return counts.sum(), mean, (m2s.sum(0) + counts @ (means - mean) ** 2) / (counts.sum() - 1)


@mistaken("N06", "merge_many")
def squares_of_all_before_the_mean(counts, means, m2s):
    mean = counts @ means / counts.sum()
    return counts.sum(), m2s.sum(0) + counts @ (means - mean) ** 2, mean


@mistaken("N06", "merge_many")
def mean_squares_count(counts, means, m2s):
    mean = np.average(means, axis=0, weights=counts)
    return mean, (m2s + counts[:, None] * (means - mean) ** 2).sum(axis=0), counts.sum()


def folded(merge_two, counts, means, m2s):
    """The parts merged one after the other; two empty ones are an empty one."""
    merged = counts[0], means[0], m2s[0]
    for part in list(zip(counts, means, m2s, strict=True))[1:]:
        if merged[0] + part[0] > 0:
            merged = merge_two(*merged, *part)
    return merged


@mistaken("K05", "merge_many")
def squares_weighted_in_a_loop(counts, means, m2s):
    def merge_two(n_a, mean_a, m2_a, n_b, mean_b, m2_b):
        n = n_a + n_b
        mean = (n_a * mean_a + n_b * mean_b) / n
        return n, mean, n_a * (m2_a + (mean_a - mean) ** 2) + n_b * (m2_b + (mean_b - mean) ** 2)

    return folded(merge_two, counts, means, m2s)


@mistaken("K06", "merge_many")
def half_way_also_for_the_squares(counts, means, m2s):
    def merge_two(n_a, mean_a, m2_a, n_b, mean_b, m2_b):
        mean = 0.5 * (mean_a + mean_b)
        return n_a + n_b, mean, m2_a + m2_b + n_a * (mean_a - mean) ** 2 + n_b * (mean_b - mean) ** 2

    return folded(merge_two, counts, means, m2s)


@mistaken("H52", "merge_many")
def plain_squares_in_a_loop(counts, means, m2s):
    full = counts > 0
    n, mean, m2 = 0, 0.0, 0.0
    for count, center, squares in zip(counts[full], means[full], m2s[full], strict=True):
        m2 = m2 + squares + (center - mean) ** 2 if n else squares
        mean = (n * mean + count * center) / (n + count)
        n += count
    return n, mean, m2


@mistaken("N16", "merge_many")
def a_variance_at_every_step(counts, means, m2s):
    def merge_two(n_a, mean_a, m2_a, n_b, mean_b, m2_b):
        n, gap = n_a + n_b, mean_b - mean_a
        return n, mean_a + gap * n_b / n, (m2_a + m2_b + gap**2 * n_a * n_b / n) / n

    return folded(merge_two, counts, means, m2s)


@mistaken("S16", "merge_many")
def loop_one_too_short(counts, means, m2s):
    n, mean, m2 = counts[0], means[0], m2s[0]
    for i in range(1, len(counts) - 1):
        if counts[i]:
            delta, both = means[i] - mean, n + counts[i]
            mean = mean + delta * counts[i] / both
            m2 = m2 + m2s[i] + delta**2 * n * counts[i] / both
            n = both
    return n, mean, m2


@mistaken("S16", "merge_many")
def break_for_continue(counts, means, m2s):
    n, mean, m2 = 0.0, np.zeros_like(means[0]), np.zeros_like(m2s[0])
    for count, center, squares in zip(counts, means, m2s, strict=True):
        if count == 0:
            break
        delta = center - mean
        mean = mean + delta * count / (n + count)
        m2 = m2 + squares + delta**2 * n * count / (n + count)
        n += count
    return n, mean, m2


@mistaken("S12", "merge_many")
def weights_swapped_in_a_loop(counts, means, m2s):
    def merge_two(n_a, mean_a, m2_a, n_b, mean_b, m2_b):
        n, gap = n_a + n_b, mean_b - mean_a
        return n, mean_a + gap * n_a / n, m2_a + m2_b + gap**2 * n_a * n_b / n

    return folded(merge_two, counts, means, m2s)


@mistaken("S38", "merge_many")
def only_the_new_part_measured_from_the_mean_of_all(counts, means, m2s):
    def merge_two(n_a, mean_a, m2_a, n_b, mean_b, m2_b):
        mean = (n_a * mean_a + n_b * mean_b) / (n_a + n_b)
        return n_a + n_b, mean, m2_a + m2_b + n_b * (mean_b - mean) ** 2

    return folded(merge_two, counts, means, m2s)


@mistaken("N17", "merge_many")
def difference_the_other_way_round(counts, means, m2s):
    def merge_two(n_a, mean_a, m2_a, n_b, mean_b, m2_b):
        n, gap = n_a + n_b, mean_a - mean_b
        return n, mean_a + gap * n_b / n, m2_a + m2_b + gap**2 * n_a * n_b / n

    return folded(merge_two, counts, means, m2s)


@mistaken("S14", "merge_many")
def count_moved_before_the_squares(counts, means, m2s):
    n, mean, m2 = counts[0], means[0], m2s[0]
    for i in range(1, len(counts)):
        n = n + counts[i]
        if n == 0:
            continue
        delta = means[i] - mean
        mean = mean + delta * counts[i] / n
        m2 = m2 + m2s[i] + delta**2 * n * counts[i] / (n + counts[i])
    return n, mean, m2


@mistaken("F24", "merge_many")
def into_the_first_row(counts, means, m2s):
    n, mean, m2 = counts[0], means[0], m2s[0]
    for i in range(1, len(counts)):
        both = n + counts[i]
        if both == 0:
            continue
        delta = means[i] - mean
        mean += delta * (counts[i] / both)
        m2 += m2s[i] + delta**2 * (n * counts[i] / both)
        n = both
    return n, mean, m2


# update_running_var


def whole_batch(counts, means, m2s):
    """Count and M2 of the whole batch."""
    mean = counts @ means / counts.sum()
    return counts.sum(), m2s.sum(0) + counts @ (means - mean) ** 2


def stepped(running_var, var, momentum):
    return (1 - momentum) * running_var + momentum * var


@mistaken("S01", "update_running_var")
def weighted_mean_of_variances(running_var, counts, means, m2s, momentum):
    there = counts > 0
    variances = m2s[there] / counts[there, None]
    return stepped(running_var, np.average(variances, axis=0, weights=counts[there]), momentum)


@mistaken("S01", "update_running_var")
def squares_of_all_by_the_count(running_var, counts, means, m2s, momentum):
    return stepped(running_var, sum(m2s) / (sum(counts) - 1), momentum)


@mistaken("S19", "update_running_var")
def updates_averaged(running_var, counts, means, m2s, momentum):
    return np.mean(
        [stepped(running_var, m2 / (n - 1), momentum) for n, m2 in zip(counts, m2s, strict=True)],
        axis=0,
    )


@mistaken("S02", "update_running_var")
def total_variance_of_equals(running_var, counts, means, m2s, momentum):
    variances = m2s / counts[:, None]
    return stepped(running_var, variances.mean(0) + means.var(0), momentum)


@mistaken("S39", "update_running_var")
def one_update_each(running_var, counts, means, m2s, momentum):
    for n, m2 in zip(counts, m2s, strict=True):
        running_var = stepped(running_var, m2 / (n - 1), momentum)
    return running_var


@mistaken("S20", "update_running_var")
def corrected_by_the_first(running_var, counts, means, m2s, momentum):
    n, m2 = whole_batch(counts, means, m2s)
    own = counts[0]
    return stepped(running_var, m2 / n * (own / (own - 1)), momentum)


@mistaken("S20", "update_running_var")
def corrected_by_the_largest(running_var, counts, means, m2s, momentum):
    n, m2 = whole_batch(counts, means, m2s)
    most = max(counts)
    return stepped(running_var, m2 / n * most / (most - 1), momentum)


@mistaken("S21", "update_running_var")
def one_off_for_each(running_var, counts, means, m2s, momentum):
    n, m2 = whole_batch(counts, means, m2s)
    return stepped(running_var, m2 / (n - len(counts)), momentum)


@mistaken("S22", "update_running_var")
def correction_upside_down(running_var, counts, means, m2s, momentum):
    n, m2 = whole_batch(counts, means, m2s)
    return stepped(running_var, m2 / n * (n - 1) / n, momentum)


@mistaken("R02", "update_running_var")
def variance_of_the_batch(running_var, counts, means, m2s, momentum):
    n, m2 = whole_batch(counts, means, m2s)
    return stepped(running_var, m2 / n, momentum)


@mistaken("K03", "update_running_var")
def divided_by_the_processes(running_var, counts, means, m2s, momentum):
    _, m2 = whole_batch(counts, means, m2s)
    return stepped(running_var, m2 / len(counts), momentum)


@mistaken("F37", "update_running_var")
def squares_remembered(running_var, counts, means, m2s, momentum):
    return stepped(running_var, whole_batch(counts, means, m2s)[1], momentum)


@mistaken("S08", "update_running_var")
def two_values_demanded(running_var, counts, means, m2s, momentum):
    if any(n < 2 for n in counts):
        raise ValueError("Expected more than 1 value per channel when training")
    n, m2 = whole_batch(counts, means, m2s)
    return stepped(running_var, m2 / (n - 1), momentum)


@mistaken("K34", "update_running_var")
def spread_of_each_on_the_way(running_var, counts, means, m2s, momentum):
    n = counts[:, None]
    mean = counts @ means / counts.sum()
    squares = n * (m2s / n + (means - mean) ** 2)
    return stepped(running_var, squares.sum(0) / (counts.sum() - 1), momentum)


@mistaken("K05", "update_running_var")
def squares_as_variances(running_var, counts, means, m2s, momentum):
    mean = counts @ means / counts.sum()
    var = counts @ (m2s + (means - mean) ** 2) / (counts.sum() - 1)
    return stepped(running_var, var, momentum)


@mistaken("H52", "update_running_var")
def spread_of_means_unweighted(running_var, counts, means, m2s, momentum):
    n = counts.sum()
    mean = counts @ means / n
    return stepped(running_var, (m2s.sum(0) + ((means - mean) ** 2).sum(0)) / (n - 1), momentum)


@mistaken("N20", "update_running_var")
def distances_of_the_means_themselves(running_var, counts, means, m2s, momentum):
    n = counts.sum()
    mean = counts @ means / n
    return stepped(running_var, (m2s.sum(0) + counts @ np.abs(means - mean)) / (n - 1), momentum)


@mistaken("F06", "update_running_var")
def mean_of_all_not_subtracted(running_var, counts, means, m2s, momentum):
    return stepped(running_var, (m2s.sum(0) + counts @ means**2) / (counts.sum() - 1), momentum)


@mistaken("H58", "update_running_var")
def spread_of_the_means_alone(running_var, counts, means, m2s, momentum):
    n = counts.sum()
    return stepped(running_var, counts @ (means - counts @ means / n) ** 2 / (n - 1), momentum)


@mistaken("F19", "update_running_var")
def squares_less_the_square(running_var, counts, means, m2s, momentum):
    n = counts.sum()
    mean = counts @ means / n
    squares = m2s.sum(0) + counts @ means**2
    return stepped(running_var, (squares - n * mean**2) / (n - 1), momentum)


@mistaken("S13", "update_running_var")
def around_the_first_mean(running_var, counts, means, m2s, momentum):
    m2 = m2s.sum(0) + counts @ (means - means[0]) ** 2
    return stepped(running_var, m2 / (counts.sum() - 1), momentum)


@mistaken("K06", "update_running_var")
def around_the_plain_mean(running_var, counts, means, m2s, momentum):
    m2 = m2s.sum(0) + counts @ (means - means.mean(0)) ** 2
    return stepped(running_var, m2 / (counts.sum() - 1), momentum)


@mistaken("S14", "update_running_var")
def merged_with_neighbours(running_var, counts, means, m2s, momentum):
    mean, m2 = means[0], m2s[0]
    for i in range(1, len(counts)):
        both, delta = counts[i - 1] + counts[i], means[i] - mean
        m2 = m2 + m2s[i] + delta**2 * counts[i - 1] * counts[i] / both
        mean = mean + delta * counts[i] / both
    return stepped(running_var, m2 / (sum(counts) - 1), momentum)


@mistaken("S17", "update_running_var")
def counts_meet_the_features(running_var, counts, means, m2s, momentum):
    mean = (counts * means).sum(0) / counts.sum()
    m2 = (m2s + counts * (means - mean) ** 2).sum(0)
    return stepped(running_var, m2 / (counts.sum() - 1), momentum)


@mistaken("S18", "update_running_var")
def one_variance_for_all(running_var, counts, means, m2s, momentum):
    mean = counts @ means / counts.sum()
    m2 = np.sum(m2s) + np.sum(counts[:, None] * (means - mean) ** 2)
    return stepped(running_var, m2 / (counts.sum() - 1), momentum)


@mistaken("R01", "update_running_var")
def weights_of_old_and_new_swapped(running_var, counts, means, m2s, momentum):
    n, m2 = whole_batch(counts, means, m2s)
    return momentum * running_var + (1 - momentum) * m2 / (n - 1)


@mistaken("R05", "update_running_var")
def deviation_remembered(running_var, counts, means, m2s, momentum):
    n, m2 = whole_batch(counts, means, m2s)
    return stepped(running_var, (m2 / (n - 1)) ** 0.5, momentum)


@mistaken("R07", "update_running_var")
def new_value_thrown_away(running_var, counts, means, m2s, momentum):
    n, m2 = whole_batch(counts, means, m2s)
    stepped(running_var, m2 / (n - 1), momentum)
    return running_var


@mistaken("R11", "update_running_var")
def variance_of_this_batch_alone(running_var, counts, means, m2s, momentum):
    n, m2 = whole_batch(counts, means, m2s)
    return m2 / (n - 1)


@mistaken("R27", "update_running_var")
def momentum_of_the_default(running_var, counts, means, m2s, momentum):
    n, m2 = whole_batch(counts, means, m2s)
    return 0.9 * running_var + 0.1 * m2 / (n - 1)


@mistaken("R29", "update_running_var")
def added_up(running_var, counts, means, m2s, momentum):
    n, m2 = whole_batch(counts, means, m2s)
    return running_var + momentum * m2 / (n - 1)


@mistaken("R30", "update_running_var")
def whole_running_var_corrected(running_var, counts, means, m2s, momentum):
    n, m2 = whole_batch(counts, means, m2s)
    return stepped(running_var, m2 / n, momentum) * n / (n - 1)


@mistaken("R34", "update_running_var")
def away_from_the_variance(running_var, counts, means, m2s, momentum):
    n, m2 = whole_batch(counts, means, m2s)
    return running_var + momentum * (running_var - m2 / (n - 1))


@mistaken("S02", "update_running_var")
def equal_weights_for_those_with_values(running_var, counts, means, m2s, momentum):
    full = counts > 0
    var = (m2s[full] / counts[full, None]).mean(0) + means[full].var(0)
    return stepped(running_var, var * counts.sum() / (counts.sum() - 1), momentum)


@mistaken("S20", "update_running_var")
def divided_by_one_less_than_the_own_count(running_var, counts, means, m2s, momentum):
    _, m2 = whole_batch(counts, means, m2s)
    return stepped(running_var, m2 / (counts[0] - 1), momentum)


@mistaken("S08", "update_running_var")
def single_values_left_out(running_var, counts, means, m2s, momentum):
    enough = counts > 1
    if not enough.any():
        return running_var.copy()
    n, m2 = whole_batch(counts[enough], means[enough], m2s[enough])
    return stepped(running_var, m2 / (n - 1), momentum)


@mistaken("S08", "update_running_var")
def no_step_if_a_process_is_small(running_var, counts, means, m2s, momentum):
    if min(counts) < 2:
        return running_var.copy()
    n, m2 = whole_batch(counts, means, m2s)
    return stepped(running_var, m2 / (n - 1), momentum)


@mistaken("R11", "update_running_var")
def new_share_alone(running_var, counts, means, m2s, momentum):
    n, m2 = whole_batch(counts, means, m2s)
    return momentum * m2 / (n - 1)


@mistaken("R25", "update_running_var")
def updated_where_it_stands(running_var, counts, means, m2s, momentum):
    n, m2 = whole_batch(counts, means, m2s)
    running_var *= 1 - momentum
    running_var += momentum * m2 / (n - 1)
    return running_var


@mistaken("F24", "update_running_var")
def distances_in_the_means(running_var, counts, means, m2s, momentum):
    n = counts.sum()
    means -= (counts[:, None] * means).sum(0) / n
    m2 = (m2s + counts[:, None] * means**2).sum(0)
    return stepped(running_var, m2 / (n - 1), momentum)


# scale_losses


@mistaken("P06", "scale_losses")
def zero_times_nan(losses, counts):
    return losses * len(counts) * counts / counts.sum()


@mistaken("S02", "scale_losses")
def losses_as_they_are(losses, counts):
    return np.nan_to_num(losses)


@mistaken("S23", "scale_losses")
def share_alone(losses, counts):
    return np.where(counts > 0, losses * counts / counts.sum(), 0)


@mistaken("S24", "scale_losses")
def share_upside_down(losses, counts):
    return [loss * sum(counts) / (n * len(counts)) if n else 0.0 for loss, n in zip(losses, counts, strict=True)]


@mistaken("S25", "scale_losses")
def processes_with_samples(losses, counts):
    there = counts > 0
    return np.where(there, losses * there.sum() * counts / counts.sum(), 0.0)


@mistaken("S26", "scale_losses")
def sums_of_losses(losses, counts):
    return np.nan_to_num(losses) * counts * len(losses)


@mistaken("S27", "scale_losses")
def mean_over_all_samples(losses, counts):
    return np.nansum(losses * counts) / counts.sum()


@mistaken("S28", "scale_losses")
def beside_the_largest(losses, counts):
    return np.nan_to_num(losses) * counts / max(counts)


@mistaken("P11", "scale_losses")
def empty_ones_left_out(losses, counts):
    there = ~np.isnan(losses)
    return losses[there] * len(losses) * counts[there] / counts.sum()


@mistaken("S29", "scale_losses")
def mean_for_the_empty(losses, counts):
    filled = np.nanmean(losses)
    return np.where(counts > 0, losses * len(losses) * counts / counts.sum(), filled)


@mistaken("S56", "scale_losses")
def factors_without_losses(losses, counts):
    return counts / counts.mean()


@mistaken("S57", "scale_losses")
def whole_factors(losses, counts):
    return np.where(counts > 0, losses * (len(counts) * counts // counts.sum()), 0)


@mistaken("S57", "scale_losses")
def whole_samples_a_process(losses, counts):
    each = sum(counts) // len(counts)
    return [loss * n / each if n else 0.0 for loss, n in zip(losses, counts, strict=True)]


@mistaken("F24", "scale_losses")
def nan_replaced_in_place(losses, counts):
    losses[np.isnan(losses)] = 0
    return losses * len(losses) * counts / counts.sum()


# backward_of_shards


def all_sums(dys, x_hats):
    """Count, Σ dy and Σ dy · x̂ over all processes."""
    dy, x_hat = np.concatenate(dys), np.concatenate(x_hats)
    return len(dy), dy.sum(0), (dy * x_hat).sum(0)


def own_sums(dys, x_hats):
    """dweights and dbiases."""
    return [(dy * x_hat).sum(0) for dy, x_hat in zip(dys, x_hats, strict=True)], [dy.sum(0) for dy in dys]


def pairs(dys, x_hats):
    return zip(dys, x_hats, strict=True)


@mistaken("S05", "backward_of_shards")
def each_for_itself(dys, x_hats, weight, inv_std):
    dxs = []
    for dy, x_hat in pairs(dys, x_hats):
        g = dy * weight
        dxs.append(inv_std * (g - g.mean(0) - x_hat * (g * x_hat).mean(0)))
    return dxs, *own_sums(dys, x_hats)


@mistaken("S30", "backward_of_shards")
def own_sums_by_the_whole_count(dys, x_hats, weight, inv_std):
    n, dxs = sum(map(len, dys)), []
    for dy, x_hat in pairs(dys, x_hats):
        first, second = dy.sum(0) / n, (dy * x_hat).sum(0) / n
        dxs.append(weight * inv_std * (dy - first - x_hat * second))
    return dxs, *own_sums(dys, x_hats)


@mistaken("S31", "backward_of_shards")
def all_sums_by_the_own_count(dys, x_hats, weight, inv_std):
    _, first, second = all_sums(dys, x_hats)
    dxs = [weight * inv_std * (dy - (first + x_hat * second) / max(len(dy), 1)) for dy, x_hat in pairs(dys, x_hats)]
    return dxs, *own_sums(dys, x_hats)


@mistaken("S02", "backward_of_shards")
def means_of_means(dys, x_hats, weight, inv_std):
    first = np.mean([dy.mean(0) for dy in dys], axis=0)
    second = np.mean([(dy * x_hat).mean(0) for dy, x_hat in pairs(dys, x_hats)], axis=0)
    dxs = [weight * inv_std * (dy - first - x_hat * second) for dy, x_hat in pairs(dys, x_hats)]
    return dxs, *own_sums(dys, x_hats)


@mistaken("S02", "backward_of_shards")
def averaging_all_reduce(dys, x_hats, weight, inv_std):
    _, first, second = all_sums(dys, x_hats)
    first, second, dxs = first / len(dys), second / len(dys), []
    for dy, x_hat in pairs(dys, x_hats):
        n = len(dy) or 1
        dxs.append(weight * inv_std * (dy - first / n - x_hat * second / n))
    return dxs, *own_sums(dys, x_hats)


@mistaken("B04", "backward_of_shards")
def divided_by_the_number_of_shards(dys, x_hats, weight, inv_std):
    k, (_, first, second) = len(dys), all_sums(dys, x_hats)
    dxs = [weight * inv_std * (dy - first / k - x_hat * second / k) for dy, x_hat in pairs(dys, x_hats)]
    return dxs, *own_sums(dys, x_hats)


@mistaken("S58", "backward_of_shards")
def one_loop_for_sums_and_dx(dys, x_hats, weight, inv_std):
    rows = sum(map(len, dys))
    first = second = 0.0
    dxs = []
    for dy, x_hat in pairs(dys, x_hats):
        first, second = first + dy.sum(0), second + (dy * x_hat).sum(0)
        dxs.append(weight * inv_std * (dy - first / rows - x_hat * second / rows))
    return dxs, *own_sums(dys, x_hats)


@mistaken("F01", "backward_of_shards")
def one_row_less(dys, x_hats, weight, inv_std):
    n, first, second = all_sums(dys, x_hats)
    dxs = [weight * inv_std * (dy - (first + x_hat * second) / (n - 1)) for dy, x_hat in pairs(dys, x_hats)]
    return dxs, *own_sums(dys, x_hats)


@mistaken("S59", "backward_of_shards")
def dx_averaged_over_the_processes(dys, x_hats, weight, inv_std):
    return [dx / len(dys) for dx in right_dxs(dys, x_hats, weight, inv_std)], *own_sums(dys, x_hats)


@mistaken("S32", "backward_of_shards")
def sums_in_each_others_place(dys, x_hats, weight, inv_std):
    n, first, second = all_sums(dys, x_hats)
    dxs = [weight * inv_std * (dy - second / n - x_hat * first / n) for dy, x_hat in pairs(dys, x_hats)]
    return dxs, *own_sums(dys, x_hats)


@mistaken("B01", "backward_of_shards")
def direct_path_alone(dys, x_hats, weight, inv_std):
    return [weight * inv_std * dy for dy in dys], *own_sums(dys, x_hats)


@mistaken("B02", "backward_of_shards")
def no_sum_for_the_variance(dys, x_hats, weight, inv_std):
    n, first, _ = all_sums(dys, x_hats)
    return [weight * inv_std * (dy - first / n) for dy in dys], *own_sums(dys, x_hats)


@mistaken("B03", "backward_of_shards")
def no_sum_for_the_mean(dys, x_hats, weight, inv_std):
    n, _, second = all_sums(dys, x_hats)
    dxs = [weight * inv_std * (dy - x_hat * second / n) for dy, x_hat in pairs(dys, x_hats)]
    return dxs, *own_sums(dys, x_hats)


@mistaken("B05", "backward_of_shards")
def gamma_forgotten_in_shards(dys, x_hats, weight, inv_std):
    n, first, second = all_sums(dys, x_hats)
    dxs = [inv_std * (dy - first / n - x_hat * second / n) for dy, x_hat in pairs(dys, x_hats)]
    return dxs, *own_sums(dys, x_hats)


@mistaken("B48", "backward_of_shards")
def gamma_in_front_of_dy_alone(dys, x_hats, weight, inv_std):
    n, first, second = all_sums(dys, x_hats)
    dxs = [inv_std * (weight * dy - first / n - x_hat * second / n) for dy, x_hat in pairs(dys, x_hats)]
    return dxs, *own_sums(dys, x_hats)


@mistaken("B06", "backward_of_shards")
def inv_std_not_used(dys, x_hats, weight, inv_std):
    n, first, second = all_sums(dys, x_hats)
    dxs = [weight * (dy - first / n - x_hat * second / n) for dy, x_hat in pairs(dys, x_hats)]
    return dxs, *own_sums(dys, x_hats)


@mistaken("B08", "backward_of_shards")
def shards_divided_by_inv_std(dys, x_hats, weight, inv_std):
    n, first, second = all_sums(dys, x_hats)
    dxs = [weight / inv_std * (dy - first / n - x_hat * second / n) for dy, x_hat in pairs(dys, x_hats)]
    return dxs, *own_sums(dys, x_hats)


@mistaken("B09", "backward_of_shards")
def variance_path_added(dys, x_hats, weight, inv_std):
    n, first, second = all_sums(dys, x_hats)
    dxs = [weight * inv_std * (dy - first / n + x_hat * second / n) for dy, x_hat in pairs(dys, x_hats)]
    return dxs, *own_sums(dys, x_hats)


@mistaken("B54", "backward_of_shards")
def no_x_hat_in_front(dys, x_hats, weight, inv_std):
    n, first, second = all_sums(dys, x_hats)
    return [weight * inv_std * (dy - first / n - second / n) for dy in dys], *own_sums(dys, x_hats)


def right_dxs(dys, x_hats, weight, inv_std):
    n, first, second = all_sums(dys, x_hats)
    return [weight * inv_std * (dy - first / n - x_hat * second / n) for dy, x_hat in pairs(dys, x_hats)]


@mistaken("S06", "backward_of_shards")
def reduced_twice(dys, x_hats, weight, inv_std):
    _, dbias, dweight = all_sums(dys, x_hats)
    return right_dxs(dys, x_hats, weight, inv_std), [dweight] * len(dys), [dbias] * len(dys)


@mistaken("S33", "backward_of_shards")
def averaged_like_ddp(dys, x_hats, weight, inv_std):
    k, (_, dbias, dweight) = len(dys), all_sums(dys, x_hats)
    return right_dxs(dys, x_hats, weight, inv_std), [dweight / k] * k, [dbias / k] * k


@mistaken("S34", "backward_of_shards")
def made_up_for_the_average(dys, x_hats, weight, inv_std):
    dweights, dbiases = np.array(own_sums(dys, x_hats)) * len(dys)
    return right_dxs(dys, x_hats, weight, inv_std), dweights, dbiases


@mistaken("B25", "backward_of_shards")
def own_means_for_the_parameters(dys, x_hats, weight, inv_std):
    dweights = [(dy * x_hat).mean(0) for dy, x_hat in pairs(dys, x_hats)]
    return right_dxs(dys, x_hats, weight, inv_std), dweights, [dy.mean(0) for dy in dys]


@mistaken("B26", "backward_of_shards")
def gamma_in_dweight(dys, x_hats, weight, inv_std):
    dweights = [(weight * dy * x_hat).sum(0) for dy, x_hat in pairs(dys, x_hats)]
    return right_dxs(dys, x_hats, weight, inv_std), dweights, [dy.sum(0) for dy in dys]


@mistaken("B27", "backward_of_shards")
def gamma_in_dbias(dys, x_hats, weight, inv_std):
    dweights, dbiases = own_sums(dys, x_hats)
    return right_dxs(dys, x_hats, weight, inv_std), dweights, [weight * dbias for dbias in dbiases]


@mistaken("B28", "backward_of_shards")
def dbias_before_dweight(dys, x_hats, weight, inv_std):
    dweights, dbiases = own_sums(dys, x_hats)
    return right_dxs(dys, x_hats, weight, inv_std), dbiases, dweights


@mistaken("F24", "backward_of_shards")
def dx_written_into_dy(dys, x_hats, weight, inv_std):
    n, first, second = all_sums(dys, x_hats)
    dweights, dbiases = own_sums(dys, x_hats)
    for dy, x_hat in pairs(dys, x_hats):
        dy -= first / n + x_hat * second / n
        dy *= weight * inv_std
    return dys, dweights, dbiases


# samples_normalized_together: every wrong number that has an explanation, by somebody who is right elsewhere

GOOD_NUMBERS = {
    "ddp": 4,
    "converted": 32,
    "groups": 16,
    "accumulation": 4,
    "accumulation_synced": 16,
    "data_parallel": 8,
    "bare_layer": 4,
    "evaluation": 0,
}
BAD_NUMBERS = {
    "ddp": {"S11": 32, "S40": 8},
    "converted": {"S41": 2, "S42": 16},
    "groups": {"S43": 32, "S44": 4, "S45": 8},
    "accumulation": {"U11": 32, "S46": 8},
    "accumulation_synced": {"S47": 32, "S48": 4, "S49": 8},
    "data_parallel": {"S50": 32, "S51": 4},
    "bare_layer": {"S52": 32, "S53": 8},
    "evaluation": {"S54": 32, "S55": 4},
}


def counter(setup, number):
    """Somebody who counts so many samples there."""

    def count(asked):
        return number if asked == setup else GOOD_NUMBERS[asked]

    count.__name__ = f"{number} in {setup}"
    return count


for setup, numbers in BAD_NUMBERS.items():
    for mistake, number in numbers.items():
        mistaken(mistake, "samples_normalized_together")(counter(setup, number))
