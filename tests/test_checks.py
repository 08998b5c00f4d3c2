"""The checks themselves: verdicts, structure, names, help, limits and the parametrised implementations."""

import functools
import inspect
import re
import sys
import time
import tracemalloc
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.utils import fuse_conv_bn_weights

from bncourse import blocked, functional, layers, reference
from bncourse.checks import (
    EXERCISES,
    chapter_05,
    chapter_08,
    chapter_10,
    chapter_12,
    check,
    exercise_named,
    fresh_probe,
)
from bncourse.checks.compare import all_same, deviations
from bncourse.checks.exercise import Mistake, Operation, Probe, step
from bncourse.checks.limits import OutOfTime, time_limit
from bncourse.checks.observe import observe

every_exercise = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda exercise: exercise.id)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Checks write progress beside the notebook."""
    monkeypatch.chdir(tmp_path)


def right(x, weight, bias, eps):
    """Batch norm of a table."""
    return weight * (x - x.mean(0)) / np.sqrt(x.var(0) + eps) + bias


def report_on(function, exercise="batch_norm_forward"):
    return check(exercise, function, seed=7)


# The parametrised implementations are right when no switch is on


def torch_batch_norm(x, weight, bias, eps):
    x, weight, bias = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, weight, bias))
    return torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True, eps=eps), (x, weight, bias)


def truth(exercise, inputs):
    """The right outputs of an exercise by PyTorch, or None where PyTorch has no such function."""
    given = {name: np.array(value) if isinstance(value, np.ndarray) else value for name, value in inputs.items()}
    x, eps = given.get("x"), given.get("eps")
    if exercise in ("batch_norm_forward", "batch_norm_forward_images", "batch_norm_half"):
        return [torch_batch_norm(x, given["weight"], given["bias"], eps)[0]]
    if exercise == "normalize_channels":
        ones = np.ones(x.shape[1])
        return [torch_batch_norm(x, ones, 0 * ones, eps)[0]]
    if exercise in ("batch_norm_backward", "batch_norm_backward_images"):
        y, leaves = torch_batch_norm(x, given["weight"], 0 * given["weight"], eps)
        return torch.autograd.grad(y, leaves, torch.tensor(given["dy"], dtype=torch.float64))
    if exercise == "stable_variance":
        return [torch.tensor(x, dtype=torch.float64).var(0, unbiased=False)]
    if exercise == "accurate_statistics":
        return torch.var_mean(torch.tensor(x, dtype=torch.float64), dim=0, correction=0)[::-1]
    if exercise in ("update_running_stats", "cumulative_average"):
        return running_truth(given)
    if exercise == "BatchNormFunction":
        y, leaves = torch_batch_norm(x, given["weight"], given["bias"], eps)
        grads = torch.autograd.grad(y, leaves, torch.tensor(given["dy"], dtype=torch.float64))
        return [y, *grads, torch.tensor(0)]
    if exercise == "masked_batch_norm":
        y, there = torch.zeros(x.shape, dtype=torch.float64), torch.tensor(given["mask"])
        y[there] = torch_batch_norm(x[given["mask"]], given["weight"], given["bias"], eps)[0]
        return [y]
    if exercise.startswith(("layer_norm", "group_norm", "instance_norm", "rms_norm")):
        return family_truth(exercise.removesuffix("_forward").removesuffix("_backward"), given)
    if exercise == "blocked_statistics":
        var, mean = torch.var_mean(torch.tensor(x, dtype=torch.float64), dim=(0, 2), correction=0)
        return [mean, var, torch.tensor(1.0), torch.tensor(1.0)]
    if exercise == "normalize_into":
        given = {name: value.astype(float) for name, value in given.items()}
        running = {"running_mean": given["mean"], "running_var": given["inv_std"] ** -2, "eps": 0.0}
        return [evaluate(given | running)[0], *torch.ones(3)]
    if exercise.endswith("_kernel"):
        values = [*map(torch.as_tensor, kernel_truth(exercise, given))]
        facts = EXERCISES[exercise].outputs[len(values) :]
        return values + [torch.tensor(float(name == "no_atomics")) for name in facts]
    if exercise in ("merge_statistics", "merge_many", "update_running_var"):
        return merged_truth(given)
    if exercise == "backward_of_shards":
        return shards_truth(given)
    if exercise == "batch_norm_eval":
        return [evaluate(given)[0]]
    if exercise == "batch_norm_eval_backward":
        y, leaves = evaluate({**given, "bias": 0 * given["weight"]})
        return torch.autograd.grad(y, leaves, torch.tensor(given["dy"]))
    if exercise == "fold_batch_norm":
        names = ("weight", "bias", "running_mean", "running_var", "bn_weight", "bn_bias")
        *layer, gamma, beta = (None if given[name] is None else torch.tensor(given[name]) for name in names)
        return fuse_conv_bn_weights(*layer, eps, gamma, beta)
    return None


def kernel_truth(exercise, given):
    """What a kernel leaves in its outputs."""
    if exercise == "row_offsets_kernel":
        rows, columns = given["shape"]
        return [np.arange(rows)[:, None] * given["stride"] + np.arange(columns, dtype=float)]
    if exercise == "channel_sums_kernel":
        x = torch.as_strided(torch.tensor(given["memory"], dtype=torch.float64), given["shape"], given["strides"])
        return [x.sum((0, 2))]
    given = {name: torch.tensor(value, dtype=torch.float64) for name, value in given.items()}
    if exercise == "merge_partials_kernel":
        mean = (given["count"] * given["mean"]).sum(0) / given["count"].sum(0)
        mean_square = (given["m2"] + given["count"] * given["mean"] ** 2).sum(0) / given["count"].sum(0)
        return [mean, mean_square - mean**2]
    x = given["x"]
    if exercise == "gradient_sums_kernel":
        x_hat = (x - given["mean"]) * given["inv_std"]
        parts = zip(given["dy"].split(int(given["rows"])), x_hat.split(int(given["rows"])), strict=True)
        return map(torch.stack, zip(*(((dy * part).sum(0), dy.sum(0)) for dy, part in parts), strict=True))
    return [x.mean(1), x.var(1, correction=0)][: 2 if exercise == "masked_mean_kernel" else 1]


def merged_truth(given):
    """Count, mean and M2, or the running variance, of data that have the statistics of these parts."""
    if "count_a" in given:
        given = {f"{name}s": np.stack([given[f"{name}_{side}"] for side in "ab"]) for name in ("count", "mean", "m2")}
    parts = []
    for count, mean, m2 in zip(given["counts"], given["means"], given["m2s"], strict=True):
        part = np.tile(mean.astype(float), (int(count), 1))
        part[:2] += np.sqrt(m2 / 2) * np.array([[1.0], [-1.0]])[: int(count)]
        parts.append(torch.tensor(part))
    x = torch.cat(parts)
    if "running_var" in given:
        layer = torch.nn.BatchNorm1d(x.shape[1], momentum=given["momentum"], dtype=torch.float64)
        layer.running_var.copy_(torch.tensor(given["running_var"]))
        layer(x)
        return [layer.running_var]
    var, mean = torch.var_mean(x, dim=0, correction=0)
    return [torch.tensor(len(x)), mean, len(x) * var]


def shards_truth(given):
    """Gradients of the whole batch, with a γ and a β for each process."""
    sizes = torch.tensor(given["sizes"])
    x = torch.tensor(given["x_hats"] / given["inv_std"], requires_grad=True)
    eps = (given["inv_std"] ** -2 - x.var(0, correction=0).detach().numpy()).mean()
    weights = torch.tensor(given["weight"]).repeat(len(sizes), 1).requires_grad_()
    biases = torch.zeros_like(weights).requires_grad_()
    x_hats = torch.nn.functional.batch_norm(x, None, None, training=True, eps=eps).split(given["sizes"])
    y = torch.cat([w * x_hat + b for w, x_hat, b in zip(weights, x_hats, biases, strict=True)])
    dx, dweights, dbiases = torch.autograd.grad(y, (x, weights, biases), torch.tensor(given["dys"]))
    return torch.nn.utils.rnn.pad_sequence(dx.split(given["sizes"]), batch_first=True), dweights, dbiases


def family_truth(norm, given):
    """The output of another norm than batch norm, or if dy is given its gradients."""
    names = ("x", "weight", "bias") if norm != "rms_norm" else ("x", "weight")
    given = {"bias": 0 * given["weight"], **given}
    x, *params = leaves = [torch.tensor(given[name], dtype=torch.float64, requires_grad=True) for name in names]
    function, eps = getattr(torch.nn.functional, norm), given["eps"]
    if norm == "instance_norm":
        y = function(x, weight=params[0], bias=params[1], eps=eps)
    else:
        y = function(x, given.get("num_groups", given["weight"].shape), *params, eps)
    return [y] if "dy" not in given else torch.autograd.grad(y, leaves, torch.tensor(given["dy"], dtype=torch.float64))


def running_truth(given):
    layer = torch.nn.BatchNorm2d(given["x"].shape[1], momentum=given.get("momentum"), dtype=torch.float64)
    layer.running_mean.copy_(torch.tensor(given["running_mean"]))
    layer.running_var.copy_(torch.tensor(given["running_var"]))
    layer.num_batches_tracked.fill_(given.get("num_batches_tracked", 0))
    layer(torch.tensor(given["x"], dtype=torch.float64))
    counter = [layer.num_batches_tracked] if "num_batches_tracked" in given else []
    return [layer.running_mean, layer.running_var, *counter]


def evaluate(given):
    x, weight, bias = (torch.tensor(given[n], requires_grad=True) for n in ("x", "weight", "bias"))
    running = torch.tensor(given["running_mean"]), torch.tensor(given["running_var"])
    return torch.nn.functional.batch_norm(x, *running, weight, bias, eps=given["eps"]), (x, weight, bias)


@every_exercise
def test_without_mistakes_an_operation_agrees_with_pytorch(exercise):
    for probe in [*exercise.probes, fresh_probe(exercise, 3)]:
        expected = truth(exercise.id, probe.inputs)
        if expected is None:
            continue
        outputs = exercise.expected(probe)
        for name, value in zip(exercise.outputs, expected, strict=True):
            np.testing.assert_allclose(outputs[name], value.detach().numpy(), rtol=1e-5, atol=1e-7, err_msg=probe.name)


def test_every_node_agrees_with_autograd():
    exercise = exercise_named("batch_norm_backward_nodes")
    for probe in exercise.probes:
        given = {n: torch.tensor(v, dtype=torch.float64) for n, v in probe.inputs.items() if n != "eps"}
        x, weight, bias = given["x"].requires_grad_(), given["weight"].requires_grad_(), torch.zeros(1, dtype=float)
        bias = bias.expand(len(weight)).clone().requires_grad_()
        mean = x.mean(0)
        u = x - mean
        var = (u**2).mean(0)
        inv_std = (var + probe.inputs["eps"]) ** -0.5
        x_hat = u * inv_std
        values = {"dbias": bias, "dweight": weight, "dx_hat": x_hat, "dinv_std": inv_std, "dvar": var}
        values |= {"du": u, "dmean": mean, "dx": x}
        grads = torch.autograd.grad(weight * x_hat + bias, values.values(), given["dy"])
        expected = {name: grad.numpy() for name, grad in zip(values, grads, strict=True)}
        assert all_same(exercise.expected(probe), expected, probe), probe.name


def test_pytorchs_own_layer_does_what_the_operation_says(monkeypatch):
    monkeypatch.setattr(chapter_05, "by_hand", lambda part: nullcontext())
    monkeypatch.setattr(chapter_05, "_refuse_heirs", lambda answer: None)
    exercise = exercise_named("BatchNorm1d")
    for probe in [*exercise.probes, *(fresh_probe(exercise, seed) for seed in range(9))]:
        outputs = exercise.drive(torch.nn.BatchNorm1d, probe.copy_of_inputs())
        got = {name: np.asarray(value) for name, value in outputs.items()}
        assert all_same(got, exercise.expected(probe), probe), probe.name


def test_steps_of_welford_add_up_to_the_variance():
    rows = np.random.default_rng(0).normal(3, 2, (20, 4))
    state = {"count": 0, "mean": np.zeros(4), "m2": np.zeros(4)}
    for row in rows:
        state = dict(
            zip(state, exercise_named("welford_step").operation.run({**state, "x": row}).values(), strict=True)
        )
    var, mean = torch.var_mean(torch.tensor(rows), dim=0)
    np.testing.assert_allclose(state["mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(state["m2"] / (state["count"] - 1), var, rtol=1e-12)


@pytest.mark.parametrize(("framework", "expected"), [("pytorch", 0.1), ("keras", 0.9), ("flax", 0.9), ("onnx", 0.9)])
def test_momentum_is_converted(framework, expected):
    operation = exercise_named("pytorch_momentum").operation
    assert operation.run({"momentum": 0.1, "framework": framework})["result"] == pytest.approx(expected)


# What an exercise is made of


@every_exercise
def test_mistakes_replace_steps_that_exist_and_speak_in_sentences(exercise):
    assert len({mistake.id for mistake in exercise.mistakes}) == len(exercise.mistakes)
    for mistake in exercise.mistakes:
        assert mistake.forms
        for form in mistake.forms:
            assert form.keys() <= exercise.operation.steps(), mistake.id
        assert mistake.says.endswith((".", ".)", "?)")) and mistake.asks.endswith("?"), mistake.id
    for probe in exercise.probes:
        assert probe.reason.endswith(".") and tuple(probe.inputs) == exercise.parameters
    assert 2 <= len(exercise.hints) <= 3


@every_exercise
def test_fresh_data_has_the_parameters_and_differs_from_seed_to_seed(exercise):
    one, other = fresh_probe(exercise, 1).inputs, fresh_probe(exercise, 2).inputs
    assert tuple(one) == tuple(other) == exercise.parameters
    assert repr(one) != repr(other)
    assert repr(one) == repr(fresh_probe(exercise, 1).inputs)


@every_exercise
def test_signature_of_the_text_is_that_of_the_probes(exercise):
    if exercise.drive:  # what the inputs are turned into is no list of parameters
        assert exercise.container == "dict"
        return
    assert exercise.signature.startswith(f"({', '.join(exercise.parameters)}) -> ")


class Halves(Operation):
    outputs = ("total",)

    @step
    def half(s):
        return s.x / 2

    @step
    def total(s):
        return s.half + s.half


def test_steps_can_be_replaced_one_by_one():
    x = np.array([2.0, 4.0])
    assert (Halves.run({"x": x})["total"] == x).all()
    assert (Halves.run({"x": x}, {"half": lambda s: s.x})["total"] == 2 * x).all()
    assert Halves.steps() == {"half", "total"}


# Verdicts


def test_right_answer_is_correct_and_names_the_seed():
    report = report_on(right)
    assert (report.verdict, report.mistakes, report.seed) == ("correct", (), 7)
    assert "seed 7" in report.message
    assert check("batch_norm_forward", right).seed != check("batch_norm_forward", right).seed


def test_stub_is_not_attempted_and_shows_no_traceback():
    def stub(x, weight, bias, eps):
        raise NotImplementedError

    report = report_on(stub)
    assert (report.verdict, report.details) == ("not attempted", "")


def test_unknown_exercise_is_an_error_with_a_suggestion():
    with pytest.raises(ValueError, match="Did you mean 'batch_norm_forward'"):
        check("batch_norm_foward", right)


def test_fresh_data_decides_but_does_not_name():
    """An answer that knows the fixed shapes by heart."""
    shapes = {probe.inputs["x"].shape for probe in EXERCISES["batch_norm_forward"].probes}

    def by_heart(x, weight, bias, eps):
        return right(x, weight, bias, eps) if x.shape in shapes else x

    report = check("batch_norm_forward", by_heart, seed=1)
    assert (report.verdict, report.mistakes) == ("incorrect", ())
    assert "seed 1" in report.message and "fixed inputs" in report.message


# Structure before numbers


def raising(x, weight, bias, eps):
    return x @ np.ones(17)


STRUCTURE = {
    "raised": (raising, "return x @ np.ones(17)"),
    "nothing": (lambda x, weight, bias, eps: None, "returns nothing"),
    "list": (lambda x, weight, bias, eps: right(x, weight, bias, eps).tolist(), "a list"),
    "tensor": (lambda x, weight, bias, eps: torch.tensor(right(x, weight, bias, eps)), "torch.Tensor"),
    "shape": (lambda x, weight, bias, eps: right(x, weight, bias, eps)[None], "has the shape (1, 5, 3)"),
    "half": (lambda x, weight, bias, eps: right(x, weight, bias, eps).astype(np.float16), "float16"),
    "whole": (lambda x, weight, bias, eps: right(x, weight, bias, eps).astype(int), "Integers cannot hold"),
    "NaN": (lambda x, weight, bias, eps: right(x, weight, bias, eps) * np.nan, "contains NaN"),
    "parameters": (lambda x, eps: x, "the exercise takes (x, weight, bias, eps)"),
    "called": (np.zeros(3), "Pass it without parentheses"),
    "exit": (lambda x, weight, bias, eps: sys.exit(), "SystemExit"),
    "two": (lambda x, weight, bias, eps: (right(x, weight, bias, eps), 1), "Expected y alone, got 2 values."),
}


@pytest.mark.parametrize(("function", "says"), STRUCTURE.values(), ids=STRUCTURE)
def test_structure_has_a_message_of_its_own(function, says):
    report = report_on(function)
    assert report.verdict == "incorrect"
    assert says in report.message


def test_raised_error_shows_the_learners_line_and_folds_the_traceback():
    report = report_on(raising)
    line = inspect.getsourcelines(raising)[1] + 1
    assert f"in your line {line}: return x @ np.ones(17)" in report.message
    assert "Traceback" not in report.message and "np.ones(17)" in report.details
    assert "<details>" in report._repr_html_()


def raises(compute):
    """A function that fails in the line that is given."""
    return lambda x, weight, bias, eps: compute(x)


ALIGNED = {
    "a sum": (lambda x: x + np.ones(2), True),
    "an assignment": (lambda x: x.__setitem__(0, np.ones(2)), True),
    "too few letters": (lambda x: np.einsum("nc->c", x[None]), False),
    "axes of other lengths": (lambda x: np.einsum("nc,nd->n", x, x[:2]), False),
}


@pytest.mark.parametrize(("compute", "helps"), ALIGNED.values(), ids=ALIGNED)
def test_how_shapes_align_is_told_where_they_are_aligned(compute, helps):
    message = report_on(raises(compute)).message
    assert "raised ValueError" in message
    assert ("aligns shapes from the right" in message) is helps


def test_changed_input_is_seen_although_the_values_are_right():
    def in_place(x, weight, bias, eps):
        x -= x.mean(0)
        return right(x, weight, bias, eps)

    report = report_on(in_place)
    assert (report.verdict, report.mistakes) == ("incorrect", ("F24",))
    assert "changed its input x" in report.message
    assert "properties" not in report.message and "Apart from that, all values are right." in report.message


def test_memory_between_calls_is_seen():
    calls = []

    def remembers(x, weight, bias, eps):
        calls.append(1)
        return right(x, weight, bias, eps) + (len(calls) > len(EXERCISES["batch_norm_forward"].probes) + 1)

    report = report_on(remembers)
    assert report.verdict == "incorrect" and "second call" in report.message


def courses_forward(module):
    """An answer to ``batch_norm_forward`` by the course."""
    return lambda x, weight, bias, eps: module.batch_norm_forward(x, weight, bias, eps=eps)[0]


def courses_backward(module):
    """An answer to ``batch_norm_backward`` whose forward pass nobody sees."""
    seen = {}
    for probe in EXERCISES["batch_norm_backward"].probes:
        _, x, weight, eps = probe.inputs.values()
        seen[x.tobytes()] = module.batch_norm_forward(x, weight, eps=eps)[1]
    return lambda dy, x, weight, eps: module.batch_norm_backward(dy, seen[x.tobytes()])


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("module", [reference, blocked])
@pytest.mark.parametrize("make", [courses_forward, courses_backward])
def test_the_courses_own_answer_is_recognized(wrapped, module, make):
    course, exercise = make(module), make.__name__.replace("courses", "batch_norm")
    answer = (lambda *inputs: course(*inputs)) if wrapped else course
    report = report_on(answer, exercise)
    assert report.verdict == "incorrect"
    assert f"{module.__name__}.{exercise}" in report.message, report


def blocked_into(x, mean, inv_std, weight, bias, out):
    running_var = inv_std**-2
    return blocked.batch_norm_forward(x, weight, bias, mean, running_var, training=False, eps=0.0, out=out)[0]


def steps_of_the_blocks(x, block):
    return tuple(chapter_08.blocks.Blocked.run({"x": np.asarray(x), "block": block}).values())[:2]


@pytest.mark.parametrize(
    ("exercise", "answer", "says"),
    [
        ("normalize_into", blocked_into, "bncourse.blocked.batch_norm_forward"),
        ("blocked_statistics", steps_of_the_blocks, "bncourse.checks.exercise.Operation.run"),
    ],
)
def test_the_courses_own_answer_is_recognized_where_an_exercise_has_a_driver(exercise, answer, says):
    assert f"Your function calls {says}" in report_on(answer, exercise).message


def test_prints_are_shown_once_and_a_flood_is_cut(capsys):
    def talkative(x, weight, bias, eps):
        print("the mean is", x.mean(0))
        return right(x, weight, bias, eps)

    report_on(talkative)
    assert capsys.readouterr().out.count("the mean is") == 1

    def flood(x, weight, bias, eps):
        for _ in range(10_000):
            print("again and again")

    report_on(flood)
    printed = capsys.readouterr().out
    assert len(printed) < 6000 and printed.count("is left out") == 1


def test_profiler_of_the_caller_is_restored():
    def profiler(*_):
        return None

    sys.setprofile(profiler)
    try:
        report_on(right)
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)


def test_a_stub_for_some_inputs_is_an_attempt():
    def half_done(x, weight, bias, eps):
        if len(x) != len(EXERCISES["batch_norm_forward"].probes[0].inputs["x"]):
            raise NotImplementedError
        return right(x, weight, bias, eps)

    assert report_on(half_done).verdict == "incorrect"


def test_a_stub_behind_a_decorator_is_a_stub():
    def batch_norm_forward(x, weight, bias, eps):
        raise NotImplementedError

    @functools.wraps(batch_norm_forward)
    def wrapper(*args, **kwargs):
        return batch_norm_forward(*args, **kwargs)

    assert report_on(wrapper).verdict == "not attempted"


def test_error_on_the_second_call_is_told():
    seen = set()

    def once(x, weight, bias, eps):
        key = x.tobytes() + repr(eps).encode()
        if key in seen:
            raise RuntimeError("seen before")
        seen.add(key)
        return right(x, weight, bias, eps)

    report = report_on(once)
    assert report.verdict == "incorrect" and "seen before" in report.message


CALLS = {
    "other names": lambda a, b, c, d: right(a, b, c, d),
    "other order": lambda eps, bias, weight, x: right(x, weight, bias, eps),
    "wrapper": lambda *args: right(*args),
    "by keyword": lambda **inputs: right(**inputs),
    "more with defaults": lambda x, weight, bias, eps, axis=0: right(x, weight, bias, eps),
}


@pytest.mark.parametrize("function", CALLS.values(), ids=CALLS)
def test_function_may_name_and_order_its_parameters_as_it_likes(function):
    assert report_on(function).verdict == "correct"


def test_outputs_may_be_stacked_and_missing_keys_are_told():
    def stacked(x, running_mean, running_var, momentum):
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)
        return np.stack([running_mean + momentum * (mean - running_mean), running_var + momentum * (var - running_var)])

    assert report_on(stacked, "update_running_stats").verdict == "correct"
    report = report_on(lambda dy, x, weight, eps: {"dgamma": 1.0}, "batch_norm_backward_nodes")
    assert "lacks the keys dbias, dweight" in report.message and "instead: dgamma" in report.message


class Rude(BaseException):
    def __str__(self):
        raise RuntimeError


def test_no_error_of_a_learner_escapes():
    def rude(x, weight, bias, eps):
        raise Rude

    assert "Your function raised Rude" in report_on(rude).message


def test_user_can_stop_a_check():
    def stopped(x, weight, bias, eps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report_on(stopped)
    assert sys.getprofile() is None


def test_fresh_data_is_compared_with_a_tolerance_that_no_mistake_passes():
    fixed = {probe.inputs["x"].tobytes() for probe in EXERCISES["batch_norm_forward"].probes}

    def nearly(x, weight, bias, eps):
        return right(x, weight, bias, eps) * (1 if x.tobytes() in fixed else 1.005)

    assert report_on(nearly).verdict == "incorrect"


# Answers that are classes


class Function(torch.autograd.Function):
    """A right answer to BatchNormFunction."""

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        std = torch.sqrt(x.var(0, correction=0) + eps)
        x_hat = (x - x.mean(0)) / std
        ctx.save_for_backward(x_hat, std, weight)
        return weight * x_hat + bias

    @staticmethod
    def backward(ctx, dy):
        x_hat, std, weight = ctx.saved_tensors
        dx_hat = dy * weight
        dx = (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0)) / std
        return dx, (dy * x_hat).sum(0), dy.sum(0), None


class Layer(torch.nn.Module):
    """A right answer to BatchNorm1d."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(num_features))
        self.bias = torch.nn.Parameter(torch.zeros(num_features))
        for name, start in (("running_mean", torch.zeros), ("running_var", torch.ones)):
            self.register_buffer(name, start(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))
        self.eps, self.momentum = eps, momentum

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            self.num_batches_tracked += 1
            share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            self.running_mean = torch.lerp(mean, x.detach().mean(0), share)
            self.running_var = torch.lerp(var, x.detach().var(0), share)
            mean, var = x.mean(0), x.var(0, correction=0)
        return self.weight * (x - mean) / torch.sqrt(var + self.eps) + self.bias


def variant(base, **methods):
    """The class with some methods replaced."""
    static = staticmethod if base is Function else lambda method: method
    return type(base)(base.__name__, (base,), {name: static(method) for name, method in methods.items()})


def stub(*arguments, **options):
    raise NotImplementedError


def report_on_class(answer):
    return report_on(answer, "BatchNormFunction" if isinstance(answer, type(Function)) else "BatchNorm1d")


def test_right_classes_are_correct():
    assert report_on_class(Function).verdict == report_on_class(Layer).verdict == "correct"


def test_right_classes_are_correct_where_the_default_is_float64():
    torch.set_default_dtype(torch.float64)
    try:
        assert report_on_class(Function).verdict == report_on_class(Layer).verdict == "correct"
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


class Untouched(torch.nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        raise NotImplementedError()

    def forward(self, x):
        raise NotImplementedError()


class HalfDone(Untouched):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        raise NotImplementedError()

    def forward(self, x):
        return x


def test_a_class_of_stubs_is_not_attempted():
    for untouched in (Untouched, variant(torch.autograd.Function, forward=staticmethod(stub), backward=stub)):
        report = report_on_class(untouched)
        assert (report.verdict, report.details) == ("not attempted", "")


def test_one_stub_among_methods_is_named():
    half_a_function = variant(Function, forward=Function.forward, backward=stub)
    for half, name in ((HalfDone, "HalfDone.__init__"), (half_a_function, "stub")):
        report = report_on_class(half)
        assert report.verdict == "incorrect"
        assert f"Your class is not complete: {name} is not written yet." in report.message


def test_a_stub_that_is_called_is_named():
    class Inner(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight, bias, eps):
            raise NotImplementedError()

    def forward(self, x):
        return Inner.apply(x, self.weight, self.bias, self.eps)

    report = report_on_class(variant(Layer, forward=forward))
    assert report.verdict == "incorrect"
    assert "Your class calls Inner.forward, which is not written yet." in report.message


def test_an_error_of_pytorch_is_no_stub():
    def forward(self, x):
        return torch.nn.Module()(x)  # it has no forward, and says so with NotImplementedError

    assert "Your class raised NotImplementedError" in report_on_class(variant(Layer, forward=forward)).message


def without(name):
    """A layer that keeps something else, or nothing, in the place of one of its tensors."""

    def init(self, num_features, eps, momentum):
        Layer.__init__(self, num_features, eps, momentum)
        delattr(self, name)

    return variant(Layer, __init__=init, forward=lambda self, x: 1 * x)


def backward_giving(change):
    return variant(Function, backward=lambda ctx, dy: change(*Function.backward(ctx, dy)))


def counting_in(counter):
    """A layer with a counter of another kind."""

    def init(self, num_features, eps, momentum):
        Layer.__init__(self, num_features, eps, momentum)
        self.num_batches_tracked = counter.clone()

    return variant(Layer, __init__=init)


def remembering_elsewhere(self, x):
    """The right output as long as nobody loads a file: evaluation reads a copy that is not saved."""
    y = Layer.forward(self, x)
    if self.training:
        self.copies = self.running_mean.clone(), self.running_var.clone()
    elif hasattr(self, "copies"):
        return self.weight * (x - self.copies[0]) / torch.sqrt(self.copies[1] + self.eps) + self.bias
    else:
        return self.weight * x / (1 + self.eps) ** 0.5 + self.bias
    return y


CLASSES = {
    "an object": (Layer(3), "Expected a class, got a test_checks.Layer."),
    "no module": (type("Other", (), {}), "does not inherit from torch.nn.Module"),
    "other parameters": (
        variant(Layer, __init__=lambda self, n: None),
        "takes (n); the exercise takes (num_features, eps",
    ),
    "no return": (variant(Layer, forward=lambda self, x: None), "y is None."),
    "an array": (variant(Layer, forward=lambda self, x: x.detach().numpy()), "Expected a tensor for y, got a numpy."),
    "rows of y": (variant(Layer, forward=lambda self, x: x[:1]), "y has the shape (1, 3), expected (6, 3)."),
    "double": (
        variant(Layer, forward=lambda self, x: Layer.forward(self, x).double()),
        "y has the dtype torch.float64",
    ),
    "no weight": (without("weight"), "should keep a tensor named weight, but it has none."),
    "no counter": (
        without("num_batches_tracked"),
        "count its training batches in num_batches_tracked, but it has none",
    ),
    "a counter of floats": (counting_in(torch.tensor(0.0)), "num_batches_tracked has the dtype torch.float32"),
    "a counter with an axis": (counting_in(torch.zeros(1, dtype=torch.long)), "and the shape (1,). PyTorch's is a"),
    "what a file does not bring": (variant(Layer, forward=remembering_elsewhere), "First wrong value: y_loaded"),
    "raises": (variant(Layer, forward=lambda self, x: x @ x), "(6x3 and 6x3), in your line"),
    "too few gradients": (backward_giving(lambda *grads: grads[:3]), "returns 3 values, but forward takes 4"),
    "too many gradients": (backward_giving(lambda *grads: (*grads, grads[0])), "returns 5 values"),
    "one gradient": (backward_giving(lambda *grads: grads[0]), "returns 1 value, but"),
    "a list": (backward_giving(lambda *grads: list(grads)), "backward returns a list"),
    "nothing": (backward_giving(lambda *grads: None), "backward returns nothing"),
    "no dweight": (backward_giving(lambda dx, *rest: (dx, *[None] * 3)), "None where the gradient of weight"),
    "a gradient of eps": (backward_giving(lambda *grads: (*grads[:3], 0.0)), "eps is no tensor"),
    "transposed": (backward_giving(lambda dx, *rest: (dx.T, *rest)), "gradient of x has the shape (3, 6)"),
}


@pytest.mark.parametrize(("answer", "says"), CLASSES.values(), ids=CLASSES)
def test_structure_of_a_class_is_told_in_words(answer, says):
    report = report_on_class(answer)
    assert report.verdict == "incorrect"
    assert says in report.message, report


def groups(model, weight_decay, *, odd=None):
    """A right answer to parameter_groups, but for one odd parameter."""
    rates = [weight_decay * (p.ndim > 1) for p in model.parameters()]
    if odd is not None:
        rates[odd] += 0.1
    return [{"params": p, "weight_decay": rate} for p, rate in zip(model.parameters(), rates, strict=True)]


def freezing(model, weight_decay):
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            norm.requires_grad_(False)
    return groups(model, weight_decay)


GROUPS = {
    "frozen": (freezing, "1.weight has requires_grad=False now"),
    "names": (lambda model, rate: [{"params": [name for name, _ in model.named_parameters()]}], "holds a str"),
    "twice": (lambda model, rate: 2 * groups(model, rate), "more than once"),
    "an odd one": (lambda model, rate: groups(model, rate, odd=3), "decay is wrong only for parameter 3 (counted"),
}


@pytest.mark.parametrize(("answer", "says"), GROUPS.values(), ids=GROUPS)
def test_groups_are_judged_in_words(answer, says):
    assert report_on(groups, "parameter_groups").verdict == "correct"
    report = report_on(answer, "parameter_groups")
    assert report.verdict == "incorrect"
    assert says in report.message and "Already right" not in report.message, report


def inner_batch_norm(self, num_features, eps, momentum):
    Layer.__init__(self, num_features, eps, momentum)
    self.inner = torch.nn.BatchNorm1d(num_features)


def as_pytorch(function):
    """A Function whose forward leaves the work to another."""

    def forward(ctx, x, weight, bias, eps):
        Function.forward(ctx, x, weight, bias, eps)
        return function(x, weight, bias, eps)

    return variant(Function, forward=forward)


def pytorchs_backward(ctx, dy):
    x_hat, std, weight = ctx.saved_tensors
    kernel, zero = torch.ops.aten.native_batch_norm_backward, torch.zeros_like(weight)
    dx, dweight, dbias = kernel(dy, x_hat, weight, None, None, zero, zero + 1, True, 0.0, [True] * 3)
    return dx / std, dweight, dbias, None


NATIVE = torch.ops.aten.native_batch_norm
PYTORCHS_OWN = {
    "the layer": (torch.nn.BatchNorm1d, "inherits from PyTorch's own"),
    "an heir": (type("Heir", (torch.nn.BatchNorm1d,), {}), "inherits from PyTorch's own"),
    "a layer inside": (
        variant(Layer, __init__=inner_batch_norm, forward=lambda self, x: self.inner(x)),
        "torch.nn.functional.batch_norm",
    ),
    "the function": (
        as_pytorch(lambda x, w, b, eps: torch.nn.functional.batch_norm(x, None, None, w, b, True, eps=eps)),
        "torch.nn.functional.batch_norm",
    ),
    "the function with wrong arguments": (as_pytorch(torch.nn.functional.batch_norm), "torch.nn.functional.batch_norm"),
    "the inner function": (
        as_pytorch(lambda x, w, b, eps: torch.batch_norm(x, w, b, None, None, True, 0.1, eps, False)),
        "torch.batch_norm",
    ),
    "the norm of the transposed": (
        as_pytorch(lambda x, w, b, eps: torch.nn.functional.layer_norm(x.T, x.shape[:1], eps=eps).T * w + b),
        "torch.nn.functional.layer_norm",
    ),
    "the norm of one image": (
        as_pytorch(lambda x, w, b, eps: torch.nn.functional.instance_norm(x.T[None], eps=eps)[0].T * w + b),
        "torch.nn.functional.instance_norm",
    ),
    "the kernel": (
        as_pytorch(lambda x, w, b, eps: NATIVE(x, w, b, None, None, True, 0.1, eps)[0]),
        "native_batch_norm",
    ),
    "backward": (variant(Function, backward=pytorchs_backward), "native_batch_norm_backward"),
}


@pytest.mark.parametrize(("answer", "says"), PYTORCHS_OWN.values(), ids=PYTORCHS_OWN)
def test_pytorchs_own_batch_norm_is_recognized(answer, says):
    report = report_on_class(answer)
    assert report.verdict == "incorrect"
    assert says in report.message and "PyTorch's own" in report.message, report


def courses_function(ctx, x, weight, bias, eps):
    Function.forward(ctx, x, weight, bias, eps)
    return functional.batch_norm(x, None, None, weight, bias, training=True, eps=eps)


def the_operation(ctx, x, weight, bias, eps):
    Function.forward(ctx, x, weight, bias, eps)
    inputs = {"x": x.numpy(), "weight": weight.numpy(), "bias": bias.numpy(), "eps": eps, "dy": x.numpy()}
    return torch.from_numpy(chapter_05.FunctionPass.run(inputs)["y"])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (layers.BatchNorm1d, "bncourse.layers."),
        (type("Heir", (layers.BatchNorm1d,), {}), "bncourse.layers."),
        (variant(Function, forward=courses_function), "bncourse.functional.batch_norm"),
        (as_pytorch(lambda x, w, b, eps: functional.batch_norm(x[0], w, b)), "bncourse.functional.batch_norm"),
        (variant(Function, forward=the_operation), "bncourse.checks.exercise.Operation.run"),
    ],
)
def test_the_courses_own_class_is_recognized(answer, says):
    report = report_on_class(answer)
    assert report.verdict == "incorrect"
    assert f"Your class calls {says}" in report.message, report


def test_changes_of_tensors_are_seen():
    def forward(ctx, x, weight, bias, eps):
        x -= x.mean(0)
        return Function.forward(ctx, x, weight, bias, eps)

    report = report_on_class(variant(Function, forward=forward))
    assert report.mistakes == ("F24",) and "Your class changed its input x" in report.message


def test_memory_between_objects_of_a_class_is_seen():
    made = []

    def forward(self, x):
        made.append(x)
        return Layer.forward(self, x) + (len(made) > 6 * (len(EXERCISES["BatchNorm1d"].probes) + 1))

    assert "second call" in report_on_class(variant(Layer, forward=forward)).message


def test_endless_loop_in_a_backward_pass_is_interrupted():
    def backward(ctx, dy):
        while True:
            dy.sum()

    exercise = EXERCISES["BatchNormFunction"]
    outcomes = observe(exercise, variant(Function, backward=backward), exercise.probes, seconds=0.2)
    assert outcomes[-1].problem.kind == "out of time"


# Time


def test_endless_loop_is_interrupted_even_if_it_swallows_exceptions():
    def stubborn(x, weight, bias, eps):
        while True:
            try:
                x.sum()
            except:  # noqa: E722, S112 - what a learner may write
                continue

    exercise = EXERCISES["batch_norm_forward"]
    began = time.monotonic()
    outcomes = observe(exercise, stubborn, exercise.probes, seconds=0.2)
    assert time.monotonic() - began < 3
    assert outcomes[-1].problem.kind == "out of time"


def test_time_that_runs_out_after_the_last_call_changes_nothing(monkeypatch):
    class Late(time_limit):
        def __exit__(self, *error):
            super().__exit__(*error)
            raise OutOfTime

    monkeypatch.setattr(sys.modules[observe.__module__], "time_limit", Late)
    assert report_on(right).verdict == "correct"


def test_time_limit_inside_another_leaves_that_one_running():
    with pytest.raises(OutOfTime), time_limit(0.2):
        with time_limit(10):
            pass
        time.sleep(5)


def test_time_limit_leaves_nothing_behind():
    import signal

    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(OutOfTime), time_limit(0.05):
        while True:
            pass
    time.sleep(0.15)  # an interrupt that was left behind would end the test here
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def fastest(function, repeats=5):
    """Seconds of the fastest of several runs: the others met something else on the machine."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def test_check_is_fast():
    assert fastest(lambda: report_on(right)) < 0.3
    unknown = lambda x, weight, bias, eps: right(x, weight, bias, eps) ** 3
    assert fastest(lambda: report_on(unknown)) < 1


@every_exercise
def test_naming_is_fast_where_nothing_fits(exercise):
    def unknown(*args, **kwargs):
        inputs = dict(zip(exercise.parameters, args, strict=False)) | kwargs
        outputs = exercise.operation.run(inputs)
        values = [value * 1.37 + 0.1 for value in outputs.values()]
        return dict(zip(outputs, values, strict=True)) if exercise.container == "dict" else values

    from bncourse.checks.judge import judge

    fresh = fresh_probe(exercise, 1)
    outcomes = observe(replace(exercise, drive=None), unknown, [*exercise.probes, fresh])
    assert fastest(lambda: judge(exercise, fresh, outcomes, 1), repeats=3) < 1


# Names


def test_two_mistakes_are_named_together():
    def two(x, weight, bias, eps):
        return weight * (x - x.mean(0)) / (x.std(0) + eps)

    report = report_on(two)
    assert set(report.mistakes) == {"F02", "F11"}
    assert "Two mistakes at once" in report.message


def test_a_mistake_beside_a_changed_input_is_named_with_it():
    def two(x, weight, bias, eps):
        x -= x.mean(0)
        return weight * x / np.sqrt(x.var(0) + eps)

    assert set(report_on(two).mistakes) == {"F11", "F24"}


def test_first_wrong_node_is_named():
    def nodes(dy, x, weight, eps):
        outputs = EXERCISES["batch_norm_backward_nodes"].operation.run({"dy": dy, "x": x, "weight": weight, "eps": eps})
        return outputs | {"dvar": 1.5 * outputs["dvar"], "du": outputs["du"] + 1}

    report = report_on(uncovered(nodes), "batch_norm_backward_nodes")
    assert report.verdict == "incorrect"
    assert "Already right: dbias, dweight, dx_hat, dinv_std, dmean, dx." in report.message
    assert "Every value of dvar is 1.5 times the expected one" in report.message


def uncovered(function):
    """The function with its results computed beforehand, so that the course's code is not seen being called."""
    exercise = EXERCISES["batch_norm_backward_nodes"]
    probes = [*exercise.probes, fresh_probe(exercise, 7)]
    known = {
        probe.inputs["x"].tobytes() + repr(probe.inputs["eps"]).encode(): function(**probe.inputs) for probe in probes
    }
    return lambda dy, x, weight, eps: known[x.tobytes() + repr(eps).encode()]


def test_a_new_switch_is_named_without_further_code():
    from bncourse.checks.judge import judge

    base = EXERCISES["batch_norm_forward"]
    cubed = Mistake("X01", "You cubed.", "Why?", {"y": lambda s: s.x_hat**3})
    exercise = replace(base, mistakes=(*base.mistakes, cubed))

    def learner(x, weight, bias, eps):
        return right(x, 1, 0, eps) ** 3

    fresh = fresh_probe(exercise, 1)
    report = judge(exercise, fresh, observe(exercise, learner, [*exercise.probes, fresh]), 1)
    assert report.mistakes == ("X01",) and "You cubed." in report.message


# How an answer reads its input, and how much memory it takes

X = np.arange(10 * 3 * 4.0).reshape(10, 3, 4)


def read(how, x=X):
    """What a function that gets x, noting how it is read, does to it."""
    watched = x.copy().view(chapter_08.blocks._Watched)
    watched.reading = reading = chapter_08.blocks._Reading(watched.view(np.ndarray))
    how(watched)
    return reading


AT_ONCE = {
    "nothing": (0, lambda x: (x[2:5], x.T, x.reshape(10, 12), np.zeros_like(x), np.array_split(x, 3), len(x))),
    "a mean of a block": (4, lambda x: x[3:7].mean((0, 2))),
    "a variance by np.var": (4, lambda x: np.var(x[3:7], axis=(0, 2))),
    "from the end": (3, lambda x: x[9:6:-1].sum()),
    "every second": (5, lambda x: np.add(x[::2], 1)),
    "all of a channel": (10, lambda x: x[:, 1].max()),
    "all of a channel, transposed": (10, lambda x: x.transpose(1, 0, 2)[1].max()),
    "a block less a sample": (4, lambda x: x[3:7] - x[0]),
    "one number": (1, lambda x: float(x[3, 1, 2])),
    "picked samples": (2, lambda x: x[[1, 8]]),
    "a conversion": (10, lambda x: x.astype(np.float32)),
    "a copy by reshape": (10, lambda x: x.transpose(1, 0, 2).reshape(3, -1)),
    "a list": (10, lambda x: x.tolist()),
    "einsum": (6, lambda x: np.einsum("ncl,ncl->c", x[:6], x[:6])),
    "a product of matrices": (6, lambda x: x[:6] @ np.ones(4)),
    "in place": (2, lambda x: x[:2].__iadd__(1)),
    "into another array": (2, lambda x: np.multiply(x[:2], 2, out=np.zeros((2, 3, 4)))),
    "blocks put together": (10, lambda x: np.concatenate([x[:5], x[5:]])),
    "blocks stacked": (10, lambda x: np.stack([x[:5], x[5:]])),
    "a loop over samples": (1, lambda x: [sample.sum() for sample in x]),
    "what is computed is no longer x": (4, lambda x: [(x[i : i + 4] + 1).mean() for i in (0, 4)]),
}


@pytest.mark.parametrize(("most", "how"), AT_ONCE.values(), ids=AT_ONCE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_how_many_samples_are_read_at_once_is_seen(most, how, dtype):
    assert read(how, X.astype(dtype)).most == most


def in_blocks(*statistics, x, starts=range(0, 10, 3)):
    for start in starts:
        for statistic in statistics:
            statistic(x[start : start + 3])


COMING_BACK = {
    "once": (True, lambda x: in_blocks(np.mean, x=x)),
    "several times while it is there": (True, lambda x: in_blocks(np.mean, np.var, np.max, x=x)),
    "backwards": (True, lambda x: in_blocks(np.mean, x=x, starts=(9, 6, 3, 0))),
    "the first for a shift, again and again": (True, lambda x: in_blocks(lambda part: part - x[0], np.var, x=x)),
    "parts of another length": (True, lambda x: [part.mean() + part.var() for part in np.array_split(x, 5)]),
    "number by number": (True, lambda x: [float(x[index]) for index in np.ndindex(x.shape)]),
    "channel by channel": (True, lambda x: [in_blocks(np.mean, np.var, x=x[:, c]) for c in range(3)]),
    "two passes": (False, lambda x: [in_blocks(np.mean, x=x), in_blocks(np.var, x=x)]),
    "two passes, the second backwards": (
        False,
        lambda x: [in_blocks(np.mean, x=x), in_blocks(np.var, x=x, starts=(9, 6, 3, 0))],
    ),
    "two passes over samples": (False, lambda x: [sample.sum() for _ in range(2) for sample in x]),
    "a mean of all, then blocks": (False, lambda x: [x.mean(), in_blocks(np.var, x=x)]),
}


@pytest.mark.parametrize(("once", "how"), COMING_BACK.values(), ids=COMING_BACK)
def test_coming_back_to_blocks_is_seen(once, how):
    assert read(how).each_block_once(3) == once


def into(x, mean, inv_std, weight, bias, out):
    np.subtract(x, mean[:, None], out=out)
    np.multiply(out, (weight * inv_std)[:, None], out=out)
    return np.add(out, bias[:, None], out=out)


@pytest.mark.parametrize(("arrays", "right"), [(0, True), (0.8, True), (1.1, False)])
@pytest.mark.parametrize("traced", [False, True])
def test_memory_is_measured_whoever_else_measures_it(arrays, right, traced):
    def taking(x, *others):
        np.empty(int(arrays * x.size), x.dtype)
        return into(x, *others)

    if traced:
        tracemalloc.start()
    ballast = np.ones(2**20)  # held by the caller: not the answer's
    try:
        assert (report_on(taking, "normalize_into").verdict == "correct") == right
        assert tracemalloc.is_tracing() == traced and ballast.all()
    finally:
        tracemalloc.stop()


FORMS = {
    "takes (x); the exercise takes (x, block)": ("blocked_statistics", lambda x: x),
    "(mean, var), got one array of the shape (": ("blocked_statistics", lambda x, block: x[0, :, 0]),
    "(mean, var), got a float": ("blocked_statistics", lambda x, block: 1.0),
    "(mean, var), got 3": ("blocked_statistics", lambda x, block: (1.0, 2.0, 3.0)),
    "Your function returns nothing.": ("blocked_statistics", lambda x, block: None),
    "wrote nothing into out and returned nothing": ("normalize_into", lambda x, mean, inv_std, weight, bias, out: None),
    "takes (shape, calls); the exercise takes (shape, itemsize, calls)": ("fused_bytes", lambda shape, calls: 0),
    "a number for moved_bytes, got a list": ("unfused_bytes", lambda shape, itemsize, calls: [1]),
    "takes (losses); the exercise takes (losses, counts)": ("scale_losses", lambda losses: losses),
    "scaled has the shape (1,), expected (3,).": ("scale_losses", lambda losses, counts: [1.0]),
    "scaled is wrong only for process 2 (counted from 0).": (
        "scale_losses",
        lambda losses, counts: (
            np.nan_to_num(losses) * counts * len(counts) / counts.sum() * [1, 1, 1.5, 1][: len(counts)]
        ),
    ),
    "(dxs, dweights, dbiases), got 2 values.": ("backward_of_shards", lambda dys, x_hats, weight, inv_std: (dys, dys)),
    "dweights is one array, of the shape (3,).": (
        "backward_of_shards",
        lambda dys, x_hats, weight, inv_std: (dys, weight, weight),
    ),
    "Expected 3 arrays in dbiases, one for each process, got 2.": (
        "backward_of_shards",
        lambda dys, x_hats, weight, inv_std: (dys, [weight] * len(dys), [weight] * 2),
    ),
    "Python's sum of no rows is the number 0.": (
        "backward_of_shards",
        lambda dys, x_hats, weight, inv_std: (dys, [sum(dy) for dy in dys], [sum(dy) for dy in dys]),
    ),
    "dxs[1] has the shape (3, 2), expected (2, 3).": (
        "backward_of_shards",
        lambda dys, x_hats, weight, inv_std: ([dys[0], *(dy.T for dy in dys[1:])], [weight] * 3, [weight] * 3),
    ),
}


@pytest.mark.parametrize("says", FORMS)
def test_structure_is_told_where_an_exercise_has_a_driver(says):
    exercise, answer = FORMS[says]
    report = report_on(answer, exercise)
    assert report.verdict == "incorrect" and says in report.message, report


def with_its_own_array(x, mean, inv_std, weight, bias, out):
    out[...] = weight[:, None] * (x - mean[:, None]) * inv_std[:, None] + bias[:, None]
    return out


def filled_alone(*inputs):
    into(*inputs)


def everything_at_once(x, block):
    return x.mean((0, 2)), x.var((0, 2))


WORDED = {
    "Beside out, arrays that are together as large as x were made.": ("normalize_into", with_its_own_array),
    "Something other than out was returned.": ("normalize_into", lambda *inputs: 1 * into(*inputs)),
    "Nothing was returned.": ("normalize_into", filled_alone),
    "More than 4 samples were read at once.": ("blocked_statistics", everything_at_once),
    "moved_bytes is 67,108,864, and that is 4 arrays. Expected: 83,886,080, and that is 5 arrays.": (
        "unfused_bytes",
        lambda shape, itemsize, calls: 2 * len(calls) * itemsize * int(np.prod(shape)),
    ),
    "that is 1 array. Expected": ("fused_bytes", lambda shape, itemsize, calls: itemsize * int(np.prod(shape))),
    "less than a hundredth of an array": ("fused_bytes", lambda shape, itemsize, calls: itemsize),
}


@pytest.mark.parametrize("says", WORDED)
def test_some_numbers_have_a_sentence_of_their_own(says):
    exercise, answer = WORDED[says]
    message = report_on(answer, exercise).message
    assert says in message and "First wrong value" not in message and ", expected" not in message, message


@every_exercise
def test_numbers_with_a_sentence_of_their_own_are_outputs(exercise):
    assert exercise.wording.keys() <= set(exercise.outputs)
    assert all(value[name].ndim == 0 for name in exercise.wording for value in map(exercise.expected, exercise.probes))


def test_a_chain_that_is_used_up_is_there_again_at_the_next_call():
    def popping(shape, itemsize, calls):
        arrays = 0
        while calls:
            arrays += len(set(calls.pop()[0])) + 1
        return arrays * itemsize * int(np.prod(shape))

    assert report_on(popping, "unfused_bytes").verdict == "correct"


# Exercises whose probes are questions of their own

FITTING = {situation: names[0] for situation, names in chapter_12.ACCEPTED.items()}


def report_on_choices(**choices):
    return report_on(lambda situation: {**FITTING, **choices}[situation], "choose_norm")


def test_every_situation_with_a_wrong_norm_is_spoken_of():
    report = report_on_choices(phone="layer norm", style="batch norm")
    assert report.mistakes == ("W13", "W41")
    assert "4 of 6 are right." in report.message
    assert "phone, with layer norm: " in report.message and "style, with batch norm: " in report.message


def test_of_many_wrong_norms_the_first_are_explained_and_the_others_listed():
    report = report_on_choices(**dict.fromkeys(FITTING, "frozen batch norm"))
    assert report.mistakes == ("W12", "W22", "W32", "W42", "W52")
    assert report.message.count("with frozen batch norm: ") == 3
    assert "Not right yet, either: style, privacy." in report.message


def test_a_single_right_norm_is_counted_in_the_singular():
    wrong = {"sensors": "batch norm", "text": "group norm", "style": "RMS norm", "privacy": "batch norm"}
    assert report_on_choices(**wrong, finetuning="layer norm").message.startswith("1 of 6 is right.")


def test_every_wrong_norm_of_every_situation_has_an_explanation_that_keeps_the_answer_secret():
    explained = {mistake.id: mistake for mistake in EXERCISES["choose_norm"].mistakes}
    assert len({mistake.says.partition(": ")[2] for mistake in explained.values()}) == len(explained)
    for situation, accepted in chapter_12.ACCEPTED.items():
        for norm in set(chapter_12.NORMS) - set(accepted):
            (mistake,) = (explained.pop(id) for id in report_on_choices(**{situation: norm}).mistakes)
            why = mistake.says.removeprefix(f"{situation}, with {norm}: ") + mistake.asks
            assert why != mistake.says + mistake.asks
            assert not any(name.lower() in why.lower() for name in accepted)
    assert not explained


@pytest.mark.parametrize("situation", chapter_12.ACCEPTED)
def test_every_norm_that_can_be_defended_is_accepted(situation):
    for norm in chapter_12.ACCEPTED[situation]:
        report = report_on_choices(**{situation: norm})
        assert (report.verdict, report.message) == ("correct", "All 6 are right.")


NAMES = {
    "unknown": (lambda situation: "SyncBatchNorm", "returns 'SyncBatchNorm', which is none of the names: batch norm,"),
    "nothing": (lambda situation: None, "choose_norm('phone') returns nothing."),
    "a list": (lambda situation: ["batch norm"], "returns a list. Expected one name"),
    "a missing branch": (lambda situation: FITTING["phone"] if situation == "phone" else None, "sensors: choose_norm("),
    "an error": (lambda situation: {"phone": "batch norm"}[situation], "sensors: Your function raised KeyError"),
    "another in the second call": (lambda situation, n=[0]: n.append(0) or spoiled(situation, len(n)), "second call"),
}


def spoiled(situation, calls):
    """The right norm, but for the last call of a check."""
    return FITTING[situation] if calls <= len(FITTING) + 2 else "RMS norm"


@pytest.mark.parametrize(("answer", "says"), NAMES.values(), ids=NAMES)
def test_what_is_no_choice_is_told_in_words(answer, says):
    report = report_on(answer, "choose_norm")
    assert report.verdict == "incorrect"
    assert says in report.message, report


def report_on_numbers(**numbers):
    return report_on(lambda setup: {**chapter_10.setups.TOGETHER, **numbers}[setup], "samples_normalized_together")


def test_every_explained_number_of_samples_has_its_own_explanation_that_keeps_the_answer_secret():
    exercise = EXERCISES["samples_normalized_together"]
    for single in exercise.singles:
        (mistake,), ((setup, step_),) = single.mistakes, single.form.items()
        report = report_on_numbers(**{setup: int(step_(None))})
        assert report.mistakes == (mistake.id,) and f"{setup}: " in report.message
        words = re.findall(r"\w+", (mistake.says + mistake.asks).removeprefix(setup))
        assert str(chapter_10.setups.TOGETHER[setup]) not in words


NUMBERS = {
    "returns a bool. Expected a number": True,
    "returns a str. Expected a number": "4",
    "returns 64. Expected a number of samples, from 0 to the 32": 64,
    "returns 2.5. Expected": 2.5,
    "returns nothing": None,
    "ddp: not right.": 5,
}


@pytest.mark.parametrize("says", NUMBERS)
def test_what_is_no_number_of_samples_is_told_in_words(says):
    report = report_on_numbers(ddp=NUMBERS[says])
    assert report.verdict == "incorrect" and says in report.message, report


def test_a_layer_that_is_handed_over_itself_is_converted_only_in_what_is_returned():
    norm = torch.nn.BatchNorm1d(3)
    model = torch.nn.Sequential(norm)
    torch.nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    assert type(model[0]) is torch.nn.BatchNorm1d
    torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert type(model[0]) is torch.nn.SyncBatchNorm


# Help where nothing known fits


def tampered(change):
    return lambda x, weight, bias, eps: change(right(x, weight, bias, eps), x)


def in_one_channel(y, x):
    y[:, 1] += 0.5 * x[:, 0]
    return y


HELP = {
    "known factor": (lambda y, x: y * len(x) / (len(x) - 1), "1.25 times the expected one, and that is N/(N − 1)."),
    "factor": (lambda y, x: 1.3 * y, "Every value of y is 1.3 times the expected one."),
    "factor per channel": (lambda y, x: y * x.std(0), "off by a factor of its own, and that is σ."),
    "shift": (lambda y, x: y + 0.7, "off by the same amount, 0.7"),
    "shift per channel": (lambda y, x: y + x.mean(0), "shifted by an amount of its own, and that is μ."),
    "one channel": (in_one_channel, "y is wrong only in channel 1"),
    "sign": (lambda y, x: -y, "y has the wrong sign."),
    "zeros": (lambda y, x: y * (np.arange(x.shape[1]) > 0), "y is all 0 in channel 0"),
    "all zeros": (lambda y, x: 0 * y, "y is all 0."),
    "rounded": (lambda y, x: y.round(2), "nearly right, to two or three digits"),
    "reshaped": (lambda y, x: y.reshape(-1), "the values are right."),
    "anything": (lambda y, x: np.sin(y), "First wrong value: y[0, 0] is "),
    "a property": (lambda y, x: y + 0.1 * x, "The first that does not: every channel of y has the mean β."),
}


@pytest.mark.parametrize(("change", "says"), HELP.values(), ids=HELP)
def test_unknown_error_is_described(change, says):
    report = report_on(tampered(change))
    assert (report.verdict, report.mistakes) == ("incorrect", ())
    assert says in report.message


def test_outputs_that_are_right_already_are_listed():
    def backward(dy, x, weight, eps):
        x_hat = right(x, 1, 0, eps)
        return np.sin(dy), (dy * x_hat).sum(0), dy.sum(0)

    assert "Already right: dweight, dbias." in report_on(backward, "batch_norm_backward").message


CHANNELS = {
    "y is all 0 in channel 1": lambda y, c: y * (c != 1),
    "Each channel of y is off by a factor of its own.": lambda y, c: y * (1 + c),
    "y is wrong only in channel 1": lambda y, c: y + (c == 1),
}


@pytest.mark.parametrize("says", CHANNELS)
def test_channels_are_found_on_the_last_axis(says):
    def masked(x, mask, weight, bias, eps):
        y = np.zeros_like(x)
        y[mask] = CHANNELS[says](right(x[mask], weight, bias, eps), np.arange(len(bias)))
        return y

    assert says in report_on(masked, "masked_batch_norm").message


FEATURES = {
    "y is all 0 in feature 1": lambda y, d: y * (d != 1),
    "Each feature of y is off by a factor of its own.": lambda y, d: y * (1 + d),
    "Each feature of y is shifted by an amount of its own.": lambda y, d: y + np.cos(d),
    "y is wrong only in feature 1": lambda y, d: y + (d == 1) * np.sin(y),
}


def layer_norm(x, weight, bias, eps):
    return weight * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) + bias


@pytest.mark.parametrize("says", FEATURES)
def test_what_is_along_the_last_axis_of_rows_is_called_a_feature(says):
    def features(x, weight, bias, eps):
        return FEATURES[says](layer_norm(x, weight, bias, eps), np.arange(len(bias)))

    message = report_on(features, "layer_norm_forward").message
    assert says in message and "channel" not in message


def rms_norm(x, weight, eps):
    return weight * x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


UNSCALED = {
    "layer_norm_forward": (lambda x, weight, bias, eps: layer_norm(x, 1, 0, eps), "(y − β) / γ has the mean 0"),
    "rms_norm_forward": (lambda x, weight, eps: rms_norm(x, 1, eps), "y / γ has the mean square 1"),
}


@pytest.mark.parametrize("exercise", UNSCALED)
def test_a_property_says_what_is_measured_if_parameters_are_missing(exercise):
    function, says = UNSCALED[exercise]
    assert f"The first that does not: {says} in every row" in report_on(function, exercise).message


@pytest.mark.parametrize("id", ["B22", "B26"])
def test_what_is_asked_about_rms_norm_has_no_bias(id):
    (mistake,) = (each for each in EXERCISES["rms_norm_backward"].mistakes if each.id == id)
    assert "β" not in mistake.asks


def test_transposition_is_recognized():
    def backward(dy, x, weight, eps):
        dx_hat, x_hat = dy * weight, right(x, 1, 0, eps)
        dx = (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0)) / np.sqrt(x.var(0) + eps)
        return dx.T, (dy * x_hat).sum(0), dy.sum(0)

    assert "the axes are not in the order of the input" in report_on(backward, "batch_norm_backward").message


@every_exercise
def test_no_message_contains_code_of_the_solution(exercise):
    texts = [text for mistake in exercise.mistakes for text in (mistake.says, mistake.asks)]
    for text in texts:
        assert (
            "np." not in text and "keepdims" not in text and ".mean(" not in text.replace("x.mean((0, 2, 3)) and", "")
        )


# Comparison


def test_deviation_counts_in_tolerances_and_nan_is_never_right():
    probe = Probe("plain", "any.", {})
    expected = np.array([1.0, 0.0, np.nan, np.inf])
    assert (deviations(expected, expected, probe) == 0).all()
    assert deviations(expected * 1.001, expected, probe)[0] > 1
    assert deviations(expected * 1.00001, expected, probe)[0] < 0.2
    assert not (deviations(np.array([np.nan]), np.array([1.0]), probe) <= 1).any()
    assert not (deviations(np.array([np.inf]), np.array([1.0]), probe) <= 1).any()


# Display


def test_report_is_readable_without_colour_and_escapes_what_a_learner_wrote():
    def nasty(x, weight, bias, eps):
        raise ValueError("<script>alert(1)</script>")

    report = report_on(nasty)
    assert str(report).startswith("batch_norm_forward: ✗ Not yet.")
    markup = report._repr_html_()
    assert "✗ Not yet." in markup and "<script>" not in markup
