"""What the exercises of the chapter share: memory as a kernel sees it, and mistakes with masks and places.

An operation computes what all programs of a grid find in memory and leave there: axis 0 of its tiles counts the
programs. So a mask that is forgotten changes what is read, and numbers and facts follow from it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..exercise import Form, Mistake, Operation, Property, Wording, step
from ..triton_answers import FARTHEST, FILL, OUTSIDE

CHAPTER = "09_gpu_kernels"


class Kernel(Operation):
    """A kernel: results in memory, and how many places the farthest lane that reads or writes is outside of its tensor."""

    @step
    def spare(s):
        """What masked lanes hold."""
        return 0.0

    @step
    def reads_beyond(s):
        return 0.0

    @step
    def writes_beyond(s):
        return 0.0


def find(memory: np.ndarray, places: np.ndarray, mask: np.ndarray | bool, spare: float) -> np.ndarray:
    """A tile: what is loaded from these places."""
    memory = memory.ravel()
    values = np.where(inside(memory.size, places), memory[np.clip(places, 0, memory.size - 1)], OUTSIDE)
    return np.where(mask, values, spare)


def inside(size: int, places: np.ndarray) -> np.ndarray:
    """Which places belong to a tensor of this size."""
    return (places >= 0) & (places < size)


def beyond(size: int, places: np.ndarray, mask: np.ndarray | bool) -> float:
    """How many places the farthest lane that the mask lets through is outside of the tensor; 0 if none is."""
    outside = np.maximum(places - (size - 1), -places) * np.asarray(mask)
    return float(np.clip(outside.max(initial=0), 0, FARTHEST))


def put(size: int, places: np.ndarray, values: np.ndarray, mask: np.ndarray | bool = True) -> np.ndarray:
    """What a tensor holds when all programs have stored their values, one program after the other."""
    result = np.full(size, FILL)
    places, values, mask = np.broadcast_arrays(places, values, mask)
    there = inside(size, places) & mask
    result[places[there]] = values[there]
    return result


def in_dtype_of(name: str, compute: Callable) -> Callable:
    """The result of ``compute`` rounded to the dtype of an input, as where a sum is kept in it."""
    return lambda s: compute(s).astype(s.inputs[name].dtype).astype(np.float64)


def off_by_one(mask: str, lanes: str, length: Callable) -> tuple[Form, Form]:
    """A mask that ends one lane too late or too early; ``lanes`` is the step with their numbers."""
    return (
        {mask: lambda s: getattr(s, lanes) <= length(s)},
        {mask: lambda s: getattr(s, lanes) < length(s) - 1},
    )


# Mistakes that many kernels share

NEIGHBOUR = "For 5 values and BLOCK = 8: which places do lanes 5, 6 and 7 point to?"


def no_mask(*forms: Form, asks: str = NEIGHBOUR) -> Mistake:
    """A load without its mask."""
    return Mistake(
        "K24",
        "A load has no mask, or one that lets everything through: lanes behind the end read values that belong to others, "
        "or to nobody. On a GPU such a read may stop the program.",
        asks,
        *forms,
    )


def one_off(*forms: Form) -> Mistake:
    """A mask that is one lane too long or too short."""
    return Mistake(
        "K25",
        "A mask is one lane off: it lets one too many through, or one too few.",
        "For 5 values: what are the numbers of the first and of the last lane that hold one?",
        *forms,
    )


def no_other(*forms: Form) -> Mistake:
    """A masked load that does not say what masked lanes hold."""
    return Mistake(
        "K23",
        "A load has a mask, but does not say what masked lanes hold. Triton promises nothing for them: here they hold "
        "NaN, elsewhere anything, and no factor of 0 removes a NaN.",
        "Which argument of tl.load is for the lanes that the mask stops, and which number leaves your sum as it is?",
        *forms,
    )


def mask_of_places(*forms: Form) -> Mistake:
    """A mask that asks for the place in memory."""
    return Mistake(
        "K48",
        "Your mask compares places in memory with a length. For the first program that is right by chance: a length ends "
        "the numbers of the lanes, and places go on.",
        "For 5 values a row and BLOCK = 8: at which places do the lanes of program 1 look, and which of them hold a value?",
        *forms,
    )


def one_place(*forms: Form) -> Mistake:
    """Results that are stored in the wrong place."""
    return Mistake(
        "K27",
        "Results are stored in the wrong place: programs overwrite each other's, or miss the tensor.",
        "Program 0 and program 1 run the same lines. At which place does each of them store?",
        *forms,
    )


def half_sums(*forms: Form) -> Mistake:
    """Sums in the dtype of the input."""
    return Mistake(
        "K13",
        "You sum in the dtype of x. float16 ends at 65,504, and long before that its sums lose digits.",
        "Which dtype has your tile right after tl.load, and which should it have before you add anything up?",
        *forms,
    )


def never_stored(*outputs: str, says: str = "") -> Mistake:
    """An output that no program writes."""
    return Mistake(
        "K28",
        "One of the outputs is never stored: it holds what stood there before.",
        "How many calls of tl.store does your kernel need, and how many has it?",
        *({name: lambda s, name=name: np.full_like(getattr(type(s), name).compute(s), FILL)} for name in outputs),
    )


# Texts


def _places(count: float) -> str:
    return f"{'at least ' if count == FARTHEST else ''}{count:g} place{'' if count == 1 else 's'}"


WORDING: Wording = {
    "reads_beyond": lambda i, got, expected: f"A lane reads outside of its tensor, {_places(got)} away.",
    "writes_beyond": lambda i, got, expected: f"A lane writes outside of its tensor, {_places(got)} away.",
}

READS_INSIDE = Property(
    "every lane that reads stays inside of the tensor.", lambda o, i: all(o[n]["reads_beyond"] == 0 for n in i)
)
WRITES_INSIDE = Property(
    "every lane that writes stays inside of the tensor.", lambda o, i: all(o[n]["writes_beyond"] == 0 for n in i)
)


def written(*outputs: str) -> Property:
    """Whether every place of the outputs was written."""
    return Property(
        "every place of the output is written.",
        lambda o, i: all((o[n][name] != FILL).all() for n in i for name in outputs),
    )
