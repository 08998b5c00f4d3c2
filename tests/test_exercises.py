"""The exercise notebooks are what the solutions make of them, and run untouched."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from exercise_notebooks import exercise_from, main
from nbclient import NotebookClient

from bncourse.checks import EXERCISES
from bncourse.checks.progress import FOLDER

ROOT = Path(__file__).parent.parent
SOLUTIONS = sorted((ROOT / "solutions").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def package_of_this_folder(monkeypatch):
    """Kernels import the package from here, whatever another test left in the environment."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def exercise_of(solution: Path) -> Path:
    return ROOT / "exercises" / solution.name


def cells(path: Path) -> dict:
    return {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}


def ids_of(solution: Path) -> list[str]:
    return [id for id, exercise in EXERCISES.items() if exercise.chapter == solution.stem]


def test_there_is_an_exercise_for_every_solution():
    assert {path.name for path in (ROOT / "exercises").glob("*.ipynb")} == {path.name for path in SOLUTIONS}
    assert {exercise.chapter for exercise in EXERCISES.values()} == {path.stem for path in SOLUTIONS}


@every_notebook
def test_exercise_is_in_step_with_its_solution(solution):
    made = exercise_from(solution)
    assert made == exercise_of(solution).read_text(encoding="utf-8"), "run `make exercises`"


def test_answers_of_a_learner_are_never_overwritten(tmp_path, capsys):
    assert main(ROOT / "solutions", tmp_path) == 0
    notebook = tmp_path / "02_forward.ipynb"
    untouched = notebook.read_text(encoding="utf-8")
    own = tmp_path / "my_own.ipynb"
    own.write_text("{}")
    notebook.write_text(untouched.replace("raise NotImplementedError()", "return x", 1), encoding="utf-8")
    assert main(ROOT / "solutions", tmp_path) == 1
    assert "holds answers to batch_norm_forward." in capsys.readouterr().err
    assert "return x" in notebook.read_text(encoding="utf-8") and own.exists()
    notebook.write_text(untouched.replace("Batch norm in training mode", "Changed"), encoding="utf-8")
    assert main(ROOT / "solutions", tmp_path) == 0, "a stub that was not answered is brought up to date"
    assert notebook.read_text(encoding="utf-8") == untouched


@every_notebook
def test_exercise_contains_nothing_of_the_solution(solution):
    text = exercise_of(solution).read_text(encoding="utf-8")
    assert "BEGIN SOLUTION" not in text and "solution-only" not in text and "keep_no_progress" not in text
    for id in ids_of(solution):
        (answer,) = ast.parse(cells(exercise_of(solution))[id].source).body
        for function in functions(answer):
            assert ast.unparse(function.body[-1]) == "raise NotImplementedError()", id
            assert all(is_given(statement) for statement in function.body[:-1]), id


def functions(answer: ast.stmt) -> list[ast.FunctionDef]:
    """The function, or the methods of the class."""
    return [node for node in ast.walk(answer) if isinstance(node, ast.FunctionDef)]


def is_given(statement: ast.stmt) -> bool:
    """What a stub may hold besides: a docstring, and the call that every module begins with."""
    return ast.unparse(statement) == "super().__init__()" or isinstance(getattr(statement, "value", None), ast.Constant)


@every_notebook
def test_every_exercise_has_all_its_parts(solution):
    found = cells(exercise_of(solution))
    assert nbformat.read(solution, as_version=4).metadata.bncourse.chapter == solution.stem
    for id in ids_of(solution):
        assert re.search(r"\*\*Difficulty\*\* [1-5] of 5\. \*\*Time\*\* \d+ minutes\.", found[f"{id}-task"].source), id
        assert found[f"{id}-check"].source == f'check("{id}", {id})'
        assert found[f"{id}-hint"].source == f'# hint("{id}")'
        assert found[f"{id}-take-away"].source.startswith("**Take away.**")
        (answer,) = ast.parse(found[id].source).body
        if not EXERCISES[id].drive:
            assert tuple(argument.arg for argument in answer.args.args) == EXERCISES[id].parameters
        assert answer.name == id and ast.get_docstring(answer)
        assert cells(solution)[f"{id}-why"].source


@every_notebook
def test_solution_remembers_nothing(solution):
    source = nbformat.read(solution, as_version=4).cells[2].source
    assert source.endswith("keep_no_progress()")


def run(path: Path, folder: Path) -> list:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, resources={"metadata": {"path": folder}}).execute()
    return notebook.cells


def reports(cells: list) -> dict[str, str]:
    return {
        cell.id.removesuffix("-check"): cell.outputs[0].data["text/plain"]
        for cell in cells
        if cell.id.endswith("-check")
    }


@every_notebook
def test_untouched_exercise_runs_to_its_end_and_nothing_is_attempted(solution, tmp_path):
    told = reports(run(exercise_of(solution), tmp_path))
    assert list(told) != [] and all("Not attempted" in text for text in told.values())
    assert not (tmp_path / FOLDER).exists()


@every_notebook
def test_solution_is_right_and_marks_nothing_as_solved(solution, tmp_path):
    told = reports(run(solution, tmp_path))
    assert sorted(told) == sorted(ids_of(solution))
    assert all("✓ Correct" in text for text in told.values()), told
    assert not (tmp_path / FOLDER).exists()


@every_notebook
def test_chapter_links_to_its_exercises_and_solutions(solution):
    chapter = (ROOT / "book" / solution.name).read_text(encoding="utf-8")
    assert f"(../exercises/{solution.name})" in chapter and f"(../solutions/{solution.name})" in chapter
