"""`make outputs` saves what nbval compares, and nothing else."""

import nbformat
import saved_outputs


def test_stripping_alone_runs_nothing(tmp_path):
    path = tmp_path / "page.ipynb"
    cell = nbformat.v4.new_code_cell("raise SystemError", execution_count=9)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    saved_outputs.refresh(path, run=False)
    assert nbformat.read(path, as_version=4).cells[0].execution_count is None


def test_only_outputs_of_compared_cells_are_saved(tmp_path):
    compared = nbformat.v4.new_code_cell("print(6 * 7)", metadata={"tags": sorted(saved_outputs.COMPARED)})
    other = nbformat.v4.new_code_cell("print('noise')", execution_count=9)
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernelspec, "widgets": {"application/vnd.jupyter.widget-state+json": {}}}
    notebook = nbformat.v4.new_notebook(cells=[other, compared], metadata=metadata)
    path = tmp_path / "page.ipynb"
    nbformat.write(notebook, path)

    saved_outputs.refresh(path)

    saved = nbformat.read(path, as_version=4)
    assert "widgets" not in saved.metadata
    first, second = saved.cells
    assert (first.id, second.id) == (other.id, compared.id)
    assert (first.outputs, first.execution_count) == ([], None)
    assert (second.outputs[0].text, second.execution_count) == ("42\n", 2)
    assert "execution" not in second.metadata
