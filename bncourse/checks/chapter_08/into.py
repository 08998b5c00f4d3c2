"""Normalizing into an array that is given, without any other as large."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np

from ..chapter_02 import AFFINE_MISTAKES, STATISTICS_MISTAKES, asked, chosen, own
from ..exercise import Exercise, Inputs, Mistake, Operation, Probe, Property, step
from ..observe import Unusable
from ..torch_answers import build

FILL = 100.0  # what stands in ``out`` at first
LARGE = 2**19  # bytes of an x beside which what Python needs for itself is small

# An output that is given


class Into(Operation):
    """y = γ · (x − μ) / σ + β, and what became of ``out``; the last three outputs are 1 for yes and 0 for no."""

    outputs = ("y", "out_holds_y", "out_returned", "nothing_large_made")

    @step
    def params(s):
        """γ and β, in this order."""
        return s.weight, s.bias

    @step
    def param_shape(s):
        """The shape in which γ and β line up with x."""
        return (-1, 1)

    @step
    def statistic_shape(s):
        """The shape in which μ and 1/σ line up with x."""
        return (-1, 1)

    @step
    def center(s):
        return s.mean.reshape(s.statistic_shape)

    @step
    def inverse(s):
        """1/σ."""
        return s.inv_std.reshape(s.statistic_shape)

    @step
    def scale(s):
        return s.params[0].reshape(s.param_shape)

    @step
    def shift(s):
        return s.params[1].reshape(s.param_shape)

    @step
    def x_hat(s):
        return (s.x - s.center) * s.inverse

    @step
    def y(s):
        return s.scale * s.x_hat + s.shift

    @step
    def out_holds_y(s):
        return 1.0

    @step
    def out_returned(s):
        """1 for out, 0 for nothing, 2 for something else."""
        return 1.0

    @step
    def nothing_large_made(s):
        return 1.0


def _not_if_large(s: Into) -> float:
    """What is seen of arrays as large as x: they stand out only if x is large."""
    return float(s.inputs["x"].nbytes < LARGE)


def _before(s: Into) -> np.ndarray:
    """What out holds at first."""
    return np.full(s.x.shape, FILL)


def _own(statistic: str) -> Callable:
    """A statistic of x itself instead of the one that is given."""
    return lambda s: getattr(s.x, statistic)((0, 2)).reshape(s.statistic_shape)


AT_THE_MEAN = "What should y be where x equals the mean of its channel, and what is it in your code?"
TIMES = "By which two numbers does the task multiply the distance from the mean?"

INTO_MISTAKES = (
    Mistake(
        "H60",
        "out is as it came: your result is in another array. An equals sign gives a name to another array, and writes "
        "nothing into the one that had the name before.",
        "After your last line: what does the caller find in the array that was handed over as out?",
        {"out_holds_y": lambda s: 0.0, "out_returned": lambda s: 2.0, "nothing_large_made": _not_if_large},
        {"out_holds_y": lambda s: 0.0, "out_returned": lambda s: 2.0},
        {"out_holds_y": lambda s: 0.0, "nothing_large_made": _not_if_large, "y": _before},
        {"out_holds_y": lambda s: 0.0, "y": _before},
    ),
    Mistake(
        "H61",
        "You filled out, but returned nothing.",
        "What is z after z = normalize_into(...)?",
        {"out_returned": lambda s: 0.0},
    ),
    Mistake(
        "H62",
        "You filled out, but returned something else.",
        "Which array was handed over for the result, and what does the caller get back?",
        {"out_returned": lambda s: 2.0, "nothing_large_made": _not_if_large},
        {"out_returned": lambda s: 2.0},
    ),
    Mistake(
        "H63",
        "On the way you made arrays that are together as large as x. Making one takes memory, and time to write it and "
        "to read it again.",
        "Take your longest line apart: how many results does it have, and where is each of them kept?",
        {"nothing_large_made": _not_if_large},
    ),
    Mistake(
        "H64",
        "Your result contains what stood in out before. The caller hands over an array that holds anything.",
        "Which of your lines reads out before it was written?",
        {"y": lambda s: s.scale * s.x_hat + s.shift + FILL},
        {"y": lambda s: s.scale * s.x_hat * FILL + s.shift},
        {"y": lambda s: s.scale * (s.x_hat + FILL) + s.shift},
        {"y": lambda s: s.scale * (_before(s) - s.center) * s.inverse + s.shift},
    ),
    *asked(
        chosen(AFFINE_MISTAKES, "F09", "F11", "F12", "F32"),
        {"F09": AT_THE_MEAN, "F11": AT_THE_MEAN, "F12": TIMES, "F32": AT_THE_MEAN},
    ),
    own(
        AFFINE_MISTAKES,
        "F34",
        {"y": lambda s: s.scale * (s.x_hat + s.shift)},
        {"y": lambda s: s.scale * s.inverse * (s.x - s.center + s.shift)},
        asks=AT_THE_MEAN,
    ),
    Mistake(
        "H70",
        "The result of a step is thrown away. A function of NumPy returns a new array, unless it is told where to write.",
        "After each of your lines: which array holds the latest result?",
        {"y": lambda s: s.x - s.center, "nothing_large_made": _not_if_large},
        {"y": lambda s: s.x_hat, "nothing_large_made": _not_if_large},
        {"y": lambda s: s.scale * s.inverse * s.x, "nothing_large_made": _not_if_large},
        {"y": lambda s: s.x, "nothing_large_made": _not_if_large},
    ),
    Mistake(
        "H71",
        "Only a part of out was written.",
        "How often does your loop run, and is the return inside it?",
        {"y": lambda s: np.where(np.arange(len(s.x))[:, None, None] == 0, Into.y.compute(s), FILL)},
        {"y": lambda s: np.where(np.arange(s.x.shape[1])[:, None] == 0, Into.y.compute(s), FILL)},
    ),
    own(STATISTICS_MISTAKES, "F07", {"inverse": lambda s: 1.0}, asks=TIMES),
    own(STATISTICS_MISTAKES, "F08", {"center": lambda s: 0.0}, asks=AT_THE_MEAN),
    Mistake(
        "F36",
        "You divided by inv_std. It is 1/σ already.",
        "If σ is 4, what is inv_std, and what should a distance of 8 from the mean become?",
        {"x_hat": lambda s: (s.x - s.center) / s.inverse},
    ),
    Mistake(
        "H65",
        "You took inv_std for a variance or a standard deviation, and worked out another number from it.",
        "If σ is 4, what is inv_std, and what should a distance of 8 from the mean become?",
        {"inverse": lambda s: 1 / np.sqrt(s.inv_std.reshape(s.statistic_shape))},
        {"inverse": lambda s: np.sqrt(s.inv_std.reshape(s.statistic_shape))},
        {"inverse": lambda s: 1 / np.sqrt(s.inv_std.reshape(s.statistic_shape) + 1e-5)},
    ),
    Mistake(
        "H66",
        "You subtracted the mean after x was scaled. It belongs to x as it came.",
        AT_THE_MEAN,
        {"y": lambda s: s.scale * s.inverse * s.x - s.center + s.shift},
        {"x_hat": lambda s: s.x * s.inverse - s.center},
        {"x_hat": lambda s: s.x - s.center * s.inverse},
        {"y": lambda s: s.scale * s.inverse * s.x - s.center * s.inverse + s.shift},
        {"y": lambda s: (s.scale * s.x - s.center) * s.inverse + s.shift},
    ),
    Mistake(
        "H67",
        "You added the mean; it is subtracted.",
        AT_THE_MEAN,
        {"x_hat": lambda s: (s.x + s.center) * s.inverse},
    ),
    Mistake(
        "H68",
        "You computed statistics of x. Here they are given: another pass over x would only cost time.",
        "Which of the parameters does your code not use?",
        {"center": _own("mean"), "inverse": lambda s: 1 / (_own("std")(s) + 0)},
        {"center": _own("mean")},
        {"inverse": lambda s: 1 / _own("std")(s)},
        {"center": _own("mean"), "inverse": lambda s: 1 / np.sqrt(_own("var")(s) + 1e-5)},
    ),
    Mistake(
        "H69",
        "You multiplied by γ or by 1/σ twice.",
        TIMES,
        {"scale": lambda s: s.params[0].reshape(s.param_shape) ** 2},
        {"inverse": lambda s: s.inv_std.reshape(s.statistic_shape) ** 2, "scale": Into.scale.compute},
        {"y": lambda s: s.scale * (s.scale * s.x_hat) + s.shift},
    ),
    Mistake(
        "C06",
        "An array of shape (C,) lines up with the positions or with the samples instead of the channels.",
        "With which axis of (N, C, L) does NumPy align an array of shape (C,), and with which one of shape (C, 1)?",
        {"param_shape": lambda s: (-1,), "statistic_shape": lambda s: (-1,)},
        {"param_shape": lambda s: (-1,)},
        {"statistic_shape": lambda s: (-1,)},
        {"param_shape": lambda s: (-1, 1, 1), "statistic_shape": lambda s: (-1, 1, 1)},
        {"scale": lambda s: s.params[0]},
        {"shift": lambda s: s.params[1]},
        {"center": lambda s: s.mean},
        {"inverse": lambda s: s.inv_std},
    ),
)


# Probes


def _given(rng: np.random.Generator, shape: tuple[int, int, int], dtype: type = float) -> Inputs:
    """x with statistics that are not its own, and random γ and β."""
    channels = shape[1]

    def away_from_0(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, channels) * rng.choice([-1, 1], channels)

    inputs = {
        "x": rng.normal(1, 2, shape),
        "mean": away_from_0(2, 6),
        "inv_std": rng.uniform(0.2, 0.7, channels),
        "weight": away_from_0(1.3, 3),
        "bias": away_from_0(1.3, 3),
    }
    return {name: value.astype(dtype) for name, value in inputs.items()}


def _into_probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    return (
        Probe("plain", "a small array.", _given(rng, (4, 3, 5))),
        Probe(
            "cube",
            "as many samples as channels and positions, so that shapes fit which should not.",
            _given(rng, (3, 3, 3)),
        ),
        Probe("square", "as many channels as positions.", _given(rng, (2, 4, 4))),
        Probe("one", "a single sample.", _given(rng, (1, 2, 3))),
        Probe("float32", "an array in float32.", _given(rng, (5, 2, 4), np.float32)),
        Probe("large", f"an x of {LARGE // 1024} KB, with an eye on the memory.", _given(rng, (16, 4, 1024))),
    )


def _fresh_given(rng: np.random.Generator) -> Inputs:
    return _given(rng, tuple(int(n) for n in rng.integers(2, 7, 3)))


# Driving


def drive_into(answer: Callable, inputs: Inputs) -> dict[str, object]:
    """What stands in out afterwards, or what is returned if out was not written; and the facts."""
    out = np.full_like(inputs["x"], FILL)
    result, peak = _with_peak(lambda: build(answer, "(x, mean, inv_std, weight, bias, out)", *inputs.values(), out))
    written, returned = bool((out != FILL).any()), _is(result, out)
    if not written and result is None:
        raise Unusable("nothing", "Your function wrote nothing into out and returned nothing. Where is its result?")
    large = inputs["x"].nbytes >= LARGE and peak > 0.95 * inputs["x"].nbytes
    facts = float(written), 1.0 if returned else 0.0 if result is None else 2.0, float(not large)
    return dict(zip(Into.outputs, (out if written else result, *facts), strict=True))


def _is(result: object, out: np.ndarray) -> bool:
    """Whether what came back is out, or shows the same values of it."""
    same = isinstance(result, np.ndarray) and result.shape == out.shape and result.strides == out.strides
    return same and result.ctypes.data == out.ctypes.data


def _with_peak(call: Callable) -> tuple[object, int]:
    """What a call returns, and how many bytes more were in use at any time than before."""
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        return call(), tracemalloc.get_traced_memory()[1] - before
    finally:
        if not tracing:
            tracemalloc.stop()


# The exercise

WORDING = {
    "out_holds_y": lambda i, got, expected: "Nothing was written into out.",
    "out_returned": lambda i, got, expected: f"{'Something other than out' if got else 'Nothing'} was returned.",
    "nothing_large_made": lambda i, got, expected: "Beside out, arrays that are together as large as x were made.",
}

INTO = Exercise(
    id="normalize_into",
    chapter="08_counting_bytes",
    signature="(x, mean, inv_std, weight, bias, out) -> out, x of shape (N, C, L)",
    operation=Into,
    probes=_into_probes(81),
    fresh=_fresh_given,
    mistakes=INTO_MISTAKES,
    properties=(
        Property("y has the shape of x.", lambda o, i: all(o[n]["y"].shape == i[n]["x"].shape for n in i)),
        Property("out holds the result.", lambda o, i: all(o[n]["out_holds_y"] == 1 for n in i)),
        Property("every value of out was written.", lambda o, i: all((o[n]["y"] != FILL).all() for n in i)),
        Property("the function returns out.", lambda o, i: all(o[n]["out_returned"] == 1 for n in i)),
        Property("no other array as large as x is made.", lambda o, i: all(o[n]["nothing_large_made"] == 1 for n in i)),
    ),
    hints=(
        "Every arithmetic function of NumPy has a parameter that says where the result goes.",
        "The first call reads x and writes out. What do the next ones read, and where do they write?",
        "Which of the four arrays of shape (C,) can be combined before x is touched? They are small.",
    ),
    container="dict",
    changing=dict.fromkeys(("x", "mean", "inv_std", "weight", "bias"), "F24"),
    drive=drive_into,
    wording=WORDING,
)
