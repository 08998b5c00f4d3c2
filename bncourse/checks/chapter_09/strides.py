"""The sum of every channel of a tensor that lies in memory in any order."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

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
    mask_of_places,
    no_mask,
    no_other,
    off_by_one,
    one_off,
    one_place,
    put,
    written,
)


class Strides(Kernel):
    """The sum of each channel of x (N, C, L), a program a channel; tiles have the shape (C, N, block)."""

    outputs = ("sums", "reads_beyond", "writes_beyond")

    @step
    def jump_n(s):
        """How far apart two samples are."""
        return s.strides[0]

    @step
    def jump_c(s):
        return s.strides[1]

    @step
    def jump_l(s):
        return s.strides[2]

    @step
    def samples(s):
        return np.arange(s.shape[0])

    @step
    def positions(s):
        """The positions of the lanes."""
        return np.arange(s.block)

    @step
    def channels(s):
        return np.arange(s.shape[1])

    @step
    def places(s):
        of_sample = s.samples[:, None] * s.jump_n + s.positions * s.jump_l
        return s.channels[:, None, None] * s.jump_c + of_sample

    @step
    def mask(s):
        return s.positions < s.shape[2]

    @step
    def tile(s):
        return find(s.memory, s.places, s.mask, s.spare)

    @step
    def per_sample(s):
        return s.tile.sum(2)

    @step
    def total(s):
        return s.per_sample.sum(1)

    @step
    def sums(s):
        return put(s.shape[1], s.result_places, s.total)

    @step
    def result_places(s):
        return s.channels

    @step
    def reads_beyond(s):
        return beyond(s.memory.size, s.places, s.mask)

    @step
    def writes_beyond(s):
        return beyond(s.shape[1], s.result_places, True)


STEPS = "From x[0, 0, 0] to x[1, 0, 0], to x[0, 1, 0], and to x[0, 0, 1]: how many places is each of these steps?"

STRIDE_MISTAKES = (
    Mistake(
        "K16",
        "Your kernel works out places from the shape, as if x were contiguous. Here x may be a view: transposed, "
        "channels-last, or every second value of a larger tensor.",
        STEPS,
        {
            "jump_n": lambda s: s.shape[1] * s.shape[2],
            "jump_c": lambda s: s.shape[2],
            "jump_l": lambda s: 1,
        },
        {"jump_n": lambda s: s.shape[1] * s.shape[2], "jump_l": lambda s: 1},
        {"jump_c": lambda s: s.shape[2], "jump_l": lambda s: 1},
        {"jump_n": lambda s: s.shape[1] * s.shape[2]},
        {"jump_c": lambda s: s.shape[2]},
        {"jump_n": lambda s: s.shape[2] * s.shape[1], "jump_c": lambda s: 1, "jump_l": lambda s: s.shape[1]},
    ),
    Mistake(
        "K35",
        "You forgot the stride of the positions: neighbours in x need not be neighbours in memory.",
        STEPS,
        {"jump_l": lambda s: 1},
    ),
    Mistake(
        "K36",
        "You forgot a stride: samples, or channels, are taken to be one place apart, or at the same place.",
        STEPS,
        {"jump_n": lambda s: 1},
        {"jump_c": lambda s: 1},
        {"jump_n": lambda s: 0},
        {"jump_c": lambda s: 0},
        {"jump_l": lambda s: 0},
    ),
    Mistake(
        "K37",
        "You swapped strides.",
        "With which of the three strides do you multiply the number of the program, that of the sample, and that of the lane?",
        {"jump_n": lambda s: s.strides[1], "jump_c": lambda s: s.strides[0]},
        {"jump_c": lambda s: s.strides[2], "jump_l": lambda s: s.strides[1]},
        {"jump_n": lambda s: s.strides[2], "jump_l": lambda s: s.strides[0]},
        {
            "jump_n": lambda s: s.strides[1],
            "jump_c": lambda s: s.strides[2],
            "jump_l": lambda s: s.strides[0],
        },
        {
            "jump_n": lambda s: s.strides[2],
            "jump_c": lambda s: s.strides[0],
            "jump_l": lambda s: s.strides[1],
        },
    ),
    Mistake(
        "K02",
        "Only one sample is in your sum.",
        "How many samples does x have, and how often do you load?",
        {"samples": lambda s: np.array([0])},
    ),
    Mistake(
        "K32",
        "Only the last sample is left in your sum: each turn of the loop throws away what was there before.",
        "What is in your sum when the loop comes to its second turn, and what after it?",
        {"total": lambda s: s.per_sample[:, -1]},
    ),
    Mistake(
        "K30",
        "A sample at the end, or at the beginning, is missing.",
        "Which numbers does your loop count through for N = 3?",
        {"samples": lambda s: np.arange(s.shape[0] - 1)},
        {"samples": lambda s: np.arange(1, s.shape[0])},
    ),
    no_mask(
        {"mask": lambda s: np.True_},
        {"reads_beyond": lambda s: beyond(s.memory.size, s.places, True)},
    ),
    one_off(*off_by_one("mask", "positions", lambda s: s.shape[2])),
    no_other({"spare": lambda s: UNDEFINED}),
    mask_of_places({"mask": lambda s: s.places < s.shape[2]}),
    Mistake(
        "K38",
        "Your mask compares with the wrong length. The lanes stand for positions.",
        "How many positions does x have: N, C or L?",
        {"mask": lambda s: s.positions < s.shape[0]},
        {"mask": lambda s: s.positions < s.shape[1]},
    ),
    one_place(
        {"result_places": lambda s: 0 * s.channels},
        {"result_places": lambda s: s.channels * s.strides[1]},
        {"result_places": lambda s: s.channels * s.shape[2]},
    ),
    Mistake(
        "K39",
        "You stored a mean. The exercise asks for sums.",
        "What is the sum of 5, 5, 5?",
        {"total": lambda s: s.per_sample.sum(1) / (s.shape[0] * s.shape[2])},
        {"total": lambda s: s.per_sample.sum(1) / s.shape[2]},
        {"total": lambda s: s.per_sample.sum(1) / s.shape[0]},
    ),
)

# Probes


def _lying(
    rng: np.random.Generator, shape: tuple[int, int, int], strides: tuple[int, int, int], block: int, extra: int = 0
) -> Inputs:
    """A tensor of this shape and these strides in a memory that holds other values as well, also behind it."""
    size = 1 + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    return {
        "memory": rng.uniform(1, 9, size + extra).astype(np.float32),
        "shape": shape,
        "strides": strides,
        "block": block,
    }


def _probes(seed: int) -> tuple[Probe, ...]:
    rng = np.random.default_rng(seed)
    return (
        Probe("plain", "a contiguous x of the shape (2, 3, 5), BLOCK = 8.", _lying(rng, (2, 3, 5), (15, 5, 1), 8)),
        Probe("channels last", "the same shape, channels last.", _lying(rng, (2, 3, 5), (15, 1, 3), 8)),
        Probe("transposed", "samples and channels transposed.", _lying(rng, (4, 2, 3), (3, 12, 1), 4)),
        Probe("steps", "every second position of a larger tensor.", _lying(rng, (3, 2, 4), (20, 10, 2), 4, 1)),
        Probe("part", "two of four channels of a larger tensor.", _lying(rng, (3, 2, 5), (20, 5, 1), 8)),
        Probe("expanded", "one sample, shown three times.", _lying(rng, (3, 4, 2), (0, 2, 1), 4)),
        Probe("reversed", "all axes in the reverse order.", _lying(rng, (3, 4, 5), (1, 3, 12), 8)),
    )


def _fresh(rng: np.random.Generator) -> Inputs:
    shape = tuple(int(n) for n in rng.integers(2, 6, 3))
    order, strides, stride = rng.permutation(3), [0, 0, 0], 1
    for axis in order:
        strides[axis] = stride
        stride *= shape[axis] + int(rng.integers(0, 2))
    return _lying(rng, shape, tuple(strides), 8)


def drive_strides(answer: object, inputs: Inputs) -> dict[str, object]:
    """The sums of the channels, and where was read and written."""
    (n, c, length), (jump_n, jump_c, jump_l) = inputs["shape"], inputs["strides"]
    sums = np.full(c, FILL, np.float32)
    sizes = {"N": n, "L": length, "stride_n": jump_n, "stride_c": jump_c, "stride_l": jump_l, "BLOCK": inputs["block"]}
    memory = launch(answer, {"x_ptr": inputs["memory"], "sums_ptr": sums, **sizes}, (c,))
    return {"sums": sums, **memory.facts}


def _sums(inputs: Inputs) -> np.ndarray:
    memory = inputs["memory"].astype(float)
    return as_strided(memory, inputs["shape"], [8 * stride for stride in inputs["strides"]]).sum((0, 2))


STRIDES = Exercise(
    id="channel_sums_kernel",
    chapter=CHAPTER,
    signature="(x_ptr, sums_ptr, N, L, stride_n, stride_c, stride_l, BLOCK), one program a channel",
    operation=Strides,
    probes=_probes(93),
    fresh=_fresh,
    mistakes=STRIDE_MISTAKES,
    properties=(
        READS_INSIDE,
        WRITES_INSIDE,
        written("sums"),
        Property("the sums of a contiguous x are right.", lambda o, i: close(o["plain"]["sums"], _sums(i["plain"]))),
        Property(
            "the sums of a channels-last x are right.",
            lambda o, i: close(o["channels last"]["sums"], _sums(i["channels last"])),
        ),
    ),
    hints=(
        "The place of x[n, c, l] is a sum of three products. Which number is multiplied by which stride?",
        "What stays the same from sample to sample? Write the products that do not change before the loop.",
        "In each turn of the loop the whole tile moves on by one stride. The mask stays the same.",
    ),
    container="dict",
    changing={"memory": "F24"},
    drive=drive_strides,
    wording=WORDING,
)
