"""Notebook figures as part of the page: they follow its theme, its width and its reader.

Matplotlib draws with the light value of each colour in ``bncourse.plots.PALETTE``. Here
each such colour becomes a CSS variable, whose two values ``palette.css`` defines.
"""

import re
from itertools import count
from pathlib import Path
from xml.etree import ElementTree

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from bncourse.plots import PALETTE

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
SMALLEST_TEXT = 9  # CSS pixels; a figure scrolls sideways rather than shrink below
FONT_SIZE = re.compile(r"font(?:-size)?:[^;]*?([\d.]+)px")
LOGGER = logging.getLogger(__name__)


class FigureError(SphinxError):
    """A figure or the palette cannot be turned into themed HTML."""

    category = "Figure error"


def setup(app: Sphinx) -> dict:
    """Write the palette's stylesheet and inline every figure."""
    ElementTree.register_namespace("", SVG)
    # The value serves only to rewrite all pages when a colour changes.
    app.add_config_value("figure_palette", palette_css(), "html")
    app.add_post_transform(InlineFigures)
    app.connect("builder-inited", write_palette)
    app.add_css_file("palette.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def palette_css() -> str:
    """The palette's custom properties: light, as the page is without script, and dark."""
    light, dark = ("".join(f"  --bn-{name}: {colour[i]};\n" for name, colour in PALETTE.items()) for i in (0, 1))
    return f':root {{\n{light}}}\n\nhtml[data-theme="dark"] {{\n{dark}}}\n'


def write_palette(app: Sphinx) -> None:
    """Put ``palette.css`` beside the other stylesheets."""
    if app.builder.format == "html":
        target = Path(app.outdir, "_static", "palette.css")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(palette_css(), encoding="utf-8")


class InlineFigures(SphinxPostTransform):
    """Replace each SVG that a notebook cell drew by its own markup."""

    default_priority = 5  # right after myst-nb has chosen among the output's formats
    formats = ("html",)

    def run(self, **kwargs: object) -> None:
        """Inline the figures of one page."""
        drawn_by_notebooks = Path(self.env.mystnb_config.output_folder)
        numbers = count(1)
        for image in list(self.document.findall(nodes.image)):
            path = Path(self.env.srcdir, image["uri"]).resolve()
            if path.suffix == ".svg" and path.is_relative_to(drawn_by_notebooks):
                html = self.figure(image, path, f"figure-{next(numbers)}-")
                image.replace_self(nodes.raw("", html, format="html"))

    def figure(self, image: nodes.image, path: Path, prefix: str) -> str:
        """The markup of one figure; warns when nobody described it."""
        alt = image.get("alt", "").strip()
        if not alt:
            LOGGER.warning(
                "a figure without a description: add mystnb.image.alt to the cell's metadata",
                location=image,
            )
        return themed_svg(path.read_text(encoding="utf-8"), alt, prefix)


def themed_svg(source: str, alt: str, prefix: str) -> str:
    """Markup that shows Matplotlib's ``source`` in the page's colours.

    Args:
        source: an SVG document with ``svg.fonttype: none``.
        alt: what a screen reader says instead.
        prefix: makes the ids inside unique on the page.
    """
    svg = ElementTree.fromstring(source)
    drop_head(svg)
    make_ids_unique(svg, prefix)
    use_palette(svg)
    width = float(svg.get("viewBox").split()[2])
    svg.attrib.pop("height", None)
    svg.attrib.pop("width", None)
    svg.set("role", "img")
    svg.set("aria-label", alt)
    # Text that Matplotlib draws in its default black carries no colour of its own.
    svg.set("style", f"width: {width:.0f}pt; min-width: {smallest_width(svg, width):.0f}px; fill: var(--bn-ink)")
    markup = ElementTree.tostring(svg, encoding="unicode")
    return f'<div class="bn-figure">{markup}</div>'


def drop_head(svg: ElementTree.Element) -> None:
    """Remove metadata and the style element, which would apply to the whole page."""
    for parent in list(svg.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    svg.set("stroke-linejoin", "round")
    svg.set("stroke-linecap", "butt")


def make_ids_unique(svg: ElementTree.Element, prefix: str) -> None:
    """Prefix every id and every reference to one."""
    for element in svg.iter():
        link = element.attrib.pop(f"{{{XLINK}}}href", None)
        if link is not None:
            element.set("href", link)
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, prefix + value)
            elif name == "href" and value.startswith("#"):
                element.set(name, f"#{prefix}{value[1:]}")
            else:
                element.set(name, value.replace("url(#", f"url(#{prefix}"))


def use_palette(svg: ElementTree.Element) -> None:
    """Write every colour of the palette as its CSS variable."""
    names = names_by_colour()
    pattern = re.compile("|".join(map(re.escape, names)), re.IGNORECASE)
    for element in svg.iter():
        style = element.get("style")
        if style:
            element.set(
                "style",
                pattern.sub(lambda match: f"var(--bn-{names[match[0].lower()]}, {match[0]})", style),
            )


def names_by_colour() -> dict[str, str]:
    """Each light colour's name in the palette.

    Raises:
        FigureError: two names share a light colour, so a figure's colour has no one name.
    """
    names: dict[str, str] = {}
    for name, colour in PALETTE.items():
        other = names.setdefault(colour.light.lower(), name)
        if other != name:
            raise FigureError(f"{name} and {other} have the same light colour {colour.light}")
    return names


def smallest_width(svg: ElementTree.Element, width: float) -> float:
    """The width in CSS pixels at which the figure's smallest text is just readable."""
    sizes = [
        float(match[1]) for text in svg.iter(f"{{{SVG}}}text") if (match := FONT_SIZE.search(text.get("style", "")))
    ]
    return width * SMALLEST_TEXT / min(sizes) if sizes else 0
