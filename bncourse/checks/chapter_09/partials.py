"""The backward's partial sums: each program leaves those of its block of rows in a place of its own."""

from __future__ import annotations

import numpy as np

from ..chapter_02 import close
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
    never_stored,
    no_mask,
    no_other,
    off_by_one,
    one_off,
    put,
    written,
)


class Partials(Kernel):
    """Partial dγ and dβ of shape (P, C) from dy, x of shape (M, C); tiles have the shape (P, rows, block)."""

    outputs = ("dweight", "dbias", "reads_beyond", "writes_beyond", "no_atomics")

    @step
    def programs(s):
        return np.arange(-(-len(s.x) // s.rows))

    @step
    def row(s):
        """The rows of each program."""
        return s.programs[:, None] * s.rows + np.arange(s.rows)

    @step
    def columns(s):
        return np.arange(s.block)

    @step
    def row_mask(s):
        return s.row < len(s.x)

    @step
    def column_mask(s):
        return s.columns < s.x.shape[1]

    @step
    def places(s):
        return s.row[:, :, None] * s.x.shape[1] + s.columns

    @step
    def load_mask(s):
        return np.broadcast_to(s.row_mask[:, :, None] & s.column_mask, s.places.shape)

    @step
    def upstream(s):
        return find(s.dy, s.places, s.load_mask, s.spare)

    @step
    def center(s):
        return find(s.mean, s.columns, s.column_mask, s.spare)

    @step
    def scale(s):
        return find(s.inv_std, s.columns, s.column_mask, s.spare)

    @step
    def x_spare(s):
        """What masked lanes of x hold."""
        return s.spare

    @step
    def x_hat(s):
        return (find(s.x, s.places, s.load_mask, s.x_spare) - s.center) * s.scale

    @step
    def sums_of_dweight(s):
        return (s.upstream * s.x_hat).sum(1)

    @step
    def sums_of_dbias(s):
        return s.upstream.sum(1)

    @step
    def slot(s):
        """Which row of the results each program writes."""
        return s.programs

    @step
    def result_places(s):
        return s.slot[:, None] * s.x.shape[1] + s.columns

    @step
    def store_mask(s):
        return s.column_mask

    @step
    def results(s):
        """What is stored, by the names of the outputs."""
        return {"dweight": s.sums_of_dweight, "dbias": s.sums_of_dbias}

    @step
    def dweight(s):
        return _stored(s, s.results["dweight"])

    @step
    def dbias(s):
        return _stored(s, s.results["dbias"])

    @step
    def reads_beyond(s):
        return max(beyond(s.x.size, s.places, s.load_mask), beyond(s.x.shape[1], s.columns, s.column_mask))

    @step
    def writes_beyond(s):
        return beyond(len(s.programs) * s.x.shape[1], s.result_places, s.store_mask)

    @step
    def no_atomics(s):
        return 1.0


def _stored(s: Partials, values: np.ndarray) -> np.ndarray:
    shape = len(s.programs), s.x.shape[1]
    return put(shape[0] * shape[1], s.result_places, values, s.store_mask).reshape(shape)


def _added(s: Partials) -> dict[str, np.ndarray]:
    """The results on top of what was there before."""
    return {"dweight": s.sums_of_dweight + FILL, "dbias": s.sums_of_dbias + FILL}


def _added_in_one(s: Partials, name: str, values: np.ndarray) -> np.ndarray:
    """All programs' results, added up in the first row."""
    result = _stored(s, 0 * values + FILL)
    result[0] += values.sum(0)[: s.x.shape[1]]
    return result


def _one_axis(s: Partials) -> dict[str, np.ndarray]:
    """The sums if rows and columns share an axis: a lane has a row and a column of the same number."""
    lanes = (np.arange(s.rows) == np.arange(s.block) + 0 * np.arange(s.rows)) * np.eye(s.rows)
    return {
        "dweight": (s.upstream * s.x_hat * lanes).sum((1, 2))[:, None],
        "dbias": (s.upstream * lanes).sum((1, 2))[:, None],
    }


def _share(s: Partials, values: np.ndarray) -> np.ndarray:
    return values / s.row_mask.sum(1)[:, None]


ATOMIC = {
    "dweight": lambda s: _added_in_one(s, "dweight", s.sums_of_dweight),
    "dbias": lambda s: _added_in_one(s, "dbias", s.sums_of_dbias),
    "no_atomics": lambda s: 0.0,
}

PARTIAL_MISTAKES = (
    Mistake(
        "K14",
        "The last program has fewer rows than ROWS, and your kernel does not notice: it reads rows that do not exist.",
        "For M = 10 and ROWS = 4: which rows does program 2 have?",
        {"row_mask": lambda s: s.row < np.inf},
        {"reads_beyond": lambda s: beyond(s.x.size, s.places, s.column_mask)},
    ),
    Mistake(
        "K20",
        "The rows that do not fill a block are missing from your sums.",
        "For M = 10 and ROWS = 4: which rows does program 2 have, and what does it store?",
        {"row_mask": lambda s: s.row < len(s.x) // s.rows * s.rows},
        {"row_mask": lambda s: s.row < len(s.x) - 1},
    ),
    Mistake(
        "K40",
        "Your programs have the wrong rows.",
        "For ROWS = 4: with which row does program 1 begin, and with which does it end?",
        {"row": lambda s: s.programs[:, None] + np.arange(s.rows)},
        {"row": lambda s: 0 * s.programs[:, None] + np.arange(s.rows)},
        {"row": lambda s: s.programs[:, None] + np.arange(s.rows) * len(s.programs)},
        {"places": lambda s: s.row[:, :, None] * s.block + s.columns},
    ),
    Mistake(
        "K50",
        "Every program sums over all M rows. Its share are ROWS of them.",
        "For M = 10 and ROWS = 4: which rows does program 1 have, and what do the results of all programs add up to?",
        {"row": lambda s: 0 * s.programs[:, None] + np.arange(len(s.x))},
    ),
    Mistake(
        "K41",
        "Every program takes one row only.",
        "How many rows does a block have, and how many of them do you load?",
        {"row_mask": lambda s: (s.row < len(s.x)) & (np.arange(s.rows) == 0)},
        {
            "row": lambda s: s.programs[:, None] + 0 * np.arange(s.rows),
            "row_mask": lambda s: np.arange(s.rows) == np.zeros((len(s.programs), 1)),
        },
    ),
    Mistake(
        "K32",
        "Only the last row of each block is left in your sums: each turn of the loop throws away what was there before.",
        "What is in your sums when the loop comes to its second turn, and what after it?",
        {
            "sums_of_dweight": lambda s: (s.upstream * s.x_hat)[:, -1],
            "sums_of_dbias": lambda s: s.upstream[:, -1],
        },
    ),
    Mistake(
        "K09",
        "You add to what stands in the output. Nobody has set it to zero before.",
        "What does your kernel leave behind when it is launched twice with the same tensors?",
        {"results": _added},
    ),
    Mistake(
        "K10",
        "You add with atomics. Programs end in any order, and the order of additions changes the last digits: two launches "
        "give different results. They also add to whatever stood in the output before.",
        "If every program has a place of its own: who else writes there?",
        ATOMIC,
        {"results": _added, "no_atomics": lambda s: 0.0},
        {"no_atomics": lambda s: 0.0},
    ),
    Mistake(
        "K27",
        "Your programs do not store each in a row of its own: they overwrite each other's results.",
        "The results have P rows. Which of them belongs to program 1, and at which place does it begin?",
        {"slot": lambda s: 0 * s.programs},
        {"result_places": lambda s: s.programs[:, None] * s.block + s.columns},
        {"result_places": lambda s: s.programs[:, None] + s.columns},
        {"result_places": lambda s: s.columns * s.x.shape[1] + s.programs[:, None]},
        {"result_places": lambda s: s.columns * len(s.programs) + s.programs[:, None]},
        {"slot": lambda s: s.programs * s.rows},
    ),
    no_mask(
        {"column_mask": lambda s: s.columns < np.inf, "store_mask": lambda s: s.columns < s.x.shape[1]},
        {"column_mask": lambda s: s.columns < np.inf},
        {"reads_beyond": lambda s: beyond(s.x.shape[1], s.columns, True)},
        {"reads_beyond": lambda s: beyond(s.x.size, s.places, s.row_mask[:, :, None])},
        asks="For C = 3 and BLOCK = 4: which place does lane 3 of the last row point to, in each of the four inputs?",
    ),
    Mistake(
        "K42",
        "A store has no mask: lanes behind the last channel write into what belongs to the next program, or to nobody.",
        "For C = 3 and BLOCK = 4: to which place does lane 3 of the last program write?",
        {"store_mask": lambda s: s.columns < np.inf},
    ),
    one_off(
        *off_by_one("column_mask", "columns", lambda s: s.x.shape[1]),
        *off_by_one("store_mask", "columns", lambda s: s.x.shape[1]),
    ),
    no_other({"spare": lambda s: UNDEFINED}, {"x_spare": lambda s: UNDEFINED}),
    Mistake(
        "K53",
        "You add up along the wrong axis, or along both. Each channel has a sum of its own.",
        "A tile has ROWS rows and BLOCK columns. Which of the two axes is gone after the sum, and which should be?",
        {
            "sums_of_dweight": lambda s: (s.upstream * s.x_hat).sum(2),
            "sums_of_dbias": lambda s: s.upstream.sum(2),
        },
        {
            "sums_of_dweight": lambda s: (s.upstream * s.x_hat).sum((1, 2))[:, None],
            "sums_of_dbias": lambda s: s.upstream.sum((1, 2))[:, None],
        },
        {"sums_of_dbias": lambda s: s.upstream.sum(2)},
        {"sums_of_dbias": lambda s: s.upstream.sum((1, 2))[:, None]},
    ),
    Mistake(
        "K55",
        "Your rows and your columns lie along the same axis: lane 0 has row 0 and column 0, lane 1 row 1 and column 1. A "
        "tile of rows and columns needs two axes.",
        "What shape has the sum of 4 numbers and 8 numbers in NumPy, and how do you make a table of all their sums?",
        {"results": _one_axis},
    ),
    never_stored("dweight", "dbias"),
    Mistake(
        "N06",
        "You swapped dweight and dbias.",
        "Which of the two needs x̂?",
        {"results": lambda s: {"dweight": s.sums_of_dbias, "dbias": s.sums_of_dweight}},
    ),
    Mistake(
        "B06",
        "x itself stands where x̂ belongs in dweight, or only a part of the way to x̂ was taken.",
        "What is x̂ where x equals the mean of its channel, and what is it one standard deviation above?",
        {"x_hat": lambda s: find(s.x, s.places, s.load_mask, s.spare)},
        {"center": lambda s: 0.0},
        {"scale": lambda s: 1.0},
    ),
    Mistake(
        "K52",
        "dy is missing in dweight: you added up x̂ alone.",
        "If dy is 0 everywhere, what is dweight?",
        {"sums_of_dweight": lambda s: s.x_hat.sum(1)},
        {"sums_of_dweight": lambda s: (s.x_hat * s.load_mask).sum(1)},
    ),
    Mistake(
        "F36",
        "You divided by inv_std. It is 1/σ already.",
        "If σ is 4, what is inv_std, and what should a distance of 8 from the mean become?",
        {"x_hat": lambda s: (find(s.x, s.places, s.load_mask, s.spare) - s.center) / s.scale},
    ),
    Mistake(
        "B07",
        "You took means. dweight and dbias are sums over rows.",
        "If every row occurred twice, what would become of dbias?",
        {
            "results": lambda s: {
                "dweight": _share(s, s.sums_of_dweight),
                "dbias": _share(s, s.sums_of_dbias),
            }
        },
        {"results": lambda s: {"dweight": s.sums_of_dweight / s.rows, "dbias": s.sums_of_dbias / s.rows}},
        {"results": lambda s: {"dweight": s.sums_of_dweight / len(s.x), "dbias": s.sums_of_dbias / len(s.x)}},
    ),
)

# Probes


def _gradients(rng: np.random.Generator, shape: tuple[int, int], rows: int, block: int) -> Inputs:
    def away_from_0(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, shape[1]) * rng.choice([-1, 1], shape[1])

    mean = away_from_0(2, 5)
    arrays = {
        "dy": rng.normal(1, 1, shape),
        "x": mean + rng.normal(0.5, 2, shape),
        "mean": mean,
        "inv_std": rng.uniform(0.2, 0.7, shape[1]),
    }
    return {name: values.astype(np.float32) for name, values in arrays.items()} | {"rows": rows, "block": block}


def _probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    return (
        Probe("plain", "10 rows in blocks of 4, 3 channels, BLOCK = 4.", _gradients(rng, (10, 3), 4, 4)),
        Probe("even", "8 rows in blocks of 2.", _gradients(rng, (8, 4), 2, 4)),
        Probe("wide", "7 rows in blocks of 4, 5 channels, BLOCK = 16.", _gradients(rng, (7, 5), 4, 16)),
        Probe("one program", "3 rows, and a block of 4.", _gradients(rng, (3, 2), 4, 2)),
        Probe("one row over", "5 rows in blocks of 4.", _gradients(rng, (5, 3), 4, 8)),
    )


def _fresh(rng: np.random.Generator) -> Inputs:
    return _gradients(rng, (int(rng.integers(5, 16)), int(rng.integers(3, 8))), int(2 ** rng.integers(1, 3)), 8)


def drive_partials(answer: object, inputs: Inputs) -> dict[str, object]:
    """The partial sums of all programs, where was read and written, and whether with atomics."""
    (m, c), rows = inputs["x"].shape, inputs["rows"]
    programs = -(-m // rows)
    dweight, dbias = np.full((2, programs, c), FILL, np.float32)
    given = {f"{name}_ptr": inputs[name] for name in ("dy", "x", "mean", "inv_std")}
    sizes = {"M": m, "C": c, "ROWS": rows, "BLOCK": inputs["block"]}
    memory = launch(answer, {**given, "dweight_ptr": dweight, "dbias_ptr": dbias, **sizes}, (programs,))
    return {"dweight": dweight, "dbias": dbias, **memory.facts, "no_atomics": float(not memory.atomics)}


def _of_all(inputs: Inputs) -> np.ndarray:
    return inputs["dy"].sum(0)


PARTIALS = Exercise(
    id="gradient_sums_kernel",
    chapter=CHAPTER,
    signature="(dy_ptr, x_ptr, mean_ptr, inv_std_ptr, dweight_ptr, dbias_ptr, M, C, ROWS, BLOCK), a program a block of rows",
    operation=Partials,
    probes=_probes(94),
    fresh=_fresh,
    mistakes=PARTIAL_MISTAKES,
    properties=(
        READS_INSIDE,
        WRITES_INSIDE,
        Property("there are no atomics.", lambda o, i: all(o[n]["no_atomics"] == 1 for n in i)),
        written("dweight", "dbias"),
        Property(
            "where M is a multiple of ROWS, the partial sums of dbias add up to dbias.",
            lambda o, i: close(o["even"]["dbias"].sum(0), _of_all(i["even"])),
        ),
        Property(
            "the partial sums of dbias add up to dbias.",
            lambda o, i: all(close(o[n]["dbias"].sum(0), _of_all(i[n])) for n in i),
        ),
    ),
    hints=(
        "Which rows does program p have? Write down the first and the last for ROWS = 4, and which of them exist.",
        (
            "Either a loop over the rows of the block, or a tile with two axes: rows[:, None] and columns[None, :] line up as "
            "in NumPy. Both need a mask for rows and one for columns."
        ),
        (
            "A masked lane adds nothing if dy is 0 there and x̂ any number, as long as it is one. The results have a row for "
            "each program: its number says where the row begins."
        ),
    ),
    container="dict",
    changing=dict.fromkeys(("dy", "x", "mean", "inv_std"), "F24"),
    drive=drive_partials,
    wording={**WORDING, "no_atomics": lambda i, got, expected: "Results were added with tl.atomic_add, or the like."},
)
