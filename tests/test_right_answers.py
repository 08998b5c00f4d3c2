"""Every right answer is accepted, and none of them only just."""

from collections.abc import Callable

import numpy as np
import pytest
import torch  # noqa: F401 - before the clock of a check runs
from right_answers import RIGHT

from bncourse.checks import EXERCISES, check
from bncourse.checks.compare import deviations
from bncourse.checks.exercise import Outputs, Probe
from bncourse.checks.observe import observe

# Shares of the tolerance. In float64 a right answer leaves nearly all of it; in float32 digits are lost.
EXACT, SAFE = 1e-6, 0.1
THIN = 0.5  # where float32 values have the mean 10,000: theirs is off by up to 0.001

every_answer = pytest.mark.parametrize(
    ("exercise", "function"),
    [
        pytest.param(exercise, function, id=f"{exercise}-{name}")
        for exercise, answers in RIGHT.items()
        for name, function in answers.items()
    ],
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Checks write progress beside the notebook."""
    monkeypatch.chdir(tmp_path)


def test_every_exercise_has_six_answers_beside_the_adapted_ones():
    assert RIGHT.keys() == EXERCISES.keys()
    for exercise, answers in RIGHT.items():
        assert len(set(answers) - {"float32", "returns a list"}) >= 6, exercise


@every_answer
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_answer_is_accepted(exercise: str, function: Callable, seed: int):
    report = check(exercise, function, seed=seed)
    assert report.verdict == "correct", report


@every_answer
def test_answer_keeps_a_margin(exercise: str, function: Callable):
    task = EXERCISES[exercise]
    for probe, outcome in zip(task.probes, observe(task, function, task.probes), strict=False):
        assert outcome.problem is None, outcome.problem
        worst = {
            name: deviations(outcome.outputs[name], value, probe).max() for name, value in task.expected(probe).items()
        }
        allowed = THIN if probe.rough else SAFE if in_float32(probe, outcome.outputs) else EXACT
        assert max(worst.values()) < allowed, (probe.name, worst)


def in_float32(probe: Probe, outputs: Outputs) -> bool:
    """Whether digits were lost, on the way in or on the way out."""
    arrays = [value for value in probe.inputs.values() if isinstance(value, np.ndarray)]
    return any(array.dtype == np.float32 for array in [*arrays, *outputs.values()])
