"""Repairs of the theme that a template in ``book/_templates`` cannot make."""

from collections.abc import Iterator

from docutils import nodes
from myst_nb import sphinx_ as myst_nb
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator


def setup(app: Sphinx) -> dict:
    """Mend the roles of the bibliography and of hidden code, and write the front door."""
    app.add_node(nodes.citation, override=True, html=(visit_citation, depart_citation))
    app.add_node(
        myst_nb.HideCodeCellNode,
        override=True,
        html=(visit_hidden_code, myst_nb.depart_HideCellInput),
    )
    app.connect("html-collect-pages", front_door)
    app.connect("html-page-context", name_toggles, priority=900)  # after the theme made its functions
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def front_door(app: Sphinx) -> Iterator[tuple[str, dict, str]]:
    """``index.html`` beside ``book/``: the redirect of Jupyter Book has no title and no text."""
    yield "index", {}, "front-door.html"


def name_toggles(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    """Name the arrows that unfold the contents of a chapter; to the theme they are decoration."""
    generate = context["generate_toctree_html"]

    def with_names(*args: object, **kwargs: object) -> object:
        contents = generate(*args, **kwargs)
        for summary in contents.select("li > details > summary"):
            summary["aria-label"] = f"Pages that belong to {summary.find_parent('li').a.text}"
        return contents

    context["generate_toctree_html"] = with_names


def visit_citation(translator: HTML5Translator, node: nodes.citation) -> None:
    """Open an entry, and the list before the first one.

    docutils gives entries a role that is deprecated and not allowed inside a list.
    """
    if not is_citation(node.previous_sibling()):
        translator.body.append('<div role="list" class="citation-list">\n')
    translator.body.append(translator.starttag(node, "div", CLASS="citation", ROLE="listitem"))


def depart_citation(translator: HTML5Translator, node: nodes.citation) -> None:
    """Close an entry, and the list after the last one."""
    translator.body.append("</div>\n")
    if not is_citation(node.next_node(descend=False, siblings=True)):
        translator.body.append("</div>\n")


def is_citation(node: nodes.Node | None) -> bool:
    """Whether a neighbour belongs to the same list."""
    return isinstance(node, nodes.citation)


def visit_hidden_code(translator: HTML5Translator, node: myst_nb.HideCodeCellNode) -> None:
    """Open a folded code cell as myst-nb does, but named by the text that it shows."""
    myst_nb.visit_HideCellInput(translator, node)
    name = ' aria-label="Toggle hidden content"'
    if name not in translator.body[-4]:
        raise ExtensionError("myst-nb writes folded cells differently now; adapt theme_patches")
    translator.body[-4] = translator.body[-4].replace(name, "")
