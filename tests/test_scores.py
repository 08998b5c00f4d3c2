"""The score of every check: nothing known gets through, and everything known is named."""

import pytest
from right_answers import RIGHT
from scores import TABLE, score

from bncourse.checks import EXERCISES


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=list(EXERCISES))
def test_score(exercise, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = score(exercise)
    print(result.row())
    assert result.caught == result.named == result.named_in_float32 == result.mistakes > 0
    assert result.accepted == result.right == len(RIGHT[exercise.id]) >= 6
    pairs = result.pairs
    assert pairs.total() > 0 and not pairs["accepted"]
    assert pairs["both"] >= 0.95 * (pairs["both"] + pairs["wrong"])
    assert pairs["shared"] <= 0.05 * pairs.total()
    assert result.row() in TABLE.read_text(encoding="utf-8"), "run `make scores`"
