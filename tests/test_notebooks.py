"""The conventions that make the chapters one book, and their saved outputs trustworthy."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
import yaml
from saved_outputs import COMPARED

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted([*ROOT.glob("book/*.ipynb"), *ROOT.glob("solutions/*.ipynb"), *ROOT.glob("exercises/*.ipynb")])
CHAPTERS = [path for path in NOTEBOOKS if path.parent.name == "book"]
LONGEST_CELL = 25  # lines
MOST_CELLS_IN_A_ROW = 2


def tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))


def read(path: Path):
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def prose(path: Path) -> str:
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
every_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)


def complaints_about_outputs(cells: list) -> list[str]:
    """What is wrong with the saved outputs of code cells."""
    complaints = []
    for cell in cells:
        if tags(cell) & COMPARED and not tags(cell) >= COMPARED:
            complaints.append(f"{cell.id}: a compared cell carries both tags, {sorted(COMPARED)}")
        if tags(cell) >= COMPARED:
            if not cell.outputs or cell.execution_count is None:
                complaints.append(f"{cell.id}: compared, but nothing is saved to compare with; run `make outputs`")
            if len(cell.outputs) > 1:
                complaints.append(f"{cell.id}: saved in pieces; run `make outputs`")
            if any(output.output_type != "stream" or output.name != "stdout" for output in cell.outputs):
                complaints.append(f"{cell.id}: only printed text can be compared")
        elif cell.outputs or cell.execution_count is not None:
            complaints.append(f"{cell.id}: outputs stay out of git; run `make outputs`")
    return complaints


@every_notebook
def test_only_compared_cells_keep_their_output(path):
    assert complaints_about_outputs(code_cells(path)) == []


def test_missing_saved_output_of_a_compared_cell_is_found():
    cell = nbformat.v4.new_code_cell("print(1)", id="compared", metadata={"tags": sorted(COMPARED)})
    assert complaints_about_outputs([cell]) == [
        "compared: compared, but nothing is saved to compare with; run `make outputs`"
    ]
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="1\n")]
    assert complaints_about_outputs([cell]), "nbval needs the execution count as well"
    cell.execution_count = 1
    assert complaints_about_outputs([cell]) == []


@every_notebook
def test_notebook_is_valid_and_its_cells_have_ids(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata, "the state of widgets stays out of git; run `make outputs`"


@every_notebook
def test_code_cells_are_short_and_stand_among_prose(path):
    in_a_row = 0
    for cell in read(path).cells:
        visible_code = cell.cell_type == "code" and "remove-cell" not in tags(cell)
        in_a_row = in_a_row + 1 if visible_code else 0
        assert in_a_row <= MOST_CELLS_IN_A_ROW, f"{cell.id}: more than {MOST_CELLS_IN_A_ROW} code cells in a row"
        if visible_code:
            lines = len(cell.source.splitlines())
            assert lines <= LONGEST_CELL, f"{cell.id}: {lines} lines, at most {LONGEST_CELL}"


@every_notebook
def test_cells_run_anywhere_without_a_network(path):
    for cell in code_cells(path):
        assert not re.search(r"^\s*[!%]", cell.source, re.MULTILINE), f"{cell.id}: a shell command or a magic"
        assert not re.search(r"https?://|fetch_openml|urllib|requests", cell.source), f"{cell.id}: takes the network"


@every_notebook
def test_guards_define_nothing_that_later_cells_use(path):
    guarded: set[str] = set()
    for cell in code_cells(path):
        nodes = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)]
        used = {node.id for node in nodes if isinstance(node.ctx, ast.Load)}
        assert not guarded & used, f"{cell.id}: uses {guarded & used} of a cell that readers do not see"
        if "remove-cell" in tags(cell) and "solution-only" not in tags(cell):
            assert "test" in tags(cell), f"{cell.id}: a removed cell is a test"
            assert "assert" in cell.source, f"{cell.id}: asserts nothing"
            guarded |= {node.id for node in nodes if isinstance(node.ctx, ast.Store)}


@every_notebook
def test_figures_hide_their_code_and_have_caption_and_description(path):
    for cell in code_cells(path):
        interactive = "explore(" in cell.source
        if not interactive and not re.search(r"\bplots\.plot_", cell.source):
            continue
        assert "hide-input" in tags(cell), f"{cell.id}: the code of a figure is folded away"
        settings = cell.metadata.get("mystnb", {})
        assert settings.get("figure", {}).get("name", "").startswith("fig-"), f"{cell.id}: no figure.name 'fig-...'"
        assert settings["figure"].get("caption"), f"{cell.id}: no caption"
        words = description_of_interactive(cell) if interactive else settings.get("image", {}).get("alt", "")
        assert len(words) > 40, f"{cell.id}: no description for those who cannot see it"
        ends_well = not cell.source.rstrip().endswith(";") if interactive else cell.source.rstrip().endswith(";")
        assert ends_well, f"{cell.id}: a figure ends with a semicolon, so that no repr is printed; sliders do not"


def description_of_interactive(cell) -> str:
    """The docstring of the function that the last line of a cell explores."""
    *_, last = ast.parse(cell.source).body
    functions = {node.name: node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.FunctionDef)}
    return ast.get_docstring(functions[last.value.args[0].id]) or ""


@every_notebook
def test_a_prediction_stands_right_before_the_cell_whose_output_answers_it(path):
    cells = read(path).cells
    for cell, following in pairwise(cells):
        boxes = re.findall(r"^:::\{admonition\} Predict\n:class: (.+)$", cell.source, re.MULTILINE)
        assert cell.source.count("{admonition} Predict") == len(boxes)
        if boxes:
            assert boxes == ["predict"], f"{cell.id}: one box a cell, with the class predict"
            assert cell.source.endswith("\n:::"), f"{cell.id}: text after the box; the output would wait further down"
            shows = following.cell_type == "code" and "remove-cell" not in tags(following)
            assert shows, f"{cell.id}: the next cell shows nothing"


@every_chapter
def test_chapter_opens_and_closes_as_all_do(path):
    number = int(path.name[:2])
    text = prose(path)
    assert re.match(rf"# {number}\. \w", text), "the title is '# N. Title'"
    for words in (
        "**You will** ",
        "**You will learn** ",
        "**You need** ",
        "## Self-test",
        "## Recap",
        "**Further reading.**",
    ):
        assert words in text, f"{words!r} is missing"
    assert text.index("## Self-test") < text.index("## Recap")
    assert 30 <= len(read(path).metadata.myst.html_meta.description) <= 200


@every_chapter
def test_chapter_predicts_and_checks(path):
    assert prose(path).count(":::{admonition} Predict") >= 3
    assert any("torch" in cell.source for cell in code_cells(path)), "checked against PyTorch in view of the reader"
    assert any(tags(cell) >= COMPARED for cell in code_cells(path))


@every_chapter
def test_self_test_asks_the_questions_beside_the_chapter(path):
    cells = read(path).cells
    (position,) = (i for i, cell in enumerate(cells) if cell.source.startswith("## Self-test"))
    following = cells[position + 1]
    assert following.source == f'self_test("{path.stem}")'
    assert "remove-input" in tags(following)
    assert path.with_name(f"{path.stem}.questions.yml").exists()  # tests/test_questions.py reads them


@every_chapter
def test_equations_are_labelled_once_and_every_reference_has_its_label(path):
    text = prose(path)
    labels = re.findall(r"^\$\$ \((eq-[\w-]+)\)$", text, re.MULTILINE)
    assert len(labels) == len(set(labels)) > 0
    assert text.count("\n$$\n") == len(labels), "every displayed equation has a label"
    assert set(re.findall(r"\{eq\}`([\w-]+)`", text)) <= set(labels) | all_equation_labels()


def all_equation_labels() -> set[str]:
    return {label for path in CHAPTERS for label in re.findall(r"^\$\$ \((eq-[\w-]+)\)$", prose(path), re.MULTILINE)}


def test_every_chapter_is_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = {chapter["file"] for part in toc["parts"] for chapter in part["chapters"]}
    assert {f"book/{path.stem}" for path in CHAPTERS} <= listed


@every_notebook
def test_what_is_not_installed_everywhere_is_named_in_the_metadata(path):
    imports_triton = any(re.search(r"^import triton", cell.source, re.MULTILINE) for cell in code_cells(path))
    needed = nbformat.read(path, as_version=4).metadata.get("bncourse", {}).get("needs", [])
    assert ("triton" in needed) == imports_triton


def test_every_term_of_the_glossary_is_linked_from_a_chapter():
    glossary = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8").partition("{glossary}")[2]
    terms = set(re.findall(r"^(\S.*)\n  \S", glossary, re.MULTILINE))
    linked = re.findall(r"\{term\}`(?:[^`<]*<)?([^`>]+)>?`", "".join(map(prose, CHAPTERS)))
    assert terms and terms == {next((term for term in terms if term.lower() == link.lower()), link) for link in linked}
