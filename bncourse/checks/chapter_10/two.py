"""Count, mean and M2 of two parts of a batch, merged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..chapter_02 import ROUGH, close
from ..exercise import Exercise, Form, Inputs, Mistake, Probe, Property, step
from .merging import (
    CHAPTER,
    MERGE_MISTAKES,
    RESULT_MISTAKES,
    Merge,
    any_empty,
    first_empty,
    in_float32,
    last_empty,
    lies_between,
    merged,
    no_nan,
    partials,
    same_results,
)


class MergeTwo(Merge):
    """The same for two parts, a and b."""

    @step
    def counts(s):
        return np.array([s.count_a, s.count_b], float)

    @step
    def means(s):
        return np.stack([s.mean_a, s.mean_b])

    @step
    def m2s(s):
        return np.stack([s.m2_a, s.m2_b])

    @step
    def step_sign(s):
        """Of the step from one mean towards the other."""
        return 1.0

    @step
    def share(s):
        """How far that step goes from the mean of a."""
        return s.weights[1] / s.mean_divisor

    @step
    def difference(s):
        return s.centers[1] - s.centers[0]

    @step
    def center(s):
        return s.centers[0] + s.step_sign * s.share * s.difference


# Mistakes


def _nothing_if_empty(name: str) -> Callable:
    """0 where a part is empty."""
    return lambda s: getattr(Merge, name).compute(s) * float(not any_empty(s))


def _refuse(where: Callable) -> Form:
    """Python's division of a number by 0."""

    def divide(s: Merge) -> np.ndarray:
        if where(s):
            raise ZeroDivisionError
        return s.combined

    return {"m2": divide}


def _times_square(weight: Callable) -> Form:
    """The squared distance of the two means with some weight."""
    return {"between": lambda s: weight(*s.counts) * s.difference**2}


MORE_FORMS: dict[str, tuple[Form, ...]] = {
    "H52": tuple(
        map(
            _times_square,
            (
                lambda a, b: 1.0,
                lambda a, b: 0.5,
                lambda a, b: a + b,
                lambda a, b: a,
                lambda a, b: b,
                lambda a, b: a / (a + b),
                lambda a, b: b / (a + b),
                lambda a, b: a * b / (a + b - 1),
                lambda a, b: (a * b / (a + b)) ** 2,
                lambda a, b: (a + b) / 2,
            ),
        )
    ),
    "N20": (
        {"between": lambda s: s.counts.prod() / s.counts.sum() * s.difference},
        {"between": lambda s: s.counts.prod() / s.counts.sum() * np.abs(s.difference)},
    ),
    "K03": ({"center": lambda s: s.weighted / 2}, {"center": lambda s: s.weighted}),
    "K34": (_refuse(any_empty), _refuse(first_empty), _refuse(last_empty)),
}


def _unless_empty(form: Form) -> Form:
    """The same by somebody who returns the other part at once if one is empty."""

    def result(name: str) -> Callable:
        return lambda s: MergeTwo.run(s.inputs, {} if any_empty(s) else form)[name]

    return {name: result(name) for name in ("mean", "m2")}


EMPTY_RETURNED = ("K05", "H52", "N20", "K03", "S12", "N17", "F38", "N16")  # these spoil a merge with nothing, too


def _with_empty_returned(mistake: Mistake) -> Mistake:
    forms = MORE_FORMS.get(mistake.id, mistake.forms) if mistake.id in EMPTY_RETURNED else ()
    return Mistake(mistake.id, mistake.says, mistake.asks, *mistake.forms, *map(_unless_empty, forms))


def _of_two(mistake: Mistake) -> Mistake:
    """The mistake with the forms that it has with two parts; most of S13 is a wrong weight there, H52."""
    forms = mistake.forms[1:2] if mistake.id == "S13" else mistake.forms
    return Mistake(mistake.id, mistake.says, mistake.asks, *forms, *MORE_FORMS.get(mistake.id, ()))


FORMULA_MISTAKES = (
    *map(_of_two, MERGE_MISTAKES),
    Mistake(
        "S12",
        "Each of the two means has the weight of the other.",
        "One part is 0, 0, 0, the other a single 4. Which of the two is the mean of all nearer to?",
        {"share": lambda s: 1 - MergeTwo.share.compute(s)},
        {"mean": lambda s: s.centers[0] + (1 - s.share) * s.difference},
    ),
    Mistake(
        "S15",
        "In M2 you measured the distance of one part from the mean of all, and forgot the other part.",
        "The mean of one part moves to the mean of all. Does that of the other part stay where it was?",
        {"between": lambda s: s.counts[1] * s.distance[1] ** 2},
        {"between": lambda s: s.counts[0] * s.distance[0] ** 2},
    ),
    Mistake(
        "S38",
        "In M2 the weight is that of the distance between the two means, and the distance is another one: from the mean of "
        "all.",
        "One part is the single number 0, the other a single 4. How far are the two means from each other, and how far is "
        "each from the mean of both?",
        {"between": lambda s: s.counts.prod() / s.counts.sum() * s.distance[1] ** 2},
        {"between": lambda s: s.counts.prod() / s.counts.sum() * s.distance[0] ** 2},
    ),
    Mistake(
        "F38",
        "Only one of the two terms of the mean is divided: parentheses are missing.",
        "In which order does Python compute a + b / n?",
        {"center": lambda s: s.sizes[0] * s.centers[0] + s.sizes[1] * s.centers[1] / s.total},
        {"mean": lambda s: s.sizes[0] * s.centers[0] + s.sizes[1] * s.centers[1] / s.total},
        {"center": lambda s: s.centers[0] + s.difference * s.sizes[1] / s.sizes[0] + s.sizes[1]},
    ),
    Mistake(
        "S18",
        "You averaged or added up over the features. Each has a mean and an M2 of its own.",
        "How many numbers hold the mean of a part, and how many that of all?",
        {"center": lambda s: s.weighted.mean() / s.mean_divisor},
        {"mean": lambda s: s.center.mean()},
        {"m2": lambda s: s.combined.sum()},
    ),
    Mistake(
        "S35",
        "If one of the parts is empty, your result is empty, too. The other part is lost.",
        "Seven values are joined by none. How many are there then, and what is their mean?",
        {name: _nothing_if_empty(name) for name in MergeTwo.outputs},
    ),
    Mistake(
        "N17",
        "Your mean moves away from the second part: the step has the wrong sign.",
        "Between which two numbers does the mean of both parts lie?",
        {"step_sign": lambda s: -1.0},
        {"mean": lambda s: s.centers[0] - s.share * s.difference},
    ),
    Mistake(
        "N18",
        "The mean or M2 came back as it is in one of the parts.",
        "Which of your lines uses both means, and which both M2?",
        {"mean": lambda s: s.centers[0]},
        {"mean": lambda s: s.centers[1]},
        {"m2": lambda s: s.squares[0]},
        {"m2": lambda s: s.squares[1]},
    ),
    *RESULT_MISTAKES,
)

TWO_MISTAKES = tuple(map(_with_empty_returned, FORMULA_MISTAKES))


# Probes


def _two(inputs: Inputs, number: type = int) -> dict[str, object]:
    """The arguments for two parts."""
    parts = zip(inputs["counts"], inputs["means"], inputs["m2s"], strict=True)
    named = {side: (number(count), mean, m2) for side, (count, mean, m2) in zip("ab", parts, strict=True)}
    return {
        f"{name}_{side}": np.array(v) if isinstance(v, np.ndarray) else v
        for side, values in named.items()
        for name, v in zip(("count", "mean", "m2"), values, strict=True)
    }


def _swapped(inputs: Inputs) -> dict[str, object]:
    """The same with the parts in the other order."""
    return {name: inputs[f"{name[:-1]}{'b' if name[-1] == 'a' else 'a'}"] for name in inputs}


def _two_probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    plain = _two(partials(rng, [5, 3], 3))
    far = in_float32(_two(partials(rng, [6, 4], 3, offset=1e4, apart=1.0)))
    return (
        Probe("plain", "parts of 5 and 3 values, 3 features.", plain),
        Probe("swapped", "the same two parts in the other order.", _swapped(plain)),
        Probe("unequal", "parts of 2 and 40 values.", _two(partials(rng, [2, 40], 4))),
        Probe("one", "a single value joins 9 others.", _two(partials(rng, [9, 1], 2))),
        Probe("apart", "means that lie far apart.", _two(partials(rng, [7, 11], 3, apart=30.0))),
        Probe("empty first", "a first part without any value.", _two(partials(rng, [0, 7], 3))),
        Probe("empty second", "a second part without any value.", _two(partials(rng, [4, 0], 3), float)),
        Probe("offset", "float32 statistics of parts with a mean of 10,000 and a spread of about 1.", far, **ROUGH),
    )


# Properties


def _part(inputs: Inputs, side: str) -> tuple[np.ndarray, ...]:
    return tuple(inputs[f"{name}_{side}"] for name in ("count", "mean", "m2"))


TWO_PROPERTIES = (
    Property(
        "the count is the number of values of both parts.",
        lambda o, i: all(close(o[n]["count"], i[n]["count_a"] + i[n]["count_b"]) for n in i),
    ),
    Property("no result is NaN.", no_nan),
    Property(
        "the order of the two parts changes nothing.",
        lambda o, i: same_results(merged(o, "plain"), merged(o, "swapped")),
    ),
    Property(
        "an empty part changes nothing.",
        lambda o, i: (
            same_results(merged(o, "empty first"), _part(i["empty first"], "b"))
            and same_results(merged(o, "empty second"), _part(i["empty second"], "a"))
        ),
    ),
    Property(
        "the mean lies between the two means.",
        lambda o, i: lies_between(o["plain"]["mean"], np.stack([i["plain"]["mean_a"], i["plain"]["mean_b"]])),
    ),
    Property(
        "M2 is not smaller than those of the parts together.",
        lambda o, i: bool((o["plain"]["m2"] >= i["plain"]["m2_a"] + i["plain"]["m2_b"] - 1e-6).all()),
    ),
)


TWO = Exercise(
    id="merge_statistics",
    chapter=CHAPTER,
    signature="(count_a, mean_a, m2_a, count_b, mean_b, m2_b) -> (count, mean, m2), mean and M2 of shape (C,)",
    operation=MergeTwo,
    probes=_two_probes(100),
    fresh=lambda rng: _two(partials(rng, [int(n) for n in rng.integers(1, 20, 2)], int(rng.integers(2, 6)))),
    mistakes=TWO_MISTAKES,
    properties=TWO_PROPERTIES,
    hints=(
        (
            "How many values are there? Whoever knows the sum of each part knows the mean of all. How do you get a sum from a "
            "count and a mean?"
        ),
        (
            "M2 measures the distances from the mean of the part. Now they have to be measured from the mean of all. "
            "By how much does that raise the sum of n squares?"
        ),
        (
            "Σ (x − c)² = M2 + n · (mean − c)², for the n values of a part and any number c. Take the mean of all for c. "
            "Is there a division that an empty part spoils?"
        ),
    ),
    changing=dict.fromkeys(("mean_a", "m2_a", "mean_b", "m2_b"), "F24"),
    channels=-1,
)
