"""The Sphinx extensions in ``book/_ext`` that shape the site, one piece at a time."""

from types import SimpleNamespace

import inline_figures
import local_katex
import numbering
import pytest
from docutils import nodes
from docutils.utils import new_document


def formula(text: str) -> nodes.math:
    document = new_document("page.md")
    document += (node := nodes.math(text, text))
    return node


def test_numbers_follow_the_chapter():
    env = SimpleNamespace(
        toc_fignumbers={
            "book/02_forward": {"figure": {"a": (7,), "b": (8,)}, "displaymath": {"e": (5,)}},
            "book/notation": {"displaymath": {"n": (6,)}},
        }
    )
    numbering.renumber(None, env)
    assert env.toc_fignumbers == {
        "book/02_forward": {"figure": {"a": (2, 1), "b": (2, 2)}, "displaymath": {"e": (2, 1)}},
        "book/notation": {"displaymath": {"n": (1,)}},
    }


@pytest.mark.parametrize(("page", "number"), [("book/12_which", (12,)), ("book/notation", ()), ("02/index", ())])
def test_chapter_number_is_in_the_file_name(page: str, number: tuple[int, ...]):
    assert numbering.chapter_number(page) == number


@pytest.fixture
def renderer():
    yield local_katex.renderer
    process = local_katex.renderer()
    process.communicate()  # closes its input
    local_katex.renderer.cache_clear()
    assert process.returncode == 0


@pytest.mark.usefixtures("renderer")
def test_math_is_html_and_a_bad_formula_stops_the_build():
    assert 'class="katex"' in local_katex.render(formula(r"\mu"), display=False)
    align = local_katex.render(formula(r"\begin{align} a &= b \end{align}"), display=True)
    assert "eqn-num" not in align, "KaTeX numbers what the page numbers"
    with pytest.raises(local_katex.MathError, match=r"page\.md.*Undefined control sequence"):
        local_katex.render(formula(r"\nonsense"), display=False)


@pytest.mark.usefixtures("renderer")
def test_math_in_outputs_is_rendered():
    document = new_document("page.ipynb")
    markup = '<p>What is <span class="math">$1 &lt;\n2$</span>, and $5?</p>'
    document += nodes.raw("", markup, format="html", classes=["output"])
    local_katex.MathInOutputs(document).run()
    (raw,) = document.findall(nodes.raw)
    assert 'class="katex"' in raw.astext() and "$1" not in raw.astext() and "and $5?" in raw.astext()
    assert raw["classes"] == ["output"] and raw["format"] == "html"


def test_pages_carry_no_state_of_widgets():
    scripts = {"ipywidgets_state": (None, {}), "other": ("x.js", {})}
    env = SimpleNamespace(nb_metadata={"page": {"js_files": scripts}, "plain": {}})
    inline_figures.drop_widget_state(None, env)
    assert list(scripts) == ["other"]


def test_node_that_ends_early_is_reported(renderer):
    renderer().stdin.write("no JSON\n")
    with pytest.raises(local_katex.MathError, match="exit status 1"):
        local_katex.render(formula("x"), display=False)
    renderer().communicate()
    renderer.cache_clear()
