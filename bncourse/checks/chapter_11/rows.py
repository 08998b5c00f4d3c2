"""Layer norm and RMS norm, the norms over the last axis: their exercises, and the mistakes made in them."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..chapter_02 import (
    ROUGH,
    STATISTICS_MISTAKES,
    TRANSPOSED,
    BatchNorm,
    Normalization,
    Words,
    asked,
    chosen,
    close,
    own,
    random_inputs,
    told,
    with_forms,
)
from ..chapter_03 import BACKWARD, CHANGING, PARAM_MISTAKES, PATH_MISTAKES, BatchNormBackward
from ..exercise import Exercise, Form, Inputs, Mistake, Outputs, Probe, Property, step
from .shared import AFFINE, SQUARE, STATISTICS, forward_properties, holds_in_each, narrow, without, x_hat

# What chapters 2 and 3 compute, over the last axis


class Rows:
    """The values along the last axis share their statistics; γ and β have one value for each of them."""

    @step
    def axes(s):
        return (-1,)

    @step
    def param_shape(s):
        return (-1,)

    @step
    def param_axes(s):
        return tuple(range(s.x.ndim - 1))


class Uncentered:
    """No mean is subtracted: ``var`` is the mean square, and ``std`` its root."""

    @step
    def centered(s):
        return s.data

    @step
    def spread(s):
        return s.data


class LayerNorm(Rows, BatchNorm):
    """y = γ · x̂ + β, with x̂ over the last axis."""


class LayerNormBackward(Rows, BatchNormBackward):
    """The gradients of layer norm; γ varies along the axis of the means."""


class RMSNorm(Uncentered, Rows, BatchNorm):
    """y = γ · x / √(mean(x²) + ε), over the last axis."""

    @step
    def params(s):
        return (s.weight,)

    @step
    def y(s):
        return s.scale * s.x_hat


class RMSNormBackward(Uncentered, Rows, BatchNormBackward):
    """dx = (dx̂ − x̂ · mean(dx̂ · x̂)) / √(mean(x²) + ε), dweight = Σ dy · x̂."""

    outputs = ("dx", "dweight")

    @step
    def mean_term(s):
        """There is no mean for a gradient to flow through."""
        return 0.0


# Mistakes in the axes

ROW_AXES = (
    Mistake(
        "L05",
        "You averaged over the batch, as batch norm does. Here every mean runs along the last axis, within one row.",
        "Change one sample of the batch: which outputs may move?",
        {"axes": lambda s: (0,)},
        {"axes": lambda s: tuple(range(s.x.ndim - 1))},
        {"axes": lambda s: (0, *range(2, s.x.ndim))},
    ),
    Mistake(
        "L06",
        "You averaged over all axes but the first, so that all positions of a sample share a mean. "
        "Here every row along the last axis has its own.",
        "How many means does an x of shape (2, 3, 4) have?",
        {"axes": lambda s: tuple(range(1, s.x.ndim))},
    ),
    Mistake(
        "L14",
        "You took axis 1 for the features. They are on the last axis, and that is axis 1 only in a table.",
        "Which axis of (N, T, D) holds the features?",
        {"axes": lambda s: (1,)},
    ),
    Mistake(
        "C17",
        "You took one average over the whole array: all rows share it.",
        "How many rows does x have, and how many averages does your code take?",
        {"axes": lambda s: tuple(range(s.x.ndim))},
    ),
)

LOST_AXIS = Mistake(
    "C14",
    "An average over the last axis lost that axis, so it lines up with the features instead of the rows.",
    "For an x of shape (5, 4), which shape has the average over its last axis, and how does NumPy align the two?",
    {"mean": lambda s: s.x.mean(-1), "var": lambda s: s.x.var(-1)},
    {"mean": lambda s: s.x.mean(-1)},
    {"var": lambda s: Normalization.var.compute(s)[..., 0]},
    {"mean": lambda s: s.x.mean(-1), "var": lambda s: (s.spread**2).mean(-1)},
    {"mean": lambda s: s.x.mean(-1), "spread": lambda s: s.x - s.x.mean(-1, keepdims=True)},
)

COLUMN = Mistake(
    "C06",
    "A parameter lines up with the rows. It has one value per feature, so it belongs to the last axis.",
    "With which axis of x does NumPy align an array of shape (D, 1), and with which one of shape (D,)?",
    {"param_shape": lambda s: (-1, 1)},
)

ONE_PLUS = Mistake(
    "M06",
    "You multiplied by 1 + γ. Some models keep γ − 1 in their weights, such as Gemma; here weight is γ itself.",
    "By how much does y grow when x̂ grows by 1?",
    {"scale": lambda s: 1 + s.params[0]},
)

_PARTS_OF_A_ROW = {
    "F01": Words(
        "In the variance you divided by D − 1. Layer norm divides by D, the number of values in a row "
        "(torch's var has D − 1 by default).",
        "What should the mean of the squares of x̂ be, over a row?",
        "L01",
    ),
    "F02": Words(
        "You added ε after the square root; it belongs inside, next to the variance.",
        "What is √(0 + ε), and what is √0 + ε?",
        "L02",
    ),
}

LAYER_NORM_MISTAKES = (
    *told(STATISTICS, _PARTS_OF_A_ROW),
    *ROW_AXES,
    LOST_AXIS,
    *AFFINE,
    ONE_PLUS,
    *with_forms(
        (COLUMN,),
        "C06",
        {"scale": lambda s: s.params[0].reshape(-1, 1)},
        {"shift": lambda s: s.params[1].reshape(-1, 1)},
    ),
    TRANSPOSED,
)


# The backward pass


def _row_mean(s: BatchNormBackward, values: np.ndarray) -> np.ndarray:
    """The mean that a term of dx takes."""
    return values.sum(s.term_axes, keepdims=True) / s.m


_ROW_PATHS = told(
    PATH_MISTAKES,
    {
        "B01": Words(
            "You treated the mean and the variance as constants. Both depend on x, so gradients flow back through them.",
            "If one x of a row moves, which other outputs move?",
        ),
        "B02": Words(
            "The path through the variance is missing in dx, or your term for it is always zero: "
            "the mean of a product is not the product of the means.",
            "Stretch a row about its mean. Does y change? What does that say about Σ dx · x̂ over the row?",
        ),
        "B03": Words(
            "You treated the mean as a constant: the path through it is missing.",
            "Add the same number to all x of a row. Does y change? What does that say about Σ dx over the row?",
        ),
        "B04": Words(
            "You subtract sums over a row where means belong: each of its D values moves the mean by 1/D only.",
            "What is Σ dx over a row in your answer, and what must it be?",
        ),
        "B09": Words(
            "The path through the variance has the wrong sign: it is subtracted.",
            "What is Σ dx · x̂ over a row in your answer, and what must it be, but for ε?",
        ),
        "B10": Words(
            "The path through the mean has the wrong sign: it is subtracted.",
            "What is Σ dx over a row in your answer, and what must it be?",
        ),
        "B19": Words(
            "ε is missing in the backward pass. It is the same as in the forward pass.",
            "What is 1/√(σ² + ε) for a row of equal values?",
        ),
        "B49": Words(
            "The three terms of dx do not have the same weight: with 1/D in front, the direct path is D times too "
            "small.",
            "What is the weight of the direct path, compared with that of the mean?",
        ),
        "B50": Words(
            "In the path through the variance, the x̂ in front was drawn into the mean: it is the x̂ of this one "
            "value of the row.",
            "Which factors of the third term differ along the row, and which are averaged away?",
        ),
    },
)

GAMMA_PULLED_OUT = Mistake(
    "L07",
    "You pulled γ out of a mean, as batch norm's formula allows: there γ is the same for all values of the mean. "
    "Here γ varies along the row.",
    "Is the mean of γ · dy over a row the same as γ times the mean of dy?",
    {
        "mean_term": lambda s: s.gain * _row_mean(s, s.upstream),
        "projection": lambda s: s.gain * _row_mean(s, s.upstream * s.inner),
    },
    {"mean_term": lambda s: s.gain * _row_mean(s, s.upstream)},
    {"projection": lambda s: s.gain * _row_mean(s, s.upstream * s.inner)},
)

ROW_TERMS = (
    Mistake(
        "L10",
        "The means in dx run over the batch. They run over the features, as the mean in the forward pass does.",
        "Which values does one x of a row influence?",
        {"term_axes": lambda s: (0,)},
        {"term_axes": lambda s: tuple(range(s.x.ndim - 1))},
        {"mean_term": lambda s: s.gain * s.bias_sum / s.m, "projection": lambda s: s.gain * s.weight_sum / s.m},
        {
            "mean_term": lambda s: s.gain * s.bias_sum / len(s.x),
            "projection": lambda s: s.gain * s.weight_sum / len(s.x),
        },
    ),
    Mistake(
        "B15",
        "You divided sums over the features by the number of rows or of samples. D values share a mean here.",
        "How many values of x share one mean?",
        {"m": lambda s: len(s.x)},
        {"m": lambda s: s.x.size / s.x.shape[-1]},
        {"m": lambda s: s.x.size},
    ),
)

ROW_PARAMS = (
    *told(
        chosen(PARAM_MISTAKES, "B22", "B23", "B26", "B27", "B28"),
        {
            "B28": Words(
                "You returned the gradients in another order.",
                "In which order does the exercise want them?",
            )
        },
    ),
    Mistake(
        "B25",
        "You averaged a parameter's gradient. All rows use the same parameters, so what they ask for adds up.",
        "Put every sample into the batch twice: what happens to dweight?",
        {
            "weight_factor": lambda s: s.weight.size / s.x.size,
            "bias_factor": lambda s: s.weight.size / s.x.size,
        },
        {"weight_factor": lambda s: s.weight.size / s.x.size},
        {"bias_factor": lambda s: s.weight.size / s.x.size},
        {"weight_factor": lambda s: 1 / len(s.x), "bias_factor": lambda s: 1 / len(s.x)},
    ),
    Mistake(
        "L08",
        "You summed a parameter's gradient over the features. Every feature has parameters of its own: "
        "sum over all other axes.",
        "Which shape must dweight have?",
        {"param_axes": lambda s: (-1,)},
        {
            "dweight": lambda s: (s.upstream * s.seen).sum(-1, keepdims=True),
            "dbias": lambda s: s.upstream.sum(-1, keepdims=True),
        },
        {"dweight": lambda s: (s.upstream * s.seen).sum(-1)},
        {"dbias": lambda s: s.upstream.sum(-1)},
    ),
    Mistake(
        "L09",
        "You summed a parameter's gradient over one of the leading axes alone. All rows of all samples use the same "
        "parameters.",
        "For an x of shape (2, 3, 4), over how many rows does dweight add up?",
        {"param_axes": lambda s: (0,)},
        {"param_axes": lambda s: (s.x.ndim - 2,)},
        {"dweight": lambda s: (s.upstream * s.seen).sum(0)},
        {"dbias": lambda s: s.upstream.sum(0)},
    ),
    Mistake(
        "L15",
        "You summed a parameter's gradient over axes 0 and 1, however many axes x has.",
        "Which axes must be summed over in a table, and which in an array with four axes?",
        {"param_axes": lambda s: (0, 1)},
        {"dweight": lambda s: (s.upstream * s.seen).sum((0, 1))},
        {"dbias": lambda s: s.upstream.sum((0, 1))},
    ),
    Mistake(
        "B31",
        "You summed a parameter's gradient over everything: every feature has parameters of its own.",
        "How many numbers should dweight have?",
        {"param_axes": lambda s: tuple(range(s.x.ndim))},
    ),
    Mistake(
        "B39",
        "You did not sum the parameters' gradients over the rows.",
        "How many numbers should dweight have?",
        {"param_axes": lambda s: ()},
    ),
)


ONE_PLUS_BACKWARD = Mistake(ONE_PLUS.id, ONE_PLUS.says, "What is ∂y/∂x̂?", {"gain": lambda s: 1 + s.weight})


def _in_places(mistakes: tuple[Mistake, ...]) -> tuple[Mistake, ...]:
    """Mistakes in the axes: made everywhere, in the means of dx alone, or in the statistics alone."""

    def forms(form: Form) -> tuple[Form, ...]:
        return form, {"term_axes": form["axes"]}, {**form, "term_axes": lambda s: (-1,)}

    return tuple(
        Mistake(m.id, m.says, m.asks, *(placed for form in m.forms for placed in forms(form))) for m in mistakes
    )


# The batch axis in the means of dx alone is a mistake of its own, L10
_ROW_AXES_BACKWARD = (
    own(ROW_AXES, "L05", *(form for form in _in_places(chosen(ROW_AXES, "L05"))[0].forms if "axes" in form)),
    *_in_places(chosen(ROW_AXES, "L06", "L14", "C17")),
)

_LOST_IN_TERMS = {
    "mean_term": lambda s: s.dx_hat.mean(-1),
    "projection": lambda s: (s.dx_hat * s.inner).mean(-1),
}

LAYER_NORM_BACKWARD_MISTAKES = (
    *_ROW_PATHS,
    GAMMA_PULLED_OUT,
    *ROW_TERMS,
    *_ROW_AXES_BACKWARD,
    *ROW_PARAMS,
    ONE_PLUS_BACKWARD,
    *told(
        chosen(BACKWARD.mistakes, "F01", "F02", "F04", "F06", "F08", "F14", "F15", "F19", "F40"),
        _PARTS_OF_A_ROW,
    ),
    own(
        (LOST_AXIS,),
        "C14",
        {**_LOST_IN_TERMS, **LOST_AXIS.forms[0]},
        _LOST_IN_TERMS,
        *LOST_AXIS.forms,
    ),
    COLUMN,
)


# RMS norm

_IN_THE_ROOT = Words(
    "You added ε after the square root; it belongs inside, next to the mean square.",
    "What is √(0 + ε), and what is √0 + ε?",
    "M05",
)
_NO_ROOT = Words(
    "You divided by the mean square instead of its root.",
    "If x is in metres, what is the unit of the mean square, and what should that of x̂ be?",
    "M09",
)
_TWO_ROOTS = Words("You took the root twice.", "How many roots lead from the mean square to what x is divided by?")
_LESS_ONE = Words(
    "In the mean square you divided by D − 1. A mean over D values divides by D.",
    "What is the root mean square of 2, 2, 2, 2?",
    "L01",
)


def _around_mean(s: Normalization) -> np.ndarray:
    return s.data - s.mean


ROOT_MEAN_SQUARE = (
    Mistake(
        "M01",
        "You subtracted the mean from x. RMS norm does not centre: it only divides.",
        "What should become of a row 5, 5, 5 if γ is 1?",
        {"centered": _around_mean},
    ),
    Mistake(
        "M02",
        "You divided by the standard deviation. RMS norm divides by the root mean square, for which no mean is subtracted.",
        "What is the standard deviation of 5, 5, 5, and what is its root mean square?",
        {"spread": _around_mean},
    ),
    Mistake(
        "M12",
        "That is layer norm: you subtracted the mean, and divided by the standard deviation. RMS norm knows no mean.",
        "What should become of a row 5, 5, 5 if γ is 1?",
        {"centered": _around_mean, "spread": _around_mean},
    ),
    Mistake(
        "M03",
        "You added up the squares without dividing by their number: "
        "that is the length of the row, not its root mean square.",
        "What is the root mean square of 2, 2, 2, 2?",
        {"divisor": lambda s: 1},
    ),
    Mistake(
        "M13",
        "You averaged first and squared afterwards. The squares come first, so that a positive and a negative value do "
        "not cancel.",
        "What is the root mean square of 3, −3?",
        {"var": lambda s: s.mean**2},
    ),
    *told(
        with_forms(
            chosen(
                STATISTICS_MISTAKES,
                *("F01", "F02", "F03", "F04", "F14", "F15", "F29", "F30", "F36", "F39", "F40"),
            ),
            "F02",
            {"x_hat": lambda s: s.centered / np.sqrt(s.var), "y": lambda s: s.scale * s.x_hat + s.epsilon},
        ),
        {
            "F01": _LESS_ONE,
            "F02": _IN_THE_ROOT,
            "F03": Words("ε is missing: a row of zeros then divides 0 by 0.", "Where does eps occur in your code?"),
            "F04": _NO_ROOT,
            "F29": Words(
                "You limited the mean square or its root to at least ε, instead of adding ε to the mean square.",
                "By how much does the formula change a mean square of 1 when ε is 0.5?",
            ),
            "F30": Words(
                "You divided by the mean of the absolute values, not by the root mean square.",
                "For 0, 0, 0, 4: what is the mean of the absolute values, and what is the root mean square?",
            ),
            "F36": Words(
                "You multiplied by the root mean square instead of dividing by it.",
                "What should the root mean square of x̂ be?",
            ),
            "F39": Words(
                "x is not normalized at all: it is not divided by its root mean square.",
                "Which line of yours changes the root mean square of x?",
            ),
            "F40": _TWO_ROOTS,
        },
    ),
)

_LOST_MEAN_SQUARE = {"var": lambda s: Normalization.var.compute(s)[..., 0]}

RMS_NORM_MISTAKES = (
    *ROOT_MEAN_SQUARE,
    ONE_PLUS,
    *ROW_AXES,
    own((LOST_AXIS,), "C14", _LOST_MEAN_SQUARE),
    *chosen(AFFINE, "F12"),
    Mistake(
        "F33",
        "You multiplied by γ before normalizing. It comes after it, so that the root mean square is that of x.",
        "How do the root mean squares of x and of γ · x differ?",
        {"data": lambda s: s.scale * s.x, "y": lambda s: s.x_hat, "scale": BatchNorm.scale.compute},
    ),
    COLUMN,
    Mistake(
        "C15",
        TRANSPOSED.says,
        TRANSPOSED.asks,
        {"y": lambda s: (s.scale * s.x_hat).T},
    ),
)


def _projection(s: BatchNormBackward, values: np.ndarray) -> np.ndarray:
    return _row_mean(s, values * s.inner)


# Without a mean, x − μ is x, and only two terms are left: some forms do not exist, others are right
_PATHS_OF_TWO_TERMS = (
    *chosen(PATH_MISTAKES, "B01", "B05", "B06", "B08", "B09", "B12", "B13", "B19", "B49", "B50", "B53"),
    own(PATH_MISTAKES, "B04", {"m": lambda s: 1.0}, {"projection": lambda s: _projection(s, s.dx_hat) * s.m}),
    own(
        PATH_MISTAKES,
        "B16",
        {"inner": lambda s: s.data, "outer": lambda s: s.data},
        {"inner": lambda s: s.data},
        {"outer": lambda s: s.data},
    ),
    own(
        PATH_MISTAKES,
        "B48",
        {"projection": lambda s: _projection(s, s.upstream)},
        {"dx": lambda s: s.inv_std * (s.upstream - s.var_term)},
    ),
)

_RMS_PATHS = told(
    _PATHS_OF_TWO_TERMS,
    {
        "B01": Words(
            "You treated the root mean square as a constant, or your term for it is always zero. It depends on every x "
            "of the row, so a gradient flows back through it.",
            "If one x of a row moves, which other outputs move?",
        ),
        "B04": Words(
            "You subtract a sum over a row where a mean belongs: each of its D values has a share of 1/D in the "
            "mean square.",
            "What is Σ dx · x over a row in your answer, and what must it be, but for ε?",
        ),
        "B06": Words(
            "The division by the root mean square is missing in dx.",
            "If all x are doubled, y stays. What happens to dx?",
        ),
        "B08": Words(
            "You multiplied dx by the root mean square; x̂ was made by dividing by it.",
            "If all x are doubled, y stays. What happens to dx?",
        ),
        "B09": Words(
            "The path through the mean square has the wrong sign: it is subtracted.",
            "What is Σ dx · x over a row in your answer, and what must it be, but for ε?",
        ),
        "B12": Words(
            "The path through the mean square is half of what it should be: a factor 2 was lost, that of d(x²) = 2x dx.",
            "Which 2 and which ½ cancel on the way through the mean square?",
        ),
        "B13": Words(
            "The path through the mean square is twice what it should be: a factor ½ was lost, "
            "that of d√v = ½ v^(−½) dv.",
            "Which 2 and which ½ cancel on the way through the mean square?",
        ),
        "B16": Words(
            "In the path through the mean square a division by the root mean square is missing: x stands there instead "
            "of x̂, or the factor in front belongs to the direct path alone.",
            "If all x are doubled, how does each of your two terms change?",
        ),
        "B19": Words(
            "ε is missing in the backward pass. It is the same as in the forward pass.",
            "What do you divide by for a row of zeros?",
        ),
        "B53": Words(
            "The path through the mean square is divided by the root mean square too often: by stages, check the power "
            "of the mean square plus ε, and whether x or x̂ is meant.",
            "If all x are doubled, how does each of your two terms change?",
        ),
        "B48": Words(
            "γ is in one term of dx, but not in the other. Everything starts from dx̂ = γ · dy.",
            "Which of your terms contain dy itself?",
        ),
        "B49": Words(
            "The two terms of dx do not have the same weight: with 1/D in front, the direct path is D times too small.",
            "Which share does the direct path have, and which the mean over the row?",
        ),
        "B50": Words(
            "In the path through the mean square, the x̂ in front was drawn into the mean: it is the x̂ of this one "
            "value of the row.",
            "Which factors of the second term differ along the row, and which are averaged away?",
        ),
    },
)

_RMS_TERMS = (
    own(
        ROW_TERMS,
        "L10",
        *ROW_TERMS[0].forms[:2],
        {"projection": lambda s: s.gain * s.weight_sum / s.m},
        {"projection": lambda s: s.gain * s.weight_sum / len(s.x)},
    ),
    *chosen(ROW_TERMS, "B15"),
)

_RMS_PARAMS = (
    *asked(chosen(ROW_PARAMS, "B22", "B26"), dict.fromkeys(("B22", "B26"), "y = γ · x̂: what is ∂y/∂γ?")),
    own(
        ROW_PARAMS,
        "B28",
        {"dx": lambda s: s.weight_sum * s.weight_factor, "dweight": BatchNormBackward.dx.compute},
    ),
    own(
        ROW_PARAMS,
        "B25",
        {"weight_factor": lambda s: s.weight.size / s.x.size},
        {"weight_factor": lambda s: 1 / len(s.x)},
    ),
    *(
        own(ROW_PARAMS, m.id, *(form for form in m.forms if form.keys() == {"param_axes"}))
        for m in chosen(ROW_PARAMS, "L08", "L09", "L15", "B31", "B39")
    ),
)

RMS_NORM_BACKWARD_MISTAKES = (
    *_RMS_PATHS,
    Mistake(
        "M11",
        "The mean of dx̂ is subtracted, as in layer norm's formula. RMS norm subtracts no mean from x, so no gradient "
        "flows through a mean.",
        "Add the same number to all x of a row. Does y stay the same?",
        {"mean_term": BatchNormBackward.mean_term.compute},
        {"mean_term": lambda s: s.gain * _row_mean(s, s.upstream)},
    ),
    Mistake(
        "M12",
        "That is layer norm's backward pass: a mean is subtracted from x, and a gradient flows back through it. "
        "RMS norm knows no mean.",
        "Add the same number to all x of a row. Does y stay the same?",
        {
            "centered": _around_mean,
            "spread": _around_mean,
            "mean_term": BatchNormBackward.mean_term.compute,
        },
        {"centered": _around_mean, "spread": _around_mean},
    ),
    *chosen(ROOT_MEAN_SQUARE, "M01", "M02", "M03", "M13"),
    own((GAMMA_PULLED_OUT,), "L07", {"projection": lambda s: s.gain * _projection(s, s.upstream)}),
    *_RMS_TERMS,
    *_ROW_AXES_BACKWARD,
    *_RMS_PARAMS,
    *told(
        chosen(BACKWARD.mistakes, "F01", "F02", "F04", "F14", "F15", "F40"),
        {"F01": _LESS_ONE, "F02": _IN_THE_ROOT, "F04": _NO_ROOT, "F40": _TWO_ROOTS},
    ),
    ONE_PLUS_BACKWARD,
    own(
        (LOST_AXIS,),
        "C14",
        {**_LOST_MEAN_SQUARE, "projection": _LOST_IN_TERMS["projection"]},
        {"projection": _LOST_IN_TERMS["projection"]},
        _LOST_MEAN_SQUARE,
    ),
    COLUMN,
)


# Probes


def _rows(
    rng: np.random.Generator, shape: tuple[int, ...], *, eps: float, mean: float | None = None, dtype: type = np.float64
) -> dict[str, object]:
    """Rows of different mean and spread along the last axis, with random γ and β for its features."""
    rows = random_inputs(rng, (shape[-1], math.prod(shape[:-1])), eps=eps, mean=mean, dtype=dtype)["x"]
    return {**random_inputs(rng, (1, shape[-1]), eps=eps, dtype=dtype), "x": rows.T.reshape(shape)}


def _with_constant_row(inputs: Inputs) -> dict[str, object]:
    """The same with a row of equal values, and one that varies little."""
    x = inputs["x"].copy()
    x[0] = 0.25
    x[1] = 3e-2 * (x[1] - x[1].mean())
    return {**inputs, "x": x, "eps": 1e-2}


def _with_zeros(inputs: Inputs) -> dict[str, object]:
    """The same with a row of zeros, and one of small values."""
    x = inputs["x"].copy()
    x[0] = 0
    x[1] *= 3e-2
    return {**inputs, "x": x, "eps": 1e-2}


def _row_probes(seed: int, *, centred: bool) -> tuple[Probe, ...]:
    """The probes of a norm over the last axis."""
    rng = np.random.default_rng(seed)
    plain = _rows(rng, (5, 4), eps=1e-5)
    cube = _rows(rng, (3, 3, 3), eps=1e-2)
    far = _rows(rng, (4, 8), eps=1e-5, mean=1e4, dtype=np.float32)
    moved = np.asfortranarray(3 * plain["x"] + (5 if centred else 0))
    return (
        Probe("plain", "a table whose rows differ in mean and spread.", plain),
        Probe("epsilon", "ε = 0.5, so large that its place matters.", {**plain, "eps": 0.5}),
        Probe("sequence", "samples with three positions each, shape (2, 3, 5).", _rows(rng, (2, 3, 5), eps=1e-5)),
        Probe("four axes", "an array with four axes, shape (2, 3, 2, 4).", _rows(rng, (2, 3, 2, 4), eps=1e-5)),
        Probe("square", f"a square table: {SQUARE}", _rows(rng, (4, 4), eps=1e-2)),
        Probe("cube", f"three {SQUARE}", cube),
        Probe("alone", "the first row of the first input, alone.", {**plain, "x": plain["x"][:1]}),
        Probe("constant", "a row of equal values, and one that hardly varies.", _with_constant_row(plain), floor=1e-4)
        if centred
        else Probe("zeros", "a row of zeros, and one of small values.", _with_zeros(plain)),
        Probe("narrow", "values whose variance is smaller than ε.", narrow(cube, (-1,))),
        Probe("moved", f"the first input, every x times 3{' plus 5' * centred}.", {**plain, "x": moved}),
        Probe("offset", "float32 values with mean 10,000 and standard deviation 1.", far, **ROUGH),
    )


def _backward(probes: tuple[Probe, ...], seed: int) -> tuple[Probe, ...]:
    """The probes of a backward pass: with a random dy for each shape, without β."""
    return tuple(replace(probe, inputs=_with_dy(probe.inputs, seed)) for probe in without(probes, "bias"))


def _with_dy(inputs: Inputs, seed: int) -> dict[str, object]:
    """The same with a random dy; for the first rows alone it is that of the whole."""
    x = inputs["x"]
    return {"dy": np.random.default_rng(seed).normal(0.4, 1, x.shape).astype(x.dtype), **inputs}


def _fresh_rows(rng: np.random.Generator) -> Inputs:
    shape = (*(int(n) for n in rng.integers(2, 5, int(rng.integers(1, 4)))), int(rng.integers(4, 9)))
    return _rows(rng, shape, eps=float(10 ** rng.uniform(-4, -1)))


def _fresh_without(rng: np.random.Generator, name: str, *, backward: bool = False) -> Inputs:
    inputs = {key: value for key, value in _fresh_rows(rng).items() if key != name}
    return _with_dy(inputs, int(rng.integers(2**31))) if backward else inputs


# Properties

RMS_PROPERTIES = (
    Property(
        "what becomes of the first row does not depend on the others.",
        lambda o, i: close(o["alone"]["y"], o["plain"]["y"][:1]),
    ),
    Property(
        "y / γ has the mean square 1 in every row, as ε is small.",
        holds_in_each(None, lambda rows: close((rows**2).mean(1), 1.0)),
    ),
    Property(
        "y / γ has the sign of x everywhere.",
        lambda o, i: (np.sign(x_hat(o, i, "plain")) == np.sign(i["plain"]["x"])).all(),
    ),
    Property(
        "multiplying x by 3 changes nothing, as ε is small.", lambda o, i: close(o["moved"]["y"], o["plain"]["y"])
    ),
    Property("a row of zeros gives zeros.", lambda o, i: close(o["zeros"]["y"][0], 0.0)),
)


def _along(outputs: Outputs, direction: np.ndarray) -> np.ndarray:
    """The part of dx along a direction in every row, as a share of the size of dx."""
    dx = outputs["dx"]
    length = np.sqrt((direction**2).sum(-1))
    return (dx * direction).sum(-1) / length / np.sqrt((dx**2).sum(-1) + 1e-300)


def _parameters_like_weight(outputs: Mapping[str, Outputs], inputs: Mapping[str, Inputs]) -> bool:
    return all(
        outputs[name][output].shape == inputs[name]["x" if output == "dx" else "weight"].shape
        for name in inputs
        for output in outputs[name]
    )


BACKWARD_PROPERTIES = (
    Property("dx has the shape of x; the gradients of the parameters have that of weight.", _parameters_like_weight),
    Property(
        "dx of the first row does not depend on the others.",
        lambda o, i: close(o["alone"]["dx"], o["plain"]["dx"][:1]),
    ),
)

LAYER_NORM_PROPERTIES = (
    *BACKWARD_PROPERTIES,
    Property(
        "dbias is what all rows ask of β together.", lambda o, i: close(o["plain"]["dbias"], i["plain"]["dy"].sum(0))
    ),
    Property(
        "the sum of dx is 0 in every row, as a shift of the row changes nothing.",
        lambda o, i: close(_along(o["plain"], np.ones_like(i["plain"]["x"])), 0.0),
    ),
    Property(
        "Σ dx · x̂ is 0 in every row, but for ε, as a stretch of the row changes nothing.",
        lambda o, i: close(_along(o["plain"], i["plain"]["x"] - i["plain"]["x"].mean(-1, keepdims=True)), 0.0),
    ),
    Property(
        "a row of equal values gives finite gradients.",
        lambda o, i: all(np.isfinite(value).all() for value in o["constant"].values()),
    ),
)

RMS_BACKWARD_PROPERTIES = (
    *BACKWARD_PROPERTIES,
    Property(
        "Σ dx · x is 0 in every row, but for ε, as a stretch of the row changes nothing.",
        lambda o, i: close(_along(o["plain"], i["plain"]["x"]), 0.0),
    ),
    Property(
        "if all x are three times as large, dx is a third and dweight stays.",
        lambda o, i: (
            close(3 * o["moved"]["dx"], o["plain"]["dx"]) and close(o["moved"]["dweight"], o["plain"]["dweight"])
        ),
    ),
    Property(
        "a row of zeros gives finite gradients.",
        lambda o, i: all(np.isfinite(value).all() for value in o["zeros"].values()),
    ),
)


# Exercises

LAYER_NORM_FORWARD = Exercise(
    id="layer_norm_forward",
    chapter="11_five_norms",
    signature="(x, weight, bias, eps) -> y, x of shape (*, D)",
    operation=LayerNorm,
    probes=_row_probes(110, centred=True),
    fresh=_fresh_rows,
    mistakes=LAYER_NORM_MISTAKES,
    properties=forward_properties("row"),
    hints=(
        "Take one row of a table, by itself. Which numbers does its mean need?",
        "The last axis has a number that does not depend on how many axes there are.",
        "The mean must keep an axis of length 1, so that it lines up with the rows. γ and β line up as they are.",
    ),
    changing={"x": "F24"},
    channels=-1,
)

LAYER_NORM_BACKWARD = Exercise(
    id="layer_norm_backward",
    chapter="11_five_norms",
    signature="(dy, x, weight, eps) -> (dx, dweight, dbias), x of shape (*, D)",
    operation=LayerNormBackward,
    probes=_backward(_row_probes(111, centred=True), 112),
    fresh=lambda rng: _fresh_without(rng, "bias", backward=True),
    mistakes=LAYER_NORM_BACKWARD_MISTAKES,
    properties=LAYER_NORM_PROPERTIES,
    hints=(
        "The formula is batch norm's, written with dx̂. Ask of each mean in it: over which values?",
        "γ differs from value to value of a row. So where must it stand: inside the means, or in front of them?",
        "dx averages over the last axis. dweight and dbias add up over all the others, however many there are.",
    ),
    changing=CHANGING,
    channels=-1,
)

RMS_NORM_FORWARD = Exercise(
    id="rms_norm_forward",
    chapter="11_five_norms",
    signature="(x, weight, eps) -> y, x of shape (*, D)",
    operation=RMSNorm,
    probes=without(_row_probes(115, centred=False), "bias"),
    fresh=lambda rng: _fresh_without(rng, "bias"),
    mistakes=RMS_NORM_MISTAKES,
    properties=RMS_PROPERTIES,
    hints=(
        "Read the name from right to left: square, mean, root. No mean of x itself occurs.",
        "ε is added to the mean square, before the root.",
    ),
    changing={"x": "F24"},
    channels=-1,
)

RMS_NORM_BACKWARD = Exercise(
    id="rms_norm_backward",
    chapter="11_five_norms",
    signature="(dy, x, weight, eps) -> (dx, dweight), x of shape (*, D)",
    operation=RMSNormBackward,
    probes=_backward(_row_probes(116, centred=False), 117),
    fresh=lambda rng: _fresh_without(rng, "bias", backward=True),
    mistakes=RMS_NORM_BACKWARD_MISTAKES,
    properties=RMS_BACKWARD_PROPERTIES,
    hints=(
        "x is used twice: on top of the fraction, and in the root mean square. How many terms does dx have?",
        "Go through the steps mean square, root, quotient, and add up what the two uses of x collect.",
        "Layer norm's dx has a term for the mean and one for the variance. Which of the two has no reason here?",
    ),
    changing=CHANGING,
    channels=-1,
)
