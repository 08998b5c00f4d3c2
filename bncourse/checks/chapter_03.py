"""Chapter 3, the backward pass: its exercises, and the mistakes made in it."""

import math
from collections.abc import Iterator

import numpy as np

from .chapter_02 import (
    IMAGE_MISTAKES,
    IN_COLUMNS,
    IN_ROWS,
    ROUGH,
    STATISTICS_MISTAKES,
    Normalization,
    channel_axes,
    chosen,
    close,
    constant_probe,
    random_inputs,
    with_forms,
    with_small_variance,
)
from .exercise import Exercise, Form, Inputs, Mistake, Outputs, Probe, Property, step


class BatchNormBackward(Normalization):
    """dx = (dx̂ − mean(dx̂) − x̂ · mean(dx̂ · x̂)) / √(σ² + ε), dweight = Σ dy · x̂, dbias = Σ dy."""

    outputs = ("dx", "dweight", "dbias")

    @step
    def param_shape(s):
        return (-1, *[1] * (s.x.ndim - 2))

    @step
    def gain(s):
        """γ as it meets x."""
        return s.weight.reshape(s.param_shape)

    @step
    def upstream(s):
        """dy in the shape of the data."""
        return s.dy

    @step
    def dx_hat(s):
        return s.upstream * s.gain

    @step
    def term_axes(s):
        """The axes of the means in dx."""
        return s.axes

    @step
    def m(s):
        """What the sums over the batch are divided by."""
        return math.prod(s.data.shape[axis] for axis in s.term_axes)

    @step
    def mean_term(s):
        """The path through the mean."""
        return s.dx_hat.sum(s.term_axes, keepdims=True) / s.m

    @step
    def inner(s):
        """What stands for x̂ in mean(dx̂ · x̂)."""
        return s.x_hat

    @step
    def outer(s):
        """What stands for x̂ in front of that mean."""
        return s.x_hat

    @step
    def projection(s):
        return (s.dx_hat * s.inner).sum(s.term_axes, keepdims=True) / s.m

    @step
    def var_term(s):
        """The path through the variance."""
        return s.outer * s.projection

    @step
    def inv_std(s):
        """What the three terms are multiplied by."""
        return 1 / s.std

    @step
    def dx(s):
        return s.inv_std * (s.dx_hat - s.mean_term - s.var_term)

    @step
    def seen(s):
        """What dy is multiplied by for dweight."""
        return s.x_hat

    @step
    def param_axes(s):
        """The axes that the gradients of γ and β are summed over."""
        return channel_axes(s.x)

    @step
    def weight_sum(s):
        return (s.upstream * s.seen).sum(s.param_axes)

    @step
    def bias_sum(s):
        return s.upstream.sum(s.param_axes)

    @step
    def weight_factor(s):
        return 1.0

    @step
    def bias_factor(s):
        return 1.0

    @step
    def dweight(s):
        return s.weight_sum * s.weight_factor

    @step
    def dbias(s):
        return s.bias_sum * s.bias_factor


class BackwardNodes(Normalization):
    """The gradient of every value on the way from y back to x, for a table."""

    outputs = ("dbias", "dweight", "dx_hat", "dinv_std", "dvar", "du", "dmean", "dx")

    @step
    def u(s):
        return s.x - s.mean

    @step
    def inv_std(s):
        return (1 / s.std).reshape(-1)

    @step
    def dbias(s):
        return s.dy.sum(0)

    @step
    def dweight(s):
        return (s.dy * s.x_hat).sum(0)

    @step
    def dx_hat(s):
        return s.dy * s.weight

    @step
    def dinv_std(s):
        return (s.dx_hat * s.u).sum(0)

    @step
    def dvar(s):
        return -0.5 * s.inv_std**3 * s.dinv_std

    @step
    def through_x_hat(s):
        """What u gets from x̂ = u · inv_std."""
        return s.dx_hat * s.inv_std

    @step
    def through_var(s):
        """What u gets from the variance, the mean of u²."""
        return 2 * s.u * s.dvar / len(s.x)

    @step
    def du(s):
        return s.through_x_hat + s.through_var

    @step
    def dmean(s):
        return -s.du.sum(0)

    @step
    def from_mean(s):
        """What x gets from the mean."""
        return s.dmean / len(s.x)

    @step
    def dx(s):
        return s.du + s.from_mean


# Mistakes


def _in_terms_too(mistakes: tuple[Mistake, ...]) -> tuple[Mistake, ...]:
    """Mistakes in the axes: made everywhere but in dweight and dbias, everywhere, or in the statistics alone."""
    return tuple(Mistake(m.id, m.says, m.asks, *_in_places(m.forms)) for m in mistakes)


def _in_places(forms: tuple[Form, ...]) -> Iterator[Form]:
    for form in forms:
        yield form
        if "axes" in form:
            yield {**form, "param_axes": form["axes"]}
            yield {**form, "term_axes": lambda s: channel_axes(s.x)}


_IN_STATISTICS = chosen(STATISTICS_MISTAKES, "F01", "F02", "F04", "F06", "F08", "F14", "F15", "F19", "F40")


def _by_stages(s: BatchNormBackward) -> np.ndarray:
    """The path through the variance, with the right power of σ² + ε whatever the standard deviation is."""
    dvar = (s.dx_hat * s.centered).sum(s.term_axes, keepdims=True) / s.m * (s.var + s.epsilon) ** -1.5
    return s.std * s.centered * dvar


_BY_STAGES = with_forms(
    with_forms(_IN_STATISTICS, "F02", {"std": lambda s: np.sqrt(s.var) + s.epsilon, "var_term": _by_stages}),
    "F04",
    {"std": lambda s: s.var + s.epsilon, "var_term": _by_stages},
)
_DVAR = {"dvar": lambda s: -0.5 * (s.var.reshape(-1) + s.epsilon) ** -1.5 * s.dinv_std}
_BY_NODES = with_forms(
    with_forms(_IN_STATISTICS, "F02", {"std": lambda s: np.sqrt(s.var) + s.epsilon, **_DVAR}),
    "F04",
    {"std": lambda s: s.var + s.epsilon, **_DVAR},
)
_IN_AXES = with_forms(
    _in_terms_too(chosen(STATISTICS_MISTAKES, "C05", "C17")),
    "C17",
    {"term_axes": lambda s: tuple(range(s.x.ndim))},
)
_TERMS_WITHOUT_AXES = {
    "mean_term": lambda s: s.dx_hat.mean(s.axes),
    "projection": lambda s: (s.dx_hat * s.inner).mean(s.axes),
}
_C14 = with_forms(
    chosen(IMAGE_MISTAKES, "C14"),
    "C14",
    {**_TERMS_WITHOUT_AXES, "mean": lambda s: s.x.mean(s.axes), "var": lambda s: s.x.var(s.axes)},
    _TERMS_WITHOUT_AXES,
)
_IN_IMAGE_AXES = with_forms(
    _in_terms_too(chosen(IMAGE_MISTAKES, "C01", "C02", "C09", "C18")) + _C14 + chosen(IMAGE_MISTAKES, "C07"),
    "C07",
    {
        **IN_ROWS,
        "upstream": lambda s: s.dy.reshape(s.x.shape[1], -1),
        "param_axes": lambda s: (1,),
        "dx": lambda s: BatchNormBackward.dx.compute(s).reshape(s.x.shape),
    },
    {
        **IN_COLUMNS,
        "upstream": lambda s: s.dy.reshape(-1, s.x.shape[1]),
        "param_axes": lambda s: (0,),
        "dx": lambda s: BatchNormBackward.dx.compute(s).reshape(s.x.shape),
    },
)


SAME_X_HAT = {"inner": lambda s: s.x_hat, "outer": lambda s: s.x_hat}  # no second mistake may cancel the first


def _mean_over(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return values.mean(axes, keepdims=True)


PATH_MISTAKES = (
    Mistake(
        "B01",
        "You treated the mean and the variance as constants. Both depend on x, so gradients flow back through them.",
        "If one x of the batch moves, which other outputs move?",
        {"dx": lambda s: s.inv_std * s.dx_hat},
    ),
    Mistake(
        "B02",
        "The path through the variance is missing in dx, or your term for it is always zero: "
        "the mean of a product is not the product of the means.",
        "Stretch the batch about its mean. Does y change? What does that say about Σ dx · x̂?",
        {"var_term": lambda s: 0.0},
    ),
    Mistake(
        "B03",
        "You treated the mean as a constant: the path through it is missing.",
        "Add the same number to all x. Does y change? What does that say about Σ dx?",
        {"mean_term": lambda s: 0.0},
    ),
    Mistake(
        "B04",
        "You subtract sums over the batch where means belong: each sample moves the mean by 1/m only.",
        "What is Σ dx in your answer, and what must it be?",
        {"m": lambda s: 1.0},
        {"mean_term": lambda s: s.dx_hat.sum(s.term_axes, keepdims=True)},
        {"projection": lambda s: (s.dx_hat * s.inner).sum(s.term_axes, keepdims=True)},
    ),
    Mistake(
        "B05",
        "γ is missing in dx: the gradient with respect to x̂ is dy multiplied by γ.",
        "What is ∂y/∂x̂?",
        {"dx_hat": lambda s: s.dy},
    ),
    Mistake(
        "B06",
        "The division by the standard deviation is missing in dx.",
        "If all x are doubled, y stays. What happens to dx?",
        {"inv_std": lambda s: 1.0},
    ),
    Mistake(
        "B08",
        "You multiplied dx by the standard deviation; x̂ was made by dividing by it.",
        "If all x are doubled, y stays. What happens to dx?",
        {"inv_std": lambda s: s.std},
    ),
    Mistake(
        "B09",
        "The path through the variance has the wrong sign: it is subtracted.",
        "What is Σ dx · x̂ in your answer, and what must it be, but for ε?",
        {"var_term": lambda s: -s.outer * s.projection},
    ),
    Mistake(
        "B10",
        "The path through the mean has the wrong sign: it is subtracted.",
        "What is Σ dx in your answer, and what must it be?",
        {"mean_term": lambda s: -s.dx_hat.sum(s.term_axes, keepdims=True) / s.m},
    ),
    Mistake(
        "B12",
        "The path through the variance is half of what it should be: a factor 2 was lost, that of d(u²) = 2u du.",
        "Which 2 and which ½ cancel on the way through the variance?",
        {"var_term": lambda s: 0.5 * s.outer * s.projection},
    ),
    Mistake(
        "B13",
        "The path through the variance is twice what it should be: a factor ½ was lost, that of d√v = ½ v^(−½) dv.",
        "Which 2 and which ½ cancel on the way through the variance?",
        {"var_term": lambda s: 2 * s.outer * s.projection},
    ),
    Mistake(
        "B16",
        "You used x itself where x̂ belongs in the path through the variance.",
        "What changes in your dx when 5 is added to all x?",
        {"inner": lambda s: s.data, "outer": lambda s: s.data},
        {"inner": lambda s: s.data},
        {"outer": lambda s: s.data},
        {"inner": lambda s: s.data / s.std},  # by stages: x where x − μ belongs
        {"outer": lambda s: s.data / s.std},
        {"inner": lambda s: s.data / s.std, "outer": lambda s: s.data / s.std},
    ),
    Mistake(
        "B18",
        "You used x − μ where x̂ belongs in the path through the variance; it is not yet divided by the "
        "standard deviation. (By stages: check the power of σ² + ε in dσ².)",
        "If all x are doubled, what happens to x̂, and what to x − μ?",
        {"inner": lambda s: s.centered, "outer": lambda s: s.centered},
        {"inner": lambda s: s.centered},
        {"outer": lambda s: s.centered},
    ),
    Mistake(
        "B19",
        "ε is missing in the backward pass. It is the same as in the forward pass.",
        "What is 1/√(σ² + ε) for a channel that never varies?",
        {"epsilon": lambda s: 0.0},
        {"inv_std": lambda s: 1 / np.sqrt(s.var)},
        {"projection": lambda s: s.std**3 / s.var**1.5 * BatchNormBackward.projection.compute(s)},
    ),
    Mistake(
        "B53",
        "The path through the variance is divided by the standard deviation too often: by stages, check the power of "
        "σ² + ε in dσ², and whether x − μ or x̂ is meant.",
        "If all x are doubled, how does each of your three terms change?",
        {**SAME_X_HAT, "projection": lambda s: BatchNormBackward.projection.compute(s) / s.std},
        {**SAME_X_HAT, "projection": lambda s: BatchNormBackward.projection.compute(s) / s.std**2},
        {**SAME_X_HAT, "projection": lambda s: BatchNormBackward.projection.compute(s) / s.std**3},
    ),
    Mistake(
        "B47",
        "1/√(σ² + ε) multiplies only some of the three terms of dx. It belongs to all of them.",
        "If all x are doubled, how does each of your three terms change?",
        {"dx": lambda s: s.inv_std * s.dx_hat - s.mean_term - s.var_term},
        {"dx": lambda s: s.inv_std * (s.dx_hat - s.var_term) - s.mean_term},
    ),
    Mistake(
        "B48",
        "γ is in some terms of dx, but not in all. Everything starts from dx̂ = γ · dy.",
        "Which of your terms contain dy itself?",
        {
            "mean_term": lambda s: s.dy.sum(s.term_axes, keepdims=True) / s.m,
            "projection": lambda s: (s.dy * s.inner).sum(s.term_axes, keepdims=True) / s.m,
        },
        {"mean_term": lambda s: s.dy.sum(s.term_axes, keepdims=True) / s.m},
        {"projection": lambda s: (s.dy * s.inner).sum(s.term_axes, keepdims=True) / s.m},
        {"dx": lambda s: s.inv_std * (s.upstream - s.mean_term - s.var_term)},
    ),
    Mistake(
        "B49",
        "The three terms of dx do not have the same weight: with 1/m in front, the direct path is m times too small.",
        "What is the weight of the direct path, compared with that of the mean?",
        {"dx": lambda s: s.inv_std * (s.dx_hat / s.m - s.mean_term - s.var_term)},
    ),
    Mistake(
        "B50",
        "In the path through the variance, the x̂ in front was drawn into the mean: it is the x̂ of this one sample.",
        "Which factors of the third term differ from sample to sample, and which are averaged away?",
        {"var_term": lambda s: (s.dx_hat * s.inner * s.outer).sum(s.term_axes, keepdims=True) / s.m},
    ),
)

PARAM_MISTAKES = (
    Mistake(
        "B22",
        "You used x where x̂ belongs in dweight.",
        "y = γ · x̂ + β: what is ∂y/∂γ?",
        {"seen": lambda s: s.data},
    ),
    Mistake(
        "B23",
        "You used x − μ where x̂ belongs in dweight; it is not yet divided by the standard deviation.",
        "y = γ · x̂ + β: what is ∂y/∂γ?",
        {"seen": lambda s: s.centered},
    ),
    Mistake(
        "B25",
        "You averaged the gradients of γ or β. All values of a channel use the same γ and β, so the gradients add up.",
        "Put every sample into the batch twice: what happens to dweight?",
        {
            "weight_factor": lambda s: s.mean.size / s.data.size,
            "bias_factor": lambda s: s.mean.size / s.data.size,
        },
        {"weight_factor": lambda s: s.mean.size / s.data.size},
        {"bias_factor": lambda s: s.mean.size / s.data.size},
        {"weight_factor": lambda s: 1 / len(s.x), "bias_factor": lambda s: 1 / len(s.x)},
        {  # and used for dx, which divides by m once more
            "weight_factor": lambda s: s.mean.size / s.data.size,
            "bias_factor": lambda s: s.mean.size / s.data.size,
            "m": lambda s: (s.data.size / s.mean.size) ** 2,
        },
    ),
    Mistake(
        "B26",
        "dweight must not be multiplied by γ.",
        "y = γ · x̂ + β: what is ∂y/∂γ?",
        {"weight_sum": lambda s: (s.dy * s.gain * s.seen).sum(s.param_axes)},
    ),
    Mistake(
        "B27",
        "dbias must not be multiplied by γ.",
        "y = γ · x̂ + β: what is ∂y/∂β?",
        {"bias_sum": lambda s: (s.dy * s.gain).sum(s.param_axes)},
    ),
    Mistake(
        "B28",
        "You swapped dweight and dbias.",
        "In which order does the exercise want the three gradients?",
        {"dweight": lambda s: s.bias_sum * s.bias_factor, "dbias": lambda s: s.weight_sum * s.weight_factor},
    ),
    Mistake(
        "B31",
        "You summed dweight and dbias over the channels, too: every channel has a γ and a β of its own.",
        "How many numbers should dbias have?",
        {"param_axes": lambda s: tuple(range(s.x.ndim))},
        {
            "dweight": lambda s: np.full(s.weight.shape, s.weight_sum.sum()),
            "dbias": lambda s: np.full(s.weight.shape, s.bias_sum.sum()),
        },
    ),
    Mistake(
        "B39",
        "You did not sum the gradients of γ and β over the batch.",
        "How many numbers should dbias have?",
        {"param_axes": lambda s: ()},
        {"param_axes": lambda s: tuple(range(2, s.x.ndim))},
    ),
)

TABLE_PARAM_MISTAKES = (
    Mistake(
        "B32",
        "You summed dweight and dbias over the features. They have one number per feature: sum over the batch.",
        "Which axis of (N, C) must remain?",
        {"param_axes": lambda s: (1,)},
    ),
)

IMAGE_PATH_MISTAKES = (
    Mistake(
        "C20",
        "You moved the channels, and put dx back into shape without moving the channels back.",
        "Which axis is the first before your last reshape?",
        {"dx": lambda s: np.moveaxis(BatchNormBackward.dx.compute(s), 1, -1).reshape(s.x.shape)},
        {"dx": lambda s: np.moveaxis(BatchNormBackward.dx.compute(s), 1, 0).reshape(s.x.shape)},
    ),
    Mistake(
        "B15",
        "You divided by N, or by H·W. In images every position of every sample counts: m = N·H·W.",
        "How many values of x share one mean?",
        {"m": lambda s: len(s.x)},
        {"m": lambda s: s.x[0, 0].size},
        {
            "mean_term": lambda s: _mean_over(s.dx_hat, (2, 3)),
            "projection": lambda s: _mean_over(s.dx_hat * s.inner, (2, 3)),
        },
        {
            "mean_term": lambda s: _mean_over(s.dx_hat, (0,)),
            "projection": lambda s: _mean_over(s.dx_hat * s.inner, (0,)),
        },
    ),
    Mistake(
        "B30",
        "You summed dweight and dbias over the batch axis alone. They have one number per channel: sum over "
        "N, H and W.",
        "Which shape should dbias have?",
        {"param_axes": lambda s: (0,)},
        {"dweight": lambda s: (s.dy * s.seen).sum(0)},
        {"dbias": lambda s: s.dy.sum(0)},
    ),
    Mistake(
        "B32",
        "You kept the last axis in dweight and dbias. The channel axis is number 1.",
        "Which axis of (N, C, H, W) must remain?",
        {"param_axes": lambda s: tuple(range(s.x.ndim - 1))},
    ),
    Mistake(
        "C06",
        "An array of shape (C,), such as γ or dbias, lines up with the last axis, the columns, instead of the channels.",
        "With which axis of (N, C, H, W) does NumPy align an array of shape (C,)?",
        {"param_shape": lambda s: (-1,)},
        {"param_shape": lambda s: (-1, 1)},
        {"mean_term": lambda s: s.gain * s.bias_sum / s.m, "projection": lambda s: s.gain * s.weight_sum / s.m},
        {
            "param_shape": lambda s: (-1,),
            "mean_term": lambda s: _mean_over(s.dx_hat, s.axes),
            "projection": lambda s: _mean_over(s.dx_hat * s.inner, s.axes),
        },
    ),
)

NODE_MISTAKES = (
    Mistake(
        "B25",
        "You averaged where a gradient is a sum: a value that is used N times collects N gradients.",
        "How often is γ used, how often β, how often 1/√(σ² + ε)?",
        {"dbias": lambda s: s.dy.mean(0), "dweight": lambda s: (s.dy * s.x_hat).mean(0)},
        {"dbias": lambda s: s.dy.mean(0)},
        {"dweight": lambda s: (s.dy * s.x_hat).mean(0)},
        {"dinv_std": lambda s: (s.dx_hat * s.u).mean(0)},
    ),
    Mistake(
        "B26",
        "dweight must not be multiplied by γ.",
        "y = γ · x̂ + β: what is ∂y/∂γ?",
        {"dweight": lambda s: (s.dy * s.weight * s.x_hat).sum(0)},
    ),
    Mistake(
        "B22",
        "You used x where x̂ belongs in dweight.",
        "y = γ · x̂ + β: what is ∂y/∂γ?",
        {"dweight": lambda s: (s.dy * s.x).sum(0)},
    ),
    Mistake(
        "B23",
        "You used u where x̂ belongs in dweight.",
        "y = γ · x̂ + β: what is ∂y/∂γ?",
        {"dweight": lambda s: (s.dy * s.u).sum(0)},
    ),
    Mistake(
        "B05",
        "γ is missing: what comes down to x̂, and from there on, is γ · dy.",
        "y = γ · x̂ + β: what is ∂y/∂x̂?",
        {"dx_hat": lambda s: s.dy},
        {"dinv_std": lambda s: (s.dy * s.u).sum(0)},
        {"through_x_hat": lambda s: s.dy * s.inv_std},
    ),
    Mistake(
        "B40",
        "dinv_std uses x̂ or x where u belongs.",
        "x̂ = u · inv_std: what is ∂x̂/∂inv_std?",
        {"dinv_std": lambda s: (s.dx_hat * s.x_hat).sum(0)},
        {"dinv_std": lambda s: (s.dx_hat * s.x).sum(0)},
    ),
    Mistake(
        "B32",
        "You summed dweight and dbias over the features. They have one number per feature: sum over the batch.",
        "Which axis of (N, C) must remain?",
        {"dbias": lambda s: s.dy.sum(1), "dweight": lambda s: (s.dy * s.x_hat).sum(1)},
    ),
    Mistake(
        "B31",
        "You summed dweight and dbias over the features, too: every feature has a γ and a β of its own.",
        "How many numbers should dbias have?",
        {"dbias": lambda s: s.dy.sum(), "dweight": lambda s: (s.dy * s.x_hat).sum()},
    ),
    Mistake(
        "B13",
        "dvar is twice what it should be: the ½ of the derivative of v^(−½) is missing.",
        "What is the derivative of v^(−½)?",
        {"dvar": lambda s: -(s.inv_std**3) * s.dinv_std},
    ),
    Mistake(
        "B41",
        "dvar has the wrong sign: when the variance grows, 1/√(σ² + ε) shrinks.",
        "What is the derivative of v^(−½)?",
        {"dvar": lambda s: 0.5 * s.inv_std**3 * s.dinv_std},
    ),
    Mistake(
        "B42",
        "dvar has the wrong power of inv_std.",
        "What is the derivative of v^(−½), written with s = v^(−½)?",
        {"dvar": lambda s: -0.5 * s.inv_std**2 * s.dinv_std},
        {"dvar": lambda s: -0.5 * s.inv_std * s.dinv_std},
        {"dvar": lambda s: -0.5 * s.dinv_std / s.inv_std},
        {"dvar": lambda s: 0.5 * s.inv_std * s.dinv_std},
        {"dvar": lambda s: -0.5 * s.inv_std**1.5 * s.dinv_std},
        {"dvar": lambda s: -0.5 * s.inv_std**6 * s.dinv_std},
    ),
    Mistake(
        "B45",
        "dvar is only the derivative of this one step: the gradient that came down, dinv_std, is missing.",
        "By the chain rule, what is multiplied by what?",
        {"dvar": lambda s: -0.5 * s.inv_std**3},
    ),
    Mistake(
        "B46",
        "You multiplied the two gradients of u. Along a path gradients multiply, but those of two uses add up.",
        "If u moves, it moves x̂ and the variance. What do the two effects on the loss do together?",
        {"du": lambda s: s.through_x_hat * s.through_var},
    ),
    Mistake(
        "B39",
        "A sum over the batch is missing: the gradient of one number per feature is one number per feature.",
        "Which shape does the value have whose gradient this is?",
        {"dinv_std": lambda s: s.dx_hat * s.u},
        {"dbias": lambda s: s.dy},
        {"dweight": lambda s: s.dy * s.x_hat},
        {"dbias": lambda s: s.dy, "dweight": lambda s: s.dy * s.x_hat},
        {"dmean": lambda s: -s.du},
    ),
    Mistake(
        "B02",
        "du lacks the second use of u, in the variance.",
        "Which two values are computed from u?",
        {"through_var": lambda s: 0 * s.u},
    ),
    Mistake(
        "B12",
        "In du the part from the variance is half of what it should be: the 2 of d(u²) = 2u du is missing.",
        "What is the derivative of u²?",
        {"through_var": lambda s: s.u * s.dvar / len(s.x)},
    ),
    Mistake(
        "B06",
        "In du the factor 1/√(σ² + ε) is missing, or its inverse stands there.",
        "x̂ = u · inv_std: what is ∂x̂/∂u?",
        {"through_x_hat": lambda s: s.dx_hat},
        {"through_x_hat": lambda s: s.dx_hat / s.inv_std},
    ),
    Mistake(
        "B16",
        "In du you used x or x̂ where u belongs.",
        "What is the derivative of u²?",
        {"through_var": lambda s: 2 * s.x * s.dvar / len(s.x)},
        {"through_var": lambda s: 2 * s.x_hat * s.dvar / len(s.x)},
    ),
    Mistake(
        "B09",
        "In du or dx you subtracted where two gradients add up.",
        "A value is used twice: what happens to its two gradients?",
        {"through_var": lambda s: -2 * s.u * s.dvar / len(s.x)},
        {"from_mean": lambda s: -s.dmean / len(s.x)},
    ),
    Mistake(
        "B27",
        "dbias must not be multiplied by γ.",
        "y = γ · x̂ + β: what is ∂y/∂β?",
        {"dbias": lambda s: (s.dy * s.weight).sum(0)},
    ),
    Mistake(
        "B28",
        "You swapped dweight and dbias.",
        "Which of the two does x̂ belong to?",
        {"dbias": lambda s: (s.dy * s.x_hat).sum(0), "dweight": lambda s: s.dy.sum(0)},
    ),
    Mistake(
        "B43",
        "du lacks the first use of u, in x̂.",
        "Which two values are computed from u?",
        {"through_x_hat": lambda s: 0 * s.u},
    ),
    Mistake(
        "B04",
        "A 1/N is missing: the variance is a mean of u², the mean is a mean of x.",
        "By how much does the mean move when one sample moves by 1?",
        {"through_var": lambda s: 2 * s.u * s.dvar},
        {"from_mean": lambda s: s.dmean},
        {"through_var": lambda s: 2 * s.u * s.dvar, "from_mean": lambda s: s.dmean},
    ),
    Mistake(
        "B10",
        "dmean has the wrong sign: u = x − μ.",
        "If the mean grows, what happens to u?",
        {"dmean": lambda s: s.du.sum(0)},
    ),
    Mistake(
        "B44",
        "dmean is an average: the mean is used in every u, so the gradients add up.",
        "How often is the mean used?",
        {"dmean": lambda s: -s.du.mean(0)},
    ),
    Mistake(
        "B03",
        "dx lacks the second use of x, in the mean.",
        "Which two values are computed from x?",
        {"from_mean": lambda s: 0.0},
    ),
)


# Probes


def _with_dy(rng: np.random.Generator, inputs: Inputs) -> Inputs:
    """The inputs of a backward pass: dy first, no bias."""
    dy = rng.normal(0.4, 1, inputs["x"].shape).astype(inputs["x"].dtype)
    return {"dy": dy, **{name: value for name, value in inputs.items() if name != "bias"}}


def _backward_probes(
    seed: int, plain: tuple[int, ...], square: tuple[int, ...], small: tuple[int, ...], *, images: bool = False
) -> tuple[Probe, ...]:
    """The probes of a backward pass; ``square`` has as many channels as its last axis is long."""
    rng = np.random.default_rng(seed)
    base = _with_dy(rng, random_inputs(rng, plain, eps=1e-5))
    square_inputs = _with_dy(rng, random_inputs(rng, square, eps=1e-2))
    far = _with_dy(rng, random_inputs(rng, plain, eps=1e-5, mean=1e4, dtype=np.float32))
    return (
        Probe("plain", "random dy and γ, and channels of different mean and spread.", base),
        Probe("epsilon", "ε = 0.5, so large that its place matters.", {**base, "eps": 0.5}),
        Probe(
            "square",
            "as many channels as the last axis is long, so that shapes fit which should not.",
            square_inputs,
        ),
        Probe("small", "a batch of three.", _with_dy(rng, random_inputs(rng, small, eps=1e-2))),
        constant_probe(base),
        *([_one_image(seed)] if images else []),
        Probe("narrow", "values whose variance is smaller than ε.", with_small_variance(square_inputs)),
        Probe("shifted", "the first input, with 5 added to every x.", {**base, "x": np.asfortranarray(base["x"] + 5)}),
        Probe("offset", "float32 values with mean 10,000 and standard deviation 1.", far, **ROUGH),
    )


def _one_image(seed: int) -> Probe:
    rng = np.random.default_rng(seed + 100)
    return Probe("one image", "a batch of a single image.", _with_dy(rng, random_inputs(rng, (1, 3, 3, 4), eps=1e-5)))


def _fresh_table(rng: np.random.Generator) -> Inputs:
    shape = (int(rng.integers(5, 12)), int(rng.integers(2, 7)))
    return _with_dy(rng, random_inputs(rng, shape, eps=float(10 ** rng.uniform(-4, -1))))


def _fresh_images(rng: np.random.Generator) -> Inputs:
    shape = tuple(int(n) for n in rng.integers(2, 6, 4))
    return _with_dy(rng, random_inputs(rng, shape, eps=float(10 ** rng.uniform(-4, -1))))


# Properties


def _summed(outputs: Outputs, inputs: Inputs, *, along_x: bool) -> np.ndarray:
    """Σ dx, or the part of dx along x − μ, per channel, as a share of the size of dx."""
    x, dx = inputs["x"], outputs["dx"]
    axes = channel_axes(x)
    direction = x - x.mean(axes, keepdims=True) if along_x else np.ones_like(x)
    direction = direction / np.sqrt((direction**2).sum(axes, keepdims=True))
    return (dx * direction).sum(axes) / np.sqrt((dx**2).sum(axes) + 1e-300)


SHAPES = Property(
    "dx has the shape of x; dweight and dbias have one value per channel.",
    lambda o, i: all(
        o[name]["dx"].shape == i[name]["x"].shape
        and o[name]["dweight"].shape == o[name]["dbias"].shape == i[name]["weight"].shape
        for name in i
    ),
)

PROPERTIES = (
    SHAPES,
    Property(
        "dbias is what the whole batch asks of β together.",
        lambda o, i: close(o["plain"]["dbias"], i["plain"]["dy"].sum(channel_axes(i["plain"]["x"]))),
    ),
    Property(
        "the sum of dx is 0 in every channel, as a shift of the batch changes nothing.",
        lambda o, i: close(_summed(o["plain"], i["plain"], along_x=False), 0.0),
    ),
    Property(
        "Σ dx · x̂ is 0 in every channel, but for ε, as a stretch of the batch changes nothing.",
        lambda o, i: close(_summed(o["plain"], i["plain"], along_x=True), 0.0),
    ),
    Property(
        "adding 5 to x changes no gradient.",
        lambda o, i: all(close(o["shifted"][name], o["plain"][name]) for name in ("dx", "dweight", "dbias")),
    ),
    Property(
        "a channel that never varies gives finite gradients.",
        lambda o, i: all(np.isfinite(value).all() for value in o["constant"].values()),
    ),
)

# Exercises

CHANGING = {"x": "F24", "dy": "B37"}

NODES = Exercise(
    id="batch_norm_backward_nodes",
    chapter="03_backward",
    signature="(dy, x, weight, eps) -> dict of gradients, x of shape (N, C)",
    operation=BackwardNodes,
    probes=_backward_probes(30, (6, 3), (4, 4), (3, 3)),
    fresh=_fresh_table,
    mistakes=(
        *NODE_MISTAKES,
        *_BY_NODES,
        Mistake(
            "B19",
            "ε is missing in the backward pass. It is the same as in the forward pass.",
            "What is 1/√(σ² + ε) for a channel that never varies?",
            {"epsilon": lambda s: 0.0},
            {"dvar": lambda s: -0.5 * s.var.reshape(-1) ** -1.5 * s.dinv_std},
        ),
    ),
    properties=(
        Property(
            "dx_hat has the shape of x, and dvar one value per channel.",
            lambda o, i: (
                o["plain"]["dx_hat"].shape == i["plain"]["x"].shape
                and o["plain"]["dvar"].shape == i["plain"]["weight"].shape
            ),
        ),
        *PROPERTIES[1:],
    ),
    hints=(
        "First the forward pass, with a name for every value: mean, u, var, inv_std, x_hat.",
        "Then backwards, line by line. inv_std is one number per feature: how often is it used? Where are u and x used?",
        "u is used in x̂ = u · inv_std and in var = mean(u²); x is used in u = x − mean and in the mean.",
    ),
    container="dict",
    changing=CHANGING,
)

BACKWARD = Exercise(
    id="batch_norm_backward",
    chapter="03_backward",
    signature="(dy, x, weight, eps) -> (dx, dweight, dbias), x of shape (N, C)",
    operation=BatchNormBackward,
    probes=_backward_probes(31, (6, 3), (4, 4), (3, 3)),
    fresh=_fresh_table,
    mistakes=(*PATH_MISTAKES, *PARAM_MISTAKES, *TABLE_PARAM_MISTAKES, *_BY_STAGES, *_IN_AXES),
    properties=PROPERTIES,
    hints=(
        "dx has three terms: the direct path, the path through the mean, the path through the variance.",
        "Start from dx̂ = γ · dy. Both other terms are subtracted from it, and both contain a mean over the batch.",
        "If Σ dx is not 0, look at the second term; if Σ dx · x̂ is not 0, look at the third.",
    ),
    changing=CHANGING,
)

BACKWARD_IMAGES = Exercise(
    id="batch_norm_backward_images",
    chapter="03_backward",
    signature="(dy, x, weight, eps) -> (dx, dweight, dbias), x of shape (N, C, H, W)",
    operation=BatchNormBackward,
    probes=_backward_probes(32, (3, 3, 4, 5), (3, 3, 3, 3), (3, 3, 1, 1), images=True),
    fresh=_fresh_images,
    mistakes=(
        *PATH_MISTAKES,
        *IMAGE_PATH_MISTAKES,
        *PARAM_MISTAKES,
        *_BY_STAGES,
        *_IN_AXES,
        *_IN_IMAGE_AXES,
    ),
    properties=PROPERTIES,
    hints=(
        "The formula is that for tables. What is m now, and over which axes do the means run?",
        "dweight and dbias have one value per channel: every other axis is summed over.",
        "γ must line up with axis 1 when it meets dy.",
    ),
    changing=CHANGING,
)

EXERCISES = (NODES, BACKWARD, BACKWARD_IMAGES)
