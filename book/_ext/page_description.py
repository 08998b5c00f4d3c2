"""What search engines and link previews show: a description and Open Graph tags.

A page gives its description as ``myst: {html_meta: {description: ...}}``, in the front
matter of a text or in the metadata of a notebook.
"""

from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

SHARING_IMAGE = "_static/share.png"
LOGGER = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict:
    """Add the tags to every page."""
    app.connect("html-page-context", add_tags)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_tags(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Append Open Graph tags to the page's head; warn where the description is missing."""
    if doctree is None:  # the search page and other pages that Sphinx makes itself
        return
    description = described(doctree)
    if not description:
        LOGGER.warning("no description: add myst.html_meta.description", location=page)
    properties = {
        "og:type": "website" if page == app.config.root_doc else "article",
        "og:title": app.env.titles[page].astext(),
        "og:site_name": app.config.html_title,
        "og:description": description,
        **absolute_addresses(app, page),
    }
    context["metatags"] += "\n" + "\n".join(
        f'<meta property="{name}" content="{escape(value)}" />' for name, value in properties.items()
    )


def described(doctree: nodes.document) -> str:
    """The text of the page's ``<meta name="description">``, or nothing."""
    return next(
        (node["content"] for node in doctree.findall(nodes.meta) if node.get("name") == "description"),
        "",
    )


def absolute_addresses(app: Sphinx, page: str) -> dict[str, str]:
    """The tags that need to know where the site is published."""
    base = app.config.html_baseurl
    if not base:
        return {}
    address = app.builder.get_target_uri(page)
    return {"og:url": base + address, "og:image": base + SHARING_IMAGE}
