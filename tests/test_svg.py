"""Figures as markup that takes the page's colours, font and width."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import pytest

from bncourse import plots, svg
from bncourse.plots import PALETTE, Colour

SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
  width="504pt" height="200pt" viewBox="0 0 504 200">
  <metadata>made by</metadata><defs><style>* {{ stroke: red }}</style><path id="p"/></defs>
  <g clip-path="url(#c)"><use xlink:href="#p" style="fill: {blue}; stroke: #123456"/></g>
  <text style="font: 12px 'DejaVu Sans'">big</text><text style="font: 10px 'DejaVu Sans'">small</text></svg>"""


def test_figure_takes_the_palette_and_leaves_other_colours():
    markup = svg.themed_svg(SVG.format(blue=PALETTE["blue"].light.upper()), "What it shows", "f1-")
    assert f"fill: var(--bn-blue, {PALETTE['blue'].light.upper()}); stroke: #123456" in markup


def test_figure_keeps_to_itself():
    markup = svg.themed_svg(SVG, "What it shows", "f1-")
    assert 'id="f1-p"' in markup and 'href="#f1-p"' in markup and "url(#f1-c)" in markup
    assert "<style" not in markup and "made by" not in markup and "xlink" not in markup


def test_figure_is_described_and_readable():
    markup = svg.themed_svg(SVG, 'A "curve" & more', "f1-")
    assert 'role="img"' in markup and 'aria-label="A &quot;curve&quot; &amp; more"' in markup
    assert f"min-width: {504 * svg.SMALLEST_TEXT / 10:.0f}px" in markup
    assert "fill: var(--bn-ink)" in markup and "height=" not in markup


def test_numbers_are_short_but_for_matrices():
    source = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{}</svg>'
    moved = source.format('<g transform="translate(1.23456 -2.34567)"/><g transform="matrix(0.01234 0 0 1 0 0)"/>')
    markup = svg.themed_svg(moved, "alt", "f1-")
    assert "translate(1.23 -2.35)" in markup and "matrix(0.01234 " in markup


def test_palette_with_one_light_colour_twice_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PALETTE, "azure", Colour(PALETTE["blue"].light, "#ffffff"))
    with pytest.raises(ValueError, match="blue"):
        svg.names_by_colour()


def test_matplotlib_figure_becomes_short_markup():
    with plt.rc_context(plots.STYLE):
        figure, ax = plt.subplots()
    ax.plot([0.123456789, 1], [0, 1], color=plots.BLUE)
    markup = svg.themed_svg(svg.source(figure), "A line", "f1-")
    plt.close(figure)
    assert "var(--bn-blue" in markup and "clipPath" in markup
    assert not svg.LONG_FRACTION.search(" ".join(part for part in markup.split('"')[1::2] if part.startswith("M ")))
    assert "&#10;" not in markup, "a line break inside a path"


def test_every_colour_has_two_values_and_jupyter_gets_the_dark_ones():
    css = svg.palette_css()
    for name, colour in PALETTE.items():
        assert f"--bn-{name}: {colour.light};" in css and f"--bn-{name}: {colour.dark};" in css
    assert 'data-theme="dark"' in css and "data-jp-theme-light" in css
