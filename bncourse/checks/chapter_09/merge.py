"""Partial statistics, merged: (count, mean, M2) of several splits of a batch."""

from __future__ import annotations

import numpy as np

from ..chapter_02 import ROUGH, close
from ..exercise import Exercise, Inputs, Mistake, Probe, Property, step
from ..triton_answers import FILL, UNDEFINED, launch
from .shared import (
    CHAPTER,
    READS_INSIDE,
    WORDING,
    WRITES_INSIDE,
    Kernel,
    beyond,
    find,
    mask_of_places,
    never_stored,
    no_mask,
    no_other,
    off_by_one,
    one_off,
    one_place,
    put,
    written,
)


class Merge(Kernel):
    """Mean and biased variance of each channel from count, mean and M2 of shape (S, C); a program takes a channel."""

    outputs = ("mean", "var", "reads_beyond", "writes_beyond")

    @step
    def channel(s):
        return np.arange(s.m2.shape[1])[:, None]

    @step
    def splits(s):
        """The splits of the lanes."""
        return np.arange(s.block)

    @step
    def row(s):
        """How far apart two splits of a channel are."""
        return s.m2.shape[1]

    @step
    def places(s):
        return s.splits * s.row + s.channel

    @step
    def mask(s):
        return s.splits < len(s.m2)

    @step
    def count_spare(s):
        return s.spare

    @step
    def m2_spare(s):
        return s.spare

    @step
    def counts(s):
        return find(s.inputs["count"].astype(float), s.places, s.mask, s.count_spare)

    @step
    def means(s):
        return find(s.inputs["mean"].astype(float), s.places, s.mask, s.spare)

    @step
    def squares(s):
        return find(s.m2, s.places, s.mask, s.m2_spare)

    @step
    def weights(s):
        """What each split counts in the mean."""
        return s.counts

    @step
    def total(s):
        """The number of values of a channel."""
        return s.counts.sum(1)

    @step
    def center(s):
        return (s.weights * s.means).sum(1) / s.weights.sum(1)

    @step
    def distance(s):
        return s.means - s.center[:, None]

    @step
    def between(s):
        return (s.counts * s.distance**2).sum(1)

    @step
    def within(s):
        return s.squares.sum(1)

    @step
    def divisor(s):
        return s.total

    @step
    def spread(s):
        return (s.within + s.between) / s.divisor

    @step
    def result_places(s):
        return s.channel[:, 0]

    @step
    def mean_result(s):
        return s.center

    @step
    def mean(s):
        return put(s.m2.shape[1], s.result_places, s.mean_result)

    @step
    def var(s):
        return put(s.m2.shape[1], s.result_places, s.spread)

    @step
    def reads_beyond(s):
        return beyond(s.m2.size, s.places, s.mask)

    @step
    def writes_beyond(s):
        return beyond(s.m2.shape[1], s.result_places, True)

    def __init__(self, inputs: Inputs, replaced: dict, dtype: type):
        super().__init__(inputs, replaced, dtype)
        del self.__dict__["mean"]  # of the splits; the output has the same name


def _real(s: Merge) -> np.ndarray:
    """1 for the lanes that hold a split."""
    return np.where(s.mask, 1.0, 0.0) * np.ones_like(s.means)


def _one_pass(s: Merge) -> np.ndarray:
    """The mean of the squares minus the square of the mean, in float32."""
    count, mean, m2 = (values.astype(np.float32) for values in (s.counts, s.means, s.squares))
    center = s.center.astype(np.float32)
    return (m2 + count * mean * mean).sum(1) / s.divisor - center * center


def _empty_first(s: Merge) -> np.ndarray:
    """NaN where the first split holds no value."""
    return np.where(s.counts[:, 0] == 0, np.nan, 0.0)


def _any_empty(s: Merge) -> np.ndarray:
    """NaN where a lane has the count 0."""
    return np.where((s.counts == 0).any(1), np.nan, 0.0)


def _split_empty(s: Merge) -> np.ndarray:
    """NaN where a split has the count 0."""
    return np.where((s.counts[:, : len(s.m2)] == 0).any(1), np.nan, 0.0)


MERGE_MISTAKES = (
    Mistake(
        "K04",
        "You left out how far the means of the splits lie apart.",
        "One split is 0, 0, the other 4, 4. What is the variance of the four numbers, and what is M2 of each split?",
        {"between": lambda s: 0.0},
    ),
    Mistake(
        "K05",
        "You took M2 for a variance. M2 is the sum of the squared distances: the counts are in it already.",
        "A split is 0, 4. What is its variance, what is its M2, and which of the two do you multiply by the count?",
        {"within": lambda s: (s.counts * s.squares).sum(1)},
        {"within": lambda s: (s.counts * s.squares).sum(1) / s.total},
        {"spread": lambda s: s.within + s.between / s.divisor},
        {"spread": lambda s: (s.squares * _real(s)).mean(1) + s.between / s.divisor},
    ),
    Mistake(
        "K06",
        "You averaged the means of the splits as if all splits held equally many values.",
        "One split is 0, 0, 0, the other a single 4. What is the mean of the four numbers?",
        {"weights": _real},
        {"weights": lambda s: np.where(s.counts > 0, 1.0, 0.0)},
        {"mean_result": lambda s: (s.means * _real(s)).sum(1) / len(s.m2)},
    ),
    Mistake(
        "H52",
        "The distances of the means have the wrong weight: a split of many values moves the variance more than one of few.",
        "One split is the single number 0, the other 4, 4, 4. How far is each of the four from the mean of all?",
        {"between": lambda s: (_real(s) * s.distance**2).sum(1)},
        {"between": lambda s: (s.distance**2).sum(1)},
        {"between": lambda s: (s.counts**2 * s.distance**2).sum(1)},
        {"between": lambda s: (s.counts * np.abs(s.distance)).sum(1)},
    ),
    Mistake(
        "K34",
        "A count of 0 stands below a fraction bar: 0 / 0 is NaN, and NaN spoils every sum that it enters.",
        "If a split holds no value, or a lane no split: which of your divisions has a 0 below the bar?",
        {"center": lambda s: Merge.center.compute(s) + _empty_first(s)},
        {"within": lambda s: s.squares.sum(1) + _split_empty(s)},
        {"within": lambda s: s.squares.sum(1) + _any_empty(s)},
        {"center": lambda s: Merge.center.compute(s) + _any_empty(s)},
        {"center": lambda s: Merge.center.compute(s) + _split_empty(s)},
        {"center": lambda s: np.where((s.counts[:, :2] == 0).all(1), np.nan, Merge.center.compute(s))},
    ),
    Mistake(
        "K03",
        "You divided by the number of splits, or of lanes. The mean and the variance are over values.",
        "Three splits hold 5, 5 and 2 values. By which number is the sum of all squared distances divided?",
        {"divisor": lambda s: len(s.m2)},
        {"divisor": lambda s: s.block},
        {"weights": lambda s: np.ones_like(s.means)},
        {"mean_result": lambda s: (s.means * _real(s)).sum(1) / s.block},
    ),
    Mistake(
        "K26",
        "Your programs read from the wrong places. One row of the partials holds all channels of a split.",
        "For 3 splits and 2 channels: at which places do the three counts of channel 1 stand?",
        {"places": lambda s: s.channel * len(s.m2) + s.splits},
        {"places": lambda s: s.channel * s.m2.shape[1] + s.splits},
        {"places": lambda s: s.channel + s.splits},
        {"row": lambda s: len(s.m2)},
        {"places": lambda s: s.splits * s.row + 0 * s.channel},
    ),
    no_mask(
        {"mask": lambda s: np.True_},
        {"reads_beyond": lambda s: beyond(s.m2.size, s.places, True)},
        asks="For 3 splits and BLOCK = 4: which places does lane 3 point to?",
    ),
    one_off(*off_by_one("mask", "splits", lambda s: len(s.m2))),
    mask_of_places({"mask": lambda s: s.places < len(s.m2)}),
    no_other(
        {"spare": lambda s: UNDEFINED},
        {"count_spare": lambda s: UNDEFINED},
        {"m2_spare": lambda s: UNDEFINED},
    ),
    one_place({"result_places": lambda s: 0 * s.channel[:, 0]}, {"result_places": lambda s: s.channel[:, 0] * s.row}),
    never_stored("mean", "var"),
    Mistake(
        "K19",
        "You computed the variance as a mean of squares minus the square of the mean. With a large mean that subtracts two "
        "huge, nearly equal numbers, and no digits are left.",
        "How many digits does float32 keep of the square of 10,000? Can you subtract before you square?",
        {"spread": _one_pass},
    ),
    Mistake(
        "F01",
        "You divided by the count minus 1. The variance here is the biased one, as batch norm uses it.",
        "What should the variance of 1 and 3 be, and by what did you divide?",
        {"divisor": lambda s: s.total - 1},
    ),
    Mistake(
        "F35",
        "You stored the standard deviation, not the variance.",
        "If x is in metres, what is the unit of your result?",
        {"spread": lambda s: np.sqrt((s.within + s.between) / s.divisor)},
    ),
    Mistake(
        "F37",
        "You stored a sum of squares, not a variance.",
        "What is the variance of 0, 0, 4, 4, and what is the sum that you start from?",
        {"divisor": lambda s: 1.0},
    ),
    Mistake(
        "H58",
        "You left out the spread within the splits.",
        "One split is 0, 4, the other 0, 4. What is the variance of the four numbers, and what is that of the two means?",
        {"within": lambda s: 0.0},
    ),
    Mistake(
        "N06",
        "You swapped the mean and the variance.",
        "Which pointer belongs to which result?",
        {
            "mean": lambda s: put(s.m2.shape[1], s.result_places, s.spread),
            "var": lambda s: put(s.m2.shape[1], s.result_places, s.mean_result),
        },
    ),
)

# Probes


def _partials(rng: np.random.Generator, counts: list[int], channels: int, block: int, offset: float = 0.0) -> Inputs:
    """Partial statistics of splits with so many values; the counts of the channels differ by up to 1 where they can."""
    shape = len(counts), channels
    count = np.array(counts)[:, None] + (np.array(counts)[:, None] > 1) * rng.integers(0, 2, shape)
    mean = (count > 0) * (offset + rng.choice([-4, 4], channels) + rng.normal(0, 2, shape))
    m2 = np.where(count > 1, count * rng.uniform(0.5, 4, shape), 0)
    arrays = {"count": count, "mean": mean, "m2": m2}
    return {name: values.astype(np.float32) for name, values in arrays.items()} | {"block": block}


def _probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    empty_first = _partials(rng, [0, 7, 3], 2, 4)
    return (
        Probe("plain", "3 splits with 8, 8 and 3 values, 2 channels, BLOCK = 4.", _partials(rng, [8, 8, 3], 2, 4)),
        Probe("full", "as many splits as lanes.", _partials(rng, [6, 2, 9, 4], 3, 4)),
        Probe("wide", "5 splits, BLOCK = 16.", _partials(rng, [4, 9, 2, 7, 3], 4, 16)),
        Probe("empty last", "a last split that holds no value.", _partials(rng, [5, 9, 4, 0], 3, 4)),
        Probe("empty first", "a first split that holds no value.", empty_first),
        Probe("two empty", "two splits without a value, one after the other.", _partials(rng, [0, 0, 6, 3, 8], 2, 8)),
        Probe("single", "a single split.", _partials(rng, [9], 3, 2)),
        Probe("offset", "means around 10,000.", _partials(rng, [8, 3, 6], 3, 4, offset=1e4), **ROUGH),
    )


def _fresh(rng: np.random.Generator) -> Inputs:
    counts = [int(n) for n in rng.integers(2, 20, rng.integers(3, 8))]
    return _partials(rng, counts, int(rng.integers(2, 4)), 8)


def drive_merge(answer: object, inputs: Inputs) -> dict[str, object]:
    """Mean and variance of the channels, and where was read and written."""
    splits, channels = inputs["m2"].shape
    mean, var = np.full((2, channels), FILL, np.float32)
    partial = {f"{name}_ptr": inputs[name] for name in ("count", "mean", "m2")}
    results = {"total_mean_ptr": mean, "total_var_ptr": var}
    sizes = {"S": splits, "C": channels, "BLOCK": inputs["block"]}
    memory = launch(answer, {**partial, **results, **sizes}, (channels,))
    return {"mean": mean, "var": var, **memory.facts}


MERGE = Exercise(
    id="merge_partials_kernel",
    chapter=CHAPTER,
    signature="(count_ptr, mean_ptr, m2_ptr, total_mean_ptr, total_var_ptr, S, C, BLOCK), one program a channel",
    operation=Merge,
    probes=_probes(92),
    fresh=_fresh,
    mistakes=MERGE_MISTAKES,
    properties=(
        READS_INSIDE,
        WRITES_INSIDE,
        written("mean", "var"),
        Property("no result is NaN.", lambda o, i: all(np.isfinite(o[n][k]).all() for n in i for k in ("mean", "var"))),
        Property("a single split keeps its mean.", lambda o, i: close(o["single"]["mean"], i["single"]["mean"][0])),
        Property(
            "a single split has the variance M2 / count.",
            lambda o, i: close(o["single"]["var"], i["single"]["m2"][0] / i["single"]["count"][0]),
        ),
    ),
    hints=(
        "Load three tiles, one lane a split: counts, means, M2. At which place does split s of this channel stand?",
        (
            "The mean of all values is a weighted mean of the means. What is the weight of a split, and what must a masked "
            "lane hold to have none?"
        ),
        (
            "The squared distances of all values from the mean of all are M2 of each split, and for each of its values the "
            "squared distance of the two means. Add both up, and divide once, by the number of values."
        ),
    ),
    container="dict",
    changing=dict.fromkeys(("count", "mean", "m2"), "F24"),
    drive=drive_merge,
    wording=WORDING,
)
