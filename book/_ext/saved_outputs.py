"""Run notebooks and save the outputs that nbval compares; drop all others.

python book/_ext/saved_outputs.py [--only-strip] NOTEBOOK...
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

COMPARED = {"nbval-check-output", "keep_output"}


def refresh(path: Path, *, run: bool = True) -> None:
    """Run the notebook in its folder and write it back with the compared outputs only."""
    notebook = nbformat.read(path, as_version=4)
    if run:
        # Printed text arrives in pieces, where they end is chance.
        NotebookClient(notebook, coalesce_streams=True, resources={"metadata": {"path": path.parent}}).execute()
    strip(notebook)
    nbformat.write(notebook, path)


def strip(notebook: nbformat.NotebookNode) -> None:
    """Drop what differs from run to run and is not compared."""
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # time stamps
        if cell.cell_type == "code" and not COMPARED <= set(cell.metadata.get("tags", [])):
            cell.outputs, cell.execution_count = [], None


if __name__ == "__main__":
    only_strip = "--only-strip" in sys.argv
    for name in sys.argv[1:]:
        if name != "--only-strip":
            print(name, flush=True)
            refresh(Path(name), run=not only_strip)
