"""Chapter 2, the forward pass: its exercises, and the mistakes made in it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .exercise import Exercise, Form, Inputs, Mistake, Operation, Outputs, Probe, Property, step

ROUGH = {"rtol": 2e-2, "floor": 2e-2}  # float32 with a mean of 10,000: a right answer keeps three digits


class Normalization(Operation):
    """x̂ = (x − μ) / √(σ² + ε) for x of shape (N, C, *)."""

    outputs = ("x_hat",)

    @step
    def data(s):
        """The input as the statistics see it."""
        return s.x

    @step
    def axes(s):
        """The axes whose values share a mean."""
        return (0, *range(2, s.x.ndim))

    @step
    def mean(s):
        return s.data.mean(s.axes, keepdims=True)

    @step
    def centered(s):
        return s.data - s.mean

    @step
    def spread(s):
        """What is squared for the variance."""
        return s.data - s.mean

    @step
    def divisor(s):
        """What the sum of squares is divided by."""
        return s.data.size / s.mean.size

    @step
    def var(s):
        return (s.spread**2).sum(s.axes, keepdims=True) / s.divisor

    @step
    def epsilon(s):
        return s.eps

    @step
    def std(s):
        """What the centred values are divided by."""
        return np.sqrt(s.var + s.epsilon)

    @step
    def standardized(s):
        """x̂ in the shape of the data."""
        return s.centered / s.std

    @step
    def x_hat(s):
        return s.standardized if s.data.shape == s.x.shape else s.standardized.reshape(s.x.shape)


class BatchNorm(Normalization):
    """y = γ · x̂ + β, with γ and β of shape (C,)."""

    outputs = ("y",)

    @step
    def params(s):
        """γ and β, in this order."""
        return s.weight, s.bias

    @step
    def param_shape(s):
        return (-1, *[1] * (s.x.ndim - 2))

    @step
    def scale(s):
        return s.params[0].reshape(s.param_shape)

    @step
    def shift(s):
        return s.params[1].reshape(s.param_shape)

    @step
    def y(s):
        return s.scale * s.x_hat + s.shift


class Variance(Normalization):
    """σ² of every feature of a table, shape (C,)."""

    outputs = ("result",)

    @step
    def result(s):
        return s.var.reshape(-1)


# Mistakes


def one_pass(s: Normalization) -> np.ndarray:
    """E[x²] − E[x]² in the dtype of the input, as the learner computes it: in float32 rounding noise may be left."""
    x = s.data.astype(s.inputs["x"].dtype)
    biased = (x**2).mean(s.axes, keepdims=True) - x.mean(s.axes, keepdims=True) ** 2
    return biased * (s.data.size / s.mean.size / s.divisor)


def _flat(s: Normalization) -> np.ndarray:
    """One row per channel, or so it seems: reshape does not move axes."""
    return s.x.reshape(s.x.shape[1], -1)


def _lost(statistic: str) -> Callable:
    """The statistic in the shape (C,), which lines up with the last axis."""
    compute = getattr(Normalization, statistic).compute
    return lambda s: compute(s).reshape(-1)


def _around_right_mean(s: Normalization) -> np.ndarray:
    return s.data - Normalization.mean.compute(s)


def _right_var(s: Normalization) -> np.ndarray:
    return s.data.var(s.axes, keepdims=True)


SAME_EPSILON = {"epsilon": lambda s: s.eps}  # replaces nothing, but no second mistake can replace this step


class Words(NamedTuple):
    """What a mistake says and asks, and its id; what is empty stays as it is."""

    says: str = ""
    asks: str = ""
    id: str = ""


def told(mistakes: tuple[Mistake, ...], words: Mapping[str, Words]) -> tuple[Mistake, ...]:
    """The same mistakes in other words, by their ids, where the usual ones do not fit."""

    def one(mistake: Mistake) -> Mistake:
        says, asks, id = words.get(mistake.id, Words())
        return Mistake(id or mistake.id, says or mistake.says, asks or mistake.asks, *mistake.forms)

    return tuple(map(one, mistakes))


def asked(mistakes: tuple[Mistake, ...], questions: Mapping[str, str]) -> tuple[Mistake, ...]:
    """The same mistakes with other questions, by their ids."""
    return told(mistakes, {id: Words(asks=question) for id, question in questions.items()})


def chosen(mistakes: tuple[Mistake, ...], *ids: str) -> tuple[Mistake, ...]:
    """The mistakes with these ids."""
    return tuple(mistake for mistake in mistakes if mistake.id in ids)


def own(mistakes: tuple[Mistake, ...], id: str, *forms: Form, asks: str = "") -> Mistake:
    """The mistake with this id as it is made in other steps, and with another question where the usual one does not fit."""
    (mistake,) = chosen(mistakes, id)
    return Mistake(mistake.id, mistake.says, asks or mistake.asks, *forms)


STATISTICS_MISTAKES = (
    Mistake(
        "F01",
        "You divided by N − 1 in the variance. Batch norm rescales with the biased variance, "
        "and N − 1 belongs only to PyTorch's running variance (torch's var has it by default).",
        "What should the mean of the squares of x̂ be, over the batch?",
        {"divisor": lambda s: s.data.size / s.mean.size - 1},
    ),
    Mistake(
        "F02",
        "You added ε after the square root; it belongs inside, next to the variance.",
        "What is √(0 + ε), and what is √0 + ε?",
        {"std": lambda s: np.sqrt(s.var) + s.epsilon},
        {"standardized": lambda s: s.centered / np.sqrt(s.var) + s.epsilon},
        {"std": lambda s: np.sqrt(s.var) + np.sqrt(s.epsilon)},
        {"std": lambda s: 1 / (1 / np.sqrt(s.var) + s.epsilon)},
    ),
    Mistake(
        "F03",
        "ε is missing: a feature that never varies then divides 0 by 0.",
        "Where does eps occur in your code?",
        {"epsilon": lambda s: 0.0},
    ),
    Mistake(
        "F04",
        "You divided by the variance instead of its square root.",
        "If x is in metres, what is the unit of the variance, and what should that of x̂ be?",
        {"std": lambda s: s.var + s.epsilon},
    ),
    Mistake(
        "F06",
        "Your variance is the mean of the squares of x itself. The variance measures the spread around the mean.",
        "What is the variance of 5, 5, 5?",
        {"spread": lambda s: s.data},
    ),
    Mistake(
        "F07",
        "You centred, but did not divide by the standard deviation.",
        "What is the standard deviation of your x̂?",
        {"std": lambda s: 1.0},
    ),
    Mistake(
        "F08",
        "You divided, but did not subtract the mean.",
        "What is the mean of your x̂?",
        {"centered": lambda s: s.data},
    ),
    Mistake(
        "F14",
        "Your code uses a fixed ε and ignores the argument eps.",
        "What changes in your function when the caller passes eps=0.5?",
        {"epsilon": lambda s: 1e-5},
        {"epsilon": lambda s: 1e-6},
        {"epsilon": lambda s: 1e-8},
        {"epsilon": lambda s: 1e-12},
    ),
    Mistake(
        "F15",
        "Your code uses a fixed ε of 1e-3, Keras's default; the caller chooses it here.",
        "What changes in your function when the caller passes eps=0.5?",
        {"epsilon": lambda s: 1e-3},
    ),
    Mistake(
        "F19",
        "You computed the variance as mean(x²) − mean(x)². With a large mean that subtracts two huge, nearly equal "
        "numbers, and the digits are lost.",
        "How many digits does float32 keep of 10,000² = 100,000,000, and how large is the variance?",
        {"var": one_pass},
    ),
    Mistake(
        "F36",
        "You multiplied by the standard deviation instead of dividing by it.",
        "What should the standard deviation of x̂ be?",
        {"std": lambda s: 1 / np.sqrt(s.var + s.epsilon)},
    ),
    Mistake(
        "F37",
        "You added up the squared distances without dividing by their number.",
        "What is the variance of 1 and 3?",
        {"divisor": lambda s: 1},
    ),
    Mistake(
        "F38",
        "Only the mean is divided by the standard deviation: parentheses are missing around x − μ.",
        "In which order does Python compute x - mean / std?",
        {"standardized": lambda s: s.data - s.mean / s.std},
    ),
    Mistake(
        "F29",
        "You limited the variance or the standard deviation to at least ε, instead of adding ε to the variance.",
        "By how much does the formula change a variance of 1 when ε is 0.5?",
        {"std": lambda s: np.sqrt(np.maximum(s.var, s.epsilon)), **SAME_EPSILON},
        {"std": lambda s: np.maximum(np.sqrt(s.var), s.epsilon), **SAME_EPSILON},
    ),
    Mistake(
        "F39",
        "x is not normalized at all: its mean is not subtracted, and it is not divided by its standard deviation.",
        "Which line of yours changes the mean of x, and which its standard deviation?",
        {"x_hat": lambda s: s.x},
    ),
    Mistake(
        "F40",
        "You took the root twice.",
        "How many roots lead from the variance to what x − μ is divided by?",
        {"std": lambda s: np.sqrt(np.sqrt(s.var) + s.epsilon)},
        {"std": lambda s: np.sqrt(np.sqrt(s.var + s.epsilon))},
    ),
    Mistake(
        "F30",
        "You divided by the mean distance from the mean, not by the root of the mean squared distance.",
        "For 0, 0, 0, 4: what is the mean distance from the mean, and what is the standard deviation?",
        {"var": lambda s: np.abs(s.spread).mean(s.axes, keepdims=True) ** 2},
    ),
    Mistake(
        "F31",
        "You scaled by the smallest and the largest value: that is min-max scaling.",
        "What happens to all other values when one value is far out?",
        {
            "centered": lambda s: s.data - s.data.min(s.axes, keepdims=True),
            "std": lambda s: np.ptp(s.data, axis=s.axes, keepdims=True) + s.epsilon,
        },
        {
            "centered": lambda s: s.data - s.data.min(s.axes, keepdims=True),
            "std": lambda s: np.ptp(s.data, axis=s.axes, keepdims=True),
        },
    ),
    Mistake(
        "C05",
        "You normalized each sample over its features: that is layer norm.",
        "Change one sample of the batch: which outputs move in batch norm, and which in yours?",
        {"axes": lambda s: (1,)},
        {"axes": lambda s: tuple(range(1, s.x.ndim))},
        {"mean": lambda s: s.x.mean(1), "var": lambda s: s.x.var(1)},  # without keepdims
    ),
    Mistake(
        "C17",
        "You took one mean and one variance over the whole array: all channels share them.",
        "How many means should there be?",
        {"axes": lambda s: tuple(range(s.x.ndim))},
    ),
)

IMAGE_MISTAKES = (
    Mistake(
        "C01",
        "You averaged over the batch axis alone, so every pixel has statistics of its own. "
        "In images all positions of a channel share them.",
        "How many means does an input of shape (32, 3, 8, 8) have?",
        {"axes": lambda s: (0,)},
        {"mean": lambda s: s.x.mean(0, keepdims=True), "var": _right_var},
        {"var": lambda s: s.x.var(0, keepdims=True)},
    ),
    Mistake(
        "C02",
        "You normalized each image alone: that is instance norm.",
        "Over which axes do the values of one channel lie, in the whole batch?",
        {"axes": lambda s: tuple(range(2, s.x.ndim))},
        {"mean": lambda s: s.x.mean(tuple(range(2, s.x.ndim)), keepdims=True), "var": _right_var},
        {"var": lambda s: s.x.var(tuple(range(2, s.x.ndim)), keepdims=True)},
    ),
    Mistake(
        "C07",
        "You used reshape to bring the channels to the front. But reshape does not move axes: "
        "the values of different channels are mixed.",
        "For x of shape (2, 3, 1, 1), which samples and channels are in the first row of x.reshape(3, -1)?",
        {"data": _flat, "axes": lambda s: (1,)},
        {"data": lambda s: s.x.reshape(-1, s.x.shape[1]), "axes": lambda s: (0,)},
        {
            "mean": lambda s: _flat(s).mean(1).reshape(-1, *[1] * (s.x.ndim - 2)),
            "var": lambda s: _flat(s).var(1).reshape(-1, *[1] * (s.x.ndim - 2)),
        },
    ),
    Mistake(
        "C20",
        "You moved the channels, normalized, and put the array back into shape without moving the channels back.",
        "Which axis is the first before your last reshape?",
        {"x_hat": lambda s: np.moveaxis(s.standardized, 1, 0).reshape(s.x.shape)},
        {"x_hat": lambda s: np.moveaxis(s.standardized, 1, -1).reshape(s.x.shape)},
    ),
    Mistake(
        "C21",
        "You took the variance image by image, or of the images' means. The variance of a channel is that of all its "
        "values in the batch together.",
        "Two images, one all 0 and one all 2: what is the variance of the channel?",
        {"var": lambda s: _over_positions(s).var(-1).mean(0).reshape(s.mean.shape)},
        {"var": lambda s: _over_positions(s).mean(-1).var(0).reshape(s.mean.shape)},
    ),
    Mistake(
        "C09",
        "You treated N as the number of values per channel. What counts is N·H·W, so one image is a legal batch.",
        "How many values does one channel of an input of shape (1, 3, 4, 4) have?",
        {"data": lambda s: refuse_one_sample(s)},
        {"divisor": lambda s: len(s.x)},
        {"divisor": lambda s: len(s.x) - 1},
        {"divisor": lambda s: s.x[0, 0].size},
        {"divisor": lambda s: s.x.size},
        {"mean": lambda s: s.x.sum(s.axes, keepdims=True) / len(s.x), "divisor": lambda s: len(s.x)},
    ),
    Mistake(
        "C14",
        "Your statistics lost their axes, so they line up with the last axis of x instead of the channels.",
        "Which shapes do x.mean((0, 2, 3)) and x have, and how does NumPy align them?",
        {"mean": _lost("mean"), "var": _lost("var")},
        {"mean": _lost("mean"), "var": lambda s: s.data.var(s.axes)},
        {"mean": _lost("mean"), "var": lambda s: (s.spread**2).mean(s.axes)},
        {"mean": _lost("mean"), "spread": _around_right_mean},
        {"mean": _lost("mean")},
        {"var": _lost("var")},
    ),
    Mistake(
        "C18",
        "You took the last axis for the channels, as Keras has them. Here the channel axis is number 1.",
        "Which axis of (N, C, H, W) is left out of the mean?",
        {"axes": lambda s: tuple(range(s.x.ndim - 1))},
    ),
)


def _over_positions(s: Normalization) -> np.ndarray:
    """x as (N, C, positions)."""
    return s.x.reshape(*s.x.shape[:2], -1)


def refuse_one_sample(s: Operation) -> np.ndarray:
    if len(s.x) < 2:
        raise ValueError("expected more than one sample")
    return s.x


AFFINE_MISTAKES = (
    Mistake(
        "F09",
        "You swapped γ and β: γ scales, β shifts.",
        "What should the mean of y be, over the batch?",
        {"params": lambda s: (s.bias, s.weight)},
    ),
    Mistake("F11", "You never added β.", "What should the mean of y be, over the batch?", {"shift": lambda s: 0.0}),
    Mistake(
        "F12",
        "You never multiplied by γ.",
        "What should the standard deviation of y be, over the batch?",
        {"scale": lambda s: 1.0},
    ),
    Mistake(
        "F32",
        "You subtracted β; it is added.",
        "What should the mean of y be, over the batch?",
        {"shift": lambda s: -s.params[1].reshape(s.param_shape)},
    ),
    Mistake(
        "F33",
        "You applied γ and β before normalizing, where the normalization removes them again.",
        "What remains of a shift when the mean is subtracted afterwards?",
        {
            "data": lambda s: s.scale * s.x + s.shift,
            "y": lambda s: s.x_hat,
            "scale": BatchNorm.scale.compute,  # used in another place, so not missing
            "shift": BatchNorm.shift.compute,
        },
    ),
    Mistake(
        "F34",
        "You added β before multiplying by γ, so β is scaled, too.",
        "What is y where x̂ is 0?",
        {"y": lambda s: s.scale * (s.x_hat + s.shift)},
    ),
)

TRANSPOSED = Mistake(
    "C15",
    "Your output does not have the shape of the input: it is transposed.",
    "What is y.shape, and what is x.shape?",
    {"y": lambda s: (s.scale * s.x_hat + s.shift).T},
)

MOVED_AXES = Mistake(
    "C15",
    "Your output does not have the shape of the input: its axes are in another order.",
    "What is y.shape, and what is x.shape?",
    {"y": lambda s: (s.scale * s.x_hat + s.shift).T},
    {"y": lambda s: np.moveaxis(s.scale * s.x_hat + s.shift, 1, -1)},
    {"y": lambda s: np.moveaxis(s.scale * s.x_hat + s.shift, 1, 0)},
)

IMAGE_AFFINE_MISTAKES = (
    MOVED_AXES,
    Mistake(
        "C06",
        "γ or β of shape (C,) lines up with the last axis of x, the columns, instead of the channels.",
        "With which axis of (N, C, H, W) does NumPy align an array of shape (C,)?",
        {"param_shape": lambda s: (-1,)},
        {"param_shape": lambda s: (-1, 1)},
        {"param_shape": lambda s: (-1, 1, 1, 1)},
        {"scale": lambda s: s.params[0]},
        {"shift": lambda s: s.params[1]},
    ),
)

# γ and β applied to the rows, before they are brought back into shape
IN_ROWS = {
    "data": _flat,
    "axes": lambda s: (1,),
    "param_shape": lambda s: (-1, 1),
    "x_hat": lambda s: s.standardized,
}
IN_COLUMNS = {
    "data": lambda s: s.x.reshape(-1, s.x.shape[1]),
    "axes": lambda s: (0,),
    "param_shape": lambda s: (-1,),
    "x_hat": lambda s: s.standardized,
}


def _back_in_shape(s: BatchNorm) -> np.ndarray:
    return (s.scale * s.x_hat + s.shift).reshape(s.x.shape)


def with_forms(mistakes: tuple[Mistake, ...], id: str, *forms: Form) -> tuple[Mistake, ...]:
    """The same mistakes, one of them with more forms."""
    return tuple(Mistake(m.id, m.says, m.asks, *m.forms, *forms) if m.id == id else m for m in mistakes)


FORWARD_IMAGE_MISTAKES = with_forms(
    with_forms(IMAGE_MISTAKES, "C07", {**IN_ROWS, "y": _back_in_shape}, {**IN_COLUMNS, "y": _back_in_shape}),
    "C20",
    {"y": lambda s: np.moveaxis(s.scale * s.x_hat + s.shift, 1, -1).reshape(s.x.shape)},
    {"y": lambda s: np.moveaxis(s.scale * s.x_hat + s.shift, 1, 0).reshape(s.x.shape)},
)

STABLE_VARIANCE_MISTAKES = (
    Mistake(
        "F35",
        "You returned the standard deviation, not the variance.",
        "If x is in metres, what is the unit of your result?",
        {"result": lambda s: np.sqrt(s.var).reshape(-1)},
    ),
)


# Probes


def random_inputs(
    rng: np.random.Generator, shape: tuple[int, ...], *, eps: float, mean: float | None = None, dtype: type = np.float64
) -> dict[str, object]:
    """Channels of different mean and spread, with random γ and β that are not close to 0 or 1.

    With ``mean`` given, all channels have that mean and the standard deviation 1.
    """
    channels = shape[1]
    across = (channels, *[1] * (len(shape) - 2))
    x = rng.normal(size=shape)
    if mean is None:
        x = rng.uniform(2, 6, across) * rng.choice([-1, 1], across) + rng.uniform(1, 4, across) * x
    else:
        x = mean + x
    signs = np.where(np.arange(channels) % 2, 1, -1)
    weight, bias = -signs * rng.uniform(1.3, 3, channels), signs * rng.uniform(1.3, 3, channels)
    return {"x": x.astype(dtype), "weight": weight.astype(dtype), "bias": bias.astype(dtype), "eps": eps}


def with_constant_channel(inputs: Inputs) -> dict[str, object]:
    """The same with one channel that never varies and one that varies little."""
    x = inputs["x"].copy()
    x[:, 0] = 0.25
    x[:, 1] = 3e-2 * (x[:, 1] - x[:, 1].mean())
    return {**inputs, "x": x}


def constant_probe(inputs: Inputs) -> Probe:
    """The probe for ε = 0; in float32 the mean of equal values may be off by a digit, which √ε magnifies."""
    reason = "one channel that never varies, and one that hardly does."
    return Probe("constant", reason, with_constant_channel({**inputs, "eps": 1e-2}), floor=1e-4)


def with_small_variance(inputs: Inputs) -> dict[str, object]:
    """The same with values around 0 whose variance is smaller than ε, along every axis."""
    x = inputs["x"]
    return {**inputs, "x": 0.1 * (x - x.mean(channel_axes(x), keepdims=True)), "eps": 1.0}


def _without_affine(probes: tuple[Probe, ...]) -> tuple[Probe, ...]:
    """The same probes without γ and β."""
    return tuple(replace(probe, inputs=_only_x(probe.inputs)) for probe in probes)


def _only_x(inputs: Inputs) -> Inputs:
    return {"x": inputs["x"], "eps": inputs["eps"]}


def _forward_probes(
    seed: int, plain: tuple[int, ...], square: tuple[int, ...], two: tuple[int, ...]
) -> tuple[Probe, ...]:
    """The probes of a forward pass; ``square`` has as many channels as its last axis is long."""
    rng = np.random.default_rng(seed)
    base = random_inputs(rng, plain, eps=1e-5)
    square_inputs = random_inputs(rng, square, eps=1e-2)
    far = random_inputs(rng, plain, eps=1e-5, mean=1e4, dtype=np.float32)
    return (
        Probe("plain", "channels of different mean and spread.", base),
        Probe("epsilon", "ε = 0.5, so large that its place matters.", {**base, "eps": 0.5}),
        Probe(
            "square", "as many channels as the last axis is long, so that shapes fit which should not.", square_inputs
        ),
        Probe("two", "the smallest batch.", random_inputs(rng, two, eps=1e-5)),
        constant_probe(base),
        Probe("narrow", "values whose variance is smaller than ε.", with_small_variance(square_inputs)),
        Probe("shifted", "the first input, with 5 added to every x.", {**base, "x": np.asfortranarray(base["x"] + 5)}),
        Probe("offset", "float32 values with mean 10,000 and standard deviation 1.", far, **ROUGH),
    )


def _one_image(seed: int) -> Probe:
    inputs = random_inputs(np.random.default_rng(seed), (1, 3, 3, 4), eps=1e-5)
    return Probe("one image", "a batch of a single image.", inputs)


def _of_other_ranks(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    return (
        Probe("table", "a table (N, C).", random_inputs(rng, (6, 3), eps=1e-5)),
        Probe("series", "series (N, C, L).", random_inputs(rng, (3, 4, 5), eps=1e-5)),
        Probe("volumes", "volumes (N, C, D, H, W).", random_inputs(rng, (2, 3, 2, 3, 2), eps=1e-5)),
    )


def _fresh_table(rng: np.random.Generator) -> Inputs:
    shape = (int(rng.integers(4, 12)), int(rng.integers(2, 7)))
    return random_inputs(rng, shape, eps=float(10 ** rng.uniform(-5, -1)))


def _fresh_images(rng: np.random.Generator) -> Inputs:
    shape = tuple(int(n) for n in rng.integers(2, 6, 4))
    return random_inputs(rng, shape, eps=float(10 ** rng.uniform(-5, -1)))


# Properties


def channel_axes(x: np.ndarray) -> tuple[int, ...]:
    """The axes over which the values of one channel lie."""
    return (0, *range(2, x.ndim))


def close(a: np.ndarray, b: np.ndarray | float, tolerance: float = 1e-3) -> bool:
    """Equal shapes up to broadcasting, and values equal up to ``tolerance`` of their size or of 1."""
    return bool(((np.abs(a - b) <= tolerance * np.maximum(1, np.abs(b))) | (np.isnan(a) & np.isnan(b))).all())


def _mean_is(name: str, target: str | None, says: str) -> Property:
    def holds(outputs: dict[str, Outputs], inputs: dict[str, Inputs]) -> bool:
        values = outputs["plain"][name]
        expected = inputs["plain"][target] if target else 0.0
        return values.shape == inputs["plain"]["x"].shape and close(values.mean(channel_axes(values)), expected)

    return Property(says, holds)


def _spread_is(name: str, target: str | None, says: str) -> Property:
    def holds(outputs: dict[str, Outputs], inputs: dict[str, Inputs]) -> bool:
        values = outputs["plain"][name]
        expected = np.abs(inputs["plain"][target]) if target else 1.0
        return close(values.std(channel_axes(values)), expected)

    return Property(says, holds)


def _properties(name: str, weight: str | None, bias: str | None, mean: str, spread: str) -> tuple[Property, ...]:
    """What the output ``name`` of a normalization does; ``mean`` and ``spread`` say what its statistics are."""
    return (
        _mean_is(name, bias, f"every channel of {name} has the mean {mean}."),
        _spread_is(name, weight, f"every channel of {name} has the standard deviation {spread}, as ε is small."),
        Property(f"adding 5 to x changes nothing in {name}.", lambda o, i: close(o["shifted"][name], o["plain"][name])),
        Property(
            "a channel that never varies gives finite values.", lambda o, i: np.isfinite(o["constant"][name]).all()
        ),
        Property(
            f"a larger ε makes the spread of {name} smaller.",
            lambda o, i: (np.std(o["epsilon"][name], axis=0) < np.std(o["plain"][name], axis=0)).all(),
        ),
        Property(
            f"with a mean of 10,000 in float32 {name} still has the standard deviation {spread}.",
            lambda o, i: close(
                o["offset"][name].std(channel_axes(i["offset"]["x"])),
                np.abs(i["offset"][weight]) if weight else 1.0,
                0.05,
            ),
        ),
    )


# Exercises

NORMALIZE = Exercise(
    id="normalize_channels",
    chapter="02_forward",
    signature="(x, eps) -> x_hat, x of shape (N, C, *)",
    operation=Normalization,
    probes=_without_affine(
        (*_forward_probes(20, (2, 3, 4, 5), (3, 3, 3, 3), (2, 3, 1, 1)), _one_image(24), *_of_other_ranks(21))
    ),
    fresh=lambda rng: _only_x(_fresh_images(rng)),
    mistakes=(*STATISTICS_MISTAKES, *IMAGE_MISTAKES),
    properties=_properties("x_hat", None, None, "0", "1"),
    hints=(
        "A channel keeps its own mean. Which axes of x do not tell channels apart?",
        "Axis 1 stays, every other axis goes into the mean. How do you make their tuple from x.ndim?",
        "With keepdims=True a mean over several axes keeps a shape that lines up with x.",
    ),
    changing={"x": "F24"},
)

FORWARD = Exercise(
    id="batch_norm_forward",
    chapter="02_forward",
    signature="(x, weight, bias, eps) -> y, x of shape (N, C)",
    operation=BatchNorm,
    probes=_forward_probes(22, (5, 3), (4, 4), (2, 3)),
    fresh=_fresh_table,
    mistakes=(*STATISTICS_MISTAKES, *AFFINE_MISTAKES, TRANSPOSED),
    properties=_properties("y", "weight", "bias", "β", "|γ|"),
    hints=(
        "Four lines, one for each equation of the chapter: the mean, the variance, x̂, y.",
        "Each column has a mean and a variance of its own. Over which axis do you average, so that C numbers remain?",
        "The variance is the mean of the squared distances from the mean. ε is added to it, and then comes the root.",
    ),
    changing={"x": "F24"},
)

FORWARD_IMAGES = Exercise(
    id="batch_norm_forward_images",
    chapter="02_forward",
    signature="(x, weight, bias, eps) -> y, x of shape (N, C, H, W)",
    operation=BatchNorm,
    probes=(*_forward_probes(23, (2, 3, 4, 5), (3, 3, 3, 3), (2, 3, 1, 1)), _one_image(24)),
    fresh=_fresh_images,
    mistakes=(*STATISTICS_MISTAKES, *FORWARD_IMAGE_MISTAKES, *AFFINE_MISTAKES, *IMAGE_AFFINE_MISTAKES),
    properties=_properties("y", "weight", "bias", "β", "|γ|"),
    hints=(
        "The equations are those for tables. Only the sums are longer: they run over N, H and W.",
        "mean takes a tuple of axes. Which three?",
        "γ and β have the shape (C,), and NumPy aligns shapes from the right. Which shape lines up with axis 1 of four?",
    ),
    changing={"x": "F24"},
)


def _variance_probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)

    def batch(shape: tuple[int, ...], mean: float | list[float], std: float) -> Inputs:
        return {"x": rng.normal(mean, std, shape).astype(np.float32)}

    return (
        Probe("plain", "a mean of 3 and a standard deviation of 2.", batch((6, 4), 3.0, 2.0)),
        Probe("two", "a batch of two.", {"x": np.array([[1, 5], [3, -5]], np.float32)}),
        Probe("constant", "a feature that never varies.", {"x": np.full((5, 3), 7, np.float32)}),
        Probe("offset", "a mean of 10,000 and a standard deviation of 1.", batch((50, 4), 1e4, 1.0), **ROUGH),
        Probe("mixed", "means of 10,000, −10,000, 100 and 0.", batch((40, 4), [1e4, -1e4, 100, 0], 1.0), **ROUGH),
    )


VARIANCE = Exercise(
    id="stable_variance",
    chapter="02_forward",
    signature="(x) -> var of shape (C,), x of shape (N, C) in float32",
    operation=Variance,
    probes=_variance_probes(25),
    fresh=lambda rng: {"x": rng.normal(3, 2, (int(rng.integers(4, 30)), int(rng.integers(2, 6)))).astype(np.float32)},
    mistakes=(
        *with_forms(
            chosen(STATISTICS_MISTAKES, "F01", "F06", "F19", "F30", "F37", "C05", "C17"),
            "C17",
            {"result": lambda s: s.x.var()},
            {"spread": lambda s: s.x - s.x.mean()},
        ),
        *STABLE_VARIANCE_MISTAKES,
    ),
    properties=(
        Property("no variance is negative.", lambda o, i: all((o[name]["result"] >= 0).all() for name in o)),
        Property("a feature that never varies has the variance 0.", lambda o, i: close(o["constant"]["result"], 0.0)),
        Property("the variance of 1 and 3 is 1.", lambda o, i: close(o["two"]["result"][0], 1.0)),
        Property(
            "a mean of 10,000 leaves a variance of about 1.",
            lambda o, i: close(o["offset"]["result"], i["offset"]["x"].astype(float).var(0), 0.05),
        ),
    ),
    hints=(
        "Which of your intermediate numbers is the largest? float32 keeps about seven digits of it.",
        "Do not square the values: square their distances from the mean, which are small.",
        "Two passes over the data: the first for the mean, the second for the squared distances.",
    ),
    changing={"x": "F24"},
)

EXERCISES = (FORWARD, NORMALIZE, FORWARD_IMAGES, VARIANCE)
