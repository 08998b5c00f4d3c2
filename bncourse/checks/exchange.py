"""Observations as JSON: how the process that runs a notebook sends them to the one that judges.

What arrives was written beside a stranger's code, so it is data and nothing else: no pickles, and
nothing is used before its form was checked.
"""

import base64
from collections.abc import Mapping
from dataclasses import asdict
from typing import TypeVar

import numpy as np

from .exercise import Exercise
from .observe import Outcome, Problem

T = TypeVar("T")

DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64")  # what ``observe`` lets through
LONGEST_TEXT = 20_000  # characters of a message or a traceback


def pack(outcome: Outcome) -> dict[str, object]:
    """An outcome in the types of JSON."""
    outputs = outcome.outputs
    return {
        "outputs": None if outputs is None else {name: _pack_array(array) for name, array in outputs.items()},
        "problem": None if outcome.problem is None else asdict(outcome.problem),
        "changed": list(outcome.changed),
    }


def unpack(data: object, exercise: Exercise) -> list[Outcome]:
    """The outcomes of one function, as many as ``judge`` needs.

    Raises:
        ValueError: the data do not have the form of what ``observe`` returns for this exercise.
    """
    calls = len(exercise.probes) + 2  # the fresh probe, and the first one again
    outcomes = [_unpack_outcome(_of(dict, one), exercise) for one in _of(list, data)]
    ended_early = len(outcomes) < calls
    if not outcomes or len(outcomes) > calls or (ended_early and outcomes[-1].problem is None):
        raise ValueError(f"expected {calls} outcomes, or a problem as the last one; got {len(outcomes)}")
    return outcomes


def _unpack_outcome(data: Mapping, exercise: Exercise) -> Outcome:
    outputs, problem = data.get("outputs"), data.get("problem")
    if (outputs is None) == (problem is None):
        raise ValueError("expected either outputs or a problem")
    if outputs is not None and set(_of(dict, outputs)) != set(exercise.outputs):
        raise ValueError(f"expected the outputs {exercise.outputs}")
    changed = tuple(_of(str, name) for name in _of(list, data.get("changed")))
    if not set(changed) <= set(exercise.parameters):
        raise ValueError(f"expected inputs among {exercise.parameters} as changed")
    return Outcome(
        None if outputs is None else {name: _unpack_array(outputs[name]) for name in exercise.outputs},
        None if problem is None else _unpack_problem(_of(dict, problem), exercise),
        changed,
    )


def _unpack_problem(data: Mapping, exercise: Exercise) -> Problem:
    kind, says, details = (_of(str, data.get(name))[:LONGEST_TEXT] for name in ("kind", "says", "details"))
    mistake = data.get("mistake")
    return Problem(kind, says, details, None if mistake is None else _of(str, mistake)[:10])


def _pack_array(array: np.ndarray) -> dict[str, object]:
    data = base64.b64encode(array.tobytes()).decode("ascii")
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def _unpack_array(data: object) -> np.ndarray:
    """An array whose size is that of the data that came, whatever its shape promises."""
    fields = _of(dict, data)
    dtype, shape = fields.get("dtype"), tuple(_of(int, length) for length in _of(list, fields.get("shape")))
    if dtype not in DTYPES or min(shape, default=0) < 0:
        raise ValueError(f"expected a dtype among {DTYPES} and a shape, got {dtype!r:.50} and {shape!r:.50}")
    raw = base64.b64decode(_of(str, fields.get("data")), validate=True)
    return np.frombuffer(raw, dtype).reshape(shape).copy()  # reshape refuses another size


def _of(kind: type[T], value: object) -> T:
    """The value, if it is exactly of this type; a bool is no int here."""
    if type(value) is not kind:
        raise ValueError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value
