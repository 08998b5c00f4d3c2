"""Chapter 12, choosing a norm: its exercises, and the mistakes made in them."""

import re
from collections.abc import Callable

import numpy as np

from .chapter_02 import (
    AFFINE_MISTAKES,
    ROUGH,
    STATISTICS_MISTAKES,
    BatchNorm,
    asked,
    chosen,
    close,
    own,
)
from .exercise import Exercise, Form, Inputs, Mistake, Operation, Outputs, Probe, Property, step
from .observe import Unusable, a

# Batch norm of padded sequences


class MaskedBatchNorm(BatchNorm):
    """Batch norm of (N, L, C) over the positions that are no padding; 0 at the padding."""

    @step
    def valid(s):
        """Where there are data, (N, L, 1)."""
        return s.mask[:, :, None] > 0

    @step
    def only(s):
        """What leaves values as they are at some positions and puts 0 in the place of all others."""
        return lambda values, positions: np.where(positions, values, 0.0)

    @step
    def axes(s):
        return (0, 1)

    @step
    def in_mean(s):
        """Which positions the mean adds up."""
        return s.valid

    @step
    def in_var(s):
        """Which positions the variance adds up."""
        return s.valid

    @step
    def mean_divisor(s):
        return _count(s, s.in_mean)

    @step
    def divisor(s):
        return _count(s, s.in_var)

    @step
    def mean(s):
        return _sum(s, s.data, s.in_mean) / s.mean_divisor

    @step
    def var(s):
        return _sum(s, s.spread**2, s.in_var) / s.divisor

    @step
    def param_shape(s):
        return (-1,)

    @step
    def affine(s):
        return s.scale * s.x_hat + s.shift

    @step
    def y(s):
        return s.only(s.affine, s.valid)


def _count(s: MaskedBatchNorm, positions: np.ndarray) -> np.ndarray:
    """How many values at these positions share a statistic."""
    return np.broadcast_to(positions, s.x.shape).sum(s.axes, keepdims=True)


def _sum(s: MaskedBatchNorm, values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    return s.only(values, positions).sum(s.axes, keepdims=True)


# Mistakes with padding


def _everywhere(s: MaskedBatchNorm) -> np.ndarray:
    return np.ones_like(s.valid)


def _all_values(s: MaskedBatchNorm) -> np.ndarray:
    """How many values share a statistic if padding counts."""
    return _count(s, np.ones_like(s.mask[:, :, None]))


def _values_of_all_channels(s: MaskedBatchNorm) -> int:
    """How many values there are at the data."""
    return int(s.valid.sum()) * s.x.shape[2]


def _with_zeros(s: MaskedBatchNorm) -> np.ndarray:
    """x with 0 at the padding."""
    return s.only(s.x, s.valid)


def _from_the_front(s: MaskedBatchNorm) -> np.ndarray:
    """Where there would be data if all padding stood at the end."""
    return (np.arange(s.x.shape[1]) < (s.mask > 0).sum(1, keepdims=True))[:, :, None]


def _each_sequence(s: MaskedBatchNorm, values: np.ndarray) -> np.ndarray:
    """The means of the sequences, (N, 1, C); NaN for a sequence without data."""
    return s.only(values, s.valid).sum(1, keepdims=True) / s.valid.sum(1, keepdims=True)


def _by_sequence(empty: float | None) -> tuple[Form, ...]:
    """Each sequence averaged first; ``empty`` is the mean of one without data, and None leaves it out."""

    def mean_of_means(s: MaskedBatchNorm, values: np.ndarray) -> np.ndarray:
        means, there = _each_sequence(s, values), s.valid.any(1, keepdims=True)
        counted = means[there[:, 0, 0]] if empty is None else np.where(there, means, empty)
        return counted.sum(0, keepdims=True) / len(counted)

    mean = {"mean": lambda s: mean_of_means(s, s.data)}
    var = {"var": lambda s: mean_of_means(s, s.spread**2)}
    return (
        mean | var,
        mean,
        var,
        mean | {"var": lambda s: mean_of_means(s, (s.data - _each_sequence(s, s.data)) ** 2)},
        mean | {"spread": _around_data},
    )


def _around_data(s: MaskedBatchNorm) -> np.ndarray:
    """The distances from the mean of the data."""
    return s.data - _sum(s, s.data, s.valid) / _count(s, s.valid)


def _no_nan(s: MaskedBatchNorm) -> np.ndarray:
    return ~np.isnan(s.x)


def _multiplying(s: MaskedBatchNorm) -> Callable:
    """Padding removed by a product with the mask, as numbers."""
    return lambda values, positions: values * positions


def _one_pass(s: MaskedBatchNorm) -> np.ndarray:
    """E[x²] − E[x]² in the dtype of the input."""
    x = s.data.astype(s.inputs["x"].dtype)
    first, second = (_sum(s, power, s.in_var) / s.divisor for power in (x, x**2))
    return second - first**2


PADDING_MISTAKES = (
    Mistake(
        "C13",
        "The padding is in your mean and in your variance, with whatever it holds. Padding is no data.",
        "If every sequence gets ten more positions of padding, which of your numbers change?",
        {"in_mean": _everywhere, "in_var": _everywhere},
    ),
    Mistake(
        "P01",
        "The padding is in your mean; the variance counts the data alone.",
        "Which positions does your mean add up?",
        {"in_mean": _everywhere},
        {"in_mean": _everywhere, "spread": _around_data},
    ),
    Mistake(
        "P02",
        "The padding is in your variance; the mean counts the data alone.",
        "Which positions does your variance add up?",
        {"in_var": _everywhere},
        {"var": lambda s: s.data.var(s.axes, keepdims=True)},
    ),
    Mistake(
        "P03",
        "You added up the data alone, but divided by the number of all positions, padding included.",
        "Two sequences hold 1 and 3, and three more positions are padding. What is the mean of the data?",
        {"mean_divisor": _all_values, "divisor": _all_values},
        {"divisor": _all_values},
        {"mean_divisor": _all_values},
    ),
    Mistake(
        "P04",
        "You set the padding to 0 and then took these zeros for data: a mean or a variance adds them up, or counts them.",
        "The data are 5 and 5, beside two zeros of padding. What is the variance of the data, and what is yours?",
        {"data": _with_zeros, "in_mean": _everywhere, "in_var": _everywhere},
        {"data": _with_zeros, "in_var": _everywhere, "divisor": lambda s: _count(s, s.valid)},  # sums μ² at the padding
        {"data": _with_zeros, "in_var": _everywhere},
        {"var": lambda s: _with_zeros(s).var(s.axes, keepdims=True)},
    ),
    Mistake(
        "P05",
        "The padding of y is not 0. It was normalized like the data, or β was added there, or it came back as it was.",
        "What should y hold where mask is False?",
        {"y": lambda s: s.affine},
        {"y": lambda s: np.where(s.valid, s.affine, s.shift)},
        {"y": lambda s: np.where(s.valid, s.affine, s.x)},
        {"y": lambda s: np.where(s.valid, s.affine, s.shift - s.scale * s.mean / s.std)},  # a zero, normalized
        {"y": lambda s: np.where(s.valid, s.affine, np.nan)},
    ),
    Mistake(
        "P07",
        "The mask is inverted: it is True where there are data.",
        "What is mask.sum() if nothing is padding?",
        {"valid": lambda s: s.mask[:, :, None] == 0},
        {"in_mean": lambda s: ~s.valid, "in_var": lambda s: ~s.valid},
        {"y": lambda s: s.only(s.affine, ~s.valid)},
    ),
    Mistake(
        "P08",
        "Your variance measures the distance from a mean that includes the padding. You subtract another mean from x.",
        "How many means does your function compute, and which one does the variance use?",
        {"spread": lambda s: s.x - s.x.mean((0, 1), keepdims=True)},
        {"spread": lambda s: s.x - _with_zeros(s).mean((0, 1), keepdims=True)},
    ),
    Mistake(
        "P09",
        "You relied on padding at the end of the sequences. It may stand anywhere, and the mask says where.",
        "Which positions does your code use for the mask False, True, True?",
        {"valid": _from_the_front},
        {"in_mean": _from_the_front, "in_var": _from_the_front},
    ),
    Mistake(
        "P10",
        "You averaged each sequence first and then the sequences. So a position counts more in a short sequence than "
        "in a long one.",
        "One sequence is 0, the other 3, 3, 3. What is the mean of the four numbers?",
        *_by_sequence(None),
        *_by_sequence(np.nan),
        *_by_sequence(0.0),
    ),
    Mistake(
        "P11",
        "Your output holds the data alone. It should have the shape of x.",
        "Which shape has your y, and where in it is the padding?",
        {"y": lambda s: s.affine[np.broadcast_to(s.valid, s.x.shape)[:, :, 0]]},
    ),
    Mistake(
        "P12",
        "The mask has the shape (N, L), and NumPy lines it up with the last two axes of x, which are L and C.",
        "Which shape lines up with (N, L, C) so that one entry stands for all channels of a position?",
        {"valid": lambda s: s.mask > 0},
        {"only": lambda s: lambda values, positions: np.where(positions[:, :, 0], values, 0.0)},
        {"y": lambda s: s.only(s.affine, s.mask > 0)},
    ),
    Mistake(
        "P13",
        "You left out what is NaN, and took all other padding for data. The mask says where the padding is.",
        "If a padding of NaN is replaced by one of zeros, do your mean and your variance stay?",
        {"in_mean": _no_nan, "in_var": _no_nan},
        {"in_mean": _no_nan},
        {"in_var": _no_nan},
    ),
)

BY_PRODUCT = Mistake(
    "P06",
    "You multiplied by the mask to get rid of the padding. That does not remove every number that may stand there.",
    "What is 0 · NaN?",
    {"only": _multiplying},
    {"mean": lambda s: (s.data * s.in_mean).sum(s.axes, keepdims=True) / s.mean_divisor},
    {"var": lambda s: (s.spread**2 * s.in_var).sum(s.axes, keepdims=True) / s.divisor},
    {"y": lambda s: s.affine * s.valid},
    {
        "mean": lambda s: (s.data * s.in_mean).sum(s.axes, keepdims=True) / s.mean_divisor,
        "var": lambda s: (s.spread**2 * s.in_var).sum(s.axes, keepdims=True) / s.divisor,
    },
)

SEQUENCE_MISTAKES = (
    Mistake(
        "C10",
        "Every time step has statistics of its own. In batch norm all positions of a channel share them.",
        "How many means does an input with 3 channels have?",
        {"axes": lambda s: (0,)},
        {"axes": lambda s: (0, 2)},
    ),
    Mistake(
        "C02",
        "You normalized each sequence alone: that is instance norm.",
        "How many means does an input with 3 channels have?",
        {"axes": lambda s: (1,)},
    ),
    Mistake(
        "C05",
        "You normalized over the features: that is layer norm.",
        "Change one sequence of the batch: which outputs move in batch norm, and which in yours?",
        {"axes": lambda s: (2,)},
        {"axes": lambda s: (1, 2)},
    ),
    Mistake(
        "C06",
        "γ or β of shape (C,) lines up with the positions instead of the channels.",
        "With which axis of (N, L, C) does NumPy align an array of shape (C,), and with which one of shape (C, 1)?",
        {"param_shape": lambda s: (-1, 1)},
        {"param_shape": lambda s: (-1, 1, 1)},
    ),
    *chosen(STATISTICS_MISTAKES, "C17"),
    Mistake(
        "C09",
        "You divided by another number than that of the values that you added up: by the number of sequences, or by "
        "that of the values of all channels.",
        "How many numbers does the mean of one channel add up?",
        {"mean_divisor": lambda s: len(s.x), "divisor": lambda s: len(s.x)},
        {"mean_divisor": _values_of_all_channels, "divisor": _values_of_all_channels},
        {"divisor": lambda s: len(s.x)},
        {"divisor": _values_of_all_channels},
    ),
)

MASKED_MISTAKES = (
    *PADDING_MISTAKES,
    *SEQUENCE_MISTAKES,
    own(
        STATISTICS_MISTAKES,
        "F01",
        {"divisor": lambda s: MaskedBatchNorm.divisor.compute(s) - 1},
        asks="What should the mean of the squares of x̂ be, over the data?",
    ),
    *chosen(STATISTICS_MISTAKES, "F02", "F03", "F04", "F06", "F07", "F08", "F14", "F15", "F29"),
    *chosen(STATISTICS_MISTAKES, "F36", "F37", "F38", "F39", "F40"),
    own(STATISTICS_MISTAKES, "F19", {"var": _one_pass}),
    own(STATISTICS_MISTAKES, "F30", {"var": lambda s: (_sum(s, np.abs(s.spread), s.in_var) / s.divisor) ** 2}),
    *asked(
        chosen(AFFINE_MISTAKES, "F09", "F11", "F12", "F32"),
        {
            "F09": "What should the mean of y be, over the data?",
            "F11": "What should the mean of y be, over the data?",
            "F12": "What should the standard deviation of y be, over the data?",
            "F32": "What should the mean of y be, over the data?",
        },
    ),
    own(AFFINE_MISTAKES, "F34", {"affine": lambda s: s.scale * (s.x_hat + s.shift)}),
    BY_PRODUCT,  # last, as it is made beside others, and they come first
)

# Probes with padding

LENGTHS = ((1, 1, 1, 1, 1), (1, 1, 1, 0, 0), (1, 0, 0, 0, 0), (1, 1, 1, 1, 0))  # a row for each sequence
ANYWHERE = ((0, 0, 1, 1, 1), (1, 0, 1, 0, 1), (0, 0, 0, 0, 0), (0, 1, 1, 1, 1))


def _masked_inputs(
    rng: np.random.Generator, mask: object, channels: int, *, eps: float, mean: float | None = None, dtype: type = float
) -> dict[str, object]:
    """Channels of different mean and spread, with random γ and β; the padding holds other numbers.

    With ``mean`` given, all channels have that mean and the standard deviation 1.
    """
    mask = np.array(mask, bool)
    x = rng.normal(size=(*mask.shape, channels))
    if mean is None:
        x = rng.uniform(2, 6, channels) * rng.choice([-1, 1], channels) + rng.uniform(1, 4, channels) * x
    else:
        x = mean + x
    signs = np.where(np.arange(channels) % 2, 1, -1)
    weight, bias = -signs * rng.uniform(1.3, 3, channels), signs * rng.uniform(1.3, 3, channels)
    x[~mask] = rng.normal(8, 3, ((~mask).sum(), channels))
    arrays = {"x": x, "mask": mask, "weight": weight, "bias": bias}
    floats = {name: value.astype(dtype) for name, value in arrays.items() if name != "mask"}
    return {**arrays, **floats, "eps": eps}


def _with_padding(inputs: Inputs, value: object) -> dict[str, object]:
    """The same data beside another padding."""
    x = inputs["x"].copy()
    x[~inputs["mask"]] = value
    return {**inputs, "x": x}


def _data(x: np.ndarray, inputs: Inputs) -> np.ndarray:
    """The positions that are no padding, as a table (M, C)."""
    return x[inputs["mask"]]


def _still(inputs: Inputs) -> dict[str, object]:
    """The same with one channel that never varies and one that varies little, but for the padding."""
    x, mask = inputs["x"].copy(), inputs["mask"]
    x[mask, 0] = 0.25
    x[mask, 1] = 3e-2 * (x[mask, 1] - x[mask, 1].mean())
    return {**inputs, "x": x, "eps": 1e-2}


def _narrow(inputs: Inputs) -> dict[str, object]:
    """The same with data around 0 whose variance is smaller than ε."""
    x = 0.1 * (inputs["x"] - _data(inputs["x"], inputs).mean(0))
    return {**inputs, "x": x, "eps": 1.0}


def _masked_probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    plain = _masked_inputs(rng, LENGTHS, 3, eps=1e-5)
    huge = 1e6 * rng.choice([-1, 1], (sum(row.count(0) for row in LENGTHS), 3))
    square = _masked_inputs(rng, np.tri(4)[[2, 0, 3, 1]], 4, eps=1e-2)
    shifted = {**plain, "x": np.asfortranarray(plain["x"] + 5)}
    far = _masked_inputs(rng, LENGTHS, 3, eps=1e-5, mean=1e4, dtype=np.float32)
    zeros = "the same data, and zeros in the padding."
    return (
        Probe("plain", "sequences of different lengths; the padding holds ordinary numbers.", plain),
        Probe("zeros", zeros, _with_padding(plain, 0.0)),
        Probe("huge", "the same data, and numbers of a million in the padding.", _with_padding(plain, huge)),
        Probe("nan", "the same data, and NaN in the padding.", _with_padding(plain, np.nan)),
        Probe("epsilon", "ε = 0.5, so large that its place matters.", {**plain, "eps": 0.5}),
        Probe(
            "anywhere",
            "padding in front and in between, and a sequence that is all padding.",
            _masked_inputs(rng, ANYWHERE, 3, eps=1e-3),
        ),
        Probe("full", "sequences without any padding.", _masked_inputs(rng, np.ones((4, 5)), 3, eps=1e-5)),
        Probe("square", "as many sequences as positions and channels, so that shapes fit which should not.", square),
        Probe("two", "two sequences with one position of data each.", _masked_inputs(rng, [[1, 0]] * 2, 3, eps=1e-5)),
        Probe("constant", "one channel that never varies, and one that hardly does.", _still(plain), floor=1e-4),
        Probe("narrow", "data whose variance is smaller than ε.", _narrow(square)),
        Probe("shifted", "the first input, with 5 added to every x.", shifted),
        Probe("offset", "float32 values with mean 10,000 and standard deviation 1.", _with_padding(far, 0.0), **ROUGH),
    )


def _fresh_masked(rng: np.random.Generator) -> Inputs:
    length = int(rng.integers(3, 8))
    mask = rng.random((int(rng.integers(3, 7)), length)) < rng.uniform(0.4, 0.8)
    mask[0, : max(2, length // 2)] = True
    return _masked_inputs(rng, mask, int(rng.integers(2, 6)), eps=float(10 ** rng.uniform(-5, -1)))


# Properties with padding


def _zero_at_padding(o: dict[str, Outputs], i: dict[str, Inputs]) -> bool:
    return all((o[name]["y"][~i[name]["mask"]] == 0).all() for name in i if name in o)


def _of_the_data(statistic: Callable, parameter: Callable) -> Callable:
    """Whether a statistic of y over the data is a parameter, where ε is small."""
    return lambda o, i: close(statistic(_data(o["plain"]["y"], i["plain"]), axis=0), parameter(i["plain"]))


def _deaf_to_padding(o: dict[str, Outputs], i: dict[str, Inputs]) -> bool:
    plain = _data(o["plain"]["y"], i["plain"])
    return all(close(_data(o[name]["y"], i[name]), plain) for name in ("zeros", "huge", "nan"))


MASKED = Exercise(
    id="masked_batch_norm",
    chapter="12_which_norm",
    signature="(x, mask, weight, bias, eps) -> y, x of shape (N, L, C), mask of shape (N, L)",
    operation=MaskedBatchNorm,
    probes=_masked_probes(120),
    fresh=_fresh_masked,
    mistakes=MASKED_MISTAKES,
    properties=(
        Property(
            "y has the shape of x.",
            lambda o, i: all(o[name]["y"].shape == i[name]["x"].shape for name in i if name in o),
        ),
        Property("y is 0 at the padding, even where that holds NaN.", _zero_at_padding),
        Property(
            "over the data every channel of y has the mean β.", _of_the_data(np.mean, lambda inputs: inputs["bias"])
        ),
        Property(
            "over the data every channel of y has the standard deviation |γ|, as ε is small.",
            _of_the_data(np.std, lambda inputs: np.abs(inputs["weight"])),
        ),
        Property("what stands in the padding changes nothing at the data.", _deaf_to_padding),
        Property("adding 5 to x changes nothing in y.", lambda o, i: close(o["shifted"]["y"], o["plain"]["y"])),
        Property(
            "a channel that never varies gives finite values.", lambda o, i: np.isfinite(o["constant"]["y"]).all()
        ),
    ),
    hints=(
        "Which numbers share a mean? All positions of all sequences, channel by channel, if they are data.",
        "x[mask] holds the data alone, one row for each position. Which chapter normalizes such a table?",
        "Make y of zeros in the shape of x, and write into it where mask is True.",
    ),
    changing={"x": "F24"},
    channels=2,
)


# A norm for a situation

NORMS = ("batch norm", "frozen batch norm", "layer norm", "instance norm", "group norm", "RMS norm")

ACCEPTED = {  # every name that can be defended; the first stands for all
    "phone": ("batch norm",),
    "sensors": ("group norm",),
    "text": ("layer norm", "RMS norm"),
    "style": ("instance norm",),
    "privacy": ("group norm", "layer norm", "RMS norm"),
    "finetuning": ("frozen batch norm",),
}

SHORT = {"bn": "batchnorm", "frozenbn": "frozenbatchnorm", "ln": "layernorm", "in": "instancenorm", "gn": "groupnorm"}


def _code(norm: str) -> float:
    """The place of a name in NORMS, as a number that a check can compare."""
    return float(NORMS.index(norm))


def _best(situation: str) -> step:
    """A step: what is chosen in a situation."""
    return step(lambda s: _code(ACCEPTED[situation][0]))


class Choosing(Operation):
    """The norm for a situation, as its place in NORMS. Each situation is a step, so that each can go wrong alone."""

    outputs = ("choice",)
    phone, sensors, text, style, privacy, finetuning = map(_best, ACCEPTED)

    @step
    def choice(s):
        return getattr(s, s.situation)


def _wrong(situation: str, norm: str, why: str, asks: str) -> Mistake:
    """The mistake of choosing this norm there. Its id holds both, counted from 1."""
    id = f"W{list(ACCEPTED).index(situation) + 1}{NORMS.index(norm) + 1}"
    return Mistake(id, f"{situation}, with {norm}: {why}", asks, {situation: lambda s: _code(norm)})


CHOICE_MISTAKES = (
    _wrong(
        "phone",
        "frozen batch norm",
        "This network starts with random weights. Statistics frozen at the start say nothing about the trained "
        "network, so training goes on as if there were no norm.",
        "Where do the numbers come from that you freeze?",
    ),
    _wrong(
        "phone",
        "layer norm",
        "Its mean and variance, over all channels, are known only when the image is there: more work on every map, "
        "on the phone.",
        "Which of its numbers are known before the image arrives?",
    ),
    _wrong(
        "phone",
        "instance norm",
        "Every channel of every image gets its own mean and variance, and the phone has to compute them each time.",
        "Could a convolution with fixed weights do the same for all images?",
    ),
    _wrong(
        "phone",
        "group norm",
        "It does well with few images at a time, but here there are 256. And this has a price: the phone computes a "
        "mean and a variance for each group of every image.",
        "What is left to compute for it after training?",
    ),
    _wrong(
        "phone",
        "RMS norm",
        "It leaves out the mean and is the cheaper for it. But the mean of the squares has still to be computed, for "
        "every image anew.",
        "How many operations are left of it on the phone, and how many are allowed?",
    ),
    _wrong(
        "sensors",
        "batch norm",
        "Its statistics come from two scenes, and at the deepest maps from two numbers: they are mostly noise. And in "
        "training, if one scene is dark, the outputs of the other change.",
        "From how many values does it take a mean at the deepest maps?",
    ),
    _wrong(
        "sensors",
        "frozen batch norm",
        "It is trained from scratch, so there are no good statistics to freeze.",
        "When would you have measured the statistics?",
    ),
    _wrong(
        "sensors",
        "layer norm",
        "All channels of a scene share one mean and one variance. When the camera fades, these change, and with "
        "them the outputs of radar and lidar.",
        "Which channels move if those of the camera are divided by ten?",
    ),
    _wrong(
        "sensors",
        "instance norm",
        "Every channel stands alone: how large it is beside the others of its sensor is lost. And a map with one "
        "position comes out as β, whatever went in. (PyTorch refuses such a map.)",
        "What is left of a single number when its mean is subtracted?",
    ),
    _wrong(
        "sensors",
        "RMS norm",
        "All channels of a scene are divided by the same number. When the camera fades, this becomes smaller, and "
        "radar and lidar come out larger.",
        "Which channels move if those of the camera are divided by ten?",
    ),
    _wrong(
        "text",
        "batch norm",
        "In training it averages over all positions of all texts. So an output knows something of later tokens, "
        "which it should predict, and of other texts, which are not there when the model writes.",
        "Which tokens may the output at position 5 depend on?",
    ),
    _wrong(
        "text",
        "frozen batch norm",
        "The model starts with random weights. Statistics frozen then do not follow as the activations grow, and "
        "nothing is normalized.",
        "Where do the numbers come from that you freeze?",
    ),
    _wrong(
        "text",
        "instance norm",
        "It averages over the positions of a text, the later ones included: an output knows something of the tokens "
        "that it should predict.",
        "Change the last token of a text: which outputs move?",
    ),
    _wrong(
        "text",
        "group norm",
        "As PyTorch's layer has it, a group reaches over all positions of a text, also the later ones. So an output "
        "knows something of the tokens that it should predict.",
        "Change the last token of a text: which outputs move?",
    ),
    _wrong(
        "style",
        "batch norm",
        "It removes the mean and the contrast of the batch. A photo that is duller than its neighbours stays duller, "
        "and it comes out otherwise beside other photos.",
        "Two photos, one dull and one vivid: whose spread does it divide by?",
    ),
    _wrong(
        "style",
        "frozen batch norm",
        "It does the same to every photo, a straight line with fixed numbers. What is dull stays dull.",
        "If the contrast of a photo is halved, what happens to the output?",
    ),
    _wrong(
        "style",
        "layer norm",
        "One mean and one variance for all channels of a photo. How its channels differ in mean and spread stays: "
        "what is bluish stays bluish.",
        "Add 1 to one channel of a photo, and nothing to the others. Does the output change?",
    ),
    _wrong(
        "style",
        "group norm",
        "The channels of a group share their statistics. How they differ in mean and spread stays, and that is part "
        "of the look of a photo.",
        "Add 1 to one channel of a photo, and nothing to the others. Does the output change?",
    ),
    _wrong(
        "style",
        "RMS norm",
        "It subtracts no mean, so the brightness of a map stays. And all channels of a photo are divided by the same "
        "number.",
        "What does it do to a channel that is 5 everywhere?",
    ),
    _wrong(
        "privacy",
        "batch norm",
        "It mixes the patients: the loss of one image depends on all images of the batch. So there is no gradient of "
        "one image alone that could be limited.",
        "Take one patient out of the batch: which outputs of the others change?",
    ),
    _wrong(
        "privacy",
        "frozen batch norm",
        "It keeps patients apart, but it is trained from scratch: there are no statistics to freeze. Measured on the "
        "patients' images they would give away something about them.",
        "Whose images would the statistics come from?",
    ),
    _wrong(
        "privacy",
        "instance norm",
        "It keeps patients apart, but the last maps have one position. A single number less its own mean is 0: "
        "whatever the image shows, β comes out. (PyTorch refuses such a map.)",
        "Over how many values does it take a mean at the last maps?",
    ),
    _wrong(
        "finetuning",
        "batch norm",
        "From the first step the outputs differ from those in use: in training it normalizes with two photos. The trained "
        "weights never met such noise, and the running statistics of the long training are overwritten with it.",
        "What will the running statistics know after a hundred steps?",
    ),
    _wrong(
        "finetuning",
        "layer norm",
        "The weights were trained with a mean for each channel, the same for all photos. One mean for all channels "
        "gives every later layer inputs that it does not know, and 500 photos are few to learn it again.",
        "On day one, before any training: does the network still give the outputs that it gave?",
    ),
    _wrong(
        "finetuning",
        "instance norm",
        "It takes from each photo the contrast of every channel. The trained layers were used to getting it, and 500 "
        "photos are few to learn it again.",
        "On day one, before any training: does the network still give the outputs that it gave?",
    ),
    _wrong(
        "finetuning",
        "group norm",
        "It would do well with batches of two in a network that had learned with it. This one has not: channels that "
        "never shared a mean would share one, and 500 photos are few to learn everything again.",
        "On day one, before any training: does the network still give the outputs that it gave?",
    ),
    _wrong(
        "finetuning",
        "RMS norm",
        "It subtracts no mean, but the trained weights, γ and β count on a mean for each channel being gone. 500 "
        "photos are few to learn it again.",
        "On day one, before any training: does the network still give the outputs that it gave?",
    ),
)


def drive_choosing(answer: Callable, inputs: Inputs) -> dict[str, float]:
    """Ask for one situation. Names that can be defended equally well count as one."""
    situation = inputs["situation"]
    norm = _name(situation, answer(situation))
    return {"choice": _code(ACCEPTED[situation][0] if norm in ACCEPTED[situation] else norm)}


def _name(situation: str, said: object) -> str:
    """The name in NORMS that is meant, in whatever spelling."""
    call = f"choose_norm({situation!r})"
    if said is None:
        raise Unusable("nothing", f"{call} returns nothing. Is there a return for this situation?")
    if not isinstance(said, str):
        raise Unusable("type", f"{call} returns {a(said)}. Expected one name, as a text.")
    known = {_letters(norm): norm for norm in NORMS}
    letters = _letters(said)
    letters = SHORT.get(letters, letters)
    if letters not in known:
        says = f"{call} returns {said[:40]!r}, which is none of the names: {', '.join(NORMS)}."
        raise Unusable("type", says)
    return known[letters]


def _letters(text: str) -> str:
    """The letters alone, so that "nn.LayerNorm" and "Layer normalization" are "layer norm", too."""
    text = re.sub(r"^(torch\.)?nn\.|[1-3]d$", "", text.strip().lower())
    text = re.sub(r"normali[sz]ation", "norm", text)
    letters = re.sub("[^a-z]", "", text)
    return "frozenbatchnorm" if letters == "batchnormfrozen" else letters


def _fresh_situation(rng: np.random.Generator) -> Inputs:
    return {"situation": str(rng.choice(list(ACCEPTED)))}


CHOOSE = Exercise(
    id="choose_norm",
    chapter="12_which_norm",
    signature="(situation) -> the name of a norm",
    operation=Choosing,
    probes=tuple(Probe(name, f"the situation {name}.", {"situation": name}) for name in ACCEPTED),
    fresh=_fresh_situation,
    mistakes=CHOICE_MISTAKES,
    properties=(),
    hints=(
        "Ask of each situation: may the result of a sample depend on other samples, other positions, other channels?",
        "Which norms need other samples in training? Which have nothing left to measure afterwards?",
        "Which names does this rule out: the phone, the night, the next token, the photo's look, one patient, the weights?",
    ),
    container="dict",
    drive=drive_choosing,
    separate=True,
)

EXERCISES = (MASKED, CHOOSE)
