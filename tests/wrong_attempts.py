"""Twenty wrong attempts, written as beginners write them, and what the checks tell their authors.

python tests/wrong_attempts.py writes the transcript that the book shows; tests/test_wrong_attempts.py compares.
"""

import inspect
import os
import re
import tempfile
from pathlib import Path

import numpy as np

from bncourse import reference
from bncourse.checks import check

TRANSCRIPT = Path(__file__).parent.parent / "book" / "results" / "wrong_attempts.txt"
SEED = 1
ATTEMPTS = []


def attempt(exercise):
    """Put a function on the list."""

    def register(function):
        ATTEMPTS.append((exercise, function))
        return function

    return register


@attempt("batch_norm_forward")
def divided_by_n_minus_1(x, weight, bias, eps):
    mean = x.mean(axis=0)
    std = x.std(axis=0, ddof=1)
    return weight * (x - mean) / np.sqrt(std**2 + eps) + bias


@attempt("batch_norm_forward")
def epsilon_after_the_root(x, weight, bias, eps):
    return weight * (x - x.mean(0)) / (np.std(x, axis=0) + eps) + bias


@attempt("batch_norm_forward")
def two_at_once(x, weight, bias, eps):
    x_hat = (x - x.mean(0)) / np.sqrt(x.var(0, ddof=1) + eps)
    return bias * x_hat + weight


@attempt("batch_norm_forward")
def forgot_to_return(x, weight, bias, eps):
    x_hat = (x - x.mean(0)) / np.sqrt(x.var(0) + eps)
    weight * x_hat + bias


@attempt("batch_norm_forward")
def misspelt(x, weight, bias, eps):
    mean = x.mean(0)  # noqa: F841
    return weight * (x - maen) / np.sqrt(x.var(0) + eps) + bias  # noqa: F821


@attempt("batch_norm_forward")
def in_place(x, weight, bias, eps):
    x -= x.mean(axis=0)
    return weight * x / np.sqrt((x**2).mean(axis=0) + eps) + bias


@attempt("batch_norm_forward")
def shortcut(x, weight, bias, eps):
    mean = x.mean(0)
    var = (x**2).mean(0) - mean**2
    return weight * (x - mean) / np.sqrt(var + eps) + bias


@attempt("batch_norm_forward")
def never_ends(x, weight, bias, eps):
    y = np.zeros_like(x)
    n = 0
    while n < len(x):
        y[n] = weight * (x[n] - x.mean(0)) / np.sqrt(x.var(0) + eps) + bias
    return y


@attempt("batch_norm_forward")
def uses_the_course(x, weight, bias, eps):
    y, _ = reference.batch_norm_forward(x, weight, bias, eps=eps)
    return y


@attempt("normalize_channels")
def each_sample_alone(x, eps):
    axes = tuple(range(2, x.ndim))
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


@attempt("batch_norm_forward_images")
def lost_axes(x, weight, bias, eps):
    x_hat = (x - x.mean((0, 2, 3))) / np.sqrt(x.var((0, 2, 3)) + eps)
    return weight[:, None, None] * x_hat + bias[:, None, None]


@attempt("batch_norm_forward_images")
def reshaped_without_moving(x, weight, bias, eps):
    rows = x.reshape(x.shape[1], -1)
    mean, var = rows.mean(1, keepdims=True), rows.var(1, keepdims=True)
    y = weight[:, None] * (rows - mean) / np.sqrt(var + eps) + bias[:, None]
    return y.reshape(x.shape)


@attempt("stable_variance")
def squares_first(x):
    return (x * x).mean(0) - x.mean(0) ** 2


@attempt("batch_norm_backward_nodes")
def sign_of_the_root(dy, x, weight, eps):
    mean = x.mean(0)
    u = x - mean
    inv_std = 1 / np.sqrt((u**2).mean(0) + eps)
    x_hat = u * inv_std
    dx_hat = weight * dy
    dinv_std = (dx_hat * u).sum(0)
    dvar = 0.5 * inv_std**3 * dinv_std
    du = dx_hat * inv_std + 2 * u * dvar / len(x)
    dmean = -du.sum(0)
    dx = du + dmean / len(x)
    gradients = {"dbias": dy.sum(0), "dweight": (dy * x_hat).sum(0), "dx_hat": dx_hat}
    return gradients | {"dinv_std": dinv_std, "dvar": dvar, "du": du, "dmean": dmean, "dx": dx}


@attempt("batch_norm_backward")
def statistics_as_constants(dy, x, weight, eps):
    inv_std = 1 / np.sqrt(x.var(0) + eps)
    x_hat = (x - x.mean(0)) * inv_std
    return dy * weight * inv_std, (dy * x_hat).sum(0), dy.sum(0)


@attempt("batch_norm_backward")
def no_gamma_and_swapped(dy, x, weight, eps):
    inv_std = 1 / np.sqrt(x.var(0) + eps)
    x_hat = (x - x.mean(0)) * inv_std
    dx = inv_std * (dy - dy.mean(0) - x_hat * (dy * x_hat).mean(0))
    return dx, dy.sum(0), (dy * x_hat).sum(0)


@attempt("batch_norm_backward")
def half_of_it(dy, x, weight, eps):
    inv_std = 1 / np.sqrt(x.var(0) + eps)
    x_hat = (x - x.mean(0)) * inv_std
    dx_hat = dy * weight
    dx = inv_std * (dx_hat - 0.9 * dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0))
    return dx, (dy * x_hat).sum(0), dy.sum(0)


@attempt("update_running_stats")
def momentum_the_other_way(x, running_mean, running_var, momentum):
    mean = x.mean((0, 2, 3))
    var = x.var((0, 2, 3), ddof=1)
    return momentum * running_mean + (1 - momentum) * mean, momentum * running_var + (1 - momentum) * var


@attempt("batch_norm_eval")
def statistics_of_the_batch(x, weight, bias, running_mean, running_var, eps):
    mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    return weight.reshape(1, -1, 1, 1) * (x - mean) / np.sqrt(var + eps) + bias.reshape(1, -1, 1, 1)


@attempt("batch_norm_eval_backward")
def gradient_of_training(dy, x, weight, running_mean, running_var, eps):
    w, mean, var = (a.reshape(1, -1, 1, 1) for a in (weight, running_mean, running_var))
    x_hat = (x - mean) / np.sqrt(var + eps)
    dx_hat, axes = dy * w, (0, 2, 3)
    centred = dx_hat - dx_hat.mean(axes, keepdims=True)
    dx = (centred - x_hat * (dx_hat * x_hat).mean(axes, keepdims=True)) / np.sqrt(var + eps)
    return dx, (dy * x_hat).sum(axes), dy.sum(axes)


def transcript() -> str:
    """Every attempt with what its author is told."""
    return "\n\n".join(f"{_code(function)}\n{_told(exercise, function)}" for exercise, function in ATTEMPTS)


def _told(exercise: str, function) -> str:
    """The report, with lines counted from the function's first, as in a cell of its own."""
    first = inspect.getsourcelines(function)[1]  # the decorator's
    text = re.sub("  # noqa.*", "", str(check(exercise, function, seed=SEED)))
    return re.sub(r"in your line (\d+)", lambda line: f"in your line {int(line[1]) - first}", text)


def _code(function) -> str:
    """The function as its author sees it, in the notebook's cell."""
    lines = (line for line in inspect.getsourcelines(function)[0] if not line.startswith("@"))
    return re.sub("  # noqa.*", "", "".join(lines))


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())  # a check writes progress into its working directory
    TRANSCRIPT.write_text(transcript() + "\n", encoding="utf-8")
    print(TRANSCRIPT.read_text(encoding="utf-8"))
