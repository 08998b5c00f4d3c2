"""Outputs on the site are those of the present notebooks, package and versions; failures are named."""

import os
import re
import shutil
from pathlib import Path

import execution
import nbformat
import pytest


@pytest.fixture
def book(tmp_path, monkeypatch) -> Path:
    """A book of two notebooks, which import a package of one number."""
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))  # execution.main sets it; undone afterwards
    (tmp_path / "_config.yml").write_text("title: Two pages\n")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: one\nchapters:\n  - file: two\n")
    (tmp_path / "bncourse").mkdir()
    (tmp_path / "bncourse" / "number.py").write_text("NUMBER = 1\n")
    (tmp_path / "requirements.lock").write_text("")
    write(tmp_path / "one.ipynb", "print('one')", "print('still one')")
    write(tmp_path / "two.ipynb", "print('two')")
    return tmp_path


def write(path: Path, *sources: str, **metadata: object) -> None:
    metadata |= {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)


def succeeded(capsys) -> int:
    """How many notebooks the last run executed."""
    return int(re.search(r"Notebooks: (\d+) ran", capsys.readouterr().out)[1])


def test_only_what_changed_runs_again(book, capsys):
    assert execution.main(book) == 0
    assert succeeded(capsys) == 2
    assert execution.main(book) == 0
    assert succeeded(capsys) == 0
    write(book / "two.ipynb", "print('changed')")
    assert execution.main(book) == 0
    assert succeeded(capsys) == 1
    (book / "bncourse" / "number.py").write_text("NUMBER = 2\n")
    assert execution.main(book) == 0
    assert succeeded(capsys) == 2


def test_a_notebook_that_needs_what_is_not_installed_is_left_out(book, capsys):
    write(book / "two.ipynb", "import no_such_package", bncourse={"needs": ["nbformat", "no_such_package"]})
    assert execution.main(book) == 0
    printed = capsys.readouterr().out
    assert "two.ipynb is shown without outputs: here is no no_such_package\n" in printed
    assert "Notebooks: 1 ran, 0 failed" in printed


def test_failing_cell_is_reported_with_notebook_cell_and_traceback(book, capsys):
    write(book / "two.ipynb", "x = 1", "", "x = 1\nx / 0")
    assert execution.main(book) == 1
    printed = capsys.readouterr()
    report = printed.err
    assert "1 ran, 1 failed, 0 unchanged" in printed.out
    assert f"FAILED {book / 'two.ipynb'}, cell 3:" in report
    assert "ZeroDivisionError: division by zero" in report
    assert "one.ipynb" not in report


@pytest.mark.parametrize(
    "file",
    [
        "bncourse/number.py",
        "bncourse/checks/new.py",
        "bncourse/table.csv",
        "book/results/cpu.json",
        "book/02_forward.questions.yml",
    ],
)
def test_fingerprint_follows_everything_that_outputs_depend_on(book, file):
    before = execution.fingerprint(book)
    (book / file).parent.mkdir(parents=True, exist_ok=True)
    (book / file).write_text("changed")
    assert execution.fingerprint(book) != before


def test_fingerprint_depends_on_nothing_else(book, tmp_path):
    before = execution.fingerprint(book)
    (book / "README.md").write_text("changed")
    assert execution.fingerprint(book) == before
    moved = tmp_path / "moved"
    shutil.copytree(book, moved)
    assert execution.fingerprint(moved) == before


def test_fingerprint_follows_installed_versions(book, monkeypatch):
    before = execution.fingerprint(book)
    monkeypatch.setattr(execution.importlib.metadata, "distributions", list)
    assert execution.fingerprint(book) != before


def test_notebooks_import_the_package_of_their_book(book):
    (book / "bncourse" / "__init__.py").write_text("")
    (book / "pages").mkdir()  # where the kernel starts, so that the package is not simply beside it
    write(book / "pages" / "three.ipynb", "from bncourse.number import NUMBER", "assert NUMBER == 1")
    (book / "_toc.yml").write_text("format: jb-book\nroot: pages/three\n")
    assert execution.main(book) == 0


def test_excluded_notebooks_are_never_run(book):
    (book / "_config.yml").write_text("execute:\n  exclude_patterns: ['t*.ipynb']\n")
    assert [path.name for path in execution.notebooks(book)] == ["one.ipynb"]
