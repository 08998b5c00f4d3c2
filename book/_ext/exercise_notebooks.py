"""Make the exercise notebooks from the worked solutions.

Everything between ``### BEGIN SOLUTION`` and ``### END SOLUTION`` becomes a stub, cells tagged
``solution-only`` go, the title says Exercises instead of Solutions, and the page's description
is the one kept under ``bncourse`` in the metadata. Cell ids stay.

    python book/_ext/exercise_notebooks.py [SOLUTIONS EXERCISES]
"""

import sys
from pathlib import Path

import nbformat
from nbconvert.exporters import NotebookExporter
from nbconvert.preprocessors import TagRemovePreprocessor
from nbgrader.preprocessors import ClearOutput, ClearSolutions
from traitlets.config import Config

STUB = "raise NotImplementedError()"
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
    notebook.metadata.myst.html_meta.description = notebook.metadata.bncourse.pop("exercise_description")
    text, _ = NotebookExporter(config=SETTINGS, preprocessors=STEPS).from_notebook_node(notebook)
    return text.rstrip("\n") + "\n"


def answered(exercise: Path, made: str) -> list[str]:
    """The ids of the cells in which a stub was replaced: someone works in this notebook."""
    if not exercise.exists():
        return []
    stubs = {cell.id for cell in nbformat.reads(made, as_version=4).cells if STUB in cell.source}
    cells = nbformat.read(exercise, as_version=4).cells
    return [cell.id for cell in cells if cell.get("id") in stubs and STUB not in cell.source]


def main(solutions: Path, exercises: Path) -> int:
    """Write the exercise of every solution, but over nobody's answers; return the exit status."""
    exercises.mkdir(exist_ok=True)
    made = {exercises / path.name: exercise_from(path) for path in sorted(solutions.glob("*.ipynb"))}
    in_use = {path: ids for path, text in made.items() if (ids := answered(path, text))}
    for path, text in made.items():
        if path not in in_use:
            path.write_text(text, encoding="utf-8")
            print(path)
    for path, ids in in_use.items():
        print(f"{path} was left alone, as it holds answers to {', '.join(ids)}. Move it away first.", file=sys.stderr)
    return 1 if in_use else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:] or ["solutions", "exercises"])))
