"""Group norm and instance norm, the norms of images: their exercises, and the mistakes made in them."""

from collections.abc import Callable

import numpy as np

from ..chapter_02 import (
    IMAGE_AFFINE_MISTAKES,
    MOVED_AXES,
    ROUGH,
    BatchNorm,
    Normalization,
    Words,
    chosen,
    own,
    random_inputs,
    told,
)
from ..exercise import Exercise, Form, Inputs, Mistake, Probe, step
from .shared import AFFINE, SQUARE, STATISTICS, forward_properties, narrow, without

# What chapter 2 computes, over groups of channels


class GroupNorm(BatchNorm):
    """y = γ · x̂ + β, with x̂ over a group of consecutive channels of one image."""

    @step
    def groups(s):
        return s.num_groups

    @step
    def data(s):
        """x as (N, groups, channels of a group, H, W)."""
        return s.x.reshape(len(s.x), s.groups, -1, *s.x.shape[2:])

    @step
    def axes(s):
        return (2, 3, 4)


class InstanceNorm(GroupNorm):
    """Every channel is a group."""

    @step
    def groups(s):
        return s.x.shape[1]


# Mistakes in the axes


def _all_axes(s: GroupNorm) -> tuple[int, ...]:
    return tuple(range(s.data.ndim))


LOST_AXES = Mistake(
    "C14",
    "Your statistics lost their axes, so they line up with the last axes of x instead of the groups.",
    "Which shapes have your mean and the array that you subtract it from, and how does NumPy align them?",
    {"mean": lambda s: s.data.mean(s.axes), "var": lambda s: s.data.var(s.axes)},
    {"mean": lambda s: s.data.mean(s.axes)},
    {"var": lambda s: Normalization.var.compute(s)[..., 0, 0, 0]},
    {"mean": lambda s: s.data.mean(s.axes), "var": lambda s: (s.spread**2).mean(s.axes)},
)

BATCH_NORM = Mistake(
    "C22",
    "You normalized each channel over the whole batch: that is batch norm.",
    "Change one image of the batch: which outputs may move?",
    {"data": lambda s: s.x, "axes": lambda s: (0, 2, 3)},
)

LAYER_NORM = Mistake(
    "C05",
    "All channels of an image share one mean and one variance in your code: one group, which is layer norm.",
    "How many means should one image have?",
    {"groups": lambda s: 1},
)

WHOLE_ARRAY = Mistake(
    "C17",
    "You took one mean and one variance over the whole array: all images and channels share them.",
    "How many means should one image have?",
    {"axes": _all_axes},
)

PER_PIXEL = Mistake(
    "C01",
    "In your code every pixel has statistics of its own: you did not average over H and W.",
    "How many values go into one mean, for images of 4 by 5 pixels?",
    {"axes": lambda s: (2,)},
    {"data": lambda s: s.x, "axes": lambda s: (1,)},
    {"data": lambda s: s.x, "axes": lambda s: (0,)},
)

ROWS_OR_COLUMNS = Mistake(
    "C23",
    "You averaged over the rows or over the columns of pixels alone. All H · W positions go into one mean.",
    "How many values go into one mean, for images of 4 by 5 pixels?",
    {"axes": lambda s: (4,)},
    {"axes": lambda s: (3,)},
)

NOT_MOVED_BACK = Mistake(
    "C20",
    "You moved axes, normalized, and put the array back into shape without moving them back.",
    "Which axis is the first before your last reshape?",
    {"x_hat": lambda s: np.moveaxis(s.standardized.reshape(s.x.shape), 1, -1).reshape(s.x.shape)},
    {"x_hat": lambda s: s.standardized.swapaxes(0, 1).reshape(s.x.shape)},
    {"x_hat": lambda s: np.moveaxis(s.standardized.reshape(s.x.shape), 1, 0).reshape(s.x.shape)},
)


_ORDER_FORGOTTEN: tuple[Form, ...] = (  # reshaped as if the groups were the first or the last axis in memory
    {"data": lambda s: s.x.reshape(s.groups, -1), "axes": lambda s: (1,)},
    {"data": lambda s: s.x.reshape(len(s.x), -1, s.groups), "axes": lambda s: (1,)},
    {"data": lambda s: s.x.reshape(-1, s.groups), "axes": lambda s: (0,)},
)


def _in_shape(s: GroupNorm, values: np.ndarray) -> np.ndarray:
    """Values of the shape of x in that of the data."""
    return values.reshape(GroupNorm.data.compute(s).shape)


_AFFINE_FIRST = {
    "data": lambda s: _in_shape(s, s.scale * s.x + s.shift),
    "y": lambda s: s.x_hat,
    "scale": BatchNorm.scale.compute,  # used in another place, so not missing
    "shift": BatchNorm.shift.compute,
}
_GAMMA_FIRST = {
    "data": lambda s: _in_shape(s, s.scale * s.x),
    "y": lambda s: s.x_hat + s.shift,
    "scale": BatchNorm.scale.compute,
}
IMAGE_AFFINE = tuple(own(AFFINE, "F33", _AFFINE_FIRST, _GAMMA_FIRST) if m.id == "F33" else m for m in AFFINE)


def _per_group(s: GroupNorm, values: np.ndarray) -> np.ndarray:
    """As many values as groups, each for all channels of its group."""
    return np.repeat(values[: s.groups], s.x.shape[1] // s.groups).reshape(s.param_shape)


def _within_group(s: GroupNorm, values: np.ndarray) -> np.ndarray:
    """As many values as channels in a group, the same for all groups."""
    return np.tile(values[: s.x.shape[1] // s.groups], s.groups).reshape(s.param_shape)


def _right_spread(s: GroupNorm) -> np.ndarray:
    return s.data - s.data.mean(s.axes, keepdims=True)


GROUP_NORM_MISTAKES = (
    *STATISTICS,
    Mistake(
        "G01",
        "Your groups are interleaved: their channels are not neighbours. A group consists of consecutive channels.",
        "With six channels and two groups: which channels are in the first group?",
        {
            "data": lambda s: s.x.reshape(len(s.x), -1, s.groups, *s.x.shape[2:]),
            "axes": lambda s: (1, 3, 4),
        },
    ),
    Mistake(
        "G02",
        "You reshaped without regard to the axes: values of different images, or of different groups, share a mean. "
        "reshape keeps the order of the values in memory.",
        "For x of shape (2, 4, 1, 1) and two groups, which images and channels are in the first row after your reshape?",
        *_ORDER_FORGOTTEN,
        {
            "data": lambda s: s.x.reshape(len(s.x), *s.x.shape[2:], s.groups, -1),
            "axes": lambda s: (1, 2, 4),
        },
    ),
    Mistake(
        "G03",
        "You used one γ and one β for a whole group, or the same ones in every group. "
        "Each of the C channels has a γ and a β of its own.",
        "How many values does weight have, and how many of them does your code use?",
        {"scale": lambda s: _per_group(s, s.params[0]), "shift": lambda s: _per_group(s, s.params[1])},
        {"scale": lambda s: _within_group(s, s.params[0]), "shift": lambda s: _within_group(s, s.params[1])},
        {"scale": lambda s: _per_group(s, s.params[0])},
        {"shift": lambda s: _per_group(s, s.params[1])},
    ),
    Mistake(
        "G04",
        "You swapped the number of groups and the number of channels in a group: "
        "num_groups says how many groups there are.",
        "With six channels and num_groups = 2: how many channels are in a group?",
        {"groups": lambda s: s.x.shape[1] // s.num_groups},
    ),
    Mistake(
        "G05",
        "Your statistics include the batch axis. Group norm never mixes images: each has statistics of its own.",
        "Change one image of the batch: which outputs may move?",
        {"axes": lambda s: (0, 2, 3, 4)},
        {"mean": lambda s: s.data.mean((0, 2, 3, 4), keepdims=True), "spread": _right_spread},
    ),
    Mistake(
        "G06",
        "Your code uses a fixed number of groups and ignores num_groups.",
        "What changes in your function when the caller passes another num_groups?",
        {"groups": lambda s: 2},
    ),
    Mistake(
        "C02",
        "You normalized each channel of each image alone: that is instance norm.",
        "How many channels share a mean, with six channels and two groups?",
        {"groups": lambda s: s.x.shape[1]},
    ),
    Mistake(
        "C21",
        "You took the variance channel by channel, or of the channels' means. The variance of a group is that of all "
        "its values together.",
        "Two channels in a group, one all 0 and one all 2: what is the variance of the group?",
        {"var": lambda s: s.data.var((3, 4), keepdims=True).mean(2, keepdims=True)},
        {"var": lambda s: s.data.mean((3, 4), keepdims=True).var(2, keepdims=True)},
    ),
    Mistake(
        "C09",
        "You divided by the wrong number of values. What counts is how many values share a mean: (C / G) · H · W.",
        "How many values are in one of two groups of an image of shape (6, 4, 5)?",
        {"divisor": lambda s: s.x[0, 0].size},
        {"divisor": lambda s: s.data.shape[2]},
        {"mean": lambda s: s.data.sum(s.axes, keepdims=True) / s.x[0, 0].size, "divisor": lambda s: s.x[0, 0].size},
        {"mean": lambda s: s.data.sum(s.axes, keepdims=True) / s.x[0].size, "divisor": lambda s: s.x[0].size},
    ),
    BATCH_NORM,
    LAYER_NORM,
    WHOLE_ARRAY,
    PER_PIXEL,
    NOT_MOVED_BACK,
    LOST_AXES,
    *IMAGE_AFFINE,
    MOVED_AXES,
    *chosen(IMAGE_AFFINE_MISTAKES, "C06"),
)


def _parts(count: Callable) -> Form:
    """Every image in that many parts of equal size; they may end within a channel."""
    return {"data": lambda s: s.x.reshape(len(s.x), count(s), -1), "axes": lambda s: (2,)}


INSTANCE_NORM_MISTAKES = (
    *STATISTICS,
    BATCH_NORM,
    LAYER_NORM,
    Mistake(
        "G04",
        "Several channels of an image share a mean in your code, though not all of them.",
        "Of how many channels does a group consist if every channel is normalized alone?",
        _parts(lambda s: len(s.x)),
        _parts(lambda s: s.x.shape[1] // 2),
        _parts(lambda s: s.x.shape[2]),
        _parts(lambda s: s.x.shape[3]),
        _parts(lambda s: 2),
    ),
    Mistake(
        "C07",
        "You reshaped without regard to the axes, so values of different channels share a mean. "
        "reshape keeps the order of the values in memory.",
        "For x of shape (2, 3, 1, 1), which images and channels are in the first row of x.reshape(3, -1)?",
        *_ORDER_FORGOTTEN,
    ),
    Mistake(
        "C09",
        "You divided by the wrong number of values. What counts is how many values share a mean: H · W.",
        "How many values does one channel of an image of shape (3, 4, 5) have?",
        {"divisor": lambda s: len(s.x) * s.x[0, 0].size},
        {"divisor": lambda s: len(s.x)},
        {"divisor": lambda s: s.x[0].size},
        {"mean": lambda s: s.data.sum(s.axes, keepdims=True) / len(s.x), "divisor": lambda s: len(s.x)},
    ),
    Mistake(
        "C21",
        "You took the variance row by row or column by column. The variance of a channel is that of all its pixels "
        "together.",
        "Two rows of pixels, one all 0 and one all 2: what is the variance of the channel?",
        {"var": lambda s: s.data.var(4, keepdims=True).mean(3, keepdims=True)},
        {"var": lambda s: s.data.var(3, keepdims=True).mean(4, keepdims=True)},
    ),
    WHOLE_ARRAY,
    Mistake(
        "C18",
        "You averaged over the axes 1 and 2, as if the channels were on the last axis. Here they are on axis 1.",
        "Along which axes of (N, C, H, W) do the pixels of one channel lie?",
        {"data": lambda s: s.x, "axes": lambda s: (1, 2)},
    ),
    PER_PIXEL,
    ROWS_OR_COLUMNS,
    NOT_MOVED_BACK,
    *told(
        (LOST_AXES,),
        {
            "C14": Words(
                "Your statistics lost their axes, so they line up with the last axes of x, not with the channels."
            )
        },
    ),
    *IMAGE_AFFINE,
    MOVED_AXES,
    *chosen(IMAGE_AFFINE_MISTAKES, "C06"),
)


# Probes


def _image_inputs(
    rng: np.random.Generator, shape: tuple[int, ...], num_groups: int, *, eps: float
) -> dict[str, object]:
    """Images that differ in mean and spread, as their channels do."""
    inputs = random_inputs(rng, shape, eps=eps)
    each = (len(inputs["x"]), 1, 1, 1)
    x = inputs["x"] * rng.uniform(0.5, 2, each) + rng.normal(0, 3, each)
    return {"x": x, "num_groups": num_groups, **{name: v for name, v in inputs.items() if name != "x"}}


def _with_constant_group(inputs: Inputs) -> dict[str, object]:
    """The same with a group of equal values in the first image, and a second image that varies little."""
    x = inputs["x"].copy()
    x[0, : x.shape[1] // inputs["num_groups"]] = 0.25
    x[1] = 3e-2 * (x[1] - x[1].mean())
    return {**inputs, "x": x, "eps": 1e-2}


def _image_probes(seed: int, images: int, groups: int, line_groups: int, group: str) -> tuple[Probe, ...]:
    """The probes of group norm and instance norm; in ``square`` every channel is a group."""
    rng = np.random.default_rng(seed)
    plain = _image_inputs(rng, (images, 6, 4, 7), groups, eps=1e-5)
    square = _image_inputs(rng, (3, 3, 3, 3), 3, eps=1e-2)
    line = _image_inputs(rng, (2, 4, 1, 6), line_groups, eps=1e-5)
    far = {**plain, **random_inputs(rng, (2, 6, 3, 4), eps=1e-5, mean=1e4, dtype=np.float32)}
    moved = np.asfortranarray(3 * plain["x"] + 5)
    return (
        Probe("plain", "images and channels that differ in mean and spread.", plain),
        Probe("epsilon", "ε = 0.5, so large that its place matters.", {**plain, "eps": 0.5}),
        Probe("square", f"three channels, each a group, in three images of 3 by 3 pixels: {SQUARE}", square),
        Probe("line", "images of one line.", line),
        Probe("alone", "the first image of the first input, alone.", {**plain, "x": plain["x"][:1]}),
        Probe(
            "constant",
            f"a {group} of equal values, and an image that hardly varies.",
            _with_constant_group(plain),
            floor=1e-4,
        ),
        Probe("narrow", "values whose variance is smaller than ε.", narrow(line, (1, 2, 3))),
        Probe("moved", "the first input, every x times 3 plus 5.", {**plain, "x": moved}),
        Probe("offset", "float32 values with mean 10,000 and standard deviation 1.", far, **ROUGH),
    )


def _group_probes(seed: int) -> tuple[Probe, ...]:
    """The probes of group norm, which also gets other numbers of groups."""
    plain, *others = _image_probes(seed, 5, 2, 2, "group")
    return (
        plain,
        Probe("three groups", "the same images, with three groups instead of two.", {**plain.inputs, "num_groups": 3}),
        Probe("one group", "the same images, with a single group.", {**plain.inputs, "num_groups": 1}),
        *others,
    )


def _fresh_images(rng: np.random.Generator) -> Inputs:
    samples, groups, size, height, width = (int(n) for n in rng.integers(2, 5, 5))
    eps = float(10 ** rng.uniform(-4, -1))
    return _image_inputs(rng, (samples, groups * size, height, width), groups, eps=eps)


def _fresh_instances(rng: np.random.Generator) -> Inputs:
    return {name: value for name, value in _fresh_images(rng).items() if name != "num_groups"}


# Exercises

GROUP_NORM_FORWARD = Exercise(
    id="group_norm_forward",
    chapter="11_five_norms",
    signature="(x, num_groups, weight, bias, eps) -> y, x of shape (N, C, H, W)",
    operation=GroupNorm,
    probes=_group_probes(113),
    fresh=_fresh_images,
    mistakes=GROUP_NORM_MISTAKES,
    properties=forward_properties("group", 2),
    hints=(
        "The first C / num_groups channels of an image are a group. Give the groups an axis of their own.",
        "With the axis C split into two, which axes of the five belong to one group?",
        "Bring x̂ back to the shape of x before γ and β meet it: they have one value per channel.",
    ),
    changing={"x": "F24"},
)

INSTANCE_NORM_FORWARD = Exercise(
    id="instance_norm_forward",
    chapter="11_five_norms",
    signature="(x, weight, bias, eps) -> y, x of shape (N, C, H, W)",
    operation=InstanceNorm,
    probes=without(_image_probes(114, 3, 6, 4, "channel"), "num_groups"),
    fresh=_fresh_instances,
    mistakes=INSTANCE_NORM_MISTAKES,
    properties=forward_properties("channel of an image", 6),
    hints=(
        "Every channel of every image is normalized alone. How many channels are then in a group?",
        "So how many groups are there? Read it off the shape of x.",
    ),
    changing={"x": "F24"},
)
