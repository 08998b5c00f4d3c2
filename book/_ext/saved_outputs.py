"""Run notebooks and save the outputs that nbval compares; drop all others.

python book/_ext/saved_outputs.py NOTEBOOK...
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

COMPARED = {"nbval-check-output", "keep_output"}


def refresh(path: Path) -> None:
    """Run the notebook in its folder and write it back with the compared outputs only."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": path.parent}}).execute()
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # time stamps
        if cell.cell_type == "code" and not COMPARED <= set(cell.metadata.get("tags", [])):
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(name, flush=True)
        refresh(Path(name))
