"""What the norms of rows and those of images have in common: mistakes, changes of probes, properties."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from ..chapter_02 import AFFINE_MISTAKES, STATISTICS_MISTAKES, BatchNorm, Words, chosen, close, told, with_forms
from ..exercise import Inputs, Outputs, Probe, Property

# Mistakes, in words that fit every norm

_AT_ZERO = "What is y where x̂ is 0?"

STATISTICS = told(
    chosen(
        STATISTICS_MISTAKES,
        *("F01", "F02", "F03", "F04", "F06", "F07", "F08", "F14", "F15", "F19", "F29", "F30", "F31", "F36", "F37"),
        *("F38", "F39", "F40"),
    ),
    {
        "F01": Words(
            "In the variance you divided by the number of values less 1. It is divided by the number of values "
            "(torch's var subtracts 1 by default).",
            "What should the mean of the squares of x̂ be, over the values that share a mean?",
        ),
        "F03": Words(
            "ε is missing: where all values that share a mean are equal, you divide 0 by 0.",
            "Where does eps occur in your code?",
        ),
    },
)

_GAMMA_FIRST = {
    "data": lambda s: s.scale * s.x,
    "y": lambda s: s.x_hat + s.shift,
    "scale": BatchNorm.scale.compute,  # used in another place, so not missing
}

AFFINE = told(
    with_forms(AFFINE_MISTAKES, "F33", _GAMMA_FIRST),
    {
        "F09": Words("You swapped γ and β: γ scales, β shifts.", _AT_ZERO),
        "F11": Words("You never added β.", _AT_ZERO),
        "F12": Words("You never multiplied by γ.", "By how much does y grow when x̂ grows by 1?"),
        "F32": Words("You subtracted β; it is added.", _AT_ZERO),
        "F33": Words(
            "You applied γ, or γ and β, before normalizing. They come after it, so that no normalization touches them.",
            "What is y where all values that share a mean are equal?",
        ),
    },
)


# Probes

SQUARE = "axes of equal length, so that shapes fit which should not."


def narrow(inputs: Inputs, axes: tuple[int, ...]) -> dict[str, object]:
    """The same with values around 0 whose variance is smaller than ε."""
    x = inputs["x"]
    return {**inputs, "x": 0.1 * (x - x.mean(axes, keepdims=True)), "eps": 1.0}


def without(probes: tuple[Probe, ...], name: str) -> tuple[Probe, ...]:
    """The same probes without one of the inputs."""
    return tuple(replace(probe, inputs={key: v for key, v in probe.inputs.items() if key != name}) for probe in probes)


# Properties


def x_hat(outputs: Mapping[str, Outputs], inputs: Mapping[str, Inputs], probe: str) -> np.ndarray:
    """What y was before γ and β."""
    given, y = inputs[probe], outputs[probe]["y"]
    if y.shape != given["x"].shape:
        raise ValueError("expected the shape of x")
    shape = (-1, 1, 1) if y.ndim == 4 else (-1,)
    return (y - given.get("bias", np.zeros(1)).reshape(shape)) / given["weight"].reshape(shape)


def _as_rows(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, values.shape[-1])


def holds_in_each(groups: int | None, holds: Callable[[np.ndarray], bool]) -> Callable:
    """Whether something holds for the values that share a mean, each set of them a row; without groups they are rows."""

    def check(outputs: Mapping[str, Outputs], inputs: Mapping[str, Inputs]) -> bool:
        probes = ("plain",) if groups else ("plain", "sequence")
        values = [x_hat(outputs, inputs, probe) for probe in probes]
        return all(holds(each.reshape(len(each) * groups, -1) if groups else _as_rows(each)) for each in values)

    return check


def forward_properties(place: str, groups: int | None = None) -> tuple[Property, ...]:
    """What the three norms with a mean do; ``place`` is the place of values that share one."""
    return (
        Property(
            "what becomes of the first sample does not depend on the others.",
            lambda o, i: close(o["alone"]["y"], o["plain"]["y"][:1]),
        ),
        Property(
            f"(y − β) / γ has the mean 0 in every {place}.",
            holds_in_each(groups, lambda rows: close(rows.mean(1), 0.0)),
        ),
        Property(
            f"(y − β) / γ has the standard deviation 1 in every {place}, as ε is small.",
            holds_in_each(groups, lambda rows: close(rows.std(1), 1.0)),
        ),
        Property(
            "multiplying x by 3 and adding 5 changes nothing, as ε is small.",
            lambda o, i: close(o["moved"]["y"], o["plain"]["y"]),
        ),
        Property(
            f"a {place} of equal values gives β.",
            lambda o, i: close(x_hat(o, i, "constant")[0, : 6 // groups if groups else None], 0.0),
        ),
    )
