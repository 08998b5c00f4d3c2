"""Mean and variance of rows: one masked block a row, and rows longer than a block."""

from __future__ import annotations

import numpy as np

from ..chapter_02 import ROUGH, close
from ..exercise import Exercise, Form, Inputs, Mistake, Probe, Property, step
from ..triton_answers import FILL, UNDEFINED, launch
from .shared import (
    CHAPTER,
    READS_INSIDE,
    WORDING,
    WRITES_INSIDE,
    Kernel,
    beyond,
    find,
    half_sums,
    in_dtype_of,
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


class Rows(Kernel):
    """Rows of a matrix x (M, N), one program each."""

    @step
    def start(s):
        """Where each row begins."""
        return np.arange(len(s.x))[:, None] * s.x.shape[1]

    @step
    def columns(s):
        """The columns of the lanes."""
        return np.arange(s.block)

    @step
    def mask(s):
        return s.columns < s.x.shape[1]

    @step
    def load_mask(s):
        return s.mask

    @step
    def tile(s):
        return find(s.x, s.start + s.columns, s.load_mask, s.spare)

    @step
    def total(s):
        return s.tile.sum(1)

    @step
    def count(s):
        """What the sum is divided by."""
        return s.x.shape[1]

    @step
    def center(s):
        return s.total / s.count

    @step
    def mean_places(s):
        return np.arange(len(s.x))

    @step
    def mean(s):
        return put(len(s.x), s.mean_places, s.center)

    @step
    def reads_beyond(s):
        return beyond(s.x.size, s.start + s.columns, s.load_mask)

    @step
    def writes_beyond(s):
        return beyond(len(s.x), s.mean_places, True)


# One block


class MaskedMean(Rows):
    """Mean and biased variance of each row, in one block."""

    outputs = ("mean", "var", "reads_beyond", "writes_beyond")

    @step
    def distance_mask(s):
        """Which lanes count in the variance."""
        return s.mask

    @step
    def distance(s):
        return s.tile - s.center[:, None]

    @step
    def squares(s):
        return (np.where(s.distance_mask, s.distance, 0) ** 2).sum(1)

    @step
    def var_count(s):
        return s.x.shape[1]

    @step
    def spread(s):
        return s.squares / s.var_count

    @step
    def var_places(s):
        return np.arange(len(s.x))

    @step
    def var(s):
        return put(len(s.x), s.var_places, s.spread)

    @step
    def writes_beyond(s):
        return max(beyond(len(s.x), places, True) for places in (s.mean_places, s.var_places))


def _one_pass(s: MaskedMean) -> np.ndarray:
    """E[x²] − E[x]² in float32."""
    tile, count = s.tile.astype(np.float32), np.float32(s.x.shape[1])
    return (tile**2).sum(1) / count - (tile.sum(1) / count) ** 2


def _misplaced(*steps: str) -> tuple[Form, ...]:
    """All results in place 0, or results as far apart as rows."""
    places = (
        lambda s: np.zeros(len(s.x), int),
        lambda s: np.arange(len(s.x)) * s.x.shape[1],
        lambda s: np.arange(len(s.x)) * s.block,
    )
    return tuple(dict.fromkeys(steps, place) for place in places)


WRONG_ROW = "In memory row 1 follows row 0 at once. For N = 5: at which places do rows 0, 1 and 2 begin?"

ROW_STARTS: tuple[Form, ...] = (
    {"start": lambda s: np.zeros((len(s.x), 1), int)},
    {"start": lambda s: np.arange(len(s.x))[:, None] * s.block},
    {"start": lambda s: np.arange(len(s.x))[:, None]},
)

MASKS_OF_PLACES: tuple[Form, ...] = (
    {"mask": lambda s: s.start + s.columns < s.x.shape[1]},
    {"mask": lambda s: np.arange(len(s.x))[:, None] * s.block + s.columns < s.x.shape[1]},
)

MASKED_MISTAKES = (
    Mistake(
        "K47",
        "Your tile always has 8 lanes. BLOCK = 8 is an example: each launch says how many lanes there are.",
        "Which parameter of your kernel says how many lanes a tile has, and in which of your lines does it stand?",
        {"columns": lambda s: np.arange(8)},
    ),
    Mistake(
        "K01",
        "Masked lanes count in your variance. They are no values of the row: at first they hold what the load gave them, "
        "but after the mean is subtracted they hold something else.",
        "For x = 3, 3, 3 and BLOCK = 4: what does lane 3 hold after the load, and what after the subtraction?",
        {"distance_mask": lambda s: True},
    ),
    Mistake(
        "K51",
        "You kept the lanes without a value and set all others to 0: the second mask works the wrong way round.",
        "What does tl.where take where its mask is true: its second argument, or its third?",
        {"distance_mask": lambda s: ~s.mask},
    ),
    Mistake(
        "K03",
        "You divided by BLOCK. That is the number of lanes, and not all of them hold a value.",
        "For N = 5 and BLOCK = 8: how many values does a row have?",
        {"count": lambda s: s.block, "var_count": lambda s: s.block},
        {"count": lambda s: s.block},
        {"var_count": lambda s: s.block},
    ),
    no_mask(
        {"load_mask": lambda s: True},
        {"mask": lambda s: True},
        {"reads_beyond": lambda s: beyond(s.x.size, s.start + s.columns, True)},
    ),
    one_off(
        *off_by_one("mask", "columns", lambda s: s.x.shape[1]),
        *off_by_one("load_mask", "columns", lambda s: s.x.shape[1]),
        *off_by_one("distance_mask", "columns", lambda s: s.x.shape[1]),
    ),
    mask_of_places(*MASKS_OF_PLACES),
    no_other({"spare": lambda s: UNDEFINED}),
    Mistake(
        "K26",
        "Your programs read from the wrong places: the row does not begin where your pointer says.",
        WRONG_ROW,
        *ROW_STARTS,
    ),
    one_place(*_misplaced("mean_places", "var_places"), *_misplaced("mean_places"), *_misplaced("var_places")),
    never_stored("mean", "var"),
    Mistake(
        "K19",
        "You computed the variance as mean(x²) − mean(x)². With a large mean that subtracts two huge, nearly equal "
        "numbers, and no digits are left.",
        "How many digits does float32 keep of the square of 10,000? The tile is still there: can you subtract first?",
        {"spread": _one_pass},
    ),
    half_sums({"total": in_dtype_of("x", Rows.total.compute), "squares": in_dtype_of("x", MaskedMean.squares.compute)}),
    Mistake(
        "F01",
        "You divided by N − 1 in the variance. This one is biased: it is divided by N, as in batch norm.",
        "What should the variance of 1 and 3 be, and by what did you divide?",
        {"var_count": lambda s: s.x.shape[1] - 1},
    ),
    Mistake(
        "F06",
        "Your variance is the mean of the squares of x itself. The variance measures the spread around the mean.",
        "What is the variance of 5, 5, 5?",
        {"distance": lambda s: s.tile},
    ),
    Mistake(
        "F35",
        "You stored the standard deviation, not the variance.",
        "If x is in metres, what is the unit of your result?",
        {"spread": lambda s: np.sqrt(s.squares / s.var_count)},
    ),
    Mistake(
        "F37",
        "A sum was not divided by the number of values.",
        "What are the mean and the variance of 5, 5, 5, 7, 7, 7, and what are the sums that you start from?",
        {"center": lambda s: s.total},
        {"spread": lambda s: s.squares},
        {"center": lambda s: s.total, "spread": lambda s: s.squares},
        {"mean": lambda s: put(len(s.x), s.mean_places, s.total)},
    ),
    Mistake(
        "N06",
        "You swapped the mean and the variance.",
        "Which pointer belongs to which result?",
        {
            "mean": lambda s: put(len(s.x), s.mean_places, s.spread),
            "var": lambda s: put(len(s.x), s.var_places, s.center),
        },
    ),
)

# Rows longer than a block


class LongRows(Rows):
    """The mean of each row, block by block; axis 1 of the tiles counts the blocks."""

    outputs = ("mean", "reads_beyond", "writes_beyond")

    @step
    def starts(s):
        """The first column of each block."""
        return np.arange(0, s.x.shape[1], s.block)

    @step
    def columns(s):
        return s.starts[:, None] + np.arange(s.block)

    @step
    def numbers(s):
        """The columns as the mask sees them."""
        return s.columns

    @step
    def mask(s):
        return s.numbers < s.x.shape[1]

    @step
    def places(s):
        return s.start[:, :, None] + s.columns

    @step
    def tile(s):
        return find(s.x, s.places, s.load_mask, s.spare)

    @step
    def sums(s):
        """The sum of each block."""
        return s.tile.sum(2)

    @step
    def total(s):
        return s.sums.sum(1)

    @step
    def reads_beyond(s):
        return beyond(s.x.size, s.places, s.load_mask)


def _turn_by_turn(s: LongRows, values: np.ndarray) -> np.ndarray:
    """The sum over axis 1, rounded to the dtype of x in each turn of the loop."""
    total = np.zeros_like(values[:, 0], s.inputs["x"].dtype)
    for turn in range(values.shape[1]):
        total = (total + values[:, turn]).astype(total.dtype)
    return total.astype(np.float64)


HALF_SUMS = half_sums(
    {"total": lambda s: _turn_by_turn(s, s.sums)},
    {"sums": in_dtype_of("x", LongRows.sums.compute)},  # and their total is kept in float32
    {"total": lambda s: _turn_by_turn(s, s.tile).sum(1)},
    {"total": in_dtype_of("x", lambda s: _turn_by_turn(s, s.tile).sum(1))},
    {"total": in_dtype_of("x", LongRows.total.compute)},
)


def _mean_of_means(s: LongRows) -> np.ndarray:
    means = s.sums / np.minimum(s.block, s.x.shape[1] - s.starts)
    return means.sum(1) / max(len(s.starts), 1)


LONG_MISTAKES = (
    Mistake(
        "K02",
        "Only the first BLOCK columns are read: your kernel takes one block, and the row is longer.",
        "For N = 10 and BLOCK = 4: how many blocks does a row have, and how often do you load?",
        {"starts": lambda s: np.array([0])},
    ),
    Mistake(
        "K30",
        "Columns at the end of the row are missing: your loop ends before the last block.",
        "For N = 10 and BLOCK = 4: with which column does each of your blocks begin?",
        {"starts": lambda s: np.arange(0, s.x.shape[1] // s.block * s.block, s.block)},
        {"starts": lambda s: np.arange(0, s.x.shape[1] - s.block, s.block)},
    ),
    Mistake(
        "K31",
        "Your mask compares the number of the lane with N, not the column. In the second block lane 0 is not column 0.",
        "For N = 10 and BLOCK = 4: which columns do the lanes of the third block stand for?",
        {"numbers": lambda s: np.broadcast_to(np.arange(s.block), s.columns.shape)},
    ),
    Mistake(
        "K49",
        "Your loop goes on by one column in each turn, and reads a whole block there: most columns are added many times.",
        "For N = 10 and BLOCK = 4: how many turns should your loop have, and how many has it?",
        {"starts": lambda s: np.arange(s.x.shape[1])},
    ),
    Mistake(
        "K33",
        "Your loop reads the same block again and again: its pointers do not move.",
        "What is different in the second turn of your loop?",
        {"places": lambda s: s.start[:, :, None] + np.arange(s.block) + 0 * s.columns},
        {"columns": lambda s: np.arange(s.block) + np.zeros((len(s.starts), 1), int)},
    ),
    Mistake(
        "K32",
        "Only the last block is left in your sum: each turn of the loop throws away what was there before.",
        "What is in your sum when the loop comes to its second turn, and what after it?",
        {"total": lambda s: s.sums[:, -1]},
    ),
    Mistake(
        "K06",
        "You averaged the means of the blocks as if all blocks were equally long. The last one may be shorter.",
        "One block is 0, 0, 0, 0, the other is a single 5. What is the mean of the five numbers?",
        {"center": _mean_of_means},
    ),
    Mistake(
        "K03",
        "You divided by the number of lanes. Not all of them hold a value.",
        "For N = 10 and BLOCK = 4: how many values does a row have, and how many lanes do three blocks have?",
        {"count": lambda s: s.block},
        {"count": lambda s: s.block * len(s.starts)},
    ),
    no_mask(
        {"mask": lambda s: np.True_},
        {"reads_beyond": lambda s: beyond(s.x.size, s.places, True)},
        asks="For N = 10 and BLOCK = 4: which places do the last two lanes of the third block point to?",
    ),
    one_off(*off_by_one("mask", "numbers", lambda s: s.x.shape[1])),
    mask_of_places({"mask": lambda s: s.places < s.x.shape[1]}),
    no_other({"spare": lambda s: UNDEFINED}),
    Mistake(
        "K26",
        "Your programs read from the wrong places: the row does not begin where your pointer says.",
        WRONG_ROW,
        *ROW_STARTS,
    ),
    one_place(*_misplaced("mean_places")),
    HALF_SUMS,
    Mistake(
        "F37",
        "You stored a sum, not a mean.",
        "What is the mean of 5, 5, 5?",
        {"center": lambda s: s.total},
    ),
)

# Probes


def _matrix(
    rng: np.random.Generator,
    shape: tuple[int, int],
    block: int,
    *,
    mean: float | None = None,
    std: float = 1.0,
    dtype: type = np.float32,
) -> Inputs:
    """Rows of different mean and spread; no mean is near 0."""
    rows = (shape[0], 1)
    center = rng.uniform(2, 6, rows) * rng.choice([-1, 1], rows) if mean is None else mean
    x = center + std * rng.uniform(0.7, 1.5, rows) * rng.normal(size=shape)
    return {"x": x.astype(dtype), "block": block}


HALF = {"mean": 300.0, "std": 40.0, "dtype": np.float16}
NOTICED = {"rtol": 2e-4}  # sums in float32 are far better; by how much those in float16 are off depends on their order


def _falling(rng: np.random.Generator) -> Inputs:
    """Rows that begin with large values: in float16 a sum of them does not notice the small ones that follow."""
    x = rng.uniform(1, 3, (2, 81))
    x[:, :4] = 10_000
    return {"x": x.astype(np.float16), "block": 4}


def _masked_probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    return (
        Probe("plain", "3 rows of 5 columns, BLOCK = 8.", _matrix(rng, (3, 5), 8)),
        Probe("full", "rows of 8 columns: every lane has a value.", _matrix(rng, (2, 8), 8)),
        Probe("wide", "rows of 5 columns, BLOCK = 16.", _matrix(rng, (4, 5), 16)),
        Probe("one", "a single column, BLOCK = 2.", _matrix(rng, (3, 1), 2)),
        Probe("more", "rows of 20 columns, BLOCK = 32.", _matrix(rng, (2, 20), 32)),
        Probe("float16", "float16 values around 300, 301 columns.", _matrix(rng, (2, 301), 512, **HALF), **ROUGH),
        Probe("offset", "float32 values with the mean 10,000.", _matrix(rng, (3, 50), 64, mean=1e4), **ROUGH),
    )


def _long_probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    return (
        Probe("plain", "3 rows of 10 columns, BLOCK = 4.", _matrix(rng, (3, 10), 4)),
        Probe("even", "rows of 12 columns: three full blocks.", _matrix(rng, (2, 12), 4)),
        Probe("short", "rows of 5 columns, BLOCK = 8: one block is enough.", _matrix(rng, (3, 5), 8)),
        Probe("one over", "rows of 9 columns, BLOCK = 8.", _matrix(rng, (2, 9), 8)),
        Probe("float16", "float16 values around 300, 301 columns.", _matrix(rng, (2, 301), 64, **HALF), **ROUGH),
        Probe("two turns", "float16 values around 300, BLOCK = 256.", _matrix(rng, (2, 301), 256, **HALF), **ROUGH),
        Probe("many turns", "float16 values, large ones and then many small ones.", _falling(rng), **NOTICED),
    )


def _fresh_masked(rng: np.random.Generator) -> Inputs:
    n = int(rng.integers(3, 30))
    return _matrix(rng, (int(rng.integers(2, 5)), n), 32)


def _fresh_long(rng: np.random.Generator) -> Inputs:
    return _matrix(rng, (int(rng.integers(2, 4)), int(rng.integers(9, 40))), int(2 ** rng.integers(2, 4)))


# Driving


def drive_masked(answer: object, inputs: Inputs) -> dict[str, object]:
    """Mean and variance of the rows, and where was read and written."""
    (m, n), block = inputs["x"].shape, inputs["block"]
    mean, var = np.full((2, m), FILL, np.float32)
    given = {"x_ptr": inputs["x"], "mean_ptr": mean, "var_ptr": var, "N": n, "BLOCK": block}
    memory = launch(answer, given, (m,))
    return {"mean": mean, "var": var, **memory.facts}


def drive_long(answer: object, inputs: Inputs) -> dict[str, object]:
    """Mean of the rows, and where was read and written."""
    (m, n), block = inputs["x"].shape, inputs["block"]
    mean = np.full(m, FILL, np.float32)
    memory = launch(answer, {"x_ptr": inputs["x"], "mean_ptr": mean, "N": n, "BLOCK": block}, (m,))
    return {"mean": mean, **memory.facts}


# Exercises

MASKED_MEAN = Exercise(
    id="masked_mean_kernel",
    chapter=CHAPTER,
    signature="(x_ptr, mean_ptr, var_ptr, N, BLOCK), one program a row",
    operation=MaskedMean,
    probes=_masked_probes(90),
    fresh=_fresh_masked,
    mistakes=MASKED_MISTAKES,
    properties=(
        READS_INSIDE,
        WRITES_INSIDE,
        written("mean", "var"),
        Property(
            "the means are right.",
            lambda o, i: all(close(o[n]["mean"], i[n]["x"].mean(1, dtype=float), 0.02) for n in i),
        ),
        Property("the variance of a single value is 0.", lambda o, i: close(o["one"]["var"], 0.0)),
        Property(
            "where every lane has a value, the variances are right.",
            lambda o, i: close(o["full"]["var"], i["full"]["x"].var(1, dtype=float)),
        ),
    ),
    hints=(
        (
            "Which row does this program have, where does it begin, and which columns do the lanes stand for? Write these "
            "three lines first, then the mask."
        ),
        "After the load masked lanes hold 0, so they do no harm in the sum. What do they hold after the next subtraction?",
        (
            "The mask is needed a second time, after the subtraction and before the squares are added up: tl.where puts a "
            "number of your choice into the lanes that hold no value."
        ),
    ),
    container="dict",
    changing={"x": "F24"},
    drive=drive_masked,
    channels=0,
    wording=WORDING,
)

LONG_ROWS = Exercise(
    id="long_row_mean_kernel",
    chapter=CHAPTER,
    signature="(x_ptr, mean_ptr, N, BLOCK), one program a row",
    operation=LongRows,
    probes=_long_probes(91),
    fresh=_fresh_long,
    mistakes=LONG_MISTAKES,
    properties=(
        READS_INSIDE,
        WRITES_INSIDE,
        written("mean"),
        Property(
            "a row that fits into one block has the right mean.",
            lambda o, i: close(o["short"]["mean"], i["short"]["x"].mean(1)),
        ),
        Property(
            "a row of full blocks has the right mean.",
            lambda o, i: close(o["even"]["mean"], i["even"]["x"].mean(1)),
        ),
    ),
    hints=(
        "A loop over the first columns of the blocks: 0, BLOCK, 2 · BLOCK and so on, as long as they are below N.",
        "Keep a sum from turn to turn. In each turn: which columns do the lanes stand for, and which of these exist?",
        "The sum may be one number, or a tile of BLOCK sums, which is added up once after the loop. Divide at the very end.",
    ),
    container="dict",
    changing={"x": "F24"},
    drive=drive_long,
    channels=0,
    wording=WORDING,
)
