"""Describe an error that matches no known mistake: its form, and the first wrong value."""

import math
from collections.abc import Iterator
from types import MappingProxyType

import numpy as np

from .compare import deviations, same
from .exercise import Inputs, Outputs, Probe, Wording

PLACES = {"decay": "for parameter", "scaled": "for process"}  # of values that belong to no channel
SYMBOLS = {"weight": "γ", "bias": "β", "bn_weight": "γ", "bn_bias": "β"}


def explain(
    probe: Probe,
    outputs: Outputs,
    right: Outputs,
    *,
    channels: int = 1,
    brief: bool = False,
    wording: Wording = MappingProxyType({}),
    noun: str = "function",
) -> list[str]:
    """Lines about the first output that is wrong: the form of the error, unless ``brief``, and the first value.

    ``channels`` is the axis of the channels in arrays shaped like the input; ``wording`` speaks of outputs that have
    a sentence of their own; ``noun`` is what the answer is: a kernel returns nothing.
    """
    name = next(name for name in right if not same(outputs[name], right[name], probe))
    got, expected = outputs[name].astype(np.float64), right[name]
    if got.shape != expected.shape:
        return [_about_shape(probe, name, got, expected)]
    if name in wording:
        return [wording[name](probe.inputs, got.item(), expected.item())]
    first = _first_wrong_value(probe, name, got, expected)
    if brief or np.isin([*got.flat, *expected.flat], (0, 1)).all():  # a yes or a no has no form
        return [first]
    axis = _channel_axis(name, expected, channels)
    form = _form_of_error(probe, name, got, expected, axis, channels, noun)
    where = _where(probe, name, got, expected, axis, _kind(channels))
    return [*filter(None, (form, where)), first]


def _about_shape(probe: Probe, name: str, got: np.ndarray, expected: np.ndarray) -> str:
    says = f"{name} has the shape {got.shape}, expected {expected.shape}"
    if any(same(turned, expected, probe) for turned in _transpositions(got)):
        return f"{says}: the values are right, the axes are not in the order of the input."
    if got.size == expected.size and same(got.reshape(expected.shape), expected, probe):
        return f"{says}: the values are right."
    return f"{says}."


def _form_of_error(
    probe: Probe, name: str, got: np.ndarray, expected: np.ndarray, axis: int | None, channels: int, noun: str
) -> str:
    """A factor, a shift or a transposition that explains the whole error; empty if there is none."""
    if any(same(turned, expected, probe) for turned in _transpositions(got)):
        return f"{name} is right but for the order of its axes: it is transposed."
    if not np.isfinite(got).all():
        bad = "NaN" if np.isnan(got).any() else "infinite values"
        masked = ", or a masked lane holds nothing that is known" if noun == "kernel" else ""
        return f"{name} contains {bad}: somewhere a zero is divided by zero, or a number is too large{masked}."
    return (
        _zeros(name, got, expected, axis, _kind(channels), noun)
        or _factor(probe, name, got, expected, axis, channels)
        or _shift(probe, name, got, expected, axis, channels)
        or _rounding(name, got, expected)
    )


def _kind(channels: int) -> str:
    """What the values along the axis of the channels are called."""
    return {-1: "feature", 0: "row"}.get(channels, "channel")


def _zeros(name: str, got: np.ndarray, expected: np.ndarray, axis: int | None, kind: str, noun: str) -> str:
    """Which channels are all zero although they should not be."""
    if axis is None:
        return ""
    others = _others(axis, expected.ndim)
    zero = np.flatnonzero((got == 0).all(axis=others) & (expected != 0).any(axis=others))
    if not zero.size:
        return ""
    if not got.any():
        return f"{name} is all 0."
    asks = "" if noun == "kernel" else " Is the return inside a loop?"
    return f"{name} is all 0 {_places(name, zero, kind)}.{asks}"


def _factor(
    probe: Probe, name: str, got: np.ndarray, expected: np.ndarray, axis: int | None, channels: int
) -> str | None:
    """The error as a factor, the same everywhere or one for each channel."""
    factor = _ratio(got, expected, None)
    if same(-expected, got, probe):
        return f"{name} has the wrong sign."
    if same(factor * expected, got, probe):
        if f"{factor.item():.4g}" in ("0", "1"):
            return None
        numbers = _numbers(probe.inputs, channels)
        known = [text for text, value in numbers if math.isclose(value, factor.item(), rel_tol=1e-3)]
        return f"Every value of {name} is {factor.item():.4g} times the expected one{_as(known)}."
    if axis is None:
        return None
    factor = _ratio(got, expected, axis)
    if not same(factor * expected, got, probe):
        return None
    vectors = _vectors(probe.inputs, channels)
    known = [text for text, value in vectors if np.allclose(value, factor.ravel(), rtol=1e-3)]
    if expected.ndim == 1 and not known:
        return None  # one value per channel is always some factor off
    return f"Each {_kind(channels)} of {name} is off by a factor of its own{_as(known)}."


def _shift(
    probe: Probe, name: str, got: np.ndarray, expected: np.ndarray, axis: int | None, channels: int
) -> str | None:
    """The error as something added, the same everywhere or one for each channel."""
    difference = got - expected
    if same(expected + difference.mean(), got, probe):
        return f"Every value of {name} is off by the same amount, {difference.mean():.4g}."
    if axis is None:
        return None
    shift = difference.mean(axis=_others(axis, expected.ndim), keepdims=True)
    if not same(expected + shift, got, probe):
        return None
    vectors = dict(_vectors(probe.inputs, channels))
    signed = {**vectors, **{f"−{text}": -value for text, value in vectors.items()}}
    known = [text for text, value in signed.items() if np.allclose(value, shift.ravel(), rtol=1e-3)]
    if expected.ndim == 1 and not known:
        return None
    return f"Each {_kind(channels)} of {name} is shifted by an amount of its own{_as(known)}."


def _rounding(name: str, got: np.ndarray, expected: np.ndarray) -> str:
    """Whether a few digits are right everywhere."""
    if np.abs(got - expected).max() > 3e-3 * np.abs(expected).max():
        return ""
    return f"{name} is nearly right, to two or three digits: is something rounded, or float16?"


def _where(probe: Probe, name: str, got: np.ndarray, expected: np.ndarray, axis: int | None, kind: str) -> str:
    """Which channels are wrong, if some are right."""
    if axis is None:
        return ""
    wrong = ~(deviations(got, expected, probe) <= 1)
    channels = np.flatnonzero(wrong.any(axis=_others(axis, expected.ndim)))
    if len(channels) == expected.shape[axis]:
        return ""
    return f"{name} is wrong only {_places(name, channels, kind)}."


def _places(name: str, channels: np.ndarray, kind: str) -> str:
    return f"{PLACES.get(name, f'in {kind}')} {', '.join(map(str, channels))} (counted from 0)"


def _first_wrong_value(probe: Probe, name: str, got: np.ndarray, expected: np.ndarray) -> str:
    wrong = np.isnan(got) if np.isnan(got).any() else ~(deviations(got, expected, probe) <= 1)
    position = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f"{name}[{', '.join(map(str, position))}]" if position else name
    value, right = _digits(got[position], expected[position])
    return f"First wrong value: {place} is {value}, expected {right}."


def _digits(one: float, other: float) -> tuple[str, str]:
    """Two numbers with six digits; with more if the numbers are whole, or else they would look alike."""
    whole = all(float(value).is_integer() for value in (one, other))
    digits = 15 if whole or f"{one:.6g}" == f"{other:.6g}" else 6
    return f"{one:.{digits}g}", f"{other:.{digits}g}"


def _transpositions(got: np.ndarray) -> Iterator[np.ndarray]:
    """The array with its axes reversed, or with one axis moved."""
    if got.ndim > 1:
        yield got.T
        for axis in range(1, got.ndim):
            yield np.moveaxis(got, 0, axis)
            yield np.moveaxis(got, axis, 0)
            yield np.moveaxis(got, 1, axis)
            yield np.moveaxis(got, axis, 1)


def _channel_axis(name: str, values: np.ndarray, channels: int) -> int | None:
    """The axis of the channels; of the weight of a convolution that of the output channels."""
    if values.ndim == 0:
        return None
    return 0 if values.ndim == 1 or name == "new_weight" else channels % values.ndim


def _others(axis: int, ndim: int) -> tuple[int, ...]:
    return tuple(i for i in range(ndim) if i != axis)


def _ratio(got: np.ndarray, expected: np.ndarray, axis: int | None) -> np.ndarray:
    """The factor that fits best, by least squares, over everything or for each channel."""
    axes = None if axis is None else _others(axis, expected.ndim)
    square = (expected**2).sum(axis=axes, keepdims=True)
    return (got * expected).sum(axis=axes, keepdims=True) / np.where(square == 0, 1, square)


def _numbers(inputs: Inputs, channels: int) -> Iterator[tuple[str, float]]:
    """Factors that people get wrong, with what they are called."""
    yield from (("2", 2.0), ("1/2", 0.5), ("−1", -1.0))
    x = inputs.get("x")
    if not isinstance(x, np.ndarray) or x.ndim < 2:
        return
    counts = {"N": x.shape[1] if channels == 0 else len(x)}
    if x.ndim > 2 and channels == 1:
        counts |= {"(N·H·W)": x.size // x.shape[1], "(H·W)": x[0, 0].size}
    for text, count in counts.items():
        yield from ((text.strip("()"), count), (f"1/{text}", 1 / count))
        if count > 1:
            ratio, less = count / (count - 1), f"({text.strip('()')} − 1)"
            yield from ((f"{text}/{less}", ratio), (f"{less}/{text}", 1 / ratio))
            yield from ((f"√({text}/{less})", ratio**0.5), (f"√({less}/{text})", ratio**-0.5))


def _vectors(inputs: Inputs, channels: int) -> Iterator[tuple[str, np.ndarray]]:
    """Values per channel that people forget or use twice, with what they are called."""
    given = {SYMBOLS.get(name, name): v for name, v in inputs.items() if isinstance(v, np.ndarray) and v.ndim == 1}
    known = {name: v.astype(float) for name, v in given.items() if name in ("γ", "β", "running_mean", "running_var")}
    x = inputs.get("x")
    if isinstance(x, np.ndarray) and x.ndim > 1:
        axes = _others(channels % x.ndim, x.ndim)
        known |= {"σ": x.std(axis=axes, dtype=float), "σ²": x.var(axis=axes, dtype=float), "μ": x.mean(axis=axes)}
    with np.errstate(all="ignore"):
        for text, value in known.items():
            yield text, value
            yield f"1/{text}", 1 / value


def _as(known: list[str]) -> str:
    return f", and that is {known[0]}" if known else ""
