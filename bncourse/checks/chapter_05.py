"""Chapter 5, autograd and layers: its exercises, and the mistakes made in them."""

import contextlib
from collections.abc import Callable, Collection, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from .chapter_02 import (
    AFFINE_MISTAKES,
    ROUGH,
    STATISTICS_MISTAKES,
    BatchNorm,
    chosen,
    close,
    constant_probe,
    random_inputs,
    with_constant_channel,
    with_forms,
    with_small_variance,
)
from .chapter_03 import BACKWARD, CHANGING, PROPERTIES, BatchNormBackward
from .exercise import Exercise, Form, Inputs, Mistake, Operation, Probe, Property, step
from .observe import Unusable, a, describe
from .torch_answers import array, attribute, build, by_hand, expect_subclass, gradient, tensor, watched

if TYPE_CHECKING:
    import torch

# One of these is in the name of every function of PyTorch that would be the answer, or that of a transposed input
OWN = ("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm")


class FunctionPass(BatchNorm, BatchNormBackward):
    """A forward and a backward pass through one Function, and what it keeps in between."""

    outputs = ("y", "dx", "dweight", "dbias", "tensors_on_ctx")

    @step
    def dx(s):
        return _as_autograd_takes_it(BatchNormBackward.dx.compute(s), s.x)

    @step
    def dweight(s):
        return _as_autograd_takes_it(BatchNormBackward.dweight.compute(s), s.weight)

    @step
    def dbias(s):
        return _as_autograd_takes_it(BatchNormBackward.dbias.compute(s), s.weight)

    @step
    def tensors_on_ctx(s):
        """Whether tensors are kept as attributes of ctx."""
        return 0


def _as_autograd_takes_it(gradient: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The gradient summed over axes that the value does not have; an error if the shapes do not fit."""
    more = gradient.ndim - value.ndim
    if more < 0 or gradient.shape[more:] != value.shape:
        raise ValueError(f"a gradient of the shape {gradient.shape} for {value.shape}")
    return gradient.sum(tuple(range(more)))


def _other_batch(x: "np.ndarray | torch.Tensor") -> "np.ndarray | torch.Tensor":
    """A batch that comes between the forward and the backward pass: other values, another spread."""
    return 3 * x[[-1, *range(len(x) - 1)]]


def drive_function(answer: object, inputs: Inputs) -> dict[str, object]:
    """A forward pass, one with another batch, and a backward pass through the first."""
    import torch

    expect_subclass(answer, "autograd.Function")
    leaves = {name: tensor(inputs[name], gradient=True) for name in ("x", "weight", "bias")}
    given = {**leaves, "eps": inputs["eps"]}
    x, weight, bias = leaves.values()
    function = watched(answer, given, OWN)
    with by_hand(OWN):
        y = function.apply(*given.values())
        function.apply(_other_batch(x.detach()), weight, bias, inputs["eps"])
    values = array("y", y, like=x)
    kept = getattr(y.grad_fn, "__dict__", {})
    torch.autograd.backward(y, tensor(inputs["dy"]))
    return {
        "y": values,
        "dx": gradient(x),
        "dweight": gradient(weight),
        "dbias": gradient(bias),
        "tensors_on_ctx": int(any(isinstance(value, torch.Tensor) for value in _flat(kept))),
    }


def _flat(value: object) -> Iterator[object]:
    """What is in a value, also in lists, tuples and dicts in it."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        yield from chain.from_iterable(map(_flat, value))
    else:
        yield value


# Mistakes in a Function


def _in_forward_alone(form: Form) -> Form:
    """The mistake in y; the backward pass computes what it needs anew, and rightly."""

    def y(s: FunctionPass) -> np.ndarray:
        elsewhere = {**s.replaced, "y": BatchNorm.y.compute, **form}
        return type(s)(s.inputs, elsewhere, s.x.dtype.type).y

    return {"y": y}


def _also_in_forward_alone(mistakes: tuple[Mistake, ...]) -> Iterator[Mistake]:
    for mistake in mistakes:
        first, *others = mistake.forms
        others = [form for form in others if "param_axes" not in form]  # autograd refuses gradients of another shape
        yield Mistake(mistake.id, mistake.says, mistake.asks, first, _in_forward_alone(first), *others)


def _in_backward_alone(form: Form) -> Form:
    """The mistake in what the backward pass computes anew."""

    def replaced(name: str) -> Callable:
        return lambda s: getattr(type(s)(s.inputs, form, s.x.dtype.type), name)

    return {name: replaced(name) for name in ("dx", "dweight")}


def _x_hat_is(values: Callable) -> Form:
    """Other values where the backward pass has x̂."""
    return {"inner": values, "outer": values, "seen": values}


def _of_other_batch(s: FunctionPass) -> FunctionPass:
    return type(s)({**s.inputs, "x": _other_batch(s.x)}, s.replaced, s.x.dtype.type)


def _refuse_strided(name: str) -> Callable:
    """A step that stops at what is not one row after the other in memory."""

    def data(s: Operation) -> np.ndarray:
        if not s.inputs[name].flags.c_contiguous:
            raise ValueError("expected contiguous memory")
        return getattr(s, name)

    return data


def _square_alone(y: Callable) -> Callable:
    def checked(s: FunctionPass) -> np.ndarray:
        if y(s).shape != s.x.shape:
            raise ValueError("another shape")
        return y(s)

    return checked


_SAME_STATISTICS = tuple(m for m in BACKWARD.mistakes if m.id[0] in "FC")
_EPSILON = chosen(STATISTICS_MISTAKES, "F03")
_PATHS = tuple(m for m in BACKWARD.mistakes if m.id[0] == "B" and m.id not in ("B19", "B31", "B39"))

FUNCTION_MISTAKES = (
    *with_forms(
        tuple(_also_in_forward_alone((*_SAME_STATISTICS, *_EPSILON))),
        "F01",
        _in_backward_alone({"divisor": lambda s: s.data.size / s.mean.size - 1}),
    ),
    *chosen(AFFINE_MISTAKES, "F09", "F11", "F12", "F32", "F34"),
    Mistake(
        "F33",
        "You applied γ and β before normalizing, where the normalization removes them again.",
        "What remains of a shift when the mean is subtracted afterwards?",
        _in_forward_alone(chosen(AFFINE_MISTAKES, "F33")[0].forms[0]),
    ),
    Mistake(
        "C12",
        "Your code expects its input to lie in memory row by row. A transposed tensor does not.",
        "Which function of PyTorch makes a tensor of another shape, and copies it if it has to?",
        {"data": _refuse_strided("x")},
    ),
    Mistake(
        "C15",
        "Your output does not have the shape of the input: it is transposed.",
        "What is y.shape, and what is x.shape?",
        {"y": _square_alone(lambda s: BatchNorm.y.compute(s).T)},
    ),
    *_PATHS,
    Mistake(
        "B19",
        "ε is missing in the backward pass. It is the same as in the forward pass.",
        "What is 1/√(σ² + ε) for a channel that never varies?",
        {"inv_std": lambda s: 1 / np.sqrt(s.var)},
        _in_backward_alone({"epsilon": lambda s: 0.0}),
        {"projection": lambda s: s.std**3 / s.var**1.5 * BatchNormBackward.projection.compute(s)},
    ),
    Mistake(
        "B31",
        "You summed dweight and dbias over the channels, too: every channel has a γ and a β of its own.",
        "How many numbers should dbias have?",
        {
            "dweight": lambda s: np.full(s.weight.shape, s.weight_sum.sum()),
            "dbias": lambda s: np.full(s.weight.shape, s.bias_sum.sum()),
        },
    ),
    Mistake(
        "T07",
        "You keep tensors as attributes of ctx. That can keep memory in use for ever, and changes of these tensors "
        "go unnoticed.",
        "Which method of ctx is there to keep tensors, and what can do without it?",
        {"tensors_on_ctx": lambda s: 1},
    ),
    Mistake(
        "T11",
        "The x̂ that you saved was changed afterwards, in the same memory: in the backward pass it is no longer x̂.",
        "Which of your lines write into a tensor, instead of making a new one?",
        _x_hat_is(lambda s: s.y),
        _x_hat_is(lambda s: s.scale * s.x_hat),
    ),
    Mistake(
        "T19",
        "Another forward pass before the backward pass overwrites what you keep: it lies in one place for all calls.",
        "A network uses your Function in three layers. Where does each of them keep its x̂?",
        {
            **_x_hat_is(lambda s: _of_other_batch(s).x_hat),
            "inv_std": lambda s: 1 / _of_other_batch(s).std,
        },
        _x_hat_is(lambda s: _of_other_batch(s).x_hat),
        {
            **_x_hat_is(lambda s: (s.x - _of_other_batch(s).mean) / _of_other_batch(s).std),
            "inv_std": lambda s: 1 / _of_other_batch(s).std,
        },
    ),
)


# Probes of a Function


def _function_inputs(rng: np.random.Generator, shape: tuple[int, ...], **kind: object) -> Inputs:
    inputs = random_inputs(rng, shape, **kind)
    return {**inputs, "dy": rng.normal(0.4, 1, shape).astype(inputs["x"].dtype)}


def _function_probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    base = _function_inputs(rng, (6, 3), eps=1e-5)
    square = _function_inputs(rng, (4, 4), eps=1e-2)
    far = _function_inputs(rng, (6, 3), eps=1e-5, mean=1e4, dtype=np.float32)
    shifted = {**base, "x": np.asfortranarray(base["x"] + 5), "dy": np.asfortranarray(base["dy"])}
    return (
        Probe("plain", "random dy, γ and β, and channels of different mean and spread.", base),
        Probe("epsilon", "ε = 0.5, so large that its place matters.", {**base, "eps": 0.5}),
        Probe("square", "as many samples as channels, so that shapes fit which should not.", square),
        Probe("small", "a batch of three.", _function_inputs(rng, (3, 3), eps=1e-2)),
        constant_probe(base),
        Probe("narrow", "values whose variance is smaller than ε.", with_small_variance(square)),
        Probe("shifted", "the first input with 5 added to every x, in the memory of a transposed tensor.", shifted),
        Probe("offset", "float32 values with mean 10,000 and standard deviation 1.", far, **ROUGH),
    )


def _fresh_function(rng: np.random.Generator) -> Inputs:
    shape = (int(rng.integers(5, 12)), int(rng.integers(2, 7)))
    return _function_inputs(rng, shape, eps=float(10 ** rng.uniform(-4, -1)))


FUNCTION = Exercise(
    id="BatchNormFunction",
    chapter="05_autograd_and_layers",
    signature="forward(ctx, x, weight, bias, eps) -> y and backward(ctx, dy) -> gradients, x of shape (N, C)",
    operation=FunctionPass,
    probes=_function_probes(50),
    fresh=_fresh_function,
    mistakes=FUNCTION_MISTAKES,
    properties=(
        Property(
            "every channel of y has the mean β.",
            lambda o, i: close(o["plain"]["y"].mean(0), i["plain"]["bias"]),
        ),
        *PROPERTIES[1:],
        Property("ctx has no tensor among its attributes.", lambda o, i: not o["plain"]["tensors_on_ctx"]),
    ),
    hints=(
        "Both methods are formulas that you know. What does the second need that only the first has?",
        "Tensors go through ctx.save_for_backward and come back as ctx.saved_tensors; a number may be an attribute.",
        "Count the inputs of forward without ctx: backward returns as many values, in that order.",
    ),
    container="dict",
    changing=CHANGING,
    drive=drive_function,
)


# The layer

NAMES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
# The calls: evaluation of a new layer; three steps of training; evaluation; training; evaluation once saved and loaded
TRAINING = (False, True, True, True, False, True, False)
RECORDED = (False, True, False, True, True, True, False)  # in which of them gradients are recorded
STEP, SECOND, THIRD, EVALUATION, LAST, LOADED = 1, 2, 3, 4, 5, 6  # places of calls that are looked at
NEVER, ALWAYS = (False,) * len(TRAINING), (True,) * len(TRAINING)
SWAPPED = tuple(not training for training in TRAINING)


class Call(FunctionPass):
    """What a layer does with one batch, in training unless its statistics are replaced."""

    @step
    def training(s):
        return True

    @step
    def outer(s):
        """Autograd takes the derivative of the variance, whatever it is divided by."""
        return s.x_hat * s.m / s.divisor

    @step
    def unbiased(s):
        """What the sum of squares is divided by for running_var."""
        return len(s.x) - 1

    @step
    def batch_mean(s):
        return s.mean.reshape(-1)

    @step
    def batch_var(s):
        return (s.spread**2).sum(0) / s.unbiased


class Layer(Operation):
    """A batch norm layer in seven calls, and what an optimizer and a saved file see of it."""

    outputs = (
        *("y_untrained", "y_training", "x_grad", "weight_grad", "bias_grad"),
        *("y_no_grad", "running_mean", "running_var", "num_batches_tracked", "y_eval"),
        *("y_again", "running_mean_again", "running_var_again", "y_loaded"),
        *("in_state_dict", "in_parameters", "running_graph"),
    )

    @classmethod
    def steps(cls) -> set[str]:
        """Those of the calls as well: what replaces them is handed on."""
        return super().steps() | Call.steps()

    @step
    def normalizes(s):
        """In which calls the statistics are those of the batch."""
        return TRAINING

    @step
    def updates(s):
        """In which calls the running statistics move."""
        return TRAINING

    @step
    def update_first(s):
        """Whether they move before they are used."""
        return False

    @step
    def start(s):
        """The running statistics of a new layer."""
        return np.zeros_like(s.weight), np.ones_like(s.weight)

    @step
    def share(s):
        """The weight of a batch, by its number."""
        return lambda number: 1 / number if s.momentum is None else s.momentum

    @step
    def next_mean(s):
        return _average

    @step
    def next_var(s):
        return _average

    @step
    def remembered(s):
        """What of a batch's variance goes into running_var."""
        return lambda var: var

    @step
    def recalled(s):
        """The variance that evaluation takes from running_var."""
        return lambda running_var: running_var

    @step
    def history(s):
        """Every call, with the running statistics after it."""
        past, stats, count = [], s.start, 0
        x, later = s.inputs["x"], s.inputs["later"]  # as they came in: float32 loses digits
        for i, batch in enumerate((x, x, *later[:2], x, later[2], x)):
            lost = NAMES if i == 0 else ()  # what is as in a new layer
            if i == LOADED:
                lost = [name for name, saved in zip(NAMES, s.in_state_dict, strict=True) if not saved]
                pairs = zip(NAMES[2:4], s.start, stats, strict=True)
                stats = tuple(new if name in lost else old for name, new, old in pairs)
            call, before = s.call(batch, lost), stats
            if s.updates[i]:
                count += 1
                weight = s.share(count)
                mean, var = call.batch_mean, s.remembered(call.batch_var)
                stats = s.next_mean(stats[0], mean, weight), s.next_var(stats[1], var, weight)
            if not s.normalizes[i]:
                call = s.call(batch, lost, stats if s.update_first else before)
            past.append((call, *stats))
        return past

    def call(s, batch: np.ndarray, lost: Collection[str], stats: tuple[np.ndarray, np.ndarray] | None = None) -> Call:
        """A call with the statistics of the batch, or with given ones, through which no gradient flows."""
        inputs, replaced = {**s.inputs, "x": batch}, dict(s.replaced)
        new = {"weight": np.ones_like(s.weight), "bias": np.zeros_like(s.bias)}
        inputs |= {name: value for name, value in new.items() if name in lost}
        if stats:
            mean, var = stats[0][None], s.recalled(stats[1])[None]
            replaced |= {"mean": lambda _: mean, "var": lambda _: var, "training": lambda _: False}
            replaced |= {"mean_term": lambda _: 0.0, "var_term": lambda _: 0.0}
        return Call(inputs, replaced, s.x.dtype.type)

    @step
    def y_untrained(s):
        return s.history[0][0].y

    @step
    def y_training(s):
        return s.history[STEP][0].y

    @step
    def x_grad(s):
        return s.history[STEP][0].dx

    @step
    def weight_grad(s):
        return s.history[STEP][0].dweight

    @step
    def bias_grad(s):
        return s.history[STEP][0].dbias

    @step
    def y_no_grad(s):
        return s.history[SECOND][0].y

    @step
    def running_mean(s):
        return s.history[THIRD][1]

    @step
    def running_var(s):
        return s.history[THIRD][2]

    @step
    def counted(s):
        """What the counter grows by."""
        return 1

    @step
    def num_batches_tracked(s):
        return float(s.counted * sum(s.updates[: THIRD + 1]))

    @step
    def y_eval(s):
        return s.history[EVALUATION][0].y

    @step
    def y_again(s):
        return s.history[LAST][0].y

    @step
    def running_mean_again(s):
        return s.history[LAST][1]

    @step
    def running_var_again(s):
        return s.history[LAST][2]

    @step
    def y_loaded(s):
        return s.history[LOADED][0].y

    @step
    def in_state_dict(s):
        """Which of the five names are saved."""
        return np.array([1.0, 1, 1, 1, 1])

    @step
    def in_parameters(s):
        """Which of the five an optimizer would change."""
        return np.array([1.0, 1, 0, 0, 0])

    @step
    def running_graph(s):
        """Whether the running statistics remember how they were computed."""
        return 0


def _average(old: np.ndarray, new: np.ndarray, weight: float) -> np.ndarray:
    return (1 - weight) * old + weight * new


def drive_layer(answer: object, inputs: Inputs) -> dict[str, object]:
    """The seven calls, the last of a second layer, and a look at the first after the fourth and after the sixth."""
    import torch

    expect_subclass(answer, "nn.Module")
    _refuse_heirs(answer)
    x, later = tensor(inputs["x"], gradient=True), tensor(inputs["later"].copy(), gradient=True)
    options = {"eps": inputs["eps"], "momentum": inputs["momentum"]}
    with _float32_by_default(), by_hand(OWN):
        layer = build(answer, "(num_features, eps, momentum)", x.shape[1], **options)
        with _parameters_explained(layer):
            with torch.no_grad():
                outputs = {"y_untrained": array("y", layer.eval()(x), like=x)}
            outputs |= _first_step(layer, x, inputs)
            with torch.no_grad():
                outputs["y_no_grad"] = array("y", layer(later[0]), like=x)
            layer(later[1])
            outputs |= _statistics(layer, inputs) | {"num_batches_tracked": _count(layer)}
            outputs["y_eval"] = array("y", layer.eval()(x), like=x)
            outputs["y_again"] = array("y", layer.train()(later[2]), like=x)
            outputs |= {f"{name}_again": values for name, values in _statistics(layer, inputs).items()}
            other = answer(x.shape[1], **options)
            other.load_state_dict(layer.state_dict())
            with torch.no_grad():
                outputs["y_loaded"] = array("y", other.eval()(x), like=x)
    return outputs | _facts(layer)


@contextlib.contextmanager
def _float32_by_default() -> Iterator[None]:
    """Let a layer make tensors of the inputs' dtype, also where a notebook asked for float64, as chapter 5 does."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _parameters_explained(layer: "torch.nn.Module") -> Iterator[None]:
    """Say what is behind PyTorch's errors if somebody changes a parameter that should be a buffer."""
    import torch

    try:
        yield
    except (RuntimeError, TypeError) as error:
        if not isinstance(getattr(layer, "running_mean", None), torch.nn.Parameter):
            raise
        says = "Your running_mean is a parameter. Those are for an optimizer to change, so PyTorch objected:"
        raise Unusable("raised", f"{says} {describe(error).rstrip('.')}.", "T02") from None


def _refuse_heirs(answer: type) -> None:
    if any(base.__module__ == "torch.nn.modules.batchnorm" for base in answer.__mro__):
        says = f"{answer.__name__} inherits from PyTorch's own batch norm, which does all of this already."
        raise Unusable("course", f"{says} Start from torch.nn.Module.")


def _first_step(layer: "torch.nn.Module", x: "torch.Tensor", inputs: Inputs) -> dict[str, object]:
    """A step of training with random γ and β, and its gradients."""
    import torch

    leaves = attribute(layer, "weight"), attribute(layer, "bias")
    with torch.no_grad():
        for leaf, name in zip(leaves, ("weight", "bias"), strict=True):
            leaf.copy_(tensor(inputs[name]))
    y = layer.train()(x)
    values = array("y", y, like=x)
    if y.requires_grad:
        torch.autograd.backward(y, tensor(inputs["dy"]))
    weight_grad, bias_grad = map(gradient, leaves)
    return {"y_training": values, "x_grad": gradient(x), "weight_grad": weight_grad, "bias_grad": bias_grad}


def _statistics(layer: "torch.nn.Module", inputs: Inputs) -> dict[str, np.ndarray]:
    like = tensor(inputs["weight"])
    return {name: array(name, attribute(layer, name), like) for name in ("running_mean", "running_var")}


def _count(layer: "torch.nn.Module") -> float:
    import torch

    count = getattr(layer, "num_batches_tracked", None)
    if count is None:
        says = "Your layer should count its training batches in num_batches_tracked, but it has none."
        raise Unusable("type", says, "R20")
    if isinstance(count, torch.Tensor) and (count.shape or count.is_floating_point()):
        says = f"Your num_batches_tracked has the dtype {count.dtype} and the shape {tuple(count.shape)}."
        raise Unusable("dtype", f"{says} PyTorch's is a single integer, of the shape ().", "R20")
    return float(count)


def _facts(layer: "torch.nn.Module") -> dict[str, object]:
    saved, trained = layer.state_dict(), dict(layer.named_parameters())
    running = [attribute(layer, name) for name in ("running_mean", "running_var")]
    return {
        "in_state_dict": np.array([float(name in saved) for name in NAMES]),
        "in_parameters": np.array([float(name in trained) for name in NAMES]),
        "running_graph": int(any(value.grad_fn is not None for value in running)),
    }


# Mistakes in a layer


def _named(*names: str) -> Callable:
    """A step that tells which of the five names are among these."""
    return lambda s: np.array([float(name in names) for name in NAMES])


def _saved_without(*names: str) -> Form:
    return {"in_state_dict": _named(*(name for name in NAMES if name not in names))}


def _trained_with(*names: str) -> Form:
    return {"in_parameters": _named("weight", "bias", *names)}


def _none(name: str) -> Form:
    """No gradient arrives at a parameter."""
    return {f"{name}_grad": lambda s: np.zeros_like(getattr(s, name))}


def _plain(*names: str) -> tuple[Form, ...]:
    """The parameters with these names are no parameters: tensors without gradient, with it, and buffers."""
    trained = {"in_parameters": _named(*({"weight", "bias"} - set(names)))}
    no_gradients = {key: value for name in names for key, value in _none(name).items()}
    return (
        {**trained, **no_gradients, **_saved_without(*names)},
        {**trained, **_saved_without(*names)},
        {**trained, **no_gradients},
    )


def _in_evaluation(right: Callable, wrong: Callable) -> Callable:
    """A step of a call that differs in evaluation alone."""
    return lambda s: right(s) if s.training else wrong(s)


def _refuse_none(number: int) -> float:
    """What 1 - None does."""
    raise TypeError


def _without_momentum(share: Callable) -> Form:
    """Another weight of the batch with the given number where momentum is None."""
    return {"share": lambda s: lambda number: share(number) if s.momentum is None else s.momentum}


PARAMETERS_MISTAKES = (
    Mistake(
        "T01",
        "Running statistics of yours, or the counter, are not in state_dict(), so they are not saved. Plain attributes "
        "also stay behind when the layer moves to another device.",
        "Which method of nn.Module registers a tensor that is saved but not trained?",
        _saved_without("running_mean", "running_var"),
        _saved_without("running_mean", "running_var", "num_batches_tracked"),
        _saved_without("num_batches_tracked"),
        _saved_without("running_mean"),
        _saved_without("running_var"),
    ),
    Mistake(
        "T02",
        "Your running statistics are parameters: an optimizer would change them by their gradient, or by weight decay.",
        "What do layer.parameters() and layer.buffers() list in PyTorch's layer?",
        _trained_with("running_mean", "running_var"),
        _trained_with("running_mean"),
        _trained_with("running_var"),
        _trained_with("running_mean", "running_var", "num_batches_tracked"),
        _trained_with("num_batches_tracked"),
    ),
    Mistake(
        "T03",
        "γ or β is no parameter: an optimizer that is given layer.parameters() never sees it.",
        "Which class marks a tensor as one to be trained?",
        *_plain("weight", "bias"),
        *_plain("weight"),
        *_plain("bias"),
    ),
    Mistake(
        "T04",
        "Your running statistics remember how they were computed, batch after batch: memory grows with every step.",
        "What is running_mean.grad_fn after a step of training, and what should it be?",
        {"running_graph": lambda s: 1},
    ),
    Mistake(
        "T05",
        "The record that autograd keeps is cut: from y no gradient arrives at the input, or at a parameter.",
        "Which of your lines leave the record: no_grad, detach, data, item, numpy, or a new tensor made of numbers?",
        {**_none("x"), **_none("weight"), **_none("bias")},
        _none("x"),
        {**_none("weight"), **_none("bias")},
        _none("weight"),
        _none("bias"),
    ),
)

MODE_MISTAKES = (
    Mistake(
        "R39",
        "Your two modes are swapped: in evaluation the layer works as it should in training, and the other way round.",
        "What is self.training after eval()?",
        {"normalizes": lambda s: SWAPPED, "updates": lambda s: SWAPPED},
    ),
    Mistake(
        "R40",
        "In evaluation your layer leaves γ and β out. They belong to both modes.",
        "What has the layer learned in training, and where is it in evaluation?",
        {
            "scale": _in_evaluation(Call.scale.compute, lambda s: 1.0),
            "shift": _in_evaluation(Call.shift.compute, lambda s: 0.0),
        },
    ),
    Mistake(
        "R21",
        "Your layer takes the recording of gradients for training mode. The two are independent: validation may record "
        "gradients, and statistics may be recomputed without.",
        "Which attribute do train() and eval() change?",
        {"normalizes": lambda s: RECORDED, "updates": lambda s: RECORDED},
        {"normalizes": lambda s: RECORDED},
        {"updates": lambda s: RECORDED},
    ),
    Mistake(
        "R08",
        "Evaluation changes the running statistics of your layer.",
        "What should two evaluations of the same input in a row return?",
        {"updates": lambda s: ALWAYS},
        {"updates": lambda s: ALWAYS, "update_first": lambda s: True},
    ),
    Mistake(
        "R09",
        "Your evaluation uses the batch's own statistics. In evaluation each sample stands alone.",
        "What should happen to the output of one sample when the others change?",
        {"normalizes": lambda s: ALWAYS},
    ),
    Mistake(
        "F22",
        "In training your layer normalizes with the running statistics. They are for evaluation.",
        "Which mean does y have in training mode, over the batch?",
        {"normalizes": lambda s: NEVER},
    ),
    Mistake(
        "F23",
        "In training your layer updates the running statistics and normalizes with the result.",
        "Which mean does y have in training mode, over the batch?",
        {"normalizes": lambda s: NEVER, "update_first": lambda s: True},
    ),
)

MEMORY_MISTAKES = (
    Mistake(
        "R01",
        "Your momentum weighs the old value. In PyTorch it is the weight of the new one.",
        "With momentum 0.1, how much of the batch should arrive in the running mean?",
        {"share": lambda s: lambda number: 1 / number if s.momentum is None else 1 - s.momentum},
        {"share": lambda s: lambda number: 1 - 1 / number if s.momentum is None else 1 - s.momentum},
    ),
    Mistake(
        "R02",
        "You remembered the biased variance. PyTorch stores the unbiased one: the batch stands for a population here.",
        "By what does PyTorch divide the sum of squares for running_var?",
        {"unbiased": lambda s: len(s.x)},
    ),
    Mistake(
        "R05",
        "You stored a standard deviation; running_var holds a variance.",
        "What does the name running_var promise to whoever loads your state_dict()?",
        {"remembered": lambda s: np.sqrt},
        {"remembered": lambda s: np.sqrt, "recalled": lambda s: np.square},
        {"remembered": lambda s: np.sqrt, "recalled": lambda s: lambda std: (std + s.eps) ** 2 - s.eps},
    ),
    Mistake(
        "R07",
        "The running statistics of your layer never move.",
        "Which of your lines writes into running_mean, and is it reached in training?",
        {"next_mean": lambda s: lambda old, new, weight: old, "next_var": lambda s: lambda old, new, weight: old},
        {"updates": lambda s: NEVER},
    ),
    Mistake(
        "R11",
        "You replaced the running statistics by those of the last batch, instead of averaging.",
        "What is left of all earlier batches?",
        {"share": lambda s: lambda number: 1.0},
    ),
    Mistake(
        "R13",
        "Only one of the two running statistics moves.",
        "Which of running_mean and running_var differs after a step of training?",
        {"next_var": lambda s: lambda old, new, weight: old},
        {"next_mean": lambda s: lambda old, new, weight: old},
    ),
    Mistake(
        "R14",
        "In evaluation you divided by the variance instead of its square root.",
        "If x is in metres, what is the unit of running_var?",
        {"std": _in_evaluation(Call.std.compute, lambda s: s.var + s.epsilon)},
    ),
    Mistake(
        "R16",
        "With momentum=None every batch is to count equally, and in your layer they do not.",
        "Which weight must the first batch have, the second, the third?",
        _without_momentum(_refuse_none),
        _without_momentum(lambda number: 0.1),
        _without_momentum(lambda number: 1 / (number + 1)),
        _without_momentum(lambda number: np.float64(1) / (number - 1)),
        _without_momentum(lambda number: 0.0),
        _without_momentum(lambda number: 1.0),
        {"share": lambda s: lambda number: s.momentum or 0.1},
    ),
    Mistake(
        "R41",
        "Your layer takes momentum=0 for momentum=None. 0 is a number: no batch has any weight.",
        "What is 0 or 5 in Python, and what is None or 5?",
        {"share": lambda s: lambda number: s.momentum or 1 / number},
    ),
    Mistake(
        "R17",
        "The running statistics of a new layer are off: its evaluation should hand x on, nearly as it came.",
        "What does your layer do in evaluation before any training?",
        {"start": lambda s: (np.zeros_like(s.weight), np.zeros_like(s.weight))},
        {"start": lambda s: (np.ones_like(s.weight), np.ones_like(s.weight))},
        {"start": lambda s: (np.ones_like(s.weight), np.zeros_like(s.weight))},
    ),
    Mistake(
        "R27",
        "Your layer does not use the momentum that it was made with.",
        "What changes in your layer when it is made with momentum=0.9?",
        {"share": lambda s: lambda number: 1 / number if s.momentum is None else 0.1},
        {"share": lambda s: lambda number: 0.1},
        {"share": lambda s: lambda number: 1 / number},
        {"share": lambda s: lambda number: 1 / number if s.momentum is None else 0.9},
    ),
    Mistake(
        "R29",
        "The weights of the old and of the new value must add up to 1: one of the two did not shrink.",
        "What happens to your average if every batch has the mean 1?",
        {"next_mean": lambda s: _growing, "next_var": lambda s: _growing},
        {"next_mean": lambda s: _whole, "next_var": lambda s: _whole},
    ),
    Mistake(
        "R31",
        "num_batches_tracked is off: it counts the batches of training mode.",
        "What should it be after three steps of training?",
        {"counted": lambda s: 0},
        {"counted": lambda s: len(s.x)},
        {"counted": lambda s: 0, **_without_momentum(lambda number: np.inf)},
        {"counted": lambda s: 0, **_without_momentum(_refuse_none)},
        {
            "counted": lambda s: len(s.x),
            "share": lambda s: lambda number: 1 / (number * len(s.x)) if s.momentum is None else s.momentum,
        },
    ),
)


def _growing(old: np.ndarray, new: np.ndarray, weight: float) -> np.ndarray:
    return old + weight * new


def _whole(old: np.ndarray, new: np.ndarray, weight: float) -> np.ndarray:
    return (1 - weight) * old + new


LAYER_STATISTICS_MISTAKES = (
    Mistake(
        "F02",
        "You added ε after the square root; it belongs inside, next to the variance.",
        "What is √(0 + ε), and what is √0 + ε?",
        {"std": lambda s: np.sqrt(s.var) + s.epsilon, "outer": lambda s: s.centered / np.sqrt(s.var)},
        {"std": _in_evaluation(Call.std.compute, lambda s: np.sqrt(s.var) + s.epsilon)},
    ),
    Mistake(
        "F04",
        "You divided by the variance instead of its square root.",
        "If x is in metres, what is the unit of the variance, and what should that of x̂ be?",
        {"std": lambda s: s.var + s.epsilon, "outer": lambda s: 2 * s.centered},
    ),
    *chosen(STATISTICS_MISTAKES, "F01", "F03", "F14", "F15", "F19"),
    Mistake(
        "F11",
        "You never added β.",
        "What should the mean of y be, over the batch?",
        {"shift": lambda s: 0.0, **_none("bias")},
    ),
    Mistake(
        "F12",
        "You never multiplied by γ.",
        "What should the standard deviation of y be, over the batch?",
        {"scale": lambda s: 1.0, "gain": lambda s: 1.0, **_none("weight")},
    ),
    Mistake(
        "B01",
        "The mean and the variance of the batch are constants for autograd in your layer. Both depend on x, and "
        "gradients flow back through them. Only the running statistics are to be computed without gradients.",
        "Which of your lines stand under no_grad, or detach, and which of them should?",
        {"dx": lambda s: s.inv_std * s.dx_hat},
    ),
    Mistake(
        "B02",
        "The variance of the batch is a constant for autograd in your layer: its path in dx is missing.",
        "Which of your lines stand under no_grad, or detach, and which of them should?",
        {"var_term": lambda s: 0.0},
    ),
    Mistake(
        "B03",
        "The mean of the batch is a constant for autograd in your layer: its path in dx is missing.",
        "Which of your lines stand under no_grad, or detach, and which of them should?",
        {"mean_term": lambda s: 0.0},
    ),
)


# Probes of a layer


def _layer_inputs(
    rng: np.random.Generator, shape: tuple[int, int], *, eps: float, momentum: float | None, mean: float | None = None
) -> Inputs:
    inputs = random_inputs(rng, shape, eps=eps, mean=mean, dtype=np.float32)
    shifts = rng.normal(0, 2, (3, 1, shape[1]))
    later = inputs["x"] + shifts + rng.normal(0, 1, (3, *shape))
    dy = rng.normal(0.4, 1, shape).astype(np.float32)
    first, *others = inputs.items()
    return dict([first, ("later", later.astype(np.float32)), *others, ("dy", dy), ("momentum", momentum)])


def _layer_probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    small = _layer_inputs(rng, (3, 2), eps=1e-2, momentum=0.8)
    far = _layer_inputs(rng, (6, 3), eps=1e-5, momentum=0.3, mean=1e4)
    return (
        Probe(
            "plain",
            "momentum = 0.3, and batches of different mean.",
            _layer_inputs(rng, (6, 3), eps=1e-3, momentum=0.3),
        ),
        Probe(
            "epsilon", "ε = 0.5, so large that its place matters.", _layer_inputs(rng, (5, 4), eps=0.5, momentum=0.1)
        ),
        Probe("small", "batches of three.", small),
        Probe("average", "momentum = None.", _layer_inputs(rng, (4, 3), eps=1e-5, momentum=None)),
        Probe("still", "momentum = 0.", _layer_inputs(rng, (4, 3), eps=1e-3, momentum=0.0)),
        Probe(
            "constant",
            "one channel that never varies, and one that hardly does.",
            with_constant_channel(small),
            floor=1e-4,
        ),
        Probe("offset", "values with mean 10,000 and standard deviation 1.", far, **ROUGH),
    )


def _fresh_layer(rng: np.random.Generator) -> Inputs:
    shape = (int(rng.integers(4, 9)), int(rng.integers(2, 6)))
    momentum = None if rng.random() < 0.25 else float(rng.uniform(0.05, 0.45))
    return _layer_inputs(rng, shape, eps=float(10 ** rng.uniform(-4, -1)), momentum=momentum)


LAYER = Exercise(
    id="BatchNorm1d",
    chapter="05_autograd_and_layers",
    signature="__init__(self, num_features, eps, momentum) and forward(self, x) -> y, x of shape (N, C)",
    operation=Layer,
    probes=_layer_probes(51),
    fresh=_fresh_layer,
    mistakes=(*PARAMETERS_MISTAKES, *MODE_MISTAKES, *MEMORY_MISTAKES, *LAYER_STATISTICS_MISTAKES),
    properties=(
        Property(
            "state_dict() holds weight, bias, running_mean, running_var and num_batches_tracked.",
            lambda o, i: o["plain"]["in_state_dict"].all(),
        ),
        Property(
            "weight and bias are parameters, and nothing else is.",
            lambda o, i: close(o["plain"]["in_parameters"], _named("weight", "bias")(None)),
        ),
        Property(
            "a new layer in evaluation hands x on, but for ε.",
            lambda o, i: close(o["average"]["y_untrained"], i["average"]["x"]),
        ),
        Property(
            "in training every channel of y has the mean β.",
            lambda o, i: close(o["plain"]["y_training"].mean(0), i["plain"]["bias"]),
        ),
        Property(
            "a gradient arrives at x, weight and bias.",
            lambda o, i: all(o["plain"][f"{name}_grad"].any() for name in ("x", "weight", "bias")),
        ),
        Property(
            "the running statistics move, and carry no graph.",
            lambda o, i: (o["plain"]["running_mean"] != 0).all() and not o["plain"]["running_graph"],
        ),
    ),
    hints=(
        "Three kinds of things: what is trained, what is remembered, and plain numbers. Which is which?",
        "Ask self.training. Only in training mode do the running statistics move, and under torch.no_grad().",
        "Two variances: one to normalize with, through which gradients flow, and one to remember.",
    ),
    container="dict",
    changing=CHANGING,
    drive=drive_layer,
)


# Weight decay

Network = tuple["str | Network", ...]  # names of classes of torch.nn; a tuple in it is a part of its own
NO_BIAS = " without bias"  # after the name of a class


class ParameterGroups(Operation):
    """Which parameters of a network decay: the matrices and the kernels, and nothing else."""

    outputs = ("decay", "in_optimizer")

    @step
    def parameters(s):
        """Layer, name and depth of each parameter, in PyTorch's order."""
        return list(_parameters(s.network))

    @step
    def decays(s):
        return lambda layer, name, depth: name == "weight" and not layer.startswith("BatchNorm")

    @step
    def rate(s):
        return s.weight_decay

    @step
    def rest(s):
        """The decay of what should not decay."""
        return 0.0

    @step
    def given(s):
        """Whether a parameter is in a group."""
        return lambda layer, name, depth: True

    @step
    def decay(s):
        rates = ((s.rate if s.decays(*each) else s.rest) * s.given(*each) for each in s.parameters)
        return np.array(list(rates), float)

    @step
    def in_optimizer(s):
        return np.array([float(s.given(*each)) for each in s.parameters])


def _parameters(network: Network, depth: int = 0) -> Iterator[tuple[str, str, int]]:
    for part in network:
        if isinstance(part, tuple):
            yield from _parameters(part, depth + 1)
        elif part != "ReLU":
            names = ("weight",) if part.endswith(NO_BIAS) else ("weight", "bias")
            yield from ((part.removesuffix(NO_BIAS), name, depth) for name in names)


def drive_groups(answer: Callable, inputs: Inputs) -> dict[str, object]:
    """The groups are handed to an optimizer, which says what it would do with each parameter."""
    import torch

    model = _network(inputs["network"])
    groups = answer(model, inputs["weight_decay"])
    if not isinstance(groups, list | tuple) or not all(isinstance(group, dict) for group in groups):
        got = f"a list with {a(groups[0])} in it" if isinstance(groups, list) else a(groups)
        raise Unusable("container", f"Expected a list of dicts, one for each group, got {got}.")
    if any("params" not in group for group in groups):
        raise Unusable("container", 'Every group needs the key "params".')
    groups = [{**group, "params": _listed(group["params"])} for group in groups]
    _expect_parameters([parameter for group in groups for parameter in group["params"]])
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            says = f"Your function changed the network: {name} has requires_grad=False now, so nothing trains it."
            raise Unusable("type", f"{says} What does not decay is still trained.")
    optimizer = torch.optim.AdamW([{"params": []}, *groups])  # it takes empty groups, but no empty list
    rates = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    every = [id(parameter) for parameter in model.parameters()]
    return {
        "decay": np.array([float(rates.get(each, 0.0)) for each in every]),
        "in_optimizer": np.array([float(each in rates) for each in every]),
    }


def _listed(parameters: object) -> list:
    """As an optimizer takes them: one, or several in any order, perhaps with their names."""
    import torch

    if isinstance(parameters, torch.Tensor):
        return [parameters]
    return [each[1] if isinstance(each, tuple) and len(each) == 2 else each for each in parameters]


def _expect_parameters(parameters: list) -> None:
    """Refuse what is no parameter, or is there twice."""
    import torch

    for each in parameters:
        if not isinstance(each, torch.nn.Parameter):
            raise Unusable("type", f"A group of yours holds {a(each)}, expected parameters of the network.")
    if len(set(map(id, parameters))) < len(parameters):
        raise Unusable("count", "A parameter is in your groups more than once.")


def _network(network: Network) -> "torch.nn.Module":
    """The network; nothing ever goes through it, so all layers are small."""
    from torch import nn

    return nn.Sequential(*(_network(part) if isinstance(part, tuple) else _layer(part) for part in network))


def _layer(name: str) -> "torch.nn.Module":
    from torch import nn

    sizes = {"Linear": (3, 3), "Conv2d": (3, 3, 1), "BatchNorm1d": (3,), "BatchNorm2d": (3,), "ReLU": ()}
    kind = name.removesuffix(NO_BIAS)
    return getattr(nn, kind)(*sizes[kind], **({} if kind == name else {"bias": False}))


def _decaying(*names: str) -> Form:
    """What decays, by name and kind: "weight" and "bias" of layers, "gamma" and "beta" of batch norm."""
    norms = {"weight": "gamma", "bias": "beta"}
    return {"decays": lambda s: lambda layer, name, _: (norms[name] if layer.startswith("B") else name) in names}


GROUPS_MISTAKES = (
    Mistake(
        "U06",
        "γ or β of batch norm decays. Decay makes weights small, but a small γ makes the layer's output small.",
        "What should become of γ = 1 if the loss does not care?",
        _decaying("weight", "bias", "gamma", "beta"),
        _decaying("weight", "gamma"),
        _decaying("weight", "beta"),
        {"decays": lambda s: lambda layer, name, _: name == "weight" and layer != "BatchNorm1d"},
        {"decays": lambda s: lambda layer, name, _: name == "weight" and layer != "BatchNorm2d"},
    ),
    Mistake(
        "U37",
        "The biases of other layers decay in your groups, too. Here only matrices and kernels are to.",
        "How many axes does the weight of a linear layer have, how many its bias, how many γ?",
        _decaying("weight", "bias"),
    ),
    Mistake(
        "U38",
        "Your two groups are swapped: what should decay does not, and the rest does.",
        "Which of your groups has weight_decay=0?",
        _decaying("bias", "gamma", "beta"),
    ),
    Mistake(
        "U39",
        "Some parameters are in none of your groups. The optimizer never changes them.",
        "How many parameters does model.parameters() list, and how many are in your groups?",
        {"given": lambda s: s.decays},
        {"given": lambda s: lambda layer, name, depth: name == "weight"},
        {"given": lambda s: lambda layer, name, depth: layer.startswith("B") or name == "weight"},
        {"given": lambda s: lambda layer, name, depth: depth == 0},
        {"given": lambda s: lambda layer, name, depth: not layer.startswith("B")},
        {"given": lambda s: lambda layer, name, depth: layer != "Conv2d" or name == "bias"},
        {"given": lambda s: lambda layer, name, depth: False},
    ),
    Mistake(
        "U49",
        "The kernels of convolutions do not decay in your groups. They are weights as the matrices are, with more axes.",
        "How many axes does the weight of a Conv2d have?",
        {"decays": lambda s: lambda layer, name, depth: name == "weight" and layer == "Linear"},
    ),
    Mistake(
        "U50",
        "You treat a part of the network as one layer, but it has layers of its own.",
        "What do model.children() and model.modules() list?",
        {"decays": lambda s: lambda layer, name, depth: depth > 0 or name == "weight" and layer[0] != "B"},
        {"decays": lambda s: lambda layer, name, depth: name == "weight" and (depth > 0 or layer[0] != "B")},
    ),
    Mistake(
        "U40",
        "A group of yours does not say how much it decays, or not as it was asked to. A group without weight_decay gets "
        "the optimizer's default, and that need not be 0.",
        "What are the values of weight_decay in your two groups?",
        {"rest": lambda s: 0.01},
        {"rate": lambda s: 0.01},
        {"rate": lambda s: 1e-4},
        {"rate": lambda s: 0.0},
    ),
)

GROUPS = Exercise(
    id="parameter_groups",
    chapter="05_autograd_and_layers",
    signature="(model, weight_decay) -> list of groups for an optimizer, dicts with the keys params and weight_decay",
    operation=ParameterGroups,
    probes=tuple(
        Probe(name, reason, {"network": network, "weight_decay": weight_decay})
        for name, reason, network, weight_decay in (
            ("plain", "Linear, BatchNorm1d, ReLU, Linear.", ("Linear", "BatchNorm1d", "ReLU", "Linear"), 0.125),
            ("images", "Conv2d, BatchNorm2d.", ("Conv2d", "BatchNorm2d"), 0.25),
            (
                "parts",
                "a Conv2d, then a part of Conv2d without bias, BatchNorm2d and ReLU, then a Linear.",
                ("Conv2d", (f"Conv2d{NO_BIAS}", "BatchNorm2d", "ReLU"), "Linear"),
                0.5,
            ),
        )
    ),
    fresh=lambda rng: {
        "network": (*_random_network(rng), _random_network(rng), "Linear"),
        "weight_decay": float(rng.uniform(0.05, 0.9)),
    },
    mistakes=GROUPS_MISTAKES,
    properties=(
        Property("every parameter is in a group.", lambda o, i: all(o[name]["in_optimizer"].all() for name in i)),
        Property("the matrix of a linear layer decays.", lambda o, i: o["plain"]["decay"][0] > 0),
        Property("γ and β do not decay.", lambda o, i: not o["plain"]["decay"][2:4].any()),
        Property("no bias decays.", lambda o, i: not o["plain"]["decay"][[1, 5]].any()),
    ),
    hints=(
        "What tells a matrix or a kernel from γ, β and a bias, without looking at names or classes?",
        "Two lists, filled in one loop over model.parameters(), and a dict for each.",
        "A group that says nothing of weight_decay gets the optimizer's default. Give 0 where you mean 0.",
    ),
    container="dict",
    drive=drive_groups,
)


def _random_network(rng: np.random.Generator) -> Network:
    """Two or three layers, each with a batch norm behind it."""
    pairs = (("Linear", "BatchNorm1d"), ("Conv2d", "BatchNorm2d"))
    return tuple(chain.from_iterable(pairs[int(which)] for which in rng.integers(0, 2, int(rng.integers(2, 4)))))


EXERCISES = (FUNCTION, LAYER, GROUPS)
