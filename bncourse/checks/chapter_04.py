"""Chapter 4, training and inference: its exercises, and the mistakes made in them."""

import math

import numpy as np

from .chapter_02 import (
    AFFINE_MISTAKES,
    IMAGE_AFFINE_MISTAKES,
    ROUGH,
    STATISTICS_MISTAKES,
    BatchNorm,
    Normalization,
    asked,
    channel_axes,
    chosen,
    close,
    random_inputs,
    refuse_one_sample,
    with_forms,
    with_small_variance,
)
from .chapter_03 import CHANGING, IMAGE_PATH_MISTAKES, PARAM_MISTAKES, PATH_MISTAKES, SHAPES, BatchNormBackward
from .exercise import Exercise, Form, Inputs, Mistake, Operation, Probe, Property, step

OLD_VALUE_CONVENTIONS = frozenset({"keras", "flax", "onnx"})  # their momentum weighs the old value


class RunningStats(Normalization):
    """running ← (1 − momentum) · running + momentum · batch, with the unbiased variance of the batch."""

    outputs = ("new_running_mean", "new_running_var")

    @step
    def divisor(s):
        """PyTorch remembers the unbiased variance."""
        return s.data.size / s.mean.size - 1

    @step
    def share(s):
        """The weight of the batch."""
        return s.momentum

    @step
    def mean_share(s):
        return s.share

    @step
    def var_share(s):
        return s.share

    @step
    def mean_kept(s):
        """The weight of what was remembered."""
        return 1 - s.mean_share

    @step
    def var_kept(s):
        return 1 - s.var_share

    @step
    def batch_mean(s):
        return s.mean.squeeze(s.axes)

    @step
    def batch_var(s):
        return s.var.squeeze(s.axes)

    @step
    def next_mean(s):
        return s.mean_kept * s.running_mean + s.mean_share * s.batch_mean

    @step
    def next_var(s):
        return s.var_kept * s.running_var + s.var_share * s.batch_var

    @step
    def new_running_mean(s):
        return s.next_mean

    @step
    def new_running_var(s):
        return s.next_var


class CumulativeAverage(RunningStats):
    """Running statistics in which every batch counts equally."""

    outputs = ("new_running_mean", "new_running_var", "new_num_batches_tracked")

    @step
    def share(s):
        return 1 / (s.num_batches_tracked + 1)

    @step
    def new_num_batches_tracked(s):
        return float(s.num_batches_tracked + 1)


class PytorchMomentum(Operation):
    """A framework's momentum as PyTorch would call it."""

    outputs = ("result",)

    @step
    def converted(s):
        """The frameworks whose momentum weighs the old value."""
        return OLD_VALUE_CONVENTIONS

    @step
    def other(s):
        """What a momentum becomes in the other convention."""
        return 1 - s.momentum

    @step
    def result(s):
        return s.other if s.framework in s.converted else s.momentum


def _per_channel(s: Operation, values: np.ndarray) -> np.ndarray:
    """Values of shape (C,), in a shape that lines up with axis 1 of x."""
    return values.reshape(-1, *[1] * (s.x.ndim - 2))


class FixedStatistics(Operation):
    """Normalization with running statistics in the place of the batch's."""

    @step
    def mean(s):
        return _per_channel(s, s.running_mean)

    @step
    def var(s):
        return _per_channel(s, s.running_var)


class Evaluation(FixedStatistics, BatchNorm):
    """y = γ · (x − running_mean) / √(running_var + ε) + β."""


class EvaluationBackward(FixedStatistics, BatchNormBackward):
    """dx = γ · dy / √(running_var + ε), dweight = Σ dy · x̂, dbias = Σ dy."""

    @step
    def mean_term(s):
        return 0.0

    @step
    def var_term(s):
        return 0.0


# Mistakes


def _batch_mean(s: Normalization) -> np.ndarray:
    return s.x.mean(channel_axes(s.x), keepdims=True)


def _batch_var(s: Normalization) -> np.ndarray:
    return s.x.var(channel_axes(s.x), keepdims=True)


def variance(x: np.ndarray, axes: tuple[int, ...], *, ddof: int) -> np.ndarray:
    """As ``x.var``, but without its warning where one value has no unbiased variance: the result is NaN."""
    count = math.prod(x.shape[axis] for axis in axes)
    return x.var(axes) * np.float64(count) / (count - ddof)


def _unbiased(s: Normalization) -> np.ndarray:
    return _per_channel(s, variance(s.x, channel_axes(s.x), ddof=1))


def _over(*axes: int) -> Form:
    """Running statistics of batch statistics over other axes, in whatever shape they come."""
    return {
        "batch_mean": lambda s: s.x.mean(axes),
        "batch_var": lambda s: variance(s.x, axes, ddof=1),
    }


SHARED_RUNNING_MISTAKES = (
    Mistake(
        "R02",
        "You remembered the biased variance. PyTorch stores the unbiased one: the batch stands for a population here.",
        "By what does PyTorch divide the sum of squares for running_var?",
        {"divisor": lambda s: s.data.size / s.mean.size},
        {"divisor": lambda s: (s.data.size / s.mean.size) ** 2 / (s.data.size / s.mean.size - 1)},
    ),
    Mistake(
        "R05",
        "You stored a standard deviation; running_var holds a variance.",
        "In evaluation the root is taken of running_var + ε. What would it be taken of with your value?",
        {"batch_var": lambda s: np.sqrt(s.var).squeeze(s.axes)},
        {"new_running_var": lambda s: np.sqrt(s.next_var)},
    ),
    Mistake(
        "R07",
        "The running statistics were never updated: they came back as they went in.",
        "Which of your lines uses the batch?",
        {"next_mean": lambda s: s.running_mean, "next_var": lambda s: s.running_var},
    ),
    Mistake(
        "R11",
        "You replaced the running statistics by those of the last batch, instead of averaging.",
        "What is left of all earlier batches?",
        {"share": lambda s: 1.0},
        {"mean_share": lambda s: 1.0},
        {"var_share": lambda s: 1.0},
    ),
    Mistake(
        "R13",
        "You updated only one of the two running statistics.",
        "Which of your two results differs from what came in?",
        {"next_var": lambda s: s.running_var},
        {"next_mean": lambda s: s.running_mean},
    ),
    Mistake(
        "R26",
        "You swapped the running mean and the running variance.",
        "In which order does the exercise want them?",
        {"new_running_mean": lambda s: s.next_var, "new_running_var": lambda s: s.next_mean},
    ),
    Mistake(
        "R29",
        "The weights of the old and of the new value must add up to 1: one of the two did not shrink.",
        "What happens to your average if every batch has the mean 1?",
        {"mean_kept": lambda s: 1.0, "var_kept": lambda s: 1.0},
        {"mean_kept": lambda s: 1.0, "var_kept": lambda s: 1.0, "share": lambda s: 1.0},
        {
            "next_mean": lambda s: s.mean_kept * s.running_mean + s.batch_mean,
            "next_var": lambda s: s.var_kept * s.running_var + s.batch_var,
        },
    ),
    Mistake(
        "R30",
        "You corrected the whole running variance by m/(m−1). Only the batch's variance is to be corrected.",
        "After ten steps, how often was the variance of the first batch corrected?",
        {
            "divisor": lambda s: s.data.size / s.mean.size,
            "new_running_var": lambda s: s.next_var * s.data.size / (s.data.size - s.mean.size),
        },
    ),
    Mistake(
        "C09",
        "You corrected with N/(N−1). What counts is the number of values per channel, N·H·W.",
        "How many values of x go into one mean?",
        {"divisor": lambda s: s.data.size / s.mean.size * (len(s.x) - 1) / len(s.x)},
        {"divisor": lambda s: len(s.x) - 1},
        {"divisor": lambda s: len(s.x)},
        {"data": refuse_one_sample},
    ),
    *chosen(STATISTICS_MISTAKES, "F06", "F19"),
    Mistake(
        "R32",
        "Your variance measures the distance from the running mean. It is the batch's own variance, around the "
        "batch's own mean, that is remembered.",
        "What does the batch variance say if every value of the batch is 5?",
        {"spread": lambda s: s.data - _per_channel(s, s.running_mean)},
    ),
    Mistake(
        "R33",
        "You took the variance image by image, or of the images' means. The channel's variance is that of all its "
        "values in the batch together.",
        "Two images, one all 0 and one all 2: what is the variance of the channel?",
        {"batch_var": lambda s: s.x.var((2, 3)).mean(0)},
        {"batch_var": lambda s: variance(s.x, (2, 3), ddof=1).mean(0)},
        {"batch_var": lambda s: s.x.mean((2, 3)).var(0)},
        {"batch_var": lambda s: variance(s.x.mean((2, 3)), (0,), ddof=1)},
    ),
    Mistake(
        "R34",
        "The running statistics move away from the batch: the step has the wrong sign.",
        "If the batch's mean is larger than the running mean, should that grow or shrink?",
        {
            "next_mean": lambda s: s.running_mean - s.share * (s.batch_mean - s.running_mean),
            "next_var": lambda s: s.running_var - s.share * (s.batch_var - s.running_var),
        },
    ),
    Mistake(
        "C07",
        "You used reshape to bring the channels to the front. But reshape does not move axes: "
        "the values of different channels are mixed.",
        "For x of shape (2, 3, 1, 1), which samples and channels are in the first row of x.reshape(3, -1)?",
        {
            "batch_mean": lambda s: s.x.reshape(s.x.shape[1], -1).mean(1),
            "batch_var": lambda s: variance(s.x.reshape(s.x.shape[1], -1), (1,), ddof=1),
        },
        {
            "batch_mean": lambda s: s.x.reshape(-1, s.x.shape[1]).mean(0),
            "batch_var": lambda s: variance(s.x.reshape(-1, s.x.shape[1]), (0,), ddof=1),
        },
    ),
    Mistake(
        "C14",
        "The mean that you subtract for the variance has the shape (C,), so it lines up with the last axis of x instead "
        "of the channels.",
        "Which shapes do x.mean((0, 2, 3)) and x have, and how does NumPy align them?",
        {"spread": lambda s: s.data - s.mean.reshape(-1)},
    ),
    Mistake(
        "C15",
        "Your batch statistics kept the four axes of x, but the running statistics have the shape (C,).",
        "How many axes does running_mean have, and how many has your mean of the batch?",
        {"batch_mean": lambda s: s.mean, "batch_var": lambda s: s.var},
    ),
    Mistake(
        "C05",
        "You averaged over the features of each sample: those are the statistics of layer norm.",
        "How many running means does a layer with 3 channels have?",
        _over(1, 2, 3),
        _over(1),
    ),
    Mistake(
        "C01",
        "You averaged over the batch axis alone. In images all positions of a channel share their statistics.",
        "How many running means does a layer with 3 channels have?",
        _over(0),
    ),
    Mistake(
        "C02",
        "You averaged each image alone: the result has one row per image.",
        "How many running means does a layer with 3 channels have?",
        _over(2, 3),
    ),
    Mistake(
        "C17",
        "You took one mean and one variance over the whole array: all channels share them.",
        "How many running means does a layer with 3 channels have?",
        _over(0, 1, 2, 3),
    ),
    Mistake(
        "C18",
        "You took the last axis for the channels, as Keras has them. Here the channel axis is number 1.",
        "Which axis of (N, C, H, W) is left out of the mean?",
        _over(0, 1, 2),
    ),
)

MOMENTUM_MISTAKES = (
    Mistake(
        "R01",
        "Your momentum weighs the old value. In PyTorch it is the weight of the new one; Keras, Flax and ONNX have it "
        "the other way round.",
        "With momentum 0.1, how much of the batch should arrive in the running mean?",
        {"share": lambda s: 1 - s.momentum},
        {"mean_share": lambda s: 1 - s.momentum},
        {"var_share": lambda s: 1 - s.momentum},
    ),
    Mistake(
        "R27",
        "You used a fixed momentum and ignored the argument.",
        "What changes in your function when the caller passes momentum=0.9?",
        {"share": lambda s: 0.1},
        {"share": lambda s: 0.9},
        {"share": lambda s: 0.01},
        {"share": lambda s: 0.5},
    ),
)

CUMULATIVE_MISTAKES = (
    Mistake(
        "R16",
        "The weight of the new batch is off: the batches do not count equally.",
        "Which weight must the very first batch have, so that nothing remains of the start?",
        {"share": lambda s: 1 / s.num_batches_tracked},  # raises ZeroDivisionError at the first batch
        {"share": lambda s: np.float64(1) / s.num_batches_tracked},
        {"share": lambda s: 1 / max(s.num_batches_tracked, 1)},
        {"share": lambda s: 1 / (s.num_batches_tracked + 2)},
        {  # counted twice
            "share": lambda s: 1 / (s.num_batches_tracked + 2),
            "new_num_batches_tracked": lambda s: float(s.num_batches_tracked + 2),
        },
        {"share": lambda s: s.num_batches_tracked / (s.num_batches_tracked + 1)},
        {"share": lambda s: 0.1},
        {"share": lambda s: 0.5},
        {"share": lambda s: len(s.x) / (s.num_batches_tracked + len(s.x))},
        {
            "mean_kept": lambda s: 1 / (s.num_batches_tracked + 1),
            "var_kept": lambda s: 1 / (s.num_batches_tracked + 1),
        },
    ),
    Mistake(
        "R31",
        "The counter is off: it should have grown by one.",
        "How many batches have been seen after this one?",
        {"new_num_batches_tracked": lambda s: float(s.num_batches_tracked)},
        {"new_num_batches_tracked": lambda s: float(s.num_batches_tracked + 2)},
        {"new_num_batches_tracked": lambda s: float(s.num_batches_tracked + len(s.x))},
    ),
)

CONVERSION_MISTAKES = (
    Mistake(
        "U13",
        "A momentum that weighs the old value came back as it was. In PyTorch it is the weight of the new one. "
        "(Do your comparisons spell the names as the exercise does?)",
        "Keras's 0.99 keeps 99 % of the old value. How much of the new value is that?",
        {"converted": lambda s: frozenset()},
    ),
    Mistake(
        "U33",
        "You converted PyTorch's own momentum, too. (In Python, a == 'x' or 'y' is always true.)",
        "What should pytorch_momentum(0.1, 'pytorch') be?",
        {"converted": lambda s: {"keras", "flax", "onnx", "pytorch"}},
    ),
    Mistake(
        "U34",
        "Some of the frameworks are on the wrong side.",
        "In the table of the chapter, which conventions weigh the old value?",
        {"converted": lambda s: {"keras"}},
        {"converted": lambda s: {"keras", "flax"}},
        {"converted": lambda s: {"keras", "onnx"}},
        {"converted": lambda s: {"flax", "onnx"}},
        {"converted": lambda s: {"flax"}},
        {"converted": lambda s: {"onnx"}},
    ),
    Mistake(
        "U36",
        "You converted PyTorch's momentum and left the others: it is the other way round.",
        "What should pytorch_momentum(0.1, 'pytorch') be?",
        {"converted": lambda s: {"pytorch"}},
    ),
    Mistake(
        "U35",
        "You inverted the momentum: the weights of the old and the new value add up to 1.",
        "If the old value has the weight 0.9, which weight is left for the new one?",
        {"other": lambda s: 1 / s.momentum},
        {"other": lambda s: s.momentum - 1},
    ),
)

BATCH_STATISTICS = Mistake(
    "R09",
    "Your evaluation depends on the batch: it uses the batch's own statistics. In evaluation each sample stands alone.",
    "What should happen to the output of one sample when the others change?",
    {"mean": _batch_mean, "var": _batch_var},
    {"mean": _batch_mean},
    {"var": _batch_var},
    {"mean": _batch_mean, "var": _unbiased},
    {"var": _unbiased},
    {
        "mean": lambda s: s.x.mean((2, 3), keepdims=True),
        "var": lambda s: s.x.var((2, 3), keepdims=True),
    },
)

RUNNING_STD = (
    Mistake(
        "R14",
        "You divided by running_var. It holds a variance; divide by the root of running_var + ε.",
        "If x is in metres, what is the unit of running_var?",
        {"std": lambda s: s.var + s.epsilon},
        {"std": lambda s: s.var},
    ),
    Mistake(
        "R05",
        "You treated running_var as a standard deviation, or took its root twice.",
        "What does running_var hold, and how many roots lead to what x is divided by?",
        {"std": lambda s: np.sqrt(np.sqrt(s.var) + s.epsilon)},
        {"std": lambda s: np.sqrt(np.sqrt(s.var + s.epsilon))},
        {"std": lambda s: np.sqrt(s.var**2 + s.epsilon)},
    ),
    Mistake(
        "R28",
        "You corrected running_var for its bias. What is stored is to be used as it is.",
        "Does evaluation know how large the training batches were?",
        {"var": lambda s: _per_channel(s, s.running_var) * s.x.size / (s.x.size - s.x.shape[1])},
        {"var": lambda s: _per_channel(s, s.running_var) * (s.x.size - s.x.shape[1]) / s.x.size},
    ),
)

RAW_STATISTICS = Mistake(
    "C14",
    "running_mean or running_var of shape (C,) lines up with the last axis of x instead of the channels.",
    "With which axis of (N, C, H, W) does NumPy align an array of shape (C,)?",
    {"mean": lambda s: s.running_mean, "var": lambda s: s.running_var},
    {"mean": lambda s: s.running_mean},
    {"var": lambda s: s.running_var},
)

TRAINING_GRADIENT = Mistake(
    "B21",
    "You used the gradient of training mode. In evaluation the statistics are constants: no gradient flows "
    "through them.",
    "If one x of the batch moves, do the other outputs move in evaluation mode?",
    {
        "mean_term": BatchNormBackward.mean_term.compute,
        "var_term": BatchNormBackward.var_term.compute,
        "m": lambda s: s.x.size / s.x.shape[1],
    },
    {
        "mean": _batch_mean,
        "var": _batch_var,
        "mean_term": BatchNormBackward.mean_term.compute,
        "var_term": BatchNormBackward.var_term.compute,
    },
    {"mean_term": BatchNormBackward.mean_term.compute, "m": lambda s: s.x.size / s.x.shape[1]},
    {"var_term": BatchNormBackward.var_term.compute, "m": lambda s: s.x.size / s.x.shape[1]},
)


AT_THE_MEAN = "What should y be where x equals running_mean?"
ONE_STEP = "If x grows by one running standard deviation, by how much should y grow?"

RESHAPED = Mistake(
    "C07",
    "You used reshape to bring the channels to the end. But reshape does not move axes: "
    "the values of different channels are mixed.",
    "For x of shape (2, 3, 1, 2), which channels are in the first column of x.reshape(-1, 3)?",
    {
        "data": lambda s: s.x.reshape(-1, s.x.shape[1]),
        "mean": lambda s: s.running_mean,
        "var": lambda s: s.running_var,
        "param_shape": lambda s: (-1,),
        "x_hat": lambda s: s.standardized,
        "y": lambda s: (s.scale * s.x_hat + s.shift).reshape(s.x.shape),
    },
)

EVALUATION_MISTAKES = (
    BATCH_STATISTICS,
    *RUNNING_STD,
    RAW_STATISTICS,
    Mistake(
        "F23",
        "You updated the running statistics first and normalized with the new ones. Evaluation changes nothing.",
        "Does the output of one sample depend on the batch?",
        {
            "mean": lambda s: 0.9 * _per_channel(s, s.running_mean) + 0.1 * _batch_mean(s),
            "var": lambda s: 0.9 * _per_channel(s, s.running_var) + 0.1 * _unbiased(s),
        },
        {
            "mean": lambda s: 0.9 * _per_channel(s, s.running_mean) + 0.1 * _batch_mean(s),
            "var": lambda s: 0.9 * _per_channel(s, s.running_var) + 0.1 * _batch_var(s),
        },
    ),
    RESHAPED,
    Mistake(
        "R35",
        "In y = scale · x + shift, your shift is wrong. It takes back what scale · running_mean adds.",
        AT_THE_MEAN,
        {"y": lambda s: s.scale / s.std * s.x + s.shift + s.scale / s.std * s.mean},
        {"y": lambda s: s.scale / s.std * s.x + s.shift - s.mean},
        {"y": lambda s: s.scale / s.std * s.x + s.shift - s.scale * s.mean},
        {"y": lambda s: s.scale / s.std * s.x + s.shift - s.mean / s.std},
    ),
    *asked(
        chosen(STATISTICS_MISTAKES, "F02", "F03", "F07", "F08", "F14", "F15", "F29", "F36", "F38")
        + chosen(AFFINE_MISTAKES, "F09", "F11", "F12", "F32", "F34"),
        {**dict.fromkeys(("F08", "F09", "F11", "F32"), AT_THE_MEAN), **dict.fromkeys(("F07", "F12", "F36"), ONE_STEP)},
    ),
    *IMAGE_AFFINE_MISTAKES,
)

EVALUATION_BACKWARD_MISTAKES = (
    TRAINING_GRADIENT,
    BATCH_STATISTICS,
    *with_forms(RUNNING_STD, "R14", {"inv_std": lambda s: 1 / (s.var + s.epsilon)}),
    RAW_STATISTICS,
    Mistake(
        "R38",
        "dweight uses the x̂ of the batch's own statistics. In evaluation x̂ is made with the running ones.",
        "Which x̂ did the forward pass multiply by γ?",
        {"seen": lambda s: (s.x - _batch_mean(s)) / np.sqrt(_batch_var(s) + s.epsilon)},
    ),
    Mistake(
        "B51",
        "In dweight running_mean is not subtracted: γ multiplies all of x̂, not only x/√(running_var + ε).",
        "y = γ · x̂ + β: what is ∂y/∂γ?",
        {"seen": lambda s: s.x / s.std},
    ),
    Mistake(
        "B52",
        "You multiplied dx by x̂. In evaluation y is a straight line in x.",
        "What is the slope of y = scale · x + shift?",
        {"dx": lambda s: s.inv_std * s.dx_hat * s.x_hat},
    ),
    *chosen(STATISTICS_MISTAKES, "F02", "F14", "F15"),
    *asked(chosen(PATH_MISTAKES, "B05", "B06", "B08"), dict.fromkeys(("B06", "B08"), ONE_STEP)),
    Mistake(
        "B19",
        "ε is missing in the backward pass. It is the same as in the forward pass.",
        "What is 1/√(running_var + ε) for a channel that never varied?",
        {"epsilon": lambda s: 0.0},
        {"inv_std": lambda s: 1 / np.sqrt(s.var)},
    ),
    *PARAM_MISTAKES,
    *chosen(IMAGE_PATH_MISTAKES, "B30", "B32", "C06"),
)


# Probes


def _with_running(rng: np.random.Generator, inputs: Inputs) -> dict[str, object]:
    """x and running statistics that are not those of x."""
    channels = inputs["x"].shape[1]
    dtype = inputs["x"].dtype
    mean = inputs["x"].mean(channel_axes(inputs["x"]), dtype=float) + rng.uniform(1, 3, channels)
    return {
        **inputs,
        "running_mean": mean.astype(dtype),
        "running_var": rng.uniform(2, 9, channels).astype(dtype),
    }


def _ordered(inputs: Inputs, *names: str, **more: object) -> dict[str, object]:
    """The inputs of a function in the order of its parameters."""
    every = {**inputs, **more}
    return {name: every[name] for name in names}


def _running_inputs(rng: np.random.Generator, shape: tuple[int, ...], last: str, value: object, **kind) -> Inputs:
    inputs = _with_running(rng, random_inputs(rng, shape, eps=0.0, **kind))
    return _ordered(inputs, "x", "running_mean", "running_var", last, **{last: value})


def _running_probes(seed: int, last: str, values: tuple[object, ...]) -> tuple[Probe, ...]:
    """The probes of one step of running statistics; ``last`` is the name of the last parameter."""
    rng = np.random.default_rng(seed)
    first, second, third, fourth = values
    return (
        Probe("plain", f"{last} = {first}.", _running_inputs(rng, (2, 3, 4, 5), last, first)),
        Probe("smallest", "two images of one pixel.", _running_inputs(rng, (2, 3, 1, 1), last, second)),
        Probe(
            "square",
            "as many channels as the last axis is long, so that shapes fit which should not.",
            _running_inputs(rng, (3, 3, 3, 3), last, third),
        ),
        Probe("one image", "a batch of a single image.", _running_inputs(rng, (1, 3, 2, 2), last, fourth)),
        Probe(
            "offset",
            "float32 values with mean 10,000 and standard deviation 1.",
            _running_inputs(rng, (2, 3, 4, 5), last, first, mean=1e4, dtype=np.float32),
            **ROUGH,
        ),
    )


EVALUATION_PARAMETERS = ("x", "weight", "bias", "running_mean", "running_var", "eps")
EVALUATION_BACKWARD_PARAMETERS = ("dy", "x", "weight", "running_mean", "running_var", "eps")


def _evaluation_inputs(rng: np.random.Generator, shape: tuple[int, ...], eps: float, names: tuple[str, ...]) -> Inputs:
    inputs = _with_running(rng, random_inputs(rng, shape, eps=eps))
    return _ordered(inputs, *names, dy=rng.normal(0.4, 1, shape))


def _evaluation_probes(seed: int, names: tuple[str, ...]) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    plain = _evaluation_inputs(rng, (2, 3, 4, 5), 1e-5, names)
    square = _evaluation_inputs(rng, (3, 3, 3, 3), 1e-2, names)
    alone = {name: v[:1] if isinstance(v, np.ndarray) and v.ndim == 4 else v for name, v in plain.items()}
    still = {"running_mean": 0.1 * rng.normal(size=3), "running_var": np.array([0.0, 0.1, 0.3])}
    quiet = {**with_small_variance(square), **still}
    return (
        Probe("plain", "running statistics that are not those of the batch.", plain),
        Probe("epsilon", "ε = 0.5, so large that its place matters.", {**plain, "eps": 0.5}),
        Probe("square", "as many channels as the last axis is long, so that shapes fit which should not.", square),
        Probe("alone", "the first sample of the first input, alone.", alone),
        Probe("quiet", "running variances of 0 and a little more, all smaller than ε.", quiet),
    )


def _fresh_evaluation(names: tuple[str, ...]):
    def fresh(rng: np.random.Generator) -> Inputs:
        shape = tuple(int(n) for n in rng.integers(2, 6, 4))
        return _evaluation_inputs(rng, shape, float(10 ** rng.uniform(-4, -1)), names)

    return fresh


def _fresh_running(last: str, draw):
    def fresh(rng: np.random.Generator) -> Inputs:
        shape = tuple(int(n) for n in rng.integers(2, 6, 4))
        return _running_inputs(rng, shape, last, draw(rng))

    return fresh


def _fresh_momentum(rng: np.random.Generator) -> Inputs:
    framework = str(rng.choice(["pytorch", *sorted(OLD_VALUE_CONVENTIONS)]))
    return {"momentum": float(rng.uniform(0.001, 0.999)), "framework": framework}


# Properties


def _one_per_channel(o, i) -> bool:
    """Whether both running statistics have the shape that they came with."""
    return all(
        o[name]["new_running_mean"].shape == o[name]["new_running_var"].shape == i[name]["running_mean"].shape
        for name in i
    )


RUNNING_PROPERTIES = (
    Property("the running statistics keep their shape, one value per channel.", _one_per_channel),
    Property(
        "both running statistics move.",
        lambda o, i: all(
            (np.abs(o["plain"][f"new_{name}"] - i["plain"][name]) > 1e-6).all()
            for name in ("running_mean", "running_var")
        ),
    ),
    Property(
        "the running mean moves towards the mean of the batch, and not beyond it.",
        lambda o, i: _lies_between(
            o["plain"]["new_running_mean"], i["plain"]["running_mean"], i["plain"]["x"].mean((0, 2, 3))
        ),
    ),
    Property(
        "every running variance is a number, and none is negative.",
        lambda o, i: all((o[name]["new_running_var"] >= 0).all() for name in o),
    ),
)


def _lies_between(value: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    slack = 1e-6 * (np.abs(a) + np.abs(b))
    return bool(((value >= np.minimum(a, b) - slack) & (value <= np.maximum(a, b) + slack)).all())


SAMPLES_STAND_ALONE = Property(
    "a sample's result does not depend on the rest of the batch.",
    lambda o, i: all(close(o["alone"][name], o["plain"][name][:1]) for name in ("y", "dx") if name in o["alone"]),
)

# Exercises

CHANGING_STATE = {**CHANGING, "running_mean": "R25", "running_var": "R25"}

UPDATE = Exercise(
    id="update_running_stats",
    chapter="04_train_and_inference",
    signature="(x, running_mean, running_var, momentum) -> (running_mean, running_var), x of shape (N, C, H, W)",
    operation=RunningStats,
    probes=_running_probes(40, "momentum", (0.3, 0.9, 0.1, 0.25)),
    fresh=_fresh_running("momentum", lambda rng: float(rng.uniform(0.05, 0.45))),
    mistakes=(*SHARED_RUNNING_MISTAKES, *MOMENTUM_MISTAKES),
    properties=RUNNING_PROPERTIES,
    hints=(
        "A weighted mean of old and new. In PyTorch, which of the two has the weight momentum?",
        "The batch stands for a population: its variance is divided by the number of values per channel less one.",
        "Return new arrays. What you were given stays as it was.",
    ),
    changing=CHANGING_STATE,
)

MOMENTUM = Exercise(
    id="pytorch_momentum",
    chapter="04_train_and_inference",
    signature="(momentum, framework) -> momentum, framework one of 'pytorch', 'keras', 'flax', 'onnx'",
    operation=PytorchMomentum,
    probes=tuple(
        Probe(
            f"{framework} {momentum}",
            f"momentum {momentum} of {framework}.",
            {"momentum": momentum, "framework": framework},
        )
        for framework, momentum in (
            *(("keras", 0.99), ("onnx", 0.9), ("flax", 0.8125), ("pytorch", 0.1)),
            *(("keras", 0.3), ("onnx", 0.4), ("flax", 0.995), ("pytorch", 0.9)),
        )
    ),
    fresh=_fresh_momentum,
    mistakes=CONVERSION_MISTAKES,
    properties=(
        Property("PyTorch's own momentum stays.", lambda o, i: close(o["pytorch 0.1"]["result"], 0.1)),
        Property("Keras's default 0.99 becomes a small number.", lambda o, i: 0 < o["keras 0.99"]["result"] < 0.1),
        Property("the result is a weight between 0 and 1.", lambda o, i: all(0 <= o[n]["result"] <= 1 for n in i)),
    ),
    hints=(
        "The table of the chapter says whose momentum weighs the old value.",
        "The weights of the old and of the new value add up to 1.",
    ),
)

CUMULATIVE = Exercise(
    id="cumulative_average",
    chapter="04_train_and_inference",
    signature="(x, running_mean, running_var, num_batches_tracked) -> "
    "(running_mean, running_var, num_batches_tracked), x of shape (N, C, H, W)",
    operation=CumulativeAverage,
    probes=_running_probes(41, "num_batches_tracked", (3, 0, 2, 9)),
    fresh=_fresh_running("num_batches_tracked", lambda rng: int(rng.integers(0, 40))),
    mistakes=(*SHARED_RUNNING_MISTAKES, *CUMULATIVE_MISTAKES),
    properties=(
        *RUNNING_PROPERTIES,
        Property(
            "after the first batch nothing remains of the start.",
            lambda o, i: close(o["smallest"]["new_running_mean"], i["smallest"]["x"].mean((0, 2, 3))),
        ),
        Property(
            "the counter grows by one.",
            lambda o, i: all(o[n]["new_num_batches_tracked"] == i[n]["num_batches_tracked"] + 1 for n in i),
        ),
    ),
    hints=(
        "Which momentum must the first batch have, which the second, which the third?",
        "num_batches_tracked counts the batches before this one. Count this one first.",
        "What remains is update_running_stats with another momentum each time.",
    ),
    changing=CHANGING_STATE,
)

EVALUATION = Exercise(
    id="batch_norm_eval",
    chapter="04_train_and_inference",
    signature="(x, weight, bias, running_mean, running_var, eps) -> y, x of shape (N, C, H, W)",
    operation=Evaluation,
    probes=_evaluation_probes(42, EVALUATION_PARAMETERS),
    fresh=_fresh_evaluation(EVALUATION_PARAMETERS),
    mistakes=EVALUATION_MISTAKES,
    properties=(
        Property("y has the shape of x.", lambda o, i: all(o[n]["y"].shape == i[n]["x"].shape for n in i)),
        SAMPLES_STAND_ALONE,
        Property(
            "a value equal to the running mean becomes β.",
            lambda o, i: close(*_at_running_mean(o["plain"]["y"], i["plain"])),
        ),
        Property("a running variance of 0 gives finite values.", lambda o, i: np.isfinite(o["quiet"]["y"]).all()),
    ),
    hints=(
        "The forward pass of chapter 2, with the running statistics where the batch's were.",
        "No mean and no variance of x is left. Four arrays of shape (C,) must line up with axis 1.",
    ),
    changing=CHANGING_STATE,
)


def _at_running_mean(y: np.ndarray, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """What y would be at x = running_mean, by the straight line through y; and β."""
    x = inputs["x"].transpose(1, 0, 2, 3).reshape(len(inputs["bias"]), -1)
    values = y.transpose(1, 0, 2, 3).reshape(x.shape)
    slope = (values[:, 0] - values[:, 1]) / (x[:, 0] - x[:, 1])
    return values[:, 0] + slope * (inputs["running_mean"] - x[:, 0]), inputs["bias"]


EVALUATION_BACKWARD = Exercise(
    id="batch_norm_eval_backward",
    chapter="04_train_and_inference",
    signature="(dy, x, weight, running_mean, running_var, eps) -> (dx, dweight, dbias), x of shape (N, C, H, W)",
    operation=EvaluationBackward,
    probes=_evaluation_probes(43, EVALUATION_BACKWARD_PARAMETERS),
    fresh=_fresh_evaluation(EVALUATION_BACKWARD_PARAMETERS),
    mistakes=EVALUATION_BACKWARD_MISTAKES,
    properties=(
        SHAPES,
        SAMPLES_STAND_ALONE,
        Property(
            "where dy is larger, dx is larger: the two are proportional in every channel.",
            lambda o, i: close(
                o["plain"]["dx"] / i["plain"]["dy"], (o["plain"]["dx"] / i["plain"]["dy"])[:1, :, :1, :1]
            ),
        ),
        Property(
            "dbias is what the whole batch asks of β together.",
            lambda o, i: close(o["plain"]["dbias"], i["plain"]["dy"].sum((0, 2, 3))),
        ),
    ),
    hints=(
        "Write y as scale · x + shift. What is ∂y/∂x?",
        "The statistics are constants: of the three paths one is left.",
        "dweight and dbias are as in training, with the x̂ of this forward pass.",
    ),
    changing=CHANGING_STATE,
)

EXERCISES = (UPDATE, MOMENTUM, CUMULATIVE, EVALUATION, EVALUATION_BACKWARD)
