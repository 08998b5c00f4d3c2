"""Questions: their format, and the form that they become."""

import re
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

from bncourse import questions

ROOT = Path(__file__).parent.parent
FILES = sorted(ROOT.glob("book/*.questions.yml"))
GOOD = {
    "question": "What is *x* < 2, or $\\sigma^2 < 1$?",
    "answers": [{"answer": "`x`", "why": "No <b>."}, {"answer": "y", "why": "$y$ it is.", "right": True}],
}


OTHER = {"answer": "other", "why": "w"}


def written(folder: Path, entries: object) -> Path:
    path = folder / "01_test.questions.yml"
    path.write_text(yaml.safe_dump(entries))
    return path


def changed(**changes: object) -> list[dict]:
    return [GOOD | changes]


def test_questions_are_read_in_order(tmp_path):
    (first, second) = questions.load(written(tmp_path, [GOOD, GOOD | {"question": "Second?"}]))
    assert first.text == GOOD["question"] and second.text == "Second?"
    assert first.answers == (questions.Answer("`x`", "No <b>."), questions.Answer("y", "$y$ it is.", right=True))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_answer_is_a_formula_alone_which_to_a_screen_reader_is_no_label(file):
    answers = [answer.text for question in questions.load(file) for answer in question.answers]
    assert not [answer for answer in answers if not re.search(r"\w", re.sub(r"\$[^$]*\$", "", answer))]


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([], "a list of questions"),
        ({"question": "?"}, "a list of questions"),
        (["text"], "question 1.*answers.*question"),
        ([GOOD, {"question": "?"}], "question 2.*answers"),
        (changed(hint="h"), "question 1.*hint"),
        (changed(question=3), "question 1.*text, got 3"),
        (changed(question=" "), "question 1.*text"),
        (changed(answers=GOOD["answers"][1:]), "at least 2 answers"),
        (changed(answers=[GOOD["answers"][0], OTHER]), "one answer with right: true, got 0"),
        (changed(answers=[GOOD["answers"][1], OTHER | {"right": True}]), "one answer with right: true, got 2"),
        (changed(answers=[GOOD["answers"][1], {"answer": "y", "why": "other"}]), "answers that differ"),
        (changed(answers=[GOOD["answers"][1], {"answer": "y"}]), "answer 2.*why"),
        (changed(answers=[GOOD["answers"][1], {"answer": 16, "why": "w"}]), "answer 2.*got 16; put numbers in quotes"),
        (changed(answers=[GOOD["answers"][1], {"answer": "y", "why": "w", "right": "no"}]), "answer 2.*true or false"),
    ],
)
def test_bad_questions_are_refused_with_their_place(tmp_path, entries, complaint):
    with pytest.raises(ValueError, match=f"(?s)01_test.questions.yml.*{complaint}"):
        questions.load(written(tmp_path, entries))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("- question: What is it: x?", "mapping values are not allowed.*quotes"),
        ("- question: A?\n  answers:\n    - {answer: a, why: w, answer: b}", "a key stands twice"),
        ("", "a list of questions, got NoneType"),
    ],
)
def test_what_yaml_makes_of_slips_is_refused(tmp_path, text, complaint):
    path = tmp_path / "01_test.questions.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"(?s)01_test.questions.yml.*{complaint}"):
        questions.load(path)


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="07_x.questions.yml.*copy it beside the notebook"):
        questions.self_test("07_x")


def test_form_holds_every_answer_with_its_explanation(tmp_path, monkeypatch):
    written(tmp_path, [GOOD])
    monkeypatch.chdir(tmp_path)
    form = BeautifulSoup(questions.self_test("01_test")._repr_html_(), "html.parser").form
    assert form.legend.decode_contents() == (
        '1. What is <em>x</em> &lt; 2, or <span class="math">$\\sigma^2 &lt; 1$</span>?'
    )
    assert [label.get_text() for label in form.select("label")] == ["x", "y"]
    assert len({radio["name"] for radio in form.select("input[type=radio]")}) == 1
    assert form.button.has_attr("hidden"), "without a script it would do nothing"
    wrong, right = form.select("details li")
    assert wrong.get_text() == "x: wrong. No <b>." and wrong["data-right"] == "false"
    assert right.get_text() == "y: right. $y$ it is." and right["data-right"] == "true"


def test_dollars_are_not_always_math():
    assert questions._inline("Costs $5 and $10?") == "Costs $5 and $10?"


def test_questions_of_one_page_do_not_share_their_choices(tmp_path, monkeypatch):
    written(tmp_path, [GOOD, GOOD])
    monkeypatch.chdir(tmp_path)
    page = BeautifulSoup(questions.self_test("01_test")._repr_html_(), "html.parser")
    first, second = ({radio["name"] for radio in form.select("input")} for form in page.select("form"))
    assert not first & second
    other = questions.SelfTest("02_test", questions.load(tmp_path / "01_test.questions.yml"))
    assert f'name="{first.pop()}"' not in other._repr_html_()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_chapter_asks_three_to_five_questions_that_do_not_give_themselves_away(path):
    asked = questions.load(path)
    assert 3 <= len(asked) <= 5
    assert len({[answer.right for answer in question.answers].index(True) for question in asked}) > 1, (
        "the right answer always stands in the same place"
    )
    for question in asked:
        assert 3 <= len(question.answers) <= 5
