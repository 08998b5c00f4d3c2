"""Find the known mistakes that explain what a function returned."""

from collections.abc import Iterable, Sequence

from .compare import all_same
from .exercise import Exercise, Explanation, Outputs, Probe
from .observe import Outcome


def explanations(exercise: Exercise, outcomes: Sequence[Outcome]) -> list[Explanation]:
    """What fits on all of the exercise's probes: single mistakes, or if there are none, pairs of them.

    Of several forms of the same mistakes the first stands for all.
    """
    got = [outcome.outputs for outcome in outcomes[: len(exercise.probes)]]
    return _fitting(exercise, exercise.singles, got) or _fitting(exercise, exercise.pairs, got)


def _fitting(exercise: Exercise, candidates: Iterable[Explanation], got: Sequence[Outputs | None]) -> list[Explanation]:
    found: dict[tuple[str, ...], Explanation] = {}
    for candidate in candidates:
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
