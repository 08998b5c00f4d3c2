"""Find the known mistakes that explain what a function returned."""

from collections.abc import Iterator, Sequence

import numpy as np

from .compare import ABSOLUTE, all_same
from .exercise import Exercise, Explanation, Outputs, Probe
from .observe import Outcome


def explanations(exercise: Exercise, outcomes: Sequence[Outcome]) -> list[Explanation]:
    """What fits on all of the exercise's probes: single mistakes, or if there are none, pairs of them.

    Of several forms of the same mistakes the first stands for all.
    """
    got = [outcome.outputs for outcome in outcomes[: len(exercise.probes)]]
    return _fitting(exercise, exercise.singles, got) or _fitting(exercise, exercise.pairs, got)


def explanation_on(exercise: Exercise, probe: Probe, outcome: Outcome) -> Explanation | None:
    """The single mistake that fits on one probe; for exercises whose probes are questions of their own."""
    if outcome.outputs is None or all_same(outcome.outputs, exercise.expected(probe), probe):
        return None
    return next((single for single in exercise.singles if _fits(exercise, probe, single, outcome.outputs)), None)


def _fitting(exercise: Exercise, candidates: Sequence[Explanation], got: Sequence[Outputs | None]) -> list[Explanation]:
    found: dict[tuple[str, ...], Explanation] = {}
    for candidate in _plausible(candidates, exercise.probes[0], got[0]):
        if all(_fits(exercise, probe, candidate, outputs) for probe, outputs in zip(exercise.probes, got, strict=True)):
            found.setdefault(candidate.ids, candidate)
    return list(found.values())


def _fits(exercise: Exercise, probe: Probe, candidate: Explanation, got: Outputs | None) -> bool:
    """Whether the mistakes lead to ``got``; None stands for an error."""
    mistaken = candidate.outputs(probe)
    if mistaken is None or got is None:
        return mistaken is got
    if not probe.rough:
        return all_same(got, mistaken, probe)
    right = exercise.expected(probe)  # the digits of a wrong value are noise here
    return all_same(got, right, probe) == all_same(mistaken, right, probe)


def _plausible(candidates: Sequence[Explanation], probe: Probe, got: Outputs | None) -> Iterator[Explanation]:
    """The candidates that may fit on one probe, found with a few array operations instead of one by one.

    The tolerance is at least that of ``_fits``, so that nothing which fits is lost.
    """
    outputs = [candidate.outputs(probe) for candidate in candidates]
    shapes = _shapes(got)
    alike = [i for i, each in enumerate(outputs) if _shapes(each) == shapes]
    if got is None or not alike:
        yield from (candidates[i] for i in alike)
        return
    values, mistaken = _flat(got), np.stack([_flat(outputs[i]) for i in alike])
    finite = np.isfinite(mistaken)
    size = np.where(finite, np.abs(mistaken), 0)
    with np.errstate(invalid="ignore"):
        close = np.abs(mistaken - values) <= probe.rtol * size + probe.floor * size.max(1, keepdims=True) + ABSOLUTE
    fits = np.where(finite, close, ~np.isfinite(values)).all(axis=1)
    yield from (candidates[alike[k]] for k in np.flatnonzero(fits))


def _shapes(outputs: Outputs | None) -> tuple[tuple[int, ...], ...] | None:
    return None if outputs is None else tuple(array.shape for array in outputs.values())


def _flat(outputs: Outputs) -> np.ndarray:
    return np.concatenate([array.ravel() for array in outputs.values()])
