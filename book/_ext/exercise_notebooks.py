"""Make the exercise notebooks from the worked solutions.

Everything between ``### BEGIN SOLUTION`` and ``### END SOLUTION`` becomes a stub, cells tagged
``solution-only`` go, and the title says Exercises instead of Solutions. Cell ids stay.

    python book/_ext/exercise_notebooks.py [SOLUTIONS EXERCISES]
"""

import sys
from pathlib import Path

import nbformat
from nbconvert.exporters import NotebookExporter
from nbconvert.preprocessors import TagRemovePreprocessor
from nbgrader.preprocessors import ClearOutput, ClearSolutions
from traitlets.config import Config

STEPS = [TagRemovePreprocessor, ClearSolutions, ClearOutput]
SETTINGS = Config(
    TagRemovePreprocessor={"remove_cell_tags": {"solution-only"}},
    ClearSolutions={"enforce_metadata": False},  # no nbgrader database, no cell metadata of its own
)


def exercise_from(solution: Path) -> str:
    """The text of the exercise notebook that belongs to a solution."""
    notebook = nbformat.read(solution, as_version=4)
    title = notebook.cells[0]
    if not title.source.startswith("# Solutions "):
        raise ValueError(f"{solution}: expected the title '# Solutions N: ...', got {title.source.splitlines()[0]!r}")
    title.source = title.source.replace("# Solutions ", "# Exercises ", 1)
    text, _ = NotebookExporter(config=SETTINGS, preprocessors=STEPS).from_notebook_node(notebook)
    return text.rstrip("\n") + "\n"


def main(solutions: Path, exercises: Path) -> None:
    """Write the exercise of every solution, and remove what has no solution any more."""
    exercises.mkdir(exist_ok=True)
    made = {path.name: exercise_from(path) for path in sorted(solutions.glob("*.ipynb"))}
    for name, text in made.items():
        (exercises / name).write_text(text, encoding="utf-8")
        print(exercises / name)
    for older in set(exercises.glob("*.ipynb")) - {exercises / name for name in made}:
        older.unlink()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:] or ["solutions", "exercises"]))
