"""Notebook figures as part of the page: they follow its theme, its width and its reader."""

from itertools import count
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from bncourse.svg import palette_css, themed_svg

LOGGER = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict:
    """Write the palette's stylesheet and inline every figure."""
    # The value serves only to rewrite all pages when a colour changes.
    app.add_config_value("figure_palette", palette_css(), "html")
    app.add_post_transform(InlineFigures)
    app.connect("builder-inited", write_palette)
    app.connect("env-updated", drop_widget_state)
    app.add_css_file("palette.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_palette(app: Sphinx) -> None:
    """Put ``palette.css`` beside the other stylesheets."""
    if app.builder.format == "html":
        target = Path(app.outdir, "_static", "palette.css")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(palette_css(), encoding="utf-8")


def drop_widget_state(app: Sphinx, env: BuildEnvironment) -> None:
    """Figures with sliders carry their own HTML; nothing on a page reads the state of their widgets."""
    for metadata in getattr(env, "nb_metadata", {}).values():
        metadata.get("js_files", {}).pop("ipywidgets_state", None)


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
