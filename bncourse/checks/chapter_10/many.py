"""Count, mean and M2 of any number of parts of a batch, merged."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from ..chapter_02 import ROUGH, chosen, close, with_forms
from ..exercise import Exercise, Form, Inputs, Mistake, Probe, Property
from .merging import (
    CHAPTER,
    MERGE_MISTAKES,
    RESULT_MISTAKES,
    Merge,
    first_empty,
    in_float32,
    lies_between,
    merged,
    no_nan,
    partials,
    same_results,
    spoiled,
)
from .two import FORMULA_MISTAKES, MergeTwo

# Mistakes


def two_empty(s: Merge) -> bool:
    """Whether the parts begin with two empty ones, so that there is nothing to merge at first."""
    return bool(len(s.counts) > 1 and not s.counts[:2].any())


def _in_a_loop(before: Callable, share: Callable | None = None) -> Callable:
    """The parts merged one after the other; ``before`` says what count was taken for what is merged so far."""

    def in_turn(s: Merge) -> tuple[np.ndarray, np.ndarray]:
        counts, mean, m2 = s.counts, s.centers[0], s.squares[0]
        for i in range(1, len(counts)):
            so_far, distance = before(counts, i), s.centers[i] - mean
            both = so_far + counts[i]
            mean = mean + (share(counts, i) if share else counts[i] / both) * distance
            m2 = m2 + s.squares[i] + so_far * counts[i] / both * distance**2
        return mean, m2

    return in_turn


def _counted_first(share: Callable, weight: Callable, start: int, skips: bool) -> Callable:
    """A loop, from zeros on or from the first part, that adds to the count before it uses it for mean or M2."""

    def in_turn(s: Merge) -> tuple[np.ndarray, np.ndarray]:
        nothing = 0.0, np.zeros(s.means.shape[1]), np.zeros(s.means.shape[1])
        parts = list(zip(s.counts, s.means, s.m2s, strict=True))
        so_far, mean, m2 = parts[0] if start else nothing
        for n, center, squares in parts[start:]:
            if n or not skips:
                so_far, distance = so_far + n, center - mean
                mean = mean + distance * share(so_far, n)
                m2 = m2 + squares + distance**2 * weight(so_far, n)
        return mean, m2

    return in_turn


COUNTED_FIRST = (  # how far the mean moves, the weight of the squared distance, and the first part of the loop
    (lambda so_far, n: n / so_far, lambda so_far, n: so_far * n / (so_far + n), 0),
    (lambda so_far, n: n / so_far, lambda so_far, n: so_far * n / (so_far + n), 1),
    (lambda so_far, n: n / so_far, lambda so_far, n: n, 0),
    (lambda so_far, n: n / (so_far + n), lambda so_far, n: so_far * n / (so_far + n), 0),
    (lambda so_far, n: n / (so_far + n), lambda so_far, n: so_far * n / (so_far + n), 1),
)


def _moved_first(s: Merge, weight: Callable) -> np.ndarray:
    """M2 of a loop that moves the mean before it measures the distance from it."""
    so_far, mean, m2 = 0.0, np.zeros(s.means.shape[1]), np.zeros(s.means.shape[1])
    for n, center, squares in zip(s.counts, s.means, s.m2s, strict=True):
        mean = mean + (center - mean) * (n / (so_far + n) if n else 0.0)
        m2 = m2 + squares + weight(so_far, n) * (center - mean) ** 2
        so_far += n
    return m2


def _looped(in_turn: Callable, **more: Callable) -> Form:
    return {"center": lambda s: in_turn(s)[0], "combined": lambda s: in_turn(s)[1], **more}


def _pair_by_pair(form: Form, skips: bool) -> Form:
    """The parts merged one after the other by a merge of two that is wrong; empty parts are skipped, or two such."""

    def in_turn(s: Merge) -> tuple[np.ndarray, np.ndarray]:
        parts = zip(s.counts[s.parts], s.centers, s.squares, strict=True)
        merged, *others = (part for part in parts if part[0] or not skips)
        for part in others:
            if merged[0] + part[0]:
                names = (f"{name}_{side}" for side in "ab" for name in ("count", "mean", "m2"))
                inputs = dict(zip(names, (*merged, *part), strict=True))
                merged = tuple(MergeTwo.run(inputs, form).values())
        return merged[1:]

    return _looped(in_turn)


def _of_pairs(id: str) -> tuple[Form, ...]:
    """The forms of a mistake in the merge of two, in a loop."""
    (mistake,) = chosen(FORMULA_MISTAKES, id)
    return tuple(_pair_by_pair(form, skips) for form in mistake.forms for skips in (True, False))


def _in_pairs_too(mistake: Mistake) -> Mistake:
    forms = _of_pairs(mistake.id) if mistake.id in ("K05", "K06", "H52", "N20", "N16") else ()
    return Mistake(mistake.id, mistake.says, mistake.asks, *mistake.forms, *forms)


PAIR_MISTAKES = tuple(
    Mistake(mistake.id, mistake.says, mistake.asks, *_of_pairs(mistake.id))
    for mistake in chosen(FORMULA_MISTAKES, "S12", "N17")
)


def _zero_if_none(name: str) -> Callable:
    """A result of a loop that starts with zeros, and merges nothing if no part is left."""
    return lambda s: getattr(Merge, name).compute(s) if s.sizes.sum() else np.zeros(s.means.shape[1])


MISSING = {"mean": _zero_if_none("mean"), "m2": _zero_if_none("m2")}

SHAPE_MISTAKES = (
    Mistake(
        "S17",
        "The counts, of shape (k,), line up with the features instead of the parts.",
        "With which axis of (k, C) does NumPy align an array of shape (k,), and with which one of shape (k, 1)?",
        {"sizes": lambda s: s.counts[None, s.parts]},
        {"weights": lambda s: s.counts[None, s.parts]},
        {"between_weights": lambda s: s.counts[None, s.parts]},
    ),
    Mistake(
        "S18",
        "You added up over the features, too, or instead of the parts.",
        "Which axis of (k, C) must remain in the mean?",
        {"axis": lambda s: None},
        {"axis": lambda s: 1},
        {"weighted": lambda s: (s.weights * s.centers).sum()},
        {"mean": lambda s: s.weighted.sum() / s.mean_divisor},
        {"within": lambda s: s.squares.sum()},
        {"between": lambda s: (s.between_weights * s.distance**2).sum()},
        {"combined": lambda s: s.squares.sum() + (s.between_weights * s.distance**2).sum()},
    ),
)

LOOP = Mistake(
    "S14",
    "In your loop, what is merged so far has the wrong count.",
    "Parts of 2, 3 and 4 values: how many values has the left side when the third part comes?",
    _looped(_in_a_loop(lambda counts, i: counts[i - 1])),
    _looped(_in_a_loop(lambda counts, i: counts[0])),
    _looped(_in_a_loop(lambda counts, i: counts[0]), count=lambda s: float(s.counts[0] + s.counts[-1])),
    _looped(_in_a_loop(lambda counts, i: 1.0)),
    _looped(_in_a_loop(lambda counts, i: float(i))),
    *(_looped(_counted_first(*how, skips)) for how, skips in product(COUNTED_FIRST, (True, False))),
    _looped(_counted_first(lambda so_far, n: n / so_far, lambda so_far, n: n, 1, False)),  # True: a form of H52
)

MOVED = Mistake(
    "S38",
    "In your loop the distance for M2 is measured from the mean that has moved already.",
    "What is merged so far has the mean 0, the next part 4. Which two means does a merge compare, and is the first still "
    "there when you subtract?",
    {"combined": lambda s: _moved_first(s, lambda so_far, n: so_far * n / (so_far + n) if n else 0.0)},
    {"combined": lambda s: _moved_first(s, lambda so_far, n: n)},
)

MANY_MISTAKES = (
    *with_forms(
        with_forms(
            tuple(map(_in_pairs_too, MERGE_MISTAKES)),
            "K06",
            _looped(_in_a_loop(lambda counts, i: counts[:i].sum(), lambda counts, i: 0.5)),
            _looped(_in_a_loop(lambda counts, i: counts[:i].sum(), lambda counts, i: 1 / (i + 1))),
        ),
        "K34",
        {**spoiled("mean", two_empty), **spoiled("m2", two_empty)},
    ),
    LOOP,
    MOVED,
    *SHAPE_MISTAKES,
    Mistake(
        "S37",
        "A part is in your result twice.",
        "With which part does your loop begin, and is it there before?",
        {"parts": lambda s: [0, *range(len(s.counts))]},
        {
            "parts": lambda s: [0, *range(len(s.counts))],
            **spoiled("mean", first_empty),
            **spoiled("m2", first_empty),
        },
        {"parts": lambda s: [*range(len(s.counts)), -1]},
    ),
    Mistake(
        "S16",
        "Your result is not that of all parts: one is missing, or several are.",
        "Which parts does your loop meet, and is the return behind it?",
        {"parts": lambda s: slice(0, -1), **MISSING},
        {"parts": lambda s: slice(0, 1)},
        {"parts": lambda s: slice(1, None), **MISSING},
        {"parts": lambda s: slice(-1, None)},
        {"parts": lambda s: slice(0, 2)},
        {"parts": lambda s: slice(0, -1)},
        {"parts": lambda s: slice(1, None)},
        {"parts": lambda s: slice(0, max(len(s.counts) - 1, 1))},
        {"parts": lambda s: s.counts.nonzero()[0][:1]},
        {"parts": lambda s: np.cumprod(s.counts > 0).astype(bool), **MISSING},
    ),
    *PAIR_MISTAKES,
    *map(_in_pairs_too, RESULT_MISTAKES),
)


# Probes


def with_float_counts(inputs: Inputs) -> dict[str, object]:
    """The same with counts that are floats."""
    return {**inputs, "counts": inputs["counts"].astype(float)}


def many_probes(seed: int) -> tuple[Probe, ...]:
    """Parts of all kinds."""
    rng = np.random.default_rng(seed)
    far = in_float32(partials(rng, [8, 3, 6], 4, offset=1e4, apart=1.0))
    return (
        Probe("plain", "3 parts of 5, 3 and 9 values, 4 features.", partials(rng, [5, 3, 9], 4)),
        Probe(
            "square",
            "as many features as parts, so that shapes fit which should not.",
            with_float_counts(partials(rng, [6, 2, 9, 4], 4)),
        ),
        Probe("apart", "means that lie far apart.", partials(rng, [7, 11, 2, 5], 2, apart=30.0)),
        Probe("empty last", "a last part without any value.", partials(rng, [5, 9, 4, 0], 3)),
        Probe("empty first", "a first part without any value.", with_float_counts(partials(rng, [0, 7, 3], 2))),
        Probe("two empty", "two parts without a value at the beginning.", partials(rng, [0, 0, 6, 3, 8], 3)),
        Probe("single", "a single part.", partials(rng, [9], 3)),
        Probe("ones", "parts of one value each.", partials(rng, [1, 1, 1, 1, 1, 1], 3)),
        Probe("offset", "float32 statistics of parts with a mean of 10,000 and a spread of about 1.", far, **ROUGH),
    )


def fresh_partials(rng: np.random.Generator) -> dict[str, object]:
    """Three to six parts, one of them empty."""
    counts = [*map(int, rng.integers(2, 20, rng.integers(2, 6))), 0]
    return partials(rng, [int(n) for n in rng.permutation(counts)], int(rng.integers(2, 5)))


# Properties

MANY_PROPERTIES = (
    Property(
        "the count is the number of all values.",
        lambda o, i: all(close(o[n]["count"], i[n]["counts"].sum()) for n in i),
    ),
    Property("no result is NaN.", no_nan),
    Property(
        "a single part comes back as it is.",
        lambda o, i: same_results(
            merged(o, "single"), tuple(i["single"][name][0] for name in ("counts", "means", "m2s"))
        ),
    ),
    Property(
        "the mean lies between the smallest and the largest mean.",
        lambda o, i: lies_between(o["plain"]["mean"], i["plain"]["means"]),
    ),
    Property(
        "M2 is not smaller than those of the parts together.",
        lambda o, i: bool((o["plain"]["m2"] >= i["plain"]["m2s"].sum(0) - 1e-6).all()),
    ),
    Property(
        "parts of one value each give that number times the variance of these values.",
        lambda o, i: close(o["ones"]["m2"], len(i["ones"]["means"]) * i["ones"]["means"].var(0)),
    ),
)


MANY = Exercise(
    id="merge_many",
    chapter=CHAPTER,
    signature="(counts, means, m2s) -> (count, mean, m2), counts of shape (k,), means and m2s of shape (k, C)",
    operation=Merge,
    probes=many_probes(101),
    fresh=fresh_partials,
    mistakes=MANY_MISTAKES,
    properties=MANY_PROPERTIES,
    hints=(
        "You can merge two. What does a loop need that takes one part after the other? Or write it at once, without a loop.",
        "At once: each mean has its count as weight. Which shape must the counts have to meet (k, C) row by row?",
        (
            "Three sums over the parts: of the counts, of n · mean, and of M2 + n · (distance of the mean from that of "
            "all)². Only one of them is divided by anything."
        ),
    ),
    changing=dict.fromkeys(("counts", "means", "m2s"), "F24"),
    channels=-1,
)
