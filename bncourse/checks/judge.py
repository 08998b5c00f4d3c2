"""Turn observations into a report: right or wrong, which mistake, and what else helps."""

import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from .compare import all_same, same
from .exercise import Exercise, Explanation, Outputs, Probe, Property
from .explain import explain
from .naming import explanation_on, explanations
from .observe import Outcome
from .report import Report

MOST_NAMED = 3  # explanations that fit equally well; more would not help


def judge(exercise: Exercise, fresh: Probe, outcomes: Sequence[Outcome], seed: int) -> Report:
    """The report on what :func:`observe` saw.

    Args:
        exercise: what was to be solved.
        fresh: the probe made from ``seed``, which came after the exercise's own.
        outcomes: one per probe, and one more for the first probe again; fewer if a call ended it.
        seed: of the fresh probe.
    """
    with np.errstate(all="ignore"), warnings.catch_warnings():  # wrong values may be infinite, or missing
        warnings.simplefilter("ignore")
        return _judge(exercise, fresh, outcomes, seed)


def _judge(exercise: Exercise, fresh: Probe, outcomes: Sequence[Outcome], seed: int) -> Report:
    probes = [*exercise.probes, fresh]
    ended_early = len(outcomes) <= len(probes)
    if ended_early or all(outcome.problem for outcome in outcomes):
        return _without_values(exercise, outcomes[-1 if ended_early else 0], seed)
    case = (_Questions if exercise.separate else _Case)(exercise, probes, outcomes, seed)
    if case.wrong or case.asides:
        return Report(exercise.id, "incorrect", case.ids(), case.message(), case.details, seed)
    return Report(exercise.id, "correct", message=case.praise(), seed=seed)


def _without_values(exercise: Exercise, outcome: Outcome, seed: int) -> Report:
    """The report if no call gave anything to compare."""
    problem = outcome.problem
    verdict = "not attempted" if problem.kind == "not attempted" else "incorrect"
    ids = (problem.mistake,) if problem.mistake else ()
    return Report(exercise.id, verdict, ids, problem.says, problem.details, seed)


class _Case:
    """A wrong answer, or one whose right values have a side effect."""

    def __init__(self, exercise: Exercise, probes: Sequence[Probe], outcomes: Sequence[Outcome], seed: int):
        self.exercise = exercise
        self.probes = probes
        *self.outcomes, self.again = outcomes
        self.seed = seed
        self.expected = [exercise.expected(probe) for probe in probes]
        self.wrong = [i for i in range(len(probes)) if not self._right(i)]
        self.asides = dict(self._asides())

    def _right(self, i: int) -> bool:
        outputs = self.outcomes[i].outputs
        return outputs is not None and all_same(outputs, self.expected[i], self.probes[i])

    def _asides(self) -> Iterator[tuple[str, str | None]]:
        """What is wrong beside the values: the sentence, and the mistake's id or None."""
        changed = sorted({name for outcome in self.outcomes for name in outcome.changed})
        for name in changed:
            says = f"Your {self.exercise.noun} changed its input {name}: which line writes into it?"
            yield f"{says} Whoever uses {name} next gets other values.", self.exercise.changing.get(name)
        first, again = self.outcomes[0].outputs, self.again
        if first is not None and again.problem:
            yield f"A second call with the same input ended otherwise. {again.problem.says}", None
        elif first is not None and not all_same(again.outputs, first, self.probes[0]):
            yield "A second call with the same input gave another answer: something is kept between calls.", None

    @cached_property
    def named(self) -> list[Explanation]:
        """The known mistakes that fit; none if only fresh data is wrong."""
        known = any(i < len(self.exercise.probes) for i in self.wrong)
        return explanations(self.exercise, self.outcomes)[:MOST_NAMED] if known else []

    @property
    def details(self) -> str:
        """The first traceback."""
        return next((outcome.problem.details for outcome in self.outcomes if outcome.problem), "")

    def ids(self) -> tuple[str, ...]:
        """The ids of everything that was recognized, each once."""
        by_value = [id for explanation in self.named for id in explanation.ids]
        by_problem = [outcome.problem.mistake for outcome in self.outcomes if outcome.problem and not by_value]
        return tuple(dict.fromkeys(id for id in [*by_value, *by_problem, *self.asides.values()] if id))

    def praise(self) -> str:
        """What to tell the learner if all is right."""
        return f"Right on {len(self.probes)} inputs; the last was fresh and random (seed {self.seed})."

    def message(self) -> str:
        """What to tell the learner, line by line."""
        properties = self._properties() if self.wrong else ""  # that they hold would sound as if all were well
        lines = [properties, *self.asides, *self._names(), *self._evidence()]
        if self.named:
            first, *more = self.named[0].mistakes
            lines.append(f"Next{', for the first of them' if more else ''}: {first.asks}")
        elif self.wrong:
            lines.append(
                f'Next: compare your intermediate values, one line at a time, or open a hint("{self.exercise.id}").'
            )
        lines.append(f"(Seed of the random input: {self.seed}.)")
        return "\n".join(filter(None, lines))

    def _properties(self) -> str:
        """How many properties hold, and the first that does not; without values there is nothing to say."""
        if any(outcome.problem for outcome in self.outcomes):
            return ""
        outputs = {probe.name: o.outputs for probe, o in zip(self.probes, self.outcomes, strict=True) if o.outputs}
        failing = [each for each in self.exercise.properties if not _holds(each, outputs, self.probes)]
        total = len(self.exercise.properties)
        if not failing:
            return f"All {total} properties hold, but the answer differs."
        return f"{total - len(failing)} of {total} properties hold. The first that does not: {failing[0].says}"

    def _names(self) -> list[str]:
        """The mistakes in a sentence each."""
        if not self.named:
            return self._only_fresh_is_wrong()
        texts = [" And: ".join(mistake.says for mistake in explanation.mistakes) for explanation in self.named]
        if len(texts) > 1:
            return ["These explanations fit equally well:", texts[0], *(f"Or: {text}" for text in texts[1:])]
        together = len(self.named[0].mistakes) > 1
        return [f"Two mistakes at once. {texts[0]}" if together else texts[0]]

    def _only_fresh_is_wrong(self) -> list[str]:
        if self.wrong and self.wrong[0] == len(self.exercise.probes):
            says = f"Right on the fixed inputs, wrong on fresh random data (seed {self.seed})."
            return [f"{says} Does your code depend on certain shapes or values?"]
        return []

    def _evidence(self) -> list[str]:
        """The first input that shows the mistake, and what happened there."""
        if not self.wrong:
            return ["Apart from that, all values are right."]
        i = self.wrong[0]
        outcome, probe = self.outcomes[i], self.probes[i]
        lines = [f"Seen with {probe.reason}"]
        if outcome.problem:
            return [*lines, outcome.problem.says]
        lines += self._raised_elsewhere()
        if not self.named:
            lines.insert(0, self._already_right())
        outputs, right, exercise = outcome.outputs, self.expected[i], self.exercise
        how = {"channels": exercise.channels, "wording": exercise.wording, "noun": exercise.noun}
        return lines + explain(probe, outputs, right, brief=bool(self.named), **how)

    def _raised_elsewhere(self) -> list[str]:
        """The first error, if there was one on a later input."""
        for probe, outcome in zip(self.probes, self.outcomes, strict=True):
            if outcome.problem:
                return [f"And with {probe.reason} {outcome.problem.says}"]
        return []

    def _already_right(self) -> str:
        """Which of several outputs are right on every probe; a yes or a no says nothing to a learner."""
        facts = {name for name in self.exercise.outputs if all(_yes_or_no(right[name]) for right in self.expected)}
        every = range(len(self.probes))
        right = [name for name in self.exercise.outputs if all(self._output_right(name, i) for i in every)]
        right = [name for name in right if name not in facts]
        return f"Already right: {', '.join(right)}." if right else ""

    def _output_right(self, name: str, i: int) -> bool:
        outputs = self.outcomes[i].outputs
        return outputs is not None and same(outputs[name], self.expected[i][name], self.probes[i])


class _Questions(_Case):
    """The same for an exercise whose probes are questions of their own."""

    @cached_property
    def unsolved(self) -> list[int]:
        """The questions that are not answered right; the fresh one repeats one of them."""
        return [i for i in self.wrong if i < len(self.exercise.probes)]

    @cached_property
    def mistakes(self) -> dict[int, Explanation]:
        """For each unsolved question the known mistake, if it is one."""
        found = {i: explanation_on(self.exercise, self.probes[i], self.outcomes[i]) for i in self.unsolved}
        return {i: explanation for i, explanation in found.items() if explanation}

    @cached_property
    def named(self) -> list[Explanation]:
        """The known mistakes, however many."""
        return list(self.mistakes.values())

    def praise(self) -> str:
        """What to tell the learner if all is right."""
        return f"All {len(self.exercise.probes)} are right."

    def message(self) -> str:
        """What to tell the learner: the first unsolved questions in full, the others by name."""
        total = len(self.exercise.probes)
        solved = total - len(self.unsolved)
        score = f"{solved} of {total} {'is' if solved == 1 else 'are'} right."
        lines = [score, *map(self._about, self.unsolved[:MOST_NAMED])]
        if self.unsolved[MOST_NAMED:]:
            others = ", ".join(self.probes[i].name for i in self.unsolved[MOST_NAMED:])
            lines.append(f"Not right yet, either: {others}. More on them when those above are right.")
        if not self.unsolved:
            lines += [*self.asides, *self._only_fresh_is_wrong()]
        return "\n".join(lines)

    def _about(self, i: int) -> str:
        """What is wrong with the answer to a question."""
        if i in self.mistakes:
            (mistake,) = self.mistakes[i].mistakes
            return f"{mistake.says} {mistake.asks}"
        problem = self.outcomes[i].problem
        return f"{self.probes[i].name}: {problem.says if problem else 'not right.'}"


def _yes_or_no(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0, 1)).all())


def _holds(property: Property, outputs: dict[str, Outputs], probes: Sequence[Probe]) -> bool:
    """Whether a property holds; not if a value that it needs is missing or has another shape."""
    try:
        return bool(property.holds(outputs, {probe.name: probe.inputs for probe in probes}))
    except (KeyError, ValueError, IndexError):
        return False
