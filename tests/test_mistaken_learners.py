"""Mistakes that learners make in code of their own are recognized."""

from collections.abc import Callable

import pytest
from mistaken_learners import MISTAKEN

from bncourse.checks import EXERCISES, check

MOST = 3  # names help only if they are few


@pytest.mark.parametrize(
    ("exercise", "mistake", "function"),
    [
        pytest.param(exercise, mistake, function, id=f"{exercise}-{mistake}-{function.__name__}")
        for exercise, answers in MISTAKEN.items()
        for mistake, function in answers
    ],
)
def test_mistake_is_named(exercise: str, mistake: str, function: Callable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # checks write progress beside the notebook
    report = check(exercise, function, seed=1)
    assert report.verdict == "incorrect"
    assert mistake in report.mistakes, report
    assert len(report.mistakes) <= MOST, report


def test_every_exercise_has_mistaken_learners():
    assert MISTAKEN.keys() == EXERCISES.keys()
    assert all(len(answers) >= 7 for answers in MISTAKEN.values())


def test_every_mistake_is_made_by_somebody():
    known = {mistake.id for exercise in EXERCISES.values() for mistake in exercise.mistakes}
    known |= {id for exercise in EXERCISES.values() for id in exercise.changing.values()}
    assert known <= {mistake for answers in MISTAKEN.values() for mistake, _ in answers}
