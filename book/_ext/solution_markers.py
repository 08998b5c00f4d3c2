"""Pages do not show the comments that mark where a solution begins and ends."""

import re

from docutils import nodes
from sphinx.application import Sphinx

MARKER = re.compile(r"^ *### (BEGIN|END) SOLUTION\n?", re.MULTILINE)


def setup(app: Sphinx) -> dict:
    """Take the markers out of every code block."""
    app.connect("doctree-read", remove_markers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def remove_markers(app: Sphinx, doctree: nodes.document) -> None:
    """``exercise_notebooks`` needs them in the notebooks, readers do not."""
    for block in doctree.findall(nodes.literal_block):
        if MARKER.search(block.astext()):
            text = MARKER.sub("", block.astext()).rstrip("\n")
            block.rawsource = text  # Sphinx highlights a block whose source is its text
            block.children = [nodes.Text(text)]
