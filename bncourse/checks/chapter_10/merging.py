"""Count, mean and M2 of the parts of a batch: what the exercises that merge them share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..chapter_02 import close
from ..exercise import Form, Inputs, Mistake, Operation, Outputs, step

CHAPTER = "10_many_devices"


class Merge(Operation):
    """Count, mean and M2 of a batch from those of its parts: counts (k,), means and M2 (k, C)."""

    outputs = ("count", "mean", "m2")

    @step
    def parts(s):
        """Which parts are merged."""
        return slice(None)

    @step
    def sizes(s):
        """The counts, as they meet (k, C)."""
        return s.counts[s.parts, None]

    @step
    def centers(s):
        return s.means[s.parts]

    @step
    def squares(s):
        return s.m2s[s.parts]

    @step
    def axis(s):
        """The axis of the parts."""
        return 0

    @step
    def total(s):
        return s.sizes.sum()

    @step
    def weights(s):
        """What each part counts in the mean."""
        return s.sizes

    @step
    def weighted(s):
        return (s.weights * s.centers).sum(s.axis)

    @step
    def mean_divisor(s):
        return s.weights.sum()

    @step
    def center(s):
        return s.weighted / s.mean_divisor

    @step
    def distance(s):
        return s.centers - s.center

    @step
    def between_weights(s):
        return s.sizes

    @step
    def between(s):
        """What the distances of the means add to M2."""
        return (s.between_weights * s.distance**2).sum(s.axis)

    @step
    def within(s):
        return s.squares.sum(s.axis)

    @step
    def combined(s):
        return s.within + s.between

    @step
    def count(s):
        return float(s.total)

    @step
    def mean(s):
        return s.center

    @step
    def m2(s):
        return s.combined


# Mistakes of every merge


def there(s: Merge) -> np.ndarray:
    """1 for the parts that hold a value, else 0."""
    return np.where(s.sizes > 0, 1.0, 0.0)


def spoiled(name: str, where: Callable) -> Form:
    """NaN in a step if ``where`` finds an empty part."""
    return {name: lambda s: getattr(type(s), name).compute(s) + (np.nan if where(s) else 0.0)}


def any_empty(s: Merge) -> bool:
    return bool((s.counts == 0).any())


def first_empty(s: Merge) -> bool:
    return bool(s.counts[0] == 0)


def last_empty(s: Merge) -> bool:
    return bool(s.counts[-1] == 0)


def _by_squares(s: Merge) -> np.ndarray:
    """M2 by way of Σx², in the dtype of the inputs."""
    dtype = s.inputs["mean_a" if "mean_a" in s.inputs else "means"].dtype
    sizes, means, m2s, center = (np.asarray(value, dtype) for value in (s.sizes, s.centers, s.squares, s.center))
    return (m2s + sizes * means**2).sum(0) - sizes.sum() * center**2


LEFT_OUT = "One part is 0, 0, the other 4, 4. What is M2 of the four numbers, and what is M2 of each part?"

MERGE_MISTAKES = (
    Mistake(
        "K04",
        "M2 lacks how far the means of the parts lie apart.",
        LEFT_OUT,
        {"between": lambda s: 0.0},
    ),
    Mistake(
        "K05",
        "You took M2 for a variance. M2 is the sum of the squared distances: the counts are in it already.",
        "A part is 0, 4. What is its variance, what is its M2, and which of the two would you multiply by a count?",
        {"within": lambda s: (s.sizes * s.squares).sum(0)},
        {"within": lambda s: (s.sizes * s.squares).sum(0) / s.sizes.sum()},
        {"within": lambda s: s.squares.mean(0)},
        {"within": lambda s: ((s.sizes - 1) * s.squares).sum(0)},
    ),
    Mistake(
        "K06",
        "You averaged the means as if all parts held equally many values.",
        "One part is 0, 0, 0, the other a single 4. What is the mean of the four numbers?",
        {"weights": lambda s: np.ones_like(s.sizes)},
        {"weights": there},
        {"mean": lambda s: s.centers.mean(0)},
        {"mean": lambda s: (there(s) * s.centers).sum(0) / there(s).sum()},
    ),
    Mistake(
        "K03",
        "For the mean you divided by another number than that of all values, or by none.",
        "One part is 2, 2, 2, the other a single 2. What is the mean, and what do you divide by?",
        {"mean_divisor": lambda s: len(s.sizes)},
        {"mean_divisor": lambda s: 1.0},
        {"mean": lambda s: s.weighted / len(s.sizes)},
        {"mean": lambda s: s.weighted},
        {"mean": lambda s: s.centers.sum(0)},
        {"mean": lambda s: s.centers.sum(0) / s.sizes.sum()},
    ),
    Mistake(
        "H52",
        "The distances of the means come into M2 with the wrong weight.",
        "One part is the single number 0, the other 4, 4, 4. How far is each of the four from the mean of all, and what "
        "do the four squares add up to?",
        {"between_weights": lambda s: np.ones_like(s.sizes)},
        {"between": lambda s: Merge.between.compute(s) / s.sizes.sum()},
        {"between_weights": lambda s: s.sizes**2},
        {"between_weights": lambda s: s.sizes.sum() * np.ones_like(s.sizes)},
        {"between": lambda s: Merge.between.compute(s) * s.sizes.sum()},
        {"between": lambda s: Merge.between.compute(s) / len(s.sizes)},
        {"between": lambda s: s.sizes.sum() * s.centers.var(0)},
        {"between": lambda s: s.centers.var(0)},
    ),
    Mistake(
        "N20",
        "You added a distance to M2, not the square of one.",
        "If x is in metres, what is the unit of M2?",
        {"between": lambda s: (s.between_weights * np.abs(s.distance)).sum(0)},
    ),
    Mistake(
        "S13",
        "In M2 you measured how far the means are from another number than the mean of all values.",
        "One part is 0, 0, 0, the other a single 4. From which number are the distances of all four measured?",
        {"distance": lambda s: s.centers - s.centers.mean(0)},
        {"distance": lambda s: s.centers - (there(s) * s.centers).sum(0) / there(s).sum()},
        {"distance": lambda s: s.centers - s.centers[0]},
    ),
    Mistake(
        "F06",
        "You added the squares of the means themselves. M2 measures the spread around the mean of all.",
        "What is M2 of 5, 5, 5, 5, and what is it if you merge two parts of 5, 5?",
        {"distance": lambda s: s.centers},
    ),
    Mistake(
        "H58",
        "The spread within a part is missing in M2, or that within all parts.",
        "One part is 0, 4, the other 0, 4. What is M2 of the four numbers, and what is left of it in your result?",
        {"within": lambda s: 0.0},
        {"within": lambda s: s.squares[0]},
        {"within": lambda s: s.squares[-1]},
    ),
    Mistake(
        "K34",
        "A count of 0 stands below a fraction bar. 0 / 0 is NaN or an error, and a NaN spoils every sum that it enters.",
        "If a part holds no value: which of your divisions has a 0 below the bar?",
        {**spoiled("mean", any_empty), **spoiled("m2", any_empty)},
        spoiled("mean", any_empty),
        spoiled("m2", any_empty),
        {**spoiled("mean", first_empty), **spoiled("m2", first_empty)},
        {**spoiled("mean", last_empty), **spoiled("m2", last_empty)},
        spoiled("mean", first_empty),
        spoiled("m2", first_empty),
        spoiled("mean", last_empty),
        spoiled("m2", last_empty),
    ),
    Mistake(
        "F19",
        "You went by way of Σx² and took n · mean² away from it. With a large mean that subtracts two huge, nearly equal "
        "numbers, and the digits are lost.",
        "How many digits does float32 keep of 10 · 10,000², and how large is M2?",
        {"combined": _by_squares},
    ),
)


def _in_order(steps: tuple[str, str, str]) -> Form:
    """These steps as the count, the mean and M2."""
    return {
        output: lambda s, name=name: getattr(s, name)
        for output, name in zip(("count", "mean", "m2"), steps, strict=True)
    }


RESULT_MISTAKES = (
    Mistake(
        "N15",
        "The count is not the number of all values.",
        "The parts are 1, 2, 3 and 4, 5. How many values are there?",
        {"count": lambda s: float(len(s.sizes))},
        {"count": lambda s: float(s.sizes.max())},
        {"count": lambda s: float(s.sizes.mean())},
        {"count": lambda s: float(s.sizes[0, 0])},
        {"count": lambda s: float(s.sizes[-1, 0])},
        {"count": lambda s: float(s.sizes.sum() - 1)},
        {"count": lambda s: float(s.sizes.prod())},
    ),
    Mistake(
        "N16",
        "M2 is a sum of squares. It is divided only once, by whoever wants a variance at the end; you divided already.",
        "Someone merges your result with a third part. What would your M2 count there?",
        {"m2": lambda s: s.combined / s.sizes.sum()},
        {"m2": lambda s: s.combined / (s.sizes.sum() - 1)},
        {"m2": lambda s: s.combined / len(s.sizes)},
    ),
    Mistake(
        "N06",
        "Your three results are in another order than the exercise wants.",
        "Which of yours comes first, which second, and which third?",
        {"mean": lambda s: s.combined, "m2": lambda s: s.center},
        *map(_in_order, (("center", "combined", "total"), ("center", "total", "combined"))),
        *map(_in_order, (("combined", "center", "total"), ("combined", "total", "center"))),
    ),
)


# Probes


def partials(
    rng: np.random.Generator, counts: list[int], features: int, *, offset: float = 0.0, apart: float = 2.0
) -> dict[str, np.ndarray]:
    """Partial statistics of parts with so many values; an empty part has zeros."""
    count, shape = np.array(counts), (len(counts), features)
    side = rng.choice([-4.0, 4.0], features) if not offset else np.full(features, offset)
    mean = (count[:, None] > 0) * (side + apart * rng.normal(size=shape))
    m2 = np.where(count[:, None] > 1, count[:, None] * rng.uniform(0.5, 4, shape), 0.0)
    return {"counts": count, "means": mean, "m2s": m2}


def in_float32(inputs: Inputs) -> dict[str, object]:
    """The same with all arrays in float32."""
    return {name: v.astype(np.float32) if isinstance(v, np.ndarray) else v for name, v in inputs.items()}


# Properties


def merged(o: dict[str, Outputs], name: str) -> tuple[np.ndarray, ...]:
    return tuple(o[name].values())


def same_results(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> bool:
    return all(a.shape == np.shape(b) and close(a, b) for a, b in zip(one, other, strict=True))


def lies_between(mean: np.ndarray, means: np.ndarray) -> bool:
    slack = 1e-6 * np.abs(means).max()
    return bool(((mean >= means.min(0) - slack) & (mean <= means.max(0) + slack)).all())


def no_nan(o: dict[str, Outputs], i: dict[str, Inputs]) -> bool:
    return all(np.isfinite(value).all() for name in i for value in o[name].values())
