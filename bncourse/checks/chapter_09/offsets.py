"""Places in a tensor with more than 2³¹ values: they do not fit into 32 bits."""

from __future__ import annotations

import numpy as np

from ..exercise import Exercise, Inputs, Mistake, Probe, Property, step
from ..triton_answers import FILL, launch
from .shared import CHAPTER, WORDING, WRITES_INSIDE, Kernel, beyond, off_by_one, one_off, put, written

EXACT = {"rtol": 0.0, "floor": 0.0}


class Offsets(Kernel):
    """The place of every value of a matrix whose rows are ``stride`` apart; a program takes a row."""

    outputs = ("offset", "writes_beyond")

    @step
    def rows(s):
        return np.arange(s.shape[0])[:, None]

    @step
    def columns(s):
        """The columns of the lanes."""
        return np.arange(s.block)

    @step
    def product(s):
        return s.rows * s.stride

    @step
    def total(s):
        return s.product + s.columns

    @step
    def mask(s):
        return s.columns < s.shape[1]

    @step
    def places(s):
        return s.rows * s.shape[1] + s.columns

    @step
    def offset(s):
        size = s.shape[0] * s.shape[1]
        return put(size, s.places, s.total.astype(float), s.mask).reshape(s.shape)

    @step
    def writes_beyond(s):
        return beyond(s.shape[0] * s.shape[1], s.places, s.mask)


def _wrapped(values: np.ndarray, dtype: type = np.int32) -> np.ndarray:
    """What is left of integers in another dtype."""
    return values.astype(np.int64).astype(dtype).astype(np.int64)


OFFSET_MISTAKES = (
    Mistake(
        "K12",
        "Your sum is made of 32-bit numbers, or is cut to 32 bits at its end. Beyond 2³¹ − 1 it goes on at −2³¹.",
        "Which dtype has each number in your line: the number of the program, the stride, the columns, the result?",
        {"total": lambda s: _wrapped(s.product + s.columns)},
    ),
    Mistake(
        "K43",
        "Your product is made of 32-bit numbers, and only its result, or the columns, became 64 bits wide. By then the "
        "upper bits are gone.",
        "In which order are multiplication and conversion done, and which of the factors is 64 bits wide at that moment?",
        {"product": lambda s: _wrapped(s.rows * s.stride)},
    ),
    Mistake(
        "K44",
        "You used 32 bits without a sign. They last twice as long, up to 2³² − 1, and then begin again at 0.",
        "What is the largest number that your dtype can hold, and how many values may a tensor have?",
        {"total": lambda s: _wrapped(s.product + s.columns, np.uint32)},
        {"product": lambda s: _wrapped(s.rows * s.stride, np.uint32)},
    ),
    Mistake(
        "K45",
        "A place went through floating-point numbers on its way. float32 holds whole numbers only up to 2²⁴ exactly.",
        "Which dtype has a product with a float?",
        {"product": lambda s: (s.rows * s.stride).astype(np.float32).astype(float)},
        {"total": lambda s: (s.product + s.columns).astype(np.float32)},
        {
            "product": lambda s: (s.rows * s.stride).astype(np.float32),
            "total": lambda s: s.product + s.columns.astype(np.float32),
        },
    ),
    Mistake(
        "K46",
        "A part of the sum is missing or in the wrong place: a row begins stride places after the one before, and a column "
        "is one place after the one before.",
        "For stride = 7: at which places do row 0 and row 1 begin, and what stands one place further?",
        {"total": lambda s: s.rows + s.columns * s.stride},
        {"total": lambda s: s.rows * s.shape[1] + s.columns},
        {"total": lambda s: s.rows * s.block + s.columns},
        {"total": lambda s: s.product + 0 * s.columns},
        {"total": lambda s: 0 * s.rows + s.columns},
        {"product": lambda s: s.rows + 0 * s.stride},
        {"total": lambda s: (s.rows + s.columns) * s.stride},
    ),
    Mistake(
        "K27",
        "The results are stored in the wrong place. The output has N values a row: it is small, whatever the stride.",
        "At which place of the output does row 1 begin?",
        {"places": lambda s: s.rows * s.block + s.columns},
        {"places": lambda s: 0 * s.rows + s.columns},
        {"places": lambda s: s.rows + s.columns},
        {"places": lambda s: s.rows * s.stride + s.columns},
    ),
    Mistake(
        "K42",
        "Your store has no mask: lanes behind the last column write into the next row, or where no tensor is.",
        "For N = 5 and BLOCK = 8: to which places do lanes 5, 6 and 7 of the last row write?",
        {"mask": lambda s: np.True_},
    ),
    one_off(*off_by_one("mask", "columns", lambda s: s.shape[1])),
)

# Probes


def _job(rows: int, columns: int, stride: int, block: int) -> Inputs:
    return {"shape": (rows, columns), "stride": stride, "block": block}


PROBES = (
    Probe("small", "3 rows of 5 columns, stride 7, BLOCK = 8.", _job(3, 5, 7, 8), **EXACT),
    Probe("last that fits", "a last place of 2³¹ − 1, the last one that fits.", _job(2, 4, 2**31 - 4, 4), **EXACT),
    Probe("first that does not", "a row that begins below 2³¹ and ends beyond.", _job(2, 5, 2**31 - 2, 8), **EXACT),
    Probe("rows beyond", "rows that begin at 2³⁰, 2³¹, and on to 2³².", _job(6, 3, 2**30, 4), **EXACT),
    Probe("far", "rows that begin far beyond 2³².", _job(7, 3, 2**31 - 1, 4), **EXACT),
)


def _fresh(rng: np.random.Generator) -> Inputs:
    columns = int(rng.integers(3, 9))
    return _job(int(rng.integers(3, 8)), columns, int(rng.integers(2**29, 2**31)), 8)


def drive_offsets(answer: object, inputs: Inputs) -> dict[str, object]:
    """The places that were stored, and where they were stored."""
    (rows, columns), stride, block = inputs["shape"], inputs["stride"], inputs["block"]
    offset = np.full((rows, columns), FILL, np.int64)
    memory = launch(answer, {"offset_ptr": offset, "stride": stride, "N": columns, "BLOCK": block}, (rows,))
    return {"offset": offset.astype(float), "writes_beyond": memory.writes_beyond}


OFFSETS = Exercise(
    id="row_offsets_kernel",
    chapter=CHAPTER,
    signature="(offset_ptr, stride, N, BLOCK), one program a row",
    operation=Offsets,
    probes=PROBES,
    fresh=_fresh,
    mistakes=OFFSET_MISTAKES,
    properties=(
        WRITES_INSIDE,
        written("offset"),
        Property("no place is negative.", lambda o, i: all((o[n]["offset"] >= 0).all() for n in i)),
        Property(
            "column 1 is one place after column 0.",
            lambda o, i: all((np.diff(o[n]["offset"][:, :2]) == 1).all() for n in i),
        ),
        Property(
            "rows are stride places apart.",
            lambda o, i: all((np.diff(o[n]["offset"], axis=0) == i[n]["stride"]).all() for n in i),
        ),
    ),
    hints=(
        "Which of the numbers in row · stride + column are 32 bits wide? The number of a program always is.",
        "A product is as wide as the wider of its two factors. When is the latest moment to make one of them wider?",
        "A tile or a number has .to(dtype). The dtype with 64 bits is tl.int64.",
    ),
    container="dict",
    drive=drive_offsets,
    wording={"writes_beyond": WORDING["writes_beyond"]},
)
