"""Matplotlib figures as SVG markup that belongs to the page: it takes its colours, its font and its width.

Figures are drawn with the light value of each colour in ``plots.PALETTE``. In the markup each such
colour is a CSS variable with that value as its fallback, so the page can give it another one in the dark.
"""

import re
from io import BytesIO
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.figure import Figure

from bncourse.plots import PALETTE

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
SMALLEST_TEXT = 9  # CSS pixels; a figure scrolls sideways rather than shrink below
FONT_SIZE = re.compile(r"font(?:-size)?:[^;]*?([\d.]+)px")
LONG_FRACTION = re.compile(r"-?\d+\.\d{3,}")
DARK = 'html[data-theme="dark"], body[data-jp-theme-light="false"]'  # the site's pages, JupyterLab

ElementTree.register_namespace("", SVG)


def palette_css() -> str:
    """The palette's custom properties: light, as a page is without script, and dark."""
    light, dark = ("".join(f"  --bn-{name}: {colour[i]};\n" for name, colour in PALETTE.items()) for i in (0, 1))
    return f":root {{\n{light}}}\n\n{DARK} {{\n{dark}}}\n"


def source(figure: Figure) -> str:
    """A Matplotlib figure as an SVG document, the same for the same figure."""
    file = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "bncourse"}):  # text stays text, ids stay the same
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue().decode()


def themed_svg(source: str, alt: str, prefix: str) -> str:
    """Markup that shows Matplotlib's ``source`` in the page's colours.

    Args:
        source: an SVG document with ``svg.fonttype: none``.
        alt: what a screen reader says instead.
        prefix: makes the ids inside unique on the page.
    """
    svg = ElementTree.fromstring(source)
    _drop_head(svg)
    _shorten_numbers(svg)
    _make_ids_unique(svg, prefix)
    _use_palette(svg)
    width = float(svg.get("viewBox").split()[2])
    svg.attrib.pop("height", None)
    svg.attrib.pop("width", None)
    svg.set("role", "img")
    svg.set("aria-label", alt)
    # Text that Matplotlib draws in its default black carries no colour of its own.
    svg.set("style", f"width: {width:.0f}pt; min-width: {_smallest_width(svg, width):.0f}px; fill: var(--bn-ink)")
    return f'<div class="bn-figure">{ElementTree.tostring(svg, encoding="unicode")}</div>'


def names_by_colour() -> dict[str, str]:
    """Each light colour's name in the palette.

    Raises:
        ValueError: two names share a light colour, so a figure's colour has no one name.
    """
    names: dict[str, str] = {}
    for name, colour in PALETTE.items():
        other = names.setdefault(colour.light.lower(), name)
        if other != name:
            raise ValueError(f"{name} and {other} have the same light colour {colour.light}; change one")
    return names


def _drop_head(svg: ElementTree.Element) -> None:
    """Remove metadata and the style element, which would apply to the whole page."""
    for parent in list(svg.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    svg.set("stroke-linejoin", "round")
    svg.set("stroke-linecap", "butt")


def _shorten_numbers(svg: ElementTree.Element) -> None:
    """Round coordinates to hundredths of a point, and write each path in one line."""
    for element in svg.iter():
        for name in {"d", "x", "y", "width", "height", "transform"} & set(element.attrib):
            if "matrix(" in element.get(name):  # its small factors multiply large numbers
                continue
            value = " ".join(element.get(name).split())
            element.set(name, LONG_FRACTION.sub(lambda match: f"{float(match[0]):.2f}", value))


def _make_ids_unique(svg: ElementTree.Element, prefix: str) -> None:
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


def _use_palette(svg: ElementTree.Element) -> None:
    """Write every colour of the palette as its CSS variable."""
    names = names_by_colour()
    pattern = re.compile("|".join(map(re.escape, names)), re.IGNORECASE)
    for element in svg.iter():
        style = element.get("style")
        if style:
            element.set("style", pattern.sub(lambda match: f"var(--bn-{names[match[0].lower()]}, {match[0]})", style))


def _smallest_width(svg: ElementTree.Element, width: float) -> float:
    """The width in CSS pixels at which the figure's smallest text is just readable."""
    sizes = [
        float(match[1]) for text in svg.iter(f"{{{SVG}}}text") if (match := FONT_SIZE.search(text.get("style", "")))
    ]
    return width * SMALLEST_TEXT / min(sizes) if sizes else 0
