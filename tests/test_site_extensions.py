"""The Sphinx extensions in ``book/_ext`` that shape the site, one piece at a time."""

from types import SimpleNamespace

import inline_figures
import local_katex
import numbering
import pytest
from docutils import nodes
from docutils.utils import new_document

from bncourse.plots import PALETTE, Colour

SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
  width="504pt" height="200pt" viewBox="0 0 504 200">
  <metadata>made by</metadata><defs><style>* {{ stroke: red }}</style><path id="p"/></defs>
  <g clip-path="url(#c)"><use xlink:href="#p" style="fill: {blue}; stroke: #123456"/></g>
  <text style="font: 12px 'DejaVu Sans'">big</text><text style="font: 10px 'DejaVu Sans'">small</text></svg>"""


def formula(text: str) -> nodes.math:
    document = new_document("page.md")
    document += (node := nodes.math(text, text))
    return node


def test_figure_takes_the_palette_and_leaves_other_colours():
    markup = inline_figures.themed_svg(SVG.format(blue=PALETTE["blue"].light.upper()), "What it shows", "f1-")
    assert f"fill: var(--bn-blue, {PALETTE['blue'].light.upper()}); stroke: #123456" in markup


def test_figure_keeps_to_itself():
    markup = inline_figures.themed_svg(SVG, "What it shows", "f1-")
    assert 'id="f1-p"' in markup and 'href="#f1-p"' in markup and "url(#f1-c)" in markup
    assert "<style" not in markup and "made by" not in markup and "xlink" not in markup


def test_figure_is_described_and_readable():
    markup = inline_figures.themed_svg(SVG, 'A "curve" & more', "f1-")
    assert 'role="img"' in markup and 'aria-label="A &quot;curve&quot; &amp; more"' in markup
    assert f"min-width: {504 * inline_figures.SMALLEST_TEXT / 10:.0f}px" in markup


def test_palette_with_one_light_colour_twice_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PALETTE, "azure", Colour(PALETTE["blue"].light, "#ffffff"))
    with pytest.raises(inline_figures.FigureError, match="blue"):
        inline_figures.names_by_colour()


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


def test_node_that_ends_early_is_reported(renderer):
    renderer().stdin.write("no JSON\n")
    with pytest.raises(local_katex.MathError, match="exit status 1"):
        local_katex.render(formula("x"), display=False)
    renderer().communicate()
    renderer.cache_clear()
