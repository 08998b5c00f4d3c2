"""Mean and variance in one pass over blocks of samples; x is an array that notes how it is read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..chapter_02 import ROUGH, STATISTICS_MISTAKES, close, own
from ..exercise import Exercise, Form, Inputs, Mistake, Operation, Probe, Property, step
from ..observe import Unusable, a
from ..torch_answers import build

DIGITS = {"rtol": 1e-3, "floor": 1e-3}  # float64 with a mean of 10⁸: a right answer keeps seven digits
NONE_IN_FLOAT32 = 1e7  # a mean beside which float32 has no digits left for a spread of 1

# Statistics in blocks


class Blocked(Operation):
    """Mean and biased variance of every channel of (N, C, L), from blocks of samples; and how x was read.

    The last two outputs are 1 for yes and 0 for no.
    """

    outputs = ("mean", "var", "at_most_a_block_at_once", "each_block_once")

    def __init__(self, inputs: Inputs, replaced: Form, dtype: type):
        far = np.abs(inputs["x"]).max() > NONE_IN_FLOAT32
        super().__init__(inputs, replaced, np.float64 if far else dtype)

    @step
    def parts(s):
        return _parts(s)

    @step
    def axes(s):
        """The axes of a block whose values share a mean."""
        return (0, 2)

    @step
    def empty(s):
        """What stands for the means of the blocks if there are none."""
        return np.zeros((0, s.x.shape[1]))

    @step
    def counts(s):
        """How many values of a channel each block holds."""
        return np.array([part.size // part.shape[1] for part in s.parts]).reshape(-1, 1)

    @step
    def means(s):
        """The mean of each block."""
        return np.array([part.mean(s.axes) for part in s.parts]) if s.parts else s.empty

    @step
    def weights(s):
        """What each block counts in the mean."""
        return s.counts

    @step
    def weighed(s):
        return (s.weights * s.means).sum(0) / s.weights.sum()

    @step
    def inner(s):
        """The sum of the squared distances from the mean of the same block."""
        return _by_block(s, lambda part: ((part - part.mean(s.axes, keepdims=True)) ** 2).sum(s.axes)).sum(0)

    @step
    def between(s):
        """The same of the means from the mean of all."""
        return (s.counts * (s.means - s.weighed) ** 2).sum(0)

    @step
    def divisor(s):
        return s.counts.sum()

    @step
    def spread(s):
        return (s.inner + s.between) / s.divisor

    @step
    def mean(s):
        return s.weighed

    @step
    def var(s):
        return s.spread

    @step
    def at_most_a_block_at_once(s):
        return 1.0

    @step
    def each_block_once(s):
        return 1.0


def _parts(s: Blocked, end: int | None = None) -> list[np.ndarray]:
    """The blocks that begin before ``end``."""
    return [s.x[i : i + s.block] for i in range(0, len(s.x) if end is None else end, s.block)]


def _by_block(s: Blocked, statistic: Callable) -> np.ndarray:
    """A statistic of each block."""
    return np.array([statistic(part) for part in s.parts]) if s.parts else np.zeros((0, s.x.shape[1]))


def _variances(s: Blocked, ddof: int = 0) -> np.ndarray:
    return _by_block(s, lambda part: part.var(s.axes, ddof=ddof))


def _sequential(s: Blocked, add: Callable) -> np.ndarray:
    """The sum of what each block adds: ``add`` gets the values before, those of the block and the squared distance."""
    total, mean, count = np.zeros(s.x.shape[1]), s.means[0], s.counts[0, 0]
    for more, center in zip(s.counts[1:, 0], s.means[1:], strict=True):
        total = total + add(count, more, (center - mean) ** 2)
        mean = mean + (center - mean) * more / (count + more)
        count = count + more
    return total


def _from_new_mean(count: int, more: int, square: np.ndarray) -> np.ndarray:
    """What a block adds, measured from the mean that it has moved already."""
    return more * square * (count / (count + more)) ** 2


def _of_moved_mean(count: int, more: int, square: np.ndarray) -> np.ndarray:
    """The term for two means, with the distance from the mean that has moved already."""
    return count * more / (count + more) * square * (count / (count + more)) ** 2


def _halving(values: np.ndarray) -> np.ndarray:
    """Every value averaged with what came before."""
    return functools.reduce(lambda before, value: (before + value) / 2, values)


def _shortcut(s: Blocked, dtype: type | None = None) -> np.ndarray:
    """E[x²] − E[x]² in ``dtype``, if given, or that of the input."""
    x = np.concatenate(s.parts).astype(dtype or s.inputs["x"].dtype)
    return (x**2).mean(s.axes) - x.mean(s.axes) ** 2


def _refuse(s: Blocked) -> np.ndarray:
    raise ZeroDivisionError


def _without_last(parts: Callable) -> tuple[Form, ...]:
    """Some blocks, and what people have if there are none: NaN, an error, one NaN for all, or a mean of 0."""
    some = {"parts": parts}
    one_nan = {"weighed": lambda s: Blocked.weighed.compute(s) if s.parts else np.nan}
    nothing = {"weighed": lambda s: Blocked.weighed.compute(s) if s.parts else np.zeros(s.x.shape[1])}
    both_nan = one_nan | {"var": lambda s: s.spread if s.parts else np.nan}
    of_all = {
        "weighed": lambda s: (s.counts * s.means).sum(0) / (s.x.size // s.x.shape[1]),
        "divisor": lambda s: s.x.size // s.x.shape[1],
    }
    return some, some | {"empty": _refuse}, some | both_nan, some | nothing, some | of_all


def _blocks(s: Blocked) -> int:
    """How many blocks there are."""
    return -(-len(s.x) // s.block)


def _whole_number_of_blocks(s: Blocked) -> float:
    """Whether N // block blocks, about equally long, are none too long."""
    return float(len(s.x) % s.block == 0 or len(s.x) < s.block)


UNWEIGHTED = {"weights": lambda s: np.ones_like(s.counts)}

BLOCK_MISTAKES = (
    Mistake(
        "K06",
        "You averaged the means of the blocks as if all blocks were equally long. The last one may be shorter.",
        "One block is 0, 0, 0, the other 4. What is the mean of the four numbers?",
        UNWEIGHTED,
        UNWEIGHTED | {"spread": lambda s: _variances(s).mean(0) + s.means.var(0)},
        {"mean": lambda s: s.means.mean(0)},
        {"weighed": lambda s: _halving(s.means)},
        {"weighed": lambda s: _halving(s.means), "spread": lambda s: _halving(_variances(s))},
        {"spread": lambda s: _variances(s).mean(0) + s.means.var(0)},
    ),
    Mistake(
        "K04",
        "You left out how far the means of the blocks lie apart.",
        "One block is 0, 0, the other 4, 4. What is the variance of the four numbers, and what is it within each block?",
        {"between": lambda s: 0.0},
        {"spread": lambda s: _variances(s).mean(0)},
    ),
    Mistake(
        "H50",
        "Samples at the end are missing: the last block, or the last one if it is shorter.",
        "For 10 samples in blocks of 4, where does each of your blocks begin and end?",
        *_without_last(lambda s: _parts(s, len(s.x) // s.block * s.block)),
        *_without_last(lambda s: _parts(s, len(s.x) - s.block)),
        {"parts": lambda s: _parts(s, len(s.x) - 1)},
    ),
    Mistake(
        "H49",
        "Your blocks overlap: some samples count more than once.",
        "For 10 samples in blocks of 4, where does each of your blocks begin and end?",
        {"parts": lambda s: [s.x[i : i + s.block] for i in range(len(s.x))]},
        {"parts": lambda s: [s.x[k : k + s.block] for k in range(_blocks(s))]},
        {"parts": lambda s: [s.x[i : i + s.block + 1] for i in range(0, len(s.x), s.block)]},
    ),
    Mistake(
        "H51",
        "Only one block is left in your result.",
        "What happens to the first block when your loop comes to the second?",
        {"parts": lambda s: _parts(s)[:1]},
        {"parts": lambda s: _parts(s)[-1:]},
    ),
    Mistake(
        "H52",
        "What two blocks add to each other's spread has the wrong weight.",
        "One block is the single number 0, the other 4, 4, 4. How far is each of the four from the mean of all?",
        {"between": lambda s: ((s.means - s.weighed) ** 2).sum(0)},
        {"between": lambda s: Blocked.between.compute(s) / s.x.shape[2]},
        {"between": lambda s: _sequential(s, lambda count, more, square: more * square)},
        {
            "between": lambda s: (
                _sequential(s, lambda count, more, square: more * square) + s.counts[0] * s.means[0] ** 2
            )
        },
        {"between": lambda s: _sequential(s, _from_new_mean)},
        {"between": lambda s: _sequential(s, _of_moved_mean)},
        {"between": lambda s: _sequential(s, lambda count, more, square: count * square)},
        {"between": lambda s: _sequential(s, lambda count, more, square: count * more * square)},
        {"between": lambda s: _sequential(s, lambda count, more, square: square)},
        {"between": lambda s: _sequential(s, lambda count, more, square: square / (count + more))},
        {"between": lambda s: -Blocked.between.compute(s)},
        {"spread": lambda s: (s.counts * _variances(s)).sum(0) / s.divisor + s.means.var(0)},
    ),
    Mistake(
        "K05",
        "A variance stands where a sum of squared distances belongs.",
        "A block of 8 values has the variance 2. What is the sum of their squared distances?",
        {"inner": lambda s: _variances(s).sum(0)},
    ),
    Mistake(
        "H58",
        "You left out the spread within the blocks.",
        "One block is 0, 4, the other 0, 4. What is the variance of the four numbers, and what is that of the means?",
        {"inner": lambda s: 0.0},
        {"spread": lambda s: s.means.var(0)},
    ),
    Mistake(
        "H59",
        "Where the blocks fit without a remainder, an empty one comes on top, and its mean is NaN.",
        "For 12 samples in blocks of 3: how many blocks does your code make?",
        {"weighed": lambda s: Blocked.weighed.compute(s) + (np.nan if len(s.x) % s.block == 0 else 0)},
    ),
    Mistake(
        "H53",
        "You counted the last block as a full one.",
        "For 10 samples in blocks of 4, how many are in the last block?",
        {
            "counts": lambda s: np.full((len(s.parts), 1), s.block * s.x.shape[2]),
            "spread": Blocked.spread.compute,  # with one that needs no counts it would be K06
            **UNWEIGHTED,
        },
        {"weighed": lambda s: s.means.sum(0) * s.block / len(s.x)},
        {"divisor": lambda s: len(s.parts) * s.block * s.x.shape[2]},
        {
            "weighed": lambda s: (s.counts * s.means).sum(0) / (len(s.parts) * s.block * s.x.shape[2]),
            "divisor": lambda s: len(s.parts) * s.block * s.x.shape[2],
        },
    ),
    Mistake(
        "H54",
        "A block that is not full spoils your result: its missing samples count as zeros, or it holds samples of the "
        "block before.",
        "Which samples does your last block hold, for 10 samples in blocks of 4?",
        {"parts": lambda s: [*_parts(s)[:-1], np.concatenate([_parts(s)[-1], np.zeros(_missing(s))])]},
        {"parts": lambda s: [*_parts(s)[:-1], s.x[-s.block :]]},
    ),
    own(
        STATISTICS_MISTAKES,
        "F01",
        {"divisor": lambda s: s.counts.sum() - 1},
        {"inner": lambda s: (s.counts * _variances(s, 1)).sum(0)},
        asks="What should the variance of 1 and 3 be, and by what did you divide?",
    ),
    Mistake(
        "F19",
        "You computed the variance as mean(x²) − mean(x)². With a large mean that subtracts two huge, nearly equal "
        "numbers, and the digits are lost, in float64 as well as in float32. (They are lost, too, where float64 becomes "
        "float32 on the way.)",
        "How many digits does float32 keep of the square of 10,000, and float64 of the square of 100,000,000?",
        {"spread": _shortcut},
        {"spread": lambda s: _shortcut(s, np.float64)},
    ),
    own(
        STATISTICS_MISTAKES,
        "F37",
        {"divisor": lambda s: 1},
    ),
    Mistake(
        "F35",
        "You returned the standard deviation, not the variance.",
        "If x is in metres, what is the unit of your result?",
        {"var": lambda s: np.sqrt(s.spread)},
    ),
    Mistake(
        "N06",
        "You swapped the mean and the variance.",
        "In which order does the exercise want them?",
        {"mean": lambda s: s.spread, "var": lambda s: s.weighed},
    ),
    Mistake(
        "C09",
        "You divided by the number of samples or of positions. A channel has N · L values.",
        "How many values does one channel of an input of the shape (10, 3, 4) have?",
        {"divisor": lambda s: len(s.x)},
        {"divisor": lambda s: s.x.size},
        {"weighed": lambda s: (s.counts * s.means).sum(0) / len(s.x), "divisor": lambda s: len(s.x)},
        {"weighed": lambda s: (s.counts * s.means).sum(0) / len(s.x)},
        {"mean": lambda s: (s.counts * s.means).sum(0) / len(s.x)},
    ),
    Mistake(
        "C10",
        "Every position has statistics of its own. All positions of a channel share them.",
        "How many means does an input of the shape (10, 3, 4) have?",
        {"axes": lambda s: (0,), "counts": lambda s: np.array([len(part) for part in s.parts])[:, None, None]},
    ),
    Mistake(
        "C18",
        "You took the last axis for the channels. Here the channels are on axis 1.",
        "Which axes does the mean of a block of the shape (4, 3, 5) go over?",
        {"axes": lambda s: (0, 1)},
        {
            "axes": lambda s: (0, 1),
            "counts": lambda s: np.array([[part.size // part.shape[2]] for part in s.parts]),
        },
    ),
    own(
        STATISTICS_MISTAKES,
        "C17",
        {"weighed": lambda s: np.concatenate(s.parts).mean(), "spread": lambda s: np.concatenate(s.parts).var()},
    ),
    Mistake(
        "H55",
        "A line of yours works on more than block samples at once, such as a mean or a conversion of all of x, or "
        "blocks along another axis.",
        "Which of your lines sees x itself, and not a block of it?",
        {"at_most_a_block_at_once": lambda s: float(len(s.x) <= s.block)},
        {"at_most_a_block_at_once": _whole_number_of_blocks},
        {"at_most_a_block_at_once": lambda s: _whole_number_of_blocks(s) if s.block <= len(s.x) else _refuse(s)},
    ),
    Mistake(
        "H56",
        "You took block for the number of blocks. It is the number of samples in a block.",
        "For 10 samples and block = 4, how long are your blocks?",
        {"at_most_a_block_at_once": lambda s: float(-(-len(s.x) // s.block) <= s.block)},
        {
            "at_most_a_block_at_once": lambda s: float(-(-len(s.x) // s.block) <= s.block),
            "weighed": lambda s: np.where(len(s.x) < s.block, np.nan, Blocked.weighed.compute(s)),
        },
    ),
    Mistake(
        "H57",
        "You come back to blocks that you have read before. By then they have left the cache and are read from memory "
        "again. All that you need of a block has to be taken while it is there.",
        "In which order does your code read the blocks, from its first line to its last?",
        {"each_block_once": lambda s: float(_blocks(s) < 3)},
    ),
)


def _missing(s: Blocked) -> tuple[int, ...]:
    """The shape of what the last block lacks."""
    return (_blocks(s) * s.block - len(s.x), *s.x.shape[1:])


class _Reading:
    """Which values of x were read, event by event."""

    def __init__(self, x: np.ndarray):
        self.x = x
        self.places = np.arange(x.size, dtype=f"i{x.itemsize}").reshape(x.shape)  # each value says where it stands
        self.events: list[frozenset[int]] = []
        self.most = 0

    def seen(self, array: object) -> np.ndarray | None:
        """The places of the values of an array that shows a part of x; else None."""
        inside = isinstance(array, np.ndarray) and array.size and array.itemsize == self.x.itemsize
        if not (inside and np.may_share_memory(array, self.x)):
            return None
        first = (_address(array) - _address(self.x)) // self.x.itemsize
        return as_strided(self.places.ravel()[first:], array.shape, array.strides)

    def note(self, *operands: object, joined: bool = False) -> None:
        """One event: operands that are read together, or ``joined`` to one array."""
        places = [each.ravel() for each in map(self.seen, operands) if each is not None]
        self.record(*([np.concatenate(places)] if joined and places else places))

    def record(self, *places: np.ndarray) -> None:
        """One event, by the places of each operand."""
        if places:
            self.most = max(self.most, *(len(np.unique(each // self.x[0].size)) for each in places))
            self.events.append(frozenset(np.concatenate(places).tolist()))

    def came_back(self, length: int) -> float:
        """To which share of all pieces of so many values the reading came more than once, from elsewhere."""
        times, before = np.zeros(-(-self.x.size // length), int), frozenset()
        for event in self.events:
            now = frozenset(place // length for place in event)
            times[list(now - before)] += 1
            before = now
        return float((times > 1).mean())

    def each_block_once(self, block: int) -> bool:
        """Whether the blocks were read one after the other; or the values, such as channel by channel.

        Of the blocks the first may be asked for a shift, and at the last a second pass may begin.
        """
        blocks = -(-len(self.x) // block)
        again = self.came_back(block * self.x[0].size) * blocks
        return blocks < 3 or again < blocks - 1.5 or self.came_back(1) < 0.5


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _shares(values: object, array: np.ndarray) -> bool:
    """Whether values are a view of the array."""
    return isinstance(values, np.ndarray) and np.may_share_memory(values, array)


def _plain(value: object) -> object:
    return value.view(np.ndarray) if isinstance(value, _Watched) else value


def _noting(name: str) -> Callable:
    """The method of this name, which reads the array if it copies it."""

    def method(self: _Watched, *arguments: object, **options: object) -> object:
        values = getattr(np.ndarray, name)(self, *arguments, **options)
        if not _shares(values, self):
            self.reading.note(self)
        return values

    return method


JOINING = ("concatenate", "stack")
READING = (*JOINING, "copy", "cov", "dot", "einsum", "inner", "norm", "tensordot", "vdot")


class _Watched(np.ndarray):
    """An array that tells a ``_Reading`` what is read; what leaves NumPy's sight, such as in PyTorch, is not noted."""

    reading: _Reading | None = None

    def __array_finalize__(self, obj: object) -> None:
        self.reading = getattr(obj, "reading", None)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: object, **options: object) -> object:
        self.reading.note(*(each for each in inputs if isinstance(each, _Watched)))
        given = options.get("out", ())
        plain = {name: tuple(map(_plain, given)) if name == "out" else _plain(each) for name, each in options.items()}
        result = getattr(ufunc, method)(*map(_plain, inputs), **plain)
        return given[0] if len(given) == 1 else result

    def __array_function__(self, function: Callable, types: object, arguments: tuple, options: dict) -> object:
        if function.__name__ in READING:
            operands = [each for one in arguments for each in (one if isinstance(one, list | tuple) else [one])]
            self.reading.note(*operands, joined=function.__name__ in JOINING)
        return super().__array_function__(function, types, arguments, options)

    def __getitem__(self, key: object) -> object:
        values = super().__getitem__(key)
        places = self.reading.seen(self)
        if places is not None and not _shares(values, self):
            self.reading.record(np.ravel(places[key]))
        return values

    astype, copy, flatten, ravel = (_noting(name) for name in ("astype", "copy", "flatten", "ravel"))
    reshape, tolist, dot = (_noting(name) for name in ("reshape", "tolist", "dot"))


# Probes


def _samples(
    rng: np.random.Generator, shape: tuple[int, int, int], block: int, mean: float | None = None, dtype: type = float
) -> Inputs:
    """Channels of different mean and spread, whose blocks differ as well: the samples drift."""
    n, c, _ = shape
    drift = np.linspace(-1, 1, n)[:, None, None] * rng.uniform(1, 3, (c, 1)) + rng.uniform(-1, 1, (n, c, 1))
    center = rng.uniform(2, 6, (c, 1)) * rng.choice([-1, 1], (c, 1)) if mean is None else mean
    x = center + drift + rng.uniform(0.5, 2, (c, 1)) * rng.normal(size=shape)
    return {"x": x.astype(dtype), "block": block}


def _block_probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    plain = _samples(rng, (10, 3, 4), 4)
    constant = _samples(rng, (9, 3, 2), 2)
    constant["x"][:, 1] = 0.25
    offset = _samples(rng, (50, 3, 6), 8, 1e4, np.float32)
    return (
        Probe("plain", "10 samples in blocks of 4: the last is shorter.", plain),
        Probe("other block", "the same samples in blocks of 3.", {**plain, "block": 3}),
        Probe("even", "12 samples in blocks of 3.", _samples(rng, (12, 2, 5), 3)),
        Probe("single", "blocks of a single sample.", _samples(rng, (7, 3, 2), 1)),
        Probe("whole", "a block that is larger than the batch.", {**plain, "block": 16}),
        Probe("constant", "a channel that never varies.", constant),
        Probe("cube", "as many samples as channels and positions.", _samples(rng, (4, 4, 4), 3)),
        Probe("offset", "float32 values with the mean 10,000.", offset, **ROUGH),
        Probe("far", "float64 values with the mean 100,000,000.", _samples(rng, (50, 3, 6), 8, 1e8), **DIGITS),
    )


def _fresh_samples(rng: np.random.Generator) -> Inputs:
    shape = int(rng.integers(5, 16)), int(rng.integers(2, 5)), int(rng.integers(2, 6))
    return _samples(rng, shape, int(rng.integers(1, 7)))


# Driving


def drive_blocks(answer: Callable, inputs: Inputs) -> dict[str, object]:
    """Mean and variance, and how x was read."""
    x, block = inputs["x"].view(_Watched), inputs["block"]
    x.reading = reading = _Reading(inputs["x"])
    mean, var = map(_plain, _two(build(answer, "(x, block)", x, block)))
    facts = reading.most <= block, reading.each_block_once(block)
    return dict(zip(Blocked.outputs, (mean, var, *map(float, facts)), strict=True))


def _two(result: object) -> Sequence[object]:
    """The mean and the variance."""
    if result is None:
        raise Unusable("nothing", "Your function returns nothing. Is there a return at its end?")
    if isinstance(result, np.ndarray) and (result.ndim < 2 or len(result) != 2):
        raise Unusable("count", f"Expected 2 values, (mean, var), got one array of the shape {result.shape}.")
    if not isinstance(result, tuple | list | np.ndarray):
        raise Unusable("container", f"Expected 2 values, (mean, var), got {a(result)}.")
    if len(result) != 2:
        raise Unusable("count", f"Expected 2 values, (mean, var), got {len(result)}.")
    return result


# The exercise

WORDING = {
    "at_most_a_block_at_once": lambda i, got, expected: f"More than {i['block']} samples were read at once.",
    "each_block_once": lambda i, got, expected: "Blocks that had been read before were read again, after others.",
}

BLOCKED = Exercise(
    id="blocked_statistics",
    chapter="08_counting_bytes",
    signature="(x, block) -> (mean, var) of shape (C,) each, x of shape (N, C, L)",
    operation=Blocked,
    probes=_block_probes(80),
    fresh=_fresh_samples,
    mistakes=BLOCK_MISTAKES,
    properties=(
        Property(
            "mean and variance have one number for each channel.",
            lambda o, i: all(o[n][name].shape == i[n]["x"].shape[1:2] for n in i for name in ("mean", "var")),
        ),
        Property("no variance is negative.", lambda o, i: all((o[n]["var"] >= 0).all() for n in i)),
        Property("a channel that never varies has the variance 0.", lambda o, i: close(o["constant"]["var"][1], 0.0)),
        Property(
            "other blocks give the same numbers.",
            lambda o, i: all(
                close(o[n][name], o["plain"][name]) for n in ("other block", "whole") for name in ("mean", "var")
            ),
        ),
        Property(
            "a large mean leaves the variance as it is: 10,000 in float32, and 100,000,000 in float64.",
            lambda o, i: all(close(o[n]["var"], i[n]["x"].astype(float).var((0, 2)), 0.05) for n in ("offset", "far")),
        ),
    ),
    hints=(
        "Which three numbers of a block and a channel are enough, so that the block itself can be forgotten?",
        "A count, a mean and a sum of squared distances. How did chapter 6 put a new sample to those before?",
        "For the sum of squares of two parts together, add those of both, and one term for the distance of their means.",
    ),
    container="dict",
    changing={"x": "F24"},
    drive=drive_blocks,
    wording=WORDING,
)
