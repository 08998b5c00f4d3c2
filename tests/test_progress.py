"""What is solved and which hints were opened outlive the process; solutions leave nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bncourse.checks import EXERCISES, check, hint, keep_no_progress, progress
from bncourse.checks import progress as progress_function
from bncourse.checks.progress import FOLDER, SWITCH

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setattr(sys.modules[progress_function.__module__], "_opened_here", {})


def variance(x):
    return ((x - x.mean(0)) ** 2).mean(0)


def in_new_process(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", f"from bncourse.checks import *\n{code}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


def test_solved_exercise_stays_solved_in_a_new_process():
    check("stable_variance", variance)
    assert list(progress().solved) == ["stable_variance"]
    assert in_new_process("print(list(progress().solved))") == "['stable_variance']"
    assert f"1 of {len(EXERCISES)} exercises solved" in in_new_process("print(progress())")


def test_only_right_answers_count_and_a_later_mistake_takes_nothing_away():
    check("stable_variance", lambda x: x.mean(0))
    assert progress().solved == {}
    check("stable_variance", variance)
    check("stable_variance", lambda x: x.mean(0))
    assert list(progress().solved) == ["stable_variance"]


def test_solutions_leave_nothing_behind(monkeypatch):
    monkeypatch.setenv(SWITCH, "")  # undone after the test
    keep_no_progress()
    check("stable_variance", variance)
    hint("stable_variance")
    assert not Path(FOLDER).exists() and progress().solved == {}


def test_hints_open_one_by_one_also_after_a_restart():
    hints = EXERCISES["stable_variance"].hints
    assert hint("stable_variance").opened == hints[:1]
    assert str(hint("stable_variance")).splitlines()[1] == f"Hint 2 of 3: {hints[1]}"
    assert in_new_process("print(len(hint('stable_variance').opened))") == "3"
    assert hint("stable_variance").opened == hints, "the last hint stays open"
    with pytest.raises(ValueError, match="Did you mean"):
        hint("stable_varience")


def test_hints_and_solved_are_kept_together():
    check("stable_variance", variance)
    hint("stable_variance")
    assert list(progress().solved) == ["stable_variance"]
    check("stable_variance", variance)
    assert json.loads((Path(FOLDER) / "stable_variance.json").read_text())["hints"] == 1


@pytest.mark.parametrize("content", ["", "[]", "{", '{"solved": 3, "hints": "many"}', "\x00"])
def test_damaged_file_counts_as_none(content):
    Path(FOLDER).mkdir()
    (Path(FOLDER) / "stable_variance.json").write_text(content)
    assert progress().solved == {}
    assert len(hint("stable_variance").opened) == 1
    check("stable_variance", variance)
    assert list(progress().solved) == ["stable_variance"]


def test_folder_that_cannot_be_written_costs_only_the_memory(capsys):
    Path(FOLDER).write_text("a file stands in the way")
    assert check("stable_variance", variance).verdict == "correct"
    assert "could not be saved" in capsys.readouterr().out
    assert [len(hint("stable_variance").opened) for _ in range(2)] == [1, 2]


def test_progress_is_a_table_with_headers_and_says_its_state_in_words():
    check("stable_variance", variance)
    markup = progress()._repr_html_()
    assert markup.count('<th scope="col"') == 3 and markup.count('<th scope="row"') == len(EXERCISES)
    assert f"<caption>1 of {len(EXERCISES)}" in markup
    assert "✓ solved" in markup and "○ open" in markup


def test_git_ignores_progress():
    assert f"{FOLDER}/" in (ROOT / ".gitignore").read_text().splitlines()
