"""How well the checks do: every known mistake, every pair and many right answers through every check.

python tests/scores.py writes the table that the book shows; tests/test_scores.py compares.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import conftest  # noqa: F401 - kernels run on the CPU: before triton is imported
import numpy as np
from right_answers import RIGHT

from bncourse.checks import EXERCISES, Report, check, fresh_probe
from bncourse.checks.exercise import ERRORS_OF_MISTAKES, Exercise, Explanation, Form
from bncourse.checks.judge import judge
from bncourse.checks.observe import observe

TABLE = Path(__file__).parent.parent / "book" / "results" / "check_scores.md"
SEED = 1  # of the fresh probe, so that the answers to it can be computed beforehand

HEADER = """\
| Exercise | Caught | Named | Float32 | Pairs | Both | Right |
|:--|--:|--:|--:|--:|--:|--:|
"""


@dataclass(frozen=True)
class Learner:
    """Someone who makes one known mistake, or two, and no other."""

    ids: tuple[str, ...]
    answer: Callable


@dataclass(frozen=True)
class Score:
    """What became of the mistakes, the pairs and the right answers of one exercise.

    ``pairs`` counts what a pair was told: "both" ids, "one" of them as the pair acts like that mistake alone,
    "shared" if other explanations fit as well, "raises" if every call raised an error, "wrong" if nothing of this,
    or "accepted".
    """

    exercise: str
    mistakes: int
    caught: int
    named: int
    named_in_float32: int
    pairs: Counter
    right: int
    accepted: int

    def row(self) -> str:
        """The line of the table."""
        pairs, made = self.pairs, self.mistakes
        alone = pairs["both"] + pairs["wrong"]
        counts = (
            *((self.caught, made), (self.named, made), (self.named_in_float32, made)),
            *((pairs.total() - pairs["accepted"], pairs.total()), (pairs["both"], alone)),
            (self.accepted, self.right),
        )
        return f"| `{self.exercise}` | {' | '.join(f'{count}/{total}' for count, total in counts)} |"


def score(exercise: Exercise) -> Score:
    """Run everything known about an exercise through its check."""
    learners = [learner(exercise, mistake) for mistake in exercise.singles] + changing(exercise)
    in_float32 = [learner(exercise, mistake, np.float32) for mistake in exercise.singles] + changing(exercise)
    reports = [report_on(exercise, each) for each in learners]
    return Score(
        exercise.id,
        mistakes=len(learners),
        caught=sum(report.verdict == "incorrect" for report in reports),
        named=sum(report.mistakes == each.ids for each, report in zip(learners, reports, strict=True)),
        named_in_float32=sum(report_on(exercise, each).mistakes == each.ids for each in in_float32),
        pairs=Counter(fate(exercise, learner(exercise, pair)) for pair in plain_pairs(exercise)),
        right=len(RIGHT[exercise.id]),
        accepted=sum(check(exercise.id, f, seed=SEED).verdict == "correct" for f in RIGHT[exercise.id].values()),
    )


def plain_pairs(exercise: Exercise) -> list[Explanation]:
    """Every two mistakes, in the first of their forms that can be made together."""
    pairs: dict[tuple[str, ...], Explanation] = {}
    for pair in exercise.pairs:
        pairs.setdefault(pair.ids, pair)
    return list(pairs.values())


def learner(exercise: Exercise, mistake: Explanation, dtype: type = np.float64) -> Learner:
    """Someone who makes these mistakes, computing in ``dtype``."""
    return Learner(mistake.ids, from_memory(exercise, mistake.form, dtype))


def changing(exercise: Exercise) -> list[Learner]:
    """For every input that must not be changed, someone who changes it and is right otherwise."""
    return [
        Learner((id,), from_memory(exercise, {}, changes=name))
        for name, id in exercise.changing.items()
        if name in exercise.parameters
    ]


def from_memory(exercise: Exercise, form: Form, dtype: type = np.float64, changes: str | None = None) -> Callable:
    """The mistaken operation with its results computed beforehand: the check would see the course's code being called."""
    probes = [*exercise.probes, fresh_probe(exercise, SEED)]
    known = {_key(probe.inputs): _outputs_or_error(exercise, probe.inputs, form, dtype) for probe in probes}

    def answer(**inputs):
        outputs = known[_key(inputs)]
        if changes and inputs[changes] is not None:
            inputs[changes] += 1
        if isinstance(outputs, Exception):
            raise outputs
        return dict(outputs) if exercise.container == "dict" else _alone(list(outputs.values()))

    return answer


def _key(inputs) -> tuple:
    return tuple(value.tobytes() if isinstance(value, np.ndarray) else value for value in inputs.values())


def _outputs_or_error(exercise: Exercise, inputs, form: Form, dtype: type):
    try:
        return exercise.operation.run(inputs, form, dtype)
    except ERRORS_OF_MISTAKES as error:
        return error


def _alone(values: list):
    return values[0] if len(values) == 1 else values


def report_on(exercise: Exercise, learner: Learner) -> Report:
    """What the check tells a learner, whose answer gives the outputs themselves: nothing has to drive it."""
    fresh = fresh_probe(exercise, SEED)
    outcomes = observe(replace(exercise, drive=None), learner.answer, [*exercise.probes, fresh])
    return judge(exercise, fresh, outcomes, SEED)


def fate(exercise: Exercise, learner: Learner) -> str:
    """How a pair of mistakes was named."""
    report = report_on(exercise, learner)
    if report.verdict == "correct":
        return "accepted"
    named, made = set(report.mistakes), set(learner.ids)
    if named == made:
        return "both"
    if len(named) == 1 and "explanations" not in report.message:
        return "one"
    if not named and f"Your {exercise.noun} raised" in report.message:
        return "raises"  # on every input; the message shows the line
    return "shared" if named > made else "wrong"


def table(scores: list[Score]) -> str:
    """All scores as a table in Markdown."""
    return HEADER + "\n".join(each.row() for each in scores) + "\n"


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())  # a check writes progress into its working directory
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(table([score(exercise) for exercise in EXERCISES.values()]), encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"))
