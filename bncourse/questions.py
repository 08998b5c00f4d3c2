"""Questions with an explanation for every answer, on a page without a kernel and in Jupyter.

They stand beside the chapter, in ``<chapter>.questions.yml``::

    - question: How many values does one mean of a (16, 8, 10, 10) batch average?
      answers:
        - answer: "16"
          why: That is the number of samples. All positions share the mean as well.
        - answer: 1,600
          right: true
          why: 16 samples times 10 × 10 positions.

Texts are Markdown; ``$...$`` is math. A text with ": " or " #" in it needs quotes or a ``>-`` block.
"""

import html
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

FEWEST_ANSWERS = 2
SCRIPT = files("bncourse").joinpath("questions.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Answer:
    """One answer to choose, in Markdown."""

    text: str
    why: str  # why it is right, or wrong
    right: bool = False


@dataclass(frozen=True)
class Question:
    """A question with one right answer, in Markdown."""

    text: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class SelfTest:
    """Questions to choose answers to; notebooks show it as the last value of a cell."""

    name: str  # tells the questions of several files on one page apart
    questions: tuple[Question, ...]

    def _repr_html_(self) -> str:
        """A form per question. Without JavaScript all explanations are there to unfold."""
        forms = (
            _form(question, number, f"{self.name}-{number}") for number, question in enumerate(self.questions, start=1)
        )
        return f'<div class="bn-self-test">{"".join(forms)}</div><script>{SCRIPT}</script>'


def self_test(chapter: str) -> SelfTest:
    """The questions of a chapter, from the file ``<chapter>.questions.yml`` in the working directory."""
    return SelfTest(chapter, load(Path(f"{chapter}.questions.yml")))


def load(path: Path) -> tuple[Question, ...]:
    """Read questions; the format stands at the top of this module.

    Raises:
        ValueError: there is no such file, or it has another form; says where and what.
    """
    if not path.exists():
        raise ValueError(f"expected the chapter's questions in {path}, found no such file; copy it beside the notebook")
    try:
        entries = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a safe one, see below
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {error}; put texts with ': ' in quotes") from None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: expected a list of questions, got {type(entries).__name__}")
    return tuple(_question(entry, f"{path}, question {number}") for number, entry in enumerate(entries, start=1))


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML silently keeps the last: a dash was forgotten."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """A mapping whose keys are all different."""
        keys = [key.value for key, _ in node.value]
        if len(set(keys)) < len(keys):
            raise yaml.constructor.ConstructorError(None, None, f"a key stands twice: {keys}", node.start_mark)
        return super().construct_mapping(node, deep)


def _question(entry: object, place: str) -> Question:
    _check_keys(entry, place, required={"question", "answers"})
    if not isinstance(entry["answers"], list) or len(entry["answers"]) < FEWEST_ANSWERS:
        raise ValueError(f"{place}: expected a list of at least {FEWEST_ANSWERS} answers, got {entry['answers']!r}")
    answers = tuple(_answer(answer, f"{place}, answer {n}") for n, answer in enumerate(entry["answers"], start=1))
    if len({answer.text for answer in answers}) < len(answers):
        raise ValueError(f"{place}: expected answers that differ, got one twice")
    right = sum(answer.right for answer in answers)
    if right != 1:
        raise ValueError(f"{place}: expected one answer with right: true, got {right}")
    return Question(_text(entry["question"], place), answers)


def _answer(entry: object, place: str) -> Answer:
    _check_keys(entry, place, required={"answer", "why"}, optional={"right"})
    right = entry.get("right", False)
    if not isinstance(right, bool):
        raise ValueError(f"{place}: expected right: true or false, got {right!r}")
    return Answer(_text(entry["answer"], place), _text(entry["why"], place), right)


def _check_keys(
    entry: object, place: str, *, required: set[str], optional: frozenset[str] | set[str] = frozenset()
) -> None:
    keys = set(entry) if isinstance(entry, dict) else None
    if keys is None or not required <= keys <= required | optional:
        raise ValueError(f"{place}: expected {sorted(required)} and perhaps {sorted(optional)}, got {entry!r}")


def _text(value: object, place: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'{place}: expected a text, got {value!r}; put numbers in quotes, as in "16"')
    return value.strip()


def _form(question: Question, number: int, name: str) -> str:
    """The markup of one question."""
    choices = "".join(
        f'<div><label><input type="radio" name="{html.escape(name)}"><span>{_inline(answer.text)}</span></label></div>'
        for answer in question.answers
    )
    return (
        f'<form class="bn-question"><fieldset><legend>{number}. {_inline(question.text)}</legend>{choices}</fieldset>'
        '<button type="submit" hidden>Check</button><p class="bn-verdict" role="status"></p>'
        f"<details><summary>All answers</summary><ul>{''.join(map(_explanation, question.answers))}</ul></details></form>"
    )


def _explanation(answer: Answer) -> str:
    """An answer with its verdict and the reason for it."""
    flag, verdict = ("true", "right") if answer.right else ("false", "wrong")
    return (
        f'<li data-right="{flag}">{_inline(answer.text)}: <strong>{verdict}.</strong> '
        f'<span class="bn-why">{_inline(answer.why)}</span></li>'
    )


def _inline(markdown: str) -> str:
    """Markdown without blocks as HTML."""
    return _renderer().renderInline(markdown)


@cache
def _renderer() -> MarkdownIt:
    """Markdown with math, which stays TeX between dollars: Jupyter sets it, and so does the site's build."""
    renderer = MarkdownIt("commonmark", {"html": False}).use(dollarmath_plugin, allow_space=False, allow_digits=False)
    renderer.add_render_rule(
        "math_inline", lambda self, tokens, i, *_: f'<span class="math">${html.escape(tokens[i].content)}$</span>'
    )
    return renderer
