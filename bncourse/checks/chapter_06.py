"""Chapter 6, numbers: its exercises, and the mistakes made in them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .chapter_02 import FORWARD, ROUGH, STATISTICS_MISTAKES, BatchNorm, Normalization, asked, chosen, close, own
from .exercise import Exercise, Form, Inputs, Mistake, Operation, Probe, Property, step

HIGH = 2**24  # from here on float32 has gaps of 2
FAR = 12_000_000  # from 2²³ to 2²⁴ float32 holds the whole numbers, and no others


class ColumnStatistics(Normalization):
    """Mean and variance of every feature of a table, shape (C,) each, from values shifted by the first sample."""

    outputs = ("column_mean", "column_var")

    @step
    def shift(s):
        """A number near the mean of each feature."""
        return s.x[:1]

    @step
    def data(s):
        return s.x - s.shift

    @step
    def column_mean(s):
        return (s.shift + s.mean).reshape(-1)

    @step
    def column_var(s):
        return s.var.reshape(-1)


class WelfordStep(Operation):
    """Count, mean and sum of squared distances after one more sample."""

    outputs = ("new_count", "new_mean", "new_m2")

    @step
    def seen(s):
        """How many samples there are with the new one."""
        return s.count + 1

    @step
    def share(s):
        """The weight of the new sample in the mean."""
        return 1 / s.seen

    @step
    def before(s):
        """The distance from the old mean."""
        return s.x - s.mean

    @step
    def next_mean(s):
        return s.mean + s.share * s.before

    @step
    def after(s):
        """The distance from the new mean."""
        return s.x - s.next_mean

    @step
    def product(s):
        """What the new sample adds to the sum of squares."""
        return s.before * s.after

    @step
    def next_m2(s):
        return s.m2 + s.product

    @step
    def new_count(s):
        return float(s.seen)

    @step
    def new_mean(s):
        return s.next_mean

    @step
    def new_m2(s):
        return s.next_m2


# Mistakes of mean and variance


def _rounded(s: ColumnStatistics) -> np.ndarray:
    """The distances from the mean as float32 holds it."""
    return s.x - s.x.astype(float).mean(0).astype(np.float32)


def _added_in_float32(s: ColumnStatistics) -> np.ndarray:
    """The distances from the mean of values that float32 adds up row by row."""
    return s.x - np.add.accumulate(s.x.astype(np.float32))[-1] / np.float32(len(s.x))


def _welford_in_float32(s: ColumnStatistics) -> np.ndarray:
    x = s.x.astype(np.float32)
    mean, m2 = np.zeros_like(x[0]), np.zeros_like(x[0])
    for n, row in enumerate(x, 1):
        before = row - mean
        mean = mean + before / np.float32(n)
        m2 = m2 + before * (row - mean)
    return m2 / len(x)


SAME_VAR = {"var": Normalization.var.compute}  # replaces nothing, but no second mistake can replace this step


def _mean_of_squares(values: np.ndarray) -> np.ndarray:
    return (values**2).mean(0)


def _square_of_mean(values: np.ndarray) -> np.ndarray:
    return values.mean(0) ** 2


def _shortcut(values: np.ndarray) -> np.ndarray:
    return _mean_of_squares(values) - _square_of_mean(values)


def _corrected(correct: Callable) -> Form:
    """The mean of the squares of x − x[0], and what is done about the rest."""
    return {"var": lambda s: correct(s, _mean_of_squares(s.x - s.x[0]), s.x - s.x[0])}


def _everywhere(s: ColumnStatistics, value: float) -> np.ndarray:
    return np.full(s.x.shape[1], value)


DIVISOR = "What should the variance of 1 and 3 be, and by what did you divide?"

COLUMN_MISTAKES = (
    *asked(chosen(STATISTICS_MISTAKES, "F01", "F30", "F37"), {"F01": DIVISOR}),
    own(STATISTICS_MISTAKES, "F06", {"spread": lambda s: s.x}),
    own(STATISTICS_MISTAKES, "F19", {"var": lambda s: _shortcut(s.inputs["x"])}),
    Mistake(
        "N01",
        "You computed mean(x²) − mean(x)² in float64. That moves the trouble to larger means and does not remove it.",
        "How many digits has the square of 12,000,000, how many does float64 keep, and how large is the variance?",
        {"var": lambda s: _shortcut(s.x.astype(float))},
    ),
    Mistake(
        "N02",
        "You measured the distances from a rounded mean: near 12,000,000 float32 knows whole numbers only, "
        "and from 16,777,216 on even ones only. All distances are off by the same amount, and the variance by its square.",
        "For 16,777,216 and 16,777,218: which mean does float32 give you, and how far is it from both?",
        {"spread": _rounded},
        {"spread": _added_in_float32},
        {"var": _welford_in_float32},
    ),
    Mistake(
        "N03",
        "You returned the mean of the shifted values. The shift has to be added again.",
        "If all values are 7 and you subtract 7 first, what is your mean?",
        {"column_mean": lambda s: (s.x - s.x[0]).mean(0)},
    ),
    Mistake(
        "N04",
        "After the shift, the term that makes up for it is missing, or wrong. Shifted values have a mean, too.",
        "Shift 1 and 3 by 1: what are the mean of the squares and the square of the mean?",
        _corrected(lambda s, squares, shifted: squares),
        _corrected(lambda s, squares, shifted: squares - 2 * _square_of_mean(shifted)),
        _corrected(lambda s, squares, shifted: squares + _square_of_mean(shifted)),
        _corrected(lambda s, squares, shifted: squares - shifted.mean(0)),
        _corrected(lambda s, squares, shifted: squares - _square_of_mean(s.x)),
        {"var": lambda s: _mean_of_squares(s.x - s.x[-1])},
        {"var": lambda s: _mean_of_squares(s.x - s.x.min(0))},
    ),
    Mistake(
        "N05",
        "You shifted all features by the same number. It is near the mean of some and far from that of others.",
        "If one feature has the mean 10,000 and another −10,000, which number is near both?",
        {"var": lambda s: _shortcut(s.x.astype(np.float32) - s.x.astype(np.float32).mean())},
    ),
    Mistake(
        "N06",
        "You swapped the mean and the variance.",
        "In which order does the exercise want them?",
        {"column_mean": lambda s: s.var.reshape(-1), "column_var": lambda s: (s.shift + s.mean).reshape(-1)},
    ),
    Mistake(
        "F35",
        "You returned the standard deviation, not the variance.",
        "If x is in metres, what is the unit of your result?",
        {"column_var": lambda s: np.sqrt(s.var).reshape(-1)},
    ),
    Mistake(
        "C05",
        "You averaged over the features of each sample: those are the statistics of layer norm.",
        "How many means does a table with 4 columns have?",
        {"shift": lambda s: 0.0, "axes": lambda s: (1,), **SAME_VAR},
    ),
    own(
        STATISTICS_MISTAKES,
        "C17",
        {"column_mean": lambda s: _everywhere(s, s.x.mean()), "column_var": lambda s: _everywhere(s, s.x.var())},
        {"column_mean": lambda s: s.x.mean(), "column_var": lambda s: s.x.var()},
        {"column_var": lambda s: _everywhere(s, s.x.var())},
        {"column_var": lambda s: s.x.var()},
        {"spread": lambda s: s.x - s.x.mean()},
    ),
)

# Mistakes of the stream


def _from_squares(s: WelfordStep) -> np.ndarray:
    """m2 by way of Σx², in the dtype of the input."""
    dtype = s.inputs["x"].dtype.type
    m2, mean, x = (np.asarray(value, dtype) for value in (s.m2, s.mean, s.x))
    squares = m2 + dtype(s.count) * mean**2 + x**2
    mean = mean + (x - mean) / dtype(s.count + 1)
    return squares - dtype(s.count + 1) * mean**2


STREAM_MISTAKES = (
    Mistake(
        "N11",
        "You squared the distance from the old mean. That is too large: the new sample pulls the mean towards itself.",
        "The samples are 1 and 3. What is m2 after the second, on paper and in your code?",
        {"after": lambda s: s.before},
    ),
    Mistake(
        "N12",
        "You squared the distance from the new mean. That is too small: for the earlier samples the mean has moved, too.",
        "The samples are 1 and 3. What is m2 after the second, on paper and in your code?",
        {"product": lambda s: s.after**2},
    ),
    Mistake(
        "N13",
        "The weight of the new sample in the mean is off. All samples count equally, the new one among them.",
        "After the first sample, what is the mean? And after the second?",
        {"share": lambda s: 1 / s.count},  # raises ZeroDivisionError at the first sample
        {"share": lambda s: np.float64(1) / s.count},
        {"share": lambda s: 1 / max(s.count, 1)},
        {"share": lambda s: 1 / (s.count + 2)},
        {"share": lambda s: 0.5},
        {"share": lambda s: 0.1},
        {"share": lambda s: s.count / s.seen},
        {"next_mean": lambda s: (s.mean + s.x) / s.seen},
        {"next_mean": lambda s: (s.count * s.mean + s.x) / s.count},
        {"next_mean": lambda s: (s.count * s.mean + s.x) / np.float64(s.count)},
        {"next_mean": lambda s: s.mean + s.x / s.seen},
    ),
    Mistake(
        "N14",
        "You added the whole distance to the mean, which makes the new mean the newest sample.",
        "Nine samples were 2, the tenth is 12. What is the mean?",
        {"share": lambda s: 1.0},
    ),
    Mistake(
        "N15",
        "The count is off: it should have grown by one.",
        "How many samples have been seen with this one?",
        {"new_count": lambda s: float(s.count)},
        {"new_count": lambda s: float(s.count + 2)},
        {"new_count": lambda s: float(s.count + s.x.size)},
        {"seen": lambda s: s.count},
        {"seen": lambda s: np.float64(s.count)},
        {"seen": lambda s: s.count + 2},
    ),
    Mistake(
        "N16",
        "m2 is a sum of squares. It is divided only once, by whoever wants a variance at the end.",
        "What would be left of the first distance if every step divided again?",
        {"new_m2": lambda s: s.next_m2 / s.seen},
        {"new_m2": lambda s: s.next_m2 / s.count},
        {"new_m2": lambda s: s.next_m2 / np.float64(s.count)},
        {"product": lambda s: s.before * s.after / s.seen},
        {"product": lambda s: s.before**2 / s.seen},
        {"next_m2": lambda s: s.m2 * s.count / s.seen + s.product},
        {"new_m2": lambda s: (s.count * s.m2 + s.product) / s.seen},
        {"next_m2": lambda s: s.m2 + s.share * (s.product - s.m2)},
    ),
    Mistake(
        "N17",
        "The mean moves away from the new sample: the step has the wrong sign.",
        "If the sample is larger than the mean, should that grow or shrink?",
        {"next_mean": lambda s: s.mean - s.share * s.before},
        {"before": lambda s: s.mean - s.x},
    ),
    Mistake(
        "N18",
        "The mean or m2 came back as it went in.",
        "Which of your lines changes the mean, and which m2?",
        {"next_m2": lambda s: s.m2},
        {"next_mean": lambda s: s.mean},
        {"new_mean": lambda s: s.mean},
    ),
    Mistake(
        "N19",
        "You replaced m2 by what the new sample adds. It is a sum over all samples so far.",
        "What is left of all earlier samples?",
        {"next_m2": lambda s: s.product},
    ),
    Mistake(
        "N20",
        "You added a distance to m2, not a product of two distances.",
        "If x is in metres, what is the unit of m2?",
        {"product": lambda s: s.before},
        {"product": lambda s: s.after},
        {"product": lambda s: np.abs(s.before)},
        {"product": lambda s: np.abs(s.after)},
    ),
    Mistake(
        "N21",
        "m2 shrinks: what the new sample adds has the wrong sign.",
        "Can a sum of squares become smaller when a square is added?",
        {"next_m2": lambda s: s.m2 - s.product},
    ),
    Mistake(
        "N06",
        "You swapped the mean and m2.",
        "In which order does the exercise want them?",
        {"new_mean": lambda s: s.next_m2, "new_m2": lambda s: s.next_mean},
    ),
    Mistake(
        "F06",
        "You added x² itself. m2 measures the spread around the mean.",
        "What is m2 after 5, 5, 5?",
        {"product": lambda s: s.x**2},
    ),
    Mistake(
        "F19",
        "You went by way of Σx² and took n · mean² away from it. With a large mean that subtracts two huge, nearly "
        "equal numbers, and the digits are lost.",
        "How many digits does float32 keep of 10 · 10,000², and how large is m2?",
        {"next_m2": _from_squares},
    ),
)

# Mistakes in float16


def _is_half(s: BatchNorm) -> bool:
    return s.inputs["x"].dtype == np.float16


def _rounded_mean(s: BatchNorm) -> np.ndarray:
    """The mean as float16 holds it, if x is float16."""
    mean = s.data.mean(s.axes, keepdims=True)
    return mean.astype(np.float16).astype(float) if _is_half(s) else mean


def _half_var(s: BatchNorm) -> np.ndarray:
    """The variance with every square in float16; sums in float32, as NumPy's mean has them."""
    spread = s.spread
    if not _is_half(s):
        return (spread**2).mean(s.axes, keepdims=True)
    squares = (spread.astype(np.float16) ** 2).astype(np.float32)
    return squares.mean(s.axes, keepdims=True).astype(np.float16).astype(float)


def _half_sum(s: BatchNorm, values: np.ndarray) -> np.ndarray:
    """The mean of values that float16 adds up row by row."""
    if not _is_half(s):
        return values.mean(s.axes, keepdims=True)
    total = np.add.accumulate(values.astype(np.float16), axis=0)[-1:]
    return (total / np.float16(len(values))).astype(float)


SHORTCUT = own(
    STATISTICS_MISTAKES,
    "F19",
    {"var": lambda s: _shortcut(s.inputs["x"].astype(np.result_type(s.inputs["x"].dtype, np.float32)))},
)

ROUNDED = {"data": lambda s: s.inputs["x"].astype(np.float32).astype(float)}
RIGHT_ON_WIDE = ("F02", "F03", "F14", "F15", "F20", "F29", "N31", "N32")  # what the float64 values do not show


def _also_rounded(mistake: Mistake) -> Mistake:
    """The mistake as those make it, too, who compute all in float32: they are told of N33 when this one is gone."""
    if mistake.id not in RIGHT_ON_WIDE:
        return mistake
    rounded = ({**form, **ROUNDED} for form in mistake.forms)
    return Mistake(mistake.id, mistake.says, mistake.asks, *mistake.forms, *rounded)


HALF_MISTAKES = (
    Mistake(
        "F20",
        "A square, or a variance, was computed or kept in float16. Its largest number is 65,504: from 256 on, every "
        "square is infinite.",
        "Which dtype has each of your intermediate values, if x is float16?",
        {"mean": _rounded_mean, "var": _half_var},
        {"var": _half_var},
        {"mean": _rounded_mean, "var": lambda s: _half_sum(s, s.spread.astype(np.float16).astype(float) ** 2)},
        {"var": lambda s: _half_sum(s, s.spread.astype(np.float16).astype(float) ** 2)},
    ),
    Mistake(
        "N31",
        "The mean was rounded to float16. Around 300 its numbers are a quarter apart, so all distances from the mean "
        "are off by the same amount.",
        "Which dtype has your mean, if x is float16?",
        {"mean": _rounded_mean},
        {"centered": lambda s: s.data - _rounded_mean(s)},
    ),
    Mistake(
        "N32",
        "Values were added up in float16. A long sum passes its largest number, 65,504, and well before that small "
        "values no longer change it.",
        "In float16, what is 2,048 + 1?",
        {"mean": lambda s: _half_sum(s, s.data)},
    ),
    Mistake(
        "N33",
        "A float64 input was rounded to float32. Convert what is float16, or convert to the widest type.",
        "If x is float64, how many of its digits are left after your first line?",
        ROUNDED,
    ),
    *(SHORTCUT if mistake.id == "F19" else mistake for mistake in FORWARD.mistakes),
)


# Probes


def _statistics_probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)

    def batch(shape: tuple[int, ...], mean: object, std: float) -> Inputs:
        return {"x": rng.normal(mean, std, shape).astype(np.float32)}

    neighbours = np.array([[HIGH, -HIGH, 1, HIGH + 6], [HIGH + 6, -HIGH - 6, 7, HIGH]], np.float32)
    between = FAR + rng.uniform(0.3, 0.45, 4)  # a mean that is no float32 number
    signs = [1, -1, 1, -1]
    return (
        Probe("plain", "a mean of 3 and a standard deviation of 2.", batch((6, 4), 3.0, 2.0)),
        Probe("two", "a batch of two.", {"x": np.array([[1, 5], [3, -5]], np.float32)}),
        Probe("constant", "a feature that never varies.", {"x": np.full((5, 3), 7, np.float32)}),
        Probe("offset", "a mean of 10,000 and a standard deviation of 1.", batch((50, 4), 1e4, 1.0), **ROUGH),
        Probe("mixed", "means of 10,000, −10,000, 100 and 0.", batch((40, 4), [1e4, -1e4, 100, 0], 1.0), **ROUGH),
        Probe("neighbours", "16,777,216 and 16,777,222, whose mean is no float32 number.", {"x": neighbours}, **ROUGH),
        Probe(
            "far",
            "1,000 rows with a mean near 12,000,000 and a standard deviation of 1.",
            batch((1000, 4), between * signs, 1.0),
            rtol=3e-3,
            floor=3e-3,
        ),
    )


def _fresh_statistics(rng: np.random.Generator) -> Inputs:
    shape = (int(rng.integers(4, 30)), int(rng.integers(2, 6)))
    mean = 10 ** rng.uniform(0, 5, shape[1]) * rng.choice([-1, 1], shape[1])
    return {"x": rng.normal(mean, 2, shape).astype(np.float32)}


def _stream_inputs(
    rng: np.random.Generator, count: int, channels: int, mean: float = 0.0, dtype: type = float
) -> Inputs:
    """A state after ``count`` samples, and one more sample."""
    state = [mean + rng.uniform(2, 6, channels), rng.uniform(1, 3, channels) * max(count - 1, 0)]
    if count == 0:
        state = [np.zeros(channels), np.zeros(channels)]
    x = mean + rng.uniform(2, 6, channels) + rng.choice([-4, 4], channels)
    mean, m2, x = (value.astype(dtype) for value in (*state, x))
    return {"count": count, "mean": mean, "m2": m2, "x": x}


def _stream_probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    far = _stream_inputs(rng, 2, 4, 1e4, np.float32)
    return (
        Probe("tenth", "the tenth sample.", _stream_inputs(rng, 9, 3)),
        Probe("first", "the first sample: count is 0, and so are mean and m2.", _stream_inputs(rng, 0, 3)),
        Probe("second", "the second sample.", _stream_inputs(rng, 1, 3)),
        Probe("late", "the hundredth sample.", _stream_inputs(rng, 99, 2)),
        Probe("one", "a single feature.", _stream_inputs(rng, 4, 1)),
        Probe("offset", "float32 values with a mean of 10,000 and small distances from it.", far, **ROUGH),
    )


def _fresh_stream(rng: np.random.Generator) -> Inputs:
    return _stream_inputs(rng, int(rng.integers(0, 40)), int(rng.integers(1, 6)))


def _half_inputs(rng: np.random.Generator, x: np.ndarray) -> Inputs:
    """x in float16 with random parameters in float32."""
    channels = x.shape[1]
    weight, bias = (rng.uniform(1.3, 3, channels) * rng.choice([-1, 1], channels) for _ in range(2))
    parameters = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
    return {"x": x.astype(np.float16), **parameters, "eps": 1e-5}


def _half_probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, 24, (30, 3)) + 0.5  # pairs of values around 300.125, between two numbers of float16
    between = 300.125 + 0.25 * np.concatenate([steps, -steps])
    probes = {
        "half": ("float16 values of ordinary size.", _half_inputs(rng, rng.normal(2, 1.5, (6, 3)))),
        "large": ("float16 values near −700 and 700.", _half_inputs(rng, rng.normal(0, 700, (8, 3)))),
        "half offset": ("float16 values around 300.", _half_inputs(rng, between)),
        "long": ("5,000 float16 values with a mean of 3.", _half_inputs(rng, rng.normal(3, 2, (5000, 3)))),
    }
    wide = {**probes["half"][1], "x": rng.normal(1e7, 1, (8, 3))}
    probes["wide"] = ("float64 values with a mean of 10,000,000.", wide)
    return tuple(Probe(name, reason, inputs, rtol=1e-2, floor=1e-2) for name, (reason, inputs) in probes.items())


def _fresh_half(rng: np.random.Generator) -> Inputs:
    shape = (int(rng.integers(4, 12)), int(rng.integers(2, 7)))
    return _half_inputs(rng, rng.normal(rng.uniform(-5, 5), 10 ** rng.uniform(0, 3), shape))


# Exercises

STATISTICS = Exercise(
    id="accurate_statistics",
    chapter="06_numbers",
    signature="(x) -> (mean, var) of shape (C,) each, x of shape (N, C) in float32",
    operation=ColumnStatistics,
    probes=_statistics_probes(60),
    fresh=_fresh_statistics,
    mistakes=COLUMN_MISTAKES,
    properties=(
        Property("no variance is negative.", lambda o, i: all((o[name]["column_var"] >= 0).all() for name in o)),
        Property(
            "1 and 3 have the mean 2 and the variance 1.",
            lambda o, i: close(o["two"]["column_mean"][0], 2.0) and close(o["two"]["column_var"][0], 1.0),
        ),
        Property(
            "a feature that never varies has the variance 0.", lambda o, i: close(o["constant"]["column_var"], 0.0)
        ),
        Property(
            "a mean of 10,000 leaves a variance of about 1.",
            lambda o, i: close(o["offset"]["column_var"], i["offset"]["x"].astype(float).var(0), 0.05),
        ),
        Property(
            "16,777,216 and 16,777,222 have the variance 9.", lambda o, i: close(o["neighbours"]["column_var"], 9.0)
        ),
        Property(
            "a mean of 12,000,000 leaves a variance of about 1.",
            lambda o, i: close(o["far"]["column_var"], i["far"]["x"].astype(float).var(0), 0.05),
        ),
    ),
    hints=(
        "Differences of neighbouring float32 numbers are exact. Which differences could you take before any sum?",
        "Subtract something that is near the mean and needs no computing. What do the mean and the variance of the rest tell?",
        "A shift changes the mean by the shift, and the variance not at all.",
    ),
    changing={"x": "F24"},
)

STREAM = Exercise(
    id="welford_step",
    chapter="06_numbers",
    signature="(count, mean, m2, x) -> (count, mean, m2), x, mean and m2 of shape (C,)",
    operation=WelfordStep,
    probes=_stream_probes(61),
    fresh=_fresh_stream,
    mistakes=STREAM_MISTAKES,
    properties=(
        Property("the count grows by one.", lambda o, i: all(o[n]["new_count"] == i[n]["count"] + 1 for n in i)),
        Property(
            "after the first sample the mean is that sample, and m2 is 0.",
            lambda o, i: close(o["first"]["new_mean"], i["first"]["x"]) and close(o["first"]["new_m2"], 0.0),
        ),
        Property(
            "after the second sample the mean lies half-way.",
            lambda o, i: close(o["second"]["new_mean"], (i["second"]["mean"] + i["second"]["x"]) / 2),
        ),
        Property(
            "after the second sample m2 is half the square of their distance.",
            lambda o, i: close(o["second"]["new_m2"], (i["second"]["x"] - i["second"]["mean"]) ** 2 / 2),
        ),
        Property("m2 never shrinks.", lambda o, i: all((o[n]["new_m2"] >= i[n]["m2"] * 0.999).all() for n in i)),
    ),
    hints=(
        "The mean moves towards the new sample. By which part of the distance, if all samples count equally?",
        "There are two distances, from the old mean and from the new one. The squares of both are wrong.",
        "Try it with the samples 1 and 3: m2 has to become 2.",
    ),
    changing={"x": "F24", "mean": "R25", "m2": "R25"},
)

HALF = replace(
    FORWARD,
    id="batch_norm_half",
    chapter="06_numbers",
    signature="(x, weight, bias, eps) -> y in float32 or float64, x of shape (N, C) in float16 or wider",
    probes=(*FORWARD.probes, *_half_probes(62)),
    fresh=_fresh_half,
    mistakes=tuple(map(_also_rounded, HALF_MISTAKES)),
    properties=(
        *FORWARD.properties,
        Property(
            "float16 values near ±700 give finite outputs with the standard deviation |γ|.",
            lambda o, i: close(o["large"]["y"].std(0), np.abs(i["large"]["weight"]), 0.05),
        ),
        Property(
            "5,000 float16 values give outputs with the mean β.",
            lambda o, i: close(o["long"]["y"].mean(0, dtype=float), i["long"]["bias"], 0.05),
        ),
    ),
    hints=(
        "Print the dtype of every intermediate value for an x in float16. Which of them can be large?",
        "The largest float16 number is 65,504, and sums and squares pass it soon. Which dtype has room for them?",
        "The layer of chapter 2 is right as it is, if it never sees float16.",
    ),
)

EXERCISES = (STATISTICS, STREAM, HALF)
